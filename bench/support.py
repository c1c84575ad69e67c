"""What bench/compare and bench/scaling share: building, running, medians, tables.

Programs of ours run through launch/run on any number of ranks, one included, so that every figure
has the same surroundings. Needs nothing but Python 3.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
LIMIT_S = 900  # no run of a measurement takes longer
LOAD_AT_START = os.getloadavg()[0]  # before we add our own


class Missing(Exception):
    """Something that a measurement needs is not here; the message says what and how to get it."""


class Failed(Exception):
    """A program that is there did not do what it should."""


class Reading(NamedTuple):
    """One run of a program, or several summed up: median and least time, and the work done in it."""

    ms: float
    ms_min: float
    amount: float  # tokens or bytes
    flops: float = 0.0


# ---------------------------------------------------------------- running


def run(command, cwd=None, env=None):
    """Run to the end; give what it wrote on standard output."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command[:2])}: not done after {LIMIT_S} s") from None
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}") from None
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.returncode:
        told = [line for line in (err + "\n" + out).splitlines() if line.strip() and not line.startswith("launch/run:")]
        said = next((line for line in told if "error: " in line), told[-1] if told else "no message")
        raise Failed(f"{os.path.basename(command[0])}: exit code {done.returncode}: {said}")
    return out


def json_rows(text):
    """The JSON objects among the lines."""
    with contextlib.suppress(ValueError):
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    raise Failed(f"not JSON: {text.strip()[-200:]}")


def shown(path):
    """A path for a message: inside the project it starts there."""
    return os.path.relpath(path, ROOT) if path.startswith(ROOT + os.sep) else path


@contextlib.contextmanager
def scratch():
    path = tempfile.mkdtemp(prefix="swt-bench-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Programs:
    """The programs of a build folder: swt-dist and, under bench/, the measuring programs."""

    def __init__(self, folder):
        self.folder = folder

    def build(self):
        """Bring the project's build up to date; a measurement of old code is worse than none."""
        if not os.path.exists(os.path.join(self.folder, "CMakeCache.txt")):
            run(["cmake", "--preset", os.path.basename(self.folder)], cwd=ROOT)
        names = [name[:-2] for name in sorted(os.listdir(HERE)) if name.startswith("bench_") and name.endswith(".c")]
        run(["cmake", "--build", self.folder, "--target", "swt-dist", *names], cwd=ROOT)

    def path(self, name):
        path = os.path.join(self.folder, "" if name == "swt-dist" else "bench", name)
        if not os.access(path, os.X_OK):
            raise Missing(f"{shown(path)} is not there; cmake --build {shown(self.folder)} makes it")
        return path

    def launch(self, ranks, name, args):
        """Run a program on so many ranks; give what it wrote."""
        launcher = os.path.join(ROOT, "launch", "run")
        command = [launcher, "-n", str(ranks), "--timeout", str(LIMIT_S - 30), "--program", self.path(name), "--"]
        with scratch() as folder:
            return run(command + [str(a) for a in args], cwd=folder)

    def layer(self, ranks, tokens, threads=1, repeats=20, **flags):
        """One layer by bench_layer, `tokens` on each rank."""
        args = ["--json", "--tokens", tokens, "--threads", threads, "--repeats", repeats]
        for name, value in flags.items():
            args += ["--" + name.replace("_", "-")] + ([] if value is True else [value])
        row = last_row(self.launch(ranks, "bench_layer", args))
        flops = 0.0 if flags.get("dense") else layer_flops(row, flags)
        return Reading(row["ms"], row["ms_min"], ranks * tokens, ranks * flops)

    def training(self, ranks, threads, text, steps, options):
        """Training steps of swt-dist itself by its metrics.jsonl, the first few left out."""
        if not os.path.exists(text):
            raise Missing(f"{shown(text)} is not there; launch/dataset gets a text, --text names one")
        warm = 2 + steps // 8
        with scratch() as folder:
            out = os.path.join(folder, "run")
            # A small validation part: the evaluation at the last step is not measured.
            self.launch(
                ranks,
                "swt-dist",
                [
                    "--config",
                    os.path.join(ROOT, "configs", "labml-shakespeare.yaml"),
                    "--data",
                    text,
                    "--threads",
                    threads,
                    "--train.steps",
                    warm + steps,
                    "--train.log_every",
                    1,
                    "--train.eval_every",
                    0,
                    "--data.valid_fraction",
                    0.02,
                    "--out",
                    out,
                    *options,
                ],
            )
            with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as f:
                rows = [row for row in json_rows(f.read()) if "step_ms" in row][warm:]
        times = [row["step_ms"] for row in rows]
        tokens = rows[-1]["tokens"] / rows[-1]["step"]
        return Reading(median(times), min(times), tokens, median(row["flops_useful"] for row in rows))


def last_row(text):
    rows = json_rows(text)
    if not rows:
        raise Failed("printed no row")
    return rows[-1]


def layer_flops(row, flags):
    """Arithmetic of a switch layer on one rank, forward and backward: two products of the tokens that
    were kept with an expert's matrices, one of every token with the router's, each with two more on
    the way back."""
    width, hidden, experts = (flags.get("width", 256), flags.get("hidden", 1024), flags.get("experts", 8))
    kept = row["tokens"] * (1 - row["dropped"])
    return 3 * 2 * (2 * kept * width * hidden + row["tokens"] * width * experts)


# ---------------------------------------------------------------- figures


def median(values):
    return statistics.median(values)


def over_rounds(readings):
    """Readings of one thing as one: the median of the medians, the least time of all."""
    return Reading(
        median(r.ms for r in readings),
        min(r.ms_min for r in readings),
        readings[-1].amount,
        median(r.flops for r in readings),
    )


def cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def machine():
    """The machine and the day, for the head of a report."""
    model = platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), model)
    return f"{model}, {cores()} cores, {datetime.date.today()}, load {LOAD_AT_START:.1f} at the start"


def advice():
    """For who reads a table as it is made, not for a picture that stays."""
    return " (others use the cores: measure again)" if LOAD_AT_START > cores() / 4 else ""


def short(value):
    """Three digits that say something, thousands apart."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def table(head, rows):
    """Lines of a table: columns of words to the left, columns of numbers to the right."""
    cells = [[str(c) for c in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    right = [all(re.fullmatch(r"[\d.,]+|-|", row[i]) for row in cells[1:]) for i in range(len(head))]
    lines = [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right)).rstrip() for row in cells
    ]
    return [lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]]


def tell(line):
    """Progress goes to standard error, so that the report alone is on standard output."""
    print(line, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- flags that both tools have


def add_flags(parser, rounds):
    parser.add_argument(
        "--rounds", type=positive, default=None, help=f"times that everything is measured, in turn [{rounds}]"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round of few steps: shows that it works, not how fast"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line in place of the table")
    parser.add_argument(
        "--text",
        metavar="FILE",
        type=os.path.abspath,
        default=default_text(),
        help="text to train on [$SWT_DATA, else what launch/dataset gets]",
    )
    parser.add_argument(
        "--build",
        metavar="DIR",
        help="take the programs of this build folder as they are [build/cpu, brought up to date]",
    )


def positive(text):
    if not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text}: is not a whole number from 1 on")
    return int(text)


def default_text():
    """$SWT_DATA, else the text that launch/dataset has put under data/, else where it would."""
    if os.environ.get("SWT_DATA"):
        return os.path.abspath(os.environ["SWT_DATA"])
    texts = [os.path.join(ROOT, "data", n + ".txt") for n in ("tinyshakespeare", "shakespeare")]
    return next((path for path in texts if os.path.exists(path)), texts[0])


def programs(args):
    """The programs that the flags ask for, and a text to train on if there is none yet."""
    if args.text == default_text() and not os.path.exists(args.text):
        tell("no text yet: launch/dataset")
        with contextlib.suppress(Failed):  # whoever needs the text will say that it is missing
            run([os.path.join(ROOT, "launch", "dataset")], cwd=ROOT)
        args.text = default_text()
    if args.build:
        return Programs(os.path.abspath(args.build))
    made = Programs(os.path.join(ROOT, "build", "cpu"))
    tell("building build/cpu")
    made.build()
    return made
