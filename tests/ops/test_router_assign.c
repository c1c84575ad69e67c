/* Who gets a slot: 10,000 random cases against a brute force, and the properties of dropping.
 * Large ones: src/judge/cases_router.c. */
#include "judge/oracle.h"
#include "ops/route.h"

#include <math.h>
#include <string.h>

enum { CASES = 10000 };

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* What has to hold whatever the policy: counts are right, each group and expert keeps as many as
 * fit, and slots are dense and in position order. */
static void expect_properties(swt_trial *t, const swt_route *r) {
    const swt_moe_dims *d = &r->dims;
    const int64_t group_tokens = d->N / d->G;
    for (int64_t e = 0; e < d->E; e++) {
        int32_t next_slot = 0;
        int64_t fit = 0;
        for (int64_t g = 0; g < d->G; g++) {
            int64_t count = 0, kept = 0;
            for (int64_t n = g * group_tokens; n < (g + 1) * group_tokens; n++) {
                if (r->expert[n] != e)
                    continue;
                count++;
                if (r->slot[n] != -1) {
                    swt_trial_number(t, "slot", r->slot[n], next_slot++, 0);
                    kept++;
                }
            }
            swt_trial_number(t, "group_counts", r->group_counts[g * d->E + e], (double)count, 0);
            swt_trial_number(t, "kept in group", (double)kept,
                             (double)smaller(count, d->group_capacity), 0);
            fit += kept;
        }
        swt_trial_number(t, "kept_counts", r->kept_counts[e], (double)fit, 0);
    }
    for (int64_t n = 0; n < d->N; n++)
        if (r->expert[n] < 0)
            assert_int_equal(r->slot[n], -1);
}

static void expect_brute_force(swt_trial *t, const swt_route *r) {
    const swt_moe_dims *d = &r->dims;
    int32_t *slot = swt_trial_in(t, d->N, SWT_I32), *kept = swt_trial_in(t, d->E, SWT_I32),
            *counts = swt_trial_in(t, d->G * d->E, SWT_I32);
    swt_oracle_router_assign(slot, kept, counts, r->expert, r->gate, d, t->state->seed,
                             t->state->step);
    swt_trial_same(t, "slot", r->slot, slot, d->N, SWT_I32);
    swt_trial_same(t, "kept_counts", r->kept_counts, kept, d->E, SWT_I32);
    swt_trial_same(t, "group_counts", r->group_counts, counts, d->G * d->E, SWT_I32);
}

/* The expert that whole-numbered logits (each exact) choose; a NaN logit counts as -infinity. */
static int32_t chosen(const swt_route *r, int64_t n) {
    double z[8];
    for (int64_t e = 0; e < r->dims.E; e++) {
        z[e] = r->bias != NULL ? (double)r->bias[e] : 0;
        for (int64_t i = 0; i < r->dims.C; i++)
            z[e] += (double)r->h[n * r->dims.C + i] * (double)r->w[e * r->dims.C + i];
    }
    return swt_oracle_argmax(z, r->dims.E);
}

enum { FLAVOURS = 6 };

/* Special inputs of a random case: as they are, logits of +-1e4, all logits equal, one expert NaN,
 * everything to one expert, nobody routed. */
static void flavour(swt_trial *t, swt_route *r, int which) {
    const swt_moe_dims *d = &r->dims;
    const int64_t chosen_one = swt_trial_choose(t, 0, (int)d->E - 1);
    for (int64_t i = 0; i < d->E * d->C; i++) {
        const bool of_one = i / d->C == chosen_one;
        if (which == 1)
            r->w[i] *= 1e4F;
        if (which == 2)
            r->w[i] = 0;
        if (which == 3 && of_one)
            r->w[i] = NAN;
        if (which == 4)
            r->w[i] = of_one ? 1 : -1;
    }
    for (int64_t e = 0; r->bias != NULL && which == 2 && e < d->E; e++)
        r->bias[e] = 0.5F;
    for (int64_t i = 0; which == 4 && i < d->N * d->C; i++)
        r->h[i] = (float)swt_trial_choose(t, 2, 3);
    for (int64_t n = 0; which == 5 && n < d->N; n++)
        r->routed[n] = 0;
}

static int64_t random_capacity(swt_trial *t, int64_t group_tokens) {
    switch (swt_trial_choose(t, 0, 4)) {
    case 0:
        return 0;
    case 1:
        return 1;
    case 2:
        return group_tokens;
    case 3:
        return group_tokens + swt_trial_choose(t, 0, 5);
    default:
        return swt_trial_choose(t, 0, (int)group_tokens);
    }
}

static void random_case(swt_trial *t, int number) {
    swt_trial_start(t, number);
    swt_trial_begin(t, "assign, sizes of case %d", number);
    const int G = swt_trial_choose(t, 1, 3), group_tokens = swt_trial_choose(t, 0, 12);
    const swt_route_case c = {.N = G * group_tokens,
                              .C = swt_trial_choose(t, 1, 3),
                              .E = swt_trial_choose(t, 1, 6),
                              .G = G,
                              .bias = swt_trial_choose(t, 0, 1),
                              .all_routed = swt_trial_choose(t, 0, 1),
                              .whole = true,
                              .evaluation = swt_trial_choose(t, 0, 1)};
    swt_route r = swt_route_inputs(t, &c);
    r.dims.drop = (swt_drop)swt_trial_choose(t, 0, 2);
    r.dims.group_capacity = random_capacity(t, group_tokens);
    r.dims.K = G * r.dims.group_capacity;
    r.dims.block = (uint32_t)swt_trial_choose(t, 0, 65535);
    r.dims.micro_batch = (uint32_t)swt_trial_choose(t, 0, 100);
    t->state->step = swt_trial_choose(t, 1, 1000000);
    const int which = swt_trial_choose(t, 0, 2 * FLAVOURS);
    flavour(t, &r, which);
    swt_route_forward(t, &r);
    for (int64_t n = 0; n < c.N; n++)
        swt_trial_number(t, "expert", r.expert[n], r.routed[n] == 0 ? -1 : chosen(&r, n), 0);
    if (which ==
        3) /* NaN probabilities; priority by them has no meaning, but must keep the counts */
        for (int64_t n = 0; n < c.N; n += 2)
            r.gate[n] = 0.25F;
    swt_route_assign(t, &r);
    expect_properties(t, &r);
    if (which != 3 || r.dims.drop != SWT_DROP_PRIORITY)
        expect_brute_force(t, &r);
}

static void trap_4_kept_is_min_of_count_and_capacity(void **state) {
    swt_trial *t = swt_test_trial(state);
    const int cases = swt_test_share(CASES); /* a GPU waits for every call here */
    for (int i = 0; i < cases; i++)
        random_case(t, i);
}

/* A layer in which the given experts and gates are already chosen. */
static swt_route chosen_layer(swt_trial *t, int64_t N, int64_t E, int64_t capacity) {
    swt_route r = {.dims = swt_oracle_moe_dims(N, 4, E)};
    r.dims.group_capacity = r.dims.K = capacity;
    r.expert = swt_trial_integers(t, N, 0, (int)E - 1);
    r.gate = swt_trial_uniform(t, N, 0.1, 1);
    return r;
}

/* By hand: five tokens to expert 1, three slots. */
static void test_policies_by_hand(void **state) {
    static const int32_t expert[] = {1, 0, 1, 1, -1, 1, 1};
    static const float gate[] = {0.5F, 0.9F, 0.7F, 0.5F, 0, 0.9F, 0.5F};
    static const int32_t by_position[] = {0, 0, 1, 2, -1, -1, -1};
    static const int32_t by_priority[] = {0, 0, 1, -1, -1, 2, -1};
    swt_trial *t = swt_test_trial(state);
    for (int priority = 0; priority < 2; priority++) {
        swt_trial_begin(t, "assign by hand, priority=%d", priority);
        swt_route r = chosen_layer(t, 7, 2, 3);
        r.dims.drop = priority ? SWT_DROP_PRIORITY : SWT_DROP_POSITION;
        memcpy(r.expert, expert, sizeof expert);
        memcpy(r.gate, gate, sizeof gate);
        swt_route_assign(t, &r);
        swt_trial_same(t, "slot", r.slot, priority ? by_priority : by_position, 7, SWT_I32);
        assert_true(r.kept_counts[0] == 1 && r.kept_counts[1] == 3 && r.group_counts[0] == 1 &&
                    r.group_counts[1] == 5);
    }
}

/* Each of 16 tokens of one expert with 4 slots is kept in a quarter of 4000 draws: 1000 times, with
 * a standard deviation of sqrt(4000 / 4 * 3 / 4) = 27.4. Six of those: one of 16 fair tokens would
 * be outside once in 3e7 seeds, while a favoured place is off by hundreds. Neighbours: any pair is
 * kept together with probability 4/16 * 3/15, 200 times, sd 13.8. */
static void test_random_is_fair(void **state) {
    enum { N = 16, MANY = 4000 };
    swt_trial *t = swt_test_trial(state);
    const int draws = swt_test_share(MANY);
    const double kept = draws / 4.0, together = draws / 20.0;
    for (int evaluation = 0; evaluation < 2; evaluation++) {
        int times[N] = {0}, pairs[N] = {0};
        for (int draw = 0; draw < draws; draw++) {
            swt_trial_begin(t, "assign at random, draw %d", draw);
            swt_route r = chosen_layer(t, N, 1, 4);
            r.dims.drop = SWT_DROP_RANDOM;
            r.dims.training = !evaluation;
            t->state->step = draw + 1;
            r.dims.micro_batch = evaluation ? (uint32_t)draw : 0;
            swt_route_assign(t, &r);
            for (int n = 0; n < N; n++) {
                times[n] += r.slot[n] >= 0;
                pairs[n] += r.slot[n] >= 0 && r.slot[(n + 1) % N] >= 0;
            }
        }
        for (int n = 0; n < N; n++) {
            swt_trial_number(t, "times kept", times[n], kept, 6 * sqrt(kept * 3 / 4));
            swt_trial_number(t, "times kept with its neighbour", pairs[n], together,
                             6 * sqrt(together * 19 / 20));
        }
    }
}

enum { TOKENS = 60 };

/* Which tokens random dropping keeps, after `change` number so and so to the base case. */
static void random_slots(swt_trial *t, int change, bool training, int32_t slots[TOKENS]) {
    swt_trial_start(t, 0);
    swt_trial_begin(t, "assign at random, change %d, training %d", change, training);
    swt_route r = chosen_layer(t, TOKENS, 1, TOKENS / 2);
    r.dims.drop = SWT_DROP_RANDOM;
    r.dims.training = training;
    switch (change) {
    case 1:
        t->state->seed ^= (uint64_t)1 << 40;
        break;
    case 2:
        r.dims.micro_batch++;
        break;
    case 3:
        r.dims.block++;
        break;
    case 4:
        t->state->step++;
        break;
    case 5:
        for (int64_t n = 0; n < r.dims.N; n++)
            r.gate[n] = 0.5F;
        break;
    case 6:
        r.dims.jitter = 0.5F;
        r.dims.aux_scale = r.dims.z_scale = 1;
        r.dims.gate = SWT_GATE_UNIT;
        r.dims.dropped_output = SWT_DROPPED_GATED_INPUT;
        break;
    case 7:
        t->state->lr = t->state->grad_norm = 3;
        t->state->targets = 99;
        break;
    default:
        break;
    }
    swt_route_assign(t, &r);
    memcpy(slots, r.slot, TOKENS * sizeof *slots);
}

/* Random dropping depends on seed, micro-batch and layer, in training on the step, on nothing else.
 */
static void test_random_depends_on(void **state) {
    swt_trial *t = swt_test_trial(state);
    for (int training = 0; training < 2; training++)
        for (int change = 0; change <= 7; change++) {
            int32_t base[TOKENS], changed[TOKENS];
            random_slots(t, 0, training, base);
            random_slots(t, change, training, changed);
            const bool same = memcmp(base, changed, sizeof base) == 0;
            const bool depends = change >= 1 && change <= (training ? 4 : 3);
            if (same == depends)
                fail_msg("%s: the kept tokens are %s", t->label, same ? "the same" : "others");
        }
    int32_t train[TOKENS], evaluate[TOKENS];
    random_slots(t, 0, true, train);
    random_slots(t, 0, false, evaluate);
    assert_memory_not_equal(train, evaluate, sizeof train);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trap_4_kept_is_min_of_count_and_capacity),
        cmocka_unit_test(test_policies_by_hand),
        cmocka_unit_test(test_random_is_fair),
        cmocka_unit_test(test_random_depends_on),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
