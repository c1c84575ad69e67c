/* The probe command: the doorway for every outside check. Weights and a batch in, every tensor of
 * one forward and backward step out, and the parameters after n optimiser steps. And replay, which
 * does so with a step of a run. */
#include "base/checked.h"
#include "commands/commands.h"
#include "commands/redo.h"
#include "io/files.h"
#include "io/safetensors.h"
#include "state/weights.h"
#include "train/agree.h"
#include "train/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a sparse layer decides for each token, in four bytes each. */
enum { EXPERT, GATE, KEPT, ROUTES };
static const struct {
    const char *name;
    swt_dtype dtype;
} routes[ROUTES] = {{"expert", SWT_I32}, {"gate", SWT_F32}, {"kept", SWT_I32}};

/* Before their coefficients, but for the total. */
enum { LOSSES = 5 };
static const char *const losses[LOSSES] = {"loss.ce", "loss.aux", "loss.z", "loss.output_z",
                                           "loss.total"};

/* What the forward pass decides, of all micro-batches, on every rank; written by rank 0. */
typedef struct capture {
    float *logits;             /* (M, N, V) */
    int32_t *routes[ROUTES];   /* (sparse layers, M, N), the gates as the bits of a float */
    int32_t *tokens, *targets; /* (M, N), the batch file's */
    int32_t *inputs;           /* (M, S), where there is an encoder */
    double *rows;
} capture;

static void capture_fini(capture *k) {
    free(k->logits);
    for (int r = 0; r < ROUTES; r++)
        free(k->routes[r]);
    free(k->tokens);
    free(k->targets);
    free(k->inputs);
    free(k->rows);
}

/* A tensor of ids, I32 [M, B, T], each at least `least` and below the vocabulary. The caller frees
 * *out. */
static swt_status read_ids(const swt_tensor_file *f, const char *name, int32_t least, int64_t V,
                           int64_t shape[3], int32_t **out) {
    const swt_tensor_entry *e = swt_tensor_file_find(f, name);
    int64_t count = 1;
    if (e == NULL || e->dims != 3)
        return SWT_FAIL(FILE, "%s: has no tensor %s of shape [M, B, T]; write it as I32", f->path,
                        name);
    for (int i = 0; i < 3; i++)
        if (e->shape[i] < 1 || !swt_checked_mul(count, e->shape[i], &count))
            return SWT_FAIL(FILE, "%s: %s has an empty dimension; at least [1, 1, 1] is needed",
                            f->path, name);
    *out = calloc((size_t)count, sizeof **out);
    if (*out == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for a batch of %lld tokens", (long long)count);
    SWT_TRY(swt_tensor_file_read(f, name, SWT_I32, 3, e->shape, *out));
    for (int64_t i = 0; i < count; i++)
        if ((*out)[i] < least || (*out)[i] >= V)
            return SWT_FAIL(FILE,
                            "%s: position %lld of %s has %d; it must be below the vocabulary of "
                            "%lld%s",
                            f->path, (long long)i, name, (*out)[i], (long long)V,
                            least < 0 ? " (a target < 0 carries no loss)" : ", and not below 0");
    memcpy(shape, e->shape, 3 * sizeof *shape);
    return SWT_OK;
}

/* Read tokens and targets, and with an encoder inputs; their shapes decide M, B and T. */
static swt_status read_batch(const swt_tensor_file *f, swt_dims *d, capture *k) {
    int64_t shape[3], targets[3], inputs[3];
    SWT_TRY(read_ids(f, "tokens", 0, d->V, shape, &k->tokens));
    SWT_TRY(read_ids(f, "targets", INT32_MIN, d->V, targets, &k->targets));
    if (memcmp(targets, shape, sizeof shape) != 0)
        return SWT_FAIL(FILE, "%s: tokens and targets differ in shape; they must be one [M, B, T]",
                        f->path);
    d->M = shape[0];
    d->B = shape[1];
    d->T = shape[2];
    if (d->encoder_L == 0)
        return SWT_OK;
    SWT_TRY(read_ids(f, "inputs", 0, d->V, inputs, &k->inputs));
    if (inputs[0] != d->M || inputs[1] != d->B)
        return SWT_FAIL(FILE, "%s: inputs and tokens differ in M or B; they must be the same",
                        f->path);
    d->encoder_T = inputs[2];
    return SWT_OK;
}

static swt_status capture_alloc(capture *k, const swt_model *m) {
    const swt_dims *d = &m->dims;
    const size_t tokens = (size_t)(d->M * d->B * d->T);
    const size_t routed = (size_t)(d->M * d->B * swt_most_positions(d) * swt_sparse_layers(d)) + 1;
    k->logits = calloc(tokens * (size_t)m->dims.V, sizeof *k->logits);
    bool whole = k->logits != NULL;
    for (int r = 0; r < ROUTES && whole; r++) {
        k->routes[r] = calloc(routed, sizeof *k->routes[r]);
        whole = k->routes[r] != NULL;
    }
    if (!whole)
        return SWT_FAIL(MEMORY, "memory: no room for the logits of %zu tokens", tokens);
    return swt_report_alloc(m, &k->rows);
}

/* routed[n] of a row: 1, or 0 for padding that takes no slot (a decoder's first token is the start
 * token, which may have the padding's id). Returns the row's length up to its last token that is no
 * padding. Shapes: routed, tokens (swt_stack_positions). */
static int32_t mark_routed(const swt_dims *d, swt_stack stack, int32_t *routed,
                           const int32_t *tokens) {
    int32_t length = 0;
    for (int32_t t = 0; t < (int32_t)swt_stack_positions(d, stack); t++) {
        const bool start = stack == SWT_DECODER && t == 0, real = tokens[t] != d->pad_id;
        routed[t] = d->route_padding || start || real;
        length = real ? t + 1 : length;
    }
    return length;
}

/* Of one micro-batch. */
static void put_inputs(swt_model *m, const capture *k, int64_t turn, int64_t number) {
    const int64_t B = m->dims.B, T = m->dims.encoder_T;
    for (int64_t b = 0; b < B; b++) {
        const int64_t to = (turn * B + b) * T, from = (number * B + b) * T;
        memcpy(m->host_inputs + to, k->inputs + from, (size_t)T * sizeof *k->inputs);
        m->host_lengths[turn * B + b] =
            mark_routed(&m->dims, SWT_ENCODER, m->host_inputs_routed + to, m->host_inputs + to);
    }
}

/* This rank's part of the batch, the same in every step. */
static swt_status upload(swt_model *m, const capture *k) {
    const int64_t N = m->dims.B * m->dims.T;
    SWT_TRY(swt_step_await_batch(m));
    for (int64_t turn = 0; turn < m->turns; turn++) {
        const int64_t number = swt_dist_micro_batch(m->dist, m->dims.M, turn, m->dist->rank);
        if (number < 0)
            continue;
        const size_t bytes = (size_t)N * sizeof(int32_t);
        memcpy(m->host_tokens + turn * N, k->tokens + number * N, bytes);
        memcpy(m->host_targets + turn * N, k->targets + number * N, bytes);
        for (int64_t b = 0; b < m->dims.B; b++)
            (void)mark_routed(&m->dims, SWT_DECODER, m->host_routed + turn * N + b * m->dims.T,
                              m->host_tokens + turn * N + b * m->dims.T);
        if (k->inputs != NULL)
            put_inputs(m, k, turn, number);
    }
    return swt_step_upload(m, m->turns);
}

/* Where those of a sparse layer stand, those of the encoder before the decoder's. */
static int64_t routes_of(const swt_dims *d, int64_t sparse, int64_t number) {
    const int64_t before = swt_min(sparse, swt_sparse_blocks(d, SWT_ENCODER));
    const bool encoder = sparse < swt_sparse_blocks(d, SWT_ENCODER);
    const int64_t T = encoder ? d->encoder_T : d->T;
    return d->B * (d->M * (before * d->encoder_T + (sparse - before) * d->T) + number * T);
}

/* Copy what the forward pass of micro-batch `number` left on this rank. */
static swt_status capture_own(swt_model *m, capture *k, int64_t number) {
    const swt_dims *d = &m->dims;
    const int64_t N = d->B * d->T;
    SWT_TRY(swt_model_read_logits(m, k->logits + number * N * d->V, 0, N));
    for (int64_t i = 0; i < m->n_sublayers; i++) {
        const swt_sublayer *s = &m->sublayers[i];
        if (s->kind != SWT_SWITCH)
            continue;
        const int64_t count = d->B * swt_stack_positions(d, s->stack);
        const int64_t first = routes_of(d, s->sparse, number);
        const void *const from[ROUTES] = {s->moe.expert, s->moe.gate, s->moe.slot};
        for (int r = 0; r < ROUTES; r++)
            SWT_TRY(swt_model_read(m, k->routes[r] + first, from[r], (size_t)count * 4));
        int32_t *kept = k->routes[KEPT] + first;
        for (int64_t n = 0; n < count; n++)
            kept[n] = kept[n] >= 0;
    }
    return SWT_OK;
}

/* Every rank gets what the owner of each micro-batch captured. */
static swt_status capture_share(swt_model *m, capture *k) {
    const swt_dims *d = &m->dims;
    const int64_t N = d->B * d->T;
    swt_comm *host = m->dist->host;
    for (int64_t number = 0; number < d->M; number++) {
        const int owner = (int)(number % m->dist->size);
        SWT_TRY(swt_comm_broadcast(host, k->logits + number * N * d->V, (size_t)(N * d->V) * 4,
                                   owner, NULL));
        for (int64_t i = 0; i < swt_sparse_layers(d); i++) {
            const int64_t first = routes_of(d, i, 0),
                          count = (routes_of(d, i + 1, 0) - first) / d->M;
            for (int r = 0; r < ROUTES; r++)
                SWT_TRY(swt_comm_broadcast(host, k->routes[r] + first + number * count,
                                           (size_t)count * 4, owner, NULL));
        }
    }
    return SWT_OK;
}

/* The first step up to the reduced gradients, capturing each turn between forward and backward. */
static swt_status first_gradients(swt_session *s, capture *k) {
    swt_model *m = &s->model;
    SWT_TRY(swt_step_begin(m, &s->update));
    for (int64_t turn = 0; turn < m->turns; turn++) {
        const swt_pass pass = swt_step_pass(m, turn);
        SWT_TRY(swt_model_forward(m, &pass));
        if (pass.B > 0)
            SWT_TRY(capture_own(m, k, pass.micro_batch));
        SWT_TRY(swt_model_loss(m, &pass, true));
        SWT_TRY(swt_model_backward(m, &pass));
    }
    SWT_TRY(swt_step_reduce(m, &s->update));
    return capture_share(m, k);
}

static swt_status declare(const swt_session *s, swt_tensor_writer *w) {
    const swt_dims *d = &s->model.dims;
    const int64_t one[] = {1}, logits[] = {d->M, d->B, d->T, d->V};
    char name[SWT_TENSOR_NAME_BYTES];
    SWT_TRY(swt_tensor_writer_declare(w, "logits", SWT_F32, 4, logits));
    for (int i = 0; i < LOSSES; i++)
        SWT_TRY(swt_tensor_writer_declare(w, losses[i], SWT_F32, 1, one));
    for (int64_t i = 0; i < s->model.n_sublayers; i++) {
        const swt_sublayer *sub = &s->model.sublayers[i];
        const int64_t shape[] = {d->M, d->B, swt_stack_positions(d, sub->stack)};
        for (int r = 0; r < ROUTES && sub->kind == SWT_SWITCH; r++) {
            snprintf(name, sizeof name, "moe.%s.%lld.%s", swt_stack_name(sub->stack),
                     (long long)sub->block, routes[r].name);
            SWT_TRY(swt_tensor_writer_declare(w, name, routes[r].dtype, 3, shape));
        }
    }
    SWT_TRY(swt_weights_declare(w, "grad.", &s->model.params));
    return s->options->optim_steps > 0 ? swt_weights_declare(w, "param.", &s->model.params)
                                       : SWT_OK;
}

static swt_status write_forward(const swt_session *s, swt_tensor_writer *w, const capture *k,
                                const swt_report *report) {
    const swt_dims *d = &s->model.dims;
    const double values[LOSSES] = {report->ce, report->aux, report->z, report->output_z,
                                   report->loss};
    SWT_TRY(swt_tensor_writer_data(w, k->logits));
    for (int i = 0; i < LOSSES; i++)
        SWT_TRY(swt_tensor_writer_data(w, &(float){(float)values[i]}));
    for (int64_t i = 0; i < swt_sparse_layers(d); i++)
        for (int r = 0; r < ROUTES; r++)
            SWT_TRY(swt_tensor_writer_data(w, k->routes[r] + routes_of(d, i, 0)));
    return SWT_OK;
}

/* All tensors of a flat array; every rank fetches, rank 0 writes until its disk fails. */
static swt_status write_flat(swt_session *s, swt_tensor_writer *w, const float *flat,
                             swt_status *io) {
    for (int64_t i = 0; i < s->model.params.count; i++) {
        SWT_TRY(swt_weights_fetch(&s->model, flat, i));
        if (s->world->rank == 0 && *io == SWT_OK)
            *io = swt_tensor_writer_data(w, s->model.staging);
    }
    return SWT_OK;
}

static swt_status run_steps(swt_session *s, capture *k, swt_tensor_writer *w, swt_status *io) {
    swt_model *m = &s->model;
    swt_report report;
    swt_step_state state;
    SWT_TRY(first_gradients(s, k));
    SWT_TRY(swt_step_state_read(m, &state));
    SWT_TRY(swt_report_gather(m, k->rows, state.targets, &report));
    if (s->world->rank == 0)
        *io = write_forward(s, w, k, &report);
    SWT_TRY(write_flat(s, w, m->grad, io));
    for (int64_t t = 1; t <= s->options->optim_steps; t++) {
        SWT_TRY(t == 1 ? swt_step_update(m, &s->update) : swt_step(m, &s->update));
        SWT_TRY(swt_step_state_read(m, &state));
    }
    return s->options->optim_steps > 0 ? write_flat(s, w, m->param, io) : SWT_OK;
}

/* Rank 0, before anything is computed: whether the output can be written. */
static swt_status check_output(const swt_session *s) {
    const char *out = s->options->run_out;
    char hidden[SWT_PATH_BYTES];
    swt_path_kind kind = SWT_PATH_NONE;
    int fd = -1;
    if (s->world->rank != 0)
        return SWT_OK;
    SWT_TRY(swt_path_hidden(hidden, out));
    SWT_TRY(swt_path_look(&kind, out, true));
    if (kind == SWT_PATH_FOLDER || out[strlen(out) - 1] == '/')
        return SWT_FAIL(FILE, "%s: is a folder; give --out the name of a file", out);
    SWT_TRY(swt_file_remove(hidden)); /* of a probe that was killed */
    SWT_TRY(swt_file_create(&fd, hidden));
    SWT_TRY(swt_file_finish(&fd, hidden));
    return swt_file_remove(hidden);
}

static swt_status read_inputs(swt_session *s, swt_dims *d, capture *k) {
    const swt_options *o = s->options;
    int64_t vocab = 0;
    swt_tensor_file f;
    swt_source weights;
    SWT_TRY(check_output(s));
    SWT_TRY(swt_source_open_file(&weights, o->weights_path, SWT_FILE));
    swt_status status = swt_weights_vocab(&weights, &vocab);
    if (status == SWT_OK)
        status = swt_dims_from_options(d, o, vocab);
    if (status == SWT_OK)
        status = swt_weights_check(&weights, d);
    swt_source_close(&weights);
    SWT_TRY(status);
    SWT_TRY(swt_tensor_file_open(&f, o->batch_path, SWT_FILE));
    status = read_batch(&f, d, k);
    swt_tensor_file_close(&f);
    return status;
}

static swt_status write_output(swt_session *s, capture *k) {
    const bool first = s->world->rank == 0;
    char hidden[SWT_PATH_BYTES];
    swt_tensor_writer w = {0};
    swt_status status = swt_path_hidden(hidden, s->options->run_out), io = SWT_OK;
    if (first && status == SWT_OK)
        status = declare(s, &w);
    if (first && status == SWT_OK)
        status = swt_tensor_writer_begin(&w, hidden);
    SWT_TRY_TO(status, done, swt_comm_agree(s->world, status));
    SWT_TRY_TO(status, done, run_steps(s, k, &w, &io));
    if (first && io == SWT_OK)
        io = swt_tensor_writer_end(&w);
    if (first && io == SWT_OK) {
        io = swt_path_rename(hidden, s->options->run_out);
        if (io != SWT_OK)
            unlink(hidden);
    }
    status = swt_comm_agree(s->world, io);
done:
    swt_tensor_writer_fini(&w);
    return status;
}

/* Sizes and the batch; the weights once they are read. */
static swt_status agree_on_inputs(swt_session *s, const swt_dims *d, const capture *k) {
    const swt_options *o = s->options;
    const size_t bytes = (size_t)(d->M * d->B * d->T) * sizeof *k->tokens;
    SWT_TRY(swt_agree_on_bytes(s->world, &d->V, sizeof d->V, o->weights_path));
    SWT_TRY(swt_agree_on_bytes(s->world, k->tokens, bytes, o->batch_path));
    if (k->inputs != NULL)
        SWT_TRY(swt_agree_on_bytes(s->world, k->inputs,
                                   (size_t)(d->M * d->B * d->encoder_T) * sizeof *k->inputs,
                                   o->batch_path));
    return swt_agree_on_bytes(s->world, k->targets, bytes, o->batch_path);
}

/* The model holds the weights and this rank's part of the batch, and there is room for what it
 * does with them. */
static swt_status load(swt_session *s, capture *k) {
    swt_source weights;
    int64_t altered = -1; /* nobody has said what they should be */
    SWT_TRY(swt_source_open_file(&weights, s->options->weights_path, SWT_FILE));
    const swt_status status = swt_weights_load(&s->model, &weights, &altered);
    swt_source_close(&weights);
    SWT_TRY(status);
    SWT_TRY(capture_alloc(k, &s->model));
    return upload(&s->model, k);
}

static swt_status run_probe(swt_session *s, capture *k) {
    const char *weights = s->options->weights_path;
    swt_dims d = {0};
    SWT_TRY(swt_comm_agree(s->world, read_inputs(s, &d, k)));
    SWT_TRY(agree_on_inputs(s, &d, k));
    SWT_TRY(swt_session_open_model(s, &d, true));
    SWT_TRY(swt_comm_agree(s->world, load(s, k)));
    SWT_TRY(swt_agree_on_weights(s, weights, SWT_FILE));
    return write_output(s, k);
}

swt_status swt_command_probe(swt_session *s) {
    capture k = {0};
    const swt_status status = run_probe(s, &k);
    capture_fini(&k);
    return status;
}

/* ---- replay */

/* The batch of a step and its model are where the run had them: the step is done as probe does it,
 * with its update. */
static swt_status replay(swt_redo *r, capture *k) {
    swt_session *s = r->s;
    const int64_t step = s->options->replay_step;
    const int64_t last = r->ledger.lines[r->ledger.count - 1].step;
    if (step > last)
        return swt_comm_agree(
            s->world, SWT_FAIL(USAGE, "--step %lld: the run has %lld steps; give one of them",
                               (long long)step, (long long)last));
    SWT_TRY(swt_comm_agree(s->world, check_output(s)));
    SWT_TRY(swt_redo_to(r, step - 1, step - 1));
    SWT_TRY(swt_comm_agree(s->world, capture_alloc(k, &s->model)));
    SWT_TRY(swt_comm_agree(s->world, swt_session_load_batch(s, step)));
    s->options->optim_steps = 1;
    return write_output(s, k);
}

swt_status swt_command_replay(swt_session *s) {
    capture k = {0};
    swt_redo r;
    swt_status status = swt_redo_open(&r, s);
    if (status == SWT_OK)
        status = replay(&r, &k);
    if (status == SWT_OK && s->world->rank == 0)
        fprintf(s->out, "step %lld of %s: %s\n", (long long)s->options->replay_step,
                s->options->folder_path, s->options->run_out);
    capture_fini(&k);
    swt_redo_close(&r);
    return status;
}
