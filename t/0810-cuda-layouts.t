#!/bin/bash
# SPDX-License-Identifier: MIT
# Layouts on backend cuda and communication mpi, on the emulator: each trains the same model as one rank of backend cpu. Figures agree to 1e-4,
# weights to 1e-3 a tensor, every token goes to the same experts unless its margin is below 1e-5; bf16 is held to the bound of 0600. And what
# one backend saved, the other resumes. In `make check` models of two layers, a few steps, and races looked for in two runs; MOEKIT_LARGE=1:
# those of 0600 and more layouts, races looked for in all.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/emulated.sh"
need_for_all helpers test -x "$helpers/routing-compare"

large=${MOEKIT_LARGE:-}
steps=${large:+6}
steps=${steps:-2}
layers=${large:+4}
layers=${layers:-2}
seq=${large:+32}
batch="--seq ${seq:-8} --global-batch 8"
split=${large:+1,2,0,1}
recipe="-d $T/text -s $steps --lr 2e-3 --warmup 1 --lr-steps $steps --eps 1e-6 --eval $T/text --eval-every $steps --eval-steps 1 --loads-every 1 --timeout 120"
last=step-$(printf '%08d' "$steps")

write_tokens text 97 2000
write_models num_hidden_layers=$layers

# saved_and_resumed FIRST SECOND: some steps on one backend, the rest on the other
saved_and_resumed() {
    name=$1-$2
    cp "$T/ref.mix.plan" "$T/$name.plan"
    half=$((steps - 1))
    go "$name" mix 1 --backend "$1" -s $half && go "$name" mix 1 --backend "$2" --resume "$T/$name" && [ -d "$T/$name/$last" ]
    ok $? "a run begun on $1 goes on on $2" || diag "$(head -5 "$T/$name.err")"
    rm -f "$T/$name.routing."* # of the steps since
    same_training "$name" ref.mix "$steps" 1e-4 1e-3
    ok $? "and is the run that never left cpu: $said" || diag "$details"
}

check_cuda one-rank glm 1 mpi
check_cuda tp2-ep2 mix 4 mpi --tp 2 --ep 2 --dp 2
[ -n "$large" ] || export MOEKIT_EMULATOR_CHECK=0 # the kernels' races are looked for in 0805
check_cuda tp4-ep4-pp2 glm 8 mpi --tp 4 --ep 4 --pp 2 --recompute selective
check_cuda dp2-tp2-etp2-ep2 cap 4 mpi --tp 2 --etp 2 --ep 2 --dp 2 --zero 1 --recompute full
check_cuda pp2-vpp2-uneven mix 2 mpi --pp 2 --vpp 2 --split "${split:-1,0,0,1}"
zero_router --backend cpu || fail 'a model with a router of zeros'
check_cuda all-to-one one 2 mpi --ep 2 --lambda 1.2
check_cuda bf16-tp2-ep2 bf16 4 mpi --tp 2 --ep 2 --dp 2
saved_and_resumed cuda cpu
saved_and_resumed cpu cuda
[ -n "$large" ] || done_testing

check_cuda pp2-zb tied 2 mpi --pp 2 --schedule zb-h1
check_cuda tp2-o-bias qwen3 2 mpi --tp 2
check_cuda dp4-zero0 mix 4 mpi --dp 4 --zero 0
check_cuda ep8 mix 8 mpi --ep 8 --lambda 1.0
check_cuda tp8 qwen3 8 mpi --tp 8
check_cuda etp4 mix 4 mpi --etp 4
check_cuda pp4-vpp1 mix 4 mpi --pp 4 --schedule 1f1b --recompute full
check_cuda pos-tp2-ep2 pos 4 mpi --tp 2 --ep 2 --dp 2 --recompute full
check_cuda cap-ep4-tp2 cap 8 mpi --ep 4 --tp 2 --dp 4
check_cuda olmoe-tp2-pp2 olmoe 4 mpi --tp 2 --pp 2 --ep 2
check_cuda qwen-tp4-zb qwen 8 mpi --tp 4 --pp 2 --ep 2 --etp 2 --schedule zb-h1
check_cuda tied-tp2-pp2 tied 8 mpi --tp 2 --pp 2 --dp 2 --ep 4
check_cuda bf16-one bf16 1 mpi
check_cuda bf16-pp2 bf16 2 mpi --pp 2 --recompute selective
check_cuda bf16-all bf16 8 mpi --tp 2 --pp 2 --ep 2 --dp 2 --schedule zb-h1
done_testing
