#!/bin/bash
# SPDX-License-Identifier: MIT
# The job that moekit was made for, whole: 128 ranks, ep 16, tp 4, pp 2 in both readings, 16 layers of 64 experts. Exact in every axis; only hidden
# size, vocabulary and sequence are scaled down, so that two processors can run it. It must train the same model as one rank. And the same axes, with
# two layers and 16 experts, on backend cuda and communication nccl, on the emulator. MOEKIT_LARGE=1 only.
. "$(dirname "$0")/lib/tap.sh"

[ -n "${MOEKIT_LARGE:-}" ] || { echo '1..0 # SKIP 128 ranks take minutes: MOEKIT_LARGE=1 or make check-large'; exit 0; }
. "$(dirname "$0")/lib/layouts.sh"
need_for_all mpi command -v mpirun

# The strategies' own model but for width: a head of 4 instead of 64, 64 wide instead of 1024.
config='hidden_size=64 head_dim=4 num_hidden_layers=16 num_attention_heads=16 num_key_value_heads=16 intermediate_size=64 num_local_experts=64
    vocab_size=512 router_z_loss_coef=0.001'
steps=3
recipe="-d $T/text -s $steps --lr 2e-3 --eps 1e-6 --loads-every 1"

write_tokens text 512 40000
# shellcheck disable=SC2086
write_model scaled mixtral $config
make_plan one scaled --seq 16 --global-batch 128
train one 1 $recipe --save "$T/one" --dump-routing "$T/one.routing"
is $? 0 'one rank' || diag "$(cat "$T/one.err")"

for strategy in ep16-tp4-pp2 ep16-tp4-pp2-folded; do
    make_plan "$strategy" scaled -c local --strategy "$strategy" --seq 16 --precision f32
    like "$(grep '^axes' "$T/$strategy.plan")" 'world=128 tp=4 cp=1 dp=16 etp=[14] ep=16 edp=[14] pp=2' "$strategy: 128 ranks, ep 16, tp 4, pp 2"
    SECONDS=0
    train "$strategy" 128 $recipe --save "$T/$strategy" --dump-routing "$T/$strategy.routing"
    is $? 0 "$strategy: runs, in $SECONDS s" || diag "$(head -5 "$T/$strategy.err")"
    same_training "$strategy" one $steps
    same=$?
    ok $same "$strategy is one rank's run: $said"
    [ $same -eq 0 ] || diag "$details"
    rm -rf "${T:?}/$strategy" "$T/$strategy".routing.*
done

if need cuda test -x "$top/.build/emulated/bin/moe-train"; then # make EMULATED=1 all
    PATH=$top/.build/emulated/bin:$PATH
    export MOEKIT_EMULATOR_SEED=1 MOEKIT_EMULATOR_CHECK=0 MOEKIT_EMULATOR_DEVICES=128
    write_model small mixtral hidden_size=32 head_dim=4 num_hidden_layers=2 num_attention_heads=8 num_key_value_heads=4 intermediate_size=16 \
        num_local_experts=16 vocab_size=512
    recipe="-d $T/text -s 2 --lr 2e-3 --eps 1e-6 --loads-every 1"
    make_plan small.one small --seq 8 --global-batch 32
    train small.one 1 $recipe --backend cpu --save "$T/small.one" --dump-routing "$T/small.one.routing"
    is $? 0 'one rank of backend cpu' || diag "$(cat "$T/small.one.err")"
    make_plan nccl small -c local --seq 8 --global-batch 32 --tp 4 --ep 16 --pp 2 --dp 16 --precision f32
    like "$(grep '^axes' "$T/nccl.plan")" 'world=128 tp=4 cp=1 dp=16 etp=1 ep=16 edp=4 pp=2' 'nccl: 128 ranks, ep 16, tp 4, pp 2'
    SECONDS=0
    train nccl 128 $recipe --backend cuda --comm nccl --save "$T/nccl" --dump-routing "$T/nccl.routing"
    is $? 0 "nccl: runs, in $SECONDS s" || diag "$(head -5 "$T/nccl.err")"
    same_training nccl small.one 2 1e-4 1e-3 1e-5
    same=$?
    ok $same "nccl is one rank's run: $said"
    [ $same -eq 0 ] || diag "$details"
fi
done_testing
