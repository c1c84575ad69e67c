/* What test_run.sh runs on the ranks: usage DIR MODE [CODE]. Each rank leaves its process number in
 * DIR/pid.RANK, and rank 0 the file DIR/ready once all ranks have started. Like swt-dist it catches
 * SIGINT and SIGTERM and stops when all ranks have agreed to. */
#include "comm/swt_comm.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

static void leave_file(const char *dir, const char *name, int number) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f || fprintf(f, "%d\n", number) < 0 || fclose(f) != 0)
        abort();
}

static void must(swt_status status) {
    if (status != SWT_OK)
        abort();
}

/* One rank cannot go on; the others wait for it. */
static void end_one(swt_comm *comm, const char *mode, int code) {
    if (comm->rank == comm->size - 1) {
        if (strcmp(mode, "kill") == 0)
            raise(code);
        fprintf(stderr, "the one message\n");
        swt_comm_abort(comm, code);
    }
    must(swt_comm_agree(comm, SWT_OK));
}

/* Steps until a signal came; then an end that takes longer than mpirun waits for a killed rank. */
static void work(swt_comm *comm, const char *dir) {
    int64_t stopping = 0;
    while (stopping == 0) {
        usleep(10000);
        stopping = stop;
        must(swt_comm_all_reduce_i64(comm, &stopping, 1, NULL));
    }
    sleep(3);
    if (comm->rank == 0)
        leave_file(dir, "weights", 1);
}

int main(int argc, char **argv) {
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    swt_comm comm;
    if (argc < 3 || swt_comm_open_mpi(&comm) != SWT_OK)
        return 99;
    const char *dir = argv[1], *mode = argv[2];
    int code = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0;
    char name[32];
    snprintf(name, sizeof name, "pid.%d", comm.rank);
    leave_file(dir, name, (int)getpid());
    must(swt_comm_agree(&comm, SWT_OK));
    if (comm.rank == 0)
        leave_file(dir, "ready", 1);

    if (strcmp(mode, "abort") == 0 || strcmp(mode, "kill") == 0)
        end_one(&comm, mode, code);
    else if (strcmp(mode, "work") == 0)
        work(&comm, dir), code = 130;
    else if (strcmp(mode, "hang") == 0)
        for (;;)
            pause();
    else if (comm.rank == 0 && code != 0)
        fprintf(stderr, "the one message\n");
    else if (comm.rank == 0)
        for (int i = 3; i < argc; i++)
            printf("<%s>\n", argv[i]);
    swt_comm_close(&comm);
    return code;
}
