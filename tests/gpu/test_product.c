/* The backend's products against the formula in double precision, on whatever GPU there is. */
#include "kernels/cuda/product.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { POOL_BYTES = 8 << 20 };

/* A context whose device has products alone, and memory that both sides see. */
typedef struct bench {
    struct swt_cuda_device own;
    swt_device device;
    swt_ctx ctx;
    unsigned char *pool;
    size_t used;
    uint64_t random;
} bench;

static void must(swt_status status) {
    if (status != SWT_OK)
        fail_msg("%s", swt_last_error()->message);
}

static int open_bench(void **state) {
    bench *b = calloc(1, sizeof *b);
    void *memory = NULL;
    int gpus = 0;
    assert_non_null(b);
    if (swt_cuda_count(&gpus) != SWT_OK)
        fail_msg("no usable GPU: %s", swt_last_error()->message);
    assert_int_equal(cudaMallocManaged(&memory, SWT_CUDA_WORKSPACE_BYTES, cudaMemAttachGlobal),
                     cudaSuccess);
    b->ctx.workspace = memory;
    assert_int_equal(cudaMallocManaged(&memory, POOL_BYTES, cudaMemAttachGlobal), cudaSuccess);
    b->pool = memory;
    must(swt_cuda_products_open(&b->own.products));
    b->device.own = &b->own;
    b->ctx.device = &b->device;
    b->random = 7;
    *state = b;
    return 0;
}

static int close_bench(void **state) {
    bench *b = *state;
    swt_cuda_products_close(b->own.products);
    assert_int_equal(cudaFree(b->pool), cudaSuccess);
    assert_int_equal(cudaFree(b->ctx.workspace), cudaSuccess);
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
    float value;
    if (type == SWT_F32)
        return ((const float *)memory)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)memory)[i] << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Random numbers that bfloat16 holds exactly. */
static void *tensor(bench *b, int64_t count, swt_dtype type) {
    unsigned char *out = b->pool + b->used;
    b->used += ((size_t)count * swt_dtype_bytes(type) + 63) / 64 * 64;
    assert_true(b->used <= POOL_BYTES);
    for (int64_t i = 0; i < count; i++) {
        b->random = b->random * 6364136223846793005u + 1442695040888963407u;
        put(out, type, i, (float)((int)(b->random >> 56) - 128) / 128.0f);
    }
    return out;
}

/* Operands of the shapes in *p, one after the other; shared_b: all products use the same b. */
static void fill(bench *b, swt_cuda_product *p, bool shared_b, bool bias, bool add) {
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

static void run(bench *b, const swt_cuda_product *p) {
    must(swt_cuda_multiply(&b->ctx, p));
    assert_int_equal(cudaStreamSynchronize(NULL), cudaSuccess);
}

/* Output (i, j) of product n: |error| <= (inner + 4) eps sum |terms| for fp32 sums in any order,
 * and half a step of bfloat16, whose steps are 2^-7. */
static void judge(const swt_cuda_product *p, int64_t n, int64_t i, int64_t j) {
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
    const double slack = (double)(p->inner + 4) * 0x1p-24 * size +
                         (p->out_type == SWT_BF16 ? 0x1p-8 * fabs(sum) : 0);
    const double got = get(p->out, p->out_type, at);
    if (!(fabs(got - sum) <= slack))
        fail_msg("(%d, %d, %d) ta=%d tb=%d: product %d (%d, %d) is %.9g, must be %.9g +- %.3g",
                 (int)p->rows, (int)p->cols, (int)p->inner, p->a.transposed, p->b.transposed,
                 (int)n, (int)i, (int)j, got, sum, slack);
}

static void judge_all(const swt_cuda_product *p) {
    for (int64_t n = 0; n < p->batch; n++)
        for (int64_t i = 0; i < p->rows; i++)
            for (int64_t j = 0; j < p->cols; j++)
                judge(p, n, i, j);
}

static swt_cuda_product shaped(int64_t rows, int64_t cols, int64_t inner, int64_t batch,
                               swt_dtype type) {
    return (swt_cuda_product){.rows = rows,
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
        swt_cuda_product p = shaped(24, 40, 56, 1 + (bits & 8) / 4, type);
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

/* Odd sizes: operands are aligned to an element or two. */
static void test_odd_sizes(void **state) {
    bench *b = *state;
    for (int i = 0; i < 4; i++) {
        swt_cuda_product p = shaped(7, 5 + i, 3, 3, SWT_F32);
        b->used = 0;
        fill(b, &p, false, true, false);
        run(b, &p);
        judge_all(&p);
    }
}

/* In place, as gradients are added. */
static void test_added_to_itself(void **state) {
    bench *b = *state;
    swt_cuda_product p = shaped(16, 32, 64, 1, SWT_F32);
    b->used = 0;
    fill(b, &p, false, false, true);
    run(b, &p);
    const swt_cuda_product by_itself = p;
    p.out = tensor(b, 16 * 32, SWT_F32);
    memcpy(p.out, p.add, 16 * 32 * sizeof(float));
    p.add = p.out;
    run(b, &p);
    assert_memory_equal(p.out, by_itself.out, 16 * 32 * sizeof(float));
}

/* A product has the same bits by itself and in any batch. */
static void test_batches_have_the_same_bits(void **state) {
    bench *b = *state;
    for (int bits = 0; bits < 4; bits++) {
        const swt_dtype type = bits & 1 ? SWT_BF16 : SWT_F32;
        const size_t bytes = swt_dtype_bytes(type) * 24 * 48;
        swt_cuda_product p = shaped(24, 48, 512, 5, type);
        unsigned char together[5 * 24 * 48 * 4];
        p.a.transposed = bits & 2;
        b->used = 0;
        fill(b, &p, false, true, false);
        run(b, &p);
        memcpy(together, p.out, 5 * bytes);
        swt_cuda_product one = p;
        one.batch = 1;
        for (int n = 0; n < 5; n++) {
            one.a.data =
                (const unsigned char *)p.a.data + (size_t)(n * p.a.stride) * swt_dtype_bytes(type);
            one.b.data =
                (const unsigned char *)p.b.data + (size_t)(n * p.b.stride) * swt_dtype_bytes(type);
            one.bias = (const unsigned char *)p.bias + (size_t)(n * p.cols) * swt_dtype_bytes(type);
            memset(p.out, 0, bytes);
            run(b, &one);
            assert_memory_equal(p.out, together + (size_t)n * bytes, bytes);
        }
    }
}

static void test_nothing(void **state) {
    bench *b = *state;
    swt_cuda_product p = shaped(2, 3, 0, 2, SWT_F32);
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
    swt_cuda_product p = shaped(16, 16, 16, 1, SWT_F32);
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

/* More shapes than there are places for: the oldest makes room, and is made again when it comes
 * back. */
static void test_full_table(void **state) {
    bench *b = *state;
    enum { SHAPES = 1100 }; /* more than PLANS of product_cuda.c */
    for (int i = 0; i < 2 * SHAPES; i++) {
        swt_cuda_product p = shaped(1, 1 + i % SHAPES, 1, 1, SWT_F32);
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
        cmocka_unit_test_setup_teardown(test_added_to_itself, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_batches_have_the_same_bits, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_nothing, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_refusals, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_full_table, open_bench, close_bench),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
