"""The document, its style, and the few pieces of HTML that the sections are made of. Every text that comes in is escaped.

The page loads nothing: style and pictures are inside; it is light or dark as the reader's system asks.
What scrolls sideways can be reached with the keyboard.
"""

import base64
import html
import math
import string
from typing import NamedTuple

from facedyn.core.verdicts import Verdict
from facedyn.report import tables

TEMPLATE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<a class="skip" href="#content">Skip to the results</a>
<header>
<h1>$title</h1>
<p class="sub">$subtitle</p>
$tiles
$contents
</header>
<main id="content" tabindex="-1">
$sections
</main>
</body>
</html>
""")

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f5f6f8; --ink: #1b1f24; --muted: #5d6672; --line: #d9dde3;
  --c1: #1f5fa8; --c2: #c05717; --c3: #2b7d53; --c4: #84499c;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14171b; --card: #1d2228; --ink: #e7eaee; --muted: #9aa4b1; --line: #353c46;
  --c1: #74aef0; --c2: #f0985c; --c3: #6ecb9a; --c4: #cb96e2; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 var(--sans); -webkit-text-size-adjust: 100%; }
header, main { max-width: 1000px; margin: 0 auto; padding: 28px 20px 0; } main { padding: 0 20px 60px; }
main:focus { outline: none; }
:focus-visible { outline: 2px solid var(--c1); outline-offset: 2px; }
a { color: var(--c1); }
.skip { position: absolute; left: -999px; } .skip:focus { left: 8px; top: 8px; padding: 6px 10px; background: var(--page); }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 16px; list-style: none; margin: 20px 0 0; padding: 0; font-size: .9rem; }
td.number small { font-size: .76rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.2rem; margin: 44px 0 6px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 22px 0 6px; }
p { margin: 6px 0 12px; max-width: 76ch; }
.sub, .note, figcaption, caption { color: var(--muted); }
.note, figcaption, caption { font-size: .87rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 12px; margin: 18px 0 0; }
.tile { background: var(--card); border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.2; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: .83rem; color: var(--muted); }
.scroll { overflow-x: auto; margin: 10px 0 14px; }
table { border-collapse: collapse; font-size: .87rem; width: 100%; }
caption { text-align: left; padding: 0 0 6px; } caption span { display: block; max-width: min(76ch, 100vw - 30px); }
th, td { padding: 5px 12px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; border-bottom: 1.5px solid var(--muted); }
tbody th { font-weight: 400; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td small, th small { color: var(--muted); display: block; font-size: .8rem; }
tbody .code, pre { font-family: var(--mono); font-size: .8rem; overflow-wrap: anywhere; }
td.code { min-width: 9em; }
table.figures tbody th { min-width: 10.5em; }
tr.lead td, tr.lead th { font-weight: 600; }
tr.lead small { font-weight: 400; }
p.verdict { border-left: 3px solid var(--muted); padding-left: 10px; }
tr.break td, tr.break th { border-top: 2px solid var(--muted); }
figure { margin: 12px 0 18px; }
figcaption { margin-top: 4px; max-width: 76ch; }
svg.plot { display: block; width: 100%; height: auto; }
.grid { display: grid; gap: 8px 18px; }
.wide { overflow-x: auto; } .wide svg.plot, .wide .example { min-width: 560px; }
.example { display: grid; gap: 3px; align-items: center; }
.example img { width: 100%; display: block; border-radius: 2px; image-rendering: pixelated; }
.example .label { font-size: .72rem; line-height: 1.15; color: var(--muted); }
.example .head { text-align: center; } .example .side { text-align: right; padding-right: 6px; }
.key { display: inline-block; width: 110px; height: 10px; border-radius: 2px; vertical-align: middle; margin: 0 6px;
  background: linear-gradient(90deg, #2166ac, #92c5de, #f7f7f7, #f4a582, #b2182b); }
.forest h4 { font-size: .87rem; margin: 12px 0 2px; } .forest ul { list-style: none; margin: 0; padding: 0; }
.forest li, .forest .axis { display: grid; grid-template-columns: minmax(0, 27em) 1fr 10.5em; gap: 0 12px; align-items: center;
  font-size: .83rem; line-height: 1.5; }
.forest .figure { font-variant-numeric: tabular-nums; white-space: nowrap; }
.forest .bar { position: relative; height: 1.7em; }
.forest li .bar { background: linear-gradient(var(--line), var(--line)) calc(var(--zero) * 100%) 0 / 1px 100% no-repeat; }
.forest .bar i { position: absolute; left: calc(var(--low) * 100%); right: calc((1 - var(--high)) * 100%); top: calc(50% - 1px);
  height: 2px; background: var(--own); }
.forest .bar b { position: absolute; left: calc(var(--at) * 100% - 4px); top: calc(50% - 4px); width: 8px; height: 8px;
  border-radius: 50%; background: var(--own); }
.forest .axis .bar span { position: absolute; left: calc(var(--at) * 100%); transform: translateX(-50%); color: var(--muted); }
.g1 { --own: var(--c1); } .g2 { --own: var(--c2); } .g3 { --own: var(--c3); } .g4 { --own: var(--c4); }
table.heat { max-width: 560px; } table.heat td, table.heat thead th + th { padding: 5px 10px; text-align: right; }
table.heat td.share { background: color-mix(in srgb, var(--c1) calc(var(--share) * 55%), transparent); }
table.heat tbody th { white-space: nowrap; }
.clip { background: var(--card); border-radius: 8px; padding: 8px; font-size: .8rem; overflow-wrap: anywhere; }
.clip .frames { display: flex; gap: 3px; margin-bottom: 5px; }
.clip img { flex: 1 1 0; min-width: 0; max-height: 150px; object-fit: contain; }
pre { background: var(--card); border-radius: 8px; padding: 10px 12px; white-space: pre-wrap; margin: 8px 0 14px; }
.key.labels { background: linear-gradient(90deg, #2f6db5, #a9a4ad, #e0782a); }
details { margin: 10px 0; } summary { cursor: pointer; padding: 4px 0; }
@media (max-width: 560px) { body { font-size: 15px; } header { padding: 18px 14px 0; } main { padding: 0 14px 40px; }
  h1 { font-size: 1.4rem; } .forest li, .forest .axis { grid-template-columns: 1fr 11em; }
  .forest .what { grid-column: span 2; line-height: 1.25; } .forest li { margin-top: 5px; }
  th, td { padding-right: 9px; } .example { gap: 1px; } .example .label { font-size: .6rem; } }
@media print { main { max-width: none; } h2, figure { break-inside: avoid; } }
"""


def text(value) -> str:
    """Any value as HTML text."""
    return html.escape(str(value))


class Section(NamedTuple):
    """A part of the page: its id, its title, and the HTML beneath."""

    name: str
    title: str
    body: str


def page(title: str, subtitle: str, tiles: str, sections: list[Section]) -> str:
    """The whole document; title and subtitle are plain text, tiles HTML."""
    links = "".join(f'<li><a href="#{text(s.name)}">{text(s.title)}</a></li>' for s in sections)
    bodies = [f'<section id="{text(s.name)}">\n<h2>{text(s.title)}</h2>\n{s.body}\n</section>' for s in sections]
    return TEMPLATE.substitute(
        title=text(title),
        subtitle=text(subtitle),
        style=STYLE,
        tiles=tiles,
        contents=f'<nav aria-label="Sections of this page"><ul>{links}</ul></nav>',
        sections="\n".join(bodies),
    )


def section(name: str, title: str, *parts: str) -> Section:
    """A section of the page; `parts` are HTML."""
    return Section(name, title, "\n".join(p for p in parts if p))


def paragraph(words: str, note: bool = False) -> str:
    """One paragraph of plain text."""
    return f'<p class="note">{text(words)}</p>' if note else f"<p>{text(words)}</p>"


def heading(words: str) -> str:
    """A heading within a section."""
    return f"<h3>{text(words)}</h3>"


def tile_row(items: list[tuple[str, str, str]]) -> str:
    """Key figures: (what, figure, beneath)."""
    tiles = [f'<div class="tile"><span>{text(a)}</span><b>{text(b)}</b><span>{text(c)}</span></div>' for a, b, c in items]
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def table(columns: list[str], rows: list[list], caption: str, *, numbers=(), code=(), lead=(), breaks=()) -> str:
    """A table. A cell is text, or (text, small text beneath it); the caption is what a screen reader calls it.

    Args: numbers, code: indices of the columns set as figures or in a fixed width; lead, breaks: indices of the rows that are
      stressed, or stand under a stronger line.
    """

    def kind(i):
        return ' class="number"' if i in numbers else ' class="code"' if i in code else ""

    def cell(value, i):
        value, small = value if isinstance(value, tuple) else (value, "")
        body = text(value) + (f"<small>{text(small)}</small>" if small else "")
        tag, scope = ("th", ' scope="row"') if i == 0 else ("td", "")
        return f"<{tag}{scope}{kind(i)}>{body}</{tag}>"

    head = "".join(f'<th scope="col"{kind(i)}>{text(c)}</th>' for i, c in enumerate(columns))
    body = []
    for r, row in enumerate(rows):
        classes = " ".join(name for name, chosen in (("lead", lead), ("break", breaks)) if r in chosen)
        opening = f'<tr class="{classes}">' if classes else "<tr>"
        body.append(opening + "".join(cell(value, i) for i, value in enumerate(row)) + "</tr>")
    content = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    opening = '<table class="figures">' if len(numbers) > 2 else "<table>"
    return _scrolling(f"{opening}{_caption(caption)}{content}</table>", caption, "scroll")


def figure_cell(row) -> str | tuple[str, str]:
    """A row of scores.csv as a cell of `table`: the figure with its interval beneath; a dash for None."""
    if row is None:
        return "–"
    interval = "" if math.isnan(row.low) else f"{tables.number(row.low)} to {tables.number(row.high)}"
    return tables.number(row.value), interval


def verdicts(found: list[tuple[str, Verdict]]) -> list[str]:
    """A paragraph for each (what, verdict)."""
    return [
        f'<p class="verdict"><b>{text(tables.sentence(what))}: {text(v.word)}.</b> {text(v.reason)}</p>' for what, v in found
    ]


def heat_table(columns: list[str], rows: list[tuple[str, list[float]]], caption: str, totals: bool = False) -> str:
    """A table of shares, each cell the more coloured the larger it is, but for last row and column where they are totals.

    rows: (what, a share a column but the first).
    """
    head = "".join(f'<th scope="col">{text(c)}</th>' for c in columns)
    body = []
    for r, (name, shares) in enumerate(rows):
        cells = []
        for i, share in enumerate(shares):
            coloured = not totals or (r < len(rows) - 1 and i < len(shares) - 1)
            opening = f'<td class="share" style="--share: {min(max(share, 0.0), 1.0):.3f}">' if coloured else "<td>"
            cells.append(f"{opening}{percent(share)}</td>")
        body.append(f'<tr><th scope="row">{text(name)}</th>{"".join(cells)}</tr>')
    content = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return _scrolling(f'<table class="heat">{_caption(caption)}{content}</table>', caption, "scroll")


def _caption(words: str) -> str:
    """Of a table; the span keeps it on the screen where the table is wider."""
    return f"<caption><span>{text(words)}</span></caption>"


def percent(share: float) -> str:
    """'34 %'; figures below half a percent, of either sign, are '0 %'."""
    return f"{100 * share + 0.0:.0f} %".replace("-0 ", "0 ").replace("-", "−")


def _scrolling(content: str, what: str, kind: str) -> str:
    """Content that scrolls sideways where it must, which a keyboard can do too once it has the focus."""
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{text(what)}">{content}</div>'


def figure(content: str, caption: str = "", wide: bool = False) -> str:
    """A figure; `content` is HTML or SVG, `wide` lets it scroll sideways on a narrow screen."""
    under = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f"<figure>{_scrolling(content, caption, 'wide') if wide else content}{under}</figure>"


def grid(items: list[str], least: int) -> str:
    """Items side by side as the width allows, each at least `least` pixels wide."""
    columns = f"repeat(auto-fill, minmax(min({least}px, 100%), 1fr))"
    return f'<div class="grid" style="grid-template-columns: {columns}">{"".join(items)}</div>'


def details(summary: str, content: str) -> str:
    """HTML that the reader opens; `summary` is plain text."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def code(lines: list[str]) -> str:
    """Lines to be copied."""
    return f"<pre>{text(chr(10).join(lines))}</pre>"


def image(png: bytes, description: str) -> str:
    """A picture of a person, or of what a person's filters do; nothing else on the page is an <img>."""
    return f'<img alt="{text(description)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
