#!/usr/bin/python3
"""Bad input: one line on standard error in the form of the design, the promised exit code, the same on 1 and 4 ranks,
within seconds, and nothing half-written."""

import os
import re
import shutil

from support import (
    FIXTURES, PROGRAM, SLOW, Suite, checkpoint, flags, probe_args, run, safet, scratch, small, train, want,
    write_text,
)

CASE = os.path.join(FIXTURES, "labml-drop")
T5_CASE = os.path.join(FIXTURES, "t5-nodrop")
SECONDS = 20
FORM = re.compile(r"swt-dist: error: [^:]+.*: .+; .+")


# ---------------------------------------------------------------- the broken files


def broken_weights(folder):
    """(path, what is said of it) of weights that do not fit, each in one way."""
    source = os.path.join(CASE, "weights.safetensors")
    good, key = safet.load(source), "decoder.1.moe.experts.3.wo.weight"  # held by the last rank
    with open(source, "rb") as f:
        content = f.read()
    table = {
        "lacking": ({k: v for k, v in good.items() if k != key}, "is missing"),
        "misshapen": (dict(good, **{key: good[key][:, :-1].copy()}), r"\[32, 63\].*\[32, 64\]"),
        "extra": (dict(good, **{"decoder.7.surprise": good[key]}), "decoder.7.surprise"),
        "double": (dict(good, **{key: good[key].astype("float64")}), "F64.*F32"),
        "bodyless": ({k: v for k, v in good.items() if k != "embed.weight"}, "embed.weight"),
        "cut": (content[:-64], "cut off"),
        "garbage": (content[:40] + b"!?" + content[42:], "JSON|tensor"),
        "long": (b"\xff" * 8 + content[8:], "header"),
        "text": (b"not a tensor file at all\n" * 40, "header"),
        "empty": (b"", "0 bytes|empty"),
    }
    for name, (value, said) in table.items():
        path = os.path.join(folder, name + ".safetensors")
        if isinstance(value, bytes):
            write(folder, name + ".safetensors", value)
        else:
            safet.save(path, value)
        yield path, said


def broken_batches(folder):
    """The same of batches."""
    good = safet.load(os.path.join(CASE, "batch.safetensors"))

    def changed(name, place, token):
        tensor = good[name].copy()
        tensor[place] = token
        return dict(good, **{name: tensor})

    table = {
        "high": (changed("tokens", (1, 2, 3), 65), r"tokens has 65.*vocabulary of 65"),
        "low": (changed("tokens", (0, 0, 0), -1), r"-1"),
        "target": (changed("targets", (1, 3, 15), 1000), "1000"),
        "flat": ({k: v.reshape(-1) for k, v in good.items()}, r"\[M, B, T\]"),
        "alone": ({"tokens": good["tokens"]}, "targets"),
        "real": ({k: v.astype("float32") for k, v in good.items()}, "F32.*I32"),
        "uneven": (dict(good, targets=good["targets"][:, :, :-1].copy()), "targets"),
    }
    for name, (value, said) in table.items():
        path = os.path.join(folder, f"batch-{name}.safetensors")
        safet.save(path, value)
        yield path, said


def encoder_batches(folder):
    """Of batches for a model with an encoder."""
    good = safet.load(os.path.join(T5_CASE, "batch.safetensors"))
    inputs = good["inputs"]
    table = {
        "inputs-missing": ({k: v for k, v in good.items() if k != "inputs"}, "inputs"),
        "inputs-fewer": (dict(good, inputs=inputs[:1].copy()), r"inputs and tokens"),
        "inputs-high": (dict(good, inputs=inputs + 128), r"inputs has \d+.*vocabulary of 128"),
        "inputs-low": (dict(good, inputs=inputs - 128), r"inputs has -\d+"),
    }
    for name, (value, said) in table.items():
        path = os.path.join(folder, f"batch-{name}.safetensors")
        safet.save(path, value)
        yield path, said


def write(folder, name, content):
    path = os.path.join(folder, name)
    with open(path, "wb") as f:
        f.write(content.encode() if isinstance(content, str) else content)
    return path


# ---------------------------------------------------------------- the table


def configuration_cases(files, data):
    """(name, arguments, exit code, what the line must say)"""

    def yaml(name, content):
        return ["--config", write(files, name + ".yaml", content), "--data", data]

    return [
        ("unknown key on the command line", ["--moe.expert", 4], 2, r"--moe\.expert: .*--experts"),
        ("unknown flag", ["--expert", 4], 2, r"--expert.*--experts"),
        ("flag of no likeness", ["--zzz", 4], 2, r"--zzz"),
        ("unknown command", ["trian"], 2, r"trian.*train"),
        ("flag of another command", ["--checkpoint", "x"], 2, r"--checkpoint"),
        ("flag without value", ["--experts"], 2, r"--experts"),
        ("no flag at all", ["train", "experts"], 2, r"experts"),
        ("value out of range", ["--experts", 0], 2, r"experts.*\b0\b.*from 1 to"),
        ("value too large", ["--model.layers", 10**30], 2, r"model\.layers"),
        ("wrong type", ["--steps", "many"], 2, r"steps.*many.*integer"),
        ("wrong choice", ["--moe.drop", "sometimes"], 2, r"moe\.drop.*sometimes.*position"),
        ("number that is none", ["--optim.lr", "nan"], 2, r"optim\.lr.*nan"),
        ("width that heads do not divide", ["--model.width", 30], 2, r"model\.width.*30.*model\.heads"),
        ("sizes that overflow", ["--batch.sequences", 65536, "--batch.seq_len", 1048576], 2, r"batch\."),
        ("no GPU", ["--device", "cuda"], 2, r"run\.device.*CUDA"),
        ("rate that falls to a higher one", ["--optim.schedule", "cosine", "--optim.lr", 0.1, "--optim.min_lr", 0.2], 2, r"optim\.min_lr: 0\.2 is above optim\.lr 0\.1"),
        ("unknown optimiser", ["--optim.name", "adafactr"], 2, r"optim\.name.*adafactr.*adafactor"),
        ("all dropped", ["--model.dropout", 1], 2, r"model\.dropout is 1; it must be a number from 0 to below 1"),
        ("less than nothing dropped", ["--moe.expert_dropout", -0.1], 2, r"moe\.expert_dropout is -0\.1; it must be a number from 0 to below 1"),
        (
            "dropout of more weights than can be numbered",
            ["--model.dropout", 0.1, "--batch.sequences", 1, "--batch.seq_len", 131073],
            2,
            r"with model\.dropout batch\.seq_len\^2: together more than 17179869184",
        ),
        ("bf16 on the CPU", ["--data", data, "--device", "cpu", "--run.dtype", "bf16"], 2, r"run\.dtype.*bf16"),
        ("missing YAML", ["--config", os.path.join(files, "none.yaml")], 2, r"none\.yaml"),
        ("YAML is a folder", ["--config", files], 2, r"is a folder"),
        ("broken YAML", yaml("broken", "model:\n  layers: 2\n width: 32\n"), 2, r"broken\.yaml:3: .*YAML"),
        ("empty YAML", yaml("empty", ""), 2, r"empty\.yaml:1: "),
        (
            "YAML with an unknown key",
            yaml("key", "model:\n  layers: 2\n  widht: 32\n"),
            2,
            r"key\.yaml:3: .*widht.*width",
        ),
        (
            "YAML with an unknown section",
            yaml("section", "moe:\n  experts: 4\noptimizer:\n  lr: 1\n"),
            2,
            r"section\.yaml:3: .*optim",
        ),
        (
            "YAML with a value out of range",
            yaml("range", "moe:\n  experts: -3\n"),
            2,
            r"range\.yaml:2: .*moe\.experts.*-3",
        ),
        (
            "YAML with a key twice",
            yaml("twice", "moe:\n  experts: 3\n  every: 1\n  experts: 4\n"),
            2,
            r"twice\.yaml:4: .*2",
        ),
        ("YAML with bytes", yaml("bytes", b"moe:\n  experts: \xff\xfe\n"), 2, r"bytes\.yaml:\d"),
        ("empty path", ["eval", "--checkpoint", ""], 2, r"--checkpoint"),
    ]


def text_cases(files):
    def data(path):
        return ["--data", path]

    return [
        ("missing text", data(os.path.join(files, "none.txt")), 3, r"none\.txt"),
        ("no text given", ["--steps", 1], 3, r"data\.path.*launch/dataset"),
        ("empty text", data(write(files, "empty.txt", "")), 3, r"empty\.txt.*empty"),
        ("text too short", data(write(files, "short.txt", "To be, or not to be")), 3, r"short\.txt.*\d"),
        (
            "validation part too short",
            data(write(files, "part.txt", "To be, or not. " * 30)) + ["--data.valid_fraction", 0.01],
            3,
            r"part\.txt.*\d",
        ),
        (
            "text in other bytes",
            data(write(files, "latin.txt", "caf\xe9 ".encode("latin-1") * 300)),
            3,
            r"latin\.txt.*UTF-8.*byte",
        ),
        ("text is a folder", data(files), 3, r"folder|directory"),
    ]


def probe_cases(weights, batches, encoder_batches):
    def probe(case=CASE, **changed):
        return probe_args(case, **{"out": "o", **changed})

    def named(path, said):
        return re.escape(os.path.basename(path)) + f".*({said})"

    batch = os.path.join(CASE, "batch.safetensors")
    rows = [(f"weights: {path}", probe(weights=path), 3, named(path, said)) for path, said in weights]
    rows += [(f"batch: {path}", probe(batch=path), 3, named(path, said)) for path, said in batches]
    rows += [(f"batch: {path}", probe(T5_CASE, batch=path), 3, named(path, said)) for path, said in encoder_batches]
    return rows + [
        ("weights missing", probe(weights="none.safetensors"), 3, r"none\.safetensors"),
        ("batch missing", probe(batch="none.safetensors"), 3, r"none\.safetensors"),
        ("probe without weights", ["probe", "--batch", batch, "--out", "o"], 2, r"--weights"),
        ("probe into a missing folder", probe(out="none/o"), 3, r"none/"),
        ("weights of another model", [*probe(), "--experts", 3], 3, r"weights\.safetensors.*router\.weight.*\[3, 32\]"),
        ("groups that do not divide", [*probe(), "--dist.expert_ranks", 3], 2, r"dist\.expert_ranks.*3.*(1|4)"),
        ("groups larger than the experts", [*probe(), "--dist.expert_ranks", 5], 2, r"dist\.expert_ranks.*5.*4"),
    ]


def broken_checkpoints(files, done):
    """(name, folder, what is said) of checkpoints with one broken file, for eval or as the start of a run."""
    whole = checkpoint(done)
    with open(os.path.join(whole, "weights.safetensors"), "rb") as f:
        weights = f.read()
    changes = (
        ("eval, broken", "config.yaml", "model:\n  layers: two\n"),
        ("eval, broken", "tokenizer.json", '{"kind": "char", "tokens": [1]}'),
        ("eval, broken", "weights.safetensors", "?" * 90),
        *(("eval, missing", file, None) for file in ("config.yaml", "tokenizer.json", "weights.safetensors")),
        ("start, cut off", "weights.safetensors", weights[:-100]),
        ("start, without data", "weights.safetensors", weights[:200]),
        ("start, another length", "weights.safetensors", b"\xff" + weights[1:]),
        ("start, broken header", "weights.safetensors", weights[:20] + b"\0" + weights[21:]),
        ("start, empty", "weights.safetensors", b""),
    )
    for how, file, content in changes:
        name = f"{how} {file}"
        copy = shutil.copytree(whole, os.path.join(files, re.sub("[ ,]+", "-", name)))
        if content is None:
            os.remove(os.path.join(copy, file))
        else:
            write(copy, file, content)
        yield name, copy, re.escape(copy) + ("" if name == "eval, missing weights.safetensors" else ".*" + re.escape(file))


def run_cases(files, data, done):
    other = flags({k: v for k, v in small().items() if k != "data.valid_fraction"})
    start = [*other, "--init-from"]
    return [
        ("folder holds a run", ["--data", data, "--out", done], 2, r"already holds a run"),
        ("out is a file", ["--data", data, "--out", data], 2, r"is a file"),
        ("out below a file", ["--data", data, "--out", data + "/run"], 3, r"cannot be created"),
        ("out where nobody can write", ["--data", data, "--out", "/proc/run"], 3, r"/proc/run.*cannot be created"),
        ("checkpoint missing", ["eval", "--checkpoint", "none", "--data", data], 4, r"none.*missing"),
        (
            "generate without a checkpoint in the run",
            ["generate", "--checkpoint", files, "--prompt", "A"],
            4,
            r"holds no checkpoint",
        ),
        ("init-from missing", ["--data", data, "--init-from", "none"], 4, r"none.*missing"),
        (
            "checkpoint of another width",
            ["--data", data, *other, "--init-from", done, "--model.width", 64],
            4,
            r"\[.*32.*\].*\[.*64.*\]",
        ),
        (
            "checkpoint of more experts",
            ["--data", data, *other, "--init-from", done, "--experts", 3],
            4,
            r"router\.weight.*\[4, 32\].*\[3, 32\]",
        ),
        (
            "checkpoint of fewer experts",
            ["--data", data, *other, "--init-from", done, "--experts", 7],
            4,
            r"router\.weight.*\[4, 32\].*\[7, 32\]",
        ),
        (
            "checkpoint of another text",
            ["--data", write(files, "other.txt", "abc~b cabca" * 900), *other, "--init-from", done],
            3,
            r"other\.txt: the vocabulary of .*step-00000001 has not 900 of .*U\+007E '~'",
        ),
        *(
            (name, [*(start if name.startswith("start") else ["eval", "--checkpoint"]), path, "--data", data], 4, said)
            for name, path, said in broken_checkpoints(files, done)
        ),
        ("eval of a missing text", ["eval", "--checkpoint", done, "--data", "none.txt"], 3, r"none\.txt"),
        ("prompt without a known character", ["generate", "--checkpoint", done, "--prompt", "@#"], 2, r"prompt"),
    ]


def check(folder, program, args, code, pattern):
    lines = []
    for ranks in (1, 4):
        before = sorted(os.listdir(folder))
        result = run(ranks, args, timeout=SECONDS, cwd=folder, program=program)
        want(result.code == code, f"{ranks} ranks: exit {result.code}, {code} is due: {result.err.strip()[-300:]}")
        lines = lines + [result.err.strip()]
        want(len(result.err.strip().splitlines()) == 1, f"{ranks} ranks: not one line: {result.err.strip()[-600:]!r}")
        want(
            FORM.fullmatch(result.err.strip()),
            f"{ranks} ranks: not WHERE: WHAT; WHAT WOULD BE RIGHT: {result.err.strip()}",
        )
        want(re.search(pattern, result.err), f"{ranks} ranks: does not say {pattern}: {result.err.strip()}")
        want(not result.out.strip(), f"{ranks} ranks: on standard output: {result.out[:200]}")
        want(sorted(os.listdir(folder)) == before, f"{ranks} ranks: left behind {sorted(os.listdir(folder))}")
    # The choices for the size of a group depend on the number of ranks, nothing else does.
    want(len(set(lines)) == 1 or "dist.expert_ranks" in pattern.replace("\\", ""), f"ranks differ: {lines}")


def main():
    suite = Suite()
    with scratch() as folder:
        files, empty = os.path.join(folder, "files"), os.path.join(folder, "cwd")
        os.mkdir(files)
        os.mkdir(empty)
        # Away from the project, so that no text is found under its data/.
        program = shutil.copy(PROGRAM, os.path.join(files, "swt-dist"))
        data = write_text(folder)
        done = train(1, folder, "done", small(train_steps=1), data)
        before = sorted(os.walk(done))
        rows = configuration_cases(files, data) + text_cases(files) + run_cases(files, data, done)
        rows += probe_cases(broken_weights(files), broken_batches(files), encoder_batches(files))
        for number, (name, args, code, pattern) in enumerate(rows):
            suite.case(name, check, empty, program, args, code, pattern, heavy=SLOW and number % 8 != 0)
        suite.case("the finished run is untouched", lambda: want(sorted(os.walk(done)) == before, "its files changed"))
        suite.case("its checkpoint is readable", lambda: checkpoint(done))
    suite.finish()


main()
