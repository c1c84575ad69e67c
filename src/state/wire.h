/* TCP between the watchdogs: which address a rank listens on, and links that never block. */
#ifndef SWT_STATE_WIRE_H
#define SWT_STATE_WIRE_H

#include "base/status.h"
#include "state/beat.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The IPv4 addresses of a machine that others may reach it by, as it sees them. Of one kind on all
 * ranks: it travels as bytes. */
enum { SWT_OFFERS = 8 };
typedef struct swt_offers {
    uint32_t count;
    struct {
        uint32_t ip;     /* the highest byte is the first of a.b.c.d */
        uint32_t prefix; /* bits of its network */
    } at[SWT_OFFERS];
} swt_offers;

void swt_offers_find(swt_offers *out);

/* The address of rank `own` that the others reach it by: the first whose network every other
 * machine has an address in too; else the first that no other machine has as well (the bridge of a
 * container service is the same everywhere). Equal offers are one machine's. 0: there is none. */
uint32_t swt_offers_choose(const swt_offers *all, int ranks, int own);

enum { SWT_LOOPBACK = 0x7f000001 };

/* A socket that listens on this address alone, at a port of the system's choice. Errors: COMM. */
SWT_MUST_CHECK swt_status swt_wire_listen(int *fd, uint16_t *port, uint32_t ip);

/* Connect within so long. Errors: COMM. */
SWT_MUST_CHECK swt_status swt_wire_connect(int *fd, uint32_t ip, uint16_t port, double within_ms);

/* The next who connects; -1 where there is none now. */
int swt_wire_accept(int listener);

/* One connection. Zeros with fd = -1 are a closed one. */
typedef struct swt_link {
    int fd;
    bool shut; /* the other side has closed it, or it broke */
    unsigned char in[SWT_BEAT_BYTES], out[4 * SWT_BEAT_BYTES];
    size_t in_bytes, out_bytes; /* of a message that has not come as a whole; that wait to go */
} swt_link;

void swt_link_open(swt_link *l, int fd);
void swt_link_close(swt_link *l);

/* Bytes of one message at most: true where l->in holds a whole one, which the next call
 * overwrites. */
bool swt_link_read(swt_link *l);

/* Queue a message and send what can go now. A message that has no room is left out: who does not
 * read for so long misses beats, and nothing waits for him. */
void swt_link_send(swt_link *l, const unsigned char message[SWT_BEAT_BYTES]);
void swt_link_flush(swt_link *l);

#endif
