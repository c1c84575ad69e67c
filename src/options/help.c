/* --help (one page), the pages of commands, sections and keys, and --help-config as aligned text
 * and as Markdown. */
#include "options/table.h"

#include <string.h>

enum { PAGE_COLUMNS = 80, FLAG_COLUMN = 26, INDENT = 6 };

/* ---- text that keeps its margins */

/* Continue a line at a column with words, breaking before PAGE_COLUMNS; later lines start at
 * `indent`. Ends the line. */
static void wrap(FILE *f, int column, int indent, const char *text) {
    const char *word = text;
    bool first = true;
    while (*word != '\0') {
        const int n = (int)strcspn(word, " ");
        if (!first && column + 1 + n > PAGE_COLUMNS) {
            fprintf(f, "\n%*s", indent, "");
            column = indent;
            first = true;
        }
        fprintf(f, "%s%.*s", first ? "" : " ", n, word);
        column += n + !first;
        first = false;
        word += n;
        word += strspn(word, " ");
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
    char commands[SWT_OPTION_NAME_BYTES];
    char meaning[SWT_OPTION_TEXT_BYTES]; /* the help, and which values are built */
} entry;

/* A text in quotes, an empty one as a dash. */
static void default_term(const swt_option *row, const char *value, char *out, size_t out_bytes) {
    const bool text = row->type == &swt_option_text;
    if (text && value[0] == '\0')
        snprintf(out, out_bytes, "-");
    else
        snprintf(out, out_bytes, text ? "\"%s\"" : "%s", value);
}

static entry describe(const swt_option *row) {
    entry e;
    const bool both = row->key != NULL && row->flag != NULL;
    snprintf(e.name, sizeof e.name, "%s%s%s", row->key != NULL ? row->key : "", both ? ", " : "",
             row->flag != NULL ? row->flag : "");
    swt_option_flag(row, e.flag, sizeof e.flag);
    size_t n = strlen(e.flag);
    e.flag[n++] = ' ';
    if (row->value != NULL)
        snprintf(e.flag + n, sizeof e.flag - n, "%s", row->value);
    else
        swt_option_join(row, "|", "|", e.flag + n, sizeof e.flag - n);
    row->type->range(row, e.values, sizeof e.values);
    n = strlen(e.values);
    if (row->unit != NULL)
        snprintf(e.values + n, sizeof e.values - n, " %s", row->unit);
    default_term(row, row->labml, e.labml, sizeof e.labml);
    default_term(row, row->t5, e.t5, sizeof e.t5);
    swt_option_commands(row, e.commands, sizeof e.commands);
    char built[SWT_OPTION_NAME_BYTES] = "";
    if (row->built != NULL)
        swt_option_alternatives(row, ", ", built, sizeof built);
    snprintf(e.meaning, sizeof e.meaning, "%s%s%s%s", row->help,
             row->built != NULL ? " (Built today: " : "", built, row->built != NULL ? ".)" : "");
    return e;
}

/* The flag with the first sentence of the help, and the labml default where there is one. */
static void print_flag(FILE *f, const swt_option *row) {
    const entry e = describe(row);
    const char *end = strstr(row->help, ". ");
    int n = end != NULL ? (int)(end - row->help) : (int)strlen(row->help);
    if (row->help[n] == '\0' && row->help[n - 1] == '.')
        n--;
    const bool shown = row->labml[0] != '\0', required = row->key == NULL && row->required != 0;
    char text[SWT_OPTION_TEXT_BYTES];
    snprintf(text, sizeof text, "%.*s%s%s%s", n, row->help, shown ? " [" : "",
             required ? " (required)" : row->labml, shown ? "]" : "");
    print_term(f, FLAG_COLUMN, e.flag, text);
}

/* ---- --help */

static void print_commands(FILE *f) {
    fputs("\nCommands\n", f);
    for (int i = 0; i < swt_command_count; i++)
        print_term(f, 14, swt_command_table[i].name, swt_command_table[i].summary);
}

static void print_frequent_flags(FILE *f) {
    fputs("\nFrequent flags, each short for a key (in brackets the default of labml)\n", f);
    for (int i = 0; i < swt_option_count; i++) {
        if (swt_option_table[i].key != NULL && swt_option_table[i].flag != NULL)
            print_flag(f, &swt_option_table[i]);
    }
}

static void print_arguments(FILE *f) {
    unsigned commands = 0;
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        if (row->key != NULL)
            continue;
        if (row->commands != commands) {
            const entry e = describe(row);
            fprintf(f, "\nFlags of %s\n", e.commands);
            commands = row->commands;
        }
        print_flag(f, row);
    }
}

/* What every command with a model or a device takes besides. */
static const char *more_flags(const swt_command_row *c) {
    return c->command < SWT_COMMAND_HELP ? " [--KEY VALUE]..." : "";
}

static void print_general(FILE *f) {
    fputs("swt-dist trains Switch Transformers with expert parallelism: in a sparse layer a\n"
          "router sends each token to one of many experts, and the experts are spread over\n"
          "MPI ranks.\n"
          "\n"
          "Usage\n"
          "  swt-dist [train] [--config FILE.yaml] [--KEY VALUE]...\n",
          f);
    for (int i = 0; i < swt_command_count; i++) {
        const swt_command_row *c = &swt_command_table[i];
        if (c->command != SWT_COMMAND_TRAIN)
            fprintf(f, "  swt-dist %-*s%s%s\n", c->arguments[0] != '\0' ? 9 : 0, c->name,
                    c->arguments, more_flags(c));
    }
    fputs("  swt-dist --help | --help-config | --version\n", f);
    print_commands(f);
    print_frequent_flags(f);
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

static void print_command(FILE *f, const swt_command_row *c) {
    const unsigned own = 1u << c->command;
    fprintf(f, "swt-dist %s: ", c->name);
    wrap(f, 11 + (int)strlen(c->name), 2, c->summary);
    fprintf(f, "\nUsage\n  swt-dist %s%s%s%s\n", c->name, c->arguments[0] != '\0' ? " " : "",
            c->arguments, more_flags(c));
    if (c->command >= SWT_COMMAND_HELP)
        return;
    const bool restores = (SWT_TAKES_RESTORE & own) != 0;
    fprintf(f, "\nFlags (in brackets the default%s)\n",
            restores ? "; a checkpoint's own values come first" : " of labml");
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        if ((row->commands & own) != 0 && row->key == NULL)
            print_flag(f, row);
    }
    for (int s = 0; s < swt_option_section_count; s++) {
        bool begun = false;
        for (int i = 0; i < swt_option_count; i++) {
            const swt_option *row = &swt_option_table[i];
            if ((row->commands & own) == 0 ||
                !swt_option_in_section(row, swt_option_sections[s].name))
                continue;
            if (!begun)
                fprintf(f, "\n%s: %s\n", swt_option_sections[s].name, swt_option_sections[s].title);
            begun = true;
            print_flag(f, row);
        }
    }
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
    fprintf(f, "  %-*s%s\n", COLUMN - 2, "commands", e.commands);
    print_term(f, COLUMN, "as a flag", e.flag);
    if (row->key != NULL)
        fprintf(f, "  %-*s%.*s:\n%*s%s: %s\n", COLUMN - 2, "in a file", (int)strcspn(row->key, "."),
                row->key, COLUMN + 2, "", strchr(row->key, '.') + 1,
                row->type == &swt_option_text ? "..." : row->labml);
    if (row->also != NULL)
        print_term(f, COLUMN, "elsewhere", row->also);
}

/* ---- --help-config */

static void print_key(FILE *f, const swt_option *row, bool markdown) {
    const entry e = describe(row);
    if (markdown) {
        const bool flag = row->flag != NULL;
        fprintf(f, "| `%s`%s%s%s | %s | %s | %s | %s |\n", row->key, flag ? " `" : "",
                flag ? row->flag : "", flag ? "`" : "", e.labml, e.t5, e.values, e.meaning);
        return;
    }
    fprintf(f, "  %-32s %-14s %s\n%*s%s\n%*s", e.name, e.labml, e.t5, INDENT, "", e.values, INDENT,
            "");
    wrap(f, INDENT, INDENT, e.meaning);
}

static void print_arguments_markdown(FILE *f) {
    fputs("\n## Flags of single commands\n\nThey have no key and stand in no file.\n\n"
          "| flag | commands | default | values | meaning |\n| --- | --- | --- | --- | --- |\n",
          f);
    for (int i = 0; i < swt_option_count; i++) {
        if (swt_option_table[i].key != NULL)
            continue;
        const entry e = describe(&swt_option_table[i]);
        fprintf(f, "| `%s` | %s | %s | %s | %s |\n", e.name, e.commands, e.labml, e.values,
                e.meaning);
    }
}

static void print_section(FILE *f, const swt_option_section *section, bool markdown) {
    if (markdown)
        fprintf(f,
                "\n## %s: %s\n\n| key | labml | t5 | values | meaning |\n"
                "| --- | --- | --- | --- | --- |\n",
                section->name, section->title);
    else
        fprintf(f, "\n%s: %s\n", section->name, section->title);
    for (int i = 0; i < swt_option_count; i++) {
        if (swt_option_in_section(&swt_option_table[i], section->name))
            print_key(f, &swt_option_table[i], markdown);
    }
}

void swt_options_print_config_help(FILE *f, bool markdown) {
    if (markdown)
        fputs(
            "# Configuration\n"
            "\n"
            "`swt-dist --help-config=markdown` prints this page from the table in\n"
            "`src/options/table.c`; a test compares the two.\n"
            "\n"
            "A key stands in a YAML file under its section, and on the command line as a flag by "
            "its\n"
            "full name: `moe:` and below it `experts: 16` is `--moe.experts 16` or `--experts "
            "16`.\n"
            "Flags win over the file, the file over the defaults of the preset. Without "
            "`--config`,\n"
            "`--checkpoint` and `--model.preset` the program trains the labml preset with\n"
            "`batch.sequences` 8 and `batch.micro_batches` 4, so that up to four ranks have work.\n"
            "A key that the chosen model does not use may have any value in its range. A value "
            "that\n"
            "is not built yet is refused by name.\n",
            f);
    else
        fputs("Keys of the configuration: --KEY VALUE on the command line, or in the file of\n"
              "--config:\n"
              "  moe:\n"
              "    experts: 16\n"
              "\n"
              "  key, its flag                    default: labml t5\n"
              "      values, meaning\n",
              f);
    for (int i = 0; i < swt_option_section_count; i++)
        print_section(f, &swt_option_sections[i], markdown);
    if (markdown)
        print_arguments_markdown(f);
}

/* ---- help TOPIC */

typedef struct topic {
    const swt_command_row *command;
    const swt_option_section *section;
    const swt_option *row;
} topic;

static bool find_topic(topic *out, const char *name) {
    const char *bare = name + strspn(name, "-");
    *out = (topic){.command = swt_command_named(name), .row = swt_option_named(bare, strlen(bare))};
    for (int i = 0; i < swt_option_section_count; i++)
        if (strcmp(name, swt_option_sections[i].name) == 0)
            out->section = &swt_option_sections[i];
    return out->command != NULL || out->section != NULL || out->row != NULL;
}

bool swt_options_has_help(const char *name) {
    topic found;
    return name[0] == '\0' || find_topic(&found, name);
}

void swt_options_print_help(FILE *f, const char *name) {
    topic found;
    if (name[0] == '\0' || !find_topic(&found, name)) {
        print_general(f);
        return;
    }
    if (found.command != NULL)
        print_command(f, found.command);
    if (found.command != NULL && (found.section != NULL || found.row != NULL))
        fputc('\n', f);
    if (found.section != NULL)
        print_section(f, found.section, false);
    if (found.row != NULL)
        print_option(f, found.row);
}
