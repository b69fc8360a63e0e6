#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a model with its tensors as transformers 5 holds them in memory: the experts of a layer fused.

  save-fused.py HFDIR OUTDIR
"""
import argparse
import os


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("hfdir")
    ap.add_argument("outdir")
    o = ap.parse_args()
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(o.hfdir, dtype=torch.float32)
    os.makedirs(o.outdir, exist_ok=True)
    model.config.save_pretrained(o.outdir)
    tensors = {n: t.detach().contiguous().clone() for n, t in model.state_dict().items()}
    save_file(tensors, os.path.join(o.outdir, "model.safetensors"), metadata={"format": "pt"})
    print(*(n for n in sorted(tensors) if ".experts." in n), sep="\n")


if __name__ == "__main__":
    main()
