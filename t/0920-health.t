#!/bin/bash
# SPDX-License-Identifier: MIT
# moe-train --health: a machine that is well is said to be so; a rank or a link that is slow is named, and so is a rank that stands still.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/faults.sh"

# health N OPTION…: what N ranks say, with what may be wrong with them in $halt
halt=
health() {
    local n=$1
    shift
    MOEKIT_HALT=$halt run mpi "$n" moe-train --health -q "$@"
}

# ---- one rank ----
health 1 --tolerance 0.95
is "$status $(printf '%s\n' "$out" | sed 's/:.*//' | tr '\n' ' ')" '0 ok   processors ok   memory ok   busy ok   products ok   bandwidth healthy ' 'one rank measures itself'
like "$out" 'products: [0-9.]+ to [0-9.]+ GFLOP/s a rank; nothing to compare it with' 'and says where there is nothing to compare with'
echo '{"device": "cpu", "flops": {"f32": 1e18}, "efficiency": [[1e8, 0.5]], "memory_Bps": 1e6}' >"$T/fast.json"
health 1 -c "$T/fast.json"
is "$status $(printf '%s\n' "$out" | grep -c 'FAIL [^b]')" '1 1' 'a rank that is slower than the cluster file says is not healthy'
like "$out" "FAIL products: rank 0 on '.*': .* GFLOP/s, 0 % of what it should be 5e\+08 \(by the cluster\)" 'which is counted as plans count it'
like "$out" 'ok   bandwidth: .* should be 0\.00085 ' 'for memory too'
if need taskset command -v taskset; then
    taskset -c 0 perl -e '1 while 1' &
    hog=$!
    run taskset -c 0 moe-train --health --json --tolerance 0.2
    kill $hog
    is "$status $(jq -c '[.sick, .busy, .checks.busy.least > 0.2]' <<<"$out")" '1 [[],[0],true]' 'a rank whose processor another program has is not sick: its machine is busy'
fi
moe-partition -q -m moe-7b -n 1 -o "$T/large.plan" 2>/dev/null
health 1 -p "$T/large.plan" --save "$T/none/yet" --tolerance 0.95
like "$out" 'FAIL memory: rank 0 .* \(by the plan\)' 'memory that the plan needs and is not there'
like "$out" '(FAIL|ok  ) disk: .* should be [0-9.]+ \(by the plan\)' 'and the disk that its checkpoint needs'
none "$(ls "$T/none" 2>/dev/null)" 'nothing is made there'

# ---- bad usage ----
for wrong in '-s 3' '-d text' '--dry-run' '--tolerance 1' '-c no-such-cluster'; do
    run moe-train --health $wrong
    is "$status $out" '2 ' "--health $wrong exits 2"
done
run moe-train -p "$T/large.plan" --json --dry-run
is "$status" 2 '--json without --health exits 2'

# ---- several ----
if need mpi command -v mpirun; then
    health 2 --tolerance 0.95 --json
    is "$status" 0 'two ranks are well'
    halt=slow:bench:1
    health 2 --tolerance 0.6
    is "$status $(printf '%s\n' "$out" | tail -n 1 | sed "s/ on '.*//")" '1 not healthy: rank 1' 'a rank that computes slowly is named'
    like "$out" "FAIL products: rank 1 on '.*(by the other ranks)" 'with what it does slowly'
    health 2 --tolerance 0.6 --json -o "$T/report.json"
    is "$status $out" '1 ' '--output has the report'
    if need jq command -v jq; then
        is "$(jq -c '[.kind, .healthy, .ranks, (.hosts | length), [.sick[] | .rank, .local], .sick[0].why, .checks.products.rank]' "$T/report.json")" \
            '["health",false,2,1,[1,1],["products","bandwidth"],1]' 'as JSON too'
    fi
    halt=slow:third:1
    health 2 --tolerance 0.6
    is "$status $(printf '%s\n' "$out" | tail -n 1 | sed "s/ on '.*//")" '1 not healthy: rank 1' 'one that stands still in one of three rounds is named'
    halt=slow:once:1
    health 2 --tolerance 0.85
    is "$status" 0 'one that did once is not' || diag "$out"
    halt=slow:link:1
    echo '{"device": "cpu", "intra_Bps": 1e13}' >"$T/links.json"
    health 2 --tolerance 0.95 -c "$T/links.json"
    like "$out" "FAIL links-inside: ranks 0 on '.*' and 1 on '.*': .* 0 % of what it should be " 'of two ranks it is the link that is slow'
    like "$out" '^not healthy: 1 slow link$' 'and neither of them'
    write_model mix mixtral num_hidden_layers=2
    make_plan four mix --seq 16 --global-batch 8 --tp 2 --ep 2 --dp 2
    for comm in mpi strict; do
        health 4 --tolerance 0.6 -p "$T/four.plan" --comm $comm
        like "$out" "FAIL links: rank 1 on '.*': 2 of its 2 links are slow" "a rank whose links are slow in the plan's groups is named (--comm $comm)"
    done
    halt=
    health 3 -p "$T/four.plan"
    is "$status $out" '2 ' 'a plan for other ranks exits 2'
    for rank in 0 1; do
        halt=stop:health:$rank begin=$SECONDS
        health 3 --timeout 3 --json
        is "$(printf '%s\n' "$out" | sed 's/.*"sick":\[{"rank":\([0-9]*\).*"why":\["lost"\].*/\1/')" "$rank" "rank $rank stands still, and is named"
        [ "$status" -ne 0 ] && [ $((SECONDS - begin)) -le 30 ]
        ok $? "in time (status $status, $((SECONDS - begin)) s)"
    done
fi

# ---- --calibrate ----
for wrong in '--health' '-p plan' '-c local' '--json' '-s 1' '--dry-run'; do
    run moe-train --calibrate $wrong
    is "$status $out" '2 ' "--calibrate $wrong exits 2"
done
run moe-train --calibrate --tolerance 0 -q -o "$T/noise.json"
is "$status $(ls "$T" | grep -c noise)" '3 0' 'where measurements vary too much nothing is written'
like "$err" 'measurements vary too much .*: end what else runs on it' 'and it is said'
if need mpi command -v mpirun; then
    run mpi 2 moe-train --calibrate --tolerance 1000 -q -o "$T/here.json"
    is "$status $out" '0 ' 'two ranks measure this machine'
    run moe-partition -q -m moe-tiny -c "$T/here.json" -n 2 --ep 2 --seq 128 --global-batch 16 -o "$T/here.plan"
    is "$status" 0 'and moe-partition reads it'
    like "$(grep '^predict' "$T/here.plan")" ' step_s=[0-9]' 'and predicts seconds'
    like "$(grep '^machine' "$T/here.plan")" 'device=cpu nodes=1 per_node=2 .*flops_bf16=[1-9][0-9]+ flops_f32=[1-9][0-9]+ intra_Bps=[1-9].* efficiency=[0-9]' \
        'of what was measured'
    if need jq command -v jq; then
        is "$(jq -c '[._measured.products, ._measured.links | length]' "$T/here.json")" '[60,30]' 'all of which is in the file'
        none "$(jq -r '._measured | (.products[][2], .links[][4], .attention[], .memory_Bps) | select(. <= 0)' "$T/here.json")" 'and is some time'
        like "$(jq -c '._residual | [.products, .inside]' "$T/here.json")" '^\[[0-9.e-]+,[0-9.e-]+\]$' 'with the residuals of the fit'
    fi
    # Two hosts, by their names.
    printf '#!/bin/sh\nSLURMD_NODENAME=n$((OMPI_COMM_WORLD_RANK / 2)) exec moe-train "$@"\n' >"$T/named"
    chmod +x "$T/named"
    run mpi 4 "$T/named" --health -q --tolerance 0.95
    like "$out" '^ok   links-across: ' 'ranks on two hosts have links across'
    like "$out" '4 ranks on 2 hosts|not healthy' 'and are counted so'
fi
done_testing
