#!/usr/bin/python3
"""A run in pieces, each ended by run.max_seconds or by a lost rank, ends with the bits of the undisturbed run."""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))

from support import (  # noqa: E402
    BUILD, LAUNCH, Suite, environment, flags, metrics, run, same_tensors, scratch, small,
    train, want, weights, write_text,
)

FAULTY = os.path.join(BUILD, "tests", "state_fault")
STEPS = 60
OPTIONS = small(train_steps=STEPS, train_eval_every=50, train_checkpoint_every=20, run_threads=1, moe_experts=5)
TIMES = ("step_ms", "tokens_per_s", "comm_ms")


def rows_of(out):
    """All rows without what a clock says."""
    return [[{k: v for k, v in row.items() if k not in TIMES} for row in rows] for rows in metrics(out)]


def same_run(out, straight):
    want(not same_tensors(weights(out), weights(straight)), "other weights than the undisturbed run's")
    want(rows_of(out) == rows_of(straight), "other rows than the undisturbed run's")


def in_pieces(folder, data, straight):
    """Each piece on another number of ranks. A second is hardly the time to start: each makes a step at least."""
    out, steps = os.path.join(folder, "pieces"), []
    for ranks, seconds in ((3, 1), (1, 1), (2, 1), (3, 0)):
        args = ["--data", data, "--out", out, *flags(OPTIONS), "--run.max_seconds", seconds, "--run.resume", "auto"]
        result = run(ranks, args)
        want(result.code == 0, result.told())
        steps.append(int(re.search(r"(\d+) (of \d+ )?steps[;,] ", result.out.splitlines()[-1])[1]))
    want(0 < steps[0] < steps[1] < steps[2] < steps[3] == STEPS, f"pieces end at {steps}")
    same_run(out, straight)


def restarted(folder, name, fault, restarts, data, straight):
    """What the launcher said of a run with a fault that it starts again so often, and that has the straight run's results."""
    out = os.path.join(folder, name)
    env = environment({"SWT_FAULT_MARK": out + ".mark", "SWT_FAULT": fault})
    line = [LAUNCH, "-n", 3, "--max-restarts", restarts, "--program", FAULTY, "--", "--data", data, "--out", out, *flags(OPTIONS)]
    said = subprocess.run([str(a) for a in line], env=env, capture_output=True, text=True, check=False, timeout=300)
    want(said.returncode == 0, said.stderr)
    same_run(out, straight)
    return said.stderr


def after_losses(folder, data, straight):
    """A rank is killed in a step behind the second checkpoint; the launcher starts all again."""
    said = restarted(folder, "lost", "1 3 all_to_all inside 47 kill", 2, data, straight)
    want("error: rank 1: its process has ended without a word, last at step 47" in said, said)
    want(said.count("starting again on 3 rank(s)") == 1, said)


def before_the_first_checkpoint(folder, data, straight):
    """There is nothing to go on from: the run begins once more."""
    restarted(folder, "early", "0 2 all_to_all before 3 kill", 1, data, straight)


def main():
    suite = Suite()
    with scratch() as folder:
        data = write_text(folder)
        straight = train(1, folder, "straight", OPTIONS, data)
        suite.case("in pieces", in_pieces, folder, data, straight)
        suite.case("after the loss of a rank", after_losses, folder, data, straight)
        suite.case("before the first checkpoint", before_the_first_checkpoint, folder, data, straight)
    suite.finish()


main()
