#!/bin/sh
# SPDX-License-Identifier: MIT
# Communication on several ranks: the unit tests of it, which by themselves run on one.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/layouts.sh"

need_for_all mpi command -v mpirun
[ -x "$helpers/comm" ] || { echo "1..0 # SKIP no $helpers/comm: make unit builds it"; exit 0; }

for case in 'comm 2' 'comm 5' 'comm-messages 4'; do
    set -- $case
    run mpi "$2" "$helpers/$1"
    is "$status $(printf '%s\n' "$out" | grep -c '^not ok') $(printf '%s\n' "$out" | grep -c '^1\.\.[1-9]')" '0 0 1' "$1 on $2 ranks"
    [ "$status" -eq 0 ] || diag "$(printf '%s\n%s\n' "$out" "$err" | grep -v '^ok' | head -20)"
done
run mpi 3 "$helpers/comm" abort 7
is "$status" 7 'one rank ends the job with its status'
done_testing
