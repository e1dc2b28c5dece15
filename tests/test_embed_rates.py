"""Videos of other frame rates than the model's: brought to its rate, or left out with a reason, never taken as they are."""

import pathlib
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import drifting_blob, hash_seed

import facedyn
from data_pipelines.errors import InputError
from facedyn.command_line import parse
from facedyn.config_files import load_config
from facedyn.stages import embed_model, embed_rates


def write_at(path, frames, fps):
    """Lossless video of RGB frames at `fps`."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), fps, frames.shape[2:0:-1])
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


def manifest(folder, rates, frames=60):
    """A manifest of one aligned clip a rate; at 25 fps all show the same, the frames between are noise."""
    blob, random = drifting_blob(frames, hash_seed("rates")), np.random.default_rng(0)
    rows = ["clip_id,person_id,path,task,aligned"]
    for rate in rates:
        times = max(1, round(rate / 25))
        shown = random.integers(0, 256, ((frames - 1) * times + 1, *blob.shape[1:]), dtype=np.uint8)
        shown[::times] = blob
        write_at(folder / f"{rate}.avi", shown, rate)
        rows.append(f"c{rate},p{rate},{rate}.avi,talk,true")
    (folder / "m.csv").write_text("\n".join(rows) + "\n")
    return folder / "m.csv"


def test_faster_videos_are_resampled_and_slower_ones_left_out(workdir, tmp_path):
    assert embed_model.load(workdir).fps == 25
    model = facedyn.FacialDynamics(workdir)
    model.transform(manifest(tmp_path, (25, 50, 200, 23, 15)))
    table = model.representations_
    vectors = {person: np.stack(own["representation"]) for person, own in table.groupby("person_id")}
    assert set(vectors) == {"p25", "p50", "p200", "p23"}
    for person in ("p50", "p200"):
        np.testing.assert_allclose(vectors[person], vectors["p25"], rtol=1e-4, atol=1e-5 * np.abs(vectors["p25"]).max())
    quality = model.videos_.set_index("clip_id")
    assert quality.reason["c25"] == ""
    assert "its 200 frames per second were resampled to the model's 25" in quality.reason["c200"]
    assert "23 frames per second, which are kept" in quality.reason["c23"]
    assert (quality.verdict["c15"], quality.n_kept["c15"]) == ("left_out", 0)
    assert "It has 15 frames per second; the model was trained at 25" in quality.reason["c15"]
    assert quality.fps.round().to_dict() == {"c25": 25, "c50": 25, "c200": 25, "c23": 23, "c15": 15}


def test_only_slow_videos_are_a_sentence_and_a_table(workdir, tmp_path):
    model = facedyn.FacialDynamics.load(workdir)
    with pytest.raises(InputError, match="Not one of the videos can be used; c15: It has 15 frames"):
        model.transform(manifest(tmp_path, (15, 12)))
    assert set(model.videos_["verdict"]) == {"left_out"}


def test_the_models_rate_is_the_datasets_else_the_tables_else_the_settings(workdir, arguments, tmp_path):
    config = parse(arguments("fit", workdir))[1]
    assert embed_rates.training_fps(config, workdir) == 25
    shutil.copy(workdir / "quality.parquet", tmp_path / "quality.parquet")
    table = pd.read_parquet(tmp_path / "quality.parquet")
    table.assign(fps=30.0).to_parquet(tmp_path / "quality.parquet")
    assert embed_rates.training_fps(config, tmp_path) == 30
    (tmp_path / "quality.parquet").write_bytes(b"none")
    config.data.fps = 50.0
    assert embed_rates.training_fps(config, tmp_path) == 50


def test_configs_for_real_videos_have_a_rate_and_those_for_synthetic_faces_none(root):
    for path in sorted(pathlib.Path(root, "configs").glob("*.py")):
        if path.name == "sweep.py":
            continue
        data = load_config(str(path)).data
        assert data.fps == (0 if data.dataset == "synthetic" else 25), path.name
