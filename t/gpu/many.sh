# SPDX-License-Identifier: MIT
# Part of t/gpu/run --gpus N: several devices and NCCL. Bash; after t/lib/layouts.sh and train.sh.
#
# What is right is compared with one rank on the processor, as t/gpu/train.sh does, in the layouts of t/lib/layouts.table.
# Speed is of the reference model, less deep.

many_comm=$([ "$backend" = cuda ] && echo nccl || echo mpi)

# ---- layouts ----

many_same() { # NAME KIND: verdict and figures of a layout that ran
    if [ "$2" = bf16 ]; then
        ms_far=$(distance "$1" ref.mix) ms_spread=$(distance ref.bf16 ref.mix)
        below "$ms_far" "$(awk -v x="$ms_spread" 'BEGIN { print 2 * x }')"
        result "$(verdict $?)" layouts "$ms_check" "losses $ms_far rms from one f32 rank; the processor's bf16 is $ms_spread"
        return
    fi
    same_training "$1" "ref.$2" "$steps" 1e-4 1e-3 1e-5
    ms_same=$?
    result "$(verdict $ms_same)" layouts "$ms_check" "$said"
    [ $ms_same -eq 0 ] || diag "$details"
}

many_layout() { # NAME KIND RANKS PLAN-OPTION…
    ms_check="$1, $2, $3 ranks"
    for ms_kind in "$2" mix; do # bf16 is compared with mix too
        reference "$ms_kind" --backend cpu || { result FAIL layouts "$ms_check" "the reference: $(tail -n 1 "$T/ref.$ms_kind.err")"; return; }
        [ "$2" = bf16 ] || break
    done
    # shellcheck disable=SC2046
    make_plan "$1" $(plan_of "$2") "${@:4}" || { result FAIL layouts "$ms_check" "$(tail -n 1 "$T/$1.err")"; return; }
    within $((limit[layouts] / 4)) "${BASH:-bash}" -c '. "$1"; diag() { :; }; go "${@:2}"' - "$top/t/lib/layouts.sh" "$1" "$2" "$3" \
        --backend "$backend" --comm $many_comm
    ms_status=$?
    if [ $ms_status -ne 0 ]; then broken layouts "$ms_check" $ms_status "$T/$1.err"; else many_same "$1" "$2"; fi
    rm -rf "${T:?}/$1" "$T/$1.routing."*
}

part_layouts() {
    steps=6 batch='--seq 32 --global-batch 16' late=0 larger=0
    [ -z "$small" ] || steps=2 batch='--seq 8 --global-batch 4'
    recipe="-d $T/text -s $steps --lr 2e-3 --warmup 3 --eps 1e-6 --loads-every 1 --timeout 60"
    export recipe batch
    write_tokens text 97 20000
    write_models
    zero_router --backend cpu || result FAIL layouts 'a model with a router of zeros'
    gpu_models
    gpu_captured f32 2 --tp 2
    while read -r when name kind ranks also options <&3; do
        case $small:$when:$name in
        *:\#* | ::* | 1::*) continue ;;
        1:*:dp2-tp2-etp2-ep2 | 1:*:bf16-tp2-ep2 | :*) ;;
        *) continue ;; # on the emulator those of t/0830-nccl.t are run
        esac
        if [ "$ranks" -gt "$gpus" ]; then larger=$((larger + 1))
        elif [ $((ends - SECONDS)) -le 2 ]; then late=$((late + 1))
        # shellcheck disable=SC2086
        else many_layout "$name" "$kind" "$ranks" $options
        fi
    done 3<"$top/t/lib/layouts.table"
    [ $late -eq 0 ] || result skipped layouts "$late more" "$passed: t/gpu/run --gpus $gpus layouts"
    [ $larger -eq 0 ] || diag "layouts: $larger of the table need more than $gpus devices"
}

# ---- groups ----

# From the lines of t/gpu/groups: VERDICT, CHECK, FIGURES, a line for each kind of group and operation. Links reach 0.8 of
# their rate where plans are right (LINK_SHARE, lib/cost/links.h).
group_lines() {
    awk -F'\t' '
        $1 == "link" { link = $2; what = $3; next }
        !(($1, $2, $3) in latency) { latency[$1, $2, $3] = sprintf("%.4g us at %d KiB", 1e6 * $5, $4 / 1024) }
        { last[$1, $2, $3] = $0; if (!(($1, $2, $3) in seen)) { seen[$1, $2, $3] = 1; order[++n] = $1 SUBSEP $2 SUBSEP $3 } }
        END {
            for (i = 1; i <= n; i++) {
                split(last[order[i]], f, "\t")
                text = sprintf("%.4g GB/s at %.4g MiB, bus %.4g GB/s", f[6] / 1e9, f[4] / 1048576, f[7] / 1e9)
                verdict = "ok"
                if (link > 0) {
                    text = text sprintf(", %.2f of %.4g GB/s (%s)", f[7] / link, link / 1e9, what)
                    if (f[7] < 0.8 * link) verdict = "short"
                } else text = text ", a link that nobody knows"
                print verdict "\t" f[1] " of " f[2] ": " f[3] "\t" text "; " latency[order[i]]
            }
        }' "$T/groups"
}

measure_groups() { # PLAN
    within_ranks $((limit[groups] / 2)) "$gpus" "$MOEKIT_T/gpu/groups" -b "$backend" -c $many_comm ${small:+-m 65536} "$1" >"$T/groups" 2>"$T/groups.err"
    mg_status=$?
    group_lines >"$T/groups.lines" # also what there is of a measurement that was cut
    while IFS=$'\t' read -r mg_verdict mg_check mg_figures; do
        [ -z "$small" ] || mg_verdict=ok
        result "$mg_verdict" groups "$mg_check" "$mg_figures"
    done <"$T/groups.lines"
    [ $mg_status -eq 0 ] || broken groups "the groups of $(basename "$1")" $mg_status "$T/groups.err"
}

part_groups() {
    if [ -n "$plan" ]; then measure_groups "$plan"; return; fi
    many_model
    # shellcheck disable=SC2086
    if [ "$gpus" -ge 4 ]; then make_plan tp-pp many $many_batch --global-batch $((micro * gpus)) -n "$gpus" --tp 2 --pp 2 && measure_groups "$T/tp-pp.plan"; fi
    # shellcheck disable=SC2086
    if [ -z "$small" ]; then make_plan ep many $many_batch --global-batch $((micro * gpus)) -n "$gpus" --ep "$gpus" && measure_groups "$T/ep.plan"; fi
}

# ---- speed ----

many_model() {
    [ ! -e "$T/many.json" ] || return 0
    if [ -n "$small" ]; then
        mm_model='hidden_size=32 num_attention_heads=2 num_key_value_heads=2 head_dim=16 intermediate_size=16 num_local_experts=4 vocab_size=64'
        seq=8 micro=1 many_steps=2 warmup=1 mm_layers=2 mm_vocabulary=64
    else
        mm_model='hidden_size=1024 num_attention_heads=16 num_key_value_heads=16 head_dim=64 intermediate_size=2048 num_local_experts=64 vocab_size=32768
            max_position_embeddings=2048 initializer_range=0.02'
        seq=2048 micro=4 many_steps=11 warmup=3 mm_layers=4 mm_vocabulary=32768
    fi
    many_batch="--seq $seq --micro-batch $micro --precision bf16"
    # shellcheck disable=SC2086
    write_model many mixtral $mm_model num_hidden_layers=$mm_layers router_aux_loss_coef=0.01
    write_tokens many $mm_vocabulary $((seq * micro * gpus * many_steps + 1))
}

# many_run PART NAME RANKS SEQUENCES RUN-OPTIONS PLAN-OPTION…: sets $stat; what went wrong is in the table
many_run() {
    mr_part=$1 mr_name=$2 mr_ranks=$3 mr_sequences=$4 mr_options=$5
    shift 5
    # shellcheck disable=SC2086
    make_plan "$mr_name" many $many_batch --global-batch "$mr_sequences" -n "$mr_ranks" "$@" ||
        { result FAIL "$mr_part" "$mr_name" "$(tail -n 1 "$T/$mr_name.err")"; return 1; }
    mr_comm=$([ "$mr_ranks" -eq 1 ] || echo "--comm $many_comm")
    # shellcheck disable=SC2086
    within_ranks $((limit[$mr_part] / 3)) "$mr_ranks" moe-train -p "$T/$mr_name.plan" -d "$T/many" -s $many_steps --lr 3e-4 --backend "$backend" $mr_comm \
        $mr_options --log "$T/$mr_name.log" >/dev/null 2>"$T/$mr_name.err"
    mr_status=$?
    if [ $mr_status -ne 0 ]; then broken "$mr_part" "$mr_name" $mr_status "$T/$mr_name.err"; return 1; fi
    stat=$(moe-stat --format json --skip $warmup "$T/$mr_name.log")
}
figure() { printf '%s\n' "$stat" | sed -n "s/.*\"$1\": *\([-0-9.e+]*\).*/\1/p" | head -n 1; }

# exposed NAME PLAN-OPTION…: not as graphs, in which phases are not told apart
exposed() {
    if [ $((ends - SECONDS)) -le 2 ]; then result skipped exposed "$1" "$passed"; return; fi
    many_run exposed "$1" "$gpus" $((micro * gpus)) '--capture off' "${@:2}" || return
    ex_ms=$(awk -v s="$(figure step_s)" 'BEGIN { printf "%.4g", 1e3 * s }') ex_text=''
    for ex_kind in dispatch combine tp pp dp idle; do
        ex_text="$ex_text$(awk -v s="$ex_ms" -v x="$(figure ${ex_kind}_share)" -v k=$ex_kind 'BEGIN { printf "%s %.4g, ", k, s * x }')"
    done
    result "$([ -n "$(figure exposed_share)" ]; verdict $?)" exposed "$1, $gpus ranks" \
        "ms a step: ${ex_text}of $ex_ms; $(figure exposed_share | cut -c1-5) of it in communication that nothing hid"
}

part_exposed() {
    many_model
    if [ -n "$small" ]; then exposed tp2-pp2 --tp 2 --pp 2; return; fi
    ex_pp=$((gpus < 4 ? gpus : 4)) ex_tp=$((gpus < 8 ? gpus : 8))
    exposed "dp$gpus" --dp "$gpus"
    exposed "ep$gpus" --ep "$gpus"
    exposed "tp$ex_tp" --tp $ex_tp
    exposed "pp$ex_pp" --pp $ex_pp
    [ "$gpus" -lt 8 ] || exposed "tp2-pp2-ep$((gpus / 4))" --tp 2 --pp 2 --ep $((gpus / 4))
}

# scale HOW RANKS SEQUENCES: beside one device with the same work, or with a share of it
scale() {
    sc_name=$3-on-$2 sc_check="$1, $2 of $gpus"
    if [ $((ends - SECONDS)) -le 2 ]; then result skipped scaling "$sc_check" "$passed"; return; fi
    if [ ! -e "$T/$sc_name.rate" ]; then
        many_run scaling "$sc_name" "$2" "$3" '' --ep "$2" || return
        figure tokens_per_s_p50 >"$T/$sc_name.rate"
    fi
    sc_rate=$(cat "$T/$sc_name.rate")
    [ "$2" -ne 1 ] || sc_one=$sc_rate
    result "$([ -n "$sc_rate" ]; verdict $?)" scaling "$sc_check" \
        "${sc_rate%.*} tokens/s, $(awk -v a="$sc_rate" -v n="$2" -v b="$sc_one" 'BEGIN { printf "%.3f", b ? a / n / b : 0 }') of $2 times one device's"
}

part_scaling() {
    many_model
    for ((sc_n = 1; sc_n <= gpus; sc_n *= 2)); do scale "the same work for each" $sc_n $((micro * sc_n)); done
    for ((sc_n = 1; sc_n <= gpus; sc_n *= 2)); do
        [ $((gpus % sc_n)) -ne 0 ] || scale "the same work in all" $sc_n $((micro * gpus))
    done
    ((sc_n / 2 == gpus)) || scale "the same work for each" "$gpus" $((micro * gpus))
}
