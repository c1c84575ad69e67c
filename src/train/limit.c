#include "train/limit.h"

/* Between two looks at the clock (stop.c), and for what is not measured: rows, samples, the end. */
static const double SPARE_MS = 250.0;

void swt_limit_open(swt_limit *limit, const swt_session *s) {
    const double seconds = (double)s->options->run_max_seconds;
    const double bytes = 3.0 * (double)s->model.params.end * (double)sizeof(float);
    *limit = (swt_limit){.save_ms = 1000.0 + bytes / 50e3};
    if (seconds > 0.0)
        limit->end_ms = s->start_ms + 1e3 * seconds;
}

void swt_limit_note(double *most_ms, double ms) {
    *most_ms = ms > *most_ms ? ms : *most_ms;
}

double swt_limit_until(const swt_limit *limit, const swt_options *o, int64_t step,
                       const swt_saver *saver) {
    const int evaluations =
        swt_comes_every(o->train_eval_every, step) + swt_comes_every(o->train_eval_every, step + 1);
    const int saves = saver->under_way + swt_comes_every(o->train_checkpoint_every, step) + 1;
    const double save_ms = saver->took_ms > 0.0 ? saver->took_ms : limit->save_ms;
    if (limit->end_ms == 0.0)
        return 0.0;
    return limit->end_ms - SPARE_MS - limit->step_ms - evaluations * limit->eval_ms -
           saves * save_ms;
}
