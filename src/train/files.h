/* Paths, folders, and what makes a file survive a crash. */
#ifndef SWT_TRAIN_FILES_H
#define SWT_TRAIN_FILES_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* folder/name into out. Errors: FILE where it does not fit. */
SWT_MUST_CHECK swt_status swt_path_join(char *out, size_t out_bytes, const char *folder,
                                        const char *name);

/* True where the path leads to something, also to a link without target. */
bool swt_path_exists(const char *path);

/* Open a regular file for reading. Errors: `status`, naming the path: missing, a folder, ... */
SWT_MUST_CHECK swt_status swt_file_open(int *fd, int64_t *bytes, const char *path,
                                        swt_status status);

/* Flush, fsync and close a file being written; *file is NULL afterwards, also on an error.
 * Errors: FILE, naming `path`. */
SWT_MUST_CHECK swt_status swt_file_finish(FILE **file, const char *path);

/* fsync a file or folder by its path. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_path_sync(const char *path);

/* rename(2). Errors: FILE. */
SWT_MUST_CHECK swt_status swt_path_rename(const char *from, const char *to);

/* Call `visit` for every entry of a folder but "." and ".."; stops at its first error.
 * Errors: FILE where the folder cannot be read; what visit returns. */
typedef swt_status (*swt_folder_visit)(void *context, const char *folder, const char *name);
SWT_MUST_CHECK swt_status swt_folder_walk(const char *folder, swt_folder_visit visit,
                                          void *context);

/* Remove a folder of plain files. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_folder_remove(const char *folder);

#endif
