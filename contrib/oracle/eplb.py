# SPDX-License-Identifier: MIT
"""The hierarchical balancer of DeepSeek's EPLB, restated on torch from its description (eplb.py of
github.com/deepseek-ai/EPLB), as an oracle of `moe-partition place --map`.

    eplb.py COMMAND CASES SEED    compares COMMAND's maps with these on random loads; prints how many agree
"""
import random
import subprocess
import sys

import torch


def pack(weight, packs):
    """Items [n] to packs of n/packs: which pack, and which place in it."""
    n = weight.numel()
    if n == packs:
        return torch.arange(n), torch.zeros(n, dtype=torch.int64)
    index, rank = torch.full((n,), -1), torch.full((n,), -1)
    load, held = [0.0] * packs, [0] * packs
    for item in weight.float().sort(descending=True).indices.tolist():
        at = min((p for p in range(packs) if held[p] < n // packs), key=load.__getitem__)
        index[item], rank[item] = at, held[at]
        load[at] += weight[item]
        held[at] += 1
    return index, rank


def replicate(weight, slots):
    n = weight.numel()
    of, count = torch.arange(slots), torch.ones(n, dtype=torch.int64)
    for i in range(n, slots):
        of[i] = (weight / count).max(dim=-1).indices
        count[of[i]] += 1
    return of, count


def inverse(permutation):
    out = torch.empty_like(permutation)
    out[permutation] = torch.arange(permutation.numel())
    return out


def rebalance(weight, slots, groups, nodes, gpus):
    if groups % nodes:
        groups = nodes = 1
    experts = weight.numel()
    size = experts // groups
    index, rank = pack(weight.view(groups, size).sum(-1), nodes)
    to_middle = ((index * (groups // nodes) + rank) * size).unsqueeze(-1) + torch.arange(size)
    from_middle = inverse(to_middle.flatten())
    out = []
    for node in weight[from_middle].view(nodes, -1):
        of, count = replicate(node, slots // nodes)
        index, rank = pack((node / count)[of], gpus // nodes)
        out.append(of[inverse(index * (slots // gpus) + rank)] + len(out) * (experts // nodes))
    return from_middle[torch.cat(out)].tolist()


def main():
    command, cases, draw = sys.argv[1], int(sys.argv[2]), random.Random(int(sys.argv[3]))
    agree = 0
    for _ in range(cases):
        nodes = draw.choice([1, 2, 3, 4])
        groups = nodes * draw.choice([1, 2, 3]) if draw.random() < 0.8 else draw.choice([1, 2, 3, 5])
        experts, gpus = groups * draw.choice([1, 2, 4]), nodes * draw.choice([1, 2, 4])
        slots = -(-experts // gpus) * gpus + gpus * draw.choice([0, 0, 1, 2])
        loads = draw.sample(range(1, 1000000), experts)
        want = rebalance(torch.tensor(loads, dtype=torch.float32), slots, groups, nodes, gpus)
        options = ["--slots", slots, "--groups", groups, "--nodes", nodes, "--gpus", gpus]
        text = subprocess.run([command, "place", "-", "--map", *map(str, options)], input=" ".join(map(str, loads)),
                              text=True, capture_output=True, check=True).stdout
        got = [int(x) for x in text.split()]
        agree += got == want
        if got != want:
            print(options, loads, "gives", got, "not", want, file=sys.stderr)
    print(agree, "of", cases)


if __name__ == "__main__":
    main()
