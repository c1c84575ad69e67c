/* SWT_PTX_MUTANT=KERNEL:NUMBER makes one instruction of a kernel wrong, as a compiler or a slip of
 * the hand might: a barrier or a store left out, a branch the other way round, a sum for a
 * difference, the neighbour of what is read. A test should fail then (instructions.py). */
#include "tests/ptx/mutate.h"

#include "tests/ptx/operations.h"

#include <stdlib.h>

namespace ptx {

static void nothing(warp &, const instruction &, lane_set) {
}

static void keep_own_value(warp &w, const instruction &i, lane_set m) {
    const uint32_t *const a = w.values<uint32_t>(i.a);
    put(w.values<uint32_t>(i.to[0]), m, [=](int lane) { return a[lane]; });
}

/* Beginnings of operations' names, and what they are taken for. */
static const char *const mistaken[][2] = {
    {"add.", "sub."},          {"sub.", "add."},         {"mul.", "add."},
    {"mul.lo.", "add."},       {"fma.", "mul."},         {"mad.lo.", "mul.lo."},
    {"div.", "mul."},          {"div.", "mul.lo."},      {"max.", "min."},
    {"min.", "max."},          {"and.", "or."},          {"or.", "and."},
    {"xor.", "or."},           {"shl.b32", "shr.u32"},   {"shl.b64", "shr.u64"},
    {"shr.u", "shl.b"},        {"shr.s", "shl.b"},       {"neg.", "mov."},
    {"abs.", "mov."},          {"not.", "mov."},         {"setp.eq.", "setp.ne."},
    {"setp.ne.", "setp.eq."},  {"setp.lt.", "setp.le."}, {"setp.le.", "setp.lt."},
    {"setp.gt.", "setp.ge."},  {"setp.ge.", "setp.gt."}, {"setp.gtu.", "setp.geu."},
    {"setp.ltu.", "setp.leu."}};

/* The operation that another one is taken for, which must write as wide a register and read such.
 */
static std::string mistaken_for(const std::string &name, instruction &made) {
    const operation *const right = find_operation(name);
    for (const auto &m : mistaken) {
        const std::string from = m[0], other = m[1];
        if (right == nullptr || name.compare(0, from.size(), from) != 0)
            continue;
        const std::string wrong = other + name.substr(from.size());
        const operation *const found = find_operation(wrong);
        if (found == nullptr)
            continue;
        std::vector<int> bytes = right->operand_bytes;
        bytes.resize(found->operand_bytes.size()); /* the third operand may be left out */
        if (bytes != found->operand_bytes)
            continue;
        made.act = found->act;
        return wrong;
    }
    return "";
}

/* The name of an instruction, without its guard and operands. */
static std::string name_of(const std::string &text) {
    const size_t guard = text[0] == '@' ? text.find(' ') : 0;
    const size_t begin = guard == 0 ? 0 : text.find_first_not_of(' ', guard);
    return text.substr(begin, text.find(' ', begin) - begin);
}

std::string mutant_of(const kernel &k, size_t number, instruction &made) {
    const std::string name = name_of(k.origins[number].text);
    const auto begins = [&name](const char *with) { return name.rfind(with, 0) == 0; };
    made = k.code[number];
    if (made.then == flow::BRANCH || made.then == flow::EXIT) {
        made.guard_negated = !made.guard_negated;
        return made.guarded ? "the other way round" : "";
    }
    const bool waits = made.then != flow::NEXT;
    made.then = flow::NEXT;
    if (begins("shfl.")) {
        made.act = keep_own_value;
        return "keeps its own value";
    }
    if (waits || begins("st.") || begins("atom.")) {
        made.act = nothing;
        return "left out";
    }
    if (begins("selp.")) {
        std::swap(made.a, made.b);
        return "the other one";
    }
    if (begins("ld.")) {
        made.offset += 4;
        return "from 4 bytes further on";
    }
    const std::string &text = k.origins[number].text;
    const bool of_zero = text.size() > 3 && text.compare(text.size() - 3, 3, ", 0") == 0;
    return of_zero && (begins("add.") || begins("sub.")) ? "" : mistaken_for(name, made);
}

void mutate(kernel &k) {
    const char *const said = getenv("SWT_PTX_MUTANT");
    const std::string wanted = said == nullptr ? "" : said;
    const size_t colon = wanted.rfind(':');
    if (colon == std::string::npos || wanted.substr(0, colon) != k.name)
        return;
    const size_t number = strtoull(wanted.c_str() + colon + 1, nullptr, 10);
    instruction made;
    if (number >= k.code.size() || mutant_of(k, number, made).empty())
        swt_emu_stop("SWT_PTX_MUTANT: there is no such instruction, or no way to make it wrong");
    k.code[number] = made;
}

} // namespace ptx
