#!/bin/sh
# SPDX-License-Identifier: MIT
# Files of others against those who read them: headers of safetensors against the safetensors library, config.json against
# transformers' config classes and the modules that they build, key by key; each family's and preset's tensors, name by name.
. "$(dirname "$0")/lib/tap.sh"

python=${MOEKIT_PYTHON:-$top/.build/oracles/bin/python}
need_for_all torch "$python" -c 'import torch, transformers, safetensors' # `make oracles` makes one that has them
figures=${MOEKIT_T:-${bin%/bin}/t}/model-figures
need_for_all helpers test -x "$figures"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1

# looked_at LEAST: the output's last line counts that many files or more
looked_at() {
    count=$(printf '%s\n' "$out" | sed -n '$s/ .*//p')
    [ "${count:-0}" -ge "$1" ]
    ok $? "at least $1 were looked at"
    diag "$(printf '%s\n' "$out" | tail -n 1)"
}

run "$python" "$top/contrib/oracle/edge-files.py" "$bin/moe-ckpt" "$T/edge"
is "$status" 0 'moe-ckpt accepts what the safetensors library accepts, refuses what it refuses, and sees the same in it'
[ "$status" -eq 0 ] || diag "$(printf '%s\n' "$out" "$err" | tail -n 30)"
looked_at 600
run "$python" "$top/contrib/oracle/configs.py" "$figures" "$T/configs"
is "$status" 0 'config.json means what it means to transformers: every default and every edge'
[ "$status" -eq 0 ] || diag "$(printf '%s\n' "$out" "$err" | tail -n 30)"
looked_at 1200
run "$python" "$top/contrib/oracle/inventory.py" "${figures%figures}tensors" "$T/defaults" "$top"/share/models/*.json
is "$status" 0 "every preset and every family's default model has transformers' tensors, by name and shape"
[ "$status" -eq 0 ] || diag "$(printf '%s\n' "$out" "$err" | head -n 30)"
is "$(printf '%s\n' "$out" | sort)" "$(grep -v '^#' "$top/t/data/model-totals" | sort)" 'and the golden totals are those'
done_testing
