/* Races in shared memory: for each word, who wrote and who read it since the last barrier. */
#include "tests/ptx/memory.h"

namespace ptx {

race_check races;

void races_ordered(size_t shared_bytes) {
    races.epoch++;
    if (races.words.size() < shared_bytes / 4 + 1)
        races.words.resize(shared_bytes / 4 + 1, shared_word{});
}

uint32_t races_time() {
    return ++races.last_time;
}

[[noreturn]] static void race(const warp &w, const instruction &i, int lane, uint64_t at,
                              const char *what, int who, const char *since) {
    stop_at(w, i, lane, "race: byte %llu of shared memory was %s %d since the last %s",
            static_cast<unsigned long long>(at), what, who, since);
}

/* Against the word's last write. */
static inline void check_write(const warp &w, const instruction &i, int lane, uint64_t at,
                               const shared_word &x) {
    if (x.writing_warp != w.number)
        race(w, i, lane, at, "written by warp", x.writing_warp, "barrier");
    if (x.writing_lane != lane && x.write_time == w.since)
        race(w, i, lane, at, "written by lane", x.writing_lane, "__syncwarp");
}

/* Against all reads of the word. */
static inline void check_reads(const warp &w, const instruction &i, int lane, uint64_t at,
                               const shared_word &x) {
    const uint32_t other_warps = x.reading_warps & ~(1U << w.number);
    if (other_warps != 0)
        race(w, i, lane, at, "read by warp", __builtin_ctz(other_warps), "barrier");
    const lane_set other_lanes = x.reading_lanes & ~(1U << lane);
    if (x.read_time == w.since && other_lanes != 0)
        race(w, i, lane, at, "read by lane", __builtin_ctz(other_lanes), "__syncwarp");
}

static void note_read(const warp &w, int lane, shared_word &x) {
    if (x.read_epoch != races.epoch) {
        x.read_epoch = races.epoch;
        x.reading_warps = 0;
        x.read_time = 0;
    }
    x.reading_warps |= 1U << w.number;
    if (x.read_time != w.since) {
        x.read_time = w.since;
        x.reading_lanes = 0;
    }
    x.reading_lanes |= 1U << lane;
}

void races_note(const warp &w, const instruction &i, int lane, uint64_t at, uint32_t count,
                access how) {
    shared_word &x = races.words[at / 4];
    const auto bytes = static_cast<uint8_t>(((1U << count) - 1) << at % 4);
    const bool both_atomic = how == access::ATOMIC && x.atomic;
    if (x.write_epoch == races.epoch && (x.bytes & bytes) != 0 && !both_atomic)
        check_write(w, i, lane, at, x);
    if (how == access::READ) {
        note_read(w, lane, x);
        return;
    }
    if (x.read_epoch == races.epoch)
        check_reads(w, i, lane, at, x);
    const bool again = x.write_epoch == races.epoch && x.write_time == w.since;
    x.bytes = static_cast<uint8_t>(again ? x.bytes | bytes : bytes);
    x.write_epoch = races.epoch;
    x.write_time = w.since;
    x.writing_warp = static_cast<uint8_t>(w.number);
    x.writing_lane = static_cast<uint8_t>(lane);
    x.atomic = how == access::ATOMIC;
}

} // namespace ptx
