"""What the tests of Hugging Face's layout share: the models that transformers 4.57 wrote, and copies of them with changes."""

import json
import os
import re
import shutil
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from support import FIXTURES, np, probe_args, read, run, safet, succeed, want  # noqa: E402

TINY, SHARDED = (os.path.join(FIXTURES, name) for name in ("hf-tiny", "hf-sharded"))
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ONE_LINE = re.compile(r"swt-dist: error: [^:]+.*: .+; .+")
BLOCK = "encoder.block.1.layer.1.mlp."  # a sparse one


def bytes_of(path):
    with open(path, "rb") as f:
        return f.read()


def write_halves(path, tensors, dtype):
    """safet writes no 16-bit types: upper halves of F32 as BF16, or F16; the norms stay F32, as transformers can keep them."""
    narrow = {k: a for k, a in tensors.items() if a.ndim > 1}
    wide = {k: a for k, a in tensors.items() if a.ndim == 1}
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for group, name in ((wide, "F32"), (narrow, dtype)):
        for key in sorted(group):
            a = group[key]
            if name == "BF16":
                a = (a.view(np.uint32) >> 16).astype(np.uint16)
            elif name == "F16":
                a = a.astype(np.float16)
            header[key] = {"dtype": name, "shape": list(a.shape), "data_offsets": [offset, offset + a.nbytes]}
            blobs.append(a.tobytes())
            offset += a.nbytes
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(raw)) + raw + b"".join(blobs))


class Folder:
    """A folder in which models and checkpoints come and go."""

    def __init__(self, path):
        self.path, self.count = path, 0

    def name(self, what):
        self.count += 1
        return os.path.join(self.path, f"{what}{self.count}")

    def model(self, case=TINY, config=None, tensors=None):
        """A copy of a fixture's model: fields of config.json changed (None: left out), tensors changed by a function."""
        target = self.name("hf")
        shutil.copytree(os.path.join(case, "hf"), target)
        path = os.path.join(target, "config.json")
        fields = {**json.loads(read(path)), **(config or {})}
        with open(path, "w", encoding="utf-8") as f:
            json.dump({k: v for k, v in fields.items() if v is not None}, f)
        if tensors:
            held = safet.load(os.path.join(target, WHOLE))
            safet.save(os.path.join(target, WHOLE), tensors(held))
        return target

    def imported(self, model, ranks=1):
        out = self.name("checkpoint")
        succeed(ranks, ["checkpoint", "import", "--hf", model, "--out", out])
        succeed(1, ["checkpoint", "verify", out])
        return out

    def exported(self, folder, most_bytes=5000000000):
        out = self.name("hf")
        said = succeed(1, ["checkpoint", "export", folder, "--hf", out, "--shard-bytes", most_bytes])
        return out, said.err

    def refused(self, model, code, pattern, ranks=1):
        """One line, the exit code, and nothing that was not there before."""
        before = sorted(os.listdir(self.path))
        out = os.path.join(self.path, "refused")
        result = run(ranks, ["checkpoint", "import", "--hf", model, "--out", out])
        want(result.code == code, f"exit {result.code}, {code} is due: {result.told()}")
        want(ONE_LINE.fullmatch(result.err.strip()), f"not one line of the form: {result.err!r}")
        want(re.search(pattern, result.err), f"said {result.err!r}, not {pattern!r}")
        want(sorted(os.listdir(self.path)) == before, f"left {sorted(os.listdir(self.path))}")

    def probed(self, folder, case, extra=()):
        out = self.name("out")
        files = {"config": os.path.join(folder, "config.yaml"), "weights": os.path.join(folder, "weights.safetensors")}
        succeed(1, [*probe_args(case, out=out, **files), *extra, "--optim.name", "sgd"])
        return out
