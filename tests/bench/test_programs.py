#!/usr/bin/python3
"""The measuring programs run, and their --json is what scripts may rely on. No time is judged here."""

import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
from support import BUILD, LONG, ROOT, Suite, flags, run, scratch, small, succeed, want, write_text  # noqa: E402


def program(name):
    return os.path.join(BUILD, "bench", name)


def rows_of(ranks, name, *args, **how):
    """What the program prints with --json: one object per line, every value a text or a number."""
    result = succeed(ranks, [*args, "--json"], program=program(name), **how)
    rows = [json.loads(line) for line in result.out.splitlines()]
    want(rows, f"no row: {result.told()}")
    for row in rows:
        want(all(isinstance(v, (str, int, float)) for v in row.values()), f"a value is missing: {row}")
    return rows


def have_keys(rows, keys):
    for row in rows:
        want(list(row) == keys.split(), f"keys are {list(row)}, not {keys}")


def table_lines_up(ranks, name, *args):
    """People's table: headings over columns, so every line of it is as long as the first."""
    lines = succeed(ranks, args, program=program(name)).out.splitlines()
    lines = [line for line in lines if len(re.split(r"  +", line.strip())) > 4]
    want(len(lines) > 1 and len({len(line) for line in lines}) == 1, "\n".join(lines))


def refused(name, *args):
    result = run(1, args, program=program(name))
    want(result.code == 2 and result.err.startswith(f"{name}: error: ") and ";" in result.err, result.told())


def ops():
    """Every slot of the table is measured, and shares are figures by the machine's."""
    with open(os.path.join(ROOT, "kernels", "swt_ops.h"), encoding="utf-8") as f:
        slots = set(re.findall(r"^    X\((\w+)", f.read(), re.MULTILINE))
    rows = rows_of(1, "bench_ops", "--ms", "1", "--threads", "2")
    have_keys(rows, "op shape threads ms ms_min gflops gbps product_share copy_share")
    want({row["op"] for row in rows} == slots, f"not measured: {slots - {row['op'] for row in rows}}")
    for row in rows:
        want(row["threads"] == 2 and 0 <= row["ms_min"] <= row["ms"], f"{row}")
        # 2 N in out floating-point operations; a millisecond holds 1e6 of them per GFLOP/s
        if row["op"].startswith("linear"):
            n, inputs, outputs = map(int, row["shape"].split("x"))
            flops = 2 * n * inputs * outputs
            want(abs(row["gflops"] * row["ms"] * 1e6 / flops - 1) < 1e-6, f"{row}")


def chosen_ops():
    want({row["op"] for row in rows_of(1, "bench_ops", "--ms", "1", "--preset", "layer", "--only", "norm")} ==
         {"norm_forward", "norm_backward"}, "--only norm")
    table_lines_up(1, "bench_ops", "--ms", "1", "--only", "router")


def step():
    with scratch() as folder:
        options = [*flags(small()), "--data", write_text(folder), "--steps", "4"]
        for ranks in (1, 2):
            rows = rows_of(ranks, "bench_step", *options)
            have_keys(rows[:-1], "phase op calls ms share")
            have_keys(rows[-1:], "phase ranks threads step_ms step_ms_min tokens_per_s")
            calls = {row["op"]: row["calls"] for row in rows[:-1]}
            turns = 4 // ranks  # 4 micro-batches, 2 layers
            for op, number in (("attention_forward", 2 * turns), ("experts_forward", 2 * turns), ("adam", 1)):
                want(calls[op] == number, f"{op}: {calls[op]} calls on {ranks} ranks, not {number}")
            phases = {"forward", "backward", "reduction", "optimiser", "waiting", "other"}
            phases |= {"exchange"} if ranks > 1 else set()  # a rank alone writes messages where they arrive
            want({row["phase"] for row in rows[:-1]} == phases, f"{rows}")
            want(all(row["ms"] >= 0 for row in rows[:-1]), f"a time is negative: {rows}")
            # the rows are disjoint and cover the step; 9 digits are printed
            want(abs(sum(row["share"] for row in rows[:-1]) - 1) < 1e-6, f"shares: {rows}")
            last = rows[-1]
            want(last["phase"] == "step" and last["ranks"] == ranks, f"{last}")
            want(0 < last["step_ms_min"] <= last["step_ms"], f"{last}")
            want(abs(last["tokens_per_s"] * last["step_ms"] / 1e3 / (4 * 2 * 16) - 1) < 1e-6, f"{last}")
        ops_run = {row.get("op") for row in rows_of(1, "bench_step", *options, "--no-sums")}
        want(not ops_run & {"grad_add", "grad_finish"}, f"--no-sums: {ops_run}")
        said = succeed(1, [*options, "--no-sums"], program=program("bench_step")).out
        want("the training was wrong" in said, said)


def comm():
    for ranks in (1, 2, 3):
        rows = rows_of(ranks, "bench_comm", "--rounds", "1", launched=True)
        have_keys(rows, "call ranks bytes ms algbw_gbs busbw_gbs mpi_ms ratio")
        for call, share in (("all_to_all", (ranks - 1) / ranks), ("all_reduce_i64", 2 * (ranks - 1) / ranks),
                            ("broadcast", 1)):
            own = [row for row in rows if row["call"] == call]
            # the largest multiple of 8 bytes for every rank
            want([row["bytes"] for row in own] == [4**n // (8 * ranks) * 8 * ranks for n in range(6, 13)], f"{own}")
            for row in own:
                want(abs(row["busbw_gbs"] - share * row["algbw_gbs"]) <= 1e-6 * row["algbw_gbs"], f"{row}")
                want(abs(row["ratio"] * row["ms"] / row["mpi_ms"] - 1) < 1e-6, f"{row}")


def layer():
    size = ["--tokens", "64", "--width", "32", "--hidden", "48", "--experts", "4", "--repeats", "3"]
    for ranks in (1, 2):
        for what, extra in (("layer", []), ("dense", ["--dense"])):
            (row,) = rows_of(ranks, "bench_layer", *size, *extra)
            have_keys([row], "what ranks threads tokens ms ms_min dropped")
            want(row["what"] == what and row["ranks"] == ranks and row["tokens"] == 64, f"{row}")
            want(0 < row["ms_min"] <= row["ms"] and 0 <= row["dropped"] < 0.5, f"{row}")
    # one slot for each of 4 experts: at least 60 of 64 tokens find none
    (row,) = rows_of(1, "bench_layer", *size, "--capacity-factor", "0.0625")
    want(60 / 64 <= row["dropped"] < 1, f"{row}")


def save():
    """Nothing of the checkpoints that it writes stays."""
    with scratch() as folder:
        options = [*flags(small()), "--data", write_text(folder), "--rounds", "2", "--folder", folder]
        for ranks in (1, 2):
            (row,) = rows_of(ranks, "bench_save", *options)
            have_keys([row], "ranks threads mib copy_ms hold_ms write_ms write_mibs step_ms beside_ms steps")
            want(row["ranks"] == ranks and 0 < row["copy_ms"] and 0 < row["hold_ms"], f"{row}")
            # 3 values of 4 bytes for each parameter, which every layout has as many of
            want(row["mib"] == rows_of(1, "bench_save", *options)[0]["mib"], f"{row}")
            want(abs(row["write_mibs"] * row["write_ms"] / 1e3 / row["mib"] - 1) < 1e-6, f"{row}")
            want(os.listdir(folder) == [os.path.basename(options[options.index("--data") + 1])], f"{os.listdir(folder)}")


def refusals():
    refused("bench_ops", "--preset", "t5")
    refused("bench_ops", "--ms", "0")
    refused("bench_step", "--no-such-flag")
    refused("bench_step", "plan")
    refused("bench_comm")
    refused("bench_layer", "--capacity-factor", "-1")
    refused("bench_layer", "--tokens")
    refused("bench_save", "--rounds", "0")


def names():
    """Every program has its script, which knows itself by its name."""
    made = {n for n in os.listdir(os.path.join(BUILD, "bench")) if re.fullmatch(r"bench_\w+", n)}
    for name in made:
        script = os.path.join(ROOT, "bench", name)
        want(os.access(script, os.X_OK), f"{script}: is not there or cannot be run")
    want(len(made) == 5, f"{made}")


suite = Suite()
for case in (ops, chosen_ops, step, comm, layer, save, refusals, names):
    suite.case(case.__name__, case, heavy=case in (ops, chosen_ops) and not LONG)
suite.finish()
