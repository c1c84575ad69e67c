/* How many threads a process may have: quotas of control groups, cores that processes share, and
 * OpenMP's own limits. */
#include "base/cores.h"
#include "kernels/swt_threads.h"
#include "support/temp.h"

typedef struct file {
    const char *path, *text;
} file;

enum { FILES = 6 };

/* A machine's /proc and /sys, and what it must say. */
typedef struct machine {
    const char *name;
    file files[FILES];
    double quota;
} machine;

#define GROUP "proc/self/cgroup"
#define FS    "sys/fs/cgroup"

static const machine machines[] = {
    {"nothing", {{NULL, NULL}}, 0.0},
    {"version 2, no limit", {{GROUP, "0::/a\n"}, {FS "/a/cpu.max", "max 100000\n"}}, 0.0},
    {"version 2", {{GROUP, "0::/a\n"}, {FS "/a/cpu.max", "150000 100000\n"}}, 1.5},
    {"a group around it",
     {{GROUP, "0::/a/b/c\n"},
      {FS "/a/cpu.max", "200000 100000\n"},
      {FS "/a/b/cpu.max", "max 100000\n"},
      {FS "/a/b/c/cpu.max", "800000 100000\n"}},
     2.0},
    {"a container that sees its own group as the root",
     {{GROUP, "0::/\n"}, {FS "/cpu.max", "300000 100000\n"}},
     3.0},
    {"a container that sees the host's path",
     {{GROUP, "3:cpu,cpuacct:/docker/1\n0::/docker/1\n"},
      {FS "/cpu,cpuacct/cpu.cfs_quota_us", "250000\n"},
      {FS "/cpu,cpuacct/cpu.cfs_period_us", "100000\n"}},
     2.5},
    {"version 1",
     {{GROUP, "9:memory:/x\n4:cpuacct:/x\n2:cpu:/x\n"},
      {FS "/cpu/x/cpu.cfs_quota_us", "50000\n"},
      {FS "/cpu/x/cpu.cfs_period_us", "100000\n"},
      {FS "/memory/x/cpu.max", "10000 100000\n"}},
     0.5},
    {"version 1, no limit",
     {{GROUP, "2:cpu:/x\n"},
      {FS "/cpu/x/cpu.cfs_quota_us", "-1\n"},
      {FS "/cpu/x/cpu.cfs_period_us", "100000\n"}},
     0.0},
    {"broken", {{GROUP, "0::/a\n:\n0\n"}, {FS "/a/cpu.max", "many\n"}}, 0.0},
};

static void put(const char *root, const file *f) {
    char path[TEMP_PATH_BYTES];
    temp_path(path, root, f->path);
    for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        (void)mkdir(path, 0777);
        *at = '/';
    }
    temp_write(path, f->text, strlen(f->text));
}

static void quotas(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        char root[TEMP_PATH_BYTES], name[16];
        uint64_t group = 0;
        snprintf(name, sizeof name, "%zu", i);
        assert_int_equal(mkdir(temp_in(root, name), 0777), 0);
        for (int j = 0; j < FILES && machines[i].files[j].path != NULL; j++)
            put(root, &machines[i].files[j]);
        const double quota = swt_cores_quota(root, &group);
        if (quota != machines[i].quota || (quota > 0.0) != (group != 0))
            fail_msg("%s: %g cores, not %g", machines[i].name, quota, machines[i].quota);
    }
}

static swt_cores process(unsigned char mask, int in_mask, int group, int in_quota) {
    return (swt_cores){.mask = {mask},
                       .machine = "one",
                       .group = (uint64_t)group,
                       .in_mask = in_mask,
                       .in_quota = in_quota};
}

static void shares(void **state) {
    (void)state;
    swt_cores all[4];
    for (int i = 0; i < 4; i++)
        all[i] = process(0xff, 8, 0, 0);
    assert_int_equal(swt_cores_share(&all[0], all, 1), 8);
    assert_int_equal(swt_cores_share(&all[0], all, 4), 2);
    all[3].machine[0] = 'x';
    assert_int_equal(swt_cores_share(&all[0], all, 4), 2); /* 8 by 3 */
    assert_int_equal(swt_cores_share(&all[3], all, 4), 8);
    for (int i = 0; i < 4; i++) /* bound to cores of their own, under one quota of 4 */
        all[i] = process((unsigned char)(3 << (2 * i)), 2, 7, 4);
    assert_int_equal(swt_cores_share(&all[0], all, 1), 2);
    assert_int_equal(swt_cores_share(&all[0], all, 4), 1);
    all[1].group = all[2].group = all[3].group = 8;
    assert_int_equal(swt_cores_share(&all[0], all, 4), 2);
    all[0] = process(0xff, 8, 7, 1);
    assert_int_equal(swt_cores_share(&all[0], all, 4), 1);
}

static void this_process(void **state) {
    (void)state;
    swt_cores own;
    const int allowed = swt_cores_allowed(&own);
    assert_in_range(allowed, 1, own.in_mask);
    assert_int_equal(swt_cores_share(&own, &own, 1), allowed);
}

static int64_t limited(int64_t threads, bool asked, const char *number, const char *limit,
                       const char **name) {
    assert_int_equal(setenv("OMP_NUM_THREADS", number, 1), 0);
    assert_int_equal(setenv("OMP_THREAD_LIMIT", limit, 1), 0);
    return swt_threads_limit(threads, asked, name);
}

static void openmp_limits(void **state) {
    (void)state;
    const char *name = NULL;
    assert_int_equal(limited(8, false, "", "", &name), 8);
    assert_null(name);
    assert_int_equal(limited(8, false, "4,2", "6", &name), 4);
    assert_string_equal(name, "OMP_NUM_THREADS");
    assert_int_equal(limited(8, true, "4", "6", &name), 6);
    assert_string_equal(name, "OMP_THREAD_LIMIT");
    assert_int_equal(limited(8, false, "16", "-1", &name), 8);
    assert_null(name);
    assert_int_equal(limited(8, false, "many", "0", &name), 8);
    assert_null(name);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEMP_TEST(quotas),
        cmocka_unit_test(shares),
        cmocka_unit_test(this_process),
        cmocka_unit_test(openmp_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
