/* Who gets a slot: 10,000 random cases against a brute force, and the properties of dropping. */
#include "judge/oracle.h"
#include "ops/router_bed.h"
#include "support/judge.h"

#include <math.h>
#include <string.h>

enum { CASES = 10000 };

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* What has to hold whatever the policy: counts are right, each group and expert keeps as many as
 * fit, and slots are dense and in position order. */
static void expect_properties(const swt_bed *bed, const swt_router_tensors *t) {
    const swt_moe_dims *d = &t->dims;
    const int64_t group_tokens = d->N / d->G;
    for (int64_t e = 0; e < d->E; e++) {
        int32_t next_slot = 0;
        int64_t fit = 0;
        for (int64_t g = 0; g < d->G; g++) {
            int64_t count = 0, kept = 0;
            for (int64_t n = g * group_tokens; n < (g + 1) * group_tokens; n++) {
                if (t->expert[n] != e)
                    continue;
                count++;
                if (t->slot[n] != -1) {
                    swt_expect_number(bed, "slot", t->slot[n], next_slot++, 0);
                    kept++;
                }
            }
            swt_expect_number(bed, "counts", t->counts[g * d->E + e], (double)count, 0);
            swt_expect_number(bed, "kept in group", (double)kept,
                              (double)smaller(count, d->group_capacity), 0);
            fit += kept;
        }
        swt_expect_number(bed, "kept", t->kept[e], (double)fit, 0);
    }
    for (int64_t n = 0; n < d->N; n++)
        if (t->expert[n] < 0)
            assert_int_equal(t->slot[n], -1);
}

static void expect_brute_force(swt_bed *bed, const swt_router_tensors *t) {
    const swt_moe_dims *d = &t->dims;
    int32_t *slot = (int32_t *)swt_bed_doubles(bed, d->N),
            *kept = (int32_t *)swt_bed_doubles(bed, d->E),
            *counts = (int32_t *)swt_bed_doubles(bed, d->G * d->E);
    swt_oracle_router_assign(slot, kept, counts, t->expert, t->gate, d, bed->ctx.state->seed,
                             bed->ctx.state->step);
    swt_expect_i32(bed, "slot", t->slot, slot, d->N);
    swt_expect_i32(bed, "kept", t->kept, kept, d->E);
    swt_expect_i32(bed, "counts", t->counts, counts, d->G * d->E);
}

/* The expert that whole-numbered logits (each exact) choose; a NaN logit counts as -infinity. */
static int32_t chosen(const swt_router_tensors *t, int64_t n) {
    double z[8];
    for (int64_t e = 0; e < t->dims.E; e++) {
        z[e] = t->bias != NULL ? (double)t->bias[e] : 0;
        for (int64_t i = 0; i < t->dims.C; i++)
            z[e] += (double)t->h[n * t->dims.C + i] * (double)t->w[e * t->dims.C + i];
    }
    return swt_oracle_argmax(z, t->dims.E);
}

enum { FLAVOURS = 6 };

/* Special inputs of a random case: as they are, logits of +-1e4, all logits equal, one expert NaN,
 * everything to one expert, nobody routed. */
static void flavour(swt_bed *bed, swt_router_tensors *t, int which) {
    const swt_moe_dims *d = &t->dims;
    const int64_t chosen_one = swt_bed_choose(bed, 0, (int)d->E - 1);
    for (int64_t i = 0; i < d->E * d->C; i++) {
        const bool of_one = i / d->C == chosen_one;
        if (which == 1)
            t->w[i] *= 1e4F;
        if (which == 2)
            t->w[i] = 0;
        if (which == 3 && of_one)
            t->w[i] = NAN;
        if (which == 4)
            t->w[i] = of_one ? 1 : -1;
    }
    for (int64_t e = 0; t->bias != NULL && which == 2 && e < d->E; e++)
        t->bias[e] = 0.5F;
    for (int64_t i = 0; which == 4 && i < d->N * d->C; i++)
        t->h[i] = (float)swt_bed_choose(bed, 2, 3);
    for (int64_t n = 0; which == 5 && n < d->N; n++)
        t->routed[n] = 0;
}

static int64_t random_capacity(swt_bed *bed, int64_t group_tokens) {
    switch (swt_bed_choose(bed, 0, 4)) {
    case 0:
        return 0;
    case 1:
        return 1;
    case 2:
        return group_tokens;
    case 3:
        return group_tokens + swt_bed_choose(bed, 0, 5);
    default:
        return swt_bed_choose(bed, 0, (int)group_tokens);
    }
}

static void random_case(swt_bed *bed, int number) {
    bed->stream = 2 * (uint32_t)number; /* for the sizes; the tensors begin the next one */
    swt_bed_begin(bed, "assign, sizes of case %d", number);
    const int G = swt_bed_choose(bed, 1, 3), group_tokens = swt_bed_choose(bed, 0, 12);
    const swt_router_case c = {.N = G * group_tokens,
                               .C = swt_bed_choose(bed, 1, 3),
                               .E = swt_bed_choose(bed, 1, 6),
                               .G = G,
                               .bias = swt_bed_choose(bed, 0, 1),
                               .all_routed = swt_bed_choose(bed, 0, 1),
                               .whole = true,
                               .evaluation = swt_bed_choose(bed, 0, 1)};
    bed->stream++;
    swt_router_tensors t = swt_router_bed_inputs(bed, &c);
    t.dims.drop = (swt_drop)swt_bed_choose(bed, 0, 2);
    t.dims.group_capacity = random_capacity(bed, group_tokens);
    t.dims.K = G * t.dims.group_capacity;
    t.dims.layer = (uint32_t)swt_bed_choose(bed, 0, 65535);
    t.dims.micro_batch = (uint32_t)swt_bed_choose(bed, 0, 100);
    bed->ctx.state->step = swt_bed_choose(bed, 1, 1000000);
    const int which = swt_bed_choose(bed, 0, 2 * FLAVOURS);
    flavour(bed, &t, which);
    swt_router_bed_forward(bed, &t);
    for (int64_t n = 0; n < c.N; n++)
        swt_expect_number(bed, "expert", t.expert[n], t.routed[n] == 0 ? -1 : chosen(&t, n), 0);
    if (which ==
        3) /* NaN probabilities; priority by them has no meaning, but must keep the counts */
        for (int64_t n = 0; n < c.N; n += 2)
            t.gate[n] = 0.25F;
    swt_router_bed_assign(bed, &t);
    expect_properties(bed, &t);
    if (which != 3 || t.dims.drop != SWT_DROP_PRIORITY)
        expect_brute_force(bed, &t);
}

static void trap_4_kept_is_min_of_count_and_capacity(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    /* A GPU waits for every call here, the emulated one takes minutes. */
    const int cases = swt_bed_on_gpu(&bed) ? CASES / 10 : CASES;
    for (int i = 0; i < cases; i++)
        random_case(&bed, i);
    swt_bed_close(&bed);
}

/* A layer in which the given experts and gates are already chosen. */
static swt_router_tensors chosen_layer(swt_bed *bed, int64_t N, int64_t E, int64_t capacity) {
    swt_router_tensors t = {.dims = swt_oracle_moe_dims(N, 4, E)};
    t.dims.group_capacity = t.dims.K = capacity;
    t.expert = swt_bed_integers(bed, N, 0, (int)E - 1);
    t.gate = swt_bed_uniform(bed, N, 0.1, 1);
    return t;
}

static void test_larger_cases(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 3);
    const int64_t sizes[][3] = {
        {1200, 1, 1}, {1200, 5, 4}, {2048, 16, 1}, {999, 4, 3}, {130, 2, 130}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int drop = 0; drop < 3; drop++) {
            const int64_t N = sizes[i][0], E = sizes[i][1], G = sizes[i][2];
            swt_bed_begin(&bed, "assign N=%lld E=%lld G=%lld drop=%d", (long long)N, (long long)E,
                          (long long)G, drop);
            swt_router_tensors t = chosen_layer(&bed, N, E, N / G / E * 4 / 5);
            t.dims.G = G;
            t.dims.K = G * t.dims.group_capacity;
            t.dims.drop = (swt_drop)drop;
            for (int64_t n = 0; n < N; n++) /* gates of a few values: ties */
                t.gate[n] = rintf(t.gate[n] * 8) / 8;
            swt_router_bed_assign(&bed, &t);
            expect_properties(&bed, &t);
            expect_brute_force(&bed, &t);
        }
    swt_bed_close(&bed);
}

/* By hand: five tokens to expert 1, three slots. */
static void test_policies_by_hand(void **state) {
    (void)state;
    static const int32_t expert[] = {1, 0, 1, 1, -1, 1, 1};
    static const float gate[] = {0.5F, 0.9F, 0.7F, 0.5F, 0, 0.9F, 0.5F};
    static const int32_t by_position[] = {0, 0, 1, 2, -1, -1, -1};
    static const int32_t by_priority[] = {0, 0, 1, -1, -1, 2, -1};
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int priority = 0; priority < 2; priority++) {
        swt_bed_begin(&bed, "assign by hand, priority=%d", priority);
        swt_router_tensors t = chosen_layer(&bed, 7, 2, 3);
        t.dims.drop = priority ? SWT_DROP_PRIORITY : SWT_DROP_POSITION;
        memcpy(t.expert, expert, sizeof expert);
        memcpy(t.gate, gate, sizeof gate);
        swt_router_bed_assign(&bed, &t);
        swt_expect_i32(&bed, "slot", t.slot, priority ? by_priority : by_position, 7);
        assert_true(t.kept[0] == 1 && t.kept[1] == 3 && t.counts[0] == 1 && t.counts[1] == 5);
    }
    swt_bed_close(&bed);
}

/* Each of 16 tokens of one expert with 4 slots is kept in a quarter of 4000 draws: 1000 times, with
 * a standard deviation of sqrt(4000 / 4 * 3 / 4) = 27.4. Six of those: one of 16 fair tokens would
 * be outside once in 3e7 seeds, while a favoured place is off by hundreds. Neighbours: any pair is
 * kept together with probability 4/16 * 3/15, 200 times, sd 13.8. On a GPU a tenth of the draws. */
static void test_random_is_fair(void **state) {
    (void)state;
    enum { N = 16, MANY = 4000 };
    swt_bed bed;
    swt_bed_open(&bed, 1);
    const int draws = swt_bed_on_gpu(&bed) ? MANY / 10 : MANY;
    const double kept = draws / 4.0, together = draws / 20.0;
    for (int evaluation = 0; evaluation < 2; evaluation++) {
        int times[N] = {0}, pairs[N] = {0};
        for (int draw = 0; draw < draws; draw++) {
            swt_bed_begin(&bed, "assign at random, draw %d", draw);
            swt_router_tensors t = chosen_layer(&bed, N, 1, 4);
            t.dims.drop = SWT_DROP_RANDOM;
            t.dims.training = !evaluation;
            bed.ctx.state->step = draw + 1;
            t.dims.micro_batch = evaluation ? (uint32_t)draw : 0;
            swt_router_bed_assign(&bed, &t);
            for (int n = 0; n < N; n++) {
                times[n] += t.slot[n] >= 0;
                pairs[n] += t.slot[n] >= 0 && t.slot[(n + 1) % N] >= 0;
            }
        }
        for (int n = 0; n < N; n++) {
            swt_expect_number(&bed, "times kept", times[n], kept, 6 * sqrt(kept * 3 / 4));
            swt_expect_number(&bed, "times kept with its neighbour", pairs[n], together,
                              6 * sqrt(together * 19 / 20));
        }
    }
    swt_bed_close(&bed);
}

/* Which tokens random dropping keeps, after `change` number so and so to the base case. */
static const int32_t *random_slots(swt_bed *bed, int change, bool training) {
    swt_bed_begin(bed, "assign at random, change %d, training %d", change, training);
    swt_router_tensors t = chosen_layer(bed, 60, 1, 30);
    t.dims.drop = SWT_DROP_RANDOM;
    t.dims.training = training;
    switch (change) {
    case 1:
        bed->ctx.state->seed ^= (uint64_t)1 << 40;
        break;
    case 2:
        t.dims.micro_batch++;
        break;
    case 3:
        t.dims.layer++;
        break;
    case 4:
        bed->ctx.state->step++;
        break;
    case 5:
        for (int64_t n = 0; n < t.dims.N; n++)
            t.gate[n] = 0.5F;
        break;
    case 6:
        t.dims.jitter = 0.5F;
        t.dims.aux_scale = t.dims.z_scale = 1;
        t.dims.gate = SWT_GATE_UNIT;
        t.dims.dropped_output = SWT_DROPPED_GATED_INPUT;
        break;
    case 7:
        bed->ctx.state->lr = bed->ctx.state->grad_norm = 3;
        bed->ctx.state->targets = 99;
        break;
    default:
        break;
    }
    swt_router_bed_assign(bed, &t);
    return t.slot;
}

/* Random dropping depends on seed, micro-batch and layer, in training on the step, on nothing else.
 */
static void test_random_depends_on(void **state) {
    (void)state;
    swt_bed base, changed;
    swt_bed_open(&base, 1);
    swt_bed_open(&changed, 2);
    for (int training = 0; training < 2; training++)
        for (int change = 0; change <= 7; change++) {
            const int32_t *a = random_slots(&base, 0, training);
            const int32_t *b = random_slots(&changed, change, training);
            const bool same = memcmp(a, b, 60 * sizeof *a) == 0;
            const bool depends = change >= 1 && change <= (training ? 4 : 3);
            if (same == depends)
                fail_msg("%s: the kept tokens are %s", changed.label, same ? "the same" : "others");
        }
    const int32_t *train = random_slots(&base, 0, true);
    const int32_t *evaluate = random_slots(&changed, 0, false);
    assert_memory_not_equal(train, evaluate, 60 * sizeof *train);
    swt_bed_close(&base);
    swt_bed_close(&changed);
}

static void run_assign(swt_bed *bed, const void *what) {
    swt_bed_begin(bed, "assign on threads");
    swt_router_tensors t = chosen_layer(bed, 5000, 5, 700);
    t.dims.drop = *(const swt_drop *)what;
    swt_router_bed_assign(bed, &t);
}

static void test_threads(void **state) {
    (void)state;
    for (swt_drop drop = SWT_DROP_POSITION; drop <= SWT_DROP_RANDOM; drop++)
        swt_bed_same_bits(run_assign, &drop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trap_4_kept_is_min_of_count_and_capacity),
        cmocka_unit_test(test_larger_cases),
        cmocka_unit_test(test_policies_by_hand),
        cmocka_unit_test(test_random_is_fair),
        cmocka_unit_test(test_random_depends_on),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
