/* SPDX-License-Identifier: MIT */
/* The rows of base/figures.h, which tells what they are: define X, then name FIGURE_ROWS. csv has the measured
 * ones in this order. */
#ifndef BASE_FIGURES_ROWS_H
#define BASE_FIGURES_ROWS_H

#include "base/losses.h"

/* clang-format off */
#define FIGURE(name, unit, origin, meaning) X(name, #name, UNIT_##unit, origin, meaning)
#define FIGURE_ROUTER_LOSS(id, key, option, config, help, meaning) \
    X(id, key, UNIT_NUMBER, MEASURED, meaning " of the last step, with its coefficient")
#define FIGURE_SHARE(name, meaning) \
    FIGURE(name##_share, RATIO, MEASURED, "share of step time in " meaning ", mean over ranks")

#define FIGURE_ROWS \
    FIGURE(steps, COUNT, MEASURED, "steps of the run that the log has") \
    FIGURE(first_step, COUNT, MEASURED, "number of the first of them") \
    FIGURE(last_step, COUNT, MEASURED, "number of the last") \
    FIGURE(steps_counted, COUNT, MEASURED, \
      "steps that count for speed: after those skipped, with tokens and a time") \
    FIGURE(untimed_steps, COUNT, MEASURED, \
      "steps after those skipped that have no tokens or no time: none above 0, or more than 1e6 s, " \
      "as of a clock that was set") \
    FIGURE(warmup_steps, COUNT, MEASURED, \
      "steps at the beginning that each took more than 1.5 times the median of all") \
    FIGURE(tokens, COUNT, MEASURED, "tokens of the steps counted") \
    FIGURE(time_s, SECONDS, MEASURED, "seconds of the steps counted") \
    FIGURE(tokens_per_s, RATE, BOTH, "tokens over time_s: all tokens over all seconds") \
    FIGURE(tokens_per_s_p50, RATE, MEASURED, \
      "median of the steps' rates, interpolated linearly as all percentiles") \
    FIGURE(tokens_per_s_p95, RATE, MEASURED, "95th percentile of the steps' rates") \
    FIGURE(tokens_per_s_p99, RATE, MEASURED, "99th percentile of the steps' rates") \
    FIGURE(sequences_per_s, RATE, MEASURED, \
      "tokens over the sequence length of their start record, over time_s") \
    FIGURE(step_s, SECONDS, BOTH, "mean time of a step, which is the latency of a global batch") \
    FIGURE(step_s_std, SECONDS, MEASURED, "standard deviation (population form) of the steps' times") \
    FIGURE(step_s_p50, SECONDS, MEASURED, "median of the steps' times") \
    FIGURE(step_s_p95, SECONDS, MEASURED, "95th percentile of the steps' times") \
    FIGURE(step_s_p99, SECONDS, MEASURED, "99th percentile of the steps' times") \
    FIGURE(microbatch_s, SECONDS, MEASURED, \
      "time_s over the microbatches that a rank had in it: global batch over micro-batch and dp, a " \
      "step") \
    FIGURE(mfu, RATIO, BOTH, \
      "model FLOP utilisation: tokens times flops_per_token over what all ranks could do in time_s " \
      "at their peak; a start at a time") \
    FIGURE(hfu, RATIO, BOTH, \
      "as mfu, counting what is computed again: mfu without recomputation, 4/3 of it with full, " \
      "unknown with selective") \
    FIGURE(rank_flops_per_s, FLOPS, MEASURED, \
      "tokens times flops_per_token over time_s and ranks, a start at a time: Megatron-LM's throughput " \
      "per GPU") \
    FIGURE(flops_per_token, FLOPS, BOTH, \
      "operations of forward and backward for a token by Megatron's convention: causal attention " \
      "halved, the router not counted; of the last start") \
    FIGURE(loss_first, NUMBER, MEASURED, "language-model loss of the first step, a mean over tokens in nats") \
    FIGURE(loss_last, NUMBER, MEASURED, "the same of the last step") \
    FIGURE(loss_end, NUMBER, MEASURED, \
      "mean loss of the last tenth of the steps, at least 20 and at most 1000 of them") \
    FIGURE(loss_slope, NUMBER, MEASURED, \
      "how much the loss changes a step: slope of the least-squares line through those") \
    FIGURE(eval_loss, NUMBER, MEASURED, "the last loss on evaluation data") \
    ROUTER_LOSS_ROWS(FIGURE_ROUTER_LOSS) \
    FIGURE(grad_norm, NUMBER, MEASURED, "gradient norm of the last step, before clipping") \
    FIGURE(grad_norm_spikes, COUNT, MEASURED, \
      "steps whose gradient norm is above 3 times the median of the 64 before it, 16 at least") \
    FIGURE(nan_steps, COUNT, MEASURED, "steps whose loss or gradient norm is no finite number") \
    FIGURE_SHARE(forward, "forward computation") \
    FIGURE_SHARE(backward, "backward computation") \
    FIGURE_SHARE(dispatch, "sending tokens to experts") \
    FIGURE_SHARE(combine, "bringing them back") \
    FIGURE_SHARE(tp, "tensor-parallel communication") \
    FIGURE_SHARE(pp, "communication between pipeline stages") \
    FIGURE_SHARE(dp, "summing gradients") \
    FIGURE_SHARE(optimizer, "updating parameters") \
    FIGURE_SHARE(idle, "waiting") \
    FIGURE(bubble, RATIO, BOTH, \
      "idle share of the pipeline: measured, idle_share of a run with stages, 0 without; in a plan, " \
      "of the schedule when backward takes twice as long as forward") \
    FIGURE(bubble_formula, RATIO, MEASURED, \
      "what the schedule's formula gives for the last start: (p-1)/(m+p-1) for gpipe and 1f1b, " \
      "(p-1)/(v m+p-1) interleaved, (p-1)/(3m+p-1) for zb-h1") \
    FIGURE(exposed_share, RATIO, MEASURED, "share of step time in communication that nothing hid") \
    FIGURE(overlap, RATIO, MEASURED, \
      "share of the communication that something hid: 1 less its exposed seconds over its busy ones") \
    FIGURE(straggler_share, RATIO, MEASURED, \
      "share of step time by which the slowest rank's forward, backward and optimizer exceed the " \
      "mean's") \
    FIGURE(expert_load_std, NUMBER, MEASURED, \
      "standard deviation (population form) of the experts' loads summed over the log, in units of " \
      "their mean, which is their coefficient of variation; mean over layers") \
    FIGURE(expert_load_max_over_mean, NUMBER, MEASURED, \
      "the largest of these loads over their mean; mean over layers") \
    FIGURE(expert_load_min_over_mean, NUMBER, MEASURED, "the smallest of them; mean over layers") \
    FIGURE(expert_load_entropy, RATIO, MEASURED, \
      "entropy of these loads over that of even ones, 1 at best; mean over layers") \
    FIGURE(expert_load_drift, RATIO, MEASURED, \
      "share of the loads that is elsewhere in the last quarter of the steps than in the first: " \
      "half the sum of the differences of the experts' shares; mean over layers") \
    FIGURE(dead_experts, COUNT, MEASURED, "experts of all layers that got nothing over the log") \
    FIGURE(step_load_std, NUMBER, MEASURED, \
      "standard deviation of the loads within a step, over their mean; mean over layers and steps") \
    FIGURE(step_load_max_over_mean, NUMBER, MEASURED, \
      "largest of the loads within a step, over their mean; mean over layers and steps") \
    FIGURE(dropped, COUNT, MEASURED, "routed rows that a capacity dropped") \
    FIGURE(dropped_share, RATIO, MEASURED, \
      "dropped over all rows routed: tokens times top_k times MoE layers") \
    FIGURE(overflow, COUNT, MEASURED, \
      "how often a layer needed more than one pass, for more rows than the plan reserved") \
    FIGURE(peak_bytes, BYTES, MEASURED, "device memory of the rank that has most") \
    FIGURE(memory_used, RATIO, MEASURED, \
      "peak_bytes over the device's memory, of the last start or of a plan") \
    FIGURE(evals, COUNT, MEASURED, "evaluations") \
    FIGURE(saves, COUNT, MEASURED, "checkpoints written") \
    FIGURE(save_s, SECONDS, MEASURED, "seconds that they took") \
    FIGURE(save_s_max, SECONDS, MEASURED, "seconds of the slowest of them") \
    FIGURE(save_share, RATIO, MEASURED, \
      "save_s over the seconds of all steps and save_s: training stalls meanwhile") \
    FIGURE(faults, COUNT, MEASURED, "faults, wherever they happened") \
    FIGURE(restarts, COUNT, MEASURED, "starts of the run after the first, abandoned ones among them") \
    FIGURE(abandoned_steps, COUNT, MEASURED, \
      "records of steps that count in no figure: of an abandoned branch, or of a step that was " \
      "repeated") \
    FIGURE(abandoned_s, SECONDS, MEASURED, "seconds of these steps, lost to restarts") \
    FIGURE(goodput, RATIO, MEASURED, \
      "seconds of the steps that count, skipped ones too, over those and abandoned_s, save_s and " \
      "the evaluations' seconds") \
    FIGURE(skipped_lines, COUNT, MEASURED, "lines of the log with something that is no record") \
    FIGURE(memory_bytes, BYTES, PREDICTED, "device memory of the worst rank") \
    FIGURE(step_skewed_s, SECONDS, PREDICTED, \
      "step_s with loads of the experts as uneven as the plan's lambda, in every layer") \
    FIGURE(seconds, COUNT, PREDICTED, "version of the formulas that gave the plan's seconds") \
    FIGURE(memory_rank, COUNT, PREDICTED, "number of that rank") \
    FIGURE(arena, COUNT, PREDICTED, "version of the memory's layout that was counted") \
    FIGURE(state_bytes, BYTES, PREDICTED, "of memory_bytes: weights, gradients and optimizer") \
    FIGURE(activation_bytes, BYTES, PREDICTED, "of memory_bytes: what forward keeps for backward") \
    FIGURE(workspace_bytes, BYTES, PREDICTED, "of memory_bytes: scratch") \
    FIGURE(communicator_bytes, BYTES, PREDICTED, \
      "beside memory_bytes: what NCCL's communicators take, an estimate")
/* clang-format on */

#endif
