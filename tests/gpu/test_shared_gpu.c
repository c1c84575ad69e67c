/* Two ranks on one GPU, over NCCL and without mpirun: the self-test's checks of several ranks
 * together, whose whole numbers and bits must be exact. For machines with one GPU; correctness
 * alone, because NCCL lets ranks share a GPU as an experiment (2.30), and they take turns on it.
 * Exit code 77: NCCL cannot. */
#include "judge/checks.h"
#include "kernels/swt_backend.h"
#include "support/pair.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 2, SKIPPED = 77, LIMIT_S = 60 };

static swt_status run_checks(swt_trial *t) {
    for (int i = 0; i < swt_check_count; i++) {
        const swt_check_row *row = &swt_check_table[i];
        if (!row->together)
            continue;
        SWT_TRY(swt_check_run(t, i));
        const swt_status own =
            t->found.failed ? SWT_FAIL(NUMBERS, "%s: %s", row->name, t->found.message) : SWT_OK;
        SWT_TRY(swt_comm_agree(t->host, own));
        if (t->host->rank == 0)
            printf("%-20s %4lld cases, %.0f ms: ok\n", row->name, (long long)t->found.cases,
                   t->found.ms);
        fflush(stdout);
    }
    return SWT_OK;
}

/* What a session does for a command (train/place.c), for ranks that share GPU 0. */
static swt_status run_rank(swt_comm *host) {
    static swt_device device;
    static swt_comm world;
    static swt_trial trial;
    swt_stream *stream = NULL;
    SWT_TRY(swt_cuda_backend.open(&device, 0, 1));
    SWT_TRY(swt_stream_create(&device, &stream));
    SWT_TRY(swt_comm_open_nccl(&world, host, &device));
    const swt_trial_setup setup = {.ops = swt_cuda_backend.ops,
                                   .device = &device,
                                   .stream = stream,
                                   .host = host,
                                   .world = &world,
                                   .seed = 42};
    SWT_TRY(swt_comm_agree(host, swt_trial_open(&trial, &setup)));
    SWT_TRY(run_checks(&trial));
    swt_trial_close_all(&trial);
    swt_comm_close(&world);
    swt_stream_destroy(&device, stream);
    swt_device_close(&device);
    swt_comm_close(host);
    return SWT_OK;
}

static void be_rank(int rank, const int ends[RANKS]) {
    int *const end = malloc(sizeof *end);
    swt_comm host;
    if (end == NULL)
        _exit(1);
    *end = ends[rank];
    (void)close(ends[1 - rank]);
    (void)alarm(LIMIT_S);
    swt_test_pair_open(&host, rank, end);
    const swt_status status = run_rank(&host);
    if (status != SWT_OK && !swt_last_error()->silent)
        fprintf(stderr, "rank %d: error: %s\n", rank, swt_last_error()->message);
    fflush(NULL);
    _exit(swt_exit_code(status));
}

static void tell(int rank, int how) {
    if (WIFSIGNALED(how) && WTERMSIG(how) == SIGALRM)
        fprintf(stderr, "rank %d: error: not done after %d s\n", rank, LIMIT_S);
    else
        fprintf(stderr, "rank %d ended with %s %d\n", rank,
                WIFSIGNALED(how) ? "signal" : "exit code",
                WIFSIGNALED(how) ? WTERMSIG(how) : WEXITSTATUS(how));
}

/* The first one that fails ends the other, which may wait for it in NCCL for ever. */
static int await(const pid_t ranks[RANKS]) {
    int code = 0;
    for (int left = RANKS; left > 0; left--) {
        int how = 0;
        const int rank = wait(&how) == ranks[1];
        if (how == 0)
            continue;
        if (code == 0)
            tell(rank, how);
        if (left > 1)
            (void)kill(ranks[1 - rank], SIGKILL);
        code = 1;
    }
    return code;
}

int main(void) {
    int ends[RANKS];
    pid_t ranks[RANKS];
    if (setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 1) != 0 || !swt_comm_nccl_shares_gpus()) {
        printf("skipped: two ranks on one GPU need NCCL 2.30 or newer\n");
        return SKIPPED;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return 1;
    for (int rank = 0; rank < RANKS; rank++) {
        ranks[rank] = fork(); /* before anything of CUDA's, which survives no fork */
        if (ranks[rank] < 0)
            return 1;
        if (ranks[rank] == 0)
            be_rank(rank, ends);
    }
    (void)close(ends[0]);
    (void)close(ends[1]);
    return await(ranks);
}
