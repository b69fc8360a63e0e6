#!/bin/bash
# SPDX-License-Identifier: MIT
# Formats grow without breaking: files of version 1 (t/data/v1, never to be made anew: contrib/make-v1.sh) are read for ever, additions
# are passed over, and what must not be passed over is refused by name.
. "$(dirname "$0")/lib/tap.sh"
. "$(dirname "$0")/lib/layouts.sh"

v1=$top/t/data/v1
need_for_all perl command -v perl
tar -xf "$v1/checkpoints.tar" -C "$T"
S=$T/f32/step-00000002
version=$(moe-stat --version | awk '{ print $3 }')

# close_to LOG WANT TOLERANCE NAME: its losses and gradient norms are those of the same steps of WANT, and there are some. Not to the
# bit: libraries of mathematics and compilers round differently.
close_to() {
    off=$(perl -e '
        my ($tolerance, @logs) = @ARGV;
        my ($got, $want) = map { my %f; open(my $f, "<", $_) or die "$_: $!";
            while (<$f>) { my ($s) = /"kind":"step","step":(\d+)/ or next; $f{"$s $1"} = $2 while /"(loss|aux_loss|z_loss|grad_norm)":([^,]+)/g }
            \%f } @logs;
        print "no steps\n" unless %$got;
        for (sort keys %$got) {
            my $w = $want->{$_} // "nothing";
            print "step $_: $got->{$_}, not $w\n" unless abs($got->{$_} - $w) <= $tolerance * abs($w);
        }' "$3" "$1" "$2" 2>&1)
    is "$off" '' "$4"
}

# ---- version 1 is read ----
for plan in small one bf16 ep16-tp4-pp2; do
    run moe-plan-check "$v1/$plan.plan"
    is "$status" 0 "plan of version 1: $plan holds" || diag "$out$err"
done
like "$out" 'ok' 'and its rules are shown'
like "$out" '^warn predict-matches: .*which another moekit counted' 'what another version reserved is no fault of a plan'
for kind in f32 bf16; do
    run moe-ckpt verify "$T/$kind/step-00000002"
    is "$status" 0 "checkpoint of version 1: $kind is whole"
    run moe-ckpt list "$T/$kind/step-00000002"
    is "$status" 0 'and listed'
    like "$out" '^# step 2$' 'with its step'
    like "$out" '^# plan [14] ranks' 'and its plan'
    unlike "$(cat "$T/$kind/step-00000002/state.json")" moekit "state of version 1: $kind does not name it"
done
like "$(moe-ckpt list "$T/f32")" "^ *2 +[0-9]+  $T/f32/step-00000002" 'and as a step of its root'

# resume NAME PLAN RANKS OPTION…: from a copy of the checkpoint, to $T/NAME.log
resume() {
    name=$1
    cp "$2" "$T/$name.plan"
    ranks=$3
    shift 3
    run train "$name" "$ranks" --backend ref -d "$T/tokens" -s 6 "$@"
}
resume one "$v1/one.plan" 1 --resume "$T/f32" --save "$T/saved"
is "$status" 0 'state of version 1: goes on from there' || diag "$(cat "$T/one.err")"
close_to "$T/one.log" "$v1/run.jsonl" 1e-5 'with the losses and gradient norms it had'
is "$(grep -c '"kind":"step"' "$T/one.log")" 4 'for steps 3 to 6'
unlike "$(cat "$T/one.err")" 'replaces|starts anew' 'recipe and place in the data kept'
resume bf16 "$v1/bf16.plan" 1 --resume "$T/bf16/step-00000002"
is "$status" 0 'bf16: goes on from there' || diag "$(cat "$T/bf16.err")"
close_to "$T/bf16.log" "$v1/bf16.jsonl" 1e-4 'with the losses and gradient norms it had, to the rounding of bf16'
if need mpi command -v mpirun; then
    resume four "$S/plan.moe" 4 --resume "$S"
    is "$status" 0 'its own plan of 4 ranks goes on from there' || diag "$(cat "$T/four.err")"
    close_to "$T/four.log" "$v1/run.jsonl" 1e-5 'with the losses and gradient norms it had'
fi

run moe-stat --format json "$v1/run.jsonl"
is "$status" 0 'log of version 1 is read'
printf '%s\n' "$out" >"$T/figures" # there may be more figures by now, and sums are rounded better
none "$(awk -F': ' '{ sub(/,$/, "") } FNR == NR { now[$1] = $2; next } /^ / && now[$1] != $2 && !((now[$1] - $2) ^ 2 <= (1e-13 * $2) ^ 2 && $2 + 0 != 0)' \
    "$T/figures" "$v1/run.json")" 'to the figures it had'

# ---- what is written names its version ----
like "$(head -1 "$T/one.log")" '^\{"kind":"start","format":1,"version":"'"$version"'"' 'a log names its format'
like "$(sed -n 2p "$T/saved/step-00000006/state.json")" '^ "moekit": 1,$' 'a state its version'
like "$(sed -n 2p "$T/saved/step-00000006/manifest.json")" '^  "moekit": 1,$' 'a manifest its version'

# ---- additions ----
# edit FILE PERL-CODE: the text is $_. A manifest gets its sum anew, a file that the manifest beside it lists its entry there.
edit() {
    perl -0777 -e '
        my ($file, $code) = @ARGV;
        my @table = map { my $c = $_; $c = $c & 1 ? 0xedb88320 ^ $c >> 1 : $c >> 1 for 1 .. 8; $c } 0 .. 255;
        sub crc32 { my $c = 0xffffffff; $c = $table[($c ^ $_) & 255] ^ $c >> 8 for unpack "C*", $_[0]; return sprintf "%08x", $c ^ 0xffffffff }
        sub get { open(my $f, "<:raw", $_[0]) or die "$_[0]: $!"; local $/; return scalar <$f> }
        sub put { open(my $f, ">:raw", $_[0]) or die "$_[0]: $!"; print $f $_[1]; close $f or die }
        my ($dir, $name) = $file =~ m,^(.*?step-\d+)/(.*)$,;
        my $manifest = "$dir/manifest.json";
        $_ = get($file);
        eval $code;
        die $@ if $@;
        if ($name ne "manifest.json") {
            put($file, $_);
            my $entry = sprintf q("bytes": %d, "crc32": "%s"), length($_), crc32($_);
            $_ = get($manifest);
            s/("\Q$name\E": \{)"bytes": \d+, "crc32": "\w+"/$1$entry/ or die "$name is not listed";
        }
        s/,\n  "sum": "\w+"\n\}\n$// or die "no sum";
        put($manifest, $_ . sprintf(qq(,\n  "sum": "%s"\n}\n), crc32($_)));' "$1" "$2" || fail "edited $1"
}
fresh() { rm -rf "$T/f32" && tar -xf "$v1/checkpoints.tar" -C "$T" f32; }
# refused WHAT REGEX COMMAND…: exit status 2, one line, which says what and that a newer moekit is needed
refused() {
    what=$1 says=$2
    shift 2
    run "$@"
    is "$status" 2 "$what: exit 2"
    like "$err" "^[a-z -]+: .*$says.*: a newer moekit is needed" 'named, and what would help'
    is "$(printf '%s\n' "$err" | wc -l)" 1 'in one line'
    is "$out" '' 'and nothing else is said'
}
go_on() { moe-train -p "$v1/one.plan" --backend ref -d "$T/tokens" -s 6 --resume "$S" --log "$T/go.log"; }

# the manifest
fresh
edit "$S/manifest.json" 's/("step": 2)/$1,\n  "run": {"id": "a1", "parent": null}/; s/("config.json": \{)/$1"ranges": [[0, 8, "00"]], /'
run moe-ckpt verify "$S"
is "$status" 0 'manifest: unknown members are passed over' || diag "$err"
mkdir "$S/more"
echo '{"more": 1}' >"$S/more/state.json"
run moe-ckpt verify "$S"
is "$status" 1 'manifest: a file that it does not list is one too many'
edit "$S/manifest.json" 's/("files": \{)/$1\n    "more\/state.json": {"bytes": 0, "crc32": "00000000"},/'
edit "$S/more/state.json" ''
run moe-ckpt verify "$S"
is "$status" 0 'manifest: one of a later version, listed, belongs there' || diag "$err"
echo '{"more": 2}' >"$S/more/state.json"
run moe-ckpt verify "$S"
is "$status" 1 'manifest: and is verified'
like "$err" 'more/state.json: is damaged' 'by name'
rm "$S/more/state.json"
run moe-ckpt verify "$S"
like "$status $err" "^1 .*more/state.json': No such file" 'manifest: and missed'

fresh
edit "$S/manifest.json" 's/("moekit": 1)/$1, "needs": ["later-sums"]/'
refused 'manifest: a feature that must be understood' "manifest.json:2:16: key 'needs' names 'later-sums', which moekit $version does not know" moe-ckpt verify "$S"
edit "$S/manifest.json" 's/, "needs": \["later-sums"\]/, "needs": []/'
run moe-ckpt verify "$S"
is "$status" 0 'manifest: no feature is needed'
edit "$S/manifest.json" 's/"moekit": 1/"moekit": 2/'
refused 'manifest: a higher version' "manifest.json:2:3: key 'moekit' is 2, and moekit $version reads up to 1" moe-ckpt verify "$S"
like "$(moe-ckpt list "$T/f32")" "newer moekit  $S" 'list says so too'
edit "$S/manifest.json" 's/"moekit": 2/"moekit": "two"/'
run moe-ckpt verify "$S"
like "$status $err" "^2 .*key 'moekit' is not a version" 'manifest: no version at all'
sed -i 's/"moekit": "two"/"moekit": "2"/' "$S/manifest.json"
run moe-ckpt verify "$S"
like "$status $err" '^1 .*sum does not match' 'manifest: what was changed under its sum is damaged, whatever it says'

# the state
fresh
edit "$S/state.json" 's/("step": 2)/$1, "colour": "a1"/; s/("identity")/"epochs": [0], $1/'
run go_on
is "$status" 0 'state: unknown members are passed over' || diag "$err"
close_to "$T/go.log" "$v1/run.jsonl" 1e-5 'and change nothing'
edit "$S/state.json" 's/^\{/{"moekit": 1, "needs": ["later-order"],/'
refused 'state: a feature that must be understood' "state.json:1:15: key 'needs' names 'later-order', which moekit $version does not know" go_on
run moe-ckpt verify "$S"
is "$status" 0 'state: which whoever only verifies need not understand'
refused 'state: the newest step is not passed over' later-order moe-train -p "$v1/one.plan" --backend ref -d "$T/tokens" -s 6 --resume "$T/f32" --log "$T/go.log"
edit "$S/state.json" 's/"moekit": 1, "needs": \["later-order"\]/"moekit": 2/'
refused 'state: a higher version' "state.json:1:2: key 'moekit' is 2, and moekit $version reads up to 1" go_on
fresh
edit "$S/state.json" 's/("lr":)/"later-decay": 0.5, $1/'
refused 'state: a field of the recipe' "state.json:[0-9]+:[0-9]+: key 'later-decay' is not of a recipe that moekit $version knows" go_on
fresh
edit "$S/state.json" 's/"cosine"/"later"/'
refused 'state: a schedule' "key 'lr-schedule' is 'later'" go_on

# the log
sed 's/"kind":"start",/&"format":1,"needs":[],"run":"a1",/; s/"kind":"step",/&"later":{"x":[1,2]},/; s/"kind":"save",/&"snapshot_s":0.5,/' "$v1/run.jsonl" |
    awk '{ print } NR % 3 == 0 { print "{\"kind\":\"later\",\"step\":[1]}" }' >"$T/log"
is "$(moe-stat --format json "$T/log")" "$(moe-stat --format json "$v1/run.jsonl")" 'log: unknown kinds and keys are passed over'
sed '0,/"kind":"start",/! s/"kind":"start",/&"format":1,"needs":["later-steps"],/' "$v1/run.jsonl" >"$T/log"
at=$(grep -n later-steps "$T/log" | cut -d: -f1)
refused 'log: a feature that must be understood' "$T/log:$at:1: key 'needs' names 'later-steps', which moekit $version does not know" moe-stat "$T/log"
sed 's/"later-steps"/"\\u001b[2J"/' "$T/log" >"$T/log2"
run moe-stat "$T/log2"
like "$status $err" "^2 .*key 'needs' holds what is not the name of a feature$" 'log: nor what only looks like one'
sed 's/"format":1,"needs":.*\],/"format":2,/' "$T/log" >"$T/log2"
refused 'log: a higher format' "$T/log2:$at:1: key 'format' is 2, and moekit $version reads up to 1" moe-stat "$T/log2"
refused 'log: from a pipe' 'stdin:[0-9]+:1: key .format. is 2' sh -c 'moe-stat - <"$0"' "$T/log2"

# the plan
sed 's/^stage 0/x-site queue=long any words 1=2=3\n&/; s/^sum/x-note\n&/' "$v1/small.plan" >"$T/x.plan"
run moe-plan-check "$T/x.plan"
is "$status" 2 'plan: the sum covers records of others too'
run moe-plan-check --seal "$T/x.plan"
is "$status" 0 'plan: records of others are passed over' || diag "$err"
# version 1 laid memory out otherwise: that prediction is made anew
is "$(grep -vE '^(sum|predict) ' "$T/x.plan" | diff "$v1/small.plan" - | grep '^>')" '> x-site queue=long any words 1=2=3
> x-note' 'and sealing keeps them'
run moe-plan-check "$T/x.plan"
is "$status" 0 'and it holds'
# not_a_plan WHAT SED-SCRIPT REGEX
not_a_plan() {
    sed "$2; /^sum/d" "$v1/small.plan" >"$T/not.plan"
    run moe-plan-check "$T/not.plan"
    is "$status" 2 "plan: $1: exit 2"
    like "$err" "not.plan:$3" 'and where'
}
not_a_plan 'an unknown kind of record' 's/^stage 0/later a=1\n&/' "[0-9]+:.*unknown record 'later'"
not_a_plan 'an unknown key' 's/^batch/& later=1/' "[0-9]+:7:.*'later'"
not_a_plan 'an unknown word' 's/recompute=none/recompute=later/' "[0-9]+:.*recompute.*later"
not_a_plan 'a higher version' '1s/1/2/' "1:10: version '2' of the format is not 1"

# ---- the pages ----
for page in checkpoint steplog plan; do
    grep -q '^\.Sh VERSIONS$' "$top/share/man/moe-$page.5"
    ok $? "moe-$page(5) tells the rule"
done
done_testing
