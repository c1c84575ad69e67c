/* Texts made of pieces, and the list of warnings. */
#include "base/words.h"
#include "support/test.h"

#include <stdlib.h>
#include <string.h>

/* What does not fit is left out, and nothing is written behind the text's own bytes. */
static void append(void **state) {
    (void)state;
    char text[8] = "", guard[4] = "abc";
    swt_append(text, sizeof text, "%d", 12);
    swt_append(text, sizeof text, "%s", "");
    swt_append(text, sizeof text, ", %s", "34");
    assert_string_equal(text, "12, 34");
    swt_append(text, sizeof text, "%s", guard);
    assert_string_equal(text, "12, 34a");
    swt_append(text, sizeof text, "more");
    assert_string_equal(text, "12, 34a");
    assert_string_equal(guard, "abc");
}

/* As many as there is room for, each of one line that leaves a terminal alone, the longest cut. */
static void warnings(void **state) {
    (void)state;
    static char name[2 * SWT_WARNING_BYTES], expected[SWT_WARNING_BYTES];
    swt_warnings w = {.count = 0};
    for (size_t i = 0; i + 2 < sizeof name; i += 2)
        memcpy(name + i, "\xC3\xA9", 2);
    swt_warn(&w, "a%s", name);
    swt_warn(&w, "a\nb\033[2J");
    for (int i = 0; i < SWT_WARNINGS; i++)
        swt_warn(&w, "number %d", i);
    assert_int_equal(w.count, SWT_WARNINGS);
    snprintf(expected, sizeof expected, "a%.*s", SWT_WARNING_BYTES - 2, name);
    assert_string_equal(w.lines[0], expected);
    assert_string_equal(w.lines[1], "a?b?[2J");
    assert_string_equal(w.lines[SWT_WARNINGS - 1], "number 5");
}

static void printed(void **state) {
    (void)state;
    swt_warnings w = {.count = 0};
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    swt_warn(&w, "one");
    swt_warn(&w, "two");
    swt_warnings_print(&w, out);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, "swt-dist: warning: one\nswt-dist: warning: two\n");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(append),
        cmocka_unit_test(warnings),
        cmocka_unit_test(printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
