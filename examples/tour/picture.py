"""Draws who ran what when: for each program its serial run above its parallel run.

The same drawing is written twice: as one HTML page with inline SVG (nothing is
loaded from anywhere, and each block says its times under the pointer) and as a PNG.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

Record = dict[str, Any]

WIDTH = 1000
MARGIN = 28
LANES_LEFT = 172
LANES_RIGHT = WIDTH - MARGIN - 72  # leaves room for the duration behind the last block
LANE_GAP = 5
TICKS_MAX = 9
TICK_STEPS = (1, 2, 5)

INK, MUTED, GRID, TRACK, PAPER = "#1c2430", "#667085", "#e4e7ec", "#f2f4f7", "#ffffff"
SERIAL = ("#98a2b3", "#b3bac6")
HUES = (
    ("#2f6fde", "#5b90ea"),
    ("#d9622b", "#e78655"),
    ("#12876f", "#3aa58e"),
    ("#8a4fc4", "#a677d6"),
)


@dataclass
class Rect:
    left: float
    top: float
    width: float
    height: float
    fill: str
    kind: str = "shape"
    radius: float = 3
    hint: str = ""


@dataclass
class Line:
    left: float
    top: float
    right: float
    bottom: float
    stroke: str
    dashed: bool = False


@dataclass
class Text:
    left: float
    baseline: float
    text: str
    size: float = 13
    fill: str = INK
    bold: bool = False
    anchor: str = "start"


@dataclass
class Lane:
    label: str
    spans: list[Record]
    tints: tuple[str, str]
    kind: str


@dataclass
class Drawing:
    height: float = MARGIN
    shapes: list[Rect | Line | Text] = field(default_factory=list)


def lanes_of(record: Record, tints: tuple[str, str]) -> tuple[list[Lane], list[Lane]]:
    """The one serial lane, and a parallel lane per worker in the order they first ran something."""
    by_worker: dict[str, list[Record]] = {}
    for number, span in enumerate(record["parallel"], start=1):
        by_worker.setdefault(span["worker"], []).append(dict(span, number=number))
    serial = [dict(span, number=number) for number, span in enumerate(record["serial"], start=1)]
    return (
        [Lane("driver", serial, SERIAL, "serial")],
        [
            Lane(f"worker {index}", spans, tints, "parallel")
            for index, spans in enumerate(by_worker.values(), start=1)
        ],
    )


def tick_step(seconds: float) -> float:
    """The smallest of 1, 2, 5, 10, ... (or 0.5, 0.2, ...) that gives few enough ticks."""
    exponent = -4
    while True:
        for step in TICK_STEPS:
            if seconds / (step * 10.0**exponent) <= TICKS_MAX:
                return step * 10.0**exponent
        exponent += 1


def draw(records: list[Record], heading: str) -> Drawing:
    drawing = Drawing()
    drawing.shapes.append(
        Text(MARGIN, drawing.height + 18, "Who ran what when", 22, INK, bold=True)
    )
    drawing.shapes.append(Text(MARGIN, drawing.height + 42, heading, 13, MUTED))
    drawing.height += 70
    for index, record in enumerate(records):
        _draw_program(drawing, record, HUES[index % len(HUES)])
    drawing.height += MARGIN / 2
    return drawing


def _draw_program(drawing: Drawing, record: Record, tints: tuple[str, str]) -> None:
    shapes = drawing.shapes
    shapes.append(Line(MARGIN, drawing.height, WIDTH - MARGIN, drawing.height, GRID))
    top = drawing.height + 30
    verdict = "results agree" if record["results_agree"] else "RESULTS DIFFER"
    shapes.append(Text(MARGIN, top, record["program"], 17, tints[0], bold=True))
    shapes.append(
        Text(
            WIDTH - MARGIN,
            top,
            f"{record['tasks']} tasks   ·   {record['speedup']:.2f} times as fast   ·   {verdict}",
            13,
            INK,
            anchor="end",
        )
    )

    serial, parallel = lanes_of(record, tints)
    longest_s = max(record["serial_s"], record["parallel_s"])
    lane_height = 24.0 if len(parallel) <= 16 else 9.0
    first_lane = top + 20
    bottom = first_lane
    grid_at = len(shapes)
    for name, part, duration_s in (
        ("serial", serial, record["serial_s"]),
        ("parallel", parallel, record["parallel_s"]),
    ):
        part_top = bottom
        shapes.append(Text(MARGIN, part_top + 16.5, name, 13, INK))
        for lane in part:
            _draw_lane(shapes, lane, bottom, lane_height, longest_s)
            bottom += lane_height + LANE_GAP
        end = _x(duration_s, longest_s)
        shapes.append(Line(end, part_top - 2, end, bottom - LANE_GAP + 2, INK, dashed=True))
        middle = (part_top + bottom - LANE_GAP) / 2
        shapes.append(Text(end + 7, middle + 4.5, f"{duration_s:.2f} s", 13, INK, bold=True))
        bottom += 9
    shapes[grid_at:grid_at] = list(_grid(longest_s, first_lane - 4, bottom))
    drawing.height = bottom + 40


def _draw_lane(
    shapes: list[Rect | Line | Text], lane: Lane, top: float, height: float, longest_s: float
) -> None:
    baseline = top + height / 2 + 4.5
    if height > 12:
        shapes.append(Text(LANES_LEFT - 12, baseline, lane.label, 13, MUTED, anchor="end"))
    shapes.append(Rect(LANES_LEFT, top, LANES_RIGHT - LANES_LEFT, height, TRACK, "track"))
    for position, span in enumerate(lane.spans):
        left, right = _x(span["start_s"], longest_s), _x(span["end_s"], longest_s)
        width = max(1.0, right - left - 1)
        hint = (
            f"{lane.label}, task {span['number']}: {span['end_s'] - span['start_s']:.3f} s, "
            f"from {span['start_s']:.3f} s to {span['end_s']:.3f} s"
        )
        fill = lane.tints[position % 2]
        shapes.append(Rect(left, top, width, height, fill, lane.kind, min(3, width / 2), hint))
        if width > 22 and height > 12:
            middle = left + width / 2
            shapes.append(Text(middle, baseline, str(span["number"]), 11.5, PAPER, True, "middle"))


def _grid(longest_s: float, top: float, bottom: float) -> Iterator[Line | Text]:
    step = tick_step(longest_s)
    for tick in range(int(longest_s / step) + 1):
        x = _x(tick * step, longest_s)
        yield Line(x, top, x, bottom, GRID)
        yield Text(x, bottom + 15, f"{tick * step:g}", 11.5, MUTED, anchor="middle")
    yield Text(LANES_LEFT - 12, bottom + 15, "seconds", 11.5, MUTED, anchor="end")


def _x(seconds: float, longest_s: float) -> float:
    return LANES_LEFT + (LANES_RIGHT - LANES_LEFT) * min(max(seconds / longest_s, 0.0), 1.0)


def to_svg(drawing: Drawing) -> str:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {drawing.height:.0f}" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="Who ran what when">'
    ]
    for shape in drawing.shapes:
        if isinstance(shape, Rect):
            hint = f"<title>{html.escape(shape.hint)}</title>" if shape.hint else ""
            parts.append(
                f'<rect class="{shape.kind}" x="{shape.left:.2f}" y="{shape.top:.2f}" '
                f'width="{shape.width:.2f}" height="{shape.height:.2f}" rx="{shape.radius:.2f}" '
                f'fill="{shape.fill}">{hint}</rect>'
            )
        elif isinstance(shape, Line):
            dashes = ' stroke-dasharray="3 3"' if shape.dashed else ""
            parts.append(
                f'<line x1="{shape.left:.2f}" y1="{shape.top:.2f}" x2="{shape.right:.2f}" '
                f'y2="{shape.bottom:.2f}" stroke="{shape.stroke}"{dashes}/>'
            )
        else:
            weight = ' font-weight="600"' if shape.bold else ""
            parts.append(
                f'<text x="{shape.left:.2f}" y="{shape.baseline:.2f}" font-size="{shape.size}" '
                f'fill="{shape.fill}" text-anchor="{shape.anchor}" pointer-events="none"{weight}>'
                f"{html.escape(shape.text)}</text>"
            )
    parts.append("</svg>")
    return "\n".join(parts)


def write_html(drawing: Drawing, path: Path) -> None:
    path.write_text(
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8"/><title>Who ran what when</title>\n'
        "<style>body{margin:0;background:#eef0f3}main{max-width:1100px;margin:24px auto;"
        "background:#fff;border-radius:10px;box-shadow:0 1px 4px #0002}svg{display:block}"
        "rect.serial:hover,rect.parallel:hover{opacity:.75}</style></head>\n"
        f"<body><main>\n{to_svg(drawing)}\n</main></body></html>\n",
        encoding="utf-8",
    )


def write_png(drawing: Drawing, path: Path, scale: int = 2) -> None:
    image = Image.new("RGB", (WIDTH * scale, round(drawing.height) * scale), PAPER)
    canvas = ImageDraw.Draw(image)
    for shape in drawing.shapes:
        if isinstance(shape, Rect):
            box = (shape.left, shape.top, shape.left + shape.width, shape.top + shape.height)
            canvas.rounded_rectangle(
                [value * scale for value in box], shape.radius * scale, fill=shape.fill
            )
        elif isinstance(shape, Line):
            for top, bottom in _dashes(shape):
                ends = (shape.left, top, shape.right, bottom)
                canvas.line([value * scale for value in ends], fill=shape.stroke, width=scale)
        else:
            anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
            canvas.text(
                (shape.left * scale, shape.baseline * scale),
                shape.text,
                fill=shape.fill,
                font=ImageFont.load_default(shape.size * scale),
                anchor=anchor,
                stroke_width=0.3 * scale if shape.bold and shape.size < 14 else 0,
            )
    image.save(path, optimize=True)


def _dashes(line: Line) -> Iterator[tuple[float, float]]:
    """The upright pieces of a dashed line; a plain line is one piece."""
    if not line.dashed:
        yield line.top, line.bottom
        return
    top = line.top
    while top < line.bottom:
        yield top, min(top + 3, line.bottom)
        top += 6
