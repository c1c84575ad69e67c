/* Dropout in the model: which numbers at which places, and what a sub-layer adds. */
#ifndef SWT_MODEL_DROPOUT_H
#define SWT_MODEL_DROPOUT_H

#include "model/model.h"

/* A block's number among those of both stacks, for random numbers: the decoder's come first. */
uint32_t swt_block_number(const swt_dims *d, swt_stack stack, int64_t block);

/* y = s->x + dropout(linear(x)): what the sub-layer leaves, in training and else without dropout.
 */
SWT_MUST_CHECK swt_status swt_model_output(swt_model *m, const swt_pass *pass,
                                           const swt_sublayer *s, const swt_place *p, void *y,
                                           const void *x);

/* What a sub-layer's last operation adds what it makes to, s->x or NULL; where it is NULL,
 * y = s->x + dropout(y) follows. */
const void *swt_model_residual(const swt_model *m, const swt_pass *pass, const swt_sublayer *s);
SWT_MUST_CHECK swt_status swt_model_add(swt_model *m, const swt_pass *pass, const swt_sublayer *s,
                                        void *y);

/* acts.doutput from acts.dstream. */
SWT_MUST_CHECK swt_status swt_model_output_gradient(swt_model *m, const swt_pass *pass,
                                                    const swt_sublayer *s);

/* Of what a stack's first sub-layer reads, or of its final norm's output; or of its gradient. */
SWT_MUST_CHECK swt_status swt_model_drop_end(swt_model *m, const swt_pass *pass, swt_stack stack,
                                             swt_dropout_place place, void *x);

/* Of the experts' hidden values. */
swt_dropout_mask swt_model_expert_mask(const swt_model *m, const swt_pass *pass,
                                       const swt_sublayer *s);

/* Of attention's weights. */
swt_dropout_mask swt_model_weights_mask(const swt_model *m, const swt_pass *pass,
                                        const swt_sublayer *s);

/* Of a dense feed-forward's hidden values, or of their gradient. */
SWT_MUST_CHECK swt_status swt_model_drop_hidden(swt_model *m, const swt_pass *pass,
                                                const swt_sublayer *s, void *hidden);

#endif
