#!/bin/sh
# SPDX-License-Identifier: MIT
# Archives: what is restored is what was packed, of steps and of any directory, through files and pipes, with every codec; other tools read
# them; every flipped bit and every cut is found; some experts alone are read without the rest. MOEKIT_LARGE=1: 10,000 flips a codec, 20 GB.
. "$(dirname "$0")/lib/tap.sh"
. "$top/t/lib/layouts.sh"
cd "$T" || exit 1

write_model small mixtral num_hidden_layers=2 num_local_experts=4 hidden_size=32 head_dim=4 intermediate_size=24 'torch_dtype="bfloat16"'
write_tokens data 97 2000
make_plan p small --seq 32 --global-batch 1 --precision bf16
train p 1 -q -d data -s 6 --save-every 3 --save made
S=made/step-00000006 B=made/step-00000003
run moe-ckpt verify $S
is "$status" 0 'there is a step to pack' || diag "$err"

# stamps DIR: names, kinds, modes and times of all that is in it
stamps() { (cd "$1" && find . -printf '%P %y %m %T@\n' | sort); }
# same A B NAME: bitwise, modes and times too
same() {
    is "$(diff -r "$1" "$2" 2>&1; stamps "$1" | cksum)" "$(stamps "$2" | cksum)" "$3"
}
# pack ARGUMENT…, restore ARGUMENT…: run, quietly
pack() { run moe-ckpt pack -q "$@"; }
restore() { run moe-ckpt restore -q "$@"; }

# ---- there and back ----
chmod 400 $S/tokenizer.json 2>/dev/null
chmod 600 $S/plan.moe
chmod 750 $S/optimizer
touch -d '2001-02-03 04:05:06.789' $S/config.json
for codec in none gzip split; do
    pack -c $codec -o $codec.tar $S
    is "$status:$err:$out" '0::' "$codec: packed, silently"
    run moe-ckpt verify $codec.tar
    is "$status:$out" "0:$codec.tar: whole: archive ($codec) of step 6: 15 files, 487 kB" 'verify says what it is'
    restore $codec.tar $codec.out
    is "$status:$err" '0:' 'restored'
    same $S $codec.out 'bitwise what was packed, modes and times too'
    moe-ckpt pack -q -c $codec $S | moe-ckpt restore -q - $codec.piped
    same $S $codec.piped 'through pipes too'
    is "$(moe-ckpt pack -q -c $codec -j 3 $S | cksum)" "$(cksum <$codec.tar)" 'the same archive by three threads and to a pipe'
    is "$(moe-ckpt verify - <$codec.tar | sed 's/^-: //')" "$(moe-ckpt verify $codec.tar | sed 's/^[^:]*: //')" 'verify reads a pipe'
done
run moe-ckpt verify split.out
is "$status" 0 'a restored step is a whole one'
run moe-train -q --threads 1 -p p.plan -d data -s 7 --resume split.out --log /dev/null
is "$status" 0 'from which training goes on' || diag "$err"

# ---- list ----
run moe-ckpt list split.tar
is "$status:$(printf '%s\n' "$out" | head -n 1)" '0:# archive (split) of step 6' 'list says what an archive is'
is "$(printf '%s\n' "$out" | awk '!/^#/ { print $1, $5 }')" "$(cd $S && find . -type f -printf '%s %P\n' | sort -k 2)" 'and its files'
if need jq command -v jq; then
    is "$(moe-ckpt list --json split.tar | jq -r '.step, (.files[] | select(.experts == "2") | .name)' | tr '\n' ' ')" \
        '6 expert-002.safetensors optimizer/expert-002.safetensors ' 'and as JSON'
fi
run moe-ckpt list --tensors split.tar
is "$status" 2 'but not their tensors'

# ---- weights that are made again ----
tar -xOf split.tar .moekit-archive/index >index
like "$(grep -c '^made' index)" '^[1-9]' 'weights that are their master rounded are not packed'
none "$(tar -xOf none.tar .moekit-archive/index | grep '^made')" 'but they are where members are the files'
cp -r $S other
perl -e 'open(my $f, "+<:raw", "other/expert-002.safetensors"); seek($f, -64, 2); print $f "\x01" x 64; close $f; '
pack -o other.tar other
like "$status:$err" '^2:.*expert-002.safetensors: is damaged' 'weights that are not what the manifest says are refused'
none "$(ls | grep '^other.tar')" 'and nothing is left'
train p 1 -q -d data -s 1 --lr 0 --init $S --save plain # weights of its own: what was imported
cp -r plain/step-00000001 odd
perl -MCompress::Zlib -e '
    # one tensor becomes other numbers than its master rounded, and all sums follow
    my $name = "expert-001.safetensors";
    open(my $f, "<:raw", "odd/$name") or die; local $/; my $all = <$f>;
    my $n = unpack("Q<", $all); my $h = substr($all, 8, $n);
    $h =~ /"(model\.layers\.1\.[^"]*w1[^"]*)":\{[^}]*"data_offsets":\[(\d+),(\d+)\]/ or die; my ($tensor, $b, $e) = ($1, $2, $3);
    substr($all, 8 + $n + $b, 2) ^= "\x01\x00";
    open($f, ">:raw", "odd/$name"); print $f $all; close $f;
    open($f, "<", "odd/manifest.json"); my $m = <$f>;
    my ($crc, $sum) = (sprintf("%08x", crc32($all)), sprintf("%08x", crc32(substr($all, 8 + $n + $b, $e - $b))));
    $m =~ s/("\Q$name\E": \{"bytes": \d+, "crc32": ")[0-9a-f]{8}(".*?"\Q$tensor\E": ")[0-9a-f]{8}/$1$crc$2$sum/s or die;
    $m =~ s/,\n  "sum".*//s; $m .= sprintf(",\n  \"sum\": \"%08x\"\n}\n", crc32($m));
    open($f, ">", "odd/manifest.json"); print $f $m;' 2>"$T/err" && run moe-ckpt verify odd
if [ -s "$T/err" ]; then
    skip 'a weight that is not its master rounded' "no Compress::Zlib in perl"
else
    is "$status" 0 'a step in which a weight is not its master rounded' || diag "$err"
    run moe-ckpt pack -v -o odd.tar odd
    like "$err" "'model.layers.1.*w1.*' in .* is not its master rounded" 'that is seen'
    restore odd.tar odd.out
    same odd odd.out 'and it is packed as it is'
fi

# ---- the difference from an earlier step ----
pack -b $B -o base.tar $S
is "$status:$err" '0:' '--base: packed'
[ "$(wc -c <base.tar)" -lt "$(wc -c <split.tar)" ]
ok $? 'which is smaller'
run moe-ckpt verify base.tar
is "$status" 0 'and whole without the base'
restore -b $B base.tar base.out
is "$status:$err" '0:' 'restored'
same $S base.out 'bitwise'
restore base.tar no
like "$status:$err" "^2:.*is the difference from 'step-00000003' .*: give that with --base" 'not without the base'
restore -b $S base.tar no
like "$status:$err" "^2:.*is not the base" 'nor with another'
pack -c gzip -b $B -o no.tar $S
is "$status" 2 '--base needs split'

# ---- some experts ----
for codec in none split; do
    pack -c $codec -e 1-2 -o some.$codec $S
    is "$status:$err" '0:' "--experts: packed ($codec)"
    run moe-ckpt verify some.$codec
    like "$out" 'experts 1-2 alone' 'verify says so'
    restore some.$codec some.$codec.out
    is "$(ls some.$codec.out some.$codec.out/optimizer | grep expert | tr '\n' ' ')" \
        'expert-001.safetensors expert-002.safetensors expert-001.safetensors expert-002.safetensors ' 'of the experts these alone'
    restore -e 0:1,1:1 $codec.tar one.$codec
    is "$status:$err" '0:' 'restore --experts LAYER:EXPERT'
    is "$(cd one.$codec && ls -d expert-* optimizer/expert-*)" 'expert-001.safetensors
optimizer/expert-001.safetensors' 'of the experts this alone'
    is "$(diff -r $S one.$codec | grep -v "^Only in $S")" '' 'bitwise'
done
perl -e 'for my $i (0 .. 7) { open(my $f, ">:raw", sprintf("big/expert-%03d.safetensors", $i)) or die;
    my $h = sprintf(q({"model.layers.0.block_sparse_moe.experts.%d.w1.weight":{"dtype":"F32","shape":[1024,1024],"data_offsets":[0,4194304]}}), $i);
    print $f pack("Q<", length $h), $h, pack("f<*", map { sin($_ + $i) } 1 .. 1 << 20); }' "$(mkdir big; cp small.json big/config.json; sed -i 's/"num_local_experts": 4/"num_local_experts": 8/' big/config.json)"
for codec in none split; do
    pack -c $codec -o big.$codec big
    run moe-ckpt restore -e 5 big.$codec big.$codec.out
    is "$status" 0 "$codec: one of eight experts from a file" || diag "$err"
    like "$err" "from ([0-9.]+ kB|[1-7]\.[0-9]* MB) of the archive" 'hopping over the others'
    like "$err" '7 files of other experts are left out' 'which is said'
    cmp big/expert-005.safetensors big.$codec.out/expert-005.safetensors
    ok $? 'it is that one'
    moe-ckpt restore -q -e 5 - big.$codec.piped <big.$codec
    same big.$codec.out big.$codec.piped 'a pipe is read through'
done
restore -e 8 big.split no
like "$status:$err" '^2:.*no file in it holds experts 8' 'an expert that is not there'
pack -e x $S -o no.tar
is "$status" 2 'a list that is none'

# ---- anybody's directory ----
mkdir -p hf/sub
cp $S/*.safetensors $S/config.json $S/model.safetensors.index.json hf
echo 'a template' >'hf/chat template.jinja'
printf '\377\376 any bytes' >"hf/$(printf 'n\303\244me\377')"
: >hf/empty
echo below >hf/sub/file
mkdir hf/.git && echo x >hf/.git/x
mkdir blobs && mv hf/dense.safetensors blobs/abc && ln -s ../blobs/abc hf/dense.safetensors # as in the hub's cache
for codec in none gzip split; do
    pack -c $codec -o hf.$codec hf
    is "$status:$err" '0:' "$codec: any directory"
    restore hf.$codec hf.$codec.out
    is "$(diff -r hf hf.$codec.out)" 'Only in hf: .git' 'all of it but what is hidden; links are followed'
done
run moe-ckpt verify hf.split.out
is "$status" 0 'verify takes it for whole'
perl -e 'my $h = q({"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},"b":{"dtype":"F32","shape":[],"data_offsets":[6,10]},"c":{"dtype":"F8_E4M3","shape":[5],"data_offsets":[10,15]}});
    open(my $f, ">:raw", "hf/odd.safetensors"); print $f pack("Q<", length $h), $h, "x" x 15;' # unaligned
pack -o hf.odd hf
restore hf.odd hf.odd.out
is "$(diff -r hf hf.odd.out)" 'Only in hf: .git' 'numbers that are not aligned'
mkfifo hf/fifo
pack -o hf.fifo hf
like "$status:$err" "^0:.*'hf/fifo' is neither a file nor a directory, and is passed over" 'what is no file is passed over, and named'
rm hf/fifo
cp -r hf cut && truncate -s -1 cut/expert-001.safetensors
pack -o no.tar cut
like "$status:$err" '^2:.*cut/expert-001.safetensors: ' 'a file of tensors that is cut is refused'
cp -r $S broken && printf X | dd of=broken/optimizer/dense.safetensors bs=1 seek=$(($(wc -c <$S/optimizer/dense.safetensors) - 99)) conv=notrunc 2>/dev/null
pack -o no.tar broken
like "$status:$err" "^2:.*'broken/optimizer/dense.safetensors' is damaged" 'so is a step that is not what its manifest says'
rm broken/expert-001.safetensors
pack -o no.tar broken
like "$status:$err" '^2:.*is no whole step' 'or that lacks a file'
none "$(ls | grep '^no\.tar')" 'nothing of these is left'

# ---- other tools ----
for tar in tar bsdtar; do
    need $tar command -v $tar || continue
    is "$($tar -tf none.tar | grep -v ^.moekit-archive/ | sort)" "$(cd $S && find . -type f -printf '%P\n' | sort)" "$tar lists the members"
    mkdir x && $tar -xpf none.tar -C x
    is "$?:$(diff -r $S x)" '0:Only in x: .moekit-archive' "$tar unpacks codec none into the directory"
    run moe-ckpt verify x
    is "$status" 0 'which is a whole step' || diag "$err"
    rm -r x
    mkdir x && $tar -xf gzip.tar -C x
    is "$(for f in dense.safetensors optimizer/expert-001.safetensors state.json; do
        cat x/$f.part-*.gz | gunzip | cmp - $S/$f 2>&1
    done)" '' "$tar and gunzip unpack codec gzip"
    rm -r x
    $tar -tf split.tar >/dev/null
    ok $? "$tar lists codec split"
done

# ---- damage ----
flips=$helpers/archive-flips
if need helpers test -x "$flips"; then
    for archive in none.tar gzip.tar split.tar base.tar; do
        run "$flips" flips verify $archive $((${MOEKIT_LARGE:+1}0 ? 10000 : 500)) 1
        is "$status:$out" '0:0 missed' "$archive: verify finds every flipped bit"
        run "$flips" cuts verify $archive 200 1
        is "$status:$out" '0:0 missed' 'and every cut'
    done
    for archive in none.tar gzip.tar split.tar; do
        run "$flips" flips restore $archive $((${MOEKIT_LARGE:+1}0 ? 1000 : 40)) 2
        is "$status:$out" '0:0 missed' "$archive: restore finds a flipped bit, and leaves nothing"
    done
    run "$flips" cuts restore split.tar 50 2
    is "$status:$out" '0:0 missed' 'nor of one that is cut'
    mkdir few few/sub
    cp $S/config.json few
    : >few/sub/empty
    perl -e 'my $h = q({"a":{"dtype":"BF16","shape":[16,16],"data_offsets":[0,512]},"b":{"dtype":"F32","shape":[64],"data_offsets":[512,768]}});
        open(my $f, ">:raw", "few/model.safetensors"); print $f pack("Q<", length $h), $h, pack("C*", map { $_ * 7 % 251 } 1 .. 768);'
    for codec in none gzip split; do
        pack -c $codec -o few.$codec few
        run "$flips" cuts verify few.$codec 0 1
        is "$status:$out" '0:0 missed' "$codec: of a small archive verify finds every cut there is"
        [ -n "$MOEKIT_LARGE" ] || continue
        run "$flips" cuts restore few.$codec 0 2
        is "$status:$out" '0:0 missed' 'and restore'
    done
fi
cp split.tar tail.tar
head -c 10240 /dev/zero >>tail.tar
run moe-ckpt verify tail.tar
is "$status" 0 'zeros may follow, as on tapes'
echo >>tail.tar
run moe-ckpt verify tail.tar
like "$status:$err" '^1:.*other than zeros' 'and nothing else'
run moe-ckpt verify split.tar tail.tar $S
is "$status" 1 'several, one of them not whole'
echo text >no-archive
run moe-ckpt verify no-archive
is "$status" 1 'verify: a file that is no archive is not whole'
restore no-archive no
is "$status" 2 'restore: is bad input'
run moe-ckpt verify not-there.tar
is "$status" 2 'verify: a path that is not there'
tar -cf theirs.tar -C $S .
restore theirs.tar no
like "$status:$err" '^2:' 'a tar of others'
mkdir there && touch there/x
restore split.tar there
like "$status:$err" "^2:.*'there' is there already" 'a directory with something in it stays'
mkdir void
restore split.tar void/
is "$status:$(ls void | wc -l)" "0:$(ls $S | wc -l)" 'an empty one is taken'
none "$(ls -A | grep '\.tmp$')" 'nothing temporary is left'
if need devfull test -w /dev/full; then
    pack -o /dev/full $S
    is "$status" 3 'a full disk: the environment failed'
fi
if need strace command -v strace; then
    # A network file system may tell of a lost write as the file is closed, and then no sync does.
    strace -qq -y -o closes -e trace=close moe-ckpt restore -q -j 1 none.tar closes.out
    said=
    for n in $(grep -n 'tmp/dense\.safetensors>' closes | sed 's/:.*//' | tail -n 2); do # after those of the empty file
        run strace -qq -o closes -e inject=close:error=EIO:when="$n" moe-ckpt restore -q -j 1 none.tar no
        said="$said$status:$(printf '%s\n' "$err" | grep -c "cannot write 'no.*/dense.safetensors'") "
    done
    is "$said" '3:1 3:1 ' 'a write that is lost at the close: the environment failed'
    none "$(ls -d no no.*.tmp 2>/dev/null)" 'and nothing is there'
fi
pack $S $S
is "$status" 2 'pack takes one directory'
restore split.tar
is "$status" 2 'restore takes two operands'

# ---- memory ----
mib=${MOEKIT_LARGE:+20480}
mib=${mib:-640}
mkdir wide
perl -e 'my $n = $ARGV[0] << 20; my $h = sprintf(q({"w":{"dtype":"BF16","shape":[%d],"data_offsets":[0,%d]}}), $n / 2, $n);
    open(my $f, ">:raw", "wide/model.safetensors"); print $f pack("Q<", length $h), $h; truncate($f, 8 + length($h) + $n);' $mib
if need python command -v python3; then
    # small ARGUMENT…: moe-ckpt does it, in less than 256 MiB
    small() {
        run_measured moe-ckpt "$@"
        [ "$status" -eq 0 ] && [ "$peak" -lt 256 ]
        ok $? "$mib MiB: $1 in less than 256 MiB" || diag "$peak MiB: $err"
    }
    small pack -q -j 8 -o wide.tar wide
    small verify -j 8 wide.tar
    small restore -q -j 8 wide.tar wide.out
    cmp wide/model.safetensors wide.out/model.safetensors
    ok $? 'and it is the same'
fi
done_testing
