#!/usr/bin/python3
"""run.max_seconds: a run ends before its time with a checkpoint, and says how to go on."""

import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))

from support import SLOW, Suite, checkpoint, flags, metrics, read, run, scratch, small, want, write_text  # noqa: E402

SECONDS = 12 if SLOW else 4


def ends_in_time(folder, data, ranks):
    """Evaluations and checkpoints in between are whole; the last checkpoint is that of the last step."""
    out = os.path.join(folder, f"run{ranks}")
    options = small(train_steps=10**6, train_eval_every=7, train_checkpoint_every=5, run_threads=1)
    result = run(ranks, ["--data", data, "--out", out, *flags(dict(options, **{"run.max_seconds": SECONDS}))])
    want(result.code == 0 and not result.err, result.told())
    want(SECONDS / 2 < result.seconds, f"it took {result.seconds:.1f} of {SECONDS} s")
    # 2 s: mpirun's own start and end beside other tests; a sanitizer's end takes longer than that at times.
    want(SLOW or result.seconds < SECONDS + 2, f"it took {result.seconds:.1f} of {SECONDS} s")
    last = result.out.strip().splitlines()[-1]
    match = re.match(r"stopped in time \(run.max_seconds\): (\d+) of 1000000 steps; .*--run.resume auto goes on$", last)
    want(match and last == read(os.path.join(out, "log.txt")).splitlines()[-1], last)
    step, (rows, evaluations) = int(match[1]), metrics(out)
    want(os.path.basename(checkpoint(out)) == f"step-{step:08d}", f"{last}, but {checkpoint(out)}")
    want(len(rows) == step, f"{len(rows)} rows of {step} steps")
    want([r["step"] for r in evaluations] == list(range(7, step + 1, 7)), f"evaluations at {evaluations}, {step} steps")


def too_short(folder, data):
    """Less time than the start takes: one step, its checkpoint, and the same end."""
    out = os.path.join(folder, "short")
    result = run(1, ["--data", data, "--out", out, *flags(small(train_steps=100, run_max_seconds=1, model_width=256))])
    want(result.code == 0 and "1 of 100 steps" in result.out.splitlines()[-1], result.told())
    want(os.path.basename(checkpoint(out)) == "step-00000001", checkpoint(out))


def done_before(folder, data):
    """A run that is done in time says so, and nothing of time."""
    out = os.path.join(folder, "done")
    result = run(1, ["--data", data, "--out", out, *flags(small(train_steps=5, run_max_seconds=1000))])
    want(result.code == 0 and "done: 5 steps" in result.out and "in time" not in result.out, result.told())


def main():
    suite = Suite()
    with scratch() as folder:
        data = write_text(folder)
        for ranks in (1, 3):
            suite.case(f"in time on {ranks}", ends_in_time, folder, data, ranks)
        suite.case("too short a time", too_short, folder, data)
        suite.case("done before", done_before, folder, data)
    suite.finish()


main()
