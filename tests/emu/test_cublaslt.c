/* The emulated cuBLASLt against the formula in double precision, and what it must refuse. */
#include "tests/emu/emu.h"
#include "tests/emu/emu_gemm.h"
#include "tests/support/test.h"

#include <cublasLt.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define OK(call)      assert_int_equal((call), CUBLAS_STATUS_SUCCESS)
#define REFUSED(call) assert_int_equal((call), CUBLAS_STATUS_INVALID_VALUE)
#define CUDA(call)    assert_int_equal((call), cudaSuccess)

enum { WORKSPACE_BYTES = 1 << 20, GAP = 7, PROPOSALS = 8 };

/* D = f(alpha op(A) op(B) + beta C + bias), `batch` times, columns `pad` longer than their rows,
 * and by one more in BF16 if that makes them even, unless odd. */
typedef struct shape {
    int64_t m, n, k, batch, pad;
    bool ta, tb, bf16_in, bf16_out, in_place, odd;
    uint32_t epilogue;
    float alpha, beta;
} shape;

typedef struct matrix {
    void *data;
    int64_t rows, columns, ld, stride;
    bool bf16;
    cublasLtMatrixLayout_t layout;
} matrix;

typedef struct lt {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t proposals[PROPOSALS], found;
    int count; /* of proposals */
    matrix a, b, c, d, bias;
    void *workspace;
    float alpha, beta;
} lt;

static uint64_t random_state = 42;

/* In [-1, 1), exact in bfloat16. */
static float draw(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (float)((int)(random_state >> 56) - 128) / 128.0f;
}

static float get(const matrix *x, int64_t product, int64_t i, int64_t j) {
    return swt_emu_element(x->data, x->bf16, product * x->stride + j * x->ld + i);
}

static void put(const matrix *x, int64_t at, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (x->bf16)
        ((uint16_t *)x->data)[at] = (uint16_t)(bits >> 16);
    else
        ((float *)x->data)[at] = value;
}

static int64_t elements(const matrix *x, int64_t batch) {
    return x->stride * (batch - 1) + x->ld * x->columns;
}

static matrix make(int64_t rows, int64_t columns, bool bf16, const shape *s) {
    matrix x = {.rows = rows, .columns = columns, .ld = rows + s->pad, .bf16 = bf16};
    x.ld += bf16 && x.ld % 2 != 0 && !s->odd;
    x.stride = x.ld * columns + (s->batch > 1 ? 64 : 0);
    x.stride = (x.stride + 63) / 64 * 64;
    CUDA(cudaMallocManaged(&x.data, (size_t)elements(&x, s->batch) * 4, cudaMemAttachGlobal));
    for (int64_t i = 0; i < elements(&x, s->batch); i++)
        put(&x, i, draw());
    x.layout = calloc(1, sizeof *x.layout);
    assert_non_null(x.layout);
    OK(cublasLtMatrixLayoutInit(x.layout, bf16 ? CUDA_R_16BF : CUDA_R_32F, (uint64_t)rows,
                                (uint64_t)columns, x.ld));
    return x;
}

static void set_batch(matrix *x, int64_t batch) {
    const int32_t count = (int32_t)batch;
    OK(cublasLtMatrixLayoutSetAttribute(x->layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                        sizeof count));
    OK(cublasLtMatrixLayoutSetAttribute(x->layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                        &x->stride, sizeof x->stride));
}

static void set_desc(lt *t, cublasLtMatmulDescAttributes_t attribute, const void *value,
                     size_t bytes) {
    OK(cublasLtMatmulDescSetAttribute(t->desc, attribute, value, bytes));
}

static void set_transposed(lt *t, bool ta, bool tb) {
    const int32_t op[2] = {CUBLAS_OP_N, CUBLAS_OP_T};
    set_desc(t, CUBLASLT_MATMUL_DESC_TRANSA, &op[ta], sizeof op[0]);
    set_desc(t, CUBLASLT_MATMUL_DESC_TRANSB, &op[tb], sizeof op[0]);
}

/* The first proposal is taken. */
static cublasStatus_t choose(lt *t) {
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        t->handle, t->desc, t->a.layout, t->b.layout, t->c.layout, t->d.layout, t->preference,
        PROPOSALS, t->proposals, &t->count);
    assert_true(status == CUBLAS_STATUS_SUCCESS || t->count == 0);
    assert_true(t->count < PROPOSALS);
    t->found = t->proposals[0];
    return status;
}

/* What is said of proposal i for the batch that is set now; it is taken. */
static cublasStatus_t take(lt *t, int i) {
    t->found = t->proposals[i];
    return cublasLtMatmulAlgoCheck(t->handle, t->desc, t->a.layout, t->b.layout, t->c.layout,
                                   t->d.layout, &t->proposals[i].algo, &t->found);
}

/* The algorithm is chosen for one product, then the batch is set. */
static lt open_lt(const shape *s) {
    lt t = {.alpha = s->alpha, .beta = s->beta};
    const uint64_t workspace_bytes = WORKSPACE_BYTES / (uint64_t)s->batch; /* as much for each */
    OK(cublasLtCreate(&t.handle));
    t.desc = calloc(1, sizeof *t.desc);
    t.preference = calloc(1, sizeof *t.preference);
    assert_true(t.desc != NULL && t.preference != NULL);
    OK(cublasLtMatmulDescInit(t.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    OK(cublasLtMatmulPreferenceInit(t.preference));
    OK(cublasLtMatmulPreferenceSetAttribute(t.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                            &workspace_bytes, sizeof workspace_bytes));
    for (int i = 0; i < 4; i++) {
        const uint32_t align = 64;
        OK(cublasLtMatmulPreferenceSetAttribute(
            t.preference,
            (cublasLtMatmulPreferenceAttributes_t)(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i),
            &align, sizeof align));
    }
    t.a = s->ta ? make(s->k, s->m, s->bf16_in, s) : make(s->m, s->k, s->bf16_in, s);
    t.b = s->tb ? make(s->n, s->k, s->bf16_in, s) : make(s->k, s->n, s->bf16_in, s);
    t.c = make(s->m, s->n, s->bf16_out, s);
    t.d = make(s->m, s->n, s->bf16_out, s);
    t.bias = make(s->m, 1, s->bf16_out, s);
    CUDA(cudaMallocManaged(&t.workspace, WORKSPACE_BYTES, cudaMemAttachGlobal));
    set_transposed(&t, s->ta, s->tb);
    set_desc(&t, CUBLASLT_MATMUL_DESC_EPILOGUE, &s->epilogue, sizeof s->epilogue);
    set_desc(&t, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &t.bias.data, sizeof t.bias.data);
    assert_true(choose(&t) == CUBLAS_STATUS_SUCCESS || s->odd);
    set_desc(&t, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, &t.bias.stride, sizeof t.bias.stride);
    if (s->batch > 1) {
        set_batch(&t.a, s->batch);
        set_batch(&t.b, s->batch);
        set_batch(&t.c, s->batch);
        set_batch(&t.d, s->batch);
        for (int i = 0; take(&t, i) != CUBLAS_STATUS_SUCCESS; i++)
            assert_true(i + 1 < t.count);
    }
    return t;
}

static void close_lt(lt *t) {
    const matrix all[] = {t->a, t->b, t->c, t->d, t->bias};
    for (int i = 0; i < 5; i++) {
        CUDA(cudaFree(all[i].data));
        free(all[i].layout);
    }
    CUDA(cudaFree(t->workspace));
    free(t->preference);
    free(t->desc);
    OK(cublasLtDestroy(t->handle));
}

static cublasStatus_t multiply(lt *t, const void *c, size_t workspace_bytes) {
    return cublasLtMatmul(t->handle, t->desc, &t->alpha, t->a.data, t->a.layout, t->b.data,
                          t->b.layout, &t->beta, c, t->c.layout, t->d.data, t->d.layout,
                          &t->found.algo, t->workspace, workspace_bytes, NULL);
}

/* ------------------------------------------------------------------ the formula */

/* What one output must be, and by how much fp32 sums of k + 3 terms may miss it, |error| <= k eps
 * sum |terms|; a bfloat16 is rounded once more. */
static void judge(const shape *s, const lt *t, const matrix *c, int64_t p, int64_t i, int64_t j) {
    double sum = 0, size = 0;
    for (int64_t l = 0; l < s->k; l++) {
        const double a = s->ta ? get(&t->a, p, l, i) : get(&t->a, p, i, l);
        const double b = s->tb ? get(&t->b, p, j, l) : get(&t->b, p, l, j);
        sum += s->alpha * a * b;
        size += fabs(s->alpha * a * b);
    }
    if (s->beta != 0) {
        sum += s->beta * get(c, p, i, j);
        size += fabs(s->beta * get(c, p, i, j));
    }
    if (s->epilogue & CUBLASLT_EPILOGUE_BIAS) {
        sum += get(&t->bias, p, i, 0);
        size += fabs(get(&t->bias, p, i, 0));
    }
    double slack = (double)(s->k + 4) * 0x1p-24 * size;
    if (s->epilogue & CUBLASLT_EPILOGUE_RELU)
        sum = sum > 0 ? sum : 0;
    if (s->bf16_out)
        slack += 0x1p-8 * fabs(sum);
    const double got = get(&t->d, p, i, j);
    if (!(fabs(got - sum) <= slack))
        fail_msg("m=%d n=%d k=%d ta=%d tb=%d epilogue=%u: product %d (%d, %d) is %.9g, must be "
                 "%.9g +- %.3g",
                 (int)s->m, (int)s->n, (int)s->k, s->ta, s->tb, s->epilogue, (int)p, (int)i, (int)j,
                 got, sum, slack);
}

static void run_shape(const shape *s) {
    lt t = open_lt(s);
    const size_t bytes = (size_t)elements(&t.d, s->batch) * (s->bf16_out ? 2 : 4);
    matrix c = t.c, before = t.d;
    before.data = malloc(bytes);
    assert_non_null(before.data);
    memcpy(before.data, t.d.data, bytes);
    if (s->in_place)
        c = before;
    OK(multiply(&t, s->in_place ? t.d.data : t.c.data, WORKSPACE_BYTES));
    assert_memory_equal(t.d.data, before.data, bytes); /* not before somebody waits */
    CUDA(cudaStreamSynchronize(NULL));
    for (int64_t p = 0; p < s->batch; p++)
        for (int64_t j = 0; j < s->n; j++) {
            for (int64_t i = 0; i < s->m; i++)
                judge(s, &t, &c, p, i, j);
            for (int64_t i = s->m; i < t.d.ld; i++)
                assert_true(get(&t.d, p, i, j) == get(&before, p, i, j));
        }
    free(before.data);
    close_lt(&t);
}

static void test_transpositions_and_types(void **state) {
    (void)state;
    const int64_t sizes[][3] = {{1, 1, 1}, {33, 7, 5}, {70, 13, 300}, {5, 100, 20}, {300, 97, 40}};
    for (int i = 0; i < 5; i++)
        for (int bits = 0; bits < 32; bits++)
            run_shape(&(shape){.m = sizes[i][0],
                               .n = sizes[i][1],
                               .k = sizes[i][2],
                               .batch = 1,
                               .pad = bits & 16 ? GAP : 0,
                               .ta = bits & 1,
                               .tb = bits & 2,
                               .bf16_in = bits & 4,
                               .bf16_out = (bits & 12) == 12,
                               .epilogue = CUBLASLT_EPILOGUE_DEFAULT,
                               .alpha = 1});
}

static void test_epilogues_and_scales(void **state) {
    (void)state;
    const uint32_t epilogues[] = {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS,
                                  CUBLASLT_EPILOGUE_RELU, CUBLASLT_EPILOGUE_RELU_BIAS};
    for (int i = 0; i < 4; i++)
        for (int bits = 0; bits < 8; bits++)
            run_shape(&(shape){.m = 40,
                               .n = 9,
                               .k = 31,
                               .batch = 1 + 2 * (bits & 1),
                               .pad = 3,
                               .tb = true,
                               .bf16_in = bits & 2,
                               .bf16_out = bits & 2,
                               .in_place = bits & 4,
                               .epilogue = epilogues[i],
                               .alpha = bits & 1 ? 1.0f : -0.5f,
                               .beta = bits & 4 ? 1.0f : 0.25f});
}

/* With beta 0 what C holds does not count, not even a NaN. */
static void test_beta_zero_reads_nothing(void **state) {
    (void)state;
    const shape s = {
        .m = 3, .n = 3, .k = 3, .batch = 1, .epilogue = CUBLASLT_EPILOGUE_DEFAULT, .alpha = 1};
    lt t = open_lt(&s);
    for (int64_t i = 0; i < 9; i++)
        put(&t.d, i, NAN);
    OK(multiply(&t, t.d.data, WORKSPACE_BYTES));
    CUDA(cudaStreamSynchronize(NULL));
    for (int64_t i = 0; i < 9; i++)
        judge(&s, &t, &t.c, 0, i % 3, i / 3);
    close_lt(&t);
}

/* ------------------------------------------------------------------ refusals */

static const shape plain = {.m = 16,
                            .n = 8,
                            .k = 4,
                            .batch = 1,
                            .pad = 16,
                            .epilogue = CUBLASLT_EPILOGUE_BIAS,
                            .alpha = 1,
                            .beta = 1};

static void set_layout(matrix *x, cublasLtMatrixLayoutAttribute_t attribute, int64_t value) {
    OK(cublasLtMatrixLayoutSetAttribute(x->layout, attribute, &value, sizeof value));
}

static void test_leading_dimensions(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        lt t = open_lt(&plain);
        matrix *of[] = {&t.a, &t.b, &t.c, &t.d};
        set_layout(of[i], CUBLASLT_MATRIX_LAYOUT_LD, of[i]->rows - 1);
        REFUSED(choose(&t));
        REFUSED(multiply(&t, t.c.data, WORKSPACE_BYTES));
        close_lt(&t);
    }
}

static void test_wrong_algorithm(void **state) {
    (void)state;
    const shape square = {
        .m = 16, .n = 16, .k = 16, .batch = 1, .epilogue = plain.epilogue, .alpha = 1};
    lt t = open_lt(&square);
    OK(multiply(&t, t.c.data, WORKSPACE_BYTES));
    set_transposed(&t, true, false);
    REFUSED(multiply(&t, t.c.data, WORKSPACE_BYTES));
    set_transposed(&t, false, false);
    set_layout(&t.a, CUBLASLT_MATRIX_LAYOUT_COLS, 8); /* another k */
    set_layout(&t.b, CUBLASLT_MATRIX_LAYOUT_ROWS, 8);
    REFUSED(multiply(&t, t.c.data, WORKSPACE_BYTES));
    OK(choose(&t));
    OK(multiply(&t, t.c.data, WORKSPACE_BYTES));
    memset(&t.found.algo, 0, sizeof t.found.algo);
    REFUSED(multiply(&t, t.c.data, WORKSPACE_BYTES));
    CUDA(cudaStreamSynchronize(NULL));
    close_lt(&t);
}

/* The first proposals are for one product alone; those that do batches do one product, too. */
static void test_batches(void **state) {
    (void)state;
    shape s = plain;
    for (s.batch = 1; s.batch <= 2; s.batch++) {
        lt t = open_lt(&s);
        int able = 0;
        for (int i = 0; i < t.count; i++) {
            const cublasStatus_t status = take(&t, i);
            assert_int_equal(multiply(&t, t.c.data, WORKSPACE_BYTES), status);
            assert_true(status == CUBLAS_STATUS_NOT_SUPPORTED ? able == 0 : status == 0);
            able += status == CUBLAS_STATUS_SUCCESS;
        }
        assert_true(s.batch == 1 ? able == t.count : able > 0 && able < t.count);
        CUDA(cudaStreamSynchronize(NULL));
        close_lt(&t);
    }
}

/* BF16 in odd leading dimensions: nothing is proposed, in either way of saying so. */
static void test_no_algorithm(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        const shape s = {.m = i == 0 ? 2 : 3,
                         .n = 2,
                         .k = 2,
                         .batch = 1,
                         .bf16_in = true,
                         .bf16_out = i == 2,
                         .odd = true,
                         .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
        lt t = open_lt(&s);
        assert_int_equal(choose(&t), i == 2 ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS);
        assert_true((t.count > 0) == (i == 0));
        close_lt(&t);
    }
}

static void test_workspace(void **state) {
    (void)state;
    lt t = open_lt(&plain);
    assert_true(t.found.workspaceSize > 0);
    REFUSED(multiply(&t, t.c.data, t.found.workspaceSize - 1));
    t.workspace = (unsigned char *)t.workspace + 128;
    REFUSED(multiply(&t, t.c.data, WORKSPACE_BYTES - 128));
    t.workspace = (unsigned char *)t.workspace - 128;
    memset(t.workspace, 0, t.found.workspaceSize);
    OK(multiply(&t, t.c.data, t.found.workspaceSize));
    CUDA(cudaStreamSynchronize(NULL));
    assert_int_not_equal(*(unsigned char *)t.workspace, 0);
    close_lt(&t);
}

static void test_pointers(void **state) {
    (void)state;
    lt t = open_lt(&plain);
    void *const d = t.d.data, *const a = t.a.data;
    REFUSED(multiply(&t, NULL, WORKSPACE_BYTES));
    t.a.data = (unsigned char *)a + 32;
    REFUSED(multiply(&t, t.c.data, WORKSPACE_BYTES)); /* 64 were promised */
    t.a.data = a;
    t.d.data = (unsigned char *)t.b.data + 64;
    REFUSED(multiply(&t, t.c.data, WORKSPACE_BYTES)); /* overlap */
    t.d.data = d;
    void *none = NULL;
    set_desc(&t, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &none, sizeof none);
    REFUSED(multiply(&t, t.c.data, WORKSPACE_BYTES));
    close_lt(&t);
}

static void test_attributes(void **state) {
    (void)state;
    lt t = open_lt(&plain);
    const int32_t order = CUBLASLT_ORDER_ROW;
    REFUSED(cublasLtMatmulDescSetAttribute(t.desc, CUBLASLT_MATMUL_DESC_TRANSA, &order, 1));
    REFUSED(cublasLtMatrixLayoutSetAttribute((cublasLtMatrixLayout_t)(void *)t.desc,
                                             CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order));
    OK(cublasLtMatrixLayoutSetAttribute(t.a.layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &order,
                                        sizeof order));
    assert_int_equal(choose(&t), CUBLAS_STATUS_NOT_SUPPORTED);
    assert_string_equal(cublasLtGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED),
                        "CUBLAS_STATUS_NOT_SUPPORTED");
    assert_int_equal(cublasLtGetVersion(), CUBLAS_VERSION);
    close_lt(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transpositions_and_types),
        cmocka_unit_test(test_epilogues_and_scales),
        cmocka_unit_test(test_beta_zero_reads_nothing),
        cmocka_unit_test(test_leading_dimensions),
        cmocka_unit_test(test_wrong_algorithm),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_no_algorithm),
        cmocka_unit_test(test_workspace),
        cmocka_unit_test(test_pointers),
        cmocka_unit_test(test_attributes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
