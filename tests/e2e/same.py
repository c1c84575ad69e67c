"""Whether two runs of one configuration have made the same, bit for bit, on whatever ranks and with whatever in between."""

import json
import os
import re

from support import moments, read, same_tensors, want, weights

TIMES = ("step_ms", "tokens_per_s", "comm_ms")


def rows(out):
    """Every row, times left out."""
    lines = [json.loads(line) for line in read(os.path.join(out, "metrics.jsonl")).splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in lines]


def ledger(out):
    """Its lines without what the times of the rows are in."""
    return [re.sub(r', "metrics": .*', "", line) for line in read(os.path.join(out, "ledger.jsonl")).splitlines()]


def same_run(out, reference, what=""):
    """All that two runs have made is the same, bit for bit: weights, moments, rows, ledger."""
    for name, found in (("weights", weights), ("moments", moments)):
        mine = found(out)
        differ = same_tensors(mine, found(reference))
        want(mine and not differ, f"{what}{name} differ: {differ[:3]}")
    for name, found in (("rows", rows), ("ledgers", ledger)):
        mine, expected = found(out), found(reference)
        first = next((pair for pair in zip(mine, expected) if pair[0] != pair[1]), (len(mine), len(expected)))
        want(mine == expected, f"{what}{name} differ: {first}")
