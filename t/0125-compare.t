#!/bin/sh
# SPDX-License-Identifier: MIT
# moe-partition search --compare: a plan beside the best of its job. Every figure is that of a plan made so by hand.
. "$(dirname "$0")/lib/tap.sh"
need_for_all perl perl -MJSON::PP -e 1
cd "$T" || exit 1
get() { perl -MJSON::PP -0777 -ne "my \$j = decode_json(\$_); print $2" "$1"; }
step_of() { sed -n 's/^predict .* step_s=\([^ ]*\).*/\1/p' "$1"; }

# ---- what the guide's own layout loses ----
for r in a b; do
    case $r in a) s=ep16-tp4-pp2 ;; b) s=ep16-tp4-pp2-folded ;; esac
    moe-partition --strategy $s -o $r.plan
    run moe-partition search --compare $r.plan
    is "$status $err" '0 ' "reading $r is compared"
    printf '%s\n' "$out" >$r.out
    moe-partition search --compare $r.plan --json >$r.json
    near "$(get $r.json '$j->{plan}{step_s}')" "$(step_of $r.plan)" 1e-12 'the plan has the seconds that it predicts'
    # each choice alone: the best of all plans made by hand that have another value of it and fit
    while read -r choice option values; do
        best=1e9
        for v in $values; do
            moe-partition -q --strategy $s $option $v -o x.plan 2>/dev/null || continue
            best=$(echo "$best $(step_of x.plan)" | awk '{ printf "%.17g", ($2 < $1 ? $2 : $1) }')
        done
        near "$(get $r.json "map { \$_->{choice} eq '$choice' ? \$_->{step_s} : () } @{\$j->{alone}}")" "$best" 1e-9 "$choice alone"
    done <<END
tp --tp 1 2 8 16
etp --etp $([ $r = a ] && echo '1 2 8' || echo '2 4 8')
ep --ep 1 2 4 8 32 64
vpp --vpp 2 8
micro-batch --micro-batch 2 4 8
zero --zero 0
recompute --recompute selective full
END
    moe-partition search -q -m moe-7b -c ref-64g -n 128 --global-batch 128 --seq 2048 --precision bf16 --lambda 1 -o best.plan >/dev/null
    near "$(get $r.json '$j->{best}{step_s}')" "$(step_of best.plan)" 1e-12 'the best is what a search writes'
    is "$(get $r.json 'join ",", map { $_->{gain} > 0 ? () : $_->{choice} } @{$j->{path}}')" '' 'each change of the path gains'
    near "$(get $r.json 'my $s = 0; $s += $_->{seconds} for @{$j->{loses}}; $s - $j->{plan}{step_s} + $j->{best}{step_s}')" 0 1e-9 \
        'what it loses by part is what it loses'
done
like "$(cat a.out)" 'takes 4\.31 times as long' 'reading A takes 4.3 times as long as the best'
like "$(cat a.out)" 'waiting for the host +\+0\.7' 'nearly all of it waiting for the host'
like "$(cat a.out)" '^  tp +4 +to 1 .* -7[0-9]\.[0-9]%' 'which tp 1 alone takes away'

# the path's plans: the first two, made by hand
moe-partition -q --strategy ep16-tp4-pp2 --tp 1 -o p1.plan
moe-partition -q --strategy ep16-tp4-pp2 --tp 1 --pp 1 --vpp 1 --schedule 1f1b -o p2.plan
near "$(get a.json '$j->{path}[0]{step_s}')" "$(step_of p1.plan)" 1e-12 'a step of the path is a plan'
near "$(get a.json '$j->{path}[1]{step_s}')" "$(step_of p2.plan)" 1e-12 'and so is the next'

# ---- the best itself, others' plans, what is held fixed ----
run moe-partition search --compare best.plan
like "$out" 'takes 1 times as long' 'the best is as fast as the best'
like "$out" 'none: it is as fast as the best' 'no change gains'
moe-partition search -q --compare a.plan --any --json >any.json
is "$(get any.json '$j->{best}{step_s} <= '"$(step_of best.plan)"' ? "yes" : "no"')" yes 'with --any what moe-train cannot run is looked at'
is "$(get any.json '$j->{best}{runs} ? "yes" : "no"')$(get a.json '$j->{best}{runs} ? "yes" : "no"')" noyes 'and else it is not'
moe-partition -q --strategy ep16-tp4-pp2 --zero 2 -o zero2.plan
is "$(moe-partition search -q --compare zero2.plan --json | get - '$j->{best}{runs} ? "yes" : "no"')" no 'as it is for a plan that is such'
moe-partition search -q --compare a.plan --tp 4 --json >fixed.json
is "$(get fixed.json '$j->{best}{tp} . (defined $j->{alone}[0]{step_s} ? "changed" : "held")')" 4held 'what is given is held fixed'
moe-partition -q -m moe-tiny -c h100 -n 8 --pp 2 --split 3,1 --seq 256 --global-batch 32 -o split.plan
moe-partition search -q --compare split.plan --json >split.json
near "$(get split.json '$j->{alone}[8]{step_s}')" \
    "$(moe-partition -q -m moe-tiny -c h100 -n 8 --pp 2 --seq 256 --global-batch 32 | sed -n 's/^predict .* step_s=\([^ ]*\).*/\1/p')" 1e-12 \
    "a plan's own split is held, and even ones are tried"
like "$(moe-partition explain a.plan)" 'search --compare' 'explain points there'

# ---- refused ----
run moe-partition search --compare a.plan -m moe-tiny
like "$status $err" '^2 .*--model does not go with --compare' 'another model'
run moe-partition search --compare none
is "$status" 2 'no such plan'
moe-partition -q -m moe-tiny -n 2 -o local.plan
run moe-partition search --compare local.plan
like "$status $err" '^2 .*lacks what seconds' 'a cluster without rates'
sed '/^sum/d; s/^group ep 0 0,4/group ep 0 4,0/' a.plan >broken.plan
run moe-partition search -q --compare broken.plan
like "$status $err" '^1 .*not valid: rule groups-' 'an unsound plan'
done_testing
