/* The numbers of one step over the whole global batch, from the micro-batches' statistics. */
#ifndef SWT_TRAIN_REPORT_H
#define SWT_TRAIN_REPORT_H

#include "train/session.h"

typedef struct swt_report {
    /* ce + aux_coef aux + z_coef z + output_z_coef output_z; all that is no number has the bits of
     * one NaN */
    double loss;
    double ce, output_z; /* cross-entropy and the logits' z-loss, per target */
    double aux, z;       /* of the routers, over the layers, mean of micro-batches */
    double accuracy;     /* share of targets that had the largest logit */
    double dropped;      /* share of the routed tokens that were dropped */
    double load_max,
        load_min;   /* tokens of an expert over its fair share, largest and least of any layer */
    double load_cv; /* standard deviation of that over the experts, mean over layers */
    double flops_useful, flops_padded; /* of the step: occupied slots alone, all slots */
} swt_report;

/* Rows of statistics, (M, swt_stats_count), as room for swt_report_gather. */
SWT_MUST_CHECK swt_status swt_report_alloc(const swt_model *m, double **rows);

/* Collective: the statistics of the step just done, combined in the order of the micro-batches, the
 * same on every rank. targets: the number that the cross-entropy was divided by. */
SWT_MUST_CHECK swt_status swt_report_gather(swt_model *m, double *rows, int64_t targets,
                                            swt_report *out);

#endif
