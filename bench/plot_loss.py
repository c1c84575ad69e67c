#!/usr/bin/env python3
"""Draw validation losses of runs over steps as an SVG, beside labml's own figures. Needs nothing but Python 3.

  plot_loss.py OUT.svg LABEL=RUN_DIR...
"""
import json
import math
import os
import sys

# Validation losses that labml's own code reached, two seeds (nats per character).
LABML = {"labml, seed 1": [(100, 3.0889), (200, 2.6146), (500, 2.3438), (1000, 2.0079), (1500, 1.8400), (2000, 1.7721)],
         "labml, seed 2": [(100, 3.1098), (200, 2.6082), (500, 2.3393), (1000, 2.0001), (1500, 1.8300), (2000, 1.7538)]}
COLOURS = ["#1b6ca8", "#c8553d", "#3a7d44", "#7b4b94"]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 64, 20, 44, 52
LOW, HIGH = 1.6, 3.2


def read(run):
    with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    return [(r["step"], r["valid_loss"]) for r in rows if "valid_loss" in r]


def main():
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(__doc__.strip())
        return
    wrong = [a for a in sys.argv[1:2] if a.startswith("-")] + [a for a in sys.argv[2:] if "=" not in a or a.startswith("-")]
    if len(sys.argv) < 3 or wrong:
        why = f"{wrong[0]}: is not known" if wrong else "no run is given"
        print(f"bench/plot_loss.py: error: {why}; give OUT.svg LABEL=RUN_DIR...", file=sys.stderr)
        sys.exit(2)
    curves = dict(a.split("=", 1) for a in sys.argv[2:])
    curves = {label: read(run) for label, run in curves.items()}
    last = max(step for points in curves.values() for step, _ in points)

    def x(step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(loss):
        return TOP + (HEIGHT - TOP - BOTTOM) * (HIGH - loss) / (HIGH - LOW)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           f'<text x="{LEFT}" y="24" font-size="15" fill="#222222">Validation loss on tiny Shakespeare '
           f'(nats per character)</text>']
    for i in range(math.ceil((HIGH - LOW) / 0.2) + 1):
        v = LOW + 0.2 * i
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#e4e4e4"/>'
                   f'<text x="{LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end" fill="#555555">{v:.1f}</text>')
    for step in range(0, last + 1, max(1, last // 8)):
        out.append(f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle" fill="#555555">{step}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle" fill="#555555">steps</text>')
    row = 0
    for label, points in curves.items():
        colour = COLOURS[row % len(COLOURS)]
        path = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in points if v <= HIGH)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<line x1="{WIDTH - 330}" x2="{WIDTH - 304}" y1="{64 + 20 * row}" y2="{64 + 20 * row}" stroke="{colour}" '
                   f'stroke-width="2"/><text x="{WIDTH - 296}" y="{68 + 20 * row}" fill="#222222">{label}</text>')
        row += 1
    for label, points in LABML.items():
        colour = COLOURS[row % len(COLOURS)]
        out += [f'<circle cx="{x(s):.1f}" cy="{y(v):.1f}" r="4" fill="none" stroke="{colour}" stroke-width="1.6"/>'
                for s, v in points]
        out.append(f'<circle cx="{WIDTH - 317}" cy="{64 + 20 * row}" r="4" fill="none" stroke="{colour}" stroke-width="1.6"/>'
                   f'<text x="{WIDTH - 296}" y="{68 + 20 * row}" fill="#222222">{label}</text>')
        row += 1
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write("\n".join(out + ["</svg>", ""]))


if __name__ == "__main__":
    main()
