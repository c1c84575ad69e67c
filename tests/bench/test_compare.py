#!/usr/bin/python3
"""bench/compare: the table from stand-ins whose times are known, what it says when something is
missing or fails, wrong usage, and a short run of the real programs. Called with the build folder."""

import os
import sys

sys.dont_write_bytecode = True
from bed import calls, close, rows, run_cases, stand_in, tool, write  # noqa: E402
from support import BUILD, want, write_text  # noqa: E402  (bed has put its folder into the path)

TRAINING = """
ms = turn({(1, 2): 50.0, (2, 1): 60.0}[ranks, int(flag("--threads"))], f"step {ranks}")
M, B = flag("--batch.micro_batches", 1), flag("--batch.sequences", 32)
steps, out = int(flag("--train.steps")), flag("--out")
os.mkdir(out)
with open(os.path.join(out, "metrics.jsonl"), "w") as f:
    for step in range(1, steps + 1):  # the first steps of a run must not count
        step_ms = 1.0 if step <= 2 else ms
        row = dict(step=step, tokens=step * M * B * 64, step_ms=step_ms, flops_useful=1e9)
        f.write(json.dumps(row) + chr(10))
    f.write(json.dumps(dict(step=steps, valid_loss=3.0)) + chr(10))
"""
LAYER = """
kind = "dense" if "--dense" in args else flag("--experts", "8")
times = {"dense": 200.0, "64": 220.0, "8": 30.0 if ranks == 1 else 36.0}
ms = turn(times[kind], f"layer {kind} {ranks}")
print(json.dumps(dict(ranks=ranks, tokens=int(flag("--tokens")), ms=ms, ms_min=ms / 2, dropped=0)))
"""
STEP = """
ms = turn(100.0 if "--no-sums" in args else 108.0, "bare" if "--no-sums" in args else "sums")
print(json.dumps(dict(phase="forward", op="norm", ms=1.0)))
print(json.dumps(dict(phase="step", step_ms=ms, step_ms_min=ms, tokens_per_s=2048 / ms * 1e3)))
"""
COMM = """
for call, slower in (("all_to_all", 1.0), ("all_reduce_i64", 2.0), ("broadcast", 3.0)):
    for size in (1024, 65536, 1048576, 16777216):
        ms = size / 1e6 * slower
        print(json.dumps(dict(call=call, ranks=ranks, bytes=size, ms=ms, mpi_ms=size / 1e6)))
"""
PEERS = """
what = args[0] + ("+compile" if "--compile" in args else "")
times = {"labml": 250.0, "torch+compile": 120.0, "layer": 55.0, "layer+compile": 37.5}
ms = turn(times[what], what, third=1.2)
tokens = 1024 if args[0] == "layer" else 2048
print(json.dumps(dict(what=what, step_ms=ms, step_ms_min=ms / 2, tokens_per_s=tokens / ms * 1e3)))
"""


def stand_ins(folder):
    """A build folder, peers and a Python with torch, none real; the flags that name them."""
    for path, body in (
        ("swt-dist", TRAINING),
        ("bench/bench_layer", LAYER),
        ("bench/bench_step", STEP),
        ("bench/bench_comm", COMM),
        ("peers.py", PEERS),
        ("modules/torch.py", ""),
        ("modules/labml_nn.py", ""),
    ):
        stand_in(folder, path, body)
    write(os.path.join(folder, "modules", "torch.py"), "")
    write(os.path.join(folder, "modules", "labml_nn.py"), "")
    return [
        "--build",
        folder,
        "--peers",
        os.path.join(folder, "peers.py"),
        "--python",
        sys.executable,
        "--text",
        write_text(folder),
    ]


def compare(folder, *args):
    return tool("compare", *args, path=os.path.join(folder, "modules"))


# measure and against begin so; ratio, target and whether it is reached, from the times above
EXPECTED = [
    ("labml's step, 2 threads", "labml", 5.0, ">= 4.00", True),
    ("labml's step, 2 threads", "PyTorch, compiled", 2.4, ">= 2.00", True),
    ("labml's step, 2 ranks", "1 rank", 50 / 60, ">= 0.90", False),
    ("switch layer, 1024", "PyTorch", 30 / 55, "<= 0.60", True),
    ("switch layer, 1024", "PyTorch, compiled", 0.8, "<= 0.75", False),
    ("switch layer, 2 ranks", "1 rank", 1.2, "<= 1.15", False),
    ("64 experts", "dense", 1.1, "<= 1.15", True),
    ("labml's step, M = 4", "without", 1.08, "<= 1.10", True),
    *[("all-to-all, " + size, "raw MPI", 1.0, ">= 0.95", True) for size in ("64 KiB", "1 MiB", "16 MiB")],
    *[("all-reduce of int64, " + size, "raw MPI", 0.5, ">= 0.95", False) for size in ("64 KiB", "1 MiB", "16 MiB")],
]


def test_table(folder):
    """Each row's ratio, target and verdict; medians over rounds; everything in turn."""
    code, out, err = compare(folder, "--json", "--rounds", 3, *stand_ins(folder))
    want(code == 0, f"exit {code}: {err[-400:]}")
    got = rows(out)
    want(len(got) == len(EXPECTED), f"{len(got)} rows")
    for row, (measure, against, ratio, target, reached) in zip(got, EXPECTED):
        want(row["measure"].startswith(measure) and row["against"].startswith(against), f"order: {row}")
        want(close(row["ratio"], ratio) and row["target"] == target and row["reached"] is reached, f"{ratio}: {row}")
    want(close(got[0]["base"], 2048 / 275 * 1e3), f"not the median over three rounds: {got[0]}")
    want(close(got[0]["ours"], 2048 / 55 * 1e3), f"the first steps count, or not the median: {got[0]}")
    want(close(got[0]["ratio_of_minima"], 125 / 50), f"not the least times: {got[0]}")
    order = calls(folder)
    want(order == 3 * order[: len(order) // 3], f"not in turn: {order}")
    want(order.index("labml") + 1 == order.index("step 1"), f"ours is not beside the peer: {order}")


def test_printed_table(folder):
    code, out, err = compare(folder, "--quick", "--only", "layer", *stand_ins(folder))
    want(code == 0, f"exit {code}: {err[-400:]}")
    lines = out.splitlines()
    want(len(lines) == 7 and lines[2].split()[0] == "measure", out)
    want([line.split()[-1] for line in lines[4:]] == ["yes", "no", "no"], out)


def test_no_peers(folder):
    """Without torch, the rows of the peers say so and the others are measured."""
    flags = stand_ins(folder)
    flags[flags.index("--python") + 1] = write(os.path.join(folder, "no-torch"), "#!/bin/sh\nexit 1\n", program=True)
    code, out, err = compare(folder, "--json", "--quick", *flags)
    want(code == 0, f"exit {code}: {err[-400:]}")
    for row, (_, against, *_) in zip(rows(out), EXPECTED):
        if against.startswith(("labml", "PyTorch")):
            want(
                row["ratio"] is None and row["reached"] is None and "cannot import torch" in row["not_measured"],
                str(row),
            )
        else:
            want(row["ratio"] > 0 and row["not_measured"] is None, str(row))
    _, out, _ = compare(folder, "--quick", "--only", "compiled", *flags)
    want(out.count("not measured") == 3 and "--python names one" in out, out)


def test_missing_program(folder):
    flags = stand_ins(folder)
    os.remove(os.path.join(folder, "bench", "bench_step"))
    code, out, _ = compare(folder, "--json", "--quick", "--only", "M = 4", *flags)
    want(code == 0 and "bench_step is not there" in rows(out)[0]["not_measured"], f"exit {code}: {out}")


def test_failing_program(folder):
    """A program of ours that fails is a defect: the other rows are printed, the exit code is 1."""
    flags = stand_ins(folder)
    stand_in(folder, "bench/bench_layer", "sys.exit('bench_layer: error: broken')")
    code, out, err = compare(folder, "--json", "--quick", *flags)
    want(code == 1 and "bench_layer: error: broken" in err, f"exit {code}: {err[-400:]}")
    layers = [row for row in rows(out) if "layer" in row["measure"] or "experts" in row["measure"]]
    want(len(layers) == 4 and all("broken" in row["not_measured"] for row in layers), out)
    want(all(row["ratio"] for row in rows(out) if row not in layers), out)


def test_wrong_usage(folder):
    flags = stand_ins(folder)
    for wrong in (["--only", "nothing like it"], ["--rounds", "0"], ["--rounds", "x"], ["--unknown"]):
        code, out, err = compare(folder, *flags, *wrong)
        want(code == 2 and not out and "bench/compare: error: " in err, f"{wrong}: exit {code}: {err}")
    code, _, err = compare(folder, "--build", folder, "--python", os.path.join(folder, "none"))
    want(code == 2 and "is not a program" in err, f"exit {code}: {err}")


def test_real_programs(folder):
    """A short run: everything of ours gives a figure. The peers are left out."""
    no_torch = write(os.path.join(folder, "no-torch"), "#!/bin/sh\nexit 1\n", program=True)
    code, out, err = tool(
        "compare", "--json", "--quick", "--build", BUILD, "--text", write_text(folder), "--python", no_torch
    )
    want(code == 0, f"exit {code}: {err[-400:]}")
    for row, (_, against, *_) in zip(rows(out), EXPECTED):
        peer = against.startswith(("labml", "PyTorch"))
        want(row["ours"] is not None and row["ours"] > 0, str(row))
        want((row["ratio"] is None) == peer, str(row))


run_cases(
    test_table,
    test_printed_table,
    test_no_peers,
    test_missing_program,
    test_failing_program,
    test_wrong_usage,
    heavy=test_real_programs,
)
