#!/bin/bash
# SPDX-License-Identifier: MIT
# Where experts are changes nothing: placed by their loads, unevenly, on fewer ranks after a loss. What is dropped is dropped alike everywhere.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/layouts.sh"

need_for_all mpi command -v mpirun
need_for_all helpers test -x "$helpers/routing-compare"

batch='--seq 16 --global-batch 12'
recipe="-d $T/text --lr 2e-3 --eps 1e-6 --warmup 2 --loads-every 1 --timeout 100"
half=step-00000003
write_tokens text 97 8000
write_model mix mixtral
write_model six mixtral num_local_experts=6

# go_on NAME FROM RANKS [OPTION…]: the plan NAME from the checkpoint of step 3 of FROM, whose log it goes on with, to step 6
go_on() {
    name=$1 from=$2 ranks=$3
    shift 3
    sed '/"kind":"step","step":[456],/d' "$T/$from.log" >"$T/$name.log"
    train "$name" "$ranks" -d "$T/text" -s 6 --save "$T/$name" --resume "$T/$from/$half" --loads-every 1 "$@" ||
        diag "$name: exit status $?: $(head -5 "$T/$name.err")"
}

# same_as NAME REFERENCE WORDS
same_as() {
    same_training "$1" "$2" 6
    same=$?
    ok $same "$3: $said"
    [ $same -eq 0 ] || diag "$details"
}

# holders PLAN LAYER: how many experts each ep rank has there
holders() { moe-partition emit json "$T/$1.plan" | perl -MJSON::PP -0777 -ne '
    my $f = decode_json($_)->{experts}{first}['"$2"']; print join(" ", map { $f->[$_ + 1] - $f->[$_] } 0 .. $#$f - 1)'; }

# ---- one rank, and 8 experts over 3 ----
make_plan one mix $batch
train one 1 $recipe -s 6 --save "$T/one" --save-every 3
make_plan three mix $batch --ep 3
is "$(holders three 0)" '3 3 2' 'eight experts over three ranks'
train three 3 $recipe -s 6 --save "$T/three" --save-every 3 || diag "$(head -3 "$T/three.err")"
same_as three one 'three, three and two experts'

# ---- placed by their loads ----
moe-stat --loads "$T/one.log" >"$T/loads"
moe-partition place "$T/loads" -p "$T/three.plan" -o "$T/placed.plan" >"$T/table" 2>"$T/.err"
is "$?" 0 'placed by what the run routed' || diag "$(cat "$T/.err")"
is "$(grep -c '^expert ' "$T/placed.plan")" 12 'each layer its own way'
train placed 3 $recipe -s 6 --save "$T/placed" --save-every 3 || diag "$(head -3 "$T/placed.err")"
same_as placed one 'placed experts'
cp "$T/placed.plan" "$T/late.plan"
train late 3 $recipe -s 2 --lr-steps 6 --backend late --comm strict
is "$(figures late)" "$(figures placed | awk '$2 <= 2')" 'bitwise the same figures on backend late and communication strict'

# ---- from even to uneven, to placed, and back ----
make_plan two mix $batch --dp 2 --ep 2 --pp 2
go_on two three 4
same_as two one 'even after uneven'
cp "$T/placed.plan" "$T/moved.plan"
go_on moved one 3
same_as moved one 'placed after contiguous'
run moe-ckpt diff --optimizer "$T/three/$half" "$T/placed/$half"
is "$status" 1 'as files they differ by rounding alone' || diag "$out"

# ---- replicas: to plan with ----
make_plan rich mix $batch
moe-partition place "$T/loads" -p "$T/rich.plan" --redundant 2 -o "$T/rich.plan" >/dev/null 2>&1
run moe-train -p "$T/rich.plan" -d "$T/text" -s 1
is "$status $(printf '%s\n' "$err" | wc -l)" '2 1' 'moe-train refuses replicas, in one line'
like "$err" '2 replicas of experts a layer, whose gradients it does not sum' 'and says why'

# ---- a rank is lost: both readings, both ways ----
# reading LETTER ETP: tp 2, ep 4, pp 2 on 16 ranks; rank 5 (first stage, dp 2) is lost after step 3
reading() {
    letter=$1
    make_plan "$letter" mix $batch --tp 2 --pp 2 --ep 4 --etp "$2" --dp 4
    train "$letter" 16 $recipe -s 3 --save "$T/$letter" --lr-steps 6 || diag "$(head -3 "$T/$letter.err")"

    run moe-partition replan "$T/$letter.plan" --lost 5 -o "$T/$letter.keep.plan"
    is "$status" 0 "reading $letter: replanned with all experts" || diag "$err"
    like "$out" 'rank 5: 1 of 16' 'it says what is lost'
    like "$out" "$3" "and what that means: $3"
    like "$out" 'layout +tp 2, cp 1, dp 3, pp 2 \(vpp 1\); etp '"$2"', ep 3' 'one dp less, and ep 3'
    moe-plan-check "$T/$letter.keep.plan" >"$T/.out"
    is $? 0 'the plan is valid' || diag "$(grep FAIL "$T/.out")"
    is "$(holders "$letter.keep" 0)" '3 3 2' 'eight experts over three ep ranks'
    go_on "$letter.keep" "$letter" 12
    same_as "$letter.keep" one 'the loss goes on as if nothing had been lost'

    run moe-partition replan "$T/$letter.plan" --lost 5 --drop-experts --loads "$T/loads" -o "$T/$letter.drop.plan"
    is "$status" 0 "reading $letter: replanned without the experts of the lost rank" || diag "$err"
    drop=$(printf '%s\n' "$out" | sed -n 's/.*--drop-experts //p')
    like "$drop" '^0-1:' 'of the first stage those that it held'
    like "$drop" ',2:.*,3:' 'and as many of each other layer'
    is "$(holders "$letter.drop" 3)" '2 2 2' 'six experts over three ep ranks'
    run moe-ckpt shrink "$T/$letter/$half" "$T/$letter.small/$half" --drop-experts "$drop"
    is "$status" 0 'moe-ckpt shrink takes the list' || diag "$err"
    cp "$T/$letter.log" "$T/$letter.small.log"
    go_on "$letter.drop" "$letter.small" 12
    moe-plan-check "$T/$letter.drop.plan" >"$T/.out"
    is $? 0 'the plan is valid' || diag "$(grep FAIL "$T/.out")"
    make_plan "$letter.alone" six $batch
    go_on "$letter.alone" "$letter.small" 1
    same_as "$letter.drop" "$letter.alone" 'the loss goes on, as on one rank with the same six'
    before=$(figures "$letter" | awk '/^step 3 loss/ { print $4 }') after=$(figures "$letter.drop" | awk '/^step 6 loss/ { print $4 }')
    below "$after" "$(awk -v x="$before" 'BEGIN { print 1.05 * x }')"
    ok $? "and from where it was: $before at step 3, $after at step 6"
}
reading A 2 '2 of 8 are whole on no rank that stays: 4-5'
reading B 1 'all have a whole copy on ranks that stay \(edp 2\)'
done_testing
