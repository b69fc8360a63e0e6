#!/bin/sh
# SPDX-License-Identifier: MIT
# moe-partition: plans asked for exactly, refusals that say what would do, the plan as text and as JSON.
. "$(dirname "$0")/lib/tap.sh"

run moe-partition
is "$status" 2 'a model is needed'
run moe-partition nonsense
is "$status" 2 'an unknown verb is bad usage'

# ---- the two readings of EP16 + TP4 + PP2 on 128 ranks ----
moe-partition --strategy ep16-tp4-pp2 -o "$T/a.plan" 2>"$T/err"
ok $? 'reading A is made'
is "$(cat "$T/err")" '' 'and nothing is said about it'
is "$(head -1 "$T/a.plan")" 'moe-plan 1' 'the first line names the format'
like "$(sed -n 2p "$T/a.plan")" '^# moe-partition .*--strategy ep16-tp4-pp2' 'the second line names the maker'
like "$(tail -1 "$T/a.plan")" '^sum crc32=[0-9a-f]{8}$' 'the last line is the sum'
is "$(grep -c '^rank ' "$T/a.plan")" 128 '128 ranks'
is "$(sed -n 's/^group ep 0 //p' "$T/a.plan")" 0,4,8,12,16,20,24,28,32,36,40,44,48,52,56,60 'A: an expert group strides over tp'
is "$(sed -n 's/^group pp 5 //p' "$T/a.plan")" 5,69 'A: pipeline groups are i and i+64'
moe-partition plan --strategy ep16-tp4-pp2-folded >"$T/b.plan"
is "$(sed -n 's/^group ep 0 //p' "$T/b.plan")" 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 'B: an expert group is 16 neighbours'
is "$(sed -n 's/^stage 7 //p' "$T/b.plan")" 'pp=1 chunk=3 layers=14-15' 'two layers a virtual stage'
is "$(grep -c '^schedule ' "$T/b.plan")" 2 'a schedule for each pipeline rank'
like "$(grep '^expert .*ep=3 ' "$T/b.plan")" 'layers=0-15 ep=3 ids=12-15$' 'experts lie in order, all layers in one line'
like "$(grep '^training' "$T/b.plan")" 'schedule=interleaved' 'vpp above 1 is interleaved by default'
moe-partition --strategy ep16-tp4-pp2 -o "$T/a2.plan"
is "$(grep -v '^#\|^sum' "$T/a2.plan" | cksum)" "$(grep -v '^#\|^sum' "$T/a.plan" | cksum)" 'the same request gives the same plan'

# ---- the config comes back byte for byte ----
sed -n 's/^| //p' "$T/a.plan" >"$T/config.json"
cmp -s "$T/config.json" "$top/share/models/moe-7b.json"
ok $? 'the config is in the plan, verbatim'
printf '%s' "$(cat "$top/share/models/moe-tiny.json")" >"$T/no-newline.json"
moe-partition -m "$T/no-newline.json" >"$T/n.plan"
moe-plan-check "$T/n.plan" >/dev/null
ok $? 'a config without a last newline is carried too'
moe-partition -m - <"$top/share/models/moe-tiny.json" >"$T/s.plan"
ok $? 'a config can come from standard input'

# ---- refusals: status 2, the rule, the numbers, what would do ----
refuse() {
    want=$1
    shift
    run moe-partition "$@"
    is "$status $out" '2 ' "refused: $*"
    like "$err" "$want" "it says: $want"
}
refuse 'rule axes-dense: tp 4 .* pp 3 = 12 does not divide 16 ranks; pp 1, 2 or 4 would' -m moe-7b -n 16 --tp 4 --pp 3
refuse 'rule heads-divide: attention heads 16 is not divisible by tp 32; tp 4, 8 or 16 would' -m moe-7b --tp 32
refuse 'rule experts-divide: 64 experts over ep 96: some ranks would have none; ep 16, 32 or 64 would' -m moe-7b --ep 96
refuse 'rule batch-divide: .*; 96 or 100 would do' -m moe-7b --dp 4 --global-batch 97
refuse 'rule schedule-fits: .*global batch 8 would do' -m moe-7b --pp 4 --vpp 2 --global-batch 6
refuse 'rule stages-cover: .*has 15 layers; the model has 16' -m moe-7b --pp 4 --split 4,3,4,4
refuse 'rule axes-order' -m moe-7b --order tp-dp-pp
refuse 'rule nodes-suffice: .*128 ranks; 256' -m moe-7b -c ref-64g -n 256
refuse "unknown model 'nonsense'" -m nonsense
refuse "unknown cluster 'nonsense'" -m moe-7b -c nonsense
refuse "takes none, selective or full" -m moe-7b --recompute some
refuse "number above 0 and to 1000000, or none" -m moe-7b --capacity-factor -1

# ---- a plan that does not fit is written, and said so ----
run moe-partition -m moe-7b -c h100 -n 1 --precision bf16
is "$status" 0 'what was asked for is written even if it does not fit'
like "$err" 'does not fit: rank 0 needs .* GB, a rank has 80 GB' 'and it says so'
like "$out" '^moe-plan 1' 'the plan is on standard output'

# ---- clusters ----
cat >"$T/cluster.json" <<'END'
{"device": "cuda", "nodes": 2, "ranks_per_node": 4, "memory_bytes": 1e9, "flops": {"bf16": 1e14}}
END
moe-partition -m moe-tiny -c "$T/cluster.json" -n 8 --tp 2 >"$T/c.plan"
ok $? 'a cluster from a file'
like "$(grep '^machine' "$T/c.plan")" 'device=cuda nodes=2 per_node=4 memory_bytes=1000000000 flops_bf16=100000000000000 flops_f32=0 ' 'its figures are in the plan'
like "$(grep '^rank 4 ' "$T/c.plan")" '^rank 4 node=1 tp=0' 'ranks fill nodes in order'
echo '{"nodes": 0}' >"$T/bad.json"
refuse 'bad.json:1:2: key .nodes.' -m moe-tiny -c "$T/bad.json"
echo '{"nodes": 1' >"$T/bad.json"
refuse 'bad.json:' -m moe-tiny -c "$T/bad.json"
number=0
while read -r key value; do
    printf '{\n "nodes": 2,\n "flops": {"bf16": 1e14},\n  "%s": %s}' "$key" "$value" >"$T/bad.json"
    refuse "bad.json:4:3: key .$key." -m moe-tiny -c "$T/bad.json"
    number=$((number + 1))
done <<'END'
memory_bytes 0
memory_bytes 1e30
memory_bytes 80
memory_bytes "80e9"
memory_Bps 0
memory_Bps -1
intra_Bps 0
inter_Bps 1e40
intra_s 0
inter_s 100
host_s 5
node_mtbf_s 0
ranks_per_node 0
ranks_per_node 1e9
efficiency 0.5
efficiency [[1e9]]
efficiency [[1e9,1.5]]
efficiency [[1e9,0]]
efficiency [[1e9,0.5],[1e9,0.6]]
efficiency [[1,0.1],[2,0.1],[3,0.1],[4,0.1],[5,0.1],[6,0.1],[7,0.1],[8,0.1],[9,0.1]]
memory_byte 80e9
END
is "$number" 21 'zero, absurd and unknown members of a cluster are refused'
printf '{"flops": {"bf16": 0}}' >"$T/bad.json"
refuse 'bad.json:1:12: key .bf16. is 0, outside' -m moe-tiny -c "$T/bad.json"
printf '{"_source": "mine", "nodes": 1, "efficiency": [[1e9, 0.25], [1e12, 0.75]], "memory_Bps": 2e12}' >"$T/good.json"
like "$(moe-partition -m moe-tiny -c "$T/good.json" | tee "$T/e.plan" | grep '^machine')" ' memory_Bps=2000000000000 host_s=0 node_mtbf_s=0 efficiency=1e\+09:0.25,1e\+12:0.75$' \
    'bandwidth and efficiency are in the plan'
sed '/^sum /d; s/ flops_fp8=.*0.75$//' "$T/e.plan" >"$T/old.plan"
moe-plan-check "$T/old.plan" | grep -v ' sealed' >"$T/out"
is "$(grep -c '^FAIL' "$T/out"), $(grep -c . "$T/out")" "0, $(($(moe-plan-check --rules | grep -c .) - 1))" 'and a plan from before they were is read'
for c in local ref-64g a100-80g h100 h200 gb200-nvl72 mi300x; do
    run moe-partition -q -m moe-tiny -c $c -n 8
    is "$status" 0 "cluster $c"
done
echo '{"device": "tpu"}' >"$T/bad.json"
refuse 'cpu.*or.*cuda' -m moe-tiny -c "$T/bad.json"

# ---- presets, and models that can only be planned ----
count=0
for m in mixtral-8x7b mixtral-8x22b qwen3-30b-a3b qwen3-235b-a22b qwen3-next-80b-a3b deepseek-v2-lite deepseek-v3 moonlight-16b-a3b \
    olmoe-7b gpt-oss-20b gpt-oss-120b glm-4.5-air moe-7b moe-tiny; do
    moe-partition -q -m $m -c h100 -n 64 --ep 8 -o "$T/$m.plan" && moe-plan-check "$T/$m.plan" >"$T/rules"
    grep '^FAIL' "$T/rules" | grep -v memory-fits >"$T/failing"
    [ -s "$T/rules" ] && [ ! -s "$T/failing" ] && count=$((count + 1)) || diag "$m: $(cat "$T/failing")"
done
is "$count" 14 'every preset is planned, and no rule but that of memory fails'
is "$(ls "$top/share/models" | grep -c json)" 14 'there are no others'
run moe-partition -m deepseek-v3 -n 64
like "$err" 'moe-train cannot run .*multi-head latent attention' 'what cannot be trained is planned and said'
for m in llama qwen3; do
    printf '{"model_type": "%s"}' "$m" >"$T/$m.json"
    moe-partition -q -m "$T/$m.json" -c h100 -n 8 --tp 4 --pp 2 | moe-plan-check - >"$T/rules"
    is "$(grep -c ok "$T/rules"), $(grep FAIL "$T/rules")" "$(($(grep -c . "$T/rules") - 1)), " "a dense model of $m is planned"
    run moe-partition -m "$T/$m.json" -n 8 --ep 2
    is "$status" 2 'but has no experts to spread'
    like "$err" 'rule experts-divide: a model without experts takes ep 1' 'which is said'
done
printf '{"model_type": "qwen3_vl_moe", "text_config": {"model_type": "qwen3_vl_moe_text", "num_experts": 8, "num_hidden_layers": 2},
 "quantization_config": {"quant_method": "fp8"}}' >"$T/vl.json"
run moe-partition -m "$T/vl.json"
is "$status" 0 'a config around a text_config is read'
like "$err" 'only the text part of this qwen3_vl_moe is planned, as a model of qwen3_moe' 'for its text part, as is said'
like "$err" 'quantised \(fp8\); what is planned is the model before that' 'and quantised weights are said'
run moe-plan-check -q - <<EOF
$out
EOF
is "$status" 0 'its plan is complete in itself'
printf '{"model_type": "bert"}' >"$T/bert.json"
run moe-partition -m "$T/bert.json"
is "$status" 2 'an unknown model_type is bad input'
like "$err" "bert.json:1:2: key 'model_type' is 'bert', not mixtral, .*qwen3_next, .* or qwen3" 'and the known ones are named'

# ---- -o appears whole or not at all ----
run moe-partition -m moe-tiny -o "$T/none/x.plan"
is "$status" 2 'a directory that is not there'
moe-partition -m moe-tiny -o "$T/keep.plan"
run moe-partition -m moe-tiny --tp 3 -o "$T/keep.plan"
moe-plan-check -q "$T/keep.plan" >/dev/null
ok $? 'a refused request leaves the old file alone'
is "$(ls "$T" | grep -c tmp)" 0 'no temporary file is left'
if need devfull test -w /dev/full; then
    moe-partition -m moe-tiny >/dev/full 2>"$T/err"
    is $? 3 'a full disk is found'
fi

# ---- emit json ----
if need jq command -v jq; then
    j() { jq -c "$1" "$T/a.json"; }
    moe-partition emit json "$T/a.plan" -o "$T/a.json"
    ok $? 'emit json'
    is "$(j .model.parameters)" 6577751040 'parameters'
    is "$(j '[.axes[]]')" '[4,1,16,4,16,1,2,4,"tp-cp-ep-dp-pp"]' 'axes'
    is "$(j '.ranks|length')" 128 'ranks'
    is "$(j '.ranks[69]')" '{"rank":69,"node":8,"tp":1,"cp":0,"dp":1,"etp":1,"ep":1,"edp":0,"pp":1}' 'coordinates of a rank'
    is "$(j '.groups.tp[3]')" '[12,13,14,15]' 'groups'
    is "$(j '[.groups[]|length]')" '[32,128,8,0,8,32,128,64,0,0]' 'how many of each kind'
    is "$(j '.stages|length')" 8 'stages'
    is "$(j '.experts.slots[15][63]')" 63 'experts'
    is "$(j '.schedules[1][0:3]')" '["F0.0","F1.0","F0.1"]' 'schedules'
    is "$(j .predict.flops_per_token)" 2013265920 'flops a token'
    near "$(j .predict.bubble)" 0.030303030303030304 1e-12 'bubble'
    is "$(j '.predict.step_s > 0, .predict.mfu < 1' | tr '\n' ' ')" 'true true ' 'seconds and utilisation'
    is "$(moe-partition -q -m moe-tiny | moe-partition emit json - | jq -c '[.predict.step_s,.predict.mfu]')" '[null,null]' 'what is not computed is null'
    is "$(j .model.config.num_local_experts)" 64 'the config is in it'
    moe-partition -m moe-tiny | moe-partition emit json - | jq -e '.world == 1' >/dev/null
    ok $? 'emit reads standard input'
fi
run moe-partition emit nonsense "$T/a.plan"
is "$status" 2 'an unknown form is bad usage'
run moe-partition emit json "$T/none"
is "$status" 2 'a plan that is not there is bad input'

done_testing
