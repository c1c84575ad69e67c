#include "io/files.h"
#include "state/ledger.h"
#include "support/temp.h"
#include "train/rundir.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

/* The options of a run into that folder; large, so not on the stack. */
static swt_options *options(const char *out) {
    swt_options *o = calloc(1, sizeof *o);
    assert_non_null(o);
    swt_options_defaults(o, SWT_PRESET_LABML);
    assert_true(strlen(out) < sizeof o->run_out);
    strcpy(o->run_out, out);
    return o;
}

static swt_status create(swt_run *run, const char *out) {
    swt_options *o = options(out);
    const swt_status status = swt_run_create(run, o);
    free(o);
    return status;
}

/* ---- the directory */

static void test_create(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES], slashes[TEMP_PATH_BYTES];
    swt_run run;
    temp_in(path, "a/b//c");
    temp_path(slashes, path, "//");
    assert_int_equal(create(&run, slashes), SWT_OK);
    assert_string_equal(run.path, path);
    assert_int_equal(temp_count(path), 5);
    assert_true(temp_exists(path, ".lock"));
    assert_true(temp_exists(path, "ledger.jsonl"));
    assert_true(temp_exists(path, "config.yaml"));
    assert_true(temp_exists(path, "metrics.jsonl"));
    assert_true(temp_exists(path, "log.txt"));
    size_t bytes = 0;
    char *text = temp_read(temp_path(slashes, path, "config.yaml"), &bytes);
    assert_true(bytes > 0);
    free(text);
    swt_run_close(&run);
    swt_run_close(&run);
    expect_error(create(&run, path), SWT_USAGE, "c: already holds a run; give another --out");
    assert_int_equal(temp_count(path), 4);

    /* An empty folder that is there is used. */
    temp_in(path, "empty");
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(create(&run, path), SWT_OK);
    swt_run_close(&run);
    assert_int_equal(temp_count(path), 4);
}

static void test_create_refuses(void **state) {
    (void)state;
    static const char *const names[] = {"config.yaml", "metrics.jsonl", "log.txt", "checkpoints"};
    char path[TEMP_PATH_BYTES], inside[TEMP_PATH_BYTES];
    swt_run run;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        temp_in(path, "run");
        assert_int_equal(mkdir(path, 0777), 0);
        temp_write(temp_path(inside, path, names[i]), "x", 1);
        expect_error(create(&run, path), SWT_USAGE, "run: already holds a run; ");
        assert_int_equal(temp_count(path), 1);
        temp_remove(path);
    }
    temp_write(temp_in(path, "file"), "x", 1);
    expect_error(create(&run, path), SWT_USAGE, "file: is a file; ");
    temp_in(path, "file/below");
    expect_error(create(&run, path), SWT_FILE, "below: cannot be created");
    assert_int_equal(temp_count(temp_folder), 1);

    /* A name that no file system takes, three folders down: those are removed again. */
    char name[300];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    temp_in(path, "x/y/z");
    temp_path(inside, path, name);
    expect_error(create(&run, inside), SWT_FILE, "cannot be created (File name too long)");
    assert_int_equal(temp_count(temp_folder), 1);
    /* A path that leaves no room for its checkpoints' files is refused before it is made. */
    swt_options *o = options("");
    for (size_t i = 0; i < SWT_PATH_BYTES - 40; i++)
        o->run_out[i] = i % 100 == 99 ? '/' : 'n';
    memcpy(o->run_out, temp_folder, strlen(temp_folder));
    o->run_out[strlen(temp_folder)] = '/';
    expect_error(swt_run_create(&run, o), SWT_FILE, "the path is too long");
    free(o);
    assert_int_equal(temp_count(temp_folder), 1);
    /* Nor is a folder that cannot be looked at taken for a new one. */
    assert_int_equal(symlink("loop", temp_in(path, "loop")), 0);
    expect_error(create(&run, path), SWT_FILE, "loop: cannot be looked at");
    assert_int_equal(unlink(path), 0);
    if (geteuid() != 0) { /* root may write everywhere */
        assert_int_equal(chmod(temp_folder, 0500), 0);
        temp_in(path, "denied");
        expect_error(create(&run, path), SWT_FILE, "denied: cannot be created (Permission denied)");
        assert_int_equal(chmod(temp_folder, 0700), 0);
    }
}

/* A link with the hidden name of the configuration: it goes, and what it leads to stays. */
static void test_create_over_link(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES], victim[TEMP_PATH_BYTES], hidden[TEMP_PATH_BYTES];
    swt_run run;
    temp_write(temp_in(victim, "victim"), "mine", 4);
    assert_int_equal(mkdir(temp_in(path, "run"), 0777), 0);
    assert_int_equal(symlink(victim, temp_path(hidden, path, ".config.yaml")), 0);
    assert_int_equal(create(&run, temp_in(path, "run")), SWT_OK);
    swt_run_close(&run);
    assert_int_equal(temp_count(path), 4);
    /* One that comes between the removal and the creation is not followed either. */
    int fd = -1;
    assert_int_equal(symlink(victim, hidden), 0);
    expect_error(swt_file_create(&fd, hidden), SWT_FILE, "cannot be created (File exists)");
    expect_text(victim, "mine");
}

/* config.yaml does not fit on the disk: nothing stays, neither files nor new folders. */
static void test_create_without_space(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    swt_run run;
    swt_options *o = options(temp_in(path, "a/b"));
    const rlim_t before = limit_files(4);
    const swt_status status = swt_run_create(&run, o);
    limit_files(before);
    expect_error(status, SWT_FILE, "config.yaml: cannot be written");
    assert_int_equal(temp_count(temp_folder), 0);
    free(o);
}

static void test_default_path(void **state) {
    (void)state;
    char before[TEMP_PATH_BYTES], pid[32];
    swt_run run;
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(temp_folder), 0);
    assert_int_equal(create(&run, ""), SWT_OK);
    int date = 0, time_of_day = 0, end = 0;
    assert_int_equal(sscanf(run.path, "runs/%8d-%6d-%31[0-9]%n", &date, &time_of_day, pid, &end),
                     3);
    assert_int_equal(run.path[end], 0);
    assert_int_equal(atol(pid), getpid());
    assert_in_range(date, 20200101, 99991231);
    assert_in_range(time_of_day, 0, 235960);
    assert_true(temp_exists(run.path, "config.yaml"));
    swt_run_close(&run);
    assert_int_equal(chdir(before), 0);
}

/* ---- metrics */

static void test_metrics(void **state) {
    (void)state;
    static const double doubles[] = {
        0.1,  1.0 / 3, 2.0,       1e-5, 5e-324,  1.7976931348623157e308, -0.0, 100.0, 1234.5,
        1e22, 1e23,    0.1 + 0.2, 4.35, 2.5e-17, 123456789012345678.0};
    enum { COUNT = sizeof doubles / sizeof *doubles };
    char path[TEMP_PATH_BYTES];
    swt_run run;
    assert_int_equal(create(&run, temp_in(path, "run")), SWT_OK);
    const swt_metric first[] = {{"step", 10, true}, {"loss", 0.1, false}, {"lr", 1e-5, false}};
    assert_int_equal(swt_run_metrics(&run, first, 3), SWT_OK);
    expect_text(temp_path(path, run.path, "metrics.jsonl"), /* it is flushed */
                "{\"step\": 10, \"loss\": 0.1, \"lr\": 1e-05}\n");

    for (int i = 0; i < COUNT; i++) {
        const swt_metric row[] = {{"step", i, true}, {"x", doubles[i], false}};
        assert_int_equal(swt_run_metrics(&run, row, 2), SWT_OK);
    }
    const swt_metric large[] = {{"step", 9007199254740992.0, true}, {"n", -0.0, true}};
    assert_int_equal(swt_run_metrics(&run, large, 2), SWT_OK);
    size_t bytes = 0;
    char *text = temp_read(path, &bytes);
    const char *line = strchr(text, '\n') + 1;
    for (int i = 0; i < COUNT; i++) {
        int step = -1, end = 0;
        char number[64], shorter[400];
        assert_int_equal(sscanf(line, "{\"step\": %d, \"x\": %63[^}]}%n", &step, number, &end), 2);
        assert_int_equal(step, i);
        assert_int_equal(line[end], '\n');
        const double back = strtod(number, NULL);
        assert_memory_equal(&back, &doubles[i], sizeof back); /* -0.0 too */
        /* One digit less, from 16 on, would not read back. */
        int digits = 0;
        for (const char *c = number + strspn(number, "-0."); *c != '\0' && *c != 'e'; c++)
            digits += *c >= '0' && *c <= '9';
        if (digits > 15) {
            snprintf(shorter, sizeof shorter, "%.*g", digits - 1, doubles[i]);
            assert_true(strtod(shorter, NULL) != doubles[i]);
        }
        line += end + 1;
    }
    assert_string_equal(line, "{\"step\": 9007199254740992, \"n\": 0}\n");
    free(text);
    swt_run_close(&run);
}

static void test_metrics_errors(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    swt_run run;
    assert_int_equal(create(&run, temp_in(path, "run")), SWT_OK);
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        const swt_metric row[] = {{"step", 7, true}, {"grad_norm", bad[i], i == 1}};
        expect_error(swt_run_metrics(&run, row, 2), SWT_NUMBERS, "step 7: grad_norm is ");
    }
    const swt_metric fraction[] = {{"step", 7, true}, {"tokens", 0.5, true}};
    expect_error(swt_run_metrics(&run, fraction, 2), SWT_INTERNAL, "tokens is no exact integer");
    static swt_metric many[500];
    for (int i = 0; i < 500; i++)
        many[i] = (swt_metric){"a_metric", i, true};
    expect_error(swt_run_metrics(&run, many, 500), SWT_INTERNAL, "too long");
    size_t bytes = 0;
    free(temp_read(temp_path(path, run.path, "metrics.jsonl"), &bytes));
    assert_int_equal(bytes, 0); /* no part of a refused row */

    if (access("/dev/full", W_OK) == 0) {
        const swt_metric row[] = {{"step", 7, true}};
        close(run.metrics);
        run.metrics = open("/dev/full", O_WRONLY);
        assert_true(run.metrics > 0);
        expect_error(swt_run_metrics(&run, row, 1), SWT_FILE,
                     "run/metrics.jsonl: cannot be written (No space left on device)");
    }
    swt_run_close(&run);
}

/* Nothing of a line that is larger than its file may get stays in the file; written later, it
 * stands where it would have, and the hash of the rows is theirs. */
static void test_row_once_more(void **state) {
    (void)state;
    static const char rows[] = "{\"step\": 1}\n{\"step\": 2}\n";
    char path[TEMP_PATH_BYTES];
    swt_run run;
    struct rlimit before, small;
    assert_int_equal(create(&run, temp_in(path, "run")), SWT_OK);
    const swt_metric first[] = {{"step", 1, true}}, second[] = {{"step", 2, true}};
    assert_int_equal(swt_run_write_row(&run), SWT_OK); /* there is none */
    assert_int_equal(swt_run_metrics(&run, first, 1), SWT_OK);
    assert_int_equal(swt_run_write_row(&run), SWT_OK); /* it is there already */
    assert_int_equal(swt_run_ledger(&run, "one\n"), SWT_OK);
    const uint64_t hash = run.metrics_hash;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = strlen("{\"step\": 1}\n") + 4;
    void (*const handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const swt_status row = swt_run_metrics(&run, second, 1), again = swt_run_write_row(&run);
    const swt_status line = swt_run_ledger(&run, "a line that is far too long\n");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(row, SWT_FILE);
    assert_int_equal(again, SWT_FILE);
    assert_int_equal(line, SWT_FILE);
    expect_text(temp_path(path, run.path, "metrics.jsonl"), "{\"step\": 1}\n");
    expect_text(temp_path(path, run.path, "ledger.jsonl"), "one\n");
    assert_true(run.metrics_hash == hash);

    assert_int_equal(swt_run_write_row(&run), SWT_OK);
    assert_int_equal(swt_run_ledger(&run, "two\n"), SWT_OK);
    expect_text(temp_path(path, run.path, "metrics.jsonl"), rows);
    expect_text(temp_path(path, run.path, "ledger.jsonl"), "one\ntwo\n");
    assert_true(run.metrics_hash == swt_ledger_row_hash("{\"step\": 2}\n", 12, hash));
    swt_run_close(&run);
}

/* ---- the log */

/* What the log does not take is an error at the next row, not silence. */
static void test_log_cannot_be_written(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    swt_run run;
    if (access("/dev/full", W_OK) != 0)
        skip();
    assert_int_equal(create(&run, temp_in(path, "run")), SWT_OK);
    swt_run_log(&run, "good");
    assert_int_equal(swt_run_check_log(&run), SWT_OK);
    close(run.log);
    run.log = open("/dev/full", O_WRONLY);
    assert_true(run.log > 0);
    swt_run_log(&run, "lost");
    expect_error(swt_run_check_log(&run), SWT_FILE,
                 "run/log.txt: cannot be written (No space left on device)");
    const swt_metric row[] = {{"step", 1, true}};
    expect_error(swt_run_metrics(&run, row, 1), SWT_FILE, "run/log.txt: cannot be written");
    assert_int_equal(swt_run_write_row(&run), SWT_OK); /* its own file is well */
    expect_text(temp_path(path, run.path, "metrics.jsonl"), "{\"step\": 1}\n");
    swt_run_close(&run);
}

/* Another rank's last word stands in the log, behind what rank 0 has said and before what it says
 * later. */
static void test_log_end_of_another_rank(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    swt_run run, other = {0};
    assert_int_equal(create(&run, temp_in(path, "run")), SWT_OK);
    memcpy(other.path, run.path, sizeof other.path);
    swt_run_log(&run, "first %d", 1);
    swt_run_log_end(&other, 2, "lost a peer");
    swt_run_log(&run, "third");
    swt_run_close(&run);
    expect_text(temp_path(path, other.path, "log.txt"),
                "first 1\nerror: rank 2: lost a peer\nthird\n");
    /* A run that is gone, or whose log is a link, gets nothing. */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("elsewhere", path), 0);
    swt_run_log_end(&other, 2, "lost a peer");
    assert_int_equal(temp_count(other.path), 4);
    assert_false(temp_exists(other.path, "elsewhere"));
}

/* ---- the terminal */

/* What a run prints on standard output by `speak`, in the file `out`. Its log is in the file `log`.
 */
static void capture(void (*speak)(swt_run *), bool terminal, char out[TEMP_PATH_BYTES],
                    char log[TEMP_PATH_BYTES]) {
    char path[TEMP_PATH_BYTES];
    swt_run run;
    assert_int_equal(create(&run, temp_in(path, terminal ? "tty" : "pipe")), SWT_OK);
    fflush(stdout);
    const int saved = dup(STDOUT_FILENO);
    const int fd = open(temp_in(out, "out"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(saved >= 0 && fd >= 0);
    assert_true(dup2(fd, STDOUT_FILENO) >= 0);
    run.terminal = terminal;
    speak(&run);
    swt_run_close(&run);
    fflush(stdout);
    assert_true(dup2(saved, STDOUT_FILENO) >= 0);
    close(saved);
    close(fd);
    temp_path(log, path, "log.txt");
}

static void speak(swt_run *run) {
    swt_run_say(run, "start %d", 1);
    swt_run_progress(run, false, "step %d", 1);
    swt_run_progress(run, true, "step %d", 2);
    swt_run_say(run, "sample: %s", "a\nb\033[2J\xC3\xA9\xFF");
    swt_run_progress(run, false, "step 3");
}

static void test_lines(void **state) {
    (void)state;
    char out[TEMP_PATH_BYTES], log[TEMP_PATH_BYTES];
    capture(speak, false, out, log);
    expect_text(out, "start 1\nstep 2\nsample: a?b?[2J\xC3\xA9?\n");
    expect_text(log, "start 1\nstep 2\nsample: a?b?[2J\xC3\xA9?\n");
    capture(speak, true, out, log);
    expect_text(out, "start 1\n\rstep 1\033[K\rstep 2\033[K\nsample: a?b?[2J\xC3\xA9?\n"
                     "\rstep 3\033[K\n");
    expect_text(log, "start 1\nstep 2\nsample: a?b?[2J\xC3\xA9?\n");
}

/* 100 characters of two bytes: standard output here is no terminal, so 80 columns are taken and 79
 * shown. */
static void speak_long(swt_run *run) {
    char line[201] = "";
    for (int i = 0; i < 100; i++)
        memcpy(line + 2 * i, "\xC3\xA9", 2);
    swt_run_progress(run, true, "%s", line);
}

static void test_long_line(void **state) {
    (void)state;
    char out[TEMP_PATH_BYTES], log[TEMP_PATH_BYTES];
    size_t bytes = 0;
    capture(speak_long, true, out, log);
    char *text = temp_read(out, &bytes);
    assert_int_equal(bytes, 1 + 79 * 2 + 3 + 1);
    assert_memory_equal(text + 1 + 79 * 2 - 2, "\xC3\xA9\033[K\n", 6);
    free(text);
    free(temp_read(log, &bytes));
    assert_int_equal(bytes, 201); /* the log has it whole */
}

/* A run without a directory (eval, generate) can speak. */
static void test_no_directory(void **state) {
    (void)state;
    swt_run run = {0};
    swt_run_say(&run, "# a line without a log");
    swt_run_progress(&run, true, "# progress without a log");
    swt_run_close(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEMP_TEST(test_create),
        TEMP_TEST(test_create_refuses),
        TEMP_TEST(test_create_over_link),
        TEMP_TEST(test_create_without_space),
        TEMP_TEST(test_default_path),
        TEMP_TEST(test_metrics),
        TEMP_TEST(test_metrics_errors),
        TEMP_TEST(test_row_once_more),
        TEMP_TEST(test_lines),
        TEMP_TEST(test_log_cannot_be_written),
        TEMP_TEST(test_log_end_of_another_rank),
        TEMP_TEST(test_long_line),
        cmocka_unit_test(test_no_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
