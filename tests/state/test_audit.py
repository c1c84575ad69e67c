#!/usr/bin/python3
"""The ledger and what is made of it: equal in any layout; parts of a run done again on other ranks are equal; what was
altered in its files is found, and a fault of the arithmetic is found to its step and tensor."""

import os
import random
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from support import (  # noqa: E402
    BUILD, LONG, SLOW, Suite, checkpoint, flags, read, run, safet, same_tensors, scratch, small, succeed, train, want,
    weights, write_text,
)

PLANT = os.path.join(BUILD, "tests", "state_plant")
STEPS = 8
OPTIONS = small(moe_experts=5, moe_drop="random", moe_jitter=0.1, moe_capacity_factor=1.0, model_layers=2,
                batch_micro_batches=4, train_steps=STEPS, train_log_every=2, train_eval_every=4, train_eval_windows=4,
                train_checkpoint_every=3, train_keep_checkpoints=0)
EXPERT = "decoder.1.moe.experts.3.wi.weight"
SHARED = "decoder.0.attn.q.weight"
PLANTED_STEP = 5


def ledger(out):
    """Its lines without what the times of the rows are in."""
    return [re.sub(r', "metrics": .*', "", line) for line in read(os.path.join(out, "ledger.jsonl")).splitlines()]


def fails(result, code, pattern):
    want(result.code == code, f"exit {result.code} instead of {code}: {result.told()}")
    want(re.search(pattern, result.err), f"said {result.err!r}, not {pattern!r}")


class Runs:
    """One run on one rank, and others that are compared with it."""

    def __init__(self, folder):
        self.folder, self.data, self.count = folder, write_text(folder), 0
        self.out = self.train(1)

    def train(self, ranks, options=OPTIONS, extra=(), **how):
        self.count += 1
        return train(ranks, self.folder, f"run{self.count}", options, self.data, extra, **how)

    def copy(self, source=None):
        self.count += 1
        target = os.path.join(self.folder, f"copy{self.count}")
        shutil.copytree(source or self.out, target)
        return target

    # ---- layouts

    def same_ledger(self, ranks, group, threads):
        options = dict(OPTIONS, **{"dist.expert_ranks": group, "run.threads": threads})
        out = self.train(ranks, options)
        want(ledger(out) == ledger(self.out), "the ledgers differ")
        want(succeed(1, ["bisect", self.out, out]).out.startswith("equal: "), "bisect finds a difference")

    def audited(self, ranks, extra, pattern):
        said = succeed(ranks, ["audit", self.out, *extra]).out
        want(re.search(pattern, said), f"said {said!r}")

    def resumed(self):
        out = self.train(2, dict(OPTIONS, **{"train.steps": 6}))
        succeed(3, ["--run.resume", "auto", "--out", out, "--steps", str(STEPS)])
        want(ledger(out) == ledger(self.out), "the ledger of a run that was resumed differs")
        self.audited_whole(out)

    def resumed_without_rows(self):
        """Rows that a crash cannot take, because they were on disk before the checkpoint."""
        out = self.train(1, dict(OPTIONS, **{"train.steps": 6}))
        path = os.path.join(out, "metrics.jsonl")
        lines = read(path).splitlines(True)
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(lines[:1] + lines[2:])
        fails(run(2, ["--run.resume", "auto", "--out", out, "--steps", str(STEPS)]), 4, "metrics.jsonl: its rows up to step")

    def other_processor(self):
        """The bits of other vector code are others; on that of the run they are the same."""
        out = self.train(1, env={"SWT_ISA": "plain"})
        want('"by": "cpu-plain"' in ledger(out)[-1], f"the ledger says {ledger(out)[-1][:60]}")
        fails(run(1, ["audit", out], env={"SWT_ISA": "avx2"}), 2, "was made by cpu-plain, and here is cpu-avx2")
        want("equal: " in succeed(2, ["audit", out], env={"SWT_ISA": "plain"}).out, "not equal on the run's own")

    def audited_whole(self, out):
        want(f"{STEPS} of {STEPS} steps done again" in succeed(1, ["audit", out]).out, "not all steps were done again")

    def hash_is_told(self):
        chain = re.search(r'"chain": "([0-9a-f]{16})"', ledger(self.out)[-1]).group(1)
        want(f"ledger's hash {chain}" in read(os.path.join(self.out, "log.txt")), "the end does not print the hash")
        weights = re.search(r'"weights": "([0-9a-f]{16})"', ledger(self.out)[-1]).group(1)
        want(f"step {STEPS:6d}  checkpoint written, weights' hash {weights}" in read(os.path.join(self.out, "log.txt")),
             "the checkpoint's line has another hash of the weights than the ledger")
        want(f'"ledger": "{chain}"' in read(os.path.join(checkpoint(self.out), "manifest.json")), "the manifest has another")

    # ---- what was altered

    def altered(self, name, choose, command, pattern):
        """One character at a time, of those that `choose` matches, is another one."""
        path = os.path.join(self.out, name)
        with open(path, "rb") as f:
            good = f.read()
        places = [m.start() for m in re.finditer(choose, good)]
        for place in random.Random(name).sample(places, 40 if LONG else 6):
            copy = self.copy()
            bad = bytearray(good)
            bad[place] = ord("1") if bad[place] != ord("1") else ord("2")
            with open(os.path.join(copy, name), "wb") as f:
                f.write(bad)
            result = run(1, [*command, copy])
            want(result.code == 4, f"byte {place} of {name}: exit {result.code}: {result.told()}")
            want(re.search(pattern, result.err + result.out), f"byte {place} of {name}: said {result.told()}")
            shutil.rmtree(copy)

    def altered_weights(self):
        folder = os.path.relpath(checkpoint(self.out), self.out)
        for name in ("weights.safetensors", "optim.safetensors", "config.yaml", "manifest.json"):
            self.altered(os.path.join(folder, name), b"(?s).", ["checkpoint", "verify"], re.escape(name))

    # ---- faults of the arithmetic

    def planted(self, ranks, tensor, rank, **options):
        self.count += 1
        out = os.path.join(self.folder, f"planted{self.count}")
        options = dict(OPTIONS, **{key.replace("_", ".", 1): value for key, value in options.items()})
        env = {"SWT_TEST_PLANT": f"{PLANTED_STEP} {rank} {tensor}"}
        return out, run(ranks, ["--data", self.data, "--out", out, *flags(options)], env=env, program=PLANT)

    def expert_found(self):
        out, trained = self.planted(2, EXPERT, 1, train_ledger_every=1)
        want(trained.code == 0, f"a fault in an expert of one rank alone cannot be noticed: {trained.told()}")
        fails(run(3, ["audit", out]), 1, rf"after step {PLANTED_STEP} the first tensor .* {re.escape(EXPERT)}")
        clean = self.train(1, dict(OPTIONS, **{"train.ledger_every": 1}))
        fails(run(1, ["bisect", clean, out]), 1, rf"part at step {PLANTED_STEP}: the weights; .*{re.escape(EXPERT)}")
        fails(run(1, ["checkpoint", "diff", clean, out]), 1, "differ")

    def drift_found(self, options, step):
        out, result = self.planted(3, SHARED, 1, **options)
        fails(result, 5, rf"rank 1: step {step}: {re.escape(SHARED)} is not that of rank 0")
        names = [n for n in os.listdir(os.path.join(out, "checkpoints"))]
        want(names == ["step-00000003"], f"after a difference between ranks there are the checkpoints {names}")

    # ---- replay and diff

    def replayed(self, ranks):
        file = os.path.join(self.folder, f"step{ranks}.safetensors")
        succeed(ranks, ["replay", self.out, "--step", "6", "--out", file])
        tensors = safet.load(file)
        got = {name[len("param."):]: t for name, t in tensors.items() if name.startswith("param.")}
        differ = same_tensors(got, weights(self.out, 6))
        want(not differ, f"after the step these are not the checkpoint's: {differ[:3]}")
        want(any(name.startswith("grad.") for name in tensors) and "logits" in tensors, "gradients or logits are missing")
        return digest_without_times(tensors)

    def compared(self):
        out = self.train(3)
        said = succeed(1, ["checkpoint", "diff", self.out, out]).out
        want(re.search(r"identical: \d+ tensors, to the bit", said), f"said {said!r}")
        other = checkpoint(self.out, 6)
        fails(run(1, ["checkpoint", "diff", self.out, other]), 1, "differ: .* the first ")
        said = succeed(1, ["checkpoint", "diff", self.out, other, "--tolerance", "1000"]).out
        want("equal within 1000: " in said, f"said {said!r}")
        said = succeed(2, ["checkpoint", "list", out]).out
        want(len(said.splitlines()) == 4, f"listed {said!r}")

    def refused(self):
        other = os.path.join(self.folder, "other.txt")
        with open(other, "w", encoding="utf-8") as f:
            f.write(read(self.data).replace("king", "gnik"))
        changed, alone = self.copy(), self.copy()
        config = os.path.join(changed, "config.yaml")
        text = read(config)
        with open(config, "w", encoding="utf-8") as f:
            f.write(re.sub(r"(?m)^  lr: .*$", "  lr: 0.5", text))
        os.unlink(os.path.join(alone, "ledger.jsonl"))
        for code, pattern, args in (
            (4, "ledger.jsonl: ", ["audit", alone]),
            (4, "ledger.jsonl: ", ["bisect", self.out, alone]),
            (4, "config.yaml: ", ["audit", self.folder]),
            (4, "configuration is not that of the ledger", ["audit", changed]),
            (4, "was not trained on the tokens of", ["audit", self.out, "--data", other]),
            (2, "give steps up to it", ["audit", self.out, "--to", "99"]),
            (2, "give steps up to it", ["audit", self.out, "--from", "6", "--to", "4"]),
            (2, "no line of the ledger is between", ["audit", self.out, "--from", "5", "--to", "5"]),
            (2, "audit: needs RUN", ["audit"]),
            (2, "stands where a flag is expected", ["audit", self.out, self.out]),
            (2, f"the run has {STEPS} steps", ["replay", self.out, "--step", "99", "--out", "x"]),
            (2, "checkpoint list, checkpoint verify, checkpoint diff", ["checkpoint"]),
            (2, "checkpoint list, checkpoint verify, checkpoint diff", ["checkpoint", "lst", self.out]),
            (2, "checkpoint diff: needs A B", ["checkpoint", "diff", self.out]),
            (4, "holds no checkpoint", ["checkpoint", "verify", self.folder]),
            (4, "holds no checkpoint", ["checkpoint", "list", self.folder]),
        ):
            fails(run(1, args), code, pattern)
        fails(run(2, ["audit", changed]), 4, "configuration is not that of the ledger")


def digest_without_times(tensors):
    return {name: t.tobytes() for name, t in tensors.items()}


def layouts():
    if LONG:
        return [(ranks, group, threads) for ranks, group in
                ((1, 1), (2, 1), (2, 2), (3, 1), (3, 3), (4, 1), (4, 2), (4, 4), (6, 3), (6, 2)) for threads in (1, 2)]
    return [(2, 1, 2), (3, 3, 1)] if SLOW else [(2, 1, 2), (3, 3, 1), (4, 2, 1)]


def main():
    suite = Suite()
    with scratch() as folder:
        runs = Runs(folder)
        for layout in layouts():
            suite.case("ledger of {} ranks in groups of {}, {} threads".format(*layout), runs.same_ledger, *layout)
        suite.case("hash at the end and in the manifest", runs.hash_is_told)
        suite.case("audit of all", runs.audited, 2, (), rf"5 lines of 5 compared, {STEPS} of {STEPS} steps")
        suite.case("audit of a part", runs.audited, 3, ("--from", "4", "--to", "6"), "2 lines of 5 compared, 3 of 8 steps")
        suite.case("audit of samples", runs.audited, 1, ("--samples", "2"), r"[2-4] lines of 5 compared")
        suite.case("resumed", runs.resumed)
        suite.case("resumed without a row", runs.resumed_without_rows)
        suite.case("another processor", runs.other_processor)
        suite.case("altered rows", runs.altered, "metrics.jsonl", rb"\d", ["audit"], "metrics.jsonl|ledger.jsonl")
        suite.case("altered ledger", runs.altered, "ledger.jsonl", rb"[0-9a-f]", ["audit"], "ledger.jsonl|metrics.jsonl")
        suite.case("altered checkpoint", runs.altered_weights)
        suite.case("a fault in an expert", runs.expert_found)
        suite.case("ranks that differ, checked each step", runs.drift_found, {"train_check_every": 1}, PLANTED_STEP)
        suite.case("ranks that differ, found by the ledger", runs.drift_found, {"train_check_every": 0}, 6)
        suite.case("replay", lambda: want(runs.replayed(1) == runs.replayed(2), "two ranks write another step"))
        suite.case("diff and list", runs.compared)
        suite.case("refused", runs.refused)
    suite.finish()


main()
