/* SPDX-License-Identifier: MIT */
#include "emulator.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The function and file:line of an address, as addr2line has them: two lines for it, and two for each function
 * that it was inlined into. The first that is not in a header of wrappers is the kernel's own. */
static void addr2line(const void *pc, std::string &function, std::string &line)
{
    Dl_info in;
    if (!pc || !dladdr(pc, &in) || !in.dli_fname)
        return;
    /* Programs are linked to run at any address: what counts is the distance from where they lie. */
    char command[1024], text[512];
    snprintf(command, sizeof command, "addr2line -f -i -C -s -e '%s' 0x%zx 2>/dev/null", in.dli_fname,
             static_cast<size_t>(static_cast<const char *>(pc) - static_cast<const char *>(in.dli_fbase)));
    FILE *pipe = popen(command, "r");
    if (!pipe)
        return;
    while (fgets(text, sizeof text, pipe) && *text != '?') {
        function = std::string(text, strcspn(text, "\n"));
        if (fgets(text, sizeof text, pipe) && *text != '?')
            line = std::string(text, strcspn(text, " \n"));
        if (line.compare(0, 9, "device.h:") && line.compare(0, 6, "ptx.h:"))
            break;
    }
    pclose(pipe);
}

std::string where(const void *pc)
{
    std::string function, line;
    /* A return address belongs to the instruction after the call. */
    addr2line(pc ? static_cast<const char *>(pc) - 1 : nullptr, function, line);
    return line.empty() ? "" : " at " + line;
}

std::string function_name(const void *pc)
{
    std::string function, line;
    addr2line(pc, function, line);
    size_t end = 0, from = function.compare(0, 5, "void ") ? 0 : 5; /* a template's name begins with its type */
    for (int depth = 0; end < function.size() && (depth > 0 || function[end] != '('); end++)
        depth += (function[end] == '<') - (function[end] == '>');
    return function.empty() ? "a kernel" : function.substr(from, end - from);
}

std::string operation_name(const operation &op)
{
    return op.kernel ? "kernel '" + function_name(op.kernel) + "'" : op.name;
}

static std::string thread_name()
{
    if (!now)
        return "";
    char text[160];
    snprintf(text, sizeof text, ", thread %u of block (%u,%u,%u)", now->number, block.index.x, block.index.y,
             block.index.z);
    return text;
}

void report(const void *pc, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    std::string who = running ? operation_name(*running) + thread_name() + where(pc) + ": " : "";
    fflush(stdout);
    fprintf(stderr, "emulator: %s%s (MOEKIT_EMULATOR_SEED=%llu)\n", who.c_str(), text,
            static_cast<unsigned long long>(random_seed()));
    fflush(stderr);
    _exit(REPORTED);
}

/* ---- random choices: splitmix64 (Steele, Lea, Flood 2014) ---- */

static uint64_t seed, counter;
static bool seeded;

uint64_t random_seed()
{
    if (!seeded) {
        const char *given = getenv("MOEKIT_EMULATOR_SEED");
        seed = given ? strtoull(given, nullptr, 10)
                     : (static_cast<uint64_t>(time(nullptr)) * 1000 + static_cast<uint64_t>(getpid())) %
                           1000000000;
        if (!given)
            fprintf(stderr, "emulator: MOEKIT_EMULATOR_SEED=%llu\n", static_cast<unsigned long long>(seed));
        counter = seed;
        seeded = true;
    }
    return seed;
}

uint32_t random_below(uint32_t n)
{
    random_seed();
    uint64_t z = counter += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return static_cast<uint32_t>((z ^ z >> 31) % n);
}

bool emulated_fault(const char *name)
{
    static const char *const on = getenv("MOEKIT_FAULT");
    return on && !strcmp(on, name);
}
