"""What launch/gpu-check says of a machine: its GPUs, the libraries of the program, the environment."""

import glob
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ASKED_OF_EACH_GPU = "index,name,memory.total,driver_version,clocks.max.sm,power.limit"
BOUNDS = r"(?:__launch_bounds__\([^)]*\)\s*)?"
KERNEL = rf"__global__\s+{BOUNDS}void\s+{BOUNDS}(\w+)\("

# They change the products' algorithms, the transports and what is seen.
SETTINGS = ("CUBLAS", "CUDA_", "NCCL_", "NVIDIA_")

# Asks the libraries that the program was linked with, in a process of its own: a library, a line.
VERSIONS = """
import ctypes, sys
for path in sys.argv[1:]:
    library, n = ctypes.CDLL(path), ctypes.c_int()
    if "cudart" in path and library.cudaRuntimeGetVersion(ctypes.byref(n)) == 0:
        print(f"CUDA runtime {n.value // 1000}.{n.value % 1000 // 10}")
        if library.cudaDriverGetVersion(ctypes.byref(n)) == 0:
            print(f"driver for CUDA up to {n.value // 1000}.{n.value % 1000 // 10}")
    elif "cublasLt" in path:
        library.cublasLtGetVersion.restype = ctypes.c_size_t
        v = library.cublasLtGetVersion()
        print(f"cuBLASLt {v // 10000}.{v // 100 % 100}.{v % 100}")
    elif "nccl" in path and library.ncclGetVersion(ctypes.byref(n)) == 0:
        print(f"NCCL {n.value // 10000}.{n.value // 100 % 100}.{n.value % 100}")
"""


class NoGpu(Exception):
    """There is nothing to check; the message says why."""


def quiet(command):
    """Exit code and output of a command that may be missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None, ""
    return done.returncode, (done.stdout.strip() or done.stderr.strip())


def lines_of(command):
    """The output of a command that may be missing or fail."""
    code, said = quiet(command)
    return said.splitlines() if code == 0 else []


def gpus_here(emulated):
    """The GPUs that the program will see, and a line of facts for each."""
    if emulated:
        said = os.environ.get("SWT_EMU_GPUS", "2")
        number = int(said) if said.isdigit() else 0
        if number < 1:
            raise NoGpu(f"SWT_EMU_GPUS is '{said}'; give the number of GPUs to emulate (here 2 if it is not set)")
        return number, [f"{number} emulated GPUs (tests/emu)"]
    code, said = quiet(["nvidia-smi", f"--query-gpu={ASKED_OF_EACH_GPU}", "--format=csv,noheader"])
    if code is None:
        raise NoGpu("no nvidia-smi, so no NVIDIA driver; run it where there is a GPU, or give --build emu")
    gpus = said.splitlines() if code == 0 else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not gpus:
        told = said.splitlines()[0] if said else "nothing"
        raise NoGpu(f"nvidia-smi shows no GPU: {told}; run it where there is one, or give --build emu")
    if visible is None:
        return len(gpus), gpus
    number = min(len(gpus), len([v for v in visible.split(",") if v.strip() not in ("", "-1")]))
    if number == 0:
        raise NoGpu(f"CUDA_VISIBLE_DEVICES is '{visible}'; unset it, or give --build emu")
    return number, [*gpus, f"CUDA_VISIBLE_DEVICES={visible}"]


def own_kernels(folder=os.path.join(ROOT, "kernels", "cuda")):
    """The names of the project's kernels, of its sources."""
    names = set()
    for source in glob.glob(os.path.join(folder, "*.cu*")):
        with open(source, encoding="utf-8") as f:
            names |= set(re.findall(KERNEL, f.read()))
    return names


def libraries(program, emulated):
    """Versions of what the program was linked with."""
    if emulated:
        return ["CUDA runtime, cuBLASLt, NCCL: emulated (tests/emu)"]
    linked = "\n".join(lines_of(["ldd", program]))
    return versions(re.findall(r"=> (\S*lib(?:cudart|cublasLt|nccl)\S*)", linked))


def versions(paths):
    """What the libraries say of themselves."""
    return lines_of([sys.executable, "-c", VERSIONS, *paths])


def settings(environment):
    """The variables that matter here."""
    found = [f"{name}={value}" for name, value in sorted(environment.items()) if name.startswith(SETTINGS)]
    return found or ["no variable " + ", ".join(start + "*" for start in SETTINGS)]
