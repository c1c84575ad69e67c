/* Inside the watchdog: what gathering the ranks (gather.c) makes, and the thread (watchdog.c) uses.
 */
#ifndef SWT_STATE_WATCHDOG_OWN_H
#define SWT_STATE_WATCHDOG_OWN_H

#include "io/files.h"
#include "state/roll.h"
#include "state/watchdog.h"
#include "state/wire.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

enum { SWT_STRANGERS = 16 };

/* Who has connected and not said who it is. */
typedef struct swt_stranger {
    swt_link link;
    double since_ms;
} swt_stranger;

struct swt_watchdog {
    swt_progress progress; /* the main thread's */
    _Atomic int farewell;  /* a swt_beat_kind that the main thread wants said; 0: none */
    _Atomic bool stop, said_farewell;
    int wake[2]; /* a byte for each change of these two */

    pthread_mutex_t lock; /* of what stands here */
    pthread_cond_t gathering;
    bool gathered; /* all links are there */
    bool terminal;
    char log[SWT_PATH_BYTES]; /* "": none */

    /* the thread's own, once it runs */
    pthread_t thread;
    bool running;
    swt_roll roll;
    unsigned char token[SWT_TOKEN_BYTES];
    int listener;    /* -1: nobody can connect any more */
    swt_link *links; /* (ranks) */
    struct pollfd *polled;
    swt_stranger strangers[SWT_STRANGERS];
    double beat_ms, next_beat_ms;
    double changed_ms; /* when the main thread was last seen to move */
    int64_t changes;   /* what it had done by then */
    double trouble_ms; /* when the first rank was found lost; 0: all is well */
    double ending_ms;  /* when another rank said that it fails; 0: none did */
    bool warned;
};

/* Queue a message with where this rank was last seen by its thread. */
void swt_watchdog_say(swt_watchdog *w, int r, swt_beat_kind what);

/* The thread. */
void *swt_watchdog_watch(void *watchdog);

#endif
