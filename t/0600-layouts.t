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

zero_router || fail "a model with a router of zeros"
checked=0
while read -r when name kind ranks also options <&3; do
    case $when:$large in check:* | large:?*) ;; *) continue ;; esac
    checked=$((checked + 1))
    # shellcheck disable=SC2086
    if [ "$kind" = bf16 ]; then check_bf16 "$name" "$ranks" $options; else check_layout "$name" "$kind" "$ranks" $options; fi
    case $also in
    twice) check_twice "$name" "$kind" "$ranks" ;;
    overflows) overflows "$name" ;;
    esac
done 3<"$top/t/lib/layouts.table"
[ "$checked" -ge 9 ]
ok $? "$checked layouts"
done_testing
