/* Where an address leads, checked. */
#ifndef SWT_PTX_MEMORY_H
#define SWT_PTX_MEMORY_H

#include "tests/ptx/link.h"

namespace ptx {

enum class access { READ, WRITE, ATOMIC };

/* The address that a lane's operand means, in its space. */
static inline uint64_t address_of(const warp &w, const instruction &i, int lane) {
    if (i.a == NO_REGISTER)
        return static_cast<uint64_t>(i.offset);
    if (i.address_bytes == 8)
        return w.values<uint64_t>(i.a)[lane] + static_cast<uint64_t>(i.offset);
    return static_cast<uint32_t>(w.values<uint32_t>(i.a)[lane] + static_cast<uint32_t>(i.offset));
}

/* The bytes at an address of a space. Ends the process unless they are aligned and inside of an
 * allocation, the block's shared memory, the parameters or the lane's own memory; and where an
 * access to shared memory races with another one. */
uint8_t *place_global(const warp &w, const instruction &i, int lane, uint64_t at, uint32_t bytes);
uint8_t *place_shared(const warp &w, const instruction &i, int lane, uint64_t at, uint32_t bytes,
                      access how);

/* -- races.cpp -------------------------------------------------------------------------------- */

/* A block begins, or all its threads have met at a barrier: what came before is ordered before what
 * comes after. A time that never comes again. */
void races_ordered(size_t shared_bytes);

/* A time later than all before; a warp's own, where its lanes have met. */
uint32_t races_time();

/* An access to shared memory: two threads, one of which writes, must be ordered by a barrier; two
 * lanes of a warp by __syncwarp, too. Atomic ones may meet. */
void races_note(const warp &w, const instruction &i, int lane, uint64_t at, uint32_t bytes,
                access how);

} // namespace ptx

#endif
