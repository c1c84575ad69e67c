#include "base/room.h"

#include "base/cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

typedef struct least {
    double free_bytes, total_bytes; /* total 0: nothing is known yet */
} least;

static void consider(least *found, double total_bytes, double used_bytes) {
    const double free_bytes = used_bytes < total_bytes ? total_bytes - used_bytes : 0.0;
    if (found->total_bytes == 0.0 || free_bytes < found->free_bytes)
        *found = (least){free_bytes, total_bytes};
}

/* The number that a text begins with; false where it begins with none ("max", for one). */
static bool read_number(const char *text, double *value) {
    char *end;
    *value = strtod(text, &end);
    return end != text;
}

/* The number behind "KEY" at the start of a line of a file; false where there is none. */
static bool find_number(const char *path, const char *key, double *value) {
    char line[SWT_CGROUP_LINE_BYTES];
    const size_t n = strlen(key);
    bool found = false;
    FILE *f = fopen(path, "re");
    while (f != NULL && !found && fgets(line, sizeof line, f) != NULL)
        found = strncmp(line, key, n) == 0 && read_number(line + n, value);
    if (f != NULL)
        (void)fclose(f); /* only read */
    return found;
}

/* Pages of files that nobody has read lately count as used there, and go when memory is needed. */
static void consider_group(void *context, const char *folder) {
    static const char *const names[2][3] = {
        {"memory.max", "memory.current", "inactive_file "},
        {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "}};
    char line[SWT_CGROUP_LINE_BYTES], path[SWT_CGROUP_LINE_BYTES + 16];
    for (int version = 0; version < 2; version++) {
        double limit = 0.0, used = 0.0, unread = 0.0;
        if (!swt_cgroup_line(folder, names[version][0], line) || !read_number(line, &limit) ||
            limit > 1e18 || /* "max", and what means it */
            !swt_cgroup_line(folder, names[version][1], line) || !read_number(line, &used))
            continue;
        snprintf(path, sizeof path, "%s/memory.stat", folder);
        if (!find_number(path, names[version][2], &unread))
            unread = 0.0;
        consider(context, limit, used - unread);
    }
}

bool swt_room(const char *root, size_t *free_bytes, size_t *total_bytes) {
    least found = {0.0, 0.0};
    char path[SWT_CGROUP_LINE_BYTES];
    double total_kib = 0.0, kib = 0.0;
    struct rlimit limit;
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (find_number(path, "MemTotal:", &total_kib) && find_number(path, "MemAvailable:", &kib))
        consider(&found, 1024.0 * total_kib, 1024.0 * (total_kib - kib));
    swt_cgroup_walk(root, "memory", consider_group, &found);
    snprintf(path, sizeof path, "%s/proc/self/status", root);
    static const struct {
        const char *used;
        int limit;
    } limits[] = {{"VmSize:", RLIMIT_AS}, {"VmData:", RLIMIT_DATA}};
    for (int i = 0; i < 2; i++)
        if (getrlimit(limits[i].limit, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
            find_number(path, limits[i].used, &kib))
            consider(&found, (double)limit.rlim_cur, 1024.0 * kib);
    *free_bytes = (size_t)found.free_bytes;
    *total_bytes = (size_t)found.total_bytes;
    return found.total_bytes > 0.0;
}
