/* SPDX-License-Identifier: MIT */
/* The machine's matrix ceiling: GFLOP/s of oneDNN's 2048-cube product, one product a thread, all at once.
 * usage: train-ceiling THREADS [SECONDS]      prints `f32 BEST MEDIAN`, of many, and, where oneDNN has such a
 * product for the processor, `bf16 BEST MEDIAN`.
 * cc -O2 -fopenmp -o train-ceiling train-ceiling.c -ldnnl */
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 2048, MOST = 1 << 16 };

#define CHECK(call)                                                                                            \
    do {                                                                                                       \
        dnnl_status_t st = (call);                                                                             \
        if (st != dnnl_success) {                                                                              \
            fprintf(stderr, "train-ceiling: %s: %d\n", #call, (int)st);                                        \
            exit(3);                                                                                           \
        }                                                                                                      \
    } while (0)

/* Seconds of rounds, in each of which every thread multiplies its own pair. */
struct rounds {
    int count;
    double s[MOST];
};

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_rates(const char *type, struct rounds *r, int threads)
{
    double flops = 2.0 * N * N * N * threads;
    qsort(r->s, (size_t)r->count, sizeof *r->s, by_time);
    printf("%s %.1f %.1f\n", type, flops / r->s[0] / 1e9, flops / r->s[r->count / 2] / 1e9);
}

static dnnl_engine_t engine;
static dnnl_memory_desc_t in, out;
static dnnl_matmul_desc_t desc;

static void describe(dnnl_data_type_t type)
{
    const dnnl_dims_t dims = {N, N};
    CHECK(dnnl_engine_create(&engine, dnnl_cpu, 0));
    CHECK(dnnl_memory_desc_init_by_tag(&in, 2, dims, type, dnnl_ab));
    CHECK(dnnl_memory_desc_init_by_tag(&out, 2, dims, dnnl_f32, dnnl_ab));
    CHECK(dnnl_matmul_desc_init(&desc, &in, &in, NULL, &out));
}

static int has_product(dnnl_data_type_t type)
{
    dnnl_primitive_desc_t pd;
    describe(type);
    return dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL) == dnnl_success;
}

/* Numbers that are not zeros: some processors are faster on those. */
static void fill(dnnl_memory_t m, dnnl_data_type_t type)
{
    void *p;
    CHECK(dnnl_memory_get_data_handle(m, &p));
    for (size_t i = 0; i < (size_t)N * N; i++) {
        union {
            float f;
            unsigned u;
        } v = {.f = (float)((i * 2654435761u >> 8) & 1023) / 1024 - 0.5f};
        if (type == dnnl_f32)
            ((float *)p)[i] = v.f;
        else
            ((unsigned short *)p)[i] = (unsigned short)(v.u >> 16);
    }
}

static void time_primitive(struct rounds *r, dnnl_data_type_t type, int threads, double seconds)
{
    dnnl_primitive_desc_t pd;
    double until = omp_get_wtime() + seconds;

    r->count = 0;
    describe(type);
#pragma omp parallel num_threads(threads) private(pd)
    {
        dnnl_stream_t stream;
        dnnl_primitive_t primitive;
        dnnl_memory_t a, b, c;
        int more = 1;

#pragma omp critical
        {
            /* made here, inside the parallel region, for one thread */
            CHECK(dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL));
            CHECK(dnnl_primitive_create(&primitive, pd));
            CHECK(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
            CHECK(dnnl_memory_create(&a, &in, engine, DNNL_MEMORY_ALLOCATE));
            CHECK(dnnl_memory_create(&b, &in, engine, DNNL_MEMORY_ALLOCATE));
            CHECK(dnnl_memory_create(&c, &out, engine, DNNL_MEMORY_ALLOCATE));
        }
        dnnl_memory_t operands[2] = {a, b};
        for (int k = 0; k < 2; k++)
            fill(operands[k], type);
        dnnl_exec_arg_t args[3] = {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}};
        while (more) {
            double start;
#pragma omp barrier
            start = omp_get_wtime();
            CHECK(dnnl_primitive_execute(primitive, stream, 3, args));
            CHECK(dnnl_stream_wait(stream));
#pragma omp barrier
#pragma omp master
            {
                double now = omp_get_wtime();
                r->s[r->count++] = now - start;
                if (now > until || r->count == MOST)
                    until = 0;
            }
#pragma omp barrier
            more = until > 0;
        }
        /* the process ends soon: what was made is left to it */
    }
}

/* The same through sgemm, which packs as it goes: on some machines the faster of the two. */
static void time_sgemm(struct rounds *r, int threads, double seconds)
{
    double until = omp_get_wtime() + seconds;
    float *abc = malloc(sizeof(float) * 3 * N * N * (size_t)threads);
    if (!abc)
        exit(3);
    for (size_t i = 0; i < (size_t)3 * N * N * (size_t)threads; i++)
        abc[i] = (float)((i * 2654435761u >> 8) & 1023) / 1024 - 0.5f;
    for (r->count = 0; r->count < MOST && omp_get_wtime() < until; r->count++) {
        double start = omp_get_wtime();
#pragma omp parallel num_threads(threads)
        {
            float *a = abc + (size_t)3 * N * N * (size_t)omp_get_thread_num();
            CHECK(dnnl_sgemm('N', 'N', N, N, N, 1, a, N, a + N * N, N, 0, a + 2 * N * N, N));
        }
        r->s[r->count] = omp_get_wtime() - start;
    }
    free(abc);
}

static double best(const struct rounds *r)
{
    double least = r->s[0];
    for (int i = 1; i < r->count; i++)
        least = r->s[i] < least ? r->s[i] : least;
    return least;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    double seconds = argc > 2 ? atof(argv[2]) : 2;
    static struct rounds one, other;

    if (threads < 1 || !(seconds > 0))
        return fprintf(stderr, "usage: train-ceiling THREADS [SECONDS]\n"), 2;
    time_primitive(&one, dnnl_f32, threads, seconds);
    time_sgemm(&other, threads, seconds);
    print_rates("f32", best(&other) < best(&one) ? &other : &one, threads);
    if (has_product(dnnl_bf16)) {
        time_primitive(&one, dnnl_bf16, threads, seconds);
        print_rates("bf16", &one, threads);
    }
    return fflush(stdout) ? 3 : 0;
}
