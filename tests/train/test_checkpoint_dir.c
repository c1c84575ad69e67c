#include "temp.h"
#include "train/rundir.h"

/* All that the publication needs of a run: its directory. */
static void make_run(swt_run *run, const char *folder) {
    *run = (swt_run){0};
    assert_true(strlen(folder) < TEMP_PATH_BYTES);
    temp_path(run->path, folder, "run");
    assert_int_equal(mkdir(run->path, 0777), 0);
}

/* Begin a checkpoint, with two files in it. */
static void begin(const swt_run *run, int64_t step, char dir[TEMP_PATH_BYTES]) {
    char path[TEMP_PATH_BYTES], text[32];
    assert_int_equal(swt_run_checkpoint_begin(run, step, dir, TEMP_PATH_BYTES), SWT_OK);
    snprintf(text, sizeof text, "weights of %lld", (long long)step);
    temp_write(temp_path(path, dir, "weights.safetensors"), text, strlen(text));
    temp_write(temp_path(path, dir, "config.yaml"), "x", 1);
}

static void publish(const swt_run *run, int64_t step, int64_t keep) {
    char dir[TEMP_PATH_BYTES];
    begin(run, step, dir);
    assert_int_equal(swt_run_checkpoint_publish(run, step, keep), SWT_OK);
}

static void expect_found(const char *dir, const char *folder, const char *name) {
    char expected[TEMP_PATH_BYTES], found[SWT_PATH_BYTES] = "";
    assert_int_equal(swt_checkpoint_find(found, sizeof found, dir), SWT_OK);
    assert_string_equal(found, temp_path(expected, folder, name));
}

static void test_publish(void **state) {
    (void)state;
    char folder[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES], dir[TEMP_PATH_BYTES];
    char checkpoints[TEMP_PATH_BYTES], found[SWT_PATH_BYTES];
    swt_run run;
    temp_make(folder);
    make_run(&run, folder);
    temp_path(checkpoints, run.path, "checkpoints");

    begin(&run, 10, dir);
    assert_true(strstr(dir, "/checkpoints/.step-00000010") != NULL);
    expect_error(swt_checkpoint_find(found, sizeof found, run.path), SWT_CHECKPOINT,
                 "run: holds no checkpoint; ");
    assert_int_equal(swt_run_checkpoint_publish(&run, 10, 2), SWT_OK);
    expect_found(run.path, checkpoints, "step-00000010");
    assert_int_equal(temp_count(checkpoints), 1);
    assert_int_equal(temp_count(temp_path(path, checkpoints, "step-00000010")), 2);
    expect_found(path, checkpoints, "step-00000010"); /* a checkpoint means itself */

    /* Somebody's own folder is neither counted nor touched. */
    assert_int_equal(mkdir(temp_path(path, checkpoints, "step-00000001-mine"), 0777), 0);
    publish(&run, 20, 2);
    assert_int_equal(temp_count(checkpoints), 3);
    assert_int_equal(rmdir(path), 0);
    publish(&run, 100000000, 2); /* nine digits: newest, though not last by name */
    assert_int_equal(temp_count(checkpoints), 2);
    assert_false(temp_exists(checkpoints, "step-00000010"));
    expect_found(run.path, checkpoints, "step-100000000");
    publish(&run, 100000001, 0); /* 0 keeps all */
    publish(&run, 100000002, 0);
    assert_int_equal(temp_count(checkpoints), 4);
    publish(&run, 100000003, 1);
    assert_int_equal(temp_count(checkpoints), 1);

    /* The same step again replaces it. */
    begin(&run, 100000003, dir);
    temp_write(temp_path(path, dir, "weights.safetensors"), "new", 3);
    assert_int_equal(swt_run_checkpoint_publish(&run, 100000003, 1), SWT_OK);
    assert_int_equal(temp_count(checkpoints), 1);
    size_t bytes = 0;
    temp_path(dir, checkpoints, "step-100000003");
    free(temp_read(temp_path(path, dir, "weights.safetensors"), &bytes));
    assert_int_equal(bytes, 3);

    expect_error(swt_run_checkpoint_begin(&run, 1, dir, 20), SWT_FILE, "too long");
    expect_error(swt_run_checkpoint_publish(&run, 77, 1), SWT_FILE, ".step-00000077");
    temp_remove(folder);
}

/* Copy a folder of plain files. */
static void copy_folder(const char *from, const char *to) {
    DIR *stream = opendir(from);
    assert_non_null(stream);
    assert_int_equal(mkdir(to, 0777), 0);
    for (const struct dirent *e = readdir(stream); e != NULL; e = readdir(stream)) {
        char source[TEMP_PATH_BYTES], target[TEMP_PATH_BYTES];
        size_t bytes = 0;
        if (e->d_name[0] == '.')
            continue;
        char *text = temp_read(temp_path(source, from, e->d_name), &bytes);
        temp_write(temp_path(target, to, e->d_name), text, bytes);
        free(text);
    }
    closedir(stream);
}

/* What a kill leaves behind, at any moment: a hidden folder half written; one full but not renamed;
 * an old one hidden and half removed. None is found, and the next begin removes them all. */
static void test_leftovers(void **state) {
    (void)state;
    char folder[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES], dir[TEMP_PATH_BYTES];
    char checkpoints[TEMP_PATH_BYTES], published[TEMP_PATH_BYTES];
    swt_run run;
    temp_make(folder);
    make_run(&run, folder);
    temp_path(checkpoints, run.path, "checkpoints");
    publish(&run, 5, 2);
    temp_path(published, checkpoints, "step-00000005");
    copy_folder(published, temp_path(path, checkpoints, ".step-00000009"));
    copy_folder(published, temp_path(path, checkpoints, ".step-00000003.old"));
    copy_folder(published, temp_path(path, checkpoints, ".step-00000007"));
    temp_path(dir, checkpoints, ".step-00000007");
    assert_int_equal(unlink(temp_path(path, dir, "weights.safetensors")), 0);
    expect_found(run.path, checkpoints, "step-00000005");

    begin(&run, 9, dir);
    assert_int_equal(temp_count(checkpoints), 2);
    assert_int_equal(temp_count(dir), 2);
    expect_found(run.path, checkpoints, "step-00000005");
    assert_int_equal(swt_run_checkpoint_publish(&run, 9, 2), SWT_OK);
    expect_found(run.path, checkpoints, "step-00000009");
    assert_int_equal(temp_count(checkpoints), 2);
    temp_remove(folder);
}

static void test_find(void **state) {
    (void)state;
    static const char *const ignored[] = {"step-0000009",   "step-000000009",
                                          "step-99999999x", "step-",
                                          "Step-99999999",  "step--9999999",
                                          "step-+99999999", "step- 99999999",
                                          ".step-99999999", "step-99999999999999999999999999"};
    char folder[TEMP_PATH_BYTES], run[TEMP_PATH_BYTES], checkpoints[TEMP_PATH_BYTES];
    char path[TEMP_PATH_BYTES], inside[TEMP_PATH_BYTES], found[SWT_PATH_BYTES];
    temp_make(folder);
    temp_path(run, folder, "run");
    expect_error(swt_checkpoint_find(found, sizeof found, run), SWT_CHECKPOINT,
                 "run: is missing; ");
    temp_write(run, "x", 1);
    expect_error(swt_checkpoint_find(found, sizeof found, run), SWT_CHECKPOINT, "run: is a file; ");
    assert_int_equal(unlink(run), 0);
    assert_int_equal(mkdir(run, 0777), 0);
    expect_error(swt_checkpoint_find(found, sizeof found, run), SWT_CHECKPOINT,
                 "run: holds no checkpoint; ");
    assert_int_equal(mkdir(temp_path(checkpoints, run, "checkpoints"), 0777), 0);
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
        assert_int_equal(mkdir(temp_path(path, checkpoints, ignored[i]), 0777), 0);
        temp_write(temp_path(inside, path, "weights.safetensors"), "x", 1);
    }
    assert_int_equal(mkdir(temp_path(path, checkpoints, "step-00000400"), 0777),
                     0); /* no weights */
    expect_error(swt_checkpoint_find(found, sizeof found, run), SWT_CHECKPOINT,
                 "run: holds no checkpoint; ");
    for (int step = 100; step <= 300; step += 100) {
        char name[32];
        snprintf(name, sizeof name, "step-%08d", step);
        assert_int_equal(mkdir(temp_path(path, checkpoints, name), 0777), 0);
        temp_write(temp_path(inside, path, "weights.safetensors"), "x", 1);
    }
    expect_found(run, checkpoints, "step-00000300");
    expect_error(swt_checkpoint_find(found, 8, run), SWT_CHECKPOINT, "too long");

    char *endless = malloc(5000);
    assert_non_null(endless);
    memset(endless, '/', 4998);
    endless[4998] = '.';
    endless[4999] = '\0';
    expect_error(swt_checkpoint_find(found, sizeof found, endless), SWT_CHECKPOINT, "////");
    free(endless);
    temp_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publish),
        cmocka_unit_test(test_leftovers),
        cmocka_unit_test(test_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
