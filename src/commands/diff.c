/* checkpoint diff: two checkpoints, tensor by tensor, whichever ranks wrote them. */
#include "base/checked.h"
#include "base/words.h"
#include "commands/commands.h"
#include "io/checkpoint_dir.h"
#include "io/files.h"
#include "state/load.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One of the two. */
typedef struct side {
    swt_checkpoint checkpoint;
    swt_source source; /* of the kind of files that is compared now */
    float *values;     /* room for a tensor, owned */
} side;

typedef struct comparison {
    FILE *out;
    double tolerance;
    side a, b;
    int64_t compared, equal, beyond; /* tensors: all, to the bit, with a number beyond tolerance */
    char first[SWT_TENSOR_NAME_BYTES]; /* of those beyond, or in one alone */
    int64_t alone;                     /* in one of the two, or of another shape */
} comparison;

static swt_status open_side(side *x, const char *dir) {
    char folder[SWT_PATH_BYTES];
    SWT_TRY(swt_checkpoint_find(folder, dir));
    return swt_checkpoint_open(&x->checkpoint, folder);
}

static void note(comparison *c, const char *name) {
    if (c->first[0] == '\0')
        snprintf(c->first, sizeof c->first, "%s", name);
}

static swt_status read_tensor(side *x, const swt_tensor_entry *e) {
    swt_source_file f;
    bool altered = false;
    swt_status status = swt_source_file_open(&f, &x->source, e->file);
    free(x->values);
    x->values = malloc((size_t)swt_max(1, e->bytes) * sizeof(float));
    if (status == SWT_OK && x->values == NULL)
        status = SWT_FAIL(MEMORY, "memory: no room for %" PRId64 " bytes of %s", e->bytes, e->name);
    if (status == SWT_OK)
        status = swt_source_read(&f, e, x->values, &altered);
    swt_source_file_close(&f);
    return status;
}

/* Largest difference, and that over the larger of the two numbers; of NaN and a number it is
 * infinite. */
static void differences(const float *a, const float *b, int64_t count, double *most,
                        double *relative) {
    *most = *relative = 0.0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t x, y;
        memcpy(&x, &a[i], sizeof x);
        memcpy(&y, &b[i], sizeof y);
        if (x == y)
            continue;
        const double d = fabs((double)a[i] - (double)b[i]);
        const double size = fmax(fabs((double)a[i]), fabs((double)b[i]));
        *most = fmax(*most, isnan(d) ? INFINITY : d);
        *relative = fmax(*relative, isnan(d) || size == 0.0 ? INFINITY : d / size);
    }
}

static swt_status compare_tensor(comparison *c, const swt_tensor_entry *a) {
    const swt_tensor_entry *b = swt_tensor_file_find(&c->b.source.all, a->name);
    if (b == NULL || b->dims != a->dims || memcmp(b->shape, a->shape, sizeof a->shape) != 0) {
        fprintf(c->out, "%-60s %s\n", a->name, b == NULL ? "only in A" : "other shapes");
        c->alone++;
        note(c, a->name);
        return SWT_OK;
    }
    const int64_t count = a->bytes / (int64_t)swt_dtype_bytes(a->dtype);
    double most, relative;
    SWT_TRY(read_tensor(&c->a, a));
    SWT_TRY(read_tensor(&c->b, b));
    c->compared++;
    if (memcmp(c->a.values, c->b.values, (size_t)count * sizeof(float)) == 0) {
        c->equal++;
        return SWT_OK;
    }
    differences(c->a.values, c->b.values, count, &most, &relative);
    fprintf(c->out, "%-60s %12.4e %12.4e\n", a->name, most, relative);
    if (most > c->tolerance) {
        c->beyond++;
        note(c, a->name);
    }
    return SWT_OK;
}

static swt_status compare_all(comparison *c) {
    for (int64_t i = 0; i < c->a.source.all.count; i++)
        SWT_TRY(compare_tensor(c, &c->a.source.all.entries[i]));
    for (int64_t i = 0; i < c->b.source.all.count; i++) {
        const char *name = c->b.source.all.entries[i].name;
        if (swt_tensor_file_find(&c->a.source.all, name) != NULL)
            continue;
        fprintf(c->out, "%-60s only in B\n", name);
        c->alone++;
        note(c, name);
    }
    return SWT_OK;
}

static swt_status open_source(side *x, swt_shard_kind kind) {
    const swt_checkpoint *k = &x->checkpoint;
    if (!k->listed && kind != SWT_SHARD_WEIGHTS) /* without a manifest there are weights alone */
        return SWT_OK;
    return swt_source_open(&x->source, k->folder, k->listed ? &k->manifest : NULL, kind);
}

static swt_status compare_kind(comparison *c, swt_shard_kind kind) {
    c->a.source = c->b.source = (swt_source){.all = {.fd = -1}};
    swt_status status = open_source(&c->a, kind);
    if (status == SWT_OK)
        status = open_source(&c->b, kind);
    if (status == SWT_OK)
        status = compare_all(c);
    swt_source_close(&c->b.source);
    swt_source_close(&c->a.source);
    return status;
}

static swt_status verdict(const comparison *c) {
    const swt_checkpoint *a = &c->a.checkpoint, *b = &c->b.checkpoint;
    if (c->alone == 0 && c->beyond == 0) {
        if (c->equal == c->compared)
            fprintf(c->out, "identical: %" PRId64 " tensors, to the bit\n", c->equal);
        else
            fprintf(c->out,
                    "equal within %g: %" PRId64 " tensors, %" PRId64 " of them to the bit\n",
                    c->tolerance, c->compared, c->equal);
        return SWT_OK;
    }
    return SWT_FAIL(DIFFERENT,
                    "%s and %s differ: %" PRId64 " of %" PRId64 " tensors beyond %g and %" PRId64
                    " in one alone, the first %s; bisect finds the step at which runs part",
                    swt_path_tail(a->folder), swt_path_tail(b->folder), c->beyond, c->compared,
                    c->tolerance, c->alone, c->first);
}

static swt_status compare(comparison *c, const swt_options *o) {
    SWT_TRY(open_side(&c->a, o->folder_path));
    SWT_TRY(open_side(&c->b, o->other_path));
    fprintf(c->out, "A  %s\nB  %s\n", c->a.checkpoint.folder, c->b.checkpoint.folder);
    fprintf(c->out, "%-60s %12s %12s\n", "tensors that differ", "at most", "relative");
    SWT_TRY(compare_kind(c, SWT_SHARD_WEIGHTS));
    SWT_TRY(compare_kind(c, SWT_SHARD_OPTIM));
    return verdict(c);
}

swt_status swt_command_checkpoint_diff(swt_session *s) {
    comparison c = {.out = s->out, .tolerance = s->options->tolerance};
    const swt_status status = s->world->rank == 0 ? compare(&c, s->options) : SWT_OK;
    swt_checkpoint_close(&c.a.checkpoint);
    swt_checkpoint_close(&c.b.checkpoint);
    free(c.a.values);
    free(c.b.values);
    return swt_comm_agree(s->world, status);
}
