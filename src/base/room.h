/* How much memory this process may still take. */
#ifndef SWT_BASE_ROOM_H
#define SWT_BASE_ROOM_H

#include <stdbool.h>
#include <stddef.h>

/* The least of what the machine has (MemAvailable), of what its control groups leave it and of what
 * its limits of address space and data leave it, each with the total that it is part of. False
 * where the system says nothing. `root` is "" but in tests. */
bool swt_room(const char *root, size_t *free_bytes, size_t *total_bytes);

#endif
