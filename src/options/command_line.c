/* The command line: which command, which flags, and in which order the sources of a value apply:
 * preset < file < flags. */
#include "options/options.h"

#include "base/words.h"
#include "io/checkpoint_dir.h"
#include "io/files.h"
#include "options/table.h"

#include <ctype.h>
#include <string.h>

/* A command line taken apart: for each row the last value given and the argument it stood in. */
typedef struct arguments {
    const swt_topic *command;
    int operands;                          /* words without a flag so far */
    const char *values[SWT_OPTION_LIMIT];  /* NULL: not given */
    const char *earlier[SWT_OPTION_LIMIT]; /* where it was given twice, the one before */
    const char *flags[SWT_OPTION_LIMIT];   /* "--experts" or "--experts=4" */
} arguments;

/* ---- taking the command line apart */

/* help, help TOPIC, version. */
static swt_status find_help_command(swt_options *out, int argc, char *const *argv) {
    if (argc < 2 || (strcmp(argv[1], "help") != 0 && strcmp(argv[1], "version") != 0))
        return SWT_OK;
    const bool help = argv[1][0] == 'h';
    const int most = help ? 3 : 2;
    if (argc > most)
        return SWT_FAIL(USAGE, "\"%.60s\": is more than %s takes; write swt-dist %s", argv[most],
                        argv[1], help ? "help, or help and one COMMAND or KEY" : "version");
    out->command = help ? SWT_COMMAND_HELP : SWT_COMMAND_VERSION;
    if (argc == 2)
        return SWT_OK;
    if (strcmp(argv[2], "config") == 0) {
        out->command = SWT_COMMAND_HELP_CONFIG;
        return SWT_OK;
    }
    if (!swt_options_has_help(argv[2])) {
        char advice[SWT_OPTION_RANGE_BYTES];
        const swt_topic *near = swt_topic_nearest(swt_commands, argv[2]);
        if (near != NULL)
            snprintf(advice, sizeof advice, "did you mean %s?", near->name);
        else
            swt_option_suggest(argv[2], SWT_TAKES_EVERY, false, advice, sizeof advice);
        return SWT_FAIL(USAGE, "%.60s: no command and no key; %s", argv[2], advice);
    }
    snprintf(out->help_topic, sizeof out->help_topic, "%s", argv[2]);
    return SWT_OK;
}

/* The command that the line begins with, of one word or two; *words is how many. */
static const swt_topic *command_of(int argc, char *const *argv, int *words) {
    for (*words = 2; *words > 0; --*words) {
        char name[SWT_OPTION_NAME_BYTES];
        if (argc <= *words)
            continue;
        snprintf(name, sizeof name, *words == 2 ? "%.30s %.30s" : "%.30s", argv[1], argv[2]);
        const swt_topic *found = swt_topic_named(swt_commands, name);
        if (found != NULL)
            return found;
    }
    return NULL;
}

/* --help, --version and --help-config win over everything else on the line; after a command's name
 * --help is that command's page. */
static swt_status find_help(swt_options *out, int argc, char *const *argv) {
    SWT_TRY(find_help_command(out, argc, argv));
    for (int i = 1; i < argc && out->command == SWT_COMMAND_TRAIN; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            int words = 0;
            const swt_topic *command = command_of(argc, argv, &words);
            out->command = SWT_COMMAND_HELP;
            if (command != NULL)
                snprintf(out->help_topic, sizeof out->help_topic, "%s", command->name);
        } else if (strcmp(argv[i], "--version") == 0) {
            out->command = SWT_COMMAND_VERSION;
        } else if (strncmp(argv[i], "--help-config", 13) == 0) {
            out->command = SWT_COMMAND_HELP_CONFIG;
            out->help_markdown = strcmp(argv[i], "--help-config=markdown") == 0;
            if (!out->help_markdown && argv[i][13] != '\0')
                return SWT_FAIL(USAGE,
                                "%.60s: unknown flag; use --help-config or "
                                "--help-config=markdown",
                                argv[i]);
        }
    }
    return SWT_OK;
}

static swt_status unknown_flag(const arguments *a, const char *argument) {
    char name[SWT_OPTION_NAME_BYTES], advice[SWT_OPTION_RANGE_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(argument, "="), argument);
    swt_option_suggest(name, 1u << a->command->command, false, advice, sizeof advice);
    return SWT_FAIL(USAGE, "%s: unknown flag; %s", name, advice);
}

/* "checkpoint" alone, or with a second word that none has: the commands that begin so. */
static bool name_group(const char *word, char *out, size_t out_bytes) {
    const size_t n = strlen(word);
    for (const swt_topic *c = swt_commands; c->name != NULL; c++)
        if (strncmp(c->name, word, n) == 0 && c->name[n] == ' ')
            swt_append(out, out_bytes, "%s%s", out[0] == '\0' ? "" : ", ", c->name);
    return out[0] != '\0';
}

static swt_status find_command(arguments *a, int argc, char *const *argv, int *words) {
    const char *word = argv[1];
    char group[SWT_OPTION_TEXT_BYTES] = "";
    a->command = command_of(argc, argv, words);
    if (a->command != NULL)
        return SWT_OK;
    if (name_group(word, group, sizeof group))
        return SWT_FAIL(USAGE, "%.60s: is the beginning of a command; write one of %s", word,
                        group);
    const swt_topic *nearest = swt_topic_nearest(swt_commands, word);
    if (nearest != NULL)
        return SWT_FAIL(USAGE, "%.60s: unknown command; did you mean %s? (--help lists them)", word,
                        nearest->name);
    if (swt_option_named(word, strcspn(word, "=")) != NULL)
        return SWT_FAIL(USAGE, "%.60s: unknown command; did you mean --%.60s?", word, word);
    a->command = &swt_commands[0];
    return strchr(word, '=') != NULL
               ? unknown_flag(a, word)
               : SWT_FAIL(USAGE, "%.60s: unknown command; --help lists them", word);
}

/* A word without a flag: the next operand of the command. */
static swt_status read_operand(arguments *a, const char *word) {
    a->operands++;
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        if (row->operand != a->operands || (row->commands & (1u << a->command->command)) == 0)
            continue;
        a->flags[i] = row->flag;
        a->earlier[i] = a->values[i];
        a->values[i] = word;
        return SWT_OK;
    }
    return SWT_FAIL(USAGE,
                    "\"%.60s\": stands where a flag is expected; write --KEY VALUE or "
                    "--KEY=VALUE",
                    word);
}

/* The flag of another command: say whose it is. */
static swt_status foreign_flag(const arguments *a, const swt_option *row) {
    char takers[SWT_OPTION_RANGE_BYTES] = "", advice[SWT_OPTION_RANGE_BYTES];
    const char *flag = swt_option_flag(row), *difference;
    const unsigned own = 1u << a->command->command;
    const bool near = swt_option_nearest(flag, own, false, 0, &difference) != NULL;
    swt_option_append_commands(row, takers, sizeof takers);
    swt_option_suggest(flag, own, false, advice, sizeof advice);
    return SWT_FAIL(USAGE, "%s: the command %s does not take it; it belongs to %s%s%s", flag,
                    a->command->name, takers, near ? "; " : "", near ? advice : "");
}

static swt_status read_arguments(arguments *a, int argc, char *const *argv) {
    int words = 0;
    a->command = &swt_commands[0];
    if (argc > 1 && argv[1][0] != '-')
        SWT_TRY(find_command(a, argc, argv, &words));
    for (int i = 1 + words; i < argc; i++) {
        const char *argument = argv[i];
        if (argument[0] == '-' && isalpha((unsigned char)argument[1]))
            return unknown_flag(a, argument);
        if (strncmp(argument, "--", 2) != 0) {
            SWT_TRY(read_operand(a, argument));
            continue;
        }
        const swt_option *row = swt_option_named(argument + 2, strcspn(argument + 2, "="));
        if (row == NULL)
            return unknown_flag(a, argument);
        if ((row->commands & (1u << a->command->command)) == 0)
            return foreign_flag(a, row);
        const char *equals = strchr(argument, '=');
        if (equals == NULL && (i + 1 == argc || strncmp(argv[i + 1], "--", 2) == 0))
            return SWT_FAIL(USAGE, "%s: has no value; write %s VALUE or %s=VALUE", argument,
                            argument, argument);
        const ptrdiff_t index = row - swt_option_table;
        a->flags[index] = argument;
        a->earlier[index] = a->values[index];
        a->values[index] = equals != NULL ? equals + 1 : argv[++i];
    }
    return SWT_OK;
}

/* ---- putting the options together */

static swt_status apply_flag(swt_options *o, const arguments *a, int index) {
    if (a->values[index] == NULL)
        return SWT_OK;
    char where[SWT_OPTION_NAME_BYTES];
    snprintf(where, sizeof where, "%.*s", (int)strcspn(a->flags[index], "="), a->flags[index]);
    return swt_option_set(o, &swt_option_table[index], a->values[index], where, SWT_USAGE);
}

/* All flags of keys, or all of the command's own. */
static swt_status apply_flags(swt_options *o, const arguments *a, bool keyed) {
    for (int i = 0; i < swt_option_count; i++) {
        if ((swt_option_table[i].key != NULL) == keyed)
            SWT_TRY(apply_flag(o, a, i));
    }
    return SWT_OK;
}

static swt_status check_required(const arguments *a) {
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        const bool required = (row->required & (1u << a->command->command)) != 0;
        if (required && a->values[i] == NULL && row->operand > 0)
            return SWT_FAIL(USAGE, "%s: needs %s; write swt-dist %s %s", a->command->name,
                            a->command->arguments, a->command->name, a->command->arguments);
        if (required && a->values[i] == NULL)
            return SWT_FAIL(USAGE, "%s: needs %s; add %s %s", a->command->name, row->flag,
                            row->flag, row->value);
        /* An unset shell variable, most likely; only a key's path may be empty, for its default. */
        if (swt_option_is_path(row) && (required || row->key == NULL) && a->values[i] != NULL &&
            a->values[i][0] == '\0')
            return SWT_FAIL(USAGE, "%s: is empty; give a path", row->flag);
    }
    return SWT_OK;
}

/* A checkpoint says what the model is, not where and how it ran: any number of ranks may read it,
 * on any processor, and its weights are fp32 whatever they were rounded to in the products. A run
 * that goes on, or is done again, keeps what decides over its numbers, and where it began; and its
 * rule for bad steps, which is no layout. */
static void forget_layout(swt_options *o, bool same_numbers) {
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        const bool kept = same_numbers && (row->resumes != SWT_RESUMES_FREE ||
                                           (row->commands & (1u << o->command)) == 0);
        if (!kept && (swt_option_in_section(row, "run") || swt_option_in_section(row, "dist")))
            swt_option_reset(o, row, SWT_PRESET_LABML);
    }
}

static bool is_given(const arguments *a, const char *name) {
    return a->values[swt_option_named(name, strlen(name)) - swt_option_table] != NULL;
}

/* The configuration of the run to go on with, where the flags alone say that; *found = there is
 * one.
 */
static swt_status find_resumed(const arguments *a, char path[SWT_PATH_BYTES], bool *found) {
    const swt_option *resume = swt_option_of_key("run.resume"), *out = swt_option_of_key("run.out");
    const char *how = a->values[resume - swt_option_table],
               *run = a->values[out - swt_option_table];
    swt_path_kind kind = SWT_PATH_NONE;
    *found = false;
    if (how == NULL || run == NULL || strcmp(how, "auto") != 0)
        return SWT_OK;
    SWT_TRY(swt_path_join(path, run, SWT_CONFIG_FILE));
    SWT_TRY(swt_path_look(&kind, path, true));
    *found = kind == SWT_PATH_FILE;
    return SWT_OK;
}

/* eval reads one text. One that was given comes before the one that the checkpoint's run had. */
static swt_status choose_eval_text(swt_options *o, const arguments *a) {
    if (o->command != SWT_COMMAND_EVAL || !is_given(a, "data.path"))
        return SWT_OK;
    if (is_given(a, "data.valid"))
        return SWT_FAIL(USAGE, "--data and --data.valid: eval reads one text; give one of them");
    o->data_valid[0] = '\0';
    return SWT_OK;
}

/* What the arguments alone say: help, or the command's own and what a preset brings. */
static swt_status parse_line(swt_options *out, arguments *a, int argc, char *const *argv) {
    const int preset_index = (int)(swt_option_of_key("model.preset") - swt_option_table);
    swt_options_defaults(out, SWT_PRESET_LABML);
    SWT_TRY(find_help(out, argc, argv));
    if (out->command != SWT_COMMAND_TRAIN)
        return SWT_OK;
    SWT_TRY(read_arguments(a, argc, argv));
    SWT_TRY(check_required(a));
    SWT_TRY(apply_flag(out, a, preset_index));
    swt_options_defaults(out, (swt_preset)out->model_preset);
    out->command = a->command->command;
    return apply_flags(out, a, false);
}

/* Where the path of the checkpoint is whose configuration the command takes; "" : it takes none. */
static char *restored(swt_options *o) {
    return o->command == SWT_COMMAND_CHECKPOINT_EXPORT ? o->folder_path : o->checkpoint_path;
}

/* The file of --config, or the checkpoint's, or that of the run to go on with or to do again;
 * without any, as many micro-batches of labml's 32 sequences as give up to four ranks work of their
 * own. */
static swt_status read_file(swt_options *o, const arguments *a) {
    const bool preset_given = is_given(a, "model.preset");
    const bool of_run = ((1u << o->command) & (SWT_TAKES_REDO | SWT_TAKES_BISECT)) != 0;
    char path[SWT_PATH_BYTES];
    bool goes_on = false;
    SWT_TRY(find_resumed(a, path, &goes_on));
    if (of_run) {
        SWT_TRY(swt_path_join(path, o->folder_path, SWT_CONFIG_FILE));
        SWT_TRY(swt_options_read_yaml(o, path, SWT_CHECKPOINT, preset_given));
        forget_layout(o, true);
    } else if (restored(o)[0] != '\0') {
        SWT_TRY(swt_path_join(path, restored(o), SWT_CONFIG_FILE));
        SWT_TRY(swt_options_read_yaml(o, path, SWT_CHECKPOINT, preset_given));
        forget_layout(o, false);
    } else if (o->config_path[0] != '\0') {
        SWT_TRY(swt_options_read_yaml(o, o->config_path, SWT_USAGE, preset_given));
    } else if (goes_on && !preset_given) {
        SWT_TRY(swt_options_read_yaml(o, path, SWT_USAGE, false));
        forget_layout(o, true);
    } else if (!preset_given) {
        o->dims.B = 8;
        o->dims.M = 4;
    }
    return SWT_OK;
}

static swt_status parse_files(swt_options *o, const arguments *a) {
    if (a->command == NULL) /* help */
        return SWT_OK;
    SWT_TRY(read_file(o, a));
    SWT_TRY(apply_flags(o, a, true));
    if (!is_given(a, "prompt"))
        memcpy(o->prompt, o->data_prompt, sizeof o->prompt);
    SWT_TRY(choose_eval_text(o, a));
    SWT_TRY(swt_options_check(o));
    swt_options_note(o, a->values, a->earlier);
    return SWT_OK;
}

swt_status swt_options_parse(swt_options *out, swt_comm *world, int argc, char *const *argv) {
    arguments a = {0};
    SWT_TRY(swt_comm_agree(world, parse_line(out, &a, argc, argv)));
    const bool folder = out->command == SWT_COMMAND_CHECKPOINT_EXPORT;
    SWT_TRY(swt_agree_on_checkpoint(world, folder ? "--folder" : "--checkpoint", restored(out)));
    SWT_TRY(swt_comm_agree(world, parse_files(out, &a)));
    return swt_agree_on_options(world, out);
}
