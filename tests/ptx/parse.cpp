#include "tests/ptx/parse.h"

#include "tests/emu/emu.h"

#include <algorithm>
#include <stdlib.h>
#include <string.h>

namespace ptx {

static std::vector<variable> variables; /* of all modules */

bool in_variable(uint64_t address, uint64_t bytes) {
    return std::any_of(variables.begin(), variables.end(), [=](const variable &v) {
        return address >= v.address && address + bytes <= v.address + v.bytes;
    });
}

static uint32_t small_number(const std::string &s, int line) {
    const uint64_t n = number(s, line);
    if (n > 1 << 30)
        stop_reading(line, "a size that is too large", s);
    return static_cast<uint32_t>(n);
}

declaration declared(const std::string &text, int line) {
    declaration d = {"", 0, 0};
    uint32_t element = 0;
    const std::vector<std::string> all = words(text);
    for (size_t i = 0; i < all.size(); i++) {
        const std::string &word = all[i];
        if (word == ".align" && i + 1 < all.size())
            d.alignment = small_number(all[++i], line);
        else if (word[0] != '.')
            d.name = word;
        else if (word.size() > 2 && isdigit(word[2]))
            element = static_cast<uint32_t>(type_bytes(word, line));
    }
    if (d.name.empty() || element == 0)
        stop_reading(line, "not a declaration that is known", text);
    const size_t open = d.name.find('['), close = d.name.find(']');
    const bool array = open != std::string::npos;
    const std::string count = array ? d.name.substr(open + 1, close - open - 1) : "1";
    d.bytes = count.empty() ? 0 : small_number(count, line) * element;
    d.name = d.name.substr(0, open);
    d.alignment = std::max(d.alignment, element);
    return d;
}

static std::vector<declaration> declared_list(const std::string &text, int line) {
    std::vector<declaration> out;
    for (const std::string &part : split(text))
        out.push_back(declared(part, line));
    return out;
}

/* .loc FILE LINE COLUMN, and perhaps where the function was inlined. */
static void set_place(reader &r, int &file, int &source_line) {
    const std::vector<std::string> w = words(r.rest_of_line());
    file = w.size() < 3 ? 0 : atoi(w[1].c_str());
    source_line = w.size() < 3 ? 0 : atoi(w[2].c_str());
}

/* A body, behind its opening brace. */
static std::vector<statement> read_body(reader &r) {
    std::vector<statement> out;
    int file = 0, source_line = 0, depth = 0;
    for (;;) {
        r.skip_space();
        if (r.next_is(".loc\t") || r.next_is(".loc ")) {
            set_place(r, file, source_line);
            continue;
        }
        statement s = {'\0', r.line, file, source_line, ""};
        if (r.next_is("{") || r.next_is("}")) {
            s.kind = r.take();
            depth += s.kind == '{' ? 1 : -1;
            if (depth < 0)
                return out;
        } else {
            /* Braces of operands follow other words. A label is one word; ".shared::cta" is none.
             */
            s.text = r.until(";:", &s.kind);
            while (s.kind == ':' && (r.next_is(":") || words(s.text).size() > 1))
                s.text += ':' + r.until(";:", &s.kind);
            if (s.kind == ':' && s.text.back() == ':')
                s.text += r.until(";", &s.kind);
        }
        out.push_back(s);
    }
}

/* From the word .entry or .func on: name, parameters, what a launch may be; then the body, if there
 * is one. */
static void read_function(module &m, reader &r, const std::string &head, bool entry, char end) {
    const char *const word = entry ? ".entry" : ".func";
    std::string rest = trim(head.substr(head.find(word) + strlen(word)));
    function f;
    const int line = r.line;
    if (rest[0] == '(') {
        const size_t close = rest.find(')');
        f.results = declared_list(rest.substr(1, close - 1), line);
        rest = trim(rest.substr(close + 1));
    }
    const size_t open = rest.find('('), close = rest.find(')');
    const std::string name = trim(rest.substr(0, open));
    if (open != std::string::npos)
        f.parameters = declared_list(rest.substr(open + 1, close - open - 1), line);
    const size_t limit = rest.find(".maxntid");
    if (limit != std::string::npos) {
        f.max_threads = 1;
        for (const std::string &n : split(rest.substr(limit + strlen(".maxntid"))))
            f.max_threads *= static_cast<uint32_t>(atoi(n.c_str()));
    }
    if (end == ';') /* it says only that there is such a function */
        return;
    f.body = read_body(r);
    (entry ? m.kernels : m.functions)[name] = f;
}

/* .global .align 8 .b8 name[n] = {1, 2, ...}; `head` goes up to the brace. */
static void read_variable(module &m, reader &r, const std::string &head) {
    const declaration d = declared(head.substr(0, head.find('=')), r.line);
    char end = '\0';
    const std::vector<std::string> values = split(r.until("}", &end));
    if (head.find(" .b8 ") == std::string::npos || values.size() > d.bytes)
        stop_reading(r.line, "values that are not known", head);
    auto *const memory = static_cast<uint8_t *>(calloc(1, d.bytes + d.alignment));
    if (memory == nullptr)
        swt_emu_stop("no memory for %s", d.name.c_str());
    const auto begin = reinterpret_cast<uint64_t>(memory);
    const variable v = {(begin + d.alignment - 1) / d.alignment * d.alignment, d.bytes};
    for (size_t i = 0; i < values.size(); i++)
        memory[v.address - begin + i] = static_cast<uint8_t>(number(values[i], r.line));
    m.variables[d.name] = v;
    variables.push_back(v);
    (void)r.until(";", &end);
}

/* True if the line is a directive that has no semicolon. */
static bool read_directive(module &m, reader &r) {
    for (const char *const ignored : {".version", ".target", ".address_size"})
        if (r.next_is(ignored)) {
            (void)r.rest_of_line();
            return true;
        }
    if (r.next_is(".file")) {
        const std::string line = r.rest_of_line();
        const size_t open = line.find('"'), close = line.rfind('"');
        m.sources[atoi(line.c_str() + strlen(".file"))] = line.substr(open + 1, close - open - 1);
        return true;
    }
    if (r.next_is(".section")) { /* what debuggers read */
        char end = '\0';
        (void)r.until("}", &end);
        return true;
    }
    return false;
}

module parse(const std::string &text) {
    module m;
    reader r;
    r.text = without_comments(text);
    for (r.skip_space(); !r.ended(); r.skip_space()) {
        if (read_directive(m, r))
            continue;
        char end = '\0';
        const std::string head = r.until(";{", &end);
        const bool entry = head.find(".entry") != std::string::npos;
        if (entry || head.find(".func") != std::string::npos)
            read_function(m, r, head, entry, end);
        else if (end == '{')
            read_variable(m, r, head);
        else if (begins_with(head, ".extern") && head.find(".shared") != std::string::npos)
            m.dynamic_shared = declared(head, r.line).name;
        else
            stop_reading(r.line, "a declaration that is not known", head);
    }
    return m;
}

} // namespace ptx
