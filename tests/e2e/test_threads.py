#!/usr/bin/python3
"""How the program's threads wait, how many there are and how little stack they need, whatever a job script's environment
says. Speed is not judged here (docs/decisions.md has figures)."""

import os
import re
import resource
import subprocess
import sys
import time

from support import LAUNCH, PROGRAM, SLOW, Suite, flags, scratch, small, want, weights_digest, write_text

OPENMP = re.compile("^(OMP|GOMP)_")
CORES = sorted(os.sched_getaffinity(0))
LOADER = "/lib64/ld-linux-x86-64.so.2"


def environment(settings):
    """OpenMP's variables are these alone."""
    return {**{k: v for k, v in os.environ.items() if not OPENMP.match(k)}, "LC_ALL": "C.UTF-8", **settings}


def begin(line, settings, **how):
    return subprocess.Popen(
        line,
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **how,
    )


def finish(line, settings, **how):
    process = begin(line, settings, **how)
    said, _ = process.communicate(timeout=120 * (4 if SLOW else 1))
    want(process.returncode == 0, f"exit {process.returncode}: {said[-400:]} [{' '.join(line)} under {settings}]")
    return said


def train(folder, out="run", steps=2, **options):
    options = small(train_steps=steps, **options)
    return [PROGRAM, "--data", os.path.join(folder, "text.txt"), "--out", os.path.join(folder, out), *flags(options)]


def seen(process):
    """What the system says of a program that runs: its name, its words, OpenMP's variables, its cores."""
    where = f"/proc/{process.pid}/"
    with open(where + "comm", encoding="utf-8") as f:
        name = f.read().strip()
    with open(where + "cmdline", encoding="utf-8") as f:
        words = f.read().rstrip("\0").split("\0")
    with open(where + "environ", encoding="utf-8", errors="replace") as f:
        env = dict(v.split("=", 1) for v in f.read().split("\0") if OPENMP.match(v))
    return name, words, env, sorted(os.sched_getaffinity(process.pid))


def running(folder, settings):
    """The same of a training that has written its first line, which is then ended; and that line."""
    process = begin(train(folder, out="-".join(["run", *settings.values()]), steps=1000000), settings)
    try:
        first = process.stdout.readline()
        return (*seen(process), first)
    finally:
        process.kill()
        process.communicate()


def waits_as_it_should(folder):
    name, words, env, _, first = running(folder, {})
    want(env == {"GOMP_SPINCOUNT": env.get("GOMP_SPINCOUNT")} and env["GOMP_SPINCOUNT"].isdigit(), f"in force: {env}")
    want(name == "swt-dist" and words[0] == PROGRAM and "--data" in words, f"called {name}: {words}")
    want(first.startswith("swt-dist "), first)


def users_own_wait_stays(folder):
    for settings in ({"OMP_WAIT_POLICY": "passive"}, {"GOMP_SPINCOUNT": "77"}):
        _, _, env, _, _ = running(folder, settings)
        want(env == settings, f"{settings} became {env}")


def binding_leaves_all_cores(folder):
    many = min(len(CORES), 2)
    for settings in (
        {"OMP_PROC_BIND": "true"},
        {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"},
        {"GOMP_CPU_AFFINITY": " ".join(str(c) for c in CORES)},
    ):
        _, _, env, cores, first = running(folder, settings)
        want(cores == CORES and not set(settings) & set(env), f"{settings}: cores {cores}, {env}")
        want(f"of {len(CORES)} thread" in first or many == 1, first)
    _, _, _, cores, first = running(folder, {"GOMP_CPU_AFFINITY": str(CORES[-1])})
    want(cores == CORES[-1:] and "of 1 thread " in first, f"the one core that was named: {cores}, {first}")


def goes_on_without_a_second_start(folder):
    """Where /proc/self/exe is another program, or is not to be had."""
    if os.path.exists(LOADER) and not SLOW:
        said = finish([LOADER, PROGRAM, "--version"], {})
        want(said.startswith("swt-dist "), said)
    said = finish(["bash", "-c", f"exec -a other-name {PROGRAM} --version"], {})
    want(said.startswith("swt-dist "), said)


def openmp_limits_are_said(folder):
    said = finish(train(folder, out="one"), {"OMP_NUM_THREADS": "1"})
    if len(CORES) > 1:
        want("of 1 thread " in said and "because OMP_NUM_THREADS says so" in said, said[:400])
    said = finish([*train(folder, out="limit"), "--threads", "2"], {"OMP_THREAD_LIMIT": "1"})
    want("of 1 thread " in said and "because OMP_THREAD_LIMIT says so" in said, said[:400])
    said = finish([*train(folder, out="asked"), "--threads", "2"], {"OMP_NUM_THREADS": "1"})
    want("of 2 threads " in said and "OMP_NUM" not in said, said[:400])


def small_stacks(folder):
    """Every product and the attention of the widest head, on threads with next to no stack."""
    wide = {"model.head_width": 256, "model.heads": 1, "model.width": 544, "model.layers": 1, "moe.every": 1, "train.steps": 1}
    digests = set()
    for bytes_, setting in ((8 << 20, None), (256 << 10, None), (128 << 10, "64K")):
        name = f"stack-{bytes_}-{setting}"
        line = [*train(folder, out=name), *flags(wide), "--threads", "2", "--train.eval_every", "1"]
        finish(
            line,
            {"OMP_STACKSIZE": setting} if setting else {},
            preexec_fn=lambda most=bytes_: resource.setrlimit(resource.RLIMIT_STACK, (most, most)),
        )
        digests.add(weights_digest(os.path.join(folder, name)))
    want(len(digests) == 1, f"{len(digests)} different weights")


def more_threads_than_cores(folder):
    """Said for one rank, and for ranks that have fewer cores each than threads."""
    cores = len(CORES)
    said = finish([*train(folder, out="many"), "--threads", str(cores + 1)], {})
    want(f"warning: {cores + 1} threads on {cores} core{'s' * (cores > 1)}: they wait" in said, said)
    launched = [LAUNCH, "-n", str(cores + 1), "--program", PROGRAM, "--", *train(folder, out="ranks")[1:]]
    said = finish([*launched, "--threads", "2"], {})
    want("warning: 2 threads on 1 core a rank: they wait for each other; use at most --threads 1\n" in said, said)
    want("they wait" not in finish([*launched, "--threads", "1", "--out", os.path.join(folder, "few")], {}), "a false alarm")


def quota_counts(folder):
    """Under a control group's quota of one core."""
    group = f"/sys/fs/cgroup/cpu/swt-test-{os.getpid()}"
    try:
        os.mkdir(group)
    except OSError:
        return  # tests/train/test_cores.c has quotas of every kind
    try:
        with open(group + "/cpu.cfs_quota_us", "w", encoding="utf-8") as f:
            f.write("100000")
        line = ["bash", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "-", *train(folder, out="quota")]
        want("of 1 thread " in finish(line, {}), "a quota of one core is not one thread")
    finally:
        for _ in range(50):
            try:
                os.rmdir(group)
                break
            except OSError:
                time.sleep(0.1)


def main():
    if not os.path.exists("/proc/self/exe"):
        print("skipped: no /proc")
        sys.exit(77)
    suite = Suite()
    cases = (
        waits_as_it_should,
        users_own_wait_stays,
        binding_leaves_all_cores,
        goes_on_without_a_second_start,
        openmp_limits_are_said,
        more_threads_than_cores,
        quota_counts,
    )
    with scratch() as folder:
        write_text(folder)
        for case in cases:
            suite.case(case.__name__, case, folder)
        suite.case("small_stacks", small_stacks, folder, heavy=True)
    suite.finish()


main()
