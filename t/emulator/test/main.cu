/* SPDX-License-Identifier: MIT */
/* `emulator-test`: runs what is right, and exits 0 if all results are exact. `emulator-test FAULT`: runs what
 * is wrong, and exits 0 if nobody noticed. */
#include <stdio.h>

#include "test.h"

int main(int argc, char **argv)
{
    int ranks = argc > 1 ? nccl_case(argv[1]) : -1;
    if (ranks >= 0)
        return ranks;
    cudaStream_t s;
    if (cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) != cudaSuccess)
        return 3;
    if (argc > 1)
        return fault(argv[1], s);
    const struct {
        const char *name;
        bool (*run)(cudaStream_t);
    } good[] = {{"row sums", good_row_sums},     {"product", good_product}, {"sort", good_sort},
                {"last block", good_last_block}, {"streams", good_streams}, {"library", good_library},
                {"graphs", good_graphs}};
    int wrong = 0;
    for (const auto &g : good)
        if (!g.run(s)) {
            printf("wrong: %s\n", g.name);
            wrong = 1;
        }
    return wrong;
}
