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
#include "model/shards.h"
#include "model/sublayer.h"

/* Buffers that the sub-layers share, one after another. */
typedef struct swt_shared_acts {
    /* The rank's part of the global batch: of the decoder, then of the encoder, whose S tokens are
     * more or fewer; N below is the larger where both stacks work in the same memory. */
    int32_t *tokens, *targets, *routed;          /* (turns, N) */
    int32_t *inputs, *inputs_routed, *lengths;   /* (turns, S) twice, (turns, B) */
    void *x;                                     /* (N, C) output of the last sub-layer */
    void *encoder_x, *memory;                    /* (S, C) of the encoder's; its final norm */
    float *bias[SWT_STACKS], *dbias[SWT_STACKS]; /* (H, SWT_BIAS_DISTANCES) by distance */
    void *norm;                   /* (N, C) the output of the newest swt_model_norm */
    float *norm_mean, *norm_rstd; /* (N) its statistics */
    void *logits;                 /* (N, V), overwritten by their gradient */
    double *stats;                /* (turns, swt_stats_count) */
    void *scratch;
    /* backward only, as are all below that begin with d */
    void *dstream;           /* (N, C) gradient of what a sub-layer makes, then of what it reads */
    void *doutput;           /* (N, C) of what a sub-layer adds: dstream, or its dropout */
    void *dnorm;             /* (N, C) of norm */
    void *dqkv, *dattention; /* attention: (N, 3 H D), (N, H D) */
    void *dq, *dkv;          /* cross-attention: (N, H D), (S, 2 H D) */
    void *dmemory;           /* (S, C) */
    void *dhidden;           /* dense: (N, F) */
    void *dpre;              /* (N, swt_wi_width); of ReLU dhidden itself, as below */
    /* switch */
    float *dgate;                     /* (N, k) */
    void *dhidden_experts;            /* (El, P, K, F) */
    void *dpre_experts;               /* (El, P, K, swt_wi_width) */
    int32_t *send_counts;             /* (E) */
    void *source_slots, *owner_slots; /* (E, K, C), (El, P, K, C): what travels, at the tokens'
                                         side and at the experts'; in backward its gradients */
    float *source_dot;                /* (E, K), backward only, as are the two below */
    void *owner_dx;                   /* (El, P, K, C) where P > 1: alone, a rank writes into
                                         source_slots */
    float *owner_dot;                 /* (El, P, K) where P > 1 */
} swt_shared_acts;

struct swt_model {
    swt_dims dims;
    swt_dist *dist;
    swt_params params;
    bool training;         /* has gradients and what the optimiser keeps */
    swt_optim_keeps keeps; /* of each parameter, in training */
    swt_factors factors;   /* where they are, of SWT_KEEPS_FACTORS */
    int64_t turns;         /* micro-batches of this rank in a step, empty ones included */
    int64_t message_slots; /* K of the message buffers (swt_message_slots), 0 without experts */
    swt_ctx ctx;
    swt_arena arenas[SWT_ARENA_COUNT];

    /* Flat arrays in the layout of params. */
    float *param, *grad, *first_moment, *second_moment; /* (params.end) */
    float *factor;                                      /* (factors.end) */
    void *weights; /* (params.end) in the activation type: param itself, or its rounded copy */
    int64_t *sum;  /* (sum_count) sums of gradients over micro-batches (sums.h) */
    int64_t sum_count;
    double *squares; /* (params.count + 1): per tensor; the last one's bits are an int64, how many
                        ranks met a bad gradient (train/step.c) */
    swt_span *spans; /* (n_spans) this rank's tensors in the clip norm */
    int64_t n_spans;
    swt_sublayer *sublayers; /* (n_sublayers), owned */
    int64_t n_sublayers;
    swt_shared_acts acts;
    float *staging;    /* host, room for the largest tensor */
    swt_shards shards; /* in training: who writes which tensor of a checkpoint */
    float *snapshot; /* host, (snapshot_count) what this rank writes of a checkpoint (state/save.h)
                      */
    int64_t snapshot_count;
    int32_t *host_kept_counts; /* host, (E) */
    int32_t *host_tokens, *host_targets, *host_routed, *host_inputs, *host_inputs_routed,
        *host_lengths;   /* what acts.tokens ... are filled from */
    swt_stream *upload;  /* the copies from them */
    swt_event *uploaded; /* before and after them */
};

/* What a stack reads. Backend memory. */
typedef struct swt_sequence {
    int64_t T;
    const int32_t *tokens, *routed; /* (B, T) */
    const int32_t *lengths;         /* (B) up to the last token that is no padding; NULL: all T */
} swt_sequence;

/* One pass. */
struct swt_pass {
    int64_t B;                          /* 0: an empty micro-batch */
    swt_sequence sequences[SWT_STACKS]; /* T of a stack that the model has not: 0 */
    const int32_t *targets;             /* of the decoder's sequences */
    int64_t micro_batch;                /* its number in the global batch */
    int64_t turn;                       /* its place in acts.stats */
    bool training;                      /* capacity and random numbers of training */
    bool dropless;                      /* exchange in rounds until no token is left */
};

/* Plan the memory of this rank for a backend's operations: fills model->arenas' planned sizes,
 * allocates only tables. dist need not be connected. Errors: MEMORY where a size overflows. */
SWT_MUST_CHECK swt_status swt_model_plan(swt_model *out, const swt_dims *d, swt_dist *dist,
                                         const swt_ops *ops, bool training, swt_optim_keeps keeps);

/* Allocate exactly the plan on the device, and clear it. dist must be connected. Local. Errors:
 * MEMORY. */
SWT_MUST_CHECK swt_status swt_model_commit(swt_model *m, swt_device *device, uint64_t seed);

/* Parameters, gradients, what the optimiser keeps and sums become zeros, the step state that before
 * step 1. Local.
 */
SWT_MUST_CHECK swt_status swt_model_clear(swt_model *m, uint64_t seed);

/* The next step is number step + 1 of a training with this seed. Local. */
SWT_MUST_CHECK swt_status swt_model_set_step(swt_model *m, uint64_t seed, int64_t step);

void swt_model_fini(swt_model *m);

/* A tensor of a parameter's (swt_saved_shape), NULL where this rank holds none such. */
float *swt_model_saved(const swt_model *m, int64_t param, swt_saved_tensor which);

/* Wait on the host until all queued work is done. Errors: COMM where an exchange has failed. */
SWT_MUST_CHECK swt_status swt_model_wait(swt_model *m);

/* Give every parameter its initial value. Local. */
SWT_MUST_CHECK swt_status swt_model_init_values(swt_model *m, swt_init init, double init_scale,
                                                uint64_t seed);

/* Copy to any host memory what the work queued so far leaves. Waits for the device. */
SWT_MUST_CHECK swt_status swt_model_read(swt_model *m, void *host, const void *from, size_t bytes);

/* Who has changed m->param calls this before the next pass: what gemms read follows. Local. */
SWT_MUST_CHECK swt_status swt_model_round_weights(swt_model *m);

/* Copy rows of the logits, as F32, to the host: (rows, V) from row `first`. Waits for the device.
 */
SWT_MUST_CHECK swt_status swt_model_read_logits(swt_model *m, float *host, int64_t first,
                                                int64_t rows);

/* Logits and the losses' statistics of one micro-batch, into acts.logits and the pass's row of
 * acts.stats, from SWT_LOSS_STATS on. Collective over the expert group. */
SWT_MUST_CHECK swt_status swt_model_forward(swt_model *m, const swt_pass *pass);

/* Cross-entropy of the logits that the last forward left, into the pass's row of acts.stats, before
 * SWT_LOSS_STATS; with gradient the logits become their gradient. Local. */
SWT_MUST_CHECK swt_status swt_model_loss(swt_model *m, const swt_pass *pass, bool gradient);

/* Every gradient of the micro-batch that forward and loss have just seen, into m->grad, and into
 * the sums of the batch (sums.h). Collective over the expert group. */
SWT_MUST_CHECK swt_status swt_model_backward(swt_model *m, const swt_pass *pass);

/* ---- for the sub-layers' kinds */

/* acts.norm = norm(x), with its statistics: of one norm at a time. In backward again, to the bit,
 * before whatever reads them. */
SWT_MUST_CHECK swt_status swt_model_norm(swt_model *m, const swt_place *p, const void *x,
                                         int64_t N);

/* swt_linear_forward of the linear layer at this place. */
typedef struct swt_linear_io {
    void *y;
    const void *x;
    const void *residual;
    swt_epilogue epilogue;
} swt_linear_io;
SWT_MUST_CHECK swt_status swt_model_linear(swt_model *m, const swt_place *p, int64_t N,
                                           const swt_linear_io *io);

/* swt_linear_backward_weight and swt_linear_backward_input of it. */
typedef struct swt_linear_gradients {
    void *dx;
    const void *dy;
    const void *x;
    const void *relu_output;
    const void *dresidual;
} swt_linear_gradients;
SWT_MUST_CHECK swt_status swt_model_linear_backward(swt_model *m, const swt_place *p, int64_t N,
                                                    const swt_linear_gradients *g);

/* Part i of each row of `tensor`, parts of H D elements side by side: where q, k or v begins. */
void *swt_model_heads(const swt_model *m, void *tensor, int64_t i);

/* The part of a flat array that begins at an offset, NULL for -1. */
static inline float *swt_slice(float *flat, int64_t offset) {
    return offset >= 0 ? flat + offset : NULL;
}

/* The parameter at an offset as gemms read it, NULL for -1. */
static inline const void *swt_weight(const swt_model *m, int64_t offset) {
    return offset >= 0
               ? (const unsigned char *)m->weights + (size_t)offset * swt_dtype_bytes(m->ctx.dtype)
               : NULL;
}

/* Tokens of a pass in a stack. */
static inline int64_t swt_pass_tokens(const swt_pass *pass, swt_stack stack) {
    return pass->B * pass->sequences[stack].T;
}

/* What the stacks read in the pass's turn, all of it. */
void swt_pass_sequences(const swt_model *m, swt_pass *pass);

/* The pass's row of acts.stats. */
static inline double *swt_pass_stats(const swt_model *m, const swt_pass *pass) {
    return m->acts.stats + pass->turn * swt_stats_count(&m->dims);
}

/* The first sub-layer of a kind, and of a kind in a stack; NULL where there is none. */
const swt_sublayer *swt_model_first(const swt_model *m, swt_sublayer_kind kind);
const swt_sublayer *swt_model_first_of(const swt_model *m, swt_stack stack, swt_sublayer_kind kind);

#endif
