#!/bin/sh
# SPDX-License-Identifier: MIT
# How t/data/v1 was made: the files that version 1 of every format consists of, which t/0040-formats.t reads for ever.
# Run with the commands of moekit 0.1.0 and never again: what is kept must stay what was written then. Another run
# gives the same plans, weights and losses, but other times in the logs.
#
#   contrib/make-v1.sh BIN OUT      BIN: folder of those commands; OUT: a folder that is not there
#
# OUT gets
#   small.plan           4 ranks, tp 2, ep 2, pp 2, of the model below
#   one.plan, bf16.plan  one rank, of the same model
#   ep16-tp4-pp2.plan    the reference strategy
#   run.jsonl            log of small.plan: 6 steps, two evaluations, three saves; then a second start, whose
#                        rank 1 is stopped until rank 0 gives it up: a fault
#   run.json             what moe-stat made of it
#   bf16.jsonl           log of bf16.plan: 6 steps
#   checkpoints.tar      the tokens (tokens.bin, tokens.idx) and the steps that were saved after step 2:
#                        f32/step-00000002, bf16/step-00000002
set -eu
[ $# -eq 2 ] && [ ! -e "$2" ] || { echo "usage: $0 BIN OUT" >&2; exit 2; }
data=$(cd "$(dirname "$0")/../share" && pwd)
PATH=$(cd "$1" && pwd):$PATH
mkdir "$2"
out=$(cd "$2" && pwd)
MOEKIT_DATA=$data OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export PATH MOEKIT_DATA OMP_NUM_THREADS OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
cd "$T" # all paths in what is made are relative

cat >tiny.json <<'END'
{
  "model_type": "mixtral",
  "vocab_size": 31,
  "hidden_size": 8,
  "intermediate_size": 8,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,
  "num_key_value_heads": 2,
  "head_dim": 4,
  "num_local_experts": 4,
  "num_experts_per_tok": 2,
  "router_aux_loss_coef": 0.01,
  "router_z_loss_coef": 0.001,
  "max_position_embeddings": 64,
  "rope_theta": 10000.0,
  "rms_norm_eps": 1e-05,
  "hidden_act": "silu",
  "initializer_range": 0.1,
  "tie_word_embeddings": false,
  "torch_dtype": "float32"
}
END
cat >cluster.json <<'END'
{"name": "v1", "device": "cpu", "nodes": 1, "ranks_per_node": 4, "memory_bytes": 8e9, "flops": {"bf16": 2e9, "f32": 1e9}}
END
perl -e '
    my ($x, $a, $b, @t) = (2026, 1, 2);
    sub draw { $x = ($x * 1103515245 + 12345) % 2147483648; return int($x / 65536) % $_[0]; }
    for (1 .. 1500) {
        my $c = draw(4) ? (3 * $a + 5 * $b + 7) % 31 : draw(31);
        push @t, $c;
        ($a, $b) = ($b, $c);
    }
    open(my $bin, ">:raw", "tokens.bin") or die;
    print $bin pack("v*", @t);
    close($bin) or die;
    open(my $idx, ">:raw", "tokens.idx") or die;
    print $idx "MMIDIDX\0\0", pack("Q<CQ<Q<l<q<q<q<", 1, 8, 1, 2, scalar(@t), 0, 0, 1);
    close($idx) or die;'

batch='--seq 16 --global-batch 8'
moe-partition -m tiny.json -c cluster.json --tp 2 --ep 2 --pp 2 $batch -o small.plan
moe-partition -m tiny.json -c cluster.json $batch -o one.plan
moe-partition -m tiny.json -c cluster.json $batch --precision bf16 -o bf16.plan
moe-partition -m moe-7b -c ref-64g --strategy ep16-tp4-pp2 -o ep16-tp4-pp2.plan

# The reference backend: plain loops, the same everywhere but for rounding.
recipe='--backend ref -d tokens --lr 0.02 --min-lr 0.002 --warmup 2 --lr-schedule cosine --seed 7 --loads-every 2'
ranks() { mpirun --oversubscribe --bind-to none -n 4 sh -c 'echo $$ >pid.$OMPI_COMM_WORLD_RANK && exec moe-train -p small.plan "$@"' - $recipe "$@" </dev/null; }
ranks -s 6 --eval tokens --eval-every 3 --eval-steps 2 --save f32 --save-every 2 --log run.jsonl
moe-train -p bf16.plan $recipe -s 6 --save bf16 --save-every 2 --log bf16.jsonl
ranks -s 100 --resume f32 --timeout 2 --log run.jsonl &
until [ "$(grep -c '"kind":"start"' run.jsonl)" -eq 2 ]; do :; done
kill -STOP "$(cat pid.1)"
until [ "$(grep -c '"kind":"end"' run.jsonl)" -eq 2 ]; do sleep 0.1; done
kill -KILL "$(cat pid.1)" || :
wait
moe-stat --format json run.jsonl >run.json

tar --sort=name --owner=0 --group=0 --numeric-owner --mtime='2026-01-01 00:00Z' -b 1 -cf "$out/checkpoints.tar" \
    tokens.bin tokens.idx f32/step-00000002 bf16/step-00000002
cp small.plan one.plan bf16.plan ep16-tp4-pp2.plan run.jsonl run.json bf16.jsonl "$out"
