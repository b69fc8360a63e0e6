#!/bin/bash
# SPDX-License-Identifier: MIT
# moe-stat on logs of many kinds: long ones, damaged ones, ones that grow; runs compared with each other and with a plan; figures against numpy's.
. "$(dirname "$0")/lib/tap.sh"
py=${MOEKIT_PYTHON:-$top/.build/oracles/bin/python}

# figure NAME LOG [OPTION…]: its value from the csv format
figure() {
    name=$1 file=$2
    shift 2
    moe-stat -q --format csv "$@" "$file" | awk -F, -v name="$name" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i }
        NR == 2 { print at ? $at : "no such column" }'
}

# made FIRST LAST SEED [MEAN [START]]: a start record (at step START) and steps whose times are noise around MEAN seconds, each like the one before
# it; 4 layers of 64 experts
made() {
    awk -v first="$1" -v last="$2" -v seed="$3" -v mean="${4:-0.5}" -v start="${5:-0}" 'BEGIN {
        srand(seed)
        print "{\"kind\":\"start\",\"model\":\"made\",\"world\":8,\"axes\":{\"dp\":4,\"pp\":2,\"vpp\":2},\"seq\":128,\"micro_batch\":1,\"global_batch\":16," \
            "\"top_k\":2,\"experts\":64,\"layers\":4,\"flops_per_token\":1234567,\"peak_flops\":1e9,\"recompute\":\"full\",\"schedule\":\"interleaved\",\"device_bytes\":8e9,\"step\":" start "}"
        split("forward backward dispatch combine tp pp dp optimizer idle", phase, " ")
        for (i = first; i <= last; i++) {
            x = 0.7 * x + 0.02 * (rand() + rand() + rand() - 1.5)
            t = mean * exp(x)
            printf "{\"kind\":\"step\",\"step\":%d,\"loss\":%.17g,\"aux_loss\":%.17g,\"z_loss\":null,\"grad_norm\":%.17g,\"lr\":0.001,\"tokens\":2048,\"time_s\":%.17g,\"phases\":{",
                i, 2 + 5 / i + rand() / 10, rand() / 100, (rand() < 0.02 ? 1 + 5 * rand() : 1) + rand() / 2, t
            for (p = 1; p <= 9; p++) {
                m = t * (p == 9 ? 0.2 : 0.1)
                printf("%s\"%s\":{\"mean\":%.17g,\"max\":%.17g,\"rank\":%d}", (p > 1 ? "," : ""), phase[p], m, m * (1 + rand() / 50), (rand() < 0.6 ? 5 : 8 * rand()))
            }
            printf "},\"comm\":{\"ep\":{\"busy\":%.17g,\"exposed\":%.17g},\"dp\":{\"busy\":%.17g,\"exposed\":%.17g}},\"dropped\":%d,\"overflow\":0,", t * 0.2, t * 0.15, t * 0.1, t * 0.1 * rand(), 3 * rand()
            printf "\"memory_bytes\":[{\"stage\":0,\"max\":6000000000,\"rank\":1},{\"stage\":1,\"max\":%.0f,\"rank\":6}],\"peak_bytes\":6000000000,", 5e9 + i
            printf "\"load\":{\"max_over_mean\":%.17g,\"min_over_mean\":0.1,\"std\":%.17g}", 1 + rand(), rand()
            if (i % 2) {
                printf ",\"expert_load\":["
                for (l = 0; l < 4; l++)
                    for (e = 0; e < 64; e++)
                        printf("%s%d%s", (e ? "," : l ? ",[" : "["), (l == 3 && e == 7 ? 0 : 1000 * rand() * (1 + e / 64)), (e == 63 ? "]" : ""))
                printf "]"
            }
            print "}"
        }
    }'
}
{
    made 1 1500 1
    made 1201 2600 2 0.5 1200
} >"$T/made.jsonl"
[ "$(wc -c <"$T/made.jsonl")" -gt 4000000 ]
ok $? 'a log of several pieces, with a restart'

# ---- the same, however it is read ----
moe-stat --threads 1 -f json "$T/made.jsonl" >"$T/one"
for threads in 2 3 8; do
    is "$(moe-stat --threads $threads -f json "$T/made.jsonl" | cksum)" "$(cksum <"$T/one")" "$threads threads come to the same"
done
is "$(cat "$T/made.jsonl" | moe-stat -f json - | cksum)" "$(cksum <"$T/one")" 'a pipe too'
is "$(moe-stat -f json <"$T/made.jsonl" - | cksum)" "$(cksum <"$T/one")" 'and standard input that is a file'
split -n l/5 "$T/made.jsonl" "$T/part."
is "$(moe-stat -f json "$T"/part.* | cksum)" "$(cksum <"$T/one")" 'and five pieces, one after the other'
is "$(figure steps "$T/made.jsonl") $(figure abandoned_steps "$T/made.jsonl")" '2600 300' 'steps that were gone back on do not count'

# ---- numpy ----
if need torch "$py" -c 'import numpy'; then
    sed 's/"peak_flops":1e9/"peak_flops":null/' "$T/made.jsonl" >"$T/no-peak.jsonl"
    for log in made no-peak; do
        [ $log = made ] && skip=0 || skip=10
        "$py" "$top/contrib/oracle/stat.py" "$T/$log.jsonl" $skip >"$T/numpy"
        [ "$(wc -l <"$T/numpy")" -gt 35 ]
        ok $? "$log, --skip $skip: numpy has its figures"
        none "$(moe-stat --skip $skip -f json "$T/$log.jsonl" | "$py" -c '
import json, sys
ours = json.load(sys.stdin)
for line in open(sys.argv[1]):
    name, value = line.split()
    if ours[name] != float(value): print(name, ours[name], value)' "$T/numpy")" 'and ours are the same to the last digit'
    done
fi

# ---- memory ----
awk 'BEGIN { for (i = 1; i <= 300000; i++) print "{\"kind\":\"step\",\"step\":" i ",\"loss\":1,\"tokens\":100,\"time_s\":" 1 + i % 7 "}" }' >"$T/long.jsonl"
run bash -c 'ulimit -v 90000; moe-stat --threads 1 -f csv "$1" | cut -d, -f5,6,7' - "$T/long.jsonl"
is "$(printf '%s\n' "$out" | tail -1)" '300000,1,300000' 'a long log needs no more memory than a short one'
run env TMPDIR="$T/none" moe-stat -f csv -o "$T/no.csv" "$T/long.jsonl"
is "$status $(find "$T" -name 'no.csv*')" '2 ' 'nor goes it on without room for what waits'
like "$err" 'temporary file \(\$TMPDIR\)' 'which it tells'
head -60000 "$T/long.jsonl" >"$T/order.jsonl"
is "$(tac "$T/order.jsonl" | moe-stat -f csv -)" "$(moe-stat -f csv "$T/order.jsonl")" 'nor order: steps are put in theirs'

# Lines that end just where a piece of 1 MiB does, and around it: of 64 bytes, of 63 and of 65.
for bytes in 63 64 65; do
    awk -v bytes=$bytes 'BEGIN { for (i = 1; i <= 50000; i++) {
        line = "{\"kind\":\"step\",\"step\":" i ",\"tokens\":1,\"time_s\":1"
        printf("%s%*s}\n", line, bytes - 2 - length(line), "") } }' >"$T/even.jsonl"
    is "$(wc -c <"$T/even.jsonl") $(figure steps "$T/even.jsonl") $(figure skipped_lines "$T/even.jsonl")" "$((50000 * bytes)) 50000 0" "lines of $bytes bytes"
done

# ---- what is no record ----
step='{"kind":"step","step":1,"loss":2,"tokens":100,"time_s":1}'
next='{"kind":"step","step":2,"loss":1,"tokens":100,"time_s":1}'
# bad NAME STEPS SKIPPED: the log $T/bad has so many steps, and lines with something else
bad() {
    run moe-stat -f json "$T/bad"
    is "$status $(figure steps "$T/bad") $(figure skipped_lines "$T/bad")" "0 $2 $3" "$1: the rest is reported"
    if [ "$3" -gt 0 ]; then like "$err" "skipped: $3 line" 'and what was skipped is said'; fi
}
printf '%s\n%s' "$step" "${next%?????}" >"$T/bad"
bad 'the last line has no end' 1 1
like "$err" 'last line has no end' 'the cut is told of'
printf '[1,0]<stdout>:%s\n[1,1]<stdout>: warming up\n%s\n' "$step" "$next" >"$T/bad"
bad "a launcher's prefix" 2 2
printf '%s%s\n' "$step" "$next" >"$T/bad"
bad 'two records on a line' 2 0
printf '{"kind":"step","step":7,"lo%s\nss":5}\n%s\n' "$step" "$next" >"$T/bad"
bad 'a record within half another' 2 2
printf '%s\n\0\0\0\0%s\n\0\n' "$step" "$next" >"$T/bad"
bad 'NUL bytes' 2 2
printf '%s\n%s\n{"kind":"step","step":3,"loss":[[1,2},"x":[\n{"a\n}{\n\377\376\n' "$step" "$next" >"$T/bad"
bad 'garbage' 2 4
{
    echo "$step"
    head -c 10000000 /dev/zero | tr '\0' x
    echo
    printf '{"kind":"step","later":"'
    head -c 10000000 /dev/zero | tr '\0' y
    echo '","step":2,"loss":1,"tokens":100,"time_s":1}'
    head -c 20000000 /dev/zero | tr '\0' '['
    printf '\n{"kind":"later","x":[]}\n'
} >"$T/bad"
bad 'lines of 10 and 20 MB' 2 2
printf '%s\n{"kind":"step","step":2,"loss":NaN,"grad_norm":Infinity,"tokens":100,"time_s":1}\n{"kind":"step","step":3,"loss":null,"tokens":100,"time_s":1}\n' "$step" >"$T/bad"
bad 'NaN, Infinity and null' 3 0
is "$(figure nan_steps "$T/bad") $(figure loss_last "$T/bad") $(figure loss_end "$T/bad")" '2  2' 'such steps are counted, and not averaged'
printf '%s\n{"kind":"step","step":2,"loss":1,"tokens":100,"time_s":-3}\n{"kind":"step","step":3,"loss":1,"tokens":100,"time_s":1e9}\n' "$step" >"$T/bad"
bad 'a clock that jumps' 3 0
is "$(figure untimed_steps "$T/bad") $(figure tokens_per_s "$T/bad")" '2 100' 'such steps do not count for speed'
run moe-stat "$T/bad"
like "$err" '^moe-stat: 2 steps have no tokens or no time' 'and are told of'
printf '%s\n%s\n%s\n' "$step" "$next" "${step/:2,/:3,}" >"$T/bad"
bad 'a step that comes again' 2 0
is "$(figure loss_first "$T/bad")" 3 'counts as it was last'
printf '%s\n{"kind":"step","step":2,"loss":1,"expert_load":[[1,2],[3]]}\n{"kind":"step","step":3,"expert_load":[[1,2],[3,4]]}\n' "$step" >"$T/bad"
bad 'loads that are no matrix' 3 0
is "$(moe-stat --loads -q "$T/bad")" '1 2
3 4' 'are passed over'
: >"$T/bad"
run moe-stat "$T/bad"
is "$status" 2 'an empty log exits 2'
printf 'nothing\n' >"$T/bad"
run moe-stat "$T/bad"
is "$status" 2 'one without a record too'

# ---- reports ----
run moe-stat --skip auto "$T/made.jsonl"
like "$out" '^forward .* 5 in +[56][0-9] % +\+[0-9.]+ %$' 'the slowest rank of a phase'
like "$out" '^bubble +20\.0 % +the schedule.s formula 11\.1 %' 'the bubble beside its formula: 1 in 2 x 4 + 1'
like "$out" 'stage 0 6 GB \(rank 1\), stage 1 5 GB \(rank 6\)' 'memory by stage'
near "$(figure memory_used "$T/made.jsonl")" 0.75 1e-12 'memory_used'
near "$(figure hfu "$T/made.jsonl")" "$(awk -v x="$(figure mfu "$T/made.jsonl")" 'BEGIN { printf "%.17g", x * 4 / 3 }')" 1e-12 'full recomputation is a third more'
near "$(figure microbatch_s "$T/made.jsonl")" "$(awk -v x="$(figure step_s "$T/made.jsonl")" 'BEGIN { printf "%.17g", x / 4 }')" 1e-12 'microbatch_s'
is "$(figure dead_experts "$T/made.jsonl")" 1 'a dead expert'
for claim in 'memory_used < 90%' 'expert_load_std < 0.3' 'mfu > 0.5' 'nan_steps = 0'; do
    run moe-stat --skip auto --check "$claim" "$T/made.jsonl"
    is "$status" 0 "healthy: $claim"
done
for claim in 'memory_used < 70%' 'expert_load_std < 0.1' 'mfu > 0.9' 'dead_experts = 0'; do
    run moe-stat --check "$claim" "$T/made.jsonl"
    is "$status" 1 "not healthy: $claim"
done
run moe-stat --experts "$T/made.jsonl"
is "$(printf '%s\n' "$out" | awk 'NR > 1 { print $1, $(NF - 2), $NF == 7 }' | tr '\n' ' ')" '0 0 0 1 0 0 2 0 0 3 1 1 ' '--experts: a line a layer, with its dead ones'
awk 'BEGIN { for (i = 1; i <= 64; i++) printf "{\"kind\":\"step\",\"step\":%d,\"loss\":1,\"tokens\":1,\"time_s\":%d,\"expert_load\":[[%s]]}\n", i, i < 4 ? 9 : 1, i <= 32 ? "3,1" : "1,3" }' >"$T/drift.jsonl"
is "$(figure expert_load_drift "$T/drift.jsonl") $(figure expert_load_std "$T/drift.jsonl")" '0.5 0' 'loads that move'
is "$(figure warmup_steps "$T/drift.jsonl") $(figure step_s "$T/drift.jsonl" --skip auto)" '3 1' '--skip auto leaves out what warms up'
run moe-stat -f markdown "$T/made.jsonl"
is "$(printf '%s\n' "$out" | grep -c '^|---|--:|$')" 5 'markdown: five tables'
like "$out" '^\| tokens\\_per\\_s \| [0-9]+ /s \|$' 'of figures'
moe-stat -f prom "$T/made.jsonl" >"$T/prom"
if need promtool command -v promtool; then
    run promtool check metrics <"$T/prom"
    is "$status $out$err" '0 ' 'promtool accepts the Prometheus text'
fi
none "$(awk '/^# HELP moe_[a-z0-9_]+ [a-z]/ { help[$3]; next } /^# TYPE moe_[a-z0-9_]+ gauge$/ { type[$3]; next }
    /^moe_[a-z0-9_]+\{model="[^"]*"\} -?[0-9][0-9.e+-]*$/ { sub(/\{.*/, ""); if ($0 in help && $0 in type && !seen[$0]++) next } { print }' "$T/prom")" \
    'each of its metrics has help, a type and one sample'
like "$(cat "$T/prom")" '^moe_step_seconds_p50\{model="made"\}' 'units are written out'

moe-stat --figures | sed -E 's/\t.*//; s/^/moe_/; s/_per_s(_|$)/_per_second\1/; s/_s(_|$)/_seconds\1/' >"$T/metrics"
none "$(sed -n 's/^\(moe_[a-z0-9_]*\){.*/\1/p' "$T/prom" | grep -vxF -f "$T/metrics")" 'by that rule alone'
grep -oE '\bmoe_[a-z0-9_]+' "$top/contrib/grafana-moe.json" | sort -u >"$T/shown"
[ "$(wc -l <"$T/shown")" -gt 25 ]
ok $? 'the dashboard shows metrics'
none "$(grep -vxF -f "$T/metrics" "$T/shown")" 'that there are'

# ---- two runs ----
made 1 400 11 0.5 >"$T/a.jsonl"
made 1 400 12 0.5 >"$T/same.jsonl"
made 1 400 13 0.55 >"$T/slow.jsonl"
run moe-stat --compare "$T/a.jsonl" "$T/same.jsonl"
is "$status" 0 '--compare: noise is no difference'
like "$out" '^no difference beyond noise' 'and it says so'
run moe-stat --compare "$T/a.jsonl" "$T/slow.jsonl"
is "$status" 1 'a run that is 10% slower exits 1'
like "$out" '^slower: B takes (9|10|11)\.?[0-9]* % more time a token \(95 % confidence: ' 'and it says how sure it is'
like "$out" '400 steps, worth 1?[0-9]{2} ' 'steps that are like those before them count for fewer'
run moe-stat --compare "$T/slow.jsonl" "$T/a.jsonl"
is "$status" 0 'a faster one exits 0'
like "$out" '^faster: ' 'and is told of'
run moe-stat --compare "$T/a.jsonl"
is "$status" 2 'one log is too few'
echo "$step" >"$T/short.jsonl"
run moe-stat --compare "$T/a.jsonl" "$T/short.jsonl"
is "$status" 2 'and so is one step'
like "$err" 'B: 1 steps .* too few' 'as it says'

# ---- a plan ----
moe-partition -m moe-tiny -n 2 --ep 2 --seq 128 --global-batch 16 -o "$T/plan"
bytes=$(moe-partition emit json "$T/plan" | tr -d '\n' | sed 's/.*"memory_bytes": *\([0-9]*\).*/\1/')
flops=$(moe-partition emit json "$T/plan" | tr -d '\n' | sed 's/.*"flops_per_token": *\([0-9]*\).*/\1/')
printf '{"kind":"start","model":"x","world":2,"plan":"00000000","flops_per_token":%s}\n{"kind":"step","step":1,"tokens":100,"time_s":1,"peak_bytes":%s}\n' "$flops" "$((bytes * 3 / 2))" >"$T/planned.jsonl"
run moe-stat --plan "$T/plan" "$T/planned.jsonl"
is "$status" 0 '--plan exits 0'
like "$(printf '%s\n' "$out" | sed -n 2p)" '^memory_bytes .* \+50\.0 % +measured: peak_bytes$' 'what is worst predicted comes first'
like "$out" '^flops_per_token .* \+0\.0 %$' 'what is right after it'
like "$(printf '%s\n' "$out" | tail -1)" ' -( |$)' 'and what is not known last'
like "$err" "of another plan \(00000000, this one is [0-9a-f]{8}\)" 'a log of another plan is told of'
sed '1s/"flops_per_token":[0-9]*/"device_bytes":null/' "$T/planned.jsonl" >"$T/poor.jsonl"
is "$(figure flops_per_token "$T/poor.jsonl")" '' 'what the log does not tell'
run moe-stat -q --plan "$T/plan" --check "flops_per_token = $flops" "$T/poor.jsonl"
is "$status" 0 'a plan does'

# Parts of a step: of a plan for hosts with rates, and a step of one second in which optimizer took what is predicted.
moe-partition -m moe-tiny -c h100 -n 2 --ep 2 --seq 128 --global-batch 16 -o "$T/fast"
predicted=$(moe-stat -q --plan "$T/fast" -f json "$T/planned.jsonl" | sed -n 's/.*"optimizer_s".*"predicted": \([0-9.e-]*\).*/\1/p')
{
    sed -n 1p "$T/planned.jsonl"
    printf '{"kind":"step","step":1,"tokens":100,"time_s":1,"phases":{"forward":{"mean":0.25},"backward":{"mean":0.5},"optimizer":{"mean":%s},"pp":{"mean":0},"idle":{"mean":0.125}}}\n' "$predicted"
} >"$T/parts.jsonl"
run moe-stat -q --plan "$T/fast" "$T/parts.jsonl"
like "$out" '^optimizer_s .* \+0\.0 % +\+0\.0 % +measured: optimizer$' 'a part of a step that came as predicted'
like "$out" '^waiting_s +0\.000 +0\.125 .* \+12\.5 % ' 'and one that did not, as a share of the step' || diag "$out"
worst=$(moe-stat -q --plan "$T/fast" -f json "$T/parts.jsonl" | sed -n 's/.*"of_step": \([^}]*\)}.*/\1/p' | grep -v null | tr -d -)
is "$(printf '%s\n' "$worst" | wc -l) $worst" "3 $(printf '%s\n' "$worst" | sort -gr)" 'the worst part first'
is "$(moe-stat -q --plan "$T/fast" -f json "$T/parts.jsonl" | awk -F'"predicted": ' '/"of_step"/ { sub(",.*", "", $2); sum += $2 } /"step_s"/ { sub(",.*", "", $2); step = $2 }
    END { print (sum / step > 0.999999 && sum / step < 1.000001) ? "yes" : sum " of " step }')" yes 'the parts add up to what is predicted of the step'

if need jq command -v jq; then
    is "$(moe-stat -q --plan "$T/plan" -f json "$T/planned.jsonl" | jq -r '.[0] | .figure, .measured_as, .off' | tr '\n' ' ')" \
        'memory_bytes peak_bytes 0.5 ' '--plan -f json'
    is "$(moe-stat --compare -f json "$T/a.jsonl" "$T/slow.jsonl" | jq -r '.verdict, (.low < .slower and .slower < .high)' | tr '\n' ' ')" \
        'slower true ' '--compare -f json'
    is "$(moe-stat -f json "$T/made.jsonl" | jq -c '.detail | [(.starts | length), (.experts | length), .memory_by_stage[1].rank, .stragglers[0].rank]')" \
        '[2,4,6,5]' "JSON's detail"
fi
run moe-stat "$T"
is "$status" 2 'a directory is no log'

# ---- a log that grows ----
# until_has FILE REGEX: waits for it, ten seconds at most
until_has() {
    for i in $(seq 100); do
        ! grep -Eq -e "$2" "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}
moe-stat --follow - <"$T/made.jsonl" --every 0 >"$T/told.out" 2>"$T/told.err" &
pid=$!
until_has "$T/told.out" '^step '
ok $? 'a file on standard input is followed' || diag "$(cat "$T/told.err")"
kill $pid
wait $pid
is $? 0 'until SIGTERM'
run bash -c 'head -50 "$1" | moe-stat --follow --every 0 -' - "$T/a.jsonl"
is "$status" 0 '--follow: a pipe ends where it ends'
like "$(printf '%s\n' "$out" | tail -1)" '^step 49  loss [0-9.]+  [0-9]+ tokens/s  step 0\.[0-9]+ s  MFU ' 'with a line on its last steps'
head -20 "$T/a.jsonl" >"$T/grows.jsonl"
moe-stat --follow --every 0.1 -f prom -o "$T/live.prom" "$T/grows.jsonl" 2>"$T/follow.err" &
pid=$!
until_has "$T/live.prom" '^moe_last_step\{model="made"\} 19$'
ok $? 'the Prometheus file of a log that is followed'
sed -n '21,30p' "$T/a.jsonl" >>"$T/grows.jsonl"
until_has "$T/live.prom" '^moe_last_step.* 29$'
ok $? 'is written anew as the log grows'
head -8 "$T/slow.jsonl" >"$T/rotated" && mv "$T/rotated" "$T/grows.jsonl"
until_has "$T/live.prom" '^moe_last_step.* 7$'
ok $? 'and when it is rotated'
like "$(cat "$T/follow.err")" 'another file now' 'which is said'
kill $pid
wait $pid
is $? 0 'SIGTERM ends it in order'
is "$(find "$T" -name 'live.prom.*')" '' 'and nothing is left behind'
head -40 "$T/a.jsonl" | moe-stat --follow --every 0 --last 10 - >"$T/follow.out"
near "$(sed -n '$s/.*  \([0-9]*\) tokens.*/\1/p' "$T/follow.out")" "$(moe-stat -f csv --skip 29 <(head -40 "$T/a.jsonl") | awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "tokens_per_s") at = i } NR == 2 { print $at }')" 1 \
    '--last: of the last steps alone'
run moe-stat --follow -f prom "$T/a.jsonl"
is "$status" 2 '--follow -f prom needs a file'
done_testing
