#!/bin/sh
# SPDX-License-Identifier: MIT
# moe-partition replan: the reference job loses a rank or a host, in both readings. That training goes on from there: t/0605-experts.t.
. "$(dirname "$0")/lib/tap.sh"
need_for_all perl perl -MJSON::PP -e 1

moe-partition -q --strategy ep16-tp4-pp2 -o "$T/A"
moe-partition -q --strategy ep16-tp4-pp2-folded -o "$T/B"
perl -e 'srand(5); print join(" ", map { int(1000 * exp(1.4 * rand())) } 1 .. 64), "\n" for 1 .. 16' >"$T/loads"

# replan NAME OLD OPTION…: $T/NAME, valid
replan() {
    name=$1 old=$2
    shift 2
    run moe-partition replan "$T/$old" -o "$T/$name" "$@"
    is "$status" 0 "$old: $*" || diag "$err"
    moe-plan-check "$T/$name" >"$T/.check"
    ok $? 'the plan is valid' || diag "$(grep FAIL "$T/.check")"
}
says() { like "$out" "$1" "it says: $1"; }
get() { moe-partition emit json "$T/$1" | perl -MJSON::PP -0777 -ne "my \$j = decode_json(\$_); print $2"; }

# ---- one rank of reading A: a part of four experts that is nowhere else ----
replan A.keep A --lost 21 --global-batch auto
says 'lost +rank 21: 1 of 128'
says 'layers 0-1: 4 of 64 are whole on no rank that stays: 20-23'
says 'dense part +whole on ranks that stay'
says 'optimizer .* no other rank has a copy'
says 'tp 4, cp 1, dp 15, pp 2 \(vpp 4\); etp 4, ep 15, edp 1'
says '120 of the 127 that stay, on 16 nodes; each on its node'
says 'idle +ranks 20,22-23,84-87'
says 'rank +20-79 was 24-83'
says 'experts +64 of 64 in every layer, 4 to 5 a rank'
says 'global batch +120 \(was 128\), 8 microbatches of 1; legal: 90 120 150 180'
says 'throughput +[0-9.e+]+ tokens/s of .*, [0-9.]+%'
# every rank is on the node that it was on
is "$(get A.keep 'join ",", map { $_->{node} } @{$j->{ranks}}[0, 19, 20, 79, 80, 119]')" '0,2,3,10,11,15' 'nodes are as they were'
near "$(printf '%s\n' "$out" | sed -nE 's/.*tokens\/s of [^ ]*, ([0-9.]+)%.*/\1/p')" \
    "$(awk -v a="$(get A.keep '$j->{predict}{tokens_per_s}')" -v b="$(get A '$j->{predict}{tokens_per_s}')" 'BEGIN { printf "%.1f", 100 * a / b }')" 1e-6 'what remains is that of the plans'
replan A.drop A --lost 21 --global-batch auto --drop-experts --loads "$T/loads"
says '60 of 64 in every layer, 4 a rank'
says 'shrink DIR OUT --drop-experts 0-1:20-23,2:[0-9,:-]*,4-5:20-23,'
is "$(get A.drop '$j->{model}{experts}')" 60 'the plan is for 60 experts'
is "$(printf '%s\n' "$err" | grep -c 'the least loaded, go too')" 8 'of each layer of the other stage four go that are said'
# the least loaded four of layer 2, from the loads themselves
least=$(sed -n 3p "$T/loads" | tr ' ' '\n' | awk '{ print $1, NR - 1 }' | sort -k1,1n -k2,2nr | head -4 | awk '{ print $2 }' | sort -n | paste -sd, -)
is "$(printf '%s\n' "$err" | sed -nE 's/.*layer 2: experts ([0-9,-]*), .*/\1/p' | perl -pe 's/(\d+)-(\d+)/join ",", $1 .. $2/e')" "$least" 'they are the least loaded'
replan A.same A --lost 21 --global-batch auto --drop-experts
says 'drop-experts 20-23$'
is "$err" '' 'without loads those of the same numbers go in all layers'

# ---- of reading B: another has what it held ----
replan B.keep B --lost 21 --global-batch auto
says 'all have a whole copy on ranks that stay \(edp 4\)'
says 'etp 1, ep 15, edp 4'
says 'faster +ep [0-9]+ would be predicted'
replan B.drop B --lost 21 --global-batch auto --drop-experts
says '60 of 64 in every layer, 4 a rank'

# ---- where the layout as it was has room for its arena, and not for the communicators beside it ----
sed 's/"memory_bytes": [0-9.e]*/"memory_bytes": 5.5e9/' "$top/share/clusters/ref-64g.json" >"$T/tight.json"
moe-partition -q --strategy ep16-tp4-pp2 -c "$T/tight.json" -o "$T/tight"
replan tight.keep tight --lost 21 --global-batch auto
says 'memory +rank 0 needs most, 5\.[0-4][0-9]* GB of 5\.5 GB'

# ---- more, and otherwise said ----
replan host A --lost host:3 --global-batch auto
says 'ranks 24-31: 8 of 128'
says 'dp 14.*'
perl -e 'print "node$_ slots=8\n" for 0 .. 15' >"$T/hosts"
run moe-partition replan "$T/A" --lost host:node3 --hosts "$T/hosts" --global-batch auto
is "$(printf '%s\n' "$out" | head -1)" 'lost          ranks 24-31: 8 of 128' 'a host by its name'
perl -e 'print "node$_\n" x 8 for 0 .. 15' >"$T/ranks.hosts" # as srun hostname has it, a line a rank
run moe-partition replan "$T/A" --lost host:node3 --hosts "$T/ranks.hosts" --global-batch auto
is "$status $err" "2 moe-partition replan: $T/ranks.hosts: ranks 0 and 8 would both be number 0 on host 'node0'" 'a host twice is no list of nodes'
# zeros: what a crash of its host may leave of a log that goes on behind them
printf '{"kind":"start"}\n{"kind":"fault","rank":5}\n\0\0{"kind":"start"}\n{"kind":"step","step":1}\n{"kind":"fault","rank":17,"host":"x"}\n{"kind":"fault","rank":null}\n{"kind":"fau' >"$T/log"
run moe-partition replan "$T/A" --lost "@$T/log" --global-batch auto
is "$(printf '%s\n' "$out" | head -1)" 'lost          rank 17: 1 of 128' 'a log: who was at fault since its last start'
# a report of health: of the plan's ranks, and of others, by the places of both
printf '{"kind": "health", "ranks": 128, "sick": [{"rank": 3, "host": "node0", "local": 3},\n {"rank": 17, "host": "node2"}]}\n' >"$T/health"
run moe-partition replan "$T/A" --lost "@$T/health" --global-batch auto
is "$(printf '%s\n' "$out" | head -1)" 'lost          ranks 3,17: 2 of 128' 'a report of health on the ranks of the plan'
some="\"ranks\": 120, \"hosts\": [$(seq -s, -f '"node%g"' 0 14)], \"sick\""
printf '{"kind": "health", %s: [{"rank": 9, "host": "node2", "local": 1}, {"rank": 0, "host": "node0"}, {"rank": 99, "host": "spare", "local": 0}]}' "$some" >"$T/health"
run moe-partition replan "$T/A" --lost "@$T/health" --hosts "$T/hosts" --new-places "$T/places" --global-batch auto -o "$T/placed"
is "$(printf '%s\n' "$out" | head -1)" 'lost          ranks 0-7,17,120-127: 17 of 128' 'on others: by host and number there, a whole host, and one that it does not tell of'
# of node2 the block 16-19 is out, and of stage 1 blocks that have no partner
is "$(sed -n '1p;4p;5p' "$T/places" | tr '\n' ' ') $(grep -c '^node2 ' "$T/places") $(wc -l <"$T/places")" "node1 0 node1 3 node1 4  4 $(get placed '$j->{world} // scalar @{$j->{ranks}}')" 'where the new ranks are is written'
is "$(grep '^node2 ' "$T/places" | cut -d' ' -f2 | tr '\n' ' ')" '4 5 6 7 ' 'by the numbers that they had'
printf '{"kind": "health", %s: [{"rank": 5, "host": "node2", "local": 1}]}' "\"ranks\": 16, \"hosts\": [$(seq -s, -f '"node%g"' 0 15)], \"sick\"" >"$T/health"
run moe-partition replan "$T/placed" --lost "@$T/health" --places "$T/places" --new-places "$T/places.again" -o "$T/again"
is "$status $out" '0 lost          nothing: the plan stays as it is' 'what is sick and not of the plan loses it nothing'
cmp "$T/again" "$T/placed" && cmp "$T/places.again" "$T/places"
ok $? 'and plan and places are the same'
printf '{"kind": "health", "ranks": 136, "sick": [{"rank": 9, "host": "node2", "local": 1}], "hosts": [%s, "node0"]}' "$(seq -s, -f '"node%g"' 1 16)" >"$T/health"
run moe-partition replan "$T/A" --lost "@$T/health" --hosts "$T/hosts" --new-places "$T/spared" -o "$T/again"
is "$status $out $err" "0 lost          nothing: the plan stays as it is moe-partition replan: host 'node16' takes the place of 'node2'" 'a spare host takes the place of one that is not well'
is "$(sed -n '17,24p' "$T/spared" | tr '\n' ' ')$(grep -c '^node2 ' "$T/spared")" "$(seq -s' ' -f 'node16 %g' 0 7) 0" 'with its ranks'
run moe-partition replan "$T/A" --lost "@$T/health" --new-places "$T/spared" -o "$T/again"
is "$status $(cut -d' ' -f1 "$T/spared" | uniq | tr '\n' ' ')" "0 node1 node0 $(seq -s' ' -f 'node%g' 3 16) " 'without places the plan is put on the hosts that there are, in order'
printf '{"kind": "health", "ranks": 16, "sick": [{"rank": 5, "host": "node2", "local": 5}]}' >"$T/health"
run moe-partition replan "$T/placed" --lost "@$T/health" --places "$T/places" --global-batch auto
is "$(printf '%s\n' "$out" | head -1)" "lost          rank $(($(grep -n '^node2 5' "$T/places" | cut -d: -f1) - 1)): 1 of $(wc -l <"$T/places")" 'a second loss is found by the places after the first'
# in different stages and dp: what is left of both makes one replica
replan two A --lost 0,68 --global-batch auto
says 'dp 15'
says '120 of the 126 that stay'
replan half A --lost 0-63 --global-batch auto
says 'of some pipeline rank on no ranks that stay'
says 'what they hold is cut anew'
replan batch A --lost 21 --global-batch 128
says 'dp 8'
says 'global batch +128, 16 microbatches'
moe-partition -q -m moe-tiny --dp 4 --global-batch 12 -o "$T/small"
replan small.new small --lost 2
says 'global batch +12, 4 microbatches'
says 'throughput +(not known|[0-9])'

# ---- experts that were placed ----
moe-partition -q -m moe-tiny -n 8 --ep 4 --global-batch 8 -o "$T/even"
awk 'BEGIN { for (l = 0; l < 4; l++) for (e = 0; e < 8; e++) printf "%d%s", 900 / (1 + (e * 3 + l) % 8), e < 7 ? " " : "\n" }' >"$T/loads.tiny"
moe-partition place -q "$T/loads.tiny" -p "$T/even" -o "$T/placed.tiny"
ok $? 'experts are placed by loads'
replan placed.same placed.tiny --lost 4-7 --global-batch auto
is "$(grep '^slots' "$T/placed.same") $err" "$(grep '^slots' "$T/placed.tiny") " 'they stay where ep is as it was'
replan placed.less placed.tiny --lost 3,4 --global-batch auto
like "$err" "the plan's placement of experts does not go along: ep is 3, and was 4" 'where it is not, that is said'
replan even.less even --lost 3,4 --global-batch auto
unlike "$err" placement 'and not of a plan that had none'

# ---- refused ----
refused() {
    words=$1
    shift
    run moe-partition replan "$@"
    is "$status $(printf '%s\n' "$err" | wc -l)" '2 1' "refused: $*"
    like "$err" "$words" "it says: $words"
}
refused 'global batch of 128 is not legal with dp 15, .*; 90, 120, 150, 180 would be' "$T/A" --lost 21
refused "not a number within 0 to 127" "$T/A" --lost 128
refused 'no rank of the plan is on node 99' "$T/A" --lost host:99
refused "does not name hosts" "$T/A" --lost host:node3
refused "no rank of the plan is on host 'nobody'" "$T/A" --lost host:nobody --hosts "$T/hosts"
refused 'all 128 ranks are lost' "$T/A" --lost 0-127
refused 'names no rank or host as lost' "$T/A" --lost "@$T/loads"
printf '{"kind":"fault","rank":500}\n{"kind":"end"}\n' >"$T/log"
refused "log: line 1:1:[0-9]+: key 'rank'" "$T/A" --lost "@$T/log"
refused 'report is of 16 ranks, the plan has 128: give --places' "$T/A" --lost "@$T/health"
refused 'has places of 104 ranks, the plan has 128' "$T/A" --lost 1 --places "$T/places"
printf '{"kind": "health", "ranks": 16, "sick": [], "hosts": ["a", "b"]}\n' >"$T/health"
refused 'the plan has 16 nodes, and there are 2 hosts' "$T/A" --lost "@$T/health" --new-places "$T/x"
refused "rank 0: a line is 'HOST NUMBER'" "$T/A" --lost 1 --places "$T/hosts"
refused '[-]-new-places: where ranks are is not known' "$T/A" --lost 1 --new-places "$T/x"
refused '[-]-hosts and --places exclude' "$T/A" --lost 1 --hosts "$T/hosts" --places "$T/places"
refused 'exclude each other' "$T/A" --lost 1 --keep-experts --drop-experts
refused 'goes with --drop-experts' "$T/A" --lost 1 --loads "$T/loads"
refused 'a number of sequences or auto' "$T/A" --lost 1 --global-batch some
refused 'takes --lost' "$T/A"
refused 'none are left|fewer than the 2' "$T/A" --lost 0-63 --drop-experts
printf '1 2\n' >"$T/bad"
refused 'has loads of 1 layers with 2 experts' "$T/A" --lost 1 --drop-experts --loads "$T/bad"
done_testing
