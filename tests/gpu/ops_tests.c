/* The tests of operations as one program, for bundles (launch/gpu-bundle), where each by itself
 * would carry all kernels: ops_tests NAME runs one, ops_tests alone says their names. */
#include <stdio.h>
#include <string.h>

/* SWT_OPS_TESTS: X(name) for each tests/ops/name.c, whose main is swt_name here. */
#define X(name) int swt_##name(void);
SWT_OPS_TESTS
#undef X

static const struct {
    const char *name;
    int (*run)(void);
} tests[] = {
#define X(name) {#name, swt_##name},
    SWT_OPS_TESTS
#undef X
};

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        if (argc < 2)
            printf("%s\n", tests[i].name);
        else if (strcmp(tests[i].name, argv[1]) == 0)
            return tests[i].run();
    if (argc > 1)
        fprintf(stderr, "%s: is no test of operations\n", argv[1]);
    return argc < 2 ? 0 : 2;
}
