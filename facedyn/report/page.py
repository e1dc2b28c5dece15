"""The page itself: style and the few pieces of HTML that the sections are made of. Every text that comes in is escaped.

The page loads nothing: style and pictures are inside. Colours are CSS variables, light or dark as the reader's system asks.
"""

import base64
import html
import string

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
<main>
<header>
<h1>$title</h1>
<p class="sub">$subtitle</p>
$tiles
</header>
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
main { max-width: 1000px; margin: 0 auto; padding: 28px 20px 60px; }
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
caption { text-align: left; padding: 0 0 6px; }
th, td { padding: 5px 12px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; border-bottom: 1.5px solid var(--muted); }
tbody th { font-weight: 400; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td small, th small { color: var(--muted); display: block; font-size: .8rem; }
td.code, pre { font-family: var(--mono); font-size: .8rem; overflow-wrap: anywhere; }
tr.lead td, tr.lead th { font-weight: 600; }
tr.lead small { font-weight: 400; }
tr.break td, tr.break th { border-top: 1.5px solid var(--muted); }
figure { margin: 12px 0 18px; }
figcaption { margin-top: 4px; max-width: 76ch; }
svg.plot { display: block; width: 100%; height: auto; }
.grid { display: grid; gap: 8px 18px; }
.wide { overflow-x: auto; } .wide svg.plot { min-width: 560px; }
.example { display: grid; gap: 3px; align-items: center; }
.example img { width: 100%; display: block; border-radius: 2px; image-rendering: pixelated; }
.example .label { font-size: .72rem; line-height: 1.15; color: var(--muted); }
.example .head { text-align: center; } .example .side { text-align: right; padding-right: 6px; }
.key { display: inline-block; width: 110px; height: 10px; border-radius: 2px; vertical-align: middle; margin: 0 6px;
  background: linear-gradient(90deg, #2166ac, #92c5de, #f7f7f7, #f4a582, #b2182b); }
details { margin: 10px 0; } summary { cursor: pointer; }
@media (max-width: 560px) { body { font-size: 15px; } main { padding: 18px 14px 40px; } h1 { font-size: 1.4rem; }
  th, td { padding-right: 9px; } .example { gap: 1px; } .example .label { font-size: .6rem; } }
@media print { main { max-width: none; } h2, figure { break-inside: avoid; } }
"""


def text(value) -> str:
    """Any value as HTML text."""
    return html.escape(str(value))


def page(title: str, subtitle: str, tiles: str, sections: list[str]) -> str:
    """The whole document; title and subtitle are plain text, tiles and sections HTML."""
    return TEMPLATE.substitute(
        title=text(title), subtitle=text(subtitle), style=STYLE, tiles=tiles, sections="\n".join(sections)
    )


def section(name: str, title: str, *parts: str) -> str:
    """A section of the page; `parts` are HTML."""
    return f'<section id="{text(name)}">\n<h2>{text(title)}</h2>\n' + "\n".join(p for p in parts if p) + "\n</section>"


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


def table(columns: list[str], rows: list[list], *, numbers=(), code=(), lead=(), breaks=(), caption: str = "") -> str:
    """A table. A cell is text, or (text, small text beneath it).

    Args: numbers, code: indices of the columns set as figures or in a fixed width; lead, breaks: indices of the rows that are
      stressed, or stand under a stronger line.
    """

    def kind(i):
        return "number" if i in numbers else "code" if i in code else ""

    def cell(value, i):
        value, small = value if isinstance(value, tuple) else (value, "")
        body = text(value) + (f"<small>{text(small)}</small>" if small else "")
        tag, scope = ("th", ' scope="row"') if i == 0 else ("td", "")
        return f'<{tag}{scope} class="{kind(i)}">{body}</{tag}>'

    head = "".join(f'<th scope="col" class="{kind(i)}">{text(c)}</th>' for i, c in enumerate(columns))
    body = []
    for r, row in enumerate(rows):
        classes = " ".join(name for name, chosen in (("lead", lead), ("break", breaks)) if r in chosen)
        body.append(f'<tr class="{classes}">' + "".join(cell(value, i) for i, value in enumerate(row)) + "</tr>")
    title = f"<caption>{text(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def figure(content: str, caption: str = "", wide: bool = False) -> str:
    """A figure; `content` is HTML or SVG, `wide` lets it scroll sideways on a narrow screen."""
    under = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f'<figure><div class="{"wide" if wide else ""}">{content}</div>{under}</figure>'


def grid(items: list[str], least: int) -> str:
    """Items side by side as the width allows, each at least `least` pixels wide."""
    columns = f"repeat(auto-fill, minmax(min({least}px, 100%), 1fr))"
    return f'<div class="grid" style="grid-template-columns: {columns}">{"".join(items)}</div>'


def details(summary: str, content: str) -> str:
    """HTML that the reader opens; `summary` is plain text."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def image(png: bytes, description: str) -> str:
    """A picture inside the page."""
    return f'<img alt="{text(description)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
