#!/usr/bin/python3
"""Hugging Face's layout in and out. Judges: the files that transformers 4.57 itself wrote (fixtures hf-*), the same weights
under our names and its logits, both from the oracle. What an untrusted folder may hold: test_hf_broken.py."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys

from hf import ONE_LINE, SHARDED, TINY, WHOLE, Folder, bytes_of, write_halves
from support import (  # hf has put its folder into the path
    ORACLE, Suite, checkpoint, digest, np, read, run, safet, same_tensors, scratch, small, succeed, train, want, write_text,
)

SHARD_BYTES = {TINY: 5000000000, SHARDED: 60000}  # at which transformers was asked to begin another file


# ---------------------------------------------------------------- there and back


def round_trip(case):
    with scratch() as path:
        f = Folder(path)
        folder = f.imported(os.path.join(case, "hf"))
        own, judged = safet.load(os.path.join(folder, "weights.safetensors")), safet.load(os.path.join(case, "weights.safetensors"))
        want(same_tensors(own, judged) == [], "other weights than the oracle has under our names")
        back, said = f.exported(folder, SHARD_BYTES[case])
        want(said == "", f"warned: {said}")
        theirs = [n for n in sorted(os.listdir(os.path.join(case, "hf"))) if n.startswith("model")]
        want(sorted(os.listdir(back)) == ["config.json", *theirs], f"wrote {sorted(os.listdir(back))}")
        for name in theirs:
            same = bytes_of(os.path.join(back, name)) == bytes_of(os.path.join(case, "hf", name))
            want(same, f"{name}: other bytes than transformers wrote")
        a, b = (json.loads(read(os.path.join(d, "config.json"))) for d in (os.path.join(case, "hf"), back))
        want(a.pop("transformers_version") and a.pop("dtype") == b.pop("torch_dtype"), "another type")
        a.setdefault("tie_word_embeddings", True)  # transformers leaves out what is its default
        want(a == b, f"config.json: {a} became {b}")
        again = f.imported(back)
        for name in ("weights.safetensors", "config.yaml"):
            same = bytes_of(os.path.join(folder, name)) == bytes_of(os.path.join(again, name))
            want(same, f"{name} differs after export and import")


def logits(case):
    """Of transformers, within 1e-5 of their length: F32 with some thirty roundings of 6e-8 in a row, in another order."""
    with scratch() as path:
        f = Folder(path)
        out = f.probed(f.imported(os.path.join(case, "hf")), case)
        line = [sys.executable, os.path.join(ORACLE, "oracle.py"), "check", case, out, "--rtol", "1e-5"]
        judged = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
        want(judged.returncode == 0, judged.stdout + judged.stderr)


def halves(dtype):
    """They stay what they are in the checkpoint, come back to the byte, and compute as the F32 numbers that they are."""
    with scratch() as path:
        f = Folder(path)
        model, wide = f.model(), f.model()
        held = safet.load(os.path.join(model, WHOLE))
        write_halves(os.path.join(model, WHOLE), held, dtype)
        safet.save(os.path.join(wide, WHOLE), safet.load(os.path.join(model, WHOLE)))
        folder = f.imported(model)
        back, _ = f.exported(folder)
        want(bytes_of(os.path.join(back, WHOLE)) == bytes_of(os.path.join(model, WHOLE)), "other bytes came back")
        said = json.loads(read(os.path.join(back, "config.json")))["torch_dtype"]
        want(said == {"BF16": "bfloat16", "F16": "float16"}[dtype], f"torch_dtype {said}")
        a, b = (f.probed(d, TINY) for d in (folder, f.imported(wide)))
        want(digest(a) == digest(b), "computes otherwise than with the same numbers in F32")


def split(most_bytes):
    """Whatever the files' sizes, a file holds no more than that, or one tensor; all of it comes back."""
    with scratch() as path:
        f = Folder(path)
        folder = f.imported(os.path.join(TINY, "hf"))
        back, _ = f.exported(folder, most_bytes)
        for name in os.listdir(back):
            if name.endswith(".safetensors"):
                held = safet.load(os.path.join(back, name))
                size = sum(a.nbytes for a in held.values())
                want(size <= most_bytes or len(held) == 1, f"{name}: {size} bytes in {len(held)} tensors")
        again = f.imported(back)
        same = bytes_of(os.path.join(folder, "weights.safetensors")) == bytes_of(os.path.join(again, "weights.safetensors"))
        want(same, "other weights came back")


# ---------------------------------------------------------------- traps


def copies(names, lacking=()):
    """The embedding under its other names, as older versions and other writers have it."""
    with scratch() as path:
        f = Folder(path)

        def more(t):
            return {k: a for k, a in {**t, **{n: t["shared.weight"] for n in names}}.items() if k not in lacking}

        folder, plain = f.imported(f.model(tensors=more)), f.imported(os.path.join(TINY, "hf"))
        same = bytes_of(os.path.join(folder, "weights.safetensors")) == bytes_of(os.path.join(plain, "weights.safetensors"))
        want(same, "other weights")
        altered = f.model(tensors=lambda t: {**t, names[0]: np.nextafter(t["shared.weight"], np.float32(9))})
        f.refused(altered, 4, rf"{names[0]} is no copy of|is no copy of {names[0]}")


def sparse_blocks(layers, config):
    """Which blocks are sparse, by transformers' rule, against the tensors that are asked for: of a model without any
    router the first missing one is named, so the model has what the rule says."""
    step = config.get("encoder_sparse_step")
    if step is None:
        number = config["num_sparse_encoder_layers"]
        step = layers // number if number else layers
    sparse = [i for i in range(layers) if step == 1 or (step > 0 and i % step == 1)]
    every = 0 if not sparse else sparse[0] + 1
    with scratch() as path:
        f = Folder(path)
        fields = {"num_layers": layers, "num_decoder_layers": layers, "encoder_sparse_step": None, "decoder_sparse_step": None}
        fields.update(config)
        fields.update({k.replace("encoder", "decoder"): v for k, v in config.items()})
        if sparse != [i for i in range(layers) if every and i % every == every - 1]:
            f.refused(f.model(config=fields), 4, r"sparse_step .*are no moe\.every")
            return
        held = safet.load(os.path.join(TINY, "hf", WHOLE))
        full = {}
        for stack, ffn in (("encoder", 1), ("decoder", 2)):
            for i in range(layers):
                for source in (0, 1):  # of the fixture's dense and sparse block, what this block is
                    begin, other = f"{stack}.block.{source}.", f"{stack}.block.{i}."
                    for k, a in held.items():
                        of_ffn = f".layer.{ffn}.mlp." in k
                        right = (source == 1) == (i in sparse) if of_ffn else source == 0
                        right = right and ("relative" not in k or i == 0)
                        if k.startswith(begin) and right:
                            full[other + k[len(begin) :]] = a
        full.update({k: a for k, a in held.items() if ".block." not in k})
        model = f.model(config=fields, tensors=lambda t: full)
        folder = f.imported(model)
        want(f"  every: {every}\n" in read(os.path.join(folder, "config.yaml")), f"moe.every is not {every}")
        back, _ = f.exported(folder)
        want(same_tensors(safet.load(os.path.join(back, WHOLE)), full) == [], "other tensors came back")


def accepted(changed, pattern):
    """What means the same, or decides nothing."""
    with scratch() as path:
        f = Folder(path)
        model, out = f.model(config=changed), f.name("checkpoint")
        said = succeed(1, ["checkpoint", "import", "--hf", model, "--out", out]).err
        want(re.fullmatch(pattern, said.strip()), f"said {said!r}, not {pattern!r}")
        plain = f.imported(os.path.join(TINY, "hf"))
        want(read(os.path.join(out, "config.yaml")) == read(os.path.join(plain, "config.yaml")), "other options")


# ---------------------------------------------------------------- what cannot be exported, or not wholly


def edited(f, source, old, new):
    """A checkpoint as a person changed it: without its manifest."""
    target = f.name("checkpoint")
    shutil.copytree(source, target)
    os.unlink(os.path.join(target, "manifest.json"))
    path = os.path.join(target, "config.yaml")
    text = read(path)
    want(old in text, f"no {old!r} in config.yaml")
    with open(path, "w", encoding="utf-8") as out:
        out.write(text.replace(old, new))
    return target


def not_exported(old, new, pattern):
    with scratch() as path:
        f = Folder(path)
        target = edited(f, f.imported(os.path.join(TINY, "hf")), old, new)
        before = sorted(os.listdir(path))
        result = run(1, ["checkpoint", "export", target, "--hf", os.path.join(path, "out")])
        want(result.code == 4 and ONE_LINE.fullmatch(result.err.strip()), result.told())
        want(re.search(pattern, result.err), f"said {result.err!r}, not {pattern!r}")
        want(sorted(os.listdir(path)) == before, "something was written")


def warned(old, new, pattern, capacity):
    with scratch() as path:
        f = Folder(path)
        target = edited(f, f.imported(os.path.join(TINY, "hf")), old, new)
        back, said = f.exported(target)
        want(re.search(pattern, said), f"said {said!r}, not {pattern!r}")
        found = json.loads(read(os.path.join(back, "config.json")))["expert_capacity"]
        want(found == capacity, f"expert_capacity {found}, {capacity} by hand")


def decoder_alone():
    with scratch() as path:
        out = train(1, path, "run", small(train_steps=1), write_text(path))
        result = run(1, ["checkpoint", "export", out, "--hf", os.path.join(path, "hf")])
        want(result.code == 4 and "model.stacks is decoder" in result.err, result.told())
        result = run(1, ["checkpoint", "export", checkpoint(out), "--hf", os.path.join(path, "hf")])
        want(result.code == 4 and "model.stacks is decoder" in result.err, result.told())


def changed_tensor():
    """As eval does of a checkpoint that was changed: it says so, and goes on."""
    with scratch() as path:
        f = Folder(path)
        folder = f.imported(os.path.join(TINY, "hf"))
        with open(os.path.join(folder, "weights.safetensors"), "r+b") as w:
            w.seek(-4, os.SEEK_END)
            w.write(struct.pack("<f", 2.0))
        _, said = f.exported(folder)
        want("not as its manifest says" in said, f"said {said!r}")


def no_vocabulary():
    """A text needs a tokenizer, which the model has not brought."""
    with scratch() as path:
        f, text = Folder(path), write_text(path)
        folder = edited(f, f.imported(os.path.join(TINY, "hf")), "stacks: encoder-decoder", "stacks: decoder")
        for args in (
            ["eval", "--checkpoint", folder, "--data", text],
            ["generate", "--checkpoint", folder, "--prompt", "a"],
            ["--init-from", folder, "--data", text, "--out", os.path.join(path, "run")],
        ):
            result = run(1, args)
            want(result.code == 4 and ONE_LINE.fullmatch(result.err.strip()), result.told())
            want("tokenizer.json: is missing: the checkpoint's vocabulary is known by its size alone" in result.err, result.told())


def main():
    suite = Suite()
    for case in (TINY, SHARDED):
        name = os.path.basename(case)
        suite.case(f"{name}: there and back, to the byte", round_trip, case)
        suite.case(f"{name}: logits", logits, case)
    for dtype in ("BF16", "F16"):
        suite.case(f"weights in {dtype}", halves, dtype)
    for most_bytes in (1, 6144, 20000, 237056, 237055):
        suite.case(f"files of {most_bytes} bytes", split, most_bytes)
    names = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"]
    suite.case("copies of a tied embedding", copies, names)
    suite.case("the embedding under another name", copies, names[:1], ["shared.weight"])
    for layers, config in ((1, {"encoder_sparse_step": 1}), (1, {"encoder_sparse_step": 2}), (1, {"num_sparse_encoder_layers": 0}),
                           (2, {"encoder_sparse_step": 7}), (2, {"num_sparse_encoder_layers": 0}), (2, {"num_sparse_encoder_layers": 1}),
                           (3, {"encoder_sparse_step": 0}), (3, {"encoder_sparse_step": 1}), (3, {"num_sparse_encoder_layers": 1}),
                           (4, {"num_sparse_encoder_layers": 2}), (4, {"encoder_sparse_step": 3}), (5, {"encoder_sparse_step": 2}),
                           (5, {"encoder_sparse_step": 4})):  # fmt: skip
        suite.case(f"sparse blocks of {layers}: {config}", sparse_blocks, layers, config)
    suite.case("fields that decide nothing", accepted, {"use_cache": False, "eos_token_id": 7, "torch_dtype": "bfloat16"}, "")
    suite.case("fields of older versions", accepted, {"feed_forward_proj": "relu", "is_gated_act": False}, "")
    suite.case("fields left to their defaults", accepted, {"pad_token_id": None, "dense_act_fn": None, "router_bias": None}, "")
    unknown = r"swt-dist: warning: .*config\.json: what is not known there was not looked at: hidden_twist"
    suite.case("a field that nobody knows", accepted, {"hidden_twist": 3}, unknown)
    suite.case("GEGLU is not exported", not_exported, "ffn: relu", "ffn: geglu", "model.ffn is geglu.*GEGLU")
    suite.case("LayerNorm is not exported", not_exported, "norm: rmsnorm", "norm: layernorm", "model.norm is layernorm")
    suite.case("unit gates are not exported", not_exported, "gate: scale", "gate: unit", "moe.gate is unit")
    suite.case("every fourth block is not exported", not_exported, "every: 2", "every: 4", "moe.every is 4")
    suite.case("another model is not exported", not_exported, "hidden: 48", "hidden: 47", r"\[48, 32\].*\[47, 32\]")
    # 2.0 (of evaluation) * 512 tokens / 4 experts, and labml's groups of 8 sequences are one of each.
    suite.case("a capacity by factor is told", warned, "  capacity: 5\n", "  capacity: 0\n", "expert_capacity became 256", 256)
    suite.case("another pool is told", warned, "group: sequence", "group: micro_batch", "moe.group is micro_batch", 5)
    suite.case("a decoder alone is not exported", decoder_alone)
    suite.case("a changed tensor is told", changed_tensor)
    suite.case("a text needs a tokenizer", no_vocabulary)
    suite.finish()


main()
