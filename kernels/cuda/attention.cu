/* Causal attention in tiles of TILE queries by TILE keys. A block of threads has one tile of
 * queries (forward, gradient of q) or of keys (gradients of k and v) of one head and goes through
 * the tiles of the other side in order; scores never leave the block. */
#include "kernels/cuda/attention_tile.cuh"

typedef struct attention_args {
    void *y_out, *dqkv;
    float *lse_out;
    const void *qkv, *y, *dy;
    const float *lse;
    int T, H, D, heads; /* of all sequences */
    float scale;
} attention_args;

/* One head of one sequence. */
template <typename T> struct head {
    head_rows<T> q, k, v, y, dy;
    T *y_out, *dq, *dk, *dv;
    const float *lse;
    float *lse_out;
    int first;  /* row of the block's tile */
    int stride; /* of q, k, v and their gradients */
};

/* Of a tensor that the operation has. */
template <typename P> static __device__ inline P *place(P *base, int64_t offset) {
    return base != NULL ? base + offset : NULL;
}

/* Long tiles come first: late ones of queries, early ones of keys. */
template <typename T>
static __device__ inline head<T> head_of_block(const attention_args &a, bool keys) {
    const int tiles_of_head = (a.T + TILE - 1) / TILE, tile = (int)(blockIdx.x / a.heads);
    const int64_t h = blockIdx.x % a.heads;
    const int width = a.H * a.D;
    const int64_t row = h / a.H * a.T, column = h % a.H * a.D;
    const int64_t at = row * 3 * width + column, y_at = row * width + column;
    const bool runs = a.D % WIDEST<T> == 0;
    const T *qkv = (const T *)a.qkv + at;
    head<T> of = {};
    of.first = (keys ? tile : tiles_of_head - 1 - tile) * TILE;
    of.stride = 3 * width;
    of.q = head_rows<T>{qkv, 3 * width, a.T, a.D, runs};
    of.k = head_rows<T>{qkv + width, 3 * width, a.T, a.D, runs};
    of.v = head_rows<T>{qkv + 2 * width, 3 * width, a.T, a.D, runs};
    of.y = head_rows<T>{place((const T *)a.y, y_at), width, a.T, a.D, runs};
    of.dy = head_rows<T>{place((const T *)a.dy, y_at), width, a.T, a.D, runs};
    of.y_out = place((T *)a.y_out, y_at);
    of.dq = place((T *)a.dqkv, at);
    of.dk = place(of.dq, width);
    of.dv = place(of.dk, width);
    of.lse = place(a.lse, h * a.T);
    of.lse_out = place(a.lse_out, h * a.T);
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
    forward_tile(attention_args a) {
    SWT_DYNAMIC_SHARED(tiles, t);
    const head<T> h = head_of_block<T>(a, false);
    float s[PER][PER], out[PER][4 * GROUPS] = {}, max[PER], sum[PER] = {};
    for (int i = 0; i < PER; i++)
        max[i] = -INFINITY;
    for (int key = 0; key <= h.first; key += TILE) {
        score_tile(s, t, h.q, h.first, h.k, key);
        softmax_tile<GROUPS>(s, max, sum, out, h.first + tile_row(), key + tile_column(), a.scale);
        keep_scores(t, s);
        add_rows<GROUPS>(out, t, h.v, key, 0);
    }
    for (int i = 0; i < PER; i++) {
        const int row = h.first + tile_row() + i;
        if (tile_column() == 0 && row < a.T)
            h.lse_out[row] = max[i] + logf(sum[i]);
        sum[i] = 1 / sum[i];
    }
    write_rows<GROUPS>(h.y_out, h.q, h.y.stride, h.first, 0, out, sum);
}

/* lse and delta = dy . y of the tile's queries from `first` on; beyond the last, what makes every p
 * zero. All threads; a barrier must follow. */
template <typename T>
static __device__ inline void load_queries(tiles *t, const head<T> &h, int first) {
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
    backward_queries(attention_args a) {
    SWT_DYNAMIC_SHARED(tiles, t);
    const head<T> h = head_of_block<T>(a, false);
    float s[PER][PER], dp[PER][PER], out[PER][4 * GROUPS] = {}, factor[PER];
    load_queries(t, h, h.first);
    for (int key = 0; key <= h.first; key += TILE) {
        score_tile(s, t, h.q, h.first, h.k, key);
        score_tile(dp, t, h.dy, h.first, h.v, key);
        for (int i = 0; i < PER; i++)
            for (int j = 0; j < PER; j++) {
                const int at = tile_row() + i;
                const bool seen = key + tile_column() + j * SIDE <= h.first + at;
                s[i][j] =
                    seen ? expf(a.scale * s[i][j] - t->lse[at]) * (dp[i][j] - t->delta[at]) : 0;
            }
        keep_scores(t, s);
        add_rows<GROUPS>(out, t, h.k, key, 0);
    }
    for (int i = 0; i < PER; i++)
        factor[i] = a.scale;
    write_rows<GROUPS>(h.dq, h.q, h.stride, h.first, 0, out, factor);
}

/* Rows of the tile are keys here, columns queries. blockIdx.y: which GROUPS TILE columns of dk and
 * dv (a wide head's do not all fit in a block's registers). */
template <typename T, int GROUPS>
static __global__ void __launch_bounds__(THREADS, GROUPS < 2 ? 2 : 1)
    backward_keys(attention_args a) {
    SWT_DYNAMIC_SHARED(tiles, t);
    const head<T> h = head_of_block<T>(a, true);
    const int column = (int)blockIdx.y * GROUPS * TILE;
    float s[PER][PER], dp[PER][PER], dk[PER][4 * GROUPS] = {}, dv[PER][4 * GROUPS] = {};
    float ones[PER], factor[PER];
    for (int first = h.first; first < a.T; first += TILE) {
        load_queries(t, h, first);
        score_tile(s, t, h.k, h.first, h.q, first);
        score_tile(dp, t, h.v, h.first, h.dy, first);
        for (int i = 0; i < PER; i++)
            for (int j = 0; j < PER; j++) {
                const int at = tile_column() + j * SIDE;
                const bool seen = h.first + tile_row() + i <= first + at;
                s[i][j] = seen ? expf(a.scale * s[i][j] - t->lse[at]) : 0;
                dp[i][j] = seen ? s[i][j] * (dp[i][j] - t->delta[at]) : 0;
            }
        keep_scores(t, s);
        add_rows<GROUPS>(dv, t, h.dy, first, column);
        keep_scores(t, dp);
        add_rows<GROUPS>(dk, t, h.q, first, column);
    }
    for (int i = 0; i < PER; i++) {
        ones[i] = 1;
        factor[i] = a.scale;
    }
    write_rows<GROUPS>(h.dk, h.q, h.stride, h.first, column, dk, factor);
    write_rows<GROUPS>(h.dv, h.q, h.stride, h.first, column, dv, ones);
}

static attention_args args_of(const swt_attention_dims *d) {
    attention_args a = {};
    a.T = (int)d->T;
    a.H = (int)d->H;
    a.D = (int)d->D;
    a.heads = (int)(d->B * d->H);
    a.scale = d->scale;
    return a;
}

static unsigned blocks_of_heads(const attention_args *a) {
    return blocks_of(a->T, TILE) * (unsigned)a->heads;
}

template <typename T, int GROUPS>
static swt_status forward_wide(const swt_ctx *c, const attention_args *a) {
    const auto kernel = forward_tile<T, GROUPS>;
    return SWT_LAUNCH(kernel, blocks_of_heads(a), THREADS, sizeof(tiles), swt_cuda_stream(c), *a);
}

template <typename T> static swt_status forward(const swt_ctx *c, const attention_args *a) {
    return a->D <= TILE       ? forward_wide<T, 1>(c, a)
           : a->D <= 2 * TILE ? forward_wide<T, 2>(c, a)
                              : forward_wide<T, 4>(c, a);
}

swt_status swt_cuda_attention_forward(const swt_ctx *c, void *y, float *lse, const void *qkv,
                                      const swt_attention_dims *dims) {
    attention_args a = args_of(dims);
    a.y_out = y;
    a.lse_out = lse;
    a.qkv = qkv;
    if (a.T == 0 || a.heads == 0 || a.D == 0)
        return SWT_OK;
    return SWT_BY_TYPE(c, forward, c, &a);
}

template <typename T, int GROUPS>
static swt_status backward_wide(const swt_ctx *c, const attention_args *a) {
    enum { KEY_GROUPS = GROUPS < 2 ? GROUPS : 2 };
    const auto queries = backward_queries<T, GROUPS>;
    const auto keys = backward_keys<T, KEY_GROUPS>;
    SWT_TRY(
        SWT_LAUNCH(queries, blocks_of_heads(a), THREADS, sizeof(tiles), swt_cuda_stream(c), *a));
    const dim3 grid(blocks_of_heads(a), blocks_of(a->D, KEY_GROUPS * TILE));
    return SWT_LAUNCH(keys, grid, THREADS, sizeof(tiles), swt_cuda_stream(c), *a);
}

template <typename T> static swt_status backward(const swt_ctx *c, const attention_args *a) {
    return a->D <= TILE       ? backward_wide<T, 1>(c, a)
           : a->D <= 2 * TILE ? backward_wide<T, 2>(c, a)
                              : backward_wide<T, 4>(c, a);
}

swt_status swt_cuda_attention_backward(const swt_ctx *c, void *dqkv, const void *dy, const void *y,
                                       const float *lse, const void *qkv,
                                       const swt_attention_dims *dims) {
    attention_args a = args_of(dims);
    a.dqkv = dqkv;
    a.dy = dy;
    a.y = y;
    a.lse = lse;
    a.qkv = qkv;
    if (a.T == 0 || a.heads == 0 || a.D == 0)
        return SWT_OK;
    return SWT_BY_TYPE(c, backward, c, &a);
}
