# SPDX-License-Identifier: MIT
# For tests in shell: source it, call what is below, end with done_testing. POSIX sh.
#
#   run COMMAND…             runs it; $out and $err are what it printed, $status its exit status
#   is GOT WANTED NAME       equal text            near GOT WANTED TOLERANCE NAME   equal numbers (NaN never is)
#   like GOT REGEX NAME      matches (egrep)       unlike GOT REGEX NAME
#   ok STATUS NAME           0 is fine: `test -s x; ok $? 'x is there'`
#   none LIST NAME           empty: each line of LIST is one thing that is wrong
#   pass NAME, fail NAME, skip NAME REASON, diag TEXT
# Those that test return 1 when they fail: `is … || diag "$(cat log)"`.
#
#   need WORD COMMAND…       true when COMMAND succeeds. Otherwise a skip, or a failure if WORD is in $MOEKIT_REQUIRE:
#                            `if need jq command -v jq; then …; fi`
#   need_for_all WORD COMMAND…   the same for the whole file, which ends here when it fails
#   plan N, or done_testing at the end
#
# $T is a temporary directory, removed at the end; $top the top of the tree. The commands under test are first in PATH.

top=$(cd "$(dirname "$0")/.." && pwd)
[ "${top##*/}" != t ] || top=${top%/*} # a test in a folder of t
bin=${MOEKIT_BIN:-.build/release/bin}
case $bin in
/*) ;;
*) bin=$top/$bin ;;
esac
! command -v mpirun >/dev/null || PATH=$top/t/lib/launch:$PATH # see mpirun there
PATH=$bin:$PATH
LC_ALL=C
export PATH LC_ALL

T=$(mktemp -d "${TMPDIR:-/tmp}/moekit-test-XXXXXX") || exit 1
trap 'rm -rf "$T"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

tests=0 failures=0 planned=

plan() { planned=$1; echo "1..$1"; }

diag() { printf '%s\n' "$*" | sed 's/^/# /' >&2; }

pass() { tests=$((tests + 1)); echo "ok $tests - $1"; }

fail() { tests=$((tests + 1)); failures=$((failures + 1)); echo "not ok $tests - $1"; return 1; }

skip() { tests=$((tests + 1)); echo "ok $tests - $1 # SKIP $2"; }

ok() {
    if [ "$1" -eq 0 ]; then pass "$2"; else fail "$2"; fi
}

is() {
    if [ "$1" = "$2" ]; then
        pass "$3"
    else
        fail "$3"
        diag "expected: $2"
        diag "     got: $1"
        return 1
    fi
}

like() {
    if printf '%s\n' "$1" | grep -Eq -e "$2"; then
        pass "$3"
    else
        fail "$3"
        diag "expected a match of: $2"
        diag "                got: $1"
        return 1
    fi
}

none() {
    if [ -z "$1" ]; then
        pass "$2"
    else
        fail "$2"
        diag "$1"
        return 1
    fi
}

unlike() {
    if printf '%s\n' "$1" | grep -Eq -e "$2"; then
        fail "$3"
        diag "expected no match of: $2"
        diag "                 got: $1"
        return 1
    else
        pass "$3"
    fi
}

near() {
    if awk -v got="$1" -v want="$2" -v tol="$3" 'BEGIN {
        if (got !~ /^[-+]?[0-9.]+([eE][-+]?[0-9]+)?$/) exit 1
        err = got - want; if (err < 0) err = -err
        exit !(err <= tol) }'; then
        pass "$4"
    else
        fail "$4"
        diag "expected: $2 (within $3)"
        diag "     got: $1"
        return 1
    fi
}

run() {
    "$@" >"$T/.out" 2>"$T/.err"
    status=$?
    out=$(cat "$T/.out")
    err=$(cat "$T/.err")
    return 0
}

need() {
    need_word=$1
    shift
    "$@" >/dev/null 2>&1 && return 0
    case " ${MOEKIT_REQUIRE:-} " in
    *" $need_word "*) fail "$need_word is here, as MOEKIT_REQUIRE says" ;;
    *) skip "what needs $need_word" "'$*' fails here" ;;
    esac
    return 1
}

need_for_all() {
    need_word=$1
    shift
    "$@" >/dev/null 2>&1 && return 0
    case " ${MOEKIT_REQUIRE:-} " in
    *" $need_word "*)
        fail "$need_word is here, as MOEKIT_REQUIRE says"
        done_testing
        ;;
    *)
        echo "1..0 # SKIP needs $need_word: '$*' fails here"
        exit 0
        ;;
    esac
}

done_testing() {
    [ -n "$planned" ] || echo "1..$tests"
    [ "$failures" -eq 0 ] || diag "$failures of $tests failed"
    [ "$failures" -eq 0 ] && [ "${planned:-$tests}" -eq "$tests" ]
    exit $?
}
