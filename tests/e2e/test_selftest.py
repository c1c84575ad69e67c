#!/usr/bin/python3
"""The self-test of the shipped program: its table, on any number of ranks. That it finds what is wrong: tests/judge."""

import os
import re

from support import ROOT, SLOW, Suite, run, want

ROW = re.compile(r"^([a-z_]+) +(\d+) +(exact|[0-9.e+-]+) +([0-9.]+)  (.*)$")

TOGETHER = ["comm_all_to_all", "comm_all_reduce", "comm_all_gather", "comm_broadcast", "ranks_against_one", "ranks_uneven",
            "step_against_cpu"]


def slots():
    """The operations of swt_ops.h, by name."""
    with open(os.path.join(ROOT, "kernels", "swt_ops.h"), encoding="utf-8") as header:
        return re.findall(r"^    X\((\w+)", header.read(), re.M)


def table(ranks, *options):
    done = run(ranks, ["selftest", "--device", "cpu", *options])
    want(done.code == 0 and not done.err.strip(), done.told())
    return done


def passes(ranks, seed):
    done = table(ranks, "--seed", str(seed), "--threads", "1")
    first, heading, *lines, last = done.out.strip().split("\n")
    rows = [ROW.match(line) for line in lines]
    want(all(rows), f"not rows of a table: {[line for line, row in zip(lines, rows) if not row]}")
    names = [row[1] for row in rows]
    want(f"{ranks} rank" in first and f"seed {seed}" in first, first)
    want(heading.split() == ["check", "cases", "worst/allowed", "ms", "result"], heading)
    want(names[: len(slots())] == slots(), f"the operations are {slots()}, the rows {names}")
    want(names[len(slots()) :] == TOGETHER, f"the checks of several operations are {names[len(slots()):]}")
    want(all(row[5] == "ok" and int(row[2]) > 0 for row in rows), done.out)
    want(len({line.index(row[5], row.start(5)) for line, row in zip(lines, rows)}) == 1, "the lines do not line up")
    want(re.fullmatch(rf"{len(rows)} checks: {len(rows)} ok, 0 failed; {ranks} ranks?, [0-9.]+ s", last), last)
    want(SLOW or done.seconds < 60, f"took {done.seconds:.0f} s")


def seed_changes_cases():
    """Another seed draws other numbers; the same one the same."""

    def shares(seed):
        rows = (ROW.match(line) for line in table(1, "--seed", str(seed), "--threads", "1").out.split("\n"))
        return [row[3] for row in rows if row]

    want(shares(5) == shares(5), "the same seed found other errors")
    want(shares(5) != shares(6), "another seed found the same errors")


def refused():
    """It has no model and reads no file."""
    done = run(1, ["selftest", "--experts", "4"])
    want(done.code == 2 and "selftest does not take it" in done.err, done.told())


suite = Suite()
for count in (1, 2, 3):
    suite.case(f"passes on {count} ranks", passes, count, count)
suite.case("the seed decides the cases", seed_changes_cases)
suite.case("flags of a model are refused", refused)
suite.finish()
