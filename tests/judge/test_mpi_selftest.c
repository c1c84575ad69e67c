/* The self-test on several ranks: what only one rank computes wrongly, and a communicator that
 * garbles messages, ends all ranks with the same status and one message. */
#include "support/test.h"
#include "judge/broken.h"
#include "judge/selftest.h"
#include "support/world.h"

#include <stdio.h>
#include <string.h>

/* ---- communicators with a fault on their last rank, or on all ranks */

typedef enum fault { NONE, SWAPPED_BLOCKS, ONE_MORE, STALE_ROOT, LOST_GATHER } fault;

static fault planted;
static const swt_comm_table *real;
static swt_comm_table faulty;

/* Two bytes of what arrives change places. */
static void swap(unsigned char *arrived, size_t bytes) {
    for (size_t i = 0; i + 1 < bytes; i++)
        if (arrived[i] != arrived[i + 1]) {
            const unsigned char kept = arrived[i];
            arrived[i] = arrived[i + 1];
            arrived[i + 1] = kept;
            return;
        }
}

static swt_status bad_all_to_all(swt_comm *comm, swt_direction direction, void *receive,
                                 const void *send, const swt_split *split, size_t block_bytes,
                                 swt_stream *stream) {
    SWT_TRY(real->all_to_all(comm, direction, receive, send, split, block_bytes, stream));
    const int64_t own = split->first[comm->rank + 1] - split->first[comm->rank];
    const int64_t blocks = direction == SWT_TO_OWNERS ? own * comm->size : split->first[comm->size];
    if (planted == SWAPPED_BLOCKS && block_bytes > sizeof(int32_t)) /* not a step's slot counts */
        swap(receive, (size_t)blocks * block_bytes);
    return SWT_OK;
}

static swt_status bad_all_reduce_i64(swt_comm *comm, int64_t *data, int64_t count,
                                     swt_stream *stream) {
    SWT_TRY(real->all_reduce_i64(comm, data, count, stream));
    if (planted == ONE_MORE && count > 1)
        data[1] += INT64_C(1) << 30;
    return SWT_OK;
}

static swt_status bad_broadcast(swt_comm *comm, void *data, size_t bytes, int root,
                                swt_stream *stream) {
    SWT_TRY(real->broadcast(comm, data, bytes, root, stream));
    if (planted == STALE_ROOT)
        swap(data, bytes);
    return SWT_OK;
}

static swt_status bad_all_gather(swt_comm *comm, void *receive, const void *send, size_t bytes,
                                 swt_stream *stream) {
    SWT_TRY(real->all_gather(comm, receive, send, bytes, stream));
    if (planted == LOST_GATHER)
        swap(receive, bytes);
    return SWT_OK;
}

static swt_status bad_split(swt_comm *comm, int color, int key, swt_comm *out) {
    SWT_TRY(real->split(comm, color, key, out));
    out->table = &faulty;
    return SWT_OK;
}

/* The same ranks through the faulty table. */
static swt_comm garbling(const swt_comm *world) {
    swt_comm out = *world;
    real = world->table;
    faulty = *real;
    faulty.all_to_all = bad_all_to_all;
    faulty.all_reduce_i64 = bad_all_reduce_i64;
    faulty.broadcast = bad_broadcast;
    faulty.all_gather = bad_all_gather;
    faulty.split = bad_split;
    out.table = &faulty;
    return out;
}

/* ---- a whole self-test */

/* Its status is the same on all ranks; the message is rank 0's, and the table in `text`. */
static swt_status whole(swt_comm *host, swt_comm *world, const swt_ops *ops, char *text,
                        size_t text_bytes) {
    swt_device device;
    FILE *out = tmpfile();
    check(host, out != NULL);
    succeeds(host, swt_cpu_backend.open(&device, 0, 1));
    const swt_trial_setup setup = {
        .ops = ops, .device = &device, .host = host, .world = world, .seed = 3};
    const swt_status status = swt_selftest_all(&setup, out);
    rewind(out);
    text[fread(text, 1, text_bytes - 1, out)] = '\0';
    fclose(out);
    swt_device_close(&device);
    int64_t most = 0;
    succeeds(host, swt_comm_max(host, (int64_t)status, &most));
    check(host, most == (int64_t)status);
    check(host, status == SWT_OK || swt_last_error()->agreed);
    check(host, status == SWT_OK || swt_last_error()->silent == (host->rank != 0));
    check(host, (host->rank == 0) == (text[0] != '\0'));
    return status;
}

static char text[32768];

static void all_is_well(void **state) {
    swt_comm *world = *state;
    check(world, whole(world, world, swt_cpu_backend.ops, text, sizeof text) == SWT_OK);
    check(world, world->rank != 0 || strstr(text, " 0 failed; ") != NULL);
}

/* The last rank alone computes wrongly. */
static void one_broken_rank_is_named(void **state) {
    swt_comm *world = *state;
    const int last = world->size - 1;
    char named[64];
    swt_fault broken = {.op = SWT_OP_embedding_forward, .by = 1e-6F};
    const swt_ops *ops = world->rank == last ? swt_plant(&broken) : swt_cpu_backend.ops;
    check(world, whole(world, world, ops, text, sizeof text) == SWT_NUMBERS);
    snprintf(named, sizeof named, "selftest: %s failed on rank %d: ", swt_op_table[broken.op].name,
             last);
    check(world, world->rank != 0 || strncmp(swt_last_error()->message, named, strlen(named)) == 0);
}

/* What has only one rank has no messages to garble but those to itself, of which there are none in
 * a step. */
static void garbled_messages_are_found(void **state) {
    swt_comm *world = *state;
    static const struct {
        fault planted;
        const char *checks[3];
    } cases[] = {{SWAPPED_BLOCKS, {"comm_all_to_all", "ranks_against_one", "ranks_uneven"}},
                 {ONE_MORE, {"comm_all_reduce", "ranks_against_one", "ranks_uneven"}},
                 {STALE_ROOT, {"comm_broadcast"}},
                 {LOST_GATHER, {"comm_all_gather"}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        swt_comm bad = garbling(world);
        planted = cases[i].planted;
        check(world, whole(world, &bad, swt_cpu_backend.ops, text, sizeof text) == SWT_NUMBERS);
        planted = NONE;
        for (int k = 0; k < (world->size > 1 ? 3 : 1) && cases[i].checks[k] != NULL; k++) {
            const char *row = strstr(text, cases[i].checks[k]);
            const char *failed = row != NULL ? strstr(row, "FAILED") : NULL;
            check(world, world->rank != 0 || (failed != NULL && failed < strchr(row, '\n')));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_is_well),
                                       cmocka_unit_test(one_broken_rank_is_named),
                                       cmocka_unit_test(garbled_messages_are_found)};
    return cmocka_run_group_tests(tests, swt_world_open, swt_world_close);
}
