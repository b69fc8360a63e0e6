#!/bin/sh
# SPDX-License-Identifier: MIT
# What is written about the commands is so: -h against man pages, README, INSTALL and completions.
. "$(dirname "$0")/lib/tap.sh"
cd "$top" || exit 1
commands=$(sed -n 's/^COMMANDS *= *//p' Makefile)
version=$(sed -n 's/^VERSION *= *//p' Makefile)
[ "$(echo "$commands" | wc -w)" -eq 5 ]
ok $? 'the Makefile names five commands'

# The verbs that a command's -h shows.
verbs() { "$1" -h | sed -n "s/^\(usage:\)\{0,1\} *$1 \[\{0,1\}\([a-z][a-z]*\)\]\{0,1\}\( .*\)\{0,1\}\$/\2/p" | sort -u; }

# Options, a line each: `p plan x` (letter or -, name, x if it takes an argument). From -h, and from a page's .It lines.
from_help() {
    sed -nE 's/^ +(-([a-zA-Z]), )?--([a-z0-9-]+)( [^ ].*| *$|  .*)?$/\2|\3|\4/p' |
        awk -F'|' '{ print ($1 == "" ? "-" : $1), $2, ($3 ~ /^ [^ ]/ ? "x" : "") }' | sort -u
}
from_page() {
    sed -nE 's/^\.It Fl (([a-zA-Z]) , )?-([a-z0-9-]+)( (Ar|Cm|Ns).*)?$/\2|\3|\4/p' "$1" |
        awk -F'|' '{ print ($1 == "" ? "-" : $1), $2, ($3 != "" ? "x" : "") }' | sort -u
}

for c in $commands; do
    # ---- -h, --version, what is no option ----
    v=$(verbs "$c")
    for verb in '' $v; do
        run "$c" $verb -h
        is "$status $err" '0 ' "$c $verb -h exits 0 and says nothing on stderr"
        shown=$verb
        [ "$verb" != plan ] || shown= # the verb that need not be said
        like "$(head -n 1 "$T/.out")" "^usage: .*$c.*$shown" 'and shows the usage'
        cat "$T/.out" >>"$T/$c.help"
        is "$("$c" $verb --help | cksum)" "$(cksum <"$T/.out")" '--help is the same'
        run "$c" $verb --no-such-option
        is "$status $out" '2 ' "$c $verb --no-such-option exits 2"
        like "$err" "^$c.*: .*'--no-such-option' .*-h" 'names it, and says where to look'
    done
    run "$c" --version
    is "$status $out" "0 $c${c:+ }(moekit) $version" "$c --version"
    if [ -w /dev/full ]; then
        "$c" -h >/dev/full 2>"$T/.err"
        is $? 3 "$c -h on a full disk exits 3"
    fi

    # ---- the man page ----
    page=share/man/$c.1
    if [ ! -e "$page" ]; then
        fail "$page is there"
        continue
    fi
    from_help <"$T/$c.help" >"$T/$c.help.options"
    from_page "$page" >"$T/$c.page.options"
    [ "$(wc -l <"$T/$c.help.options")" -ge 5 ]
    ok $? "options of $c are found"
    none "$(comm -23 "$T/$c.help.options" "$T/$c.page.options")" "$page has every option of -h, as it is there"
    none "$(comm -13 "$T/$c.help.options" "$T/$c.page.options")" "and no other"
    none "$(for s in NAME SYNOPSIS DESCRIPTION 'EXIT STATUS' EXAMPLES 'SEE ALSO'; do grep -q "^\.Sh $s\$" "$page" || echo "$s"; done)" \
        "$page has its sections"
    none "$(for verb in $v; do grep -qE "^\.(Cm|Op Cm|It Cm|Ic|Op Ic) $verb\b" "$page" || echo "$verb"; done)" "$page tells of each verb"
done

# ---- every page ----
if need mandoc command -v mandoc; then
    for page in share/man/*.[15]; do
        is "$(mandoc -Tlint -Wwarning "$page" 2>&1)" '' "$page is clean"
    done
fi
none "$(grep -hoE '^\.Xr moe-[a-z-]+ [15]' share/man/* | sort -u | while read -r _ name section; do
    [ -e "share/man/$name.$section" ] || echo "$name($section)"
done)" 'pages that pages refer to are there'
for page in share/man/*.[15]; do
    name=$(basename "$page")
    grep -q "^\.Dt $(echo "${name%.*}" | tr a-z A-Z) ${name##*.}\$" "$page" && grep -q "^\.Nm ${name%.*}\$" "$page"
    ok $? "$page is titled as its file"
done
moe-partition -m moe-tiny -o "$T/plan"
none "$({
    moe-stat --format csv t/data/steplog-small.jsonl | head -n 1 | tr , '\n' | sed '/^model$/d; /^backend$/d; /^precision$/d; /^world$/d'
    sed -n 's/^predict //p' "$T/plan" | tr ' ' '\n' | sed 's/=.*//'
} | sort -u | while read -r f; do grep -qE "^\.(It )?Va (.* )?$f( |\$)" share/man/moe-figures.5 || echo "$f"; done)" 'moe-figures.5 has every figure'
none "$(sed -nE 's/^\.It Va //p' share/man/moe-figures.5 | tr -d , | tr ' ' '\n' | grep . | while read -r f; do
    moe-stat --format csv t/data/steplog-small.jsonl | head -n 1 | tr , '\n' | grep -qx "$f" || grep -q "^predict.* $f=" "$T/plan" || echo "$f"
done)" 'and no other'

# ---- README, INSTALL, examples in pages: commands, options, targets that are there ----
# uses FILE: `COMMAND OPTION`, a line each, of the lines that call a command
uses() {
    sed 's/^\.Dl //; s/\\e$/\\/' "$1" | sed -e ':a' -e '/\\$/{N;s/\\\n//;ta' -e '}' | grep -v '^ *#' | tr '|&;`()' '\n\n\n\n\n\n' |
        awk '{ c = ""; for (i = 1; i <= NF; i++) {
            if ($i ~ /^moe-[a-z-]+$/ && c == "") c = $i
            else if (c != "" && $i ~ /^--[a-z]/) { sub(/=.*/, "", $i); sub(/[^a-z0-9-].*$/, "", $i); print c, $i } } }' | sort -u
}
for file in README INSTALL share/man/*.1; do
    none "$(uses "$file" | while read -r c o; do
        [ -e "$T/$c.help" ] && ! grep -qE "^ .*$o( |\$)" "$T/$c.help" && echo "$c $o"
    done)" "$file: options that it uses are there"
done
none "$(grep -ohE '\bmoe-[a-z]+(-[a-z]+)*(\([15]\))?' README INSTALL | sort -u | while read -r w; do
    case $w in
    *'('*) page=${w%)} && [ -e "share/man/${page%(*}.${page#*(}" ] ;;
    moe-tiny | moe-[0-9]*) [ -e "share/models/$w.json" ] ;;
    *) echo "$commands" | grep -qw -- "$w" ;;
    esac || echo "$w"
done)" 'README and INSTALL name commands and pages that are there'
none "$(sed 's/ [A-Za-z]*=[^ ]*/;/g' README INSTALL | grep -oE '\bmake( -j)?( [a-z-]+)+' | sed 's/.*make//' | tr ' ' '\n' | grep -E '^[a-z]' | sort -u | while read -r t; do
    grep -qE "^([a-z-]+ )*$t( [a-z-]+)*:" Makefile || echo "make $t"
done)" 'and targets of the Makefile'
none "$(sed -n 's/^DEPS = //p' Makefile | tr ' ' '\n' | while read -r p; do grep -qw -- "$p" INSTALL || echo "$p"; done)" 'INSTALL names all packages'

# ---- completions ----
if need bash bash -c 'type complete mapfile'; then
    cat >"$T/complete.bash" <<'END'
. contrib/completions/moekit.bash
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_moekit
printf '%s\n' "${COMPREPLY[@]}"
END
    for c in $commands; do
        for verb in '' $(verbs "$c"); do
            bash "$T/complete.bash" "$c" $verb -- | sort >"$T/offered"
            "$c" $verb -h | from_help | awk '{ print "--" $2 }' | sort >"$T/listed"
            is "$(cat "$T/offered")" "$(cat "$T/listed")" "completion after '$c $verb' offers the options of -h"
        done
        for verb in $(verbs "$c" | grep -vx plan); do # that one need not be said
            bash "$T/complete.bash" "$c" "$(echo "$verb" | cut -c1-2)" | grep -qx "$verb"
            ok $? "completion offers '$c $verb'"
        done
        bash -c '. contrib/completions/moekit.bash; complete -p "$1"' - "$c" | grep -q _moekit
        ok $? "completion is for $c"
    done
    is "$(bash "$T/complete.bash" moe-train --dump-l)" --dump-logits 'a beginning is completed'
    touch "$T/some-file.json"
    is "$(cd "$T" && bash -c '. "$1/contrib/completions/moekit.bash"
        COMP_WORDS=(moe-stat some-) COMP_CWORD=1
        _moekit
        echo "${COMPREPLY[@]}"' - "$top")" some-file.json 'and file names'
fi
done_testing
