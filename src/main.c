/* swt-dist: argument parsing, signals, exit codes. Everything else is in the layers below. */
#include "base/clock.h"
#include "base/standard.h"
#include "commands/commands.h"
#include "judge/selftest.h"
#include "kernels/swt_threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

/* What ends a run: a terminal or a job manager speaks so. To training they all mean "finish and
 * write". */
static const int endings[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU};

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

static void handle(int number, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, before;
    sigemptyset(&action.sa_mask);
    /* nohup, for one, has us ignore a signal. SIGINT alone is taken back: a shell without job
     * control lets all that it starts in the background ignore it. */
    const bool ignored = sigaction(number, NULL, &before) == 0 && before.sa_handler == SIG_IGN;
    if (!ignored || number == SIGINT)
        sigaction(number, &action, NULL);
}

/* From here on there is something to write at the end. A reader of the output that goes away (a
 * pipe to head) is no reason to end: the log file has what it does not read. */
static const volatile sig_atomic_t *catch_signals(void) {
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        handle(endings[i], on_signal);
    handle(SIGPIPE, SIG_IGN);
    return &stop;
}

/* Until then, and in commands that write nothing, a signal ends the program at once. A file that
 * grows beyond its limit is an error of the write. */
static void set_signals(void) {
    handle(SIGINT, SIG_DFL);
    handle(SIGXFSZ, SIG_IGN);
}

/* Help and version: rank 0 speaks, nothing is computed. */
static swt_status print_text(const swt_options *o, int rank, FILE *out) {
    if (rank != 0)
        return SWT_OK;
    if (o->command == SWT_COMMAND_VERSION)
        fprintf(out, "swt-dist %s\n", SWT_VERSION);
    else if (o->command == SWT_COMMAND_HELP)
        swt_options_print_help(out, o->help_topic);
    else
        swt_options_print_config_help(out, o->help_markdown);
    return SWT_OK;
}

/* What a command answers has to arrive; what training says is in its log file, too. */
static swt_status check_output(swt_comm *world, const swt_options *o, FILE *out) {
    if (o->command == SWT_COMMAND_TRAIN)
        return SWT_OK;
    return swt_comm_agree(world, swt_standard_finish(out));
}

/* An error that the other ranks do not know of ends them by force. Nothing can be closed in order
 * then: they may wait for this rank in the middle of an exchange. */
static bool must_abort(const swt_comm *world, swt_status status) {
    return status != SWT_OK && !swt_last_error()->agreed && world->size > 1;
}

static swt_status run(swt_comm *world, swt_watchdog **watchdog, swt_options *o, FILE *out) {
    static swt_status (*const commands[])(swt_session *) = {
        [SWT_COMMAND_TRAIN] = swt_command_train,
        [SWT_COMMAND_EVAL] = swt_command_eval,
        [SWT_COMMAND_GENERATE] = swt_command_generate,
        [SWT_COMMAND_PLAN] = swt_command_plan,
        [SWT_COMMAND_PROBE] = swt_command_probe,
        [SWT_COMMAND_SELFTEST] = swt_command_selftest,
        [SWT_COMMAND_CHECKPOINT_LIST] = swt_command_checkpoint_list,
        [SWT_COMMAND_CHECKPOINT_VERIFY] = swt_command_checkpoint_verify,
        [SWT_COMMAND_CHECKPOINT_DIFF] = swt_command_checkpoint_diff,
        [SWT_COMMAND_CHECKPOINT_IMPORT] = swt_command_checkpoint_import,
        [SWT_COMMAND_CHECKPOINT_EXPORT] = swt_command_checkpoint_export,
        [SWT_COMMAND_AUDIT] = swt_command_audit,
        [SWT_COMMAND_REPLAY] = swt_command_replay,
        [SWT_COMMAND_BISECT] = swt_command_bisect,
    };
    if (o->command >= SWT_COMMAND_HELP) {
        SWT_TRY(print_text(o, world->rank, out));
        return check_output(world, o, out);
    }
    if (o->command != SWT_COMMAND_PLAN)
        SWT_TRY(swt_watchdog_open(watchdog, world, o->run_hang_seconds, o->run_stall_seconds,
                                  &o->notes));
    swt_session session = {.options = o,
                           .world = world,
                           .watchdog = *watchdog,
                           .start_ms = swt_now_ms(),
                           .out = out,
                           .err = stderr,
                           .catch_signals = catch_signals};
    if (world->rank == 0 && o->command != SWT_COMMAND_TRAIN) /* a run says them in its header */
        swt_warnings_print(&o->notes, stderr);
    swt_status status = commands[o->command](&session);
    if (status == SWT_OK)
        status = check_output(world, o, out);
    if (!must_abort(world, status))
        swt_session_close(&session);
    return status;
}

/* One line from one rank. Where an exchange failed because a rank is lost, that is the line. */
static int finish(swt_comm *world, swt_watchdog *watchdog, swt_status status) {
    const swt_error *error = swt_last_error();
    const int code = swt_exit_code(status);
    if (status == SWT_COMM && !error->agreed)
        swt_watchdog_consider(watchdog);
    if (status != SWT_OK && !error->silent) {
        fprintf(stderr, "swt-dist: error: %s\n", error->message);
        fflush(stderr);
    }
    swt_watchdog_farewell(watchdog, must_abort(world, status));
    if (must_abort(world, status))
        swt_comm_abort(world, code);
    swt_comm_close(world);
    swt_watchdog_close(watchdog);
    if (status ==
        SWT_COMM) /* an abort of NCCL may go on yet: its library must not be closed on it */
        _exit(code);
    return code;
}

int main(int argc, char **argv) {
    static swt_options options; /* some 30 KiB of paths: not on the stack */
    swt_comm world;
    swt_watchdog *watchdog = NULL;
    swt_standard_open();
    swt_threads_settle(argv);
    set_signals();
    FILE *out = swt_standard_stream();
    swt_comm_open_self(&world);
    swt_status status = SWT_OK;
    if (swt_comm_launched_by_mpi())
        status = swt_comm_open_mpi(&world);
    if (status == SWT_OK)
        status = swt_options_parse(&options, &world, argc, argv);
    if (status == SWT_OK && options.command < SWT_COMMAND_HELP &&
        options.command != SWT_COMMAND_PLAN)
        status = swt_comm_check_alone(&world);
    if (status == SWT_OK)
        status = run(&world, &watchdog, &options, out);
    fflush(out);
    return finish(&world, watchdog, status);
}
