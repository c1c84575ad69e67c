/* From a function's statements to a kernel's instructions: names become registers and addresses,
 * labels the numbers of instructions, and called functions stand where they are called. */
#ifndef SWT_PTX_LINK_H
#define SWT_PTX_LINK_H

#include "tests/ptx/parse.h"
#include "tests/ptx/ptx.h"

namespace ptx {

enum class space { REGISTER, GLOBAL, SHARED, LOCAL, CALL, PARAMETER };

/* What a name stands for. */
struct symbol {
    space where;
    int bytes;        /* of a register; 0: a predicate */
    uint64_t address; /* in its space; of a register: its offset */
};

typedef std::map<std::string, symbol> scope;

/* An instruction's text in pieces. */
struct pieces {
    const statement *from;
    std::string name;              /* ld.global.nc.v4.f32 */
    std::vector<std::string> dots; /* ld, global, nc, v4, f32 */
    std::vector<std::string> operands;
};

class linker {
  public:
    linker(const module &m, kernel &k) : from(m), to(k) {
    }

    void link(const function &entry);

    /* -- for decode.cpp: what operands are ---------------------------------------------------- */

    [[noreturn]] void stop(const pieces &p, const char *what) const {
        stop_reading(p.from->line, what, p.from->text);
    }
    void want(const pieces &p, bool right, const char *what) const {
        if (!right)
            stop(p, what);
    }

    const symbol &find(const pieces &p, const std::string &name) const;

    /* A register to write, of so many bytes; "_": none. */
    uint32_t written(const pieces &p, const std::string &name, int bytes) const;

    /* A register to read, a number, or the address of a variable. */
    uint32_t read(const pieces &p, const std::string &operand, int bytes);

    /* The lower half of a register of 8 bytes, where an operand has 4: an instruction of its own
     * before `i`, under the same guard, puts it into another register, which is returned. */
    uint32_t lower_half(const pieces &p, const std::string &operand, const instruction &i);

    /* [register+n] or [name+n]: sets the parts of the instruction that tell of an address. Returns
     * the space, which for parameters may be that of a called function's. */
    space address(const pieces &p, const std::string &operand, space said, instruction &i) const;

    void branch(instruction &i, const std::string &label);
    void leave(instruction &i);
    void call(const pieces &p);

    /* Room for further registers of an instruction. */
    const uint32_t *keep(const std::vector<uint32_t> &registers);

  private:
    void special_registers();
    void parameters(const function &entry);
    void statics(const function &entry);
    void body(const std::vector<statement> &all, const std::string &of, const std::string &at_end);
    void directive(const statement &s);
    void registers(const statement &s);
    void add(const statement &s);
    void push(const instruction &i, const statement &s);
    uint32_t new_register(int bytes);
    uint32_t constant_of(int bytes, uint64_t value);

    const module &from;
    kernel &to;
    std::vector<scope> scopes;
    std::map<std::string, uint32_t> labels;
    std::vector<std::pair<uint32_t, std::string>> jumps; /* instruction, label */
    std::map<std::pair<int, uint64_t>, uint32_t> constants;
    std::string call_name, call_end; /* added to labels; where `ret` goes. "": not in a call */
    int calls = 0;
};

/* Make the instruction of these pieces (decode.cpp); false: it was a call. */
bool decode(linker &l, const pieces &p, instruction &i);

/* Loads, stores and atomic operations (memory.cpp). */
void decode_memory(linker &l, const pieces &p, instruction &i);

/* Operations of a warp (gather.cpp), and those of tensor cores with copies into shared memory
 * (tensor.cpp). */
void decode_warp(linker &l, const pieces &p, instruction &i);
void decode_tensor(linker &l, const pieces &p, instruction &i);
void decode_copy(linker &l, const pieces &p, instruction &i);

/* The registers of {a, b, ...}, or of one that stands alone. */
std::vector<std::string> vector_of(const std::string &operand);

} // namespace ptx

#endif
