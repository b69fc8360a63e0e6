#!/bin/sh
# SPDX-License-Identifier: MIT
# moe-stat's pictures: panels by what a log tells, timelines as a schedule and as a trace, and the page.
. "$(dirname "$0")/lib/tap.sh"

log=$top/t/data/steplog-small.jsonl
north=$top/t/data/timeline/rank0.jsonl
south=$top/t/data/timeline/rank1.jsonl
need_for_all jq command -v jq

# ---- traces: the rules of the Trace Event Format, by which Perfetto's trace processor reads ----
# What is wrong with a trace, a line each.
wrong='
def ns: . * 1000 | round;
.traceEvents as $e
| ($e[] | select((.ph | IN("X", "M", "s", "t", "f") | not) or (.pid | type != "number") or (.tid | type != "number")) | "no such event: \(.)"),
  ($e[] | select(.ph != "M" and (.ts | type != "number")) | "no time: \(.)"),
  ($e[] | select(.ph == "X" and ((.dur > 0 | not) or (.name | type != "string"))) | "no slice: \(.)"),
  ([$e[] | select(.ph == "X")] | group_by([.pid, .tid])[] | sort_by(.ts) | . as $s | range(1; length)
    | select(($s[. - 1].ts + $s[. - 1].dur | ns) > ($s[.].ts | ns)) | "overlap: \($s[.])"),
  ([$e[] | select(.ph | IN("s", "t", "f"))] | group_by(.id)[]
    | select(([.[].ph] | .[0] != "s" or .[-1] != "f" or ([.[1:-1][] | select(. != "t")] != [])) or ([.[].ts] | . != sort)
        or ([.[] | [.cat, .name]] | unique | length) != 1) | "no flow: \(.)"),
  ($e[] | select(.ph | IN("s", "t", "f")) | . as $f
    | select([$e[] | select(.ph == "X" and .pid == $f.pid and .tid == $f.tid and (.ts | ns) <= ($f.ts | ns) and ($f.ts | ns) < (.ts + .dur | ns))]
        | length != 1) | "in no slice: \(.)"),
  ([$e[] | select(.ph == "X") | [.pid, .tid]] | unique[] | . as $t
    | select([$e[] | select(.ph == "M" and .name == "thread_name" and [.pid, .tid] == $t)] | length != 1) | "no name: \($t)"),
  ([$e[] | select(.ph == "X") | .pid] | unique[] | . as $p
    | select([$e[] | select(.ph == "M" and .name == "process_name" and .pid == $p)] | length != 1) | "no name: \($p)")'
trace() { jq -r "$wrong" "$1"; }

run moe-stat --trace "$T/trace.json" "$north" "$south"
is "$status" 0 '--trace exits 0'
like "$err" '13 operations of 2 ranks, 4 collectives and messages linked' 'and says what is there'
none "$(trace "$T/trace.json")" 'a trace that keeps the rules'
is "$(jq -c '[.traceEvents[] | select(.name == "process_name") | .args.name]' "$T/trace.json")" '["rank 0, north","rank 1, south"]' 'ranks are processes'
is "$(jq -c '[.traceEvents[] | select(.name == "thread_name" and .pid == 0) | .args.name]' "$T/trace.json")" '["steps","compute","out"]' 'streams are threads'
is "$(jq -c '[.traceEvents[] | select(.name == "matmul") | [.pid, .ts, .dur]]' "$T/trace.json")" \
    '[[0,100000,10000],[0,130000,0.001],[0,200000,10000],[1,136000,4000],[1,200000,20000]]' "times are of one clock: the files' own is taken into account"
is "$(jq -c '[.traceEvents[] | select(.ph == "s") | [.name, .pid]]' "$T/trace.json")" \
    '[["collective",0],["collective",0],["message",0],["collective",0]]' 'an arrow begins at who came first, or sends'
is "$(jq -c '[.traceEvents[] | select(.op == "receive" or .name == "receive") | .args]' "$T/trace.json")" \
    '[{"step":1,"group":"pp","ranks":"0>1","bytes":3072}]' 'and who took part is told'
# The rules find what is wrong.
for edit in '(.traceEvents[] | select(.ph == "X") | .dur) += 1' '(.traceEvents[] | select(.ph == "f") | .ts) -= 100000' \
    'del(.traceEvents[] | select(.ph == "s"))' 'del(.traceEvents[] | select(.name == "thread_name"))'; do
    jq "$edit * 1000" "$T/trace.json" >"$T/bad.json" 2>/dev/null || jq "$edit" "$T/trace.json" >"$T/bad.json"
    [ -n "$(trace "$T/bad.json")" ]
    ok $? "the rules find: $edit"
done
is "$(moe-stat -q --trace - --steps 2 "$north" "$south" | jq -c '[.traceEvents[] | .args.step // empty] | unique')" '[2]' '--steps'
run moe-stat --trace "$T/none.json" --steps 7-9 "$north"
is "$status" 2 'steps that are not there exit 2'
[ ! -e "$T/none.json" ]
ok $? 'and leave no file'
run moe-stat --trace "$T/one.json" "$south"
like "$err" '1 ranks of the run have no timeline here' 'a rank without a timeline is told of'
like "$err" '4 parts of communication are not linked' 'and so are parts without their others'
grep -v '"kind":"[gp]' "$north" >"$T/plain.0"
grep -v '"kind":"[gp]' "$south" >"$T/plain.1"
run moe-stat --trace "$T/plain.json" "$T/plain.0" "$T/plain.1"
like "$err" '1 collectives and messages linked' "where nothing says who is in a group only the world's are linked"
sed 's/1000\.05/1000.25/' "$south" >"$T/late.1"
run moe-stat --trace "$T/late.json" "$north" "$T/late.1"
like "$err" 'clocks differ: .* 0\.195 s before' 'clocks that differ are told of'
none "$(trace "$T/late.json")" 'and the rules are kept'

# ---- timelines that are not as they should be ----
{
    cat "$north"
    printf 'garbage\n{"kind":"op","step":1,"stream":"compute","op":"x","start_s":2,"end_s":1}\n{"kind":"op","step":2,"stream":"com'
} >"$T/cut.0"
run moe-stat --trace "$T/cut.json" "$T/cut.0" "$south"
is "$status" 0 'a timeline that was cut'
like "$err" '3 lines are no records of a timeline' 'what is skipped is told of'
is "$(jq -S . "$T/cut.json")" "$(jq -S . "$T/trace.json")" 'the rest is there'
run moe-stat --trace "$T/x.json" "$north" "$north"
is "$status" 2 'one rank twice exits 2'
sed 's/"ranks":2/"ranks":3/' "$south" >"$T/three.1"
run moe-stat --trace "$T/x.json" "$north" "$T/three.1"
like "$status $err" '^2 .*not of one run' 'so do two runs'
sed 's/"format":1/"format":2/' "$north" >"$T/newer.0"
run moe-stat --trace "$T/x.json" "$T/newer.0"
like "$status $err" "^2 .*newer\.0:1:1: key 'format' is 2" 'and a newer format'
run moe-stat --trace "$T/x.json" "$log"
like "$status $err" '^2 .*is not a timeline' 'and what is none'

# ---- panels ----
need_for_all gnuplot command -v gnuplot
texts() { sed 's/<[^>]*>/\n/g' "$1"; }
run moe-stat --plot "$T/all.svg" "$log" "$north" "$south"
is "$status" 0 'all panels'
texts "$T/all.svg" >"$T/texts"
for wanted in 'toy, 6 steps, 2 ranks' Loss evaluation 'Throughput (MFU 50.0 %)' 'tokens/s' 'Where the time of a step goes (mean over ranks)' 'seconds a step' backward \
    "Imbalance of the experts' loads" 'Load of each expert, over the whole log' 'load / mean of its layer' 'MoE layer' 'Gradient norm, before clipping' \
    'Step 2: what each rank did' computing 'experts (ep)'; do
    grep -qxF "$wanted" "$T/texts" || grep -qF "$(printf '%s' "$wanted" | sed "s/'/\&apos;/")" "$T/texts"
    ok $? "labelled: $wanted"
done
grep -q 'fill *= *.rgb(  0, 114, 178)' "$T/all.svg"
ok $? "in Okabe and Ito's colours"
run moe-stat --plot "$T/two.svg" --panels loss,speed "$log"
unlike "$(texts "$T/two.svg")" 'phase|norm|layer' '--panels chooses'
for rank in 0 1; do
    sed '/"group":"ep"/s/"compute"/"rows"/' "$top/t/data/timeline/rank$rank.jsonl" >"$T/beside$rank"
done
# lanes STEP: below what, and what is in each lane
lanes() {
    moe-stat --plot - --steps "$1" "$T"/beside[01] >"$T/lanes"
    sed -n 's/^Step.*(below: //p' "$T/lanes"
    sed -n 's/^[ 0-9]*|\(.*\)|$/\1/p' "$T/lanes" | tr -d ' ' | tr -s 'a-z#' | tr '\n' ' '
}
is "$(lanes 1)" "what it sent beside; messages to other stages)
#o e p #o e p " 'what goes beside has a lane, and messages another'
is "$(lanes 2)" "what it sent beside)
# e # e " 'which is there where there is some'
run moe-stat --plot "$T/x.svg" --panels schedule "$log"
like "$status $err" "^2 .*nothing to draw the panel 'schedule'" 'a panel without data exits 2'
run moe-stat --plot "$T/x.svg" --panels loss,colours "$log"
like "$status $err" "^2 .*no panel 'colours'; there are loss, speed, " 'and an unknown one, which lists them'
run moe-stat --panels loss "$log"
is "$status" 2 '--panels without --plot exits 2'
sed '/"kind":"start"/d; s/"expert_load":[^d]*"dropped"/"dropped"/; s/"phases":{[^}]*}[^}]*}[^}]*}[^}]*}[^}]*}[^}]*}[^}]*}[^}]*}[^}]*}},//' "$log" >"$T/bare.jsonl"
run moe-stat --plot "$T/bare.svg" "$T/bare.jsonl"
is "$status" 0 'a log that tells less'
unlike "$(texts "$T/bare.svg")" 'phase|Load of each' 'has less panels'
# A log ten times as long gives no larger picture: a point stands for several steps.
for n in 2000 20000; do
    awk -v n=$n 'BEGIN { for (i = 1; i <= n; i++) printf "{\"kind\":\"step\",\"step\":%d,\"loss\":%d,\"tokens\":100,\"time_s\":1}\n", i, i == n ? 7 : 2 + i % 2 }' >"$T/long.jsonl"
    moe-stat --plot "$T/long$n.svg" --panels loss "$T/long.jsonl"
done
size=$(wc -c <"$T/long20000.svg")
[ "$size" -lt $((2 * $(wc -c <"$T/long2000.svg"))) ]
ok $? "a long log is drawn in bounds ($size bytes)"
like "$(texts "$T/long20000.svg")" 'least to most of 20 steps' 'which says what a point is'

mkfifo "$T/fifo"
cat "$log" >"$T/fifo" &
moe-stat --plot "$T/fifo.svg" "$T/fifo"
moe-stat --plot "$T/file.svg" "$log"
cmp -s "$T/fifo.svg" "$T/file.svg"
ok $? 'a log from a pipe is drawn whole'
run moe-stat --plot - "$log" "$north" "$south"
is "$status" 0 'on a terminal'
like "$out" '^toy, 6 steps, 2 ranks' 'with a title'
like "$out" '^ +backward +50\.0 % +#+$' 'phases as bars'
like "$out" '^ +0  \|:::\+\+\+###@@@\|$' 'loads as shades' || diag "$out"
like "$out" '^ +1 \|#+e+\|$' 'ranks as letters' || diag "$out"
unlike "$out" "$(printf '\033')" 'and no colours where it is no terminal'
for format in png svg; do
    is "$(moe-stat --plot -.$format "$log" | head -c 4 | tr -dc 'A-Za-z?<')" "$([ $format = png ] && echo PNG || echo '<?xm')" "--plot -.$format writes to stdout"
done

# ---- the page ----
sed 's/"model":"toy"/"model":"<img onerror=alert(1)>\&\\"'"'"'"/; s/all steps done/<b>done<\/b>/' "$log" >"$T/hostile.jsonl"
grep -q '<img' "$T/hostile.jsonl"
ok $? 'a log with a hostile name'
run moe-stat --html "$T/page.html" "$T/hostile.jsonl" "$north" "$south"
is "$status" 0 '--html exits 0' || diag "$err"
page=$(cat "$T/page.html")
unlike "$page" '<script|<img|<link|<iframe|<object|onerror=[^a]|<b>done' 'nothing in it runs, and text is escaped'
like "$page" '<h1>&lt;img onerror=alert\(1\)&gt;&amp;&quot;&#39;</h1>' 'as it should be'
none "$(grep -oE '(href|src|url)[=(][^ >]*' "$T/page.html" | grep -vE "^href='(#p[0-9]-|data:image/png;base64,)")" 'it fetches nothing'
none "$(grep -oE "\bid=['\"][^'\"]*" "$T/page.html" | tr -d "\"'" | sort | uniq -d)" 'no two things have one name'
none "$(grep -oE "href='#[^']*" "$T/page.html" | sed "s/.*#//" | sort -u | while read -r id; do grep -q "id='$id'" "$T/page.html" || echo "$id"; done)" 'every reference has its target'
none "$(perl -0777 -ne 's/<!DOCTYPE html>|<!--.*?-->//gs; s/<style>.*?<\/style>//s; my @open;
    while (/<(\/?)([a-zA-Z0-9]+)((?:[^<>"\x27]|"[^"]*"|\x27[^\x27]*\x27)*?)(\/?)>/g) {
        next if $4 or $2 eq "meta";
        if (!$1) { push @open, $2 } else { my $was = pop @open // "nothing"; print "$was closed by $2\n" if $was ne $2 }
    }
    print "$_ is open\n" for @open' "$T/page.html")" 'every element is closed'
is "$(grep -c '<svg' "$T/page.html") $(grep -c '<figure' "$T/page.html")" '7 7' 'seven panels'
for wanted in 'prefers-color-scheme:dark' '@media print' 'Where the time of a step goes' 'expert_load_std' '50.00 %'; do
    like "$page" "$wanted" "it has: $wanted"
done
moe-partition -q -m "$top/share/models/qwen3-235b-a22b.json" -n 8192 --ep 16 --tp 4 --pp 2 -o "$T/large" 2>/dev/null
moe-stat -q --html "$T/x.html" --plan "$T/large" "$log"
like "$(cat "$T/x.html")" 'Its text is left out: .*/large: larger than' 'a plan too long for the page is said to be'
rm "$T/x.html"
run moe-stat --html "$T/x.html" "$north"
like "$status $err" '^2 .*--html needs a log' 'a page of timelines alone exits 2'
run moe-stat --html "$T/x.html" -o "$T/y" "$log"
is "$status" 2 'it names its own file'
run env PATH="$bin" "$bin/moe-stat" --html "$T/x.html" "$log"
is "$status" 3 'without gnuplot it exits 3'
[ ! -e "$T/x.html" ]
ok $? 'and leaves no file'
done_testing
