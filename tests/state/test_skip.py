#!/usr/bin/python3
"""run.nonfinite: a step whose gradient is bad on one rank is left out on all, told, and counted; it changes nothing but the
step's number; too many in a row end the run; a run that goes on over such a step, or is done again, has the same bits.

Faults are planted by tests/state/plant.c: the flag of one rank alone, or a weight that is no number for that step.
"""

import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from support import (  # noqa: E402
    BUILD, ORACLE, Suite, checkpoint, flags, moments, read, run, same_tensors, scratch, small, want, weights, write_text,
)

PLANT = os.path.join(BUILD, "tests", "state_plant")
TIMES = ("step_ms", "tokens_per_s", "comm_ms")
TENSOR = "decoder.0.attn.q.weight"
BAD, STEPS, MOST = 4, 8, 10
OPTIONS = small(moe_experts=5, moe_drop="random", moe_jitter=0.1, train_steps=STEPS, train_eval_every=4,
                train_eval_windows=4, train_checkpoint_every=1, train_keep_checkpoints=0, run_nonfinite="skip")


def rows(out):
    """Every row, times left out."""
    lines = read(os.path.join(out, "metrics.jsonl")).splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def ledger(out):
    """Its lines without what the times of the rows are in."""
    return [re.sub(r', "metrics": .*', "", line) for line in read(os.path.join(out, "ledger.jsonl")).splitlines()]


def warned(out):
    return re.findall(r"(?m)^warning: step (\d+): a gradient is not finite", read(os.path.join(out, "log.txt")))


def same_state(out, other, step, other_step):
    for name, found in (("weights", weights), ("moments", moments)):
        differ = same_tensors(found(out, step), found(other, other_step))
        want(not differ, f"{name} of step {step} are not those of step {other_step}: {differ[:3]}")


class Bed:
    """A text, and one run on one rank whose flag was set in step BAD: the others are compared with it."""

    def __init__(self, folder):
        self.folder, self.data, self.count = folder, write_text(folder), 0
        self.out = self.good(1, f"{BAD} {BAD} 0")

    def start(self, ranks, bad, **changes):
        self.count += 1
        out = os.path.join(self.folder, f"run{self.count}")
        options = dict(OPTIONS, **{key.replace("_", ".", 1): value for key, value in changes.items()})
        args = ["--data", self.data, "--out", out, *flags(options)]
        return out, run(ranks, args, program=PLANT, env={"SWT_TEST_BAD": bad})

    def good(self, ranks, bad, **changes):
        out, result = self.start(ranks, bad, **changes)
        want(result.code == 0, result.told())
        return out

    def go_on(self, ranks, out, bad, *args):
        args = ["--run.resume", "auto", "--out", out, *args]
        result = run(ranks, args, program=PLANT, env={"SWT_TEST_BAD": bad})
        want(result.code == 0, result.told())

    def changes_nothing(self):
        """But the step's number; the steps around it are updates. The row ends before what there is not."""
        same_state(self.out, self.out, BAD, BAD - 1)
        for step in (BAD - 1, BAD + 1):
            want(same_tensors(weights(self.out, step), weights(self.out, step - 1)), f"step {step} changed nothing")
        short = [r for r in rows(self.out) if "loss" not in r and "valid_loss" not in r]
        want([(r["step"], r["skipped"]) for r in short] == [(BAD, 1)], f"rows without a loss: {short}")
        counts = [r["skipped"] for r in rows(self.out) if "valid_loss" not in r]
        want(counts == [0] * (BAD - 1) + [1] * (STEPS - BAD + 1), f"counted {counts}")
        want(warned(self.out) == [str(BAD)], f"told of the steps {warned(self.out)}")
        judge = [sys.executable, os.path.join(ORACLE, "check_run.py"), self.out, "--steps", str(STEPS), "--finished"]
        said = subprocess.run(judge, capture_output=True, text=True, check=False)
        want(said.returncode == 0, said.stdout)

    def same_on(self, ranks, tensor=""):
        """Whatever made the gradient bad, and on whichever rank."""
        out = self.good(ranks, f"{BAD} {BAD} {ranks - 1} {tensor}")
        for step in range(1, STEPS + 1):
            same_state(out, self.out, step, step)
        want(rows(out) == rows(self.out), "rows differ")
        lines = [(a, b) for a, b in zip(ledger(out), ledger(self.out), strict=True) if a != b]
        want(not lines or tensor, f"the ledgers differ: {lines[:1]}")
        return ledger(out)

    def no_number(self):
        """A loss that is none has one form in the ledger, on any ranks."""
        one, three = self.same_on(1, TENSOR), self.same_on(3, TENSOR)
        want(one == three, "the ledgers differ")
        want('"loss": "7ff8000000000000"' in one[BAD], f"the ledger's line is {one[BAD]}")

    def bound(self, ranks):
        """As many in a row as there may be, and one more; the row begins anew when the run goes on. Doing it again has no bound."""
        out = self.good(ranks, f"3 {MOST + 2} 0", train_steps=MOST + 4)
        same_state(out, out, MOST + 2, 2)
        want(rows(out)[-1]["step"] == MOST + 4 and rows(out)[-2]["skipped"] == MOST, f"the last rows: {rows(out)[-2:]}")
        want(same_tensors(weights(out, MOST + 3), weights(out, 2)), "there was no update any more")
        out, result = self.start(ranks, f"3 99 {ranks - 1}", train_steps=MOST + 6)
        want(result.code == 5, result.told())
        pattern = (rf"step {MOST + 3}: a gradient is not finite or too large, as in the {MOST} steps before it; .*"
                   rf"the weights of step {MOST + 2} are in ")
        want(re.search(pattern, result.err) and result.err.count("\n") == 1, f"said {result.err!r}")
        want(warned(out) == [str(step) for step in range(3, MOST + 3)], f"told of {warned(out)}")
        want(checkpoint(out).endswith(f"step-{MOST + 2:08d}"), f"the newest checkpoint is {checkpoint(out)}")
        same_state(out, self.out, MOST + 2, 2)
        bad = f"3 {MOST + 4} {ranks - 1}"
        self.go_on(ranks, out, bad)
        want(rows(out)[-2]["skipped"] == MOST + 2, f"the last row: {rows(out)[-2]}")
        result = run(ranks, ["audit", out], program=PLANT, env={"SWT_TEST_BAD": bad})
        want(result.code == 0, result.told())

    def stopped(self):
        """The default; from there the run goes on over the step when it is told to."""
        out, result = self.start(3, f"{BAD} {BAD} 1", run_nonfinite="stop")
        want(result.code == 5, result.told())
        pattern = rf"step {BAD}: a gradient is not finite or too large; .*the weights of step {BAD - 1} are in "
        want(re.search(pattern, result.err) and result.err.count("\n") == 1, f"said {result.err!r}")
        want(not warned(out) and rows(out)[-1]["step"] == BAD - 1, "a step was left out")
        self.go_on(1, out, f"{BAD} {BAD} 0", "--run.nonfinite", "skip")
        same_state(out, self.out, STEPS, STEPS)

    def resumed(self, step):
        """From a checkpoint at or behind the step, between two rows."""
        whole, out = self.good(1, f"{BAD} {BAD} 0", train_log_every=3), os.path.join(self.folder, f"resumed{step}")
        shutil.copytree(whole, out)
        for later in range(step + 1, STEPS + 1):
            shutil.rmtree(checkpoint(out, later))
        self.go_on(3, out, f"{BAD} {BAD} 2")
        same_state(out, whole, STEPS, STEPS)
        want(rows(out) == rows(whole), f"the rows differ: {rows(out)[-3:]}")

    def audited(self):
        """Done again on other ranks with the same fault, and without it."""
        env = {"SWT_TEST_BAD": f"{BAD} {BAD} 2"}
        result = run(3, ["audit", self.out], program=PLANT, env=env)
        want(result.code == 0 and f"{STEPS} of {STEPS} steps done again" in result.out, result.told())
        result = run(1, ["audit", self.out], program=PLANT)
        want(result.code == 1 and f"after step {BAD} " in result.err, result.told())


def main():
    suite = Suite()
    with scratch() as folder:
        bed = Bed(folder)
        suite.case("a step that is left out changes nothing, and is counted", bed.changes_nothing)
        suite.case("the flag of one rank of three", bed.same_on, 3)
        suite.case("a weight that is no number", bed.no_number)
        for ranks in (1, 3):
            suite.case(f"the bound, {ranks} ranks", bed.bound, ranks)
        suite.case("stop", bed.stopped)
        for step in (BAD, BAD + 1):
            suite.case(f"resumed from step {step}", bed.resumed, step)
        suite.case("audited", bed.audited)
    suite.finish()


main()
