#include "comm/same_call.h"

#include "base/words.h"

#include <string.h>

/* The finish of splitmix64 (Steele, Lea, Flood 2014): every bit of x moves every bit of the result.
 */
static uint64_t mix(uint64_t hash, uint64_t x) {
    x += hash * UINT64_C(0x9e3779b97f4a7c15) + 1;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint64_t swt_claim_split(const swt_split *split, int size) {
    uint64_t hash = 0;
    for (int p = 0; p <= size; p++)
        hash = mix(hash, (uint64_t)split->first[p]);
    return hash;
}

static uint64_t hash_of(const swt_claim *c) {
    uint64_t hash = mix(0, (uint64_t)c->call);
    hash = mix(hash, (uint64_t)c->detail);
    hash = mix(hash, (uint64_t)c->count);
    hash = mix(hash, (uint64_t)c->bytes);
    return mix(hash, c->split);
}

static bool is_same(const swt_claim *a, const swt_claim *b) {
    return a->call == b->call && a->detail == b->detail && a->count == b->count &&
           a->bytes == b->bytes && a->split == b->split;
}

static void describe(const swt_claim *c, char *out, size_t out_bytes) {
    static const char *const names[] = {
#define SWT_CALL_NAME(name, text) [SWT_CALL_##name] = (text),
        SWT_CALL_LIST(SWT_CALL_NAME)
#undef SWT_CALL_NAME
    };
    out[0] = '\0';
    swt_append(out, out_bytes, "%s", names[c->call]);
    if (c->call == SWT_CALL_SPLIT || c->call == SWT_CALL_NODE)
        return;
    swt_append(out, out_bytes, " of %lld x %lld bytes", (long long)c->count, (long long)c->bytes);
    if (c->call == SWT_CALL_BROADCAST)
        swt_append(out, out_bytes, " from rank %d", c->detail);
    if (c->call == SWT_CALL_ALL_TO_ALL)
        swt_append(out, out_bytes, " to the %s, split %08x",
                   c->detail == SWT_TO_OWNERS ? "owners" : "sources", (unsigned)c->split);
}

/* All ranks know that their calls differ: the first that differs from rank 0's is named. */
static swt_status name_both(swt_comm *host, const swt_claim *own) {
    char ours[160], theirs[160];
    swt_claim first = *own;
    swt_status status = SWT_OK;
    SWT_TRY(swt_comm_broadcast(host, &first, sizeof first, 0, NULL));
    if (!is_same(own, &first)) {
        describe(own, ours, sizeof ours);
        describe(&first, theirs, sizeof theirs);
        status = SWT_FAIL(INTERNAL,
                          "calls %s while rank 0 calls %s; every rank must make the same calls "
                          "with the same counts",
                          ours, theirs);
    }
    return swt_comm_agree(host, status);
}

/* A sum of hashes is its own hash, as often as there are ranks, where all are the same. */
static swt_status compare(swt_comm *host, const swt_claim *claim) {
    int64_t sum = (int64_t)hash_of(claim);
    SWT_TRY(swt_comm_all_reduce_i64(host, &sum, 1, NULL));
    if ((uint64_t)sum == hash_of(claim) * (uint64_t)host->size)
        return SWT_OK;
    return name_both(host, claim);
}

swt_status swt_comm_same_call(swt_comm *comm, const swt_claim *claim) {
    swt_comm *host = comm->host != NULL ? comm->host : comm;
    if (!comm->compares || host->comparing || host->size == 1)
        return SWT_OK;
    const int64_t sent_bytes = host->sent_bytes;
    const double busy_ms = host->busy_ms;
    host->comparing = true; /* its own calls are not compared */
    const swt_status status = compare(host, claim);
    host->comparing = false;
    host->sent_bytes = sent_bytes;
    host->busy_ms = busy_ms;
    return status;
}
