/* Graph capture. A graph keeps captured work by branch (the stream it was queued on) and, for each
 * piece, the pieces of other branches that events put before it. A launch queues it all again, each
 * branch on a stream of its own, so that it runs as freely as the captured streams would. */
#include "tests/emu/emu_stream.h"

#include <stdlib.h>
#include <string.h>

struct CUgraph_st {
    emu_node *first, *last;
    int holders, branches;
};

struct CUgraphExec_st {
    struct CUgraph_st *graph;
    struct CUstream_st *streams[EMU_BRANCHES];
};

/* The capture that goes on; one at a time. */
static struct {
    struct CUgraph_st *graph; /* NULL: none */
    struct CUstream_st *streams[EMU_BRANCHES];
    enum cudaStreamCaptureMode mode;
    uint64_t number; /* of captures, ever */
    bool invalid;
} capture;

/* -- what capture refuses --------------------------------------------------------------------- */

bool emu_capture_has(const struct CUevent_st *e) {
    return e->capture != 0;
}

cudaError_t emu_capture_refuses(void) {
    if (capture.graph == NULL || capture.mode == cudaStreamCaptureModeRelaxed)
        return cudaSuccess;
    capture.invalid = true;
    return cudaErrorStreamCaptureUnsupported;
}

cudaError_t emu_capture_refuses_stream(const struct CUstream_st *s) {
    if (!s->captured)
        return emu_capture_refuses();
    capture.invalid = true;
    return cudaErrorStreamCaptureUnsupported;
}

cudaError_t emu_capture_allows(const struct CUstream_st *s) {
    if (capture.graph == NULL)
        return cudaSuccess;
    if (s->captured)
        return capture.invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    if (!emu_stream_legacy(s))
        return cudaSuccess;
    for (int i = 0; i < capture.graph->branches; i++)
        if ((capture.streams[i]->flags & cudaStreamNonBlocking) == 0) {
            capture.invalid = true;
            return cudaErrorStreamCaptureImplicit;
        }
    return cudaSuccess;
}

/* -- capturing -------------------------------------------------------------------------------- */

static void join(struct CUstream_st *s) {
    if (capture.graph->branches == EMU_BRANCHES)
        swt_emu_stop("a capture of more than %d streams", EMU_BRANCHES);
    s->captured = true;
    s->branch = capture.graph->branches++;
    memset(s->known, 0, sizeof s->known);
    capture.streams[s->branch] = s;
}

void emu_capture_add(struct CUstream_st *s, const char *name, swt_emu_work work, const void *data,
                     size_t bytes) {
    emu_node *const node = malloc(sizeof *node + bytes);
    if (node == NULL)
        swt_emu_stop("no memory for captured work");
    *node = (emu_node){.name = name, .work = work, .bytes = bytes, .branch = s->branch};
    memcpy(node->after, s->known, sizeof node->after);
    memcpy(node->data, data, bytes);
    if (capture.graph->last != NULL)
        capture.graph->last->next = node;
    else
        capture.graph->first = node;
    capture.graph->last = node;
    s->known[s->branch] = node;
}

cudaError_t emu_capture_record(struct CUevent_st *e, const struct CUstream_st *s) {
    e->capture = capture.number;
    memcpy(e->known, s->known, sizeof e->known);
    return cudaSuccess;
}

/* True if node a was captured before b, or is b. */
static bool before(const emu_node *a, const emu_node *b) {
    if (a == NULL)
        return true;
    while (a != NULL && a != b)
        a = a->next;
    return b != NULL && a == b;
}

cudaError_t emu_capture_wait(struct CUstream_st *s, const struct CUevent_st *e) {
    if (e->capture == 0) { /* s is captured, the event is not */
        capture.invalid = true;
        return cudaErrorStreamCaptureIsolation;
    }
    if (capture.graph == NULL || e->capture != capture.number)
        return cudaErrorCapturedEvent;
    if (capture.invalid)
        return cudaErrorStreamCaptureInvalidated;
    if (emu_stream_legacy(s))
        return cudaErrorStreamCaptureImplicit;
    if (!s->captured)
        join(s);
    for (int i = 0; i < EMU_BRANCHES; i++)
        if (before(s->known[i], e->known[i]))
            s->known[i] = e->known[i];
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    struct CUstream_st *const s = emu_stream_find(stream);
    if (s == NULL)
        return emu_error(cudaErrorInvalidResourceHandle);
    if (emu_stream_legacy(s))
        return emu_error(cudaErrorStreamCaptureUnsupported);
    if (s->captured)
        return emu_error(cudaErrorIllegalState);
    if (capture.graph != NULL)
        swt_emu_stop("two captures at a time are not emulated");
    capture.graph = calloc(1, sizeof *capture.graph);
    if (capture.graph == NULL)
        return emu_error(cudaErrorMemoryAllocation);
    capture.graph->holders = 1;
    capture.mode = mode;
    capture.number++;
    capture.invalid = false;
    join(s);
    return cudaSuccess;
}

static void let_go(struct CUgraph_st *graph) {
    if (--graph->holders > 0)
        return;
    for (emu_node *node = graph->first; node != NULL;) {
        emu_node *const next = node->next;
        free(node);
        node = next;
    }
    free(graph);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
    struct CUstream_st *const s = emu_stream_find(stream);
    *out = NULL;
    if (s == NULL || !s->captured)
        return emu_error(cudaErrorIllegalState);
    if (s->branch != 0) {
        capture.invalid = true;
        return emu_error(cudaErrorStreamCaptureUnmatched);
    }
    cudaError_t error = capture.invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    for (int i = 0; i < capture.graph->branches; i++) {
        struct CUstream_st *const t = capture.streams[i];
        if (error == cudaSuccess && s->known[i] != t->known[i])
            error = cudaErrorStreamCaptureUnjoined;
        t->captured = false;
    }
    if (error == cudaSuccess)
        *out = capture.graph;
    else
        let_go(capture.graph);
    capture.graph = NULL;
    return emu_error(error);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    const struct CUstream_st *const s = emu_stream_find(stream);
    if (s == NULL)
        return emu_error(cudaErrorInvalidResourceHandle);
    *status = !s->captured      ? cudaStreamCaptureStatusNone
              : capture.invalid ? cudaStreamCaptureStatusInvalidated
                                : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

/* -- graphs ----------------------------------------------------------------------------------- */

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph,
                                 unsigned long long flags) {
    if (out == NULL || graph == NULL || flags != 0)
        return emu_error(cudaErrorInvalidValue);
    swt_emu_host_call("cudaGraphInstantiate");
    const cudaError_t error = emu_capture_refuses();
    if (error != cudaSuccess)
        return emu_error(error);
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return emu_error(cudaErrorMemoryAllocation);
    (*out)->graph = graph;
    graph->holders++;
    for (int i = 0; i < graph->branches; i++)
        (*out)->streams[i] = emu_stream_new(cudaStreamNonBlocking);
    return cudaSuccess;
}

static bool nothing(void *data) {
    (void)data;
    return true;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    struct CUstream_st *const s = emu_stream_find(stream);
    if (s == NULL || exec == NULL)
        return emu_error(cudaErrorInvalidResourceHandle);
    if (s->captured)
        return emu_error(emu_capture_refuses_stream(s));
    const cudaError_t error = emu_capture_allows(s);
    if (error != cudaSuccess)
        return emu_error(error);
    emu_push(s, "cudaGraphLaunch", nothing, "", 0, NULL); /* with the legacy stream's order */
    for (int i = 0; i < exec->graph->branches; i++)
        emu_push_wait(exec->streams[i], s, s->queued);
    for (emu_node *node = exec->graph->first; node != NULL; node = node->next) {
        struct CUstream_st *const branch = exec->streams[node->branch];
        for (int i = 0; i < EMU_BRANCHES; i++)
            if (i != node->branch && node->after[i] != NULL)
                emu_push_wait(branch, exec->streams[i], node->after[i]->ticket);
        emu_push(branch, node->name, node->work, node->data, node->bytes, NULL);
        node->ticket = branch->queued;
    }
    for (int i = 0; i < exec->graph->branches; i++)
        emu_push_wait(s, exec->streams[i], exec->streams[i]->queued);
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
    size_t all = 0;
    if (graph == NULL || nodes != NULL) /* only their number is emulated */
        return emu_error(cudaErrorInvalidValue);
    for (const emu_node *node = graph->first; node != NULL; node = node->next)
        all++;
    *count = all;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    if (exec == NULL)
        return emu_error(cudaErrorInvalidValue);
    for (int i = 0; i < exec->graph->branches; i++)
        exec->streams[i]->destroyed = true; /* after its work */
    let_go(exec->graph);
    free(exec);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    if (graph == NULL)
        return emu_error(cudaErrorInvalidValue);
    let_go(graph);
    return cudaSuccess;
}
