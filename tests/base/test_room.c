#include "support/temp.h"

#include "base/room.h"

#include <sys/resource.h>

static const double mib = 1048576.0;

/* A file below a folder that stands for the root of the file system, its folders made. */
static void put(const char *name, const char *text) {
    char path[TEMP_PATH_BYTES];
    temp_in(path, name);
    for (char *c = path + strlen(temp_folder) + 1; *c != '\0'; c++) {
        if (*c != '/')
            continue;
        *c = '\0';
        (void)mkdir(path, 0777); /* or it is there */
        *c = '/';
    }
    temp_write(path, text, strlen(text));
}

static void expect_room(double free_mib, double total_mib) {
    size_t free_bytes = 0, total_bytes = 0;
    assert_true(swt_room(temp_folder, &free_bytes, &total_bytes));
    assert_int_equal(free_bytes, (size_t)(free_mib * mib));
    assert_int_equal(total_bytes, (size_t)(total_mib * mib));
}

static void test_least(void **state) {
    (void)state;
    size_t free_bytes = 0, total_bytes = 0;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_DATA, &before), 0);
    if (before.rlim_cur != RLIM_INFINITY)
        skip();
    assert_false(swt_room(temp_folder, &free_bytes, &total_bytes));
    put("proc/meminfo", "MemTotal:  8388608 kB\nMemFree:  1 kB\nMemAvailable: 4194304 kB\n");
    expect_room(4096, 8192);
    /* Version 2: no limit of its own, one above it; pages of files that were read once are free. */
    put("proc/self/cgroup", "0::/job/step\n");
    put("sys/fs/cgroup/job/step/memory.max", "max\n");
    put("sys/fs/cgroup/job/step/memory.current", "1048576\n");
    expect_room(4096, 8192);
    put("sys/fs/cgroup/job/memory.max", "1073741824\n");
    put("sys/fs/cgroup/job/memory.current", "805306368\n");
    expect_room(256, 1024);
    put("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 268435456\n");
    expect_room(512, 1024);
    put("sys/fs/cgroup/job/memory.current", "2147483648\n"); /* lowered under its use */
    expect_room(0, 1024);
    /* Version 1. */
    put("proc/self/cgroup", "4:cpu,cpuacct:/x\n3:memory:/y\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/y/memory.limit_in_bytes", "2147483648\n");
    put("sys/fs/cgroup/memory/y/memory.usage_in_bytes", "1073741824\n");
    put("sys/fs/cgroup/memory/y/memory.stat", "total_inactive_file 1048576\n");
    expect_room(1025, 2048);
    /* The process's own limit. */
    put("proc/self/status", "Name: x\nVmSize:  9000000 kB\nVmData:  65536 kB\n");
#if !defined(__SANITIZE_ADDRESS__) /* it needs more than any such limit */
    struct rlimit small = before;
    small.rlim_cur = 1000 * 1048576;
    assert_int_equal(setrlimit(RLIMIT_DATA, &small), 0);
    expect_room(936, 1000);
    assert_int_equal(setrlimit(RLIMIT_DATA, &before), 0);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {TEMP_TEST(test_least)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
