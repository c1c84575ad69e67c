#define _GNU_SOURCE /* sched_setaffinity, program_invocation_short_name */
#include "kernels/swt_threads.h"

#include <errno.h>
#include <omp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Fastest on idle and on busy cores; docs/decisions.md has the figures. */
static const char *const spin_count = "3000";

static const char *const waiting[] = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"};
static const char *const binding[] = {"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"};
enum { WAITING = sizeof waiting / sizeof *waiting, BINDING = sizeof binding / sizeof *binding };

static bool any_set(const char *const *names, int n) {
    for (int i = 0; i < n; i++)
        if (getenv(names[i]) != NULL)
            return true;
    return false;
}

/* The library has bound this thread to the first place alone: to all of them instead. */
static void unbind(void) {
    cpu_set_t all;
    CPU_ZERO(&all);
    for (int place = 0; place < omp_get_num_places(); place++) {
        int ids[CPU_SETSIZE];
        const int n = omp_get_place_num_procs(place);
        if (n > CPU_SETSIZE)
            return;
        omp_get_place_proc_ids(place, ids);
        for (int i = 0; i < n; i++)
            CPU_SET((size_t)ids[i], &all);
    }
    if (CPU_COUNT(&all) > 0)
        (void)sched_setaffinity(0, sizeof all, &all); /* or fewer cores remain, which is legal */
}

/* The system calls what was started by /proc/self/exe "exe". */
static void take_name(void) {
    char name[16] = "";
    if (prctl(PR_GET_NAME, name) == 0 && strcmp(name, "exe") == 0)
        (void)prctl(PR_SET_NAME, program_invocation_short_name); /* ornament */
}

void swt_threads_settle(char *const *argv) {
    const bool waits = any_set(waiting, WAITING), bound = any_set(binding, BINDING);
    if (waits && !bound) {
        take_name();
        return;
    }
    if (bound)
        unbind();
    bool changed = true;
    for (int i = 0; i < BINDING; i++)
        changed = unsetenv(binding[i]) == 0 && changed;
    if (!waits)
        changed = setenv("GOMP_SPINCOUNT", spin_count, 1) == 0 && changed;
    /* Started by way of the loader (ld.so PROGRAM), that is what /proc/self/exe is. */
    if (changed && getauxval(AT_BASE) != 0)
        (void)execv("/proc/self/exe", argv); /* returns where that is impossible */
}

int64_t swt_threads_limit(int64_t threads, bool asked, const char **name) {
    static const char *const names[] = {"OMP_THREAD_LIMIT", "OMP_NUM_THREADS"};
    *name = NULL;
    for (int i = 0; i < (asked ? 1 : 2); i++) {
        const char *text = getenv(names[i]);
        const long long limit = text != NULL ? strtoll(text, NULL, 10) : 0; /* "4", "4,2" */
        if (limit > 0 && limit < threads) {
            threads = limit;
            *name = names[i];
        }
    }
    return threads;
}
