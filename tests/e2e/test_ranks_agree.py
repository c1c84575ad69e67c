#!/usr/bin/python3
"""Ranks that were not given the same end with one line that names the rank and the first difference, and never hang;
processes that were started together and do not know of each other say so."""

import os
import shutil

from support import PROGRAM, Suite, checkpoint, flags, run, scratch, small, succeed, text, train, want

CASES = small(train_steps=2)


class Bed:
    """A text, a checkpoint, and a program whose rank 1 gets other arguments or stands in another folder."""

    def __init__(self, folder):
        self.folder = folder
        self.data = self.write("text.txt", text())
        self.out = train(1, folder, "start", CASES, self.data)

    def write(self, name, content, mode=0o644):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(content)
        os.chmod(path, mode)
        return path

    def run(self, args, rank_1=(), inside=None):
        """Two ranks, of which the second gets more arguments, or runs inside another folder."""
        words = " ".join(f"'{w}'" for w in rank_1)
        program = self.write(
            "program",
            f"#!/bin/bash\n"
            f'[ "$OMPI_COMM_WORLD_RANK" = 1 ] || exec {PROGRAM} "$@"\n'
            f"cd {inside or self.folder} || exit 99\n"
            f'exec {PROGRAM} "$@" {words}\n',
            0o755,
        )
        return run(2, args, program=program, cwd=self.folder, timeout=60)

    def train(self, rank_1=(), extra=(), inside=None):
        shutil.rmtree(os.path.join(self.folder, "run"), ignore_errors=True)
        return self.run(["--data", "text.txt", "--out", "run", *flags(CASES), *extra], rank_1, inside)

    def elsewhere(self, name, **files):
        """A folder for rank 1 with the same names as here."""
        path = os.path.join(self.folder, name)
        os.makedirs(path)
        for file, content in {"text": text(), **files}.items():
            with open(os.path.join(path, file + ".txt"), "w", encoding="utf-8") as f:
                f.write(content)
        return path


def refused(result, code, *parts):
    lines = result.err.strip().splitlines()
    want(result.code == code, result.told())
    want(len(lines) == 1 and lines[0].startswith("swt-dist: error: rank 1: "), result.told())
    want(all(p in lines[0] for p in parts), result.told())


def other_options(bed):
    for flag, value, key in (
        ("--optim.lr", 0.5, "optim.lr: is 0.5"),
        ("--steps", 4, "train.steps: is 4"),
        ("--train.eval_every", 1, "train.eval_every: is 1"),
        ("--data.prompt", "It was", 'data.prompt: is "It was"'),
        ("--init-from", bed.out, "run.init_from: is"),
    ):
        refused(bed.train([flag, value]), 2, key, "rank 0")


def another_command(bed):
    refused(bed.run(["eval", "--checkpoint", bed.out], ["--version"]), 2)


def what_may_differ(bed):
    """Threads, and where a rank finds the same text or writes nothing."""
    same = bed.write("same.txt", text())
    result = bed.train(["--threads", "2", "--data", same, "--out", "nowhere"], ["--threads", "1"])
    want(result.code == 0 and not os.path.exists(os.path.join(bed.folder, "nowhere")), result.told())


def other_text(bed):
    """The same characters elsewhere, other characters, another length."""
    words = text()
    for i, other in enumerate((words.swapcase(), words.replace("king", "k\u00efng"), words[:-100])):
        inside = bed.elsewhere(f"other{i}", text=other)
        refused(bed.train(inside=inside), 3, "text.txt: is another text")


def other_weights(bed):
    inside = bed.elsewhere("weights")
    shutil.copytree(bed.out, os.path.join(inside, "start"))
    other = train(1, inside, "seed", dict(CASES, **{"train.seed": 9}), bed.data)
    for name in ("weights.safetensors", "optim.safetensors", "manifest.json"):
        shutil.copy(os.path.join(checkpoint(other), name), checkpoint(os.path.join(inside, "start")))
    refused(bed.train(extra=["--init-from", "start"], inside=inside), 4, "start/checkpoints/step-00000002", "other weights")
    refused(bed.run(["eval", "--checkpoint", "start", "--data", bed.data], inside=inside), 4, "other weights")
    refused(bed.run(["generate", "--checkpoint", "start", "--tokens", "3"], inside=inside), 4, "other weights")


def checkpoint_of_rank_0(bed):
    """The newest checkpoint is rank 0's to find: a rank that cannot see it says so, and takes no other."""
    inside = bed.elsewhere("older")
    old, new = (os.path.join(p, "start", "checkpoints") for p in (inside, bed.folder))
    shutil.copytree(new, old)
    shutil.copytree(os.path.join(new, "step-00000002"), os.path.join(new, "step-00000004"))
    try:
        for args in (["eval", "--checkpoint", "start", "--data", bed.data], ["generate", "--checkpoint", "start"]):
            refused(bed.run(args, inside=inside), 4, "step-00000004")
        refused(bed.train(extra=["--init-from", "start"], inside=inside), 4, "step-00000004")
        shutil.copytree(os.path.join(new, "step-00000004"), os.path.join(old, "step-00000004"))
        shutil.copytree(os.path.join(new, "step-00000004"), os.path.join(old, "step-00000006"))
        said = bed.run(["eval", "--checkpoint", "start", "--data", bed.data], inside=inside)
        want(said.code == 0 and "step-00000004" in said.out, said.told())
    finally:
        shutil.rmtree(os.path.join(new, "step-00000004"))


def each_alone(bed):
    """No false alarm for what needs no other process, or is told that it is alone."""
    apart = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}
    where = ["--checkpoint", checkpoint(bed.out)]
    for args in (
        ["--data", bed.data, "--out", os.path.join(bed.folder, "apart"), *flags(CASES)],
        ["eval", *where],
        ["generate", *where],
        ["selftest"],
    ):
        result = run(1, args, env=apart)
        want(result.code == 2 and "SLURM_STEP_NUM_TASKS=2" in result.err and "--mpi=pmix" in result.err, result.told())
    want(not os.path.exists(os.path.join(bed.folder, "apart")), "a run directory was made")
    for args in (["--help"], ["plan", "--data", bed.data], ["--version"]):
        succeed(1, args, env=apart)
    succeed(1, ["generate", *where], env={"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"})


def main():
    suite = Suite()
    with scratch() as folder:
        bed = Bed(folder)
        for case in (
            other_options,
            another_command,
            what_may_differ,
            other_text,
            other_weights,
            checkpoint_of_rank_0,
            each_alone,
        ):
            suite.case(case.__name__, case, bed)
    suite.finish()


main()
