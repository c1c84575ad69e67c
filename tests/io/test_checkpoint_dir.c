#include "io/checkpoint_dir.h"
#include "support/temp.h"

typedef struct test_run {
    char path[TEMP_PATH_BYTES];
    swt_checkpoints checkpoints;
} test_run;

static void make_run(test_run *run) {
    temp_in(run->path, "run");
    assert_int_equal(mkdir(run->path, 0777), 0);
    assert_int_equal(swt_checkpoints_init(&run->checkpoints, run->path, 99999999), SWT_OK);
}

static bool is_untidy(const test_run *run) {
    return run->checkpoints.untidy.status != SWT_OK;
}

/* Begin a checkpoint, with two files in it. */
static void begin(test_run *run, int64_t step, char dir[TEMP_PATH_BYTES]) {
    char path[TEMP_PATH_BYTES], text[32], hidden[SWT_PATH_BYTES];
    assert_int_equal(swt_checkpoints_begin(&run->checkpoints, step, hidden), SWT_OK);
    temp_path(dir, run->checkpoints.path, strrchr(hidden, '/') + 1);
    assert_string_equal(dir, hidden);
    snprintf(text, sizeof text, "weights of %lld", (long long)step);
    temp_write(temp_path(path, dir, "weights.safetensors"), text, strlen(text));
    temp_write(temp_path(path, dir, "config.yaml"), "x", 1);
}

/* Publish what was begun, then prune. */
static void publish_begun(test_run *run, int64_t step, int64_t keep) {
    char folder[SWT_PATH_BYTES] = "", expected[TEMP_PATH_BYTES], name[32];
    assert_int_equal(swt_checkpoints_publish(&run->checkpoints, step, folder), SWT_OK);
    snprintf(name, sizeof name, "step-%08lld", (long long)step);
    assert_string_equal(folder, temp_path(expected, run->checkpoints.path, name));
    swt_checkpoints_prune(&run->checkpoints, keep);
}

static void publish(test_run *run, int64_t step, int64_t keep) {
    char dir[TEMP_PATH_BYTES];
    begin(run, step, dir);
    publish_begun(run, step, keep);
}

static void expect_found(const char *dir, const char *folder, const char *name) {
    char expected[TEMP_PATH_BYTES], found[SWT_PATH_BYTES] = "";
    assert_int_equal(swt_checkpoint_find(found, dir), SWT_OK);
    assert_string_equal(found, temp_path(expected, folder, name));
}

static void test_publish(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES], dir[TEMP_PATH_BYTES];
    char checkpoints[TEMP_PATH_BYTES], found[SWT_PATH_BYTES];
    test_run run;
    make_run(&run);
    temp_path(checkpoints, run.path, "checkpoints");

    begin(&run, 10, dir);
    assert_true(strstr(dir, "/checkpoints/.step-00000010") != NULL);
    expect_error(swt_checkpoint_find(found, run.path), SWT_CHECKPOINT,
                 "run: holds no checkpoint; ");
    publish_begun(&run, 10, 2);
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
    publish_begun(&run, 100000003, 1);
    assert_int_equal(temp_count(checkpoints), 1);
    size_t bytes = 0;
    temp_path(dir, checkpoints, "step-100000003");
    free(temp_read(temp_path(path, dir, "weights.safetensors"), &bytes));
    assert_int_equal(bytes, 3);

    expect_error(swt_checkpoints_publish(&run.checkpoints, 77, found), SWT_FILE, ".step-00000077");
}

/* The spared one is neither counted nor removed for being old, nor on a full disk. */
static void test_spared(void **state) {
    (void)state;
    char checkpoints[TEMP_PATH_BYTES];
    test_run run;
    make_run(&run);
    temp_path(checkpoints, run.path, "checkpoints");
    run.checkpoints.spared = 2;
    for (int step = 1; step <= 5; step++)
        publish(&run, step, 2);
    assert_int_equal(temp_count(checkpoints), 3);
    assert_true(temp_exists(checkpoints, "step-00000002"));
    assert_true(temp_exists(checkpoints, "step-00000004"));
    assert_int_equal(swt_checkpoints_drop(&run.checkpoints, 2), 4);
    assert_int_equal(swt_checkpoints_drop(&run.checkpoints, 2), -1);
    assert_int_equal(temp_count(checkpoints), 2);
    run.checkpoints.spared = -1;
    assert_int_equal(swt_checkpoints_drop(&run.checkpoints, 2), 2);
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
    char path[TEMP_PATH_BYTES], dir[TEMP_PATH_BYTES];
    char checkpoints[TEMP_PATH_BYTES], published[TEMP_PATH_BYTES];
    test_run run;
    make_run(&run);
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
    publish_begun(&run, 9, 2);
    expect_found(run.path, checkpoints, "step-00000009");
    assert_int_equal(temp_count(checkpoints), 2);
}

/* A folder in an old checkpoint stays with what is in it, and ends nothing. */
static void test_untidy(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES], notes[TEMP_PATH_BYTES];
    char checkpoints[TEMP_PATH_BYTES], published[TEMP_PATH_BYTES];
    test_run run;
    make_run(&run);
    temp_path(checkpoints, run.path, "checkpoints");
    for (int step = 1; step <= 3; step++) {
        publish(&run, step, 1);
        char name[32];
        snprintf(name, sizeof name, "step-%08d", step);
        expect_found(run.path, checkpoints, name);
        temp_path(notes, temp_path(published, checkpoints, name), "notes");
        assert_int_equal(mkdir(notes, 0777), 0);
        temp_write(temp_path(path, notes, "mine"), "x", 1);
        assert_int_equal(is_untidy(&run), step > 1);
    }
    /* What was removed is hidden; of it only the folder is left. */
    assert_int_equal(temp_count(checkpoints), 3);
    temp_path(path, checkpoints, ".step-00000001.old");
    assert_int_equal(temp_count(path), 1);
    assert_true(temp_exists(path, "notes/mine"));
    /* The same step again, with a leftover of its hidden name, too. */
    temp_path(path, checkpoints, ".step-00000003");
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(mkdir(temp_path(notes, path, "notes"), 0777), 0);
    publish(&run, 3, 1);
    expect_found(run.path, checkpoints, "step-00000003");
    assert_true(temp_exists(checkpoints, ".step-00000003.old/notes"));
    assert_true(temp_exists(checkpoints, ".step-00000003.old1/notes/mine"));
}

/* Links with the names that are created or removed: they go, and what they lead to stays. */
static void test_links(void **state) {
    (void)state;
    static const char *const names[] = {".step-00000007", ".step-00000002", ".step-00000009.old",
                                        "step-00000001"};
    char path[TEMP_PATH_BYTES], checkpoints[TEMP_PATH_BYTES];
    char victim[TEMP_PATH_BYTES], kept[TEMP_PATH_BYTES], disk[TEMP_PATH_BYTES];
    test_run run;
    make_run(&run);
    assert_int_equal(mkdir(temp_in(victim, "victim"), 0777), 0);
    temp_write(temp_path(kept, victim, "mine"), "x", 1);
    /* checkpoints itself may be a link. */
    assert_int_equal(mkdir(temp_in(disk, "disk"), 0777), 0);
    assert_int_equal(symlink(disk, temp_path(checkpoints, run.path, "checkpoints")), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(symlink(victim, temp_path(path, checkpoints, names[i])), 0);
    temp_path(path, checkpoints, ".step-00000003");
    assert_int_equal(symlink(kept, path), 0); /* to a file */
    publish(&run, 7, 1);
    assert_int_equal(temp_count(disk), 1);
    assert_true(temp_exists(disk, "step-00000007/weights.safetensors"));
    assert_int_equal(temp_count(victim), 1);
    assert_false(is_untidy(&run));
}

/* What cannot be looked at is not taken for missing. */
static void test_unseen(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES], found[SWT_PATH_BYTES];
    temp_in(path, "loop");
    assert_int_equal(symlink("loop", path), 0);
    expect_error(swt_checkpoint_find(found, path), SWT_CHECKPOINT,
                 "loop: cannot be looked at (Too many levels of symbolic links)");
    assert_int_equal(symlink("loop", temp_in(path, "weights.safetensors")), 0);
    expect_error(swt_checkpoint_find(found, temp_folder), SWT_CHECKPOINT,
                 "weights.safetensors: cannot be looked at");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("loop", temp_in(path, "checkpoints")), 0);
    expect_error(swt_checkpoint_find(found, temp_folder), SWT_CHECKPOINT,
                 "checkpoints: cannot be looked at");
}

/* The disk is full: the oldest goes, but never the only one, and none where all are kept. */
static void test_drop(void **state) {
    (void)state;
    char dir[TEMP_PATH_BYTES], checkpoints[TEMP_PATH_BYTES];
    test_run run;
    make_run(&run);
    temp_path(checkpoints, run.path, "checkpoints");
    assert_int_equal(swt_checkpoints_drop(&run.checkpoints, 2), -1);
    assert_true(is_untidy(&run));
    run.checkpoints.untidy.status = SWT_OK;
    publish(&run, 1, 3);
    assert_int_equal(swt_checkpoints_drop(&run.checkpoints, 3), -1);
    publish(&run, 2, 3);
    assert_int_equal(swt_checkpoints_drop(&run.checkpoints, 0), -1);
    begin(&run, 3, dir);
    assert_int_equal(swt_checkpoints_drop(&run.checkpoints, 3), 1);
    expect_found(run.path, checkpoints, "step-00000002");
    assert_int_equal(swt_checkpoints_drop(&run.checkpoints, 3), -1);
    assert_int_equal(temp_count(checkpoints), 2);
    swt_checkpoints_discard(&run.checkpoints, 3);
    swt_checkpoints_discard(&run.checkpoints, 3);
    assert_int_equal(temp_count(checkpoints), 1);
    assert_false(is_untidy(&run));
}

static void test_find(void **state) {
    (void)state;
    static const char *const ignored[] = {"step-0000009",   "step-000000009",
                                          "step-99999999x", "step-",
                                          "Step-99999999",  "step--9999999",
                                          "step-+99999999", "step- 99999999",
                                          ".step-99999999", "step-99999999999999999999999999"};
    char run[TEMP_PATH_BYTES], checkpoints[TEMP_PATH_BYTES];
    char path[TEMP_PATH_BYTES], inside[TEMP_PATH_BYTES], found[SWT_PATH_BYTES];
    temp_in(run, "run");
    expect_error(swt_checkpoint_find(found, run), SWT_CHECKPOINT, "run: is missing; ");
    temp_write(run, "x", 1);
    expect_error(swt_checkpoint_find(found, run), SWT_CHECKPOINT, "run: is a file; ");
    assert_int_equal(unlink(run), 0);
    assert_int_equal(mkdir(run, 0777), 0);
    expect_error(swt_checkpoint_find(found, run), SWT_CHECKPOINT, "run: holds no checkpoint; ");
    assert_int_equal(mkdir(temp_path(checkpoints, run, "checkpoints"), 0777), 0);
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
        assert_int_equal(mkdir(temp_path(path, checkpoints, ignored[i]), 0777), 0);
        temp_write(temp_path(inside, path, "weights.safetensors"), "x", 1);
    }
    assert_int_equal(mkdir(temp_path(path, checkpoints, "step-00000400"), 0777),
                     0); /* no weights */
    expect_error(swt_checkpoint_find(found, run), SWT_CHECKPOINT, "run: holds no checkpoint; ");
    for (int step = 100; step <= 300; step += 100) {
        char name[32];
        snprintf(name, sizeof name, "step-%08d", step);
        assert_int_equal(mkdir(temp_path(path, checkpoints, name), 0777), 0);
        temp_write(temp_path(inside, path, "weights.safetensors"), "x", 1);
    }
    expect_found(run, checkpoints, "step-00000300");

    char *endless = malloc(5000);
    assert_non_null(endless);
    memset(endless, '/', 4998);
    endless[4998] = '.';
    endless[4999] = '\0';
    expect_error(swt_checkpoint_find(found, endless), SWT_CHECKPOINT, "////");
    free(endless);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEMP_TEST(test_publish), TEMP_TEST(test_spared), TEMP_TEST(test_leftovers),
        TEMP_TEST(test_untidy),  TEMP_TEST(test_links),  TEMP_TEST(test_unseen),
        TEMP_TEST(test_drop),    TEMP_TEST(test_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
