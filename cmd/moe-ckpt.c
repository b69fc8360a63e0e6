/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/num.h"
#include "base/options.h"
#include "ckpt/diff.h"
#include "ckpt/list.h"
#include "ckpt/verify.h"

static const struct command top = {
    .name = "moe-ckpt",
    .synopsis = "moe-ckpt list [--tensors | --json] PATH\n"
                "moe-ckpt verify PATH...\n"
                "moe-ckpt diff [--tolerance X] [--optimizer] A B",
    .about = "looks into checkpoints: step directories of moe-train and any Hugging Face MoE directory",
    .notes = "moe-ckpt VERB -h shows a verb's options. Exit status: 0 done, 1 the answer is no, 2 bad input, 3 "
             "the environment failed.",
};

/* ---- list ---- */

static bool want_tensors, want_json;
static const struct opt list_opts[] = {
    {'t', "tensors", NULL, "a line a tensor: dtype, shape, bytes, name, file", OPT_FLAG, &want_tensors},
    {0, "json", NULL, "all of it as one JSON object", OPT_FLAG, &want_json},
};
static const struct command list_command = {
    .name = "moe-ckpt list",
    .synopsis = "moe-ckpt list [--tensors | --json] PATH",
    .about = "shows what a checkpoint holds, a line a file; of a directory of steps, a line a step",
    OPTS(list_opts),
};

static int list(int argc, char **argv)
{
    int first = options_parse(&list_command, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first != 1)
        return error(STATUS_USAGE, "list takes one PATH (see 'moe-ckpt list -h')");
    if (want_tensors && want_json)
        return error(STATUS_USAGE, "--tensors and --json exclude each other");
    return list_dir(argv[first], want_json ? LIST_JSON : want_tensors ? LIST_TENSORS : LIST_FILES, stdout);
}

/* ---- verify ---- */

static const struct command verify_command = {
    .name = "moe-ckpt verify",
    .synopsis = "moe-ckpt verify PATH...",
    .about = "proves that a checkpoint is whole: every file, every tensor, every byte",
    .notes =
        "A Hugging Face directory has no checksums: there headers, shapes, the index and JSON are checked, "
        "and that no\n"
        "file is a Git LFS pointer. Files of weights that nothing refers to are named.\n"
        "Exit status: 0 whole, 1 not, 2 when a PATH does not exist or needs a newer moekit.",
};

static int verify_one(const char *path, bool *whole)
{
    struct verified v;
    char size[24];
    if (verify_dir(&v, path) < 0)
        return -1;
    for (int i = 0; i < v.problems.count && i < MOST_PROBLEMS; i++)
        fprintf(stderr, "moe-ckpt verify: %s\n", v.problems.list[i]);
    if (v.problems.count > MOST_PROBLEMS)
        fprintf(stderr, "moe-ckpt verify: and %d problems more\n", v.problems.count - MOST_PROBLEMS);
    if (v.problems.count)
        printf("%s: not whole: %d problem%s\n", path, v.problems.count, v.problems.count > 1 ? "s" : "");
    else
        printf("%s: %s: %d files, %d tensors, %s\n", path, v.step ? "whole" : "well formed", v.files, v.tensors,
               human_bytes((double)v.bytes, size));
    *whole &= v.problems.count == 0;
    verified_release(&v);
    return 0;
}

static int verify(int argc, char **argv)
{
    int first = options_parse(&verify_command, argc, argv);
    if (first < 0)
        return -1;
    if (first == argc)
        return error(STATUS_USAGE, "verify takes a PATH (see 'moe-ckpt verify -h')");
    bool whole = true;
    for (int i = first; i < argc; i++)
        if (verify_one(argv[i], &whole) < 0)
            return -1;
    return whole ? STATUS_DONE : STATUS_NO;
}

/* ---- diff ---- */

static double tolerance;
static bool with_optimizer;
static const struct opt diff_opts[] = {
    {'t', "tolerance", "X", "exit 1 only if ||a-b||/||b|| of a tensor is above X (0: unless all bits agree)",
     OPT_NUM, &tolerance, 0, 1e30},
    {'O', "optimizer", NULL, "compare the optimizer's state too", OPT_FLAG, &with_optimizer},
};
static const struct command diff_command = {
    .name = "moe-ckpt diff",
    .synopsis = "moe-ckpt diff [--tolerance X] [--optimizer] A B",
    .about = "compares two checkpoints tensor by tensor, and shows those that differ, the worst first",
    OPTS(diff_opts),
    .notes = "Columns: largest |a-b|, ||a-b||/||b||, tensor. F32, BF16 and F16 compare with each other. A NaN "
             "is never within\n"
             "a tolerance. Exit status: 0 the same, 1 different, 2 bad input.",
};

static void print_diff(const struct diff *d)
{
    const struct tensor_diff *worst = NULL;
    for (int i = 0; i < d->count; i++) {
        const struct tensor_diff *t = &d->list[i];
        static const char *const what[] = {"", "differs in shape or dtype", "is only in A", "is only in B"};
        if (t->kind != DIFF_VALUES) {
            printf("%-12s %-12s %s %s\n", "-", "-", t->name, what[t->kind]);
            continue;
        }
        if (!worst)
            worst = t;
        printf("%-12.6g %-12.6g %s\n", t->max_abs, t->relative, t->name);
    }
    printf("# %d tensors, %d differ, %d beyond the tolerance", d->tensors, d->count, d->beyond);
    if (worst)
        printf("; worst %.6g in %s", worst->relative, worst->name);
    putchar('\n');
}

static int diff(int argc, char **argv)
{
    int first = options_parse(&diff_command, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first != 2)
        return error(STATUS_USAGE, "diff takes two directories (see 'moe-ckpt diff -h')");
    struct diff d;
    if (diff_dirs(&d, argv[first], argv[first + 1], tolerance, with_optimizer) < 0)
        return -1;
    print_diff(&d);
    int rc = d.beyond ? STATUS_NO : STATUS_DONE;
    diff_release(&d);
    return rc;
}

/* ---- all ---- */

static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const struct command *command;
} verbs[] = {
    {"list", list, &list_command},
    {"verify", verify, &verify_command},
    {"diff", diff, &diff_command},
};

int main(int argc, char **argv)
{
    const struct verb *verb = NULL;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs && argc > 1; i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            verb = &verbs[i];
    if (!verb) {
        int first = options_parse(&top, argc, argv);
        if (first >= 0 && first < argc)
            error(STATUS_USAGE, "no verb '%s': use list, verify or diff", argv[first]);
        else if (first >= 0)
            error(STATUS_USAGE, "which verb: list, verify or diff? (see 'moe-ckpt -h')");
        return command_failed(&top);
    }
    int rc = verb->run(argc - 1, argv + 1);
    if (rc < 0)
        return command_failed(verb->command);
    if (stdout_close() < 0)
        return command_failed(verb->command);
    return rc;
}
