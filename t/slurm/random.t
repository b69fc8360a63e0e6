#!/bin/sh
# SPDX-License-Identifier: MIT
# Twenty faults in a row under survive.sbatch, with nobody's help: of a random kind (what a rank or node can do, a slow rank, a full disk), in a random
# rank, at a random step, by $SEED. Some ten minutes: with MOEKIT_LARGE=1. Six nodes, four of which the plan takes.
. "$(dirname "$0")/../lib/tap.sh"
need_for_all large test -n "${MOEKIT_LARGE:-}"
NODES=6
export NODES
. "$top/t/lib/slurm.sh"
. "$top/t/lib/survive.sh"
seed=${SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')} draws=0
diag "SEED=$seed"
# random N: $drawn, from 0
random() {
    draws=$((draws + 1))
    drawn=$(awk -v seed=$((seed + 7919 * draws)) -v n="$1" 'BEGIN { srand(seed); rand(); print int(n * rand()) }')
}
# A job's own node is not among them (faults.t has that), and two of six nodes are all that the plan can spare.
kinds='KILL KILL KILL KILL ABRT ABRT ABRT ABRT STOP STOP STOP STOP slow slow slow disk disk disk node node'
kinds=$(echo "$kinds" | tr ' ' '\n' | awk -v seed="$seed" 'BEGIN { srand(seed) } { print rand(), $0 }' | sort -n | cut -d' ' -f2)
[ -z "${KINDS:-}" ] || kinds=$KINDS
count=$(echo "$kinds" | wc -w)
steps=$((10 * count + 30))
options='--lr 1e-3 --save-every 3 --timeout 10'

make_plan A 16 --tp 2 --ep 4 --etp 2 --pp 2 --global-batch 24
# shellcheck disable=SC2086
finish 'nothing happens: trained to the end' 'COMPLETED 0:0' -N 4 --ntasks-per-node=4 "$scripts/train.sbatch" A text.txt $steps whole $options
losses whole/log >whole.losses

mkdir -p run/experts-64
need_for_all tmpfs mount -t tmpfs -o size=96m moekit run/experts-64
trap 'umount -l "$T/run/experts-64"; "$top/t/slurm/cluster" stop "$T/slurm" && rm -rf "$T"' EXIT
# shellcheck disable=SC2086
survive -N 6 "$scripts/survive.sbatch" A text.txt $steps run $options
n=0
for kind in $kinds; do
    n=$((n + 1))
    random 4
    until_so 300 stepped run/log $((10 * n + drawn))
    began=$(starts run) faults=$(grep -c '"kind":"fault"' run/log) said=$(grep -c '^survive:' "$job.out") at=$(epoch)
    random "$(wc -l <run/places)"
    rank=$drawn host=$(sed -n "$((rank + 1))s/ .*//p" run/places) number=$(sed -n "$((rank + 1))s/.* //p" run/places)
    what="rank $rank on $host"
    case $kind in
    node)
        [ "$host" != "$(field "$job" BatchHost)" ] || host=$(cut -d' ' -f1 run/places | uniq | sed -n 2p)
        what="$host"
        node_dies "$host"
        ;;
    disk)
        what='full'
        dd if=/dev/zero of=run/experts-64/filler bs=1M 2>/dev/null
        until_so 120 sh -c "[ \$(grep -c '\"kind\":\"fault\"' run/log) -gt $faults ]"
        rm run/experts-64/filler
        ;;
    slow)
        : >"sick/$host.$number"
        kill -s KILL "$(rank_pid "$job" "$rank")"
        ;;
    *) kill -s "$kind" "$(rank_pid "$job" "$rank")" ;;
    esac
    if [ "$kind" = disk ]; then
        until_so 120 sh -c "tail -n 1 run/log | grep -q '\"kind\":\"save\"\|\"kind\":\"step\"'"
        ok $? "fault $n, disk: a save without space is on record, and the run goes on"
        continue
    fi
    until_so 300 first_step run $((began + 1))
    ok $? "fault $n, $kind of $what: training again; $(parts "$at" "$said" run)" || diag "$(tail -n 30 "$job.out")"
    [ "$kind" != slow ] || is "$(jq -r '.sick[] | "\(.host).\(.local)"' run/health)" "$host.$number" 'health names the slow one'
    [ "$kind" != node ] || node_returns "$host"
    rm -f sick/*
done
finish 'trained to the end over all of it' 'COMPLETED 0:0'
none "$(none_lost run/log)" 'each start went on from the last whole checkpoint'
is "$(moe-stat -q -f json run/log | jq .steps) $(jq -r 'select(.kind == "start") | .experts' run/log | sort -u)" "$steps 64" 'with all steps and all experts'
losses run/log >run.losses
near "$(tail -n 1 run.losses | cut -d' ' -f2)" "$(tail -n 1 whole.losses | cut -d' ' -f2)" 0.02 'the final loss is that of the job to which nothing happened'
diag "losses at the end: $(tail -n 1 run.losses) and $(tail -n 1 whole.losses); the same to the bit: $(cat run.losses whole.losses | sort | uniq -d | wc -l) of $steps steps; ranks: $(jq -r 'select(.kind == "start") | .world' run/log | tr '\n' ' ')"
umount run/experts-64
slurm_ends
done_testing
