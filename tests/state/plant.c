/* The program with a fault in the arithmetic: after one step, on one rank, the last bit of one
 * weight is the other way round, as a defect of memory would leave it. SWT_TEST_PLANT="STEP RANK
 * TENSOR". For state/test_audit.py. */
#include "train/step.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

swt_status __real_swt_step(swt_model *m, const swt_update_rule *u);
swt_status __wrap_swt_step(swt_model *m, const swt_update_rule *u);

static int64_t done;

static void plant(swt_model *m, const char *name) {
    for (int64_t i = 0; i < m->params.count; i++) {
        const swt_param *p = &m->params.table[i];
        if (strcmp(p->name, name) != 0 || p->offset < 0)
            continue;
        uint32_t bits;
        memcpy(&bits, m->param + p->offset, sizeof bits);
        bits ^= 1;
        memcpy(m->param + p->offset, &bits, sizeof bits);
    }
}

swt_status __wrap_swt_step(swt_model *m, const swt_update_rule *u) {
    const char *where = getenv("SWT_TEST_PLANT");
    char name[96] = "";
    int step = 0, rank = 0;
    const swt_status status = __real_swt_step(m, u);
    done++;
    if (where != NULL && sscanf(where, "%d %d %95s", &step, &rank, name) == 3 && done == step &&
        m->dist->rank == rank)
        plant(m, name);
    return status;
}
