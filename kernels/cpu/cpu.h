/* SPDX-License-Identifier: MIT */
/* Inside the cpu backend: each file fills in the operations that it has. */
#ifndef KERNELS_CPU_H
#define KERNELS_CPU_H

#include "../backend.h"

void matmul_install(struct backend *be);
void norm_install(struct backend *be);
void attention_install(struct backend *be);
void elementwise_install(struct backend *be);
void route_install(struct backend *be);
void loss_install(struct backend *be);
void optim_install(struct backend *be);

#endif
