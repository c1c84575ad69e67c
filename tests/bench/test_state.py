#!/usr/bin/python3
"""bench/state: figures from a stand-in whose times are known, and a short run of the real program. Called with the build
folder."""

import os
import re
import sys

sys.dont_write_bytecode = True
from bed import close, rows, run_cases, stand_in, tool  # noqa: E402
from support import BUILD, want, write_text  # noqa: E402  (bed has put its folder into the path)

# 2 MiB in 10 ms; held for 1.2 times as long as a copy takes, by the median of its turns; steps 3 % longer.
SAVE = """
ms = turn(10.0, "save") / 1.1
print(json.dumps(dict(ranks=1, threads=1, mib=2.0, copy_ms=5.0, hold_ms=0.6 * ms, write_ms=ms, write_mibs=2e3 / ms,
                      step_ms=2 * ms, beside_ms=2.06 * ms, steps=4)))
"""


def options(folder):
    return ["--text", write_text(folder), "--folder", folder]


def test_figures(folder):
    stand_in(folder, "bench/bench_save", SAVE)
    args = ["--build", folder, "--rounds", 3, *options(folder)]
    code, out, err = tool("state", *args, "--json")
    want(code == 0, f"exit {code}: {err[-400:]}")
    copy, write, step = rows(out)
    want([row["what"] for row in (copy, write, step)] == ["copy", "write", "step"], out)
    want(close(copy["ratio"], 1.2) and close(copy["ours"], 6.0), out)
    want(close(write["ours"], 200.0) and write["against"] > 0, out)
    want(abs(write["ratio"] - write["against"] / write["ours"]) < 1e-4, out)
    want(close(step["ratio"], 1.03), out)
    code, out, err = tool("state", *args)
    table = [line for line in out.splitlines() if re.match(r"what|copy |write |step ", line)]
    want(code == 0 and len(table) == 4 and "1.50" in table[1] and "1.05" in table[3], out)


def test_failure(folder):
    stand_in(folder, "bench/bench_save", "sys.exit('bench_save: error: broken')")
    code, out, err = tool("state", "--build", folder, *options(folder))
    want(code == 1 and "bench_save: error: broken" in err and not out, f"exit {code}: {err[-400:]}")
    code, _, err = tool("state", "--build", folder, "--folder", os.path.join(folder, "none"))
    want(code == 1 and "none" in err, f"exit {code}: {err[-400:]}")


def test_real(folder):
    code, out, err = tool("state", "--quick", "--json", "--build", BUILD, "--experts", 4, *options(folder))
    want(code == 0, f"exit {code}: {err[-400:]}")
    want(len(rows(out)) == 3 and all(row["ours"] > 0 for row in rows(out)[:2]), out)
    want(not [n for n in os.listdir(folder) if n.startswith("swt-bench-")], f"left: {os.listdir(folder)}")


run_cases(test_figures, test_failure, heavy=test_real)
