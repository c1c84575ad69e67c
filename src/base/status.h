/* Status codes, the last error of a thread, and the macros that pass errors up.
 *
 * A function that can fail returns swt_status. The place that finds the error calls SWT_FAIL with
 * the whole message, "WHERE: WHAT; WHAT WOULD BE RIGHT"; everyone above passes the code on with
 * SWT_TRY. Only main prints the record and turns the code into an exit code. */
#ifndef SWT_BASE_STATUS_H
#define SWT_BASE_STATUS_H

#include <stdbool.h>

/* X(name, exit code, meaning). The exit codes are part of the command line's contract. */
#define SWT_STATUS_LIST(X)                                                                         \
    X(OK, 0, "done")                                                                               \
    X(USAGE, 2, "wrong command line or configuration")                                             \
    X(FILE, 3, "a file is missing, broken, does not fit or cannot be written")                     \
    X(CHECKPOINT, 4, "a checkpoint is missing, broken or of another model")                        \
    X(NUMBERS, 5, "a number is not finite or too large")                                           \
    X(COMM, 6, "a peer or the communication failed")                                               \
    X(DIFFERENT, 1, "two things that were compared differ")                                        \
    X(MEMORY, 1, "out of memory")                                                                  \
    X(SHAPE, 1, "an operation got arguments that do not fit together (a defect of the program)")   \
    X(INTERNAL, 1, "a defect of the program")                                                      \
    X(INTERRUPTED, 130, "interrupted, weights written")

typedef enum swt_status {
#define SWT_STATUS_ENUM(name, exit_code, meaning) SWT_##name,
    SWT_STATUS_LIST(SWT_STATUS_ENUM)
#undef SWT_STATUS_ENUM
        SWT_STATUS_COUNT
} swt_status;

#define SWT_MUST_CHECK        __attribute__((warn_unused_result))
#define SWT_PRINTF(fmt, dots) __attribute__((format(printf, fmt, dots)))

/* What went wrong last on this thread. `agreed`: every rank knows of it and stops by itself, so no
 * abort is needed. `silent`: another rank has the message, this one must not print. */
typedef struct swt_error {
    swt_status status;
    char message[1024];
    const char *file;
    int line;
    bool agreed;
    bool silent;
    bool disk_full; /* a file could not be written for want of room */
} swt_error;

/* Record an error and return its code. Use SWT_FAIL or SWT_FAIL_AS, which fill in the place in the
 * code. */
SWT_MUST_CHECK swt_status swt_fail(swt_status status, const char *file, int line, const char *fmt,
                                   ...) SWT_PRINTF(4, 5);

/* The record of the last swt_fail on this thread; the caller may change its flags. */
swt_error *swt_last_error(void);

int swt_exit_code(swt_status status);
const char *swt_status_name(swt_status status);

/* return SWT_FAIL(FILE, "%s: is empty; a text of at least two windows is needed", path); */
#define SWT_FAIL(name, ...) swt_fail(SWT_##name, __FILE__, __LINE__, __VA_ARGS__)

/* The same with a code that the caller was given: FILE or CHECKPOINT of a file, for one. */
#define SWT_FAIL_AS(status, ...) swt_fail(status, __FILE__, __LINE__, __VA_ARGS__)

/* `otherwise`, or MEMORY where `error`, a value of errno, says that memory was missing: that is no
 * fault of a file, which can be whole. */
SWT_MUST_CHECK swt_status swt_status_of(int error, swt_status otherwise);

/* Pass an error up. */
#define SWT_TRY(call)                                                                              \
    do {                                                                                           \
        swt_status swt_try_status_ = (call);                                                       \
        if (swt_try_status_ != SWT_OK)                                                             \
            return swt_try_status_;                                                                \
    } while (0)

/* The same in a function that owns something: `status` is its variable, `label` its clean-up. */
#define SWT_TRY_TO(status, label, call)                                                            \
    do {                                                                                           \
        (status) = (call);                                                                         \
        if ((status) != SWT_OK)                                                                    \
            goto label;                                                                            \
    } while (0)

#endif
