/* Causal attention in tiles of TILE queries by TILE keys. A block of threads has one tile of
 * queries (forward, gradient of q) or of keys (gradients of k and v) of one head and goes through
 * the tiles of the other side in order; scores never leave the block. */
#include "kernels/cuda/attention_tile.cuh"

/* One head of one sequence, as the block sees it. */
template <typename T> struct head {
    head_rows<T> q, k, v;
    int64_t qkv, y, lse; /* where its first row stands in the tensors */
    int width;           /* of a row of y */
    int first;           /* row of the block's tile */
};

/* Long tiles come first: late ones of queries, early ones of keys. */
template <typename T>
static __device__ inline head<T> head_of_block(const swt_attention_dims &d, const void *qkv,
                                               bool keys) {
    const int rows = (int)d.T, heads = (int)(d.B * d.H), D = (int)d.D, width = (int)d.H * D;
    const int tiles_of_head = (rows + TILE - 1) / TILE, tile = (int)(blockIdx.x / heads);
    const int64_t h = blockIdx.x % heads;
    const int64_t row = h / (int)d.H * rows, column = h % (int)d.H * D;
    const bool runs = D % WIDEST<T> == 0;
    head<T> of;
    of.qkv = row * 3 * width + column;
    of.y = row * width + column;
    of.lse = h * rows;
    of.width = width;
    of.first = (keys ? tile : tiles_of_head - 1 - tile) * TILE;
    const T *q = (const T *)qkv + of.qkv;
    of.q = head_rows<T>{q, 3 * width, rows, D, runs};
    of.k = head_rows<T>{q + width, 3 * width, rows, D, runs};
    of.v = head_rows<T>{q + 2 * width, 3 * width, rows, D, runs};
    return of;
}

/* One more tile of keys into the running maximum, sum and outputs of each row: s becomes
 * exp(scale s - max), 0 where a key comes after the query. */
template <int GROUPS>
static __device__ inline void softmax_tile(float (&s)[PER][PER], float (&max)[PER],
                                           float (&sum)[PER], float (&out)[PER][4 * GROUPS],
                                           int query, int key, float scale) {
    for (int i = 0; i < PER; i++) {
        float top = max[i], part = 0;
        for (int j = 0; j < PER; j++) {
            s[i][j] = key + j * SIDE <= query + i ? scale * s[i][j] : -INFINITY;
            top = fmaxf(top, s[i][j]);
        }
        top = row_max(top);
        for (int j = 0; j < PER; j++) {
            s[i][j] = expf(s[i][j] - top);
            part += s[i][j];
        }
        const float old = expf(max[i] - top); /* 0 at the first tile */
        sum[i] = old * sum[i] + row_sum(part);
        max[i] = top;
        for (int j = 0; j < 4 * GROUPS; j++)
            out[i][j] *= old;
    }
}

template <typename T, int GROUPS>
static __global__ void __launch_bounds__(THREADS, GROUPS < 4 ? 2 : 1)
    forward_tile(swt_attention_forward_args a) {
    SWT_DYNAMIC_SHARED(tiles, t);
    const head<T> h = head_of_block<T>(a.dims, a.qkv, false);
    float s[PER][PER], out[PER][4 * GROUPS] = {}, max[PER], sum[PER] = {};
    for (int i = 0; i < PER; i++)
        max[i] = -INFINITY;
    for (int key = 0; key <= h.first; key += TILE) {
        score_tile(s, t, h.q, h.first, h.k, key);
        softmax_tile<GROUPS>(s, max, sum, out, h.first + tile_row(), key + tile_column(),
                             a.dims.scale);
        keep_scores(t, s);
        add_rows<GROUPS>(out, t, h.v, key, 0);
    }
    for (int i = 0; i < PER; i++) {
        const int row = h.first + tile_row() + i;
        if (tile_column() == 0 && row < h.q.count)
            a.lse[h.lse + row] = max[i] + logf(sum[i]);
        sum[i] = 1 / sum[i];
    }
    write_rows<GROUPS>((T *)a.y + h.y, h.q, h.width, h.first, 0, out, sum);
}

/* What a head has beside q, k and v in backward. */
template <typename T> struct head_outputs {
    head_rows<T> y, dy;
    const float *lse;
};

template <typename T>
static __device__ inline head_outputs<T> outputs_of(const swt_attention_backward_args &a,
                                                    const head<T> &h) {
    head_outputs<T> of;
    of.y = head_rows<T>{(const T *)a.y + h.y, h.width, h.q.count, h.q.D, h.q.runs};
    of.dy = head_rows<T>{(const T *)a.dy + h.y, h.width, h.q.count, h.q.D, h.q.runs};
    of.lse = a.lse + h.lse;
    return of;
}

/* lse and delta = dy . y of the tile's queries from `first` on; beyond the last, what makes every p
 * zero. All threads; a barrier must follow. */
template <typename T>
static __device__ inline void load_queries(tiles *t, const head_outputs<T> &h, int first) {
    for (int i = 0; i < PER; i++) {
        const int at = tile_row() + i;
        const int64_t row = first + at;
        const bool inside = row < h.y.count;
        const T *dy = h.dy.at + row * h.dy.stride, *y = h.y.at + row * h.y.stride;
        float sum = 0;
#pragma unroll 1
        for (int c = tile_column(); inside && c < h.y.D; c += SIDE) {
            sum += to_float(dy[c]) * to_float(y[c]);
        }
        sum = row_sum(sum);
        if (tile_column() == 0) {
            t->lse[at] = inside ? h.lse[row] : INFINITY;
            t->delta[at] = sum;
        }
    }
}

template <typename T, int GROUPS>
static __global__ void __launch_bounds__(THREADS, GROUPS < 2 ? 2 : 1)
    backward_queries(swt_attention_backward_args a) {
    SWT_DYNAMIC_SHARED(tiles, t);
    const head<T> h = head_of_block<T>(a.dims, a.qkv, false);
    const head_outputs<T> o = outputs_of(a, h);
    float s[PER][PER], dp[PER][PER], out[PER][4 * GROUPS] = {}, factor[PER];
    load_queries(t, o, h.first);
    for (int key = 0; key <= h.first; key += TILE) {
        score_tile(s, t, h.q, h.first, h.k, key);
        score_tile(dp, t, o.dy, h.first, h.v, key);
        for (int i = 0; i < PER; i++)
            for (int j = 0; j < PER; j++) {
                const int at = tile_row() + i;
                const bool seen = key + tile_column() + j * SIDE <= h.first + at;
                s[i][j] =
                    seen ? expf(a.dims.scale * s[i][j] - t->lse[at]) * (dp[i][j] - t->delta[at])
                         : 0;
            }
        keep_scores(t, s);
        add_rows<GROUPS>(out, t, h.k, key, 0);
    }
    for (int i = 0; i < PER; i++)
        factor[i] = a.dims.scale;
    T *const dq = (T *)a.dqkv + h.qkv;
    write_rows<GROUPS>(dq, h.q, h.q.stride, h.first, 0, out, factor);
}

/* Rows of the tile are keys here, columns queries. blockIdx.y: which GROUPS TILE columns of dk and
 * dv (a wide head's do not all fit in a block's registers). */
template <typename T, int GROUPS>
static __global__ void __launch_bounds__(THREADS, GROUPS < 2 ? 2 : 1)
    backward_keys(swt_attention_backward_args a) {
    SWT_DYNAMIC_SHARED(tiles, t);
    const head<T> h = head_of_block<T>(a.dims, a.qkv, true);
    const head_outputs<T> o = outputs_of(a, h);
    const int column = (int)blockIdx.y * GROUPS * TILE;
    float s[PER][PER], dp[PER][PER], dk[PER][4 * GROUPS] = {}, dv[PER][4 * GROUPS] = {};
    float ones[PER], factor[PER];
    for (int first = h.first; first < h.q.count; first += TILE) {
        load_queries(t, o, first);
        score_tile(s, t, h.k, h.first, h.q, first);
        score_tile(dp, t, h.v, h.first, o.dy, first);
        for (int i = 0; i < PER; i++)
            for (int j = 0; j < PER; j++) {
                const int at = tile_column() + j * SIDE;
                const bool seen = h.first + tile_row() + i <= first + at;
                s[i][j] = seen ? expf(a.dims.scale * s[i][j] - t->lse[at]) : 0;
                dp[i][j] = seen ? s[i][j] * (dp[i][j] - t->delta[at]) : 0;
            }
        keep_scores(t, s);
        add_rows<GROUPS>(dv, t, o.dy, first, column);
        keep_scores(t, dp);
        add_rows<GROUPS>(dk, t, h.q, first, column);
    }
    for (int i = 0; i < PER; i++) {
        ones[i] = 1;
        factor[i] = a.dims.scale;
    }
    T *const dq = (T *)a.dqkv + h.qkv;
    write_rows<GROUPS>(dq + h.width, h.k, h.k.stride, h.first, column, dk, factor);
    write_rows<GROUPS>(dq + 2 * h.width, h.v, h.v.stride, h.first, column, dv, ones);
}

static unsigned blocks_of_heads(const swt_attention_dims *d) {
    return blocks_of(d->T, TILE) * (unsigned)(d->B * d->H);
}

/* How many groups of TILE columns a head has: kernels are made for 1, 2 and 4 of them. */
template <int N> struct groups { static constexpr int count = N; };

/* Call launch(kernel_kind, groups) for the context's type of activations and a head's width. */
template <typename F>
SWT_MUST_CHECK static inline swt_status by_head(const swt_ctx *c, int64_t D, F launch) {
    return by_type(c, [&](auto as) {
        return D <= TILE       ? launch(as, groups<1>())
               : D <= 2 * TILE ? launch(as, groups<2>())
                               : launch(as, groups<4>());
    });
}

static bool is_empty(const swt_attention_dims *d) {
    return d->B == 0 || d->T == 0 || d->H == 0 || d->D == 0;
}

swt_status swt_cuda_attention_forward(const swt_ctx *c, const swt_attention_forward_args *a) {
    if (is_empty(&a->dims))
        return SWT_OK;
    return by_head(c, a->dims.D, [&](auto as, auto of) {
        const auto kernel = forward_tile<typename decltype(as)::type, decltype(of)::count>;
        return SWT_LAUNCH(kernel, blocks_of_heads(&a->dims), THREADS, sizeof(tiles),
                          swt_cuda_stream(c), *a);
    });
}

swt_status swt_cuda_attention_backward(const swt_ctx *c, const swt_attention_backward_args *a) {
    if (is_empty(&a->dims))
        return SWT_OK;
    return by_head(c, a->dims.D, [&](auto as, auto of) {
        typedef typename decltype(as)::type T;
        enum { GROUPS = decltype(of)::count, KEY_GROUPS = GROUPS < 2 ? GROUPS : 2 };
        const auto queries = backward_queries<T, GROUPS>;
        const auto keys = backward_keys<T, KEY_GROUPS>;
        const unsigned blocks = blocks_of_heads(&a->dims);
        SWT_TRY(SWT_LAUNCH(queries, blocks, THREADS, sizeof(tiles), swt_cuda_stream(c), *a));
        const dim3 grid(blocks, blocks_of(a->dims.D, KEY_GROUPS * TILE));
        return SWT_LAUNCH(keys, grid, THREADS, sizeof(tiles), swt_cuda_stream(c), *a);
    });
}
