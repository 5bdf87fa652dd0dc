"""The results as a picture: bars relative to Go on a logarithmic scale, as SVG."""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.catalog import Benchmark
from benchmarks.contenders import GO, TITLES
from benchmarks.report import format_value
from benchmarks.results import Results

COLOURS = {
    "goroutines": "#d9480f",
    "gevent": "#2b8a3e",
    "asyncio": "#1971c2",
    "uvloop": "#74a9d8",
    "trio": "#7048a8",
    "threading": "#868e96",
}
BLACK, GREY, PALE = "#222", "#666", "#ddd"
WIDTH = 860
LEFT, RIGHT = 250, 70
TOP, BOTTOM = 84, 34
BAR, BAR_GAP, GROUP_GAP = 9, 2, 12

Bar = tuple[str, float, float]
"""Contender, its figure, and that as a multiple of Go's; of a rate, the reciprocal."""
Group = tuple[Benchmark, float, list[Bar]]
"""A benchmark, Go's figure, and the others' bars."""


def svg(results: Results) -> str | None:
    """Draw the benchmarks that Go takes part in; None if there is nothing to draw."""
    groups = [group for b in results.benchmarks if (group := _group(results, b))]
    if not groups:
        return None
    scale = Scale([ratio for _, _, bars in groups for _, _, ratio in bars])
    height = TOP + sum(_group_height(bars) + GROUP_GAP for _, _, bars in groups) + BOTTOM
    shapes = [*_heading(), *_legend(results), *_axis(scale, height)]
    y = TOP
    for benchmark, go, bars in groups:
        shapes += _draw_group(scale, y, benchmark, go, bars)
        y += _group_height(bars) + GROUP_GAP
    return _document(height, shapes)


class Scale:
    """Places ratios on the x axis, which spans whole powers of ten around 1."""

    def __init__(self, ratios: Sequence[float]) -> None:
        self.low = min(-1, math.floor(math.log10(min(ratios))))
        self.high = max(1, math.ceil(math.log10(max(ratios))))

    def x(self, ratio: float) -> float:
        share = (math.log10(ratio) - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def _group(results: Results, benchmark: Benchmark) -> Group | None:
    go = results.figure(benchmark, GO)
    figures = [(name, results.figure(benchmark, name)) for name in COLOURS]
    if go is None or go <= 0:
        return None
    bars = [
        (name, value, go / value if benchmark.more_is_better else value / go)
        for name, value in figures
        if value and value > 0
    ]
    return (benchmark, go, bars) if bars else None


def _group_height(bars: list[Bar]) -> int:
    return max(len(bars) * (BAR + BAR_GAP), 24)


def _draw_group(
    scale: Scale, y: int, benchmark: Benchmark, go: float, bars: list[Bar]
) -> list[str]:
    shapes = [
        _text(LEFT - 12, y + 10, benchmark.title, text_anchor="end", font_weight=600),
        _text(
            LEFT - 12,
            y + 23,
            f"Go {format_value(go, benchmark.unit)}",
            text_anchor="end",
            fill=GREY,
        ),
    ]
    for name, value, ratio in bars:
        start, end = sorted((scale.x(1), scale.x(ratio)))
        shapes.append(
            f'<rect x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" '
            f'height="{BAR}" fill="{COLOURS[name]}"/>'
        )
        shapes.append(_text(end + 5, y + 8, format_value(value, benchmark.unit), font_size=10))
        y += BAR + BAR_GAP
    return shapes


def _heading() -> list[str]:
    note = "to the left of the line: better than Go; to the right: worse; logarithmic scale"
    return [
        _text(16, 24, "Time, CPU time and memory, relative to Go", font_weight=600, font_size=15),
        _text(16, 42, note, fill=GREY),
    ]


def _legend(results: Results) -> list[str]:
    shapes = []
    x = 16
    for contender in results.contenders:
        if contender.name in COLOURS:
            colour = COLOURS[contender.name]
            shapes.append(f'<rect x="{x}" y="54" width="11" height="11" fill="{colour}"/>')
            shapes.append(_text(x + 16, 64, TITLES[contender.name]))
            x += 34 + 7 * len(contender.title)
    return shapes


def _axis(scale: Scale, height: int) -> list[str]:
    bottom = height - BOTTOM + 4
    shapes = []
    for tick in scale.ticks():
        x, is_go = scale.x(tick), tick == 1
        shapes.append(
            f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}" '
            f'stroke="{BLACK if is_go else PALE}"/>'
        )
        label = "Go" if is_go else f"{tick:,g}"
        fill = BLACK if is_go else GREY
        shapes.append(_text(x, bottom + 16, label, text_anchor="middle", fill=fill))
    return shapes


def _text(x: float, y: float, text: str, **attributes: object) -> str:
    """A text; attributes as in SVG, with underscores for hyphens."""
    style = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}>{escape(text)}</text>'


def _document(height: int, shapes: list[str]) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" '
        f'font-size="12" fill="{BLACK}">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        *shapes,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
