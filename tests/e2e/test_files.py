#!/usr/bin/python3
"""Files and folders: a full disk, what cannot be removed, links, pipes, claims of size, limits."""

import os
import re
import shlex
import signal
import subprocess
import time

from support import FIXTURES, PROGRAM, Suite, probe_args, read, run, scratch, small, train, want, write_text

SECONDS = 60
FLAGS = ["--layers", 2, "--model.width", 32, "--model.heads", 2, "--model.hidden", 64, "--experts", 4]
FLAGS += ["--batch.seq_len", 16, "--batch.sequences", 2, "--threads", 1, "--data.valid_fraction", 0.05]
FLAGS += ["--train.eval_every", 0, "--optim.schedule", "constant", "--optim.lr", 0.001]


def command(*args):
    return [PROGRAM, *map(str, args)]


def shell(line, folder, seconds=SECONDS):
    """A line of bash in a folder, standard error beside the rest."""
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=False, timeout=seconds)


def entries(folder):
    return sorted(os.listdir(folder))


def can_mount(folder):
    """A file system of its own size, in a namespace of its own."""
    return shell("unshare -rm mount -t tmpfs tmpfs .", folder).returncode == 0


def full_disk(kib, keep, code, published):
    """A run on a disk of so many KiB, where one checkpoint has some 600."""
    with scratch() as folder:
        if not can_mount(folder):
            print("     not judged: no file system can be mounted here")
            return
        os.mkdir(os.path.join(folder, "disk"))
        data = write_text(folder)
        args = command("--data", data, *FLAGS, "--steps", 50, "--train.checkpoint_every", 10)
        args += ["--train.keep_checkpoints", str(keep), "--out", "disk/r"]
        line = f"mount -t tmpfs -o size={kib}k tmpfs disk && {{ {shlex.join(args)}; echo rc=$?; ls -A disk/r/checkpoints; }}"
        said = shell(f"unshare -rm bash -c {shlex.quote(line)}", folder)
        text = said.stdout + said.stderr
        want(f"rc={code}\n" in text, f"exit {code} is due: {text[-600:]}")
        left = re.findall(r"^\.?step-\d+.*$", text.split("rc=")[1], re.M)
        want([name for name in left if "  " not in name] == published, f"left: {left}")
        want("warning: this run needs up to " in text, f"not foreseen: {text[-900:]}")
        if code == 3:
            want(re.search(r"a checkpoint has [\d.]+ MiB, and [\d.]+ MiB are free; free [\d.]+ MiB more", text), text[-400:])
        else:
            want("the disk is full, so the checkpoint of step " in text, text[-600:])


def untidy():
    """A folder in an old checkpoint stays, is told of once and ends nothing."""
    with scratch() as folder:
        data = write_text(folder)
        args = command("--data", data, *FLAGS, "--steps", 10**6, "--train.checkpoint_every", 20, "--train.log_every", 10**5)
        with subprocess.Popen(
            args + ["--train.keep_checkpoints", "1", "--out", "r"], cwd=folder, stdout=subprocess.PIPE, text=True
        ) as p:
            checkpoints, made = os.path.join(folder, "r", "checkpoints"), None
            for _ in range(3000):
                try:
                    made = next(n for n in entries(checkpoints) if n.startswith("step-"))
                    os.mkdir(os.path.join(checkpoints, made, "notes"))
                    break
                except (OSError, StopIteration):
                    made = None
                    time.sleep(0.01)
            time.sleep(1)
            p.send_signal(signal.SIGTERM)
            out = p.communicate(timeout=SECONDS)[0]
        want(made and p.returncode == 130, f"exit {p.returncode}: {out[-300:]}")
        want(out.count("warning: r/checkpoints") == 1, f"not told once: {out[-400:]}")
        want(any(n.startswith("step-") for n in entries(checkpoints)), "no checkpoint")


def pipes():
    with scratch() as folder:
        os.mkfifo(os.path.join(folder, "f"))
        result = run(1, ["--config", "f"], timeout=5, cwd=folder)
        want(result.code == 2 and "no regular file" in result.err, result.told())
        data = write_text(folder)
        done = train(1, folder, "done", small(train_steps=1), data)
        newest = os.path.join(done, "checkpoints", entries(os.path.join(done, "checkpoints"))[-1])
        for name in ("config.yaml", "tokenizer.json", "weights.safetensors"):
            path = os.path.join(newest, name)
            os.rename(path, path + ".kept")
            os.mkfifo(path)
            result = run(1, ["eval", "--checkpoint", newest], timeout=5, cwd=folder)
            want(result.code == 4, name + ": " + result.told())
            os.remove(path)
            os.rename(path + ".kept", path)


def claims():
    """A configuration that claims the largest model there can be, in a checkpoint and by hand."""
    with scratch() as folder:
        data = write_text(folder)
        done = train(1, folder, "done", small(train_steps=1), data)
        newest = os.path.join(done, "checkpoints", entries(os.path.join(done, "checkpoints"))[-1])
        with open(os.path.join(newest, "config.yaml"), "w", encoding="utf-8") as f:
            f.write("model:\n  width: 1\n  heads: 1\n  hidden: 1\n  layers: 65535\nmoe:\n  experts: 65536\n")
            f.write("batch:\n  sequences: 1\n  seq_len: 1\n")
        result = run(1, ["generate", "--checkpoint", done], timeout=10, cwd=folder)
        want(result.code == 4 and "tensor " in result.err, result.told())
        sizes = ["--layers", 65535, "--experts", 65536, "--model.width", 1, "--model.heads", 1, "--model.hidden", 1]
        result = run(1, ["plan", "--model.vocab", 65, *sizes], timeout=10, cwd=folder)
        want(result.code == 1 and "named tensors" in result.err, result.told())


def links():
    """A link with the hidden name of probe's output goes, and what it leads to stays; a folder is no output."""
    with scratch() as folder:
        with open(os.path.join(folder, "victim"), "w", encoding="utf-8") as f:
            f.write("mine")
        os.symlink("victim", os.path.join(folder, ".o.st.part"))
        args = probe_args(os.path.join(FIXTURES, "labml-drop"), threads=1)
        result = run(1, [*args, "--out", "o.st"], timeout=SECONDS, cwd=folder)
        want(result.code == 0 and entries(folder) == ["o.st", "victim"], result.told())
        want(read(os.path.join(folder, "victim")) == "mine", "a link was followed")
        result = run(1, [*args, "--out", "none/o.st"], timeout=SECONDS, cwd=folder)
        want(result.code == 3 and "cannot be created" in result.err, result.told())


def limits():
    """What a shell's limits leave: of memory, of a file's size, of a path."""
    with scratch() as folder:
        data = write_text(folder)
        args = shlex.join(command("--data", data, "--layers", 2, "--model.width", 512, "--threads", 1, "--out", "m"))
        said = shell(f"ulimit -v 150000; {args}", folder)
        found = re.search(r", HOST [\d.]+; more in .*which has ([\d.]+) MiB of ([\d.]+) free", said.stderr)
        want(said.returncode == 1 and found and float(found[2]) < 147, said.stderr)
        args = shlex.join(command("--data", data, *FLAGS, "--steps", 4, "--out", "s"))
        said = shell(f"ulimit -f 20; {args}", folder)
        want(said.returncode == 3 and "File too large" in said.stderr, f"exit {said.returncode}: {said.stderr}")
        want(entries(os.path.join(folder, "s", "checkpoints")) == [], "left behind")
        want("(ulimit -f)" in said.stdout, said.stdout[-400:])
        long = "/".join(["d" * 200] * 21)[:4060].rstrip("/")
        result = run(1, ["--data", data, *FLAGS, "--steps", 4, "--out", long], timeout=SECONDS, cwd=folder)
        want(result.code == 3 and "too long" in result.err and "step" not in result.out, result.told())
        want(not os.path.exists(os.path.join(folder, "d" * 200)), "left behind")


def rows_that_do_not_fit():
    """A file of rows at its limit ends the run, and the weights, which fit, are kept."""
    with scratch() as folder:
        data = write_text(folder)
        args = shlex.join(command("--data", data, *FLAGS, "--steps", 10**6, "--train.log_every", 1, "--train.ledger_every", 10**6,
                                  "--out", "r"))
        said = shell(f"ulimit -f 400; {args}", folder)
        want(said.returncode == 3 and "metrics.jsonl: cannot be written (File too large)" in said.stderr, said.stderr)
        step = re.search(r"the weights of step (\d+) are in r;", said.stderr)
        want(step and entries(os.path.join(folder, "r", "checkpoints")) == [f"step-{int(step[1]):08d}"], said.stderr)
        whole = read(os.path.join(folder, "r", "metrics.jsonl")).count("\n")
        want(whole == int(step[1]) - 1, f"{whole} rows, but weights of step {step[1]}")


def main():
    suite = Suite()
    suite.case("full disk: the oldest goes", full_disk, 1500, 2, 0, ["step-00000040", "step-00000050"])
    suite.case("full disk: never the only one", full_disk, 950, 2, 3, ["step-00000010"])
    suite.case("full disk: all are kept", full_disk, 1500, 0, 3, ["step-00000010", "step-00000020"])
    suite.case("a folder in an old checkpoint", untidy)
    suite.case("pipes", pipes)
    suite.case("claims", claims)
    suite.case("links", links)
    suite.case("rows that do not fit", rows_that_do_not_fit)
    suite.case("limits", limits, heavy=True)  # an address space of 150 MB is no place for a sanitizer
    suite.finish()


if __name__ == "__main__":
    main()
