/* The plan command: what every rank would allocate, send and compute. Allocates nothing of it. */
#include "base/words.h"
#include "commands/commands.h"
#include "model/cost.h"
#include "train/header.h"
#include "train/rundir.h"

#include <stdio.h>
#include <string.h>

/* What an expert has room for in the layers of a stack, and what is sent in any case. */
static void print_slots_of(FILE *out, const swt_model *m, swt_stack stack) {
    const swt_dims *d = &m->dims;
    const int64_t groups = swt_groups_per_micro_batch(d, d->B), tokens = swt_group_tokens(d, stack);
    const bool two = d->encoder_L > 0;
    if (swt_sparse_blocks(d, stack) == 0)
        return;
    fprintf(out,
            "slots       %lld per expert and %s in training, %lld in evaluation, %lld in "
            "messages%s%s\n",
            (long long)swt_group_capacity(d, tokens, true), groups > 1 ? "sequence" : "micro-batch",
            (long long)swt_group_capacity(d, tokens, false), (long long)m->message_slots,
            two ? ", of the " : "", two ? swt_stack_name(stack) : "");
}

static void print_slots(FILE *out, const swt_model *m) {
    const swt_dims *d = &m->dims;
    swt_warnings none = {.count = 0};
    if (swt_sparse_layers(d) == 0)
        return;
    print_slots_of(out, m, SWT_ENCODER);
    print_slots_of(out, m, SWT_DECODER);
    for (int training = 1; training >= 0; training--)
        swt_header_warn_of_no_room(&none, d, training);
    for (int i = 0; i < none.count; i++)
        fprintf(out, "warning: %s\n", none.lines[i]);
}

static void print_model(FILE *out, const swt_model *m) {
    const swt_dims *d = &m->dims;
    const double dense = swt_dense_flops_per_token(d);
    const double routes = swt_step_routes(d);
    const double expert = routes / (double)swt_step_tokens(d) * swt_expert_flops_per_slot(d);
    if (d->encoder_L > 0)
        fprintf(out, "encoder     %lld layer%s, sequences of %lld tokens\n",
                (long long)d->encoder_L, swt_plural(d->encoder_L), (long long)d->encoder_T);
    fprintf(out,
            "model       %lld layer%s (%lld sparse), width %lld, %lld head%s of %lld, hidden %lld, "
            "vocabulary %lld, %lld expert%s\n",
            (long long)d->L, swt_plural(d->L), (long long)swt_sparse_blocks(d, SWT_DECODER),
            (long long)d->C, (long long)d->H, swt_plural(d->H), (long long)d->D, (long long)d->F,
            (long long)d->V, (long long)d->E, swt_plural(d->E));
    fprintf(out, "step        %lld micro-batch%s of %lld x %lld tokens\n", (long long)d->M,
            swt_plural_es(d->M), (long long)d->B, (long long)d->T);
    print_slots(out, m);
    fprintf(out, "parameters  %lld in all, %lld active per token\n", (long long)m->params.total,
            (long long)m->params.active);
    fprintf(out, "FLOPs       %.4g per token forward, %.4g forward and backward\n", dense + expert,
            3.0 * (dense + expert));
    fprintf(out, "            %.6g a step with no token dropped, %.6g with every slot filled\n",
            swt_step_flops(d, routes), swt_step_flops(d, swt_step_slots(d)));
}

/* The text is no part of the plan: every rank holds it beside its arenas. */
static void print_text(FILE *out, const swt_data *data) {
    const size_t bytes =
        (size_t)data->count * sizeof *data->ids + (size_t)data->train_windows * sizeof *data->order;
    if (data->count > 0)
        fprintf(out, "text        %lld tokens, %.3f MiB more on every rank\n",
                (long long)data->count, swt_mib((double)bytes));
}

/* GPUs by their memory, and what a program finds of it, in whole GiB. Beside the plan's arenas it
 * holds the driver's context, libraries' code and NCCL's buffers, for which there is an allowance.
 */
enum { BESIDE_MIB = 1024 };
static const struct {
    const char *name;
    double gib;
} known_gpus[] = {
    {"16 GB (T4)", 14},     {"24 GB (L4)", 22},         {"40 GB (A100)", 39},
    {"48 GB (L40S)", 44},   {"80 GB (A100, H100)", 79}, {"141 GB (H200)", 140},
    {"180 GB (B200)", 178},
};

/* All arenas but the host's are in the memory of the device. Rank 0 has as much as any rank: as
 * many experts, and what the first rank has alone. */
static void print_device(FILE *out, const swt_model *m) {
    const size_t count = sizeof known_gpus / sizeof *known_gpus;
    double mib = 0.0;
    size_t i = 0;
    for (int a = 0; a < SWT_ARENA_COUNT; a++)
        mib += a != SWT_ARENA_HOST ? swt_mib((double)m->arenas[a].used_bytes) : 0.0;
    while (i < count && mib + BESIDE_MIB > 1024.0 * known_gpus[i].gib)
        i++;
    fprintf(out, "device      %.1f MiB of a rank at most, all but HOST; ", mib);
    if (i < count)
        fprintf(out, "with %d beside them that fits a GPU of %s\n", BESIDE_MIB, known_gpus[i].name);
    else
        fprintf(out, "no GPU has that: use more ranks, or fewer sequences\n");
}

/* Both tables have the same columns up to the total. */
static void print_heading(FILE *out, const char *first, const char *second) {
    fprintf(out, "\n%6s %8s %12s", first, second, "parameters");
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        fprintf(out, " %11s", swt_arena_category_name((swt_arena_category)i));
    fprintf(out, " %11s", "total");
}

static void print_units(FILE *out) {
    fprintf(out, "\n%6s %8s %12s", "", "", "");
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        fprintf(out, " %11s", "MiB");
    fprintf(out, " %11s", "MiB");
}

/* One line of either table: what stands under the arenas' names, and the total. */
typedef struct holding {
    int64_t parameters;
    size_t bytes[SWT_ARENA_COUNT];
} holding;

static void print_holding(FILE *out, const holding *h) {
    size_t total = 0;
    fprintf(out, " %12lld", (long long)h->parameters);
    for (int i = 0; i < SWT_ARENA_COUNT; i++) {
        fprintf(out, " %11.3f", swt_mib((double)h->bytes[i]));
        total += h->bytes[i];
    }
    fprintf(out, " %11.3f", swt_mib((double)total));
}

/* Parameters of this rank whose names begin so, among the first `end` of the flat array. */
static int64_t own_parameters(const swt_params *params, const char *prefix, int64_t end) {
    int64_t n = 0;
    for (int64_t i = 0; i < params->count; i++) {
        const swt_param *p = &params->table[i];
        if (p->offset >= 0 && p->offset < end && strncmp(p->name, prefix, strlen(prefix)) == 0)
            n += p->count;
    }
    return n;
}

/* Elements that the optimiser keeps of them. */
static int64_t own_kept(const swt_model *m, const char *prefix) {
    int64_t n = 0;
    for (int64_t i = 0; i < m->params.count; i++) {
        const swt_param *p = &m->params.table[i];
        if (p->offset >= 0 && strncmp(p->name, prefix, strlen(prefix)) == 0)
            n += swt_optim_count(p, m->keeps);
    }
    return n;
}

static holding whole_rank(const swt_model *m) {
    holding h = {.parameters = own_parameters(&m->params, "", m->params.end)};
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        h.bytes[i] = m->arenas[i].used_bytes;
    return h;
}

/* The layer, which is a block, of a feed-forward. */
static holding one_layer(const swt_model *m, const swt_sublayer *ffn) {
    char prefix[48];
    snprintf(prefix, sizeof prefix, "%s.%lld.", swt_stack_name(ffn->stack), (long long)ffn->block);
    const int64_t n = own_parameters(&m->params, prefix, m->params.end);
    const int64_t sums = own_parameters(&m->params, prefix, m->sum_count);
    holding h = {.parameters = n};
    const size_t copy = m->ctx.dtype != SWT_F32 ? swt_dtype_bytes(m->ctx.dtype) : 0;
    h.bytes[SWT_ARENA_PARAM] = (size_t)n * (sizeof(float) + copy);
    h.bytes[SWT_ARENA_GRAD] = (size_t)n * sizeof(float) + (size_t)sums * sizeof(int64_t);
    h.bytes[SWT_ARENA_OPT] = (size_t)own_kept(m, prefix) * sizeof(float);
    for (int64_t i = 0; i < m->n_sublayers; i++)
        if (m->sublayers[i].stack == ffn->stack && m->sublayers[i].block == ffn->block)
            h.bytes[SWT_ARENA_ACT] += m->sublayers[i].kept_bytes;
    return h;
}

/* Bytes per token of one micro-batch that a step works on: activations, scratch and messages. The
 * backend's workspace, which stands where there is scratch, does not grow with tokens. */
static double working_bytes(const holding *h, int64_t workspace_bytes, int64_t tokens) {
    const size_t scratch = h->bytes[SWT_ARENA_SCRATCH];
    const size_t constant = scratch > 0 ? (size_t)workspace_bytes : 0;
    const size_t bytes = h->bytes[SWT_ARENA_ACT] + scratch - constant + h->bytes[SWT_ARENA_COMM];
    return (double)bytes / (double)tokens;
}

/* A line for a stack's layers of one kind; what they have is taken from `rest`. */
static void print_layer(FILE *out, const swt_model *m, swt_stack stack, swt_sublayer_kind kind,
                        holding *rest) {
    const swt_dims *d = &m->dims;
    const swt_sublayer *example = swt_model_first_of(m, stack, kind);
    const int64_t sparse = swt_sparse_blocks(d, stack), all = swt_stack_blocks(d, stack);
    const int64_t number = kind == SWT_SWITCH ? sparse : all - sparse;
    if (example == NULL)
        return;
    const holding one = one_layer(m, example);
    fprintf(out, "%6s %8lld", kind == SWT_SWITCH ? "sparse" : "dense", (long long)number);
    print_holding(out, &one);
    fprintf(out, " %14.1f%s%s\n", working_bytes(&one, 0, d->B * swt_stack_positions(d, stack)),
            d->encoder_L > 0 ? "  " : "", d->encoder_L > 0 ? swt_stack_name(stack) : "");
    rest->parameters -= number * one.parameters;
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        rest->bytes[i] -= (size_t)number * one.bytes[i];
}

/* What one more layer or one more token would cost this rank: a line for each kind of layer, with
 * the activations that it keeps for its backward pass, and one for all that layers share. */
static void print_layers(FILE *out, const swt_model *m) {
    const swt_dims *d = &m->dims;
    holding rest = whole_rank(m);
    print_heading(out, "layer", "number");
    fprintf(out, " %14s", "activations");
    print_units(out);
    fprintf(out, " %14s\n", "bytes/token");
    for (int stack = 0; stack < SWT_STACKS; stack++) {
        print_layer(out, m, (swt_stack)stack, SWT_DENSE, &rest);
        print_layer(out, m, (swt_stack)stack, SWT_SWITCH, &rest);
    }
    fprintf(out, "%6s %8d", "rest", 1);
    print_holding(out, &rest);
    fprintf(out, " %14.1f\n",
            working_bytes(&rest, m->ctx.ops->workspace_bytes, d->B * (d->encoder_T + d->T)));
}

/* What is a rank's own. Ranks of one kind have the same: their number of experts, and whether they
 * are the first rank and of the first replica, decides it. */
typedef struct rank_plan {
    int64_t experts;
    bool first, first_replica;
    holding whole;
    double sent_mib,
        reduced_mib; /* message bytes of a step: slots, gradients given to reductions */
} rank_plan;

static rank_plan plan_of(const swt_model *m) {
    const swt_dims *d = &m->dims;
    const swt_dist *dist = m->dist;
    const size_t gradient = d->M > 1 ? sizeof(int64_t) : sizeof(float);
    const int64_t shared = dist->size > 1 ? m->params.shared_end : 0;
    const int64_t experts = dist->size > dist->P ? m->params.end - m->params.shared_end : 0;
    return (rank_plan){.experts = dist->El,
                       .first = dist->rank == 0,
                       .first_replica = dist->replica == 0,
                       .whole = whole_rank(m),
                       .sent_mib = swt_mib(swt_all_to_all_bytes(d, dist)),
                       .reduced_mib = swt_mib((double)((size_t)(shared + experts) * gradient))};
}

static void print_rank(FILE *out, int rank, const rank_plan *p) {
    fprintf(out, "%6d %8lld", rank, (long long)p->experts);
    print_holding(out, &p->whole);
    fprintf(out, " %14.3f %14.3f\n", p->sent_mib, p->reduced_mib);
}

/* What a GPU's plan has to fit into, where this machine has one. */
static void print_gpu(FILE *out) {
    swt_device gpu = {0};
    size_t free_bytes = 0, total_bytes = 0;
    if (swt_cuda_backend.open(&gpu, 0, 1) != SWT_OK) {
        fprintf(out, "memory      that of a GPU; this machine has none that can be used\n");
        return;
    }
    if (swt_device_room(&gpu, &free_bytes, &total_bytes) == SWT_OK)
        fprintf(out, "memory      that of a GPU; GPU 0 here has %.1f MiB of %.1f free\n",
                swt_mib((double)free_bytes), swt_mib((double)total_bytes));
    swt_device_close(&gpu);
}

/* Asked for, or to be had. */
static const swt_backend *backend_of(const swt_options *o) {
    int gpus = 0;
    if (o->run_device == SWT_DEVICE_AUTO &&
        (swt_cuda_backend.ops == NULL || swt_cuda_backend.count(&gpus) != SWT_OK || gpus == 0))
        return &swt_cpu_backend;
    return o->run_device == SWT_DEVICE_CPU ? &swt_cpu_backend : &swt_cuda_backend;
}

static void print_above_ranks(FILE *out, const swt_model *m, const swt_data *data,
                              const swt_backend *backend) {
    print_model(out, m);
    print_text(out, data);
    print_device(out, m);
    if (backend == &swt_cuda_backend)
        print_gpu(out);
    print_layers(out, m);
    print_heading(out, "rank", "experts");
    fprintf(out, " %14s %14s", "all-to-all", "all-reduce");
    print_units(out);
    fprintf(out, " %14s %14s\n", "MiB/step", "MiB/step");
}

/* Plan for one rank; the first one's plan has what is above the ranks' table. */
static swt_status plan_rank(swt_session *s, const swt_dims *d, const swt_backend *backend, int rank,
                            rank_plan *out) {
    const swt_options *o = s->options;
    swt_dist dist;
    swt_model m;
    SWT_TRY(swt_dist_from_options(&dist, o, d, (int)o->plan_ranks, rank));
    swt_status status = swt_model_plan(&m, d, &dist, backend->ops, true, swt_optim_keeps_of(o));
    if (status == SWT_OK) {
        if (rank == 0)
            print_above_ranks(s->out, &m, &s->data, backend);
        *out = plan_of(&m);
        swt_model_fini(&m);
    }
    swt_dist_fini(&dist);
    return status;
}

/* A line for each rank, planned once for each kind of rank. */
static swt_status print_ranks(swt_session *s, const swt_dims *d, const swt_backend *backend) {
    const swt_options *o = s->options;
    enum { KINDS = 8 }; /* two numbers of experts, first or not, first replica or not */
    rank_plan kinds[KINDS];
    int known = 0;
    swt_dist layout; /* of rank 0, which knows every rank's experts */
    SWT_TRY(swt_dist_from_options(&layout, o, d, (int)o->plan_ranks, 0));
    swt_status status = SWT_OK;
    for (int rank = 0; rank < o->plan_ranks && status == SWT_OK; rank++) {
        const int position = rank % layout.P, replica = rank / layout.P;
        const int64_t experts = layout.first[position + 1] - layout.first[position];
        int k = 0;
        while (k < known && (kinds[k].experts != experts || kinds[k].first != (rank == 0) ||
                             kinds[k].first_replica != (replica == 0)))
            k++;
        if (k == known && known < KINDS)
            status = plan_rank(s, d, backend, rank, &kinds[known++]);
        if (status == SWT_OK)
            print_rank(s->out, rank, &kinds[k]);
    }
    swt_dist_fini(&layout);
    return status;
}

swt_status swt_command_plan(swt_session *s) {
    const swt_options *o = s->options;
    swt_dims d;
    if (s->world->rank != 0)
        return SWT_OK;
    if (o->dims.V == 0) {
        char dir[SWT_PATH_BYTES];
        const bool own = o->run_init_from[0] == '\0';
        if (!own)
            SWT_TRY(swt_checkpoint_find(dir, o->run_init_from));
        SWT_TRY(swt_session_read_text(s, own ? NULL : dir));
        swt_session_say_warnings(s);
    }
    SWT_TRY(swt_dims_from_options(&d, o, o->dims.V == 0 ? s->tokenizer.vocab : 0));
    const swt_backend *backend = backend_of(o);
    return print_ranks(s, &d, backend);
}
