# SPDX-License-Identifier: MIT
# For tests that run plans in several layouts and compare. Source after tap.sh. Bash or POSIX sh.
#
#   write_model NAME FAMILY [KEY=VALUE…]   $T/NAME.json: the family's small model below, with these keys changed
#   write_tokens NAME VOCAB COUNT   $T/NAME.bin and .idx: COUNT tokens below VOCAB, with some order to learn
#   make_plan NAME MODEL OPTION…    $T/NAME.plan for $T/MODEL.json
#   mpi N COMMAND…                  runs it on N ranks; one rank is run without a launcher
#   train NAME N OPTION…            moe-train of $T/NAME.plan on N ranks: $T/NAME.log, $T/NAME.err; its exit status
#   figures NAME                    of its log: KIND STEP FIGURE VALUE for losses, gradient norm, loads and tokens; of a repeated step the last
#   deviation A B                   the worst relative difference of those, and where; loads count as text: nan if they differ
#   below X Y                       whether X is a number that is at most Y
#   same_training A B STEP [FIGURES WEIGHTS MARGIN]   whether run A is B but for rounding: figures to 1e-5, weights after STEP to 1e-4, routing (if
#                                   it was dumped to $T/A.routing) but for margins below 1e-6. Sets $said, the worst of each in a line, and $details
#   write_models [KEY=VALUE…]       the models of the kinds below, with these keys changed: mix, glm, grouped, olmoe, qwen, qwen3, tied, one
#   plan_of KIND, run_of KIND       a kind of training is one of these models, or mix with options of the plan or the run that change its numbers;
#                                   $batch is said by the test
#   go NAME KIND RANKS OPTION…      trains the kind under $T/NAME.plan, with the test's $recipe: $T/NAME.log, checkpoints in $T/NAME, $T/NAME.routing
#   reference KIND OPTION…          one rank of it, called ref.KIND, when it is first asked for
#   zero_router OPTION…             $T/one.init, first weights of the kind `one`: all choices tie, so every token goes to expert 0
#   zero_gates FROM TO              copies the step directory $T/FROM, of a Mixtral, to a Hugging Face one whose routers are zero
#   run_measured COMMAND…           run (tap.sh), and $peak: the most MiB that it had in memory. Needs python3
#   distance A B                    root mean square of the differences of the losses; "none" without any
# $helpers is where the test helpers in C are.

helpers=${MOEKIT_T:-${bin%/bin}/t}
OMP_NUM_THREADS=1
OMPI_ALLOW_RUN_AS_ROOT=1
OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMP_NUM_THREADS OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM

# What each family's tiny model adds to the common part. The spread of first weights is five times the usual one, so that routing
# decisions are clear. A value within rounding of clip_qkv has its gradient in one layout and not in another: no value of the runs here
# comes so near to 0.9 (one did to 1.0, and in step 4 routing followed). Two key/value heads make tp 4 hold each twice, 97 tokens make uneven shards.
model_keys() {
    case $1 in
    mixtral) echo 'model_type="mixtral" intermediate_size=48 num_local_experts=8 router_aux_loss_coef=0.01 router_z_loss_coef=0.001' ;;
    glm) echo 'model_type="glm4_moe" intermediate_size=40 moe_intermediate_size=24 n_routed_experts=8 n_shared_experts=1
        first_k_dense_replace=1 n_group=2 topk_group=1 routed_scaling_factor=1.5 norm_topk_prob=true use_qk_norm=true partial_rotary_factor=0.5
        router_aux_loss_coef=0.01 router_z_loss_coef=0.001' ;;
    olmoe) echo 'model_type="olmoe" intermediate_size=40 num_experts=8 num_attention_heads=8 head_dim=6 clip_qkv=0.9 norm_topk_prob=false attention_bias=true
        router_aux_loss_coef=0.01' ;;
    qwen) echo 'model_type="qwen2_moe" intermediate_size=40 moe_intermediate_size=24 shared_expert_intermediate_size=32 num_experts=8
        decoder_sparse_step=2 norm_topk_prob=true num_key_value_heads=4 vocab_size=101 router_aux_loss_coef=0.01' ;;
    qwen3) echo 'model_type="qwen3_moe" moe_intermediate_size=24 num_experts=8 norm_topk_prob=true attention_bias=true router_aux_loss_coef=0.01' ;;
    esac
}

run_measured() {
    run python3 -c 'import resource, subprocess, sys
rc = subprocess.call(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, file=sys.stderr)
sys.exit(rc)' "$@"
    peak=$(printf '%s\n' "$err" | sed -n 's/^peak //p')
}

write_model() {
    model_name=$1
    model_family=$2
    shift 2
    perl -e '
        my %c = (hidden_size => 48, num_hidden_layers => 4, num_attention_heads => 8, num_key_value_heads => 2, head_dim => 8,
                 num_experts_per_tok => 2, vocab_size => 97, max_position_embeddings => 256, rope_theta => "10000.0",
                 rms_norm_eps => "1e-05", hidden_act => "\"silu\"", initializer_range => 0.1, torch_dtype => "\"float32\"");
        for (@ARGV) { my ($k, $v) = split /=/, $_, 2; $c{$k} = $v; }
        print "{\n", join(",\n", map { "  \"$_\": $c{$_}" } sort keys %c), "\n}\n";' \
        -- $(model_keys "$model_family") "$@" >"$T/$model_name.json"
}

# Each token follows from the two before it, three times in four; the others are drawn at random. None stands twice in a row: two of a kind at
# the start of a sequence look alike to every layer, and rounding would choose which of them a full expert drops.
write_tokens() {
    perl -e '
        my ($path, $vocab, $count) = @ARGV;
        my ($x, $a, $b, @t) = (12345, 1, 2);
        sub draw { $x = ($x * 1103515245 + 12345) % 2147483648; return int($x / 65536) % $_[0]; }
        for (1 .. $count) {
            my $c = draw(4) ? (3 * $a + 5 * $b + 7) % $vocab : draw($vocab);
            $c = ($c + 1) % $vocab if $c == $b;
            push @t, $c;
            ($a, $b) = ($b, $c);
        }
        open(my $bin, ">:raw", "$path.bin") or die "$path.bin: $!";
        print $bin pack("v*", @t);
        close($bin) or die;
        open(my $idx, ">:raw", "$path.idx") or die "$path.idx: $!";
        print $idx "MMIDIDX\0\0", pack("Q<CQ<Q<l<q<q<q<", 1, 8, 1, 2, $count, 0, 0, 1);
        close($idx) or die;' "$T/$1" "$2" "$3"
}

make_plan() {
    plan_name=$1
    plan_model=$2
    shift 2
    moe-partition -m "$T/$plan_model.json" -o "$T/$plan_name.plan" "$@" 2>"$T/$plan_name.err" ||
        { diag "moe-partition $*: $(cat "$T/$plan_name.err")"; return 1; }
}

mpi() {
    mpi_ranks=$1
    shift
    if [ "$mpi_ranks" -eq 1 ]; then "$@"; else mpirun --oversubscribe --bind-to none -n "$mpi_ranks" "$@"; fi
}

train() {
    train_name=$1
    train_ranks=$2
    shift 2
    mpi "$train_ranks" moe-train -p "$T/$train_name.plan" --log "$T/$train_name.log" "$@" 2>>"$T/$train_name.err" </dev/null
}

figures() {
    perl -ne '
        next unless /"kind":"(step|eval)"/;
        my $kind = $1;
        my ($step) = /"step":(\d+)/;
        for my $name (qw(loss aux_loss z_loss grad_norm dropped tokens)) {
            $figure{"$kind $step $name"} = $1 if /"$name":([^,}]+)/;
        }
        ($figure{"$kind $step expert_load"} = $1) =~ tr/ //d if /"expert_load":(\[\[.*?\]\])/;
        END { print "$_ $figure{$_}\n" for sort keys %figure }' "$T/$1.log"
}

deviation() {
    figures "$1" >"$T/.a"
    figures "$2" >"$T/.b"
    perl -e '
        my ($a, $b) = map { open(my $f, "<", $_) or die; +{map { /^(.*) (\S+)$/ ? ($1, $2) : () } <$f>} } @ARGV;
        my ($worst, $where) = (0, "");
        for (sort keys %{{%$a, %$b}}) {
            my ($x, $y) = ($a->{$_} // "none", $b->{$_} // "none");
            next if $x eq $y;
            if ("$x$y" =~ /[^-+.e0-9]/) { ($worst, $where) = ("nan", "$_: $x, not $y"); last }
            my $err = abs($x - $y) / (abs($y) || 1);
            ($worst, $where) = ($err, "$_: $x, not $y") if $err > $worst;
        }
        ($worst, $where) = ("nan", "no steps") unless grep { /^step/ } keys %$a;
        printf "%s %s\n", $worst eq "nan" ? "nan" : sprintf("%.1e", $worst), $where;' "$T/.a" "$T/.b"
}

below() {
    awk -v x="$1" -v y="$2" 'BEGIN { exit !(x ~ /^[-+]?[0-9.]+([eE][-+]?[0-9]+)?$/ && x + 0 <= y + 0) }'
}

same_training() {
    st_step=step-$(printf '%08d' "$3")
    st_losses=$(deviation "$1" "$2")
    st_weights=$(moe-ckpt diff --tolerance "${5:-1e-4}" "$T/$1/$st_step" "$T/$2/$st_step" 2>&1)
    st_same=$?
    st_worst=$(printf '%s\n' "$st_weights" | sed -n 's/^#.*worst \([^ ]*\) in .*/\1/p')
    said="losses ${st_losses%% *}, weights ${st_worst:-0}"
    st_routing=
    if [ -e "$T/$1.routing.0" ]; then
        st_routing=$("$helpers/routing-compare" "${6:-1e-6}" "$T/$1.routing" "$T/$2.routing" 2>&1) || st_same=1
        said="$said, $(printf '%s\n' "$st_routing" | grep 'decisions, ')"
    fi
    details="worst figure: $st_losses
worst weights: $(printf '%s\n' "$st_weights" | head -3)
$st_routing"
    [ "$st_same" -eq 0 ] && below "${st_losses%% *}" "${4:-1e-5}"
}

write_models() {
    for wm_model in 'mix mixtral' 'glm glm num_key_value_heads=4 topk_group=2' 'grouped glm' 'olmoe olmoe' 'qwen qwen' 'qwen3 qwen3' \
        'tied mixtral tie_word_embeddings=true num_experts_per_tok=3' 'one mixtral num_experts_per_tok=1'; do
        # shellcheck disable=SC2086
        write_model $wm_model "$@"
    done
}

plan_of() {
    case $1 in
    cap) echo "mix $batch --capacity-factor 1.1" ;;
    pos) echo "mix $batch --capacity-factor 1.0 --drop position" ;;
    micro) echo "mix $batch --micro-batch 2" ;;
    bf16) echo "mix $batch --precision bf16" ;;
    plain | z) echo "mix $batch" ;;
    dozen) echo "mix --seq 32 --global-batch 12" ;; # goes over three
    twelve) echo "glm --seq 32 --global-batch 12" ;;
    *) echo "$1 $batch" ;;
    esac
}
run_of() {
    case $1 in
    glm | grouped | twelve) echo '--bias-rate 0.01' ;;
    plain) echo '--aux-loss 0 --z-loss 0 --clip 0 --weight-decay 0 --lr-schedule cosine' ;;
    z) echo '--aux-loss 0.1 --z-loss 0.09 --clip 0.3 --lr-schedule wsd --decay-steps 5' ;;
    qwen) echo '--eps 1e-5' ;; # what a bias of the keys does to all scores alike has no effect: its gradient is small, the rounding is not
    one) echo "--aux-loss 0 --z-loss 0 --init $T/one.init" ;;
    esac
}

go() {
    go_name=$1
    go_kind=$2
    go_ranks=$3
    shift 3
    # shellcheck disable=SC2046,SC2086
    train "$go_name" "$go_ranks" $recipe $(run_of "$go_kind") --save "$T/$go_name" --dump-routing "$T/$go_name.routing" "$@"
}

reference() {
    reference_kind=$1
    shift
    [ -e "$T/ref.$reference_kind.log" ] && return 0
    # shellcheck disable=SC2046
    make_plan "ref.$reference_kind" $(plan_of "$reference_kind") && go "ref.$reference_kind" "$reference_kind" 1 "$@" ||
        { diag "one rank of $reference_kind: $(cat "$T/ref.$reference_kind.err")"; return 1; }
}

# The weights are those of another run, edited.
zero_router() {
    # shellcheck disable=SC2086
    make_plan one.from one $batch && train one.from 1 -d "$T/text" -s 1 --save "$T/one.from" "$@" && zero_gates one.from/step-00000001 one.init
}

zero_gates() {
    cp -r "$T/$1" "$T/$2" || return 1
    rm -f "$T/$2/manifest.json" "$T/$2/state.json"
    perl -e '
        for my $path (@ARGV) {
            open(my $f, "+<:raw", $path) or die "$path: $!";
            read $f, my $size, 8;
            read $f, my $head, unpack("Q<", $size);
            while ($head =~ /"[^"]*\.block_sparse_moe\.gate\.weight":\{[^}]*"data_offsets":\[(\d+),(\d+)\]/g) {
                seek $f, 8 + length($head) + $1, 0;
                print $f "\0" x ($2 - $1);
                $n++;
            }
            close $f or die;
        }
        die "no router found\n" unless $n;' "$T/$2"/*.safetensors
}

distance() {
    figures "$1" | sed -n 's/^step \([0-9]*\) loss /\1 /p' >"$T/.a"
    figures "$2" | sed -n 's/^step \([0-9]*\) loss /\1 /p' >"$T/.b"
    join "$T/.a" "$T/.b" | awk '{ sum += ($2 - $3) ^ 2 } END { if (NR) printf "%.2e\n", sqrt(sum / NR); else print "none" }'
}
