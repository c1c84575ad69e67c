"""What the tests of this folder share: small runs of every command with one thing failing (inject.c), and their judge."""

import concurrent.futures
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from support import BUILD, FIXTURES, LONG, PROGRAM, Miss, Probe, Suite, environment, flags, probe_args, text, want  # noqa: E402
import safet  # noqa: E402  (support has put the oracle's folder into the path)

INJECT = os.path.join(BUILD, "tests", "libfaults_inject.so")
LOG = os.path.join("run", "log.txt")
ONLY = os.environ.get("SWT_COMMAND")  # the name of one command, to try that alone
MADE = "made" + os.sep  # a folder that a command publishes at once
HANGS_S = 20  # the runs below take 0.02 s

# Steps of milliseconds; a checkpoint after each, of which two are kept.
TINY = {
    "model.layers": 2,
    "model.width": 8,
    "model.heads": 2,
    "model.hidden": 8,
    "moe.experts": 2,
    "moe.every": 2,
    "batch.sequences": 1,
    "batch.seq_len": 8,
    "batch.micro_batches": 1,
    "optim.schedule": "constant",
    "optim.lr": 0.01,
    "train.steps": 3,
    "train.log_every": 1,
    "train.eval_every": 0,
    "train.sample_every": 2,
    "train.checkpoint_every": 1,
    "train.async_checkpoints": "false",  # so that calls come in one order
    "train.keep_checkpoints": 2,
    "data.valid_fraction": 0.01,
    "data.prompt": "the",
    "run.threads": 1,
}

# What differs from run to run: times and what follows from them, and paths that could not be made absolute.
OF_LEDGER = re.compile(rb'(?m)^"(ledger|hash)": "[0-9a-f]{16}"')
TIMES = re.compile(r'run directory [^\n]*|text  *[^ ]*|"(step_ms|tokens_per_s|comm_ms|metrics)": [^,}]*| *\d+ tokens/s|left [^\n]*|memory of rank 0[^\n]*')
# Of a manifest what follows from the configuration, which is compared itself; whether its step was evaluated in time.
CONFIGURED = re.compile(
    r'"config\.yaml": \{.*|"train\.(keep|async)_checkpoints": .*|"run\.resume": .*|"hash": "[0-9a-f]{16}"\n\}|"valid_loss": .*'
)
# Of a configuration what a run that goes on, or keeps or writes checkpoints in another way, has otherwise.
OTHERWISE = re.compile(r"(?m)^  (keep_checkpoints|async_checkpoints|resume): .*")
# A run that could not read its newest checkpoint says so, and comes from the one before to the same end.
SKIPPED = re.compile(r"warning: the checkpoint of step \d+ is not resumed from: run/checkpoints/step-\d+[^\n]*: [^\n]*\n")
ERROR = re.compile(r"swt-dist: error: [^\n]*: [^\n]*\n")
WARNING = re.compile(r"swt-dist: warning: [^\n]*\n")


def fast_folder():
    """A folder where fsync costs nothing, if there is one."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return tempfile.mkdtemp(prefix="swt-faults-", dir=place)


@contextlib.contextmanager
def scratch():
    path = fast_folder()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Outcome:
    """What a run left: exit code, what it said, what failed (a line for each request that the library reported)."""

    def __init__(self, folder, code, out, err, reported):
        self.folder, self.code, self.out, self.err, self.reported = folder, code, out, err, reported

    def told(self):
        return f"exit {self.code}: {self.err.strip()[-300:]!r}"


def start(folder, args, kind="", at=0, error=0):
    """The program in a folder of its own, with a report of what failed in the file `report`."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "report"), "wb") as report:
        fault = {
            "LD_PRELOAD": INJECT,
            "SWT_FAULT": kind,
            "SWT_FAULT_AT": str(at),
            "SWT_FAULT_ERROR": str(error),
            "SWT_FAULT_REPORT": str(report.fileno()),
        }
        return subprocess.Popen(
            [PROGRAM, *args],
            cwd=folder,
            env=environment(fault if kind else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[report.fileno()],
        )


def finish(process, folder):
    try:
        out, err = process.communicate(timeout=HANGS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += b"HANGS"
    with open(os.path.join(folder, "report"), encoding="utf-8", errors="replace") as f:
        reported = f.read().splitlines()
    return Outcome(folder, process.returncode, out.decode(errors="replace"), err.decode(errors="replace"), reported)


def run(folder, args, **fault):
    return finish(start(folder, args, **fault), folder)


# ---------------------------------------------------------------- what is there to judge


def read(path):
    with open(path, "rb") as f:
        return f.read()


def comparable(name, content, folder):
    """What a file holds, without what differs from run to run."""
    if name.endswith(".safetensors"):
        return content
    words = TIMES.sub("", content.decode(errors="replace")).replace(folder, "FOLDER")
    own = {"manifest.json": CONFIGURED, "config.yaml": OTHERWISE}.get(os.path.basename(name))
    return (own.sub("", words) if own else words).encode()


def products(folder):
    """{name: bytes} of every file that is published: no part of its path starts with a dot. Times are left out."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = os.path.join(place, name)
            if name.startswith(".") or path == os.path.join(folder, "report"):
                continue
            found[os.path.relpath(path, folder)] = comparable(name, read(path), folder)
    return found


class Judge:
    """Compares a run with the undisturbed one: `want_*` raise what is wrong."""

    def __init__(self, reference, stdout_is_product, checkpoints):
        self.reference, self.stdout_is_product = reference, stdout_is_product
        self.files = products(reference.folder)
        self.checkpoints = checkpoints  # {step: {name: bytes}}, also of those that were removed later

    def words(self, outcome, codes):
        """The exit code is of the contract, and the line of an error in its form."""
        want("HANGS" not in outcome.err, "it does not end")
        want(outcome.code in codes, f"exit {outcome.code} is none of {codes}: {outcome.told()}")
        lines = [line for line in outcome.err.splitlines(True) if not WARNING.fullmatch(line)]
        if outcome.code == 0:
            want(not lines, f"exit 0, but it said {lines}")
        else:
            want(len(lines) == 1 and ERROR.fullmatch(lines[0]), f"no error of one line: {outcome.told()}")

    def unchanged(self, outcome, stdout=True):
        """Exit code 0: all is there as it is without the fault."""
        if SKIPPED.search(outcome.err + read(os.path.join(outcome.folder, LOG)).decode() if self.checkpoints else ""):
            return self.same_run(outcome)
        files, expected = products(outcome.folder), dict(self.files)
        lines = files.get(LOG, b"").splitlines(True)
        told = [line for line in lines if line.startswith(b"warning: ")]
        if len(told) > self.files.get(LOG, b"").count(b"warning: "):
            # What could not be tidied up is told, and an old checkpoint may stay; `whole` looks at it.
            kept = {name for name in files if name.split(os.sep)[1:2] == ["checkpoints"]}
            expected.update((name, files[name]) for name in kept - set(expected))
            calm = [line for line in expected[LOG].splitlines(True) if not line.startswith(b"warning: ")]
            files[LOG], expected[LOG] = b"".join(line for line in lines if line not in told), b"".join(calm)
        differ = [n for n in sorted(set(files) | set(expected)) if files.get(n) != expected.get(n)]
        want(not differ, f"exit 0, but other files than without the fault: {differ}")
        if stdout:
            want(self.reference.out == outcome.out, f"exit 0, but it printed {outcome.out[-200:]!r}")

    def same_run(self, outcome):
        """What another run that ends has made; it says other things on its way, and an old checkpoint may stay where the
        fault came before it was to go."""
        self.whole(outcome)
        files, expected = products(outcome.folder), dict(self.files)
        files = {n: files[n] for n in files if n in expected or n.split(os.sep)[1:2] != ["checkpoints"]}
        differ = [n for n in sorted(set(files) | set(expected)) if files.get(n) != expected.get(n) and n != LOG]
        want(not differ, f"other files than those of the undisturbed run: {differ}")

    def whole(self, outcome):
        """What is published is whole, whatever happened."""
        for name, content in products(outcome.folder).items():
            parts = name.split(os.sep)
            if name.endswith("metrics.jsonl"):
                want(content[-1:] in (b"", b"\n"), f"{name}: the last line is cut off")
                for line in content.decode().splitlines():
                    json.loads(line.replace(", , ", ", ").replace(", ,", ","))
            elif self.checkpoints and len(parts) == 4 and parts[1] == "checkpoints":
                step = int(parts[2].rsplit("-", 1)[1])
                expected = self.checkpoints[step].get(parts[3], b"")
                if parts[3] == "manifest.json" and outcome.code != 0:  # a row that was not written is not in the ledger
                    content, expected = (OF_LEDGER.sub(b"", text) for text in (content, expected))
                want(content == expected, f"{name}: is not what it should be")
                if parts[3].endswith(".safetensors"):
                    safet.load(os.path.join(outcome.folder, name))
        made = {n: c for n, c in products(outcome.folder).items() if n.startswith(MADE)}
        want(made in ({}, {n: c for n, c in self.files.items() if n.startswith(MADE)}), f"half of {MADE}: {sorted(made)}")
        for step in published(outcome.folder) if self.checkpoints else ():
            missing = set(self.checkpoints[step]) - set(os.listdir(step_folder(outcome.folder, step)))
            want(not missing, f"checkpoint {step} is published without {sorted(missing)}")


def step_folder(folder, step):
    return os.path.join(folder, "run", "checkpoints", f"step-{step:08d}")


def published(folder):
    """The steps that have a checkpoint."""
    place = os.path.join(folder, "run", "checkpoints")
    names = sorted(os.listdir(place)) if os.path.isdir(place) else []
    return [int(name.rsplit("-", 1)[1]) for name in names if not name.startswith(".")]


# ---------------------------------------------------------------- the commands


class Command:
    """A command with its undisturbed run. `broken`: exit codes that say that a file is at fault. `given`: a run's folder, of
    which each of its runs gets a copy as `run`. `few`: each request fails in one way only, unless all is tried."""

    def __init__(self, folder, name, args, broken, stdout=True, checkpoints=None, given=None, few=False):
        self.folder, self.name, self.args, self.broken, self.stdout = folder, name, args, broken, stdout
        self.given, self.trains, self.few = given, checkpoints is not None, few
        reference = self.begin("reference")
        want(reference.code == 0, f"{name}: {reference.told()}")
        self.judge = Judge(reference, stdout, checkpoints or {})
        self.judge.whole(reference)

    def begin(self, place, **fault):
        place = os.path.join(self.folder, self.name, place)
        if self.given:
            shutil.copytree(self.given, os.path.join(place, "run"))
        return run(place, self.args, **fault)

    def run(self, kind, at, error=0):
        return self.begin(f"{kind}-{at}-{error}", kind=kind, at=at, error=error)

    def go_on(self, outcome):
        """A run that failed or was killed, once more with nothing in its way: it ends as if undisturbed."""
        given = published(os.path.dirname(self.given)) if self.given else []
        kept = max(published(outcome.folder), default=0)
        want(kept >= max(given, default=0), f"the checkpoint of step {max(given, default=0)} is lost")
        again = run(outcome.folder, [*self.args, "--run.resume", "auto"])
        want(again.code == 0, f"going on from step {kept}: {again.told()}")
        self.judge.same_run(again)

    def requests(self, kind):
        """What the command asks for, in order: a list of the words of each request."""
        counted = self.run(kind, 0)
        want(counted.code == 0 and counted.reported, f"{self.name}: counting failed, {counted.told()}")
        return [line.split(" ") for line in counted.reported]


def checkpoints_of(folder, data, steps=TINY["train.steps"]):
    """Every checkpoint of a run of TINY, by step."""
    keep_all = dict(TINY, **{"train.keep_checkpoints": 0, "train.steps": steps})
    outcome = run(folder, ["--data", data, "--out", "run", *map(str, flags(keep_all))])
    want(outcome.code == 0, outcome.told())
    by_step = {}
    for step in published(folder):
        place = step_folder(folder, step)
        by_step[step] = {
            name: comparable(name, read(os.path.join(place, name)), folder) for name in os.listdir(place)
        }
    return by_step


def interrupted(folder, source):
    """A copy of a run with the checkpoints of its first two steps; its rows and its ledger go on behind them."""
    target = os.path.join(folder, "run")
    shutil.copytree(source, target)
    for step in published(folder)[2:]:
        shutil.rmtree(step_folder(folder, step))
    return target


def write_text(folder):
    path = os.path.join(folder, "text.txt")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text(4000))
    return path


def commands(folder):
    """Every command that reads or writes files, on a model of a few thousand weights."""
    data = write_text(folder)
    by_step = checkpoints_of(os.path.join(folder, "all"), data)
    run_folder = os.path.join(folder, "all", "run")
    probe = Probe(folder, model_width=8, model_hidden=8, model_heads=2, model_layers=2)
    probe.run()
    model, imported = os.path.join(FIXTURES, "hf-sharded", "hf"), os.path.join(folder, "imported")
    run(os.path.join(folder, "import"), ["checkpoint", "import", "--hf", model, "--out", imported])
    options, half = list(map(str, flags(TINY))), interrupted(os.path.join(folder, "half"), run_folder)
    go_on = ["--run.resume", "auto", "--out", "run", "--data", data, *options]
    rows = (
        # name, arguments, exit codes for a file at fault, whether standard output is the product
        ("train", ["--data", data, "--out", "run", *options], (3,), False),
        ("init-from", ["--data", data, "--out", "run", *options, "--init-from", run_folder], (3, 4), False),
        ("eval", ["eval", "--checkpoint", run_folder], (3, 4), True),
        ("generate", ["generate", "--checkpoint", run_folder, "--prompt", "the", "--tokens", "5"], (3, 4), True),
        ("plan", ["plan", "--ranks", "2", "--data", data, "--config", os.path.join(run_folder, "config.yaml")], (2, 3), True),
        ("probe", probe_args(folder, out="out.safetensors", threads=1), (2, 3), False),
        ("help", ["--help-config"], (3,), True),
        ("resume", go_on, (2, 3, 4), False),
        ("verify", ["checkpoint", "verify", run_folder], (3, 4), True),
        ("import", ["checkpoint", "import", "--hf", model, "--out", "made"], (3, 4), True),
        ("export", ["checkpoint", "export", imported, "--hf", "made", "--shard-bytes", "200000"], (3, 4), True),
    )
    for name, args, broken, stdout in rows:
        if ONLY not in (None, name):
            continue
        steps, given = (by_step if name in ("train", "resume") else None), (half if name == "resume" else None)
        yield Command(folder, name, args, broken, stdout, steps, given, few=name in ("resume", "verify", "import", "export"))


def all_of(jobs, function):
    """function(job) for all jobs, two at a time: what it raises, or gives, is a miss."""

    def miss_of(job):
        try:
            return function(*job)
        except (Miss, OSError, ValueError, KeyError) as miss:
            return f"{job}: {miss}"

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        misses = [miss for miss in pool.map(miss_of, jobs) if miss]
    want(not misses, f"{len(misses)} of {len(jobs)}:\n       " + "\n       ".join(misses[: 200 if LONG else 12]))


def ready():
    if not os.path.exists(INJECT):
        print("skipped: the library that lets calls fail is not built here (Linux on x86-64, no sanitizers)")
        sys.exit(77)


def every_request(command, kind, chosen, trial):
    """`trial` raises what is wrong with the command whose so manieth request fails."""

    def judged(number, request, *how):
        outcome = command.run(kind, number, *how[1:])
        want(outcome.reported, "the request was not made this time")
        trial(command, outcome, request, *how[:1])
        shutil.rmtree(outcome.folder)

    requests = command.requests(kind)
    jobs = chosen(list(enumerate(requests, 1)), command.few)
    all_of(jobs, judged)
    print(f"     {len(jobs)} for {len(requests)} requests")


def every_command(kind, chosen, trial):
    """A case for each: its requests of a kind, of which `chosen` makes jobs (number, request, ...), failing in turn."""
    ready()
    suite = Suite()
    with scratch() as folder:
        for command in commands(folder):
            suite.case(f"every {kind} of {command.name}", every_request, command, kind, chosen, trial)
            if os.environ.get("SWT_KEEP") is None:
                shutil.rmtree(os.path.join(folder, command.name))
    suite.finish()
