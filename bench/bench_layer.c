/* One switch layer alone: forward, backward and SGD on its parameters.
 *
 *     bench_layer [--tokens 1024] [--width 256] [--hidden 1024] [--experts 8]
 *                 [--capacity-factor 1.25] [--dense] [--device auto|cpu|cuda] [--threads 1]
 *                 [--repeats N] [--json]
 *     launch/run -n 2 --program build/cpu/bench/bench_layer
 *
 * Its input and the gradient of its output are random. Under MPI every rank has a micro-batch of
 * --tokens tokens of its own, the experts are shared out, and the gradients are the exact sums of
 * all micro-batches. --dense puts one feed-forward of the same widths in the layer's place. On GPUs
 * a repetition is a batch of layers. */
#include "base/clock.h"
#include "bench/bed.h"
#include "bench/program.h"
#include "bench/rows.h"
#include "model/sums.h"

#include <stdlib.h>

static const char usage[] =
    "bench_layer [--tokens N] [--width N] [--hidden N] [--experts N] "
    "[--capacity-factor X] [--dense] [--device auto|cpu|cuda] [--threads N] "
    "[--repeats N] [--json]";

enum { VOCABULARY = 2, WARM_UP = 3, BATCH = 10 };

typedef struct bench {
    swt_session s;
    int64_t tokens, width, hidden, experts, threads, repeats;
    double capacity_factor;
    const char *device;
    bool dense, json;
    double *ms; /* (repeats) */
} bench;

/* The layer is the only block's feed-forward; the block's attention is not run. */
static swt_status set_options(bench *b) {
    swt_options *o = b->s.options;
    swt_options_defaults(o, SWT_PRESET_LABML);
    o->dims.L = 1;
    o->dims.C = b->width;
    o->dims.H = 1;
    o->dims.D = 1;
    o->dims.F = b->hidden;
    o->dims.E = b->experts;
    o->dims.every = b->dense ? 0 : 1;
    o->dims.capacity_factor = b->capacity_factor;
    o->dims.B = 1;
    o->dims.T = b->tokens;
    o->dims.M = b->s.world->size;
    o->optim_name = SWT_OPTIM_SGD;
    o->run_threads = b->threads;
    return program_device(b->device, &o->run_device);
}

/* The layer, behind the attention. */
static swt_sublayer *layer_of(const swt_model *m) {
    return &m->sublayers[1];
}

/* Sums over micro-batches and the update, of the whole model: what there is beside the layer, norms
 * and an attention of one feature, is a hundredth of it at most. */
static swt_status update(swt_model *m, const swt_pass *pass) {
    SWT_TRY(swt_sums_add(m, pass));
    SWT_TRY(swt_sums_reduce(m));
    return swt_sgd(&m->ctx,
                   &(swt_sgd_args){.param = m->param, .grad = m->grad, .n = m->params.end});
}

static swt_status run_layer(bench *b) {
    swt_model *m = &b->s.model;
    const swt_pass pass = swt_step_pass(m, 0);
    swt_sublayer *layer = layer_of(m);
    SWT_TRY(swt_kind_of(layer)->forward(m, &pass, layer, m->acts.x));
    SWT_TRY(swt_kind_of(layer)->backward(m, &pass, layer));
    return update(m, &pass);
}

/* From the start that all ranks have in common to the end of the slowest. */
static swt_status measure(bench *b) {
    const int64_t batch = program_batch(&b->s.device, BATCH);
    for (int64_t i = -WARM_UP; i < b->repeats; i++) {
        SWT_TRY(swt_comm_agree(b->s.world, SWT_OK));
        const double start_ms = swt_now_ms();
        for (int64_t n = 0; n < batch; n++)
            SWT_TRY(run_layer(b));
        SWT_TRY(swt_model_wait(&b->s.model));
        SWT_TRY(swt_comm_agree(b->s.world, SWT_OK));
        if (i >= 0)
            b->ms[i] = (swt_now_ms() - start_ms) / (double)batch;
    }
    return SWT_OK;
}

static swt_status print_row(bench *b) {
    static const column columns[] = {{"what", 6, TEXT_COLUMN}, {"ranks", 5, 0}, {"threads", 7, 0},
                                     {"tokens", 7, 0},         {"ms", 9, 3},    {"ms_min", 9, 3},
                                     {"dropped", 7, 3}};
    const rows r = ROWS(b->s.world->rank == 0 ? stdout : NULL, b->json, columns);
    const timing t = rows_timing(b->ms, b->repeats);
    const swt_model *m = &b->s.model;
    double dropped = 0.0; /* tokens */
    if (!b->dense)
        SWT_TRY(swt_device_copy(&b->s.device, NULL, SWT_TO_HOST, &dropped,
                                &m->acts.stats[swt_stats_layer(&m->dims, 0) + SWT_ROUTER_DROPPED],
                                sizeof dropped));
    rows_head(&r);
    rows_add(&r, (cell[]){TEXT(b->dense ? "dense" : "layer"), NUMBER(b->s.world->size),
                          NUMBER(b->s.device.threads), NUMBER(b->tokens), NUMBER(t.median),
                          NUMBER(t.least), NUMBER(dropped / (double)b->tokens)});
    return SWT_OK;
}

static swt_status read_flags(bench *b, int argc, char **argv) {
    const flag flags[] = {{.name = "--tokens", .count = &b->tokens, .least = 1},
                          {.name = "--width", .count = &b->width, .least = 1},
                          {.name = "--hidden", .count = &b->hidden, .least = 1},
                          {.name = "--experts", .count = &b->experts, .least = 1},
                          {.name = "--threads", .count = &b->threads, .least = 1},
                          {.name = "--repeats", .count = &b->repeats, .least = 1},
                          {.name = "--capacity-factor", .real = &b->capacity_factor},
                          {.name = "--device", .text = &b->device},
                          {.name = "--dense", .on = &b->dense},
                          {.name = "--json", .on = &b->json}};
    SWT_TRY(program_flags(flags, 10, &argc, argv));
    SWT_TRY(program_no_more(argc, argv, usage));
    b->ms = malloc((size_t)b->repeats * sizeof *b->ms);
    if (b->ms == NULL)
        return SWT_FAIL(MEMORY, "--repeats: no room for %lld; use fewer", (long long)b->repeats);
    return SWT_OK;
}

static swt_status run(bench *b, int argc, char **argv) {
    swt_session *s = &b->s;
    SWT_TRY(swt_comm_agree(s->world, read_flags(b, argc, argv)));
    SWT_TRY(swt_comm_agree(s->world, set_options(b)));
    SWT_TRY(bed_open(s, VOCABULARY));
    const int64_t values = b->tokens * b->width;
    SWT_TRY(bed_random(s, s->model.acts.norm, values, 1.0, 3));
    SWT_TRY(bed_random(s, layer_of(&s->model)->x, values, 1.0, 4));
    SWT_TRY(bed_random(s, s->model.acts.dstream, values, 1e-3, 5));
    SWT_TRY(measure(b));
    return print_row(b);
}

int main(int argc, char **argv) {
    swt_standard_open();
    if (program_help(argc, argv, usage))
        return 0;
    swt_threads_settle(argv);
    static swt_options options;
    bench b = {.device = "auto",
               .tokens = 1024,
               .width = 256,
               .hidden = 1024,
               .experts = 8,
               .capacity_factor = 1.25,
               .threads = 1,
               .repeats = 40};
    swt_comm world;
    b.s.options = &options;
    b.s.world = &world;
    swt_status status = program_open(&world);
    if (status == SWT_OK)
        status = run(&b, argc, argv);
    swt_session_close(&b.s);
    free(b.ms);
    return program_close(&world, "bench_layer", status);
}
