#define _GNU_SOURCE /* sched_getaffinity */
#include "base/cores.h"

#include "base/cgroup.h"
#include "base/checked.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- quotas */

/* The quota of one folder in cores; 0: it has none (strtod makes 0 of a word). */
static double folder_quota(const char *folder) {
    char line[SWT_CGROUP_LINE_BYTES], *rest;
    double quota_us = 0.0, period_us = 0.0;
    if (swt_cgroup_line(folder, "cpu.max", line)) { /* "150000 100000", "max 100000" */
        quota_us = strtod(line, &rest);
        period_us = strtod(rest, NULL);
    } else if (swt_cgroup_line(folder, "cpu.cfs_quota_us", line)) {
        quota_us = strtod(line, NULL);
        if (swt_cgroup_line(folder, "cpu.cfs_period_us", line))
            period_us = strtod(line, NULL);
    }
    return quota_us > 0.0 && period_us > 0.0 ? quota_us / period_us : 0.0;
}

typedef struct least {
    double quota;
    uint64_t group;
} least;

/* Of equal quotas the outer group's counts: more processes share it. */
static void consider(void *context, const char *folder) {
    least *found = context;
    struct stat info;
    const double quota = folder_quota(folder);
    if (quota > 0.0 && (found->quota == 0.0 || quota <= found->quota) && stat(folder, &info) == 0)
        *found = (least){quota, (uint64_t)info.st_ino};
}

double swt_cores_quota(const char *root, uint64_t *group) {
    least found = {0.0, 0};
    swt_cgroup_walk(root, "cpu", consider, &found);
    *group = found.group;
    return found.quota;
}

/* ---- cores */

/* Threads of a group whose quota is used up stop together, and those that wait sleep: a quota
 * of 1.5 cores gives two threads half as much again as one. So what is begun counts. */
static int32_t whole_cores(double quota) {
    return quota > 0.0 ? (int32_t)ceil(fmin(quota, 1e6)) : 0;
}

int swt_cores_allowed(swt_cores *out) {
    char line[SWT_CGROUP_LINE_BYTES];
    cpu_set_t set;
    CPU_ZERO(&set);
    memset(out, 0, sizeof *out);
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        memcpy(out->mask, &set, sizeof set < sizeof out->mask ? sizeof set : sizeof out->mask);
    out->in_mask = (int32_t)swt_max(1, CPU_COUNT(&set));
    out->in_quota = whole_cores(swt_cores_quota("", &out->group));
    if (swt_cgroup_line("/proc/sys/kernel/random", "boot_id", line))
        snprintf(out->machine, sizeof out->machine, "%.36s", line);
    else if (gethostname(out->machine, sizeof out->machine - 1) != 0)
        out->machine[0] = '\0';
    return out->in_quota > 0 ? (int)swt_min(out->in_mask, out->in_quota) : out->in_mask;
}

int swt_cores_share(const swt_cores *own, const swt_cores *all, int n) {
    int32_t same_mask = 0, same_group = 0;
    for (int i = 0; i < n; i++) {
        if (memcmp(all[i].machine, own->machine, sizeof own->machine) != 0)
            continue;
        same_mask += memcmp(all[i].mask, own->mask, sizeof own->mask) == 0;
        same_group += all[i].group == own->group;
    }
    const int64_t cores = swt_max(1, own->in_mask / swt_max(1, same_mask));
    if (own->in_quota == 0)
        return (int)cores;
    return (int)swt_min(cores, swt_max(1, own->in_quota / swt_max(1, same_group)));
}
