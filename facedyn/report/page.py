"""The document and the few pieces of HTML that the sections are made of. Every text that comes in is escaped.

The page loads nothing: style, script, pictures and the CSV of each table are inside; it is light or dark as the reader's
system asks. What scrolls sideways can be reached with the keyboard.
"""

import base64
import csv
import html
import importlib.resources
import io
import math
import string
from collections.abc import Sequence
from typing import NamedTuple

from facedyn.core.verdicts import Verdict
from facedyn.report import tables


def _read(name: str) -> str:
    return importlib.resources.files("facedyn.report").joinpath(name).read_text(encoding="utf-8")


# Colours are variables, so that one drawing serves light, dark and print; tests/test_report.py computes the contrast of every
# colour of text on every background. The script marks the link of the section in view, opens folded details that a link leads
# into, and shows all in a print.
TEMPLATE, STYLE, SCRIPT = string.Template(_read("page.html")), _read("page.css"), _read("page.js")


class Section(NamedTuple):
    """A part of the page: its id, the question it answers, and the HTML beneath; without that it is left out."""

    name: str
    title: str
    body: str
    missing: str = ""  # why there is no body, and what would give one: plain text


def page(title: str, subtitle: str, sections: list[Section]) -> str:
    """The whole document; titles are plain text. The first section has a heading of its own."""
    links = "".join(f'<li><a href="#{text(s.name)}">{text(s.title)}</a></li>' for s in sections)
    heads = ["", *(f'<h2 id="{text(s.name)}-title">{text(s.title)}</h2>\n' for s in sections[1:])]
    bodies = [
        f'<section id="{text(s.name)}" aria-labelledby="{text(s.name)}-title">\n{head}{s.body}\n</section>'
        for s, head in zip(sections, heads)
    ]
    parts = dict(style=STYLE, script=SCRIPT, links=links, sections="\n".join(bodies))
    return TEMPLATE.substitute(parts, title=text(title), subtitle=text(subtitle))


def text(value) -> str:
    """Any value as HTML text."""
    return html.escape(str(value))


def paragraph(words: str, note: bool = False) -> str:
    """One paragraph of plain text."""
    return f'<p class="note">{text(words)}</p>' if note else f"<p>{text(words)}</p>"


def heading(words: str) -> str:
    """A heading within a section."""
    return f"<h3>{text(words)}</h3>"


def listing(items: Sequence[str | tuple[str, str]]) -> str:
    """Plain texts, one beneath the other, or texts with a line to be copied."""
    pairs = [(item, "") if isinstance(item, str) else item for item in items]
    return f"<ul>{''.join(f'<li>{text(words)}{code([line]) if line else str()}</li>' for words, line in pairs)}</ul>"


class Cells(NamedTuple):
    """How columns of a table look: indices of those in a fixed width, and of those whose colour is the deeper, the larger."""

    code: tuple = ()
    heat: tuple = ()
    percent: bool = False


PLAIN = Cells()


def table(name, columns, rows, caption, *, main: int | None = None, lead=(), cells: Cells = PLAIN) -> str:
    """A table with a link to its CSV, whose file is called `name`; '' without rows.

    A cell is a text, (text, small text beneath it), a number, a row of scores.csv (with its interval), or None for a dash.

    Args:
      main: the column by which rows are sorted, the largest first; None leaves their order.
      lead: first cells of the rows that are stressed.
      caption: also what a screen reader calls the table.
    """
    if not rows:
        return ""
    if main is not None:
        rows = sorted(rows, key=lambda row: -tables.size(row[main]))
    kinds = []
    for i in range(len(columns)):
        textual = any(isinstance(row[i], (str, tuple)) and not hasattr(row[i], "low") for row in rows)
        kinds.append("code" if i in cells.code else "" if textual else "number share" if i in cells.heat else "number")
    head = "".join(f'<th scope="col"{_kind(kind.split(" ")[0])}>{text(c)}</th>' for c, kind in zip(columns, kinds))
    body = []
    for row in rows:
        inner = "".join(_cell(cell, kind, not i, cells.percent) for i, (cell, kind) in enumerate(zip(row, kinds)))
        body.append(f"<tr{_kind('lead' if row[0] in lead else '')}>{inner}</tr>")
    caption_cell = f"<caption><span>{text(caption)} {_csv_link(name, columns, rows, caption)}</span></caption>"
    content = f"<table>{caption_cell}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return _scrolling(content, caption, "scroll")


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _cell(cell, kind, first, percent) -> str:
    words, small, value = _words(cell, percent)
    style = ""
    if kind.endswith("share") and math.isfinite(value):  # the interval would make the table too wide to be seen at once
        style, small = f' style="--share: {min(max(value, 0.0), 1.0):.3f}" title="{text(small or words)}"', ""
    tag, scope = ("th", ' scope="row"') if first else ("td", "")
    return f"<{tag}{scope}{_kind(kind)}{style}>{text(words)}{f'<small>{text(small)}</small>' if small else ''}</{tag}>"


def _words(cell, percent) -> tuple[str, str, float]:
    """(text, small text, number or NaN) of a cell."""
    if cell is None:
        return "–", "", math.nan
    if hasattr(cell, "low"):
        interval = "" if math.isnan(cell.low) else f"{tables.number(cell.low)} to {tables.number(cell.high)}"
        return tables.number(cell.value), interval, cell.value
    if isinstance(cell, tuple):
        return *cell, math.nan
    if isinstance(cell, float):
        return percentage(cell) if percent else tables.number(cell), "", cell
    return f"{cell:,}" if isinstance(cell, int) else cell, "", math.nan


def _csv_link(name, columns, rows, caption) -> str:
    """A link that holds the table: figures in full, intervals in columns of their own."""

    def parts(cell):
        if hasattr(cell, "low"):
            return [cell.value, cell.low, cell.high]
        return list(cell) if isinstance(cell, tuple) else [cell]

    widths = [max(len(parts(row[i])) for row in rows) for i in range(len(columns))]
    head = []
    for column, width in zip(columns, widths):
        head += [column, *([], [f"{column}, detail"], [f"{column}, low", f"{column}, high"])[width - 1]]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        values = [value for cell, width in zip(row, widths) for value in (parts(cell) + [None] * width)[:width]]
        writer.writerow(["" if v is None or v != v else f"{v:.6g}" if isinstance(v, float) else v for v in values])
    data = base64.b64encode(out.getvalue().encode()).decode()
    link = f'<a download="{text(name)}.csv" href="data:text/csv;charset=utf-8;base64,{data}">CSV'
    return f'{link}<span class="hidden"> of the table: {text(caption)}</span></a>'


def verdicts(found: list[tuple[str, Verdict]]) -> list[str]:
    """A paragraph for each (what, verdict)."""
    return [f"<p><b>{text(tables.sentence(what))}: {text(v.word)}.</b> {text(v.reason)}</p>" for what, v in found]


def percentage(share: float) -> str:
    """'34 %'; figures below half a percent, of either sign, are '0 %'."""
    return f"{100 * share + 0.0:.0f} %".replace("-0 ", "0 ").replace("-", "−")


def _scrolling(content: str, what: str, kind: str) -> str:
    """Content that scrolls sideways where it must, which a keyboard can do too once it has the focus."""
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{text(what)}">{content}</div>'


def figure(content: str, caption: str = "", wide: bool = False) -> str:
    """A figure; `content` is HTML or SVG, `wide` lets it scroll sideways on a narrow screen."""
    under = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f"<figure>{_scrolling(content, caption, 'wide') if wide else content}{under}</figure>"


def panel(title: str, note: str, content: str) -> str:
    """A plot with its title, and a line of plain text beneath that."""
    return f"<div><h3>{text(title)}</h3>{f'<span class=note>{text(note)}</span>' if note else ''}{content}</div>"


def grid(items: list[str], least: int) -> str:
    """Items side by side as the width allows, each at least `least` pixels wide; '' for none."""
    columns = f"repeat(auto-fill, minmax(min({least}px, 100%), 1fr))"
    return f'<div class="grid" style="grid-template-columns: {columns}">{"".join(items)}</div>' if items else ""


def details(summary: str, *parts: str) -> str:
    """HTML that the reader opens, '' where there is none; `summary` is plain text."""
    content = "\n".join(filter(None, parts))
    return f"<details><summary>{text(summary)}</summary>{content}</details>" if content else ""


def code(lines: list[str]) -> str:
    """Lines to be copied."""
    return f"<pre>{text(chr(10).join(lines))}</pre>"


def image(png: bytes, description: str) -> str:
    """A picture of a person, or of what a person's filters do; nothing else on the page is an <img>."""
    return f'<img alt="{text(description)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
