#!/usr/bin/python3
"""Nothing of a text or prompt is dropped in silence: unknown characters, held-out texts, what fits no window."""

import os
import re
import sys

from support import Suite, checkpoint, flags, metrics, read, run, scratch, small, succeed, text, train, want, write_text


class Case:
    """A run of one step, and texts beside it."""

    def __init__(self, folder):
        self.folder, self.data = folder, write_text(folder)
        self.out = train(1, folder, "run", small(train_steps=1, run_threads=1), self.data)

    def write(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
        return path

    def eval(self, path, *extra):
        return run(1, ["eval", "--checkpoint", self.out, "--data", path, "--data.valid_fraction", 1, *extra])

    def train(self, name, data, *extra):
        args = ["--data", data, "--out", os.path.join(self.folder, name), *flags(small(train_steps=1, run_threads=1))]
        return run(1, [*args, *extra])


def refused(result, code, pattern):
    want(result.code == code, f"exit {code} is due: {result.told()}")
    want(re.search(pattern, result.err), f"does not say {pattern}: {result.told()}")
    want(len(result.err.strip().splitlines()) == 1, f"not one line: {result.err!r}")


def row(result, name):
    found = re.search(rf"^{name} +(.+)", result.out, re.M)
    want(result.code == 0 and found, f"no row {name}: {result.told()}")
    return found[1]


def unknown_characters_in_eval(c):
    path = c.write("own.txt", text(2000) + "\n\u00e9 \u4e2d\u4e2d @")
    refused(c.eval(path), 3, r"own\.txt: .* has not 4 of \d+ characters .*U\+00E9 '\u00e9', U\+4E2D .*line \d+; ")
    said = c.eval(path, "--data.unknown", "skip")
    want(re.match(r"left out 4 of \d+ characters \(0\.\d+ %\): U\+00E9", row(said, "unknown")), said.out)
    want(int(row(said, "targets")) == len(text(2000) + "\n   ") - 2, said.out)
    refused(c.eval(c.write("none.txt", "\u65e5" * 90), "--data.unknown", "skip"), 3, r"90 of 90 characters \(100 %\)")


def names_of_files(c):
    """An answer keeps its lines and leaves the terminal alone, whatever a file is called."""
    said = c.eval(c.write("a\n\x1b[2J\u00e9.txt", text(2000)))
    want(row(said, "text").endswith("/a??[2J\u00e9.txt") and "\x1b" not in said.out, said.out)
    want(row(said, "checkpoint").startswith(c.out), said.out)


def crlf_against_lf(c):
    path = c.write("crlf.txt", text(2000).replace("\n", "\r\n"))
    refused(c.eval(path), 3, r"U\+000D \(carriage return\).*CRLF.*tr -d")
    refused(c.train("crlf", path, "--init-from", c.out), 3, r"U\+000D.*CRLF")


def prompts_warn(c):
    def generate(prompt, *extra):
        return run(1, ["generate", "--checkpoint", c.out, "--tokens", 1, f"--prompt={prompt}", *extra])

    said = generate("T\u00e9h@e")
    want(said.code == 0 and said.out.startswith("The"), said.told())
    want(re.fullmatch(r"swt-dist: warning: prompt: .*2 of 5 .*U\+00E9.*U\+0040.*\n", said.err), said.err)
    want(generate("The").err == "", "a warning of nothing")
    want(re.search(r"warning: prompt: has 17 tokens, .* last 16", generate("T" * 17).err), "a long prompt in silence")
    refused(generate(""), 2, r"prompt: is empty; ")
    refused(generate("@"), 2, r"prompt: .*1 of 1 characters")
    said = c.train("sample", c.data, "--data.prompt", "The~", "--train.sample_every", 1)
    log = read(os.path.join(c.folder, "sample", "log.txt"))
    want(re.search(r"warning: data\.prompt: .*U\+007E", log), "log.txt does not warn of the prompt")


def byte_order_mark(c):
    said = c.train("bom", c.write("bom.txt", b"\xef\xbb\xbf" + text().encode()))
    want(re.search(r"warning: .*bom\.txt: .*byte order mark", said.out), said.told())
    refused(c.eval(os.path.join(c.folder, "bom.txt")), 3, r"U\+FEFF \(byte order mark\)")


def vocabulary_of_the_start(c):
    """Fewer characters than the checkpoint knows go on in its vocabulary; new ones are named; its kind is taken."""
    fewer = c.write("fewer.txt", text().replace("k", "").replace("T", "t"))
    said = c.train("fewer", fewer, "--init-from", c.out)
    want(said.code == 0, said.told())
    files = [os.path.join(checkpoint(os.path.join(c.folder, n)), "tokenizer.json") for n in ("run", "fewer")]
    want(open(files[0], "rb").read() == open(files[1], "rb").read(), "the vocabulary changed")
    refused(c.train("new", c.write("new.txt", text() + "@"), "--init-from", c.out), 3, r"new\.txt: .*U\+0040 '@'")
    said = c.train("kind", c.data, "--init-from", c.out, "--data.tokenizer", "byte")
    want(said.code == 0 and re.search(r"warning: the tokens are .*chars", said.out), said.told())


def held_out_text(c):
    """data.valid is validated on whole, by training and by eval; a text of less than a window is one."""
    held = c.write("held.txt", text(3000)[-333:])
    said = c.train("held", c.data, "--data.valid", held)
    want(said.code == 0 and re.search(r"validation text .*held\.txt\n.* 21 for validation\n.* 12 tokens", said.out), said.told())
    want(f"tokens: {(os.path.getsize(c.data) - 1) // 16} for training" in said.out, f"not all trains: {said.out}")
    loss = metrics(os.path.join(c.folder, "held"))[1][-1]["valid_loss"]
    alone = run(1, ["eval", "--checkpoint", os.path.join(c.folder, "held")])
    want(row(alone, "targets") == "332" and row(alone, "text") == held, alone.told())
    want(row(alone, "valid_loss") == f"{loss:.6f} nats per token", f"{alone.out} against {loss}")
    other = run(1, ["eval", "--checkpoint", os.path.join(c.folder, "held"), "--data", c.data])
    want(row(other, "text") == c.data and "data.valid_fraction 0.02" in row(other, "part"), other.told())
    want(row(c.eval(held), "targets") == "332" and row(c.eval(held), "part") == "all of it", "eval of all of a text")
    want(row(c.eval(c.write("few.txt", "The king")), "targets") == "7", "eval of less than a window")
    refused(c.train("all", c.data, "--data.valid_fraction", 1), 2, r"data\.valid_fraction: 1 leaves nothing")


def padding_changes_nothing(c):
    """The loss of a last window that is shorter: the targets' mean is that of all windows, whatever stands beside it."""
    body = text(4000)[: 16 * 9 + 1]
    full, longer = c.write("full.txt", body), c.write("longer.txt", body + text(4000)[2000:2005])
    losses = [row(c.eval(p, "--moe.capacity_factor", 4), "valid_loss_dropless") for p in (full, longer)]
    tail = row(c.eval(c.write("tail.txt", body[-1] + text(4000)[2000:2005])), "valid_loss_dropless")
    want(abs((float(losses[0]) * 144 + float(tail) * 5) / 149 - float(losses[1])) < 2e-6, f"{losses}, tail {tail}")
    # Two sparse layers route 7 tokens each and keep at most one for each of 4 experts; padding would count, too.
    few = c.eval(c.write("few.txt", "The king"), "--moe.capacity", 1)
    dropped = float(row(few, "valid_dropped").split()[0]) / 100 * 14
    want(dropped >= 6 - 1e-3 and abs(dropped - round(dropped)) < 1e-3, f"{dropped} of 14 tokens dropped")


def choice_of_text_is_said(c):
    os.mkdir(os.path.join(c.folder, "data"))
    for name in ("a", "b"):
        c.write(f"data/{name}.txt", text())
    args = ["--out", os.path.join(c.folder, "chosen"), *flags(small(train_steps=1, run_threads=1))]
    said = succeed(1, args, cwd=c.folder)
    want(re.search(r"warning: of the 2 texts .* data/.\.txt is the newest", said.out), said.told())
    missing = c.eval(os.path.join(c.folder, "gone.txt"))
    refused(missing, 3, r"gone\.txt: is missing; give --data FILE")
    refused(c.eval(c.write("empty.txt", "")), 3, r"empty\.txt: is empty; a file with content is needed")


def text_is_found_again(c):
    """config.yaml leads to the text from another folder, though it was given by a relative path."""
    args = ["--data", os.path.basename(c.data), "--out", "relative", *flags(small(train_steps=1, run_threads=1))]
    succeed(1, args, cwd=c.folder)
    succeed(1, ["eval", "--checkpoint", os.path.join(c.folder, "relative")], cwd="/")


def prompt_is_checked_first(c):
    for prompt in ("", "\u65e5\u672c"):
        options = small(train_steps=2, train_sample_every=1)
        result = run(2, ["--data", c.data, "--out", "prompt", f"--data.prompt={prompt}", *flags(options)], cwd=c.folder)
        want(result.code == 2 and "data.prompt" in result.err, result.told())
        want(not os.path.exists(os.path.join(c.folder, "prompt")), "a run directory was left behind")


def main():
    suite = Suite()
    with scratch() as folder:
        c = Case(folder)
        for function in (
            unknown_characters_in_eval,
            names_of_files,
            crlf_against_lf,
            prompts_warn,
            byte_order_mark,
            vocabulary_of_the_start,
            held_out_text,
            padding_changes_nothing,
            choice_of_text_is_said,
            text_is_found_again,
            prompt_is_checked_first,
        ):
            suite.case(function.__name__.replace("_", " "), function, c)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
