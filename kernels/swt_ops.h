/* The operations: the mathematics of the program, one slot each, for every backend.
 *
 * Reading this header is reading the model. Letters: B sequences, T positions, N = B * T tokens of
 * one micro-batch, C width, H heads, D head width, F hidden width, V vocabulary, E experts, El
 * experts on this rank, P ranks of the expert group, K slots per expert and micro-batch, G routing
 * groups, k experts per token (1).
 *
 * Conventions
 *  - Arguments: context, outputs, inputs, saved for backward, scratch, dims, scalars.
 *  - `void` tensors have the activation type c->dtype; typed tensors have that type always.
 *  - All memory is backend memory, rows contiguous, tensors aligned to 64 bytes.
 *  - A backward operation overwrites its gradients. Where it has an argument `add`, add != 0 adds
 * to the parameter's gradient instead, in call order (a parameter used twice in a micro-batch).
 *  - Outputs alias no input unless the operation says so.
 *  - Every operation is local, is queued on c->stream, never allocates and never waits.
 *  - The result depends on shapes and values alone: never on threads, ranks, or a grid's order.
 *  - Errors: SHAPE where a dimension is negative or too large, a pointer is missing or an alias
 *    forbidden. Checks are made once (ops_*.c); backends assume.                              */
#ifndef SWT_OPS_H
#define SWT_OPS_H

#include "kernels/ops_dense.h"
#include "kernels/ops_update.h"

/* ------------------------------------------------------------------ the switch layer */

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
    float jitter;         /* router input * U(1 - jitter, 1 + jitter); 0 = none */
    uint32_t layer;       /* number of the block, for random numbers */
    uint32_t micro_batch; /* number in the global batch, for random numbers */
    bool training;        /* false: no jitter; random dropping as SWT_RNG_DROP_EVAL at step 0 */
    double aux_scale;     /* d loss / d aux of one group, in backward */
    double z_scale;       /* d loss / d z of one group, in backward */
} swt_moe_dims;

/* The router: hj[n, i] = h[n, i] (1 + jitter (2 u - 1)), u = swt_rng_uniform of word 0 of
 * swt_rng(seed, n C + i, micro_batch, step, JITTER, layer);
 * z = hj w^T + bias;  lse[n] = logsumexp(z[n]);  probs[n] = softmax(z[n]);
 * expert[n] = argmax z[n], lowest index on ties, NaN counts as -infinity;  gate[n] = probs[n,
 * expert[n]]. A token with routed[n] == 0 has expert -1 and gate 0. Shapes: probs (N, E), lse (N),
 * expert, gate (N, k), h (N, C), w (E, C), bias (E) or NULL, routed (N). Types: probs, lse, gate,
 * w, bias F32 always; expert, routed I32. scratch of swt_router_scratch_bytes(dims). Source: Fedus,
 * Zoph, Shazeer 2021, section 2.1 and appendix C (input jitter).                  */
SWT_MUST_CHECK swt_status swt_router_forward(const swt_ctx *c, float *probs, float *lse,
                                             int32_t *expert, float *gate, const void *h,
                                             const float *w, const float *bias,
                                             const int32_t *routed, void *scratch,
                                             const swt_moe_dims *dims);

/* Give each routed token its slot at its expert, until the expert is full in the token's group.
 * Within a group and expert the first group_capacity tokens in the order of the drop policy are
 * kept: position: by n; priority: by gate, highest first, then by n; random: by word 0 of
 * swt_rng(seed, n, micro_batch, step, DROP, layer) (evaluation: purpose DROP_EVAL, step 0), then by
 * n. slot[n] = #{ m < n : expert[m] == expert[n], m kept } for a kept token, else -1: slots are
 * dense and in position order whatever the policy. counts[g, e] = routed tokens of group g to
 * expert e (before dropping);  kept[e] = kept tokens. Shapes: slot (N, k), kept (E), counts (G, E)
 * I32; expert I32, gate F32 (N, k). scratch of swt_router_scratch_bytes(dims). Source: Fedus, Zoph,
 * Shazeer 2021, section 2.2 (expert capacity).                              */
SWT_MUST_CHECK swt_status swt_router_assign(const swt_ctx *c, int32_t *slot, int32_t *kept,
                                            int32_t *counts, const int32_t *expert,
                                            const float *gate, void *scratch,
                                            const swt_moe_dims *dims);

/* Auxiliary losses and counts of the layer in this micro-batch, in F64. For each group, R = its
 * routed tokens: aux = E sum_e (counts[e] / R) (sum_n probs[n, e] / R), z = sum_n lse[n]^2 / R,
 * both 0 if R = 0. stats[0] = mean over groups of aux, stats[1] = of z, stats[2] = routed tokens
 * that were dropped, stats[3 + e] = routed tokens of expert e before dropping. Shapes: stats (3 +
 * E) F64, probs (N, E), lse (N), expert (N, k), kept (E), counts (G, E). Source: Fedus, Zoph,
 * Shazeer 2021, equations 4 to 6; z: Zoph et al. 2022, equation 5.          */
SWT_MUST_CHECK swt_status swt_router_losses(const swt_ctx *c, double *stats, const float *probs,
                                            const float *lse, const int32_t *expert,
                                            const int32_t *kept, const int32_t *counts,
                                            const swt_moe_dims *dims);

/* dz[n, j] = dgate[n] gate[n] ([j == expert[n]] - probs[n, j])
 *          + aux_scale E probs[n, j] (f[j] - sum_e f[e] probs[n, e]) / R,  f[e] = counts[g, e] / R
 *          + z_scale 2 lse[n] probs[n, j] / R,     g the group of n, R its routed tokens;
 * zero for a token that is not routed. (aux_scale and z_scale hold the mean over groups already.)
 * dw = dz^T hj;  dbias = sum_n dz;  dh += (dz w) (jitter factors as in forward).
 * Shapes: dh (N, C) is added to; dw (E, C), dbias (E) or NULL F32; dgate, gate (N, k); others as in
 * forward. scratch of swt_router_scratch_bytes(dims).                                            */
SWT_MUST_CHECK swt_status swt_router_backward(const swt_ctx *c, void *dh, float *dw, float *dbias,
                                              const float *dgate, const void *h, const float *w,
                                              const float *probs, const float *lse,
                                              const int32_t *expert, const float *gate,
                                              const int32_t *counts, void *scratch,
                                              const swt_moe_dims *dims);
int64_t swt_router_scratch_bytes(const swt_moe_dims *dims);

/* Write each kept token to its expert's slot: send[expert[n], slot[n] - first_slot] = h[n] for
 * first_slot <= slot[n] < first_slot + K; and in the same units
 * send_counts[e] = min(max(kept[e] - first_slot, 0), K), the occupied slots.
 * Other slots keep what they hold (nobody reads them); a backend whose experts take all K slots
 * (ops->all_slots) writes zeros into them. first_slot is 0 but in a dropless evaluation, which
 * exchanges in rounds of K slots. Shapes: send (E, K, C), send_counts (E) I32, h (N, C), expert,
 * slot (N, k), kept (E).          */
SWT_MUST_CHECK swt_status swt_dispatch_forward(const swt_ctx *c, void *send, int32_t *send_counts,
                                               const void *h, const int32_t *expert,
                                               const int32_t *slot, const int32_t *kept,
                                               const swt_moe_dims *dims, int64_t first_slot);

/* For kept tokens: dh[n] += dsend[expert[n], slot[n]], and the gradient of the gate that
 * swt_combine_backward left out: dgate[n] = dot[expert[n], slot[n]] / gate[n], dot of
 * swt_experts_backward_input. Other tokens keep theirs. Shapes: dh (N, C), dgate, gate, expert,
 * slot (N, k), dsend (E, K, C), dot (E, K); dgate, gate, dot F32. */
SWT_MUST_CHECK swt_status swt_dispatch_backward(const swt_ctx *c, void *dh, float *dgate,
                                                const void *dsend, const float *dot,
                                                const int32_t *expert, const float *gate,
                                                const int32_t *slot, const swt_moe_dims *dims);

/* The experts' feed-forward, for each (local expert j, source rank p) over its counts[j, p]
 * occupied slots: hidden = ReLU(x wi[j]^T + bi[j]);  y = hidden wo[j]^T + bo[j]. Shapes: y, x (El,
 * P, K, C), hidden (El, P, K, F) saved for backward, wi (El, F, C), bi (El, F) or NULL, wo (El, C,
 * F), bo (El, C) or NULL, counts (El, P) I32. Unoccupied slots are neither read nor written. With
 * ops->all_slots, here and in the two operations that follow, those of x and dy hold zeros, those
 * of what the experts made hold what they made, and all are read and written: what an output holds
 * there means nothing. */
SWT_MUST_CHECK swt_status swt_experts_forward(const swt_ctx *c, void *y, void *hidden,
                                              const void *x, const void *wi, const void *bi,
                                              const void *wo, const void *bo, const int32_t *counts,
                                              const swt_moe_dims *dims);

/* dhidden = (dy wo[j]) [hidden > 0];  dx = dhidden wi[j];  dot = dhidden . hidden + dy . bo[j],
 * which is dy . y (the mask takes nothing away: hidden is 0 there): the gate's gradient without the
 * outputs y. Shapes as above, dot (El, P, K) F32. Source of dot: Guo et al. 2025 (SonicMoE). */
SWT_MUST_CHECK swt_status swt_experts_backward_input(const swt_ctx *c, void *dx, void *dhidden,
                                                     float *dot, const void *dy, const void *hidden,
                                                     const void *wi, const void *wo, const void *bo,
                                                     const int32_t *counts,
                                                     const swt_moe_dims *dims);

/* Integer sums of the experts' gradients over micro-batches (swt_grad_add), in one or several
 * calls. Shapes: wi (El, F, C), bi (El, F), wo (El, C, F), bo (El, C), all I64; bi and bo NULL
 * where the gradients dbi and dbo are, all four may be NULL where one call is the first and the
 * last. */
typedef struct swt_expert_sums {
    int64_t *wi, *bi, *wo, *bo;
    double limit; /* 2^62 / M */
    bool first;   /* the sums begin with this call: what they hold is not read */
    bool last;    /* the gradients are finished (swt_grad_finish) */
} swt_expert_sums;

/* The gradients of a source rank's micro-batch are, over its counts[j, p] slots:
 * dwi[j] = dhidden^T x;  dbi[j] = sum dhidden;  dwo[j] = dy^T hidden;  dbo[j] = sum dy.
 * sums NULL: dwi, dbi, dwo, dbo are their sums over the sources in order, the gradients themselves
 * where one source alone has slots; zeros where none has.
 * sums given: the gradients of each source, made from zero, are added to the sums as swt_grad_add
 * does; a source without slots adds nothing (ops->expert_sums: the sums must be there even where
 * one call is the first and the last). If it is the last call, dwi, dbi, dwo, dbo are what
 * swt_grad_finish makes of the sums, which hold nothing of use then; else they are scratch.
 * Shapes: dwi (El, F, C), dbi (El, F) or NULL, dwo (El, C, F), dbo (El, C) or NULL, all F32. */
SWT_MUST_CHECK swt_status swt_experts_backward_weight(const swt_ctx *c, float *dwi, float *dbi,
                                                      float *dwo, float *dbo, const void *x,
                                                      const void *hidden, const void *dhidden,
                                                      const void *dy, const int32_t *counts,
                                                      const swt_moe_dims *dims,
                                                      const swt_expert_sums *sums);

/* Bring the experts' outputs back to their tokens, weigh them, add the residual. With
 * s[n] = gate[n] (scale) or 1 (unit) and o[n] = recv[expert[n], slot[n] - first_slot] for a kept
 * token, h[n] for a dropped one (gated_input) or 0 (zero):  y[n] = residual[n] + s[n] o[n]; a token
 * that is not routed: y[n] = residual[n]. With first_slot > 0 only the tokens whose slot lies in
 * the round are written; the round of first_slot = 0 writes all others' y, too (those of later
 * rounds are overwritten then). Shapes: y, residual, h (N, C), recv (E, K, C), gate, expert, slot
 * (N, k). y may be residual only if first_slot = 0 and no later round follows. Source: Fedus, Zoph,
 * Shazeer 2021, equation 2; gated_input and unit: labml's implementation.   */
SWT_MUST_CHECK swt_status swt_combine_forward(const swt_ctx *c, void *y, const void *residual,
                                              const void *recv, const void *h,
                                              const int32_t *expert, const float *gate,
                                              const int32_t *slot, const swt_moe_dims *dims,
                                              int64_t first_slot);

/* drecv[expert[n], slot[n]] = s[n] dy[n] for kept tokens (other slots keep what they hold, or with
 * ops->all_slots become zeros);
 * dgate[n] = dy[n] . o[n] (scale) or dy[n] . o[n] / gate[n] (unit), 0 where o[n] is 0 by
 * definition. Written here for tokens that are not kept; for a kept one o[n] is the expert's output
 * and no longer there: with what the expert gets, (s dy) . o = gate dgate in both cases, so the
 * expert forms it (swt_experts_backward_input) and swt_dispatch_backward divides. dh[n] = s[n]
 * dy[n] for a dropped token with gated_input, else 0. Shapes: drecv (E, K, C), dgate (N, k) F32,
 * dh, dy, h (N, C). The residual's gradient is dy.  */
SWT_MUST_CHECK swt_status swt_combine_backward(const swt_ctx *c, void *drecv, float *dgate,
                                               void *dh, const void *dy, const void *h,
                                               const int32_t *expert, const float *gate,
                                               const int32_t *slot, const swt_moe_dims *dims);

/* ------------------------------------------------------------------ the list */

/* Every operation, once. Slots, functions, both backends' tables, the checks' rows and whatever
 * else goes through all operations are made from this list: X(name) for each. */
#define SWT_OPS(X)                                                                                 \
    X(linear_forward)                                                                              \
    X(linear_backward_input)                                                                       \
    X(linear_backward_weight)                                                                      \
    X(embedding_forward)                                                                           \
    X(embedding_backward)                                                                          \
    X(norm_forward)                                                                                \
    X(norm_backward)                                                                               \
    X(attention_forward)                                                                           \
    X(attention_backward)                                                                          \
    X(cross_entropy)                                                                               \
    X(state_advance)                                                                               \
    X(count_targets)                                                                               \
    X(grad_add)                                                                                    \
    X(grad_finish)                                                                                 \
    X(grad_squares)                                                                                \
    X(state_clip)                                                                                  \
    X(adam)                                                                                        \
    X(sgd)                                                                                         \
    X(cast)

/* swt_NAME(c, arguments): check the arguments, then call the slot of the context's backend. */
#define SWT_OP_FUNCTION(op)                                                                        \
    SWT_MUST_CHECK swt_status swt_##op(const swt_ctx *c, const swt_##op##_args *args);
SWT_OPS(SWT_OP_FUNCTION)
#undef SWT_OP_FUNCTION

/* One backend. Every slot is mandatory; each has the signature of the function of its name. */
struct swt_ops {
    const char *name;
    bool bf16;               /* activations may be BF16 */
    bool expert_sums;        /* experts_backward_weight needs its sums in memory in any case */
    bool all_slots;          /* the experts read and write unoccupied slots, too: zeros at first */
    int64_t workspace_bytes; /* of swt_ctx.workspace */
    __typeof__(&swt_router_forward) router_forward;
    __typeof__(&swt_router_assign) router_assign;
    __typeof__(&swt_router_losses) router_losses;
    __typeof__(&swt_router_backward) router_backward;
    __typeof__(&swt_dispatch_forward) dispatch_forward;
    __typeof__(&swt_dispatch_backward) dispatch_backward;
    __typeof__(&swt_experts_forward) experts_forward;
    __typeof__(&swt_experts_backward_input) experts_backward_input;
    __typeof__(&swt_experts_backward_weight) experts_backward_weight;
    __typeof__(&swt_combine_forward) combine_forward;
    __typeof__(&swt_combine_backward) combine_backward;
#define SWT_OP_SLOT(op) swt_status (*op)(const swt_ctx *c, const swt_##op##_args *args);
    SWT_OPS(SWT_OP_SLOT)
#undef SWT_OP_SLOT
};

#endif
