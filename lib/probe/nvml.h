/* SPDX-License-Identifier: MIT */
/* What a device's driver knows of it, by NVML (libnvidia-ml.so.1, which comes with the driver): opened when it
 * is asked for. Source of names, arguments and numbers: NVIDIA's NVML API reference. */
#ifndef PROBE_NVML_H
#define PROBE_NVML_H

/* A device now; NaN: this driver or device does not tell. */
struct nvml_state {
    double temperature, slowdown; /* degrees Celsius; from which on the device slows itself down */
    double clock_Hz, most_Hz;     /* of its multiprocessors */
    double reasons;               /* how many there are why clocks are held down; */
    unsigned reason;              /* which, bits for nvml_reason(). A power limit is none: products reach it */
    double errors;                /* of memory, uncorrected, since the driver was loaded */
    double processes;             /* that compute on it, this one too */
};

/* How fast the device is linked to the host's others, each way: NaN where this is not told. */
struct nvml_link {
    double Bps;
    char what[32]; /* "18 NVLinks", or "PCIe 5 x16" where there are none */
};

/* The device at an address on the bus, "0000:1b:00.0"; NULL with error() set. The driver may take a second. */
void *nvml_device(const char *id);
void nvml_read(void *device, struct nvml_state *s);
void nvml_read_link(void *device, struct nvml_link *l);
/* "hw-thermal"… of bit i; NULL beyond the last. */
const char *nvml_reason(int i);

#endif
