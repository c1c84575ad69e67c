#include "tests/ptx/text.h"

#include "tests/emu/emu.h"

#include <stdlib.h>
#include <string.h>

namespace ptx {

static const char space[] = " \t\r\n";

void stop_reading(int line, const std::string &what, const std::string &text) {
    std::string one_line = text;
    for (char &c : one_line)
        if (strchr(space, c) != nullptr)
            c = ' ';
    swt_emu_stop("PTX line %d: %s: %s", line, what.c_str(), one_line.c_str());
}

std::string trim(const std::string &s) {
    const size_t first = s.find_first_not_of(space);
    return first == std::string::npos ? "" : s.substr(first, s.find_last_not_of(space) - first + 1);
}

std::vector<std::string> split(const std::string &s) {
    std::vector<std::string> out;
    if (trim(s).empty())
        return out;
    int depth = 0;
    std::string part;
    for (const char c : s) {
        depth += c == '{' || c == '[' || c == '(';
        depth -= c == '}' || c == ']' || c == ')';
        if (c != ',' || depth != 0) {
            part += c;
            continue;
        }
        out.push_back(trim(part));
        part.clear();
    }
    out.push_back(trim(part));
    return out;
}

std::vector<std::string> words(const std::string &s) {
    std::vector<std::string> out;
    for (size_t at = s.find_first_not_of(space); at != std::string::npos;) {
        const size_t end = s.find_first_of(space, at);
        out.push_back(s.substr(at, end == std::string::npos ? end : end - at));
        at = s.find_first_not_of(space, end);
    }
    return out;
}

std::vector<std::string> parts(const std::string &s, char mark) {
    std::vector<std::string> out(1);
    for (const char c : s)
        if (c == mark)
            out.emplace_back();
        else
            out.back() += c;
    return out;
}

bool begins_with(const std::string &s, const std::string &with) {
    return s.compare(0, with.size(), with) == 0;
}

int type_bytes(const std::string &type, int line) {
    const std::string t = begins_with(type, ".") ? type.substr(1) : type;
    if (t == "pred")
        return 0;
    for (const char *const kind : {"b", "u", "s", "f"})
        for (const int bytes : {1, 2, 4, 8})
            if (t == kind + std::to_string(8 * bytes))
                return bytes;
    stop_reading(line, "unknown type", type);
}

bool is_number(const std::string &s) {
    return !s.empty() && (isdigit(s[0]) || (s[0] == '-' && s.size() > 1));
}

uint64_t number(const std::string &s, int line) {
    const bool by_bits = s.size() > 2 && s[0] == '0' && strchr("fFdD", s[1]) != nullptr;
    const char *const digits = s.c_str() + (by_bits ? 2 : 0);
    char *end = nullptr;
    const uint64_t value = strtoull(digits, &end, by_bits ? 16 : 0); /* a minus wraps around */
    if (*end != '\0' || end == digits)
        stop_reading(line, "not a number", s);
    return value;
}

char reader::take() {
    if (ended())
        stop_reading(line, "the text ends too early", "");
    line += text[at] == '\n';
    return text[at++];
}

void reader::skip_space() {
    while (!ended() && strchr(space, text[at]) != nullptr)
        (void)take();
}

std::string reader::until(const char *marks, char *found) {
    const size_t begin = at;
    while (strchr(marks, *found = take()) == nullptr)
        ;
    return trim(text.substr(begin, at - 1 - begin));
}

std::string reader::rest_of_line() {
    const size_t begin = at;
    while (!ended() && text[at] != '\n')
        at++;
    return trim(text.substr(begin, at - begin));
}

bool reader::next_is(const std::string &word) const {
    return text.compare(at, word.size(), word) == 0;
}

std::string without_comments(const std::string &text) {
    std::string out;
    bool comment = false;
    for (size_t i = 0; i < text.size() && text[i] != '\0'; i++) {
        comment = text[i] != '\n' && (comment || text.compare(i, 2, "//") == 0);
        out += comment ? ' ' : text[i];
    }
    return out;
}

} // namespace ptx
