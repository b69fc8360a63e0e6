#!/bin/bash
# SPDX-License-Identifier: MIT
# moe-train --health and --calibrate of devices, on the emulator: a device that is well is said to be so, and what its driver tells of one that is
# not is named. What is measured there is the emulator's speed, which is nothing: only that it is measured.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/emulated.sh"
need_for_all emulator test -e "$top/.build/$build/lib/moekit/libnvidia-ml.so.1"
export MOEKIT_EMULATOR_CHECK=0 MOEKIT_EMULATOR_DEVICES=2 MOEKIT_EMULATOR_MEMORY=$((64 << 20))

# health NVML N OPTION…: what N ranks say where the driver tells so much of their devices
health() {
    local nvml=$1 n=$2
    shift 2
    run mpi "$n" env MOEKIT_EMULATOR_NVML="$nvml" moe-train --health -q --backend cuda --tolerance 0.95 "$@"
}
# What failed, and on which rank; the speed of an emulator is chance.
failed() { printf '%s\n' "$out" | sed -nE "s/^FAIL ([a-z-]+): rank ([0-9]+) on '[^']*': (.*)/\1 \2 \3/p" | grep -vE '^(products|bandwidth|upload|download|links)'; }

health '' 1
is "$status $(printf '%s\n' "$out" | sed 's/:.*//' | tr '\n' ' ')" \
    '0 ok   processors ok   memory ok   products ok   bandwidth ok   upload ok   download ok   temperature ok   clocks ok   throttle ok   ecc ok   other-processes healthy ' \
    'one device is measured and asked'
like "$out" 'ok   upload: [0-9.]+ to [0-9.]+ GB/s a rank; nothing to compare it with' 'copies are measured'
like "$out" 'ok   temperature: 60 to 60 C a rank; should be at most 90 \(by the device\)' 'temperature is held against where the device slows down'
like "$out" 'ok   clocks: 1700 to 1700 MHz a rank; should be 1980 \(by the device\)' 'and clocks against the most that it can'
like "$out" 'ok   throttle: 0 to 0 a rank' 'the limit of power is not held against it'

# ---- each of what a driver tells ----
health '0:temperature=95,clock=90,throttle=0xc4,ecc=3,processes=3' 1
is "$status" 1 'a device that is not well in all that a driver tells'
for said in 'temperature 0 95 C; should be at most 90 (by the device)' \
    'clocks 0 90 MHz, 5 % of what it should be 1980 (by the device)' \
    'throttle 0 2 hw-thermal power-brake; should be at most 0 (by the device)' \
    'ecc 0 3; should be at most 0 (by the device)' \
    'other-processes 0 2; should be at most 0 (by the device)'; do
    is "$(failed | grep "^${said%% *} ")" "$said" "${said%% *} is told of"
done
health '0:ecc=-1,slowdown=-1' 1
is "$status $(printf '%s\n' "$out" | grep -c ecc)" '0 0' 'what a device does not tell is not held against it'
like "$out" 'ok   temperature: 60 to 60 C a rank; nothing to compare it with' 'nor is what it has nothing to say about'

# ---- no NVML ----
health absent 1
is "$status $(printf '%s\n' "$out" | grep -c 'temperature\|ecc')" '0 0' 'without NVML a device is measured all the same'
like "$err" 'tells nothing of 1 of 1 devices, .* are not checked: rank 0 .* nvmlInit: Driver Not Loaded \(9\)' 'and that is said'
mkdir "$T/lib" && ln -s "$top/.build/$build/lib/moekit/moekit-cuda.so" "$T/lib"
MOEKIT_LIB=$T/lib health '' 1
like "$status $err" '^0 .*tells nothing of 1 of 1 devices' 'as where the library is missing'

# ---- several ----
for comm in mpi nccl; do
    health '1:temperature=95,ecc=3,throttle=0x40' 2 --comm $comm --json
    is "$status" 1 "two devices, one of them sick (--comm $comm)"
    need jq command -v jq || continue
    is "$(printf '%s\n' "$out" | jq -c '[.sick[] | [.rank, (.why - ["products","bandwidth","upload","download"]), .throttle]]')" \
        '[[1,["temperature","throttle","ecc"],["hw-thermal"]]]' 'is named with all that is wrong with it'
    is "$(printf '%s\n' "$out" | jq -c '.checks | [.temperature.rank, .temperature.most, .ecc.by, .upload.least > 0, ."links-inside".least > 0]')" \
        '[1,95,"the device",true,true]' 'and links are measured'
done
MOEKIT_EMULATOR_DEVICES=1 health '0:processes=2' 2 --comm mpi
none "$(failed)" 'ranks that share a device are not others'
MOEKIT_EMULATOR_DEVICES=1 health '0:processes=3' 2 --comm mpi
is "$(failed | cut -d' ' -f1-3 | tr '\n' ' ')" 'other-processes 0 1; other-processes 1 1; ' 'but who is none of them is'

# ---- --calibrate ----
run mpi 2 moe-train --calibrate --backend cuda --comm nccl --tolerance 1000 -q -o "$T/gpus.json"
is "$status $out" '0 ' 'two devices are calibrated'
run moe-partition -q -m moe-tiny -c "$T/gpus.json" -n 2 --ep 2 --seq 128 --global-batch 16 -o "$T/gpus.plan"
is "$status" 0 'moe-partition reads the file'
like "$(grep '^machine' "$T/gpus.plan")" 'device=cuda nodes=1 per_node=2 .*flops_bf16=[1-9][0-9]+ ' 'which is of devices'
if need jq command -v jq; then
    is "$(jq -c '._measured | [(.products | length), .upload_Bps > 0, .download_Bps > 0]' "$T/gpus.json")" '[60,true,true]' 'and has every measurement'
fi
done_testing
