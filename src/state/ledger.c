#include "state/ledger.h"

#include "base/checked.h"
#include "base/words.h"
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

bool swt_ledger_row_step(const char *row, int64_t *step) {
    static const char begins[] = "{\"step\": ";
    char *end = NULL;
    if (strncmp(row, begins, sizeof begins - 1) != 0)
        return false;
    *step = strtoll(row + sizeof begins - 1, &end, 10);
    return end != row + sizeof begins - 1 && *end == ',';
}

size_t swt_ledger_rows_up_to(const char *text, size_t bytes, int64_t step) {
    const char *row = text, *end = NULL;
    int64_t before = 0, now = 0;
    while ((end = memchr(row, '\n', bytes - (size_t)(row - text))) != NULL) {
        if (!swt_ledger_row_step(row, &now) || now < before || now > step)
            break;
        before = now;
        row = end + 1;
    }
    return (size_t)(row - text);
}

/* ---- writing */

size_t swt_ledger_line_bytes(int64_t marks) {
    return 512 + (size_t)marks * MARK_DIGITS; /* 330 and the digits of the step at most */
}

static void append_hash(char *text, size_t text_bytes, const char *name, uint64_t hash) {
    swt_append(text, text_bytes, ", \"%s\": \"%0*" PRIx64 "\"", name, HASH_DIGITS, hash);
}

void swt_ledger_print(swt_ledger_line *line, int64_t marks, uint64_t before, char *text) {
    static const char digits[] = "0123456789abcdef";
    const size_t room = swt_ledger_line_bytes(marks);
    const bool first = line->step == 0;
    uint64_t loss;
    memcpy(&loss, &line->loss, sizeof loss);
    /* The chain is over this and the line as one text. */
    snprintf(text, room, "%0*" PRIx64, HASH_DIGITS, before);
    swt_append(text, room, "{\"step\": %" PRId64 ", \"by\": \"%s\"", line->step, line->by);
    append_hash(text, room, first ? "run" : "loss", first ? line->run : loss);
    append_hash(text, room, first ? "data" : "batch", first ? line->data : line->batch);
    append_hash(text, room, "weights", line->weights);
    swt_append(text, room, ", \"tensors\": \"");
    char *at = text + strlen(text);
    for (int64_t i = 0; i < marks; i++)
        for (int shift = 4 * (MARK_DIGITS - 1); shift >= 0; shift -= 4)
            *at++ = digits[line->marks[i] >> shift & 0xf];
    *at = '\0';
    swt_append(text, room, "\"");
    line->chain = XXH3_64bits(text, strlen(text));
    append_hash(text, room, "chain", line->chain);
    append_hash(text, room, "metrics", line->metrics);
    swt_append(text, room, "}\n");
    memmove(text, text + HASH_DIGITS, strlen(text + HASH_DIGITS) + 1);
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
static swt_status check_line(const swt_ledger *l, const char *path, int64_t i, const char *text,
                             char *written) {
    swt_ledger_line *line = &l->lines[i];
    const bool whole = parse(line, l->marks, text);
    const uint64_t chain = line->chain;
    bool same = false;
    if (whole) {
        swt_ledger_print(line, l->marks, i > 0 ? line[-1].chain : 0, written);
        same = strncmp(written, text, strlen(written)) == 0;
    }
    if (whole && chain != line->chain)
        return SWT_FAIL(CHECKPOINT,
                        "%s: line %" PRId64 " (step %" PRId64 "): its chain is %016" PRIx64
                        ", but this line behind those before it has "
                        "%016" PRIx64
                        "; it or a line before it was altered; put the run's own file back",
                        path, i + 1, line->step, chain, line->chain);
    if (!same || (i == 0) != (line->step == 0) || (i > 0 && line->step <= line[-1].step))
        return SWT_FAIL(
            CHECKPOINT,
            "%s: line %" PRId64
            " is none of a ledger; it was cut off or altered; put the run's own file back",
            path, i + 1);
    return SWT_OK;
}

static swt_status check_lines(swt_ledger *out, const char *path, const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        out->count += text[i] == '\n';
    if (out->count == 0 || text[bytes - 1] != '\n' || memchr(text, '\0', bytes) != NULL)
        return SWT_FAIL(CHECKPOINT, "%s: is no ledger, or cut off; give the folder of a run", path);
    out->marks = count_marks(text);
    if (out->marks < 1 || out->marks > SWT_LEDGER_MARKS)
        return SWT_FAIL(CHECKPOINT,
                        "%s: line 1 is none of a ledger; it was cut off or altered; put the run's "
                        "own file back",
                        path);
    out->lines = calloc((size_t)out->count, sizeof *out->lines);
    out->all_marks = calloc((size_t)(out->count * out->marks), sizeof *out->all_marks);
    char *written = malloc(swt_ledger_line_bytes(out->marks));
    swt_status status = SWT_OK;
    if (out->lines == NULL || out->all_marks == NULL || written == NULL)
        status = SWT_FAIL(MEMORY, "memory: no room for the %" PRId64 " lines of %.200s", out->count,
                          path);
    for (int64_t i = 0; i < out->count && status == SWT_OK; i++) {
        out->lines[i].marks = out->all_marks + i * out->marks;
        status = check_line(out, path, i, text, written);
        text = strchr(text, '\n') + 1;
    }
    free(written);
    return status;
}

/* step NULL: all lines. */
static swt_status read_lines(swt_ledger *out, const char *path, const int64_t *step) {
    char *text = NULL;
    size_t bytes = 0;
    *out = (swt_ledger){0};
    SWT_TRY(swt_file_load(&text, &bytes, path, MOST_BYTES, SWT_CHECKPOINT));
    if (step != NULL)
        bytes = swt_ledger_rows_up_to(text, bytes, *step);
    const swt_status status = check_lines(out, path, text, bytes);
    free(text);
    if (status != SWT_OK)
        swt_ledger_fini(out);
    return status;
}

swt_status swt_ledger_read(swt_ledger *out, const char *path) {
    return read_lines(out, path, NULL);
}

swt_status swt_ledger_read_up_to(swt_ledger *out, const char *path, int64_t step) {
    return read_lines(out, path, &step);
}

/* ---- the rows */

/* One row of metrics.jsonl. */
typedef struct row {
    int64_t step;
    double loss;
    bool trains; /* a training row */
    uint64_t hash;
} row;

/* The next row from *at on, its hash behind that of the rows before. False where there is none. */
static bool next_row(const char **at, row *out) {
    const char *end = strchr(*at, '\n');
    const uint64_t before = out->hash;
    if (end == NULL || !swt_ledger_row_step(*at, &out->step))
        return false;
    const char *loss = strstr(*at, "\"loss\": ");
    out->trains = loss != NULL && loss < end;
    out->loss = out->trains ? strtod(loss + strlen("\"loss\": "), NULL) : 0.0;
    out->hash = swt_ledger_row_hash(*at, (size_t)(end + 1 - *at), before);
    *at = end + 1;
    return true;
}

/* The evaluation of a step may stand behind its line. */
static swt_status check_rows(const swt_ledger *l, const char *path, const char *text) {
    row now = {.step = 0}, next = {.step = 0};
    bool more = next_row(&text, &next);
    for (int64_t i = 0; i < l->count; i++) {
        const swt_ledger_line *line = &l->lines[i];
        bool fits = line->metrics == now.hash, loss_fits = true;
        while (more && next.step <= line->step) {
            now = next;
            more = next_row(&text, &next);
            fits = fits || line->metrics == now.hash;
            if (now.step == line->step && now.trains)
                loss_fits = swt_same_bits(now.loss, line->loss);
            if (now.step < line->step)
                fits = false;
        }
        if (!fits || !loss_fits)
            return SWT_FAIL(CHECKPOINT,
                            "%s: its rows up to step %" PRId64
                            " are not those that the ledger's line of that step saw; a row was "
                            "altered or is missing; put the run's own file back",
                            path, line->step);
    }
    return SWT_OK;
}

swt_status swt_ledger_check_rows(const swt_ledger *l, const char *path) {
    char *text = NULL;
    size_t bytes = 0;
    SWT_TRY(swt_file_load(&text, &bytes, path, INT64_MAX - 1, SWT_CHECKPOINT));
    const swt_status status = check_rows(l, path, text);
    free(text);
    return status;
}

void swt_ledger_fini(swt_ledger *l) {
    free(l->all_marks);
    free(l->lines);
    *l = (swt_ledger){0};
}
