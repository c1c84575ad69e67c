#!/usr/bin/python3
"""Going on from a checkpoint on GPUs: the same bits on another number of them; and from the CPU to GPUs and back.

In builds with an emulated GPU always; in builds with CUDA as far as the machine has GPUs.
"""

import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import support as e2e  # noqa: E402

OPTIONS = e2e.small(
    model_layers=2, model_width=16, model_heads=2, model_hidden=24, moe_experts=5, moe_every=2, moe_jitter=0.1,
    batch_seq_len=16, batch_micro_batches=3, train_steps=5, train_checkpoint_every=3, data_valid_fraction=0.03,
)
# As in test_train.py: what CPU and GPU may differ by.
CLOSE = 1e-5


def trained(folder, data, device, ranks):
    out = os.path.join(folder, f"{device}-{ranks}")
    if not os.path.isdir(out):
        e2e.train(ranks, folder, os.path.basename(out), OPTIONS, data, ["--device", device], timeout=600)
    return out


def goes_on(folder, data, before, after):
    """Three steps of five here, the last two there; the run that is returned, and an undisturbed one there."""
    for device, ranks in (before, after):
        e2e.want(device == "cpu" or ranks <= e2e.GPUS, f"needs {ranks} GPUs")
    out = os.path.join(folder, f"{before}-{after}".replace(" ", ""))
    shutil.copytree(trained(folder, data, *before), out)
    shutil.rmtree(e2e.checkpoint(out))
    args = ["--run.resume", "auto", "--out", out, "--device", after[0]]
    said = e2e.succeed(after[1], args, timeout=600)
    e2e.want("resume: 3 steps done" in said.out, said.told())
    return out, trained(folder, data, *after)


def same_bits(folder, data, before, after):
    out, reference = goes_on(folder, data, before, after)
    for found in (e2e.weights, e2e.moments):
        e2e.want(found(out) and not e2e.same_tensors(found(out), found(reference)), f"{found.__name__} differ")
    rows = [[r["loss"] for r in e2e.metrics(run)[0]] for run in (out, reference)]
    e2e.want(rows[0] == rows[1] and len(rows[0]) == 5, f"losses: {rows}")


def close(folder, data, before, after):
    out, reference = goes_on(folder, data, before, after)
    rows = list(zip(e2e.metrics(out)[0], e2e.metrics(reference)[0], strict=True))
    wrong = [(a["step"], a["loss"], b["loss"]) for a, b in rows if abs(a["loss"] - b["loss"]) > CLOSE * b["loss"]]
    e2e.want(len(rows) == 5 and not wrong, f"losses of {len(rows)} rows: {wrong}")


def main():
    suite = e2e.Suite()
    if e2e.GPUS < 1:
        print("skipped: this machine has no GPU")
        sys.exit(77)
    with e2e.scratch() as folder:
        data = e2e.write_text(folder)
        suite.case("from the CPU to a GPU", close, folder, data, ("cpu", 2), ("cuda", 1))
        suite.case("from a GPU to the CPU", close, folder, data, ("cuda", 1), ("cpu", 3))
        if e2e.GPUS >= 4:
            suite.case("2 to 4 GPUs", same_bits, folder, data, ("cuda", 2), ("cuda", 4))
            suite.case("3 GPUs to 1", same_bits, folder, data, ("cuda", 3), ("cuda", 1))
    suite.finish()


main()
