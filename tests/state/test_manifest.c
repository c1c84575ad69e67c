/* Manifests: what is written reads back, what is not one is refused, and verification finds any
 * byte that is another one. */
#include "state/manifest.h"

#include "io/checkpoint_dir.h"
#include "state/manifest_text.h"
#include "support/temp.h"

#include <xxhash.h>

static const char *const config_text = "model:\n  layers: 2\n";

/* ---- a small checkpoint */

static void write_tensors(const char *path, const char *const *names, int count,
                          swt_tensor_entry *entries, swt_manifest_file *file) {
    swt_tensor_writer w = {0};
    for (int i = 0; i < count; i++)
        assert_int_equal(swt_tensor_writer_declare(&w, names[i], SWT_F32, 2, (int64_t[]){2, 3 + i}),
                         SWT_OK);
    assert_int_equal(swt_tensor_writer_begin(&w, path), SWT_OK);
    for (int i = 0; i < count; i++) {
        float values[16];
        for (int j = 0; j < 16; j++)
            values[j] = (float)(i * 16 + j) / 7.0f;
        assert_int_equal(swt_tensor_writer_data(&w, values), SWT_OK);
        entries[i] = w.entries[i];
        entries[i].offset_bytes += w.header_bytes;
    }
    assert_int_equal(swt_tensor_writer_end(&w), SWT_OK);
    *file = (swt_manifest_file){.bytes = w.header_bytes + w.data_bytes, .hash = w.hash};
    swt_tensor_writer_fini(&w);
}

/* Two shards, a configuration and their manifest in temp_folder. */
static void make_checkpoint(void) {
    static const char *const names[2][2] = {{"b", "optim.m.b"}, {"a", "c \"c\" \\"}};
    static const swt_manifest_key keys[] = {{"moe.experts", "4"}, {"run.out", "a \"run\"\n"}};
    char path[TEMP_PATH_BYTES];
    swt_manifest m = {.step = 12,
                      .skipped = 3,
                      .evaluated = true,
                      .valid_loss = 0.1,
                      .data_path = "/a/text",
                      .train_hash = 0xFEDCBA9876543210u,
                      .valid_hash = 1,
                      .position_tokens = INT64_C(1) << 40,
                      .key_count = 2,
                      .file_count = 3,
                      .tensor_count = 4};
    m.keys = malloc(sizeof keys);
    m.files = calloc(3, sizeof *m.files);
    m.tensors = calloc(4, sizeof *m.tensors);
    assert_true(m.keys != NULL && m.files != NULL && m.tensors != NULL);
    memcpy(m.keys, keys, sizeof keys);
    for (int i = 0; i < 2; i++) {
        char name[SWT_FILE_NAME_BYTES];
        snprintf(name, sizeof name, "weights-0000%d-of-00002.safetensors", 2 - i);
        write_tensors(temp_in(path, name), names[i], 2, &m.tensors[2 * i], &m.files[i]);
        strcpy(m.files[i].name, name);
        m.tensors[2 * i].file = m.tensors[2 * i + 1].file = i;
    }
    temp_write(temp_in(path, "config.yaml"), config_text, strlen(config_text));
    strcpy(m.files[2].name, "config.yaml");
    m.files[2].bytes = (int64_t)strlen(config_text);
    m.files[2].hash = XXH3_64bits(config_text, strlen(config_text));
    assert_int_equal(swt_manifest_write(&m, temp_in(path, SWT_MANIFEST_FILE)), SWT_OK);
    m.tree = NULL;
    swt_manifest_fini(&m);
}

static void test_reads_back(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    swt_manifest m;
    make_checkpoint();
    assert_int_equal(swt_manifest_read(&m, temp_in(path, SWT_MANIFEST_FILE)), SWT_OK);
    assert_int_equal(m.step, 12);
    assert_int_equal(m.skipped, 3);
    assert_true(m.evaluated && m.valid_loss == 0.1);
    assert_string_equal(m.data_path, "/a/text");
    assert_true(m.train_hash == 0xFEDCBA9876543210u && m.valid_hash == 1);
    assert_int_equal(m.position_tokens, INT64_C(1) << 40);
    assert_string_equal(swt_manifest_value(&m, "moe.experts"), "4");
    assert_string_equal(swt_manifest_value(&m, "run.out"), "a \"run\"\n");
    assert_null(swt_manifest_value(&m, "moe"));
    assert_int_equal(m.file_count, 3);
    assert_string_equal(m.files[0].name, "config.yaml");
    assert_null(swt_manifest_file_of(&m, "manifest.json"));
    assert_int_equal(m.tensor_count, 4);
    const swt_tensor_entry *e = swt_manifest_tensor(&m, "c \"c\" \\");
    assert_non_null(e);
    assert_int_equal(e->dims, 2);
    assert_int_equal(e->shape[1], 4);
    assert_string_equal(m.files[e->file].name, "weights-00001-of-00002.safetensors");
    assert_int_equal(e->offset_bytes + 32, m.files[e->file].bytes);
    assert_int_equal(swt_manifest_check_files(&m, temp_folder), SWT_OK);
    swt_manifest_fini(&m);
}

/* ---- what is no manifest */

/* The manifest's text with a part of it replaced, and an own hash that fits. */
static void write_altered(const char *text, const char *part, const char *instead) {
    char path[TEMP_PATH_BYTES], end[SWT_MANIFEST_END_BYTES], *altered = NULL;
    size_t bytes = 0;
    const char *at = strstr(text, part), *hash = strstr(text, "\"hash\": \"");
    for (const char *next = hash; next != NULL; next = strstr(next + 1, "\n\"hash\": \""))
        hash = next;
    assert_true(at != NULL && hash != NULL && at < hash);
    FILE *out = open_memstream(&altered, &bytes);
    assert_non_null(out);
    fprintf(out, "%.*s%s%.*s", (int)(at - text), text, instead,
            (int)(hash + 1 - (at + strlen(part))), at + strlen(part));
    assert_int_equal(fflush(out), 0);
    swt_manifest_print_end(end, altered, bytes);
    fputs(end, out);
    assert_int_equal(fclose(out), 0);
    temp_write(temp_in(path, SWT_MANIFEST_FILE), altered, bytes);
    free(altered);
}

static const struct {
    const char *part, *instead, *why;
} alterations[] = {
    {"\"format\": 1", "\"format\": 2", "its format is 2, and this program reads 1"},
    {"\"format\": 1,\n", "", "its format is -1"},
    {"\"step\": 12", "\"step\": -1", "its step or valid_loss is none"},
    {"\"step\": 12", "\"step\": 12.0", "its step or valid_loss is none"},
    {"\"step\": 12", "\"step\": 12, \"step\": 13", "is no JSON"},
    {"\"step\": 12", "\"step\": 12, \"more\": 1", "has members that are not known"},
    {"\"step\": 12", "\"steps\": 12", "it has no step"},
    {"\"skipped\": 3", "\"skipped\": -1", "it has skipped no number of steps"},
    {"\"skipped\": 3", "\"skipped\": 13", "or more than it has done"},
    {"\"skipped\": 3,\n", "", "it has no skipped"},
    {"\"valid_loss\": 0.10000000000000001", "\"valid_loss\": \"0\"",
     "its step or valid_loss is none"},
    {"\"valid_loss\": 0.1", "\"valid_loss\": 1e9990", "is no JSON"},
    {"\"position\": 1", "\"position\": -1", "data has no path, no position"},
    {"\"train_hash\": \"f", "\"train_hash\": \"F", "hashes not of 16 digits"},
    {"\"moe.experts\": \"4\"", "\"moe.experts\": 4", "key 0 of config is no key, or no text"},
    {"\"config.yaml\": {", "\"../config.yaml\": {", "file 0 has a name that no"},
    {"\"config.yaml\": {", "\"/etc/passwd\": {", "file 0 has a name that no"},
    {"\"config.yaml\": {", "\".config.yaml\": {", "file 0 has a name that no"},
    {"\"config.yaml\": {", "\"..\": {", "file 0 has a name that no"},
    {"\"config.yaml\": {", "\"\": {", "file 0 has a name that no"},
    {"\"config.yaml\": {", "\"manifest.json\": {", "file 0 has a name that no"},
    {"\"config.yaml\": {", "\"a\\u001b\": {", "file 0 has a name that no"},
    {"\"config.yaml\": {\"bytes\": 19", "\"config.yaml\": {\"bytes\": -19", "has no bytes"},
    {"\"config.yaml\": {\"bytes\": 19", "\"config.yaml\": {\"size\": 19", "has no bytes"},
    {"\"offset\": ", "\"offset\": -", "a place or a hash that is none"},
    {"\"offset\": ", "\"offset\": 9223372036854775", "does not fit into its file"},
    {"\"shape\": [2, 3]", "\"shape\": [2, 300]", "does not fit into its file"},
    {"\"shape\": [2, 3]", "\"shape\": [2, 9223372036854775807]", "a shape, a place"},
    {"\"shape\": [2, 3]", "\"shape\": [1, 1, 1, 2, 3]", "a shape, a place"},
    {"\"shape\": [2, 3]", "\"shape\": \"[2, 3]\"", "a shape, a place"},
    {"\"dtype\": \"F32\"", "\"dtype\": \"F31\"", "has a dtype"},
    {"\"file\": \"weights-00001", "\"file\": \"weights-00003", "that it does not list"},
    {"\"file\": \"weights-00001", "\"file\": \"../weights-00001", "that it does not list"},
    {"\"tensors\": {", "\"tensors\": {\"a\": [], ", "is no JSON"}, /* a is there already */
    {"\"tensors\": {", "\"tensors\": {\"\": [], ", "a name that no tensor has"},
    {"\"optim.m.b\": {\"file\"", "\"optim.m.b\": {\"files\"", "optim.m.b has no file"},
};

static void test_refused(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    size_t bytes = 0;
    swt_manifest m;
    make_checkpoint();
    char *text = temp_read(temp_in(path, SWT_MANIFEST_FILE), &bytes);
    for (size_t i = 0; i < sizeof alterations / sizeof *alterations; i++) {
        write_altered(text, alterations[i].part, alterations[i].instead);
        expect_error(swt_manifest_read(&m, path), SWT_CHECKPOINT, alterations[i].why);
        expect_error(swt_manifest_read(&m, path), SWT_CHECKPOINT, "manifest.json: ");
    }
    write_altered(text, "\"valid_loss\": 0.10000000000000001", "\"valid_loss\": null");
    assert_int_equal(swt_manifest_read(&m, path), SWT_OK);
    assert_false(m.evaluated);
    swt_manifest_fini(&m);
    for (size_t n = 0; n < bytes; n += 7) { /* cut off */
        temp_write(path, text, n);
        expect_error(swt_manifest_read(&m, path), SWT_CHECKPOINT, "its own hash");
    }
    free(text);
}

/* ---- verification */

static void expect_defect(const char *part) {
    swt_manifest m;
    expect_error(swt_manifest_verify(&m, temp_folder, NULL, NULL), SWT_CHECKPOINT, part);
    swt_manifest_fini(&m);
}

static void count_line(void *context, const char *line) {
    assert_true(strlen(line) > 0);
    ++*(int *)context;
}

/* Every byte of every file, with one of its bits the other way round: found, in that file. */
static void test_every_byte(void **state) {
    (void)state;
    static const char *const names[] = {"manifest.json", "config.yaml",
                                        "weights-00001-of-00002.safetensors",
                                        "weights-00002-of-00002.safetensors"};
    swt_manifest m;
    make_checkpoint();
    assert_int_equal(swt_manifest_verify(&m, temp_folder, NULL, NULL), SWT_OK);
    assert_int_equal(m.step, 12);
    swt_manifest_fini(&m);
    for (size_t file = 0; file < sizeof names / sizeof *names; file++) {
        char path[TEMP_PATH_BYTES];
        size_t bytes = 0;
        char *text = temp_read(temp_in(path, names[file]), &bytes);
        for (size_t i = 0; i < bytes; i++) {
            const char flip = (char)(1 << (i * 5 + file) % 8);
            text[i] ^= flip;
            temp_write(path, text, bytes);
            expect_defect(names[file]);
            text[i] ^= flip;
        }
        temp_write(path, text, bytes);
        free(text);
    }
    assert_int_equal(swt_manifest_verify(&m, temp_folder, NULL, NULL), SWT_OK);
    swt_manifest_fini(&m);
}

static void test_names_what_is_wrong(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES], other[TEMP_PATH_BYTES];
    size_t bytes = 0;
    int lines = 0;
    swt_manifest m;
    make_checkpoint();
    char *text = temp_read(temp_in(path, "weights-00002-of-00002.safetensors"), &bytes);
    text[bytes - 1] ^= 1;
    temp_write(path, text, bytes);
    expect_defect("weights-00002-of-00002.safetensors: tensor optim.m.b: its data are not");
    text[bytes - 33] ^= 1; /* the last byte of the other tensor */
    temp_write(path, text, bytes);
    temp_write(temp_in(other, "notes"), "x", 1);
    expect_defect("tensor b: its data");
    assert_int_equal(swt_manifest_verify(&m, temp_folder, count_line, &lines), SWT_CHECKPOINT);
    assert_int_equal(lines, 3);
    swt_manifest_fini(&m);
    text[bytes - 1] ^= 1;
    text[bytes - 33] ^= 1;
    temp_write(path, text, bytes);
    expect_defect("/notes: is not in its manifest");
    assert_int_equal(unlink(other), 0);
    assert_int_equal(mkdir(other, 0777), 0);
    expect_defect("/notes: is not in its manifest");
    assert_int_equal(rmdir(other), 0);
    temp_write(path, text, bytes - 4);
    expect_defect("bytes, and ");
    assert_int_equal(unlink(path), 0);
    expect_defect("weights-00002-of-00002.safetensors: is missing");
    assert_int_equal(mkfifo(path, 0666), 0);
    expect_defect("is no regular file");
    assert_int_equal(unlink(path), 0);
    temp_write(path, text, bytes);
    assert_int_equal(unlink(temp_in(path, "manifest.json")), 0);
    expect_defect("manifest.json: is missing");
    free(text);
}

/* The files' contents fit, but the header says otherwise than the manifest of a tensor. */
static void test_header_disagrees(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    size_t bytes = 0;
    make_checkpoint();
    char *text = temp_read(temp_in(path, SWT_MANIFEST_FILE), &bytes);
    write_altered(text, "\"shape\": [2, 3]", "\"shape\": [3, 2]");
    expect_defect("tensor a: is F32 [2, 3]; F32 [3, 2] is needed");
    write_altered(text, "\"optim.m.b\": {", "\"optim.m.x\": {");
    expect_defect("tensor optim.m.x: is missing");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEMP_TEST(test_reads_back),       TEMP_TEST(test_refused),
        TEMP_TEST(test_every_byte),       TEMP_TEST(test_names_what_is_wrong),
        TEMP_TEST(test_header_disagrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
