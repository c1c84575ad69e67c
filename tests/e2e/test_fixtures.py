#!/usr/bin/python3
"""Every fixture of the oracle passes its checker, with the same bytes in every layout: on 1 to 4 ranks with 1 and 2
threads, in builds with CUDA on 1, 2 and 4 GPUs."""

import os
import subprocess
import sys

from support import CUDA, FIXTURES, GPUS, LONG, ORACLE, SLOW, Suite, digest, probe_args, scratch, succeed, want


def probe(fixture, folder, ranks, threads):
    out = os.path.join(folder, f"{ranks}-{threads}.safetensors")
    device = "cpu" if CUDA == "OFF" else "cuda"
    case = os.path.join(FIXTURES, fixture)
    succeed(ranks, [*probe_args(case, out=out, threads=threads, device=device), "--optim-steps", 3])
    return out


def check(fixture):
    # The layouts' files are the same byte for byte, so that one of them stands for all before the oracle.
    layouts = [(ranks, threads) for ranks in (1, 2, 3, 4) for threads in (1, 2)]
    if CUDA != "OFF":
        layouts = [(ranks, 1) for ranks in (1, 2, 4) if ranks <= GPUS]
    elif SLOW and not LONG:
        layouts = [(1, 2), (3, 1)]
    with scratch() as folder:
        outs = {layout: probe(fixture, folder, *layout) for layout in layouts}
        first = outs[layouts[0]]
        judged = subprocess.run(
            [sys.executable, os.path.join(ORACLE, "oracle.py"), "check", os.path.join(FIXTURES, fixture), first],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        want(judged.returncode == 0, judged.stdout.strip().replace("\n", "; ") + judged.stderr)
        for (ranks, threads), out in outs.items():
            want(digest(out) == digest(first), f"{ranks} ranks of {threads} threads: other bytes than {layouts[0]}")


def main():
    if CUDA != "OFF" and GPUS == 0:
        print("skipped: no GPU")
        sys.exit(77)
    suite = Suite()
    for fixture in sorted(os.listdir(FIXTURES)):
        suite.case(fixture, check, fixture)
    suite.finish()


main()
