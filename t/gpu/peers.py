#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""PyTorch's side of t/gpu/run: the same shapes, the same machine, the same minute.

  peers.py kernels <SHAPES        NAME, seconds with a tab between, for what PyTorch has (t/gpu/bench.c's lines)
  peers.py train --layers N ...   WAY, tokens a second, milliseconds a step, bytes: the reference model's step, in each
                                  way of writing it that works here
  peers.py memory                 bytes of the device that are free

Times are the device's own (events). Without a GPU all of it runs on the processor, where times mean nothing.
"""
import argparse
import math
import statistics
import sys
import time

import torch
import torch.nn.functional as F

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDS = 5


def elapsed(run, times):
    """Seconds of a run, over so many in a row."""
    if DEVICE == "cpu":
        start = time.perf_counter()
        for _ in range(times):
            run()
        return (time.perf_counter() - start) / times
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(times):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / times


def measure(name, run, round_s):
    try:
        elapsed(run, 1)
        times = int(min(200, max(1, round_s / max(elapsed(run, 1), 1e-7))))
        print(f"{name}\t{min(elapsed(run, times) for _ in range(ROUNDS)):.4g}", flush=True)
    except Exception as e:  # what this torch does not have
        print(f"peers.py: {name}: {str(e).splitlines()[0]}", file=sys.stderr)


# ---- kernels: what t/gpu/bench.c calls a kind ----

def normal(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, device=DEVICE, dtype=dtype).mul_(0.5)


def copy(name, m, size):
    a, b = normal(size // 4, dtype=torch.float32), normal(size // 4, dtype=torch.float32)
    m(name, lambda: a.copy_(b))


def product(name, m, rows, n, k, dtype=torch.bfloat16):
    a, b = normal(rows, k, dtype=dtype), normal(n, k, dtype=dtype)
    c = torch.empty(rows, n, device=DEVICE, dtype=dtype)
    m(name, lambda: torch.mm(a, b.t(), out=c))


def product_f32(name, m, *sizes):
    torch.backends.cuda.matmul.allow_tf32 = False
    product(name, m, *sizes, dtype=torch.float32)


def grouped(name, m, experts, rows, n, k, power):
    ends = torch.tensor([round(rows * ((e + 1) / experts) ** power) for e in range(experts)], dtype=torch.int32,
                        device=DEVICE)
    x, y, w = normal(rows, k), normal(rows, n), normal(experts, n, k)
    m(name + " forward", lambda: torch._grouped_mm(x, w.transpose(1, 2), offs=ends))
    m(name + " input", lambda: torch._grouped_mm(y, w, offs=ends))
    m(name + " weight", lambda: torch._grouped_mm(y.t(), x, offs=ends))


def attention(name, m, sequences, seq, heads, kv, dim, dtype=torch.bfloat16):
    q = normal(sequences, heads, seq, dim, dtype=dtype).requires_grad_()
    k, v = (normal(sequences, kv, seq, dim, dtype=dtype).requires_grad_() for _ in range(2))

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=kv != heads)

    def only_forward():
        with torch.no_grad():
            forward()

    m(name + " forward", only_forward)
    o = forward()
    do = torch.randn_like(o)
    m(name + " backward", lambda: torch.autograd.grad(o, (q, k, v), do, retain_graph=True))


def attention_f32(name, m, *sizes):
    attention(name, m, *sizes, dtype=torch.float32)


def norm(name, m, rows, width):
    x, w = normal(rows, width).requires_grad_(), normal(width).requires_grad_()
    m(name + " forward", lambda: F.rms_norm(x.detach(), (width,), w.detach(), 1e-5))
    y = F.rms_norm(x, (width,), w, 1e-5)
    dy = torch.randn_like(y)
    m(name + " backward", lambda: torch.autograd.grad(y, (x, w), dy, retain_graph=True))


def swiglu(name, m, rows, width):
    h = normal(rows, 2 * width)
    m(name + " forward", lambda: F.silu(h[:, :width]) * h[:, width:])


def add(name, m, rows, width):
    a, b, c = normal(rows, width), normal(rows, width), normal(rows, width)
    m(name, lambda: torch.add(a, b, out=c))
    f = normal(rows, width, dtype=torch.float32)
    m(name + " convert", lambda: c.copy_(f))


def permute(name, m, tokens, width, top_k):
    rows = tokens * top_k
    at = (torch.arange(rows, device=DEVICE) * 1000003 % rows) // top_k
    x = normal(tokens, width)
    m(name + " out", lambda: x[at])


def loss(name, m, rows, vocabulary):
    logits = normal(rows, vocabulary, dtype=torch.float32).requires_grad_()
    target = torch.zeros(rows, dtype=torch.int64, device=DEVICE)
    m(name + " stats", lambda: F.cross_entropy(logits.detach(), target))
    y = F.cross_entropy(logits, target)
    m(name + " gradient", lambda: torch.autograd.grad(y, logits, retain_graph=True))


def adamw(name, m, count):
    p = normal(count, dtype=torch.float32)
    p.grad = normal(count, dtype=torch.float32)
    optimizer = torch.optim.AdamW([p], lr=1e-3, fused=True)
    m(name, optimizer.step)
    m(name + " norm", lambda: torch.linalg.vector_norm(p.grad))


KINDS = {"copy": copy, "product": product, "product-f32": product_f32, "grouped": grouped, "attention": attention,
         "attention-f32": attention_f32, "norm": norm, "swiglu": swiglu, "add": add, "permute": permute,
         "loss": loss, "adamw": adamw}


def kernels(o):
    for line in sys.stdin:
        words = line.split()
        if not words or words[0] == "#" or words[1] not in KINDS:
            continue
        try:
            KINDS[words[1]](words[0], lambda name, run: measure(name, run, o.round), *map(int, words[2:]))
        except Exception as e:
            print(f"peers.py: {words[0]}: {str(e).splitlines()[0]}", file=sys.stderr)
        if DEVICE == "cuda":
            torch.cuda.empty_cache()


# ---- the reference model ----

class Model:
    """Mixtral's step: bf16 weights, fp32 masters, fused AdamW, every expert's rows by torch._grouped_mm, attention by
    scaled_dot_product_attention. Nothing of it waits for the device but the loss at the end of a step."""

    def __init__(self, o, compiled):
        torch.manual_seed(1)
        self.o, H, FF, E, L, V = o, o.hidden, o.ffn, o.experts, o.layers, o.vocabulary
        shapes = {"embed": (V, H), "head": (V, H), "norm": (H,)}
        for i in range(L):
            shapes |= {f"{i}.qkv": (3 * H, H), f"{i}.o": (H, H), f"{i}.gate": (E, H), f"{i}.w13": (E, 2 * FF, H),
                       f"{i}.w2": (E, H, FF), f"{i}.norm1": (H,), f"{i}.norm2": (H,)}
        self.w = {n: torch.ones(s, device=DEVICE, dtype=torch.bfloat16) if "norm" in n else
                  torch.randn(s, device=DEVICE, dtype=torch.bfloat16).mul_(0.02) for n, s in shapes.items()}
        self.master = {n: t.float() for n, t in self.w.items()}
        for n, t in self.w.items():
            t.requires_grad_()
            self.master[n].grad = torch.zeros_like(self.master[n])
        self.optimizer = torch.optim.AdamW(list(self.master.values()), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1,
                                           fused=True)
        D = H // o.heads
        angle = torch.arange(o.seq, device=DEVICE)[:, None] / 10000.0 ** (torch.arange(0, D, 2, device=DEVICE) / D)
        angle = torch.cat((angle, angle), -1)
        self.cos, self.sin = angle.cos().bfloat16(), angle.sin().bfloat16()
        self.layer = torch.compile(self.one_layer, backend=o.compiler) if compiled else self.one_layer

    def rotate(self, x):  # [B, heads, S, D]
        a, b = x.chunk(2, -1)
        return x * self.cos + torch.cat((-b, a), -1) * self.sin

    def one_layer(self, x, norm1, qkv, out, norm2, gate, w13, w2):
        o = self.o
        T, H = x.shape
        h = F.linear(F.rms_norm(x, (H,), norm1, 1e-5), qkv).view(-1, o.seq, 3, o.heads, H // o.heads)
        q, k, v = h.permute(2, 0, 3, 1, 4).unbind(0)
        a = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=True)
        x = x + F.linear(a.transpose(1, 2).reshape(T, H), out)
        h = F.rms_norm(x, (H,), norm2, 1e-5)
        scores = F.linear(h.float(), gate.float()).softmax(-1)
        weight, expert = scores.topk(o.top_k)
        weight = weight / weight.sum(-1, keepdim=True)
        chosen, order = expert.view(-1).sort(stable=True)
        ends = torch.searchsorted(chosen, torch.arange(o.experts, device=x.device), right=True).int()
        share = torch.diff(ends, prepend=ends.new_zeros(1)).float() / (T * o.top_k)
        aux = o.experts * (share * scores.mean(0)).sum()
        rows = h[order // o.top_k]
        gated, up = torch._grouped_mm(rows, w13.transpose(1, 2), offs=ends).chunk(2, -1)
        y = torch._grouped_mm(F.silu(gated) * up, w2.transpose(1, 2), offs=ends)
        y = y * weight.view(-1)[order, None].to(y.dtype)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(T * o.top_k, device=x.device))
        return x + y[back].view(T, o.top_k, H).sum(1), aux

    def loss(self, tokens, target):
        w = self.w
        x = F.embedding(tokens.view(-1), w["embed"])
        aux = 0.0
        for i in range(self.o.layers):
            x, a = self.layer(x, *(w[f"{i}.{n}"] for n in ("norm1", "qkv", "o", "norm2", "gate", "w13", "w2")))
            aux = aux + a
        x = F.rms_norm(x, (self.o.hidden,), w["norm"], 1e-5)
        return F.cross_entropy(F.linear(x, w["head"]).float(), target.view(-1)) + 1e-2 * aux

    def step(self, tokens, target):
        loss = self.loss(tokens, target)
        loss.backward()
        with torch.no_grad():
            torch._foreach_copy_([m.grad for m in self.master.values()], [t.grad for t in self.w.values()])
            for t in self.w.values():
                t.grad = None
            torch.nn.utils.clip_grad_norm_(list(self.master.values()), 1.0, foreach=True)
            self.optimizer.step()
            torch._foreach_copy_(list(self.w.values()), list(self.master.values()))
        return loss.item()


def train_one(o, compiled):
    model, seconds, first = Model(o, compiled), [], None
    g = torch.Generator().manual_seed(2)
    for _ in range(o.warmup + o.steps):
        stream = torch.randint(0, o.vocabulary, (o.sequences, o.seq + 1), generator=g).to(DEVICE)
        start = time.perf_counter()
        loss = model.step(stream[:, :-1].contiguous(), stream[:, 1:].contiguous())  # which waits
        seconds.append(time.perf_counter() - start)
        first = loss if first is None else first
    if not abs(first - math.log(o.vocabulary)) < 1:
        raise RuntimeError(f"the first loss is {first}, not that of a model that knows nothing")
    took = statistics.median(seconds[o.warmup:])
    peak = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else 0
    return o.sequences * o.seq / took, took * 1e3, peak


def train(o):
    for way in o.ways.split(","):
        try:
            print("%s\t%.1f\t%.2f\t%d" % (way, *train_one(o, way == "compiled")), flush=True)
        except Exception as e:
            print(f"peers.py: {way}: {str(e).splitlines()[0]}", file=sys.stderr)
        if DEVICE == "cuda":
            torch.cuda.empty_cache()


def memory(o):
    print(torch.cuda.mem_get_info()[0] if DEVICE == "cuda" else 1 << 30)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", choices=("kernels", "train", "memory"))
    ap.add_argument("--round", type=float, default=0.02, help="seconds of a round of kernels")
    ap.add_argument("--ways", default="eager,compiled")
    ap.add_argument("--compiler", default="inductor", help="of torch.compile; eager makes no code")
    for name, value in (("layers", 4), ("hidden", 1024), ("ffn", 2048), ("experts", 64), ("top-k", 2), ("heads", 16),
                        ("vocabulary", 32768), ("seq", 2048), ("sequences", 8), ("steps", 8), ("warmup", 3)):
        ap.add_argument("--" + name, type=int, default=value)
    o = ap.parse_args()
    {"kernels": kernels, "train": train, "memory": memory}[o.what](o)


main()
