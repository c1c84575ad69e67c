#include "bench/rows.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

void rows_head(const rows *r) {
    if (r->out == NULL || r->json)
        return;
    for (int i = 0; i < r->n; i++) {
        const column *c = &r->columns[i];
        fprintf(r->out, "%s%*s", i > 0 ? "  " : "", c->decimals < 0 ? -c->width : c->width, c->key);
    }
    fprintf(r->out, "\n");
}

static void add_json(const rows *r, const cell *cells) {
    for (int i = 0; i < r->n; i++) {
        fprintf(r->out, "%s\"%s\": ", i > 0 ? ", " : "{", r->columns[i].key);
        if (r->columns[i].decimals < 0)
            fprintf(r->out, "\"%s\"", cells[i].text);
        else if (isfinite(cells[i].number))
            fprintf(r->out, "%.9g", cells[i].number);
        else
            fprintf(r->out, "null");
    }
    fprintf(r->out, "}\n");
}

static void add_aligned(const rows *r, const cell *cells) {
    for (int i = 0; i < r->n; i++) {
        const column *c = &r->columns[i];
        if (i > 0)
            fprintf(r->out, "  ");
        if (c->decimals < 0)
            fprintf(r->out, "%-*s", c->width, cells[i].text);
        else
            fprintf(r->out, "%*.*f", c->width, c->decimals, cells[i].number);
    }
    fprintf(r->out, "\n");
}

void rows_add(const rows *r, const cell *cells) {
    if (r->out == NULL)
        return;
    if (r->json)
        add_json(r, cells);
    else
        add_aligned(r, cells);
    fflush(r->out);
}

void rows_say(const rows *r, const char *format, ...) {
    if (r->out == NULL || r->json)
        return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(r->out, format, arguments);
    va_end(arguments);
    fprintf(r->out, "\n");
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

timing rows_timing(double *values, int64_t n) {
    qsort(values, (size_t)n, sizeof *values, by_value);
    return (timing){.median = 0.5 * (values[(n - 1) / 2] + values[n / 2]), .least = values[0]};
}
