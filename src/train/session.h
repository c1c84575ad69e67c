/* What every command needs: communicator, device, text, model. Opened and closed in one place. */
#ifndef SWT_TRAIN_SESSION_H
#define SWT_TRAIN_SESSION_H

#include "comm/swt_comm.h"
#include "kernels/swt_backend.h"
#include "model/model.h"
#include "train/data.h"
#include "train/options.h"
#include "train/step.h"

#include <signal.h>
#include <stdio.h>

typedef struct swt_session {
    swt_options *options;
    swt_comm *world;                   /* host memory */
    FILE *out;                         /* where rank 0's answers go */
    FILE *err;                         /* where its warnings go, where there is no run */
    const volatile sig_atomic_t *stop; /* set by a signal: stop at the end of the step */
    char data_path[SWT_PATH_BYTES];    /* the text that was read */
    swt_tokenizer tokenizer;
    swt_data data;
    const swt_backend *backend;
    swt_device device;
    char no_gpu[256];   /* why all ranks work on the CPU though a GPU was asked for, or "" */
    swt_comm gpu_world; /* world on the memory of GPUs, where the ranks work on GPUs */
    swt_comm *devices;  /* for backend memory: gpu_world, or on the CPU world */
    swt_stream *stream;
    swt_dist dist;
    swt_model model;
    swt_update update;
} swt_session;

/* The model's dimensions. vocab is the tokenizer's (or the weights') and must equal model.vocab if
 * that is given. Errors: USAGE. */
SWT_MUST_CHECK swt_status swt_dims_from_options(swt_dims *out, const swt_options *o, int64_t vocab);

/* True if the optimiser keeps moments. */
bool swt_needs_moments(const swt_options *o);

/* Find, read and encode the text with the tokenizer of options (or the one of a checkpoint folder,
 * if given). options.data_path becomes the text's full path. Local, the same on every rank. */
SWT_MUST_CHECK swt_status swt_session_read_text(swt_session *s, const char *checkpoint);

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

/* ---- the commands: collective; options and world are the session's, all else is zero. */
SWT_MUST_CHECK swt_status swt_command_train(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_eval(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_generate(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_plan(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_probe(swt_session *s);

#endif
