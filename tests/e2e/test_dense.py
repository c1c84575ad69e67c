#!/usr/bin/python3
"""One expert is a dense layer: with room for every token its gate is exactly 1 and what it gives is, bit for bit, what a
dense feed-forward of the same weights gives; so are all gradients, and the router's is 0."""

from support import Probe, Suite, np, same_tensors, scratch, want

SGD = {"optim_name": "sgd", "optim_schedule": "constant", "optim_lr": 1.0, "optim_clip_norm": 0.0}
ONE = {"moe_experts": 1, "moe_every": 1, "moe_capacity_factor": 1.0, "moe_aux_coef": 0.5, "moe_z_coef": 0.0}


def as_dense(tensors):
    """The expert's tensors under the dense layer's names, without what a dense layer has not."""
    return {
        k.replace(".moe.experts.0.", ".ffn.").replace(".moe_norm.", ".ffn_norm."): v
        for k, v in tensors.items()
        if ".router." not in k and not k.startswith(("moe.", "loss.aux", "loss.z", "loss.total"))
    }


def same_as_dense(ranks, changes={}):
    with scratch() as folder:
        sparse = Probe(folder, **ONE, **changes, **SGD)
        one = sparse.run(ranks, ("--optim-steps", 1))
        dense = Probe(folder, moe_every=0, **changes, **SGD)
        dense.weights, dense.batch = as_dense(sparse.weights), sparse.batch
        other = dense.run(1, ("--optim-steps", 1))
        for k, v in one.items():
            want(not (k.startswith("moe.") and k.endswith(".gate")) or np.all(v == 1), f"{k} is not 1")
            want(not (k.startswith("grad.") and ".router." in k) or not np.any(v), f"{k} is not 0")
        wrong = same_tensors(as_dense(one), as_dense(other))
        want(not wrong, f"other bits in {wrong[:5]}")


def main():
    suite = Suite()
    for ranks in (1, 2):
        suite.case(f"labml on {ranks}", same_as_dense, ranks)
    suite.case("GEGLU on 1", same_as_dense, 1, dict(model_ffn="geglu", model_bias=False, model_norm="rmsnorm", model_tied=True))
    suite.finish()


main()
