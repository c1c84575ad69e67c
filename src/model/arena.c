#include "model/arena.h"

#include "base/checked.h"

#include <string.h>

enum { ALIGN_BYTES = 64, SENTINEL_BYTES = 64, SENTINEL_BYTE = 0xA5 };

#ifdef SWT_ARENA_GUARD
static const bool guarded = true;
#else
static const bool guarded = false;
#endif

const char *swt_arena_category_name(swt_arena_category category) {
    static const char *const names[SWT_ARENA_COUNT] = {
#define SWT_ARENA_NAME(name, what) [SWT_ARENA_##name] = #name,
        SWT_ARENA_LIST(SWT_ARENA_NAME)
#undef SWT_ARENA_NAME
    };
    return names[category];
}

void swt_arena_init(swt_arena *arena, const char *name, bool on_host) {
    *arena = (swt_arena){.name = name, .on_host = on_host};
}

/* The sentinel carries its tensor's size, so that check can walk from one to the next. */
static void sentinel_make(unsigned char sentinel[SENTINEL_BYTES], size_t tensor_bytes) {
    memset(sentinel, SENTINEL_BYTE, SENTINEL_BYTES);
    memcpy(sentinel, &tensor_bytes, sizeof tensor_bytes);
}

/* Calls on the stream NULL are done when they return, but for copies to the host. */
static swt_status fill(swt_arena *arena, unsigned char *to, int byte, size_t bytes) {
    if (!arena->on_host)
        return swt_device_set(arena->device, NULL, to, byte, bytes);
    memset(to, byte, bytes);
    return SWT_OK;
}

static swt_status sentinel_write(swt_arena *arena, size_t place, size_t tensor_bytes) {
    unsigned char sentinel[SENTINEL_BYTES];
    sentinel_make(sentinel, tensor_bytes);
    for (size_t i = 0; i < SENTINEL_BYTES; i++)
        SWT_TRY(fill(arena, arena->base + place + i, sentinel[i], 1));
    return SWT_OK;
}

static swt_status sentinel_read(const swt_arena *arena, size_t place,
                                unsigned char sentinel[SENTINEL_BYTES]) {
    if (arena->on_host) {
        memcpy(sentinel, arena->base + place, SENTINEL_BYTES);
        return SWT_OK;
    }
    SWT_TRY(swt_device_copy(arena->device, NULL, SWT_TO_HOST, sentinel, arena->base + place,
                            SENTINEL_BYTES));
    return swt_stream_sync(arena->device, NULL);
}

swt_status swt_arena_take(swt_arena *arena, void **out, int64_t count, swt_dtype dtype) {
    int64_t bytes = 0, end = 0;
    if (count < 0 || !swt_checked_mul(count, (int64_t)swt_dtype_bytes(dtype), &bytes) ||
        !swt_checked_add(bytes, ALIGN_BYTES - 1, &bytes))
        return SWT_FAIL(MEMORY, "memory: a tensor of this model is larger than the address space; "
                                "use smaller dimensions or batches");
    /* An empty tensor has a place, too: its address is never NULL. */
    bytes = swt_max(bytes / ALIGN_BYTES * ALIGN_BYTES, ALIGN_BYTES);
    const int64_t guard_bytes = guarded ? SENTINEL_BYTES : 0;
    if (!swt_checked_add((int64_t)arena->used_bytes, bytes + guard_bytes, &end))
        return SWT_FAIL(MEMORY, "%s: the plan is larger than the address space", arena->name);
    if (arena->base != NULL && (size_t)end > arena->planned_bytes)
        return SWT_FAIL(INTERNAL, "%s: more taken than planned (%zu bytes)", arena->name,
                        arena->planned_bytes);
    *out = arena->base != NULL ? arena->base + arena->used_bytes : NULL;
    if (guarded && arena->base != NULL)
        SWT_TRY(sentinel_write(arena, arena->used_bytes + (size_t)bytes, (size_t)bytes));
    arena->used_bytes = (size_t)end;
    return SWT_OK;
}

swt_status swt_arena_commit(swt_arena *arena, swt_device *device) {
    arena->device = device;
    arena->planned_bytes = arena->used_bytes;
    arena->used_bytes = 0;
    if (arena->planned_bytes == 0)
        return SWT_OK;
    void *memory = NULL;
    SWT_TRY(arena->on_host ? swt_device_host_alloc(device, &memory, arena->planned_bytes)
                           : swt_device_alloc(device, &memory, arena->planned_bytes));
    arena->base = memory;
    arena->allocated_bytes = arena->planned_bytes;
    return guarded ? fill(arena, arena->base, 0xFF, arena->planned_bytes) : SWT_OK;
}

swt_status swt_arena_check(const swt_arena *arena) {
    if (arena->used_bytes != arena->planned_bytes)
        return SWT_FAIL(INTERNAL, "%s: %zu bytes planned, %zu used", arena->name,
                        arena->planned_bytes, arena->used_bytes);
    if (!guarded || arena->base == NULL)
        return SWT_OK;
    /* Backwards: the last sentinel ends the arena, and each says how long its tensor is. */
    size_t end = arena->used_bytes;
    while (end > 0) {
        unsigned char found[SENTINEL_BYTES], expected[SENTINEL_BYTES];
        size_t tensor_bytes = 0;
        SWT_TRY(sentinel_read(arena, end - SENTINEL_BYTES, found));
        memcpy(&tensor_bytes, found, sizeof tensor_bytes);
        sentinel_make(expected, tensor_bytes);
        if (memcmp(found, expected, SENTINEL_BYTES) != 0 || tensor_bytes > end - SENTINEL_BYTES)
            return SWT_FAIL(INTERNAL, "%s: the tensor that ends at byte %zu was overrun",
                            arena->name, end - SENTINEL_BYTES);
        end -= SENTINEL_BYTES + tensor_bytes;
    }
    return SWT_OK;
}

void swt_arena_fini(swt_arena *arena) {
    if (arena->on_host)
        swt_device_host_release(arena->device, arena->base);
    else
        swt_device_release(arena->device, arena->base);
    *arena = (swt_arena){0};
}
