"""The style of the page and its small script. Colours are variables, so that one drawing serves light, dark and print.

tests/test_report.py computes the contrast of every colour of text on every background.
"""

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f5f6f8; --ink: #1b1f24; --muted: #4a525c; --line: #d9dde3;
  --c1: #1f5fa8; --c2: #a94a10; --c3: #23704a; --c4: #84499c;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
@media screen and (prefers-color-scheme: dark) { :root {
  --page: #14171b; --card: #1d2228; --ink: #e7eaee; --muted: #a3adb9; --line: #353c46;
  --c1: #74aef0; --c2: #f0985c; --c3: #6ecb9a; --c4: #cb96e2; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 58px; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 var(--sans); -webkit-text-size-adjust: 100%; }
header, main { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 16px; } main { padding-bottom: 60px; }
main:focus { outline: none; }
:focus-visible { outline: 2px solid var(--c1); outline-offset: 2px; }
a { color: var(--c1); }
.skip { position: absolute; left: -999px; z-index: 3; }
.skip:focus { left: 8px; top: 8px; padding: 6px 10px; background: var(--page); }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
nav { position: sticky; top: 0; z-index: 2; background: var(--page); border-bottom: 1px solid var(--line); margin-top: 8px; }
nav ul { display: flex; justify-content: safe center; gap: 16px; list-style: none; margin: 0; padding: 0 20px;
  font-size: .84rem; overflow-x: auto; white-space: nowrap; }
nav a { display: block; padding: 9px 0 7px; border-bottom: 2px solid transparent; color: var(--muted); text-decoration: none; }
nav a:hover { color: var(--ink); }
nav a[data-here] { border-color: var(--c1); color: var(--ink); }
h1 { font-size: 1.45rem; line-height: 1.2; margin: 0 0 2px; }
h2 { font-size: 1.3rem; margin: 44px 0 6px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 22px 0 6px; } .grid h3 { font-size: .9rem; margin: 6px 0 2px; }
p, li { max-width: 80ch; } p { margin: 6px 0 12px; }
.sub { margin: 0; max-width: none; } .sub, .note, figcaption, caption { color: var(--muted); }
.sub, .note, figcaption, caption { font-size: .87rem; }
.answer { background: var(--card); border-left: 5px solid var(--own); border-radius: 6px; padding: 10px 16px;
  margin: 14px 0 12px; }
.answer h2 { border: 0; margin: 0; padding: 0; font-size: 1.25rem; } .answer h2 b { color: var(--own); }
.answer p { margin: 4px 0 0; max-width: none; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(290px, 100%), 1fr)); gap: 12px; margin: 0 0 12px; }
.tile { background: var(--card); border-radius: 6px; padding: 8px 14px 10px; font-size: .83rem; }
.tile h3 { font-size: .83rem; font-weight: 600; margin: 0; color: var(--muted); }
.tile p { margin: 4px 0 0; color: var(--muted); }
.tile .key-figure { color: var(--ink); font-size: .83rem; margin: 0; }
.tile .key-figure b { font-size: 1.6rem; line-height: 1.25; font-variant-numeric: tabular-nums; margin-right: 6px; }
.bars { list-style: none; margin: 2px 0 0; padding: 0; }
.bars li { display: grid; grid-template-columns: minmax(0, 9.5em) 1fr 2.6em; gap: 0 8px; align-items: center;
  line-height: 1.35; }
.bars i { display: block; height: 7px; border-radius: 2px; width: calc(var(--at) * 100%); min-width: 2px;
  background: var(--own); }
.bars .g0 i { opacity: .55; } .bars span:last-child { text-align: right; font-variant-numeric: tabular-nums; }
.scroll, .wide { overflow-x: auto; } .scroll { margin: 10px 0 14px; }
table { border-collapse: collapse; font-size: .87rem; width: 100%; }
caption { text-align: left; padding: 0 0 6px; } caption span { display: block; max-width: min(80ch, 100vw - 30px); }
caption .hidden { display: inline; }
th, td { padding: 5px 12px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; border-bottom: 1.5px solid var(--muted); vertical-align: bottom; }
tbody th { font-weight: 400; min-width: 9em; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; } td.number { white-space: nowrap; }
td small, th small { color: var(--muted); display: block; font-size: .9em; font-weight: 400; }
tbody .code, pre { font-family: var(--mono); font-size: .8rem; overflow-wrap: anywhere; } td.code { min-width: 9em; }
tr.lead td, tr.lead th { font-weight: 600; }
td.share { background: color-mix(in srgb, var(--c1) calc(var(--share) * 48%), transparent); border: 1px solid var(--page);
  padding: 5px 10px; }
figure { margin: 12px 0 18px; } figcaption { margin-top: 4px; max-width: 80ch; }
svg.plot { display: block; width: 100%; height: auto; }
.plot text { font: 11px var(--sans); fill: var(--muted); } .plot .name { font-size: 9px; }
.plot .axis { stroke: var(--muted); fill: none; } .plot .guide { stroke: var(--line); fill: none; }
.plot .level { stroke: var(--muted); stroke-dasharray: 4 3; } .plot .band { fill: var(--c1); opacity: .15; }
.plot .curve { stroke: var(--c1); stroke-width: 2; fill: none; }
.plot circle { fill: var(--c1); opacity: .7; } .plot circle:hover { opacity: 1; stroke: var(--ink); }
.plot .own { fill: none; stroke: var(--ink); stroke-width: .7; } .plot .row { fill: transparent; stroke: none; }
.plot .row:hover { stroke: var(--ink); } .plot text.strong { fill: var(--c1); } .plot circle.unknown { fill: var(--line); }
.grid { display: grid; gap: 10px 18px; }
.wide .example { min-width: 560px; } .example { display: grid; gap: 3px; align-items: center; }
.example img { width: 100%; display: block; border-radius: 2px; image-rendering: pixelated; }
.example .label { font-size: .72rem; line-height: 1.15; color: var(--muted); }
.example .head { text-align: center; } .example .side { text-align: right; padding-right: 6px; }
.key { display: inline-block; width: 110px; height: 10px; border-radius: 2px; vertical-align: middle; margin: 0 6px;
  background: linear-gradient(90deg, #2166ac, #92c5de, #f7f7f7, #f4a582, #b2182b); }
.key.labels { background: linear-gradient(90deg, #2f6db5, #a9a4ad, #e0782a); }
.forest ul { list-style: none; margin: 0; padding: 0; } .forest p { margin: 0 0 2px; max-width: none; }
.forest .dot { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin: 0 5px 0 12px;
  background: var(--own); }
.forest li, .forest .axis { display: grid; grid-template-columns: minmax(0, 15em) 1fr 10.5em; gap: 0 12px; align-items: center;
  font-size: .83rem; line-height: 1.35; max-width: none; }
.forest .figure span { display: block; font-variant-numeric: tabular-nums; white-space: nowrap; }
.forest .bar, .forest .bar span { position: relative; display: block; height: 1.35em; }
.forest li .bar { background: linear-gradient(var(--line), var(--line)) calc(var(--zero) * 100%) 0 / 1px 100% no-repeat; }
.forest .bar i { position: absolute; left: calc(var(--low) * 100%); right: calc((1 - var(--high)) * 100%); top: calc(50% - 1px);
  height: 2px; background: var(--own); }
.forest .bar b { position: absolute; left: calc(var(--at) * 100% - 4px); top: calc(50% - 4px); width: 8px; height: 8px;
  border-radius: 50%; background: var(--own); }
.forest .axis .bar span { position: absolute; left: calc(var(--at) * 100%); transform: translateX(-50%); color: var(--muted); }
.g1 { --own: var(--c1); } .g2 { --own: var(--c2); } .g3 { --own: var(--c3); } .g0 { --own: var(--muted); }
.clip { background: var(--card); border-radius: 6px; padding: 8px; font-size: .8rem; overflow-wrap: anywhere; }
.clip .frames { display: flex; gap: 3px; margin-bottom: 5px; }
.clip img { flex: 1 1 0; min-width: 0; max-height: 150px; object-fit: contain; }
pre { background: var(--card); border-radius: 6px; padding: 10px 12px; white-space: pre-wrap; margin: 8px 0 14px; }
li pre { margin: 4px 0 8px; }
details { margin: 10px 0; border-top: 1px solid var(--line); } summary { cursor: pointer; padding: 8px 0; font-weight: 600; }
@media (max-width: 560px) { body { font-size: 15px; } header, main, nav ul { padding-left: 14px; padding-right: 14px; }
  .forest li, .forest .axis { grid-template-columns: 1fr 10.5em; }
  .forest .what { grid-column: span 2; line-height: 1.25; } .forest li { margin-top: 5px; }
  th, td { padding-right: 9px; } .example { gap: 1px; } .example .label { font-size: .6rem; } }
@media print { nav, .skip { display: none; } body { font-size: 11pt; } header, main { max-width: none; }
  figure, tr, .tile, .clip, .answer { break-inside: avoid; } h2, h3, summary { break-after: avoid; }
  .scroll, .wide { overflow: visible; } .tiles { grid-template-columns: repeat(3, 1fr); } table { font-size: 7pt; }
  tbody th, td.code { min-width: 0; } th, td, td.share { padding: 2px 5px 2px 0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

# The link of the section in view is marked, a link into folded details opens them, and a print shows all.
SCRIPT = """
const links = [...document.querySelectorAll("nav a")], parts = links.map(a => document.querySelector(a.hash));
function mark() {
  const past = parts.filter(p => p.getBoundingClientRect().top < innerHeight / 3).length;
  links.forEach((a, i) => a.toggleAttribute("data-here", i === Math.max(past - 1, 0)));
}
addEventListener("scroll", mark, {passive: true});
mark();
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach(d => { d.open = true; });
});
addEventListener("afterprint", () => closed.forEach(d => { d.open = false; }));
"""
