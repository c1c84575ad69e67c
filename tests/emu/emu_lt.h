/* What the emulated cuBLASLt keeps in its opaque structures. */
#ifndef SWT_EMU_LT_H
#define SWT_EMU_LT_H

#include <cublasLt.h>
#include <stdint.h>

typedef struct lt_layout {
    uint32_t magic;
    int32_t type, order, batch;
    uint64_t rows, columns;
    int64_t ld, stride;
    uint32_t batch_mode, unused;
} lt_layout;

typedef struct lt_desc {
    uint32_t magic;
    int32_t compute, scale, pointer_mode, trans_a, trans_b, trans_c, fill, bias_type;
    uint32_t epilogue;
    const void *bias;
    int64_t bias_stride;
} lt_desc;

typedef struct lt_preference {
    uint32_t magic, search, reduction;
    uint32_t align[4]; /* of a, b, c, d */
    float waves;
    uint64_t workspace_bytes, implementations;
} lt_preference;

/* An algorithm is good for one shape: all that describes a product but its batch. Each has an order
 * of its sums of its own. */
typedef struct lt_algorithm {
    uint64_t magic;
    uint64_t shape;           /* swt_emu_lt_shape */
    uint32_t align[4];        /* of a, b, c, d */
    uint32_t bias_align;      /* where there is a bias */
    uint32_t workspace_bytes; /* of one product */
    int32_t steps;            /* of k that are summed by themselves */
    int32_t batches;          /* it does strided batches, too */
} lt_algorithm;

_Static_assert(sizeof(lt_layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "room");
_Static_assert(sizeof(lt_desc) <= sizeof(cublasLtMatmulDescOpaque_t), "room");
_Static_assert(sizeof(lt_preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "room");
_Static_assert(sizeof(lt_algorithm) <= sizeof(cublasLtMatmulAlgo_t), "room");

/* Copy out of the opaque structures; INVALID_VALUE where they are NULL or not initialised. */
cublasStatus_t swt_emu_lt_layout(lt_layout *out, cublasLtMatrixLayout_t from);
cublasStatus_t swt_emu_lt_desc(lt_desc *out, cublasLtMatmulDesc_t from);
cublasStatus_t swt_emu_lt_preference(lt_preference *out, cublasLtMatmulPreference_t from);

/* Say on standard error why a call is refused, and return the status. */
cublasStatus_t swt_emu_lt_refuse(cublasStatus_t status, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
