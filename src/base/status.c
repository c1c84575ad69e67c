#include "base/status.h"

#include "base/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static _Thread_local swt_error last_error;

swt_status swt_fail(swt_status status, const char *file, int line, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    const int length = vsnprintf(last_error.message, sizeof last_error.message, fmt, args);
    va_end(args);
    /* Names of files and keys come from anywhere; every message passes here. */
    swt_utf8_clean(last_error.message, length >= (int)sizeof last_error.message);
    last_error.status = status;
    last_error.file = file;
    last_error.line = line;
    last_error.agreed = false;
    last_error.silent = false;
    last_error.disk_full = false;
    return status;
}

swt_error *swt_last_error(void) {
    return &last_error;
}

swt_status swt_status_of(int error, swt_status otherwise) {
    return error == ENOMEM ? SWT_MEMORY : otherwise;
}

int swt_exit_code(swt_status status) {
    static const int codes[SWT_STATUS_COUNT] = {
#define SWT_STATUS_EXIT(name, exit_code, meaning) [SWT_##name] = (exit_code),
        SWT_STATUS_LIST(SWT_STATUS_EXIT)
#undef SWT_STATUS_EXIT
    };
    return codes[status];
}

const char *swt_status_name(swt_status status) {
    static const char *const names[SWT_STATUS_COUNT] = {
#define SWT_STATUS_NAME(name, exit_code, meaning) [SWT_##name] = #name,
        SWT_STATUS_LIST(SWT_STATUS_NAME)
#undef SWT_STATUS_NAME
    };
    return names[status];
}
