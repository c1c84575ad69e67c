#!/usr/bin/python3
"""Dropout in whole steps. Which numbers are dropped follows from the seed and the step alone, so two probes of one step
drop the same: the gradient is judged by the slope of the loss. Places are told apart by what a place cannot touch."""

from slope import loss_follows_gradient
from support import Probe, Suite, metrics, np, same_tensors, scratch, small, train, want, weights_digest, write_text

SGD = {"optim_schedule": "constant", "optim_lr": 1.0, "optim_clip_norm": 0.0}


def run(probe, model=0.0, expert=0.0, ranks=1, **how):
    return probe.run(ranks, ("--model.dropout", model, "--moe.expert_dropout", expert), **how)


def slope(model, expert, changes):
    """Along the gradient the loss rises as steeply as the gradient is long. One expert or none: nothing jumps."""
    with scratch() as folder:
        probe = Probe(folder, optim_name="sgd", **SGD, **changes)
        out = run(probe, model, expert)
        loss_follows_gradient(probe, out, 2.0**-8, lambda **how: run(probe, model, expert, **how))


def experts_alone():
    """moe.expert_dropout leaves a model without experts alone, to the bit."""
    with scratch() as folder:
        probe = Probe(folder, moe_every=0)
        wrong = same_tensors(run(probe), run(probe, expert=0.5))
        want(not wrong, f"other bits in {wrong[:5]}")


def hidden_units():
    """An expert with a single token: a hidden value that is dropped has no gradient in wo's column and wi's row, one that is
    kept has, GELU being 0 nowhere else. Their share is p; router, routes and what comes before the layer are untouched."""
    with scratch() as folder:
        probe = Probe(folder, model_layers=1, model_ffn="gelu", moe_experts=48, moe_capacity_factor=48.0, batch_micro_batches=2)
        base, out = run(probe), run(probe, expert=0.4)
        want((base["moe.decoder.0.expert"] == out["moe.decoder.0.expert"]).all(), "other routes")
        tokens = np.bincount(out["moe.decoder.0.expert"].ravel(), minlength=48)
        dropped = hidden = 0
        for e in np.flatnonzero(tokens == 1):
            wo, wi = (out[f"grad.decoder.0.moe.experts.{e}.{k}.weight"] for k in ("wo", "wi"))
            zero = ~wo.any(0)
            want((zero == ~wi.any(1)).all(), f"expert {e}: wi and wo do not drop the same")
            want(base[f"grad.decoder.0.moe.experts.{e}.wo.weight"].any(0).all(), f"expert {e}: a hidden value is 0 anyway")
            dropped, hidden = dropped + zero.sum(), hidden + zero.size
        want(hidden >= 300, f"{hidden} hidden values are too few")
        want(abs(dropped - 0.4 * hidden) <= 5 * np.sqrt(0.24 * hidden), f"{dropped} of {hidden} dropped")
        other = run(probe, model=0.4)
        tokens = np.bincount(other["moe.decoder.0.expert"].ravel(), minlength=48)
        for e in np.flatnonzero(tokens == 1):
            want(other[f"grad.decoder.0.moe.experts.{e}.wo.weight"].any(0).all(), "model.dropout drops experts' hidden values")


def layouts():
    """The same step on 1, 2 and 3 ranks, in groups of any size."""
    with scratch() as folder:
        probe = Probe(folder, moe_experts=3, batch_micro_batches=4, model_layers=2, model_ffn="geglu")
        one = run(probe, 0.1, 0.3)
        for ranks in (2, 3):
            wrong = same_tensors(one, run(probe, 0.1, 0.3, ranks))
            want(not wrong, f"{ranks} ranks: other bits in {wrong[:5]}")


def training_only():
    """An evaluation has no dropout; a step has another mask each time; and the seed decides."""
    with scratch() as folder:
        data, dropout = write_text(folder), {"model_dropout": 0.3, "moe_expert_dropout": 0.3}
        valid = [metrics(train(1, folder, f"eval{i}", small(train_steps=0, **d), data))[1][-1] for i, d in enumerate(({}, dropout))]
        want(valid[0] == valid[1], f"evaluations differ: {valid}")
        # A rate of 0: the weights stay, and the losses differ by the batch and by the mask alone.
        still = {"optim_lr": 0.0, "train_steps": 2, "train_log_every": 1}
        plain, dropped = (metrics(train(1, folder, f"still{i}", small(**still, **d), data))[0] for i, d in enumerate(({}, dropout)))
        want(all(a["ce"] != b["ce"] for a, b in zip(plain, dropped)), "dropout changes no loss")
        seeds = [weights_digest(train(1, folder, f"seed{i}", small(train_seed=i, train_steps=1, **dropout), data)) for i in (1, 2)]
        again = weights_digest(train(2, folder, "again", small(train_seed=1, train_steps=1, **dropout), data))
        want(seeds[0] != seeds[1] and seeds[0] == again, "the seed does not decide")


def main():
    suite = Suite()
    suite.case("slope, encoder-decoder", slope, 0.2, 0.0, {"model_preset": "t5", "moe_every": 0})
    suite.case("slope, encoder-decoder, ReLU", slope, 0.2, 0.0, {"model_preset": "t5", "moe_every": 0, "model_ffn": "relu"})
    suite.case("slope, an expert", slope, 0.1, 0.4, {"moe_experts": 1, "model_ffn": "geglu", "moe_capacity_factor": 1.0})
    suite.case("slope, an expert of ReLU", slope, 0.0, 0.4, {"moe_experts": 1, "moe_capacity_factor": 1.0})
    suite.case("experts alone", experts_alone)
    suite.case("an expert's hidden units", hidden_units)
    suite.case("layouts", layouts)
    suite.case("training only", training_only)
    suite.finish()


main()
