"""WORKDIR/metrics.jsonl: a line of figures a training step that is worth one, a chunk of the fit, and a finished stage.

TensorBoard's files lie beside it when asked for.
"""

import json
import math
import pathlib
import time

from data_pipelines import bounded
from data_pipelines.errors import InputError
from data_pipelines.files import check_size, write_text


class MetricsLog:
    """Appends lines for one stage (and scale) to metrics.jsonl.

    Args:
      workdir: of the run.
      tensorboard: also write event files under WORKDIR/tensorboard (the extra `tensorboard`).
      **labels: written with every line, e.g. stage='pretrain', scale=1.
    """

    def __init__(self, workdir, tensorboard: bool = False, **labels):
        self._path, self._labels, self._writer = pathlib.Path(workdir) / "metrics.jsonl", labels, None
        if tensorboard:
            try:
                from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
            except ImportError as error:
                raise InputError("config.tensorboard needs the extra: pip install 'facedyn[tensorboard]'.") from error
            run = "-".join(f"{v}" if k == "stage" else f"{k}{v}" for k, v in labels.items())
            self._writer = SummaryWriter(str(pathlib.Path(workdir) / "tensorboard" / run))

    def rewind(self, step: int) -> None:
        """Drops this label's lines after `step`, and a line cut off by a kill: a resumed run writes them again."""
        if self._path.is_file():
            kept = [r for r in _lines(self._path) if r["step"] <= step or any(r.get(k) != v for k, v in self._labels.items())]
            write_text(self._path, "".join(json.dumps(r) + "\n" for r in kept))

    def write(self, step: int, **figures: float) -> None:
        """One line: the labels, the step, the time and those figures that are finite."""
        figures = {k: float(v) for k, v in figures.items() if math.isfinite(v)}  # JSON has no other numbers
        row = self._labels | {"step": step, "time": round(time.time(), 3)} | figures
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._writer:
            for name, value in figures.items():
                self._writer.add_scalar(name, float(value), step)

    def close(self) -> None:
        """Flushes TensorBoard's files."""
        if self._writer:
            self._writer.close()


def read_metrics(workdir, stage: str = "") -> list[dict]:
    """All lines of WORKDIR/metrics.jsonl, or those of one stage; a line cut off by a kill is left out."""
    path = pathlib.Path(workdir) / "metrics.jsonl"
    if not path.is_file():
        return []
    return [row for row in _lines(path) if not stage or row["stage"] == stage]


def _lines(path) -> list[dict]:
    check_size(path, bounded.MAX_LINES, "The log")
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        if all(isinstance(row.get("stage"), str) and isinstance(row.get("step"), int) for row in rows):
            return rows
    except (ValueError, AttributeError, RecursionError):
        pass
    raise InputError(f"{path} is damaged: delete it, and the report does without what was logged there.")
