# SPDX-License-Identifier: MIT
# Part of t/gpu/run: the cuda backend trains what the cpu backend does. Bash; after t/lib/layouts.sh.
#
# One rank on the processor is the reference: losses within 1e-4 of it in f32, weights within 1e-3, the same routing but for margins below 1e-5. In
# bf16, where the order of sums shows, losses may be twice as far from one f32 rank as one bf16 rank on the processor is.

gpu_ready=
gpu_models() {
    [ -z "$gpu_ready" ] || return 0
    gpu_ready=1
    if [ -n "$small" ]; then
        gpu_steps=2 gpu_batch='--seq 8 --global-batch 4'
        write_model gpu mixtral num_hidden_layers=2 hidden_size=32 num_attention_heads=4 intermediate_size=16 num_experts_per_tok=2
    else
        gpu_steps=6 gpu_batch='--seq 128 --global-batch 8'
        write_model gpu mixtral hidden_size=256 num_attention_heads=4 head_dim=64 intermediate_size=192
    fi
    write_tokens text 97 20000
    gpu_recipe="-d $T/text -s $gpu_steps --lr 2e-3 --warmup 3 --eps 1e-6 --loads-every 1"
}

# gpu_run NAME RANKS PRECISION BACKEND PLAN-OPTION…
gpu_run() {
    gr_name=$1 gr_ranks=$2 gr_precision=$3 gr_backend=$4
    shift 4
    gr_save=''
    gr_comm=$([ "$gr_ranks" -eq 1 ] || echo '--comm mpi') # said: they share the device
    [ "$gr_precision" = bf16 ] || gr_save="--save $T/$gr_name --dump-routing $T/$gr_name.routing"
    # shellcheck disable=SC2086
    make_plan "$gr_name" gpu $gpu_batch --precision "$gr_precision" "$@" &&
        within $((limit[train] / 2)) "${BASH:-bash}" -c '. "$1"; shift; diag() { :; }; train "$@"' - "$top/t/lib/layouts.sh" "$gr_name" "$gr_ranks" $gpu_recipe $gr_save $gr_comm --backend "$gr_backend"
}

gpu_reference() { # PRECISION
    [ -e "$T/cpu.$1.log" ] || gpu_run "cpu.$1" 1 "$1" cpu
}

# gpu_layout NAME RANKS PRECISION PLAN-OPTION…
gpu_layout() {
    gl_name=$1-$3 gl_ranks=$2 gl_precision=$3 gl_check="$1, $3, $2 rank$([ "$2" -eq 1 ] || echo s)"
    shift 3
    if [ $((ends - SECONDS)) -le 2 ]; then result skipped train "$gl_check" "$passed"; return; fi
    if [ "$gl_ranks" -gt 1 ] && ! has mpirun; then result skipped train "$gl_check" 'no mpirun here'; return; fi
    gpu_reference f32 && gpu_reference "$gl_precision" || { result FAIL train "$gl_check" "the reference: $(tail -n 1 "$T/cpu.$gl_precision.err")"; return; }
    gpu_run "$gl_name" "$gl_ranks" "$gl_precision" "$backend" "$@"
    gl_status=$?
    if [ $gl_status -ne 0 ]; then broken train "$gl_check" $gl_status "$T/$gl_name.err"; return; fi
    if [ "$gl_precision" = f32 ]; then
        same_training "$gl_name" cpu.f32 "$gpu_steps" 1e-4 1e-3 1e-5
        gl_same=$?
        result "$(verdict $gl_same)" train "$gl_check" "$said"
        [ $gl_same -eq 0 ] || diag "$details"
    else
        gl_far=$(distance "$gl_name" cpu.f32) gl_spread=$(distance cpu.bf16 cpu.f32)
        below "$gl_far" "$(awk -v x="$gl_spread" 'BEGIN { print 2 * x }')"
        result "$(verdict $?)" train "$gl_check" "losses $gl_far rms from one f32 rank; the processor's bf16 is $gl_spread"
    fi
}

# gpu_captured PRECISION [RANKS PLAN-OPTION…]: microbatches queued as graphs are bitwise those queued operation by operation
gpu_captured() {
    gc_ranks=${2:-1} gc_name=captured.$1.${2:-1} gc_check="as graphs, $1, ${2:-1} rank$([ "${2:-1}" -eq 1 ] || echo "s, ${*:3}")" gc_ms=''
    gc_comm=$([ "$gc_ranks" -eq 1 ] || echo '--comm nccl')
    if [ "$backend" != cuda ]; then result skipped "$part" "$gc_check" "backend $backend has no graphs"; return; fi
    # shellcheck disable=SC2086
    make_plan "$gc_name" gpu $gpu_batch --precision "$1" "${@:3}" || { result FAIL "$part" "$gc_check" "$(tail -n 1 "$T/$gc_name.err")"; return; }
    for gc_way in on off; do
        # shellcheck disable=SC2086
        within_ranks $((limit[train] / 2)) $gc_ranks moe-train -p "$T/$gc_name.plan" --log "$T/$gc_name.$gc_way.log" $gpu_recipe --capture $gc_way \
            --backend "$backend" $gc_comm >/dev/null 2>"$T/$gc_name.err"
        gc_status=$?
        if [ $gc_status -ne 0 ]; then broken "$part" "$gc_check" $gc_status "$T/$gc_name.err"; return; fi
        gc_ms="$gc_ms, $(sed -n 's/.*"kind":"step".*"time_s":\([^,]*\).*/\1/p' "$T/$gc_name.$gc_way.log" | tail -n 1) s a step with it $gc_way"
    done
    gc_graphs=$(sed -n 's/.*"graphs":\([0-9]*\).*/\1/p' "$T/$gc_name.on.log" | tail -n 1)
    [ "${gc_graphs:-0}" -gt 0 ] && [ "$(figures "$gc_name.on")" = "$(figures "$gc_name.off")" ]
    result "$(verdict $?)" "$part" "$gc_check" "${gc_graphs:-no} graphs in the last step$gc_ms"
}

part_train() {
    gpu_models
    gpu_layout one 1 f32
    gpu_captured f32
    gpu_layout ep2 2 f32 --ep 2
    gpu_layout one 1 bf16
    gpu_captured bf16
    if [ -n "$small" ]; then return; fi
    gpu_layout dp2 2 f32 --dp 2
    gpu_layout tp2 2 f32 --tp 2
    gpu_layout pp2 2 f32 --pp 2
    gpu_layout etp2 2 f32 --etp 2
    gpu_layout pp2-vpp2-ep2 4 f32 --pp 2 --vpp 2 --ep 2
    gpu_layout ep2-tp2-pp2 4 f32 --ep 2 --tp 2 --pp 2 --schedule zb-h1
    gpu_layout dp2-tp2-etp2-ep2 4 f32 --tp 2 --etp 2 --ep 2 --dp 2 --recompute full
    gpu_layout ep2 2 bf16 --ep 2
    gpu_layout ep2-tp2-pp2 4 bf16 --ep 2 --tp 2 --pp 2
}

# gpu_resume FIRST SECOND: half the steps on one backend, the rest on the other, and the processor's run of all
gpu_resume() {
    gs_name=resume.$1.$2 gs_half=$((gpu_steps / 2))
    # shellcheck disable=SC2086
    make_plan "$gs_name" gpu $gpu_batch --precision f32 &&
        within "${limit[resume]}" moe-train -p "$T/$gs_name.plan" --log "$T/$gs_name.log" $gpu_recipe -s $gs_half --lr-steps "$gpu_steps" --save "$T/$gs_name" \
            --save-every $gs_half --backend "$1" >/dev/null 2>"$T/$gs_name.err" &&
        within "${limit[resume]}" moe-train -p "$T/$gs_name.plan" --log "$T/$gs_name.log" $gpu_recipe --save "$T/$gs_name" --resume "$T/$gs_name" \
            --backend "$2" >/dev/null 2>>"$T/$gs_name.err"
    gs_status=$?
    if [ $gs_status -ne 0 ]; then broken resume "saved on $1, resumed on $2" $gs_status "$T/$gs_name.err"; return; fi
    same_training "$gs_name" cpu.f32 "$gpu_steps" 1e-4 1e-3 1e-5
    gs_same=$?
    result "$(verdict $gs_same)" resume "saved on $1, resumed on $2" "$said"
    [ $gs_same -eq 0 ] || diag "$details"
}

part_resume() {
    gpu_models
    gpu_reference f32 || { result FAIL resume 'the reference' "$(tail -n 1 "$T/cpu.f32.err")"; return; }
    gpu_resume "$backend" cpu
    gpu_resume cpu "$backend"
}
