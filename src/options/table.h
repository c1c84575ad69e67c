/* Inside the options: the table that everything about them is read from, and what works on one row.
 * Only this folder and its tests include this; everyone else uses options.h. */
#ifndef SWT_OPTIONS_TABLE_H
#define SWT_OPTIONS_TABLE_H

#include "options/options.h"

#include <stddef.h>

typedef struct swt_option swt_option;

/* What a type of values can do (value.c has one of these for each). `field` is the row's field. */
typedef struct swt_option_type {
    /* Store the value of a text; false, and nothing stored, where it is none of the row's. */
    bool (*read)(void *field, const swt_option *row, const char *text);
    /* The value as text that `read` takes back to the same value; a text in full. */
    void (*print)(const void *field, const swt_option *row, char *out, size_t out_bytes);
    /* Append the values a row takes, such as "1 to 65536" or "adam, sgd, adafactor". */
    void (*range)(const swt_option *row, char *out, size_t out_bytes);
    /* Append what a value must be, such as "an integer from 1 to 65536". */
    void (*expected)(const swt_option *row, char *out, size_t out_bytes);
} swt_option_type;

extern const swt_option_type swt_option_int, swt_option_real, swt_option_bool, swt_option_choice,
    swt_option_text;

/* Sets of commands, for swt_option.commands and .required. */
enum {
    SWT_TAKES_TRAIN = 1 << SWT_COMMAND_TRAIN,
    SWT_TAKES_EVAL = 1 << SWT_COMMAND_EVAL,
    SWT_TAKES_GENERATE = 1 << SWT_COMMAND_GENERATE,
    SWT_TAKES_PLAN = 1 << SWT_COMMAND_PLAN,
    SWT_TAKES_PROBE = 1 << SWT_COMMAND_PROBE,
    SWT_TAKES_SELFTEST = 1 << SWT_COMMAND_SELFTEST,
    SWT_TAKES_TRAINING = SWT_TAKES_TRAIN | SWT_TAKES_PLAN | SWT_TAKES_PROBE,
    SWT_TAKES_RESTORE = SWT_TAKES_EVAL | SWT_TAKES_GENERATE, /* take a checkpoint */
    SWT_TAKES_LIST = 1 << SWT_COMMAND_CHECKPOINT_LIST,
    SWT_TAKES_VERIFY = 1 << SWT_COMMAND_CHECKPOINT_VERIFY,
    SWT_TAKES_DIFF = 1 << SWT_COMMAND_CHECKPOINT_DIFF,
    SWT_TAKES_IMPORT = 1 << SWT_COMMAND_CHECKPOINT_IMPORT,
    SWT_TAKES_EXPORT = 1 << SWT_COMMAND_CHECKPOINT_EXPORT,
    SWT_TAKES_HF = SWT_TAKES_IMPORT | SWT_TAKES_EXPORT,
    SWT_TAKES_AUDIT = 1 << SWT_COMMAND_AUDIT,
    SWT_TAKES_REPLAY = 1 << SWT_COMMAND_REPLAY,
    SWT_TAKES_BISECT = 1 << SWT_COMMAND_BISECT,
    SWT_TAKES_REDO = SWT_TAKES_AUDIT | SWT_TAKES_REPLAY, /* do again what a run did */
    SWT_TAKES_TWO = SWT_TAKES_DIFF | SWT_TAKES_BISECT,   /* compare two folders */
    SWT_TAKES_FOLDER =
        SWT_TAKES_LIST | SWT_TAKES_VERIFY | SWT_TAKES_TWO | SWT_TAKES_REDO | SWT_TAKES_EXPORT,
    SWT_TAKES_WRITING = SWT_TAKES_TRAINING | SWT_TAKES_REPLAY | SWT_TAKES_IMPORT,
    SWT_TAKES_ALL = SWT_TAKES_TRAINING | SWT_TAKES_RESTORE | SWT_TAKES_REDO, /* have a model */
    SWT_TAKES_EVERY = SWT_TAKES_ALL | SWT_TAKES_SELFTEST
};

/* Whether a run that goes on from a checkpoint may have another value than the checkpoint's run. */
typedef enum swt_resumes {
    SWT_RESUMES_SAME,   /* no: the value decides over the numbers */
    SWT_RESUMES_FREE,   /* yes: layout, places, what is written and when */
    SWT_RESUMES_GIVEN,  /* where it is given; the checkpoint's stays else, in section run too */
    SWT_RESUMES_LONGER, /* train.steps: any number from the checkpoint's step on */
} swt_resumes;

struct swt_option {
    const char *key;       /* "moe.experts"; NULL: an argument of commands, which no file has */
    const char *full_flag; /* "--moe.experts", of every key */
    const char *flag;      /* short flag, "--experts", or that of an argument */
    const swt_option_type *type;
    size_t offset;              /* of the field in swt_options */
    size_t bytes;               /* text: of the field, with the terminating 0 */
    int64_t min, max;           /* int */
    double low, high;           /* real */
    bool above_low, below_high; /* real: the bound itself is not allowed */
    const char *const *choices; /* choice: names by value; bool: the words for false and true */
    const char *labml, *t5;     /* defaults of the presets, as a file would have them */
    const char *unit;           /* of a number, after its range */
    const char *value;          /* what the help calls its value: "N", "FILE"; NULL: the choices */
    const char *built;          /* the values that are built today, "adam sgd"; NULL: all */
    unsigned commands;          /* which take the flag */
    unsigned required;          /* which cannot do without the flag */
    int operand;                /* 1, 2: also taken from words without a flag, in this order */
    bool own;                   /* each rank may have its own; the others must be the same */
    swt_resumes resumes;
    const char *help;       /* the first sentence alone is the line in --help */
    const char *only_with;  /* "optim.name adam": of use only where that key has one of these
                               values, with a ! none of them; NULL: always */
    const char *also;       /* what other programs call it, "lr learning-rate"; NULL: nothing */
    const char *nearly;     /* what they call a thing near to it, as "epochs" is to steps, and */
    const char *difference; /* what it is here; both or none */
};

/* A section of keys or a command, which help has a page on. */
typedef struct swt_topic {
    const char *name; /* of a command it may be two words; NULL: behind the last */
    const char *summary;
    const char *also; /* what other programs call it */
    /* of a command */
    swt_command command;
    const char *arguments;
    const char *example; /* NULL: its page has no flags either */
} swt_topic;

/* More than the table has (checked where it stands), for arrays beside it. */
enum {
    SWT_OPTION_LIMIT = 112,
    SWT_OPTION_NAME_BYTES = 64,
    SWT_OPTION_RANGE_BYTES = 160,
    SWT_OPTION_TEXT_BYTES = 512
};

extern const swt_option swt_option_table[];
extern const int swt_option_count;
extern const swt_topic swt_sections[], swt_commands[];

/* The row whose key, or flag without its --, is the first n characters of a name; NULL where there
 * is none. By a whole key alone: swt_option_of_key. */
const swt_option *swt_option_named(const char *name, size_t n);
const swt_option *swt_option_of_key(const char *key);

/* Whether the row's key is in this section; the first row behind `row` (NULL: of the table) that
 * is, NULL behind the last. Section NULL: the rows without a key. */
bool swt_option_in_section(const swt_option *row, const char *section);
const swt_option *swt_option_next(const swt_option *row, const char *section);

/* Whether the row's text is a path. */
bool swt_option_is_path(const swt_option *row);

/* The row's flag to write in messages: the short one, or "--key". */
const char *swt_option_flag(const swt_option *row);

/* Append the names of the commands that take the row's flag, "train, plan, probe". */
void swt_option_append_commands(const swt_option *row, char *out, size_t out_bytes);

/* The next of some words with a space between each two; false at their end. */
bool swt_next_word(const char **words, char out[SWT_OPTION_NAME_BYTES]);

/* Changes (insert, delete, replace a character, exchange two neighbours) that make b of a. - and _
 * are the same character, and so are a letter's two cases. */
int swt_edit_distance(const char *a, const char *b);

/* More changes than any slip of a finger. */
enum { SWT_OPTION_FAR = 1000 };

/* The row whose key, flag or name in other programs is nearest to a mistyped one (with or without
 * --), among those that a command of the set takes; keyed_only leaves out the rows without a key.
 * NULL where none is within `most` changes (SWT_OPTION_FAR - 1: what may be a slip). *difference:
 * what is other here than in the program of that name, or NULL. */
const swt_option *swt_option_nearest(const char *name, unsigned commands, bool keyed_only, int most,
                                     const char **difference);

/* The end of a message about an unknown name: "did you mean --experts?" with the difference, or
 * where to look. keyed: as a key, among those that a file may have; else as a flag of the commands.
 */
void swt_option_suggest(const char *name, unsigned commands, bool keyed, char *out,
                        size_t out_bytes);

/* The command or section of a name, and of a mistyped one; NULL where there is none, or none near.
 */
const swt_topic *swt_topic_named(const swt_topic *topics, const char *word);
const swt_topic *swt_topic_nearest(const swt_topic *topics, const char *word);

/* The functions of the row's type on its field. */
bool swt_option_read(swt_options *o, const swt_option *row, const char *text);
void swt_option_print(const swt_options *o, const swt_option *row, char *out, size_t out_bytes);

/* swt_option_read with the error "WHERE: KEY is TEXT; it must be ..." of code `status`. */
SWT_MUST_CHECK swt_status swt_option_set(swt_options *o, const swt_option *row, const char *text,
                                         const char *where, swt_status status);

/* The row's default, as text and as the value of a field. */
const char *swt_option_default(const swt_option *row, swt_preset preset);
void swt_option_reset(swt_options *o, const swt_option *row, swt_preset preset);

/* Whether the value is one of these words, "adam sgd"; with a ! at the front, none of them. */
bool swt_option_is_among(const swt_options *o, const swt_option *row, const char *words);

/* Whether YAML 1.1 reads this word, where it stands without quotes, as nothing (null); as anything
 * else than a text: nothing, a truth value (off), or what begins like a number. */
bool swt_yaml_is_null(const char *text);
bool swt_yaml_is_ambiguous(const char *text);

/* Append the choices as a list, the last two with another text between them. */
void swt_option_append_choices(const swt_option *row, const char *between, const char *last,
                               char *out, size_t out_bytes);

/* Append the built values of a row that has some, such as "adam or sgd" with between = " or ". */
void swt_option_append_built(const swt_option *row, const char *between, char *out,
                             size_t out_bytes);

/* Note what was given and does nothing in o->notes. By row: the flags' values, and those given
 * before them; NULL where there is none. */
void swt_options_note(swt_options *o, const char *const *values, const char *const *earlier);

/* Apply a YAML file; `status` is the code of its errors (USAGE, or CHECKPOINT for a checkpoint's).
 * A model.preset in it first sets every key to the defaults of that preset, unless keep_preset
 * says that a flag has decided it. */
SWT_MUST_CHECK swt_status swt_options_read_yaml(swt_options *o, const char *path, swt_status status,
                                                bool keep_preset);

/* Every key with its value as YAML that reads back to the same options. What f does not take is
 * for the caller to see. */
void swt_options_print_yaml(const swt_options *o, FILE *f);

#endif
