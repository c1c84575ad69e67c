/* What a step costs: arithmetic and messages, counted from the shapes. */
#ifndef SWT_MODEL_COST_H
#define SWT_MODEL_COST_H

#include "model/dist.h"
#include "model/sublayer.h"

/* FLOPs of one token's forward pass but for the experts: 2 per weight and product, a decoder's
 * attention over half of T keys on average. With two stacks, of the mean of their tokens. */
double swt_dense_flops_per_token(const swt_dims *d);

/* FLOPs of one slot of an expert in one layer, forward. */
double swt_expert_flops_per_slot(const swt_dims *d);

/* Tokens of a training step, each once for every sparse layer that it passes. */
double swt_step_routes(const swt_dims *d);

/* Expert slots of a training step, filled or not, over all micro-batches and layers. */
double swt_step_slots(const swt_dims *d);

/* FLOPs of a training step (forward and twice that backward) with `slots` occupied expert slots
 * over all micro-batches and layers. */
double swt_step_flops(const swt_dims *d, double slots);

/* Bytes that this rank sends to others in the exchanges of a step. For every sparse layer and turn:
 * slots out and back, forward and backward; a count for each block out; a number for each slot
 * back, for the gate's gradient. */
double swt_all_to_all_bytes(const swt_dims *d, const swt_dist *dist);

#endif
