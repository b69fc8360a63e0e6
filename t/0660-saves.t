#!/bin/bash
# SPDX-License-Identifier: MIT
# Checkpoints that are written while training goes on: what training does not feel, what waits, and whatever stops or fails meanwhile.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/faults.sh"
need_for_all mpi command -v mpirun

recipe="-d $T/text --lr 2e-3 --eps 1e-6 --loads-every 0 --timeout 60"
write_tokens text 97 4000
write_model mix mixtral num_hidden_layers=2
make_plan one mix --seq 16 --global-batch 8
make_plan two mix --seq 16 --global-batch 8 --ep 2 --dp 2
one() { run moe-train -p "$T/one.plan" $recipe "$@"; }
losses() { sed -n 's/.*"kind":"step","step":\([0-9]*\),.*"loss":\([^,]*\),.*/\1 \2/p' "$1" | sort -n -u; }
field() { sed -n "/\"kind\":\"$2\"/s/.*\"$3\":\([^,}]*\).*/\1/p" "$1"; }

# ---- what training does not feel ----
one -s 12 --log "$T/plain.log"
one -s 12 --save "$T/every" --save-every 1 --keep 2 --log "$T/every.log"
is "$status" 0 'a save a step: exit 0' || diag "$err"
is "$(losses "$T/every.log")" "$(losses "$T/plain.log")" 'a save a step: bitwise the same losses'
is "$(ls -A "$T/every" | tr '\n' ' ')" 'step-00000011 step-00000012 ' 'a save a step: the two newest are kept, and nothing else'
is "$(moe-ckpt verify "$T"/every/step-* | grep -c ': whole')" 2 'a save a step: both are whole'
is "$(field "$T/every.log" save step | tr '\n' ' ')" '1 2 3 4 5 6 7 8 9 10 11 12 ' 'a save a step: all in the log, in order'

# ---- a disk that takes its time ----
MOEKIT_SLOW_IO=0.14 one -s 2 --save "$T/slow" --save-every 1 --log "$T/slow.log"
is "$status" 0 'a slow disk: exit 0' || diag "$err"
is "$(printf '%s\n' "$err" | grep -c 'step 1 was still being written when that of step 2 was due')" 1 'a slow disk: a save waits for the one before, and says so'
is "$(sed -n 's/.*"kind":"\(step\|save\)","step":\([0-9]*\),.*/\1 \2/p' "$T/slow.log" | tr '\n' ' ')" 'step 1 step 2 save 1 save 2 ' 'a slow disk: training goes on'
jq -se '[.[] | select(.kind == "save")] | length == 2 and all(.[]; .wait_s > 0.5 and .write_s >= .wait_s
    and (.time_s - .snapshot_s - .wait_s - .seal_s | fabs) < 1e-9)' "$T/slow.log" >/dev/null
ok $? 'a slow disk: the log tells the waits, the parts add up' || diag "$(grep '"save"' "$T/slow.log")"

# stopped LOG: waits until the run that writes it has begun a save, then asks it to stop
MOEKIT_SLOW_IO=0.05 moe-train -p "$T/one.plan" $recipe -s 100000 --save "$T/stop" --save-every 3 --log "$T/stop.log" 2>"$T/stop.err" &
job=$!
for _ in $(seq 400); do ls -A "$T/stop" 2>/dev/null | grep -q '^\.step-' && break; sleep 0.02; done
kill -USR1 $job
wait $job
is $? 75 'a stop while a save is under way: exit 75' || diag "$(cat "$T/stop.err")"
is "$(moe-ckpt verify "$T"/stop/step-* | grep -c ': whole')" "$(ls "$T/stop" | wc -l)" 'a stop while a save is under way: every step is whole'
is "$(ls "$T/stop" | tail -1)" "$(printf 'step-%08d' "$(field "$T/stop.log" end step)")" 'a stop while a save is under way: the step it stopped at is saved'

# ---- little memory ----
write_model wide mixtral num_hidden_layers=2 hidden_size=512 intermediate_size=2048
make_plan wide wide --seq 16 --global-batch 8
run bash -c "ulimit -v 1500000; exec moe-train -p '$T/wide.plan' $recipe --threads 1 -s 2 --save '$T/little' --save-every 1"
is "$status" 0 'little memory: exit 0' || diag "$err"
is "$(printf '%s\n' "$err" | grep -c 'training waits while its checkpoints are written')" 1 'little memory: training waits, and one line says so'

# ---- killed at any moment ----
mpi 2 moe-train -p "$T/two.plan" $recipe -s 14 --log "$T/two.log" >/dev/null 2>&1
mkdir "$T/killed"
# A kill counts that finds a save under way and leaves its step without a name.
wanted=${MOEKIT_LARGE:+100} failed= hits=0
wanted=${wanted:-10}
for ((round = 0; hits < wanted && round < 4 * wanted; round++)); do
    rm -rf "$T/killed" "$T/killed.log"*
    MOEKIT_SLOW_IO=0.003 mpi 2 moe-train -p "$T/two.plan" $recipe -s 14 --save "$T/killed" --save-every 2 --keep 3 --log "$T/killed.log" >/dev/null 2>&1 &
    job=$!
    for _ in $(seq 500); do [ -e "$T/killed/step-00000002" ] && break; sleep 0.01; done
    ranks=$(pgrep -f "^moe-train -p $T/two.plan")
    sleep "0.$(printf %03d $((RANDOM % 150)))"
    for _ in $(seq 100); do compgen -G "$T/killed/.step-*.tmp" >/dev/null && break; sleep 0.002; done
    sleep "0.0$(printf %02d $((RANDOM % 30)))"
    saving=$(compgen -G "$T/killed/.step-*.tmp" | head -n 1)
    if ((round % 2)); then kill -KILL $(printf '%s\n' "$ranks" | shuf -n 1) 2>/dev/null; else kill -KILL $ranks 2>/dev/null; fi
    wait $job
    step=${saving##*/.}
    [ -z "$saving" ] || [ -e "$T/killed/${step%%.*}" ] || hits=$((hits + 1))
    newest=$(ls "$T/killed" | grep '^step-[0-9]*$' | tail -1)
    if [ -n "$newest" ]; then moe-ckpt verify -q "$T/killed/$newest" >/dev/null 2>&1 || failed="$failed $round:verify"; fi
    mpi 2 moe-train -p "$T/two.plan" $recipe -s 14 --resume "$T/killed" --save "$T/killed" --save-every 2 --keep 3 --log "$T/killed.log" >"$T/killed.out" 2>&1 ||
        { failed="$failed $round:resume"; diag "$(cat "$T/killed.out")"; }
    [ "$(losses "$T/killed.log")" = "$(losses "$T/two.log")" ] || failed="$failed $round:losses"
    [ -z "$(ls -A "$T/killed" | grep '^\.step')" ] || failed="$failed $round:leavings"
done
is "$failed$hits" "$wanted" "killed at random moments of a save: the newest step is whole, and training goes on from it bitwise ($hits of $round kills)"

# ---- every write and every sync that can fail ----
if need strace command -v strace; then
    failed= tried=0
    for call in pwrite64 fsync; do
        for n in ${MOEKIT_LARGE:+$(seq 60)} 1 3 9 27; do
            rm -rf "$T/eio"
            strace -qq -o "$T/eio.calls" -f -e trace=$call -e inject=$call:error=EIO:when=$n moe-train -p "$T/one.plan" $recipe -s 4 --save "$T/eio" \
                --save-every 2 --log "$T/eio.log" 2>"$T/eio.err" >/dev/null
            status=$?
            rm -f "$T/eio.log"
            grep -q INJECTED "$T/eio.calls" || continue
            tried=$((tried + 1))
            for step in "$T"/eio/step-*; do
                [ ! -e "$step" ] || moe-ckpt verify -q "$step" >/dev/null 2>&1 || failed="$failed $call:$n:$step"
            done
            grep -q 'Input/output error' "$T/eio.err" || failed="$failed $call:$n:silent($status)"
        done
    done
    [ $tried -ge 6 ]
    ok $? "calls that can fail were found ($tried)"
    is "$failed" '' "an I/O error in $tried places: said, and no step that has its name is broken"
fi
done_testing
