#!/bin/sh
# SPDX-License-Identifier: MIT
# The batch scripts of share/slurm without a Slurm: how they read, what they make of moe-train's status, and that they are installed.
# `make check-slurm` runs them on a real one.
. "$(dirname "$0")/lib/tap.sh"
cd "$top" || exit 1

scripts=$(ls share/slurm/*.sbatch)
[ "$(echo "$scripts" | wc -l)" -ge 3 ]
ok $? 'there are scripts'
none "$(wc -l $scripts | awk '$2 != "total" && $1 >= ($2 ~ /survive/ ? 100 : 40)')" 'each has less than 40 lines, survive.sbatch less than 100'
none "$(awk 'length > 120 { print FILENAME ": " FNR }' $scripts)" 'that fit a screen'
for s in $scripts; do
    ! grep -q '^#SBATCH.*B:USR1' "$s" && grep -q '^#SBATCH --signal=USR1@' "$s"
    ok $? "$s has the ranks signalled, not its shell"
    grep -q "${s##*/}" share/man/moe-slurm.7 && grep -q "${s##*/}" README && grep -qF "\$scripts/${s##*/}\"" t/slurm/*.t
    ok $? 'is told of, and run by check-slurm'
done
if need shellcheck command -v shellcheck; then
    is "$(shellcheck -s sh $scripts t/slurm/cluster 2>&1)" '' 'shellcheck finds nothing in them'
fi

# ---- what they make of moe-train's status ----
mkdir "$T/stubs"
stub() { printf '#!/bin/sh\n%s\n' "$2" >"$T/stubs/$1" && chmod +x "$T/stubs/$1"; }
# srun leaves the record of a fault when that is asked for; a checkpoint's age is $AGE
stub srun "[ -z \"\$FAULT\" ] || echo '{\"kind\":\"fault\"}' >>'$T/root/log'; exit \$STATUS"
stub scontrol "echo \"\$*\" >>'$T/asked'"
stub squeue 'echo ${STATE:-RUNNING}'
stub moe-ckpt 'echo "step $AGE"'
for c in moe-partition moe-plan-check moe-stat; do stub $c 'exit 0'; done
# job SCRIPT NAME=VALUE…: its status, and what it asked of scontrol
job() {
    job_script=$1
    shift
    rm -f "$T/asked"
    env PATH="$T/stubs:$PATH" SLURM_JOB_ID=7 SLURM_NTASKS=4 "$@" sh "share/slurm/$job_script.sbatch" a b 5 "$T/root" >/dev/null 2>&1
    echo "$?$(sed 's/^/ /' "$T/asked" 2>/dev/null)"
}
for s in train requeue pipeline; do
    run sh "share/slurm/$s.sbatch" only
    is "$status $out $(echo "$err" | cut -c1-13)" '2  usage: sbatch' "$s: without its arguments it exits 2 and says what they are"
    for code in 0 1 2 3; do
        is "$(job $s STATUS=$code)" $code "$s: $code stays $code, and is not requeued"
    done
done
is "$(job train STATUS=75)" 75 'train: 75 is passed on'
is "$(job pipeline STATUS=75)" '75 requeue 7' 'pipeline: 75 is requeued'
is "$(job requeue STATUS=75)" '75 requeue 7' 'requeue: so it is there'
is "$(job requeue STATUS=75 STATE=COMPLETING)" 75 'but not when the job was cancelled'
rm -rf "$T/root"
is "$(job requeue STATUS=3 FAULT=1 AGE=1)" '3 requeue 7' 'a fault on record is requeued'
is "$(job requeue STATUS=137 FAULT=1 AGE=2)" '137 requeue 7' 'the next too if there was a checkpoint between them, whatever the launcher says'
is "$(job requeue STATUS=137 FAULT=1 AGE=2)" 137 'but not from the same checkpoint again'
is "$(job requeue STATUS=3 FAULT= AGE=3)" 3 'nor is 3 without a record'
for code in 9 77 137 143; do
    is "$(job requeue STATUS=$code FAULT= AGE=$code)" "$code requeue 7" "$code needs none: whoever was killed could write no record"
done
for code in 1 2; do
    is "$(job requeue STATUS=$code FAULT=1 AGE=new)" $code "$code is not requeued with one, either"
done

for s in pipeline survive array-sweep; do
    run env -u SLURM_JOB_ID -u SLURM_NTASKS -u SLURM_ARRAY_TASK_ID PATH="$T/stubs:$PATH" sh "share/slurm/$s.sbatch" a b 5 "$T/outside" 5
    like "$status $err" '^2 .*SLURM_[A-Z_]*: parameter not set' "$s: outside of a job it exits 2 and says what is not set"
done

# ---- survive: how often it tries ----
run sh share/slurm/survive.sbatch only
is "$status $out $(echo "$err" | cut -c1-13)" '2  usage: sbatch' 'survive: without its arguments it exits 2 and says what they are'
if need jq command -v jq; then
    # what replan and health leave; and a checkpoint from the second start on if $NEW is set
    stub moe-partition "while [ \$# -gt 1 ]; do case \$1 in -o | --new-places) echo 'n1 0' >\"\$2\" ;; esac; shift; done"
    stub srun "case \"\$*\" in
        *--health*) while [ \$# -gt 1 ]; do [ \"\$1\" != -o ] || echo '{\"sick\": [], \"hosts\": [\"n1\"]}' >\"\$2\"; shift; done ;;
        *moe-train*) echo start >>'$T/starts'; exit \$STATUS ;;
        esac"
    stub moe-ckpt "[ -z \"\$NEW\" ] || [ \$(cat '$T/starts' 2>/dev/null | wc -l) -lt 2 ] || echo '1 2 step-1'"
    stub moe-plan-check 'exit 0'
    echo >"$T/plan"
    survive() {
        rm -rf "$T/starts" "$T/asked" "$T/root"
        env PATH="$T/stubs:$PATH" SLURM_JOB_ID=7 SLURMD_NODENAME=n1 NEW= "$@" timeout 60 sh share/slurm/survive.sbatch "$T/plan" b 5 "$T/root" >"$T/said" 2>&1
        echo "$?$(sed -n 's/^requeue/ &/p' "$T/asked" 2>/dev/null), $(wc -l <"$T/starts") starts"
    }
    for code in 0 1 2; do
        is "$(survive STATUS=$code)" "$code, 1 starts" "survive: $code ends the job"
    done
    is "$(survive STATUS=75)" '75 requeue 7, 1 starts' 'survive: 75 is requeued'
    is "$(survive STATUS=75 STATE=COMPLETING)" '75, 1 starts' 'but not when the job was cancelled'
    is "$(survive STATUS=137)" '137, 3 starts' 'survive: three faults from one checkpoint are the end'
    is "$(survive STATUS=3 NEW=1)" '3, 4 starts' 'a new one counts anew' || diag "$(cat "$T/said")"
fi

# ---- array-sweep: the layouts that are planned are those that search ranks first ----
run sh share/slurm/array-sweep.sbatch only
is "$status $out $(echo "$err" | cut -c1-13)" '2  usage: sbatch' 'array-sweep: without its arguments it exits 2 and says what they are'
if need jq command -v jq; then
    cat >"$T/cluster.json" <<END
{"name": "test", "device": "cpu", "nodes": 4, "ranks_per_node": 1, "memory_bytes": 4e9, "memory_Bps": 1e10,
 "flops": {"f32": 4e11}, "intra_Bps": 5e9, "inter_Bps": 1e9, "intra_s": 1e-6, "inter_s": 1e-5}
END
    rm -f "$T/stubs"/moe-*
    stub srun "while [ \$# -gt 1 ]; do [ \$1 != --log ] || cp '$top/t/data/steplog-small.jsonl' \"\$2\"; shift; done; exit \$STATUS"
    sweep() {
        env PATH="$T/stubs:$PATH" SLURM_NTASKS=4 SLURM_ARRAY_TASK_ID="$1" STATUS="$2" sh share/slurm/array-sweep.sbatch moe-tiny "$T/cluster.json" text 9 \
            "$T/sweep" --seq 32 --global-batch 8 >"$T/swept" 2>&1
    }
    sweep 0 0 && sweep 1 0 && sweep 100000 0
    is "$? $(grep -c 'there are fewer layouts than 100001' "$T/swept")" '0 1' 'array-sweep: a task beyond the last layout says so and is done'
    sweep 2 3
    is "$? $(wc -l <"$T/sweep/results")" '3 2' 'a task that fails keeps its status, and leaves no result'
    moe-partition search -m moe-tiny -n 4 -c "$T/cluster.json" --seq 32 --global-batch 8 --top 1000 --json | jq -r '[.layouts[] | select(.runs)][:2][] | "\(.tokens_per_s) \(.tp) \(.ep) \(.micro_batch)"' >"$T/wanted"
    while read -r measured predicted plan options; do
        [ "$measured" != null ] && echo "$predicted $options" | sed -E 's/--tp ([0-9]+).* --ep ([0-9]+) .*--micro-batch ([0-9]+) .*/\1 \2 \3/'
    done <"$T/sweep/results" >"$T/got"
    is "$(cat "$T/got")" "$(cat "$T/wanted")" 'and the results are what search predicted, best first'
    moe-plan-check "$T"/sweep/00[01].plan >"$T/checked"
    ok $? 'whose plans pass'
fi

# ---- installing ----
# Of a build folder that has the commands and nothing else, which is not touched: nothing is built.
mkdir "$T/build" && ln -s "$bin" "$T/build/bin"
install() { make -s -o all "$1" BUILD="$T/build" DESTDIR="$T/to" prefix=/usr; }
install install >/dev/null 2>"$T/make.err"
ok $? 'make install' || diag "$(cat "$T/make.err")"
is "$(cd "$T/to/usr/share/moekit/slurm" && cksum *.sbatch)" "$(cd share/slurm && cksum *.sbatch)" 'installs them'
[ -s "$T/to/usr/share/man/man7/moe-slurm.7" ]
ok $? 'and their page'
like "$(make -n -o all install PREFIX=/opt/x BUILD="$T/build")" '/opt/x/bin' 'PREFIX is understood as prefix is'
install uninstall
none "$(find "$T/to" -type f)" 'make uninstall leaves no file'
done_testing
