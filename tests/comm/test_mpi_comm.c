/* The communicator over MPI, on any number of ranks: integers in, exact integers out.
 *
 * A rank that finds a mistake ends all ranks at once (check), because the others wait for it in the
 * next collective call.                                                                         */
#include "base/utf8.h"
#include "support/test.h"
#include "support/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t *numbers(int64_t count) {
    int64_t *data = malloc((size_t)(count + 1) * sizeof *data); /* + 1: never NULL */
    assert_non_null(data);
    for (int64_t i = 0; i < count; i++)
        data[i] = -1;
    return data;
}

/* The number i of the block that goes from source `rank` to expert e, different for each. */
static int64_t number(int64_t rank, int64_t e, int64_t i) {
    return (rank * 1000 + e) * 1000000 + i;
}

/* E experts as evenly as possible, lower ranks first. */
static void split_evenly(int64_t *first, int size, int64_t E) {
    first[0] = 0;
    for (int p = 0; p < size; p++)
        first[p + 1] = first[p] + E / size + (p < E % size);
}

/* One exchange there and back with blocks of n numbers, compared number by number. */
static void exchange(swt_comm *comm, const int64_t *first, int64_t n) {
    const int64_t E = first[comm->size], from = first[comm->rank];
    const int64_t own = first[comm->rank + 1] - from;
    const size_t block_bytes = (size_t)n * sizeof(int64_t);
    const swt_split split = {first};
    int64_t *there = numbers(E * n), *owned = numbers(own * comm->size * n), *back = numbers(E * n);
    for (int64_t e = 0; e < E; e++)
        for (int64_t i = 0; i < n; i++)
            there[e * n + i] = number(comm->rank, e, i);

    succeeds(comm,
             swt_comm_all_to_all(comm, SWT_TO_OWNERS, owned, there, &split, block_bytes, NULL));
    for (int64_t j = 0; j < own; j++)
        for (int p = 0; p < comm->size; p++)
            for (int64_t i = 0; i < n; i++) {
                check(comm, owned[(j * comm->size + p) * n + i] == number(p, from + j, i));
                owned[(j * comm->size + p) * n + i] += 500; /* so that the way back is seen */
            }
    succeeds(comm,
             swt_comm_all_to_all(comm, SWT_TO_SOURCES, back, owned, &split, block_bytes, NULL));
    for (int64_t e = 0; e < E; e++)
        for (int64_t i = 0; i < n; i++)
            check(comm, back[e * n + i] == number(comm->rank, e, i) + 500);
    free(there);
    free(owned);
    free(back);
}

/* Every block of every expert at its place at the owner, (El, P), and at home again: a permuted
 * layout (sources before experts, say) fails for more than one expert on a rank. E below, at and
 * above the number of ranks; no block, one number, blocks that MPI sends at once,
 * and blocks beyond its eager limit (4 KiB in shared memory). */
static void exchange_on_uneven_splits(void **state) {
    swt_comm *comm = *state;
    const int64_t experts[] = {0, 1, 3, 5, 16}, lengths[] = {0, 1, 13, 4000};
    int64_t *first = numbers(comm->size + 1);
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 4; k++) {
            split_evenly(first, comm->size, experts[i]);
            exchange(comm, first, lengths[k]);
        }
    /* All experts on one rank, each in turn. */
    for (int owner = 0; owner < comm->size; owner++) {
        for (int p = 0; p <= comm->size; p++)
            first[p] = p > owner ? 5 : 0;
        exchange(comm, first, 13);
    }
    free(first);
}

static void sums_are_exact(void **state) {
    swt_comm *comm = *state;
    const int64_t size = comm->size;
    int64_t big[3] = {0, 0, 0};
    big[0] = comm->rank == size - 1 ? INT64_MAX : 0;
    big[1] = comm->rank == 0 ? INT64_MIN : 0;
    big[2] = comm->rank == 0 ? INT64_MIN + size : -1; /* a double would round it away */
    succeeds(comm, swt_comm_all_reduce_i64(comm, big, 3, NULL));
    check(comm, big[0] == INT64_MAX && big[1] == INT64_MIN && big[2] == INT64_MIN + 1);

    enum { N = 30011 };
    int64_t *sum = numbers(N);
    for (int64_t i = 0; i < N; i++)
        sum[i] = (comm->rank + 1) * i * (INT64_C(1) << 40);
    succeeds(comm, swt_comm_all_reduce_i64(comm, sum, N, NULL));
    for (int64_t i = 0; i < N; i++)
        check(comm, sum[i] == size * (size + 1) / 2 * i * (INT64_C(1) << 40));
    succeeds(comm, swt_comm_all_reduce_i64(comm, NULL, 0, NULL));
    free(sum);
}

static void largest_value(void **state) {
    swt_comm *comm = *state;
    int64_t most = 0;
    succeeds(comm, swt_comm_max(comm, -5 - comm->rank, &most)); /* below the 0 of no rank */
    check(comm, most == -5);
    succeeds(comm, swt_comm_max(comm, INT64_MIN + comm->rank, &most));
    check(comm, most == INT64_MIN + comm->size - 1);
}

/* Every place and rank in turn has another number than rank 0. */
static void first_difference(void **state) {
    swt_comm *comm = *state;
    enum { COUNT = 130 }; /* more than travel at once */
    for (int rank = 0; rank < comm->size; rank++)
        for (int place = 0; place < COUNT; place += 43) {
            uint64_t own[COUNT] = {0};
            int first = 0;
            own[COUNT - 1] = own[place] = comm->rank == rank ? UINT64_MAX - 1 : 1;
            succeeds(comm, swt_comm_differ(comm, own, COUNT, &first));
            const bool differs =
                comm->size > 1 && comm->rank != 0 && (rank == 0 || rank == comm->rank);
            check(comm, first == (differs ? place : -1));
            check(comm, own[place] == (comm->rank == rank ? UINT64_MAX - 1 : 1));
        }
}

static void gather_and_broadcast(void **state) {
    swt_comm *comm = *state;
    const int64_t lengths[] = {0, 1, 13, 20000};
    for (int k = 0; k < 4; k++) {
        const int64_t n = lengths[k];
        const size_t bytes = (size_t)n * sizeof(int64_t);
        int64_t *mine = numbers(n), *all = numbers(n * comm->size);
        for (int64_t i = 0; i < n; i++)
            mine[i] = number(comm->rank, 7, i);
        succeeds(comm, swt_comm_all_gather(comm, all, mine, bytes, NULL));
        for (int64_t i = 0; i < n * comm->size; i++)
            check(comm, all[i] == number(i / n, 7, i % n));
        for (int root = 0; root < comm->size; root++) {
            for (int64_t i = 0; i < n; i++)
                mine[i] = comm->rank == root ? number(root, 8, i) : -1;
            succeeds(comm, swt_comm_broadcast(comm, mine, bytes, root, NULL));
            for (int64_t i = 0; i < n; i++)
                check(comm, mine[i] == number(root, 8, i));
        }
        free(mine);
        free(all);
    }
    char odd[3] = {(char)comm->rank, 1, 2}, odds[4 * 3] = {0};
    check(comm, comm->size <= 4);
    succeeds(comm, swt_comm_all_gather(comm, odds, odd, sizeof odd, NULL));
    for (int p = 0; p < comm->size; p++)
        check(comm, odds[3 * p] == p && odds[3 * p + 2] == 2);
}

/* Even and odd ranks apart, in reverse order; a group of a group; groups of one. */
static void groups(void **state) {
    swt_comm *comm = *state;
    swt_comm half, one;
    const int color = comm->rank % 2;
    succeeds(comm, swt_comm_split(comm, color, -comm->rank, &half));
    check(comm, half.size == (comm->size + 1 - color) / 2);
    check(comm, half.rank == half.size - 1 - comm->rank / 2);

    int64_t rank = comm->rank, members[4] = {0};
    check(comm, half.size <= 4);
    succeeds(comm, swt_comm_all_gather(&half, members, &rank, sizeof rank, NULL));
    for (int p = 0; p < half.size; p++)
        check(comm, members[p] == 2 * (half.size - 1 - p) + color);
    int64_t first[5] = {0};
    split_evenly(first, half.size, 5);
    exchange(&half, first, 100);
    succeeds(comm, swt_comm_agree(comm, SWT_OK)); /* the parent works between the group's calls */
    exchange(&half, first, 101);

    succeeds(comm, swt_comm_split(&half, half.rank, 0, &one));
    check(comm, one.size == 1 && one.rank == 0);
    split_evenly(first, 1, 3);
    exchange(&one, first, 10);
    swt_comm_close(&one);
    check(comm, one.table == NULL);
    swt_comm_close(&half);
    succeeds(comm, swt_comm_agree(comm, SWT_OK));
}

/* Ranks whose bit is set in `failing` fail; who reports, and what do the others hear? */
static void agree_on(swt_comm *comm, unsigned failing) {
    int lowest = 0;
    while (failing && !(failing >> lowest & 1u))
        lowest++;
    /* Each rank fails in another way: the lowest one's status must win. */
    swt_status mine = SWT_OK;
    if (failing >> comm->rank & 1u)
        mine = comm->rank % 2 ? SWT_FAIL(FILE, "file of %d", comm->rank)
                              : SWT_FAIL(NUMBERS, "numbers of %d", comm->rank);
    const swt_status all = swt_comm_agree(comm, mine);
    if (!failing) {
        check(comm, all == SWT_OK);
        return;
    }
    check(comm, all == (lowest % 2 ? SWT_FILE : SWT_NUMBERS));
    const swt_error *error = swt_last_error();
    check(comm, error->status == all && error->agreed && error->silent == (comm->rank != lowest));
    char message[64];
    if (lowest == 0)
        snprintf(message, sizeof message, "numbers of 0");
    else
        snprintf(message, sizeof message, "rank %d: %s of %d", lowest,
                 lowest % 2 ? "file" : "numbers", lowest);
    check(comm, comm->rank != lowest || strcmp(error->message, message) == 0);
    /* A second agreement, further up, keeps the one message. */
    check(comm, swt_comm_agree(comm, all) == all);
    check(comm, error->silent == (comm->rank != lowest));
    check(comm, comm->rank != lowest || strcmp(error->message, message) == 0);
}

static void agreement_of_every_pattern(void **state) {
    swt_comm *comm = *state;
    for (unsigned failing = 0; failing < 1u << comm->size; failing++)
        agree_on(comm, failing);
}

/* The longest message loses its end to the prefix, not its terminator. */
static void agreement_with_a_long_message(void **state) {
    swt_comm *comm = *state;
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    const int last = comm->size - 1;
    const swt_status mine = comm->rank == last ? SWT_FAIL(FILE, "%s", text) : SWT_OK;
    check(comm, swt_comm_agree(comm, mine) == SWT_FILE);
    const char *message = swt_last_error()->message;
    if (comm->rank == last)
        check(comm, strlen(message) == sizeof swt_last_error()->message - 1);
    if (comm->rank == last && last > 0)
        check(comm, message[0] == 'r' && strstr(message, ": xxx"));
    /* Two ends, of which the prefix cuts one in the middle of a character of two bytes. */
    for (size_t i = 0; i + 1 < sizeof text; i++)
        text[i] = i % 2 == 0 ? '\xC3' : '\xA9';
    for (int shift = 0; shift < 2; shift++) {
        const swt_status other =
            comm->rank == last ? SWT_FAIL(FILE, "%s%s", shift > 0 ? "x" : "", text) : SWT_OK;
        check(comm, swt_comm_agree(comm, other) == SWT_FILE);
        check(comm, swt_utf8_printable(swt_last_error()->message));
    }
}

/* The group of the odd ranks agrees first, then all do: the message found first is the one heard.
 */
static void agreement_of_a_group_then_of_all(void **state) {
    swt_comm *comm = *state;
    swt_comm half;
    succeeds(comm, swt_comm_split(comm, comm->rank % 2, comm->rank, &half));
    const int failing = comm->size > 3 ? 3 : comm->size - 1;
    swt_status status = comm->rank == failing ? SWT_FAIL(FILE, "the file") : SWT_OK;
    status = swt_comm_agree(&half, status);
    check(comm, (status != SWT_OK) == (comm->rank % 2 == failing % 2));
    check(comm, swt_comm_agree(comm, status) == SWT_FILE);
    check(comm, swt_last_error()->silent == (comm->rank != failing));
    check(comm, comm->rank != failing || strstr(swt_last_error()->message, "the file"));
    swt_comm_close(&half);
}

/* One rank gives impossible arguments. It must not hang: nobody has communicated, and after the
 * agreement all stop with that rank's message; the communicator still works. */
static void a_wrong_argument_on_one_rank(void **state) {
    swt_comm *comm = *state;
    for (int wrong = 0; wrong < comm->size; wrong++) {
        swt_status mine = SWT_OK;
        if (comm->rank == wrong)
            mine = swt_comm_broadcast(comm, NULL, 8, 0, NULL);
        check(comm, mine == (comm->rank == wrong ? SWT_SHAPE : SWT_OK));
        check(comm, swt_comm_agree(comm, mine) == SWT_SHAPE);
        check(comm, comm->rank != wrong || strstr(swt_last_error()->message, "broadcast"));
        succeeds(comm, swt_comm_agree(comm, SWT_OK));
    }
    int64_t first[5] = {0}, data[2] = {0};
    for (int p = 0; p <= comm->size; p++)
        first[p] = -p; /* beyond what one rank can get wrong */
    const swt_split falling = {first};
    check(comm,
          swt_comm_all_to_all(comm, SWT_TO_OWNERS, data, data + 1, &falling, 8, NULL) == SWT_SHAPE);
    check(comm, swt_comm_broadcast(comm, data, 8, comm->size, NULL) == SWT_SHAPE);
}

static double clock_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void traffic_is_counted(void **state) {
    swt_comm *comm = *state;
    const int64_t others = comm->size - 1;
    int64_t first[5] = {0}, data[5 * 3], all[4 * 3], owned[5 * 4 * 3];
    memset(data, 0, sizeof data);
    split_evenly(first, comm->size, 5);
    const swt_split split = {first};
    const int64_t own = first[comm->rank + 1] - first[comm->rank];
    comm->sent_bytes = 0;
    succeeds(comm, swt_comm_all_to_all(comm, SWT_TO_OWNERS, owned, data, &split, 24, NULL));
    check(comm, comm->sent_bytes == (5 - own) * 24);
    comm->sent_bytes = 0;
    succeeds(comm, swt_comm_all_to_all(comm, SWT_TO_SOURCES, data, owned, &split, 24, NULL));
    check(comm, comm->sent_bytes == own * others * 24);
    comm->sent_bytes = 0;
    succeeds(comm, swt_comm_all_gather(comm, all, data, 24, NULL));
    check(comm, comm->sent_bytes == others * 24);
    comm->sent_bytes = 0;
    succeeds(comm, swt_comm_broadcast(comm, data, 24, 0, NULL));
    check(comm, comm->sent_bytes == (comm->rank == 0 ? others * 24 : 0));
    comm->sent_bytes = 0;
    succeeds(comm, swt_comm_all_reduce_i64(comm, data, 3, NULL));
    check(comm, comm->sent_bytes == (others > 0 ? 24 : 0));
}

/* Rank 0 is late; the others' waiting counts, once, also inside swt_comm_agree. */
static void waiting_is_counted_once(void **state) {
    swt_comm *comm = *state;
    const double late_ms = 60;
    int64_t most = 0;
    for (int agree = 0; agree < 2; agree++) {
        succeeds(comm, swt_comm_agree(comm, SWT_OK));
        comm->busy_ms = 0;
        const double start_ms = clock_ms();
        if (comm->rank == 0)
            nanosleep(&(struct timespec){.tv_nsec = (long)late_ms * 1000000}, NULL);
        succeeds(comm, agree ? swt_comm_agree(comm, SWT_OK) : swt_comm_max(comm, 0, &most));
        check(comm, comm->busy_ms > 0 && comm->busy_ms <= clock_ms() - start_ms);
        /* Half, because the others can leave the first call later than rank 0. */
        check(comm, comm->rank == 0 || comm->busy_ms > late_ms / 2);
    }
}

static void ranks_of_this_node(void **state) {
    swt_comm *comm = *state;
    int local_rank = -1, local_size = -1;
    succeeds(comm, swt_comm_node(comm, &local_rank, &local_size));
    check(comm, local_size == comm->size && local_rank == comm->rank); /* the test is one node's */
    check(comm, swt_comm_launched_by_mpi());
}

static void only_one_world(void **state) {
    swt_comm *comm = *state, second;
    check(comm, swt_comm_open_mpi(&second) == SWT_INTERNAL);
}

/* Where calls are compared, ranks that make different ones, or with other counts, hear of both;
 * nothing has moved, so the next call is made as if nothing had been. */
static void other_calls_are_named(void **state) {
    swt_comm *comm = *state;
    const bool before = comm->compares, odd = comm->rank == comm->size - 1;
    int64_t ours[8] = {1, 2, 3, 4, 5, 6, 7, 8}, all[8 * 4] = {0};
    comm->compares = true;
    for (int i = 0; i < 3; i++) {
        const char *what = NULL;
        swt_status status = SWT_OK;
        if (comm->size == 1)
            break;
        if (i == 0) {
            what = "swt_comm_all_gather of 1 x 8 bytes while rank 0 calls swt_comm_all_reduce_i64 "
                   "of 4 x 8 bytes";
            status = odd ? swt_comm_all_gather(comm, all, ours, 8, NULL)
                         : swt_comm_all_reduce_i64(comm, ours, 4, NULL);
        } else if (i == 1) {
            what = "swt_comm_all_reduce_i64 of 5 x 8 bytes while rank 0 calls "
                   "swt_comm_all_reduce_i64 of 4 x 8 bytes";
            status = swt_comm_all_reduce_i64(comm, ours, odd ? 5 : 4, NULL);
        } else {
            what = "swt_comm_broadcast of 1 x 8 bytes from rank 1 while rank 0 calls "
                   "swt_comm_broadcast of 1 x 8 bytes from rank 0";
            status = swt_comm_broadcast(comm, ours, 8, odd ? 1 : 0, NULL);
        }
        check(comm, status == SWT_INTERNAL && swt_last_error()->agreed);
        check(comm, swt_last_error()->silent == !odd);
        check(comm, strstr(swt_last_error()->message, what) != NULL);
        check(comm, ours[0] == 1 && ours[4] == 5 && all[0] == 0);
    }
    succeeds(comm, swt_comm_all_reduce_i64(comm, ours, 8, NULL));
    check(comm, ours[7] == 8 * comm->size);
    comm->compares = before;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_exact),
        cmocka_unit_test(largest_value),
        cmocka_unit_test(exchange_on_uneven_splits),
        cmocka_unit_test(first_difference),
        cmocka_unit_test(gather_and_broadcast),
        cmocka_unit_test(groups),
        cmocka_unit_test(agreement_of_every_pattern),
        cmocka_unit_test(agreement_with_a_long_message),
        cmocka_unit_test(agreement_of_a_group_then_of_all),
        cmocka_unit_test(a_wrong_argument_on_one_rank),
        cmocka_unit_test(traffic_is_counted),
        cmocka_unit_test(waiting_is_counted_once),
        cmocka_unit_test(ranks_of_this_node),
        cmocka_unit_test(only_one_world),
        cmocka_unit_test(other_calls_are_named),
    };
    return cmocka_run_group_tests(tests, swt_world_open, swt_world_close);
}
