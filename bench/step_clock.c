#include "bench/step_clock.h"

#include "base/checked.h"
#include "base/clock.h"

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

step_call step_clock_begin(step_clock *clock) {
    return (step_call){clock, swt_now_ms(), clock->device->idle_ms};
}

static step_entry *find(step_clock *clock, const char *op, step_phase phase) {
    for (int i = 0; i < clock->n; i++)
        if (clock->entries[i].phase == phase && strcmp(clock->entries[i].op, op) == 0)
            return &clock->entries[i];
    const int at = clock->n < STEP_ENTRIES ? clock->n++ : STEP_ENTRIES - 1;
    clock->entries[at] = (step_entry){.op = op, .phase = phase};
    return &clock->entries[at];
}

void step_clock_end(const step_call *k, const char *op, step_phase phase) {
    step_clock *clock = k->clock;
    step_entry *entry = find(clock, op, phase);
    const swt_device *device = clock->device;
    const double idle_ms = (device->idle_ms - k->start_idle_ms) / device->threads;
    entry->calls++;
    entry->idle_ms += idle_ms;
    entry->ms += swt_now_ms() - k->start_ms - idle_ms;
}

/* The communicator's slots that a step uses, the same way. */
static swt_status timed_all_to_all(swt_comm *comm, swt_direction direction, void *receive,
                                   const void *send, const swt_split *split, size_t block_bytes,
                                   swt_stream *stream) {
    const step_comm *timed = (const step_comm *)(const void *)comm->table;
    const step_call k = step_clock_begin(timed->clock);
    const swt_status status =
        timed->inner->all_to_all(comm, direction, receive, send, split, block_bytes, stream);
    step_clock_end(&k, "all_to_all", PHASE_EXCHANGE);
    return status;
}

static swt_status timed_all_reduce_i64(swt_comm *comm, int64_t *data, int64_t count,
                                       swt_stream *stream) {
    const step_comm *timed = (const step_comm *)(const void *)comm->table;
    const step_call k = step_clock_begin(timed->clock);
    const swt_status status = timed->inner->all_reduce_i64(comm, data, count, stream);
    step_clock_end(&k, "all_reduce_i64", PHASE_REDUCTION);
    return status;
}

static swt_status timed_broadcast(swt_comm *comm, void *data, size_t bytes, int root,
                                  swt_stream *stream) {
    const step_comm *timed = (const step_comm *)(const void *)comm->table;
    const step_call k = step_clock_begin(timed->clock);
    const swt_status status = timed->inner->broadcast(comm, data, bytes, root, stream);
    step_clock_end(&k, "broadcast", PHASE_REDUCTION);
    return status;
}

static void attach_comm(step_clock *clock, step_comm *timed, swt_comm *comm) {
    *timed = (step_comm){.table = *comm->table, .inner = comm->table, .clock = clock};
    timed->table.all_to_all = timed_all_to_all;
    timed->table.all_reduce_i64 = timed_all_reduce_i64;
    timed->table.broadcast = timed_broadcast;
    comm->table = &timed->table;
}

void step_clock_attach(step_clock *clock, swt_model *m, bool no_sums) {
    *clock = (step_clock){.device = m->ctx.device};
    step_ops_fill(&clock->ops, no_sums);
    m->ctx.ops = &clock->ops;
    attach_comm(clock, &clock->comms[0], m->dist->world);
    attach_comm(clock, &clock->comms[1], &m->dist->experts);
    attach_comm(clock, &clock->comms[2], &m->dist->replicas);
}

void step_clock_reset(step_clock *clock) {
    clock->n = 0;
}
