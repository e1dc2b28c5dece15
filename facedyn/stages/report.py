"""Stage `report`: the tables of a workdir -> WORKDIR/report/index.html, one page that needs nothing but itself."""

import dataclasses
import pathlib

from data_pipelines.errors import InputError
from data_pipelines.files import write_text
from facedyn.report import (
    data_sections,
    dynamics_section,
    learning_sections,
    page,
    people_section,
    settings_section,
    trait_sections,
    weights_section,
)
from facedyn.report import inputs as report_inputs
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
        trait_sections.tiles(inputs),
        [
            trait_sections.trait_scores(inputs),
            trait_sections.scatters(inputs),
            trait_sections.comparison(inputs),
            weights_section.weights(inputs),
            learning_sections.pretraining(inputs),
            learning_sections.personalisation(inputs),
            learning_sections.identification(inputs),
            dynamics_section.dynamics(inputs, faces),
            people_section.people(inputs, config.report.names),
            data_sections.quality(inputs, faces),
            data_sections.doctor(inputs),
            settings_section.settings(inputs),
        ],
    )
    path = workdir / "report" / "index.html"
    write_text(path, html)
    return {"path": str(path.relative_to(workdir)), "bytes": len(html.encode())}
