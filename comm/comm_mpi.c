/* Host memory over Open MPI. Only this file knows mpi.h. */
#include "comm/exchange.h"

#include "base/checked.h"

#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

typedef struct mpi_own {
    MPI_Comm comm;
    bool world; /* the communicator of all processes: closing it ends MPI */
    /* One request per block under way. Grows when an exchange needs more than any before it, so
     * only the first step of a run can allocate. */
    MPI_Request *requests;
    int capacity;
} mpi_own;

/* Call an MPI function; its error becomes a COMM error that names the function and the rank. */
#define SWT_MPI(rank, function, ...)                                                               \
    SWT_TRY(mpi_check(function(__VA_ARGS__), #function, (rank), __LINE__))

static swt_status mpi_check(int code, const char *function, int rank, int line) {
    if (code == MPI_SUCCESS)
        return SWT_OK;
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return swt_fail(SWT_COMM, __FILE__, line,
                    "%s on rank %d: %s; every rank must be alive and make the same calls", function,
                    rank, text);
}

static mpi_own *own_of(const swt_comm *comm) {
    return comm->own;
}

/* MPI counts are int. A run of bytes is `count` elements of `type`: bytes, or one element of a type
 * made for it where the bytes exceed an int. Give it back with free_bytes_type. */
typedef struct bytes_type {
    MPI_Datatype type;
    int count;
} bytes_type;

static void free_bytes_type(bytes_type *bytes) {
    if (bytes->type != MPI_BYTE)
        MPI_Type_free(&bytes->type);
}

enum { PIECE_BITS = 30, PIECE = 1 << PIECE_BITS };

/* A type of `pieces` pieces of PIECE bytes and `rest` bytes behind them. */
static swt_status make_long_type(int rank, int pieces, int rest, MPI_Datatype *out) {
    MPI_Datatype piece = MPI_DATATYPE_NULL;
    SWT_MPI(rank, MPI_Type_contiguous, PIECE, MPI_BYTE, &piece);
    const int lengths[2] = {pieces, rest};
    const MPI_Aint places[2] = {0, (MPI_Aint)pieces * PIECE};
    const MPI_Datatype types[2] = {piece, MPI_BYTE};
    const int code = MPI_Type_create_struct(2, lengths, places, types, out);
    MPI_Type_free(&piece);
    SWT_TRY(mpi_check(code, "MPI_Type_create_struct", rank, __LINE__));
    SWT_MPI(rank, MPI_Type_commit, out);
    return SWT_OK;
}

static swt_status make_bytes_type(int rank, size_t bytes, bytes_type *out) {
    *out = (bytes_type){.type = MPI_BYTE, .count = 0};
    if (bytes <= INT_MAX) {
        out->count = (int)bytes;
        return SWT_OK;
    }
    const size_t pieces = bytes >> PIECE_BITS, rest = bytes % PIECE;
    if (pieces > INT_MAX)
        return SWT_FAIL(COMM, "MPI on rank %d: %zu bytes in one message; 2^61 are possible", rank,
                        bytes);
    out->count = 1;
    return make_long_type(rank, (int)pieces, (int)rest, &out->type);
}

static swt_status reserve_requests(mpi_own *own, int rank, int64_t count) {
    if (count <= own->capacity)
        return SWT_OK;
    if (count > INT_MAX)
        return SWT_FAIL(COMM, "swt_comm_all_to_all on rank %d: %lld messages; %d are possible",
                        rank, (long long)count, INT_MAX);
    MPI_Request *grown = realloc(own->requests, (size_t)count * sizeof *grown);
    if (!grown)
        return SWT_FAIL(MEMORY, "swt_comm_all_to_all on rank %d: %lld requests; free some memory",
                        rank, (long long)count);
    own->requests = grown;
    own->capacity = (int)count;
    return SWT_OK;
}

typedef struct exchange {
    swt_exchange args;
    bytes_type block;
    int posted;
} exchange;

static void copy_own_blocks(const swt_exchange *x, unsigned char *receive,
                            const unsigned char *send) {
    const swt_blocks from = swt_blocks_sent(x, x->comm->rank);
    const swt_blocks to = swt_blocks_received(x, x->comm->rank);
    for (int64_t i = 0; i < from.count; i++)
        memcpy(receive + swt_block_place(x, to, i), send + swt_block_place(x, from, i),
               x->block_bytes);
}

/* Between two ranks messages arrive in the order they were sent, and both sides walk the blocks in
 * the same order, so one tag serves them all. */
static swt_status post_receives(exchange *x, int peer, unsigned char *receive) {
    const swt_blocks b = swt_blocks_received(&x->args, peer);
    mpi_own *own = own_of(x->args.comm);
    for (int64_t i = 0; i < b.count; i++)
        SWT_MPI(x->args.comm->rank, MPI_Irecv, receive + swt_block_place(&x->args, b, i),
                x->block.count, x->block.type, peer, 0, own->comm, &own->requests[x->posted++]);
    return SWT_OK;
}

static swt_status post_sends(exchange *x, int peer, const unsigned char *send) {
    const swt_blocks b = swt_blocks_sent(&x->args, peer);
    mpi_own *own = own_of(x->args.comm);
    for (int64_t i = 0; i < b.count; i++)
        SWT_MPI(x->args.comm->rank, MPI_Isend, send + swt_block_place(&x->args, b, i),
                x->block.count, x->block.type, peer, 0, own->comm, &own->requests[x->posted++]);
    return SWT_OK;
}

/* Every rank begins with another peer, so that they do not all send to the same one. */
static swt_status run_exchange(exchange *x, unsigned char *receive, const unsigned char *send) {
    const int rank = x->args.comm->rank, size = x->args.comm->size;
    for (int k = 1; k < size; k++)
        SWT_TRY(post_receives(x, (rank + size - k) % size, receive));
    for (int k = 1; k < size; k++)
        SWT_TRY(post_sends(x, (rank + k) % size, send));
    copy_own_blocks(&x->args, receive, send);
    SWT_MPI(rank, MPI_Waitall, x->posted, own_of(x->args.comm)->requests, MPI_STATUSES_IGNORE);
    return SWT_OK;
}

/* Wait until all ranks have come here, where there is somebody to ask meanwhile: MPI's own waits
 * ask nobody, and do not end where a peer stands still. */
static swt_status meet(swt_comm *comm) {
    MPI_Request request = MPI_REQUEST_NULL;
    int done = 0;
    if (comm->ask == NULL)
        return SWT_OK;
    SWT_MPI(comm->rank, MPI_Ibarrier, own_of(comm)->comm, &request);
    while (!done) {
        SWT_TRY(comm->ask(comm->asked));
        SWT_MPI(comm->rank, MPI_Test, &request, &done, MPI_STATUS_IGNORE);
    }
    return SWT_OK;
}

static swt_status mpi_all_to_all(swt_comm *comm, swt_direction direction, void *receive,
                                 const void *send, const swt_split *split, size_t block_bytes,
                                 swt_stream *stream) {
    (void)stream;
    if (block_bytes == 0)
        return SWT_OK;
    exchange x = {.args = {comm, split, direction, block_bytes}};
    /* comm.c has checked that own * size and total do not wrap. */
    const int64_t total = split->first[comm->size];
    const int64_t own = swt_blocks_at_owner(comm, split, comm->rank).count;
    int64_t messages = 0;
    if (!swt_checked_add(total - own, own * (comm->size - 1), &messages))
        messages = INT64_MAX;
    SWT_TRY(reserve_requests(own_of(comm), comm->rank, messages));
    SWT_TRY(meet(comm));
    SWT_TRY(make_bytes_type(comm->rank, block_bytes, &x.block));
    const swt_status status = run_exchange(&x, receive, send);
    free_bytes_type(&x.block);
    return status;
}

static swt_status mpi_all_reduce_i64(swt_comm *comm, int64_t *data, int64_t count,
                                     swt_stream *stream) {
    (void)stream;
    SWT_TRY(meet(comm));
    while (count > 0) {
        const int n = (int)swt_min(count, INT_MAX);
        SWT_MPI(comm->rank, MPI_Allreduce, MPI_IN_PLACE, data, n, MPI_INT64_T, MPI_SUM,
                own_of(comm)->comm);
        data += n;
        count -= n;
    }
    return SWT_OK;
}

static swt_status mpi_all_gather(swt_comm *comm, void *receive, const void *send, size_t bytes,
                                 swt_stream *stream) {
    (void)stream;
    bytes_type part;
    SWT_TRY(meet(comm));
    SWT_TRY(make_bytes_type(comm->rank, bytes, &part));
    const int code = MPI_Allgather(send, part.count, part.type, receive, part.count, part.type,
                                   own_of(comm)->comm);
    free_bytes_type(&part);
    return mpi_check(code, "MPI_Allgather", comm->rank, __LINE__);
}

static swt_status mpi_broadcast(swt_comm *comm, void *data, size_t bytes, int root,
                                swt_stream *stream) {
    (void)stream;
    bytes_type whole;
    SWT_TRY(meet(comm));
    SWT_TRY(make_bytes_type(comm->rank, bytes, &whole));
    const int code = MPI_Bcast(data, whole.count, whole.type, root, own_of(comm)->comm);
    free_bytes_type(&whole);
    return mpi_check(code, "MPI_Bcast", comm->rank, __LINE__);
}

static swt_status mpi_wait(swt_comm *comm, swt_stream *stream) {
    (void)comm, (void)stream;
    return SWT_OK;
}

static swt_status mpi_node(swt_comm *comm, int *local_rank, int *local_size) {
    MPI_Comm node = MPI_COMM_NULL;
    SWT_TRY(meet(comm));
    SWT_MPI(comm->rank, MPI_Comm_split_type, own_of(comm)->comm, MPI_COMM_TYPE_SHARED, comm->rank,
            MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, local_rank);
    MPI_Comm_size(node, local_size);
    SWT_MPI(comm->rank, MPI_Comm_free, &node);
    return SWT_OK;
}

/* MPI_Abort ends all processes of the launcher, whichever communicator it gets. */
static void mpi_abort(swt_comm *comm, int exit_code) {
    MPI_Abort(own_of(comm)->comm, exit_code);
}

static void mpi_close(swt_comm *comm) {
    mpi_own *own = own_of(comm);
    free(own->requests);
    if (own->world) {
        /* Ranks of Open MPI 4.1 were seen to crash in MPI_Finalize where no barrier came before
         * (its issue 10313). No rank waits here in vain: one whose error the others do not know of
         * ends all of them by swt_comm_abort instead. Nobody is left to hear of an error. */
        (void)MPI_Barrier(own->comm);
        MPI_Finalize();
    } else
        MPI_Comm_free(&own->comm);
    free(own);
}

static swt_status mpi_split(swt_comm *comm, int color, int key, swt_comm *out);

static const swt_comm_table mpi_table = {
    .name = "mpi",
    .all_to_all = mpi_all_to_all,
    .all_reduce_i64 = mpi_all_reduce_i64,
    .all_gather = mpi_all_gather,
    .broadcast = mpi_broadcast,
    .wait = mpi_wait,
    .split = mpi_split,
    .node = mpi_node,
    .abort = mpi_abort,
    .close = mpi_close,
};

/* Make *out of an MPI communicator. MPI's own reaction to an error is to end the process without
 * our message, so every communicator returns its errors. */
static swt_status wrap(MPI_Comm handle, bool world, swt_comm *out) {
    int rank = 0, size = 0;
    SWT_MPI(rank, MPI_Comm_set_errhandler, handle, MPI_ERRORS_RETURN);
    SWT_MPI(rank, MPI_Comm_rank, handle, &rank);
    SWT_MPI(rank, MPI_Comm_size, handle, &size);
    mpi_own *own = calloc(1, sizeof *own);
    if (!own)
        return SWT_FAIL(MEMORY, "MPI on rank %d: no memory for a communicator; free some", rank);
    own->comm = handle;
    own->world = world;
    *out = (swt_comm){.table = &mpi_table,
                      .rank = rank,
                      .size = size,
                      .own = own,
                      .world_stride = 1,
                      .compares = SWT_COMM_COMPARES};
    return SWT_OK;
}

static swt_status mpi_split(swt_comm *comm, int color, int key, swt_comm *out) {
    MPI_Comm handle = MPI_COMM_NULL;
    SWT_TRY(meet(comm));
    SWT_MPI(comm->rank, MPI_Comm_split, own_of(comm)->comm, color, key, &handle);
    const swt_status status = wrap(handle, false, out);
    if (status != SWT_OK)
        MPI_Comm_free(&handle);
    return status;
}

swt_status swt_comm_open_mpi(swt_comm *out) {
    int started = 0, level = MPI_THREAD_SINGLE;
    MPI_Initialized(&started);
    if (started)
        return SWT_FAIL(INTERNAL, "swt_comm_open_mpi: MPI was started before; once is possible");
    SWT_MPI(0, MPI_Init_thread, NULL, NULL, MPI_THREAD_FUNNELED, &level);
    swt_status status = SWT_OK;
    if (level < MPI_THREAD_FUNNELED)
        status = SWT_FAIL(COMM,
                          "MPI_Init_thread: gives thread level %d; an MPI with level %d "
                          "(MPI_THREAD_FUNNELED) is needed",
                          level, MPI_THREAD_FUNNELED);
    else
        status = wrap(MPI_COMM_WORLD, true, out);
    /* No MPI_Finalize after an error: it would wait for ranks that have none and wait for this one.
     * A rank that ends without it has the launcher end all of them. */
    return status;
}
