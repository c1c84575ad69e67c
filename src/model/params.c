#include "model/params.h"

#include "base/checked.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ALIGN_ELEMENTS = 32,   /* 64 bytes also in BF16 */
    MOST_TENSORS = 1 << 24 /* a table of 3 GiB; Switch-C has 61,000 */
};

/* The walk over the model. It counts, in time that does not grow with the experts; where there is a
 * table, it fills it; where there is a visitor, it shows every tensor until the first error. */
typedef struct walk {
    const swt_dims *d;
    const swt_dist *dist; /* NULL: nobody holds anything yet */
    swt_params *p;
    swt_param_visit visit;
    void *context;
    swt_status status;       /* of the visitor */
    int64_t shared, experts; /* next free element of the two parts */
    int64_t layer, role;
} walk;

static int64_t align(int64_t elements) {
    return swt_ceil_div(elements, ALIGN_ELEMENTS) * ALIGN_ELEMENTS;
}

static void add_entry(walk *w, swt_param entry) {
    swt_params *p = w->p;
    entry.layer = w->layer;
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
static int64_t add_shared(walk *w, swt_param_kind kind, int64_t rows, int64_t cols, int64_t fan_in,
                          const char *fmt, ...) SWT_PRINTF(6, 7);
static int64_t add_shared(walk *w, swt_param_kind kind, int64_t rows, int64_t cols, int64_t fan_in,
                          const char *fmt, ...) {
    swt_param entry = {.kind = kind,
                       .dims = cols > 0 ? 2 : 1,
                       .shape = {rows, cols},
                       .count = rows * swt_max(cols, 1),
                       .fan_in = fan_in,
                       .expert = -1,
                       .offset = w->shared};
    va_list args;
    va_start(args, fmt);
    vsnprintf(entry.name, sizeof entry.name, fmt, args);
    va_end(args);
    add_entry(w, entry);
    w->role++;
    w->shared += entry.count;
    return entry.offset;
}

/* One tensor of every expert of a layer; this rank's stand side by side. */
static int64_t add_experts(walk *w, swt_param_kind kind, int64_t rows, int64_t cols, int64_t fan_in,
                           const char *part) {
    const int64_t begin = align(w->experts), count = rows * swt_max(cols, 1);
    const int64_t own = w->dist != NULL ? w->dist->El : 0;
    const int64_t first_own = w->dist != NULL ? w->dist->first_own : 0;
    const bool each = w->p->table != NULL || w->visit != NULL;
    if (!each) { /* all but the first, which is counted as any tensor */
        w->p->count += w->d->E - 1;
        w->p->total += (w->d->E - 1) * count;
    }
    for (int64_t e = 0; e < (each ? w->d->E : 1) && w->status == SWT_OK; e++) {
        const int64_t local = e - first_own;
        swt_param entry = {.kind = kind,
                           .dims = cols > 0 ? 2 : 1,
                           .shape = {rows, cols},
                           .count = count,
                           .fan_in = fan_in,
                           .expert = e,
                           .offset = local >= 0 && local < own ? begin + local * count : -1};
        snprintf(entry.name, sizeof entry.name, "decoder.%lld.moe.experts.%lld.%s",
                 (long long)w->layer, (long long)e, part);
        add_entry(w, entry);
    }
    w->role++;
    w->experts = begin + own * count;
    return begin;
}

static swt_place add_norm(walk *w, const char *name) {
    swt_place at;
    w->shared = align(w->shared);
    at.weight = add_shared(w, SWT_PARAM_NORM_WEIGHT, w->d->C, 0, w->d->C, "%s.weight", name);
    w->shared = align(w->shared);
    at.bias = add_shared(w, SWT_PARAM_NORM_BIAS, w->d->C, 0, w->d->C, "%s.bias", name);
    return at;
}

/* One linear layer made of `parts`: their weights side by side, then their biases side by side. */
static swt_place add_linear(walk *w, const char *prefix, const char *const *parts, int64_t out,
                            int64_t in) {
    swt_place at = {.weight = align(w->shared), .bias = -1};
    w->shared = at.weight;
    for (int i = 0; parts[i] != NULL; i++)
        add_shared(w, SWT_PARAM_WEIGHT, out, in, in, "%s%s.weight", prefix, parts[i]);
    if (!w->d->bias)
        return at;
    at.bias = w->shared = align(w->shared);
    for (int i = 0; parts[i] != NULL; i++)
        add_shared(w, SWT_PARAM_BIAS, out, 0, in, "%s%s.bias", prefix, parts[i]);
    return at;
}

static const char *const PART_QKV[] = {"q", "k", "v", NULL};
static const char *const PART_O[] = {"o", NULL};
static const char *const PART_ROUTER[] = {"router", NULL};
static const char *const PART_WI[] = {"wi", NULL};
static const char *const PART_WO[] = {"wo", NULL};
static const char *const PART_HEAD[] = {"head", NULL};

static void walk_feed_forward(walk *w, swt_layer_places *at) {
    const swt_dims *d = w->d;
    char prefix[64];
    if (!swt_is_sparse(d, w->layer)) {
        snprintf(prefix, sizeof prefix, "decoder.%lld.ffn.", (long long)w->layer);
        at->wi = add_linear(w, prefix, PART_WI, d->F, d->C);
        at->wo = add_linear(w, prefix, PART_WO, d->C, d->F);
        return;
    }
    snprintf(prefix, sizeof prefix, "decoder.%lld.moe.", (long long)w->layer);
    at->router = add_linear(w, prefix, PART_ROUTER, d->E, d->C);
    at->wi.bias = at->wo.bias = -1;
    at->experts_begin = align(w->experts);
    at->wi.weight = add_experts(w, SWT_PARAM_WEIGHT, d->F, d->C, d->C, "wi.weight");
    if (d->bias)
        at->wi.bias = add_experts(w, SWT_PARAM_BIAS, d->F, 0, d->C, "wi.bias");
    at->wo.weight = add_experts(w, SWT_PARAM_WEIGHT, d->C, d->F, d->F, "wo.weight");
    if (d->bias)
        at->wo.bias = add_experts(w, SWT_PARAM_BIAS, d->C, 0, d->F, "wo.bias");
    at->experts_end = w->experts;
}

static void walk_model(walk *w) {
    const swt_dims *d = w->d;
    swt_params *p = w->p;
    char prefix[64];
    p->embed.weight = add_shared(w, SWT_PARAM_EMBED, d->V, d->C, d->C, "embed.weight");
    p->embed.bias = -1;
    const int64_t block_role = w->role;
    swt_layer_places unused = {0};
    for (w->layer = 0; w->layer < d->L && w->status == SWT_OK; w->layer++) {
        swt_layer_places *at = p->layers != NULL ? &p->layers[w->layer] : &unused;
        w->role = block_role;
        snprintf(prefix, sizeof prefix, "decoder.%lld.attn_norm", (long long)w->layer);
        at->attn_norm = add_norm(w, prefix);
        snprintf(prefix, sizeof prefix, "decoder.%lld.attn.", (long long)w->layer);
        at->qkv = add_linear(w, prefix, PART_QKV, d->H * d->D, d->C);
        at->o = add_linear(w, prefix, PART_O, d->C, d->H * d->D);
        snprintf(prefix, sizeof prefix, "decoder.%lld.ffn_norm", (long long)w->layer);
        at->ffn_norm = add_norm(w, prefix);
        walk_feed_forward(w, at);
    }
    /* Behind the last role of any block, sparse or dense. */
    w->layer = 0;
    w->role = block_role + 64;
    p->final_norm = add_norm(w, "decoder.final_norm");
    p->head = add_linear(w, "", PART_HEAD, d->V, d->C);
}

/* The experts' part begins where the shared part ends: known only after the walk. */
static void shift(int64_t *offset, int64_t by) {
    if (*offset >= 0)
        *offset += by;
}

static void place_experts(swt_params *p, const swt_dims *d) {
    for (int64_t i = 0; i < p->count; i++)
        if (p->table[i].expert >= 0)
            shift(&p->table[i].offset, p->shared_end);
    for (int64_t l = 0; l < d->L; l++) {
        swt_layer_places *at = &p->layers[l];
        if (!swt_is_sparse(d, l))
            continue;
        shift(&at->wi.weight, p->shared_end);
        shift(&at->wi.bias, p->shared_end);
        shift(&at->wo.weight, p->shared_end);
        shift(&at->wo.bias, p->shared_end);
        at->experts_begin += p->shared_end;
        at->experts_end += p->shared_end;
    }
}

swt_status swt_params_visit(const swt_dims *d, swt_param_visit visit, void *context) {
    swt_params none = {0};
    walk w = {.d = d, .p = &none, .visit = visit, .context = context};
    walk_model(&w);
    return w.status;
}

swt_status swt_params_init(swt_params *out, const swt_dims *d, const swt_dist *dist) {
    *out = (swt_params){0};
    walk_model(&(walk){.d = d, .dist = dist, .p = out});
    const size_t count = (size_t)out->count;
    *out = (swt_params){0};
    if (count > MOST_TENSORS)
        return SWT_FAIL(
            MEMORY,
            "memory: a model of %zu named tensors is larger than any machine; use fewer "
            "model.layers or moe.experts",
            count);
    out->layers = calloc((size_t)d->L, sizeof *out->layers);
    out->table = calloc(count, sizeof *out->table);
    if (out->layers == NULL || out->table == NULL) {
        swt_params_fini(out);
        return SWT_FAIL(MEMORY, "memory: no room for the table of %zu parameters", count);
    }
    walk w = {.d = d, .dist = dist, .p = out};
    walk_model(&w);
    out->shared_end = align(w.shared);
    out->end = out->shared_end + align(w.experts);
    place_experts(out, d);
    return SWT_OK;
}

void swt_params_fini(swt_params *p) {
    free(p->table);
    free(p->layers);
    *p = (swt_params){0};
}

/* A normal number cut at two deviations: redrawn until it lies within. Each try has its own
 * counter. */
static double truncated_normal(uint64_t seed, uint32_t element, uint32_t expert, uint32_t role,
                               uint32_t layer) {
    for (uint32_t attempt = 0;; attempt++) {
        const swt_rng_u32x4 r =
            swt_rng(seed, element, expert, role + 65536u * attempt, SWT_RNG_INIT, layer);
        const double x = swt_rng_normal(r.v[0], r.v[1]);
        if (fabs(x) <= 2.0)
            return x;
    }
}

void swt_param_values(float *out, const swt_param *p, swt_init init, double init_scale,
                      uint64_t seed) {
    const bool copies = init == SWT_INIT_LABML;
    const uint32_t expert = copies || p->expert < 0 ? 0 : (uint32_t)p->expert;
    const uint32_t layer = copies ? 0 : (uint32_t)p->layer, role = (uint32_t)p->role;
    const double bound = 1.0 / sqrt((double)p->fan_in), std = sqrt(init_scale / (double)p->fan_in);
    const bool cut = init == SWT_INIT_SWITCH;
    for (int64_t i = 0; i < p->count; i++) {
        const swt_rng_u32x4 r = swt_rng(seed, (uint32_t)i, expert, role, SWT_RNG_INIT, layer);
        const double uniform = bound * (2.0 * swt_rng_uniform(r.v[0]) - 1.0);
        double x = 0.0;
        switch (p->kind) {
        case SWT_PARAM_EMBED:
            x = swt_rng_normal(r.v[0], r.v[1]);
            break;
        case SWT_PARAM_WEIGHT:
            x = cut ? std * truncated_normal(seed, (uint32_t)i, expert, role, layer) : uniform;
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
