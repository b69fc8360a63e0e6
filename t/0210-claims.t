#!/bin/sh
# SPDX-License-Identifier: MIT
# moe-plan-check --claims: the strategy guide's list against both readings of its job, each verdict with its arithmetic; what contradicts what, and
# where it would not; measured figures; what is refused. The arithmetic of agreement by itself: t/unit/claims.c.
. "$(dirname "$0")/lib/tap.sh"
need_for_all perl perl -MJSON::PP -e 1
cd "$T" || exit 1
list=$top/share/claims/strategy-guide

moe-partition --strategy ep16-tp4-pp2 -o a.plan
moe-partition --strategy ep16-tp4-pp2-folded -o b.plan
for p in a b; do
    run moe-plan-check --claims "$list" $p.plan
    is "$status $err" '1 ' "reading $p: some claims are refuted"
    printf '%s\n' "$out" >$p.out
    grep -E '^(holds|REFUTED|undecided) ' $p.out >$p.verdicts
    is "$(grep -c . $p.verdicts)" "$(grep -cv '^#\|^$' "$list")" 'every claim has a verdict'
    moe-plan-check --claims strategy-guide --json $p.plan >$p.json
    is "$?" 1 'the list has a name too'
done

# verdict PLAN CLAIM WORD TEXT: and its arithmetic as it is printed
verdict() {
    is "$(grep -F " $2: " "$1.verdicts" | head -n 1)" "$(printf '%-9s %s: %s' "$3" "$2" "$4")" "$1: $2"
}
both() { for plan in a b; do verdict $plan "$@"; done; }
verdict a 'experts_per_rank = 4' holds '4: 64 experts / ep 16; of each 1/4, by etp'
verdict b 'experts_per_rank = 4' holds '4: 64 experts / ep 16; of each 1/1, by etp'
both 'hidden_per_rank = 256' holds '256: hidden 1024 / tp 4, of what tp cuts'
both 'layers_per_stage = 8' holds '8: 16 layers / pp 2, in 4 virtual stages each'
verdict a 'group/ep/0 = 0-15' REFUTED "group ep 0 is $(seq -s, 0 4 60)"
verdict b 'group/ep/0 = 0-15' holds 'group ep 0 is 0-15'
both 'group/tp/i = 4i-4i+3' holds 'all 32 groups tp are, from 0-3'
both 'group/pp/i = i,i+64' holds 'all 64 groups pp are, from 0,64'
both 'expert_capacity/1.2 = 38' REFUTED '77: ceil(2048 tokens * top-2 / 64 experts * 1.2)'
both 'plan/training/recompute = selective|full' REFUTED 'training recompute of the plan is none'
both 'bubble < 5%' holds '3.03%: interleaved of 2 stages in chunks, 8 microbatches: (2-1)/(32+2-1) by its formula'
both 'overlap >= 90%' REFUTED '0%: the plan has overlap off: nothing hides communication'
both 'expert_load_max_over_mean = 1.00' undecided 'only a run tells: give its log (--log)'
both 'expert_load_std < 0.1' undecided 'only a run tells: give its log (--log)'
both 'save_every = 100' undecided 'a plan does not tell, it is an option of the run: a log would (--log)'
both 'expert_files = 64' holds '64: a step directory has expert-NNN.safetensors for each of 64 experts, all layers in it, and dense.safetensors'
verdict a 'expert_replicas > 1' REFUTED '1: edp: ranks that hold the same experts'
verdict b 'expert_replicas > 1' holds '4: edp: ranks that hold the same experts'
verdict a 'experts_after_loss = 60' holds \
    '60: 64 - 4 that no other rank holds, in the layers of its stage only; a config has one count, so other layers must drop as many'
verdict b 'experts_after_loss = 60' REFUTED '64: nothing is lost: 3 other ranks hold the same experts (edp 4)'

# What rests on seconds and bytes, done again from the plan's own: CLAIM WORD VALUE, VALUE of $x, the predict record.
cat >again.pl <<'END'
use JSON::PP;
my ($name) = @ARGV;
open my $f, '<', "$name.plan"; my %x;
while (<$f>) { %x = map { split /=/ } grep { /=/ } split if /^predict / }
open $f, '<', "$name.json"; local $/; my $j = decode_json(<$f>);
my %v = map { $_->{claim} => $_ } @{$j->{claims}};
my $step = $x{step_s};
my $peak = 128 * 312e12;
my %want = ('memory_used = 8.5%' => ['refuted', $x{memory_bytes} / 64e9], 'memory_bytes ~ 5.4 GB' => ['refuted', $x{memory_bytes}],
    'memory_used < 90%' => ['holds', $x{memory_bytes} / 64e9], 'microbatch_s ~ 45 ms' => ['refuted', $step / 8],
    'tokens_per_s ~ 800K' => ['refuted', 128 * 2048 / $step], 'sequences_per_s ~ 6' => ['refuted', 128 / $step],
    'mfu = 55.2%' => ['refuted', 128 * 2048 / $step * 2013265920 / $peak], 'mfu >= 60%' => ['refuted', 128 * 2048 / $step * 2013265920 / $peak],
    'step_s < 2 s' => ['holds', $step], 'tokens_per_s > 500K' => ['refuted', 128 * 2048 / $step]);
for (sort keys %want) {
    my ($word, $value) = @{$want{$_}};
    print "$_: $v{$_}{verdict} $v{$_}{value}, not $word $value\n" unless $v{$_}{verdict} eq $word && abs($v{$_}{value} - $value) <= 1e-9 * $value;
}
# shares of the step, from what the text says they are made of
for (['gpu_busy > 85%', sub { 1 - ($_[0] + $_[1]) / $_[2] }], ['scaling ~ 100%', sub { $_[0] / ($_[1] * $_[2]) }], ['link_used ~ 80%', sub { $_[0] * ($_[1] + $_[2] + $_[3]) / $_[4] }]) {
    my ($claim, $sum) = @$_;
    my @n = $v{$claim}{text} =~ /(?<![\w.-])(\d[\d.]*(?:e[-+]\d+)?)(?= |$|,|\))/g;
    shift @n if $v{$claim}{text} =~ /^\S+%/ && $n[0] * 1 == 0;
    my $is = $sum->(@n);
    print "$claim: $v{$claim}{value}, not $is of @n\n" unless $v{$claim}{verdict} eq 'refuted' && abs($v{$claim}{value} - $is) <= 1e-3 * $is;
}
END
for p in a b; do
    is "$(perl again.pl $p 2>&1)" '' "reading $p: speed and memory come out so from the plan's own figures"
done

# ---- the page's review, and its list of facts ----
page=$top/share/man/moe-claims.5
sed -n '/^\.It Sy claim/,/^\.El/s/^\.It \(.*\) Ta \(.*\) Ta \(.*\)/\1|\2|\3/p' "$page" | grep -v '^Sy' >told
for p in a b; do perl -MJSON::PP -0777 -ne 'print "$_->{claim}|$_->{verdict}\n" for @{decode_json($_)->{claims}}' $p.json >$p.words; done
paste -d'|' a.words b.words | awk -F'|' '{ if (NF == 6) print $1 "|" $2 "|" $3 "|" $6; else print $1 "|" $2 "|" $4 }' | cmp - told
ok $? "the page's table is what comes out"
sed -n '/^static\|^    {"/s/^    {"\([a-z_]*\)", UNIT_.*/\1/p' "$top/lib/claim/facts.c" >facts
[ "$(grep -c . facts)" -gt 10 ]
ok $? 'facts are found'
is "$(sed -n '/^Or one of these facts/,/^\.El/s/^\.It Va //p' "$page" | sort)" "$(sort facts)" 'the page lists them'

# ---- who contradicts whom, and where not ----
# said WORDS: in a's report
said() { like "$(cat a.out)" "$1" "it says: $1"; }
said "at seq 2048, top-2, bf16 \(at the peak it takes 0.01322 s\)" # 128 * 2048 * 2.013265920e9 / (128 * 312e12)
said 'microbatch_s ~ 45 ms  +0.324 to 0.396 s'                      # 8 * 45 ms, a tenth either way
said 'tokens_per_s ~ 800K  +0.2979 to 0.3641 s'                     # 262144 / 880000, / 720000
said 'sequences_per_s ~ 6  +19.39 to 23.7 s'                        # 128 / 6.6, / 5.4
said 'mfu = 55.2%  +0.02392 to 0.02396 s'                           # 0.01322 / 0.5525, / 0.5515
said "'microbatch_s ~ 45 ms' and 'sequences_per_s ~ 6': .*; both at no sequence length, top-k or precision"
said "'tokens_per_s ~ 800K' and 'sequences_per_s ~ 6': .*; both at seq 109120 to 162944, where the model has 2048 positions" # 720000/6.6, 880000/5.4
said "'tokens_per_s ~ 800K' and 'mfu = 55.2%': .* with top-k 41 to 49"
said "'sequences_per_s ~ 6' and 'step_s < 2 s': .*; both at no"
is "$(grep -c "^  '.*' and '.*': .* a step against" a.out)" 11 'eleven pairs of seven claims on speed contradict each other'
said '1\. 5 of them: memory_used < 90%; microbatch_s ~ 45 ms; tokens_per_s ~ 800K; step_s < 2 s; tokens_per_s > 500K$'
said '1\. 7 of them: memory_used = 8.5%; memory_bytes ~ 5.4 GB; memory_used < 90%; microbatch_s ~ 45 ms; tokens_per_s ~ 800K; '
said 'only at seq 1984 to 2560 with top-k 16 to 21, as at seq'
# that set's first world is a plan for which it is so
set -- $(perl -MJSON::PP -0777 -ne '$a = decode_json($_)->{agree}[0]; print "@{$a->{at}{any_seq}} @{$a->{at}{any_top_k}} @{$a->{at}{precisions}}"' a.json)
is "$*" '1984 2560 16 21 bf16' 'the JSON has the same'
sed 's/"num_experts_per_tok": 2/"num_experts_per_tok": 16/; s/"max_position_embeddings": 2048/"max_position_embeddings": 4096/' "$top/share/models/moe-7b.json" >k16.json
moe-partition -q --strategy ep16-tp4-pp2 -m k16.json --seq 2560 -o k16.plan
is "$(moe-plan-check --claims "$list" k16.plan | grep -E '^holds .*memory' | cut -d: -f1 | cut -c11- | tr '\n' ';')" \
    'memory_used = 8.5%;memory_bytes ~ 5.4 GB;memory_used < 90%;' 'a plan made there has what it says of memory'
moe-plan-check --claims "$list" k16.plan >k16.out
like "$(cat k16.out)" "^  1\. 7 of them: memory_used = 8.5%; .*microbatch_s ~ 45 ms; tokens_per_s ~ 800K; .*> 500K$" 'and there they agree'
said 'tokens_per_s > 500K: holds at 8192 to 131072$'
moe-partition -q --strategy ep16-tp4-pp2 --seq 8192 -o long.plan
like "$(moe-plan-check --claims "$list" long.plan)" '^holds     tokens_per_s > 500K' 'a plan of that length bears it out'

# ---- other clusters, and none that says enough ----
moe-partition -q -m moe-tiny -o one.plan
printf 'step_s < 1 s\nmfu > 0\nmemory_used < 50%%  # of what?\n' >speed
run moe-plan-check --claims speed one.plan
is "$status $(echo "$out" | grep -c '^undecided .*the cluster says too little')" '0 2' 'without rates seconds are undecided, which is no refusal'
run moe-plan-check --claims speed -c h100 one.plan
is "$(echo "$out" | grep -c '^undecided')" 0 'with those of another cluster they are decided'
run moe-plan-check --claims "$list" -c local a.plan
is "$status" 2 'a cluster with fewer nodes than the plan'
like "$err" "does not go on cluster 'local': .*nodes" 'is said'
echo 'step_s < 0.93 s' >close
run moe-plan-check --claims close a.plan
like "$status $out" '^0 undecided step_s < 0.93 s: 0.9251 s: .*; the formulas may be off by 16%: --log decides' 'what is within the error of the formulas is undecided'

# ---- measured ----
cat "$top"/README "$top"/share/man/*.1 >text
moe-partition -q -m moe-tiny --seq 32 --global-batch 2 -o run.plan
moe-train -q -p run.plan -d text -s 8 --save root --save-every 4 --log run.jsonl
printf 'save_every = 4\nexpert_load_max_over_mean > 1\nsteps = 8\nstep_s < 1 h\nfaults = 0\nplan/axes/tp = 1\nexposed_share < 200%%\ngpu_busy > 0\n' >measured
run moe-plan-check --claims measured --log run.jsonl run.plan
is "$status $(echo "$out" | grep -c '^holds ')" '0 8' 'measured claims hold'
like "$out" '^holds     save_every = 4: 4: 8 steps / 2 checkpoints' 'by what was measured'
echo 'save_every = 100' >other
run moe-plan-check --claims other --log run.jsonl run.plan
is "$status" 1 'or are refuted'
run moe-plan-check --claims measured --tap run.plan
is "$(echo "$out" | sed -n '1p'), $(echo "$out" | grep -c 'SKIP undecided')" '1..8, 7' 'as TAP, with what is undecided skipped'

# ---- what is refused ----
# bad LINE:COLUMN WORDS TEXT: a list with this text
bad() {
    printf "$3" >bad
    run moe-plan-check --claims bad a.plan
    like "$status $out$err" "^2 moe-plan-check: bad:$1: .*$2" "refused at $1: $2"
}
bad 1:1 "no figure or fact 'speed'" 'speed > 1\n'
bad 2:3 "no figure or fact 'spee'" '# x\n\t spee > 1\n'
bad 1:8 'OP one of' 'step_s 1\n'
bad 1:10 "'x' is not a number" 'step_s < x\n'
bad 1:10 'not a number' 'step_s < nan\n'
bad 1:9 'not a number' 'step_s < \n'
bad 1:12 "'GB' is no unit of seconds" 'step_s < 1 GB\n'
bad 1:10 "5 of a ratio is 500%: write '5%'" 'bubble < 5\n'
bad 1:14 "'2' after the value" 'step_s < 1 s 2\n'
bad 1:8 "takes no argument" 'step_s/2 < 1\n'
bad 1:17 "'x' is not a capacity factor" 'expert_capacity/x < 1\n'
bad 1:1 'KIND is tp, cp' 'group/xx/0 = 1\n'
bad 1:10 "neither a group's number nor i" 'group/tp/x = 1\n'
bad 1:14 'no list of ranks' 'group/tp/0 = 3-1\n'
bad 1:14 'no list of ranks' 'group/tp/0 = 4i\n'
bad 1:16 'no list of ranks' 'group/tp/0 = 1,\n'
bad 1:12 'only = says' 'group/tp/0 < 1\n'
bad 1:1 'RECORD is axes' 'plan/rank/tp = 1\n'
bad 1:11 "has no 'xx'" 'plan/axes/xx = 1\n'
bad 1:27 "'some' is not none, selective or full" 'plan/training/recompute = some\n'
bad 1:5 'control character' 'mfu \001> 1\n'
bad 1:1 '159 bytes' "$(printf 'mfu > 1%0160d' 1)\n"
printf '# nothing\n' >bad
run moe-plan-check --claims bad a.plan
is "$status" 2 'a list without a claim'
head -c 1100000 /dev/zero | tr '\0' 'x' >bad
run moe-plan-check --claims bad a.plan
is "$status" 2 'a list without end'
run moe-plan-check --claims none a.plan
is "$status" 2 'no such list'
like "$err" "unknown list of claims 'none': .* presets are .*strategy-guide" 'and which lists there are'
run moe-plan-check --claims "$list" a.plan b.plan
is "$status" 2 'two plans'
run moe-plan-check --log run.jsonl a.plan
is "$status" 2 'a log without claims'
sed '/^sum/d; s/^group ep 0 0,4/group ep 0 4,0/' a.plan >broken.plan
run moe-plan-check -q --claims "$list" broken.plan
like "$status $err" '^1 .*not valid: rule groups-' 'an unsound plan is not judged'
done_testing
