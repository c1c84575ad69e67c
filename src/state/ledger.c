#include "state/ledger.h"

#include "base/checked.h"
#include "io/files.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* A ledger larger than this is none that is read: it would be held in memory. */
static const int64_t MOST_BYTES = (int64_t)1 << 33;

enum { HASH_DIGITS = 16, MARK_DIGITS = 4 };

uint64_t swt_ledger_row_hash(const char *row, size_t bytes, uint64_t before) {
    return XXH3_64bits_withSeed(row, bytes, before);
}

int64_t swt_ledger_marks(int64_t tensors) {
    return swt_min(tensors, SWT_LEDGER_MARKS);
}

void swt_ledger_marked(int64_t tensors, int64_t mark, int64_t *first, int64_t *end) {
    const int64_t marks = swt_ledger_marks(tensors);
    *first = mark * tensors / marks;
    *end = (mark + 1) * tensors / marks;
}

void swt_ledger_hash(swt_ledger_line *line, const swt_digest *d) {
    line->weights = swt_digest_of(d->tensors, d->tensor_count);
    if (line->step > 0)
        line->batch = swt_digest_of(d->batches, d->batch_count);
    for (int64_t i = 0; i < swt_ledger_marks(d->tensor_count); i++) {
        int64_t first, end;
        swt_ledger_marked(d->tensor_count, i, &first, &end);
        const uint64_t hash =
            end - first == 1 ? d->tensors[first] : swt_digest_of(d->tensors + first, end - first);
        line->marks[i] = (uint16_t)(hash & 0xffff);
    }
}

/* ---- writing */

static void print_hash(FILE *f, const char *name, uint64_t hash) {
    fprintf(f, ", \"%s\": \"%0*" PRIx64 "\"", name, HASH_DIGITS, hash);
}

/* What the chain is over. */
static void print_facts(FILE *f, const swt_ledger_line *line, int64_t marks) {
    uint64_t loss;
    memcpy(&loss, &line->loss, sizeof loss);
    fprintf(f, "{\"step\": %" PRId64 ", \"by\": \"%s\"", line->step, line->by);
    print_hash(f, line->step == 0 ? "run" : "loss", line->step == 0 ? line->run : loss);
    print_hash(f, line->step == 0 ? "data" : "batch", line->step == 0 ? line->data : line->batch);
    print_hash(f, "weights", line->weights);
    fprintf(f, ", \"tensors\": \"");
    for (int64_t i = 0; i < marks; i++)
        fprintf(f, "%0*x", MARK_DIGITS, line->marks[i]);
    fprintf(f, "\"");
}

/* Hashes both texts as if they were one. */
static bool hash_two(uint64_t before, const char *facts, size_t bytes, uint64_t *hash) {
    char digits[HASH_DIGITS + 1];
    XXH3_state_t *state = XXH3_createState();
    snprintf(digits, sizeof digits, "%0*" PRIx64, HASH_DIGITS, before);
    const bool good = state != NULL && XXH3_64bits_reset(state) == XXH_OK &&
                      XXH3_64bits_update(state, digits, HASH_DIGITS) == XXH_OK &&
                      XXH3_64bits_update(state, facts, bytes) == XXH_OK;
    if (good)
        *hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return good;
}

swt_status swt_ledger_print(swt_ledger_line *line, int64_t marks, uint64_t before, char **text) {
    swt_memory_stream m;
    FILE *f = swt_memory_stream_open(&m);
    bool good = f != NULL;
    if (good) {
        print_facts(f, line, marks);
        good = fflush(f) == 0 && m.text != NULL && hash_two(before, m.text, m.bytes, &line->chain);
        print_hash(f, "chain", line->chain);
        print_hash(f, "metrics", line->metrics);
        fprintf(f, "}\n");
    }
    good = swt_memory_stream_close(&m) && good;
    *text = good ? m.text : NULL;
    if (good)
        return SWT_OK;
    free(m.text);
    return SWT_FAIL(MEMORY, "memory: no room for a line of the ledger");
}

/* ---- reading */

/* A place in a line that is read: NULL after the first thing that is not as it must be. */
static void expect(const char **at, const char *text) {
    const size_t n = strlen(text);
    if (*at != NULL)
        *at = strncmp(*at, text, n) == 0 ? *at + n : NULL;
}

static uint64_t digits(const char **at, int count) {
    uint64_t value = 0;
    for (int i = 0; i < count && *at != NULL; i++) {
        const char c = **at;
        const bool decimal = c >= '0' && c <= '9';
        if (!decimal && !(c >= 'a' && c <= 'f')) {
            *at = NULL;
            return 0;
        }
        value = value << 4 | (uint64_t)(decimal ? c - '0' : c - 'a' + 10);
        ++*at;
    }
    return value;
}

static uint64_t hash(const char **at, const char *name) {
    expect(at, ", \"");
    expect(at, name);
    expect(at, "\": \"");
    const uint64_t value = digits(at, HASH_DIGITS);
    expect(at, "\"");
    return value;
}

static int64_t step(const char **at) {
    char *end = NULL;
    expect(at, "{\"step\": ");
    if (*at == NULL || !isdigit((unsigned char)**at))
        return *at = NULL, -1;
    const long long value = strtoll(*at, &end, 10); /* what is too large is not printed back */
    *at = end;
    return value;
}

/* A word of letters, digits, - and _. */
static void word(const char **at, const char *name, char out[SWT_ARITHMETIC_BYTES]) {
    size_t n = 0;
    expect(at, ", \"");
    expect(at, name);
    expect(at, "\": \"");
    while (*at != NULL && n < SWT_ARITHMETIC_BYTES - 1 &&
           (isalnum((unsigned char)**at) || **at == '-' || **at == '_'))
        out[n++] = *(*at)++;
    out[n] = '\0';
    expect(at, "\"");
}

/* How many marks the line at `at` has. */
static int64_t count_marks(const char *at) {
    const char *first = strstr(at, "\"tensors\": \"");
    const char *const end = strchr(at, '\n');
    if (first == NULL || first > end)
        return 0;
    first += strlen("\"tensors\": \"");
    const size_t length = strcspn(first, "\"\n");
    return length % MARK_DIGITS == 0 ? (int64_t)(length / MARK_DIGITS) : 0;
}

static bool parse(swt_ledger_line *line, int64_t marks, const char *at) {
    line->step = step(&at);
    word(&at, "by", line->by);
    const uint64_t one = hash(&at, line->step == 0 ? "run" : "loss");
    const uint64_t two = hash(&at, line->step == 0 ? "data" : "batch");
    if (line->step == 0) {
        line->run = one;
        line->data = two;
    } else {
        memcpy(&line->loss, &one, sizeof one);
        line->batch = two;
    }
    line->weights = hash(&at, "weights");
    expect(&at, ", \"tensors\": \"");
    for (int64_t i = 0; i < marks; i++)
        line->marks[i] = (uint16_t)digits(&at, MARK_DIGITS);
    expect(&at, "\"");
    line->chain = hash(&at, "chain");
    line->metrics = hash(&at, "metrics");
    expect(&at, "}\n");
    return at != NULL;
}

/* A line is good where it is, to the letter, what would be written. */
static swt_status check_line(const swt_ledger *l, const char *path, int64_t i, const char *text) {
    swt_ledger_line *line = &l->lines[i];
    char *written = NULL;
    const bool whole = parse(line, l->marks, text);
    const uint64_t chain = line->chain;
    bool same = false;
    if (whole) {
        SWT_TRY(swt_ledger_print(line, l->marks, i > 0 ? line[-1].chain : 0, &written));
        same = strncmp(written, text, strlen(written)) == 0;
        free(written);
    }
    if (whole && chain != line->chain)
        return SWT_FAIL(CHECKPOINT,
                        "%s: line %" PRId64 " (step %" PRId64 "): its chain is %016" PRIx64
                        ", but this line behind those before it has "
                        "%016" PRIx64 "; it or a line before it was altered",
                        path, i + 1, line->step, chain, line->chain);
    if (!same || (i == 0) != (line->step == 0) || (i > 0 && line->step <= line[-1].step))
        return SWT_FAIL(CHECKPOINT,
                        "%s: line %" PRId64 " is none of a ledger; it was cut off or altered", path,
                        i + 1);
    return SWT_OK;
}

static swt_status check_lines(swt_ledger *out, const char *path, const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        out->count += text[i] == '\n';
    if (out->count == 0 || text[bytes - 1] != '\n' || memchr(text, '\0', bytes) != NULL)
        return SWT_FAIL(CHECKPOINT, "%s: is no ledger, or cut off; give the folder of a run", path);
    out->marks = count_marks(text);
    if (out->marks < 1 || out->marks > SWT_LEDGER_MARKS)
        return SWT_FAIL(CHECKPOINT, "%s: line 1 is none of a ledger; it was cut off or altered",
                        path);
    out->lines = calloc((size_t)out->count, sizeof *out->lines);
    uint16_t *marks = calloc((size_t)(out->count * out->marks), sizeof *marks);
    if (out->lines == NULL || marks == NULL) {
        free(marks);
        return SWT_FAIL(MEMORY, "memory: no room for the %" PRId64 " lines of %.200s", out->count,
                        path);
    }
    for (int64_t i = 0; i < out->count; i++) {
        out->lines[i].marks = marks + i * out->marks;
        SWT_TRY(check_line(out, path, i, text));
        text = strchr(text, '\n') + 1;
    }
    return SWT_OK;
}

swt_status swt_ledger_read(swt_ledger *out, const char *path) {
    char *text = NULL;
    size_t bytes = 0;
    *out = (swt_ledger){0};
    SWT_TRY(swt_file_load(&text, &bytes, path, MOST_BYTES, SWT_CHECKPOINT));
    const swt_status status = check_lines(out, path, text, bytes);
    free(text);
    if (status != SWT_OK)
        swt_ledger_fini(out);
    return status;
}

void swt_ledger_fini(swt_ledger *l) {
    if (l->lines != NULL)
        free(l->lines[0].marks);
    free(l->lines);
    *l = (swt_ledger){0};
}
