#!/usr/bin/python3
"""The output z-loss in a whole step: its value and the head's gradient by their formulas, in F64, from the logits of the
same step; and in an encoder-decoder with a tied head the slope of the total loss."""

from slope import F32, loss_follows_gradient
from support import Probe, Suite, norm, np, scratch, want

SGD = {"optim_name": "sgd", "optim_schedule": "constant", "optim_lr": 1.0, "optim_clip_norm": 0.0}


def near(got, expected, limit, what):
    want(abs(got - expected) <= limit * abs(expected), f"{what} is {got:.8g}, by the formula {expected:.8g}")


def probe_with(probe, coef, ranks=1, **how):
    return probe.run(ranks, ("--optim.z_loss", coef), **how)


def by_formula(coef, ranks):
    with scratch() as folder:
        probe = Probe(folder, moe_experts=3, batch_micro_batches=3, moe_aux_coef=0.02, **SGD)
        out = probe_with(probe, coef, ranks)
        z, targets = out["logits"].astype(np.float64), probe.batch["targets"]
        real = targets >= 0
        lse = np.log(np.exp(z).sum(-1))
        ce = (lse - np.take_along_axis(z, np.maximum(targets, 0)[..., None], -1)[..., 0])[real].mean()
        square = (lse[real] ** 2).mean()
        # Means over some hundred numbers of a few roundings each, and of the logits, which were rounded when they were read.
        near(out["loss.ce"].item(), ce, 8 * F32, "loss.ce")
        near(out["loss.output_z"].item(), square, 8 * F32, "loss.output_z")
        total = ce + coef * square + 0.02 * float(out["loss.aux"].item())
        near(out["loss.total"].item(), total, 8 * F32, "loss.total")
        slope = np.exp(z - lse[..., None]) * (1 + 2 * coef * lse)[..., None]
        np.put_along_axis(slope, np.maximum(targets, 0)[..., None], np.take_along_axis(
            slope, np.maximum(targets, 0)[..., None], -1) - 1, -1)
        bias = slope[real].sum(0) / real.sum()
        off = norm([out["grad.head.bias"] - bias]) / norm([bias])
        # A sum over some hundred rows, whose terms of both signs are some times larger than it.
        want(off <= 1e-5, f"grad.head.bias is off by {off:.1e}")


def tied_slope():
    """Along the gradient the total loss rises as steeply as the gradient is long. No token is routed: no jumps."""
    with scratch() as folder:
        probe = Probe(folder, model_preset="t5", moe_every=0, **SGD)
        probe.cfg["optim.name"] = "sgd"
        out = probe_with(probe, 0.5)
        loss_follows_gradient(probe, out, 2.0**-9, lambda **how: probe_with(probe, 0.5, **how))


def main():
    suite = Suite()
    for coef, ranks in ((0.3, 1), (1e-4, 3)):
        suite.case(f"coefficient {coef} on {ranks}", by_formula, coef, ranks)
    suite.case("slope, encoder-decoder with a tied head", tied_slope)
    suite.finish()


main()
