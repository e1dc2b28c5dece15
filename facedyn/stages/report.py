"""Stage `report`: the tables of a workdir -> WORKDIR/report/index.html, one page that needs nothing but itself."""

import pathlib

from data_pipelines.files import write_text
from facedyn.report import inputs as report_inputs
from facedyn.report import page, sections


def run(config, workdir) -> dict:
    """Writes the page; what no stage has made yet is a sentence on it. Returns: summary with its path and size in bytes."""
    workdir = pathlib.Path(workdir)
    inputs = report_inputs.load(workdir, pictures=config.report.faces)
    finished = max((stamp["finished"] for stamp in inputs.stamps.values()), default="")
    code = next((stamp["versions"].get("facedyn", "") for stamp in reversed(inputs.stamps.values())), "")
    subtitle = "Person-specific facial dynamics, learnt by self-supervision"
    subtitle += f" · {finished[:10]}" if finished else ""
    subtitle += f" · facedyn {code}" if code else ""
    html = page.page(
        config.report.title,
        subtitle,
        sections.tiles(inputs),
        [
            sections.trait_scores(inputs),
            sections.scatters(inputs),
            sections.comparison(inputs),
            sections.pretraining(inputs),
            sections.personalisation(inputs),
            sections.dynamics(inputs, config.report.faces),
            sections.quality(inputs),
            sections.settings(inputs),
        ],
    )
    path = workdir / "report" / "index.html"
    write_text(path, html)
    return {"path": str(path.relative_to(workdir)), "bytes": len(html.encode())}
