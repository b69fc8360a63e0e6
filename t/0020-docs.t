#!/bin/sh
# SPDX-License-Identifier: MIT
# What is written is so: -h, man pages, completions, README, INSTALL, t/README and comments, against the commands and the tree. All checks of
# pages are here; another test checks what a command does.
. "$(dirname "$0")/lib/tap.sh"
cd "$top" || exit 1
commands=$(sed -n 's/^COMMANDS *= *//p' Makefile)
version=$(sed -n 's/^VERSION *= *//p' Makefile)
[ "$(echo "$commands" | wc -w)" -eq 5 ]
ok $? 'the Makefile names five commands'
docs='README INSTALL t/README'
git ls-files >"$T/files" 2>/dev/null && [ -s "$T/files" ] || find cmd lib kernels share t contrib Makefile README INSTALL .ci -type f >"$T/files"

# found LEAST FILE NAME: what a check looks for has LEAST lines at least: a search that finds nothing proves nothing
found() {
    [ "$(wc -l <"$2")" -ge "$1" ]
    ok $? "$3 are found" || diag "$(cat "$2")"
}

# ---- -h ----
# The verbs that a command's -h shows.
verbs() { "$1" -h | sed -n "s/^\(usage:\)\{0,1\} *$1 \[\{0,1\}\([a-z][a-z]*\)\]\{0,1\}\( .*\)\{0,1\}\$/\2/p" | sort -u; }

# Options, a line each: `p plan x` (letter or -, name, x if it takes an argument). From -h, and from a page's .It lines.
from_help() {
    sed -nE 's/^ {2,6}(-([a-zA-Z]), )?--([a-z0-9-]+)( [^ ].*| *$|  .*)?$/\2|\3|\4/p' |
        awk -F'|' '{ print ($1 == "" ? "-" : $1), $2, ($3 ~ /^ [^ ]/ ? "x" : "") }' | sort -u
}
from_page() {
    sed -nE 's/^\.It Fl (([a-zA-Z]) , )?-([a-z0-9-]+)( (Ar|Cm|Ns).*)?$/\2|\3|\4/p' "$1" |
        awk -F'|' '{ print ($1 == "" ? "-" : $1), $2, ($3 != "" ? "x" : "") }' | sort -u
}

for c in $commands; do
    verbs "$c" >"$T/$c.verbs"
    for verb in '' $(cat "$T/$c.verbs"); do
        run "$c" $verb -h
        is "$status $err" '0 ' "$c $verb -h exits 0 and says nothing on stderr"
        shown=$verb
        [ "$verb" != plan ] || shown= # the verb that need not be said
        like "$(head -n 1 "$T/.out")" "^usage: .*$c.*$shown" 'and shows the usage'
        cat "$T/.out" >>"$T/$c.help"
        is "$("$c" $verb --help | cksum)" "$(cksum <"$T/.out")" '--help is the same'
        none "$(awk 'length > 80 || /%s/' "$T/.out")" 'and fits a terminal of 80 columns'
        run "$c" $verb --no-such-option
        is "$status $out" '2 ' "$c $verb --no-such-option exits 2"
        like "$err" "^$c.*: .*'--no-such-option' .*-h" 'names it, and says where to look'
    done
    run "$c" --versoin
    like "$status $err" "^2 .*'--versoin': is --version meant" 'an option mistyped is guessed'
    run "$c" --ver=1
    like "$status $err" "^2 .*'--ver' may be --verbose, --version" 'and one cut too short has several ends'
    run "$c" --version
    is "$status $out" "0 $c${c:+ }(moekit) $version" "$c --version"
    if [ -w /dev/full ]; then
        "$c" -h >/dev/full 2>"$T/.err"
        is $? 3 "$c -h on a full disk exits 3"
    fi

    # ---- its page ----
    page=share/man/$c.1
    from_help <"$T/$c.help" >"$T/$c.help.options"
    from_page "$page" >"$T/$c.page.options"
    found 5 "$T/$c.help.options" "options of $c"
    none "$(comm -23 "$T/$c.help.options" "$T/$c.page.options")" "$page has every option of -h, as it is there"
    none "$(comm -13 "$T/$c.help.options" "$T/$c.page.options")" "and no other"
    none "$(for s in NAME SYNOPSIS DESCRIPTION 'EXIT STATUS' EXAMPLES 'SEE ALSO'; do grep -q "^\.Sh $s\$" "$page" || echo "$s"; done)" \
        "$page has its sections"
    none "$(while read -r verb; do grep -qE "^\.(Cm|Op Cm|It Cm|Ic|Op Ic) $verb\b" "$page" || echo "$verb"; done <"$T/$c.verbs")" \
        "$page tells of each verb"
done

run moe-partition serach
like "$status $err" "^2 .*'serach': is search meant" 'a verb is guessed too'
run moe-ckpt restroe x
like "$status $err" "^2 .*'restroe': is restore meant" 'by each command that has some'
like "$(moe-partition emit -h)" 'megatron, .*json' 'emit -h lists the forms'

# ---- every page ----
if need mandoc command -v mandoc; then
    for page in share/man/*.[157]; do
        is "$(mandoc -Tlint -Wwarning "$page" 2>&1)" '' "$page is clean"
        none "$(mandoc -Tascii "$page" | sed 's/.\x08//g' | expand | awk 'length > 80 && !/[={]/')" 'and fits 80 columns, but for what files look like'
    done
fi
none "$(sed -n 's/^\.Dl //p' share/man/* | sed 's/\\&//g; s/\\(../x/g; s/\\e/x/g' | awk 'length > 67')" 'lines to be copied are not broken by the margin'
none "$(grep -hoE '^\.Xr moe-[a-z-]+ [157]' share/man/* | sort -u | while read -r _ name section; do
    [ -e "share/man/$name.$section" ] || echo "$name($section)"
done)" 'pages that pages refer to are there'
for page in share/man/*.[157]; do
    name=$(basename "$page")
    grep -q "^\.Dt $(echo "${name%.*}" | tr a-z A-Z) ${name##*.}\$" "$page" && grep -q "^\.Nm ${name%.*}\$" "$page"
    ok $? "$page is titled as its file"
    none "$(sed -n '/^\.Sh SEE ALSO/,$s/^\.Xr \([a-z-]* [0-9]\).*/\1/p' "$page" | grep -x "${name%.*} ${name##*.}")" 'and does not send readers to itself'
    sed -n '/^\.Sh SEE ALSO/,$p' "$page" | grep -q '^\.Xr moe-'
    ok $? 'but to another'
done
none "$(for page in share/man/*.[157]; do
    name=$(basename "$page")
    grep -q "${name%.*}(${name##*.})" README || echo "$page"
done)" 'README names every page'

# ---- figures, presets ----
moe-partition -m moe-tiny -o "$T/plan"
moe-stat --figures >"$T/figures"
found 70 "$T/figures" figures
cut -f1 "$T/figures" >"$T/names"
awk '/^\.It Va / { name = $3; getline; print name "\t" $0 }' share/man/moe-figures.5 >"$T/told"
is "$(cat "$T/told")" "$(awk -F'\t' '{ printf "%s\t(%s, %s) %s\n", $1, $2, $3, $4 }' "$T/figures")" 'moe-figures.5 is the table of figures'
none "$({
    moe-stat --format csv t/data/steplog-small.jsonl | head -1 | tr , '\n' | tail -n +5
    sed -n 's/^predict //p' "$T/plan" | tr ' ' '\n' | sed 's/=.*//'
} | sort | grep -vxF -f "$T/names")" 'which has all that csv and plans have'
# presets KIND PAGE: share/KIND and the items of PAGE's list of them
presets() {
    is "$(ls "share/$1" | sed 's/\.json$//' | tr '\n' ' ')" \
        "$(sed -n "/^\.Pa $1\/NAME.json/,/^\.El/s/^\.It Cm //p" "share/man/$2" | sort | tr '\n' ' ')" "$2 lists the presets of $1"
}
is "$(echo '{"model_type": "none"}' | moe-partition -m - 2>&1 | sed 's/.*, not //; s/ or /, /')" \
    "$(sed -n '/^\.Va model_type$/,/^\.It/p' share/man/moe-partition.1 | sed -n 's/^\.Cm //p' | tr -d ',' | tr ' ' '\n' | grep -x '[a-z0-9_]\{5,\}' | tr '\n' ',' | sed 's/,$//; s/,/, /g')" \
    'moe-partition.1 lists the families of models'
presets models moe-partition.1
presets clusters moe-cluster.5

# ---- examples ----
# They are run, in a directory of their own, with each of our commands replaced by one that parses its options and does no more (-h after them),
# and launchers that only launch.
mkdir "$T/stubs" "$T/examples"
for c in $commands; do
    cat >"$T/stubs/$c" <<END
#!/bin/sh
echo "$c \$*" >>'$T/tried'
wrong=\$('$bin/$c' "\$@" -h 2>&1 >/dev/null) || echo "$c \$*: \$wrong" >>'$T/wrong'
case \$1 in -*) exit 0 ;; esac
[ ! -s '$T/$c.verbs' ] || grep -qx -e "\$1" '$T/$c.verbs' || echo "$c \$*: no such verb" >>'$T/wrong'
END
done
cat >"$T/stubs/mpirun" <<'END'
#!/bin/sh
while :; do case $1 in -n) shift 2 ;; -*) shift ;; *) exec "$@" ;; esac; done
END
cp "$T/stubs/mpirun" "$T/stubs/srun"
printf '#!/bin/sh\nexit 0\n' >"$T/stubs/sbatch"
cp "$T/stubs/sbatch" "$T/stubs/scontrol"
chmod +x "$T"/stubs/*

# examples FILE: of a page, what EXAMPLES shows; of another text, what stands behind a prompt or calls a launcher
examples() {
    case $1 in
    *.[157]) sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE ALSO/p' "$1" | awk 'sub(/^\.Dl /, "") { print } /^\.Ed/ { on = 0 } on; /^\.Bd/ { on = 1 }' |
        sed 's/\\e/\\/g; s/\\(dq/"/g; s/\\&//g' ;;
    *) sed -nE 's/^    \$ //p; s/^    ((srun|mpirun) .*)/\1/p' "$1" ;;
    esac
}
for file in $docs share/man/*.1 share/man/moe-figures.5 share/man/moe-steplog.5 share/man/*.7; do
    rm -f "$T/wrong" "$T/tried"
    examples "$file" >"$T/example.sh"
    calls=$(grep -cE '(^|[ |;])moe-[a-z-]+ ' "$T/example.sh")
    (cd "$T/examples" && PATH=$T/stubs:$PATH sh "$T/example.sh" >/dev/null 2>&1 </dev/null)
    none "$(cat "$T/wrong" 2>/dev/null)" "$file: examples have options and verbs that are there"
    [ "$calls" -eq 0 ] || [ -s "$T/tried" ]
    ok $? "and were tried"
done

# ---- names of files, pages, targets ----
# paths FILE…: those in it that begin with a folder of the tree and have an ending
paths() {
    perl -ne 'while (m{(?<![\w./\$\)\}>-])((?:cmd|lib|kernels|share|t|contrib)/[\w./-]*\.(?:c|h|cu|sh|t|py|pl|1|5|7|sbatch|jsonl?|bash))(?![\w*])}g) {
        print "$1\n" unless $1 =~ /NNNN|NAME/ }' "$@" | sort -u
}
grep -vE '^(share/LICENSE|lib/README|t/0010-tree\.t)$' "$T/files" | xargs cat | paths >"$T/paths"
found 20 "$T/paths" 'names of files in texts and comments'
none "$(while read -r f; do [ -e "$f" ] || [ -e "t/$f" ] || echo "$f: $(xargs grep -lF "$f" <"$T/files" | tr '\n' ' ')"; done <"$T/paths")" 'files that texts and comments name are there'
perl -ne 'print "$1\n" while m{(?<![\w./-])([a-z]+/[a-z_0-9]+\.[ch])(?!\w)}g' lib/README | sort -u >"$T/modules"
found 20 "$T/modules" 'modules in the map of lib'
none "$(while read -r f; do [ -e "lib/$f" ] || [ -e "$f" ] || echo "$f"; done <"$T/modules")" 'modules that lib/README names are there'
none "$(grep -ohE '\bmoe-[a-z]+(-[a-z]+)*(\([157]\))?' $docs | sort -u | while read -r w; do
    case $w in
    *'('*) page=${w%)} && [ -e "share/man/${page%(*}.${page#*(}" ] ;;
    moe-tiny | moe-[0-9]*) [ -e "share/models/$w.json" ] ;;
    *) echo "$commands" | grep -qw -- "$w" ;;
    esac || echo "$w"
done)" "$docs name commands and pages that are there"
# Targets: words after make in `backticks` and in lines set off, up to a double blank.
{
    grep -ohE '`make[^`]*`' $docs share/man/* | tr -d '`'
    sed -nE 's/^    ([A-Z_]+=("[^"]*"|[^ ]*) )?(make .*)/\3/p; s/^([A-Z_]+=("[^"]*"|[^ ]*) )?(make .*)/\3/p' $docs .ci/run
} | sed 's/   *.*//; s/^make//' | tr ' ' '\n' | grep -xE '[a-z-]+' | grep -v '^-' | sort -u >"$T/targets"
found 8 "$T/targets" 'targets of make in texts'
none "$(while read -r t; do grep -qE "^([a-z-]+ )*$t( [a-z-]+)*:" Makefile || echo "make $t"; done <"$T/targets")" 'which are there'
make -s help | sed -n "s/^make \([a-z-]*\).*/\1/p" >"$T/helped"
found 8 "$T/helped" 'targets that make help shows'
none "$(make -s help | awk 'length > 80')" 'in 80 columns'
none "$(while read -r t; do sed -n '/^Targets$/,/^Knobs$/p' INSTALL | grep -qE "\b$t\b" || echo "$t"; done <"$T/helped")" 'INSTALL tells of each'
sed -n 's/^deps *= *//p' Makefile | tr ' ' '\n' | grep . >"$T/packages"
found 10 "$T/packages" 'packages that make deps installs'
none "$(while read -r p; do grep -qw -- "$p" INSTALL || echo "$p"; done <"$T/packages")" 'INSTALL names all of them'

# ---- the environment ----
# Read by programs: in a page, or in INSTALL where only some builds read it. By tests and scripts: in INSTALL or t/README.
code=$(grep -E '^(cmd|lib|kernels)/.*\.[ch]$' "$T/files")
scripts=$(grep -E '^(t|contrib)/' "$T/files" | grep -vE '^t/(0020-docs\.t|README|data/)')
{
    perl -ne 'print "$1\n" while /(?:getenv|env_number)\("([A-Z_0-9]+)"\)/g' $code
    perl -ne 'print "$1\n" while /\$\{?(MOEKIT_[A-Z_0-9]+)/g' share/slurm/*
} | sort -u >"$T/env.code"
{
    perl -ne 'print "$1\n" while /getenv\("([A-Z_0-9]+)"\)/g; print "$1\n" while /\$\{?(MOEKIT_[A-Z_0-9]+)/g' $scripts
} | sort -u >"$T/env.tests"
found 8 "$T/env.code" 'environment variables that programs read'
found 5 "$T/env.tests" 'those that tests read'
none "$(while read -r v; do grep -hE "^\.It Ev|^\.Ev" share/man/* | grep -qw "$v" || grep -qw "$v" INSTALL || echo "$v"; done <"$T/env.code")" \
    'pages or INSTALL tell of every variable that programs read'
none "$(while read -r v; do grep -qw "$v" INSTALL t/README || echo "$v"; done <"$T/env.tests")" 'INSTALL or t/README of every one that tests read'
{
    grep -hoE '^\.(It )?Ev [A-Z_0-9 ,]+' share/man/* | sed -E 's/^\.(It )?Ev//' | tr ' ,' '\n\n'
    grep -hoE '\bMOEKIT_[A-Z_0-9]+' $docs Makefile .ci/run
} | grep . | sort -u >"$T/env.told"
none "$(grep -vx 'MOEKIT_FAULTS' "$T/env.told" | grep -vxF -f "$T/env.code" -f "$T/env.tests")" 'and no other is told of or set'
# Words of $MOEKIT_REQUIRE: those after need in shell, those that C looks for in it.
{
    perl -ne 'print "$1\n" if /^\s*(?:if )?need(?:_for_all)? ([a-z0-9-]+) /; print "$1\n" if /strstr\(require, "([a-z]+)"\)/' \
        $(grep -E '^t/.*\.(t|sh|c|h)$' "$T/files")
} | sort -u >"$T/words"
grep -hE 'MOEKIT_REQUIRE="[^"$]' $docs .ci/run | grep -oE 'REQUIRE="[^"]*"' | sed 's/.*="//; s/"//' | tr ' ' '\n' | sort -u >"$T/required"
found 5 "$T/required" 'words of MOEKIT_REQUIRE'
none "$(comm -23 "$T/required" "$T/words")" 'some test asks for each'
none "$(while read -r w; do sed -n '/^What is skipped/,/^What else/p' t/README | grep -qw -e "$w" || echo "$w"; done <"$T/words")" 't/README lists all that tests ask for'

# ---- completions ----
if need bash bash -c "type complete compgen"; then
    cat >"$T/complete.bash" <<'END'
. contrib/completions/moekit.bash
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_moekit
printf '%s\n' "${COMPREPLY[@]}"
END
    for c in $commands; do
        for verb in '' $(cat "$T/$c.verbs"); do
            bash "$T/complete.bash" "$c" $verb -- | sort >"$T/offered"
            "$c" $verb -h | from_help | awk '{ print "--" $2 }' | sort >"$T/listed"
            is "$(cat "$T/offered")" "$(cat "$T/listed")" "completion after '$c $verb' offers the options of -h"
        done
        for verb in $(grep -vx plan "$T/$c.verbs"); do # that one need not be said
            bash "$T/complete.bash" "$c" "$(echo "$verb" | cut -c1-2)" | grep -qx "$verb"
            ok $? "completion offers '$c $verb'"
        done
        bash -c '. contrib/completions/moekit.bash; complete -p "$1"' - "$c" | grep -q _moekit
        ok $? "completion is for $c"
        sed -n '/^install:/,/^[a-z]*:/p' Makefile | grep -q 'for c in $(COMMANDS); do install .*bash-completion/completions/$$c'
        ok $? 'and is installed under its name'
    done
    is "$(bash "$T/complete.bash" moe-train --dump-l)" --dump-logits 'a beginning is completed'
    # offers WORDS… -- VALUES: behind these words, of a command in an empty directory
    mkdir "$T/empty"
    offers() {
        offers_words=
        while [ "$1" != -- ]; do offers_words="$offers_words $1" && shift; done
        shift
        is "$(cd "$T/empty" && bash -c "cd '$top' && . contrib/completions/moekit.bash && cd '$T/empty'"'
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _moekit; echo "${COMPREPLY[@]}"' - $offers_words "$last")" "$*" "after$offers_words '$last': $*"
    }
    presets=$(ls share/models | sed 's/\.json$//')
    last='' offers moe-partition -m -- $presets
    last=gpt offers moe-stat log --model -- $(echo "$presets" | grep ^gpt)
    last='' offers moe-train --health -c -- $(ls share/clusters | sed 's/\.json$//')
    last=h2 offers moe-partition search --cluster = -- h200 # --cluster=h2 in bash
    last='' offers moe-plan-check --claims -- $(ls share/claims)
    last='' offers moe-partition emit -- megatron deepspeed torchtitan slurm rankfile json
    last='' offers moe-partition --schedule -- gpipe 1f1b interleaved zb-h1
    last== offers moe-partition --precision -- f32 bf16 fp8
    last='' offers moe-partition search --zero -- 0 1 2 3
    last='' offers moe-partition --strategy -- ep16-tp4-pp2 ep16-tp4-pp2-folded
    last=loss,sp offers moe-stat --panels -- loss,speed
    last='' offers moe-ckpt pack --codec -- $(moe-ckpt pack --values=codec)
    touch "$T/empty/one" # among these: files where more than the list can be
    last='' offers moe-partition --lambda -- one
    last=o offers moe-partition -m -- one $(echo "$presets" | grep ^o)
    last='' offers moe-ckpt verify -- one
    last='' offers moe-ckpt list --json -- one
    last='' offers moe-train --backend -- $(moe-train --values=--backend)
    is "$(moe-train --values comm | tr '\n' ' ')" 'auto self mpi strict nccl ' '--values lists what an option can be'
    run moe-partition --values=-c
    is "$status:$(echo "$out" | head -n 1)" 1:a100-80g 'and exits 1 where that is not all'
    run moe-stat --values colour
    is "$status:$out" 2: 'and 2 where there is none'
    touch "$T/some-file.json"
    is "$(cd "$T" && bash -c '. "$1/contrib/completions/moekit.bash"
        COMP_WORDS=(moe-stat some-) COMP_CWORD=1
        _moekit
        echo "${COMPREPLY[@]}"' - "$top")" some-file.json 'and file names'
fi
if need zsh zsh -fc 'autoload -U compinit bashcompinit; compinit -u -D; bashcompinit'; then
    cat >"$T/complete.zsh" <<'END'
autoload -U compinit bashcompinit; compinit -u -D; bashcompinit
. contrib/completions/moekit.bash
emulate -L sh -o kshglob -o noshglob -o braceexpand -o ksharrays # as bashcompinit calls a completion
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_moekit
printf '%s\n' "${COMPREPLY[@]}"
END
    is "$(zsh -f "$T/complete.zsh" moe-ckpt diff -- | sort)" "$(moe-ckpt diff -h | from_help | awk '{ print "--" $2 }' | sort)" 'completion works in zsh too'
    zsh -f "$T/complete.zsh" moe-partition --schedule=z | grep -qx -e --schedule=zb-h1 # zsh itself leaves out what does not begin so
    ok $? 'with values'
fi
done_testing
