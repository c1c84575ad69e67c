/* What writing and reading a manifest share. */
#ifndef SWT_STATE_MANIFEST_TEXT_H
#define SWT_STATE_MANIFEST_TEXT_H

#include <stddef.h>

enum { SWT_MANIFEST_END_BYTES = 32 };

/* The last two lines of a manifest: the own hash, of all lines before them. The reader compares
 * them as they are, so that no byte of them can be another one. */
void swt_manifest_print_end(char out[SWT_MANIFEST_END_BYTES], const char *body, size_t bytes);

#endif
