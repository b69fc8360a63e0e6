#!/bin/sh
# SPDX-License-Identifier: MIT
# Elsewhere: products without this processor's best instructions; clang compiles the kernels, for x86 and aarch64; gcc for aarch64 builds all
# kernels and the commands that need no MPI, which under qemu say, byte for byte, what they say here.
. "$(dirname "$0")/lib/tap.sh"

# built CC [KNOB…] TARGET…
built() {
    compiler=$1
    shift
    env -u MAKELEVEL MAKEFLAGS= make -C "$top" -j "$(nproc)" CC="$compiler" "$@" >"$T/log" 2>&1
    made=$?
    [ $made -eq 0 ] || diag "$(tail -n 20 "$T/log")"
    return $made
}

if need clang clang -fopenmp -fsyntax-only -include omp.h -x c /dev/null; then
    built clang kernels
    ok $? 'clang compiles the kernels'
fi

# Products as processors with less compute them, those with more by oneDNN alone, against ref. Where this one has less, less is tried.
for way in MOEKIT_BF16=convert MOEKIT_BF16=onednn ONEDNN_MAX_CPU_ISA=AVX2 ONEDNN_MAX_CPU_ISA=AVX512_CORE; do
    case $way in *onednn) grep -q avx512_bf16 /proc/cpuinfo || continue ;; esac
    run env MOEKIT_BACKEND=cpu "$way" "${MOEKIT_T:-${bin%/bin}/t}/kernels"
    is "$status" 0 "operations with $way" || diag "$(cat "$T/.out" "$T/.err")"
done

{
    need aarch64 command -v aarch64-linux-gnu-gcc &&
        need aarch64 command -v qemu-aarch64 &&
        need aarch64 aarch64-linux-gnu-gcc -shared -o "$T/links" -x c /dev/null -ljansson -lz -larchive -ldeflate -lzstd
} || done_testing
if need clang clang -fopenmp -fsyntax-only -include omp.h -x c /dev/null; then
    built clang BUILD=.build/clang-aarch64 CFLAGS='-O2 --target=aarch64-linux-gnu' kernels
    ok $? 'clang compiles the kernels for aarch64'
fi
built aarch64-linux-gnu-gcc portable
ok $? 'the kernels and four commands are built for aarch64'
arm=$top/.build/aarch64-linux-gnu-gcc-release/bin
is "$(od -An -tx1 -j18 -N2 "$arm/moe-stat")" ' b7 00' 'they are ELF files for aarch64'

# both STATUS COMMAND ARGUMENTS…: here and there it ends with STATUS and says the same; $T/here is what it printed
both() {
    wanted=$1 command=$2
    shift 2
    "$bin/$command" "$@" >"$T/here" 2>"$T/here.err"
    status=$?
    qemu-aarch64 "$arm/$command" "$@" >"$T/there" 2>"$T/there.err"
    is "$status, $?" "$wanted, $wanted" "$command $1 $2: exit status"
    test -s "$T/here" && cmp "$T/here" "$T/there" >&2 && cmp "$T/here.err" "$T/there.err" >&2
    ok $? "$command $1 $2: the same output"
}

# ---- plans ----
both 0 moe-partition -m moe-tiny -n 4 --ep 2 --pp 2 --schedule interleaved --vpp 2 --global-batch 8
both 0 moe-partition --strategy ep16-tp4-pp2 -m moe-7b -c ref-64g
cp "$T/here" "$T/plan"
both 0 moe-plan-check --json "$T/plan"
both 0 moe-plan-check --simulate "$T/plan"
both 0 moe-partition emit json "$T/plan"
sed '/^sum /d; s/^\(rank 5 .*\)node=0/\1node=1/' "$T/plan" >"$T/broken"
both 1 moe-plan-check "$T/broken"

# ---- step logs ----
for format in text json csv; do
    both 0 moe-stat --format $format "$top/t/data/steplog-small.jsonl"
done
both 1 moe-stat --check 'mfu > 0.9' "$top/t/data/steplog-small.jsonl"

# ---- checkpoints ----
trip=$bin/../t/ckpt-roundtrip
if need helpers test -x "$trip"; then
    moe-partition -q -m moe-tiny -n 1 -o "$T/one.plan" && "$trip" save "$T/one.plan" "$T/root" 1 2 >"$T/log" 2>&1
    ok $? 'a checkpoint is written here'
    step=$T/root/step-00000001
    both 0 moe-ckpt list "$step"
    both 0 moe-ckpt list --tensors "$step"
    both 0 moe-ckpt verify "$step"
    both 0 moe-ckpt diff "$step" "$T/root/step-00000002"
    printf X | dd of="$step/expert-003.safetensors" bs=1 seek=5000 conv=notrunc 2>"$T/log"
    both 1 moe-ckpt verify "$step"
fi
done_testing
