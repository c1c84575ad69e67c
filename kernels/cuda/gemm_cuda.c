#include "kernels/cuda/gemm.h"

#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

/* Gemms in a model of any depth: a dozen shapes for training and as many for evaluation. Text
 * that is generated between steps has others for each of its 25 lengths; the plans of a step must
 * outlive them. */
enum { PLANS = 1024 };

/* Tensors are aligned to so many bytes (swt_ops.h). */
enum { TENSOR_ALIGN = 64 };

/* A gemm that stands in batches may use this much of the workspace, so that batches of 64 fit;
 * one that never does may use all of it. */
enum { BATCHED_WORKSPACE_BYTES = SWT_CUDA_WORKSPACE_BYTES / 64 };

/* How many algorithms cuBLASLt is asked for, best first. */
enum { PROPOSALS = 16 };

/* What tells one plan from another: all of a gemm but its addresses. */
typedef struct plan_key {
    int64_t rows, cols, inner, batch;
    int64_t a_stride, b_stride, out_stride, bias_stride;
    int32_t type, out_type;
    int32_t a_transposed, b_transposed, bias, relu;
} plan_key;

/* cuBLASLt is column-major: what is row-major here is its transpose there, out^T = b^T a^T. So its
 * first matrix is our b, its second our a, and its m is our cols. */
typedef struct plan {
    plan_key key;
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t first, second, out;
    cublasLtMatmulAlgo_t algorithm;
    bool plain; /* by our own kernel: there is no algorithm */
} plan;

struct swt_cuda_gemms {
    cublasLtHandle_t handle;
    int count;  /* of plans */
    int oldest; /* of them, once all places are taken */
    plan plans[PLANS];
};

/* Pass on a failure of cuBLASLt: SWT_TRY(SWT_CUBLAS(cublasLtCreate(&handle))); */
#define SWT_CUBLAS(call) cublas_check((call), #call, __LINE__)

static swt_status cublas_check(cublasStatus_t status, const char *call, int line) {
    if (status == CUBLAS_STATUS_SUCCESS)
        return SWT_OK;
    return swt_fail(SWT_INTERNAL, __FILE__, line,
                    "cuda: %.*s: %s (%s); look at the driver's and the library's versions",
                    (int)strcspn(call, "("), call, cublasLtGetStatusName(status),
                    cublasLtGetStatusString(status));
}

swt_status swt_cuda_gemms_open(swt_cuda_gemms **out) {
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return SWT_FAIL(MEMORY, "cuda: cannot allocate %zu bytes on the host; free some memory",
                        sizeof **out);
    const swt_status status = SWT_CUBLAS(cublasLtCreate(&(*out)->handle));
    if (status != SWT_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}

void swt_cuda_gemms_close(swt_cuda_gemms *gemms) {
    if (gemms == NULL)
        return;
    (void)cublasLtDestroy(gemms->handle); /* nothing to be done about it here */
    free(gemms);
}

static plan_key key_of(const swt_cuda_gemm *p) {
    return (plan_key){.rows = p->rows,
                      .cols = p->cols,
                      .inner = p->inner,
                      .batch = p->batch,
                      .a_stride = p->a.stride,
                      .b_stride = p->b.stride,
                      .out_stride = p->out_stride,
                      .bias_stride = p->bias != NULL ? p->bias_stride : 0,
                      .type = (int32_t)p->a.type,
                      .out_type = (int32_t)p->out_type,
                      .a_transposed = p->a.transposed,
                      .b_transposed = p->b.transposed,
                      .bias = p->bias != NULL,
                      .relu = p->relu};
}

/* Every gemm of a layer begins at a tensor's start plus whole matrices of its own size, so this
 * alignment holds wherever it stands, and a gemm's algorithm may rely on it. */
static uint32_t alignment(int64_t elements, swt_dtype type) {
    const uint64_t bytes = (uint64_t)elements * swt_dtype_bytes(type);
    const uint64_t power = bytes & (~bytes + 1); /* the largest that divides it */
    return power < TENSOR_ALIGN ? (uint32_t)power : TENSOR_ALIGN;
}

static bool aligned(const void *memory, int64_t elements, swt_dtype type) {
    return (uintptr_t)memory % alignment(elements, type) == 0;
}

static uint64_t workspace_of(const swt_cuda_gemm *p) {
    return p->out_stride != 0 ? BATCHED_WORKSPACE_BYTES : SWT_CUDA_WORKSPACE_BYTES;
}

static swt_status check(const swt_ctx *c, const swt_cuda_gemm *p) {
    const bool types = p->b.type == p->a.type && (p->a.type == SWT_F32 || p->a.type == SWT_BF16) &&
                       (p->out_type == p->a.type || p->out_type == SWT_F32);
    const int64_t size = p->rows * p->cols;
    if (!types || p->rows > INT32_MAX || p->cols > INT32_MAX || p->inner > INT32_MAX ||
        p->batch > INT32_MAX || (p->batch > 1 && p->out_stride < size) || (p->relu && p->add))
        return SWT_FAIL(INTERNAL,
                        "cuda: gemm of (%lld, %lld, %lld), %lld times, types %s, %s and %s: "
                        "not one of those that gemm.h describes",
                        (long long)p->rows, (long long)p->cols, (long long)p->inner,
                        (long long)p->batch, swt_dtype_name(p->a.type), swt_dtype_name(p->b.type),
                        swt_dtype_name(p->out_type));
    if (!aligned(p->a.data, p->rows * p->inner, p->a.type) ||
        !aligned(p->b.data, p->inner * p->cols, p->b.type) || !aligned(p->out, size, p->out_type) ||
        (p->add != NULL && !aligned(p->add, size, p->out_type)) ||
        (p->bias != NULL && !aligned(p->bias, p->cols, p->out_type)))
        return SWT_FAIL(INTERNAL, "cuda: gemm: a tensor is not aligned to %d bytes", TENSOR_ALIGN);
    if (c->workspace == NULL)
        return SWT_FAIL(INTERNAL, "cuda: gemm: the context has no workspace; it needs %d bytes",
                        SWT_CUDA_WORKSPACE_BYTES);
    return SWT_OK;
}

static cudaDataType_t cuda_type(swt_dtype type) {
    return type == SWT_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* Set an attribute of a descriptor to what a variable of the attribute's type holds. */
#define SET(function, object, attribute, variable)                                                 \
    SWT_TRY(SWT_CUBLAS(function((object), (attribute), &(variable), sizeof(variable))))

#define SET_LAYOUT(...)     SET(cublasLtMatrixLayoutSetAttribute, __VA_ARGS__)
#define SET_DESC(...)       SET(cublasLtMatmulDescSetAttribute, __VA_ARGS__)
#define SET_PREFERENCE(...) SET(cublasLtMatmulPreferenceSetAttribute, __VA_ARGS__)

/* A row-major matrix (rows, cols) in memory: column-major (cols, rows). */
static swt_status make_layout(cublasLtMatrixLayout_t out, swt_dtype type, bool transposed,
                              int64_t rows, int64_t cols) {
    const int64_t height = transposed ? rows : cols, width = transposed ? cols : rows;
    return SWT_CUBLAS(
        cublasLtMatrixLayoutInit(out, cuda_type(type), (uint64_t)height, (uint64_t)width, height));
}

static swt_status make_desc(plan *n, const swt_cuda_gemm *p) {
    const cublasLtMatmulDesc_t desc = &n->desc;
    const int32_t first = p->b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int32_t second = p->a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    uint32_t epilogue = p->relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
    if (p->bias != NULL)
        epilogue = p->relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
    /* The default type only promises no less precision and range than F32's, by whatever hardware;
     * the environment may have a say in that (TF32, sums of BF16 products). The pedantic one is
     * standard F32 arithmetic. Operands in BF16 need the tensor cores, which multiply them exactly.
     */
    const cublasComputeType_t compute =
        p->a.type == SWT_F32 ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F;
    SWT_TRY(SWT_CUBLAS(cublasLtMatmulDescInit(desc, compute, CUDA_R_32F)));
    SET_DESC(desc, CUBLASLT_MATMUL_DESC_TRANSA, first);
    SET_DESC(desc, CUBLASLT_MATMUL_DESC_TRANSB, second);
    SET_DESC(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    if (p->bias == NULL)
        return SWT_OK;
    /* The heuristic takes the bias's alignment from its address: an example, that it does not
     * depend on where this one lies. */
    const void *const example = (const void *)(uintptr_t)alignment(p->cols, p->out_type);
    SET_DESC(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, example);
    return SWT_OK;
}

static swt_status make_layouts(plan *n, const swt_cuda_gemm *p) {
    SWT_TRY(make_layout(&n->first, p->b.type, p->b.transposed, p->inner, p->cols));
    SWT_TRY(make_layout(&n->second, p->a.type, p->a.transposed, p->rows, p->inner));
    return make_layout(&n->out, p->out_type, false, p->rows, p->cols);
}

/* What an algorithm must keep to. One that stands in batches has its sums in one piece: pieces that
 * are added in the workspace would need more of it the larger the batch. */
static swt_status make_wish(cublasLtMatmulPreference_t wish, const swt_cuda_gemm *p) {
    const bool batched = p->out_stride != 0;
    const uint64_t workspace_bytes = workspace_of(p);
    const uint32_t reduction =
        batched ? CUBLASLT_REDUCTION_SCHEME_NONE : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t first_align = alignment(p->inner * p->cols, p->b.type);
    const uint32_t second_align = alignment(p->rows * p->inner, p->a.type);
    const uint32_t out_align = alignment(p->rows * p->cols, p->out_type);
    SWT_TRY(SWT_CUBLAS(cublasLtMatmulPreferenceInit(wish)));
    SET_PREFERENCE(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
    SET_PREFERENCE(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reduction);
    SET_PREFERENCE(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, first_align);
    SET_PREFERENCE(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, second_align);
    SET_PREFERENCE(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out_align);
    SET_PREFERENCE(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out_align);
    return SWT_OK;
}

static swt_status set_batch(plan *n, const swt_cuda_gemm *p) {
    const struct {
        cublasLtMatrixLayout_t layout;
        int64_t stride;
    } all[] = {{&n->first, p->b.stride}, {&n->second, p->a.stride}, {&n->out, p->out_stride}};
    const int32_t batch = (int32_t)p->batch;
    for (int i = 0; i < 3; i++) {
        SET_LAYOUT(all[i].layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, batch);
        SET_LAYOUT(all[i].layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, all[i].stride);
    }
    if (p->bias != NULL)
        SET_DESC(&n->desc, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, p->bias_stride);
    return SWT_OK;
}

/* Two of it, one behind the other, stand for every batch when its algorithm is chosen: neither the
 * batch nor its strides, which tell how experts and ranks are cut, may have a say. */
static swt_cuda_gemm pair_of(const swt_cuda_gemm *p) {
    swt_cuda_gemm two = *p;
    two.batch = 2;
    two.a.stride = p->rows * p->inner;
    two.b.stride = p->inner * p->cols;
    two.out_stride = p->rows * p->cols;
    two.bias_stride = p->cols;
    return two;
}

static cublasStatus_t check_algorithm(swt_cuda_gemms *gemms, plan *n,
                                      const cublasLtMatmulAlgo_t *algorithm, size_t *bytes) {
    cublasLtMatmulHeuristicResult_t found = {0};
    const cublasStatus_t status = cublasLtMatmulAlgoCheck(
        gemms->handle, &n->desc, &n->first, &n->second, &n->out, &n->out, algorithm, &found);
    *bytes = found.workspaceSize;
    return status;
}

/* The first of the library's proposals that does what the gemm needs (not every algorithm does
 * batches), or our own kernel. The library may also say NOT_SUPPORTED where it proposes nothing. */
static swt_status choose_algorithm(swt_cuda_gemms *gemms, plan *n, const swt_cuda_gemm *p) {
    cublasLtMatmulPreferenceOpaque_t wish;
    cublasLtMatmulHeuristicResult_t found[PROPOSALS] = {0};
    int count = 0;
    SWT_TRY(make_wish(&wish, p));
    if (p->out_stride != 0) {
        const swt_cuda_gemm two = pair_of(p);
        SWT_TRY(set_batch(n, &two));
    }
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(gemms->handle, &n->desc, &n->first, &n->second, &n->out,
                                       &n->out, &wish, PROPOSALS, found, &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED)
        count = 0;
    else
        SWT_TRY(cublas_check(status, "cublasLtMatmulAlgoGetHeuristic", __LINE__));
    n->plain = true;
    for (int i = 0; n->plain && i < count; i++) {
        size_t bytes = 0;
        n->algorithm = found[i].algo;
        n->plain = found[i].state != CUBLAS_STATUS_SUCCESS ||
                   check_algorithm(gemms, n, &n->algorithm, &bytes) != CUBLAS_STATUS_SUCCESS ||
                   bytes > workspace_of(p);
    }
    return SWT_OK;
}

/* The batch as it is comes after the choice. */
static swt_status make_batch(swt_cuda_gemms *gemms, plan *n, const swt_cuda_gemm *p) {
    size_t bytes = 0;
    if (n->plain || p->out_stride == 0)
        return SWT_OK;
    SWT_TRY(set_batch(n, p));
    SWT_TRY(cublas_check(check_algorithm(gemms, n, &n->algorithm, &bytes),
                         "cublasLtMatmulAlgoCheck", __LINE__));
    if (bytes > SWT_CUDA_WORKSPACE_BYTES)
        return SWT_FAIL(INTERNAL,
                        "cuda: %lld gemms of (%lld, %lld, %lld) need %zu bytes of workspace, "
                        "%d are there; use more ranks for the experts",
                        (long long)p->batch, (long long)p->rows, (long long)p->cols,
                        (long long)p->inner, bytes, SWT_CUDA_WORKSPACE_BYTES);
    return SWT_OK;
}

/* A place for a new plan: that of the oldest one where there is no other. A stream takes what it
 * needs of a plan when it takes the gemm. */
static plan *new_place(swt_cuda_gemms *gemms) {
    if (gemms->count < PLANS)
        return &gemms->plans[gemms->count++];
    plan *const oldest = &gemms->plans[gemms->oldest];
    gemms->oldest = (gemms->oldest + 1) % PLANS;
    return oldest;
}

/* The plan for this gemm: a known one, or a new one. A plan that could not be made has the key
 * of no gemm. */
static swt_status find_plan(swt_cuda_gemms *gemms, const swt_cuda_gemm *p, plan **out) {
    const plan_key key = key_of(p);
    for (int i = 0; i < gemms->count; i++) {
        *out = &gemms->plans[i];
        if (memcmp(&(*out)->key, &key, sizeof key) == 0)
            return SWT_OK;
    }
    plan *const n = new_place(gemms);
    memset(n, 0, sizeof *n);
    SWT_TRY(make_desc(n, p));
    SWT_TRY(make_layouts(n, p));
    SWT_TRY(choose_algorithm(gemms, n, p));
    SWT_TRY(make_batch(gemms, n, p));
    n->key = key;
    *out = n;
    return SWT_OK;
}

swt_status swt_cuda_multiply(const swt_ctx *c, const swt_cuda_gemm *p) {
    const float one = 1, beta = p->add != NULL ? 1 : 0;
    swt_cuda_gemms *gemms = swt_cuda_device_of(c)->gemms;
    plan *n = NULL;
    if (p->rows == 0 || p->cols == 0 || p->batch == 0)
        return SWT_OK;
    if (p->inner == 0)
        return swt_cuda_multiply_plain(c, p); /* no matrix of cuBLASLt is empty */
    SWT_TRY(check(c, p));
    SWT_TRY(find_plan(gemms, p, &n));
    if (n->plain)
        return swt_cuda_multiply_plain(c, p);
    if (p->bias != NULL)
        SET_DESC(&n->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p->bias);
    return SWT_CUBLAS(cublasLtMatmul(gemms->handle, &n->desc, &one, p->b.data, &n->first, p->a.data,
                                     &n->second, &beta, p->add != NULL ? p->add : p->out, &n->out,
                                     p->out, &n->out, &n->algorithm, c->workspace,
                                     SWT_CUDA_WORKSPACE_BYTES, swt_cuda_stream(c)));
}
