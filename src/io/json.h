/* Reading JSON with the library, so that a lack of memory is not taken for a broken file. */
#ifndef SWT_IO_JSON_H
#define SWT_IO_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

/* The text as a tree, which the caller frees with cJSON_Delete; *end is behind it. NULL where it is
 * no JSON, or, as *no_memory says, an allocation failed. */
cJSON *swt_json_parse(const char *text, size_t bytes, const char **end, bool *no_memory);

#endif
