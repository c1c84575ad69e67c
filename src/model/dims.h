/* The dimensions of a model and of its batches: the design's letters, with what decides their
 * meaning. The options' rows write them (options/table.c), train/session.c settles what they leave
 * open, and then they are constant. */
#ifndef SWT_MODEL_DIMS_H
#define SWT_MODEL_DIMS_H

#include "kernels/swt_ops.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum { SWT_INIT_LABML, SWT_INIT_PYTORCH, SWT_INIT_SWITCH } swt_init;
/* X(NAME, the stack's name in the names of tensors), in the order of a token's way. */
#define SWT_STACK_LIST(X)                                                                          \
    X(ENCODER, "encoder")                                                                          \
    X(DECODER, "decoder")

typedef enum swt_stack {
#define SWT_STACK_ENUM(name, text) SWT_##name,
    SWT_STACK_LIST(SWT_STACK_ENUM)
#undef SWT_STACK_ENUM
        SWT_STACKS
} swt_stack;

typedef enum { SWT_POSITIONS_NONE, SWT_POSITIONS_RELATIVE } swt_positions;
typedef enum { SWT_NORM_LAYERNORM, SWT_NORM_RMSNORM } swt_norm;
typedef enum { SWT_ROUND_FLOOR, SWT_ROUND_CEIL, SWT_ROUND_ROUND } swt_capacity_round;
typedef enum { SWT_GROUP_MICRO_BATCH, SWT_GROUP_SEQUENCE } swt_group;
typedef enum { SWT_AUX_LAYERS_SUM, SWT_AUX_LAYERS_MEAN } swt_aux_layers;

typedef struct swt_dims {
    int64_t B, T, C, H, D, F, V, L, E, M; /* T and L of the decoder */
    int64_t encoder_T, encoder_L;         /* both 0: there is no encoder */
    int64_t every;    /* the last block of each `every` is sparse; 0 = all dense */
    float attn_scale; /* of the attention scores */
    swt_positions positions;
    bool bias; /* linear layers have one */
    swt_norm norm;
    swt_ffn ffn; /* of dense feed-forwards and of experts */
    bool tied;   /* the head is the embedding, behind a factor of C^-0.5 */

    double capacity_factor, eval_capacity_factor; /* eval: 0 = the same */
    int64_t capacity, min_capacity; /* fixed slots per expert and group; 0 = by factor */
    swt_capacity_round capacity_round;
    swt_group group;
    swt_drop drop;
    swt_dropped_output dropped_output;
    swt_gate gate;
    double dropout, expert_dropout; /* the second of experts' hidden values alone, which the first
                                       leaves alone */
    double jitter, aux_coef, z_coef;
    double output_z_coef; /* of the logits' z-loss */
    swt_aux_layers aux_layers;
    int64_t pad_id;     /* -1 = none */
    bool route_padding; /* false: a padding token takes no slot */
    swt_dtype dtype;    /* of activations and of what gemms read of the parameters */
} swt_dims;

/* Slots per expert and routing group of `tokens` tokens:
 * capacity = max(min(round_mode(factor tokens / E), tokens), min_capacity), computed in double, or
 * the fixed capacity. Source: Fedus, Zoph, Shazeer 2021, equation 3; rounding: docs/numerics.md. */
int64_t swt_group_capacity(const swt_dims *d, int64_t tokens, bool training);

const char *swt_stack_name(swt_stack stack);

/* Positions and blocks of a stack; 0 of an encoder that is not there. */
int64_t swt_stack_positions(const swt_dims *d, swt_stack stack);
int64_t swt_stack_blocks(const swt_dims *d, swt_stack stack);

/* Positions of the longest stack. */
int64_t swt_most_positions(const swt_dims *d);

/* The number under the root of a norm: 1e-5 of LayerNorm, 1e-6 of RMS norm. */
double swt_norm_eps(const swt_dims *d);

/* What scales the last norm's output: C^-0.5 where the head is tied, else 1. */
float swt_head_scale(const swt_dims *d);

/* Routing groups of a micro-batch of B sequences. */
int64_t swt_groups_per_micro_batch(const swt_dims *d, int64_t B);

/* Tokens of one of them in a stack, in a full micro-batch. */
int64_t swt_group_tokens(const swt_dims *d, swt_stack stack);

/* Slots per expert that a micro-batch sends in a layer of a stack, those of all its groups. */
int64_t swt_sent_slots(const swt_dims *d, swt_stack stack, bool training);

/* Slots per expert in the message buffers: enough for training and evaluation, at least 1. */
int64_t swt_message_slots(const swt_dims *d);

/* Of a stack's blocks, one in `every`; and those of both stacks. */
int64_t swt_sparse_blocks(const swt_dims *d, swt_stack stack);
int64_t swt_sparse_layers(const swt_dims *d);

/* Tokens of a global batch, in both stacks. */
int64_t swt_step_tokens(const swt_dims *d);

/* Statistics of a micro-batch: those of swt_cross_entropy, then for each sparse layer those of
 * swt_router_losses. Where those of that sparse layer begin, and how many there are in all. */
int64_t swt_stats_layer(const swt_dims *d, int64_t sparse);
int64_t swt_stats_count(const swt_dims *d);

#endif
