/* What attention on tensor cores is made of, through nvcc, against formulas: mma.sync, ldmatrix,
 * cp.async with its groups; and shuffles of every kind. */
#include "kernels/cuda/block.cuh"

#include "tests/emu/bed.h"

typedef __nv_bfloat16 bf16;

/* The address of shared memory as PTX takes it. */
static __device__ unsigned shared_address(const void *p) {
    return (unsigned)__cvta_generic_to_shared(p);
}

/* Whole numbers from -8 to 8, which bfloat16 has exactly: sums of products have no rounding. */
static int number_at(int i) {
    return (i * 7 + i / 5 * 3) % 17 - 8;
}

/* -- mma -------------------------------------------------------------------------------------- */

/* out (16, 8) = a (16, 16) b (16, 8) + c (16, 8): a and b through shared memory and ldmatrix, as a
 * tile of queries, and one of values, which stand by rows (b is read transposed). */
static __global__ void multiply(float *out, const bf16 *a, const bf16 *b, const float *c) {
    __shared__ __align__(16) bf16 left[16][16], right[16][8];
    const int lane = threadIdx.x, row = lane / 4, column = lane % 4 * 2;
    for (int i = lane; i < 16 * 16; i += WARP)
        left[i / 16][i % 16] = a[i];
    for (int i = lane; i < 16 * 8; i += WARP)
        right[i / 8][i % 8] = b[i];
    __syncwarp();
    unsigned x[4], y[2];
    /* Matrices of 8 x 8 in the order of x: rows 0 and 8, then the columns from 8 on. */
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(shared_address(&left[lane % 16][lane / 16 * 8])));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(y[0]), "=r"(y[1])
                 : "r"(shared_address(&right[lane % 16][0])));
    float d[4];
    for (int i = 0; i < 4; i++)
        d[i] = c[(row + i / 2 * 8) * 8 + column + i % 2];
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
    for (int i = 0; i < 4; i++)
        out[(row + i / 2 * 8) * 8 + column + i % 2] = d[i];
}

static void mma_is_a_product(void **) {
    bf16 *const a = managed<bf16>(16 * 16), *const b = managed<bf16>(16 * 8);
    float *const c = managed<float>(16 * 8), *const out = managed<float>(16 * 8);
    for (int i = 0; i < 16 * 16; i++)
        a[i] = __float2bfloat16((float)number_at(i));
    for (int i = 0; i < 16 * 8; i++) {
        b[i] = __float2bfloat16((float)number_at(i + 300));
        c[i] = (float)i / 4;
    }
    assert_int_equal(SWT_LAUNCH(multiply, 1, WARP, 0, nullptr, out, a, b, c), SWT_OK);
    OK(cudaDeviceSynchronize());
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            int sum = 0;
            for (int k = 0; k < 16; k++)
                sum += number_at(i * 16 + k) * number_at(k * 8 + j + 300);
            const float wanted = (float)sum + (float)(i * 8 + j) / 4;
            if (out[i * 8 + j] != wanted)
                fail_msg("(%d, %d): %g, wanted %g", i, j, (double)out[i * 8 + j], (double)wanted);
        }
}

/* -- ldmatrix --------------------------------------------------------------------------------- */

/* Rows stand 24 elements apart, the last first: addresses alone tell where they are. */
template <bool transposed> static __global__ void load_matrix(unsigned *out) {
    __shared__ __align__(16) unsigned short tile[8][24];
    const int lane = threadIdx.x;
    for (int i = lane; i < 64; i += WARP)
        tile[7 - i / 8][i % 8] = (unsigned short)(i / 8 * 100 + i % 8);
    __syncwarp();
    const unsigned address = shared_address(&tile[7 - lane % 8][0]);
    unsigned x;
    if (transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                     : "=r"(x)
                     : "r"(address));
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                     : "=r"(x)
                     : "r"(address));
    out[lane] = x;
}

static void matrices_are_spread_over_lanes(void **) {
    unsigned *const out = managed<unsigned>(2 * WARP);
    assert_int_equal(SWT_LAUNCH(load_matrix<false>, 1, WARP, 0, nullptr, out), SWT_OK);
    assert_int_equal(SWT_LAUNCH(load_matrix<true>, 1, WARP, 0, nullptr, out + WARP), SWT_OK);
    OK(cudaDeviceSynchronize());
    for (unsigned lane = 0; lane < WARP; lane++) {
        const unsigned i = lane / 4, j = lane % 4 * 2;
        assert_int_equal(out[lane], (i * 100 + j + 1) << 16 | (i * 100 + j));
        assert_int_equal(out[WARP + lane], ((j + 1) * 100 + i) << 16 | (j * 100 + i));
    }
}

/* -- cp.async --------------------------------------------------------------------------------- */

enum { STAGES = 3, TILES = 7, TILE_FLOATS = 4 * WARP };

static __device__ void begin_tile(float *to, const float *from, int floats) {
    const unsigned bytes = floats >= 4 ? 16 : floats > 0 ? 4 * floats : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
}

/* out[tile] = the sum of a tile of 128 numbers, of which `count` there are in all; two tiles are
 * under way while one is added. LATE: it waits for a group less than it must. */
template <bool LATE> static __global__ void sum_tiles(float *out, const float *numbers, int count) {
    __shared__ __align__(16) float tile[STAGES][TILE_FLOATS];
    const int lane = threadIdx.x;
    for (int n = 0; n < TILES + STAGES - 1; n++) {
        if (n < TILES) {
            const int at = n * TILE_FLOATS + lane * 4;
            begin_tile(&tile[n % STAGES][lane * 4], numbers + (at < count ? at : 0), count - at);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
        if (n < STAGES - 1)
            continue;
        if (LATE)
            asm volatile("cp.async.wait_group 3;" ::: "memory");
        else
            asm volatile("cp.async.wait_group 2;" ::: "memory");
        __syncthreads();
        const int done = n - (STAGES - 1);
        float x = 0;
        for (int i = 0; i < 4; i++)
            x += tile[done % STAGES][lane + i * WARP];
        x = warp_sum(x);
        if (lane == 0)
            out[done] = x;
        __syncthreads();
    }
}

/* The whole of it by cp.async of 4, 8 and 16 bytes, with wait_all. */
static __global__ void copy_all(float *out, const float *from) {
    __shared__ __align__(16) float tile[7 * WARP];
    const int lane = threadIdx.x;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(&tile[lane])),
                 "l"(from + lane)
                 : "memory");
    asm volatile(
        "cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(shared_address(&tile[WARP + 2 * lane])),
        "l"(from + WARP + 2 * lane)
        : "memory");
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(
                     shared_address(&tile[3 * WARP + 4 * lane])),
                 "l"(from + 3 * WARP + 4 * lane)
                 : "memory");
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    for (int i = lane; i < 7 * WARP; i += WARP)
        out[i] = tile[7 * WARP - 1 - i];
}

static void copies_go_on_in_groups(void **) {
    const int count = 6 * TILE_FLOATS + 41; /* the last tile is not whole */
    float *const numbers = managed<float>(TILES * TILE_FLOATS), *const out = managed<float>(TILES);
    for (int i = 0; i < count; i++)
        numbers[i] = (float)number_at(i);
    assert_int_equal(SWT_LAUNCH(sum_tiles<false>, 1, WARP, 0, nullptr, out, numbers, count),
                     SWT_OK);
    OK(cudaDeviceSynchronize());
    for (int n = 0; n < TILES; n++) {
        float sum = 0;
        for (int i = n * TILE_FLOATS; i < (n + 1) * TILE_FLOATS && i < count; i++)
            sum += numbers[i];
        assert_true(out[n] == sum);
    }
    assert_int_equal(SWT_LAUNCH(sum_tiles<true>, 1, WARP, 0, nullptr, out, numbers, count), SWT_OK);
    OK(cudaDeviceSynchronize());
    assert_true(isnan(out[0])); /* what is on its way is not there yet */
}

static void copies_of_all_sizes(void **) {
    float *const from = managed<float>(7 * WARP), *const out = managed<float>(7 * WARP);
    for (int i = 0; i < 7 * WARP; i++)
        from[i] = (float)i;
    assert_int_equal(SWT_LAUNCH(copy_all, 1, WARP, 0, nullptr, out, from), SWT_OK);
    OK(cudaDeviceSynchronize());
    for (int i = 0; i < 7 * WARP; i++)
        assert_true(out[i] == (float)(7 * WARP - 1 - i));
}

/* -- shuffles --------------------------------------------------------------------------------- */

enum { KINDS = 5 };

static __global__ void shuffle(unsigned *out, int width, int by) {
    const unsigned lane = threadIdx.x, all = 0xffffffffu;
    out[lane] = __shfl_sync(all, lane, by, width);
    out[WARP + lane] = __shfl_up_sync(all, lane, by, width);
    out[2 * WARP + lane] = __shfl_down_sync(all, lane, by, width);
    out[3 * WARP + lane] = __shfl_xor_sync(all, lane, by, width);
    out[4 * WARP + lane] = __ballot_sync(all, (int)lane % width == by);
}

static void shuffles_take_what_they_say(void **) {
    unsigned *const out = managed<unsigned>(KINDS * WARP);
    for (int width = 2; width <= WARP; width *= 2)
        for (int by = 0; by < width; by++) {
            assert_int_equal(SWT_LAUNCH(shuffle, 1, WARP, 0, nullptr, out, width, by), SWT_OK);
            OK(cudaDeviceSynchronize());
            unsigned votes = 0;
            for (int lane = 0; lane < WARP; lane++)
                votes |= (unsigned)(lane % width == by) << lane;
            for (int lane = 0; lane < WARP; lane++) {
                const int first = lane / width * width, end = first + width;
                const int with = lane ^ by;
                assert_int_equal(out[lane], first + by);
                assert_int_equal(out[WARP + lane], lane - by >= first ? lane - by : lane);
                assert_int_equal(out[2 * WARP + lane], lane + by < end ? lane + by : lane);
                assert_int_equal(out[3 * WARP + lane], with < end ? with : lane);
                assert_int_equal(out[4 * WARP + lane], votes);
            }
        }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mma_is_a_product),
        cmocka_unit_test(matrices_are_spread_over_lanes),
        cmocka_unit_test(copies_go_on_in_groups),
        cmocka_unit_test(copies_of_all_sizes),
        cmocka_unit_test(shuffles_take_what_they_say),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
