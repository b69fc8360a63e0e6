#!/bin/sh
# SPDX-License-Identifier: MIT
# The emulator of CUDA (t/emulator): kernels that are right give exact results with every seed, and each fault in t/emulator/test/faults.cu
# is noticed and named with every seed, with CUDA's own headers and with ours.
. "$(dirname "$0")/lib/tap.sh"
unset MOEKIT_EMULATOR_FAIL MOEKIT_EMULATOR_CHECK MOEKIT_EMULATOR_DEVICES

# What must be said of each fault.
cat >"$T/faults" <<'END_OF_FAULTS'
unread_barrier          race: .*'a' .* which thread [0-9]* of the block (wrote|read)
overwrite_barrier       race: .*'a' .* which (thread [0-9]*|several threads) of the block (wrote|read)
within_warp             race: .*'a' .* which thread [0-9]* of the block (wrote|read)
shuffled_warp           race: .*'a' .* which thread [0-9]* of the block (wrote|read)
half_synchronised       race: .*'a' .* which thread [0-9]* of the block (wrote|read)
between_blocks          race: writes allocation 1 .*, which another block of the kernel wrote
unfenced_blocks         race: reads allocation 1 .*, which another block of the kernel wrote
atomic_and_plain        race: .* allocation 1
barrier_after_exit      barrier after exit: __syncthreads\(\) at faults.cu:[0-9]*, when thread 5 has left
divergent_barriers      divergent barriers: thread [0-9]* at faults.cu:[0-9]*, thread [0-9]* at faults.cu
absent_lane             absent lane: __shfl_down_sync\(\) reads lane 20
absent_at_barrier       absent lane: a vote waits for thread 7, which waits in __syncthreads\(\)
not_in_mask             absent lane: __shfl_xor_sync\(\) with mask 0xffff by lane [0-9]*, which is not in it
partial_mma             absent lane: mma_bf16\(\) needs all 32 lanes
past_shared             writes outside: 4 bytes at shared array 'a' \(256 bytes\) \+ 256|race: .*'a'
past_row                reads outside: 4 bytes at allocation 1 \(512 bytes\) \+ 512
misaligned              misaligned: .* at .*faults.cu
host_pointer            reads outside: 4 bytes at 0x[0-9a-f]*, which is not device memory
overflow                signed overflow of a product at .*faults.cu
freed                   writes outside: 4 bytes at freed allocation
unwaited_copy           race: .*'a' .* to which thread [0-9]* of the block copies by a cp.async
unsynchronised_copy     race: .*'a'
overwriting_copy        race: .*'a'
wrong_fragment          wrong value
missing_event           race: (kernel 'between_blocks'|cudaMemsetAsync).*|race: writes allocation 1
missing_wait_of_reader  race: writes allocation 1 .*, which .*read
shared_workspace        cublasLtMatmul.*race: writes allocation
graph_not_awaited       race: .* allocation 3 .*, which .*
host_access             host access to device memory: allocation 1 \(512 bytes\) \+ 12
nccl_size               operation 1 of rank [0-9] with rank [0-9]: (8|12) bytes are (sent|received) here, and (12|8) (sent|received) there
nccl_number             operation 1 of rank [0-9] with rank [0-9]: [12] messages are (sent|received) here, and [12] (sent|received) there
nccl_order              operation 1 of rank [0-9] with rank [0-9] is nccl.* here, and nccl.* there
nccl_split              ncclCommSplit\(\) number 1 of 'world': it makes '[et]p' at rank [0-9], and '[et]p' at rank [0-9]
nccl_overtaken          cudaMemsetAsync\(\) is queued, and NCCL's call before it is still in progress
nccl_missing_event      race: writes allocation 2 .*, which .* wrote
nccl_graph_alone        operation 1 of rank [0-9] with rank [0-9] is captured operation [01] here, and [01] there
nccl_other_graph        operation 1 of rank [0-9] with rank [0-9] is captured operation [12] here, and [12] there
nccl_graph_kept         ncclCommFinalize\(\) of 'world', of which a graph still has operations
nccl_past_end           writes outside: 32 bytes at allocation 2 \(64 bytes\) \+ 64
END_OF_FAULTS
[ "$(wc -l <"$T/faults")" -ge 25 ]
ok $? 'faults are listed'

# one PROGRAM SEED: what is right is right, and what is wrong is noticed
one() {
    MOEKIT_EMULATOR_SEED=$2
    export MOEKIT_EMULATOR_SEED
    run "$1"
    is "$status $out$err" '0 ' "seed $2: what is right gives exact results, and nothing is said"
    run "$1" nccl
    is "$status $out$err" '0 ' "seed $2: three ranks talk by NCCL, all at once in two groups"
    run "$1" nccl_told_to_fail
    is "$status $out$err" '0 ' "seed $2: an operation of NCCL fails when it is told to, and is aborted"
    while read -r name said; do
        run "$1" "$name"
        { [ "$status" -eq 86 ] && printf '%s\n' "$err" | grep -Eq -e "$said"; } || echo "$name: exit $status, $err"
    done <"$T/faults" >"$T/unnoticed"
    none "$(cat "$T/unnoticed")" "seed $2: every fault is noticed, and named"
}

seeds='1 2 3'
[ -z "${MOEKIT_LARGE:-}" ] || seeds=$(seq 1 50)
for build in emulated emulated-bare; do
    program=$top/.build/$build/t/emulator-test
    need emulator test -x "$program" || continue
    for seed in $seeds; do one "$program" "$seed"; done
    # each name in the table is one that the program has: another is not noticed
    run "$program" no_such_fault
    is "$status" 0 "$build: no fault, no notice"
    # the places are named, where there is something that knows them
    if command -v addr2line >/dev/null; then
        run "$program" past_row
        like "$err" "kernel 'past_row', thread [0-9]+ of block \(0,0,0\) at faults.cu:[0-9]+: .*SEED=" "$build: a kernel and its line are named"
    fi
    unset MOEKIT_EMULATOR_SEED
    run "$program"
    like "$err" '^emulator: MOEKIT_EMULATOR_SEED=[0-9]+$' "$build: a seed that was not given is said"
    MOEKIT_EMULATOR_FAIL=cudaStreamCreateWithFlags:1:100 run "$program"
    is "$status" 3 "$build: a failure that is asked for comes"
    MOEKIT_EMULATOR_FAIL=kernel:2:719 run "$program"
    like "$status $out" '1 wrong: row sums|1 wrong: ' "$build: and so does a kernel's, for all calls after it"
done
done_testing
