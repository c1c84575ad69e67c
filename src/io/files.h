/* Paths, folders, and what makes a file survive a crash. Every file and folder that the program
 * opens, creates or removes by name goes through here. */
#ifndef SWT_IO_FILES_H
#define SWT_IO_FILES_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Of every path that is kept, and of every name of a file in a folder, the end included. */
enum { SWT_PATH_BYTES = 4096, SWT_FILE_NAME_BYTES = 64 };

/* A path for a message: its last 200 bytes where it is longer, so that the rest has room. */
const char *swt_path_tail(const char *path);

/* folder/name into out. Errors: FILE where it does not fit. */
SWT_MUST_CHECK swt_status swt_path_join(char out[SWT_PATH_BYTES], const char *folder,
                                        const char *name);

/* Whether that is the name of a file of a folder itself, in a file from anywhere: it leads nowhere
 * else, is not hidden, and is printable and short enough to be kept. */
bool swt_is_file_name(const char *name);

/* FOLDER/.NAME.part for FOLDER/NAME: what is written appears under its name only when it is whole.
 * Errors: FILE where that is too long. */
SWT_MUST_CHECK swt_status swt_path_hidden(char out[SWT_PATH_BYTES], const char *path);

typedef enum swt_path_kind {
    SWT_PATH_NONE, /* nothing has that name */
    SWT_PATH_FILE,
    SWT_PATH_FOLDER,
    SWT_PATH_OTHER /* a pipe, a device; a link, where links are not followed */
} swt_path_kind;

/* What is under a path. Errors: FILE where the system does not tell (rights, a broken disk): what
 * cannot be seen is not taken for missing. */
SWT_MUST_CHECK swt_status swt_path_look(swt_path_kind *kind, const char *path, bool follow_links);

/* openat(2) with O_CLOEXEC and the rights of a new file, once more where a signal came in between.
 * -1 and errno where it fails. */
int swt_open_at(int folder, const char *path, int flags);

/* ---- reading */

/* Open a regular file for reading. Errors: `status`, naming the path: missing, a folder, ... */
SWT_MUST_CHECK swt_status swt_file_open(int *fd, int64_t *bytes, const char *path,
                                        swt_status status);

/* Read exactly so many bytes from a place in an open file. Errors: `status`, naming the path. */
SWT_MUST_CHECK swt_status swt_file_read(int fd, void *out, size_t bytes, int64_t offset,
                                        const char *path, swt_status status);

/* Read a whole file into memory that the caller frees (a 0 byte follows the text). Errors: `status`
 * (FILE, CHECKPOINT, ...), naming the path: missing, a folder, larger than most_bytes, unreadable.
 * An empty file is for the caller to judge. */
SWT_MUST_CHECK swt_status swt_file_load(char **out, size_t *bytes, const char *path,
                                        int64_t most_bytes, swt_status status);

/* ---- writing */

/* Create a file that must not be there, not even as a link, and open it for writing. Errors: FILE.
 */
SWT_MUST_CHECK swt_status swt_file_create(int *fd, const char *path);

/* Remove what has this name of ours: a file, or a link, whose target stays. Nothing happens where
 * there is none. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_file_remove(const char *path);

/* Write all bytes. Errors: FILE, naming the path; swt_error.disk_full says whether room was
 * missing. */
SWT_MUST_CHECK swt_status swt_file_write(int fd, const void *bytes, size_t count, const char *path);

/* fsync a file that goes on being written. Errors: as above. */
SWT_MUST_CHECK swt_status swt_file_sync(int fd, const char *path);

/* Append to a file that is there, as well as it goes: for who ends the process and has no other way
 * to say why, of whatever thread or rank. A link is not followed. */
void swt_file_append(const char *path, const char *text);

/* fsync and close a file being written; *fd is -1 afterwards, also on an error. Errors: as above.
 */
SWT_MUST_CHECK swt_status swt_file_finish(int *fd, const char *path);

/* Ask the system to forget what it remembers of a file on disk, so that the next read is of the
 * disk; no effect where there is none. */
void swt_file_forget(int fd);

/* The error of a file whose bytes are not those that were written: FILE. */
SWT_MUST_CHECK swt_status swt_file_altered(const char *path);

/* Text printed into memory, which the caller frees. */
typedef struct swt_memory_stream {
    FILE *stream;
    char *text; /* (bytes), and a 0 byte; what was flushed so far */
    size_t bytes, capacity;
} swt_memory_stream;

/* The stream to print to, NULL without memory; *m stays where it is until it is closed. */
FILE *swt_memory_stream_open(swt_memory_stream *m);

/* Close it, also one that was not opened. False where not all that was printed is in m->text, for
 * want of memory. */
SWT_MUST_CHECK bool swt_memory_stream_close(swt_memory_stream *m);

/* Create a file of what `print` prints of a thing, which is made in memory first, so that a lack of
 * memory and a full disk stay two errors, and read back when it is on disk. Nothing stays on an
 * error. `what` names the thing, for messages. */
SWT_MUST_CHECK swt_status swt_file_print(const char *path, const char *what,
                                         void (*print)(FILE *out, const void *thing),
                                         const void *thing);

/* The error of the creation of `path` that failed with this errno. */
SWT_MUST_CHECK swt_status swt_path_uncreated(const char *path, int failed);

/* fsync a file or folder by its path. Errors: as of a write. */
SWT_MUST_CHECK swt_status swt_path_sync(const char *path);

/* rename(2). Errors: FILE. */
SWT_MUST_CHECK swt_status swt_path_rename(const char *from, const char *to);

/* ---- folders */

/* Make a folder. Errors: FILE, also where something has its name. */
SWT_MUST_CHECK swt_status swt_folder_make(const char *path);

/* Call `visit` for every entry of a folder but "." and ".."; stops at its first error.
 * Errors: FILE where the folder cannot be read; what visit returns. */
typedef swt_status (*swt_folder_visit)(void *context, const char *folder, const char *name);
SWT_MUST_CHECK swt_status swt_folder_walk(const char *folder, swt_folder_visit visit,
                                          void *context);

/* Remove folder/name and the files in it. What is a link goes as one, its target stays. A folder
 * inside stays with what is in it, and so does what cannot be removed; all else goes. Errors: FILE,
 * naming the first that stays. */
SWT_MUST_CHECK swt_status swt_folder_remove(const char *folder, const char *name);

/* fsync the files of a folder, then the folder itself. Errors: as of a write. */
SWT_MUST_CHECK swt_status swt_folder_sync(const char *folder);

/* A folder that appears under its name at once, when all in it is on disk. */
typedef struct swt_new_folder {
    char path[SWT_PATH_BYTES];
    char hidden[SWT_PATH_BYTES]; /* where its files are written */
} swt_new_folder;

/* Make it, under its hidden name; what an interrupted write left there is removed. Errors: USAGE
 * where something has the name already; FILE. */
SWT_MUST_CHECK swt_status swt_new_folder_begin(swt_new_folder *out, const char *path);

/* Give it its name. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_new_folder_publish(const swt_new_folder *f);

/* Remove one that cannot be published, as well as it goes; the last error stays. */
void swt_new_folder_discard(const swt_new_folder *f);

/* Bytes that a user may still write to the file system of a folder. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_folder_room(const char *folder, int64_t *free_bytes);

#endif
