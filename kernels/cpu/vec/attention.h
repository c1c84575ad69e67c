/* Attention of one head, in tiles of KEYS keys and blocks of queries in the caller's scratch: any T
 * in the same memory, and the scores stay in the first cache levels. Included by vec.c alone.
 *
 * Queries, keys and values are read where they lie; only what must have positions in lanes is
 * transposed. Scores are in units of ln 2, so that the softmax takes powers of 2. */
#ifndef SWT_CPU_ATTENTION_H
#define SWT_CPU_ATTENTION_H

#include "kernels/cpu/vec/dropout.h"
#include "kernels/cpu/vec/rows.h"
#include "kernels/cpu/vec/tile.h"
#include "kernels/cpu/vec/vec.h"

enum { KEYS = 64, WIDTH_MAX = SWT_HEAD_WIDTH_MAX };

static const float LOG2_E = 0x1.715476p+0f, LN_2 = 0x1.62e430p-1f;

/* Fetches the next head's rows into the cache, a few at a time between the gemms: rows of a
 * strided tensor come too late otherwise. */
typedef struct fetch {
    operand list[8];
    int tensors;
    int64_t row, rows, D;
} fetch;

static void fetch_rows(fetch *f) {
    const int64_t line = 64 / sizeof(float), D = f->D, row = f->row;
    const int64_t rows = swt_min(4, f->rows - row);
    for (int i = 0; i < f->tensors; i++) {
        const float *next = f->list[i].data + row * f->list[i].row;
        for (int64_t r = 0; r < rows; r++, next += f->list[i].row)
            for (int64_t d = 0; d < D; d += line)
                __builtin_prefetch(next + d, 0, 2);
    }
    f->row += rows;
}

/* The rows of a next head that are fetched; 0: there is none. */
static int64_t rows_ahead(const swt_vec_head *h) {
    return h->next_y != 0 ? swt_min(h->Tq, h->Tk) : 0;
}

/* How far the tile of keys from j on is ahead of the queries from i on: key j + c comes after query
 * i + r where ahead + c > r. Without a causal mask: so far behind that none does. */
static int64_t ahead_of(const swt_vec_head *h, int64_t j, int64_t i) {
    return h->causal ? j - i : -KEYS;
}

/* ------------------------------------------------------------------ the bias by distance */

/* A head's biases as vectors of neighbouring distances read them, wherever they begin: beyond the
 * reach on a side all are the same, and a vector of that is there once. */
enum { BIAS_BEGIN = -SWT_BIAS_REACH - LANES, BIAS_COUNT = 2 * (SWT_BIAS_REACH + LANES) };

/* Where the vector stands whose first number is that of distance `first`. */
static int64_t bias_at(int64_t first) {
    return swt_min(swt_max(first, BIAS_BEGIN), SWT_BIAS_REACH) - BIAS_BEGIN;
}

static int64_t within_reach(int64_t distance) {
    return swt_min(swt_max(distance, -SWT_BIAS_REACH), SWT_BIAS_REACH);
}

/* side: 1, or -1 for distances from key to query. In units of ln 2, as the scores. */
static void spread_bias(float *spread, const float *bias, int64_t side) {
    for (int64_t i = 0; i < BIAS_COUNT; i++)
        spread[i] = bias[SWT_BIAS_REACH + side * within_reach(BIAS_BEGIN + i)] * LOG2_E;
}

/* The sums of such vectors, of what is scale times the gradient of scores. */
static void gather_bias(float *dbias, const float *sums, float scale) {
    for (int64_t i = 0; i < SWT_BIAS_DISTANCES; i++)
        dbias[i] = 0;
    for (int64_t i = 0; i < BIAS_COUNT; i++)
        dbias[SWT_BIAS_REACH + within_reach(BIAS_BEGIN + i)] += sums[i];
    for (int64_t i = 0; i < SWT_BIAS_DISTANCES; i++)
        dbias[i] /= scale;
}

/* ------------------------------------------------------------------ forward: a query per lane */

enum { QUERIES = 2 * LANES };

typedef struct forward_block {
    _Alignas(64) float queries[WIDTH_MAX * QUERIES]; /* (D, QUERIES), times scale / ln 2 */
    _Alignas(64) float p[KEYS * QUERIES];            /* scores, then 2^(score - max) */
    _Alignas(64) float factor[QUERIES];              /* for what was summed under an older max */
    _Alignas(64) float inverse[QUERIES];             /* 1 / total, times what scales kept weights */
    vf max[2], total[2];
    bool biased;
    float bias[BIAS_COUNT]; /* from key to query */
    fetch next;
} forward_block;
_Static_assert(sizeof(forward_block) <= SWT_SCRATCH_BYTES, "a thread's scratch");

/* Scores of ROWS keys, of which there are `count` and the first is `ahead` of the first query, with
 * vectors first, ..., 1 of the queries; `distance`: the same, whatever the mask. */
ALWAYS_INLINE void forward_scores(forward_block *b, const int first, float *p, operand keys,
                                  int64_t count, int64_t D, int64_t ahead, int64_t distance) {
    vf s[ROWS][2] = {{{0}}};
    const operand queries = {b->queries + first * LANES, QUERIES, 1};
    multiply_add(s, ROWS, 2 - first, keys, queries, LANES, D);
#pragma GCC unroll 2
    for (int v = first; v < 2; v++) {
        const vi query = lane_numbers() + (int32_t)(v * LANES - ahead); /* after the first key */
        vf max = b->max[v];
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            vf score = s[i][v - first];
            if (b->biased)
                score += load(b->bias + bias_at(v * LANES - distance - i), LANES);
            if (ahead + ROWS > v * LANES) /* some keys come after some queries */
                score = blend(query < i, splat(-INFINITY), score);
            if (i >= count)
                score = splat(-INFINITY);
            max = max_of(max, score);
            store(p + i * QUERIES + v * LANES, score, LANES);
        }
        b->max[v] = max;
    }
}

/* kept: what scales the weights that are not dropped. */
static void forward_softmax(forward_block *b, const vf old_max[2], int64_t keys, int64_t ahead,
                            float kept) {
    for (int v = 0; v < 2; v++) {
        const vf max = b->max[v], factor = exp2_of(old_max[v] - max);
        vf total = b->total[v] * factor;
        for (int64_t j = 0; j < swt_min(keys, (v + 1) * LANES - ahead); j++) {
            float *p = b->p + j * QUERIES + v * LANES;
            const vf e = exp2_of(load(p, LANES) - max);
            store(p, e, LANES);
            total += e;
        }
        b->total[v] = total;
        store(b->factor + v * LANES, factor, LANES);
        store(b->inverse + v * LANES, kept / total, LANES);
    }
}

/* Zeros where a weight is dropped, of the queries from top on and the tile of keys from j on: of
 * four keys 16 apart a query has one draw. */
static void forward_drop(forward_block *b, const swt_vec_head *h, int64_t top, int64_t j,
                         int64_t keys, int64_t ahead) {
    for (int64_t v = 0; v < 2; v++) {
        const int64_t seen = swt_min(keys, (v + 1) * LANES - ahead);
        const vu queries = (vu)lane_numbers() + (uint32_t)(top + v * LANES);
        for (int64_t c = 0; c < swt_min(SWT_DROPOUT_DRAWS, seen); c++) {
            vu words[4];
            draw_words(words, queries * h->dropout->draws + (uint32_t)(j / 4 + c), h->dropout);
            for (int64_t w = 0, key = c; w < 4 && key < seen; w++, key += SWT_DROPOUT_DRAWS) {
                float *p = b->p + key * QUERIES + v * LANES;
                store(p, where_kept(words[w], load(p, LANES), h->dropout), LANES);
            }
        }
    }
}

/* The queries from top on against the tile of keys from j on; y gathers over the tiles, of which
 * this may be the last. */
static void forward_tile(forward_block *b, float *y, const swt_vec_head *h, int64_t top, int64_t j,
                         bool last) {
    float copy[ROWS * WIDTH_MAX];
    const int64_t queries = swt_min(QUERIES, h->Tq - top), keys = swt_min(KEYS, h->Tk - j);
    const int64_t ahead = ahead_of(h, j, top), distance = j - top;
    const vf old_max[2] = {b->max[0], b->max[1]};
    for (int64_t r = 0; r < keys && ahead + r < QUERIES; r += ROWS) {
        const operand k = {h->k + (j + r) * h->kv_stride, h->kv_stride, 1};
        const operand rows = whole_rows(k, keys - r, ROWS, h->D, copy);
        fetch_rows(&b->next);
        if (ahead + r < LANES)
            forward_scores(b, 0, b->p + r * QUERIES, rows, keys - r, h->D, ahead + r, distance + r);
        else
            forward_scores(b, 1, b->p + r * QUERIES, rows, keys - r, h->D, ahead + r, distance + r);
    }
    forward_softmax(b, old_max, keys, ahead, h->dropout != NULL ? h->dropout->scale : 1.0f);
    if (h->dropout != NULL)
        forward_drop(b, h, top, j, keys, ahead);
    for (int64_t i = 0; i < queries; i += ROWS) {
        fetch_rows(&b->next);
        gemm_rows(&(gemm){.out = {y + (top + i) * h->y_stride, h->y_stride},
                          .a = {b->p + i, 1, QUERIES},
                          .b = {h->v + j * h->kv_stride, h->kv_stride, 1},
                          .before = j > 0 ? b->factor + i : NULL,
                          .after = last ? b->inverse + i : NULL,
                          .rows = queries - i,
                          .n = h->D,
                          .k = swt_min(keys, i + ROWS - ahead)});
    }
}

static void attention_forward(float *y, float *lse, const swt_vec_head *h, void *scratch) {
    forward_block *b = scratch;
    b->next = (fetch){.list = {{h->q + h->next_q, h->q_stride, 1},
                               {h->k + h->next_kv, h->kv_stride, 1},
                               {h->v + h->next_kv, h->kv_stride, 1},
                               {y + h->next_y, h->y_stride, 1}},
                      .tensors = 4,
                      .rows = rows_ahead(h),
                      .D = h->D};
    b->biased = h->bias != NULL;
    if (b->biased)
        spread_bias(b->bias, h->bias, -1);
    for (int64_t top = 0; top < h->Tq; top += QUERIES) {
        for (int v = 0; v < 2; v++) {
            const int64_t i = top + v * LANES;
            pack_transposed((matrix){b->queries + v * LANES, QUERIES},
                            (operand){h->q + i * h->q_stride, h->q_stride, 1}, h->Tq - i, h->D,
                            h->scale * LOG2_E);
            b->max[v] = splat(-INFINITY);
            b->total[v] = (vf){0};
        }
        const int64_t keys = h->causal ? swt_min(h->Tk, top + QUERIES) : h->Tk;
        for (int64_t j = 0; j < keys; j += KEYS)
            forward_tile(b, y, h, top, j, j + KEYS >= keys);
        for (int v = 0; v < 2 && top + v * LANES < h->Tq; v++)
            store(lse + top + v * LANES, b->max[v] * LN_2 + log_of(b->total[v]),
                  h->Tq - top - v * LANES);
    }
}

/* ------------------------------------------------------------------ backward: a key per lane */

typedef struct backward_tile {
    _Alignas(64) float keys[WIDTH_MAX * KEYS];   /* (D, KEYS), times scale / ln 2 */
    _Alignas(64) float values[WIDTH_MAX * KEYS]; /* (D, KEYS), times scale */
    _Alignas(64) float p[KEYS * KEYS], ds[KEYS * KEYS];
    float lse[KEYS];   /* / ln 2 */
    float delta[KEYS]; /* scale dy . y */
    bool biased, bias_learns, drops;
    _Alignas(64) float kept[KEYS]; /* of one query: 0 where the weight of a key is dropped */
    float bias[BIAS_COUNT], dbias[BIAS_COUNT]; /* from query to key; sums of scale ds */
    fetch next;
} backward_tile;
_Static_assert(sizeof(backward_tile) <= SWT_SCRATCH_BYTES, "a thread's scratch");

/* What the weights of a query and of the tile of keys from j on are multiplied by. */
static void draw_kept(backward_tile *b, const swt_vec_head *h, int64_t query, int64_t j) {
    const uint32_t first = (uint32_t)query * h->dropout->draws + (uint32_t)(j / 4);
    for (int64_t lane = 0; lane < SWT_DROPOUT_DRAWS; lane += LANES) {
        vu words[4];
        draw_words(words, (vu)lane_numbers() + (first + (uint32_t)lane), h->dropout);
        for (int64_t w = 0; w < 4; w++)
            store(b->kept + w * SWT_DROPOUT_DRAWS + lane,
                  where_kept(words[w], splat(h->dropout->scale), h->dropout), LANES);
    }
}

/* From scores (in p) and dp (in ds) of query r of the block to p and scale ds, with dropout of
 * m p and of ds by m dp. The query sees the
 * tile's first `visible` keys, the first of them at `distance`; n is a multiple of LANES. */
static void score_gradients(backward_tile *b, int64_t r, int64_t visible, int64_t distance,
                            int64_t n) {
    const float lse = b->lse[r], delta = b->delta[r];
    float *p = b->p + r * KEYS, *ds = b->ds + r * KEYS;
    for (int64_t c = 0; c < n; c += LANES) {
        vf score = load(p + c, LANES);
        if (b->biased)
            score += load(b->bias + bias_at(distance + c), LANES);
        vf e = exp2_of(score - lse), dp = load(ds + c, LANES);
        const vf kept = b->drops ? load(b->kept + c, LANES) : splat(1);
        if (b->drops)
            dp *= kept;
        vf gradient = e * (dp - delta);
        if (b->drops)
            e *= kept;
        if (visible < c + LANES) {
            e = first_lanes(e, visible - c, (vf){0});
            gradient = first_lanes(gradient, visible - c, (vf){0});
        }
        store(p + c, e, LANES);
        store(ds + c, gradient, LANES);
        if (b->bias_learns) {
            float *sum = b->dbias + bias_at(distance + c);
            store(sum, load(sum, LANES) + gradient, LANES);
        }
    }
}

/* p and ds of the queries from i on against the tile of keys from j on. */
static void backward_scores(backward_tile *b, const swt_vec_head_backward *a, int64_t i,
                            int64_t j) {
    float copy[ROWS * WIDTH_MAX];
    const swt_vec_head *h = a->head;
    const int64_t rows = swt_min(KEYS, h->Tq - i), keys = swt_min(KEYS, h->Tk - j);
    const int64_t ahead = ahead_of(h, j, i);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t at = (i + r) * h->y_stride;
        b->lse[r] = a->lse[i + r] * LOG2_E;
        b->delta[r] = row_dot(a->dy + at, a->y + at, h->D) * h->scale;
    }
    for (int64_t r = 0; r < rows; r += ROWS) {
        const operand q = {h->q + (i + r) * h->q_stride, h->q_stride, 1};
        const operand dy = {a->dy + (i + r) * h->y_stride, h->y_stride, 1};
        const int64_t n = whole_vectors(swt_min(keys, r + ROWS - ahead));
        gemm p = {.out = {b->p + r * KEYS, KEYS},
                  .a = whole_rows(q, rows - r, ROWS, h->D, copy),
                  .b = {b->keys, KEYS, 1},
                  .rows = ROWS,
                  .n = n,
                  .k = h->D};
        fetch_rows(&b->next);
        gemm_rows(&p);
        p.out.data = b->ds + r * KEYS;
        p.a = whole_rows(dy, rows - r, ROWS, h->D, copy);
        p.b.data = b->values;
        gemm_rows(&p);
        for (int64_t t = r; t < swt_min(r + ROWS, rows); t++) {
            if (b->drops)
                draw_kept(b, h, i + t, j);
            score_gradients(b, t, swt_min(t + 1 - ahead, keys), j - i - t, n);
        }
    }
}

/* Their part of the gradients; of those of the keys it is the first, or not. */
static void backward_gemms(backward_tile *b, const swt_vec_head_backward *a, int64_t i, int64_t j,
                           bool first) {
    static const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1}; /* ROWS or more */
    const swt_vec_head *h = a->head;
    const int64_t stride = h->kv_stride, ahead = ahead_of(h, j, i);
    const int64_t rows = swt_min(KEYS, h->Tq - i), keys = swt_min(KEYS, h->Tk - j);
    for (int64_t c = 0; c < keys; c += ROWS) {
        const int64_t top = swt_max(ahead + c, 0); /* earlier queries see none of the keys */
        gemm p = {.out = {a->dv + (j + c) * stride, stride},
                  .a = {b->p + top * KEYS + c, 1, KEYS},
                  .b = {a->dy + (i + top) * h->y_stride, h->y_stride, 1},
                  .before = first ? NULL : ones,
                  .rows = keys - c,
                  .n = h->D,
                  .k = rows - top};
        fetch_rows(&b->next);
        gemm_rows(&p);
        p.out.data = a->dk + (j + c) * stride;
        p.a.data = b->ds + top * KEYS + c;
        p.b = (operand){h->q + (i + top) * h->q_stride, h->q_stride, 1};
        gemm_rows(&p);
    }
    for (int64_t r = 0; r < rows; r += ROWS)
        gemm_rows(&(gemm){.out = {a->dq + (i + r) * h->q_stride, h->q_stride},
                          .a = {b->ds + r * KEYS, KEYS, 1},
                          .b = {h->k + j * stride, stride, 1},
                          .before = j > 0 ? ones : NULL,
                          .rows = rows - r,
                          .n = h->D,
                          .k = swt_min(keys, r + ROWS - ahead)});
}

/* A tile of keys at a time: its dk and dv gather over the queries (with a causal mask: from the
 * diagonal on), while dq gathers over the tiles. */
static void attention_backward(const swt_vec_head_backward *a, void *scratch) {
    const swt_vec_head *h = a->head;
    const int64_t stride = h->kv_stride;
    backward_tile *b = scratch;
    b->next = (fetch){.list = {{h->q + h->next_q, h->q_stride, 1},
                               {h->k + h->next_kv, stride, 1},
                               {h->v + h->next_kv, stride, 1},
                               {a->dq + h->next_q, h->q_stride, 1},
                               {a->dk + h->next_kv, stride, 1},
                               {a->dv + h->next_kv, stride, 1},
                               {a->dy + h->next_y, h->y_stride, 1},
                               {a->y + h->next_y, h->y_stride, 1}},
                      .tensors = 8,
                      .rows = rows_ahead(h),
                      .D = h->D};
    b->biased = h->bias != NULL;
    b->bias_learns = a->dbias != NULL;
    b->drops = h->dropout != NULL;
    if (b->biased)
        spread_bias(b->bias, h->bias, 1);
    for (int64_t i = 0; i < BIAS_COUNT && b->bias_learns; i++)
        b->dbias[i] = 0;
    for (int64_t j = 0; j < h->Tk; j += KEYS) {
        for (int64_t c = 0; c < KEYS && j + c < h->Tk; c += LANES) {
            const int64_t at = (j + c) * stride, rows = h->Tk - j - c;
            pack_transposed((matrix){b->keys + c, KEYS}, (operand){h->k + at, stride, 1}, rows,
                            h->D, h->scale * LOG2_E);
            pack_transposed((matrix){b->values + c, KEYS}, (operand){h->v + at, stride, 1}, rows,
                            h->D, h->scale);
        }
        const int64_t first = h->causal ? j : 0;
        for (int64_t i = first; i < h->Tq; i += KEYS) {
            backward_scores(b, a, i, j);
            backward_gemms(b, a, i, j, i == first);
        }
    }
    if (b->bias_learns)
        gather_bias(a->dbias, b->dbias, h->scale);
}

#endif
