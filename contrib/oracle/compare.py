#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares what two trainers made; B is the reference. Exit 0: equal within --tol, 1: not, 2: cannot be compared.

  compare.py tensors A B [--tol X] [--only REGEX] [--common] [--worst N]
        A and B are safetensors files, or directories of them. Error of a tensor: |A-B| / |B|, Euclidean norms.
        A tensor that only one side has is a difference, unless --common.
  compare.py logits A B [--tol X]
        Tensor "logits" of both (a directory: its logits.safetensors). Error: max |A-B| / max |B|.
  compare.py losses A B [--tol X] [--fields loss,aux_loss,...] [--steps N]
        JSON Lines with step and loss; a moe-train step log does. Error of a field: |A-B| / |B| (of aux_loss and
        z_loss |B| is at least 1e-12). Of a repeated step the last record counts.
"""
import argparse
import glob
import json
import math
import os
import re
import sys


def die(text):
    print(f"compare.py: {text}", file=sys.stderr)
    sys.exit(2)


def tensors_of(path):
    """name -> file"""
    files = sorted(glob.glob(os.path.join(path, "*.safetensors"))) if os.path.isdir(path) else [path]
    if not files or not all(os.path.exists(f) for f in files):
        die(f"'{path}': no safetensors here")
    from safetensors import safe_open
    where = {}
    for file in files:
        with safe_open(file, "pt") as f:
            for name in f.keys():
                where[name] = file
    return where


def tensor(file, name):
    import torch
    from safetensors import safe_open
    with safe_open(file, "pt") as f:
        return f.get_tensor(name).to(torch.float64)


def compare_tensors(o):
    a, b = tensors_of(o.a), tensors_of(o.b)
    if o.only:
        a = {n: f for n, f in a.items() if re.search(o.only, n)}
        b = {n: f for n, f in b.items() if re.search(o.only, n)}
    alone = 0
    if not o.common:
        for name in sorted(a.keys() ^ b.keys()):
            print(f"only in {'A' if name in a else 'B'}: {name}")
            alone += 1
    both = sorted(a.keys() & b.keys())
    if not both:
        die("no tensor in common")
    errors = []
    for name in both:
        x, y = tensor(a[name], name), tensor(b[name], name)
        if x.shape != y.shape:
            print(f"shape: {name} {list(x.shape)}, {list(y.shape)}")
            alone += 1
            continue
        difference, size = (x - y).norm().item(), y.norm().item()
        errors.append((0.0 if difference == 0 else difference / size if size else math.inf, name))
    bad = sum(not e <= o.tol for e, _ in errors)
    errors.sort(key=lambda e: (not math.isnan(e[0]), -e[0] if not math.isnan(e[0]) else 0))
    for error, name in errors[:o.worst]:
        print(f"{error:.3e}  {name}")
    print(f"# {len(errors)} tensors compared, {bad} beyond {o.tol:g}, {alone} on one side or of another shape")
    return bad == 0 and alone == 0


def compare_logits(o):
    a, b = (os.path.join(p, "logits.safetensors") if os.path.isdir(p) else p for p in (o.a, o.b))
    x, y = tensor(a, "logits"), tensor(b, "logits")
    if x.numel() != y.numel():
        die(f"logits {list(x.shape)}, {list(y.shape)}")
    error = ((x.reshape(-1) - y.reshape(-1)).abs().max() / y.abs().max()).item()
    print(f"{error:.3e}  logits")
    return error <= o.tol


def steps_of(path):
    steps = {}
    with open(path) as f:
        for line in f:
            try:
                r = json.loads(line)
            except ValueError:
                continue
            if isinstance(r, dict) and r.get("kind", "step") == "step" and "step" in r:
                steps[r["step"]] = r
    if not steps:
        die(f"'{path}': no step record")
    return steps


def compare_losses(o):
    a, b = steps_of(o.a), steps_of(o.b)
    steps = sorted(b)[:o.steps]
    worst, missing = {}, [s for s in steps if s not in a]
    for step in steps:
        for field in o.fields.split(","):
            if step in missing:
                continue
            if a[step].get(field) is None or b[step].get(field) is None:
                die(f"step {step}: no {field}")
            x, y = float(a[step][field]), float(b[step][field])
            error = 0.0 if x == y else abs(x - y) / max(abs(y), 1e-12)
            if field not in worst or not error <= worst[field][0]:
                worst[field] = (error, step, x, y)
    for field, (error, step, x, y) in worst.items():
        print(f"{error:.3e}  {field}, at step {step}: {x:.9g}, {y:.9g}")
    if missing:
        print(f"only in B: step {missing[0]} and {len(missing) - 1} others")
    return not missing and all(e[0] <= o.tol for e in worst.values())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", choices=["tensors", "logits", "losses"])
    ap.add_argument("a")
    ap.add_argument("b")
    ap.add_argument("--tol", type=float, default=1e-4)
    ap.add_argument("--only", metavar="REGEX")
    ap.add_argument("--common", action="store_true")
    ap.add_argument("--worst", type=int, default=5)
    ap.add_argument("--fields", default="loss,aux_loss,z_loss,grad_norm")
    ap.add_argument("--steps", type=int)
    o = ap.parse_args()
    ok = {"tensors": compare_tensors, "logits": compare_logits, "losses": compare_losses}[o.what](o)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
