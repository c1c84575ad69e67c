/* The program with a fault in the arithmetic. For state/test_audit.py: after one step, on one rank,
 * the last bit of one weight is the other way round, as a defect of memory would leave it
 * (SWT_TEST_PLANT="STEP RANK TENSOR"). For state/test_skip.py: in some steps, on one rank, a
 * gradient is bad (SWT_TEST_BAD="FIRST LAST RANK [TENSOR]"): its flag alone is set, or the tensor's
 * first weight is no number during those steps. */
#include "train/step.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

swt_status __real_swt_step(swt_model *m, const swt_update_rule *u);
swt_status __wrap_swt_step(swt_model *m, const swt_update_rule *u);
swt_status __real_swt_sums_reduce(swt_model *m);
swt_status __wrap_swt_sums_reduce(swt_model *m);

/* The first weight of a tensor, NULL where this rank does not hold it. */
static float *weight_of(swt_model *m, const char *name) {
    for (int64_t i = 0; i < m->params.count; i++)
        if (strcmp(m->params.table[i].name, name) == 0 && m->params.table[i].offset >= 0)
            return m->param + m->params.table[i].offset;
    return NULL;
}

static void flip_bit(float *weight) {
    uint32_t bits;
    memcpy(&bits, weight, sizeof bits);
    bits ^= 1;
    memcpy(weight, &bits, sizeof bits);
}

static void plant(swt_model *m) {
    const char *where = getenv("SWT_TEST_PLANT");
    char name[96] = "";
    int step = 0, rank = 0;
    if (where == NULL || sscanf(where, "%d %d %95s", &step, &rank, name) != 3 ||
        m->ctx.state->step != step || m->dist->rank != rank)
        return;
    float *weight = weight_of(m, name);
    if (weight != NULL)
        flip_bit(weight);
}

/* Whether this rank's gradient of a step is to be bad; `name` gets the tensor, "": the flag. */
static bool is_bad(const swt_model *m, int64_t step, char name[96]) {
    const char *where = getenv("SWT_TEST_BAD");
    int first = 0, last = 0, rank = 0;
    name[0] = '\0';
    return where != NULL && sscanf(where, "%d %d %d %95s", &first, &last, &rank, name) >= 3 &&
           step >= first && step <= last && m->dist->rank == rank;
}

swt_status __wrap_swt_sums_reduce(swt_model *m) {
    char name[96];
    if (is_bad(m, m->ctx.state->step, name) && name[0] == '\0')
        m->ctx.state->nonfinite = SWT_STEP_BAD;
    return __real_swt_sums_reduce(m);
}

swt_status __wrap_swt_step(swt_model *m, const swt_update_rule *u) {
    char name[96];
    float *weight = is_bad(m, m->ctx.state->step + 1, name) ? weight_of(m, name) : NULL;
    const float good = weight != NULL ? *weight : 0.0f;
    if (weight != NULL)
        *weight = -NAN; /* the sign that x86 gives what is none; the ledger has the other */
    const swt_status status = __real_swt_step(m, u);
    if (weight != NULL)
        *weight = good;
    plant(m);
    return status;
}
