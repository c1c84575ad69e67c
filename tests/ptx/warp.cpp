/* Which lanes of a warp run. Each has an instruction that it comes to; those at the same one go on
 * together, the ones that are furthest behind first, so that what has parted meets again. In a
 * shuffled order any may go first, and stop anywhere: nothing may depend on lanes that go in step.
 */
#include "tests/ptx/core.h"
#include "tests/ptx/memory.h"

#include <stdarg.h>

namespace ptx {

running now;

void stop_at(const warp &w, const instruction &i, int lane, const char *format, ...) {
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    const origin &o = now.k->origins[static_cast<size_t>(&i - now.k->code.data())];
    const std::string source = source_of(*now.k, o);
    swt_emu_stop("kernel %s, block (%u,%u,%u), warp %u, lane %d: PTX line %d%s%s: %s: %s",
                 now.k->name.c_str(), now.block[0], now.block[1], now.block[2], w.number, lane,
                 o.line, source.empty() ? "" : ", ", source.c_str(), o.text.c_str(), what);
}

/* Lanes that go on together from an instruction, until they come to `until` or beyond. */
struct group {
    lane_set lanes;
    uint32_t at, until;
};

static group choose(const warp &w, lane_set ready) {
    group g = {0, UINT32_MAX, UINT32_MAX};
    if (now.shuffled) {
        lane_set rest = ready;
        for (uint32_t n = emu_random(static_cast<uint32_t>(__builtin_popcount(ready))); n > 0; n--)
            rest &= rest - 1;
        g.at = w.at[__builtin_ctz(rest)];
    } else {
        each_lane(ready, [&](int lane) { g.at = w.at[lane] < g.at ? w.at[lane] : g.at; });
    }
    each_lane(ready, [&](int lane) {
        if (w.at[lane] == g.at)
            g.lanes |= 1U << lane;
        else if (w.at[lane] > g.at && w.at[lane] < g.until)
            g.until = w.at[lane];
    });
    if (now.shuffled && g.lanes != ready && emu_random(4) == 0)
        g.until = g.at + 1 + emu_random(40);
    return g;
}

static void set_place(warp &w, lane_set lanes, uint32_t at) {
    each_lane(lanes, [&w, at](int lane) { w.at[lane] = at; });
}

/* Lanes have come to an operation of the warp: those that have all whom they name there do it. */
static void meet(warp &w, const instruction &i, uint32_t at, lane_set came) {
    const uint32_t *const named = w.values<uint32_t>(i.target);
    lane_set there = 0;
    each_lane(w.waiting & w.live & ~w.at_barrier, [&](int lane) {
        if (w.at[lane] == at)
            there |= 1U << lane;
    });
    each_lane(came, [&](int lane) {
        const lane_set all = named[lane];
        if (!has_lane(all, lane))
            stop_at(w, i, lane, "the lane does not name itself among %08x", all);
        if ((all & ~w.live) != 0)
            stop_at(w, i, lane, "it names lanes %08x, which have ended", all & ~w.live);
        if ((all & ~there) != 0 || !has_lane(w.waiting, lane))
            return;
        each_lane(all, [&](int other) {
            if (named[other] != all)
                stop_at(w, i, other, "it names lanes %08x, where lane %d names %08x", named[other],
                        lane, all);
        });
        if (i.then == flow::WARP_BARRIER)
            w.since = races_time();
        else
            i.act(w, i, all);
        set_place(w, all, at + 1);
        w.waiting &= ~all;
    });
}

/* `came` of these lanes have come to an instruction that waits; the others pass it. */
static void wait(warp &w, const instruction &i, uint32_t at, lane_set lanes, lane_set came) {
    set_place(w, lanes & ~came, at + 1);
    set_place(w, came, at);
    w.waiting |= came;
    if (i.then == flow::BARRIER)
        w.at_barrier |= came;
    else
        meet(w, i, at, came);
}

static void run_group(warp &w, group g) {
    const instruction *const code = now.k->code.data();
    lane_set m = g.lanes;
    uint32_t at = g.at;
    do {
        const instruction &i = code[at];
        lane_set doing = m;
        if (i.guarded)
            doing &= i.guard_negated ? ~w.predicate(i.guard) : w.predicate(i.guard);
        if (doing != 0)
            i.ran = true;
        switch (i.then) {
        case flow::NEXT:
            if (doing != 0)
                i.act(w, i, doing);
            at++;
            break;
        case flow::BRANCH:
            if (doing != m && doing != 0) {
                set_place(w, doing, i.target);
                set_place(w, m & ~doing, at + 1);
                return;
            }
            at = doing != 0 ? i.target : at + 1;
            break;
        case flow::EXIT:
            w.live &= ~doing;
            m &= ~doing;
            at++;
            break;
        default:
            wait(w, i, at, m, doing);
            return;
        }
    } while (m != 0 && at < g.until);
    set_place(w, m, at);
}

void run_warp(warp &w) {
    for (lane_set ready; (ready = w.live & ~w.waiting) != 0;)
        run_group(w, choose(w, ready));
}

} // namespace ptx
