#!/bin/sh
# SPDX-License-Identifier: MIT
# The tree: nine entries at the top, layers that only look down, each outside library behind one door, and habits.
. "$(dirname "$0")/lib/tap.sh"
cd "$top" || exit 1
need_for_all git git ls-files --error-unmatch Makefile
git ls-files -z | tr '\0' '\n' | while read -r f; do [ -e "$f" ] && echo "$f"; done >"$T/files"

# ---- what lies at the top ----
none "$(cut -d/ -f1 "$T/files" | sort -u | grep -vxE 'Makefile|cmd|lib|kernels|share|t|contrib|README|INSTALL|\..*')" \
    'the top has the nine entries and dotfiles'
none "$(grep -E '\.(o|a|so|d|pyc|png|bin|safetensors)$' "$T/files")" 'nothing that was built is kept'
is "$(find lib -mindepth 1 -maxdepth 1 -type f)" 'lib/README' 'lib has folders, and their map'

# ---- layers: what a folder's files include ----
# includes FOLDER…: what they include, a path from the top a line
includes() {
    for folder; do
        folder=${folder%/}
        for file in "$folder"/*.[ch]; do
            sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$file" | while read -r header; do
                for where in "$folder" lib kernels; do
                    [ ! -f "$where/$header" ] || { echo "$file: $where/$header"; break; }
                done
            done
        done
    done | sed 's,[^/ ]*/\.\./,,g'
}

# only FOLDER ALLOWED: it includes nothing but what matches ALLOWED
only() {
    none "$(includes "$1" | grep -vE "^[^ ]* ($2)")" "$1 includes only $(echo "$2" | sed 's/\\//g')"
}
[ "$(includes lib/*/ kernels cmd | wc -l)" -gt 300 ]
ok $? 'includes are found'
#        room          what it may look into, besides itself
layers='base
         model         base
         plan          base model
         cost          base model plan
         emit          base model plan
         tensors       base model
         data          base
         comm          base
         check         base model plan cost
         choose        base model plan cost check
         probe         base model plan cost comm
         engine        base model plan cost comm
         ckpt          base model plan tensors comm
         pack          base model plan tensors ckpt
         recast        base model plan choose tensors ckpt pack
         train         base model plan cost check tensors data comm engine ckpt
         stat          base model plan cost
         claim         base model plan cost stat
         draw          base model plan cost stat'
is "$(printf '%s\n' "$layers" | awk '{ print $1 }' | sort | tr '\n' ' ')" "$(ls lib | grep -v README | sort | tr '\n' ' ')" 'every room has its place'
printf '%s\n' "$layers" >"$T/layers"
while read -r room below; do
    only "lib/$room" "lib/($(echo "$room $below" | sed 's/ *$//; s/ /|/g'))/|kernels/(backend|ops|scratch)\.h"
done <"$T/layers"
for room in base model plan cost emit data check choose stat claim draw; do
    case $room in cost) continue ;; esac # the arena is laid out in the backend's types
    none "$(includes "lib/$room" | grep ' kernels/')" "lib/$room knows no kernel"
done
only cmd 'lib/|cmd/'
for folder in kernels kernels/*/; do
    only "${folder%/}" 'lib/base/|kernels/'
done
none "$(includes kernels/*/ | awk '{ a = $1; b = $2; sub("[^/]*$", "", a); sub("[^/]*$", "", b) } b != "kernels/" && b !~ "^lib/" && a != b')" \
    'no backend looks into another'

# A file and the header of its name are one module: none may use itself by way of others.
for f in $(grep -E '^(lib|kernels)/.*\.c$' "$T/files"); do echo "${f%.c}"; done >"$T/modules"
includes lib/*/ kernels kernels/*/ | sed -nE 's/\.c: (.*)\.h$/ \1/p' | awk 'FNR == NR { module[$1] = 1; next } $1 != $2 && $2 in module' "$T/modules" - | sort -u >"$T/uses"
[ "$(wc -l <"$T/uses")" -gt 200 ]
ok $? 'uses are found'
none "$(tsort "$T/uses" 2>&1 >/dev/null | sed 's/^tsort: //')" 'no module uses itself in a circle'

# Files are called after the header they implement (NAME.h: NAME.c, NAME_part.c) and the other way round; the kinds
# of a seam implement its table instead.
none "$(grep -E '^lib/.*\.c$' "$T/files" | while read -r f; do
    stem=${f%.c}
    ! grep -q "^const struct comm_ops comm_${stem##*/} = " "$f" || continue
    until [ -f "$stem.h" ]; do
        case ${stem##*/} in *_*) stem=${stem%_*} ;; *) echo "$f" && break ;; esac
    done
done)" 'every file implements the header of its name'

# door NAME HEADER FOLDER: only files in FOLDER include it
door() {
    none "$(grep -E '^(cmd|lib|kernels)/' "$T/files" | xargs grep -lE "# *include *[<\"]([a-z_]*/)?$2" | grep -v "^$3/")" \
        "headers of $1 are included in $3 alone"
}
door MPI 'mpi\.h' lib/comm
door oneDNN 'dnnl[a-z_]*\.h' kernels/cpu
door CUDA '(cuda|cublas|cudnn)[A-Za-z_]*\.h' kernels/cuda
door NCCL 'nccl\.h' lib/comm
door libarchive 'archive(_entry)?\.h' lib/pack
door libdeflate 'libdeflate\.h' 'lib/\(pack\|tensors\)'
door ISA-L 'isa-l/' lib/tensors
door zstd 'zstd\.h' lib/pack
door OpenMP 'omp\.h' kernels
none "$(grep -E '^(cmd|lib|kernels)/.*\.[ch]$' "$T/files" | xargs grep -nE '# *include *[<"]\.\.' | grep -v '^kernels/')" 'no include climbs out of its folder'

# ---- the library reports, commands decide ----
# Allowed, FILE:WORD, each for a reason:
#   lib/base/memory.c:_Exit     no memory: nothing could be reported either
#   lib/base/help.c:*           -h prints
#   lib/base/options.c:*        and ends the command, as --version does
#   lib/comm/comm.c:exit        comm_abort(), which is there to end the job
#   lib/comm/watchdog.c:_exit   the main thread is stuck in MPI
#   lib/plan/layout.c:abort     a caller's mistake that no input can cause
#   lib/train/train.c:printf    --dry-run's table
#   kernels/cpu/piece.c:_Exit    no memory inside a thread
#   kernels/late_memory.c:abort the late backend exists to end a test
allowed='^(lib/base/memory\.c:_Exit|lib/base/help\.c:[a-z]*|lib/base/options\.c:[a-z]*|lib/comm/comm\.c:exit|lib/comm/watchdog\.c:_exit|lib/plan/layout\.c:abort|lib/train/train\.c:printf|kernels/cpu/piece\.c:_Exit|kernels/late_memory\.c:abort)$'
calls=$(grep -E '^(lib|kernels)/.*\.c$' "$T/files" | xargs grep -onE '(^|[^A-Za-z0-9_.>])(exit|_exit|_Exit|quick_exit|abort|assert|printf|vprintf|puts|putchar|perror)\(' |
    grep -vE ':[^:]*//' | sed -E 's/^([^:]*):[0-9]*:[^a-z_]*([A-Za-z_]*)\($/\1:\2/' | sort -u)
none "$(printf '%s\n' "$calls" | grep -vE "$allowed" | grep .)" 'library code does not exit, abort or print'

# ---- habits ----
none "$(grep -E '\.([ch]|cu)$' "$T/files" | xargs wc -l | awk '$2 != "total" && $1 > 600 { print $2 ": " $1 " lines" }')" 'no file of C is longer than 600 lines'
none "$(grep -E '\.([ch]|cu)$' "$T/files" | xargs awk '
    /^[a-z].*\)$/ { name = $0 }
    /^{$/ { start = FNR }
    /^}$/ && start { if (FNR - start + 2 > 60) print FILENAME ": " FNR - start + 2 " lines: " name; start = 0 }')" 'no function is longer than 60 lines'
none "$(grep -E '\.([ch]|cu|py|sh|t|1|5|7|bash|sbatch)$|^Makefile$|^\.ci/|^t/(demo|(bench|fuzz)/[a-z]*)$' "$T/files" | while read -r f; do
    head -n 3 "$f" | grep -q 'SPDX-License-Identifier: MIT' || echo "$f"
done)" 'each file names its licence'
none "$(xargs grep -nE '(^|[^A-Za-z0-9_.%}])/(work|root|home)/[A-Za-z0-9]' <"$T/files" | grep -v '^t/0010-tree\.t:')" 'no path of one machine'
none "$(xargs grep -nIE '[[:blank:]]$' <"$T/files" | grep -vE '^(share/LICENSE|t/(data|fuzz/seeds)/foreign/[^:]*):')" 'no blanks at line ends'
none "$(grep -E '\.([ch]|py|sh|t|1|5|7|md|sbatch)$' "$T/files" | while read -r f; do [ -z "$(tail -c 1 "$f")" ] || echo "$f"; done)" 'every file ends with its line'
while read -r f; do
    case $(head -n 1 "$f" | tr -d '\0') in
    '#!'*bash*)
        need bash bash -n "$f" && pass "bash parses $f" ;;
    '#!'*sh)
        sh -n "$f"
        ok $? "sh parses $f" ;;
    esac
done <"$T/files"
for f in t/lib/tap.sh; do
    sh -n "$f"
    ok $? "sh parses $f"
done
none "$(grep -E '\.([ch]|cu)$' "$T/files" | xargs perl -CSD -ne 'print "$ARGV:$.\n" if length > 113; close ARGV if eof')" 'no line of C is longer than 112 columns'
none "$(grep -E '^(lib|kernels|cmd)/.*\.[ch]$' "$T/files" | xargs grep -hoE '^(static )?(const )?(struct|enum) [a-z_0-9]+( \{|$)' |
    sed -E 's/static |const | \{//g' | grep -vx 'struct stream' | sort | uniq -d)" 'a type name means one thing (but what a stream is, on a host and on a device)'
none "$(grep -E '^t/[0-9].*\.t$' "$T/files" | grep -vE '^t/[0-9]{4}-[a-z0-9-]+\.t$')" 'tests are named t/NNNN-what.t'
if need clang-format sh -c 'clang-format --version | grep -q " 14\."'; then # others break lines elsewhere
    none "$(grep -E '\.([ch]|cu)$' "$T/files" | xargs clang-format --dry-run -Werror 2>&1 | sed -nE 's/^([^ :]*):[0-9]+:.*/\1/p' | sort -u)" \
        'clang-format 14 has nothing to change'
fi
done_testing
