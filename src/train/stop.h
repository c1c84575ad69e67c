/* Ending training when asked: by a signal, agreed on by all ranks, soon. */
#ifndef SWT_TRAIN_STOP_H
#define SWT_TRAIN_STOP_H

#include "train/session.h"

/* When a loop looks: some ten times a second, however short its pieces of work are, and after each
 * one that is longer. The ranks agree on it, too. Starts as zeros. */
typedef struct swt_pace {
    int64_t left;    /* pieces until the next look */
    int64_t stride;  /* pieces from the last look to the next */
    double start_ms; /* time of the last look; 0 = none yet */
    double until_ms; /* whose own time it is: from when on the answer is late; 0 = never */
    bool late;       /* some rank found so at the last look */
    bool looked;     /* the last call was a look */
} swt_pace;

/* Collective; call it after each piece of a loop's work, a pace for each kind of piece. Errors:
 * INTERRUPTED, agreed, once any rank has had a signal; none where signals are not caught. */
SWT_MUST_CHECK swt_status swt_stop_look(swt_session *s, swt_pace *pace);

#endif
