/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The number behind `key` in a file of lines "KEY NUMBER", or the first number for ""; `none` where there is
 * none. */
static int64_t number_in(const char *path, const char *key, int64_t none)
{
    char line[256];
    long long n = none;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%lld", &n) == 1)
            break;
    if (f)
        fclose(f);
    return n;
}

static int64_t status_bytes(const char *key)
{
    return number_in("/proc/self/status", key, 0) * 1024;
}

int64_t process_resident_bytes(void)
{
    return status_bytes("VmRSS:");
}

int64_t process_peak_bytes(void)
{
    return status_bytes("VmHWM:");
}

/* What a control group's limit leaves: memory that files take can be had back. No limit reads "max". */
static int64_t group_leaves(const char *dir)
{
    char path[600];
    snprintf(path, sizeof path, "%s/memory.max", dir);
    int64_t most = number_in(path, "", INT64_MAX);
    if (most == INT64_MAX)
        return most;
    snprintf(path, sizeof path, "%s/memory.current", dir);
    int64_t used = number_in(path, "", 0);
    snprintf(path, sizeof path, "%s/memory.stat", dir);
    int64_t files = number_in(path, "file ", 0);
    return most > used - files ? most - used + files : 0;
}

int64_t process_available_bytes(void)
{
    int64_t least = number_in("/proc/meminfo", "MemAvailable:", 0) * 1024;
    char line[512], dir[560] = "";
    FILE *f = fopen("/proc/self/cgroup", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "0::/", 4) == 0)
            snprintf(dir, sizeof dir, "/sys/fs/cgroup%.*s", (int)strcspn(line + 3, "\n"), line + 3);
    if (f)
        fclose(f);
    for (char *end; strlen(dir) > strlen("/sys/fs/cgroup") && (end = strrchr(dir, '/')); *end = '\0') {
        int64_t leaves = group_leaves(dir);
        least = leaves < least ? leaves : least;
    }
    struct rlimit own;
    if (getrlimit(RLIMIT_AS, &own) == 0 && own.rlim_cur != RLIM_INFINITY) {
        int64_t leaves = (int64_t)own.rlim_cur - status_bytes("VmSize:");
        least = leaves < least ? leaves : least;
    }
    return least > 0 ? least : 0;
}

void process_host(char name[static HOST_NAME])
{
    const char *node = getenv("SLURMD_NODENAME");
    snprintf(name, HOST_NAME, "%s", node ? node : "");
    if (!*name && gethostname(name, HOST_NAME - 1) != 0)
        name[0] = '\0';
    name[HOST_NAME - 1] = '\0';
}

void process_cpus(cpu_set_t *set)
{
    if (sched_getaffinity(0, sizeof *set, set) == 0)
        return;
    CPU_ZERO(set); /* the kernel knows more of them than a set holds */
    for (int i = 0; i < sysconf(_SC_NPROCESSORS_ONLN) && i < CPU_SETSIZE; i++)
        CPU_SET(i, set);
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

int64_t process_space(void)
{
    struct stat st;
    return stat("/proc/self/ns/pid", &st) == 0 ? (int64_t)st.st_ino : 0;
}

double process_waited_s(void)
{
    double most = NAN;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *e; tasks && (e = readdir(tasks));) {
        char path[300];
        long long ran, waited;
        snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", e->d_name);
        FILE *f = fopen(path, "r");
        if (f && fscanf(f, "%lld %lld", &ran, &waited) == 2)
            most = fmax(most, 1e-9 * (double)waited); /* of NaN and a number the number */
        if (f)
            fclose(f);
    }
    if (tasks)
        closedir(tasks);
    return most;
}

double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + 1e-9 * ts.tv_nsec;
}
