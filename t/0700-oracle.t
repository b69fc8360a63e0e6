#!/bin/sh
# SPDX-License-Identifier: MIT
# moe-train against PyTorch: the same models, weights and data, trained by transformers (contrib/oracle/train.py).
#
# Logits and gradients of the first step and 50 steps' losses agree to 1e-4 for each family: what two f32 programs that add in
# different orders can be asked for. (Epsilon is 1e-6: with 1e-8 Adam divides rounding errors by rounding errors.)
. "$(dirname "$0")/lib/tap.sh"

python=${MOEKIT_PYTHON:-$top/.build/oracles/bin/python}
need_for_all torch "$python" -c 'import torch, transformers, safetensors' # `make oracles` makes one that has them
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
cd "$T" || exit 1

families='mixtral qwen2_moe qwen3_moe olmoe glm4_moe'
families4='qwen3_moe glm4_moe' # on four ranks: biases of q, k, v and o, a shared expert, correction biases
recipe='--lr 2e-3 --warmup 5 --eps 1e-6 --aux-loss 0.01 --z-loss 0.001'
cosine="$recipe --min-lr 1e-4 --lr-schedule cosine"
shape='--seq 48 --micro-batch 2 --global-batch 8'
torch="$shape --threads 1"

# Commands for Python wait in `todo` and run in one process.
ask() { printf '%s\n' "$*" >>todo; }

ask_all() {
    OMP_NUM_THREADS=1 "$python" "$top/contrib/oracle/batch.py" <todo >batch.out 2>&1
    asked=$?
    sed 's/^/# /' batch.out >&2
    rm todo
    return $asked
}

# verdict FILE NAME: the command that printed to FILE exited 0
verdict() {
    if [ "$(tail -n 1 "$1")" = 'exit 0' ]; then
        pass "$2"
    else
        fail "$2"
        diag "$(tail -n 12 "$1")"
    fi
}

# train PLAN DIR OPTION…: moe-train with DIR's log, logits and gradients
train() {
    plan_file=$1 dir=$2
    shift 2
    mkdir -p "$dir"
    $launch moe-train -q -p "$plan_file" -d data --no-shuffle --threads 1 --loads-every 1 --log "$dir/log" --dump-logits "$dir/logits" \
        --dump-gradients "$dir/gradients" "$@" 2>"$dir/err" || diag "$(cat "$dir/err")"
}
launch=

# ---- what the oracle does ----
ask models.out make-models models
ask data.out train --make-data data 20000 97 7
for f in $families; do
    ask "oracle-$f" train "models/$f" data "oracle/$f" "$torch --steps 50 $cosine"
done
for drop in prob position; do
    ask "oracle-$drop" train models/mixtral data "oracle/$drop" "$torch --steps 10 $recipe --capacity-factor 1 --drop $drop"
done
ask fused-1.out save-fused models/glm4_moe fused/glm4_moe
ask fused-2.out save-fused models/qwen3_moe fused/qwen3_moe
if ask_all; then
    pass 'the oracle ran'
else
    fail 'the oracle ran'
    diag "$(tail -n 3 ./*.out oracle-*)"
    done_testing
fi
run env MOEKIT_MODELS=models CMOCKA_MESSAGE_OUTPUT=TAP "${MOEKIT_T:-${bin%/bin}/t}/model"
is "$status" 0 'tensors have the names and shapes that transformers gives them' || diag "$err"

# ---- the same by moe-train ----
for f in $families; do
    moe-partition -m "models/$f" $shape --precision f32 -o "$f.plan"
    train "$f.plan" "ours/$f" -s 50 --init "models/$f" --save "saved/$f" $cosine
done
for drop in prob position; do
    moe-partition -m models/mixtral $shape --precision f32 --capacity-factor 1 --drop "$drop" -o "$drop.plan"
    train "$drop.plan" "ours/$drop" -s 10 --init models/mixtral $recipe
done
for f in glm4_moe qwen3_moe; do
    train "$f.plan" "ours/fused-$f" -s 1 --init "fused/$f" $cosine
done
for f in mixtral glm4_moe; do
    moe-partition -m "models/$f" $shape --precision bf16 -o "$f-bf16.plan"
    train "$f-bf16.plan" "ours/bf16-$f" -s 50 --init "models/$f" --save "saved/bf16-$f" $cosine
done

# A saved model, on text of our own: sample i is 48 bytes, two of them a microbatch.
awk 'BEGIN { for (i = 0; i < 48 * 9; i++) printf "%c", 33 + (i * i + 7 * i) % 61 }' >text
head -c 96 text | od -An -v -tu1 -w48 >tokens
for f in $families; do
    moe-train -q -p "$f.plan" -d text --no-shuffle --threads 1 -s 51 --resume "saved/$f/step-00000050" --dump-logits "ours/$f/after" \
        --log "ours/$f/log51" 2>"ours/$f/err51" || diag "$(cat "ours/$f/err51")"
done

# Four ranks: everything at once, and half of a run by one rank, the other half by four.
multi=
if need mpi mpirun --oversubscribe -n 2 true; then
    multi=yes
    launch='mpirun --oversubscribe --bind-to none -n 4'
    for f in $families4; do
        moe-partition -m "models/$f" $shape --precision f32 --tp 2 --ep 2 --pp 2 --vpp 1 -n 4 -o "$f-4.plan"
        train "$f-4.plan" "ours/four-$f" -s 5 --init "models/$f" --save "saved/four-$f" $cosine # the schedule is the same while it warms up
    done
    launch=
    train qwen2_moe.plan ours/half -s 50 --init models/qwen2_moe --save saved/half --save-every 25 $cosine
    head -n 26 ours/half/log >ours/half/log25
    moe-partition -m models/qwen2_moe $shape --precision f32 --dp 4 --ep 4 -o qwen2-4.plan
    launch='mpirun --oversubscribe --bind-to none -n 4'
    train qwen2-4.plan ours/half2 -s 50 --resume saved/half/step-00000025
    launch=
    cat ours/half/log25 ours/half2/log >ours/half/both
fi

# ---- compared ----
for f in $families; do
    ask "logits-$f" compare logits "ours/$f/logits" "oracle/$f"
    ask "grads-$f" compare tensors "ours/$f/gradients" "oracle/$f/grads.safetensors"
    ask "losses-$f" compare losses "ours/$f/log" "oracle/$f/losses.jsonl"
    ask "weights-$f" compare tensors "saved/$f/step-00000050" "oracle/$f/final" --tol 1e-3
    ask "open-$f" open-checkpoint "saved/$f/step-00000050" --tokens-file tokens --logits "open/$f.safetensors"
    ask "after-$f" compare logits "ours/$f/after" "open/$f.safetensors"
done
for drop in prob position; do
    ask "grads-$drop" compare tensors "ours/$drop/gradients" "oracle/$drop/grads.safetensors"
    ask "losses-$drop" compare losses "ours/$drop/log" "oracle/$drop/losses.jsonl" --fields loss,aux_loss,z_loss,grad_norm,dropped
done
for f in glm4_moe qwen3_moe; do
    ask "fused-$f" compare logits "ours/fused-$f/logits" "oracle/$f"
done
# bf16 has 8 bits: a rounding changes a number by 2^-9 of it at most. Activations pass through some 20 roundings in a row (three
# layers), which add up like a random walk: sqrt(20) 2^-9, about 1e-2 of their size. The loss is a mean over 384 tokens of such
# errors of either sign, so 1e-2 is a bound with room; the masters are f32, so it does not grow with the steps. The norm of the
# gradient has twice the chain behind it.
for f in mixtral glm4_moe; do
    ask "bf16-$f" compare losses "ours/bf16-$f/log" "oracle/$f/losses.jsonl" --tol 1e-2 --fields loss
    ask "bf16n-$f" compare losses "ours/bf16-$f/log" "oracle/$f/losses.jsonl" --steps 1 --tol 2e-2 --fields grad_norm
    ask "bf16x-$f" compare losses "ours/bf16-$f/log" "oracle/$f/losses.jsonl" --tol 1e-6 --fields loss
done
if [ "$multi" ]; then
    for f in $families4; do
        ask "four-logits-$f" compare logits "ours/four-$f/logits" "oracle/$f"
        ask "four-grads-$f" compare tensors "ours/four-$f/gradients" "oracle/$f/grads.safetensors"
        ask "four-losses-$f" compare losses "ours/four-$f/log" "oracle/$f/losses.jsonl" --steps 5
    done
    ask half compare losses ours/half/both oracle/qwen2_moe/losses.jsonl
fi
# Every other step directory, of whatever layout and precision.
for step in saved/*-*/step-* saved/half/step-*; do
    [ ! -d "$step" ] || ask "step-$(printf %s "$step" | tr / -)" open-checkpoint "$step"
done
mkdir -p open
ask_all
for f in $families; do
    verdict "logits-$f" "$f: logits"
    verdict "grads-$f" "$f: every gradient"
    verdict "losses-$f" "$f: losses and norms of 50 steps"
    verdict "weights-$f" "$f: the weights after them, to 1e-3"
    verdict "open-$f" "$f: transformers opens what was saved"
    verdict "after-$f" "$f: with the same logits"
done
verdict grads-prob 'capacity by weight: every gradient'
verdict losses-prob 'capacity by weight: losses, norms and drops of 10 steps'
verdict grads-position 'capacity by position: every gradient'
verdict losses-position 'capacity by position: losses, norms and drops of 10 steps'
verdict fused-glm4_moe 'weights with fused experts: GLM-4-MoE'
verdict fused-qwen3_moe 'weights with fused experts: Qwen3-MoE'
for f in mixtral glm4_moe; do
    verdict "bf16-$f" "$f in bf16: losses near those of f32"
    verdict "bf16n-$f" "$f in bf16: the first gradient's norm too"
    is "$(tail -n 1 "bf16x-$f")" 'exit 1' "$f in bf16: but it is not f32"
done
if [ "$multi" ]; then
    for f in $families4; do
        verdict "four-logits-$f" "$f, tp 2, ep 2, pp 2: logits"
        verdict "four-grads-$f" "$f, tp 2, ep 2, pp 2: every gradient"
        verdict "four-losses-$f" "$f, tp 2, ep 2, pp 2: losses and norms of 5 steps"
    done
    verdict half 'qwen2_moe, 25 steps on one rank, 25 on four (dp 4, ep 4): losses and norms'
fi
for step in step-saved-*; do
    verdict "$step" "transformers opens ${step#step-}"
done
for what in logits grads losses weights after bf16 bf16n four half; do
    diag "worst: $(grep -H '^[0-9.]*e[-+]' "$what"* 2>/dev/null | sed 's/^\([^:]*\):\([^ ]*\) */\2 \1 /' | sort -g | tail -n 1)"
done
done_testing
