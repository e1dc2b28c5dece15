"""Commands that the documents give for large machines and known data sets, run to their report: as written, but for size."""

import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from documents import blocks, commands

import facedyn
from data_pipelines.faces.video import Video
from facedyn.main import main

# What a run in seconds needs; how filters are found, and all else that a config is for, stays its own.
SMALL = {name: value for name, value in TINY.items() if not name.startswith(("fit.solver", "fit.filter", "fit.innov", "data."))}
SMALL |= {"data.image_size": 16, "data.workers": 1, "fit.rank": 3, "traits.baselines": "mean_predictor"}


def documented(path, config):
    """The words after `facedyn` of the only command of a document that takes this config."""
    every = (words for block in blocks(path, "bash") for words in commands(block))
    (found,) = {tuple(words[words.index("facedyn") + 1 :]) for words in every if f"--config=configs/{config}" in words}
    return found


def adapted(words, there, small):
    """The words with what `there` has for names in the command, and with the settings of a small run."""
    for name, path in there.items():
        assert any(word.endswith(f"={name}") for word in words), f"{name} is not in {words}"
        words = [f"{word.removesuffix(name)}{path}" if word.endswith(f"={name}") else word for word in words]
    return [*words, *(f"--config.{key}={value}" for key, value in small.items())]


def results(workdir):
    """The table of representations and its matrix, of a run that came to its report."""
    assert "<html" in (pathlib.Path(workdir) / "report" / "index.html").read_text()
    return facedyn.load_representations(workdir)


def run(words, there, small):
    """Runs it and returns its results."""
    words = adapted(words, there, small)
    assert main(words) == 0
    (workdir,) = (word.partition("=")[2] for word in words if word.startswith("--workdir="))
    return results(workdir)


@pytest.mark.slow
def test_the_demos_command(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    people = {"synthetic.people": 6, "synthetic.pretrain_people": 10, "synthetic.frames": "30,30"}
    small = SMALL | {f"data.{name}": value for name, value in people.items()} | {"rank_loss.scales": 1, "data.image_size": 32}
    rows, vectors = run(documented(root / "README.md", "demo.py"), {"runs/demo": tmp_path / "w"}, small)
    assert (rows["person_id"].nunique(), set(rows["task"])) == (6, {"talk", "watch"})
    assert np.isfinite(vectors).all()


@pytest.mark.slow
def test_slurms_command(root, blob_manifest, tmp_path):
    """As a task that srun starts, the only one of its step: a process of its own, since JAX then stays as it was set up."""
    words = documented(root / "docs" / "launching.md", "launch.py:slurm")
    there = {"/shared/clips.csv": blob_manifest, "/shared/runs/slurm": tmp_path / "w"}
    words = adapted(words, there, SMALL | {"data.traits": "calm,bold", "rank_loss.scales": 1})
    told = dict(SLURM_JOB_ID=str(os.getpid()), SLURM_STEP_NODELIST="localhost", SLURM_NTASKS="1", SLURM_STEP_NUM_NODES="1")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    ours |= told | dict(SLURM_PROCID="0", SLURM_LOCALID="0", JAX_PLATFORMS="cpu", PYTHONPATH=str(root))
    command = [sys.executable, "-m", "facedyn.main", *words]
    done = subprocess.run(command, cwd=root, env=ours, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rows, _ = results(tmp_path / "w")
    assert rows["person_id"].nunique() == 12


@pytest.mark.slow
@pytest.mark.parametrize(("document", "name"), [("README.md", "gpu"), ("docs/launching.md", "tpu")])
def test_an_accelerators_command(root, blob_manifest, tmp_path, monkeypatch, document, name):
    monkeypatch.chdir(root)
    words = documented(root / document, f"launch.py:{name}")
    there = {"clips.csv": blob_manifest, f"runs/{name}": tmp_path / "w"}
    rows, vectors = run(words, there, SMALL | {"data.traits": "calm,bold", "rank_loss.scales": 1})
    assert rows["person_id"].nunique() == 12
    assert vectors.shape == (12, 3 * 2 * 3 * 3)  # filters in closed form
    assert np.isfinite(vectors).all()


@pytest.mark.slow
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
