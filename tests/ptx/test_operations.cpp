/* Instructions at places where they are easily got wrong, with answers from PTX's own description,
 * worked out by hand: by all lanes at once, and by some. */
#include "tests/ptx/small.h"

/* The instructions leave their result in %r1, %rd2 (wide) or %p1. */
struct answer {
    const char *instructions;
    char where; /* r, d (wide) or p */
    uint64_t wanted;
};

static const answer answers[] = {
    /* shifts by the width and beyond, and of negative numbers */
    {"shr.s32 %r1, 0x80000000, 31;", 'r', 0xffffffff},
    {"shr.s32 %r1, 0x80000000, 40;", 'r', 0xffffffff},
    {"shr.u32 %r1, 0x80000000, 31;", 'r', 1},
    {"shr.u32 %r1, 0x80000000, 32;", 'r', 0},
    {"shl.b32 %r1, 1, 32;", 'r', 0},
    {"shl.b64 %rd2, 1, 63;", 'd', 0x8000000000000000},
    {"shr.s64 %rd2, 0x8000000000000000, 64;", 'd', UINT64_MAX},
    /* whole numbers */
    {"mul.hi.u32 %r1, 0xffffffff, 0xffffffff;", 'r', 0xfffffffe},
    {"mul.hi.u64 %rd2, 0xffffffffffffffff, 0xffffffffffffffff;", 'd', 0xfffffffffffffffe},
    {"mul.hi.s64 %rd2, -1, 5;", 'd', UINT64_MAX},
    {"mul.wide.s32 %rd2, -3, 5;", 'd', static_cast<uint64_t>(-15)},
    {"mul.wide.u32 %rd2, -1, 2;", 'd', 0x1fffffffe},
    {"mul.lo.s64 %rd2, 0x100000001, 0x100000001;", 'd', 0x200000001},
    {"mad.lo.s32 %r1, -2, 3, 7;", 'r', 1},
    {"div.s32 %r1, -7, 2;", 'r', static_cast<uint32_t>(-3)},
    {"rem.s32 %r1, -7, 2;", 'r', static_cast<uint32_t>(-1)},
    {"div.s64 %rd2, 0x8000000000000000, -1;", 'd', 0x8000000000000000},
    {"div.u32 %r1, 7, 0;", 'r', 0xffffffff},
    {"max.s32 %r1, -1, 1;", 'r', 1},
    {"max.u32 %r1, -1, 1;", 'r', 0xffffffff},
    {"min.s64 %rd2, -1, 1;", 'd', UINT64_MAX},
    {"abs.s32 %r1, 0x80000000;", 'r', 0x80000000},
    {"setp.lt.s32 %p1, -1, 1;", 'p', 1},
    {"setp.lt.u32 %p1, -1, 1;", 'p', 0},
    {"setp.ge.s64 %p1, 1, 1;", 'p', 1},
    {"popc.b64 %r1, 0xf0f0f0f0f0f0f0f1;", 'r', 33},
    {"clz.b32 %r1, 0;", 'r', 32},
    {"clz.b64 %r1, 1;", 'r', 63},
    {"prmt.b32 %r1, 0x33221100, 0x77665544, 0x7250;", 'r', 0x77225500},
    {"prmt.b32 %r1, 0x80, 0x7f, 0x4c88;", 'r', 0x7f00ffff},
    {"mov.b32 {%rs1, %rs2}, 0x12345678;\nmov.b32 %r1, {%rs2, %rs1};", 'r', 0x56781234},
    {"mov.b64 {%r1, %r2}, 0x1234567890abcdef;", 'r', 0x90abcdef},
    {"cvt.s64.s32 %rd2, -5;", 'd', static_cast<uint64_t>(-5)},
    {"cvt.u64.u32 %rd2, -5;", 'd', 0xfffffffb},
    {"mov.b64 %rd3, 0x1ffffffff;\ncvt.s64.s32 %rd2, %rd3;", 'd', UINT64_MAX},
    /* 64 bits in two words, with what is carried and borrowed */
    {"add.cc.u32 %r2, 0xffffffff, 1;\naddc.u32 %r1, 5, 6;", 'r', 12},
    {"add.cc.u32 %r2, 0xfffffffe, 1;\naddc.u32 %r1, 5, 6;", 'r', 11},
    {"add.cc.u32 %r2, -1, 1;\naddc.cc.u32 %r2, -1, 0;\naddc.u32 %r1, 0, 0;", 'r', 1},
    {"sub.cc.u32 %r2, 0, 1;\nsubc.u32 %r1, 5, 3;", 'r', 1},
    {"sub.cc.u32 %r2, 1, 1;\nsubc.u32 %r1, 5, 3;", 'r', 2},
    {"mad.lo.cc.u32 %r2, -1, -1, -1;\nmadc.hi.u32 %r1, -1, -1, 0;", 'r', 0xffffffff},
    /* floats: the even one of two, signs of zero, NaN */
    {"add.f32 %f1, 0f3f800000, 0f33800000;\nmov.b32 %r1, %f1;", 'r', 0x3f800000},
    {"fma.rn.f32 %f1, 0f3f800001, 0f3f800001, 0fbf800002;\nmov.b32 %r1, %f1;", 'r', 0x28800000},
    {"fma.rm.f32 %f1, 0f3f800000, 0fb3000000, 0f3f800000;\nmov.b32 %r1, %f1;", 'r', 0x3f7fffff},
    {"fma.rn.f32 %f1, 0f3f800000, 0fb2000000, 0f3f800000;\nmov.b32 %r1, %f1;", 'r', 0x3f800000},
    {"max.f32 %f1, 0f80000000, 0f00000000;\nmov.b32 %r1, %f1;", 'r', 0},
    {"max.f32 %f1, 0f7fc00000, 0fbf800000;\nmov.b32 %r1, %f1;", 'r', 0xbf800000},
    {"min.f64 %fd1, 0d8000000000000000, 0d0000000000000000;\nmov.b64 %rd2, %fd1;", 'd',
     0x8000000000000000},
    {"setp.lt.f32 %p1, 0f7fc00000, 0f3f800000;", 'p', 0},
    {"setp.geu.f32 %p1, 0f7fc00000, 0f3f800000;", 'p', 1},
    {"setp.ne.f32 %p1, 0f7fc00000, 0f3f800000;", 'p', 0},
    {"setp.neu.f32 %p1, 0f7fc00000, 0f7fc00000;", 'p', 1},
    {"setp.nan.f32 %p1, 0f3f800000, 0f3f800000;", 'p', 0},
    {"cvt.rn.bf16.f32 %rs1, 0f3f808000;\nmov.b32 %r1, {%rs1, %rs1};", 'r', 0x3f803f80},
    {"cvt.rn.bf16.f32 %rs1, 0f3f818000;\nmov.b32 %r1, {%rs1, %rs1};", 'r', 0x3f823f82},
    {"cvt.rn.bf16.f32 %rs1, 0f7f7fffff;\nmov.b32 %r1, {%rs1, %rs1};", 'r', 0x7f807f80},
    {"cvt.rn.bf16.f32 %rs1, 0fff800001;\nmov.b32 %r1, {%rs1, %rs1};", 'r', 0x7fff7fff},
    {"mov.b32 {%rs1, %rs2}, 0x3f80bf81;\ncvt.f32.bf16 %f1, %rs1;\nmov.b32 %r1, %f1;", 'r',
     0xbf810000},
    {"cvt.sat.f32.f32 %f1, 0f7fc00000;\nmov.b32 %r1, %f1;", 'r', 0},
    {"cvt.sat.f32.f32 %f1, 0f40000000;\nmov.b32 %r1, %f1;", 'r', 0x3f800000},
    {"cvt.rn.f32.f64 %f1, 0d3ff0000010000000;\nmov.b32 %r1, %f1;", 'r', 0x3f800000},
    {"cvt.rn.f32.s64 %f1, 0x1000001;\nmov.b32 %r1, %f1;", 'r', 0x4b800000},
    {"cvt.rn.f32.u32 %f1, 0xffffffff;\nmov.b32 %r1, %f1;", 'r', 0x4f800000},
    {"cvt.rni.f64.f64 %fd1, 0d4004000000000000;\nmov.b64 %rd2, %fd1;", 'd', 0x4000000000000000},
    {"cvt.rzi.s64.f64 %rd2, 0dc004000000000000;", 'd', static_cast<uint64_t>(-2)},
    {"cvt.rzi.s64.f64 %rd2, 0d7ff0000000000000;", 'd', INT64_MAX},
    {"cvt.rzi.s64.f64 %rd2, 0d7ff8000000000000;", 'd', 0x8000000000000000},
    {"cvt.rni.s32.f64 %r1, 0d41e0000000000000;", 'r', INT32_MAX},
    {"cvt.rni.s32.f64 %r1, 0d3ff8000000000000;", 'r', 2},
    {"ex2.approx.ftz.f32 %f1, 0fc0000000;\nmov.b32 %r1, %f1;", 'r', 0x3e800000},
    {"ex2.approx.ftz.f32 %f1, 0fc2fe0000;\nmov.b32 %r1, %f1;", 'r', 0},
    {"rcp.approx.ftz.f64 %fd1, 0d4008000000000000;\nmov.b64 %rd2, %fd1;", 'd', 0x3fd5555500000000},
    /* predicates */
    {"setp.eq.s32 %p2, 1, 1;\nsetp.eq.s32 %p3, 1, 2;\nxor.pred %p1, %p2, %p3;", 'p', 1},
    {"setp.eq.s32 %p2, 1, 1;\nsetp.eq.s32 %p3, 1, 2;\nand.pred %p1, %p2, %p3;", 'p', 0},
    {"setp.eq.s32 %p2, 1, 2;\nnot.pred %p1, %p2;", 'p', 1},
    /* memory: signs and vectors */
    {"mov.b32 %r2, 0x1281;\nst.global.u32 [%rd0], %r2;\nld.global.s8 %rs1, [%rd0];\n"
     "mov.b32 %r1, {%rs1, %rs1};",
     'r', 0xff81ff81},
    {"st.global.v2.u32 [%rd0], {1, 2};\nld.global.v2.u32 {%r2, %r1}, [%rd0];", 'r', 2},
    /* a guard lets lanes pass */
    {"mov.u32 %r1, 7;\nsetp.eq.s32 %p2, 1, 2;\n@%p2 mov.u32 %r1, 8;", 'r', 7},
    {"mov.u32 %r1, 7;\nsetp.eq.s32 %p2, 1, 2;\n@!%p2 mov.u32 %r1, 8;", 'r', 8},
    /* a loop; lanes that part */
    {"mov.u32 %r1, 0;\nA:\nadd.s32 %r1, %r1, 3;\nsetp.lt.s32 %p1, %r1, 10;\n@%p1 bra A;", 'r', 12},
};

static void answers_are_right(void **) {
    auto *const out = managed<uint64_t>(64);
    for (const answer &a : answers)
        for (const unsigned threads : {32U, 5U}) {
            std::string store = "cvt.u64.u32 %rd2, %r1;\n";
            if (a.where == 'p')
                store = "selp.u64 %rd2, 1, 0, %p1;\n";
            else if (a.where == 'd')
                store = "";
            store += "add.s64 %rd3, %rd0, 256;\nst.global.u64 [%rd3], %rd2;";
            run_small(std::string(a.instructions) + "\n" + store, threads, out);
            if (out[32] != a.wanted)
                fail_msg("%s with %u threads: 0x%llx, wanted 0x%llx", a.instructions, threads,
                         static_cast<unsigned long long>(out[32]),
                         static_cast<unsigned long long>(a.wanted));
        }
}

/* Lanes go round a loop as often as their number says, and all add what they have counted. */
static void lanes_part_and_meet(void **) {
    auto *const out = managed<unsigned>(64);
    run_small("mov.u32 %r1, 0;\nmov.u32 %r2, %r0;\nA:\nsetp.eq.s32 %p1, %r2, 0;\n@%p1 bra B;\n"
              "add.s32 %r1, %r1, 2;\nadd.s32 %r2, %r2, -1;\nbra A;\nB:\nadd.s64 %rd2, %rd0, %rd1;\n"
              "st.global.u32 [%rd2], %r1;",
              64, out);
    for (unsigned thread = 0; thread < 64; thread++)
        assert_int_equal(out[thread], 2 * thread);
}

/* Called twice, with registers, labels and memory of its own each time. */
static void functions_are_called(void **) {
    const std::string text =
        ".func (.param .b32 result) doubled(\n.param .b32 x\n)\n{\n.reg .b32 %r<3>;\n.reg .pred "
        "%p1;\n"
        "ld.param.b32 %r1, [x+0];\nsetp.lt.s32 %p1, %r1, 100;\n@%p1 bra SMALL;\nmov.u32 %r1, 100;\n"
        "SMALL:\nadd.s32 %r2, %r1, %r1;\nst.param.b32 [result+0], %r2;\nret;\n}\n"
        ".entry twice(\n.param .u64 out\n)\n{\n.reg .b32 %r<4>;\n.reg .b64 %rd0;\n"
        "ld.param.u64 %rd0, [out];\nmov.u32 %r1, 30;\n"
        "{\n.param .b32 p;\nst.param.b32 [p+0], %r1;\n.param .b32 q;\n"
        "call.uni (q), doubled, (p);\nld.param.b32 %r2, [q+0];\n}\n"
        "{\n.param .b32 p;\nadd.s32 %r3, %r2, 80;\nst.param.b32 [p+0], %r3;\n.param .b32 q;\n"
        "call.uni (q), doubled, (p);\nld.param.b32 %r3, [q+0];\n}\n"
        "st.global.v2.u32 [%rd0], {%r2, %r3};\nret;\n}\n";
    auto *out = managed<unsigned>(2);
    const void *const arguments[] = {&out};
    OK(ptx::launch(ptx::find_kernel(ptx::load(text), "twice"), 1, 32, arguments, 0, nullptr));
    OK(cudaDeviceSynchronize());
    assert_int_equal(out[0], 60);
    assert_int_equal(out[1], 200);
}

/* What a launch is refused for: too many threads, an empty grid, too much shared memory. */
static void launches_are_refused(void **) {
    void *out = managed<unsigned>(2);
    const void *const arguments[] = {&out};
    const ptx::kernel *const k = small_kernel("");
    assert_int_equal(ptx::launch(k, 1, 1025, arguments, 0, nullptr), cudaErrorInvalidConfiguration);
    assert_int_equal(ptx::launch(k, 0, 32, arguments, 0, nullptr), cudaErrorInvalidConfiguration);
    assert_int_equal(ptx::launch(k, 1, 32, arguments, 48 * 1024 - 1023, nullptr),
                     cudaErrorInvalidValue);
    OK(ptx::launch(k, 1, 32, arguments, 48 * 1024 - 1024, nullptr));
    (void)cudaGetLastError();
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_right),
        cmocka_unit_test(lanes_part_and_meet),
        cmocka_unit_test(functions_are_called),
        cmocka_unit_test(launches_are_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
