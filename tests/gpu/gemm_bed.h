/* Gemms of random operands on whatever GPU there is, judged by the formula in double precision.
 *
 * Operands are such that wrong arithmetic shows: F32 with all bits of their mantissas, so that the
 * order of a sum and any narrower format change its bits; BF16 over twelve binades, so that sums in
 * less than F32 lose what they must keep. */
#ifndef SWT_TESTS_GEMM_BED_H
#define SWT_TESTS_GEMM_BED_H

#include "kernels/cuda/gemm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Memory for the operands of real shapes (128 weights of an expert's gradient, twice, are 2.4 GB),
 * and of those that an emulated GPU is given. */
static const size_t pool_bytes = (size_t)3 << 30, emulated_pool_bytes = (size_t)16 << 20;

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

static inline void must(swt_status status) {
    if (status != SWT_OK)
        fail_msg("%s", swt_last_error()->message);
}

/* Memory that both the host and the GPU read and write. */
static inline void *managed(size_t bytes) {
    void *memory = NULL;
    assert_int_equal(cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal), cudaSuccess);
    return memory;
}

/* The host reads and writes beside streams that are in use, which some systems (WSL, say) do not
 * allow. "no usable GPU" is what CTest knows a skipped test by. */
static inline int open_bench(void **state) {
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
    b->room = b->emulated ? emulated_pool_bytes : pool_bytes;
    b->ctx.workspace = managed(SWT_CUDA_WORKSPACE_BYTES);
    b->pool = managed(b->room);
    must(swt_cuda_gemms_open(&b->own.gemms));
    b->device.own = &b->own;
    b->ctx.device = &b->device;
    b->random = 7;
    *state = b;
    return 0;
}

static inline int close_bench(void **state) {
    bench *b = *state;
    swt_cuda_gemms_close(b->own.gemms);
    (void)cudaFree(b->pool);
    (void)cudaFree(b->ctx.workspace);
    free(b);
    return 0;
}

static inline void put(void *memory, swt_dtype type, int64_t i, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == SWT_BF16)
        ((uint16_t *)memory)[i] = (uint16_t)(bits >> 16);
    else
        ((float *)memory)[i] = value;
}

static inline double get(const void *memory, swt_dtype type, int64_t i) {
    return type == SWT_F32 ? (double)((const float *)memory)[i]
                           : (double)swt_bf16_to_float(((const uint16_t *)memory)[i]);
}

static uint32_t draw(bench *b) {
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(b->random >> 32);
}

/* In (-1, 1): F32 with all of its bits, BF16 in 2^-12 ... 2^-1 with all of its own. */
static inline float random_number(bench *b, swt_dtype type) {
    const uint32_t r = draw(b);
    if (type == SWT_F32)
        return (float)(int32_t)r * 0x1p-31f;
    const uint32_t bits =
        (r & 0x80000000u) | ((126 - (r >> 8 & 0xffff) % 12) << 23) | (r >> 24 & 0x7f) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline void *place(bench *b, int64_t count, swt_dtype type) {
    unsigned char *out = b->pool + b->used;
    b->used += ((size_t)count * swt_dtype_bytes(type) + 63) / 64 * 64;
    assert_true(b->used <= b->room);
    return out;
}

static inline void *tensor(bench *b, int64_t count, swt_dtype type) {
    void *out = place(b, count, type);
    for (int64_t i = 0; i < count; i++)
        put(out, type, i, random_number(b, type));
    return out;
}

/* Operands of the shapes in *p, one after the other; shared_b: all gemms use the same b. */
static inline void fill(bench *b, swt_cuda_gemm *p, bool shared_b, bool bias, bool add) {
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

static inline void run(bench *b, const swt_cuda_gemm *p) {
    must(swt_cuda_multiply(&b->ctx, p));
    assert_int_equal(cudaStreamSynchronize(NULL), cudaSuccess);
}

/* The error of one step of a sum, relative to the sum of the terms' sizes. F32: a multiply-add is
 * rounded once, to nearest. BF16: tensor cores align some exact products and the sum so far to the
 * largest and cut them off, not always rounding: up to 2^-23 for each product, and for the sum. */
static inline double step_error(swt_dtype type) {
    return type == SWT_F32 ? 0x1p-24 : 0x1p-22;
}

/* Output (i, j) of gemm n: |error| <= (inner + 4) steps' for sums in any order, and half a step
 * of bfloat16, whose steps are 2^-7. */
static inline void judge(const swt_cuda_gemm *p, int64_t n, int64_t i, int64_t j) {
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

static inline void judge_all(const swt_cuda_gemm *p) {
    for (int64_t n = 0; n < p->batch; n++)
        for (int64_t i = 0; i < p->rows; i++)
            for (int64_t j = 0; j < p->cols; j++)
                judge(p, n, i, j);
}

static inline void judge_some(bench *b, const swt_cuda_gemm *p) {
    for (int k = 0; k < 50; k++)
        judge(p, draw(b) % p->batch, draw(b) % p->rows, draw(b) % p->cols);
}

static inline swt_cuda_gemm shaped(int64_t rows, int64_t cols, int64_t inner, int64_t batch,
                                   swt_dtype type) {
    return (swt_cuda_gemm){.rows = rows,
                           .cols = cols,
                           .inner = inner,
                           .batch = batch,
                           .a.type = type,
                           .b.type = type,
                           .out_type = type};
}

#endif
