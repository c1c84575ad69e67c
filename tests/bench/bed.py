"""What the tests of bench/compare and bench/scaling share: stand-ins for the programs that they run,
with times known in advance."""

import json
import os
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
from support import ROOT, Suite, scratch  # noqa: E402

# A stand-in does on rank 0 what the test says. turn() notes the call and gives its time: 1.1, 1.0 and
# `third` times ms in the first, second and third call; so the median is 1.1, the least 1.0.
STAND_IN = """#!{python}
import json, os, sys
if os.environ.get("OMPI_COMM_WORLD_RANK", "0") != "0":
    sys.exit(0)
ranks = int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))
args = sys.argv[1:]

def flag(name, default=None):
    return type(default or "")(args[args.index(name) + 1]) if name in args else default

def turn(ms, name, third=1.5):
    with open({calls!r}, "a+") as f:
        f.write(name + "\\n")
        f.seek(0)
        return ms * [1.1, 1.0, third][(f.read().splitlines().count(name) - 1) % 3]

{body}
"""


def write(path, content, program=False):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(content)
    if program:
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
    return path


def stand_in(folder, path, body):
    content = STAND_IN.format(python=sys.executable, calls=os.path.join(folder, "calls"), body=body)
    return write(os.path.join(folder, path), content, program=True)


def calls(folder):
    with open(os.path.join(folder, "calls"), encoding="utf-8") as f:
        return f.read().split("\n")[:-1]


def two_cores():
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def tool(name, *args, path=None):
    """Run a tool of bench/ on at most two cores; give exit code, output and errors."""
    env = {**os.environ, "PYTHONPATH": path or ""}
    done = subprocess.run(
        [os.path.join(ROOT, "bench", name), *map(str, args)],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        preexec_fn=two_cores,
    )
    return done.returncode, done.stdout, done.stderr


def rows(out):
    return [json.loads(line) for line in out.splitlines()]


def close(a, b):
    """Equal but for the rounding of a few operations on doubles, or of four printed decimals."""
    return abs(a - b) <= 1e-4 * abs(b)


def in_scratch(function):
    with scratch() as folder:
        function(folder)


def run_cases(*functions, heavy):
    """Each in a folder of its own; the heavy one is left out in a slow build."""
    suite = Suite()
    for function in (*functions, heavy):
        suite.case(function.__name__, in_scratch, function, heavy=function is heavy)
    suite.finish()
