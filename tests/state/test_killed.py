#!/usr/bin/python3
"""SIGKILL at random instants of a run, of one rank or of all with their launcher; resumed at another number of ranks and
killed again, until it ends: the bits of the undisturbed run, in weights, moments, rows and ledger.

Kills come in chains, several on one run; half of them are aimed at checkpoints that are being written, whose hidden folder
shows the moment. Everything is drawn from a seed, SWT_SEED or 20; SWT_CHAIN=n draws chain n alone. The instants themselves
are the machine's. SWT_LONG=1 kills 200 times, SWT_KILLS=n n times.
"""

import collections
import os
import random
import re
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from same import same_run  # noqa: E402
from support import (  # noqa: E402
    BUILD, LONG, SLOW, Miss, Suite, clean_mpi_files, contextlib, finish, flags, read, scratch, session_members, start,
    subprocess, succeed, train, want, write_text,
)

SEED = os.environ.get("SWT_SEED", "20")
ONLY = os.environ.get("SWT_CHAIN")
KILLS = int(os.environ.get("SWT_KILLS", "200" if LONG else "6" if SLOW else "25"))
KILLS_OF_A_CHAIN = 7
HIDDEN = re.compile(r"\.step-\d{8}")
MODELS = [(experts, batches) for experts in (5, 16) for batches in (4, 6)]
OPTIONS = {
    "model.layers": 2,
    "model.width": 32,
    "model.heads": 2,
    "model.hidden": 32,
    "moe.jitter": 0.1,
    "moe.drop": "random",
    "moe.capacity_factor": 0.8,
    "batch.sequences": 1,
    "batch.seq_len": 8,
    "optim.schedule": "constant",
    "optim.lr": 0.003,
    "train.steps": 60,
    "train.log_every": 1,
    "train.eval_every": 7,
    "train.eval_windows": 2,
    "data.valid_fraction": 0.02,
    "run.threads": 1,
}

# One start of a run: on so many ranks, with a checkpoint every so many steps, and its kill: who ("one" or "all"), when
# ("start": so many seconds after it; "step": after so many rows; "writing": when so many checkpoints have been begun).
Life = collections.namedtuple("Life", "ranks every who when count delay_s")


def lives(chain):
    """What a chain draws, without end."""
    draw = random.Random(f"{SEED} {chain}")
    while True:
        when = draw.choice(("start", "step", "step", "writing", "writing", "writing"))
        most_s = {"start": 0.6, "step": 0.02, "writing": 0.002}[when]
        yield Life(draw.randint(1, 4), draw.randint(1, 2), draw.choice(("one", "all")), when, draw.randint(1, 4),
                   draw.uniform(0, most_s))


# ---------------------------------------------------------------- what a run has left


def count_rows(out):
    with contextlib.suppress(OSError):
        return read(os.path.join(out, "metrics.jsonl")).count("\n")
    return 0


def being_written(out):
    """Hidden folders of checkpoints, by which each is known."""
    found = set()
    with contextlib.suppress(OSError), os.scandir(os.path.join(out, "checkpoints")) as entries:
        found = {(entry.name, entry.inode()) for entry in entries if HIDDEN.fullmatch(entry.name)}
    return found


# ---------------------------------------------------------------- the kill


def ranks_of(process):
    """The process ids of the program itself, without its launchers."""
    found = []
    for pid in session_members(process.pid):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/exe") == os.path.join(BUILD, "swt-dist"):
                found.append(pid)
    return sorted(found)


def wait_for(process, life, out, before):
    """The moment of the kill, if it comes before the run's end."""
    first_rows, seen = count_rows(out), set(before)
    deadline = time.monotonic() + 200
    while life.when != "start" and process.poll() is None:
        want(time.monotonic() < deadline, "200 s without a moment to kill it")
        if life.when == "step":
            now = count_rows(out)
            first_rows = min(first_rows, now)  # those behind the checkpoint are cut at the start
            come = now >= first_rows + 2 * life.count
        else:
            seen |= being_written(out)
            come = len(seen - before) >= life.count
        if come:
            break
        time.sleep(0.0005)
    time.sleep(life.delay_s)


def kill(process, life):
    """One rank, or all that belongs to the run as when the machine goes."""
    chosen = ranks_of(process)
    pids = chosen[int(life.delay_s * 1e7) % len(chosen)] if chosen and life.who == "one" else None
    for pid in [pids] if pids else [*session_members(process.pid), process.pid]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def drain(process, line):
    """Its end, by the kill or before. Which exit code a rank that was lost gives is judged by test_lost.py."""
    result = finish(process, line, 60)
    deadline = time.monotonic() + 10
    while any(session_members(process.pid)):  # killed launchers do not wait for their ranks
        want(time.monotonic() < deadline, f"processes are left after the kill: {line}")
        time.sleep(0.01)
    return result


class Chain:
    """A run, and what was done to it."""

    def __init__(self, bed, number):
        self.bed, self.number, self.out = bed, number, os.path.join(bed.folder, f"chain-{number}")
        self.model = MODELS[number % len(MODELS)]
        self.reference = bed.reference(self.model)
        self.args = ["--data", bed.data, *flags(options_of(self.model)), "--run.resume", "auto", "--out", self.out]
        self.kills, self.told = 0, []

    def live(self, life):
        """Whether the run was killed."""
        before = being_written(self.out)
        args = [*self.args, "--train.checkpoint_every", life.every]
        process = start(life.ranks, args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            wait_for(process, life, self.out, before)
        finally:
            kill(process, life)
        result = drain(process, str(life))
        clean_mpi_files()
        hit = bool(being_written(self.out) - before)
        self.told.append(f"{life}: exit {result.code}{', while a checkpoint was being written' if hit else ''}")
        if result.code == 0:
            return False
        early = result.code == 1 and "nothing was said" in result.err  # the others end in MPI's own start, for it
        want(result.code in (6, -signal.SIGKILL) or early, f"it did not go on: {result.told()}")
        self.bed.count(life, hit)
        self.kills += 1
        return True

    def end(self):
        """On ranks of its own, undisturbed."""
        ranks = random.Random(f"{SEED} {self.number} end").randint(1, 4)
        succeed(ranks, [*self.args, "--train.checkpoint_every", 20])
        same_run(self.out, self.reference)
        left = [name for name in os.listdir(os.path.join(self.out, "checkpoints")) if name.startswith(".")]
        want(not left, f"left in checkpoints/: {left}")
        shutil.rmtree(self.out)

    def run(self, kills):
        try:
            for life in lives(self.number):
                if self.kills == kills or not self.live(life):
                    break
            self.end()
        except Miss as miss:
            again = f"SWT_SEED='{SEED}' SWT_CHAIN={self.number} tests/state/test_killed.py {BUILD}"
            raise Miss("\n       ".join([str(miss), *self.told, f"once more: {again}"])) from None


def options_of(model):
    return {**OPTIONS, "moe.experts": model[0], "batch.micro_batches": model[1]}


class Bed:
    """A text, undisturbed runs, and what was counted."""

    def __init__(self, folder):
        self.folder, self.data, self.made = folder, write_text(folder, 6000), {}
        self.counts = collections.Counter()

    def reference(self, model):
        """On one rank, with no checkpoint but the last."""
        if model not in self.made:
            self.made[model] = train(1, self.folder, f"undisturbed-{len(self.made)}", options_of(model), self.data)
        return self.made[model]

    def count(self, life, hit):
        self.counts["kills"] += 1
        self.counts["of one rank of several"] += life.who == "one" and life.ranks > 1
        self.counts["while a checkpoint was being written"] += hit
        self.counts[f"on {life.ranks} ranks"] += 1


def enough(bed):
    """That the kills were where they are said to be; a quarter leaves room for a machine that is busy with other things."""
    share = bed.counts["while a checkpoint was being written"] / bed.counts["kills"]
    want(share >= 0.25, f"only {share:.0%} of the kills met a checkpoint that was being written")


def main():
    suite, chain = Suite(), int(ONLY or 0)
    print(f"seed {SEED}")
    with scratch(fast=True) as folder:
        bed = Bed(folder)
        while suite.failed < 3 and (bed.counts["kills"] < KILLS if ONLY is None else chain == int(ONLY)):
            kills = min(KILLS_OF_A_CHAIN, KILLS - bed.counts["kills"])
            name = "chain {}: {} experts, {} micro-batches".format(chain, *MODELS[chain % len(MODELS)])
            suite.case(name, Chain(bed, chain).run, kills)
            chain += 1
        if ONLY is None and not suite.failed:
            suite.case("where the kills were", enough, bed)
        print("; ".join(f"{count} {what}" for what, count in sorted(bed.counts.items(), key=lambda item: -item[1])))
    suite.finish()


main()
