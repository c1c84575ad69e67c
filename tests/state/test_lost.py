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

from support import (  # noqa: E402
    BUILD, SLOW, Suite, choose, finish, flags, metrics, read, run, scratch, small, start, subprocess, want, write_text,
)

FAULTY = os.path.join(BUILD, "tests", "state_fault")
RANKS = 3
HANG_S = 2 if SLOW else 1
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
    "stop": f"not heard of for {HANG_S} s",
    SLEEP: f"without progress for {STALL_S} s",
}
CALLS = {"all_to_all": "swt_comm_all_to_all", "all_reduce": "swt_comm_all_reduce_i64", "broadcast": "swt_comm_broadcast"}
OPTIONS = small(train_steps=10**6, train_eval_every=2, train_checkpoint_every=2, run_threads=1)
WATCH = {"run.hang_seconds": HANG_S, "run.stall_seconds": STALL_S}


def fault(rank, place, where, action, step=3):
    phase, call = PLACES[place]
    return {"SWT_FAULT": f"{rank} {phase} {call} {where} {step} {action}"}


def lost(folder, data, name, rank, place, where, action):
    """The time from the fault to the end of all."""
    out, mark = os.path.join(folder, name), os.path.join(folder, name + ".mark")
    args = ["--data", data, "--out", out, *flags(OPTIONS), *flags(WATCH)]
    env = {"SWT_FAULT_MARK": mark, **fault(rank, place, where, action)}
    process = start(RANKS, args, env=env, program=FAULTY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    result = finish(process, name, 60)
    seconds = time.time() - os.path.getmtime(mark)
    lines = [line for line in result.err.splitlines() if re.match("swt-dist: error|launch/run:", line)]
    warned = [line for line in result.err.splitlines() if line.startswith("swt-dist: warning: ")]
    want(result.code == 6, f"{name}: {result.told()}")
    want(len(lines) == 1, f"{name}: not one line: {lines}")
    want(len(warned) <= 1 and (action != SLEEP or f"rank {rank}: without progress for " in warned[0]), f"{name}: {warned}")
    judge_line(name, lines[-1], rank, place, where, action)
    log = read(os.path.join(out, "log.txt")).splitlines()
    want(log[-1] == lines[-1].split("swt-dist: ", 1)[1], f"{name}: the log ends with {log[-1]}")
    noticed = {"stop": HANG_S, SLEEP: STALL_S}.get(action, 0)
    want(seconds < noticed + 5, f"{name}: ended {seconds:.1f} s after the fault, which is noticed after {noticed}")
    return name, seconds - noticed


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
    print(f"     {len(times)} faults, the slowest end {slowest[1]:.1f} s after it could be noticed: {slowest[0]}")


def main():
    suite = Suite()
    with scratch() as folder:
        data = write_text(folder)
        suite.case("lost at each place", all_faults, folder, data)
    suite.finish()


main()
