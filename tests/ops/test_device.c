/* A processor's memory, copies, streams and events, and what opening it refuses. */
#include "support/trial.h"

#include <stdlib.h>
#include <string.h>

enum { BYTES = 5000 };

/* A device that is open, and two streams of it. */
typedef struct bed {
    swt_device device;
    swt_stream *stream, *second;
} bed;

static int set_up(void **state) {
    const swt_backend *backend = swt_test_backend();
    bed *p = calloc(1, sizeof *p);
    int count = 0;
    assert_non_null(p);
    swt_test_expect(backend->count(&count), "no usable GPU");
    swt_test_expect(backend->open(&p->device, 0, 2), "open");
    assert_int_equal(p->device.threads, 2);
    assert_int_equal(swt_stream_create(&p->device, &p->stream), SWT_OK);
    assert_int_equal(swt_stream_create(&p->device, &p->second), SWT_OK);
    *state = p;
    return 0;
}

static int tear_down(void **state) {
    bed *p = *state;
    swt_stream_destroy(&p->device, p->stream);
    swt_stream_destroy(&p->device, p->second);
    swt_device_close(&p->device);
    swt_device_close(&p->device); /* twice is once */
    free(p);
    return 0;
}

static void *allocated(swt_device *d, size_t bytes) {
    void *memory = NULL;
    assert_int_equal(swt_device_alloc(d, &memory, bytes), SWT_OK);
    assert_true(memory != NULL && (uintptr_t)memory % 64 == 0);
    return memory;
}

/* Host memory with numbers of its own. */
static unsigned char *host_bytes(swt_device *d, unsigned first) {
    void *memory = NULL;
    assert_int_equal(swt_device_host_alloc(d, &memory, BYTES), SWT_OK);
    assert_true(memory != NULL && (uintptr_t)memory % 64 == 0);
    unsigned char *bytes = memory;
    for (unsigned i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)(first + i * 7);
    return bytes;
}

static void expect_bytes(const unsigned char *bytes, int byte) {
    for (int i = 0; i < BYTES; i++)
        assert_int_equal(bytes[i], byte);
}

static void test_room(void **state) {
    enum { TAKEN = 8 << 20 };
    swt_device *d = &((bed *)*state)->device;
    size_t before = 0, after = 0, total = 0;
    assert_int_equal(swt_device_room(d, &before, &total), SWT_OK);
    assert_true(before > 0 && before <= total);
    void *memory = allocated(d, TAKEN);
    assert_int_equal(swt_device_room(d, &after, &total), SWT_OK);
    if (swt_test_on_gpu()) /* a CPU's memory is everybody's */
        assert_true(after + TAKEN <= before);
    swt_device_release(d, memory);
}

static void test_copies(void **state) {
    bed *p = *state;
    swt_device *d = &p->device;
    swt_stream *s = p->stream;
    unsigned char *from = host_bytes(d, 1), *to = host_bytes(d, 2);
    unsigned char *a = allocated(d, BYTES), *b = allocated(d, BYTES);
    assert_int_equal(swt_device_copy(d, s, SWT_TO_DEVICE, a, from, BYTES), SWT_OK);
    assert_int_equal(swt_device_copy(d, s, SWT_ON_DEVICE, b, a, BYTES), SWT_OK);
    assert_int_equal(swt_device_set(d, s, b + 100, 0x5A, 10), SWT_OK);
    assert_int_equal(swt_device_copy(d, s, SWT_TO_HOST, to, b, BYTES), SWT_OK);
    assert_int_equal(swt_stream_sync(d, s), SWT_OK);
    memset(from + 100, 0x5A, 10);
    assert_memory_equal(to, from, BYTES);
    /* Nothing to do is no mistake. */
    assert_int_equal(swt_device_copy(d, s, SWT_TO_HOST, NULL, NULL, 0), SWT_OK);
    assert_int_equal(swt_device_set(d, s, NULL, 0, 0), SWT_OK);
    swt_device_release(d, allocated(d, 0));
    swt_device_release(d, NULL);
    swt_device_host_release(d, NULL);
    swt_device_host_release(d, from);
    swt_device_host_release(d, to);
    swt_device_release(d, a);
    swt_device_release(d, b);
}

/* A call on NULL comes after what any stream has to do, and is done when it returns. */
static void test_null_stream(void **state) {
    bed *p = *state;
    swt_device *d = &p->device;
    swt_stream *s = p->stream;
    unsigned char *a = allocated(d, BYTES), *b = allocated(d, BYTES), *host = host_bytes(d, 1);
    for (int round = 0; round < 3; round++) {
        const int byte = 0x10 + round;
        assert_int_equal(swt_device_set(d, s, a, byte, BYTES), SWT_OK);
        assert_int_equal(swt_device_copy(d, NULL, SWT_ON_DEVICE, b, a, BYTES), SWT_OK);
        assert_int_equal(swt_device_set(d, s, a, byte + 1, BYTES), SWT_OK);
        assert_int_equal(swt_device_copy(d, s, SWT_ON_DEVICE, a, b, BYTES), SWT_OK);
        assert_int_equal(swt_device_copy(d, NULL, SWT_TO_HOST, host, a, BYTES), SWT_OK);
        assert_int_equal(swt_stream_sync(d, NULL), SWT_OK);
        expect_bytes(host, byte);
        assert_int_equal(swt_device_set(d, NULL, b, byte + 2, BYTES), SWT_OK);
        assert_int_equal(swt_device_copy(d, s, SWT_TO_HOST, host, b, BYTES), SWT_OK);
        assert_int_equal(swt_stream_sync(d, NULL), SWT_OK);
        expect_bytes(host, byte + 2);
    }
    swt_device_host_release(d, host);
    swt_device_release(d, a);
    swt_device_release(d, b);
}

/* An event hands memory from one stream to the other, and from a stream to the host. */
static void test_events(void **state) {
    enum { ROUNDS = 8 };
    bed *p = *state;
    swt_device *d = &p->device;
    swt_stream *first = p->stream, *second = p->second;
    swt_event *filled = NULL, *used = NULL;
    assert_int_equal(swt_event_create(d, &filled), SWT_OK);
    assert_int_equal(swt_event_create(d, &used), SWT_OK);
    unsigned char *a = allocated(d, BYTES), *hosts[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        hosts[i] = host_bytes(d, 0);
        assert_int_equal(swt_device_set(d, first, a, i, BYTES), SWT_OK);
        assert_int_equal(swt_event_record(d, filled, first), SWT_OK);
        assert_int_equal(swt_stream_wait(d, second, filled), SWT_OK);
        assert_int_equal(swt_device_copy(d, second, SWT_TO_HOST, hosts[i], a, BYTES), SWT_OK);
        assert_int_equal(swt_event_record(d, used, second), SWT_OK);
        assert_int_equal(swt_stream_wait(d, first, used), SWT_OK);
    }
    assert_int_equal(swt_stream_wait(d, NULL, used), SWT_OK);
    for (int i = 0; i < ROUNDS; i++) {
        expect_bytes(hosts[i], i);
        swt_device_host_release(d, hosts[i]);
    }
    assert_int_equal(swt_event_record(d, filled, NULL), SWT_OK);
    assert_int_equal(swt_stream_wait(d, first, filled), SWT_OK);
    assert_int_equal(swt_stream_sync(d, first), SWT_OK);
    swt_device_release(d, a);
    swt_event_destroy(d, filled);
    swt_event_destroy(d, used);
}

/* The time between two events: of work, and of nothing. */
static void test_time_between_events(void **state) {
    bed *p = *state;
    swt_device *d = &p->device;
    swt_stream *s = p->stream;
    swt_event *events[3] = {NULL};
    unsigned char *a = allocated(d, BYTES);
    for (int i = 0; i < 3; i++)
        assert_int_equal(swt_event_create(d, &events[i]), SWT_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(swt_event_record(d, events[i], s), SWT_OK);
        for (int k = 0; i == 0 && k < 100; k++)
            assert_int_equal(swt_device_set(d, s, a, k, BYTES), SWT_OK);
    }
    assert_int_equal(swt_stream_sync(d, s), SWT_OK);
    double work_ms = -1.0, nothing_ms = -1.0, all_ms = -1.0;
    assert_int_equal(swt_event_ms(d, events[0], events[1], &work_ms), SWT_OK);
    assert_int_equal(swt_event_ms(d, events[1], events[2], &nothing_ms), SWT_OK);
    assert_int_equal(swt_event_ms(d, events[0], events[2], &all_ms), SWT_OK);
    assert_true(work_ms > 0.0 && nothing_ms >= 0.0);
    assert_true(all_ms >= work_ms && all_ms - work_ms - nothing_ms < 1e-3 * all_ms + 1e-2);
    for (int i = 0; i < 3; i++)
        swt_event_destroy(d, events[i]);
    swt_device_release(d, a);
}

static void expect_error(swt_status status, swt_status expected, const char *part) {
    assert_int_equal(status, expected);
    if (strstr(swt_last_error()->message, part) == NULL)
        fail_msg("'%s' is not in: %s", part, swt_last_error()->message);
    assert_null(strchr(swt_last_error()->message, '\n'));
}

static void test_errors(void **state) {
    swt_device *d = &((bed *)*state)->device, closed = {0};
    void *memory = NULL;
    if (!swt_test_on_gpu()) /* a driver may call a size that no address could hold an invalid value
                             */
        expect_error(swt_device_alloc(d, &memory, SIZE_MAX), SWT_MEMORY, "cannot allocate");
    else {
        expect_error(swt_device_alloc(d, &memory, (size_t)1 << 60), SWT_MEMORY,
                     "1152921504606846976 bytes");
        expect_error(swt_device_alloc(d, &memory, (size_t)1 << 60), SWT_MEMORY, "GPU 0, which has");
        expect_error(swt_cuda_backend.open(&closed, -1, 1), SWT_USAGE, "no GPU -1");
        expect_error(swt_cuda_backend.open(&closed, 1000, 1), SWT_USAGE, "no GPU 1000");
        expect_error(swt_cuda_backend.open(&closed, 0, 0), SWT_USAGE, "0 threads");
    }
    unsigned char *after = allocated(d, BYTES), byte = 0; /* it works on */
    assert_int_equal(swt_device_set(d, NULL, after, 9, BYTES), SWT_OK);
    assert_int_equal(swt_device_copy(d, NULL, SWT_TO_HOST, &byte, after + 17, 1), SWT_OK);
    assert_int_equal(byte, 9);
    expect_error(swt_device_copy(d, NULL, SWT_TO_HOST, NULL, after, 1), SWT_SHAPE, "NULL");
    expect_error(swt_device_set(d, NULL, NULL, 0, 1), SWT_SHAPE, "NULL");
    swt_device_release(d, after);
    swt_test_expect(swt_test_backend()->open(&closed, 0, 2), "open again");
    swt_device_close(&closed);
    expect_error(swt_device_alloc(&closed, &memory, 1), SWT_INTERNAL, "not open");
    expect_error(swt_device_room(&closed, NULL, NULL), SWT_INTERNAL, "not open");
    expect_error(swt_device_host_alloc(&closed, &memory, 1), SWT_INTERNAL, "not open");
    expect_error(swt_stream_sync(&closed, NULL), SWT_INTERNAL, "not open");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_room),
        TEST(test_copies),
        TEST(test_null_stream),
        TEST(test_events),
        TEST(test_time_between_events),
        TEST(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
