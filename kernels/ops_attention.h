/* Operations of attention: scores, softmax and values in one, and the bias by distance. The
 * conventions stand in swt_ops.h, which includes this. */
#ifndef SWT_OPS_ATTENTION_H
#define SWT_OPS_ATTENTION_H

#include "kernels/dropout.h"

/* ------------------------------------------------------------------ relative positions */

/* A head's bias of the scores by the distance from query to key: one of SWT_BIAS_BUCKETS numbers
 * that are learned, whose buckets widen with the distance and end before SWT_BIAS_REACH. */
enum {
    SWT_BIAS_BUCKETS = 32,
    SWT_BIAS_REACH = 128,
    SWT_BIAS_DISTANCES = 2 * SWT_BIAS_REACH + 1 /* from -SWT_BIAS_REACH to SWT_BIAS_REACH */
};

/* The bucket of distance = key - query. One way, keys ahead of their query, which a causal mask
 * hides, share bucket 0 with the query itself; both ways, the upper half of the buckets is theirs.
 * n < half of a side's buckets has its own; from there on they widen with the logarithm. A rounded
 * logarithm can miss a border, so the borders stand here as integers.
 * Source: Raffel et al. 2020, section 2.1, and their implementation. */
static inline SWT_ON_ANY int swt_bias_bucket(int distance, bool both_ways) {
    const int both[] = {12, 16, 23, 32, 46, 64, 91},
              one[] = {19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113};
    const int *const borders = both_ways ? both : one;
    const int count = both_ways ? 7 : 15, side = count + 1;
    const int n = both_ways && distance > 0 ? distance : distance < 0 ? -distance : 0;
    int bucket = n < side ? n : side;
    for (int i = 0; i < count; i++)
        bucket += n >= borders[i];
    return both_ways && distance > 0 ? SWT_BIAS_BUCKETS / 2 + bucket : bucket;
}

/* bias[h, SWT_BIAS_REACH + r] = table[bucket of r, h]. */
typedef struct swt_bias_forward_args {
    float *bias;        /* (H, SWT_BIAS_DISTANCES) */
    const float *table; /* (SWT_BIAS_BUCKETS, H) */
    int64_t H;
    bool both_ways;
} swt_bias_forward_args;

/* dtable[i, h] = sum of dbias[h, SWT_BIAS_REACH + r] over the r of bucket i, in their order. */
typedef struct swt_bias_backward_args {
    float *dtable;      /* (SWT_BIAS_BUCKETS, H) */
    const float *dbias; /* (H, SWT_BIAS_DISTANCES) */
    int64_t H;
    bool both_ways;
} swt_bias_backward_args;

/* ------------------------------------------------------------------ attention */

/* The widest head that every backend can hold in its registers or local memory. */
enum { SWT_HEAD_WIDTH_MAX = 256 };

/* Which keys a query sees. */
typedef enum swt_mask {
    SWT_MASK_NONE,  /* all of its sequence */
    SWT_MASK_CAUSAL /* query i sees the keys up to i */
} swt_mask;

typedef struct swt_attention_dims {
    int64_t B, H, D;             /* 1 <= D <= SWT_HEAD_WIDTH_MAX */
    int64_t Tq, Tk;              /* queries and keys of a sequence */
    int64_t q_stride, kv_stride; /* elements from row to row: of q, and of k and v; >= H D */
    swt_dropout_mask dropout; /* of the weights: sequence b's head h is row first + b H + h, a key a
                                 column (dropout.h) */
    swt_mask mask;
    float scale; /* of the scores */
} swt_attention_dims;

/* For each sequence and head, where query i sees key j by the mask and j < key_lengths[b]:
 * s[i, j] = scale q[i] . k[j] + bias[h, r], where r = SWT_BIAS_REACH + j - i, at least 0, at most
 * 2 SWT_BIAS_REACH, and no bias is 0;  p[i] = softmax(s[i]);  y[i] = sum_j p[i, j] v[j];
 * lse[i] = logsumexp(s[i]).  A query that sees no key: y = 0, lse = -infinity.
 * With dropout y[i] = sum_j m[i, j] p[i, j] v[j], m[i, j] being 0 or dropout.scale: what is
 * dropped still counts in the softmax.
 * Heads stand side by side in a row, and rows of q, k and v may lie between one another's: with
 * strides of 3 H D all three are columns of what one linear layer made.
 * Source: Vaswani et al. 2017, section 3.2.1. */
typedef struct swt_attention_forward_args {
    void *y;                    /* (B, Tq, H D) */
    float *lse;                 /* (B, H, Tq), saved for backward */
    const void *q;              /* (B, Tq, H D), q_stride */
    const void *k, *v;          /* (B, Tk, H D), kv_stride */
    const int32_t *key_lengths; /* (B), from 0 to Tk (beyond: the nearest); NULL: all Tk */
    const float *bias;          /* (H, SWT_BIAS_DISTANCES) or NULL */
    swt_attention_dims dims;
} swt_attention_forward_args;

/* With p as above, which is made again from lse (Dao et al. 2022):
 * dv[j] = sum_i m[i, j] p[i, j] dy[i];  dp[i, j] = m[i, j] dy[i] . v[j];
 * ds[i, j] = p[i, j] (dp[i, j] - dy[i] . y[i]);
 * dq[i] = scale sum_j ds[i, j] k[j];  dk[j] = scale sum_i ds[i, j] q[i];
 * dbias[h, r] = sum of ds[i, j] over all sequences and all i, j of this r, in an order that the
 * shapes alone decide.
 * Rows alone are written, not what lies between them. */
typedef struct swt_attention_backward_args {
    void *dq;                   /* (B, Tq, H D), q_stride */
    void *dk, *dv;              /* (B, Tk, H D), kv_stride */
    float *dbias;               /* (H, SWT_BIAS_DISTANCES), where there is a bias; or NULL */
    const void *dy;             /* (B, Tq, H D) */
    const void *q;              /* (B, Tq, H D), q_stride */
    const void *k, *v;          /* (B, Tk, H D), kv_stride */
    const int32_t *key_lengths; /* as in forward */
    const float *bias;          /* as in forward */
    const void *y;              /* (B, Tq, H D) */
    const float *lse;           /* (B, H, Tq) */
    void *scratch;              /* swt_attention_backward_scratch_bytes(dims), for a bias */
    swt_attention_dims dims;
    bool add; /* to dbias */
} swt_attention_backward_args;

/* -1 where the dimensions are negative or too large. */
int64_t swt_attention_backward_scratch_bytes(const swt_attention_dims *dims);

#endif
