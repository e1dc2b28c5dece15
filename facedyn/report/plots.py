"""Plots as SVG text for the page, intervals as HTML, and pictures of faces as PNG bytes.

Plots are drawn by matplotlib without pyplot. Colours are placeholders that become the page's CSS variables, so one
drawing serves light and dark; texts stay texts.
"""

import html
import io
import itertools
import math
import re
import warnings

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import imsave

from data_pipelines.faces.shared_face import as_colours
from facedyn.report import page
from facedyn.report.tables import WITHOUT, with_interval

INK, MUTED, GRID, PAGE = "#010101", "#020202", "#030303", "#040404"
C1, C2, C3, C4 = SERIES = ("#0a0001", "#0a0002", "#0a0003", "#0a0004")
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", PAGE: "page", C1: "c1", C2: "c2", C3: "c3", C4: "c4"}
SETTINGS = {
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
}
# Low to high, told apart on a light and on a dark page.
LOW_HIGH = LinearSegmentedColormap.from_list("low_high", ("#2f6db5", "#a9a4ad", "#e0782a"))
# More marks than this become one bitmap inside the SVG.
VECTOR_MARKS = 1500
# Distances between the marks of an axis of intervals, and how many marks there are at most.
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
MAX_TICKS = 7
# Pictures have at most so many pixels a side: they are shown small, and there are many.
LARGEST_PICTURE = 72


def draw(name: str, width: float, height: float, paint, description: str) -> str:
    """SVG text of a plot of `width` x `height` inches. `paint(axes)` draws it; `name` keeps ids apart on one page.

    `description`: what is drawn, for those who cannot see it.
    """
    with matplotlib.rc_context(SETTINGS | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")  # names in any script; the browser has the fonts
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return for_page(out.getvalue(), name, width, description)


def for_page(svg: str, name: str, width: float, description: str) -> str:
    """The <svg> element alone: own ids, the page's font and colours, as wide as its place allows."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'(\sid="|url\(#|xlink:href="#)', rf"\1{re.escape(name)}-", svg)
    box = re.findall(r'viewBox="[^"]*"', svg)[0]
    label = html.escape(description)
    # Inside HTML an <svg> needs no namespaces.
    opening = f'<svg class="plot" role="img" aria-label="{label}" style="max-width: {round(width * 100)}px" {box}>'
    svg = re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1, flags=re.S)
    svg = re.sub(r"font: ([^;\"]*?)([\d.]+)px [^;\"]*", r"font: \1\2px var(--sans)", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg


def scatter(name, title, labels, predictions, caption) -> str:
    """Predicted against label, equal axes, with the line of perfect agreement."""

    def paint(axes):
        both = np.concatenate([labels, predictions])
        low, high = both.min(), both.max()
        pad = 0.05 * (high - low) or 0.5
        axes.plot([low - pad, high + pad], [low - pad, high + pad], color=GRID, lw=1, zorder=0)
        marks = axes.scatter(labels, predictions, s=15, color=C1, alpha=0.6, linewidths=0)
        marks.set_rasterized(len(labels) > VECTOR_MARKS)
        axes.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal", xlabel="label", ylabel="predicted")
        axes.set_title(f"{title}\n", parse_math=False)
        axes.text(0, 1.025, caption, transform=axes.transAxes, fontsize=8, color=MUTED, parse_math=False)
        axes.locator_params(nbins=5)

    return draw(name, 2.75, 3.0, paint, f"{title}: predicted against labelled, {len(labels)} people, {caption}")


def curves(name, title, steps, values, ylabel, own, controls: dict[str, float]) -> str:
    """Figures over the steps, named `own`; controls as dashed lines; both are named at the right."""

    def paint(axes):
        axes.plot(steps, values, color=C1, lw=1.8, marker="o", ms=3)
        shown = {control: value for control, value in controls.items() if value > 0.35}
        every = np.concatenate([values, list(shown.values())])
        low, high = every.min() - 0.03, every.max() + 0.03
        names = [(f"{own} {values[-1]:.2f}", values[-1], C1)]
        names += [(f"{control} {value:.2f}", value, MUTED) for control, value in shown.items()]
        # What lies far below (the zero map orders nothing) is named at the lower edge, and does not stretch the axis.
        names += [(f"{c} {v:.2f} ↓".replace("-", "−"), low, MUTED) for c, v in controls.items() if c not in shown]
        for value in shown.values():
            axes.axhline(value, color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)
        for (text, _, colour), place in zip(names, _apart([v for _, v, _ in names], 0.075 * (high - low))):
            axes.text(1.015, place, text, transform=axes.get_yaxis_transform(), va="center", color=colour, fontsize=8)
        axes.set(xlabel="step", ylabel=ylabel, ylim=(low, high))
        axes.set_title(title)
        axes.locator_params(axis="x", nbins=5)

    return draw(name, 4.8, 2.7, paint, f"{title}: {ylabel} over the steps, at the end {values[-1]:.2f}")


def before_after(name, title, before, after) -> str:
    """Ranking accuracy of each unit without and with person filters; above the line is better."""

    def paint(axes):
        both = np.concatenate([before, after])
        pad = 0.05 * np.ptp(both) or 0.05
        limits = both.min() - pad, both.max() + pad
        axes.plot(limits, limits, color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=0)
        axes.scatter(before, after, s=15, color=C1, alpha=0.6, linewidths=0).set_rasterized(len(before) > VECTOR_MARKS)
        axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel=WITHOUT, ylabel="with person filters")
        axes.set_title(title)
        axes.locator_params(nbins=5)

    words = f"{np.mean(before):.3f} {WITHOUT}, {np.mean(after):.3f} with them"
    return draw(name, 2.75, 2.9, paint, f"{title}: mean ranking accuracy {words}")


def histogram(name, values, xlabel, ylabel) -> str:
    """Counts of values in [0, 1]."""

    def paint(axes):
        axes.hist(values, bins=np.linspace(0, 1, 41), color=C1)
        axes.set(xlim=(0, 1), xlabel=xlabel, ylabel=ylabel)
        axes.locator_params(axis="y", integer=True)

    return draw(name, 4.8, 2.1, paint, f"Histogram of the {xlabel}")


def people_map(name, title, coordinates, shares, colours=None, names=None, caption="") -> str:
    """People in the plane of two principal components.

    Args: coordinates [P, 2]; shares: of the variance, 2; colours: float [P], low blue and high orange, NaN grey, None = one
      colour; names: texts beside the points.
    """

    def paint(axes):
        if colours is None:
            marks = [axes.scatter(*coordinates.T, s=15, color=C1, alpha=0.7, linewidths=0)]
        else:
            known = np.isfinite(colours)
            axes.scatter(*coordinates[~known].T, s=15, color=GRID, linewidths=0)
            # The middle nine tenths take the whole range of colours: with one odd label all others would look the same.
            low, high = np.quantile(colours[known], (0.05, 0.95)) if known.any() else (0.0, 1.0)
            marks = [
                axes.scatter(*coordinates[known].T, s=17, c=colours[known], cmap=LOW_HIGH, vmin=low, vmax=high, linewidths=0)
            ]
        for mark in marks:
            mark.set_rasterized(len(coordinates) > VECTOR_MARKS)
        for place, text in zip(coordinates, names if names is not None else ()):
            axes.annotate(text, place, xytext=(3, 2), textcoords="offset points", fontsize=6.5, color=MUTED, parse_math=False)
        axes.set(xlabel=f"component 1 ({100 * shares[0]:.0f} %)", ylabel=f"component 2 ({100 * shares[1]:.0f} %)")
        axes.set_title(f"{title}\n" if caption else title, parse_math=False)
        axes.text(0, 1.025, caption, transform=axes.transAxes, fontsize=8, color=MUTED, parse_math=False)
        axes.locator_params(nbins=5)

    side = 5.6 if names is not None else 2.9
    return draw(name, side, 0.95 * side, paint, f"{title}: {len(coordinates)} people by their representations, {caption}")


def matrix(name, values, xlabel, ylabel) -> str:
    """Similarities [N, N] in [-1, 1] as a picture; the larger, the more orange."""

    def paint(axes):
        limit = max(float(np.abs(values).max()), 1e-9)
        axes.imshow(values, cmap=LOW_HIGH, vmin=-limit, vmax=limit, interpolation="nearest")
        axes.set(xlabel=xlabel, ylabel=ylabel, xticks=[], yticks=[])
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    own, others = np.mean(np.diagonal(values)), (values.sum() - np.trace(values)) / max(values.size - len(values), 1)
    words = f"similarity of the halves of {len(values)} people, mean {own:.2f} with the same person, {others:.2f} with others"
    return draw(name, 4.2, 4.2, paint, f"Matrix: {words}")


def _apart(values, gap) -> list[float]:
    """Places near the values, in their order, at least `gap` from one another."""
    order, places = np.argsort(values), np.array(values, float)
    for before, after in itertools.pairwise(order):
        places[after] = max(places[after], places[before] + gap)
    return list(places)


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
    colours, strength = _coloured(dynamic_map, limit)
    grey = _small(_visible(frame)).astype(float).mean(-1, keepdims=True) / 255
    alpha = np.minimum(1.0, 1.4 * strength)[..., None]
    return _png((255 * ((1 - alpha) * grey + alpha * colours)).astype(np.uint8))


def _coloured(dynamic_map, limit):
    """Colours [H, W, 3] in [0, 1] and strengths [H, W] in [0, 1]."""
    value = np.clip(_small(dynamic_map).mean(-1) / (limit or 1.0), -1, 1)
    return matplotlib.colormaps["RdBu_r"](0.5 + 0.5 * value)[..., :3], np.abs(value)


def _small(image, largest: int = LARGEST_PICTURE):
    height, width = image.shape[:2]
    factor = largest / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(factor * width)), max(1, round(factor * height))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)


def _png(image) -> bytes:
    out = io.BytesIO()
    imsave(out, np.ascontiguousarray(image), format="png")
    return out.getvalue()
