#!/bin/sh
# SPDX-License-Identifier: MIT
# Logs of Megatron-LM, DeepSpeed and torchtitan: found by content, read as they say, and what they do not tell is said and unknown.
. "$(dirname "$0")/lib/tap.sh"

logs=$top/t/data/foreign

# figure NAME LOG [OPTION…]: its value from the csv format; what is said is in $T/said
figure() {
    name=$1 file=$2
    shift 2
    moe-stat --format csv "$@" "$file" 2>"$T/said" | awk -F, -v name="$name" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i }
        NR == 2 { print at ? $at : "no such column" }'
}

# Each by hand from the samples: tokens are sequences times their length, times those that are written (or, of torchtitan, tokens over the ranks' rate).
while read -r file name want; do
    case $want in
    -) is "$(figure "$name" "$logs/$file.log")" '' "$file: $name is unknown" ;;
    *) near "$(figure "$name" "$logs/$file.log")" "$want" 1e-9 "$file: $name is $want" ;;
    esac
done <<'END'
megatron-core steps 6
megatron-core last_step 60
megatron-core tokens_per_s 32659.13621262458
megatron-core step_s_p50 0.445
megatron-core loss_first 7.5
megatron-core loss_last 5
megatron-core eval_loss 6.1
megatron-core aux_loss 1.02
megatron-core z_loss 0.01
megatron-core grad_norm 2.5
megatron-core peak_bytes 2147483648
megatron-core saves 1
megatron-core mfu -
megatron-core dropped -
megatron-core forward_share -
megatron-2021 steps 4
megatron-2021 abandoned_steps 3
megatron-2021 restarts 1
megatron-2021 tokens_per_s 16384
megatron-2021 loss_first -
megatron-2021 loss_last 10.1
megatron-2021 evals 0
megatron-2021 saves 1
megatron-2021 flops_per_token -
deepspeed-engine steps 4
deepspeed-engine step_s 1.75
deepspeed-engine sequences_per_s 36.57142857142857
deepspeed-engine tokens_per_s -
deepspeed-engine loss_last -
deepspeed-engine peak_bytes 11005853696
deepspeed-engine saves 1
deepspeed-pipeline loss_last 4.5
deepspeed-pipeline step_s 0.5
deepspeed-pipeline sequences_per_s 256
deepspeed-pipeline peak_bytes -
torchtitan-moe steps 5
torchtitan-moe tokens_per_s 14246.95652173913
torchtitan-moe step_s 9.2
torchtitan-moe flops_per_token 2e10
torchtitan-moe mfu 0.036013540246054424
torchtitan-moe loss_last 7
torchtitan-moe eval_loss 8.5
torchtitan-moe save_s 12.5
torchtitan-moe peak_bytes 69256347648
torchtitan-2025 first_step 101
torchtitan-2025 tokens_per_s 19660.8
torchtitan-2025 mfu 0.12288
torchtitan-2025 grad_norm -
megatron-deepspeed steps 4
megatron-deepspeed tokens_per_s 32768
megatron-deepspeed step_s 2
megatron-deepspeed loss_last 8
megatron-deepspeed grad_norm 1.25
megatron-deepspeed forward_share 0.2
megatron-deepspeed backward_share 0.65
megatron-deepspeed dp_share 0.05
megatron-deepspeed flops_per_token 8331298828.125
megatron-deepspeed peak_bytes 17716740096
megatron-timers-minmax forward_share -
megatron-timers-minmax optimizer_share 0.009523809523809525
megatron-timers-minmax save_s 1.2401
megatron-timers-max optimizer_share -
megatron-timers-all forward_share 0.1988095238095238
megatron-timers-all pp_share 0.015238095238095238
megatron-timers-all dp_share 0.01904761904761905
megatron-timers-all straggler_share 0.05833333333333333
megatron-timers-2021 forward_share 0.21904761904761905
megatron-timers-2021 backward_share 0.38095238095238093
megatron-timers-2021 dp_share 0.03904761904761905
torchtitan-2024 loss_last 8
torchtitan-2024 tokens_per_s -
torchtitan-2024 mfu -
END
near "$(figure flops_per_token "$logs/megatron-core.log")" 4.00390625e10 1e7 'megatron-core: FLOP a token, from TFLOP/s a GPU'

# ---- what is said ----
said() { moe-stat "$logs/$1.log" 2>&1 >/dev/null; }
like "$(said megatron-core)" 'a log of Megatron-LM; it does not tell: the peak of a device, phases' 'Megatron-LM, found by content'
like "$(said deepspeed-engine)" 'a log of DeepSpeed; it does not tell: how long a sequence is, tokens, losses, ' 'DeepSpeed'
like "$(said torchtitan-2024)" 'a log of torchtitan; it does not tell: how long a sequence is, how many sequences a step has, tokens, the time of a step, ' 'torchtitan'
like "$(moe-stat "$logs/torchtitan-moe.log" 2>/dev/null)" '^deepseek_v3 16B, torchtitan, 8 ranks, 15\.7B parameters' 'the report says whose log it is'
unlike "$(moe-stat "$logs/megatron-2021.log" 2>/dev/null)" 'nan' 'and writes - for what is not known'
is "$(moe-stat "$top/t/data/steplog-small.jsonl" 2>&1 | grep -c 'a log of')" 0 'our own is none of them'

# ---- Megatron's timers ----
like "$(said megatron-timers-minmax)" 'means over ranks of phases' 'the least and largest of ranks tell no mean'
like "$(said megatron-timers-all)" "it does not tell: the peak of a device, experts' loads" 'all ranks do'
out=$(moe-stat -q "$logs/megatron-timers-minmax.log")
like "$out" '^forward +0\.1150-0\.1350 +21\.9-25\.7 %$' 'so the report has what it lies between'
like "$out" '^pp +<= 0\.0120 +<= 2\.3 %$' 'and at most, of timers that not all ranks use'
like "$out" '^dp +0\.0200-0\.0320 ' 'timers of one phase add up'
like "$(moe-stat -q "$logs/megatron-timers-max.log")" '^backward +<= 0\.3350 +<= 63\.8 %$' 'forward-backward bounds both'
like "$(moe-stat -q "$logs/megatron-timers-all.log")" '^forward +0\.1044 +19\.9 % +3 in +100 % +\+29\.3 %$' 'who was the slowest, of all ranks'
unlike "$(moe-stat -q "$logs/megatron-timers-all.log")" '^backward.*in' 'and nobody where all took the same time'
if need jq command -v jq; then
    is "$(moe-stat -q -f json "$logs/megatron-timers-minmax.log" | jq -c '[.detail.phase_bounds[] | select(.phase == "forward" or .phase == "pp") | .least_share, .most_share | . * 2100 | round]')" \
        '[460,540,0,48]' 'JSON has the bounds'
fi

# ---- as they grow ----
for f in "$logs"/*.log; do
    name=$(basename "$f" .log)
    last=$(figure last_step "$f")
    cat "$f" | moe-stat --follow --every 0 - 2>"$T/said" >"$T/told"
    like "$(tail -1 "$T/told")" "^step $last( |\$)" "--follow: $name comes to its last step"
    is "$(grep -c 'stdin: a log of' "$T/said")" 1 'and says once whose log it is'
done
perl -e '$| = 1; while (<>) { print; select(undef, undef, undef, 0.7) if /max allocated|forward-compute:$/ }' "$logs/megatron-timers-all.log" | moe-stat --follow --every 0 -f prom -o "$T/slow.prom" - 2>/dev/null
for f in steps abandoned_steps restarts loss_last forward_share; do
    near "$(sed -n "s/^moe_$f{.*} //p" "$T/slow.prom")" "$(figure $f "$logs/megatron-timers-all.log" | grep . || echo 0)" 1e-9 "lines of a step that come late count: $f"
done
head -16 "$logs/megatron-core.log" >"$T/live.log"
moe-stat --follow --every 0.1 -f prom -o "$T/live.prom" "$T/live.log" 2>/dev/null &
pid=$!
wait_for() {
    for i in $(seq 100); do
        ! grep -q "^moe_last_step{.*} $1\$" "$T/live.prom" 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}
wait_for 30
ok $? "a step is told of though the next one's line has not come"
printf '%s' "$(sed -n 17p "$logs/megatron-core.log" | cut -c1-60)" >>"$T/live.log"
mv "$T/live.log" "$T/live.log.1"
sed -n '17,18p' "$logs/megatron-core.log" | tail -c +61 >>"$T/live.log.1"
sed -n '19,$p' "$logs/megatron-core.log" >"$T/live.log"
wait_for 60
ok $? 'a log that is rotated goes on'
kill $pid
wait $pid
is "$(sed -n 's/^moe_steps{.*} //p; s/^moe_restarts{.*} //p' "$T/live.prom" | tr '\n' ' ')" '6 0 ' 'and what was last written before it moved is read'

# ---- a model's FLOPs ----
near "$(figure flops_per_token "$logs/deepspeed-engine.log" --model moe-tiny --seq 512)" "$(moe-partition -m moe-tiny -n 1 --seq 512 2>/dev/null | tr ' ' '\n' | sed -n 's/^flops_per_token=//p')" \
    1e-12 'a model has the FLOPs a token'
near "$(figure rank_flops_per_s "$logs/megatron-timers-max.log")" 1.5628571428571e14 1e13 "what a rank does a second, of the log's own"
run moe-stat --model moe-tiny "$logs/deepspeed-engine.log"
like "$status $(printf '%s' "$err" | tail -1)" '^0 .*does not tell how long a sequence is, on which FLOPs depend: --seq does' 'without the length of a sequence it does not'
run moe-stat --model no-such-model "$logs/deepspeed-engine.log"
is "$status" 2 'a model that is not there exits 2'
run moe-stat --model moe-tiny --plan x "$logs/deepspeed-engine.log"
is "$status" 2 '--model and --plan exit 2'

# ---- a plan tells what the log does not ----
moe-partition -m moe-tiny -c h100 -n 8 --seq 512 --global-batch 64 --precision bf16 -o "$T/plan" 2>/dev/null
ok $? 'a plan'
near "$(figure tokens_per_s "$logs/deepspeed-engine.log" --check 'steps > 0' --plan "$T/plan" 2>/dev/null; moe-stat --plan "$T/plan" -f json "$logs/deepspeed-engine.log" 2>/dev/null |
    sed -n 's/.*"measured_as": "tokens_per_s".*"measured": \([0-9.]*\).*/\1/p')" 18724.571428571428 1e-9 'the length of a sequence'
run moe-stat --plan "$T/plan" --check 'mfu > 0' --check 'mfu < 0.01' "$logs/deepspeed-engine.log"
is "$status" 0 'FLOP a token, and the peak' || diag "$out $err"
moe-partition -m moe-tiny -c h100 -n 8 --seq 512 --global-batch 64 --precision fp8 -o "$T/fp8" 2>/dev/null
mfu() { moe-stat --plan "$1" -f json "$logs/deepspeed-engine.log" 2>/dev/null | sed -n 's/.*"figure": "mfu".*"measured": \([0-9.e-]*\),.*/\1/p'; }
near "$(mfu "$T/fp8")" "$(awk -v mfu="$(mfu "$T/plan")" -v f="$(tr ' ' '\n' <"$T/plan" | sed -n 's/^flops_\(bf16\|fp8\)=//p' | tr '\n' ' ')" \
    'BEGIN { split(f, at, " "); printf "%.17g", mfu * at[1] / at[2] }')" 1e-9 'of the precision that the plan has'

# ---- logs that are not as they should be ----
want=$(moe-stat -f csv "$logs/megatron-core.log" 2>/dev/null)
same() {
    run moe-stat -f csv "$1"
    is "$status" 0 "$2"
    is "$(printf '%s\n' "$out")" "$want" 'comes to the same'
}
awk '{ printf "%d: \033[32m%s\033[0m\r\n", NR % 8, $0 } NR % 3 == 0 { print "NCCL version 2.18 | lm loss: nothing | iteration" }' "$logs/megatron-core.log" >"$T/labels.log"
same "$T/labels.log" "ranks' labels, colours, and other output in between"
{
    printf 'a\0b\0\n\377\376\n'
    perl -e 'print "x" x 12000000, "\n"'
    cat "$logs/megatron-core.log"
    printf ' iteration       70/      60 | consumed samples:  1120 | elapsed ti'
} >"$T/damaged.log"
same "$T/damaged.log" 'NUL bytes, a long line, and a last one that was cut'
is "$(moe-stat -f csv - <"$logs/megatron-core.log" 2>/dev/null)" "$want" 'from stdin'
cat "$logs/megatron-core.log" "$logs/megatron-core.log" >"$T/twice.log"
is "$(figure steps "$T/twice.log") $(figure abandoned_steps "$T/twice.log")" '6 6' 'steps that were repeated count once'
{
    cat "$logs/megatron-core.log"
    grep -E 'iteration +(30|40)/' "$logs/megatron-core.log"
} >"$T/back.log"
is "$(figure steps "$T/back.log") $(figure abandoned_steps "$T/back.log") $(figure restarts "$T/back.log")" '4 4 1' 'steps that go back begin anew: what was beyond them is abandoned'
sed 's/lm loss: 7.000000E+00/lm loss: nan/; s/grad norm: 2.500/grad norm: inf/' "$logs/megatron-core.log" >"$T/nan.log"
is "$(figure nan_steps "$T/nan.log")" 6 'losses and norms that are no numbers'
is "$(figure loss_last "$T/nan.log")" 5 'leave the others'
sed -E 's/elapsed time per iteration \(ms\): [0-9.]+/elapsed time per iteration (ms): 1e300/; s/global batch size: +[0-9]+/global batch size: 1e18/' \
    "$logs/megatron-core.log" >"$T/absurd.log"
is "$(figure tokens_per_s "$T/absurd.log")" '' 'absurd numbers are not believed'
printf 'epoch 1 loss 0.5\nepoch 2 loss 0.4\n' >"$T/unknown.log"
run moe-stat "$T/unknown.log"
is "$status" 2 'a log of nobody known exits 2'
run moe-stat -q --plot "$T/x.svg" --panels experts "$logs/megatron-core.log"
like "$status $err" "^2 .*nothing to draw the panel 'experts'" 'a picture of what it does not tell exits 2'
done_testing
