#!/bin/sh
# SPDX-License-Identifier: MIT
# The tests of kernels are themselves tested: with each fault that is seeded in kernels/cuda (fault() in kernels/cuda/device.h) a case of
# t/unit that passes without must fail, or the emulator must end it with a report, as the table says.
. "$(dirname "$0")/lib/tap.sh"
unset MOEKIT_EMULATOR_FAIL MOEKIT_EMULATOR_CHECK MOEKIT_EMULATOR_DEVICES
export CMOCKA_MESSAGE_OUTPUT=TAP MOEKIT_BACKEND=cuda OMP_NUM_THREADS=1 MOEKIT_EMULATOR_SEED=1

build=emulated
[ -x "$top/.build/$build/t/kernels" ] || build=emulated-bare
need_for_all cuda test -x "$top/.build/$build/t/kernels" # make EMULATED=1 emulator-test

# fault, program, test, type, and what must be said: by the emulator, or of a number
cat >"$T/table" <<'END_OF_TABLE'
tile-rows               kernels test_grouped bf16           at tile.h:[0-9]*: reads outside
tile-columns            kernels test_grouped bf16           is .*, not
fragment-registers      kernels test_grouped bf16           is .*, not
fragment-lane           kernels test_attention bf16         is .*, not
grouped-wait            kernels test_grouped bf16           by a cp.async that it has not waited for
grouped-barrier         kernels test_grouped bf16           race: reads shared array 'dynamic'
grouped-ring            kernels test_grouped bf16           race: .* shared array 'dynamic'
grouped-offset          kernels test_grouped f32            is .*, not
grouped-bound           kernels test_grouped f32            (reads|writes) outside
grouped-list            kernels test_grouped f32            at grouped.h:[0-9]*: race
grouped-f32-barrier     kernels test_grouped f32            race: .* shared array '[ab]'
attention-mask          kernels test_attention bf16         is .*, not
attention-fade          kernels test_attention bf16         is .*, not
attention-wait          kernels test_attention bf16         by a cp.async that it has not waited for
attention-barrier       kernels test_attention bf16         race: .* shared array 'dynamic'
attention-shuffle       kernels test_attention bf16         is .*, not
attention-keys-read     kernels test_attention bf16         kernel 'attention_dq.* race: writes
attention-queries-wait  kernels test_attention bf16         by a cp.async that it has not waited for
attention-tail          kernels test_attention bf16         reads outside
attention-f32-warp      kernels test_attention f32          race: reads shared array 'dynamic'
line-barrier            kernels test_norm f32               race: writes shared array 'of_warp'
norm-barrier            kernels test_norm f32               at norm.cu:[0-9]*: race
tile-place              kernels test_swiglu f32             is .*, not
misaligned              kernels test_swiglu f32             (reads|writes) outside|misaligned
count-ignored           kernels test_swiglu f32             is .*, not
add-tail                kernels test_elementwise f32        (reads|writes) outside
sort-barrier            kernels-route test_route f32        kernel 'sort_count<.* race
sort-first              kernels-route test_route f32        kernel 'sort_scatter<.* race
router-tie              kernels-route test_ties f32         is .*, not
router-warp             kernels-route test_ties f32         kernel 'router_warp'.* race
stats-barrier           kernels-route test_route bf16       kernel 'router_stats_piece'.* race
regroup-offset          kernels-route test_arrivals f32     (reads|writes) outside|is .*, not
scan-barrier            kernels-route test_route f32        race: .* shared array 'of_warp'
capacity-barrier        kernels-route test_capacity f32     kernel 'capacity_keep'.* race
capacity-ties           kernels-route test_capacity f32     is .*, not
embedding-last          kernels-loss test_embedding f32     is .*, not
total-barrier           kernels-loss test_total f32         race: .* shared array 'of_thread'
event-wait              backends streams_in_turn f32        race: .* allocation
END_OF_TABLE
while read -r fault program test type said; do
    MOEKIT_FAULT=$fault MOEKIT_TYPE=$type run "$top/.build/$build/t/$program" "$test"
    noticed=$(printf '%s\n' "$err" | grep -E -m 1 -e "$said" | sed 's/^emulator: //; s/^ERROR: //; s/ (MOEKIT_EMULATOR_SEED=1)//')
    [ "$status" -ne 0 ] && [ -n "$noticed" ]
    ok $? "$fault: $program, $test: $noticed" || diag "exit status $status: $err"
done <"$T/table"

# All that the source knows have been tried, and without one the cases pass (0805).
is "$(cut -d' ' -f1 "$T/table" | sort)" "$(grep -rhoE '\bfault\("[a-z0-9-]+"\)' "$top/kernels/cuda" | cut -d'"' -f2 | sort -u)" 'every seeded fault is tried'
done_testing
