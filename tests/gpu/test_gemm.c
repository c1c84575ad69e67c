/* The backend's gemms against the formula, and their bits in batches against their bits alone. */
#include "tests/gpu/gemm_bed.h"

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

/* Again, by itself, and in batches of so many; then the same b for all, as copies and as one. */
static void same_bits(bench *b, swt_cuda_gemm *p) {
    b->used = 0;
    fill(b, p, false, p->b.transposed, false);
    const int64_t count = p->batch * p->out_stride;
    const size_t bytes = (size_t)count * swt_dtype_bytes(p->out_type);
    void *const want = place(b, count, p->out_type);
    run(b, p);
    judge_some(b, p);
    memcpy(want, p->out, bytes);
    const int64_t batches[] = {p->batch, 1, 2, 8, 16};
    for (int i = 0; i < 5; i++)
        if (batches[i] <= p->batch)
            expect_bits(b, p, batches[i], want);
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

/* A gemm has the same bits from run to run, by itself and in any batch: (K, C, F, experts) of real
 * layers and odd ones. The emulated GPU's sums begin to differ with the algorithm at 64 terms. */
static void test_batches_have_the_same_bits(void **state) {
    bench *b = *state;
    const int64_t real[][4] = {
        {64, 768, 3072, 16}, {512, 768, 3072, 16}, {64, 65, 129, 16}, {160, 768, 3072, 128}};
    const int64_t small[][4] = {
        {130, 30, 200, 4}, {7, 200, 66, 4}, {5, 65, 129, 4}, {3, 66, 70, 128}};
    for (int i = 0; i < 4; i++)
        for (int which = 0; which < 4; which++)
            for (int bf16 = 0; bf16 < 2; bf16++) {
                const int64_t *n = b->emulated ? small[i] : real[i];
                swt_cuda_gemm p =
                    expert_gemm(which, n[0], n[1], n[2], n[3], bf16 ? SWT_BF16 : SWT_F32);
                same_bits(b, &p);
            }
}

/* As many experts as a GPU may hold: what an algorithm needs must not grow with them. */
static void test_many_experts(void **state) {
    bench *b = *state;
    for (int which = 0; which < 4; which++) {
        swt_cuda_gemm p = expert_gemm(which, 8, 16, 24, 2048, which & 1 ? SWT_BF16 : SWT_F32);
        b->used = 0;
        fill(b, &p, false, p.b.transposed, false);
        run(b, &p);
        judge_some(b, &p);
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
        cmocka_unit_test_setup_teardown(test_many_experts, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_nothing, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_refusals, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_errors_of_others, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_full_table, open_bench, close_bench),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
