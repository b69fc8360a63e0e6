/* SPDX-License-Identifier: MIT */
#include "products.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include "base/notice.h"
}

static const char HEAD[] = "moekit-algorithms 1\n";

struct choice {
    struct product key;
    cublasLtMatmulAlgo_t algorithm;
};
static struct choice *choices;
static int count, room;
static cublasLtHandle_t library;

int products_open(void)
{
    cublasStatus_t e = library ? CUBLAS_STATUS_SUCCESS : cublasLtCreate(&library);
    return e == CUBLAS_STATUS_SUCCESS
               ? 0
               : error(STATUS_ENV, "cublasLt cannot be used: %s", cublasLtGetStatusString(e));
}

cublasLtHandle_t products_library(void)
{
    return library;
}

static struct choice *find(const struct product *key)
{
    for (int i = 0; i < count; i++)
        if (memcmp(&choices[i].key, key, sizeof *key) == 0)
            return &choices[i];
    return NULL;
}

bool algorithm_known(const struct product *key, cublasLtMatmulAlgo_t *algorithm)
{
    const struct choice *c = find(key);
    if (c)
        *algorithm = c->algorithm;
    return c != NULL;
}

void algorithm_keep(const struct product *key, const cublasLtMatmulAlgo_t *algorithm)
{
    struct choice *c = find(key);
    if (!c && count == room) {
        room = room ? 2 * room : 64;
        choices = static_cast<struct choice *>(xrealloc(choices, static_cast<size_t>(room), sizeof *choices));
    }
    if (!c)
        c = &choices[count++];
    c->key = *key;
    c->algorithm = *algorithm;
}

/* ---- as text ---- */

/* The line that says what the choices are for. */
static void place_text(char *text, size_t bytes)
{
    int device = 0;
    cudaDeviceProp p = {};
    cudaGetDevice(&device);
    cudaGetDeviceProperties(&p, device);
    snprintf(text, bytes, "for %s, sm_%d%d, %d multiprocessors, cublasLt %zu\n", p.name, p.major, p.minor,
             p.multiProcessorCount, cublasLtGetVersion());
}

static void write_choice(FILE *f, const struct choice *c)
{
    const struct product *k = &c->key;
    const unsigned char *bytes = reinterpret_cast<const unsigned char *>(&c->algorithm);
    for (int64_t v : {k->m, k->n, k->k, k->lda, k->ldb, k->ldc})
        fprintf(f, "%lld ", static_cast<long long>(v));
    for (int32_t v : {k->ta, k->tb, k->in, k->out, k->beta, k->aligned[0], k->aligned[1], k->aligned[2]})
        fprintf(f, "%d ", v);
    for (size_t i = 0; i < sizeof c->algorithm; i++)
        fprintf(f, "%02x", bytes[i]);
    fputc('\n', f);
}

char *algorithms_text(void)
{
    char place[400], *text = NULL;
    size_t bytes;
    FILE *f = count ? open_memstream(&text, &bytes) : NULL;
    if (!f)
        return NULL;
    place_text(place, sizeof place);
    fprintf(f, "%s%s", HEAD, place);
    for (int i = 0; i < count; i++)
        write_choice(f, &choices[i]);
    fclose(f);
    return text;
}

/* One line; false if it is none. */
static bool read_choice(const char *line, size_t bytes, struct choice *c)
{
    struct product *k = &c->key;
    long long v[6];
    int w[8], at = 0;
    char copy[600];
    if (bytes >= sizeof copy)
        return false;
    memcpy(copy, line, bytes);
    copy[bytes] = '\0';
    memset(c, 0, sizeof *c);
    if (sscanf(copy, "%lld %lld %lld %lld %lld %lld %d %d %d %d %d %d %d %d %n", &v[0], &v[1], &v[2], &v[3],
               &v[4], &v[5], &w[0], &w[1], &w[2], &w[3], &w[4], &w[5], &w[6], &w[7], &at) != 14 ||
        strlen(copy + at) != 2 * sizeof c->algorithm)
        return false;
    k->m = v[0], k->n = v[1], k->k = v[2], k->lda = v[3], k->ldb = v[4], k->ldc = v[5];
    k->ta = w[0], k->tb = w[1], k->in = w[2], k->out = w[3], k->beta = w[4];
    memcpy(k->aligned, &w[5], sizeof k->aligned);
    unsigned char *to = reinterpret_cast<unsigned char *>(&c->algorithm);
    for (size_t i = 0; i < sizeof c->algorithm; i++, at += 2) {
        const char pair[] = {copy[at], copy[at + 1], '\0'};
        char *end;
        to[i] = static_cast<unsigned char>(strtoul(pair, &end, 16));
        if (end != pair + 2)
            return false;
    }
    return true;
}

/* What the library makes of an algorithm's bytes it is asked before their first use (matmul.cu). */
int algorithms_use(const char *text)
{
    char place[400];
    place_text(place, sizeof place);
    if (strncmp(text, HEAD, strlen(HEAD)) != 0)
        return error(STATUS_USAGE, "1: is not 'moekit-algorithms 1'");
    const char *line = text + strlen(HEAD);
    size_t n = strcspn(line, "\n");
    if (strncmp(line, place, strlen(place)) != 0) {
        notice("the checkpoint's algorithms of products are %.*s; they are chosen anew %.*s",
               static_cast<int>(n), line, static_cast<int>(strlen(place)) - 1, place);
        return 0;
    }
    line += n + 1;
    for (int number = 3; *line; number++, line += n + 1) {
        struct choice c;
        n = strcspn(line, "\n");
        if (line[n] != '\n' || !read_choice(line, n, &c))
            return error(STATUS_USAGE, "%d: is no product and its algorithm", number);
        algorithm_keep(&c.key, &c.algorithm);
    }
    return 0;
}
