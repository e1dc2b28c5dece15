"""The paper's own way: do filters by gradient descent through the decoder hold looks, and does any natural form of it not?

    python benchmarks/paper_way.py --work DIR [--people 40] [--steps 30] [--size 32]
    python benchmarks/paper_way.py --work DIR --real PEOPLE.csv --pool CLIPS.csv --yunet-model YUNET.onnx [--steps 30]

People of the demo's renderer, two clips of 100 frames each, further people for the generic model; one scale, pointwise filters
on skips and bottleneck, Adam on the rank loss with the same draws for everyone (core/fit.py). Forms of the filters:

- plain: h + A h, as configs/paper.py has it;
- centred: h + A (h - m), m the person's own mean feature map, place by place;
- whitened: h + A W (h - m), W the symmetric inverse root of the person's own covariance of the channels (1 % added);
- motion: the same of faces of which only the motion is left (data.appearance=motion), rank loss included;
- minus shuffled: the filters, less those that the same steps find when the frames of the clip are in random order.

Columns: the filters of one clip are looked up among everybody's filters of the other, both directions, features with equal
weight, as filmed; with frames in random order; and with swapped movement: videos of the person's own mean face and covariance
(in 32 principal components of pixels) and somebody else's course in time, another one for each clip. What identifies people on
shuffled or swapped videos is looks. Then the mean PCC of a ridge of the mean of both clips' filters, ten folds, and the same of
shuffled videos. 95 % intervals by person. `gradient` is what the first step sees: the squared norm of the mean gradient at zero
filters when each feature map is replaced by its mean over the clip, as a multiple of that of the features themselves (above 1
where the movement takes some of it back).

With --real the people of a manifest instead: the two longest clips of everybody, 64 pixels, the generic model learnt from those
of the pool who are none of them, as in real_people.py. They have no traits, so nothing is predicted.
"""

import argparse
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import real_people

from data_pipelines.dataset.windows import centre_positions, window_positions
from facedyn.config import check
from facedyn.config_files import load_config
from facedyn.core import fit, identification, low_rank, person_filters, solvers, surrogates, unet
from facedyn.stages import prepare, pretrain
from facedyn.stages.fit.learning import spread_frames, subtract_clip_means
from facedyn.stages.runtime import common
from facedyn.stages.traits import clip_features
from facedyn.stages.traits.trait_features import labels_by_person

FORMS = ("plain", "centred", "whitened")
FRAMES, ROWS, BATCH, AT_ONCE = 100, 64, 8, 8
COMPONENTS, BASIS_FRAMES, SHRINKAGE = 32, 1024, 1e-2
FOLDS, RESAMPLES = 10, 2000
PENALTIES = np.logspace(0, 5, 11)
REAL_STEPS = 400


def settings(work, appearance, people, size):
    """Of the demo, one scale; the videos of both appearances are the same."""
    config = load_config("demo")
    config.data.synthetic.update(dict(people=people, pretrain_people=32, tasks=("talk",), frames=(FRAMES, FRAMES)))
    config.data.image_size, config.rank_loss.scales = size, (1,)
    config.pretrain.update(dict(steps=200, warmup_steps=20, eval_windows=4))
    if appearance == "motion":
        manifest = str(work / "own" / "synthetic" / "manifest.csv")
        config.data.update(dict(dataset="manifest", manifest=manifest, appearance="motion", channels=2))
    return check(config)


def prepared(work, appearance, people, size):
    """(config, parameters of the generic model, reader), prepared and trained where that is still to be done."""
    config, workdir = settings(work, appearance, people, size), work / appearance
    workdir.mkdir(parents=True, exist_ok=True)
    if not (workdir / "data").is_dir():
        prepare.run(config, workdir)
    if not (common.generic_dir(workdir, 1) / "best").is_dir():
        pretrain.run(config, workdir)
    return config, pretrain.load_generic(config, workdir, 1), common.open_data(common.data_dir(config, workdir), config)


def real(work, appearance, args):
    """(config, parameters of the generic model, reader of the people, reader of the pool), made where they are not there."""
    people, pool = real_people.manifests(args.real, args.pool, work)
    config, workdir = real_people.settings(appearance, people, pool, str(args.yunet_model), REAL_STEPS), work / appearance
    workdir.mkdir(parents=True, exist_ok=True)
    if not (common.generic_dir(workdir, 1) / "best").is_dir():
        prepare.run(config, workdir)
        pretrain.run(config, workdir)
    readers = (common.open_data(of(config, workdir), config) for of in (common.data_dir, common.pretrain_data_dir))
    return config, pretrain.load_generic(config, workdir, 1), *readers


def videos(reader, records) -> np.ndarray:
    """The two longest clips of everybody: uint8 [2, P, T, H, W, C], people in the order of their ids."""
    of = {}
    for record in sorted(records, key=lambda record: -longest_run(reader.clips[record].frame_indices)[1]):
        clips = of.setdefault(reader.clips[record].person_id, [])
        if len(clips) < 2:
            first, length = longest_run(reader.clips[record].frame_indices)
            clips.append(reader.frames(record)[first : first + length])
    length = min(FRAMES, min(len(clip) for clips in of.values() for clip in clips))
    return np.stack([[clips[half][:length] for _, clips in sorted(of.items())] for half in (0, 1)])


def longest_run(frame_indices) -> tuple[int, int]:
    """(position of its first frame, length) of the longest stretch without a missing frame."""
    longest = max(clip_features.runs(frame_indices), key=lambda run: run.stop - run.start)
    return longest.start, longest.stop - longest.start


def shuffled(clips, seed: int) -> np.ndarray:
    """Every clip in a random order of its own: clips [2, P, T, ...]."""
    random = np.random.default_rng(seed)
    return np.stack([[clip[random.permutation(len(clip))] for clip in half] for half in clips])


def swapped(clips, basis) -> np.ndarray:
    """Own mean face and covariance, the course in time of somebody else: clips [2, P, T, H, W, C] -> the same of uint8."""
    flat = clips.reshape(*clips.shape[:3], -1).astype(np.float32) / 255
    means = flat.mean(2, keepdims=True)
    states = np.einsum("hptd,dk->hptk", flat - means, basis)
    found = np.empty_like(flat)
    for half, person in np.ndindex(*states.shape[:2]):
        other = states[half, (person + 1 + half) % states.shape[1]]
        moved = surrogates.swap_dynamics(states[half, person][:, None], other[:, None])[:, 0]
        found[half, person] = means[half, person] + moved @ basis.T
    return (255 * found.clip(0, 1)).round().astype(np.uint8).reshape(clips.shape)


class Way:
    """Filters of one generic model, in each of FORMS."""

    def __init__(self, config, params, steps: int):
        self.net, self.sites = common.unet(config), person_filters.sites(tuple(config.model.channels))
        self.loss = common.rank_loss_settings(config)
        self.slots = person_filters.layout(self.sites, "pointwise")
        names = [site.name for site in self.sites]

        def decode(features, tap):
            seen = dict(zip(names, features[len(names) :]))  # what filters multiply, beside what they are added to
            return unet.decode(
                self.net,
                params,
                features[: len(names)],
                lambda site, h: h + tap(site, seen[site]) - seen[site] if site in seen else h,
            )

        self.encode = jax.jit(lambda frames: unet.encode(self.net, params, frames))
        self.model = fit.Model(self.encode, decode)
        solver = solvers.make("adam", learning_rate=1e-2, steps=steps, batch_size=BATCH, ridge=0.0)
        self.fit = fit.fit_people(self.model, self.loss, solver, self.sites, "pointwise")
        self.gradient = jax.jit(jax.vmap(self._gradient))

    def units(self, clips, form: str) -> fit.Units:
        """Of clips [P, T, H, W, C]: centre frames evenly spaced, and the features of them as the form has them."""
        n = self.loss.half_length
        centres = centre_positions(np.arange(clips.shape[1]), 1, n)
        centres = centres[np.linspace(0, len(centres) - 1, min(ROWS, len(centres))).astype(int)]
        units = fit.equal_units(clips, window_positions(centres, 1, n))
        of_people = [self.encode(clip[centres]) for clip in clips]
        raw = [np.stack([np.asarray(f[level]) for f in of_people]) for level in range(len(self.sites))]
        return units._replace(features=(*map(jnp.asarray, raw), *(jnp.asarray(seen_as(form, maps)) for maps in raw)))

    def filters(self, clips, form: str) -> np.ndarray:
        """[P, D] of clips [P, T, H, W, C]."""
        found = []
        for first in range(0, len(clips), AT_ONCE):
            some = clips[first : first + AT_ONCE]
            padded = np.concatenate([some, np.repeat(some[:1], AT_ONCE - len(some), 0)])
            own = self.fit(self.units(padded, form), jax.random.key(0))
            found.append(np.asarray(person_filters.flatten(own, self.slots))[: len(some)])
        return np.concatenate(found)

    def static_share(self, clips, form: str) -> float:
        """Squared norm of the mean gradient at zero filters with mean feature maps, as a multiple of that with the features."""
        units = self.units(clips, form)
        half = len(self.sites)
        still = tuple(jnp.broadcast_to(f.mean(1, keepdims=True), f.shape) for f in units.features[half:])
        whole = self.gradient(units)
        of_mean = self.gradient(units._replace(features=(*units.features[:half], *still)))
        return float((jnp.square(of_mean).sum(1) / jnp.square(whole).sum(1)).mean())

    def _gradient(self, unit):
        rows = jnp.arange(len(unit.windows))

        def objective(filters):
            maps = self.model.decode(unit.features, person_filters.tap(filters))
            return self.loss(maps, unit.frames[unit.windows[rows]]).mean()

        return person_filters.flatten(jax.grad(objective)(person_filters.init(self.sites, "pointwise")), self.slots)


def seen_as(form: str, maps) -> np.ndarray:
    """What filters multiply of feature maps [P, N, h, w, c] of each person."""
    if form == "plain":
        return maps
    centred = maps - maps.mean(1, keepdims=True)
    if form == "centred":
        return centred
    covariance = np.einsum("pnhwc,pnhwd->pcd", centred, centred) / np.prod(maps.shape[1:4])
    mean = np.trace(covariance, axis1=1, axis2=2) / covariance.shape[-1]
    _, inverse = surrogates.roots(covariance + (SHRINKAGE * mean + 1e-9)[:, None, None] * np.eye(covariance.shape[-1])[None])
    return np.einsum("pnhwc,pcd->pnhwd", centred, inverse).astype(np.float32)


def interval(value, draws) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(value, *np.quantile(draws, (0.025, 0.975)))


def identified(of_clips) -> str:
    """Share found at once, both directions, of filters [2, P, D]."""
    hits = np.mean([np.asarray(identification.match_ranks(*pair)) == 1 for pair in (of_clips, of_clips[::-1])], 0)
    picks = np.random.default_rng(0).integers(0, len(hits), (RESAMPLES, len(hits)))
    return interval(hits.mean(), hits[picks].mean(1))


def predicted(of_clips, labels) -> str:
    """Mean PCC over the traits of a ridge in folds by person; nothing without labels."""
    if labels is None:
        return ""
    x, found = np.mean(of_clips, 0), np.zeros_like(labels)
    for train, test in KFold(FOLDS, shuffle=True, random_state=0).split(x):
        mean, sd = x[train].mean(0), x[train].std(0) + 1e-12
        for trait in range(labels.shape[1]):
            head = RidgeCV(PENALTIES).fit((x[train] - mean) / sd, labels[train, trait])
            found[test, trait] = head.predict((x[test] - mean) / sd)

    def pcc(rows):
        a, b = (z[rows] - z[rows].mean(-2, keepdims=True) for z in (found, labels))
        return ((a * b).sum(-2) / np.sqrt((a * a).sum(-2) * (b * b).sum(-2) + 1e-12)).mean(-1)

    return interval(pcc(np.arange(len(x))), pcc(np.random.default_rng(0).integers(0, len(x), (RESAMPLES, len(x)))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--real", type=pathlib.Path, help="manifest of real people")
    parser.add_argument("--pool", type=pathlib.Path, help="manifest of those whom the generic model learns from")
    parser.add_argument("--yunet-model", type=pathlib.Path)
    args, started = parser.parse_args(), time.perf_counter()
    args.work.mkdir(parents=True, exist_ok=True)
    names = ("faces", "form", "as filmed", "shuffled", "swapped", "PCC", "PCC shuffled", "gradient")
    print("| " + " | ".join(names) + " |" + "\n|" + "---|" * len(names), flush=True)
    for appearance in ("own", "motion"):
        if args.real:
            config, params, reader, pool = real(args.work, appearance, args)
            test, train, labels = range(len(reader.clips)), range(len(pool.clips)), None
        else:
            config, params, reader = prepared(args.work, appearance, args.people, args.size)
            test, train = (common.records_of(reader, (split,)) for split in ("test", "train"))
            pool, labels = reader, labels_by_person(reader, test)[1]
        frames, clip = spread_frames(pool, train, BASIS_FRAMES)
        pixels = subtract_clip_means(frames.reshape(len(frames), -1).astype(np.float32) / 255, clip)
        basis = low_rank.basis(pixels, COMPONENTS)
        clips, way = videos(reader, test), Way(config, jax.device_put(params), args.steps)
        size, people = clips.shape[3], clips.shape[1]
        of = f"{appearance}: {people} people, two clips of {clips.shape[2]} frames, {size} pixels, {args.steps} steps"
        print(f"{of}, chance {1 / people:.2f}", file=sys.stderr)
        moved = swapped(clips, basis / np.linalg.norm(basis, axis=0))
        of_videos = {"": clips, "shuffled": shuffled(clips, 0), "swapped": moved}
        of_videos |= {"again": shuffled(clips, 1), "swapped, shuffled": shuffled(moved, 2)}
        for form in FORMS:
            found = {name: np.stack([way.filters(half, form) for half in of]) for name, of in of_videos.items()}
            cells = [identified(found[name]) for name in ("", "shuffled", "swapped")]
            cells += [predicted(found[name], labels) for name in ("", "shuffled")]
            cells.append(f"{way.static_share(clips[0][:AT_ONCE], form):.2f}")
            print("| " + " | ".join((appearance, form, *cells)) + " |", flush=True)
            pairs = (("", "shuffled"), ("again", "shuffled"), ("swapped", "swapped, shuffled"))
            less = [found[one] - found[other] for one, other in pairs]
            cells = [*map(identified, less), *(predicted(of, labels) for of in less[:2]), ""]
            print("| " + " | ".join((appearance, f"{form}, minus shuffled", *cells)) + " |", flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
