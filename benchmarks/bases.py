"""Which coordinates, and which sites: mean trait PCC of each, from one pass of every frame through the U-net.

    python benchmarks/bases.py --workdir WORKDIR --out DIR [--sites all ...] [--basis principal ...]

WORKDIR's stages prepare and pretrain must be done; it is only read. The bases are learnt from the generic model's people as the
stage fit does it, all frames go through the U-net once for all of them, and each choice is then fitted and scored by code of
the stages fit and traits in a folder of its own under DIR. What is scored already is not computed again. Columns: mean PCC with
its 95 % interval; minus `linear_dynamics`; minus the first choice of the list; both paired, by the same resampled people.
"""

import argparse
import pathlib
import sys
import time

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from variants import link

from facedyn.config import config_hash
from facedyn.core import bases
from facedyn.stages.fit import clip_states, closed_form, fit_stage, learning, shared
from facedyn.stages.fit.closed_form import Shared
from facedyn.stages.pretrain import load_generic
from facedyn.stages.runtime import common
from facedyn.stages.traits import traits_stage
from facedyn.store import representations, stamps
from facedyn.store.scores import load_scores

EVERYWHERE = "all,dynamic_representation"
SITES = ("all", EVERYWHERE, "dynamic_representation")
RESAMPLES = 2000


class States:
    """Stands in for the reader of a dataset at one scale: `clips` are its clips, (record) -> states of all frames [T, S, K]."""

    def __init__(self, clips, of_records: dict):
        self.clips, self._of = clips, of_records

    def __call__(self, record):
        return self._of[record]


def settings(workdir):
    """The workdir's own config, with one head, one baseline and no control."""
    config = stamps.stamped_config(workdir, "pretrain")
    config.data.data_dir = str(common.data_dir(config, workdir).absolute())
    config.fit.update(dict(controls=(), split_half=False, video_seconds=(), filter_sites=EVERYWHERE))
    config.traits.update(dict(heads=("banded_ridge",), baselines=("linear_dynamics",), fused_baselines=()))
    config.report.examples = 0
    return config


def of_all_bases(config, workdir, face_clips, names) -> tuple[dict, dict]:
    """({scale: Shared with the bases of all names side by side}, {scale: States in them}) at every site."""
    reader, pool = learning.generic_pool(config, workdir, face_clips, common.records_of(face_clips, config.fit.splits))
    assert reader is face_clips, "people to learn from in a dataset of their own are not supported here"
    models, nothing = {}, np.zeros(0, np.float32)
    for scale in common.scales(config):
        params, found = load_generic(config, workdir, scale), []
        for name in names:
            config.fit.basis = name
            found.append(learning.learn_basis(config, params, scale, face_clips, pool)[0])
        basis = tuple(np.concatenate(of_site, 1) for of_site in zip(*found))
        models[scale] = Shared(params, basis, nothing, nothing, nothing)
    of_scale = {scale: {} for scale in models}
    records = sorted({*pool, *common.records_of(face_clips, config.fit.splits)})
    for record, states in clip_states.make_encode(config)(models, face_clips, records):
        for scale, own in states.items():
            of_scale[scale][record] = own
    return models, {scale: States(face_clips.clips, own) for scale, own in of_scale.items()}


def chosen(config, models, states, number: int) -> tuple[dict, dict]:
    """The part of the arguments that is the basis of this number, at config's sites."""
    rank, every = config.fit.rank, [site.name for site in closed_form.sites_of(config_of(config, sites=EVERYWHERE))]
    places = [every.index(site.name) for site in closed_form.sites_of(config)]
    columns = slice(number * rank, (number + 1) * rank)
    models = {
        scale: model._replace(basis=tuple(model.basis[place][:, columns] for place in places))
        for scale, model in models.items()
    }
    states = {
        scale: States(own.clips, {record: x[:, places, columns] for record, x in own._of.items()})
        for scale, own in states.items()
    }
    return models, states


def config_of(config, **fit):
    """A copy with other settings of the fit."""
    copied = config.copy_and_resolve_references()
    copied.fit.update({{"sites": "filter_sites"}.get(name, name): value for name, value in fit.items()})
    return copied


def fit_and_score(config, workdir, folder, face_clips, models, states) -> None:
    """Leaves representations and scores in `folder`, as the stages fit and traits do."""
    link(folder, generic=workdir / "generic")
    fitting = shared.make_fitting(config)._replace(load=lambda of, reader, *rest: clip_states._load(of, reader, *rest))
    _, pool = learning.generic_pool(config, workdir, face_clips, common.records_of(face_clips, config.fit.splits))
    learnt = {}
    for scale, start in models.items():
        known = start._replace(readout=np.zeros(0, np.float32))
        learnt[scale] = learning.learn(config, fitting, start.params, scale, states[scale], pool, known=known)[""]
    place = folder / representations.FOLDER
    of_scale = lambda scale, control: learnt[scale]  # noqa: E731
    fit_stage.fit_table(config, fitting, face_clips, of_scale, place, config_hash(config), None, states.__getitem__)
    traits_stage.run(config, folder)


def predictions(folder) -> tuple[np.ndarray, np.ndarray]:
    """The headline's predictions and the labels, [P, T] each."""
    table = pq.ParquetFile(folder / "traits" / "predictions.parquet").read_row_group(0).to_pandas()
    return tuple(table.pivot(index="person_id", columns="trait", values=name).to_numpy() for name in ("prediction", "label"))


def difference(one, other) -> tuple[float, float, float]:
    """Mean over traits of the difference of PCC, with its 95 % interval: predictions and labels [P, T] each."""
    picks = np.random.default_rng(0).integers(0, len(one[0]), (RESAMPLES, len(one[0])))

    def pcc(predicted, labels, rows):
        a, b = predicted[rows], labels[rows]
        a, b = a - a.mean(-2, keepdims=True), b - b.mean(-2, keepdims=True)
        return ((a * b).sum(-2) / np.sqrt((a * a).sum(-2) * (b * b).sum(-2))).mean(-1)

    everyone = np.arange(len(one[0]))
    drawn = pcc(*one, picks) - pcc(*other, picks)
    return (float(pcc(*one, everyone) - pcc(*other, everyone)), *map(float, np.quantile(drawn, (0.025, 0.975))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--sites", nargs="+", default=SITES)
    parser.add_argument("--basis", nargs="+", choices=tuple(bases.BASES), default=tuple(bases.BASES))
    args = parser.parse_args()
    config, started = settings(args.workdir), time.perf_counter()
    face_clips = common.open_data(common.data_dir(config, args.workdir), config)
    models, states = of_all_bases(config, args.workdir, face_clips, args.basis)
    print(
        f"{sum(len(x) for x in next(iter(states.values()))._of.values())} frames, states after "
        f"{time.perf_counter() - started:.0f} s",
        flush=True,
    )
    print("| basis | sites | mean PCC | minus linear_dynamics | minus the first |\n|---|---|---|---|---|", flush=True)
    first = None
    for sites in args.sites:
        for number, name in enumerate(args.basis):
            own, folder = config_of(config, basis=name, sites=sites), args.out / f"{name}-{sites.replace(',', '+')}"
            if not (folder / "scores.csv").is_file():
                fit_and_score(own, args.workdir, folder, face_clips, *chosen(own, models, states, number))
            first = first or folder
            print(row(name, sites, folder, first), flush=True)


def row(name, sites, folder, first) -> str:
    """A line of the table."""
    scores, cells = load_scores(folder), []
    scores = scores[(scores["trait"] == "mean") & (scores["metric"] == "pcc") & (scores["block"] == "")]
    for method in ("representation", "representation_minus_linear_dynamics"):
        found = scores[scores["method"] == method].iloc[0]
        cells.append((found["value"], found["low"], found["high"]))
    cells.append(difference(predictions(folder), predictions(first)))
    return "| " + " | ".join((name, sites, *("{:.3f} [{:.3f}, {:.3f}]".format(*cell) for cell in cells))) + " |"


if __name__ == "__main__":
    main()
