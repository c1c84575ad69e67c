#include "bench/step_clock.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

const char *step_phase_name(step_phase phase) {
    static const char *const names[PHASE_COUNT] = {
        [PHASE_FORWARD] = "forward",     [PHASE_BACKWARD] = "backward",
        [PHASE_EXCHANGE] = "exchange",   [PHASE_REDUCTION] = "reduction",
        [PHASE_OPTIMISER] = "optimiser", [PHASE_WAITING] = "waiting",
        [PHASE_OTHER] = "other",
    };
    return names[phase];
}

static swt_status add_span(step_clock *clock) {
    step_span *grown = realloc(clock->spans, ((size_t)clock->n_spans + 1) * sizeof *grown);
    if (grown == NULL)
        return SWT_FAIL(MEMORY, "clock: no room for %d calls", clock->n_spans + 1);
    clock->spans = grown;
    step_span *span = &grown[clock->n_spans++];
    *span = (step_span){.entry = 0};
    SWT_TRY(swt_event_create(clock->device, &span->begin));
    return swt_event_create(clock->device, &span->end);
}

swt_status step_clock_begin(step_clock *clock, step_call *out) {
    if (clock->used == clock->n_spans)
        SWT_TRY(add_span(clock));
    *out = (step_call){clock, clock->used++, clock->device->idle_ms};
    return swt_event_record(clock->device, clock->spans[out->span].begin, clock->stream);
}

static int find(step_clock *clock, const char *op, step_phase phase) {
    for (int i = 0; i < clock->n; i++)
        if (clock->entries[i].phase == phase && strcmp(clock->entries[i].op, op) == 0)
            return i;
    const int at = clock->n < STEP_ENTRIES ? clock->n++ : STEP_ENTRIES - 1;
    clock->entries[at] = (step_entry){.op = op, .phase = phase};
    return at;
}

swt_status step_clock_end(const step_call *k, const char *op, step_phase phase) {
    step_clock *clock = k->clock;
    step_span *span = &clock->spans[k->span];
    swt_device *device = clock->device;
    SWT_TRY(swt_event_record(device, span->end, clock->stream));
    span->entry = find(clock, op, phase);
    step_entry *entry = &clock->entries[span->entry];
    const double idle_ms = (device->idle_ms - k->start_idle_ms) / device->threads;
    entry->calls++;
    entry->idle_ms += idle_ms;
    entry->ms -= idle_ms;
    return SWT_OK;
}

swt_status step_clock_count(step_clock *clock) {
    for (int i = 0; i < clock->used; i++) {
        const step_span *span = &clock->spans[i];
        double ms = 0.0;
        SWT_TRY(swt_event_ms(clock->device, span->begin, span->end, &ms));
        clock->entries[span->entry].ms += ms;
    }
    clock->used = 0;
    return SWT_OK;
}

void step_clock_close(step_clock *clock) {
    for (int i = 0; i < clock->n_spans; i++) {
        swt_event_destroy(clock->device, clock->spans[i].begin);
        swt_event_destroy(clock->device, clock->spans[i].end);
    }
    free(clock->spans);
    clock->spans = NULL;
    clock->n_spans = clock->used = 0;
}

/* The communicator's slots that a step uses, the same way. */
static swt_status timed_all_to_all(swt_comm *comm, swt_direction direction, void *receive,
                                   const void *send, const swt_split *split, size_t block_bytes,
                                   swt_stream *stream) {
    const step_comm *timed = (const step_comm *)(const void *)comm->table;
    step_call k;
    SWT_TRY(step_clock_begin(timed->clock, &k));
    SWT_TRY(timed->inner->all_to_all(comm, direction, receive, send, split, block_bytes, stream));
    return step_clock_end(&k, "all_to_all", PHASE_EXCHANGE);
}

static swt_status timed_all_reduce_i64(swt_comm *comm, int64_t *data, int64_t count,
                                       swt_stream *stream) {
    const step_comm *timed = (const step_comm *)(const void *)comm->table;
    step_call k;
    SWT_TRY(step_clock_begin(timed->clock, &k));
    SWT_TRY(timed->inner->all_reduce_i64(comm, data, count, stream));
    return step_clock_end(&k, "all_reduce_i64", PHASE_REDUCTION);
}

static swt_status timed_broadcast(swt_comm *comm, void *data, size_t bytes, int root,
                                  swt_stream *stream) {
    const step_comm *timed = (const step_comm *)(const void *)comm->table;
    step_call k;
    SWT_TRY(step_clock_begin(timed->clock, &k));
    SWT_TRY(timed->inner->broadcast(comm, data, bytes, root, stream));
    return step_clock_end(&k, "broadcast", PHASE_REDUCTION);
}

static void attach_comm(step_clock *clock, step_comm *timed, swt_comm *comm) {
    *timed = (step_comm){.table = *comm->table, .inner = comm->table, .clock = clock};
    timed->table.all_to_all = timed_all_to_all;
    timed->table.all_reduce_i64 = timed_all_reduce_i64;
    timed->table.broadcast = timed_broadcast;
    comm->table = &timed->table;
}

void step_clock_attach(step_clock *clock, swt_model *m, bool no_sums) {
    *clock = (step_clock){.inner = m->ctx.ops, .device = m->ctx.device, .stream = m->ctx.stream};
    step_ops_fill(&clock->ops, clock->inner, no_sums);
    m->ctx.ops = &clock->ops;
    attach_comm(clock, &clock->comms[0], m->dist->devices);
    attach_comm(clock, &clock->comms[1], &m->dist->expert_group);
    attach_comm(clock, &clock->comms[2], &m->dist->replica_group);
}

void step_clock_reset(step_clock *clock) {
    clock->n = clock->used = 0;
}
