# SPDX-License-Identifier: MIT
# For tests of moe-train with seeded faults, halts and left-out waits (lib/base/faults.h). Source after tap.sh, in place of layouts.sh, which it has.
# The rest of the file is skipped without the build that has them.

bin=$top/.build/faults/bin
need_for_all faults test -x "$bin/moe-train" # make FAULTS=1 all
PATH=$bin:$PATH
. "$(dirname "$0")/lib/layouts.sh"
