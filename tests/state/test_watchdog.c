/* Three watchdogs in one process, each with a thread for its main thread: they find each other,
 * whoever else comes to their port, and part in order. A loss ends the process: test_lost.py. */
#include "state/watchdog.h"
#include "state/wire.h"
#include "support/test.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RANKS = 3, SHARED_BYTES = 8192, STRANGERS = 40 };

/* ---- a communicator of threads: all meet before and after each call */

typedef struct meeting {
    pthread_barrier_t barrier;
    unsigned char shared[SHARED_BYTES];
    int64_t sum[64];
    void (*on_doors)(const unsigned char *doors); /* rank 0 has heard of all ports */
} meeting;

static meeting meet;

static void together(void) {
    pthread_barrier_wait(&meet.barrier);
}

static swt_status thread_reduce(swt_comm *comm, int64_t *data, int64_t count, swt_stream *stream) {
    (void)stream;
    assert_true(count <= 64);
    if (comm->rank == 0)
        memset(meet.sum, 0, sizeof meet.sum);
    for (int r = 0; r < RANKS; r++) {
        together();
        for (int64_t i = 0; i < count && r == comm->rank; i++)
            meet.sum[i] += data[i];
    }
    together();
    memcpy(data, meet.sum, (size_t)count * sizeof *data);
    together();
    return SWT_OK;
}

static swt_status thread_gather(swt_comm *comm, void *receive, const void *send, size_t bytes,
                                swt_stream *stream) {
    (void)stream;
    assert_true(bytes * RANKS <= SHARED_BYTES);
    memcpy(meet.shared + (size_t)comm->rank * bytes, send, bytes);
    together();
    memcpy(receive, meet.shared, bytes * RANKS);
    if (comm->rank == 0 && meet.on_doors != NULL)
        meet.on_doors(meet.shared);
    together();
    return SWT_OK;
}

static swt_status thread_broadcast(swt_comm *comm, void *data, size_t bytes, int root,
                                   swt_stream *stream) {
    (void)stream;
    assert_true(bytes <= SHARED_BYTES);
    if (comm->rank == root)
        memcpy(meet.shared, data, bytes);
    together();
    memcpy(data, meet.shared, bytes);
    together();
    return SWT_OK;
}

static swt_status thread_node(swt_comm *comm, int *local_rank, int *local_size) {
    *local_rank = comm->rank;
    *local_size = comm->size;
    return SWT_OK;
}

static const swt_comm_table thread_table = {.name = "threads",
                                            .all_reduce_i64 = thread_reduce,
                                            .all_gather = thread_gather,
                                            .broadcast = thread_broadcast,
                                            .node = thread_node};

/* ---- ranks */

typedef struct rank {
    pthread_t thread;
    int number;
    int64_t hang_seconds;
    bool opened;
    swt_warnings warnings;
} rank;

static void *live(void *argument) {
    rank *r = argument;
    swt_comm world = {.table = &thread_table, .rank = r->number, .size = RANKS, .world_stride = 1};
    swt_watchdog *w = NULL;
    if (swt_watchdog_open(&w, &world, r->hang_seconds, 300, &r->warnings) != SWT_OK)
        abort();
    r->opened = w != NULL;
    for (int step = 1; step <= 20; step++) { /* positions are written while the thread reads */
        swt_progress_step(world.progress, step);
        swt_progress_phase(world.progress, SWT_PHASE_FORWARD);
        swt_progress_layer(world.progress, step % 4, 1);
        int64_t one = 1;
        if (swt_comm_all_reduce_i64(&world, &one, 1, NULL) != SWT_OK || one != RANKS)
            abort();
        poll(NULL, 0, 10);
    }
    /* In order, but not at once: nobody is missed. */
    poll(NULL, 0, 400 * r->number);
    swt_watchdog_farewell(w, false);
    swt_watchdog_close(w);
    return NULL;
}

static void live_together(rank *ranks, int64_t hang_seconds) {
    assert_int_equal(pthread_barrier_init(&meet.barrier, NULL, RANKS), 0);
    for (int r = 0; r < RANKS; r++) {
        ranks[r] = (rank){.number = r, .hang_seconds = hang_seconds};
        assert_int_equal(pthread_create(&ranks[r].thread, NULL, live, &ranks[r]), 0);
    }
    for (int r = 0; r < RANKS; r++)
        pthread_join(ranks[r].thread, NULL);
    pthread_barrier_destroy(&meet.barrier);
}

static void they_meet_and_part(void **state) {
    (void)state;
    static rank ranks[RANKS];
    meet.on_doors = NULL;
    live_together(ranks, 1);
    for (int r = 0; r < RANKS; r++) {
        assert_true(ranks[r].opened);
        assert_int_equal(ranks[r].warnings.count, 0);
    }
}

static void nobody_watches_at_0(void **state) {
    (void)state;
    static rank ranks[RANKS];
    live_together(ranks, 0);
    assert_false(ranks[0].opened);
}

/* ---- strangers */

static int strangers[STRANGERS], n_strangers;
static uint16_t port_of_0;

/* Before any rank has connected: some say nothing, some say a part or wrong things, one has a wrong
 * token, one says more than anybody may. */
static void come_to_the_door(const unsigned char *doors) {
    uint32_t ip = 0, port = 0;
    memcpy(&ip, doors, sizeof ip);
    memcpy(&port, doors + sizeof ip, sizeof port);
    if (ip != SWT_LOOPBACK || n_strangers > 0) /* other things are gathered, too */
        return;
    port_of_0 = (uint16_t)port;
    for (int i = 0; i < STRANGERS; i++) {
        static const unsigned char wrong_token[SWT_TOKEN_BYTES] = {1};
        static unsigned char much[1 << 16];
        unsigned char message[SWT_BEAT_BYTES];
        const swt_beat hello = {.what = SWT_BEAT_HELLO, .rank = 1 + i % 2};
        assert_int_equal(swt_wire_connect(&strangers[i], ip, port_of_0, 1e3), SWT_OK);
        n_strangers++;
        swt_beat_write(message, &hello, wrong_token);
        if (i % 4 == 1)
            assert_true(send(strangers[i], message, sizeof message, MSG_NOSIGNAL) > 0);
        else if (i % 4 == 2)
            assert_true(send(strangers[i], message, 9, MSG_NOSIGNAL) > 0);
        else if (i % 4 == 3)
            (void)send(strangers[i], much, sizeof much, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

/* True once the other side has closed the connection. */
static bool is_closed(int fd) {
    char byte;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 5000) == 1 && recv(fd, &byte, 1, MSG_DONTWAIT) <= 0;
}

static void strangers_are_refused(void **state) {
    (void)state;
    static rank ranks[RANKS];
    int fd = -1;
    meet.on_doors = come_to_the_door;
    live_together(ranks, 1);
    meet.on_doors = NULL;
    assert_int_equal(n_strangers, STRANGERS);
    for (int r = 0; r < RANKS; r++)
        assert_true(ranks[r].opened);
    for (int i = 0; i < STRANGERS; i++) {
        assert_true(is_closed(strangers[i]));
        close(strangers[i]);
    }
    assert_int_equal(swt_wire_connect(&fd, SWT_LOOPBACK, port_of_0, 1e3), SWT_COMM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_meet_and_part),
        cmocka_unit_test(nobody_watches_at_0),
        cmocka_unit_test(strangers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
