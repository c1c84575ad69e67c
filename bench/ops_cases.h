/* Every slot of the op table as a case to measure: at the shapes of a model's micro-batch, on the
 * tensors of its first block. */
#ifndef BENCH_OPS_CASES_H
#define BENCH_OPS_CASES_H

#include "kernels/swt_positional.h"
#include "model/model.h"
#include "train/step.h"

/* What the cases run on: a model that has run a micro-batch forward and backward. */
typedef struct op_bed {
    swt_model *m;
    const swt_update *update;
    swt_pass pass;
    swt_moe_dims moe;
    pos_attention_dims attention;
    double slots; /* occupied, of all experts */
} op_bed;

typedef struct op_case op_case;
typedef swt_status op_call_fn(const op_case *k);

struct op_case {
    const op_bed *b;
    const char *op; /* the slot's name */
    op_call_fn *call;
    char shape[40];
    double flops; /* 2 per multiply-add of its products; 0 where it has none */
    double bytes; /* each tensor argument once; of slots the occupied ones */
    /* linear layers */
    int64_t in, out;
    const swt_place *at;
    void *x, *y;
};

enum { OP_CASES = 48 };

/* Run the model's first micro-batch, fill the bed and list the cases. *n = their number. */
SWT_MUST_CHECK swt_status op_cases(op_bed *b, swt_model *m, const swt_update *update,
                                   op_case out[OP_CASES], int *n);

op_call_fn op_call_linear_forward;
op_call_fn op_call_linear_backward_input;
op_call_fn op_call_linear_backward_weight;
op_call_fn op_call_embedding_forward;
op_call_fn op_call_embedding_backward;
op_call_fn op_call_norm_forward;
op_call_fn op_call_norm_backward;
op_call_fn op_call_attention_forward;
op_call_fn op_call_attention_backward;
op_call_fn op_call_cross_entropy;
op_call_fn op_call_router_forward;
op_call_fn op_call_router_assign;
op_call_fn op_call_router_losses;
op_call_fn op_call_router_backward;
op_call_fn op_call_dispatch_forward;
op_call_fn op_call_dispatch_backward;
op_call_fn op_call_experts_forward;
op_call_fn op_call_experts_backward_input;
op_call_fn op_call_experts_backward_weight;
op_call_fn op_call_combine_forward;
op_call_fn op_call_combine_backward;
op_call_fn op_call_state_advance;
op_call_fn op_call_count_targets;
op_call_fn op_call_grad_add;
op_call_fn op_call_grad_finish;
op_call_fn op_call_grad_squares;
op_call_fn op_call_state_clip;
op_call_fn op_call_adam;
op_call_fn op_call_sgd;
op_call_fn op_call_cast;

#endif
