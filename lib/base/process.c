/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t status_bytes(const char *key)
{
    char line[256];
    long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            sscanf(line + strlen(key), "%lld", &kib);
    if (f)
        fclose(f);
    return kib * 1024;
}

int64_t process_resident_bytes(void)
{
    return status_bytes("VmRSS:");
}

int64_t process_peak_bytes(void)
{
    return status_bytes("VmHWM:");
}

double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + 1e-9 * ts.tv_nsec;
}
