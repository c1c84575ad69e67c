#!/usr/bin/env python3
"""Which instructions of the kernels the tests run, and whether they notice where one is wrong.

    tests/ptx/instructions.py coverage BUILD           how much of the PTX has run; fails below 90%
    tests/ptx/instructions.py mutants BUILD [COUNT]    so many instructions made wrong, one at a time; fails where fewer
                                                       than 90% are noticed, of less than 100 than half
    tests/ptx/instructions.py missed BUILD             the source's lines of what has not run

BUILD is a build of the preset ptx whose tests labelled cuda have all run: each has left a file in BUILD/ptx/cover
(tests/ptx/cover.cpp). A mutant (tests/ptx/mutate.cpp) is drawn from the instructions that run, SWT_PTX_SEED says which; the tests
that run it go first to last by the time they take, until one fails. Those of equivalent.txt change nothing that is
promised, and do not count. Exit code 77: not all tests have run.
"""

import collections
import concurrent.futures
import json
import os
import random
import subprocess
import sys

ENOUGH, ENOUGH_OF_FEW = 0.9, 0.5
MANY = 100  # mutants: fewer say little
DAILY, LONG = 8, 200  # mutants
FOLDER = os.path.dirname(os.path.abspath(__file__))

Instruction = collections.namedtuple("Instruction", "kernel number line source text mutant")


class Test:
    """A test of the build: how it is started, what it took, and what it ran: numbers of instructions by kernel."""

    def __init__(self, name, command, environment):
        self.name, self.command, self.environment = name, command, environment
        self.seconds, self.ran = 0.0, collections.defaultdict(int)

    def runs(self, instruction):
        return self.ran[instruction.kernel] >> instruction.number & 1


def all_instructions(build):
    told = subprocess.run([os.path.join(build, "tests", "ptx_list")], capture_output=True, text=True, check=True).stdout
    out = []
    for line in told.splitlines():
        kernel, number, *rest = line.split("\t")
        out.append(Instruction(kernel, int(number), *rest))
    return [i for i in out if i.text != "(the end)"]


def bits(digits):
    """Of hexadecimal digits whose first has the lowest numbers."""
    return int(digits[::-1], 16) if digits else 0


def all_tests(build, sizes):
    """The tests that have a file of what they ran, read; exits where one is missing or older than the kernels."""
    told = subprocess.run(["ctest", "--show-only=json-v1", "-L", "cuda"], cwd=build, capture_output=True, text=True, check=True)
    tests = []
    newest = os.path.getmtime(os.path.join(build, "tests", "ptx_list"))
    for t in json.loads(told.stdout)["tests"]:
        properties = {p["name"]: p["value"] for p in t.get("properties", [])}
        environment = dict(e.split("=", 1) for e in properties.get("ENVIRONMENT", []))
        file = environment.get("SWT_PTX_COVER")
        if file is None:
            continue
        if not os.path.exists(file) or os.path.getmtime(file) < newest:
            print(f"skipped: {t['name']} has not run since the kernels were built")
            sys.exit(77)
        test = Test(t["name"], t["command"], environment)
        with open(file, encoding="ascii") as f:
            for line in f:
                kernel, *rest = line.split()
                if kernel == "seconds":
                    test.seconds += float(rest[0])
                elif int(rest[0]) == sizes[kernel]:
                    test.ran[kernel] |= bits(rest[1])
        tests.append(test)
    return sorted(tests, key=lambda t: t.seconds)


def coverage(instructions, tests):
    ran = sum(any(t.runs(i) for t in tests) for i in instructions)
    kernels = {i.kernel for i in instructions}
    idle = [k for k in sorted(kernels) if not any(t.ran[k] for t in tests)]
    share = ran / len(instructions)
    print(f"{ran} of {len(instructions)} instructions of {len(kernels)} kernels ran: {100 * share:.1f}%")
    for kernel in idle:
        print(f"never launched: {kernel}")
    return 0 if share >= ENOUGH and not idle else 1


def missed(instructions, tests):
    by_line = collections.Counter(i.source for i in instructions if not any(t.runs(i) for t in tests))
    for source, count in by_line.most_common():
        print(f"{count:6} {source}")
    return 0


def notices(test, mutant):
    """Whether the test fails, in whatever way, with this instruction made wrong."""
    environment = {**os.environ, **test.environment, "SWT_PTX_MUTANT": f"{mutant.kernel}:{mutant.number}"}
    with subprocess.Popen(
        test.command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            return process.wait(timeout=60 + 20 * test.seconds) != 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return True


def kind(mutant):
    """What equivalent.txt calls it: its place in the source, the instruction's name, and what is made of it."""
    words = mutant.text.split()
    return mutant.source, words[1 if words[0].startswith("@") else 0], mutant.mutant


def equivalents():
    """The kinds of mutants that change nothing that is promised; the file has a reason behind each."""
    out = set()
    with open(os.path.join(FOLDER, "equivalent.txt"), encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                out.add(tuple(part.strip() for part in line.split("|")[:3]))
    return out


def judge(mutant, tests):
    """Name of the test that notices it; None."""
    return next((t.name for t in tests if t.runs(mutant) and notices(t, mutant)), None)


def mutants(instructions, tests, count):
    same = equivalents()
    seed = int(os.environ.get("SWT_PTX_SEED", "1"))
    able = [i for i in instructions if i.mutant and any(t.runs(i) for t in tests)]
    chosen = random.Random(seed).sample(able, min(count, len(able)))
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        killed = lived = equivalent = 0
        for m, by in zip(chosen, pool.map(lambda m: judge(m, tests), chosen)):
            if by:
                killed += 1
                continue
            known = kind(m) in same
            equivalent += known
            lived += not known
            what = "equivalent" if known else "lived"
            print(f"{what}: {' | '.join(kind(m))} | {m.text}, {m.kernel}:{m.number}, noticed before: {killed}", flush=True)
    print(f"seed {seed}: {killed} of {killed + lived} mutants were noticed, {equivalent} more change nothing that is promised")
    enough = ENOUGH if len(chosen) >= MANY else ENOUGH_OF_FEW
    return 0 if killed >= enough * (killed + lived) else 1


def main():
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in ("coverage", "mutants", "missed"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    what, build = sys.argv[1], os.path.abspath(sys.argv[2])
    instructions = all_instructions(build)
    sizes = collections.Counter(i.kernel for i in instructions)
    for kernel in sizes:
        sizes[kernel] += 1  # the end, which is no instruction
    tests = all_tests(build, sizes)
    if what == "mutants":
        usual = LONG if os.environ.get("SWT_LONG", "0") != "0" else DAILY
        return mutants(instructions, tests, int(sys.argv[3]) if len(sys.argv) == 4 else usual)
    return coverage(instructions, tests) if what == "coverage" else missed(instructions, tests)


if __name__ == "__main__":
    sys.exit(main())
