"""Commands that the documents give for large machines and known data sets, run to their report: as written, but for size."""

import pathlib

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from documents import blocks, commands

import facedyn
from data_pipelines.video import Video
from facedyn.main import main

# What a run in seconds needs; how filters are found, and all else that a config is for, stays its own.
SMALL = {name: value for name, value in TINY.items() if not name.startswith(("fit.solver", "fit.filter", "fit.innov", "data."))}
SMALL |= {"data.image_size": 16, "data.workers": 1, "fit.rank": 3, "traits.baselines": "mean_predictor"}


def documented(path, config):
    """The words after `facedyn` of the only command of a document that takes this config."""
    every = (words for block in blocks(path, "bash") for words in commands(block))
    (found,) = {tuple(words[1:]) for words in every if words[0] == "facedyn" and f"--config=configs/{config}" in words}
    return found


def run(words, there, small):
    """Runs it; `there` has what stands for names in the command. Returns the table of representations and its matrix."""
    for name, path in there.items():
        assert any(word.endswith(f"={name}") for word in words), f"{name} is not in {words}"
        words = [f"{word.removesuffix(name)}{path}" if word.endswith(f"={name}") else word for word in words]
    assert main([*words, *(f"--config.{key}={value}" for key, value in small.items())]) == 0
    (workdir,) = (word.partition("=")[2] for word in words if word.startswith("--workdir="))
    assert "<html" in (pathlib.Path(workdir) / "report" / "index.html").read_text()
    return facedyn.load_representations(workdir)


@pytest.mark.parametrize(("document", "name"), [("README.md", "gpu"), ("docs/launching.md", "tpu")])
def test_an_accelerators_command(root, blob_manifest, tmp_path, monkeypatch, document, name):
    monkeypatch.chdir(root)
    words = documented(root / document, f"launch.py:{name}")
    there = {"clips.csv": blob_manifest, f"runs/{name}": tmp_path / "w"}
    rows, vectors = run(words, there, SMALL | {"data.traits": "calm,bold", "rank_loss.scales": 1})
    assert rows["person_id"].nunique() == 12
    assert vectors.shape == (12, 3 * (2 * 3 * 3 + 9 * 3))  # in closed form, with innovations
    assert np.isfinite(vectors).all()


def test_a_data_sets_command(root, shared, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    clips = pd.read_csv(shared / "data" / "clips.csv").drop_duplicates("person_id").path[:4]
    source = tmp_path / "udiva"
    for split, session, pair in (("train", "002003", clips[:2]), ("val", "004005", clips[2:])):
        talk = source / split / "recordings" / f"talk_recordings_{split}"
        (talk / session).mkdir(parents=True)
        for camera, path in zip((1, 2), pair):
            frames = [cv2.resize(image, (240, 240)) for _, (_, _, image) in zip(range(40), Video(shared / "data" / path))]
            writer = cv2.VideoWriter(str(talk / session / f"FC{camera}_T.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (240, 240))
            for frame in frames:
                writer.write(np.ascontiguousarray(frame[..., ::-1]))
            writer.release()
        (source / f"sessions_{split}.csv").write_text(f"ID,PART.1,PART.2\n{session},{session[:3]},{session[3:]}\n")
    words = documented(root / "README.md", "udiva.py")
    there = {"DIR": source, "runs/udiva": tmp_path / "w"}
    rows, vectors = run(words, there, SMALL | {"rank_loss.scales": 1})
    assert set(rows["person_id"]) == {"002", "003", "004", "005"}
    assert set(rows["task"]) == {"talk"}
    assert np.isfinite(vectors).all()
