/* Operations of the switch layer: router, dispatch, experts, combine. The letters and conventions
 * stand in swt_ops.h, which includes this. */
#ifndef SWT_OPS_MOE_H
#define SWT_OPS_MOE_H

#include "base/checked.h"
#include "kernels/ops_dense.h"

typedef enum swt_drop { SWT_DROP_POSITION, SWT_DROP_PRIORITY, SWT_DROP_RANDOM } swt_drop;
typedef enum swt_dropped_output { SWT_DROPPED_ZERO, SWT_DROPPED_GATED_INPUT } swt_dropped_output;
typedef enum swt_gate { SWT_GATE_SCALE, SWT_GATE_UNIT } swt_gate;

/* Everything about one switch layer in one micro-batch that is not a tensor. */
typedef struct swt_moe_dims {
    int64_t N, C, F, E, k;
    int64_t G;              /* routing groups: N / G consecutive tokens each */
    int64_t group_capacity; /* slots per expert and group; N / G or more: nothing is dropped */
    int64_t K;              /* slots per expert in the message buffers: G * group_capacity, or fewer
                               where the exchange runs in rounds */
    int64_t El, P;          /* this rank's experts, ranks of the group */
    swt_drop drop;
    swt_dropped_output dropped_output;
    swt_gate gate;
    float jitter;   /* router input * U(1 - jitter, 1 + jitter); 0 = none */
    uint32_t block; /* number of its block, an encoder's behind a decoder's, for random numbers */
    uint32_t micro_batch; /* number in the global batch, for random numbers */
    bool training;        /* false: no jitter; random dropping as SWT_RNG_DROP_EVAL at step 0 */
    swt_ffn ffn;          /* what the experts do between their two layers */
    /* Of the experts' hidden values: slot k of expert e is row (micro-batch E + e) K + k. Which
     * slot a token has its micro-batch alone decides. */
    swt_dropout_mask dropout;
    double aux_scale; /* d loss / d aux of one group, in backward */
    double z_scale;   /* d loss / d z of one group, in backward */
} swt_moe_dims;

/* Whether the router's input is jittered in this micro-batch. */
static inline SWT_ON_ANY bool swt_moe_jitters(const swt_moe_dims *d) {
    return d->training && d->jitter > 0.0f;
}

/* Width of what an expert's wi makes, W in the shapes below. */
static inline SWT_ON_ANY int64_t swt_moe_wi_width(const swt_moe_dims *d) {
    return swt_wi_width(d->ffn, d->F);
}

/* Of swt_gelu_forward over an expert's slots. */
static inline swt_gelu_dims swt_moe_gelu_dims(const swt_moe_dims *d) {
    const swt_gelu_dims gelu = {d->El * d->P, d->K, d->F, d->ffn == SWT_FFN_GEGLU};
    return gelu;
}

/* Of the scratch of each of the router's operations. */
int64_t swt_router_scratch_bytes(const swt_moe_dims *dims);

/* The router: hj[n, i] = h[n, i] (1 + jitter (2 u - 1)), u = swt_rng_uniform of word 0 of
 * swt_rng(seed, n C + i, micro_batch, step, JITTER, block);
 * z = hj w^T + bias;  lse[n] = logsumexp(z[n]);  probs[n] = softmax(z[n]);
 * expert[n] = argmax z[n], lowest index on ties, NaN counts as -infinity;
 * gate[n] = probs[n, expert[n]]. A token with routed[n] == 0 has expert -1 and gate 0.
 * Source: Fedus, Zoph, Shazeer 2021, section 2.1 and appendix C (input jitter). */
typedef struct swt_router_forward_args {
    float *probs;          /* (N, E) */
    float *lse;            /* (N) */
    int32_t *expert;       /* (N, k) */
    float *gate;           /* (N, k) */
    const void *h;         /* (N, C) */
    const float *w;        /* (E, C) */
    const float *bias;     /* (E) or NULL */
    const int32_t *routed; /* (N) */
    void *scratch;         /* swt_router_scratch_bytes(dims) */
    swt_moe_dims dims;
} swt_router_forward_args;

/* Give each routed token its slot at its expert, until the expert is full in the token's group.
 * Within a group and expert the first group_capacity tokens in the order of the drop policy are
 * kept: position: by n; priority: by gate, highest first, then by n; random: by word 0 of
 * swt_rng(seed, n, micro_batch, step, DROP, block) (evaluation: purpose DROP_EVAL, step 0), then by
 * n. slot[n] = #{ m < n : expert[m] == expert[n], m kept } for a kept token, else -1: slots are
 * dense and in position order whatever the policy.
 * Source: Fedus, Zoph, Shazeer 2021, section 2.2 (expert capacity). */
typedef struct swt_router_assign_args {
    int32_t *slot;         /* (N, k) */
    int32_t *kept_counts;  /* (E): kept tokens */
    int32_t *group_counts; /* (G, E): routed tokens of the group to the expert, before dropping */
    const int32_t *expert; /* (N, k) */
    const float *gate;     /* (N, k) */
    void *scratch;         /* swt_router_scratch_bytes(dims) */
    swt_moe_dims dims;
} swt_router_assign_args;

/* Where a layer's statistics stand: that of expert e at SWT_ROUTER_LOAD + e, so there are
 * SWT_ROUTER_LOAD + E of them. */
enum { SWT_ROUTER_AUX, SWT_ROUTER_Z, SWT_ROUTER_DROPPED, SWT_ROUTER_LOAD };

/* Auxiliary losses and counts of the layer in this micro-batch, in F64. For each group, R = its
 * routed tokens: aux = E sum_e (group_counts[g, e] / R) (sum_n probs[n, e] / R),
 * z = sum_n lse[n]^2 / R, both 0 if R = 0. stats[AUX] = mean over groups of aux, stats[Z] = of z,
 * stats[DROPPED] = routed tokens that were dropped, stats[LOAD + e] = routed tokens of expert e
 * before dropping.
 * Source: Fedus, Zoph, Shazeer 2021, equations 4 to 6; z: Zoph et al. 2022, equation 5. */
typedef struct swt_router_losses_args {
    double *stats;               /* (SWT_ROUTER_LOAD + E) */
    const float *probs;          /* (N, E) */
    const float *lse;            /* (N) */
    const int32_t *expert;       /* (N, k) */
    const int32_t *kept_counts;  /* (E) */
    const int32_t *group_counts; /* (G, E) */
    swt_moe_dims dims;
} swt_router_losses_args;

/* With g the group of n, R its routed tokens and f[e] = group_counts[g, e] / R:
 * dz[n, j] = dgate[n] gate[n] ([j == expert[n]] - probs[n, j])
 *          + aux_scale E probs[n, j] (f[j] - sum_e f[e] probs[n, e]) / R
 *          + z_scale 2 lse[n] probs[n, j] / R;
 * zero for a token that is not routed. (aux_scale and z_scale hold the mean over groups already.)
 * dw = dz^T hj;  dbias = sum_n dz;  dh += (dz w) (jitter factors as in forward). */
typedef struct swt_router_backward_args {
    void *dh;                    /* (N, C), added to */
    float *dw;                   /* (E, C) */
    float *dbias;                /* (E) or NULL */
    const float *dgate;          /* (N, k) */
    const void *h;               /* (N, C) */
    const float *w;              /* (E, C) */
    const float *probs;          /* (N, E) */
    const float *lse;            /* (N) */
    const int32_t *expert;       /* (N, k) */
    const float *gate;           /* (N, k) */
    const int32_t *group_counts; /* (G, E) */
    void *scratch;               /* swt_router_scratch_bytes(dims) */
    swt_moe_dims dims;
} swt_router_backward_args;

/* Write each kept token to its expert's slot: send[expert[n], slot[n] - first_slot] = h[n] for
 * first_slot <= slot[n] < first_slot + K; and in the same units
 * send_counts[e] = min(max(kept_counts[e] - first_slot, 0), K), the occupied slots.
 * Other slots keep what they hold (nobody reads them); a backend whose experts take all K slots
 * (ops->all_slots) writes zeros into them. first_slot is 0 but in a dropless evaluation, which
 * exchanges in rounds of K slots. */
typedef struct swt_dispatch_forward_args {
    void *send;                 /* (E, K, C) */
    int32_t *send_counts;       /* (E) */
    const void *h;              /* (N, C) */
    const int32_t *expert;      /* (N, k) */
    const int32_t *slot;        /* (N, k) */
    const int32_t *kept_counts; /* (E) */
    swt_moe_dims dims;
    int64_t first_slot;
} swt_dispatch_forward_args;

/* For kept tokens: dh[n] += dsend[expert[n], slot[n]], and the gradient of the gate that
 * swt_combine_backward left out: dgate[n] = dot[expert[n], slot[n]] / gate[n], dot of
 * swt_experts_backward_input. Other tokens keep theirs. */
typedef struct swt_dispatch_backward_args {
    void *dh;              /* (N, C), added to */
    float *dgate;          /* (N, k), of kept tokens */
    const void *dsend;     /* (E, K, C) */
    const float *dot;      /* (E, K) */
    const int32_t *expert; /* (N, k) */
    const float *gate;     /* (N, k) */
    const int32_t *slot;   /* (N, k) */
    swt_moe_dims dims;
} swt_dispatch_backward_args;

/* The experts' feed-forward, for each (local expert j, source rank p) over its slot_counts[j, p]
 * occupied slots: pre = x wi[j]^T + bi[j];  hidden = ReLU(pre), or swt_gelu_forward of pre,
 * then with dropout swt_dropout of that;  y = hidden wo[j]^T + bo[j].
 * Unoccupied slots are neither read nor written. A backend with ops->all_slots reads and writes
 * them all the same, here and in the two operations that follow: x and dy must hold zeros there;
 * what an output holds there means nothing. */
typedef struct swt_experts_forward_args {
    void *y;                    /* (El, P, K, C) */
    void *hidden;               /* (El, P, K, F), saved for backward */
    void *pre;                  /* (El, P, K, W), saved for backward; ReLU has none */
    const void *x;              /* (El, P, K, C) */
    const void *wi;             /* (El, W, C) */
    const void *bi;             /* (El, W) or NULL */
    const void *wo;             /* (El, C, F) */
    const void *bo;             /* (El, C) or NULL */
    const int32_t *slot_counts; /* (El, P) */
    swt_moe_dims dims;
} swt_experts_forward_args;

/* dhidden = dy wo[j], of ReLU (dy wo[j]) [hidden > 0];  dot = dhidden . hidden + dy . bo[j], which
 * is dy . y: the gate's gradient without the outputs y;  then with dropout dhidden becomes
 * swt_dropout of itself;  dpre = swt_gelu_backward of dhidden, of ReLU dhidden itself;
 * dx = dpre wi[j]. (ReLU's mask takes nothing away from it: hidden is 0
 * there. GELU's derivative would.) Source of dot: Guo et al. 2025 (SonicMoE). */
typedef struct swt_experts_backward_input_args {
    void *dx;                   /* (El, P, K, C) */
    void *dhidden;              /* (El, P, K, F) */
    void *dpre;                 /* (El, P, K, W); ReLU has none */
    float *dot;                 /* (El, P, K) */
    const void *dy;             /* (El, P, K, C) */
    const void *hidden;         /* (El, P, K, F) */
    const void *pre;            /* (El, P, K, W); ReLU has none */
    const void *wi;             /* (El, W, C) */
    const void *wo;             /* (El, C, F) */
    const void *bo;             /* (El, C) or NULL */
    const int32_t *slot_counts; /* (El, P) */
    swt_moe_dims dims;
} swt_experts_backward_input_args;

/* Integer sums of the experts' gradients over micro-batches (swt_grad_add), in one or several
 * calls. bi and bo are NULL where the gradients dbi and dbo are; all four may be NULL where one
 * call is the first and the last. */
typedef struct swt_expert_sums {
    int64_t *wi;  /* (El, W, C) */
    int64_t *bi;  /* (El, W) */
    int64_t *wo;  /* (El, C, F) */
    int64_t *bo;  /* (El, C) */
    bool exact;   /* false: there are no sums, and nothing else here has a meaning */
    double limit; /* 2^62 / M */
    bool first;   /* the sums begin with this call: what they hold is not read */
    bool last;    /* the gradients are finished (swt_grad_finish) */
} swt_expert_sums;

/* The gradients of a source rank's micro-batch are, over its slot_counts[j, p] slots:
 * dwi[j] = dpre^T x;  dbi[j] = sum dpre;  dwo[j] = dy^T hidden;  dbo[j] = sum dy.
 * Not sums.exact: dwi, dbi, dwo, dbo are their sums over the sources in order, the gradients
 * themselves where one source alone has slots; zeros where none has. sums.exact: the gradients of
 * each source, made from zero, are added to the sums as swt_grad_add does; a source without slots
 * adds nothing (ops->expert_sums: the sums must be there even where one call is the first and the
 * last). If it is the last call, dwi, dbi, dwo, dbo are what swt_grad_finish makes of the sums,
 * which hold nothing of use then; else they are scratch. */
typedef struct swt_experts_backward_weight_args {
    float *dwi;                 /* (El, W, C) */
    float *dbi;                 /* (El, W) or NULL */
    float *dwo;                 /* (El, C, F) */
    float *dbo;                 /* (El, C) or NULL */
    const void *x;              /* (El, P, K, C) */
    const void *hidden;         /* (El, P, K, F) */
    const void *dpre;           /* (El, P, K, W) the gradient of what wi makes; of ReLU dhidden */
    const void *dy;             /* (El, P, K, C) */
    const int32_t *slot_counts; /* (El, P) */
    swt_moe_dims dims;
    swt_expert_sums sums;
} swt_experts_backward_weight_args;

/* Bring the experts' outputs back to their tokens, weigh them, add the residual. With
 * s[n] = gate[n] (scale) or 1 (unit) and o[n] = recv[expert[n], slot[n] - first_slot] for a kept
 * token, h[n] for a dropped one (gated_input) or 0 (zero):  y[n] = residual[n] + s[n] o[n]; a token
 * that is not routed: y[n] = residual[n]. With first_slot > 0 only the tokens whose slot lies in
 * the round are written; the round of first_slot = 0 writes all others' y, too (those of later
 * rounds are overwritten then). y may be residual only if first_slot = 0 and no later round
 * follows.
 * Source: Fedus, Zoph, Shazeer 2021, equation 2; gated_input and unit: labml's implementation. */
typedef struct swt_combine_forward_args {
    void *y;               /* (N, C) */
    const void *residual;  /* (N, C) or NULL: 0 */
    const void *recv;      /* (E, K, C) */
    const void *h;         /* (N, C) */
    const int32_t *expert; /* (N, k) */
    const float *gate;     /* (N, k) */
    const int32_t *slot;   /* (N, k) */
    swt_moe_dims dims;
    int64_t first_slot;
} swt_combine_forward_args;

/* drecv[expert[n], slot[n]] = s[n] dy[n] for kept tokens (other slots keep what they hold, or with
 * ops->all_slots become zeros);
 * dgate[n] = dy[n] . o[n] (scale) or dy[n] . o[n] / gate[n] (unit), 0 where o[n] is 0 by
 * definition. Written here for tokens that are not kept; for a kept one o[n] is the expert's output
 * and no longer there: with what the expert gets, (s dy) . o = gate dgate in both cases, so the
 * expert forms it (swt_experts_backward_input) and swt_dispatch_backward divides: docs/numerics.md
 * has the three steps side by side. dh[n] = s[n] dy[n] for a dropped token with gated_input, else
 * 0. The residual's gradient is dy. */
typedef struct swt_combine_backward_args {
    void *drecv;           /* (E, K, C) */
    float *dgate;          /* (N, k), of tokens that are not kept */
    void *dh;              /* (N, C) */
    const void *dy;        /* (N, C) */
    const void *h;         /* (N, C) */
    const int32_t *expert; /* (N, k) */
    const float *gate;     /* (N, k) */
    const int32_t *slot;   /* (N, k) */
    swt_moe_dims dims;
} swt_combine_backward_args;

#endif
