"""Stage `report`: the tables of a workdir -> WORKDIR/report/index.html, one page that needs nothing but itself."""

import dataclasses
import pathlib
import tempfile

from data_pipelines.errors import InputError
from data_pipelines.files import write_text
from facedyn.report import inputs as report_inputs
from facedyn.report import page, section_answer, sections_data, sections_movement, sections_people, sections_traits
from facedyn.stages import report_views


def run(config, workdir, read_only: bool = False, out: str = "") -> dict:
    """Writes the page; what no stage has made yet is a sentence on it. Returns: summary with its path and size in bytes.

    read_only: leaves WORKDIR as it is and writes the page to `out`, or to a new temporary file, outside of it.
    Raises InputError where no stage has made anything, or `out` cannot be the place of the page.
    """
    workdir, faces = pathlib.Path(workdir), config.report.faces
    path = _place_outside(workdir, out) if read_only else workdir / "report" / "index.html"
    inputs = report_inputs.load(workdir, pictures=faces)
    if inputs.empty:
        raise InputError(f"There is nothing to report in {workdir}, as no stage was run there: run the stage prepare first.")
    inputs = dataclasses.replace(inputs, views=report_views.views(config, workdir, inputs.quality))
    finished = max((stamp["finished"] for stamp in inputs.stamps.values()), default="")
    code = next((stamp["versions"].get("facedyn", "") for stamp in reversed(inputs.stamps.values())), "")
    subtitle = "Person-specific facial dynamics, learnt by self-supervision"
    subtitle += f" · {finished[:10]}" if finished else ""
    subtitle += f" · facedyn {code}" if code else ""
    sections = [
        sections_traits.predicted(inputs),
        sections_movement.moves(inputs, faces),
        sections_movement.looks(inputs),
        sections_people.enough(inputs),
        sections_people.alike(inputs, config.report.names),
        sections_data.sound(inputs, faces),
        sections_data.settings(inputs),
    ]
    shown = [section for section in sections if section.body]
    ends = section_answer.first_screen(inputs), section_answer.next_steps(inputs, sections, workdir)
    html = page.page(config.report.title, subtitle, [ends[0], *shown, ends[1]])
    write_text(path, html)
    return {"path": str(path if read_only else path.relative_to(workdir)), "bytes": len(html.encode())}


def _place_outside(workdir: pathlib.Path, out: str) -> pathlib.Path:
    """Where a page goes that must not touch WORKDIR."""
    if not out:
        return pathlib.Path(tempfile.mkdtemp(prefix="facedyn-report-")) / "index.html"
    path = pathlib.Path(out).expanduser().absolute()
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out={out} must end with .html: the report is one page of HTML.")
    if path.resolve().is_relative_to(workdir.resolve()):
        raise InputError(f"--out={out} lies in {workdir}, which a report that only reads must not change: name another place.")
    return path
