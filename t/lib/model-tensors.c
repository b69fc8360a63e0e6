/* SPDX-License-Identifier: MIT */
/* The tensors of a model, as moekit lists them: for contrib/oracle/inventory.py, which compares them with those
 * that transformers builds.
 *
 *     model-tensors MODEL…
 *
 * For each: "= MODEL PARAMETERS", then a line a tensor, "NAME [97,48]"; or "! MODEL ERROR". */
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "model/inventory.h"
#include "model/load.h"
#include "model/size.h"

static int list(const char *what)
{
    struct model m;
    struct inventory v;
    char name[128], shape[128];
    if (model_load(&m, what) < 0)
        return -1;
    if (inventory_init(&v, &m) < 0) {
        model_release(&m);
        return -1;
    }
    printf("= %s %" PRId64 "\n", what, model_parameters(&m));
    for (int i = 0; i < v.count; i++)
        printf("%s %s\n", tensor_name(&m, &v.tensors[i], name), tensor_shape_text(&v.tensors[i], shape));
    inventory_release(&v);
    model_release(&m);
    return 0;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (list(argv[i]) < 0)
            printf("! %s %s\n", argv[i], error_text());
    return 0;
}
