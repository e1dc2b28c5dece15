"""The few pieces of HTML that the sections are made of. Every text that comes in is escaped.

The page loads nothing: style and pictures are inside. What scrolls sideways can be reached with the keyboard.
"""

import base64
import html
from typing import NamedTuple

from facedyn.report.style import STYLE, TEMPLATE


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
