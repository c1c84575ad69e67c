#include "io/data.h"
#include "io/files.h"
#include "support/temp.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>

static void test_load(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    temp_in(path, "a.txt");
    char *text = NULL;
    size_t bytes = 0;
    expect_error(swt_file_load(&text, &bytes, path, 5, SWT_FILE), SWT_FILE, "a.txt: is missing; ");
    expect_error(swt_file_load(&text, &bytes, path, 5, SWT_CHECKPOINT), SWT_CHECKPOINT,
                 "is missing");
    expect_error(swt_file_load(&text, &bytes, temp_folder, 5, SWT_FILE), SWT_FILE, "is a folder");
    expect_error(swt_file_load(&text, &bytes, "/dev/zero", 5, SWT_FILE), SWT_FILE,
                 "no regular file");
    temp_write(path, "", 0);
    assert_int_equal(swt_file_load(&text, &bytes, path, 5, SWT_FILE), SWT_OK);
    assert_string_equal(text, "");
    free(text);
    temp_write(path, "123456", 6);
    expect_error(swt_file_load(&text, &bytes, path, 5, SWT_FILE), SWT_FILE,
                 "a.txt: has 6 bytes, and a file of its kind at most 5; ");
    assert_null(text);
    temp_write(path, "ab\0c\n", 5);
    assert_int_equal(swt_file_load(&text, &bytes, path, 5, SWT_FILE), SWT_OK);
    assert_int_equal(bytes, 5);
    assert_memory_equal(text, "ab\0c\n", 6);
    free(text);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer */
    expect_error(swt_file_load(&text, &bytes, path, 5, SWT_FILE), SWT_FILE, "no regular file");
    if (geteuid() != 0) {
        unlink(path);
        temp_write(path, "x", 1);
        assert_int_equal(chmod(path, 0), 0);
        expect_error(swt_file_load(&text, &bytes, path, 5, SWT_FILE), SWT_FILE,
                     "Permission denied");
    }
}

/* A text of so many seconds ago. */
static void make_text(const char *folder, const char *name, int age_s) {
    char path[TEMP_PATH_BYTES];
    temp_path(path, folder, name);
    temp_write(path, "x", 1);
    const struct timespec when = {.tv_sec = time(NULL) - age_s};
    assert_int_equal(utimensat(AT_FDCWD, path, (const struct timespec[2]){when, when}, 0), 0);
}

static void test_find(void **state) {
    (void)state;
    char data[TEMP_PATH_BYTES], before[TEMP_PATH_BYTES], path[64];
    int64_t candidates = -1;
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(temp_folder), 0);
    assert_int_equal(unsetenv("SWT_DATA"), 0);
    expect_error(swt_data_find(path, sizeof path, &candidates, ""), SWT_FILE,
                 "data.path: no text given and none under data/; run launch/dataset or give "
                 "--data FILE");
    assert_int_equal(mkdir(temp_in(data, "data"), 0777), 0);
    make_text(data, "notes.md", 0);
    make_text(data, ".hidden.txt", 0);
    assert_int_equal(mkdir("data/folder.txt", 0777), 0);
    expect_error(swt_data_find(path, sizeof path, &candidates, ""), SWT_FILE, "run launch/dataset");

    make_text(data, "old.txt", 100);
    assert_int_equal(swt_data_find(path, sizeof path, &candidates, ""), SWT_OK);
    assert_string_equal(path, "data/old.txt");
    make_text(data, "new.txt", 50);
    make_text(data, "older.txt", 200);
    assert_int_equal(swt_data_find(path, sizeof path, &candidates, ""), SWT_OK);
    assert_string_equal(path, "data/new.txt");
    assert_int_equal(candidates, 3); /* said, so that nobody takes it for another */

    assert_int_equal(setenv("SWT_DATA", "elsewhere.txt", 1), 0);
    assert_int_equal(swt_data_find(path, sizeof path, &candidates, ""), SWT_OK);
    assert_string_equal(path, "elsewhere.txt");
    assert_int_equal(candidates, 0);
    assert_int_equal(swt_data_find(path, sizeof path, &candidates, "given.txt"), SWT_OK);
    assert_string_equal(path, "given.txt");
    expect_error(swt_data_find(path, 9, &candidates, "given.txt"), SWT_FILE, "too long");
    assert_int_equal(unsetenv("SWT_DATA"), 0);
    assert_int_equal(chdir(before), 0);
}

/* Started again as --find, the program prints what it finds. */
static int find_and_print(void) {
    char path[SWT_PATH_BYTES];
    int64_t candidates = 0;
    if (swt_data_find(path, sizeof path, &candidates, "") != SWT_OK)
        return 1;
    puts(path);
    return 0;
}

/* Run a copy of this program, from the path `program` in the test's folder, in an empty folder;
 * whether it finds the text. */
static bool finds(const char *program, const char *expected) {
    char copy[TEMP_PATH_BYTES], text[TEMP_PATH_BYTES], out[TEMP_PATH_BYTES], command[4096];
    char found[TEMP_PATH_BYTES] = "";
    temp_in(copy, program);
    temp_in(text, expected);
    temp_in(out, "out");
    snprintf(command, sizeof command, "cp /proc/%ld/exe %s && cd %s/empty && %s --find > %s",
             (long)getpid(), copy, temp_folder, copy, out);
    const int rc = system(command);
    FILE *file = fopen(out, "r");
    assert_non_null(file);
    if (fscanf(file, "%511s", found) != 1)
        found[0] = '\0';
    fclose(file);
    unlink(copy);
    struct stat a, b;
    return rc == 0 && stat(found, &a) == 0 && stat(text, &b) == 0 && a.st_ino == b.st_ino;
}

static void test_find_beside_the_program(void **state) {
    (void)state;
    static const char *const folders[] = {
        "build",          "build/cpu",           "data", "bin", "share",
        "share/swt-dist", "share/swt-dist/data", "empty"};
    char path[TEMP_PATH_BYTES];
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        assert_int_equal(mkdir(temp_in(path, folders[i]), 0777), 0);
    assert_false(finds("build/cpu/prog", "data/a.txt"));
    temp_write(temp_in(path, "data/a.txt"), "a", 1);
    temp_write(temp_in(path, "share/swt-dist/data/b.txt"), "b", 1);
    assert_true(finds("build/cpu/prog", "data/a.txt"));
    assert_true(finds("bin/prog", "share/swt-dist/data/b.txt"));
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--find") == 0)
        return find_and_print();
    const struct CMUnitTest tests[] = {
        TEMP_TEST(test_load),
        TEMP_TEST(test_find),
        TEMP_TEST(test_find_beside_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
