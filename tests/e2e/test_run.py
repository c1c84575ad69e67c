#!/usr/bin/python3
"""Whole runs: training, the run directory, samples, generate, eval, checkpoints, plan. How they end: test_ends.py."""

import os
import re
import subprocess
import sys

from support import (
    LAUNCH, ORACLE, PROGRAM, Plan, Suite, checkpoint, environment, flags, metrics, read, run, scratch, small,
    succeed, train, want, weights_digest, write_text,
)

STEPS = 50


def judge(out, *args):
    """check_run.py of the contract."""
    judged = subprocess.run(
        [sys.executable, os.path.join(ORACLE, "check_run.py"), out, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    want(judged.returncode == 0, judged.stdout.strip().replace("\n", "; ") + judged.stderr[-300:])


# ---------------------------------------------------------------- a run of 16 experts on 4 ranks


class BigRun:
    """The run that several cases look at."""

    def __init__(self, folder):
        self.folder, self.data, self.out = folder, write_text(folder), os.path.join(folder, "run")
        self.options = small(
            moe_experts=16,
            batch_seq_len=32,
            batch_sequences=4,
            moe_drop="random",
            train_steps=STEPS,
            train_log_every=10,
            train_eval_every=25,
            train_sample_every=25,
            train_checkpoint_every=10,
            train_keep_checkpoints=3,
        )
        self.said = None

    def train(self):
        self.said = succeed(4, ["--data", self.data, "--out", self.out, *flags(self.options)], launched=True)
        judge(self.out, "--steps", STEPS, "--log-every", 10, "--finished")

    def learns(self):
        rows, evals = metrics(self.out)
        want(
            rows[-1]["loss"] < 0.8 * rows[0]["loss"],
            f"the loss went from {rows[0]['loss']:.3f} to {rows[-1]['loss']:.3f} only",
        )
        want(evals[-1]["valid_loss"] < evals[0]["valid_loss"], "the validation loss does not fall")
        want([r["step"] for r in evals] == [25, 50], f"evaluations at {[r['step'] for r in evals]}")

    def rows_add_up(self):
        tokens = 4 * 4 * 32
        for r in metrics(self.out)[0]:
            want(r["tokens"] == r["step"] * tokens, f"step {r['step']}: {r['tokens']} tokens")
            want(
                abs(r["tokens_per_s"] * r["step_ms"] / 1e3 / tokens - 1) < 1e-9,
                "tokens_per_s and step_ms do not fit together",
            )
            want(0 <= r["comm_ms"] <= r["step_ms"], f"comm_ms is {r['comm_ms']} of {r['step_ms']}")
            want(
                0 <= r["load_min"] <= 1 <= r["load_max"] <= 16 and r["load_cv"] >= 0,
                "loads do not lie around their mean of 1",
            )
            want(0 < r["flops_useful"] <= r["flops_padded"], "more useful FLOPs than padded ones")
            want(0 <= r["accuracy"] <= 1 and r["lr"] == 0.003, f"accuracy {r['accuracy']}, lr {r['lr']}")

    def lines(self):
        """In a pipe: a line per log interval, no carriage return; the same lines in log.txt."""
        want(self.said, "there is no such run")
        want("\r" not in self.said.out and "\x1b" not in self.said.out, "terminal codes in a pipe")
        steps = [int(m[1]) for m in re.finditer(r"^step +(\d+)/50 .*loss .*tokens/s.*left", self.said.out, re.M)]
        want(steps == [10, 20, 30, 40, 50], f"lines at steps {steps}")
        samples = re.findall(r"^step +(\d+) +sample: (It is.{25})$", self.said.out, re.M)
        want([int(step) for step, _ in samples] == [25, 50], f"samples: {samples}")
        want(read(os.path.join(self.out, "log.txt")) == self.said.out, "log.txt is not what was printed")
        want(not self.said.err, f"on standard error: {self.said.err[:300]}")

    def checkpoints(self):
        names = sorted(os.listdir(os.path.join(self.out, "checkpoints")))
        want(names == ["step-00000030", "step-00000040", "step-00000050"], f"checkpoints: {names}")
        files = sorted(os.listdir(checkpoint(self.out)))
        shards = [f"{kind}-{rank:05d}-of-00004.safetensors" for kind in ("optim", "weights") for rank in (1, 2, 3, 4)]
        want(files == sorted(["config.yaml", "manifest.json", "tokenizer.json", *shards]), f"a checkpoint holds {files}")

    def config_reloads(self):
        """The resolved configuration gives the same run, here on another number of ranks."""
        again = os.path.join(self.folder, "again")
        changes = {"train.steps": 10, "train.log_every": 1, "train.eval_every": 0}
        succeed(3, ["--config", os.path.join(self.out, "config.yaml"), "--out", again, *flags(changes)])
        rows, own = metrics(again)[0], metrics(self.out)[0]
        want(
            rows[9]["loss"] == own[0]["loss"] and rows[9]["grad_norm"] == own[0]["grad_norm"],
            "step 10 differs from the run's",
        )

    def eval_agrees(self):
        """At the layout that trained it, and at others."""
        last = metrics(self.out)[1][-1]
        for ranks, where in ((1, self.out), (2, checkpoint(self.out)), (3, self.out), (4, self.out)):
            out = succeed(ranks, ["eval", "--checkpoint", where, "--data", self.data]).out
            loss = float(re.search(r"^valid_loss +([\d.]+)", out, re.M)[1])
            want(abs(loss - last["valid_loss"]) < 0.51e-6, f"{ranks} ranks: {loss}, the run says {last['valid_loss']}")

    def generates(self):
        def generate(ranks, *extra):
            said = succeed(
                ranks, ["generate", "--checkpoint", self.out, "--prompt", "The king", "--tokens", 40, *extra]
            )
            want(said.out.startswith("The king") and len(said.out) == 8 + 40 + 1, f"generate printed {said.out!r}")
            return said.out

        greedy = generate(1)
        want(generate(1) == greedy and generate(3) == greedy, "greedy text differs from call to call or over ranks")
        want(
            generate(1, "--temperature", 1, "--top-k", 1) == greedy, "the likeliest of one token is not the greedy one"
        )
        drawn = generate(1, "--temperature", 1.5, "--seed", 5)
        want(generate(2, "--temperature", 1.5, "--seed", 5) == drawn, "the same seed gives another text on 2 ranks")
        want(generate(1, "--temperature", 1.5, "--seed", 6) != drawn and drawn != greedy, "the seed changes nothing")

    def starts_from_it(self):
        """Weights of this run as the start of another, on other numbers of ranks."""
        for ranks in (1, 3):
            out = train(
                ranks,
                self.folder,
                f"from-{ranks}",
                dict(self.options, **{"train.steps": 0}),
                self.data,
                ["--init-from", self.out],
            )
            want(
                weights_digest(out) == weights_digest(self.out),
                f"{ranks} ranks: --steps 0 does not give the weights back",
            )
            evals = metrics(out)[1]
            want(len(evals) == 1 and evals[0]["step"] == 0, f"evaluations of --steps 0: {evals}")
            want(
                evals[0]["valid_loss"] == metrics(self.out)[1][-1]["valid_loss"],
                "valid_loss differs from that of the run",
            )


def big_run(suite, folder):
    r = BigRun(folder)
    suite.case("16 experts on 4 ranks", r.train)
    suite.case("the loss falls", r.learns)
    suite.case("rows add up", r.rows_add_up)
    suite.case("lines in a pipe, samples, log.txt", r.lines)
    suite.case("checkpoint_every and keep_checkpoints", r.checkpoints)
    suite.case("config.yaml reloads", r.config_reloads, heavy=True)
    suite.case("eval agrees with the run", r.eval_agrees, heavy=True)
    suite.case("generate", r.generates, heavy=True)
    suite.case("init-from at other rank counts", r.starts_from_it, heavy=True)


def default_model():
    """What the README promises: the defaults on four ranks, but for the number of steps."""
    with scratch() as folder:
        out = os.path.join(folder, "run")
        succeed(4, ["--data", write_text(folder), "--experts", 16, "--steps", 5, "--out", out, "--train.log_every", 5])
        judge(out, "--steps", 5, "--log-every", 5, "--finished")


def plain_mpirun():
    """The launcher is a convenience: mpirun alone gives the same weights."""
    with scratch() as folder:
        data, options = write_text(folder), small(moe_experts=16, train_steps=5)
        ours = train(2, folder, "ours", options, data)
        plain = os.path.join(folder, "plain")
        env = environment({"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"})
        done = subprocess.run(
            ["mpirun", "--oversubscribe", "-np", "2", PROGRAM, "--data", data, "--out", plain, *flags(options)],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        want(done.returncode == 0, f"exit {done.returncode}: {done.stderr[-300:]}")
        want(weights_digest(ours) == weights_digest(plain), "mpirun alone gives other weights than launch/run")


def chosen_name():
    """Without --out a folder under runs/ is made up."""
    with scratch() as folder:
        succeed(1, ["--data", write_text(folder), *flags(small(train_steps=2))], cwd=folder)
        names = os.listdir(os.path.join(folder, "runs"))
        want(len(names) == 1 and re.fullmatch(r"\d{8}-\d{6}-\d+", names[0]), f"runs/ holds {names}")
        judge(os.path.join(folder, "runs", names[0]), "--steps", 2, "--finished")


def environment_text():
    """The text of $SWT_DATA where no --data is given."""
    with scratch() as folder:
        out = os.path.join(folder, "run")
        succeed(1, ["--out", out, *flags(small(train_steps=1))], env={"SWT_DATA": write_text(folder)})
        judge(out, "--steps", 1, "--finished")


# ---------------------------------------------------------------- plan


def plan():
    with scratch() as folder:
        data, options = write_text(folder), small(moe_experts=5, train_steps=1)
        for ranks in (1, 2, 3, 4):
            rows = Plan(options, ranks, data).ranks
            want(list(rows) == [str(rank) for rank in range(ranks)], f"plan of {ranks} ranks lists {rows}")
            experts = sum(r["experts"] for r in rows.values())
            want(experts > 0 and experts % 5 == 0, "experts do not add up to whole sets")
            for rank, r in rows.items():
                parts = sum(r[arena] for arena in ("PARAM", "GRAD", "OPT", "ACT", "SCRATCH", "COMM", "HOST"))
                want(abs(parts - r["total"]) < 0.005, f"rank {rank}: categories add up to {parts}, total is {r['total']}")
                want((r["all-to-all"] > 0) == (ranks > 1), f"{ranks} ranks: all-to-all of {r['all-to-all']} MiB")
            out = os.path.join(folder, f"run-{ranks}")
            log = succeed(ranks, ["--data", data, "--out", out, *flags(options)]).out
            held, planned = float(re.search(r"memory of rank 0: ([\d.]+) MiB", log)[1]), rows["0"]["total"]
            want(abs(held - planned) <= 0.0505, f"{ranks} ranks: planned {planned} MiB, the run says {held}")


# A trillion parameters.
LARGE = {"moe.experts": 2048, "model.vocab": 32128, "model.width": 2080, "model.heads": 32, "model.hidden": 6144}
LARGE.update({"model.layers": 15, "batch.seq_len": 512})


def plan_leaves_nothing():
    """Without a text too, if the vocabulary is given; and a model of a trillion parameters needs no memory."""
    with scratch() as folder:
        plan = Plan(LARGE, 64, cwd=folder, timeout=30)
        want(len(plan.ranks) == 64 and all(r["experts"] == 32 for r in plan.ranks.values()), "64 ranks of 32 experts are due")
        want(not os.listdir(folder), f"left behind: {os.listdir(folder)}")
        total = plan.number(r"parameters +(\d+) in all")
        want(total > 15 * 2048 * 2 * 2080 * 6144, f"{total} parameters in all")


# ---------------------------------------------------------------- help


def help_and_version():
    for flag, say in (("--help", "--experts"), ("--help-config", "moe.capacity_factor"), ("--version", "swt-dist ")):
        for ranks in (1, 2):
            said = succeed(ranks, [flag])
            want(said.out.count(say) >= 1 and not said.err, f"{flag} on {ranks} ranks: {said.out[:200]}")
        want(run(1, [flag]).out == said.out, f"{flag}: 2 ranks print something else than 1")


def main():
    suite = Suite()
    want(os.access(PROGRAM, os.X_OK) and os.access(LAUNCH, os.X_OK) and environment(), "not built")
    with scratch() as folder:
        big_run(suite, folder)
    suite.case("default model", default_model, heavy=True)
    suite.case("plain mpirun", plain_mpirun)
    suite.case("a name is made up", chosen_name)
    suite.case("$SWT_DATA", environment_text)
    suite.case("plan equals what a run holds", plan, heavy=True)
    suite.case("plan of a trillion parameters", plan_leaves_nothing)
    suite.case("help and version", help_and_version)
    suite.finish()


main()
