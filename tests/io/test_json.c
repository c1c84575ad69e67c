#include "io/json.h"
#include "support/temp.h"

#include <malloc.h>

/* ---- what a tree takes */

static size_t live_bytes;

/* With the heap's own word before each piece. */
static void *count_allocation(size_t bytes) {
    void *memory = malloc(bytes);
    assert_non_null(memory);
    live_bytes += malloc_usable_size(memory) + sizeof(size_t);
    return memory;
}

static void discount(void *memory) {
    if (memory != NULL)
        live_bytes -= malloc_usable_size(memory) + sizeof(size_t);
    free(memory);
}

/* What surrounds the number of each element. */
typedef struct shape {
    const char *opening, *before, *after, *closing;
} shape;

static const shape shapes[] = {
    {"[", "", "", "]"},
    {"[", "[],[],[],[],", "", "]"},
    {"[", "{},{},{},{},", "", "]"},
    {"[", "\"\",\"a\",\"bc\",\"\\\"\",", "", "]"},
    {"[", "null,true,0.5,", "", "]"},
    {"{", "\"", "\":1", "}"},
    {"[", "{\"a\":", "}", "]"},
    {"[", "{\"a\":1,\"b\":1,\"c\":", "}", "]"},
    {"[", "[[[[", "]]]]", "]"},
    {"[", "{\"a\":{\"a\":{\"a\":", "}}}", "]"},
    {"{", "\"decoder.", ".w\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}", "}"},
};

/* Never more memory than was foretold, and not a tenth of it. */
static void test_tree_bytes(void **state) {
    (void)state;
    enum { ELEMENTS = 2000 };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        char *text = NULL;
        size_t bytes = 0;
        json_error_t why;
        FILE *out = open_memstream(&text, &bytes);
        assert_non_null(out);
        fputs(shapes[s].opening, out);
        for (int i = 0; i < ELEMENTS; i++)
            fprintf(out, "%s%s%d%s", i > 0 ? "," : "", shapes[s].before, i, shapes[s].after);
        fputs(shapes[s].closing, out);
        fclose(out);
        live_bytes = 0;
        json_set_alloc_funcs(count_allocation, discount);
        json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
        const size_t tree_bytes = live_bytes;
        assert_non_null(root);
        json_decref(root);
        assert_in_range(swt_json_tree_bytes(text, bytes), tree_bytes, 10 * tree_bytes);
        free(text);
    }
}

static void expect_tree(const char *text, size_t expected) {
    assert_int_equal(swt_json_tree_bytes(text, strlen(text)), expected);
}

/* What stands in strings is none of the tree, and a quote that is escaped ends no string. */
static void test_strings_are_leaves(void **state) {
    (void)state;
    expect_tree("", 0);
    expect_tree("7", 0);
    expect_tree("\"[{,:\"", 48);
    expect_tree("\"\\\"[[[\"", 48);
    expect_tree("\"\\\\\"[", 48 + 144);
    expect_tree("\"\\", 24);
    expect_tree("{\"a\":[1,2]}", 240 + 48 + 48 + 144 + 48);
}

/* ---- reading */

static void expect_broken(const char *text, size_t bytes, const char *part) {
    json_error_t why;
    bool no_memory = true;
    assert_null(swt_json_parse(text, bytes, &why, &no_memory));
    assert_false(no_memory);
    if (strstr(why.text, part) == NULL)
        fail_msg("reason \"%s\" lacks \"%s\"", why.text, part);
}

static void test_broken(void **state) {
    (void)state;
    expect_broken("", 0, "expected");
    expect_broken("{\"a\":1", 6, "expected");
    expect_broken("{} {}", 5, "end of file expected");
    expect_broken("{\"a\":1,\"a\":1}", 13, "duplicate object key");
    expect_broken("[9223372036854775808]", 21, "too big integer");
    expect_broken("[\"a\0b\"]", 7, "control character");
    expect_broken("[\"\\u0000\"]", 10, "\\u0000 is not allowed");
    expect_broken("[] \0", 4, "end of file expected");
    expect_broken("[\"\xED\xA0\x80\"]", 7, "unable to decode");
}

/* Every integer of 64 bits is read as it is. */
static void test_integers(void **state) {
    (void)state;
    static const char text[] = "[9223372036854775807, -9223372036854775808, 9007199254740993]";
    json_error_t why;
    bool no_memory = true;
    json_t *root = swt_json_parse(text, sizeof text - 1, &why, &no_memory);
    assert_non_null(root);
    assert_false(no_memory);
    assert_int_equal(json_integer_value(json_array_get(root, 0)), INT64_MAX);
    assert_int_equal(json_integer_value(json_array_get(root, 1)), INT64_MIN);
    assert_int_equal(json_integer_value(json_array_get(root, 2)), INT64_C(9007199254740993));
    json_decref(root);
}

/* ---- writing */

static void test_print_string(void **state) {
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    swt_json_print_string(out, "a/\"\\\b\f\n\r\t\x01\x1F\x7F\xC3\xA9");
    fclose(out);
    assert_string_equal(text, "\"a/\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\x7F\xC3\xA9\"");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_bytes),   cmocka_unit_test(test_strings_are_leaves),
        cmocka_unit_test(test_broken),       cmocka_unit_test(test_integers),
        cmocka_unit_test(test_print_string),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
