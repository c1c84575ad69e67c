/* A communicator of two processes on host memory, over a socket: what comm_mpi is to mpirun, for
 * tests that start their ranks themselves. */
#ifndef SWT_TESTS_SUPPORT_PAIR_H
#define SWT_TESTS_SUPPORT_PAIR_H

#include "comm/swt_comm.h"

/* Rank 0 or 1, by its end of a socketpair, which swt_comm_close closes. All calls but the exchange
 * of blocks. Errors of its calls: COMM where the other process has gone. */
void swt_test_pair_open(swt_comm *out, int rank, int *end);

#endif
