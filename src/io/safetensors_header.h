/* The JSON header of a safetensors file, checked. Private to the reader. */
#ifndef SWT_IO_SAFETENSORS_HEADER_H
#define SWT_IO_SAFETENSORS_HEADER_H

#include "io/safetensors.h"

/* "FILE: WHAT" with the file's status. */
#define SWT_FAIL_TENSORS(f, fmt, ...)                                                              \
    swt_fail((f)->status, __FILE__, __LINE__, "%s: " fmt, (f)->path, __VA_ARGS__)

/* Parse the header (json has json_bytes bytes and a 0 byte behind them) into f->entries, sorted by
 * name, and check that they tile exactly data_bytes bytes of data. Errors: the file's status. */
SWT_MUST_CHECK swt_status swt_tensor_header_parse(swt_tensor_file *f, const char *json,
                                                  size_t json_bytes, int64_t data_bytes);

#endif
