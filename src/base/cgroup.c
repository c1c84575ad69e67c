#include "base/cgroup.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

bool swt_cgroup_line(const char *folder, const char *name, char line[SWT_CGROUP_LINE_BYTES]) {
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return false;
    const bool read = fgets(line, SWT_CGROUP_LINE_BYTES, f) != NULL;
    (void)fclose(f); /* only read */
    return read;
}

/* The groups from MOUNT/PATH up to MOUNT. In a container the path may be the host's, which is not
 * there; the container's own group is the mount then. */
static void climb(const char *mount, const char *path, swt_cgroup_visit visit, void *context) {
    char folder[PATH_BYTES];
    const size_t top = strlen(mount);
    if (snprintf(folder, sizeof folder, "%s%s", mount, path) >= (int)sizeof folder)
        return;
    for (;;) {
        visit(context, folder);
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= top || slash == NULL)
            return;
        *slash = '\0';
    }
}

static bool has_word(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *item = list; item != NULL; item = strchr(item, ',')) {
        item += *item == ',';
        if (strncmp(item, word, n) == 0 && (item[n] == ',' || item[n] == '\0'))
            return true;
    }
    return false;
}

void swt_cgroup_walk(const char *root, const char *controller, swt_cgroup_visit visit,
                     void *context) {
    char line[SWT_CGROUP_LINE_BYTES], mount[PATH_BYTES];
    snprintf(mount, sizeof mount, "%s/proc/self/cgroup", root);
    FILE *f = fopen(mount, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) { /* "4:cpu,cpuacct:/user/1" */
        line[strcspn(line, "\n")] = '\0';
        char *list = strchr(line, ':'), *path = list != NULL ? strchr(list + 1, ':') : NULL;
        if (path == NULL)
            continue;
        list++;
        *path++ = '\0';
        if (*list != '\0' && !has_word(list, controller))
            continue;
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup%s%.256s", root, *list != '\0' ? "/" : "",
                 list);
        climb(mount, path, visit, context);
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%s", root, controller);
        if (*list != '\0')
            climb(mount, path, visit, context);
    }
    if (f != NULL)
        (void)fclose(f); /* only read */
}
