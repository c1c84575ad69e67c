/* Arenas, and the model's memory: the plan is the allocation, and a step stays inside it. */
#include "kernels/swt_backend.h"
#include "model/model.h"
#include "support/test.h"
#include "train/step.h"

#include <string.h>

static void expect_what_was_planned(swt_device *device, bool on_host) {
    swt_arena a;
    void *p = NULL, *q = NULL;
    swt_arena_init(&a, "TEST", on_host);
    for (int pass = 0; pass < 2; pass++) {
        assert_int_equal(swt_arena_take(&a, &p, 3, SWT_F32), SWT_OK);
        assert_int_equal(swt_arena_take(&a, &q, 0, SWT_F32), SWT_OK);
        assert_int_equal(p == NULL, pass == 0);
        if (pass == 0)
            assert_int_equal(swt_arena_commit(&a, device), SWT_OK);
    }
    assert_int_equal((uintptr_t)p % 64, 0);
    assert_true((char *)q >= (char *)p + 64);
    assert_int_equal(a.planned_bytes, a.allocated_bytes);
    assert_int_equal(swt_arena_check(&a), SWT_OK);
    assert_int_equal(swt_arena_take(&a, &p, 1, SWT_F32), SWT_INTERNAL); /* beyond the plan */
#ifdef SWT_ARENA_GUARD
    ((char *)p)[64] = 0; /* just behind the first tensor */
    assert_int_equal(swt_arena_check(&a), SWT_INTERNAL);
#endif
    swt_arena_fini(&a);
}

static void arena_hands_out_what_it_planned(void **state) {
    (void)state;
    swt_device device;
    assert_int_equal(swt_cpu_backend.open(&device, 0, 1), SWT_OK);
    expect_what_was_planned(&device, false);
    expect_what_was_planned(&device, true);
    swt_device_close(&device);
}

static void arena_refuses_sizes_that_wrap(void **state) {
    (void)state;
    swt_arena a;
    void *p = NULL;
    swt_arena_init(&a, "TEST", true);
    assert_int_equal(swt_arena_take(&a, &p, INT64_MAX / 2, SWT_F32), SWT_MEMORY);
    assert_int_equal(swt_arena_take(&a, &p, -1, SWT_F32), SWT_MEMORY);
    assert_int_equal(swt_arena_take(&a, &p, INT64_MAX / 8, SWT_F32), SWT_OK);
    assert_int_equal(swt_arena_take(&a, &p, INT64_MAX / 8, SWT_F32), SWT_MEMORY); /* 2^62 + 2^62 */
    swt_arena_fini(&a);
}

/* Host memory that says no: a plan larger than the address space must end in one clear error. */
static void commit_reports_missing_memory(void **state) {
    (void)state;
    swt_device device;
    swt_arena a;
    void *p = NULL;
    assert_int_equal(swt_cpu_backend.open(&device, 0, 1), SWT_OK);
    swt_arena_init(&a, "TEST", true);
    assert_int_equal(swt_arena_take(&a, &p, INT64_MAX / 8, SWT_F32), SWT_OK);
#if !defined(__SANITIZE_ADDRESS__) /* its allocator stops the program instead */
    assert_int_equal(swt_arena_commit(&a, &device), SWT_MEMORY);
#endif
    swt_arena_fini(&a);
    swt_device_close(&device);
}

/* Odd sizes, and everything that costs memory. */
static const swt_dims base = {.B = 3,
                              .T = 7,
                              .C = 20,
                              .H = 2,
                              .D = 9,
                              .F = 13,
                              .V = 11,
                              .L = 3,
                              .E = 5,
                              .M = 2,
                              .every = 2,
                              .bias = true,
                              .attn_scale = 0.3f,
                              .capacity_factor = 1.0,
                              .jitter = 0.1,
                              .aux_coef = 0.01,
                              .z_coef = 0.01,
                              .pad_id = -1,
                              .route_padding = true};

/* What the options' bounds let through and no machine holds: one line, before anything is taken. */
static void tensors_beyond_any_machine_are_refused(void **state) {
    (void)state;
    swt_dims d = base;
    swt_dist dist;
    swt_model m;
    d.B = d.T = 1 << 15;
    d.V = INT64_C(1) << 40;
    assert_int_equal(swt_dist_init(&dist, 1, 0, d.E, 0), SWT_OK);
    assert_int_equal(swt_model_plan(&m, &d, &dist, swt_cpu_backend.ops, true, SWT_KEEPS_MOMENTS),
                     SWT_MEMORY);
    assert_string_equal(swt_last_error()->message,
                        "memory: a tensor of this model is larger than the address space; use "
                        "smaller dimensions or batches");
    swt_dist_fini(&dist);
}

typedef struct rig {
    swt_comm world;
    swt_device device;
    swt_dist dist;
    swt_model model;
} rig;

static void open_rig(rig *r, const swt_dims *d, swt_optim_keeps keeps) {
    swt_comm_open_self(&r->world);
    assert_int_equal(swt_dist_init(&r->dist, 1, 0, d->E, 0), SWT_OK);
    assert_int_equal(swt_model_plan(&r->model, d, &r->dist, swt_cpu_backend.ops, true, keeps),
                     SWT_OK);
    assert_int_equal(swt_dist_connect(&r->dist, &r->world, &r->world), SWT_OK);
    assert_int_equal(swt_cpu_backend.open(&r->device, 0, 2), SWT_OK);
}

static void close_rig(rig *r) {
    swt_model_fini(&r->model);
    swt_dist_fini(&r->dist);
    swt_device_close(&r->device);
    swt_comm_close(&r->world);
}

static const swt_update_rule with_adam = {.name = SWT_OPTIM_ADAM,
                                          .schedule = {.kind = SWT_SCHEDULE_CONSTANT,
                                                       .lr = 0.01,
                                                       .beta1 = 0.9,
                                                       .beta2 = 0.999,
                                                       .warmup_steps = 1.0},
                                          .adam = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},
                                          .clip_norm = 1.0};

static void run_two_steps(swt_model *m, bool factored) {
    swt_update_rule update = with_adam;
    update.name = factored ? SWT_OPTIM_ADAFACTOR : SWT_OPTIM_ADAM;
    update.adafactor = (swt_adafactor_hyper){.clip_update = 1.0, .scale_parameter = true};
    for (int64_t i = 0; i < m->turns * m->dims.B * m->dims.T; i++) {
        m->host_tokens[i] = (int32_t)(i * 7 % m->dims.V);
        m->host_targets[i] = (int32_t)(i * 5 % m->dims.V);
        m->host_routed[i] = 1;
    }
    assert_int_equal(swt_step_upload(m, m->turns), SWT_OK);
    for (int step = 0; step < 2; step++) {
        swt_step_state after;
        assert_int_equal(swt_step_begin(m, &update), SWT_OK);
        assert_int_equal(swt_step_gradients(m, &update), SWT_OK);
        assert_int_equal(swt_step_reduce(m, &update), SWT_OK);
        assert_int_equal(swt_step_update(m, &update), SWT_OK);
        assert_int_equal(swt_step_state_read(m, &after), SWT_OK);
        assert_int_equal(after.targets, m->dims.M * m->dims.B * m->dims.T);
        assert_true(after.grad_norm > 0.0);
    }
}

/* A whole step on a model of odd sizes: arenas are as large as planned, and no sentinel between
 * tensors is overrun (guarded builds), with every kind of layer, drop policy and group,
 * and both optimisers that keep something. */
static void a_step_stays_inside_the_plan(void **state) {
    (void)state;
    for (int variant = 0; variant < 12; variant++) {
        rig r = {.world = {0}};
        swt_dims d = base;
        d.drop = (swt_drop)(variant % 3);
        d.group = variant % 2 == 0 ? SWT_GROUP_MICRO_BATCH : SWT_GROUP_SEQUENCE;
        d.M = variant < 6 ? 1 : 2;
        d.every = variant % 4;
        const bool factored = variant % 5 > 2;
        d.ffn = variant % 2 == 0 ? SWT_FFN_RELU : SWT_FFN_GEGLU;
        open_rig(&r, &d, factored ? SWT_KEEPS_FACTORS : SWT_KEEPS_MOMENTS);
        swt_model *m = &r.model;
        size_t planned[SWT_ARENA_COUNT];
        for (int i = 0; i < SWT_ARENA_COUNT; i++)
            planned[i] = m->arenas[i].used_bytes;
        assert_int_equal(swt_model_commit(m, &r.device, 1), SWT_OK);
        assert_int_equal(swt_model_init_values(m, SWT_INIT_PYTORCH, 0.0, 1), SWT_OK);
        run_two_steps(m, factored);
        for (int i = 0; i < SWT_ARENA_COUNT; i++) {
            assert_int_equal(m->arenas[i].allocated_bytes, planned[i]);
            assert_int_equal(swt_arena_check(&m->arenas[i]), SWT_OK);
        }
        close_rig(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_hands_out_what_it_planned),
        cmocka_unit_test(arena_refuses_sizes_that_wrap),
        cmocka_unit_test(commit_reports_missing_memory),
        cmocka_unit_test(tensors_beyond_any_machine_are_refused),
        cmocka_unit_test(a_step_stays_inside_the_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
