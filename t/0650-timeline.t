#!/bin/sh
# SPDX-License-Identifier: MIT
# Timelines: every operation of the steps asked for, in its stream, one after another, within the step.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/layouts.sh"

need_for_all mpi command -v mpirun
need_for_all jq command -v jq

write_tokens text 97 2000
write_model mix mixtral num_hidden_layers=2
make_plan pp2 mix --seq 16 --global-batch 4 --pp 2 || diag "$(cat "$T/pp2.err")"

SLURMD_NODENAME=$(printf 'n\377') # a host's name is text from outside: any bytes
export SLURMD_NODENAME
train pp2 2 -d "$T/text" -s 4 --timeline "2-3:$T/times"
is "$?" 0 'two stages of a pipeline, on a host whose name is no UTF-8' || diag "$(head -3 "$T/pp2.err")"
unset SLURMD_NODENAME
for rank in 0 1; do
    f=$T/times.$rank
    is "$(head -1 "$f" | jq -c '[.kind, .format, .rank, .ranks, .host, (.unix_s > 1e9)]')" "[\"timeline\",1,$rank,2,\"n�\",true]" "rank $rank: the head"
    is "$(jq -s '[.[] | select(.kind == "op") | .step] | unique' -c "$f")" '[2,3]' "rank $rank: the steps asked for"
    is "$(jq -s '[.[] | select(.kind == "op") | select(.start_s > .end_s or .start_s < 0)] | length' "$f")" 0 'none ends before it starts'
    is "$(jq -s '[map(select(.kind == "op")) | group_by(.stream)[] | . as $s | range(1; length) | select($s[.].start_s < $s[. - 1].end_s)] | length' "$f")" 0 \
        'in one stream they follow each other'
    # Beside the experts' a layer has three products (q|k|v, o, router) and twice as many backward: 9, for one layer and four microbatches.
    is "$(jq -s '[.[] | select(.kind == "op") | select(.op == "matmul" and .step == 2)] | length >= 36' "$f")" true 'products are there'
    is "$(jq -s -c '[.[] | select(.kind == "op") | select(.group == "pp" and .step == 2) | .op] | group_by(.) | map([.[0], length])' "$f")" \
        '[["receive",4],["send",4]]' 'and a message each way a microbatch'
    is "$(jq -s -c '[.[] | select(.kind == "op") | select(.group == "pp") | .bytes] | unique' "$f")" '[3072]' 'of 16 tokens, 48 wide, in f32'
done
is "$(jq -c 'select(.kind == "group" or .kind == "peer") | [.group // .stream, .ranks // .rank]' "$T/times.1")" '["pp",[0,1]]
["out",0]
["in",0]' 'who is in a group, and whom messages go to'
# What a step's operations took together is no more than the step.
spent=$(jq -s '[.[] | select(.kind == "op") | select(.step == 3 and .stream == "compute")] | (map(.end_s) | max) - (map(.start_s) | min)' "$T/times.0")
step=$(jq -s '.[] | select(.kind == "step" and .step == 3) | .time_s' "$T/pp2.log")
below "$spent" "$step"
ok $? "the step's operations ($spent s) lie within its time ($step s)"

for bad in 3-2:x 0:x 2 2: x-3:f -1:f; do
    run moe-train -p "$T/pp2.plan" -d "$T/text" -s 1 --comm self --timeline "$bad"
    is "$status" 2 "--timeline $bad is refused"
done
run mpi 2 moe-train -p "$T/pp2.plan" -d "$T/text" -s 1 --timeline "1:$T/none/x"
is "$status $(printf '%s' "$err" | grep -c "none/x")" '2 1' 'a place that is not there: said once, status 2' || diag "$err"
# ---- rows beside what is computed, and not ----
write_model shared glm num_hidden_layers=2
make_plan rows shared --seq 16 --global-batch 4 --ep 2 --overlap on || diag "$(cat "$T/rows.err")"
# streams NAME: those that the experts' groups talk in
streams() { jq -s -c '[.[] | select(.kind == "op" and .group == "ep") | .stream] | unique' "$T/$1.times.0"; }
# hidden NAME: whether any of their communication was, in some step
hidden() { jq -s '[.[] | select(.kind == "step") | .comm.ep | .busy > .exposed] | any' "$T/$1.log"; }
cp "$T/rows.plan" "$T/between.plan"
train rows 2 -d "$T/text" -s 4 --timeline "2-3:$T/rows.times"
is "$?:$(cat "$T/rows.err")" 0: 'a plan with overlap' || diag "$(head -3 "$T/rows.err")"
is "$(streams rows) $(hidden rows)" '["rows"] true' 'rows travel in a stream of their own, and something hides it'
train between 2 -d "$T/text" -s 4 --timeline "2-3:$T/between.times" --overlap off
is "$?:$(cat "$T/between.err")" "0:moe-train: --overlap off: the plan's predictions are for overlap on" 'and without, which is said'
is "$(streams between) $(hidden between)" '["compute"] false' 'they travel between operations, and nothing hides it'
is "$(jq -c 'select(.kind == "start") | .overlap' "$T/rows.log" "$T/between.log" | tr '\n' ' ')" '"on" "off" ' 'the log says which'
is "$(figures between)" "$(figures rows)" 'and the figures are the same to the bit'
# What is gathered beside the next step's forward ends in that step, and the last when the run does.
make_plan late shared --seq 16 --global-batch 4 --dp 2 --overlap on --bucket-bytes 4096 || diag "$(cat "$T/late.err")"
train late 2 -d "$T/text" -s 3 --timeline "2-3:$T/late.times"
is "$?" 0 'weights gathered beside the next step' || diag "$(head -3 "$T/late.err")"
for rank in 0 1; do
    is "$(jq -s '[.[] | select(.kind == "op") | select(.start_s > .end_s or .start_s < 0)] | length' "$T/late.times.$rank")" 0 \
        "rank $rank: what ends in the step after has its end too"
    is "$(jq -s -c '[.[] | select(.op == "all_gather" and .stream == "buckets")] | group_by(.step) | map(length > 1)' "$T/late.times.$rank")" \
        '[true,true]' 'of both steps'
done
none "$(moe-stat --trace "$T/late.json" "$T/late.times.0" "$T/late.times.1" 2>&1 | grep skipped)" 'and moe-stat skips none of it'
done_testing
