/* YAML files: what they may hold, errors with their line, and writing that reads back. */
#include "options/table.h"
#include "support/temp.h"

static char path[TEMP_PATH_BYTES];

static int set_up(void **state) {
    const int failed = temp_set_up(state);
    temp_in(path, "options.yaml");
    return failed;
}

static swt_options accepted(const char *text) {
    swt_options o;
    swt_options_defaults(&o, SWT_PRESET_LABML);
    temp_write(path, text, strlen(text));
    assert_int_equal(swt_options_read_yaml(&o, path, SWT_USAGE, false), SWT_OK);
    return o;
}

/* The message is the path followed by `expected`. */
static void rejected(const char *text, const char *expected) {
    swt_options o;
    swt_options_defaults(&o, SWT_PRESET_LABML);
    temp_write(path, text, strlen(text));
    assert_int_equal(swt_options_read_yaml(&o, path, SWT_USAGE, false), SWT_USAGE);
    const char *message = swt_last_error()->message;
    assert_int_equal(strncmp(message, path, strlen(path)), 0);
    assert_string_equal(message + strlen(path), expected);
    assert_int_equal(swt_options_read_yaml(&o, path, SWT_CHECKPOINT, false), SWT_CHECKPOINT);
}

static void files(void **state) {
    (void)state;
    swt_options o = accepted("# a comment\n"
                             "moe:\n"
                             "  experts: 16   # many\n"
                             "  drop: position\n"
                             "  route_padding: off\n"
                             "optim: {lr: 1e-3, 'schedule': constant}\n"
                             "train:\n"
                             "  # every key of this section is commented out\n"
                             "batch:\n");
    assert_int_equal(o.dims.E, 16);
    assert_int_equal(o.dims.drop, SWT_DROP_POSITION);
    assert_false(o.dims.route_padding);
    assert_true(o.schedule.lr == 1e-3);
    assert_int_equal(o.schedule.kind, SWT_SCHEDULE_CONSTANT);
    assert_int_equal(o.train_steps, 2000);
    assert_int_equal(accepted("{}").dims.E, 4);
    o = accepted("\xef\xbb\xbf---\nmoe: {experts: \"3\"}\n...\n");
    assert_int_equal(o.dims.E, 3);
    o = accepted("moe: {experts: 3}\nmodel: {preset: t5}\n");
    assert_int_equal(o.dims.E, 3);
    assert_int_equal(o.dims.C, 768);
}

/* A text is the text that stands there, whatever type other YAML readers would see in it. */
static void texts(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"It is", "It is"},
        {"12", "12"},
        {"true", "true"},
        {"1e3", "1e3"},
        {"", ""},
        {"\"\"", ""},
        {"'null'", "null"},
        {"\"~\"", "~"},
        {"'it''s'", "it's"},
        {"\"a\\nb\"", "a\nb"},
        {"\"# no comment\"", "# no comment"},
        {"a # comment", "a"},
        {"a#b", "a#b"},
        {"off", "off"},
        {"\"\\u00e9\"", "\xc3\xa9"},
        {"|-\n    two\n    lines", "two\nlines"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char text[128];
        snprintf(text, sizeof text, "data:\n  prompt: %s\n", pairs[i][0]);
        const swt_options o = accepted(text);
        assert_string_equal(o.data_prompt, pairs[i][1]);
    }
    rejected("data:\n  prompt: null\n",
             ":2: data.prompt: is null, which is no text; write \"\" for "
             "none, or quotes around it");
    rejected("data:\n  prompt: ~\n", ":2: data.prompt: is null, which is no text; write \"\" for "
                                     "none, or quotes around it");
}

static void wrong_names_and_values(void **state) {
    (void)state;
    rejected("moe:\n  expert: 4\n", ":2: moe.expert: unknown key; did you mean moe.experts?");
    rejected("optim:\n  steps: 4\n", ":2: optim.steps: unknown key; did you mean train.steps?");
    rejected("\nmoee:\n  experts: 4\n", ":2: moee: unknown section; did you mean moe?");
    rejected("moe.experts: 4\n", ":1: moe.experts: is no section; write 'moe:' and, indented below "
                                 "it, 'experts: ...'");
    rejected("moe:\n  every: 2\n  experts: 0\n",
             ":3: moe.experts is 0; it must be an integer from 1 to 65536");
    rejected("moe:\n  experts: many\n",
             ":2: moe.experts is many; it must be an integer from 1 to 65536");
    rejected("moe:\n  experts:\n",
             ":2: moe.experts is \"\"; it must be an integer from 1 to 65536");
    rejected("moe: {route_padding: tRue}",
             ":1: moe.route_padding is tRue; it must be false or true");
    rejected("moe:\n  experts: 4\n\n  experts: 5\n",
             ":4: moe.experts: is given twice, first in line 2; keep one");
    rejected("moe:\n  experts: 4\ntrain:\nmoe:\n  every: 1\n",
             ":4: moe: is given twice, first in line 1; keep one");
}

/* What PyYAML 6.0 writes for the values of Python that a file may hold, worked out by its
 * resolver's rules: yaml.safe_dump of None, of booleans, of floats, and of texts that look like
 * numbers. */
static void dumped_by_python(void **state) {
    (void)state;
    const swt_options o =
        accepted("data: {path: null, prompt: '1e3'}\n"
                 "dist: null\n"
                 "model: {bias: False, tied: no, norm: layernorm}\n"
                 "moe: {route_padding: OFF, jitter: 1.0e-05, z_coef: .5}\n"
                 "optim: {eps: 1e-08, lr: '1e-3', scale_parameter: N,\n"
                 "        eps_uncorrected: Yes}\n"
                 "run: {resume: false, out: ~, init_from: , deterministic: True}\n");
    assert_string_equal(o.data_path, "");
    assert_string_equal(o.data_prompt, "1e3");
    assert_false(o.dims.bias || o.dims.tied || o.dims.route_padding || o.optim_scale_parameter);
    assert_true(o.adam.eps_uncorrected && o.run_deterministic);
    assert_true(o.dims.jitter == 1e-5 && o.dims.z_coef == 0.5 && o.adam.eps == 1e-8 &&
                o.schedule.lr == 1e-3);
    assert_int_equal(o.run_resume, SWT_RESUME_OFF);
    assert_string_equal(accepted("data: {path: 'null'}\n").data_path, "null");
    rejected("run: {resume: yes}\n", ":1: run.resume is yes; it must be off or auto");
    rejected("moe: {experts: 010}\n", ":1: moe.experts: is 010, which YAML libraries read to the "
                                      "base of 8; write it without the leading 0");
    rejected("learning_rate: 0.1\n", ":1: learning_rate: unknown section; did you mean optim.lr?");
    rejected("optimizer: {lr: 0.1}\n", ":1: optimizer: unknown section; did you mean optim?");
    rejected("zzz: {lr: 0.1}\n", ":1: zzz: unknown section; --help-config lists all");
    rejected("model: {zzzzz: 1}\n", ":1: model.zzzzz: unknown key; --help-config lists all");
}

static void wrong_shape(void **state) {
    (void)state;
    const char *empty = ":1: the file is empty; write 'section:' and below it 'key: value'";
    const char *no_mapping = ":1: the file is no mapping; write 'section:' and below it "
                             "'key: value'";
    rejected("", empty);
    rejected("experts\n", no_mapping);
    rejected("- moe\n", no_mapping);
    rejected("moe: 4\n", ":1: moe: is no mapping; write 'key: value' lines, indented, below it");
    rejected("moe: [experts]\n",
             ":1: moe: is no mapping; write 'key: value' lines, indented, below it");
    rejected("moe:\n  experts: [4]\n", ":2: moe.experts: is a list; write a single value");
    rejected("moe:\n  experts:\n    number: 4\n",
             ":3: moe.experts: is a mapping, nested too deep; write a single value");
    rejected("moe:\n  ? {a: b}\n  : c\n",
             ":2: moe: is a mapping, nested too deep; write a single value");
    rejected("[a]: b\n", ":1: a section's name: is a list; write a single value");
    rejected("moe:\n  experts: &a 4\n",
             ":2: moe.experts: has an anchor or a tag; write the plain value");
    rejected("moe:\n  experts: !!int 4\n",
             ":2: moe.experts: has an anchor or a tag; write the plain value");
    rejected("moe: &m\n  experts: 4\ntrain: *m\n",
             ":3: train: is no mapping; write 'key: value' lines, indented, below it");
    rejected("moe:\n  experts: 4\n---\nmoe:\n  experts: 5\n",
             ":3: a second document begins; keep one");
    rejected("data:\n  prompt: \"a\\0b\"\n",
             ":2: data.prompt: contains a NUL character; leave it out");
}

#define HINT "; write 'section:' and, indented by spaces, 'key: value'"

static void broken(void **state) {
    (void)state;
    rejected("moe:\n\texperts: 4\n",
             ":2: no valid YAML: found character that cannot start any token" HINT);
    rejected("moe:\n  experts: 4\n every: 2\n",
             ":3: no valid YAML: did not find expected key" HINT);
    rejected("moe: {experts: 4\n", ":2: no valid YAML: did not find expected ',' or '}'" HINT);
    rejected("moe:\n  experts: 4\ndata:\n  prompt: \"a\xff\"\n",
             ":4: no valid YAML: invalid leading UTF-8 octet" HINT);
    rejected("moe:\n  drop: *a\n", ":2: moe.drop: is an alias; write the value");
    char deep[4001];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    rejected(deep, ":1: the file is no mapping; write 'section:' and below it 'key: value'");
    memset(deep, '{', sizeof deep - 1);
    rejected(deep, ":1: a section's name: is a mapping, nested too deep; write a single value");
}

static void unreadable(void **state) {
    (void)state;
    swt_options o;
    swt_options_defaults(&o, SWT_PRESET_LABML);
    assert_int_equal(swt_options_read_yaml(&o, "no/such.yaml", SWT_USAGE, false), SWT_USAGE);
    assert_string_equal(swt_last_error()->message,
                        "no/such.yaml: is missing; the path of a readable file is needed");
    assert_int_equal(swt_options_read_yaml(&o, ".", SWT_USAGE, false), SWT_USAGE);
    assert_string_equal(swt_last_error()->message,
                        ".: is a folder; the path of a readable file is needed");
    const size_t limit = 1 << 20;
    char *text = malloc(limit + 1);
    assert_non_null(text);
    memset(text, '#', limit + 1);
    memcpy(text, "moe: {experts: 3}\n", 18);
    temp_write(path, text, limit);
    assert_int_equal(swt_options_read_yaml(&o, path, SWT_USAGE, false), SWT_OK);
    temp_write(path, text, limit + 1);
    assert_int_equal(swt_options_read_yaml(&o, path, SWT_USAGE, false), SWT_USAGE);
    assert_non_null(strstr(swt_last_error()->message,
                           ": has 1048577 bytes, and a file of its kind at most 1048576"));
    free(text);
    /* A long path leaves room for what is wrong. */
    char name[3000];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(swt_options_read_yaml(&o, name, SWT_USAGE, false), SWT_USAGE);
    assert_non_null(strstr(swt_last_error()->message,
                           "n: File name too long; the path of a readable file is needed"));
}

static void write_options(const swt_options *o) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    swt_options_print_yaml(o, f);
    assert_int_equal(fclose(f), 0);
}

static void assert_reads_back(const swt_options *o) {
    swt_options back;
    swt_options_defaults(&back,
                         o->model_preset == SWT_PRESET_T5 ? SWT_PRESET_LABML : SWT_PRESET_T5);
    write_options(o);
    assert_int_equal(swt_options_read_yaml(&back, path, SWT_USAGE, false), SWT_OK);
    for (int i = 0; i < swt_option_count; i++) {
        char one[SWT_PATH_BYTES], two[SWT_PATH_BYTES];
        if (swt_option_table[i].key == NULL)
            continue;
        swt_option_print(o, &swt_option_table[i], one, sizeof one);
        swt_option_print(&back, &swt_option_table[i], two, sizeof two);
        assert_string_equal(one, two);
    }
}

static void writing_reads_back(void **state) {
    (void)state;
    swt_options o;
    swt_options_defaults(&o, SWT_PRESET_T5);
    assert_reads_back(&o);
    swt_options_defaults(&o, SWT_PRESET_LABML);
    o.schedule.lr = 1.0 / 3;
    o.adam.eps = 1e-300;
    o.train_seed = INT64_MAX;
    o.run_deterministic = false;
    assert_reads_back(&o);
    static const char *const prompts[] = {
        "",
        " ",
        "null",
        "12",
        "# no comment",
        "a: b",
        "- a",
        "\"q\"",
        "it's",
        "back\\slash",
        "a\nb\n\nc",
        "tab\there",
        "\r\n",
        " lead, trail ",
        "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
        "\x01\x1b\x7f",
        "{[&*!|>%@`",
        "\xc2\x85\xe2\x80\xa8\xe2\x80\xa9\xef\xbb\xbf\xef\xbf\xbf \xf4\x8f\xbf\xbf",
    };
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++) {
        assert_int_equal(
            swt_option_set(&o, swt_option_of_key("data.prompt"), prompts[i], "test", SWT_USAGE),
            SWT_OK);
        assert_int_equal(
            swt_option_set(&o, swt_option_of_key("run.out"), prompts[i], "test", SWT_USAGE),
            SWT_OK);
        assert_reads_back(&o);
    }
    char text[SWT_PATH_BYTES];
    memset(text, '"', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(swt_option_set(&o, swt_option_of_key("run.out"), text, "test", SWT_USAGE),
                     SWT_OK);
    assert_reads_back(&o);
}

static void written_text(void **state) {
    (void)state;
    swt_options o;
    swt_options_defaults(&o, SWT_PRESET_LABML);
    write_options(&o);
    size_t bytes = 0;
    char *text = temp_read(path, &bytes);
    assert_int_equal(strncmp(text, "model:\n  preset: labml\n  stacks: decoder\n", 41), 0);
    const char *const lines[] = {"  deterministic: true\n", "  resume: \"off\"\n",
                                 "  eps: 1.0e-08\n",        "  out: \"\"\n",
                                 "  prompt: \"It is\"\n",   "  capacity_factor: 1.2\n"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_non_null(strstr(text, lines[i]));
    free(text);
    /* One line for each key and section: a text is never folded, so that every line can be
     * searched. */
    for (size_t i = 0; i < 500; i++)
        o.data_prompt[i] = i % 7 == 6 ? ' ' : 'w';
    assert_reads_back(&o);
    write_options(&o);
    int lines_written = 0, expected = 0;
    text = temp_read(path, &bytes);
    for (const char *c = text; *c != '\0'; c++)
        lines_written += *c == '\n';
    free(text);
    for (const swt_topic *section = swt_sections; section->name != NULL; section++)
        expected++;
    for (int i = 0; i < swt_option_count; i++)
        expected += swt_option_table[i].key != NULL;
    assert_int_equal(lines_written, expected);
    assert_int_equal(swt_options_write_file(&o, "/no/such/folder/config.yaml"), SWT_FILE);
}

/* The files under configs/ load; labml's experiment is the preset without a change. */
static void shipped_files(void **state) {
    (void)state;
    swt_options o, preset;
    swt_options_defaults(&o, SWT_PRESET_LABML);
    swt_options_defaults(&preset, SWT_PRESET_LABML);
    const char *labml = SWT_SOURCE_DIR "/configs/labml-shakespeare.yaml";
    assert_int_equal(swt_options_read_yaml(&o, labml, SWT_USAGE, false), SWT_OK);
    assert_memory_equal(&o, &preset, sizeof o);
    assert_int_equal(o.dims.B, 32);
    assert_int_equal(o.dims.M, 1);
    const char *tiny = SWT_SOURCE_DIR "/configs/ci-tiny.yaml";
    assert_int_equal(swt_options_read_yaml(&o, tiny, SWT_USAGE, false), SWT_OK);
    assert_int_equal(swt_options_check(&o), SWT_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files),
        cmocka_unit_test(texts),
        cmocka_unit_test(wrong_names_and_values),
        cmocka_unit_test(dumped_by_python),
        cmocka_unit_test(wrong_shape),
        cmocka_unit_test(broken),
        cmocka_unit_test(unreadable),
        cmocka_unit_test(writing_reads_back),
        cmocka_unit_test(written_text),
        cmocka_unit_test(shipped_files),
    };
    return cmocka_run_group_tests(tests, set_up, temp_tear_down);
}
