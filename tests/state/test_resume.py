#!/usr/bin/python3
"""A run that goes on from a checkpoint ends with the bits of the undisturbed one: weights, moments, rows; at any layout.

The judge of a resumed run is a run that was never interrupted, at one rank. Tensors and manifests are read by the tests' own
readers.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
from support import (  # noqa: E402
    Plan, Suite, begin, checkpoint, end, finish, flags, moments, read, run, same_tensors, scratch, session_members, small, succeed,
    tensors, train, want, weights, write_text,
)

TIMES = ("step_ms", "tokens_per_s", "comm_ms")
RANDOM = {"moe.jitter": 0.1, "moe.drop": "random", "moe.capacity_factor": 0.8, "train.steps": 8, "train.checkpoint_every": 5}
FAST = {**small(), **RANDOM, "train.eval_every": 4, "run.threads": 1}


def rows(out):
    """Every row, times left out."""
    lines = read(os.path.join(out, "metrics.jsonl")).splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def same(out, reference, what=""):
    """Weights, moments and rows of two runs, bit for bit."""
    for name, found in (("weights", weights), ("moments", moments)):
        a, b = found(out), found(reference)
        differ = same_tensors(a, b)
        want(not differ, f"{what}{name} differ: {differ[:3]}")
    want(weights(out), "no weights")
    own, expected = rows(out), rows(reference)
    wrong = [a for a, b in zip(own, expected) if a != b]
    want(own == expected, f"{what}rows differ, {len(own)} and {len(expected)}: {wrong[:1]}")


def drop_newest(out):
    shutil.rmtree(checkpoint(out))


def resume(ranks, out, *args, **how):
    return run(ranks, ["--run.resume", "auto", "--out", out, *args], **how)


def resumed(ranks, out, *args, **how):
    result = resume(ranks, out, *args, **how)
    want(result.code == 0, result.told())
    return result


class Bed:
    """A text, and undisturbed runs of eight steps at one rank."""

    def __init__(self, folder):
        self.folder, self.data, self.made, self.count = folder, write_text(folder, 6000), {}, 0

    def reference(self, options):
        key = json.dumps(options, sort_keys=True)
        if key not in self.made:
            self.made[key] = train(1, self.folder, f"reference-{len(self.made)}", options, self.data)
        return self.made[key]

    def place(self):
        self.count += 1
        return os.path.join(self.folder, f"run-{self.count}")

    def five_of_eight(self, options=FAST):
        """A copy of an undisturbed run whose newest checkpoint is that of step 5; its rows go on to step 8."""
        out = self.place()
        shutil.copytree(self.reference(options), out)
        drop_newest(out)
        return out


def layouts(bed, changes, before, after):
    """Five steps at one layout, the rest at another."""
    options = {**FAST, **changes}
    out = bed.place()
    ranks, own = before
    train(ranks, os.path.dirname(out), os.path.basename(out), {**options, **own}, bed.data)
    same(out, bed.reference(options), "before: ")
    drop_newest(out)
    ranks, own = after
    said = resumed(ranks, out, *flags(own))
    want("resume: 5 steps done" in said.out, said.told())
    same(out, bed.reference(options))
    want("resume: 5 steps done" in read(os.path.join(out, "log.txt")), "log.txt does not say it")


def refused(bed):
    """What decides over the numbers may not differ: named, with both values and what to do."""
    out = bed.five_of_eight()
    cases = (
        ("--seed", 9, r"train\.seed: is 9, but 1 in the checkpoint of step 5; give --seed 1 to go on, or --init-from"),
        ("--experts", 8, r"moe\.experts: is 8, but 4 in "),
        ("--moe.jitter", 0, r"moe\.jitter: is 0, but 0\.1 in "),
        ("--model.width", 64, r"model\.width: is 64, but 32 in "),
        ("--batch.micro_batches", 2, r"batch\.micro_batches: is 2, but 4 in "),
        ("--optim.lr", 0.1, r"optim\.lr: is 0\.1, but 0\.003 in "),
        ("--optim.name", "sgd", r"optim\.name: is sgd, but adam in "),
        ("--data.valid_fraction", 0.3, r"data\.valid_fraction: is 0\.3, but 0\.02 in "),
        ("--data.tokenizer", "byte", r"data\.tokenizer: is byte, but char in "),
        ("--steps", 4, r"train\.steps: is 4, but the checkpoint of step 5 has 5 steps done"),
    )
    for flag, value, message in cases:
        result = resume(1, out, flag, value)
        want(result.code == 2 and re.search(message, result.err), f"{flag}: {result.told()}")
        want(result.err.count("\n") == 1, f"more than a line: {result.err}")
    other = os.path.join(bed.folder, "other.txt")
    with open(other, "w", encoding="utf-8") as f:
        f.write(read(bed.data).replace("king", "gink"))
    result = resume(2, out, "--data", other)
    want(result.code == 3 and re.search(r"other\.txt: its tokens are not those.*step 5.*trained on", result.err), result.told())
    result = run(1, ["--run.resume", "auto", *flags(FAST), "--data", bed.data])
    want(result.code == 2 and "run.resume: auto needs the run to go on with; add --out DIR" in result.err, result.told())
    cosine = {**FAST, "optim.schedule": "cosine", "optim.warmup_steps": 2}
    result = resume(1, bed.five_of_eight(cosine), "--steps", 9)
    want(result.code == 2 and "optim.schedule cosine ends" in result.err, result.told())
    resumed(1, out)  # none of them has changed anything
    same(out, bed.reference(FAST))


def free(bed):
    """What does not may differ; the text may have moved."""
    out = bed.five_of_eight()
    moved = os.path.join(bed.folder, "moved.txt")
    shutil.copy(bed.data, moved)
    said = resumed(2, out, "--data", moved, "--train.log_every", 2, "--train.eval_every", 0, "--train.keep_checkpoints", 1,
                   "--data.prompt", "the", "--threads", 2, "--dist.expert_ranks", 1, "--steps", 10)
    want("done: 10 steps" in said.out, said.told())
    long = bed.reference({**FAST, "train.steps": 10})
    want(not same_tensors(weights(out), weights(long)), "the weights are not those of ten steps")
    want([r["step"] for r in rows(out) if "loss" in r] == [1, 2, 3, 4, 5, 6, 8, 10], f"{rows(out)}")


def whole_command_line(bed):
    """The same command again, with everything on it: what a job's script does."""
    out, args = bed.place(), ["--data", bed.data, *flags(FAST), "--run.resume", "auto"]
    succeed(1, [*args, "--out", out])  # nothing is there yet
    same(out, bed.reference(FAST))
    drop_newest(out)
    succeed(3, [*args, "--out", out])
    same(out, bed.reference(FAST))
    said = succeed(2, [*args, "--out", out])  # nothing is left to do
    want("done: 8 steps" in said.out, said.told())
    same(out, bed.reference(FAST))


def nothing_there(bed):
    """A folder whose run ended before its first checkpoint: anew, and its rows go."""
    out = bed.five_of_eight()
    shutil.rmtree(os.path.join(out, "checkpoints"))
    with open(os.path.join(out, "log.txt"), "a", encoding="utf-8") as f:
        f.write("cut o")
    said = resumed(2, out)
    want("holds no checkpoint; training starts at step 0" in said.out, said.told())
    same(out, bed.reference(FAST))
    want("cut o\nresume: " in read(os.path.join(out, "log.txt")), "the log's lines run into each other")
    want(not [n for n in os.listdir(out) if n.startswith(".")], f"left: {os.listdir(out)}")


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1 << at % 8]))


def broken_newest(bed):
    """A flipped byte anywhere: the newest is not taken, and why is said; with no other it is an error."""
    source = train(3, bed.folder, "three", FAST, bed.data)
    names = sorted(os.listdir(checkpoint(source)))
    want(len(names) == 9, f"{names}")
    for number, name in enumerate(names):
        out = bed.place()
        shutil.copytree(source, out)
        path = os.path.join(checkpoint(out), name)
        flip(path, os.path.getsize(path) * (number + 1) // 11)
        said = resumed(1, out)
        line = rf"warning: the checkpoint of step 8 is not resumed from: \S*{re.escape(name)}"
        want(re.search(line, said.out) and "resume: 5 steps done" in said.out, f"{name}: {said.told()}")
        same(out, bed.reference(FAST), name + ": ")
        shutil.rmtree(out)
    out = bed.place()
    shutil.copytree(source, out)
    for step in (5, 8):
        flip(os.path.join(checkpoint(out, step), names[-1]), 2000)
    result = resume(2, out)
    want(result.code == 4 and "none of its 2 checkpoints verifies" in result.err, result.told())
    os.mkdir(os.path.join(checkpoint(source), "notes"))
    said = resumed(1, source)
    want("step-00000008/notes: is not in its manifest" in said.out, said.told())


def edited(bed):
    """Other commands take weights that were edited, and say so; what is no checkpoint any more is an error."""
    source = train(2, bed.folder, "edited", FAST, bed.data)
    place, eval_args = checkpoint(source), ["eval", "--checkpoint", source, "--data", bed.data]
    said = succeed(3, eval_args)
    want(not said.err, said.told())
    shard = os.path.join(place, "weights-00002-of-00002.safetensors")
    flip(shard, os.path.getsize(shard) - 4)
    said = succeed(3, eval_args)
    want(re.fullmatch(r"swt-dist: warning: \S*weights-00002-of-00002\.safetensors: tensor \S+ is not as .*\n", said.err), said.told())
    said = succeed(1, ["--init-from", source, "--data", bed.data, "--out", bed.place(), *flags(FAST)])
    want("tensor" in said.out and "it was changed" in said.out, said.told())
    with open(os.path.join(place, "config.yaml"), "a", encoding="utf-8") as f:
        f.write("\n")
    want(len(succeed(1, eval_args).err.splitlines()) == 2, "the configuration was changed, too")
    flip(os.path.join(place, "manifest.json"), 700)
    result = run(2, eval_args)
    want(result.code == 4 and "manifest.json: its own hash" in result.err, result.told())


def manifest_says(bed):
    """Places, shapes and keys of the manifest, read without our reader."""
    source = train(3, bed.folder, "said", {**FAST, "moe.experts": 5}, bed.data)
    place = checkpoint(source)
    said = json.loads(read(os.path.join(place, "manifest.json")))
    want(set(said["files"]) | {"manifest.json"} == set(os.listdir(place)), f"files: {sorted(said['files'])}")
    want(all(os.path.getsize(os.path.join(place, n)) == f["bytes"] for n, f in said["files"].items()), "sizes differ")
    found = {**tensors(place), **tensors(place, "optim")}
    want(set(found) == set(said["tensors"]) and len(found) % 3 == 0, "other tensors")
    for name, entry in said["tensors"].items():
        with open(os.path.join(place, entry["file"]), "rb") as f:
            f.seek(entry["offset"])
            want(f.read(found[name].nbytes) == found[name].tobytes(), f"{name} is not at its place")
        want(entry["dtype"] == "F32" and tuple(entry["shape"]) == found[name].shape, f"{name}: {entry}")
    last = [r for r in rows(source) if "valid_loss" in r][-1]
    want((said["step"], said["valid_loss"]) == (8, last["valid_loss"]), f"{said['step']}, {said['valid_loss']}")
    want(said["data"]["position"] == 8 * 4 * 2 * 16 and said["data"]["path"] == bed.data, f"{said['data']}")
    want(said["config"]["moe.experts"] == "5" and said["config"]["data.path"] == bed.data, "another configuration")
    want(json.loads(read(os.path.join(checkpoint(source, 5), "manifest.json")))["valid_loss"] is None, "no evaluation at 5")


def factors(bed):
    """What a checkpoint of Adafactor has beside weights: a number for each row and column of a matrix, and for each element
    of a vector; all of it changes from step to step, and the plan counts it."""
    options = {**FAST, "optim.name": "adafactor", "optim.lr": 0.3}
    source = bed.reference(options)
    kept, expected = moments(source), {}
    for name, tensor in weights(source).items():
        parts = ("v",) if tensor.ndim == 1 else ("row", "col")
        expected.update({f"optim.{part}.{name}": (count,) for part, count in zip(parts, tensor.shape)})
    want({name: tensor.shape for name, tensor in kept.items()} == expected, f"other tensors: {sorted(kept)[:5]}")
    old = moments(source, 5)
    unchanged = [name for name in kept if (kept[name] == old[name]).all()]
    want(not unchanged and all((tensor > 0).all() for tensor in kept.values()), f"factors that nothing has touched: {unchanged[:3]}")
    planned, counted = Plan({**options, "data.path": bed.data}).ranks["0"]["OPT"], sum(t.size for t in kept.values()) * 4
    # Every block of tensors of one shape begins at a multiple of 64 bytes.
    want(0 <= planned * 2**20 - counted + 600 <= 64 * len(kept) + 600, f"plan says {planned} MiB, {counted} bytes are kept")
    result = run(1, ["checkpoint", "diff", checkpoint(source), checkpoint(bed.five_of_eight(options))])
    want(result.code != 0 and "optim.row.embed.weight" in result.out and "optim.v.decoder" in result.out, result.told())


def one_at_a_time(bed):
    out, many = bed.place(), {**FAST, "train.steps": 10**6}
    process = begin(1, out, ["--data", bed.data, *flags(many)], "checkpoint written")
    try:
        result = resume(2, out)
        want(result.code == 2 and "another run is writing there" in result.err, result.told())
    finally:
        end(process)


def interrupted(bed, number):
    """Ended by a signal at any step, in the middle of anything: the line says how to go on, and that gives the same run."""
    steps = 400
    options = {**FAST, "train.steps": steps, "train.checkpoint_every": 50, "train.eval_every": 7, "train.log_every": 3}
    out = bed.place()
    process = begin(3, out, ["--data", bed.data, *flags(options)], "checkpoint written")
    time.sleep(0.05)
    if number == signal.SIGTERM:
        process.send_signal(number)
        said = finish(process, "interrupted", 60)
        want(said.code == 130 and f"go on with --run.resume auto --out {out}" in said.err, said.told())
    else:
        for _ in range(100):  # the ranks, too, which are in groups of their own; nobody may come for a zombie
            for pid in list(session_members(process.pid)):
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            process.poll()
            time.sleep(0.02)
        process.communicate()
    resumed(2, out)
    same(out, bed.reference(options))


def main():
    suite = Suite()
    factored = {"optim.name": "adafactor", "optim.lr": 0.3, "moe.experts": 5}
    sgd, one = {"optim.name": "sgd", "optim.lr": 0.1}, {"batch.micro_batches": 1}
    stacks = {"model.stacks": "encoder-decoder", "model.positions": "relative", "moe.experts": 5, "batch.target_len": 24}
    matrix = (
        ("1 to 3 ranks", {"moe.experts": 5}, (1, {}), (3, {})),
        ("3 to 2 ranks of 2 threads", {"moe.experts": 5}, (3, {}), (2, {"run.threads": 2, "dist.expert_ranks": 1})),
        ("4 ranks in 2 groups to 1", {}, (4, {"dist.expert_ranks": 2}), (1, {})),
        ("2 to 4 ranks, sgd", sgd, (2, {}), (4, {"dist.expert_ranks": 2})),
        ("3 to 1 ranks, one micro-batch", {**one, "moe.experts": 5}, (3, {}), (1, {"run.threads": 2})),
        ("3 to 2 ranks, adafactor", factored, (3, {}), (2, {"run.threads": 2, "dist.expert_ranks": 1})),
        ("2 to 4 ranks, adafactor, geglu", {**factored, "model.ffn": "geglu"}, (2, {}), (4, {"dist.expert_ranks": 2})),
        ("1 to 3 ranks, encoder and decoder", stacks, (1, {}), (3, {})),
        ("1 to 4 ranks, one micro-batch, sgd", {**one, **sgd}, (1, {}), (4, {})),
    )
    with scratch() as folder:
        bed = Bed(folder)
        for name, *how in matrix:
            suite.case(name, layouts, bed, *how)
        for case in (refused, free, whole_command_line, nothing_there, broken_newest, edited, manifest_says, factors, one_at_a_time):
            suite.case(case.__name__.replace("_", " "), case, bed)
        suite.case("interrupted by SIGTERM", interrupted, bed, signal.SIGTERM)
        suite.case("killed", interrupted, bed, signal.SIGKILL)
    suite.finish()


main()
