#!/usr/bin/python3
"""The same bits in any layout: after 20 steps with random drops, jitter and dropout the weights, losses and norms are equal over
ranks, threads and expert groups."""

from combine import choose, divisors, pairwise
from support import (
    LONG, SLOW, Suite, metrics, np, scratch, small, train, want, weights, weights_digest, write_text,
)

RANDOM = {
    "moe_drop": "random",
    "moe_jitter": 0.1,
    "moe_capacity_factor": 1.0,
    "moe_z_coef": 0.001,
    "model_dropout": 0.1,
    "moe_expert_dropout": 0.3,
}
EXACT = ("loss", "ce", "aux", "z", "grad_norm", "lr", "dropped", "load_max", "load_min", "load_cv", "accuracy")
EVALS = ("valid_loss", "valid_loss_dropless", "valid_dropped")


def fingerprint(out):
    """Everything of a run that no layout may change."""
    rows, evals = metrics(out)
    return weights_digest(out), [[r[k] for k in EXACT] for r in rows], [[r[k] for k in EVALS] for r in evals]


def name(layout):
    ranks, group, threads = layout
    return f"{ranks} ranks in groups of {group}, {threads} threads"


class Reference:
    """One configuration on one rank and thread, against which layouts are compared."""

    made = 0

    def __init__(self, folder, data, options):
        Reference.made += 1
        self.prefix, self.count = f"{Reference.made}", 0
        self.folder, self.data, self.options = folder, data, options
        self.out = self.train((1, 1, 1))
        self.seen = fingerprint(self.out)

    def train(self, layout):
        ranks, group, threads = layout
        self.count += 1
        options = dict(self.options, **{"dist.expert_ranks": group, "run.threads": threads})
        return train(ranks, self.folder, f"{self.prefix}-{self.count}", options, self.data)

    def compare(self, layout):
        got = fingerprint(self.train(layout))
        for what, a, b in zip(("weights", "training rows", "evaluation rows"), got, self.seen):
            differ = a != b
            at = (
                next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), "?") if differ and isinstance(a, list) else ""
            )
            want(not differ, f"{what} differ from those of 1 rank {at}")


def trained(reference):
    """A comparison of weights that never moved, or of runs that never drop a token, would prove nothing."""
    rows, _ = metrics(reference.out)
    want(len(rows) == 20, f"{len(rows)} training rows, 20 are due")
    want(rows[-1]["loss"] < rows[0]["loss"], "the loss does not fall")
    want(sum(r["dropped"] for r in rows) > 0, "no token was dropped")
    want(all(np.isfinite(v).all() for v in weights(reference.out).values()), "weights are not finite")


def layouts_of(experts):
    return [(ranks, group) for ranks in (1, 2, 3, 4, 6) for group in divisors(ranks) if group <= experts]


def same_bits(suite, folder, data):
    """E x M x layout x threads, every pair of them."""
    references = {}

    def reference(experts, micro_batches):
        key = experts, micro_batches
        if key not in references:
            options = small(moe_experts=experts, batch_micro_batches=micro_batches, **RANDOM)
            references[key] = Reference(folder, data, options)
        return references[key]

    for experts in (4, 5, 16):
        for layout, micro_batches, threads in choose(layouts_of(experts), (4, 6), (1, 2)):
            if SLOW and not LONG and (layout, micro_batches) not in (((3, 3), 4), ((4, 2), 6)):
                continue
            suite.case(
                f"E {experts}, M {micro_batches}, {name((*layout, threads))}",
                lambda: reference(experts, micro_batches).compare((*layout, threads)),
            )
    for (experts, micro_batches), r in references.items():
        suite.case(f"E {experts}, M {micro_batches}: learns and drops", trained, r)


# What changes the arithmetic, one value of each in a run. Random drops and jitter stay where nothing else is said.
VARIANTS = (
    ("moe.every", (1, 2)),
    ("moe.group", ("micro_batch", "sequence")),
    ("moe.drop", ("random", "priority", "position")),
    ("optim.name", ("adam", "sgd")),
    ("moe.z_coef", (0, 0.01)),
    ("moe.gate", ("scale", "unit")),
    ("moe.aux_layers", ("sum", "mean")),
    ("moe.dropped_output", ("gated_input", "zero")),
    ("data.tokenizer", ("char", "byte")),
    ("model.bias", ("true", "false")),
    ("model.init", ("switch", "labml")),
    ("moe.eval_capacity_factor", (0, 2)),
    ("moe.capacity_round", ("floor", "ceil", "round")),
    ("model.pad_id", (-1, 0)),
    ("moe.route_padding", ("true", "false")),
    ("moe.capacity_factor", (1, 0)),
)


def variants(suite, folder, data):
    keys = [key for key, _ in VARIANTS]
    for row in pairwise(*(values for _, values in VARIANTS))[: 2 if SLOW and not LONG else None]:
        options = small(moe_experts=5, batch_micro_batches=4, moe_jitter=0.1, train_steps=6)
        options.update(zip(keys, row))
        options["optim.lr"] = 0.1 if options["optim.name"] == "sgd" else 0.003
        suite.case(
            "variant " + " ".join(str(v) for v in row), lambda: Reference(folder, data, options).compare((3, 3, 1))
        )


def two_stacks(suite, folder, data):
    """An encoder, longer than the decoder, and cross-attention."""
    options = small(
        model_stacks="encoder-decoder", model_encoder_layers=2, model_layers=4, model_positions="relative", model_norm="rmsnorm",
        model_tied="true", model_bias="false", model_ffn="geglu", moe_every=2, moe_experts=5, batch_micro_batches=4, batch_seq_len=24,
        batch_target_len=8, **RANDOM,
    )
    reference = Reference(folder, data, options)
    for layout in ((3, 3, 1), (2, 1, 2), (4, 2, 1))[: 1 if SLOW and not LONG else None]:
        suite.case(f"encoder and decoder, {name(layout)}", reference.compare, layout)
    suite.case("encoder and decoder: learns and drops", trained, reference)


def few_micro_batches(suite, folder, data):
    """One micro-batch keeps its gradient in fp32 and skips the integer sum; two of three ranks have no work."""
    reference = Reference(folder, data, small(batch_micro_batches=1, batch_sequences=4, moe_experts=5, **RANDOM))
    for layout in ((3, 1, 1), (3, 3, 1), (2, 2, 2)):
        suite.case(f"M 1, {name(layout)}", reference.compare, layout)


def start_values(suite, folder, data):
    """labml's start: every layer and expert is a copy of the first, in any layout."""

    def compare():
        options = small(moe_experts=5, model_init="labml", train_steps=0)
        outs = [train(ranks, folder, f"start-{ranks}", options, data) for ranks in (1, 3)]
        want(weights_digest(outs[0]) == weights_digest(outs[1]), "the start differs between 1 and 3 ranks")
        w = weights(outs[0])
        for key, value in w.items():
            if ".experts." in key:
                first = "decoder.0.moe.experts.0." + key.split(".experts.")[1].split(".", 1)[1]
                want((value == w[first]).all(), f"{key} is no copy of {first}")
        other = train(1, folder, "start-pytorch", dict(options, **{"model.init": "pytorch"}), data)
        seen = {v.tobytes() for k, v in weights(other).items() if k.endswith(".wi.weight")}
        want(len(seen) == 10, "model.init pytorch: experts are copies")

    suite.case("start values", compare)


def main():
    suite = Suite()
    with scratch() as folder:
        data = write_text(folder)
        same_bits(suite, folder, data)
        few_micro_batches(suite, folder, data)
        two_stacks(suite, folder, data)
        variants(suite, folder, data)
        start_values(suite, folder, data)
    suite.finish()


main()
