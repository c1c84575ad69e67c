#include "judge/selftest.h"

#include "base/clock.h"
#include "base/words.h"
#include "judge/checks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What all ranks found, and the first failure. */
typedef struct course {
    swt_trial trial;
    FILE *out;
    swt_finding *reports; /* (ranks), of the last check */
    int failed;           /* checks */
    int first_check;      /* that failed; -1: none */
    int first_rank;       /* where */
    char first_message[SWT_TRIAL_TEXT_BYTES];
} course;

static int64_t largest_of(const course *c, double *worst, double *ms) {
    *worst = *ms = 0;
    for (int r = 0; r < c->trial.host->size; r++) {
        *worst = fmax(*worst, c->reports[r].worst);
        *ms = fmax(*ms, c->reports[r].ms);
    }
    return c->reports[0].cases;
}

/* The lowest rank where the check failed; -1: none. */
static int failing_rank(const course *c) {
    for (int r = 0; r < c->trial.host->size; r++)
        if (c->reports[r].failed)
            return r;
    return -1;
}

static void print_heading(const course *c, const swt_trial_setup *setup) {
    if (c->trial.host->rank != 0)
        return;
    fprintf(c->out, "swt-dist %s selftest: %d rank%s (%s, %s), %d thread%s each, seed %llu\n",
            SWT_VERSION, setup->host->size, swt_plural(setup->host->size), setup->ops->name,
            setup->world->table->name, setup->device->threads, swt_plural(setup->device->threads),
            (unsigned long long)setup->seed);
    fprintf(c->out, "%-24s %6s %14s %9s  %s\n", "check", "cases", "worst/allowed", "ms", "result");
}

static void print_row(const course *c, const char *name, int rank) {
    double worst = 0, ms = 0;
    const int64_t cases = largest_of(c, &worst, &ms);
    char share[32] = "exact";
    if (c->trial.host->rank != 0)
        return;
    if (c->reports[0].measured)
        snprintf(share, sizeof share, "%.3g", worst);
    fprintf(c->out, "%-24s %6lld %14s %9.1f  ", name, (long long)cases, share, ms);
    if (rank < 0)
        fprintf(c->out, "ok\n");
    else
        fprintf(c->out, "FAILED on rank %d: %s\n", rank, c->reports[rank].message);
    fflush(c->out);
}

/* Tell and hear what a check found. */
static swt_status gather(course *c, int check) {
    SWT_TRY(swt_comm_all_gather(c->trial.host, c->reports, &c->trial.found, sizeof c->trial.found,
                                NULL));
    const int rank = failing_rank(c);
    print_row(c, swt_check_table[check].name, rank);
    c->failed += rank >= 0;
    if (rank >= 0 && c->first_check < 0) {
        c->first_check = check;
        c->first_rank = rank;
        memcpy(c->first_message, c->reports[rank].message, sizeof c->first_message);
    }
    return SWT_OK;
}

/* The error of an operation, with the check's name before it. */
static swt_status name_check(swt_status status, const char *name) {
    char message[sizeof swt_last_error()->message];
    if (status == SWT_OK)
        return SWT_OK;
    memcpy(message, swt_last_error()->message, sizeof message);
    return SWT_FAIL_AS(status, "selftest: %s: %.900s", name, message);
}

/* A rank whose operation fails ends all ranks: in a check together the others wait for it, so the
 * error goes up unagreed. */
static swt_status run_checks(course *c) {
    for (int i = 0; i < swt_check_count; i++) {
        const swt_check_row *row = &swt_check_table[i];
        const swt_status status = swt_check_run(&c->trial, i);
        if (row->together && status != SWT_OK && swt_last_error()->agreed)
            return status;
        const swt_status named = name_check(status, row->name);
        if (row->together)
            SWT_TRY(named);
        SWT_TRY(swt_comm_agree(c->trial.host, named));
        SWT_TRY(gather(c, i));
    }
    return SWT_OK;
}

/* One line for all ranks. */
static swt_status verdict(course *c, double start) {
    swt_comm *host = c->trial.host;
    if (host->rank == 0)
        fprintf(c->out, "%d checks: %d ok, %d failed; %d rank%s, %.1f s\n", swt_check_count,
                swt_check_count - c->failed, c->failed, host->size, swt_plural(host->size),
                (swt_now_ms() - start) / 1e3);
    swt_status status = SWT_OK;
    if (host->rank == 0 && c->first_check >= 0)
        status =
            SWT_FAIL(NUMBERS,
                     "selftest: %s failed on rank %d: %s; do not trust what this build computes "
                     "on this machine",
                     swt_check_table[c->first_check].name, c->first_rank, c->first_message);
    return swt_comm_agree(host, status);
}

swt_status swt_selftest_all(const swt_trial_setup *setup, FILE *out) {
    const double start = swt_now_ms();
    course c = {.out = out, .first_check = -1};
    swt_status status = swt_trial_open(&c.trial, setup);
    c.reports = calloc((size_t)setup->host->size, sizeof *c.reports);
    if (status == SWT_OK && c.reports == NULL)
        status = SWT_FAIL(MEMORY, "memory: no room for a list of %d rank%s", setup->host->size,
                          swt_plural(setup->host->size));
    status = swt_comm_agree(setup->host, status);
    if (status == SWT_OK) {
        print_heading(&c, setup);
        status = run_checks(&c);
    }
    if (status == SWT_OK)
        status = verdict(&c, start);
    free(c.reports);
    /* After an error that others do not know of they may wait in the middle of an exchange, and
     * the end of all ranks is near. */
    if (status == SWT_OK || swt_last_error()->agreed || setup->host->size == 1)
        swt_trial_close_all(&c.trial);
    return status;
}

swt_status swt_command_selftest(swt_session *s) {
    SWT_TRY(swt_session_open_device(s));
    s->device.warnings = NULL; /* its shapes are odd on purpose */
    const swt_trial_setup setup = {.ops = s->backend->ops,
                                   .device = &s->device,
                                   .stream = s->stream,
                                   .host = s->world,
                                   .world = s->devices,
                                   .seed = (uint64_t)s->options->train_seed};
    return swt_selftest_all(&setup, s->out);
}
