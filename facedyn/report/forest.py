"""Intervals one under the other, as HTML: a list that reads as text, wraps on a phone, and shows bars where there is CSS."""

import math

from facedyn.report import page
from facedyn.store.scores import with_interval

STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
MAX_TICKS = 7


def forest(groups: list[tuple[str, list[tuple]]], axis: str) -> str:
    """groups: (name, rows), rows: (label, value, low, high), an interval that is not known is NaN; axis: what is shown."""
    rows = [row for _, of_group in groups for row in of_group]
    known = [x for row in rows for x in row[1:] if math.isfinite(x)] or [0.0]
    low, high = min(0.0, *known), max(0.0, *known)
    pad = 0.03 * (high - low) or 0.5
    low, high = low - pad, high + pad

    def place(x):
        return f"{(x - low) / (high - low):.4f}"

    parts = []
    for number, (name, of_group) in enumerate(groups):
        items = []
        for label, value, least, most in of_group:
            line = f'<i style="--low: {place(least)}; --high: {place(most)}"></i>' if math.isfinite(least + most) else ""
            dot = f'<b style="--at: {place(value)}"></b>' if math.isfinite(value) else ""
            figure = page.text(with_interval(value, least, most, 2))
            bar = f'<span class="bar" aria-hidden="true">{line}{dot}</span>'
            items.append(f'<li><span class="what">{page.text(label)}</span>{bar}<span class="figure">{figure}</span></li>')
        parts.append(f'<h4>{page.text(name)}</h4><ul class="g{number % 4 + 1}">{"".join(items)}</ul>')
    marks = "".join(f'<span style="--at: {place(x)}">{page.text(_tick(x))}</span>' for x in ticks(low, high))
    scale = f'<div class="axis" aria-hidden="true"><span class="what"></span><span class="bar">{marks}</span></div>'
    name = f'<p class="note">{page.text(axis)}</p>'
    return f'<div class="forest" style="--zero: {place(0.0)}">{name}{scale}{"".join(parts)}{scale}</div>'


def ticks(low: float, high: float) -> list[float]:
    """Round numbers within [low, high], 0 among them where it is in there, at most MAX_TICKS."""
    step = next((s for s in STEPS if (high - low) / s < MAX_TICKS), high - low)
    return [round(k * step, 6) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick(x):
    return f"{x + 0.0:g}".replace("-", "−")
