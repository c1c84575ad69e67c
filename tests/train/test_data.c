#include "temp.h"
#include "train/data.h"
#include "train/utf8.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>

/* Options are large, so not on the stack. */
static swt_options *options(int64_t T, double valid_fraction, int64_t seed) {
    swt_options *o = calloc(1, sizeof *o);
    assert_non_null(o);
    o->batch_seq_len = T;
    o->data_valid_fraction = valid_fraction;
    o->train_seed = seed;
    return o;
}

/* Encode one text, cut as the options say. */
static swt_status init(swt_data *d, const swt_tokenizer *t, const char *text, size_t bytes,
                       const swt_options *o) {
    const swt_texts texts = {.train = {text, bytes, "in.txt"}, .vocabulary = "abc.txt"};
    return swt_data_init(d, t, &texts, o);
}

/* Data whose token i is i: a text of ascending distinct characters. So a window's first token is
 * its start. */
static void make_ramp(swt_data *d, int count, int64_t T, double valid_fraction, int64_t seed) {
    char *text = malloc((size_t)count * 4 + 1);
    assert_non_null(text);
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += (size_t)swt_utf8_encode(0x4E00u + (uint32_t)i, text + bytes);
    swt_options *o = options(T, valid_fraction, seed);
    swt_tokenizer t;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, text, bytes, "ramp"), SWT_OK);
    assert_int_equal(init(d, &t, text, bytes, o), SWT_OK);
    assert_int_equal(d->count, count);
    for (int i = 0; i < count; i++)
        assert_int_equal(d->ids[i], i);
    swt_tokenizer_fini(&t);
    free(text);
    free(o);
}

/* The start of training window w, after a check of the whole window. */
static int64_t start_of(swt_data *d, int64_t w) {
    int32_t tokens[64], targets[64];
    assert_true(d->T <= 64);
    assert_int_equal(swt_data_train_window(d, w, tokens, targets), SWT_OK);
    for (int64_t i = 0; i < d->T; i++) {
        assert_int_equal(tokens[i], tokens[0] + i);
        assert_int_equal(targets[i], tokens[0] + i + 1);
    }
    return tokens[0];
}

/* ---- the cut */

static void expect_cut(size_t count, int64_t T, double valid_fraction, int64_t train_count,
                       int64_t train_windows, int64_t valid_windows) {
    char *text = malloc(count);
    assert_non_null(text);
    memset(text, 'a', count);
    swt_options *o = options(T, valid_fraction, 1);
    const swt_tokenizer t = {.kind = SWT_TOKENIZER_BYTE, .vocab = 256};
    swt_data d;
    assert_int_equal(init(&d, &t, text, count, o), SWT_OK);
    assert_int_equal(d.train_count, train_count);
    assert_int_equal(d.train_windows, train_windows);
    assert_int_equal(d.valid_windows, valid_windows);
    swt_data_fini(&d);
    swt_data_fini(&d);
    free(text);
    free(o);
}

static void test_cut(void **state) {
    (void)state;
    expect_cut(1115394, 64, 0.1, 1003854, 15685, 1742); /* tinyshakespeare's length */
    expect_cut(20, 4, 0.5, 10, 2, 2);
    expect_cut(10, 4, 0.5, 5, 1, 1); /* the smallest that fits: T + 1 tokens in each part */
    expect_cut(4, 1, 0.5, 2, 1, 1);
}

static void expect_too_short(size_t count, int64_t T, double valid_fraction, const char *part) {
    swt_options *o = options(T, valid_fraction, 1);
    const swt_tokenizer t = {.kind = SWT_TOKENIZER_BYTE, .vocab = 256};
    char text[64] = "";
    swt_data d;
    expect_error(init(&d, &t, text, count, o), SWT_FILE, part);
    assert_null(d.ids);
    free(o);
}

static void test_too_short(void **state) {
    (void)state;
    expect_too_short(9, 4, 0.5, "in.txt: the training part has 4 tokens, 5 are needed; ");
    expect_too_short(10, 4, 0.1, "in.txt: the validation part has 1 tokens, 5 are needed; ");
    expect_too_short(64, 8, 0.0, "the validation part has 0 tokens, 9 are needed");
    expect_too_short(64, 8, 1.0, "the training part has 0 tokens, 9 are needed");
    expect_too_short(0, 4, 0.5, "in.txt: is empty");
    /* Every character unknown to the tokenizer: nothing is left. */
    swt_options *o = options(4, 0.5, 1);
    swt_tokenizer t;
    swt_data d;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, "abc", 3, "x"), SWT_OK);
    expect_error(init(&d, &t, "XYZXYZXYZ", 9, o), SWT_FILE,
                 "in.txt: the vocabulary of abc.txt has not 9 of 9 characters (100 %): U+0058 'X'");
    o->data_unknown = SWT_UNKNOWN_SKIP; /* nothing would be left */
    expect_error(init(&d, &t, "XYZXYZXYZ", 9, o), SWT_FILE, "9 of 9 characters");
    expect_error(init(&d, &t, "abc\xFF", 4, o), SWT_FILE, "in.txt: byte 3 is no UTF-8");
    swt_tokenizer_fini(&t);
    free(o);
}

/* ---- windows */

/* Every epoch visits every window once, and the offset stays in labml's range. */
static void test_epochs(void **state) {
    (void)state;
    static const struct {
        int count;
        int64_t T;
    } cases[] = {{1000, 7}, {1001, 7}, {500, 1}, {130, 64}, {260, 64}, {997, 16}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        swt_data d;
        const int64_t T = cases[i].T;
        make_ramp(&d, cases[i].count, T, 0.5, 3);
        int *visits = calloc((size_t)d.train_windows, sizeof *visits);
        assert_non_null(visits);
        for (int64_t w = 0; w < 5 * d.train_windows; w++) {
            const int64_t start = start_of(&d, w), j = start / T; /* an offset is below T */
            assert_in_range(j, 0, d.train_windows - 1);
            assert_true(start + T < d.train_count); /* the last target is a training token */
            visits[j]++;
            if ((w + 1) % d.train_windows == 0)
                for (int64_t k = 0; k < d.train_windows; k++)
                    assert_int_equal(visits[k], w / d.train_windows + 1);
        }
        free(visits);
        swt_data_fini(&d);
    }
}

/* A window is a function of (seed, w): any order of asking gives the same. */
static void test_order_of_asking(void **state) {
    (void)state;
    enum { WINDOWS = 400 };
    swt_data d, e;
    int64_t forward[WINDOWS];
    int differ = 0;
    make_ramp(&d, 1000, 8, 0.1, 5);
    make_ramp(&e, 1000, 8, 0.1, 5);
    for (int w = 0; w < WINDOWS; w++)
        forward[w] = start_of(&d, w);
    for (int i = 0; i < WINDOWS; i++) {
        const int w = (i * 173 + 91) % WINDOWS;
        assert_int_equal(start_of(&e, w), forward[w]);
    }
    swt_data_fini(&e);
    make_ramp(&e, 1000, 8, 0.1, 6);
    for (int w = 0; w < WINDOWS; w++)
        differ += start_of(&e, w) != forward[w];
    assert_true(differ > WINDOWS / 2);
    int32_t none[8];
    expect_error(swt_data_train_window(&d, -1, none, none), SWT_INTERNAL, "window -1");
    swt_data_fini(&d);
    swt_data_fini(&e);
}

/* The starts that an implementation in Python, from Philox's definition on, gives for 90 training
 * tokens in 11 windows: a change of them changes every run's training. */
static void test_known_starts(void **state) {
    (void)state;
    static const struct {
        int64_t seed;
        int64_t starts[13], far;
    } cases[] = {
        {1, {65, 81, 29, 55, 22, 59, 5, 43, 11, 79, 36, 22, 81}, 22},
        {0x123456789abcdef0, {48, 69, 14, 4, 73, 19, 80, 31, 42, 58, 36, 35, 47}, 5},
    };
    for (size_t i = 0; i < 2; i++) {
        swt_data d;
        make_ramp(&d, 100, 8, 0.1, cases[i].seed);
        assert_int_equal(d.train_windows, 11);
        for (int w = 0; w < 13; w++)
            assert_int_equal(start_of(&d, w), cases[i].starts[w]);
        assert_int_equal(start_of(&d, 1000000000000), cases[i].far);
        swt_data_fini(&d);
    }
}

/* Orders and offsets are uniform. Counts are binomial; 5 standard deviations are passed by chance
 * once in two million, and the seed is fixed. */
static void test_uniform(void **state) {
    (void)state;
    enum { EPOCHS = 6000, T = 4, WINDOWS = 3 };
    int orders[27] = {0}, offsets[T] = {0};
    swt_data d;
    make_ramp(&d, 2 * (WINDOWS * T + T), T, 0.5, 11); /* room for the largest offset everywhere */
    assert_int_equal(d.train_windows, WINDOWS);
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        int code = 0;
        for (int i = 0; i < WINDOWS; i++) {
            const int64_t start = start_of(&d, epoch * WINDOWS + i);
            code = code * 3 + (int)(start / T);
            offsets[start % T]++;
        }
        orders[code]++;
    }
    int seen = 0;
    for (int code = 0; code < 27; code++) {
        const double mean = EPOCHS / 6.0, deviation = 29.0; /* sqrt(6000 (1/6) (5/6)) = 28.9 */
        if (orders[code] == 0)
            continue;
        assert_true(orders[code] > mean - 5 * deviation && orders[code] < mean + 5 * deviation);
        seen++;
    }
    assert_int_equal(seen, 6);
    for (int i = 0; i < T; i++) {
        const double mean = EPOCHS * WINDOWS / 4.0, deviation = 58.1; /* sqrt(18000 (1/4) (3/4)) */
        assert_true(offsets[i] > mean - 5 * deviation && offsets[i] < mean + 5 * deviation);
    }
    swt_data_fini(&d);
}

static void test_valid_windows(void **state) {
    (void)state;
    swt_data d;
    int32_t tokens[8], targets[8];
    make_ramp(&d, 100, 8, 0.3, 1);
    assert_int_equal(d.train_count, 70);
    assert_int_equal(d.valid_windows, 3); /* floor(29 / 8) */
    for (int64_t j = 0; j < d.valid_windows; j++) {
        swt_data_valid_window(&d, j, tokens, targets);
        for (int64_t i = 0; i < 8; i++) {
            assert_int_equal(tokens[i], 70 + 8 * j + i);
            assert_int_equal(targets[i], 70 + 8 * j + i + 1);
        }
    }
    swt_data_fini(&d);
}

/* ---- files */

static void test_read_file(void **state) {
    (void)state;
    char folder[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES];
    temp_make(folder);
    temp_path(path, folder, "a.txt");
    char *text = NULL;
    size_t bytes = 0;
    expect_error(swt_read_file(&text, &bytes, path, SWT_FILE), SWT_FILE, "a.txt: is missing; ");
    expect_error(swt_read_file(&text, &bytes, path, SWT_CHECKPOINT), SWT_CHECKPOINT, "is missing");
    expect_error(swt_read_file(&text, &bytes, folder, SWT_FILE), SWT_FILE, "is a folder");
    expect_error(swt_read_file(&text, &bytes, "/dev/zero", SWT_FILE), SWT_FILE, "no regular file");
    temp_write(path, "", 0);
    expect_error(swt_read_file(&text, &bytes, path, SWT_FILE), SWT_FILE, "a.txt: is empty");
    assert_null(text);
    temp_write(path, "ab\0c\n", 5);
    assert_int_equal(swt_read_file(&text, &bytes, path, SWT_FILE), SWT_OK);
    assert_int_equal(bytes, 5);
    assert_memory_equal(text, "ab\0c\n", 6);
    free(text);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer */
    expect_error(swt_read_file(&text, &bytes, path, SWT_FILE), SWT_FILE, "no regular file");
    if (geteuid() != 0) {
        unlink(path);
        temp_write(path, "x", 1);
        assert_int_equal(chmod(path, 0), 0);
        expect_error(swt_read_file(&text, &bytes, path, SWT_FILE), SWT_FILE, "Permission denied");
    }
    temp_remove(folder);
}

/* A text of so many seconds ago. */
static void make_text(const char *folder, const char *name, int age_s) {
    char path[TEMP_PATH_BYTES];
    temp_path(path, folder, name);
    temp_write(path, "x", 1);
    const struct timespec when = {.tv_sec = time(NULL) - age_s};
    assert_int_equal(utimensat(AT_FDCWD, path, (const struct timespec[2]){when, when}, 0), 0);
}

static void test_find(void **state) {
    (void)state;
    char folder[TEMP_PATH_BYTES], data[TEMP_PATH_BYTES], before[TEMP_PATH_BYTES], path[64];
    int64_t candidates = -1;
    swt_options *o = options(8, 0.1, 1);
    assert_non_null(getcwd(before, sizeof before));
    temp_make(folder);
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(unsetenv("SWT_DATA"), 0);
    expect_error(swt_data_find(path, sizeof path, &candidates, o), SWT_FILE,
                 "data.path: no text given and none under data/; run launch/dataset or give "
                 "--data FILE");
    assert_int_equal(mkdir(temp_path(data, folder, "data"), 0777), 0);
    make_text(data, "notes.md", 0);
    make_text(data, ".hidden.txt", 0);
    assert_int_equal(mkdir("data/folder.txt", 0777), 0);
    expect_error(swt_data_find(path, sizeof path, &candidates, o), SWT_FILE, "run launch/dataset");

    make_text(data, "old.txt", 100);
    assert_int_equal(swt_data_find(path, sizeof path, &candidates, o), SWT_OK);
    assert_string_equal(path, "data/old.txt");
    make_text(data, "new.txt", 50);
    make_text(data, "older.txt", 200);
    assert_int_equal(swt_data_find(path, sizeof path, &candidates, o), SWT_OK);
    assert_string_equal(path, "data/new.txt");
    assert_int_equal(candidates, 3); /* said, so that nobody takes it for another */

    assert_int_equal(setenv("SWT_DATA", "elsewhere.txt", 1), 0);
    assert_int_equal(swt_data_find(path, sizeof path, &candidates, o), SWT_OK);
    assert_string_equal(path, "elsewhere.txt");
    assert_int_equal(candidates, 0);
    strcpy(o->data_path, "given.txt");
    assert_int_equal(swt_data_find(path, sizeof path, &candidates, o), SWT_OK);
    assert_string_equal(path, "given.txt");
    expect_error(swt_data_find(path, 9, &candidates, o), SWT_FILE, "too long");
    assert_int_equal(unsetenv("SWT_DATA"), 0);
    assert_int_equal(chdir(before), 0);
    temp_remove(folder);
    free(o);
}

/* Started again as --find, the program prints what it finds. */
static int find_and_print(void) {
    static swt_options o;
    char path[SWT_PATH_BYTES];
    int64_t candidates = 0;
    if (swt_data_find(path, sizeof path, &candidates, &o) != SWT_OK)
        return 1;
    puts(path);
    return 0;
}

/* Run a copy of this program at root/program in an empty folder; whether it finds the text. */
static bool finds(const char *root, const char *program, const char *expected) {
    char copy[TEMP_PATH_BYTES], text[TEMP_PATH_BYTES], out[TEMP_PATH_BYTES], command[2048];
    char found[TEMP_PATH_BYTES] = "";
    temp_path(copy, root, program);
    temp_path(text, root, expected);
    temp_path(out, root, "out");
    snprintf(command, sizeof command, "cp /proc/%ld/exe %s && cd %s/empty && %s --find > %s",
             (long)getpid(), copy, root, copy, out);
    const int rc = system(command);
    FILE *file = fopen(out, "r");
    assert_non_null(file);
    if (fscanf(file, "%511s", found) != 1)
        found[0] = '\0';
    fclose(file);
    unlink(copy);
    struct stat a, b;
    return rc == 0 && stat(found, &a) == 0 && stat(text, &b) == 0 && a.st_ino == b.st_ino;
}

static void test_find_beside_the_program(void **state) {
    (void)state;
    static const char *const folders[] = {
        "build",          "build/cpu",           "data", "bin", "share",
        "share/swt-dist", "share/swt-dist/data", "empty"};
    char root[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES];
    temp_make(root);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        assert_int_equal(mkdir(temp_path(path, root, folders[i]), 0777), 0);
    assert_false(finds(root, "build/cpu/prog", "data/a.txt"));
    temp_write(temp_path(path, root, "data/a.txt"), "a", 1);
    temp_write(temp_path(path, root, "share/swt-dist/data/b.txt"), "b", 1);
    assert_true(finds(root, "build/cpu/prog", "data/a.txt"));
    assert_true(finds(root, "bin/prog", "share/swt-dist/data/b.txt"));
    temp_remove(root);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--find") == 0)
        return find_and_print();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut),           cmocka_unit_test(test_too_short),
        cmocka_unit_test(test_epochs),        cmocka_unit_test(test_order_of_asking),
        cmocka_unit_test(test_known_starts),  cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_valid_text),    cmocka_unit_test(test_eval_windows),
        cmocka_unit_test(test_valid_windows), cmocka_unit_test(test_read_file),
        cmocka_unit_test(test_find),          cmocka_unit_test(test_find_beside_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
