/* Values from text and back, refusals, and what must fit together. */
#include "kernels/swt_backend.h"
#include "options/table.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static swt_options defaults(void) {
    swt_options o;
    swt_options_defaults(&o, SWT_PRESET_LABML);
    return o;
}

static swt_status set_to(swt_options *o, const char *key, const char *text) {
    return swt_option_set(o, swt_option_of_key(key), text, "--flag", SWT_USAGE);
}

static void set(swt_options *o, const char *key, const char *text) {
    assert_int_equal(set_to(o, key, text), SWT_OK);
}

/* Setting fails with this message and changes nothing. */
static void rejected(const char *key, const char *text, const char *expected) {
    swt_options o = defaults();
    const swt_options before = o;
    assert_int_equal(set_to(&o, key, text), SWT_USAGE);
    assert_string_equal(swt_last_error()->message, expected);
    assert_memory_equal(&o, &before, sizeof o);
}

/* The check after setting fails with this message. */
static void refused(const char *key, const char *text, const char *expected) {
    swt_options o = defaults();
    set(&o, key, text);
    assert_int_equal(swt_options_check(&o), SWT_USAGE);
    assert_string_equal(swt_last_error()->message, expected);
}

static void integers(void **state) {
    (void)state;
    swt_options o = defaults();
    set(&o, "moe.experts", "16");
    assert_int_equal(o.dims.E, 16);
    set(&o, "model.pad_id", "-1");
    set(&o, "train.seed", "9223372036854775807");
    assert_true(o.train_seed == INT64_MAX);
    const char *const wrong[] = {
        "0",  "65537", "-1", "",    "4x",   "1e3", "4.0", " 4",
        "4 ", "0x10",  "+4", "nan", "true", "-",   "4_0", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char expected[200];
        snprintf(expected, sizeof expected,
                 "--flag: moe.experts is %s; it must be an integer from 1 to 65536",
                 wrong[i][0] != '\0' ? wrong[i] : "\"\"");
        rejected("moe.experts", wrong[i], expected);
    }
    rejected("train.seed", "9223372036854775808",
             "--flag: train.seed is 9223372036854775808; it must be an integer from 0 to "
             "9223372036854775807");
}

static void reals(void **state) {
    (void)state;
    swt_options o = defaults();
    set(&o, "optim.eps", "1e-8");
    assert_true(o.adam.eps == 1e-8);
    set(&o, "optim.lr", "1000.0");
    set(&o, "optim.lr", ".5");
    assert_true(o.schedule.lr == 0.5);
    const char *const wrong[] = {"1.5", "-0.1", "1",     "",  "0.1x", "nan",    "inf",  "0x0",
                                 " 0",  "1e",   "1e999", ".", "0,5",  "1e-999", "-inf", "--0"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char expected[200];
        snprintf(expected, sizeof expected,
                 "--flag: optim.beta1 is %s; it must be a number from 0 to below 1",
                 wrong[i][0] != '\0' ? wrong[i] : "\"\"");
        rejected("optim.beta1", wrong[i], expected);
    }
    rejected("data.valid_fraction", "0",
             "--flag: data.valid_fraction is 0; it must be a number above 0, to 1");
    rejected("data.valid_fraction", "1.01",
             "--flag: data.valid_fraction is 1.01; it must be a number above 0, to 1");
    refused("data.valid_fraction", "1",
            "data.valid_fraction: 1 leaves nothing to train on; use a smaller share, or give "
            "data.valid a text of its own");
    rejected("optim.warmup_steps", "-1",
             "--flag: optim.warmup_steps is -1; it must be a number from 0 to 1000000000");
}

static void words_and_texts(void **state) {
    (void)state;
    swt_options o = defaults();
    set(&o, "model.bias", "off");
    assert_false(o.dims.bias);
    set(&o, "model.bias", "true");
    assert_true(o.dims.bias);
    set(&o, "run.deterministic", "true");
    assert_true(o.run_deterministic);
    rejected("model.bias", "yep", "--flag: model.bias is yep; it must be false or true");
    rejected("model.bias", "1", "--flag: model.bias is 1; it must be false or true");
    rejected("moe.drop", "last",
             "--flag: moe.drop is last; it must be position, priority or random");
    rejected("moe.drop", "posit",
             "--flag: moe.drop is posit; it must be position, priority or random");
    rejected("data.prompt", "a\xff\nb",
             "--flag: data.prompt is a??b; it must be UTF-8 text of at most 1023 bytes");
    const char *const no_utf8[] = {"\x80",     "\xc0\x80",         "\xe0\x9f\xbf", "\xed\xa0\x80",
                                   "\xe2\x82", "\xf4\x90\x80\x80", "\xf8",         "\xc3("};
    for (size_t i = 0; i < sizeof no_utf8 / sizeof no_utf8[0]; i++)
        assert_int_equal(set_to(&o, "data.prompt", no_utf8[i]), SWT_USAGE);
    set(&o, "data.prompt", "\xc3\xa9 \xe2\x82\xac \xed\x9f\xbf \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf");
    char text[SWT_TEXT_BYTES + 1];
    memset(text, 'x', sizeof text);
    text[SWT_TEXT_BYTES - 1] = '\0';
    set(&o, "data.prompt", text);
    assert_string_equal(o.data_prompt, text);
    text[SWT_TEXT_BYTES - 1] = 'x';
    text[SWT_TEXT_BYTES] = '\0';
    char expected[200];
    snprintf(expected, sizeof expected,
             "--flag: data.prompt is %.60s...; it must be UTF-8 text of at most 1023 bytes", text);
    rejected("data.prompt", text, expected);
}

/* Reals are written in the fewest digits that read back, and read back exactly. */
static void reals_read_back(void **state) {
    (void)state;
    static const struct {
        double value;
        const char *text;
    } known[] = {
        {0.1, "0.1"},
        {1.25, "1.25"},
        {2000, "2000"},
        {1e6, "1000000"},
        {1e-5, "0.00001"},
        {1e-8, "1.0e-08"},
        {1.5e-7, "1.5e-07"},
        {0, "0"},
        {1.0 / 3, "0.3333333333333333"},
        {0.1 + 0.2, "0.30000000000000004"},
        {123456.75, "123456.75"},
    };
    const swt_option *row = swt_option_of_key("optim.lr");
    swt_options o = defaults(), back = defaults();
    char text[64];
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        o.schedule.lr = known[i].value;
        swt_option_print(&o, row, text, sizeof text);
        assert_string_equal(text, known[i].text);
    }
    uint64_t bits = 1;
    for (int i = 0; i < 20000; i++) {
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        /* Random digits at random exponents, from 2^-980 to 2^19, which is still in range. */
        o.schedule.lr = ldexp(1 + (double)(bits >> 12) * 0x1p-52, 18 - (int)((bits >> 32) % 1000));
        swt_option_print(&o, row, text, sizeof text);
        assert_true(swt_option_read(&back, row, text));
        assert_true(back.schedule.lr == o.schedule.lr);
    }
}

static void not_built(void **state) {
    (void)state;
    refused("run.resume", "auto", "run.resume: auto needs the run to go on with; add --out DIR");
    refused("run.deterministic", "off", "run.deterministic: off is not built yet; use on");
    if (swt_cuda_backend.ops == NULL)
        refused("run.device", "cuda",
                "run.device: this build has no CUDA backend; use --device cpu or auto, or "
                "build it with cmake --preset cuda");
}

/* What is built, and keys of other models at any value. */
static void built(void **state) {
    (void)state;
    static const char *const accepted[][2] = {
        {"model.attn_scale", "one"},
        {"model.bias", "false"},
        {"model.head_width", "7"},
        {"model.init", "switch"},
        {"moe.every", "0"},
        {"moe.drop", "priority"},
        {"moe.gate", "unit"},
        {"moe.group", "sequence"},
        {"moe.jitter", "0.01"},
        {"optim.name", "sgd"},
        {"optim.schedule", "cosine"},
        {"optim.clip_update", "2"},
        {"model.dropout", "-0.0"},
        {"model.encoder_layers", "3"},
        {"run.device", "cpu"},
        {"batch.target_len", "114"},
        {"train.steps", "0"},
        {"model.pad_id", "0"},
        {"optim.scale_parameter", "false"},
        {"moe.route_padding", "false"},
    };
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
        swt_options o = defaults();
        set(&o, accepted[i][0], accepted[i][1]);
        assert_int_equal(swt_options_check(&o), SWT_OK);
    }
}

static void keys_that_must_fit(void **state) {
    (void)state;
    refused("model.width", "130",
            "model.width: 130 does not divide by model.heads 4; choose a multiple, or set "
            "model.head_width");
    refused("dist.expert_ranks", "5",
            "dist.expert_ranks: 5 ranks cannot share 4 experts; use at most as many ranks as "
            "moe.experts, or 0");
    refused("model.width", "2048",
            "model.head_width: heads of 512 features are too wide; use more model.heads or a width "
            "up to 256");
    swt_options o = defaults();
    set(&o, "model.vocab", "65");
    set(&o, "model.pad_id", "64");
    assert_int_equal(swt_options_check(&o), SWT_OK);
    set(&o, "model.pad_id", "65");
    assert_int_equal(swt_options_check(&o), SWT_USAGE);
    assert_string_equal(swt_last_error()->message,
                        "model.pad_id: 65 is no token of a vocabulary of 65; choose one below, or "
                        "-1 for none");
}

/* Two or three keys at the end of their ranges, which together are too large. */
static void sizes(void **state) {
    (void)state;
    static const struct {
        const char *sets[4][2];
        const char *expected;
    } cases[] = {
        {{{"batch.sequences", "65536"}, {"batch.seq_len", "1048576"}},
         "batch.sequences x batch.seq_len: together more than 2147483647; make one of them "
         "smaller"},
        {{{"batch.sequences", "65536"}, {"batch.target_len", "1048576"}},
         "batch.sequences x batch.target_len: together more than 2147483647; make one of them "
         "smaller"},
        {{{"batch.sequences", "65536"}, {"batch.seq_len", "1024"}},
         "batch.sequences x batch.seq_len x model.width: together more than 4294967296; make one "
         "of them smaller"},
        {{{"batch.sequences", "1024"}, {"model.heads", "4096"}, {"model.head_width", "256"}},
         "batch.sequences x batch.seq_len x model.heads x model.head_width: together more than "
         "4294967296; make one of them smaller"},
        {{{"batch.seq_len", "1048576"}, {"model.heads", "32"}, {"model.head_width", "1"}},
         "batch.sequences x model.heads x batch.seq_len^2: together more than 281474976710656; "
         "make one of them smaller"},
        {{{"model.layers", "65535"}, {"moe.experts", "65536"}, {"model.hidden", "1048576"}},
         "model.layers x moe.experts x model.width x model.hidden: together more than "
         "281474976710656; make one of them smaller"},
        {{{"moe.experts", "65536"}, {"moe.capacity", "2147483647"}},
         "moe.experts x moe.capacity or moe.min_capacity x model.width: together more than "
         "281474976710656; make one of them smaller"},
        {{{"train.steps", "99999999"},
          {"batch.micro_batches", "65536"},
          {"batch.seq_len", "65536"}},
         "train.steps x batch.micro_batches x batch.sequences x batch.seq_len: together more than "
         "4611686018427387904; make one of them smaller"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        swt_options o = defaults();
        for (int j = 0; j < 4 && cases[i].sets[j][0] != NULL; j++)
            set(&o, cases[i].sets[j][0], cases[i].sets[j][1]);
        assert_int_equal(swt_options_check(&o), SWT_USAGE);
        assert_string_equal(swt_last_error()->message, cases[i].expected);
    }
    /* The paper's largest sparse model passes: 2048 experts, width 2080, hidden 6144, 15 layers. */
    swt_options o = defaults();
    set(&o, "moe.experts", "2048");
    set(&o, "model.width", "2080");
    set(&o, "model.heads", "32");
    set(&o, "model.hidden", "6144");
    set(&o, "model.layers", "15");
    set(&o, "batch.seq_len", "512");
    assert_int_equal(swt_options_check(&o), SWT_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers),           cmocka_unit_test(reals),
        cmocka_unit_test(words_and_texts),    cmocka_unit_test(reals_read_back),
        cmocka_unit_test(not_built),          cmocka_unit_test(built),
        cmocka_unit_test(keys_that_must_fit), cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
