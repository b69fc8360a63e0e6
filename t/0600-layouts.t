#!/bin/bash
# SPDX-License-Identifier: MIT
# Layout changes nothing: a plan for any number of ranks, cut along any axes, run by any schedule, trains the same model as one rank.
#
# Of each layout and of one rank: losses, gradient norm, dropped choices, expert loads and evaluation agree to 1e-5 in every step, final weights
# to 1e-4 a tensor, and every token went to the same experts, unless it was within 1e-6 of a tie. Each layout's first steps run on the backend
# late and communication strict too. MOEKIT_LARGE=1: all layouts.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/layouts.sh"

need_for_all mpi command -v mpirun
need_for_all helpers test -x "$helpers/routing-compare"

large=${MOEKIT_LARGE:-}
steps=${large:+20}
steps=${steps:-6}

# AdamW divides by sqrt(v) + eps. Where a gradient is zero but for rounding, as for experts and tokens that nearly nothing reaches, rounding
# is all that an eps of 1e-8 would leave, and it moves a weight by a whole learning rate. 1e-6 is above the rounding here.
recipe="-d $T/text -s $steps --lr 2e-3 --warmup 3 --eps 1e-6 --eval $T/text --eval-every 5 --eval-steps 2 --loads-every 5"
batch='--seq 32 --global-batch 16'
last=step-$(printf '%08d' "$steps")

write_tokens text 97 20000
write_models

# check_layout NAME KIND RANKS PLAN-OPTION…
check_layout() {
    name=$1
    kind=$2
    ranks=$3
    shift 3
    reference "$kind" || { fail "$name"; return; }
    # shellcheck disable=SC2046
    make_plan "$name" $(plan_of "$kind") "$@" && go "$name" "$kind" "$ranks" || { fail "$name"; diag "exit status $?: $(head -5 "$T/$name.err")"; return; }
    same_training "$name" "ref.$kind" "$steps"
    same=$?
    ok $same "$name ($ranks ranks of $kind): $said"
    [ $same -eq 0 ] || diag "$details"
    rm -f "$T/$name.routing."*
    check_late "$name" "$kind" "$ranks"
}

overflows() {
    grep -q '"kind":"step".*"overflow":[1-9]' "$T/$1.log"
    ok $? "$1: some layer took more rows than were reserved, in several passes"
}

# The same figures, but for the loads that the last step has, where communication goes beside computation, everything runs as late as it may,
# and messages are as strict as NCCL's.
check_late() {
    late_name=$1
    cp "$T/$1.plan" "$T/$1.late.plan"
    # shellcheck disable=SC2046
    train "$1.late" "$3" $recipe $(run_of "$2") -s 2 --lr-steps "$steps" --backend late --comm strict --overlap on
    late_status=$?
    [ "$late_status" -eq 0 ] && [ -s "$T/$1.late.log" ] &&
        [ "$(figures "$1.late" | grep -v expert_load)" = "$(figures "$1" | awk '$2 <= 2')" ]
    ok $? "$1: bitwise the same figures with overlap, on backend late and communication strict" ||
        diag "exit status $late_status: $(head -5 "$T/$late_name.late.err")"
    rm -f "$T/$1.late.plan"
}

check_twice() {
    cp "$T/$1.plan" "$T/$1.again.plan"
    # shellcheck disable=SC2046
    train "$1.again" "$3" $recipe $(run_of "$2") --save "$T/$1.again"
    is "$?" 0 "$1: runs again" || diag "$(head -5 "$T/$1.again.err")"
    is "$(figures "$1.again")" "$(figures "$1")" "$1: the same plan twice: bitwise the same figures"
    run moe-ckpt diff --optimizer "$T/$1/$last" "$T/$1.again/$last"
    is "$status" 0 "$1: and bitwise the same weights and moments" || diag "$out"
}

# In bf16 the order of sums shows in the losses, so a layout is compared with one rank in f32: it may be twice as far
# from that as one rank in bf16 is. (Two backends on one rank differ by more or less, as the processor has it.)
spread=
check_bf16() {
    name=$1
    if [ -z "$spread" ]; then
        make_plan bf16 mix $batch --precision bf16
        make_plan bf16.f32 mix $batch --precision f32
        train bf16 1 $recipe && train bf16.f32 1 $recipe || diag "$(head -3 "$T/bf16.err" "$T/bf16.f32.err")"
        spread=$(distance bf16.f32 bf16)
    fi
    ranks=$2
    shift 2
    make_plan "$name" mix $batch --precision bf16 "$@" && train "$name" "$ranks" $recipe || diag "$(head -3 "$T/$name.err")"
    far=$(distance "$name" bf16.f32)
    below "$far" "$(awk -v x="$spread" 'BEGIN { print 2 * x }')"
    ok $? "$name ($ranks ranks of bf16): losses are $far rms from one rank in f32; one rank in bf16 is $spread from it"
}

check_layout tp4-ep4-pp2 glm 8 --tp 4 --ep 4 --pp 2 --recompute selective
check_layout dp2-tp2-etp2-ep2 cap 4 --tp 2 --etp 2 --ep 2 --dp 2 --zero 1 --recompute full --bucket-bytes 20000
check_layout pp2-vpp2-ep2-uneven mix 4 --pp 2 --vpp 2 --ep 2 --split 1,2,0,1
check_twice pp2-vpp2-ep2-uneven mix 4
check_layout pp2-zb-tp2 tied 4 --pp 2 --tp 2 --schedule zb-h1
check_layout dp2-pp2-zb-tied tied 4 --dp 2 --pp 2 --schedule zb-h1 --bucket-bytes 9000
check_layout tp2-o-bias qwen3 2 --tp 2
zero_router || fail "a model with a router of zeros"
check_layout all-to-one one 4 --ep 4 --lambda 1.2
overflows all-to-one
# Eight experts over three ranks: three, three and two.
check_layout ep3-pp2-uneven twelve 6 --ep 3 --pp 2 --lambda 1.0
overflows ep3-pp2-uneven
check_bf16 bf16-tp2-ep2 4 --tp 2 --ep 2 --dp 2
[ -n "$large" ] || done_testing

# ---- each axis alone ----
check_layout dp2 mix 2 --dp 2
check_layout dp4-zero0 z 4 --dp 4 --zero 0 --bucket-bytes 20000
check_layout ep4 plain 4 --ep 4
check_layout ep8-lambda1 mix 8 --ep 8 --lambda 1.0 --zero 0
overflows ep8-lambda1
check_layout tp2 mix 2 --tp 2
check_layout tp4 mix 4 --tp 4
check_layout tp8 qwen3 8 --tp 8
check_layout etp2 mix 2 --etp 2
check_layout etp4-edp1 mix 4 --etp 4
check_layout ep3-uneven dozen 3 --ep 3
check_layout ep6-edp2-uneven dozen 12 --ep 6 --tp 2 --dp 6
check_layout ep2-edp2 z 4 --ep 2 --dp 4
check_layout pp2-gpipe mix 2 --pp 2 --schedule gpipe
check_layout pp4-1f1b mix 4 --pp 4 --split 2,1,0,1 --schedule 1f1b --recompute full
check_layout pp2-zb z 2 --pp 2 --schedule zb-h1
check_layout pp4-vpp2 mix 4 --pp 4 --vpp 2 --split 0,1,0,1,1,0,1,0
check_layout pp4-zb plain 4 --pp 4 --schedule zb-h1 --split 0,2,2,0

# ---- together ----
check_layout tp2-ep2-etp2-edp2 mix 8 --tp 2 --ep 2 --etp 2 --dp 4 --bucket-bytes 5000
check_twice tp2-ep2-etp2-edp2 mix 8
check_layout tp4-ep2-etp4 mix 8 --tp 4 --ep 2 --etp 4 --dp 2
check_layout tp2-ep4-full mix 8 --tp 2 --ep 4 --dp 4 --recompute full
check_layout ordered mix 8 --tp 2 --ep 2 --dp 4 --order dp-ep-tp-cp-pp
check_layout pp4-zb-tp2-ep4-dp2 mix 16 --pp 4 --tp 2 --ep 4 --dp 2 --schedule zb-h1
check_layout all-axes mix 16 --tp 2 --pp 2 --vpp 2 --dp 4 --ep 2 --etp 2 --recompute selective --bucket-bytes 20000
check_twice all-axes mix 16
check_layout tp8-dp2 mix 16 --tp 8 --dp 2 --ep 8 --etp 2 --bucket-bytes 9000
check_layout micro2-tp4-dp2 micro 8 --tp 4 --dp 2 --ep 8
check_layout micro2-pp2-zb micro 4 --dp 2 --pp 2 --ep 2 --schedule zb-h1

# ---- capacity ----
check_layout cap-ep4-tp2 cap 8 --ep 4 --tp 2 --dp 4
check_layout cap-tp4-pp2-zb cap 16 --tp 4 --pp 2 --ep 4 --dp 2 --schedule zb-h1
check_layout pos-tp2-ep2 pos 4 --tp 2 --ep 2 --dp 2 --recompute full
check_layout pos-ep4-pp2 pos 8 --ep 4 --dp 4 --pp 2 --zero 0

# ---- families ----
check_layout glm-dp2-pp4-zb glm 8 --dp 2 --pp 4 --split 1,2,0,1 --schedule zb-h1
check_layout glm-etp2 grouped 16 --tp 2 --pp 2 --dp 4 --ep 4 --etp 2 --recompute selective
check_layout glm-tp8 grouped 8 --tp 8 --ep 2
check_layout olmoe-tp2 olmoe 2 --tp 2
check_layout olmoe-tp4-pp2-zb olmoe 8 --tp 4 --pp 2 --ep 2 --schedule zb-h1
check_layout olmoe-ep2-full olmoe 4 --ep 2 --dp 2 --pp 2 --recompute full
check_layout qwen-tp4-etp2-zb qwen 8 --tp 4 --pp 2 --ep 2 --etp 2 --schedule zb-h1
check_layout qwen-pp4 qwen 8 --dp 2 --pp 4 --schedule gpipe --recompute selective --bucket-bytes 9000
check_layout qwen-tp8 qwen 8 --tp 8 --recompute full
check_layout tied-tp2-pp2 tied 8 --tp 2 --pp 2 --dp 2 --ep 4
check_layout tied-pp4-vpp2 tied 8 --pp 4 --vpp 2 --dp 2 --split 1,0,1,0,1,0,1,0 --bucket-bytes 4000
check_layout tied-zero0 tied 4 --dp 2 --pp 2 --zero 0 --schedule zb-h1
check_layout one-tp2-etp2 one 8 --tp 2 --pp 2 --etp 2 --ep 2 --dp 2 --lambda 1.2 --schedule zb-h1
overflows one-tp2-etp2

# ---- bf16 ----
check_bf16 bf16-ep4 4 --ep 4
check_bf16 bf16-tp4 4 --tp 4
check_bf16 bf16-pp2 2 --pp 2 --recompute selective
check_bf16 bf16-etp2 4 --tp 2 --etp 2 --ep 2 --dp 2
check_bf16 bf16-all 8 --tp 2 --pp 2 --ep 2 --dp 2 --schedule zb-h1 --bucket-bytes 9000
check_bf16 bf16-zero0 4 --dp 2 --pp 2 --ep 2 --zero 0

done_testing
