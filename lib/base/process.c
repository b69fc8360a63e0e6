/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <stdio.h>
#include <string.h>

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
