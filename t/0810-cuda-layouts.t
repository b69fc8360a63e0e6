#!/bin/bash
# SPDX-License-Identifier: MIT
# Layouts on backend cuda and communication mpi, on the emulator: each trains the same model as one rank of backend cpu. Figures agree to 1e-4,
# weights to 1e-3 a tensor, every token goes to the same experts unless its margin is below 1e-5; bf16 is held to the bound of 0600. And what
# one backend saved, the other resumes. In `make check` models of two layers, a few steps, and races looked for in two runs; MOEKIT_LARGE=1:
# those of 0600 and more layouts, races looked for in all.
. "$(dirname "$0")/lib/tap.sh"

build=emulated
[ -x "$top/.build/$build/bin/moe-train" ] || build=emulated-bare
need_for_all cuda test -x "$top/.build/$build/bin/moe-train" # make EMULATED=1 all
bin=$top/.build/$build/bin
PATH=$bin:$PATH
. "$(dirname "$0")/lib/layouts.sh"
need_for_all mpi command -v mpirun
need_for_all helpers test -x "$helpers/routing-compare"
unset MOEKIT_EMULATOR_FAIL MOEKIT_EMULATOR_DEVICES
export MOEKIT_EMULATOR_SEED=1

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
for model in 'mix mixtral' 'glm glm num_key_value_heads=4 topk_group=2' 'qwen qwen' 'qwen3 qwen3' 'olmoe olmoe' \
    'tied mixtral tie_word_embeddings=true num_experts_per_tok=3' 'one mixtral num_experts_per_tok=1'; do
    # shellcheck disable=SC2086
    write_model $model num_hidden_layers=$layers
done

plan_of() {
    case $1 in
    cap) echo "mix $batch --capacity-factor 1.1" ;;
    pos) echo "mix $batch --capacity-factor 1.0 --drop position" ;;
    bf16) echo "mix $batch --precision bf16" ;;
    *) echo "$1 $batch" ;;
    esac
}
run_of() {
    case $1 in
    glm) echo '--bias-rate 0.01' ;;
    qwen) echo '--eps 1e-5' ;;
    one) echo "--aux-loss 0 --z-loss 0 --init $T/one.init" ;;
    esac
}

# go NAME KIND RANKS OPTION…: under the plan that NAME has
go() {
    go_name=$1
    go_kind=$2
    go_ranks=$3
    shift 3
    # shellcheck disable=SC2046
    train "$go_name" "$go_ranks" $recipe $(run_of "$go_kind") --save "$T/$go_name" --dump-routing "$T/$go_name.routing" "$@"
}

# One rank of backend cpu, made when it is asked for.
reference() {
    [ -e "$T/ref.$1.log" ] && return 0
    # shellcheck disable=SC2046
    make_plan "ref.$1" $(plan_of "$1") && go "ref.$1" "$1" 1 --backend cpu || { diag "one rank of $1: $(cat "$T/ref.$1.err")"; return 1; }
}

# check_layout NAME KIND RANKS PLAN-OPTION…
check_layout() {
    name=$1
    kind=$2
    ranks=$3
    shift 3
    reference "$kind" || { fail "$name"; return; }
    # shellcheck disable=SC2046
    make_plan "$name" $(plan_of "$kind") "$@" && go "$name" "$kind" "$ranks" --backend cuda --comm mpi ||
        { fail "$name"; diag "exit status $?: $(head -5 "$T/$name.err")"; return; }
    if [ "$kind" = bf16 ]; then
        far=$(distance "$name" ref.mix)
        spread=$(distance ref.bf16 ref.mix)
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

check_layout one-rank glm 1
check_layout tp2-ep2 mix 4 --tp 2 --ep 2 --dp 2
[ -n "$large" ] || export MOEKIT_EMULATOR_CHECK=0 # the kernels' races are looked for in 0805
check_layout tp4-ep4-pp2 glm 8 --tp 4 --ep 4 --pp 2 --recompute selective
check_layout dp2-tp2-etp2-ep2 cap 4 --tp 2 --etp 2 --ep 2 --dp 2 --zero 1 --recompute full
check_layout pp2-vpp2-uneven mix 2 --pp 2 --vpp 2 --split "${split:-1,0,0,1}"
reference mix && make_plan one.from one $batch && train one.from 1 -d "$T/text" -s 1 --backend cpu --save "$T/one.from" &&
    zero_gates one.from/step-00000001 one.init || fail 'a model with a router of zeros'
check_layout all-to-one one 2 --ep 2 --lambda 1.2
reference bf16
check_layout bf16-tp2-ep2 bf16 4 --tp 2 --ep 2 --dp 2
saved_and_resumed cuda cpu
saved_and_resumed cpu cuda
[ -n "$large" ] || done_testing

check_layout pp2-zb tied 2 --pp 2 --schedule zb-h1
check_layout tp2-o-bias qwen3 2 --tp 2
check_layout dp4-zero0 mix 4 --dp 4 --zero 0
check_layout ep8 mix 8 --ep 8 --lambda 1.0
check_layout tp8 qwen3 8 --tp 8
check_layout etp4 mix 4 --etp 4
check_layout pp4-vpp1 mix 4 --pp 4 --schedule 1f1b --recompute full
check_layout pos-tp2-ep2 pos 4 --tp 2 --ep 2 --dp 2 --recompute full
check_layout cap-ep4-tp2 cap 8 --ep 4 --tp 2 --dp 4
check_layout olmoe-tp2-pp2 olmoe 4 --tp 2 --pp 2 --ep 2
check_layout qwen-tp4-zb qwen 8 --tp 4 --pp 2 --ep 2 --etp 2 --schedule zb-h1
check_layout tied-tp2-pp2 tied 8 --tp 2 --pp 2 --dp 2 --ep 4
check_layout bf16-one bf16 1
check_layout bf16-pp2 bf16 2 --pp 2 --recompute selective
check_layout bf16-all bf16 8 --tp 2 --pp 2 --ep 2 --dp 2 --schedule zb-h1
done_testing
