/* swt-dist: argument parsing, signals, exit codes. Everything else is in the layers below. */
#include "selftest/selftest.h"
#include "train/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t stop;

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

static void catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* Help and version: rank 0 speaks, nothing is computed. */
static swt_status print_text(const swt_options *o, int rank) {
    if (rank != 0)
        return SWT_OK;
    if (o->command == SWT_COMMAND_VERSION)
        printf("swt-dist %s\n", SWT_VERSION);
    else if (o->command == SWT_COMMAND_HELP)
        swt_options_print_help(stdout, o->help_topic);
    else
        swt_options_print_config_help(stdout, o->help_markdown);
    return SWT_OK;
}

/* An error that the other ranks do not know of ends them by force. Nothing can be closed in order
 * then: they may wait for this rank in the middle of an exchange. */
static bool must_abort(const swt_comm *world, swt_status status) {
    return status != SWT_OK && !swt_last_error()->agreed && world->size > 1;
}

static swt_status run(swt_comm *world, swt_options *o) {
    static swt_status (*const commands[])(swt_session *) = {
        [SWT_COMMAND_TRAIN] = swt_command_train,
        [SWT_COMMAND_EVAL] = swt_command_eval,
        [SWT_COMMAND_GENERATE] = swt_command_generate,
        [SWT_COMMAND_PLAN] = swt_command_plan,
        [SWT_COMMAND_PROBE] = swt_command_probe,
        [SWT_COMMAND_SELFTEST] = swt_command_selftest,
    };
    if (o->command >= SWT_COMMAND_HELP)
        return print_text(o, world->rank);
    catch_signals();
    swt_session session = {
        .options = o, .world = world, .out = stdout, .err = stderr, .stop = &stop};
    /* A run says them in its header. */
    for (const char *at = o->command == SWT_COMMAND_TRAIN ? "" : o->notes;
         *at != '\0' && world->rank == 0; at += strcspn(at, "\n") + 1)
        fprintf(stderr, "swt-dist: warning: %.*s\n", (int)strcspn(at, "\n"), at);
    const swt_status status = commands[o->command](&session);
    if (!must_abort(world, status))
        swt_session_close(&session);
    return status;
}

/* One line from one rank. */
static int finish(swt_comm *world, swt_status status) {
    const swt_error *error = swt_last_error();
    const int code = swt_exit_code(status);
    if (status != SWT_OK && !error->silent) {
        fprintf(stderr, "swt-dist: error: %s\n", error->message);
        fflush(stderr);
    }
    if (must_abort(world, status))
        swt_comm_abort(world, code);
    swt_comm_close(world);
    return code;
}

int main(int argc, char **argv) {
    static swt_options options; /* some 30 KiB of paths: not on the stack */
    swt_comm world;
    swt_comm_open_self(&world);
    swt_status status = SWT_OK;
    if (swt_comm_launched_by_mpi())
        status = swt_comm_open_mpi(&world);
    if (status == SWT_OK)
        status = swt_comm_agree(&world, swt_options_parse(&options, argc, argv));
    if (status == SWT_OK)
        status = run(&world, &options);
    return finish(&world, status);
}
