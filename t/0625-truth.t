#!/bin/bash
# SPDX-License-Identifier: MIT
# One truth for all ranks, and nothing lost: what ranks see, what is loaded, what a root keeps.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/layouts.sh"

batch='--seq 16 --global-batch 8'
recipe='--lr 2e-3 --eps 1e-6 --loads-every 0 --timeout 100 --threads 1'
write_tokens text 97 4000
write_tokens other 97 3000
cp "$T/text.bin" "$T/late.bin"
cp "$T/text.idx" "$T/late.idx"
printf '\1' | dd of="$T/late.bin" bs=1 conv=notrunc 2>/dev/null
write_model mix mixtral num_hidden_layers=2 vocab_size=98
make_plan one mix $batch
one() { moe-train -p "$T/one.plan" -d "$T/text" $recipe --log "$T/one.log" "$@"; }
one_beside() { exec moe-train -p "$T/one.plan" -d "$T/text" $recipe "$@"; } # with &
steps_of() { ls "$1" | tr '\n' ' '; }

# A mark that nobody renews is watched for half a minute: meanwhile the rest is tested.
mkdir "$T/stale"
echo '{"run": "0123456789abcdef", "host": "elsewhere", "pid": 1, "job": "", "beat": 7}' >"$T/stale/.moekit-run"
one_beside -s 1 --save "$T/stale" --log "$T/stale.log" 2>"$T/stale.err" &
stale=$!

# ---- what ranks see ----
if need mpi command -v mpirun; then
    make_plan two mix $batch --dp 2
    # pair A B: moe-train with A's options on rank 0, with B's on rank 1
    pair() { run mpirun --oversubscribe --bind-to none -n 1 bash -c "exec moe-train $common $1" : -n 1 bash -c "exec moe-train $common $2"; }
    refused() { # STATUS REGEX NAME
        is "$status" "$1" "$3: exit $1" || diag "$err"
        like "$(printf '%s\n' "$err" | grep '^moe-train: ')" "$2" "$3: named"
        is "$(printf '%s\n' "$err" | grep -c '^moe-train: ')" 1 "$3: said once" || diag "$err"
        ok "$(grep -c '"kind":"step"' "$T/two.log" 2>/dev/null | grep -qv '^0$'; echo $((1 - $?)))" "$3: before the first step"
        rm -f "$T/two.log"
    }
    common="-p $T/two.plan -d $T/text $recipe -s 2 --log $T/two.log"
    many=$(printf -- '--eps 1e-6 %.0s' $(seq 100)) # of one that is repeated the last counts, and hides no other
    pair "$many --min-lr 1e-5" "$many --min-lr 2e-5"
    refused 2 "options: '--min-lr' is 2e-5 on host '.*', and 1e-5 on rank 0's" 'two options'
    pair '' '--no-shuffle'
    refused 2 "options: '--no-shuffle' is given on host .* not there on rank 0's" 'an option of one rank'
    pair '--warmup 1' ''
    refused 2 "options: '--warmup' is not there on host .* and 1 on rank 0's" 'an option of rank 0'

    mkdir "$T/here" "$T/there"
    cp "$T/two.plan" "$T/here/p"
    sed 's/^batch seq=16/batch seq=8/; /^sum/d' "$T/two.plan" >"$T/there/p"
    common="-p p -d $T/text $recipe -s 2 --log $T/two.log"
    run mpirun --oversubscribe --bind-to none -n 1 bash -c "cd '$T/here' && exec moe-train $common" : -n 1 bash -c "cd '$T/there' && exec moe-train $common"
    is "$status" 0 'another plan under the same name: rank 0 has read for all' || diag "$err"
    common="-p - -d $T/text $recipe -s 2 --log $T/two2.log"
    run mpi 2 moe-train $common <"$T/two.plan"
    cp "$T/two2.log" "$T/stdin.log"
    is "$status:$(figures stdin)" "0:$(figures two)" 'a plan from standard input reaches all' || diag "$err"
    rm -f "$T/two.log"

    sed '$d' "$T/one.plan" >"$T/nul.plan" && printf '\0' >>"$T/nul.plan"
    run moe-train -p "$T/nul.plan" -d "$T/text" $recipe -s 1 --log "$T/nul.log"
    is "$status" 2 'a plan with a NUL byte: exit 2' || diag "$err"
    # On rank 1 another directory or file lies where rank 0 has its own.
    if need tmpfs unshare -m mount -t tmpfs none "$T/here"; then
        # otherwise WHAT INSTEAD OPTION…
        otherwise() {
            what=$1 instead=$2
            shift 2
            run mpi 2 unshare -m bash -c "[ \$OMPI_COMM_WORLD_RANK = 0 ] || mount --bind '$instead' '$what' || exit 99
                exec moe-train -p '$T/two.plan' $recipe --log '$T/two.log' $*"
        }
        otherwise "$T/text.bin" "$T/late.bin" -d "$T/text" -s 2
        refused 2 "rank 1: --data: .*text.bin.* is 8000 bytes.* on host .* and 8000 bytes" 'other tokens in data of one size'
        otherwise "$T/text.idx" "$T/other.idx" -d "$T/text" -s 2
        ok "$([ "$status" -eq 2 ]; echo $?)" 'another index: exit 2'
        rm -f "$T/two.log"

        one -s 1 --save "$T/a" 2>/dev/null
        one -s 1 --seed 2 --save "$T/b" 2>/dev/null
        mkdir "$T/nothing"
        otherwise "$T/a" "$T/b" -d "$T/text" -s 3 --resume "$T/a"
        refused 2 "rank 1: '.*a/step-00000001/manifest.json' on host '.*' is not the one on rank 0's" 'another checkpoint under one name'
        otherwise "$T/a" "$T/nothing" -d "$T/text" -s 3 --resume "$T/a"
        refused 3 "rank 1: host '.*' cannot read '.*manifest.json', which rank 0's" 'a root that one rank does not see'
        otherwise "$T/a/step-00000001/expert-003.safetensors" "$T/b/step-00000001/expert-003.safetensors" -d "$T/text" -s 3 --resume "$T/a/step-00000001"
        ok "$([ "$status" -ne 0 ]; echo $?)" "a file of another checkpoint's: refused"
        like "$err" "expert-003.safetensors" "a file of another checkpoint's: named"
        rm -f "$T/two.log"
        cp -r "$T/a/step-00000001" "$T/hf.a"
        cp -r "$T/b/step-00000001" "$T/hf.b"
        for d in a b; do rm "$T/hf.$d/manifest.json" "$T/hf.$d/state.json"; done
        otherwise "$T/hf.a" "$T/hf.b" -d "$T/text" -s 3 --init "$T/hf.a"
        refused 2 "rank 1: weights: '.*hf.a/.*safetensors' is .* on host .*, and .* on rank 0's" 'other first weights under one name'
        otherwise "$T/nothing" "$T/here" -d "$T/text" -s 3 --save "$T/nothing" 2>/dev/null
        refused 3 "rank 1: --save '.*nothing' on host '.*' is not what rank 0's" 'a root to save to that one rank does not see'
    fi
fi

# ---- loading believes nothing ----
one -s 6 --save "$T/root" --save-every 2 2>/dev/null
S=$T/root/step-00000006
flip() { printf X | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null; }
cp -r "$T/root" "$T/sound"
flip "$S/expert-001.safetensors" 30003
run one -s 7 --resume "$S"
is "$status" 2 'a flipped bit, --resume DIR: exit 2'
like "$err" "expert-001.safetensors: tensor 'model.layers.*' is damaged" 'a flipped bit: file and tensor named'
run one -s 7 --resume "$T/root"
is "$status" 0 'a flipped bit, --resume ROOT: goes on' || diag "$err"
like "$err" "passing over '.*step-00000006', which is not whole: .*expert-001" 'a flipped bit: passed over, named'
like "$err" "resumed from '.*step-00000004'" 'a flipped bit: from the newest whole one'
run one -q -s 7 --resume "$T/root"
like "$err" "passing over" 'a flipped bit: -q says so too'
# the newest one's data are sound again, and half of it is an older step's, with that step's sums
rm -r "$S" && cp -r "$T/sound/step-00000006" "$S" && cp "$T/sound/step-00000004/optimizer/expert-001.safetensors" "$S/optimizer"
"${PYTHON:-python3}" - "$S" "$T/sound/step-00000004" <<'EOF'
import json, sys, zlib
m, old = (json.load(open(d + "/manifest.json")) for d in sys.argv[1:])
m["files"]["optimizer/expert-001.safetensors"] = old["files"]["optimizer/expert-001.safetensors"]
del m["sum"]
text = json.dumps(m)[:-1]
open(sys.argv[1] + "/manifest.json", "w").write(text + ',\n  "sum": "%08x"\n}\n' % zlib.crc32(text.encode()))
EOF
run one -s 7 --resume "$T/root"
is "$status" 0 'put together from two steps: goes on' || diag "$err"
like "$err" "passing over '.*step-00000006', which is not whole: .*expert-001.safetensors: is of step 4" 'put together from two steps: passed over, named'
run one -v -s 7 --resume "$T/root"
like "$err" 'read [0-9.]* MB, 1\.[0-9]* times the checkpoint' 'how much was read is said with -v'
# flips all over
missed=
for i in 1 2 3 4 5 6; do
    rm -r "$S" && cp -r "$T/sound/step-00000006" "$S"
    f=$(find "$S" -type f | sort | sed -n "$((1 + i * 5 % 22))p")
    at=$((i * 7919 * 31 % $(wc -c <"$f")))
    old=$(od -An -tu1 -j $at -N 1 "$f")
    printf "\\$(printf %o $((old ^ 4)))" | dd of="$f" bs=1 seek=$at conv=notrunc 2>/dev/null
    run one -s 7 --resume "$T/root"
    printf '%s\n' "$status $err" | grep -q "^0 .*passing over '.*step-00000006'" || missed="$missed $f:$at"
done
is "$missed" '' 'six flips in files of all kinds: passed over each time'
rm -r "$S" && cp -r "$T/sound/step-00000006" "$S" && flip "$S/expert-001.safetensors" 30003
rm "$T/root/step-00000004/manifest.json"
truncate -s -5 "$T/root/step-00000002/optimizer/dense.safetensors"
run one -s 7 --resume "$T/root"
is "$status" 2 'none whole: exit 2'
like "$err" 'no step under .* is whole \(3 passed over' 'none whole: said'
like "$err" "step-00000002/optimizer/dense.safetensors: has [0-9]+ bytes, not" 'none whole: each named'
run one -s 7 --resume "$T/root/step-00000004"
is "$status" 2 'no manifest, --resume DIR: exit 2'
rm "$T/root/step-00000004/state.json"
run one -s 7 --resume "$T/root/step-00000004"
is "$status" 2 'neither manifest nor state, --resume DIR: exit 2'
mkdir "$T/step-runs"
run moe-train -p "$T/one.plan" -d "$T/text" $recipe -s 1 --log "$T/one.log" --save "$T/step-runs" --resume "$T/step-runs"
is "$status" 0 'a root whose name begins like a step' || diag "$err"
mkdir "$T/asides"
cp -r "$T/sound/step-00000002" "$T/asides/step-00000002.01234567.abandoned"
run one -s 7 --resume "$T/asides"
is "$status" 2 'a root with steps set aside alone: exit 2'
mv "$T/sound/step-00000006" "$T/sound/step-00000009"
run moe-ckpt verify "$T/sound/step-00000009"
is "$status" 1 'a step under another name: verify says 1'
like "$err" 'is called step 9, and its manifest.json is of step 6' 'a step under another name: named'
run one -s 12 --resume "$T/sound"
like "$err" "passing over '.*step-00000009'" 'a step under another name: passed over'
like "$err" "resumed from '.*step-00000004'" 'a step under another name: the next is taken'
rm -r "$T/sound/step-00000009"

# ---- config.json ----
write_model theta mixtral num_hidden_layers=2 vocab_size=98 rope_theta=12345.0 num_experts_per_tok=3
write_model wide mixtral num_hidden_layers=2 vocab_size=98 intermediate_size=56
make_plan theta theta $batch
make_plan wide wide $batch
for how in "--init $T/sound/step-00000002" "--resume $T/sound" "--resume $T/sound/step-00000002"; do
    run moe-train -p "$T/theta.plan" -d "$T/text" $recipe -s 5 --log "$T/theta.log" $how
    is "$status" 2 "${how%% *}, another config: exit 2" || diag "$err"
    like "$err" "config.json: num_experts_per_tok is 2 and the plan's 3; rope_theta is 10000 and the plan's 12345" "${how%% *}: keys and values named"
done
run moe-train -p "$T/theta.plan" -d "$T/text" $recipe -s 3 --log "$T/theta.log" --init "$T/sound/step-00000002" --allow-config rope_theta
is "$status" 2 '--allow-config of one key: the other is still refused'
unlike "$(printf '%s\n' "$err" | tail -1)" rope_theta '--allow-config of one key: which is not'
run moe-train -p "$T/theta.plan" -d "$T/text" $recipe -s 3 --log "$T/theta.log" --init "$T/sound/step-00000002" --allow-config rope_theta,num_experts_per_tok
is "$status" 0 '--allow-config of both: runs' || diag "$err"
like "$err" "rope_theta is 10000, the plan's 12345: allowed" '--allow-config: said'
run moe-train -p "$T/wide.plan" -d "$T/text" $recipe -s 3 --log "$T/theta.log" --init "$T/sound/step-00000002" --allow-config intermediate_size
is "$status" 2 '--allow-config of a shape: exit 2'
like "$err" "'intermediate_size' changes the shape" '--allow-config of a shape: said'
run moe-train -p "$T/theta.plan" -d "$T/text" $recipe -s 3 --log "$T/theta.log" --init "$T/sound/step-00000002" --allow-config rope_tehta
like "$status $err" "^2 .*'rope_tehta' is no key" '--allow-config of no key: exit 2'

# ---- lines of descent ----
one -s 10 --save "$T/line" --save-every 2 2>/dev/null
run one -s 12 --save "$T/line"
is "$status" 2 '--save into a root with steps, without --resume: exit 2'
like "$err" "holds steps of a run: --resume .* another directory" '--save into a root with steps: both ways named'
mkdir "$T/line/.step-00000012.0123456789abcdef.tmp"
run one -s 6 --resume "$T/line/step-00000004" --save "$T/line" --keep 1
is "$status" 0 'back to step 4: runs' || diag "$err"
run bash -c "cd '$T/line' && ls | sed 's/\.[0-9a-f]*\././'"
is "$(echo $out)" 'step-00000004 step-00000006 step-00000006.abandoned step-00000008.abandoned step-00000010.abandoned' \
    'back to step 4: --keep counts this line; what it left is set aside'
is "$(ls -A "$T/line" | grep '^\.')" '' 'back to step 4: what a killed save left is gone'
like "$(moe-ckpt list "$T/line")" '^# 3 set aside$' 'back to step 4: list counts them'
run moe-ckpt verify "$T"/line/*.abandoned
is "$status" 0 'back to step 4: whole' || diag "$err"
run one -s 7 --resume "$T/line" --save "$T/line" --keep 1
is "$(cd "$T/line" && echo $(ls | grep -v abandoned))" 'step-00000006 step-00000007' 'on from there: what it came from stays'
run one -s 8 --resume "$T/line" --save "$T/line" --keep 1
is "$(cd "$T/line" && echo $(ls | grep -v abandoned))" 'step-00000007 step-00000008' 'and goes with the next'
flip "$T/line/step-00000008/dense.safetensors" 5000
run one -s 9 --resume "$T/line" --save "$T/line"
is "$status:$(cd "$T/line" && ls | grep -c 'step-00000008\..*\.\(abandoned\|broken\)')" 0:2 'a broken newest one is set aside, not removed' || diag "$err"
is "$(cd "$T/line" && echo $(ls | grep -v '\.'))" 'step-00000007 step-00000009' 'and the run went on from the one before'
if need strace command -v strace; then
    one -s 2 --save "$T/window" --save-every 1 2>/dev/null
    sum=$(cksum <"$T/window/step-00000002/manifest.json")
    for n in 1 2 3; do
        rm -rf "$T/w" && cp -r "$T/window" "$T/w"
        strace -o /dev/null -f -e inject=rename,renameat2:signal=KILL:when=$n moe-train -p "$T/one.plan" -d "$T/text" $recipe --log "$T/one.log" \
            -s 2 --save "$T/w" --resume "$T/w/step-00000001" 2>/dev/null
        one -s 3 --save "$T/w" --resume "$T/w" 2>/dev/null
        found=0
        for d in "$T"/w/step-00000002*; do [ "$(cksum <"$d/manifest.json")" != "$sum" ] || found=1; done
        is "$found" 1 "killed at rename $n while a branch takes a step's name: the old step is there" || diag "$(ls -A "$T/w")"
    done
fi
one -s 1 --seed 3 --save "$T/foreign" 2>/dev/null
run one -s 9 --resume "$T/line" --save "$T/foreign"
is "$status" 2 "another run's root: exit 2"
like "$err" 'holds steps of a run that .* does not come from' "another run's root: said"
is "$(ls "$T/foreign")" step-00000001 "another run's root: as it was"
# a checkpoint of before there were runs
one -s 4 --save "$T/old" --save-every 2 2>/dev/null
for s in 2 4; do
    perl -0pi -e 's/,\s*"run": ".*?"//s; s/,\s*"line": \[.*?\]//s; s/,\s*"(lr-steps|shuffle)": [^,}\n]*//gs' "$T/old/step-0000000$s/state.json"
    "${PYTHON:-python3}" - "$T/old/step-0000000$s" <<'EOF'
import json, sys, zlib
d = sys.argv[1]
m = open(d + "/manifest.json").read()
s = open(d + "/state.json", "rb").read()
m = json.loads(m)
m["files"]["state.json"] = {"bytes": len(s), "crc32": "%08x" % zlib.crc32(s)}
del m["sum"]
text = json.dumps(m)[:-1]
open(d + "/manifest.json", "w").write(text + ",\n  \"sum\": \"%08x\"\n}\n" % zlib.crc32(text.encode()))
EOF
done
run one -s 5 --resume "$T/old/step-00000002" --save "$T/old" --lr-schedule cosine
is "$status" 0 'checkpoints of before run ids: go on' || diag "$err"
is "$(ls "$T/old" | tr '\n' ' ')" 'step-00000002 step-00000004.before.abandoned step-00000005 ' 'checkpoints of before run ids count as one line'
like "$err" 'does not say --shuffle: yes is taken' 'what they do not have is said'
like "$err" 'does not say --lr-steps.*: 5,' 'and of the horizon'

# ---- one run at a time ----
one_beside -s 100000 --save "$T/busy" --save-every 100000 --log "$T/busy.log" 2>/dev/null &
busy=$!
for _ in $(seq 100); do [ -s "$T/busy.log" ] && break; sleep 0.1; done
run one -s 2 --save "$T/busy" --resume "$T/busy"
is "$status" 3 'a root that another run writes to: exit 3' || diag "$err"
like "$err" 'is in use by a run on host' 'a root that another run writes to: said'
kill -9 $busy
wait $busy 2>/dev/null
run one -s 2 --save "$T/busy" --resume "$T/busy"
is "$status" 0 'a root whose run was killed on this host: taken over at once' || diag "$err"
is "$(ls -A "$T/busy")" step-00000002 'and no mark is left at the end'
one_beside -s 100000 --save "$T/stolen" --save-every 1000 --log "$T/stolen.log" 2>"$T/stolen.err" &
stolen=$!
for _ in $(seq 100); do [ -s "$T/stolen.log" ] && break; sleep 0.1; done
sed 's/"run": "[^"]*"/"run": "fedcba9876543210"/' "$T/stolen/.moekit-run" >"$T/mark"
for _ in $(seq 600); do # again, should the run be just about to renew its own
    cp "$T/mark" "$T/stolen/.moekit-run"
    kill -0 $stolen 2>/dev/null || break
    sleep 0.1
done
wait $stolen
is "$?" 3 'a run whose root was taken over: exit 3'
like "$(cat "$T/stolen.err")" "is no longer this run's" 'a run whose root was taken over: says so'
is "$(cd "$T/stolen" && echo *)" '*' 'a run whose root was taken over: nothing has a final name'

one_beside -s 100000 --save "$T/space" --save-every 100000 --log "$T/space.log" 2>/dev/null &
space=$!
for _ in $(seq 100); do [ -s "$T/space.log" ] && break; sleep 0.1; done
if need unshare unshare -p -f --mount-proc true; then
    run unshare -p -f --mount-proc moe-train -p "$T/one.plan" -d "$T/text" $recipe -s 2 --save "$T/space" --resume "$T/space" --log "$T/one.log"
    is "$status" 3 'a root whose run is in another space of process numbers: refused' || diag "$err"
fi
mv "$T/space" "$T/away"
kill -USR1 $space
wait $space
is "$?" 3 'a root that vanishes: exit 3'
is "$(ls -d "$T/space" 2>/dev/null)" '' 'a root that vanishes: not made anew'

# ---- a failed save ----
mkdir "$T/small"
if need tmpfs unshare -m mount -t tmpfs -o size=64k none "$T/small"; then
    run unshare -m bash -c "mount -t tmpfs -o size=600k none '$T/small' &&
        { moe-train -p '$T/one.plan' -d '$T/text' $recipe -s 100000 --save '$T/small' --save-every 20 --keep 1 --log '$T/small.log' & job=\$!
        for _ in \$(seq 1200); do grep -q fault '$T/small.log' 2>/dev/null && break; sleep 0.05; done
        mount -o remount,size=40m '$T/small'; kill -USR1 \$job; wait \$job; echo status \$?; ls '$T/small'; moe-ckpt verify '$T'/small/step-*; }"
    like "$out" 'status 75' 'a disk that was full for a while: exit 75' || diag "$err"
    like "$out" "$(printf 'step-%08d: whole' "$(sed -n 's/.*"kind":"end","step":\([0-9]*\).*/\1/p' "$T/small.log")")" \
        'a disk that was full for a while: the step it stopped at is whole'
    is "$(printf '%s\n' "$out" | grep -c '^step-')" 1 'a disk that was full for a while: no leavings' || diag "$out"
    like "$err" 'the checkpoint of step [0-9]*0 was not saved: .*No space left' 'a disk that was full for a while: said'
    like "$(grep '"kind":"fault"' "$T/small.log" | head -1)" '"reason":".*No space left' 'a disk that was full for a while: logged'
fi
run one -s 3 --eps 0 --save "$T/eps" --save-every 1
is "$status" 1 'an update that is not finite: exit 1' || diag "$err"
like "$err" 'the update left weights that are not finite' 'an update that is not finite: said'
is "$(cd "$T/eps" && echo *)" '*' 'an update that is not finite: not saved'
mkdir "$T/mine"
touch "$T/mine/thesis"
run one -s 1 --dump-gradients "$T/mine"
is "$status:$(ls "$T/mine")" 2:thesis '--dump-gradients of a directory that is there: exit 2, and it stays' || diag "$err"

# ---- the recipe ----
one -s 6 --lr-schedule cosine --save "$T/cosine" --log "$T/cosine.log" 2>/dev/null
run one -s 8 --resume "$T/cosine" --log "$T/cosine.log"
is "$(grep -o '"lr":[0-9.e-]*' "$T/cosine.log" | tail -3 | tr '\n' ' ')" '"lr":0.0 "lr":0.0 "lr":0.0 ' 'more steps than the horizon: the rate stays where it ended'
like "$err" 'steps beyond 6 run at .* --lr-steps 8 stretches' 'more steps than the horizon: said, with the way out'
run one -s 8 --resume "$T/cosine" --log "$T/cosine2.log" --lr-steps 8
like "$err" '--lr-steps 8 replaces the checkpoint.s 6' 'another horizon: announced'
unlike "$(cat "$T/cosine2.log")" '"lr":0.0,"tokens".*"step":7' 'another horizon: taken'
one -s 6 --shuffle no --save "$T/plain" --save-every 3 --log "$T/plain.log" 2>/dev/null
run one -s 6 --resume "$T/plain/step-00000003" --log "$T/plain2.log"
unlike "$err" 'shuffle|anew' 'the order of the data is kept: nothing to say'
is "$(grep -o '"step":[456],"loss":[^,]*' "$T/plain2.log")" "$(grep -o '"step":[456],"loss":[^,]*' "$T/plain.log")" 'the order of the data is kept'
run one -s 6 --resume "$T/cosine" --no-shuffle --log "$T/plain3.log"
like "$err" '--shuffle no replaces the checkpoint.s yes' '--no-shuffle, resumed: announced too'
run one -s 6 --resume "$T/plain/step-00000003" --log "$T/plain3.log" --shuffle yes
like "$err" '--shuffle yes replaces the checkpoint.s no' 'another order: announced by name'

wait $stale
is "$?" 0 "a stale mark: taken over" || diag "$(cat "$T/stale.err")"
like "$(cat "$T/stale.err")" "is marked by a run on host 'elsewhere'.*watching for 30 s" 'a stale mark: watched, said'

done_testing
