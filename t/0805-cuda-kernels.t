#!/bin/sh
# SPDX-License-Identifier: MIT
# The kernels of kernels/cuda on the emulator, under its race checker, equal kernels/ref over the awkward shapes of t/unit/kernels*.c. The first
# run checks races; a second with another seed, and so another order of threads, blocks and streams, compares numbers alone, on the build
# without the toolkit's headers where both are there. MOEKIT_LARGE=1: every build and many seeds, all checked.
. "$(dirname "$0")/lib/tap.sh"
unset MOEKIT_EMULATOR_FAIL MOEKIT_EMULATOR_CHECK MOEKIT_EMULATOR_DEVICES
export CMOCKA_MESSAGE_OUTPUT=TAP MOEKIT_BACKEND=cuda OMP_NUM_THREADS=1

builds=
for build in emulated emulated-bare; do
    test -e "$top/.build/$build/lib/moekit/moekit-cuda.so" && builds="$builds $build"
done
first=${builds# }
first=${first%% *}
need_for_all cuda test -x "$top/.build/${first:-emulated}/t/kernels" # make EMULATED=1 all unit

# No operation goes without a case that runs it on every backend.
cases="kernels kernels-loss kernels-route"
sed -n '/^#define BACKEND_OPS/,/^$/p' "$top/kernels/ops.h" | grep -oE 'X\([a-z0-9_]+\)' | tr -d 'X()' | grep -vx name >"$T/operations"
[ "$(wc -l <"$T/operations")" -ge 40 ]
ok $? "the table's operations are found: $(wc -l <"$T/operations")"
none "$(while read -r op; do (cd "$top/t/unit" && grep -q "be->$op(" $(printf '%s.c ' $cases)) || echo "$op"; done <"$T/operations")" \
    'each is run by a case of t/unit/kernels*.c'

# one BUILD SEED: the cases against the module of this build
one() {
    for program in $cases backends; do
        MOEKIT_LIB=$top/.build/$1/lib/moekit MOEKIT_EMULATOR_SEED=$2 run "$top/.build/$first/t/$program"
        [ "$status" -eq 0 ] && printf '%s\n' "$out" | grep -q '^1\.\.[1-9]' && ! printf '%s\n' "$out" | grep -q '^not ok'
        ok $? "$1, seed $2: $program, $(printf '%s\n' "$out" | grep -c '^ok') cases" || diag "exit status $status" "$out" "$err"
    done
}

one "$first" 1
if [ -n "${MOEKIT_LARGE:-}" ]; then
    for seed in $(seq 2 12); do
        for build in $builds; do one "$build" "$seed"; done
    done
else
    export MOEKIT_EMULATOR_CHECK=0
    one "${builds##* }" 2
fi
done_testing
