#!/bin/bash
# SPDX-License-Identifier: MIT
# t/gpu/run, the one command for a machine with a GPU, on the emulator at small sizes: every line of it runs, from a pack as it is carried there, in
# an environment that has nothing of this one. What stands for nvidia-smi and compute-sanitizer only answers. And what is wrong is told.
. "$(dirname "$0")/lib/tap.sh"
unset MOEKIT_EMULATOR_FAIL MOEKIT_EMULATOR_CHECK MOEKIT_EMULATOR_DEVICES

build=$top/.build/emulated
[ -d "$build" ] || build=$top/.build/emulated-bare
need_for_all emulator test -x "$build/t/gpu/sizes" # make EMULATED=1 gpu
need_for_all mpi command -v mpirun

mkdir "$T/stubs" "$T/tmp"
cat >"$T/stubs/nvidia-smi" <<'END'
#!/bin/sh
case $* in --list-gpus) printf 'GPU %s: a stand-in\n' 0 1 2 3 ;; *=memory.*) echo 1024 ;; *=compute_cap*) echo 9.0 ;; *) echo "stand-in for ${1#--query-gpu=}" ;; esac
END
cat >"$T/stubs/compute-sanitizer" <<'END'
#!/bin/sh
while :; do case $1 in --tool | --error-exitcode | --target-processes) shift 2 ;; *) break ;; esac; done
"$@" || exit
echo '========= ERROR SUMMARY: 0 errors'
END
chmod +x "$T/stubs"/*

gpu_run() { # OPTION…: as on a machine that knows nothing of this tree
    run env -i PATH="$T/stubs:/usr/bin:/bin" TMPDIR="$T/tmp" MOEKIT_PYTHON="${MOEKIT_PYTHON:-/none}" MOEKIT_EMULATOR_SEED=1 \
        ${fault:+"$fault"} ${emulated:+"${emulated[@]}"} "$top/t/gpu/run" "$@"
}

run env PATH="/usr/bin:/bin" "$top/t/gpu/pack" --build "$build" -o "$T/pack.tar.gz" # with mpirun itself
is "$status" 0 "a pack: ${out#"$T/"}"
[ "$(stat -c %s "$T/pack.tar.gz")" -lt $((64 << 20)) ]
ok $? 'is below 64 MiB'

gpu_run --small --pack "$T/pack.tar.gz" -o "$T/table"
is "$status" 0 "everything runs from it: $(tail -n 1 "$T/.out")"
[ "$status" -eq 0 ] || diag "$(grep -v '^ok' "$T/.out")"
is "$err" '' 'with nothing on stderr'
for part in $(sed -n "s/^PARTS='\(.*\)'/\1/p" "$top/t/gpu/run"); do
    [ "$(grep -c "^[a-zA-Z]*	$part	" "$T/table")" -gt 0 ]
    ok $? "the table has lines of $part" || diag "$(cat "$T/table")"
done
is "$(grep -cE '^(ok|FAIL|skipped|short) ' "$T/.out")" "$(wc -l <"$T/table")" 'the file has as many lines as the table'
none "$(cut -f1,2 "$T/table" | grep skipped | grep -v '	unit$' | { "${MOEKIT_PYTHON:-/none}" -c 'import torch' 2>/dev/null && cat || grep -vE '	(bench|model|device)$'; })" \
    'nothing is skipped but what another test does'
like "$(grep '	model	' "$T/table")" 'tokens/s' 'the model has its speed'
if need torch "${MOEKIT_PYTHON:-/none}" -c 'import torch'; then
    like "$(grep '	model	' "$T/table")" 'compiled	.*times as fast' "beside PyTorch's"
    like "$(grep '	attention-64 backward	' "$T/table")" 'of the dense bf16 rate, .* times as fast as PyTorch' 'and so have the operations'
fi
none "$(ls "$T/tmp")" 'nothing is left behind'

# ---- several devices ----
emulated=(MOEKIT_EMULATOR_DEVICES=4 MOEKIT_EMULATOR_CHECK=0 "MOEKIT_EMULATOR_NVML=0:nvlinks=18")
gpu_run --small --pack "$T/pack.tar.gz" -o "$T/table" --gpus 4
is "$status $err" '0 ' "of four devices everything runs: $(tail -n 1 "$T/.out")"
[ "$status" -eq 0 ] || diag "$(grep -v '^ok' "$T/.out")"
none "$(cut -f1 "$T/table" | grep -v ok)" 'nothing is skipped'
# lines PART CHECK FIGURES: how many of the table are so
lines() { grep -cE "^ok	$1	$2	$3" "$T/table"; }
is "$(lines layouts '.*, 4 ranks' 'losses [0-9.e-]+') $(lines layouts 'as graphs, f32, 2 ranks, --tp 2' '[0-9]+ graphs in')" '2 1' 'layouts are those of one rank'
is "$(lines groups '(world of 4|tp of 2|edp of 2|pp of 2): .*' '.* GB/s .*, bus .* of 478.1 GB/s \(18 NVLinks\); [0-9.e+]+ us at')" 20 \
    'each operation in each kind of group has its bandwidth beside the link'
is "$(lines exposed 'tp2-pp2, 4 ranks' 'ms a step: dispatch [0-9.]+, .*of [0-9.]+; [0-9.]+ of it')" 1 "a step's exposed time has its kinds"
is "$(lines scaling '.*, [124] of 4' '[0-9]+ tokens/s, [0-9.]+ of [124] times one')" 6 'speed on one, two and four'
none "$(ls "$T/tmp")" 'nothing is left behind'
PATH=$build/bin:$PATH moe-partition -m "$top/share/models/moe-tiny.json" -n 4 --ep 4 --seq 64 --global-batch 4 -o "$T/plan"
gpu_run --small --build "$build" --gpus 4 --seconds 1 --plan "$T/plan" -o "$T/table" groups scaling
like "$status $(grep -c '	scaling	' "$T/table")" '^0 [1-6]$' 'cut short, it keeps what it has, and says what it skips'
emulated=()

# ---- what is wrong is told ----
fault=MOEKIT_EMULATOR_FAIL=kernel:5:719
gpu_run --small --build "$build" instructions
is "$status" 1 'a kernel that fails is a failure'
like "$out" '^FAIL +instructions .*cudaErrorLaunchFailure' 'and is named'
fault=MOEKIT_EMULATOR_DEVICES=0
gpu_run --small --build "$build" products
is "$status $out" '3 ' 'on a machine without a GPU nothing is run: exit 3'
like "$err" '^run: nothing can be run: .*no device is visible' 'and that is said'
fault=
gpu_run --small --build "$T"
is "$status $out" '3 ' 'nothing to run: exit 3'
gpu_run --small --build "$build" --seconds 0 instructions bench
is "$status" 1 'no time for what checks kernels: a failure'
like "$out" '^FAIL +instructions +all of it +.*0 s have passed: t/gpu/run instructions' 'which is said'
like "$out" '^skipped +bench +all of it +.*0 s have passed' 'and speed is skipped'
gpu_run --build "$build" nothing
like "$status $err" "^2 run: 'nothing' is no part" 'a part that there is not: exit 2'
gpu_run --build "$build" scaling
like "$status $err" "^2 run: part 'scaling' is of several devices" 'a part of several devices, without --gpus: exit 2'
gpu_run --gpus 1
like "$status $err" "^2 run: --gpus '1' is no number of devices" 'one device is not several: exit 2'
gpu_run --fast
like "$status $err" "^2 run: '--fast' is no option" 'an option that there is not: exit 2'
done_testing
