/* SPDX-License-Identifier: MIT */
#include "emit/slurm.h"

#include "base/error.h"
#include "emit/hosts.h"
#include "emit/target.h"

/* The hosts of the ranks in their order, a word for each run of one host: "0*8", ranks on host 0, eight of
 * them. */
static void put_runs(const struct plan *p, const struct host_map *h, FILE *f)
{
    int words = 0;
    for (int r = 0, next; r < p->world; r = next) {
        for (next = r; next < p->world && h->of_rank[next] == h->of_rank[r]; next++)
            ;
        fprintf(f, "%s%d*%d", !words ? "" : words % 16 ? " " : "\n", h->of_rank[r], next - r);
        words++;
    }
}

static void put_directives(const struct plan *p, const struct host_map *h, FILE *f)
{
    fputs("#SBATCH --job-name=moe-train\n", f);
    fprintf(f, "#SBATCH --nodes=%d --ntasks-per-node=%d\n", h->count, h->most);
    if (p->machine.device == DEVICE_CUDA)
        fprintf(f, "#SBATCH --gpus-per-node=%d\n", h->most);
    fputs("#SBATCH --output=%x-%j.out --open-mode=append\n", f);
    fputs("# Asks all ranks for a checkpoint 300 seconds before the time limit (moe-slurm(7)).\n", f);
    fputs("#SBATCH --signal=USR1@300\n", f);
}

int plan_write_slurm(const struct plan *p, FILE *f)
{
    struct host_map h;
    host_map_make(&h, p);
    fputs("#!/bin/sh\n", f);
    emit_title(p, "slurm", f);
    fputs("# Starts a command on each rank, on the host that the plan has it on:\n#\n"
          "#   sbatch FILE moe-train -p PLAN -d DATA -s STEPS --resume ROOT --save ROOT --log ROOT/log\n#\n",
          f);
    put_directives(p, &h, f);
    fputs("set -u\n[ $# -gt 0 ] || { echo \"usage: sbatch FILE COMMAND [ARGUMENT...]\" >&2; exit 2; }\n\n", f);
    if (h.even)
        fprintf(f, "# All hosts have %d ranks, in order: srun -m block alone would place them so too.\n",
                h.most);
    fputs("# HOST*RANKS in the order of ranks; host 0 is the first of the job.\nplaces='", f);
    put_runs(p, &h, f);
    fputs("'\n"
          "SLURM_HOSTFILE=$(mktemp) || exit 3\n"
          "export SLURM_HOSTFILE\n"
          "trap 'rm -f \"$SLURM_HOSTFILE\"' EXIT\n"
          "for place in $places; do echo \"$place\"; done |\n"
          "    awk -F'*' -v hosts=\"$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | tr '\\n' ' ')\" '\n"
          "        BEGIN { split(hosts, host, \" \") }\n"
          "        { for (i = 0; i < $2; i++) print host[$1 + 1] }' >\"$SLURM_HOSTFILE\" || exit 3\n\n",
          f);
    fputs("# The host file counts, not the tasks that sbatch was asked for on each node.\n"
          "unset SLURM_NTASKS_PER_NODE SLURM_TASKS_PER_NODE SLURM_DISTRIBUTION\n",
          f);
    fprintf(f, "srun --mpi=pmix -n %d -m arbitrary --kill-on-bad-exit=0 --wait=0 \"$@\"\n", p->world);
    fputs("exit $? # of the command: see moe-slurm(7)\n", f);
    host_map_release(&h);
    return ferror(f) ? error_errno("cannot write the script") : 0;
}

int plan_write_rankfile(const struct plan *p, FILE *f)
{
    struct host_map h;
    host_map_make(&h, p);
    emit_title(p, "rankfile", f);
    fprintf(f, "#   mpirun -n %d --rankfile FILE moe-train -p PLAN ...\n", p->world);
    fputs(
        "# +nN is the N-th host of the job, which mpirun knows under Slurm, PBS or LSF; elsewhere put names "
        "there.\n"
        "# Slots are the cores of the first socket: a plan knows no sockets. Where a host has more, give its\n"
        "# ranks their own (slot=1:* is all of the second).\n",
        f);
    for (int r = 0; r < p->world; r++)
        fprintf(f, "rank %d=+n%d slot=0:*\n", r, h.of_rank[r]);
    host_map_release(&h);
    return ferror(f) ? error_errno("cannot write the rankfile") : 0;
}
