#include "model/params.h"

#include "base/checked.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    ALIGN_ELEMENTS = 32,   /* 64 bytes also in BF16 */
    MOST_TENSORS = 1 << 24 /* a table of 3 GiB; Switch-C has 61,000 */
};

/* The walk over the model. It counts, in time that does not grow with the experts; where there is a
 * table, it fills it; where there is a visitor, it shows every tensor until the first error. */
struct swt_param_walk {
    const swt_dims *d;
    const swt_dist *dist; /* NULL: nobody holds anything yet */
    swt_params *p;
    swt_param_visit visit;
    void *context;
    swt_status status;       /* of the visitor */
    int64_t shared, experts; /* next free element of the two parts */
    int64_t block, role;
    char prefix[48]; /* of the names of the sub-layer under way: "decoder.0.attn." */
};

static int64_t align(int64_t elements) {
    return swt_ceil_div(elements, ALIGN_ELEMENTS) * ALIGN_ELEMENTS;
}

static void add_entry(swt_param_walk *w, swt_param entry) {
    swt_params *p = w->p;
    entry.block = w->block;
    entry.role = w->role;
    p->total += entry.count;
    if (entry.expert <= 0)
        p->active += entry.count;
    p->largest = swt_max(p->largest, entry.count);
    if (p->table != NULL)
        p->table[p->count] = entry;
    p->count++;
    if (w->visit != NULL && w->status == SWT_OK)
        w->status = w->visit(w->context, &entry);
}

/* A shared tensor (rows, cols), or (rows) with cols = 0, at the next free place. */
static int64_t add_shared(swt_param_walk *w, swt_param_kind kind, const int64_t shape[2],
                          int64_t fan_in, const char *name, const char *suffix) {
    swt_param entry = {.kind = kind,
                       .dims = shape[1] > 0 ? 2 : 1,
                       .shape = {shape[0], shape[1]},
                       .count = shape[0] * swt_max(shape[1], 1),
                       .fan_in = fan_in,
                       .expert = -1,
                       .offset = w->shared};
    snprintf(entry.name, sizeof entry.name, "%s%s.%s", w->prefix, name, suffix);
    add_entry(w, entry);
    w->role++;
    w->shared += entry.count;
    return entry.offset;
}

/* What the experts of a layer lie in: this rank's side by side, and of each its parts. */
typedef struct expert_rows {
    int64_t begin, width; /* of the first of them; elements of an expert, all parts */
    int64_t first, own;   /* this rank's experts */
} expert_rows;

/* One part's tensor of every expert, `at` elements behind where the expert begins. */
static void add_part(swt_param_walk *w, const expert_rows *rows, int64_t at, swt_param entry,
                     const char *part, const char *suffix) {
    const bool each = w->p->table != NULL || w->visit != NULL;
    if (!each) { /* all but the first, which is counted as any tensor */
        w->p->count += w->d->E - 1;
        w->p->total += (w->d->E - 1) * entry.count;
    }
    for (int64_t e = 0; e < (each ? w->d->E : 1) && w->status == SWT_OK; e++) {
        const int64_t local = e - rows->first;
        entry.expert = e;
        entry.offset =
            local >= 0 && local < rows->own ? rows->begin + local * rows->width + at : -1;
        snprintf(entry.name, sizeof entry.name, "%sexperts.%lld.%s.%s", w->prefix, (long long)e,
                 part, suffix);
        add_entry(w, entry);
    }
    w->role++;
}

static int64_t add_experts(swt_param_walk *w, swt_param_kind kind, const int64_t shape[2],
                           int64_t fan_in, const char *const *parts, const char *suffix) {
    const int64_t count = shape[0] * swt_max(shape[1], 1);
    expert_rows rows = {.begin = align(w->experts)};
    if (w->dist != NULL) {
        rows.first = w->dist->first_own;
        rows.own = w->dist->El;
    }
    for (int i = 0; parts[i] != NULL; i++)
        rows.width += count;
    for (int i = 0; parts[i] != NULL; i++)
        add_part(w, &rows, i * count,
                 (swt_param){.kind = kind,
                             .dims = shape[1] > 0 ? 2 : 1,
                             .shape = {shape[0], shape[1]},
                             .count = count,
                             .fan_in = fan_in},
                 parts[i], suffix);
    w->experts = rows.begin + rows.own * rows.width;
    return rows.begin;
}

static swt_place add_norm(swt_param_walk *w, const char *name) {
    const int64_t C = w->d->C, shape[2] = {C, 0};
    swt_place p = {.bias = -1, .out = C, .in = C};
    w->shared = align(w->shared);
    p.weight = add_shared(w, SWT_PARAM_NORM_WEIGHT, shape, C, name, "weight");
    if (w->d->norm == SWT_NORM_RMSNORM)
        return p;
    w->shared = align(w->shared);
    p.bias = add_shared(w, SWT_PARAM_NORM_BIAS, shape, C, name, "bias");
    return p;
}

swt_place swt_params_linear(swt_param_walk *w, const char *const *parts, int64_t out, int64_t in) {
    const int64_t weight[2] = {out, in}, bias[2] = {out, 0};
    swt_place p = {.weight = align(w->shared), .bias = -1, .in = in};
    w->shared = p.weight;
    for (int i = 0; parts[i] != NULL; i++) {
        add_shared(w, SWT_PARAM_WEIGHT, weight, in, parts[i], "weight");
        p.out += out;
    }
    if (!w->d->bias)
        return p;
    p.bias = w->shared = align(w->shared);
    for (int i = 0; parts[i] != NULL; i++)
        add_shared(w, SWT_PARAM_BIAS, bias, in, parts[i], "bias");
    return p;
}

swt_place swt_params_experts(swt_param_walk *w, const char *const *parts, int64_t out, int64_t in) {
    const int64_t weight[2] = {out, in}, bias[2] = {out, 0};
    swt_place p = {.bias = -1, .in = in};
    for (int i = 0; parts[i] != NULL; i++)
        p.out += out;
    p.weight = add_experts(w, SWT_PARAM_WEIGHT, weight, in, parts, "weight");
    if (w->d->bias)
        p.bias = add_experts(w, SWT_PARAM_BIAS, bias, in, parts, "bias");
    return p;
}

const char *const *swt_params_wi(const swt_dims *d) {
    static const char *const alone[] = {"wi", NULL}, *const gated[] = {"wi", "wg", NULL};
    return d->ffn == SWT_FFN_GEGLU ? gated : alone;
}

/* Roles begin again in every block. */
static void walk_sublayer(swt_param_walk *w, const swt_sublayer *s, swt_places *out) {
    const swt_kind *kind = swt_kind_of(s);
    const char *stack = swt_stack_name(s->stack);
    w->block = s->block;
    snprintf(w->prefix, sizeof w->prefix, "%s.%lld.", stack, (long long)s->block);
    out->norm = add_norm(w, kind->norm);
    snprintf(w->prefix, sizeof w->prefix, "%s.%lld.%s.", stack, (long long)s->block, kind->name);
    kind->params(w, w->d, out);
}

/* Roles are those of the decoder, and as many again of the encoder: what is random differs. Behind
 * the last role of any block, sparse or dense, stand those of the stack itself. */
static void walk_stack(swt_param_walk *w, swt_stack stack, int64_t block_role) {
    enum { OF_BLOCK = 64, OF_BIAS = 128, OF_ENCODER = 1024 };
    const swt_dims *d = w->d;
    swt_params *p = w->p;
    const int64_t first = swt_sublayer_first(d, stack),
                  begin = stack == SWT_ENCODER ? OF_ENCODER : 0;
    const int64_t end =
        stack == SWT_ENCODER ? swt_sublayer_first(d, SWT_DECODER) : swt_sublayer_count(d);
    swt_places unused = {0};
    for (int64_t i = first; i < end && w->status == SWT_OK; i++) {
        const swt_sublayer s = swt_sublayer_at(d, i);
        if (s.block != w->block || i == first)
            w->role = begin + block_role;
        walk_sublayer(w, &s, p->places != NULL ? &p->places[i] : &unused);
    }
    w->block = 0;
    w->role = begin + block_role + OF_BLOCK;
    snprintf(w->prefix, sizeof w->prefix, "%s.", swt_stack_name(stack));
    p->final_norm[stack] = add_norm(w, "final_norm");
    if (d->positions == SWT_POSITIONS_RELATIVE) {
        const int64_t next = w->role; /* the head's */
        w->role = begin + block_role + OF_BIAS;
        w->shared = align(w->shared);
        p->rel_bias[stack] = (swt_place){.bias = -1, .out = SWT_BIAS_BUCKETS, .in = d->H};
        p->rel_bias[stack].weight = add_shared(
            w, SWT_PARAM_WEIGHT, (int64_t[]){SWT_BIAS_BUCKETS, d->H}, d->C, "rel_bias", "weight");
        w->role = next;
    }
}

/* The experts' part begins at element `experts`. */
static void walk_model(swt_param_walk *w, int64_t experts) {
    const swt_dims *d = w->d;
    swt_params *p = w->p;
    w->experts = experts;
    p->embed = (swt_place){.bias = -1, .out = d->V, .in = d->C};
    p->embed.weight =
        add_shared(w, SWT_PARAM_EMBED, (int64_t[]){d->V, d->C}, d->C, "embed", "weight");
    const int64_t block_role = w->role;
    for (int stack = 0; stack < SWT_STACKS; stack++)
        if (swt_stack_blocks(d, (swt_stack)stack) > 0)
            walk_stack(w, (swt_stack)stack, block_role);
    w->block = 0;
    w->prefix[0] = '\0';
    p->head =
        d->tied ? p->embed : swt_params_linear(w, (const char *const[]){"head", NULL}, d->V, d->C);
}

swt_status swt_params_visit(const swt_dims *d, swt_param_visit visit, void *context) {
    swt_params none = {0};
    swt_param_walk w = {.d = d, .p = &none, .visit = visit, .context = context};
    walk_model(&w, 0);
    return w.status;
}

/* Two walks: the first counts, and tells where the shared part ends, which is where the experts'
 * begins. */
swt_status swt_params_init(swt_params *out, const swt_dims *d, const swt_dist *dist) {
    *out = (swt_params){0};
    swt_param_walk w = {.d = d, .dist = dist, .p = out};
    walk_model(&w, 0);
    const size_t count = (size_t)out->count, sublayers = (size_t)swt_sublayer_count(d);
    *out = (swt_params){.shared_end = align(w.shared)};
    if (count > MOST_TENSORS)
        return SWT_FAIL(
            MEMORY,
            "memory: a model of %zu named tensors is larger than any machine; use fewer "
            "model.layers or moe.experts",
            count);
    out->places = calloc(sublayers, sizeof *out->places);
    out->table = calloc(count, sizeof *out->table);
    if (out->places == NULL || out->table == NULL) {
        swt_params_fini(out);
        return SWT_FAIL(MEMORY, "memory: no room for the table of %zu parameters", count);
    }
    w = (swt_param_walk){.d = d, .dist = dist, .p = out};
    walk_model(&w, out->shared_end);
    out->end = align(w.experts);
    return SWT_OK;
}

void swt_params_fini(swt_params *p) {
    free(p->table);
    free(p->places);
    *p = (swt_params){0};
}

/* A normal number cut at two deviations: redrawn until it lies within. Each try has its own
 * counter. */
static double truncated_normal(uint64_t seed, uint32_t element, uint32_t expert, uint32_t role,
                               uint32_t block) {
    for (uint32_t attempt = 0;; attempt++) {
        const swt_rng_u32x4 r =
            swt_rng(seed, element, expert, role + 65536u * attempt, SWT_RNG_INIT, block);
        const double x = swt_rng_normal(r.v[0], r.v[1]);
        if (fabs(x) <= 2.0)
            return x;
    }
}

int swt_param_holder(const swt_param *p, const swt_dist *dist) {
    return p->expert >= 0 ? swt_dist_owner(dist, p->expert) : 0;
}

void swt_param_values(float *out, const swt_param *p, swt_init init, double init_scale,
                      uint64_t seed) {
    const bool copies = init == SWT_INIT_LABML;
    const uint32_t expert = copies || p->expert < 0 ? 0 : (uint32_t)p->expert;
    const uint32_t block = copies ? 0 : (uint32_t)p->block, role = (uint32_t)p->role;
    const double bound = 1.0 / sqrt((double)p->fan_in), std = sqrt(init_scale / (double)p->fan_in);
    const bool cut = init == SWT_INIT_SWITCH;
    for (int64_t i = 0; i < p->count; i++) {
        const swt_rng_u32x4 r = swt_rng(seed, (uint32_t)i, expert, role, SWT_RNG_INIT, block);
        const double uniform = bound * (2.0 * swt_rng_uniform(r.v[0]) - 1.0);
        double x = 0.0;
        switch (p->kind) {
        case SWT_PARAM_EMBED:
            x = swt_rng_normal(r.v[0], r.v[1]);
            break;
        case SWT_PARAM_WEIGHT:
            x = cut ? std * truncated_normal(seed, (uint32_t)i, expert, role, block) : uniform;
            break;
        case SWT_PARAM_BIAS:
            x = cut ? 0.0 : uniform;
            break;
        case SWT_PARAM_NORM_WEIGHT:
            x = 1.0;
            break;
        case SWT_PARAM_NORM_BIAS:
            break;
        }
        out[i] = (float)x;
    }
}
