/* The communicator of one rank, and the checks that all communicators share. */
#include "comm/swt_comm.h"
#include "support/test.h"

#include <stdlib.h>
#include <string.h>

static int open_self(void **state) {
    static swt_comm comm;
    swt_comm_open_self(&comm);
    *state = &comm;
    return 0;
}

static int close_self(void **state) {
    swt_comm_close(*state);
    return 0;
}

static void exchange_is_a_copy(void **state) {
    swt_comm *comm = *state;
    const int64_t first[2] = {0, 3};
    const swt_split split = {first};
    const int32_t there[6] = {1, 2, 3, 4, 5, 6};
    int32_t owned[6] = {0}, back[6] = {0};
    assert_int_equal(swt_comm_all_to_all(comm, SWT_TO_OWNERS, owned, there, &split, 8, NULL),
                     SWT_OK);
    assert_memory_equal(owned, there, sizeof there);
    assert_int_equal(swt_comm_all_to_all(comm, SWT_TO_SOURCES, back, owned, &split, 8, NULL),
                     SWT_OK);
    assert_memory_equal(back, there, sizeof there);
    /* No bytes: the buffers may be missing. */
    assert_int_equal(swt_comm_all_to_all(comm, SWT_TO_OWNERS, NULL, NULL, &split, 0, NULL), SWT_OK);
    assert_int_equal(comm->sent_bytes, 0); /* nobody to send to */
}

static void sums_and_gathers_keep_the_data(void **state) {
    swt_comm *comm = *state;
    int64_t i[2] = {INT64_MIN, INT64_MAX}, gathered[2] = {0}, most = 0;
    assert_int_equal(swt_comm_all_reduce_i64(comm, i, 2, NULL), SWT_OK);
    assert_true(i[0] == INT64_MIN && i[1] == INT64_MAX);
    assert_int_equal(swt_comm_all_gather(comm, gathered, i, sizeof i, NULL), SWT_OK);
    assert_memory_equal(gathered, i, sizeof i);
    assert_int_equal(swt_comm_broadcast(comm, i, sizeof i, 0, NULL), SWT_OK);
    assert_memory_equal(gathered, i, sizeof i);
    assert_int_equal(swt_comm_max(comm, -7, &most), SWT_OK);
    assert_true(most == -7);
}

static void groups_and_node_have_one_rank(void **state) {
    swt_comm *comm = *state;
    swt_comm part;
    int local_rank = -1, local_size = -1;
    assert_int_equal(swt_comm_split(comm, 3, 1, &part), SWT_OK);
    assert_int_equal(part.size, 1);
    assert_int_equal(part.rank, 0);
    swt_comm_close(&part);
    assert_int_equal(swt_comm_node(comm, &local_rank, &local_size), SWT_OK);
    assert_int_equal(local_rank, 0);
    assert_int_equal(local_size, 1);
    swt_comm_abort(comm, 3); /* of one rank: returns */
}

static void agreement_with_oneself(void **state) {
    swt_comm *comm = *state;
    assert_int_equal(swt_comm_agree(comm, SWT_OK), SWT_OK);
    const swt_status mine = SWT_FAIL(FILE, "a.txt: is empty; text is needed");
    assert_int_equal(swt_comm_agree(comm, mine), SWT_FILE);
    assert_string_equal(swt_last_error()->message, "a.txt: is empty; text is needed");
    assert_true(swt_last_error()->agreed);
    assert_false(swt_last_error()->silent);
    /* Agreeing on what was agreed changes nothing. */
    assert_int_equal(swt_comm_agree(comm, SWT_FILE), SWT_FILE);
    assert_string_equal(swt_last_error()->message, "a.txt: is empty; text is needed");
    assert_false(swt_last_error()->silent);
}

/* The call fails with SHAPE, and its message names the call and this text. */
static void expect_shape(swt_status status, const char *call, const char *text) {
    assert_int_equal(status, SWT_SHAPE);
    const char *message = swt_last_error()->message;
    if (strstr(message, call) != message || !strstr(message, text))
        fail_msg("'%s' does not name %s or lacks '%s'", message, call, text);
}

static void impossible_exchanges(void **state) {
    swt_comm *comm = *state;
    const char *call = "swt_comm_all_to_all";
    int64_t first[2] = {0, 2};
    const swt_split split = {first}, none = {NULL};
    char a[64] = {0}, b[64] = {0};
    expect_shape(swt_comm_all_to_all(comm, SWT_TO_OWNERS, a, b, NULL, 8, NULL), call, "first[0]");
    expect_shape(swt_comm_all_to_all(comm, SWT_TO_OWNERS, a, b, &none, 8, NULL), call, "first[0]");
    expect_shape(swt_comm_all_to_all(comm, (swt_direction)2, a, b, &split, 8, NULL), call,
                 "direction");
    expect_shape(swt_comm_all_to_all(comm, SWT_TO_OWNERS, NULL, b, &split, 8, NULL), call, "NULL");
    expect_shape(swt_comm_all_to_all(comm, SWT_TO_OWNERS, a, NULL, &split, 8, NULL), call, "NULL");
    expect_shape(swt_comm_all_to_all(comm, SWT_TO_SOURCES, a + 15, a, &split, 8, NULL), call,
                 "overlap");
    expect_shape(swt_comm_all_to_all(comm, SWT_TO_SOURCES, a, a + 15, &split, 8, NULL), call,
                 "overlap");
    expect_shape(swt_comm_all_to_all(comm, SWT_TO_OWNERS, a, b, &split, SIZE_MAX, NULL), call,
                 "too many");
    expect_shape(swt_comm_all_to_all(comm, SWT_TO_OWNERS, a, b, &split, INT64_MAX, NULL), call,
                 "too many");
    first[1] = -1;
    expect_shape(swt_comm_all_to_all(comm, SWT_TO_OWNERS, a, b, &split, 8, NULL), call, "fall");
    first[0] = 1, first[1] = 2;
    expect_shape(swt_comm_all_to_all(comm, SWT_TO_OWNERS, a, b, &split, 8, NULL), call, "first[0]");
    /* Neighbours do not overlap. */
    first[0] = 0;
    assert_int_equal(swt_comm_all_to_all(comm, SWT_TO_OWNERS, a, a + 16, &split, 8, NULL), SWT_OK);
}

static void impossible_collectives(void **state) {
    swt_comm *comm = *state;
    swt_comm closed = {.table = NULL};
    int64_t i[2] = {0}, most = 0;
    int n = 0;
    expect_shape(swt_comm_all_reduce_i64(comm, NULL, 1, NULL), "swt_comm_all_reduce_i64", "NULL");
    expect_shape(swt_comm_all_reduce_i64(comm, i, -1, NULL), "swt_comm_all_reduce_i64", "-1");
    expect_shape(swt_comm_all_reduce_i64(comm, i, INT64_MAX, NULL), "swt_comm_all_reduce_i64",
                 "too many");
    expect_shape(swt_comm_all_gather(comm, i, i, 8, NULL), "swt_comm_all_gather", "overlap");
    expect_shape(swt_comm_all_gather(comm, NULL, i, 8, NULL), "swt_comm_all_gather", "NULL");
    expect_shape(swt_comm_broadcast(comm, i, 8, 1, NULL), "swt_comm_broadcast", "root");
    expect_shape(swt_comm_broadcast(comm, i, 8, -1, NULL), "swt_comm_broadcast", "root");
    expect_shape(swt_comm_broadcast(comm, NULL, 8, 0, NULL), "swt_comm_broadcast", "NULL");
    expect_shape(swt_comm_split(comm, -1, 0, &closed), "swt_comm_split", "color");
    expect_shape(swt_comm_split(comm, 0, 0, NULL), "swt_comm_split", "communicator");
    expect_shape(swt_comm_split(comm, 0, 0, comm), "swt_comm_split", "communicator");
    expect_shape(swt_comm_wait(NULL, NULL), "swt_comm_wait", "not open");
    expect_shape(swt_comm_agree(&closed, SWT_OK), "swt_comm_agree", "not open");
    expect_shape(swt_comm_max(&closed, 1, &most), "swt_comm_max", "not open");
    expect_shape(swt_comm_node(&closed, &n, &n), "swt_comm_node", "not open");
    swt_comm_close(&closed);
    swt_comm_close(NULL);
}

static void launcher_is_seen_in_the_environment(void **state) {
    (void)state;
    const char *names[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"};
    for (size_t i = 0; i < 4; i++)
        unsetenv(names[i]);
    setenv("SLURM_PROCID", "0", 1);
    assert_false(swt_comm_launched_by_mpi());
    for (size_t i = 0; i < 4; i++) {
        setenv(names[i], "1", 1);
        assert_true(swt_comm_launched_by_mpi());
        unsetenv(names[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(exchange_is_a_copy, open_self, close_self),
        cmocka_unit_test_setup_teardown(sums_and_gathers_keep_the_data, open_self, close_self),
        cmocka_unit_test_setup_teardown(groups_and_node_have_one_rank, open_self, close_self),
        cmocka_unit_test_setup_teardown(agreement_with_oneself, open_self, close_self),
        cmocka_unit_test_setup_teardown(impossible_exchanges, open_self, close_self),
        cmocka_unit_test_setup_teardown(impossible_collectives, open_self, close_self),
        cmocka_unit_test(launcher_is_seen_in_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
