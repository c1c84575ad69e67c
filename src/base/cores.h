/* The processor cores that this process may use. */
#ifndef SWT_BASE_CORES_H
#define SWT_BASE_CORES_H

#include <stdint.h>

/* What a process may use, for comparing with other processes. */
typedef struct swt_cores {
    unsigned char mask[128]; /* the affinity mask */
    char machine[40];        /* which machine, from its start to its end */
    uint64_t group;          /* the control group whose quota is least; 0: none has one */
    int32_t in_mask;         /* cores, at least 1 */
    int32_t in_quota;        /* the group's quota in cores, rounded up; 0: no quota */
} swt_cores;

/* Fill in what is known and return how many cores this process may use at a time: those of its
 * mask, at most its quota, at least 1. */
int swt_cores_allowed(swt_cores *out);

/* Of what `own` may use, this process's part, at least 1: cores are divided by the processes of
 * all[0..n), own's among them, that have the same mask on the same machine, a quota by those of the
 * same control group. */
int swt_cores_share(const swt_cores *own, const swt_cores *all, int n);

/* The least quota (cpu.max of control groups of version 2, cpu.cfs_quota_us of version 1) of this
 * process's control group and those around it, in cores; 0 where there is none. `root` stands
 * before /proc and /sys: "", but for tests. */
double swt_cores_quota(const char *root, uint64_t *group);

#endif
