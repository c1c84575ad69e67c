#!/usr/bin/python3
"""Checkpoints that are written beside training hold what was there when they began; the best one is kept."""

import json
import os
import re
import resource
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
from support import (  # noqa: E402
    TSAN, Suite, begin, checkpoint, finish, flags, metrics, moments, read, same_tensors, scratch, session_members, small,
    succeed, train, want, weights, write_text,
)

# ThreadSanitizer does not know of MPI.
RANKS = 1 if TSAN else 3

EVERY = {**small(), "train.steps": 12, "train.checkpoint_every": 1, "train.keep_checkpoints": 0, "run.threads": 1, "run.device": "cpu"}


def published(out):
    return sorted(int(n[5:]) for n in os.listdir(os.path.join(out, "checkpoints")) if n.startswith("step-"))


def manifest(out, step):
    return json.loads(read(os.path.join(checkpoint(out, step), "manifest.json")))


def beside(folder, data, ranks):
    """Every checkpoint of a run that went on meanwhile is that of a run that waited."""
    wrote = train(ranks, folder, f"beside-{ranks}", EVERY, data)
    waited = train(1, folder, f"waited-{ranks}", {**EVERY, "train.async_checkpoints": "false"}, data)
    want(published(wrote) == published(waited) == list(range(1, 13)), f"{published(wrote)}, {published(waited)}")
    for step in published(wrote):
        for found in (weights, moments):
            differ = same_tensors(found(wrote, step), found(waited, step))
            want(not differ, f"step {step}: {found.__name__} differ: {differ[:3]}")
        hashes = [{n: t["hash"] for n, t in manifest(out, step)["tensors"].items()} for out in (wrote, waited)]
        want(hashes[0] == hashes[1], f"step {step}: other hashes")
    said = re.findall(r"step +(\d+)  checkpoint written, weights' hash (\w+)", read(os.path.join(wrote, "log.txt")))
    want(said == re.findall(r"step +(\d+)  checkpoint written, weights' hash (\w+)", read(os.path.join(waited, "log.txt"))), said)


def slow(folder, data):
    """Experts that hardly anything is computed with, and that all are written after every step: said once."""
    large = {"model.width": 64, "model.hidden": 256, "moe.experts": 64, "batch.seq_len": 8, "batch.sequences": 1, "moe.every": 1}
    out = train(1, folder, "slow", {**EVERY, **large, "batch.micro_batches": 1, "train.keep_checkpoints": 1}, data)
    lines = [line for line in read(os.path.join(out, "log.txt")).splitlines() if "is still being written" in line]
    want(len(lines) == 1 and "raise train.checkpoint_every" in lines[0], f"{lines}")
    want(published(out) == [12], f"{published(out)}")


def best(folder, data):
    """A rate that grows until it is far too high: the lowest valid_loss is an early one. It stays, also over a resumed run."""
    options = {
        **EVERY, "train.steps": 19, "train.keep_best": "true", "train.eval_every": 1, "train.keep_checkpoints": 1, "optim.clip_norm": 0,
        "optim.schedule": "noam", "optim.warmup_steps": 2000, "optim.lr": 10000.0,
    }
    out = train(1, folder, "best", options, data)
    losses = [(r["valid_loss"], r["step"]) for r in metrics(out)[1]]
    lowest, step = min(losses)
    want(step < 19, f"the last is the best: {losses}")
    want(published(out) == [step, 19], f"{published(out)}, the best is {step}")
    want(os.readlink(os.path.join(out, "best")) == f"checkpoints/step-{step:08d}", os.readlink(os.path.join(out, "best")))
    said = succeed(1, ["eval", "--checkpoint", os.path.join(out, "best"), "--data", data]).out
    want(abs(float(re.search(r"^valid_loss +(\S+)", said, re.M)[1]) - lowest) < 1e-6, f"{said}, {lowest}")
    # A run that goes on knows the best one by the manifests, not by the link, which may be lost or lead elsewhere.
    os.remove(os.path.join(out, "best"))
    os.symlink("checkpoints/step-00000019", os.path.join(out, "best"))
    succeed(RANKS, ["--run.resume", "auto", "--out", out, "--steps", 21, "--device", "cpu"])
    losses = [(r["valid_loss"], r["step"]) for r in metrics(out)[1]]
    want(step == min(losses)[1] < 19, f"a new one is the best: {losses}")
    want(published(out) == [step, 21], f"{published(out)} of {losses}")
    want(os.readlink(os.path.join(out, "best")) == f"checkpoints/step-{step:08d}", os.readlink(os.path.join(out, "best")))
    judged = [manifest(out, s)["valid_loss"] for s in published(out)]
    want(judged == [loss for loss, s in sorted(losses, key=lambda pair: pair[1]) if s in published(out)], f"{judged}, {losses}")
    # Who no longer wants it has none, and nothing that leads nowhere.
    succeed(1, ["--run.resume", "auto", "--out", out, "--steps", 22, "--device", "cpu", "--train.keep_best", "false"])
    want(published(out) == [22] and not os.path.lexists(os.path.join(out, "best")), f"{published(out)}")


def rank_of(pid):
    with open(f"/proc/{pid}/environ", "rb") as f:
        found = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", f.read())
    return int(found[1]) if found else -1


def failed(folder, data):
    """A rank whose files have no room any more, from some moment on: all ranks end with one line, what was published before
    stays, and nothing half-written does."""
    out = os.path.join(folder, "failed")
    options = {**EVERY, "train.steps": 10**6, "train.checkpoint_every": 50, "train.log_every": 10**5}
    process = begin(RANKS, out, ["--data", data, *flags(options)], "checkpoint written")
    for pid in session_members(process.pid):
        if rank_of(pid) == 1:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, 1000))
    said = finish(process, "a rank without room", 60)
    want(said.code == 3 and said.err.count("error: ") == 1, said.told())
    want(re.search(r"error: rank 1: \S*(weights|optim)-00002-of-00003.safetensors: cannot be written \(File too large\)", said.err), said.told())
    found = os.listdir(os.path.join(out, "checkpoints"))
    want(found and all(n.startswith("step-") for n in found), f"left: {found}")
    succeed(1, ["checkpoint", "verify", out])


def main():
    suite = Suite()
    with scratch() as folder:
        data = write_text(folder, 6000)
        suite.case("beside, 1 rank", beside, folder, data, 1)
        if RANKS > 1:
            suite.case("beside, 3 ranks", beside, folder, data, RANKS)
            suite.case("a failed writer is told", failed, folder, data)
        suite.case("a slow writer is told", slow, folder, data)
        suite.case("the best", best, folder, data)
    suite.finish()


main()
