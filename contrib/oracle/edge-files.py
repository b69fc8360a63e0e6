#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Asks the safetensors library and moe-ckpt about the same files, some hundreds at the edges of the format.

usage: edge-files.py MOE_CKPT DIR

Writes each file to DIR/model.safetensors and compares: accepted by both, with the same tensors, dtypes and shapes, or
refused by both. Prints a line for each difference that is not in KNOWN, then how many files were looked at. Exit 0:
none; 1: some; also when a difference of KNOWN is gone, so that the list stays true.
"""
import json
import os
import random
import struct
import subprocess
import sys

from safetensors import SafetensorError, safe_open

# What the library accepts and moe-ckpt refuses, and why that is right. It refuses nothing that moe-ckpt accepts.
KNOWN = {
    "twice": "the format's text forbids a key twice; the library silently takes the last",
    "list": "the format has an object there; that the library takes a list is an accident of its parser",
    "variant": "the format has a string there, likewise",
    "nul": "a name or a text with a NUL, which no model has; in C it would be cut short without a word",
    "2^63": "a size that no file has, possible only beside a 0",
    "stray number": "a number beyond 63 bits, or -0, in a member that the format does not have",
}

DTYPES = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}
NO_DTYPES = ["F8_E4M3FN", "C128", "I4", "U4", "C32", "F128", "f32", "float32", "", "F32 ", " F32", "F3", "F322", "BF_16"]


def tensor(dtype="F32", shape="[1]", offsets="[0,4]", more=""):
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}{more}}}'


def file(header, data=4, size=None):
    header = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(header) if size is None else size) + header + bytes(data)


def cases():
    """(what, the key of KNOWN or None, the file)"""
    T = tensor()
    whole = file('{"__metadata__":{"format":"pt"},"a":%s,"b":%s}' % (T, tensor("BF16", "[2,3]", "[4,16]")), 16)

    # ---- the frame ----
    yield "whole", None, whole
    for n in range(0, len(whole), 3):
        yield f"cut to {n} bytes", None, whole[:n]
    for n in 0, 1, 7, 8, 9, len(whole) - 24, len(whole), 100_000_000, 100_000_001, 2**31, 2**63, 2**64 - 1:
        yield f"header size {n}", None, struct.pack("<Q", n) + whole[8:]
    yield "no header", None, file("", 0)
    yield "more data", None, whole + b"\0"
    for text in "{}", "{ }", "[]", "null", "1", '""', "{", "}", "{}{}", "{} x", "{},", '{"a"}', '{"a":}', "\ufeff{}":
        yield f"header {text!r}", None, file(text, 0)
    for white in " ", "\n", "\t", "\r", "\f", "\v", "\0", "x", "  \n":
        yield f"before {white!r}", None, file(white + '{"a":%s}' % T)
        yield f"behind {white!r}", None, file('{"a":%s}' % T + white)
        yield f"within {white!r}", None, file('{"a":%s%s}' % (white, T))
        yield f"after a number {white!r}", None, file('{"a":%s}' % tensor(shape="[1%s]" % white))
    yield "comma behind", None, file('{"a":%s,}' % T)
    yield "comment", None, file('{"a":%s /* x */}' % T)
    yield "single quotes", None, file(("{'a':%s}" % T).replace('"', "'"))

    # ---- dtypes, shapes, offsets ----
    for dtype, bits in DTYPES.items():
        for n in 0, 1, 2, 3:
            for extra in -1, 0, 1:
                size = n * bits // 8 + extra
                if size >= 0:
                    yield (f"{dtype}[{n}] in {size}", None,
                           file('{"a":%s}' % tensor(dtype, f"[{n}]", f"[0,{size}]"), size))
    for dtype in NO_DTYPES:
        yield f"dtype {dtype!r}", None, file('{"a":%s}' % tensor(dtype))
    for dtype in "null", "1", "true", "[]", "{}", '["F32"]':
        yield f"dtype {dtype}", None, file('{"a":%s}' % T.replace('"F32"', dtype))
    yield "dtype escaped", None, file('{"a":%s}' % tensor("\\u004632"))
    yield "dtype as a variant", "variant", file('{"a":%s}' % T.replace('"F32"', '{"F32":null}'))
    for shape in ("[]", "[1,1]", "[" + ",".join(["1"] * 9) + "]", "[" + ",".join(["1"] * 500) + "]", "[1.0]", "[1e0]", "[-1]",
                  "[-0]", "[01]", "[+1]", "[0x1]", '["1"]', "[null]", "[true]", "[[1]]", "{}", "1", "null", '"1"', "[1,]",
                  "[,1]", "[2]", "[0]", "[1 1]", "[1e400]", "[.1e1]", "[1.]", "[NaN]", "[Infinity]"):
        yield f"shape {shape[:40]}", None, file('{"a":%s}' % tensor(shape=shape))
    big = 2**61
    for shape in ([0], [0, 5], [5, 0], [big, 0], [0, big], [2 * big, 2, 0], [2 * big, 4, 0], [0, 2 * big, 4],
                  [4 * big - 1, 0], [4 * big - 1, 2, 0], [4 * big - 1, 3, 0], [2**32, 2**32], [2**32, 2**32, 0], [big, 8]):
        yield f"shape {shape}", None, file('{"a":%s}' % tensor(shape=json.dumps(shape), offsets="[0,0]"), 0)
    for n in 2**63, 2**64 - 1:
        yield f"shape [{n},0]", "2^63", file('{"a":%s}' % tensor(shape=f"[{n},0]", offsets="[0,0]"), 0)
        yield f"shape [{n}]", None, file('{"a":%s}' % tensor(shape=f"[{n}]", offsets="[0,0]"), 0)
    yield "shape [2^64,0]", None, file('{"a":%s}' % tensor(shape=f"[{2**64},0]", offsets="[0,0]"), 0)
    for offsets in ("[]", "[0]", "[0,4,4]", "[4,0]", "[0,3]", "[0,5]", "[-0,4]", "[-4,0]", "[0,4.0]", "[0,4e0]", "[0,null]",
                    '["0","4"]', "{}", "null", "4", "[1,5]", f"[0,{2**63}]", f"[0,{2**64}]", f"[{2**64 - 1},3]",
                    '{"0":0,"1":4}'):
        yield f"offsets {offsets}", None, file('{"a":%s}' % tensor(offsets=offsets))

    # ---- several tensors ----
    def pair(x, y, data):
        return file('{"a":%s,"b":%s}' % (x, y), data)

    for x, y, data in ((0, 4, 8), (4, 0, 8), (0, 0, 4), (0, 2, 6), (0, 8, 12), (4, 8, 12), (0, 4, 9), (0, 4, 7), (1, 5, 9)):
        yield (f"at {x} and {y} of {data}", None,
               pair(tensor(offsets=f"[{x},{x + 4}]"), tensor(offsets=f"[{y},{y + 4}]"), data))
    for at in 0, 1, 2, 4, 5:
        yield f"an empty one at {at}", None, pair(T, tensor(shape="[0]", offsets=f"[{at},{at}]"), 4)
    yield "two empty ones", None, pair(tensor(shape="[0]", offsets="[0,0]"), tensor(shape="[0]", offsets="[0,0]"), 0)

    # ---- members ----
    for gone in "dtype", "shape", "data_offsets":
        o = json.loads(T)
        del o[gone]
        yield f"without {gone}", None, file('{"a":%s}' % json.dumps(o))
        yield f"{gone} twice", None, file('{"a":%s}' % tensor(more=',"%s":%s' % (gone, json.dumps(json.loads(T)[gone]))))
    for more in "1", "-1", "1.5", "null", "[]", '{"x":[1,{}]}', '"x"', "1e300", "1e999", "-1e999", "nan", "01", '"\\ud800"', "tru":
        yield f"another member {more}", None, file('{"a":%s}' % tensor(more=',"x":%s' % more))
    yield "another member twice", "twice", file('{"a":%s}' % tensor(more=',"x":1,"x":2'))
    for n in "-0", str(2**63), str(2**70):
        yield f"another member {n}", "stray number", file('{"a":%s}' % tensor(more=',"x":%s' % n))
    for deep in 50, 120, 124, 125, 126, 127, 128, 200, 2000, 20000:
        yield f"{deep} deep", None, file('{"a":%s}' % tensor(more=',"x":%s' % ("[" * deep + "]" * deep)))
        yield f"{deep} deep, unclosed", None, file('{"a":%s}' % tensor(more=',"x":%s' % ("[" * deep)))
    for value in "null", "1", "[]", '"x"', "{}", "true":
        yield f"a tensor that is {value}", None, file('{"a":%s}' % value)
    yield "a list for a tensor", "list", file('{"a":["F32",[1],[0,4]]}')
    yield "a short list for a tensor", None, file('{"a":["F32",[1]]}')
    yield "the same tensor twice", "twice", file('{"a":%s,"a":%s}' % (T, T))
    yield "twice, the first beyond the file", "twice", file('{"a":%s,"a":%s}' % (tensor(shape="[2]", offsets="[0,8]"), T))
    yield "twice, the first broken", None, file('{"a":{},"a":%s}' % T)
    yield "twice, the last beyond the file", None, file('{"a":%s,"a":%s}' % (T, tensor(shape="[2]", offsets="[0,8]")))

    # ---- names ----
    for name in ("", " ", "a b", "/", "..", "a\x7f", "\u00e9", "\u2028", "\U0001f600", "\\ud83d\\ude00", "\\u00e9", "\\/", "\\n",
                 '\\"', "\\\\", "a" * 300, "\\ud800", "\\udc00", "\\ud83dx", "\\ud83d\\u0041", "\\x", "\\u12", "\x01", "\n", "\t",
                 "__metadata", "__METADATA__", "\ufffe", "\uffff"):
        yield f"name {name[:20]!r}", None, file('{"%s":%s}' % (name, T))
    for raw in b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xf8\x88\x80\x80\x80":
        yield f"name {raw!r}", None, file(b'{"' + raw + b'":' + T.encode() + b"}")
    yield "name with a NUL", "nul", file('{"a\\u0000":%s}' % T)

    # ---- metadata ----
    for value in ("null", "{}", "[]", "1", "false", '""', '{"a":"b"}', '{"a":1}', '{"a":null}', '{"a":{}}', '{"a":true}',
                  '{"":""}', '{"a":"b","c":"d"}', '{"a":"b","c":1}', '{"a"}', '[["a","b"]]', "tru"):
        yield f"metadata {value}", None, file('{"__metadata__":%s,"a":%s}' % (value, T))
        yield f"metadata {value} behind", None, file('{"a":%s,"__metadata__":%s}' % (T, value))
    yield "metadata alone", None, file('{"__metadata__":{}}', 0)
    yield "metadata twice", None, file('{"__metadata__":{},"__metadata__":{},"a":%s}' % T)
    yield "metadata escaped", None, file('{"\\u005f_metadata__":null,"a":%s}' % T)
    yield "a key of metadata twice", "twice", file('{"__metadata__":{"x":"1","x":"2"},"a":%s}' % T)
    yield "a NUL in metadata", "nul", file('{"__metadata__":{"x":"\\u0000"},"a":%s}' % T)

    # ---- anything: the whole one with a byte changed ----
    chance = random.Random(1)
    for i in range(150):
        at, byte = chance.randrange(len(whole) - 16), chance.choice(b'{}[]",:0129eE.-+ \\\nFabx\x00\xff')
        yield f"byte {at} is {bytes([byte])!r}", None, whole[:at] + bytes([byte]) + whole[at + 1:]


def library(path):
    """name -> (dtype, shape), or why it is refused"""
    try:
        with safe_open(path, "np") as f:
            return {k: (f.get_slice(k).get_dtype(), f.get_slice(k).get_shape()) for k in f.keys()}, None
    except SafetensorError as e:
        return None, str(e)


def ours(moe_ckpt, directory):
    r = subprocess.run([moe_ckpt, "list", "--json", directory], capture_output=True)
    if r.returncode == 2 and r.stderr:
        return None, r.stderr.decode(errors="replace").strip()
    if r.returncode:
        return None, f"exit {r.returncode}, where 2 is due"
    tensors = json.loads(r.stdout)["files"][0]["tensors"]
    return {t["name"]: (t["dtype"], t["shape"]) for t in tensors}, None


def main():
    moe_ckpt, directory = sys.argv[1:]
    path = os.path.join(directory, "model.safetensors")
    os.makedirs(directory, exist_ok=True)
    count = accepted = 0
    bad, seen = [], set()
    for what, known, blob in cases():
        with open(path, "wb") as f:
            f.write(blob)
        count += 1
        theirs, why = library(path)
        mine, why_not = ours(moe_ckpt, directory)
        accepted += theirs is not None
        if why_not and why_not.startswith("exit"):
            bad.append(f"{what}: {why_not}")
        elif theirs is not None and mine is None and known:
            seen.add(known)
        elif theirs is not None and mine is None:
            bad.append(f"{what}: the library accepts it, moe-ckpt says: {why_not}")
        elif theirs is None and mine is not None:
            bad.append(f"{what}: the library refuses it ({why}), moe-ckpt does not")
        elif theirs != mine:
            bad.append(f"{what}: the library has {theirs}, moe-ckpt {mine}")
        elif known:
            bad.append(f"{what}: no longer a difference ('{known}')")
    bad += [f"no file shows the known difference '{k}'" for k in KNOWN if k not in seen]
    for line in bad:
        print(line)
    print(f"{count} files, {accepted} of them accepted by the library, {len(bad)} differences")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
