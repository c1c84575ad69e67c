/* Which instruction does what: those that direct lanes here, those of registers by the table of
 * operations.h, the rest where its code is. */
#include "tests/ptx/link.h"
#include "tests/ptx/operations.h"

namespace ptx {

std::vector<std::string> vector_of(const std::string &operand) {
    if (operand[0] != '{')
        return {operand};
    return split(operand.substr(1, operand.size() - 2));
}

/* bar.sync 0, all threads of the block. */
static void decode_barrier(linker &l, const pieces &p, instruction &i) {
    l.want(p, p.name == "bar.sync" && p.operands.size() == 1 && p.operands[0] == "0",
           "a barrier that is not known");
    i.then = flow::BARRIER;
}

/* mov with a vector on one side: the parts of a wider register, the lowest first. The wide one is
 * `a`, the parts are `to`, whichever is written. */
template <class PART, class WHOLE>
static void take_apart(warp &w, const instruction &i, lane_set m) {
    const WHOLE *const a = w.values<WHOLE>(i.a);
    WHOLE whole[LANES]; /* a part may be the register itself */
    memcpy(whole, a, sizeof whole);
    for (int n = 0; n < i.count; n++)
        if (i.to[n] != NO_REGISTER)
            put(w.values<PART>(i.to[n]), m, [=, &whole](int lane) {
                return static_cast<PART>(whole[lane] >> 8 * sizeof(PART) * n);
            });
}

template <class PART, class WHOLE>
static void put_together(warp &w, const instruction &i, lane_set m) {
    WHOLE whole[LANES] = {};
    for (int n = 0; n < i.count; n++) {
        const PART *const part = w.values<PART>(i.to[n]);
        for (int lane = 0; lane < LANES; lane++)
            whole[lane] |= static_cast<WHOLE>(part[lane]) << 8 * sizeof(PART) * n;
    }
    put(w.values<WHOLE>(i.a), m, [&whole](int lane) { return whole[lane]; });
}

static void decode_vector_move(linker &l, const pieces &p, instruction &i) {
    const bool apart = p.operands[0][0] == '{';
    const std::vector<std::string> v = vector_of(p.operands[apart ? 0 : 1]);
    const int whole = type_bytes(p.dots[1], p.from->line);
    const int part = whole / static_cast<int>(v.size());
    l.want(p, v.size() <= 4 && part * static_cast<int>(v.size()) == whole, "parts of other widths");
    i.count = static_cast<uint8_t>(v.size());
    i.a = apart ? l.read(p, p.operands[1], whole) : l.written(p, p.operands[0], whole);
    for (size_t n = 0; n < v.size(); n++)
        i.to[n] = apart ? l.written(p, v[n], part) : l.read(p, v[n], part);
    if (whole == 4 && part == 2)
        i.act = apart ? take_apart<uint16_t, uint32_t> : put_together<uint16_t, uint32_t>;
    else if (whole == 8 && part == 4)
        i.act = apart ? take_apart<uint32_t, uint64_t> : put_together<uint32_t, uint64_t>;
    else if (whole == 8 && part == 2)
        i.act = apart ? take_apart<uint16_t, uint64_t> : put_together<uint16_t, uint64_t>;
    else
        l.stop(p, "parts of other widths");
}

/* Conversions may read the lower half of a wider register. */
static void decode_operation(linker &l, const pieces &p, instruction &i) {
    const operation *const found = find_operation(p.name);
    l.want(p, found != nullptr, "an instruction that is not known");
    const std::vector<int> &bytes = found->operand_bytes;
    l.want(p, p.operands.size() == bytes.size(), "another number of operands");
    i.act = found->act;
    i.to[0] = l.written(p, p.operands[0], bytes[0]);
    uint32_t *const sources[] = {&i.a, &i.b, &i.c};
    for (size_t n = 1; n < bytes.size(); n++) {
        const std::string &operand = p.operands[n];
        const bool may_be_wide = p.dots[0] == "cvt" && bytes[n] == 4 && !is_number(operand);
        const bool wide = may_be_wide && l.find(p, operand).bytes == 8;
        *sources[n - 1] = wide ? l.lower_half(p, operand, i) : l.read(p, operand, bytes[n]);
    }
}

bool decode(linker &l, const pieces &p, instruction &i) {
    const std::string &head = p.dots[0];
    if (head == "call") {
        l.call(p);
        return false;
    }
    if (head == "bra") {
        l.want(p, p.operands.size() == 1, "another number of operands");
        l.branch(i, p.operands[0]);
    } else if (p.name == "ret")
        l.leave(i);
    else if (p.name == "exit")
        i.then = flow::EXIT;
    else if (head == "bar" && p.dots[1] != "warp")
        decode_barrier(l, p, i);
    else if (head == "bar" || head == "shfl" || head == "vote")
        decode_warp(l, p, i);
    else if (head == "ld" || head == "st" || head == "atom")
        decode_memory(l, p, i);
    else if (head == "ldmatrix" || head == "mma")
        decode_tensor(l, p, i);
    else if (head == "cp")
        decode_copy(l, p, i);
    else if (head == "mov" && p.operands.size() == 2 &&
             (p.operands[0][0] == '{' || p.operands[1][0] == '{'))
        decode_vector_move(l, p, i);
    else
        decode_operation(l, p, i);
    return true;
}

} // namespace ptx
