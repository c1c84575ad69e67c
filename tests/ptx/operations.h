/* Operations on registers: a table from what an instruction is called to a function that does it
 * for the lanes of a warp. */
#ifndef SWT_PTX_OPERATIONS_H
#define SWT_PTX_OPERATIONS_H

#include "tests/ptx/ptx.h"

#include <string.h>
#include <type_traits>
#include <unordered_map>

namespace ptx {

struct operation {
    action act;
    std::vector<int> operand_bytes; /* the result's first; 0: a predicate */
};

typedef std::unordered_map<std::string, operation> operation_table;

/* NULL if there is none of this name. */
const operation *find_operation(const std::string &name);

void add_integer_operations(operation_table &t);
void add_float_operations(operation_table &t);
void add_conversions(operation_table &t);

/* to[lane] = f(lane) for some lanes; for all, the compiler makes vector code of it. */
template <class T, class F> static inline void put(T *to, lane_set lanes, F f) {
    if (lanes == ALL_LANES) {
#pragma GCC ivdep
        for (int lane = 0; lane < LANES; lane++)
            to[lane] = f(lane);
    } else {
        each_lane(lanes, [=](int lane) { to[lane] = f(lane); });
    }
}

/* The same for a predicate. All lanes are asked, since that costs nothing and changes nothing. */
template <class F> static inline void put_predicate(lane_set &to, lane_set lanes, F f) {
    lane_set result = 0;
    for (int lane = 0; lane < LANES; lane++)
        result |= static_cast<lane_set>(f(lane)) << lane;
    to = (to & ~lanes) | (result & lanes);
}

/* An operand of type T on each lane; of type bool: a predicate. */
template <class T> struct source {
    const T *values;
    source(const warp &w, uint32_t reg) : values(w.values<T>(reg)) {
    }
    T operator[](int lane) const {
        return values[lane];
    }
};
template <> struct source<bool> {
    lane_set lanes;
    source(const warp &w, uint32_t reg) : lanes(w.predicate(reg)) {
    }
    bool operator[](int lane) const {
        return has_lane(lanes, lane);
    }
};

template <class R, class F> static inline void put_result(warp &w, uint32_t reg, lane_set m, F f) {
    if constexpr (std::is_same_v<R, bool>)
        put_predicate(w.predicate(reg), m, f);
    else
        put(w.values<R>(reg), m, [=](int lane) { return static_cast<R>(f(lane)); });
}

template <class T> constexpr int operand_bytes = std::is_same_v<T, bool> ? 0 : sizeof(T);

/* Operations with one, two and three operands: the result R is `F` of them. F has no state. */
template <class R, class A, class F>
static void add_unary(operation_table &t, const std::string &name, F) {
    t[name] = {[](warp &w, const instruction &i, lane_set m) {
                   const source<A> a(w, i.a);
                   put_result<R>(w, i.to[0], m, [=](int lane) { return F{}(a[lane]); });
               },
               {operand_bytes<R>, operand_bytes<A>}};
}

template <class R, class A, class B, class F>
static void add_binary(operation_table &t, const std::string &name, F) {
    t[name] = {[](warp &w, const instruction &i, lane_set m) {
                   const source<A> a(w, i.a);
                   const source<B> b(w, i.b);
                   put_result<R>(w, i.to[0], m, [=](int lane) { return F{}(a[lane], b[lane]); });
               },
               {operand_bytes<R>, operand_bytes<A>, operand_bytes<B>}};
}

template <class R, class A, class B, class C, class F>
static void add_ternary(operation_table &t, const std::string &name, F) {
    t[name] = {[](warp &w, const instruction &i, lane_set m) {
                   const source<A> a(w, i.a);
                   const source<B> b(w, i.b);
                   const source<C> c(w, i.c);
                   put_result<R>(w, i.to[0], m,
                                 [=](int lane) { return F{}(a[lane], b[lane], c[lane]); });
               },
               {operand_bytes<R>, operand_bytes<A>, operand_bytes<B>, operand_bytes<C>}};
}

/* The comparisons that whole numbers and ordered floats share: false where an operand is NaN. */
template <class T> static void add_comparisons(operation_table &t, const std::string &type) {
    const std::string s = "setp.", e = "." + type;
    add_binary<bool, T, T>(t, s + "eq" + e, [](T a, T b) { return a >= b && a <= b; });
    add_binary<bool, T, T>(t, s + "ne" + e, [](T a, T b) { return a < b || a > b; });
    add_binary<bool, T, T>(t, s + "lt" + e, [](T a, T b) { return a < b; });
    add_binary<bool, T, T>(t, s + "le" + e, [](T a, T b) { return a <= b; });
    add_binary<bool, T, T>(t, s + "gt" + e, [](T a, T b) { return a > b; });
    add_binary<bool, T, T>(t, s + "ge" + e, [](T a, T b) { return a >= b; });
}

} // namespace ptx

#endif
