/* What attention on tensor cores is made of: ldmatrix, mma.sync, and copies from the GPU's memory
 * into shared memory that go on beside a thread's instructions. */
#include "tests/ptx/memory.h"

#include <algorithm>
#include <string.h>

namespace ptx {

/* All lanes of a whole warp take part, at once. */
static void want_warp(linker &l, const pieces &p, instruction &i) {
    i.then = flow::TOGETHER;
    i.target = l.read(p, std::to_string(ALL_LANES), 4);
}

/* -- ldmatrix --------------------------------------------------------------------------------- */

enum { MATRIX_ROWS = 8, MATRIX_ROW_BYTES = 16 };

/* Matrices of 8 x 8 elements of 16 bits. Lane 8 n + r has the address of row r of matrix n; of
 * each matrix a lane gets two neighbours of row lane / 4, or (transposed) of that column. */
template <bool transposed> static void load_matrices(warp &w, const instruction &i, lane_set) {
    for (int n = 0; n < i.count; n++) {
        uint16_t matrix[MATRIX_ROWS][MATRIX_ROWS];
        for (int r = 0; r < MATRIX_ROWS; r++) {
            const int lane = n * MATRIX_ROWS + r;
            const uint64_t at = address_of(w, i, lane);
            memcpy(matrix[r], place_shared(w, i, lane, at, MATRIX_ROW_BYTES, access::READ),
                   MATRIX_ROW_BYTES);
        }
        for (int lane = 0; lane < LANES; lane++) {
            const int row = lane / 4, column = lane % 4 * 2;
            const uint32_t low = transposed ? matrix[column][row] : matrix[row][column];
            const uint32_t high = transposed ? matrix[column + 1][row] : matrix[row][column + 1];
            w.values<uint32_t>(i.to[n])[lane] = high << 16 | low;
        }
    }
}

/* ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {to, to, to, to}, [address] */
static void decode_ldmatrix(linker &l, const pieces &p, instruction &i) {
    const char *const unknown = "an instruction that is not known";
    l.want(p, p.operands.size() == 2 && p.dots.size() >= 7, unknown);
    const std::vector<std::string> v = vector_of(p.operands[0]);
    const bool transposed = p.dots[5] == "trans";
    std::string shared = p.dots[transposed ? 6 : 5];
    const std::string wanted = "ldmatrix.sync.aligned.m8n8.x" + std::to_string(v.size()) +
                               (transposed ? ".trans." : ".") + shared + ".b16";
    l.want(p, p.name == wanted && (shared == "shared" || shared == "shared::cta"), unknown);
    l.want(p, v.size() == 1 || v.size() == 2 || v.size() == 4, unknown);
    want_warp(l, p, i);
    i.count = static_cast<uint8_t>(v.size());
    for (size_t n = 0; n < v.size(); n++)
        i.to[n] = l.written(p, v[n], 4);
    (void)l.address(p, p.operands[1], space::SHARED, i);
    l.want(p, i.a != NO_REGISTER, "an address without a register");
    i.act = transposed ? load_matrices<true> : load_matrices<false>;
}

/* -- mma -------------------------------------------------------------------------------------- */

enum { MMA_ROWS = 16, MMA_COLUMNS = 8, MMA_DEPTH = 16 };

/* The number of bfloat16 in the lower or upper half of a register. */
static float bf16_of(uint32_t reg, int half) {
    const uint32_t bits = half == 0 ? reg << 16 : reg & 0xffff0000U;
    float x = 0;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* d = a b + c; a is 16 x 16 (4 registers), b 16 x 8 (2), c and d 16 x 8 (4). A lane's place among
 * eight groups of four tells what it holds: rows `group` and group + 8, columns 2 member and
 * 2 member + 1, of a and b also those 8 further. Here the sum is made in F64 and rounded once; a
 * GPU rounds, or cuts, after groups of products, in an order that is not told. */
static void multiply(warp &w, const instruction &i, lane_set) {
    const uint32_t *const a = i.more, *const b = a + 4, *const c = b + 2;
    float left[MMA_ROWS][MMA_DEPTH], right[MMA_DEPTH][MMA_COLUMNS];
    for (int lane = 0; lane < LANES; lane++) {
        const int group = lane / 4, member = lane % 4;
        for (int half = 0; half < 2; half++) {
            const int k = 2 * member + half;
            for (int n = 0; n < 4; n++)
                left[group + n % 2 * 8][k + n / 2 * 8] =
                    bf16_of(w.values<uint32_t>(a[n])[lane], half);
            for (int n = 0; n < 2; n++)
                right[k + n * 8][group] = bf16_of(w.values<uint32_t>(b[n])[lane], half);
        }
    }
    for (int lane = 0; lane < LANES; lane++)
        for (int n = 0; n < 4; n++) {
            const int row = lane / 4 + n / 2 * 8, column = lane % 4 * 2 + n % 2;
            double sum = w.values<float>(c[n])[lane];
            for (int k = 0; k < MMA_DEPTH; k++)
                sum += static_cast<double>(left[row][k]) * right[k][column];
            w.values<float>(i.to[n])[lane] = static_cast<float>(sum);
        }
}

static void decode_mma(linker &l, const pieces &p, instruction &i) {
    const char *const unknown = "an instruction that is not known";
    l.want(p, p.name == "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", unknown);
    l.want(p, p.operands.size() == 4, "another number of operands");
    const size_t sizes[] = {4, 4, 2, 4};
    std::vector<uint32_t> sources;
    for (int n = 0; n < 4; n++) {
        const std::vector<std::string> v = vector_of(p.operands[n]);
        l.want(p, v.size() == sizes[n], "another number of registers");
        for (size_t j = 0; j < v.size(); j++)
            if (n == 0)
                i.to[j] = l.written(p, v[j], 4);
            else
                sources.push_back(l.read(p, v[j], 4));
    }
    want_warp(l, p, i);
    i.more = l.keep(sources);
    i.act = multiply;
}

void decode_tensor(linker &l, const pieces &p, instruction &i) {
    if (p.dots[0] == "mma")
        decode_mma(l, p, i);
    else
        decode_ldmatrix(l, p, i);
}

/* -- cp.async --------------------------------------------------------------------------------- */

/* Until the lane waits for it, what the copy will write is NaN: the laziest GPU. */
static void begin_copies(warp &w, const instruction &i, lane_set m) {
    const auto from_offset = static_cast<uint64_t>(static_cast<int32_t>(i.target));
    each_lane(m, [&w, &i, from_offset](int lane) {
        const uint32_t bytes = i.count, taken = w.values<uint32_t>(i.c)[lane];
        if (taken > bytes)
            stop_at(w, i, lane, "a copy of %u bytes that takes %u", bytes, taken);
        const uint64_t to = address_of(w, i, lane);
        memset(place_shared(w, i, lane, to, bytes, access::WRITE), 0xff, bytes);
        const uint64_t from = w.values<uint64_t>(i.b)[lane] + from_offset;
        const uint8_t *const memory = taken > 0 ? place_global(w, i, lane, from, bytes) : nullptr;
        w.copies.push_back({lane, to, bytes, taken, memory, &i, 0});
    });
}

static void commit_copies(warp &w, const instruction &, lane_set m) {
    each_lane(m, [&w](int lane) { w.groups[lane]++; });
    for (async_copy &c : w.copies)
        if (has_lane(m, c.lane) && c.group == 0)
            c.group = w.groups[c.lane];
}

/* Those of all groups but the last `offset` ones. */
static void wait_for_copies(warp &w, const instruction &i, lane_set m) {
    const auto going_on = static_cast<uint64_t>(i.offset);
    const auto is_due = [&](const async_copy &c) {
        return has_lane(m, c.lane) && c.group != 0 && c.group + going_on <= w.groups[c.lane];
    };
    for (const async_copy &c : w.copies)
        if (is_due(c)) {
            uint8_t *const to = place_shared(w, *c.by, c.lane, c.to, c.bytes, access::WRITE);
            if (c.taken > 0)
                memcpy(to, c.from, c.taken);
            memset(to + c.taken, 0, c.bytes - c.taken);
        }
    w.copies.erase(std::remove_if(w.copies.begin(), w.copies.end(), is_due), w.copies.end());
}

static void wait_for_all_copies(warp &w, const instruction &i, lane_set m) {
    commit_copies(w, i, m);
    wait_for_copies(w, i, m); /* no offset: none may go on */
}

/* cp.async.cg.shared.global [to], [from], bytes, bytes that are taken */
void decode_copy(linker &l, const pieces &p, instruction &i) {
    const char *const unknown = "an instruction that is not known";
    if (p.name == "cp.async.commit_group") {
        i.act = commit_copies;
        return;
    }
    if (p.name == "cp.async.wait_all") {
        i.act = wait_for_all_copies;
        return;
    }
    if (p.name == "cp.async.wait_group") {
        l.want(p, p.operands.size() == 1, "another number of operands");
        i.offset = static_cast<int64_t>(number(p.operands[0], p.from->line));
        i.act = wait_for_copies;
        return;
    }
    const size_t n = p.operands.size();
    l.want(p, p.dots.size() == 5 && p.dots[1] == "async" && p.dots[4] == "global", unknown);
    l.want(p, p.dots[3] == "shared" || p.dots[3] == "shared::cta", unknown);
    l.want(p, n == 3 || n == 4, "another number of operands");
    const uint64_t bytes = number(p.operands[2], p.from->line);
    const bool small = p.dots[2] == "ca" && (bytes == 4 || bytes == 8);
    l.want(p, (bytes == 16 && (small || p.dots[2] == "cg" || p.dots[2] == "ca")) || small,
           "a copy of another size");
    instruction source;
    (void)l.address(p, p.operands[0], space::SHARED, i);
    (void)l.address(p, p.operands[1], space::GLOBAL, source);
    l.want(p,
           source.a != NO_REGISTER && source.address_bytes == 8 &&
               source.offset == static_cast<int32_t>(source.offset),
           "an address that is not known");
    i.b = source.a;
    i.target = static_cast<uint32_t>(source.offset);
    i.c = l.read(p, p.operands[n - 1], 4);
    i.count = static_cast<uint8_t>(bytes);
    i.act = begin_copies;
}

} // namespace ptx
