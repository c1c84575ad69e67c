/* Who is lost, who speaks, and what is said: without sockets, at times that the test chooses. */
#include "model/sublayer.h"
#include "state/roll.h"
#include "state/wire.h"
#include "support/test.h"

#include <stdio.h>
#include <string.h>

enum { MOST = 20 };

typedef struct bed {
    swt_roll_rank at[MOST];
    swt_roll roll;
    char text[4096];
} bed;

/* All were heard at time 0, in an exchange of all of layer 1, but rank `behind`, which has not come
 * to it yet. */
static void begin(bed *b, int ranks, int own, int behind) {
    memset(b, 0, sizeof *b);
    b->roll =
        (swt_roll){.ranks = ranks, .own = own, .hang_ms = 5e3, .stall_ms = 300e3, .at = b->at};
    for (int r = 0; r < ranks; r++)
        b->at[r].at = (swt_position){.step = 7,
                                     .phase = SWT_PHASE_FORWARD,
                                     .layer = 1,
                                     .kind = SWT_SWITCH,
                                     .call = r != behind ? SWT_CALL_ALL_TO_ALL : SWT_CALL_NONE,
                                     .of = {0, 1, ranks},
                                     .calls = r != behind ? 40 : 39};
}

static void hear_all(bed *b, double now_ms) {
    swt_roll_forgive(&b->roll, now_ms);
}

static void silence_is_a_loss(void **state) {
    (void)state;
    bed b;
    begin(&b, 3, 0, 1);
    assert_int_equal(swt_roll_judge(&b.roll, 5e3), 0);
    b.at[2].heard_ms = 4e3;
    assert_int_equal(swt_roll_judge(&b.roll, 5001.0), 1);
    assert_int_equal(b.at[1].presence, SWT_LOST);
    assert_int_equal(b.at[1].loss, SWT_LOSS_SILENT);
    swt_roll_tell(&b.roll, b.text, sizeof b.text);
    assert_string_equal(
        b.text, "rank 1: not heard of for 5 s, last at step 7, forward of layer 1 (moe); ranks 0, "
                "2 wait at step 7, forward of layer 1 (moe), in swt_comm_all_to_all, for rank 1; "
                "see why it ended or stands, and start again from a checkpoint");
}

/* Who has said goodbye is not missed. */
static void goodbye_is_no_loss(void **state) {
    (void)state;
    bed b;
    begin(&b, 3, 0, 1);
    b.at[1].presence = SWT_LEFT;
    swt_roll_lose(&b.roll, 1, SWT_LOSS_CLOSED);
    b.at[2].heard_ms = 9e9;
    assert_int_equal(swt_roll_judge(&b.roll, 9e9), 0);
}

/* One that stands still is lost though it is heard of; those who wait for it are not; and what may
 * take any time is none. */
static void standing_still_is_a_loss(void **state) {
    (void)state;
    bed b;
    begin(&b, 3, 0, 1);
    for (int r = 0; r < 3; r++)
        b.at[r].at.idle_ms = 299000;
    b.at[0].at.idle_ms = b.at[2].at.idle_ms = 400000; /* they came early */
    hear_all(&b, 1e6);
    assert_int_equal(swt_roll_judge(&b.roll, 1e6), 0);
    assert_int_equal(swt_roll_slow(&b.roll, 1e6), 1);
    swt_roll_warn(&b.roll, 1, 1e6, b.text, sizeof b.text);
    assert_string_equal(b.text, "rank 1: without progress for 299 s, at step 7, forward of layer 1 "
                                "(moe); after 300 s it is lost (run.stall_seconds)");
    b.at[1].at.phase = SWT_PHASE_CHECKPOINT;
    assert_int_equal(swt_roll_judge(&b.roll, 1e6 + 2e3), 0);
    b.at[1].at.phase = SWT_PHASE_START;
    assert_int_equal(swt_roll_judge(&b.roll, 1e6 + 2e3), 0);
    b.at[1].at.phase = SWT_PHASE_UPDATE;
    b.roll.stall_ms = 0.0;
    assert_int_equal(swt_roll_judge(&b.roll, 1e6 + 2e3), 0);
    b.roll.stall_ms = 300e3;
    assert_int_equal(swt_roll_judge(&b.roll, 1e6 + 2e3), 1);
    assert_int_equal(b.at[1].presence, SWT_LOST);
    b.text[0] = '\0';
    swt_roll_tell(&b.roll, b.text, sizeof b.text);
    assert_non_null(strstr(b.text, "rank 1: without progress for 300 s, last at step 7, update"));
}

/* Where all wait for each other the one that has begun the fewest calls is named, once all have
 * stood for so long. */
static void all_waiting_is_a_loss(void **state) {
    (void)state;
    bed b;
    begin(&b, 4, 0, 2);
    b.at[2].at.call = SWT_CALL_BROADCAST;
    for (int r = 0; r < 4; r++)
        b.at[r].at.idle_ms = r == 3 ? 100 : 300000;
    assert_int_equal(swt_roll_judge(&b.roll, 0.0), 0);
    b.at[3].at.idle_ms = 300000;
    assert_int_equal(swt_roll_judge(&b.roll, 0.0), 1);
    assert_int_equal(b.at[2].presence, SWT_LOST);
}

static void lowest_live_rank_speaks(void **state) {
    (void)state;
    bed b;
    begin(&b, 3, 2, -1);
    assert_int_equal(swt_roll_speaker(&b.roll), 0);
    swt_roll_lose(&b.roll, 0, SWT_LOSS_CLOSED);
    assert_int_equal(swt_roll_speaker(&b.roll), 1);
    b.at[1].presence = SWT_LEFT;
    assert_int_equal(swt_roll_speaker(&b.roll), 2);
    /* One that stands still is heard of, and hears: it leaves the telling to the next, as that one
     * takes it for lost. */
    begin(&b, 3, 0, 0);
    swt_roll_lose(&b.roll, 0, SWT_LOSS_STALLED);
    assert_int_equal(swt_roll_speaker(&b.roll), 1);
    /* Beyond the hubs, those who hear the hubs alone know of nobody else. */
    begin(&b, MOST, SWT_HUBS + 1, -1);
    assert_false(swt_roll_hears(&b.roll, SWT_HUBS));
    assert_true(swt_roll_hears(&b.roll, SWT_HUBS - 1));
    for (int r = 0; r < SWT_HUBS; r++) {
        assert_int_equal(swt_roll_speaker(&b.roll), r);
        swt_roll_lose(&b.roll, r, SWT_LOSS_CLOSED);
    }
    assert_int_equal(swt_roll_speaker(&b.roll), SWT_HUBS);
    b.at[SWT_HUBS].heard_ms = -1e9;
    assert_int_equal(swt_roll_judge(&b.roll, 0.0), SWT_HUBS);
}

/* Ranks at one place are told of together; a call of a part names those of the part. */
static void groups_are_told_of(void **state) {
    (void)state;
    bed b;
    begin(&b, 6, 0, -1);
    for (int r = 3; r < 6; r++)
        b.at[r].at.of = (swt_members){3, 1, 3};
    for (int r = 0; r < 3; r++)
        b.at[r].at.of = (swt_members){0, 1, 3};
    b.at[2].at.calls = 39;
    swt_roll_lose(&b.roll, 4, SWT_LOSS_CLOSED);
    swt_roll_tell(&b.roll, b.text, sizeof b.text);
    const char *place = "step 7, forward of layer 1 (moe), in swt_comm_all_to_all";
    char wanted[2048];
    snprintf(wanted, sizeof wanted,
             "rank 4: its process has ended without a word, last at %s; ranks 0-1 wait at %s, for "
             "rank 2; rank 2 is at %s; ranks 3, 5 wait at %s, for rank 4; see why it ended or "
             "stands, and start again from a checkpoint",
             place, place, place, place);
    assert_string_equal(b.text, wanted);
}

/* A line of many ranks is cut, not its memory. */
static void long_lines_fit(void **state) {
    (void)state;
    bed b;
    char text[64] = "";
    begin(&b, MOST, 0, 3);
    for (int r = 0; r < MOST; r++)
        b.at[r].at.step = r;
    swt_roll_lose(&b.roll, 3, SWT_LOSS_SILENT);
    swt_roll_tell(&b.roll, text, sizeof text);
    assert_int_equal(strlen(text), sizeof text - 1);
}

/* ---- addresses */

#define IP(a, b, c, d) ((uint32_t)(a) << 24 | (b) << 16 | (c) << 8 | (d))

static void shared_network_is_chosen(void **state) {
    (void)state;
    /* Two ranks on each of two machines: a bridge that both have, a network of one's own, and the
     * one between them. */
    swt_offers all[4];
    memset(all, 0, sizeof all);
    for (int r = 0; r < 4; r++) {
        const unsigned machine = (unsigned)r / 2;
        all[r].count = 3;
        all[r].at[0].ip = IP(172, 17, 0, 1);
        all[r].at[1].ip = IP(10, machine, 0, 5);
        all[r].at[2].ip = IP(192, 168, 7, 20 + machine);
        all[r].at[0].prefix = all[r].at[1].prefix = 16;
        all[r].at[2].prefix = 24;
    }
    assert_int_equal(swt_offers_choose(all, 4, 0), IP(192, 168, 7, 20));
    assert_int_equal(swt_offers_choose(all, 4, 3), IP(192, 168, 7, 21));
    /* Without it the one that a router may reach. */
    for (int r = 0; r < 4; r++)
        all[r].count = 2;
    assert_int_equal(swt_offers_choose(all, 4, 0), IP(10, 0, 0, 5));
    for (int r = 0; r < 4; r++)
        all[r].count = 1;
    all[3].at[0].prefix = 24; /* another machine with the same bridge alone */
    assert_int_equal(swt_offers_choose(all, 4, 3), 0);
    all[3].count = UINT32_MAX; /* no count leads outside */
    (void)swt_offers_choose(all, 4, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_is_a_loss),        cmocka_unit_test(goodbye_is_no_loss),
        cmocka_unit_test(standing_still_is_a_loss), cmocka_unit_test(all_waiting_is_a_loss),
        cmocka_unit_test(lowest_live_rank_speaks),  cmocka_unit_test(groups_are_told_of),
        cmocka_unit_test(long_lines_fit),           cmocka_unit_test(shared_network_is_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
