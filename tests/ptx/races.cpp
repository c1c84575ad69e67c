/* Races in shared memory: for each word, who wrote and who read it since the last barrier. */
#include "tests/ptx/memory.h"

namespace ptx {

/* Epochs are between barriers of the block; times also between those of a warp. A word's bytes are
 * told apart only in the last write: two halves that two threads write are no race. */
struct word {
    uint32_t write_epoch, write_time;
    uint32_t read_epoch, read_time;
    uint32_t reading_warps;
    lane_set reading_lanes;                    /* at read_time, of the warp that read last */
    uint8_t writing_warp, writing_lane, bytes; /* bytes: that were written, one bit each */
    bool atomic;
};

static std::vector<word> words_of_shared;
static uint32_t epoch, last_time;

void races_ordered(size_t shared_bytes) {
    epoch++;
    if (words_of_shared.size() < shared_bytes / 4 + 1)
        words_of_shared.resize(shared_bytes / 4 + 1, word{});
}

uint32_t races_time() {
    return ++last_time;
}

[[noreturn]] static void race(const warp &w, const instruction &i, int lane, uint64_t at,
                              const char *what, int who, const char *since) {
    stop_at(w, i, lane, "race: byte %llu of shared memory was %s %d since the last %s",
            static_cast<unsigned long long>(at), what, who, since);
}

/* Against the word's last write. */
static inline void check_write(const warp &w, const instruction &i, int lane, uint64_t at,
                               const word &x) {
    if (x.writing_warp != w.number)
        race(w, i, lane, at, "written by warp", x.writing_warp, "barrier");
    if (x.writing_lane != lane && x.write_time == w.since)
        race(w, i, lane, at, "written by lane", x.writing_lane, "__syncwarp");
}

/* Against all reads of the word. */
static inline void check_reads(const warp &w, const instruction &i, int lane, uint64_t at,
                               const word &x) {
    const uint32_t other_warps = x.reading_warps & ~(1U << w.number);
    if (other_warps != 0)
        race(w, i, lane, at, "read by warp", __builtin_ctz(other_warps), "barrier");
    const lane_set other_lanes = x.reading_lanes & ~(1U << lane);
    if (x.read_time == w.since && other_lanes != 0)
        race(w, i, lane, at, "read by lane", __builtin_ctz(other_lanes), "__syncwarp");
}

static inline void note_word(const warp &w, const instruction &i, int lane, uint64_t at,
                             uint8_t bytes, access how) {
    word &x = words_of_shared[at / 4];
    const bool both_atomic = how == access::ATOMIC && x.atomic;
    if (x.write_epoch == epoch && (x.bytes & bytes) != 0 && !both_atomic)
        check_write(w, i, lane, at, x);
    if (how == access::READ) {
        if (x.read_epoch != epoch) {
            x.read_epoch = epoch;
            x.reading_warps = 0;
            x.read_time = 0;
        }
        x.reading_warps |= 1U << w.number;
        if (x.read_time != w.since) {
            x.read_time = w.since;
            x.reading_lanes = 0;
        }
        x.reading_lanes |= 1U << lane;
        return;
    }
    if (x.read_epoch == epoch)
        check_reads(w, i, lane, at, x);
    const bool again = x.write_epoch == epoch && x.write_time == w.since;
    x.bytes = static_cast<uint8_t>(again ? x.bytes | bytes : bytes);
    x.write_epoch = epoch;
    x.write_time = w.since;
    x.writing_warp = static_cast<uint8_t>(w.number);
    x.writing_lane = static_cast<uint8_t>(lane);
    x.atomic = how == access::ATOMIC;
}

void races_note(const warp &w, const instruction &i, int lane, uint64_t at, uint32_t bytes,
                access how) {
    if (bytes < 4) {
        note_word(w, i, lane, at, static_cast<uint8_t>(((1 << bytes) - 1) << at % 4), how);
        return;
    }
    for (uint64_t end = at + bytes; at < end; at += 4)
        note_word(w, i, lane, at, 15, how);
}

} // namespace ptx
