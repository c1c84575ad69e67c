#!/usr/bin/python3
"""Every allocation that a command and its libraries make after main begins, failing in turn.

It ends with exit code 1 and says that it is memory, never that a file is broken; or nobody needed the memory, and
everything is there as without the fault. The daily run takes of every place that allocates the first two, the last and some
between; SWT_LONG=1 takes all.
"""

import os
import shutil

from faults import Command, all_of, commands, ready, scratch
from support import LONG, Miss, Suite, want

OF_A_PLACE = 8


def chosen(requests):
    """[(number, request)] of every place in the code, which the address of the caller tells apart."""
    places = {}
    for number, request in enumerate(requests, 1):
        places.setdefault(request[1], []).append((number, request))
    jobs = []
    for calls in places.values():
        few = {0, 1, len(calls) - 1, *range(0, len(calls), len(calls) // OF_A_PLACE + 1)}
        jobs += [call for i, call in enumerate(calls) if LONG or i in few]
    return sorted(jobs)


def trial(command, number, request):
    outcome = command.run("alloc", number)
    try:
        want(outcome.reported, "the allocation was not made this time")
        if outcome.code == 1 and outcome.err.lstrip().startswith("libgomp: "):
            return None  # the OpenMP library ends the program itself, in its own words
        command.judge.words(outcome, (0, 1))
        want(outcome.code == 0 or "memory" in outcome.err, f"it does not say memory: {outcome.told()}")
        if outcome.code == 0:
            command.judge.unchanged(outcome, stdout=command.stdout)
        command.judge.whole(outcome)
    except (Miss, OSError, ValueError, KeyError) as miss:
        return f"allocation {number}, {request[0]} of {request[2]} bytes: {miss}"
    finally:
        shutil.rmtree(outcome.folder)
    return None


def every_allocation(command: Command):
    requests = command.requests("alloc")
    jobs = chosen(requests)
    misses = all_of(jobs, lambda job: trial(command, *job))
    print(f"     {len(jobs)} of {len(requests)} allocations")
    want(not misses, f"{len(misses)} of {len(jobs)}:\n       " + "\n       ".join(misses[: 200 if LONG else 12]))


def main():
    ready()
    suite = Suite()
    with scratch() as folder:
        for command in commands(folder):
            suite.case(f"every allocation of {command.name}", every_allocation, command)
            shutil.rmtree(os.path.join(folder, command.name))
    suite.finish()


main()
