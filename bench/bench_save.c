/* What a checkpoint costs: the copy that training waits for, the writing, and the steps beside it.
 *
 *     bench_save [--rounds N] [--folder DIR] [--json] [any flag of swt-dist's training]
 *     launch/run -n 2 --program build/cpu/bench/bench_save -- --threads 1
 *
 * Each round measures all of them in turn, and the row has their medians: a copy of as many
 * bytes of weights and moments, by the device's own (memcpy); the call that begins a checkpoint,
 * after which training goes on; the steps that fit into its writing, and as many without; and a
 * checkpoint from its beginning to its manifest while nothing else is done. Files go into a folder
 * of their own in DIR (the current one), and from there again. Under MPI rank 0 prints its own
 * times and the bytes of all. */
#include "base/checked.h"
#include "base/clock.h"
#include "bench/program.h"
#include "bench/rows.h"
#include "io/files.h"
#include "state/save.h"
#include "train/session.h"

#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 3, STEPS_OF_A_ROUND = 200 };

static const char *const folder_name = "bench_save.checkpoint";

/* Times of one kind. */
typedef struct times {
    double *ms; /* (room), owned */
    int64_t count;
} times;

typedef struct bench {
    swt_session s;
    swt_save save;
    const char *parent; /* where the files go */
    char folder[SWT_PATH_BYTES];
    float *copy; /* (model.snapshot_count), owned */
    int64_t rounds, step;
    times copied, held, written, plain, beside; /* the last two of steps */
    bool json;
} bench;

static swt_status open_model(bench *b) {
    swt_session *s = &b->s;
    const swt_options *o = s->options;
    swt_dims d;
    swt_status status = swt_session_read_text(s, NULL);
    if (status == SWT_OK)
        status = swt_dims_from_options(&d, o, s->tokenizer.vocab);
    if (status == SWT_OK)
        status = swt_path_join(b->folder, b->parent, folder_name);
    SWT_TRY(swt_comm_agree(s->world, status));
    SWT_TRY(swt_session_open_model(s, &d, true));
    return swt_comm_agree(s->world,
                          swt_model_init_values(&s->model, (swt_init)o->model_init,
                                                o->model_init_scale, (uint64_t)o->train_seed));
}

static swt_status make_room(bench *b) {
    times *const all[] = {&b->copied, &b->held, &b->written, &b->plain, &b->beside};
    const size_t room = (size_t)(b->rounds * STEPS_OF_A_ROUND);
    const size_t bytes = (size_t)b->s.model.snapshot_count * sizeof(float);
    bool there = (b->copy = malloc(bytes + 1)) != NULL;
    for (int i = 0; i < 5; i++)
        there = there && (all[i]->ms = malloc(room * sizeof(double))) != NULL;
    if (!there)
        return SWT_FAIL(MEMORY, "--rounds: no room for %lld and a copy of %.1f MiB; use fewer",
                        (long long)b->rounds, swt_mib((double)bytes));
    memset(b->copy, 0, bytes);
    return SWT_OK;
}

static void note(times *t, double start_ms) {
    t->ms[t->count++] = swt_now_ms() - start_ms;
}

/* A step, and what it takes, if that is asked for. */
static swt_status run_step(bench *b, times *t) {
    swt_step_state state;
    const double start_ms = swt_now_ms();
    SWT_TRY(swt_session_load_batch(&b->s, ++b->step));
    SWT_TRY(swt_step(&b->s.model, &b->s.update));
    SWT_TRY(swt_step_state_read(&b->s.model, &state));
    if (t != NULL)
        note(t, start_ms);
    return SWT_OK;
}

static swt_status begin(bench *b, bool beside) {
    swt_session *s = &b->s;
    const swt_saving what = {
        .model = &s->model, .options = s->options, .tokenizer = &s->tokenizer, .step = b->step};
    SWT_TRY(swt_comm_agree(s->world, s->world->rank == 0 ? swt_folder_make(b->folder) : SWT_OK));
    const double start_ms = swt_now_ms();
    SWT_TRY(swt_save_begin(&b->save, &what, b->folder, beside));
    if (beside)
        note(&b->held, start_ms);
    return SWT_OK;
}

/* Wait for it, and remove what was written. */
static swt_status end(bench *b, double start_ms) {
    const swt_comm *world = b->s.world;
    uint64_t hash = 0;
    bool full = false;
    const swt_status status = swt_save_end(&b->save, &hash, &full);
    if (status == SWT_OK && start_ms > 0.0)
        note(&b->written, start_ms);
    const swt_error why = *swt_last_error();
    swt_save_fini(&b->save);
    const swt_status removed =
        world->rank == 0 ? swt_folder_remove(b->parent, folder_name) : SWT_OK;
    if (status == SWT_OK)
        return swt_comm_agree(b->s.world, removed);
    *swt_last_error() = why;
    return status;
}

/* One call for each array, which a snapshot needs at least. */
static swt_status copy(bench *b) {
    swt_model *m = &b->s.model;
    const int64_t count = m->shards.elements[b->s.world->rank];
    const size_t bytes = (size_t)count * sizeof *b->copy;
    const double start_ms = swt_now_ms();
    SWT_TRY(swt_model_read(m, b->copy, m->param, bytes));
    if (m->keeps == SWT_KEEPS_MOMENTS) {
        SWT_TRY(swt_model_read(m, b->copy + count, m->first_moment, bytes));
        SWT_TRY(swt_model_read(m, b->copy + 2 * count, m->second_moment, bytes));
    }
    note(&b->copied, start_ms);
    return SWT_OK;
}

/* Steps that begin and end while all ranks write, and as many that do not. */
static swt_status measure_steps(bench *b) {
    const int64_t before = b->beside.count;
    bool done = false;
    SWT_TRY(begin(b, true));
    for (int i = 0; !done && i < STEPS_OF_A_ROUND; i++) {
        SWT_TRY(run_step(b, &b->beside));
        SWT_TRY(swt_save_look(&b->save, &done));
    }
    b->beside.count -= done; /* the last outlived the writing */
    const int64_t fitted = b->beside.count - before;
    SWT_TRY(end(b, 0.0));
    for (int64_t i = 0; i < fitted; i++)
        SWT_TRY(run_step(b, &b->plain));
    return SWT_OK;
}

static swt_status measure(bench *b) {
    for (int i = 0; i < WARM_UP; i++)
        SWT_TRY(run_step(b, NULL));
    SWT_TRY(begin(b, true)); /* the snapshot's pages are there from here on, as the copy's are */
    SWT_TRY(end(b, 0.0));
    b->held.count = 0;
    for (int64_t round = 0; round < b->rounds; round++) {
        SWT_TRY(copy(b));
        SWT_TRY(measure_steps(b));
        const double start_ms = swt_now_ms();
        SWT_TRY(begin(b, false));
        SWT_TRY(end(b, start_ms));
    }
    return SWT_OK;
}

static double median(const times *t) {
    return t->count > 0 ? rows_timing(t->ms, t->count).median : 0.0;
}

static void print(bench *b, int64_t bytes, FILE *out) {
    static const column columns[] = {{"ranks", 5, 0},       {"threads", 7, 0}, {"mib", 8, 1},
                                     {"copy_ms", 8, 3},     {"hold_ms", 8, 3}, {"write_ms", 9, 3},
                                     {"write_mibs", 10, 1}, {"step_ms", 9, 3}, {"beside_ms", 9, 3},
                                     {"steps", 5, 0}};
    const rows r = ROWS(out, b->json, columns);
    const double mib = swt_mib((double)bytes), write_ms = median(&b->written);
    rows_head(&r);
    rows_add(&r, (cell[]){NUMBER(b->s.world->size), NUMBER(b->s.device.threads), NUMBER(mib),
                          NUMBER(median(&b->copied)), NUMBER(median(&b->held)), NUMBER(write_ms),
                          NUMBER(1e3 * mib / write_ms), NUMBER(median(&b->plain)),
                          NUMBER(median(&b->beside)), NUMBER(b->beside.count)});
    if (b->beside.count == 0)
        rows_say(&r, "No step fitted into the writing: give a larger model, or shorter steps.");
}

static swt_status run(bench *b, int argc, char **argv) {
    const flag flags[] = {{.name = "--rounds", .count = &b->rounds, .least = 1},
                          {.name = "--folder", .text = &b->parent},
                          {.name = "--json", .on = &b->json}};
    swt_comm *world = b->s.world;
    swt_status status = program_flags(flags, 3, &argc, argv);
    if (status == SWT_OK)
        status = swt_options_parse(b->s.options, world, argc, argv);
    if (status == SWT_OK && b->s.options->command != SWT_COMMAND_TRAIN)
        status = SWT_FAIL(USAGE,
                          "%s: is not measured; give flags of training, --rounds N, --folder DIR "
                          "or --json",
                          argv[1]);
    SWT_TRY(swt_comm_agree(world, status));
    SWT_TRY(open_model(b));
    SWT_TRY(swt_comm_agree(world, make_room(b)));
    SWT_TRY(measure(b));
    int64_t bytes = b->s.model.snapshot_count * (int64_t)sizeof(float);
    SWT_TRY(swt_comm_all_reduce_i64(world, &bytes, 1, NULL));
    print(b, bytes, world->rank == 0 ? stdout : NULL);
    return SWT_OK;
}

static const char usage[] =
    "bench_save [--rounds N] [--folder DIR] [--json] [any flag of swt-dist's training]";

int main(int argc, char **argv) {
    swt_standard_open();
    if (program_help(argc, argv, usage))
        return 0;
    swt_threads_settle(argv);
    static swt_options options;
    static bench b = {.rounds = 5, .parent = "."};
    swt_comm world;
    b.s.options = &options;
    b.s.world = &world;
    b.s.out = stdout;
    swt_status status = program_open(&world);
    if (status == SWT_OK)
        status = run(&b, argc, argv);
    swt_save_fini(&b.save);
    swt_session_close(&b.s);
    free(b.copy);
    free(b.copied.ms);
    free(b.held.ms);
    free(b.written.ms);
    free(b.plain.ms);
    free(b.beside.ms);
    return program_close(&world, "bench_save", status);
}
