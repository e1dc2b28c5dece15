"""Fits person filters to all fit units at once and writes the table of representations, part by part.

Units of like length are padded to a common one and go through the fit in chunks; the next chunk's frames are decoded
while the current one is fitted. A part is written whole after each chunk, and a broken-off fit goes on behind it. Each
of several processes fits a share of the units on its own devices and writes parts of its own.
"""

import concurrent.futures
import pathlib
from functools import partial

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path
from data_pipelines.progress import Progress
from facedyn.config import config_hash
from facedyn.stages.fit import fit_scores, shared
from facedyn.stages.fit.fit_scores import HALVES
from facedyn.stages.fit.iterative import chunks_of
from facedyn.stages.fit.shared import make_engine
from facedyn.stages.fit.units import UNITS, TimeShuffled, by_shape, load_units, n_frames, plan, shapes_of
from facedyn.stages.runtime import common, compilation_cache, processes
from facedyn.stages.runtime.stopping import finishing
from facedyn.store import representations, scores
from facedyn.store.metrics_log import MetricsLog


def run(config, workdir) -> dict:
    """Fits what is not in the table yet; returns a summary."""
    workdir, c = pathlib.Path(workdir), config.fit
    if c.unit not in UNITS:
        raise InputError(f"config.fit.unit is {c.unit!r}; it must be one of {', '.join(UNITS)}.")
    for control in c.controls:
        if control not in representations.CONTROLS:
            raise InputError(f"config.fit.controls names {control!r}; it may name {', '.join(representations.CONTROLS)}.")
    face_clips = common.open_data(common.data_dir(config, workdir), config)
    folder, settings = workdir / representations.FOLDER, config_hash(config)
    engine = make_engine(config, face_clips)
    models = shared.Models(config, workdir, engine, face_clips)
    jobs, left_out = fit_table(config, engine, face_clips, models, folder, settings, partial(_log, config, workdir))
    for name, (scale, n) in sorted(left_out.items()):
        processes.log(f"fit: {name} has {too_few(config, scale, n)}: no filters for it")
    processes.gather("fitted")
    return processes.on_main_process(lambda: _finish(config, workdir, engine, models, face_clips, jobs, left_out))


def fit_table(config, engine, face_clips, models, folder, settings: str, log):
    """Fits every unit of the dataset that has no row in the table in `folder` yet.

    Args:
      engine: from `make_engine`.
      models: (scale, control) -> what `engine` needs, a control's name or ''.
      settings: goes into the column config_hash.
      log: (scale=, half=, control=) -> MetricsLog; None keeps none.
    Returns: {(scale, half): units}; {unit with too few centre frames: (scale, how many)}.
    """
    c, left_out, jobs = config.fit, {}, {}
    records = common.records_of(face_clips, c.splits)
    for scale in common.scales(config):
        for half in range(3 if c.split_half else 1):
            # Both halves would get the same held-back rows, and be alike for it.
            held_back = 0.0 if half and engine.uses_all else c.held_back
            jobs[scale, half], too_short = _plan(config, face_clips, records, scale, half, held_back)
            left_out |= {} if half else {name: (scale, n) for name, n in too_short.items()}
    # From all there is to do, not from what is left of it: a run that goes on compiles and computes the same.
    shapes = shapes_of([(scale, units) for (scale, _), units in jobs.items()], engine.half_length)
    alike = [by_shape(units, shapes) for units in jobs.values()]
    chunk_people = {shape: engine.people(shape, max(len(units[shape]) for units in alike)) for shape in shapes}
    shuffled = engine.with_reader(TimeShuffled(face_clips, config.seed))
    # Halves and controls of some people before the next ones: what was computed of their frames is still there.
    for scale in common.scales(config):
        blocks = engine.blocks(jobs[scale, 0])
        block_of = {u.unit_id: number for number, block in enumerate(blocks) for u in block}
        for number in range(len(blocks)):
            for control in ("", *c.controls):
                reading = shuffled if control == "time_shuffled" else engine
                for half in range(3 if c.split_half else 1):
                    place = folder / control / HALVES if half else folder / control
                    params = reading.replicate(models(scale, control))
                    units = [u for u in jobs[scale, half] if block_of.get(u.unit_id, 0) == number]
                    own_log = log(scale=scale, half=half, control=control) if log else None
                    part = f", part {number + 1} of {len(blocks)}" * (len(blocks) > 1)
                    _fit_all(settings, reading, params, units, place, scale, half, chunk_people, control, own_log, part)
    return jobs, left_out


def too_few(config, scale: int, n: int) -> str:
    """Why a unit gets no filters: a phrase."""
    return f"{n} usable centre frames at scale {scale}, fewer than config.fit.min_frames={config.fit.min_frames}"


def _log(config, workdir, scale, half, control):
    labels = {"stage": "fit", "scale": scale} | ({"half": half} if half else {}) | ({"control": control} if control else {})
    return MetricsLog(workdir, config.tensorboard, **labels) if processes.is_first() else None


def _finish(config, workdir, engine, models, face_clips, jobs, left_out) -> dict:
    """What is made from the whole table: the pictures' examples, the scores, the summary."""
    c, folder = config.fit, workdir / representations.FOLDER
    rows = representations.read_rows(folder)
    if not len(rows):
        raise InputError(
            f"No fit unit has config.fit.min_frames={c.min_frames} usable centre frames: use longer clips, or lower it."
        )
    broken = rows.loc[~rows["finite"], "unit_id"].unique().tolist()
    for name in broken:
        print(f"fit: the filters of {name} did not stay finite; it is marked in the table (finite = False)")
    for scale in common.scales(config) if config.report.examples else ():
        _write_examples(config, engine, engine.replicate(models(scale, "")), face_clips, jobs[scale, 0], folder, scale)
    score_rows = []
    for control in ("", *c.controls):
        weights = shared.identification_weights(config, workdir, control)
        score_rows += fit_scores.score_rows(config, folder / control, control, weights)
    scores.replace_scores(workdir, "fit", score_rows)
    return {
        "units": int(rows["unit_id"].nunique()),
        "people": sorted(rows["person_id"].unique()),
        "left_out": sorted(left_out),
        "not_finite": broken,
        "basis_from": models.others(),
    }


def _plan(config, face_clips, records, scale, half, held_back):
    c = config.fit
    return plan(
        face_clips,
        records,
        unit=c.unit,
        scale=scale,
        half_length=config.rank_loss.half_length,
        held_back=held_back,
        max_frames=c.max_frames,
        min_frames=c.min_frames if not half else max(1, c.min_frames // 4),
        half=half,
    )


def _fit_all(settings, engine, params, units, folder, scale, half, chunk_people, control, log, part):
    """Fits those of this process's share of the units that have no row yet, a part a chunk.

    SIGTERM ends it behind the part in hand, and so does the end of another process.
    """
    name = f"#{half}" if half else ""
    done = representations.read_rows(folder)
    there = set(done.loc[done["scale"] == scale, "unit_id"])
    # Shared out by who there is, not by who is left: no process takes another's people, whenever it looks.
    units = processes.own_partition(units, lambda u: len(u.fitted))
    todo = [u for u in units if u.unit_id + name not in there]
    earlier = len(there - {u.unit_id + name for u in units}) if part else 0
    chunks = chunks_of(todo, chunk_people)
    what = f"fit scale {scale}" + (f", half {half}" if half else "") + (f", {control}" if control else "") + part
    what += processes.label()
    if len(todo) < len(units):
        processes.log(f"{what}: {len(units) - len(todo)} of {len(units)} units are in the table already")
    counted = "people" if engine.config.unit == "person" else "units"
    if todo:
        compilation_cache.say_first_use("fit")
    jobs = [partial(engine.load, grouped, shape, people, scale) for shape, people, grouped in chunks]
    with (
        finishing() as asked,
        concurrent.futures.ThreadPoolExecutor(1) as loader,
        Progress(what, len(units), counted, len(units) - len(todo), processes.progress_stream()) as progress,
    ):
        ahead = loader.submit(jobs[0]) if jobs else None
        for i, (shape, _, grouped) in enumerate(chunks):
            if asked() or processes.others_ended():
                ahead.cancel()
                break
            loaded = ahead.result()
            ahead = loader.submit(jobs[i + 1]) if i + 1 < len(jobs) else None
            vectors, loss, before, after = engine(params, loaded, shape)
            rows = [
                dict(unit_id=u.unit_id + name, person_id=u.person_id, task=u.task, session=u.session, scale=scale)
                | dict(
                    n_frames=engine.n_frames(u),
                    loss=loss[p],
                    ranking_accuracy_generic=before[p],
                    ranking_accuracy_fitted=after[p],
                )
                | dict(finite=bool(np.isfinite(vectors[p]).all()), config_hash=settings)
                for p, u in enumerate(grouped)
            ]
            representations.write_part(folder, rows, vectors[: len(grouped)], processes.writer())
            with np.errstate(all="ignore"):
                figures = dict(loss=_mean(loss), ranking_accuracy_generic=_mean(before), ranking_accuracy_fitted=_mean(after))
            note = "loss {:.3f}, ranking accuracy {:.3f} -> {:.3f}".format(*figures.values())
            note = note if all(map(np.isfinite, figures.values())) else ""  # nothing was held back
            progress.advance(len(grouped), note)
            if log:
                log.write(earlier + progress.done, units_per_second=progress.rate(), **figures)
    if log:
        log.close()


def _mean(values) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def _write_examples(config, engine, params, face_clips, units, folder, scale):
    """Dynamic representations of some people before and after their filters, for the report's pictures."""
    path = folder / "examples.npz"
    before = dict(np.load(path)) if path.is_file() else {}
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
        window = liveliest(face_clips, candidates, scale, engine.half_length)
        maps, frame = engine.pictures(params, vectors[row[0]], window, unit), window[engine.half_length]
        new.append(dict(frame=frame, windows=window, generic=maps[0], fitted=maps[1], person_id=unit.person_id, scale=scale))
    if new:
        columns = {k: np.stack([np.asarray(row[k]) for row in new]) for k in new[0]}
        if before:
            columns = {k: np.concatenate([before[k], columns[k]]) for k in columns}
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **columns)


def liveliest(face_clips, rows, scale: int, half_length: int) -> np.ndarray:
    """The window, of those of `rows`, that moves most: a still face makes a dull picture. [2n+1, H, W, C] uint8."""
    length = n_frames(rows, scale, half_length)
    frames, windows, _ = load_units(face_clips, [rows], len(rows), length, scale, half_length)
    moves = [np.asarray(frames[0, window], np.float32).std(0).mean() for window in windows[0]]
    return frames[0, windows[0, int(np.argmax(moves))]]
