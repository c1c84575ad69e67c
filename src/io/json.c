#include "io/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What the library allocates for each of these characters outside of strings, as measured with the
 * heap's own overhead (tests/io/test_json.c measures again). */
static const uint16_t bytes_of[256] = {
    ['{'] = 240, /* an object and the table of its names */
    ['['] = 144, /* an array and its first places */
    [','] = 48,  /* a number or a word, and its place */
    [':'] = 48,  /* a member of an object beside name and value */
    ['"'] = 24,  /* a string, which has two */
};

size_t swt_json_tree_bytes(const char *text, size_t bytes) {
    size_t tree_bytes = 0;
    bool in_string = false;
    for (size_t i = 0; i < bytes; i++) {
        if (in_string && text[i] == '\\') {
            i++; /* what is escaped ends no string */
            continue;
        }
        if (text[i] == '"')
            in_string = !in_string;
        if (!in_string || text[i] == '"')
            tree_bytes += bytes_of[(unsigned char)text[i]];
    }
    return tree_bytes;
}

/* The library says of neither a broken text nor a lack of memory that it is the other, and with too
 * little memory it may lose characters and go on. Files are read by one thread alone. */
static bool allocation_failed;

static void *allocate(size_t bytes) {
    void *memory = malloc(bytes);
    allocation_failed = allocation_failed || memory == NULL;
    return memory;
}

json_t *swt_json_parse(const char *text, size_t bytes, json_error_t *why, bool *no_memory) {
    json_set_alloc_funcs(allocate, free);
    allocation_failed = false;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, why);
    *no_memory = allocation_failed;
    if (!allocation_failed)
        return root;
    json_decref(root);
    return NULL;
}

void swt_json_print_string(FILE *out, const char *s) {
    static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    fputc('"', out);
    for (; *s != '\0'; s++) {
        const char *found = strchr(escaped, *s);
        if (found != NULL)
            fprintf(out, "\\%c", letters[found - escaped]);
        else if ((unsigned char)*s < 0x20)
            fprintf(out, "\\u%04x", (unsigned)*s);
        else
            fputc(*s, out);
    }
    fputc('"', out);
}
