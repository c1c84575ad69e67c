/* Who writes what of a checkpoint, and tensors of any float type read from any number of files. */
#include "state/shards.h"
#include "state/source.h"
#include "support/temp.h"

#include <math.h>

/* ---- who writes what */

static void judge_layout(int size, int64_t experts, int64_t expert_ranks) {
    const swt_dims d = {.B = 2,
                        .T = 8,
                        .M = 4,
                        .C = 8,
                        .H = 2,
                        .D = 4,
                        .F = 16,
                        .V = 40,
                        .L = 2,
                        .E = experts,
                        .every = 1,
                        .bias = true};
    swt_dist first;
    swt_params params;
    swt_shards s;
    assert_int_equal(swt_dist_init(&first, size, 0, experts, expert_ranks), SWT_OK);
    assert_int_equal(swt_params_init(&params, &d, &first), SWT_OK);
    assert_int_equal(swt_shards_init(&s, &params, SWT_KEEPS_FACTORS, &first), SWT_OK);
    int64_t total = 0, most = 0, least = INT64_MAX, largest = 0;
    for (int rank = 0; rank < size; rank++) {
        swt_dist own;
        swt_params held;
        swt_shards same;
        int64_t bytes = 0, kept = 0;
        assert_int_equal(swt_dist_init(&own, size, rank, experts, expert_ranks), SWT_OK);
        assert_int_equal(swt_params_init(&held, &d, &own), SWT_OK);
        assert_int_equal(swt_shards_init(&same, &held, SWT_KEEPS_FACTORS, &own), SWT_OK);
        for (int64_t i = 0; i < held.count; i++) {
            assert_int_equal(same.owner[i], s.owner[i]); /* every rank computes the same */
            largest = held.table[i].count > largest ? held.table[i].count : largest;
            if (same.owner[i] != rank)
                continue;
            assert_true(held.table[i].offset >= 0); /* who writes it has it */
            bytes += held.table[i].count * 4;
            kept += held.table[i].shape[0] + held.table[i].shape[1]; /* rows and columns */
        }
        assert_int_equal(bytes, s.elements[rank] * 4);
        assert_int_equal(kept, s.kept[rank]);
        total += bytes;
        most = bytes > most ? bytes : most;
        least = bytes < least ? bytes : least;
        swt_shards_fini(&same);
        swt_params_fini(&held);
        swt_dist_fini(&own);
    }
    assert_int_equal(total, params.total * 4);
    if (experts % size == 0 || expert_ranks == 1) /* what is not bound to a rank evens it out */
        assert_true(most - least <= largest * 4);
    swt_shards_fini(&s);
    swt_params_fini(&params);
    swt_dist_fini(&first);
}

static void test_owners(void **state) {
    (void)state;
    judge_layout(1, 4, 0);
    judge_layout(2, 4, 0);
    judge_layout(3, 5, 0);
    judge_layout(4, 4, 2);
    judge_layout(4, 5, 1);
    judge_layout(6, 5, 3);
    judge_layout(7, 1, 0);
}

static void test_names(void **state) {
    (void)state;
    char name[SWT_FILE_NAME_BYTES], tensor[SWT_TENSOR_NAME_BYTES];
    swt_shards s = {.size = 3, .writers = 1};
    swt_shard_name(name, &s, SWT_SHARD_WEIGHTS, 0);
    assert_string_equal(name, "weights.safetensors");
    s.writers = 2;
    swt_shard_name(name, &s, SWT_SHARD_OPTIM, 2);
    assert_string_equal(name, "optim-00003-of-00003.safetensors");
    assert_true(swt_shard_is(name, SWT_SHARD_OPTIM));
    assert_false(swt_shard_is(name, SWT_SHARD_WEIGHTS));
    assert_false(swt_shard_is("weights", SWT_SHARD_WEIGHTS));
    swt_saved_name(tensor, SWT_SAVED_V, "embed.weight");
    assert_string_equal(tensor, "optim.v.embed.weight");
    swt_saved_name(tensor, SWT_SAVED_ROW, "embed.weight");
    assert_string_equal(tensor, "optim.row.embed.weight");
    swt_saved_name(tensor, SWT_SAVED_COL, "embed.weight");
    assert_string_equal(tensor, "optim.col.embed.weight");
}

/* ---- reading */

/* Each number of 16 bits by its definition: sign, exponent, fraction. */
static double half_by_definition(int bits, int exponent_bits) {
    const int fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1),
              fraction = bits & ((1 << fraction_bits) - 1);
    const double sign = bits & 0x8000 ? -1.0 : 1.0;
    if (exponent == (1 << exponent_bits) - 1)
        return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - bias - fraction_bits);
    return sign * ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

static void write_one(const char *path, const char *name, swt_dtype dtype, int64_t count,
                      const void *data) {
    swt_tensor_writer w = {0};
    assert_int_equal(swt_tensor_writer_declare(&w, name, dtype, 1, &count), SWT_OK);
    assert_int_equal(swt_tensor_writer_begin(&w, path), SWT_OK);
    assert_int_equal(swt_tensor_writer_data(&w, data), SWT_OK);
    assert_int_equal(swt_tensor_writer_end(&w), SWT_OK);
    swt_tensor_writer_fini(&w);
}

static void judge_halves(const char *path, swt_dtype dtype, int exponent_bits) {
    enum { COUNT = 65536 };
    const int64_t shape = COUNT;
    uint16_t *bits = malloc(COUNT * sizeof *bits);
    float *out = malloc(COUNT * sizeof *out);
    assert_true(bits != NULL && out != NULL);
    for (int i = 0; i < COUNT; i++)
        bits[i] = (uint16_t)i;
    write_one(path, "x", dtype, COUNT, bits);
    swt_source s;
    swt_source_file f;
    bool altered = true;
    assert_int_equal(swt_source_open_file(&s, path, SWT_FILE), SWT_OK);
    assert_int_equal(swt_source_check(&s, "x", 1, &shape), SWT_OK);
    expect_error(swt_source_check(&s, "x", 1, (int64_t[]){3}), SWT_FILE, "[65536]; ");
    assert_int_equal(swt_source_file_open(&f, &s, 0), SWT_OK);
    assert_int_equal(swt_source_read(&f, swt_tensor_file_find(&s.all, "x"), out, &altered), SWT_OK);
    assert_false(altered);
    for (int i = 0; i < COUNT; i++) {
        const double expected = half_by_definition(i, exponent_bits);
        assert_true(isnan(expected)
                        ? isnan(out[i])
                        : (double)out[i] == expected && !signbit(out[i]) == !signbit(expected));
    }
    swt_source_file_close(&f);
    swt_source_close(&s);
    free(out);
    free(bits);
}

static void test_halves(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    judge_halves(temp_in(path, "bf16"), SWT_BF16, 8);
    judge_halves(temp_in(path, "f16"), SWT_F16, 5);
    write_one(temp_in(path, "f64"), "x", SWT_F64, 1, &(double){1.0});
    swt_source s;
    assert_int_equal(swt_source_open_file(&s, path, SWT_FILE), SWT_OK);
    expect_error(swt_source_check(&s, "x", 1, (int64_t[]){1}), SWT_FILE,
                 "f64: tensor x: is F64 [1]; F32 [1] is needed");
    expect_error(swt_source_check(&s, "y", 1, (int64_t[]){1}), SWT_FILE, "tensor y: is missing");
    swt_source_close(&s);
}

static void test_two_files(void **state) {
    (void)state;
    char path[TEMP_PATH_BYTES];
    swt_manifest_file files[] = {{.name = "config.yaml"},
                                 {.name = "optim.safetensors"},
                                 {.name = "weights-00001-of-00002.safetensors"},
                                 {.name = "weights-00002-of-00002.safetensors"}};
    const swt_manifest m = {.files = files, .file_count = 4};
    const float one = 1.0f, two = 2.0f;
    float out = 0.0f;
    bool altered = false;
    swt_source s;
    swt_source_file f;
    write_one(temp_in(path, files[2].name), "b", SWT_F32, 1, &two);
    write_one(temp_in(path, files[3].name), "a", SWT_F32, 1, &one);
    assert_int_equal(swt_source_open(&s, temp_folder, &m, SWT_SHARD_WEIGHTS), SWT_OK);
    assert_int_equal(s.all.count, 2);
    const swt_tensor_entry *e = swt_tensor_file_find(&s.all, "a");
    assert_int_equal(swt_source_file_open(&f, &s, e->file), SWT_OK);
    assert_int_equal(swt_source_read(&f, e, &out, &altered), SWT_OK);
    assert_true(out == 1.0f && altered); /* the manifest has no such tensor */
    swt_source_file_close(&f);
    swt_source_close(&s);

    assert_int_equal(unlink(temp_in(path, files[3].name)), 0);
    write_one(path, "b", SWT_F32, 1, &two);
    expect_error(swt_source_open(&s, temp_folder, &m, SWT_SHARD_WEIGHTS), SWT_CHECKPOINT,
                 "tensor b is in two of its files");
    expect_error(swt_source_open(&s, temp_folder, NULL, SWT_SHARD_WEIGHTS), SWT_CHECKPOINT,
                 "weights.safetensors: is missing");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owners),
        cmocka_unit_test(test_names),
        TEMP_TEST(test_halves),
        TEMP_TEST(test_two_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
