/* The options: one table drives the YAML reader, the flags, --help, --help-config, docs/options.md
 * and the resolved config.yaml. Keys, defaults and meanings are those of docs/options.md.
 *
 * Every command's own arguments (--checkpoint, --tokens, ...) are rows of the same table without a
 * configuration key.                                                                            */
#ifndef SWT_OPTIONS_OPTIONS_H
#define SWT_OPTIONS_OPTIONS_H

#include "base/status.h"
#include "base/words.h"
#include "comm/swt_comm.h"
#include "io/data.h"
#include "io/files.h"
#include "kernels/swt_ops.h"
#include "model/dims.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef enum swt_command {
    SWT_COMMAND_TRAIN,
    SWT_COMMAND_EVAL,
    SWT_COMMAND_GENERATE,
    SWT_COMMAND_PLAN,
    SWT_COMMAND_PROBE,
    SWT_COMMAND_SELFTEST,
    SWT_COMMAND_CHECKPOINT_LIST,
    SWT_COMMAND_CHECKPOINT_VERIFY,
    SWT_COMMAND_CHECKPOINT_DIFF,
    SWT_COMMAND_CHECKPOINT_IMPORT,
    SWT_COMMAND_CHECKPOINT_EXPORT,
    SWT_COMMAND_AUDIT,
    SWT_COMMAND_REPLAY,
    SWT_COMMAND_BISECT,
    SWT_COMMAND_HELP,
    SWT_COMMAND_HELP_CONFIG, /* also --help-config=markdown, which docs/options.md is made of */
    SWT_COMMAND_VERSION
} swt_command;

/* Values of the options of type choice, in the order of their names in the table. */
typedef enum { SWT_PRESET_LABML, SWT_PRESET_T5 } swt_preset;
typedef enum { SWT_STACKS_DECODER, SWT_STACKS_ENCODER_DECODER } swt_stacks;
typedef enum { SWT_ATTN_SCALE_SQRT, SWT_ATTN_SCALE_ONE } swt_attn_scale;
typedef enum { SWT_OPTIM_ADAM, SWT_OPTIM_SGD, SWT_OPTIM_ADAFACTOR } swt_optim_name;
typedef enum { SWT_UNKNOWN_REFUSE, SWT_UNKNOWN_SKIP } swt_unknown_choice;
typedef enum { SWT_DEVICE_AUTO, SWT_DEVICE_CPU, SWT_DEVICE_CUDA } swt_device_choice;
typedef enum { SWT_RESUME_OFF, SWT_RESUME_AUTO } swt_resume;
typedef enum { SWT_NONFINITE_STOP, SWT_NONFINITE_SKIP } swt_nonfinite;

enum { SWT_TEXT_BYTES = 1024 };

/* Every option's value. What a struct of the model or the update already holds, the table's rows
 * write there; the other fields are named by their key with the dot replaced by an underscore.
 * Choices are ints or enums of that size, in the order of their names in the table. */
typedef struct swt_options {
    swt_command command;
    swt_warnings notes;  /* of what was given and does nothing */
    bool help_markdown;  /* --help-config=markdown */
    char help_topic[64]; /* help TOPIC, COMMAND --help; "": the general page */

    swt_dims dims;         /* as given: swt_dims_from_options makes what the model works with */
    swt_schedule schedule; /* kind, lr, warmup_steps; the rest is swt_update_from_options's */
    swt_adam_hyper adam;

    int model_preset, model_stacks, model_attn_scale, model_init;
    int64_t model_encoder_layers;
    double model_init_scale;

    int64_t batch_target_len;

    int optim_name;
    double optim_clip_norm, optim_clip_update;
    bool optim_scale_parameter;

    int64_t train_seed, train_steps, train_log_every, train_eval_every, train_eval_windows,
        train_sample_every, train_checkpoint_every, train_keep_checkpoints, train_check_every,
        train_ledger_every;

    bool train_async_checkpoints, train_keep_best;

    char data_path[SWT_PATH_BYTES], data_valid[SWT_PATH_BYTES];
    int data_tokenizer, data_unknown;
    double data_valid_fraction;
    char data_prompt[SWT_TEXT_BYTES];

    int64_t dist_expert_ranks;

    char run_out[SWT_PATH_BYTES];
    int run_device, run_resume, run_nonfinite;
    int64_t run_threads, run_max_seconds, run_hang_seconds, run_stall_seconds;
    char run_init_from[SWT_PATH_BYTES];
    bool run_deterministic;

    /* Arguments of single commands; they have no key and are not in config.yaml. */
    char config_path[SWT_PATH_BYTES];     /* --config */
    char checkpoint_path[SWT_PATH_BYTES]; /* --checkpoint: eval, generate; the folder found */
    char folder_path[SWT_PATH_BYTES];     /* checkpoint, audit, replay, bisect: what they look at;
                                             of checkpoint export the folder found */
    char other_path[SWT_PATH_BYTES];      /* checkpoint diff, bisect: and with what they compare */
    double tolerance;                     /* --tolerance: checkpoint diff */
    char hf_path[SWT_PATH_BYTES];         /* --hf: checkpoint import, export */
    int64_t shard_bytes;                  /* --shard-bytes: checkpoint export */
    int64_t audit_from, audit_to;         /* --from, --to: audit; steps, 0 = the end */
    int64_t audit_samples;                /* --samples: audit; 0 = all */
    int64_t replay_step;                  /* --step: replay */
    char prompt[SWT_TEXT_BYTES];          /* --prompt: generate */
    int64_t tokens;                       /* --tokens: generate */
    double temperature;                   /* --temperature: generate; 0 = greedy */
    int64_t top_k;                        /* --top-k: generate; 0 = all */
    int64_t plan_ranks;                   /* --ranks: plan */
    char weights_path[SWT_PATH_BYTES];    /* --weights: probe */
    char batch_path[SWT_PATH_BYTES];      /* --batch: probe */
    int64_t optim_steps;                  /* --optim-steps: probe */
} swt_options;

/* Read the command line, then (under it) the file of --config, then (under that) the preset's
 * defaults. `swt-dist eval|generate --checkpoint DIR` reads DIR's config.yaml as the file.
 * `--out` is run.out for train and the output file for probe.
 * Without --config, --checkpoint and --model.preset: labml with 8 sequences in 4 micro-batches.
 * Also checks what can be checked without data: ranges, what is not built yet (refused by name),
 * and what must fit together (width divides by heads where head_width is 0, ...). Errors: USAGE;
 * CHECKPOINT where DIR has no readable config.yaml. Collective: rank 0 finds out which
 * folder DIR means, and what makes the ranks' work different is refused. */
SWT_MUST_CHECK swt_status swt_options_parse(swt_options *out, swt_comm *world, int argc,
                                            char *const *argv);

/* Rank 0 finds the checkpoint folder that `dir` means, and every rank gets it in place of its own
 * `dir`, which must be the same text. An empty one stays. `name` is the flag or key, for messages.
 * Errors: USAGE where a rank was given another one; CHECKPOINT. */
SWT_MUST_CHECK swt_status swt_agree_on_checkpoint(swt_comm *world, const char *name,
                                                  char dir[SWT_PATH_BYTES]);

/* Command and options, but for run.threads and for the paths of files that are compared by what is
 * in them, or that only rank 0 writes. Errors: USAGE, naming the first key that differs. */
SWT_MUST_CHECK swt_status swt_agree_on_options(swt_comm *world, const swt_options *o);

/* Whether what comes every so many steps comes after this one; interval 0: never. */
static inline bool swt_comes_every(int64_t interval, int64_t step) {
    return interval > 0 && step % interval == 0;
}

/* The defaults of a preset, without file or flags. */
void swt_options_defaults(swt_options *out, swt_preset preset);

/* Whether the key has the default of the preset that o has. */
bool swt_options_is_default(const swt_options *o, const char *key);

/* All cross checks and refusals. Errors: USAGE. */
SWT_MUST_CHECK swt_status swt_options_check(const swt_options *o);

/* Call `visit` for every key with its value as text, in the order of the table; stops at its first
 * error. */
typedef swt_status (*swt_options_visitor)(void *context, const char *key, const char *value);
SWT_MUST_CHECK swt_status swt_options_visit(const swt_options *o, swt_options_visitor visit,
                                            void *context);
int swt_options_key_count(void);

/* Whether a run with these options may go on from a checkpoint of `step` whose run had the values
 * that `old` gives (NULL: a key that it did not know, which had its default). `from` names the
 * checkpoint. Errors: USAGE, naming the first key that may not differ, both values and what to do.
 */
typedef const char *(*swt_options_old)(const void *context, const char *key);
SWT_MUST_CHECK swt_status swt_options_check_resume(const swt_options *o, swt_options_old old,
                                                   const void *context, int64_t step,
                                                   const char *from);

/* A hash of the keys that decide over the numbers, and of their values: XXH3 over each key
 * and each value, seeded with the hash before. Runs with the same text and the same hash are the
 * same run. */
uint64_t swt_options_identity(const swt_options *o);

/* Write every key with its value into a new YAML file, which reads back to the same options.
 * Errors: FILE. */
SWT_MUST_CHECK swt_status swt_options_write_file(const swt_options *o, const char *path);

/* --help ("" as topic), or the page of a command, a section, a key or a flag. */
void swt_options_print_help(FILE *f, const char *topic);

/* Whether there is a page of that name. */
bool swt_options_has_help(const char *topic);

/* --help-config (aligned text or Markdown). */
void swt_options_print_config_help(FILE *f, bool markdown);

/* The name of a choice's value, for printing: swt_options_choice_name("moe.drop", o->moe_drop). */
const char *swt_options_choice_name(const char *key, int value);

#endif
