#!/bin/sh
# SPDX-License-Identifier: MIT
# moe-partition emit: a plan in other tools' forms. The JSON is in t/0100-partition.t; t/slurm has the script on a real Slurm.
. "$(dirname "$0")/lib/tap.sh"
cd "$T" || exit 1

moe-partition --strategy ep16-tp4-pp2 -o a.plan
moe-partition --strategy ep16-tp4-pp2-folded -o b.plan

# ---- slurm: where each rank starts ----
# Ranks 1 and 2 change places, and the plan's second node stays empty: what -m block cannot do.
echo '{"device": "cpu", "nodes": 3, "ranks_per_node": 2, "memory_bytes": 4e9}' >nodes.json
moe-partition -q -m moe-tiny -n 4 -c nodes.json --ep 2 --tp 2 --pp 2 --seq 32 --global-batch 8 -o pairs.plan
sed -E '/^sum/d; s/^rank ([13]) node=[01]/rank \1 node=2/; s/^rank 2 node=1/rank 2 node=0/' pairs.plan >crossed.plan
moe-plan-check --seal crossed.plan
ok $? 'a plan whose ranks do not lie in order'
mkdir stubs
printf '#!/bin/sh\necho h7; echo h9\n' >stubs/scontrol
printf '#!/bin/sh\necho "$*"; cat "$SLURM_HOSTFILE"\nexit 75\n' >stubs/srun
chmod +x stubs/*
for p in crossed a b; do
    moe-partition emit slurm $p.plan -o $p.sbatch && sh -n $p.sbatch
    ok $? "emit slurm of $p is a script"
done
mkdir tmp
job() { TMPDIR=$T/tmp PATH=$T/stubs:$PATH SLURM_JOB_NODELIST=x sh "$@"; }
run job crossed.sbatch moe-train -p 'a plan'
is "$status $(echo "$out" | tr '\n' ' ')" '75 --mpi=pmix -n 4 -m arbitrary --kill-on-bad-exit=0 --wait=0 moe-train -p a plan h7 h9 h7 h9 ' \
    'it starts each rank on its host, and keeps the status'
like "$(grep '^#SBATCH' crossed.sbatch)" '--nodes=2 --ntasks-per-node=2$' 'and asks for as many hosts as have ranks'
is "$(ls tmp)" '' 'the host file goes'
like "$(cat a.sbatch)" 'gpus-per-node=8' 'GPUs are asked for where the cluster has them'
unlike "$(cat crossed.sbatch)" gpus 'and not elsewhere'
run job crossed.sbatch
is "$status $out" '2 ' 'without a command it exits 2'
sed -n 's/^rank [0-9]* node=\([0-9]*\).*/\1/p' a.plan >wanted
(eval "$(sed -n '/^places=/,/^SLURM_HOSTFILE/p' a.sbatch | sed '$d')"; for place in $places; do echo "$place"; done) | awk -F'*' '{ for (i = 0; i < $2; i++) print $1 }' | cmp - wanted
ok $? 'all 128 ranks are on their nodes'
if need shellcheck command -v shellcheck; then
    is "$(shellcheck -s sh crossed.sbatch a.sbatch)" '' 'shellcheck finds nothing in it'
fi
sed 's/"nodes"/"name": "two\\nlines\\nrm -rf x", "nodes"/' nodes.json >lines.json
moe-partition -q -m moe-tiny -n 4 -c lines.json | moe-partition emit slurm - >lines.sbatch
is "$(grep -c '^rm' lines.sbatch), $(grep -c 'two?lines?rm' lines.sbatch)" '0, 1' 'a name cannot become a command'

# ---- rankfile ----
moe-partition emit rankfile crossed.plan >ranks
is "$(grep -v '^#' ranks | tr '\n' ' ')" 'rank 0=+n0 slot=0:* rank 1=+n1 slot=0:* rank 2=+n0 slot=0:* rank 3=+n1 slot=0:* ' 'emit rankfile'
if need mpirun mpirun --version; then
    sed "s/+n[01]/$(hostname)/" ranks >here
    run env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -n 4 --rankfile here sh -c 'echo $OMPI_COMM_WORLD_RANK'
    is "$status $(echo "$out" | sort | tr '\n' ' ')" '0 0 1 2 3 ' 'which mpirun takes'
fi
done_testing
