/* Attention in tiles of TILE queries by TILE keys. A block of threads has one tile of queries
 * (forward, gradient of q) or of keys (gradients of k and v) of one head and goes through the tiles
 * of the other side in order; scores never leave the block. */
#include "kernels/cuda/attention_tile.cuh"

enum { FINISH = 128 };

/* One head of one sequence, as the block sees it. */
template <typename T> struct head {
    head_rows<T> q, k, v; /* k and v: the keys that the sequence has */
    int64_t q_at, kv_at;  /* where its first rows stand in q and dq; k, v, dk and dv */
    int64_t y_at, lse_at; /* in y and dy; in lse */
    const float *bias;    /* of distance 0, NULL: none */
    int width;            /* of a row of y */
    int first;            /* row of the block's tile */
    bool causal;
};

/* Of sequence b. */
static __device__ inline int key_count(const swt_attention_dims &d, const int32_t *key_lengths,
                                       int64_t b) {
    if (key_lengths == NULL || key_lengths[b] > d.Tk)
        return (int)d.Tk;
    return key_lengths[b] < 0 ? 0 : key_lengths[b];
}

/* For both structures of arguments. Long tiles come first: late ones of queries, early ones of
 * keys. */
template <typename T, typename A>
static __device__ inline head<T> head_of_block(const A &a, bool wide, bool keys) {
    const swt_attention_dims &d = a.dims;
    const int H = (int)d.H, D = (int)d.D, heads = (int)d.B * H, queries = (int)d.Tq;
    const int tiles_of_head = (queries + TILE - 1) / TILE, tile = (int)(blockIdx.x / heads);
    const int64_t h = blockIdx.x % heads, b = h / H, column = h % H * D;
    const int q_stride = (int)d.q_stride, kv_stride = (int)d.kv_stride;
    const int count = key_count(d, a.key_lengths, b);
    head<T> of;
    of.q_at = b * queries * q_stride + column;
    of.kv_at = b * d.Tk * kv_stride + column;
    of.bias = a.bias == NULL ? NULL : a.bias + h % H * SWT_BIAS_DISTANCES + SWT_BIAS_REACH;
    of.width = H * D;
    of.y_at = b * queries * of.width + column;
    of.lse_at = h * queries;
    of.first = (keys ? tile : tiles_of_head - 1 - tile) * TILE;
    of.causal = d.mask == SWT_MASK_CAUSAL;
    of.q = head_rows<T>{(const T *)a.q + of.q_at, q_stride, queries, D, wide};
    of.k = head_rows<T>{(const T *)a.k + of.kv_at, kv_stride, count, D, wide};
    of.v = head_rows<T>{(const T *)a.v + of.kv_at, kv_stride, count, D, wide};
    return of;
}

/* What is added to the score of a query and a key. */
template <typename T> static __device__ inline float bias_of(const head<T> &h, int query, int key) {
    const int distance = key - query, reach = SWT_BIAS_REACH;
    if (h.bias == NULL)
        return 0;
    return h.bias[distance < -reach ? -reach : distance > reach ? reach : distance];
}

/* How many keys a query sees: the first ones. */
template <typename T> static __device__ inline int keys_seen(const head<T> &h, int query) {
    return h.causal && query < h.k.count ? query + 1 : h.k.count;
}

/* How many the queries of the block's tile have to go through. */
template <typename T> static __device__ inline int keys_of_tile(const head<T> &h) {
    return keys_seen(h, h.first + TILE - 1);
}

/* One more tile of keys into the running maximum, sum and outputs of each row, a query: s becomes
 * exp(scale s - max), 0 where the query does not see the key. */
template <int GROUPS, typename T>
static __device__ inline void softmax_tile(float (&s)[PER][PER], float (&max)[PER],
                                           float (&sum)[PER], float (&out)[PER][4 * GROUPS],
                                           const head<T> &h, int key, float scale) {
    for (int i = 0; i < PER; i++) {
        const int query = h.first + tile_row() + i, seen = keys_seen(h, query);
        float top = max[i], part = 0;
        for (int j = 0; j < PER; j++) {
            const float score = scale * s[i][j] + bias_of(h, query, key + j * SIDE);
            s[i][j] = key + j * SIDE < seen ? score : -INFINITY;
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

/* What dropout needs beside the rest fits in no half of a multiprocessor's registers where that
 * already took all of it. */
template <typename T, int GROUPS, bool DROPS>
static __global__ void __launch_bounds__(THREADS, GROUPS < (DROPS ? 2 : 4) ? 2 : 1)
    forward_tile(const swt_step_state *state, swt_attention_forward_args a, bool wide) {
    SWT_DYNAMIC_SHARED(tiles, t);
    const head<T> h = head_of_block<T>(a, wide, false);
    if (DROPS)
        begin_dropout(t, a.dims);
    if (threadIdx.x == 0) {
        t->head_at = h.y_at;
        t->lse_at = h.lse_at;
    }
    const int keys = keys_of_tile(h);
    float s[PER][PER], out[PER][4 * GROUPS] = {}, max[PER], sum[PER] = {};
    for (int i = 0; i < PER; i++)
        max[i] = -INFINITY;
    for (int key = 0; key < keys; key += TILE) {
        if (DROPS)
            draw_kept(t, a.dims.dropout, state, h.first, key);
        score_tile(s, t, h.q, h.first, h.k, key);
        softmax_tile<GROUPS>(s, max, sum, out, h, key + tile_column(), a.dims.scale);
        if (DROPS)
            drop_rows(s, t, 1);
        keep_scores(t, s);
        add_rows<GROUPS>(out, t, h.v, key, 0);
    }
    __syncthreads();
    for (int i = 0; i < PER; i++) {
        const int row = h.first + tile_row() + i;
        if (tile_column() == 0 && row < h.q.count)
            a.lse[t->lse_at + row] = max[i] + logf(sum[i]);
        /* Without a key that is seen out is 0, too. */
        sum[i] = sum[i] == 0 ? 0 : (DROPS ? a.dims.dropout.scale : 1) / sum[i];
    }
    write_rows<GROUPS>((T *)a.y + t->head_at, h.q, h.width, h.first, 0, out, sum);
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
    of.y = head_rows<T>{(const T *)a.y + h.y_at, h.width, h.q.count, h.q.D, h.q.wide};
    of.dy = head_rows<T>{(const T *)a.dy + h.y_at, h.width, h.q.count, h.q.D, h.q.wide};
    of.lse = a.lse + h.lse_at;
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
        const T *dy = h.dy.data + row * h.dy.stride, *y = h.y.data + row * h.y.stride;
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

/* Add the tile's diagonals of scores, each in order, to the block's sums by distance, a thread
 * each; column 0 is `ahead` of row 0. Beyond the reach all distances are one: what a thread meets
 * there gathers in far. After a barrier; one must follow before scores change. */
static __device__ inline void add_diagonals(tiles *t, float (&far)[2], int ahead) {
    const int diagonal = (int)threadIdx.x - (TILE - 1), distance = ahead + diagonal;
    if (diagonal >= TILE)
        return;
    float sum = 0;
    for (int row = diagonal < 0 ? -diagonal : 0; row < TILE && row + diagonal < TILE; row++)
        sum += t->scores[row * TILE_STRIDE + row + diagonal];
    if (distance <= -SWT_BIAS_REACH)
        far[0] += sum;
    else if (distance >= SWT_BIAS_REACH)
        far[1] += sum;
    else
        t->dbias[distance + SWT_BIAS_REACH] += sum;
}

/* The block's sums. */
static __device__ inline void write_diagonals(float *sums, tiles *t, const float (&far)[2]) {
    for (int side = 0; side < 2; side++)
        t->rows[side * THREADS + threadIdx.x] = far[side];
    __syncthreads();
    for (int i = threadIdx.x; i < SWT_BIAS_DISTANCES; i += THREADS) {
        float sum = t->dbias[i];
        if (i == 0 || i == 2 * SWT_BIAS_REACH)
            for (int n = 0; n < THREADS; n++)
                sum += t->rows[(i == 0 ? 0 : THREADS) + n];
        sums[i] = sum;
    }
}

/* A thread for each of dbias's numbers: the sequences' and tiles' sums in order. */
static __global__ void bias_finish(swt_attention_backward_args a, int tiles_of_head) {
    const int64_t i = (int64_t)blockIdx.x * FINISH + threadIdx.x, H = a.dims.H;
    if (i >= H * SWT_BIAS_DISTANCES)
        return;
    const int64_t h = i / SWT_BIAS_DISTANCES, r = i % SWT_BIAS_DISTANCES, heads = a.dims.B * H;
    float sum = a.add ? a.dbias[i] : 0;
    for (int64_t b = 0; b < a.dims.B; b++)
        for (int64_t tile = 0; tile < tiles_of_head; tile++)
            sum += ((const float *)a.scratch)[(tile * heads + b * H + h) * SWT_BIAS_DISTANCES + r];
    a.dbias[i] = sum;
}

template <typename T, int GROUPS, bool DROPS>
static __global__ void __launch_bounds__(THREADS, GROUPS < 2 ? 2 : 1)
    backward_queries(const swt_step_state *state, swt_attention_backward_args a, bool wide) {
    SWT_DYNAMIC_SHARED(tiles, t);
    const head<T> h = head_of_block<T>(a, wide, false);
    if (DROPS)
        begin_dropout(t, a.dims);
    const int keys = keys_of_tile(h);
    const head_outputs<T> o = outputs_of(a, h);
    float s[PER][PER], dp[PER][PER], out[PER][4 * GROUPS] = {}, factor[PER], far[2] = {};
    if (a.dbias != NULL)
        for (int i = threadIdx.x; i < SWT_BIAS_DISTANCES; i += THREADS)
            t->dbias[i] = 0;
    load_queries(t, o, h.first);
    for (int key = 0; key < keys; key += TILE) {
        if (DROPS)
            draw_kept(t, a.dims.dropout, state, h.first, key);
        score_tile(s, t, h.q, h.first, h.k, key);
        score_tile(dp, t, o.dy, h.first, h.v, key);
        if (DROPS)
            drop_rows(dp, t, a.dims.dropout.scale);
        for (int i = 0; i < PER; i++)
            for (int j = 0; j < PER; j++) {
                const int at = tile_row() + i, query = h.first + at;
                const int to = key + tile_column() + j * SIDE;
                const float score = a.dims.scale * s[i][j] + bias_of(h, query, to);
                s[i][j] = to < keys_seen(h, query)
                              ? expf(score - t->lse[at]) * (dp[i][j] - t->delta[at])
                              : 0;
            }
        keep_scores(t, s);
        add_rows<GROUPS>(out, t, h.k, key, 0);
        if (a.dbias != NULL)
            add_diagonals(t, far, key - h.first);
    }
    if (a.dbias != NULL)
        write_diagonals((float *)a.scratch + blockIdx.x * SWT_BIAS_DISTANCES, t, far);
    for (int i = 0; i < PER; i++)
        factor[i] = a.dims.scale;
    write_rows<GROUPS>((T *)a.dq + h.q_at, h.q, h.q.stride, h.first, 0, out, factor);
}

/* Rows of the tile are keys here, columns queries. blockIdx.y: which GROUPS TILE columns of dk and
 * dv (a wide head's do not all fit in a block's registers). */
template <typename T, int GROUPS, bool DROPS>
static __global__ void __launch_bounds__(THREADS, GROUPS < 2 && !DROPS ? 2 : 1)
    backward_keys(const swt_step_state *state, swt_attention_backward_args a, bool wide) {
    SWT_DYNAMIC_SHARED(tiles, t);
    const head<T> h = head_of_block<T>(a, wide, true);
    const head_outputs<T> o = outputs_of(a, h);
    if (DROPS)
        begin_dropout(t, a.dims);
    if (threadIdx.x == 0)
        t->head_at = h.kv_at;
    const int column = (int)blockIdx.y * GROUPS * TILE;
    float s[PER][PER], dp[PER][PER], dk[PER][4 * GROUPS] = {}, dv[PER][4 * GROUPS] = {};
    float ones[PER], factor[PER];
    for (int first = h.causal ? h.first : 0; first < h.q.count; first += TILE) {
        load_queries(t, o, first);
        if (DROPS)
            draw_kept(t, a.dims.dropout, state, first, h.first);
        score_tile(s, t, h.k, h.first, h.q, first);
        score_tile(dp, t, h.v, h.first, o.dy, first);
        if (DROPS)
            drop_columns(dp, t, a.dims.dropout.scale);
        for (int i = 0; i < PER; i++)
            for (int j = 0; j < PER; j++) {
                const int at = tile_column() + j * SIDE, query = first + at;
                const int key = h.first + tile_row() + i;
                const bool seen = key < keys_seen(h, query);
                const float score = a.dims.scale * s[i][j] + bias_of(h, query, key);
                s[i][j] = seen ? expf(score - t->lse[at]) : 0;
                dp[i][j] = seen ? s[i][j] * (dp[i][j] - t->delta[at]) : 0;
            }
        if (DROPS)
            drop_columns(s, t, a.dims.dropout.scale);
        keep_scores(t, s);
        add_rows<GROUPS>(dv, t, o.dy, first, column);
        keep_scores(t, dp);
        add_rows<GROUPS>(dk, t, h.q, first, column);
    }
    __syncthreads();
    for (int i = 0; i < PER; i++) {
        ones[i] = 1;
        factor[i] = a.dims.scale;
    }
    head_rows<T> all = h.k; /* those beyond the sequence's length, too: zeros */
    all.count = (int)a.dims.Tk;
    write_rows<GROUPS>((T *)a.dk + t->head_at, all, all.stride, h.first, column, dk, factor);
    write_rows<GROUPS>((T *)a.dv + t->head_at, all, all.stride, h.first, column, dv, ones);
}

/* Blocks for the tiles of all heads, of T rows each. */
static unsigned blocks_of_heads(const swt_attention_dims *d, int64_t T) {
    return blocks_of(T, TILE) * (unsigned)(d->B * d->H);
}

/* How many groups of TILE columns a head has: kernels are made for 1, 2 and 4 of them. */
template <int N> struct groups { static constexpr int count = N; };

/* Whether weights are dropped. */
template <bool DROPS> struct dropping { static constexpr bool is = DROPS; };

/* Call launch(kernel_kind, groups, dropping) for the context's type of activations, a head's width
 * and its dropout. */
template <typename F>
SWT_MUST_CHECK static inline swt_status by_head(const swt_ctx *c, const swt_attention_dims *d,
                                                F launch) {
    const auto by_width = [&](auto as, auto drops) {
        return d->D <= TILE       ? launch(as, groups<1>(), drops)
               : d->D <= 2 * TILE ? launch(as, groups<2>(), drops)
                                  : launch(as, groups<4>(), drops);
    };
    return by_type(c, [&](auto as) {
        return d->dropout.limit > 0 ? by_width(as, dropping<true>())
                                    : by_width(as, dropping<false>());
    });
}

/* Whether the rows of tensors that start at multiples of `places`, q's and k's strides apart, can
 * be read and written in the widest vectors. */
template <typename T> static bool rows_take_widest(const swt_attention_dims *d, uintptr_t places) {
    return takes_widest<T>(d->D) && takes_widest<T>(d->q_stride) && takes_widest<T>(d->kv_stride) &&
           places % (WIDEST<T> * sizeof(T)) == 0;
}

static bool is_empty(const swt_attention_dims *d) {
    return d->B == 0 || d->H == 0 || d->D == 0;
}

swt_status swt_cuda_attention_forward(const swt_ctx *c, const swt_attention_forward_args *a) {
    const uintptr_t places = (uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v;
    if (is_empty(&a->dims) || a->dims.Tq == 0)
        return SWT_OK;
    return by_head(c, &a->dims, [&](auto as, auto of, auto drops) {
        typedef typename decltype(as)::type T;
        const auto kernel = forward_tile<T, decltype(of)::count, decltype(drops)::is>;
        return SWT_LAUNCH(kernel, blocks_of_heads(&a->dims, a->dims.Tq), THREADS, sizeof(tiles),
                          swt_cuda_stream(c), c->state, *a, rows_take_widest<T>(&a->dims, places));
    });
}

static swt_status finish_bias(const swt_ctx *c, const swt_attention_backward_args *a) {
    const int64_t numbers = a->dims.H * SWT_BIAS_DISTANCES;
    if (a->dbias == NULL || numbers == 0)
        return SWT_OK;
    return SWT_LAUNCH(bias_finish, blocks_of(numbers, FINISH), FINISH, 0, swt_cuda_stream(c), *a,
                      (int)blocks_of(a->dims.Tq, TILE));
}

swt_status swt_cuda_attention_backward(const swt_ctx *c, const swt_attention_backward_args *a) {
    const swt_attention_dims *d = &a->dims;
    const uintptr_t places = (uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v |
                             (uintptr_t)a->dq | (uintptr_t)a->dk | (uintptr_t)a->dv;
    if (is_empty(d)) {
        swt_attention_backward_args nothing = *a;
        nothing.dims.B = 0;
        return finish_bias(c, &nothing);
    }
    return by_head(c, d, [&](auto as, auto of, auto drops) {
        typedef typename decltype(as)::type T;
        enum { GROUPS = decltype(of)::count, KEY_GROUPS = GROUPS < 2 ? GROUPS : 2 };
        const auto queries = backward_queries<T, GROUPS, decltype(drops)::is>;
        const auto keys = backward_keys<T, KEY_GROUPS, decltype(drops)::is>;
        const bool wide = rows_take_widest<T>(d, places);
        if (d->Tq > 0)
            SWT_TRY(SWT_LAUNCH(queries, blocks_of_heads(d, d->Tq), THREADS, sizeof(tiles),
                               swt_cuda_stream(c), c->state, *a, wide));
        SWT_TRY(finish_bias(c, a));
        if (d->Tk == 0)
            return SWT_OK;
        const dim3 grid(blocks_of_heads(d, d->Tk), blocks_of(d->D, KEY_GROUPS * TILE));
        return SWT_LAUNCH(keys, grid, THREADS, sizeof(tiles), swt_cuda_stream(c), c->state, *a,
                          wide);
    });
}
