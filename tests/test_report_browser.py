"""The report page in headless Chromium, where there is one: what only a browser knows."""

import json
import re
import shutil
import subprocess

import pytest
import report_pages
from report_pages import SECTIONS

# Fixtures.
data_set, full = report_pages.data_set, report_pages.full
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# What the probe posts, the outermost page shows as its title.
LISTEN = '<script>window.addEventListener("message", e => { document.title = e.data; });</script>'
# Widths of a phone and of a laptop, and the height of the laptop's first screen.
PHONE, SCREEN, FOLD = 400, 1280, 900
PROBE = """<script>
addEventListener("load", () => {
  const all = selector => [...document.querySelectorAll(selector)], box = e => e.getBoundingClientRect();
  const pictures = all("img"), plots = all("svg"), links = all("nav a"), nav = document.querySelector("nav");
  const first = all("#answer-title, .tile, #answer .forest").map(e => box(e).bottom);
  all("details").forEach(d => { d.open = true; });
  const inside = e => e.closest(".scroll, .wide, nav ul");
  const numbers = c => { const n = c.match(/[\\d.]+/g).map(Number), f = c.startsWith("color") ? 255 : 1;
    return [f * n[0], f * n[1], f * n[2], n[3] ?? 1]; };
  const ground = e => { const [r, g, b, a] = numbers(getComputedStyle(e).backgroundColor);
    const under = a < 1 ? (e.parentElement ? ground(e.parentElement) : [255, 255, 255]) : [0, 0, 0];
    return [r, g, b].map((x, i) => a * x + (1 - a) * under[i]); };
  const luminance = c => c.slice(0, 3).map(x => x / 255).map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4)
    .reduce((sum, x, i) => sum + x * [.2126, .7152, .0722][i], 0);
  const contrast = e => { const [x, y] = [numbers(getComputedStyle(e).color), ground(e)].map(luminance);
    return (Math.max(x, y) + .05) / (Math.min(x, y) + .05); };
  const words = all("p, b, td, th, li, h1, h2, h3, a, small, span, summary, figcaption")
    .filter(e => e.innerText && box(e).width > 1);
  const focused = all("a[href], summary, [tabindex='0']").filter(e => { e.focus({focusVisible: true, preventScroll: true});
    const style = getComputedStyle(e);
    return e !== document.activeElement || style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2; });
  const levels = all("h1, h2, h3, h4, h5, h6");
  const skipped = levels.filter((e, i) => i && e.tagName[1] - levels[i - 1].tagName[1] > 1);
  const name = e => (e.ariaLabel ?? (e.alt || e.textContent)).trim();
  const unnamed = all("a, summary, [role=region], nav, img, svg, th").filter(e => !name(e));
  scrollTo({top: 3000, behavior: "instant"});
  parent.postMessage(JSON.stringify({
    empty: pictures.filter(i => !(i.complete && i.naturalWidth > 0)).length, pictures: pictures.length,
    flat: plots.filter(p => !(box(p).width > 50 && box(p).height > 50)).length, plots: plots.length,
    width: innerWidth, needed: document.documentElement.scrollWidth, first: first.length, fold: Math.max(0, ...first),
    over: all("main *, header *").filter(e => !inside(e) && box(e).width > 0 && box(e).right > innerWidth + 1)
      .map(e => e.outerHTML.slice(0, 80)).slice(0, 5),
    lost: links.filter(a => !document.querySelector(a.hash)).length, links: links.length, sticks: nav ? box(nav).top : null,
    cut: nav ? links.filter(a => box(a).right > innerWidth).length : null,
    pale: words.filter(e => contrast(e) < 4.5).map(e => e.outerHTML.slice(0, 80)).slice(0, 5),
    page: ground(document.body)[0], unseen: focused.map(e => e.outerHTML.slice(0, 80)).slice(0, 5),
    skipped: skipped.map(e => e.outerHTML), unnamed: unnamed.map(e => e.outerHTML.slice(0, 80)).slice(0, 5),
    small: words.filter(e => parseFloat(getComputedStyle(e).fontSize) < 9).length,
  }), "*");
});
</script>"""


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """browse(html, width, dark) -> (what PROBE found, what the console said)."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is installed")
    folder = tmp_path_factory.mktemp("browser")

    def open_page(html, width, dark=False):
        # A window has a least width, larger than a phone's; a frame in it has none.
        frame = f'<iframe src="page.html" style="width: {width}px; height: 2000px; border: 0"></iframe>'
        (folder / "page.html").write_text(html.replace("</body>", PROBE + "</body>"), encoding="utf-8")
        path = folder / "frame.html"
        path.write_text(f"<title></title>{LISTEN}{frame}", encoding="utf-8")
        options = "headless no-sandbox disable-gpu disable-background-networking disable-component-update disable-sync"
        command = [program, *(f"--{option}" for option in options.split()), f"--user-data-dir={folder / 'profile'}"]
        command += [
            "--no-first-run",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--window-size={width + 20},2000",
        ]
        command += ["--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
        title = re.search(r"<title>(.*?)</title>", done.stdout, re.S).group(1).replace("&amp;", "&")
        console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return json.loads(title.replace("&lt;", "<").replace("&gt;", ">")), console

    return open_page


@pytest.mark.parametrize(("width", "dark"), [(SCREEN, True), (SCREEN, False), (PHONE, False)])
def test_page_in_a_browser(browse, full, width, dark):
    found, console = browse(full[1], width, dark)
    assert console == []
    assert found["width"] == width
    assert (found["pictures"], found["plots"]) == (full[1].count("<img"), full[1].count("<svg"))
    assert found["empty"] == found["flat"] == found["small"] == found["lost"] == 0
    assert found["over"] == found["pale"] == found["unseen"] == []
    assert found["skipped"] == found["unnamed"] == []  # levels of headings; links, regions and pictures without a name
    assert found["needed"] <= width  # the page itself never scrolls sideways
    assert found["links"] == len(SECTIONS)
    assert found["sticks"] == 0  # the navigation, after scrolling
    assert found["page"] < 60 if dark else found["page"] > 200
    assert found["first"] == 5  # the verdict, three figures and the forest
    if width == SCREEN:
        assert found["fold"] <= FOLD
        assert found["cut"] == 0


def test_console_errors_would_be_seen(browse):
    page = '<html><head><title></title></head><body><script>console.error("seen")</script></body></html>'
    _, console = browse(page, PHONE)
    assert any("seen" in line for line in console)
