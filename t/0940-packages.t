#!/bin/sh
# SPDX-License-Identifier: MIT
# contrib's ways onto a cluster say what the Makefile says: what is needed, the version, and where things are.
. "$(dirname "$0")/lib/tap.sh"
cd "$top" || exit 1
made() { sed -n "s/^$1 *= *//p" Makefile; }

# ---- Debian ----
wanted=$(sed -n '/^Build-Depends:/,/^Standards/p' contrib/debian/control | sed '1d;$d;s/[ ,]//g' | sort)
# debhelper brings gcc and libc; two tests of `make check` alone want the others.
is "$wanted" "$(made deps | tr ' ' '\n' | grep -vxE 'gcc|libc6-dev|gnuplot-nox|libarchive-tools' | sort)" 'the Debian package is built with what `make deps` installs'
like "$(make -n deb)" "moekit-$(made VERSION)" '`make deb` builds this version'
for f in $(cat contrib/debian/docs); do [ -s "$f" ] || echo "$f"; done >"$T/missing"
none "$(cat "$T/missing")" 'and its documents are there'

# ---- Spack, Apptainer ----
like "$(cat contrib/spack/package.py)" "version\\(\"$(made VERSION)\"\\)" 'so does Spack'
if need python command -v python3; then
    python3 - contrib/spack/package.py <<'END'
import ast, sys
tree = ast.parse(open(sys.argv[1]).read())
package = [n for n in tree.body if isinstance(n, ast.ClassDef)]
sys.exit([c.name for c in package] != ["Moekit"] or not ast.get_docstring(package[0]))
END
    ok $? 'whose package is Python'
fi
runtime=$(sed -n 's/.*recommends \(openmpi-bin .*\)/\1/p' contrib/apptainer.def)
for lib in $(ldd "$bin/moe-train" "$bin/moe-ckpt" | grep -oE 'lib(jansson|archive|deflate|isal|zstd|dnnl|gomp)\.so\.[0-9]+' | sed 's/\.so\.//' | sort -u); do
    case " $runtime " in *" $lib "*) ;; *) echo "$lib" ;; esac
done >"$T/missing"
none "$(cat "$T/missing")" 'the container has the libraries that the commands are linked with'

# ---- the modulefile ----
mkdir -p "$T/modules/moekit"
sed "s|^set prefix .*|set prefix $T/opt|" contrib/modulefile >"$T/modules/moekit/1"
if need modulecmd command -v modulecmd; then
    env=$(MODULEPATH=$T/modules modulecmd sh load moekit 2>&1)
    like "$env" "^PATH=$T/opt/bin:" 'the modulefile leads to the commands'
    like "$env" "^MOEKIT_SLURM=$T/opt/share/moekit/slurm;" 'and to the batch scripts'
fi
done_testing
