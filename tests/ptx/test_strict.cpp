/* What must end a process, with one line that says what is wrong and where; and what is so like it
 * that it must not. */
#include "tests/ptx/small.h"

/* Texts that are planted, and what must be said of them ("": nothing). */
struct plant {
    unsigned threads;
    const char *instructions, *report;
};

static const plant texts[] = {
    {32, "sin.approx.f32 %f1, %f2;", "an instruction that is not known: sin.approx.f32 %f1, %f2"},
    {32, "add.s32 %r1, %rd1, %r2;", "a register of another width"},
    {32, "add.f32 %f1, %f2, 0d0000000000000000;", "a number of another width"},
    {32, "add.s32 %r1, %r2;", "another number of operands"},
    {32, "add.s32 %r1, %r2, %r99;", "unknown name %r99"},
    {32, "bra nowhere;", "an unknown label: nowhere"},
    {32, "bar.sync 1;", "a barrier that is not known"},
    {32, "ld.const.u32 %r1, [%rd0];", "a space that is not known"},
    {32, "ld.global.v2.u32 {%r1, %rd2}, [%rd0];", "registers of several widths"},
    {32, "ld.global.u64 %r1, [%rd0];", "a register that is too narrow"},
    {32, "ld.shared.u32 %r1, [out];", "a name of another space"},
    {32, "call.uni (%r1), missing, (%r1);", "an unknown function"},
    {32, ".texref t;", "not a declaration that is known"},
};

static const plant addresses[] = {
    {32, "add.s64 %rd2, %rd0, 2;\nst.global.u32 [%rd2], %r0;", "is not aligned to 4 bytes"},
    {32, "st.global.v4.u32 [%rd0+8], {%r0, %r0, %r0, %r0};", "is not aligned to 16 bytes"},
    {32, "st.global.u32 [%rd0+1048576], %r0;", "are outside of every allocation"},
    {32, "ld.global.u32 %r1, [%rd0+-4];", "are outside of every allocation"},
    {32, "ld.global.u32 %r1, [%rd0];\nld.global.u32 %r1, [%rd1];",
     "PTX line 15: ld.global.u32 %r1, [%rd1]: 4 bytes at 0x0 are outside"},
    {32, "st.shared.u32 [tile+1024], %r0;", "outside of shared memory, which has 1024"},
    {32, "mov.u32 %r1, 1022;\nst.shared.u16 [%r1+2], %rs0;", "outside of shared memory"},
    {32, "st.shared.u32 [tile+2], %r0;", "is not aligned"},
    {32, "ld.param.u32 %r1, [out+8];", "outside of the parameters"},
    {1, "mov.u32 %r1, tile;\ncp.async.ca.shared.global [%r1], [%rd0], 4, 8;",
     "a copy of 4 bytes that takes 8"},
};

static const plant races[] = {
    {64, "st.shared.u32 [tile], %r0;", "written by lane 0 since the last __syncwarp"},
    {64, "setp.eq.u32 %p1, %r0, 0;\n@%p1 st.shared.u32 [tile], %r0;\nld.shared.u32 %r1, [tile];",
     "written by lane 0 since the last __syncwarp"},
    {64, "and.b32 %r1, %r0, 31;\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 st.shared.u32 [tile], %r0;",
     "written by warp 0 since the last barrier"},
    {64, "ld.shared.u32 %r1, [tile];\nsetp.eq.u32 %p1, %r0, 40;\n@%p1 st.shared.u32 [tile], %r0;",
     "read by warp 0 since the last barrier"},
    {32, "ld.shared.u32 %r1, [tile];\nsetp.eq.u32 %p1, %r0, 4;\n@%p1 st.shared.u32 [tile], %r0;",
     "read by lane 0 since the last __syncwarp"},
    {64,
     "setp.eq.u32 %p1, %r0, 0;\n@%p1 st.shared.u32 [tile], %r0;\nbar.warp.sync -1;\n"
     "ld.shared.u32 %r1, [tile];",
     "written by warp 0 since the last barrier"},
    {32, "atom.shared.add.u32 %r1, [tile], 1;\nld.shared.u32 %r1, [tile];",
     "since the last __syncwarp"},
    /* These are none. */
    {32,
     "setp.eq.u32 %p1, %r0, 0;\n@%p1 st.shared.u32 [tile], %r0;\nbar.warp.sync -1;\n"
     "ld.shared.u32 %r1, [tile];",
     ""},
    {64,
     "setp.eq.u32 %p1, %r0, 0;\n@%p1 st.shared.u32 [tile], %r0;\nbar.sync 0;\n"
     "ld.shared.u32 %r1, [tile];\nbar.sync 0;\n@%p1 st.shared.u32 [tile], %r0;",
     ""},
    {64, "atom.shared.add.u32 %r1, [tile], 1;", ""},
    {64, "shl.b32 %r1, %r0, 1;\nst.shared.u16 [%r1], %rs0;", ""},
};

static const plant meetings[] = {
    {64, "setp.lt.u32 %p1, %r0, 32;\n@%p1 bra A;\nbar.sync 0;\nbra B;\nA:\nbar.sync 0;\nB:",
     "PTX line 19: bar.sync 0: divergent barrier: others are at the one of PTX "
     "line 16"},
    {64, "setp.lt.u32 %p1, %r0, 32;\n@%p1 bra A;\nbar.sync 0;\nA:",
     "divergent barrier: 32 of 64 threads are there, the others have ended"},
    {32, "setp.lt.u32 %p1, %r0, 16;\n@%p1 ret;\nshfl.sync.bfly.b32 %r1, %r0, 1, 31, -1;",
     "it names lanes 0000ffff, which have ended"},
    {32, "shfl.sync.bfly.b32 %r1, %r0, 1, 31, 1;", "the value of lane 1, which takes no part"},
    {32, "shfl.sync.bfly.b32 %r1, %r0, 1, 31, 2;", "the lane does not name itself among 00000002"},
    {32,
     "setp.lt.u32 %p1, %r0, 16;\n@%p1 bra A;\nshfl.sync.bfly.b32 %r1, %r0, 1, 31, -1;\n"
     "bra B;\nA:\nbar.warp.sync -1;\nB:",
     "divergent: it waits for lanes that do not come"},
    {32,
     "setp.lt.u32 %p1, %r0, 16;\n@%p1 bra A;\nbar.sync 0;\nbra B;\nA:\nbar.warp.sync 65535;\nB:",
     "16 of 32 threads are there, the others have ended"},
    {16, "shfl.sync.bfly.b32 %r1, %r0, 16, 31, 65535;",
     "the value of lane 16, which takes no part"},
    {32,
     "setp.lt.u32 %p1, %r0, 16;\nselp.b32 %r2, 65535, -1, %p1;\n"
     "shfl.sync.bfly.b32 %r1, %r0, 1, 31, %r2;",
     "it names lanes"},
    /* These are none. */
    {64, "setp.lt.u32 %p1, %r0, 32;\n@%p1 bra A;\nadd.s32 %r1, %r0, 1;\nA:\nbar.sync 0;", ""},
    {32, "setp.lt.u32 %p1, %r0, 16;\n@%p1 shfl.sync.bfly.b32 %r1, %r0, 1, 31, 65535;", ""},
};

static const plant *planted;
static void *out;

static void run_planted() {
    run_small(planted->instructions, planted->threads, out);
}

/* In the order of numbers and in shuffled ones. */
static void judge(const plant *plants, size_t n) {
    for (planted = plants; planted < plants + n; planted++)
        for (uint64_t order = 0; order < 4; order++) {
            char text[16384];
            const int result = child(run_planted, order, text, sizeof text);
            const bool silent = planted->report[0] == '\0';
            /* Who is first in a race, or the last to come, is the order's choice. */
            const char *const report = order == 0 ? planted->report : "swt-emu: ";
            if (silent ? result != 0 : result == 0 || strstr(text, report) == nullptr)
                fail_msg("order %d: \"%s\" ended with %d, not with \"%s\": %s",
                         static_cast<int>(order), planted->instructions, result, planted->report,
                         text);
        }
}

static void unknown_texts_are_refused(void **) {
    judge(texts, sizeof texts / sizeof texts[0]);
}

static void wrong_addresses_are_found(void **) {
    judge(addresses, sizeof addresses / sizeof addresses[0]);
}

static void races_are_found(void **) {
    judge(races, sizeof races / sizeof races[0]);
}

static void who_does_not_come_is_found(void **) {
    judge(meetings, sizeof meetings / sizeof meetings[0]);
}

int main() {
    out = managed<unsigned>(1024);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_texts_are_refused),
        cmocka_unit_test(wrong_addresses_are_found),
        cmocka_unit_test(races_are_found),
        cmocka_unit_test(who_does_not_come_is_found),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
