#!/bin/sh
# SPDX-License-Identifier: MIT
# The scripts of share/slurm on a real Slurm of four nodes, as a user runs them: jobs are interrupted by their time limit, by scancel and by a
# rank that dies, and train what one does that was never interrupted, to the bit.
. "$(dirname "$0")/../lib/tap.sh"
. "$top/t/lib/slurm.sh"
steps=600
cat "$top/README" "$top"/share/man/*.1 >text.txt
# nodes N RANKS: a cluster file
nodes() { echo "{\"name\": \"test\", \"device\": \"cpu\", \"nodes\": $1, \"ranks_per_node\": $2, \"memory_bytes\": 4e9}" >"nodes$1x$2.json"; }
nodes 4 1
nodes 2 2
layout='--ep 2 --tp 2 --pp 2 --seq 32 --global-batch 8'
# shellcheck disable=SC2086
moe-partition -m moe-tiny -n 4 -c nodes4x1.json $layout -o plan && moe-plan-check plan >plan.checked
ok $? 'a plan for four nodes is made and checked'
# shellcheck disable=SC2086
moe-partition -q -m moe-tiny -n 4 -c nodes2x2.json $layout -o pairs
ok $? 'and one for two nodes of two ranks'

# ---- the time limit ----
finish 'train.sbatch trains to the end' 'COMPLETED 0:0' "$scripts/train.sbatch" plan text.txt $steps whole --lr 1e-3
like "$(cat "$last.out")" "no checkpoint under 'whole': starting from step 0" 'from step 0, as there is none, which it says'
losses whole/log >whole.losses
is "$(grep -c . whole.losses)" $steps 'and logs every step'
# Slurm looks at limits every half minute: the signal comes in the first half of the one that it is.
finish 'requeue.sbatch trains to the end' 'COMPLETED 0:0' --time=1 --signal=USR1@30 "$scripts/requeue.sbatch" plan text.txt $steps parts --lr 1e-3
[ "$(field "$last" Restarts)" -ge 1 ] && grep -q 'resumed from' "$last.out"
ok $? "over $(field "$last" Restarts) requeues" || diag "$(tail -n 20 "$last.out")"
losses parts/log | cmp - whole.losses
ok $? 'with the losses of the job that was not interrupted, to the bit'
is "$(moe-stat -f json parts/log | jq .steps) $(moe-ckpt verify "parts/step-$(printf %08d $steps)" | grep -c whole)" "$steps 1" 'moe-stat and moe-ckpt agree'

# ---- scancel ----
submit "$scripts/requeue.sbatch" plan text.txt 100000 cancelled --lr 1e-3
until_so 60 stepped cancelled/log 3
sleep 1 # so that Slurm has both
first=$job job=
finish 'a second job on its root is refused' 'FAILED 3:0' "$scripts/train.sbatch" plan text.txt 100000 cancelled --lr 1e-3
like "$(cat "$last.out")" "'cancelled' is in use" 'by the first one'
job=$first
scancel "$job"
finish 'a job that is cancelled stays so' 'CANCELLED 0:15'
is "$(squeue -h | grep -c .) $(moe-ckpt list cancelled | grep -c step-)" '0 1' 'and leaves a checkpoint'

# ---- a rank that dies ----
# Slurm's PMIx kills all others soon, as there is one on its node: the record must be there by then, long before any time-out.
submit -N 2 --ntasks-per-node=2 "$scripts/requeue.sbatch" pairs text.txt 200 killed --lr 1e-3 --save-every 20
until_so 90 stepped killed/log 45
kill -9 "$(rank_pid "$job" 2)"
until_so 30 sh -c "scontrol show job $job | grep -q Restarts=1"
ok $? 'requeue.sbatch does not wait for the time-out when a rank has died'
finish 'requeue.sbatch goes on after the death of a rank' 'COMPLETED 0:0'
is "$(field "$last" Restarts) $(sed -n '/"kind":"fault"/s/.*"rank":\([0-9]*\).*/\1/p' killed/log | sort -u)" '1 2' 'by a requeue; the rank is on record'
losses killed/log | cmp - whole.losses 2>&1 | grep -q 'EOF on -'
ok $? 'and the losses are the same, to the bit'
srun -N 4 --ntasks-per-node=1 --kill-on-bad-exit=1 moe-train -p plan -d text.txt -s 100000 --log bad-exit.log >bad-exit.out 2>&1 &
srun=$!
until_so 60 stepped bad-exit.log 3
kill -9 "$(rank_pid "$(squeue -h -o %i)" 2)"
wait $srun
like "$(cat bad-exit.log bad-exit.log.fault.* 2>/dev/null | grep '"kind":"fault"')" '"rank":2,' 'it is too, with --kill-on-bad-exit and the default time-out, before Slurm kills'

# ---- placement, and how ranks are started ----
run timeout 60 srun -N 2 --ntasks-per-node=2 -m cyclic moe-train -p pairs -d text.txt -s 1 --log pairs.log
is "$status" 2 'srun -m cyclic is refused'
like "$err" 'group [a-z]+ 0 is on 2 hosts, the plan says 1.*: start it with srun -N 2 --ntasks-per-node=2 -m block,' 'the group is named, and how to put it right'
run timeout 60 srun -N 2 --ntasks-per-node=2 -m block moe-train -p pairs -d text.txt -s 1 --log pairs.log
is "$status $(sed -n 's/.*"kind":"start".*"hosts":\([0-9]*\).*/\1/p' pairs.log)" '0 2' 'which it does'
# Ranks 1 and 2 change places: no distribution of srun's has that.
sed -E '/^sum/d; s/^rank 1 node=0/rank 1 node=1/; s/^rank 2 node=1/rank 2 node=0/' pairs >crossed
moe-plan-check --seal crossed && moe-partition emit slurm crossed -o crossed.sbatch && moe-partition emit rankfile crossed -o ranks
ok $? 'a plan for which no distribution of srun is right'
run timeout 60 srun -N 2 --ntasks-per-node=2 -m block moe-train -p crossed -d text.txt -s 1 --log crossed.log
like "$status $err" '^2 .*group pp 0 is on 2 hosts, the plan says 1.*: start it with srun -m arbitrary \(moe-partition emit slurm\)' 'is refused with another'
printf 'n2\nn1\nn1\nn2\n' >wrong.hosts
run env SLURM_HOSTFILE="$T/wrong.hosts" timeout 60 srun -n 4 -m arbitrary moe-train -p crossed -d text.txt -s 1 --log crossed.log
is "$status" 2 'a host file in the wrong order too'
job=$(sbatch --parsable -o "$T/%j.out" crossed.sbatch moe-train -p crossed -d text.txt -s 2 --log crossed.log)
finish 'the script of emit slurm puts it right' 'COMPLETED 0:0' -N 2 --ntasks-per-node=2 crossed.sbatch moe-train -p crossed -d text.txt -s 2 --log crossed.log
is "$(sed -n 's/.*"kind":"start".*"hosts":\([0-9]*\).*/\1/p' crossed.log | tail -n 1)" 2 'on two hosts'
job=$(sbatch --parsable -N 2 --ntasks-per-node=2 -o "$T/%j.out" --wrap 'mpirun -n 4 --rankfile ranks moe-train -p crossed -d text.txt -s 1 --log ranks.log')
until_so 120 ended "$job"
is "$(field "$job" ExitCode) $(sed -n 's/.*"kind":"start".*"hosts":\([0-9]*\).*/\1/p' ranks.log)" '0:0 2' 'and so does that of emit rankfile, with mpirun' || diag "$(tail -n 20 "$job.out")"
job=

run timeout 60 srun -N 1 --ntasks-per-node=3 moe-train -p plan -d text.txt -s 1 --log pairs.log
like "$status $err" '^2 .*start it with srun -N 4 --ntasks-per-node=1' 'a wrong number of ranks is told of in words of srun'
for kind in none pmi2; do
    run timeout 60 srun --mpi=$kind -N 1 --ntasks-per-node=4 moe-train -p plan -d text.txt -s 1 --log none.log
    is "$status $(printf '%s\n' "$err" | grep -v '^srun:' | cut -c1-88)" "3 moe-train: the ranks cannot find each other: start them with srun --mpi=pmix (srun --mpi" "--mpi=$kind: one line says what to do"
done
unset OMP_NUM_THREADS
run timeout 60 srun -N 1 --ntasks-per-node=4 moe-train -p plan --placement warn -d text.txt -s 1 --log threads.log

is "$status $(sed -n 's/.*"kind":"start".*"threads":\([0-9]*\).*/\1/p' threads.log)" "0 1" 'four ranks that are not bound share four processors'
export OMP_NUM_THREADS=1

# ---- layouts measured ----
echo '{"name": "test", "device": "cpu", "nodes": 4, "ranks_per_node": 1, "memory_bytes": 4e9, "memory_Bps": 1e10,
       "flops": {"f32": 4e11}, "intra_Bps": 5e9, "inter_Bps": 1e9, "intra_s": 1e-6, "inter_s": 1e-5}' >measured.json
swept() { [ "$(wc -l <swept/results)" -eq 2 ]; }
# A task whose MPI crashed at its start is submitted again, as finish() does.
tasks=0-1
for try in 1 2 3; do
    submit --array=$tasks "$scripts/array-sweep.sbatch" moe-tiny measured.json text.txt 12 swept --seq 32 --global-batch 8
    until_so 60 swept && break
    diag "array-sweep, try $try: $(tail -n 3 ./*.out)"
    case $(cat swept/results 2>/dev/null) in *swept/000.plan*) tasks=1 ;; *swept/001.plan*) tasks=0 ;; esac
done
swept
ok $? 'array-sweep.sbatch runs the two best layouts that search finds'
is "$(awk '$1 > 0 && $2 > 0 && $3 ~ /^swept\/00[01].plan$/' swept/results | wc -l)" 2 'and has a result of each'
job=

# ---- all in one ----
finish 'pipeline.sbatch goes from a model to a report' 'COMPLETED 0:0' "$scripts/pipeline.sbatch" moe-tiny text.txt 10 piped -c nodes4x1.json --ep 2 --tp 2 --pp 2 --seq 32 --global-batch 8
[ -s piped/report.html ] && moe-ckpt verify piped/step-00000010.tar >/dev/null
ok $? 'and leaves the report and a whole archive'

slurm_ends
done_testing
