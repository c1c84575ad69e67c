/* The roll: which ranks are there, where each one was when it was last heard of, and who is lost.
 * No sockets and no clock here; times are the caller's, in ms. */
#ifndef SWT_STATE_ROLL_H
#define SWT_STATE_ROLL_H

#include "state/beat.h"

/* Ranks below this are heard by all, and hear all; the others hear these alone. */
enum { SWT_HUBS = 16 };

typedef enum swt_presence {
    SWT_HERE,
    SWT_LEFT, /* has said goodbye */
    SWT_LOST
} swt_presence;

/* What shows that a rank is lost. */
typedef enum swt_loss { SWT_LOSS_CLOSED, SWT_LOSS_SILENT, SWT_LOSS_STALLED } swt_loss;

typedef struct swt_roll_rank {
    swt_presence presence;
    swt_loss loss;
    double heard_ms; /* of the last word */
    swt_position at; /* what it said then */
} swt_roll_rank;

typedef struct swt_roll {
    int ranks, own;
    double hang_ms, stall_ms; /* stall_ms 0: nobody is too slow */
    swt_roll_rank *at;        /* (ranks); the owner of the roll's own place is kept by it, too */
} swt_roll;

/* Whether the roll's owner hears rank r itself. */
bool swt_roll_hears(const swt_roll *roll, int r);

/* Everybody who is heard was heard now: the owner was stopped itself, and cannot know. */
void swt_roll_forgive(swt_roll *roll, double now_ms);

void swt_roll_lose(swt_roll *roll, int r, swt_loss loss);

/* Find who is lost by its silence, or for want of progress. A rank that waits for others is not the
 * one that keeps them waiting, unless all wait: then the one that has begun the fewest calls. The
 * start and the writing of a checkpoint may take any time. Returns how many are lost in all. */
int swt_roll_judge(swt_roll *roll, double now_ms);

/* A rank that has stood still for a tenth of the time that makes it lost, or -1. */
int swt_roll_slow(const swt_roll *roll, double now_ms);

/* The rank that tells of the lost ones: the lowest that all hear and that is there. Where none of
 * those is left, the lowest of the others, though it may be lost, too. */
int swt_roll_speaker(const swt_roll *roll);

/* The line that tells who is lost, where each was and what the others waited for. */
void swt_roll_tell(const swt_roll *roll, char *text, size_t text_bytes);

/* The line of a slow rank. */
void swt_roll_warn(const swt_roll *roll, int slow, double now_ms, char *text, size_t text_bytes);

#endif
