#!/usr/bin/python3
"""Every command that README.md and docs/*.md show is run, and every output shown beside one is what it prints.

  test_docs.py BUILD            compare
  test_docs.py BUILD --write    write the outputs into the pages

A command is a line of an indented code block, or words in backquotes, that begins as one (BEGINS). How each is run stands
in commands.txt; one that is missing there is an error, and so is a line there that no page needs. Commands run in a folder of their own with links to
the tree and build/cpu first in the path. An output is the block behind the line <!-- printed by: COMMAND -->; of one behind
<!-- shortened from: COMMAND --> each line is there, whatever its decimals. What pages name is tests/lint/test_docs.py's.

The text is the one that launch/dataset fetches where it is there. Elsewhere one of as many characters, as many of them different,
stands in: then losses and shares are not compared. Speeds, times and hashes never are: they are the machine's.
"""

import difflib
import glob
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build", "cpu"))
BEGINS = re.compile(
    r"(\$ )?(export |F=|([A-Z_]+=\S+ )*((\./)?(launch|bench|tests|build)/\S+|swt-dist|mpirun|cmake|ctest|python3|apt-get)(?= |$))"
)
PRINTED = re.compile(r"^<!-- printed by: (.*) -->\n\n((?:    .*\n|\n(?=    ))+)", re.M)
SHORTENED = re.compile(PRINTED.pattern.replace("printed by", "shortened from"), re.M)
CHARACTERS = 1115394  # of tiny Shakespeare, 65 different ones
MACHINE = [  # what is the machine's, and what stands in its place
    (re.compile(r"\d+ tokens/s"), "N tokens/s"),
    (re.compile(r"left (> )?\d+ s.*$", re.M), "left N s"),
    (re.compile(r"^step +\d+ +evaluation .*\n", re.M), ""),  # said where one takes long
    (re.compile(r"(hash) [0-9a-f]{16}"), r"\1 H"),
    (re.compile(r" +"), " "),
]
OF_THE_TEXT = re.compile(r"(?<=\d)\.\d+|(?<=dropped )\d+(?=[. ])")
ROUNDED = re.compile(r"(?<=\d\.\d)\d{3}\b|(?<=dropped )\d+\.\d")  # one digit of losses is the same on every processor
WORST = re.compile(r"worst \S+ \S+")


def pages():
    return [os.path.join(ROOT, "README.md"), *sorted(glob.glob(os.path.join(ROOT, "docs", "*.md")))]


def commands_of(page):
    """Commands of a page, whole (joined where a line goes on) and without remarks, in order."""
    text = PRINTED.sub("", open(page, encoding="utf-8").read())
    found, lines = [], iter(text.splitlines())
    for line in lines:
        if not line.startswith("    "):
            found += [c for c in re.findall(r"`([^`]+)`", line) if " " in c and BEGINS.match(c)]
            continue
        command = line.strip()
        while command.endswith("\\"):
            command = command[:-1].rstrip() + " " + next(lines).strip()
        if BEGINS.match(command):
            found.append(re.split(r"\s+# |\s{3,}", command.removeprefix("$ "))[0].strip())
    return found


def table():
    """commands.txt: {command: how}. A line is `command => how`; lines with # are remarks."""
    out = {}
    with open(os.path.join(HERE, "commands.txt"), encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                command, how = line.rstrip("\n").split(" => ")
                out[command.strip()] = how.strip()
    return out


def the_text(folder):
    """Where the text is; is it the real one?"""
    here = [os.environ.get("SWT_DATA", ""), os.path.join(ROOT, "data", "tinyshakespeare.txt")]
    for path in here:
        if os.path.isfile(path) and os.path.getsize(path) == CHARACTERS:
            return path, True
    letters = "\n !$&',-.3:;?" + "".join(chr(c) for c in [*range(65, 91), *range(97, 123)])
    path = os.path.join(folder, "text.txt")
    with open(path, "w", encoding="utf-8") as f:
        f.write(letters + "".join(random.Random(1).choices(letters, k=CHARACTERS - len(letters))))
    return path, False


class Shell:
    """A folder with links to the tree, where commands run one after the other as a reader would type them."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "swt-dist")
        os.makedirs(os.path.join(self.folder, "build"))
        for name in ["launch", "configs", "tests", "bench", "docs"]:
            os.symlink(os.path.join(ROOT, name), os.path.join(self.folder, name))
        os.symlink(BUILD, os.path.join(self.folder, "build", "cpu"))
        path, self.real = the_text(folder)
        os.mkdir(os.path.join(self.folder, "data"))
        shutil.copy(path, os.path.join(self.folder, "data", "tinyshakespeare.txt"))  # the program prints a link's target
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("SWT_", "OMP_", "GOMP_"))}
        self.environment["PATH"] = os.path.join(self.folder, "build", "cpu") + ":/usr/bin:" + os.environ["PATH"]
        self.settings = ""

    def run(self, command, code=0):
        if re.match(r"(export |F=)\S+$", command):
            self.settings += command + "; "
        done = subprocess.run(
            ["bash", "-c", self.settings + command], cwd=self.folder, env=self.environment, text=True, timeout=600,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        wrong = "" if done.returncode == code else f"exit code {done.returncode}, not {code}: {done.stdout[-600:]}"
        return done.stdout, wrong


def packages():
    """The packages that launch/lib.sh installs."""
    script = '. launch/lib.sh; echo "${SWT_BUILD_PACKAGES[@]} ${SWT_TEST_PACKAGES[@]}"'
    return subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def carry_out(shell, command, how):
    """What is wrong with a command, and what it printed."""
    kind, _, rest = how.partition(" ")
    if kind == "run":
        return reversed(shell.run(rest or command))
    if kind == "exit":  # an example of a refusal
        return reversed(shell.run(command, int(rest)))
    if kind == "test":  # a test of its own runs it
        missing = [t for t in rest.split() if not os.path.exists(os.path.join(ROOT, t))]
        return (f"{missing} is not there" if missing else ""), ""
    if kind == "packages":
        missing = [w for w in command.split()[2:] if not w.startswith("-") and w not in packages()]
        return (f"launch/lib.sh does not install {missing}" if missing else ""), ""
    if kind == "syntax":  # needs what no test machine must have; the file is there and is a program
        program = next(w for w in command.split() if "=" not in w)
        there = shutil.which(program) or os.path.exists(os.path.join(ROOT, program)) or "build/" in program
        return ("" if there else f"{program} is not there"), ""
    return f"commands.txt: how is {how!r}?", ""


def compared(text, real):
    for pattern, instead in MACHINE:
        text = pattern.sub(instead, text)
    text = re.sub(r" *\n *", "\n", WORST.sub("worst W", text).strip())
    if not real:
        text = "\n".join(OF_THE_TEXT.sub("", x) if x.startswith("step ") else x for x in text.splitlines())
    return "\n".join(ROUNDED.sub("", x) if x.startswith("step ") else x for x in text.splitlines())


def bare(line):
    """A line without the decimals of its numbers and the spaces before them."""
    return re.sub(r"\s+", " ", re.sub(r"\d+\.\d+", "X", line)).strip()


def outputs(page, printed, real, write):
    """Compare or write the outputs that a page shows; says what is wrong."""
    text, wrong = open(page, encoding="utf-8").read(), []
    for shown in PRINTED.finditer(text):
        command = shown.group(1)
        if command not in printed:
            wrong.append(f"shows what {command!r} prints, and no page shows that command")
            continue
        now = printed[command].rstrip() + "\n"
        was = re.sub(r"^    ", "", shown.group(2), flags=re.M)
        if write:
            block = "".join("    " + x.rstrip() + "\n" if x.strip() else "\n" for x in now.splitlines())
            text = text.replace(shown.group(0), f"<!-- printed by: {command} -->\n\n{block}")
        elif compared(was, real) != compared(now, real):
            both = [compared(x, real).splitlines() for x in (was, now)]
            wrong.append(f"{command} prints something else:\n" + "\n".join(difflib.unified_diff(*both, "page", "now", lineterm="")))
    for shown in SHORTENED.finditer(text):
        there = {bare(x) for x in printed.get(shown.group(1), "").splitlines()}
        lines = [bare(x) for x in shown.group(2).splitlines()]
        wrong += [f"{shown.group(1)} prints no line {x!r}" for x in lines if x not in there | {"", "..."}]
    if write:
        with open(page, "w", encoding="utf-8") as f:
            f.write(text)
    return wrong


def main():
    write, how_to, seen, printed, failures = "--write" in sys.argv, table(), set(), {}, []
    with tempfile.TemporaryDirectory(prefix="swt-docs-") as folder:
        shell = Shell(folder)
        if shell.run("python3 -c 'import numpy'")[1]:
            print("skipped: numpy is not installed")
            return 77
        for page in pages():
            for command in commands_of(page):
                if command in seen:
                    continue
                seen.add(command)
                if command not in how_to:
                    failures.append(f"{os.path.basename(page)}: {command}: does not stand in tests/docs/commands.txt")
                    continue
                begin = time.monotonic()
                wrong, printed[command] = carry_out(shell, command, how_to[command])
                print(f"{'MISS' if wrong else 'ok':5}{time.monotonic() - begin:5.1f} s  {command}", flush=True)
                failures += [f"{os.path.basename(page)}: {command}: {wrong}"] if wrong else []
        failures += [f"commands.txt: {c}: no page shows it" for c in how_to if c not in seen]
        for page in pages():
            failures += [f"{os.path.basename(page)}: {w}" for w in outputs(page, printed, shell.real, write)]
    print("\n".join(failures))
    print(f"{len(seen)} commands, {len(failures)} wrong; the text is {'the real one' if shell.real else 'a stand-in'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
