#!/bin/sh
# SPDX-License-Identifier: MIT
# moe-stat: figures against values worked out by hand, damaged logs, checks, formats, plots.
. "$(dirname "$0")/lib/tap.sh"

log=$top/t/data/steplog-small.jsonl

# figure NAME LOG [OPTION…]: its value from the csv format
figure() {
    name=$1 file=$2
    shift 2
    moe-stat --format csv "$@" "$file" | awk -F, -v name="$name" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i }
        NR == 2 { print at ? $at : "no such column" }'
}

# The log: six steps, rates 500 1000 1000 2000 1400 1200, 6000 tokens in 6 s; two ranks of 1 GFLOP/s, 1 MFLOP a token.
# Loads over the log 100 200 300 400 (mean 250: std sqrt(0.2), max/mean 1.6) and 4 x 250 (0 and 1).
while read -r name want; do
    near "$(figure "$name" "$log")" "$want" 1e-9 "$name is $want"
done <<'END'
steps 6
first_step 1
last_step 6
steps_counted 6
tokens 6000
time_s 6
tokens_per_s 1000
tokens_per_s_p50 1100
tokens_per_s_p95 1850
tokens_per_s_p99 1970
step_s 1
step_s_p50 1
step_s_p95 1.75
mfu 0.5
loss_first 6
loss_last 4.5
eval_loss 4.75
aux_loss 0.01
grad_norm 1.5
forward_share 0.25
backward_share 0.5
dispatch_share 0.05
combine_share 0.05
tp_share 0
pp_share 0.05
dp_share 0.05
optimizer_share 0.025
idle_share 0.025
expert_load_std 0.2236067977499790
expert_load_max_over_mean 1.3
step_load_std 0.375
step_load_max_over_mean 1.75
dropped 4
overflow 2
peak_bytes 1000006
evals 2
saves 1
faults 0
restarts 0
abandoned_steps 0
skipped_lines 0
END
is "$(figure hfu "$log")" '' 'hfu is unknown'
is "$(figure z_loss "$log")" '' 'z_loss is null in the log and unknown here'

# Without the first step: 5000 tokens in 4 s, rates 1000 1000 1200 1400 2000.
near "$(figure tokens_per_s "$log" --skip 1)" 1250 1e-9 '--skip leaves steps out of throughput'
near "$(figure tokens_per_s_p50 "$log" --skip 1)" 1200 1e-9 'and of percentiles'
near "$(figure tokens_per_s_p95 "$log" --skip 1)" 1880 1e-9 'which interpolate'
near "$(figure mfu "$log" --skip 1)" 0.625 1e-9 'and of MFU'
is "$(figure steps_counted "$log" --skip 1)" 5 'five steps count'
is "$(figure loss_first "$log" --skip 1)" 6 'but not out of the loss'
near "$(figure expert_load_max_over_mean "$log" --skip 1)" 1.3 1e-9 'nor out of loads'
run moe-stat --skip 6 "$log"
is "$status" 2 '--skip of all steps exits 2'

# ---- text ----
run moe-stat "$log"
is "$status" 0 'text report exits 0'
is "$err" '' 'and is silent on stderr'
like "$out" '^toy, 2 ranks, cpu, f32, 2.5M parameters' 'header'
like "$out" '^loss +6\.0000 -> 4\.5000' 'loss, first and last'
like "$out" '^tokens/s +1000 +p50 1100 +p95 1850' 'speed'
like "$out" '^MFU +50\.00 % +1 MFLOP a token, peak 1 GFLOP/s a rank' 'MFU, with what it is made of'
like "$out" '^backward +0\.5000 +50\.0 %' 'a phase'
like "$out" '^expert load max/mean 1\.300 +std 0\.2236' 'loads'
like "$out" '^ended +all steps done' 'how it ended'
is "$(cat "$log" | moe-stat -)" "$out" 'the log may come from stdin'
[ "$(printf '%s\n' "$out" | wc -l)" -le 32 ]
ok $? 'it fits a screen'

# ---- logs that are not as they should be ----
head -n 4 "$log" >"$T/bad.jsonl"
printf 'not json\n[1,2]\n{"step":9}\n{"kind":"step"}\n{"kind":"step","step":"4"}\n\n{"kind":"later"}\n' >>"$T/bad.jsonl"
sed -n '5,$p' "$log" >>"$T/bad.jsonl"
is "$(figure skipped_lines "$T/bad.jsonl")" 5 'lines that are not a record are counted'
is "$(figure tokens_per_s "$T/bad.jsonl")" 1000 'and change nothing'

head -n 5 "$log" >"$T/half.jsonl"
sed -n 6p "$log" | head -c 100 >>"$T/half.jsonl"
is "$(figure steps "$T/half.jsonl")" 3 'a half-written last line is not a step'
is "$(figure skipped_lines "$T/half.jsonl")" 1 'and is counted'
run moe-stat "$T/half.jsonl"
like "$out" '^ended +no word of an end' 'no end record'

# Stopped after step 4, resumed from 3: what step 4 logged first is void, its loads and drops too.
awk '{ print } /"step":4,"loss"/ && !done++ { exit }' "$log" |
    sed '/"step":4,/{ s/"loss":5.25/"loss":99/; s/\[40,80,120,160\]/[9000,0,0,0]/; s/"dropped":0/"dropped":100/; }' >"$T/first.jsonl"
{
    head -n 1 "$log" | sed 's/"step":0/"step":3/'
    awk '/"step":4,"loss"/ { on = 1 } on' "$log"
} >"$T/second.jsonl"
cat "$T/first.jsonl" "$T/second.jsonl" >"$T/both.jsonl"
grep -q '9000,0,0,0' "$T/both.jsonl" && grep -q '"dropped":100' "$T/both.jsonl"
ok $? 'a log with a repeated step'
moe-stat --format json "$log" |
    sed 's/"\(restarts\|abandoned_steps\)": 0/"\1": 1/; s/"abandoned_s": 0/"abandoned_s": 0.5/; s/"goodput": .*,/"goodput": 0.8421052631578947,/; /"detail"/,$d' >"$T/want"
moe-stat --format json "$T/both.jsonl" | sed '/"detail"/,$d' >"$T/got"
is "$(cat "$T/got")" "$(cat "$T/want")" 'of a repeated step the last record counts'
moe-stat --format json "$T/first.jsonl" "$T/second.jsonl" | sed '/"detail"/,$d' >"$T/got"
is "$(cat "$T/got")" "$(cat "$T/want")" 'also over two logs of one run'

# ---- more than one start ----
# began STEP WORLD [KEYS]: a start record; did SEGMENT FIRST LAST SECONDS: steps of 100 tokens, an evaluation and a save after each
began() { printf '{"kind":"start","model":"x","step":%s,"world":%s,"peak_flops":1e9,"flops_per_token":1e6%s}\n' "$1" "$2" "${3:-}"; }
did() {
    for i in $(seq "$2" "$3"); do
        printf '{"kind":"step","step":%s,"loss":%s.%s,"tokens":100,"time_s":%s,"dropped":1,"expert_load":[[%s,1]]}\n' "$i" "$1" "$i" "$4" "$1"
        printf '{"kind":"eval","step":%s,"loss":%s}\n{"kind":"save","step":%s,"path":"x"}\n' "$i" "$1" "$i"
    done
}
# Back to step 4 of 9, then on to 6: 5 to 9 of the first segment never were.
{
    began 0 8
    did 1 1 9 1
    echo '{"kind":"fault","step":9}'
    began 4 8
    did 2 5 6 1
} >"$T/back.jsonl"
while read -r name want; do
    is "$(figure "$name" "$T/back.jsonl")" "$want" "gone back: $name is $want"
done <<'END'
steps 6
last_step 6
tokens 600
loss_last 2.6
dropped 6
evals 6
eval_loss 2
saves 6
faults 1
restarts 1
abandoned_steps 5
END
is "$(moe-stat --loads "$T/back.jsonl")" '8 6' 'gone back: loads of abandoned steps are not summed'
run moe-stat "$T/back.jsonl"
like "$out" '^abandoned +5: steps' 'the report says how many were abandoned'
like "$out" '^2 +4 +8 +[0-9-]+ +2 +100.*-> ' 'and shows where the run was started again'
like "$out" '^events .* 1 restart$' 'and how often'
head -n 29 "$T/back.jsonl" >"$T/back.first" # all of the first segment
tail -n +30 "$T/back.jsonl" >"$T/back.second"
is "$(moe-stat -f json "$T/back.first" "$T/back.second" | cksum)" "$(moe-stat -f json "$T/back.jsonl" | cksum)" 'two logs are as one'
began 4 8 >>"$T/back.jsonl"
is "$(figure last_step "$T/back.jsonl")" 4 'a start that came to no step has gone back all the same'

# 8 ranks do 100 tokens in 1/16 s, mfu 1600*1e6/8e9 = 0.2; then one rank in 1 s: 0.1. Together 200e6 of 0.5e9 + 1e9.
{
    began 0 8
    did 1 1 1 0.0625
    began 1 1
    did 1 2 2 1
} >"$T/ranks.jsonl"
near "$(figure mfu "$T/ranks.jsonl")" 0.13333333333333333 1e-12 'mfu counts the ranks that each segment had'
run moe-stat "$T/ranks.jsonl"
like "$out" '^1 +0 +8 +[0-9-]+ +1 +1600 +20\.00 %' 'a segment has its own speed'
like "$out" '^2 +1 +1 +[0-9-]+ +1 +100\.0 +10\.00 %' 'and mfu'
sed '3,$s/"peak_flops":1e9/"peak_flops":null/' "$T/ranks.jsonl" >"$T/nopeak.jsonl"
is "$(figure mfu "$T/nopeak.jsonl")" '' 'where one of them does not tell its peak mfu is unknown'

# Run b goes back to step 2 and fails; c goes on from where a was, at 4. What a did up to there counts.
{
    began 0 1 ',"run":"a"'
    did 1 1 4 1
    began 2 1 ',"run":"b","parent":"a"'
    did 2 3 3 1
    began 4 1 ',"run":"c","parent":"a"'
    did 3 5 5 1
} >"$T/tree.jsonl"
is "$(figure steps "$T/tree.jsonl") $(figure abandoned_steps "$T/tree.jsonl") $(figure dropped "$T/tree.jsonl")" '5 1 5' \
    'a segment goes on from the run that it names'
like "$(moe-stat "$T/tree.jsonl")" '^b +2 +1 +[0-9-]+ +0 .* abandoned$' 'the report names the runs, and what was abandoned'

# ---- names that are not UTF-8 ----
printf 's/"model":"toy"/"model":"t\351y"/\n' >"$T/latin1.sed"
LC_ALL=C sed -f "$T/latin1.sed" "$log" >"$T/latin1.jsonl"
is "$(figure mfu "$T/latin1.jsonl") $(figure skipped_lines "$T/latin1.jsonl")" '0.5 0' 'a record with a name that is not UTF-8 is one'
like "$(moe-stat -f json "$T/latin1.jsonl")" "^  \"model\": \"t$(printf '\357\277\275')y\"" 'and the report is UTF-8'

sed '/"kind":"start"/d; s/"expert_load":[^d]*"dropped"/"dropped"/' "$log" >"$T/bare.jsonl"
run moe-stat --format json "$T/bare.jsonl"
like "$out" '"mfu": null' 'without a start record MFU is null'
like "$out" '"expert_load_std": null' 'without expert_load so is its spread'
run moe-stat "$T/bare.jsonl"
like "$out" '^MFU +-' 'and - in text'

printf '{"kind":"start","model":"x"}\n' >"$T/empty.jsonl"
for file in "$T/empty.jsonl" /dev/null "$T/missing.jsonl"; do
    run moe-stat "$file"
    is "$status" 2 "$(basename "$file") exits 2"
    like "$err" "^moe-stat: .*$(basename "$file")" 'and is named'
    is "$out" '' 'and nothing is reported'
done

# ---- formats ----
run moe-stat --format csv "$log"
is "$(printf '%s\n' "$out" | awk -F, '{ print NF }' | uniq | wc -l)" 1 'csv: as many values as names'
is "$(printf '%s\n' "$out" | wc -l)" 2 'csv: two lines'
sed 's/"model":"toy"/"model":"a \\"b\\", c"/' "$log" >"$T/quote.jsonl"
like "$(moe-stat --format csv "$T/quote.jsonl")" '^"a ""b"", c",cpu,' 'csv: quotes'
if need jq command -v jq; then
    is "$(moe-stat --format json "$T/quote.jsonl" | jq -r .model)" 'a "b", c' 'json: quotes'
    is "$(moe-stat --format json "$log" | jq -c '[.world, .steps, .tokens_per_s_p99, .mfu, .hfu]')" '[2,6,1970,0.5,null]' 'json'
    is "$(moe-stat --format json "$log" | jq -r 'del(.detail) | keys_unsorted | .[5:] | join(",")')" \
        "$(moe-stat --format csv "$log" | head -n 1 | cut -d, -f5-)" 'json and csv have the same figures'
fi
run moe-stat --format json -o "$T/out.json" "$log"
is "$out" '' '-o leaves stdout alone'
is "$(cat "$T/out.json")" "$(moe-stat --format json "$log")" '-o writes the file'
run moe-stat -o "$T/no/such/dir" "$log"
is "$status" 2 '-o into a directory that is not there exits 2'

run moe-stat --loads "$log"
is "$out" '100 200 300 400
250 250 250 250' '--loads: a line a layer'
run moe-stat --loads -o "$T/loads" "$T/bare.jsonl"
is "$status" 2 '--loads without loads exits 2'
like "$err" 'bare\.jsonl: the log has no expert_load' 'naming the log'
[ ! -e "$T/loads" ]
ok $? 'and leaves no file'

# ---- checks ----
for claim in 'mfu > 0.4' 'mfu>=0.5' 'mfu <= 50%' 'mfu = 0.5' 'tokens_per_s < 1000.5' 'tokens_per_s ~ 1090' 'loss_last = 4.5' \
    'expert_load_std = 0.224' 'expert_load_std = 22.4%' 'dropped = 4' 'tokens_per_s_p95 = 1.9e3'; do
    run moe-stat --check "$claim" "$log"
    is "$status" 0 "holds: $claim"
    like "$out" '^ok ' 'and says so'
done
for claim in 'mfu > 0.5' 'mfu < 0.5' 'mfu = 0.51' 'mfu >= 51%' 'tokens_per_s ~ 1200' 'expert_load_std = 0.22362' 'hfu > 0' 'hfu < 1' \
    'tokens_per_s_p95 = 1.7e3'; do
    run moe-stat --check "$claim" "$log"
    is "$status" 1 "does not hold: $claim"
    like "$out" '^FAIL ' 'and says so'
done
began 0 2 >"$T/flops"
echo '{"kind":"step","step":1,"loss":1,"tokens":1000,"time_s":2}' >>"$T/flops"
run moe-stat --check 'flops_per_token = 1 MFLOP' --check 'rank_flops_per_s = 250 MFLOP/s' --check 'rank_flops_per_s < 1 TFLOP/s' "$T/flops"
is "$status" 0 'operations, and those a second, have their units'
run moe-stat --check 'flops_per_token < 1 MFLOP/s' "$T/flops"
is "$status" 2 'and not the other ones'
run moe-stat --check 'mfu > 0.4' --check 'dropped = 0' --check 'steps = 6' "$log"
is "$status" 1 'one of three does not hold'
is "$(printf '%s\n' "$out" | cut -c1-4 | tr -d '\n')" 'ok  FAILok  ' 'a verdict each'
run moe-stat --skip 1 --check 'mfu > 0.6' "$log"
is "$status" 0 '--check heeds --skip'
run moe-stat --check 'speed > 1' "$log"
is "$status" 2 'an unknown figure exits 2'
like "$err" "no figure 'speed'.* tokens_per_s .* mfu .* skipped_lines" 'and lists those there are'
for claim in '' 'mfu' 'mfu >' '> 1' 'mfu > x' 'mfu > 0.5 GB' 'mfu >> 1' 'mfu == 1' 'mfu > nan' 'mfu < inf' 'mfu < 0x10'; do
    run moe-stat --check "$claim" "$log"
    is "$status" 2 "not a check: '$claim'"
done

# ---- plots ----
if need gnuplot command -v gnuplot; then
    run moe-stat --plot "$T/plot.png" "$log"
    is "$status" 0 '--plot exits 0'
    is "$(head -c 4 "$T/plot.png" | tail -c 3)" PNG 'and draws a PNG'
    run moe-stat --plot "$T/a b'c.svg" "$log"
    like "$(cat "$T/a b'c.svg")" '</svg>' 'an SVG, whatever its name'
    run moe-stat --plot -.svg "$log"
    like "$out" '</svg>' 'an SVG on stdout'
    like "$out" 'tokens/s' 'with its axes named'
    run moe-stat --plot "$T/bare.svg" "$T/bare.jsonl"
    is "$status" 0 'a log without a start record'
fi
run moe-stat --plot "$T/plot.pdf" "$log"
is "$status" 2 '--plot of another format exits 2'
mkdir "$T/bin"
ln -s "$(command -v moe-stat)" "$T/bin/moe-stat"
run env PATH="$T/bin" moe-stat --plot "$T/none.png" "$log"
is "$status" 3 'without gnuplot it exits 3'
like "$err" 'gnuplot is not installed \(apt install gnuplot-nox\)' 'and says what to install'
printf '#!/bin/sh\nhead -c 10\nexit 1\n' >"$T/bin/gnuplot"
chmod +x "$T/bin/gnuplot"
run env PATH="$T/bin:$PATH" moe-stat --plot "$T/none.png" "$log"
is "$status" 3 'a gnuplot that fails: exit 3'
is "$(find "$T" -name 'none.png*')" '' 'no file is left behind'

# ---- command line ----
run moe-stat
is "$status" 2 'no log exits 2'
run moe-stat --format xml "$log"
is "$status" 2 'an unknown format exits 2'
run moe-stat --format json --loads "$log"
is "$status" 2 'two kinds of output exit 2'
if [ -w /dev/full ]; then
    moe-stat "$log" >/dev/full 2>"$T/.err"
    is $? 3 'a full disk exits 3'
fi
done_testing
