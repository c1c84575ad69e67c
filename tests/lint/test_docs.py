#!/usr/bin/python3
"""What README.md and the pages under docs/ name is there, and what they count is so.

  test_docs.py BUILD            check
  test_docs.py BUILD --write    write the counts and docs/options.md

Files, functions (swt_...) and keys that a page names exist. docs/reading-order.md: the way through counts its lines of code
and keeps to LIMIT; every function of the step that the page follows is in a file of the way. docs/options.md is what the
program prints. Each check is shown a page that it must catch.
"""

import glob
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build", "cpu"))
LIMIT = 5500  # lines of code that one reads in an afternoon
ORDER = "docs/reading-order.md"
OPTIONS = "docs/options.md"
ROW = re.compile(r"^(\|.*\|) *([\d,]*) *\|$")  # of the way through; the last column is a count


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        return f.read()


def write(name, text):
    with open(os.path.join(ROOT, name), "w", encoding="utf-8") as f:
        f.write(text)


def section(text, title):
    """From a title to the next."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def sources():
    """The text of everything that the program is made of."""
    paths = [p for f in ("src", "kernels", "comm") for p in glob.glob(os.path.join(ROOT, f, "**", "*.[hc]*"), recursive=True)]
    return "".join(read(p) for p in paths)


SOURCES = sources()
WORDS = set(re.findall(r"\w+", SOURCES))
KEYS = set(re.findall(r"^\| `([a-z0-9_.]+)`", read(OPTIONS), re.M))
SECTIONS = "|".join(sorted({k.split(".")[0] for k in KEYS}))


def names(page, text):
    """Files, functions and keys that a page names and that are not there."""
    links = [os.path.join(os.path.dirname(page), x) for x in re.findall(r"\]\(([^)#:]+)[)#]", text)]
    quoted = re.findall(r"`(?:\./)?((?:docs|src|kernels|comm|launch|configs|tests|bench)/[\w./-]*[\w/])`", text)
    wrong = [f"{page}: names {x}, which does not exist" for x in sorted({*links, *quoted}) if not os.path.exists(os.path.join(ROOT, x))]
    wrong += [f"{page}: no source has {x}" for x in sorted(set(re.findall(r"\bswt_\w+", text)) - WORDS)]
    keys = set(re.findall(rf"`((?:{SECTIONS})\.[a-z0-9_]+)[`:]", text)) - KEYS
    return wrong + [f"{page}: {x} is no key" for x in sorted(keys) if not os.path.exists(os.path.join(ROOT, "src", x))]


def code_lines(files):
    """How many lines of these files are neither blank nor comment."""
    paths = [os.path.join(ROOT, f) for f in files]
    lines = subprocess.run(["awk", "-f", os.path.join(HERE, "code.awk"), *paths], capture_output=True, text=True, check=True).stdout
    return sum(1 for line in lines.splitlines() if line.split(":", 2)[2].strip())


def way_of(text):
    """The files of the way through: a list for each row of its table."""
    rows = [ROW.match(line) for line in section(text, "The way through").splitlines()]
    return [(row, re.findall(r"`([^`\s]+/[^`\s]+\.\w+)`", row[1].split("|")[2])) for row in rows if row]


def counted(text):
    """The page with its lines counted (tens, and what is left in all), and how many they are."""
    total, old = 0, section(text, "The way through")
    new = old
    for row, files in way_of(text):
        lines = code_lines(files) if files else total
        total += lines if files else 0
        new = new.replace(row[0], f"{row[1]} {round(lines, -1):,} |")
    return text.replace(old, new), total


def stale(text):
    """What is wrong with the counts: a tenth and ten lines may be off, so that not every change is one of this page, too."""
    now, total = counted(text)
    wrong = [f"{ORDER}: the way through is {total:,} lines of code; {LIMIT:,} is the limit"] if total > LIMIT else []
    for (shown, _), (right, _) in zip(way_of(text), way_of(now)):
        was, lines = (int(x[2].replace(",", "") or 0) for x in (shown, right))
        if abs(was - lines) > 10 + lines / 10:
            wrong.append(f"{ORDER}: {lines} lines of code, not {was}: {shown[1]}; write them with: tests/lint/test_docs.py BUILD --write")
    return wrong


def followed(text):
    """Functions of the step that are in no file of the way; an operation is in the list of them all."""
    way = "".join(read(f) for _, files in way_of(text) for f in files)
    there = set(re.findall(r"^[a-zA-Z_][\w *]*?\b(\w+)\(", way, re.M)) | {"swt_" + x for x in re.findall(r"X\((\w+)\)", way)}
    step = "\n".join(x for x in section(text, "A step from start to end").splitlines() if x.startswith("    "))
    missing = sorted(set(re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", step)) - there)
    return [f"{ORDER}: the step names {x}, which is in no file of the way through" for x in missing]


def printed():
    return subprocess.run([os.path.join(BUILD, "swt-dist"), "--help-config=markdown"], capture_output=True, text=True, check=True).stdout


def current(text):
    return [] if text == printed() else [f"{OPTIONS}: not current; write it with: tests/lint/test_docs.py BUILD --write"]


def planted():
    """What the checks do not catch, or catch though it is right."""
    order = read(ORDER)
    first = way_of(order)[0][0][0]
    bad = {
        "a link to no file": names("README.md", "See [the notes](docs/missing.md)."),
        "a link to a part of no file": names("README.md", "See [the notes](docs/missing.md#part)."),
        "a path of no file": names("docs/a.md", "Look at `src/base/missing.c`."),
        "a function that is not there": names("docs/a.md", "It calls swt_no_such_function."),
        "a key that is not there": names("docs/a.md", f"Set `{sorted(KEYS)[0].split('.')[0]}.no_such_key`."),
        "a wrong count": stale(order.replace(first, re.sub(r"\d[\d,]* \|$", "9,000 |", first))),
        "a row without a count": stale(order.replace(first, re.sub(r"\d[\d,]* \|$", "|", first))),
        "a long way": stale(order.replace(first, first + "\n| | `src/train/checkpoint.c` | x | |" * 6)),
        "a step that the way does not have": followed(order.replace("    swt_step_begin ", "    swt_run_create ")),
        "old options": current(read(OPTIONS) + "one more line\n"),
    }
    good = names("docs/testing.md", "See [itself](testing.md), [a site](https://arxiv.org), `docs/testing.md`, swt_step.")
    return [f"this lint does not catch {what}" for what, caught in bad.items() if not caught] + good


def main():
    if not os.path.exists(os.path.join(BUILD, "swt-dist")):
        print(f"{BUILD}/swt-dist: not built")
        return 1
    if "--write" in sys.argv:
        write(ORDER, counted(read(ORDER))[0])
        write(OPTIONS, printed())
    pages = ["README.md", *sorted(os.path.relpath(p, ROOT) for p in glob.glob(os.path.join(ROOT, "docs", "*.md")))]
    wrong = [x for page in pages for x in names(page, read(page))]
    wrong += stale(read(ORDER)) + followed(read(ORDER)) + current(read(OPTIONS)) + planted()
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
