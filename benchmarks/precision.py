"""What the precision of the U-net's products changes: states, features, identification, mean trait PCC.

    python benchmarks/precision.py --workdir WORKDIR --out DIR

WORKDIR's stages prepare and pretrain must be done; it is only read. Basis, population filters and ridge are learnt once, from
states in float32. Then every frame goes through the U-net once more for each precision, and the stages fit and traits go on
from there, where everything is float32 whatever the hardware (tests/test_lowering.py):

- float32: what a CPU computes, and a GPU with `jax.default_matmul_precision=highest`;
- TF32: what a GPU computes by default: operands of a product have 10 bits behind the point. Rounded here, on any hardware;
- bfloat16 products: what a TPU computes by default: operands of 7 bits, sums in float32. Rounded here, too;
- bfloat16: `model.dtype=bfloat16` as in configs/launch.py: activations as well.

Columns: error of the states, root mean square over that of the states; features, difference in standard deviations over
people, median and 99.9th percentile; share of people found in the other half of their frames; mean PCC with its 95 % interval,
and minus that of float32, paired.
"""

import argparse
import contextlib
import pathlib
import unittest.mock

import bases
import jax
import numpy as np

from facedyn.config import config_hash
from facedyn.core import identification, unet
from facedyn.stages.fit import clip_states, closed_form, fit_stage, learning, shared
from facedyn.stages.runtime import common
from facedyn.stages.traits import traits_stage
from facedyn.store import representations
from facedyn.store.scores import load_scores

# Bits behind the point of a product's operands, and the type of activations.
PRECISIONS = {
    "float32": (None, "float32"),
    "TF32": (10, "float32"),
    "bfloat16 products": (7, "float32"),
    "bfloat16": (None, "bfloat16"),
}


@contextlib.contextmanager
def rounded(bits):
    """Both operands of the U-net's 3x3 convolutions are rounded to that many bits behind the point; None: as they are."""
    exact = unet.convolve

    def convolve(h, kernel):
        return exact(*(jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits) for x in (h, kernel)))

    for compiled in (closed_form._compile_site_maps, closed_form._compile_encode):
        compiled.cache_clear()
    with unittest.mock.patch.object(unet, "convolve", exact if bits is None else convolve):
        yield


def states_in(precision, config, face_clips, models, records) -> dict[int, bases.States]:
    """{scale: states of the records}, by the models' U-nets at this precision."""
    bits, dtype = PRECISIONS[precision]
    config = config.copy_and_resolve_references()
    config.model.dtype = dtype
    found = {scale: {} for scale in models}
    with rounded(bits):
        for record, states in clip_states.make_encode(config)(models, face_clips, records):
            for scale, own in states.items():
                found[scale][record] = own
    return {scale: bases.States(face_clips.clips, own) for scale, own in found.items()}


def fit_and_score(config, fitting, workdir, folder, face_clips, learnt, states) -> None:
    """Leaves representations and scores in `folder`, as the stages fit and traits do."""
    bases.link(folder, generic=workdir / "generic")
    place = folder / representations.FOLDER
    of_scale = lambda scale, control: learnt[scale]  # noqa: E731
    fit_stage.fit_table(config, fitting, face_clips, of_scale, place, config_hash(config), None, states.__getitem__)
    traits_stage.run(config, folder)


def features_of(folder, name="") -> tuple[np.ndarray, np.ndarray]:
    """(ids of the units and their scales, features [N, D]) of a table, in the order of the ids."""
    rows, vectors = representations.read_parts(folder / representations.FOLDER / name)
    ids = rows["unit_id"].astype(str) + " " + rows["scale"].astype(str)
    order = np.argsort(ids.to_numpy())
    return ids.to_numpy()[order], vectors[order]


def found_again(folder) -> float:
    """Share of people whose features of one half are most like those of their other half, features with equal weight."""
    ids, vectors = features_of(folder, "halves")
    person = np.array([name.rsplit("#", 1)[0] + name.rsplit(" ", 1)[1] for name in ids])
    first = np.array(["#1" in name for name in ids])
    assert (person[first] == person[~first]).all()
    scale = np.array([name.rsplit(" ", 1)[1] for name in ids])[first]
    halves = [np.concatenate([vectors[part][scale == s] for s in np.unique(scale)], 1) for part in (first, ~first)]
    standard = identification.standardised(*halves)
    return float(np.mean(np.asarray(identification.match_ranks(*map(np.asarray, standard))) == 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    config = bases.settings(args.workdir)
    config.fit.update(dict(split_half=True, filter_sites="all", unit="person"))
    face_clips = common.open_data(common.data_dir(config, args.workdir), config)
    bases.EVERYWHERE = "all"
    models, exact = bases.of_all_bases(config, args.workdir, face_clips, (config.fit.basis,))
    records = common.records_of(face_clips, config.fit.splits)
    _, pool = learning.generic_pool(config, args.workdir, face_clips, records)
    fitting = shared.make_fitting(config)._replace(load=lambda of, reader, *rest: clip_states._load(of, reader, *rest))
    learnt = {
        scale: learning.learn(config, fitting, model.params, scale, exact[scale], pool, known=model)[""]
        for scale, model in models.items()
    }
    print("| precision | states | features: median, 99.9 % | found again | mean PCC | minus float32 |\n" + "|---" * 6 + "|")
    for precision in PRECISIONS:
        folder = args.out / precision.replace(" ", "_")
        states = states_in(precision, config, face_clips, models, records)
        if not (folder / "scores.csv").is_file():
            fit_and_score(config, fitting, args.workdir, folder, face_clips, learnt, states)
        print(row(precision, folder, args.out / "float32", states, exact, records), flush=True)


def row(precision, folder, reference, states, exact, records) -> str:
    """A line of the table."""
    errors = [(states[s](r) - exact[s](r), exact[s](r)) for s in exact for r in records]
    of_states = np.sqrt(sum((e**2).sum() for e, _ in errors) / sum((x**2).sum() for _, x in errors))
    (ids, ours), (of, theirs) = features_of(folder), features_of(reference)
    assert (ids == of).all()
    scale = np.array([name.rsplit(" ", 1)[1] for name in ids])
    moved = [np.abs(ours[scale == s] - theirs[scale == s]) / (theirs[scale == s].std(0) + 1e-6) for s in np.unique(scale)]
    of_features = "{:.1e}, {:.1e}".format(*np.quantile(np.concatenate(moved), (0.5, 0.999)))
    scores = load_scores(folder)
    scores = scores[(scores["trait"] == "mean") & (scores["metric"] == "pcc") & (scores["block"] == "")]
    pcc = scores[scores["method"] == "representation"].iloc[0]
    cells = [precision, f"{of_states:.1e}", of_features, f"{found_again(folder):.3f}"]
    cells.append("{:.3f} [{:.3f}, {:.3f}]".format(pcc["value"], pcc["low"], pcc["high"]))
    cells.append("{:.4f} [{:.4f}, {:.4f}]".format(*bases.difference(bases.predictions(folder), bases.predictions(reference))))
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
