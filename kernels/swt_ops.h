/* The operations: the mathematics of the program, one slot each, for every backend.
 *
 * Reading ops_dense.h, ops_attention.h, ops_moe.h and ops_update.h is reading the model: each
 * operation is a structure of arguments there, below its equation. Letters: B sequences, T
 * positions, N = B * T tokens of one micro-batch, C width, H heads, D head width, F hidden width, V
 * vocabulary, E experts, El experts on this rank, P ranks of the expert group, K slots per expert
 * in a message, G routing groups, k experts per token (1).
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

#include "kernels/ops_attention.h"
#include "kernels/ops_dense.h"
#include "kernels/ops_moe.h"
#include "kernels/ops_update.h"

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
    X(gelu_forward)                                                                                \
    X(gelu_backward)                                                                               \
    X(dropout)                                                                                     \
    X(bias_forward)                                                                                \
    X(bias_backward)                                                                               \
    X(attention_forward)                                                                           \
    X(attention_backward)                                                                          \
    X(cross_entropy)                                                                               \
    X(router_forward)                                                                              \
    X(router_assign)                                                                               \
    X(router_losses)                                                                               \
    X(router_backward)                                                                             \
    X(dispatch_forward)                                                                            \
    X(dispatch_backward)                                                                           \
    X(experts_forward)                                                                             \
    X(experts_backward_input)                                                                      \
    X(experts_backward_weight)                                                                     \
    X(combine_forward)                                                                             \
    X(combine_backward)                                                                            \
    X(state_advance)                                                                               \
    X(count_targets)                                                                               \
    X(grad_add)                                                                                    \
    X(grad_finish)                                                                                 \
    X(grad_squares)                                                                                \
    X(state_clip)                                                                                  \
    X(adam)                                                                                        \
    X(sgd)                                                                                         \
    X(adafactor)                                                                                   \
    X(cast)

/* swt_NAME(c, arguments): check the arguments, then call the slot of the context's backend, a
 * swt_NAME_fn. */
#define SWT_OP_FUNCTION(op)                                                                        \
    typedef swt_status (*swt_##op##_fn)(const swt_ctx *c, const swt_##op##_args *args);            \
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
#define SWT_OP_SLOT(op) swt_##op##_fn op;
    SWT_OPS(SWT_OP_SLOT)
#undef SWT_OP_SLOT
};

#endif
