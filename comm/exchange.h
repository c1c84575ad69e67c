/* Where the blocks of an exchange lie in its two layouts (swt_comm.h): what transports share. */
#ifndef SWT_COMM_EXCHANGE_H
#define SWT_COMM_EXCHANGE_H

#include "comm/swt_comm.h"

/* The blocks that one rank exchanges with one peer: block start + i step of a buffer, in order. */
typedef struct swt_blocks {
    int64_t start, step, count;
} swt_blocks;

/* In the sources' layout (total, block): the blocks that `peer` owns. */
static inline swt_blocks swt_blocks_at_source(const swt_split *split, int peer) {
    return (swt_blocks){split->first[peer], 1, split->first[peer + 1] - split->first[peer]};
}

/* In the owners' layout (own, size, block): the blocks that came from `peer`. */
static inline swt_blocks swt_blocks_at_owner(const swt_comm *comm, const swt_split *split,
                                             int peer) {
    return (swt_blocks){peer, comm->size, split->first[comm->rank + 1] - split->first[comm->rank]};
}

typedef struct swt_exchange {
    swt_comm *comm;
    const swt_split *split;
    swt_direction direction;
    size_t block_bytes;
} swt_exchange;

static inline swt_blocks swt_blocks_sent(const swt_exchange *x, int peer) {
    return x->direction == SWT_TO_OWNERS ? swt_blocks_at_source(x->split, peer)
                                         : swt_blocks_at_owner(x->comm, x->split, peer);
}

static inline swt_blocks swt_blocks_received(const swt_exchange *x, int peer) {
    return x->direction == SWT_TO_OWNERS ? swt_blocks_at_owner(x->comm, x->split, peer)
                                         : swt_blocks_at_source(x->split, peer);
}

/* Offset in bytes of the i-th of these blocks. */
static inline size_t swt_block_place(const swt_exchange *x, swt_blocks b, int64_t i) {
    return (size_t)(b.start + i * b.step) * x->block_bytes;
}

#endif
