/* Debug builds (SWT_COMPARE_CALLS) compare each collective call over the ranks before its payload
 * moves: ranks that make different ones wait for each other for ever, or get each other's data. */
#ifndef SWT_COMM_SAME_CALL_H
#define SWT_COMM_SAME_CALL_H

#include "comm/swt_comm.h"

/* What must be the same on all ranks. */
typedef struct swt_claim {
    int32_t call;   /* swt_call */
    int32_t detail; /* direction of an exchange, root of a broadcast; 0 */
    int64_t count;  /* things of */
    int64_t bytes;  /* so many bytes each */
    uint64_t split; /* a hash of who owns what, of an exchange */
} swt_claim;

/* Collective on host memory of the same ranks; nothing where comm->compares is false. Errors:
 * INTERNAL, agreed, naming the calls of rank 0 and of the first rank that makes another one. */
SWT_MUST_CHECK swt_status swt_comm_same_call(swt_comm *comm, const swt_claim *claim);

uint64_t swt_claim_split(const swt_split *split, int size);

#endif
