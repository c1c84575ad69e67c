/* A clock inside a training step: an op table and communicator tables that time what they pass on.
 *
 * step_clock_attach puts them in place of the product's own. Every call's time between two events
 * of the device (swt_event_ms), and in it the time that threads had nothing to do, is booked under
 * the phase that the caller has set; grad_add, grad_finish and the communicators' calls have a
 * phase of their own wherever they are made. (The experts' gradients add their integers inside the
 * operation: those are booked with it.) */
#ifndef BENCH_STEP_CLOCK_H
#define BENCH_STEP_CLOCK_H

#include "comm/swt_comm.h"
#include "model/model.h"

typedef enum step_phase {
    PHASE_FORWARD,
    PHASE_BACKWARD,
    PHASE_EXCHANGE,  /* all-to-all */
    PHASE_REDUCTION, /* grad_add, grad_finish, all-reduce, broadcast */
    PHASE_OPTIMISER, /* also the step's state, the clip norm and the batch's upload */
    PHASE_WAITING,   /* threads without work, taken out of the other phases */
    PHASE_OTHER,     /* of the step, outside of every call */
    PHASE_COUNT
} step_phase;

const char *step_phase_name(step_phase phase);

/* One kind of call in one phase. */
typedef struct step_entry {
    const char *op;
    step_phase phase;
    int64_t calls;
    double ms;      /* the device's time, without idle_ms */
    double idle_ms; /* beside it: threads without work, by the number of threads */
} step_entry;

enum { STEP_ENTRIES = 80, STEP_COMMS = 3 };

/* A call between two events, whose time is known when its work is done. */
typedef struct step_span {
    swt_event *begin, *end;
    int entry;
} step_span;

typedef struct step_clock step_clock;

/* A communicator's table with the clock that it tells. */
typedef struct step_comm {
    swt_comm_table table; /* first: the calls find this structure by it */
    const swt_comm_table *inner;
    step_clock *clock;
} step_comm;

struct step_clock {
    swt_ops ops; /* first: the calls find this structure by it */
    const swt_ops *inner;
    swt_device *device;
    swt_stream *stream;
    step_phase phase;
    step_span *spans; /* (n_spans), of which `used` wait to be counted; the events of the others are
                         there to be used again */
    int n_spans, used;
    step_comm comms[STEP_COMMS];
    step_entry entries[STEP_ENTRIES];
    int n;
};

/* Put the clock into a model that is connected and committed. It must outlive the model and its
 * communicators, but step_clock_close comes before their device's end. no_sums: grad_add and
 * grad_finish do nothing, and the experts' gradients are added to no sums. */
void step_clock_attach(step_clock *clock, swt_model *m, bool no_sums);

/* Book the calls since the last time, whose work the caller has waited for. */
SWT_MUST_CHECK swt_status step_clock_count(step_clock *clock);

/* Forget what was booked. */
void step_clock_reset(step_clock *clock);

/* The events. */
void step_clock_close(step_clock *clock);

/* ---- for the calls that it times */

typedef struct step_call {
    step_clock *clock;
    int span;
    double start_idle_ms;
} step_call;

static inline step_clock *step_clock_of(const swt_ctx *c) {
    return (step_clock *)(uintptr_t)c->ops;
}
SWT_MUST_CHECK swt_status step_clock_begin(step_clock *clock, step_call *out);
SWT_MUST_CHECK swt_status step_clock_end(const step_call *call, const char *op, step_phase phase);
void step_ops_fill(swt_ops *out, const swt_ops *inner, bool no_sums);

#endif
