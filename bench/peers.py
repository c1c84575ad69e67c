#!/usr/bin/env python3
"""Time a peer of swt-dist on this machine's CPU: a training step of labml's experiment, or one switch layer.

  labml   labml_nn's own Switch Transformer, as its experiment builds it
  torch   the same model in PyTorch, with batched products over the experts' slots and fused attention
  layer   one such switch layer: forward, backward and SGD

What they need, in a Python of its own (python3 -m venv peers):

  peers/bin/pip install torch numpy einops labml labml-helpers
  peers/bin/pip install --no-deps labml-nn

--compile needs a C++ compiler as well (g++). Prints one JSON object: what, threads, step_ms (median), step_ms_min, tokens_per_s.
bench/compare runs this in turn with swt-dist. Exit code: 0; 1 if PyTorch fails or a module is missing; 2 for wrong usage.
"""

import argparse
import json
import statistics
import sys
import time

WARM_UP = 5
# labml's experiment, and the layer that bench_layer times by default.
VOCABULARY, WIDTH, HEADS, HIDDEN, LAYERS, EXPERTS, FACTOR = 65, 128, 4, 256, 6, 4, 1.2
SEQUENCES, SEQ_LEN = 32, 64
LAYER = {"tokens": 1024, "width": 256, "hidden": 1024, "experts": 8, "factor": 1.25}
AUX_COEF = 0.01


def arguments():
    parser = argparse.ArgumentParser(
        prog="bench/peers.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["labml", "torch", "layer"])
    parser.add_argument("--threads", metavar="N", type=int, default=2, help="threads of PyTorch [2]")
    parser.add_argument("--steps", metavar="N", type=int, default=30, help="steps that are timed [30]")
    parser.add_argument("--compile", action="store_true", help="torch.compile (torch and layer)")
    parser.add_argument("--text", metavar="FILE", help="UTF-8 text of at most 65 characters; random tokens without")
    args = parser.parse_args()
    if args.threads < 1 or args.steps < 1:
        parser.error("--threads and --steps must be at least 1")
    if args.compile and args.what == "labml":
        parser.error("--compile: labml's code is timed as it is; use torch or layer")
    return args


def tokens_of(path):
    if not path:
        return torch.randint(0, VOCABULARY, (100_000,))
    with open(path, encoding="utf-8", newline="") as f:
        text = f.read()
    number = {c: i for i, c in enumerate(sorted(set(text)))}
    if len(number) > VOCABULARY or len(text) <= SEQ_LEN:
        sys.exit(f"bench/peers.py: error: {path}: {len(number)} characters; at most {VOCABULARY} are allowed")
    return torch.tensor([number[c] for c in text])


def windows(tokens):
    """SEQUENCES random windows and their targets, (sequences, positions) each."""
    starts = torch.randint(0, len(tokens) - SEQ_LEN, (SEQUENCES, 1))
    rows = tokens[starts + torch.arange(SEQ_LEN + 1)]
    return rows[:, :-1], rows[:, 1:]


def define_modules():
    """The modules of the peers torch and layer; PyTorch must be there by now."""
    nn, functional = torch.nn, torch.nn.functional

    class SwitchLayer(nn.Module):
        """Top-1 routing over (tokens, width) into slots of a fixed number; a dropped token goes on as it is."""

        def __init__(self, tokens, width, hidden, experts, factor):
            super().__init__()
            self.experts, self.capacity = experts, int(factor * tokens / experts)
            self.router = nn.Linear(width, experts)
            self.wi = nn.Parameter(torch.empty(experts, width, hidden).uniform_(-1, 1) / width**0.5)
            self.wo = nn.Parameter(torch.empty(experts, hidden, width).uniform_(-1, 1) / hidden**0.5)
            self.bi = nn.Parameter(torch.zeros(experts, 1, hidden))
            self.bo = nn.Parameter(torch.zeros(experts, 1, width))

        def forward(self, h):
            probability = self.router(h).softmax(dim=1)
            gate, expert = probability.max(dim=1)
            one_hot = functional.one_hot(expert, self.experts)
            place = (one_hot.cumsum(dim=0) * one_hot).sum(dim=1) - 1  # in the expert's queue
            kept = place < self.capacity
            spare = self.experts * self.capacity  # a row that nobody reads
            row = torch.where(kept, expert * self.capacity + place, spare)
            sent = h.new_zeros(spare + 1, h.shape[1]).index_copy(0, row, h)[:spare]
            sent = sent.view(self.experts, self.capacity, -1)
            hidden = torch.baddbmm(self.bi, sent, self.wi).relu()
            done = torch.baddbmm(self.bo, hidden, self.wo).view(spare, -1)
            back = done[row.clamp(max=spare - 1)]
            share = one_hot.to(h.dtype).mean(dim=0)
            aux = self.experts * (share * probability.mean(dim=0)).sum()
            return gate.unsqueeze(1) * torch.where(kept.unsqueeze(1), back, h), aux

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn_norm, self.ffn_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.o = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.moe = SwitchLayer(SEQUENCES * SEQ_LEN, WIDTH, HIDDEN, EXPERTS, FACTOR)

        def forward(self, x):
            heads = self.qkv(self.attn_norm(x)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
            y = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
            x = x + self.o(y.transpose(1, 2).flatten(2))
            y, aux = self.moe(self.ffn_norm(x).flatten(0, 1))
            return x + y.view_as(x), aux

    class SwitchTransformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(VOCABULARY, WIDTH)
            self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
            self.final_norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

        def forward(self, tokens, targets):
            x, aux = self.embed(tokens), 0.0
            for block in self.blocks:
                x, of_block = block(x)
                aux = aux + of_block
            logits = self.head(self.final_norm(x))
            return functional.cross_entropy(logits.flatten(0, 1), targets.flatten()) + AUX_COEF * aux

    return SwitchLayer, SwitchTransformer


def finish(loss, optimiser, parameters):
    """What every training step ends with: backward, clip, update."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    optimiser.zero_grad()


def torch_step(args):
    tokens, model = tokens_of(args.text), define_modules()[1]()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    run = torch.compile(model) if args.compile else model
    return lambda: finish(run(*windows(tokens)), optimiser, list(model.parameters()))


def layer_step(args):
    layer = define_modules()[0](**LAYER)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1e-3)
    run = torch.compile(layer) if args.compile else layer
    rows = torch.randn(LAYER["tokens"], LAYER["width"])

    def step():
        y, aux = run(rows.clone().requires_grad_())
        (y.pow(2).mean() + AUX_COEF * aux).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def labml_step(args):
    import labml.tracker

    if not hasattr(labml.tracker, "debug"):  # the labml of PyPI has lost what labml_nn imports
        labml.tracker.debug = lambda *_: None
    from labml_nn.optimizers import WeightDecay
    from labml_nn.optimizers.noam import Noam
    from labml_nn.transformers import MultiHeadAttention, switch
    from labml_nn.transformers.feed_forward import FeedForward
    from labml_nn.transformers.utils import subsequent_mask

    tokens, nn = tokens_of(args.text), torch.nn
    sparse = switch.SwitchFeedForward(
        capacity_factor=FACTOR, drop_tokens=True, is_scale_prob=True, n_experts=EXPERTS,
        expert=FeedForward(WIDTH, HIDDEN, 0.0), d_model=WIDTH,
    )  # fmt: skip
    attention = MultiHeadAttention(HEADS, WIDTH, 0.0)
    block = switch.SwitchTransformerLayer(d_model=WIDTH, attn=attention, feed_forward=sparse, dropout_prob=0.0)
    parts = nn.ModuleList(
        [nn.Embedding(VOCABULARY, WIDTH), switch.SwitchTransformer(block, LAYERS), nn.Linear(WIDTH, VOCABULARY)]
    )
    embed, body, head = parts
    parameters, mask = list(parts.parameters()), subsequent_mask(SEQ_LEN)
    optimiser = Noam(
        parameters, lr=1.0, warmup=2000, d_model=WIDTH, amsgrad=False, weight_decay=WeightDecay(0.0, True, False)
    )

    def step():
        x, y = (w.t() for w in windows(tokens))  # labml has positions first
        out, counts, probability, _, _ = body(embed(x), mask)
        routed = counts.sum(dim=-1, keepdim=True)
        aux = EXPERTS * (counts / routed * probability / routed).sum()
        loss = nn.functional.cross_entropy(head(out).flatten(0, 1), y.flatten())
        finish(loss + AUX_COEF * aux, optimiser, parameters)

    return step


def main():
    global torch
    args = arguments()
    try:
        import torch
    except ImportError as why:
        sys.exit(f"bench/peers.py: error: {why}; --help says what to install")
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    try:
        step = {"labml": labml_step, "torch": torch_step, "layer": layer_step}[args.what](args)
    except ImportError as why:
        sys.exit(f"bench/peers.py: error: {why}; --help says what to install")
    times_ms = []
    for turn in range(WARM_UP + args.steps):
        start = time.perf_counter()
        step()
        if turn >= WARM_UP:
            times_ms.append((time.perf_counter() - start) * 1e3)
    median = statistics.median(times_ms)
    tokens = LAYER["tokens"] if args.what == "layer" else SEQUENCES * SEQ_LEN
    print(
        json.dumps(
            {
                "what": args.what + ("+compile" if args.compile else ""), "threads": args.threads,
                "step_ms": round(median, 2), "step_ms_min": round(min(times_ms), 2),
                "tokens_per_s": round(tokens / median * 1e3),
            }  # fmt: skip
        )
    )


if __name__ == "__main__":
    main()
