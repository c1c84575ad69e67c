/* Whole numbers, bits and predicates. Sums and products wrap around, as PTX has it. */
#include "tests/ptx/operations.h"

namespace ptx {

/* Division by zero gives all ones, as GPUs do; the lowest number by -1 wraps around. */
template <class T> static T quotient(T a, T b) {
    if (b == 0)
        return static_cast<T>(-1);
    if (std::is_signed_v<T> && b == static_cast<T>(-1))
        return static_cast<T>(0 - static_cast<std::make_unsigned_t<T>>(a));
    return static_cast<T>(a / b);
}

template <class T> static T remainder(T a, T b) {
    if (b == 0)
        return a;
    if (std::is_signed_v<T> && b == static_cast<T>(-1))
        return 0;
    return static_cast<T>(a % b);
}

/* What signed and unsigned numbers have in common. U is the unsigned type of T's width. */
template <class T, class U>
static void add_arithmetic(operation_table &t, const std::string &type) {
    const std::string e = "." + type;
    add_binary<U, U, U>(t, "add" + e, [](U a, U b) { return a + b; });
    add_binary<U, U, U>(t, "sub" + e, [](U a, U b) { return a - b; });
    /* 16 bits would be multiplied as signed numbers, and wrap around where they must not. */
    add_binary<U, U, U>(t, "mul.lo" + e, [](U a, U b) { return uint64_t{a} * b; });
    add_ternary<U, U, U, U>(t, "mad.lo" + e, [](U a, U b, U c) { return uint64_t{a} * b + c; });
    add_binary<T, T, T>(t, "div" + e, [](T a, T b) { return quotient(a, b); });
    add_binary<T, T, T>(t, "rem" + e, [](T a, T b) { return remainder(a, b); });
    add_binary<T, T, T>(t, "max" + e, [](T a, T b) { return a > b ? a : b; });
    add_binary<T, T, T>(t, "min" + e, [](T a, T b) { return a < b ? a : b; });
    add_binary<T, T, uint32_t>(t, "shr" + e, [](T a, uint32_t by) {
        constexpr uint32_t last = 8 * sizeof(T) - 1;
        return by <= last ? a >> by : std::is_signed_v<T> ? a >> last : 0;
    });
    add_comparisons<T>(t, type);
}

template <class T, class U> static void add_signed(operation_table &t, const std::string &type) {
    add_arithmetic<T, U>(t, type);
    add_unary<U, U>(t, "neg." + type, [](U a) { return 0 - a; });
    add_unary<U, T>(t, "abs." + type, [](T a) {
        const U bits = static_cast<U>(a);
        return a < 0 ? 0 - bits : bits;
    });
}

template <class U> static void add_bits(operation_table &t, const std::string &type) {
    const std::string e = "." + type;
    add_binary<U, U, U>(t, "and" + e, [](U a, U b) { return a & b; });
    add_binary<U, U, U>(t, "or" + e, [](U a, U b) { return a | b; });
    add_binary<U, U, U>(t, "xor" + e, [](U a, U b) { return a ^ b; });
    add_unary<U, U>(t, "not" + e, [](U a) { return ~a; });
    add_binary<U, U, uint32_t>(
        t, "shl" + e, [](U a, uint32_t by) { return by < 8 * sizeof(U) ? uint64_t{a} << by : 0; });
    add_binary<bool, U, U>(t, "setp.eq" + e, [](U a, U b) { return a == b; });
    add_binary<bool, U, U>(t, "setp.ne" + e, [](U a, U b) { return a != b; });
}

/* Copies and choices move bits, whatever the type is called. */
template <class U> static void add_moves(operation_table &t, const std::string &type) {
    add_unary<U, U>(t, "mov." + type, [](U a) { return a; });
    add_ternary<U, U, U, bool>(t, "selp." + type, [](U a, U b, bool c) { return c ? a : b; });
}

/* Four bytes of the eight of a and b, each by four bits of `choice`; the fourth bit takes a byte's
 * sign instead. */
static uint32_t permuted(uint32_t a, uint32_t b, uint32_t choice) {
    const uint64_t all = uint64_t{b} << 32 | a;
    uint32_t out = 0;
    for (int k = 0; k < 4; k++) {
        const uint32_t which = choice >> 4 * k & 15;
        const uint32_t byte = static_cast<uint32_t>(all >> 8 * (which & 7)) & 255;
        const uint32_t sign = byte >= 128 ? 255 : 0;
        out |= (which >= 8 ? sign : byte) << 8 * k;
    }
    return out;
}

static void add_32_and_64_bits(operation_table &t) {
    add_unary<uint64_t, uint64_t>(t, "cvta.to.global.u64", [](uint64_t a) { return a; });
    add_binary<uint32_t, uint32_t, uint32_t>(t, "mul.hi.u32",
                                             [](uint64_t a, uint64_t b) { return a * b >> 32; });
    add_binary<uint64_t, uint64_t, uint64_t>(t, "mul.hi.u64", [](uint64_t a, uint64_t b) {
        __extension__ typedef unsigned __int128 product;
        return static_cast<uint64_t>(product{a} * b >> 64);
    });
    add_binary<int64_t, int64_t, int64_t>(t, "mul.hi.s64", [](int64_t a, int64_t b) {
        __extension__ typedef __int128 product;
        return static_cast<int64_t>(product{a} * b >> 64);
    });
    add_binary<uint64_t, uint32_t, uint32_t>(t, "mul.wide.u32",
                                             [](uint64_t a, uint64_t b) { return a * b; });
    add_binary<int64_t, int32_t, int32_t>(t, "mul.wide.s32",
                                          [](int64_t a, int64_t b) { return a * b; });
    add_unary<uint32_t, uint32_t>(t, "popc.b32", [](uint32_t a) { return __builtin_popcount(a); });
    add_unary<uint32_t, uint64_t>(t, "popc.b64",
                                  [](uint64_t a) { return __builtin_popcountll(a); });
    add_unary<uint32_t, uint32_t>(t, "clz.b32",
                                  [](uint32_t a) { return a != 0 ? __builtin_clz(a) : 32; });
    add_unary<uint32_t, uint64_t>(t, "clz.b64",
                                  [](uint64_t a) { return a != 0 ? __builtin_clzll(a) : 64; });
    add_ternary<uint32_t, uint32_t, uint32_t, uint32_t>(
        t, "prmt.b32", [](uint32_t a, uint32_t b, uint32_t c) { return permuted(a, b, c); });
}

/* Predicates: all lanes at once. */
template <class F> static void add_logic(operation_table &t, const std::string &name, F) {
    t[name] = {[](warp &w, const instruction &i, lane_set m) {
                   lane_set &to = w.predicate(i.to[0]);
                   to = (to & ~m) | (F{}(w.predicate(i.a), w.predicate(i.b)) & m);
               },
               {0, 0, 0}};
}

template <class F> static void add_logic_of_one(operation_table &t, const std::string &name, F) {
    t[name] = {[](warp &w, const instruction &i, lane_set m) {
                   lane_set &to = w.predicate(i.to[0]);
                   to = (to & ~m) | (F{}(w.predicate(i.a)) & m);
               },
               {0, 0}};
}

/* Sums of many words: the carry (of a difference: the borrow) goes from one instruction to the next
 * in a predicate of its own. `takes` and `gives`: whether this one reads it, and leaves one. F
 * gives the sum in 64 bits, whose bit 32 is the carry. */
template <bool takes, bool gives, int operands, class F>
static void add_carried(operation_table &t, const std::string &name, F) {
    t[name] = {[](warp &w, const instruction &i, lane_set m) {
                   lane_set &carry = w.predicate(CARRY * REGISTER_BYTES);
                   const uint32_t *const c = w.values<uint32_t>(operands == 3 ? i.c : i.b);
                   uint32_t *const to = w.values<uint32_t>(i.to[0]);
                   each_lane(m, [=, &w, &i, &carry](int lane) {
                       const uint64_t in = takes && has_lane(carry, lane) ? 1 : 0;
                       const uint64_t sum =
                           F{}(uint64_t{w.values<uint32_t>(i.a)[lane]},
                               uint64_t{w.values<uint32_t>(i.b)[lane]}, uint64_t{c[lane]}, in);
                       to[lane] = static_cast<uint32_t>(sum);
                       if (gives)
                           carry = (carry & ~(1U << lane)) | static_cast<lane_set>(sum >> 32 & 1)
                                                                 << lane;
                   });
               },
               std::vector<int>(operands + 1, 4)};
}

static void add_long_sums(operation_table &t) {
    const auto sum = [](uint64_t a, uint64_t b, uint64_t, uint64_t in) { return a + b + in; };
    const auto difference = [](uint64_t a, uint64_t b, uint64_t, uint64_t in) {
        return a - b - in;
    };
    const auto low = [](uint64_t a, uint64_t b, uint64_t c, uint64_t in) {
        return (a * b & UINT32_MAX) + c + in;
    };
    const auto high = [](uint64_t a, uint64_t b, uint64_t c, uint64_t in) {
        return (a * b >> 32) + c + in;
    };
    add_carried<false, true, 2>(t, "add.cc.u32", sum);
    add_carried<true, false, 2>(t, "addc.u32", sum);
    add_carried<true, true, 2>(t, "addc.cc.u32", sum);
    add_carried<false, true, 2>(t, "sub.cc.u32", difference);
    add_carried<true, false, 2>(t, "subc.u32", difference);
    add_carried<true, true, 2>(t, "subc.cc.u32", difference);
    add_carried<false, true, 3>(t, "mad.lo.cc.u32", low);
    add_carried<true, true, 3>(t, "madc.lo.cc.u32", low);
    add_carried<true, true, 3>(t, "madc.hi.cc.u32", high);
    add_carried<true, false, 3>(t, "madc.hi.u32", high);
}

void add_integer_operations(operation_table &t) {
    add_signed<int16_t, uint16_t>(t, "s16");
    add_signed<int32_t, uint32_t>(t, "s32");
    add_signed<int64_t, uint64_t>(t, "s64");
    add_arithmetic<uint16_t, uint16_t>(t, "u16");
    add_arithmetic<uint32_t, uint32_t>(t, "u32");
    add_arithmetic<uint64_t, uint64_t>(t, "u64");
    add_bits<uint16_t>(t, "b16");
    add_bits<uint32_t>(t, "b32");
    add_bits<uint64_t>(t, "b64");
    for (const char *const type : {"b16", "u16", "s16"})
        add_moves<uint16_t>(t, type);
    for (const char *const type : {"b32", "u32", "s32", "f32"})
        add_moves<uint32_t>(t, type);
    for (const char *const type : {"b64", "u64", "s64", "f64"})
        add_moves<uint64_t>(t, type);
    add_32_and_64_bits(t);
    add_logic(t, "and.pred", [](lane_set a, lane_set b) { return a & b; });
    add_logic(t, "or.pred", [](lane_set a, lane_set b) { return a | b; });
    add_logic(t, "xor.pred", [](lane_set a, lane_set b) { return a ^ b; });
    add_logic_of_one(t, "not.pred", [](lane_set a) { return ~a; });
    add_logic_of_one(t, "mov.pred", [](lane_set a) { return a; });
    add_long_sums(t);
}

const operation *find_operation(const std::string &name) {
    static const operation_table table = [] {
        operation_table t;
        add_integer_operations(t);
        add_float_operations(t);
        add_conversions(t);
        return t;
    }();
    const auto found = table.find(name);
    return found == table.end() ? nullptr : &found->second;
}

} // namespace ptx
