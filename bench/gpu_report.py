"""The report of launch/gpu-check: results.json to compute with, report.md to read."""

import json
import os

OK, FAILED, SKIPPED = "ok", "FAILED", "skipped"


def shown(value):
    """A value for a table: numbers with four digits that say something."""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value).replace("|", "/")


def is_number(text):
    return text.replace(".", "").replace("-", "").replace("e", "").isdigit()


def table(head, rows):
    """A table in Markdown that lines up as text, too; columns of numbers to the right."""
    cells = [[shown(c) for c in row] for row in [head, *rows]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]
    right = [all(is_number(row[i]) for row in cells[1:]) for i in range(len(head))]

    def line(row):
        aligned = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right)]
        return "| " + " | ".join(aligned) + " |"

    rule = ["-" * (w - 1) + (":" if r else "-") for w, r in zip(widths, right)]
    return [line(cells[0]), line(rule), *(line(row) for row in cells[1:])]


def tables(rows):
    """Rows of one kind (the same keys) share a table."""
    lines, at = [], 0
    while at < len(rows):
        keys, end = list(rows[at]), at
        while end < len(rows) and list(rows[end]) == keys:
            end += 1
        lines += ["", *table(keys, [[row[k] for k in keys] for row in rows[at:end]])]
        at = end
    return lines


def part_row(result):
    note = result.get("why") or result.get("summary") or ("below" if result.get("rows") else "")
    log = result.get("log")
    return [result["part"], result["status"], result["seconds"], note, f"[{log}]({log})" if log else ""]


def head(facts, results):
    """What a hurried reader needs."""
    of = {status: [r for r in results if r["status"] == status] for status in (OK, FAILED, SKIPPED)}
    kind = "emulated GPU" if facts["emulated"] else "GPU"
    lines = [
        "# GPU check",
        "",
        f"Build {facts['build']}, {facts['gpus']} {kind}{'s' if facts['gpus'] != 1 else ''}, {facts['date']}"
        + (", --quick" if facts["quick"] else "")
        + f": {len(of[OK])} parts ok, {len(of[FAILED])} failed, {len(of[SKIPPED])} skipped.",
    ]
    if facts["emulated"]:
        lines += ["", "**On emulated GPUs: this shows that the checks run; times mean nothing.**"]
    for r in of[FAILED]:
        lines += ["", f"**{r['part']} FAILED: {r['why']}**"]
    return lines


def write(folder, facts, results):
    """Both files, from the facts of the run and the results of its parts."""
    with open(os.path.join(folder, "results.json"), "w", encoding="utf-8") as f:
        json.dump({**facts, "parts": results}, f, indent=1)
        f.write("\n")
    lines = head(facts, results)
    lines += ["", *table(["part", "status", "seconds", "", "output"], [part_row(r) for r in results])]
    for r in results:
        if r.get("facts"):
            lines += ["", "## Machine", "", "```text"]
            for key, told in r["facts"].items():
                lines += [f"{key}: {told[0] if len(told) == 1 else ''}".rstrip()] if told else [f"{key}: unknown"]
                lines += [f"    {line}" for line in told] if len(told) > 1 else []
            lines.append("```")
        if r.get("rows"):
            lines += ["", f"## {r['part']}", *(["", r["summary"] + "."] if r.get("summary") else []), *tables(r["rows"])]
    with open(os.path.join(folder, "report.md"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
