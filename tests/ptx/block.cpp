/* Launches: block after block, of each block the warps in turn until all wait at a barrier. */
#include "tests/ptx/core.h"
#include "tests/ptx/memory.h"

#include <algorithm>
#include <numeric>
#include <stdlib.h>
#include <string.h>

namespace ptx {

enum { THREADS_MAX = 1024, SHARED_MAX = 48 * 1024, CACHE_LINE = 64 };

/* A launch in a stream's queue; the parameters follow it. */
struct queued {
    const kernel *k;
    dim3 grid, block;
    size_t shared_bytes;
};

/* The warps of a block, and their memory, which the blocks of a launch share. */
struct warps_of_block {
    std::vector<uint8_t> registers, local;
    std::vector<warp> warps;
    unsigned threads;
};

static unsigned count_of(const dim3 &d) {
    return d.x * d.y * d.z;
}

static void fill(const warp &w, uint32_t reg, uint32_t value) {
    std::fill_n(w.values<uint32_t>(reg * REGISTER_BYTES), LANES, value);
}

static void set_constants(const warp &w, const kernel &k) {
    for (const constant &c : k.constants)
        if (c.bytes == 0)
            w.predicate(c.at) = c.value != 0 ? ALL_LANES : 0;
        else
            for (int lane = 0; lane < LANES; lane++)
                memcpy(w.registers + c.at + lane * c.bytes, &c.value,
                       static_cast<size_t>(c.bytes)); /* the lowest bytes come first */
}

static void set_specials(const warp &w, const queued &l) {
    const uint32_t sizes[] = {l.block.x, l.block.y, l.block.z};
    const uint32_t grid[] = {l.grid.x, l.grid.y, l.grid.z};
    for (uint32_t d = 0; d < 3; d++) {
        fill(w, BLOCK_SIZE + d, sizes[d]);
        fill(w, GRID_SIZE + d, grid[d]);
    }
    for (uint32_t lane = 0; lane < LANES; lane++) {
        const uint32_t thread = w.number * LANES + lane;
        w.values<uint32_t>((THREAD + 0) * REGISTER_BYTES)[lane] = thread % sizes[0];
        w.values<uint32_t>((THREAD + 1) * REGISTER_BYTES)[lane] = thread / sizes[0] % sizes[1];
        w.values<uint32_t>((THREAD + 2) * REGISTER_BYTES)[lane] = thread / sizes[0] / sizes[1];
        w.values<uint32_t>(LANE * REGISTER_BYTES)[lane] = lane;
    }
}

/* Registers that nothing was written to hold 0xCD, memory of a lane's own 0xFF. */
static void make_warps(warps_of_block &all, const queued &l) {
    const kernel &k = *l.k;
    all.threads = count_of(l.block);
    const size_t n = (all.threads + LANES - 1) / LANES;
    const size_t registers = (k.register_bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    const size_t local = static_cast<size_t>(k.local_bytes + k.call_bytes) * LANES;
    all.registers.assign(registers * n + CACHE_LINE, 0xcd);
    all.local.assign(local * n, 0xff);
    const size_t over = reinterpret_cast<uintptr_t>(all.registers.data()) % CACHE_LINE;
    uint8_t *const first = all.registers.data() + (CACHE_LINE - over) % CACHE_LINE;
    all.warps.resize(n);
    for (size_t j = 0; j < n; j++) {
        warp &w = all.warps[j];
        w.number = static_cast<unsigned>(j);
        w.registers = first + registers * j;
        w.local = all.local.data() + local * j;
        w.call = w.local + static_cast<size_t>(k.local_bytes) * LANES;
        set_constants(w, k);
        set_specials(w, l);
    }
}

static void begin_block(warps_of_block &all) {
    std::fill(now.shared.begin(), now.shared.end(), 0xff);
    races_ordered(now.shared.size());
    for (warp &w : all.warps) {
        const unsigned here = std::min(all.threads - w.number * LANES, 0U + LANES);
        w.live = here == LANES ? ALL_LANES : (1U << here) - 1;
        w.waiting = w.at_barrier = 0;
        w.since = races_time();
        std::fill_n(w.at, LANES, 0);
        std::fill_n(w.groups, LANES, 0);
        w.copies.clear();
        for (uint32_t d = 0; d < 3; d++)
            fill(w, BLOCK + d, now.block[d]);
    }
}

/* No warp can go on: all threads must be at one barrier. Returns how many are; 0: all have ended.
 */
static unsigned check_barrier(const warps_of_block &all) {
    const std::vector<instruction> &code = now.k->code;
    unsigned there = 0;
    uint32_t first = UINT32_MAX;
    for (const warp &w : all.warps) {
        each_lane(w.live, [&](int lane) {
            const uint32_t at = w.at[lane];
            if (!has_lane(w.at_barrier, lane))
                stop_at(w, code[at], lane, "divergent: it waits for lanes that do not come");
            first = std::min(first, at);
            there++;
        });
    }
    for (const warp &w : all.warps) {
        each_lane(w.live, [&](int lane) {
            if (w.at[lane] != first)
                stop_at(w, code[w.at[lane]], lane,
                        "divergent barrier: others are at the one of PTX line %d",
                        now.k->origins[first].line);
            if (there < all.threads)
                stop_at(w, code[first], lane,
                        "divergent barrier: %u of %u threads are there, the others have ended",
                        there, all.threads);
        });
    }
    return there;
}

static void run_block(warps_of_block &all) {
    begin_block(all);
    const size_t n = all.warps.size();
    for (;;) {
        const size_t first = now.shuffled ? emu_random(static_cast<uint32_t>(n)) : 0;
        for (size_t j = 0; j < n; j++)
            run_warp(all.warps[(first + j) % n]);
        if (check_barrier(all) == 0)
            return;
        races_ordered(now.shared.size());
        for (warp &w : all.warps) {
            for (uint32_t &at : w.at)
                at++;
            w.waiting = w.at_barrier = 0;
            w.since = races_time();
        }
    }
}

/* Blocks go in the order of their numbers, or from some block on in steps of a number that has no
 * divisor in common with how many there are. */
static bool run_launch(void *data) {
    const queued &l = *static_cast<const queued *>(data);
    static warps_of_block all;
    now.k = l.k;
    now.parameters = reinterpret_cast<const uint8_t *>(&l + 1);
    now.launch++;
    now.shuffled = emu_seed() != 0;
    now.shared.assign(l.k->dynamic_shared + l.shared_bytes, 0xff);
    make_warps(all, l);
    const uint64_t blocks = uint64_t{l.grid.x} * l.grid.y * l.grid.z;
    uint64_t step = 1, first = 0;
    if (now.shuffled) {
        first = emu_random(static_cast<uint32_t>(blocks));
        do
            step = 1 + emu_random(UINT32_MAX);
        while (std::gcd(step, blocks) != 1);
    }
    for (uint64_t n = 0; n < blocks; n++) {
        const uint64_t b = (n * (step % blocks) + first) % blocks;
        now.block[0] = static_cast<unsigned>(b % l.grid.x);
        now.block[1] = static_cast<unsigned>(b / l.grid.x % l.grid.y);
        now.block[2] = static_cast<unsigned>(b / l.grid.x / l.grid.y);
        run_block(all);
    }
    return true;
}

cudaError_t launch(const kernel *k, dim3 grid, dim3 block, const void *const *arguments,
                   size_t shared_bytes, cudaStream_t stream) {
    const uint64_t threads = uint64_t{block.x} * block.y * block.z;
    if (threads < 1 || threads > THREADS_MAX || block.z > 64 || grid.x < 1 || grid.y < 1 ||
        grid.z < 1 || grid.x > INT32_MAX || grid.y > UINT16_MAX || grid.z > UINT16_MAX)
        return emu_error(cudaErrorInvalidConfiguration);
    if (k->max_threads != 0 && threads > k->max_threads)
        return emu_error(cudaErrorLaunchFailure);
    if (k->dynamic_shared + shared_bytes > SHARED_MAX)
        return emu_error(cudaErrorInvalidValue);
    const size_t bytes = sizeof(queued) + k->parameter_bytes;
    auto *const l = static_cast<queued *>(calloc(1, bytes));
    if (l == nullptr)
        swt_emu_stop("no memory for a launch");
    l->k = k;
    l->grid = grid;
    l->block = block;
    l->shared_bytes = shared_bytes;
    for (size_t n = 0; n < k->parameters.size(); n++)
        memcpy(reinterpret_cast<uint8_t *>(l + 1) + k->parameters[n].offset, arguments[n],
               k->parameters[n].bytes);
    const cudaError_t error =
        emu_error(swt_emu_enqueue(stream, k->name.c_str(), run_launch, l, bytes));
    free(l);
    return error;
}

} // namespace ptx
