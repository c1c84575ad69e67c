/* A manifest in memory, and how it is written: an entry a line, so that people and their tools can
 * read it. */
#include "state/manifest.h"

#include "io/checkpoint_dir.h"
#include "io/json.h"
#include "state/manifest_text.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

_Static_assert(offsetof(swt_manifest_file, name) == 0, "a file that begins otherwise");
_Static_assert(offsetof(swt_tensor_entry, name) == 0, "an entry that begins otherwise");

/* Files or tensors, or a name and one of them: they begin with their names. */
static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

/* The array's entry of that name; NULL also where there is no array. */
static const void *find(const void *array, int64_t count, size_t entry_bytes, const char *name) {
    return count > 0 ? bsearch(name, array, (size_t)count, entry_bytes, by_name) : NULL;
}

const swt_manifest_file *swt_manifest_file_of(const swt_manifest *m, const char *name) {
    return find(m->files, m->file_count, sizeof *m->files, name);
}

const swt_tensor_entry *swt_manifest_tensor(const swt_manifest *m, const char *name) {
    return find(m->tensors, m->tensor_count, sizeof *m->tensors, name);
}

const char *swt_manifest_value(const swt_manifest *m, const char *key) {
    for (int64_t i = 0; i < m->key_count; i++)
        if (strcmp(m->keys[i].key, key) == 0)
            return m->keys[i].value;
    return NULL;
}

void swt_manifest_fini(swt_manifest *m) {
    free(m->keys);
    free(m->files);
    free(m->tensors);
    json_decref(m->tree);
    *m = (swt_manifest){0};
}

/* ---- writing */

static void print_tensor(FILE *out, const swt_manifest *m, const swt_tensor_entry *e) {
    swt_json_print_string(out, e->name);
    fputs(": {\"file\": ", out);
    swt_json_print_string(out, m->files[e->file].name);
    fprintf(out, ", \"offset\": %" PRId64 ", \"shape\": [", e->offset_bytes);
    for (int i = 0; i < e->dims; i++)
        fprintf(out, "%s%" PRId64, i > 0 ? ", " : "", e->shape[i]);
    fprintf(out, "], \"dtype\": \"%s\", \"hash\": \"%016" PRIx64 "\"}", swt_dtype_name(e->dtype),
            e->hash);
}

static void print_head(FILE *out, const swt_manifest *m) {
    fprintf(out,
            "{\n\"format\": %d,\n\"step\": %" PRId64 ",\n\"skipped\": %" PRId64
            ",\n\"valid_loss\": ",
            SWT_MANIFEST_FORMAT, m->step, m->skipped);
    if (m->evaluated)
        fprintf(out, "%.17g", m->valid_loss);
    else
        fputs("null", out);
    fputs(",\n\"data\": {\"path\": ", out);
    swt_json_print_string(out, m->data_path);
    fprintf(out,
            ", \"train_hash\": \"%016" PRIx64 "\", \"valid_hash\": \"%016" PRIx64
            "\", \"position\": %" PRId64 "},\n\"ledger\": \"%016" PRIx64 "\",\n",
            m->train_hash, m->valid_hash, m->position_tokens, m->ledger);
}

/* What stands between an entry and the one before it. */
static const char *between(int64_t i) {
    return i > 0 ? ",\n" : "\n";
}

/* All but the own hash. */
static void print_body(FILE *out, const swt_manifest *m) {
    print_head(out, m);
    fputs("\"config\": {", out);
    for (int64_t i = 0; i < m->key_count; i++) {
        fputs(between(i), out);
        swt_json_print_string(out, m->keys[i].key);
        fputs(": ", out);
        swt_json_print_string(out, m->keys[i].value);
    }
    fputs("\n},\n\"files\": {", out);
    for (int64_t i = 0; i < m->file_count; i++) {
        fputs(between(i), out);
        swt_json_print_string(out, m->files[i].name);
        fprintf(out, ": {\"bytes\": %" PRId64 ", \"hash\": \"%016" PRIx64 "\"}", m->files[i].bytes,
                m->files[i].hash);
    }
    fputs("\n},\n\"tensors\": {", out);
    for (int64_t i = 0; i < m->tensor_count; i++) {
        fputs(between(i), out);
        print_tensor(out, m, &m->tensors[i]);
    }
    fputs("\n},\n", out);
}

void swt_manifest_print_end(char out[SWT_MANIFEST_END_BYTES], const char *body, size_t bytes) {
    snprintf(out, SWT_MANIFEST_END_BYTES, "\"hash\": \"%016" PRIx64 "\"\n}\n",
             (uint64_t)XXH3_64bits(body, bytes));
}

static void print_text(FILE *out, const void *text) {
    const char *body = text;
    char end[SWT_MANIFEST_END_BYTES];
    const size_t bytes = strlen(body);
    swt_manifest_print_end(end, body, bytes);
    fwrite(body, 1, bytes, out);
    fputs(end, out);
}

/* Files by name; their tensors follow them, and are by name, too. */
static swt_status sort(swt_manifest *m, const char *path) {
    int *places = calloc((size_t)m->file_count + 1, sizeof *places);
    if (places == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for a list of its files", path);
    swt_manifest_file *sorted = calloc((size_t)m->file_count + 1, sizeof *sorted);
    if (sorted == NULL) {
        free(places);
        return SWT_FAIL(MEMORY, "%s: no memory for a list of its files", path);
    }
    memcpy(sorted, m->files, (size_t)m->file_count * sizeof *sorted);
    qsort(sorted, (size_t)m->file_count, sizeof *sorted, by_name);
    for (int64_t i = 0; i < m->file_count; i++) {
        const swt_manifest_file *f = find(sorted, m->file_count, sizeof *sorted, m->files[i].name);
        places[i] = (int)(f - sorted);
    }
    for (int64_t i = 0; i < m->tensor_count; i++)
        m->tensors[i].file = places[m->tensors[i].file];
    qsort(m->tensors, (size_t)m->tensor_count, sizeof *m->tensors, by_name);
    free(m->files);
    m->files = sorted;
    free(places);
    return SWT_OK;
}

swt_status swt_manifest_write(swt_manifest *m, const char *path) {
    swt_memory_stream body;
    SWT_TRY(sort(m, path));
    FILE *out = swt_memory_stream_open(&body);
    if (out != NULL)
        print_body(out, m);
    const swt_status status =
        swt_memory_stream_close(&body)
            ? swt_file_print(path, "it", print_text, body.text)
            : SWT_FAIL(MEMORY, "%s: no memory to write it; use a machine with more", path);
    free(body.text);
    return status;
}
