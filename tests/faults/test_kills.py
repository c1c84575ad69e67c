#!/usr/bin/python3
"""SIGKILL around checkpoints: what is published is whole, and the run can be done again.

Half of the kills come at random moments, drawn from a seed, of a run that writes a checkpoint after every step; the others
at a system call of its own, chosen so that the whole writing of a checkpoint is covered; with SWT_LONG=1 at every one.
"""

import os
import random
import shutil
import signal
import time

from faults import (
    TINY, Command, Judge, all_of, checkpoints_of, finish, products, published, ready, run, scratch, start,
    write_text,
)
from support import LONG, Suite, flags, want

KILLS = 100 if LONG else 12  # at random moments
STEPS = 400  # more than there is time for
FILES = ("weights.safetensors", "optim.safetensors", "config.yaml", "tokenizer.json", "manifest.json")
RENAMING = {"rename", "renameat", "renameat2"}
CHANGING = RENAMING | {"mkdir", "mkdirat", "rmdir", "unlinkat", "unlink"}


def judged(folder, judge, data_args, outcome):
    """The checkpoints of a killed run, an evaluation of the newest, and the same run in another folder."""
    want(outcome.code == -signal.SIGKILL, f"it was not killed: {outcome.told()}")
    judge.whole(outcome)
    steps = published(outcome.folder)
    evaluated = run(os.path.join(folder, "eval"), ["eval", "--checkpoint", os.path.join(outcome.folder, "run")])
    if steps:
        want(evaluated.code == 0, f"eval of step {steps[-1]}: {evaluated.told()}")
        want(f"step-{steps[-1]:08d}" in evaluated.out, f"eval read another than step {steps[-1]}: {evaluated.out}")
    elif "run" in os.listdir(outcome.folder):
        want(evaluated.code == 4, f"eval of a run without a checkpoint: {evaluated.told()}")
    again = run(os.path.join(folder, "again"), data_args)
    want(again.code == 0, f"another run: {again.told()}")
    want(products(again.folder) == judge.files, "another run has other results")
    return len(steps)


def at_random(folder, data):
    """The weights of each step do not depend on how many are to come, nor on who writes them."""
    beside = {"train.steps": STEPS, "train.async_checkpoints": "true"}
    args = ["--data", data, "--out", "run", *map(str, flags(dict(TINY, **beside)))]
    short = ["--data", data, "--out", "run", *map(str, flags(TINY))]
    judge = Judge(run(os.path.join(folder, "short"), short), False, {})
    judge.checkpoints = checkpoints_of(os.path.join(folder, "all"), data, STEPS)
    moments = random.Random(20)

    def killed(number, moment):
        """From the first checkpoint on, or from the start."""
        place = os.path.join(folder, f"random-{number}")
        process = start(os.path.join(place, "killed"), args)
        deadline = time.monotonic() + 20
        while number % 4 and not published(os.path.join(place, "killed")) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(moment)
        process.kill()
        steps = judged(place, judge, short, finish(process, os.path.join(place, "killed")))
        shutil.rmtree(place)
        want(steps or number % 4 == 0, "no checkpoint was there")

    all_of([(number, moments.uniform(0, 0.3)) for number in range(KILLS)], killed)


def at_calls(folder, data):
    """From the first call of the second checkpoint, which has one before it, to that which removes the oldest."""
    args = ["--data", data, "--out", "run", *map(str, flags(TINY))]
    command = Command(folder, "train", args, (3,), False, checkpoints_of(os.path.join(folder, "all"), data))

    def killed(number, _request):
        place = os.path.join(folder, f"call-{number}")
        judged(place, command.judge, command.args, run(os.path.join(place, "killed"), command.args, kind="kill", at=number))
        shutil.rmtree(place)

    requests = list(enumerate(command.requests("kill"), 1))
    steps = ("00000002", "00000003", "00000001.old")
    marked = [number for number, request in requests if any(step in request[1] for step in steps)]
    chosen = requests[marked[0] - 2 : marked[-1] + 4]
    if not LONG:
        chosen = [job for job in chosen if job[1][0] in CHANGING]
    all_of(chosen, killed)
    print(f"     {len(chosen)} of {len(requests)} calls")


def brought_to_disk(folder, data):
    """A kill does not empty the page cache, a power failure does: so the order of calls is judged. Before a checkpoint gets its
    name, every file of it is on disk, and so are the folder, and the rows and the ledger, whose hash it names; the name is
    before the next step."""
    args = ["--data", data, "--out", "run", *map(str, flags(TINY))]
    command = Command(folder, "train", args, (3,), False)
    names, unsynced, renamed = {}, set(), 0
    for call, path, handle in command.requests("call"):
        if call == "openat":
            names[handle] = path
            unsynced |= {path} if os.path.basename(path) in FILES else set()
        elif call in ("mkdir", "mkdirat") and os.path.basename(path).startswith(".step-"):
            want("run/checkpoints" not in unsynced, f"the folder of names is not on disk before {path} begins")
            unsynced.add(path)
        elif call == "write":
            unsynced.add(names.get(handle, ""))
        elif call in ("fsync", "fdatasync"):
            unsynced.discard(names.get(handle))
        elif call in RENAMING and os.path.basename(path).startswith(".step-") and not path.endswith(".old"):
            dirty = sorted(name for name in unsynced if name.startswith(path) or name.endswith(".jsonl"))
            want(not dirty, f"{path} gets its name before these are on disk: {dirty}")
            unsynced.add("run/checkpoints")
            renamed += 1
    want(renamed == TINY["train.steps"] and "run/checkpoints" not in unsynced, "the last name is not on disk")


def main():
    ready()
    suite = Suite()
    with scratch() as folder:
        data = write_text(folder)
        for name, case in (
            ("kills at random moments", at_random),
            ("kills at calls of its own", at_calls),
            ("what is published is on disk", brought_to_disk),
        ):
            place = os.path.join(folder, name.replace(" ", "-"))
            os.mkdir(place)
            suite.case(name, case, place, data)
    suite.finish()


main()
