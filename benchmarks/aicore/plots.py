"""Pictures of what was measured, as SVG: rate and distortion of each clip, and how long frames took."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from benchmarks.aicore import figures
from benchmarks.aicore.latency import Timed
from benchmarks.aicore.plan import UNSCORED
from benchmarks.aicore.quality import Measured, Take

_WIDTH, _HEIGHT, _MARGIN, _RIGHT = 360, 260, 48, 24
_COLOURS = ("#444444", "#c0392b", "#2471a3", "#1e8449")
_BINS = 40


@dataclass(slots=True)
class Panel:
    """One set of axes. Lines are (x, y) in order; bars are (from, to, y)."""

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    bars: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)


def rate_distortion(found: Sequence[Measured]) -> list[Panel]:
    """A panel for each clip: the sender at its rates, and ours out of each of its two streams."""
    panels: dict[str, Panel] = {}
    for one in found:
        subject = one.job.subject
        panel = panels.setdefault(subject.name, Panel(f"{one.job.codec} {subject.size} {subject.name}", "kb/s", "VMAF"))
        sender = [_point(one, Take("", one.sizes, one.scores)), *(_point(one, take) for take in one.asked)]
        panel.lines["sender"] = sorted({*panel.lines.get("sender", []), *sender})
        panel.lines[f"ours of {one.job.kbps}"] = sorted(_point(one, take) for take in one.ours.values() if take.scores)
    return list(panels.values())


def _point(one: Measured, take: Take) -> tuple[float, float]:
    sizes = take.sizes[UNSCORED:]
    return sum(sizes) * 8 * one.job.fps / len(sizes) / 1000, figures.mean(take.scores, UNSCORED)


def latencies(timed: Sequence[Timed]) -> list[Panel]:
    """A panel for each size: inter frames of all clips, ours and the plain encoder's."""
    panels = []
    for size in dict.fromkeys(one.job.subject.size for one in timed):
        here = [one for one in timed if one.job.subject.size == size]
        values = {"decode and encode": [ms for one in here for ms in one.inter]}
        values[f"plain {here[0].plain}"] = [ms for one in here for ms in one.plain_ms[1:]]
        most = max(figures.percentile(ms, 0.99) for ms in values.values())
        bars = {name: _histogram(ms, most) for name, ms in values.items()}
        panels.append(Panel(f"{here[0].job.codec} {size}", "ms", "% of frames", bars=bars))
    return panels


def _histogram(values: Sequence[float], most: float) -> list[tuple[float, float, float]]:
    """(from, to, % of values); what is beyond the last bin is in it."""
    width = most / _BINS
    counts = [0] * _BINS
    for value in values:
        counts[min(int(value / width), _BINS - 1)] += 1
    return [(n * width, (n + 1) * width, 100 * count / len(values)) for n, count in enumerate(counts)]


def write(path: Path, panels: Sequence[Panel]) -> None:
    """Side by side."""
    drawn = "".join(f'<g transform="translate({n * _WIDTH},0)">{_draw(panel)}</g>' for n, panel in enumerate(panels))
    size = f'width="{_WIDTH * len(panels)}" height="{_HEIGHT}"'
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="10">'
        f'<rect {size} fill="white"/>{drawn}</svg>\n'
    )


def _draw(panel: Panel) -> str:
    xs = [x for line in panel.lines.values() for x, _ in line]
    xs += [x for bars in panel.bars.values() for left, right, _ in bars for x in (left, right)]
    ys = [y for line in panel.lines.values() for _, y in line]
    ys += [y for bars in panel.bars.values() for *_, y in bars] + ([0.0] if panel.bars else [])
    across = _Axis(min(xs), max(xs), _MARGIN, _WIDTH - _RIGHT)
    up = _Axis(min(ys), max(ys), _HEIGHT - _MARGIN, 24)
    out = [_text(_WIDTH / 2, 14, panel.title, "middle"), _text(_WIDTH / 2, _HEIGHT - 12, panel.x, "middle")]
    out.append(_text(4, 14, panel.y, "start"))
    frame = f"M{_MARGIN},24V{_HEIGHT - _MARGIN}H{_WIDTH - _RIGHT}"
    out.append(f'<path d="{frame}" fill="none" stroke="black"/>')
    out += [_text(across.at(x), _HEIGHT - _MARGIN + 14, _number(x), "middle") for x in across.ticks]
    out += [_text(_MARGIN - 4, up.at(y) + 3, _number(y), "end") for y in up.ticks]
    colours = dict(zip([*panel.lines, *panel.bars], _COLOURS, strict=False))
    for name, line in panel.lines.items():
        out += _line([(across.at(x), up.at(y)) for x, y in line], colours[name])
    for name, bars in panel.bars.items():
        out += _bars(bars, across, up, colours[name])
    first = _HEIGHT - _MARGIN - 8 - 12 * (len(colours) - 1) if panel.lines else 34  # where nothing is drawn
    for number, (name, colour) in enumerate(colours.items()):
        out.append(_text(_WIDTH - 16, first + 12 * number, name, "end", colour))
    return "".join(out)


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float  # pixels
    end: float

    def at(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return round(self.start + (self.end - self.start) * (value - self.low) / span, 1)

    @property
    def ticks(self) -> list[float]:
        return [self.low + n * (self.high - self.low) / 4 for n in range(5)]


def _line(points: Iterable[tuple[float, float]], colour: str) -> list[str]:
    points = list(points)
    path = " ".join(f"{x},{y}" for x, y in points)
    dots = [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>' for x, y in points]
    return [f'<polyline points="{path}" fill="none" stroke="{colour}"/>', *dots]


def _bars(bars: Sequence[tuple[float, float, float]], across: _Axis, up: _Axis, colour: str) -> list[str]:
    floor = up.at(0)
    return [
        f'<rect x="{across.at(left)}" y="{up.at(y)}" width="{across.at(right) - across.at(left):.1f}"'
        f' height="{floor - up.at(y):.1f}" fill="{colour}" fill-opacity="0.5"/>'
        for left, right, y in bars
        if y
    ]


def _number(value: float) -> str:
    """Three digits, but no powers of ten."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _text(x: float, y: float, text: str, anchor: str, colour: str = "black") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
