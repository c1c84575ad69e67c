/* cuBLASLt's descriptors and attributes, emulated. */
#include "tests/emu/emu_lt.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { LAYOUT_MAGIC = 0x4c41594f, DESC_MAGIC = 0x44455343, PREFERENCE_MAGIC = 0x50524546 };

cublasStatus_t swt_emu_lt_refuse(cublasStatus_t status, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fputs("emulated cublasLt: ", stderr);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, " (%s)\n", cublasLtGetStatusName(status));
    va_end(args);
    return status;
}

/* An attribute and where it lies. */
typedef struct field {
    int attribute;
    size_t at, bytes;
} field;

#define FIELD(attribute, structure, member)                                                        \
    { (attribute), offsetof(structure, member), sizeof(((structure *)0)->member) }

static const field layout_fields[] = {
    FIELD(CUBLASLT_MATRIX_LAYOUT_TYPE, lt_layout, type),
    FIELD(CUBLASLT_MATRIX_LAYOUT_ORDER, lt_layout, order),
    FIELD(CUBLASLT_MATRIX_LAYOUT_ROWS, lt_layout, rows),
    FIELD(CUBLASLT_MATRIX_LAYOUT_COLS, lt_layout, columns),
    FIELD(CUBLASLT_MATRIX_LAYOUT_LD, lt_layout, ld),
    FIELD(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, lt_layout, batch),
    FIELD(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, lt_layout, stride),
    FIELD(CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, lt_layout, batch_mode),
};

static const field desc_fields[] = {
    FIELD(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, lt_desc, compute),
    FIELD(CUBLASLT_MATMUL_DESC_SCALE_TYPE, lt_desc, scale),
    FIELD(CUBLASLT_MATMUL_DESC_POINTER_MODE, lt_desc, pointer_mode),
    FIELD(CUBLASLT_MATMUL_DESC_TRANSA, lt_desc, trans_a),
    FIELD(CUBLASLT_MATMUL_DESC_TRANSB, lt_desc, trans_b),
    FIELD(CUBLASLT_MATMUL_DESC_TRANSC, lt_desc, trans_c),
    FIELD(CUBLASLT_MATMUL_DESC_FILL_MODE, lt_desc, fill),
    FIELD(CUBLASLT_MATMUL_DESC_EPILOGUE, lt_desc, epilogue),
    FIELD(CUBLASLT_MATMUL_DESC_BIAS_POINTER, lt_desc, bias),
    FIELD(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, lt_desc, bias_stride),
    FIELD(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, lt_desc, bias_type),
};

static const field preference_fields[] = {
    FIELD(CUBLASLT_MATMUL_PREF_SEARCH_MODE, lt_preference, search),
    FIELD(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, lt_preference, workspace_bytes),
    FIELD(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, lt_preference, reduction),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, lt_preference, align[0]),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, lt_preference, align[1]),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, lt_preference, align[2]),
    FIELD(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, lt_preference, align[3]),
    FIELD(CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, lt_preference, waves),
    FIELD(CUBLASLT_MATMUL_PREF_IMPL_MASK, lt_preference, implementations),
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* The structures begin with their magic. */
static bool is(const void *opaque, uint32_t magic) {
    return opaque != NULL && memcmp(opaque, &magic, sizeof magic) == 0;
}

typedef struct kind {
    const char *name;
    uint32_t magic;
    const field *fields;
    size_t count;
} kind;

static const kind layouts = {"matrix layout", LAYOUT_MAGIC, layout_fields, COUNT(layout_fields)};
static const kind descs = {"matmul descriptor", DESC_MAGIC, desc_fields, COUNT(desc_fields)};
static const kind preferences = {"matmul preference", PREFERENCE_MAGIC, preference_fields,
                                 COUNT(preference_fields)};

static cublasStatus_t find(const kind *k, const void *opaque, int attribute, const field **out) {
    if (!is(opaque, k->magic))
        return swt_emu_lt_refuse(CUBLAS_STATUS_INVALID_VALUE, "no %s", k->name);
    for (size_t i = 0; i < k->count; i++)
        if (k->fields[i].attribute == attribute) {
            *out = &k->fields[i];
            return CUBLAS_STATUS_SUCCESS;
        }
    return swt_emu_lt_refuse(CUBLAS_STATUS_INVALID_VALUE, "%s: attribute %d is not emulated",
                             k->name, attribute);
}

static cublasStatus_t set(const kind *k, void *opaque, int attribute, const void *value,
                          size_t bytes) {
    const field *f = NULL;
    const cublasStatus_t status = find(k, opaque, attribute, &f);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    if (value == NULL || bytes != f->bytes)
        return swt_emu_lt_refuse(CUBLAS_STATUS_INVALID_VALUE,
                                 "%s: attribute %d of %zu bytes was given %zu", k->name, attribute,
                                 f->bytes, bytes);
    memcpy((unsigned char *)opaque + f->at, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t copy_out(const kind *k, void *out, size_t bytes, const void *from) {
    if (!is(from, k->magic))
        return swt_emu_lt_refuse(CUBLAS_STATUS_INVALID_VALUE, "no %s", k->name);
    memcpy(out, from, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t swt_emu_lt_layout(lt_layout *out, cublasLtMatrixLayout_t from) {
    return copy_out(&layouts, out, sizeof *out, from);
}

cublasStatus_t swt_emu_lt_desc(lt_desc *out, cublasLtMatmulDesc_t from) {
    return copy_out(&descs, out, sizeof *out, from);
}

cublasStatus_t swt_emu_lt_preference(lt_preference *out, cublasLtMatmulPreference_t from) {
    return copy_out(&preferences, out, sizeof *out, from);
}

/* The call that is alike for every kind of structure. */
#define ATTRIBUTES(object, attribute_type, kind)                                                   \
    cublasStatus_t cublasLt##object##SetAttribute(                                                 \
        cublasLt##object##_t o, attribute_type attribute, const void *value, size_t bytes) {       \
        return set(&(kind), o, (int)attribute, value, bytes);                                      \
    }

/* What Init writes: own, at the beginning of an opaque structure. */
static cublasStatus_t init(void *opaque, size_t size, size_t least, const void *own, size_t bytes) {
    if (opaque == NULL || size < least)
        return CUBLAS_STATUS_ALLOC_FAILED;
    memcpy(opaque, own, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

/* ------------------------------------------------------------------ matrix layouts */

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t cols,
                                                 int64_t ld) {
    const lt_layout own = {.magic = LAYOUT_MAGIC,
                           .type = (int32_t)type,
                           .order = CUBLASLT_ORDER_COL,
                           .batch = 1,
                           .rows = rows,
                           .columns = cols,
                           .ld = ld};
    return init(layout, size, sizeof *layout, &own, sizeof own);
}

ATTRIBUTES(MatrixLayout, cublasLtMatrixLayoutAttribute_t, layouts)

/* ------------------------------------------------------------------ matmul descriptors */

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t desc, size_t size,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
    const lt_desc own = {.magic = DESC_MAGIC,
                         .compute = (int32_t)compute,
                         .scale = (int32_t)scale,
                         .pointer_mode = CUBLASLT_POINTER_MODE_HOST,
                         .trans_a = CUBLAS_OP_N,
                         .trans_b = CUBLAS_OP_N,
                         .trans_c = CUBLAS_OP_N,
                         .fill = CUBLAS_FILL_MODE_FULL,
                         .bias_type = -1,
                         .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    return init(desc, size, sizeof *desc, &own, sizeof own);
}

ATTRIBUTES(MatmulDesc, cublasLtMatmulDescAttributes_t, descs)

/* ------------------------------------------------------------------ preferences */

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference,
                                                     size_t size) {
    const lt_preference own = {.magic = PREFERENCE_MAGIC,
                               .search = CUBLASLT_SEARCH_BEST_FIT,
                               .reduction = CUBLASLT_REDUCTION_SCHEME_MASK,
                               .align = {256, 256, 256, 256},
                               .implementations = ~(uint64_t)0};
    return init(preference, size, sizeof *preference, &own, sizeof own);
}

ATTRIBUTES(MatmulPreference, cublasLtMatmulPreferenceAttributes_t, preferences)

/* ------------------------------------------------------------------ algorithms */

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void *value, size_t bytes, size_t *written) {
    lt_algorithm own;
    if (algo == NULL || value == NULL || bytes != sizeof(uint32_t) || written == NULL)
        return swt_emu_lt_refuse(CUBLAS_STATUS_INVALID_VALUE,
                                 "algorithm: attribute %d of %zu bytes", (int)attribute, bytes);
    memcpy(&own, algo, sizeof own);
    const uint32_t split = attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM;
    const uint32_t told = attribute == CUBLASLT_ALGO_CONFIG_ID ? (uint32_t)own.steps : split;
    memcpy(value, &told, sizeof told);
    *written = sizeof told;
    return CUBLAS_STATUS_SUCCESS;
}
