#!/usr/bin/python3
"""Training on GPUs: the CPU's losses, the same bits on any number of GPUs, and what is said where it cannot be.

In builds with an emulated GPU always; in builds with CUDA as far as the machine has GPUs (else skipped).
"""

import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import support as e2e  # noqa: E402

TINY = {
    "model.layers": 2,
    "model.width": 16,
    "model.heads": 2,
    "model.hidden": 24,
    "moe.experts": 5,
    "moe.every": 2,
    "moe.jitter": 0.01,
    "moe.expert_dropout": 0.3,
    "model.dropout": 0.1,
    "batch.seq_len": 16,
    "batch.micro_batches": 3,
    "train.steps": 5,
    "train.log_every": 2,
    "data.valid_fraction": 0.03,
}
# Losses of CPU and GPU are sums of the same numbers in another order; twenty updates of Adam, whose first ones divide by
# what is nearly the gradient itself, make some ulps more of it: 1e-5 of the loss is what the project promises.
CLOSE = 1e-5


def options(**changes):
    return e2e.small(**{**{k.replace(".", "_", 1): v for k, v in TINY.items()}, **changes})


def on_gpu(ranks, folder, name, opts, data):
    e2e.want(ranks <= e2e.GPUS, f"needs {ranks} GPUs")
    return e2e.train(ranks, folder, name, opts, data, ["--device", "cuda"], timeout=600)


def close(got, wanted, what):
    for a, b in zip(got, wanted, strict=True):
        for key in ("loss", "ce", "aux", "grad_norm", "valid_loss", "valid_loss_dropless"):
            if key in b:
                e2e.want(abs(a[key] - b[key]) <= CLOSE * abs(b[key]), f"{what}: {key} {a[key]}, on the CPU {b[key]}")


def layouts(ranks_list, **changes):
    """The rows of the CPU within CLOSE; between numbers of GPUs not a bit."""
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        opts = options(**changes)
        wanted = e2e.metrics(e2e.train(1, folder, "cpu", opts, data, ["--device", "cpu"]))
        digests = {}
        for ranks in ranks_list:
            out = on_gpu(ranks, folder, f"gpu{ranks}", opts, data)
            for got, want in zip(e2e.metrics(out), wanted, strict=True):
                close(got, want, f"{ranks} GPUs")
            digests[ranks] = e2e.weights_digest(out)
        e2e.want(len(set(digests.values())) == 1, f"weights differ: {digests}")


def bf16():
    """The same bits on any number of GPUs; the numbers of fp32 but for rounding to 8 bits.

    Each activation, weight and gradient is wrong by up to 2^-9 of itself, by chance: after the dozen roundings in a row
    of two blocks a tensor's error is some 2^-7 of its norm, and the bound 2^-5. A single tensor can be wrong by more:
    numbers near 0 pass another side of a ReLU, and what is left where large numbers cancel (the bias of k, whose gradient
    is 0) is as wrong as those. An operation that took the wrong type, or a term that is missing, would be wrong by 1.
    """
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        opts, digests = options(run_dtype="bf16"), {}
        wanted = e2e.metrics(e2e.train(1, folder, "cpu", options(), data, ["--device", "cpu"]))[0]
        for ranks in (n for n in (1, 2, 3) if n <= e2e.GPUS):
            out = on_gpu(ranks, folder, f"gpu{ranks}", opts, data)
            digests[ranks] = e2e.weights_digest(out)
        e2e.want(len(set(digests.values())) == 1, f"weights differ: {digests}")
        for got, want in zip(e2e.metrics(out)[0], wanted, strict=True):
            e2e.want(abs(got["loss"] - want["loss"]) < 2**-7 * want["loss"], f"{got}, in fp32 {want}")
    with e2e.scratch() as folder:
        case = e2e.Probe(folder, model_layers=2, moe_experts=4, batch_micro_batches=2)
        full, half = case.run(extra=["--device", "cuda"]), case.run(extra=["--device", "cuda"], run_dtype="bf16")
        grads = [name for name in full if name.startswith("grad.")]
        errors = {name: half[name].astype("f8") - full[name] for name in [*grads, "logits"]}
        whole = e2e.norm([full[name] for name in grads])
        e2e.want(e2e.norm([errors["logits"]]) < 2**-5 * e2e.norm([full["logits"]]), "logits")
        e2e.want(e2e.norm([errors[name] for name in grads]) < 2**-5 * whole, "gradients")
        for name in grads:
            error, bound = e2e.norm([errors[name]]), 2**-3 * e2e.norm([full[name]]) + 2**-10 * whole
            e2e.want(error < bound, f"{name}: wrong by {error}, bound {bound}")
        e2e.want(e2e.norm([half["logits"] - full["logits"]]) > 0, "bf16 changed nothing")


def watched(ranks_list):
    """Training without the host in a step, and with every step the launch of one CUDA graph, gives the same bits."""
    program = os.path.join(e2e.BUILD, "tests", "gpu_watch")
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        opts = options(train_sample_every=1, data_prompt="the", train_eval_every=2)
        args = ["--data", data, "--device", "cuda", *e2e.flags(opts)]
        for ranks in ranks_list:
            digests = {}
            for how in ("no", "host", "graph") if e2e.EMULATED else ("no", "graph"):
                out = os.path.join(folder, f"{how}{ranks}")
                env = {"SWT_WATCH": how}
                said = e2e.succeed(ranks, [*args, "--out", out], env=env, program=program, timeout=600).err
                digests[how] = e2e.weights_digest(out)
                steps = {"host": "5 steps without the host", "graph": "5 launches of a graph of "}.get(how)
                e2e.want(steps is None or said.count("watched: " + steps) == ranks, f"{ranks} ranks, {how}: {said}")
            e2e.want(len(set(digests.values())) == 1, f"{ranks} ranks: weights differ: {digests}")


def reload():
    """eval and generate on a GPU say what they say on the CPU of the same weights."""
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        out = e2e.train(1, folder, "cpu", options(), data, ["--device", "cpu"])
        said = {}
        for device in ("cpu", "cuda"):
            args = ["--checkpoint", out, "--device", device]
            numbers = e2e.succeed(1, ["eval", *args], timeout=300).out.split()
            text = e2e.succeed(1, ["generate", *args, "--prompt", "the ", "--tokens", 4], timeout=300).out
            said[device] = ([float(n) for n in numbers if n.replace(".", "", 1).isdigit()], text)
        e2e.want(said["cpu"][1] == said["cuda"][1], f"generate: {said}")
        for a, b in zip(said["cuda"][0], said["cpu"][0], strict=True):
            e2e.want(abs(a - b) <= CLOSE * abs(b) + 1e-6, f"eval: {said}")


def too_few_gpus():
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        args = ["--data", data, "--out", os.path.join(folder, "out"), *e2e.flags(options(train_steps=1))]
        one = {"SWT_EMU_GPUS": "1"}
        refused = e2e.run(2, [*args, "--device", "cuda"], env=one)
        told = " 2 ranks on a node with 1 GPU, and rank 1 has the GPU of rank 0; "
        e2e.want(refused.code == 2 and told in refused.err, refused.told())
        e2e.want(refused.err.count("error:") == 1, refused.told())
        taken = e2e.succeed(2, [*args, "--device", "auto"], env=one)
        e2e.want("\nno GPU: 2 ranks on a node with 1 GPU, " in taken.out and "(cpu, mpi)" in taken.out, taken.told())


def shared_gpu():
    """An NCCL that can let ranks share a GPU is told to, for tests: the bits of ranks that have one each. An older one refuses."""
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        shared = {"SWT_EMU_GPUS": "1", "NCCL_MULTI_RANK_GPU_ENABLE": "1"}
        hashes = {}
        for name, env in (("own", {}), ("shared", {**shared, "SWT_EMU_NCCL_VERSION": "23007"})):
            args = ["--data", data, "--out", os.path.join(folder, name), *e2e.flags(options(train_steps=2))]
            said = e2e.succeed(2, [*args, "--device", "cuda"], env=env)
            e2e.want(("2 ranks share 1 GPU, " in said.out + said.err) == (name == "shared"), said.told())
            hashes[name] = said.out.split("weights' hash ")[1].split()[0]
        e2e.want(hashes["own"] == hashes["shared"], f"the weights differ: {hashes}")
        args = ["--data", data, "--out", os.path.join(folder, "old"), *e2e.flags(options(train_steps=1))]
        refused = e2e.run(2, [*args, "--device", "cuda"], env={**shared, "SWT_EMU_NCCL_VERSION": "22809"})
        e2e.want(refused.code == 2 and " 2 ranks on a node with 1 GPU, " in refused.err, refused.told())


def old_nccl():
    """The library that is loaded is older than the header: one line, whatever it is linked with."""
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        args = ["--data", data, "--out", os.path.join(folder, "out"), *e2e.flags(options(train_steps=1))]
        refused = e2e.run(2, [*args, "--device", "cuda"], env={"SWT_EMU_NCCL_VERSION": "22105"})
        told = "--device cuda: NCCL 2.21.5 is loaded on rank 0, this program needs 2.22 or newer; "
        e2e.want(refused.code == 2 and told in refused.err, refused.told())
        e2e.want(refused.err.count("error:") == 1 and not os.path.exists(f"{folder}/out"), refused.told())


def gpus_of_their_own(ranks):
    """Each rank is shown one GPU, another one, as a job's launcher may do: the bits of ranks that see them all."""
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        alone = os.path.join(folder, "alone")
        with open(alone, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\nSWT_EMU_GPUS=1 SWT_EMU_FIRST_GPU=$OMPI_COMM_WORLD_LOCAL_RANK\n")
            f.write("CUDA_VISIBLE_DEVICES=$OMPI_COMM_WORLD_LOCAL_RANK\n")
            f.write(f'export SWT_EMU_GPUS SWT_EMU_FIRST_GPU CUDA_VISIBLE_DEVICES\nexec "{e2e.PROGRAM}" "$@"\n')
        os.chmod(alone, 0o755)
        outs = [os.path.join(folder, name) for name in ("all", "own")]
        for out, program in zip(outs, (e2e.PROGRAM, alone)):
            args = ["--data", data, "--out", out, *e2e.flags(options()), "--device", "cuda"]
            said = e2e.succeed(ranks, args, program=program, timeout=600).out
            e2e.want("(cuda, " in said, said)
        e2e.want(e2e.weights_digest(outs[0]) == e2e.weights_digest(outs[1]), "weights differ")


def too_little_memory():
    """The plan's figures stand beside what is free; plan shows both beforehand."""
    small = {"SWT_EMU_GPU_BYTES": str(20 << 20)}
    said = e2e.succeed(1, ["plan", "--model.vocab", 65, "--device", "cuda"], env=small).out
    e2e.want("GPU 0 here has 20.0 MiB of 20.0 free" in said, said)
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        args = ["--data", data, "--out", os.path.join(folder, "out"), *e2e.flags(options(train_steps=1))]
        for ranks in (1, 2):
            refused = e2e.run(ranks, [*args, "--device", "cuda"], env=small)
            e2e.want(refused.code == 1 and refused.err.count("error:") == 1, refused.told())
            e2e.want("MiB on its GPU (PARAM " in refused.err, refused.told())
            e2e.want("which has 20.0 MiB of 20.0 free; use smaller batches" in refused.err, refused.told())


def auto_takes_gpus():
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        args = ["--data", data, "--out", os.path.join(folder, "out"), *e2e.flags(options(train_steps=1))]
        said = e2e.succeed(1, [*args, "--device", "auto"], timeout=300).out
        e2e.want("(cuda, " in said and "no GPU" not in said, said)


def bad_numbers():
    """A gradient that is too large ends the run, one line that names its step, exit code 5; on a GPU at the next row."""
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        opts = options(optim_lr=1e6, optim_name="sgd", train_steps=40, train_log_every=4)
        said = {}
        for device in ("cpu", "cuda"):
            args = ["--data", data, "--out", os.path.join(folder, device), *e2e.flags(opts), "--device", device]
            result = e2e.run(1, args, timeout=600)
            e2e.want(result.code == 5 and result.err.count("error:") == 1, result.told())
            said[device] = result.err.replace(os.path.join(folder, device), "OUT")
        e2e.want(said["cpu"] == said["cuda"] and ": step 2: " in said["cpu"], said)
        # The weights of step 1 are kept, though the host looked at step 4.
        again = e2e.train(1, folder, "again", dict(opts, **{"train.steps": 1}), data, ["--device", "cuda"], timeout=600)
        kept = os.path.join(folder, "cuda")
        e2e.want(not e2e.same_tensors(e2e.weights(again), e2e.weights(kept)), "the weights kept are not those of step 1")


def bad_numbers_left_out():
    """run.nonfinite skip: steps are queued behind those that are left out, and the next row's look tells of them together."""
    with e2e.scratch() as folder:
        data = e2e.write_text(folder, 4000)
        opts = options(optim_lr=1e6, optim_name="sgd", train_steps=40, train_log_every=4, run_nonfinite="skip")
        for ranks in range(1, min(2, e2e.GPUS) + 1):
            out = os.path.join(folder, f"out{ranks}")
            result = e2e.run(ranks, ["--data", data, "--out", out, *e2e.flags(opts), "--device", "cuda"], timeout=600)
            e2e.want(result.code == 5 and result.err.count("error:") == 1, result.told())
            e2e.want(": step 12: a gradient is not finite or too large, as in the 10 steps before it; " in result.err, result.told())
            told = re.findall(r"(?m)^warning: (.*): a gradient is not finite", e2e.read(f"{out}/log.txt"))
            e2e.want(told == ["3 steps, the last of them step 4", "4 steps, the last of them step 8"], f"told of {told}")
            e2e.want(os.path.basename(e2e.checkpoint(out)) == "step-00000011", e2e.checkpoint(out))
            again = e2e.train(ranks, folder, f"again{ranks}", dict(opts, **{"train.steps": 1}), data, ["--device", "cuda"], timeout=600)
            e2e.want(not e2e.same_tensors(e2e.weights(again), e2e.weights(out)), "the weights kept are not those of step 1")


def begin(ranks, folder, opts, mark, **how):
    """A training on GPUs that has written `mark` to its log, and its folder."""
    out = os.path.join(folder, "out")
    args = ["--data", e2e.write_text(folder, 4000), *e2e.flags(opts), "--device", "cuda"]
    return e2e.begin(ranks, out, args, mark, **how), out


def bad_numbers_not_yet_seen():
    """A signal between two rows: steps are queued, one of them has failed, and that is what ends the run."""
    with e2e.scratch() as folder:
        opts = options(optim_lr=1e6, optim_name="sgd", train_steps=10**7, train_log_every=10**6, train_eval_every=0)
        process, out = begin(1, folder, opts, "")
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        result = e2e.finish(process, "interrupted after bad numbers", 300)
        e2e.want(result.code == 5 and ": step 2: " in result.err, result.told())
        e2e.want(os.listdir(f"{out}/checkpoints") == ["step-00000001"], result.told())


def interrupted():
    """A signal ends the run at the next row, weights written."""
    with e2e.scratch() as folder:
        process, out = begin(1, folder, options(train_steps=100000), "tokens/s")
        process.send_signal(signal.SIGTERM)
        result = e2e.finish(process, "interrupted", 300)
        e2e.want(result.code == 130 and len(os.listdir(f"{out}/checkpoints")) == 1, result.told())


def lost_peer(hang_seconds, nccl_seconds, said):
    """Rank 0 stands still in a call of NCCL, which is lost to the other: one line from who notices first, exit code 6."""
    with e2e.scratch() as folder:
        emulated = {"SWT_EMU_NCCL_TIMEOUT": nccl_seconds, "SWT_EMU_NCCL_STOP": "100"}
        process, _ = begin(2, folder, options(train_steps=100000, run_hang_seconds=hang_seconds), "", env=emulated)
        result = e2e.finish(process, "a rank stands still", 120)
        lines = [line for line in result.err.splitlines() if "swt-dist: error:" in line]
        e2e.want(result.code == 6 and len(lines) == 1, result.told())
        e2e.want(re.search(said, lines[0]), lines[0])


def main():
    if e2e.GPUS == 0:
        print("skipped: no GPU to train on")
        sys.exit(77)
    suite = e2e.Suite()
    stacks = {"model_stacks": "encoder-decoder", "model_positions": "relative", "model_ffn": "geglu", "batch_target_len": 24}
    if e2e.cached("SWT_SANITIZE") == "thread":  # slow, and MPI and OpenMP are not made for it: one GPU alone
        suite.case("no host in a step", watched, [1])
        suite.finish()
    some = [n for n in (1, 2, 3, 4) if n <= e2e.GPUS]
    # 5 experts and 3 micro-batches: uneven on 2, 3 and 4 GPUs, and on 4 more ranks than micro-batches.
    if e2e.SLOW:
        suite.case("losses of the CPU, bits of one GPU", layouts, some[::2])
    else:
        twenty = {"train_steps": 20, "train_log_every": 1}
        suite.case("20 steps: losses of the CPU, bits of one GPU", lambda: layouts(some, **twenty))
    one = {"batch_micro_batches": 1, "dist_expert_ranks": 1}
    suite.case("encoder and decoder", lambda: layouts(some[:2], **stacks))
    suite.case("one micro-batch, replicas", lambda: layouts(some[:2], **one), heavy=True)
    suite.case("more GPUs than experts", lambda: layouts(some[1:3] or some, moe_experts=1), heavy=True)
    suite.case("bf16", bf16)
    suite.case("no host in a step", watched, some[:2], heavy=True)
    if len(some) > 1:
        suite.case("each rank sees a GPU of its own", gpus_of_their_own, some[-1])
    suite.case("eval and generate", reload)
    suite.case("auto takes GPUs", auto_takes_gpus)
    suite.case("bad numbers", bad_numbers)
    suite.case("bad numbers, left out", bad_numbers_left_out)
    suite.case("bad numbers not yet seen", bad_numbers_not_yet_seen)
    suite.case("interrupted", interrupted)
    if e2e.EMULATED:
        suite.case("too few GPUs", too_few_gpus)
        suite.case("a shared GPU", shared_gpu)
        suite.case("an old NCCL", old_nccl)
        suite.case("too little memory", too_little_memory)
        suite.case("a lost peer: NCCL notices", lost_peer, 0, "5", "nccl.* on rank ", heavy=True)
        suite.case("a lost peer: the watchdog does", lost_peer, 2, "60", "rank 0: not heard of for 2 s, .*; rank 1 waits at step ", heavy=True)
    suite.finish()


main()
