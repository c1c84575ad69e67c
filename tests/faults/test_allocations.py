#!/usr/bin/python3
"""Every allocation that a command and its libraries make after main begins, failing in turn.

It ends with exit code 1 and says that it is memory, never that a file is broken; or nobody needed the memory, and
everything is there as without the fault. The daily run takes of every place that allocates the first two, the last and some
between; SWT_LONG=1 takes all.
"""

from faults import every_command
from support import LONG, want

OF_A_PLACE = 8


def chosen(requests, few):
    """[(number, request)] of every place in the code, which the address of the caller tells apart."""
    places = {}
    for number, request in requests:
        places.setdefault(request[1], []).append((number, request))
    jobs, parts = [], 2 if few else OF_A_PLACE
    for calls in places.values():
        few = {0, 1, len(calls) - 1, *range(0, len(calls), len(calls) // parts + 1)}
        jobs += [call for i, call in enumerate(calls) if LONG or i in few]
    return sorted(jobs)


def trial(command, outcome, _request):
    if outcome.code == 1 and outcome.err.lstrip().startswith("libgomp: "):
        return  # the OpenMP library ends the program itself, in its own words
    command.judge.words(outcome, (0, 1))
    want(outcome.code == 0 or "memory" in outcome.err, f"it does not say memory: {outcome.told()}")
    if outcome.code == 0:
        command.judge.unchanged(outcome, stdout=command.stdout)
    command.judge.whole(outcome)


every_command("alloc", chosen, trial)
