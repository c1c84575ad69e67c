#!/usr/bin/python3
"""bench/scaling: table, CSV and plot from stand-ins whose cost per FLOP is known, and a short run of
the real programs. Called with the build folder."""

import csv
import os
import re
import shutil
import sys
import xml.etree.ElementTree

sys.dont_write_bytecode = True
from bed import close, rows, run_cases, stand_in, tool  # noqa: E402
from support import BUILD, ROOT, want, write_text  # noqa: E402  (bed has put its folder into the path)

# Steps at 10 GFLOP/s on each core, but two ranks of one thread take 1.5 times as long.
TRAINING = """
B, M = int(flag("--batch.sequences")), int(flag("--batch.micro_batches"))
threads, steps, out = int(flag("--threads")), int(flag("--train.steps")), flag("--out")
flops = M * B * 64 * 5e6
ms = flops / 1e7 / min(len(os.sched_getaffinity(0)), ranks * threads)
if (ranks, threads) == (2, 1):
    ms *= 1.5
os.mkdir(out)
with open(os.path.join(out, "metrics.jsonl"), "w") as f:
    for step in range(1, steps + 1):
        row = dict(step=step, tokens=step * M * B * 64, step_ms=ms, flops_useful=flops)
        f.write(json.dumps(row) + chr(10))
"""
# A layer at 10 GFLOP/s a core, a tenth of the tokens dropped; 256 experts take 1.3 times as long, and
# so does the least time of width 512 alone.
LAYER = """
tokens, threads = int(flag("--tokens")), int(flag("--threads"))
width, hidden = int(flag("--width", "256")), int(flag("--hidden", "1024"))
experts = int(flag("--experts", "8"))
flops = 12 * 0.9 * tokens * width * hidden + 6 * tokens * width * experts
ms = flops / 1e7 / threads * (1.3 if experts == 256 else 1.0)
print(json.dumps(dict(what="layer", ranks=1, threads=threads, tokens=tokens, ms=ms,
                      ms_min=ms * (1.3 if width == 512 else 1.0), dropped=0.1)))
"""


def stand_ins(folder):
    stand_in(folder, "swt-dist", TRAINING)
    stand_in(folder, "bench/bench_layer", LAYER)
    return ["--build", folder, "--text", write_text(folder), "--out", os.path.join(folder, "out")]


def read_files(folder):
    with open(os.path.join(folder, "out", "scaling.csv"), encoding="utf-8", newline="") as f:
        table = list(csv.DictReader(f))
    words = [e.text for e in xml.etree.ElementTree.parse(os.path.join(folder, "out", "scaling.svg")).iter() if e.text]
    return table, words


def test_costs(folder):
    """Every sweep is there, and exactly what costs more is named. Weak: tokens grow with the cores that are asked for;
    strong: they stay."""
    code, out, err = tool("scaling", "--rounds", 1, *stand_ins(folder))
    want(code == 0, f"exit {code}: {err[-400:]}")
    table, words = read_files(folder)
    cores = min(2, len(os.sched_getaffinity(0)))  # the tool is given two
    if cores == 2:
        layouts = [("1", "1"), ("1", "2"), ("2", "1"), ("4", "1"), ("2", "2")]
        for sweep in ("strong", "weak"):
            want([(r["ranks"], r["threads"]) for r in table if r["sweep"] == sweep] == layouts, f"{sweep}: {table}")
    points = {s: [int(r["x"]) for r in table if r["sweep"] == s] for s in ("experts", "tokens", "width")}
    want(
        points
        == {
            "experts": [2**k for k in range(9)],
            "tokens": [2**k for k in range(10, 17)],
            "width": [64, 128, 256, 512, 1024],
        },
        str(points),
    )
    for r in table:
        slow = {("experts", "256"): 1.3}.get((r["sweep"], r["x"]), 1.0)
        if r["sweep"] in ("strong", "weak") and (r["ranks"], r["threads"]) == ("2", "1"):
            slow = 1.5
        want(close(float(r["cost_over_best"]), slow) and close(float(r["cost_over_first"]), slow), str(r))
        want(
            close(float(r["cost_over_best_of_minima"]), 1.3 if (r["sweep"], r["x"]) == ("width", "512") else slow),
            str(r),
        )
        tokens = {"weak": 2048 * int(r["ranks"]) * int(r["threads"]), "strong": 2048}.get(r["sweep"], int(r["tokens"]))
        want(int(r["tokens"]) == tokens, str(r))
        want(int(r["oversubscribed"]) == (int(r["ranks"]) * int(r["threads"]) > cores), str(r))
        want(abs(float(r["tokens_per_s"]) - float(r["tokens"]) / float(r["ms"]) * 1e3) <= 1, str(r))
    named = [line.split(":")[0].strip() for line in out.split("best of the sweep:")[1].splitlines()[1:]]
    many = "" if cores == 2 else ", more than the cores"
    due = [f"{sweep} 2 (2 x 1{many})" for sweep in ("strong", "weak")] + [f"experts 256 (1 x {cores})"]
    want(named == due, f"{named}")
    titles = [w for w in words if w.startswith(("Strong", "Weak", "More", "Wider"))]
    want(len(titles) == 5, f"panels: {titles}")


def test_missing_program(folder):
    flags = stand_ins(folder)
    os.remove(os.path.join(folder, "bench", "bench_layer"))
    code, out, err = tool("scaling", "--quick", *flags)
    want(
        code == 0 and out.count("not measured: ") == 3 and "bench_layer is not there" in out, f"exit {code}: {out}{err}"
    )
    want({r["sweep"] for r in read_files(folder)[0]} == {"strong", "weak"}, "sweeps that can be measured are missing")


def test_errors(folder):
    flags = stand_ins(folder)
    code, _, err = tool("scaling", *flags, "--rounds", "-1")
    want(code == 2 and "bench/scaling: error: " in err, f"exit {code}: {err}")
    code, _, err = tool("scaling", "--quick", *flags, "--out", flags[3])
    want(code == 1 and "text.txt" in err, f"exit {code}: {err}")
    stand_in(folder, "bench/bench_layer", "sys.exit('bench_layer: error: broken')")
    code, _, err = tool("scaling", "--quick", *flags)
    want(code == 1 and "error: broken" in err, f"exit {code}: {err}")


def test_real_programs(folder):
    """A short run: figures for all sweeps, with work and time that fit together."""
    out_folder = os.path.join(folder, "out")
    code, out, err = tool(
        "scaling", "--json", "--quick", "--build", BUILD, "--text", write_text(folder), "--out", out_folder
    )
    want(code == 0, f"exit {code}: {err[-400:]}")
    table = rows(out)
    want({r["sweep"] for r in table} == {"strong", "weak", "experts", "tokens", "width"}, err)
    # no core of today has a peak of 1,000 GFLOP/s, and none is so slow as the lower limit
    want(all(0.001 < r["gflops"] < 1000 * r["ranks"] * r["threads"] for r in table), str(table))
    want(len(read_files(folder)[0]) == len(table), "rows of the CSV")


def test_page(folder):
    """docs/scaling.svg is drawn from docs/scaling.csv, and so are the figures of docs/performance.md."""
    docs = os.path.join(ROOT, "docs")
    shutil.copy(os.path.join(docs, "scaling.csv"), folder)
    with open(os.path.join(docs, "scaling.svg"), encoding="utf-8") as f:
        picture = f.read()
    code, _, err = tool("scaling", "--out", folder, "--redraw", re.findall(r">([^<>]+)</text>", picture)[1])
    want(code == 0, err)
    with open(os.path.join(folder, "scaling.svg"), encoding="utf-8") as f:
        want(f.read() == picture, "docs/scaling.svg is not what bench/scaling --redraw draws from docs/scaling.csv")
    with open(os.path.join(docs, "scaling.csv"), encoding="utf-8", newline="") as f:
        table = list(csv.DictReader(f))
    with open(os.path.join(docs, "performance.md"), encoding="utf-8") as f:
        page = f.read()
    for sweep in {row["sweep"] for row in table}:
        cells = re.findall(rf"^\| {sweep}\b.*$", page, re.M)[-1].split("|")
        for cell, column in ((cells[3], "cost_over_best"), (cells[4], "cost_over_best_of_minima")):
            own = [r for r in table if r["sweep"] == sweep]
            costs = {f"{float(r[column]):.2f}" for r in own}
            worst = max(float(r[column]) for r in own if r["oversubscribed"] == "0")
            shown = set(re.findall(r"\d\.\d\d", cell))
            want(shown <= costs, f"{sweep}: the page's {shown - costs} do not stand in the CSV")
            want(f"{worst:.2f}" in shown, f"{sweep}: the page does not show the worst, {worst:.2f}")


run_cases(test_page, test_costs, test_missing_program, test_errors, heavy=test_real_programs)
