"""launch/gpu-check --bundle: a machine with one GPU, by programs that launch/gpu-bundle has made, where nothing can be
installed. In order of value, so that a budget that runs out has cost the least."""

import datetime
import glob
import importlib.util
import json
import os
import platform
import re
import sys

import gpu_machine
import support
from gpu_machine import ASKED_OF_EACH_GPU, NoGpu, gpus_here, lines_of
from gpu_parts import Bad, Parts, Skip

# Sizes of models: of a real layer, and of one that an emulated GPU does in a second.
REAL = ["--model.width", 768, "--model.heads", 12, "--model.hidden", 3072, "--batch.seq_len", 512, "--batch.sequences", 8]
TINY = [
    *("--model.width", 32, "--model.heads", 2, "--model.hidden", 48, "--model.layers", 2),
    *("--batch.seq_len", 16, "--batch.sequences", 2),
]
OPERATIONS = "ops_tests"  # several tests in one program
SHARED_GPU = "gpu_test_shared_gpu"  # a part of its own
LABML = ["--batch.sequences", 8, "--batch.micro_batches", 4]

# The training on the GPU and on the CPU begins equal and parts slowly, because sums have other orders and routes turn
# with them. By what emulated GPUs show: docs/gpu.md.
FIRST_STEPS, FIRST_LIMIT, LIMIT = 20, 1e-5, 0.05


def find_libraries(wanted):
    """Folder of each library by its name, which a loader knows, a toolkit has, or a Python's wheels."""
    places = [p for p in os.environ.get("LD_LIBRARY_PATH", "").split(":") if p]
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda", "/opt/cuda"):
        places += [os.path.join(home, d) for d in ("lib64", "lib", "targets/x86_64-linux/lib")] if home else []
    places += sorted(glob.glob("/usr/local/cuda-*/lib64"), reverse=True)
    for python in dict.fromkeys([sys.executable, "python3", "python"]):
        asked = "import site, sys; print(*site.getsitepackages(), site.getusersitepackages(), *sys.path, sep=chr(10))"
        for folder in lines_of([python, "-c", asked]):
            places += sorted(glob.glob(os.path.join(folder, "nvidia", "*", "lib")))
            places += [os.path.join(folder, "torch", "lib")]
    known = {}
    for line in lines_of(["/sbin/ldconfig", "-p"]):
        name, _, path = line.strip().partition(" => ")
        known.setdefault(name.split(" ")[0], os.path.dirname(path))
    found = {}
    for name in wanted:
        here = [p for p in places if os.path.exists(os.path.join(p, name))]
        found[name] = here[0] if here else known.get(name)
    return found


class BundleCheck(Parts):
    """The checks of a bundle."""

    def __init__(self, args):
        self.args, self.folder = args, os.path.abspath(args.bundle)
        try:
            with open(os.path.join(self.folder, "about.json"), encoding="utf-8") as f:
                self.about = json.load(f)
        except (OSError, ValueError) as why:
            raise NoGpu(f"--bundle {args.bundle}: is no bundle of launch/gpu-bundle ({why}); name its folder") from None
        emulated = self.about["emulated"]
        self.gpus, self.gpu_facts = gpus_here(emulated)
        self.libraries = find_libraries(self.about["libraries"])
        lost = [name for name, folder in self.libraries.items() if folder is None]
        if lost:
            raise NoGpu(f"{', '.join(lost)}: not in a toolkit, the system or a Python's wheels; set LD_LIBRARY_PATH")
        facts = {
            "build": f"bundle {self.about['commit']}, {self.about['architecture']}",
            "emulated": emulated,
            "quick": args.quick,
            "gpus": 1,
            "date": datetime.datetime.now().isoformat(timespec="seconds"),
        }
        super().__init__(args.out, self.folder, facts, args.budget, args.pack)
        folders = dict.fromkeys([*self.libraries.values(), *self.environment.get("LD_LIBRARY_PATH", "").split(":")])
        self.environment["LD_LIBRARY_PATH"] = ":".join(f for f in folders if f)
        self.gemms = os.path.join(self.out, "gemms.jsonl")
        self.short = emulated or args.quick

    def train(self, name, *flags, device="cuda"):
        """Train; give the training rows and the weights' hash."""
        with support.scratch() as folder:
            out = os.path.join(folder, "run")
            command = [self.program("swt-dist"), "--device", device, "--out", out, "--train.log_every", 1, *flags]
            command += ["--data", os.path.join(self.folder, "data", "text.txt"), "--data.valid_fraction", 0.002]
            said = self.run(name, [str(c) for c in command])
            hashes = re.findall(r"checkpoint written, weights' hash ([0-9a-f]+)", said)
            if not hashes:
                raise Bad("no hash of weights was told")
            with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as f:
                return [row for row in support.json_rows(f.read()) if "loss" in row], hashes[-1]

    # ------------------------------------------------------------ the parts

    def machine(self, name):
        del name
        emulated = self.facts["emulated"]
        return {
            "facts": {
                "commit": [self.about["commit"]],
                "program": lines_of([self.program("swt-dist"), "--version"]),
                "build": [self.about["build"]],
                "GPUs": self.gpu_facts if emulated else [ASKED_OF_EACH_GPU, *self.gpu_facts],
                "libraries": [f"{library}: {folder}" for library, folder in self.libraries.items()],
                "versions": self.versions(),
                "environment": gpu_machine.settings(self.environment),
                "system": [platform.platform(), f"Python {platform.python_version()}"],
                "CPU": [support.machine().split(", load")[0]],
            }
        }

    def versions(self):
        paths = [os.path.join(folder, library) for library, folder in self.libraries.items()]
        return gpu_machine.versions(paths) if paths else ["CUDA runtime, cuBLASLt, NCCL: emulated (tests/emu)"]

    def selftest(self, name):
        said = self.run(name, [self.program("swt-dist"), "selftest", "--device", "cuda"])
        return {"summary": said.strip().splitlines()[-1]}

    def tests(self, name):
        """The tests of gemms and operations, each in its time; a failing one does not end the others."""
        bad, done = [], 0
        folder = os.path.join(self.folder, "tests")
        operations = self.run(name, [os.path.join(folder, OPERATIONS)]).split()
        programs = [[t] for t in sorted(os.listdir(folder)) if t not in (OPERATIONS, SHARED_GPU)]
        for test, *which in [*programs, *([OPERATIONS, o] for o in operations)]:
            try:
                self.run(name, [os.path.join(folder, test), *which], limit_s=300)
                done += 1
            except Bad as why:
                bad.append(f"{' '.join([test, *which])}: {why}")
        if bad:
            raise Bad(f"{len(bad)} of {done + len(bad)}: " + "; ".join(bad))
        return {"summary": f"{done} programs"}

    def same_bits(self, name):
        """Training again gives the same bits, with so many experts on the one GPU."""
        rows = []
        for dtype in ("fp32", "bf16"):
            for experts in (16, 128):
                flags = [*(TINY if self.short else REAL), "--experts", experts, "--run.dtype", dtype]
                flags += ["--train.steps", 3 if self.short else 10, "--batch.micro_batches", 1]
                hashes = [self.train(name, *flags)[1] for _ in range(2)]
                rows.append({"dtype": dtype, "experts": experts, "hash": hashes[0], "again": hashes[1]})
        told = [f"{r['dtype']}, {r['experts']} experts" for r in rows if r["hash"] != r["again"]]
        if told:
            raise Bad(f"the weights' hash differs from run to run: {'; '.join(told)}")
        return {"rows": rows}

    def fixtures(self, name):
        """Every tensor of a step against the independent oracle's."""
        if importlib.util.find_spec("numpy") is None:
            raise Skip("the checker needs numpy, which this Python has not")
        folder, rows = os.path.join(self.folder, "oracle", "fixtures"), []
        for fixture in sorted(os.listdir(folder)):
            case = os.path.join(folder, fixture)
            out = os.path.join(self.out, f"probe-{fixture}.safetensors")
            inputs = [("--config", "config.yaml"), ("--weights", "weights.safetensors"), ("--batch", "batch.safetensors")]
            command = [self.program("swt-dist"), "probe", "--device", "cuda", "--out", out, "--optim-steps", "3"]
            self.run(name, command + [a for flag, file in inputs for a in (flag, os.path.join(case, file))])
            judge = os.path.join(self.folder, "oracle", "oracle.py")
            said = self.run(name, [sys.executable, judge, "check", case, out])
            rows.append({"fixture": fixture, "said": (said.strip().splitlines() or ["nothing"])[-1][:120]})
            os.remove(out)
        return {"rows": rows}

    def losses(self, name):
        """The losses of a training are the CPU's."""
        steps = 30 if self.short else 300
        flags = [*(TINY if self.short else LABML), "--experts", 4, "--train.steps", steps]
        sides = [self.train(name, *flags, device=device)[0] for device in ("cpu", "cuda")]
        apart = [abs(a["loss"] - b["loss"]) for a, b in zip(*sides)]
        first, most = max(apart[:FIRST_STEPS]), max(apart)
        rows = [{"steps": steps, "first_20": first, "largest": most, "cpu_loss": sides[0][-1]["loss"], "gpu_loss": sides[1][-1]["loss"]}]
        if len(apart) != steps or first > FIRST_LIMIT or most > LIMIT:
            raise Bad(f"losses differ from the CPU's by {first:.2g} in the first {FIRST_STEPS} steps and {most:.2g} in {len(apart)}")
        return {"rows": rows}

    def products(self, name):
        """Which algorithm each product of the parts before got, and which had none."""
        del name
        rows = {}
        try:
            with open(self.gemms, encoding="utf-8") as f:
                for row in map(json.loads, f):
                    rows[json.dumps(row)] = row
        except OSError:
            raise Skip("no part before has told of its products") from None
        slow = [r for r in rows.values() if r["way"] == "plain"]
        if any(all(r[k] % 8 == 0 for k in ("rows", "cols", "inner")) for r in slow):
            raise Bad(f"{len(slow)} products of {len(rows)} have no algorithm: {json.dumps(slow[0])}")
        ways = {way: sum(r["way"] == way for r in rows.values()) for way in ("whole", "bare", "plain")}
        told = ", ".join(f"{n} {way}" for way, n in ways.items())
        return {"rows": list(rows.values()), "summary": f"{len(rows)} products: {told}"}

    def shared_gpu(self, name):
        """Two ranks on the one GPU exchange and add over NCCL, where NCCL can let them."""
        said = self.run(name, [os.path.join(self.folder, "tests", SHARED_GPU)], good=(0, 77), limit_s=90)
        if self.code == 77:
            raise Skip(said.strip().removeprefix("skipped: "))
        return {"summary": f"{len(said.strip().splitlines())} checks"}

    def operations(self, dtype):
        def check(name):
            size = ["--preset", "layer", "--ms", 1, "--only", "linear"] if self.short else ["--preset", "large"]
            command = [self.program("bench_ops"), "--device", "cuda", "--dtype", dtype, *size, "--json"]
            return {"rows": support.json_rows(self.run(name, [str(c) for c in command]))}

        return check

    def step(self, dtype):
        def check(name):
            flags = [*(TINY if self.short else REAL), "--experts", 16, "--run.dtype", dtype, "--batch.micro_batches", 2]
            flags += ["--data", os.path.join(self.folder, "data", "text.txt")]
            command = [self.program("bench_step"), "--device", "cuda", *flags, "--json", "--steps", 2 if self.short else 40]
            return {"rows": support.json_rows(self.run(name, [str(c) for c in command]))}

        return check

    def sanitizer(self, tool):
        def check(name):
            command = [self.program("swt-dist"), "selftest", "--device", "cuda"]
            return self.sanitize(name, tool, [command], 600, set(self.about["kernels"]))

        return check

    def everything(self):
        self.part("machine", self.machine)
        self.part("selftest", self.selftest, 5)
        self.part("tests", self.tests, 20)
        self.environment["SWT_CUDA_GEMMS"] = self.gemms  # of what is trained and measured, not of what the tests try
        self.part("same bits", self.same_bits, 20)
        self.part("fixtures", self.fixtures, 10)
        self.part("losses of the CPU", self.losses, 30)
        self.part("products", self.products)
        self.part("two ranks on one GPU", self.shared_gpu, 10)
        for dtype in ("bf16", "fp32"):
            self.part(f"bench_ops {dtype}", self.operations(dtype), 20)
        for dtype in ("bf16", "fp32"):
            self.part(f"bench_step {dtype}", self.step(dtype), 10)
        self.environment.pop("SWT_CUDA_GEMMS")
        for tool in ("memcheck", "racecheck"):
            self.part(f"compute-sanitizer {tool}", self.sanitizer(tool), 30)
