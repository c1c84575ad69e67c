/* A case: one call of one operation, judged. What all cases do is done here, by the operation's row
 * in kernels/swt_op_table.h: tensors are made, filled, handed to the backend, taken back, and what
 * was no output must not have changed. A case itself is a few lines: its dimensions and what is
 * particular about its inputs (draw), and the oracle's answer with the error that is allowed
 * (judge).
 *
 *     void swt_draw_cast(swt_case *k, void *args) {
 *         swt_cast_args *a = args;
 *         swt_case_dim(k, "n", &a->n, swt_trial_choose(k->t, 1, 1300));
 *     }
 *
 *     void swt_judge_cast(swt_case *k, const void *args) {
 *         const swt_cast_args *a = args;
 *         swt_case_close(k, a->to, swt_case_wide(k, a->from), 0, 0);
 *     }
 *
 * Tensors that draw leaves NULL are made by the row: inputs and what an operation updates hold
 * numbers uniform in [-1, 1), whole ones 0, and outputs NaN. The bits of `choices`, which is the
 * case's number where draw says nothing else, say which optional tensors are given, and whether a
 * tensor that may be the first output is. */
#ifndef SWT_JUDGE_CASE_H
#define SWT_JUDGE_CASE_H

#include "judge/trial.h"
#include "kernels/swt_op_table.h"

enum { SWT_CASES = 16, SWT_CASE_DIMS = 12 };

typedef struct swt_case {
    swt_trial *t;
    int op;            /* SWT_OP_... */
    int number;        /* counted from 0; what a case does by turns goes by it */
    unsigned choices;  /* a bit for each, in the order of the list */
    swt_any_args host; /* the arguments, with the host's tensors */
    swt_arg_list list; /* of them */
    int64_t *dims[SWT_CASE_DIMS];
    int n_dims;
} swt_case;

/* Draw, run and judge the SWT_CASES cases of an operation, and where the backend has BF16 once more
 * with activations of that type. op: SWT_OP_... Errors: those of the operation. */
SWT_MUST_CHECK swt_status swt_case_run_all(swt_trial *t, int op);

/* The arguments and tensors of one case, for swt_trial_call. */
SWT_MUST_CHECK swt_status swt_case_make(swt_trial *t, int op, int number, swt_case *out);

/* Into these arguments the tensors that are missing, as draw's; optional ones stay missing. */
SWT_MUST_CHECK swt_status swt_case_fill(swt_trial *t, int op, swt_any_args *args);

/* What makes and judges the cases of each operation. */
#define SWT_CASE_FUNCTIONS(op)                                                                     \
    void swt_draw_##op(swt_case *k, void *args);                                                   \
    void swt_judge_##op(swt_case *k, const void *args);
SWT_OPS(SWT_CASE_FUNCTIONS)
#undef SWT_CASE_FUNCTIONS

/* ---- for draw */

/* A dimension of the arguments gets this value; a number of another kind, which is returned.
 * Messages tell both. */
void swt_case_dim(swt_case *k, const char *name, int64_t *dim, int64_t value);
int64_t swt_case_note(swt_case *k, const char *name, int64_t value);

/* An input of activations (or of the type that is given), uniform in [low, high). */
void *swt_case_uniform(swt_case *k, int64_t count, swt_dtype dtype, double low, double high);

/* The same, of whole numbers from low to high; zeros have either sign. */
void *swt_case_whole(swt_case *k, int64_t count, swt_dtype dtype, int low, int high);

/* Slots (blocks, K, width), inputs: those that counts[block] says are occupied hold numbers uniform
 * in [-1, 1), those below `least` replaced by it; the others hold `empty`. */
void *swt_case_slots(swt_case *k, const int32_t *counts, int64_t blocks, int64_t K, int64_t width,
                     swt_dtype dtype, float least, float empty);

/* An input that holds these numbers, rounded. */
void *swt_case_rounded(swt_case *k, const double *numbers, int64_t count, swt_dtype dtype);

/* In arguments of the case, its own or a copy, another tensor (or NULL) takes this one's place. */
void swt_case_set(const swt_case *k, swt_any_args *args, const swt_arg *arg, const void *tensor);

/* ---- for judge */

/* What a tensor held before the call: as it was, and as doubles. NULL of NULL. */
const void *swt_case_before(const swt_case *k, const void *tensor);
double *swt_case_wide(swt_case *k, const void *tensor);

/* What a tensor holds now, as doubles. */
double *swt_case_got(swt_case *k, const void *tensor);

/* Room for what a tensor should hold: zeros, or of an updated tensor what it held. */
double *swt_case_want(swt_case *k, const void *tensor);

/* As swt_trial_close, of a whole tensor, which may be BF16: then each number may also be rounded
 * once. */
void swt_case_close(swt_case *k, const void *tensor, const double *want, double tolerance,
                    double scale);

/* The same of n elements from `first` on, which should be want[0] and so on. */
void swt_case_close_part(swt_case *k, const void *tensor, int64_t first, int64_t n,
                         const double *want, double tolerance, double scale);

/* A number of a tensor within its own limit; 0: exactly. */
void swt_case_number(swt_case *k, const void *tensor, int64_t i, double want, double limit);

/* The same, and where the tensor is BF16 one rounding to it more. */
void swt_case_near(swt_case *k, const void *tensor, int64_t i, double want, double limit);

/* The slots of a tensor that are not occupied are what they were; zeros: are zeros. */
void swt_case_empty_slots(swt_case *k, const void *tensor, const int32_t *counts, int64_t blocks,
                          int64_t K, int64_t width, bool zeros);

#endif
