#!/bin/sh
# SPDX-License-Identifier: MIT
# Checkpoints made of others: what they hold, by transformers where it is there; inputs that stay as they are; nothing left after a failure.
. "$(dirname "$0")/lib/tap.sh"
. "$top/t/lib/layouts.sh"
cd "$T" || exit 1

write_model small mixtral num_hidden_layers=2 num_local_experts=6 hidden_size=32 head_dim=4 intermediate_size=24 'torch_dtype="bfloat16"' our_key=1
write_tokens data 97 2000
make_plan p small -n 2 --seq 32 --global-batch 2 --ep 2 --dp 2 --precision bf16
train p 2 -q -d data -s 4 --save-every 2 --save made
S=made/step-00000004 B=made/step-00000002
run moe-ckpt verify $S
is "$status" 0 'there is a step' || diag "$err"
find made -type f -exec cksum {} + | sort -k 3 >before

# numbers DIR FILE TENSOR [ROW ROWS]: the checksum of a tensor's bytes, or of one row of so many
numbers() {
    perl -e '
        my ($path, $name, $row, $rows) = @ARGV;
        open(my $f, "<:raw", $path) or die "$path: $!"; local $/; my $all = <$f>;
        my $n = unpack("Q<", $all);
        substr($all, 8, $n) =~ /"\Q$name\E":\{[^}]*"data_offsets":\[(\d+),(\d+)\]/ or die "$path: no $name";
        my ($at, $size) = (8 + $n + $1, $2 - $1);
        ($at, $size) = ($at + $row * $size / $rows, $size / $rows) if defined $rows;
        print unpack("H*", substr($all, $at, $size)), "\n";' -- "$1/$2" "$3" ${4+"$4" "$5"} | cksum
}

# ---- shrink ----
run moe-ckpt shrink -q --drop-experts 1,4 $S cut
is "$status:$out:$err" '0::' 'two experts of six go'
run moe-ckpt verify cut
is "$status" 0 'what is left is a whole step' || diag "$err"
like "$out" 'whole: 15 files' 'of four experts'
w=model.layers.1.block_sparse_moe.experts
is "$(numbers cut expert-003.safetensors $w.3.w2.weight)" "$(numbers $S expert-005.safetensors $w.5.w2.weight)" 'the last is numbered anew'
is "$(numbers cut optimizer/expert-001.safetensors $w.1.w1.weight.exp_avg_sq)" "$(numbers $S optimizer/expert-002.safetensors $w.2.w1.weight.exp_avg_sq)" \
    'its optimizer state too'
g=model.layers.0.block_sparse_moe.gate.weight
for row in 0,0 1,2 2,3 3,5; do
    is "$(numbers cut dense.safetensors $g ${row%,*} 4)" "$(numbers $S dense.safetensors $g ${row#*,} 6)" "row ${row%,*} of the router was row ${row#*,}"
    is "$(numbers cut optimizer/dense.safetensors $g.master ${row%,*} 4)" "$(numbers $S optimizer/dense.safetensors $g.master ${row#*,} 6)" 'its master too'
done
is "$(cksum <cut/state.json)" "$(cksum <$S/state.json)" 'step, recipe and line are kept'
like "$(cat cut/config.json)" '"num_local_experts": 4' 'config.json has the count'
like "$(cat cut/config.json)" '"our_key": 1' 'and all else'
run moe-plan-check cut/plan.moe
is "$status" 0 'its plan is sound'
like "$(cat cut/plan.moe)" '^axes .*ep=2' 'and the old layout'
moe-partition -m cut -n 1 --seq 32 --global-batch 2 -o cut.plan
run moe-train -q --threads 1 -p cut.plan -d data -s 6 --resume cut --log cut.log
is "$status" 0 'a run goes on from it' || diag "$err"
like "$(grep '"kind":"step"' cut.log | head -n 1)" '"step":5,' 'with the step that comes next'
like "$(tail -n 1 cut.log)" '"kind":"end"' 'to its end'
moe-ckpt shrink -q --drop-experts 1,4 $S root/step-00000004
run mpi 2 moe-train -q --threads 1 -p cut/plan.moe -d data -s 5 --resume root --save root --log root.log
is "$status" 0 'also by its own plan, from a root' || diag "$err"
is "$(ls root | tr '\n' ' ')" 'step-00000004 step-00000005 ' 'where the next step is of its line'
run moe-ckpt shrink --drop-experts 1,4 $S ''
like "$status:$err:$(ls -A | grep tmp)" "^2:.* named '':\$" 'an unset variable is no place, which is said first'
run moe-ckpt shrink --drop-experts 1,4 $S root/step-00000009
is "$status" 2 'it cannot be called another step'
moe-ckpt shrink -q --drop-experts 1,4 $S again
is "$(diff -r cut again)" '' 'the same again'
run moe-ckpt shrink -q --drop-experts 1,4 $S cut
is "$status" 2 'OUT that is there is refused'
moe-ckpt shrink -q --drop-experts 5 $S five
like "$(cat five/plan.moe)" '^axes .* ep=2 ' 'with five experts the layout stays: three on one, two on the other'

# ---- uneven over layers ----
run moe-ckpt shrink --drop-experts 0:1,1:2-3 $S odd
is "$status" 2 'layers that lose unlike many'
like "$err" 'layer 0 go 1 experts, of another 2.*--loads' 'need loads'
printf '# loads\n5 9 3 1 7 8\n1 1 1 1 1 1\n' >loads
run moe-ckpt shrink --drop-experts 0:1,1:2-3 --loads loads $S odd
is "$status" 0 'which say who goes too' || diag "$err"
like "$err" 'layer 0: expert 3, the least loaded, goes too' 'and that is said'
is "$(numbers odd expert-001.safetensors model.layers.0.block_sparse_moe.experts.1.w1.weight)" \
    "$(numbers $S expert-002.safetensors model.layers.0.block_sparse_moe.experts.2.w1.weight)" 'layer 0 has lost 1 and 3'
is "$(numbers odd expert-003.safetensors model.layers.0.block_sparse_moe.experts.3.w1.weight)" \
    "$(numbers $S expert-005.safetensors model.layers.0.block_sparse_moe.experts.5.w1.weight)" 'no more'
is "$(numbers odd expert-002.safetensors model.layers.1.block_sparse_moe.experts.2.w1.weight)" \
    "$(numbers $S expert-004.safetensors model.layers.1.block_sparse_moe.experts.4.w1.weight)" 'layer 1 has lost 2 and 3'
for bad in '1 2 3 4 5 6' '1 2 3 4 5 6
1 2 3 4 5' '1 2 3 4 5 6
1 2 3 4 -5 6' '1 2 3 4 5 6
1 2 3 4 5 6x' '1 2 3 4 5 6
1 2 3 4 5 6
1 2 3 4 5 6'; do
    printf '%s\n' "$bad" >loads
    run moe-ckpt shrink --drop-experts 0:1,1:2-3 --loads loads $S bad
    is "$status" 2 'loads that are none of this model are refused'
    like "$err" 'moe-ckpt shrink: loads:' 'where they are'
done

# ---- extract ----
run moe-ckpt extract -q -o e2 --expert 1:2 $S
is "$status:$out:$err" '0::' 'an expert of one layer is extracted'
mkdir one && cp e2 one/x.safetensors
is "$(moe-ckpt list -q --tensors one | awk '{ print $4 }' | sort | tr '\n' ' ')" "$w.2.w1.weight $w.2.w2.weight $w.2.w3.weight " 'its three tensors'
is "$(numbers . e2 $w.2.w3.weight)" "$(numbers $S expert-002.safetensors $w.2.w3.weight)" 'with their numbers'
moe-ckpt extract -q --tensor "$g*" $S >e3
is "$(numbers . e3 $g.exp_avg)" "$(numbers $S optimizer/dense.safetensors $g.exp_avg)" 'a pattern, optimizer and all, to standard output'
run moe-ckpt extract -o bad --tensor no.such $S
is "$status" 2 'what is not there' || diag "$err"
run moe-ckpt extract -o bad --tensor $g --expert 1 $S
is "$status" 2 'both at once'
cp -r $S torn
printf x | dd of=torn/expert-004.safetensors bs=1 seek=6000 conv=notrunc 2>/dev/null
run moe-ckpt extract -o bad --expert 4 torn
is "$status" 2 'a damaged tensor'
like "$err" "torn/expert-004.safetensors: tensor '.*' is damaged" 'is named'
run moe-ckpt extract -q -o e5 --expert 5 torn
is "$status" 0 'and others are no worse for it'

# ---- within an input ----
ln -s $S link
for to in $S/bad link/bad $S/optimizer/more/bad; do
    run moe-ckpt shrink --drop-experts 1 $S $to
    is "$status" 2 "OUT within the input ($to) is refused"
    like "$err" 'is to stay as it is' 'and why'
    run moe-ckpt export link $to
    is "$status" 2 'by export'
    run moe-ckpt extract --tensor $g -o $to $S
    is "$status" 2 'and extract'
done
run moe-ckpt extract --tensor $g -o $S/dense.safetensors $S
is "$status" 2 'so is a file of the input itself'
ln -s $S/dense.safetensors to-dense
run moe-ckpt extract --tensor $g -o to-dense $S
is "$status" 2 'by a link too'
run moe-ckpt merge $B $S $S/bad
like "$status $err" '^2 .*is to stay' 'and what lies within the second of two'

# ---- refused ----
for list in 6 2:0 0:9 0-4 x 1- '' 0-5; do
    run moe-ckpt shrink --drop-experts "$list" $S bad
    is "$status" 2 "--drop-experts '$list' is refused"
    like "$err" '^moe-ckpt shrink: --drop-experts: ' 'and why'
done
cp -r $S hurt
printf x | dd of=hurt/expert-004.safetensors bs=1 seek=6000 conv=notrunc 2>/dev/null
run moe-ckpt shrink --drop-experts 4 hurt bad
is "$status" 2 'a damaged step is refused'
like "$err" 'hurt: not whole: .*expert-004' 'naming what is damaged'
run moe-ckpt shrink --dry-run --drop-experts 4 $S bad
is "$status" 0 '--dry-run'
like "$err" "'bad' would be: 5 of 6 experts a layer" 'says what would be'
if [ -w /dev/full ]; then
    (ulimit -f 20; trap '' XFSZ; moe-ckpt shrink -q --drop-experts 4 $S bad 2>/dev/null)
    is $? 3 'a write that fails'
fi

# ---- export, import ----
run moe-ckpt export -q $S plain
is "$status:$out:$err" '0::' 'weights become a plain directory'
is "$(ls plain | tr '\n' ' ')" 'config.json model.safetensors ' 'in one file'
is "$(moe-ckpt verify plain; moe-ckpt diff $S plain)" "plain: well formed: 1 file, 53 tensors, 84.9 kB
# 53 tensors, 0 differ, 0 beyond the tolerance" 'with the same numbers'
is "$(cksum <plain/config.json)" "$(cksum <$S/config.json)" 'and the same config.json'
printf '{"a": 1}' >plain/tokenizer.json
moe-ckpt shrink -q --drop-experts 0 plain less
is "$(cat less/tokenizer.json; ls less | tr '\n' ' ')" '{"a": 1}config.json model.safetensors tokenizer.json ' 'small files travel along'
moe-ckpt export -q -s 20000 $S shards
is "$(ls shards | grep -c 'model-0000[1-5]-of-00005.safetensors')" 5 'or in several'
run moe-ckpt diff $S shards
is "$status" 0 'with the same numbers'
run moe-ckpt export --dtype f32 $S wide
like "$err" '53 tensors are taken from the optimizer' 'to f32 the master is taken, which is said'
is "$(numbers wide model.safetensors $g)" "$(numbers $S optimizer/dense.safetensors $g.master)" 'and is there'
like "$(cat wide/config.json)" '"torch_dtype": "float32"' 'config.json says so'
moe-ckpt export -q --dtype bf16 wide narrow
run moe-ckpt diff $S narrow
is "$status" 0 'rounded again it is the weights'
moe-ckpt export -q --fused $S fused
is "$(moe-ckpt list --tensors fused | grep -c experts)" 4 'fused, a layer has two tensors of experts'
like "$(moe-ckpt list --tensors fused)" 'BF16  \[6,48,32\].*model.layers.1.mlp.experts.gate_up_proj' 'gate and up, and down'
moe-ckpt import -q fused split
run moe-ckpt diff $S split
is "$status" 0 'import takes them apart'
make_plan one small -n 1 --seq 32 --global-batch 2 --precision bf16
is "$(ls split | tr '\n' ' ')" "$(ls $S | grep -E 'config|safetensors' | tr '\n' ' ')" 'into the files of a step'
run moe-train -q --threads 1 -p one.plan -d data -s 1 --lr 0 --init split --save begun --log /dev/null
is "$status" 0 'from which a run begins' || diag "$err"
run moe-ckpt diff $S begun/step-00000001
is "$status" 0 'with these numbers'

# ---- quantised ----
mkdir quant
cp plain/model.safetensors quant
sed 's/^{/{"quantization_config": {"quant_method": "fp8"},/' plain/config.json >quant/config.json
for verb in export import 'shrink -e 1' 'merge quant' 'upcycle -e 2'; do
    # shellcheck disable=SC2086
    run moe-ckpt $verb quant bad
    like "$status:$err" '^2:.*quant: is quantised \(fp8\): only plain numbers can be recast' "$verb: a quantised model is refused, and why"
done
run moe-ckpt extract -q -o e7 -t $g quant
is "$status:$err" '0:' 'a plain tensor of one is extracted'

# ---- saved under other plans ----
make_plan tensor small -n 2 --seq 32 --global-batch 2 --tp 2 --precision bf16
make_plan stages small -n 2 --seq 32 --global-batch 2 --pp 2 --zero 0 --precision bf16
from=$S step=4
for plan in one tensor stages; do
    step=$((step + 1))
    cp $plan.plan by-$plan.plan
    train by-$plan $([ $plan = one ] && echo 1 || echo 2) -q -d data -s $step --lr 0 --resume $from --save by-$plan
    from=by-$plan/step-0000000$step
    run moe-ckpt diff $S $from
    is "$status" 0 "resumed and saved under another plan ($plan): the same weights" || diag "$(cat by-$plan.err)"
done
moe-ckpt pack -q $S | moe-ckpt restore -q - restored

# ---- every family, as transformers has it ----
python=${MOEKIT_PYTHON:-$top/.build/oracles/bin/python}
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
ask() { printf '%s\n' "$*" >>todo; } # for one process of Python
ask_all() { OMP_NUM_THREADS=1 "$python" "$top/contrib/oracle/batch.py" <todo >batch.out 2>&1; rm -f todo; }
# verdict FILE NAME: the command that printed to FILE exited 0
verdict() {
    is "$(tail -n 1 "$1")" 'exit 0' "$2"
    [ "$(tail -n 1 "$1")" = 'exit 0' ] || diag "$(tail -n 12 "$1")"
}
# Layer, expert and bytes of what list --experts prints.
shares() { awk '!/^#/ { print $1, $2, $4 }'; }
families='mixtral qwen2_moe qwen3_moe olmoe glm4_moe qwen3_next deepseek_v2 deepseek_v3 gpt_oss'
if need torch "$python" -c 'import torch, transformers, safetensors'; then
    ask models.out make-models models $families qwen3
    ask_all
    write_model dense mixtral model_type='"llama"' num_attention_heads=4 intermediate_size=40
    mkdir dense
    grep -v 'local_experts\|experts_per_tok\|router' dense.json >dense/config.json
    ask dense.out recast init dense
    ask_all
    for f in dense models/qwen3; do
        run moe-ckpt upcycle -q --experts 6 $f ${f#*/}.up
        is "$status:$err" '0:' "$f: upcycled"
        ask ${f#*/}.up.out recast near $f ${f#*/}.up
    done
    moe-ckpt upcycle -q --experts 6 models/qwen3 again.up
    is "$(diff -r again.up qwen3.up)" '' 'the same bits again'
    moe-ckpt upcycle -q --experts 6 --seed 2 models/qwen3 other.up
    is "$(moe-ckpt diff again.up other.up | grep -c '^[0-9].*mlp.gate.weight')" 3 'another seed draws other routers'
    is "$(moe-ckpt diff again.up other.up | grep -c '^[0-9]')" 3 'and nothing else'
    near "$(moe-ckpt list -q --stats again.up | awk '/mlp.gate/ { s += $1 * $1; n += 6 * 48 } END { print sqrt(s / n) }')" 0.02 0.002 'of the right size'
    run moe-ckpt upcycle --experts 4 models/mixtral bad
    is "$status" 2 'a model with experts is refused'
    run moe-ckpt upcycle --experts 4 --top-k 5 dense bad
    is "$status" 2 'and more experts for a token than there are'
    mkdir biased
    sed 's/"head_dim"/"attention_bias": true, "head_dim"/' dense/config.json >biased/config.json
    cp dense/model.safetensors biased
    run moe-ckpt upcycle --experts 4 biased bad
    is "$status" 2 'and biases that Mixtral has not'
    for made in restored by-one/* by-tensor/* by-stages/* plain fused split; do
        ask "$(echo $made | tr / .).out" recast same $S $made
    done
    for f in $families; do
        moe-ckpt pack -q models/$f | moe-ckpt restore -q - $f.restored
        is "$(diff -r models/$f $f.restored)" '' "$f: packed and restored, bitwise"
        moe-ckpt shrink -q --drop-experts 1,4 models/$f $f.cut
        ok $? "$f: shrunk"
        ask $f.cut.out recast shrunk models/$f $f.cut 1,4
        moe-ckpt import -q models/$f $f.in && moe-ckpt export -q --fused -s 30000 $f.in $f.fused && moe-ckpt export -q $f.fused $f.back
        ok $? "$f: imported, exported fused, and exported as published"
        is "$(moe-ckpt list -q --experts $f.fused | shares)" "$(moe-ckpt list -q --experts models/$f | shares)" "$f: fused or not, list gives each expert its bytes"
        is "$(moe-ckpt list -q --experts models/$f | awk '!/^#/ { n += $4 } END { print n }')" \
            "$(moe-ckpt list -q --tensors models/$f | awk '{ n += $3 } END { print n }')" 'which make all of them'
        case $f in
        glm4_moe | deepseek_v3) cp -r models/$f $f.one ;; # which route to groups
        *) moe-ckpt merge -q models/$f models/$f $f.two && moe-ckpt shrink -q --drop-experts 0-7 $f.two $f.one ;;
        esac
        ok $? "$f: merged with itself, and shrunk to what it was"
        for as in in fused back one; do
            ask $f.$as.out recast same models/$f $f.$as
        done
    done
    ask_all
    verdict dense.up.out 'Llama: transformers computes the same with it, and experts are alike'
    verdict qwen3.up.out 'Qwen3: likewise'
    for made in restored by-one/* by-tensor/* by-stages/* plain fused split; do
        verdict "$(echo $made | tr / .).out" "transformers computes with $made what it computes with the step"
    done
    for f in $families; do
        verdict $f.cut.out "$f: transformers opens it, and it is what was there without the experts"
        for as in in fused back one; do
            verdict $f.$as.out "$f: transformers computes the same with what was made ($as)"
        done
    done
fi

# ---- list --experts, --stats ----
is "$(moe-ckpt list -q --experts $S | awk '$1 == 1 && $2 == 5')" "$(printf '%7d %7d %8d  %15d  %15d  %s' 1 5 3 $((3 * 32 * 24 * 2)) $((3 * 32 * 24 * 12)) BF16)" \
    'list --experts: tensors, bytes, those of the optimizer, dtype'
is "$(moe-ckpt list -q --experts $S | awk '!/^#/' | wc -l)" 15 'a line for each expert of each layer, each layer, and the rest'
is "$(moe-ckpt list -q --experts $S | tail -n 1)" '# 12 experts in all layers: 55.3 kB; the rest: 23.7 kB; of the optimizer: 474 kB' 'and totals'
if need jq command -v jq; then
    is "$(moe-ckpt list -q --json --experts --stats $S | jq -c '[.experts[] | select(.layer == 1 and .expert == 5) | .tensors, .bytes, .not_finite]')" '[3,4608,0]' 'as JSON'
    near "$(moe-ckpt list -q --json --experts --stats $S | jq '[.experts[].norm | . * .] | add | sqrt')" \
        "$(moe-ckpt list -q --stats --tensors plain | awk '{ n += $1 * $1 } END { print sqrt(n) }')" 1e-4 'norms of experts make that of all'
fi
run moe-ckpt list --experts one
is "$status" 2 'of what model it is must be known'
perl -e 'print pack("Q<", 58), q({"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}) . "   ", pack("f<*", 3, -4, "inf", 0)' >e6
mkdir figures && mv e6 figures/model.safetensors
is "$(moe-ckpt list -q --stats figures | tail -n 1 | tr -s " ")" "5 4 1 F32 [4] 16 x model.safetensors" "norm, largest, not finite"
if need jq command -v jq; then
    is "$(moe-ckpt list -q --stats --json figures | jq -c '.files[0].tensors[0] | [.norm == 5, .max_abs == 4, .not_finite]')" "[true,true,1]" 'as JSON too'
fi

# ---- merge ----
moe-ckpt export -q made/step-00000002 early
run moe-ckpt merge -q plain early both
is "$status:$out:$err" '0::' 'two models become one'
is "$(moe-ckpt list -q --tensors both | awk '$4 == "'$g'" { print $2 }')" '[12,32]' 'of twice as many experts'
is "$(numbers both model.safetensors $w.8.w1.weight)" "$(numbers early model.safetensors $w.2.w1.weight)" 'the second model'"'"'s behind the first'"'"'s'
for row in 0 7; do
    is "$(numbers both model.safetensors $g $row 12)" "$(numbers $([ $row = 7 ] && echo early || echo plain) model.safetensors $g $((row % 6)) 6)" 'rows of routers too'
done
moe-ckpt merge -q plain plain twice
is "$(numbers twice model.safetensors model.embed_tokens.weight)" "$(numbers plain model.safetensors model.embed_tokens.weight)" 'the mean of the same is the same'
moe-ckpt export -q --dtype f32 early early.f32
moe-ckpt merge -q wide early.f32 mean
is "$(perl -e 'my @x = map { open(my $f, "<:raw", "$_/model.safetensors") or die; local $/; my $all = <$f>; my $n = unpack("Q<", $all);
        substr($all, 8, $n) =~ /"model.norm.weight":\{[^}]*"data_offsets":\[(\d+),(\d+)\]/ or die; [unpack("f<*", substr($all, 8 + $n + $1, $2 - $1))] } qw(wide early.f32 mean);
    print scalar(grep { abs(($x[0][$_] + $x[1][$_]) / 2 - $x[2][$_]) > 1e-7 } 0 .. 31), " ", scalar(grep { $x[0][$_] != $x[1][$_] } 0 .. 31) > 0')" '0 1' 'else the mean'
run moe-ckpt merge plain five bad
is "$status" 2 'models of two shapes are refused'
like "$err" 'not of one shape: .* is 6 and 5' 'and why'
run moe-ckpt merge plain bad
is "$status" 2 'one model is not enough'

# ---- prune ----
train one 1 -q -d data -s 6 --save-every 1 --save line
damage() { printf x | dd of="$1/expert-004.safetensors" bs=1 seek=6000 conv=notrunc 2>/dev/null; }
damage line/step-00000006
damage line/step-00000002
run moe-ckpt prune --keep 2 --dry-run line
is "$status:$(echo $out)" '0:line/step-00000003 line/step-00000002 line/step-00000001' 'what would go: all before the newest two that are whole'
like "$err" 'step-00000006. is not whole' 'one that is not does not count, which is said'
is "$(ls line | wc -l)" 6 'and nothing went'
run moe-ckpt prune -q --keep 2 line
is "$status:$(echo $out)" '0:line/step-00000003 line/step-00000002 line/step-00000001' 'then it goes'
is "$(ls -A line | tr '\n' ' ')" 'step-00000004 step-00000005 step-00000006 ' 'and nothing else, without a trace'
damage line/step-00000005
run moe-ckpt prune -q --keep 1 line
is "$status:$out" '0:' 'the last good step never goes'
damage line/step-00000004
run moe-ckpt prune -q --keep 1 line
is "$status:$out" '0:' 'nor does any where none is good'
mkdir two
moe-train -q --threads 1 -p one.plan -d data -s 3 --save-every 1 --save a --log /dev/null
moe-train -q --threads 1 -p one.plan -d data -s 5 --save-every 1 --save b --log /dev/null
cp -r a/step-00000001 a/step-00000002 a/step-00000003 b/step-00000004 b/step-00000005 two
run moe-ckpt prune -q --keep 1 two
is "$(echo $out)" 'two/step-00000004 two/step-00000002 two/step-00000001' 'of two lines each keeps its last'
run moe-ckpt prune --keep 0 two
is "$status" 2 '--keep 0 is refused'
run moe-ckpt prune --keep 1 begun/step-00000001
is "$status" 2 'and so is a directory without steps'
none "$(ls -A begun/step-00000001 | grep moekit-run)" 'which is left as it was'

# ---- memory ----
# zeros DIR LAYERS HIDDEN WIDTH EXPERTS: a Mixtral, or without experts a Llama, of zeros that take no room; a file a layer
zeros() {
    perl -e '
        my ($dir, $layers, $h, $f, $e) = @ARGV; my (%map, $i, $c); mkdir $dir;
        sub file { my ($name, @t) = @_; my ($at, @h) = 0;
            while (my ($t, $shape) = splice @t, 0, 2) { my $n = 2; $n *= $_ for @$shape; $map{$t} = $name;
                push @h, sprintf(q("%s":{"dtype":"BF16","shape":[%s],"data_offsets":[%d,%d]}), $t, join(",", @$shape), $at, $at + $n); $at += $n; }
            my $h = "{" . join(",", @h) . "}"; open(my $out, ">:raw", "$dir/$name") or die;
            print $out pack("Q<", length $h), $h; truncate($out, 8 + length($h) + $at); }
        file("ends.safetensors", "model.embed_tokens.weight", [256, $h], "model.norm.weight", [$h], "lm_head.weight", [256, $h]);
        for my $p (map { "model.layers.$_" } 0 .. $layers - 1) {
            my @mlp = map { ("$p.$_->[0].weight", [$f, $h], "$p.$_->[1].weight", [$f, $h], "$p.$_->[2].weight", [$h, $f]) }
                $e ? map { my $x = "block_sparse_moe.experts.$_"; ["$x.w1", "$x.w3", "$x.w2"] } 0 .. $e - 1 : ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
            push @mlp, "$p.block_sparse_moe.gate.weight", [$e, $h] if $e;
            file("$p.safetensors", map({ ("$p.${_}_layernorm.weight", [$h]) } qw(input post_attention)), map({ ("$p.self_attn.${_}_proj.weight", [$h, $h]) } qw(q k v o)), @mlp); }
        open($i, ">", "$dir/model.safetensors.index.json"); print $i "{\"metadata\":{},\"weight_map\":{", join(",", map { qq("$_":"$map{$_}") } sort keys %map), "}}";
        open($c, ">", "$dir/config.json"); printf $c q({"model_type":"%s","hidden_size":%d,"intermediate_size":%d,"num_hidden_layers":%d,"num_attention_heads":%d,
            "num_key_value_heads":%d,"head_dim":64,%s"vocab_size":256,"rms_norm_eps":1e-5,"rope_theta":10000.0,"hidden_act":"silu","tie_word_embeddings":false,"torch_dtype":"bfloat16"}),
            $e ? "mixtral" : "llama", $h, $f, $layers, $h / 64, $h / 64, $e ? qq("num_local_experts":$e,"num_experts_per_tok":2,) : "";' "$@"
}
if need python command -v python3; then
    size=${MOEKIT_LARGE:+4096 14336}
    size=${size:-1024 3584} # 180 MB a layer, or 2.95 GB
    # shellcheck disable=SC2086
    zeros zeros.moe $((${MOEKIT_LARGE:+5} + 2)) $size 8 && zeros zeros.half $((${MOEKIT_LARGE:+2} + 1)) $size 8 && zeros zeros.dense 2 $size 0
    while read -r verb rest; do
        # shellcheck disable=SC2086
        run_measured moe-ckpt $verb -q $rest
        [ "$status" -eq 0 ] && [ "$peak" -lt 64 ]
        ok $? "$verb: $(du -s --apparent-size -BM zeros.moe | cut -f 1) in $peak MiB" || diag "$status: $err"
        rm -rf out.zeros
    done <<END
export zeros.moe out.zeros
export --fused zeros.moe out.zeros
export --dtype f32 zeros.half out.zeros
import zeros.moe out.zeros
shrink -e 3 zeros.moe out.zeros
merge zeros.half zeros.half out.zeros
upcycle -e 8 zeros.dense out.zeros
extract -o out.zeros -t *.layers.* zeros.moe
list --stats --experts zeros.moe
diff zeros.moe zeros.moe
END
fi

none "$(ls -d bad* 2>/dev/null)" 'none of these left anything'
is "$(find made -type f -exec cksum {} + | sort -k 3 | diff before -)" '' 'and no input has changed by a byte'
done_testing
