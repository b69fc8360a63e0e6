#!/bin/bash
# SPDX-License-Identifier: MIT
# Lost ranks: each rank of a job is stopped or killed in each phase. The job ends within the time-out and some slack, and says in the log,
# or in what the next start puts there, which rank it was. A slow rank is not lost.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/faults.sh"
need_for_all mpi command -v mpirun

timeout=3
recipe="-d $T/text --timeout $timeout"
write_tokens text 97 2000
write_model mix mixtral num_hidden_layers=2
make_plan job mix --seq 16 --global-batch 6 --dp 3
train job 3 $recipe -s 1 --save "$T/job" || diag "$(cat "$T/job.err")"

# Ends job $1, mpirun or its parent, after 60 s; or when mpirun is all that is left of it for 5 s: PMIx 4.2 may hang as it finishes.
guard() {
    local launcher states seen=0 over=0
    for _ in $(seq 60); do
        sleep 1
        launcher=$(pgrep -P "$1" -x mpirun) || launcher=$1
        states=$(ps -o stat= --ppid "$launcher")
        case $states in
        *[!Zl+[:space:]]*) seen=1 over=0 ;;
        *) over=$((over + seen)) ;;
        esac
        [ $over -lt 5 ] || break
    done
    pkill -KILL -P "$1"
    kill -KILL "$1" 2>/dev/null
}

# lose ACTION:PLACE:RANK OPTION…: such a run in $T/ACTION.PLACE.RANK, in a checkpoint's root of its own; its status and seconds
lose() {
    local halt=$1 at=$T/${1//:/.} begin=$SECONDS
    shift
    case $halt in *:meet:*) export MOEKIT_SLOW_IO=0.3 ;; esac # gone before the others look for it
    mkdir "$at" && cp -r "$T/job" "$at/root"
    MOEKIT_HALT=$halt mpi 3 moe-train -p "$T/job.plan" --log "$at/log" $recipe "$@" >"$at/out" 2>"$at/err" </dev/null &
    local job=$!
    guard $job &
    local guard=$!
    wait $job
    echo "$? $((SECONDS - begin))" >"$at/status"
    kill $guard 2>/dev/null
}

# found ACTION:PLACE:RANK: after the next start the log names the rank
found() {
    local at=$T/${1//:/.} rank=${1##*:} status seconds
    read -r status seconds <"$at/status"
    [ "$status" -ne 0 ] && [ "$seconds" -le 30 ]
    ok $? "$1: the job ends (status $status, $seconds s)" || diag "$(head -5 "$at/err")"
    grep -q '"kind":"fault"' "$at/log" 2>/dev/null || ls "$at"/log.fault.* >/dev/null 2>&1
    ok $? "$1: a record or a marker is left"
    printf '{"kind": "fau' >"$at/log.fault.elsewhere.7.tmp" # as a rank leaves it that is killed as it writes
    : >"$at/log.fault.nowhere"                            # and as a host leaves it that goes down before it is on disk
    moe-train -p "$T/one.plan" --log "$at/log" $recipe -s 0 >/dev/null 2>>"$at/err"
    none "$(ls "$at" | grep 'log\.fault')" "$1: the next start has gathered the markers"
    is "$(sed -n '/"kind":"fault"/s/.*"rank":\([a-z0-9]*\).*/\1/p' "$at/log" | sort -u | tr '\n' ' ')" "$rank " "$1: it names rank $rank" ||
        diag "$(cat "$at/log" "$at/err" | grep -v '"kind":"step"' | head -20)"
}
make_plan one mix --seq 16 --global-batch 6

# Every place and every rank, and rank 0 where it matters most; all pairs of them with MOEKIT_LARGE.
some=' init.1 meet.2 start.2 step.0 step.1 save.0 save.2 read.1 write.0 end.0 '
cases=
for action in stop kill; do
    for place in init meet start step save end read write; do
        for rank in 0 1 2; do
            case $place.$rank in write.[12]) continue ;; esac # rank 0 writes for all of so small a model
            case ${MOEKIT_LARGE:+large}$some in large*) ;; *" $place.$rank "*) ;; *) continue ;; esac
            case $action.$place in kill.read | stop.meet) continue ;; esac
            cases="$cases $action:$place:$rank"
        done
    done
done
# They wait more than they work: three at a time.
# shellcheck disable=SC2086
set -- $cases
while [ $# -gt 0 ]; do
    batch="$1 ${2:-} ${3:-}"
    for one in $batch; do
        lose "$one" -s 3 --save-every 1 --save "$T/${one//:/.}/root" --resume "$T/${one//:/.}/root" &
    done
    wait
    for one in $batch; do
        found "$one"
    done
    shift $(($# < 3 ? $# : 3))
done

# ---- slow is not dead ----
cp "$T/job.plan" "$T/slow.plan"
begin=$SECONDS
MOEKIT_SLOW_IO=0.35 train slow 3 -d "$T/text" -s 1 --save "$T/slow" --timeout 4
is $? 0 "a save of $((SECONDS - begin)) s, slow at every piece, under a time-out of 4 s" || diag "$(cat "$T/slow.err")"
[ $((SECONDS - begin)) -gt 8 ]
ok $? 'it was slow indeed'
is "$(grep -c '"kind":"fault"' "$T/slow.log")" 0 'and no fault'

# ---- the start of MPI, with all places for records taken ----
for n in '' .2 .3 .4 .5 .6 .7 .8 .9 .10 .11 .12 .13 .14 .15 .16; do
    echo '{"kind":"fault","job":"another"}' >"$T/term.log.fault.here$n"
done
export SLURMD_NODENAME=here
MOEKIT_HALT=stop:init:1 mpirun --oversubscribe --bind-to none -n 3 moe-train -p "$T/job.plan" --log "$T/term.log" -d "$T/text" -s 1 \
    2>"$T/term.err" </dev/null &
job=$!
for _ in $(seq 600); do # until all hold SIGTERM back for their watchdogs, which then must see it however early it comes
    held=0
    for pid in $(pgrep -P $job -x moe-train); do
        ! grep -q '^SigBlk:.*[4567c-f]...$' "/proc/$pid/status" 2>/dev/null || held=$((held + 1))
    done
    [ $held -lt 3 ] || break
    sleep 0.1
done
begin=$SECONDS
for pid in $(pgrep -P $job -x moe-train); do kill -TERM "$pid"; done
guard $job &
guard=$!
wait $job
kill $guard 2>/dev/null
# Its own words, not its status: a rank that goes while it meets mpirun may leave that one in wait for itself.
is "$(sed -n 's/^ *Exit code: *//p' "$T/term.err"):$((SECONDS - begin < 15))" 3:1 'SIGTERM during the start of MPI ends the job at once' ||
    diag "$(cat "$T/term.err")"
like "$(cat "$T/term.err")" 'the start of MPI: told to end.*\(it leaves no record: .*term\.log\.fault\.here' 'and says so'
is "$(cat "$T"/term.log.fault.here* | sort -u):$(ls "$T" | grep -c 'term.log.fault')" '{"kind":"fault","job":"another"}:16' 'the records that are there stay'
done_testing
