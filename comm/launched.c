/* Who started this process, told by the environment: a launcher says so in variables of its own. */
#include "comm/swt_comm.h"

#include <stdlib.h>

/* Where a launcher says how many processes it started, and which of them this one is. The first
 * launcher that says it counts: Slurm starts the others' helpers, whose variables come down to us
 * with Slurm's. Slurm's allocations (salloc, sbatch) set SLURM_NTASKS and SLURM_PROCID for a single
 * shell, so only what a step alone has counts. */
static const struct launcher {
    const char *size, *rank;
} launchers[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"}, /* Open MPI's mpirun */
    {"MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"},   /* MVAPICH2 */
    {"JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK"},     /* jsrun */
    {"PMI_SIZE", "PMI_RANK"},                         /* Hydra, PALS, Flux, srun --mpi=pmi2 */
    {"MPI_LOCALNRANKS", "MPI_LOCALRANKID"},           /* Hydra, on this machine */
    {"PALS_LOCAL_SIZE", "PALS_RANKID"},
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"},
    {NULL, "PMIX_RANK"}, /* a rank above 0 is not alone */
};

static long long number(swt_variable variable, const char *name) {
    const char *text = name != NULL ? variable(name) : NULL;
    return text != NULL ? strtoll(text, NULL, 10) : -1;
}

const char *swt_comm_split_apart(swt_variable variable, int world_size, int *rank) {
    *rank = 0;
    if (world_size > 1)
        return NULL;
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
        const struct launcher *l = &launchers[i];
        const long long size = number(variable, l->size), own = number(variable, l->rank);
        if (size < 0 && (l->size != NULL || own <= 0))
            continue;
        if (size == 1 || size == 0)
            return NULL;
        *rank = own > 0 ? (int)own : 0;
        return l->size != NULL ? l->size : l->rank;
    }
    return NULL;
}

bool swt_comm_launched_by_mpi(void) {
    /* Set by mpirun, PMIx launchers and srun --mpi. SLURM_PROCID does not count: a plain srun or
     * sbatch sets it too, without MPI. */
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK",
                                        "PMI_SIZE"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (getenv(names[i]))
            return true;
    return false;
}

swt_status swt_comm_check_alone(const swt_comm *world) {
    int rank = 0;
    const char *name = swt_comm_split_apart(getenv, world->size, &rank);
    if (name == NULL)
        return SWT_OK;
    const swt_status status = SWT_FAIL(
        USAGE,
        "%s=%s: one of several processes, but MPI says that this one is alone, and each would do "
        "all of the work; start them by launch/run, by the mpirun of the Open MPI that this "
        "program is linked with, or by srun --mpi=pmix. For one process alone: env -u %s",
        name, getenv(name), name);
    swt_last_error()->silent = rank > 0; /* one line is enough */
    return status;
}
