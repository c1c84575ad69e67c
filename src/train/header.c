#include "train/header.h"

void swt_header_say(swt_run *run, const swt_session *s) {
    const swt_dims *d = &s->model.dims;
    size_t bytes = 0;
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        bytes += s->model.arenas[i].planned_bytes;
    swt_run_say(run, "swt-dist %s: %d rank%s of %d thread%s (%s, %s), run directory %s",
                SWT_VERSION, s->world->size, s->world->size == 1 ? "" : "s", s->device.threads,
                s->device.threads == 1 ? "" : "s", s->device.table->name, s->devices->table->name,
                run->path);
    if (s->no_gpu[0] != '\0')
        swt_run_say(run, "no GPU: %s", s->no_gpu);
    swt_run_say(run, "text %s: %lld training and %lld validation windows of %lld, vocabulary %lld",
                s->data_path, (long long)s->data.train_windows, (long long)s->data.valid_windows,
                (long long)d->T, (long long)d->V);
    swt_run_say(
        run,
        "model: %lld parameters, %lld active per token; %lld experts, %lld on rank 0; groups of "
        "%d ranks",
        (long long)s->model.params.total, (long long)s->model.params.active, (long long)d->E,
        (long long)s->dist.El, s->dist.P);
    swt_run_say(run, "step: %lld micro-batches of %lld x %lld tokens; memory of rank 0: %.1f MiB",
                (long long)d->M, (long long)d->B, (long long)d->T, (double)bytes / 1048576.0);
    if (s->world->size > d->M)
        swt_run_say(
            run,
            "warning: %d ranks for %lld micro-batches: some ranks only serve their experts; "
            "raise batch.micro_batches",
            s->world->size, (long long)d->M);
}
