/* The program under watch: src/main.c and the libraries as they are, linked with this file, whose
 * allocation functions take the place of libc's in the whole process. From the start of one step
 * to the start of a later one it counts, for each place in memory that a call returns to, the
 * calls and bytes, and notes at the start of each step what the process holds. The answer is one
 * file of JSON for each rank; tests/e2e/test_flat.py judges it.
 *
 *   SWT_WATCH_OUT    where to write: the number of the process is added
 *   SWT_WATCH_FIRST  the step whose start begins the watch
 *   SWT_WATCH_STEPS  its length, at most MAX_STEPS
 *
 * Linked with --wrap=swt_step, which is what marks a step. For glibc: its __libc_* functions
 * do the work, and free stays its own. */
#define _GNU_SOURCE
#include "train/step.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_STEPS = 1000, MAX_SITES = 4096, STATUS_BYTES = 8192 };

typedef struct site {
    const char *caller;
    long long calls, bytes;
} site;

typedef struct sample {
    long long heap_bytes; /* in use, over all arenas and mapped blocks */
    long long anon_kib;   /* RssAnon */
} sample;

static struct {
    atomic_bool on;
    pthread_mutex_t lock;
    site sites[MAX_SITES];
    int n_sites;
    bool full; /* more callers than there is room for */
    sample samples[MAX_STEPS + 1];
    long long first, steps, begun; /* begun: steps of the whole run */
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* glibc's own allocation functions. */
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t align, size_t bytes);

/* The linker's marks of this program's own code. */
extern const char __executable_start[], etext[];

extern swt_status __real_swt_step(swt_model *m, const swt_update_rule *u);
swt_status __wrap_swt_step(swt_model *m, const swt_update_rule *u);

static void count(const void *caller, size_t bytes) {
    if (!atomic_load(&watch.on))
        return;
    pthread_mutex_lock(&watch.lock);
    int i = 0;
    while (i < watch.n_sites && watch.sites[i].caller != (const char *)caller)
        i++;
    if (i < MAX_SITES) {
        watch.n_sites += i == watch.n_sites;
        watch.sites[i].caller = caller;
        watch.sites[i].calls++;
        watch.sites[i].bytes += (long long)bytes;
    } else {
        watch.full = true;
    }
    pthread_mutex_unlock(&watch.lock);
}

void *malloc(size_t bytes) {
    count(__builtin_return_address(0), bytes);
    return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes) {
    count(__builtin_return_address(0), n * bytes);
    return __libc_calloc(n, bytes);
}

void *realloc(void *memory, size_t bytes) {
    count(__builtin_return_address(0), bytes);
    return __libc_realloc(memory, bytes);
}

void *memalign(size_t align, size_t bytes) {
    count(__builtin_return_address(0), bytes);
    return __libc_memalign(align, bytes);
}

void *aligned_alloc(size_t align, size_t bytes) {
    count(__builtin_return_address(0), bytes);
    return __libc_memalign(align, bytes);
}

int posix_memalign(void **out, size_t align, size_t bytes) {
    count(__builtin_return_address(0), bytes);
    *out = __libc_memalign(align, bytes);
    return *out != NULL ? 0 : ENOMEM;
}

/* Without stdio, which would allocate. */
static long long anon_kib(void) {
    static char text[STATUS_BYTES];
    const int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    const ssize_t n = file >= 0 ? read(file, text, sizeof text - 1) : 0;
    if (file >= 0)
        close(file);
    text[n > 0 ? n : 0] = '\0';
    const char *line = strstr(text, "RssAnon:");
    return line != NULL ? strtoll(line + strlen("RssAnon:"), NULL, 10) : -1;
}

static void take_sample(void) {
    const struct mallinfo2 info = mallinfo2();
    watch.samples[watch.begun - watch.first] =
        (sample){.heap_bytes = (long long)(info.uordblks + info.hblkhd), .anon_kib = anon_kib()};
}

swt_status __wrap_swt_step(swt_model *m, const swt_update_rule *u) {
    const long long last = watch.first + watch.steps;
    watch.begun++;
    if (watch.steps > 0 && watch.begun >= watch.first && watch.begun <= last) {
        take_sample();
        atomic_store(&watch.on, watch.begun < last);
    }
    return __real_swt_step(m, u);
}

static long long number(const char *name) {
    const char *text = getenv(name);
    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void begin(void) {
    watch.first = number("SWT_WATCH_FIRST");
    watch.steps = number("SWT_WATCH_STEPS");
    if (watch.first < 1 || watch.steps > MAX_STEPS)
        watch.steps = 0;
}

/* "" is this program. */
static const char *library_of(const char *caller) {
    Dl_info info;
    if (caller >= __executable_start && caller < etext)
        return "";
    if (dladdr(caller, &info) == 0 || info.dli_fname == NULL)
        return "?";
    const char *slash = strrchr(info.dli_fname, '/');
    return slash != NULL ? slash + 1 : info.dli_fname;
}

static void write_answer(FILE *out) {
    fprintf(out, "{\"steps\": %lld, \"begun\": %lld, \"full\": %s,\n \"sites\": [", watch.steps,
            watch.begun, watch.full ? "true" : "false");
    for (int i = 0; i < watch.n_sites; i++) {
        const site *s = &watch.sites[i];
        fprintf(out,
                "%s\n  {\"library\": \"%s\", \"at\": \"%#tx\", \"calls\": %lld, \"bytes\": %lld}",
                i > 0 ? "," : "", library_of(s->caller), s->caller - __executable_start, s->calls,
                s->bytes);
    }
    fprintf(out, "],\n \"samples\": [");
    for (long long i = 0; i <= watch.steps && watch.first + i <= watch.begun; i++)
        fprintf(out, "%s\n  {\"heap\": %lld, \"anon\": %lld}", i > 0 ? "," : "",
                watch.samples[i].heap_bytes, watch.samples[i].anon_kib * 1024);
    fprintf(out, "]}\n");
}

__attribute__((destructor)) static void end(void) {
    char path[4096];
    const char *base = getenv("SWT_WATCH_OUT");
    atomic_store(&watch.on, false);
    if (base == NULL || watch.steps == 0)
        return;
    snprintf(path, sizeof path, "%s.%ld", base, (long)getpid());
    FILE *out = fopen(path, "we");
    if (out == NULL)
        return;
    write_answer(out);
    fclose(out);
}
