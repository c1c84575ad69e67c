/* Slots for tokens, in integers alone: one block of threads for each group and expert. First which
 * words (the ranks of the drop policy) are kept, then the slots in token order. */
#include "kernels/cuda/block.cuh"
#include "kernels/router_scratch.h"

#include "base/rng.h"

#include <string.h>

enum { BINS = 256, BIN_BITS = 8, WORD_BITS = 32, MOST_THREADS = 1024 };

/* In scratch: which tokens of an overfull group and expert are kept. */
typedef struct ranking {
    uint32_t *word;  /* (N), the lowest are kept; NULL: all words are 0 */
    uint32_t *bound; /* (G, E): words below it are kept, */
    int32_t *ties;   /* (G, E): and as many that equal it */
} ranking;

static __device__ inline int64_t group_tokens(const swt_moe_dims &d) {
    return d.N / d.G;
}

/* The lower word is kept; among equal ones the lower token. */
static __device__ inline uint32_t priority_word(float gate) {
    uint32_t bits;
    if (gate != gate)
        return UINT32_MAX;
    gate += 0.0f; /* -0 becomes +0 */
    memcpy(&bits, &gate, sizeof bits);
    return bits >> 31 ? bits : bits ^ 0x7fffffffu; /* the order of -gate */
}

static __global__ void rank_tokens(uint32_t *word, const swt_step_state *state,
                                   swt_router_assign_args a) {
    const swt_moe_dims &d = a.dims;
    const int64_t n = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= d.N)
        return;
    word[n] = d.drop == SWT_DROP_PRIORITY
                  ? priority_word(a.gate[n])
                  : swt_rng(state->seed, (uint32_t)n, d.micro_batch,
                            d.training ? (uint32_t)state->step : 0u,
                            d.training ? SWT_RNG_DROP : SWT_RNG_DROP_EVAL, d.block)
                        .v[0];
}

/* The word below which are fewer than *want of the block's tokens, while with those that equal it
 * there are as many or more: byte by byte from the top. *want becomes how many of the equal ones
 * belong to them. 1 <= *want <= the block's tokens. */
static __device__ uint32_t find_bound(const int32_t *expert, const uint32_t *word, int64_t tokens,
                                      int64_t e, int32_t *want) {
    __shared__ int32_t histogram[BINS];
    uint32_t prefix = 0;
    for (int shift = WORD_BITS - BIN_BITS; shift >= 0; shift -= BIN_BITS) {
        for (int b = threadIdx.x; b < BINS; b += blockDim.x)
            histogram[b] = 0;
        __syncthreads();
        for (int64_t n = threadIdx.x; n < tokens; n += blockDim.x)
            if (expert[n] == e && (uint64_t)word[n] >> (shift + BIN_BITS) == prefix)
                atomicAdd(&histogram[word[n] >> shift & (BINS - 1)], 1);
        __syncthreads();
        uint32_t byte = 0;
        for (; *want > histogram[byte]; byte++)
            *want -= histogram[byte];
        prefix = prefix << BIN_BITS | byte;
        __syncthreads();
    }
    return prefix;
}

static __global__ __launch_bounds__(MOST_THREADS) void find_bounds(swt_router_assign_args a,
                                                                   ranking r) {
    __shared__ int32_t sums[WARP];
    const int64_t E = a.dims.E, tokens = group_tokens(a.dims);
    const int64_t pair = blockIdx.x, e = pair % E, first = pair / E * tokens;
    const int32_t *const expert = a.expert + first;
    int32_t count = 0;
    for (int64_t n = threadIdx.x; n < tokens; n += blockDim.x)
        count += expert[n] == e;
    count = block_sum(count, sums);
    int32_t want = (int32_t)swt_min(count, a.dims.group_capacity);
    uint32_t bound = 0;
    if (r.word != NULL && want > 0 && want < count)
        bound = find_bound(expert, r.word + first, tokens, e, &want);
    if (threadIdx.x == 0) {
        a.group_counts[pair] = count;
        r.bound[pair] = bound;
        r.ties[pair] = want;
    }
}

/* The slot of group g's first kept token at expert e: what earlier groups keep. Group 0 writes what
 * all keep. */
static __device__ int32_t first_slot_of(const swt_router_assign_args &a, int64_t g, int64_t e,
                                        int32_t *sums) {
    int32_t before = 0, all = 0;
    for (int64_t i = threadIdx.x; i < a.dims.G; i += blockDim.x) {
        const int32_t kept =
            (int32_t)swt_min(a.group_counts[i * a.dims.E + e], a.dims.group_capacity);
        all += kept;
        before += i < g ? kept : 0;
    }
    before = block_sum(before, sums);
    all = block_sum(all, sums);
    if (g == 0 && threadIdx.x == 0)
        a.kept_counts[e] = all;
    return before;
}

static __global__ __launch_bounds__(MOST_THREADS) void number_slots(swt_router_assign_args a,
                                                                    ranking r) {
    __shared__ int32_t found[2][WARP]; /* of each warp: words below the bound, ties above 16 bits */
    __shared__ int32_t sums[WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    const unsigned earlier = (1u << lane) - 1;
    const int64_t E = a.dims.E, tokens = group_tokens(a.dims);
    const int64_t pair = blockIdx.x, g = pair / E, e = pair % E, first = g * tokens;
    const int32_t ties = r.ties[pair], start = first_slot_of(a, g, e, sums);
    const uint32_t bound = r.bound[pair];
    const bool ranked = r.word != NULL && a.group_counts[pair] > a.dims.group_capacity;
    int32_t below_so_far = 0, ties_so_far = 0;
    for (int64_t at = 0, turn = 0; at < tokens; at += blockDim.x, turn ^= 1) {
        const int64_t n = first + at + threadIdx.x;
        const bool there = at + threadIdx.x < tokens;
        const bool mine = there && a.expert[n] == e;
        const uint32_t word = mine && ranked ? r.word[n] : 0;
        const unsigned below = __ballot_sync(0xffffffffu, mine && word < bound);
        const unsigned equal = __ballot_sync(0xffffffffu, mine && word == bound);
        if (lane == 0)
            found[turn][warp] = __popc(below) | __popc(equal) << 16;
        __syncthreads();
        const int32_t of_lane = lane < warps ? found[turn][lane] : 0;
        const int32_t before = warp_sum(lane < warp ? of_lane : 0), all = warp_sum(of_lane);
        const int32_t tie = ties_so_far + (before >> 16) + __popc(equal & earlier);
        const int32_t rank = below_so_far + (before & 0xffff) + __popc(below & earlier) +
                             (int32_t)swt_min(tie, ties);
        if (mine)
            a.slot[n] = word < bound || (word == bound && tie < ties) ? start + rank : -1;
        else if (there && e == 0 && a.expert[n] < 0)
            a.slot[n] = -1;
        below_so_far += all & 0xffff;
        ties_so_far += all >> 16;
    }
}

swt_status swt_cuda_router_assign(const swt_ctx *c, const swt_router_assign_args *a) {
    const swt_moe_dims *d = &a->dims;
    const swt_router_scratch places = swt_router_scratch_of(d);
    char *const memory = (char *)a->scratch;
    const int64_t tokens = d->N / d->G, pairs = d->G * d->E;
    const bool ranked = d->drop != SWT_DROP_POSITION && d->group_capacity < tokens;
    const ranking r = {ranked ? (uint32_t *)(memory + places.cuda.word) : NULL,
                       (uint32_t *)(memory + places.cuda.bound),
                       (int32_t *)(memory + places.cuda.ties)};
    const unsigned threads =
        (unsigned)swt_min(MOST_THREADS, swt_max(swt_ceil_div(tokens, WARP), 1) * WARP);
    cudaStream_t stream = swt_cuda_stream(c);
    if (ranked)
        SWT_TRY(
            SWT_LAUNCH(rank_tokens, blocks_of(d->N, BINS), BINS, 0, stream, r.word, c->state, *a));
    SWT_TRY(SWT_LAUNCH(find_bounds, (unsigned)pairs, threads, 0, stream, *a, r));
    return SWT_LAUNCH(number_slots, (unsigned)pairs, threads, 0, stream, *a, r);
}
