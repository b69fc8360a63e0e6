#!/bin/sh
# SPDX-License-Identifier: MIT
# moe-partition place: DeepSeek's balancer to the letter, what its table says, the plans it writes, what is refused. That they train alike:
# t/0605-experts.t.
. "$(dirname "$0")/lib/tap.sh"
need_for_all perl perl -MJSON::PP -e 1

# ---- without a plan: the vectors ----
# map_of LOADS WANTED OPTION…
map_of() {
    loads=$1 wanted=$2
    shift 2
    is "$(echo "$loads" | moe-partition place - --map "$@")" "$wanted" "$loads ($*)"
}
map_of '90 132 40 61 104 165 39 4 73 56 183 86' '5 6 5 7 8 4 3 4 10 9 10 2 0 1 11 1' --slots 16 --groups 4 --nodes 2 --gpus 8
map_of '90 132 40 61 104 165 39 4 73 56 183 86' '5 6 5 7 8 4 3 4 10 9 10 2 0 1 11 1' --redundant 4 --groups 4 --nodes 2 --gpus 8
map_of '128861 188500' '1 0' --slots 2 --groups 2 --nodes 1 --gpus 2
map_of '798477 193830 228977 235817' '0 3 2 1' --slots 4 --groups 4 --nodes 1 --gpus 4
map_of '5 5 5 5' '0 2 1 3' --slots 4 --gpus 2 # equal loads in their order
printf '# two layers\n1 2 3 4\n\n4 3 2 1 # falling\n' >"$T/two"
is "$(moe-partition place "$T/two" --map --slots 4 --gpus 4 | wc -l)" 2 'a line a layer'
python=${MOEKIT_PYTHON:-$top/.build/oracles/bin/python}
if need torch "$python" -c 'import torch'; then
    is "$("$python" "$top/contrib/oracle/eplb.py" "$bin/moe-partition" 60 7)" '60 of 60' 'as the balancer restated on torch, on random loads'
fi

# ---- on a plan ----
# over PLAN LOADS: the fullest ep rank over the mean of each layer, the mean of them and the worst; computed from the plan alone
over() { moe-partition emit json "$1" | perl -MJSON::PP -e '
    my $e = decode_json(join "", <STDIN>)->{experts};
    open(my $f, "<", $ARGV[0]) or die;
    my (@all, $worst);
    for my $l (0 .. $#{$e->{slots}}) {
        my @load = split " ", <$f>;
        my ($in, $first, %copies, $most, $sum) = ($e->{experts}[$l], $e->{first}[$l]);
        $copies{$_}++ for @$in;
        for my $r (0 .. $#$first - 1) {
            my $has = 0;
            $has += $load[$in->[$_]] / $copies{$in->[$_]} for $first->[$r] .. $first->[$r + 1] - 1;
            $most = $has if !defined $most || $has > $most;
            $sum += $has;
        }
        push @all, $most * $#$first / $sum;
        $worst = $all[-1] if !defined $worst || $all[-1] > $worst;
    }
    my $mean = 0;
    $mean += $_ / @all for @all;
    printf "%.3f %.3f\n", $mean, $worst' "$2"; }
# said ROW: mean and worst in the last table
said() { printf '%s\n' "$out" | sed -nE "s/^[* ] $1 +([0-9.]+) +([0-9.]+) .*/\1 \2/p"; }
perl -e 'srand(5); print join(" ", map { int(1000 * exp(1.4 * rand())) } 1 .. 16), "\n" for 1 .. 16' >"$T/loads"
perl -i -pe 's/$/" " . join(" ", map { int(1000 * exp(1.4 * rand())) } 1 .. 48)/e' "$T/loads"
moe-partition -q --strategy ep16-tp4-pp2 -o "$T/plan"
run moe-partition place "$T/loads" -p "$T/plan" -o "$T/greedy"
is "$status" 0 'place' || diag "$err"
is "$(said 'as it is')" "$(over "$T/plan" "$T/loads")" 'how even the plan is'
is "$(said contiguous)" "$(said 'as it is')" 'which is contiguous'
like "$out" '^\* greedy' 'greedy is chosen'
is "$(said greedy)" "$(over "$T/greedy" "$T/loads")" 'how even the placed plan is'
moe-plan-check "$T/greedy" >"$T/.out"
ok $? 'and it is valid' || diag "$(grep FAIL "$T/.out")"
awk -v a="$(said 'as it is')" -v b="$(said greedy)" 'BEGIN { split(a, x); split(b, y); exit !(y[1] < x[1] && y[2] < x[2]) }'
ok $? 'it is more even'
# 1024 experts of 16 layers: 3·1024·2048 weights of bf16 and states of 12 bytes each, on four etp ranks
moved=$(printf '%s\n' "$out" | awk '$2 == "greedy" { for (i = 3; i <= NF; i++) if ($i == "s") { print $(i + 1); exit } }')
near "$(printf '%s\n' "$out" | sed -nE 's/^\* greedy .* ([0-9.]+) GB .*/\1/p')" "$(awk -v n="$moved" 'BEGIN { printf "%.6g", n * 3 * 1024 * 2048 * 14 / 1e9 }')" 0.06 \
    'the bytes are those of the experts that move'
run moe-partition place "$T/loads" -p "$T/greedy"
is "$(said 'as it is')" "$(said greedy)" 'placed again it is as it is'
like "$out" 'greedy .* 0 +0 B +0 B' 'and nothing moves'
run moe-partition place "$T/loads" -p "$T/plan" --slots 80 -o "$T/rich"
like "$out" '^\* hierarchical' 'with replicas the balancer is chosen'
is "$(said hierarchical)" "$(over "$T/rich" "$T/loads")" 'how even that is'
like "$out" 'replicas would sum .* of gradients a rank and step: 0' 'and what replicas would cost'
moe-plan-check "$T/rich" >"$T/.out"
ok $? 'it is valid'
like "$(cat "$T/.out")" 'experts-divide: \(experts 64 \+ replicas 16\) / ep 16 = 5' 'slots are counted with replicas'
like "$(grep '^warn runnable' "$T/.out")" '16 replicas of experts a layer' 'to plan with'
moe-partition emit json "$T/rich" | perl -MJSON::PP -0777 -ne 'my $e = decode_json($_)->{experts}; exit !(@{$e->{experts}[3]} == 80 && $e->{first}[3][16] == 80 && $e->{per_ep_rank} == 5)'
ok $? 'JSON has the expert in each slot'
moe-partition -q -m moe-7b --ep 15 -c ref-64g -n 15 -o "$T/uneven"
run moe-partition place "$T/loads" -p "$T/uneven" -o "$T/placed"
is "$(said greedy)" "$(over "$T/placed" "$T/loads")" '64 experts over 15 ranks'
like "$out" 'hierarchical +not possible: 64 slots are not divisible by 15 devices; 75 would do' 'which the balancer does not take'
run moe-partition place "$T/loads" -p "$T/plan" -o -
like "$(printf '%s\n' "$out" | head -1)" '^moe-plan 1' 'to standard output the plan alone'

# ---- refused ----
refused() {
    words=$1
    shift
    run moe-partition place "$@"
    is "$status $(printf '%s\n' "$err" | wc -l)" '2 1' "refused: $*"
    like "$err" "$words" "it says: $words"
}
refused 'has loads of 2 layers with 4 experts, and the model 16 with 64' "$T/two" -p "$T/plan"
sed '7s/[0-9][0-9]*$/nan/' "$T/loads" >"$T/bad"
refused 'bad:7:[0-9]+: not a load' "$T/bad" -p "$T/plan"
sed '7s/[0-9][0-9]*/-1/' "$T/loads" >"$T/bad"
refused 'bad:7:1: not a load' "$T/bad" -p "$T/plan"
sed '7s/ [0-9]*$//' "$T/loads" >"$T/bad"
refused 'bad:7: has 63 loads, and the lines before it 64' "$T/bad" -p "$T/plan"
sed '3s/[0-9][0-9]*/0/g' "$T/loads" >"$T/bad"
refused 'loads of MoE layer 2 are all 0' "$T/bad" -p "$T/plan"
: >"$T/bad"
refused 'holds no loads' "$T/bad" --map --gpus 2
refused '67 slots are not divisible by 16 devices; 80 would do' "$T/loads" -p "$T/plan" --redundant 3
refused '60 slots do not hold 64 experts' "$T/loads" --map --gpus 4 --slots 60
refused 'do not divide into 5 groups' "$T/loads" --map --gpus 4 --groups 5
refused 'do not divide over 3 nodes' "$T/loads" --map --gpus 4 --nodes 3
refused 'greedy takes a slot for each' "$T/loads" -p "$T/plan" --slots 80 --by greedy
refused 'give one' "$T/loads" --map --gpus 4 --slots 64 --redundant 1
refused 'takes a plan' "$T/loads"
refused 'takes a plan' "$T/loads" --map
refused 'takes a plan' "$T/loads" -p "$T/plan" --nodes 2
refused 'nonesuch' "$T/nonesuch" -p "$T/plan"
done_testing
