#!/bin/sh
# SPDX-License-Identifier: MIT
# Checkpoints: any plan reads what any plan wrote, to the bit; a save that is killed or runs out of disk leaves nothing under a final
# name; verify sees every flipped bit. MOEKIT_LARGE=1: more pairs, more kills, every disk size.
. "$(dirname "$0")/lib/tap.sh"

trip=$bin/../t/ckpt-roundtrip
need_for_all mpi command -v mpirun
need_for_all helpers test -x "$trip"
unset OMPI_COMM_WORLD_SIZE PMIX_RANK PMI_RANK

# mp RANKS ARGUMENTS…: one rank runs without a launcher; with limited=BLOCKS none writes more into one file (mpirun itself may).
# The status that all ranks agree on, else 99. They write it down, since mpirun takes two seconds more to end a job that fails.
mp() {
    mp_n=$1
    shift
    [ "$mp_n" -gt 1 ] || { "$trip" "$@"; return; }
    rm -f "$T/statuses"
    mpirun --allow-run-as-root --oversubscribe -n "$mp_n" sh -c '[ -z "$limited" ] || { trap "" XFSZ; ulimit -f $limited; }
        "$0" "$@"
        status=$?
        echo $status >>"$T/statuses"
        [ $status -le 3 ] || exit $status' "$trip" "$@"
    [ "$(grep -cx '[0-3]' "$T/statuses")" -eq "$mp_n" ] && [ "$(sort -u "$T/statuses" | wc -l)" -eq 1 ] || return 99
    return "$(head -n 1 "$T/statuses")"
}
export T

sed 's/"vocab_size": [0-9]*/"vocab_size": 259/; s/"num_key_value_heads": [0-9]*/"num_key_value_heads": 2/;
    s/"tie_word_embeddings": false/"tie_word_embeddings": true/; s/"hidden_size": [0-9]*/"hidden_size": 64/;
    s/"intermediate_size": [0-9]*/"intermediate_size": 96/' "$top/share/models/moe-tiny.json" >"$T/tied.json"
cat >"$T/glm.json" <<'EOF'
{"model_type": "glm4_moe", "vocab_size": 301, "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 48,
 "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "n_routed_experts": 8,
 "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
 "norm_topk_prob": true, "routed_scaling_factor": 1.0, "use_qk_norm": true, "attention_bias": true,
 "max_position_embeddings": 512, "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-5,
 "hidden_act": "silu", "initializer_range": 0.02, "tie_word_embeddings": false, "torch_dtype": "bfloat16"}
EOF

# plan NAME RANKS MODEL LAYOUT…
make_plan() {
    name=$1 ranks=$2 model=$3
    shift 3
    moe-partition -q -m "$T/$model.json" -n "$ranks" "$@" -o "$T/$name.plan" 2>"$T/err" || { diag "$(cat "$T/err")"; return 1; }
}
make_plan t1 1 tied --precision bf16 &&
    make_plan t8 8 tied --precision bf16 --tp 4 --etp 2 --ep 2 --pp 2 --zero 1 && # two kv heads on four ranks, 259 rows on four
    make_plan t4 4 tied --precision f32 --pp 1 --ep 2 --zero 1 --bucket-bytes 40000 && # slices of many buckets
    make_plan t6 6 tied --precision bf16 --tp 2 --etp 1 --ep 2 --dp 3 --zero 0 &&
    make_plan t3 3 tied --precision f32 --pp 3 --split 1,2,1 &&
    make_plan g4 4 glm --precision bf16 --tp 2 --etp 2 --ep 1 --pp 1 --zero 1 &&
    make_plan g8 8 glm --precision bf16 --tp 4 --etp 1 --ep 8 --zero 1 &&
    make_plan g2 2 glm --precision f32 --pp 2
ok $? 'plans are made'

# ---- from every plan to every plan ----
# family NAME:RANKS…
family() {
    for a in "$@"; do
        run mp "${a#*:}" save "$T/${a%:*}.plan" "$T/${a%:*}" 7
        is "$status" 0 "$a saves"
        [ "$status" -eq 0 ] || diag "$err"
        run moe-ckpt verify "$T/${a%:*}/step-00000007"
        is "$status" 0 "what $a saved is whole"
    done
    for b in "$@"; do
        writers=
        for a in "$@"; do
            case ${MOEKIT_LARGE:-}$a-$b in
            t1:1-* | *-t1:1 | t4:4-t8:8 | t8:8-t3:3 | g* | 1*) writers="$writers $a" ;;
            esac
        done
        # shellcheck disable=SC2046
        run mp "${b#*:}" load "$T/${b%:*}.plan" $(for a in $writers; do echo "$T/${a%:*}/step-00000007"; done)
        is "$status $(printf '%s\n' "$out" | grep -c '^loaded ')" "0 $(echo "$writers" | wc -w)" "$b loads what was saved by:$writers"
        [ "$status" -eq 0 ] || diag "$err"
        is "$(bytes_read)" "$(for a in $writers; do bytes_of "$T/${a%:*}/step-00000007"; done | sum)" "$b: each byte is read once"
    done
}
sum() { awk '{ n += $1 } END { printf "%d\n", n }'; }
bytes_read() { printf '%s\n' "$out" | sed -n 's/^rank [0-9]* read \([0-9]*\) bytes$/\1/p' | sum; } # by all ranks, in the last run
bytes_of() { cat "$1"/*.safetensors "$1"/optimizer/*.safetensors "$1/model.safetensors.index.json" | wc -c; }
family t1:1 t8:8 t4:4 t6:6 t3:3
family g4:4 g8:8 g2:2
make_plan t16 16 tied --precision bf16 --tp 2 --ep 2 --dp 8 --zero 1 --bucket-bytes 100000
run mp 16 load "$T/t16.plan" "$T/t8/step-00000007"
is "$status $(bytes_read)" "0 $(bytes_of "$T/t8/step-00000007")" '16 ranks read each byte once' || diag "$err"
run moe-ckpt diff --optimizer "$T/t1/step-00000007" "$T/t8/step-00000007"
is "$status" 0 'one rank and eight write the same bits'
for f in dense.safetensors expert-005.safetensors optimizer/dense.safetensors config.json model.safetensors.index.json; do
    cmp -s "$T/t1/step-00000007/$f" "$T/t6/step-00000007/$f"
    ok $? "$f is the same file from six ranks"
done
is "$(sed -n 's/^| //p' "$T/t8.plan" | cksum)" "$(cksum <"$T/t8/step-00000007/config.json")" 'config.json is the source, verbatim'
is "$(find "$T/t8" -name '.*' | wc -l)" 0 'nothing is left beside it'

# ---- import ----
# Weights alone, as any Hugging Face directory, with an index, without, and without an expert.
for a in t4 t8 g8; do
    mkdir "$T/hf.$a"
    cp "$T/$a/step-00000007"/*.safetensors "$T/$a/step-00000007"/model.* "$T/hf.$a"
    cp -r "$T/hf.$a" "$T/bare.$a"
    rm "$T/bare.$a/model.safetensors.index.json"
    cp -r "$T/bare.$a" "$T/less.$a"
    rm "$T/less.$a/expert-003.safetensors"
done
for b in t1:1 t3:3 t6:6 g4:4 g2:2; do
    case $b in t*) from='f32:t4 bf16:t8' less=t4 ;; *) from='bf16:g8' less=g8 ;; esac
    # shellcheck disable=SC2046
    run mp "${b#*:}" import "$T/${b%:*}.plan" $(for a in $from; do echo "${a%:*}" "$T/hf.${a#*:}" "${a%:*}" "$T/bare.${a#*:}"; done)
    is "$status" 0 "$b imports weights of $from, with an index and without"
    [ "$status" -eq 0 ] || diag "$err"
    is "$(bytes_read)" "$(for a in $from; do cat "$T/hf.${a#*:}"/* "$T/bare.${a#*:}"/* | wc -c; done | sum)" "$b: each byte is read once"
    case $b in t3* | g4*) continue ;; esac
    run mp "${b#*:}" import "$T/${b%:*}.plan" f32 "$T/less.$less"
    is "$status" 2 'a missing expert is bad input'
    like "$err" "has no tensor '.*experts\.3\." 'and named'
done
rm -r "$T"/hf.* "$T"/bare.* "$T"/less.*
run "$trip" import "$T/t1.plan" bf16 "$T/g8/step-00000007"
is "$status" 2 'another model is bad input'
like "$err" "tensor 'model[^']*' (is not one of this model's|should have shape)" 'and the tensor is named'

# ---- the same step again, the newest, gradients, companions ----
mkdir "$T/side"
echo '{"tokens": 1}' >"$T/side/tokenizer.json"
echo junk >"$T/side/pytorch_model.bin"
COMPANIONS=$T/side mp 2 save "$T/g2.plan" "$T/again" 7 12 >/dev/null
ok $? 'with companions'
run mp 2 save "$T/g2.plan" "$T/again" 12
is "$status" 2 'a step that its own line has is not replaced'
like "$err" "step-00000012' is there already" 'but named'
RUN=0123456789abcdef run mp 2 save "$T/g2.plan" "$T/again" 12
is "$status" 0 "another run's has its name taken"
run moe-ckpt verify "$T/again/step-00000012" "$T/again/step-00000012.00000000.abandoned"
is "$status" 0 'and lies aside, whole' || diag "$err"
is "$(cat "$T/again/step-00000011/tokenizer.json")" '{"tokens": 1}' 'a tokenizer travels along'
test ! -e "$T/again/step-00000011/pytorch_model.bin"
ok $? 'other weights do not'
mkdir "$T/again/step-00000099" "$T/again/step-100" "$T/again/.step-00000200.tmp"
run "$trip" newest "$T/again"
is "$out" "$T/again/step-00000012 12" 'the newest whole step is found'
run "$trip" newest "$T/nowhere"
is "$status:$out:$err" '1::' 'a missing root has none, which is not an error'
mp 4 gradients "$T/t4.plan" "$T/grad4" && mp 3 gradients "$T/t3.plan" "$T/grad3"
ok $? 'gradients are written'
run moe-ckpt diff "$T/grad4" "$T/grad3"
is "$status" 0 'and are the same from both layouts'

# ---- list, diff ----
S=$T/t1/step-00000007
run moe-ckpt list "$S"
is "$status" 0 'list'
like "$out" 'optimizer/expert-007.safetensors' 'shows the files'
like "$out" '# step 7' 'and the step'
cp -r "$S" "$T/odd" && printf '{' >"$T/odd/manifest.json" && rm "$T/odd/optimizer"/* && echo x >"$T/odd/optimizer/x.safetensors"
run moe-ckpt list "$T/odd"
like "$status:$(printf '%s' "$err" | tr '\n' ' ')" '^0:moe-ckpt list: .*odd/manifest.json.*: left out here .*odd/optimizer/x.safetensors.*: left out here$' \
    'what cannot be read of what is extra is said' || diag "$err"
run moe-ckpt list --tensors "$S"
like "$out" '^BF16 +\[259,64\] +33152  model.embed_tokens.weight  dense.safetensors$' 'a line a tensor'
if need jq command -v jq; then
    is "$(moe-ckpt list --json "$S" | jq -c '[.step, .plan.ranks, (.files | length), (.files[0].tensors[0].shape)]')" '[7,1,18,[259,64]]' 'and as JSON'
    run moe-ckpt list --json "$T/again"
    is "$(printf '%s\n' "$out" | jq -c '[.steps[].step]'):$(printf '%s\n' "$err" | grep -c 'step-00000099.*left out')" '[7,8,9,10,11,12]:1' \
        'a root lists its steps, and says which it leaves out'
fi
for verb in verify pack 'diff --optimizer' 'extract --expert 0' 'export --dtype f32' 'shrink --drop-experts 0'; do
    out_dir=
    case $verb in diff* | export* | shrink*) out_dir=$T/none ;; esac
    # shellcheck disable=SC2086
    run moe-ckpt $verb "$T/again" $out_dir
    like "$status $err" "^[12] .*again' is a directory of steps: name one of them, like '.*/again/step-00000012'" "$verb of a root of steps is refused, and says of what"
done
run moe-ckpt diff "$S" "$T/t4/step-00000007"
is "$status" 1 'bf16 and f32 differ'
like "$out" '# 126 tensors, 126 differ, 126 beyond' 'everywhere'
run moe-ckpt diff --tolerance 0.004 "$S" "$T/t4/step-00000007"
is "$status" 0 'within the rounding of bf16'
run moe-ckpt diff --tolerance 0.001 "$S" "$T/t4/step-00000007"
is "$status" 1 'and beyond less'
run moe-ckpt diff "$S" "$T/g4/step-00000007"
is "$status" 1 'tensors of one side only'
like "$out" 'is only in A' 'are named'
cp -r "$S" "$T/nan"
size=$(wc -c <"$T/nan/dense.safetensors")
printf '\377\377' | dd of="$T/nan/dense.safetensors" bs=1 seek=$((size - 2)) conv=notrunc 2>/dev/null
run moe-ckpt diff --tolerance 1e9 "$S" "$T/nan"
is "$status" 1 'a NaN is beyond every tolerance'
run moe-ckpt diff --tolerance 1e9 "$T/nan" "$T/nan"
is "$status" 1 'on both sides too'
run moe-ckpt diff "$S" "$T/nowhere"
is "$status" 2 'a missing directory is bad input'
rm -r "$T/nan"

# ---- verify sees everything ----
# flip FILE OFFSET: one bit
flip() {
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    printf "\\$(printf %o $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
cp -r "$T/g4/step-00000007" "$T/v"
# A hundred kilobytes: with MOEKIT_LARGE every length is 100000 times verify, some minutes.
sed 's/"vocab_size": [0-9]*/"vocab_size": 32/; s/"hidden_size": [0-9]*/"hidden_size": 16/; s/"intermediate_size": [0-9]*/"intermediate_size": 8/;
    s/"num_hidden_layers": [0-9]*/"num_hidden_layers": 1/; s/"num_attention_heads": [0-9]*/"num_attention_heads": 4/;
    s/"head_dim": [0-9]*/"head_dim": 4/; s/"num_local_experts": [0-9]*/"num_local_experts": 4/' "$T/tied.json" >"$T/tiny.json"
make_plan tiny 1 tiny --precision bf16 && mp 1 save "$T/tiny.plan" "$T/tiny" 7 >/dev/null
flips=${MOEKIT_LARGE:+10000} lengths=${MOEKIT_LARGE:+100000}
said=$("$bin/../t/ckpt-damage" "$T/tiny/step-00000007" "${flips:-1000}" "${lengths:-10}" $$ 2>"$T/err")
ok $? "every flipped bit and every length of a file is found: $(printf '%s\n' "$said" | tail -1)" || diag "$said" "$(cat "$T/err")"
run moe-ckpt verify "$T/tiny/step-00000007"
is "$status" 0 'and flipped back it is whole'
flip "$T/v/expert-002.safetensors" $(($(wc -c <"$T/v/expert-002.safetensors") - 9))
run moe-ckpt verify "$T/v"
like "$err" "expert-002.safetensors: tensor 'model.layers.3.mlp.experts.2.down_proj.weight' is damaged" 'the damaged tensor is named'
flip "$T/v/expert-002.safetensors" $(($(wc -c <"$T/v/expert-002.safetensors") - 9))
# A step of the same run, one later: what is in it belongs to another checkpoint.
mp 4 save "$T/g4.plan" "$T/g4" 8 >/dev/null
# as_if NAME…: the manifest in this directory says that the files of these names are as they are here: one that is not there is not
# listed, one of the other step has that one's entry. Its own sum is made anew. So only what it says can be wrong with it.
as_if() {
    "${PYTHON:-python3}" - "$T/g4/step-00000008/manifest.json" "$@" <<'EOF'
import json, os, sys, zlib
m, other = json.load(open("manifest.json")), json.load(open(sys.argv[1]))["files"]
for name in sys.argv[2:]:
    m["files"].pop(name, None)
    if not os.path.exists(name):
        continue
    data = open(name, "rb").read()
    entry = dict(other.get(name, other["expert-001.safetensors"]), bytes=len(data), crc32="%08x" % zlib.crc32(data))
    m["files"][name] = entry if name.endswith("tensors") else {k: entry[k] for k in ("bytes", "crc32")}
del m["sum"]
text = json.dumps(m)[:-1]
open("manifest.json", "w").write(text + ',\n  "sum": "%08x"\n}\n' % zlib.crc32(text.encode()))
EOF
}
# later NAME…: these files are the other step's
later() { for name in "$@"; do cp "$T/g4/step-00000008/$name" "$name"; done; }
# damaged WHAT REGEX COMMAND…: not whole after COMMAND in the copy, which names it so; whole again from the original
damaged() {
    damaged_name=$1 damaged_like=$2
    shift 2
    (cd "$T/v" && eval "$*")
    run moe-ckpt verify "$T/v"
    is "$status" 1 "verify: $damaged_name"
    like "$err" "$damaged_like" "verify: $damaged_name: named"
    rm -r "$T/v"
    cp -r "$T/g4/step-00000007" "$T/v"
}
damaged 'a truncated file' 'optimizer/expert-001.safetensors: has [0-9]* bytes, not' truncate -s -1 optimizer/expert-001.safetensors
damaged 'a truncated file that the manifest has' 'expert-001.safetensors: .*outside|expert-001.safetensors: the tensors end' \
    'truncate -s -8 expert-001.safetensors; as_if expert-001.safetensors'
damaged 'an empty file' 'plan.moe: has 0 bytes' truncate -s 0 plan.moe
damaged 'a longer file' 'dense.safetensors: has' truncate -s +8 dense.safetensors
damaged 'a missing file' 'state.json' rm state.json
damaged 'a missing expert' "cannot open '.*expert-007.safetensors': No such file" rm expert-007.safetensors
is "$(printf '%s\n' "$err" | wc -l) $out" "1 $T/v: not whole: 1 problem" 'and named once'
damaged 'a missing expert that the manifest does not miss' "expert-007.safetensors'" 'rm expert-007.safetensors; as_if expert-007.safetensors'
damaged 'missing moments that the manifest does not miss' 'optimizer/expert-007.safetensors' \
    'rm optimizer/expert-007.safetensors; as_if optimizer/expert-007.safetensors'
damaged 'no manifest' 'manifest.json' rm manifest.json
damaged 'no config' "config.json': No such file" rm config.json
damaged 'no optimizer' "optimizer/dense.safetensors': No such file" rm -r optimizer
is "$(printf '%s\n' "$err" | sort | uniq -d | wc -l) $(printf '%s\n' "$err" | wc -l) $out" \
    "0 $(ls "$T/v/optimizer" | wc -l) $T/v: not whole: $(ls "$T/v/optimizer" | wc -l) problems" 'each of its files once'
damaged 'a file too many' 'more.txt: a file that the manifest does not list' touch more.txt
damaged 'a directory too many' 'more: a directory that does not belong' mkdir more
damaged 'an expert in the place of another' "expert-002.safetensors: has no tensor '.*experts.2" cp expert-001.safetensors expert-002.safetensors
damaged 'an expert twice' 'expert-008.safetensors: a file that the manifest does not list' cp expert-001.safetensors expert-008.safetensors
damaged 'an expert twice, both in the manifest' 'expert-008.safetensors: a file of tensors that .*index.json does not name' \
    'cp expert-001.safetensors expert-008.safetensors; as_if expert-008.safetensors'
damaged 'moments twice, both in the manifest' 'optimizer/expert-008.safetensors: a file of tensors' \
    'cp expert-001.safetensors optimizer/expert-008.safetensors; as_if optimizer/expert-008.safetensors'
damaged "another step's expert" 'expert-003.safetensors: is of step 8, and the checkpoint of step 7' later expert-003.safetensors
damaged "another step's expert, with that one's sums" 'expert-003.safetensors: is of step 8, and the checkpoint of step 7' \
    'later expert-003.safetensors; as_if expert-003.safetensors'
damaged "another step's moments, with that one's sums" 'optimizer/dense.safetensors: is of step 8' \
    'later optimizer/dense.safetensors; as_if optimizer/dense.safetensors'
damaged "another step's state, with that one's sums" 'manifest.json is of step 7, its state.json of step 8' 'later state.json; as_if state.json'
damaged 'a header' 'expert-004.safetensors: ' flip expert-004.safetensors 100
damaged 'padding' 'expert-004.safetensors: ' flip expert-004.safetensors 4090
damaged 'data' "dense.safetensors: tensor 'model.*' is damaged" flip dense.safetensors 30000
damaged 'a side file' 'config.json: is damaged' flip config.json 5
if need strace command -v strace; then
    strace -qq -o "$T/listings" -f -e trace=getdents64 moe-ckpt verify -q "$T/tiny/step-00000007" >/dev/null
    said=
    for n in $(seq "$(grep -c getdents64 "$T/listings")"); do
        run strace -qq -o "$T/listings" -f -e inject=getdents64:error=EIO:when="$n" moe-ckpt verify "$T/tiny/step-00000007"
        [ "$status:$(printf '%s\n' "$err" | grep -c "cannot read '.*': Input/output error")" = 1:1 ] || said="$said$n: $status: $err
"
    done
    [ "$n" -gt 4 ] || said="${said}only $n listings"
    none "$said" 'verify: a directory whose listing breaks off'
fi
run moe-ckpt verify "$T/nowhere"
is "$status" 2 'verify: what does not exist is bad input'
run moe-ckpt verify "$T/glm.json"
is "$status" 1 'verify: a file that is not a checkpoint is not whole'
run moe-ckpt verify "$T"
is "$status" 1 'verify: nor is just any directory'
mkdir "$T/hf"
cp "$T/v"/*.safetensors "$T/v"/model.* "$T/v/config.json" "$T/hf"
run moe-ckpt verify "$T/hf"
is "$status" 0 'verify: a Hugging Face directory'
truncate -s -2 "$T/hf/expert-000.safetensors"
run moe-ckpt verify "$T/hf"
is "$status" 1 'verify: whose file is cut'
cp "$T/v/expert-000.safetensors" "$T/hf"
sed 's/"vocab_size": 301/"vocab_size": 302/' "$T/glm.json" >"$T/hf/config.json"
run moe-ckpt verify "$T/hf"
is "$status" 1 'verify: whose shapes are not the config'"'"'s'
like "$err" "tensor 'model.embed_tokens.weight' should have shape \[302,64\], not \[301,64\]" 'both shapes are named'

# ---- killed ----
# whole_steps ROOT: true when every step that has its final name is whole
whole_steps() {
    for d in "$1"/step-*; do
        [ -e "$d" ] || continue
        moe-ckpt verify -q "$d" >/dev/null 2>>"$T/err" || { diag "$d: $(tail -1 "$T/err")"; return 1; }
    done
}
bad=0
for i in 1 2 3 4 5 6 ${MOEKIT_LARGE:+7 8 9 10 11 12 13 14 15 16 17 18 19 20}; do
    rm -rf "$T/kill" "$T/kill.log"
    BACKEND=cpu "$trip" save "$T/t1.plan" "$T/kill" 1 9999 >"$T/kill.log" 2>&1 &
    pid=$!
    while ! grep -qs "^step 1:" "$T/kill.log" && kill -0 $pid 2>/dev/null; do sleep 0.02; done
    seed=$(((seed * 1103515245 + 12345) % 2147483648))
    sleep "0.$(printf %03d $((seed / 65536 % 400)))"
    kill -9 $pid
    wait $pid 2>/dev/null
    whole_steps "$T/kill" || bad=$((bad + 1))
    test -d "$T/kill/step-00000001" || bad=$((bad + 1))
done
is "$bad" 0 'kill -9 at any moment leaves only whole steps under final names'
BACKEND=cpu RUN=0123456789abcdef "$trip" save "$T/t1.plan" "$T/kill" 1 >/dev/null
ok $? 'and the root can be saved into again'
rm -rf "$T/kill"

# ---- the disk is full ----
run mp 2 save "$T/g2.plan" "$T/full" 1
for limit in 20 100 400; do # in 512 bytes
    limited=$limit mp 2 save "$T/g2.plan" "$T/full" 2 >"$T/out" 2>"$T/err"
    is $? 3 "a file limit of $limit blocks: the environment failed"
    like "$(cat "$T/err")" "cannot write '.*step-00000002\.[0-9a-f]*\.tmp/" 'the file is named'
    is "$(ls -A "$T/full")" step-00000001 'only the older step is there'
done
run moe-ckpt verify "$T/full/step-00000001"
is "$status" 0 'and whole'

in_tmpfs() { unshare -rm sh -c 'mkdir -p "$0" && mount -t tmpfs -o size='"$1"' none "$0" && shift && "$@"' "$T/tmpfs" "$@"; }
if need tmpfs in_tmpfs 1m true; then
    cat >"$T/fill" <<'EOF'
for size in $SIZES; do
    mount -o "remount,size=$size" "$T/tmpfs" || exit 1
    "$trip" save "$T/g2b.plan" "$T/tmpfs" 2 >"$T/out" 2>"$T/err"
    status=$?
    left=$(ls -A "$T/tmpfs" | tr '\n' ' ')
    case $status in
    3) [ "$left" = 'step-00000001 ' ] || echo "$size: left $left" ;;
    0) moe-ckpt verify -q "$T/tmpfs/step-00000002" >/dev/null || echo "$size: not whole"; rm -r "$T/tmpfs/step-00000002"; echo "$size" >>"$T/fits" ;;
    *) echo "$size: status $status: $(cat "$T/err")" ;;
    esac
done
moe-ckpt verify -q "$T/tmpfs/step-00000001" >/dev/null || echo 'the older step is not whole'
EOF
    make_plan g2b 1 glm --precision bf16

    SIZES='6000k 8000k 9000k 9800k 10000k 10100k 10200k 10300k 10400k 16000k'
    [ -z "${MOEKIT_LARGE:-}" ] || SIZES="$(seq -f %gk -s ' ' 5600 40 10600) 16000k"
    export SIZES T trip
    out=$(BACKEND=cpu in_tmpfs 16m sh -c '"$trip" save "$T/g2b.plan" "$T/tmpfs" 1 >"$T/out" && . "$T/fill"' 2>&1)
    is "$out" '' 'a disk full at any point: status 3, only the older step left, and whole'
    like "$(cat "$T/fits" 2>/dev/null)" 16000k 'with room enough it is saved'
fi

# ---- usage ----
for verb in list verify diff; do
    run moe-ckpt $verb
    is "$status" 2 "$verb: without operands"
done
run moe-ckpt
is "$status" 2 'a verb is needed'
run moe-ckpt frobnicate
is "$status" 2 'and must be one'
run moe-ckpt list "$T"
is "$status" 2 'list: a directory without tensors is bad input'

done_testing
