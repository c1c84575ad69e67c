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
static inline uint8_t *place_shared(const warp &w, const instruction &i, int lane, uint64_t at,
                                    uint32_t bytes, access how);

/* Ends the process: why the place is wrong. */
[[noreturn]] void stop_misaligned(const warp &w, const instruction &i, int lane, uint64_t at,
                                  uint32_t bytes);
[[noreturn]] void stop_outside(const warp &w, const instruction &i, int lane, uint64_t at,
                               uint32_t bytes, const char *what, size_t size);

/* -- races.cpp -------------------------------------------------------------------------------- */

/* Four bytes of shared memory: who has written and read them. Epochs are between barriers of the
 * block; times also between those of a warp, and no two warps have the same. Bytes are told apart
 * only in the last write: two halves that two threads write are no race. */
struct shared_word {
    uint32_t write_epoch, write_time;
    uint32_t read_epoch, read_time;
    uint32_t reading_warps;
    lane_set reading_lanes;                    /* at read_time, of the warp that read last */
    uint8_t writing_warp, writing_lane, bytes; /* bytes: that were written, one bit each */
    bool atomic;
};

struct race_check {
    std::vector<shared_word> words;
    uint32_t epoch, last_time;
};
extern race_check races;

/* A block begins, or all its threads have met at a barrier: what came before is ordered before what
 * comes after. */
void races_ordered(size_t shared_bytes);

/* A time later than all before; a warp's own, where its lanes have met. */
uint32_t races_time();

/* An access to some bytes of a word: two threads, one of which writes, must be ordered by a
 * barrier; two lanes of a warp by __syncwarp, too. Atomic ones may meet. */
void races_note(const warp &w, const instruction &i, int lane, uint64_t at, uint32_t bytes,
                access how);

static inline uint8_t *place_shared(const warp &w, const instruction &i, int lane, uint64_t at,
                                    uint32_t bytes, access how) {
    const size_t size = now.shared.size();
    if (at % bytes != 0)
        stop_misaligned(w, i, lane, at, bytes);
    if (at > size || bytes > size - at)
        stop_outside(w, i, lane, at, bytes, "shared memory", size);
    const uint32_t whole = bytes < 4 ? bytes : 4;
    for (uint32_t n = 0; n < bytes; n += 4) {
        shared_word &x = races.words[(at + n) / 4];
        /* Most accesses: one more lane reads what nobody has written since the last barrier. */
        if (how == access::READ && x.read_time == w.since && x.write_epoch != races.epoch)
            x.reading_lanes |= 1U << lane;
        else
            races_note(w, i, lane, at + n, whole, how);
    }
    return now.shared.data() + at;
}

} // namespace ptx

#endif
