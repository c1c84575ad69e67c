/* Loads, stores and atomic operations. */
#include "tests/ptx/memory.h"

#include "tests/ptx/operations.h"

#include <algorithm>

namespace ptx {

void stop_misaligned(const warp &w, const instruction &i, int lane, uint64_t at, uint32_t bytes) {
    stop_at(w, i, lane, "address 0x%llx is not aligned to %u bytes",
            static_cast<unsigned long long>(at), bytes);
}

void stop_outside(const warp &w, const instruction &i, int lane, uint64_t at, uint32_t bytes,
                  const char *what, size_t size) {
    stop_at(w, i, lane, "%u bytes at %llu are outside of %s, which has %zu", bytes,
            static_cast<unsigned long long>(at), what, size);
}

/* Searching for the allocation of each address would take most of the time, so an instruction keeps
 * the range in which it has found one during the launch. */
static void find_allocation(const warp &w, const instruction &i, int lane, uint64_t at,
                            uint32_t bytes) {
    if (in_variable(at, bytes))
        return;
    const auto inside = [](uint64_t begin, uint64_t end) {
        return swt_emu_on_gpu(reinterpret_cast<const void *>(begin), end - begin, true);
    };
    if (!inside(at, at + bytes))
        stop_at(w, i, lane, "%u bytes at 0x%llx are outside of every allocation", bytes,
                static_cast<unsigned long long>(at));
    known_range &known = i.known;
    const uint64_t begin = std::min(known.begin, at), end = std::max(known.end, at + bytes);
    if (known.launch == now.launch && inside(begin, end))
        known = {now.launch, begin, end};
    else
        known = {now.launch, at, at + bytes};
}

uint8_t *place_global(const warp &w, const instruction &i, int lane, uint64_t at, uint32_t bytes) {
    if (at % bytes != 0)
        stop_misaligned(w, i, lane, at, bytes);
    if (i.known.launch != now.launch || at < i.known.begin || at + bytes > i.known.end)
        find_allocation(w, i, lane, at, bytes);
    return reinterpret_cast<uint8_t *>(at);
}

template <space S>
static inline uint8_t *place(const warp &w, const instruction &i, int lane, uint32_t bytes,
                             access how) {
    const uint64_t at = address_of(w, i, lane);
    if (S == space::GLOBAL)
        return place_global(w, i, lane, at, bytes);
    if (S == space::SHARED)
        return place_shared(w, i, lane, at, bytes, how);
    if (at % bytes != 0)
        stop_misaligned(w, i, lane, at, bytes);
    const bool parameter = S == space::PARAMETER;
    const uint32_t size = parameter           ? now.k->parameter_bytes
                          : S == space::LOCAL ? now.k->local_bytes
                                              : now.k->call_bytes;
    if (at > size || bytes > size - at)
        stop_outside(w, i, lane, at, bytes, parameter ? "the parameters" : "local memory", size);
    if (parameter)
        return const_cast<uint8_t *>(now.parameters) + at;
    return (S == space::LOCAL ? w.local : w.call) + static_cast<size_t>(lane) * size + at;
}

/* M: the type in memory, R: an unsigned type of the register's width. A narrower M is extended by
 * its sign, if it has one. */
template <space S, class M, class R> static void load(warp &w, const instruction &i, lane_set m) {
    if (S == space::PARAMETER && i.a == NO_REGISTER) { /* the same for all lanes */
        const uint8_t *const from = place<S>(w, i, 0, sizeof(M) * i.count, access::READ);
        for (int n = 0; n < i.count; n++) {
            M value;
            memcpy(&value, from + n * sizeof value, sizeof value);
            put(w.values<R>(i.to[n]), m, [=](int) { return static_cast<R>(value); });
        }
        return;
    }
    each_lane(m, [&w, &i](int lane) {
        const uint8_t *const from = place<S>(w, i, lane, sizeof(M) * i.count, access::READ);
        for (int n = 0; n < i.count; n++) {
            M value;
            memcpy(&value, from + n * sizeof value, sizeof value);
            w.values<R>(i.to[n])[lane] = static_cast<R>(value);
        }
    });
}

template <space S, class M, class R> static void store(warp &w, const instruction &i, lane_set m) {
    each_lane(m, [&w, &i](int lane) {
        uint8_t *const to = place<S>(w, i, lane, sizeof(M) * i.count, access::WRITE);
        for (int n = 0; n < i.count; n++) {
            const M value = static_cast<M>(w.values<R>(i.to[n])[lane]);
            memcpy(to + n * sizeof value, &value, sizeof value);
        }
    });
}

/* The register gets what was there; what is there becomes F of it and of the operand. */
template <space S, class T, class F> static void change(warp &w, const instruction &i, lane_set m) {
    each_lane(m, [&w, &i](int lane) {
        uint8_t *const to = place<S>(w, i, lane, sizeof(T), access::ATOMIC);
        T before;
        memcpy(&before, to, sizeof before);
        const T after = F{}(before, w.values<T>(i.b)[lane]);
        memcpy(to, &after, sizeof after);
        if (i.to[0] != NO_REGISTER)
            w.values<T>(i.to[0])[lane] = before;
    });
}

template <space S, class M> static action move_by(bool loads, int register_bytes) {
    switch (register_bytes) {
    case 2:
        return loads ? load<S, M, uint16_t> : store<S, M, uint16_t>;
    case 4:
        return loads ? load<S, M, uint32_t> : store<S, M, uint32_t>;
    default:
        return loads ? load<S, M, uint64_t> : store<S, M, uint64_t>;
    }
}

template <space S> static action move_of(bool loads, const std::string &type, int register_bytes) {
    const bool is_signed = type[0] == 's';
    switch (type_bytes(type, 0)) {
    case 1:
        return is_signed ? move_by<S, int8_t>(loads, register_bytes)
                         : move_by<S, uint8_t>(loads, register_bytes);
    case 2:
        return is_signed ? move_by<S, int16_t>(loads, register_bytes)
                         : move_by<S, uint16_t>(loads, register_bytes);
    case 4:
        return is_signed ? move_by<S, int32_t>(loads, register_bytes)
                         : move_by<S, uint32_t>(loads, register_bytes);
    default:
        return move_by<S, uint64_t>(loads, register_bytes);
    }
}

static action move_in(space where, bool loads, const std::string &type, int register_bytes) {
    switch (where) {
    case space::GLOBAL:
        return move_of<space::GLOBAL>(loads, type, register_bytes);
    case space::SHARED:
        return move_of<space::SHARED>(loads, type, register_bytes);
    case space::LOCAL:
        return move_of<space::LOCAL>(loads, type, register_bytes);
    case space::CALL:
        return move_of<space::CALL>(loads, type, register_bytes);
    default: /* nobody writes to a kernel's parameters */
        return loads ? move_of<space::PARAMETER>(true, type, register_bytes) : nullptr;
    }
}

static space space_named(const linker &l, const pieces &p) {
    const std::string &name = p.dots.size() > 1 ? p.dots[1] : p.name;
    if (name == "global")
        return space::GLOBAL;
    if (name == "shared")
        return space::SHARED;
    if (name == "local")
        return space::LOCAL;
    if (name == "param")
        return space::PARAMETER;
    l.stop(p, "a space that is not known");
}

/* The width of the registers that a vector names; where it names none but numbers, of `bytes`. */
static int register_bytes_of(const linker &l, const pieces &p, const std::vector<std::string> &v,
                             int bytes) {
    int width = 0;
    for (const std::string &name : v) {
        const bool known = !is_number(name) && name != "_";
        const int own = known ? l.find(p, name).bytes : std::max(bytes, 2);
        l.want(p, width == 0 || own == width, "registers of several widths");
        width = own;
    }
    l.want(p, width >= bytes && width >= 2, "a register that is too narrow");
    return width;
}

static void decode_move(linker &l, const pieces &p, instruction &i) {
    const bool loads = p.dots[0] == "ld";
    l.want(p, p.operands.size() == 2, "another number of operands");
    const std::vector<std::string> v = vector_of(p.operands[loads ? 0 : 1]);
    size_t at = 2;
    if (loads && p.dots[1] == "global" && p.dots.size() > 2 && p.dots[2] == "nc")
        at++;
    if (v.size() > 1) {
        l.want(p, at < p.dots.size() && p.dots[at] == "v" + std::to_string(v.size()),
               "a vector of another length");
        at++;
    }
    l.want(p, at + 1 == p.dots.size() && (v.size() == 1 || v.size() == 2 || v.size() == 4),
           "an instruction that is not known");
    const std::string &type = p.dots[at];
    const int bytes = register_bytes_of(l, p, v, type_bytes(type, p.from->line));
    const space where = l.address(p, p.operands[loads ? 1 : 0], space_named(l, p), i);
    i.count = static_cast<uint8_t>(v.size());
    for (size_t n = 0; n < v.size(); n++)
        i.to[n] = loads ? l.written(p, v[n], bytes) : l.read(p, v[n], bytes);
    i.act = move_in(where, loads, type, bytes);
    l.want(p, i.act != nullptr, "an instruction that is not known");
}

struct added {
    template <class T> T operator()(T before, T operand) const {
        return static_cast<T>(before + operand);
    }
};

struct exchanged {
    template <class T> T operator()(T, T operand) const {
        return operand;
    }
};

static void decode_atomic(linker &l, const pieces &p, instruction &i) {
    static const std::unordered_map<std::string, action> known = {
        {"atom.shared.add.u32", change<space::SHARED, uint32_t, added>},
        {"atom.global.add.u32", change<space::GLOBAL, uint32_t, added>},
        {"atom.global.add.u64", change<space::GLOBAL, uint64_t, added>},
        {"atom.global.exch.b64", change<space::GLOBAL, uint64_t, exchanged>},
    };
    const auto found = known.find(p.name);
    l.want(p, found != known.end() && p.operands.size() == 3, "an instruction that is not known");
    const int bytes = type_bytes(p.dots.back(), p.from->line);
    (void)l.address(p, p.operands[1], space_named(l, p), i);
    i.to[0] = l.written(p, p.operands[0], bytes);
    i.b = l.read(p, p.operands[2], bytes);
    i.act = found->second;
}

void decode_memory(linker &l, const pieces &p, instruction &i) {
    if (p.dots[0] == "atom")
        decode_atomic(l, p, i);
    else
        decode_move(l, p, i);
}

} // namespace ptx
