/* What stands in comm_mpi.c's place in builds without MPI (SWT_MPI=OFF): one rank. */
#include "comm/swt_comm.h"

swt_status swt_comm_open_mpi(swt_comm *out) {
    (void)out;
    return SWT_FAIL(USAGE, "mpirun: this program was built without MPI, for one rank; start it by "
                           "itself, or build it with -DSWT_MPI=ON");
}
