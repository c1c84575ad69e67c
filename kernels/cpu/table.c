#include "kernels/cpu/cpu.h"
#include "kernels/swt_backend.h"

#define SLOT(op) .op = swt_cpu_##op,
static const swt_ops cpu_ops = {.name = "cpu", SWT_OPS(SLOT)};

static swt_status cpu_count(int *count) {
    *count = 1;
    return SWT_OK;
}

const swt_backend swt_cpu_backend = {
    .name = "cpu",
    .ops = &cpu_ops,
    .count = cpu_count,
    .open = swt_cpu_open,
};
