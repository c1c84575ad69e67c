/* The backend's gemms against the formula in double precision, on whatever GPU there is, and
 * their bits in batches against their bits alone.
 *
 * Operands are such that wrong arithmetic shows: F32 with all bits of their mantissas, so that the
 * order of a sum and any narrower format change its bits; BF16 over twelve binades, so that sums in
 * less than F32 lose what they must keep. */
#include "kernels/cuda/gemm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Memory for the operands of real shapes, and of those that an emulated GPU is given. */
enum { POOL_BYTES = 512 << 20, EMULATED_POOL_BYTES = 16 << 20 };

/* A context whose device has gemms alone, and memory that both sides see. */
typedef struct bench {
    struct swt_cuda_device own;
    swt_device device;
    swt_ctx ctx;
    unsigned char *pool;
    size_t used, room;
    uint64_t random;
    bool emulated;
} bench;

static void must(swt_status status) {
    if (status != SWT_OK)
        fail_msg("%s", swt_last_error()->message);
}

/* Memory that both the host and the GPU read and write. */
static void *managed(size_t bytes) {
    void *memory = NULL;
    assert_int_equal(cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal), cudaSuccess);
    return memory;
}

/* The host reads and writes beside streams that are in use, which some systems (WSL, say) do not
 * allow. "no usable GPU" is what CTest knows a skipped test by. */
static int open_bench(void **state) {
    bench *b = calloc(1, sizeof *b);
    struct cudaDeviceProp gpu;
    int gpus = 0;
    assert_non_null(b);
    if (swt_cuda_count(&gpus) != SWT_OK)
        fail_msg("no usable GPU: %s", swt_last_error()->message);
    assert_int_equal(cudaGetDeviceProperties(&gpu, 0), cudaSuccess);
    if (gpu.concurrentManagedAccess == 0)
        fail_msg("no usable GPU: GPU 0 and the host cannot use managed memory at the same time");
    b->emulated = strstr(gpu.name, "Emulated") != NULL;
    b->room = b->emulated ? EMULATED_POOL_BYTES : POOL_BYTES;
    b->ctx.workspace = managed(SWT_CUDA_WORKSPACE_BYTES);
    b->pool = managed(b->room);
    must(swt_cuda_gemms_open(&b->own.gemms));
    b->device.own = &b->own;
    b->ctx.device = &b->device;
    b->random = 7;
    *state = b;
    return 0;
}

static int close_bench(void **state) {
    bench *b = *state;
    swt_cuda_gemms_close(b->own.gemms);
    (void)cudaFree(b->pool);
    (void)cudaFree(b->ctx.workspace);
    free(b);
    return 0;
}

static void put(void *memory, swt_dtype type, int64_t i, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == SWT_BF16)
        ((uint16_t *)memory)[i] = (uint16_t)(bits >> 16);
    else
        ((float *)memory)[i] = value;
}

static double get(const void *memory, swt_dtype type, int64_t i) {
    return type == SWT_F32 ? (double)((const float *)memory)[i]
                           : (double)swt_bf16_to_float(((const uint16_t *)memory)[i]);
}

static uint32_t draw(bench *b) {
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(b->random >> 32);
}

/* In (-1, 1): F32 with all of its bits, BF16 in 2^-12 ... 2^-1 with all of its own. */
static float random_number(bench *b, swt_dtype type) {
    const uint32_t r = draw(b);
    if (type == SWT_F32)
        return (float)(int32_t)r * 0x1p-31f;
    const uint32_t bits =
        (r & 0x80000000u) | ((126 - (r >> 8 & 0xffff) % 12) << 23) | (r >> 24 & 0x7f) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void *place(bench *b, int64_t count, swt_dtype type) {
    unsigned char *out = b->pool + b->used;
    b->used += ((size_t)count * swt_dtype_bytes(type) + 63) / 64 * 64;
    assert_true(b->used <= b->room);
    return out;
}

static void *tensor(bench *b, int64_t count, swt_dtype type) {
    void *out = place(b, count, type);
    for (int64_t i = 0; i < count; i++)
        put(out, type, i, random_number(b, type));
    return out;
}

/* Operands of the shapes in *p, one after the other; shared_b: all gemms use the same b. */
static void fill(bench *b, swt_cuda_gemm *p, bool shared_b, bool bias, bool add) {
    p->a.stride = p->rows * p->inner;
    p->b.stride = shared_b ? 0 : p->inner * p->cols;
    p->out_stride = p->rows * p->cols;
    p->bias_stride = p->cols;
    p->a.data = tensor(b, p->batch * p->a.stride, p->a.type);
    p->b.data = tensor(b, shared_b ? p->inner * p->cols : p->batch * p->b.stride, p->b.type);
    p->out = tensor(b, p->batch * p->out_stride, p->out_type);
    p->bias = bias ? tensor(b, p->batch * p->cols, p->out_type) : NULL;
    p->add = add ? tensor(b, p->batch * p->out_stride, p->out_type) : NULL;
}

static void run(bench *b, const swt_cuda_gemm *p) {
    must(swt_cuda_multiply(&b->ctx, p));
    assert_int_equal(cudaStreamSynchronize(NULL), cudaSuccess);
}

/* The error of one step of a sum, relative to the sum of the terms' sizes. F32: a multiply-add is
 * rounded once, to nearest. BF16: tensor cores align some exact products and the sum so far to the
 * largest and cut them off, not always rounding: up to 2^-23 for each product, and for the sum. */
static double step_error(swt_dtype type) {
    return type == SWT_F32 ? 0x1p-24 : 0x1p-22;
}

/* Output (i, j) of gemm n: |error| <= (inner + 4) steps' for sums in any order, and half a step
 * of bfloat16, whose steps are 2^-7. */
static void judge(const swt_cuda_gemm *p, int64_t n, int64_t i, int64_t j) {
    const int64_t at = n * p->out_stride + i * p->cols + j;
    double sum = 0, size = 0;
    for (int64_t l = 0; l < p->inner; l++) {
        const double x =
            get(p->a.data, p->a.type,
                n * p->a.stride + (p->a.transposed ? l * p->rows + i : i * p->inner + l));
        const double y =
            get(p->b.data, p->b.type,
                n * p->b.stride + (p->b.transposed ? j * p->inner + l : l * p->cols + j));
        sum += x * y;
        size += fabs(x * y);
    }
    if (p->bias != NULL) {
        const double bias = get(p->bias, p->out_type, n * p->bias_stride + j);
        sum += bias, size += fabs(bias);
    }
    if (p->add != NULL) {
        const double add = get(p->add, p->out_type, at);
        sum += add, size += fabs(add);
    }
    if (p->relu && sum < 0)
        sum = 0;
    double slack = (double)(p->inner + 4) * step_error(p->a.type) * size;
    if (p->out_type == SWT_BF16)
        slack += 0x1p-8 * (fabs(sum) + slack);
    const double got = get(p->out, p->out_type, at);
    if (!(fabs(got - sum) <= slack))
        fail_msg("(%d, %d, %d) ta=%d tb=%d: gemm %d (%d, %d) is %.9g, must be %.9g +- %.3g",
                 (int)p->rows, (int)p->cols, (int)p->inner, p->a.transposed, p->b.transposed,
                 (int)n, (int)i, (int)j, got, sum, slack);
}

static void judge_all(const swt_cuda_gemm *p) {
    for (int64_t n = 0; n < p->batch; n++)
        for (int64_t i = 0; i < p->rows; i++)
            for (int64_t j = 0; j < p->cols; j++)
                judge(p, n, i, j);
}

static void judge_some(bench *b, const swt_cuda_gemm *p) {
    for (int k = 0; k < 50; k++)
        judge(p, draw(b) % p->batch, draw(b) % p->rows, draw(b) % p->cols);
}

static swt_cuda_gemm shaped(int64_t rows, int64_t cols, int64_t inner, int64_t batch,
                            swt_dtype type) {
    return (swt_cuda_gemm){.rows = rows,
                           .cols = cols,
                           .inner = inner,
                           .batch = batch,
                           .a.type = type,
                           .b.type = type,
                           .out_type = type};
}

static void test_formula(void **state) {
    bench *b = *state;
    for (int bits = 0; bits < 64; bits++) {
        const swt_dtype type = bits & 4 ? SWT_BF16 : SWT_F32;
        swt_cuda_gemm p = shaped(24, 40, 56, 1 + (bits & 8) / 4, type);
        p.a.transposed = bits & 1;
        p.b.transposed = bits & 2;
        p.out_type = bits & 16 ? SWT_F32 : type;
        b->used = 0;
        fill(b, &p, bits & 32, bits & 1, bits & 16);
        p.relu = !(bits & 16);
        run(b, &p);
        judge_all(&p);
    }
}

/* Odd sizes, such as a vocabulary of 65: operands are aligned to an element or two, and in BF16
 * cuBLASLt may have no algorithm. */
static void test_odd_sizes(void **state) {
    bench *b = *state;
    const int64_t odd[] = {5, 6, 7, 65};
    for (int i = 0; i < 4; i++)
        for (int bits = 0; bits < 32; bits++) {
            const swt_dtype type = bits & 4 ? SWT_BF16 : SWT_F32;
            swt_cuda_gemm p = shaped(7, odd[i], bits & 16 ? 65 : 18, 1 + (bits & 16) / 8, type);
            p.a.transposed = bits & 1;
            p.b.transposed = bits & 2;
            p.out_type = bits & 8 ? SWT_F32 : type;
            b->used = 0;
            fill(b, &p, bits & 1, true, bits & 8);
            p.relu = !(bits & 8);
            run(b, &p);
            judge_all(&p);
        }
}

/* Positive operands, each a quarter to half a step above a number of TF32 (10 bits of mantissa):
 * rounded or cut to TF32 all products shrink, by 2^-12 at least, and so does each sum. */
static void test_all_bits_of_operands_count(void **state) {
    bench *b = *state;
    swt_cuda_gemm p = shaped(64, 96, 512, 1, SWT_F32);
    if (!b->emulated)
        p = shaped(512, 3072, 768, 1, SWT_F32);
    for (int batched = 0; batched < 2; batched++) {
        b->used = 0;
        fill(b, &p, false, false, false);
        float *const of[] = {(float *)p.a.data, (float *)p.b.data};
        const int64_t count[] = {p.rows * p.inner, p.inner * p.cols};
        for (int i = 0; i < 2; i++)
            for (int64_t k = 0; k < count[i]; k++) {
                const uint32_t r = draw(b);
                const uint32_t mantissa = (r >> 22) << 13 | 0x800 | (r & 0x7ff);
                of[i][k] = 1 + (float)mantissa * 0x1p-23f;
            }
        p.out_stride = batched ? p.out_stride : 0;
        assert_true((double)(p.inner + 4) * step_error(SWT_F32) < 0x1p-12 / 4);
        run(b, &p);
        judge_some(b, &p);
    }
}

/* In place, as gradients are added. */
static void test_added_to_itself(void **state) {
    bench *b = *state;
    swt_cuda_gemm p = shaped(16, 32, 64, 1, SWT_F32);
    b->used = 0;
    fill(b, &p, false, false, true);
    run(b, &p);
    const swt_cuda_gemm by_itself = p;
    p.out = tensor(b, 16 * 32, SWT_F32);
    memcpy(p.out, p.add, 16 * 32 * sizeof(float));
    p.add = p.out;
    run(b, &p);
    assert_memory_equal(p.out, by_itself.out, 16 * 32 * sizeof(float));
}

/* The gemms of experts of K slots: forward in and out, backward, and a weight's gradient. */
static swt_cuda_gemm expert_gemm(int which, int64_t K, int64_t C, int64_t F, int64_t batch,
                                 swt_dtype type) {
    swt_cuda_gemm p = which == 1 ? shaped(K, C, F, batch, type) : shaped(K, F, C, batch, type);
    if (which == 3) {
        p = shaped(F, C, K, batch, type);
        p.a.transposed = true;
        p.out_type = SWT_F32;
    }
    p.b.transposed = which < 2;
    p.relu = which == 0;
    return p;
}

static const void *offset(const void *tensor, int64_t elements, swt_dtype type) {
    return tensor != NULL ? (const char *)tensor + elements * (int64_t)swt_dtype_bytes(type) : NULL;
}

/* p in batches of so many must make the bits of `want`. */
static void expect_bits(bench *b, const swt_cuda_gemm *p, int64_t batch, const void *want) {
    const size_t bytes = (size_t)(p->batch * p->out_stride) * swt_dtype_bytes(p->out_type);
    memset(p->out, 0xff, bytes);
    for (int64_t n = 0; n < p->batch; n += batch) {
        swt_cuda_gemm some = *p;
        some.batch = batch;
        some.a.data = offset(p->a.data, n * p->a.stride, p->a.type);
        some.b.data = offset(p->b.data, n * p->b.stride, p->b.type);
        some.bias = offset(p->bias, n * p->bias_stride, p->out_type);
        some.out = (void *)offset(p->out, n * p->out_stride, p->out_type);
        must(swt_cuda_multiply(&b->ctx, &some));
    }
    assert_int_equal(cudaStreamSynchronize(NULL), cudaSuccess);
    if (memcmp(p->out, want, bytes) != 0)
        fail_msg("(%d, %d, %d) %s ta=%d tb=%d: other bits in batches of %d, stride %d of b",
                 (int)p->rows, (int)p->cols, (int)p->inner, swt_dtype_name(p->a.type),
                 p->a.transposed, p->b.transposed, (int)batch, (int)p->b.stride);
}

/* By itself, and in batches of 2, 8 and 16; then the same b for all, as copies and as one. */
static void same_bits(bench *b, swt_cuda_gemm *p) {
    b->used = 0;
    fill(b, p, false, p->b.transposed, false);
    const int64_t count = p->batch * p->out_stride;
    const size_t bytes = (size_t)count * swt_dtype_bytes(p->out_type);
    void *const want = place(b, count, p->out_type);
    run(b, p);
    judge_some(b, p);
    memcpy(want, p->out, bytes);
    expect_bits(b, p, 1, want);
    expect_bits(b, p, 2, want);
    if (p->batch > 8)
        expect_bits(b, p, 8, want);
    for (int64_t n = 1; n < p->batch; n++) {
        memcpy((void *)offset(p->b.data, n * p->b.stride, p->b.type), p->b.data,
               (size_t)p->b.stride * swt_dtype_bytes(p->b.type));
        if (p->bias != NULL)
            memcpy((void *)offset(p->bias, n * p->bias_stride, p->out_type), p->bias,
                   (size_t)p->bias_stride * swt_dtype_bytes(p->out_type));
    }
    run(b, p);
    memcpy(want, p->out, bytes);
    p->b.stride = p->bias_stride = 0;
    expect_bits(b, p, p->batch, want);
    expect_bits(b, p, 1, want);
}

/* A gemm has the same bits by itself and in any batch: real experts and odd ones. The emulated
 * GPU's sums begin to differ with the algorithm at 64 terms. */
static void test_batches_have_the_same_bits(void **state) {
    bench *b = *state;
    const int64_t real[][3] = {{64, 768, 3072}, {512, 768, 3072}, {64, 65, 129}};
    const int64_t small[][3] = {{130, 30, 200}, {7, 200, 66}, {5, 65, 129}};
    for (int i = 0; i < 3; i++)
        for (int which = 0; which < 4; which++)
            for (int bf16 = 0; bf16 < 2; bf16++) {
                const int64_t *n = b->emulated ? small[i] : real[i];
                swt_cuda_gemm p = expert_gemm(which, n[0], n[1], n[2], b->emulated ? 4 : 16,
                                              bf16 ? SWT_BF16 : SWT_F32);
                same_bits(b, &p);
            }
}

static void test_nothing(void **state) {
    bench *b = *state;
    swt_cuda_gemm p = shaped(2, 3, 0, 2, SWT_F32);
    b->used = 0;
    fill(b, &p, false, false, false);
    run(b, &p);
    for (int i = 0; i < 12; i++)
        assert_true(((float *)p.out)[i] == 0);
    p.rows = 0;
    run(b, &p);
}

static void test_refusals(void **state) {
    bench *b = *state;
    swt_cuda_gemm p = shaped(16, 16, 16, 1, SWT_F32);
    b->used = 0;
    fill(b, &p, false, false, true);
    p.relu = true;
    assert_int_equal(swt_cuda_multiply(&b->ctx, &p), SWT_INTERNAL);
    p.relu = false;
    p.a.type = SWT_BF16;
    assert_int_equal(swt_cuda_multiply(&b->ctx, &p), SWT_INTERNAL);
    p.a.type = SWT_F32;
    p.a.data = (const float *)p.a.data + 1;
    assert_int_equal(swt_cuda_multiply(&b->ctx, &p), SWT_INTERNAL);
    p.a.data = (const float *)p.a.data - 1;
    void *const workspace = b->ctx.workspace;
    b->ctx.workspace = NULL;
    assert_int_equal(swt_cuda_multiply(&b->ctx, &p), SWT_INTERNAL);
    b->ctx.workspace = workspace;
    run(b, &p);
}

/* What another library left as the runtime's last error is not the launch's. */
static void test_errors_of_others(void **state) {
    bench *b = *state;
    swt_cuda_gemm p = shaped(3, 5, 2, 1, SWT_BF16);
    b->used = 0;
    fill(b, &p, false, false, false);
    assert_int_not_equal(cudaSetDevice(-1), cudaSuccess);
    must(swt_cuda_multiply_plain(&b->ctx, &p));
    run(b, &p);
    judge_all(&p);
}

/* More shapes than there are places for: the oldest makes room, and is made again when it comes
 * back. */
static void test_full_table(void **state) {
    bench *b = *state;
    enum { SHAPES = 1100 }; /* more than PLANS of gemm_cuda.c */
    for (int i = 0; i < 2 * SHAPES; i++) {
        swt_cuda_gemm p = shaped(1, 1 + i % SHAPES, 1, 1, SWT_F32);
        b->used = 0;
        fill(b, &p, false, false, false);
        run(b, &p);
        judge_all(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_formula, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_odd_sizes, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_all_bits_of_operands_count, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_added_to_itself, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_batches_have_the_same_bits, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_nothing, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_refusals, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_errors_of_others, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_full_table, open_bench, close_bench),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
