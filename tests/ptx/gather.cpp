/* Operations of a warp whose lanes take part in them together: each lane names all that do, and
 * warp.cpp waits for them. `target` is the register with the lanes that each one names. */
#include "tests/ptx/link.h"
#include "tests/ptx/operations.h"

namespace ptx {

/* Which lane a lane takes its value from; whether that lies in its part of the warp. The last
 * operand of the instruction holds the part's end in bits 0 to 4, and which bits of the lane's
 * number tell its part in bits 8 to 12. */
struct shuffle_source {
    int lane;
    bool inside;
};

template <class F> static void shuffle(warp &w, const instruction &i, lane_set m) {
    uint32_t *const to = w.values<uint32_t>(i.to[0]);
    const uint32_t *const by = w.values<uint32_t>(i.b), *const c = w.values<uint32_t>(i.c);
    uint32_t given[LANES];
    memcpy(given, w.values<uint32_t>(i.a), sizeof given);
    each_lane(m, [=, &w, &i, &given](int lane) {
        const int clamp = static_cast<int>(c[lane] & 31),
                  part = static_cast<int>(c[lane] >> 8 & 31);
        const int first = lane & part, last = first | (clamp & ~part);
        const shuffle_source s = F{}(lane, static_cast<int>(by[lane] & 31), first, last, part);
        if (s.inside && !has_lane(m, s.lane))
            stop_at(w, i, lane, "the value of lane %d, which takes no part", s.lane);
        to[lane] = given[s.inside ? s.lane : lane];
        if (i.to[1] != NO_REGISTER) {
            lane_set &inside = w.predicate(i.to[1]);
            inside = (inside & ~(1U << lane)) | static_cast<lane_set>(s.inside) << lane;
        }
    });
}

struct lane_above {
    shuffle_source operator()(int lane, int by, int, int last, int) const {
        return {lane - by, lane - by >= last}; /* `last` is the lowest lane here */
    }
};
struct lane_below {
    shuffle_source operator()(int lane, int by, int, int last, int) const {
        return {lane + by, lane + by <= last};
    }
};
struct lane_across {
    shuffle_source operator()(int lane, int by, int, int last, int) const {
        return {lane ^ by, (lane ^ by) <= last};
    }
};
struct lane_numbered {
    shuffle_source operator()(int, int by, int first, int last, int part) const {
        const int lane = first | (by & ~part);
        return {lane, lane <= last};
    }
};

static void decode_shuffle(linker &l, const pieces &p, instruction &i) {
    static const std::unordered_map<std::string, action> known = {
        {"shfl.sync.up.b32", shuffle<lane_above>},
        {"shfl.sync.down.b32", shuffle<lane_below>},
        {"shfl.sync.bfly.b32", shuffle<lane_across>},
        {"shfl.sync.idx.b32", shuffle<lane_numbered>},
    };
    const auto found = known.find(p.name);
    l.want(p, found != known.end() && p.operands.size() == 5, "a shuffle that is not known");
    i.then = flow::TOGETHER;
    i.act = found->second;
    const std::vector<std::string> results = parts(p.operands[0], '|');
    i.to[0] = l.written(p, results[0], 4);
    if (results.size() > 1)
        i.to[1] = l.written(p, results[1], 0);
    i.a = l.read(p, p.operands[1], 4);
    i.b = l.read(p, p.operands[2], 4);
    i.c = l.read(p, p.operands[3], 4);
    i.target = l.read(p, p.operands[4], 4);
}

static void ballot(warp &w, const instruction &i, lane_set m) {
    const lane_set votes = w.predicate(i.a) & m;
    put(w.values<uint32_t>(i.to[0]), m, [=](int) { return votes; });
}

void decode_warp(linker &l, const pieces &p, instruction &i) {
    if (p.dots[0] == "shfl") {
        decode_shuffle(l, p, i);
        return;
    }
    if (p.name == "bar.warp.sync" && p.operands.size() == 1) {
        i.then = flow::WARP_BARRIER;
        i.target = l.read(p, p.operands[0], 4);
        return;
    }
    l.want(p, p.name == "vote.sync.ballot.b32" && p.operands.size() == 3,
           "an operation of a warp that is not known");
    i.then = flow::TOGETHER;
    i.act = ballot;
    i.to[0] = l.written(p, p.operands[0], 4);
    i.a = l.read(p, p.operands[1], 0);
    i.target = l.read(p, p.operands[2], 4);
}

} // namespace ptx
