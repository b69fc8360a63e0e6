#!/bin/bash
# SPDX-License-Identifier: MIT
# Captured steps: backend cuda queues microbatches as graphs, on the emulator, and the run is bitwise the one that queues each operation. Where
# there are none the log says why; where one cannot be made, the run goes on without. And what products choose they choose before the first step.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/emulated.sh"
export MOEKIT_EMULATOR_CHECK=0 MOEKIT_EMULATOR_DEVICES=4

batch='--seq 4 --global-batch 4'
nccl=
small='hidden_size=16 head_dim=4 num_attention_heads=4 num_key_value_heads=2 intermediate_size=16'
run_options="-d $T/text -s 2 --lr-steps 2 --lr 2e-3 --backend cuda --loads-every 1 --eval $T/text --eval-every 1 --eval-steps 2 --timeout 60"
write_tokens text 97 2000
# shellcheck disable=SC2086
write_models num_hidden_layers=2 $small

logged() { sed -n 's/.*"kind":"start".*"capture":"\([^"]*\)".*/\1/p' "$T/$1.log" | tail -n 1; }
graphs() { sed -n 's/.*"kind":"step".*"graphs":\([0-9]*\).*/\1/p' "$T/$1.log" | tr '\n' ' '; }

# same NAME MODEL RANKS GRAPHS PLAN-OPTION…: with and without; how many graphs rank 0 queues in each step
same() {
    name=$1 ranks=$3 wanted=$4
    # shellcheck disable=SC2046,SC2086
    make_plan "$name" $(plan_of "$2") "${@:5}" && cp "$T/$name.plan" "$T/$name.off.plan" || { fail "$name"; return; }
    train "$name" "$ranks" $run_options $nccl --save "$T/$name" && train "$name.off" "$ranks" $run_options $nccl --save "$T/$name.off" --capture off ||
        { fail "$name"; diag "$(cat "$T/$name.err" "$T/$name.off.err")"; return; }
    is "$(logged "$name"), $(graphs "$name")" "on, $wanted " "$name: graphs of each step: $wanted"
    is "$(figures "$name")" "$(figures "$name.off")" "$name: bitwise the figures without"
    run moe-ckpt diff --optimizer "$T/$name/step-00000002" "$T/$name.off/step-00000002"
    is "$status" 0 "$name: and bitwise weights and moments" || diag "$out"
}

# Graphs are made before the second step. 4 microbatches, F and B each
same one-rank glm 1 '0 8'
same two-of-bf16 bf16 2 '0 4' --dp 2 --recompute full
# with buckets beside the last B, that is no graph
same buckets mix 2 '0 3' --dp 2 --overlap on --bucket-bytes 2000
same dropping cap 1 '0 8' --recompute selective
# seven microbatches of a stage are held at once
same pp2-vpp2 mix 2 '0 16' --pp 2 --vpp 2 --split 1,0,0,1
# B and W apart, two microbatches' memory
same pp2-zb tied 2 '0 12' --pp 2 --schedule zb-h1

# collectives of NCCL are in the graphs, of forward and of backward
export MOEKIT_EMULATOR_CHECK=1
nccl='--comm nccl'
same tp2 glm 2 '0 8' --tp 2
export MOEKIT_EMULATOR_CHECK=0
same tp2-pp2-zb tied 4 '0 12' --tp 2 --pp 2 --schedule zb-h1
nccl=

# ---- where there are none ----
is "$(logged one-rank.off)" 'off: --capture off' 'told not to: the log says so'
is "$(graphs one-rank.off)" '' 'and no step has a number of graphs'
# off NAME RANKS REASON OPTION…: a step of a plan with these options; those after -- are the run's
off() {
    off_name=$1 off_ranks=$2 off_reason=$3
    shift 3
    plan=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do plan+=("$1") && shift; done
    shift
    # shellcheck disable=SC2086
    make_plan "$off_name" mix $batch "${plan[@]}"
    train "$off_name" "$off_ranks" -d "$T/text" -s 1 --backend cuda "$@" || diag "$(cat "$T/$off_name.err")"
    like "$(logged "$off_name")" "^off: $off_reason" "$off_name: off, and why"
}
off ep 2 'ep 2: the host must know' --ep 2 --
off tp 2 "tp 2: ranks talk .* by communication 'mpi'" --tp 2 --
off etp 2 'etp 2: ranks talk' --etp 2 --
off timeline 1 'backend .* a timeline' -- --timeline "1-1:$T/timeline"
off dump 1 '--dump-routing' -- --dump-routing "$T/routing"
off cpu 1 "backend 'cpu' has no graphs" -- --backend cpu

# ---- where one cannot be made ----
# fails FUNCTION:N:ERROR: the run goes on, and is the same
fails() {
    name=fails-${1%%:*}
    cp "$T/one-rank.plan" "$T/$name.plan"
    # shellcheck disable=SC2086
    MOEKIT_EMULATOR_FAIL=$1 train "$name" 1 $run_options
    is "$? $(figures "$name")" "0 $(figures one-rank.off)" "$1: the run goes on without, and is the same"
    like "$(cat "$T/$name.err")" 'moe-train: steps go on without graphs: cuda: [a-z]+ing .*graph: ' 'and says so'
    is "$(graphs "$name")" '0 0 ' 'in the log too'
}
fails cudaStreamBeginCapture:1:900
fails cudaStreamEndCapture:1:901
fails cudaGraphInstantiateWithFlags:1:2

# pair NAME SETTING: the run of tp2 with this in the environment of rank 1; $status, $err
pair() {
    pair_name=$1 setting=$2
    # shellcheck disable=SC2086
    set -- moe-train -p "$T/tp2.plan" --log "$T/$pair_name.log" $run_options $nccl
    run mpirun --oversubscribe --bind-to none -n 1 "$@" : -n 1 env "$setting" "$@"
}
nccl='--comm nccl --timeout 6'
pair alone MOEKIT_EMULATOR_FAIL=cudaStreamEndCapture:3:901
is "$status $(figures alone)" "0 $(figures tp2.off)" 'one rank of a pair cannot make its third graph: the run goes on, and is the same'
like "$err" "steps go on without graphs: another rank of group 'tp' cannot" 'and the other says so'
is "$(graphs alone)" '0 0 ' 'and has none either'
pair lost MOEKIT_HALT=stop:graph:1
[ "$status" -ne 0 ]
ok $? "a rank is lost before its first graph: the job ends (status $status)" || diag "$err"
like "$(grep -h '"kind":"fault"' "$T/lost.log"*)" '"rank":1,.*"collective":"[a-z_]+","group":"tp","awaited":\[1\],"step":1,' \
    'and the fault record has the collective in the graph, its group and the step'
nccl=
cp "$T/one-rank.plan" "$T/launch.plan"
# shellcheck disable=SC2086
MOEKIT_EMULATOR_FAIL=cudaGraphLaunch:7:719 train launch 1 $run_options
is "$?" 3 'a graph that cannot be launched ends the run'
like "$(cat "$T/launch.err")" "step 2: cuda: launching a graph: " 'which is told'

# ---- algorithms ----
# All that a step asks for has been asked for before the first.
algorithms=$(tail -n +3 "$T/one-rank/step-00000002/algorithms.txt" | wc -l)
[ "$algorithms" -ge 10 ]
ok $? "$algorithms products are in the checkpoint's algorithms"
for n in 1 "$algorithms"; do
    cp "$T/one-rank.plan" "$T/choice$n.plan"
    # shellcheck disable=SC2086
    MOEKIT_EMULATOR_FAIL=cublasLtMatmulAlgoGetHeuristic:$n:1 train "choice$n" 1 $run_options
    is "$?" 3 "product $n has none: exit 3"
    like "$(grep -v scratch "$T/choice$n.err")" '^moe-train: cuda: cublasLt has no product of' 'before any step'
done
# shellcheck disable=SC2086
MOEKIT_EMULATOR_FAIL=cublasLtMatmulAlgoGetHeuristic:$((algorithms + 1)):1 train one-rank 1 $run_options --capture off
is "$?" 0 'and no more is asked for'
done_testing
