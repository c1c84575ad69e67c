#!/usr/bin/python3
"""What the program says of itself: the header's lines and the help's fit 80 columns, the header tells the rates that
the rows then have, what is likely not meant is warned of, and config.yaml survives a YAML library."""

import os
import re

from support import Suite, flags, metrics, read, run, scratch, small, succeed, train, want, write_text

try:
    import yaml
except ImportError:
    yaml = None

COLUMNS = 80
COMMANDS = ("train", "eval", "generate", "plan", "probe", "selftest")


def fits(text, what):
    for line in text.splitlines():
        want(len(line) <= COLUMNS or line.startswith("warning: "), f"{what}: {len(line)} columns: {line}")


def log_of(out):
    return read(os.path.join(out, "log.txt"))


def noam(width, warmup, step):
    return width**-0.5 * min(step**-0.5, step * warmup**-1.5)


def header(folder, data):
    options = small(train_steps=3, run_threads=1, optim_schedule="noam", optim_lr=0.02, optim_warmup_steps=2000)
    out = train(1, folder, "header", options, data)
    log = log_of(out)
    fits(log, "log.txt")
    want("1 rank of 1 thread" in log and "groups of 1 rank\n" in log, f"one of a thing: {log}")
    width = options["model.width"]
    told = re.search(r"rate: peak (\S+) at step 2000; (\S+) at step 3, the last", log)
    want(told, f"no rates: {log}")
    for said, step in zip(told.groups(), (2000, 3)):
        right = 0.02 * noam(width, 2000, step)
        want(abs(float(said) / right - 1) < 0.01, f"rate of step {step}: {said}, not {right:.3g}")
    last = [row["lr"] for row in metrics(out)[0] if row["step"] == 3][0]
    want(abs(float(told[2]) / last - 1) < 0.01, f"rate of step 3: {told[2]}, the row has {last}")
    want("warning: the last step, 3, is in the warm-up of 2000; lower optim.warmup_steps\n" in log, f"no word on the warm-up: {log}")
    want("warning: optim.lr 0.02 is a factor under noam" in log, f"no word on the factor: {log}")


def quiet(folder, data):
    """labml's own warm-up lasts as long as its run; a constant rate has none."""
    options = small(train_steps=1, optim_schedule="constant", optim_lr=0.003)
    log = log_of(train(1, folder, "quiet", options, data))
    want("warning" not in log, f"a warning of nothing: {log}")


def no_room(folder, data):
    options = small(train_steps=1, moe_experts=512, moe_capacity_factor=1)
    want("0 slots each" in log_of(train(1, folder, "none", options, data)), "no word on capacity 0")
    planned = succeed(1, ["plan", *flags(options), "--data", data]).out
    want(re.search(r"^slots +0 per expert", planned, re.M), f"plan: {planned[:300]}")
    want("warning: 512 experts for" in planned, f"plan: {planned[:300]}")


def pages(_, __):
    topics = ["moe", "moe.drop", "--experts", "experts", "--top-k", "config", "help", "version"]
    for page in [["--help"], ["--help-config"], ["help"], *(["help", name] for name in (*COMMANDS, *topics))]:
        fits(succeed(1, page).out, " ".join(page))
    for name in COMMANDS:
        told = succeed(1, [name, "--help"]).out
        want(told == succeed(1, ["help", name]).out and "Example\n  swt-dist " + name in told, f"{name} --help: {told}")
    own = succeed(1, ["eval", "--help"]).out
    want("--checkpoint DIR" in own and "(required)" in own and "--moe.drop" in own, f"eval --help: {own}")
    want("--steps" not in own and "--prompt TEXT" not in own, f"eval --help has flags of others: {own}")
    key = succeed(1, ["help", "experts"]).out
    want(all(word in key for word in ("moe.experts", "1 to 65536", "labml 4", "t5 8", "num-experts")), key)
    want(succeed(1, ["version"]).out == succeed(1, ["--version"]).out, "version and --version differ")
    for wrong, right in (("evl", "eval"), ("lr", "optim.lr"), ("zzzz", "--help-config lists all")):
        result = run(1, ["help", wrong])
        want(result.code == 2 and right in result.err, result.told())


def many_ranks(*_):
    wide = small(model_layers=1, model_vocab=65, moe_experts=65536)
    said = succeed(1, ["plan", "--ranks", 65536, *flags(wide)], timeout=30).out
    rows = re.findall(r"^ *(\d+) +1 +\d+ .*$", said.split("\n\n")[-1], re.M)
    want([int(r) for r in rows] == list(range(65536)), f"{len(rows)} ranks listed")


def through_yaml(folder, data):
    """Loaded, one number changed and dumped again, as sweeps do."""
    out = train(1, folder, "first", small(train_steps=1), data)
    with open(os.path.join(out, "config.yaml"), encoding="utf-8") as f:
        config = yaml.safe_load(f)
    want(config["run"]["resume"] == "off" and config["run"]["deterministic"] is True, f"read as {config['run']}")
    config["train"]["steps"] = 2
    config["run"]["out"] = os.path.join(folder, "again")
    config["run"]["init_from"] = None
    for flow in (False, True, None):
        path = os.path.join(folder, "dumped.yaml")
        with open(path, "w", encoding="utf-8") as f:
            yaml.safe_dump(config, f, default_flow_style=flow)
        result = run(1, ["plan", "--config", path])
        want(result.code == 0, result.told())
    succeed(1, ["--config", path])
    with open(os.path.join(folder, "again", "config.yaml"), encoding="utf-8") as f:
        again = yaml.safe_load(f)
    config["run"]["init_from"] = ""
    want(again == config, f"changed: {[k for k in config if config[k] != again[k]]}")


def main():
    suite = Suite()
    cases = {"header": header, "no warning": quiet, "capacity 0": no_room, "pages": pages, "a plan of many ranks": many_ranks}
    if yaml is not None:
        cases["through a YAML library"] = through_yaml
    with scratch() as folder:
        data = write_text(folder)
        for name, case in cases.items():
            suite.case(name, case, folder, data)
    suite.finish()


main()
