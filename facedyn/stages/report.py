"""Stage `report`: the tables of a workdir -> WORKDIR/report/index.html, one page that needs nothing but itself."""

import dataclasses
import pathlib

from data_pipelines.errors import InputError
from data_pipelines.files import write_text
from facedyn.report import inputs as report_inputs
from facedyn.report import page, sections_data, sections_learning, sections_traits
from facedyn.stages import report_views


def run(config, workdir) -> dict:
    """Writes the page; what no stage has made yet is a sentence on it. Returns: summary with its path and size in bytes.

    Raises InputError where no stage has made anything.
    """
    workdir, faces = pathlib.Path(workdir), config.report.faces
    inputs = report_inputs.load(workdir, pictures=faces)
    if inputs.empty:
        raise InputError(f"There is nothing to report in {workdir}, as no stage was run there: run the stage prepare first.")
    inputs = dataclasses.replace(inputs, views=report_views.views(config, workdir, inputs.quality))
    finished = max((stamp["finished"] for stamp in inputs.stamps.values()), default="")
    code = next((stamp["versions"].get("facedyn", "") for stamp in reversed(inputs.stamps.values())), "")
    subtitle = "Person-specific facial dynamics, learnt by self-supervision"
    subtitle += f" · {finished[:10]}" if finished else ""
    subtitle += f" · facedyn {code}" if code else ""
    html = page.page(
        config.report.title,
        subtitle,
        sections_traits.tiles(inputs),
        [
            sections_traits.trait_scores(inputs),
            sections_traits.scatters(inputs),
            sections_traits.comparison(inputs),
            sections_traits.weights(inputs),
            sections_learning.pretraining(inputs),
            sections_learning.personalisation(inputs),
            sections_learning.identification(inputs),
            sections_learning.dynamics(inputs, faces),
            sections_learning.people(inputs, config.report.names),
            sections_data.quality(inputs, faces),
            sections_data.doctor(inputs),
            sections_data.settings(inputs),
        ],
    )
    path = workdir / "report" / "index.html"
    write_text(path, html)
    return {"path": str(path.relative_to(workdir)), "bytes": len(html.encode())}
