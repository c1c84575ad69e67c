/* What watchdogs say to each other: it arrives as it was said, and nothing else is believed. */
#include "model/sublayer.h"
#include "state/beat.h"
#include "support/test.h"

#include <string.h>

static const unsigned char token[SWT_TOKEN_BYTES] = "0123456789abcde";
enum { RANKS = 300 };

static swt_beat sample(void) {
    return (swt_beat){.what = SWT_BEAT_ALIVE,
                      .rank = 258,
                      .at = {.step = INT64_C(0x102030405060708),
                             .phase = SWT_PHASE_BACKWARD,
                             .layer = 11,
                             .kind = SWT_SWITCH,
                             .call = SWT_CALL_ALL_TO_ALL,
                             .of = {4, 1, 3},
                             .calls = INT64_C(1) << 40,
                             .idle_ms = 77777}};
}

static void wants_same(const swt_beat *a, const swt_beat *b) {
    assert_int_equal(a->what, b->what);
    assert_int_equal(a->rank, b->rank);
    assert_int_equal(a->at.step, b->at.step);
    assert_int_equal(a->at.phase, b->at.phase);
    assert_int_equal(a->at.layer, b->at.layer);
    assert_int_equal(a->at.kind, b->at.kind);
    assert_int_equal(a->at.call, b->at.call);
    assert_memory_equal(&a->at.of, &b->at.of, sizeof a->at.of);
    assert_int_equal(a->at.calls, b->at.calls);
    assert_int_equal(a->at.idle_ms, b->at.idle_ms);
}

static void what_is_written_is_read(void **state) {
    (void)state;
    unsigned char bytes[SWT_BEAT_BYTES];
    swt_beat in = sample(), out;
    swt_beat_write(bytes, &in, token);
    assert_true(swt_beat_read(&out, bytes, token, RANKS));
    wants_same(&in, &out);
    in.at.layer = in.at.kind = -1; /* between layers */
    swt_beat_write(bytes, &in, token);
    assert_true(swt_beat_read(&out, bytes, token, RANKS));
    wants_same(&in, &out);
}

/* The places of the numbers are the same on every machine. */
static void layout_is_fixed(void **state) {
    (void)state;
    unsigned char bytes[SWT_BEAT_BYTES];
    const swt_beat in = sample();
    swt_beat_write(bytes, &in, token);
    static const unsigned char head[] = {'S', 'W', 'T', 'W', 1, 0, SWT_BEAT_ALIVE, 0};
    static const unsigned char step[] = {8, 7, 6, 5, 4, 3, 2, 1}, rank[] = {2, 1, 0, 0};
    assert_memory_equal(bytes, head, sizeof head);
    assert_memory_equal(bytes + 8, token, SWT_TOKEN_BYTES);
    assert_memory_equal(bytes + 24, rank, sizeof rank);
    assert_memory_equal(bytes + 56, step, sizeof step);
}

static bool is_refused(const swt_beat *in) {
    unsigned char bytes[SWT_BEAT_BYTES];
    swt_beat out;
    swt_beat_write(bytes, in, token);
    return !swt_beat_read(&out, bytes, token, RANKS);
}

static void impossible_numbers_are_refused(void **state) {
    (void)state;
    swt_beat b = sample();
#define REFUSED(field, value)                                                                      \
    do {                                                                                           \
        b = sample();                                                                              \
        b.field = (value);                                                                         \
        assert_true(is_refused(&b));                                                               \
    } while (0)
    assert_false(is_refused(&b));
    REFUSED(what, 0);
    REFUSED(what, SWT_BEAT_KINDS);
    REFUSED(rank, -1);
    REFUSED(rank, RANKS);
    REFUSED(at.phase, SWT_PHASES);
    REFUSED(at.call, SWT_CALLS);
    REFUSED(at.layer, -2);
    REFUSED(at.kind, SWT_SUBLAYER_KINDS);
    REFUSED(at.kind, -2);
    REFUSED(at.step, -1);
    REFUSED(at.calls, -1);
    REFUSED(at.idle_ms, -1);
    REFUSED(at.of.first, RANKS);
    REFUSED(at.of.stride, -1);
    REFUSED(at.of.size, RANKS + 1);
#undef REFUSED
}

/* Every changed bit: refused, or read as numbers that can be, of which messages are made. The head
 * and the token must be right to the bit. */
static void any_bytes_are_taken(void **state) {
    (void)state;
    unsigned char bytes[SWT_BEAT_BYTES];
    const swt_beat in = sample();
    swt_beat out;
    for (int bit = 0; bit < SWT_BEAT_BYTES * 8; bit++) {
        char text[256] = "";
        swt_beat_write(bytes, &in, token);
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        const bool taken = swt_beat_read(&out, bytes, token, RANKS);
        if (bit / 8 < 6 || (bit / 8 >= 8 && bit / 8 < 8 + SWT_TOKEN_BYTES))
            assert_false(taken);
        if (taken)
            swt_position_append(text, sizeof text, &out.at);
        assert_true(!taken || strncmp(text, "step ", 5) == 0);
    }
    uint64_t draw = 1;
    for (int i = 0; i < 100000; i++) { /* behind a right head, bytes as they come */
        char text[256] = "";
        swt_beat_write(bytes, &in, token);
        for (int k = 8 + SWT_TOKEN_BYTES; k < SWT_BEAT_BYTES; k++) {
            draw = draw * UINT64_C(6364136223846793005) + 1442695040888963407u;
            if (draw >> 61 != 0) /* else as it was, so that some get far */
                bytes[k] = draw >> 62 == 1 ? 0 : (unsigned char)(draw >> 40);
        }
        if (swt_beat_read(&out, bytes, token, RANKS))
            swt_position_append(text, sizeof text, &out.at);
    }
}

static void places_in_words(void **state) {
    (void)state;
    char text[256] = "";
    swt_beat b = sample();
    b.at.step = 7;
    swt_position_append(text, sizeof text, &b.at);
    assert_string_equal(text, "step 7, backward of layer 11 (moe), in swt_comm_all_to_all");
    text[0] = '\0';
    swt_position_append(text, sizeof text,
                        &(swt_position){.phase = SWT_PHASE_START, .layer = -1, .kind = -1});
    assert_string_equal(text, "step 0, start");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(layout_is_fixed),
        cmocka_unit_test(impossible_numbers_are_refused),
        cmocka_unit_test(any_bytes_are_taken),
        cmocka_unit_test(places_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
