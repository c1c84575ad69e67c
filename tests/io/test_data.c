#include "base/utf8.h"
#include "io/data.h"
#include "support/temp.h"

static swt_cut cut_of(int64_t T, double valid_fraction, int64_t seed) {
    return (swt_cut){.T = T, .valid_fraction = valid_fraction, .seed = (uint64_t)seed};
}

/* Encode and cut one text. */
static swt_status init(swt_data *d, const swt_tokenizer *t, const char *text, size_t bytes,
                       const swt_cut *cut) {
    const swt_texts texts = {.train = {text, bytes, "in.txt"}, .vocabulary = "abc.txt"};
    return swt_data_init(d, t, &texts, cut);
}

/* A text of `count` ascending characters after the first `from`. */
static char *ramp_text(int from, int count, size_t *bytes) {
    char *text = malloc((size_t)count * 4 + 1);
    assert_non_null(text);
    *bytes = 0;
    for (int i = 0; i < count; i++)
        *bytes += (size_t)swt_utf8_encode(0x4E00u + (uint32_t)(from + i), text + *bytes);
    return text;
}

/* Data whose token i is i, so that a window's first token is its start. */
static void make_ramp(swt_data *d, int count, int64_t T, double valid_fraction, int64_t seed) {
    size_t bytes = 0;
    char *text = ramp_text(0, count, &bytes);
    swt_cut cut = cut_of(T, valid_fraction, seed);
    swt_tokenizer t;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, text, bytes, "ramp"), SWT_OK);
    assert_int_equal(init(d, &t, text, bytes, &cut), SWT_OK);
    assert_int_equal(d->count, count);
    for (int i = 0; i < count; i++)
        assert_int_equal(d->ids[i], i);
    swt_tokenizer_fini(&t);
    free(text);
}

/* The start of training window w, after a check of the whole window. */
static int64_t start_of(swt_data *d, int64_t w) {
    int32_t tokens[64], targets[64];
    assert_true(d->T <= 64);
    const swt_window window = {.tokens = tokens, .targets = targets};
    assert_int_equal(swt_data_train_window(d, w, &window), SWT_OK);
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
    swt_cut cut = cut_of(T, valid_fraction, 1);
    const swt_tokenizer t = {.kind = SWT_TOKENIZER_BYTE, .vocab = 256};
    swt_data d;
    assert_int_equal(init(&d, &t, text, count, &cut), SWT_OK);
    assert_int_equal(d.train_count, train_count);
    assert_int_equal(d.train_windows, train_windows);
    assert_int_equal(d.valid_windows, valid_windows);
    swt_data_fini(&d);
    swt_data_fini(&d);
    free(text);
}

static void test_cut(void **state) {
    (void)state;
    expect_cut(1115394, 64, 0.1, 1003854, 15685, 1742); /* tinyshakespeare's length */
    expect_cut(20, 4, 0.5, 10, 2, 2);
    expect_cut(10, 4, 0.5, 5, 1, 1); /* the smallest that fits: T + 1 tokens in each part */
    expect_cut(4, 1, 0.5, 2, 1, 1);
}

static void expect_too_short(size_t count, int64_t T, double valid_fraction, const char *part) {
    swt_cut cut = cut_of(T, valid_fraction, 1);
    const swt_tokenizer t = {.kind = SWT_TOKENIZER_BYTE, .vocab = 256};
    char text[64] = "";
    swt_data d;
    expect_error(init(&d, &t, text, count, &cut), SWT_FILE, part);
    assert_null(d.ids);
}

static void test_too_short(void **state) {
    (void)state;
    expect_too_short(9, 4, 0.5, "in.txt: the training part has 4 tokens, 5 are needed; ");
    expect_too_short(10, 4, 0.1, "in.txt: the validation part has 1 tokens, 5 are needed; ");
    expect_too_short(64, 8, 0.0, "the validation part has 0 tokens, 9 are needed");
    expect_too_short(64, 8, 1.0, "the training part has 0 tokens, 9 are needed");
    expect_too_short(0, 4, 0.5, "in.txt: is empty");
    /* Every character unknown to the tokenizer: nothing is left. */
    swt_cut cut = cut_of(4, 0.5, 1);
    swt_tokenizer t;
    swt_data d;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, "abc", 3, "x"), SWT_OK);
    expect_error(init(&d, &t, "XYZXYZXYZ", 9, &cut), SWT_FILE,
                 "in.txt: the vocabulary of abc.txt has not 9 of 9 characters (100 %): U+0058 'X'");
    cut.skip_unknown = true; /* nothing would be left */
    expect_error(init(&d, &t, "XYZXYZXYZ", 9, &cut), SWT_FILE, "9 of 9 characters");
    expect_error(init(&d, &t, "abc\xFF", 4, &cut), SWT_FILE, "in.txt: byte 3 is no UTF-8");
    swt_tokenizer_fini(&t);
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
    const swt_window window = {.tokens = none, .targets = none};
    expect_error(swt_data_train_window(&d, -1, &window), SWT_INTERNAL, "window -1");
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
    const swt_window window = {.tokens = tokens, .targets = targets};
    make_ramp(&d, 100, 8, 0.3, 1);
    assert_int_equal(d.train_count, 70);
    assert_int_equal(d.valid_windows, 3); /* floor(29 / 8) */
    for (int64_t j = 0; j < d.valid_windows; j++) {
        assert_int_equal(swt_data_valid_window(&d, j, &window), 8);
        for (int64_t i = 0; i < 8; i++) {
            assert_int_equal(tokens[i], 70 + 8 * j + i);
            assert_int_equal(targets[i], 70 + 8 * j + i + 1);
        }
    }
    swt_data_fini(&d);
}

/* A window of the validation part: ascending tokens from `first`, so many of them. */
static void expect_window(const swt_data *d, int64_t j, int64_t first, int64_t length) {
    int32_t tokens[8], targets[8];
    const swt_window window = {.tokens = tokens, .targets = targets};
    assert_int_equal(d->T, 8);
    assert_int_equal(swt_data_valid_window(d, j, &window), length);
    for (int64_t i = 0; i < length; i++) {
        assert_int_equal(tokens[i], first + i);
        assert_int_equal(targets[i], first + i + 1);
    }
}

/* An encoder's S tokens stand before the first target, and the decoder begins with the last of
 * them. */
static void expect_encoded(const swt_window *window, int64_t S, int64_t T) {
    for (int64_t i = 0; i < S; i++)
        assert_int_equal(window->inputs[i], window->inputs[0] + i);
    assert_int_equal(window->tokens[0], window->inputs[S - 1]);
    for (int64_t i = 0; i < T; i++) {
        assert_int_equal(window->tokens[i], window->tokens[0] + i);
        assert_int_equal(window->targets[i], window->tokens[i] + 1);
    }
}

/* Every token but the first S is a target of about one window an epoch, whatever S is. */
static void test_encoder(void **state) {
    (void)state;
    enum { S = 12, T = 5, COUNT = 100 };
    int32_t inputs[S], tokens[T], targets[T];
    const swt_window window = {.tokens = tokens, .targets = targets, .inputs = inputs};
    size_t bytes = 0;
    char *text = ramp_text(0, COUNT, &bytes);
    swt_cut cut = cut_of(T, 0.3, 7);
    cut.S = S;
    swt_tokenizer t;
    swt_data d;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, text, bytes, "ramp"), SWT_OK);
    assert_int_equal(init(&d, &t, text, bytes, &cut), SWT_OK);
    assert_int_equal(d.train_windows, 11); /* floor((70 - 12) / 5) */
    assert_int_equal(d.valid_windows, 3);  /* floor((30 - 12) / 5) */
    assert_int_equal(d.valid_left, 3);
    bool seen[COUNT] = {false};
    for (int64_t w = 0; w < 200 * d.train_windows; w++) {
        assert_int_equal(swt_data_train_window(&d, w, &window), SWT_OK);
        expect_encoded(&window, S, T);
        assert_true(inputs[0] >= 0 && targets[T - 1] < 70);
        seen[inputs[0]] = true;
    }
    for (int64_t i = 0; i <= 70 - S - T; i++) /* each place that a window can have */
        assert_true(seen[i]);
    for (int64_t j = 0; j < d.valid_windows; j++) {
        assert_int_equal(swt_data_valid_window(&d, j, &window), T);
        expect_encoded(&window, S, T);
        assert_int_equal(inputs[0], 70 + T * j);
    }
    swt_data_fini(&d);
    cut.T = 59; /* one target more than there are */
    expect_error(init(&d, &t, text, bytes, &cut), SWT_FILE, "has 70 tokens, 71 are needed");
    swt_tokenizer_fini(&t);
    free(text);
}

/* A text of its own validates to its end, and all of the other trains. */
static void test_valid_text(void **state) {
    (void)state;
    size_t bytes = 0, valid_bytes = 0;
    char *text = ramp_text(0, 100, &bytes), *valid = ramp_text(40, 20, &valid_bytes);
    swt_cut cut = cut_of(8, 0.1, 1);
    swt_tokenizer t;
    swt_data d;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, text, bytes, "x"), SWT_OK);
    swt_texts texts = {{text, bytes, "in.txt"}, {valid, valid_bytes, "valid.txt"}, "in.txt"};
    assert_int_equal(swt_data_init(&d, &t, &texts, &cut), SWT_OK);
    assert_int_equal(d.train_count, 100);
    assert_int_equal(d.train_windows, 12); /* floor(99 / 8) */
    assert_int_equal(d.valid_windows, 3);
    assert_int_equal(d.valid_targets, 19);
    assert_int_equal(d.valid_left, 0);
    expect_window(&d, 0, 40, 8);
    expect_window(&d, 1, 48, 8);
    expect_window(&d, 2, 56, 3);
    for (int64_t w = 0; w < 40; w++)
        assert_true(start_of(&d, w) + 8 < 100);
    swt_data_fini(&d);
    /* Characters of the one that the other has not. */
    texts.valid = (swt_text){"ab", 2, "valid.txt"};
    expect_error(swt_data_init(&d, &t, &texts, &cut), SWT_FILE,
                 "valid.txt: the vocabulary of in.txt has not 2 of 2 characters");
    texts.valid = (swt_text){valid, 3, "valid.txt"};
    expect_error(swt_data_init(&d, &t, &texts, &cut), SWT_FILE,
                 "valid.txt: the text has 1 tokens, 2");
    /* Evaluated alone, without a text to train on. */
    texts.train = (swt_text){0};
    texts.valid = (swt_text){valid, valid_bytes, "valid.txt"};
    cut.evaluates = true;
    assert_int_equal(swt_data_init(&d, &t, &texts, &cut), SWT_OK);
    assert_int_equal(d.train_count, 0);
    expect_window(&d, 2, 56, 3);
    swt_data_fini(&d);
    swt_tokenizer_fini(&t);
    free(valid);
    free(text);
}

static void expect_eval(int count, double valid_fraction, int64_t windows, int64_t targets,
                        int64_t left) {
    size_t bytes = 0;
    char *text = ramp_text(0, count, &bytes);
    swt_cut cut = cut_of(8, valid_fraction, 1);
    cut.evaluates = true;
    swt_tokenizer t;
    swt_data d;
    assert_int_equal(swt_tokenizer_init(&t, SWT_TOKENIZER_CHAR, text, bytes, "x"), SWT_OK);
    assert_int_equal(init(&d, &t, text, bytes, &cut), SWT_OK);
    assert_int_equal(d.valid_windows, windows);
    assert_int_equal(d.valid_targets, targets);
    assert_int_equal(d.valid_left, left);
    swt_data_fini(&d);
    swt_tokenizer_fini(&t);
    free(text);
}

/* eval needs nothing to train on, reads a whole text to its end, and of a part that a run was
 * validated by the same windows as that run. */
static void test_eval_windows(void **state) {
    (void)state;
    expect_eval(100, 1.0, 13, 99, 0);
    expect_eval(5, 1.0, 1, 4, 0);
    expect_eval(2, 1.0, 1, 1, 0);
    expect_eval(100, 0.3, 3, 24, 5);
    expect_eval(30, 0.2, 1, 5, 0); /* less than a window: all of it */
    expect_eval(9, 0.5, 1, 4, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut),           cmocka_unit_test(test_too_short),
        cmocka_unit_test(test_epochs),        cmocka_unit_test(test_order_of_asking),
        cmocka_unit_test(test_known_starts),  cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_valid_windows), cmocka_unit_test(test_encoder),
        cmocka_unit_test(test_valid_text),    cmocka_unit_test(test_eval_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
