#include "io/json.h"

#include <stdlib.h>

/* The library says NULL for both. */
static _Thread_local bool allocation_failed;

static void *allocate(size_t bytes) {
    void *memory = malloc(bytes);
    allocation_failed = allocation_failed || memory == NULL;
    return memory;
}

cJSON *swt_json_parse(const char *text, size_t bytes, const char **end, bool *no_memory) {
    cJSON_Hooks hooks = {.malloc_fn = allocate, .free_fn = free};
    cJSON_InitHooks(&hooks);
    allocation_failed = false;
    cJSON *root = cJSON_ParseWithLengthOpts(text, bytes, end, false);
    *no_memory = root == NULL && allocation_failed;
    cJSON_InitHooks(NULL);
    return root;
}
