/* Who does what: expert groups, expert shards and micro-batches of ranks. Groups are made here and
 * nowhere else. The process grid is data x expert (x model, 1 today).
 *
 *     world of `size` ranks = size / P replicas of an expert group of P ranks
 *     rank r: replica r / P, position r % P; position p owns experts first[p] .. first[p + 1] - 1
 */
#ifndef SWT_MODEL_DIST_H
#define SWT_MODEL_DIST_H

#include "base/status.h"
#include "comm/swt_comm.h"

#include <stdint.h>

typedef struct swt_dist {
    int size, rank;
    int P, replica, position;
    int64_t E, El;          /* experts in all, of this rank */
    int64_t first_own;      /* number of this rank's first expert */
    int64_t *first;         /* (P + 1), owned */
    swt_comm *host;         /* all ranks, on host memory; NULL in a plan */
    swt_comm *devices;      /* all ranks, on backend memory, as the two below; NULL in a plan */
    swt_comm expert_group;  /* the P ranks that share one set of experts */
    swt_comm replica_group; /* the ranks with the same experts */
} swt_dist;

/* Decide the layout of `size` ranks; no communication. expert_ranks 0 = the largest divisor of size
 * that is <= E. Experts are split as evenly as possible, lower ranks first (E = 5 on 3: 2, 2, 1).
 * Errors: USAGE where expert_ranks does not divide size or exceeds E (lists the choices).        */
SWT_MUST_CHECK swt_status swt_dist_init(swt_dist *out, int size, int rank, int64_t E,
                                        int64_t expert_ranks);

/* Collective: make the two groups' communicators. `host` and `devices` are the same ranks, on
 * host memory and on the backend's: for the CPU one communicator is both. They must outlive *d. */
SWT_MUST_CHECK swt_status swt_dist_connect(swt_dist *d, swt_comm *host, swt_comm *devices);

void swt_dist_fini(swt_dist *d);

/* How many expert groups there are. */
static inline int swt_dist_replicas(const swt_dist *d) {
    return d->size / d->P;
}

/* Position in the group of the rank that owns expert e. */
int swt_dist_owner(const swt_dist *d, int64_t e);

/* Micro-batches are dealt like cards: turn t gives number t size + r to rank r. -1 = none left. */
int64_t swt_dist_turns(const swt_dist *d, int64_t M);
int64_t swt_dist_micro_batch(const swt_dist *d, int64_t M, int64_t turn, int rank);

#endif
