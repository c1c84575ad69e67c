/* What every measuring program prints: rows of named values, as a table that lines up or, with
 * --json, as one JSON object per line; and the middle of repeated timings. */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* A column: its key in JSON is its heading in the table. */
typedef struct column {
    const char *key;
    int width;
    int decimals; /* of a number in the table; TEXT_COLUMN for text */
} column;

enum { TEXT_COLUMN = -1 };

/* One value, text or number, as its column says. */
typedef struct cell {
    const char *text;
    double number;
} cell;

#define TEXT(value)   ((cell){.text = (value)})
#define NUMBER(value) ((cell){.number = (double)(value)})

typedef struct rows {
    FILE *out; /* NULL: print nothing (ranks that do not speak) */
    bool json;
    const column *columns;
    int n; /* columns */
} rows;

#define ROWS(out_, json_, columns_)                                                                \
    ((rows){.out = (out_),                                                                         \
            .json = (json_),                                                                       \
            .columns = (columns_),                                                                 \
            .n = (int)(sizeof(columns_) / sizeof(columns_)[0])})

/* The table's headings; nothing in JSON. */
void rows_head(const rows *r);

/* One row of r->n cells. It is flushed, so that a long run shows what it has. */
void rows_add(const rows *r, const cell *cells);

/* A remark for people; nothing in JSON. */
void rows_say(const rows *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The median and the smallest of n >= 1 values, which are sorted. */
typedef struct timing {
    double median, least;
} timing;
timing rows_timing(double *values, int64_t n);

#endif
