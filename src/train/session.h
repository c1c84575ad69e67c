/* What every command needs: communicator, device, text, model. Opened and closed in one place. */
#ifndef SWT_TRAIN_SESSION_H
#define SWT_TRAIN_SESSION_H

#include "comm/swt_comm.h"
#include "io/data.h"
#include "kernels/swt_backend.h"
#include "model/model.h"
#include "options/options.h"
#include "state/watchdog.h"
#include "train/step.h"

#include <signal.h>
#include <stdio.h>

typedef struct swt_session {
    swt_options *options;
    swt_comm *world;                   /* host memory */
    swt_watchdog *watchdog;            /* of world; NULL: none */
    FILE *out;                         /* where rank 0's answers go */
    FILE *err;                         /* where its warnings go, where there is no run */
    double start_ms;                   /* when the command began */
    const volatile sig_atomic_t *stop; /* set by a signal; NULL: they are not caught */
    const volatile sig_atomic_t *(*catch_signals)(void); /* main's: from now on let them set that */
    char data_path[SWT_PATH_BYTES]; /* the text that was read; in eval the one evaluated */
    swt_tokenizer tokenizer;
    swt_data data;
    uint64_t train_hash, valid_hash; /* XXH3 of data.ids' two parts, of swt_agree_on_text */
    int cores;                       /* this rank's share of those that the ranks may use */
    const swt_backend *backend;
    swt_device device;
    char no_gpu[256];   /* why all ranks work on the CPU though a GPU was asked for, or "" */
    swt_comm gpu_world; /* world on the memory of GPUs, where the ranks work on GPUs */
    swt_comm *devices;  /* for backend memory: gpu_world, or on the CPU world */
    swt_stream *stream;
    swt_dist dist;
    swt_model model;
    swt_update_rule update;
    swt_warnings warnings; /* not said yet; of rank 0 they are, by the run or at the end */
} swt_session;

/* Rank 0 writes the kept warnings to s->err: for commands without a run. */
void swt_session_say_warnings(swt_session *s);

/* Tokens of a sequence of the encoder (0: there is none) and of the decoder. */
void swt_stack_lengths(const swt_options *o, int64_t *encoder_T, int64_t *T);

/* The model's dimensions. vocab is the tokenizer's (or the weights') and must equal model.vocab if
 * that is given. Errors: USAGE. */
SWT_MUST_CHECK swt_status swt_dims_from_options(swt_dims *out, const swt_options *o, int64_t vocab);

/* The layout of `size` ranks, as one of them has it. Errors: USAGE. */
SWT_MUST_CHECK swt_status swt_dist_from_options(swt_dist *out, const swt_options *o,
                                                const swt_dims *d, int size, int rank);

/* What the optimiser keeps. */
swt_optim_keeps swt_optim_keeps_of(const swt_options *o);

/* Find, read and encode the texts that the command works on, data.path and data.valid, with the
 * tokenizer of options, or that of a checkpoint folder if one is given; it becomes data.tokenizer.
 * Both keys become full paths. Warns of what the user may not expect. Local, the same on every
 * rank. Errors: FILE for a text, CHECKPOINT for a tokenizer that cannot be read. */
SWT_MUST_CHECK swt_status swt_session_read_text(swt_session *s, const char *checkpoint);

/* The ids of a prompt of the options, which is UTF-8 as all their texts are. The caller gave room
 * for one of each byte. Warns of characters that are left out and of those that the model does not
 * see because more than T come after them; `where` is the option. Errors: USAGE where nothing of it
 * is left. */
SWT_MUST_CHECK swt_status swt_session_encode_prompt(swt_session *s, const char *where,
                                                    const char *prompt, int32_t *ids,
                                                    int64_t *count);

/* Collective. Choose the backend, open this rank's processor with a stream, and the communicator
 * for its memory, as run.device and run.threads say. Errors: USAGE where GPUs are asked for and a
 * rank has none of its own. */
SWT_MUST_CHECK swt_status swt_session_open_device(swt_session *s);

/* Collective. Lay out the ranks, plan, open the device, allocate. The text, if needed, is read
 * before. */
SWT_MUST_CHECK swt_status swt_session_open_model(swt_session *s, const swt_dims *d, bool training);

/* Put this rank's windows of update `step` (1 is the first) into the model's batch, on the device.
 * Local. */
SWT_MUST_CHECK swt_status swt_session_load_batch(swt_session *s, int64_t step);

void swt_session_close(swt_session *s);

/* The command train (the others are in commands/): collective; options, world, streams and signals
 * are given, all else is zero. */
SWT_MUST_CHECK swt_status swt_command_train(swt_session *s);

#endif
