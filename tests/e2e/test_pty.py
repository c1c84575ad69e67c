#!/usr/bin/python3
"""The live progress line, on a pseudo-terminal: one line that is drawn again and again in place."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from support import SLOW, Suite, end, flags, read, scratch, small, start, want, write_text


def screen(ranks, folder, options, columns, launched):
    """What the program writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    data = write_text(folder)
    process = start(
        ranks,
        ["--data", data, "--out", os.path.join(folder, f"run-{columns}"), *flags(options)],
        launched,
        stdout=theirs,
        stderr=subprocess.STDOUT,
    )
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + (240 if SLOW else 60)
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.5)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not part:
                break
            shown += part
    else:
        end(process)
        want(False, "did not end in time")
    os.close(ours)
    want(process.wait(10) == 0, f"exit {process.returncode}: {shown[-300:]!r}")
    return shown.decode(errors="replace")


def check_live_line(text, steps, columns):
    lines = text.replace("\r\n", "\n").split("\n")
    live = [line for line in lines if "\r" in line]
    want(len(live) >= 1, f"no line is drawn again in place: {lines[:12]}")
    frames = [frame for line in live for frame in line.split("\r") if frame.strip()]
    want(len(frames) >= 3, f"only {len(frames)} frames: {frames}")
    seen = 0
    for frame in frames:
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame)
        if re.match(r"step +\d+  evaluation ", plain):  # one that takes long enough to be drawn
            continue
        match = re.match(r"step +(\d+)/(\d+) ", plain)
        want(match and int(match[2]) == steps, f"a frame does not begin with the step: {plain!r}")
        want(int(match[1]) >= seen, f"the step goes back: {plain!r}")
        seen = int(match[1])
        want(len(plain) < columns, f"{len(plain)} characters on {columns} columns")
        # The loss is that of the last log interval's end: there is none before the first.
        form = r"loss +\d+\.\d+ .*\d tokens/s.*left (> )?\d" if seen >= 10 else r"\d tokens/s.*left (> )?\d"
        want(columns < 80 or re.search(form, plain), f"loss, tokens/s or time left is missing: {plain!r}")
        # What a longer frame left behind the shorter one must go.
        want(frame.rstrip("\n").endswith("\x1b[K"), f"the rest of the line is not erased: {frame!r}")
    want(seen == steps, f"the last frame shows step {seen} of {steps}")
    # One live line between two other lines: as many as evaluations and the end break it.
    want(len(live) <= 4, f"{len(live)} live lines: {live[:6]}")
    want(
        not [line for line in lines if line.startswith("step") and "\r" not in line and "/" in line],
        "progress lines besides the live one",
    )


def live_line(ranks, launched, columns):
    with scratch() as folder:
        options = small(train_steps=60 if SLOW else 200, train_log_every=10, train_eval_every=0, batch_seq_len=32)
        text = screen(ranks, folder, options, columns, launched)
        check_live_line(text, options["train.steps"], columns)
        want("valid_loss" in text and "done" in text, f"other lines are missing: {text[-300:]!r}")
        log = read(os.path.join(folder, f"run-{columns}", "log.txt"))
        due = options["train.steps"] // 10
        want(
            len(re.findall(r"^step +\d+/", log, re.M)) == due and "\r" not in log and "\x1b" not in log,
            "log.txt has not a line per interval",
        )


def main():
    suite = Suite()
    suite.case("live line of a single process", live_line, 1, False, 120)
    suite.case("live line on a narrow terminal", live_line, 1, False, 40, heavy=True)
    suite.case("live line through launch/run on 2 ranks", live_line, 2, True, 120)
    suite.finish()


main()
