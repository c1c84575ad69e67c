#!/usr/bin/python3
"""Memory stays flat: who allocates in a step, whether the heap grows, and what a run holds against its plan.

The first cases run the program under watch (watch.c): it counts allocations by the place they are called from and notes
at the start of every step what the heap holds. The others look at the program itself through /proc.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time

from support import (
    BUILD, PROGRAM, Plan, Suite, finish, flags, run, scratch, session_members, small, start, text, want, write_text,
)

WATCHED = os.path.join(BUILD, "tests", "e2e_watch")
MIB = 1 << 20
WARM, STEPS = 20, 100  # steps before the watch, and its length

# MPI reserves buffers when it first needs them: few times and not much. What every step loses rises 100 times, what every tenth loses 10 times.
GROWTH, RISES = MIB, 8

# Who may allocate between steps because it is rare: a sample, and rank 0 writing a checkpoint. An evaluation may not.
RARE = {
    "swt_generate": "a sample's tokens and logits",
    "decode": "its text",
    "grow": "the list of a checkpoint's tensors",
    "parse_tensors": "the same, as a reader would see it: a header is judged before it is written",
    "allocate": "its JSON, some for each tensor",
    "add_step": "the list of checkpoints, to remove old ones",
    "init": "what is said of a checkpoint's tensors",
    "take": "texts in memory, before they are written",
    **dict.fromkeys(
        ("write_manifest", "fill_manifest", "swt_manifest_add_options", "sort", "swt_hash_file", "swt_file_load", "read_config", "read_files",
         "read_tensors"), "the manifest, which is also read back"),
}

# What a process holds beside its arenas: MPI's buffers, stacks, tables.
BESIDE = 64 * MIB


# ---------------------------------------------------------------- under watch


def watch(ranks, folder, options, data, extra=()):
    """The answers of all ranks to a run of WARM + STEPS steps."""
    steps = {"train.steps": WARM + STEPS + 2}
    env = {
        "SWT_WATCH_OUT": os.path.join(folder, "watch"),
        "SWT_WATCH_FIRST": str(WARM),
        "SWT_WATCH_STEPS": str(STEPS),
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",  # a thread's cache of freed blocks would count as in use
    }
    args = ["--data", data, "--out", os.path.join(folder, "run"), *flags({**options, **steps}), *extra]
    result = run(ranks, args, program=WATCHED, env=env)
    want(result.code == 0, result.told())
    answers = []
    for name in sorted(n for n in os.listdir(folder) if n.startswith("watch.")):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            answers.append(json.load(f))
    want(len(answers) == ranks, f"{ranks} ranks, {len(answers)} answers")
    for a in answers:
        whole = a["begun"] == WARM + STEPS + 2 and len(a["samples"]) == STEPS + 1 and not a["full"]
        want(whole, f"a part was missed: {a}")
    return answers


def functions(sites):
    """{function: calls} of callers in the program's own code. A call's last byte is in its function, what it returns to
    may not be."""
    calls = {}
    for site in sites:
        at, name = int(site["at"], 16) - 1, site["at"]
        if shutil.which("addr2line"):
            said = subprocess.run(
                ["addr2line", "-fs", "-e", WATCHED, hex(at)], capture_output=True, text=True, timeout=60, check=True
            )
            name = said.stdout.split("\n")[0]
        calls[name] = calls.get(name, 0) + site["calls"]
    return calls


def own(answer):
    return functions(s for s in answer["sites"] if s["library"] == "")


def flat(answer, rank):
    """The heap in use, at the same place of every step."""
    held = [s["heap"] for s in answer["samples"]]
    most, rises = held[0], 0
    for bytes_held in held[1:]:
        rises, most = rises + (bytes_held > most), max(most, bytes_held)
    want(
        held[-1] - held[0] <= GROWTH and rises <= RISES,
        f"rank {rank}: the heap grew by {held[-1] - held[0]} bytes over {STEPS} steps, in {rises} of them",
    )


def steps_allocate_nothing(ranks, micro_batches):
    """Steps with a row each, and an evaluation after every tenth."""
    with scratch() as folder:
        options = small(moe_every=2, batch_micro_batches=micro_batches, train_eval_every=10)
        for rank, answer in enumerate(watch(ranks, folder, options, write_text(folder))):
            want(not own(answer), f"rank {rank}: allocations in {STEPS} steps: {own(answer)}")
            flat(answer, rank)
            # Nor does libc on behalf of the program, for a file or a text; with MPI it could be on MPI's.
            libc = sum(s["calls"] for s in answer["sites"] if s["library"].startswith("libc.so"))
            want(libc == 0 or ranks > 1, f"{libc} allocations by libc in {STEPS} steps")


def rare_things(ranks):
    """Samples and checkpoints allocate: so the watch sees what there is to see. They give it all back."""
    with scratch() as folder:
        options = small(moe_every=2, train_sample_every=10, train_checkpoint_every=10)
        answers = watch(ranks, folder, options, write_text(folder), ["--train.keep_checkpoints", 2])
        for rank, answer in enumerate(answers):
            calls = own(answer)
            if shutil.which("addr2line"):
                want(set(calls) <= set(RARE), f"rank {rank}: allocations of others than the rare: {calls}")
            # 4 files of each checkpoint are hashed, and 11 checkpoints may end in this time, which begins before one of them is
            # written; nothing happens more often than that, but for the nodes of a JSON tree and texts that grow.
            often = max((n for site, n in calls.items() if site not in ("allocate", "take")), default=0)
            want(0 < often <= 4 * (STEPS / 10 + 1), f"rank {rank}: {calls}")
            flat(answer, rank)


# ---------------------------------------------------------------- against the plan


def anon_peaks(process):
    """RssAnon of every process of the program in the session, the largest seen until the end."""
    peaks, begin = {}, time.monotonic()
    while process.poll() is None and time.monotonic() - begin < 240:
        for pid in session_members(process.pid):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/status", encoding="utf-8") as f:
                    said = f.read()
                found = re.search(r"RssAnon:\s+(\d+)", said)
                if found and said.startswith(f"Name:\t{os.path.basename(PROGRAM)}\n"):
                    peaks[pid] = max(peaks.get(pid, 0), int(found[1]) * 1024)
        time.sleep(0.005)
    return sorted(peaks.values())


def within_plan(ranks, options, data):
    with scratch() as folder:
        plan = Plan(options, ranks, data)
        beside = plan.number(r"text .* ([\d.]+) MiB") * MIB
        args = ["--data", data, *flags(options), "--out", os.path.join(folder, "run")]
        process = start(ranks, args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        peaks = anon_peaks(process)
        result = finish(process, "train", 60)
        want(result.code == 0, result.told())
        want(len(peaks) == ranks, f"{ranks} ranks, but {len(peaks)} processes were seen")
        for held, due in zip(peaks, sorted(rank["total"] * MIB for rank in plan.ranks.values())):
            # Parameters, gradients and moments are written whole. Less means that nobody looked in time.
            want(held > due / 2, f"{held / MIB:.1f} MiB seen of {due / MIB:.1f} planned")
            want(
                held <= due + beside + BESIDE,
                f"{held / MIB:.1f} MiB are resident, {due / MIB:.1f} planned, {beside / MIB:.1f} text",
            )


def long_text(folder):
    """24 million tokens: 92 MiB, more than the margin, so the plan must have named them."""
    path = os.path.join(folder, "long.txt")
    part = text(100000)
    with open(path, "w", encoding="utf-8") as f:
        for _ in range(240):
            f.write(part)
    return path


def main():
    suite = Suite()
    for ranks in (1, 4):
        for M in (1, 4):
            suite.case(f"a step allocates nothing, {ranks} ranks, M = {M}", steps_allocate_nothing, ranks, M)
        suite.case(f"samples and checkpoints, {ranks} ranks", rare_things, ranks)
    with scratch() as folder:
        data, long = write_text(folder), long_text(folder)
        tiny = small(moe_every=2, train_steps=300, train_eval_every=100, train_log_every=100)
        # 0.8 GiB on 1 rank, 0.3 on each of 4: mostly experts, with some 100 MiB of activations.
        large = small(
            moe_every=2,
            model_width=256,
            model_hidden=1024,
            moe_experts=64,
            batch_sequences=32,
            batch_seq_len=64,
            train_steps=3,
            train_eval_every=3,
        )
        for ranks in (1, 4):
            suite.case(f"a small plan, {ranks} ranks", within_plan, ranks, tiny, data)
            suite.case(f"a large plan, {ranks} ranks", within_plan, ranks, large, data)
        suite.case("a long text", within_plan, 2, {**tiny, "train.steps": 20, "data.valid_fraction": 0.0001}, long)
    suite.finish()


main()
