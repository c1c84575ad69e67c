#!/usr/bin/python3
"""The traps that mixture-of-experts trainers have fallen into, as far as they show in whole runs, by their numbers.
Traps 4, 5 and 6 (capacity, permutation, routing twice) are tested on the operations."""

import os
import re

from combine import divisors
from slope import F32
from support import (
    Miss, Probe, SLOW, Suite, checkpoint, copy_checkpoint, flags, grads, metrics, norm, np, read, run,
    same_tensors, scratch, small, succeed, train, want, weights, weights_digest, write_text,
)

SGD = {"optim_name": "sgd", "optim_schedule": "constant", "optim_lr": 1.0, "optim_clip_norm": 0.0}


# ---------------------------------------------------------------- 1: expert gradient scale


def trap_1_expert_gradient_scale():
    """An expert's gradient is the same in every layout: the mean over micro-batches of their own gradients."""
    with scratch() as folder:
        probe = Probe(folder, moe_experts=8, moe_capacity_factor=8.0, batch_micro_batches=4, **SGD)
        steps = ("--optim-steps", 1)
        one = probe.run(1, steps)
        for ranks in (2, 4) if SLOW else (2, 3, 4):
            for group in divisors(ranks):
                other = probe.run(ranks, (*steps, "--dist.expert_ranks", group))
                wrong = same_tensors(one, other)
                want(not wrong, f"{ranks} ranks, groups of {group}: other bits in {wrong[:3]}")
        # Judge of the scale itself. Every micro-batch has the same number of targets, so the means agree.
        parts = [grads(probe.run(1, batch={k: v[m : m + 1] for k, v in probe.batch.items()})) for m in range(4)]
        for key, grad in grads(one).items():
            mean = sum(p[key].astype(np.float64) for p in parts) / 4
            # Each part is exact to some roundings of products over 64 tokens; 1e-5 is far below any wrong factor.
            want(
                np.linalg.norm(mean - grad) <= 1e-5 * np.linalg.norm(mean) + 1e-9,
                f"grad.{key} is not the mean of its parts",
            )
            moved = one["param." + key].astype(np.float64) - probe.weights[key]
            want(
                np.abs(moved + grad).max() <= 2 * F32 * np.abs(probe.weights[key]).max() + F32 * np.abs(grad).max(),
                f"SGD did not move {key} by its gradient",
            )


# ---------------------------------------------------------------- 2: aux and z scale


def slope_case(folder, key, **changes):
    """A batch without targets, where the loss is the auxiliary loss alone."""
    coefficients = {"moe_aux_coef": 1.0 if key == "aux" else 0.0, "moe_z_coef": 1.0 if key == "z" else 0.0}
    changes = {"moe_capacity_factor": 8.0, "batch_micro_batches": 2, **coefficients, **changes}
    probe = Probe(folder, **changes, **SGD)
    probe.batch["targets"][:] = -1
    if probe.cfg["model.pad_id"] >= 0:  # rows that end early, one of them at once
        for m, b in np.ndindex(probe.batch["tokens"].shape[:2]):
            tokens = probe.batch["tokens"][m, b]
            tokens[tokens == probe.cfg["model.pad_id"]] = 1
            tokens[5 * b + 3 * m + (b > 0) :] = probe.cfg["model.pad_id"]
    return probe


def directions(probe, grad, count):
    """Along the gradient, and at random; each touches the router's weights and biases of every layer."""
    gen = np.random.default_rng(7)
    keys = [k for k in probe.weights if ".moe.router." in k]
    rows = [{k: grad[k].astype(np.float64) for k in keys}]
    rows += [{k: gen.standard_normal(grad[k].shape) for k in keys} for _ in range(count)]
    return [{k: d / norm(row.values()) for k, d in row.items()} for row in rows]


def shifted(probe, direction, h, base):
    """Losses at weights + h direction; None where a token takes another expert, which is a jump of the loss. float32
    weights move by a rounded step; the step really made is returned."""
    changed = {k: (probe.weights[k] + h * d).astype(np.float32) for k, d in direction.items()}
    out = probe.run(weights_changed=changed)
    if any((out[k] != base[k]).any() for k in base if k.endswith(".expert")):
        return None
    return out, {k: changed[k].astype(np.float64) - probe.weights[k] for k in changed}


def central(probe, direction, base):
    """The widest of a few steps to both sides that changes no route."""
    for h in (2.0**-7, 2.0**-9, 2.0**-11):
        up, down = shifted(probe, direction, h, base), shifted(probe, direction, -h, base)
        if up and down:
            return h, up, down
    raise Miss("every step changes routes; choose another seed for this test")


def check_slopes(probe, key):
    base = probe.run()
    grad = grads(base)
    loss = float(base["loss." + key].item())
    want(base["loss.ce"].item() == 0.0, f"loss.ce is {base['loss.ce'].item()} without targets")
    want(base["loss.total"].item() == base["loss." + key].item(), "loss.total is not the auxiliary loss")
    router = norm(g for k, g in grad.items() if ".moe.router." in k)
    want(router > 1e-3, f"the router has no gradient ({router:.1e})")
    for number, direction in enumerate(directions(probe, grad, 2 if SLOW else 4)):
        h, (up, step_up), (down, step_down) = central(probe, direction, base)
        slope = float(up["loss." + key].item()) - float(down["loss." + key].item())
        expected = sum(float((grad[k].astype(np.float64) * (step_up[k] - step_down[k])).sum()) for k in direction)
        # The printed losses carry one rounding each and some of the arithmetic before it; the cubic term of a
        # central difference is h^2/6 of a third derivative, which for a softmax is of the size of the slope.
        limit = 8 * F32 * abs(loss) + 2 * h * router * 4 * h**2
        want(
            abs(slope - expected) <= limit,
            f"direction {number}: the loss changes by {slope:.8f}, the gradient says {expected:.8f} (within {limit:.1e})",
        )


def check_cuts(folder, key, **changes):
    """Eight sequences in 1, 2, 4, 8 micro-batches: with a pool per sequence the cut changes nothing but roundings."""
    probe = slope_case(folder, key, moe_group="sequence", batch_sequences=8, **dict(changes, batch_micro_batches=1))
    tokens = probe.batch["tokens"]
    whole = probe.run()
    for cut in (2, 4, 8):
        batch = {k: np.ascontiguousarray(v.reshape(cut, 8 // cut, tokens.shape[2])) for k, v in probe.batch.items()}
        for ranks in (1,) if SLOW else (1, cut if cut < 8 else 3):
            part = probe.run(ranks, batch=batch)
            want(
                abs(part["loss." + key].item() - whole["loss." + key].item())
                <= 8 * F32 * abs(whole["loss." + key].item()),
                f"cut in {cut}: loss.{key} is {part['loss.' + key].item()}, was {whole['loss.' + key].item()}",
            )
            for name, g in grads(whole).items():
                if ".router." in name:
                    off = np.linalg.norm(grads(part)[name] - g) / np.linalg.norm(g)
                    # Sums over 128 tokens in another order: a few roundings of terms as large as the result.
                    want(off <= 1e-5, f"cut in {cut} on {ranks} ranks: grad.{name} is off by {off:.1e}")


PADDED = {"model_pad_id": 0, "moe_route_padding": False}


def trap_2_aux_and_z_scale(key, padded, aux_layers, group):
    with scratch() as folder:
        changes = dict(PADDED if padded else {}, moe_aux_layers=aux_layers)
        check_slopes(slope_case(folder, key, seed=3, moe_group=group, **changes), key)


def trap_2_cuts(key, padded):
    with scratch() as folder:
        check_cuts(folder, key, **(PADDED if padded else {}))


def trap_2_logged_value():
    """The logged total is made of the logged parts with their coefficients."""
    with scratch() as folder:
        out = train(3, folder, "run", small(moe_aux_coef=0.05, moe_z_coef=0.002, optim_z_loss=0.01, train_steps=5), write_text(folder))
        for row in metrics(out)[0]:
            total = row["ce"] + 0.05 * row["aux"] + 0.002 * row["z"] + 0.01 * row["output_z"]
            want(
                abs(total - row["loss"]) <= 1e-12 * abs(total), f"step {row['step']}: loss {row['loss']}, parts {total}"
            )


# ---------------------------------------------------------------- 3: clip norm


def clipped_move(probe, ranks, extra, clip):
    out = probe.run(ranks, ("--optim-steps", 1, *extra), optim_clip_norm=clip)
    start = {k: a.astype(np.float64) for k, a in probe.weights.items()}
    return out, norm(out["param." + k] - a for k, a in start.items()), norm(start.values())


def trap_3_clip_norm():
    """After one step of SGD at rate 1 the parameters lie clip_norm away from the start, over every parameter once."""
    clip = 0.125
    with scratch() as folder:
        probe = Probe(folder, moe_experts=5, batch_micro_batches=4, **SGD)
        first, moved, size = clipped_move(probe, 1, (), clip)
        total = norm(grads(first).values())
        want(total > 2 * clip, f"the gradient of {total:.3f} would not be clipped")
        # Each parameter is rounded once: at most F32 of its size, and so is the norm of all these errors.
        want(abs(moved - clip * total / (total + 1e-6)) <= F32 * size, f"moved by {moved:.7f}, clip_norm is {clip}")
        for ranks, group in ((2, 1), (2, 2), (3, 3), (4, 2), (4, 4)):
            other, _, _ = clipped_move(probe, ranks, ("--dist.expert_ranks", group), clip)
            wrong = same_tensors(first, other)
            want(not wrong, f"{ranks} ranks in groups of {group}: other bits in {wrong[:3]}")


def trap_3_one_expert_counts(expert):
    """One expert's gradient is a hundred times the rest: a norm that leaves it out or counts it twice shows."""
    layer = "decoder.1.moe."
    with scratch() as folder:
        probe = Probe(folder, moe_experts=5, moe_capacity_factor=8.0, batch_micro_batches=2, moe_aux_coef=0.0, **SGD)
        w = probe.weights
        w[layer + "router.bias"][:] = 0
        w[layer + "router.bias"][expert] = 100.0  # every token goes there
        w[layer + f"experts.{expert}.wi.bias"][:] = 2000.0  # large hidden values ...
        w[layer + f"experts.{expert}.wo.weight"][:] = 0.0  # ... that nobody sees but wo's gradient
        for ranks in (1, 2, 4):
            out, moved, size = clipped_move(probe, ranks, (), 0.5)
            own = norm(g for k, g in grads(out).items() if f"{layer}experts.{expert}." in k)
            rest = norm(g for k, g in grads(out).items() if f"{layer}experts.{expert}." not in k)
            want(
                own > 100 * rest, f"the expert's gradient is {own:.2f}, the rest {rest:.2f}: the case is not as wanted"
            )
            want(abs(moved - 0.5) <= F32 * size + 0.5e-6, f"{ranks} ranks: moved by {moved:.6f}, clip_norm is 0.5")


# ---------------------------------------------------------------- 7: the right experts in checkpoints


def constants(tensors):
    """Each expert's tensor holds a number of its own layer, expert and role."""
    roles = {"wi.weight": 0, "wi.bias": 1, "wo.weight": 2, "wo.bias": 3}
    changed = {}
    for name, value in tensors.items():
        changed[name] = value
        if ".experts." in name:
            layer, expert = int(name.split(".")[1]), int(name.split(".")[5 - 1])
            number = 1000 * layer + 10 * expert + roles[name.split(".", 5)[5]]
            changed[name] = np.full_like(value, number)
    return changed


def trap_7_checkpoint_experts():
    with scratch() as folder:
        data = write_text(folder)
        options = small(model_layers=3, moe_experts=5, train_steps=0)
        first = train(1, folder, "first", options, data)
        planted = constants(weights(first, 0))
        values = {float(v.flat[0]) for k, v in planted.items() if ".experts." in k}
        want(len(values) == 3 * 5 * 4, f"{len(values)} different constants: the case is not as wanted")
        source = os.path.join(folder, "planted")
        copy_checkpoint(checkpoint(first), source, planted)
        for ranks, group in ((1, 0), (2, 0), (2, 1), (3, 0), (4, 0), (4, 2)):
            out = train(
                ranks,
                folder,
                f"{ranks}-{group}",
                dict(options, **{"dist.expert_ranks": group}),
                data,
                ["--init-from", source],
            )
            wrong = same_tensors(planted, weights(out, 0))
            want(not wrong, f"{ranks} ranks, groups of {group}: {wrong[:3]} came back changed")
            source = out  # the next one reads what this layout wrote


# ---------------------------------------------------------------- 8: uneven work must not hang


def trap_8_uneven_work(data, folder, micro_batches, experts, ranks):
    options = small(batch_micro_batches=micro_batches, moe_experts=experts, train_steps=3)
    outs = {}
    for n in (1, ranks):
        out = os.path.join(folder, f"{micro_batches}-{experts}-{ranks}-of-{n}")
        outs[n] = out
        said = succeed(n, ["--data", data, "--out", out, *flags(options)], timeout=60)
        warnings = [line for line in said.out.splitlines() if "warning" in line]
        due = n > micro_batches
        want(len(warnings) == due, f"{n} ranks, {micro_batches} micro-batches: {len(warnings)} warnings")
        want(not due or "batch.micro_batches" in warnings[0], f"the warning names no key: {warnings}")
        want(not said.err, f"on standard error: {said.err.strip()[:200]}")
    want(weights_digest(outs[1]) == weights_digest(outs[ranks]), f"{ranks} ranks give other weights than 1")


# ---------------------------------------------------------------- 9: numbers that are none


def trap_9_nonfinite_stops_all_ranks(ranks, micro_batches, every):
    """One line on whatever ranks, which the log has too, and the weights of the last good step, which it names: those of a
    run that ends there by itself. Nothing that is published holds a number that is none."""
    with scratch() as folder:
        data, out = write_text(folder), os.path.join(folder, "run")
        options = small(
            batch_micro_batches=micro_batches, optim_name="sgd", optim_lr=1e6, optim_clip_norm=0.0,
            train_steps=1000, train_checkpoint_every=every, run_threads=1,
        )
        result = run(ranks, ["--data", data, "--out", out, *flags(options)], timeout=60)
        want(result.code == 5, result.told())
        lines = result.err.strip().splitlines()
        want(len(lines) == 1 and lines[0].startswith("swt-dist: error: "), f"{len(lines)} error lines: {lines[:3]}")
        last = read(os.path.join(out, "log.txt")).splitlines()[-1]
        want("error: " + lines[0].split("error: ", 1)[1] == last, f"the log ends with {last}")
        rows = metrics(out)[0]
        want(len(rows) < 1000, "all steps were done")
        want(all(np.isfinite(v) for r in rows for v in r.values()), "a row holds a number that is none")
        names = sorted(os.listdir(os.path.join(out, "checkpoints")))
        step = int(re.search(r"the weights of step (\d+) are in ", lines[0])[1])
        want(names and names[-1] == f"step-{step:08d}", f"checkpoints {names}, but {lines[0]}")
        for name in names:
            want(not name.startswith("."), f"{name} was left behind")
            bad = [k for k, v in weights(out, int(name[5:])).items() if not np.isfinite(v).all()]
            want(not bad, f"{name} was published with {bad[:2]} not finite")
        again = os.path.join(folder, "again")  # its evaluation may end it, after its last step
        run(1, ["--data", data, "--out", again, *flags({**options, "train.steps": step})])
        want(not same_tensors(weights(again), weights(out)), f"the weights are not those of {step} steps")


def want_exit_5(probe, what, ranks, extra=()):
    try:
        probe.run(ranks, extra)
    except Miss as miss:
        want(str(miss).startswith("exit 5"), f"{what} on {ranks} ranks: {miss}")
    else:
        raise Miss(f"{what} on {ranks} ranks: ended as if all were well")
    want(not os.path.exists(probe.out), "an output file was left behind")


def trap_9_nonfinite_weights():
    """One number that is none in one expert stops every rank, and no output appears."""
    with scratch() as folder:
        probe = Probe(folder, batch_micro_batches=4, **SGD)
        for value in (np.nan, np.inf):
            probe.weights["decoder.1.moe.experts.3.wo.weight"][0, 0] = value
            for ranks in (1, 4):
                want_exit_5(probe, value, ranks, ("--optim-steps", 1))


def trap_9_nonfinite_on_one_rank():
    """A number that is none is met by one rank's micro-batch alone: all ranks end together, with one line."""
    with scratch() as folder:
        probe = Probe(folder, batch_micro_batches=4, **SGD)
        tokens = probe.batch["tokens"]
        tokens[tokens == 0] = 1
        tokens[1, 0, 0] = 0
        probe.weights["embed.weight"][0, 0] = np.nan
        for ranks in (1, 2, 3, 4):
            want_exit_5(probe, "a bad token", ranks)


# ---------------------------------------------------------------- 10: evaluation changes nothing


def printed(result):
    """{"valid_loss": "2.345678", ...}: the numbers that eval prints."""
    rows = dict(line.split(None, 1) for line in result.out.splitlines() if line.startswith(("valid", "targets")))
    return {k: v.split()[0] for k, v in rows.items()}


def trap_10_evaluation_is_neutral():
    with scratch() as folder:
        data = write_text(folder)
        options = small(
            moe_drop="random", moe_jitter=0.1, moe_capacity_factor=1.0, train_steps=10, data_valid_fraction=0.05
        )
        out = train(1, folder, "never", options, data)
        often = train(2, folder, "often", dict(options, **{"train.eval_every": 5, "train.sample_every": 3}), data)
        want(weights_digest(out) == weights_digest(often), "evaluating changes the weights")
        evals = metrics(often)[1]
        want([r["step"] for r in evals] == [5, 10], f"evaluations at {[r['step'] for r in evals]}")
        said = [printed(succeed(ranks, ["eval", "--checkpoint", out, "--data", data])) for ranks in (1, 1, 2, 4)]
        want(all(s == said[0] for s in said), f"eval differs from call to call or over ranks: {said}")
        for key in ("valid_loss", "valid_loss_dropless"):
            # The line has six digits after the point, the row all of them.
            want(
                abs(float(said[0][key]) - evals[-1][key]) <= 0.51e-6,
                f"{key}: eval says {said[0][key]}, the run {evals[-1][key]}",
            )
        want(
            abs(float(said[0]["valid_dropped"]) - 100 * evals[-1]["valid_dropped"]) <= 0.51e-4, "valid_dropped differs"
        )
        want(evals[-1]["valid_dropped"] > 0, "nothing was dropped: the case is not as wanted")
        other = printed(succeed(1, ["eval", "--checkpoint", out, "--data", data, "--batch.sequences", 7]))
        # Without drops a token's loss does not know its neighbours; sums in another order differ by roundings.
        want(
            abs(float(other["valid_loss_dropless"]) - evals[-1]["valid_loss_dropless"]) <= 2e-6,
            f"dropless loss with 7 sequences is {other['valid_loss_dropless']}, with 2 {said[0]['valid_loss_dropless']}",
        )
        want(other["targets"] == said[0]["targets"], "another batch size counts other targets")


def main():
    suite = Suite()
    suite.case("trap 1: expert gradient scale", trap_1_expert_gradient_scale)
    for n, (key, padded, layers, group) in enumerate(
        (
            ("aux", False, "sum", "micro_batch"),
            ("z", False, "mean", "micro_batch"),
            ("aux", True, "mean", "sequence"),
            ("z", True, "sum", "micro_batch"),
        )
    ):
        suite.case(
            f"trap 2: slope of {key}, {layers}, pool {group}{', padded' if padded else ''}",
            trap_2_aux_and_z_scale,
            key,
            padded,
            layers,
            group,
            heavy=n > 0,
        )
    for n, (key, padded) in enumerate((("aux", False), ("z", True), ("aux", True))):
        suite.case(f"trap 2: cuts, {key}{', padded' if padded else ''}", trap_2_cuts, key, padded, heavy=n > 0)
    suite.case("trap 2: logged value", trap_2_logged_value)
    suite.case("trap 3: clip norm", trap_3_clip_norm, heavy=True)
    for expert in (0, 2, 4):
        suite.case(f"trap 3: expert {expert} counts once", trap_3_one_expert_counts, expert, heavy=expert > 0)
    suite.case("trap 7: checkpoint experts", trap_7_checkpoint_experts, heavy=True)
    with scratch() as folder:
        data = write_text(folder, 4000)
        for work in ((1, 4, 3), (2, 5, 4), (5, 4, 4), (3, 2, 4), (4, 1, 3), (5, 5, 3)):
            suite.case(
                "trap 8: uneven work, M {}, E {} on {} ranks".format(*work),
                trap_8_uneven_work,
                data,
                folder,
                *work,
                heavy=work != (5, 4, 4),
            )
    for work in ((1, 4, 0), (2, 4, 0), (4, 4, 1), (1, 4, 1), (1, 1, 1), (4, 1, 1)):
        name = "trap 9: nonfinite stops {} ranks, M {}, a checkpoint every {}".format(*work)
        suite.case(name, trap_9_nonfinite_stops_all_ranks, *work, heavy=work != (4, 4, 1))
    suite.case("trap 9: nonfinite weights", trap_9_nonfinite_weights)
    suite.case("trap 9: nonfinite on one rank", trap_9_nonfinite_on_one_rank)
    suite.case("trap 10: evaluation is neutral", trap_10_evaluation_is_neutral)
    suite.finish()


main()
