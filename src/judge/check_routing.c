/* Where tokens go in the cases that go wrong first: router and assignment together, exactly. */
#include "judge/checks.h"
#include "judge/routing.h"

#include <math.h>
#include <string.h>

/* Route and assign; the assignment of the experts and gates found is the oracle's. */
static swt_status route(swt_trial *t, swt_routing *r) {
    SWT_TRY(swt_routing_forward(t, r));
    SWT_TRY(swt_routing_assign(t, r));
    swt_routing_expect_assigned(t, r);
    return SWT_OK;
}

static void expect_best(swt_trial *t, const swt_routing *r) {
    const swt_routing_truth o = swt_routing_solve(t, r);
    for (int64_t n = 0; n < r->dims.N; n++)
        swt_trial_number(t, "expert", r->expert[n],
                         r->routed[n] ? swt_oracle_argmax(o.z + n * r->dims.E, r->dims.E) : -1, 0);
}

/* Whole numbers: logits are exact and many are equal; the lowest index wins. */
swt_status swt_selftest_route_ties(swt_trial *t) {
    for (int i = 0; i < 6; i++) {
        swt_trial_begin(t, "whole numbers, number %d", i);
        swt_routing r = swt_routing_inputs(t, 128, 1 + i, 5 + i, i % 2, true);
        r.dims.G = 2;
        r.dims.group_capacity = 9;
        r.dims.K = 18;
        r.dims.drop = (swt_drop)(i % 3);
        SWT_TRY(route(t, &r));
        expect_best(t, &r);
    }
    return SWT_OK;
}

/* Logits that are NaN or infinite: NaN never wins, unless nothing else is there. */
swt_status swt_selftest_route_nan_logits(swt_trial *t) {
    const float nan = NAN, inf = INFINITY;
    const float logits[][5] = {{nan, 1, 2, nan, 2},      {nan, nan, nan, nan, nan},
                               {0, nan, -inf, 0, -1},    {-inf, nan, -inf, -inf, -inf},
                               {-inf, -inf, -3, nan, 5}, {1, inf, nan, inf, 0}};
    const int32_t experts[] = {2, 0, 0, 0, 4, 1};
    for (int i = 0; i < 6; i++) {
        swt_trial_begin(t, "logits of row %d", i);
        swt_routing r = swt_routing_inputs(t, 9, 1, 5, false, true);
        for (int n = 0; n < 9; n++) {
            r.h[n] = 1;
            r.routed[n] = 1;
        }
        memcpy(r.w, logits[i], sizeof logits[i]);
        SWT_TRY(route(t, &r));
        for (int n = 0; n < 9; n++)
            swt_trial_number(t, "expert", r.expert[n], experts[i], 0);
        swt_trial_number(t, "kept", r.kept[experts[i]], 9, 0);
    }
    return SWT_OK;
}

/* A router whose weight is the identity, so that token n goes to expert target(n). */
static swt_routing aimed(swt_trial *t, int64_t N, int64_t E, int64_t (*target)(int64_t n)) {
    swt_routing r = swt_routing_inputs(t, N, E, E, false, false);
    for (int64_t i = 0; i < E * E; i++)
        r.w[i] = i / E == i % E ? 1.0f : 0.0f;
    for (int64_t n = 0; n < N; n++)
        r.h[n * E + target(n)] += 4; /* the others are below 1 */
    return r;
}

static int64_t all_to_two(int64_t n) {
    (void)n;
    return 2;
}

/* One expert gets everything: it fills up, all others stay empty, the rest is dropped. */
swt_status swt_selftest_route_all_to_one(swt_trial *t) {
    for (int i = 0; i < 6; i++) {
        const int64_t N = 96, E = 4, capacity = i < 3 ? 30 : N;
        swt_trial_begin(t, "drop=%d capacity=%lld", i % 3, (long long)capacity);
        swt_routing r = aimed(t, N, E, all_to_two);
        r.dims.group_capacity = r.dims.K = capacity;
        r.dims.drop = (swt_drop)(i % 3);
        int64_t routed = 0;
        for (int64_t n = 0; n < N; n++)
            routed += r.routed[n];
        SWT_TRY(route(t, &r));
        SWT_TRY(swt_routing_losses(t, &r));
        const double kept = (double)(routed < capacity ? routed : capacity);
        swt_trial_number(t, "kept", r.kept[2], kept, 0);
        swt_trial_number(t, "kept by the others", r.kept[0] + r.kept[1] + r.kept[3], 0, 0);
        swt_trial_number(t, "dropped", r.stats[2], (double)routed - kept, 0);
        swt_trial_number(t, "load of the expert", r.stats[5], (double)routed, 0);
    }
    return SWT_OK;
}

static int64_t by_turns(int64_t n) {
    return n % 5;
}

/* One slot for each expert and group. */
swt_status swt_selftest_route_capacity_one(swt_trial *t) {
    for (int i = 0; i < 6; i++) {
        swt_trial_begin(t, "drop=%d groups=%d", i % 3, 1 + i / 3);
        swt_routing r = aimed(t, 90, 5, by_turns);
        r.dims.G = 1 + i / 3;
        r.dims.group_capacity = 1;
        r.dims.K = r.dims.G;
        r.dims.drop = (swt_drop)(i % 3);
        SWT_TRY(route(t, &r));
        for (int e = 0; e < 5; e++)
            swt_trial_number(t, "kept", r.kept[e], (double)r.dims.G, 0);
    }
    return SWT_OK;
}

/* Groups without a routed token have losses of 0 and still count in the mean; no tokens at all. */
swt_status swt_selftest_route_empty_groups(swt_trial *t) {
    for (int empty = 0; empty <= 3; empty++) {
        const int64_t N = 63, E = 5;
        swt_trial_begin(t, "%d of 3 groups empty", empty);
        swt_routing r = aimed(t, N, E, by_turns);
        r.dims.G = 3;
        r.dims.group_capacity = 4;
        r.dims.K = 12;
        for (int64_t n = 0; n < N; n++)
            r.routed[n] = n / 21 >= empty;
        SWT_TRY(route(t, &r));
        SWT_TRY(swt_routing_losses(t, &r));
        for (int64_t g = 0; g < empty; g++)
            for (int64_t e = 0; e < E; e++)
                swt_trial_number(t, "counts of an empty group", r.counts[g * E + e], 0, 0);
        double *want = swt_trial_doubles(t, 3 + E);
        swt_oracle_router_losses(want, swt_trial_widen(t, r.probs, N * E),
                                 swt_trial_widen(t, r.lse, N), r.expert, r.kept, r.counts, &r.dims);
        swt_trial_number(t, "aux", r.stats[0], want[0], (double)(N * E * E) * 0x1p-53);
        swt_trial_number(t, "z", r.stats[1], want[1], (double)(N * E) * (1 + want[1]) * 0x1p-53);
        swt_trial_number(t, "dropped", r.stats[2], want[2], 0);
    }
    swt_trial_begin(t, "no tokens");
    swt_routing r = swt_routing_inputs(t, 0, 3, 4, true, false);
    SWT_TRY(route(t, &r));
    for (int e = 0; e < 4; e++)
        swt_trial_number(t, "kept", r.kept[e], 0, 0);
    return SWT_OK;
}

/* Which tokens an overfull expert keeps. */
static swt_status drop(swt_trial *t, swt_drop policy) {
    for (int i = 0; i < 12; i++) {
        const int64_t N = 2 * swt_trial_size(t, 130), E = 1 + swt_trial_size(t, 17);
        swt_trial_begin(t, "N=%lld E=%lld number %d", (long long)N, (long long)E, i);
        swt_routing r = swt_routing_inputs(t, N, 6, E, true, i % 2);
        r.dims.G = 1 + i % 2;
        r.dims.group_capacity = swt_trial_choose(t, 0, (int)(2 * N / E));
        r.dims.K = r.dims.G * r.dims.group_capacity;
        r.dims.drop = policy;
        r.dims.training = i % 3 != 2;
        r.dims.layer = (uint32_t)i;
        SWT_TRY(route(t, &r));
    }
    return SWT_OK;
}

swt_status swt_selftest_drop_by_position(swt_trial *t) {
    return drop(t, SWT_DROP_POSITION);
}

swt_status swt_selftest_drop_by_priority(swt_trial *t) {
    return drop(t, SWT_DROP_PRIORITY);
}

swt_status swt_selftest_drop_at_random(swt_trial *t) {
    return drop(t, SWT_DROP_RANDOM);
}
