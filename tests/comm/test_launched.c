/* Processes that were started together and do not know of each other: a table of environments. */
#include "comm/swt_comm.h"
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VARIABLES = 8 };

typedef struct launch {
    const char *what;
    const char *environment[VARIABLES];
    int world;        /* ranks that MPI sees */
    const char *told; /* the variable that says more, NULL: all is well */
    int rank;
} launch;

#define SALLOC        "SLURM_JOB_ID=7", "SLURM_NTASKS=4", "SLURM_NNODES=1"
#define STEP(n, rank) SALLOC, "SLURM_STEP_ID=0", "SLURM_STEP_NUM_TASKS=" #n, "SLURM_PROCID=" #rank

static const launch launches[] = {
    /* all is well */
    {"a shell", {"HOME=/"}, 1, NULL, 0},
    {"mpirun", {"OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_RANK=2", "PMIX_RANK=2"}, 4, NULL, 0},
    {"mpirun -n 1",
     {"OMPI_COMM_WORLD_SIZE=1", "OMPI_COMM_WORLD_RANK=0", "PMIX_RANK=0"},
     1,
     NULL,
     0},
    {"srun --mpi=pmix", {STEP(4, 1), "PMIX_RANK=1"}, 4, NULL, 0},
    {"srun --mpi=pmix, one task", {STEP(1, 0), "PMIX_RANK=0"}, 1, NULL, 0},
    {"a shell of salloc", {SALLOC}, 1, NULL, 0},
    {"a script of sbatch", {SALLOC, "SLURM_PROCID=0", "SLURM_LOCALID=0"}, 1, NULL, 0},
    {"srun --pty, one task", {STEP(1, 0)}, 1, NULL, 0},
    {"a container in a job", {STEP(1, 0), "container=docker"}, 1, NULL, 0},
    {"mpirun -n 1 on the second node of a job, started there by srun",
     {STEP(2, 1), "OMPI_COMM_WORLD_SIZE=1", "OMPI_COMM_WORLD_RANK=0"},
     1,
     NULL,
     0},
    {"Hydra with one process, started by srun",
     {STEP(2, 1), "PMI_SIZE=1", "PMI_RANK=0"},
     1,
     NULL,
     0},
    {"Hydra with one process", {"PMI_SIZE=1", "PMI_RANK=0", "MPI_LOCALNRANKS=1"}, 1, NULL, 0},
    {"no numbers", {"PMI_SIZE=", "SLURM_STEP_NUM_TASKS=all"}, 1, NULL, 0},
    /* each alone */
    {"srun without MPI", {STEP(2, 1)}, 1, "SLURM_STEP_NUM_TASKS", 1},
    {"srun --mpi=pmi2", {STEP(2, 0), "PMI_SIZE=2", "PMI_RANK=0"}, 1, "PMI_SIZE", 0},
    {"srun --mpi=pmix and another PMIx", {"PMIX_RANK=3"}, 1, "PMIX_RANK", 3},
    {"another MPI's mpiexec", {"PMI_SIZE=4", "PMI_RANK=3", "PMI_FD=6"}, 1, "PMI_SIZE", 3},
    {"Intel MPI", {"MPI_LOCALNRANKS=2", "MPI_LOCALRANKID=1"}, 1, "MPI_LOCALNRANKS", 1},
    {"MVAPICH2", {"MV2_COMM_WORLD_SIZE=2", "MV2_COMM_WORLD_RANK=0"}, 1, "MV2_COMM_WORLD_SIZE", 0},
    {"jsrun", {"JSM_NAMESPACE_SIZE=6", "JSM_NAMESPACE_RANK=5"}, 1, "JSM_NAMESPACE_SIZE", 5},
    {"PALS", {"PALS_LOCAL_SIZE=2", "PALS_RANKID=1"}, 1, "PALS_LOCAL_SIZE", 1},
    {"the mpirun of another Open MPI",
     {"OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_RANK=1"},
     1,
     "OMPI_COMM_WORLD_SIZE",
     1},
};

static const launch *current;

static char *variable(const char *name) {
    const size_t n = strlen(name);
    for (int i = 0; i < VARIABLES && current->environment[i] != NULL; i++)
        if (strncmp(current->environment[i], name, n) == 0 && current->environment[i][n] == '=')
            return (char *)(uintptr_t)current->environment[i] + n + 1;
    return NULL;
}

static void every_launch(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof launches / sizeof launches[0]; i++) {
        current = &launches[i];
        int rank = -1;
        const char *told = swt_comm_split_apart(variable, current->world, &rank);
        const bool right = told == NULL || current->told == NULL ? told == current->told
                                                                 : strcmp(told, current->told) == 0;
        if (!right || rank != current->rank)
            fail_msg("%s: %s, rank %d", current->what, told != NULL ? told : "all is well", rank);
    }
}

static void what_is_said(void **state) {
    (void)state;
    swt_comm alone;
    swt_comm_open_self(&alone);
    for (size_t i = 0; i < sizeof launches / sizeof launches[0]; i++)
        for (int j = 0; j < VARIABLES && launches[i].environment[j] != NULL; j++) {
            char name[64];
            snprintf(name, sizeof name, "%s", launches[i].environment[j]);
            name[strcspn(name, "=")] = '\0';
            assert_int_equal(unsetenv(name), 0);
        }
    assert_int_equal(swt_comm_check_alone(&alone), SWT_OK);
    assert_int_equal(setenv("PMI_SIZE", "2", 1), 0);
    assert_int_equal(swt_comm_check_alone(&alone), SWT_USAGE);
    assert_non_null(strstr(swt_last_error()->message, "PMI_SIZE=2: "));
    assert_non_null(strstr(swt_last_error()->message, "srun --mpi=pmix"));
    assert_false(swt_last_error()->silent);
    assert_int_equal(setenv("PMI_RANK", "1", 1), 0);
    assert_int_equal(swt_comm_check_alone(&alone), SWT_USAGE);
    assert_true(swt_last_error()->silent); /* the first one speaks */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_launch),
        cmocka_unit_test(what_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
