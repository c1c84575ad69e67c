/* Who does a gemm: cuBLASLt whole, cuBLASLt without bias and ReLU, or our own slow kernel. Each
 * gives what the formula says, is told to who asks, and the slow one is warned of. */
#include "tests/gpu/gemm_bed.h"

#include <stdio.h>
#include <unistd.h>

/* The device's gemms once more, which tell a file; its name is made of path. */
static int open_told(bench *b, char *path) {
    const int place = mkstemp(path);
    assert_true(place >= 0);
    assert_int_equal(setenv("SWT_CUDA_GEMMS", path, 1), 0);
    swt_cuda_gemms_close(b->own.gemms);
    must(swt_cuda_gemms_open(&b->own.gemms));
    assert_int_equal(unsetenv("SWT_CUDA_GEMMS"), 0);
    return place;
}

/* What it told at its end of the one gemm that it was given. */
static void read_told(bench *b, int place, char *line, int bytes) {
    swt_cuda_gemms_close(b->own.gemms);
    must(swt_cuda_gemms_open(&b->own.gemms));
    FILE *f = fdopen(place, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, bytes, f));
    assert_int_equal(fgetc(f), EOF);
    assert_int_equal(fclose(f), 0);
}

typedef struct way {
    int64_t cols;
    swt_dtype type;
    bool epilogue;
    const char *name;
} way;

static void check_way(bench *b, const way *w) {
    static swt_warnings warnings;
    const bool slow = strcmp(w->name, "plain") == 0;
    char line[1024], name[32], shape[64], path[] = "/tmp/swt-gemms-XXXXXX";
    const int place = open_told(b, path);
    swt_cuda_gemm p = shaped(24, w->cols, 56, 1, w->type);
    snprintf(name, sizeof name, "\"way\": \"%s\"", w->name);
    snprintf(shape, sizeof shape, "{\"rows\": 24, \"cols\": %d, \"inner\": 56, \"batch\": 1,",
             (int)w->cols);
    warnings = (swt_warnings){0};
    b->device.warnings = &warnings;
    b->used = 0;
    fill(b, &p, false, w->epilogue, false);
    p.relu = w->epilogue;
    run(b, &p);
    run(b, &p); /* said once for a shape */
    judge_all(&p);
    read_told(b, place, line, sizeof line);
    assert_int_equal(unlink(path), 0);
    if (strstr(line, name) == NULL || strstr(line, shape) != line)
        fail_msg("%s is told of a gemm that should be %s, %s", line, shape, name);
    assert_int_equal(warnings.count, slow);
    assert_true(!slow || strstr(warnings.lines[0], "a slow kernel does it") != NULL);
}

/* The emulated library has no epilogue for columns that are no multiple of 4, and no algorithm for
 * odd ones in BF16; what the vendor's has is its own affair. */
static void test_ways(void **state) {
    static const way ways[] = {{40, SWT_F32, true, "whole"},  {40, SWT_BF16, true, "whole"},
                               {6, SWT_F32, true, "bare"},    {6, SWT_BF16, true, "bare"},
                               {6, SWT_BF16, false, "whole"}, {7, SWT_F32, true, "bare"},
                               {7, SWT_BF16, false, "plain"}, {7, SWT_BF16, true, "plain"}};
    bench *b = *state;
    if (!b->emulated)
        skip();
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        check_way(b, &ways[i]);
}

/* A file that cannot be written is said before anything is computed. */
static void test_no_file(void **state) {
    swt_cuda_gemms *other = NULL;
    (void)state;
    assert_int_equal(setenv("SWT_CUDA_GEMMS", "/nowhere/gemms", 1), 0);
    assert_int_equal(swt_cuda_gemms_open(&other), SWT_FILE);
    assert_null(other);
    assert_non_null(strstr(swt_last_error()->message, "SWT_CUDA_GEMMS: /nowhere/gemms: No such"));
    assert_int_equal(unsetenv("SWT_CUDA_GEMMS"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ways, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_no_file, open_bench, close_bench),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
