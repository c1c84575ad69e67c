/* Sub-layers: what a model is made of. Each is y = x + f(norm(x)), in training with dropout of f;
 * its kind says what f is.
 *
 * A model is an array of them, in the order of a token's way: forward walks it from the first to
 * the last, backward the other way, and the parameter table, the memory, the FLOP count, plan and
 * probe walk it, too. A new kind of sub-layer is a row (swt_kind) in a file of its own. */
#ifndef SWT_MODEL_SUBLAYER_H
#define SWT_MODEL_SUBLAYER_H

#include "model/dims.h"

typedef enum swt_sublayer_kind {
    SWT_SELF_ATTENTION,  /* attention.c */
    SWT_CROSS_ATTENTION, /* cross.c: of the decoder to the encoder's output */
    SWT_DENSE,           /* ffn.c: a feed-forward that all tokens share */
    SWT_SWITCH,          /* switch.c: a feed-forward of experts */
    SWT_SUBLAYER_KINDS
} swt_sublayer_kind;

/* A linear layer's or a norm's place in the flat arrays of the parameters (params.h). */
typedef struct swt_place {
    int64_t weight, bias; /* offsets; bias is -1 where there is none */
    int64_t out, in;      /* of the weight (out, in); of one expert; of a norm both C */
} swt_place;

/* Those that its kind has. */
typedef struct swt_places {
    swt_place norm;
    swt_place qkv, o; /* self-attention: q, k and v are one linear layer of 3 H D outputs */
    swt_place q, kv;  /* cross-attention: k and v are one, of the encoder's output */
    swt_place router; /* switch */
    swt_place wi, wo; /* dense, and switch: this rank's experts, side by side */
} swt_places;

/* What a sub-layer keeps for its backward pass; letters of swt_ops.h. */
typedef struct swt_attention_acts {
    void *qkv;  /* (N, 3 H D) */
    float *lse; /* (B, H, T) */
    void *y;    /* (N, H D) */
} swt_attention_acts;

/* N tokens of the decoder, S of the encoder. */
typedef struct swt_cross_acts {
    void *q, *kv; /* (N, H D), (S, 2 H D) */
    float *lse;   /* (B, H, T) */
    void *y;      /* (N, H D) */
} swt_cross_acts;

typedef struct swt_dense_acts {
    void *hidden; /* (N, F) */
    void *pre;    /* (N, swt_wi_width) what hidden is made of; ReLU has none */
} swt_dense_acts;

typedef struct swt_switch_acts {
    float *probs, *lse;    /* (N, E), (N) */
    int32_t *expert;       /* (N, k) */
    float *gate;           /* (N, k) */
    int32_t *slot;         /* (N, k) */
    int32_t *kept_counts;  /* (E) */
    int32_t *group_counts; /* (G, E) */
    int32_t *slot_counts;  /* (El, P) occupied slots of this rank's experts */
    void *x, *hidden;      /* (El, P, K, C), (El, P, K, F) */
    void *pre;             /* (El, P, K, swt_wi_width); ReLU has none */
} swt_switch_acts;

typedef struct swt_sublayer {
    swt_sublayer_kind kind;
    swt_stack stack;
    int64_t block;  /* number in its stack */
    int64_t sparse; /* of kind switch: its number among them, which places its statistics */
    const swt_places *places; /* the parameter table's */
    /* norm(x) is not kept: backward makes it again (swt_model_norm). */
    void *x; /* (N, C) input, which is the output of the sub-layer before */
    union {
        swt_attention_acts attention;
        swt_cross_acts cross;
        swt_dense_acts dense;
        swt_switch_acts moe;
    };
    size_t kept_bytes; /* what it keeps, x included */
} swt_sublayer;

typedef struct swt_model swt_model;
typedef struct swt_pass swt_pass;
typedef struct swt_param_walk swt_param_walk;
typedef struct swt_memory_walk swt_memory_walk;

/* What a kind is. Where forward begins acts.norm holds norm(x). */
typedef struct swt_kind {
    const char *name; /* in the names of its tensors: decoder.0.NAME.q.weight */
    const char *norm; /* its norm's: decoder.0.NORM.weight */

    /* Add its tensors to the parameter table (params.h). */
    void (*params)(swt_param_walk *w, const swt_dims *d, swt_places *out);
    /* Take what it keeps; and once what all sub-layers of the kind share (memory.h). */
    void (*keep)(swt_memory_walk *w, swt_sublayer *s);
    void (*share)(swt_memory_walk *w);

    /* y = x + dropout(f(acts.norm)). */
    swt_status (*forward)(swt_model *m, const swt_pass *pass, swt_sublayer *s, void *y);
    /* acts.doutput holds the gradient of f(acts.norm) and stays; acts.norm holds norm(x);
     * acts.dnorm becomes its gradient. */
    swt_status (*backward)(swt_model *m, const swt_pass *pass, swt_sublayer *s);

    /* FLOPs of one token's forward pass, 2 per weight and product; without the experts. */
    double (*flops_per_token)(const swt_dims *d, swt_stack stack);
} swt_kind;

extern const swt_kind swt_attention_kind, swt_cross_kind, swt_dense_kind, swt_switch_kind;

const swt_kind *swt_kind_of(const swt_sublayer *s);

/* The model's layout: how many sub-layers it has, the number of a stack's first, and the i-th
 * without places and memory. */
int64_t swt_sublayer_count(const swt_dims *d);
int64_t swt_sublayer_first(const swt_dims *d, swt_stack stack);
swt_sublayer swt_sublayer_at(const swt_dims *d, int64_t i);

#endif
