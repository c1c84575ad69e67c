/* cuBLASLt, emulated: what the program calls of it, stricter than the real one where that is cheap:
 * an algorithm serves the shape that it was made for alone (its batch may differ), pointers have
 * the alignment that was promised, the workspace is large enough, aligned, and loses what it held.
 * An algorithm takes all of the workspace that it was offered, and as much again for each further
 * product of a batch. The algorithms that are proposed first do no batches, and large batches are
 * proposed others than pairs; for BF16 in odd leading
 * dimensions, which tensor cores cannot load, there is none, and none with an epilogue where
 * the rows of D are no multiple of 4.
 *
 * Compiled against the real header, so that no signature can drift. */
#include "tests/emu/emu.h"
#include "tests/emu/emu_gemm.h"
#include "tests/emu/emu_lt.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REFUSE(name, ...) swt_emu_lt_refuse(CUBLAS_STATUS_##name, __VA_ARGS__)

#define TRY(call)                                                                                  \
    do {                                                                                           \
        const cublasStatus_t try_status_ = (call);                                                 \
        if (try_status_ != CUBLAS_STATUS_SUCCESS)                                                  \
            return try_status_;                                                                    \
    } while (0)

enum { HANDLE_MAGIC = 0x48414e44, WORKSPACE_ALIGN = 256, JUNK_BYTES = 1024, JUNK = 0xff };
static const uint64_t ALGORITHM_MAGIC = 0x73776c74616c676f;

struct cublasLtContext {
    uint32_t magic;
};

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    if (handle == NULL)
        return REFUSE(INVALID_VALUE, "create: no place for the handle");
    *handle = malloc(sizeof **handle);
    if (*handle == NULL)
        return CUBLAS_STATUS_ALLOC_FAILED;
    (*handle)->magic = HANDLE_MAGIC;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    if (handle == NULL || handle->magic != HANDLE_MAGIC)
        return REFUSE(NOT_INITIALIZED, "destroy: no handle");
    handle->magic = 0;
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void) {
    return CUBLAS_VERSION;
}

#define STATUS_LIST(X)                                                                             \
    X(SUCCESS, "success")                                                                          \
    X(NOT_INITIALIZED, "the library was not initialized")                                          \
    X(ALLOC_FAILED, "the resource allocation failed")                                              \
    X(INVALID_VALUE, "an invalid value was used as an argument")                                   \
    X(ARCH_MISMATCH, "an absent device architectural feature is required")                         \
    X(MAPPING_ERROR, "an access to GPU memory space failed")                                       \
    X(EXECUTION_FAILED, "the function failed to launch on the GPU")                                \
    X(INTERNAL_ERROR, "an internal operation failed")                                              \
    X(NOT_SUPPORTED, "the functionality is not supported")                                         \
    X(LICENSE_ERROR, "an error was detected when checking the license")

const char *cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
#define STATUS_NAME(name, text)                                                                    \
    case CUBLAS_STATUS_##name:                                                                     \
        return "CUBLAS_STATUS_" #name;
        STATUS_LIST(STATUS_NAME)
#undef STATUS_NAME
    }
    return "CUBLAS_STATUS_UNKNOWN";
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
    switch (status) {
#define STATUS_TEXT(name, text)                                                                    \
    case CUBLAS_STATUS_##name:                                                                     \
        return text;
        STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "unknown status";
}

/* ------------------------------------------------------------------ one product */

enum { A, B, C, D, MATRICES };

typedef struct product {
    lt_desc desc;
    lt_layout of[MATRICES];
    int64_t m, n, k;
} product;

static int64_t bytes_of(const lt_layout *l) {
    return l->type == CUDA_R_16BF ? 2 : 4;
}

static bool has_bias(const product *p) {
    return (p->desc.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0;
}

static cublasStatus_t check_types(const product *p) {
    const lt_desc *d = &p->desc;
    const int32_t in = p->of[A].type, out = p->of[D].type;
    if ((d->compute != CUBLAS_COMPUTE_32F && d->compute != CUBLAS_COMPUTE_32F_PEDANTIC) ||
        d->scale != CUDA_R_32F)
        return REFUSE(NOT_SUPPORTED, "compute type %d, scale type %d; 32F alone is emulated",
                      d->compute, d->scale);
    if (p->of[B].type != in || p->of[C].type != out || (in != CUDA_R_32F && in != CUDA_R_16BF) ||
        (out != CUDA_R_32F && out != in))
        return REFUSE(NOT_SUPPORTED, "types %d, %d, %d, %d of A, B, C, D", in, p->of[B].type,
                      p->of[C].type, out);
    if (has_bias(p) && d->bias_type != -1 && d->bias_type != out)
        return REFUSE(NOT_SUPPORTED, "a bias of type %d beside D of type %d", d->bias_type, out);
    switch (d->epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_RELU:
    case CUBLASLT_EPILOGUE_RELU_BIAS:
        return CUBLAS_STATUS_SUCCESS;
    default:
        return REFUSE(NOT_SUPPORTED, "epilogue %u is not emulated", d->epilogue);
    }
}

static cublasStatus_t check_layout(const product *p, int i) {
    const lt_layout *l = &p->of[i];
    const char name = "ABCD"[i];
    if (l->order != CUBLASLT_ORDER_COL || l->batch_mode != CUBLASLT_BATCH_MODE_STRIDED)
        return REFUSE(NOT_SUPPORTED, "%c: order %d, batch mode %u are not emulated", name, l->order,
                      l->batch_mode);
    if (l->rows == 0 || l->columns == 0 || l->rows > INT32_MAX || l->columns > INT32_MAX)
        return REFUSE(INVALID_VALUE, "%c: %llu rows, %llu columns", name,
                      (unsigned long long)l->rows, (unsigned long long)l->columns);
    if (l->ld < (int64_t)l->rows)
        return REFUSE(INVALID_VALUE, "%c: leading dimension %lld is less than its %llu rows", name,
                      (long long)l->ld, (unsigned long long)l->rows);
    if (l->batch < 1 || l->batch != p->of[D].batch)
        return REFUSE(INVALID_VALUE, "%c: batch of %d beside %d of D", name, l->batch,
                      p->of[D].batch);
    if (l->batch > 1 && (l->stride < 0 || (i == D && l->stride < (int64_t)l->rows)))
        return REFUSE(INVALID_VALUE, "%c: stride %lld of a batch", name, (long long)l->stride);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t check_shapes(product *p) {
    const lt_desc *d = &p->desc;
    const bool ta = d->trans_a == CUBLAS_OP_T, tb = d->trans_b == CUBLAS_OP_T;
    if ((!ta && d->trans_a != CUBLAS_OP_N) || (!tb && d->trans_b != CUBLAS_OP_N) ||
        d->trans_c != CUBLAS_OP_N || d->fill != CUBLAS_FILL_MODE_FULL ||
        d->pointer_mode != CUBLASLT_POINTER_MODE_HOST)
        return REFUSE(NOT_SUPPORTED, "transposition, fill mode or pointer mode is not emulated");
    for (int i = 0; i < MATRICES; i++)
        TRY(check_layout(p, i));
    const uint64_t m = p->of[D].rows, n = p->of[D].columns;
    const uint64_t k = ta ? p->of[A].rows : p->of[A].columns;
    if ((ta ? p->of[A].columns : p->of[A].rows) != m || p->of[C].rows != m ||
        (tb ? p->of[B].rows : p->of[B].columns) != n || p->of[C].columns != n ||
        (tb ? p->of[B].columns : p->of[B].rows) != k)
        return REFUSE(INVALID_VALUE,
                      "op(A), op(B), C and D are not (m, k), (k, n), (m, n), (m, n)");
    p->m = (int64_t)m, p->n = (int64_t)n, p->k = (int64_t)k;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t read_gemm(product *p, cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
    const cublasLtMatrixLayout_t layouts[MATRICES] = {a, b, c, d};
    if (handle == NULL || handle->magic != HANDLE_MAGIC)
        return REFUSE(NOT_INITIALIZED, "no handle");
    TRY(swt_emu_lt_desc(&p->desc, desc));
    for (int i = 0; i < MATRICES; i++)
        TRY(swt_emu_lt_layout(&p->of[i], layouts[i]));
    TRY(check_types(p));
    return check_shapes(p);
}

/* A number that stands for all that describes a product but its batch: FNV-1a. */
static uint64_t shape_of(const product *p) {
    const lt_desc *d = &p->desc;
    const int64_t numbers[] = {p->m,          p->n,          p->k,         d->trans_a,
                               d->trans_b,    d->compute,    d->epilogue,  p->of[A].ld,
                               p->of[B].ld,   p->of[C].ld,   p->of[D].ld,  p->of[A].type,
                               p->of[B].type, p->of[C].type, p->of[D].type};
    uint64_t hash = 0xcbf29ce484222325;
    const unsigned char *bytes = (const unsigned char *)numbers;
    for (size_t i = 0; i < sizeof numbers; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

/* ------------------------------------------------------------------ algorithms */

/* What is proposed for any product, in this order: few, and MANY beside each other. */
enum { PROPOSALS = 4, MANY = 16 };
static const struct {
    int32_t steps, batches;
} proposals[][PROPOSALS] = {
    {{SWT_EMU_GEMM_STEPS, false}, {192, false}, {128, true}, {64, true}},
    {{SWT_EMU_GEMM_STEPS, false}, {192, false}, {64, true}, {128, true}},
};

static bool is_odd_bf16(const lt_layout *l) {
    return l->type == CUDA_R_16BF && l->ld % 2 != 0;
}

static uint32_t bias_align(const product *p) {
    const uintptr_t bias = (uintptr_t)p->desc.bias;
    return has_bias(p) && bias != 0 ? (uint32_t)(bias & -bias & 0xff) : 0;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int *returned) {
    product p = {0};
    lt_preference wish = {0};
    swt_emu_host_call("cublasLtMatmulAlgoGetHeuristic"); /* a search, once for each shape */
    if (requested < 1 || results == NULL || returned == NULL)
        return REFUSE(INVALID_VALUE, "heuristic: %d algorithms requested", requested);
    *returned = 0;
    TRY(read_gemm(&p, handle, desc, a, b, c, d));
    TRY(swt_emu_lt_preference(&wish, preference));
    const uint64_t batch = (uint64_t)p.of[D].batch;
    lt_algorithm found = {.magic = ALGORITHM_MAGIC,
                          .shape = shape_of(&p),
                          .bias_align = bias_align(&p),
                          .workspace_bytes = (uint32_t)(wish.workspace_bytes / batch) & ~255u};
    for (int i = 0; i < MATRICES; i++) {
        found.align[i] = wish.align[i];
        if (wish.align[i] == 0 || (wish.align[i] & (wish.align[i] - 1)) != 0 ||
            wish.align[i] < bytes_of(&p.of[i]))
            return REFUSE(INVALID_VALUE, "heuristic: %c aligned to %u bytes", "ABCD"[i],
                          wish.align[i]);
    }
    if (is_odd_bf16(&p.of[D])) /* one way to say that there is none; the other is not to give any */
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const bool none = is_odd_bf16(&p.of[A]) || is_odd_bf16(&p.of[B]) ||
                      (p.m % 4 != 0 && p.desc.epilogue != CUBLASLT_EPILOGUE_DEFAULT);
    for (int i = 0; i < PROPOSALS && i < requested && !none; i++) {
        const size_t bytes = (size_t)found.workspace_bytes * (size_t)p.of[D].batch;
        found.steps = proposals[batch >= MANY][i].steps;
        found.batches = proposals[batch >= MANY][i].batches;
        results[i] = (cublasLtMatmulHeuristicResult_t){
            .workspaceSize = bytes, .state = CUBLAS_STATUS_SUCCESS, .wavesCount = 1};
        memcpy(&results[i].algo, &found, sizeof found);
        *returned = i + 1;
    }
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t read_algorithm(lt_algorithm *out, const cublasLtMatmulAlgo_t *from,
                                     const product *p) {
    if (from == NULL)
        return REFUSE(NOT_SUPPORTED, "no algorithm; choose one, so that it is always the same");
    memcpy(out, from, sizeof *out);
    if (out->magic != ALGORITHM_MAGIC || out->shape != shape_of(p))
        return REFUSE(INVALID_VALUE,
                      "the algorithm was made for another product than %lld x %lld "
                      "x %lld with this transposition, these types, or leading dimensions",
                      (long long)p->m, (long long)p->n, (long long)p->k);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo,
                                       cublasLtMatmulHeuristicResult_t *result) {
    product p = {0};
    lt_algorithm own = {0};
    if (result == NULL)
        return REFUSE(INVALID_VALUE, "check: no place for the result");
    TRY(read_gemm(&p, handle, desc, a, b, c, d));
    TRY(read_algorithm(&own, algo, &p));
    if (p.of[D].batch > 1 && !own.batches)
        return CUBLAS_STATUS_NOT_SUPPORTED; /* asking is no mistake */
    result->workspaceSize = (size_t)own.workspace_bytes * (size_t)p.of[D].batch;
    result->state = CUBLAS_STATUS_SUCCESS;
    result->wavesCount = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ------------------------------------------------------------------ the product */

typedef struct job {
    product p;
    float alpha, beta;
    const void *in[3]; /* A, B, C */
    void *out, *workspace;
    size_t workspace_bytes;
    int64_t steps; /* the algorithm's */
} job;

/* D = f(alpha sums + beta C + bias) of one column of one product of the batch. */
static void finish_column(const job *j, const float *sums, int64_t gemm_index, int64_t column) {
    const lt_layout *c = &j->p.of[C], *d = &j->p.of[D];
    const uint32_t epilogue = j->p.desc.epilogue;
    const bool bf16 = d->type == CUDA_R_16BF;
    const int64_t from = gemm_index * c->stride + column * c->ld;
    const int64_t to = gemm_index * d->stride + column * d->ld;
    const int64_t bias = gemm_index * j->p.desc.bias_stride;
    for (int64_t i = 0; i < j->p.m; i++) {
        float x = j->alpha * sums[i];
        if (j->beta != 0)
            x += j->beta * swt_emu_element(j->in[C], bf16, from + i);
        if (epilogue & CUBLASLT_EPILOGUE_BIAS)
            x += swt_emu_element(j->p.desc.bias, bf16, bias + i);
        if (epilogue & CUBLASLT_EPILOGUE_RELU)
            x = x > 0 ? x : 0;
        if (bf16)
            ((uint16_t *)j->out)[to + i] = swt_bf16_from_float(x);
        else
            ((float *)j->out)[to + i] = x;
    }
}

static swt_emu_matrix operand(const job *j, int i, int64_t gemm_index) {
    const lt_layout *l = &j->p.of[i];
    const int64_t at = gemm_index * l->stride * bytes_of(l);
    return (swt_emu_matrix){.data = (const unsigned char *)j->in[i] + at,
                            .ld = l->ld,
                            .bf16 = l->type == CUDA_R_16BF,
                            .transposed =
                                (i == A ? j->p.desc.trans_a : j->p.desc.trans_b) == CUBLAS_OP_T};
}

static bool run_job(void *data) {
    const job *j = data;
    const product *p = &j->p;
    const size_t floats = (size_t)p->m * SWT_EMU_GEMM_COLUMNS + SWT_EMU_GEMM_SCRATCH;
    float *sums = malloc(floats * sizeof *sums);
    if (sums == NULL)
        swt_emu_stop("cublasLtMatmul: out of memory");
    float *scratch = sums + p->m * SWT_EMU_GEMM_COLUMNS;
    if (j->workspace_bytes > 0) { /* its ends, or it would take longer than the product */
        const size_t bytes = j->workspace_bytes < JUNK_BYTES ? j->workspace_bytes : JUNK_BYTES;
        memset(j->workspace, JUNK, bytes);
        memset((unsigned char *)j->workspace + j->workspace_bytes - bytes, JUNK, bytes);
    }
    for (int64_t i = 0; i < p->of[D].batch; i++) {
        const swt_emu_matrix a = operand(j, A, i), b = operand(j, B, i);
        for (int64_t first = 0; first < p->n; first += SWT_EMU_GEMM_COLUMNS) {
            const int64_t rest = p->n - first;
            const int64_t n = rest < SWT_EMU_GEMM_COLUMNS ? rest : SWT_EMU_GEMM_COLUMNS;
            swt_emu_gemm(sums, scratch, &a, &b, p->m, first, n, p->k, j->steps);
            for (int64_t column = 0; column < n; column++)
                finish_column(j, sums + column * p->m, i, first + column);
        }
    }
    free(sums);
    return true;
}

/* How many bytes a matrix spans, over its batch. */
static size_t span_of(const lt_layout *l) {
    const int64_t last = ((int64_t)l->columns - 1) * l->ld + (int64_t)l->rows;
    return (size_t)((last + (l->batch - 1) * l->stride) * bytes_of(l));
}

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    const uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return x < y + b_bytes && y < x + a_bytes;
}

static cublasStatus_t check_pointers(const job *j, const lt_algorithm *algorithm) {
    const void *at[MATRICES] = {j->in[A], j->in[B], j->in[C], j->out};
    for (int i = 0; i < MATRICES; i++) {
        const lt_layout *l = &j->p.of[i];
        const int64_t step = l->batch > 1 ? l->stride * bytes_of(l) : 0;
        if (i == C && j->beta == 0)
            continue; /* not read */
        if (at[i] == NULL)
            return REFUSE(INVALID_VALUE, "%c is NULL", "ABCD"[i]);
        if (!swt_emu_on_gpu(at[i], span_of(l), false))
            return REFUSE(INVALID_VALUE, "%c is not in the memory of a GPU", "ABCD"[i]);
        if ((uintptr_t)at[i] % algorithm->align[i] != 0 || step % algorithm->align[i] != 0)
            return REFUSE(INVALID_VALUE, "%c is not aligned to the %u bytes that were promised",
                          "ABCD"[i], algorithm -> align[i]);
        if (i != D && !(i == C && at[C] == at[D]) &&
            overlap(at[i], span_of(l), at[D], span_of(&j->p.of[D])))
            return REFUSE(INVALID_VALUE, "D overlaps %c", "ABCD"[i]);
    }
    if (j->beta != 0 && at[C] == at[D] &&
        (j->p.of[C].ld != j->p.of[D].ld || j->p.of[C].stride != j->p.of[D].stride))
        return REFUSE(INVALID_VALUE, "C is D, but with another layout");
    if (!has_bias(&j->p))
        return CUBLAS_STATUS_SUCCESS;
    if (j->p.desc.bias == NULL ||
        (algorithm->bias_align > 0 && (uintptr_t)j->p.desc.bias % algorithm->bias_align != 0))
        return REFUSE(INVALID_VALUE, "the bias is NULL or not aligned as it was for the heuristic");
    const int64_t last = (j->p.of[D].batch - 1) * j->p.desc.bias_stride + j->p.m;
    if (!swt_emu_on_gpu(j->p.desc.bias, (size_t)(last * bytes_of(&j->p.of[D])), false))
        return REFUSE(INVALID_VALUE, "the bias is not in the memory of a GPU");
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t check_workspace(const job *j, const void *workspace, size_t bytes) {
    if (j->workspace_bytes == 0)
        return CUBLAS_STATUS_SUCCESS;
    if (workspace == NULL || bytes < j->workspace_bytes)
        return REFUSE(INVALID_VALUE, "workspace of %zu bytes; %zu are needed",
                      workspace != NULL ? bytes : 0, j->workspace_bytes);
    if (!swt_emu_on_gpu(workspace, bytes, false))
        return REFUSE(INVALID_VALUE, "the workspace is not in the memory of a GPU");
    if ((uintptr_t)workspace % WORKSPACE_ALIGN != 0)
        return REFUSE(INVALID_VALUE, "the workspace is not aligned to %d bytes", WORKSPACE_ALIGN);
    if (overlap(workspace, bytes, j->out, span_of(&j->p.of[D])))
        return REFUSE(INVALID_VALUE, "D overlaps the workspace");
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    job j = {.in = {a, b, c}, .out = d, .workspace = workspace};
    lt_algorithm algorithm = {0};
    TRY(read_gemm(&j.p, handle, desc, a_layout, b_layout, c_layout, d_layout));
    TRY(read_algorithm(&algorithm, algo, &j.p));
    if (j.p.of[D].batch > 1 && !algorithm.batches)
        return REFUSE(NOT_SUPPORTED, "the algorithm does no batches, here of %d", j.p.of[D].batch);
    j.steps = algorithm.steps;
    if (alpha == NULL || beta == NULL)
        return REFUSE(INVALID_VALUE, "alpha or beta is NULL");
    memcpy(&j.alpha, alpha, sizeof j.alpha);
    memcpy(&j.beta, beta, sizeof j.beta);
    j.workspace_bytes = (size_t)algorithm.workspace_bytes * (size_t)j.p.of[D].batch;
    TRY(check_pointers(&j, &algorithm));
    TRY(check_workspace(&j, workspace, workspace_bytes));
    if (swt_emu_enqueue(stream, "cublasLtMatmul", run_job, &j, sizeof j) != cudaSuccess)
        return REFUSE(EXECUTION_FAILED, "the stream does not take the work");
    return CUBLAS_STATUS_SUCCESS;
}
