/* Every input of tests/fuzz/corpus once through its target, by any compiler and its sanitizers:
 * what fuzzing has found stays found. Files of tensors and vocabularies also cut off anywhere and
 * with each of their bits flipped. A broken promise ends the process, which fails the test. */
#include "fuzz/targets.h"
#include "support/temp.h"

static void damage(const fuzz_target *target, uint8_t *input, size_t bytes) {
    for (size_t n = 0; n <= bytes; n++)
        target->run(input, n);
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        input[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        target->run(input, bytes);
        input[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

static void replay(void **state) {
    const fuzz_target *target = *state;
    char folder[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES];
    int inputs = 0;
    temp_path(folder, SWT_SOURCE_DIR "/tests/fuzz/corpus", target->name);
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    for (const struct dirent *e = readdir(stream); e != NULL; e = readdir(stream)) {
        size_t bytes = 0;
        if (e->d_name[0] == '.')
            continue;
        char *input = temp_read(temp_path(path, folder, e->d_name), &bytes);
        if (target->damaged)
            damage(target, (uint8_t *)input, bytes);
        target->run((const uint8_t *)input, bytes);
        free(input);
        inputs++;
    }
    closedir(stream);
    assert_true(inputs >= 5);
    target->run(NULL, 0);
}

int main(void) {
    struct CMUnitTest tests[16] = {{0}};
    size_t count = 0;
    for (const fuzz_target *t = fuzz_targets; t->name != NULL; t++)
        tests[count++] = (struct CMUnitTest){
            .name = t->name, .test_func = replay, .initial_state = (void *)(uintptr_t)t};
    return _cmocka_run_group_tests("corpus", tests, count, NULL, NULL);
}
