#!/bin/bash
# SPDX-License-Identifier: MIT
# Said or refused: the table of that name in moe-train(1), and what other commands do of it. What -q leaves. Outputs that are no files, and
# names that are not UTF-8.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/layouts.sh"
need_for_all perl command -v perl

write_tokens text 97 4000
write_model mix mixtral num_hidden_layers=2
make_plan one mix --seq 16 --global-batch 2
P=$T/one.plan
go="-d $T/text --timeout 60 --log $T/log"

# ---- refused: a broken rule is 1; syntax, sum, ranks, what cannot run are 2 ----
# refused STATUS REGEX NAME COMMAND…: with -q as without
refused() {
    want=$1 regex=$2 name=$3
    shift 3
    for quiet in '' -q; do
        run "$@" $quiet
        is "$status" "$want" "$name: $(basename "$1") $quiet exits $want" || diag "$err"
    done
    like "$err$out" "$regex" "$name: says $regex, with -q too"
}
sed '/^sum/d; s/ ids=0-7/ ids=0-6,0/' "$P" >"$T/rule.plan"
sed '/^sum/d; s/^batch .*/batch seq=/' "$P" >"$T/syntax.plan"
sed 's/ lambda=1.5/ lambda=2/' "$P" >"$T/sum.plan"
make_plan two mix --seq 16 --global-batch 2 --dp 2
sed '/^sum/d; s/ memory_bytes=[0-9]* memory_rank/ memory_bytes=1 memory_rank/' "$P" >"$T/predict.plan"
while read -r plan status_wanted regex; do
    # shellcheck disable=SC2086
    refused "$status_wanted" "$regex" "$plan" moe-train -p "$T/$plan.plan" $go -s 1
done <<'END'
rule 1 rule experts-placed-once: layer 0: expert 7
predict 1 rule predict-matches
syntax 2 syntax.plan:[0-9]+:[0-9]+:
sum 2 sum.plan:[0-9]+:1: .*sum
two 2 for 2 ranks, this job has 1
none 2 none.plan
END
refused 1 'FAIL experts-placed-once' rule moe-plan-check "$T/rule.plan"
refused 2 'syntax.plan:[0-9]+:[0-9]+:' syntax moe-plan-check "$T/syntax.plan"
refused 2 'sum.plan:[0-9]+:1: .*sum' sum moe-plan-check "$T/sum.plan"

# ---- what moe-train cannot run is said when the plan is made, and refused when it is run ----
M="-m $T/mix.json --seq 16 --global-batch 8"
while IFS='|' read -r options what; do
    # shellcheck disable=SC2086
    run moe-partition $M $options -o "$T/only.plan"
    is "$status" 0 "$options: a plan"
    is "$err" "moe-partition: this is for planning only; moe-train cannot run $what" "$options: that it is for planning only is said"
    # shellcheck disable=SC2086
    is "$(moe-partition -q $M $options -o "$T/only.plan" 2>&1)" '' "$options: not with -q"
done <<'END'
--cp 2|cp 2
--zero 2 --dp 2|zero 2
--zero 3 --dp 2|zero 3
--precision fp8|precision fp8
--dispatcher deepep|dispatcher deepep
--dispatcher hybridep|dispatcher hybridep
--grad-dtype bf16|bf16 gradients
--moment-dtype bf16|bf16 moments
--capacity-scope local|capacity scope local
--cp 2 --zero 2 --moment-dtype bf16|cp 2, zero 2, bf16 moments
END
write_model act mixtral 'hidden_act="gelu"'
like "$(moe-partition -m "$T/act.json" --seq 16 -o "$T/only.plan" 2>&1)" "^moe-partition: .*cannot run this model: hidden_act 'gelu'" 'a model too'
make_plan only mix --seq 16 --global-batch 2 --moment-dtype bf16 2>"$T/err"
refused 2 'moe-train cannot run bf16 moments' plan-only moe-train -p "$T/only.plan" $go -s 1

# ---- legal, and perhaps not meant ----
write_model short mixtral num_hidden_layers=2 max_position_embeddings=8
run moe-partition -m "$T/short.json" --seq 16 --global-batch 2 -o "$T/short.plan"
is "$status:$err" "0:moe-partition: seq 16 is beyond the model's max_position_embeddings, 8" 'positions beyond the model: said when the plan is made'
like "$(moe-plan-check "$T/short.plan")" '^warn positions-reach: seq 16 .* 8$' 'by moe-plan-check'
run moe-train -p "$T/short.plan" $go -s 1
is "$status" 0 'and it runs'
is "$err" "moe-train: seq 16 is beyond the model's max_position_embeddings, 8" 'said by moe-train'
is "$(moe-train -q -p "$T/short.plan" $go -s 1 2>&1)" '' 'but with -q'
run moe-partition $M --pp 2 --vpp 2 --split 1,0,0,1 -o "$T/empty.plan"
is "$status:$err" '0:moe-partition: 2 of 4 virtual stages have no layer, stage 1 on pp 1 first' 'stages without layers: said when the plan is made'
like "$(moe-plan-check "$T/empty.plan")" '^warn stages-filled: 2 of 4' 'by moe-plan-check'
if need mpi command -v mpirun; then
    run mpi 2 moe-train -p "$T/empty.plan" $go -s 1
    is "$status:$(grep -c 'have no layer' "$T/.err")" 0:1 'and by moe-train, once' || diag "$err"
fi
run moe-train -p "$P" $go -s 3 --save "$T/root"
is "$status:$err" 0: 'three steps, without a word'
run moe-train -p "$P" $go -s 2 --lr 1e-2 --resume "$T/root" --save "$T/root"
is "$status" 0 '--steps below the step resumed from'
like "$err" '^moe-train: --steps 2 is below step 3' 'is said'
like "$err" '^moe-train: --lr 0.01 replaces' 'and what replaces the recipe'
is "$(moe-train -q -p "$P" $go -s 2 --lr 1e-2 --resume "$T/root" --save "$T/root" 2>&1)" '' 'but with -q'
is "$(ls "$T/root")" step-00000003 'nothing was done'
is "$(moe-train -q --progress -p "$P" $go -s 1 2>&1)" '' '-q beats --progress'
run moe-train --progress -p "$P" $go -s 1
like "$err" '^moe-train: step 1 of 1: loss [0-9.]+, [0-9]+ tokens/s, 0 s left$' '--progress tells loss, speed and what is left'
write_model wide mixtral num_hidden_layers=1 vocab_size=300
make_plan wide wide --seq 16 --global-batch 2
cp "$T/text.bin" "$T/plain"
run moe-train -p "$T/wide.plan" -d "$T/plain" --log "$T/log" -s 1 --eval "$T/text" --timeline 2-3:"$T/late"
is "$status" 0 'text for a model with more tokens than bytes'
like "$err" "^moe-train: '[^']*/plain' is read as bytes, 256 tokens of the vocabulary's 300;" 'is said to be read as bytes'
unlike "$err" "'[^']*/text' is read" 'tokenized data are not'
like "$err" '^moe-train: --eval without --eval-every' '--eval alone is told of'
like "$err" '^moe-train: --timeline 2-3:.* nothing is recorded, the steps to do are 1 to 1' 'and a timeline of steps that are not done'
is "$(moe-train -q -p "$T/wide.plan" -d "$T/plain" --log "$T/log" -s 1 --eval "$T/text" 2>&1)" '' 'but with -q'
refused 2 "takes no 'one.plan'" operand moe-train one.plan $go -s 1
sed '/^sum/d' "$P" >"$T/unsealed.plan"
like "$(moe-plan-check "$T/unsealed.plan" 2>&1)" '^moe-plan-check: .*no sum' 'a plan without a sum is told of'
is "$(moe-plan-check -q "$T/unsealed.plan" 2>&1 >/dev/null)" '' 'but with -q'
like "$(moe-partition -m moe-7b -c h100 -n 1 --precision bf16 2>&1 >/dev/null)" 'does not fit' 'a plan that does not fit is told of'
is "$(moe-partition -q -m moe-7b -c h100 -n 1 --precision bf16 2>&1 >/dev/null)" '' 'but with -q'

# ---- dtypes that are unknown or cannot be used ----
for key in torch_dtype dtype; do
    write_model odd mixtral torch_dtype=null "$key=\"bfloat15\""
    refused 2 "odd.json:[0-9]+:[0-9]+: key '$key' is 'bfloat15'" "$key unknown" moe-partition -m "$T/odd.json"
    write_model half mixtral torch_dtype=null "$key=\"float16\"" max_position_embeddings=64
    refused 2 "dtype is 'float16'.*--precision" "$key float16" moe-partition -m "$T/half.json"
    run moe-partition -m "$T/half.json" --precision f32
    is "$status:$(echo "$out" | grep -c '^training .*precision=f32')" 0:1 "$key float16: --precision settles it"
done
for dtype in float32 torch.bfloat16; do
    write_model good mixtral "torch_dtype=\"$dtype\"" max_position_embeddings=64
    like "$(moe-partition -m "$T/good.json")" "^training .*precision=$(case $dtype in *b*) echo bf16 ;; *) echo f32 ;; esac)" "torch_dtype $dtype"
done
refused 2 "takes f32, bf16 or fp8, not 'f16'" '--precision unknown' moe-partition -m "$T/mix.json" --precision f16
sed '/^sum/d; s/ precision=f32/ precision=f16/' "$P" >"$T/word.plan"
refused 2 "word.plan:.*precision" 'precision of a plan unknown' moe-plan-check "$T/word.plan"
echo '{"flops": {"bf16": 1e14, "bf15": 1e14}}' >"$T/cluster.json"
refused 2 "cluster.json:1:[0-9]+: key 'bf15'" 'type of a cluster unknown' moe-partition -m "$T/mix.json" -c "$T/cluster.json"
cp -r "$T/root/step-00000003" "$T/init"
rm "$T/init/manifest.json" "$T/init/state.json"
for dtype in I32 X32; do
    perl -pi -e "s/F32/$dtype/ if 1 .. 1" "$T/init/dense.safetensors"
    refused 2 "dense.safetensors: .*$dtype" "weights of dtype $dtype" moe-train -p "$P" $go -s 1 --init "$T/init"
    perl -pi -e "s/$dtype/F32/" "$T/init/dense.safetensors"
done

make_plan half mix --seq 16 --global-batch 2 --precision bf16
refused 3 "MOEKIT_BF16 is 'nativ', none of native, onednn and convert" 'MOEKIT_BF16 of an unknown word' env MOEKIT_BF16=nativ moe-train -p "$T/half.plan" $go -s 1

echo >"$T/blank.json"
refused 2 'blank.json:1:1: is empty' 'an empty config' moe-partition -m "$T/blank.json"
run moe-partition search -m moe-tiny -c h100
is "$status:$err" '2:moe-partition search: how many ranks? name them with --world' 'search without ranks says that alone'

# ---- numbers of the recipe ----
for beta in beta1 beta2; do
    refused 2 "--$beta takes a number from 0 to less than 1, not '1'" "--$beta 1" moe-train -p "$P" $go -s 1 "--$beta" 1
    run moe-train -p "$P" $go -s 1 "--$beta" 0.999999
    is "$status" 0 "--$beta 0.999999 is fine"
done

# ---- outputs that are not files ----
mkfifo "$T/fifo"
cat "$T/fifo" >"$T/read" &
run moe-stat -f csv -o "$T/fifo" "$T/log"
wait
is "$status:$(test -p "$T/fifo" && cat "$T/read")" "0:$(moe-stat -f csv "$T/log")" '-o FIFO: written in place'
ln -s /dev/null "$T/null"
run moe-partition -m "$T/mix.json" --seq 16 -o "$T/null"
is "$status:$(readlink "$T/null"):$(test -c "$T/null" && echo device)" '0:/dev/null:device' '-o DEVICE: written in place'
is "$(ls -A "$T" | grep -c 'tmp$')" 0 'and nothing beside it'
{ echo first; moe-stat -f csv -o /dev/stdout "$T/log"; } >"$T/stdout"
is "$(cat "$T/stdout")" "first
$(moe-stat -f csv "$T/log")" '-o /dev/stdout: goes on where the file is'
is "$(moe-stat -f csv -o >(cat) "$T/log"; wait $!)" "$(moe-stat -f csv "$T/log")" '-o >(COMMAND)'
ln -s one.plan "$T/link.plan"
run moe-plan-check --seal "$T/link.plan"
is "$status:$(readlink "$T/link.plan")" 0:one.plan '--seal: a link stays a link'
chmod 640 "$P"
moe-plan-check --seal "$T/link.plan"
is "$(ls -l "$P" | cut -c1-10)" '-rw-r-----' 'and the file keeps its mode'
if need devfull test -w /dev/full; then
    run moe-train -p "$P" -d "$T/text" --log /dev/full -s 1
    is "$status" 3 '--log on a full device: exit 3'
    like "$err" "cannot write '/dev/full'" 'named'
fi
run moe-train -p "$P" -d "$T/text" --log "$T/null" -s 1
is "$status" 0 '--log DEVICE is fine'

# ---- standard streams: closed, or asked for twice ----
moe-ckpt pack --progress -o "$T/closed.tar" "$T/root/step-00000003" 2>&-
is "$?:$(moe-ckpt verify "$T/closed.tar" | grep -c ': whole')" 0:1 'what is said where nobody listens is not in the file that is written'
moe-ckpt pack -q -o "$T/closed.tar" "$T/root/step-00000003" >&- 2>"$T/err"
is "$?:$(cat "$T/err")" 0: 'a closed stdout is no error to who prints nothing'
moe-plan-check "$P" >&- 2>"$T/err"
is "$?:$(cat "$T/err")" '3:moe-plan-check: cannot write to standard output: Bad file descriptor' 'and is one to who prints'
run moe-plan-check - <&-
is "$status:$err" "3:moe-plan-check: cannot read '-': Bad file descriptor" 'a closed stdin cannot be read'
twice() {
    run "$@"
    is "$status:${err#*: }" "2:standard input can be read once: '-' is named twice" "$1 $2: '-' twice is refused"
}
twice moe-partition -m - -c - <"$T/mix.json"
twice moe-plan-check - - -q <"$P"
twice moe-stat - - <"$T/log"
twice moe-stat --plan - - <"$P"
twice moe-stat --plan - --follow - <"$P"

# ---- outputs that cannot be are said before what takes long ----
# early NAME COMMAND…: it ends with 2, names $T/none/x and not what else is wrong, and has made nothing
early() {
    local name=$1
    shift
    run "$@"
    is "$status:$out" '2:' "$name: exit 2"
    like "$err" "^moe-[a-z-]+( [a-z]+)?: cannot write '[^']*none/x[^']*': No such file" 'named, and nothing else'
}
early '--health -o' moe-train --health -p "$T/nothing" -o "$T/none/x"
early '--calibrate -o' moe-train --calibrate --tolerance 0 -o "$T/none/x"
early '--log' moe-train -p "$P" -d "$T/nothing" -s 9 --log "$T/none/x"
early '--log, of a run that goes on' moe-train -p "$P" -d "$T/text" -s 9 --resume "$T/nothing/step-00000001" --log "$T/none/x"
early '--dump-logits' moe-train -p "$P" -d "$T/nothing" -s 9 --dump-logits "$T/none/x"
early '--dump-gradients' moe-train -p "$P" -d "$T/nothing" -s 9 --dump-gradients "$T/none/x"
mkfifo "$T/log.fifo" # a log that nobody writes: whoever opens it, waits
for what in -o '--plot=' --html --trace; do
    case $what in --plot=) set -- "--plot=$T/none/x.svg" ;; *) set -- $what "$T/none/x" ;; esac
    early "moe-stat $what" timeout 9 moe-stat "$@" "$T/log.fifo"
done
run timeout 9 moe-stat --plot "$T/x.pdf" "$T/log.fifo"
like "$status:$err" "^2:.*ends in neither" 'nor a picture of no known form'
early 'search -o' moe-partition search -m mixtral-8x7b -c h100 -n 8 --seq 4096 --global-batch 32 -o "$T/none/x"
early 'replan -o' moe-partition replan "$T/nothing" --lost 0 -o "$T/none/x"
early 'pack -o' moe-ckpt pack "$T/nothing" -o "$T/none/x"
early '--svg' moe-plan-check --simulate "$T/nothing" --svg "$T/none/x"
[ ! -e "$T/none" ]
ok $? 'nothing is made'
ln -s "$T/root/step-00000003" "$T/link"
for out in "$T/root/step-00000003/x" "$T/link/optimizer/x"; do
    run moe-ckpt pack "$T/root/step-00000003" -o "$out"
    like "$status:$err:$(find "$T/root" -name 'x*')" "^2:.* would lie in .*:$" 'an archive does not go into what it is of'
done
run moe-ckpt extract -e 0 -o "$T/x" "$T/closed.tar"
like "$status:$err" "^2:.*closed.tar' is not a directory" 'nor are tensors got out of one'
for what in -t -e -s; do
    run moe-ckpt list $what "$T/root"
    like "$status:$err" "^2:.*'$T/root' is a directory of steps: name one of them, like '" "list $what of a root says what to name"
done
is "$(moe-ckpt list -t --json "$T/root/step-00000003" | cksum)" "$(moe-ckpt list --json "$T/root/step-00000003" | cksum)" 'list --json has the tensors'

moe-train -q -p "$P" -d "$T/text" -s 40 2>"$T/err" | head -n 1 >"$T/first"
is "${PIPESTATUS[0]}:$(cat "$T/err"):$(grep -c '"kind":"start"' "$T/first")" \
    '3:moe-train: cannot write to standard output: Broken pipe:1' 'a run whose log nobody reads any more says so'
printf '{"kind":"timeline","format":1,"rank":0,"ranks":1}\n' >"$T/times"
run moe-stat --trace "$T/x" "$T/times"
is "$status:$err" "2:moe-stat: no operation is in '$T/times'" 'a timeline without operations'

# ---- options that would do nothing ----
for wrong in "--rules --json" "--simulate $P --tap" "--seal $P -c h100" "--seal $P --save-every 3" "--claims strategy-guide --save-every 3 $P"; do
    run moe-plan-check $wrong
    is "$status:$out" 2: "moe-plan-check $(echo "$wrong" | sed "s|$P|PLAN|"): refused"
done
for wrong in "--health --lr 1" "--health --log x" "--calibrate --save x" "--calibrate --resume x"; do
    run moe-train $wrong
    is "$status:$out" 2: "moe-train $wrong: refused"
done
mkdir "$T/model"
cp "$T/root/step-00000003/"*.safetensors "$T/root/step-00000003/"{config,model.safetensors.index}.json "$T/model"
refused 2 "resume '' names no" '--resume of an unset variable' moe-train -p "$P" $go -s 1 --resume ''
refused 2 "model' is a model, .* go behind --init" '--resume of a model' moe-train -p "$P" $go -s 1 --resume "$T/model"
refused 2 "no directory '.*nowhere' to take weights from" '--init of nothing' moe-train -p "$P" $go -s 1 --init "$T/nowhere"
refused 2 "nowhere' does not exist" 'extract from nothing' moe-ckpt extract -e 0 -o "$T/x" "$T/nowhere"
refused 2 '--eval-every and --eval-steps need --eval' '--eval-steps of nothing' moe-train -p "$P" $go -s 1 --eval-steps 3
for wrong in "--last 5 $T/log" "--every 5 $T/log" "--loads --skip 1 $T/log" "--figures $T/log"; do
    run moe-stat $wrong
    is "$status:$out" 2: "moe-stat ${wrong%$T*}: refused"
done
moe-stat --figures -o "$T/figures"
is "$?:$(cksum <"$T/figures")" "0:$(moe-stat --figures | cksum)" 'moe-stat --figures has --output'
run moe-train -p "$P" $go -s 1 --min-lr 1e-5 --decay-steps 3 --lr-steps 7
is "$status:$err" '0:moe-train: --min-lr has no effect: the learning rate is constant (--lr-schedule)
moe-train: --lr-steps has no effect: the learning rate is constant (--lr-schedule)
moe-train: --decay-steps has no effect: --lr-schedule is constant, not wsd' 'numbers of another schedule are said'
run moe-train -p "$P" $go -s 1 --min-lr 1e-5 --decay-steps 1 --lr-steps 7 --lr-schedule wsd
is "$status:$err" 0: 'and are not where it is that'
refused 2 "order '' must name" '--order of an unset variable' moe-partition -m moe-tiny --order ''
refused 2 "no option '--strategy'" 'search --strategy, which would fix nothing' moe-partition search --strategy ep16-tp4-pp2 -n 128
sed 's/$/\r/' "$P" >"$T/crlf.plan"
refused 2 'carriage return' 'a plan with the line ends of another system' moe-plan-check "$T/crlf.plan"

# ---- names that are not UTF-8 ----
bad=$(printf 'n\351')
cp "$T/text.bin" "$T/$bad.bin"
cp "$T/text.idx" "$T/$bad.idx"
mkdir "$T/$bad.init"
cp "$T/root/step-00000003/"*.safetensors "$T/root/step-00000003/"{config,model.safetensors.index}.json "$T/$bad.init"
echo x >"$T/$bad.init/side-$bad.txt"
echo x >"$T/$bad.init/tokenizer.txt"
run moe-train -q -p "$P" -d "$T/$bad" --init "$T/$bad.init" -s 1 --save "$T/$bad.root" --log "$T/$bad.log"
is "$status" 0 'a run whose names are not UTF-8' || diag "$err"
is "$(sed 's/{"kind":"\([a-z]*\)".*/\1/' "$T/$bad.log" | tr '\n' ' ')" 'start step save end ' 'has every record'
like "$(head -n 1 "$T/$bad.log")" "\"command\":\"[^\"]* -d [^\"]*/n$(printf '\357\277\275') " 'with U+FFFD for what is not'
perl -ne 'use Encode; Encode::decode("UTF-8", $_, Encode::FB_CROAK)' "$T/$bad.log"
ok $? 'and is UTF-8'
run moe-ckpt verify "$T/$bad.root/step-00000001"
is "$status" 0 'its checkpoint is whole' || diag "$err"
is "$(ls "$T/$bad.root/step-00000001" | grep -c 'side\|tokenizer.txt')" 1 'a companion whose name no manifest can hold is left out'
run moe-train -q -p "$P" -d "$T/$bad" --init "$T/$bad.init" -s 1 --save "$T/$bad.root2" --log "$T/$bad.log2"
like "$err" "side-$bad.txt: left out" 'and that is said, with -q too'
run moe-train -p "$P" -d "$T/$bad" -s 2 --resume "$T/$bad.root" --log "$T/$bad.log"
is "$status" 0 'it can be resumed'
is "$(moe-stat -f csv "$T/$bad.log" | tail -1 | cut -d, -f5)" 2 'and reported on'
cp "$P" "$T/$bad.plan"
for command in "moe-ckpt list --json $T/$bad.root" "moe-ckpt list --json $T/$bad.root/step-00000001" "moe-plan-check --json $T/$bad.plan"; do
    run $command
    is "$status" 0 "$(echo "$command" | cut -d' ' -f1-3) of such a name"
    like "$out" "n$(printf '\357\277\275')" 'shows it'
done
cp "$T/mix.json" "$T/$bad.json"
like "$(moe-partition -m "$T/$bad.json" --seq 16 | moe-partition emit json -)" '"name":"n\\uFFFD"' 'emit json too'

done_testing
