/* SPDX-License-Identifier: MIT */
/* Checkpoints without ranks: hostile safetensors headers, layouts, conversions, fused experts, step names. (Who
 * writes what: share.c.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>
#include <unistd.h>

#include "base/bf16.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "choose/make.h"
#include "ckpt/load.h"
#include "ckpt/manifest.h"
#include "ckpt/map.h"
#include "ckpt/steps.h"
#include "lib/half.h"
#include "plan/text.h"
#include "tensors/convert.h"
#include "tensors/safetensors.h"
#include "tensors/source.h"
#include "tensors/sum.h"

static char dir[64];

static char *in_dir(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* ---- checksums ---- */

/* By the definition, a bit at a time. */
static uint32_t plain_crc(uint32_t crc, const unsigned char *p, int n)
{
    crc = ~crc;
    for (int i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void sums(void **unused)
{
    unsigned char bytes[2100];
    for (int i = 0; i < (int)sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * i >> 3);
    for (int n = 0; n < 2080; n += n < 300 ? 1 : 97)
        for (int at = 0; at < 19; at += 6) {
            uint32_t first = plain_crc(0, bytes, at), both = plain_crc(first, bytes + at, n);
            assert_int_equal(sum_bytes(0, bytes, at), first);
            assert_int_equal(sum_bytes(first, bytes + at, n), both);
            assert_int_equal(sum_join(first, sum_bytes(0, bytes + at, n), n), both);
        }
}

/* ---- safetensors ---- */

/* A file of this header, which claims `size` bytes (-1: the truth), and `data` zeros. */
static void write_st(const char *header, int64_t size, size_t data)
{
    size_t n = strlen(header), all = 8 + n + data;
    char *bytes = xcalloc(all, 1);
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)((uint64_t)(size == -1 ? (int64_t)n : size) >> 8 * i);
    memcpy(bytes + 8, header, n);
    write_file(in_dir("x.safetensors"), bytes, all);
    free(bytes);
}

static void refused_size(const char *header, int64_t size, size_t data, const char *why)
{
    struct st_file f;
    write_st(header, size, data);
    error_clear();
    if (st_open(&f, in_dir("x.safetensors")) == 0)
        fail_msg("accepted: %s", header);
    if (!strstr(error_text(), why))
        fail_msg("'%s' does not say '%s'", error_text(), why);
    assert_int_equal(error_status(), STATUS_USAGE);
    assert_non_null(strstr(error_text(), "x.safetensors"));
}

static void refused(const char *header, size_t data, const char *why)
{
    refused_size(header, -1, data, why);
}

#define T(name, dtype, shape, offsets)                                                                         \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void hostile_headers(void **state)
{
    refused_size("{}", INT64_MAX, 0, "does not fit");
    refused_size("{}", INT64_MIN, 0, "does not fit");
    refused_size("{}", 3, 0, "does not fit");
    refused_size("{}", 100000001, 0, "does not fit");
    refused("", 0, "header");
    refused("{", 0, "header");
    refused("[]", 0, "not a JSON object");
    refused("{} x", 0, "header");
    refused("{\"a\":1}", 0, "dtype");
    refused("{\"__metadata__\":[]}", 0, "__metadata__");
    refused("{" T("a", "F32", "[1]", "[0,4]") "," T("a", "F32", "[1]", "[0,4]") "}", 4, "header");
    refused("{" T("a", "F33", "[1]", "[0,4]") "}", 4, "unknown dtype 'F33'");
    refused("{" T("a", "F32", "4", "[0,4]") "}", 4, "shape");
    refused("{" T("a", "F32", "[-1]", "[0,4]") "}", 4, "shape");
    refused("{" T("a", "F32", "[1.0]", "[0,4]") "}", 4, "shape");
    refused("{" T("a", "F32", "[-0]", "[0,0]") "}", 0, "no size");
    refused("{" T("a", "F4", "[3]", "[0,2]") "}", 2, "does not fill");
    refused("{" T("a", "F4", "[3]", "[0,1]") "}", 1, "does not fill");
    refused("{" T("a", "F6_E2M3", "[4]", "[0,4]") "}", 4, "does not fill");
    refused("{" T("a", "F32", "[4611686018427387904,4,0]", "[0,0]") "}", 0, "shape");
    refused("{\"__metadata__\":{\"k\":1}}", 0, "'k' is not a string");
    refused("{\"__metadata__\":{\"k\":null}}", 0, "'k' is not a string");
    refused("{" T("a", "F32", "[4294967296,4294967296]", "[0,4]") "}", 4, "shape");
    refused("{" T("a", "F32", "[4611686018427387905]", "[0,4]") "}", 4, "overflows");
    refused("{" T("a", "F32", "[9223372036854775808]", "[0,4]") "}", 4, "header");
    refused("{" T("a", "F32", "[1]", "[0]") "}", 4, "data_offsets");
    refused("{" T("a", "F32", "[1]", "[0,4,8]") "}", 4, "data_offsets");
    refused("{" T("a", "F32", "[1]", "[0,\\\"4\\\"]") "}", 4, "header");
    refused("{" T("a", "F32", "[1]", "[-4,0]") "}", 4, "outside");
    refused("{" T("a", "F32", "[1]", "[4,0]") "}", 4, "outside");
    refused("{" T("a", "F32", "[2]", "[0,8]") "}", 4, "outside");
    refused("{" T("a", "F32", "[2]", "[0,9223372036854775807]") "}", 8, "outside");
    refused("{" T("a", "F32", "[2]", "[0,4]") "}", 4, "does not fill");
    refused("{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[1]", "[4,8]") "}", 8, "inside another");
    refused("{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[0,4]") "}", 4, "inside another");
    refused("{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[8,12]") "}", 12, "hole");
    refused("{" T("a", "F32", "[1]", "[4,8]") "}", 8, "hole");
    refused("{" T("a", "F32", "[1]", "[0,4]") "}", 5, "end at byte 4");
    static const char pointer[] =
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4892809584\n";
    write_file(in_dir("x.safetensors"), pointer, sizeof pointer - 1);
    struct st_file p;
    assert_int_equal(st_open(&p, in_dir("x.safetensors")), -1);
    assert_non_null(strstr(error_text(), "x.safetensors: is a Git LFS pointer"));
    assert_non_null(strstr(error_text(), "'git lfs pull'"));
    write_file(in_dir("x.safetensors"), "1234567", 7);
    struct st_file f;
    assert_int_equal(st_open(&f, in_dir("x.safetensors")), -1);
    assert_non_null(strstr(error_text(), "too short"));
    assert_int_equal(st_open(&f, dir), -1);
    assert_int_equal(st_open(&f, in_dir("nowhere")), -1);
    assert_int_equal(error_status(), STATUS_USAGE);
}

static void cut_headers(void **state)
{
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"}," T("a", "BF16", "[2,2]", "[0,8]") "}";
    struct st_file f;
    for (size_t n = 0; n < sizeof header - 1; n++) {
        char *cut = strndup(header, n);
        write_st(cut, -1, 8);
        assert_int_equal(st_open(&f, in_dir("x.safetensors")), -1);
        free(cut);
    }
    for (size_t data = 0; data < 8; data++)
        refused(header, data, "outside");
}

static void good_headers(void **state)
{
    struct st_file f;
    write_st("{" T("z", "F32", "[]", "[0,4]") "," T("none", "F32", "[0,7]", "[4,4]") "," T(
                 "b", "U8", "[3]", "[4,7]") "," T("a", "F16", "[1,2]",
                                                  "[7,11]") ",\"__metadata__\":{\"k\":\"v\"}}     ",
             -1, 11);
    assert_int_equal(st_open(&f, in_dir("x.safetensors")), 0);
    assert_int_equal(f.count, 4);
    assert_string_equal(f.tensors[0].name, "z");
    assert_string_equal(f.metadata[1], "v");
    assert_null(f.metadata[2]);
    assert_int_equal(st_find(&f, "a")->begin, 7);
    assert_int_equal(st_find(&f, "none")->end, 4);
    assert_null(st_find(&f, "c"));
    st_close(&f);
    write_st("{\"__metadata__\":null," T("a", "F4", "[3,2]", "[0,3]") "," T(
                 "b", "F6_E3M2", "[4]", "[3,6]") "," T("c", "F8_E4M3FNUZ", "[1,1,1,1,1,1,1,1,1]", "[6,7]") "}",
             -1, 7);
    assert_int_equal(st_open(&f, in_dir("x.safetensors")), 0);
    char shape[192];
    assert_string_equal(st_shape_text(st_find(&f, "c"), shape), "[1,1,1,1,1,1,1,1,1]");
    assert_string_equal(st_find(&f, "c")->dtype, "F8_E4M3FNUZ");
    assert_null(f.metadata);
    st_close(&f);
    write_st("{}", -1, 0);
    assert_int_equal(st_open(&f, in_dir("x.safetensors")), 0);
    assert_int_equal(f.count, 0);
    assert_null(st_find(&f, "a"));
    st_close(&f);
}

/* ---- numbers ---- */

static void numbers(void **state)
{
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t bits = (uint16_t)h;
        half x;
        memcpy(&x, &bits, 2);
        float want = (float)x, got = f16_to_f32(bits);
        assert_true(isnan(want) ? isnan(got) : memcmp(&want, &got, 4) == 0);
        float f = bf16_to_f32(bits);
        assert_true(isnan(f) ? isnan(bf16_to_f32(f32_to_bf16(f))) : f32_to_bf16(f) == bits);
    }
    assert_int_equal(f32_to_bf16(1 + 0x1p-8f), 0x3f80); /* a tie goes to even */
    assert_int_equal(f32_to_bf16(1 + 3 * 0x1p-8f), 0x3f82);
    assert_int_equal(f32_to_bf16(nextafterf(1 + 0x1p-8f, 2)), 0x3f81);
    assert_int_equal(f32_to_bf16(3.4e38f), 0x7f80); /* beyond the largest: infinity */
    char bytes[9];
    float one = 1, out[2];
    memcpy(bytes + 1, &one, 4);
    memcpy(bytes + 5, &one, 4);
    convert(out, F32, bytes + 1, NUMBER_F32, 2); /* files need not be aligned */
    assert_true(out[1] == 1);
}

/* ---- layouts ---- */

static void make(struct plan *p, struct request r)
{
    r.zero = r.zero ? r.zero : 1;
    if (plan_make(p, &r) < 0)
        fail_msg("%s", error_text());
}

static void layouts(void **state)
{
    for (int kind = MAP_STATE; kind <= MAP_GRADIENTS; kind++) {
        struct plan p;
        make(&p, (struct request){.model = "moe-tiny", .world = 1, .precision = "bf16"});
        struct ckpt_map l;
        map_init(&l, &p, kind, 7);
        int *seen = xcalloc(p.inventory.count * (1 + STATES), sizeof *seen);
        assert_int_equal(l.weight_files, 1 + p.model.experts);
        assert_int_equal(l.file_count, kind == MAP_STATE ? 2 * l.weight_files : l.weight_files);
        for (int i = 0; i < l.file_count; i++) {
            const struct map_file *f = &l.files[i];
            int64_t bytes;
            char *header = map_header(&l, i, &bytes);
            assert_int_equal(bytes % 4096, 0);
            assert_int_equal(bytes, f->header);
            write_file(in_dir("y.safetensors"), header, bytes);
            free(header);
            assert_int_equal(truncate(in_dir("y.safetensors"), f->bytes), 0);
            struct st_file st;
            if (st_open(&st, in_dir("y.safetensors")) < 0)
                fail_msg("%s", error_text());
            assert_int_equal(st.count, f->count);
            for (int e = f->first; e < f->first + f->count; e++) {
                const struct map_entry *x = &l.entries[e];
                char name[160];
                const struct st_tensor *t = st_find(&st, map_entry_name(&l, x, name));
                assert_non_null(t);
                assert_int_equal(t->begin, x->begin);
                assert_int_equal(t->begin % (st_dtype_bits(t->dtype) / 8), 0);
                if (e > f->first && x->bytes % 4 == 0) /* large ones first */
                    assert_true(x->bytes <= x[-1].bytes);
                assert_int_equal(x->file, i);
                seen[x->tensor * (1 + STATES) + 1 + x->state]++;
            }
            st_close(&st);
        }
        for (int i = 0; i < p.inventory.count * (1 + STATES); i++)
            assert_int_equal(seen[i], kind == MAP_STATE || i % (1 + STATES) - 1 == WEIGHTS);
        free(seen);
        map_release(&l);
        plan_release(&p);
    }
}

/* ---- import of fused experts ---- */

static float value(int64_t tensor, int64_t i)
{
    return (float)((tensor * 7919 + i * 31) % 2048 - 1024) / 64; /* exact in f16 and bf16 alike: 11 bits … */
}

/* The whole model in one f16 file, experts fused. */
static void write_fused(const struct plan *p, const char *path)
{
    const struct inventory *v = &p->inventory;
    const struct model *m = &p->model;
    char *header, *data, name[128];
    size_t header_bytes, data_bytes;
    FILE *h = open_memstream(&header, &header_bytes), *d = open_memstream(&data, &data_bytes);
    fprintf(h, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < v->count; i++) {
        const struct tensor *t = &v->tensors[i];
        bool gate = t->expert == 0 && t->kind == T_EXPERT_GATE,
             down = t->expert == 0 && t->kind == T_EXPERT_DOWN;
        long begin = ftell(d);
        int64_t row, rows = t->rows;
        if (t->expert >= 0 && !gate && !down)
            continue;
        if (gate || down)
            source_fused_name(m, t, &row, &rows, name);
        else
            tensor_name(m, t, name);
        for (int e = 0; e < (gate || down ? m->experts : 1); e++) {
            for (int k = 0; k < (gate ? 2 : 1);
                 k++) { /* an expert's tensors are three apart, gate and up neighbours */
                for (int64_t n = 0; n < tensor_count(t); n++) {
                    half x = (half)value(i + 3 * e + k, n);
                    fwrite(&x, 2, 1, d);
                }
            }
        }
        fprintf(h, ",\"%s\":{\"dtype\":\"F16\",\"shape\":[", name);
        if (gate || down)
            fprintf(h, "%lld,", (long long)m->experts);
        fprintf(h, t->dims == 2 ? "%lld,%lld" : "%lld", (long long)rows, (long long)t->cols);
        fprintf(h, "],\"data_offsets\":[%ld,%ld]}", begin, ftell(d));
    }
    fprintf(h, "}");
    fclose(h);
    fclose(d);
    FILE *f = fopen(path, "wb");
    uint64_t size = header_bytes;
    fwrite(&size, 8, 1, f);
    fwrite(header, 1, header_bytes, f);
    fwrite(data, 1, data_bytes, f);
    assert_int_equal(fclose(f), 0);
    free(header);
    free(data);
}

static void fused(void **state)
{
    struct plan p;
    struct shards s;
    make(&p, (struct request){.model = "moe-tiny",
                              .world = 8,
                              .precision = "f32",
                              .axes = {.tp = 4, .etp = 2, .ep = 2, .pp = 2}});
    char *hf = xstrdup(in_dir("fused")), *file = path_join(hf, "model.safetensors");
    assert_int_equal(make_dirs(hf), 0);
    write_fused(&p, file);
    const struct backend *be = backend_open("late", 0, 1);
    struct stream *stream = be->stream_new();
    struct comm *c = comm_open("self");
    for (int rank = 0; rank < p.world; rank++) {
        shards_init(&s, &p, rank);
        struct rank_state r = {.plan = &p, .shards = &s, .rank = rank, .be = be, .stream = stream};
        for (int f = 0; f < FLATS; f++)
            r.weights[f] = be->alloc(max64(s.padded[f], 1) * sizeof(float));
        if (checkpoint_import(&r, c, hf, NULL, NULL) < 0)
            fail_msg("%s", error_text());
        for (int i = 0; i < s.count; i++) {
            const struct shard *h = &s.list[i];
            int64_t n = h->rows * h->cols, cols = p.inventory.tensors[h->tensor].cols;
            float *have = xmalloc(n * sizeof *have);
            assert_int_equal(
                be->download(stream, have, (float *)r.weights[h->flat] + h->offset, n * sizeof *have), 0);
            for (int64_t k = 0; k < n; k++)
                if (have[k] != value(h->tensor, (h->row + k / h->cols) * cols + h->col + k % h->cols))
                    fail_msg("rank %d, tensor %d, element %lld", rank, h->tensor, (long long)k);
            free(have);
        }
        for (int f = 0; f < FLATS; f++)
            be->free(r.weights[f], max64(s.padded[f], 1) * sizeof(float));
        shards_release(&s);
    }
    comm_close(c);
    be->stream_free(stream);
    free(hf);
    free(file);
    plan_release(&p);
}

/* ---- manifest and steps ---- */

static void manifests(void **state)
{
    struct manifest m = {.step = 12, .range = 8};
    struct manifest_file *f = manifest_add(&m, xstrdup("a \"quoted\" name"), 5, 0xdeadbeef);
    f->tensors = xcalloc(1, sizeof *f->tensors);
    f->tensors[f->count++] = (struct manifest_tensor){.name = xstrdup("t"), .crc32 = 1};
    f->tensors[0].ranges = xcalloc(2, sizeof *f->tensors[0].ranges);
    f->tensors[0].ranges[1] = 0xdeadbeef;
    f->tensors[0].range_count = 2;
    manifest_add(&m, xstrdup("b"), 7, 0);
    char *text = manifest_text(&m), *path = xstrdup(in_dir("manifest.json"));
    size_t n = strlen(text);
    write_file(path, text, n);
    manifest_release(&m);
    assert_int_equal(manifest_read(&m, dir), 0);
    assert_int_equal(m.step, 12);
    assert_string_equal(m.files[0].name, "a \"quoted\" name");
    assert_int_equal(m.files[0].tensors[0].crc32, 1);
    assert_int_equal(m.range, 8);
    assert_int_equal(m.files[0].tensors[0].range_count, 2);
    assert_int_equal(m.files[0].tensors[0].ranges[1], 0xdeadbeef);
    assert_int_equal(m.files[1].bytes, 7);
    manifest_release(&m);
    for (size_t i = 0; i < n; i++) { /* any bit, any cut */
        text[i] ^= 1 << i % 8;
        write_file(path, text, n);
        text[i] ^= 1 << i % 8;
        assert_int_equal(manifest_read(&m, dir), -1);
        write_file(path, text, i);
        assert_int_equal(manifest_read(&m, dir), -1);
    }
    free(text);
    free(path);
}

static void make_step(const char *name, bool whole)
{
    static const char *const files[] = {"manifest.json", "state.json"};
    char *path = xasprintf("%s/root/%s", dir, name);
    assert_int_equal(make_dirs(path), 0);
    for (int i = 0; i < 2 && whole; i++) {
        char *file = path_join(path, files[i]);
        write_file(file, "{}", 2);
        free(file);
    }
    free(path);
}

static bool there(const char *name)
{
    char *path = xasprintf("%s/root/%s", dir, name);
    bool is = file_exists(path);
    free(path);
    return is;
}

static void steps(void **state)
{
    char *root = xstrdup(in_dir("root")), *newest;
    int64_t step = -1;
    assert_null(checkpoint_newest(root, &step));
    assert_int_equal(error_status(), STATUS_DONE);
    make_step("step-00000002", true);
    make_step("step-00000010", true);
    make_step("step-00000009", true);
    make_step("step-123456789", true);
    make_step("step-00000020", false);
    make_step("step-000000200", true); /* not how we write 200 */
    make_step("step-300", true);
    make_step("step-00000400.old", true);
    make_step(".step-00000500.tmp", true);
    newest = checkpoint_newest(root, &step);
    assert_non_null(newest);
    assert_int_equal(step, 123456789);
    free(newest);
    assert_int_equal(checkpoint_prune(root, 2, NULL), 0);
    assert_true(there("step-123456789") && there("step-00000010") && there("step-00000020") &&
                there("step-300"));
    assert_true(!there("step-00000009") && !there("step-00000002") && !there(".step-00000500.tmp"));
    assert_int_equal(checkpoint_prune(root, 5, NULL), 0);
    assert_true(there("step-00000010"));
    free(root);
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    snprintf(dir, sizeof dir, "/tmp/moekit-ckpt-XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_headers), cmocka_unit_test(cut_headers), cmocka_unit_test(good_headers),
        cmocka_unit_test(numbers),         cmocka_unit_test(layouts),     cmocka_unit_test(fused),
        cmocka_unit_test(manifests),       cmocka_unit_test(steps),       cmocka_unit_test(sums),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_tree(dir);
    return failed;
}
