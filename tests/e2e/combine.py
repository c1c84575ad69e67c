"""Combinations of what a test varies: all, or a choice in which every two values meet."""

import itertools

from support import LONG


def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


def pairwise(*factors):
    """A choice of combinations in which every two factors meet with every two of their values. Built row by row: each
    factor in turn takes the value that makes most new pairs with those before it."""
    left = {((i, a), (j, b)) for (i, x), (j, y) in itertools.combinations(enumerate(factors), 2) for a in x for b in y}
    rows = []
    while left:
        row = {}
        first = min(left, key=repr)  # one pair that is still due, so that every row makes progress
        row.update(first)
        for i, values in enumerate(factors):
            if i not in row:
                row[i] = max(values, key=lambda v: sum(tuple(sorted(((i, v), other))) in left for other in row.items()))
        chosen = sorted(row.items())
        left -= set(itertools.combinations(chosen, 2))
        rows.append(tuple(v for _, v in chosen))
    return rows


def choose(*factors):
    """Every combination with SWT_LONG, else a pairwise choice."""
    return list(itertools.product(*factors)) if LONG else pairwise(*factors)
