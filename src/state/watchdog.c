#include "state/watchdog_own.h"

#include "base/clock.h"
#include "base/standard.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    HELLO_MS = 2000,    /* a stranger's time to say who it is */
    GRACE_MS = 200,     /* from a loss to its telling, in which the others say where they are */
    LINGER_MS = 300,    /* from the telling to the end, so that the others end first */
    PATIENCE_MS = 3000, /* until a rank that hears no telling tells, or ends, by itself */
    CONSIDER_MS = 1500, /* in which a loss that broke an exchange is found */
    FAREWELL_MS = 500,  /* in which the thread says goodbye */
    LINE_BYTES = 8192
};

/* ---- what is said */

void swt_watchdog_say(swt_watchdog *w, int r, swt_beat_kind what) {
    unsigned char message[SWT_BEAT_BYTES];
    const swt_beat beat = {.what = what, .rank = w->roll.own, .at = w->roll.at[w->roll.own].at};
    swt_beat_write(message, &beat, w->token);
    swt_link_send(&w->links[r], message);
}

static void say_to_all(swt_watchdog *w, swt_beat_kind what) {
    for (int r = 0; r < w->roll.ranks; r++)
        if (w->links[r].fd >= 0)
            swt_watchdog_say(w, r, what);
}

static void note_own_place(swt_watchdog *w, double now_ms) {
    swt_roll_rank *own = &w->roll.at[w->roll.own];
    const int64_t changes = SWT_PROGRESS_GET(w->progress.changes);
    if (changes != w->changes)
        w->changed_ms = now_ms;
    w->changes = changes;
    own->at = swt_position_of(&w->progress);
    own->at.idle_ms = (int64_t)(now_ms - w->changed_ms);
    own->heard_ms = now_ms;
}

/* A line to standard error and to the log. */
static void tell(swt_watchdog *w, const char *kind, const char *what) {
    char line[LINE_BYTES] = "";
    pthread_mutex_lock(&w->lock);
    swt_append(line, sizeof line, "%sswt-dist: %s: %s\n", w->terminal ? "\n" : "", kind, what);
    (void)swt_write_all(STDERR_FILENO, line, strlen(line));
    line[0] = '\0';
    swt_append(line, sizeof line, "%s: %s\n", kind, what);
    if (w->log[0] != '\0')
        swt_file_append(w->log, line);
    pthread_mutex_unlock(&w->lock);
}

_Noreturn static void end_process(void) {
    _exit(swt_exit_code(SWT_COMM));
}

/* The others get time to end by themselves: a launcher ends them all by force once one has. */
_Noreturn static void tell_and_end(swt_watchdog *w) {
    char what[LINE_BYTES] = "";
    swt_roll_tell(&w->roll, what, sizeof what);
    tell(w, "error", what);
    say_to_all(w, SWT_BEAT_OVER);
    poll(NULL, 0, LINGER_MS);
    end_process();
}

/* ---- what is heard */

static void hear(swt_watchdog *w, int r, const swt_beat *beat, double now_ms) {
    swt_roll_rank *m = &w->roll.at[r];
    m->at = beat->at;
    m->heard_ms = now_ms;
    if (beat->what == SWT_BEAT_ASK)
        swt_watchdog_say(w, r, SWT_BEAT_ALIVE);
    else if (beat->what == SWT_BEAT_GOODBYE && m->presence == SWT_HERE)
        m->presence = SWT_LEFT;
    else if (beat->what == SWT_BEAT_FAILED && w->ending_ms == 0.0) {
        m->presence = SWT_LEFT;
        w->ending_ms = now_ms;
    } else if (beat->what == SWT_BEAT_OVER)
        end_process();
}

/* All that has come from a rank. What is no message of its own ends the link: nothing behind it can
 * be understood. */
static void listen_to(swt_watchdog *w, int r, double now_ms) {
    swt_link *l = &w->links[r];
    swt_beat beat;
    while (swt_link_read(l)) {
        if (swt_beat_read(&beat, l->in, w->token, w->roll.ranks) && beat.rank == r)
            hear(w, r, &beat, now_ms);
        else
            l->shut = true;
    }
    if (l->shut) {
        swt_link_close(l);
        swt_roll_lose(&w->roll, r, SWT_LOSS_CLOSED);
    }
}

static bool is_everybody_here(const swt_watchdog *w) {
    for (int r = 0; r < w->roll.ranks; r++)
        if (swt_roll_hears(&w->roll, r) && w->links[r].fd < 0)
            return false;
    return true;
}

/* Nobody else has to come: from now on there is no port to connect to. */
static void close_door(swt_watchdog *w) {
    if (w->listener >= 0)
        close(w->listener);
    w->listener = -1;
    for (int i = 0; i < SWT_STRANGERS; i++)
        swt_link_close(&w->strangers[i].link);
    pthread_mutex_lock(&w->lock);
    w->gathered = true;
    pthread_cond_signal(&w->gathering);
    pthread_mutex_unlock(&w->lock);
}

/* Room for one more: of too many strangers the oldest goes, who had the most time to speak. */
static void let_in(swt_watchdog *w, double now_ms) {
    const int fd = swt_wire_accept(w->listener);
    if (fd < 0)
        return;
    swt_stranger *place = &w->strangers[0];
    for (int i = 0; i < SWT_STRANGERS; i++) {
        swt_stranger *s = &w->strangers[i];
        if (s->link.fd < 0 || (place->link.fd >= 0 && s->since_ms < place->since_ms))
            place = s;
    }
    swt_link_close(&place->link);
    swt_link_open(&place->link, fd);
    place->since_ms = now_ms;
}

/* One message, in time, says who it is: a higher rank that is not there yet. All others go. */
static void meet_stranger(swt_watchdog *w, swt_stranger *s, double now_ms) {
    swt_beat beat;
    if (!swt_link_read(&s->link)) {
        if (s->link.shut || now_ms - s->since_ms > HELLO_MS)
            swt_link_close(&s->link);
        return;
    }
    const bool ours = swt_beat_read(&beat, s->link.in, w->token, w->roll.ranks) &&
                      beat.what == SWT_BEAT_HELLO && beat.rank > w->roll.own &&
                      w->links[beat.rank].fd < 0;
    if (!ours) {
        swt_link_close(&s->link);
        return;
    }
    w->links[beat.rank] = s->link;
    s->link = (swt_link){.fd = -1};
    hear(w, beat.rank, &beat, now_ms);
}

/* ---- the thread */

static void add_polled(struct pollfd **end, int fd, bool writes) {
    *(*end)++ = (struct pollfd){.fd = fd, .events = (short)(POLLIN | (writes ? POLLOUT : 0))};
}

/* Sleep until there is something to hear, or so long. Negative descriptors are nobody's. */
static void sleep_for(swt_watchdog *w, double ms) {
    struct pollfd *end = w->polled;
    char bytes[64];
    add_polled(&end, w->wake[0], false);
    add_polled(&end, w->listener, false);
    for (int i = 0; i < SWT_STRANGERS; i++)
        add_polled(&end, w->strangers[i].link.fd, false);
    for (int r = 0; r < w->roll.ranks; r++)
        add_polled(&end, w->links[r].fd, w->links[r].out_bytes > 0);
    (void)poll(w->polled, (nfds_t)(end - w->polled), ms > 0.0 ? (int)ms + 1 : 0);
    if (w->polled[0].revents != 0)
        (void)!read(w->wake[0], bytes, sizeof bytes);
}

static void hear_all(swt_watchdog *w, double now_ms) {
    for (int r = 0; r < w->roll.ranks; r++)
        if (w->links[r].fd >= 0) {
            swt_link_flush(&w->links[r]);
            listen_to(w, r, now_ms);
        }
    if (w->listener < 0)
        return;
    let_in(w, now_ms);
    for (int i = 0; i < SWT_STRANGERS; i++)
        if (w->strangers[i].link.fd >= 0)
            meet_stranger(w, &w->strangers[i], now_ms);
    if (is_everybody_here(w))
        close_door(w);
}

static void say_what_is_due(swt_watchdog *w, double now_ms) {
    const int farewell = atomic_load(&w->farewell);
    note_own_place(w, now_ms);
    if (farewell != 0 && !atomic_load(&w->said_farewell)) {
        say_to_all(w, (swt_beat_kind)farewell);
        atomic_store(&w->said_farewell, true);
    }
    if (now_ms < w->next_beat_ms)
        return;
    say_to_all(w, SWT_BEAT_ALIVE);
    w->next_beat_ms = now_ms + w->beat_ms;
}

static void warn_once(swt_watchdog *w, double now_ms) {
    char what[LINE_BYTES] = "";
    const int slow = swt_roll_slow(&w->roll, now_ms);
    if (w->warned || slow < 0)
        return;
    w->warned = true;
    if (swt_roll_speaker(&w->roll) != w->roll.own)
        return;
    swt_roll_warn(&w->roll, slow, now_ms, what, sizeof what);
    tell(w, "warning", what);
}

/* A loss is told of after a moment, in which those who end one after the other are all seen to, and
 * the others say where they are. */
static void judge(swt_watchdog *w, double now_ms) {
    if (!w->gathered || atomic_load(&w->farewell) == SWT_BEAT_FAILED)
        return;
    if (w->ending_ms > 0.0) {
        if (now_ms - w->ending_ms > PATIENCE_MS)
            end_process();
        return;
    }
    if (swt_roll_judge(&w->roll, now_ms) == 0) {
        warn_once(w, now_ms);
        return;
    }
    if (w->trouble_ms == 0.0) {
        w->trouble_ms = now_ms;
        say_to_all(w, SWT_BEAT_ASK);
    }
    const bool speaks = swt_roll_speaker(&w->roll) == w->roll.own;
    if (now_ms - w->trouble_ms >= (speaks ? GRACE_MS : PATIENCE_MS))
        tell_and_end(w);
}

void *swt_watchdog_watch(void *watchdog) {
    swt_watchdog *w = watchdog;
    double now_ms = swt_now_ms();
    while (!atomic_load(&w->stop)) {
        const double until_ms = w->trouble_ms > 0.0 ? now_ms + GRACE_MS / 4.0 : w->next_beat_ms;
        sleep_for(w, until_ms - now_ms);
        now_ms = swt_now_ms();
        if (now_ms - until_ms > w->roll.hang_ms / 2.0)
            swt_roll_forgive(&w->roll, now_ms);
        hear_all(w, now_ms);
        say_what_is_due(w, now_ms);
        judge(w, now_ms);
    }
    say_what_is_due(w, now_ms);
    return NULL;
}

/* ---- for the main thread */

/* A change of what the main thread wants, which the thread is to see now. */
static void nudge(swt_watchdog *w) {
    (void)!write(w->wake[1], "", 1);
}

void swt_watchdog_log(swt_watchdog *w, const char *path, bool terminal) {
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    snprintf(w->log, sizeof w->log, "%s", path);
    w->terminal = terminal;
    pthread_mutex_unlock(&w->lock);
}

void swt_watchdog_farewell(swt_watchdog *w, bool failed) {
    if (w == NULL)
        return;
    swt_progress_phase(&w->progress, SWT_PHASE_END);
    atomic_store(&w->farewell, failed ? SWT_BEAT_FAILED : SWT_BEAT_GOODBYE);
    nudge(w);
    for (int i = 0; i < FAREWELL_MS && !atomic_load(&w->said_farewell); i++)
        poll(NULL, 0, 1); /* what comes next may end this process at once */
}

void swt_watchdog_consider(swt_watchdog *w) {
    if (w != NULL)
        poll(NULL, 0, CONSIDER_MS);
}

static void free_watchdog(swt_watchdog *w) {
    for (int r = 0; r < w->roll.ranks && w->links != NULL; r++)
        swt_link_close(&w->links[r]);
    for (int i = 0; i < SWT_STRANGERS; i++)
        swt_link_close(&w->strangers[i].link);
    for (int i = 0; i < 2; i++)
        if (w->wake[i] >= 0)
            close(w->wake[i]);
    if (w->listener >= 0)
        close(w->listener);
    free(w->polled);
    free(w->links);
    free(w->roll.at);
    pthread_cond_destroy(&w->gathering);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void swt_watchdog_close(swt_watchdog *w) {
    if (w == NULL)
        return;
    if (w->running) {
        if (atomic_load(&w->farewell) == 0)
            swt_watchdog_farewell(w, false);
        atomic_store(&w->stop, true);
        nudge(w);
        pthread_join(w->thread, NULL);
    }
    free_watchdog(w);
}
