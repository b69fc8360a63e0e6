/* SPDX-License-Identifier: MIT */
/* The machine's matrix ceiling: GFLOP/s of oneDNN's 2048-cube product, one product a thread, all at once.
 * usage: train-ceiling THREADS [SECONDS]      prints `f32 GFLOPS` and, where oneDNN has such a product for the
 * processor, `bf16 GFLOPS`, the best of many.
 * cc -O2 -fopenmp -o train-ceiling train-ceiling.c -ldnnl */
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 2048 };

#define CHECK(call)                                                                                            \
    do {                                                                                                       \
        dnnl_status_t st = (call);                                                                             \
        if (st != dnnl_success) {                                                                              \
            fprintf(stderr, "train-ceiling: %s: %d\n", #call, (int)st);                                        \
            exit(3);                                                                                           \
        }                                                                                                      \
    } while (0)

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

/* out: seconds of one round, in which each thread multiplies its own pair */
static double best_round(dnnl_data_type_t type, int threads, double seconds)
{
    dnnl_primitive_desc_t pd;
    double best = 1e30, until = omp_get_wtime() + seconds;

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
                if (now - start < best)
                    best = now - start;
                if (now > until)
                    until = 0;
            }
#pragma omp barrier
            more = until > 0;
        }
        /* the process ends soon: what was made is left to it */
    }
    return best;
}

/* The same through sgemm, which packs as it goes: on some machines the faster of the two. */
static double best_sgemm(int threads, double seconds)
{
    double best = 1e30, until = omp_get_wtime() + seconds;
    float *abc = malloc(sizeof(float) * 3 * N * N * (size_t)threads);
    if (!abc)
        exit(3);
    for (size_t i = 0; i < (size_t)3 * N * N * (size_t)threads; i++)
        abc[i] = (float)((i * 2654435761u >> 8) & 1023) / 1024 - 0.5f;
    while (omp_get_wtime() < until) {
        double start = omp_get_wtime();
#pragma omp parallel num_threads(threads)
        {
            float *a = abc + (size_t)3 * N * N * (size_t)omp_get_thread_num();
            CHECK(dnnl_sgemm('N', 'N', N, N, N, 1, a, N, a + N * N, N, 0, a + 2 * N * N, N));
        }
        if (omp_get_wtime() - start < best)
            best = omp_get_wtime() - start;
    }
    free(abc);
    return best;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    double seconds = argc > 2 ? atof(argv[2]) : 2;
    double flops = 2.0 * N * N * N * threads;

    if (threads < 1)
        return fprintf(stderr, "usage: train-ceiling THREADS [SECONDS]\n"), 2;
    double primitive = best_round(dnnl_f32, threads, seconds), sgemm = best_sgemm(threads, seconds);
    printf("f32 %.1f\n", flops / (sgemm < primitive ? sgemm : primitive) / 1e9);
    if (has_product(dnnl_bf16))
        printf("bf16 %.1f\n", flops / best_round(dnnl_bf16, threads, seconds) / 1e9);
    return fflush(stdout) ? 3 : 0;
}
