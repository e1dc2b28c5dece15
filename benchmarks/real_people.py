"""Real people: what tells them apart across clips, block by block, with the controls that can show it is looks.

    python benchmarks/real_people.py --people PEOPLE.csv --pool CLIPS.csv --yunet-model YUNET.onnx --work DIR
        [--appearance own canonical motion] [--landmarks DIR] [--steps 400] [--only states tables]

The manifests have the columns clip_id,person_id,path[,session]. Whoever is in PEOPLE.csv is left out of the pool, from which
the U-net, the principal components and the population filters are learnt. Each appearance is prepared and pretrained in a
folder of its own under DIR; the states of every clip, trained and untrained, are left there as states-*.npz, and the tables
(`real_people_tables.py`) are printed from those files alone. What is there is not computed again.
"""

import argparse
import pathlib
import sys
import tempfile

import jax
import numpy as np
import pandas as pd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from facedyn.config import check
from facedyn.config_files import load_config
from facedyn.core import low_rank, unet
from facedyn.stages import prepare, pretrain
from facedyn.stages.fit import closed_form, learning
from facedyn.stages.runtime import common

APPEARANCES = {"own": 3, "canonical": 1, "motion": 2}  # and their channels
RANK = 32  # coordinates that are kept; the tables take the leading ones
BASIS_FRAMES = 1536


def manifests(people, pool, work) -> tuple[pathlib.Path, pathlib.Path]:
    """Both manifests with absolute paths under `work`, the pool without the people."""
    tables = [pd.read_csv(path).assign(folder=str(pathlib.Path(path).absolute().parent)) for path in (people, pool)]
    tables[1] = tables[1][~tables[1]["person_id"].isin(tables[0]["person_id"])]
    found = []
    for name, table in zip(("people", "pool"), tables):
        table["path"] = [str(pathlib.Path(folder) / path) for folder, path in zip(table["folder"], table["path"])]
        found.append(pathlib.Path(work) / f"{name}.csv")
        table[[c for c in ("clip_id", "person_id", "path", "session") if c in table]].to_csv(found[-1], index=False)
    return found[0], found[1]


def settings(appearance, people, pool, yunet_model, steps, landmarks=""):
    """The config of one appearance: 64 pixels, 25 frames a second, a small U-net at scale 1."""
    config = load_config("videos")
    config.data.update(dict(image_size=64, manifest=str(people), pretrain_manifest=str(pool), yunet_model=yunet_model))
    config.data.update(dict(appearance=appearance, channels=APPEARANCES[appearance], landmarks=landmarks))
    config.rank_loss.scales = (1,)
    config.pretrain.steps = steps
    config.fit.rank = RANK
    return check(config)


def bases(maps, params, config, reader) -> dict[str, np.ndarray]:
    """{site: principal components [D, RANK]} of the pool's frames; the site 'pixels' is the frames themselves."""
    frames, clip = learning.spread_frames(reader, range(len(reader.clips)), BASIS_FRAMES)
    parts = {site: [] for site in ("pixels", *(site.name for site in closed_form.sites_of(config)))}
    for site, own in site_maps(maps, params, config, frames, list(parts)):
        parts[site].append(own)
    found = {}
    for site in list(parts):
        found[site] = low_rank.basis(learning.subtract_clip_means(np.concatenate(parts.pop(site)), clip), RANK)
    return found


def site_maps(maps, params, config, frames, sites, block: int = 64):
    """Yields (site, flat feature maps float32 [B, D]) of the frames, block by block and site by site.

    maps: of `closed_form.make_site_maps`.
    """
    wanted = tuple(site for site in closed_form.sites_of(config) if site.name in sites)
    for first in range(0, len(frames), block):
        some = frames[first : first + block]
        padded = np.pad(some, ((0, block - len(some)), *[(0, 0)] * 3))
        of_net = dict(zip((site.name for site in wanted), maps(params, padded, wanted))) if wanted else {}
        for site in sites:
            own = some.reshape(len(some), -1).astype(np.float32) / 255
            yield site, (own if site == "pixels" else np.asarray(of_net[site])[: len(some)])


def states_of(params, config, people, pool) -> dict[str, np.ndarray]:
    """What a file of states holds: states [T, S, K] of every clip, one behind the other, and what each frame and clip is of."""
    maps = closed_form.make_site_maps(config)
    by_site = bases(maps, params, config, pool)
    clips, states, numbers, clip = [], [], [], []
    for of_pool, reader in ((False, people), (True, pool)):
        for i, info in enumerate(reader.clips):
            frames = reader.frames(i)
            parts = {site: [] for site in by_site}
            for site, own in site_maps(maps, params, config, frames, list(by_site)):
                parts[site].append(own @ by_site[site])
            states.append(np.stack([np.concatenate(parts[site]) for site in by_site], 1))
            numbers.append(info.frame_indices)
            clip.append(np.full(len(frames), len(clips)))
            clips.append((info.clip_id, info.person_id, info.session, of_pool))
    names, persons, sessions, of_pool = (np.array(column) for column in zip(*clips))
    return dict(
        states=np.concatenate(states).astype(np.float32),
        frame_indices=np.concatenate(numbers),
        clip=np.concatenate(clip),
        clip_ids=names,
        person_ids=persons,
        sessions=sessions,
        pool=of_pool,
        sites=np.array(list(by_site)),
    )


def compute(appearance, args) -> None:
    """Leaves DIR/states-APPEARANCE-{trained,untrained}.npz."""
    files = {name: args.work / f"states-{appearance}-{name}.npz" for name in ("trained", "untrained")}
    if all(file.is_file() for file in files.values()):
        return
    people, pool = manifests(args.people, args.pool, args.work)
    config = settings(appearance, people, pool, str(args.yunet_model), args.steps, args.landmarks)
    workdir = args.work / appearance
    workdir.mkdir(parents=True, exist_ok=True)
    prepare.run(config, workdir)
    if not (common.generic_dir(workdir, 1) / "best").is_dir():
        pretrain.run(config, workdir)
    readers = common.open_data(common.data_dir(config, workdir), config), common.open_data(workdir / "pretrain_data", config)
    fresh = unet.init(common.unet(config), jax.random.key(config.seed), config.data.image_size)
    for name, params in (("trained", pretrain.load_generic(config, workdir, 1)), ("untrained", fresh)):
        if not files[name].is_file():
            found = states_of(jax.device_put(params), config, *readers)
            with tempfile.NamedTemporaryFile(dir=args.work, suffix=".npz", delete=False) as file:
                np.savez(file, **found)
            pathlib.Path(file.name).replace(files[name])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=pathlib.Path, required=True)
    parser.add_argument("--pool", type=pathlib.Path, required=True)
    parser.add_argument("--yunet-model", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--appearance", nargs="+", choices=APPEARANCES, default=list(APPEARANCES))
    parser.add_argument("--landmarks", default="", help="a folder of CLIP_ID.npz by which the shared face moves")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--only", nargs="+", choices=("states", "tables"), default=("states", "tables"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for appearance in args.appearance:
        if "states" in args.only:
            compute(appearance, args)
        if "tables" in args.only:
            import real_people_tables

            for name in ("trained", "untrained"):
                real_people_tables.print_tables(appearance, name, args.work / f"states-{appearance}-{name}.npz")


if __name__ == "__main__":
    main()
