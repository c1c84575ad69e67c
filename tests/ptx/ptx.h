/* PTX, the code that nvcc makes of the kernels, executed on the CPU: what its parts share.
 *
 * In the build `ptx` every .cu file goes through nvcc, and the objects' calls of CUDA's runtime
 * that register and launch kernels end here (runtime.cpp). The PTX is taken out of the fat binary
 * (fatbin.cpp), cut into functions (parse.cpp), and at a kernel's first launch each of its
 * instructions becomes a structure with a function that does it (link.cpp, decode.cpp). A launch is
 * queued on the emulated platform's stream (tests/emu) like any other work, and runs block after
 * block (block.cpp), a block's warps in turn (warp.cpp), an instruction for all lanes of a warp
 * that stand at it.
 *
 * Registers: each has 32 values side by side, one for each lane; a predicate is one set of lanes.
 *
 * Strict: an instruction or operand that is not known, an address that is misaligned or outside of
 * every allocation, a race in shared memory, a barrier that threads do not all reach, a warp
 * operation with lanes missing ends the process with one line (stop_at).
 *
 * Environment: SWT_EMU_ORDER as everywhere on the emulated platform: lanes, warps and blocks are
 * shuffled; SWT_PTX_COVER, SWT_PTX_MUTANT, SWT_PTX_ULP: cover.cpp, mutate.cpp, floats.cpp. */
#ifndef SWT_PTX_H
#define SWT_PTX_H

#include "tests/emu/emu.h"

#include <deque>
#include <string>
#include <vector>

namespace ptx {

constexpr int LANES = 32;
constexpr uint32_t NO_REGISTER = UINT32_MAX;

/* A set of lanes of a warp, one bit each. */
typedef uint32_t lane_set;
constexpr lane_set ALL_LANES = UINT32_MAX;

static inline bool has_lane(lane_set lanes, int lane) {
    return (lanes >> lane & 1) != 0;
}

/* Call f(lane) for each lane of a set, the lowest first. */
template <class F> static inline void each_lane(lane_set lanes, F f) {
    for (; lanes != 0; lanes &= lanes - 1)
        f(__builtin_ctz(lanes));
}

struct warp;
struct instruction;

/* Do an instruction for some lanes of a warp; for operations of a warp these are all that take
 * part. */
typedef void (*action)(warp &w, const instruction &i, lane_set lanes);

/* How lanes go on from an instruction. */
enum class flow : uint8_t {
    NEXT,         /* with the next one */
    BRANCH,       /* at the target */
    EXIT,         /* not at all */
    BARRIER,      /* when all threads of the block are here */
    WARP_BARRIER, /* when the lanes that it names are here */
    TOGETHER      /* the same, and they do it as one */
};

/* Addresses of one allocation that were asked for in one launch. */
struct known_range {
    uint64_t launch = 0, begin = 0, end = 0;
};

/* Operands are registers, as offsets into a warp's; a constant is a register that is never written.
 * What is stored stands in `to`, so that a vector has room. */
struct instruction {
    action act = nullptr;
    flow then = flow::NEXT;
    bool guarded = false, guard_negated = false;
    uint8_t count = 1;         /* registers of a vector */
    uint8_t address_bytes = 8; /* of the register that an address begins with */
    uint32_t guard = NO_REGISTER;
    uint32_t to[4] = {NO_REGISTER, NO_REGISTER, NO_REGISTER, NO_REGISTER};
    uint32_t a = NO_REGISTER, b = NO_REGISTER, c = NO_REGISTER;
    uint32_t target = 0; /* of a branch: an instruction's number; of an operation of a warp: the
                            register with the lanes that it names */
    int64_t offset = 0;  /* of an address; or a number that is part of the instruction */
    const uint32_t *more = nullptr; /* further registers */
    mutable bool ran = false;
    mutable known_range known;
};

/* Where an instruction comes from, for messages and reports. */
struct origin {
    int line = 0;        /* of the PTX */
    int file = 0;        /* number in the module's list of sources; 0: not known */
    int source_line = 0; /* there */
    std::string text;
};

/* Sizes and offsets in bytes. */
struct parameter {
    uint32_t offset, bytes;
};

/* A register that holds one value on all lanes, of so many bytes (0: a predicate). */
struct constant {
    uint32_t at;
    int bytes;
    uint64_t value;
};

struct module;

struct kernel {
    std::string name;
    const module *of = nullptr;
    std::vector<parameter> parameters;
    uint32_t parameter_bytes = 0;
    uint32_t max_threads = 0; /* of a block; 0: any */
    uint32_t register_bytes = 0;
    uint32_t shared_bytes = 0;   /* static; the launch's follows at dynamic_shared */
    uint32_t dynamic_shared = 0; /* where it begins */
    uint32_t local_bytes = 0;    /* of each lane */
    uint32_t call_bytes = 0;     /* of each lane: parameters and results of functions */
    std::vector<constant> constants;
    std::deque<std::vector<uint32_t>> more_registers;
    std::vector<instruction> code;
    std::vector<origin> origins; /* of each instruction */
};

/* Registers that every kernel has, in this order from offset 0: the names that PTX gives them. */
enum special { THREAD, BLOCK_SIZE = 3, BLOCK = 6, GRID_SIZE = 9, LANE = 12, CARRY, SPECIALS };
constexpr uint32_t REGISTER_BYTES = 4 * LANES;

/* A copy into shared memory that goes on beside a lane's instructions. */
struct async_copy {
    int lane;
    uint64_t to;
    uint32_t bytes, taken; /* bytes from `taken` on are 0 */
    const uint8_t *from;
    const instruction *by;
    uint64_t group; /* number of the group it was committed in; 0: none yet */
};

struct warp {
    unsigned number;
    uint8_t *registers, *local, *call;
    uint32_t at[LANES];     /* the instruction that each lane comes to */
    lane_set live, waiting; /* have not ended; wait at an instruction */
    lane_set at_barrier;    /* of those that wait */
    uint32_t since;         /* a time that __syncwarp and barriers advance, for races */
    uint64_t groups[LANES]; /* of copies that each lane has committed */
    std::vector<async_copy> copies;

    template <class T> T *values(uint32_t reg) const {
        return reinterpret_cast<T *>(registers + reg);
    }
    lane_set &predicate(uint32_t reg) const {
        return *reinterpret_cast<lane_set *>(registers + reg);
    }
};

/* The launch that runs, and the block of it. */
struct running {
    const kernel *k;
    const uint8_t *parameters;
    uint64_t launch;
    unsigned block[3];
    std::vector<uint8_t> shared;
    bool shuffled; /* SWT_EMU_ORDER */
};
extern running now;

/* End the process: kernel, block, thread, the instruction's line in the PTX and in its source, and
 * what is wrong with it. */
[[noreturn]] void stop_at(const warp &w, const instruction &i, int lane, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Run the lanes of a warp until all of them have ended or wait for other warps. */
void run_warp(warp &w);

/* Queue a launch. `arguments` are the addresses of the kernel's parameters. Errors are CUDA's. */
cudaError_t launch(const kernel *k, dim3 grid, dim3 block, const void *const *arguments,
                   size_t shared_bytes, cudaStream_t stream);

/* The module of a text in PTX. It lives for ever. */
const module *load(const std::string &text);

/* A module's kernel, ready to run; NULL if there is none of this name. */
const kernel *find_kernel(const module *m, const std::string &name);

/* All that were made ready. */
const std::deque<kernel> &ready_kernels();

/* The name of the source that an instruction comes from, without its folders, and the line; "" if
 * that is not known. */
std::string source_of(const kernel &k, const origin &o);

} // namespace ptx

#endif
