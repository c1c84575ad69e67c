/* A model in Hugging Face's switch_transformers layout: what its tensors are called and how they
 * are found. config.json: options/hf_config.h. */
#ifndef SWT_STATE_HF_H
#define SWT_STATE_HF_H

#include "model/params.h"
#include "state/source.h"

#define SWT_HF_CONFIG_FILE  "config.json"
#define SWT_HF_WEIGHTS_FILE "model.safetensors"
#define SWT_HF_INDEX_FILE   "model.safetensors.index.json"

/* Where a tensor stands among those of its model, as transformers numbers its modules: from left to
 * right the stack, the block, the part of the block, the expert. */
typedef struct swt_hf_order {
    int64_t stack, block, part, expert;
} swt_hf_order;

/* What transformers calls one of our tensors; false where it has none that is the same. */
bool swt_hf_name(char out[SWT_TENSOR_NAME_BYTES], swt_hf_order *order, const char *name);

/* Open the tensors of a folder: those of model.safetensors, or of the files of its index, which
 * must list all that they hold. Errors: CHECKPOINT, naming file and tensor. */
SWT_MUST_CHECK swt_status swt_hf_open(swt_source *out, const char *folder);

/* The folder holds exactly the tensors of a model of these dimensions, F32, BF16 or F16; copies of
 * the embedding under its other names are the same to the bit. Marks them. Errors: CHECKPOINT. */
SWT_MUST_CHECK swt_status swt_hf_check(swt_source *s, const swt_dims *d);

/* The tensor that is one of our parameters, of a checked source. */
const swt_tensor_entry *swt_hf_find(const swt_source *s, const char *name);

#endif
