/* One value: from text, to text, and what the text may be. Each type of the table is a handful of
 * functions (swt_option_type), so that nothing else asks of which type a row is. */
#include "base/utf8.h"
#include "base/words.h"
#include "options/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Choices fill ints, and enums where a struct of the model has one. */
_Static_assert(sizeof(swt_gate) == sizeof(int), "an enum of another size than int");

/* ---- integers */

static bool int_read(void *field, const swt_option *row, const char *text) {
    const char *digits = text + (text[0] == '-');
    if (digits[0] == '\0' || digits[strspn(digits, "0123456789")] != '\0')
        return false;
    errno = 0;
    const int64_t value = strtoll(text, NULL, 10);
    if (errno != 0 || value < row->min || value > row->max)
        return false;
    *(int64_t *)field = value;
    return true;
}

static void int_print(const void *field, const swt_option *row, char *out, size_t out_bytes) {
    (void)row;
    snprintf(out, out_bytes, "%" PRId64, *(const int64_t *)field);
}

static void int_range(const swt_option *row, char *out, size_t out_bytes) {
    swt_append(out, out_bytes, "%" PRId64 " to %" PRId64, row->min, row->max);
}

static void int_expected(const swt_option *row, char *out, size_t out_bytes) {
    swt_append(out, out_bytes, "an integer from ");
    int_range(row, out, out_bytes);
}

const swt_option_type swt_option_int = {int_read, int_print, int_range, int_expected};

/* ---- reals */

static bool real_is_in_range(double value, const swt_option *row) {
    return (row->above_low ? value > row->low : value >= row->low) &&
           (row->below_high ? value < row->high : value <= row->high);
}

static bool real_read(void *field, const swt_option *row, const char *text) {
    /* strtod alone would also take spaces, hexadecimal numbers, inf and nan. */
    if (text[0] == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return false;
    char *end;
    errno = 0;
    const double value = strtod(text, &end);
    if (*end != '\0' || errno != 0 || !real_is_in_range(value, row))
        return false;
    *(double *)field = value == 0 ? 0 : value; /* -0 is 0 */
    return true;
}

/* The fewest digits that read back to the same value; written out between 1e-5 and 1e15. With an
 * exponent there is always a point: YAML 1.1 readers take 1e-08 for a text, 1.0e-08 for a number.
 */
static void format_real(double value, char *out, size_t out_bytes) {
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

static void real_print(const void *field, const swt_option *row, char *out, size_t out_bytes) {
    (void)row;
    format_real(*(const double *)field, out, out_bytes);
}

/* "0 to 1", "above 0, to 1", "0 to below 1", "above 0, below 1" */
static void real_range(const swt_option *row, char *out, size_t out_bytes) {
    char low[40], high[40];
    format_real(row->low, low, sizeof low);
    format_real(row->high, high, sizeof high);
    const char *between = row->above_low && row->below_high ? ", below"
                          : row->above_low                  ? ", to"
                          : row->below_high                 ? " to below"
                                                            : " to";
    swt_append(out, out_bytes, "%s%s%s %s", row->above_low ? "above " : "", low, between, high);
}

static void real_expected(const swt_option *row, char *out, size_t out_bytes) {
    swt_append(out, out_bytes, "a number %s", row->above_low ? "" : "from ");
    real_range(row, out, out_bytes);
}

const swt_option_type swt_option_real = {real_read, real_print, real_range, real_expected};

/* ---- truth values and choices */

static bool is_word(const char *text, const char *const *words) {
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0)
            return true;
    }
    return false;
}

/* A truth value in any spelling of YAML 1.1. */
static bool read_truth(bool *out, const char *text) {
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

static bool bool_read(void *field, const swt_option *row, const char *text) {
    (void)row;
    return read_truth(field, text);
}

static void bool_print(const void *field, const swt_option *row, char *out, size_t out_bytes) {
    snprintf(out, out_bytes, "%s", row->choices[*(const bool *)field ? 1 : 0]);
}

/* A choice's name; a truth value is its choice off or on, which YAML 1.1 reads as that. */
static bool choice_read(void *field, const swt_option *row, const char *text) {
    bool value = false;
    const bool truth = read_truth(&value, text);
    for (int i = 0; row->choices[i] != NULL; i++) {
        if (strcmp(text, row->choices[i]) == 0 ||
            (truth && strcmp(row->choices[i], value ? "on" : "off") == 0)) {
            *(int *)field = i;
            return true;
        }
    }
    return false;
}

static void choice_print(const void *field, const swt_option *row, char *out, size_t out_bytes) {
    snprintf(out, out_bytes, "%s", row->choices[*(const int *)field]);
}

void swt_option_append_choices(const swt_option *row, const char *between, const char *last,
                               char *out, size_t out_bytes) {
    for (int i = 0; row->choices[i] != NULL; i++) {
        const char *before = i == 0 ? "" : row->choices[i + 1] == NULL ? last : between;
        swt_append(out, out_bytes, "%s%s", before, row->choices[i]);
    }
}

static void choice_range(const swt_option *row, char *out, size_t out_bytes) {
    swt_option_append_choices(row, ", ", ", ", out, out_bytes);
}

static void choice_expected(const swt_option *row, char *out, size_t out_bytes) {
    swt_option_append_choices(row, ", ", " or ", out, out_bytes);
}

const swt_option_type swt_option_bool = {bool_read, bool_print, choice_range, choice_expected};
const swt_option_type swt_option_choice = {choice_read, choice_print, choice_range,
                                           choice_expected};

bool swt_yaml_is_null(const char *text) {
    static const char *const words[] = {"", "~", "null", "Null", "NULL", NULL};
    return is_word(text, words);
}

bool swt_yaml_is_ambiguous(const char *text) {
    bool value;
    return swt_yaml_is_null(text) || read_truth(&value, text) ||
           strchr("+-.0123456789", text[0]) != NULL;
}

/* ---- texts */

/* Other bytes than UTF-8 could not be written to a YAML file. */
static bool text_read(void *field, const swt_option *row, const char *text) {
    const size_t length = strlen(text);
    if (length >= row->bytes || swt_utf8_wrong_byte(text, length) >= 0)
        return false;
    memset(field, 0, row->bytes);
    memcpy(field, text, length);
    return true;
}

static void text_print(const void *field, const swt_option *row, char *out, size_t out_bytes) {
    (void)row;
    snprintf(out, out_bytes, "%s", (const char *)field);
}

static void text_range(const swt_option *row, char *out, size_t out_bytes) {
    swt_append(out, out_bytes, "%s", row->value);
}

static void text_expected(const swt_option *row, char *out, size_t out_bytes) {
    swt_append(out, out_bytes, "UTF-8 text of at most %zu bytes", row->bytes - 1);
}

const swt_option_type swt_option_text = {text_read, text_print, text_range, text_expected};

/* ---- the value of a row in the options */

bool swt_option_read(swt_options *o, const swt_option *row, const char *text) {
    return row->type->read((char *)o + row->offset, row, text);
}

void swt_option_print(const swt_options *o, const swt_option *row, char *out, size_t out_bytes) {
    row->type->print((const char *)o + row->offset, row, out, out_bytes);
}

bool swt_option_is_among(const swt_options *o, const swt_option *row, const char *words) {
    char value[SWT_OPTION_NAME_BYTES], word[SWT_OPTION_NAME_BYTES];
    const bool inverted = words[0] == '!';
    swt_option_print(o, row, value, sizeof value);
    words += inverted;
    while (swt_next_word(&words, word)) {
        if (strcmp(word, value) == 0)
            return !inverted;
    }
    return inverted;
}

const char *swt_option_default(const swt_option *row, swt_preset preset) {
    return preset == SWT_PRESET_T5 ? row->t5 : row->labml;
}

/* Every default of the table is one of its row's values; a test reads them all. */
void swt_option_reset(swt_options *o, const swt_option *row, swt_preset preset) {
    (void)swt_option_read(o, row, swt_option_default(row, preset));
}

bool swt_options_is_default(const swt_options *o, const char *key) {
    const swt_option *row = swt_option_of_key(key);
    _Alignas(int64_t) char own[SWT_PATH_BYTES];
    char value[SWT_PATH_BYTES], expected[SWT_PATH_BYTES];
    (void)row->type->read(own, row, swt_option_default(row, (swt_preset)o->model_preset));
    row->type->print(own, row, expected, sizeof expected);
    swt_option_print(o, row, value, sizeof value);
    return strcmp(value, expected) == 0;
}

void swt_options_defaults(swt_options *out, swt_preset preset) {
    memset(out, 0, sizeof *out);
    for (int i = 0; i < swt_option_count; i++)
        swt_option_reset(out, &swt_option_table[i], preset);
}

void swt_option_append_built(const swt_option *row, const char *between, char *out,
                             size_t out_bytes) {
    char word[SWT_OPTION_NAME_BYTES];
    const char *words = row->built, *before = "";
    while (swt_next_word(&words, word)) {
        swt_append(out, out_bytes, "%s%s", before, word);
        before = between;
    }
}

/* A given value for a message: at most 60 bytes, "" where it is empty. */
static void quote(char out[64], const char *text) {
    enum { MOST_BYTES = 60 };
    snprintf(out, MOST_BYTES + 1, "%s", text[0] != '\0' ? text : "\"\"");
    if (strlen(text) > MOST_BYTES) {
        swt_utf8_clean(out, true);
        swt_append(out, 64, "...");
    }
}

swt_status swt_option_set(swt_options *o, const swt_option *row, const char *text,
                          const char *where, swt_status status) {
    if (swt_option_read(o, row, text))
        return SWT_OK;
    char given[64], expected[SWT_OPTION_RANGE_BYTES] = "";
    quote(given, text);
    row->type->expected(row, expected, sizeof expected);
    return SWT_FAIL_AS(status, "%s: %s%sis %s; it must be %s", where,
                       row->key != NULL ? row->key : "", row->key != NULL ? " " : "", given,
                       expected);
}
