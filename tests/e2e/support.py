"""What the end-to-end tests share: launching the program, small configurations, and the counting of cases.

A test is called with the build folder. Every case prints one line; a miss makes the test exit 1.
  SWT_LONG=1     every combination instead of a pairwise choice
A build folder named *asan* is slow: cases marked `heavy` are left out there.
"""

import atexit
import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
ORACLE = os.path.join(ROOT, "tests", "oracle")
FIXTURES = os.path.join(ORACLE, "fixtures")
BUILD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build", "cpu"))
PROGRAM = os.path.join(BUILD, "swt-dist")
LAUNCH = os.path.join(ROOT, "launch", "run")
LONG = os.environ.get("SWT_LONG", "") not in ("", "0")
SLOW = "asan" in os.path.basename(BUILD)
TSAN = "tsan" in os.path.basename(BUILD)


def cached(name):
    """What CMake has noted under a name."""
    try:
        with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as f:
            return next((line.rstrip("\n").split("=", 1)[1] for line in f if line.startswith(name + ":")), "OFF")
    except OSError:
        return "OFF"


def gpus_here():
    if CUDA != "ON":
        return 8 if EMULATED else 0
    try:
        said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60).stdout
    except OSError:
        return 0
    return said.count("GPU ")


CUDA = cached("SWT_CUDA")  # OFF, ON or EMU
EMULATED = CUDA == "EMU"
GPUS = gpus_here()  # that this build can use

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not installed")
    sys.exit(77)
sys.dont_write_bytecode = True
sys.path.insert(0, ORACLE)
import safet  # noqa: E402  (the oracle's)

# ---------------------------------------------------------------- cases


class Miss(Exception):
    """What a case expected and did not find."""


def want(ok, why):
    if not ok:
        raise Miss(why or "nothing was said")  # an empty reason must not read as none


class Suite:
    """Runs cases one after the other and counts."""

    def __init__(self):
        self.passed = self.failed = self.left_out = 0

    def case(self, name, function, *args, heavy=False):
        if heavy and SLOW:
            self.left_out += 1
            return
        start, why = time.monotonic(), ""
        try:
            function(*args)
        except Miss as miss:
            why = str(miss)
        except (OSError, ValueError, KeyError, IndexError, subprocess.SubprocessError) as error:
            why = f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - start
        self.passed, self.failed = self.passed + (not why), self.failed + bool(why)
        print(f"{'FAIL' if why else 'ok  '} {name} ({seconds:.1f} s){': ' if why else ''}{why}", flush=True)

    def finish(self):
        left_out = f", {self.left_out} left out in this build" if self.left_out else ""
        print(f"{self.passed} passed, {self.failed} failed{left_out}")
        sys.exit(1 if self.failed or not self.passed else 0)


def in_memory():
    """A folder where fsync costs nothing, or None where there is none."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextlib.contextmanager
def scratch(fast=False):
    """A folder of one case, removed afterwards; `fast`: in memory, for runs of many checkpoints."""
    path = tempfile.mkdtemp(prefix="swt-e2e-", dir=in_memory() if fast else None)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


# ---------------------------------------------------------------- the program


class Result:
    def __init__(self, code, out, err, seconds, line):
        self.code, self.out, self.err, self.seconds, self.line = code, out, err, seconds, line

    def told(self):
        said = (self.err or self.out).strip()
        if len(said) > 1200:  # what was said first is the reason, what was said last the end
            said = f"{said[:800]} ... {said[-400:]}"
        return f"exit {self.code}: {said} [{self.line}]"


def flags(options):
    """{"moe.experts": 4, ...} as arguments."""
    return [part for key, value in options.items() for part in ("--" + key, str(value))]


def command(ranks, args, launched=False, program=PROGRAM):
    """One rank needs no launcher, as the README says."""
    if ranks == 1 and not launched:
        return [program, *args]
    return [LAUNCH, "-n", str(ranks), "--program", program, "--", *args]


@functools.lru_cache(maxsize=None)
def mpi_files():
    """A folder of this test's own for Open MPI's session and shared-memory files: ranks that are killed leave megabytes."""
    path = tempfile.mkdtemp(prefix="swt-mpi-", dir=in_memory())
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def clean_mpi_files():
    """Between runs, of which some were killed."""
    for name in os.listdir(mpi_files()):
        path = os.path.join(mpi_files(), name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def environment(extra=None):
    """Threads and ranks that wait give their core away, so that a loaded machine does not turn seconds into minutes."""
    polite = {"LC_ALL": "C.UTF-8", "OMP_WAIT_POLICY": "passive", "OMPI_MCA_mpi_yield_when_idle": "1"}
    polite["TMPDIR"] = polite["OMPI_MCA_btl_vader_backing_directory"] = mpi_files()
    if SLOW:  # whole stack traces, without which the libraries' own leaks cannot be told from ours
        polite["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "exitcode=99") + ":fast_unwind_on_malloc=0"
        polite["LSAN_OPTIONS"] = f"suppressions={ROOT}/tests/support/lsan.supp:print_suppressions=0"
    if TSAN:  # which does not know how OpenMP's threads wait for one another
        polite["OMP_NUM_THREADS"] = "1"
    env = {**os.environ, **polite, **(extra or {})}
    for name in ("SWT_DATA", "SWT_DATA_DIR"):
        if not extra or name not in extra:
            env.pop(name, None)
    return env


def start(ranks, args, launched=False, cwd=None, env=None, program=PROGRAM, **how):
    return subprocess.Popen(
        command(ranks, [str(a) for a in args], launched, program),
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **how,
    )


def session_members(session):
    """Process ids of a session: launch/run, mpirun and the ranks are in groups of their own."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as f:
                if int(f.read().rsplit(")", 1)[1].split()[3]) == session:
                    yield int(name)


def end(process):
    """End a program that does not end: as a person would, by asking twice, then by force."""
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        members = [process.pid] if number == signal.SIGTERM else list(session_members(process.pid))
        for pid in members:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=5)
            return


def finish(process, line, timeout):
    """Wait for the end, at most so many seconds, and return what was said."""
    begin = time.monotonic()
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        end(process)
        raise Miss(f"did not end within {timeout} s: {line}") from None
    out, err = ((said or b"").decode(errors="replace") for said in (out, err))
    return Result(process.returncode, out, err, time.monotonic() - begin, line)


def run(ranks, args, timeout=120, **how):
    """Run to the end and return what it said."""
    process = start(ranks, args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
    line = f"{ranks} ranks: swt-dist " + " ".join(str(a) for a in args)
    return finish(process, line, timeout * (4 if SLOW else 1))


def succeed(ranks, args, **how):
    result = run(ranks, args, **how)
    want(result.code == 0, result.told())
    return result


# ---------------------------------------------------------------- configurations, texts, files

# A model that trains a step in milliseconds; the schedule makes 20 steps move every weight.
SMALL = {
    "model.layers": 2,
    "model.width": 32,
    "model.heads": 4,
    "model.hidden": 64,
    "model.init": "pytorch",
    "moe.experts": 4,
    "batch.sequences": 2,
    "batch.seq_len": 16,
    "batch.micro_batches": 4,
    "optim.schedule": "constant",
    "optim.lr": 0.003,
    "train.steps": 20,
    "train.log_every": 1,
    "train.eval_every": 0,
    "data.valid_fraction": 0.02,
}


def small(**changes):
    """SMALL with keys given as moe_experts=16."""
    return dict(SMALL, **{key.replace("_", ".", 1): value for key, value in changes.items()})


def text(bytes_wanted=20000):
    """Sentences drawn by a fixed generator: some structure to learn, the same on every machine."""
    state, parts, length = 12345, [], 0

    def draw(words):
        nonlocal state
        state = (state * 1103515245 + 12345) % 2**31
        return words[(state >> 8) % len(words)]

    people = ("the king", "it is the king who", "a queen", "his brother", "my lord", "the old fool", "thy daughter")
    verbs = ("speaks of", "will love", "shall fear", "hath seen", "knows not", "gives up")
    things = ("the crown", "a summer day", "this island", "all the ships", "sweet music", "the night")
    while length < bytes_wanted:
        sentence = f"{draw(people).capitalize()} {draw(verbs)} {draw(things)}{draw('.!?;')}{draw((' ', ' ', chr(10)))}"
        parts.append(sentence)
        length += len(sentence)
    return "".join(parts)


def write_text(folder, bytes_wanted=20000):
    path = os.path.join(folder, "text.txt")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text(bytes_wanted))
    return path


def train(ranks, folder, name, options, data, extra=(), **how):
    """Train into folder/name and return that path."""
    out = os.path.join(folder, name)
    succeed(ranks, ["--data", data, "--out", out, *flags(options), *extra], **how)
    return out


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def begin(ranks, out, args, mark, launched=False, env=None):
    """A training into `out` that has written `mark` to its log."""
    args = ["--out", out, *args]
    process = start(ranks, args, launched, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    log, deadline = os.path.join(out, "log.txt"), time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if os.path.exists(log) and mark in read(log):
            return process
        time.sleep(0.02)
    end(process)
    return want(False, f"never said {mark!r}")


def checkpoint(out, step=None):
    folder = os.path.join(out, "checkpoints")
    names = sorted(n for n in os.listdir(folder) if not n.startswith("."))
    want(names, f"no checkpoint in {folder}")
    return os.path.join(folder, names[-1] if step is None else f"step-{step:08d}")


def tensors(folder, kind="weights"):
    """Those of a checkpoint's files of one kind, weights or optim, however many ranks wrote them."""
    found = {}
    for name in sorted(n for n in os.listdir(folder) if re.fullmatch(kind + r"(-\d{5}-of-\d{5})?\.safetensors", n)):
        part = safet.load(os.path.join(folder, name))
        want(not set(part) & set(found), f"{folder}: tensors in two files")
        found.update(part)
    return found


def weights(out, step=None):
    return tensors(checkpoint(out, step))


def moments(out, step=None):
    return tensors(checkpoint(out, step), "optim")


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def weights_digest(out):
    found = weights(out)
    want(found, f"{out}: no weights")
    parts = (part for name in sorted(found) for part in (f"{name} {found[name].shape} ".encode(), found[name].tobytes()))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def metrics(out):
    """(training rows, evaluation rows)"""
    with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    return [r for r in rows if "loss" in r], [r for r in rows if "valid_loss" in r]


def same_tensors(a, b):
    """The names of the tensors that differ in a single bit."""
    return sorted(set(a) ^ set(b)) + [k for k in a if k in b and a[k].tobytes() != b[k].tobytes()]


def copy_checkpoint(source, target, tensors):
    """A checkpoint made by hand: other weights, no manifest."""
    os.makedirs(target)
    for name in os.listdir(source):
        if name != "manifest.json" and not name.endswith(".safetensors"):
            with open(os.path.join(source, name), "rb") as a, open(os.path.join(target, name), "wb") as b:
                b.write(a.read())
    safet.save(os.path.join(target, "weights.safetensors"), tensors)


# ---------------------------------------------------------------- plan


class Plan:
    """What plan says: .layers and .ranks are {name of the line: {column: number}}."""

    def __init__(self, options, ranks=1, data=None, **how):
        text = {"data": data} if data else {"model.vocab": 65}
        self.said = succeed(1, ["plan", "--ranks", ranks, *flags({**text, **options})], **how).out
        self.layers, self.ranks = self.table("layer"), self.table("rank")

    def table(self, first):
        lines = self.said.splitlines()
        at = next(i for i, line in enumerate(lines) if line.split()[:1] == [first])
        names, rows = lines[at].split(), {}
        for line in lines[at + 2 :]:
            if not line.strip():
                break
            rows[line.split()[0]] = dict(zip(names[1:], map(float, line.split()[1:])))
        return rows

    def number(self, pattern):
        return float(re.search(pattern, self.said)[1])


# ---------------------------------------------------------------- probe


def norm(arrays):
    """Of all elements of several tensors together."""
    return float(np.sqrt(sum((np.asarray(a, dtype=np.float64) ** 2).sum() for a in arrays)))


def grads(out):
    """{parameter: gradient} of what the probe wrote."""
    return {k[5:]: a for k, a in out.items() if k.startswith("grad.")}


def probe_args(case, **files):
    """The probe command on the files of a folder (a fixture's, say), with --out and what else is given."""
    own = {"config": "config.yaml", "weights": "weights.safetensors", "batch": "batch.safetensors"}
    return ["probe", *flags({**{name: os.path.join(case, file) for name, file in own.items()}, **files})]


class Probe:
    """A case for the probe command in a folder: settings of the oracle, drawn weights and a batch."""

    def __init__(self, folder, seed=1, **changes):
        from oracle import draw_batch, draw_weights
        from settings import settings

        self.folder, self.out = folder, os.path.join(folder, "out.safetensors")
        self.cfg = settings({key.replace("_", ".", 1): value for key, value in changes.items()})
        gen = np.random.default_rng(seed)
        self.weights, self.batch = draw_weights(self.cfg, gen), draw_batch(self.cfg, gen)

    def run(self, ranks=1, extra=(), weights_changed=None, batch=None, **settings_changed):
        """Every tensor that the probe writes."""
        from settings import write_yaml

        cfg = dict(self.cfg, **{key.replace("_", ".", 1): value for key, value in settings_changed.items()})
        write_yaml(os.path.join(self.folder, "config.yaml"), cfg)
        safet.save(os.path.join(self.folder, "weights.safetensors"), dict(self.weights, **(weights_changed or {})))
        safet.save(os.path.join(self.folder, "batch.safetensors"), batch or self.batch)
        succeed(ranks, [*probe_args(self.folder, out=self.out, threads=1), *extra])
        return safet.load(self.out)
