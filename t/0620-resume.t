#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs that stop, go on, and fail: checkpoints and resuming under any plan, signals, divergence, bad input, full disks.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/layouts.sh"

batch='--seq 16 --global-batch 8'
recipe="-d $T/text --lr 2e-3 --eps 1e-6 --warmup 2 --loads-every 1 --bias-rate 0.02 --timeout 100"

write_tokens text 97 4000
write_model glm glm num_hidden_layers=3
write_model mix mixtral num_hidden_layers=2 vocab_size=98

# said_once REGEX NAME: one rank said it, in one line
said_once() {
    is "$(grep -c '^moe-train: ' "$T/.err")" 1 "$2: says so once"
    like "$(grep '^moe-train: ' "$T/.err")" "$1" "$2: $1"
}

# ---- usage ----
while read -r options; do
    # shellcheck disable=SC2086
    run moe-train $options
    is "$status:$(printf '%s\n' "$err" | wc -l)" 2:1 "usage: moe-train $options: exit 2, one line" || diag "$err"
done <<'END'

-p x
-p x -d y
-p x -d y -s 1 --keep 3
-p x -d y -s 1 --eval-every 3
-p x -d y -s -1
-p x -d y -s 1 --lr nan
-p x -d y -s 1 --no-such-option
-p x -d y -s 1 operand
-p /nonexistent/plan -d y -s 1
END

# ---- one run, or two ----
make_plan whole glm $batch --dp 2 --pp 2 --ep 2
if need mpi command -v mpirun; then
    train whole 4 $recipe -s 6 --save "$T/whole" --save-every 3
    is $? 0 'a run of 6 steps' || diag "$(cat "$T/whole.err")"
    cp "$T/whole.plan" "$T/parts.plan"
    train parts 4 $recipe -s 3 --save "$T/parts"
    printf '{"kind":"step","ste' >>"$T/parts.log" # as a killed run leaves it
    train parts 4 -d "$T/text" -s 6 --save "$T/parts" --resume "$T/parts" --loads-every 1
    is $? 0 'a run of 3 steps and one from there' || diag "$(cat "$T/parts.err")"
    is "$(figures parts)" "$(figures whole)" 'stopped and resumed: figures bitwise the same, options kept'
    run moe-ckpt diff --optimizer "$T/parts/step-00000006" "$T/whole/step-00000006"
    is "$status" 0 'stopped and resumed: weights, router biases and moments bitwise the same' || diag "$out"
    is "$(moe-stat --format csv "$T/parts.log" | head -2 | tail -1 | cut -d, -f1-40 | tr ',' '\n' | grep -c .)" \
        "$(moe-stat --format csv "$T/whole.log" | head -2 | tail -1 | cut -d, -f1-40 | tr ',' '\n' | grep -c .)" 'the mended log reads like a whole one'

    # steps 4-6 once more, into the same log: the last record of a step counts
    train parts 4 -d "$T/text" -s 6 --resume "$T/whole/step-00000003" --loads-every 1
    is "$(grep -c '"kind":"step","step":' "$T/parts.log")" 9 'resuming an older checkpoint repeats steps in the log'
    is "$(figures parts)" "$(figures whole)" 'repeated steps say the same'

    # ---- under another plan ----
    while read -r name ranks options; do
        # shellcheck disable=SC2086
        make_plan "$name" glm $batch $options
        sed '/"kind":"step","step":[456],/d' "$T/whole.log" >"$T/$name.log"
        train "$name" "$ranks" -d "$T/text" -s 6 --save "$T/$name" --resume "$T/whole/step-00000003" --loads-every 1 ||
            diag "exit status $?: $(head -3 "$T/$name.err")"
        same_training "$name" whole 6
        same=$?
        ok $same "resumed on $ranks ranks ($options): $said"
        [ $same -eq 0 ] || diag "$details"
    done <<'END'
one 1
tensor 2 --tp 2
expert 8 --tp 2 --dp 2 --pp 2 --ep 4 --schedule zb-h1 --zero 0
stages 6 --pp 3 --dp 2 --recompute full
END

    make_plan bf16 glm $batch --dp 2 --precision bf16
    cp "$T/bf16.plan" "$T/bf16.parts.plan"
    train bf16 2 $recipe -s 4 --save "$T/bf16"
    train bf16.parts 2 $recipe -s 2 --save "$T/bf16.parts"
    train bf16.parts 2 $recipe -s 4 --save "$T/bf16.parts" --resume "$T/bf16.parts"
    is "$(figures bf16.parts)" "$(figures bf16)" 'bf16, stopped and resumed: figures bitwise the same'
    run moe-ckpt diff --optimizer "$T/bf16.parts/step-00000004" "$T/bf16/step-00000004"
    is "$status" 0 'bf16, stopped and resumed: weights, master weights and moments bitwise the same' || diag "$out"
fi

# ---- what --resume names ----
make_plan alone glm $batch
mkdir "$T/empty"
run moe-train -p "$T/alone.plan" --log "$T/alone.log" $recipe -s 1 --resume "$T/empty" --save "$T/empty"
is "$status" 0 '--resume ROOT, empty: starts'
like "$err" 'no checkpoint under .*step 0' '--resume ROOT, empty: says that it starts from step 0'
run moe-train -p "$T/alone.plan" --log "$T/alone.log" $recipe -s 1 --resume "$T/missing"
is "$status" 0 '--resume ROOT, missing: starts'
run moe-train -p "$T/alone.plan" --log "$T/alone.log" $recipe -s 1 --resume "$T/missing/step-00000007"
is "$status" 2 '--resume DIR, missing: exit 2'
like "$err" 'step-00000007' '--resume DIR, missing: named'
run moe-train -p "$T/alone.plan" --log "$T/alone.log" $recipe -s 2 --lr 1e-3 --resume "$T/empty"
like "$err" '--lr 0.001 replaces the checkpoint.s 0.002' 'an option that differs from the checkpoint is announced'

# ---- keep ----
run moe-train -p "$T/alone.plan" --log "$T/keep.log" $recipe -s 5 --save "$T/keep" --save-every 1 --keep 2
is "$(cd "$T/keep" && echo *)" 'step-00000004 step-00000005' '--keep 2 keeps the newest two'
run moe-ckpt verify "$T/keep/step-00000004" "$T/keep/step-00000005"
is "$status" 0 '--keep: what is kept is whole' || diag "$err"

# ---- signals ----
# interrupt SIGNAL NAME N OPTION…: sends it when two more steps are done; $status
interrupt() {
    signal=$1 name=$2 ranks=$3
    shift 3
    before=$(grep -c '"kind":"step"' "$T/$name.log" 2>/dev/null)
    set -- moe-train -p "$T/$name.plan" --log "$T/$name.log" "$@"
    [ "$ranks" -eq 1 ] || set -- mpirun --oversubscribe --bind-to none -n "$ranks" "$@"
    [ "$signal" != INT ] || set -- perl -e '$SIG{INT} = "DEFAULT"; exec @ARGV' "$@" # & has it ignored
    "$@" >"$T/.out" 2>"$T/.err" </dev/null &
    victim=$!
    for _ in $(seq 600); do
        now=$(grep -c '"kind":"step"' "$T/$name.log" 2>/dev/null)
        [ "${now:-0}" -ge $((${before:-0} + 2)) ] && break
        kill -0 $victim 2>/dev/null || break
        sleep 0.1
    done
    kill -s "$signal" $victim 2>/dev/null
    wait $victim
    status=$?
}
last_of() { ls "$T/$1" | tail -1; }

interrupt TERM alone 1 $recipe -s 100000 --save "$T/termed"
is "$status" 75 'SIGTERM to a run of one rank: exit 75' || diag "$(cat "$T/.err")"
run moe-ckpt verify "$T/termed/$(last_of termed)"
is "$status" 0 'SIGTERM: what it saved is whole' || diag "$err"
interrupt TERM alone 1 $recipe -s 100000
is "$status" 3 'SIGTERM without --save: exit 3, as nothing could be saved'
interrupt INT alone 1 $recipe -s 100000 --save "$T/broken"
is "$status" 130 'SIGINT to a run that saves: it dies of that' || diag "$(cat "$T/.err")"
run moe-ckpt verify "$T/broken/$(last_of broken)"
is "$status" 0 'SIGINT: and what it saved before is whole' || diag "$err"
like "$(cat "$T/.err")$(tail -1 "$T/alone.log")" '"status":75.*checkpointed' 'SIGINT: the log says that it stopped there'
interrupt INT alone 1 $recipe -s 100000
is "$status$(tail -1 "$T/alone.log" | grep -c '"end"')" 1300 'SIGINT without --save: at once'

# In a product of oneDNN deeper than 82 (40 with AVX-512) the stack pointer is in the heap: no handler may run there. So signals come
# thick and fast, and glibc looks after the heap. (That a run ends at the next step means that it met some in one step or two.)
write_model wide mixtral hidden_size=128 intermediate_size=256 num_hidden_layers=2
make_plan storm wide --seq 128 --global-batch 32 --micro-batch 4
MALLOC_CHECK_=3 LD_PRELOAD=libc_malloc_debug.so.0 moe-train -p "$T/storm.plan" --log "$T/storm.log" $recipe -s 100000 --save "$T/storm" \
    2>"$T/.err" </dev/null &
victim=$!
perl -e 'my ($pid, $log) = @ARGV;
    for (1 .. 1200) { last if -s $log; select(undef, undef, undef, 0.05); }
    open(my $f, "<", "/proc/$pid/status") or die; while (<$f>) { print if /^SigCgt/; }
    my $end = time + 60;
    while (time < $end) { kill("USR1", $pid) or last; select(undef, undef, undef, 0.0002); waitpid($pid, 1); }
    kill("KILL", $pid);' $victim "$T/storm.log" >"$T/caught"
wait $victim
is "$?" 75 'a storm of SIGUSR1 in the midst of products: exit 75' || diag "$(cat "$T/.err")"
run moe-ckpt verify "$T/storm/$(last_of storm)"
is "$status" 0 'a storm of SIGUSR1: what was saved is whole' || diag "$err"
caught=$(sed -n 's/^SigCgt:[[:space:]]*//p' "$T/caught")
# but those of a crash (ILL, ABRT, BUS, FPE, SEGV) and the two that glibc keeps for itself
is "$((0x${caught:-ffff} & ~(1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 3 << 31)))" 0 'no function handles a signal that may come at any time'

if need mpi command -v mpirun; then
    make_plan loop glm $batch --tp 2 --dp 2
    rounds=0 status=75
    while [ "$status" -eq 75 ] && [ $rounds -lt 4 ]; do
        rounds=$((rounds + 1))
        steps=100000
        if [ $rounds -eq 3 ]; then
            steps=$(($(last_of loop | tr -dc 0-9 | sed 's/^0*//') + 2))
            train loop 4 $recipe -s $steps --save "$T/loop" --resume "$T/loop"
            status=$?
        else
            interrupt USR1 loop 4 $recipe -s $steps --save "$T/loop" --resume "$T/loop"
            is "$status" 75 "SIGUSR1 to 4 ranks, time $rounds: exit 75" || diag "$(cat "$T/.err")"
        fi
    done
    is "$rounds:$status" 3:0 'the requeued line, run again and again, ends' || diag "$(cat "$T/loop.err")"
    like "$(grep '"kind":"end"' "$T/loop.log" | head -1)" '"status":75' 'the log says why a run ended'
    if [ "$rounds:$status" = 3:0 ]; then # else there is no number of steps to go straight to
        cp "$T/loop.plan" "$T/straight.plan"
        train straight 4 $recipe -s "$steps" --save "$T/straight"
        is "$(figures loop | grep -v expert_load)" "$(figures straight | grep -v expert_load)" 'requeued runs: figures bitwise those of one run'
        run moe-ckpt diff --optimizer "$T/loop/$(last_of loop)" "$T/straight/$(last_of straight)"
        is "$status" 0 'requeued runs: final checkpoint bitwise that of one run' || diag "$out"
    fi

    # ---- failing together ----
    run mpi 3 moe-train -p "$T/loop.plan" $recipe -s 1
    is "$status" 2 'a wrong number of ranks: exit 2'
    said_once 'plan is for 4 ranks, this job has 3' 'a wrong number of ranks'

    # A token whose embedding is not a number comes in step 3; one that the model does not know in step 3 too.
    make_plan nan mix $batch --dp 2 --tp 2
    make_plan nan1 mix $batch
    make_plan nan2 mix $batch --dp 2 --pp 2 # of so small a model rank 0 writes the first stage, rank 2 the second
    run moe-train -p "$T/nan1.plan" --log "$T/nan1.log" -d "$T/text" -s 0 --save "$T/nan1"
    cp -r "$T/nan1/step-00000000" "$T/nan.init"
    rm -f "$T/nan.init/manifest.json" "$T/nan.init/state.json"
    perl -e '
        my ($text, $into, $token) = @ARGV;
        for my $what (["rare", 97], ["wrong", 200]) {
            system("cp $text.bin $into/$what->[0].bin; cp $text.idx $into/$what->[0].idx");
            open(my $f, "+<:raw", "$into/$what->[0].bin") or die;
            seek $f, 2 * 300, 0;
            print $f pack("v", $what->[1]);
        }
        open(my $f, "+<:raw", "$into/nan.init/dense.safetensors") or die;
        read $f, my $size, 8;
        read $f, my $head, unpack("Q<", $size);
        $head =~ /"model\.embed_tokens\.weight":\{[^}]*"data_offsets":\[(\d+),/ or die;
        seek $f, 8 + length($head) + $1 + 97 * 48 * 4, 0;
        print $f pack("L<", 0x7fc00000) x 48;' "$T/text" "$T"
    run mpi 4 moe-train -q -p "$T/nan.plan" --log "$T/nan.log" -d "$T/rare" --no-shuffle -s 5 --init "$T/nan.init" --save "$T/nan" --save-every 2
    is "$status" 1 'a loss that is not a number: exit 1'
    said_once 'step 3: the loss is not finite' 'a loss that is not a number'
    run moe-ckpt verify "$T/nan/step-00000002"
    is "$status:$(ls "$T/nan")" 0:step-00000002 'a loss that is not a number: the older checkpoint is whole, and no other there' || diag "$err"
    like "$(tail -1 "$T/nan.log")" '"kind":"end".*"status":1' 'a loss that is not a number: the log ends so'

    run mpi 4 moe-train -p "$T/nan.plan" --log "$T/wrong.log" -d "$T/wrong" --no-shuffle -s 5
    is "$status" 2 'a token that the model does not know: exit 2'
    said_once 'wrong.*300.*200|wrong.*200.*300' 'a token that the model does not know: file and place named'

    # ---- a full disk ----
    run mpi 4 moe-train -p "$T/nan.plan" --log "$T/full.log" -d "$T/text" -s 2 --save "$T/full"
    run mpi 4 bash -c "trap '' XFSZ; ulimit -f 100; exec moe-train -p '$T/nan.plan' --log '$T/full.log' -d '$T/text' -s 3 \
        --save '$T/full' --resume '$T/full'"
    is "$status" 3 'a file that may not grow: exit 3' || diag "$err"
    is "$(ls "$T/full")" step-00000002 'a file that may not grow: no checkpoint with a final name'
    run moe-ckpt verify "$T/full/step-00000002"
    is "$status" 0 'a file that may not grow: the older checkpoint is whole' || diag "$err"
    run mpi 4 moe-train -p "$T/nan.plan" --log "$T/full.log" -d "$T/text" -s 3 --save "$T/full" --resume "$T/full"
    is "$status:$(ls -A "$T/full" | tr '\n' ' ')" '0:step-00000002 step-00000003 ' 'with room again it goes on, and nothing unfinished is left' || diag "$err"
    run mpi 4 bash -c "trap '' XFSZ; [ \$OMPI_COMM_WORLD_RANK != 2 ] || ulimit -f 100; exec moe-train -p '$T/nan2.plan' \
        --log '$T/full.log' -d '$T/text' -s 4 --save '$T/full' --resume '$T/full'"
    is "$status" 3 'a file that may not grow on one rank: exit 3' || diag "$err"
    is "$(grep -c '^moe-train: .*cannot write' "$T/.err")" 1 'a file that may not grow on one rank: said once' || diag "$err"
    like "$(grep '^moe-train: .*cannot write' "$T/.err")" '^moe-train: rank 2: .*step-00000004' 'a file that may not grow on one rank: rank and file named'
    mkdir "$T/disk"
    if need tmpfs unshare -m mount -t tmpfs -o size=64k none "$T/disk"; then
        run unshare -m bash -c "mount -t tmpfs -o size=7m none '$T/disk' && cp -r '$T/full/step-00000002' '$T/disk' &&
            { mpirun --oversubscribe --bind-to none -n 4 moe-train -p '$T/nan.plan' --log '$T/disk.log' -d '$T/text' -s 9 --save-every 1 \
            --save '$T/disk' --resume '$T/disk'; status=\$?; ls '$T/disk'; moe-ckpt verify '$T'/disk/step-*; echo verified \$?; exit \$status; }"
        is "$status" 3 'a full disk: exit 3' || diag "$err"
        like "$out" 'step-00000002' 'a full disk: the older checkpoint is there'
        like "$out" 'verified 0' 'a full disk: every checkpoint with a final name is whole' || diag "$out"
    fi

    # ---- hand-edited plans ----
    sed '/^sum/d; s/^\(expert .* ids=\)0-7/\10-6,0/' "$T/nan.plan" >"$T/edited.plan"
    run mpi 4 moe-train -p "$T/edited.plan" -d "$T/text" -s 1
    is "$status" 1 'a plan with an expert twice: exit 1' || diag "$err"
    like "$(grep '^moe-train: ' "$T/.err")" 'experts-placed-once: layer 0: expert 7 has no slot' 'a plan with an expert twice: names rule, layer and expert'
    is "$(grep -c '^moe-train: ' "$T/.err")" 2 'a plan with an expert twice: says so once, and that it has no sum' || diag "$err"
    sed 's/^batch seq=16/batch seq=32/' "$T/nan.plan" >"$T/edited.plan"
    run mpi 4 moe-train -p "$T/edited.plan" -d "$T/text" -s 1
    is "$status" 2 'a plan edited under its sum: exit 2' || diag "$err"

    # ---- dry run ----
    run mpi 4 moe-train --dry-run -p "$T/whole.plan"
    is "$status" 0 '--dry-run: exit 0' || diag "$err"
    is "$(printf '%s\n' "$out" | awk '!/^#/ && $8 > most { most = $8 } END { print most }')" \
        "$(sed -n 's/^predict memory_bytes=\([0-9]*\).*/\1/p' "$T/whole.plan")" '--dry-run: the worst rank has the bytes that the plan predicts'
fi

done_testing
