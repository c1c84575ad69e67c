/* The texts and prompts that a command is given: read, encoded, and what is not as the user may
 * think is said. */
#include "io/checkpoint_dir.h"
#include "io/files.h"
#include "train/session.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void swt_session_say_warnings(swt_session *s) {
    if (s->world->rank == 0 && s->err != NULL)
        swt_warnings_print(&s->warnings, s->err);
    s->warnings.count = 0;
}

/* What is written to config.yaml must lead to the text from anywhere. */
static void make_full(char path[SWT_PATH_BYTES]) {
    char full[PATH_MAX];
    if (realpath(path, full) != NULL && strlen(full) < SWT_PATH_BYTES)
        memcpy(path, full, strlen(full) + 1);
}

/* A whole text in *buffer, which the caller frees. */
static swt_status read_text(const swt_session *s, char **buffer, swt_text *out, const char *path) {
    const bool evaluates = s->options->command == SWT_COMMAND_EVAL;
    if (evaluates && access(path, F_OK) != 0 && errno == ENOENT)
        return SWT_FAIL(FILE,
                        "%s: is missing; give --data FILE, without which eval reads the text that "
                        "the checkpoint's config.yaml names",
                        path);
    SWT_TRY(swt_file_load(buffer, &out->bytes, path, PTRDIFF_MAX - 1, SWT_FILE));
    if (out->bytes == 0)
        return SWT_FAIL(FILE, "%s: is empty; a file with content is needed", path);
    out->at = *buffer;
    out->path = path;
    return SWT_OK;
}

/* data.path into s->data_path. */
static swt_status find_text(swt_session *s) {
    swt_options *o = s->options;
    int64_t candidates = 0;
    SWT_TRY(swt_data_find(s->data_path, sizeof s->data_path, &candidates, o->data_path));
    if (candidates > 1)
        swt_warn(&s->warnings,
                 "of the %lld texts of its folder, %s is the newest and was taken; "
                 "--data FILE names one",
                 (long long)candidates, s->data_path);
    memcpy(o->data_path, s->data_path, sizeof o->data_path);
    make_full(o->data_path);
    return SWT_OK;
}

static swt_status choose_tokenizer(swt_session *s, const swt_texts *texts, const char *checkpoint) {
    swt_options *o = s->options;
    if (checkpoint == NULL)
        return swt_tokenizer_init(&s->tokenizer, (swt_tokenizer_kind)o->data_tokenizer,
                                  texts->train.at, texts->train.bytes, texts->train.path);
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, checkpoint, SWT_TOKENIZER_FILE));
    SWT_TRY(swt_tokenizer_read(&s->tokenizer, path));
    if ((int)s->tokenizer.kind != o->data_tokenizer)
        swt_warn(&s->warnings,
                 "the tokens are those of %s, %ss; data.tokenizer %s is for new weights alone",
                 checkpoint, swt_options_choice_name("data.tokenizer", (int)s->tokenizer.kind),
                 swt_options_choice_name("data.tokenizer", o->data_tokenizer));
    o->data_tokenizer = (int)s->tokenizer.kind;
    return SWT_OK;
}

static void warn_left_out(swt_session *s, const swt_text *text, const swt_unknown *unknown) {
    char what[SWT_UNKNOWN_BYTES];
    if (unknown->count == 0)
        return;
    swt_unknown_print(unknown, what);
    swt_warn(&s->warnings, "%s: left out %s; data.unknown refuse makes it an error", text->path,
             what);
}

/* In eval its answer says what was left out. */
static void warn_of_texts(swt_session *s, const swt_texts *texts) {
    static const char mark[] = "\xEF\xBB\xBF";
    const swt_text *train = &texts->train;
    if (s->options->command == SWT_COMMAND_EVAL)
        return;
    if (train->bytes >= 3 && memcmp(train->at, mark, 3) == 0)
        swt_warn(&s->warnings,
                 "%s: starts with U+FEFF (byte order mark), which is read like any other "
                 "character; take it out (tail -c +4)",
                 train->path);
    warn_left_out(s, train, &s->data.unknown_train);
    warn_left_out(s, &texts->valid, &s->data.unknown_valid);
}

swt_status swt_session_read_text(swt_session *s, const char *checkpoint) {
    swt_options *o = s->options;
    char *buffers[2] = {NULL, NULL};
    swt_texts texts = {.vocabulary = checkpoint != NULL ? checkpoint : s->data_path};
    swt_cut cut = {.valid_fraction = o->data_valid_fraction,
                   .seed = (uint64_t)o->train_seed,
                   .skip_unknown = o->data_unknown == SWT_UNKNOWN_SKIP,
                   .evaluates = o->command == SWT_COMMAND_EVAL};
    const bool valid = o->data_valid[0] != '\0';
    swt_status status = SWT_OK;
    swt_stack_lengths(o, &cut.S, &cut.T);
    if (valid)
        make_full(o->data_valid);
    if (valid && cut.evaluates) {
        memcpy(s->data_path, o->data_valid, sizeof s->data_path);
    } else {
        SWT_TRY_TO(status, done, find_text(s));
        SWT_TRY_TO(status, done, read_text(s, &buffers[0], &texts.train, s->data_path));
    }
    if (valid)
        SWT_TRY_TO(status, done, read_text(s, &buffers[1], &texts.valid, o->data_valid));
    SWT_TRY_TO(status, done, choose_tokenizer(s, &texts, checkpoint));
    SWT_TRY_TO(status, done, swt_data_init(&s->data, &s->tokenizer, &texts, &cut));
    warn_of_texts(s, &texts);
done:
    free(buffers[0]);
    free(buffers[1]);
    return status;
}

swt_status swt_session_encode_prompt(swt_session *s, const char *where, const char *prompt,
                                     int32_t *ids, int64_t *count) {
    const swt_text text = {.at = prompt, .bytes = strlen(prompt), .path = where};
    const int64_t T = s->options->dims.T;
    char what[SWT_UNKNOWN_BYTES];
    swt_unknown unknown = {0};
    *count = 0;
    if (text.bytes == 0)
        return SWT_FAIL(USAGE, "%s: is empty; give a text to continue", where);
    SWT_TRY(swt_tokenizer_encode(&s->tokenizer, &text, ids, count, &unknown));
    if (unknown.count > 0)
        swt_unknown_print(&unknown, what);
    if (*count == 0)
        return SWT_FAIL(USAGE,
                        "%s: the vocabulary has not %s; use characters of the text that the model "
                        "is trained on",
                        where, what);
    if (unknown.count > 0)
        swt_warn(&s->warnings,
                 "%s: the vocabulary has not %s; they are left out, use characters of the "
                 "text that the model is trained on",
                 where, what);
    if (*count > T)
        swt_warn(&s->warnings,
                 "%s: has %lld tokens, and the model sees only the last %lld; make it "
                 "shorter, or batch.seq_len larger",
                 where, (long long)*count, (long long)T);
    return SWT_OK;
}
