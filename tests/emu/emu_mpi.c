/* MPI's blocking calls on host memory, as far as the program makes them (comm/comm_mpi.c), while
 * the streams of the emulated GPU go on, as a GPU does by itself: else a rank that waits here could
 * hold up what a peer waits for on its stream. */
#include "tests/emu/emu.h"
#include "tests/emu/emu_nccl.h"

#include <mpi.h>
#include <time.h>

/* Wait without blocking; the request's own result stays. */
static int finish(int code, MPI_Request *request) {
    int done = 0;
    while (code == MPI_SUCCESS && !done) {
        code = PMPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (code == MPI_SUCCESS && !done && !swt_emu_poll())
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    return code;
}

int MPI_Barrier(MPI_Comm comm) {
    MPI_Request request = MPI_REQUEST_NULL;
    return finish(PMPI_Ibarrier(comm, &request), &request);
}

int MPI_Bcast(void *buffer, int count, MPI_Datatype type, int root, MPI_Comm comm) {
    MPI_Request request = MPI_REQUEST_NULL;
    return finish(PMPI_Ibcast(buffer, count, type, root, comm, &request), &request);
}

int MPI_Allreduce(const void *send, void *receive, int count, MPI_Datatype type, MPI_Op op,
                  MPI_Comm comm) {
    MPI_Request request = MPI_REQUEST_NULL;
    return finish(PMPI_Iallreduce(send, receive, count, type, op, comm, &request), &request);
}

int MPI_Allgather(const void *send, int send_count, MPI_Datatype send_type, void *receive,
                  int receive_count, MPI_Datatype receive_type, MPI_Comm comm) {
    MPI_Request request = MPI_REQUEST_NULL;
    return finish(PMPI_Iallgather(send, send_count, send_type, receive, receive_count, receive_type,
                                  comm, &request),
                  &request);
}

int MPI_Test(MPI_Request *request, int *done, MPI_Status *status) {
    const int code = PMPI_Test(request, done, status);
    if (code == MPI_SUCCESS && !*done && !swt_emu_poll())
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    return code;
}

int MPI_Waitall(int count, MPI_Request requests[], MPI_Status statuses[]) {
    int code = MPI_SUCCESS, done = 0;
    while (code == MPI_SUCCESS && !done) {
        code = PMPI_Testall(count, requests, &done, statuses);
        if (code == MPI_SUCCESS && !done && !swt_emu_poll())
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    return code;
}

int MPI_Abort(MPI_Comm comm, int exit_code) {
    swt_emu_nccl_check_aborts();
    return PMPI_Abort(comm, exit_code);
}

int MPI_Comm_split(MPI_Comm comm, int color, int key, MPI_Comm *out) {
    const int code = MPI_Barrier(comm);
    return code == MPI_SUCCESS ? PMPI_Comm_split(comm, color, key, out) : code;
}
