/* What a step sends, counted by the communicators, is what the plan says before. On any number of
 * ranks. A rank that finds a mistake ends all ranks, because the others wait for it. */
#include "kernels/swt_backend.h"
#include "model/cost.h"
#include "support/test.h"
#include "support/world.h"
#include "train/step.h"

static const swt_update_rule update = {.name = SWT_OPTIM_SGD,
                                       .schedule = {.kind = SWT_SCHEDULE_CONSTANT, .lr = 0.01}};

/* The forward and the backward pass of every turn, and what they sent to the experts' owners. */
static int64_t sent_by_a_step(swt_comm *world, swt_model *m) {
    for (int64_t i = 0; i < m->turns * m->dims.B * m->dims.T; i++) {
        m->host_tokens[i] = (int32_t)(i * 7 % m->dims.V);
        m->host_targets[i] = (int32_t)(i * 5 % m->dims.V);
        m->host_routed[i] = 1;
    }
    succeeds(world, swt_step_upload(m, m->turns));
    succeeds(world, swt_step_begin(m, &update));
    m->dist->expert_group.sent_bytes = 0;
    succeeds(world, swt_step_gradients(m, &update));
    return m->dist->expert_group.sent_bytes;
}

/* Experts that do not divide by the ranks, more ranks than micro-batches and fewer. */
static void exchanges_are_as_planned(void **state) {
    swt_comm *world = *state;
    for (int variant = 0; variant < 6; variant++) {
        const swt_dims d = {.B = 2,
                            .T = 8,
                            .C = 12,
                            .H = 2,
                            .D = 6,
                            .F = 10,
                            .V = 11,
                            .L = 5,
                            .E = variant % 2 == 0 ? 5 : 8,
                            .M = 1 + variant / 2 * 2,
                            .every = 2,
                            .bias = true,
                            .attn_scale = 0.4f,
                            .capacity_factor = 1.25,
                            .pad_id = -1,
                            .route_padding = true};
        swt_dist dist;
        swt_model m;
        swt_device device;
        succeeds(world, swt_dist_init(&dist, world->size, world->rank, d.E, 0));
        succeeds(world,
                 swt_model_plan(&m, &d, &dist, swt_cpu_backend.ops, true, SWT_KEEPS_NOTHING));
        const int64_t K = swt_sent_slots(&d, SWT_DECODER, true);
        const double planned = swt_all_to_all_bytes(&d, &dist);
        succeeds(world, swt_dist_connect(&dist, world, world));
        succeeds(world, swt_cpu_backend.open(&device, 0, 1));
        succeeds(world, swt_model_commit(&m, &device, 1));
        succeeds(world, swt_model_init_values(&m, SWT_INIT_PYTORCH, 0.0, 1));
        check(world, sent_by_a_step(world, &m) == (int64_t)planned);
        check(world, (planned > 0.0) == (world->size > 1));
        check(world, K == (variant % 2 == 0 ? 4 : 2)); /* 1.25 * 16 / E, rounded down */
        swt_model_fini(&m);
        swt_dist_fini(&dist);
        swt_device_close(&device);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(exchanges_are_as_planned)};
    return cmocka_run_group_tests(tests, swt_world_open, swt_world_close);
}
