#include "kernels/cuda/gemm_plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Gemms in a model of any depth: a dozen shapes for training and as many for evaluation. Text
 * that is generated between steps has others for each of its 25 lengths; the plans of a step must
 * outlive them. */
enum { PLANS = 1024 };

struct swt_cuda_gemms {
    cublasLtHandle_t handle;
    FILE *told; /* SWT_CUDA_GEMMS; NULL: nobody asks */
    int count;  /* of plans */
    int oldest; /* of them, once all places are taken */
    swt_gemm_plan plans[PLANS];
};

/* ------------------------------------------------------------------ what was chosen */

static uint32_t choice_of(const swt_gemm_plan *n, cublasLtMatmulAlgoConfigAttributes_t attribute) {
    uint32_t value = 0;
    size_t written = 0;
    if (n->way == SWT_GEMM_PLAIN ||
        cublasLtMatmulAlgoConfigGetAttribute(&n->algorithm, attribute, &value, sizeof value,
                                             &written) != CUBLAS_STATUS_SUCCESS)
        return 0;
    return value;
}

static void tell_plan(FILE *f, const swt_gemm_plan *n) {
    static const char *const ways[SWT_GEMM_WAYS] = {"whole", "bare", "plain"};
    const swt_gemm_key *k = &n->key;
    fprintf(f,
            "{\"rows\": %lld, \"cols\": %lld, \"inner\": %lld, \"batch\": %lld, "
            "\"type\": \"%s\", \"out_type\": \"%s\", \"transposed\": \"%s%s\", "
            "\"bias\": %d, \"relu\": %d, \"way\": \"%s\", \"algorithm\": %u, \"tile\": %u, "
            "\"stages\": %u, \"split_k\": %u, \"workspace_bytes\": %zu}\n",
            (long long)k->rows, (long long)k->cols, (long long)k->inner, (long long)k->batch,
            swt_dtype_name((swt_dtype)k->type), swt_dtype_name((swt_dtype)k->out_type),
            k->a_transposed ? "T" : "N", k->b_transposed ? "T" : "N", k->bias, k->relu,
            ways[n->way], choice_of(n, CUBLASLT_ALGO_CONFIG_ID),
            choice_of(n, CUBLASLT_ALGO_CONFIG_TILE_ID),
            choice_of(n, CUBLASLT_ALGO_CONFIG_STAGES_ID),
            choice_of(n, CUBLASLT_ALGO_CONFIG_SPLITK_NUM), n->workspace_bytes);
}

/* launch/gpu-check names a file in SWT_CUDA_GEMMS and asks it which algorithm each gemm got, and
 * which had none. A line is written at once, so that several ranks may append to one file. */
static swt_status open_told(FILE **told) {
    const char *const path = getenv("SWT_CUDA_GEMMS");
    if (path == NULL || path[0] == '\0')
        return SWT_OK;
    *told = fopen(path, "a");
    if (*told == NULL)
        return SWT_FAIL(FILE, "SWT_CUDA_GEMMS: %.200s: %s; name a file that can be written", path,
                        strerror(errno));
    setvbuf(*told, NULL, _IOLBF, 0);
    return SWT_OK;
}

swt_status swt_cuda_gemms_open(swt_cuda_gemms **out) {
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return SWT_FAIL(MEMORY, "cuda: cannot allocate %zu bytes on the host; free some memory",
                        sizeof **out);
    swt_status status = open_told(&(*out)->told);
    if (status == SWT_OK)
        status = SWT_CUBLAS(cublasLtCreate(&(*out)->handle));
    if (status != SWT_OK) {
        swt_cuda_gemms_close(*out);
        *out = NULL;
    }
    return status;
}

/* What fails here has nobody to hear of it. */
void swt_cuda_gemms_close(swt_cuda_gemms *gemms) {
    if (gemms == NULL)
        return;
    if (gemms->told != NULL) {
        for (int i = 0; i < gemms->count; i++)
            if (gemms->plans[i].key.rows > 0)
                tell_plan(gemms->told, &gemms->plans[i]);
        (void)fclose(gemms->told);
    }
    if (gemms->handle != NULL)
        (void)cublasLtDestroy(gemms->handle);
    free(gemms);
}

/* ------------------------------------------------------------------ gemms */

static swt_gemm_key key_of(const swt_cuda_gemm *p) {
    return (swt_gemm_key){.rows = p->rows,
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
    if (!swt_gemm_aligned(p->a.data, p->rows * p->inner, p->a.type) ||
        !swt_gemm_aligned(p->b.data, p->inner * p->cols, p->b.type) ||
        !swt_gemm_aligned(p->out, size, p->out_type) ||
        (p->add != NULL && !swt_gemm_aligned(p->add, size, p->out_type)) ||
        (p->bias != NULL && !swt_gemm_aligned(p->bias, p->cols, p->out_type)))
        return SWT_FAIL(INTERNAL, "cuda: gemm: a tensor lies elsewhere than swt_ops.h promises");
    if (c->workspace == NULL)
        return SWT_FAIL(INTERNAL, "cuda: gemm: the context has no workspace; it needs %d bytes",
                        SWT_CUDA_WORKSPACE_BYTES);
    return SWT_OK;
}

/* A place for a new plan: that of the oldest one where there is no other. A stream takes what it
 * needs of a plan when it takes the gemm. */
static swt_gemm_plan *new_place(swt_cuda_gemms *gemms) {
    if (gemms->count < PLANS)
        return &gemms->plans[gemms->count++];
    swt_gemm_plan *const oldest = &gemms->plans[gemms->oldest];
    gemms->oldest = (gemms->oldest + 1) % PLANS;
    return oldest;
}

/* The plan for this gemm: a known one, or a new one. A plan that could not be made has the key
 * of no gemm. */
static swt_status find_plan(const swt_ctx *c, const swt_cuda_gemm *p, swt_gemm_plan **out) {
    swt_cuda_gemms *gemms = swt_cuda_device_of(c)->gemms;
    const swt_gemm_key key = key_of(p);
    for (int i = 0; i < gemms->count; i++) {
        *out = &gemms->plans[i];
        if (memcmp(&(*out)->key, &key, sizeof key) == 0)
            return SWT_OK;
    }
    swt_gemm_plan *const n = new_place(gemms);
    memset(n, 0, sizeof *n);
    SWT_TRY(swt_gemm_plan_make(c, gemms->handle, p, n));
    n->key = key;
    *out = n;
    return SWT_OK;
}

swt_status swt_cuda_multiply(const swt_ctx *c, const swt_cuda_gemm *p) {
    const float one = 1;
    swt_gemm_plan *n = NULL;
    if (p->rows == 0 || p->cols == 0 || p->batch == 0)
        return SWT_OK;
    if (p->inner == 0)
        return swt_cuda_multiply_plain(c, p); /* no matrix of cuBLASLt is empty */
    SWT_TRY(check(c, p));
    SWT_TRY(find_plan(c, p, &n));
    if (n->way == SWT_GEMM_PLAIN)
        return swt_cuda_multiply_plain(c, p);
    const swt_cuda_gemm own = swt_gemm_of_library(p, n->way);
    const float beta = own.add != NULL ? 1 : 0;
    if (n->way == SWT_GEMM_BARE && p->bias != NULL)
        SWT_TRY(swt_cuda_gemm_bias(c, p));
    if (own.bias != NULL)
        SWT_TRY(SWT_CUBLAS(cublasLtMatmulDescSetAttribute(
            &n->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &own.bias, sizeof own.bias)));
    SWT_TRY(SWT_CUBLAS(cublasLtMatmul(
        swt_cuda_device_of(c)->gemms->handle, &n->desc, &one, own.b.data, &n->first, own.a.data,
        &n->second, &beta, own.add != NULL ? own.add : own.out, &n->out, own.out, &n->out,
        &n->algorithm, c->workspace, swt_gemm_workspace_bytes(p), swt_cuda_stream(c))));
    return n->way == SWT_GEMM_BARE && p->relu ? swt_cuda_gemm_relu(c, p) : SWT_OK;
}
