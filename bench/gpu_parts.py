"""Parts of a check, run in turn: what each printed, what came of it, and a report that is there at every moment."""

import os
import re
import shutil
import signal
import subprocess
import tarfile
import time

import gpu_report
import support
from gpu_report import FAILED, OK, SKIPPED

PART_LIMIT_S = 3600
# A call that fails on purpose (the tests do) is no finding; what a kernel does is.
FOUND = 9  # the exit code of findings
SANITIZER = ["compute-sanitizer", "--report-api-errors", "no", "--error-exitcode", str(FOUND), "--tool"]


class Skip(Exception):
    """A part that cannot run here; the message says why."""


class Bad(Exception):
    """A part that ran and failed; the message says how."""


class Slow(Bad):
    """A part that did not end in its time."""


def kernels_named(text):
    """The kernels that compute-sanitizer names in what it found."""
    return set(re.findall(r"\bat (?:void )?(?:[\w:]*::)?(\w+)[<(]", text))


class Parts:
    """The parts in turn. facts: what the report says of the run as a whole; pack: the file that the folder goes into."""

    def __init__(self, out, build, facts, budget_s=None, pack=None):
        self.out, self.build, self.facts, self.results, self.packed = out, build, facts, [], pack
        self.code = None  # of the last command
        self.environment = {**os.environ, "SWT_TEST_DEVICE": "cuda"}
        self.until = None if budget_s is None else time.monotonic() + budget_s

    @staticmethod
    def log_name(name):
        return re.sub(r"[^\w.-]+", "-", name) + ".txt"

    def left_s(self):
        """What is left of the budget."""
        return PART_LIMIT_S if self.until is None else self.until - time.monotonic()

    def run(self, name, command, good=(0,), limit_s=PART_LIMIT_S):
        """Run to the end, the output into the part's file of the report; give what it wrote."""
        limit_s = max(min(limit_s, self.left_s()), 1)
        path = os.path.join(self.out, self.log_name(name))
        with open(path, "a", encoding="utf-8") as log:
            log.write("$ " + " ".join(command) + "\n")
            log.flush()
            start = log.tell()
            try:
                child = subprocess.Popen(
                    command,
                    cwd=support.ROOT,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as why:
                raise Bad(f"{command[0]}: {why.strerror}") from None
            try:
                code = child.wait(limit_s)
            except subprocess.TimeoutExpired:
                raise Slow(f"not done after {limit_s:.0f} s") from None
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        with open(path, encoding="utf-8", errors="replace") as log:
            log.seek(start)
            text = log.read()
        self.code = code
        if code not in good:
            lines = [line for line in text.splitlines() if line.strip()]
            told = [line for line in lines if "error" in line.lower()] or lines[-1:]
            raise Bad(f"exit code {code}: {told[0].strip()[:300] if told else 'it said nothing'}")
        return text

    def program(self, name):
        path = os.path.join(self.build, "" if name == "swt-dist" else "bench", name)
        if not os.access(path, os.X_OK):
            raise Bad(f"{support.shown(path)} was not built")
        return path

    def part(self, name, what, least_s=0):
        """Run one part and book what came of it. One that needs more than is left of the budget is skipped."""
        print(f"{name} ...", flush=True)
        begin = time.monotonic()
        try:
            if self.left_s() < least_s:
                raise Skip(f"{max(self.left_s(), 0):.0f} s are left of the budget, it needs {least_s}")
            status, said = OK, what(name)
        except Skip as why:
            status, said = SKIPPED, {"why": str(why)}
        except (Bad, support.Failed) as why:
            status, said = FAILED, {"why": str(why)}
        except KeyboardInterrupt:
            self.book(name, FAILED, {"why": "interrupted"}, begin)
            raise
        return self.book(name, status, said, begin)

    def book(self, name, status, said, begin):
        seconds = round(time.monotonic() - begin, 1)
        row = {"part": name, "status": status, "seconds": seconds, **(said or {})}
        if os.path.exists(os.path.join(self.out, self.log_name(name))):
            row["log"] = self.log_name(name)
        self.results.append(row)
        self.report()
        why = f": {row['why']}" if "why" in row else ""
        print(f"    {status} after {seconds:.0f} s{why}", flush=True)
        return status

    def report(self):
        """What there is so far, so that it is there whatever ends the check."""
        gpu_report.write(self.out, self.facts, self.results)
        if self.packed:
            part = self.packed + ".part"
            with tarfile.open(part, "w:gz") as tar:
                tar.add(self.out, os.path.basename(self.out))
            os.replace(part, self.packed)

    def sanitize(self, name, tool, commands, limit_s, own_kernels):
        """compute-sanitizer over programs, so many seconds in all. Findings in the kernels of others are told, and count not."""
        if self.facts["emulated"]:
            raise Skip("compute-sanitizer looks at silicon only")
        if not shutil.which("compute-sanitizer"):
            raise Skip("compute-sanitizer is not installed")
        bad, late, others = [], [], set()
        until = time.monotonic() + limit_s
        for command in commands:
            what = " ".join([os.path.basename(command[0]), *command[1:2]])
            try:
                left = max(until - time.monotonic(), 1)
                text = self.run(name, [*SANITIZER, tool, *command], good=(0, FOUND), limit_s=left)
            except Slow:
                late.append(what)
                continue
            except Bad as why:
                bad.append(f"{what}: {why}")
                continue
            named = kernels_named(text)
            if self.code == FOUND and (not named or named & own_kernels):
                told = next((line.strip() for line in text.splitlines() if "error" in line.lower()), "findings")
                bad.append(f"{what}: exit code {FOUND}: {told[:200]} ({', '.join(sorted(named & own_kernels)) or 'no kernel named'})")
            elif self.code == FOUND:
                others |= named
        unseen = f"not done in {limit_s} s: {', '.join(late)}" if late else ""
        if bad or len(late) == len(commands):
            raise Bad("; ".join([*bad, *([unseen] if late else [])]))
        told = [f"{len(commands) - len(late)} programs", unseen]
        told += [f"findings in kernels of others alone: {', '.join(sorted(others))}" if others else ""]
        return {"summary": ", ".join(t for t in told if t)}
