/* The tensors of attention's operations. */
#include "kernels/check.h"

#define BIAS OPTIONAL(bias, F32, d->H, SWT_BIAS_DISTANCES)

SWT_ARGS_OF(bias_forward) {
    return SWT_LIST(OUT(bias, F32, a->H, SWT_BIAS_DISTANCES),
                    IN(table, F32, SWT_BIAS_BUCKETS, a->H));
}

SWT_ARGS_OF(bias_backward) {
    return SWT_LIST(OUT(dtable, F32, SWT_BIAS_BUCKETS, a->H),
                    IN(dbias, F32, a->H, SWT_BIAS_DISTANCES));
}

static swt_status check_attention(const swt_attention_dims *d, const char *op) {
    if (d->D > SWT_HEAD_WIDTH_MAX)
        return SWT_FAIL(SHAPE, "%s: heads of %lld features; up to %d are possible", op,
                        (long long)d->D, SWT_HEAD_WIDTH_MAX);
    const int64_t row = SWT_COUNT(d->H, d->D);
    if (d->q_stride < row || d->kv_stride < row)
        return SWT_FAIL(SHAPE,
                        "%s: q_stride %lld, kv_stride %lld; they must be >= H D = %lld, a row", op,
                        (long long)d->q_stride, (long long)d->kv_stride, (long long)row);
    if (d->Tq > INT32_MAX || d->Tk > INT32_MAX || d->q_stride > INT32_MAX ||
        d->kv_stride > INT32_MAX)
        return SWT_FAIL(
            SHAPE, "%s: Tq %lld, Tk %lld, q_stride %lld, kv_stride %lld; they must be < 2^31", op,
            (long long)d->Tq, (long long)d->Tk, (long long)d->q_stride, (long long)d->kv_stride);
    const int64_t draws = SWT_COUNT(d->Tq, swt_dropout_draws(d->Tk));
    if (d->dropout.limit > 0 && (draws < 0 || draws - 1 > UINT32_MAX))
        return SWT_FAIL(SHAPE,
                        "%s: Tq %lld, Tk %lld are too many for dropout; Tq Tk must be <= 2^34", op,
                        (long long)d->Tq, (long long)d->Tk);
    return SWT_OK;
}

SWT_ARGS_OF(attention_forward) {
    const swt_attention_dims *d = &a->dims;
    const int64_t row = SWT_COUNT(d->H, d->D);
    SWT_TRY(check_attention(d, out->op));
    out->state = d->dropout.limit > 0;
    return SWT_LIST(OUT(y, ACT, d->B, d->Tq, d->H, d->D), OUT(lse, F32, d->B, d->H, d->Tq),
                    swt_arg_rows(IN(q, ACT, d->B, d->Tq, d->H, d->D), row, d->q_stride),
                    swt_arg_rows(IN(k, ACT, d->B, d->Tk, d->H, d->D), row, d->kv_stride),
                    swt_arg_rows(IN(v, ACT, d->B, d->Tk, d->H, d->D), row, d->kv_stride),
                    OPTIONAL(key_lengths, I32, d->B), BIAS);
}

SWT_ARGS_OF(attention_backward) {
    const swt_attention_dims *d = &a->dims;
    const int64_t row = SWT_COUNT(d->H, d->D);
    SWT_TRY(check_attention(d, out->op));
    out->state = d->dropout.limit > 0;
    if (a->dbias != NULL && a->bias == NULL)
        return SWT_FAIL(SHAPE, "%s: dbias without a bias", out->op);
    return SWT_LIST(
        swt_arg_rows(OUT(dq, ACT, d->B, d->Tq, d->H, d->D), row, d->q_stride),
        swt_arg_rows(OUT(dk, ACT, d->B, d->Tk, d->H, d->D), row, d->kv_stride),
        swt_arg_rows(OUT(dv, ACT, d->B, d->Tk, d->H, d->D), row, d->kv_stride),
        SWT_ARG(swt_arg_gradient(a->add) | SWT_ARG_OPTIONAL, dbias, F32, d->H, SWT_BIAS_DISTANCES),
        IN(dy, ACT, d->B, d->Tq, d->H, d->D),
        swt_arg_rows(IN(q, ACT, d->B, d->Tq, d->H, d->D), row, d->q_stride),
        swt_arg_rows(IN(k, ACT, d->B, d->Tk, d->H, d->D), row, d->kv_stride),
        swt_arg_rows(IN(v, ACT, d->B, d->Tk, d->H, d->D), row, d->kv_stride),
        OPTIONAL(key_lengths, I32, d->B), BIAS, IN(y, ACT, d->B, d->Tq, d->H, d->D),
        IN(lse, F32, d->B, d->H, d->Tq),
        SCRATCH(scratch, U8, a->bias != NULL ? swt_attention_backward_scratch_bytes(d) : 0));
}

/* Room for the sums of each head of each sequence and block of its queries, of which a GPU has one
 * for 64. */
int64_t swt_attention_backward_scratch_bytes(const swt_attention_dims *d) {
    const int64_t block = 64, sums = SWT_COUNT(d->B, d->H, d->Tq / block + 1, SWT_BIAS_DISTANCES);
    int64_t bytes = 0;
    if (d->Tq < 0 || sums < 0 || !swt_checked_mul(sums, (int64_t)sizeof(float), &bytes))
        return -1;
    return bytes;
}
