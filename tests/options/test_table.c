/* The option table: every key with its defaults, values from text and back, checks, help and page.
 */
#include "options/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The documented keys and defaults, written a second time by hand. */
static const struct {
    const char *key, *labml, *t5;
} documented[] = {
    {"model.preset", "labml", "t5"},
    {"model.stacks", "decoder", "encoder-decoder"},
    {"model.vocab", "0", "0"},
    {"model.layers", "6", "12"},
    {"model.encoder_layers", "0", "0"},
    {"model.width", "128", "768"},
    {"model.heads", "4", "12"},
    {"model.head_width", "0", "64"},
    {"model.hidden", "256", "2048"},
    {"model.norm", "layernorm", "rmsnorm"},
    {"model.positions", "none", "relative"},
    {"model.attn_scale", "sqrt", "one"},
    {"model.bias", "true", "false"},
    {"model.ffn", "relu", "geglu"},
    {"model.tied", "false", "true"},
    {"model.dropout", "0", "0"},
    {"model.pad_id", "-1", "0"},
    {"model.init", "labml", "switch"},
    {"model.init_scale", "0.1", "0.1"},
    {"moe.experts", "4", "8"},
    {"moe.every", "1", "2"},
    {"moe.capacity_factor", "1.2", "1.25"},
    {"moe.eval_capacity_factor", "0", "2"},
    {"moe.capacity", "0", "0"},
    {"moe.min_capacity", "0", "4"},
    {"moe.capacity_round", "floor", "floor"},
    {"moe.group", "micro_batch", "micro_batch"},
    {"moe.drop", "random", "position"},
    {"moe.dropped_output", "gated_input", "zero"},
    {"moe.gate", "scale", "scale"},
    {"moe.jitter", "0", "0.01"},
    {"moe.route_padding", "true", "false"},
    {"moe.aux_coef", "0.01", "0.01"},
    {"moe.aux_layers", "sum", "mean"},
    {"moe.z_coef", "0", "0"},
    {"moe.expert_dropout", "0", "0"},
    {"batch.sequences", "32", "8"},
    {"batch.seq_len", "64", "512"},
    {"batch.target_len", "0", "114"},
    {"batch.micro_batches", "1", "4"},
    {"optim.name", "adam", "adafactor"},
    {"optim.lr", "1", "1"},
    {"optim.schedule", "noam", "rsqrt"},
    {"optim.warmup_steps", "2000", "10000"},
    {"optim.beta1", "0.9", "0.9"},
    {"optim.beta2", "0.999", "0.999"},
    {"optim.eps", "1.0e-08", "1.0e-08"},
    {"optim.eps_uncorrected", "true", "false"},
    {"optim.weight_decay", "0", "0"},
    {"optim.clip_norm", "1", "0"},
    {"optim.scale_parameter", "true", "true"},
    {"optim.clip_update", "1", "1"},
    {"optim.z_loss", "0", "0"},
    {"train.seed", "1", "1"},
    {"train.steps", "2000", "2000"},
    {"train.log_every", "10", "10"},
    {"train.eval_every", "500", "500"},
    {"train.eval_windows", "0", "0"},
    {"train.sample_every", "0", "0"},
    {"train.checkpoint_every", "0", "0"},
    {"train.keep_checkpoints", "2", "2"},
    {"train.check_every", "100", "100"},
    {"data.path", "", ""},
    {"data.tokenizer", "char", "char"},
    {"data.unknown", "refuse", "refuse"},
    {"data.valid", "", ""},
    {"data.valid_fraction", "0.1", "0.1"},
    {"data.prompt", "It is", "It is"},
    {"dist.expert_ranks", "0", "0"},
    {"run.out", "", ""},
    {"run.device", "auto", "auto"},
    {"run.threads", "0", "0"},
    {"run.dtype", "fp32", "fp32"},
    {"run.resume", "off", "off"},
    {"run.init_from", "", ""},
    {"run.deterministic", "on", "on"},
    {"run.nonfinite", "stop", "stop"},
    {"run.hang_seconds", "5", "5"},
    {"run.stall_seconds", "300", "300"},
};
enum { DOCUMENTED = sizeof documented / sizeof documented[0] };

static const char *message(void) {
    return swt_last_error()->message;
}

static void keys_and_defaults(void **state) {
    (void)state;
    swt_options labml, t5;
    swt_options_defaults(&labml, SWT_PRESET_LABML);
    swt_options_defaults(&t5, SWT_PRESET_T5);
    int keys = 0;
    for (int i = 0; i < swt_option_count; i++)
        keys += swt_option_table[i].key != NULL;
    assert_int_equal(keys, DOCUMENTED);
    for (int i = 0; i < DOCUMENTED; i++) {
        const swt_option *row = swt_option_of_key(documented[i].key);
        char value[SWT_PATH_BYTES];
        assert_non_null(row);
        swt_option_format(&labml, row, value, sizeof value);
        assert_string_equal(value, documented[i].labml);
        swt_option_format(&t5, row, value, sizeof value);
        assert_string_equal(value, documented[i].t5);
    }
    assert_int_equal(labml.command, SWT_COMMAND_TRAIN);
    assert_int_equal(labml.tokens, 100);
    assert_int_equal(labml.plan_ranks, 1);
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
        if (row->key != NULL && !swt_option_in_section(row, swt_option_sections[section].name))
            section++;
        if (row->key != NULL)
            assert_true(swt_option_in_section(row, swt_option_sections[section].name));
        for (int j = 0; j < i; j++) {
            const swt_option *other = &swt_option_table[j];
            assert_int_not_equal(row->offset, other->offset);
            if (row->key != NULL && other->key != NULL)
                assert_string_not_equal(row->key, other->key);
            if (row->flag != NULL && other->flag != NULL)
                assert_string_not_equal(row->flag, other->flag);
        }
    }
    assert_int_equal(section, swt_option_section_count - 1);
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
    {"run.dtype", SWT_RUN_FP32, "fp32"},
    {"run.dtype", SWT_RUN_BF16, "bf16"},
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
        for (int j = 0; row->type == SWT_OPTION_CHOICE && row->choices[j] != NULL; j++)
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
    swt_options o;
    swt_options_defaults(&o, SWT_PRESET_LABML);
    assert_int_equal(swt_options_set(&o, "moe.expert", "3", "here"), SWT_USAGE);
    assert_string_equal(message(), "here: moe.expert: unknown key; did you mean moe.experts?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_and_defaults),   cmocka_unit_test(table_is_sound),
        cmocka_unit_test(choices_match_enums), cmocka_unit_test(help_names_everything),
        cmocka_unit_test(page_is_generated),   cmocka_unit_test(nearest_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
