#include "train/generate.h"

#include "base/checked.h"
#include "train/stop.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct writer {
    int32_t *ids; /* (count), the prompt and what was written */
    int64_t count, prompt_count;
    float *logits;   /* (V) of the last position */
    double *weights; /* (V) for sampling */
} writer;

/* The tokens [from, to) of what was written, as a stack reads them. */
static swt_sequence put(const writer *w, int64_t from, int64_t to, int32_t *host_tokens,
                        int32_t *host_routed, const int32_t *tokens, const int32_t *routed) {
    for (int64_t t = from; t < to; t++) {
        host_tokens[t - from] = w->ids[t];
        host_routed[t - from] = 1;
    }
    return (swt_sequence){.T = to - from, .tokens = tokens, .routed = routed};
}

/* What the model reads to go on. A decoder alone: the last T tokens. With an encoder, as in
 * training, the encoder the text before a place, and the decoder from the last token of that on;
 * the place is the prompt's end, and T tokens later the next one. */
static void put_text(swt_model *m, const writer *w, swt_pass *pass) {
    const swt_dims *d = &m->dims;
    const swt_shared_acts *a = &m->acts;
    int64_t from = swt_max(w->count - d->T, 0);
    if (d->encoder_T > 0) {
        const int64_t place = w->prompt_count + (w->count - w->prompt_count) / d->T * d->T;
        from = place - 1;
        pass->sequences[SWT_ENCODER] =
            put(w, swt_max(place - d->encoder_T, 0), place, m->host_inputs, m->host_inputs_routed,
                a->inputs, a->inputs_routed);
    }
    pass->sequences[SWT_DECODER] =
        put(w, from, w->count, m->host_tokens, m->host_routed, a->tokens, a->routed);
}

/* Logits of the next token. Rank 0 has the text; the others' experts serve it. */
static swt_status next_logits(swt_session *s, writer *w) {
    swt_model *m = &s->model;
    const bool own = s->world->rank == 0;
    swt_pass pass = {.B = own ? 1 : 0, .targets = m->acts.targets, .dropless = true};
    SWT_TRY(swt_step_await_batch(m));
    put_text(m, w, &pass);
    const int64_t length = pass.sequences[SWT_DECODER].T;
    SWT_TRY(swt_step_upload(m, 1));
    SWT_TRY(swt_model_forward(m, &pass));
    if (own)
        SWT_TRY(swt_model_read_logits(m, w->logits, length - 1, 1));
    return swt_comm_broadcast(s->world, w->logits, (size_t)m->dims.V * sizeof(float), 0, NULL);
}

static int descending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* weights[v] = exp((logit - largest) / temperature), 0 below the top_k-th largest logit. Returns
 * the sum. */
static double weigh(double *weights, const float *logits, int64_t V, const swt_sampling *how) {
    for (int64_t v = 0; v < V; v++)
        weights[v] = (double)logits[v];
    qsort(weights, (size_t)V, sizeof *weights, descending);
    const double largest = weights[0];
    const double least = how->top_k > 0 ? weights[swt_min(how->top_k, V) - 1] : weights[V - 1];
    double sum = 0.0;
    for (int64_t v = 0; v < V; v++) {
        const double logit = (double)logits[v];
        weights[v] = logit >= least ? exp((logit - largest) / how->temperature) : 0.0;
        sum += weights[v];
    }
    return sum;
}

static bool all_finite(const float *logits, int64_t V) {
    for (int64_t v = 0; v < V; v++)
        if (!isfinite(logits[v]))
            return false;
    return true;
}

static int32_t choose(const writer *w, int64_t V, const swt_sampling *how) {
    int64_t best = 0;
    for (int64_t v = 1; v < V; v++)
        if (w->logits[v] > w->logits[best])
            best = v;
    if (how->temperature <= 0.0)
        return (int32_t)best;
    const swt_rng_u32x4 r = swt_rng(how->seed, (uint32_t)w->count, 0, 0, SWT_RNG_SAMPLE, 0);
    double left = weigh(w->weights, w->logits, V, how) * (double)swt_rng_uniform(r.v[0]);
    for (int64_t v = 0; v < V; v++) {
        left -= w->weights[v];
        if (left < 0.0)
            return (int32_t)v;
    }
    return (int32_t)best;
}

static char *decode(const swt_session *s, const writer *w, size_t *out_bytes) {
    char *text = malloc((size_t)w->count * 4 + 1);
    size_t used = 0;
    for (int64_t i = 0; text != NULL && i < w->count; i++) {
        char bytes[5];
        const int n = swt_tokenizer_decode(&s->tokenizer, w->ids[i], bytes);
        memcpy(text + used, bytes, (size_t)n);
        used += (size_t)n;
    }
    if (text != NULL)
        text[used] = '\0';
    *out_bytes = used;
    return text;
}

swt_status swt_generate(swt_session *s, const int32_t *prompt, int64_t prompt_count, int64_t tokens,
                        const swt_sampling *how, char **out, size_t *out_bytes) {
    const int64_t V = s->model.dims.V;
    swt_status status = SWT_OK;
    writer w = {.ids = calloc((size_t)(prompt_count + tokens), sizeof(int32_t)),
                .count = prompt_count,
                .prompt_count = prompt_count,
                .logits = malloc((size_t)V * sizeof(float)),
                .weights = malloc((size_t)V * sizeof(double))};
    *out = NULL;
    swt_progress_phase(s->world->progress, SWT_PHASE_SAMPLE);
    if (w.ids == NULL || w.logits == NULL || w.weights == NULL)
        status = SWT_FAIL(MEMORY, "memory: no room for %lld tokens; use fewer", (long long)tokens);
    else
        memcpy(w.ids, prompt, (size_t)prompt_count * sizeof *prompt);
    SWT_TRY_TO(status, done, swt_comm_agree(s->world, status));
    swt_pace pace = {0};
    for (int64_t i = 0; i < tokens; i++) {
        SWT_TRY_TO(status, done, next_logits(s, &w));
        if (!all_finite(w.logits, V)) /* all ranks have the same */
            status =
                SWT_FAIL(NUMBERS, "generate: the model's logits are not finite; use an earlier "
                                  "checkpoint");
        if (status != SWT_OK)
            SWT_TRY_TO(status, done, swt_comm_agree(s->world, status));
        SWT_TRY_TO(status, done, swt_stop_look(s, &pace));
        w.ids[w.count] = choose(&w, V, how);
        w.count++;
    }
    *out = decode(s, &w, out_bytes);
    if (*out == NULL)
        status =
            SWT_FAIL(MEMORY, "memory: no room for the text of %lld tokens", (long long)w.count);
done:
    free(w.weights);
    free(w.logits);
    free(w.ids);
    return status;
}
