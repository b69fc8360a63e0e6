#!/bin/sh
# SPDX-License-Identifier: MIT
# Other people's directories, as transformers and safetensors read them: which files are a model's, what stands where a file should be,
# dtypes that can only be carried, windows that cannot act. (t/0710-oracle-files.t asks the libraries themselves.)
. "$(dirname "$0")/lib/tap.sh"
. "$top/t/lib/layouts.sh"
cd "$T" || exit 1

write_model small mixtral num_hidden_layers=2 num_local_experts=4
write_tokens data 97 2000
make_plan p small --seq 32 --global-batch 1 --precision f32
train p 1 -q -d data -s 1 --save made
S=made/step-00000001
mkdir sharded
cp $S/*.safetensors $S/model.safetensors.index.json $S/config.json sharded

# single DIR OUT: DIR's tensors in the one file OUT; with NAME=OTHER… after it their names changed
single() {
    perl -e '
        my ($dir, $out, %rename) = (shift, shift, map { split /=/, $_, 2 } @ARGV);
        my ($header, $data, $at) = ("", "", 0);
        for my $path (sort glob "$dir/*.safetensors") {
            open(my $f, "<:raw", $path) or die; local $/; my $all = <$f>;
            my $n = unpack("Q<", $all);
            my $h = substr($all, 8, $n);
            while ($h =~ /"([^"]+)":\{"dtype":"(\w+)","shape":(\[[\d,]*\]),"data_offsets":\[(\d+),(\d+)\]\}/g) {
                my $size = $5 - $4;
                $header .= sprintf q(,"%s":{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}), $rename{$1} // $1, $2, $3, $at, $at + $size;
                $data .= substr($all, 8 + $n + $4, $size);
                $at += $size;
            }
        }
        $header = "{" . ($ENV{META} // q("__metadata__":{"format":"pt"})) . "$header}";
        open(my $f, ">:raw", $out) or die;
        print $f pack("Q<", length $header), $header, $data;' -- "$@"
}
# verified DIR: run verify on it
verified() { run moe-ckpt verify "$1"; }
# import DIR [PLAN]: one step without moving, from DIR's weights, saved to DIR.out
import() {
    rm -rf "$1.out"
    run moe-train --threads 1 -p "${2:-p.plan}" -d data -s 1 --lr 0 --init "$1" --save "$1.out" --log /dev/null
}

# ---- which file wins ----
mkdir one both
single sharded one/model.safetensors
cp sharded/config.json one
cp sharded/* both
# the same but for two matrices of one layer, which changed places
single sharded both/model.safetensors model.layers.0.self_attn.k_proj.weight=model.layers.0.self_attn.v_proj.weight \
    model.layers.0.self_attn.v_proj.weight=model.layers.0.self_attn.k_proj.weight
verified one
is "$status:$err" '0:' 'one model.safetensors is a model'
verified sharded
is "$status:$err" '0:' 'and so are shards with an index'
verified both
is "$status" 0 'with both, transformers opens the one file'
is "$(printf '%s\n' "$err" | grep -c 'nothing refers to it')" 6 'and each file that nothing refers to is named' || diag "$err"
like "$err" 'both/expert-002.safetensors: nothing refers to it' 'by its path'
like "$err" 'both/model.safetensors.index.json: nothing refers to it' 'the index too'
run moe-ckpt verify -q both
is "$status:$err" '0:' 'but not with -q'
import both
is "$status" 0 'weights are taken from both' || diag "$err"
like "$err" 'both: model.safetensors is read, as transformers does, and not dense.safetensors and 5 files more' 'with a notice of what is not read'
run moe-ckpt diff both both.out/step-00000001
is "$status" 0 'from the one file'
run moe-ckpt diff sharded both.out/step-00000001
is "$status $(printf '%s\n' "$out" | grep -c '^[0-9]')" '1 2' 'and not from the shards'
run moe-ckpt list both
like "$out" 'model.safetensors$' 'list shows what is read'
like "$err" 'not dense.safetensors' 'and says what is not'
cp -r sharded stale
cp stale/dense.safetensors stale/old.safetensors
verified stale
is "$status" 0 'a file more beside an index'
like "$err" 'stale/old.safetensors: nothing refers to it' 'is named'
cp -r sharded loose
rm loose/model.safetensors.index.json
verified loose
is "$status" 1 'shards without an index are none: transformers finds no weights'
like "$err" 'neither model.safetensors nor model.safetensors.index.json' 'which is said'
cp -r sharded bad
sed 's/"metadata"/"mtadata"/' sharded/model.safetensors.index.json >bad/model.safetensors.index.json
verified bad
is "$status" 1 'an index without metadata, which transformers cannot open'

# ---- names mean nothing ----
cp -r sharded step-1000
verified step-1000
is "$status:$out" "0:$(verified sharded; printf '%s' "$out" | sed 's/^sharded/step-1000/')" 'a directory called step-1000 is judged by what is in it'
echo '{"name": "an app", "version": "1"}' >step-1000/manifest.json
verified step-1000
is "$status" 0 'somebody else'"'"'s manifest.json is not ours'
for mark in plan.moe state.json manifest.json optimizer; do
    rm -rf marked
    mkdir marked
    cp sharded/* marked
    cp -r "$S/$mark" marked
    verified marked
    is "$status" 1 "but a step that has lost all but $mark is not whole"
done

# ---- Git LFS ----
pointer='version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 4892809584'
lfs="is a Git LFS pointer, not the file it stands for: 'git lfs pull' gets that"
for f in dense.safetensors expert-001.safetensors model.safetensors.index.json config.json tokenizer.json tokenizer.model; do
    rm -rf lfs
    cp -r sharded lfs
    printf '%s\n' "$pointer" >lfs/$f
    verified lfs
    is "$status" 1 "verify: a pointer for $f"
    like "$err" "lfs/$f: $lfs" 'is called that'
done
run moe-partition -m lfs/tokenizer.model -n 2
like "$status $err" "^2 .*lfs/tokenizer.model: $lfs" 'moe-partition too'
cp -r one lfs1
printf '%s\n' "$pointer" >lfs1/model.safetensors
import lfs1
like "$status $err" "2 .*lfs1/model.safetensors: $lfs" 'moe-train too'
run moe-ckpt list lfs1
like "$status $err" "2 .*lfs1/model.safetensors: $lfs" 'and list'
for f in data.bin data.idx; do
    cp data.bin d.bin
    cp data.idx d.idx
    printf '%s\n' "$pointer" >d."${f#*.}"
    run moe-train -p p.plan -d d -s 1 --log /dev/null
    like "$status $err" "2 .*d.${f#*.}: $lfs" "data: a pointer for $f"
done
printf '%s\n' "$pointer" >d.txt
run moe-train -p p.plan -d d.txt -s 1 --log /dev/null
like "$status $err" "2 .*d.txt: $lfs" 'data: a pointer for a text is not trained on'

# ---- what is carried, and what is not the model's ----
mkdir extra
META='"__metadata__":null,"zz.fp4":{"dtype":"F4","shape":[0,2],"data_offsets":[0,0]}' single sharded extra/model.safetensors
cp sharded/config.json extra
verified extra
is "$status" 0 'null metadata and an F4 tensor that is not the model'"'"'s'
like "$err" "1 tensor is not the model's and not read, as in transformers: 'zz.fp4'" 'which is named'
run moe-ckpt list --tensors extra
like "$out" '^F4 +\[0,2\] +0  zz.fp4' 'and listed'
import extra
is "$status" 0 'and does not keep the rest from training'
like "$err" "'zz.fp4'" 'nor is passed over in silence'
mkdir fp8
cp sharded/config.json fp8
perl -e '
    # the norm as 48 numbers of F8_E4M3 and 144 bytes beside it
    open(my $f, "<:raw", "one/model.safetensors"); local $/; my $all = <$f>; my $n = unpack("Q<", $all); my $h = substr($all, 8, $n);
    $h =~ s/"model\.norm\.weight":\{"dtype":"F32","shape":\[48\],"data_offsets":\[(\d+),(\d+)\]\}/
        sprintf q("model.norm.weight":{"dtype":"F8_E4M3","shape":[48],"data_offsets":[%d,%d]},"rest":{"dtype":"U8","shape":[144],"data_offsets":[%d,%d]}), $1, $1 + 48, $1 + 48, $2/e or die;
    open(my $o, ">:raw", "fp8/model.safetensors"); print $o pack("Q<", length $h), $h, substr($all, 8 + $n);'
verified fp8
is "$status" 0 'a parameter in a dtype that can only be carried is well formed' || diag "$err"
run moe-ckpt list fp8
like "$out" 'F8_E4M3' 'and listed'
run moe-ckpt diff fp8 fp8
is "$status" 0 'and compared byte by byte'
import fp8
is "$status" 2 'but cannot be computed with'
like "$err" "fp8/model.safetensors: tensor 'model.norm.weight' is F8_E4M3, not F32, BF16 or F16" 'which is said by name'
mkdir packed
single sharded packed/model.safetensors model.layers.0.self_attn.q_proj.weight=model.layers.0.self_attn.q_proj.weight_packed
sed 's/^{/{"quantization_config": {"quant_method": "x"},/' sharded/config.json >packed/config.json
verified packed
is "$status:$err" '0:' 'a quantised model, a parameter in parts of another name, is well formed'
cp sharded/config.json packed
verified packed
is "$status" 1 'the same without a quantizer in its config is not'
like "$err" "has no tensor 'model.layers.0.self_attn.q_proj.weight'" 'and the tensor is named'

# ---- side files ----
cp -r one side
echo '{"a": 1, "a": [NULL]}' >side/tokenizer_config.json
verified side
like "$status $err" '^1 .*side/tokenizer_config.json:1:[0-9]*: ' 'JSON beside the weights that is none is named'
echo '{"a": 1, "a": 2}' >side/tokenizer_config.json
verified side
is "$status" 0 'what Python reads is left alone'

# ---- configs ----
# planned NAME KEY=VALUE…: a plan for the small model with these keys
planned() {
    name=$1
    shift
    write_model "$name" mixtral num_hidden_layers=2 num_local_experts=4 "$@"
    run moe-partition -m "$name.json" --seq 32 --global-batch 1 --precision f32 -o "$name.plan"
}
planned window sliding_window=64
run moe-train -q --threads 1 -p window.plan -d data -s 1 --log /dev/null
is "$status" 0 'a window that is no shorter than the sequences runs'
planned same sliding_window=32
run moe-train -q --threads 1 -p same.plan -d data -s 1 --log /dev/null
is "$status" 0 'nor does one of their length act'
planned short sliding_window=31
run moe-train -q --threads 1 -p short.plan -d data -s 1 --log /dev/null
is "$status" 2 'a shorter one would'
like "$err" 'a sliding window of 31 tokens in sequences of 32' 'and is refused with both numbers'
run moe-plan-check short.plan
like "$out" 'runnable: .*a sliding window of 31 tokens in sequences of 32' 'which moe-plan-check says before'
run moe-plan-check window.plan
like "$out" '^ok +runnable' 'as it says that the longer one runs'
planned rope rope_scaling=false
is "$status:$err" '0:' 'rope_scaling false is none'
sed '/"num_attention_heads"/d; /"num_key_value_heads"/d' small.json >assumed.json
run moe-partition -m assumed.json --seq 32 --global-batch 1 --precision f32 -o assumed.plan
is "$status" 0 'a size that is left out is the class'"'"'s'
like "$err" 'assumed.json: leaves out sizes, which are transformers. for mixtral: num_attention_heads 32' 'and said'
write_model shared0 qwen num_hidden_layers=2 shared_expert_intermediate_size=0
make_plan shared0 shared0 --seq 32 --global-batch 1 --precision f32
train shared0 1 -q -d data -s 2 --save shared0
is $? 0 'a shared expert of width 0 trains'
verified shared0/step-00000002
is "$status" 0 'and is saved whole' || diag "$err"

# ---- blends ----
run moe-train -q -p p.plan -d '0.3 data 0.7  data' -s 1
is "$status" 2 'weights and paths in turn, as Megatron has them'
like "$err" "a weight stands before its path with a colon between, '0.3:data 0.7:data'" 'get a hint'
done_testing
