#!/usr/bin/python3
"""Every tool of bench/ has --help (exit 0) and refuses what it does not know (exit 2, one line of its own). Called with
the build folder."""

import os
import subprocess
import sys

sys.dont_write_bytecode = True
from bed import ROOT, Suite  # noqa: E402
from support import BUILD, want  # noqa: E402  (bed has put its folder into the path)

SCRIPTS = ["compare", "scaling", "state", "peers.py", "plot_loss.py", "program.sh", "same_bits"]
PROGRAMS = ["bench_ops", "bench_step", "bench_layer", "bench_comm", "bench_save"]


def answers(path, argument):
    done = subprocess.run(
        [path, argument], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=100
    )
    return done.returncode, done.stdout, done.stderr


def test_all_are_here():
    folder = os.path.join(ROOT, "bench")
    runnable = {n for n in os.listdir(folder) if os.access(os.path.join(folder, n), os.X_OK) and os.path.isfile(os.path.join(folder, n))}
    want(runnable == {*SCRIPTS, *PROGRAMS}, f"without a case here: {runnable ^ {*SCRIPTS, *PROGRAMS}}")


def test_help_and_refusals():
    for path in [os.path.join(ROOT, "bench", n) for n in SCRIPTS] + [os.path.join(BUILD, "bench", n) for n in PROGRAMS]:
        code, out, err = answers(path, "--help")
        want(code == 0 and len(out) > 40 and not err, f"{path} --help: {code} {out!r} {err!r}")
        code, out, err = answers(path, "--no-such-flag")
        want(code == 2 and "error: " in err and not out, f"{path} --no-such-flag: {code} {out!r} {err!r}")


suite = Suite()
suite.case("all are here", test_all_are_here)
suite.case("help and refusals", test_help_and_refusals)
suite.finish()
