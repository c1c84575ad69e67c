#!/usr/bin/python3
"""A run ends well, whatever ends it: signals, a reader that leaves, closed streams, a full standard output, bad weights.
Bad numbers in training: test_traps.py."""

import os
import re
import signal
import subprocess
import sys
import time

from support import (
    FIXTURES, LONG, PROGRAM, SLOW, Suite, begin, checkpoint, copy_checkpoint, environment, finish, flags, metrics,
    np, probe_args, read, run, same_tensors, scratch, small, start, succeed, train, want, weights, write_text,
)

PATIENCE_S = 60 if SLOW else 10  # a job manager gives 30


def reason(out):
    return read(os.path.join(out, "log.txt")).splitlines()[-1]


def training(folder, options, mark, ranks=1, launched=False):
    """A run in the background, its folder and its text."""
    data, out = write_text(folder), os.path.join(folder, "run")
    return begin(ranks, out, ["--data", data, *flags(options)], mark, launched), out, data


def interrupted(process, out, number, what, patience_s=PATIENCE_S):
    """The signal's end: in time, exit code 130, one line that the log has too, weights of the step that it names."""
    process.send_signal(number)
    result = finish(process, what, patience_s)
    want(result.code == 130, result.told())
    lines = result.err.strip().splitlines()
    want(len(lines) == 1 and reason(out) == "error: " + lines[0].split("error: ", 1)[1], f"{lines}, log: {reason(out)}")
    step = int(re.search(r"step (\d+) of \d+: interrupted; the weights of step \1 are in ", lines[0])[1])
    names = os.listdir(os.path.join(out, "checkpoints"))
    want(names == [f"step-{step:08d}"], f"{lines[0]}, but {names}")
    want(all(np.isfinite(v).all() for v in weights(out).values()), "weights are not finite")
    return step


def signal_between_steps(number, ranks=1, launched=False):
    """The weights are those of that many whole steps, which eval reads; rows end with the last log interval."""
    with scratch() as folder:
        options = small(train_steps=10**7, train_log_every=5, run_threads=1)
        process, out, data = training(folder, options, "tokens/s", ranks, launched)
        step = interrupted(process, out, number, number.name, PATIENCE_S * (3 if launched else 1))
        last = metrics(out)[0][-1]["step"]
        want(last <= step < last + 5, f"rows end at {last}, the weights are of {step}")
        want("valid_loss" in succeed(1, ["eval", "--checkpoint", out, "--data", data]).out, "eval says nothing")
        if step <= 400:
            again = train(1, folder, "again", dict(options, **{"train.steps": step}), data)
            want(not same_tensors(weights(again), weights(out)), f"the weights are not those of {step} steps")


def signal_in_evaluation(ranks, launched):
    """The validation part is nearly the whole text, so that an evaluation lasts for many signals."""
    with scratch() as folder:
        options = small(train_steps=10**7, train_eval_every=3, run_threads=1, data_valid_fraction=0.9)
        options.update({"batch.sequences": 1, "train.log_every": 3})
        process, out, _ = training(folder, options, "step      3/", ranks, launched)
        want(interrupted(process, out, signal.SIGTERM, "in an evaluation") % 3 == 0, "not in an evaluation")
        rows = [r["step"] for r in metrics(out)[1]]
        want(rows == sorted(set(rows)), f"rows of evaluations: {rows}")


def interrupted_without_room():
    """Where the weights cannot be written, the exit code does not say that they are."""
    with scratch() as folder:
        process, out, data = training(folder, small(train_steps=10**7, run_threads=1), "tokens/s")
        os.rename(data, os.path.join(out, "checkpoints"))
        process.send_signal(signal.SIGTERM)
        result = finish(process, "no room", PATIENCE_S)
        want(result.code == 3 and "interrupted; no weights written: " in result.err, result.told())
        want("error: " + result.err.strip().split("error: ", 1)[1] == reason(out), f"the log ends with {reason(out)}")


def signal_in_a_long_step():
    """A step of many micro-batches is left, too, and the weights are those before it."""
    with scratch() as folder:
        options = small(train_steps=2, batch_micro_batches=4096, run_threads=1, batch_seq_len=64)
        options.update({"batch.sequences": 16})
        process, out, _ = training(folder, options, "memory of rank 0")
        time.sleep(0.5)
        want(process.poll() is None, "ended by itself")
        want(interrupted(process, out, signal.SIGTERM, "in a long step") == 0, "a step that was not done is counted")


def ignored_signal_stays_ignored():
    """As under nohup."""
    with scratch() as folder:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            process, out, _ = training(folder, small(train_steps=10**7, run_threads=1), "tokens/s")
        finally:
            signal.signal(signal.SIGHUP, before)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        want(process.poll() is None, "ended by a signal that its parent had it ignore")
        interrupted(process, out, signal.SIGTERM, "after SIGHUP")


def nothing_to_save(folder, out):
    """Commands that write nothing at their end are ended by a signal's own action, in the middle of what lasts."""
    probe = probe_args(os.path.join(FIXTURES, "labml-drop"), out=os.path.join(folder, "o"), threads=1)
    for number, args in (
        (signal.SIGTERM, ["generate", "--checkpoint", out, "--tokens", 10**8]),
        (signal.SIGINT, ["generate", "--checkpoint", out, "--tokens", 10**8]),
        (signal.SIGUSR1, ["generate", "--checkpoint", out, "--tokens", 10**8]),
        (signal.SIGHUP, [*probe, "--optim-steps", 10**6, "--optim.lr", 0]),
    ):
        process = start(1, args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(1.5 if SLOW else 0.5)
        want(process.poll() is None, f"{args[0]} has ended by itself")
        process.send_signal(number)
        result = finish(process, args[0], PATIENCE_S)
        want(result.code == -number, f"{number.name}: {result.told()}")


def reader_leaves():
    """`| head`: the training goes on to its end, and the log has every line."""
    with scratch() as folder:
        out = os.path.join(folder, "run")
        args = ["--data", write_text(folder), "--out", out, *flags(small(train_steps=300, train_log_every=1))]
        process = start(1, args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read().decode()
        want(process.wait(60) == 0 and err == "", f"exit {process.returncode}: {err}")
        want(reason(out).startswith("done: 300 steps") and len(metrics(out)[0]) == 300, reason(out))


def closed_streams():
    """What a daemon starts without standard streams writes its files as always."""
    with scratch() as folder:
        data, logs = write_text(folder), []
        for name, closing in (("all", "<&- >&- 2>&-"), ("out", ">&-"), ("none", ">/dev/null")):
            out = os.path.join(folder, name)
            args = ["--data", data, "--out", out, *flags(small(train_steps=3, train_log_every=1, run_threads=1))]
            line = f'exec "$0" "$@" {closing}'
            code = subprocess.run(["sh", "-c", line, PROGRAM, *map(str, args)], env=environment(), check=False).returncode
            want(code == 0 and len(metrics(out)[0]) == 3, f"{name}: exit {code}")
            logs.append(re.sub(r" +[\d.]+ tokens/s.*|run directory.*|" + out, "", read(os.path.join(out, "log.txt"))))
        want(logs[0] == logs[1] == logs[2], f"logs differ: {logs}")


def full_output(out, data):
    commands = [["eval", "--checkpoint", out], ["generate", "--checkpoint", out, "--tokens", 5], ["plan", "--data", data]]
    for args in [*commands, ["--help"], ["--help-config"], ["--version"]]:
        with open("/dev/full", "wb") as full:
            process = start(1, args, stdout=full, stderr=subprocess.PIPE)
            result = finish(process, f"{args[0]} >/dev/full", PATIENCE_S)
        want(result.code == 3 and "standard output: cannot be written" in result.err, result.told())


def bad_weights(folder, out):
    """All of the head, which eval meets, and one logit, which greedy choice would never take."""
    for name, place, ranks in (("head.weight", ..., 2), ("head.bias", 3, 1)):
        tensors = dict(weights(out))
        tensors[name] = tensors[name].copy()
        tensors[name][place] = np.nan
        broken = os.path.join(folder, name)
        copy_checkpoint(checkpoint(out), broken, tensors)
        commands = [["generate", "--checkpoint", broken, "--tokens", 5, "--temperature", t] for t in (0, 1)]
        for args in [*commands, ["eval", "--checkpoint", broken]]:
            result = run(ranks, args)
            want(result.code == 5 and len(result.err.strip().splitlines()) == 1 and not result.out, result.told())


def bounded_evaluation(out, data):
    """The first windows alone: as many targets, on any number of ranks the same loss, and another than that of all."""
    rows = []
    for ranks, windows in ((1, 0), (1, 6), (2, 6)):
        said = succeed(ranks, ["eval", "--checkpoint", out, "--data", data, "--train.eval_windows", windows]).out
        rows.append([re.search(rf"^{name} +(\S+)", said, re.M)[1] for name in ("targets", "valid_loss")])
    want(rows[1] == rows[2] != rows[0] and int(rows[1][0]) == 6 * 16, f"{rows}")


def main():
    suite = Suite()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU):
        suite.case(f"{number.name} between steps", signal_between_steps, number)
    for number, ranks in ((signal.SIGINT, 4), (signal.SIGTERM, 4), *(((signal.SIGINT, 1), (signal.SIGTERM, 2)) if LONG else ())):
        heavy = number == signal.SIGTERM
        suite.case(f"{number.name} to launch/run of {ranks}", signal_between_steps, number, ranks, True, heavy=heavy)
    suite.case("SIGTERM in an evaluation", signal_in_evaluation, 1, False)
    suite.case("SIGTERM in an evaluation of 2 ranks", signal_in_evaluation, 2, True)
    suite.case("SIGTERM in a long step", signal_in_a_long_step)
    suite.case("interrupted without room", interrupted_without_room)
    suite.case("an ignored signal", ignored_signal_stays_ignored)
    suite.case("a reader that leaves", reader_leaves)
    suite.case("closed streams", closed_streams)
    with scratch() as folder:
        data = write_text(folder)
        out = train(1, folder, "run", small(train_steps=1, run_threads=1), data)
        suite.case("nothing to save", nothing_to_save, folder, out)
        suite.case("full standard output", full_output, out, data)
        suite.case("bad weights", bad_weights, folder, out)
        suite.case("bounded evaluation", bounded_evaluation, out, data)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
