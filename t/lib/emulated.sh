# SPDX-License-Identifier: MIT
# For tests of moe-train with backend cuda on the emulator (t/emulator). Source after tap.sh, in place of layouts.sh, which it has. Bash.
#
#   check_cuda NAME KIND RANKS COMM PLAN-OPTION…   trains a layout with communication COMM: it is the run of one rank of backend cpu, figures to
#                     1e-4, weights to 1e-3 a tensor, every token at the same experts unless its margin is below 1e-5; in bf16 as near to f32
#                     as twice what one rank of cpu is, in the worse of its ways. Sets $name, $kind, $ranks. The test says $recipe, $steps and $batch
#
# $build is the build, .build/$build: $MOEKIT_EMULATED, or with the toolkit's headers, or without where there is no other. The rest of the file is skipped without one.

build=${MOEKIT_EMULATED:-emulated}
[ -x "$top/.build/$build/bin/moe-train" ] || build=emulated-bare
need_for_all cuda test -x "$top/.build/$build/bin/moe-train" # make EMULATED=1 all
bin=$top/.build/$build/bin
PATH=$bin:$PATH
. "$(dirname "$0")/lib/layouts.sh"
need_for_all mpi command -v mpirun
unset ${!MOEKIT_EMULATOR_*} CUDA_VISIBLE_DEVICES CUDA_LAUNCH_BLOCKING MOEKIT_LIB MOEKIT_FAULT MOEKIT_HALT
export MOEKIT_EMULATOR_SEED=1

# How far one rank of cpu in bf16 is from f32, in the worse of two ways to round: of a few steps one alone may be near by luck.
bf16_spread() {
    cp "$T/ref.bf16.plan" "$T/bf16.convert.plan"
    MOEKIT_BF16=convert go bf16.convert bf16 1 --backend cpu
    { distance ref.bf16 ref.mix; distance bf16.convert ref.mix; } | sort -g | tail -n 1
}

check_cuda() {
    name=$1 kind=$2 ranks=$3 comm=$4
    shift 4
    reference "$kind" --backend cpu || { fail "$name"; return; }
    # shellcheck disable=SC2046
    make_plan "$name" $(plan_of "$kind") "$@" && go "$name" "$kind" "$ranks" --backend cuda --comm "$comm" ||
        { fail "$name"; diag "exit status $?: $(head -5 "$T/$name.err")"; return; }
    if [ "$kind" = bf16 ]; then
        reference mix --backend cpu
        far=$(distance "$name" ref.mix)
        spread=$(bf16_spread)
        below "$far" "$(awk -v x="$spread" 'BEGIN { print 2 * x }')"
        ok $? "$name ($ranks ranks of bf16): losses are $far rms from one rank in f32; one rank of cpu in bf16 is $spread from it"
    else
        same_training "$name" "ref.$kind" "$steps" 1e-4 1e-3 1e-5
        same=$?
        ok $same "$name ($ranks ranks of $kind): $said"
        [ $same -eq 0 ] || diag "$details"
    fi
    rm -f "$T/$name.routing."*
}
