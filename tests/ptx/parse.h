/* A module in PTX: its functions as lists of statements, and its variables. */
#ifndef SWT_PTX_PARSE_H
#define SWT_PTX_PARSE_H

#include "tests/ptx/text.h"

#include <map>

namespace ptx {

/* A variable or parameter. */
struct declaration {
    std::string name;
    uint32_t bytes, alignment;
};

/* `.align 8 .b8 name[104]`: words that say where it lies are left out. */
declaration declared(const std::string &text, int line);

struct function {
    std::vector<declaration> parameters, results;
    std::vector<statement> body;
    uint32_t max_threads = 0; /* of a block; 0: not said */
};

/* An array in the GPU's memory that has its values from the start. */
struct variable {
    uint64_t address;
    uint32_t bytes;
};

struct module {
    std::map<std::string, function> functions, kernels;
    std::map<std::string, variable> variables;
    std::string dynamic_shared; /* the name of the launch's shared memory; "": none */
    std::map<int, std::string> sources;
};

/* Reads a text that nvcc has made. */
module parse(const std::string &text);

/* Is this range inside one variable of any module? */
bool in_variable(uint64_t address, uint64_t bytes);

} // namespace ptx

#endif
