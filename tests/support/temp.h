/* A temporary folder for each test, small files in it, and the judge of an error's message. */
#ifndef SWT_TESTS_SUPPORT_TEMP_H
#define SWT_TESTS_SUPPORT_TEMP_H

#include "base/status.h"
#include "support/test.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEMP_PATH_BYTES = 512 };

/* folder/name in `out`, which is also returned. */
static inline const char *temp_path(char out[TEMP_PATH_BYTES], const char *folder,
                                    const char *name) {
    const int length = snprintf(out, TEMP_PATH_BYTES, "%s/%s", folder, name);
    assert_in_range(length, 1, TEMP_PATH_BYTES - 1);
    return out;
}

/* Remove a folder with all that is in it. */
static inline void temp_remove(const char *folder) {
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    for (const struct dirent *e = readdir(stream); e != NULL; e = readdir(stream)) {
        char path[TEMP_PATH_BYTES];
        struct stat info;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        temp_path(path, folder, e->d_name);
        assert_int_equal(lstat(path, &info), 0);
        if (S_ISDIR(info.st_mode))
            temp_remove(path);
        else
            assert_int_equal(unlink(path), 0);
    }
    closedir(stream);
    assert_int_equal(rmdir(folder), 0);
}

/* The running test's own folder: TEMP_TEST(f) in place of cmocka_unit_test(f) makes and removes it.
 */
static char temp_folder[TEMP_PATH_BYTES];

static inline int temp_set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    temp_path(temp_folder, base != NULL ? base : "/tmp", "swt-test-XXXXXX");
    return mkdtemp(temp_folder) == NULL;
}

static inline int temp_tear_down(void **state) {
    (void)state;
    temp_remove(temp_folder);
    return 0;
}

/* A path in it. */
static inline const char *temp_in(char out[TEMP_PATH_BYTES], const char *name) {
    return temp_path(out, temp_folder, name);
}

#define TEMP_TEST(f) cmocka_unit_test_setup_teardown(f, temp_set_up, temp_tear_down)

/* Entries of a folder, hidden ones too. */
static inline int temp_count(const char *folder) {
    int count = -2; /* "." and ".." */
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    while (readdir(stream) != NULL)
        count++;
    closedir(stream);
    return count;
}

static inline bool temp_exists(const char *folder, const char *name) {
    char path[TEMP_PATH_BYTES];
    struct stat info;
    return lstat(temp_path(path, folder, name), &info) == 0;
}

static inline void temp_write(const char *path, const void *bytes, size_t count) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

/* The whole file with a 0 byte behind it; the caller frees it. */
static inline char *temp_read(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    struct stat info;
    assert_int_equal(fstat(fileno(file), &info), 0);
    char *text = malloc((size_t)info.st_size + 1);
    assert_non_null(text);
    *bytes = fread(text, 1, (size_t)info.st_size, file);
    assert_int_equal(*bytes, info.st_size);
    text[*bytes] = '\0';
    fclose(file);
    return text;
}

/* The file holds this text. */
static inline void expect_text(const char *path, const char *expected) {
    size_t bytes = 0;
    char *text = temp_read(path, &bytes);
    assert_string_equal(text, expected);
    free(text);
}

/* From now on no file takes more than so many bytes, and a write beyond fails as on a full disk.
 * Returns the limit of before. */
static inline rlim_t limit_files(rlim_t most_bytes) {
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = most_bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    return before;
}

/* The call gave this status, and its message of one line holds `part`. */
static inline void expect_error(swt_status got, swt_status expected, const char *part) {
    const swt_error *e = swt_last_error();
    assert_string_equal(swt_status_name(got), swt_status_name(expected));
    assert_int_equal(e->status, expected);
    if (strstr(e->message, part) == NULL)
        fail_msg("message \"%s\" lacks \"%s\"", e->message, part);
    for (const char *c = e->message; *c != '\0'; c++)
        assert_false((unsigned char)*c < 0x20);
}

#endif
