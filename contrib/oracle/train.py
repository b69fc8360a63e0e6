#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The training oracle: transformers' model, trained in f32 on the CPU as moe-train would train it.

  train.py [options] HFDIR DATA OUTDIR
  train.py --make-data PREFIX TOKENS VOCAB SEED

HFDIR is a model directory (Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, GLM-4-MoE). DATA is a Megatron prefix or a text
file, whose bytes are its tokens. Sample i is tokens [i*S, i*S+S], S inputs and S targets, in order, from the start
again after the last. A microbatch takes the next samples, a step the next microbatches.

OUTDIR gets:
  losses.jsonl         a line a step: step, loss, aux_loss, z_loss, grad_norm (before clipping), lr, dropped, counts
  logits.safetensors   "logits" [micro, S, V] f32: step 1, first microbatch, before the update
  grads.safetensors    step 1's gradients of loss + aux_loss + z_loss, before clipping, under the names on disk
  final/               the model after the last step

The losses are reference.md's: the language-model loss is a mean over the global batch's tokens. The auxiliary ones are
per layer and microbatch, summed over layers, averaged over microbatches:
  aux = coef * E / (K*T*T) * sum_e(sum_t p_te * count_e)      no gradient through count
  z   = coef * mean_t(logsumexp(logits_t)^2)
p is the softmax of the router's logits, or the sigmoid scores divided by their sum over the experts; the correction
bias takes part in the choice only. count_e is how many of the T tokens chose e, before any drop.
"""
import argparse
import json
import math
import os
import struct
import sys

import numpy as np

IDX_DTYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}


def make_data(prefix, tokens, vocab, seed):
    """An order-2 Markov chain over a skewed vocabulary, in documents of about a thousand tokens, u16."""
    if not 2 <= vocab <= 65536:
        sys.exit(f"train.py: vocabulary {vocab} does not fit in u16")
    rng = np.random.default_rng(seed)
    unigram = 1.0 / np.arange(1, vocab + 1)
    choices = rng.choice(vocab, size=(64, 4, 8), p=unigram / unigram.sum())
    which = rng.choice(8, size=tokens, p=[0.55, 0.2, 0.1, 0.05, 0.04, 0.03, 0.02, 0.01])
    noise = rng.random(tokens) < 0.05
    stray = rng.integers(0, vocab, size=tokens)
    out = np.empty(tokens, dtype="<u2")
    a = b = 0
    table, pick = choices.tolist(), which.tolist()
    for i, (is_noise, s) in enumerate(zip(noise.tolist(), stray.tolist())):
        t = s if is_noise else table[b % 64][a % 4][pick[i]]
        out[i] = t
        a, b = b, t
    lengths, left = [], tokens
    while left:
        n = min(left, int(rng.integers(500, 1500)))
        lengths.append(n)
        left -= n
    lengths = np.array(lengths, dtype="<i4")
    offsets = np.concatenate([[0], np.cumsum(lengths[:-1], dtype="<i8")]).astype("<i8") * 2
    documents = np.arange(len(lengths) + 1, dtype="<i8")
    out.tofile(prefix + ".bin")
    with open(prefix + ".idx", "wb") as f:
        f.write(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, len(lengths), len(documents)))
        f.write(lengths.tobytes() + offsets.tobytes() + documents.tobytes())


def read_tokens(path):
    prefix = path[:-4] if path.endswith((".bin", ".idx")) else path
    if not os.path.exists(prefix + ".idx"):
        return np.fromfile(path, dtype="u1").astype(np.int64)
    with open(prefix + ".idx", "rb") as f:
        magic, version, code = f.read(9), *struct.unpack("<QB", f.read(9))
    if magic != b"MMIDIDX\0\0" or version != 1 or code not in IDX_DTYPES:
        sys.exit(f"train.py: '{prefix}.idx' is not an index that this script reads")
    return np.fromfile(prefix + ".bin", dtype=IDX_DTYPES[code]).astype(np.int64)


def learning_rate(o, step):
    """Of step 1, 2, ...: linear to --lr at step `warmup`, then the schedule, at --min-lr at the last step."""
    if o.lr_from:
        return o.lr_from[step]
    if step <= o.warmup:
        return o.lr * step / o.warmup
    if o.lr_schedule == "cosine":
        done = (step - o.warmup) / max(1, o.steps - o.warmup)
        return o.min_lr + (o.lr - o.min_lr) * 0.5 * (1 + math.cos(math.pi * done))
    if o.lr_schedule == "wsd":
        decay = o.wsd_decay if o.wsd_decay is not None else math.ceil(o.steps / 10)
        left = o.steps - step
        return o.lr if left >= decay else o.min_lr + (o.lr - o.min_lr) * left / decay
    return o.lr


def lr_log(path):
    lrs = {}
    with open(path) as f:
        for line in f:
            r = json.loads(line)
            if r.get("kind", "step") == "step":
                lrs[r["step"]] = r["lr"]
    return lrs


class Routers:
    """What the routers of one forward pass saw, by forward hooks; and their losses."""

    def __init__(self, model):
        self.seen = []
        self.gates = [m for n, m in model.named_modules() if n.endswith(".gate") and hasattr(m, "top_k")]
        for gate in self.gates:
            gate.register_forward_hook(lambda module, _, output: self.seen.append((module, output[0], output[2])))

    def losses(self, aux_coef, z_coef):
        import torch
        aux = torch.zeros((), dtype=torch.float32)
        z = torch.zeros((), dtype=torch.float32)
        counts = []
        for module, logits, chosen in self.seen:
            logits = logits.float()
            tokens, experts = logits.shape
            if hasattr(module, "e_score_correction_bias"):
                p = logits.sigmoid()
                p = p / p.sum(-1, keepdim=True)
            else:
                p = logits.softmax(-1)
            count = torch.bincount(chosen.reshape(-1), minlength=experts)
            counts.append(count.tolist())
            aux = aux + aux_coef * experts / (chosen.shape[1] * tokens**2) * (p.sum(0) * count).sum()
            z = z + z_coef * logits.logsumexp(-1).square().mean()
        self.seen = []
        return aux, z, counts


class Capacity:
    """Megatron's rule, as an experts implementation: an expert keeps C = ceil(T*K/E*factor) of the tokens that chose
    it, by weight (ties: the lower token index) or by position in the sequence (ties: likewise). A dropped one adds
    nothing; the weights that are kept stay as they were."""

    def __init__(self, factor, order, seq):
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
        self.factor, self.order, self.seq, self.dropped = factor, order, seq, 0
        ALL_EXPERTS_FUNCTIONS.register("capacity", lambda *a, **k: self.forward(*a, **k))

    def forward(self, experts, hidden, chosen, weights):
        import torch
        tokens, k = chosen.shape
        capacity = math.ceil(tokens * k / experts.num_experts * self.factor)
        keep = torch.ones_like(weights)
        if capacity <= tokens:
            for e in range(experts.num_experts):
                token, slot = torch.where(chosen == e)  # by token index
                if self.order == "prob":
                    rank = torch.argsort(weights.detach()[token, slot], descending=True, stable=True)
                else:
                    rank = torch.argsort(token % self.seq, stable=True)
                over = rank[capacity:]
                keep[token[over], slot[over]] = 0
                self.dropped += len(over)
        return type(experts).forward.__wrapped__(experts, hidden, chosen, weights * keep)


def on_disk(model, tensors):
    """In-memory names and shapes to those that save_pretrained writes (experts apart)."""
    from transformers.core_model_loading import revert_weight_conversion
    return {n: t.detach().contiguous().clone() for n, t in revert_weight_conversion(model, dict(tensors)).items()}


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("dirs", nargs="*", metavar="HFDIR DATA OUTDIR")
    ap.add_argument("--make-data", nargs=4, metavar=("PREFIX", "TOKENS", "VOCAB", "SEED"))
    ap.add_argument("--seq", type=int, default=32)
    ap.add_argument("--micro-batch", type=int, default=1)
    ap.add_argument("--global-batch", type=int, default=4)
    ap.add_argument("--steps", type=int, default=1)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--min-lr", type=float, default=0.0)
    ap.add_argument("--warmup", type=int, default=0)
    ap.add_argument("--lr-schedule", choices=["constant", "cosine", "wsd"], default="constant")
    ap.add_argument("--wsd-decay", type=int, metavar="STEPS", help="steps of wsd's linear decay (a tenth of all)")
    ap.add_argument("--lr-from", type=lr_log, metavar="LOG", help="take each step's lr from a step log instead")
    ap.add_argument("--beta1", type=float, default=0.9)
    ap.add_argument("--beta2", type=float, default=0.95)
    ap.add_argument("--eps", type=float, default=1e-8)
    ap.add_argument("--weight-decay", type=float, default=0.1)
    ap.add_argument("--clip", type=float, default=1.0, help="0: none")
    ap.add_argument("--aux-loss", type=float, default=0.0)
    ap.add_argument("--z-loss", type=float, default=0.0)
    ap.add_argument("--capacity-factor", type=float)
    ap.add_argument("--drop", choices=["prob", "position"], default="prob")
    ap.add_argument("--attention", choices=["eager", "sdpa"], default="eager")
    ap.add_argument("--threads", type=int, default=2)
    o = ap.parse_args()
    if o.make_data:
        prefix, tokens, vocab, seed = o.make_data
        return make_data(prefix, int(tokens), int(vocab), int(seed))
    if len(o.dirs) != 3 or o.global_batch % o.micro_batch:
        ap.error("three paths, and a global batch that is a multiple of the micro batch")
    hfdir, data, out = o.dirs

    import torch
    import torch.nn.functional as F
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging
    torch.set_num_threads(o.threads)
    logging.disable_progress_bar()
    capacity = Capacity(o.capacity_factor, o.drop, o.seq) if o.capacity_factor else None
    model = AutoModelForCausalLM.from_pretrained(
        hfdir, dtype=torch.float32, attn_implementation=o.attention,
        experts_implementation="capacity" if capacity else "eager").eval()  # eval: no dropout, no jitter
    routers = Routers(model)
    tokens = read_tokens(data)
    samples = (len(tokens) - 1) // o.seq
    if samples < 1 or tokens.max() >= model.config.vocab_size:
        sys.exit(f"train.py: '{data}': shorter than a sample, or a token beyond the vocabulary")
    parameters = dict(model.named_parameters())  # tied ones once
    decayed = [p for p in parameters.values() if p.ndim >= 2]
    others = [p for p in parameters.values() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": o.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps, foreach=False)
    os.makedirs(out, exist_ok=True)
    micros = o.global_batch // o.micro_batch
    given = 0
    with open(os.path.join(out, "losses.jsonl"), "w") as log:
        for step in range(1, o.steps + 1):
            loss = aux_loss = z_loss = 0.0
            counts = None
            if capacity:
                capacity.dropped = 0
            optimizer.zero_grad(set_to_none=False)
            for micro in range(micros):
                starts = [(given + i) % samples * o.seq for i in range(o.micro_batch)]
                given += o.micro_batch
                batch = torch.from_numpy(np.stack([tokens[s:s + o.seq + 1] for s in starts]))
                logits = model(input_ids=batch[:, :-1], use_cache=False, output_router_logits=False).logits.float()
                if step == 1 and micro == 0:
                    save_file({"logits": logits.detach().contiguous()}, os.path.join(out, "logits.safetensors"))
                lm = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[:, 1:].reshape(-1),
                                     reduction="sum") / (o.global_batch * o.seq)
                aux, z, seen = routers.losses(o.aux_loss, o.z_loss)
                (lm + (aux + z) / micros).backward()
                loss += lm.item()
                aux_loss += aux.item() / micros
                z_loss += z.item() / micros
                counts = np.array(seen) if counts is None else counts + np.array(seen)
            gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in parameters.items()}
            if step == 1:
                save_file(on_disk(model, gradients), os.path.join(out, "grads.safetensors"))
            norm = math.sqrt(sum(g.double().square().sum().item() for g in gradients.values()))
            if o.clip > 0:
                factor = min(1.0, o.clip / (norm + 1e-6))
                for g in gradients.values():
                    g.mul_(factor)
            lr = learning_rate(o, step)
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            record = {"step": step, "loss": loss, "aux_loss": aux_loss, "z_loss": z_loss, "grad_norm": norm, "lr": lr,
                      "dropped": capacity.dropped if capacity else 0, "counts": counts.tolist()}
            print(json.dumps(record), file=log, flush=True)
    model.save_pretrained(os.path.join(out, "final"))


if __name__ == "__main__":
    main()
