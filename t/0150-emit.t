#!/bin/sh
# SPDX-License-Identifier: MIT
# moe-partition emit: a plan in other tools' forms. The JSON is in t/0100-partition.t; t/slurm has the script on a real Slurm.
. "$(dirname "$0")/lib/tap.sh"
need_for_all perl perl -MJSON::PP -e 1
cd "$T" || exit 1

moe-partition --strategy ep16-tp4-pp2 -o a.plan
moe-partition --strategy ep16-tp4-pp2-folded -o b.plan

# ---- slurm: where each rank starts ----
# Ranks 1 and 2 change places, and the plan's second node stays empty: what -m block cannot do.
echo '{"device": "cpu", "nodes": 3, "ranks_per_node": 2, "memory_bytes": 4e9}' >nodes.json
moe-partition -q -m moe-tiny -n 4 -c nodes.json --ep 2 --tp 2 --pp 2 --seq 32 --global-batch 8 -o pairs.plan
sed -E '/^sum/d; s/^rank ([13]) node=[01]/rank \1 node=2/; s/^rank 2 node=1/rank 2 node=0/' pairs.plan >crossed.plan
moe-plan-check --seal crossed.plan
ok $? 'a plan whose ranks do not lie in order'
mkdir stubs
printf '#!/bin/sh\necho h7; echo h9\n' >stubs/scontrol
printf '#!/bin/sh\necho "$*"; cat "$SLURM_HOSTFILE"\nexit 75\n' >stubs/srun
chmod +x stubs/*
for p in crossed a b; do
    moe-partition emit slurm $p.plan -o $p.sbatch && sh -n $p.sbatch
    ok $? "emit slurm of $p is a script"
done
mkdir tmp
job() { TMPDIR=$T/tmp PATH=$T/stubs:$PATH SLURM_JOB_NODELIST=x sh "$@"; }
run job crossed.sbatch moe-train -p 'a plan'
is "$status $(echo "$out" | tr '\n' ' ')" '75 --mpi=pmix -n 4 -m arbitrary --kill-on-bad-exit=0 --wait=0 moe-train -p a plan h7 h9 h7 h9 ' \
    'it starts each rank on its host, and keeps the status'
like "$(grep '^#SBATCH' crossed.sbatch)" '--nodes=2 --ntasks-per-node=2$' 'and asks for as many hosts as have ranks'
is "$(ls tmp)" '' 'the host file goes'
like "$(cat a.sbatch)" 'gpus-per-node=8' 'GPUs are asked for where the cluster has them'
unlike "$(cat crossed.sbatch)" gpus 'and not elsewhere'
run job crossed.sbatch
is "$status $out" '2 ' 'without a command it exits 2'
sed -n 's/^rank [0-9]* node=\([0-9]*\).*/\1/p' a.plan >wanted
(eval "$(sed -n '/^places=/,/^SLURM_HOSTFILE/p' a.sbatch | sed '$d')"; for place in $places; do echo "$place"; done) | awk -F'*' '{ for (i = 0; i < $2; i++) print $1 }' | cmp - wanted
ok $? 'all 128 ranks are on their nodes'
if need shellcheck command -v shellcheck; then
    is "$(shellcheck -s sh crossed.sbatch a.sbatch)" '' 'shellcheck finds nothing in it'
fi
sed 's/"nodes"/"name": "two\\nlines\\nrm -rf x", "nodes"/' nodes.json >lines.json
moe-partition -q -m moe-tiny -n 4 -c lines.json | moe-partition emit slurm - >lines.sbatch
is "$(grep -c '^rm' lines.sbatch), $(grep -c 'two?lines?rm' lines.sbatch)" '0, 1' 'a name cannot become a command'

# ---- rankfile ----
moe-partition emit rankfile crossed.plan >ranks
is "$(grep -v '^#' ranks | tr '\n' ' ')" 'rank 0=+n0 slot=0:* rank 1=+n1 slot=0:* rank 2=+n0 slot=0:* rank 3=+n1 slot=0:* ' 'emit rankfile'
if need mpirun mpirun --version; then
    sed "s/+n[01]/$(hostname)/" ranks >here
    run env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -n 4 --rankfile here sh -c 'echo $OMPI_COMM_WORLD_RANK'
    is "$status $(echo "$out" | sort | tr '\n' ' ')" '0 0 1 2 3 ' 'which mpirun takes'
fi

# ---- trainers: their groups are the plan's ----
# Each tool's rule restated, from what is emitted alone, against the plan's own list.
cat >groups.pl <<'END'
use JSON::PP; use strict;
my ($form, $emitted, $plan) = @ARGV;
sub slurp { open my $f, '<', $_[0] or die; local $/; <$f> }
my $p = decode_json(slurp($plan));
my $text = slurp($emitted);
my %o = map { /^--(?:parallelism\.)?(\S+)(?: (\S+))?$/ ? ($1, $2) : () } split /\n/, $text;
my $world = $p->{world};
my %have;
# Groups over the axes in %$in, each [name, size], the first varying fastest (Megatron: RankGenerator.get_ranks).
sub cut {
    my ($in, @axes) = @_;
    my $stride = 1;
    my (@inner, @outer);
    for (@axes) { my ($n, $size) = @$_; push @{$in->{$n} ? \@inner : \@outer}, [$size, $stride]; $stride *= $size }
    die "$stride is not $world" unless $stride == $world;
    my $place = sub { my ($i, @dims) = @_; my $r = 0; for (@dims) { $r += $i % $_->[0] * $_->[1]; $i = int($i / $_->[0]) } $r };
    my $size = 1; $size *= $_->[0] for @inner;
    return [map { my $g = $_; [map { $place->($g, @outer) + $place->($_, @inner) } 0 .. $size - 1] } 0 .. $world / $size - 1];
}
if ($form eq 'megatron') {
    my ($tp, $cp, $pp) = @o{qw(tensor-model-parallel-size context-parallel-size pipeline-model-parallel-size)};
    my ($ep, $etp) = ($o{'expert-model-parallel-size'} // 1, $o{'expert-tensor-parallel-size'} // $tp);
    my ($dp, $edp) = ($world / ($tp * $cp * $pp), $world / ($etp * $ep * $pp));
    my @order = exists $o{'use-tp-pp-dp-mapping'} ? qw(tp cp ep pp dp) : qw(tp cp ep dp pp);
    my %dense = (tp => $tp, cp => $cp, ep => 1, dp => $dp, pp => $pp), my %expert = (tp => $etp, cp => 1, ep => $ep, dp => $edp, pp => $pp);
    my @dense = map { [$_, $dense{$_}] } @order; my @expert = map { [$_, $expert{$_}] } @order;
    %have = (tp => cut({tp => 1}, @dense), cp => cut({cp => 1}, @dense), dp => cut({dp => 1}, @dense), pp => cut({pp => 1}, @dense),
        ep => cut({ep => 1}, @expert), etp => cut({tp => 1}, @expert), edp => cut({dp => 1}, @expert));
} elsif ($form eq 'torchtitan') { # meshes are given slowest first
    my ($dp, $tp, $cp, $pp) = @o{qw(data_parallel_shard_degree tensor_parallel_degree context_parallel_degree pipeline_parallel_degree)};
    my ($ep, $etp) = ($o{expert_parallel_degree} // 1, $o{expert_tensor_parallel_degree} // 1);
    my @dense = reverse(['pp', $pp], ['dp', $dp], ['cp', $cp], ['tp', $tp]);
    my @sparse = reverse(['pp', $pp], ['efsdp', $dp * $cp * $tp / ($ep * $etp)], ['ep', $ep], ['etp', $etp]);
    %have = (tp => cut({tp => 1}, @dense), cp => cut({cp => 1}, @dense), dp => cut({dp => 1}, @dense), pp => cut({pp => 1}, @dense),
        ep => cut({ep => 1}, @sparse), etp => cut({etp => 1}, @sparse), edp => cut({efsdp => 1}, @sparse));
} else { # deepspeed/utils/groups.py: _get_expert_parallel_ranks, _create_expert_and_data_parallel
    my $c = decode_json($text);
    my ($tp, $pp) = map { scalar @{$c->{'#groups'}{$_}[0]} } qw(tp pp);
    my ($ep, $stage) = ($c->{'#moe'}{ep_size}, $world / $pp);
    my @dp = map { my $s = $_ * $stage; map { my $i = $_; [map { $s + $i + $tp * $_ } 0 .. $stage / $tp - 1] } 0 .. $tp - 1 } 0 .. $pp - 1;
    my (@ep, @edp);
    if ($c->{'#moe'}{enable_expert_tensor_parallelism}) {
        for my $d (@dp) {
            my @part = map { [@$d[$_ * $ep .. $_ * $ep + $ep - 1]] } 0 .. @$d / $ep - 1;
            push @ep, @part;
            push @edp, map { my $i = $_; [map { $_->[$i] } @part] } 0 .. $ep - 1;
        }
    } else {
        @ep = map { [$_ * $ep .. $_ * $ep + $ep - 1] } 0 .. $world / $ep - 1;
        @edp = map { my $s = $_ * $stage; map { my $i = $_; [map { $s + $i + $ep * $_ } 0 .. $stage / $ep - 1] } 0 .. $ep - 1 } 0 .. $pp - 1;
    }
    %have = (dp => \@dp, ep => \@ep, edp => \@edp, tp => $c->{'#groups'}{tp}, pp => $c->{'#groups'}{pp});
    for (qw(tp dp pp ep edp)) { print "$_ is not what #groups has\n" unless encode_json($have{$_}) eq encode_json($c->{'#groups'}{$_}) || $_ =~ /tp|pp/ || same($have{$_}, $c->{'#groups'}{$_}) }
    print "batch\n" unless $c->{train_batch_size} == $c->{train_micro_batch_size_per_gpu} * $c->{gradient_accumulation_steps} * @{$dp[0]};
}
sub same { my ($x, $y) = map { join ';', sort map { join ',', @$_ } @$_ } @_; $x eq $y }
for (sort keys %have) {
    print "$_: ", encode_json($have{$_}), ' not ', encode_json($p->{groups}{$_}), "\n" unless same($have{$_}, $p->{groups}{$_}) || (@{$p->{groups}{$_}} == 0 && @{$have{$_}[0]} == 1);
}
END
small='-q -m moe-7b -c ref-64g -n 16'
n=0
while read -r forms options; do
    n=$((n + 1))
    # shellcheck disable=SC2086
    moe-partition $small $options -o $n.plan && moe-partition emit json $n.plan -o $n.json || fail "a plan of $options"
    for form in $(echo "$forms" | tr , ' '); do
        moe-partition emit $form $n.plan -o $n.$form
        none "$(perl groups.pl $form $n.$form $n.json 2>&1)" "$form forms the groups of $options"
    done
done <<'END'
megatron,torchtitan,deepspeed --tp 2 --pp 2 --ep 4
megatron,torchtitan,deepspeed --tp 2 --pp 2 --ep 4 --etp 2
megatron,torchtitan,deepspeed --tp 1 --ep 8
megatron,torchtitan,deepspeed --tp 4 --ep 4 --etp 4 --capacity-factor 1.2
megatron,torchtitan --tp 2 --cp 2 --ep 4 --pp 2
megatron --tp 2 --cp 2 --ep 2 --etp 4
megatron --tp 4 --pp 2 --ep 4 --order tp-cp-ep-pp-dp
megatron --tp 4 --etp 2 --ep 2 --pp 2 --split 7,9
END
for form in megatron torchtitan deepspeed; do
    for p in a b; do
        moe-partition emit json $p.plan -o $p.json
        moe-partition emit $form $p.plan -o $p.$form
        none "$(perl groups.pl $form $p.$form $p.json 2>&1)" "$form forms the groups of the guide's plan in reading $p"
    done
done
like "$(cat 8.megatron)" "^--pipeline-model-parallel-layout Et{7}\|t{9}L$" 'an uneven split is a layout'
like "$(cat 7.megatron)" '^--use-tp-pp-dp-mapping$' 'the other order is named'
like "$(cat 4.megatron)" '^# Capacity counts' 'what is done differently is said'
like "$(cat a.megatron)" '^--expert-tensor-parallel-size 4$' 'etp is always named'

emitted() { moe-partition -q -c h100 -n 8 --ep 8 "$@" 2>/dev/null | moe-partition emit megatron -; }
like "$(emitted -m moonlight-16b-a3b --overlap on)" '^--moe-shared-expert-overlap$' 'rows beside the shared expert are named'
unlike "$(emitted -m moonlight-16b-a3b)$(emitted -m qwen3-30b-a3b --overlap on)" 'shared-expert-overlap|overlap-moe-expert' 'and not without overlap or such an expert'
like "$(emitted -m qwen3-30b-a3b --overlap on)" '^# Nothing hides the rows of experts' 'which is said'

# ---- and their arguments are there, in the sources that the headers name ----
for m in $(ls "$top/share/models" | sed 's/\.json$//'); do
    for o in '' '--precision fp8 --ep 4 --zero 3 --recompute full --overlap on --dispatcher deepep --grad-dtype bf16 --moment-dtype bf16' \
        '--tp 2 --zero 2 --recompute selective --dispatcher hybridep --capacity-factor 2 --drop position'; do
        for form in megatron torchtitan; do
            # shellcheck disable=SC2086
            moe-partition -q -m $m -c h100 -n 8 --pp 2 $o 2>/dev/null | moe-partition emit $form - || echo "--$form-$m"
        done
    done
done | sed -n 's/^--\([^ ]*\).*/\1/p' | sort -u >used
grep '^[a-z]' "$top/t/data/trainer-arguments" | sort >known
[ "$(grep -c . used)" -gt 60 ]
ok $? 'arguments are emitted'
none "$(comm -23 used known)" 'all are known'

# ---- what cannot be had ----
no() {
    form=$1 words=$2
    shift 2
    # shellcheck disable=SC2086
    moe-partition $small "$@" -o no.plan
    run moe-partition emit $form no.plan
    like "$status $out$err" "^2 moe-partition emit: $words" "$form: refused: $*"
}
no megatron 'Megatron-LM orders ranks as .*, the plan as dp-ep-cp-pp-tp' --tp 2 --ep 4 --order dp-ep-cp-pp-tp
no torchtitan 'torchtitan has etp 1 or tp, 4, not 2' --tp 4 --etp 2 --ep 2
no torchtitan "torchtitan's expert groups .* ep 2 is no multiple of 4" --tp 4 --ep 2
no deepspeed 'DeepSpeed has no groups of context parallelism: .* cp 2' --cp 2 --ep 2
no deepspeed "DeepSpeed's pipeline takes ZeRO 0 or 1: the memory of zero 3" --pp 2 --zero 3
no deepspeed 'DeepSpeed has etp 1 or tp, 4, not 2' --tp 4 --etp 2 --ep 2
sed '/^sum/d; /^axes/s/ tp=2/ tp=1048575/' 1.plan >broken.plan
for form in megatron torchtitan deepspeed; do
    run moe-partition emit $form broken.plan
    like "$status $out$(echo "$err" | tail -n 1)" '^2 moe-partition emit: .*rule ' "$form: a plan whose axes make no sense"
done
done_testing
