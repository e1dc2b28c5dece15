"""Plots as SVG text for the page, and pictures of faces and maps as PNG bytes.

Drawn by matplotlib without pyplot. Colours are placeholders that become the page's CSS variables, so one drawing serves
light and dark; texts stay texts.
"""

import io
import itertools
import re
import warnings

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.image import imsave

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
# More marks than this become one bitmap inside the SVG.
VECTOR_MARKS = 1500
# Maps and frames are drawn with at most so many pixels a side.
LARGEST_PICTURE = 96


def draw(name: str, width: float, height: float, paint) -> str:
    """SVG text of a plot of `width` x `height` inches. `paint(axes)` draws it; `name` keeps ids apart on one page."""
    with matplotlib.rc_context(SETTINGS | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")  # names in any script; the browser has the fonts
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return for_page(out.getvalue(), name, width)


def for_page(svg: str, name: str, width: float) -> str:
    """The <svg> element alone: own ids, the page's font and colours, as wide as its place allows."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'(\sid="|url\(#|xlink:href="#)', rf"\1{re.escape(name)}-", svg)
    box = re.search(r'viewBox="[^"]*"', svg).group()
    # Inside HTML an <svg> needs no namespaces.
    opening = f'<svg class="plot" role="img" style="max-width: {round(width * 100)}px" {box}>'
    svg = re.sub(r"<svg[^>]*>", opening, svg, count=1, flags=re.S)
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

    return draw(name, 2.75, 3.0, paint)


def curves(name, title, steps, accuracy, controls: dict[str, float]) -> str:
    """Ranking accuracy of held-out people over the steps; controls as dashed lines, named at the right."""

    def paint(axes):
        axes.plot(steps, accuracy, color=C1, lw=1.8, marker="o", ms=3)
        shown = {control: value for control, value in controls.items() if value > 0.35}
        values = np.concatenate([accuracy, list(shown.values())])
        low, high = values.min() - 0.03, values.max() + 0.03
        names = [(f"generic model {accuracy[-1]:.2f}", accuracy[-1], C1)]
        names += [(f"{control} {value:.2f}", value, MUTED) for control, value in shown.items()]
        # What lies far below (the zero map orders nothing) is named at the lower edge, and does not stretch the axis.
        names += [(f"{c} {v:.2f} ↓".replace("-", "−"), low, MUTED) for c, v in controls.items() if c not in shown]
        for value in shown.values():
            axes.axhline(value, color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)
        for (text, _, colour), place in zip(names, _apart([v for _, v, _ in names], 0.075 * (high - low))):
            axes.text(1.015, place, text, transform=axes.get_yaxis_transform(), va="center", color=colour, fontsize=8)
        axes.set(xlabel="step", ylabel="ranking accuracy", ylim=(low, high))
        axes.set_title(title)
        axes.locator_params(axis="x", nbins=5)

    return draw(name, 4.8, 2.7, paint)


def before_after(name, title, before, after) -> str:
    """Ranking accuracy of each unit with the generic model and with its own filters; above the line is better."""

    def paint(axes):
        both = np.concatenate([before, after])
        pad = 0.05 * np.ptp(both) or 0.05
        limits = both.min() - pad, both.max() + pad
        axes.plot(limits, limits, color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=0)
        axes.scatter(before, after, s=15, color=C1, alpha=0.6, linewidths=0).set_rasterized(len(before) > VECTOR_MARKS)
        axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="generic model", ylabel="with person filters")
        axes.set_title(title)
        axes.locator_params(nbins=5)

    return draw(name, 2.75, 2.9, paint)


def forest(name, rows, xlabel) -> str:
    """Intervals one under the other. rows: (label, value, low, high, group); a group has its own colour and a gap before it."""
    places, groups, y = [], [], 0.0
    for i, row in enumerate(rows):
        if row[4] not in groups:
            groups.append(row[4])
            y += 0.5 if i else 0.0
        places.append(y)
        y += 1.0

    def paint(axes):
        axes.axvline(0, color=MUTED, lw=0.9, zorder=0)
        for place, (_, value, low, high, group) in zip(places, rows):
            colour = SERIES[groups.index(group) % len(SERIES)]
            axes.plot([low, high], [place, place], color=colour, lw=1.6, solid_capstyle="butt")
            axes.plot([value], [place], marker="o", ms=5, color=colour)
            interval = f"{value:.2f} [{low:.2f}, {high:.2f}]".replace("-", "−")
            axes.text(1.02, place, interval, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
        axes.set_yticks(places, [row[0] for row in rows], parse_math=False, fontsize=8.5)
        axes.set(ylim=(places[-1] + 0.6, -0.6), xlabel=xlabel)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)

    return draw(name, 7.6, 0.9 + 0.235 * (places[-1] + 1), paint)


def histogram(name, values, xlabel, ylabel) -> str:
    """Counts of values in [0, 1]."""

    def paint(axes):
        axes.hist(values, bins=np.linspace(0, 1, 41), color=C1)
        axes.set(xlim=(0, 1), xlabel=xlabel, ylabel=ylabel)
        axes.locator_params(axis="y", integer=True)

    return draw(name, 4.8, 2.1, paint)


def _apart(values, gap) -> list[float]:
    """Places near the values, in their order, at least `gap` from one another."""
    order, places = np.argsort(values), np.array(values, float)
    for before, after in itertools.pairwise(order):
        places[after] = max(places[after], places[before] + gap)
    return list(places)


def frame_png(frame) -> bytes:
    """uint8 [H, W, C] -> PNG."""
    return _png(np.broadcast_to(_small(frame), (*_small(frame).shape[:2], 3)))


def map_png(dynamic_map, limit: float) -> bytes:
    """A dynamic representation [H, W, C], mean over its channels, in a diverging colour map: blue -limit, red +limit."""
    return _png((255 * _coloured(dynamic_map, limit)[0]).astype(np.uint8))


def overlay_png(dynamic_map, frame, limit: float) -> bytes:
    """The map over its centre frame in grey; the more colour, the larger the value."""
    colours, strength = _coloured(dynamic_map, limit)
    grey = _small(frame).astype(float).mean(-1, keepdims=True) / 255
    alpha = np.minimum(1.0, 1.4 * strength)[..., None]
    return _png((255 * ((1 - alpha) * grey + alpha * colours)).astype(np.uint8))


def _coloured(dynamic_map, limit):
    """Colours [H, W, 3] in [0, 1] and strengths [H, W] in [0, 1]."""
    value = np.clip(_small(dynamic_map).mean(-1) / (limit or 1.0), -1, 1)
    return matplotlib.colormaps["RdBu_r"](0.5 + 0.5 * value)[..., :3], np.abs(value)


def _small(image):
    stride = -(-max(image.shape[:2]) // LARGEST_PICTURE)
    return image[::stride, ::stride]


def _png(image) -> bytes:
    out = io.BytesIO()
    imsave(out, np.ascontiguousarray(image), format="png")
    return out.getvalue()
