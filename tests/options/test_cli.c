/* The command line: commands, flags, precedence, and every way to get it wrong. */
#include "comm/swt_comm.h"
#include "options/options.h"
#include "support/temp.h"

enum { ARGUMENTS_MOST = 16 };

static swt_options parsed;

/* Parse the arguments up to a NULL. */
static swt_status parse(const char *const *arguments) {
    char *argv[ARGUMENTS_MOST + 2] = {(char *)"swt-dist"};
    int argc = 1;
    for (; arguments[argc - 1] != NULL; argc++) {
        assert_true(argc <= ARGUMENTS_MOST);
        argv[argc] = (char *)arguments[argc - 1];
    }
    swt_comm alone;
    swt_comm_open_self(&alone);
    return swt_options_parse(&parsed, &alone, argc, argv);
}

#define PARSE(...)    parse((const char *const[]){__VA_ARGS__, NULL})
#define ACCEPTED(...) assert_int_equal(PARSE(__VA_ARGS__), SWT_OK)
#define WRONG(text, ...)                                                                           \
    do {                                                                                           \
        assert_int_equal(PARSE(__VA_ARGS__), SWT_USAGE);                                           \
        assert_string_equal(swt_last_error()->message, text);                                      \
    } while (0)

/* A path in the test's folder; the next call makes another of it. */
static const char *in_folder(const char *name) {
    static char path[TEMP_PATH_BYTES];
    return temp_in(path, name);
}

static const char *write_file(const char *name, const char *text) {
    temp_write(in_folder(name), text, strlen(text));
    return in_folder(name);
}

static void commands(void **state) {
    (void)state;
    assert_int_equal(parse((const char *const[]){NULL}), SWT_OK);
    assert_int_equal(parsed.command, SWT_COMMAND_TRAIN);
    ACCEPTED("train", "--steps", "3");
    assert_int_equal(parsed.command, SWT_COMMAND_TRAIN);
    ACCEPTED("plan", "--ranks", "8");
    assert_int_equal(parsed.command, SWT_COMMAND_PLAN);
    assert_int_equal(parsed.plan_ranks, 8);
    ACCEPTED("probe", "--weights", "w", "--batch", "b", "--out", "o", "--optim-steps", "2");
    assert_int_equal(parsed.command, SWT_COMMAND_PROBE);
    assert_string_equal(parsed.weights_path, "w");
    assert_string_equal(parsed.batch_path, "b");
    assert_string_equal(parsed.run_out, "o");
    assert_int_equal(parsed.optim_steps, 2);
    WRONG("tran: unknown command; did you mean train? (--help lists them)", "tran");
    WRONG("generat: unknown command; did you mean generate? (--help lists them)", "generat");
    WRONG("\"plan\": stands where a flag is expected; write --KEY VALUE or --KEY=VALUE", "--steps",
          "3", "plan");
    WRONG("sample: unknown command; did you mean generate? (--help lists them)", "sample");
    WRONG("Plan: unknown command; did you mean plan? (--help lists them)", "Plan");
    WRONG("frobnicate: unknown command; --help lists them", "frobnicate");
    WRONG("moe.experts=4: unknown command; did you mean --moe.experts=4?", "moe.experts=4");
    WRONG("lr: unknown flag; did you mean --optim.lr?", "lr=0.1");
    WRONG("-n: unknown flag; --help-config lists all", "-n", "4");
    WRONG("\"-4\": stands where a flag is expected; write --KEY VALUE or --KEY=VALUE", "-4");
}

static void help(void **state) {
    (void)state;
    ACCEPTED("--help");
    assert_int_equal(parsed.command, SWT_COMMAND_HELP);
    ACCEPTED("eval", "--nonsense", "-h");
    assert_int_equal(parsed.command, SWT_COMMAND_HELP);
    assert_string_equal(parsed.help_topic, "eval");
    ACCEPTED("--steps", "3", "--help");
    assert_string_equal(parsed.help_topic, "");
    ACCEPTED("help", "moe.drop");
    assert_int_equal(parsed.command, SWT_COMMAND_HELP);
    assert_string_equal(parsed.help_topic, "moe.drop");
    WRONG("lr: no command and no key; did you mean --optim.lr?", "help", "lr");
    WRONG("sample: no command and no key; did you mean generate?", "help", "sample");
    WRONG("\"b\": is more than help takes; write swt-dist help, or help and one COMMAND or KEY",
          "help", "eval", "b");
    ACCEPTED("version");
    assert_int_equal(parsed.command, SWT_COMMAND_VERSION);
    ACCEPTED("--version");
    assert_int_equal(parsed.command, SWT_COMMAND_VERSION);
    ACCEPTED("--help-config");
    assert_int_equal(parsed.command, SWT_COMMAND_HELP_CONFIG);
    assert_false(parsed.help_markdown);
    ACCEPTED("--help-config=markdown");
    assert_true(parsed.help_markdown);
    WRONG("--help-config=html: unknown flag; use --help-config or --help-config=markdown",
          "--help-config=html");
}

static void flags(void **state) {
    (void)state;
    ACCEPTED("--experts", "16", "--layers=2", "--moe.capacity_factor", "1.5", "--model.bias=false",
             "--seed", "7", "--steps", "3");
    assert_int_equal(parsed.dims.E, 16);
    assert_int_equal(parsed.dims.L, 2);
    assert_true(parsed.dims.capacity_factor == 1.5);
    assert_false(parsed.dims.bias);
    assert_int_equal(parsed.train_seed, 7);
    ACCEPTED("--data", "t.txt", "--out=r", "--device", "cpu", "--threads", "2", "--init-from", "d");
    assert_string_equal(parsed.data_path, "t.txt");
    assert_string_equal(parsed.run_out, "r");
    assert_int_equal(parsed.run_device, SWT_DEVICE_CPU);
    assert_int_equal(parsed.run_threads, 2);
    assert_string_equal(parsed.run_init_from, "d");
    ACCEPTED("--experts", "8", "--moe.experts=2");
    assert_int_equal(parsed.dims.E, 2);
    ACCEPTED("--model.pad_id", "-1", "--data.prompt=--a=b", "--data=");
    assert_string_equal(parsed.data_prompt, "--a=b");
    assert_string_equal(parsed.data_path, "");
}

static void wrong_flags(void **state) {
    (void)state;
    WRONG("--expert: unknown flag; did you mean --experts?", "--expert", "4");
    WRONG("--moe.drp: unknown flag; did you mean --moe.drop?", "--moe.drp=random");
    WRONG("--lr: unknown flag; did you mean --optim.lr?", "--lr", "1");
    WRONG("--epochs: unknown flag; did you mean --steps? (updates, not passes over the text)",
          "--epochs", "3");
    WRONG("-lr: unknown flag; did you mean --optim.lr?", "-lr", "1");
    WRONG("--wandb: unknown flag; --help-config lists all", "--wandb");
    WRONG("--top-k: the command train does not take it; it belongs to generate; did you mean "
          "--experts? (each token goes to one expert, always)",
          "--top-k", "2");
    WRONG("--experts: has no value; write --experts VALUE or --experts=VALUE", "--experts");
    WRONG("--steps: has no value; write --steps VALUE or --steps=VALUE", "--steps", "--seed", "1");
    WRONG("--experts: moe.experts is 0; it must be an integer from 1 to 65536", "--experts", "0");
    WRONG("--moe.experts: moe.experts is \"\"; it must be an integer from 1 to 65536",
          "--moe.experts=");
    WRONG("--model.bias: model.bias is maybe; it must be false or true", "--model.bias", "maybe");
    WRONG("model.width: 130 does not divide by model.heads 4; choose a multiple, or set "
          "model.head_width",
          "--model.width", "130");
    WRONG("--tokens: the command train does not take it; it belongs to generate", "--tokens", "5");
    WRONG("--ranks: the command train does not take it; it belongs to plan", "train", "--ranks=2");
    WRONG("--steps: the command eval does not take it; it belongs to train, plan, probe", "eval",
          "--train.steps", "2");
    WRONG("--config: the command generate does not take it; it belongs to train, plan, probe",
          "generate", "--config", "x");
    WRONG("--top-k: is -1; it must be an integer from 0 to 16777216", "generate", "--checkpoint",
          "d", "--top-k", "-1");
    WRONG("eval: needs --checkpoint; add --checkpoint DIR", "eval");
    WRONG("generate: needs --checkpoint; add --checkpoint DIR", "generate", "--prompt", "x");
    WRONG("probe: needs --out; add --out PATH", "probe", "--weights", "w", "--batch", "b");
    WRONG("probe: needs --weights; add --weights FILE", "probe", "--out", "o", "--batch", "b");
    WRONG("probe: needs --batch; add --batch FILE", "probe", "--out", "o", "--weights", "w");
    WRONG("--config: is empty; give a path", "--config=");
    WRONG("--out: is empty; give a path", "probe", "--out=", "--weights", "w", "--batch", "b");
    char path[SWT_PATH_BYTES + 1];
    memset(path, 'p', sizeof path);
    path[SWT_PATH_BYTES] = '\0';
    char expected[256];
    snprintf(expected, sizeof expected,
             "--config: is %.60s...; it must be UTF-8 text of at most 4095 bytes", path);
    WRONG(expected, "--config", path);
}

/* The notes are these lines, each with its end. */
static void expect_notes(const char *expected) {
    char notes[2048] = "";
    for (int i = 0; i < parsed.notes.count; i++)
        swt_append(notes, sizeof notes, "%s\n", parsed.notes.lines[i]);
    assert_string_equal(notes, expected);
}

/* What is given and does nothing. */
static void notes(void **state) {
    (void)state;
    ACCEPTED("--experts", "8", "--moe.experts=8", "--optim.beta1", "0.8", "--data", "t");
    expect_notes("");
    ACCEPTED("--experts", "8", "--moe.experts=2");
    expect_notes("--experts: is given twice, 8 and then 2; the last one counts\n");
    ACCEPTED("--data=");
    expect_notes("--data: is empty, as if it were not given; give a path, or leave it out\n");
    ACCEPTED("--optim.name", "sgd", "--optim.beta1", "0.8", "--optim.schedule", "constant",
             "--optim.warmup_steps", "3");
    expect_notes("--optim.warmup_steps: has no effect with optim.schedule constant; leave "
                 "it out, or set optim.schedule to noam rsqrt cosine\n"
                 "--optim.beta1: has no effect with optim.name sgd; leave it out, or set "
                 "optim.name to adam\n");
    ACCEPTED("--moe.capacity", "5", "--moe.capacity_factor", "2");
    expect_notes("--moe.capacity_factor: has no effect with moe.capacity 5; "
                 "leave it out, or set moe.capacity to 0\n");
    ACCEPTED("--optim.schedule", "cosine", "--optim.warmup_steps", "3");
    expect_notes("");
}

/* Flags over file over preset, and the four micro-batches where nothing else is said. */
static void precedence(void **state) {
    (void)state;
    ACCEPTED("--experts", "16");
    assert_int_equal(parsed.dims.B, 8);
    assert_int_equal(parsed.dims.M, 4);
    ACCEPTED("--batch.sequences", "6");
    assert_int_equal(parsed.dims.B, 6);
    assert_int_equal(parsed.dims.M, 4);
    ACCEPTED("--model.preset", "labml");
    assert_int_equal(parsed.dims.B, 32);
    assert_int_equal(parsed.dims.M, 1);
    const char *file = write_file("run.yaml", "moe:\n  experts: 6\n  every: 3\ntrain: {seed: 5}\n");
    ACCEPTED("--config", file, "--experts", "12");
    assert_int_equal(parsed.dims.B, 32);
    assert_int_equal(parsed.dims.M, 1);
    assert_int_equal(parsed.dims.E, 12);
    assert_int_equal(parsed.dims.every, 3);
    assert_int_equal(parsed.train_seed, 5);
    ACCEPTED("--experts", "12", "--config", file);
    assert_int_equal(parsed.dims.E, 12);
    assert_string_equal(parsed.config_path, file);
}

/* The preset decides the defaults first, wherever it stands: seen in the values. */
static void preset_first(void **state) {
    (void)state;
    const char *file =
        write_file("run.yaml", "moe: {experts: 6}\nmodel: {layers: 3, preset: t5}\n");
    ACCEPTED("--config", file);
    assert_int_equal(parsed.dims.L, 3);
    assert_int_equal(parsed.dims.E, 6);
    assert_int_equal(parsed.dims.C, 768);
    ACCEPTED("--config", file, "--model.preset", "labml");
    assert_int_equal(parsed.dims.L, 3);
    assert_int_equal(parsed.dims.C, 128);
    assert_int_equal(parsed.dims.min_capacity, 0);
    file = write_file("run.yaml", "model: {layers: 3, preset: labml}\n");
    ACCEPTED("--config", file, "--model.preset", "t5");
    assert_int_equal(parsed.dims.L, 3);
    assert_int_equal(parsed.dims.C, 768);
}

static void checkpoints(void **state) {
    (void)state;
    static const char *const folders[] = {"run", "run/checkpoints",
                                          "run/checkpoints/step-00000020"};
    static const char config[] = "run/checkpoints/step-00000020/config.yaml";
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(mkdir(in_folder(folders[i]), 0700), 0);
    write_file("run/checkpoints/step-00000020/weights.safetensors", "");
    assert_int_equal(PARSE("eval", "--checkpoint", in_folder("run")), SWT_CHECKPOINT);
    write_file(config, "moe:\n  experts: 6\n  capacity_factor: 1.5\ndata: {prompt: \"He\"}\n"
                       "train: {steps: 20}\n");
    char run[TEMP_PATH_BYTES];
    temp_in(run, "run");
    ACCEPTED("eval", "--checkpoint", run, "--moe.eval_capacity_factor", "3");
    assert_int_equal(parsed.command, SWT_COMMAND_EVAL);
    assert_int_equal(parsed.dims.E, 6);
    assert_true(parsed.dims.eval_capacity_factor == 3);
    assert_int_equal(parsed.dims.B, 32);
    assert_int_equal(parsed.train_steps, 20);
    ACCEPTED("generate", "--checkpoint", in_folder(folders[2]), "--tokens", "7", "--top-k", "5",
             "--temperature", "0.8");
    assert_string_equal(parsed.prompt, "He");
    assert_int_equal(parsed.tokens, 7);
    assert_int_equal(parsed.top_k, 5);
    assert_true(parsed.temperature == 0.8);
    expect_notes("");
    ACCEPTED("generate", "--checkpoint", in_folder(folders[2]), "--top-k", "5");
    expect_notes("--top-k: has no effect with --temperature 0; leave it out, "
                 "or set --temperature to another value than 0\n");
    ACCEPTED("generate", "--checkpoint", run, "--prompt", "It was");
    assert_string_equal(parsed.prompt, "It was");
    assert_int_equal(parsed.tokens, 100);
    assert_int_equal(PARSE("eval", "--checkpoint", in_folder("none")), SWT_CHECKPOINT);
    /* Where it ran, and on what, is the new run's. */
    write_file(config, "dist: {expert_ranks: 4}\nrun: {device: cuda, dtype: bf16, threads: 9}\n");
    ACCEPTED("eval", "--checkpoint", run);
    assert_int_equal(parsed.dist_expert_ranks, 0);
    assert_int_equal(parsed.run_device, SWT_DEVICE_AUTO);
    assert_int_equal(parsed.dims.dtype, SWT_F32);
    assert_int_equal(parsed.run_threads, 0);
    ACCEPTED("eval", "--checkpoint", run, "--run.dtype", "bf16");
    assert_int_equal(parsed.dims.dtype, SWT_BF16);
    /* What is wrong inside a checkpoint's configuration is the checkpoint's fault. */
    write_file(config, "moe:\n  experts: none\n");
    assert_int_equal(PARSE("eval", "--checkpoint", run), SWT_CHECKPOINT);
    assert_non_null(strstr(swt_last_error()->message,
                           "config.yaml:2: moe.experts is none; it must be an integer from 1"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands),    cmocka_unit_test(help),  cmocka_unit_test(flags),
        cmocka_unit_test(wrong_flags), cmocka_unit_test(notes), TEMP_TEST(precedence),
        TEMP_TEST(preset_first),       TEMP_TEST(checkpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
