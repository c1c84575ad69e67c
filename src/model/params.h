/* The parameter table: every named tensor once. It drives allocation, initialisation, sharding,
 * gradient reduction, the clip norm's order, checkpoint names and the printed plan.
 *
 * A rank's parameters are one flat array, first the shared ones, then those of its experts;
 * gradients and moments have the same layout (factors: optim.h). Offsets count elements. Tensors
 * that one operation reads as one (q, k and v; an expert layer's wi of all experts) stand side by
 * side; such blocks are aligned to 64 bytes, also where their elements are BF16. */
#ifndef SWT_MODEL_PARAMS_H
#define SWT_MODEL_PARAMS_H

#include "model/dims.h"
#include "model/dist.h"
#include "model/sublayer.h"

#include <stdint.h>

typedef enum swt_param_kind {
    SWT_PARAM_EMBED,
    SWT_PARAM_WEIGHT,
    SWT_PARAM_BIAS,
    SWT_PARAM_NORM_WEIGHT,
    SWT_PARAM_NORM_BIAS
} swt_param_kind;

/* One named tensor of the model, whoever holds it. */
typedef struct swt_param {
    char name[80];
    swt_param_kind kind;
    int dims;
    int64_t shape[2];
    int64_t count;  /* elements */
    int64_t fan_in; /* inputs of its linear layer */
    int64_t block;  /* its number in the stack, 0 outside of blocks */
    int64_t expert; /* -1: shared by all ranks */
    int64_t role;   /* which tensor of its block: the same in every block and expert */
    int64_t offset; /* in this rank's flat array; -1 where another rank holds it */
} swt_param;

typedef struct swt_params {
    int64_t count;      /* named tensors of the whole model */
    swt_param *table;   /* (count), owned */
    int64_t shared_end; /* elements of the shared part, padding included */
    int64_t end;        /* elements of the flat array */
    int64_t total;      /* elements of the whole model, all experts, no padding */
    int64_t active;     /* of these, elements that one token meets */
    int64_t largest;    /* elements of the largest tensor */
    swt_place embed, head;
    swt_place final_norm[SWT_STACKS], rel_bias[SWT_STACKS]; /* rel_bias: (32, H) */
    swt_places *places; /* (swt_sublayer_count) of the sub-layers, owned */
} swt_params;

/* ---- for the sub-layers' kinds: more tensors of the one under way */

/* A linear layer made of parts (out, in), a NULL behind the last: their weights side by side, then,
 * where the model has biases, these. Returns the place of the first. */
swt_place swt_params_linear(swt_param_walk *w, const char *const *parts, int64_t out, int64_t in);

/* The same linear layer of every expert; this rank's stand side by side, each with its parts. */
swt_place swt_params_experts(swt_param_walk *w, const char *const *parts, int64_t out, int64_t in);

/* The parts of a feed-forward's first layer: wi, and of GEGLU wi and wg. */
const char *const *swt_params_wi(const swt_dims *d);

/* Call `visit` for every named tensor of the model, in the table's order but without a table
 * (offset is -1 for experts); stops at its first error. For dimensions that nobody has vouched for.
 */
typedef swt_status (*swt_param_visit)(void *context, const swt_param *p);
SWT_MUST_CHECK swt_status swt_params_visit(const swt_dims *d, swt_param_visit visit, void *context);

/* Make the table for this rank. Errors: MEMORY, also for more tensors than any model has, which is
 * known at once. */
SWT_MUST_CHECK swt_status swt_params_init(swt_params *out, const swt_dims *d, const swt_dist *dist);
void swt_params_fini(swt_params *p);

/* The first of the ranks that hold the tensor. */
int swt_param_holder(const swt_param *p, const swt_dist *dist);

/* Initial values of one tensor, a function of (seed, init, tensor) alone.
 *   labml, pytorch: weights and biases U(-1/sqrt(fan_in), 1/sqrt(fan_in)), embedding N(0, 1), norms
 * 1 and 0; with labml every block and every expert is the same copy. switch: weights from a normal
 * of deviation sqrt(init_scale / fan_in), cut at 2 deviations, biases 0, embedding N(0, 1). Shapes:
 * out (count). Source: labml's modules; Fedus, Zoph, Shazeer 2021, section 2.4.           */
void swt_param_values(float *out, const swt_param *p, swt_init init, double init_scale,
                      uint64_t seed);

#endif
