#!/usr/bin/python3
"""What an untrusted model in Hugging Face's layout may hold: one line that names file and place, exit code 4, and nothing
is written."""

import json
import os
import re
import shutil
import subprocess

from hf import BLOCK, INDEX, ONE_LINE, SHARDED, TINY, WHOLE, Folder, bytes_of
from support import PROGRAM, Suite, read, run, scratch, succeed, want  # hf has put its folder into the path

SWITCH_C = {"num_layers": 15, "num_decoder_layers": 12, "encoder_sparse_step": 1, "decoder_sparse_step": 0}
FIELDS = [
    # (what is changed, what is said of it)
    ({"model_type": "t5"}, "model_type"),
    ({"model_type": None}, "model_type"),
    ({"is_gated_act": True}, "is_gated_act.*GEGLU"),
    ({"feed_forward_proj": "gated-gelu"}, "feed_forward_proj.*GEGLU"),
    ({"dense_act_fn": "gelu"}, "dense_act_fn: is gelu; it must be relu or gelu_new"),
    ({"dense_act_fn": "silu\n"}, "dense_act_fn.*relu or gelu_new"),
    ({"dense_act_fn": 3}, "dense_act_fn.*another kind"),
    (SWITCH_C, "switch-c-2048 is wrong: write num_decoder_layers 15"),
    ({"encoder_sparse_step": 1}, "encoder_sparse_step 1 and decoder_sparse_step 2"),
    ({"encoder_sparse_step": -1}, "encoder_sparse_step: is no count"),
    ({"decoder_sparse_step": "2"}, "decoder_sparse_step: is no count"),
    ({"num_sparse_encoder_layers": 0.5}, "num_sparse_encoder_layers: is no count"),
    ({"router_bias": True}, "router_bias.*false"),
    ({"router_dtype": "bfloat16"}, "router_dtype.*float32"),
    ({"router_type": "experts_masked"}, "router_type.*tokens_masked"),
    ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon.*1e-06"),
    ({"relative_attention_num_buckets": 8}, "relative_attention_num_buckets.*32"),
    ({"relative_attention_max_distance": 64}, "relative_attention_max_distance.*128"),
    ({"is_encoder_decoder": False}, "is_encoder_decoder.*true"),
    ({"d_model": 0}, "d_model: .*is 0; it must be an integer from 1"),
    ({"d_model": -768}, "d_model: .*is -768"),
    ({"d_model": 2**62}, r"d_model: .*is 4611686018427387904"),
    ({"d_model": "32"}, "d_model: has a value of another kind; it must be an integer"),
    ({"d_model": 32.5}, "d_model: has a value of another kind"),
    ({"d_model": [32]}, "d_model: has a value of another kind"),
    ({"d_kv": 0}, "d_kv: is 0; it must be at least 1"),
    ({"d_kv": 4096}, "d_kv: .*is 4096"),
    ({"num_layers": 0}, "num_layers: is 0; it must be at least 1"),
    ({"num_layers": 65535, "encoder_sparse_step": 2}, "encoder.block.2.* is missing"),
    ({"num_experts": 65536}, r"router.*: is F32 \[4, 32\]; F32 \[65536, 32\]"),
    ({"expert_capacity": 0}, "expert_capacity: is 0; it must be at least 1"),
    ({"expert_capacity": 2**31 - 1, "d_ff": 1048576, "d_model": 65536}, "together more than"),
    ({"vocab_size": 0}, "vocab_size: is 0; it must be at least 1"),
    ({"vocab_size": 95}, r"shared\.weight: is F32 \[96, 32\]; F32 \[95, 32\] is needed"),
    ({"pad_token_id": 96}, "pad_id"),
    ({"dropout_rate": 1.0}, "dropout_rate: .*is 1; it must be a number from 0 to below 1"),
    ({"dropout_rate": True}, "dropout_rate: has a value of another kind"),
    ({"tie_word_embeddings": 1}, "tie_word_embeddings: has a value of another kind"),
    ({"tie_word_embeddings": False}, r"lm_head\.weight: is missing"),
]


def field(changed, pattern):
    with scratch() as path:
        f = Folder(path)
        f.refused(f.model(config=changed), 4, r"hf\d+/(config\.json|model\.safetensors): .*" + pattern)


def refused_text(content, pattern):
    with scratch() as path:
        f = Folder(path)
        model = f.model()
        with open(os.path.join(model, "config.json"), "w", encoding="utf-8") as out:
            out.write(content)
        f.refused(model, 4, pattern)


# ---------------------------------------------------------------- folders


def broken_tensors():
    """(name, how the tensors are changed, what is said)"""
    key = BLOCK + "experts.expert_3.wo.weight"
    return [
        ("a missing tensor", lambda t: {k: a for k, a in t.items() if k != key}, rf"{re.escape(key)}: is missing"),
        ("a missing norm", lambda t: {k: a for k, a in t.items() if k != "encoder.final_layer_norm.weight"}, "is missing"),
        ("a surplus tensor", lambda t: {**t, BLOCK + "experts.expert_4.wo.weight": t[key]}, "expert_4.*has not"),
        ("a misshapen tensor", lambda t: {**t, key: t[key].T.copy()}, r"\[48, 32\].*\[32, 48\]"),
        ("a tensor of F64", lambda t: {**t, key: t[key].astype("float64")}, "F64.*F32"),
        ("a router of another name", lambda t: {k.replace(".classifier", ""): a for k, a in t.items()}, "classifier.*missing"),
        ("gates", lambda t: {k.replace(".wi.", ".wi_1."): a for k, a in t.items()}, "GEGLU"),
        ("an untied head", lambda t: {**t, "lm_head.weight": t["shared.weight"] + 1}, "lm_head.weight is no copy"),
        ("no tensors", lambda t: {}, "missing"),
    ]


def tensors(change, pattern):
    with scratch() as path:
        f = Folder(path)
        f.refused(f.model(tensors=change), 4, pattern)


def broken_folders():
    """(name, how a sharded model's folder is changed, what is said)"""
    shard = "model-00003-of-00006.safetensors"

    def index(change):
        def apply(folder):
            path = os.path.join(folder, INDEX)
            whole = json.loads(read(path))
            change(whole)
            with open(path, "w", encoding="utf-8") as f:
                json.dump(whole, f)

        return apply

    def lead(where):
        return index(lambda whole: whole["weight_map"].update({"shared.weight": where}))

    def text(content):
        def apply(folder):
            with open(os.path.join(folder, INDEX), "w", encoding="utf-8") as f:
                f.write(content)

        return apply

    def cut(folder):
        path = os.path.join(folder, shard)
        os.truncate(path, os.path.getsize(path) - 4)

    def twice(folder):
        shutil.copy(os.path.join(folder, shard), os.path.join(folder, "more.safetensors"))
        index(lambda whole: whole["weight_map"].update({"more.weight": "more.safetensors"}))(folder)

    def pickled(folder):
        for name in os.listdir(folder):
            if name.startswith("model"):
                os.unlink(os.path.join(folder, name))
        open(os.path.join(folder, "pytorch_model.bin"), "wb").close()

    return [
        ("index out of its folder", lead("../model-00001-of-00006.safetensors"), "shared.weight is in no file of its folder"),
        ("index to an absolute path", lead("/etc/passwd"), "in no file of its folder"),
        ("index to a hidden file", lead(".hidden.safetensors"), "in no file of its folder"),
        ("index to nothing", lead(""), "in no file of its folder"),
        ("index to a number", lead(7), "in no file of its folder"),
        ("index to a long name", lead("m" * 64), "in no file of its folder"),
        ("index to a file that is not there", lead("model-00007-of-00006.safetensors"), "model-00007.*is missing"),
        ("index to another file", lead(shard), f"shared.weight is in model-00001.*in {shard} here"),
        ("index without a tensor", index(lambda w: w["weight_map"].pop("shared.weight")), "shared.weight.*not here"),
        ("index with a tensor too many", index(lambda w: w["weight_map"].update({"more.weight": shard})), "more.weight is in no"),
        ("index without its map", index(lambda w: w.pop("weight_map")), "weight_map"),
        ("index with an empty map", index(lambda w: w.update(weight_map={})), "weight_map"),
        ("index with a list", index(lambda w: w.update(weight_map=["a"])), "weight_map"),
        ("index that is no JSON", text("{"), "no JSON"),
        ("index that is empty", text(""), "no JSON"),
        ("index with one name twice", text('{"weight_map": {"a": "b", "a": "c"}}'), "no JSON.*duplicate"),
        ("a file cut off", cut, f"{shard}.*cut off"),
        ("a missing file", lambda folder: os.unlink(os.path.join(folder, shard)), f"{shard}: is missing"),
        ("a tensor in two files", twice, "two of its files"),
        ("a file in a file's place", lambda folder: os.rename(os.path.join(folder, shard), os.path.join(folder, WHOLE)), "missing"),
        ("pickled weights alone", pickled, "pytorch_model.bin"),
        ("no config.json", lambda folder: os.unlink(os.path.join(folder, "config.json")), "config.json: is missing"),
    ]


def folder_case(change, pattern, ranks=1):
    with scratch() as path:
        f = Folder(path)
        model = f.model(SHARDED)
        change(model)
        f.refused(model, 4, pattern, ranks)


def places():
    """Nothing that is there is replaced; what a killed import left goes."""
    with scratch() as path:
        f = Folder(path)
        model = os.path.join(TINY, "hf")
        out = f.imported(model, ranks=3)
        before = {n: bytes_of(os.path.join(out, n)) for n in os.listdir(out)}
        for taken in (out, out + "/"):
            result = run(1, ["checkpoint", "import", "--hf", model, "--out", taken])
            want(result.code == 2 and "is there already" in result.err, result.told())
        result = run(1, ["checkpoint", "export", out, "--hf", out])
        want(result.code == 2 and "is there already" in result.err, result.told())
        want({n: bytes_of(os.path.join(out, n)) for n in os.listdir(out)} == before, "something changed")
        result = run(1, ["checkpoint", "import", "--hf", model, "--out", os.path.join(path, "none", "x")])
        want(result.code == 3, result.told())
        os.makedirs(os.path.join(path, ".left.part"))
        with open(os.path.join(path, ".left.part", "weights.safetensors"), "wb") as left:
            left.write(b"half")
        succeed(1, ["checkpoint", "import", "--hf", model, "--out", os.path.join(path, "left/")])
        want(".left.part" not in os.listdir(path), "the half-written folder stayed")
        f.refused(os.path.join(path, "nothing"), 4, "nothing/config.json: is missing")


def no_room():
    """A write that fails leaves nothing."""
    with scratch() as path:
        folder = Folder(path).imported(os.path.join(TINY, "hf"))
        before = sorted(os.listdir(path))
        for args in (["import", "--hf", os.path.join(TINY, "hf"), "--out", "new"], ["export", folder, "--hf", "new"]):
            line = ["bash", "-c", 'ulimit -f 100; exec "$0" checkpoint "$@"', PROGRAM, *args]
            result = subprocess.run(line, cwd=path, capture_output=True, text=True, timeout=120, check=False)
            want(result.returncode == 3 and ONE_LINE.fullmatch(result.stderr.strip()), f"{result}")
            want(sorted(os.listdir(path)) == before, f"left {sorted(os.listdir(path))}")


def main():
    suite = Suite()
    for changed, pattern in FIELDS:
        suite.case(f"config.json: {changed}", field, changed, pattern)
    for content, pattern in (("", "no JSON"), ("[]", "no object"), ("{\"d_model\": 1, \"d_model\": 2}", "no JSON"), ("{" * 9, "no JSON"),
                             ("[" * 800000, "holds more"), (" " * (1 << 20) + "{}", "bytes")):  # fmt: skip
        suite.case(f"config.json of {len(content)} characters", refused_text, content, pattern)
    for name, change, pattern in broken_tensors():
        suite.case(name, tensors, change, pattern)
    for name, change, pattern in broken_folders():
        suite.case(name, folder_case, change, pattern)
    suite.case("a missing file, 4 ranks", folder_case, broken_folders()[-5][1], broken_folders()[-5][2], 4)
    suite.case("places", places)
    suite.case("no room", no_room)
    suite.finish()


main()
