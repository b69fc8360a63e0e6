/* SPDX-License-Identifier: MIT */
/* The step log: JSON Lines, one object a line, each with "kind": start step eval save fault end. moe-train writes it,
 * moe-stat reads it. Keys are those of commands.md and moe-steplog(5).
 *
 *   start  version, command, plan (crc32 of the plan, hex), model, world, axes{tp,cp,ep,etp,edp,dp,pp,vpp}, seq, micro_batch, global_batch, layers, experts, top_k,
 *          parameters, active_parameters, flops_per_token, peak_flops (a rank's, null when unknown), precision, backend, comm, threads, hosts, time (RFC 3339), step (resumed from, 0)
 *   step   step, loss, aux_loss, z_loss, grad_norm, lr, tokens, time_s, phases{NAME{mean,max,rank}}, comm{NAME{busy,exposed}},
 *          load{max_over_mean,std,min_over_mean} (over experts, averaged over MoE layers), expert_load [[…E] a MoE layer] every --loads-every steps, dropped, overflow,
 *          memory_bytes [{stage,max,rank}], peak_bytes
 *   eval   step, loss, tokens, time_s        save  step, path, bytes, time_s
 *   fault  step, rank, host, device, collective, group, reason      end  step, status, reason, time_s
 *
 * Numbers read back bitwise. A line that does not parse is counted, not fatal. Of a repeated step the last record counts. */
#ifndef STAT_STEPLOG_H
#define STAT_STEPLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STEPLOG_PHASES = 9 };
extern const char *const steplog_phase[STEPLOG_PHASES]; /* forward backward dispatch combine tp pp dp optimizer idle */

struct step_record {
    int64_t step;
    double loss, aux_loss, z_loss, grad_norm, lr, time_s; /* NaN where absent */
    int64_t tokens, dropped, overflow;
    double phase_s[STEPLOG_PHASES]; /* means; NaN where absent */
    double load_max_over_mean, load_std;
    double peak_bytes;
};

struct steplog {
    struct step_record *steps; /* ascending, unique */
    size_t count;
    size_t skipped_lines, faults, evals, saves;
    /* from the last start record; 0 or NaN or "" where absent */
    int world, layers, experts, moe_layers;
    double flops_per_token, peak_flops;
    int64_t parameters, active_parameters;
    char model[128], backend[16], precision[16];
    double *loads; /* [moe_layers][experts] summed over the log, or NULL */
    double *eval_step, *eval_loss; /* [evals] */
    char end_reason[128];
};

/* Reads a log (`-`: stdin). Several logs of one run may be read into one steplog, in order. 0, or -1 (cannot open; no step record at all is not an error). */
int steplog_read(struct steplog *log, const char *path);
void steplog_release(struct steplog *log);

#endif
