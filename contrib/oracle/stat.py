#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""stat.py LOG [SKIP]: figures of a step log with numpy, by their definitions in moe-figures(5), as `name value` lines.

What moe-stat says must be the same to the last digit. Sums are in long double, so that they are
right before they are rounded, as moe-stat's are."""
import json
import math
import sys

import numpy as np


def total(values):
    return float(np.sum(np.array(values, dtype=np.longdouble)))


def mean(values):
    return total(values) / len(values) if len(values) else None


def counted(path):
    """The start records and the steps that count, each with the start that it belongs to."""
    segments, steps = [], []
    for line in open(path):
        try:
            r = json.loads(line)
        except ValueError:
            continue
        if r.get("kind") == "start":
            segments.append((r, len(steps)))
        elif r.get("kind") == "step":
            steps.append((r, len(segments) - 1))
    up_to, keep = math.inf, {}
    for k in range(len(segments) - 1, -1, -1):
        for r, s in steps:
            if s == k and r["step"] <= up_to:
                keep.setdefault(r["step"], None)
        for r, s in steps:
            if s == k and r["step"] <= up_to and (keep[r["step"]] is None or keep[r["step"]][1] == k):
                keep[r["step"]] = (r, k)
        up_to = min(up_to, segments[k][0].get("step", math.inf))
    return [s for s, _ in segments], [keep[i] for i in sorted(keep)]


def speed(starts, steps):
    out = {}
    timed = [(r, k) for r, k in steps if r.get("time_s") and 0 < r["time_s"] <= 1e6 and r.get("tokens", 0) > 0]
    t = np.array([r["time_s"] for r, _ in timed])
    rate = np.array([r["tokens"] / r["time_s"] for r, _ in timed])
    out["steps_counted"] = len(timed)
    out["tokens"] = total([r["tokens"] for r, _ in timed])
    out["time_s"] = total(t)
    out["tokens_per_s"] = out["tokens"] / out["time_s"]
    for p in (50, 95, 99):
        out[f"tokens_per_s_p{p}"] = float(np.percentile(rate, p))
        out[f"step_s_p{p}"] = float(np.percentile(t, p))
    out["step_s"] = mean(t)
    out["step_s_std"] = math.sqrt(mean((t - out["step_s"]) ** 2))
    out["sequences_per_s"] = total([r["tokens"] / starts[k]["seq"] for r, k in timed]) / out["time_s"]
    done = total([r["tokens"] * float(starts[k]["flops_per_token"]) for r, k in timed])
    peaks = [starts[k].get("peak_flops") for _, k in timed]
    could = [r["time_s"] * peak * starts[k]["world"] for (r, k), peak in zip(timed, peaks) if peak]
    out["mfu"] = done / total(could) if len(could) == len(timed) else None
    out["rank_flops_per_s"] = done / total([r["time_s"] * starts[k]["world"] for r, k in timed])
    return out


def phases(steps):
    out = {}
    time = total([r["time_s"] for r, _ in steps])
    names = list(steps[0][0]["phases"])
    for p in names:
        out[p + "_share"] = total([r["phases"][p]["mean"] for r, _ in steps]) / time
    over = [r["phases"][p]["max"] - r["phases"][p]["mean"] for r, _ in steps for p in ("forward", "backward", "optimizer")]
    out["straggler_share"] = total(over) / time
    busy = total([c["busy"] for r, _ in steps for c in r["comm"].values()])
    exposed = total([c["exposed"] for r, _ in steps for c in r["comm"].values()])
    out["exposed_share"] = exposed / time
    out["overlap"] = 1 - exposed / busy if busy else None
    return out


def experts(steps, top_k):
    out = {}
    with_loads = [(r["step"], np.array(r["expert_load"], dtype=float)) for r, _ in steps if "expert_load" in r]
    load = sum(m for _, m in with_loads)
    average = load.mean(axis=1, keepdims=True)
    x = load / average - 1
    std = np.sqrt(np.sum(np.array(x * x, dtype=np.longdouble), axis=1).astype(float) / load.shape[1])
    out["expert_load_std"] = mean(std)
    out["expert_load_max_over_mean"] = mean(load.max(axis=1) / average[:, 0])
    out["expert_load_min_over_mean"] = mean(load.min(axis=1) / average[:, 0])
    share = load / load.sum(axis=1, keepdims=True)
    terms = np.where(share > 0, -share * np.log(np.where(share > 0, share, 1)), 0)
    entropy = np.sum(np.array(terms, dtype=np.longdouble), axis=1).astype(float) / math.log(load.shape[1])
    out["expert_load_entropy"] = mean(entropy)
    out["dead_experts"] = int((load == 0).sum())
    out["dropped"] = total([r["dropped"] for r, _ in steps])
    out["dropped_share"] = out["dropped"] / (total([r["tokens"] for r, _ in steps]) * top_k * load.shape[0])
    out["step_load_std"] = mean([r["load"]["std"] for r, _ in steps])
    out["step_load_max_over_mean"] = mean([r["load"]["max_over_mean"] for r, _ in steps])
    return out


def losses(steps):
    out = {"loss_first": steps[0][0]["loss"], "loss_last": steps[-1][0]["loss"]}
    n = min(max(len(steps) // 10, 20), 1000)
    tail = [(r["step"], r["loss"]) for r, _ in steps[-n:] if r["loss"] is not None]
    out["loss_end"] = mean([y for _, y in tail])
    dx = np.array([s for s, _ in tail]) - mean([s for s, _ in tail])
    dy = np.array([y for _, y in tail]) - out["loss_end"]
    out["loss_slope"] = total(dx * dy) / total(dx * dx)
    norms = [r["grad_norm"] for r, _ in steps]
    out["grad_norm_spikes"] = sum(norms[i] > 3 * float(np.median(norms[max(0, i - 64) : i])) for i in range(16, len(norms)))
    return out


def main():
    starts, steps = counted(sys.argv[1])
    skip = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    figures = {"steps": len(steps), "abandoned_steps": None}
    figures.update(speed(starts, steps[skip:]))
    figures.update(phases(steps[skip:]))
    figures.update(experts(steps, starts[-1]["top_k"]))
    figures.update(losses(steps))
    for name, value in figures.items():
        if value is not None:
            print(name, repr(float(value)))


if __name__ == "__main__":
    main()
