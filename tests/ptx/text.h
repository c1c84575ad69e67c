/* Texts in PTX, cut into pieces. */
#ifndef SWT_PTX_TEXT_H
#define SWT_PTX_TEXT_H

#include <stdint.h>
#include <string>
#include <vector>

namespace ptx {

/* A piece of a function's body: an instruction or a directive (';'), a label (':'), or the begin or
 * end of a block of names ('{', '}'). */
struct statement {
    char kind;
    int line;              /* of the PTX */
    int file, source_line; /* as the last .loc before it says; 0: not said */
    std::string text;
};

/* End the process with the line of the PTX and what is wrong there. */
[[noreturn]] void stop_reading(int line, const std::string &what, const std::string &text);

/* Without white space at both ends. */
std::string trim(const std::string &s);

/* The parts between commas that are not inside brackets, trimmed. */
std::vector<std::string> split(const std::string &s);

/* The parts between white space. */
std::vector<std::string> words(const std::string &s);

/* The parts between the character `mark`, which may be empty. */
std::vector<std::string> parts(const std::string &s, char mark);

bool begins_with(const std::string &s, const std::string &with);

/* The bytes of a type's name (u32, .f64, ...): those of a register; 0 for pred. */
int type_bytes(const std::string &type, int line);

/* A whole number in decimal or, with 0x, in hexadecimal; or a float by its bits (0f..., 0d...). */
uint64_t number(const std::string &s, int line);
bool is_number(const std::string &s);

/* Walks over a text, with the line it is at. */
struct reader {
    std::string text;
    size_t at = 0;
    int line = 1;

    bool ended() const {
        return at >= text.size();
    }
    /* One character; the end of the text is an error. */
    char take();
    void skip_space();
    /* All before the first of these characters, which is taken too and put into `found`. */
    std::string until(const char *marks, char *found);
    std::string rest_of_line();
    bool next_is(const std::string &word) const;
};

/* The same text with spaces in place of its comments, and up to its first zero. */
std::string without_comments(const std::string &text);

} // namespace ptx

#endif
