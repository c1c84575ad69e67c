#include "state/ledger.h"

#include "support/temp.h"

enum { LINES = 4, MARKS = 3 };

/* A ledger of a few lines, written by hand from numbers that were chosen. */
static size_t write_ledger(char *out, size_t out_bytes) {
    uint16_t marks[MARKS] = {0x0001, 0xabcd, 0xffff};
    uint64_t before = 0;
    size_t bytes = 0;
    for (int i = 0; i < LINES; i++) {
        char text[4096];
        swt_ledger_line line = {.step = 5 * i,
                                .by = "cpu-avx512",
                                .loss = 4.25 / (i + 1),
                                .run = 7,
                                .data = 0xfedcba9876543210,
                                .batch = 100 + (uint64_t)i,
                                .weights = 0x0123456789abcdef - (uint64_t)i,
                                .metrics = (uint64_t)i,
                                .marks = marks};
        assert_true(swt_ledger_line_bytes(MARKS) <= sizeof text);
        swt_ledger_print(&line, MARKS, before, text);
        assert_true(strlen(text) < swt_ledger_line_bytes(MARKS) - 64);
        assert_true(bytes + strlen(text) < out_bytes);
        memcpy(out + bytes, text, strlen(text) + 1);
        bytes += strlen(text);
        before = line.chain;
    }
    return bytes;
}

static swt_status read_text(swt_ledger *out, const char *text, size_t bytes) {
    char path[TEMP_PATH_BYTES];
    temp_write(temp_in(path, "ledger.jsonl"), text, bytes);
    return swt_ledger_read(out, path);
}

static void test_reads_what_it_wrote(void **state) {
    (void)state;
    char text[4096];
    const size_t bytes = write_ledger(text, sizeof text);
    swt_ledger l;
    assert_int_equal(read_text(&l, text, bytes), SWT_OK);
    assert_int_equal(l.count, LINES);
    assert_int_equal(l.marks, MARKS);
    assert_int_equal(l.lines[0].run, 7);
    assert_true(l.lines[0].data == 0xfedcba9876543210);
    for (int i = 0; i < LINES; i++) {
        assert_int_equal(l.lines[i].step, 5 * i);
        assert_string_equal(l.lines[i].by, "cpu-avx512");
        assert_true(i == 0 || l.lines[i].loss == 4.25 / (i + 1));
        assert_int_equal(l.lines[i].batch, i == 0 ? 0 : 100 + i);
        assert_int_equal(l.lines[i].marks[1], 0xabcd);
        assert_int_equal(l.lines[i].metrics, i);
    }
    swt_ledger_fini(&l);
}

/* The end of the chain says all: whatever byte is another one, the ledger is refused, or ends in
 * another hash than the one that was printed and stands in the checkpoint; of the rows' hash, which
 * is outside of the chain, the reader has the value to compare. */
static void test_every_byte_counts(void **state) {
    (void)state;
    char text[4096], changed[8192];
    const size_t bytes = write_ledger(text, sizeof text);
    swt_ledger good, l;
    assert_int_equal(read_text(&good, text, bytes), SWT_OK);
    for (size_t i = 0; i < bytes; i++) {
        memcpy(changed, text, bytes);
        changed[i] = changed[i] == '0' ? '1' : '0';
        if (read_text(&l, changed, bytes) != SWT_OK)
            continue;
        bool found = l.lines[LINES - 1].chain != good.lines[LINES - 1].chain;
        for (int k = 0; k < LINES; k++)
            found = found || l.lines[k].metrics != good.lines[k].metrics;
        if (!found)
            fail_msg("byte %zu (%c) can be altered", i, text[i]);
        swt_ledger_fini(&l);
    }
    swt_ledger_fini(&good);
}

static void refused(const char *text, size_t bytes, const char *why) {
    swt_ledger l;
    expect_error(read_text(&l, text, bytes), SWT_CHECKPOINT, why);
}

static void test_refuses(void **state) {
    (void)state;
    char text[4096], changed[8192];
    const size_t bytes = write_ledger(text, sizeof text);
    const char *second = strchr(text, '\n') + 1, *third = strchr(second, '\n') + 1;
    refused("", 0, "is no ledger, or cut off");
    refused(text, bytes - 1, "is no ledger, or cut off");
    refused("{}\n", 3, "line 1 is none of a ledger");
    refused("\0\n", 2, "is no ledger, or cut off");
    refused(second, bytes - (size_t)(second - text), "line 1");
    /* a line left out, the first two exchanged, one twice */
    snprintf(changed, sizeof changed, "%.*s%s", (int)(second - text), text, third);
    refused(changed, strlen(changed), "line 2 (step 10): its chain is");
    snprintf(changed, sizeof changed, "%.*s%.*s", (int)(third - second), second,
             (int)(second - text), text);
    refused(changed, strlen(changed), "line 1");
    snprintf(changed, sizeof changed, "%.*s%.*s", (int)(third - text), text, (int)(third - second),
             second);
    refused(changed, strlen(changed), "line 3 (step 5): its chain is");
    /* a step that no int64 holds */
    snprintf(changed, sizeof changed, "{\"step\": 99999999999999999999%s",
             text + strlen("{\"step\": 0"));
    refused(changed, strlen(changed), "line 1");
}

/* A checkpoint's part of a ledger, or of rows: whatever a crash has left behind it does not count,
 * and what is before it does. */
static void test_up_to_a_step(void **state) {
    (void)state;
    static const char ends[][24] = {
        "",         "{\"step\": 20, \"by\"",      "\n",
        "no row\n", "{\"step\": 3, \"by\": 0}\n", "{\"step\": 1\0\0\0\0}\n"};
    char text[4096], path[TEMP_PATH_BYTES];
    const size_t bytes = write_ledger(text, sizeof text);
    const char *const third = strchr(strchr(text, '\n') + 1, '\n') + 1;
    const char *const fourth = strchr(third, '\n') + 1;
    assert_int_equal(swt_ledger_rows_up_to(text, bytes, -1), 0);
    assert_int_equal(swt_ledger_rows_up_to(text, bytes, 9), third - text);
    assert_int_equal(swt_ledger_rows_up_to(text, bytes, 10), fourth - text);
    assert_int_equal(swt_ledger_rows_up_to(text, bytes - 1, 99), fourth - text);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        swt_ledger l;
        const size_t all = i == 0 ? bytes : bytes + sizeof ends[i]; /* zeros at its end */
        assert_true(all <= sizeof text);
        memcpy(text + bytes, ends[i], all - bytes);
        temp_write(temp_in(path, "ledger.jsonl"), text, all);
        assert_int_equal(swt_ledger_rows_up_to(text, all, 99), bytes);
        assert_int_equal(swt_ledger_read_up_to(&l, path, 12), SWT_OK);
        assert_int_equal(l.count, 3);
        assert_int_equal(l.lines[2].step, 10);
        swt_ledger_fini(&l);
    }
    text[4] ^= 1;
    temp_write(path, text, bytes);
    swt_ledger l;
    expect_error(swt_ledger_read_up_to(&l, path, 12), SWT_CHECKPOINT, "is no ledger");
}

/* Marks of more tensors than there are places: equal parts of the table, none left out. */
static void test_marks(void **state) {
    (void)state;
    assert_int_equal(swt_ledger_marks(7), 7);
    const int64_t tensors = 3 * SWT_LEDGER_MARKS + 17;
    assert_int_equal(swt_ledger_marks(tensors), SWT_LEDGER_MARKS);
    int64_t next = 0;
    for (int64_t i = 0; i < SWT_LEDGER_MARKS; i++) {
        int64_t first, end;
        swt_ledger_marked(tensors, i, &first, &end);
        assert_int_equal(first, next);
        assert_in_range(end - first, 3, 4);
        next = end;
    }
    assert_int_equal(next, tensors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEMP_TEST(test_reads_what_it_wrote),
        TEMP_TEST(test_every_byte_counts),
        TEMP_TEST(test_refuses),
        TEMP_TEST(test_up_to_a_step),
        TEMP_TEST(test_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
