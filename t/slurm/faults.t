#!/bin/sh
# SPDX-License-Identifier: MIT
# survive.sbatch on a real Slurm where not only ranks are at fault: a slow one, a spare node, a full disk, the script's own node, bad input.
. "$(dirname "$0")/../lib/tap.sh"
. "$top/t/lib/slurm.sh"
. "$top/t/lib/survive.sh"
options='--lr 1e-3 --save-every 5 --timeout 20'
make_plan three 12 --tp 2 --ep 3 --etp 2 --pp 2 --global-batch 24
make_plan four 16 --tp 2 --ep 4 --etp 2 --pp 2 --global-batch 24

# ---- a rank that is slow, and a spare node ----
: >sick/n2.1
# shellcheck disable=SC2086
finish 'a plan for three nodes on four, one of which has a slow rank' 'COMPLETED 0:0' --ntasks-per-node=4 "$scripts/survive.sbatch" three text.txt 10 spared $options
is "$(jq -r '.sick[] | "\(.host).\(.local)"' spared/health)" n2.1 'health names it' || diag "$(cat spared/health.?)"
like "$(cat "$last.out")" "host 'n4' takes the place of 'n2'" 'the spare node takes the place of its node'
is "$(cut -d' ' -f1 spared/places | uniq | tr '\n' ' ') $(moe-stat -q -f json spared/log | jq .steps)" 'n1 n4 n3  10' 'and trains'
# The same three nodes without health: moe-stat finds it afterwards. More tokens, so that a step is computing too.
moe-partition -q -m config.json -n 12 -c nodes.json --seq 256 --tp 2 --ep 3 --etp 2 --pp 2 --global-batch 24 -o long
printf 'n%s\n' 1 1 1 1 2 2 2 2 3 3 3 3 >slow.hosts
for try in 1 2 3; do
    rm -f slow.log
    # shellcheck disable=SC2016
    SLURM_HOSTFILE="$T/slow.hosts" timeout 200 srun -n 12 -m arbitrary sh -c 'CUDA_VISIBLE_DEVICES=$SLURM_LOCALID exec moe-train -p long -d text.txt -s 8 --log slow.log' \
        >slow.out 2>&1 && break
done
moe-stat slow.log | sed -n '/^phase/,/^idle/p' >slow.phases
is "$(awk '$1 == "forward" { print $5 }' slow.phases)" 5 'moe-stat finds the same rank slow afterwards'
diag "$(cat slow.phases)"
rm sick/n2.1

# ---- the disk is full during a save ----
mkdir -p full/experts-64
if need tmpfs mount -t tmpfs -o size=24m moekit full/experts-64; then
    trap 'umount -l "$T/full/experts-64"; "$top/t/slurm/cluster" stop "$T/slurm" && rm -rf "$T"' EXIT
    # shellcheck disable=SC2086
    survive "$scripts/survive.sbatch" four text.txt 40 full $options --keep 1
    until_so 120 stepped full/log 7
    dd if=/dev/zero of=full/experts-64/filler bs=1M 2>/dev/null
    until_so 120 grep -q '"kind":"fault".*No space' full/log
    ok $? 'a save for which there is no space is on record'
    rm full/experts-64/filler
    finish 'and when there is, the job goes on to its end' 'COMPLETED 0:0'
    is "$(moe-stat -f json full/log | jq .steps) $(moe-ckpt verify full/experts-64/step-00000040 | grep -c whole)" '40 1' 'with all steps and a whole checkpoint'
    umount full/experts-64
    trap '"$top/t/slurm/cluster" stop "$T/slurm" && rm -rf "$T"' EXIT
fi

# ---- the node of the script ----
# shellcheck disable=SC2086
survive "$scripts/survive.sbatch" three text.txt 30 first $options
until_so 120 stepped first/log 7
node=$(field "$job" BatchHost) second=$(sinfo -h -N -o %N | grep -vx "$node" | tail -n 1)
node_dies "$node" "$second"
until_so 120 sh -c "scontrol show job $job | grep -q Restarts=1"
ok $? "the script's own node is lost and another with it: one of the rest requeues the job"
node_returns "$node"
node_returns "$second"
finish 'which goes on to its end' 'COMPLETED 0:0'
none "$(none_lost first/log)" 'from the last whole checkpoint'

# ---- bad input ----
refused() { # NAME STATUS WORDS SBATCH-ARGUMENTS…
    refused_name=$1 refused_status=$2 refused_words=$3
    shift 3
    finish "$refused_name: the job ends" "FAILED $refused_status:0" "$@"
    like "$(cat "$last.out")" "$refused_words" "it says: $refused_words"
}
refused 'a plan for more nodes than the job has' 2 'the plan has 4 nodes, and there are 2 hosts' -N 2 --ntasks-per-node=4 "$scripts/survive.sbatch" four text.txt 5 few
refused 'a plan that is none' 2 'nobody' --ntasks-per-node=4 "$scripts/survive.sbatch" nobody text.txt 5 none
mkdir -p broken/experts-64
cp -r first/experts-64/step-00000030 broken/experts-64
for f in broken/experts-64/step-*/*; do [ ! -f "$f" ] || : >"$f"; done
refused 'only broken checkpoints' 2 'none .*whole|no whole|not whole' --ntasks-per-node=4 "$scripts/survive.sbatch" three text.txt 5 broken
like "$(cat "$last.out")" 'moe-train ended with 2' 'once'
# shellcheck disable=SC2086
job=$(sbatch --parsable -N 2 --ntasks-per-node=2 -o "$T/%j.out" --wrap 'sleep 60') && mkdir -p two && echo "$job" >two/job
until_so 20 sh -c "squeue -h -j $job -o %T | grep -q RUNNING"
holder=$job job=
refused 'two jobs on one root' 2 "job $holder runs in two" -N 2 --ntasks-per-node=2 "$scripts/survive.sbatch" three text.txt 5 two
scancel "$holder"
slurm_ends
done_testing
