/* config.json of Hugging Face's switch_transformers (transformers 4.x), and the options that mean
 * the same model. One table of its fields drives both directions (hf_config.c). */
#ifndef SWT_OPTIONS_HF_CONFIG_H
#define SWT_OPTIONS_HF_CONFIG_H

#include "options/options.h"

/* The options of the t5 preset with the model that a config.json describes. Untrusted input: every
 * value is one of its key's range. Warns of fields that are not known, which are not looked at.
 * Errors: CHECKPOINT, naming the file and the field, where it is no such file or describes what
 * this model cannot be. */
SWT_MUST_CHECK swt_status swt_hf_config_read(swt_options *out, const char *path,
                                             swt_warnings *warnings);

/* Whether a config.json can describe the options' model, which `where` has. Warns of what decides
 * over dropped tokens alone and would be otherwise. Errors: CHECKPOINT, naming the key. */
SWT_MUST_CHECK swt_status swt_hf_config_check(const swt_options *o, const char *where,
                                              swt_warnings *warnings);

/* Write the config.json of checked options, whose sizes are all settled (none is 0 for a default).
 * dtype: of the weights, "float32". Errors: FILE. */
SWT_MUST_CHECK swt_status swt_hf_config_write(const swt_options *o, const char *dtype,
                                              const char *path);

#endif
