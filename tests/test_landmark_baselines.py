"""The baselines on landmarks and action units: found where the data has them, blind to the head's place, honest where not."""

import shutil

import numpy as np
import pytest

from data_pipelines.errors import InputError
from data_pipelines.manifest import read_manifest
from facedyn.config import default_config
from facedyn.main import main
from facedyn.stages.traits import clip_features, landmark_features
from facedyn.store.scores import load_scores

CLIPS = {"anna": ["a1", "a2"], "ben": ["b1"], "eve": []}
BOTH = tuple(landmark_features.NAMES)


def points_of(name, frames=30):
    """Of 68 points, some of which move, as this clip does; those that no expression moves stay."""
    random = np.random.default_rng(sum(map(ord, name)))
    points = np.repeat(np.random.default_rng(0).normal(size=(1, 68, 2)) * 50 + 100, frames, 0)
    points[:, 48:68] += np.cumsum(random.normal(size=(frames, 20, 2)), 0)
    return points


def write(folder, clip, points, units=None):
    """A clip's file: npz of points, or with action units a CSV as OpenFace writes it."""
    if units is None:
        np.savez(folder / f"{clip}.npz", landmarks=points)
        return
    names = ["frame", "success", *(f"AU{i:02d}_r" for i in range(1, units.shape[1] + 1))]
    lines = [",".join(map(str, [i + 1, 1, *row])) for i, row in enumerate(units.tolist())]
    (folder / f"{clip}.csv").write_text("\n".join([",".join(names), *lines]))


def config_of(folder):
    config = default_config()
    config.data.landmarks = str(folder)
    return config


def test_the_place_size_and_lean_of_the_head_are_not_seen(tmp_path):
    for folder, factor, turn in ((tmp_path / "one", 1.0, 0.0), (tmp_path / "other", 2.5, 0.0), (tmp_path / "turned", 1.0, 0.3)):
        folder.mkdir()
        for clip in ("a1", "a2", "b1"):
            points = points_of(clip) @ (factor * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]))
            head = np.cumsum(np.random.default_rng(len(folder.name)).normal(size=(30, 1, 2)), 0)  # walks about
            write(folder, clip, points + head)
    found = [landmark_features.features(config_of(tmp_path / n), CLIPS, BOTH) for n in ("one", "other", "turned")]
    (key,) = found[0]
    assert (key.method, key.note) == ("landmark_dynamics", "transductive")
    assert np.isnan(found[0][key][2]).all()
    assert np.isfinite(found[0][key][:2]).all()
    autocorrelations = slice(landmark_features.COMPONENTS, None)  # signs of components are arbitrary, those of spread are not
    for other in found[1:]:
        np.testing.assert_allclose(np.abs(other[key][:2]), np.abs(found[0][key][:2]), atol=1e-3)
    assert np.abs(found[0][key][0] - found[0][key][1])[autocorrelations].max() > 0.05  # people differ


def test_action_units_are_described_as_tracks_are(tmp_path):
    units = {clip: np.random.default_rng(i).uniform(0, 5, (25, 3)).round(3) for i, clip in enumerate(("a1", "a2", "b1"))}
    for clip, own in units.items():
        write(tmp_path, clip, None, own)
    ((key, vectors),) = landmark_features.features(config_of(tmp_path), CLIPS, BOTH).items()
    assert key.method == "action_unit_dynamics"
    basis = clip_features.principal_images(list(units.values()), 3)
    np.testing.assert_allclose(vectors[1], clip_features.linear_dynamics([units["b1"] @ basis]), rtol=1e-5)
    lines = (tmp_path / "b1.csv").read_text().splitlines()
    (tmp_path / "b1.csv").write_text("\n".join(lines[:11] + lines[12:]))  # the eleventh frame is missing: no step spans it
    (cut,) = landmark_features.features(config_of(tmp_path), CLIPS, BOTH).values()
    runs = {"a": [units["a1"], units["a2"]], "b": [units["b1"][:10], units["b1"][11:]]}
    basis = clip_features.principal_images([run for own in runs.values() for run in own], 3)
    np.testing.assert_allclose(cut[1], clip_features.linear_dynamics([run @ basis for run in runs["b"]]), rtol=1e-5)
    assert landmark_features.features(config_of(tmp_path), CLIPS, ("mean_face",)) == {}
    assert landmark_features.features(default_config(), CLIPS, BOTH) == {}


def test_files_of_two_programs_are_refused(tmp_path):
    write(tmp_path, "a1", points_of("a1"))
    write(tmp_path, "b1", points_of("b1")[:, :60])
    with pytest.raises(InputError, match=r"columns \(120 and 136\); all must come from one program"):
        landmark_features.features(config_of(tmp_path), CLIPS, BOTH)


def test_the_stage_scores_them_and_sees_that_they_changed(workdir, arguments, blob_manifest, tmp_path, capsys):
    copied, folder = tmp_path / "w", tmp_path / "landmarks"
    shutil.copytree(workdir, copied)
    folder.mkdir()
    more = {"data__landmarks": str(folder), "traits__baselines": "landmark_dynamics", "traits__fused_baselines": ""}
    for entry in read_manifest(blob_manifest):
        write(folder, entry.clip_id, points_of(entry.clip_id))
    assert main(arguments("traits", copied, **more)) == 0
    methods = set(load_scores(copied).query("stage == 'traits'")["method"])
    assert {"landmark_dynamics", "representation_minus_landmark_dynamics"} <= methods
    capsys.readouterr()
    assert main(arguments("run", copied, **more)) == 0
    assert "traits: done before, unchanged" in capsys.readouterr().err
    write(folder, "p00-x", points_of("x"))
    assert main(arguments("run", copied, **more)) == 0
    assert "traits: done before, unchanged" not in capsys.readouterr().err
    shutil.rmtree(folder)
    assert main(arguments("traits", copied, **more)) == 2
    assert "There is no folder" in capsys.readouterr().err
