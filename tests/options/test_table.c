/* The option table: every key with its defaults, values from text and back, checks, help and page.
 */
#include "options/table.h"
#include "support/test.h"

#include <stdlib.h>
#include <string.h>

/* What the defaults are is docs/options.md's to say, which page_is_generated compares; here, that
 * the presets' structs hold them. */
static void defaults_are_set(void **state) {
    (void)state;
    swt_options o;
    for (int preset = SWT_PRESET_LABML; preset <= SWT_PRESET_T5; preset++) {
        swt_options_defaults(&o, (swt_preset)preset);
        assert_int_equal(o.command, SWT_COMMAND_TRAIN);
        for (int i = 0; i < swt_option_count; i++) {
            const swt_option *row = &swt_option_table[i];
            char value[SWT_PATH_BYTES], expected[SWT_PATH_BYTES];
            static swt_options own;
            assert_true(swt_option_read(&own, row, preset == SWT_PRESET_T5 ? row->t5 : row->labml));
            swt_option_print(&own, row, expected, sizeof expected);
            swt_option_print(&o, row, value, sizeof value);
            assert_string_equal(value, expected);
        }
    }
    assert_int_equal(o.dims.C, 768);
    assert_int_equal(o.tokens, 100);
    assert_int_equal(o.plan_ranks, 1);
    assert_true(swt_options_is_default(&o, "optim.warmup_steps"));
    assert_true(swt_options_is_default(&o, "train.steps"));
    o.train_steps++;
    o.model_preset = SWT_PRESET_LABML;
    assert_false(swt_options_is_default(&o, "train.steps"));
    assert_false(swt_options_is_default(&o, "optim.warmup_steps"));
}

/* Sections in order and together, fields distinct, defaults that are values, names that are unique.
 */
static void table_is_sound(void **state) {
    (void)state;
    int section = 0;
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        swt_options o;
        assert_true(swt_option_read(&o, row, row->labml));
        assert_true(swt_option_read(&o, row, row->t5));
        assert_true(row->commands != 0 && row->help != NULL);
        assert_true(row->key != NULL || row->flag != NULL);
        if (row->key != NULL && !swt_option_in_section(row, swt_sections[section].name))
            section++;
        if (row->key != NULL)
            assert_true(swt_option_in_section(row, swt_sections[section].name));
        for (int j = 0; j < i; j++) {
            const swt_option *other = &swt_option_table[j];
            assert_int_not_equal(row->offset, other->offset);
            if (row->key != NULL && other->key != NULL)
                assert_string_not_equal(row->key, other->key);
            if (row->flag != NULL && other->flag != NULL)
                assert_string_not_equal(row->flag, other->flag);
        }
    }
    assert_null(swt_sections[section + 1].name);
}

/* Names of the choices against the enums that the rest of the program switches over. */
static const struct {
    const char *key;
    int value;
    const char *name;
} choices[] = {
    {"model.preset", SWT_PRESET_LABML, "labml"},
    {"model.preset", SWT_PRESET_T5, "t5"},
    {"model.stacks", SWT_STACKS_DECODER, "decoder"},
    {"model.stacks", SWT_STACKS_ENCODER_DECODER, "encoder-decoder"},
    {"model.norm", SWT_NORM_LAYERNORM, "layernorm"},
    {"model.norm", SWT_NORM_RMSNORM, "rmsnorm"},
    {"model.positions", SWT_POSITIONS_NONE, "none"},
    {"model.positions", SWT_POSITIONS_RELATIVE, "relative"},
    {"model.attn_scale", SWT_ATTN_SCALE_SQRT, "sqrt"},
    {"model.attn_scale", SWT_ATTN_SCALE_ONE, "one"},
    {"model.ffn", SWT_FFN_RELU, "relu"},
    {"model.ffn", SWT_FFN_GELU, "gelu"},
    {"model.ffn", SWT_FFN_GEGLU, "geglu"},
    {"model.init", SWT_INIT_LABML, "labml"},
    {"model.init", SWT_INIT_PYTORCH, "pytorch"},
    {"model.init", SWT_INIT_SWITCH, "switch"},
    {"moe.capacity_round", SWT_ROUND_FLOOR, "floor"},
    {"moe.capacity_round", SWT_ROUND_CEIL, "ceil"},
    {"moe.capacity_round", SWT_ROUND_ROUND, "round"},
    {"moe.group", SWT_GROUP_MICRO_BATCH, "micro_batch"},
    {"moe.group", SWT_GROUP_SEQUENCE, "sequence"},
    {"moe.drop", SWT_DROP_POSITION, "position"},
    {"moe.drop", SWT_DROP_PRIORITY, "priority"},
    {"moe.drop", SWT_DROP_RANDOM, "random"},
    {"moe.dropped_output", SWT_DROPPED_ZERO, "zero"},
    {"moe.dropped_output", SWT_DROPPED_GATED_INPUT, "gated_input"},
    {"moe.gate", SWT_GATE_SCALE, "scale"},
    {"moe.gate", SWT_GATE_UNIT, "unit"},
    {"moe.aux_layers", SWT_AUX_LAYERS_SUM, "sum"},
    {"moe.aux_layers", SWT_AUX_LAYERS_MEAN, "mean"},
    {"optim.name", SWT_OPTIM_ADAM, "adam"},
    {"optim.name", SWT_OPTIM_SGD, "sgd"},
    {"optim.name", SWT_OPTIM_ADAFACTOR, "adafactor"},
    {"optim.schedule", SWT_SCHEDULE_NOAM, "noam"},
    {"optim.schedule", SWT_SCHEDULE_RSQRT, "rsqrt"},
    {"optim.schedule", SWT_SCHEDULE_CONSTANT, "constant"},
    {"optim.schedule", SWT_SCHEDULE_COSINE, "cosine"},
    {"data.tokenizer", SWT_TOKENIZER_CHAR, "char"},
    {"data.tokenizer", SWT_TOKENIZER_BYTE, "byte"},
    {"data.unknown", SWT_UNKNOWN_REFUSE, "refuse"},
    {"data.unknown", SWT_UNKNOWN_SKIP, "skip"},
    {"run.device", SWT_DEVICE_AUTO, "auto"},
    {"run.device", SWT_DEVICE_CPU, "cpu"},
    {"run.device", SWT_DEVICE_CUDA, "cuda"},
    {"run.dtype", SWT_F32, "fp32"},
    {"run.dtype", SWT_BF16, "bf16"},
    {"run.resume", SWT_RESUME_OFF, "off"},
    {"run.resume", SWT_RESUME_AUTO, "auto"},
    {"run.nonfinite", SWT_NONFINITE_STOP, "stop"},
    {"run.nonfinite", SWT_NONFINITE_SKIP, "skip"},
};

static void choices_match_enums(void **state) {
    (void)state;
    const size_t count = sizeof choices / sizeof choices[0];
    for (size_t i = 0; i < count; i++)
        assert_string_equal(swt_options_choice_name(choices[i].key, choices[i].value),
                            choices[i].name);
    size_t names = 0; /* none is missing above */
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        for (int j = 0; row->type == &swt_option_choice && row->choices[j] != NULL; j++)
            names++;
    }
    assert_int_equal(names, count);
    assert_string_equal(swt_options_choice_name("moe.drop", 3), "?");
    assert_string_equal(swt_options_choice_name("moe.experts", 0), "?");
}

static char *page(bool config, bool markdown) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    assert_non_null(f);
    if (config)
        swt_options_print_config_help(f, markdown);
    else
        swt_options_print_help(f, "");
    assert_int_equal(fclose(f), 0);
    return text;
}

static void assert_columns(const char *text, size_t most) {
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= most);
}

static void help_names_everything(void **state) {
    (void)state;
    char *help = page(false, false), *config = page(true, false);
    assert_columns(help, 80);
    assert_columns(config, 80);
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        if (row->flag != NULL)
            assert_non_null(strstr(help, row->flag));
        if (row->key != NULL)
            assert_non_null(strstr(config, row->key));
    }
    for (int s = 0; s < SWT_STATUS_COUNT; s++) {
        char code[8];
        snprintf(code, sizeof code, "%d ", swt_exit_code((swt_status)s));
        /* 1 is a defect of the program or a lack of memory, nothing to plan for. */
        assert_true(swt_exit_code((swt_status)s) == 1 || strstr(help, code) != NULL);
    }
    free(help);
    free(config);
}

static void page_is_generated(void **state) {
    (void)state;
    char *expected = page(true, true);
    const size_t bytes = strlen(expected);
    char *text = calloc(bytes + 2, 1);
    FILE *f = fopen(SWT_SOURCE_DIR "/docs/options.md", "rb");
    assert_non_null(text);
    assert_non_null(f);
    assert_int_equal(fread(text, 1, bytes + 1, f), bytes);
    fclose(f);
    /* After a change of the table: swt-dist --help-config=markdown > docs/options.md */
    assert_memory_equal(text, expected, bytes);
    free(text);
    free(expected);
}

static void nearest_names(void **state) {
    (void)state;
    assert_int_equal(swt_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(swt_edit_distance("", "abc"), 3);
    assert_int_equal(swt_edit_distance("eval-every", "eval_every"), 0);
    static const char *const pairs[][2] = {
        {"moe.expert", "moe.experts"},
        {"optim.steps", "train.steps"},
        {"--lr", "optim.lr"},
        {"capacity-factor", "moe.capacity_factor"},
        {"model.layer", "model.layers"},
        {"moe.capacityfactor", "moe.capacity_factor"},
        {"train.evalevery", "train.eval_every"},
        {"--Experts", "moe.experts"},
        {"optim.LR", "optim.lr"},
        {"--stpes", "train.steps"},
        {"--learning-rate", "optim.lr"},
        {"--leraning_rate", "optim.lr"},
        {"optimizer.learning_rate", "optim.lr"},
        {"--block_size", "batch.seq_len"},
        {"--warmup", "optim.warmup_steps"},
        {"--max_steps", "train.steps"},
        {"--save-every", "train.checkpoint_every"},
        {"--num-experts", "moe.experts"},
        {"--capacity", "moe.capacity_factor"},
        {"--grad_clip", "optim.clip_norm"},
        {"--n_layer", "model.layers"},
        {"--d_model", "model.width"},
        {"--gpu", "run.device"},
        {"--output_dir", "run.out"},
    };
    const char *difference;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const swt_option *row =
            swt_option_nearest(pairs[i][0], SWT_TAKES_ALL, true, SWT_OPTION_FAR - 1, &difference);
        assert_non_null(row);
        assert_string_equal(row->key, pairs[i][1]);
        assert_null(difference);
    }
    static const char *const far[] = {"colour", "--verbose", "frobnicate", "x", "", "qqqq.rrrr"};
    for (size_t i = 0; i < sizeof far / sizeof far[0]; i++)
        assert_null(
            swt_option_nearest(far[i], SWT_TAKES_ALL, true, SWT_OPTION_FAR - 1, &difference));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_set),    cmocka_unit_test(table_is_sound),
        cmocka_unit_test(choices_match_enums), cmocka_unit_test(help_names_everything),
        cmocka_unit_test(page_is_generated),   cmocka_unit_test(nearest_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
