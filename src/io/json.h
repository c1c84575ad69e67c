/* JSON of files: read with the library, so that a lack of memory is not taken for a broken file,
 * and that no file makes it take more memory than its reader allows. */
#ifndef SWT_IO_JSON_H
#define SWT_IO_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The memory that the tree of a text would take, at least, beside what its strings hold. A few
 * bytes of text can be some hundred in the tree, so a reader looks before it parses. */
size_t swt_json_tree_bytes(const char *text, size_t bytes);

/* The text as a tree, which the caller gives back with json_decref. No name is twice in an object.
 * NULL where it is no JSON, for the reason why->text, or where *no_memory. */
json_t *swt_json_parse(const char *text, size_t bytes, json_error_t *why, bool *no_memory);

/* Print a string in its quotes. */
void swt_json_print_string(FILE *out, const char *s);

#endif
