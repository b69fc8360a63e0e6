#!/bin/bash
# SPDX-License-Identifier: MIT
# The comparison of 0600 is itself tested: with each seeded fault (lib/base/faults.h) it must fail, in a layout in which it holds without.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/faults.sh"
need_for_all mpi command -v mpirun

steps=3
batch='--seq 16 --global-batch 8'
recipe="-d $T/text -s $steps --lr 2e-3 --eps 1e-6 --weight-decay 1 --clip 0.3 --loads-every 1 --timeout 60"

write_tokens text 97 2000
write_model mix mixtral num_hidden_layers=2
write_model tied mixtral num_hidden_layers=2 tie_word_embeddings=true
write_model olmoe olmoe num_hidden_layers=2
write_model glm glm num_hidden_layers=2

plan_of() {
    case $1 in
    cap) echo "mix $batch --capacity-factor 1.0" ;;
    *) echo "$1 $batch" ;;
    esac
}
run_of() {
    case $1 in
    glm) echo '--bias-rate 0.05' ;;
    esac
}

# go NAME KIND RANKS: under the plan that NAME has
go() {
    # shellcheck disable=SC2046
    train "$1" "$3" $recipe $(run_of "$2") --save "$T/$1"
}

# layout NAME KIND RANKS PLAN-OPTION…: what the faults after it are tried in; without one it must equal one rank.
layout() {
    name=$1
    kind=$2
    ranks=$3
    shift 3
    if [ ! -e "$T/ref.$kind.log" ]; then
        # shellcheck disable=SC2046
        make_plan "ref.$kind" $(plan_of "$kind") && go "ref.$kind" "$kind" 1 || diag "$(head -3 "$T/ref.$kind.err")"
    fi
    # shellcheck disable=SC2046
    make_plan "$name" $(plan_of "$kind") "$@" && go "$name" "$kind" "$ranks" || diag "$(head -3 "$T/$name.err")"
    same_training "$name" "ref.$kind" $steps
    same=$?
    ok $same "$name ($ranks ranks of $kind) without a fault: $said"
    [ $same -eq 0 ] || diag "$details"
}

tried=
caught() {
    for fault; do
        tried="$tried $fault"
        cp "$T/$name.plan" "$T/$fault.plan"
        MOEKIT_FAULT=$fault go "$fault" "$kind" "$ranks"
        status=$?
        if [ $status -gt 1 ]; then
            fail "$fault"
            diag "exit status $status: $(head -3 "$T/$fault.err")"
        elif same_training "$fault" "ref.$kind" $steps; then
            fail "$fault goes unnoticed in $name: $said"
        else
            pass "$fault is noticed: $said"
        fi
        rm -rf "${T:?}/$fault"
    done
}

layout dp2 mix 2 --dp 2
caught gradients-stale dense-dp expert-edp weights-not-gathered loss-scale-local data-same-dp loads-local norm-missing-dp decay-by-slice
layout dp2-bias glm 2 --dp 2
caught loads-local
layout tp2 mix 2 --tp 2
caught norm-gradients-tp norm-counts-copies norm-missing-tp aux-statistics-local aux-counted-tp-times vocabulary-offset init-local rope-not-inverted
layout tp4 mix 4 --tp 4
caught kv-gradients
layout tp2-olmoe olmoe 2 --tp 2
caught qk-norm-local o-bias-tp-times
layout tp2-cap cap 2 --tp 2
caught capacity-local
layout tp2-etp2 mix 2 --tp 2 --etp 2
caught etp-sum-skipped
layout ep2-tight mix 2 --ep 2 --lambda 1.0
caught overflow-dropped
layout zero mix 4 --tp 2 --dp 2 --ep 2 --order tp-cp-dp-ep-pp
caught zero-group
layout pp2 mix 2 --pp 2 --schedule gpipe
caught pipeline-microbatch norm-missing-pp
layout pp2-zb mix 2 --pp 2 --schedule zb-h1
caught weights-skipped
layout pp2-tied tied 2 --pp 2
caught tied-embedding
layout recompute mix 1 --recompute selective
caught recompute-stale

# Every fault that the source knows has been tried.
seeded=$(cat "$top"/lib/*/*.c | grep -o 'fault("[a-z-]*")' | cut -d'"' -f2 | sort -u)
is "$(printf '%s\n' $tried | sort -u)" "$seeded" "all seeded faults are tried"
done_testing
