#include "train/report.h"

#include "model/cost.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

swt_status swt_report_alloc(const swt_model *m, double **rows) {
    *rows = calloc((size_t)(m->dims.M * swt_stats_count(&m->dims)), sizeof **rows);
    if (*rows == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for the statistics of %lld micro-batches",
                        (long long)m->dims.M);
    return SWT_OK;
}

static swt_status gather_rows(swt_model *m, double *rows) {
    const int64_t S = swt_stats_count(&m->dims), M = m->dims.M;
    memset(rows, 0, (size_t)(M * S) * sizeof *rows);
    for (int64_t turn = 0; turn < m->turns; turn++) {
        const int64_t number = swt_dist_micro_batch(m->dist, M, turn, m->dist->rank);
        if (number >= 0)
            SWT_TRY(swt_model_read(m, rows + number * S, m->acts.stats + turn * S,
                                   (size_t)S * sizeof *rows));
    }
    return swt_comm_share_f64(m->dist->host, rows, M * S, NULL);
}

/* Load of one layer over the global batch: (E) counts, from that column of the rows on, summed over
 * micro-batches. */
static void add_load(const swt_model *m, const double *rows, int64_t column, double *routed,
                     swt_report *out) {
    const int64_t E = m->dims.E, S = swt_stats_count(&m->dims);
    double total = 0.0, squares = 0.0;
    for (int64_t e = 0; e < E; e++)
        for (int64_t i = 0; i < m->dims.M; i++)
            total += rows[i * S + column + e];
    *routed += total;
    if (total == 0.0)
        return;
    for (int64_t e = 0; e < E; e++) {
        double count = 0.0;
        for (int64_t i = 0; i < m->dims.M; i++)
            count += rows[i * S + column + e];
        const double load = count * (double)E / total;
        out->load_max = fmax(out->load_max, load);
        out->load_min = fmin(out->load_min, load);
        squares += (load - 1.0) * (load - 1.0);
    }
    out->load_cv += sqrt(squares / (double)E);
}

swt_status swt_report_gather(swt_model *m, double *rows, int64_t targets, swt_report *out) {
    const swt_dims *d = &m->dims;
    const int64_t S = swt_stats_count(d), sparse = swt_sparse_layers(d);
    swt_progress_phase(m->dist->host->progress, SWT_PHASE_ROW);
    SWT_TRY(gather_rows(m, rows));
    *out = (swt_report){.load_min = sparse > 0 ? INFINITY : 0.0};
    double routed = 0.0, dropped = 0.0;
    for (int64_t i = 0; i < d->M; i++) {
        const double *row = rows + i * S;
        out->ce += row[SWT_LOSS_SUM];
        out->accuracy += row[SWT_LOSS_CORRECT];
        out->output_z += row[SWT_LOSS_Z];
        for (int64_t l = 0; l < sparse; l++) {
            const double *layer = row + swt_stats_layer(d, l);
            out->aux += layer[SWT_ROUTER_AUX];
            out->z += layer[SWT_ROUTER_Z];
            dropped += layer[SWT_ROUTER_DROPPED];
        }
    }
    for (int64_t l = 0; l < sparse; l++)
        add_load(m, rows, swt_stats_layer(d, l) + SWT_ROUTER_LOAD, &routed, out);
    if (out->load_min == INFINITY)
        out->load_min = 0.0;
    const double real = targets > 0 ? (double)targets : 1.0;
    const double layers = d->aux_layers == SWT_AUX_LAYERS_MEAN && sparse > 0 ? (double)sparse : 1.0;
    out->ce /= real;
    out->accuracy /= real;
    out->output_z /= real;
    out->aux /= (double)d->M * layers;
    out->z /= (double)d->M * layers;
    out->loss = out->ce + d->aux_coef * out->aux + d->z_coef * out->z;
    if (d->output_z_coef > 0.0)
        out->loss += d->output_z_coef * out->output_z;
    if (isnan(out->loss)) /* whose bits else depend on the order of operands */
        out->loss = (double)NAN;
    out->dropped = routed > 0.0 ? dropped / routed : 0.0;
    out->load_cv = sparse > 0 ? out->load_cv / (double)sparse : 0.0;
    out->flops_useful = swt_step_flops(d, routed - dropped);
    out->flops_padded = swt_step_flops(d, swt_step_slots(d));
    return SWT_OK;
}
