"""The report page in headless Chromium, where there is one: what only a browser knows."""

import json
import re
import shutil
import subprocess

import pytest
import test_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# What the probe posts, the outermost page shows as its title.
LISTEN = '<script>window.addEventListener("message", e => { document.title = e.data; });</script>'
# What a window of 390 pixels shows: phones of today are about as wide.
PHONE, SCREEN = 390, 1100
PROBE = """<script>
addEventListener("load", () => {
  const pictures = [...document.querySelectorAll("img")], plots = [...document.querySelectorAll("svg")];
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  const box = e => e.getBoundingClientRect();
  const inside = e => e.closest(".scroll, .wide");
  const luminance = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number); return (r + g + b) / 3; };
  const style = getComputedStyle(document.body);
  parent.postMessage(JSON.stringify({
    empty: pictures.filter(i => !(i.complete && i.naturalWidth > 0)).length, pictures: pictures.length,
    flat: plots.filter(p => !(box(p).width > 50 && box(p).height > 50)).length, plots: plots.length,
    width: innerWidth, needed: document.documentElement.scrollWidth,
    over: [...document.querySelectorAll("main *, header *")].filter(e => !inside(e) && box(e).width > 0
      && box(e).right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80)).slice(0, 5),
    page: luminance(style.backgroundColor), ink: luminance(style.color),
    focus: [...document.querySelectorAll("a[href], summary, [tabindex='0']")].slice(0, 3).map(e => e.className || e.hash),
    small: [...document.querySelectorAll("p, td, th, li, summary, figcaption")].filter(
      e => parseFloat(getComputedStyle(e).fontSize) < 11).length,
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


data_set, full = test_report.data_set, test_report.full


@pytest.mark.parametrize(("width", "dark"), [(SCREEN, True), (PHONE, False)])
def test_page_in_a_browser(browse, full, width, dark):
    found, console = browse(full[1], width, dark)
    assert console == []
    assert found["width"] == width
    assert (found["pictures"], found["plots"]) == (full[1].count("<img"), full[1].count("<svg"))
    assert found["empty"] == found["flat"] == 0
    assert found["over"] == []
    assert found["needed"] <= width  # the page itself never scrolls sideways
    assert (found["page"] < 60 < 180 < found["ink"]) if dark else (found["ink"] < 60 < 180 < found["page"])
    assert found["focus"] == ["skip", "#traits", "#scatter"]
    assert found["small"] == 0


def test_console_errors_would_be_seen(browse):
    page = '<html><head><title></title></head><body><script>console.error("seen")</script></body></html>'
    _, console = browse(page, PHONE)
    assert any("seen" in line for line in console)
