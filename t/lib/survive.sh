# SPDX-License-Identifier: MIT
# For tests of share/slurm/survive.sbatch: source it behind slurm.sh. The reference job, ep16-tp4-pp2, scaled down to sixteen ranks.
need_for_all jq command -v jq
cat "$top/README" "$top"/share/man/*.1 >text.txt
cat >config.json <<'END'
{"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "vocab_size": 256, "hidden_size": 32, "intermediate_size": 32,
 "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 64,
 "num_experts_per_tok": 2, "router_aux_loss_coef": 0.01, "max_position_embeddings": 1024, "rope_theta": 10000.0, "sliding_window": null,
 "rms_norm_eps": 1e-05, "hidden_act": "silu", "initializer_range": 0.02, "attention_dropout": 0.0, "tie_word_embeddings": false,
 "bos_token_id": null, "eos_token_id": null, "torch_dtype": "float32"}
END
echo '{"name": "test", "device": "cpu", "nodes": 4, "ranks_per_node": 4, "memory_bytes": 4e9}' >nodes.json
# make_plan NAME RANKS LAYOUT…
make_plan() {
    name=$1 ranks=$2
    shift 2
    moe-partition -q -m config.json -n "$ranks" -c nodes.json --seq 16 "$@" -o "$name" && moe-plan-check "$name" >"$name.checked"
    ok $? "a plan $name of $*" || diag "$(cat "$name.checked")"
}

# A rank in one of the places (NODE.NUMBER) that $T/sick has files of is slow: it stands still for four fifths of the time.
mkdir sick bin
cat >bin/moe-train <<END
#!/bin/sh
[ ! -e "$T/sick/\${SLURMD_NODENAME:-}.\${CUDA_VISIBLE_DEVICES:-}" ] || exec perl -MPOSIX=WNOHANG -e '
    \$p = fork // die; exec @ARGV unless \$p;
    while (waitpid(\$p, WNOHANG) == 0) { kill STOP => \$p; select undef, undef, undef, 0.008; kill CONT => \$p; select undef, undef, undef, 0.002 }
    exit(\$? & 127 ? 128 + (\$? & 127) : \$? >> 8)' "$bin/moe-train" "\$@"
exec "$bin/moe-train" "\$@"
END
chmod +x bin/moe-train
PATH=$T/bin:$PATH

survive() { submit --ntasks-per-node=4 "$@"; }
epoch() { date +%s.%N; }
# first_step ROOT STARTS: the log has a step behind that many starts
first_step() { [ "$(awk '/"kind":"start"/ { n++; s = 0 } /"kind":"step"/ { s = 1 } END { print (n + 0 >= '"$2"' && s) }' "$1/log" 2>/dev/null)" = 1 ]; }
starts() { grep -c '"kind":"start"' "$1/log" 2>/dev/null; }
# none_lost LOG: starts that did not go on from the last checkpoint before them
none_lost() { jq -r 'select(.kind == "save" or .kind == "start") | "\(.kind) \(.step)"' "$1" | awk '$1 == "save" { last = $2 } $1 == "start" && $2 + 0 < last + 0'; }
# parts AT SAID ROOT: where the time from a fault at AT to now, a step after it, has gone, by what the script has said behind SAID lines
parts() {
    grep '^survive:' "$job.out" | sed -n "$(($2 + 1)),\$p" | while read -r _ day clock words; do echo "$(date -d "$day $clock" +%s) $words"; done |
        awk -v at="$1" -v now="$(epoch)" -v load="$(jq -r 'select(.kind == "start") | .load_s' "$3/log" | tail -n 1)" '
            BEGIN { last = at; part = "detected" }
            { spent[part] += $1 - last; last = $1 }
            /ended/ { ends++ } /health/ { part = "health" } /planning/ { part = "replanned" } /training/ { part = "started" }
            END {
                spent[part] += now - last
                printf "%.0f s: detected %.0f s, health %.0f s, replanned %.0f s, started %.0f s, of which loading %.2f s", now - at, spent["detected"], \
                    spent["health"], spent["replanned"], spent["started"], load
                if (ends > 1) printf " (at the %d. try)", ends
            }'
}
