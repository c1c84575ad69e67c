/* Every operation at the shapes of a real step: time, GFLOP/s, GB/s, and the shares of what the
 * machine can do that these are.
 *
 *     bench_ops [--device auto|cpu|cuda] [--dtype fp32|bf16] [--threads N]
 *               [--preset labml|layer|large] [--only TEXT] [--ms N] [--json]
 *
 * labml: a step of configs/labml-shakespeare.yaml; layer: the micro-batch of bench_layer; large:
 * 8,192 tokens of width 1,024, enough to fill a GPU. A case is called again and again for some --ms
 * milliseconds, so what fits the caches is found there; shares of the copy speed of main memory can
 * pass 1. On a GPU calls are queued in batches, and a time is a batch's by the number of its calls.
 * What is called are the calls of one whole step, with their arguments (but linear layers without
 * their residuals): routes, slots and statistics are those of a step. The model's first layer is
 * dense, so that its gemms are there, too. */
#include "base/clock.h"
#include "bench/bed.h"
#include "bench/machine.h"
#include "bench/ops_cases.h"
#include "bench/program.h"
#include "bench/rows.h"

#include <string.h>

static const char usage[] = "bench_ops [--device auto|cpu|cuda] [--dtype fp32|bf16] [--threads N] "
                            "[--preset labml|layer|large] [--only TEXT] [--ms N] [--json]";

typedef struct bench {
    swt_session s;
    int64_t threads, ms;
    const char *device, *dtype, *preset, *only;
    bool json;
} bench;

enum { VOCABULARY = 65, TIMINGS = 1000, BATCHES = 20, WARM_UP = 2 };

static swt_status set_options(bench *b) {
    swt_options *o = b->s.options;
    swt_options_defaults(o, SWT_PRESET_LABML);
    SWT_TRY(program_device(b->device, &o->run_device));
    o->run_threads = b->threads;
    o->dims.B = 32;
    o->dims.M = 2;     /* with integer sums */
    o->dims.every = 2; /* the first layer is dense: its gemms are there, too */
    o->dims.dtype = strcmp(b->dtype, "bf16") == 0 ? SWT_BF16 : SWT_F32;
    if (o->dims.dtype == SWT_F32 && strcmp(b->dtype, "fp32") != 0)
        return SWT_FAIL(USAGE, "--dtype: is %s; it must be fp32 or bf16", b->dtype);
    if (strcmp(b->preset, "labml") == 0)
        return SWT_OK;
    const bool large = strcmp(b->preset, "large") == 0;
    if (!large && strcmp(b->preset, "layer") != 0)
        return SWT_FAIL(USAGE, "--preset: is %s; it must be labml, layer or large", b->preset);
    o->dims.L = 2;
    o->dims.C = large ? 1024 : 256;
    o->dims.H = large ? 16 : 8;
    o->dims.F = large ? 4096 : 1024;
    o->dims.E = large ? 16 : 8;
    o->dims.capacity_factor = 1.25;
    o->dims.B = 16;
    o->dims.T = large ? 512 : o->dims.T;
    return SWT_OK;
}

/* The time of one of `batch` calls. */
static swt_status time_batch(swt_model *m, const op_case *k, int64_t batch, double *ms) {
    const double from_ms = swt_now_ms();
    for (int64_t i = 0; i < batch; i++)
        SWT_TRY(k->op->run(&m->ctx, &k->args));
    SWT_TRY(swt_model_wait(m));
    *ms = (swt_now_ms() - from_ms) / (double)batch;
    return SWT_OK;
}

static swt_status time_case(swt_model *m, const op_case *k, double budget_ms, timing *out) {
    double ms[TIMINGS];
    int64_t n = 0;
    const double start_ms = swt_now_ms();
    for (int i = 0; i < WARM_UP; i++)
        SWT_TRY(time_batch(m, k, 1, &ms[0]));
    const int64_t batch = program_batch(m->ctx.device, budget_ms / BATCHES / ms[0]);
    do
        SWT_TRY(time_batch(m, k, batch, &ms[n++]));
    while (n < TIMINGS && swt_now_ms() - start_ms < budget_ms);
    *out = rows_timing(ms, n);
    return SWT_OK;
}

static swt_status measure(bench *b) {
    static const column columns[] = {{"op", 23, TEXT_COLUMN}, {"shape", 20, TEXT_COLUMN},
                                     {"threads", 7, 0},       {"ms", 8, 4},
                                     {"ms_min", 8, 4},        {"gflops", 7, 1},
                                     {"gbps", 7, 1},          {"product_share", 13, 3},
                                     {"copy_share", 10, 3}};
    const rows r = ROWS(stdout, b->json, columns);
    const int threads = b->s.device.threads;
    machine can;
    op_case cases[OP_CASES];
    int n = 0;
    SWT_TRY(op_cases(&b->s.model, &b->s.update, cases, &n));
    SWT_TRY(machine_measure(&b->s.model.ctx, &can));
    rows_say(&r, "%s: products %.1f GFLOP/s, copy %.1f GB/s", can.name, can.product_gflops,
             can.copy_gbps);
    rows_head(&r);
    for (int i = 0; i < n; i++) {
        const op_case *k = &cases[i];
        timing t;
        if (b->only != NULL && strstr(k->op->name, b->only) == NULL)
            continue;
        SWT_TRY(time_case(&b->s.model, k, (double)b->ms, &t));
        const double gflops = k->flops / t.median * 1e-6, gbps = k->bytes / t.median * 1e-6;
        rows_add(&r, (cell[]){TEXT(k->op->name), TEXT(k->shape), NUMBER(threads), NUMBER(t.median),
                              NUMBER(t.least), NUMBER(gflops), NUMBER(gbps),
                              NUMBER(gflops / can.product_gflops), NUMBER(gbps / can.copy_gbps)});
    }
    return SWT_OK;
}

static swt_status run(bench *b, int argc, char **argv) {
    const flag flags[] = {{.name = "--device", .text = &b->device},
                          {.name = "--dtype", .text = &b->dtype},
                          {.name = "--threads", .count = &b->threads, .least = 1},
                          {.name = "--ms", .count = &b->ms, .least = 1},
                          {.name = "--preset", .text = &b->preset},
                          {.name = "--only", .text = &b->only},
                          {.name = "--json", .on = &b->json}};
    SWT_TRY(program_flags(flags, 7, &argc, argv));
    SWT_TRY(program_no_more(argc, argv, usage));
    SWT_TRY(set_options(b));
    SWT_TRY(bed_open(&b->s, VOCABULARY));
    return measure(b);
}

int main(int argc, char **argv) {
    swt_standard_open();
    if (program_help(argc, argv, usage))
        return 0;
    swt_threads_settle(argv);
    static swt_options options;
    bench b = {.device = "auto", .dtype = "fp32", .preset = "labml", .ms = 200};
    swt_comm world;
    swt_comm_open_self(&world);
    b.s.options = &options;
    b.s.world = &world;
    const swt_status status = run(&b, argc, argv);
    swt_session_close(&b.s);
    return program_close(&world, "bench_ops", status);
}
