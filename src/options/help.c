/* --help (one page), the pages of commands, sections and keys, and --help-config as aligned text
 * and as Markdown. */
#include "base/words.h"
#include "options/table.h"

#include <string.h>

enum { PAGE_COLUMNS = 80, FLAG_COLUMN = 26, INDENT = 6 };

/* ---- text that keeps its margins */

/* Continue a line at a column with words, breaking before PAGE_COLUMNS; later lines start at
 * `indent`. Ends the line. */
static void wrap(FILE *f, int column, int indent, const char *text) {
    const char *before = "";
    while (*text != '\0') {
        const int n = (int)strcspn(text, " ");
        if (before[0] != '\0' && column + 1 + n > PAGE_COLUMNS) {
            fprintf(f, "\n%*s", indent, "");
            column = indent;
            before = "";
        }
        column += fprintf(f, "%s%.*s", before, n, text);
        before = " ";
        text += n + (text[n] == ' ');
    }
    fputc('\n', f);
}

/* A term, then its meaning from `column` on; a term that is too long has a line of its own. */
static void print_term(FILE *f, int column, const char *term, const char *meaning) {
    const int n = fprintf(f, "  %s", term);
    if (n + 2 > column)
        fprintf(f, "\n%*s", column, "");
    else
        fprintf(f, "%*s", column - n, "");
    wrap(f, column, column, meaning);
}

/* ---- what the pages say of a row */

/* Pieces of text about a row, made once for every form of page. */
typedef struct entry {
    char name[SWT_OPTION_RANGE_BYTES];   /* "moe.experts, --experts" */
    char flag[SWT_OPTION_RANGE_BYTES];   /* "--experts N", "--device auto|cpu|cuda" */
    char values[SWT_OPTION_RANGE_BYTES]; /* "1 to 65536 experts", "char, byte", "FILE" */
    char labml[SWT_OPTION_NAME_BYTES], t5[SWT_OPTION_NAME_BYTES]; /* the defaults */
    char commands[SWT_OPTION_RANGE_BYTES];
    char meaning[SWT_OPTION_TEXT_BYTES]; /* the help, and which values are built */
} entry;

/* A text in quotes, an empty one as a dash. */
static void print_default(const swt_option *row, const char *value, char *out, size_t out_bytes) {
    const bool text = row->type == &swt_option_text;
    if (text && value[0] == '\0')
        snprintf(out, out_bytes, "-");
    else
        snprintf(out, out_bytes, text ? "\"%s\"" : "%s", value);
}

static entry describe(const swt_option *row) {
    entry e = {.name = ""};
    snprintf(e.name, sizeof e.name, "%s", row->key != NULL ? row->key : row->flag);
    if (row->key != NULL && row->flag != NULL)
        swt_append(e.name, sizeof e.name, ", %s", row->flag);
    snprintf(e.flag, sizeof e.flag, "%s ", swt_option_flag(row));
    if (row->value != NULL)
        swt_append(e.flag, sizeof e.flag, "%s", row->value);
    else
        swt_option_append_choices(row, "|", "|", e.flag, sizeof e.flag);
    row->type->range(row, e.values, sizeof e.values);
    if (row->unit != NULL)
        swt_append(e.values, sizeof e.values, " %s", row->unit);
    print_default(row, row->labml, e.labml, sizeof e.labml);
    print_default(row, row->t5, e.t5, sizeof e.t5);
    swt_option_append_commands(row, e.commands, sizeof e.commands);
    snprintf(e.meaning, sizeof e.meaning, "%s", row->help);
    if (row->built != NULL) {
        swt_append(e.meaning, sizeof e.meaning, " (Built today: ");
        swt_option_append_built(row, ", ", e.meaning, sizeof e.meaning);
        swt_append(e.meaning, sizeof e.meaning, ".)");
    }
    return e;
}

/* The flag with the first sentence of the help, and the labml default where there is one. */
static void print_flag(FILE *f, const swt_option *row) {
    const entry e = describe(row);
    const char *end = strstr(row->help, ". ");
    const size_t n = end != NULL ? (size_t)(end - row->help) : strlen(row->help) - 1;
    char text[SWT_OPTION_TEXT_BYTES];
    snprintf(text, sizeof text, "%.*s", (int)n, row->help);
    if (row->key == NULL && row->required != 0)
        swt_append(text, sizeof text, " (required)");
    else if (row->labml[0] != '\0')
        swt_append(text, sizeof text, " [%s]", row->labml);
    print_term(f, FLAG_COLUMN, e.flag, text);
}

/* ---- --help */

/* What every command with a model or a device takes besides. */
static const char *more_flags(const swt_topic *c) {
    return ((1u << c->command) & SWT_TAKES_EVERY) != 0 ? " [--KEY VALUE]..." : "";
}

/* The flags without a key, which stand together by their commands in the table. */
static void print_arguments(FILE *f) {
    unsigned commands = 0;
    for (const swt_option *row = NULL; (row = swt_option_next(row, NULL)) != NULL;) {
        if (row->commands != commands) {
            const entry e = describe(row);
            wrap(f, fprintf(f, "\nFlags of ") - 1, 9, e.commands);
            commands = row->commands;
        }
        print_flag(f, row);
    }
}

static void print_general(FILE *f) {
    fputs("swt-dist trains Switch Transformers with expert parallelism: in a sparse layer a\n"
          "router sends each token to one of many experts, and the experts are spread over\n"
          "MPI ranks.\n"
          "\n"
          "Usage\n"
          "  swt-dist [train] [--config FILE.yaml] [--KEY VALUE]...\n",
          f);
    for (const swt_topic *c = swt_commands; c->name != NULL; c++)
        if (c->command != SWT_COMMAND_TRAIN)
            fprintf(f, "  swt-dist %-*s%s%s\n", c->arguments[0] != '\0' ? 9 : 0, c->name,
                    c->arguments, more_flags(c));
    fputs("  swt-dist --help | --help-config | --version\n", f);
    fputs("\nCommands\n", f);
    for (const swt_topic *c = swt_commands; c->name != NULL; c++)
        print_term(f, 14, c->name, c->summary);
    fputs("\nFrequent flags, each short for a key (in brackets the default of labml)\n", f);
    for (int i = 0; i < swt_option_count; i++)
        if (swt_option_table[i].key != NULL && swt_option_table[i].flag != NULL)
            print_flag(f, &swt_option_table[i]);
    print_arguments(f);
    fputs("\n"
          "Every key of the configuration is a flag by its full name, such as\n"
          "--moe.capacity_factor 1.25. Flags win over the file, the file over the defaults\n"
          "of the preset. Without --config and --model.preset a step is 4 micro-batches of\n"
          "8 sequences, so that 4 ranks have work.\n"
          "\n"
          "Examples\n"
          "  swt-dist --experts 16                          on one rank\n"
          "  mpirun -np 4 swt-dist --experts 16             on four, four experts each\n"
          "  swt-dist --config configs/labml-shakespeare.yaml --out runs/first\n"
          "  swt-dist plan --experts 64 --ranks 8           what it would need\n"
          "  swt-dist generate --checkpoint runs/first --prompt \"It is\" --tokens 200\n"
          "\n"
          "Exit codes\n"
          "  0 done   2 usage or configuration   3 a file   4 a checkpoint   5 numbers\n"
          "  6 a peer or communication failed    130 interrupted, weights written\n"
          "\n"
          "Read on\n"
          "  swt-dist help eval         a command; help moe: a section; help moe.drop\n"
          "  swt-dist --help-config     every key: defaults of both presets, range, meaning\n"
          "  docs/options.md            the same as a page;  README.md  where to start\n",
          f);
}

/* ---- the page of a command: the flags that it takes, with their defaults */

/* Those of a section's keys, under its title if there are any; section NULL: of no key. */
static void print_flags(FILE *f, unsigned command, const swt_topic *section) {
    bool titled = section == NULL;
    const char *name = section != NULL ? section->name : NULL;
    for (const swt_option *row = NULL; (row = swt_option_next(row, name)) != NULL;) {
        if ((row->commands & command) == 0)
            continue;
        if (!titled)
            fprintf(f, "\n%s: %s\n", section->name, section->summary);
        titled = true;
        print_flag(f, row);
    }
}

static void print_command(FILE *f, const swt_topic *c) {
    const unsigned own = 1u << c->command;
    fprintf(f, "swt-dist %s: ", c->name);
    wrap(f, 11 + (int)strlen(c->name), 2, c->summary);
    fprintf(f, "\nUsage\n  swt-dist %s%s%s%s\n", c->name, c->arguments[0] != '\0' ? " " : "",
            c->arguments, more_flags(c));
    if (c->command >= SWT_COMMAND_HELP)
        return;
    fprintf(f, "\nFlags (in brackets the default%s)\n",
            (own & SWT_TAKES_RESTORE) != 0 ? "; a checkpoint's own values come first"
                                           : " of labml");
    print_flags(f, own, NULL);
    for (const swt_topic *section = swt_sections; section->name != NULL; section++)
        print_flags(f, own, section);
    fprintf(f, "\nExample\n  %s\n\nswt-dist help KEY tells more of a key.\n", c->example);
}

/* ---- the page of a key or flag */

static void print_option(FILE *f, const swt_option *row) {
    enum { COLUMN = 16 };
    const entry e = describe(row);
    char defaults[SWT_OPTION_TEXT_BYTES];
    fprintf(f, "%s\n  ", e.name);
    wrap(f, 2, 2, e.meaning);
    print_term(f, COLUMN, "values", e.values);
    snprintf(defaults, sizeof defaults, "labml %s, t5 %s", e.labml, e.t5);
    print_term(f, COLUMN, "default", row->key != NULL ? defaults : e.labml);
    print_term(f, COLUMN, "commands", e.commands);
    print_term(f, COLUMN, "as a flag", e.flag);
    if (row->key != NULL)
        fprintf(f, "  %-*s%.*s:\n%*s%s: %s\n", COLUMN - 2, "in a file", (int)strcspn(row->key, "."),
                row->key, COLUMN + 2, "", strchr(row->key, '.') + 1,
                row->type == &swt_option_text ? "..." : row->labml);
    if (row->also != NULL)
        print_term(f, COLUMN, "elsewhere", row->also);
}

/* ---- --help-config, as aligned text */

static void print_key(FILE *f, const swt_option *row) {
    const entry e = describe(row);
    fprintf(f, "  %-32s %-14s %s\n", e.name, e.labml, e.t5);
    fprintf(f, "%*s%s\n%*s", INDENT, "", e.values, INDENT, "");
    wrap(f, INDENT, INDENT, e.meaning);
}

static void print_section(FILE *f, const swt_topic *section) {
    fprintf(f, "\n%s: %s\n", section->name, section->summary);
    for (const swt_option *row = NULL; (row = swt_option_next(row, section->name)) != NULL;)
        print_key(f, row);
}

static void print_config(FILE *f) {
    fputs("Keys of the configuration: --KEY VALUE on the command line, or in the file of\n"
          "--config:\n"
          "  moe:\n"
          "    experts: 16\n"
          "\n"
          "  key, its flag                    default: labml t5\n"
          "      values, meaning\n",
          f);
    for (const swt_topic *section = swt_sections; section->name != NULL; section++)
        print_section(f, section);
}

/* ---- --help-config, as Markdown */

static void print_key_markdown(FILE *f, const swt_option *row) {
    const entry e = describe(row);
    fprintf(f, "| `%s`", row->key);
    if (row->flag != NULL)
        fprintf(f, " `%s`", row->flag);
    fprintf(f, " | %s | %s | %s | %s |\n", e.labml, e.t5, e.values, e.meaning);
}

static void print_section_markdown(FILE *f, const swt_topic *section) {
    fprintf(f, "\n## %s: %s\n\n", section->name, section->summary);
    fputs("| key | labml | t5 | values | meaning |\n| --- | --- | --- | --- | --- |\n", f);
    for (const swt_option *row = NULL; (row = swt_option_next(row, section->name)) != NULL;)
        print_key_markdown(f, row);
}

static void print_arguments_markdown(FILE *f) {
    fputs("\n## Flags of single commands\n\nThey have no key and stand in no file.\n\n"
          "| flag | commands | default | values | meaning |\n| --- | --- | --- | --- | --- |\n",
          f);
    for (const swt_option *row = NULL; (row = swt_option_next(row, NULL)) != NULL;) {
        const entry e = describe(row);
        fprintf(f, "| `%s` | %s | %s | %s | %s |\n", e.name, e.commands, e.labml, e.values,
                e.meaning);
    }
}

static void print_config_markdown(FILE *f) {
    fputs(
        "# Configuration\n"
        "\n"
        "`swt-dist --help-config=markdown` prints this page from the table in\n"
        "`src/options/table.c`; a test compares the two.\n"
        "\n"
        "A key stands in a YAML file under its section, and on the command line as a flag by its\n"
        "full name: `moe:` and below it `experts: 16` is `--moe.experts 16` or `--experts 16`.\n"
        "Flags win over the file, the file over the defaults of the preset. Without `--config`,\n"
        "`--checkpoint` and `--model.preset` the program trains the labml preset with\n"
        "`batch.sequences` 8 and `batch.micro_batches` 4, so that up to four ranks have work.\n"
        "A key that the chosen model does not use may have any value in its range. A value that\n"
        "is not built yet is refused by name.\n",
        f);
    for (const swt_topic *section = swt_sections; section->name != NULL; section++)
        print_section_markdown(f, section);
    print_arguments_markdown(f);
}

void swt_options_print_config_help(FILE *f, bool markdown) {
    if (markdown)
        print_config_markdown(f);
    else
        print_config(f);
}

/* ---- help TOPIC */

/* The row of a key or flag, with or without its dashes. */
static const swt_option *row_of(const char *name) {
    const char *bare = name + strspn(name, "-");
    return swt_option_named(bare, strlen(bare));
}

bool swt_options_has_help(const char *name) {
    return name[0] == '\0' || swt_topic_named(swt_commands, name) != NULL ||
           swt_topic_named(swt_sections, name) != NULL || row_of(name) != NULL;
}

void swt_options_print_help(FILE *f, const char *name) {
    const swt_topic *command = swt_topic_named(swt_commands, name);
    const swt_topic *section = swt_topic_named(swt_sections, name);
    const swt_option *row = row_of(name);
    if (command == NULL && section == NULL && row == NULL)
        print_general(f);
    if (command != NULL)
        print_command(f, command);
    if (command != NULL && (section != NULL || row != NULL))
        fputc('\n', f);
    if (section != NULL)
        print_section(f, section);
    if (row != NULL)
        print_option(f, row);
}
