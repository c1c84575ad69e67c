/* The control groups of this process, and files of one line in them. */
#ifndef SWT_BASE_CGROUP_H
#define SWT_BASE_CGROUP_H

#include <stdbool.h>

enum { SWT_CGROUP_LINE_BYTES = 4096 };

/* The first line of the file FOLDER/NAME; false where there is none. */
bool swt_cgroup_line(const char *folder, const char *name, char line[SWT_CGROUP_LINE_BYTES]);

/* Call `visit` for the folder of every group that this process is in, of version 2 and of version 1
 * with this controller, from the innermost up to the mount. `root` is "" but in tests. */
typedef void (*swt_cgroup_visit)(void *context, const char *folder);
void swt_cgroup_walk(const char *root, const char *controller, swt_cgroup_visit visit,
                     void *context);

#endif
