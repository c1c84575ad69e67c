/* Embedding rows, and their gradient without atomics: one block of threads for each row of the
 * table looks for its tokens and adds their gradients in order of n. */
#include "kernels/cuda/wide.cuh"

enum {
    ROWS = 4,                     /* of a block, forward: one warp each */
    WARPS = 8,                    /* of a block, backward */
    LOOKS = 8,                    /* tokens that a thread looks at, each time */
    TOKENS = WARPS * LOOKS * WARP /* that a block looks at, each time */
};

template <typename T, int W> static __global__ void forward_rows(swt_embedding_forward_args a) {
    const int64_t n = (int64_t)blockIdx.x * ROWS + threadIdx.x / WARP;
    if (n >= a.N)
        return;
    const T *from = (const T *)a.table + a.tokens[n] * a.C;
    T *to = (T *)a.x + n * a.C;
    for (int64_t i = threadIdx.x % WARP * W; i < a.C; i += WARP * W)
        *reinterpret_cast<wide<T, W> *>(to + i) = *reinterpret_cast<const wide<T, W> *>(from + i);
}

swt_status swt_cuda_embedding_forward(const swt_ctx *c, const swt_embedding_forward_args *a) {
    if (a->N == 0 || a->C == 0)
        return SWT_OK;
    return by_width(c, a->C, [&](auto as) {
        const auto kernel = forward_rows<typename decltype(as)::type, decltype(as)::width>;
        return SWT_LAUNCH(kernel, blocks_of(a->N, ROWS), ROWS * WARP, 0, swt_cuda_stream(c), *a);
    });
}

/* Write to `list`, in order, which of the tokens from..from+TOKENS-1 are v; how many. Warp w looks
 * at the w-th run of LOOKS * WARP of them. Each thread then waits for the others itself, where the
 * number is not 0. */
static __device__ int find(int *list, int *found, const int32_t *tokens, int64_t n, int32_t v) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int first = warp * LOOKS * WARP + lane;
    unsigned masks[LOOKS];
    int count = 0;
    for (int i = 0; i < LOOKS; i++) {
        const int at = first + i * WARP;
        masks[i] = __ballot_sync(0xffffffffu, at < n && tokens[at] == v);
        count += __popc(masks[i]);
    }
    if (lane == 0)
        found[warp] = count;
    __syncthreads();
    int before = 0, total = 0;
    for (int w = 0; w < WARPS; w++) {
        before += w < warp ? found[w] : 0;
        total += found[w];
    }
    for (int i = 0; i < LOOKS; i++) {
        if (masks[i] >> lane & 1)
            list[before + __popc(masks[i] & ((1u << lane) - 1))] = first + i * WARP;
        before += __popc(masks[i]);
    }
    return total;
}

/* Block (v, i): row v of the table, columns i * columns ... */
template <typename T>
static __global__ void backward_rows(swt_embedding_backward_args a, int64_t columns) {
    __shared__ int list[TOKENS], found[2][WARPS];
    const T *const dx = (const T *)a.dx;
    const int64_t first = blockIdx.y * columns + threadIdx.x;
    const int64_t end = swt_min((blockIdx.y + 1) * columns, a.C);
    float *row = a.dtable + (int64_t)blockIdx.x * a.C;
    bool written = a.add;
    /* found has two halves, so that one barrier a turn is enough: a warp that is ahead writes the
     * half that the others no longer read. */
    for (int64_t n = 0, turn = 0; n < a.N; n += TOKENS, turn++) {
        const int64_t left = swt_min(a.N - n, TOKENS);
        const int count = find(list, found[turn % 2], a.tokens + n, left, (int32_t)blockIdx.x);
        if (count == 0)
            continue;
        __syncthreads();
        for (int64_t i = first; i < end; i += WARPS * WARP) {
            float sum = written ? row[i] : 0;
            for (int k = 0; k < count; k++)
                sum += to_float(dx[(n + list[k]) * a.C + i]);
            row[i] = sum;
        }
        written = true;
    }
    for (int64_t i = first; i < end && !written; i += WARPS * WARP)
        row[i] = 0;
}

swt_status swt_cuda_embedding_backward(const swt_ctx *c, const swt_embedding_backward_args *a) {
    if (a->V == 0 || a->C == 0)
        return SWT_OK;
    /* Few rows: several blocks share one, so that there are enough. No sum depends on that. */
    const int64_t columns = a->V >= 512 ? a->C : int64_t(2 * WARP);
    const dim3 grid((unsigned)a->V, blocks_of(a->C, (int)columns));
    return by_type(c, [&](auto as) {
        const auto kernel = backward_rows<typename decltype(as)::type>;
        return SWT_LAUNCH(kernel, grid, WARPS * WARP, 0, swt_cuda_stream(c), *a, columns);
    });
}
