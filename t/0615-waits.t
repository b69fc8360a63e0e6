#!/bin/bash
# SPDX-License-Identifier: MIT
# Each wait and each copy that can be left out (lib/base/faults.h) is missed: with it a job runs on the backend `late` and communication
# `strict`, without it the job ends with what was not ordered.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/faults.sh"
need_for_all mpi command -v mpirun

write_tokens text 97 2000
write_model mix mixtral num_hidden_layers=2

late() {
    train "$1" "$ranks" -d "$T/text" -s 2 --eval "$T/text" --eval-every 1 --loads-every 1 --timeout 60 --backend late --comm strict --overlap on
}

# layout NAME RANKS PLAN-OPTION…: what is left out after it is tried here; with nothing left out it must run.
layout() {
    name=$1
    ranks=$2
    shift 2
    make_plan "$name" mix --seq 16 --global-batch 8 "$@" && late "$name"
    is "$?" 0 "$name ($ranks ranks) with nothing left out" || diag "$(head -3 "$T/$name.err")"
}

tried=
# What is left out between streams is named; of what is not copied the numbers tell.
missed() {
    for what; do
        tried="$tried $what"
        cp "$T/$name.plan" "$T/$what.plan"
        MOEKIT_FAULT=$what late "$what"
        status=$?
        said=$(grep -m 1 'neither waits for the other' "$T/$what.err" | sed 's/^[^'"'"']*//')
        [ -n "$said" ] || [ "$by" = order ] || [ "$(figures "$what")" = "$(figures "$name")" ] || said="other figures, exit status $status"
        [ -n "$said" ]
        ok $? "$what: $said" || diag "exit status $status: $(head -3 "$T/$what.err")"
    done
}

by=order
layout pp2 2 --pp 2
missed input-not-awaited result-not-awaited sent-not-awaited place-not-awaited
layout ep2 2 --ep 2
missed counts-not-awaited figures-not-awaited
missed choices-not-awaited packed-not-awaited rows-not-awaited results-not-awaited combined-not-awaited
layout etp2 2 --etp 2
missed order-not-awaited
layout dp2 2 --dp 2 --bucket-bytes 20000
missed bucket-early gradients-not-awaited sums-not-awaited update-not-awaited weights-not-awaited
layout one 1
by=numbers
missed operation-not-copied upload-not-copied

# All that the source knows has been tried.
known=$(cat "$top"/lib/*/*.c "$top"/kernels/*.c | grep -o 'left_out([^)]*)' | grep -o '"[a-z-]*"' | tr -d '"' | sort -u)
is "$(printf '%s\n' $tried | sort -u)" "$known" "all that can be left out has been tried"
done_testing
