#include "support/world.h"

#include <stdio.h>
#include <stdlib.h>

void swt_world_check(swt_comm *comm, bool holds, const char *what, int line) {
    if (holds)
        return;
    fprintf(stderr, "rank %d of %d, line %d: not so: %s (last error: %s)\n", comm->rank, comm->size,
            line, what, swt_last_error()->message);
    swt_comm_abort(comm, 1);
    abort(); /* a communicator of one rank returns from its abort */
}

int swt_world_open(void **state) {
    static swt_comm world;
    *state = &world;
    return swt_comm_open_mpi(&world) == SWT_OK ? 0 : -1;
}

int swt_world_close(void **state) {
    swt_comm_close(*state);
    return 0;
}
