/* Floating point: IEEE arithmetic of the processor, and the instructions that only approximate.
 *
 * SWT_PTX_ULP=n adds n units in the last place to what ex2 gives, as a GPU may be wrong by 2:
 * bounds of the tests must allow for that. */
#include "tests/ptx/operations.h"

#include "tests/emu/emu.h"

#include <cfenv>
#include <limits>
#include <math.h>
#include <stdlib.h>

namespace ptx {

/* Of two numbers the larger, of a number and a NaN the number; +0 is larger than -0. */
template <class T> static T larger(T a, T b) {
    if (a == 0 && b == 0)
        return std::signbit(a) ? b : a;
    return std::fmax(a, b);
}

template <class T> static T smaller(T a, T b) {
    if (a == 0 && b == 0)
        return std::signbit(a) ? a : b;
    return std::fmin(a, b);
}

/* Numbers below the normal ones are 0 to instructions with .ftz. */
static float flushed(float x) {
    return fabsf(x) < 0x1p-126F ? copysignf(0, x) : x;
}

static float power_of_two(float x) {
    static const char *const said = getenv("SWT_PTX_ULP");
    static const double factor = 1 + (said != nullptr ? atof(said) : 0) * 0x1p-23;
    const float y = flushed(x);
    return y == 0 ? 1 : flushed(static_cast<float>(exp2(static_cast<double>(y)) * factor));
}

/* rcp.approx.ftz.f64 computes with the upper half of its bits, and gives no more. */
static double rough_reciprocal(double x) {
    double r = 1 / (fabs(x) < 0x1p-1022 ? copysign(0, x) : x);
    if (fabs(r) < 0x1p-1022)
        r = copysign(0, r);
    uint64_t bits = 0;
    memcpy(&bits, &r, sizeof bits);
    bits &= 0xffffffff00000000U;
    memcpy(&r, &bits, sizeof r);
    return r;
}

/* fma.rm: rounded towards minus infinity. The processor's way of rounding is changed around the
 * products, and memory is a barrier to the compiler on both sides. */
static void fma_down(warp &w, const instruction &i, lane_set m) {
    const float *const a = w.values<float>(i.a), *const b = w.values<float>(i.b);
    const float *const c = w.values<float>(i.c);
    float *const to = w.values<float>(i.to[0]);
    const int before = fegetround();
    if (fesetround(FE_DOWNWARD) != 0)
        stop_at(w, i, 0, "this processor does not round down");
    __asm__ volatile("" ::: "memory");
    put(to, m, [=](int lane) { return __builtin_fmaf(a[lane], b[lane], c[lane]); });
    __asm__ volatile("" ::: "memory");
    (void)fesetround(before);
}

/* Comparisons that are true where an operand is NaN. */
template <class T> static void add_unordered(operation_table &t, const std::string &type) {
    const std::string s = "setp.", e = "." + type;
    add_binary<bool, T, T>(t, s + "equ" + e, [](T a, T b) { return !(a < b || a > b); });
    add_binary<bool, T, T>(t, s + "neu" + e, [](T a, T b) { return !(a >= b && a <= b); });
    add_binary<bool, T, T>(t, s + "ltu" + e, [](T a, T b) { return !(a >= b); });
    add_binary<bool, T, T>(t, s + "leu" + e, [](T a, T b) { return !(a > b); });
    add_binary<bool, T, T>(t, s + "gtu" + e, [](T a, T b) { return !(a <= b); });
    add_binary<bool, T, T>(t, s + "geu" + e, [](T a, T b) { return !(a < b); });
    add_binary<bool, T, T>(t, s + "nan" + e, [](T a, T b) { return std::isunordered(a, b); });
    add_binary<bool, T, T>(t, s + "num" + e, [](T a, T b) { return !std::isunordered(a, b); });
}

template <class T> static void add_floats(operation_table &t, const std::string &type) {
    const std::string e = "." + type;
    for (const std::string rounded : {"", ".rn"}) {
        add_binary<T, T, T>(t, "add" + rounded + e, [](T a, T b) { return a + b; });
        add_binary<T, T, T>(t, "sub" + rounded + e, [](T a, T b) { return a - b; });
        add_binary<T, T, T>(t, "mul" + rounded + e, [](T a, T b) { return a * b; });
    }
    add_binary<T, T, T>(t, "div.rn" + e, [](T a, T b) { return a / b; });
    add_unary<T, T>(t, "rcp.rn" + e, [](T a) { return 1 / a; });
    add_unary<T, T>(t, "sqrt.rn" + e, [](T a) { return std::sqrt(a); });
    add_ternary<T, T, T, T>(t, "fma.rn" + e, [](T a, T b, T c) { return std::fma(a, b, c); });
    add_unary<T, T>(t, "neg" + e, [](T a) { return -a; });
    add_unary<T, T>(t, "abs" + e, [](T a) { return std::fabs(a); });
    add_binary<T, T, T>(t, "max" + e, [](T a, T b) { return larger(a, b); });
    add_binary<T, T, T>(t, "min" + e, [](T a, T b) { return smaller(a, b); });
    add_comparisons<T>(t, type);
    add_unordered<T>(t, type);
}

void add_float_operations(operation_table &t) {
    add_floats<float>(t, "f32");
    add_floats<double>(t, "f64");
    t["fma.rm.f32"] = {fma_down, {4, 4, 4, 4}};
    add_unary<float, float>(t, "ex2.approx.ftz.f32", [](float a) { return power_of_two(a); });
    add_unary<double, double>(t, "rcp.approx.ftz.f64",
                              [](double a) { return rough_reciprocal(a); });
}

/* To the nearest number of bfloat16, to the even one of two; NaN has one form. */
static uint16_t to_bf16(float x) {
    uint32_t bits = 0;
    memcpy(&bits, &x, sizeof bits);
    if (std::isnan(x))
        return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float saturated(float x) {
    return x > 0 ? fminf(x, 1) : 0; /* NaN and -0: 0 */
}

/* The nearest whole number that T has; NaN in F64: the lowest one. */
template <class T> static T whole(double x) {
    const double above = std::is_same_v<T, int64_t> ? 0x1p63 : 0x1p31;
    if (std::isnan(x) || x < -above)
        return std::numeric_limits<T>::min();
    return x >= above ? std::numeric_limits<T>::max() : static_cast<T>(x);
}

template <class R, class A> static void add_cast(operation_table &t, const std::string &name) {
    add_unary<R, A>(t, name, [](A a) { return a; });
}

void add_conversions(operation_table &t) {
    add_cast<int64_t, int32_t>(t, "cvt.s64.s32");
    add_cast<uint64_t, uint32_t>(t, "cvt.u64.u32");
    add_cast<uint32_t, uint64_t>(t, "cvt.u32.u64");
    add_cast<uint16_t, uint32_t>(t, "cvt.u16.u32");
    add_cast<uint32_t, uint16_t>(t, "cvt.u32.u16");
    add_cast<double, float>(t, "cvt.f64.f32");
    add_cast<float, double>(t, "cvt.rn.f32.f64");
    add_cast<float, int32_t>(t, "cvt.rn.f32.s32");
    add_cast<float, uint32_t>(t, "cvt.rn.f32.u32");
    add_cast<float, int64_t>(t, "cvt.rn.f32.s64");
    add_cast<double, int32_t>(t, "cvt.rn.f64.s32");
    add_cast<double, int64_t>(t, "cvt.rn.f64.s64");
    add_unary<uint32_t, uint16_t>(t, "cvt.f32.bf16", [](uint32_t a) { return a << 16; });
    add_unary<uint16_t, float>(t, "cvt.rn.bf16.f32", [](float a) { return to_bf16(a); });
    add_unary<float, float>(t, "cvt.sat.f32.f32", [](float a) { return saturated(a); });
    add_unary<double, double>(t, "cvt.rni.f64.f64", [](double a) { return nearbyint(a); });
    add_unary<double, double>(t, "cvt.rzi.f64.f64", [](double a) { return trunc(a); });
    add_unary<int64_t, double>(t, "cvt.rzi.s64.f64",
                               [](double a) { return whole<int64_t>(trunc(a)); });
    add_unary<int32_t, double>(t, "cvt.rni.s32.f64",
                               [](double a) { return whole<int32_t>(nearbyint(a)); });
}

} // namespace ptx
