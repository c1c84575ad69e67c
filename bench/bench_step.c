/* The real training step, split by operation and by phase.
 *
 *     bench_step [--steps N] [--json] [--no-sums] [any flag of swt-dist's training]
 *     launch/run -n 2 --program build/cpu/bench/bench_step -- --batch.micro_batches 2
 *
 * The rows add up to the mean step: an operation's time is without the time that threads had no
 * part to run, which is the phase waiting; what is outside of every call is the phase other. Under
 * MPI rank 0 prints its own. On GPUs an operation's time is the GPU's, other is when it had none of
 * them to run, and steps are queued in batches of up to ten, as training does between its rows. */
#include "base/checked.h"
#include "base/clock.h"
#include "bench/program.h"
#include "bench/rows.h"
#include "bench/step_clock.h"
#include "train/session.h"

#include <stdlib.h>

enum { WARM_UP = 3, BATCH = 10 };

typedef struct bench {
    swt_session s;
    step_clock clock;
    int64_t steps, step; /* to measure, done */
    int64_t batch,
        timings;     /* steps that are timed as one, and how often: at least `steps` in all */
    double *step_ms; /* (timings) */
    bool json, no_sums;
} bench;

static swt_status open_model(bench *b) {
    swt_session *s = &b->s;
    const swt_options *o = s->options;
    swt_dims d;
    swt_status status = swt_session_read_text(s, NULL);
    if (status == SWT_OK)
        status = swt_dims_from_options(&d, o, s->tokenizer.vocab);
    if (status == SWT_OK && (b->step_ms = malloc((size_t)b->steps * sizeof *b->step_ms)) == NULL)
        status = SWT_FAIL(MEMORY, "--steps: no room for %lld; use fewer", (long long)b->steps);
    SWT_TRY(swt_comm_agree(s->world, status));
    SWT_TRY(swt_session_open_model(s, &d, true));
    SWT_TRY(swt_model_init_values(&s->model, (swt_init)o->model_init, o->model_init_scale,
                                  (uint64_t)o->train_seed));
    step_clock_attach(&b->clock, &s->model, b->no_sums);
    b->batch = program_batch(&s->device, (double)swt_min(b->steps, BATCH));
    b->timings = swt_ceil_div(b->steps, b->batch);
    return SWT_OK;
}

static swt_status run_step(bench *b) {
    swt_model *m = &b->s.model;
    step_clock *clock = &b->clock;
    clock->phase = PHASE_OPTIMISER;
    SWT_TRY(swt_session_load_batch(&b->s, ++b->step));
    SWT_TRY(swt_step_begin(m, &b->s.update));
    for (int64_t turn = 0; turn < m->turns; turn++) {
        const swt_pass pass = swt_step_pass(m, turn);
        clock->phase = PHASE_FORWARD;
        SWT_TRY(swt_model_forward(m, &pass));
        SWT_TRY(swt_model_loss(m, &pass, true));
        clock->phase = PHASE_BACKWARD;
        SWT_TRY(swt_model_backward(m, &pass));
    }
    clock->phase = PHASE_OPTIMISER;
    SWT_TRY(swt_step_reduce(m, &b->s.update));
    return swt_step_update(m, &b->s.update);
}

/* The time of one of `steps` steps. */
static swt_status run_steps(bench *b, int64_t steps, double *ms) {
    swt_step_state state;
    const double start_ms = swt_now_ms();
    for (int64_t i = 0; i < steps; i++)
        SWT_TRY(run_step(b));
    SWT_TRY(swt_step_state_read(&b->s.model, &state));
    *ms = (swt_now_ms() - start_ms) / (double)steps;
    return step_clock_count(&b->clock);
}

static swt_status measure(bench *b) {
    for (int i = 0; i < WARM_UP; i++)
        SWT_TRY(run_steps(b, 1, &b->step_ms[0]));
    step_clock_reset(&b->clock);
    for (int64_t i = 0; i < b->timings; i++)
        SWT_TRY(run_steps(b, b->batch, &b->step_ms[i]));
    return SWT_OK;
}

/* One row, in milliseconds of a mean step. */
static void add_row(const rows *r, const bench *b, step_phase phase, const char *op, int64_t calls,
                    double sum_ms, double total_ms) {
    const double steps = (double)(b->timings * b->batch);
    rows_add(r, (cell[]){TEXT(step_phase_name(phase)), TEXT(op), NUMBER((double)calls / steps),
                         NUMBER(sum_ms / steps), NUMBER(sum_ms / total_ms)});
}

static int by_phase_and_time(const void *a, const void *b) {
    const step_entry *x = a, *y = b;
    if (x->phase != y->phase)
        return x->phase < y->phase ? -1 : 1;
    return (x->ms < y->ms) - (x->ms > y->ms);
}

static void print_rows(bench *b, FILE *out) {
    static const column columns[] = {{"phase", 9, TEXT_COLUMN},
                                     {"op", 23, TEXT_COLUMN},
                                     {"calls", 6, 1},
                                     {"ms", 9, 3},
                                     {"share", 6, 3}};
    const rows r = ROWS(out, b->json, columns);
    step_clock *clock = &b->clock;
    double total_ms = 0.0, waiting_ms = 0.0, called_ms = 0.0;
    for (int64_t i = 0; i < b->timings; i++)
        total_ms += b->step_ms[i] * (double)b->batch;
    qsort(clock->entries, (size_t)clock->n, sizeof *clock->entries, by_phase_and_time);
    double sums_ms[PHASE_COUNT] = {0.0};
    rows_head(&r);
    for (int i = 0; i < clock->n; i++) {
        const step_entry *e = &clock->entries[i];
        add_row(&r, b, e->phase, e->op, e->calls, e->ms, total_ms);
        sums_ms[e->phase] += e->ms;
        waiting_ms += e->idle_ms;
        called_ms += e->ms + e->idle_ms;
    }
    sums_ms[PHASE_WAITING] = waiting_ms;
    sums_ms[PHASE_OTHER] = total_ms - called_ms;
    add_row(&r, b, PHASE_WAITING, "all", 0, waiting_ms, total_ms);
    add_row(&r, b, PHASE_OTHER, "all", 0, sums_ms[PHASE_OTHER], total_ms);
    rows_say(&r, "by phase:");
    for (int i = 0; i < PHASE_COUNT; i++)
        rows_say(&r, "%-9s  %-23s  %6s  %9.3f  %6.3f", step_phase_name((step_phase)i), "", "",
                 sums_ms[i] / (double)(b->timings * b->batch), sums_ms[i] / total_ms);
}

static void print_step(bench *b, FILE *out) {
    static const column columns[] = {{"phase", 9, TEXT_COLUMN}, {"ranks", 5, 0},
                                     {"threads", 7, 0},         {"step_ms", 9, 3},
                                     {"step_ms_min", 11, 3},    {"tokens_per_s", 12, 0}};
    const rows r = ROWS(out, b->json, columns);
    const swt_dims *d = &b->s.model.dims;
    const timing t = rows_timing(b->step_ms, b->timings);
    rows_head(&r);
    rows_add(&r, (cell[]){TEXT("step"), NUMBER(b->s.world->size), NUMBER(b->s.device.threads),
                          NUMBER(t.median), NUMBER(t.least),
                          NUMBER(1e3 * (double)(d->M * d->B * d->T) / t.median)});
}

static swt_status run(bench *b, int argc, char **argv) {
    const flag flags[] = {{.name = "--steps", .count = &b->steps, .least = 1},
                          {.name = "--json", .on = &b->json},
                          {.name = "--no-sums", .on = &b->no_sums}};
    FILE *out = b->s.world->rank == 0 ? stdout : NULL;
    swt_status status = program_flags(flags, 3, &argc, argv);
    if (status == SWT_OK)
        status = swt_options_parse(b->s.options, b->s.world, argc, argv);
    if (status == SWT_OK && b->s.options->command != SWT_COMMAND_TRAIN)
        status = SWT_FAIL(USAGE,
                          "%s: is not measured; give flags of training, --steps N, --json "
                          "or --no-sums",
                          argv[1]);
    SWT_TRY(swt_comm_agree(b->s.world, status));
    SWT_TRY(open_model(b));
    SWT_TRY(measure(b));
    print_rows(b, out);
    print_step(b, out);
    if (b->no_sums && out != NULL && !b->json)
        printf("--no-sums: gradients of micro-batches were not added; the training was wrong\n");
    return SWT_OK;
}

static const char usage[] =
    "bench_step [--steps N] [--json] [--no-sums] [any flag of swt-dist's training]";

int main(int argc, char **argv) {
    swt_standard_open();
    if (program_help(argc, argv, usage))
        return 0;
    swt_threads_settle(argv);
    static swt_options options;
    static bench b = {.steps = 40};
    swt_comm world;
    b.s.options = &options;
    b.s.world = &world;
    b.s.out = stdout;
    swt_status status = program_open(&world);
    if (status == SWT_OK)
        status = run(&b, argc, argv);
    step_clock_close(&b.clock);
    swt_session_close(&b.s);
    free(b.step_ms);
    return program_close(&world, "bench_step", status);
}
