#!/bin/sh
# SPDX-License-Identifier: MIT
# survive.sbatch on a real Slurm of four nodes: ranks are killed and stopped and a node is, in one job, and it trains what one does to which
# nothing happened (random.t has twenty faults of all kinds). Then experts are dropped with a sick rank.
. "$(dirname "$0")/../lib/tap.sh"
. "$top/t/lib/slurm.sh"
. "$top/t/lib/survive.sh"
faults=3
steps=$((60 + 20 * faults))
options='--lr 1e-3 --save-every 5 --timeout 20'

# ---- all experts kept ----
make_plan A 16 --tp 2 --ep 4 --etp 2 --pp 2 --global-batch 24
# shellcheck disable=SC2086
finish 'nothing happens: trained to the end' 'COMPLETED 0:0' --ntasks-per-node=4 "$scripts/train.sbatch" A text.txt $steps whole $options
losses whole/log >whole.losses

# shellcheck disable=SC2086
survive "$scripts/survive.sbatch" A text.txt $steps kept $options
random() { od -An -N2 -tu2 /dev/urandom | awk -v n="$1" '{ print $1 % n }'; }
n=0
while [ $n -lt $faults ]; do
    n=$((n + 1)) saved=$((20 * n - 15)) rank=$(random 16)
    kind=$(echo KILL ABRT STOP | cut -d' ' -f$n)
    until_so 200 stepped kept/log $((saved + 1 + $(random 4)))
    began=$(starts kept) at=$(epoch)
    kill -s $kind "$(rank_pid "$job" "$rank")" 2>/dev/null || diag "rank $rank was not there"
    until_so 120 first_step kept $((began + 1))
    ok $? "fault $n: SIG$kind of rank $rank: training again $(echo "$(epoch) $at" | awk '{ printf "%.0f", $1 - $2 }') s later" ||
        diag "$(tail -n 20 "$job.out")"
done

# ---- a node is lost, with what it had ----
until_so 200 stepped kept/log $((20 * faults + 7))
began=$(starts kept) said=$(grep -c '^survive:' "$job.out") at=$(epoch)
node_dies n3
until_so 200 first_step kept $((began + 1))
ok $? 'a node is killed: training again'
parts=$(parts "$at" "$said" kept)
diag "the loss of a node: $parts"
like "$parts" '^[0-9]+ s: detected [0-9]+ s, health [0-9]+ s, replanned [0-9]+ s, started [0-9]+ s, of which loading [0-9.]+ s$' 'in parts that its output tells'
finish 'survive.sbatch trains to the end over all of it' 'COMPLETED 0:0'
like "$(cat "$last.out")" '^lost +ranks 8-11: 4 of 16' 'what the node had is planned anew'
none "$(cut -d' ' -f1 kept/places | grep n3)" 'without it'
is "$(jq -r 'select(.kind == "start") | .world' kept/log | sort -n | uniq | tr '\n' ' ')" '8 16 ' 'on eight of the ranks'
is "$(jq -r 'select(.kind == "start") | .experts' kept/log | sort -u)" 64 'with all experts'
none "$(none_lost kept/log)" 'each start went on from the last whole checkpoint'
losses kept/log >kept.losses
near "$(tail -n 1 kept.losses | cut -d' ' -f2)" "$(tail -n 1 whole.losses | cut -d' ' -f2)" 0.02 'the final loss is that of the job to which nothing happened'
diag "losses at the end: $(tail -n 1 kept.losses) and $(tail -n 1 whole.losses); the same to the bit: $(cat kept.losses whole.losses | sort | uniq -d | wc -l) of $steps steps"
node_returns n3
ok $? 'the node comes back'

# ---- a rank is sick, and its experts go: 64 to 60 ----
make_plan E 16 --tp 2 --ep 16 --etp 1 --global-batch 56
export MOEKIT_EXPERTS=drop
survive "$scripts/survive.sbatch" E text.txt 30 dropped --lr 1e-3 --save-every 5 --timeout 20
until_so 200 stepped dropped/log 12
: >sick/n2.1
kill -9 "$(rank_pid "$job" 5)"
finish 'MOEKIT_EXPERTS=drop: trained to the end without the experts of a sick rank' 'COMPLETED 0:0'
like "$(cat "$last.out")" '^lost +rank 5: 1 of 16' 'health names the rank'
like "$(cat "$last.out")" '^experts +60 of 64 in every layer' 'four of 64 experts go'
is "$(ls dropped | grep experts | tr '\n' ' ')" 'experts-60 experts-64 ' 'the checkpoints of both are there'
moe-ckpt verify dropped/experts-60/step-00000030 >verified
ok $? 'and the last is whole'
table=$(sed -n '/^start .*experts.*loss$/,/^$/p' "$last.out")
diag "$table"
like "$table" ' 16 +64 .* -> ' 'the report has the loss before'
like "$table" ' 14 +60 .* -> ' 'and after'
near "$(jq -r 'select(.kind == "step" and .step == 11) | .loss' dropped/log | tail -n 1)" "$(jq -r 'select(.kind == "step" and .step == 10) | .loss' dropped/log)" 0.3 'and goes on near where it was'
slurm_ends
done_testing
