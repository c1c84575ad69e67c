/* How the watchdogs of all ranks find each other: addresses and a token travel by the communicator,
 * then each rank connects to the lower ones. */
#include "state/watchdog_own.h"

#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { GATHER_MS = 20000 };

static swt_status no_memory(void) {
    return SWT_FAIL(MEMORY, "watchdog: no memory for the list of ranks; free some");
}

static swt_status allocate(swt_watchdog **out, const swt_comm *world) {
    swt_watchdog *w = calloc(1, sizeof *w);
    pthread_condattr_t monotonic;
    *out = NULL;
    if (w == NULL)
        return no_memory();
    const size_t ranks = (size_t)world->size;
    w->listener = w->wake[0] = w->wake[1] = -1;
    for (int i = 0; i < SWT_STRANGERS; i++)
        w->strangers[i].link.fd = -1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->gathering, &monotonic);
    pthread_condattr_destroy(&monotonic);
    w->roll = (swt_roll){.ranks = world->size, .own = world->rank};
    w->roll.at = calloc(ranks, sizeof *w->roll.at);
    w->links = calloc(ranks, sizeof *w->links);
    w->polled = calloc(2 + SWT_STRANGERS + ranks, sizeof *w->polled);
    *out = w;
    if (w->roll.at == NULL || w->links == NULL || w->polled == NULL)
        return no_memory();
    for (size_t r = 0; r < ranks; r++)
        w->links[r].fd = -1;
    if (pipe(w->wake) != 0)
        return SWT_FAIL(COMM, "watchdog: no pipe (%s); close some files", strerror(errno));
    return SWT_OK;
}

/* Where a rank listens; 0: it does not. Travels as bytes. */
typedef struct door {
    uint32_t ip, port;
} door;

/* On one machine nobody else needs to reach it. */
static swt_status choose_ip(swt_comm *world, uint32_t *ip) {
    int local_rank = 0, local_size = 0;
    SWT_TRY(swt_comm_node(world, &local_rank, &local_size));
    *ip = SWT_LOOPBACK;
    if (local_size == world->size)
        return SWT_OK;
    swt_offers own, *all = calloc((size_t)world->size, sizeof *all);
    swt_status status = swt_comm_agree(world, all != NULL ? SWT_OK : no_memory());
    swt_offers_find(&own);
    if (status == SWT_OK)
        status = swt_comm_all_gather(world, all, &own, sizeof own, NULL);
    if (status == SWT_OK && all != NULL)
        *ip = swt_offers_choose(all, world->size, world->rank);
    free(all);
    return status;
}

static swt_status open_door(swt_watchdog *w, uint32_t ip, door *out) {
    uint16_t port = 0;
    if (w->roll.own >= SWT_HUBS)
        return SWT_OK;
    if (ip == 0)
        return SWT_FAIL(COMM, "watchdog: no IPv4 address that the other machines reach");
    SWT_TRY(swt_wire_listen(&w->listener, &port, ip));
    *out = (door){ip, port};
    return SWT_OK;
}

/* Each connects to the lower ones. Who cannot reach one of them says hello to none. */
static swt_status connect_to_lower(swt_watchdog *w, const door *doors) {
    const int lower = w->roll.own < SWT_HUBS ? w->roll.own : SWT_HUBS;
    for (int r = 0; r < lower; r++) {
        int fd = -1;
        SWT_TRY(swt_wire_connect(&fd, doors[r].ip, (uint16_t)doors[r].port, GATHER_MS / 2.0));
        swt_link_open(&w->links[r], fd);
    }
    for (int r = 0; r < lower; r++)
        swt_watchdog_say(w, r, SWT_BEAT_HELLO);
    return SWT_OK;
}

/* Signals are the main thread's. */
static swt_status start_thread(swt_watchdog *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&w->thread, NULL, swt_watchdog_watch, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0)
        return SWT_FAIL(COMM, "watchdog: no thread (%s)", strerror(failed));
    w->running = true;
    return SWT_OK;
}

static swt_status await_others(swt_watchdog *w) {
    struct timespec until;
    int late = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += GATHER_MS / 1000;
    pthread_mutex_lock(&w->lock);
    while (!w->gathered && late == 0)
        late = pthread_cond_timedwait(&w->gathering, &w->lock, &until);
    const bool gathered = w->gathered;
    pthread_mutex_unlock(&w->lock);
    if (!gathered)
        return SWT_FAIL(COMM, "watchdog: not all ranks have connected within %d s",
                        GATHER_MS / 1000);
    return SWT_OK;
}

static swt_status meet_others(swt_watchdog *w, const door *doors) {
    const double now_ms = swt_now_ms();
    w->changed_ms = now_ms;
    swt_roll_forgive(&w->roll, now_ms);
    SWT_TRY(connect_to_lower(w, doors));
    SWT_TRY(start_thread(w));
    return await_others(w);
}

/* Every step is made by all ranks, or by none. */
static swt_status gather(swt_watchdog *w, swt_comm *world, door *doors) {
    door own = {0};
    uint32_t ip = 0;
    SWT_TRY(choose_ip(world, &ip));
    SWT_TRY(swt_comm_agree(world, open_door(w, ip, &own)));
    SWT_TRY(swt_comm_all_gather(world, doors, &own, sizeof own, NULL));
    swt_status status = SWT_OK;
    if (world->rank == 0 && getrandom(w->token, sizeof w->token, 0) != sizeof w->token)
        status = SWT_FAIL(COMM, "watchdog: the system gives no random numbers");
    SWT_TRY(swt_comm_agree(world, status));
    SWT_TRY(swt_comm_broadcast(world, w->token, sizeof w->token, 0, NULL));
    return swt_comm_agree(world, meet_others(w, doors));
}

swt_status swt_watchdog_open(swt_watchdog **out, swt_comm *world, int64_t hang_seconds,
                             int64_t stall_seconds, swt_warnings *warnings) {
    swt_watchdog *w = NULL;
    *out = NULL;
    if (world->size == 1 || hang_seconds == 0)
        return SWT_OK;
    swt_status status = allocate(&w, world);
    door *doors = calloc((size_t)world->size, sizeof *doors);
    if (status == SWT_OK && doors == NULL)
        status = no_memory();
    status = swt_comm_agree(world, status);
    if (status == SWT_OK) {
        w->roll.hang_ms = (double)hang_seconds * 1e3;
        w->roll.stall_ms = (double)stall_seconds * 1e3;
        w->beat_ms = (double)swt_min(hang_seconds * 100, 200);
        status = gather(w, world, doors);
    }
    free(doors);
    if (status == SWT_OK) {
        world->progress = &w->progress;
        *out = w;
        return SWT_OK;
    }
    swt_watchdog_close(w);
    if (status != SWT_COMM || !swt_last_error()->agreed)
        return status;
    swt_warn(warnings, "a rank that is lost is not noticed (run.hang_seconds): %s",
             swt_last_error()->message);
    return SWT_OK;
}
