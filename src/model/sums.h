/* Sums: how the gradients of micro-batches become that of the global batch, with the same bits in
 * any layout of ranks. All that depends on it is here.
 *
 *     M = 1    The one micro-batch's gradients are the batch's. Rank 0's expert group has them, and
 *              they are copied to the others; there are no sums.
 *     M > 1    Each micro-batch's gradients are computed from zero and added as integers
 *              (swt_grad_add), which gives the same sum in any order; the sum of all becomes the
 *              gradient (swt_grad_finish).
 *       shared parameters   added after each backward pass, reduced over all ranks
 *       experts             added inside the backward pass (swt_experts_backward_weight), where the
 *                           whole group's micro-batches arrive; reduced over the replicas, and
 *                           where there is but one, finished by the last turn's pass itself
 *
 * The integers are in model.sum, in the layout of the parameters. Source: docs/numerics.md. */
#ifndef SWT_MODEL_SUMS_H
#define SWT_MODEL_SUMS_H

#include "model/model.h"

/* Gradients are added as integers: M > 1. */
bool swt_sums_exact(const swt_model *m);

/* Elements of model.sum: 0 where M = 1; all parameters; or the shared ones alone, where no sum of
 * an expert outlives the call that begins it. */
int64_t swt_sums_count(const swt_model *m);

/* What one micro-batch's gradient may add, so that M of them cannot wrap: 2^62 / M. */
double swt_sums_limit(const swt_model *m);

/* Add the shared parameters' gradients of a pass; nothing where M = 1. Local. */
SWT_MUST_CHECK swt_status swt_sums_add(swt_model *m, const swt_pass *pass);

/* What swt_experts_backward_weight does with its sums in this pass. */
swt_expert_sums swt_sums_of_experts(const swt_model *m, const swt_pass *pass, const swt_places *p);

/* After the last turn: model.grad becomes the gradient of the global batch on every rank that holds
 * the tensor. Collective over all ranks. */
SWT_MUST_CHECK swt_status swt_sums_reduce(swt_model *m);

#endif
