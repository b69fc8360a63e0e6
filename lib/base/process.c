/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

void process_host(char name[static HOST_NAME])
{
    const char *node = getenv("SLURMD_NODENAME");
    snprintf(name, HOST_NAME, "%s", node ? node : "");
    if (!*name && gethostname(name, HOST_NAME - 1) != 0)
        name[0] = '\0';
    name[HOST_NAME - 1] = '\0';
}

/* State and parent: pid (name) state parent ...; the name may hold anything. */
static char read_stat(int pid, int *parent)
{
    char path[32], line[256], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    const char *end = f && fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
    if (!end || sscanf(end + 1, " %c %d", &state, parent) != 2)
        state = 0;
    if (f)
        fclose(f);
    return state;
}

char process_state(int pid)
{
    int parent;
    return read_stat(pid, &parent);
}

int process_parent(int pid)
{
    int parent = 0;
    return read_stat(pid, &parent) ? parent : 0;
}

double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + 1e-9 * ts.tv_nsec;
}
