"""Plots as SVG text for the page, intervals as HTML, and pictures of faces as PNG bytes.

Colours are the page's CSS variables, so one drawing serves light, dark and print; texts stay texts, and marks say their name
to whoever points at them (<title>).
"""

import base64
import html
import itertools
import math

import cv2
import numpy as np

from data_pipelines.faces.shared_face import as_colours
from facedyn.report import page
from facedyn.report.tables import with_interval

# Marks at most; of more people these are drawn, evenly spaced in their order.
MARKS = 1000
MAX_TICKS = 7
# Low to high, told apart on a light and on a dark page; and of maps, darker to brighter.
LOW_HIGH = np.array([(47, 109, 181), (169, 164, 173), (224, 120, 42)], float)
DARKER_BRIGHTER = np.array([(33, 102, 172), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43)], float)
# Names stand beside a matrix of at most so many people.
NAMED_ROWS = 40
# Pictures have at most so many pixels a side: they are shown small, and there are many.
LARGEST_PICTURE = 72


def chart(size, x, y, labels, paint, description: str, right: int = 12) -> str:
    """SVG of `size` pixels with axes over the ranges x and y (low, high).

    Args:
      labels: of the two axes. right: pixels left free there.
      paint: (place on x, place on y), functions from values to pixels -> SVG elements.
      description: what is drawn, for those who cannot see it.
    """
    (width, height), left, top, bottom = size, 46, 10, 38

    def px(value):
        return round(left + (value - x[0]) / (x[1] - x[0]) * (width - left - right), 1)

    def py(value):
        return round(height - bottom - (value - y[0]) / (y[1] - y[0]) * (height - top - bottom), 1)

    parts = [f'<path class="axis" d="M{left} {top}V{height - bottom}H{width - right}"/>']
    for value in ticks(*x, most=min(MAX_TICKS, (width - left - right) // 45)):
        parts.append(f'<text x="{px(value)}" y="{height - bottom + 14}" text-anchor="middle">{_tick(value)}</text>')
    for value in ticks(*y):
        parts.append(f'<text x="{left - 5}" y="{py(value) + 4}" text-anchor="end">{_tick(value)}</text>')
    across, up = map(html.escape, labels)
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle">{across}</text>')
    middle = (top + height - bottom) / 2
    parts.append(f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{up}</text>')
    return _svg(size, [*parts, *paint(px, py)], description)


def _svg(size, parts, description) -> str:
    width, height = size
    opening = f'<svg class="plot" role="img" aria-label="{html.escape(description)}" viewBox="0 0 {width} {height}"'
    return f'{opening} style="max-width: {width}px">{"".join(parts)}</svg>'


def scatter(x, y, names, labels, description, *, side=270, agreement=False, colours=None, written=False) -> str:
    """A point per person, whose name shows when it is pointed at.

    Args:
      x, y: [N]. names: N texts. labels: of the axes.
      agreement: equal axes with the line where both are equal.
      colours: [N], low blue to high orange, NaN grey; None for one colour.
      written: names also stand beside the points.
    """
    shown = np.linspace(0, len(x) - 1, min(MARKS, len(x))).astype(int)
    x_range, y_range = (_padded(x, y),) * 2 if agreement else (_padded(x), _padded(y))
    fills = None if colours is None else _css_colours(np.asarray(colours, float))

    def paint(px, py):
        low, high = x_range
        parts = [f'<path class="guide" d="M{px(low)} {py(low)}L{px(high)} {py(high)}"/>'] if agreement else []
        for i in shown:
            fill = "" if fills is None else f' style="fill: {fills[i]}"' if fills[i] else ' class="unknown"'
            said = f"{html.escape(str(names[i]))}: {_short(x[i])}, {_short(y[i])}"
            parts.append(f'<circle cx="{px(x[i])}" cy="{py(y[i])}" r="3.2"{fill}><title>{said}</title></circle>')
            if written:
                parts.append(f'<text class="name" x="{px(x[i]) + 5}" y="{py(y[i]) - 3}">{html.escape(str(names[i]))}</text>')
        return parts

    few = f"; {len(shown):,} of them drawn" if len(shown) < len(x) else ""
    return chart((side, side), x_range, y_range, labels, paint, description + few)


def _padded(*values) -> tuple[float, float]:
    """The range of the values and a little more."""
    both = np.concatenate([np.asarray(v, float) for v in values])
    pad = 0.05 * float(np.ptp(both)) or 0.5
    return float(both.min()) - pad, float(both.max()) + pad


def _css_colours(values) -> list[str]:
    """CSS colours, '' for NaN. The middle nine tenths take the whole range: with one odd value all others would look equal."""
    known = np.isfinite(values)
    low, high = np.quantile(values[known], (0.05, 0.95)) if known.any() else (0.0, 1.0)
    scaled = np.clip((np.where(known, values, low) - low) / (high - low or 1.0), 0, 1)
    return ["#{:02x}{:02x}{:02x}".format(*rgb) if ok else "" for rgb, ok in zip(_blend(LOW_HIGH, scaled), known)]


def _blend(stops, values) -> np.ndarray:
    """Colours uint8 [..., 3] of values in [0, 1] between evenly spaced stops [S, 3]."""
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(values, places, stop) for stop in stops.T], -1).round().astype(np.uint8)


def curve(x, y, labels, name, levels, description, *, size=(460, 250), band=None, marks=()) -> str:
    """A line named `name` at its end, with dashed lines of other figures.

    Args: x, y: [N]. levels: {name: figure}. band: (low [N], high [N]) or None. marks: (x, y, what it is) of points.
    """
    near = {what: value for what, value in levels.items() if value > 0.35}
    ends = [np.asarray(y, float), np.array(list(near.values()), float), *(np.asarray(side, float) for side in band or ())]
    low, high = _padded(*ends)
    names = [(f"{name} {_short(y[-1])}", y[-1], "strong"), *((f"{what} {_short(v)}", v, "") for what, v in near.items())]
    # What lies far below is named at the lower edge, and does not stretch the axis.
    names += [(f"{what} {_short(value)} ↓", low, "") for what, value in levels.items() if what not in near]

    def paint(px, py):
        def path(values, x=x):
            return "L".join(f"{px(a)} {py(b)}" for a, b in zip(x, values))

        parts = [f'<path class="band" d="M{path(band[0])}L{path(band[1][::-1], x[::-1])}Z"/>'] if band else []
        parts += [f'<path class="level" d="M{px(x[0])} {py(v)}H{px(x[-1])}"/>' for v in near.values()]
        parts.append(f'<path class="curve" d="M{path(y)}"/>')
        for a, b, what in marks:
            parts.append(f'<circle cx="{px(a)}" cy="{py(b)}" r="4.5"><title>{html.escape(what)}</title></circle>')
        for (words, _, kind), place in zip(names, _apart([v for _, v, _ in names], 0.065 * (high - low))):
            parts.append(f'<text class="{kind}" x="{px(x[-1]) + 6}" y="{py(place) + 4}">{html.escape(words)}</text>')
        return parts

    x_range = (float(x[0]), float(x[-1])) if x[0] < x[-1] else _padded(x)
    return chart(size, x_range, (low, high), labels, paint, description, right=14 + 6 * max(len(words) for words, *_ in names))


def matrix(values, people, labels) -> str:
    """Similarities [N, N] in [-1, 1], the larger, the more orange, with names, a colour bar and the diagonal; NaN is left out.

    Row i is of people[i], column j of people[j]; pointing at a row names the person and whom he or she resembles most.
    """
    n, side = len(people), 380
    left, bottom = (90, 90) if n <= NAMED_ROWS else (30, 24)
    limit = max(float(np.nanmax(np.abs(values))), 1e-9)
    colours = _blend(LOW_HIGH, 0.5 + 0.5 * np.nan_to_num(values) / limit)
    picture = _png(np.concatenate([colours, 255 * np.isfinite(values)[..., None].astype(np.uint8)], -1))
    data = base64.b64encode(picture).decode()
    parts = [
        f'<image x="{left}" y="8" width="{side}" height="{side}" preserveAspectRatio="none" '
        f'style="image-rendering: pixelated" href="data:image/png;base64,{data}"/>'
    ]
    step, others = side / n, np.where(np.eye(n, dtype=bool), -np.inf, np.nan_to_num(values, nan=-np.inf))
    names = [html.escape(str(person)) for person in people]
    for i, name in enumerate(names):
        y, best = 8 + i * step, int(others[i].argmax())
        own = f"own other half {_short(values[i, i])}, " if np.isfinite(values[i, i]) else ""
        said = f"<title>{name}: {own}most similar other person {names[best]}, {_short(others[i, best])}</title>"
        if step > 3:
            parts.append(f'<rect class="own" x="{left + i * step:.1f}" y="{y:.1f}" width="{step:.1f}" height="{step:.1f}"/>')
        parts.append(f'<rect class="row" x="{left}" y="{y:.1f}" width="{side}" height="{step:.1f}">{said}</rect>')
        if n <= NAMED_ROWS:
            x = left + (i + 0.5) * step
            parts.append(f'<text class="name" x="{left - 4}" y="{y + step / 2 + 3:.1f}" text-anchor="end">{name[:16]}</text>')
            turned = f'text-anchor="end" transform="rotate(-90 {x + 3:.1f} {side + 12})"'
            parts.append(f'<text class="name" x="{x + 3:.1f}" y="{side + 12}" {turned}>{name[:16]}</text>')
    across, up = map(html.escape, labels)
    parts.append(f'<text x="{left + side / 2}" y="{side + bottom}" text-anchor="middle">{across}</text>')
    parts.append(f'<text x="12" y="{side / 2}" text-anchor="middle" transform="rotate(-90 12 {side / 2})">{up}</text>')
    stops = "".join(f'<stop offset="{s}" stop-color="rgb{tuple(map(int, c))}"/>' for s, c in zip((0, 0.5, 1), LOW_HIGH[::-1]))
    parts.append(f'<linearGradient id="similarity" x2="0" y2="1">{stops}</linearGradient>')
    parts.append(f'<rect x="{left + side + 14}" y="8" width="12" height="{side}" style="fill: url(#similarity)"/>')
    for share, value in ((0, limit), (0.5, 0.0), (1, -limit)):
        parts.append(f'<text x="{left + side + 31}" y="{12 + share * side:.1f}">{_short(value)}</text>')
    with_self, with_others = np.nanmean(np.diagonal(values)) if own else math.nan, np.nanmean(values[~np.eye(n, dtype=bool)])
    words = f"Matrix: similarity of {n} people, mean {_short(with_others)} with others"
    words += f", {_short(with_self)} with the same person" * bool(own)
    return _svg((left + side + 70, side + bottom + 12), parts, words)


def _apart(values, gap) -> list[float]:
    """Places near the values, in their order, at least `gap` from one another."""
    order, places = np.argsort(values), np.array(values, float)
    for before, after in itertools.pairwise(order):
        places[after] = max(places[after], places[before] + gap)
    return list(places)


def forest(rows: list[tuple], series: list[str], axis: str) -> str:
    """Figures with their intervals on one scale.

    Args:
      rows: a label and, for each of `series`, (value, low, high) with NaN for what is not known, or None.
      series: what the figures of a row are of. axis: what is shown.
    """
    known = [x for _, *figures in rows for f in figures if f for x in f if math.isfinite(x)]
    low, high = _padded([0.0, *known])

    def place(x):
        return f"{(x - low) / (high - low):.4f}"

    items = []
    for label, *figures in rows:
        bars, words = "", ""
        for number, (value, least, most) in enumerate((figure or (math.nan,) * 3 for figure in figures), 1):
            line = f'<i style="--low: {place(least)}; --high: {place(most)}"></i>' if math.isfinite(least + most) else ""
            dot = f'<b style="--at: {place(value)}"></b>' if math.isfinite(value) else ""
            bars += f'<span class="g{number}">{line}{dot}</span>'
            words += f"<span>{with_interval(value, least, most, 2)}</span>"
        drawn = f'<span class="bar" aria-hidden="true" style="height: {1.35 * len(figures)}em">{bars}</span>'
        items.append(f'<li><span class="what">{page.text(label)}</span>{drawn}<span class="figure">{words}</span></li>')
    marks = "".join(f'<span style="--at: {place(x)}">{_tick(x)}</span>' for x in ticks(low, high))
    scale = f'<div class="axis" aria-hidden="true"><span class="what"></span><span class="bar">{marks}</span></div>'
    dots = "".join(f'<span class="dot g{i}"></span>{page.text(name)}' for i, name in enumerate(series, 1))
    named = f'<p class="note">{page.text(axis)}{dots}</p>'
    return f'<div class="forest" style="--zero: {place(0.0)}">{named}<ul>{"".join(items)}</ul>{scale}</div>'


def ticks(low: float, high: float, most: int = MAX_TICKS) -> list[float]:
    """Round numbers within [low, high], 0 among them where it is in there, at most `most`."""
    order = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(s for s in (order, 2 * order, 5 * order, 10 * order, 20 * order) if (high - low) / s < most)
    return [round(k * step, 9) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick(x) -> str:
    return f"{x + 0.0:g}".replace("-", "−")


def _short(x) -> str:
    return f"{x + 0.0:.2f}".replace("-", "−")


def frame_png(frame, largest: int = LARGEST_PICTURE) -> bytes:
    """uint8 [H, W, C] -> PNG of at most `largest` pixels a side; a motion (C = 2) in colours: hue = direction."""
    frame = _small(_visible(frame), largest)
    return _png(np.broadcast_to(frame, (*frame.shape[:2], 3)))


def _visible(frame):
    """The frame, or, where it is a motion of two channels, that in colours."""
    return as_colours(frame) if frame.shape[-1] == 2 else frame


def overlay_png(dynamic_map, frame, limit: float) -> bytes:
    """A dynamic representation [H, W, C], mean over its channels, over its centre frame in grey.

    Blue is -limit, red +limit; the more colour, the larger the value.
    """
    value = np.clip(_small(dynamic_map).mean(-1) / (limit or 1.0), -1, 1)
    grey = _small(_visible(frame)).astype(float).mean(-1, keepdims=True)
    alpha = np.minimum(1.0, 1.4 * np.abs(value))[..., None]
    return _png(((1 - alpha) * grey + alpha * _blend(DARKER_BRIGHTER, 0.5 + 0.5 * value)).astype(np.uint8))


def _small(image, largest: int = LARGEST_PICTURE):
    height, width = image.shape[:2]
    factor = largest / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(factor * width)), max(1, round(factor * height))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)


def _png(image) -> bytes:
    """RGB or RGBA uint8 [H, W, C] -> PNG."""
    order = [2, 1, 0, 3][: image.shape[-1]]
    return cv2.imencode(".png", np.ascontiguousarray(image[..., order]))[1].tobytes()
