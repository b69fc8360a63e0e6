#!/bin/sh
# SPDX-License-Identifier: MIT
# The cost model: seconds of published runs, what they follow from, and the page that explains a plan.
. "$(dirname "$0")/lib/tap.sh"
need_for_all perl perl -MJSON::PP -e 1

# ---- published runs ----
run env MOEKIT_BIN="$bin" "$top/t/bench/published"
is "$status" 0 'published runs are predicted' || diag "$err"
diag "$out"
is "$(printf '%s\n' "$out" | grep -c measured)" 8 'eight of them'
printf '%s\n' "$out" | sed -n 's/^mean \(.*\)%, worst \(.*\)%$/\1 \2/p' | awk '{ found = 1; exit !($1 <= 10 && $2 <= 20) } END { if (!found) exit 1 }'
ok $? 'with a mean error of 10% at most, and of 20% at worst'
printf '%s\n' "$out" | sed -n 's/.*GB: *\([-+0-9.]*\)%$/\1/p' | awk '{ found = 1; exit !($1 <= 10 && $1 >= -10) } END { if (!found) exit 1 }'
ok $? 'and memory within 10%'

# ---- what a plan predicts ----
figure() { sed -n "s/^predict .* $1=\([^ ]*\).*/\1/p" "$2"; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 > 0 && a + 0 < b + 0) }'; }
job='-m mixtral-8x7b -n 64 --tp 2 --ep 8 --pp 2 --seq 4096 --global-batch 256 --micro-batch 2'
moe-partition -q $job -c h100 -o "$T/a"
near "$(figure tokens_per_s "$T/a")" "$(awk -v s="$(figure step_s "$T/a")" 'BEGIN { printf "%.12g", 256 * 4096 / s }')" 1e-3 'tokens a second are those of a step'
near "$(figure mfu "$T/a")" "$(awk -v t="$(figure tokens_per_s "$T/a")" -v f="$(figure flops_per_token "$T/a")" 'BEGIN { printf "%.12g", t * f / (64 * 989e12) }')" \
    1e-9 'mfu is what they are of the peak'
is "$(figure hfu "$T/a")" "$(figure mfu "$T/a")" 'nothing is computed again'
less "$(figure step_s "$T/a")" "$(figure step_skewed_s "$T/a")"
ok $? 'uneven loads take longer'
# slower FIGURE NAME OPTION…: the step takes longer than a's
slower() {
    name=$1
    shift
    moe-partition -q $job -c h100 "$@" -o "$T/b"
    less "$(figure step_s "$T/a")" "$(figure step_s "$T/b")"
    ok $? "$name takes longer" || diag "$(figure step_s "$T/a") and $(figure step_s "$T/b")"
}
slower 'a slower device' -c a100-80g
slower 'full recomputation' --recompute full
less "$(figure mfu "$T/b")" "$(figure hfu "$T/b")"
ok $? 'and counts in hfu alone'
slower 'f32' --precision f32
slower 'a larger batch' --global-batch 512
slower 'another stage with all layers' --split 31,1
sed 's/"inter_Bps": 50e9/"inter_Bps": 5e9/' "$top/share/clusters/h100.json" >"$T/slow.json"
slower 'a slow network' -c "$T/slow.json"
sed '/memory_Bps/d' "$top/share/clusters/h100.json" >"$T/unknown.json"
moe-partition -q $job -c "$T/unknown.json" -o "$T/b"
is "$(figure step_s "$T/b") $(figure mfu "$T/b") $(figure seconds "$T/b")" 'null null 0' 'what is not known is not predicted'
sed '/^sum /d; s/ step_s=[^ ]*/ step_s=1/' "$T/a" >"$T/c"
like "$(moe-plan-check "$T/c")" 'FAIL predict-matches: step_s is .*; the plan says 1' 'seconds are checked'
sed '/^sum /d; s/ arena=[0-9]*/ arena=1/; s/ hfu=.*//; s/ step_s=[^ ]*/ step_s=null/; s/ tokens_per_s=[^ ]*/ tokens_per_s=null/; s/ mfu=[^ ]*/ mfu=null/' "$T/a" >"$T/c"
like "$(moe-plan-check "$T/c")" 'ok predict-matches' 'a plan from before they were predicted is none the worse'
sed '/^sum /d; s/ seconds=[0-9]*/ seconds=99/; s/ step_s=[^ ]*/ step_s=1/' "$T/a" >"$T/c"
like "$(moe-plan-check "$T/c")" 'warn predict-matches: step_s is .*; the plan says 1, by the formulas of another moekit' 'nor one by other formulas'

# ---- processors ----
# Ranks of a node share what it has: one that is alone has it all, in products of so many threads.
cat >"$T/two.json" <<'END'
{"device": "cpu", "ranks_per_node": 2, "memory_bytes": 8e9, "memory_Bps": 2e10, "flops": {"f32": 1e11}, "efficiency": [[1e8, 0.5], [1e10, 1]],
 "intra_Bps": 1e10, "intra_s": 1e-6}
END
for n in 1 2; do moe-partition -q -m moe-tiny -c "$T/two.json" -n $n --precision f32 -o "$T/of$n"; done
like "$(grep '^machine' "$T/of2")" ' per_node=2 memory_bytes=8000000000 .* flops_f32=100000000000 .* memory_Bps=20000000000 .* efficiency=1e\+08:0.5,1e\+10:1$' 'two ranks have what the file says'
like "$(grep '^machine' "$T/of1")" ' per_node=2 memory_bytes=16000000000 .* flops_f32=200000000000 .* memory_Bps=40000000000 .* efficiency=2e\+08:0.5,2e\+10:1$' 'and one alone twice as much'
less "$(figure step_s "$T/of1")" "$(awk -v s="$(figure step_s "$T/of2")" 'BEGIN { print 1.2 * s }')"
ok $? 'and is nearly as fast as the two' || diag "$(figure step_s "$T/of1") $(figure step_s "$T/of2")"

# ---- explain ----
run moe-partition explain "$T/a"
is "$status" 0 'explain'
[ "$(printf '%s\n' "$out" | grep -c '')" -le 40 ]
ok $? 'says it in a page'
for part in memory weights gradients optimizer activations margin time 'dense products' attention "experts' products" 'dispatch and combine' \
    'tensor-parallel' 'idle in the pipeline' 'summing gradients' pipeline groups; do
    like "$out" "$part" "with $part"
done
near "$(printf '%s\n' "$out" | sed -n '/^time/,$s/.* s *\([0-9.]*\)%$/\1/p' | awk '{ s += $1 } END { print s }')" 100 0.6 'parts of the time add up to all of it'
near "$(printf '%s\n' "$out" | sed -n '/^memory/,/^time/s/.*B *\([0-9.]*\)%$/\1/p' | awk '{ s += $1 } END { print s }')" 100 0.6 'as do those of memory'
moe-partition -q -m moe-tiny | moe-partition explain - >"$T/out"
like "$(cat "$T/out")" "time: not known; cluster 'local' lacks" 'what the time needs is named'
run moe-partition explain
is "$status" 2 'explain needs a plan'
run moe-partition explain "$T/none"
is "$status" 2 'that is there'
done_testing
