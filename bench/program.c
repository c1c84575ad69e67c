#include "bench/program.h"

#include "options/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static swt_status set_flag(const flag *f, const char *text) {
    char *end = NULL;
    errno = 0;
    if (f->count != NULL) {
        const long long value = strtoll(text, &end, 10);
        if (errno != 0 || end == text || *end != '\0' || value < f->least || value > INT32_MAX)
            return SWT_FAIL(USAGE, "%s: is %s; it must be an integer from %lld to %d", f->name,
                            text, (long long)f->least, INT32_MAX);
        *f->count = value;
    } else if (f->real != NULL) {
        const double value = strtod(text, &end);
        if (end == text || *end != '\0' || !isfinite(value) || value <= 0.0)
            return SWT_FAIL(USAGE, "%s: is %s; it must be a number above 0", f->name, text);
        *f->real = value;
    } else {
        *f->text = text;
    }
    return SWT_OK;
}

static const flag *find_flag(const flag *flags, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(flags[i].name, name) == 0)
            return &flags[i];
    return NULL;
}

swt_status program_flags(const flag *flags, int n, int *argc, char **argv) {
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        const flag *f = find_flag(flags, n, argv[i]);
        if (f == NULL) {
            argv[kept++] = argv[i];
        } else if (f->on != NULL) {
            *f->on = true;
        } else {
            if (i + 1 == *argc)
                return SWT_FAIL(USAGE, "%s: has no value; it needs one", f->name);
            SWT_TRY(set_flag(f, argv[++i]));
        }
    }
    argv[kept] = NULL;
    *argc = kept;
    return SWT_OK;
}

bool program_help(int argc, char *const *argv, const char *usage) {
    bool asked = false;
    for (int i = 1; i < argc; i++)
        asked = asked || strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (asked && (rank == NULL || strcmp(rank, "0") == 0))
        printf("usage: %s\n", usage);
    return asked;
}

swt_status program_no_more(int argc, char *const *argv, const char *usage) {
    if (argc > 1)
        return SWT_FAIL(USAGE, "%s: is not known; usage: %s", argv[1], usage);
    return SWT_OK;
}

swt_status program_device(const char *name, int *choice) {
    static const char *const names[] = {
        [SWT_DEVICE_AUTO] = "auto", [SWT_DEVICE_CPU] = "cpu", [SWT_DEVICE_CUDA] = "cuda"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *choice = i;
            return SWT_OK;
        }
    return SWT_FAIL(USAGE, "--device: is %s; it must be auto, cpu or cuda", name);
}

swt_status program_open(swt_comm *world) {
    swt_comm_open_self(world);
    return swt_comm_launched_by_mpi() ? swt_comm_open_mpi(world) : SWT_OK;
}

int program_close(swt_comm *world, const char *name, swt_status status) {
    swt_error *error = swt_last_error();
    if (status == SWT_OK) {
        status = swt_standard_finish(stdout);
        error->agreed = status != SWT_OK; /* nobody waits any more */
    }
    const int code = swt_exit_code(status);
    if (status != SWT_OK && !error->silent) {
        fprintf(stderr, "%s: error: %s\n", name, error->message);
        fflush(stderr);
    }
    if (status != SWT_OK && !error->agreed && world->size > 1)
        swt_comm_abort(world, code);
    swt_comm_close(world);
    return code;
}
