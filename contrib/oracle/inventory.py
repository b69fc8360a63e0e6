#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares moekit's inventories with what transformers builds: every tensor's name and shape, and the totals.

usage: inventory.py MODEL_TENSORS DIR PRESET…

Of each preset (a config.json) and of each family's config of nothing but model_type (written into DIR), transformers
builds the model without memory, and MODEL_TENSORS (t/lib/model-tensors.c) lists moekit's tensors. Prints a line for
each model: name, parameters, tensors and the CRC-32 of the sorted lines "NAME [97,48]", which t/data/model-totals
holds as golden values; and, first, what differs. Exit 0: nothing.

transformers holds a layer's experts fused and saves them one by one (gpt_oss as they are): so they are compared as saved.
"""
import json
import logging
import os
import subprocess
import sys
import warnings
import zlib

import torch
import transformers

FAMILIES = "mixtral qwen2_moe qwen3_moe olmoe glm4_moe qwen3_next deepseek_v2 deepseek_v3 gpt_oss llama qwen3".split()
STACKED = "gpt_oss"


def saved(family, name, shape):
    """(name, shape) of each tensor that one parameter is saved as."""
    experts = ".mlp.experts."
    if family == "mixtral":
        name = name.replace(".mlp.gate.", ".block_sparse_moe.gate.")
    if family == STACKED or experts not in name:
        yield name, shape
        return
    layer, which = name.split(experts)
    names = ["w1", "w3", "w2"] if family == "mixtral" else ["gate_proj", "up_proj", "down_proj"]
    block = ".block_sparse_moe.experts." if family == "mixtral" else experts
    parts = {"gate_up_proj": names[:2], "down_proj": names[2:]}[which]
    for e in range(shape[0]):
        for part in parts:
            yield f"{layer}{block}{e}.{part}.weight", [shape[1] // len(parts), shape[2]]


def theirs(path):
    config = transformers.AutoConfig.from_pretrained(os.path.dirname(path) if path.endswith("/config.json") else path)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    tensors = [(n, p) for n, p in model.named_parameters()]
    tensors += [(n, b) for n, b in model.named_buffers() if n.endswith("correction_bias")]
    lines = [f"{n} [{','.join(map(str, s))}]" for name, t in tensors for n, s in saved(config.model_type, name, list(t.shape))]
    return sum(t.numel() for _, t in tensors), sorted(lines)


def mine(helper, paths):
    models, last = {}, None
    for line in subprocess.run([helper, *paths], capture_output=True, text=True, check=True).stdout.splitlines():
        if line[0] in "=!":
            _, last, rest = line.split(" ", 2)
            models[last] = (rest, [])
        else:
            models[last][1].append(line)
    return models


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    helper, directory, *presets = sys.argv[1:]
    names = {p: os.path.basename(p)[:-len(".json")] for p in presets}
    for family in FAMILIES:
        path = os.path.join(directory, family, "config.json")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            json.dump({"model_type": family}, f)
        names[path] = "default:" + family
    bad, totals, found = 0, [], mine(helper, list(names))
    for path, name in names.items():
        parameters, lines = theirs(path)
        said, listed = found[path]
        if said != str(parameters):
            bad += 1
            print(f"{name}: transformers has {parameters} parameters, moekit {said}")
        for line in sorted(set(lines) ^ set(listed))[:10]:
            bad += 1
            print(f"{name}: only {'transformers' if line in set(lines) else 'moekit'} has {line}")
        if len(lines) != len(listed):
            bad += 1
            print(f"{name}: transformers has {len(lines)} tensors, moekit {len(listed)}")
        totals.append(f"{name} {parameters} {len(lines)} {zlib.crc32(''.join(l + chr(10) for l in lines).encode()):08x}")
    print("\n".join(totals))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
