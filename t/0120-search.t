#!/bin/sh
# SPDX-License-Identifier: MIT
# moe-partition search: the table, its counts, JSON, the plan written, what is refused. That nothing is lost by pruning: t/unit/search.c.
. "$(dirname "$0")/lib/tap.sh"
need_for_all perl perl -MJSON::PP -e 1

job='-m moe-tiny -c h100 -n 8 --seq 512 --global-batch 64'
run moe-partition search $job --top 3
is "$status" 0 'a search'
is "$(printf '%s\n' "$out" | grep -cE '(runs-here|plan-only)  [a-z+]')" 3 'three layouts, each with why'
like "$(printf '%s\n' "$out" | sed -n 3p)" '^ +1 .*the best$' 'the best comes first'
like "$(printf '%s\n' "$out" | tail -1)" '^[0-9]+ legal, [0-9]+ pruned, [0-9]+ costed, [0-9]+ simulated' 'the last line counts'
first=$out
run moe-partition search $job --top 3
is "$out" "$first" 'the same again, whichever thread was first'

# ---- JSON, and the plan it stands for ----
moe-partition search -q $job --json --any --top 40 -o "$T/best" >"$T/json"
ok $? '--json -o --any'
get() { perl -MJSON::PP -0777 -ne "my \$j = decode_json(\$_); print $1" "$T/json"; }
is "$(get '$j->{pruned} + $j->{costed}')" "$(get '$j->{legal}')" 'what is legal is pruned or costed'
is "$(get 'join " ", map { $j->{layouts}[$_]{step_s} <= $j->{layouts}[$_ + 1]{step_s} ? () : $_ } 0 .. $#{$j->{layouts}} - 1')" '' 'ranked by step'
near "$(sed -n 's/^predict .* step_s=\([^ ]*\).*/\1/p' "$T/best")" "$(get '$j->{layouts}[0]{step_s}')" 1e-12 'the plan is that of the best'
moe-plan-check "$T/best" >/dev/null
ok $? 'and valid'
moe-partition search -q $job -o "$T/runs" >/dev/null
ok $? 'without --any'
like "$(grep '^training' "$T/runs")" 'zero=[01]' 'what is written runs'
run moe-partition search $job -o -
like "$out" '^moe-plan 1' 'to standard output the plan alone'
like "$err" 'planning only' 'and it is said that it is not the best'

# ---- held fixed ----
moe-partition search -q $job --json --tp 2 --zero 1 --recompute full --schedule 1f1b --micro-batch 2 --order tp-cp-ep-dp-pp --top 1000 >"$T/json"
is "$(get 'join ",", sort keys %{{map { join(" ", @$_{qw(tp zero recompute schedule micro_batch order)}) => 1 } @{$j->{layouts}}}}')" \
    '2 1 full 1f1b 2 tp-cp-ep-dp-pp' 'what is given is held fixed'
moe-partition search -q $job --json --split 3,1 >"$T/json"
is "$(get '$j->{layouts}[0]{pp} * $j->{layouts}[0]{vpp} . $j->{layouts}[0]{split}')" '23,1' 'a split sets the stages'

# ---- refused ----
refused() {
    name=$1 words=$2
    shift 2
    run moe-partition search "$@"
    is "$status" 2 "$name"
    like "$err" "$words" 'said'
}
refused 'what fits nowhere' 'no layout on 8 ranks fits.*; 16 ranks would do' -m mixtral-8x7b -c h100 -n 8 --seq 4096
refused 'what no layout has' 'rule axes-dense: tp 3' $job --tp 3
refused 'no number of ranks' 'world' -m moe-tiny -c h100
refused 'a cluster without rates' 'lacks what seconds.*moe-train --calibrate' -m moe-tiny -n 2
refused 'more ranks than the cluster has' 'nodes-suffice' -m moe-tiny -c h100 -n 100000
refused 'a batch beyond all' 'global batch' -m moe-tiny -c h100 -n 8 --global-batch 100000000
refused 'a model that does not run here, to be run' 'no layout of this job runs' -m deepseek-v2-lite -c h100 -n 16 --seq 512 --global-batch 16 --pp 1 -o "$T/x"
[ ! -e "$T/x" ]
ok $? 'nothing is written'
done_testing
