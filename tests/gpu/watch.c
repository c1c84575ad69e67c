/* The program whose training steps are watched: src/main.c and the libraries as they are, linked
 * with --wrap=swt_step and --wrap=swt_session_close and this file. At its end each rank says on
 * standard error what it saw.
 *
 *   SWT_WATCH=host   (emulated GPUs) whatever takes the host into a step - an allocation, a wait, a
 *                    copy to the host, a choice of a gemm's algorithm - stops the program
 *   SWT_WATCH=graph  step 1 is captured as a CUDA graph, and every step is a launch of that graph:
 *                    nothing that changes from step to step may come from the host but the batch */
#include "train/session.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SWT_TEST_EMULATED
#include "tests/emu/emu.h"
#else
static void swt_emu_step_begin(void) {
}
static void swt_emu_step_end(void) {
}
#endif

enum { WARM_UP_STEPS = 2 }; /* of swt_session_open_model */

static struct {
    int calls;    /* of swt_step */
    int shown;    /* steps of the run that were watched */
    size_t nodes; /* of the graph */
    cudaGraphExec_t graph;
} watch;

void __real_swt_session_close(swt_session *s);
void __wrap_swt_session_close(swt_session *s);
swt_status __real_swt_step(swt_model *m, const swt_update_rule *u);
swt_status __wrap_swt_step(swt_model *m, const swt_update_rule *u);

static bool asked(const char *what) {
    const char *text = getenv("SWT_WATCH");
    return text != NULL && strcmp(text, what) == 0;
}

static swt_status check(cudaError_t code, const char *call) {
    if (code == cudaSuccess)
        return SWT_OK;
    return SWT_FAIL(INTERNAL, "%s: %s", call, cudaGetErrorString(code));
}

#define CHECK(call) SWT_TRY(check((call), #call))

static swt_status without_host(swt_model *m, const swt_update_rule *u) {
    swt_emu_step_begin();
    const swt_status status = __real_swt_step(m, u);
    swt_emu_step_end();
    return status;
}

/* Of several ranks NCCL may launch in threads of its own, which must stay free. */
static swt_status capture(swt_model *m, const swt_update_rule *u, cudaStream_t stream) {
    cudaGraph_t graph = NULL;
    CHECK(cudaStreamBeginCapture(stream, m->dist->size > 1 ? cudaStreamCaptureModeThreadLocal
                                                           : cudaStreamCaptureModeGlobal));
    const swt_status status = __real_swt_step(m, u);
    CHECK(cudaStreamEndCapture(stream, &graph));
    SWT_TRY(status);
    CHECK(cudaGraphGetNodes(graph, NULL, &watch.nodes));
    CHECK(cudaGraphInstantiate(&watch.graph, graph, 0));
    CHECK(cudaGraphDestroy(graph));
    return SWT_OK;
}

static swt_status as_graph(swt_model *m, const swt_update_rule *u) {
    const cudaStream_t stream = (cudaStream_t)(void *)m->ctx.stream;
    if (watch.graph == NULL)
        SWT_TRY(capture(m, u, stream));
    CHECK(cudaGraphLaunch(watch.graph, stream));
    return SWT_OK;
}

swt_status __wrap_swt_step(swt_model *m, const swt_update_rule *u) {
    watch.calls++;
    if (watch.calls <= WARM_UP_STEPS || (!asked("host") && !asked("graph")))
        return __real_swt_step(m, u);
    watch.shown++;
    return asked("graph") ? as_graph(m, u) : without_host(m, u);
}

/* NCCL does not end a communicator that a graph could still use. */
void __wrap_swt_session_close(swt_session *s) {
    if (watch.graph != NULL && (cudaDeviceSynchronize() != cudaSuccess ||
                                cudaGraphExecDestroy(watch.graph) != cudaSuccess))
        fprintf(stderr, "the graph cannot be destroyed\n");
    __real_swt_session_close(s);
}

__attribute__((destructor)) static void say(void) {
    if (asked("host"))
        fprintf(stderr, "watched: %d steps without the host\n", watch.shown);
    if (asked("graph"))
        fprintf(stderr, "watched: %d launches of a graph of %zu nodes\n", watch.shown, watch.nodes);
}
