/* Graph capture on the emulated platform: what it records, and what it refuses. */
#include "tests/emu/bed.h"

static __global__ void add(int *x, int y) {
    *x += y;
}

static __global__ void twice(int *x) {
    *x *= 2;
}

static __global__ void copy_to(int *to, const int *from) {
    *to = *from;
}

typedef struct bed {
    cudaStream_t a, b, blocking;
    cudaEvent_t fork, join;
    int *x, *y, *gpu;
} bed;

static int set_up(void **state) {
    bed *const t = new bed();
    OK(cudaStreamCreateWithFlags(&t->a, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&t->b, cudaStreamNonBlocking));
    OK(cudaStreamCreate(&t->blocking));
    OK(cudaEventCreateWithFlags(&t->fork, cudaEventDisableTiming));
    OK(cudaEventCreateWithFlags(&t->join, cudaEventDisableTiming));
    t->x = managed<int>(1);
    t->y = managed<int>(1);
    t->gpu = on_gpu<int>(1);
    *t->x = 1;
    *t->y = 10;
    *state = t;
    return 0;
}

static int tear_down(void **state) {
    bed *const t = static_cast<bed *>(*state);
    (void)cudaGetLastError();
    OK(cudaFree(t->x));
    OK(cudaFree(t->y));
    OK(cudaFree(t->gpu));
    OK(cudaStreamDestroy(t->a));
    OK(cudaStreamDestroy(t->b));
    OK(cudaStreamDestroy(t->blocking));
    OK(cudaEventDestroy(t->fork));
    OK(cudaEventDestroy(t->join));
    OK(cudaDeviceSynchronize());
    delete t;
    return 0;
}

static void begin(cudaStream_t s) {
    (void)cudaGetLastError();
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
}

/* x = 2 (x + 1) and y = y + 5 side by side, then y = x. */
static void graphs_run_again_and_again(void **state) {
    const bed *const t = static_cast<bed *>(*state);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    size_t nodes = 0;
    begin(t->a);
    OK(cudaEventRecord(t->fork, t->a));
    OK(cudaStreamWaitEvent(t->b, t->fork, 0));
    assert_int_equal(SWT_LAUNCH(add, 1, 1, 0, t->b, t->y, 5), SWT_OK);
    assert_int_equal(SWT_LAUNCH(add, 1, 1, 0, t->a, t->x, 1), SWT_OK);
    OK(cudaEventRecord(t->join, t->b));
    assert_int_equal(SWT_LAUNCH(twice, 1, 1, 0, t->a, t->x), SWT_OK);
    OK(cudaStreamWaitEvent(t->a, t->join, 0));
    assert_int_equal(SWT_LAUNCH(copy_to, 1, 1, 0, t->a, t->y, t->x), SWT_OK);
    OK(cudaStreamEndCapture(t->a, &graph));
    OK(cudaGraphGetNodes(graph, nullptr, &nodes));
    assert_int_equal(nodes, 4);
    OK(cudaDeviceSynchronize());
    assert_int_equal(*t->x, 1); /* captured, not run */
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    OK(cudaGraphLaunch(exec, t->a));
    assert_int_equal(SWT_LAUNCH(add, 1, 1, 0, t->a, t->x, 100), SWT_OK);
    OK(cudaGraphLaunch(exec, t->a));
    OK(cudaStreamSynchronize(t->a));
    assert_int_equal(*t->x, 210); /* 2 (2 (1 + 1) + 100 + 1) */
    assert_int_equal(*t->y, 210);
    OK(cudaGraphLaunch(exec, t->b));
    OK(cudaGraphExecDestroy(exec)); /* its work is done all the same */
    OK(cudaStreamSynchronize(t->b));
    assert_int_equal(*t->y, 422);
}

/* End a capture that was spoilt. */
static void spoilt(cudaStream_t s) {
    cudaGraph_t graph = nullptr;
    enum cudaStreamCaptureStatus status;
    OK(cudaStreamIsCapturing(s, &status));
    assert_int_equal(status, cudaStreamCaptureStatusInvalidated);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    assert_null(graph);
    OK(cudaStreamIsCapturing(s, &status));
    assert_int_equal(status, cudaStreamCaptureStatusNone);
}

static void waits_are_refused(void **state) {
    const bed *const t = static_cast<bed *>(*state);
    begin(t->a);
    assert_int_equal(cudaStreamSynchronize(t->a), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(SWT_LAUNCH(twice, 1, 1, 0, t->a, t->x), SWT_INTERNAL);
    spoilt(t->a);
    begin(t->a);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
    spoilt(t->a);
    begin(t->a);
    assert_int_equal(cudaStreamQuery(t->a), cudaErrorStreamCaptureUnsupported);
    spoilt(t->a);
    begin(t->a);
    OK(cudaEventRecord(t->fork, t->a));
    assert_int_equal(cudaEventSynchronize(t->fork), cudaErrorCapturedEvent);
    spoilt(t->a);
    assert_int_equal(cudaEventQuery(t->fork), cudaErrorCapturedEvent);
}

static void allocations_are_refused(void **state) {
    const bed *const t = static_cast<bed *>(*state);
    void *memory = nullptr;
    begin(t->a);
    assert_int_equal(cudaMalloc(&memory, 8), cudaErrorStreamCaptureUnsupported);
    spoilt(t->a);
    begin(t->a);
    assert_int_equal(cudaFree(t->x), cudaErrorStreamCaptureUnsupported);
    spoilt(t->a);
}

static void copies_of_pageable_memory_are_refused(void **state) {
    const bed *const t = static_cast<bed *>(*state);
    int local = 3;
    begin(t->a);
    assert_int_equal(cudaMemcpyAsync(t->gpu, &local, sizeof local, cudaMemcpyHostToDevice, t->a),
                     cudaErrorStreamCaptureUnsupported);
    spoilt(t->a);
    begin(t->a);
    assert_int_equal(cudaMemcpy(&local, t->gpu, sizeof local, cudaMemcpyDeviceToHost),
                     cudaErrorStreamCaptureUnsupported);
    spoilt(t->a);
}

static void unjoined_streams_are_refused(void **state) {
    const bed *const t = static_cast<bed *>(*state);
    cudaGraph_t graph = nullptr;
    begin(t->a);
    OK(cudaEventRecord(t->fork, t->a));
    OK(cudaStreamWaitEvent(t->b, t->fork, 0));
    assert_int_equal(SWT_LAUNCH(add, 1, 1, 0, t->b, t->y, 5), SWT_OK);
    OK(cudaEventRecord(t->join, t->b));
    OK(cudaStreamWaitEvent(t->a, t->join, 0));
    assert_int_equal(SWT_LAUNCH(add, 1, 1, 0, t->b, t->y, 5), SWT_OK); /* after the join */
    assert_int_equal(cudaStreamEndCapture(t->b, &graph), cudaErrorStreamCaptureUnmatched);
    assert_int_equal(cudaStreamEndCapture(t->a, &graph), cudaErrorStreamCaptureInvalidated);
    begin(t->a);
    OK(cudaEventRecord(t->fork, t->a));
    OK(cudaStreamWaitEvent(t->b, t->fork, 0));
    assert_int_equal(SWT_LAUNCH(add, 1, 1, 0, t->b, t->y, 5), SWT_OK);
    assert_int_equal(cudaStreamEndCapture(t->a, &graph), cudaErrorStreamCaptureUnjoined);
    (void)cudaGetLastError();
    assert_int_equal(SWT_LAUNCH(twice, 1, 1, 0, t->b, t->y), SWT_OK); /* captured no more */
    OK(cudaStreamSynchronize(t->b));
    assert_int_equal(*t->y, 20);
}

static void events_of_outside_are_refused(void **state) {
    const bed *const t = static_cast<bed *>(*state);
    OK(cudaEventRecord(t->join, t->b));
    begin(t->a);
    assert_int_equal(cudaStreamWaitEvent(t->a, t->join, 0), cudaErrorStreamCaptureIsolation);
    spoilt(t->a);
}

static void the_legacy_stream_is_refused(void **state) {
    const bed *const t = static_cast<bed *>(*state);
    assert_int_equal(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal),
                     cudaErrorStreamCaptureUnsupported);
    begin(t->blocking);
    assert_int_equal(SWT_LAUNCH(twice, 1, 1, 0, nullptr, t->x), SWT_INTERNAL);
    spoilt(t->blocking);
    cudaGraph_t graph = nullptr;
    begin(t->a); /* a non-blocking stream has nothing to do with it */
    assert_int_equal(SWT_LAUNCH(twice, 1, 1, 0, nullptr, t->x), SWT_OK);
    OK(cudaStreamEndCapture(t->a, &graph));
    OK(cudaGraphDestroy(graph));
    OK(cudaDeviceSynchronize());
    assert_int_equal(*t->x, 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(graphs_run_again_and_again),   TEST(waits_are_refused),
        TEST(allocations_are_refused),      TEST(copies_of_pageable_memory_are_refused),
        TEST(unjoined_streams_are_refused), TEST(events_of_outside_are_refused),
        TEST(the_legacy_stream_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
