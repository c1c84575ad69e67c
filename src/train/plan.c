/* The plan command: what every rank would allocate, send and compute. Allocates nothing of it. */
#include "model/cost.h"
#include "train/session.h"

#include <stdio.h>

static double mib(size_t bytes) {
    return (double)bytes / 1048576.0;
}

static void print_model(FILE *out, const swt_model *m) {
    const swt_dims *d = &m->dims;
    const double dense = swt_dense_flops_per_token(d);
    const double expert = (double)swt_sparse_layers(d) * swt_expert_flops_per_slot(d);
    fprintf(out,
            "model       %lld layers (%lld sparse), width %lld, %lld heads of %lld, hidden %lld, "
            "vocabulary %lld, %lld experts\n",
            (long long)d->L, (long long)swt_sparse_layers(d), (long long)d->C, (long long)d->H,
            (long long)d->D, (long long)d->F, (long long)d->V, (long long)d->E);
    fprintf(
        out,
        "step        %lld micro-batches of %lld x %lld tokens, %lld slots per expert in messages\n",
        (long long)d->M, (long long)d->B, (long long)d->T, (long long)m->K);
    fprintf(out, "parameters  %lld in all, %lld active per token\n", (long long)m->params.total,
            (long long)m->params.active);
    fprintf(out, "FLOPs       %.4g per token forward, %.4g forward and backward\n\n",
            dense + expert, 3.0 * (dense + expert));
}

static void print_heading(FILE *out) {
    fprintf(out, "%6s %8s %12s", "rank", "experts", "parameters");
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        fprintf(out, " %11s", swt_arena_category_name((swt_arena_category)i));
    fprintf(out, " %11s %14s %14s\n", "total", "all-to-all", "all-reduce");
    fprintf(out, "%6s %8s %12s", "", "", "");
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        fprintf(out, " %11s", "MiB");
    fprintf(out, " %11s %14s %14s\n", "MiB", "MiB/step", "MiB/step");
}

static int64_t own_parameters(const swt_params *p) {
    int64_t n = 0;
    for (int64_t i = 0; i < p->count; i++)
        n += p->table[i].offset >= 0 ? p->table[i].count : 0;
    return n;
}

/* Message bytes of a step: slots of the exchanges, and the gradients given to the reductions. */
static void print_rank(FILE *out, const swt_model *m) {
    const swt_dims *d = &m->dims;
    const swt_pass full = {.B = d->B, .T = d->T, .training = true};
    const int64_t K = m->K > 0 ? swt_pass_moe_dims(m, &full, 0).K : 0;
    const size_t gradient = d->M > 1 ? sizeof(int64_t) : sizeof(float);
    const swt_dist *dist = m->dist;
    const int64_t shared = dist->size > 1 ? m->params.shared_end : 0;
    const int64_t experts = dist->size > dist->P ? m->params.end - m->params.shared_end : 0;
    const size_t reduced = (size_t)(shared + experts) * gradient;
    size_t total = 0;
    fprintf(out, "%6d %8lld %12lld", m->dist->rank, (long long)m->dist->El,
            (long long)own_parameters(&m->params));
    for (int i = 0; i < SWT_ARENA_COUNT; i++) {
        fprintf(out, " %11.3f", mib(m->arenas[i].used_bytes));
        total += m->arenas[i].used_bytes;
    }
    fprintf(out, " %11.3f %14.3f %14.3f\n", mib(total),
            swt_all_to_all_bytes(d, m->dist, K) / 1048576.0, mib(reduced));
}

static swt_status plan_rank(FILE *out, const swt_options *o, const swt_dims *d, int rank) {
    swt_dist dist;
    swt_model m;
    SWT_TRY(swt_dist_init(&dist, (int)o->plan_ranks, rank, d->E,
                          swt_sparse_layers(d) > 0 ? o->dist_expert_ranks : 0));
    swt_status status = swt_model_plan(&m, d, &dist, true, swt_needs_moments(o));
    if (status == SWT_OK) {
        if (rank == 0) {
            print_model(out, &m);
            print_heading(out);
        }
        print_rank(out, &m);
        swt_model_fini(&m);
    }
    swt_dist_fini(&dist);
    return status;
}

swt_status swt_command_plan(swt_session *s) {
    const swt_options *o = s->options;
    swt_dims d;
    if (s->world->rank != 0)
        return SWT_OK;
    if (o->model_vocab == 0)
        SWT_TRY(swt_session_read_text(s, NULL));
    SWT_TRY(swt_dims_from_options(&d, o, o->model_vocab == 0 ? s->tokenizer.vocab : 0));
    for (int rank = 0; rank < o->plan_ranks; rank++)
        SWT_TRY(plan_rank(s->out, o, &d, rank));
    return SWT_OK;
}
