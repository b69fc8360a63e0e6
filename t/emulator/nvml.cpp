/* SPDX-License-Identifier: MIT */
/* A stand-in for NVML: the module is linked as libnvidia-ml.so.1 beside itself, where moe-train looks first.
 * What the devices are is $MOEKIT_EMULATOR_NVML, see README. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

constexpr int NVML_SUCCESS = 0, NVML_NOT_SUPPORTED = 3, NVML_NOT_FOUND = 6, NVML_INSUFFICIENT_SIZE = 7,
              NVML_DRIVER_NOT_LOADED = 9;

static std::string setting()
{
    const char *text = getenv("MOEKIT_EMULATOR_NVML");
    return text ? text : "";
}

static bool initialized;

EXPORT int nvmlInit_v2()
{
    initialized = setting() != "absent";
    return initialized ? NVML_SUCCESS : NVML_DRIVER_NOT_LOADED;
}

EXPORT const char *nvmlErrorString(int code)
{
    return code == NVML_DRIVER_NOT_LOADED ? "Driver Not Loaded"
           : code == NVML_NOT_FOUND       ? "Not Found"
                                          : "Error";
}

/* A handle is the device's number and 1. */
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **device)
{
    unsigned number;
    if (!initialized || sscanf(id, "0000:%2x:00.0", &number) != 1)
        return NVML_NOT_FOUND;
    *device = reinterpret_cast<void *>(static_cast<uintptr_t>(number) + 1);
    return NVML_SUCCESS;
}

/* "1:temperature=95,ecc=3 2:…": what is said of this device, or else `usual`. */
template <class T> static int told(void *device, const char *key, long long usual, T *value)
{
    std::string all = " " + setting() + " ";
    std::string head = " " + std::to_string(reinterpret_cast<uintptr_t>(device) - 1) + ":";
    size_t from = all.find(head);
    if (from != std::string::npos) {
        std::string mine = "," + all.substr(from + head.size(), all.find(' ', from + 1) - from - head.size());
        size_t at = mine.find("," + std::string(key) + "=");
        if (at != std::string::npos)
            usual = strtoll(mine.c_str() + at + strlen(key) + 2, NULL, 0);
    }
    *value = static_cast<T>(usual);
    return usual < 0 ? NVML_NOT_SUPPORTED : NVML_SUCCESS;
}

EXPORT int nvmlDeviceGetTemperature(void *device, int, unsigned *value)
{
    return told(device, "temperature", 60, value);
}
EXPORT int nvmlDeviceGetTemperatureThreshold(void *device, int, unsigned *value)
{
    return told(device, "slowdown", 90, value);
}
EXPORT int nvmlDeviceGetClockInfo(void *device, int, unsigned *value)
{
    return told(device, "clock", 1700, value);
}
EXPORT int nvmlDeviceGetMaxClockInfo(void *device, int, unsigned *value)
{
    return told(device, "max-clock", 1980, value);
}
/* Usually the power limit alone, as under load. */
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *value)
{
    return told(device, "throttle", 4, value);
}
EXPORT int nvmlDeviceGetTotalEccErrors(void *device, int, int, unsigned long long *value)
{
    return told(device, "ecc", 0, value);
}
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, void *)
{
    int code = told(device, "processes", 1, count);
    return code ? code : *count ? NVML_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

EXPORT int nvmlDeviceGetNvLinkState(void *device, unsigned link, int *active)
{
    unsigned links;
    told(device, "nvlinks", 0, &links);
    *active = link < links;
    return links ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
}
/* As nvmlFieldValue_t is laid out. */
struct field {
    unsigned id, scope;
    long long time, latency;
    int type, code;
    unsigned number, unused;
};
EXPORT int nvmlDeviceGetFieldValues(void *device, int count, field *list)
{
    for (int i = 0; i < count; i++) /* 90: megabytes a second of an NVLink, each way */
        list[i].code =
            list[i].id == 90 ? told(device, "nvlink-speed", 26562, &list[i].number) : NVML_NOT_SUPPORTED;
    return NVML_SUCCESS;
}
EXPORT int nvmlDeviceGetMaxPcieLinkGeneration(void *device, unsigned *value)
{
    return told(device, "pcie", 5, value);
}
EXPORT int nvmlDeviceGetMaxPcieLinkWidth(void *device, unsigned *value)
{
    return told(device, "pcie-width", 16, value);
}
