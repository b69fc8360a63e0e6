/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/options.h"
#include "base/words.h"
#include "ckpt/diff.h"
#include "ckpt/list.h"
#include "ckpt/prune.h"
#include "ckpt/verify.h"
#include "pack/contents.h"
#include "pack/pack.h"
#include "pack/restore.h"
#include "recast/export.h"
#include "recast/extract.h"
#include "recast/merge.h"
#include "recast/shrink.h"
#include "recast/upcycle.h"

/* Of a PATH: a file or standard input, which can be nothing else. */
static bool is_archive(const char *path)
{
    return strcmp(path, "-") == 0 || (file_exists(path) && !is_dir(path));
}

/* ---- list ---- */

static bool want_tensors, want_experts, want_json, want_stats;
static const struct opt list_opts[] = {
    {'t', "tensors", NULL, "a line a tensor: dtype, shape, bytes, name, file", OPT_FLAG, &want_tensors},
    {'e', "experts", NULL, "a line a layer and expert: tensors, bytes, of the optimizer, dtype", OPT_FLAG,
     &want_experts},
    {0, "json", NULL, "all of it as one JSON object", OPT_FLAG, &want_json},
    {'s', "stats", NULL, "of each tensor also norm, largest number, how many are not finite", OPT_FLAG,
     &want_stats},
};
static const struct command list_command = {
    .name = "moe-ckpt list",
    .synopsis = "moe-ckpt list [--tensors | --experts] [--json] [--stats] PATH",
    .about =
        "shows what a checkpoint or an archive holds, a line a file; of a directory of steps, a line a step",
    OPTS(list_opts),
};

static int list(int argc, char **argv)
{
    int first = options_parse(&list_command, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first != 1)
        return error(STATUS_USAGE, "list takes one PATH (see 'moe-ckpt list -h')");
    if (want_tensors && want_experts)
        return error(STATUS_USAGE, "--tensors and --experts exclude each other");
    if (is_archive(argv[first]) && (want_tensors || want_experts || want_stats))
        return error(STATUS_USAGE, "'%s' is a file: of archives list shows the files", argv[first]);
    if (is_archive(argv[first]))
        return contents_list(argv[first], want_json, stdout);
    enum list_form form = want_experts ? LIST_EXPERTS
                          : (want_tensors || want_stats) && !want_json
                              ? LIST_TENSORS /* which JSON has anyway */
                              : LIST_FILES;
    return list_dir(&(struct list_request){argv[first], form, want_json, want_stats}, stdout);
}

/* ---- verify ---- */

static int64_t threads;
static const struct opt verify_opts[] = {
    {'j', "threads", "N", "for archives: so many threads (default: one a processor)", OPT_INT, &threads, 1,
     1024},
};
static const struct command verify_command = {
    .name = "moe-ckpt verify",
    .synopsis = "moe-ckpt verify [--threads N] PATH...",
    .about = "proves that a checkpoint is whole: every file, every tensor, every byte",
    OPTS(verify_opts),
    .notes =
        "PATH may be an archive that moe-ckpt packed, '-' being standard input: every bit of it is checked.\n"
        "A Hugging Face directory has no checksums: there headers, shapes, the index and JSON are checked, "
        "and that no "
        "file is a Git LFS pointer. Files of weights that nothing refers to are named.\n"
        "Exit status: 0 whole, 1 not, 2 when a PATH does not exist or needs a newer moekit.",
};

static int thread_count(void)
{
    return threads ? (int)threads : pack_all_threads();
}

static void print_verified(const struct verified *v, const char *path, const char *archive)
{
    char size[24];
    human_bytes((double)v->bytes, size);
    if (v->problems.count)
        printf("%s: not whole: %d problem%s\n", path, v->problems.count, plural(v->problems.count));
    else if (archive)
        printf("%s: whole: %s: %d file%s, %s\n", path, archive, v->files, plural(v->files), size);
    else
        printf("%s: %s: %d file%s, %d tensor%s, %s\n", path, v->step ? "whole" : "well formed", v->files,
               plural(v->files), v->tensors, plural(v->tensors), size);
}

static int verify_one(const char *path, bool *whole)
{
    struct verified v;
    char about[160];
    bool archive = is_archive(path);
    if ((archive ? verify_archive(&v, path, thread_count(), about) : verify_dir(&v, path)) < 0)
        return -1;
    for (int i = 0; i < v.problems.count && i < MOST_PROBLEMS; i++)
        fprintf(stderr, "moe-ckpt verify: %s\n", v.problems.list[i]);
    if (v.problems.count > MOST_PROBLEMS)
        fprintf(stderr, "moe-ckpt verify: and %d problem%s more\n", v.problems.count - MOST_PROBLEMS,
                plural(v.problems.count - MOST_PROBLEMS));
    print_verified(&v, path, archive ? about : NULL);
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
             "is never within "
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
    printf("# %d tensor%s, %d differ, %d beyond the tolerance", d->tensors, plural(d->tensors), d->count,
           d->beyond);
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

/* ---- pack, restore ---- */

static struct pack_request packing;
static const char *codec_name;
static const struct opt pack_opts[] = {
    {'o', "output", "FILE", "write the archive there (default, and '-': standard output)", OPT_TEXT,
     &packing.out},
    {'c', "codec", "CODEC", "%s (default split)", OPT_CHOICE, &codec_name, .words = &codec_words},
    {'b', "base", "DIR", "pack the difference from this checkpoint, an earlier step say", OPT_TEXT,
     &packing.base},
    {'e', "experts", "LIST", "of experts' files only those that hold some of 0-3,7 or LAYER:EXPERT", OPT_TEXT,
     &packing.experts},
    {'j', "threads", "N", "so many threads (default: one a processor)", OPT_INT, &threads, 1, 1024},
};
static const struct command pack_command = {
    .name = "moe-ckpt pack",
    .synopsis = "moe-ckpt pack [-o FILE] [--codec CODEC] [--base DIR] [--experts LIST] [--threads N] DIR",
    .about = "packs a checkpoint into an archive, a tar in which every flipped bit is found",
    OPTS(pack_opts),
    .notes =
        "none: members are the files, for tar -x; gzip: 'cat NAME.part-*.gz | gunzip' gives a file; split: "
        "exponents "
        "and mantissas of numbers apart, smallest and fastest, and weights that are their f32 master rounded "
        "left out.\n"
        "Exit status: 0 done, 2 DIR is no whole checkpoint, 3 the environment failed.",
};

static int pack(int argc, char **argv)
{
    struct packed done;
    char from[24], to[24], made[24];
    int first = options_parse(&pack_command, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first != 1)
        return error(STATUS_USAGE, "pack takes one DIR (see 'moe-ckpt pack -h')");
    packing.dir = argv[first];
    packing.codec = codec_name ? (enum codec)word_index(&codec_words, codec_name) : CODEC_SPLIT;
    packing.threads = thread_count();
    if (pack_dir(&packing, &done) < 0)
        return -1;
    notice("'%s': %d file%s, %s, packed into %s (%.3f)", packing.dir, done.files, plural(done.files),
           human_bytes((double)done.bytes, from), human_bytes((double)done.archive, to),
           (double)done.archive / (double)(done.bytes ? done.bytes : 1));
    if (done.made_bytes)
        notice("%s of weights are their master rounded, and will be made again",
               human_bytes((double)done.made_bytes, made));
    return STATUS_DONE;
}

static struct restore_request restoring;
static const struct opt restore_opts[] = {
    {'b', "base", "DIR", "the checkpoint that the archive is the difference from", OPT_TEXT, &restoring.base},
    {'e', "experts", "LIST", "of experts' files only those that hold some of 0-3,7 or LAYER:EXPERT", OPT_TEXT,
     &restoring.experts},
    {'j', "threads", "N", "so many threads (default: one a processor)", OPT_INT, &threads, 1, 1024},
};
static const struct command restore_command = {
    .name = "moe-ckpt restore",
    .synopsis = "moe-ckpt restore [--base DIR] [--experts LIST] [--threads N] FILE DIR",
    .about = "makes a directory from an archive ('-': standard input), byte for byte what was packed",
    OPTS(restore_opts),
    .notes = "DIR must not be there, or be empty; it appears when all is in it and every sum was right.\n"
             "Exit status: 0 done, 2 FILE is damaged or DIR is there, 3 the environment failed.",
};

static int restore(int argc, char **argv)
{
    struct restored done;
    char bytes[24], read[24];
    int first = options_parse(&restore_command, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first != 2)
        return error(STATUS_USAGE, "restore takes FILE and DIR (see 'moe-ckpt restore -h')");
    restoring.archive = argv[first];
    restoring.dir = argv[first + 1];
    restoring.threads = thread_count();
    if (restore_archive(&restoring, &done) < 0)
        return -1;
    notice("'%s': %d file%s, %s, from %s of the archive", restoring.dir, done.files, plural(done.files),
           human_bytes((double)done.bytes, bytes), human_bytes((double)done.read, read));
    if (done.left_out)
        notice("%d file%s of other experts %s left out", done.left_out, plural(done.left_out),
               done.left_out == 1 ? "is" : "are");
    if (done.skipped)
        notice("the archive's own sum was not compared, as not all of it was read; the files' were");
    return STATUS_DONE;
}

/* ---- extract ---- */

static struct extract_request extracting;
static const struct opt extract_opts[] = {
    {'o', "output", "FILE", "write them there (default, and '-': standard output)", OPT_TEXT, &extracting.out},
    {'e', "expert", "LIST", "the weights of experts 0-3,7 of every layer, or LAYER:EXPERT", OPT_TEXT,
     &extracting.experts},
    {'t', "tensor", "NAME", "the tensors of that name, or pattern with * and ?", OPT_TEXT, &extracting.tensor},
};
static const struct command extract_command = {
    .name = "moe-ckpt extract",
    .synopsis = "moe-ckpt extract [-o FILE] (--expert LIST | --tensor NAME) DIR",
    .about = "copies some tensors of a checkpoint into one safetensors file",
    OPTS(extract_opts),
    .notes = "Of a step, each is compared with its checksum, and FILE appears when all were right.",
};

static int extract(int argc, char **argv)
{
    int tensors, first = options_parse(&extract_command, argc, argv);
    int64_t bytes;
    char size[24];
    if (first < 0)
        return -1;
    if (argc - first != 1 || !extracting.experts == !extracting.tensor)
        return error(STATUS_USAGE,
                     "extract takes one of --expert and --tensor, and DIR (see 'moe-ckpt extract -h')");
    if ((!extracting.out || strcmp(extracting.out, "-") == 0) && isatty(STDOUT_FILENO))
        return error(STATUS_USAGE, "a safetensors file is not for a terminal: give -o FILE");
    extracting.dir = argv[first];
    if (extract_tensors(&extracting, &tensors, &bytes) < 0)
        return -1;
    notice("%d tensor%s, %s", tensors, plural(tensors), human_bytes((double)bytes, size));
    return STATUS_DONE;
}

/* ---- shrink ---- */

static struct shrink_request shrinking;
static const struct opt shrink_opts[] = {
    {'e', "drop-experts", "LIST", "the experts that go: 0-3,7 of every layer, or LAYER:EXPERT", OPT_TEXT,
     &shrinking.drop},
    {'l', "loads", "FILE", "where LIST is uneven over layers, the least loaded go too (moe-stat --loads)",
     OPT_TEXT, &shrinking.loads},
    {'n', "dry-run", NULL, "choose, check and say; write nothing", OPT_FLAG, &shrinking.dry_run},
};
static const struct command shrink_command = {
    .name = "moe-ckpt shrink",
    .synopsis = "moe-ckpt shrink --drop-experts LIST [--loads FILE] [--dry-run] DIR OUT",
    .about = "writes a checkpoint like DIR with fewer experts, numbered anew, from which a run goes on",
    OPTS(shrink_opts),
    .notes = "Their rows of the routers and their optimizer state go too; config.json has the new count.\n"
             "OUT must not be there, or be empty; it appears when all is in it. DIR stays as it is.",
};

static int shrink(int argc, char **argv)
{
    struct shrunk done;
    char size[24];
    int first = options_parse(&shrink_command, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first != 2 || !shrinking.drop)
        return error(STATUS_USAGE, "shrink takes --drop-experts LIST, DIR and OUT (see 'moe-ckpt shrink -h')");
    shrinking.dir = argv[first];
    shrinking.out = argv[first + 1];
    if (shrink_dir(&shrinking, &done) < 0)
        return -1;
    notice("'%s'%s: %lld of %lld experts a layer, %s", shrinking.out, shrinking.dry_run ? " would be" : "",
           (long long)done.kept, (long long)done.experts, human_bytes((double)done.bytes, size));
    return STATUS_DONE;
}

/* ---- export, import ---- */

static struct export_request exporting;
static bool fused;
static const struct opt export_opts[] = {
    {'d', "dtype", "T", "%s (default: as it is)", OPT_CHOICE, &exporting.dtype, .choices = "f32|bf16"},
    {'s', "shard-size", "BYTES", "at most so many of tensors a file (default 5000000000)", OPT_INT,
     &exporting.shard_bytes, 1, 9e18},
    {'f', "fused", NULL, "the experts of a layer in two tensors, gate_up_proj and down_proj", OPT_FLAG, &fused},
};
static const struct command export_command = {
    .name = "moe-ckpt export",
    .synopsis = "moe-ckpt export [--dtype T] [--shard-size BYTES] [--fused] DIR OUT",
    .about = "writes the weights of a checkpoint as a plain Hugging Face directory",
    OPTS(export_opts),
    .notes = "OUT must not be there, or be empty; it appears when all is in it. DIR stays as it is.",
};
static const struct opt import_opts[] = {
    {'d', "dtype", "T", "%s (default: as it is)", OPT_CHOICE, &exporting.dtype, .choices = "f32|bf16"},
};
static const struct command import_command = {
    .name = "moe-ckpt import",
    .synopsis = "moe-ckpt import [--dtype T] DIR OUT",
    .about = "writes a Hugging Face model as moe-train's checkpoints have it, a file an expert",
    OPTS(import_opts),
    .notes = "OUT must not be there, or be empty; it appears when all is in it. DIR stays as it is.",
};

static int export_to(const struct command *c, int argc, char **argv)
{
    struct exported done;
    char size[24];
    int first = options_parse(c, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first != 2)
        return error(STATUS_USAGE, "takes DIR and OUT (see '%s -h')", c->name);
    exporting.dir = argv[first];
    exporting.out = argv[first + 1];
    exporting.form = c == &import_command ? FORM_EXPERTS : fused ? FORM_FUSED : FORM_PUBLISHED;
    if (export_dir(&exporting, &done) < 0)
        return -1;
    notice("'%s': %d tensor%s in %d file%s, %s", exporting.out, done.tensors, plural(done.tensors), done.files,
           plural(done.files), human_bytes((double)done.bytes, size));
    return STATUS_DONE;
}

static int export(int argc, char **argv)
{
    return export_to(&export_command, argc, argv);
}

static int import(int argc, char **argv)
{
    return export_to(&import_command, argc, argv);
}

/* ---- prune ---- */

static int64_t keep;
static bool dry_run;
static const struct opt prune_opts[] = {
    {'k', "keep", "N", "of each line of descent the newest N whole steps stay", OPT_INT, &keep, 1, 1e9},
    {'n', "dry-run", NULL, "choose, check and say; remove nothing", OPT_FLAG, &dry_run},
};
static const struct command prune_command = {
    .name = "moe-ckpt prune",
    .synopsis = "moe-ckpt prune --keep N [--dry-run] ROOT",
    .about = "removes old steps of a directory of steps that no run is writing to",
    OPTS(prune_opts),
    .notes =
        "Prints what it removes. Steps that are not whole count for nothing: what is left can be resumed from.",
};

static int prune(int argc, char **argv)
{
    struct pruned p;
    char size[24];
    int first = options_parse(&prune_command, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first != 1 || !keep)
        return error(STATUS_USAGE, "prune takes --keep N and ROOT (see 'moe-ckpt prune -h')");
    int rc = prune_root(&p, argv[first], keep, dry_run);
    for (int i = 0; i < p.count; i++)
        puts(p.removed[i]);
    if (rc == 0)
        notice("'%s': %d step%s %s, %s; %d stay", argv[first], p.count, plural(p.count),
               dry_run ? "would go" : "removed", human_bytes((double)p.bytes, size), p.kept);
    pruned_release(&p);
    return rc < 0 ? -1 : STATUS_DONE;
}

/* ---- merge ---- */

static const struct command merge_command = {
    .name = "moe-ckpt merge",
    .synopsis = "moe-ckpt merge DIR... OUT",
    .about = "makes one model of several of one shape, with the experts of them all",
    .notes = "What is not an expert's or a router's is the mean of theirs. OUT must not be there, or be empty.",
};

static int merge(int argc, char **argv)
{
    int64_t experts;
    int first = options_parse(&merge_command, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first < 3)
        return error(STATUS_USAGE, "merge takes two DIRs or more, and OUT (see 'moe-ckpt merge -h')");
    if (merge_dirs(argv + first, argc - first - 1, argv[argc - 1], &experts) < 0)
        return -1;
    notice("'%s': %lld experts a layer", argv[argc - 1], (long long)experts);
    return STATUS_DONE;
}

/* ---- upcycle ---- */

static struct upcycle_request upcycling = {.top_k = 2, .std = 0.02};
static int64_t seed = 1;
static const struct opt upcycle_opts[] = {
    {'e', "experts", "E", "how many copies of its MLP a layer gets", OPT_INT, &upcycling.experts, 1, 65536},
    {'k', "top-k", "K", "how many experts a token goes to (default 2)", OPT_INT, &upcycling.top_k, 1, 65536},
    {'s', "std", "X", "routers are drawn from normal(0, X) (default 0.02)", OPT_NUM, &upcycling.std, 0, 1},
    {0, "seed", "N", "of their drawing (default 1)", OPT_INT, &seed, 0, 1 << 23},
};
static const struct command upcycle_command = {
    .name = "moe-ckpt upcycle",
    .synopsis = "moe-ckpt upcycle --experts E [--top-k K] [--std X] [--seed N] DIR OUT",
    .about = "makes an MoE of a dense model: each MLP becomes E copies of itself behind a new router",
    OPTS(upcycle_opts),
    .notes = "Llama becomes Mixtral, Qwen3 Qwen3-MoE. OUT must not be there, or be empty. DIR stays as it is.",
};

static int upcycle(int argc, char **argv)
{
    int first = options_parse(&upcycle_command, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first != 2 || !upcycling.experts)
        return error(STATUS_USAGE, "upcycle takes --experts E, DIR and OUT (see 'moe-ckpt upcycle -h')");
    upcycling.dir = argv[first];
    upcycling.out = argv[first + 1];
    upcycling.seed = (uint64_t)seed;
    if (upcycle_dir(&upcycling) < 0)
        return -1;
    notice("'%s': %lld experts a layer, %lld of them for a token", upcycling.out, (long long)upcycling.experts,
           (long long)upcycling.top_k);
    return STATUS_DONE;
}

/* ---- all ---- */

static const struct verb verbs[] = {
    {"list", list, &list_command},
    {"verify", verify, &verify_command},
    {"diff", diff, &diff_command},
    {"pack", pack, &pack_command},
    {"restore", restore, &restore_command},
    {"extract", extract, &extract_command},
    {"shrink", shrink, &shrink_command},
    {"export", export, &export_command},
    {"import", import, &import_command},
    {"prune", prune, &prune_command},
    {"merge", merge, &merge_command},
    {"upcycle", upcycle, &upcycle_command},
    {0},
};
static const struct words verb_words = WORDS(verbs);

static const struct command top = {
    .name = "moe-ckpt",
    .synopsis = "moe-ckpt list [--tensors | --experts] [--json] [--stats] PATH\n"
                "moe-ckpt verify PATH...\n"
                "moe-ckpt diff [--tolerance X] [--optimizer] A B\n"
                "moe-ckpt pack [-o FILE] [--codec C] [--base DIR] [--experts LIST] DIR\n"
                "moe-ckpt restore [--base DIR] [--experts LIST] FILE DIR\n"
                "moe-ckpt extract [-o FILE] (--expert LIST | --tensor NAME) DIR\n"
                "moe-ckpt shrink --drop-experts LIST [--loads FILE] [--dry-run] DIR OUT\n"
                "moe-ckpt export [--dtype T] [--shard-size BYTES] [--fused] DIR OUT\n"
                "moe-ckpt import [--dtype T] DIR OUT\n"
                "moe-ckpt prune --keep N [--dry-run] ROOT\n"
                "moe-ckpt merge DIR... OUT\n"
                "moe-ckpt upcycle --experts E [--top-k K] [--std X] [--seed N] DIR OUT",
    .about = "looks after checkpoints: step directories of moe-train and any Hugging Face MoE directory",
    .notes = "'moe-ckpt VERB -h' shows a verb's options.\n"
             "Exit status: 0 done, 1 the answer is no, 2 bad input, 3 the environment failed.",
    .verbs = verbs,
};

int main(int argc, char **argv)
{
    int known = argc > 1 ? word_index(&verb_words, argv[1]) : -1;
    const struct verb *verb = known >= 0 ? &verbs[known] : NULL;
    char all[160];
    if (!verb) {
        int first = options_parse(&top, argc, argv);
        words_text(&verb_words, all, sizeof all);
        if (first >= 0 && first < argc)
            error(STATUS_USAGE, "no verb '%s': %suse %s", argv[first], verb_meant(verbs, argv[first]), all);
        else if (first >= 0)
            error(STATUS_USAGE, "which verb: %s? (see 'moe-ckpt -h')", all);
        return command_failed(&top);
    }
    int rc = verb->run(argc - 1, argv + 1);
    if (rc < 0)
        return command_failed(verb->command);
    if (stdout_close() < 0)
        return command_failed(verb->command);
    return rc;
}
