/* Blocks of a kernel, one after another; threads of a block as fibers that run until they wait.
 *
 * A thread that never waits runs through on a fiber that the next one takes over, so that kernels
 * without barriers cost a function call a thread. Under ThreadSanitizer every thread has a fiber of
 * its own, from one of two pools in turn, so that two blocks that run one after the other share
 * none: what a fiber has seen in one block would count as order in the next.
 *
 * MATES lanes of a warp, other ones in every block, are one thread to ThreadSanitizer: a barrier
 * costs it time with the square of its threads, a thread costs it a megabyte. Mates order nothing
 * else, as they meet the same barriers. What they hide is a race of two lanes that are mates, which
 * the next warp or block shows. */
#include "tests/emu/emu_sched.h"

#include "tests/emu/emu_core.h"
#include "tests/emu/emu_fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LANES = 32,
    MATES = 4,
    THREADS_MAX = 1024,
    WARPS_MAX = THREADS_MAX / LANES,
    SHARED_MAX = 48 * 1024
};

#if defined(__SANITIZE_ADDRESS__) || defined(SWT_EMU_TSAN)
enum { STACK_BYTES = 512 * 1024 };
#else
enum { STACK_BYTES = 128 * 1024 };
#endif

typedef struct place {
    const char *operation, *file;
    int line;
} place;

typedef struct thread {
    swt_emu_thread seen; /* what the kernel sees */
    emu_fiber *fiber;
    unsigned number;
    bool returned;
    place waits; /* operation NULL: it does not */
} thread;

/* The waiting of a warp's or the block's threads. Values are kept twice: a thread may be one
 * operation ahead of those that still read. */
typedef struct gathering {
    int arrived, phase;
    place where; /* the first that arrived */
    int sum[2];
    uint64_t values[2][LANES];
} gathering;

/* Addresses that ThreadSanitizer orders by: new ones for every block. */
typedef struct marks {
    uint64_t block[2], warp[WARPS_MAX][2];
} marks;

static struct {
    const swt_emu_kernel *kernel;
    const void *arguments;
    uint64_t *start, *end;
    bool starts, ends; /* the first two blocks, the last two: all fibers take part in them */
    marks *orders;
    emu_fiber *home;
    thread threads[THREADS_MAX];
    gathering all, warps[WARPS_MAX];
    unsigned order[THREADS_MAX], ready[THREADS_MAX]; /* ready: a stack */
    unsigned count, begun, ready_count, returned;
    thread *runs, *begins; /* begins: the thread that the next fiber takes up */
    uint64_t block_number;
} now;

swt_emu_thread swt_emu_self;
uint3 swt_emu_block;
dim3 swt_emu_block_dim, swt_emu_grid_dim;
void *swt_emu_dynamic_shared;
int emu_pool;

/* -- which fiber runs ------------------------------------------------------------------------- */

static void work(void);

static void run(thread *t) {
    now.runs = t;
    swt_emu_self = t->seen;
}

#ifdef SWT_EMU_TSAN
static emu_fiber *take_fiber(const thread *t) {
    static emu_fiber *pools[EMU_POOLS][2][THREADS_MAX];
    emu_fiber **const pool = pools[emu_pool][now.block_number % 2];
    /* Lanes change places in every block: lane -> factor lane + shift, modulo the lanes. */
    const uint64_t hash = now.block_number * 0x9e3779b97f4a7c15u;
    const unsigned factor = (unsigned)(hash >> 59) | 1, shift = (unsigned)(hash >> 54) % LANES;
    const unsigned lane = (factor * (t->number % LANES) + shift) % LANES;
    const unsigned at = t->number - t->number % LANES + lane, first = at - at % MATES;
    for (unsigned i = first; i < first + MATES; i++)
        if (pool[i] == NULL)
            pool[i] = emu_fiber_create(STACK_BYTES, work, i > first ? pool[first] : NULL);
    return pool[at];
}
#else
static emu_fiber *idle[THREADS_MAX];
static unsigned idle_count;

static emu_fiber *take_fiber(void) {
    return idle_count > 0 ? idle[--idle_count] : emu_fiber_create(STACK_BYTES, work, NULL);
}
#endif

/* No thread can go on. */
static void diverged(void) {
    char text[1024];
    int used = 0;
    const thread *t = now.threads, *const end = t + now.count;
    for (const thread *first = t; first < end && used < (int)sizeof text - 256; first++) {
        unsigned same = 0, earlier = 0;
        for (t = now.threads; t < end; t++)
            if (!t->returned && !first->returned && t->waits.line == first->waits.line &&
                t->waits.operation == first->waits.operation) {
                same++;
                earlier += t < first;
            }
        if (same > 0 && earlier == 0)
            used += snprintf(text + used, 256, "; %u wait at %s (%.100s:%d)", same,
                             first->waits.operation, first->waits.file, first->waits.line);
    }
    swt_emu_stop("kernel %s, block (%u,%u,%u): divergent barrier: of %u threads %u have returned%s",
                 now.kernel->name, swt_emu_block.x, swt_emu_block.y, swt_emu_block.z, now.count,
                 now.returned, text);
}

static emu_fiber *next(void) {
    if (now.ready_count > 0)
        return now.threads[now.ready[--now.ready_count]].fiber;
    if (now.begun < now.count) {
        now.begins = &now.threads[now.order[now.begun++]];
#ifndef SWT_EMU_TSAN
        now.begins->fiber = take_fiber();
#endif
        return now.begins->fiber;
    }
    if (now.returned < now.count)
        diverged();
    return now.home;
}

/* The life of a fiber: thread after thread. */
static void work(void) {
    for (;;) {
        thread *const t = now.begins;
        run(t);
        if (now.starts)
            tsan_acquire(now.start);
        now.kernel->call(now.arguments);
        if (now.ends)
            tsan_release(now.end);
        t->returned = true;
        now.returned++;
#ifndef SWT_EMU_TSAN
        idle[idle_count++] = t->fiber;
#endif
        emu_fiber_switch(next());
    }
}

static void wait_for_others(void) {
    thread *const me = now.runs;
    emu_fiber_switch(next());
    run(me);
    me->waits.operation = NULL;
}

/* Threads first .. first + n - 1 go on, but the running one, which need not wait. */
static void wake(unsigned first, unsigned n) {
    const unsigned turn = emu_seed() != 0 ? emu_random(n) : 0;
    const bool backwards = emu_seed() != 0 && emu_random(2) == 1;
    for (unsigned i = 0; i < n; i++) {
        const unsigned at = (n - 1 - i + turn) % n, which = first + (backwards ? n - 1 - at : at);
        if (&now.threads[which] != now.runs)
            now.ready[now.ready_count++] = which;
    }
}

/* -- barriers --------------------------------------------------------------------------------- */

/* One more thread of n is here: true for the last. */
static bool gather(gathering *g, unsigned n, place here) {
    now.runs->waits = here;
    if (g->arrived == 0)
        g->where = here;
    else if (g->where.line != here.line || g->where.operation != here.operation)
        swt_emu_stop("kernel %s, block (%u,%u,%u): divergent barrier: thread %u is at %s (%s:%d), "
                     "others at %s (%s:%d)",
                     now.kernel->name, swt_emu_block.x, swt_emu_block.y, swt_emu_block.z,
                     now.runs->number, here.operation, here.file, here.line, g->where.operation,
                     g->where.file, g->where.line);
    if (++g->arrived < (int)n)
        return false;
    g->arrived = 0;
    g->phase++;
    now.runs->waits.operation = NULL;
    return true;
}

int swt_emu_sync_block(int predicate, const char *file, int line) {
    static const char name[] = "__syncthreads";
    gathering *const g = &now.all;
    const int p = g->phase % 2;
    g->sum[p] += predicate != 0;
    tsan_release(&now.orders->block[p]);
    if (gather(g, now.count, (place){name, file, line})) {
        g->sum[1 - p] = 0;
        wake(0, now.count);
    } else {
        wait_for_others();
    }
    tsan_acquire(&now.orders->block[p]);
    return g->sum[p];
}

const uint64_t *swt_emu_sync_warp(const char *operation, unsigned mask, uint64_t value, bool orders,
                                  const char *file, int line) {
    const thread *const me = now.runs;
    const unsigned warp = me->number / LANES;
    gathering *const g = &now.warps[warp];
    const int p = g->phase % 2;
    if (mask != 0xffffffffu || (warp + 1) * LANES > now.count)
        swt_emu_stop("kernel %s: %s (%s:%d) of %s; the emulated platform has whole warps only",
                     now.kernel->name, operation, file, line,
                     mask != 0xffffffffu ? "a part of a warp" : "a last warp of less than 32");
    g->values[p][me->seen.lane] = value;
    if (orders)
        tsan_release(&now.orders->warp[warp][p]);
    if (gather(g, LANES, (place){operation, file, line}))
        wake(warp * LANES, LANES);
    else
        wait_for_others();
    if (orders)
        tsan_acquire(&now.orders->warp[warp][p]);
    return g->values[p];
}

/* -- blocks ----------------------------------------------------------------------------------- */

/* Static shared memory (shared.ld): has new contents in every block. */
extern unsigned char swt_emu_shared_begin[] __attribute__((weak, visibility("hidden")));
extern unsigned char swt_emu_shared_end[] __attribute__((weak, visibility("hidden")));

#ifdef SWT_EMU_TSAN
void __tsan_java_init(unsigned long begin, unsigned long bytes);
void __tsan_java_alloc(unsigned long begin, unsigned long bytes);
void __tsan_java_free(unsigned long begin, unsigned long bytes);

/* To ThreadSanitizer a variable in static shared memory is a new one in every block. */
static void forget_static_shared(unsigned char *begin, size_t bytes) {
    static bool known;
    if (!known)
        __tsan_java_init((unsigned long)begin, bytes);
    else
        __tsan_java_free((unsigned long)begin, bytes);
    known = true;
    __tsan_java_alloc((unsigned long)begin, bytes);
}
#endif

/* In loops of its own: memset and memcmp would be checked by AddressSanitizer, which has closed
 * what is between the variables. Most of it is another kernel's and as it was: it is not written
 * again. */
__attribute__((no_sanitize("address", "undefined"),
               optimize("no-tree-loop-distribute-patterns"))) static void
fill_static_shared(void) {
    typedef struct line {
        uint64_t at[8];
    } line;
    line *first = (line *)(void *)swt_emu_shared_begin, *end = (line *)(void *)swt_emu_shared_end;
    for (; first < end; first++) {
        uint64_t all = UINT64_MAX;
        for (int i = 0; i < 8; i++)
            all &= first->at[i];
        for (int i = 0; all != UINT64_MAX && i < 8; i++)
            first->at[i] = UINT64_MAX;
    }
#ifdef SWT_EMU_TSAN
    if (swt_emu_shared_begin != (unsigned char *)end)
        forget_static_shared(swt_emu_shared_begin,
                             (size_t)(swt_emu_shared_end - swt_emu_shared_begin));
#endif
}

static void set_up_threads(dim3 dim) {
    for (unsigned i = 0; i < now.count; i++) {
        now.threads[i] =
            (thread){.seen = {.index = {i % dim.x, i / dim.x % dim.y, i / dim.x / dim.y},
                              .lane = (int)(i % LANES)},
                     .number = i};
        now.order[i] = i;
#ifdef SWT_EMU_TSAN
        /* Here, not when it begins: the fiber that creates one comes before it. */
        now.threads[i].fiber = take_fiber(&now.threads[i]);
#endif
    }
    for (unsigned i = now.count; emu_seed() != 0 && i > 1; i--) {
        const unsigned other = emu_random(i), number = now.order[i - 1];
        now.order[i - 1] = now.order[other];
        now.order[other] = number;
    }
}

static void run_block(void) {
    const size_t bytes = now.kernel->shared_bytes;
    tsan_ignore_begin();
    marks *const fresh = malloc(sizeof *fresh);
    swt_emu_dynamic_shared = malloc(bytes > 0 ? bytes : 1);
    if (swt_emu_dynamic_shared == NULL || fresh == NULL)
        swt_emu_stop("no memory for a block");
    memset(swt_emu_dynamic_shared, 0xff, bytes);
    tsan_ignore_end();
    fill_static_shared();
    now.orders = fresh;
    now.home = emu_fiber_self();
    set_up_threads(now.kernel->block);
    memset(&now.all, 0, sizeof now.all);
    for (unsigned w = 0; w * LANES < now.count; w++)
        now.warps[w].arrived = now.warps[w].phase = 0;
    now.begun = now.ready_count = now.returned = 0;
    emu_fiber_switch(next());
    tsan_ignore_begin();
    free(swt_emu_dynamic_shared);
    free(fresh);
    tsan_ignore_end();
    now.block_number++;
}

typedef struct launch {
    swt_emu_kernel kernel;
    uint64_t start, end; /* for ThreadSanitizer */
    uint64_t arguments[];
} launch;

static uint64_t common_divisor(uint64_t a, uint64_t b) {
    return b == 0 ? a : common_divisor(b, a % b);
}

static bool run_kernel(void *data) {
    launch *const l = data;
    const dim3 grid = l->kernel.grid;
    const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    /* A shuffled order: b -> stride b + first, modulo the blocks. */
    uint64_t stride = 1, first = 0;
    if (emu_seed() != 0) {
        first = emu_random((uint32_t)(blocks < UINT32_MAX ? blocks : UINT32_MAX));
        do
            stride = 1 + emu_random(UINT32_MAX);
        while (common_divisor(stride, blocks) != 1);
    }
    now.kernel = &l->kernel;
    now.arguments = l->arguments;
    now.start = &l->start;
    now.end = &l->end;
    now.count = l->kernel.block.x * l->kernel.block.y * l->kernel.block.z;
    swt_emu_block_dim = l->kernel.block;
    swt_emu_grid_dim = grid;
    tsan_release(&l->start);
    for (uint64_t b = 0; b < blocks; b++) {
        const uint64_t i = (b * (stride % blocks) + first) % blocks;
        swt_emu_block = (uint3){(unsigned)(i % grid.x), (unsigned)(i / grid.x % grid.y),
                                (unsigned)(i / grid.x / grid.y)};
        now.starts = b < 2;
        now.ends = b + 2 >= blocks;
        run_block();
    }
    tsan_acquire(&l->end);
    return true;
}

void swt_emu_launch(const swt_emu_kernel *kernel, const void *arguments, size_t bytes,
                    cudaStream_t stream) {
    const dim3 g = kernel->grid, b = kernel->block;
    const uint64_t threads = (uint64_t)b.x * b.y * b.z;
    if (threads < 1 || threads > THREADS_MAX || b.z > 64 || g.x < 1 || g.y < 1 || g.z < 1 ||
        g.x > INT32_MAX || g.y > UINT16_MAX || g.z > UINT16_MAX) {
        (void)emu_error(cudaErrorInvalidConfiguration);
        return;
    }
    if (kernel->shared_bytes > SHARED_MAX) {
        (void)emu_error(cudaErrorInvalidValue);
        return;
    }
    launch *const l = calloc(1, sizeof *l + bytes);
    if (l == NULL)
        swt_emu_stop("no memory for a launch");
    l->kernel = *kernel;
    memcpy(l->arguments, arguments, bytes);
    (void)emu_error(swt_emu_enqueue(stream, kernel->name, run_kernel, l, sizeof *l + bytes));
    free(l);
}
