"""Small multiples as SVG: a panel for each sweep of bench/scaling, all with the same y axis."""

from typing import NamedTuple

COLOURS = ["#1b6ca8", "#c8553d", "#3a7d44"]
ABOVE, BELOW, BESIDE = ((0, -10, "middle"), (0, 19, "middle"), (9, 4, "start"))  # of a label from its mark
INK, PALE, GRID = "#222222", "#555555", "#e4e4e4"
COLUMNS, PANEL_W, PANEL_H = 3, 330, 250
LEFT, RIGHT, TOP, BOTTOM, HEAD = 46, 16, 40, 46, 64


class Mark(NamedTuple):
    x: float
    y: float
    series: int  # colour; marks of a series are joined by a line
    hollow: bool
    label: str


class Panel(NamedTuple):
    title: str
    x_name: str
    marks: list


def nice_top(y):
    """The top of the axis: the next of 1.5, 2, 3, 4, 6, ... over y."""
    top = 1.5
    while top < y:
        top = {1: 2, 2: 3, 3: 4, 4: 6, 6: 8, 8: 12}.get(int(top), top * 1.5)
    return top


def text(x, y, words, anchor="middle", colour=PALE, size=12, more=""):
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text {place} fill="{colour}"{more}>{words}</text>'


def line(x1, y1, x2, y2, colour, more=""):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{more}/>'


def short_count(x):
    return f"{x // 1024:.0f} k" if x >= 1024 and x % 1024 == 0 else f"{x:g}"


def label_place(mark, marks):
    """Where the label of a mark meets no other: of several, the highest has it above."""
    heights = sorted(other.y for other in marks if other.x == mark.x and other.label)
    if mark.y == heights[0]:
        return BELOW
    return ABOVE if mark.y == heights[-1] else BESIDE


def draw_panel(panel, left, top, y_top, limit):
    """One panel: values of x evenly apart (they double from one to the next), y from 0 to y_top."""
    width, height = PANEL_W - LEFT - RIGHT, PANEL_H - TOP - BOTTOM
    x0, y0 = left + LEFT, top + TOP
    places = sorted({mark.x for mark in panel.marks})

    def x(value):
        return x0 + width * (places.index(value) + 0.5) / len(places)

    def y(value):
        return y0 + height * (1 - value / y_top)

    out = [text(x0, top + 22, panel.title, "start", INK, 14)]
    step = 0.5 if y_top <= 3 else 1 if y_top <= 6 else y_top / 6
    for i in range(round(y_top / step) + 1):
        out += [
            line(x0, y(i * step), x0 + width, y(i * step), GRID),
            text(x0 - 6, y(i * step) + 4, f"{i * step:.1f}", "end"),
        ]
    out.append(line(x0, y(limit), x0 + width, y(limit), INK, ' stroke-dasharray="5 4" stroke-width="1"'))
    out += [text(x(value), y0 + height + 17, short_count(value)) for value in places]
    out.append(text(x0 + width / 2, y0 + height + 36, panel.x_name))
    for series in sorted({mark.series for mark in panel.marks}):
        own = [mark for mark in panel.marks if mark.series == series]
        path = " ".join(f"{x(mark.x):.1f},{y(mark.y):.1f}" for mark in own)
        out.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[series]}" stroke-width="2"/>')
        for mark in own:
            fill = "#ffffff" if mark.hollow else COLOURS[series]
            out.append(
                f'<circle cx="{x(mark.x):.1f}" cy="{y(mark.y):.1f}" r="4" fill="{fill}" '
                f'stroke="{COLOURS[series]}" stroke-width="2"/>'
            )
            if mark.label:
                dx, dy, anchor = label_place(mark, panel.marks)
                halo = ' stroke="#ffffff" stroke-width="3" paint-order="stroke"'
                out.append(text(x(mark.x) + dx, y(mark.y) + dy, mark.label, anchor, COLOURS[series], 10.5, halo))
    return out


def draw_legend(names, notes, left, top):
    """The place of a panel that is not needed: what the marks mean."""
    out, y = [], top + TOP + 6
    for series, name in enumerate(names):
        out += [
            line(left + 16, y - 4, left + 40, y - 4, COLOURS[series], ' stroke-width="2"'),
            f'<circle cx="{left + 28}" cy="{y - 4}" r="4" fill="{COLOURS[series]}"/>',
            text(left + 50, y, name, "start", INK),
        ]
        y += 22
    for note in notes:
        out.append(text(left + 16, y + 6, note, "start"))
        y += 19
    return out


def draw(path, title, under, panels, names, notes, limit):
    """Write the panels, COLUMNS in a line, and after the last one the legend."""
    rows = -(-(len(panels) + 1) // COLUMNS)
    width, height = COLUMNS * PANEL_W, HEAD + rows * PANEL_H
    y_top = nice_top(1.12 * max(mark.y for panel in panels for mark in panel.marks))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        text(16, 28, title, "start", INK, 17),
        text(16, 48, under, "start"),
    ]
    for i, panel in enumerate(panels):
        out += draw_panel(panel, i % COLUMNS * PANEL_W, HEAD + i // COLUMNS * PANEL_H, y_top, limit)
    i = len(panels)
    out += draw_legend(names, notes, i % COLUMNS * PANEL_W, HEAD + i // COLUMNS * PANEL_H)
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join([*out, "</svg>", ""]))
