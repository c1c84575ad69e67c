#!/usr/bin/python3
"""The program of a CUDA build starts on every machine: it needs no driver, and says what is missing for a GPU."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import support as e2e  # noqa: E402


def shared_libraries():
    """CUDA's libraries are shared ones, and the driver's is not among them."""
    said = subprocess.run(["readelf", "-d", e2e.PROGRAM], capture_output=True, text=True, check=True).stdout
    needed = [line.split("[")[1].split("]")[0] for line in said.splitlines() if "(NEEDED)" in line]
    for library in ("libcudart.so", "libcublasLt.so", "libnccl.so"):
        e2e.want(any(name.startswith(library) for name in needed), f"{library} is not among {needed}")
    folder = os.path.dirname(e2e.cached("CUDA_cudart_LIBRARY"))
    path = [entry for line in said.splitlines() if "(RUNPATH)" in line for entry in line.split("[")[1][:-1].split(":")]
    system = folder.startswith(("/lib", "/usr/lib"))  # where the loader looks by itself
    e2e.want(system or folder in path, f"the loader looks into {path}, and cudart is in {folder}")
    e2e.want(not any(entry.endswith("stubs") for entry in path), f"stubs would be loaded: {path}")
    e2e.want(not any(name.startswith("libcuda.so") for name in needed), f"libcuda is needed: {needed}")


def says_what_is_missing():
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        args = ["--data", data, "--out", os.path.join(folder, "out"), *e2e.flags(e2e.small(train_steps=1))]
        for ranks, command in ((1, [*args]), (2, [*args]), (1, ["selftest"]), (2, ["selftest"])):
            result = e2e.run(ranks, [*command, "--device", "cuda"])
            lines = [line for line in result.err.splitlines() if line.strip()]
            e2e.want(result.code == 2 and len(lines) == 1, result.told())
            e2e.want(lines[0].startswith("swt-dist: error: --device cuda: "), result.told())
            e2e.want(lines[0].endswith("; install one, or use --device cpu"), result.told())
        e2e.want(not os.path.exists(os.path.join(folder, "out")), "a run directory was left behind")


def takes_the_cpu():
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        args = ["--data", data, "--out", os.path.join(folder, "out"), *e2e.flags(e2e.small(train_steps=1))]
        said = e2e.succeed(1, [*args, "--device", "auto"]).out
        e2e.want("(cpu, self)" in said and "\nno GPU: no NVIDIA driver is installed\n" in said, said)


def plans():
    said = e2e.succeed(1, ["plan", "--model.vocab", 65, "--device", "cuda"]).out
    e2e.want("\nmemory      that of a GPU; " in said, said)


suite = e2e.Suite()
suite.case("shared libraries", shared_libraries)
suite.case("plan without a GPU", plans)
if e2e.GPUS == 0:
    suite.case("--device cuda without a GPU", says_what_is_missing)
    suite.case("--device auto without a GPU", takes_the_cpu)
suite.finish()
