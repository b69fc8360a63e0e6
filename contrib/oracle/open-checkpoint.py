#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Opens a directory with transformers' AutoModelForCausalLM, and says which keys are missing or unexpected.

  open-checkpoint.py DIR [--tokens 1,2,3... | --tokens-file FILE] [--logits OUT]

Exit 0: every key was there and of its shape; 1: not. With tokens (one sequence; FILE: blanks between, a line a
sequence), OUT gets "logits" [sequences, length, vocabulary] f32.
"""
import argparse
import sys


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("dir")
    ap.add_argument("--tokens")
    ap.add_argument("--tokens-file")
    ap.add_argument("--logits", metavar="OUT")
    o = ap.parse_args()
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging
    logging.disable_progress_bar()
    model, info = AutoModelForCausalLM.from_pretrained(
        o.dir, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager",
        output_loading_info=True)
    bad = 0
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        for key in sorted(info.get(kind) or [], key=str):
            print(f"{kind.removesuffix('_keys')}: {key}")
            bad += 1
    print(f"# {type(model).__name__}, {sum(p.numel() for p in model.parameters())} parameters, "
          f"{bad} keys missing, unexpected or mismatched")
    if o.logits:
        if o.tokens_file:
            with open(o.tokens_file) as f:
                rows = [[int(t) for t in line.split()] for line in f if line.strip()]
        elif o.tokens:
            rows = [[int(t) for t in o.tokens.split(",")]]
        else:
            ap.error("--logits needs tokens")
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor(rows), use_cache=False).logits.float()
        save_file({"logits": logits.contiguous()}, o.logits)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
