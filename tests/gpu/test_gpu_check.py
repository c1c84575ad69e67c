#!/usr/bin/python3
"""launch/gpu-check on emulated GPUs: its parts, its report, its exit codes, and that a failing part is seen.

Times are not judged. Called with the build folder, which is taken as it is.
"""

import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import support as e2e  # noqa: E402

want = e2e.want
CHECK = os.path.join(e2e.ROOT, "launch", "gpu-check")
SANITIZERS = [f"compute-sanitizer {tool}" for tool in ("memcheck", "racecheck", "initcheck", "synccheck")]


def gpu_check(folder, *args, **environment):
    """Run it on this build; give exit code, output, errors and the report's folder."""
    out = os.path.join(folder, "report")
    known = {k: v for k, v in os.environ.items() if not k.startswith("SWT_")}
    done = subprocess.run(
        [CHECK, "--quick", "--out", out, *args],
        env={**known, "SWT_DATA": e2e.write_text(folder), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr, out


def read(out):
    with open(os.path.join(out, "results.json"), encoding="utf-8") as f:
        results = json.load(f)
    with open(os.path.join(out, "report.md"), encoding="utf-8") as f:
        return results, {part["part"]: part for part in results["parts"]}, f.read()


def have_rows(part, keys):
    """Rows of numbers and texts with these keys; every time is above zero."""
    want(part["rows"], f"{part['part']}: no row")
    for row in part["rows"]:
        want(list(row) == keys.split(), f"{part['part']}: keys are {list(row)}, not {keys}")
        want(all(isinstance(v, (str, int, float)) for v in row.values()), f"{part['part']}: {row}")
        want(all(row[k] > 0 for k in row if k in ("ms", "step_ms")), f"{part['part']}: {row}")


def measurements(parts):
    ops = "op shape threads ms ms_min gflops gbps product_share copy_share"
    with open(os.path.join(e2e.ROOT, "kernels", "swt_ops.h"), encoding="utf-8") as f:
        slots = set(re.findall(r"^    X\((\w+)", f.read(), re.MULTILINE))
    have_rows(parts["bench_ops"], ops)
    want({row["op"] for row in parts["bench_ops"]["rows"]} == slots, "bench_ops: not every operation is there")
    want(all(v > 0 for v in parts["bench_ops"]["ceilings"].values()), f"{parts['bench_ops']['ceilings']}")
    have_rows(parts["bench_ops bf16"], ops)
    # the same products read and write half the bytes
    bytes_of = {}
    for name in ("bench_ops", "bench_ops bf16"):
        row = next(r for r in parts[name]["rows"] if r["op"] == "linear_forward")
        bytes_of[name] = row["gbps"] * row["ms"]
    want(abs(bytes_of["bench_ops bf16"] / bytes_of["bench_ops"] - 0.5) < 1e-6, f"{bytes_of}")
    have_rows(parts["bench_comm on 2"], "call ranks bytes ms algbw_gbs busbw_gbs copy_ms ratio")
    calls = {row["call"] for row in parts["bench_comm on 2"]["rows"]}
    want(calls == {"all_to_all", "all_reduce_i64", "broadcast"}, f"{calls}")
    step = parts["bench_step tiny"]["rows"]
    want(abs(sum(row["share"] for row in step[:-1]) - 1) < 1e-6 and step[-1]["step_ms"] > 0, f"{step}")
    want({"adam", "experts_forward", "attention_backward"} <= {row.get("op") for row in step}, f"{step}")
    for name, batches in (("scaling, the same step", [8, 8]), ("scaling, a step as large as the GPUs", [4, 8])):
        rows = parts[name]["rows"]
        have_rows(parts[name], "gpus micro_batches step_ms tokens_per_s speedup efficiency")
        want([(row["gpus"], row["micro_batches"]) for row in rows] == list(zip([1, 2], batches)), f"{rows}")
        for row in rows:
            speedup = row["tokens_per_s"] / rows[0]["tokens_per_s"]
            want(abs(row["speedup"] / speedup - 1) < 1e-9, f"{row}")
            want(abs(row["efficiency"] * row["gpus"] / speedup - 1) < 1e-9, f"{row}")


def whole_report():
    with e2e.scratch() as folder:
        code, said, err, out = gpu_check(folder, "--build", e2e.BUILD, "--no-build", SWT_EMU_GPUS="2", NCCL_DEBUG="WARN")
        want(code == 0, f"exit {code}: {said[-600:]} {err[-300:]}")
        results, parts, report = read(out)
        want(results["emulated"] and results["quick"] and results["gpus"] == 2, f"{results}"[:200])
        ok = ["machine", "tests", "selftest on 1", "selftest on 2", "same bits", "same bits bf16"]
        ok += ["bench_ops", "bench_ops bf16", "bench_comm on 2"]
        ok += ["bench_step tiny", "scaling, the same step", "scaling, a step as large as the GPUs"]
        statuses = {name: part["status"] for name, part in parts.items()}
        want(statuses == {**dict.fromkeys(ok, "ok"), **dict.fromkeys(["build", *SANITIZERS], "skipped")}, f"{statuses}")
        want(all(parts[name]["why"] for name in ["build", *SANITIZERS]), "a skipped part does not say why")
        facts = parts["machine"]["facts"]
        for name in ("same bits", "same bits bf16"):
            rows = parts[name]["rows"]
            want([row["gpus"] for row in rows] == [1, 1, 2] and len({row["hash"] for row in rows}) == 1, f"{rows}")
        want(parts["same bits"]["rows"][0] != parts["same bits bf16"]["rows"][0], "bf16 has the hash of fp32")
        want("NCCL_DEBUG=WARN" in facts["environment"], f"{facts['environment']}")
        for fact in ("commit", "program", "GPUs", "libraries", "compilers", "MPI", "system", "CPU"):
            want(fact in facts, f"no {fact} in {list(facts)}")
        want(facts["GPUs"] == ["2 emulated GPUs (tests/emu)"] and "SWT_CUDA=EMU" in facts["build"][0], f"{facts}")
        want(parts["tests"]["tests"] >= 2, f"{parts['tests']}")
        for n in (1, 2):
            summary = parts[f"selftest on {n}"]["summary"]
            want(" ok, 0 failed; " in summary and f" {n} rank" in summary, summary)
        measurements(parts)
        # the page: every part with its status, tables whose lines have as many columns as their head
        for name, part in parts.items():
            want(re.search(rf"^\| {re.escape(name)} +\| {part['status']} ", report, re.MULTILINE), f"{name}: not on the page")
            want("log" not in part or os.path.getsize(os.path.join(out, part["log"])) > 0, f"{name}: no output kept")
        for block in re.findall(r"(?:^\|.*\n)+", report, re.MULTILINE):
            want(len({line.count("|") for line in block.splitlines()}) == 1, block[:300])
        want("times mean nothing" in report and "efficiency" in report, report[:300])


def failing_parts():
    """No driver that will do: what needs a GPU fails and says so, what does not goes on."""
    with e2e.scratch() as folder:
        code, said, err, out = gpu_check(
            folder, "--build", e2e.BUILD, "--no-build", SWT_EMU_GPUS="1", SWT_EMU_DRIVER="old")
        want(code == 1, f"exit {code}: {said[-600:]} {err[-300:]}")
        results, parts, report = read(out)
        for name in ("tests", "selftest on 1", "same bits", "bench_ops", "bench_step tiny"):
            want(parts[name]["status"] == "FAILED", f"{name}: {parts[name]}")
            want(f"**{name} FAILED: " in report, f"{name}: not at the head of the page")
        want(" driver is " in parts["selftest on 1"]["why"], f"{parts['selftest on 1']}")
        want("ops.dense.cuda" in parts["tests"]["why"], f"{parts['tests']}")
        want(parts["bench_comm on 2"]["status"] == "skipped" and "1 here" in parts["bench_comm on 2"]["why"],
             f"{parts['bench_comm on 2']}")
        want(parts["machine"]["status"] == "ok" and len(results["parts"]) > 10, f"{list(parts)}")


# Stand-ins for silicon: two GPUs; a program whose weights know the number of ranks; a tool that finds a race, if it is
# told to look at kernels alone.
STAND_INS = {
    "bin/nvidia-smi": "echo GPU 0; echo GPU 1",
    "bin/compute-sanitizer": '''echo "tool: $*"
case "$*" in
    "--report-api-errors no --error-exitcode 9 --tool racecheck "*) echo "========= Error: Race reported"; exit 9 ;;
    "--report-api-errors no --error-exitcode 9 --tool initcheck "*) sleep 30 ;;
    "--report-api-errors no --error-exitcode 9 --tool "*"check "*"/swt-dist selftest --device cuda") exit 0 ;;
esac
exit 1''',
    "cuda/swt-dist": '''echo "weights' hash 0000000000000000"
echo "step 3  checkpoint written, weights' hash 000000000000000${OMPI_COMM_WORLD_SIZE:-0}"''',
}


def findings():
    """As on silicon: what a tool finds, a tool that does not end, and weights that differ are failed parts."""
    with e2e.scratch() as folder:
        for path, lines in STAND_INS.items():
            os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
            with open(os.path.join(folder, path), "w", encoding="utf-8") as f:
                f.write(f"#!/bin/sh\n{lines}\n")
            os.chmod(os.path.join(folder, path), 0o755)
        with open(os.path.join(folder, "cuda", "CMakeCache.txt"), "w", encoding="utf-8") as f:
            f.write("SWT_CUDA:STRING=ON\n")
        path = os.path.join(folder, "bin") + ":" + os.environ["PATH"]
        known = {"PATH": path, "SWT_GPU_CHECK_TOOL_S": "2", "CUDA_VISIBLE_DEVICES": "0,1"}
        code, said, err, out = gpu_check(folder, "--build", os.path.join(folder, "cuda"), "--no-build", **known)
        want(code == 1, f"exit {code}: {said[-600:]} {err[-300:]}")
        _, parts, report = read(out)
        statuses = {name.split()[1]: parts[name]["status"] for name in SANITIZERS}
        wanted = {"memcheck": "ok", "racecheck": "FAILED", "initcheck": "FAILED", "synccheck": "ok"}
        want(statuses == wanted, f"{[parts[name] for name in SANITIZERS]}")
        want("swt-dist selftest: exit code 9: " in parts[SANITIZERS[1]]["why"], f"{parts[SANITIZERS[1]]}")
        want(parts[SANITIZERS[2]]["why"] == "not done in 2 s: swt-dist selftest", f"{parts[SANITIZERS[2]]}")
        why = "the weights' hash differs, by number of GPUs: " + ", ".join(f"{n}: 000000000000000{n}" for n in (1, 1, 2))
        want(parts["same bits"]["status"] == "FAILED" and parts["same bits"]["why"] == why, f"{parts['same bits']}")
        want(f"**same bits FAILED: {why}**" in report, report[:600])


def missing_build():
    """A build folder without programs is a failed part, not the end of the report."""
    with e2e.scratch() as folder:
        code, said, err, out = gpu_check(folder, "--build", os.path.join(folder, "emu"), "--no-build")
        want(code == 1, f"exit {code}: {said[-600:]} {err[-300:]}")
        results, parts, report = read(out)
        want(parts["build"]["status"] == "FAILED" and "no build with CUDA" in parts["build"]["why"], f"{parts}")
        want([part["part"] for part in results["parts"]] == ["build", "machine"], f"{list(parts)}")
        want("**build FAILED" in report, report)


def nothing_to_check():
    """One line, exit code 2, nothing left behind, nothing built."""
    for args, environment, told in (
        (["--build", "emu"], {"SWT_EMU_GPUS": "0"}, "SWT_EMU_GPUS is '0'"),
        (["--build", "emu"], {"SWT_EMU_GPUS": "many"}, "SWT_EMU_GPUS is 'many'"),
        (["--build", "cpu"], {}, "no build for GPUs"),
        ([], {"CUDA_VISIBLE_DEVICES": ""}, "GPU"),
        ([], {"PATH": "/nowhere"}, "no NVIDIA driver"),
    ):
        with e2e.scratch() as folder:
            if "PATH" in environment:  # its own interpreter and nothing else
                os.symlink(sys.executable, os.path.join(folder, "python3"))
                environment = {"PATH": folder}
            code, said, err, out = gpu_check(folder, *args, **environment)
            want(code == 2 and said == "", f"exit {code}: {said[-300:]}{err[-300:]}")
            want(err.count("\n") == 1 and err.startswith("launch/gpu-check: error: ") and told in err and ";" in err, err)
            want(not os.path.exists(out), "a report was begun")


def full_folder():
    with e2e.scratch() as folder:
        e2e.write_text(os.path.join(folder))
        os.makedirs(os.path.join(folder, "report", "mine"))
        code, said, err, _ = gpu_check(folder, "--build", e2e.BUILD, "--no-build")
        want(code == 2 and "is not empty" in err and said == "", f"exit {code}: {said}{err}")


def layer_of_bench_layer():
    """It is not part of the report: the same tokens are dropped on GPUs as on the CPU, alone and on two ranks."""
    size = ["--tokens", 64, "--width", 32, "--hidden", 48, "--experts", 4, "--repeats", 2, "--json"]
    program = os.path.join(e2e.BUILD, "bench", "bench_layer")
    for ranks in (1, 2):
        for extra in ([], ["--dense"]):
            rows = []
            for device in ("cpu", "cuda"):
                result = e2e.succeed(ranks, [*map(str, size), *extra, "--device", device], program=program)
                rows.append(json.loads(result.out))
            want(all(row["ms"] > 0 and row["ranks"] == ranks for row in rows), f"{rows}")
            want(rows[0]["dropped"] == rows[1]["dropped"] and (extra or rows[0]["dropped"] > 0), f"{rows}")
    result = e2e.run(1, ["--device", "gpu"], program=program)
    want(result.code == 2 and "--device: is gpu;" in result.err, result.told())


def main():
    if not e2e.EMULATED:
        print("skipped: it is for a build with an emulated GPU")
        sys.exit(77)
    suite = e2e.Suite()
    for case in (nothing_to_check, full_folder, missing_build, findings, layer_of_bench_layer, failing_parts, whole_report):
        suite.case(case.__name__, case)
    suite.finish()


main()
