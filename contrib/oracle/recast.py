#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks what moe-ckpt makes of other checkpoints, with transformers and safetensors.

  recast.py shrunk BEFORE AFTER EXPERTS    AFTER is BEFORE without these experts (a list: 1,4), tensor by tensor
  recast.py same BEFORE AFTER              both compute the same logits
  recast.py near BEFORE AFTER              the same to rounding
  recast.py init DIR                       writes random weights for DIR's config.json into it

AFTER must open with from_pretrained, no key missing or left over. Exit 0: so it is; 1: not, and why.
"""
import argparse
import sys


def load(path, dtype):
    from transformers import AutoModelForCausalLM
    model, info = AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, attn_implementation="eager", experts_implementation="eager", output_loading_info=True)
    bad = [f"{path}: {kind}: {key}" for kind, keys in info.items() for key in sorted(keys or [], key=str)]
    return model.eval(), bad


def logits(model):
    import torch
    tokens = torch.arange(40)[None] * 7 % 89
    with torch.no_grad():
        return model(input_ids=tokens, use_cache=False).logits.float()


def init(path):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    torch.manual_seed(7)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path)).save_pretrained(path)


def shrunk(before, after, gone):
    """Every parameter and buffer, with the lost experts' rows taken out where one dimension counts experts."""
    import torch
    old, new = before.state_dict(), after.state_dict()
    bad = [f"{name}: only in one" for name in sorted(set(old) ^ set(new))]
    cut = 0
    for name in sorted(set(old) & set(new)):
        x, y = old[name], new[name]
        if x.shape != y.shape:
            keep = [e for e in range(x.shape[0]) if e not in gone]
            x = x[keep]
            cut += 1
        if x.shape != y.shape or not torch.equal(x, y):
            bad.append(f"{name}: differs")
    if not cut:
        bad.append("nothing was cut")
    return bad


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", choices=["shrunk", "same", "near", "init"])
    ap.add_argument("before")
    ap.add_argument("after", nargs="?")
    ap.add_argument("experts", nargs="?")
    o = ap.parse_args()
    import torch
    from transformers.utils import logging
    logging.disable_progress_bar()
    if o.what == "init":
        init(o.before)
        sys.exit(0)
    before, _ = load(o.before, torch.float32)
    after, bad = load(o.after, torch.float32)
    if o.what == "shrunk":
        bad += shrunk(before, after, {int(e) for e in o.experts.split(",")})
        if not torch.isfinite(logits(after)).all():
            bad.append("logits are not finite")
    elif o.what == "near":
        far = ((logits(before) - logits(after)).abs().max() / logits(before).abs().max()).item()
        if not far < 1e-5:
            bad.append(f"logits differ by {far}")
    elif not torch.equal(logits(before), logits(after)):
        bad.append(f"logits differ by {(logits(before) - logits(after)).abs().max()}")
    for line in bad:
        print(line)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
