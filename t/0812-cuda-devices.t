#!/bin/bash
# SPDX-License-Identifier: MIT
# The cuda backend and its device, on the emulator: one device a rank, memory as the plan counts it, algorithms that travel with a checkpoint,
# and for all that can be wrong with a device one line, exit 3, and no rank that hangs.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/emulated.sh"
need_for_all emulator test -e "$top/.build/$build/lib/moekit/moekit-cuda.so"
export MOEKIT_EMULATOR_CHECK=0

write_model tiny mixtral num_hidden_layers=1 hidden_size=16 num_attention_heads=2 num_key_value_heads=1 intermediate_size=16 num_local_experts=4
write_tokens tokens 97 2000
cat >"$T/gpus.json" <<'END'
{"device": "cuda", "nodes": 1, "ranks_per_node": 8, "memory_bytes": 8e9}
END
make_plan one tiny -c "$T/gpus.json" -n 1 --seq 8 --global-batch 2
make_plan two tiny -c "$T/gpus.json" -n 2 --ep 2 --seq 8 --global-batch 2
make_plan cpu tiny -n 1 --seq 8 --global-batch 2
write_model deep mixtral num_hidden_layers=4 hidden_size=16 num_attention_heads=2 num_key_value_heads=1 intermediate_size=16 num_local_experts=4
make_plan big deep -c "$T/gpus.json" -n 1 --seq 64 --micro-batch 1024 --global-batch 1024

# once NAME RANKS OPTION…: a run of one step; $err is what it said, without what mpirun adds. $environment: NAME=VALUE…
once() {
    name=$1 ranks=$2
    shift 2
    : >"$T/$name.err"
    run mpi "$ranks" env $environment moe-train -p "$T/$name.plan" -d "$T/tokens" -s 1 --log "$T/$name.log" --timeout 60 "$@" </dev/null
    # Beside the rank that failed, one that has heard of it may say how the run ended.
    err=$(printf '%s\n' "$err" | grep '^moe-train: ' | grep -v '^moe-train: the run ended by a fault: ')
}

# ---- one line for all that can be wrong ----
refused() {
    environment=$1
    once "${3:-one}" "${4:-1}" "${@:5}"
    is "$status $(printf '%s\n' "$err" | grep -c .)" '3 1' "${1:-nothing set}: one line, and exit 3"
    like "$err" "$2" 'which says what is wrong'
}
refused MOEKIT_EMULATOR_DEVICES=0 'no device is visible \(CUDA_VISIBLE_DEVICES, or the scheduler'
refused CUDA_VISIBLE_DEVICES= 'no device is visible'
refused 'MOEKIT_EMULATOR_FAIL=cudaGetDeviceCount:1:35 MOEKIT_EMULATOR_DRIVER=0' 'has no NVIDIA driver: use --backend cpu'
refused 'MOEKIT_EMULATOR_FAIL=cudaGetDeviceCount:1:35 MOEKIT_EMULATOR_DRIVER=12040' 'driver is too old: it knows CUDA 12\.4, and this build is made with 1'
refused MOEKIT_EMULATOR_CAPABILITY=75 'device 0 is too old: it has compute capability 7\.5, and 8\.0 is needed'
refused MOEKIT_EMULATOR_FAIL=cudaFree:1:46 'device 0 cannot be used: the device is in use by another process'
refused MOEKIT_EMULATOR_FAIL=cudaFree:1:214 'device 0 cannot be used: .*uncorrectable \(ECC\) error'
refused MOEKIT_EMULATOR_FAIL=cudaMemGetInfo:1:999 'device 0 cannot be used: '
refused MOEKIT_EMULATOR_FAIL=cublasLtCreate:1:1 'cublasLt cannot be used: '
refused MOEKIT_EMULATOR_FAIL=cudaStreamCreateWithFlags:1:2 'making a stream: the device is out of memory'
refused MOEKIT_EMULATOR_FAIL=cudaHostAlloc:1:2 'allocating page-locked memory: the device is out of memory'
refused MOEKIT_LIB=/nowhere 'cannot load the cuda backend: /nowhere/moekit-cuda.so'

# ---- in the middle of a step ----
refused MOEKIT_EMULATOR_FAIL=kernel:40:719 "step 1: cuda: '[a-z_]+', or an operation queued before it, failed: .*\(CUDA_LAUNCH_BLOCKING=1 tells which\)"
refused 'MOEKIT_EMULATOR_FAIL=kernel:40:719 CUDA_LAUNCH_BLOCKING=1' "step 1: cuda: '[a-z_]+' failed: "
refused MOEKIT_EMULATOR_FAIL=kernel:40:214 'step 1: cuda: .*uncorrectable \(ECC\) error'
refused MOEKIT_EMULATOR_FAIL=cublasLtMatmul:3:1 '^moe-train: cuda: cublasLt: a product of [0-9]+ x [0-9]+ x [0-9]+ failed'
refused MOEKIT_EMULATOR_FAIL=cublasLtMatmul:30:1 'step 1: cuda: cublasLt: a product of [0-9]+ x [0-9]+ x [0-9]+ failed'
cat >"$T/second" <<'END'
#!/bin/sh
# rank 1 alone has what goes wrong
[ "$OMPI_COMM_WORLD_RANK" -eq 0 ] && unset MOEKIT_EMULATOR_FAIL
exec "$@"
END
chmod +x "$T/second"
refused "MOEKIT_EMULATOR_FAIL=kernel:40:719 $T/second" "rank 1: step 1: cuda: '[a-z_]+', or" two 2 --comm mpi
refused "MOEKIT_EMULATOR_FAIL=cudaFree:1:46 $T/second" 'rank 1: CUDA device 0 cannot be used' two 2 --comm mpi

# ---- one rank, one device ----
refused '' "ranks 0 and 1 of the 2 on host '.*' would share device 0000:00:00\.0: .*--comm mpi" two 2
cat >"$T/own" <<'END'
#!/bin/sh
CUDA_VISIBLE_DEVICES=$((2 - OMPI_COMM_WORLD_RANK)) exec "$@"
END
chmod +x "$T/own"
environment=MOEKIT_EMULATOR_DEVICES=2
once two 2 --dry-run
is "$status $err" '0 ' 'two ranks have two devices'
environment="MOEKIT_EMULATOR_DEVICES=3 $T/own"
once two 2 --dry-run
is "$status $err" '0 ' 'and so they have where each sees one, another'
environment=
once two 2 --comm mpi --dry-run
is "$status $err" '0 ' 'and share one with --comm mpi'

# ---- memory ----
bytes=$(sed -n 's/^predict memory_bytes=\([0-9]*\).*/\1/p' "$T/one.plan")
less=$(sed -n 's/^predict memory_bytes=\([0-9]*\).*/\1/p' "$T/cpu.plan")
is $((bytes - less)) $((32 << 20)) 'a plan for GPUs counts the scratch of operations, one for CPUs does not'
environment=MOEKIT_EMULATOR_FAIL=cudaMalloc:2:2
once one 1 --save "$T/steps"
is "$status $err" '0 ' 'and the arena is the one allocation of a run'
log=$(grep '"kind":"start"' "$T/one.log" | tail -1)
like "$log" "\"predicted_bytes\":$bytes\.0,.*\"device_bytes\":[0-9]+,\"device\":\"emulated device\",\"context_bytes\":3145728" 'what a context costs is in the log'
is "$(sed -n 's/.*"arena_bytes":\([0-9]*\).*/\1/p' "$T/one.log" | tail -1)" "$bytes" 'the arena has the bytes of the plan'
environment=MOEKIT_EMULATOR_MEMORY=$((bytes + 3145728 + 65536))
once one 1 --dry-run
is "$status $err" '0 ' 'which fit in as much and a context'
refused MOEKIT_EMULATOR_MEMORY=$((bytes + 3145728 - 1)) "out of memory: the device has $((bytes - 1)) bytes free of [0-9]+, and $bytes are needed; scratch takes .* it takes more ranks on --" one 1 --dry-run
need=$(sed -n 's/^predict memory_bytes=\([0-9]*\).*/\1/p' "$T/big.plan")
refused MOEKIT_EMULATOR_MEMORY=$((need * 95 / 100)) 'needed; activations take [0-9.]+ MB, .*: with --recompute selective it would need [0-9.]+ MB$' big 1 --dry-run
refused MOEKIT_EMULATOR_MEMORY=$((need * 6 / 10)) 'activations take .*: with --micro-batch [0-9]+ it would need' big 1 --dry-run
settings=$(printf '%s\n' "$err" | sed -n 's/.*: with\(.*\) it would need.*/\1/p')
make_plan big deep -c "$T/gpus.json" -n 1 --seq 64 --global-batch 1024 $settings
once big 1 --dry-run
is "$status $err" '0 ' "and with $settings it fits"
environment=
once cpu 1 --backend cuda --dry-run
is "$status" 0 'a plan for CPUs runs on a GPU'
like "$err" 'plan is for machines without a device: the 32 MiB of scratch' 'and what it does not count is said'

# ---- algorithms ----
S=$T/steps/step-00000001/algorithms.txt
like "$(sed -n 2p "$S")" '^for emulated device, sm_80, 4 multiprocessors, cublasLt ' 'a checkpoint says what its algorithms are for'
environment=MOEKIT_EMULATOR_FAIL=cublasLtMatmulAlgoGetHeuristic:1:1
once one 1 --save "$T/steps" --resume "$T/steps" -s 2
is "$status" 0 'a run that resumes has them, and asks for none'
is "$(cmp "$S" "$T/steps/step-00000002/algorithms.txt" 2>&1)" '' 'and keeps them'
environment=MOEKIT_EMULATOR_CAPABILITY=90
once one 1 --resume "$T/steps" -s 3
is "$status" 0 'a run on another device'
like "$err" 'algorithms of products are for emulated device, sm_80, .*; they are chosen anew for emulated device, sm_90' 'chooses anew, and says so'
done_testing
