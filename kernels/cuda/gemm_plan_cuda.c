/* Making a plan: descriptors, and the first of cuBLASLt's proposals that does what the gemm needs.
 */
#include "kernels/cuda/gemm_plan.h"

#include <string.h>

/* Tensors are aligned to so many bytes (swt_ops.h). */
enum { TENSOR_ALIGN = 64 };

/* How many algorithms cuBLASLt is asked for, best first. */
enum { PROPOSALS = 16 };

swt_status swt_cublas_check(cublasStatus_t status, const char *call, const char *file, int line) {
    if (status == CUBLAS_STATUS_SUCCESS)
        return SWT_OK;
    return swt_fail(SWT_INTERNAL, file, line,
                    "cuda: %.*s: %s (%s); look at the driver's and the library's versions",
                    (int)strcspn(call, "("), call, cublasLtGetStatusName(status),
                    cublasLtGetStatusString(status));
}

/* Every gemm of a layer begins at a tensor's start plus whole matrices of its own size, so this
 * alignment holds wherever it stands, and a gemm's algorithm may rely on it. */
static uint32_t alignment(int64_t elements, swt_dtype type) {
    const uint64_t bytes = (uint64_t)elements * swt_dtype_bytes(type);
    const uint64_t power = bytes & (~bytes + 1); /* the largest that divides it */
    return power < TENSOR_ALIGN ? (uint32_t)power : TENSOR_ALIGN;
}

bool swt_gemm_aligned(const void *memory, int64_t elements, swt_dtype type) {
    return (uintptr_t)memory % alignment(elements, type) == 0;
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

static swt_status make_desc(swt_gemm_plan *n, const swt_cuda_gemm *p) {
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

static swt_status make_layouts(swt_gemm_plan *n, const swt_cuda_gemm *p) {
    SWT_TRY(make_layout(&n->first, p->b.type, p->b.transposed, p->inner, p->cols));
    SWT_TRY(make_layout(&n->second, p->a.type, p->a.transposed, p->rows, p->inner));
    return make_layout(&n->out, p->out_type, false, p->rows, p->cols);
}

/* What an algorithm must keep to. One that stands in batches has its sums in one piece: it has no
 * workspace in which pieces could be added. */
static swt_status make_wish(cublasLtMatmulPreference_t wish, const swt_cuda_gemm *p) {
    const bool batched = p->out_stride != 0;
    const uint64_t workspace_bytes = swt_gemm_workspace_bytes(p);
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

static swt_status set_batch(swt_gemm_plan *n, const swt_cuda_gemm *p) {
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

static cublasStatus_t check_algorithm(cublasLtHandle_t handle, swt_gemm_plan *n,
                                      const cublasLtMatmulAlgo_t *algorithm, size_t *bytes) {
    cublasLtMatmulHeuristicResult_t found = {0};
    const cublasStatus_t status = cublasLtMatmulAlgoCheck(handle, &n->desc, &n->first, &n->second,
                                                          &n->out, &n->out, algorithm, &found);
    *bytes = found.workspaceSize;
    return status;
}

/* The first of the library's proposals that does what the gemm needs (not every algorithm does
 * batches); *found says whether there is one. The library may also say NOT_SUPPORTED where it
 * proposes nothing. */
static swt_status choose_algorithm(cublasLtHandle_t handle, swt_gemm_plan *n,
                                   const swt_cuda_gemm *p, bool *found) {
    cublasLtMatmulPreferenceOpaque_t wish;
    cublasLtMatmulHeuristicResult_t proposals[PROPOSALS] = {0};
    int count = 0;
    *found = false;
    SWT_TRY(make_desc(n, p));
    SWT_TRY(make_layouts(n, p));
    SWT_TRY(make_wish(&wish, p));
    if (p->out_stride != 0) {
        const swt_cuda_gemm two = pair_of(p);
        SWT_TRY(set_batch(n, &two));
    }
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, &n->desc, &n->first, &n->second, &n->out, &n->out,
                                       &wish, PROPOSALS, proposals, &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED)
        return SWT_OK;
    SWT_TRY(swt_cublas_check(status, "cublasLtMatmulAlgoGetHeuristic", __FILE__, __LINE__));
    for (int i = 0; !*found && i < count; i++) {
        n->algorithm = proposals[i].algo;
        *found = proposals[i].state == CUBLAS_STATUS_SUCCESS &&
                 check_algorithm(handle, n, &n->algorithm, &n->workspace_bytes) ==
                     CUBLAS_STATUS_SUCCESS &&
                 n->workspace_bytes <= swt_gemm_workspace_bytes(p);
    }
    return SWT_OK;
}

swt_cuda_gemm swt_gemm_of_library(const swt_cuda_gemm *p, swt_gemm_way way) {
    swt_cuda_gemm rest = *p;
    if (way != SWT_GEMM_BARE)
        return rest;
    rest.add = p->bias != NULL ? p->out : p->add;
    rest.bias = NULL;
    rest.relu = false;
    return rest;
}

/* Bias and ReLU can come before and after the product without a second rounding of a bfloat16; bias
 * and summand together cannot. */
static bool can_be_bare(const swt_cuda_gemm *p) {
    return (p->bias != NULL || p->relu) &&
           (p->out_type == SWT_F32 || p->bias == NULL || p->add == NULL);
}

static void warn_of_slow(const swt_ctx *c, const swt_cuda_gemm *p) {
    if (c->device->warnings != NULL)
        swt_warn(
            c->device->warnings,
            "cuda: cuBLASLt has no algorithm for a gemm of (%lld, %lld, %lld) in %s, so a slow "
            "kernel does it; it has one where width and vocabulary are multiples of 8",
            (long long)p->rows, (long long)p->cols, (long long)p->inner, swt_dtype_name(p->a.type));
}

/* The algorithm comes first, chosen without the batch; then the batch as it is. */
swt_status swt_gemm_plan_make(const swt_ctx *c, cublasLtHandle_t handle, const swt_cuda_gemm *p,
                              swt_gemm_plan *n) {
    swt_cuda_gemm own = *p;
    bool found = false;
    n->way = SWT_GEMM_WHOLE;
    SWT_TRY(choose_algorithm(handle, n, &own, &found));
    if (!found && can_be_bare(p)) {
        n->way = SWT_GEMM_BARE;
        own = swt_gemm_of_library(p, n->way);
        SWT_TRY(choose_algorithm(handle, n, &own, &found));
    }
    if (!found) {
        n->way = SWT_GEMM_PLAIN;
        warn_of_slow(c, p);
        return SWT_OK;
    }
    if (p->out_stride == 0)
        return SWT_OK;
    SWT_TRY(set_batch(n, &own));
    return swt_cublas_check(check_algorithm(handle, n, &n->algorithm, &n->workspace_bytes),
                            "cublasLtMatmulAlgoCheck", __FILE__, __LINE__);
}
