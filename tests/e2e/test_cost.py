#!/usr/bin/python3
"""What things cost: the layers' table of plan, and the FLOPs and times of metrics.jsonl, against counts by hand."""

import os
import re

from support import ROOT, Plan, Suite, metrics, np, read, scratch, small, train, want, write_text

ARENAS = ("PARAM", "GRAD", "OPT", "ACT", "SCRATCH", "COMM", "HOST")
WORKING = ("ACT", "SCRATCH", "COMM")  # what grows with the tokens of a micro-batch
MIB = 1 << 20


def near(a, b, bound, what):
    want(abs(a - b) <= bound, f"{what}: {a} and {b} differ by more than {bound}")


# ---------------------------------------------------------------- the table of layers


def adds_up(**changes):
    """Layers and rest are the rank, in every column. MiB have 3 decimals: half a unit of the last for each number."""
    for ranks in (1, 3):
        plan = Plan(small(model_layers=5, **changes), ranks)
        rank, lines = plan.ranks["0"], plan.layers.values()
        layers = sum(line["number"] for line in lines)
        for column in (*ARENAS, "total", "parameters"):
            total = sum(line["number"] * line[column] for line in lines)
            near(total, rank[column], 0.0005 * (layers + 1.001), f"{changes}, {ranks} ranks, {column}")
        want(layers == 6 and len(plan.said.split("\n\n")) == 3, f"a line too many or too few: {plan.said}")


# Large enough that nothing but tensors of whole tokens counts, and a capacity that no rounding changes.
WIDE = {"batch.sequences": 8, "batch.seq_len": 128, "moe.capacity_factor": 1.25, "moe.every": 2, "model.layers": 4}


def one_more_token():
    """A micro-batch of twice the tokens holds what bytes/token says for each of them."""
    for ranks in (1, 2):
        once, twice = (Plan({**small(), **WIDE, "batch.sequences": n}, ranks) for n in (8, 16))
        more = sum(twice.ranks["0"][k] - once.ranks["0"][k] for k in WORKING) * MIB / (8 * 128)
        said = sum(line["number"] * line["activations"] for line in once.layers.values())
        # Vectors over experts are the same for both: 2 layers of a few (E) and (El, P), 64 bytes each in the arenas;
        # and so is the state. Scratch of operations may stop growing with N.
        near(said, more, 0.01 * more, f"{ranks} ranks, bytes per token")


def one_more_layer():
    """A model with one more layer of a kind holds as much more as the kind's line says; also on two ranks, which keep
    integer sums of the shared parameters alone."""
    small_one = {**small(), **WIDE, "batch.micro_batches": 2}
    for ranks in (1, 2):
        fewer = Plan({**small_one, "model.layers": 4}, ranks)  # dense, sparse, dense, sparse
        more = Plan({**small_one, "model.layers": 5}, ranks)  # a dense one more
        most = Plan({**small_one, "model.layers": 6}, ranks)  # and a sparse one
        for column in (*ARENAS[:4], "parameters"):
            for kind, a, b in (("dense", fewer, more), ("sparse", more, most)):
                grown = b.ranks["0"][column] - a.ranks["0"][column]
                # Three printed numbers, and what aligns tensors and counts squares: below 1 KiB a layer.
                near(fewer.layers[kind][column], grown, 0.0015 + 0.001, f"{ranks} ranks, {kind}, {column}")


def dense_layer_by_hand():
    """Without Adam and integer sums, and a dense layer's parameters: norms, q, k, v, o, the two of the feed-forward."""
    options = {**small(), **WIDE, "optim.name": "sgd", "batch.micro_batches": 1}
    line, C, F = Plan(options).layers["dense"], 32, 64
    parameters = 2 * 2 * C + 4 * (C * C + C) + (C * F + F) + (F * C + C)
    want(line["parameters"] == parameters, f"{line['parameters']} parameters, {parameters} by hand")
    near(line["PARAM"], 4 * parameters / MIB, 0.0005, "PARAM")
    near(line["GRAD"], 4 * parameters / MIB, 0.0005, "GRAD")
    want(line["OPT"] == 0, f"SGD has no moments, plan says {line['OPT']} MiB")
    line, layer = Plan({**options, "optim.name": "adafactor"}).layers["dense"], 4 * (C + C) + 2 * (F + C)
    vectors = 2 * 2 * C + 4 * C + F + C
    near(line["OPT"], 4 * (layer + vectors) / MIB, 0.0005, "OPT of Adafactor: rows, columns, vectors")
    # Backward needs at least the input of each of the 4 products, and q, k, v.
    least = 4 * (C + 3 * C + C + C + F)
    want(least <= line["activations"] <= 2 * least, f"{line['activations']} bytes per token, at least {least} are due")


def every_rank_by_hand():
    """Two replicas of three ranks with 5, 5 and 4 experts: who holds what, and whose tensors count in the clip norm."""
    layers, experts, span_bytes = 40, (5, 5, 4, 5, 5, 4), 24
    options = small(model_layers=layers, model_width=16, model_hidden=16, moe_experts=14, dist_expert_ranks=3, moe_every=1)
    rows = Plan(options, 6).ranks
    tensors = 4 * layers  # of one expert in every layer: two weights, two biases
    parameters = (2 * 16 * 16 + 2 * 16) * layers
    shared = layers * (2 * 2 + 4 * 2 + 2) + 1 + 2 + 2  # norms, q, k, v, o, router; embedding, last norm, head
    for rank, count in enumerate(experts):
        more = rows[str(rank)]["parameters"] - rows["0"]["parameters"]
        want(rows[str(rank)]["experts"] == count, f"experts of rank {rank}: {rows[str(rank)]}")
        want(more == (count - 5) * parameters, f"parameters of rank {rank}: {rows[str(rank)]}")
    # The first replica lists its experts' tensors for the norm, rank 0 the shared ones, too.
    for first, second in ((0, 3), (1, 4), (2, 5)):
        spans = tensors * experts[first] + (shared if first == 0 else 0)
        more = rows[str(first)]["GRAD"] - rows[str(second)]["GRAD"]
        near(more, span_bytes * spans / MIB, 0.0015, f"GRAD of ranks {first} and {second}")


# ---------------------------------------------------------------- FLOPs


def flops_by_hand(options, vocabulary, slots):
    """Product by product, each 2 per multiply-add; backward has two products of the same size for each."""
    L, C, H = options["model.layers"], options["model.width"], options["model.heads"]
    F, E, T = options["model.hidden"], options["moe.experts"], options["batch.seq_len"]
    sequences, D = options["batch.sequences"] * options["batch.micro_batches"], C // H
    total = 2 * slots * (C * F + F * C)
    for _ in range(sequences):
        for layer in range(L):
            total += 3 * 2 * T * C * H * D  # q, k, v
            for t in range(T):
                total += 2 * H * 2 * D * (t + 1)  # scores, and the mean of the values, over what t sees
            total += 2 * T * H * D * C  # o
            sparse = layer % options["moe.every"] == options["moe.every"] - 1
            total += 2 * T * C * E if sparse else 2 * 2 * T * C * F
        total += 2 * T * C * vocabulary  # head
    return 3 * total


def capacity_by_hand(options):
    """Slots of an expert: labml rounds down."""
    tokens = options["batch.sequences"] * options["batch.seq_len"]
    return int(options["moe.capacity_factor"] * tokens / options["moe.experts"])


def flops(ranks, micro_batches):
    """Useful: the tokens that were not dropped. Padded: every slot. The plan says the latter before the run."""
    options = small(
        model_layers=5, moe_every=2, moe_experts=5, moe_capacity_factor=0.9, batch_micro_batches=micro_batches
    )
    with scratch() as folder:
        data = write_text(folder)
        rows, _ = metrics(train(ranks, folder, "run", {**options, "train.steps": 5}, data))
        plan = Plan(options, ranks, data)
        vocabulary = int(plan.number(r"vocabulary (\d+)"))
        layers, tokens = 2, micro_batches * 2 * 16
        slots = layers * micro_batches * 5 * capacity_by_hand(options)
        want(len(rows) == 5, f"{len(rows)} rows")
        for row in rows:
            kept = layers * tokens * (1.0 - row["dropped"])
            near(kept, round(kept), 1e-9, "kept tokens")  # a whole number: dropped is an exact share
            want(round(kept) < layers * tokens, "nothing was dropped: the two counts would be the same")
            for name, number in (("flops_useful", round(kept)), ("flops_padded", slots)):
                by_hand = flops_by_hand(options, vocabulary, number)
                want(row[name] == by_hand, f"{name} is {row[name]}, by hand {by_hand}")  # whole, below 2^53
        # Six digits are printed.
        padded = plan.number(r"(\S+) with every slot filled")
        near(padded, rows[0]["flops_padded"], 5e-6 * padded, "the plan's FLOPs with every slot filled")
        undropped = flops_by_hand(options, vocabulary, layers * tokens)
        near(plan.number(r"(\S+) a step with no token"), undropped, 5e-6 * undropped, "the plan's FLOPs without drops")
        per_token = plan.number(r"forward, (\S+) forward and backward")
        near(per_token * tokens, undropped, 5e-4 * undropped, "the plan's FLOPs per token")  # four digits


# ---------------------------------------------------------------- times


def times(ranks):
    """Communication is a part of the step; on one rank nothing travels, and only the clock's own time is left."""
    with scratch() as folder:
        rows, _ = metrics(train(ranks, folder, "run", small(moe_every=1), write_text(folder)))
        for row in rows:
            want(0 <= row["comm_ms"] <= row["step_ms"], f"comm_ms {row['comm_ms']} of step_ms {row['step_ms']}")
            near(row["tokens_per_s"] * row["step_ms"], 1e3 * 4 * 2 * 16, 1e-6, "tokens")
        share = np.median([row["comm_ms"] / row["step_ms"] for row in rows])
        # Some 40 calls a step of below a microsecond each, in a step of some milliseconds; and on several ranks at
        # least as many messages, which take a microsecond or more.
        want(share < 0.1 if ranks == 1 else share > 0.005, f"communication is {100 * share:.3f} % of a step")


def long_text():
    """The tokens that ranks hold beside their arenas: 4 bytes each, and 4 for each window's place in the order."""
    with scratch() as folder:
        path = os.path.join(folder, "long.txt")
        with open(path, "w", encoding="utf-8") as f:
            f.write("abcd" * 500000)
        plan = Plan(small(), 2, path)
        windows = (int(0.98 * 2e6) - 1) // 16
        near(plan.number(r"text +2000000 tokens, (\S+) MiB"), (8e6 + 4 * windows) / MIB, 0.0005, "MiB of text")
        want("text " not in Plan(small()).said, "a plan without a text speaks of one")


# ---------------------------------------------------------------- published models

CONFIGS = os.path.join(ROOT, "configs")
# Parameters as the published shapes have them, counted by other programs (of Switch-C its authors' own shape: all of the
# 15 + 15 blocks are sparse; 1571 billion in the paper's table 9).
PUBLISHED = {
    "switch-base-8": 619339008,
    "switch-base-16": 1072397568,
    "switch-base-32": 1978514688,
    "switch-base-64": 3790748928,
    "switch-base-128": 7415217408,
    "switch-base-256": 14664154368,
    "switch-large-128": 26309291008,
    "switch-xxl-128": 394675073024,
    "switch-c-2048": 1571327875360,
}
# The paper's table 9: billions of parameters to the digit that it prints, width, hidden, heads, layers; FLOPs of a sequence.
DENSE = {"t5-base": (0.2, 768, 2048, 12, 12), "t5-large": (0.7, 1024, 2816, 16, 24), "t5-xxl": (11, 4096, 10240, 64, 24)}
FLOPS = {"t5-base": 124e9, "t5-large": 425e9, "t5-xxl": 6.3e12}
MATCHED = {"t5-base": "switch-base-128", "t5-large": "switch-large-128", "t5-xxl": "switch-xxl-128"}


def planned(name, ranks=1, **changes):
    """A file of configs/, with a vocabulary where it leaves that to a text."""
    path = os.path.join(CONFIGS, name + ".yaml")
    vocab = re.search(r"^  vocab: (\d+)", read(path), re.M)
    return Plan({**changes, "config": path, "model.vocab": vocab[1] if vocab else 65}, ranks)


def published(name):
    """The sum over all ranks' experts and the shared part, once, is the whole model, too: a rank has one expert."""
    count, ranks = PUBLISHED[name], int(name.rsplit("-", 1)[1])
    plan = planned(name, ranks)
    want(plan.number(r"parameters +(\d+) in all") == count, plan.said.split("\n\n", maxsplit=1)[0])
    want(f"{count:,} parameters" in read(os.path.join(CONFIGS, name + ".yaml")), "its file says another number")
    active = plan.number(r"(\d+) active per token")
    want(len(plan.ranks) == ranks, f"{len(plan.ranks)} ranks")
    want({line["parameters"] for line in plan.ranks.values()} == {active}, "a rank of one expert holds what a token meets")


def dense(name):
    """Parameters by hand; FLOPs as many as the Switch of the same row has without its router, and in the paper's ratios."""
    billions, C, F, H, L = DENSE[name]
    plan, switch = planned(name), planned(MATCHED[name])
    one = 4 * C * 64 * H + 3 * C * F + 2 * C  # of an encoder's block: attention, GEGLU, norms; and a decoder's has more:
    count = L * (2 * one + 4 * C * 64 * H + C) + 2 * (C + 32 * H) + 32128 * C * (2 if name == "t5-xxl" else 1)
    want(plan.number(r"parameters +(\d+) in all") == count, f"{count} parameters by hand: {plan.said[:600]}")
    want(int(count / 1e8 + 1e-6) / 10 == billions or round(count / 1e9) == billions, f"the paper prints {billions} billion")
    want(f"{count:,} parameters" in read(os.path.join(CONFIGS, name + ".yaml")), "its file says another number")
    per_token = r"FLOPs +(\S+) per token forward"
    router = 2 * C * 128 * L / 2  # a sparse block in two, in both stacks
    if name == "t5-large":  # the published shape has ReLU and 4096 where the table has GEGLU and 2816
        router += 2 * C * (2 * 4096 - 3 * F) * L
    near(switch.number(per_token), plan.number(per_token) + router, 1e-3 * router + 1e-3 * plan.number(per_token), "FLOPs")
    ratio = plan.number(per_token) / planned("t5-base").number(per_token)
    # The paper counts neither all of attention's scores nor the keys of every input; both are a few per cent.
    near(ratio, FLOPS[name] / FLOPS["t5-base"], 0.04 * ratio, "FLOPs against those of T5-Base")


def switch_c():
    """In no time, though it has 2048 ranks and 125,000 tensors."""
    before = os.times()
    plan = planned("switch-c-2048", 2048)
    after = os.times()  # of the processor, which a busy machine does not change
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    want(seconds < 2, f"took {seconds} s")
    line = plan.ranks["2047"]
    want(line["all-to-all"] > 0 and line["all-reduce"] > 0, "no messages")


# What is left of a GPU's memory, in GiB, by its name.
ROOM = {"16 GB": 14, "24 GB": 22, "40 GB": 39, "48 GB": 44, "80 GB": 79, "141 GB": 140, "180 GB": 178, "no GPU": float("inf")}


def device(ranks, sequences):
    """What the first rank holds but on its host, and the smallest memory that this and 1 GiB fit into."""
    plan = planned("switch-base-128", ranks, **{"batch.sequences": sequences})
    held = sum(plan.ranks["0"][name] for name in ARENAS if name != "HOST")
    near(plan.number(r"device +(\S+) MiB"), held, 0.05 + 6 * 0.0005, "MiB on the device")
    fits = next(name for name, gib in ROOM.items() if held / 1024 + 1 <= gib)
    want(re.search(f"device .*{fits}", plan.said), f"{held} MiB, not {fits!r}: {plan.said[:1200]}")
    others = [line["total"] - line["HOST"] for line in plan.ranks.values()]
    want(max(others) <= held + 0.001, f"the first rank holds {held} MiB, another {max(others)}")


def every_file():
    """Each can be planned; the labml ones are the other tests'."""
    names = sorted(name[: -len(".yaml")] for name in os.listdir(CONFIGS))
    want(set(PUBLISHED) | set(DENSE) <= set(names) and {"ci-t5", "ci-switch", "ci-switch-small"} <= set(names), f"{names}")
    for name in names:
        planned(name, 2)


def main():
    suite = Suite()
    for name in PUBLISHED:
        suite.case(f"parameters of {name}", published, name)
    for name in DENSE:
        suite.case(f"parameters and FLOPs of {name}", dense, name)
    suite.case("Switch-C on 2048 ranks", switch_c, heavy=True)
    suite.case("every file of configs", every_file)
    for ranks, sequences in ((128, 1), (128, 16), (16, 16), (8, 16), (4, 32), (2, 16), (1, 16), (1, 256)):
        suite.case(f"memory of a device, {ranks} ranks of {sequences}", device, ranks, sequences)
    for every in (0, 1, 2, 6):
        suite.case(f"layers and rest add up, every = {every}", lambda n=every: adds_up(moe_every=n, moe_experts=5))
    suite.case("one more token", one_more_token, heavy=True)  # sentinels would count
    suite.case("one more layer", one_more_layer, heavy=True)
    suite.case("a dense layer by hand", dense_layer_by_hand, heavy=True)
    suite.case("every rank by hand", every_rank_by_hand, heavy=True)
    for ranks, micro_batches in ((1, 1), (1, 4), (2, 4), (4, 1)):
        suite.case(f"FLOPs on {ranks} ranks, M = {micro_batches}", flops, ranks, micro_batches)
    for ranks in (1, 2):
        suite.case(f"times on {ranks} ranks", times, ranks, heavy=True)
    suite.case("the plan of a long text", long_text)
    suite.finish()


main()
