"""What the representation is compared with, by the same protocol: same people, clips, folds and ridge.

Each person's (or unit's) frames are read once for all baselines on pixels. None sees a label but through the folds; what is
fitted without labels (the principal images of `linear_dynamics`) is fitted to the generic model's own pool of people.
"""

import concurrent.futures
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

from data_pipelines.doctor.check_identity import look_up
from data_pipelines.picks import picks
from data_pipelines.progress import Progress
from facedyn.core import cross_validation as cv
from facedyn.core import unet
from facedyn.stages.fit.learning import generic_pool
from facedyn.stages.pretrain import load_generic
from facedyn.stages.runtime import common, messages
from facedyn.stages.traits import clip_features as pixels
from facedyn.stages.traits import landmark_features, trait_features, trait_protocol
from facedyn.stages.traits.trait_predictions import Scored
from facedyn.store import representations
from facedyn.store.scores import PLUS, TRANSDUCTIVE, ScoreKey, joined

# Baselines that are one vector per person, read from frames; the others need none.
ON_PIXELS = ("mean_face", "rank_pooling", "dynamic_images", "linear_dynamics", "generic_feature", "optical_flow")
NAMES = ("mean_predictor", "same_identity", *ON_PIXELS, *landmark_features.NAMES, "permuted_labels", "oracle")
# Side of the grey faces that movement is taken from, pixels.
SIZE = 32
COMPONENTS = 8
# Frames of the pool that the principal images are fitted to, and of a person that go through the generic model.
POOL_CLIPS, POOL_FRAMES, GENERIC_FRAMES = 400, 25, 64
THREADS, PEOPLE_AT_ONCE = 4, 16


def features(config, workdir, face_clips, records, scored: Scored, marks: dict) -> dict:
    """{key: (x [R, D], whose rows they are)} of all baselines and controls that are a ridge on features.

    marks: columns that the keys of the representation have, {'aggregate': ..., 'note': ...}.
    """
    names, found = tuple(config.traits.baselines), {}
    wanted = tuple(n for n in ON_PIXELS if n in {*names, *config.traits.fused_baselines})
    if wanted:
        found = _pixel_features(config, workdir, face_clips, records, scored.subjects, wanted)
    clips_of = _records_of(config, face_clips, records, scored.subjects.ids)
    clips_of = {who: [face_clips.clips[record].clip_id for record in own] for who, own in clips_of.items()}
    found |= landmark_features.features(config, clips_of, names)
    if "oracle" in names and config.data.dataset == "synthetic" and (workdir / "synthetic").is_dir():
        from data_pipelines.synthetic.bench import oracle_features  # absent with another run's data_dir

        people, of_people = oracle_features(workdir / "synthetic")
        own = pd.DataFrame(of_people, index=people).reindex(scored.subjects.people)
        found[ScoreKey("oracle", "ridge")] = own.to_numpy(np.float32)
    return {key: (x, scored.single) for key, x in found.items()} | _controls(config, workdir, scored, marks)


def predict(config, found, scored: Scored, fold, own) -> dict:
    """{key: predictions [P, T]} of all baselines, single and fused, by one repeat of the cross-validation.

    Where people are in training and in test, also what looking up their training clips' labels says.

    `own`: {key: predictions [P, T]} of the representation by the same folds, the headline first.
    """
    lead, fused_with, predictions = next(iter(own)), fused(config, found), {}
    if "mean_predictor" in config.traits.baselines:
        predictions[ScoreKey("mean_predictor")] = cv.predict_mean(scored.subjects.labels, fold)
    if "same_identity" in config.traits.baselines and trait_protocol.overlap(scored.subjects, fold):
        looked_up, _ = look_up(scored.subjects.people, scored.subjects.labels, fold < 0)
        predictions[ScoreKey("same_identity")] = np.where(fold[:, None] >= 0, looked_up, np.nan).astype(np.float32)
    with Progress("baselines", len(found) + len(fused_with), unit="feature sets") as progress:
        for key, (x, rows) in found.items():
            predictions[key] = scored.predict(x, rows, fold)
            progress.advance(note=key.method)
        for both, key in fused_with.items():
            together = side_by_side(scored.headline, found[key][0][scored.samples.row_of])
            by_features = lead._replace(method=both, head=scored.head_for(scored.samples), fusion="features")
            predictions[by_features] = scored.predict(together, scored.samples, fold)
            predictions[lead._replace(method=both, fusion="predictions")] = (own[lead] + predictions[key]) / 2
            progress.advance(note=both)
    return predictions


def fused(config, found) -> dict[str, ScoreKey]:
    """{method: key of the baseline that the representation is fused with}: of each one that with the most features."""
    widest = {}
    for key, (x, _) in found.items():
        if key.method in config.traits.fused_baselines:
            best = widest.setdefault(key.method, key)
            widest[key.method] = key if x.shape[1] > found[best][0].shape[1] else best
    return {f"representation{PLUS}{name}": key for name, key in widest.items()}


def side_by_side(x, other) -> np.ndarray:
    """Two feature sets for one ridge, with about equal weight: the narrower one's columns are repeated.

    The ridge z-scores each column, so that the wider set would outvote the narrower one. x [N, D], other [N, d].
    """
    repeats = max(1, round(x.shape[1] / other.shape[1])), max(1, round(other.shape[1] / x.shape[1]))
    return np.concatenate([np.tile(x, (1, repeats[1])), np.tile(other, (1, repeats[0]))], 1)


def _pixel_features(config, workdir, face_clips, records, subjects, names) -> dict:
    """{key: float32 [N, d]}, a row of NaN for a person (a unit) without frames."""
    basis, note, generic = _of_pool(config, workdir, face_clips, records, subjects, names)
    scales, half_length, model = common.scales(config), config.rank_loss.half_length, common.unet(config)
    people, clips_of, table = subjects.ids, _records_of(config, face_clips, records, subjects.ids), {}

    def read(person):
        return _read(face_clips, clips_of[person], config.traits.baseline_frames, "optical_flow" in names)

    with (
        concurrent.futures.ThreadPoolExecutor(THREADS) as threads,
        Progress("baselines on pixels", len(people), unit="people") as progress,
    ):
        for start in range(0, len(people), PEOPLE_AT_ONCE):  # no more frames in memory than theirs
            some = people[start : start + PEOPLE_AT_ONCE]
            for number, seen in enumerate(threads.map(read, some), start):
                own = {}
                if seen:
                    own = _person_features(seen, names, basis, scales, half_length, note)
                    for scale, params in generic.items():
                        key = ScoreKey("generic_feature", "ridge", scales=str(scale), note=note)
                        own[key] = np.asarray(_pooled(model, params, seen.samples))
                for key, vector in own.items():
                    if key not in table:
                        table[key] = np.full((len(people), len(vector)), np.nan, np.float32)
                    table[key][number] = vector
                progress.advance(note=people[number])
    several = {key: x for key, x in table.items() if key.method == "generic_feature"}
    if len(several) > 1:
        key = next(iter(several))._replace(scales=joined(generic), fusion="features")
        table[key] = np.concatenate(list(several.values()), 1)
    for key in [key for key, x in table.items() if np.isnan(x).all()]:
        of_scales = f" (scales {key.scales})" if key.scales else ""
        messages.warning(f"traits: the baseline {key.method}{of_scales} is left out, no clip is long enough for it")
        del table[key]
    return {key: table[key] for name in names for key in table if key.method == name}


def _records_of(config, face_clips, records, ids) -> dict[str, list[int]]:
    """Records with frames of each person or unit that is scored."""
    found = {name: [] for name in ids}
    for record in records:
        clip = face_clips.clips[record]
        name = trait_protocol.scored_id(config, clip)
        if name in found and len(clip.frame_indices):
            found[name].append(record)
    return found


def _of_pool(config, workdir, face_clips, records, subjects, names):
    """(principal images of the generic model's people or None, note of scores with them, {scale: the model's parameters})."""
    basis, note, generic = None, "", {}
    if {"linear_dynamics", "generic_feature"} & set(names):
        pool, of_pool = generic_pool(config, workdir, face_clips, records)
        note = TRANSDUCTIVE if {pool.clips[i].person_id for i in of_pool} & set(subjects.people) else ""
        basis = pixels.principal_images(_pool_runs(pool, of_pool), COMPONENTS)
    if "generic_feature" in names:
        there = [scale for scale in common.scales(config) if (common.generic_dir(workdir, scale) / "best").is_dir()]
        generic = {scale: load_generic(config, workdir, scale) for scale in there}
        if not generic:
            messages.warning(
                f"traits: the baseline generic_feature is left out, there is no generic model in {workdir / 'generic'}"
            )
    return basis, note, generic


class _Seen(NamedTuple):
    """What is kept of a person's frames: little, so that several people fit into memory."""

    mean_face: np.ndarray  # float32 [H * W * C]
    runs: list[np.ndarray]  # grey, [T, s, s] each
    samples: np.ndarray  # uint8 [GENERIC_FRAMES, H, W, C], evenly spaced
    flow: np.ndarray | None


def _read(face_clips, records, most_frames, flow) -> _Seen | None:
    """Reads a person's frames, in a thread: what is here lets other threads work. None without a frame."""
    if not records:
        return None
    share, means, runs, samples = -(-most_frames // len(records)), [], [], []
    for record in records:
        frame_indices = face_clips.clips[record].frame_indices[:share]
        frames = face_clips.frames(record, np.arange(len(frame_indices)))
        means.append(frames.mean(0, dtype=np.float32).reshape(-1))
        samples.append(frames[picks(len(frames), GENERIC_FRAMES)])
        small = pixels.grey(frames, SIZE)
        runs += [small[run] for run in pixels.runs(frame_indices)]
    samples = np.concatenate(samples)
    samples = samples[np.linspace(0, len(samples) - 1, GENERIC_FRAMES).round().astype(int)]  # one shape for all
    return _Seen(np.mean(means, 0), runs, samples, pixels.optical_flow(runs) if flow else None)


def _person_features(seen, names, basis, scales, half_length, note) -> dict:
    """{key: vector} of one person."""
    found, runs = {}, seen.runs
    if "mean_face" in names:
        found[ScoreKey("mean_face", "ridge")] = seen.mean_face
    if "rank_pooling" in names:
        found[ScoreKey("rank_pooling", "ridge")] = np.mean([pixels.rank_pooling(run) for run in runs], 0)
    if "dynamic_images" in names:
        of_scale = [_mean_dynamic_image(runs, half_length, scale) for scale in scales]
        found[ScoreKey("dynamic_images", "ridge", scales=joined(scales))] = np.concatenate(of_scale)
    if "linear_dynamics" in names:
        tracks = [run.reshape(len(run), -1) @ basis for run in runs]
        found[ScoreKey("linear_dynamics", "ridge", note=note)] = pixels.linear_dynamics(tracks)
    if "optical_flow" in names:
        found[ScoreKey("optical_flow", "ridge")] = seen.flow
    return found


def _mean_dynamic_image(runs, half_length, scale):
    images = np.concatenate([pixels.dynamic_images(run, half_length, scale) for run in runs])
    return pixels.signed_means(images) if len(images) else np.full(2 * runs[0][0].size, np.nan, np.float32)


_pooled = jax.jit(unet.pooled_features, static_argnums=0)


def _pool_runs(reader, records):
    """A few frames of each of some clips, evenly spaced: grey [t, s, s]."""
    records = [records[i] for i in picks(len(records), POOL_CLIPS)]

    def some(record):
        length = len(reader.clips[record].frame_indices)
        return pixels.grey(reader.frames(record, picks(length, POOL_FRAMES)), SIZE)

    with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(some, [r for r in records if len(reader.clips[r].frame_indices)]))


def _controls(config, workdir, scored: Scored, marks) -> dict:
    """{key: (x [R, D], whose rows)} of the tables of controls that the stage fit has left.

    Not of `reversed`: a head that learns from clips played backwards predicts from them as well.
    """
    found = {}
    for control in representations.CONTROLS:
        if control == representations.REVERSED:
            continue
        rows, vectors = representations.read_parts(workdir / representations.FOLDER / control)
        finite = np.isfinite(vectors).all(1) if len(rows) else np.zeros(0, bool)
        if finite.any():
            samples = trait_protocol.samples(config, scored.subjects, rows[finite].reset_index(drop=True), vectors[finite])
            chosen = trait_features.feature_sets(samples.blocks)[0]
            key = chosen.key(scored.head_for(samples), **marks)._replace(method=control)
            if control == "untrained":  # which has learnt from nobody
                key = key._replace(note="")
            found[key] = trait_features.matrix(samples.blocks, chosen), samples
    return found
