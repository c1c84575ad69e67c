/* What the attention kernels are made of: gemms of tiles of TILE rows, in shared memory and
 * registers.
 *
 * A block of 16 x 16 threads works on a tile of TILE x TILE scores, of which a thread holds those
 * of 4 rows (4 ty + i) and 4 columns (tx + 16 j), and on outputs of TILE rows, of which it holds
 * the same 4 rows and, of every 64 columns, 4 neighbours (4 tx + j). A score is one chain of
 * multiply-adds over the head's width, an output one over the tiles' rows, both in order. */
#ifndef SWT_CUDA_ATTENTION_TILE_CUH
#define SWT_CUDA_ATTENTION_TILE_CUH

#include "kernels/cuda/wide.cuh"

enum {
    TILE = 64,
    SIDE = 16, /* threads along each side of a tile */
    PER = TILE / SIDE,
    THREADS = SIDE * SIDE,
    SHORT = 32,               /* columns of rows that a gemm of scores takes at a time */
    SHORT_STRIDE = SHORT + 4, /* padding: whole vectors, and rows in different banks */
    TILE_STRIDE = TILE + 4,
    KEPT_STRIDE = 5 /* 4 words; a stride of 5 is a product in PTX, one of 4 moves bits */
};

/* Shared memory of a block: the scores' factors or the outputs' rows, and a tile of scores. */
typedef struct tiles {
    union {
        float factors[2][TILE * SHORT_STRIDE];
        float rows[TILE * TILE_STRIDE];
    };
    float scores[TILE * TILE_STRIDE];
    float lse[TILE], delta[TILE]; /* of queries, backward */
    float dbias[SWT_BIAS_DISTANCES];
    /* Where the block's head stands in what is written at the end (y or k's gradient) and in lse.
     */
    int64_t head_at, lse_at;
    /* Of dropout: the draws' row, how many a query has, and of a query which weights of the tile
     * are not dropped, 16 bits for 16 keys. Here, as those, lest they take registers all the time.
     */
    uint32_t drop_row, drop_draws;
    uint16_t kept[TILE * KEPT_STRIDE];
} tiles;

/* Rows of a head: row t stands at `at + t stride`, and has D columns; there are T. */
template <typename T> struct head_rows {
    const T *data;
    int stride, count, D;
    bool wide; /* rows can be read in the widest vectors */
};

static __device__ inline int tile_row() {
    return threadIdx.x / SIDE * PER;
}

static __device__ inline int tile_column() {
    return threadIdx.x % SIDE;
}

/* to[r][c] = rows[first + r][column + c] for r < TILE, c < COLUMNS; 0 outside. */
template <int COLUMNS, typename T>
static __device__ inline void load_tile(float *to, const head_rows<T> &from, int first,
                                        int column) {
    enum { W = WIDEST<T>, ACROSS = COLUMNS / W, STRIDE = COLUMNS + 4 };
    if (from.wide) {
#pragma unroll
        for (int n = 0; n < TILE * ACROSS / THREADS; n++) {
            const int i = n * THREADS + (int)threadIdx.x;
            const int r = i / ACROSS, c = i % ACROSS * W;
            float v[W] = {};
            if (first + r < from.count && column + c < from.D)
                load_wide(v, from.data + (int64_t)(first + r) * from.stride + column + c);
            store_wide(to + r * STRIDE + c, v);
        }
        return;
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < TILE * COLUMNS; i += THREADS) {
        const int r = i / COLUMNS, c = i % COLUMNS;
        const bool inside = first + r < from.count && column + c < from.D;
        to[r * STRIDE + c] =
            inside ? to_float(from.data[(int64_t)(first + r) * from.stride + column + c]) : 0;
    }
}

/* s[i][j] = a[a_first + 4 ty + i] . b[b_first + tx + 16 j]. All threads; ends with a barrier. */
template <typename T>
static __device__ inline void score_tile(float (&s)[PER][PER], tiles *t, const head_rows<T> &a,
                                         int a_first, const head_rows<T> &b, int b_first) {
    const float *x = t->factors[0] + tile_row() * SHORT_STRIDE;
    const float *y = t->factors[1] + tile_column() * SHORT_STRIDE;
    for (int i = 0; i < PER; i++)
        for (int j = 0; j < PER; j++)
            s[i][j] = 0;
#pragma unroll 1
    for (int column = 0; column < a.D; column += SHORT) {
        load_tile<SHORT>(t->factors[0], a, a_first, column);
        load_tile<SHORT>(t->factors[1], b, b_first, column);
        __syncthreads();
#pragma unroll 1
        for (int k = 0; k < SHORT; k += 4) {
            float u[PER][4], v[4];
            for (int i = 0; i < PER; i++)
                load_wide(u[i], x + i * SHORT_STRIDE + k);
            for (int j = 0; j < PER; j++) {
                load_wide(v, y + j * SIDE * SHORT_STRIDE + k);
                for (int i = 0; i < PER; i++)
                    for (int l = 0; l < 4; l++)
                        s[i][j] += u[i][l] * v[l];
            }
        }
        __syncthreads();
    }
}

/* The block's head is number blockIdx.x of all in turn. All threads; ends with a barrier. */
static __device__ inline void begin_dropout(tiles *t, const swt_attention_dims &d) {
    if (threadIdx.x == 0) {
        t->drop_row = d.dropout.first + blockIdx.x % (unsigned)(d.B * d.H);
        t->drop_draws = (uint32_t)swt_dropout_draws(d.Tk);
    }
    __syncthreads();
}

/* Which of the tile's weights, of the queries from `first` on and the keys from `key` on, dropout
 * keeps. A thread makes the four draws of 16 keys of a query: bit 4 w + l of what it writes is that
 * of key 16 w + 4 quarter + l. All threads; a barrier must follow. */
static __device__ inline void draw_kept(tiles *t, const swt_dropout_mask &m,
                                        const swt_step_state *state, int first, int key) {
    const int query = threadIdx.x / 4, quarter = threadIdx.x % 4;
    const uint32_t draw =
        (uint32_t)(first + query) * t->drop_draws + (uint32_t)(key / TILE * SIDE + quarter * 4);
    unsigned kept = 0;
#pragma unroll 1
    for (int l = 0; l < 4; l++) {
        const swt_rng_u32x4 words = swt_dropout_words(&m, state, t->drop_row, draw + (uint32_t)l);
        for (int w = 0; w < 4; w++)
            kept |= (unsigned)(words.v[w] >= m.limit) << (4 * w + l);
    }
    t->kept[query * KEPT_STRIDE + quarter] = (uint16_t)kept;
}

/* s[i][j] *= scale, or becomes 0 where it is dropped. Rows are queries. */
static __device__ inline void drop_rows(float (&s)[PER][PER], const tiles *t, float scale) {
    const uint16_t *const kept = t->kept + tile_row() * KEPT_STRIDE + tile_column() / 4;
    const unsigned bit = 1u << (tile_column() % 4);
    for (int i = 0; i < PER; i++)
        for (int j = 0; j < PER; j++)
            s[i][j] = kept[i * KEPT_STRIDE] & bit << (4 * j) ? s[i][j] * scale : 0;
}

/* The same: columns are queries. */
static __device__ inline void drop_columns(float (&s)[PER][PER], const tiles *t, float scale) {
    const int keys = tile_row() / PER; /* which 4 of the 64 */
    const uint16_t *const kept = t->kept + tile_column() * KEPT_STRIDE + keys % 4;
    const unsigned bit = 1u << (keys / 4 * 4);
    for (int j = 0; j < PER; j++)
        for (int i = 0; i < PER; i++)
            s[i][j] = kept[j * SIDE * KEPT_STRIDE] & bit << i ? s[i][j] * scale : 0;
}

/* Put this thread's scores into t->scores, where only threads of its own row of threads read them.
 * A barrier of the block must follow. */
static __device__ inline void keep_scores(tiles *t, const float (&s)[PER][PER]) {
    for (int i = 0; i < PER; i++)
        for (int j = 0; j < PER; j++)
            t->scores[(tile_row() + i) * TILE_STRIDE + tile_column() + j * SIDE] = s[i][j];
}

/* out[i][4 g + j] += sum_k scores[4 ty + i][k] rows[first + k][column + 64 g + 4 tx + j]. All
 * threads; ends with a barrier. */
template <int GROUPS, typename T>
static __device__ inline void add_rows(float (&out)[PER][4 * GROUPS], tiles *t,
                                       const head_rows<T> &rows, int first, int column) {
    const float *x = t->scores + tile_row() * TILE_STRIDE, *y = t->rows + tile_column() * 4;
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        if (column + g * TILE >= rows.D) /* the same for all threads */
            continue;
        load_tile<TILE>(t->rows, rows, first, column + g * TILE);
        __syncthreads();
#pragma unroll 1
        for (int k = 0; k < TILE; k += 4) {
            float u[PER][4], v[4];
            for (int i = 0; i < PER; i++)
                load_wide(u[i], x + i * TILE_STRIDE + k);
            for (int l = 0; l < 4; l++) {
                load_wide(v, y + (k + l) * TILE_STRIDE);
                for (int i = 0; i < PER; i++)
                    for (int j = 0; j < 4; j++)
                        out[i][g * 4 + j] += u[i][l] * v[j];
            }
        }
        __syncthreads();
    }
}

/* to[first + 4 ty + i][column + 64 g + 4 tx + j] = factor[i] out[i][4 g + j], rows and columns
 * inside. */
template <int GROUPS, typename T>
static __device__ inline void write_rows(T *to, const head_rows<T> &like, int stride, int first,
                                         int column, const float (&out)[PER][4 * GROUPS],
                                         const float (&factor)[PER]) {
    for (int i = 0; i < PER; i++) {
        const int64_t row = first + tile_row() + i;
        if (row >= like.count)
            return;
        for (int g = 0; g < GROUPS; g++) {
            const int at = column + g * TILE + tile_column() * 4;
            float v[4];
            for (int j = 0; j < 4; j++)
                v[j] = factor[i] * out[i][g * 4 + j];
            if (like.wide && at < like.D)
                store_wide(to + row * stride + at, v);
            for (int j = 0; j < 4 && !like.wide; j++)
                if (at + j < like.D)
                    to[row * stride + at + j] = from_float<T>(v[j]);
        }
    }
}

/* Sum and maximum over the 16 threads that hold a row of scores, on each of them. */
static __device__ inline float row_sum(float x) {
    for (int step = SIDE / 2; step > 0; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

static __device__ inline float row_max(float x) {
    for (int step = SIDE / 2; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

#endif
