"""Fits person filters to all fit units at once and writes the table of representations, part by part.

Units of like length are padded to a common one and go through the fit in chunks; the next chunk's frames are decoded
while the current one is fitted. A part is written whole after each chunk, and a broken-off fit goes on behind it.
"""

import concurrent.futures
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path
from data_pipelines.progress import Progress
from facedyn.config import config_hash
from facedyn.core import fit, person_filters, solvers, unet
from facedyn.core.metrics import bootstrap_mean, match_ranks
from facedyn.stages import common
from facedyn.stages.fit_units import UNITS, evenly, load_windows, padded_lengths, plan
from facedyn.stages.pretrain import load_generic
from facedyn.store import representations, scores

HALVES = "halves"
CPU_CHUNK, ACCELERATOR_CHUNK = 16, 256


def run(config, workdir) -> dict:
    """Fits what is not in the table yet; returns a summary."""
    workdir, c = pathlib.Path(workdir), config.fit
    if c.unit not in UNITS:
        raise InputError(f"config.fit.unit is {c.unit!r}; it must be one of {', '.join(UNITS)}.")
    face_clips = common.open_data(common.data_dir(config, workdir), config)
    records = common.records_of(face_clips, c.splits)
    folder = workdir / representations.FOLDER
    left_out = {}
    for scale in common.scales(config):
        engine = Engine(config, load_generic(config, workdir, scale), face_clips, scale)
        for half, place in ((0, folder), (1, folder / HALVES), (2, folder / HALVES))[: 3 if c.split_half else 1]:
            units, too_short = _plan(config, face_clips, records, scale, half)
            left_out |= {} if half else {name: (scale, n) for name, n in too_short.items()}
            _fit_all(config, engine, units, place, scale, half)
        if config.report.examples:
            _write_examples(config, engine, face_clips, records, folder, scale)
    for name, (scale, n) in sorted(left_out.items()):
        few = f"{n} usable centre frames at scale {scale}, fewer than config.fit.min_frames={c.min_frames}"
        print(f"fit: {name} has {few}: no filters for it")
    rows, _ = representations.read_parts(folder)
    if not len(rows):
        raise InputError(
            f"No fit unit has config.fit.min_frames={c.min_frames} usable centre frames: use longer clips, or lower it."
        )
    broken = rows.loc[~rows["finite"], "unit_id"].unique().tolist()
    for name in broken:
        print(f"fit: the filters of {name} did not stay finite; it is marked in the table (finite = False)")
    scores.replace_scores(workdir, "fit", _scores(config, rows, folder))
    return {
        "units": int(rows["unit_id"].nunique()),
        "people": sorted(rows["person_id"].unique()),
        "left_out": sorted(left_out),
        "not_finite": broken,
    }


def _plan(config, face_clips, records, scale, half=0):
    c = config.fit
    return plan(
        face_clips,
        records,
        unit=c.unit,
        scale=scale,
        half_length=config.rank_loss.half_length,
        held_back=c.held_back,
        max_frames=c.max_frames,
        min_frames=c.min_frames if not half else max(1, c.min_frames // 4),
        half=half,
    )


class Engine:
    """The compiled fit of one scale: generic parameters bound, one compilation a padded length."""

    def __init__(self, config, params, face_clips, scale: int):
        c = self.config = config.fit
        self.scale, self.half_length, self.face_clips = scale, config.rank_loss.half_length, face_clips
        model, settings = common.unet(config), common.rank_loss_settings(config)
        params = jax.device_put(params)
        try:
            self.sites = person_filters.sites(model.channels, c.filter_sites)
            self.slots = person_filters.layout(self.sites, c.filter_kind)
            self.solver = solvers.make(c.solver, learning_rate=c.learning_rate, steps=c.steps, batch_size=c.batch_size)
        except ValueError as error:
            raise InputError(f"config.fit: {error}") from error
        draws = self.solver.draws(jax.random.key(config.seed))  # the same for everyone
        self.calls = common.steps_per_call(c.steps_per_call)
        self.decode = lambda params, features, tap: unet.decode(model, params, features, tap)
        bound = partial(self.decode, params)
        self.encode = jax.jit(lambda frames: unet.encode(model, params, frames))
        self.advance = jax.jit(
            lambda carry, units, step, steps: fit.advance(bound, settings, self.solver, carry, units, draws, step, steps),
            static_argnums=3,
            donate_argnums=0,
        )
        self.evaluate = jax.jit(lambda filters, units, step: fit.evaluate(bound, settings, filters, units, step, c.batch_size))
        self.maps = jax.jit(lambda filters, frames: bound(unet.encode(model, params, frames), person_filters.tap(filters)))

    def unit_bytes(self, padded: int) -> int:
        """Rough memory of one unit in a chunk: windows, features, and the activations of a step in both directions."""
        size, channels = self.face_clips.image_size, self.face_clips.channels
        features = jax.eval_shape(self.encode, jax.ShapeDtypeStruct((1, size, size, channels), jnp.uint8))
        numbers = sum(np.prod(f.shape) for f in features)
        window = (2 * self.half_length + 1) * size**2 * channels
        per_row = window + numbers * jnp.dtype(self.config.feature_dtype).itemsize
        # Measured: a step holds about a dozen float32 copies of a row's features and of its window.
        return int(padded * per_row + self.config.batch_size * 4 * 12 * (numbers + window))

    def load(self, units, padded: int, people: int):
        """Windows of a chunk, filled up with empty units to `people`: (windows, counts) fitted, and the same held back."""
        missing, held = [()] * (people - len(units)), max(1, padded // 4)
        fitted, held_back = [u.fitted for u in units], [evenly(u.held_back, held) for u in units]
        return tuple(
            load_windows(self.face_clips, rows + missing, length, self.scale, self.half_length)
            for rows, length in ((fitted, padded), (held_back, held))
        )

    def __call__(self, loaded):
        """Fits one loaded chunk: (representations [P, D], loss [P], accuracy generic [P], accuracy fitted [P])."""
        dtype = jnp.dtype(self.config.feature_dtype)
        fitted, held = (fit.encode_units(self.encode, windows, count, dtype=dtype) for windows, count in loaded)
        people, capacity = fitted.windows.shape[:2]
        carry = fit.start(self.solver, self.sites, self.config.filter_kind, people)
        generic = jax.tree.map(jnp.copy, carry.filters)  # the carry is donated
        step, total = 0, self.solver.steps(capacity)
        while step < total:
            steps = min(self.calls, total - step)
            carry = self.advance(carry, fitted, step, steps)
            step += steps
        filters = jax.jit(lambda c: fit.finish(self.solver, c))(carry)
        _, before = self._quality(generic, held)
        loss, after = self._quality(filters, held)
        return np.asarray(person_filters.flatten(filters, self.slots)), loss, before, after

    def _quality(self, filters, held):
        """(mean loss, ranking accuracy) on held-back rows; NaN where a unit has none."""
        blocks = -(-held.windows.shape[1] // self.config.batch_size)
        sums = [self.evaluate(filters, held, block) for block in range(blocks)]
        loss, right, rows = (np.asarray(sum(column)) for column in zip(*sums))
        some = np.maximum(rows, 1)
        return np.where(rows > 0, loss / some, np.nan), np.where(rows > 0, right / some, np.nan)


def chunks_of(units, lengths, c, unit_bytes) -> list[tuple[int, int, list]]:
    """(padded length, people, units) of every chunk: units of one of the padded `lengths`, as many as memory allows.

    The chunks of a length are of one size, so that each length is compiled once.
    """
    chunks = []
    for shorter, length in zip((0, *lengths), lengths):
        alike = [u for u in units if shorter < len(u.fitted) <= length]
        # More than fit the caches gain nothing on CPU; an accelerator wants to be filled.
        most = CPU_CHUNK if jax.default_backend() == "cpu" else ACCELERATOR_CHUNK
        most = c.chunk_size or int(np.clip(c.memory_gb * 2**30 // unit_bytes(length), 1, most))
        people = -(-len(alike) // -(-len(alike) // most)) if alike else 0
        chunks += [(length, people, alike[i : i + people]) for i in range(0, len(alike), people or 1)]
    return chunks


def _fit_all(config, engine, units, folder, scale, half):
    """Fits the units that have no row yet, a part a chunk."""
    name = f"#{half}" if half else ""
    done, _ = representations.read_parts(folder)
    there = set(done.loc[done["scale"] == scale, "unit_id"])
    todo = [u for u in units if u.unit_id + name not in there]
    counts = [len(u.fitted) for u in units] or [1]
    chunks = chunks_of(todo, padded_lengths(max(counts), min(counts)), config.fit, engine.unit_bytes)
    what = f"fit scale {scale}" + (f", half {half}" if half else "")
    if len(todo) < len(units):
        print(f"{what}: {len(units) - len(todo)} of {len(units)} units are in the table already")
    jobs = [partial(engine.load, alike, padded, people) for padded, people, alike in chunks]
    with (
        concurrent.futures.ThreadPoolExecutor(1) as loader,
        Progress(what, len(units), "units", done=len(units) - len(todo)) as progress,
    ):
        ahead = loader.submit(jobs[0]) if jobs else None
        for i, (_, _, alike) in enumerate(chunks):
            loaded = ahead.result()
            ahead = loader.submit(jobs[i + 1]) if i + 1 < len(jobs) else None
            vectors, loss, before, after = engine(loaded)
            rows = [
                dict(unit_id=u.unit_id + name, person_id=u.person_id, task=u.task, session=u.session, scale=scale)
                | dict(
                    n_frames=len(u.fitted), loss=loss[p], ranking_accuracy_generic=before[p], ranking_accuracy_fitted=after[p]
                )
                | dict(finite=bool(np.isfinite(vectors[p]).all()), config_hash=config_hash(config))
                for p, u in enumerate(alike)
            ]
            representations.write_part(folder, rows, vectors[: len(alike)])
            with np.errstate(all="ignore"):
                note = f"ranking accuracy {_mean(before):.3f} -> {_mean(after):.3f}"
            progress.advance(len(alike), note)


def _mean(values) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def _scores(config, rows, folder) -> list[dict]:
    """Ranking accuracy before and after, by person, on held-back frames; identification of people by their halves."""
    key, n = jax.random.key(config.seed), config.traits.bootstrap
    found = []

    def add(method, setting, metric, values):
        value, low, high = bootstrap_mean(np.asarray(values, np.float64), key, n)
        found.append(
            dict(method=method, setting=setting, trait="", metric=metric, value=float(value), low=float(low), high=float(high))
            | dict(n=len(values))
        )

    for scale, of_scale in rows[rows["finite"]].groupby("scale"):
        columns = ["ranking_accuracy_generic", "ranking_accuracy_fitted"]
        people = of_scale.groupby("person_id")[columns].mean().dropna()
        if len(people):
            for method, column in zip(("generic", "representation"), columns):
                add(method, f"scale={scale};frames=held_back", "ranking_accuracy", people[column])
            add(
                "representation_minus_generic",
                f"scale={scale};frames=held_back",
                "ranking_accuracy",
                people[columns[1]] - people[columns[0]],
            )
    halves, vectors = representations.read_parts(folder / HALVES)
    if config.fit.split_half and len(halves):
        scales = sorted(halves["scale"].unique())
        for chosen in [[s] for s in scales] + ([scales] if len(scales) > 1 else []):
            first, second = _half_vectors(halves, vectors, chosen)
            if len(first) > 1:
                ranks = np.asarray(match_ranks(first, second))
                setting = f"scales={'+'.join(map(str, chosen))};unit={config.fit.unit}"
                add("split_half", setting, "top1", ranks == 1)
                add("split_half", setting, "mrr", 1 / ranks)
    return found


def _half_vectors(halves, vectors, scales):
    """One vector a person and half, scales and units concatenated, of the people who have all of them: [N, D], [N, D]."""
    keep = halves["scale"].isin(scales) & halves["finite"]
    table = halves[keep].assign(row=np.flatnonzero(keep), half=halves["unit_id"].str[-1])
    table["part"] = [
        f"{scale}/{unit[:-2].removeprefix(person)}"
        for scale, unit, person in zip(table["scale"], table["unit_id"], table["person_id"])
    ]
    wide = table.pivot(index="person_id", columns=["half", "part"], values="row").dropna().astype(int)
    if wide.empty or set(wide.columns.get_level_values("half")) != {"1", "2"}:
        return np.zeros((0, 0)), np.zeros((0, 0))
    return tuple(np.concatenate([vectors[wide[half, part]] for part in sorted(wide[half].columns)], 1) for half in ("1", "2"))


def _write_examples(config, engine, face_clips, records, folder, scale):
    """Dynamic representations of some people before and after their filters, for the report's pictures."""
    path = folder / "examples.npz"
    before = dict(np.load(path)) if path.is_file() else {}
    if scale in before.get("scale", ()):
        return
    rows, vectors = representations.read_parts(folder)
    units, _ = _plan(config, face_clips, records, scale)
    chosen = {u.person_id: u for u in reversed(units)}
    people = [chosen[p] for p in sorted(chosen)][:: max(1, len(chosen) // config.report.examples)][: config.report.examples]
    new = []
    for unit in people:
        row = rows.index[(rows["unit_id"] == unit.unit_id) & (rows["scale"] == scale) & rows["finite"]]
        if not len(row):
            continue
        candidates = [unit.held_back or unit.fitted]
        windows, _ = load_windows(face_clips, candidates, len(candidates[0]), scale, engine.half_length)
        window = windows[0, liveliest(windows[0])]
        filters = person_filters.unflatten(jnp.asarray(vectors[row[0]]), engine.slots)
        nothing = jax.tree.map(jnp.zeros_like, filters)
        frame = window[engine.half_length]
        maps = [np.asarray(engine.maps(f, jnp.asarray(frame[None])))[0] for f in (nothing, filters)]
        new.append(dict(frame=frame, windows=window, generic=maps[0], fitted=maps[1], person_id=unit.person_id, scale=scale))
    if new:
        columns = {k: np.stack([np.asarray(row[k]) for row in new]) for k in new[0]}
        if before:
            columns = {k: np.concatenate([before[k], columns[k]]) for k in columns}
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **columns)


def liveliest(windows) -> int:
    """The row whose window moves most: a still face makes a dull picture."""
    return int(np.asarray(windows, np.float32).std(1).mean((1, 2, 3)).argmax())
