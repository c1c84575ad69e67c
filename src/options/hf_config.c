#include "options/hf_config.h"

#include "base/utf8.h"
#include "base/words.h"
#include "io/json.h"
#include "options/table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20, MOST_TREE_BYTES = 64 << 20 };

/* ---- the table */

/* What Hugging Face calls a value of a choice. */
typedef struct word {
    const char *hf, *own;
} word;

/* Both GELUs are the one with tanh. */
static const word functions[] = {{"relu", "relu"}, {"gelu_new", "gelu"}, {NULL, NULL}};

/* A field of config.json. */
typedef struct field {
    const char *name;
    const char *key;   /* of the options; NULL: it has none */
    const word *words; /* of the key's values; NULL: both call them the same */
    int64_t least;     /* of the key: a smaller value has a meaning here alone */
    const char
        *absent; /* the key's value where the field is not there, a default of transformers' */
    const char *fixed; /* without a key: the only value, as JSON, that this model can have */
    const char *why;   /* why that is so */
    const char *out;   /* without a key: what is written, as JSON; NULL: nothing */
    bool unread;       /* the key is written alone */
    bool sparse;       /* which blocks are sparse: four fields, read as one below */
} field;

static const char gated[] = "the layout of switch_transformers has no second matrix for GEGLU";

#define KEY(key_, absent_)   .key = (key_), .absent = (absent_)
#define COUNT(key_, absent_) KEY(key_, absent_), .least = 1
#define FIXED(fixed_)        .fixed = (fixed_), .out = (fixed_)
#define UNUSED(out_)         .out = (out_)

/* In the order of their names, in which Hugging Face writes them. */
static const field fields[] = {
    {"_name_or_path", UNUSED(NULL)},
    {"add_router_probs", UNUSED("false")},
    {"architectures", UNUSED("[\n    \"SwitchTransformersForConditionalGeneration\"\n  ]")},
    {"d_ff", COUNT("model.hidden", "2048")},
    {"d_kv", COUNT("model.head_width", "64")},
    {"d_model", COUNT("model.width", "768")},
    {"decoder_sparse_step", .sparse = true},
    {"decoder_start_token_id", .key = "model.pad_id", .unread = true},
    {"dense_act_fn", KEY("model.ffn", "relu"), .words = functions},
    {"dropout_rate", KEY("model.dropout", "0.1")},
    {"dtype", UNUSED(NULL)},
    {"encoder_sparse_step", .sparse = true},
    {"eos_token_id", UNUSED("1")},
    {"expert_capacity", COUNT("moe.capacity", "64")},
    {"feed_forward_proj", .fixed = "\"relu\"", .why = gated},
    {"initializer_factor", UNUSED("1.0")},
    {"is_encoder_decoder", FIXED("true")},
    {"is_gated_act", .fixed = "false", .why = gated},
    {"layer_norm_epsilon", FIXED("1e-06")},
    {"model_type", FIXED("\"switch_transformers\"")},
    {"num_decoder_layers", COUNT("model.layers", "12")},
    {"num_experts", COUNT("moe.experts", "8")},
    {"num_heads", COUNT("model.heads", "12")},
    {"num_layers", COUNT("model.encoder_layers", "12")},
    {"num_sparse_decoder_layers", .sparse = true},
    {"num_sparse_encoder_layers", .sparse = true},
    {"output_past", UNUSED(NULL)},
    {"pad_token_id", KEY("model.pad_id", "0")},
    {"relative_attention_max_distance", FIXED("128")},
    {"relative_attention_num_buckets", FIXED("32")},
    {"router_aux_loss_coef", KEY("moe.aux_coef", "0.001")},
    {"router_bias", FIXED("false")},
    {"router_dtype", FIXED("\"float32\"")},
    {"router_ignore_padding_tokens", UNUSED("false")}, /* transformers keeps it and never looks */
    {"router_jitter_noise", KEY("moe.jitter", "0.01")},
    {"router_type", .fixed = "\"tokens_masked\""},
    {"router_z_loss_coef", KEY("moe.z_coef", "0.001")},
    {"tie_word_embeddings", KEY("model.tied", "true")},
    {"torch_dtype", UNUSED(NULL)}, /* written by itself: of the weights */
    {"transformers_version", UNUSED(NULL)},
    {"use_cache", UNUSED("true")},
    {"vocab_size", COUNT("model.vocab", "32128")},
};
enum { FIELDS = sizeof fields / sizeof *fields };

/* What transformers has no field for: every such model has these values. */
typedef struct condition {
    const char *key, *value;
    bool drops; /* it decides over dropped tokens alone */
} condition;

static const condition conditions[] = {
    {"model.stacks", "encoder-decoder", false},
    {"model.norm", "rmsnorm", false},
    {"model.positions", "relative", false},
    {"model.attn_scale", "one", false},
    {"model.bias", "false", false},
    {"moe.gate", "scale", false},
    {"moe.dropped_output", "zero", true},
    {"moe.drop", "position", true},
    {"moe.group", "sequence", true},
    {"moe.route_padding", "true", true},
};
enum { CONDITIONS = sizeof conditions / sizeof *conditions };

/* ---- reading */

/* Whether a value is the one of a JSON text of the table. */
static bool equals(const json_t *item, const char *fixed) {
    const char *text = json_string_value(item);
    if (json_is_number(item))
        return strchr("-0123456789", fixed[0]) != NULL &&
               json_number_value(item) == strtod(fixed, NULL);
    if (text != NULL)
        return fixed[0] == '"' && strlen(text) + 2 == strlen(fixed) &&
               strncmp(text, fixed + 1, strlen(text)) == 0;
    return strcmp(fixed, json_is_true(item) ? "true" : json_is_false(item) ? "false" : "") == 0;
}

/* The value as the text of an option; false where it is of another type than the row. */
static bool to_text(const json_t *item, const swt_option *row, char out[SWT_OPTION_NAME_BYTES]) {
    const char *text = json_string_value(item);
    out[0] = '\0';
    if (row->type == &swt_option_choice && text != NULL && swt_utf8_printable(text))
        snprintf(out, SWT_OPTION_NAME_BYTES, "%s", text);
    else if (row->type == &swt_option_bool && json_is_boolean(item))
        snprintf(out, SWT_OPTION_NAME_BYTES, "%s", json_is_true(item) ? "true" : "false");
    else if ((row->type == &swt_option_int || row->type == &swt_option_real) &&
             json_is_integer(item))
        snprintf(out, SWT_OPTION_NAME_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(item));
    else if (row->type == &swt_option_real && json_is_real(item))
        snprintf(out, SWT_OPTION_NAME_BYTES, "%.17g", json_real_value(item));
    return out[0] != '\0';
}

/* What we call a value; NULL where we have none. */
static const char *own_word(const field *f, const char *text) {
    for (const word *w = f->words; w != NULL && w->hf != NULL; w++)
        if (strcmp(w->hf, text) == 0)
            return w->own;
    return f->words == NULL ? text : NULL;
}

static swt_status read_key(swt_options *out, const field *f, const json_t *item, const char *path) {
    const swt_option *row = swt_option_of_key(f->key);
    char where[SWT_OPTION_TEXT_BYTES], text[SWT_OPTION_NAME_BYTES];
    char expected[SWT_OPTION_RANGE_BYTES] = "";
    if (f->words == NULL)
        row->type->expected(row, expected, sizeof expected);
    for (const word *w = f->words; w != NULL && w->hf != NULL; w++)
        swt_append(expected, sizeof expected, "%s%s", w == f->words ? "" : " or ", w->hf);
    if (item == NULL)
        snprintf(text, sizeof text, "%s", f->absent);
    else if (!to_text(item, row, text))
        return SWT_FAIL(CHECKPOINT, "%s: %s: has a value of another kind; it must be %s",
                        swt_path_tail(path), f->name, expected);
    const char *own = own_word(f, text);
    if (own == NULL)
        return SWT_FAIL(CHECKPOINT, "%s: %s: is %s; it must be %s", swt_path_tail(path), f->name,
                        text, expected);
    snprintf(where, sizeof where, "%s: %s", swt_path_tail(path), f->name);
    SWT_TRY(swt_option_set(out, row, own, where, SWT_CHECKPOINT));
    if (f->least > 0 && strtoll(text, NULL, 10) < f->least)
        return SWT_FAIL(CHECKPOINT, "%s: is %s; it must be at least %" PRId64, where, text,
                        f->least);
    return SWT_OK;
}

static swt_status read_field(swt_options *out, const field *f, const json_t *root,
                             const char *path) {
    const json_t *item = json_object_get(root, f->name);
    if (f->key != NULL && !f->unread)
        return read_key(out, f, item, path);
    if (f->fixed == NULL || item == NULL || equals(item, f->fixed))
        return SWT_OK;
    return SWT_FAIL(CHECKPOINT,
                    "%s: %s: has a value that this model cannot have%s%s; it must be %s",
                    swt_path_tail(path), f->name, f->why != NULL ? ": " : "",
                    f->why != NULL ? f->why : "", f->fixed);
}

/* A count of blocks that need not be there: *value is not touched then. */
static swt_status read_blocks(int64_t *value, const json_t *root, const char *name,
                              const char *path) {
    const json_t *item = json_object_get(root, name);
    if (item == NULL)
        return SWT_OK;
    if (!json_is_integer(item) || json_integer_value(item) < 0)
        return SWT_FAIL(CHECKPOINT, "%s: %s: is no count; it must be an integer from 0",
                        swt_path_tail(path), name);
    *value = json_integer_value(item);
    return SWT_OK;
}

/* What a stack's blocks go by: sparse are 1, 1 + step, ...; with 1 all are, with 0 none. The step
 * itself comes before the number of sparse blocks, of which transformers makes one. */
typedef struct blocks {
    int64_t step, count;
} blocks;

static swt_status read_stack(blocks *out, const json_t *root, int64_t count, const char *step,
                             const char *number, const char *path) {
    int64_t sparse = 3; /* transformers' default */
    SWT_TRY(read_blocks(&sparse, root, number, path));
    *out = (blocks){.step = sparse > 0 ? count / sparse : count, .count = count};
    return read_blocks(&out->step, root, step, path);
}

static bool is_sparse(const blocks *b, int64_t block) {
    return b->step == 1 || (b->step > 0 && block % b->step == 1);
}

/* The same blocks are sparse where the last of each `every` is. */
static bool is_every(const blocks *b, int64_t every) {
    for (int64_t i = 0; i < b->count; i++)
        if (is_sparse(b, i) != (every > 0 && i % every == every - 1))
            return false;
    return true;
}

static swt_status read_sparse(swt_options *out, const json_t *root, const char *path) {
    blocks e, d;
    SWT_TRY(read_stack(&e, root, out->model_encoder_layers, "encoder_sparse_step",
                       "num_sparse_encoder_layers", path));
    SWT_TRY(read_stack(&d, root, out->dims.L, "decoder_sparse_step", "num_sparse_decoder_layers",
                       path));
    for (out->dims.every = 0; out->dims.every <= 2; out->dims.every++)
        if (is_every(&e, out->dims.every) && is_every(&d, out->dims.every))
            return SWT_OK;
    const bool switch_c = e.step == 1 && d.step == 0;
    return SWT_FAIL(CHECKPOINT,
                    "%s: encoder_sparse_step %" PRId64 " and decoder_sparse_step %" PRId64
                    " are no moe.every of both stacks; %s",
                    swt_path_tail(path), e.step, d.step,
                    switch_c ? "that published with switch-c-2048 is wrong: write "
                               "num_decoder_layers 15 and decoder_sparse_step 1"
                             : "both must be 0, 1 or 2");
}

/* Fields that nobody looked at, in one line. */
static void warn_of_others(const json_t *root, const char *path, swt_warnings *warnings) {
    char names[SWT_OPTION_TEXT_BYTES] = "";
    const char *name = NULL;
    json_t *item = NULL;
    json_object_foreach((json_t *)root, name, item) {
        bool known = false;
        for (int i = 0; i < FIELDS && !known; i++)
            known = strcmp(fields[i].name, name) == 0;
        if (!known)
            swt_append(names, sizeof names, "%s%.40s", names[0] == '\0' ? "" : ", ",
                       swt_utf8_printable(name) ? name : "?");
    }
    swt_utf8_clean(names, true);
    if (names[0] != '\0')
        swt_warn(warnings, "%s: what is not known there was not looked at: %.300s",
                 swt_path_tail(path), names);
}

static swt_status read_root(swt_options *out, const json_t *root, const char *path,
                            swt_warnings *warnings) {
    if (!json_is_object(root))
        return SWT_FAIL(CHECKPOINT, "%s: is no object; a config.json of transformers is needed",
                        swt_path_tail(path));
    if (!equals(json_object_get(root, "model_type"), "\"switch_transformers\""))
        return SWT_FAIL(CHECKPOINT,
                        "%s: model_type: is another one; this program reads switch_transformers",
                        swt_path_tail(path));
    for (int i = 0; i < FIELDS; i++)
        SWT_TRY(read_field(out, &fields[i], root, path));
    SWT_TRY(read_sparse(out, root, path));
    warn_of_others(root, path, warnings);
    const swt_status status = swt_options_check(out);
    if (status != SWT_USAGE)
        return status;
    const swt_error why = *swt_last_error();
    return SWT_FAIL(CHECKPOINT, "%s: as options: %s", swt_path_tail(path), why.message);
}

static swt_status parse(swt_options *out, const char *text, size_t bytes, const char *path,
                        swt_warnings *warnings) {
    json_error_t why;
    bool no_memory = false;
    if (swt_json_tree_bytes(text, bytes) > MOST_TREE_BYTES)
        return SWT_FAIL(CHECKPOINT, "%s: holds more than a configuration has; fetch it again",
                        swt_path_tail(path));
    json_t *root = swt_json_parse(text, bytes, &why, &no_memory);
    swt_status status = SWT_OK;
    if (no_memory)
        status = SWT_FAIL(MEMORY, "%s: no memory to read it; use a machine with more", path);
    else if (root == NULL)
        status = SWT_FAIL(CHECKPOINT, "%s: is no JSON (%s); fetch it again", swt_path_tail(path),
                          swt_utf8_printable(why.text) ? why.text : "?");
    else
        status = read_root(out, root, path, warnings);
    json_decref(root);
    return status;
}

swt_status swt_hf_config_read(swt_options *out, const char *path, swt_warnings *warnings) {
    char *text = NULL;
    size_t bytes = 0;
    swt_options_defaults(out, SWT_PRESET_T5);
    out->command = SWT_COMMAND_CHECKPOINT_IMPORT;
    for (int i = 0; i < CONDITIONS; i++)
        SWT_TRY(swt_option_set(out, swt_option_of_key(conditions[i].key), conditions[i].value, path,
                               SWT_INTERNAL));
    SWT_TRY(swt_file_load(&text, &bytes, path, MOST_BYTES, SWT_CHECKPOINT));
    const swt_status status = parse(out, text, bytes, path, warnings);
    free(text);
    return status;
}

/* ---- writing */

/* What Hugging Face calls the key's value; NULL where it has no word for it. */
static const char *hf_word(const field *f, const char *text) {
    for (const word *w = f->words; w != NULL && w->hf != NULL; w++)
        if (strcmp(w->own, text) == 0)
            return w->hf;
    return f->words == NULL ? text : NULL;
}

static swt_status check_word(const swt_options *o, const field *f, const char *where) {
    char value[SWT_OPTION_NAME_BYTES];
    if (f->words == NULL)
        return SWT_OK;
    swt_option_print(o, swt_option_of_key(f->key), value, sizeof value);
    if (hf_word(f, value) != NULL)
        return SWT_OK;
    return SWT_FAIL(CHECKPOINT, "%s: %s is %s, for which %s has no value: %s; train with %s",
                    swt_path_tail(where), f->key, value, f->name, gated, f->words[0].own);
}

static swt_status check_condition(const swt_options *o, const condition *c, const char *where,
                                  swt_warnings *warnings) {
    const swt_option *row = swt_option_of_key(c->key);
    char value[SWT_OPTION_NAME_BYTES];
    if (swt_option_is_among(o, row, c->value))
        return SWT_OK;
    swt_option_print(o, row, value, sizeof value);
    if (c->drops) {
        swt_warn(warnings, "%s: %s is %s, and %s in transformers, which drops other tokens",
                 swt_path_tail(where), c->key, value, c->value);
        return SWT_OK;
    }
    return SWT_FAIL(CHECKPOINT, "%s: %s is %s; switch_transformers has %s alone",
                    swt_path_tail(where), c->key, value, c->value);
}

swt_status swt_hf_config_check(const swt_options *o, const char *where, swt_warnings *warnings) {
    for (int i = 0; i < CONDITIONS; i++)
        SWT_TRY(check_condition(o, &conditions[i], where, warnings));
    for (int i = 0; i < FIELDS; i++)
        SWT_TRY(check_word(o, &fields[i], where));
    if (o->dims.every > 2)
        return SWT_FAIL(CHECKPOINT,
                        "%s: moe.every is %" PRId64 ", and of so many blocks transformers makes "
                        "the second sparse, not the last; 0, 1 and 2 can be exported",
                        swt_path_tail(where), o->dims.every);
    return SWT_OK;
}

static void print_key(FILE *out, const swt_options *o, const field *f) {
    const swt_option *row = swt_option_of_key(f->key);
    char value[SWT_OPTION_NAME_BYTES];
    swt_option_print(o, row, value, sizeof value);
    if (row->type == &swt_option_choice)
        swt_json_print_string(out, hf_word(f, value));
    else
        fprintf(out, "%s%s", value,
                row->type == &swt_option_real && strpbrk(value, ".e") == NULL ? ".0" : "");
}

static void print_sparse(FILE *out, const swt_options *o, const field *f) {
    const int64_t every = o->dims.every;
    const int64_t all = strstr(f->name, "encoder") != NULL ? o->model_encoder_layers : o->dims.L;
    const bool step = strstr(f->name, "_step") != NULL;
    fprintf(out, "%" PRId64, step || every == 0 ? every : all / every);
}

typedef struct printed {
    const swt_options *o;
    const char *dtype;
} printed;

static void print(FILE *out, const void *thing) {
    const printed *p = thing;
    const char *between = "{";
    for (int i = 0; i < FIELDS; i++) {
        const field *f = &fields[i];
        const bool dtype = strcmp(f->name, "torch_dtype") == 0;
        if (f->key == NULL && f->out == NULL && !f->sparse && !dtype)
            continue;
        fprintf(out, "%s\n  \"%s\": ", between, f->name);
        between = ",";
        if (f->sparse)
            print_sparse(out, p->o, f);
        else if (f->key != NULL)
            print_key(out, p->o, f);
        else if (dtype)
            swt_json_print_string(out, p->dtype);
        else
            fputs(f->out, out);
    }
    fputs("\n}\n", out);
}

swt_status swt_hf_config_write(const swt_options *o, const char *dtype, const char *path) {
    return swt_file_print(path, "it", print, &(printed){o, dtype});
}
