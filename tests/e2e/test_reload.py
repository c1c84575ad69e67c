#!/usr/bin/python3
"""A checkpoint is read at any layout, whatever it was written on; what cannot be read or sampled is refused."""

import os
import sys

from support import Suite, checkpoint, copy_checkpoint, np, run, scratch, small, succeed, train, want, weights, write_text


def numbers(result):
    """The lines of eval's answer that hold numbers."""
    return [line for line in result.out.splitlines() if line.startswith(("valid", "targets"))]


def layout_is_forgotten():
    """Trained by four ranks that share the experts and two threads each; read by one, two and three."""
    with scratch() as folder:
        data = write_text(folder)
        out = train(4, folder, "run", small(train_steps=3, dist_expert_ranks=4, run_threads=2), data)
        said = [numbers(succeed(ranks, ["eval", "--checkpoint", out])) for ranks in (1, 2, 3)]
        want(said[0] and all(s == said[0] for s in said), f"eval differs: {said}")
        texts = [succeed(n, ["generate", "--checkpoint", out, "--tokens", 20]).out for n in (1, 3)]
        want(texts[0] == texts[1], f"generate differs: {texts}")


def text_is_found_again():
    """config.yaml leads to the text from another folder, though it was given by a relative path."""
    with scratch() as folder:
        data = write_text(folder)
        out = os.path.join(folder, "run")
        options = [w for k, v in small(train_steps=1).items() for w in (f"--{k}", str(v))]
        succeed(1, ["--data", os.path.basename(data), "--out", out, *options], cwd=folder)
        succeed(1, ["eval", "--checkpoint", out], cwd="/")


def prompt_is_checked_first():
    with scratch() as folder:
        data, out = write_text(folder), os.path.join(folder, "run")
        for prompt in ("", "\u65e5\u672c"):
            options = small(train_steps=2, train_sample_every=1)
            args = [w for k, v in options.items() for w in (f"--{k}", str(v))]
            result = run(2, ["--data", data, "--out", out, f"--data.prompt={prompt}", *args])
            want(result.code == 2 and "data.prompt" in result.err, result.told())
            want(not os.path.exists(out), "a run directory was left behind")


def nonfinite_weights_end_with_5():
    with scratch() as folder:
        data = write_text(folder)
        out = train(1, folder, "run", small(train_steps=1), data)
        tensors = weights(out)
        tensors["head.weight"] = np.full_like(tensors["head.weight"], np.nan)
        bad = os.path.join(folder, "bad")
        copy_checkpoint(checkpoint(out), bad, tensors)
        for command in (["eval", "--checkpoint", bad], ["generate", "--checkpoint", bad, "--tokens", "3"]):
            for ranks in (1, 2):
                result = run(ranks, command)
                want(result.code == 5 and len(result.err.strip().splitlines()) == 1, result.told())


def main():
    suite = Suite()
    suite.case("layout is forgotten", layout_is_forgotten)
    suite.case("text is found again", text_is_found_again, heavy=True)
    suite.case("prompt is checked first", prompt_is_checked_first)
    suite.case("nonfinite weights", nonfinite_weights_end_with_5, heavy=True)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
