#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""PyTorch's training step on CPU cores, as fast as it can be written here: the peer of t/bench/train.

A decoder of 4 layers, hidden 512, 8 heads of 64, 16 SwiGLU experts of 1024, top-2 of a renormalised softmax, dropless,
vocabulary 8192, untied; 4 sequences of 512 tokens in one microbatch; auxiliary loss 1e-2, AdamW on everything, global
norm clipped to 1. A JSON line a mode:

  ceiling   GFLOP/s of torch's own 2048-cube product, f32 and bf16
  f32       everything f32
  bf16      bf16 products, fp32 master weights, fp32 gradients: the best of the ways of doing it
            (autocast; bf16 copies of the weights, whose gradients are added to fp32 buffers)

The experts run as torch._grouped_mm, or as a loop over them in one autograd function (forward and backward by hand,
weight gradients written straight into the gradient buffers; `compiled`: with torch.compile for what lies between);
attention is scaled_dot_product_attention; the head and its cross entropy are one function, a chunk of rows at a time.
Each way is timed, the fastest is `best`; tokens_per_s is the median over its steps, tokens_per_s_max the fastest step,
cpu_s the median of the processor time of a step (all threads; what a busy machine leaves comparable).
"""
import argparse
import json
import os
import statistics
import sys
import time

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--modes", default="f32,bf16", help="of f32 bf16 ceiling (default: f32,bf16)")
ap.add_argument("--steps", type=int, default=5, help="timed, after --warmup")
ap.add_argument("--warmup", type=int, default=2)
ap.add_argument("--ways", default="all", help="all, or some of what `best` names: grouped/f32,loop/bf16,... ")
ap.add_argument("--verbose", action="store_true", help="a line for every way, with losses and gradient norms")
ap.add_argument("--layers", type=int, default=4)
ap.add_argument("--sequences", type=int, default=4)
o = ap.parse_args()

# Buffers of 10-500 MB come and go each step: keep them in the heap, or every step pays for the page faults.
TUNING = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
          "MALLOC_TOP_PAD_": str(1 << 28), "THP_MEM_ALLOC_ENABLE": "1", "OMP_NUM_THREADS": str(o.threads),
          "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
if os.environ.get("BENCH_TORCH_TUNED") != "1":
    os.execvpe(sys.executable, [sys.executable, *sys.argv], {**os.environ, **TUNING, "BENCH_TORCH_TUNED": "1"})

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

H, L, HEADS, FF, E, K, V, S, B = 512, o.layers, 8, 1024, 16, 2, 8192, 512, o.sequences
D, T, EPS, AUX, LR, CLIP = H // HEADS, S * B, 1e-5, 1e-2, 3e-4, 1.0
torch.set_num_threads(o.threads)


def rope():
    inv = 1.0 / (10000.0 ** (torch.arange(0, D, 2).float() / D))
    angle = torch.arange(S).float()[:, None] * inv
    angle = torch.cat((angle, angle), -1)
    return angle.cos(), angle.sin()


COS, SIN = rope()


def rotate(x):  # [B, heads, S, D]
    a, b = x.chunk(2, -1)
    return x * COS.to(x.dtype) + torch.cat((-b, a), -1) * SIN.to(x.dtype)


class Experts(torch.autograd.Function):
    """Rows sorted by expert through SwiGLU. Weight gradients go into the sinks, f32."""

    @staticmethod
    def forward(ctx, x, w13, w2, sink13, sink2, ends):
        h = x.new_empty(x.shape[0], 2 * FF)
        y = torch.empty_like(x)
        start = 0
        for e, end in enumerate(ends):
            if end > start:
                torch.mm(x[start:end], w13[e].t(), out=h[start:end])
            start = end
        gate, up = h.chunk(2, -1)
        silu = F.silu(gate)
        act = silu * up
        start = 0
        for e, end in enumerate(ends):
            if end > start:
                torch.mm(act[start:end], w2[e].t(), out=y[start:end])
            start = end
        ctx.save_for_backward(x, w13, w2, h, act, silu)
        ctx.ends, ctx.sinks = ends, (sink13, sink2)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, w13, w2, h, act, silu = ctx.saved_tensors
        g13, g2 = ctx.sinks
        dy = dy.contiguous()
        dact = torch.empty_like(act)
        start = 0
        for e, end in enumerate(ctx.ends):
            if end > start:
                torch.mm(dy[start:end], w2[e], out=dact[start:end])
                grad_into(g2[e], dy[start:end], act[start:end])
            else:
                g2[e].zero_()
            start = end
        gate, up = h.chunk(2, -1)
        dh = torch.empty_like(h)
        dgate, dup = dh.chunk(2, -1)
        torch.mul(dact, silu, out=dup)
        dact.mul_(up)
        torch.ops.aten.silu_backward.grad_input(dact, gate, grad_input=dgate)
        dx = torch.empty_like(x)
        start = 0
        for e, end in enumerate(ctx.ends):
            if end > start:
                torch.mm(dh[start:end], w13[e], out=dx[start:end])
                grad_into(g13[e], dh[start:end], x[start:end])
            else:
                g13[e].zero_()
            start = end
        return dx, None, None, None, None, None


def grad_into(sink, dy, x, first=True):
    """sink (+)= dy.T @ x. The only microbatch of a step overwrites: nothing need be zeroed before."""
    if first and sink.dtype == dy.dtype:
        torch.mm(dy.t(), x, out=sink)
    elif first:
        sink.copy_(torch.mm(dy.t(), x))
    elif sink.dtype == dy.dtype:
        sink.addmm_(dy.t(), x)
    else:
        sink.add_(torch.mm(dy.t(), x))


class Linear(torch.autograd.Function):
    """x @ w.T, the weight gradient written into an f32 buffer."""

    @staticmethod
    def forward(ctx, x, w, sink):
        ctx.save_for_backward(x, w)
        ctx.sink = sink
        return torch.mm(x, w.t())

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        dy = dy.contiguous()
        grad_into(ctx.sink, dy, x)
        return torch.mm(dy, w), None, None


class HeadLoss(torch.autograd.Function):
    """Mean cross entropy of x @ w.T, with its gradients, 512 rows at a time: logits never stand in memory whole."""

    @staticmethod
    def forward(ctx, x, w, sink, target):
        dx = torch.empty_like(x)
        loss = 0.0
        for i in range(0, x.shape[0], 512):
            rows = x[i:i + 512]
            logits = torch.mm(rows, w.t()).float()
            lse = logits.logsumexp(-1, keepdim=True)
            t = target[i:i + 512, None]
            loss += (lse - logits.gather(1, t)).sum()
            logits.sub_(lse).exp_()
            logits.scatter_add_(1, t, torch.full_like(lse, -1.0))
            dlogits = logits.mul_(1.0 / x.shape[0]).to(x.dtype)
            torch.mm(dlogits, w, out=dx[i:i + 512])
            grad_into(sink, dlogits, rows, first=i == 0)
        ctx.save_for_backward(dx)
        return loss / x.shape[0]

    @staticmethod
    def backward(ctx, g):  # g is 1: the loss is not scaled
        return ctx.saved_tensors[0], None, None, None


def silu_mul(h):
    gate, up = h.chunk(2, -1)
    return F.silu(gate) * up


def weighted_sum(y, p, inverse):
    return (y * p)[inverse].view(T, K, H).sum(1)


class Model:
    def __init__(self, way, compute):
        """way: grouped, loop or compiled. compute: f32, autocast or bf16."""
        torch.manual_seed(1)
        self.way, self.compute = way, compute
        w = {"embed": torch.randn(V, H), "head": torch.randn(V, H)}
        for i in range(L):
            w[f"{i}.qkv"], w[f"{i}.o"] = torch.randn(3 * H, H), torch.randn(H, H)
            w[f"{i}.gate"] = torch.randn(E, H)
            w[f"{i}.w13"], w[f"{i}.w2"] = torch.randn(E, 2 * FF, H), torch.randn(E, H, FF)
        self.master = {n: t.mul_(0.02) for n, t in w.items()}
        for n in [f"{i}.{k}" for i in range(L) for k in ("norm1", "norm2")] + ["norm"]:
            self.master[n] = torch.ones(H)
        for t in self.master.values():
            t.requires_grad_()
        self.optimizer = torch.optim.AdamW(list(self.master.values()), lr=LR, betas=(0.9, 0.95), weight_decay=0.1,
                                           fused=True)
        # the router and the norms compute in f32 in every mode
        self.low = compute == "bf16"
        self.cast = [n for n in self.master if self.low and "norm" not in n and "gate" not in n]
        self.w = dict(self.master)
        for n in self.cast:
            self.w[n] = self.master[n].detach().to(torch.bfloat16).requires_grad_()
        # those whose gradients the functions by hand write; the others' are autograd's
        self.hand = [n for n in self.master if way != "grouped" and (n == "head" or n.endswith((".qkv", ".o", ".w13", ".w2")))]
        self.helpers = (silu_mul, rotate, weighted_sum)
        if way == "compiled":
            self.helpers = tuple(torch.compile(f, dynamic=False) for f in self.helpers)
        self.sink = {n: torch.zeros_like(self.master[n]) for n in self.master if n in self.hand or self.low}

    def linear(self, x, name):
        if self.compute == "autocast" or self.way == "grouped":
            return F.linear(x, self.w[name])
        return Linear.apply(x, self.w[name], self.sink[name])

    def moe(self, x, i):
        silu_mul, _, weighted_sum = self.helpers
        with torch.autocast("cpu", enabled=False):
            p = F.linear(x.float(), self.w[f"{i}.gate"]).softmax(-1)
        top, chosen = p.topk(K, -1)
        weight = top / top.sum(-1, keepdim=True)
        flat = chosen.view(-1)
        order = flat.argsort(stable=True)
        count = torch.bincount(flat, minlength=E)
        aux = AUX * E / (K * T * T) * (p.sum(0) * count).sum()
        ends = count.cumsum(0)
        w13, w2 = self.w[f"{i}.w13"], self.w[f"{i}.w2"]
        rows = x[order // K]
        if self.way == "grouped":
            if self.compute == "autocast":
                rows, w13, w2 = rows.bfloat16(), w13.bfloat16(), w2.bfloat16()
            ends = ends.int()
            h = torch._grouped_mm(rows, w13.transpose(1, 2), offs=ends)
            y = torch._grouped_mm(silu_mul(h), w2.transpose(1, 2), offs=ends)
        else:
            y = Experts.apply(rows, w13, w2, self.sink[f"{i}.w13"], self.sink[f"{i}.w2"], ends.tolist())
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(T * K)
        return weighted_sum(y, weight.view(-1)[order, None].to(y.dtype), inverse), aux

    def norm(self, x, name):
        n = self.w[name]
        return F.rms_norm(x, (H,), n.to(x.dtype), EPS)

    def loss(self, tokens, target):
        _, rotate, _ = self.helpers
        x = F.embedding(tokens.view(-1), self.w["embed"])
        if self.compute == "autocast":
            x = x.bfloat16()
        aux = 0.0
        for i in range(L):
            qkv = self.linear(self.norm(x, f"{i}.norm1"), f"{i}.qkv").view(B, S, 3, HEADS, D)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            a = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
            x = x + self.linear(a.transpose(1, 2).reshape(T, H), f"{i}.o")
            y, layer_aux = self.moe(self.norm(x, f"{i}.norm2"), i)
            x, aux = x + y, aux + layer_aux
        x = self.norm(x, "norm")
        if self.way == "grouped":
            lm = F.cross_entropy(F.linear(x, self.w["head"]).float(), target.view(-1))
        else:
            lm = HeadLoss.apply(x, self.w["head"], self.sink["head"], target.view(-1))
        return lm, aux

    def step(self, tokens, target):
        masters = list(self.master.values())
        for t in masters:
            t.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.compute == "autocast"):
            lm, aux = self.loss(tokens, target)
        (lm + aux).backward()
        for n in self.cast:  # what autograd made in bf16
            if n not in self.hand:
                self.sink[n].copy_(self.w[n].grad)
                self.w[n].grad = None
        for n in {*self.cast, *self.hand}:
            self.master[n].grad = self.sink[n]
        norm = torch.nn.utils.clip_grad_norm_(masters, CLIP, foreach=True)
        self.optimizer.step()
        if self.cast:
            with torch.no_grad():
                torch._foreach_copy_([self.w[n] for n in self.cast], [self.master[n] for n in self.cast])
        return lm.item(), norm.item()


def batches():
    g = torch.Generator().manual_seed(2)
    while True:
        stream = torch.randint(0, V, (B, S + 1), generator=g)
        yield stream[:, :-1].contiguous(), stream[:, 1:].contiguous()


def run(way, compute):
    model, data, seconds, cpu, seen = Model(way, compute), batches(), [], [], []
    for _ in range(o.warmup + o.steps):
        tokens, target = next(data)
        start, cpu_start = time.perf_counter(), time.process_time()
        seen.append(model.step(tokens, target))
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    return seconds[o.warmup:], cpu[o.warmup:], seen


def ceiling():
    out = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
        c = torch.empty(2048, 2048, dtype=dtype)
        best = cpu = float("inf")
        for _ in range(8):
            start, cpu_start = time.perf_counter(), time.process_time()
            torch.mm(a, b, out=c)
            best = min(best, time.perf_counter() - start)
            cpu = min(cpu, time.process_time() - cpu_start)
        out[name] = round(2 * 2048**3 / best / 1e9, 1)
        out[name + "_a_cpu"] = round(2 * 2048**3 / cpu / 1e9, 1)
    return out


WAYS = {"f32": ["grouped/f32", "loop/f32", "compiled/f32"],
        "bf16": ["grouped/autocast", "grouped/bf16", "loop/bf16", "compiled/bf16"]}


def main():
    for mode in o.modes.split(","):
        if mode == "ceiling":
            print(json.dumps({"mode": "ceiling", "gflops": ceiling(), "torch": torch.__version__,
                              "threads": o.threads}), flush=True)
            continue
        best = None
        ways = WAYS[mode] if o.ways == "all" else [w for w in o.ways.split(",") if w in WAYS[mode]]
        for name in ways:
            try:
                seconds, cpu, seen = run(*name.split("/"))
            except Exception as e:  # a way that this machine or this torch does not have
                print(f"bench-torch.py: {name}: {str(e).splitlines()[0]}", file=sys.stderr)
                continue
            r = {"mode": mode, "best": name, "tokens_per_s": round(T / statistics.median(seconds), 1),
                 "tokens_per_s_max": round(T / min(seconds), 1), "step_s": [round(s, 4) for s in seconds],
                 "cpu_s": round(statistics.median(cpu), 4),
                 "threads": o.threads, "torch": torch.__version__}
            if o.verbose:
                print(json.dumps({"way": True, **r, "loss": [round(s[0], 5) for s in seen],
                                  "grad_norm": [round(s[1], 4) for s in seen]}), flush=True)
            if best is None or r["tokens_per_s"] > best["tokens_per_s"]:
                best = r
        if best is None:
            sys.exit(f"bench-torch.py: no way to run {mode}")
        print(json.dumps(best), flush=True)


main()
