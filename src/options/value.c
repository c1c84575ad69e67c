/* One value: from text, to text, and what the text may be. */
#include "base/utf8.h"
#include "options/table.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *field(swt_options *o, const swt_option *row) {
    return (char *)o + row->offset;
}

static const void *const_field(const swt_options *o, const swt_option *row) {
    return (const char *)o + row->offset;
}

/* ---- from text */

static bool read_int(int64_t *out, const swt_option *row, const char *text) {
    const char *digits = text + (text[0] == '-');
    if (digits[0] == '\0' || digits[strspn(digits, "0123456789")] != '\0')
        return false;
    errno = 0;
    const long long value = strtoll(text, NULL, 10);
    if (errno != 0 || value < row->min || value > row->max)
        return false;
    *out = value;
    return true;
}

static bool in_real_range(const swt_option *row, double value) {
    return (row->above_low ? value > row->low : value >= row->low) &&
           (row->below_high ? value < row->high : value <= row->high);
}

static bool read_real(double *out, const swt_option *row, const char *text) {
    /* strtod alone would also take spaces, hexadecimal numbers, inf and nan. */
    if (text[0] == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return false;
    char *end;
    errno = 0;
    const double value = strtod(text, &end);
    if (*end != '\0' || errno != 0 || !in_real_range(row, value))
        return false;
    *out = value == 0 ? 0 : value; /* -0 is 0 */
    return true;
}

static bool is_word(const char *text, const char *const *words) {
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0)
            return true;
    }
    return false;
}

/* A truth value in any spelling of YAML 1.1. */
static bool read_bool(bool *out, const char *text) {
    static const char *const no[] = {"n",     "N",     "no",  "No",  "NO",  "false",
                                     "False", "FALSE", "off", "Off", "OFF", NULL};
    static const char *const yes[] = {"y",    "Y",    "yes", "Yes", "YES", "true",
                                      "True", "TRUE", "on",  "On",  "ON",  NULL};
    const bool value = is_word(text, yes);
    if (!value && !is_word(text, no))
        return false;
    *out = value;
    return true;
}

/* A choice's name; a truth value is its choice off or on, which YAML 1.1 reads as that. */
static bool read_choice(int *out, const swt_option *row, const char *text) {
    bool value = false;
    const bool truth = read_bool(&value, text);
    for (int i = 0; row->choices[i] != NULL; i++) {
        if (strcmp(text, row->choices[i]) == 0 ||
            (truth && strcmp(row->choices[i], value ? "on" : "off") == 0)) {
            *out = i;
            return true;
        }
    }
    return false;
}

bool swt_option_is_ambiguous(const char *text) {
    static const char *const nothing[] = {"", "~", "null", "Null", "NULL", NULL};
    bool value;
    return is_word(text, nothing) || read_bool(&value, text) || strchr("+-.0123456789", text[0]);
}

/* Other bytes could not be written to a YAML file. */
static bool is_utf8(const char *text, size_t bytes) {
    int n = 1;
    for (size_t at = 0; at < bytes && n > 0; at += (size_t)n) {
        uint32_t code_point;
        n = swt_utf8_decode(text + at, bytes - at, &code_point);
    }
    return n > 0;
}

static bool read_text(char *out, const swt_option *row, const char *text) {
    const size_t length = strlen(text);
    if (length >= row->bytes || !is_utf8(text, length))
        return false;
    memset(out, 0, row->bytes);
    memcpy(out, text, length);
    return true;
}

bool swt_option_read(swt_options *o, const swt_option *row, const char *text) {
    switch (row->type) {
    case SWT_OPTION_INT:
        return read_int(field(o, row), row, text);
    case SWT_OPTION_REAL:
        return read_real(field(o, row), row, text);
    case SWT_OPTION_BOOL:
        return read_bool(field(o, row), text);
    case SWT_OPTION_CHOICE:
        return read_choice(field(o, row), row, text);
    case SWT_OPTION_TEXT:
        return read_text(field(o, row), row, text);
    }
    return false;
}

/* A given value for a message: at most 60 bytes, "" where it is empty. */
static void quote(char out[64], const char *text) {
    size_t n = 0;
    for (; n < 60 && text[n] != '\0'; n++)
        out[n] = text[n];
    const bool cut = text[n] != '\0';
    while (cut && n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
        n--; /* not inside a character */
    snprintf(out + n, 64 - n, "%s", cut ? "..." : n == 0 ? "\"\"" : "");
}

swt_status swt_option_set(swt_options *o, const swt_option *row, const char *text,
                          const char *where, swt_status status) {
    if (swt_option_read(o, row, text))
        return SWT_OK;
    char given[64], expected[SWT_OPTION_RANGE_BYTES];
    quote(given, text);
    swt_option_expected(row, expected, sizeof expected);
    return swt_fail(status, __FILE__, __LINE__, "%s: %s%sis %s; it must be %s", where,
                    row->key != NULL ? row->key : "", row->key != NULL ? " " : "", given, expected);
}

/* ---- to text */

/* The fewest digits that read back to the same value; written out between 1e-5 and 1e15. With an
 * exponent there is always a point: YAML 1.1 readers take 1e-08 for a text, 1.0e-08 for a number.
 */
static void format_real(double value, char *out, size_t out_bytes) {
    if (!isfinite(value)) { /* no option takes it, but a message may have to name it */
        snprintf(out, out_bytes, "%g", value);
        return;
    }
    char digits[40];
    int n = 0;
    do {
        snprintf(digits, sizeof digits, "%.*e", n, value);
    } while (strtod(digits, NULL) != value && ++n < 17);
    const char *e = strchr(digits, 'e');
    const int exponent = (int)strtol(e + 1, NULL, 10);
    if (exponent >= -5 && exponent < 15)
        snprintf(out, out_bytes, "%.*f", n > exponent ? n - exponent : 0, value);
    else
        snprintf(out, out_bytes, "%.*s%s%s", (int)(e - digits), digits, n == 0 ? ".0" : "", e);
}

void swt_option_format(const swt_options *o, const swt_option *row, char *out, size_t out_bytes) {
    const void *value = const_field(o, row);
    switch (row->type) {
    case SWT_OPTION_INT:
        snprintf(out, out_bytes, "%" PRId64, *(const int64_t *)value);
        break;
    case SWT_OPTION_REAL:
        format_real(*(const double *)value, out, out_bytes);
        break;
    case SWT_OPTION_BOOL:
        snprintf(out, out_bytes, "%s", row->choices[*(const bool *)value ? 1 : 0]);
        break;
    case SWT_OPTION_CHOICE:
        snprintf(out, out_bytes, "%s", row->choices[*(const int *)value]);
        break;
    case SWT_OPTION_TEXT:
        snprintf(out, out_bytes, "%s", (const char *)value);
        break;
    }
}

/* ---- what a value may be */

/* "a, b, c", or "a, b or c" with last = " or ". */
static void join(const char *const *words, const char *last, char *out, size_t out_bytes) {
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; words[i] != NULL && used < out_bytes; i++) {
        const char *between = i == 0 ? "" : words[i + 1] == NULL ? last : ", ";
        const int n = snprintf(out + used, out_bytes - used, "%s%s", between, words[i]);
        used += (size_t)n;
    }
}

static void format_bounds(const swt_option *row, char *out, size_t out_bytes) {
    char low[40], high[40];
    format_real(row->low, low, sizeof low);
    format_real(row->high, high, sizeof high);
    if (row->above_low && row->below_high)
        snprintf(out, out_bytes, "above %s, below %s", low, high);
    else if (row->above_low)
        snprintf(out, out_bytes, "above %s, to %s", low, high);
    else if (row->below_high)
        snprintf(out, out_bytes, "%s to below %s", low, high);
    else
        snprintf(out, out_bytes, "%s to %s", low, high);
}

void swt_option_range(const swt_option *row, char *out, size_t out_bytes) {
    switch (row->type) {
    case SWT_OPTION_INT:
        snprintf(out, out_bytes, "%" PRId64 " to %" PRId64, row->min, row->max);
        break;
    case SWT_OPTION_REAL:
        format_bounds(row, out, out_bytes);
        break;
    case SWT_OPTION_BOOL:
    case SWT_OPTION_CHOICE:
        join(row->choices, ", ", out, out_bytes);
        break;
    case SWT_OPTION_TEXT:
        snprintf(out, out_bytes, "text");
        break;
    }
}

void swt_option_expected(const swt_option *row, char *out, size_t out_bytes) {
    char range[SWT_OPTION_RANGE_BYTES];
    swt_option_range(row, range, sizeof range);
    switch (row->type) {
    case SWT_OPTION_INT:
        snprintf(out, out_bytes, "an integer from %s", range);
        break;
    case SWT_OPTION_REAL:
        snprintf(out, out_bytes, "a number %s%s", row->above_low ? "" : "from ", range);
        break;
    case SWT_OPTION_BOOL:
    case SWT_OPTION_CHOICE:
        join(row->choices, " or ", out, out_bytes);
        break;
    case SWT_OPTION_TEXT:
        snprintf(out, out_bytes, "UTF-8 text of at most %zu bytes", row->bytes - 1);
        break;
    }
}

bool swt_option_is_built(const swt_options *o, const swt_option *row) {
    if (row->built == NULL)
        return true;
    char value[SWT_OPTION_NAME_BYTES];
    swt_option_format(o, row, value, sizeof value);
    const size_t length = strlen(value);
    const char *word = row->built;
    while (*word != '\0') {
        const size_t n = strcspn(word, " ");
        if (n == length && strncmp(word, value, n) == 0)
            return true;
        word += n + (word[n] == ' ');
    }
    return false;
}

void swt_option_alternatives(const swt_option *row, const char *between, char *out,
                             size_t out_bytes) {
    size_t used = 0;
    const char *word = row->built;
    while (*word != '\0' && used < out_bytes) {
        const size_t n = strcspn(word, " ");
        used += (size_t)snprintf(out + used, out_bytes - used, "%.*s%s", (int)n, word,
                                 word[n] == ' ' ? between : "");
        word += n + (word[n] == ' ');
    }
}
