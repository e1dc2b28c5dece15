"""Fits person filters to all fit units at once and writes the tables of representations, part by part.

Units of like length go through the fit in chunks. What comes of a chunk with one U-net (all of a unit, its halves, the same of
shuffled frames) is fitted before the next chunk, so that frames are decoded once. Parts are written whole after each
chunk, and a broken-off fit goes on behind them. Each of several processes fits a share of the units on its own devices and
writes parts of its own.
"""

import itertools
import pathlib
from functools import partial

import numpy as np

from data_pipelines import bounded
from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path
from data_pipelines.progress import Progress
from facedyn.config import config_hash
from facedyn.stages import shards
from facedyn.stages.fit import batching, fit_scores, shared, swapped
from facedyn.stages.fit.batching import WHOLE, FitResult, Fitting, Parts, Shape
from facedyn.stages.fit.fit_scores import HALVES
from facedyn.stages.fit.units import evenly, frames_of, plan
from facedyn.stages.runtime import common, compilation_cache, messages, processes
from facedyn.stages.runtime.stopping import finishing
from facedyn.store import representations, scores
from facedyn.store.metrics_log import MetricsLog

PICTURE_FRAMES = 256  # of a unit, from which the mean state of its pictures is taken


def run(config, workdir) -> dict:
    """Fits what is not in the table yet; returns a summary."""
    workdir = pathlib.Path(workdir)
    fitting = shared.make_fitting(config)
    face_clips = common.open_data(common.data_dir(config, workdir), config)
    folder, settings = workdir / representations.FOLDER, config_hash(config)
    models = shared.Models(config, workdir, fitting, face_clips)
    units, left_out = fit_table(config, fitting, face_clips, models, folder, settings, partial(_log, config, workdir))
    for name, (scale, n) in sorted(left_out.items()):
        processes.log(f"fit: {name} has {too_few(config, scale, n)}: no filters for it")
    if shard := processes.shard():
        rows = representations.read_rows(folder)
        shards.tell(shard, len(rows), sum(WHOLE in parts for of_scale in units.values() for parts in of_scale))
        return {"rows": len(rows)}
    processes.gather("fitted")
    return processes.on_main_process(lambda: _finish(config, workdir, fitting, models, face_clips, units, left_out))


def plan_all(config, fitting: Fitting, face_clips) -> tuple[dict[int, list[Parts]], dict]:
    """{scale: units in the order of their ids}, {id of a unit with too few centre frames: (scale, how many)}."""
    c, units, left_out = config.fit, {}, {}
    records = common.records_of(face_clips, c.splits)
    for scale in common.scales(config):
        by_id = {}
        for half, seconds in _parts(config):
            found, too_short = plan(
                face_clips,
                records,
                unit=c.unit,
                scale=scale,
                half_length=config.rank_loss.half_length,
                # Both halves would get the same held-back rows, and would agree because of it.
                held_back=0.0 if (half and fitting.uses_all) or seconds else c.held_back,
                max_frames=c.max_frames,
                min_frames=1 if seconds else max(1, c.min_frames // 4) if half else c.min_frames,
                half=half,
                seconds=seconds,
            )
            for unit in found:
                by_id.setdefault(unit.unit_id, {})[half, seconds] = unit
            left_out |= {name: (scale, n) for name, n in too_short.items()} if (half, seconds) == WHOLE else {}
        units[scale] = [parts for _, parts in sorted(by_id.items())]
    return units, left_out


def fit_table(config, fitting: Fitting, face_clips, models, folder, settings: str, log, reader_of=None):
    """Fits every unit of the dataset that has no row in the tables in `folder` yet.

    Args:
      fitting: from shared.make_fitting.
      models: (scale, control) -> what `fitting` needs, a control's name or ''.
      settings: goes into the column config_hash.
      log: (scale=, half=, control=) -> MetricsLog; None keeps none.
      reader_of: scale -> what `fitting.load` reads from; None: `face_clips`.
    Returns: as `plan_all`.
    """
    units, left_out = plan_all(config, fitting, face_clips)
    # From all there is to do, not from what is left of it: a run that goes on compiles and computes the same.
    people = _chunk_sizes(config, fitting, units)
    half_length, donors = config.rank_loss.half_length, {}
    if swapped.NAME in config.fit.controls:
        for scale, of_scale in units.items():
            donors[scale] = swapped.choose_donors(of_scale, people, scale, half_length)
            if not donors[scale]:
                processes.log(f"fit: no {swapped.NAME} at scale {scale}, which needs {swapped.MIN_PEOPLE} people")
    untrained = [control for control in config.fit.controls if control == shared.UNTRAINED]
    trained = ["", *(control for control in config.fit.controls if control not in untrained)]
    # All scales of the untrained U-net, which is the same, one after the other: its states are kept from one to the next.
    for controls, scale in itertools.product((trained, untrained) if untrained else (trained,), units):
        of_controls = {control: models(scale, control) for control in controls}
        tables = []
        for control, part in itertools.product(controls, _parts(config)):
            if not part[1] or control in ("", swapped.NAME):
                own_log = log(scale=scale, half=part[0], control=control) if log and not part[1] else None
                own_donors = donors[scale] if control == swapped.NAME else None
                tables.append(Table(folder, scale, control, part, own_log, own_donors))
        chunks = partial(batching.chunks_of, people=people)
        reader = reader_of(scale) if reader_of else face_clips
        _fit_all(config, fitting, reader, of_controls, units[scale], tables, chunks, settings)
    return units, left_out


def _parts(config) -> list[tuple[int, float]]:
    """What is fitted of each unit: the keys of Parts. Of its first seconds, what identification looks up."""
    c = config.fit
    looked_up = [1, 2] * c.split_half if c.unit == "person" else [0]
    return [(half, 0.0) for half in range(3 if c.split_half else 1)] + [(h, s) for s in c.video_seconds for h in looked_up]


def _chunk_sizes(config, fitting, units) -> dict[Shape, int]:
    """{shape: people in a chunk of it}, for all scales."""
    shapes = fitting.shapes(units.items(), config.rank_loss.half_length)
    most = dict.fromkeys(shapes, 1)
    for of_scale in units.values():
        for shape, _, grouped in batching.chunks_of(of_scale, dict.fromkeys(shapes, len(of_scale) or 1)):
            most[shape] = max(most[shape], len(grouped))
    return {shape: batching.chunk_people(config, fitting, shape, count) for shape, count in most.items()}


class Table:
    """A table of representations that a fit adds to: of a scale, a control ('' for none) and a part of each unit."""

    def __init__(self, folder, scale: int, control: str, part, log: MetricsLog | None, donors: dict | None = None):
        self.donors = donors  # {(unit_id, part): FitUnit}, in whose absence a unit has no row here
        self.scale, self.control, self.part, self.log = scale, control, part, log
        half, seconds = part
        place = pathlib.Path(folder) / control
        place = place / representations.FIRST_SECONDS.format(seconds) if seconds else place
        self.folder = place / HALVES if half else place
        rows = representations.read_rows(self.folder)
        self.there, self.added = set(rows.loc[rows["scale"] == scale, "unit_id"]), 0

    def name(self) -> str:
        """'fit scale 1, half 2, time_shuffled'."""
        half, seconds = self.part
        words = [f"half {half}"] * bool(half) + [f"first {seconds:g} s"] * bool(seconds) + [self.control] * bool(self.control)
        return ", ".join([f"fit scale {self.scale}", *words])

    def row_id(self, unit) -> str:
        """Of a unit, in this table."""
        return f"{unit.unit_id}#{self.part[0]}" if self.part[0] else unit.unit_id

    def wants(self, parts: Parts) -> bool:
        """Whether a unit is to have a row here."""
        return self.part in parts and (self.donors is None or (parts[self.part].unit_id, self.part) in self.donors)

    def lacks(self, parts: Parts) -> bool:
        """Whether a unit's row is still to be made."""
        return self.wants(parts) and self.row_id(parts[self.part]) not in self.there

    def add(self, units, found: FitResult, uses_all: bool, settings: str) -> dict[str, float]:
        """Writes a part of the units (None: not of this part); returns the means of the figures."""
        chosen = [p for p, unit in enumerate(units) if unit is not None]
        rows = [
            dict(unit_id=self.row_id(u), person_id=u.person_id, task=u.task, session=u.session, scale=self.scale)
            | {name: getattr(found, name)[p] for name in FitResult._fields[1:]}
            | dict(n_frames=len(u.fitted) + len(u.held_back) * uses_all, config_hash=settings)
            | dict(finite=bool(np.isfinite(found.representations[p]).all()))
            for p, u in ((p, units[p]) for p in chosen)
        ]
        representations.write_part(self.folder, rows, found.representations[chosen], processes.writer())
        self.added += len(chosen)
        return {name: _mean(getattr(found, name)[chosen]) for name in FitResult._fields[1:]}


def _fit_all(config, fitting: Fitting, face_clips, of_controls, units, tables, chunks_of, settings) -> None:
    """Fits those of this process's share of the units that lack a row in some of the tables, a chunk at a time.

    SIGTERM ends it after the current chunk, and so does the end of another process. of_controls: {control: what `fitting`
    needs}, all of the same U-net.
    """
    scale, half_length = tables[0].scale, config.rank_loss.half_length
    # Shared out by who there is, not by who is left: no process takes another's people, whenever it looks.
    units = processes.own_partition(units, lambda parts: max(len(u.fitted) for u in parts.values()))
    todo = [parts for parts in units if any(table.lacks(parts) for table in tables)]
    earlier = _say_what_is_there(tables, units)
    on_devices = batching.to_devices(fitting.mesh, of_controls)

    def load(chunk):
        shape, people, of_chunk = chunk
        sources = [batching.sources_of(parts, scale, half_length) for parts in of_chunk]
        frames = fitting.load(next(iter(on_devices.values())), face_clips, sources, people, shape.frames)
        return frames, sources, shape, of_chunk

    def of_donors(table, of_part, batch, sources, shape):
        """The batch with somebody else's course in time."""
        others = [unit and table.donors[unit.unit_id, table.part] for unit in of_part]
        theirs = [batching.sources_of({WHOLE: other}, scale, half_length) if other else {} for other in others]
        states = fitting.load(on_devices[""], face_clips, theirs, len(frames), shape.frames)
        of_others = batching.batch_of(states, others, theirs, shape, scale, half_length)
        return swapped.swapped_batch(batch, sources, of_others, theirs)

    if todo:
        compilation_cache.say_first_use("fit")
    chunks = chunks_of(todo)
    counted = "people" if config.fit.unit == "person" else "units"
    what = f"fit scale {scale}" + f", {shared.UNTRAINED}" * (shared.UNTRAINED in of_controls) + processes.label()
    with (
        finishing() as asked,
        Progress(what, len(units), counted, len(units) - len(todo), processes.progress_stream()) as progress,
    ):
        for frames, sources, shape, of_chunk in batching.ahead(load, chunks, 1) if fitting.prefetch else map(load, chunks):
            if asked() or processes.others_ended():
                break
            note = None
            for table in tables:
                of_part = [parts[table.part] if table.lacks(parts) else None for parts in of_chunk]
                if any(unit is not None for unit in of_part):
                    seed = config.seed if table.control == shared.SHUFFLED else None
                    batch = batching.batch_of(frames, of_part, sources, shape, scale, half_length, seed)
                    if table.control == representations.REVERSED:
                        batch = batching.reversed_batch(batch)
                    if table.donors is not None:
                        batch = of_donors(table, of_part, batch, sources, shape)
                    figures = table.add(of_part, fitting.fit(on_devices[table.control], batch), fitting.uses_all, settings)
                    note = _note(figures) if note is None else note  # of all frames, as long as there is something to do
                    if table.log:
                        table.log.write(earlier[table] + table.added, units_per_second=progress.rate(), **figures)
            progress.advance(len(of_chunk), note)
    for table in tables:
        if table.log:
            table.log.close()


def _say_what_is_there(tables, units) -> dict[Table, int]:
    """{table: how many of the units have a row there}; says so where there are some."""
    found = {}
    for table in tables:
        own = [parts for parts in units if table.wants(parts)]
        found[table] = sum(not table.lacks(parts) for parts in own)
        if found[table]:
            processes.log(f"{table.name()}{processes.label()}: {found[table]} of {len(own)} units are in the table already")
    return found


def _note(figures) -> str:
    """'loss 0.3, ...'; nothing where nothing was held back."""
    if not all(map(np.isfinite, figures.values())):
        return ""
    return "loss {loss:.3f}, ranking accuracy {ranking_accuracy_generic:.3f} -> {ranking_accuracy_fitted:.3f}".format(**figures)


def too_few(config, scale: int, n: int) -> str:
    """Why a unit gets no filters: a phrase."""
    return f"{n} usable centre frames at scale {scale}, fewer than config.fit.min_frames={config.fit.min_frames}"


def _log(config, workdir, scale, half, control):
    labels = {"stage": "fit", "scale": scale} | ({"half": half} if half else {}) | ({"control": control} if control else {})
    # Several processes cannot write one file, and shards do not know who is the first.
    return MetricsLog(workdir, config.tensorboard, **labels) if processes.is_first() and not processes.shard() else None


def _finish(config, workdir, fitting, models, face_clips, units, left_out) -> dict:
    """What is made from the whole table: the pictures' examples, the scores, the summary."""
    c, folder = config.fit, workdir / representations.FOLDER
    rows = representations.read_rows(folder)
    if not len(rows):
        raise InputError(
            f"No fit unit has config.fit.min_frames={c.min_frames} usable centre frames: use longer clips, or lower it."
        )
    broken = rows.loc[~rows["finite"], "unit_id"].unique().tolist()
    for name in broken:
        messages.warning(f"fit: the filters of {name} became infinite or NaN; the table marks them (finite = False)")
    for scale in common.scales(config) if config.report.examples else ():
        whole = [parts[WHOLE] for parts in units[scale] if WHOLE in parts]
        _write_examples(config, fitting, models(scale, ""), face_clips, whole, folder, scale)
    score_rows = []
    for control in ("", *c.controls):
        score_rows += fit_scores.score_rows(config, folder / control, shared.features(config), control)
    scores.replace_scores(workdir, "fit", score_rows)
    return {
        "units": len(set(rows["unit_id"])),
        "people": sorted(rows["person_id"].unique()),
        "left_out": sorted(left_out),
        "not_finite": broken,
        "basis_from": models.others(),
    }


def _mean(values) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def _write_examples(config, fitting, of_everyone, face_clips, units, folder, scale):
    """Dynamic representations of some people before and after their filters, for the report's pictures."""
    path = folder / "examples.npz"
    before = bounded.read_arrays(path) if path.is_file() else {}
    if scale in before.get("scale", ()):
        return
    chosen = {u.person_id: u for u in reversed(units)}
    people = [chosen[p] for p in sorted(chosen)][:: max(1, len(chosen) // config.report.examples)][: config.report.examples]
    wanted = [u.unit_id for u in people]
    rows, vectors = representations.read_parts(folder, lambda rows: rows["unit_id"].isin(wanted) & (rows["scale"] == scale))
    new = []
    for unit in people:
        row = rows.index[(rows["unit_id"] == unit.unit_id) & rows["finite"]]
        if not len(row):
            continue
        candidates = unit.held_back if len(unit.held_back) else unit.fitted
        window = liveliest(face_clips, candidates, scale, config.rank_loss.half_length)
        centres = evenly(unit.fitted, PICTURE_FRAMES)
        frames = np.concatenate([face_clips.frames(record, np.asarray([centre])) for record, centre in centres])
        maps, frame = fitting.pictures(of_everyone, vectors[row[0]], window, frames), window[len(window) // 2]
        new.append(dict(frame=frame, windows=window, generic=maps[0], fitted=maps[1], person_id=unit.person_id, scale=scale))
    if new:
        columns = {k: np.stack([np.asarray(row[k]) for row in new]) for k in new[0]}
        if before:
            columns = {k: np.concatenate([before[k], columns[k]]) for k in columns}
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **columns)


def liveliest(face_clips, rows, scale: int, half_length: int) -> np.ndarray:
    """The window, of those of `rows`, that moves most: a still face makes a dull picture. [2n+1, H, W, C] uint8."""
    sources = frames_of(rows, scale, half_length)
    frames = np.concatenate([face_clips.frames(record, positions) for record, positions in sources.items()])
    windows = batching.place_windows(rows, sources, scale, half_length)
    moves = [np.asarray(frames[window], np.float32).std(0).mean() for window in windows]
    return frames[windows[int(np.argmax(moves))]]
