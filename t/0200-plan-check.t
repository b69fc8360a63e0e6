#!/bin/sh
# SPDX-License-Identifier: MIT
# moe-plan-check: verdicts, their forms, edited plans, sealing, the schedule over time.
. "$(dirname "$0")/lib/tap.sh"

moe-partition -m moe-tiny --tp 2 --ep 2 --pp 2 --dp 2 --global-batch 8 -o "$T/p.plan"
moe-partition --strategy ep16-tp4-pp2 -o "$T/a.plan"

run moe-plan-check "$T/p.plan"
is "$status" 0 'a plan of moe-partition passes'
is "$(echo "$out" | grep -vc '^ok ')" 0 'every line is ok'
like "$out" '^ok axes-dense: tp 2 .* dp 2 .* pp 2 is 8 ranks$' 'a line has the rule and the numbers'
run moe-plan-check "$T/a.plan" "$T/p.plan"
is "$status" 0 'several plans'
is "$(echo "$out" | grep -c '^# ')" 2 'each under its name'
run moe-plan-check -q "$T/a.plan" "$T/p.plan"
is "$status $out$err" '0 ' 'with -q there is nothing to say of them'
run moe-plan-check - <"$T/a.plan"
is "$status" 0 'a plan from standard input'
run moe-plan-check
is "$status" 2 'a plan is needed'
run moe-plan-check "$T/none"
is "$status" 2 'a plan that is not there is bad input'

like "$(moe-plan-check "$T/p.plan")" '^ok messages-in-order: [1-9][0-9]* messages between stages end' 'stages have messages'
# every rule that a check prints is listed, and the other way round
moe-plan-check --rules | sed 's/ .*//' | sort >"$T/rules"
moe-plan-check "$T/p.plan" | sed 's/^[a-zA-Z]* //; s/:.*//' | sort >"$T/asked"
cmp -s "$T/rules" "$T/asked"
ok $? '--rules lists what is asked'

moe-plan-check --rules | while read -r id _; do grep -qx "\.It Cm $id" "$top/share/man/moe-plan-check.1" || echo "$id"; done >"$T/unlisted"
none "$(cat "$T/unlisted")" 'and the page lists them'

# ---- edits ----
# edit SED: p.plan edited, in e.plan, without a sum; then what fails
edit() {
    sed "$1; /^sum /d" "$T/p.plan" >"$T/e.plan"
    run moe-plan-check -q "$T/e.plan"
}
edit ''
is "$status $out" '0 ' 'without a sum it is legal'
like "$(moe-plan-check "$T/e.plan" 2>&1)" 'e.plan: the plan has no sum' 'and warned of'
while IFS='|' read -r name change want; do
    edit "$change"
    is "$status" 1 "$name: status 1"
    like "$out" "^FAIL $want" "$name: $want"
done <<'END'
two members swapped|s/^group ep 0 0,1/group ep 0 1,0/|groups-coords: group ep 0 has rank 1 as member 0; the coordinates say rank 0
a rank twice|s/^group dp 0 .*/group dp 0 0,0/|groups-partition: rank 0 is in two groups
a group gone|/^group edp 1 /d|groups-partition: rank 1 is in no group of kind edp
a coordinate|/^rank 3 /s/ tp=1/ tp=0/|ranks-coords: rank 3
an op dropped|s/^\(schedule 0 .*\) B3/\1/|schedule-complete: stage 0: B3 is missing
ops swapped|s/^schedule 1 F0 B0/schedule 1 B0 F0/|schedule-deadlock-free: deadlock: stage 0 waits .* for B0 of stage 1
a stage that waits|s/^schedule 0 F0 F1 B0/schedule 0 F0 B0 F1/;s/^schedule 1 F0 B0 F1/schedule 1 F0 F1 B0/|schedule-deadlock-free: deadlock
messages out of order|s/^schedule 1 F0 B0 F1 B1/schedule 1 F1 B1 F0 B0/|messages-in-order: message 0 forward from stage 0 to stage 1: stage 0 sends what F0 made, stage 1 receives for F1
an expert twice|s/ids=4-7/ids=4-6,4/|experts-placed-once: layer 0: expert 7
a layer gone|s/layers=2-3/layers=3/|stages-cover
the batch|s/ global=8/ global=9/|batch-divide
the prediction|s/ memory_bytes=\([0-9]* memory_rank\)/ memory_bytes=1\1/|predict-matches: memory_bytes
END

# ---- a wrong sum ----
sed 's/lambda=1.5/lambda=2/' "$T/p.plan" >"$T/w.plan"
run moe-plan-check "$T/w.plan"
is "$status" 2 'a plan with a wrong sum is refused'
like "$err" 'w.plan:[0-9]*:1: .*moe-plan-check --seal' 'and it says what to do'
run moe-plan-check --seal "$T/w.plan"
is "$status" 0 'sealing it'
run moe-plan-check "$T/w.plan"
is "$status $(echo "$out" | grep -vc '^ok ')" '0 0' 'then it passes, its predictions made anew'
unlike "$(grep '^predict' "$T/w.plan")" "$(grep '^predict' "$T/p.plan")" 'skew 2 needs more memory'
sed 's/^rank 0 /# by hand\n&/; s/F0 F1 B0 /F0 B0 F1 /; s/^schedule 0 F0 B0 F1/schedule 0 F0 F1 B0/' "$T/p.plan" >"$T/c.plan"
moe-plan-check --seal "$T/c.plan"
is "$(grep -c '^# by hand' "$T/c.plan")" 1 'comments stay'
sed 's/ids=4-7/ids=4-6,4/' "$T/p.plan" >"$T/x.plan"
cp "$T/x.plan" "$T/y.plan"
run moe-plan-check --seal "$T/x.plan"
is "$status" 1 'what fails is not sealed'
like "$out" '^FAIL experts-placed-once' 'the rule is named'
cmp -s "$T/x.plan" "$T/y.plan"
ok $? 'and the file is left alone'
sed '/^sum /d' "$T/p.plan" | moe-plan-check --seal - | cmp -s - "$T/p.plan"
ok $? 'from standard input to standard output'

# ---- against another cluster ----
echo '{"name": "small", "device": "cuda", "nodes": 8, "ranks_per_node": 1, "memory_bytes": 1e6}' >"$T/small.json"
run moe-plan-check -c "$T/small.json" "$T/p.plan"
is "$status" 1 'another cluster can be too small'
like "$out" '^FAIL memory-fits: rank .* of 1 MB' 'memory'
like "$out" '^FAIL nodes-fit' 'nodes'
moe-partition -m moe-tiny --seq 64 --micro-batch 8 --global-batch 8 -q >"$T/m.plan"
need=$(sed -n 's/^predict memory_bytes=\([0-9]*\).*/\1/p' "$T/m.plan")
echo '{"name": "less", "device": "cpu", "nodes": 8, "ranks_per_node": 1, "memory_bytes": '$((need * 9 / 10))'}' >"$T/less.json"
run moe-plan-check -c "$T/less.json" "$T/m.plan"
is "$status" 1 'memory alone can be too small'
fit='[a-z ]+ takes? [0-9.]+ MB, .*: with( --(recompute|zero|micro-batch) [a-z0-9]+)+ it would need [0-9.]+ MB$'
like "$out" "^FAIL memory-fits: rank 0 needs [0-9.]+ MB of [0-9.]+ MB, 111.1%; $fit" 'and what would make it fit is said'
settings=$(printf '%s\n' "$out" | sed -n 's/^FAIL memory-fits.*: with\(.*\) it would need.*/\1/p')
run moe-partition -m moe-tiny -c "$T/less.json" --seq 64 --micro-batch 8 --global-batch 8
is "$status" 0 'a plan that does not fit is written'
like "$err" "the plan does not fit: rank 0 needs [0-9.]+ MB, a rank has [0-9.]+ MB; $fit" 'and the same is said of it'
# shellcheck disable=SC2086
moe-partition -m moe-tiny -c "$T/less.json" --seq 64 --micro-batch 8 --global-batch 8 $settings 2>"$T/.err" | moe-plan-check - >"$T/out"
is "$? $(cat "$T/.err")" '0 ' "and with$settings it does fit"
moe-partition -m moe-tiny -c "$T/small.json" -n 8 --tp 2 -q >"$T/t.plan"
like "$(moe-plan-check "$T/t.plan")" '^warn nodes-local: group tp 0 of 2 ranks is on 2 nodes' 'tensor parallelism over nodes is warned of'
moe-partition -q -m qwen3-30b-a3b -c h100 -n 16 --ep 8 --pp 2 -o "$T/h.plan"
run moe-plan-check -c h200 "$T/h.plan"
is "$status" 0 'on a faster cluster the plan is as right'
like "$out" '^ok memory-fits: .* of 141 GB' 'and has its memory'
like "$out" '^ok predict-matches' 'its predictions are made anew'
sed 's/^predict memory_bytes=/&1/; /^sum /d' "$T/h.plan" >"$T/i.plan"
like "$(moe-plan-check -q -c h200 "$T/i.plan")" '^FAIL predict-matches' 'but where they were wrong they stay so'

# ---- what is legal, and may not be meant ----
like "$(moe-plan-check "$T/h.plan")" '^ok save-interval: 2 nodes fail every [0-9.e+]* hours, a save takes .* best every [0-9]* steps' 'how often to save'
run moe-plan-check --save-every 1 "$T/h.plan"
is "$status" 0 'a warning makes no plan invalid'
like "$out" '^warn save-interval: a save every 1 steps loses' 'to save at every step is too often'
run moe-plan-check --save-every 0 "$T/h.plan"
is "$status" 2 'never is no interval'
moe-partition -q -m moe-tiny -c h100 -n 16 --ep 8 --order tp-cp-dp-ep-pp >"$T/j.plan"
like "$(moe-plan-check "$T/j.plan")" '^warn groups-compact: group ep 0 of 8 ranks is on 2 nodes, rank 0 on node 0 and rank 8 on node 1' \
    'which groups cross nodes, and where'
moe-partition -q -m moe-tiny --capacity-factor 0.5 >"$T/j.plan"
like "$(moe-plan-check "$T/j.plan")" '^warn capacity-balanced: .* 50\.0% are dropped at least' 'capacity that drops tokens even when loads are even'
moe-partition -q -m qwen3-30b-a3b -c h100 -n 8 --pp 8 >"$T/j.plan"
like "$(moe-plan-check "$T/j.plan")" '^warn stages-balanced: pp 7, which has the head, .* --split auto' 'a head that unbalances the last stage'
moe-partition -q -m moe-tiny -c h100 -n 8 --ep 4 --lambda 1 >"$T/j.plan"
like "$(moe-plan-check "$T/j.plan")" '^warn memory-skewed: .* for even loads alone; a rank has enough for ' 'no memory for uneven loads'
moe-partition -m moe-tiny --cp 2 | moe-plan-check - >"$T/out"
is "$?" 0 'a plan for other trainers is valid'
like "$(cat "$T/out")" '^warn runnable: .* cp 2' 'and said to be for planning only'

# ---- forms ----
moe-plan-check --tap "$T/p.plan" >"$T/tap"
like "$(head -1 "$T/tap")" '^1..[0-9]+$' '--tap has a plan'
is "$(grep -c '^ok ' "$T/tap")" "$(sed -n 's/^1\.\.//p' "$T/tap")" 'and as many lines'
run moe-plan-check -q --tap "$T/e.plan"
like "$out" '^not ok [0-9]+ - predict-matches' 'a failure is not ok'
if need jq command -v jq; then
    is "$(moe-plan-check --json "$T/p.plan" | jq -c '[.ok,.fails,.warns]')" '[true,0,0]' '--json'
    is "$(moe-plan-check -q --json "$T/e.plan" | jq -r '.findings[]|select(.verdict=="FAIL").rule')" predict-matches '--json names the rule'
fi

# ---- the schedule over time ----
moe-partition -m moe-tiny --pp 2 --global-batch 3 | moe-plan-check --simulate - >"$T/sim"
is "$(sed -n 2p "$T/sim")" 'pp 0    F0 F1 ......B0--- F2 B1--- ...B2--- ' 'the first stage'
is "$(sed -n 's/^bubble //p' "$T/sim")" 0.25 'its bubble is (p-1)/(m+p-1)'
is "$(grep -c in_flight "$T/sim")" 2 'microbatches held, a line a stage'
if need gnuplot command -v gnuplot; then
    moe-partition -q -m moe-tiny --pp 2 --vpp 2 --global-batch 4 -o "$T/vpp.plan"
    run moe-plan-check --simulate "$T/vpp.plan" --svg "$T/vpp.svg"
    is "$status $(printf '%s\n' "$out" | grep -c '^pp ')" '0 2' '--svg: the text as ever'
    is "$(grep -oE '>[FB][0-3]\.[01]<' "$T/vpp.svg" | sort | uniq -c | awk '{ print $1 }' | tr '\n' ' ')" '2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 ' \
        'and a picture in which each rank has each operation once'
    is "$(moe-plan-check --simulate "$T/vpp.plan" --svg - | head -c 5)" '<?xml' 'alone on standard output'
    run moe-plan-check --simulate "$T/vpp.plan" --svg "$T/no/dir.svg"
    is "$status" 2 'where it cannot be'
fi
run moe-plan-check --svg "$T/vpp.svg" "$T/p.plan"
is "$status" 2 '--svg alone'
run moe-plan-check --simulate "$T/p.plan" --rules
is "$status" 2 'one thing at a time'
said=
for aside in --rules "--seal $T/p.plan" "--simulate $T/p.plan"; do
    for option in '-c local' '--save-every 5' --json --tap; do
        run moe-plan-check $aside $option
        said="$said$status:$(printf '%s\n' "$err" | grep -c 'goes with verdicts') "
    done
done
is "$said" '2:1 2:1 2:1 2:1 2:1 2:1 2:1 2:1 2:1 2:1 2:1 2:1 ' 'an option for verdicts is refused where none is given'
run moe-plan-check --claims strategy-guide --save-every 5 "$T/p.plan"
is "$status" 2 'and one for rules where claims are judged'

done_testing
