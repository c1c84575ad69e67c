/* What the ranks' watchdogs say to each other, and what it looks like on the wire.
 *
 * Every message has the same length and layout: numbers with their lowest byte first, at fixed
 * places, and the token of the run, without which nothing is believed. */
#ifndef SWT_STATE_BEAT_H
#define SWT_STATE_BEAT_H

#include "base/progress.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SWT_TOKEN_BYTES = 16, SWT_BEAT_BYTES = 80 };

typedef enum swt_beat_kind {
    SWT_BEAT_HELLO = 1, /* the first on a connection: who I am */
    SWT_BEAT_ALIVE,     /* where I am */
    SWT_BEAT_ASK,       /* say at once where you are */
    SWT_BEAT_GOODBYE,   /* I end in order: do not miss me */
    SWT_BEAT_FAILED,    /* I end for an error of which I have told: end, and say nothing */
    SWT_BEAT_OVER,      /* a rank is lost, I have told of it: end */
    SWT_BEAT_KINDS
} swt_beat_kind;

/* A moment of swt_progress. */
typedef struct swt_position {
    int64_t step;
    swt_phase phase;
    int32_t layer, kind; /* -1: in none */
    swt_call call;
    swt_members of; /* that call's ranks */
    int64_t calls;
    int64_t idle_ms; /* since anything of it changed */
} swt_position;

typedef struct swt_beat {
    swt_beat_kind what;
    int rank; /* who speaks */
    swt_position at;
} swt_beat;

swt_position swt_position_of(const swt_progress *p);

void swt_beat_write(unsigned char out[SWT_BEAT_BYTES], const swt_beat *beat,
                    const unsigned char token[SWT_TOKEN_BYTES]);

/* False, and *out undefined, for what is no message of this run of `ranks` ranks: another token or
 * version, a number that nobody can have. Takes any bytes. */
bool swt_beat_read(swt_beat *out, const unsigned char in[SWT_BEAT_BYTES],
                   const unsigned char token[SWT_TOKEN_BYTES], int ranks);

/* Append "step 7, backward of layer 1 (moe), in swt_comm_all_to_all". */
void swt_position_append(char *text, size_t text_bytes, const swt_position *at);

#endif
