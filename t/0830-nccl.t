#!/bin/bash
# SPDX-License-Identifier: MIT
# Communication nccl, on the emulator's NCCL: layouts on backend cuda train the same model as one rank of backend cpu (figures to 1e-4, weights to
# 1e-3 a tensor), and bitwise the model of communication mpi; what fails is told, with a fault record, and ends the job; seeded faults are noticed.
# MOEKIT_LARGE=1: more layouts, larger ones, and races looked for in all.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/emulated.sh"
need_for_all helpers test -x "$helpers/routing-compare"
export MOEKIT_EMULATOR_DEVICES=8

large=${MOEKIT_LARGE:-}
steps=${large:+4}
steps=${steps:-2}
seq=${large:+16}
micro=${large:+16}
batch="--seq ${seq:-8} --global-batch ${micro:-4}"
recipe="-d $T/text -s $steps --lr 2e-3 --warmup 2 --lr-steps $steps --eps 1e-6 --loads-every 1 --timeout 60"
last=step-$(printf '%08d' "$steps")

write_tokens text 97 2000
write_models num_hidden_layers=2
write_model tiny mixtral num_hidden_layers=1 hidden_size=16 head_dim=8 num_attention_heads=2 num_local_experts=4 intermediate_size=16

# What NCCL moves and what MPI moves is summed alike, beside what is computed and between.
check_mpi() {
    cp "$T/$name.plan" "$T/$name.mpi.plan"
    go "$name.mpi" "$kind" "$ranks" --backend cuda --comm mpi --overlap off || diag "$(head -5 "$T/$name.mpi.err")"
    is "$(figures "$name")" "$(figures "$name.mpi")" "$name: bitwise the figures of communication mpi"
    run moe-ckpt diff "$T/$name/$last" "$T/$name.mpi/$last"
    is "$status" 0 "$name: and bitwise its weights" || diag "$out"
}

check_cuda tp2-ep2 glm 2 nccl --tp 2 --ep 2 --overlap on
check_mpi
[ -n "$large" ] || export MOEKIT_EMULATOR_CHECK=0 # for races; in a second layout below they are looked for again
check_cuda dp2-tp2-etp2-ep2 mix 4 nccl --tp 2 --etp 2 --ep 2 --dp 2 --zero 1 --recompute full --overlap on --bucket-bytes 20000
check_cuda pp2-vpp2-uneven mix 2 nccl --pp 2 --vpp 2 --split 1,0,0,1
check_cuda tp2-ep2-pp2-dp2 glm 8 nccl --tp 2 --ep 2 --pp 2 --dp 2 --overlap on --bucket-bytes 9000
unset MOEKIT_EMULATOR_CHECK
check_cuda pp2-zb-tied tied 2 nccl --pp 2 --schedule zb-h1 --overlap on
if [ -n "$large" ]; then
    check_mpi
    check_cuda tp4-ep4-pp2 glm 8 nccl --tp 4 --ep 4 --pp 2 --recompute selective --overlap on
    check_cuda tp4-kv qwen3 4 nccl --tp 4
    check_cuda ep8 mix 8 nccl --ep 8 --lambda 1.0 --overlap on
    check_cuda dp8-zero0 mix 8 nccl --dp 8 --zero 0 --overlap on --bucket-bytes 20000
    check_cuda etp4 mix 4 nccl --etp 4
    check_cuda tied-all tied 8 nccl --tp 2 --pp 2 --dp 2 --ep 4
    check_mpi
fi

# ---- what fails ----
export MOEKIT_EMULATOR_CHECK=0
short="-d $T/text -s 3 --backend cuda --comm nccl"
make_plan job tiny --seq 4 --global-batch 3 --dp 3 && make_plan one tiny --seq 4 --global-batch 3

# job NAME OPTION…: three ranks, in $T/NAME.log; $status, $err and $seconds
job() {
    job_name=$1
    shift
    local begin=$SECONDS
    # shellcheck disable=SC2086
    run timeout 100 mpirun --oversubscribe --bind-to none -n 3 "${only[@]}" moe-train -p "$T/job.plan" --log "$T/$job_name.log" $short "$@"
    seconds=$((SECONDS - begin))
}
only=()

MOEKIT_EMULATOR_DEVICES=2 job shared
is "$status" 3 'two ranks on a device: status 3'
like "$err" 'ranks 0 and 2 of the 3 on host .* would share device' 'and they are named'
MOEKIT_EMULATOR_NCCL=22105 job old
is "$status" 3 'an old NCCL: status 3'
like "$err" "' is NCCL 2\.21\.5, which is too old: 2\.[0-9]+ or later is needed" 'and it is named, and refused'
mkdir "$T/lib" && ln -s "$top/.build/$build/lib/moekit/moekit-cuda.so" "$T/lib" && : >"$T/lib/libnccl.so.2"
MOEKIT_LIB=$T/lib job none
is "$status" 3 'no NCCL: status 3'
like "$err" 'cannot load NCCL: .*libnccl\.so\.2' 'and it is said'
MOEKIT_LIB=$T/lib run moe-train -p "$T/one.plan" $short -s 1
is "$status" 0 'one rank needs none' || diag "$err"
job cpu --backend cpu
is "$status" 3 'backend cpu: status 3'
like "$err" "communication 'nccl' is for GPUs, and backend 'cpu' computes without" 'and it is said'

# The environment of one rank alone: only=(env-of RANK VARIABLE=VALUE)
cat >"$T/env-of" <<'END'
#!/bin/sh
rank=$1 setting=$2
shift 2
[ "${PMIX_RANK:-}" != "$rank" ] || export "${setting?}"
exec "$@"
END
chmod +x "$T/env-of"

# told NAME REGEX: the log, or a marker beside it, has a fault record that matches
told() {
    like "$(cat "$T/$1.log" "$T/$1.log".fault.* 2>/dev/null | grep '"kind":"fault"')" "$2" "$1: the fault record tells of it"
}

only=("$T/env-of" 1 MOEKIT_EMULATOR_FAIL=nccl:9:6)
job async
is "$status" 3 "an operation goes wrong on rank 1, asynchronously: status 3" || diag "$err"
like "$err" "in group '(dp|ep|edp|world)': NCCL: remote process exited" 'async: NCCL is quoted'
told async '"reported_by":1,.*"collective":"[a-z_]+","group":"(dp|edp|world)","awaited":\[0(,2)?\],"step":[0-9]+'
only=("$T/env-of" 2 MOEKIT_EMULATOR_FAIL=ncclGroupEnd:2:3)
job call
is "$status" 3 'a call of NCCL fails on rank 2: status 3'
told call '"rank":null,"reported_by":2,.*"group":"(dp|edp|world)".*NCCL: internal error: ncclGroupEnd was told to fail'
only=("$T/env-of" 0 MOEKIT_EMULATOR_FAIL=ncclCommSplit:1:5)
job split --timeout 4
is "$status" 3 "a split fails on rank 0: status 3"
told split '"collective":"ncclCommSplit","group":"world"'
only=()

# rank 1 is lost, before it does anything by NCCL, or at the first step
lost() {
    MOEKIT_HALT=$1:1 job "${1%:*}" --timeout 8
    [ "$status" -ne 0 ] && [ "$seconds" -le 60 ]
    ok $? "rank 1, $1: the job ends (status $status, $seconds s)" || diag "$err"
    told "${1%:*}" "$2"
}
lost stop:nccl '"rank":1,.*"collective":"[a-z_]+","group":"(dp|edp)","awaited":\[([02],)?1(,2)?\],"step":1,'
lost kill:step '"rank":1,'

# ---- seeded faults: the emulator finds them, or the result is another ----
make_plan pair tiny --seq 4 --global-batch 2 --tp 2 --ep 2
train pair 2 $short -s 2 || diag "$(cat "$T/pair.err")"
seeded=$(cat "$top"/lib/*/*.c | grep -o 'broken("[a-z-]*")' | cut -d'"' -f2 | sort -u)
unnoticed=
export MOEKIT_EMULATOR_CHECK=1
for fault in $seeded; do
    cp "$T/pair.plan" "$T/$fault.plan"
    MOEKIT_FAULT=$fault train "$fault" 2 $short -s 2 --timeout 10
    status=$?
    [ $status -ne 0 ] || [ "$(figures "$fault")" != "$(figures pair)" ] || unnoticed="$unnoticed $fault"
    diag "$fault: status $status, $(grep -m 1 -E 'emulator: |ncclComm' "$T/$fault.err")"
done
none "$unnoticed" "seeded faults are noticed: $(echo $seeded)"
[ "$(echo "$seeded" | wc -l)" -ge 5 ]
ok $? 'there are some'
done_testing
