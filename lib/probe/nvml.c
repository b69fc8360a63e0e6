/* SPDX-License-Identifier: MIT */
#include "probe/nvml.h"

#include <dlfcn.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/error.h"
#include "base/module.h"

#define LIBRARY "libnvidia-ml.so.1"

/* nvmlFieldValue_t */
struct field_value {
    unsigned id, scope;
    long long time, latency;
    int type, code;
    union {
        unsigned number;
        double room;
    } value;
};

/* nvml.h is not needed: its types here are pointers, numbers and enumerations. */
#define NVML_FUNCTIONS(X)                                                                                      \
    X(int, Init_v2, (void))                                                                                    \
    X(const char *, ErrorString, (int))                                                                        \
    X(int, DeviceGetHandleByPciBusId_v2, (const char *, void **))                                              \
    X(int, DeviceGetTemperature, (void *, int, unsigned *))                                                    \
    X(int, DeviceGetTemperatureThreshold, (void *, int, unsigned *))                                           \
    X(int, DeviceGetClockInfo, (void *, int, unsigned *))                                                      \
    X(int, DeviceGetMaxClockInfo, (void *, int, unsigned *))                                                   \
    X(int, DeviceGetCurrentClocksEventReasons, (void *, unsigned long long *))                                 \
    X(int, DeviceGetCurrentClocksThrottleReasons, (void *, unsigned long long *))                              \
    X(int, DeviceGetTotalEccErrors, (void *, int, int, unsigned long long *))                                  \
    X(int, DeviceGetComputeRunningProcesses_v3, (void *, unsigned *, void *))                                  \
    X(int, DeviceGetNvLinkState, (void *, unsigned, int *))                                                    \
    X(int, DeviceGetFieldValues, (void *, int, struct field_value *))                                          \
    X(int, DeviceGetMaxPcieLinkGeneration, (void *, unsigned *))                                               \
    X(int, DeviceGetMaxPcieLinkWidth, (void *, unsigned *))

static struct {
#define X(type, name, arguments) type(*name) arguments; /* NULL: not in this version */
    NVML_FUNCTIONS(X)
#undef X
} nvml;

enum {
    SUCCESS = 0,
    INSUFFICIENT_SIZE = 7,
    TEMPERATURE_GPU = 0,
    THRESHOLD_SLOWDOWN = 1,
    CLOCK_SM = 1,
    ERROR_UNCORRECTED = 1,
    VOLATILE_ECC = 0,
    FIELD_NVLINK_MBPS = 90, /* megabytes a second of a link that is active, each way */
    MOST_NVLINKS = 36,
};

/* nvmlClocksEventReason…, those that are a fault: idling, settings and the power limit are not. */
static const struct {
    unsigned long long bit;
    const char *name;
} reasons[] = {{0x8, "hw-slowdown"}, {0x20, "sw-thermal"}, {0x40, "hw-thermal"}, {0x80, "power-brake"}};
enum { REASONS = sizeof reasons / sizeof *reasons };

const char *nvml_reason(int i)
{
    return i < REASONS ? reasons[i].name : NULL;
}

static int failed(const char *what, int code)
{
    const char *text = nvml.ErrorString ? nvml.ErrorString(code) : NULL;
    return error(STATUS_ENV, "%s: %s (%d)", what, text ? text : "failed", code);
}

static int begin(void)
{
    void *module = module_open(LIBRARY, true);
    if (!module)
        return -1;
#define X(type, name, arguments) *(void **)&nvml.name = dlsym(module, "nvml" #name);
    NVML_FUNCTIONS(X)
#undef X
    if (!nvml.Init_v2 || !nvml.DeviceGetHandleByPciBusId_v2)
        return error(STATUS_ENV, "'%s' is no NVML, or too old", module_path(module));
    int code = nvml.Init_v2();
    return code == SUCCESS ? 0 : failed("nvmlInit", code);
}

void *nvml_device(const char *id)
{
    void *device = NULL;
    if (begin() < 0)
        return NULL;
    int code = nvml.DeviceGetHandleByPciBusId_v2(id, &device);
    if (code != SUCCESS)
        failed(id, code);
    return code == SUCCESS ? device : NULL;
}

static void read_heat(void *device, struct nvml_state *s)
{
    unsigned x;
    if (nvml.DeviceGetTemperature && nvml.DeviceGetTemperature(device, TEMPERATURE_GPU, &x) == SUCCESS)
        s->temperature = x;
    if (nvml.DeviceGetTemperatureThreshold &&
        nvml.DeviceGetTemperatureThreshold(device, THRESHOLD_SLOWDOWN, &x) == SUCCESS)
        s->slowdown = x;
}

static void read_clocks(void *device, struct nvml_state *s)
{
    unsigned MHz;
    unsigned long long bits = 0;
    if (nvml.DeviceGetClockInfo && nvml.DeviceGetClockInfo(device, CLOCK_SM, &MHz) == SUCCESS)
        s->clock_Hz = 1e6 * MHz;
    if (nvml.DeviceGetMaxClockInfo && nvml.DeviceGetMaxClockInfo(device, CLOCK_SM, &MHz) == SUCCESS)
        s->most_Hz = 1e6 * MHz;
    int (*ask)(void *, unsigned long long *) = nvml.DeviceGetCurrentClocksEventReasons;
    ask = ask ? ask : nvml.DeviceGetCurrentClocksThrottleReasons; /* its name before driver 535 */
    if (!ask || ask(device, &bits) != SUCCESS)
        return;
    s->reasons = 0;
    for (int i = 0; i < REASONS; i++)
        if (bits & reasons[i].bit) {
            s->reason |= 1U << i;
            s->reasons++;
        }
}

void nvml_read(void *device, struct nvml_state *s)
{
    unsigned long long errors;
    unsigned count = 0;
    *s = (struct nvml_state){NAN, NAN, NAN, NAN, .reasons = NAN, .errors = NAN, .processes = NAN};
    read_heat(device, s);
    read_clocks(device, s);
    if (nvml.DeviceGetTotalEccErrors &&
        nvml.DeviceGetTotalEccErrors(device, ERROR_UNCORRECTED, VOLATILE_ECC, &errors) == SUCCESS)
        s->errors = (double)errors;
    if (!nvml.DeviceGetComputeRunningProcesses_v3)
        return;
    int code =
        nvml.DeviceGetComputeRunningProcesses_v3(device, &count, NULL); /* with room for none: how many */
    if (code == SUCCESS || code == INSUFFICIENT_SIZE)
        s->processes = count;
}

static int nvlinks(void *device)
{
    int count = 0, active;
    for (unsigned i = 0; nvml.DeviceGetNvLinkState && i < MOST_NVLINKS; i++)
        count += nvml.DeviceGetNvLinkState(device, i, &active) == SUCCESS && active;
    return count;
}

void nvml_read_link(void *device, struct nvml_link *l)
{
    /* Of a lane each way, by generation: PCI-SIG's transfers a second, less 8b/10b, later 128b/130b. */
    static const double lane_Bps[] = {0, 0.25e9, 0.5e9, 0.985e9, 1.969e9, 3.938e9, 7.563e9};
    enum { GENERATIONS = sizeof lane_Bps / sizeof *lane_Bps };
    struct field_value speed = {.id = FIELD_NVLINK_MBPS};
    unsigned generation, width;
    int count = nvlinks(device);
    *l = (struct nvml_link){.Bps = NAN, .what = "not told"};
    if (count && nvml.DeviceGetFieldValues && nvml.DeviceGetFieldValues(device, 1, &speed) == SUCCESS &&
        speed.code == SUCCESS && speed.value.number) {
        l->Bps = 1e6 * speed.value.number * count;
        snprintf(l->what, sizeof l->what, "%d NVLink%s", count, count > 1 ? "s" : "");
    } else if (!count && nvml.DeviceGetMaxPcieLinkGeneration && nvml.DeviceGetMaxPcieLinkWidth &&
               nvml.DeviceGetMaxPcieLinkGeneration(device, &generation) == SUCCESS &&
               nvml.DeviceGetMaxPcieLinkWidth(device, &width) == SUCCESS && generation < GENERATIONS) {
        l->Bps = lane_Bps[generation] * width;
        snprintf(l->what, sizeof l->what, "PCIe %u x%u", generation, width);
    }
}
