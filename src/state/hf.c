#include "state/hf.h"

#include "io/hf_index.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names */

/* Our name and theirs. What stands for something else: {s} the stack, {l} the block, {e} the
 * expert, {p} the matrix, and {f} the number of the feed-forward among a block's layers: 1 in the
 * encoder, 2 in the decoder, whose layer 1 is the cross-attention. In the order of transformers'
 * modules. */
static const struct {
    const char *own, *hf;
} names[] = {
    {"embed.weight", "shared.weight"},
    {"{s}.{l}.attn.{p}.weight", "{s}.block.{l}.layer.0.SelfAttention.{p}.weight"},
    {"{s}.rel_bias.weight", "{s}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"},
    {"{s}.{l}.attn_norm.weight", "{s}.block.{l}.layer.0.layer_norm.weight"},
    {"{s}.{l}.cross.{p}.weight", "{s}.block.{l}.layer.1.EncDecAttention.{p}.weight"},
    {"{s}.{l}.cross_norm.weight", "{s}.block.{l}.layer.1.layer_norm.weight"},
    {"{s}.{l}.moe.router.weight", "{s}.block.{l}.layer.{f}.mlp.router.classifier.weight"},
    {"{s}.{l}.moe.experts.{e}.{p}.weight",
     "{s}.block.{l}.layer.{f}.mlp.experts.expert_{e}.{p}.weight"},
    {"{s}.{l}.ffn.{p}.weight", "{s}.block.{l}.layer.{f}.mlp.{p}.weight"},
    {"{s}.{l}.ffn_norm.weight", "{s}.block.{l}.layer.{f}.layer_norm.weight"},
    {"{s}.final_norm.weight", "{s}.final_layer_norm.weight"},
    {"head.weight", "lm_head.weight"},
};
enum { NAMES = sizeof names / sizeof *names };

/* The parts of a name that stand for something, by their letters: where they are in it. */
typedef struct parts {
    const char *at[26];
    int bytes[26];
} parts;

static int letter_of(const char *pattern) {
    return pattern[1] - 'a';
}

/* Whether a name has this form, and its parts. */
static bool match(const char *pattern, const char *name, parts *out) {
    *out = (parts){.bytes = {0}};
    while (*pattern != '\0') {
        if (*pattern != '{') {
            if (*pattern++ != *name++)
                return false;
            continue;
        }
        const int letter = letter_of(pattern);
        const bool number = pattern[1] == 'l' || pattern[1] == 'e';
        out->at[letter] = name;
        while (number ? isdigit((unsigned char)*name) : islower((unsigned char)*name))
            name++;
        out->bytes[letter] = (int)(name - out->at[letter]);
        if (out->bytes[letter] == 0)
            return false;
        pattern += strlen("{x}");
    }
    return *name == '\0';
}

static void print(char out[SWT_TENSOR_NAME_BYTES], const char *pattern, const parts *p) {
    size_t n = 0;
    while (*pattern != '\0' && n + 1 < SWT_TENSOR_NAME_BYTES) {
        if (*pattern != '{') {
            out[n++] = *pattern++;
            out[n] = '\0';
            continue;
        }
        const int letter = letter_of(pattern);
        n += (size_t)snprintf(out + n, SWT_TENSOR_NAME_BYTES - n, "%.*s", p->bytes[letter],
                              p->at[letter]);
        pattern += strlen("{x}");
    }
}

static int64_t number_of(const parts *p, char letter, int64_t otherwise) {
    const char *at = p->at[letter - 'a'];
    return at != NULL ? strtoll(at, NULL, 10) : otherwise;
}

static bool is_encoder(const parts *p) {
    const char *stack = p->at['s' - 'a'];
    return stack != NULL &&
           strncmp(stack, swt_stack_name(SWT_ENCODER), strlen(swt_stack_name(SWT_ENCODER))) == 0;
}

/* The embedding stands before the encoder, the head behind the decoder; the last norm behind all
 * blocks. */
static swt_hf_order order_of(const parts *p, int row) {
    enum { BEFORE = 0, ENCODER, DECODER, BEHIND };
    const bool stack = p->at['s' - 'a'] != NULL;
    const bool bias = strstr(names[row].own, "rel_bias") != NULL;
    return (swt_hf_order){.stack = !stack          ? (row == 0 ? BEFORE : BEHIND)
                                   : is_encoder(p) ? ENCODER
                                                   : DECODER,
                          .block = number_of(p, 'l', bias ? 0 : INT64_MAX),
                          .part = row,
                          .expert = number_of(p, 'e', -1)};
}

bool swt_hf_name(char out[SWT_TENSOR_NAME_BYTES], swt_hf_order *order, const char *name) {
    parts p;
    for (int row = 0; row < NAMES; row++) {
        if (!match(names[row].own, name, &p))
            continue;
        p.at['f' - 'a'] = is_encoder(&p) ? "1" : "2";
        p.bytes['f' - 'a'] = 1;
        print(out, names[row].hf, &p);
        *order = order_of(&p, row);
        return true;
    }
    return false;
}

/* ---- the folder */

/* The index and the files say the same. */
static swt_status check_index(const swt_source *s, const swt_hf_index *x, const char *path) {
    for (int64_t i = 0; i < s->all.count; i++) {
        const swt_tensor_entry *e = &s->all.entries[i];
        const swt_hf_place *p = swt_hf_index_find(x, e->name);
        if (p == NULL || strcmp(p->file, s->names[e->file]) != 0)
            return SWT_FAIL(CHECKPOINT,
                            "%s: tensor %s is in %s, and %s%s here; fetch the model again",
                            swt_path_tail(path), e->name, s->names[e->file],
                            p != NULL ? "in " : "not", p != NULL ? p->file : "");
    }
    for (int64_t i = 0; i < x->count; i++)
        if (swt_tensor_file_find(&s->all, x->tensors[i].name) == NULL)
            return SWT_FAIL(CHECKPOINT,
                            "%s: tensor %s is in no file, and in %s here; fetch the model again",
                            swt_path_tail(path), x->tensors[i].name, x->tensors[i].file);
    return SWT_OK;
}

static swt_status open_indexed(swt_source *out, const char *folder, const char *path) {
    swt_hf_index x;
    SWT_TRY(swt_hf_index_read(&x, path, SWT_CHECKPOINT));
    swt_status status = swt_source_open_files(
        out, folder, (const char(*)[SWT_FILE_NAME_BYTES])x.files, x.file_count, SWT_CHECKPOINT);
    if (status == SWT_OK) {
        status = check_index(out, &x, path);
        if (status != SWT_OK)
            swt_source_close(out);
    }
    swt_hf_index_fini(&x);
    return status;
}

swt_status swt_hf_open(swt_source *out, const char *folder) {
    static const char whole[1][SWT_FILE_NAME_BYTES] = {SWT_HF_WEIGHTS_FILE};
    char path[SWT_PATH_BYTES];
    swt_path_kind kind = SWT_PATH_NONE;
    *out = (swt_source){.all = {.fd = -1}};
    SWT_TRY(swt_path_join(path, folder, SWT_HF_WEIGHTS_FILE));
    SWT_TRY(swt_path_look(&kind, path, true));
    if (kind != SWT_PATH_NONE) /* transformers, too, looks for it first */
        return swt_source_open_files(out, folder, whole, 1, SWT_CHECKPOINT);
    SWT_TRY(swt_path_join(path, folder, SWT_HF_INDEX_FILE));
    SWT_TRY(swt_path_look(&kind, path, true));
    if (kind != SWT_PATH_NONE)
        return open_indexed(out, folder, path);
    return SWT_FAIL(CHECKPOINT,
                    "%s: holds no " SWT_HF_WEIGHTS_FILE " and no index of its shards; of a "
                    "pytorch_model.bin transformers makes one (save_pretrained)",
                    swt_path_tail(folder));
}

/* ---- its tensors */

/* What older versions and other writers keep beside shared.weight, all of them the same tensor; the
 * last of them where the head is tied. */
static const char *const copies[] = {"shared.weight", "encoder.embed_tokens.weight",
                                     "decoder.embed_tokens.weight", "lm_head.weight"};
enum { COPIES = sizeof copies / sizeof *copies };

/* The first of the embedding's names that is there; shared.weight where none is. */
static const char *embedding_of(const swt_source *s) {
    for (int i = 0; i < COPIES - 1; i++)
        if (swt_tensor_file_find(&s->all, copies[i]) != NULL)
            return copies[i];
    return copies[0];
}

const swt_tensor_entry *swt_hf_find(const swt_source *s, const char *name) {
    char hf[SWT_TENSOR_NAME_BYTES];
    swt_hf_order order;
    if (!swt_hf_name(hf, &order, name))
        return NULL;
    return swt_tensor_file_find(&s->all, strcmp(hf, copies[0]) == 0 ? embedding_of(s) : hf);
}

static swt_status mark(swt_source *s, const char *name, int dims, const int64_t *shape) {
    SWT_TRY(swt_source_check(s, name, dims, shape));
    s->all.entries[swt_tensor_file_find(&s->all, name) - s->all.entries].known = true;
    return SWT_OK;
}

static swt_status find_param(void *context, const swt_param *p) {
    swt_source *s = context;
    char hf[SWT_TENSOR_NAME_BYTES];
    swt_hf_order order;
    if (!swt_hf_name(hf, &order, p->name))
        return SWT_FAIL(INTERNAL, "%s: has no name in switch_transformers", p->name);
    return mark(s, strcmp(hf, copies[0]) == 0 ? embedding_of(s) : hf, p->dims, p->shape);
}

static swt_status read_all(const swt_source *s, const swt_tensor_entry *e, void **out) {
    swt_source_file f;
    bool altered = false;
    *out = malloc((size_t)e->bytes + 1);
    if (*out == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for %lld bytes", e->name, (long long)e->bytes);
    swt_status status = swt_source_file_open(&f, s, e->file);
    if (status == SWT_OK)
        status = swt_source_copy(&f, e, *out, &altered);
    swt_source_file_close(&f);
    return status;
}

static swt_status same_tensor(const swt_source *s, const swt_tensor_entry *a,
                              const swt_tensor_entry *b) {
    void *x = NULL, *y = NULL;
    swt_status status = a->dtype == b->dtype && a->bytes == b->bytes ? SWT_OK : SWT_DIFFERENT;
    if (status == SWT_OK)
        status = read_all(s, a, &x);
    if (status == SWT_OK)
        status = read_all(s, b, &y);
    if (status == SWT_OK && memcmp(x, y, (size_t)a->bytes) != 0)
        status = SWT_DIFFERENT;
    free(x);
    free(y);
    if (status != SWT_DIFFERENT)
        return status;
    return SWT_FAIL(CHECKPOINT,
                    "%s: %s is no copy of %s, as tied embeddings are; see tie_word_embeddings",
                    s->all.path, b->name, a->name);
}

static swt_status check_copies(swt_source *s, const swt_dims *d) {
    const char *first = embedding_of(s);
    const int64_t shape[] = {d->V, d->C};
    for (int i = 0; i < COPIES - (d->tied ? 0 : 1); i++) {
        const swt_tensor_entry *e = swt_tensor_file_find(&s->all, copies[i]);
        if (e == NULL || strcmp(copies[i], first) == 0)
            continue;
        SWT_TRY(mark(s, copies[i], 2, shape));
        SWT_TRY(same_tensor(s, swt_tensor_file_find(&s->all, first), e));
    }
    return SWT_OK;
}

/* T5's own layout with gates, whose matrices are called wi_0 and wi_1. */
static swt_status check_gated(const swt_source *s) {
    for (int64_t i = 0; i < s->all.count; i++)
        if (strstr(s->all.entries[i].name, ".wi_1.") != NULL)
            return SWT_FAIL(CHECKPOINT,
                            "%s: %s is a matrix of GEGLU, which switch_transformers has not; use "
                            "a model without gates",
                            s->all.path, s->all.entries[i].name);
    return SWT_OK;
}

swt_status swt_hf_check(swt_source *s, const swt_dims *d) {
    SWT_TRY(check_gated(s));
    SWT_TRY(swt_params_visit(d, find_param, s));
    SWT_TRY(check_copies(s, d));
    for (int64_t i = 0; i < s->all.count; i++)
        if (!s->all.entries[i].known)
            return SWT_FAIL(CHECKPOINT,
                            "%s: has a tensor %s, which this model has not; see its config.json",
                            s->all.path, s->all.entries[i].name);
    return SWT_OK;
}
