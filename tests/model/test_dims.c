/* Capacity, expert layout and micro-batch layout against tables computed by hand. */
#include "model/dist.h"
#include "model/model.h"
#include "support/test.h"

#include <string.h>

static swt_dims labml(void) {
    return (swt_dims){.B = 32, .T = 64, .E = 4, .M = 1, .L = 6, .every = 1, .capacity_factor = 1.2};
}

/* labml: int(1.2 tokens / 4) for a full batch, the last training and validation batch, and for
 * samples of length 5 to 29. */
static void capacity_is_labmls(void **state) {
    (void)state;
    const swt_dims d = labml();
    static const int64_t cases[][2] = {{2048, 614}, {320, 96}, {896, 268}, {5, 1},  {6, 1},
                                       {7, 2},      {9, 2},    {10, 3},    {13, 3}, {14, 4},
                                       {16, 4},     {17, 5},   {19, 5},    {20, 6}, {23, 6},
                                       {24, 7},     {26, 7},   {27, 8},    {29, 8}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(swt_group_capacity(&d, cases[i][0], true), cases[i][1]);
}

static void capacity_rounds_and_clamps(void **state) {
    (void)state;
    swt_dims d = labml();
    d.capacity_factor = 1.0; /* 10 / 4 = 2.5, 14 / 4 = 3.5 */
    d.capacity_round = SWT_ROUND_CEIL;
    assert_int_equal(swt_group_capacity(&d, 10, true), 3);
    d.capacity_round = SWT_ROUND_ROUND; /* half to even */
    assert_int_equal(swt_group_capacity(&d, 10, true), 2);
    assert_int_equal(swt_group_capacity(&d, 14, true), 4);
    d.min_capacity = 4;
    assert_int_equal(swt_group_capacity(&d, 4, true), 4);
    assert_int_equal(swt_group_capacity(&d, 2, true),
                     4); /* the minimum wins over the number of tokens */
    d.min_capacity = 0;
    d.capacity_factor = 1e300;
    assert_int_equal(swt_group_capacity(&d, 10, true), 10);
    d.capacity_factor = 1.0;
    d.eval_capacity_factor = 2.0;
    assert_int_equal(swt_group_capacity(&d, 8, true), 2);
    assert_int_equal(swt_group_capacity(&d, 8, false), 4);
    d.capacity = 7;
    assert_int_equal(swt_group_capacity(&d, 8, false), 7);
}

static void message_slots_cover_training_and_evaluation(void **state) {
    (void)state;
    swt_dims d = labml();
    assert_int_equal(swt_message_slots(&d), 614);
    d.eval_capacity_factor = 2.0;
    assert_int_equal(swt_message_slots(&d), 1024);
    d.group = SWT_GROUP_SEQUENCE; /* 32 groups of floor(2 * 64 / 4) */
    assert_int_equal(swt_message_slots(&d), 32 * 32);
    d.capacity = 1000; /* never more than the tokens there are */
    assert_int_equal(swt_message_slots(&d), 2048);
    d = labml();
    d.capacity_factor = 0.0; /* a dropless evaluation needs one slot */
    assert_int_equal(swt_message_slots(&d), 1);
}

static void sparse_layers_are_the_last_of_each_period(void **state) {
    (void)state;
    swt_dims d = labml();
    d.every = 2;
    assert_int_equal(swt_sublayer_count(&d), 12);
    for (int64_t i = 0; i < 12; i++) {
        const swt_sublayer s = swt_sublayer_at(&d, i);
        const swt_sublayer_kind feed_forward = i / 2 % 2 == 1 ? SWT_SWITCH : SWT_DENSE;
        assert_int_equal(s.kind, i % 2 == 0 ? SWT_SELF_ATTENTION : feed_forward);
        assert_int_equal(s.block, i / 2);
        if (s.kind == SWT_SWITCH)
            assert_int_equal(s.sparse, i / 4);
    }
    assert_int_equal(swt_sparse_layers(&d), 3);
    d.every = 0;
    assert_int_equal(swt_sparse_layers(&d), 0);
    assert_int_equal(swt_sublayer_at(&d, 7).kind, SWT_DENSE);
}

/* E = 5 on 3 ranks: 2, 2, 1, lower ranks first. */
static void experts_are_split_evenly(void **state) {
    (void)state;
    static const int64_t first[] = {0, 2, 4, 5};
    for (int rank = 0; rank < 3; rank++) {
        swt_dist d;
        assert_int_equal(swt_dist_init(&d, 3, rank, 5, 0), SWT_OK);
        assert_int_equal(d.P, 3);
        assert_int_equal(d.first_own, first[rank]);
        assert_int_equal(d.El, first[rank + 1] - first[rank]);
        for (int64_t e = 0; e < 5; e++)
            assert_int_equal(swt_dist_owner(&d, e), e / 2);
        swt_dist_fini(&d);
    }
}

static void groups_divide_the_ranks(void **state) {
    (void)state;
    /* ranks, experts, asked, P: 0 asks for the largest divisor of the ranks that is <= E. */
    static const int cases[][4] = {
        {6, 4, 0, 3}, {8, 4, 0, 4}, {4, 16, 2, 2}, {7, 5, 0, 1}, {1, 3, 0, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        swt_dist d;
        assert_int_equal(swt_dist_init(&d, cases[i][0], cases[i][0] - 1, cases[i][1], cases[i][2]),
                         SWT_OK);
        assert_int_equal(d.P, cases[i][3]);
        assert_int_equal(d.replica, cases[i][0] / cases[i][3] - 1);
        assert_int_equal(d.position, cases[i][3] - 1);
        swt_dist_fini(&d);
    }
    swt_dist d;
    assert_int_equal(swt_dist_init(&d, 6, 0, 16, 4), SWT_USAGE);
    assert_non_null(strstr(swt_last_error()->message, "1, 2, 3, 6"));
    assert_int_equal(swt_dist_init(&d, 4, 0, 2, 4), SWT_USAGE);
    assert_non_null(strstr(swt_last_error()->message, "1, 2"));
}

/* Every micro-batch runs on exactly one rank in exactly one turn. */
static void micro_batches_are_dealt_once(void **state) {
    (void)state;
    for (int size = 1; size <= 7; size++)
        for (int64_t M = 1; M <= 9; M++) {
            swt_dist d;
            int seen[9] = {0};
            assert_int_equal(swt_dist_init(&d, size, 0, 1, 0), SWT_OK);
            for (int64_t turn = 0; turn < swt_dist_turns(&d, M); turn++)
                for (int rank = 0; rank < size; rank++) {
                    const int64_t m = swt_dist_micro_batch(&d, M, turn, rank);
                    if (m >= 0)
                        seen[m]++;
                }
            for (int64_t m = 0; m < M; m++)
                assert_int_equal(seen[m], 1);
            swt_dist_fini(&d);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(capacity_is_labmls),
        cmocka_unit_test(capacity_rounds_and_clamps),
        cmocka_unit_test(message_slots_cover_training_and_evaluation),
        cmocka_unit_test(sparse_layers_are_the_last_of_each_period),
        cmocka_unit_test(experts_are_split_evenly),
        cmocka_unit_test(groups_divide_the_ranks),
        cmocka_unit_test(micro_batches_are_dealt_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
