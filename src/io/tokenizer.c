#include "base/utf8.h"
#include "io/data.h"
#include "io/files.h"
#include "io/json.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* Every code point there is, each written as "\\ud83d\\ude00" and a comma. */
enum { BYTE_VOCAB = 256, JSON_MOST_BYTES = 15 * SWT_CODE_POINTS + 64 };

/* The values of swt_tokenizer_kind in tokenizer.json. */
static const char *const kind_names[] = {
    [SWT_TOKENIZER_CHAR] = "char", [SWT_TOKENIZER_BYTE] = "byte"};

/* seen[c] = 1 for every code point of a text that is UTF-8. */
static swt_status mark_code_points(unsigned char *seen, const char *text, size_t bytes,
                                   const char *path) {
    for (size_t at = 0; at < bytes;) {
        uint32_t c = 0;
        at += (size_t)swt_utf8_decode(text + at, bytes - at, &c);
        if (c == 0)
            return SWT_FAIL(FILE, "%s: byte %zu is 0, so this is no text; use data.tokenizer byte",
                            path, at - 1);
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
        for (size_t at = 0; at < text->bytes; at++)
            ids[at] = (unsigned char)text->at[at];
        *count = unknown->characters = (int64_t)text->bytes;
        return SWT_OK;
    }
    SWT_TRY(swt_utf8_check(text->at, text->bytes, text->path));
    int32_t low[128]; /* most characters of most texts, without a search */
    for (uint32_t c = 0; c < 128; c++)
        low[c] = id_of(t, c);
    int64_t line = 1;
    for (size_t at = 0; at < text->bytes; unknown->characters++) {
        uint32_t c = 0;
        const int length = swt_utf8_decode(text->at + at, text->bytes - at, &c);
        const int32_t id = c < 128 ? low[c] : id_of(t, c);
        if (id >= 0)
            ids[(*count)++] = id;
        else
            swt_unknown_add(unknown, c, at, line);
        line += c == '\n';
        at += (size_t)length;
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

/* The vocabulary as JSON text, which the caller frees with cJSON_free; NULL without memory. */
static char *to_json(const swt_tokenizer *t) {
    char *text = NULL;
    cJSON *root = cJSON_CreateObject();
    if (cJSON_AddStringToObject(root, "kind", kind_names[t->kind]) == NULL)
        goto done;
    if (t->kind == SWT_TOKENIZER_CHAR) {
        cJSON *tokens = cJSON_AddArrayToObject(root, "tokens");
        for (int32_t id = 0; id < t->vocab; id++) {
            char character[5];
            swt_utf8_encode(t->code_points[id], character);
            if (!cJSON_AddItemToArray(tokens, cJSON_CreateString(character)))
                goto done;
        }
    }
    text = cJSON_PrintUnformatted(root);
done:
    cJSON_Delete(root);
    return text;
}

swt_status swt_tokenizer_write(const swt_tokenizer *t, const char *path) {
    char *text = to_json(t);
    if (text == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory to write the vocabulary; use a machine with more",
                        path);
    const size_t bytes = strlen(text);
    text[bytes] = '\n'; /* in place of the 0 that is not written */
    const swt_status status = swt_file_save(path, text, bytes + 1);
    cJSON_free(text);
    return status;
}

/* Fill the vocabulary from the array of one-character strings in ascending order. */
static swt_status read_tokens(swt_tokenizer *out, const cJSON *tokens, const char *path) {
    const int count = cJSON_IsArray(tokens) ? cJSON_GetArraySize(tokens) : 0;
    if (count == 0)
        return SWT_FAIL(CHECKPOINT, "%s: has no array `tokens`; write the checkpoint again", path);
    out->code_points = malloc((size_t)count * sizeof *out->code_points);
    if (out->code_points == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for %d characters", path, count);
    const cJSON *token = NULL;
    cJSON_ArrayForEach(token, tokens) {
        uint32_t c = 0;
        const char *s = cJSON_IsString(token) ? token->valuestring : "";
        const int length = swt_utf8_decode(s, strlen(s), &c);
        if (length == 0 || s[length] != '\0')
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

static swt_status from_json(swt_tokenizer *out, const cJSON *root, const char *path) {
    const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "kind"));
    if (kind != NULL && strcmp(kind, kind_names[SWT_TOKENIZER_BYTE]) == 0) {
        *out = (swt_tokenizer){.kind = SWT_TOKENIZER_BYTE, .vocab = BYTE_VOCAB};
        return SWT_OK;
    }
    if (kind == NULL || strcmp(kind, kind_names[SWT_TOKENIZER_CHAR]) != 0)
        return SWT_FAIL(CHECKPOINT, "%s: has no `kind` that is known; char or byte is needed",
                        path);
    out->kind = SWT_TOKENIZER_CHAR;
    return read_tokens(out, cJSON_GetObjectItemCaseSensitive(root, "tokens"), path);
}

swt_status swt_tokenizer_read(swt_tokenizer *out, const char *path) {
    *out = (swt_tokenizer){0};
    char *text = NULL;
    size_t bytes = 0;
    const char *end = NULL;
    bool no_memory = false;
    SWT_TRY(swt_file_load(&text, &bytes, path, JSON_MOST_BYTES, SWT_CHECKPOINT));
    cJSON *root = swt_json_parse(text, bytes, &end, &no_memory);
    free(text);
    swt_status status =
        root != NULL ? from_json(out, root, path)
        : no_memory  ? SWT_FAIL(MEMORY, "%s: no memory to read it; use a machine with more", path)
                     : SWT_FAIL(CHECKPOINT, "%s: is no JSON; write the checkpoint again", path);
    cJSON_Delete(root);
    if (status != SWT_OK)
        swt_tokenizer_fini(out);
    return status;
}
