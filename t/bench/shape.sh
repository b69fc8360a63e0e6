# SPDX-License-Identifier: MIT
# What the benches train, sourced by them: Mixtral family, 4 layers, hidden 512, 8 heads of 64, 16 experts of 1024, top-2,
# vocabulary 8192, sequences of 512 random tokens.
shape_flops=132120576 # a token: 6·(4·(4H² + 2·3HF) + VH) + 6·4·S·H

# shape_write DIR: DIR/config.json, and DIR/tokens.bin and .idx
shape_write() {
    cat >"$1/config.json" <<'JSON'
{"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4,
 "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 16, "num_experts_per_tok": 2, "vocab_size": 8192,
 "max_position_embeddings": 512, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "hidden_act": "silu", "initializer_range": 0.02,
 "router_aux_loss_coef": 0.01, "router_jitter_noise": 0.0, "sliding_window": null, "tie_word_embeddings": false, "attention_dropout": 0.0}
JSON
    perl -e 'my ($prefix, $n) = @ARGV; srand 1;
    open my $bin, ">:raw", "$prefix.bin" or die $!; print $bin pack "v*", map { int rand 8192 } 1 .. $n; close $bin or die $!;
    open my $idx, ">:raw", "$prefix.idx" or die $!; print $idx "MMIDIDX\0\0", pack("Q<CQ<Q<l<q<q<2", 1, 8, 1, 2, $n, 0, 0, 1); close $idx or die $!;
' "$1/tokens" 262145
}
