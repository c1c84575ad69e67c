#include "state/beat.h"

#include "base/words.h"
#include "model/sublayer.h"

#include <string.h>

/* "SWTW", and a number that changes with the layout. */
static const uint32_t magic = 0x57545753, version = 1;

/* A cursor over the bytes of a message; what it writes and what it reads are the same walk. */
static void put(unsigned char **at, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++)
        *(*at)++ = (unsigned char)(value >> (8 * i));
}

static uint64_t take(const unsigned char **at, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)(*(*at)++) << (8 * i);
    return value;
}

static int32_t take_i32(const unsigned char **at) {
    return (int32_t)(uint32_t)take(at, 4);
}

swt_position swt_position_of(const swt_progress *p) {
    return (swt_position){.step = SWT_PROGRESS_GET(p->step),
                          .phase = (swt_phase)SWT_PROGRESS_GET(p->phase),
                          .layer = SWT_PROGRESS_GET(p->layer),
                          .kind = SWT_PROGRESS_GET(p->kind),
                          .call = (swt_call)SWT_PROGRESS_GET(p->call),
                          .of = {.first = SWT_PROGRESS_GET(p->first),
                                 .stride = SWT_PROGRESS_GET(p->stride),
                                 .size = SWT_PROGRESS_GET(p->size)},
                          .calls = SWT_PROGRESS_GET(p->calls)};
}

void swt_beat_write(unsigned char out[SWT_BEAT_BYTES], const swt_beat *beat,
                    const unsigned char token[SWT_TOKEN_BYTES]) {
    const swt_position *p = &beat->at;
    unsigned char *at = out;
    memset(out, 0, SWT_BEAT_BYTES);
    put(&at, magic, 4);
    put(&at, version, 2);
    put(&at, (uint64_t)beat->what, 2);
    memcpy(at, token, SWT_TOKEN_BYTES);
    at += SWT_TOKEN_BYTES;
    const int64_t narrow[] = {beat->rank, p->phase,    p->layer,     p->kind,
                              p->call,    p->of.first, p->of.stride, p->of.size};
    const int64_t wide[] = {p->step, p->calls, p->idle_ms};
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++)
        put(&at, (uint64_t)narrow[i], 4);
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        put(&at, (uint64_t)wide[i], 8);
}

/* In a time that does not tell how much of it is right. */
static bool same_token(const unsigned char *a, const unsigned char *b) {
    unsigned differ = 0;
    for (int i = 0; i < SWT_TOKEN_BYTES; i++)
        differ |= (unsigned)(a[i] ^ b[i]);
    return differ == 0;
}

static bool within(int64_t value, int64_t from, int64_t below) {
    return value >= from && value < below;
}

static bool is_possible(const swt_beat *b, int ranks) {
    const swt_position *p = &b->at;
    return within((int64_t)b->what, SWT_BEAT_HELLO, SWT_BEAT_KINDS) && within(b->rank, 0, ranks) &&
           within((int64_t)p->phase, 0, SWT_PHASES) && within((int64_t)p->call, 0, SWT_CALLS) &&
           p->layer >= -1 && within(p->kind, -1, SWT_SUBLAYER_KINDS) && p->step >= 0 &&
           p->calls >= 0 && p->idle_ms >= 0 && within(p->of.first, 0, ranks) &&
           within(p->of.stride, 0, (int64_t)ranks + 1) && within(p->of.size, 0, (int64_t)ranks + 1);
}

bool swt_beat_read(swt_beat *out, const unsigned char in[SWT_BEAT_BYTES],
                   const unsigned char token[SWT_TOKEN_BYTES], int ranks) {
    const unsigned char *at = in;
    swt_position *p = &out->at;
    if (take(&at, 4) != magic || take(&at, 2) != version)
        return false;
    out->what = (swt_beat_kind)take(&at, 2);
    if (!same_token(at, token))
        return false;
    at += SWT_TOKEN_BYTES;
    out->rank = take_i32(&at);
    p->phase = (swt_phase)take_i32(&at);
    p->layer = take_i32(&at);
    p->kind = take_i32(&at);
    p->call = (swt_call)take_i32(&at);
    p->of.first = take_i32(&at);
    p->of.stride = take_i32(&at);
    p->of.size = take_i32(&at);
    p->step = (int64_t)take(&at, 8);
    p->calls = (int64_t)take(&at, 8);
    p->idle_ms = (int64_t)take(&at, 8);
    return is_possible(out, ranks);
}

void swt_position_append(char *text, size_t text_bytes, const swt_position *at) {
    static const char *const phases[] = {
#define SWT_PHASE_TEXT(name, text) [SWT_PHASE_##name] = (text),
        SWT_PHASE_LIST(SWT_PHASE_TEXT)
#undef SWT_PHASE_TEXT
    };
    static const char *const calls[] = {
#define SWT_CALL_TEXT(name, text) [SWT_CALL_##name] = (text),
        SWT_CALL_LIST(SWT_CALL_TEXT)
#undef SWT_CALL_TEXT
    };
    swt_append(text, text_bytes, "step %lld, %s", (long long)at->step, phases[at->phase]);
    if (at->layer >= 0 && at->kind >= 0)
        swt_append(text, text_bytes, " of layer %d (%s)", at->layer,
                   swt_kind_of(&(swt_sublayer){.kind = (swt_sublayer_kind)at->kind})->name);
    if (at->call != SWT_CALL_NONE)
        swt_append(text, text_bytes, ", in %s", calls[at->call]);
}
