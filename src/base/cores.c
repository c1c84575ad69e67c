#define _GNU_SOURCE /* sched_getaffinity */
#include "base/cores.h"

#include <sched.h>
#include <string.h>

int swt_cores_allowed(swt_cores *out) {
    cpu_set_t set;
    CPU_ZERO(&set);
    memset(out, 0, sizeof *out);
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    memcpy(out->mask, &set, sizeof set < sizeof out->mask ? sizeof set : sizeof out->mask);
    const int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}
