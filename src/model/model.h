/* The model: its memory, its forward and its backward pass over one micro-batch.
 *
 * A pass is collective over the expert group: every rank of the group runs the same number of
 * passes, with an empty micro-batch (B = 0) where it has none of its own, because its experts serve
 * the others. */
#ifndef SWT_MODEL_MODEL_H
#define SWT_MODEL_MODEL_H

#include "model/arena.h"
#include "model/dims.h"
#include "model/dist.h"
#include "model/params.h"

/* What a sparse layer keeps for its backward pass; letters of swt_ops.h. */
typedef struct swt_moe_acts {
    float *probs, *lse;    /* (N, E), (N) */
    int32_t *expert;       /* (N, k) */
    float *gate;           /* (N, k) */
    int32_t *slot;         /* (N, k) */
    int32_t *kept;         /* (E) */
    int32_t *group_counts; /* (G, E) */
    int32_t *slot_counts;  /* (El, P) occupied slots of this rank's experts */
    void *x, *hidden;      /* (El, P, K, C), (El, P, K, F) */
} swt_moe_acts;

/* What a block keeps. x of the next block is this block's output. The normed u = norm(x), input of
 * q, k and v, and h = norm(mid), input of the feed-forward, are not kept: backward makes them again
 * (swt_model_norm). */
typedef struct swt_block_acts {
    void *x;          /* (N, C) input */
    void *qkv;        /* (N, 3 H D) */
    float *lse;       /* (B, H, T) */
    void *att;        /* (N, H D) */
    void *mid;        /* (N, C) after attention */
    void *hidden;     /* (N, F), dense layers */
    swt_moe_acts moe; /* sparse layers */
} swt_block_acts;

/* Buffers that the layers share, one after another. */
typedef struct swt_shared_acts {
    int32_t *tokens, *targets, *routed; /* (turns, N) the rank's part of the global batch */
    void *x;                            /* (N, C) output of the last block */
    void *norm;                         /* (N, C) the normed of the newest swt_model_norm */
    float *norm_mean, *norm_rstd;       /* (N) its statistics */
    void *logits;                       /* (N, V), overwritten by their gradient */
    double *stats;                      /* (turns, swt_stats_count) */
    /* backward only */
    void *dx, *dh;         /* (N, C) */
    void *dqkv, *datt;     /* (N, 3 H D), (N, H D) */
    void *dhidden;         /* (N, F), dense layers */
    float *dgate;          /* (N, k) */
    void *dhidden_experts; /* (El, P, K, F) */
    /* messages */
    int32_t *send_counts; /* (E) */
    void *slots;          /* (E, K, C) of the source: what it sends, then what comes back; in
                             backward their gradients */
    void *expert_y;       /* (El, P, K, C) of the owner: answers; in backward their gradients */
    float *dot;           /* (E, K), backward only, as are the two below */
    void *expert_dx;      /* (El, P, K, C) where P > 1: alone, a rank writes into slots */
    float *expert_dot;    /* (El, P, K) where P > 1 */
    void *scratch;
} swt_shared_acts;

typedef struct swt_model {
    swt_dims dims;
    swt_dist *dist;
    swt_params params;
    bool training; /* has gradients and moments */
    bool moments;  /* the optimiser needs m and v */
    int64_t turns; /* micro-batches of this rank in a step, empty ones included */
    int64_t K;     /* slots per expert in the message buffers */
    swt_ctx ctx;
    swt_arena arenas[SWT_ARENA_COUNT];
    size_t kept_bytes[2]; /* of ACT: what a dense, a sparse block keeps for its backward pass */

    /* Flat arrays in the layout of params. */
    float *param, *grad, *m, *v; /* (params.end) */
    void *weights; /* (params.end) in the activation type: param itself, or its rounded copy */
    int64_t *sum;  /* (sum_count) integer sums, where M > 1: of the shared parameters, and of the
                      experts' where they wait for another turn or replica */
    int64_t sum_count;
    double *squares; /* (params.count + 1): per tensor; the last is the non-finite flag */
    swt_span *spans; /* (n_spans) this rank's tensors in the clip norm */
    int64_t n_spans;
    swt_block_acts *blocks; /* (L), owned */
    swt_shared_acts acts;
    float *staging;     /* host, room for the largest tensor */
    int32_t *host_kept; /* host, (E) */
    int32_t *host_tokens, *host_targets,
        *host_routed;    /* (turns, N), what acts.tokens ... are filled from */
    swt_stream *upload;  /* the copies from them */
    swt_event *uploaded; /* before and after them */
} swt_model;

/* One pass. Tokens and the others are backend memory, (B, T). */
typedef struct swt_pass {
    int64_t B, T;        /* B = 0: an empty micro-batch */
    int64_t micro_batch; /* its number in the global batch */
    int64_t turn;        /* its place in acts.stats */
    bool training;       /* capacity and random numbers of training */
    bool dropless;       /* exchange in rounds until no token is left */
    const int32_t *tokens, *targets, *routed;
} swt_pass;

/* Plan the memory of this rank for a backend's operations: fills model->arenas' planned sizes,
 * allocates only tables. dist need not be connected. Errors: MEMORY where a size overflows. */
SWT_MUST_CHECK swt_status swt_model_plan(swt_model *out, const swt_dims *d, swt_dist *dist,
                                         const swt_ops *ops, bool training, bool moments);

/* Allocate exactly the plan on the device, and clear it. dist must be connected. Local. Errors:
 * MEMORY. */
SWT_MUST_CHECK swt_status swt_model_commit(swt_model *m, swt_device *device, uint64_t seed);

/* Parameters, gradients, moments and sums become zeros, the step state that before step 1. Local.
 */
SWT_MUST_CHECK swt_status swt_model_clear(swt_model *m, uint64_t seed);

void swt_model_fini(swt_model *m);

/* Wait on the host until all queued work is done. Errors: COMM where an exchange has failed. */
SWT_MUST_CHECK swt_status swt_model_wait(swt_model *m);

/* Give every parameter its initial value. Local. */
SWT_MUST_CHECK swt_status swt_model_init_values(swt_model *m, swt_init init, double init_scale,
                                                uint64_t seed);

/* Copy to any host memory what the work queued so far leaves. Waits for the device. */
SWT_MUST_CHECK swt_status swt_model_read(swt_model *m, void *host, const void *from, size_t bytes);

/* Who has changed m->param calls this before the next pass: what products read follows. Local. */
SWT_MUST_CHECK swt_status swt_model_round_weights(swt_model *m);

/* Copy rows of the logits, as F32, to the host: (rows, V) from row `first`. Waits for the device.
 */
SWT_MUST_CHECK swt_status swt_model_read_logits(swt_model *m, float *host, int64_t first,
                                                int64_t rows);

/* Logits and the losses' statistics of one micro-batch, into acts.logits and the pass's row of
 * acts.stats[2...]. Collective over the expert group. */
SWT_MUST_CHECK swt_status swt_model_forward(swt_model *m, const swt_pass *pass);

/* Cross-entropy of the logits that the last forward left, into the pass's row of acts.stats[0, 1];
 * with gradient the logits become their gradient. Local. */
SWT_MUST_CHECK swt_status swt_model_loss(swt_model *m, const swt_pass *pass, bool gradient);

/* Every gradient of the micro-batch that forward and loss have just seen, into m->grad, and where M
 * > 1 added to m->sum, which the pass of turn 0 begins. Experts without replicas have their sums
 * over all micro-batches in m->grad after the last turn. Collective over the expert group. */
SWT_MUST_CHECK swt_status swt_model_backward(swt_model *m, const swt_pass *pass);

/* ---- the parts, in the order of a token's way (model.c, attention.c, moe.c, block.c) */

/* acts.norm = norm(x), with its statistics: of one norm at a time. In backward again, to the bit,
 * before whatever reads them. */
SWT_MUST_CHECK swt_status swt_model_norm(swt_model *m, const swt_place *at, const void *x,
                                         int64_t N);
/* After swt_model_norm of the same x: acts.dh is the gradient of acts.norm, acts.dx becomes that of
 * x, plus dresidual (NULL, or acts.dx itself). */
SWT_MUST_CHECK swt_status swt_model_norm_backward(swt_model *m, const swt_place *at, const void *x,
                                                  const void *dresidual, int64_t N);
SWT_MUST_CHECK swt_status swt_attention_layer_forward(swt_model *m, const swt_pass *pass,
                                                      int64_t l);
SWT_MUST_CHECK swt_status swt_attention_layer_backward(swt_model *m, const swt_pass *pass,
                                                       int64_t l);
SWT_MUST_CHECK swt_status swt_moe_forward(swt_model *m, const swt_pass *pass, int64_t l, void *y);
SWT_MUST_CHECK swt_status swt_moe_backward(swt_model *m, const swt_pass *pass, int64_t l);
SWT_MUST_CHECK swt_status swt_block_forward(swt_model *m, const swt_pass *pass, int64_t l);
SWT_MUST_CHECK swt_status swt_block_backward(swt_model *m, const swt_pass *pass, int64_t l);

/* Address of an offset of the table, NULL for -1. */
static inline float *swt_at(float *flat, int64_t offset) {
    return offset >= 0 ? flat + offset : NULL;
}

/* The parameter at an offset of the table as products read it, NULL for -1. */
static inline const void *swt_weight(const swt_model *m, int64_t offset) {
    return offset >= 0
               ? (const unsigned char *)m->weights + (size_t)offset * swt_dtype_bytes(m->ctx.dtype)
               : NULL;
}

/* The dims that the switch layer's operations read in this pass. */
swt_moe_dims swt_pass_moe_dims(const swt_model *m, const swt_pass *pass, int64_t l);

#endif
