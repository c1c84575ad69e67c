#include "base/utf8.h"
#include "io/data.h"
#include "io/files.h"
#include "io/json.h"

#include <stdlib.h>
#include <string.h>

/* Every code point there is, each written as "\\ud83d\\ude00" and a comma; and what the tree of
 * that takes (swt_json_tree_bytes). */
enum {
    BYTE_VOCAB = 256,
    JSON_MOST_BYTES = 15 * SWT_CODE_POINTS + 64,
    MOST_TREE_BYTES = 96 * SWT_CODE_POINTS + 1024
};

/* The values of swt_tokenizer_kind in tokenizer.json. */
static const char *const kind_names[] = {
    [SWT_TOKENIZER_CHAR] = "char", [SWT_TOKENIZER_BYTE] = "byte"};

/* seen[c] = 1 for every code point of a text that is UTF-8. */
static swt_status mark_code_points(unsigned char *seen, const char *text, size_t bytes,
                                   const char *path) {
    for (size_t byte = 0; byte < bytes;) {
        uint32_t c = 0;
        byte += (size_t)swt_utf8_decode(text + byte, bytes - byte, &c);
        if (c == 0)
            return SWT_FAIL(FILE, "%s: byte %zu is 0, so this is no text; use data.tokenizer byte",
                            path, byte - 1);
        seen[c] = 1;
    }
    return SWT_OK;
}

/* The marked code points in ascending order. */
static swt_status collect(swt_tokenizer *t, const unsigned char *seen) {
    for (uint32_t c = 0; c < SWT_CODE_POINTS; c++)
        t->vocab += seen[c];
    t->code_points = malloc((size_t)t->vocab * sizeof *t->code_points);
    if (t->code_points == NULL)
        return SWT_FAIL(MEMORY, "tokenizer: no memory for %lld characters", (long long)t->vocab);
    for (uint32_t c = 0, id = 0; c < SWT_CODE_POINTS; c++)
        if (seen[c])
            t->code_points[id++] = c;
    return SWT_OK;
}

swt_status swt_tokenizer_init(swt_tokenizer *out, swt_tokenizer_kind kind, const char *text,
                              size_t bytes, const char *path) {
    *out = (swt_tokenizer){.kind = kind, .vocab = BYTE_VOCAB};
    if (kind == SWT_TOKENIZER_BYTE)
        return SWT_OK;
    out->vocab = 0;
    if (bytes == 0)
        return SWT_FAIL(FILE, "%s: is empty; a text is needed", path);
    SWT_TRY(swt_utf8_check(text, bytes, path));
    unsigned char *seen = calloc(SWT_CODE_POINTS, 1);
    if (seen == NULL)
        return SWT_FAIL(MEMORY, "tokenizer: no memory for the table of code points");
    swt_status status = mark_code_points(seen, text, bytes, path);
    if (status == SWT_OK)
        status = collect(out, seen);
    free(seen);
    return status;
}

void swt_tokenizer_fini(swt_tokenizer *t) {
    free(t->code_points);
    *t = (swt_tokenizer){0};
}

/* The id of a code point by binary search, -1 where the vocabulary has none. */
static int32_t id_of(const swt_tokenizer *t, uint32_t code_point) {
    int64_t low = 0, high = t->vocab;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (t->code_points[middle] < code_point)
            low = middle + 1;
        else
            high = middle;
    }
    return low < t->vocab && t->code_points[low] == code_point ? (int32_t)low : -1;
}

swt_status swt_tokenizer_encode(const swt_tokenizer *t, const swt_text *text, int32_t *ids,
                                int64_t *count, swt_unknown *unknown) {
    *count = 0;
    *unknown = (swt_unknown){0};
    if (t->kind == SWT_TOKENIZER_BYTE) {
        for (size_t i = 0; i < text->bytes; i++)
            ids[i] = (unsigned char)text->at[i];
        *count = unknown->characters = (int64_t)text->bytes;
        return SWT_OK;
    }
    SWT_TRY(swt_utf8_check(text->at, text->bytes, text->path));
    int32_t low[128]; /* most characters of most texts, without a search */
    for (uint32_t c = 0; c < 128; c++)
        low[c] = id_of(t, c);
    int64_t line = 1;
    for (size_t byte = 0; byte < text->bytes; unknown->characters++) {
        uint32_t c = 0;
        const int length = swt_utf8_decode(text->at + byte, text->bytes - byte, &c);
        const int32_t id = c < 128 ? low[c] : id_of(t, c);
        if (id >= 0)
            ids[(*count)++] = id;
        else
            swt_unknown_add(unknown, c, byte, line);
        line += c == '\n';
        byte += (size_t)length;
    }
    return SWT_OK;
}

int swt_tokenizer_decode(const swt_tokenizer *t, int32_t id, char out[5]) {
    out[0] = out[1] = '\0';
    if (id < 0 || id >= t->vocab)
        return 0;
    if (t->kind == SWT_TOKENIZER_CHAR)
        return swt_utf8_encode(t->code_points[id], out);
    out[0] = (char)id;
    return 1;
}

static void print_vocabulary(FILE *out, const void *tokenizer) {
    const swt_tokenizer *t = tokenizer;
    fprintf(out, "{\"kind\":\"%s\"", kind_names[t->kind]);
    for (int32_t id = 0; t->kind == SWT_TOKENIZER_CHAR && id < t->vocab; id++) {
        char character[5];
        swt_utf8_encode(t->code_points[id], character);
        fputs(id == 0 ? ",\"tokens\":[" : ",", out);
        swt_json_print_string(out, character);
    }
    fputs(t->kind == SWT_TOKENIZER_CHAR ? "]}\n" : "}\n", out);
}

swt_status swt_tokenizer_write(const swt_tokenizer *t, const char *path) {
    return swt_file_print(path, "the vocabulary", print_vocabulary, t);
}

/* Fill the vocabulary from the array of one-character strings in ascending order. */
static swt_status read_tokens(swt_tokenizer *out, const json_t *tokens, const char *path) {
    const size_t count = json_array_size(tokens);
    if (count == 0)
        return SWT_FAIL(CHECKPOINT, "%s: has no array `tokens`; write the checkpoint again", path);
    out->code_points = malloc(count * sizeof *out->code_points);
    if (out->code_points == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for %zu characters", path, count);
    for (size_t i = 0; i < count; i++) {
        uint32_t c = 0;
        const json_t *token = json_array_get(tokens, i);
        const size_t bytes = json_string_length(token);
        if (bytes == 0 || swt_utf8_decode(json_string_value(token), bytes, &c) != (int)bytes)
            return SWT_FAIL(
                CHECKPOINT,
                "%s: token %lld is no single character in UTF-8; write the checkpoint again", path,
                (long long)out->vocab);
        if (out->vocab > 0 && c <= out->code_points[out->vocab - 1])
            return SWT_FAIL(CHECKPOINT, "%s: token %lld is out of order; code points must ascend",
                            path, (long long)out->vocab);
        out->code_points[out->vocab++] = c;
    }
    return SWT_OK;
}

static swt_status from_json(swt_tokenizer *out, const json_t *root, const char *path) {
    const char *kind = json_string_value(json_object_get(root, "kind"));
    if (kind != NULL && strcmp(kind, kind_names[SWT_TOKENIZER_BYTE]) == 0) {
        *out = (swt_tokenizer){.kind = SWT_TOKENIZER_BYTE, .vocab = BYTE_VOCAB};
        return SWT_OK;
    }
    if (kind == NULL || strcmp(kind, kind_names[SWT_TOKENIZER_CHAR]) != 0)
        return SWT_FAIL(CHECKPOINT, "%s: has no `kind` that is known; char or byte is needed",
                        path);
    out->kind = SWT_TOKENIZER_CHAR;
    return read_tokens(out, json_object_get(root, "tokens"), path);
}

static swt_status parse(swt_tokenizer *out, const char *text, size_t bytes, const char *path) {
    json_error_t why;
    bool no_memory = false;
    if (swt_json_tree_bytes(text, bytes) > MOST_TREE_BYTES)
        return SWT_FAIL(CHECKPOINT,
                        "%s: holds more than a vocabulary has; write the checkpoint again", path);
    json_t *root = swt_json_parse(text, bytes, &why, &no_memory);
    const swt_status status =
        root != NULL ? from_json(out, root, path)
        : no_memory  ? SWT_FAIL(MEMORY, "%s: no memory to read it; use a machine with more", path)
                     : SWT_FAIL(CHECKPOINT, "%s: is no JSON (%s); write the checkpoint again", path,
                                why.text);
    json_decref(root);
    return status;
}

swt_status swt_tokenizer_read(swt_tokenizer *out, const char *path) {
    *out = (swt_tokenizer){0};
    char *text = NULL;
    size_t bytes = 0;
    swt_path_kind kind = SWT_PATH_NONE;
    if (swt_path_look(&kind, path, true) == SWT_OK && kind == SWT_PATH_NONE)
        return SWT_FAIL(
            CHECKPOINT,
            "%s: is missing: the checkpoint's vocabulary is known by its size alone, as "
            "that of an imported model is; use a checkpoint of a run",
            swt_path_tail(path));
    SWT_TRY(swt_file_load(&text, &bytes, path, JSON_MOST_BYTES, SWT_CHECKPOINT));
    const swt_status status = parse(out, text, bytes, path);
    free(text);
    if (status != SWT_OK)
        swt_tokenizer_fini(out);
    return status;
}
