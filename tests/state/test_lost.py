#!/usr/bin/python3
"""A rank is lost at a place of a step: all end with exit code 6 and one line that names it, in time.

Every fault on every rank before, inside and after each kind of exchange meets pairwise; with SWT_LONG=1 all together.
"""

import concurrent.futures
import os
import re
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))

from combine import choose  # noqa: E402
from support import (  # noqa: E402
    BUILD, SLOW, Suite, environment, finish, flags, read, run, scratch, small, start, subprocess, want, write_text,
)

FAULTY = os.path.join(BUILD, "tests", "state_fault")
RANKS = 3
HANG_S = 4 if SLOW else 2  # a machine full of tests may keep a thread waiting
STALL_S = 3
SLEEP = "sleep=600000"

# Name in the line, swt_phase, call.
PLACES = {
    "batch": (1, "all_reduce"),
    "forward": (2, "all_to_all"),
    "backward": (3, "all_to_all"),
    "reduction of gradients": (4, "all_reduce"),
    "row of the metrics": (6, "all_reduce"),
    "evaluation": (7, "all_to_all"),
    "checkpoint": (9, "broadcast"),
}
ACTIONS = ("kill", "stop", "exit", SLEEP)
SAID = {
    "kill": "its process has ended without a word",
    "exit": "its process has ended without a word",
    # A stopped rank makes no progress either; a busy machine may see that first, the limits are a second apart.
    "stop": f"(?:not heard of for {HANG_S} s|without progress for {STALL_S} s)",
    SLEEP: f"without progress for {STALL_S} s",
}
CALLS = {"all_to_all": "swt_comm_all_to_all", "all_reduce": "swt_comm_all_reduce_i64", "broadcast": "swt_comm_broadcast"}
OPTIONS = small(train_steps=10**6, train_eval_every=2, train_checkpoint_every=2, run_threads=1)
WATCH = {"run.hang_seconds": HANG_S, "run.stall_seconds": STALL_S}


def fault(rank, place, where, action, step=3):
    phase, call = PLACES[place]
    return {"SWT_FAULT": f"{rank} {phase} {call} {where} {step} {action}"}


def lost(folder, data, name, rank, place, where, action):
    """The time from the fault, once it could be noticed, to its telling, which ends all ranks."""
    out, mark = os.path.join(folder, name), os.path.join(folder, name + ".mark")
    args = ["--data", data, "--out", out, *flags(OPTIONS), *flags(WATCH)]
    env = {"SWT_FAULT_MARK": mark, **fault(rank, place, where, action)}
    process = start(RANKS, args, env=env, program=FAULTY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    result = finish(process, name, 60)
    ended = time.time() - os.path.getmtime(mark)
    lines = [line for line in result.err.splitlines() if re.match("swt-dist: error|launch/run:", line)]
    warned = [line for line in result.err.splitlines() if line.startswith("swt-dist: warning: ")]
    want(result.code == 6, f"{name}: {result.told()}")
    want(len(lines) == 1, f"{name}: not one line: {lines}")
    want(len(warned) <= 1 and (action != SLEEP or f"rank {rank}: without progress for " in warned[0]), f"{name}: {warned}")
    judge_line(name, lines[-1], rank, place, where, action)
    log = read(os.path.join(out, "log.txt")).splitlines()
    want(log[-1] == lines[-1].split("swt-dist: ", 1)[1], f"{name}: the log ends with {log[-1]}")
    noticed = {"stop": HANG_S, SLEEP: STALL_S}.get(action, 0)
    told = os.path.getmtime(os.path.join(out, "log.txt")) - os.path.getmtime(mark)
    want(told < noticed + 5, f"{name}: told {told:.1f} s after the fault, which is noticed after {noticed}")
    want(ended < noticed + 8, f"{name}: ended {ended:.1f} s after the fault")  # launch/run holds a lost rank's place for 3 s
    return name, told - noticed


def judge_line(name, line, rank, place, where, action):
    call = CALLS[PLACES[place][1]]
    match = re.match(rf"swt-dist: error: rank {rank}: {SAID[action]}, last at step (\d+), ([^;]*); (.*); see why", line)
    want(match, f"{name}: {line}")
    step, at, others = int(match[1]), match[2], match[3]
    want(step in (3, 4), f"{name}: a wrong step: {line}")
    want(at.split(" of layer")[0].split(",")[0] == place, f"{name}: a wrong phase: {line}")
    want((f"in {call}" in at) == (where == "inside"), f"{name}: a wrong call: {line}")
    if place in ("forward", "backward"):
        want(re.search(r" of layer \d \(moe\)", at), f"{name}: no layer: {line}")
    waiting = re.findall(r"ranks? ([\d, -]+) waits? at step \d+, [^;]* in swt_comm_\w+, for ranks? ([\d, -]+)", others)
    blamed = {int(n) for _, ranks in waiting for n in re.findall(r"\d+", ranks)}
    want(rank in blamed, f"{name}: nobody waits for rank {rank}: {line}")


def all_faults(folder, data):
    """Several runs at once: they wait most of the time. A rank that writes a checkpoint may take any time; and where all are
    inside an exchange, whatever sleeps there is MPI, and nobody knows on which rank."""
    cases = [c for c in choose(tuple(range(RANKS)), tuple(PLACES), ("before", "inside", "after"), ACTIONS)
             if not (c[3] == SLEEP and (c[1] == "checkpoint" or c[2] == "inside"))]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(lost, folder, data, "-".join(map(str, c)).replace(" ", "_"), *c) for c in cases]
        times = [job.result() for job in jobs]
    slowest = max(times, key=lambda t: t[1])
    print(f"     {len(times)} faults, the slowest told {slowest[1]:.1f} s after it could be noticed: {slowest[0]}")


def slow_is_no_loss(folder, data):
    """A tenth of the time that would be a loss is a warning, once, and writing a checkpoint may take longer than all of it:
    the run ends as if nothing had been."""

    def train(name, stall_seconds, **env):
        options = dict(OPTIONS, **{"train.steps": 6, "run.hang_seconds": HANG_S, "run.stall_seconds": stall_seconds})
        out = os.path.join(folder, name)
        mark = os.path.join(folder, name + ".mark")
        return run(RANKS, ["--data", data, "--out", out, *flags(options)], env={"SWT_FAULT_MARK": mark, **env}, program=FAULTY)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        slow = pool.submit(train, "slow", 20, **fault(1, "forward", "before", "sleep=3500"))
        disk = pool.submit(train, "disk", STALL_S, **fault(0, "checkpoint", "before", f"sleep={1000 * STALL_S + 1500}"))
        plain = pool.submit(train, "plain", 20)
    want(disk.result().code == 0, disk.result().told())
    for name, job in (("slow", slow), ("plain", plain)):
        want(job.result().code == 0, f"{name}: {job.result().told()}")
        warned = re.findall("^swt-dist: warning: (.*)$", job.result().err, re.M)
        want(len(warned) == (name == "slow"), f"{name}: {warned}")
        want(not warned or re.match(r"rank 1: without progress for [\d.]+ s, at step 3, forward of layer 0", warned[0]), warned)
        logs = read(os.path.join(folder, name, "log.txt"))
        want(("warning: rank 1" in logs) == (name == "slow") and "done: 6 steps" in logs, f"{name}: {logs}")


def nobody_watches(folder, data):
    """run.hang_seconds 0: the launcher alone notices a rank that is killed."""
    out, mark = os.path.join(folder, "unwatched"), os.path.join(folder, "unwatched.mark")
    args = ["--data", data, "--out", out, *flags(dict(OPTIONS, **{"run.hang_seconds": 0}))]
    env = {"SWT_FAULT_MARK": mark, "SWT_FAULT": "1 -1 all_to_all before 0 kill"}
    result = run(RANKS, args, env=env, program=FAULTY)
    want(result.code == 6 and "swt-dist: error" not in result.err, result.told())
    want("launch/run: error: a rank was lost (mpirun: 137)" in result.err, result.told())


def plain_mpirun(folder, data):
    """Which gives survivors a second: long enough for the line. Its exit code is its own."""
    out, mark = os.path.join(folder, "mpirun"), os.path.join(folder, "mpirun.mark")
    line = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", str(RANKS), FAULTY, "--data", data, "--out", out, *flags(OPTIONS)]
    env = environment({"SWT_FAULT_MARK": mark, **fault(0, "backward", "inside", "kill")})
    said = subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=60).stderr
    lines = re.findall("^swt-dist: error: .*$", said, re.M)
    want(len(lines) == 1 and "rank 0: its process has ended without a word" in lines[0], said)
    want(lines[0].split("dist: ", 1)[1] == read(os.path.join(out, "log.txt")).splitlines()[-1], "the log has another line")


def main():
    suite = Suite()
    with scratch() as folder:
        data = write_text(folder)
        # With sanitizers a rank may take as long for its part as the limits are: the plain build judges these.
        suite.case("lost at each place", all_faults, folder, data, heavy=True)
        suite.case("slow is no loss", slow_is_no_loss, folder, data)
        suite.case("nobody watches", nobody_watches, folder, data)
        suite.case("plain mpirun", plain_mpirun, folder, data)
    suite.finish()


main()
