#include "state/roll.h"

#include "base/words.h"

#include <string.h>

bool swt_roll_hears(const swt_roll *roll, int r) {
    return r != roll->own && (r < SWT_HUBS || roll->own < SWT_HUBS);
}

void swt_roll_forgive(swt_roll *roll, double now_ms) {
    for (int r = 0; r < roll->ranks; r++)
        roll->at[r].heard_ms = now_ms;
}

void swt_roll_lose(swt_roll *roll, int r, swt_loss loss) {
    if (roll->at[r].presence != SWT_HERE)
        return;
    roll->at[r].presence = SWT_LOST;
    roll->at[r].loss = loss;
}

static double idle_ms(const swt_roll *roll, int r, double now_ms) {
    const swt_roll_rank *m = &roll->at[r];
    return (double)m->at.idle_ms + (r == roll->own ? 0.0 : now_ms - m->heard_ms);
}

/* Whether standing still means anything there. */
static bool must_move(const swt_position *at) {
    return at->phase != SWT_PHASE_START && at->phase != SWT_PHASE_CHECKPOINT &&
           at->phase != SWT_PHASE_END;
}

static bool stands_still(const swt_roll *roll, int r, double now_ms, double for_ms) {
    return roll->at[r].presence == SWT_HERE && must_move(&roll->at[r].at) &&
           idle_ms(roll, r, now_ms) >= for_ms;
}

/* The rank that keeps the others waiting, -1: none does for so long. */
static int find_standing(const swt_roll *roll, double now_ms, double for_ms) {
    int fewest = -1;
    bool all_wait = true;
    for (int r = 0; r < roll->ranks; r++) {
        const swt_roll_rank *m = &roll->at[r];
        const bool still = stands_still(roll, r, now_ms, for_ms);
        if (still && m->at.call == SWT_CALL_NONE)
            return r;
        all_wait = all_wait && still;
        if (fewest < 0 || m->at.calls < roll->at[fewest].at.calls)
            fewest = r;
    }
    return all_wait ? fewest : -1;
}

int swt_roll_judge(swt_roll *roll, double now_ms) {
    int lost = 0;
    for (int r = 0; r < roll->ranks; r++)
        if (swt_roll_hears(roll, r) && now_ms - roll->at[r].heard_ms > roll->hang_ms)
            swt_roll_lose(roll, r, SWT_LOSS_SILENT);
    if (roll->stall_ms > 0.0 && roll->own < SWT_HUBS) {
        const int standing = find_standing(roll, now_ms, roll->stall_ms);
        if (standing >= 0)
            swt_roll_lose(roll, standing, SWT_LOSS_STALLED);
    }
    for (int r = 0; r < roll->ranks; r++)
        lost += roll->at[r].presence == SWT_LOST;
    return lost;
}

int swt_roll_slow(const swt_roll *roll, double now_ms) {
    if (roll->stall_ms <= 0.0 || roll->own >= SWT_HUBS)
        return -1;
    return find_standing(roll, now_ms, roll->stall_ms / 10.0);
}

int swt_roll_speaker(const swt_roll *roll) {
    for (int r = 0; r < roll->ranks && r < SWT_HUBS; r++)
        if (roll->at[r].presence == SWT_HERE)
            return r;
    return SWT_HUBS;
}

/* ---- words */

/* Of what the roll's owner has not heard itself nothing is known. */
static bool is_known(const swt_roll *roll, int r) {
    return r == roll->own || swt_roll_hears(roll, r);
}

static bool is_in(const swt_members *of, int r) {
    const int from = r - of->first;
    return of->stride > 0 && from >= 0 && from % of->stride == 0 && from / of->stride < of->size;
}

/* Whether rank r waits for rank other: one of its call's ranks that is lost, or has not come. */
static bool waits_for(const swt_roll *roll, int r, int other) {
    const swt_position *a = &roll->at[r].at, *b = &roll->at[other].at;
    if (r == other || a->call == SWT_CALL_NONE || !is_known(roll, other) || !is_in(&a->of, other))
        return false;
    return roll->at[other].presence != SWT_HERE || b->calls < a->calls;
}

/* Append "rank 3" or "ranks 0-2, 5": those for which `is` says so. Returns how many they are. */
static int append_ranks(char *text, size_t bytes, const bool *is, int ranks) {
    int count = 0;
    for (int r = 0; r < ranks; r++)
        count += is[r];
    swt_append(text, bytes, "rank%s ", swt_plural(count));
    const char *between = "";
    for (int r = 0; r < ranks; r++) {
        if (!is[r])
            continue;
        int last = r;
        while (last + 1 < ranks && is[last + 1])
            last++;
        swt_append(text, bytes, last > r ? "%s%d-%d" : "%s%d", between, r, last);
        between = ", ";
        r = last;
    }
    return count;
}

static bool same_place(const swt_position *a, const swt_position *b) {
    return a->step == b->step && a->phase == b->phase && a->layer == b->layer &&
           a->kind == b->kind && a->call == b->call && a->of.first == b->of.first &&
           a->of.stride == b->of.stride && a->calls == b->calls;
}

/* One rank that is there, and all that are at the same place and wait for the same ranks. */
static void append_waiting(const swt_roll *roll, int r, bool *told, bool *group, char *text,
                           size_t bytes) {
    bool waits = false;
    for (int other = 0; other < roll->ranks; other++) {
        group[other] = !told[other] && roll->at[other].presence == SWT_HERE &&
                       is_known(roll, other) && same_place(&roll->at[r].at, &roll->at[other].at);
        told[other] = told[other] || group[other];
    }
    swt_append(text, bytes, "; ");
    const bool one = append_ranks(text, bytes, group, roll->ranks) == 1;
    for (int other = 0; other < roll->ranks; other++) {
        group[other] = waits_for(roll, r, other);
        waits = waits || group[other];
    }
    swt_append(text, bytes, " %s at ", waits ? one ? "waits" : "wait" : one ? "is" : "are");
    swt_position_append(text, bytes, &roll->at[r].at);
    if (waits) {
        swt_append(text, bytes, ", for ");
        (void)append_ranks(text, bytes, group, roll->ranks);
    }
}

static void append_loss(const swt_roll *roll, int r, char *text, size_t bytes) {
    const swt_roll_rank *m = &roll->at[r];
    if (m->loss == SWT_LOSS_CLOSED)
        swt_append(text, bytes, "rank %d: its process has ended without a word", r);
    else if (m->loss == SWT_LOSS_SILENT)
        swt_append(text, bytes, "rank %d: not heard of for %.3g s", r, roll->hang_ms / 1e3);
    else
        swt_append(text, bytes, "rank %d: without progress for %.3g s", r, roll->stall_ms / 1e3);
    swt_append(text, bytes, ", last at ");
    swt_position_append(text, bytes, &m->at);
}

/* So many groups of ranks at one place are told of: a line is read by people. */
enum { MOST_GROUPS = 6, ROLL_WORDS = 4096 };

void swt_roll_tell(const swt_roll *roll, char *text, size_t bytes) {
    bool told[ROLL_WORDS] = {false}, group[ROLL_WORDS];
    const swt_roll shown = {roll->ranks < ROLL_WORDS ? roll->ranks : ROLL_WORDS, roll->own,
                            roll->hang_ms, roll->stall_ms, roll->at};
    int said = 0;
    for (int r = 0; r < shown.ranks && said < MOST_GROUPS; r++) {
        if (shown.at[r].presence != SWT_LOST)
            continue;
        swt_append(text, bytes, said++ > 0 ? "; " : "");
        append_loss(&shown, r, text, bytes);
    }
    said = 0;
    for (int r = 0; r < shown.ranks && said < MOST_GROUPS; r++)
        if (!told[r] && is_known(&shown, r) && shown.at[r].presence == SWT_HERE) {
            append_waiting(&shown, r, told, group, text, bytes);
            said++;
        }
    swt_append(text, bytes, "; see why it ended or stands, and start again from a checkpoint");
}

void swt_roll_warn(const swt_roll *roll, int slow, double now_ms, char *text, size_t bytes) {
    swt_append(text, bytes, "rank %d: without progress for %.3g s, at ", slow,
               idle_ms(roll, slow, now_ms) / 1e3);
    swt_position_append(text, bytes, &roll->at[slow].at);
    swt_append(text, bytes, "; after %.3g s it is lost (run.stall_seconds)", roll->stall_ms / 1e3);
}
