# SPDX-License-Identifier: MIT
# For tests that run jobs on a Slurm of their own (t/slurm/cluster): source it behind tap.sh. It starts one under $T, with nodes n1 to n4
# of four processors, and ends it with the test.
PATH=$PATH:/usr/sbin:/sbin
need_for_all slurm sh -c 'for c in munged slurmctld slurmd srun sbatch; do command -v $c || exit 1; done'
scripts=$top/share/slurm
export SLURM_CONF="$T/slurm/slurm.conf" OMP_NUM_THREADS=1
export OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=lo # nodes of one host must not find each other in its memory
trap '"$top/t/slurm/cluster" stop "$T/slurm" && rm -rf "$T"' EXIT

"$top/t/slurm/cluster" "${cluster:-start}" "$T/slurm"
ok $? "a Slurm of ${NODES:-4} nodes starts" || exit 1
cd "$T" || exit 1

# field JOB NAME: of scontrol show job
field() { scontrol show job "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"; }
# until SECONDS COMMAND…: waits for it to succeed
until_so() {
    left=$(($1 * 2))
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 0.5
    done
}
ended() { case $(field "$1" JobState) in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) ;; *) return 1 ;; esac }
submit() { job=$(sbatch --parsable -N 4 --ntasks-per-node=1 -o "$T/%j.out" "$@"); }
# finish NAME WANTED SBATCH-ARGUMENTS…: a job, to its end: WANTED is its state and exit status. Open MPI's start crashes now and then when all nodes are
# one busy host: such a job is submitted again.
finish() {
    finish_name=$1 finish_wanted=$2
    shift 2
    for try in 1 2 3; do
        [ -n "$job" ] || submit "$@"
        until_so 400 ended "$job"
        [ "$(field "$job" JobState) $(field "$job" ExitCode)" != "$finish_wanted" ] && [ $# -gt 0 ] || break
        grep -q 'Segmentation fault' "$job.out" || break
        diag "$finish_name: the start of MPI crashed: try $try"
        job=
    done
    is "$(field "$job" JobState) $(field "$job" ExitCode)" "$finish_wanted" "$finish_name" || diag "$(tail -n 20 "$job.out")"
    last=$job job=
}
# losses LOG: step, loss and gradient norm as they are written; of a repeated step the last
losses() {
    perl -ne 'next unless /"kind":"step"/; /"step":(\d+)/ and $s = $1; /"loss":([^,]+)/ and $l = $1; /"grad_norm":([^,]+)/ and $line{$s} = "$l $1";
        END { print "$_ $line{$_}\n" for sort { $a <=> $b } keys %line }' "$1"
}
stepped() { grep -q "\"step\":$2," "$1" 2>/dev/null; }
rank_pid() { # of job $1, rank $2
    for p in $(pgrep -x moe-train); do
        cat "/proc/$p/environ" 2>/dev/null | tr '\0' '\n' | grep -cxE "SLURM_CONF=$SLURM_CONF|SLURM_JOB_ID=$1|SLURM_PROCID=$2" | grep -qx 3 && echo "$p"
    done
}
# Processes of this Slurm's node $1: slurmd, slurmstepd, and what they run
node_pids() {
    env -u SLURM_CONF grep -lzs "^SLURM_CONF=$SLURM_CONF\$" /proc/[0-9]*/environ | cut -d/ -f3 | while read -r p; do
        if tr '\0' ' ' <"/proc/$p/cmdline" | grep -q "^slurmd -N $1 "; then
            echo "$p"
        elif tr '\0' '\n' <"/proc/$p/environ" | grep -qx "SLURMD_NODENAME=$1"; then
            echo "$p"
            parent=$(awk '/^PPid:/ { print $2 }' "/proc/$p/status")
            tr '\0' ' ' <"/proc/$parent/cmdline" | grep '^slurmstepd' >"$T/.stepd" && echo "$parent"
        fi
    done 2>/dev/null | sort -u
}
# One or more, all at once: nothing of them may see another go. Children first: those of a parent that has gone the kernel wakes, and srun then has the
# time to end its step.
node_dies() {
    gone=$(for n in "$@"; do node_pids "$n"; done | sort -rn)
    # shellcheck disable=SC2086
    kill -s STOP $gone
    # shellcheck disable=SC2086
    kill -s KILL $gone
}
# What a killed slurmstepd has left would keep others from starting there.
node_returns() {
    find "$T/slurm/$1" \( -name '*pmix*' -o -name 'n?_*' -o -name 'job0*' \) -prune -exec rm -rf {} +
    "$top/t/slurm/cluster" node "$T/slurm" "$1"
    until_so 60 sh -c "sinfo -h -n $1 -o %t | grep -qE 'idle|mix|alloc'"
}
job=

# The last test of each file: nothing is left.
slurm_ends() {
    "$top/t/slurm/cluster" stop "$T/slurm"
    ok $? 'the Slurm stops'
    none "$(unset SLURM_CONF; grep -lzs "^SLURM_CONF=$T/slurm/slurm.conf\$" /proc/[0-9]*/environ)" 'and leaves no process'
    [ ! -e "$T/slurm" ]
    ok $? 'and no file'
    trap 'rm -rf "$T"' EXIT
}
