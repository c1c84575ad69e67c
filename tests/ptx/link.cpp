#include "tests/ptx/link.h"

#include "tests/ptx/mutate.h"
#include "tests/ptx/operations.h"

#include <algorithm>
#include <string.h>

namespace ptx {

/* Reserve bytes behind `end`; returns where they begin. */
static uint32_t reserve(uint32_t &end, uint32_t bytes, uint32_t alignment) {
    const uint32_t begin = (end + alignment - 1) / alignment * alignment;
    end = begin + bytes;
    return begin;
}

/* -- names ------------------------------------------------------------------------------------ */

uint32_t linker::new_register(int bytes) {
    const uint32_t all = bytes == 0 ? sizeof(lane_set) : static_cast<uint32_t>(bytes) * LANES;
    return reserve(to.register_bytes, all, bytes == 0 ? sizeof(lane_set) : 64);
}

uint32_t linker::constant_of(int bytes, uint64_t value) {
    const auto made = constants.try_emplace({bytes, value}, 0);
    if (made.second) {
        made.first->second = new_register(bytes);
        to.constants.push_back({made.first->second, bytes, value});
    }
    return made.first->second;
}

const symbol &linker::find(const pieces &p, const std::string &name) const {
    for (size_t i = scopes.size(); i-- > 0;) {
        const auto found = scopes[i].find(name);
        if (found != scopes[i].end())
            return found->second;
    }
    stop(p, ("unknown name " + name).c_str());
}

uint32_t linker::written(const pieces &p, const std::string &name, int bytes) const {
    if (name == "_")
        return NO_REGISTER;
    const symbol &s = find(p, name);
    want(p, s.where == space::REGISTER, "its result is no register");
    want(p, s.bytes == bytes, "a register of another width");
    return static_cast<uint32_t>(s.address);
}

uint32_t linker::read(const pieces &p, const std::string &operand, int bytes) {
    if (is_number(operand)) {
        const bool single = begins_with(operand, "0f") || begins_with(operand, "0F");
        const bool twice = begins_with(operand, "0d") || begins_with(operand, "0D");
        want(p, (!single || bytes == 4) && (!twice || bytes == 8), "a number of another width");
        uint64_t value = number(operand, p.from->line);
        if (bytes == 0)
            value = value != 0;
        else if (bytes < 8)
            value &= (uint64_t{1} << 8 * bytes) - 1;
        return constant_of(bytes, value);
    }
    const symbol &s = find(p, operand);
    if (s.where != space::REGISTER) {
        want(p, bytes == 4 || bytes == 8, "an address of another width");
        return constant_of(bytes, s.address);
    }
    want(p, s.bytes == bytes, "a register of another width");
    return static_cast<uint32_t>(s.address);
}

uint32_t linker::lower_half(const pieces &p, const std::string &operand, const instruction &i) {
    instruction narrow;
    narrow.guarded = i.guarded;
    narrow.guard_negated = i.guard_negated;
    narrow.guard = i.guard;
    narrow.act = find_operation("cvt.u32.u64")->act;
    narrow.a = read(p, operand, 8);
    narrow.to[0] = new_register(4);
    push(narrow, *p.from);
    return narrow.to[0];
}

space linker::address(const pieces &p, const std::string &operand, space said,
                      instruction &i) const {
    want(p, operand.size() > 2 && operand[0] == '[' && operand.back() == ']', "no address");
    const std::vector<std::string> terms = parts(operand.substr(1, operand.size() - 2), '+');
    i.offset = terms.size() < 2 ? 0 : static_cast<int64_t>(number(trim(terms[1]), p.from->line));
    const symbol &s = find(p, trim(terms[0]));
    if (s.where == space::REGISTER) {
        want(p, s.bytes == 4 || s.bytes == 8, "an address of another width");
        i.a = static_cast<uint32_t>(s.address);
        i.address_bytes = static_cast<uint8_t>(s.bytes);
        return said;
    }
    const bool parameter = said == space::PARAMETER && s.where == space::CALL;
    want(p, s.where == said || parameter, "a name of another space");
    i.a = NO_REGISTER;
    i.offset += static_cast<int64_t>(s.address);
    return s.where;
}

const uint32_t *linker::keep(const std::vector<uint32_t> &registers) {
    to.more_registers.push_back(registers);
    return to.more_registers.back().data();
}

/* -- declarations ----------------------------------------------------------------------------- */

void linker::special_registers() {
    static const char *const names[SPECIALS] = {
        "%tid.x",   "%tid.y",   "%tid.z",    "%ntid.x",   "%ntid.y",   "%ntid.z", "%ctaid.x",
        "%ctaid.y", "%ctaid.z", "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "the carry"};
    for (const char *const name : names)
        scopes.back()[name] = {space::REGISTER, 4, new_register(4)};
}

void linker::parameters(const function &entry) {
    for (const declaration &d : entry.parameters) {
        const uint32_t at = reserve(to.parameter_bytes, d.bytes, d.alignment);
        to.parameters.push_back({at, d.bytes});
        scopes.back()[d.name] = {space::PARAMETER, 0, at};
    }
}

/* The launch's shared memory begins where the static one ends, so that must be known first. */
void linker::statics(const function &entry) {
    uint32_t end = 0;
    for (const statement &s : entry.body)
        if (s.kind == ';' && begins_with(s.text, ".shared")) {
            const declaration d = declared(s.text, s.line);
            (void)reserve(end, d.bytes, d.alignment);
        }
    to.dynamic_shared = reserve(end, 0, 16);
    if (!from.dynamic_shared.empty())
        scopes.back()[from.dynamic_shared] = {space::SHARED, 0, to.dynamic_shared};
    for (const auto &v : from.variables)
        scopes.back()[v.first] = {space::GLOBAL, 0, v.second.address};
}

/* .reg .b32 %r<7>, name */
void linker::registers(const statement &s) {
    const std::vector<std::string> w = words(s.text);
    const int bytes = type_bytes(w.size() > 1 ? w[1] : "", s.line);
    for (const std::string &name : split(s.text.substr(s.text.find(w[1]) + w[1].size()))) {
        const size_t open = name.find('<'), close = name.find('>');
        if (open == std::string::npos) {
            scopes.back()[name] = {space::REGISTER, bytes, new_register(bytes)};
            continue;
        }
        const uint64_t count = number(name.substr(open + 1, close - open - 1), s.line);
        for (uint64_t n = 0; n < count; n++)
            scopes.back()[name.substr(0, open) + std::to_string(n)] = {space::REGISTER, bytes,
                                                                       new_register(bytes)};
    }
}

void linker::directive(const statement &s) {
    const std::string word = words(s.text)[0];
    if (word == ".reg") {
        registers(s);
        return;
    }
    if (word == ".pragma")
        return;
    const declaration d = declared(s.text, s.line);
    scope &names = scopes.back();
    if (word == ".shared")
        names[d.name] = {space::SHARED, 0, reserve(to.shared_bytes, d.bytes, d.alignment)};
    else if (word == ".local")
        names[d.name] = {space::LOCAL, 0,
                         reserve(to.local_bytes, d.bytes, std::max(d.alignment, 16U))};
    else if (word == ".param")
        names[d.name] = {space::CALL, 0,
                         reserve(to.call_bytes, d.bytes, std::max(d.alignment, 16U))};
    else
        stop_reading(s.line, "a directive that is not known", s.text);
}

/* -- code ------------------------------------------------------------------------------------- */

void linker::branch(instruction &i, const std::string &label) {
    i.then = flow::BRANCH;
    jumps.emplace_back(static_cast<uint32_t>(to.code.size()), call_name + label);
}

void linker::leave(instruction &i) {
    i.then = call_end.empty() ? flow::EXIT : flow::BRANCH;
    if (!call_end.empty())
        jumps.emplace_back(static_cast<uint32_t>(to.code.size()), call_end);
}

static std::vector<std::string> in_brackets(const std::string &s) {
    return split(s.substr(1, s.size() - 2));
}

/* call.uni (result), name, (arguments): its instructions, with their own names, in this place. */
void linker::call(const pieces &p) {
    std::vector<std::string> o = p.operands, given, results;
    if (!o.empty() && o[0][0] == '(') {
        results = in_brackets(o[0]);
        o.erase(o.begin());
    }
    want(p, !o.empty() && p.from->text[0] != '@', "a call that is not known");
    const auto found = from.functions.find(o[0]);
    want(p, found != from.functions.end(), "an unknown function");
    if (o.size() > 1)
        given = in_brackets(o[1]);
    const function &f = found->second;
    want(p, given.size() == f.parameters.size() && results.size() == f.results.size(),
         "another number of arguments");
    scope names;
    for (size_t n = 0; n < given.size(); n++)
        names[f.parameters[n].name] = find(p, given[n]);
    for (size_t n = 0; n < results.size(); n++)
        names[f.results[n].name] = find(p, results[n]);

    const std::vector<scope> callers = scopes;
    const std::string callers_name = call_name, callers_end = call_end;
    scopes.resize(1); /* what all functions see */
    scopes.push_back(names);
    const std::string name = std::to_string(++calls) + "#", end = name + "end";
    body(f.body, name, end);
    labels[end] = static_cast<uint32_t>(to.code.size());
    scopes = callers;
    call_name = callers_name;
    call_end = callers_end;
}

static std::string one_line(std::string text) {
    for (char &c : text)
        if (c == '\n' || c == '\t')
            c = ' ';
    return text;
}

void linker::push(const instruction &i, const statement &s) {
    to.code.push_back(i);
    to.origins.push_back({s.line, s.file, s.source_line, one_line(s.text)});
}

void linker::add(const statement &s) {
    instruction i;
    std::string text = one_line(s.text);
    pieces p = {&s, "", {}, {}};
    if (text[0] == '@') {
        const size_t end = text.find(' ');
        i.guarded = true;
        i.guard_negated = text[1] == '!';
        const size_t begin = i.guard_negated ? 2 : 1;
        i.guard = written(p, text.substr(begin, end - begin), 0);
        text = trim(text.substr(end));
    }
    const size_t end = text.find(' ');
    p.name = text.substr(0, end);
    p.dots = parts(p.name, '.');
    if (end != std::string::npos)
        p.operands = split(text.substr(end));
    if (decode(*this, p, i))
        push(i, s);
}

void linker::body(const std::vector<statement> &all, const std::string &of,
                  const std::string &at_end) {
    scopes.emplace_back();
    call_name = of;
    call_end = at_end;
    for (const statement &s : all) {
        if (s.kind == '{')
            scopes.emplace_back();
        else if (s.kind == '}')
            scopes.pop_back();
        else if (s.kind == ':')
            labels[of + s.text] = static_cast<uint32_t>(to.code.size());
        else if (s.text[0] == '.')
            directive(s);
        else
            add(s);
    }
    scopes.pop_back();
}

void linker::link(const function &entry) {
    to.max_threads = entry.max_threads;
    scopes.emplace_back();
    special_registers();
    parameters(entry);
    statics(entry);
    body(entry.body, "", "");
    instruction end;
    end.then = flow::EXIT;
    to.code.push_back(end);
    to.origins.push_back({0, 0, 0, "(the end)"});
    for (const auto &jump : jumps) {
        const auto label = labels.find(jump.second);
        if (label == labels.end())
            stop_reading(to.origins[jump.first].line, "an unknown label", jump.second);
        to.code[jump.first].target = label->second;
    }
}

/* -- modules ---------------------------------------------------------------------------------- */

/* Never destroyed: what a program notes at its end (cover.cpp) reads them. */
static std::deque<module> &modules() {
    static auto *const all = new std::deque<module>;
    return *all;
}

static std::deque<kernel> &kernels() {
    static auto *const all = new std::deque<kernel>;
    return *all;
}

const module *load(const std::string &text) {
    modules().push_back(parse(text));
    return &modules().back();
}

const kernel *find_kernel(const module *m, const std::string &name) {
    for (const kernel &k : kernels())
        if (k.of == m && k.name == name)
            return &k;
    const auto found = m->kernels.find(name);
    if (found == m->kernels.end())
        return nullptr;
    kernel &k = kernels().emplace_back();
    k.name = name;
    k.of = m;
    linker(*m, k).link(found->second);
    mutate(k);
    return &k;
}

const std::deque<kernel> &ready_kernels() {
    return kernels();
}

std::string source_of(const kernel &k, const origin &o) {
    const auto found = k.of->sources.find(o.file);
    if (found == k.of->sources.end())
        return "";
    return found->second.substr(found->second.rfind('/') + 1) + ":" + std::to_string(o.source_line);
}

} // namespace ptx
