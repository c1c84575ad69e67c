#define _GNU_SOURCE /* memfd_create */
#include "fuzz/targets.h"

#include "base/utf8.h"
#include "comm/swt_comm.h"
#include "io/data.h"
#include "io/hf_index.h"
#include "io/safetensors.h"
#include "options/hf_config.h"
#include "options/table.h"
#include "state/manifest.h"
#include "state/manifest_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NAME_BYTES = 64, MOST_ARGUMENTS = 40 };

/* A promise that does not hold is a crash, which is what libFuzzer looks for. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Success, or the reader's error in words that fit one line. */
static bool judged(swt_status status, swt_status refusal) {
    if (status == SWT_OK)
        return true;
    const swt_error *e = swt_last_error();
    MUST(status == refusal && e->status == refusal);
    MUST(e->message[0] != '\0' && swt_utf8_printable(e->message));
    return false;
}

/* A file in memory with these bytes, and its path. The caller closes it. */
static int file_of(const void *bytes, size_t count, char path[NAME_BYTES]) {
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    MUST(fd >= 0 && write(fd, bytes, count) == (ssize_t)count);
    snprintf(path, NAME_BYTES, "/proc/self/fd/%d", fd);
    return fd;
}

/* ---- options */

/* The options as config.yaml; the caller frees it. */
static char *yaml_of(const swt_options *o, size_t *bytes) {
    char *text = NULL;
    FILE *stream = open_memstream(&text, bytes);
    MUST(stream != NULL);
    swt_options_print_yaml(o, stream);
    MUST(fclose(stream) == 0);
    return text;
}

/* A file that is read gives options that are written so that they read back the same. */
static void config(const uint8_t *bytes, size_t count) {
    char path[NAME_BYTES];
    size_t once_bytes = 0, twice_bytes = 0;
    swt_options *o = calloc(1, sizeof *o);
    MUST(o != NULL);
    int fd = file_of(bytes, count, path);
    swt_options_defaults(o, SWT_PRESET_LABML);
    const bool read = judged(swt_options_read_yaml(o, path, SWT_USAGE, false), SWT_USAGE);
    close(fd);
    if (read && judged(swt_options_check(o), SWT_USAGE)) {
        char *once = yaml_of(o, &once_bytes);
        fd = file_of(once, once_bytes, path);
        swt_options_defaults(o, SWT_PRESET_LABML);
        MUST(swt_options_read_yaml(o, path, SWT_USAGE, false) == SWT_OK);
        close(fd);
        char *twice = yaml_of(o, &twice_bytes);
        MUST(once_bytes == twice_bytes && memcmp(once, twice, once_bytes) == 0);
        free(twice);
        free(once);
    }
    free(o);
}

/* An argument in each line. */
static void command_line(const uint8_t *bytes, size_t count) {
    char *arguments[MOST_ARGUMENTS + 2] = {(char[]){"swt-dist"}};
    int n = 1;
    char *text = malloc(count + 1);
    swt_options *o = malloc(sizeof *o);
    MUST(text != NULL && o != NULL);
    if (count > 0)
        memcpy(text, bytes, count);
    text[count] = '\0';
    for (char *at = text; n <= MOST_ARGUMENTS && at < text + count; at += strlen(at) + 1) {
        at[strcspn(at, "\n")] = '\0';
        arguments[n++] = at;
    }
    swt_comm alone;
    swt_comm_open_self(&alone);
    const swt_status status = swt_options_parse(o, &alone, n, arguments);
    /* --config and --checkpoint are read, too. */
    if (status != SWT_CHECKPOINT && judged(status, SWT_USAGE))
        MUST(o->command < SWT_COMMAND_HELP ? o->dims.T >= 1 : true);
    for (int i = 1; i < n; i++)
        (void)swt_options_has_help(arguments[i]);
    swt_comm_close(&alone);
    free(o);
    free(text);
}

/* ---- files of tensors */

/* Every tensor can be read and is what stands in the file, which holds them and nothing else. */
static void tensors(const uint8_t *bytes, size_t count) {
    char path[NAME_BYTES];
    swt_tensor_file f;
    const int fd = file_of(bytes, count, path);
    if (judged(swt_tensor_file_open(&f, path, SWT_FILE), SWT_FILE)) {
        size_t end = (size_t)f.data_start_bytes;
        for (int64_t i = 0; i < f.count; i++) {
            const swt_tensor_entry *e = &f.entries[i];
            const uint8_t *stored = bytes + f.data_start_bytes + e->offset_bytes;
            MUST(e->bytes >= 0 && (size_t)e->bytes <= count && swt_utf8_printable(e->name));
            MUST(swt_tensor_file_find(&f, e->name) == e);
            void *data = malloc((size_t)e->bytes + 1);
            MUST(data != NULL &&
                 swt_tensor_file_read(&f, e->name, e->dtype, e->dims, e->shape, data) == SWT_OK);
            MUST(memcmp(data, stored, (size_t)e->bytes) == 0);
            free(data);
            end += (size_t)e->bytes;
        }
        MUST(end == count);
        swt_tensor_file_close(&f);
    }
    close(fd);
}

/* ---- manifests */

/* Of a manifest that is read: its names lead nowhere, its tensors are inside of its files, and
 * written again it says the same. */
static void judge_manifest(swt_manifest *m) {
    char path[NAME_BYTES];
    swt_manifest again;
    for (int64_t i = 0; i < m->file_count; i++) {
        const swt_manifest_file *f = &m->files[i];
        MUST(strchr(f->name, '/') == NULL && f->name[0] != '.' && f->bytes >= 0);
        MUST(swt_manifest_file_of(m, f->name) == f);
    }
    for (int64_t i = 0; i < m->tensor_count; i++) {
        const swt_tensor_entry *e = &m->tensors[i];
        MUST(e->file >= 0 && e->file < m->file_count && e->dims <= SWT_TENSOR_DIMS);
        MUST(e->offset_bytes >= 0 && e->bytes >= 0);
        MUST(e->offset_bytes <= m->files[e->file].bytes - e->bytes);
        MUST(swt_manifest_tensor(m, e->name) == e);
    }
    snprintf(path, sizeof path, P_tmpdir "/swt-fuzz-manifest-%ld", (long)getpid());
    unlink(path);
    MUST(swt_manifest_write(m, path) == SWT_OK && swt_manifest_read(&again, path) == SWT_OK);
    MUST(again.step == m->step && again.file_count == m->file_count);
    MUST(again.evaluated == m->evaluated && again.valid_loss == m->valid_loss);
    MUST(memcmp(again.files, m->files, (size_t)m->file_count * sizeof *m->files) == 0);
    MUST(memcmp(again.tensors, m->tensors, (size_t)m->tensor_count * sizeof *m->tensors) == 0);
    swt_manifest_fini(&again);
    unlink(path);
}

/* The lines before the own hash, which is made to fit: no input would come further without. */
static void manifest(const uint8_t *bytes, size_t count) {
    char path[NAME_BYTES], end[SWT_MANIFEST_END_BYTES];
    swt_manifest m;
    swt_manifest_print_end(end, (const char *)bytes, count);
    const int fd = file_of(bytes, count, path);
    MUST(write(fd, end, strlen(end)) == (ssize_t)strlen(end));
    if (judged(swt_manifest_read(&m, path), SWT_CHECKPOINT)) {
        judge_manifest(&m);
        swt_manifest_fini(&m);
    }
    close(fd);
}

/* ---- Hugging Face's files */

/* What is written into a file of this target, and its path; the caller removes it. */
static void new_path(char path[NAME_BYTES], const char *what) {
    snprintf(path, NAME_BYTES, P_tmpdir "/swt-fuzz-%s-%ld", what, (long)getpid());
    unlink(path);
}

/* A model that is read can be made, and written it reads back to the same options. */
static void hf_config(const uint8_t *bytes, size_t count) {
    char path[NAME_BYTES];
    size_t once_bytes = 0, twice_bytes = 0;
    swt_warnings warnings = {.count = 0};
    swt_options *o = calloc(1, sizeof *o);
    MUST(o != NULL);
    const int fd = file_of(bytes, count, path);
    if (judged(swt_hf_config_read(o, path, &warnings), SWT_CHECKPOINT)) {
        char *once = yaml_of(o, &once_bytes);
        MUST(swt_options_check(o) == SWT_OK && o->model_encoder_layers > 0 && o->dims.V > 0);
        MUST(swt_hf_config_check(o, "it", &warnings) == SWT_OK);
        new_path(path, "hf-config");
        MUST(swt_hf_config_write(o, "float32", path) == SWT_OK);
        MUST(swt_hf_config_read(o, path, &warnings) == SWT_OK);
        char *twice = yaml_of(o, &twice_bytes);
        MUST(once_bytes == twice_bytes && memcmp(once, twice, once_bytes) == 0);
        free(twice);
        free(once);
        unlink(path);
    }
    for (int i = 0; i < warnings.count; i++)
        MUST(swt_utf8_printable(warnings.lines[i]));
    close(fd);
    free(o);
}

/* An index that is read leads nowhere, lists each file once, and says the same written again. */
static void hf_index(const uint8_t *bytes, size_t count) {
    char path[NAME_BYTES];
    swt_hf_index x, again;
    const int fd = file_of(bytes, count, path);
    if (judged(swt_hf_index_read(&x, path, SWT_CHECKPOINT), SWT_CHECKPOINT)) {
        for (int64_t i = 0; i < x.file_count; i++) {
            MUST(strchr(x.files[i], '/') == NULL && x.files[i][0] != '.');
            MUST(i == 0 || strcmp(x.files[i - 1], x.files[i]) < 0);
        }
        for (int64_t i = 0; i < x.count; i++)
            MUST(swt_hf_index_find(&x, x.tensors[i].name) == &x.tensors[i]);
        new_path(path, "hf-index");
        MUST(swt_hf_index_write(&x, path, 1, 4) == SWT_OK);
        MUST(swt_hf_index_read(&again, path, SWT_CHECKPOINT) == SWT_OK);
        MUST(again.count == x.count && again.file_count == x.file_count);
        MUST(memcmp(again.tensors, x.tensors, (size_t)x.count * sizeof *x.tensors) == 0);
        swt_hf_index_fini(&again);
        swt_hf_index_fini(&x);
        unlink(path);
    }
    close(fd);
}

/* ---- texts */

/* A vocabulary that is read has ascending characters, each of which is its own token. */
static void tokenizer(const uint8_t *bytes, size_t count) {
    char path[NAME_BYTES];
    swt_tokenizer t;
    const int fd = file_of(bytes, count, path);
    if (judged(swt_tokenizer_read(&t, path), SWT_CHECKPOINT)) {
        for (int32_t id = 0; id < t.vocab; id++) {
            char character[5];
            int32_t again = -1;
            int64_t tokens = 0;
            swt_unknown unknown;
            const int length = swt_tokenizer_decode(&t, id, character);
            const swt_text text = {.at = character, .bytes = (size_t)length, .path = "text"};
            MUST(length >= 1 && length <= 4);
            MUST(swt_tokenizer_encode(&t, &text, &again, &tokens, &unknown) == SWT_OK);
            MUST(tokens == 1 && again == id && unknown.count == 0);
        }
        swt_tokenizer_fini(&t);
    }
    close(fd);
}

/* The tokens of a text under a vocabulary, which are its characters but for the unknown ones. */
static void encode(const swt_tokenizer *t, const swt_text *text, bool all_known) {
    char *back = malloc(text->bytes + 5), words[SWT_UNKNOWN_BYTES];
    int32_t *ids = malloc((text->bytes + 1) * sizeof *ids);
    int64_t tokens = 0;
    size_t at = 0;
    swt_unknown unknown;
    MUST(back != NULL && ids != NULL);
    if (judged(swt_tokenizer_encode(t, text, ids, &tokens, &unknown), SWT_FILE)) {
        for (int64_t i = 0; i < tokens; i++)
            at += (size_t)swt_tokenizer_decode(t, ids[i], back + at);
        MUST(unknown.count == 0 ? at == text->bytes && memcmp(back, text->at, at) == 0
                                : !all_known && tokens + unknown.count == unknown.characters);
        swt_unknown_print(&unknown, words);
        MUST(swt_utf8_printable(words));
    } else {
        MUST(!all_known);
    }
    free(ids);
    free(back);
}

/* A vocabulary of the first half, another of the whole. The first byte says of which kind. */
static void text(const uint8_t *bytes, size_t count) {
    swt_tokenizer t;
    if (count == 0)
        return;
    const swt_tokenizer_kind kind = bytes[0] % 2 == 0 ? SWT_TOKENIZER_CHAR : SWT_TOKENIZER_BYTE;
    const swt_text whole = {.at = (const char *)bytes + 1, .bytes = count - 1, .path = "text"};
    for (int halves = 1; halves <= 2; halves++) {
        const size_t part = whole.bytes * (size_t)halves / 2;
        if (!judged(swt_tokenizer_init(&t, kind, whole.at, part, whole.path), SWT_FILE))
            continue;
        encode(&t, &whole, halves == 2);
        swt_tokenizer_fini(&t);
    }
}

const fuzz_target fuzz_targets[] = {
    {"config", config, false},
    {"command_line", command_line, false},
    {"tensors", tensors, true},
    {"tokenizer", tokenizer, true},
    {"text", text, false},
    {"manifest", manifest, true},
    {"hf_config", hf_config, true},
    {"hf_index", hf_index, true},
    {NULL, NULL, false},
};

const fuzz_target *fuzz_target_find(const char *name) {
    for (const fuzz_target *t = fuzz_targets; name != NULL && t->name != NULL; t++)
        if (strcmp(t->name, name) == 0)
            return t;
    return NULL;
}
