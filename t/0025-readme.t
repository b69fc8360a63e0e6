#!/bin/sh
# SPDX-License-Identifier: MIT
# README's pipeline runs and prints what README shows. The runs are cut to three steps; their numbers are changed in README's text alike.
. "$(dirname "$0")/lib/tap.sh"
need_for_all mpi command -v mpirun
need_for_all gnuplot command -v gnuplot
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMP_NUM_THREADS=1

sed -n '/^The pipeline/,/^On a cluster with/s/^    //p' "$top/README" |
    sed 's/00000080/00000002/g; s/00000120/00000003/g; s/ 80\b/ 2/g; s/ 120\b/ 3/g; s/-every 40/-every 1/; s/loss_last < 3/loss_last < 6/' >"$T/shown"
[ "$(grep -c '^\$ ' "$T/shown")" -ge 8 ] && [ "$(grep -vc '^\$ ' "$T/shown")" -ge 8 ]
ok $? 'README shows commands and what they print'
cat "$top/README" "$top/INSTALL" "$top"/share/man/* >"$T/text.txt"
grep '^\$ ' "$T/shown" | sed 's/^..//' >"$T/commands"
cd "$T" || exit 1
while read -r line; do
    echo "\$ $line"
    sh -c "$line" 2>"$T/err" </dev/null
    sed -n '/^moe-/p' "$T/err"
done <"$T/commands" >"$T/printed"
is "$(cat "$T/printed")" "$(cat "$T/shown")" 'they print it'
is "$(head -c 4 "$T/loss.png" 2>/dev/null | tail -c 3)" PNG 'and draw it'
is "$(head -c 15 "$T/run.html" 2>/dev/null)" '<!DOCTYPE html>' 'and make a page of it'

# The reference job.
moe-partition --strategy ep16-tp4-pp2 -o ref
like "$(tr '\n' ' ' <"$top/README")" "$(sed -n 's/^axes world=\([0-9]*\) .*/\1/p' ref) ranks \(6\.6 billion parameters, $(grep -c '^group' ref) communicator groups, $(grep -c '' ref) lines\)" \
    'the reference job is as large as README says'
like "$(moe-partition emit json ref | tr -d '\n')" '"parameters": ?65[5-9][0-9]{7}|"parameters": ?66[0-4][0-9]{7}' 'and has 6.6 billion parameters'
like "$(cat "$top/README")" "checked against $(moe-plan-check --rules | grep -c .) rules" 'so many rules are checked'
faults=$(sed -n 's/.*fault("\([a-z-]*\)").*/\1/p' "$top"/lib/*/*.c | sort -u | grep -c .)
like "$(cat "$top/README")" "each of $faults seeded faults" 'so many faults are seeded'
is "$(grep -cE '^check ' "$top/t/lib/layouts.table") $(grep -cE '^(check|large) ' "$top/t/lib/layouts.table")" '9 58' 'nine layouts are compared, and 58'
done_testing
