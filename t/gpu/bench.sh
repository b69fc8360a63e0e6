# SPDX-License-Identifier: MIT
# Part of t/gpu/run: speed, as ratios of one run. Bash; after t/lib/layouts.sh.

shapes() {
    if [ -n "$small" ]; then
        cat <<'END'
copy copy 65536
dense product 64 64 64
dense-f32 product-f32 32 32 32
grouped grouped 8 64 32 32 1
grouped-skewed grouped 8 64 32 32 2
attention-64 attention 1 32 2 1 64
attention-f32 attention-f32 1 16 1 1 64
norm norm 32 64
swiglu swiglu 32 64
add add 32 64
rope rope 64 32 2 16
permute permute 64 64 2
router router 64 8 2
loss loss 32 64
adamw adamw 1024
END
    else
        cat <<'END'
copy copy 1073741824
dense product 8192 8192 8192
dense-model product 16384 3072 1024
dense-f32 product-f32 4096 4096 4096
grouped-up grouped 64 32768 4096 1024 1
grouped-down grouped 64 32768 1024 2048 1
grouped-skewed grouped 64 32768 4096 1024 2
grouped-wide grouped 16 32768 4096 7168 1
attention-64 attention 8 2048 16 16 64
attention-64-long attention 4 4096 16 16 64
attention-128-gqa attention 2 4096 32 8 128
attention-256 attention 1 4096 16 2 256
attention-f32 attention-f32 1 2048 16 16 64
norm norm 131072 1024
norm-wide norm 32768 7168
swiglu swiglu 65536 2048
add add 131072 1024
rope rope 131072 2048 16 64
permute permute 65536 2048 2
router router 65536 64 2
loss loss 8192 32768
adamw adamw 268435456
END
    fi
}

# From ours and theirs (NAME, seconds, FLOPs, bytes; NAME, seconds) and the copy's and the dense product's rates: VERDICT, NAME, FIGURES. Speed of
# what moves memory is a share of the copy's, which should be 0.85; of products and attention, a share of the dense product's.
ratios() {
    awk -F'\t' '
        FILENAME == ARGV[1] { theirs[$1] = $2; next }
        $1 == "copy" { copy = $4 / $2 }
        $1 == "dense" { dense = $3 / $2 }
        { name[++n] = $1; s[n] = $2; flops[n] = $3; bytes[n] = $4 }
        END {
            for (i = 1; i <= n; i++) {
                verdict = "ok"
                if (flops[i] > 0) {
                    text = sprintf("%.4g TFLOP/s", flops[i] / s[i] / 1e12)
                    if (dense && name[i] !~ /f32/) text = text sprintf(", %.2f of the dense bf16 rate", flops[i] / s[i] / dense)
                } else {
                    share = copy ? bytes[i] / s[i] / copy : 0
                    text = sprintf("%.4g GB/s, %.2f of the copy", bytes[i] / s[i] / 1e9, share)
                    if (share < 0.85 && name[i] !~ /^router/) verdict = "short"
                }
                if (name[i] in theirs) text = text sprintf(", %.2f times as fast as PyTorch (%.4g ms to %.4g)", theirs[name[i]] / s[i], 1e3 * s[i], 1e3 * theirs[name[i]])
                else text = text sprintf(" (%.4g ms)", 1e3 * s[i])
                print verdict "\t" name[i] "\t" text
            }
        }' "$T/theirs" "$T/ours"
}

part_bench() {
    shapes >"$T/shapes"
    : >"$T/theirs"
    within "${limit[bench]}" "$MOEKIT_T/gpu/bench" -b "$backend" ${small:+-t 0} <"$T/shapes" >"$T/ours" 2>"$T/ours.err"
    status=$?
    [ $status -eq 0 ] || broken bench 'every operation is timed' $status "$T/ours.err"
    if [ -n "$torch" ]; then
        within "${limit[bench]}" "$python" "$top/t/gpu/peers.py" kernels ${small:+--round 0} <"$T/shapes" >"$T/theirs" 2>"$T/theirs.err"
        status=$?
        [ $status -eq 0 ] || broken bench "PyTorch's side" $status "$T/theirs.err"
        [ ! -s "$T/theirs.err" ] || grep '^peers.py' "$T/theirs.err" | sed 's/^/# /'
    else
        result skipped bench 'beside PyTorch' "'$python' has none"
    fi
    ratios >"$T/ratios"
    while IFS=$'\t' read -r verdict name text; do
        [ -z "$small" ] || verdict=ok
        result "$verdict" bench "$name" "$text"
    done <"$T/ratios"
}

# The waits of the engine, counted at the table of the backend: how a step is queued does not depend on which one it is.
part_waits() { tap waits '' "$MOEKIT_T/waits"; }

# The reference model (64 experts, hidden 1024) with as many of its 16 layers as fit, beside PyTorch's step of the same.
part_model() {
    if [ -n "$small" ]; then
        model='hidden_size=32 num_attention_heads=2 num_key_value_heads=2 head_dim=16 intermediate_size=32 num_local_experts=4 vocab_size=128'
        sizes='--hidden 32 --heads 2 --ffn 32 --experts 4 --vocabulary 128 --seq 16 --sequences 2 --steps 1 --warmup 1 --compiler eager'
        layers=2 vocabulary=128 seq=16 sequences=2 steps=2 warmup=1
    else
        model='hidden_size=1024 num_attention_heads=16 num_key_value_heads=16 head_dim=64 intermediate_size=2048 num_local_experts=64 vocab_size=32768
            max_position_embeddings=2048 initializer_range=0.02'
        sizes='' layers=16 vocabulary=32768 seq=2048 sequences=8 steps=11 warmup=3
    fi
    if [ -z "$torch" ]; then free=$(smi memory.free) free=$((${free:-0} * 1048576)); else free=$("$python" "$top/t/gpu/peers.py" memory); fi
    write_tokens tokens $vocabulary $((seq * sequences * steps + 1))
    while :; do # PyTorch keeps gradients twice, and more of its activations
        # shellcheck disable=SC2086
        write_model reference mixtral $model num_hidden_layers=$layers router_aux_loss_coef=0.01
        make_plan reference reference -n 1 --seq $seq --global-batch $sequences --micro-batch $sequences --precision bf16 --recompute none ||
            { result FAIL model 'a plan' "$(tail -n 1 "$T/reference.err")"; return; }
        bytes=$(sed -n 's/^predict .*memory_bytes=\([0-9]*\).*/\1/p' "$T/reference.plan")
        [ "$layers" -gt 1 ] && [ $((bytes / 10 * 13)) -gt "$free" ] || break
        layers=$((layers - 1))
    done
    within "${limit[model]}" moe-train -p "$T/reference.plan" -d "$T/tokens" -s $steps --lr 3e-4 --beta2 0.95 --weight-decay 0.1 --clip 1 --backend "$backend" \
        --log "$T/reference.log" >/dev/null 2>"$T/reference.err"
    status=$?
    if [ $status -ne 0 ]; then broken model "$layers layers" $status "$T/reference.err"; return; fi
    ours=$(moe-stat --format json --skip $warmup "$T/reference.log" | sed -n 's/.*"tokens_per_s_p50": *\([0-9.e+]*\).*/\1/p' | head -n 1)
    result "$([ -n "$ours" ]; verdict $?)" model "$layers of 16 layers, $sequences sequences of $seq, bf16" \
        "${ours%.*} tokens/s; the plan counts $bytes bytes of the device"
    : >"$T/peer"
    if [ -z "$torch" ]; then result skipped model "PyTorch's step" "'$python' has none"; return; fi
    # shellcheck disable=SC2086
    within "${limit[model]}" "$python" "$top/t/gpu/peers.py" train --layers $layers $sizes >"$T/peer" 2>"$T/peer.err"
    status=$?
    sed -n 's/^peers.py: /# PyTorch: /p' "$T/peer.err"
    [ -s "$T/peer" ] || { broken model "PyTorch's step" $status "$T/peer.err"; return; }
    [ $status -eq 0 ] || diag "PyTorch: $(why $status "$T/peer.err")"
    while IFS=$'\t' read -r way theirs ms peak; do
        result ok model "PyTorch's step, $way" "$theirs tokens/s ($ms ms, $peak bytes at most): ours is $(awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "%.2f", a / b }') times as fast"
    done <"$T/peer"
}
