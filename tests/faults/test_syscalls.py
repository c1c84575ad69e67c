#!/usr/bin/python3
"""Every system call on files that a command makes, failing once, in turn: the n-th with each error that fits it, for all n.

Judged are the exit code and the form of the error's line, that nothing hangs, that exit code 0 means that everything is
there as without the fault, and that what is published is whole whatever happened. An interrupted call (EINTR) and one that
does half of what was asked must change nothing at all.
"""

import errno
import os
import shutil

from faults import Command, all_of, commands, ready, scratch
from support import LONG, Miss, Suite, want

HALF = 0
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


def trial(command, number, request, error):
    """What is wrong with the run whose number-th call fails, or None."""
    name, what, handle = request
    value = getattr(errno, error) if error else HALF
    outcome = command.run("call", number, value)
    try:
        want(outcome.reported, "the call was not made this time")
        # stdio forgets what it holds when a write is interrupted; no command whose product is printed has a signal handler.
        harmless = error == HALF or (error == "EINTR" and handle != "1")
        codes = (0,) if harmless else (0, *command.broken)
        command.judge.words(outcome, codes)
        if outcome.code == 0:
            # What is said in training is no product: the log file has it.
            command.judge.unchanged(outcome, stdout=command.stdout)
        command.judge.whole(outcome)
    except (Miss, OSError, ValueError, KeyError) as miss:
        return f"call {number}, {name} {what} {handle} with {error or 'half'}: {miss}"
    shutil.rmtree(outcome.folder)
    return None


def every_call(command: Command):
    jobs = []
    for number, request in enumerate(command.requests("call"), 1):
        errors = FITTING.get(request[0], NAMES)
        if not LONG:  # the first says that it failed, and each of the others comes in its turn
            errors = tuple(dict.fromkeys((errors[0], errors[number % len(errors)])))
        jobs += [(number, request, error) for error in errors]
    misses = all_of(jobs, lambda job: trial(command, *job))
    print(f"     {len(jobs)} failing calls")
    want(not misses, f"{len(misses)} of {len(jobs)}:\n       " + "\n       ".join(misses[: 200 if LONG else 12]))


def main():
    ready()
    suite = Suite()
    with scratch() as folder:
        for command in commands(folder):
            suite.case(f"every call of {command.name}", every_call, command)
            if os.environ.get("SWT_KEEP") is None:
                shutil.rmtree(os.path.join(folder, command.name))
    suite.finish()


main()
