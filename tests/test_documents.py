"""The documents keep their word: the examples in them run."""

import json
import runpy
import shutil

import jax
import numpy as np
import pytest
from conftest import FORGOTTEN, write_video
from documents import blocks, commands
from scenes import render_scene

from data_pipelines.sources import SOURCES
from data_pipelines.synthetic.appearance import draw_appearance
from data_pipelines.synthetic.dynamics import draw_dynamics, simulate
from facedyn.core import person_filters
from facedyn.main import main

# Files that a document takes for granted and that a test has not.
NOT_HERE = {
    '{"data.yunet_model": "yunet.onnx"}': "{}",
    '"more_videos"': '"new_videos"',
    '.transform("videos")': '.transform("new_videos")',
    'level="session"': 'level="person"',
    'pd.read_csv("labels.csv", dtype={"person_id": str}).set_index("person_id")["openness"]': (
        "pd.Series(range(len(features)), features.index, float)"
    ),
}
# The tour in seconds.
SMALL_TOUR = {"POOL, PEOPLE, FRAMES, STEPS = 24, 16, 400, 400": "POOL, PEOPLE, FRAMES, STEPS = 2, 3, 64, 2"}


@pytest.fixture(scope="module")
def new_videos(tmp_path_factory):
    """Two people in front of a wall, filmed from afar: a face has to be found."""
    folder = tmp_path_factory.mktemp("filmed") / "new_videos"
    for number, name in enumerate(("cleo", "dan")):
        random = np.random.default_rng(number)
        tracks = simulate(draw_dynamics(random), "talk", 70, 25.0, random)
        write_video(folder / f"{name}.avi", render_scene(draw_appearance(random), tracks, (240, 320), random)[0])
    return folder


@pytest.fixture
def inside(workdir, new_videos, blob_manifest, root, tmp_path, monkeypatch):
    """A folder with what the documents speak of: two finished runs, new_videos, clips.csv, configs."""
    for name in ("demo", "mine"):
        shutil.copytree(workdir, tmp_path / "runs" / name)
    (tmp_path / "new_videos").symlink_to(new_videos)
    (tmp_path / "configs").symlink_to(root / "configs")
    (tmp_path / "clips.csv").write_text(blob_manifest.read_text().replace(",videos/", f",{blob_manifest.parent}/videos/"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_python(path, source, changes):
    """The names that are left when `source`, with `changes`, has run."""
    for old, new in changes.items():
        source = source.replace(old, new)
    names = {"__name__": path.stem}
    with jax.numpy_rank_promotion("allow"):  # readers run it as JAX comes
        exec(compile(source, str(path), "exec"), names)
    return names


@pytest.mark.slow
def test_the_examples_of_contributing(root, inside, monkeypatch):
    monkeypatch.setattr(person_filters, "KINDS", dict(person_filters.KINDS))
    before = dict(SOURCES)
    try:
        path = root / "CONTRIBUTING.md"
        names = run_python(path, "\n".join(blocks(path, "python")), {})
    finally:
        SOURCES.clear()
        SOURCES.update(before)
    assert {"collect", "fit_people", "exponential_loss", "nearest_neighbours"} <= set(names)
    assert "nearest_neighbours" in (inside / "runs/demo/scores.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/data.md"])
def test_the_python_examples_of_other_documents(root, inside, name):
    path = root / name
    names = run_python(path, "\n".join(blocks(path, "python")), NOT_HERE)
    assert list(names["features"].index) == ["cleo", "dan"]


def test_the_fork(root):
    path = root / "docs" / "fork.md"
    assert run_python(path, "\n".join(blocks(path, "python")), {})["representations"].shape == (3, 1024)


def test_the_notebook_is_the_tour(root):
    """docs/tour.ipynb has the cells of docs/tour.py as `python docs/make_notebook.py` writes them: no outputs, no paths."""
    made = runpy.run_path(str(root / "docs" / "make_notebook.py"))
    script = (root / "docs" / "tour.py").read_text(encoding="utf-8")
    text = (root / "docs" / "tour.ipynb").read_text(encoding="utf-8")
    assert text == made["notebook"](script)
    cells = json.loads(text)["cells"]
    assert [cell["cell_type"] for cell in cells[:2]] == ["markdown", "code"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    compile("\n".join(code), "tour.ipynb", "exec")
    assert sum("def " in source for source in code) > 2


@pytest.mark.slow
def test_the_tour(root, inside, capsys):
    path = root / "docs" / "tour.py"
    source = path.read_text(encoding="utf-8")
    assert all(source.count(line) == 1 for line in SMALL_TOUR)
    run_python(path, source, SMALL_TOUR)
    assert "representations (3, 1344)" in capsys.readouterr().out
    assert (inside / "dynamics.png").stat().st_size > 1000


@pytest.mark.slow
def test_commands_on_a_finished_run(root, inside, arguments, capsys):
    """Those of the README and of docs/data.md that need seconds, as they stand there; `run` at the tests' own size."""
    small = {flag.partition("=")[0]: flag for flag in arguments("run", "w") if flag.startswith("--config.")}
    del small["--config.data.manifest"]
    shutil.rmtree("runs/mine")  # the README makes its own
    done = []
    for name in ("README.md", "docs/data.md"):
        for words in (words for block in blocks(root / name, "bash") for words in commands(block)):
            if words[0] != "facedyn" or not {"--workdir=runs/mine", "--workdir=runs/other"} & set(words) or words in done:
                continue
            more = small.values() if words[1] in ("run", "doctor") else ()
            own = [word.replace("--person=anna", f"--person={FORGOTTEN}") for word in words]  # nobody here is called anna
            assert main([*own[1:2], *more, *own[2:]]) in (0, 1 if words[1] == "doctor" else 0), words
            done.append(words)
    assert {words[1] for words in done} == {"doctor", "run", "embed", "export", "forget"}
    assert (inside / "new.parquet").is_file()
    assert (inside / "model.safetensors").is_file()
    assert (inside / "runs/other/report/index.html").is_file()
