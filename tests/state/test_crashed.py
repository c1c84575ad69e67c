#!/usr/bin/python3
"""What a crash of the machine can leave around a checkpoint's files, its manifest and its rename, built by hand.

Data that was not brought to disk is lost (a file that is missing, empty, short or of zeros), names are lost or came before the
data, in either order; rows end anywhere. A run that goes on takes the newest checkpoint that is whole, says which it left out,
and ends with the bits of the undisturbed run. Where that cannot be it is refused, and nothing is changed.
"""

import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from same import same_run  # noqa: E402
from support import Suite, run, scratch, small, succeed, train, want, write_text  # noqa: E402

OPTIONS = {**small(), "model.width": 16, "model.hidden": 16, "moe.experts": 5, "moe.jitter": 0.1, "moe.drop": "random",
           "moe.capacity_factor": 0.8, "train.steps": 8, "train.checkpoint_every": 2, "train.keep_checkpoints": 0,
           "train.eval_every": 4, "run.threads": 1}
STEPS = (2, 4, 6, 8)
RANKS = (1, 2)
count = 0  # of states tried


def name_of(step):
    return f"step-{step:08d}"


# ---------------------------------------------------------------- damage


def missing(path):
    os.unlink(path)


def empty(path):
    os.truncate(path, 0)


def short(path):
    os.truncate(path, os.path.getsize(path) * 2 // 3)


def zeros(path):
    """Its length came to disk before its data."""
    size = os.path.getsize(path)
    os.truncate(path, 0)
    os.truncate(path, size)


def zeros_at_end(path):
    """The same with the last page alone."""
    size = os.path.getsize(path)
    os.truncate(path, max(0, (size - 1) // 4096 * 4096))
    os.truncate(path, size)


LOSSES = (missing, empty, short, zeros, zeros_at_end)


def append(path, content):
    with open(path, "ab") as f:
        f.write(content)


def lines_of(path):
    with open(path, "rb") as f:
        return f.read().splitlines(True)


def write_lines(path, lines):
    with open(path, "wb") as f:
        f.write(b"".join(lines))


def up_to(path, step):
    """Cut rows or ledger behind a step."""
    write_lines(path, [line for line in lines_of(path) if int(re.match(rb'\{"step": (\d+)', line)[1]) <= step])


# ---------------------------------------------------------------- a run, and states of it


class Bed:
    """The undisturbed run; `state` gives copies of it."""

    def __init__(self, folder):
        self.folder, self.data = folder, write_text(folder, 6000)
        self.reference = train(2, folder, "undisturbed", OPTIONS, self.data)
        self.files = sorted(os.listdir(os.path.join(self.reference, "checkpoints", name_of(8))))

    def state(self):
        global count
        count += 1
        self.out = os.path.join(self.folder, f"state-{count}")
        shutil.copytree(self.reference, self.out)
        return self.out

    def path(self, *parts):
        return os.path.join(self.out, *parts)

    def checkpoint(self, step, *parts):
        return self.path("checkpoints", name_of(step), *parts)

    def hide(self, step, suffix=""):
        """Its rename is lost; or, with .old, it was about to be removed."""
        os.rename(self.checkpoint(step), self.path("checkpoints", f".{name_of(step)}{suffix}"))

    def recovers(self, from_step, skipped=()):
        """On other ranks than before; `skipped`: (step, file) of checkpoints that it must name, and no others."""
        said = succeed(RANKS[count % len(RANKS)], ["--run.resume", "auto", "--out", self.out]).out
        named = re.findall(r"the checkpoint of step (\d+) is not resumed from: (\S+)", said)
        want([int(step) for step, _ in named] == [step for step, _ in skipped], f"it names {named}, not {skipped}")
        for (_, file), (step, name) in zip(named, skipped):
            want(name_of(step) in file and name in file, f"it names {file}, not {name} of step {step}")
        begun = f"resume: {from_step} steps done" if from_step else "holds no checkpoint; training starts at step 0"
        want(begun in said, f"it goes on otherwise: {said[:600]}")
        same_run(self.out, self.reference)
        left = [n for n in os.listdir(self.path("checkpoints")) if n.startswith(".")]
        left += [n for n in os.listdir(self.out) if n.startswith(".")]
        want(not left, f"left behind: {left}")
        shutil.rmtree(self.out)

    def refused(self, pattern):
        before = {name: lines_of(self.path(name)) for name in ("metrics.jsonl", "ledger.jsonl")}
        listed = sorted(os.listdir(self.path("checkpoints")))
        result = run(RANKS[count % len(RANKS)], ["--run.resume", "auto", "--out", self.out])
        errors = [line for line in result.err.splitlines() if not line.startswith("swt-dist: warning: ")]
        want(result.code == 4 and len(errors) == 1, result.told())
        want(re.search(pattern, result.err), f"said {result.err!r}, not {pattern!r}")
        want(sorted(os.listdir(self.path("checkpoints"))) == listed, "its checkpoints were changed")
        changed = [name for name, lines in before.items() if lines_of(self.path(name)) != lines]
        want(not changed, f"it was refused, and yet changed {changed}")
        shutil.rmtree(self.out)


def data_lost(bed, lose):
    """The name came to disk, and data of one file did not; each file in turn. No file is empty, so every loss is one."""
    for name in bed.files:
        bed.state()
        lose(bed.checkpoint(8, name))
        bed.recovers(6, [(8, name if lose is not missing or name != "manifest.json" else "manifest")])


def all_data_lost(bed):
    """The newest two: names without contents, and folders without names."""
    bed.state()
    for name in bed.files:
        zeros(bed.checkpoint(8, name))
        empty(bed.checkpoint(6, name))
    bed.recovers(4, [(8, "manifest.json"), (6, "manifest.json")])
    bed.state()
    for name in bed.files:
        missing(bed.checkpoint(8, name))
    bed.recovers(6, [(8, "manifest")])


def renames_lost(bed):
    """The hidden folder stays: whole, with data lost, without its manifest, or without any file."""
    for lost in ((), bed.files[:1], ("manifest.json",), bed.files):
        bed.state()
        bed.hide(8)
        for name in lost:
            missing(bed.path("checkpoints", "." + name_of(8), name))
        bed.recovers(6)


def older_ones(bed):
    """What removes old checkpoints was cut off: hidden and half there, in either order with the new one's name."""
    bed.state()
    bed.hide(2, ".old")
    missing(bed.path("checkpoints", f".{name_of(2)}.old", bed.files[0]))
    bed.hide(8)
    bed.recovers(6)
    bed.state()
    bed.hide(2, ".old")
    empty(bed.checkpoint(8, "manifest.json"))
    bed.recovers(6, [(8, "manifest.json")])
    # A step is written once more: the old one was set aside, and the new one has no name yet.
    bed.state()
    bed.hide(8, ".old")
    shutil.copytree(bed.path("checkpoints", f".{name_of(8)}.old"), bed.path("checkpoints", "." + name_of(8)))
    bed.recovers(6)


def first_checkpoint(bed):
    """Nothing was published before the crash."""
    for gone in (STEPS[1:], STEPS):
        bed.state()
        for step in gone:
            shutil.rmtree(bed.checkpoint(step))
        if len(gone) < len(STEPS):
            bed.hide(2)
        bed.recovers(0)
    bed.state()
    shutil.rmtree(bed.path("checkpoints"))
    bed.recovers(0)


def rows_behind(bed, step):
    """Rows behind the newest checkpoint are there or not, end in the middle, or in zeros; the ledger's likewise, and the log's."""
    ends = (b"", b'{"step": 7, "tok', b"\0" * 700, b'{"step": 7, "loss": \0\0\0\0\n', b"\n")
    for number, end in enumerate(ends):
        for name in ("metrics.jsonl", "ledger.jsonl"):
            bed.state()
            if step < 8:
                shutil.rmtree(bed.checkpoint(8))
                up_to(bed.path(name), step)
            append(bed.path(name), end)
            append(bed.path("log.txt"), end)
            bed.recovers(step)
        want(number < len(ends), "")


def names_of_the_way_in(bed):
    """A crash while a run began to go on: one of its files was cut and the other not, hidden ones and the lock stay."""
    for name in ("metrics.jsonl", "ledger.jsonl"):
        bed.state()
        shutil.rmtree(bed.checkpoint(8))
        up_to(bed.path(name), 6)
        for hidden in (".rows.jsonl", ".config.yaml", ".lock"):
            append(bed.path(hidden), b"{\"step\": 1")
        bed.recovers(6)


def none_whole(bed):
    bed.state()
    for step in STEPS:
        zeros(bed.checkpoint(step, bed.files[-1]))
    bed.refused("none of its 4 checkpoints verifies")


def rows_missing(bed):
    """Rows and ledger are on disk before a checkpoint gets its name: shorter than it, they were altered since."""
    for name in ("metrics.jsonl", "ledger.jsonl"):
        for lose in (short, zeros, empty):
            bed.state()
            lose(bed.path(name))
            bed.refused(re.escape(name))
        bed.state()
        lines = lines_of(bed.path(name))
        write_lines(bed.path(name), lines[:3] + lines[4:])
        bed.refused(re.escape(name))
        bed.state()
        missing(bed.path(name))
        result = run(1, ["--run.resume", "auto", "--out", bed.out])
        want(result.code == 4 and name in result.err, f"without {name}: {result.told()}")


def main():
    suite = Suite()
    with scratch(fast=True) as folder:
        bed = Bed(folder)
        for lose in LOSSES:
            suite.case(f"data lost: {lose.__name__.replace('_', ' ')}", data_lost, bed, lose, heavy=lose in (empty, zeros))
        for case in (all_data_lost, renames_lost, older_ones, first_checkpoint, names_of_the_way_in, none_whole, rows_missing):
            suite.case(case.__name__.replace("_", " "), case, bed)
        for step in (6, 8):
            suite.case(f"rows behind step {step}", rows_behind, bed, step)
    print(f"{count} states")
    suite.finish()


main()
