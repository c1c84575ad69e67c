#!/usr/bin/python3
"""Every system call on files that a command makes, failing once, in turn: the n-th with each error that fits it, for all n.

Judged are the exit code and the form of the error's line, that nothing hangs, that exit code 0 means that everything is
there as without the fault, and that what is published is whole whatever happened. An interrupted call (EINTR) and one that
does half of what was asked must change nothing at all. A disk that alters a byte of a checkpoint's file is found out before
that checkpoint takes the place of another. A training that failed has lost no checkpoint, and goes on to its undisturbed end
when the fault is gone.
"""

import errno

from faults import every_command
from support import LONG

HALF = 0
ALTERED = -1
READS = ("EIO", "EINTR", HALF)
WRITES = ("ENOSPC", "EIO", "EINTR", HALF)
NAMES = ("EACCES", "EIO")
CLOSES = ("EIO", "EINTR")
FITTING = {
    "read": READS,
    "pread64": ("EIO", "EINTR"),
    "readv": ("EIO", "EINTR"),
    "write": WRITES,
    "pwrite64": ("ENOSPC", "EINTR"),
    "writev": ("ENOSPC", "EINTR"),
    "open": ("EACCES", "EMFILE", "EINTR"),
    "openat": ("EACCES", "EMFILE", "EINTR"),
    "close": CLOSES,
    "fsync": ("EIO", "ENOSPC", "EINTR"),
    "fdatasync": ("EIO", "EINTR"),
    "ftruncate": ("EIO", "EINTR"),
    "fallocate": ("ENOSPC", "EINTR"),
    "rename": ("EACCES", "ENOSPC"),
    "renameat": ("EACCES", "ENOSPC"),
    "renameat2": ("EACCES", "ENOSPC"),
    "mkdir": ("EACCES", "ENOSPC"),
    "mkdirat": ("EACCES", "ENOSPC"),
    "lseek": ("EIO",),
    "getdents64": ("EIO",),
    "fstatfs": ("EIO", "EINTR"),
    "statfs": ("EIO", "EINTR"),
    "fcntl": ("EMFILE",),
    "ioctl": ("EIO",),
}


def of_checkpoints(requests):
    """The numbers of the writes into files of a checkpoint."""
    names, found = {}, set()
    for number, request in requests:
        if request[0] == "openat":
            names[request[2]] = request[1]
        elif request[0] == "write" and "/checkpoints/" in names.get(request[2], ""):
            found.add(number)
    return found


def chosen(requests, few):
    """[(number, request, error, its number)]"""
    jobs, checkpoints = [], of_checkpoints(requests)
    for number, request in requests:
        if number in checkpoints:
            jobs.append((number, request, "altered", ALTERED))
        errors = FITTING.get(request[0], NAMES)
        if not LONG:  # the first says that it failed, and each of the others comes in its turn
            errors = tuple(dict.fromkeys((errors[0], errors[number % len(errors)])))
            if few:
                errors = errors[number % 4 == 0 and len(errors) > 1 :][:1]
        jobs += [(number, request, error, getattr(errno, error) if error else HALF) for error in errors]
    return jobs


def trial(command, outcome, request, error):
    # stdio forgets what it holds when a write is interrupted; no command whose product is printed has a signal handler.
    harmless = error == HALF or (error == "EINTR" and request[2] != "1")
    if error == "altered":
        command.judge.words(outcome, (3,))
    else:
        command.judge.words(outcome, (0,) if harmless else (0, *command.broken))
    if outcome.code == 0:
        # What is said in training is no product: the log file has it.
        command.judge.unchanged(outcome, stdout=command.stdout)
    command.judge.whole(outcome)
    if command.trains and outcome.code != 0:
        command.go_on(outcome)


every_command("call", chosen, trial)
