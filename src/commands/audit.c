/* audit and bisect: what a run's ledger says, against doing it again, or another run's. */
#include "base/checked.h"
#include "base/rng.h"
#include "base/words.h"
#include "commands/commands.h"
#include "commands/redo.h"
#include "io/files.h"
#include "io/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- audit */

/* Which lines are to be compared, by number. */
typedef struct choice {
    bool *chosen; /* (ledger.count), owned */
    int64_t count;
} choice;

/* From the first line after --from's step, up to --to. */
static swt_status choose_range(const swt_redo *r, choice *out) {
    const swt_options *o = r->s->options;
    const int64_t last = r->ledger.lines[r->ledger.count - 1].step;
    const int64_t to = o->audit_to > 0 ? o->audit_to : last;
    if (to > last || o->audit_from > to)
        return SWT_FAIL(USAGE,
                        "--from %" PRId64 " --to %" PRId64 ": the ledger goes to step %" PRId64
                        "; give steps up to it, the lower one first",
                        o->audit_from, to, last);
    out->chosen = calloc((size_t)r->ledger.count, sizeof *out->chosen);
    if (out->chosen == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for %" PRId64 " lines", r->ledger.count);
    for (int64_t i = 0; i < r->ledger.count; i++) {
        const int64_t step = r->ledger.lines[i].step;
        /* the beginning is where others start from; alone it is all there is */
        out->chosen[i] = step >= o->audit_from && step <= to && (step > 0 || last == 0);
        out->count += out->chosen[i];
    }
    if (out->count == 0)
        return SWT_FAIL(USAGE,
                        "--from %" PRId64 " --to %" PRId64 ": no line of the ledger is "
                        "between; give a wider range",
                        o->audit_from, to);
    return SWT_OK;
}

/* Keep `samples` of the chosen lines, drawn by rank 0 so that nobody knows them before. Each of the
 * lines is kept with the chance that is left for it (selection sampling). */
static swt_status draw(const swt_redo *r, choice *c) {
    const int64_t samples = r->s->options->audit_samples;
    int64_t left = c->count, wanted = samples;
    uint64_t seed = 0;
    if (samples == 0 || samples >= c->count)
        return SWT_OK;
    swt_status status = SWT_OK;
    if (r->s->world->rank == 0 && getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        status = SWT_FAIL(INTERNAL, "audit: the system gives no random number");
    SWT_TRY(swt_comm_agree(r->s->world, status));
    SWT_TRY(swt_comm_broadcast(r->s->world, &seed, sizeof seed, 0, NULL));
    for (int64_t i = 0; i < r->ledger.count; i++) {
        if (!c->chosen[i])
            continue;
        const swt_rng_u32x4 numbers = swt_rng(seed, (uint32_t)i, 0, 0, SWT_RNG_AUDIT, 0);
        c->chosen[i] = (int64_t)swt_rng_below(numbers.v[0], numbers.v[1], (uint64_t)left) < wanted;
        wanted -= c->chosen[i];
        left--;
    }
    c->count = samples;
    return SWT_OK;
}

/* Each line is reached by at least one step, from the newest checkpoint before it; where all are
 * compared, so is every step between them. */
static swt_status audit_chosen(swt_redo *r, const choice *c) {
    swt_session *s = r->s;
    const bool sampled = s->options->audit_samples > 0;
    for (int64_t i = 0; i < r->ledger.count; i++) {
        const swt_ledger_line *line = &r->ledger.lines[i];
        if (!c->chosen[i])
            continue;
        const int64_t start_most = sampled || r->step < 0 ? line->step - 1 : -1;
        SWT_TRY(swt_redo_to(r, line->step, start_most));
        if (s->world->rank == 0) {
            fprintf(s->out, "step %8" PRId64 "  equal, weights %016" PRIx64 "\n", line->step,
                    line->weights);
            fflush(s->out);
        }
    }
    return SWT_OK;
}

static void say_equal(const swt_redo *r) {
    const swt_ledger_line *last = &r->ledger.lines[r->ledger.count - 1];
    if (r->s->world->rank == 0)
        fprintf(r->s->out,
                "equal: %" PRId64 " line%s of %" PRId64 " compared, %" PRId64 " of %" PRId64
                " steps done again; the ledger's hash is %016" PRIx64 "\n",
                r->lines, swt_plural(r->lines), r->ledger.count, r->steps, last->step, last->chain);
}

swt_status swt_command_audit(swt_session *s) {
    swt_redo r;
    choice c = {.count = 0};
    swt_status status = swt_redo_open(&r, s);
    if (status == SWT_OK)
        status = swt_comm_agree(s->world, choose_range(&r, &c));
    if (status == SWT_OK)
        status = draw(&r, &c);
    if (status == SWT_OK)
        status = audit_chosen(&r, &c);
    if (status == SWT_OK)
        say_equal(&r);
    free(c.chosen);
    swt_redo_close(&r);
    return status;
}

/* ---- bisect */

static swt_status read_ledger(swt_ledger *out, const char *run) {
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, run, SWT_LEDGER_FILE));
    return swt_ledger_read(out, path);
}

/* What differs first between two lines of the same step, in words; NULL: nothing. */
static const char *difference(const swt_ledger_line *a, const swt_ledger_line *b) {
    if (a->step == 0 && a->run != b->run)
        return "the configuration";
    if (a->step == 0 && a->data != b->data)
        return "the text";
    if (a->batch != b->batch)
        return "the batch";
    if (!swt_same_bits(a->loss, b->loss))
        return "the loss, so what came after the last equal line";
    return a->weights != b->weights ? "the weights" : NULL;
}

/* The name of tensor `left` of the model, counted down to it. */
typedef struct naming {
    int64_t left;
    char *out;
    size_t out_bytes;
} naming;

static swt_status name_tensor(void *context, const swt_param *p) {
    naming *n = context;
    if (n->left-- == 0)
        snprintf(n->out, n->out_bytes, "; of the weights %s is the first", p->name);
    return SWT_OK;
}

/* The first tensor whose marks differ, by the configuration of the first run; "" where none does.
 * Names do not depend on the vocabulary. */
static swt_status name_difference(const swt_options *o, const swt_ledger_line *a,
                                  const swt_ledger_line *b, int64_t marks, char *out,
                                  size_t out_bytes) {
    swt_dims d;
    int64_t mark = 0, tensors = 0, end = 0;
    out[0] = '\0';
    while (mark < marks && a->marks[mark] == b->marks[mark])
        mark++;
    if (mark == marks)
        return SWT_OK;
    SWT_TRY(swt_dims_from_options(&d, o, swt_max(1, o->dims.V)));
    naming n = {.left = INT64_MAX, .out = out, .out_bytes = out_bytes};
    SWT_TRY(swt_params_visit(&d, name_tensor, &n));
    tensors = INT64_MAX - n.left;
    if (swt_ledger_marks(tensors) != marks) /* another model */
        return SWT_OK;
    swt_ledger_marked(tensors, mark, &n.left, &end);
    return swt_params_visit(&d, name_tensor, &n);
}

/* Walk both ledgers; steps that only one of them lists are passed over. */
static swt_status part(const swt_session *s, const swt_ledger *a, const swt_ledger *b) {
    int64_t i = 0, j = 0, equal = 0, last = 0;
    while (i < a->count && j < b->count) {
        const swt_ledger_line *x = &a->lines[i], *y = &b->lines[j];
        char where[SWT_TENSOR_NAME_BYTES + 64];
        i += x->step <= y->step;
        j += y->step <= x->step;
        const char *what = x->step == y->step ? difference(x, y) : NULL;
        if (what != NULL) {
            const int64_t marks = a->marks == b->marks ? a->marks : 0;
            SWT_TRY(name_difference(s->options, x, y, marks, where, sizeof where));
            return SWT_FAIL(DIFFERENT,
                            "the runs part at step %" PRId64 ": %s%s; %" PRId64
                            " lines before are equal, the last of step %" PRId64,
                            x->step, what, where, equal, last);
        }
        if (x->step == y->step) {
            equal++;
            last = x->step;
        }
    }
    fprintf(s->out, "equal: %" PRId64 " line%s in common, up to step %" PRId64 "\n", equal,
            swt_plural(equal), last);
    return SWT_OK;
}

static swt_status bisect(const swt_session *s) {
    const swt_options *o = s->options;
    swt_ledger a, b;
    SWT_TRY(read_ledger(&a, o->folder_path));
    swt_status status = read_ledger(&b, o->other_path);
    if (status == SWT_OK) {
        status = part(s, &a, &b);
        swt_ledger_fini(&b);
    }
    swt_ledger_fini(&a);
    return status;
}

swt_status swt_command_bisect(swt_session *s) {
    return swt_comm_agree(s->world, s->world->rank == 0 ? bisect(s) : SWT_OK);
}
