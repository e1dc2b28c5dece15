"""Filters in closed form through the stages: tables, controls, a page, new people's videos; the basis is learnt once."""

import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import CLOSED_FORM, copy_before_fit

import facedyn
from data_pipelines.errors import InputError
from facedyn.main import main
from facedyn.stages import embed_model
from facedyn.stages.fit import learning, shared
from facedyn.store import representations, site_files

SETTINGS = CLOSED_FORM | dict(
    fit__blocks="filters,innovations,step_correlations",
    fit__whiten=True,
    fit__controls="time_shuffled,swapped_dynamics,untrained,reversed",
    fit__video_seconds="0.4",
    traits__baselines="mean_predictor",
)
SITES = ("skip0", "bottleneck", "decoder0")
LENGTH = 3 * (2 * 3 * 3 + 3 * 3 * 3 + 3)  # sites x (halves x rank x rank + of what x moments x rank + pairs)


@pytest.fixture(scope="module")
def closed_form_run(workdir, arguments, tmp_path_factory):
    """A run of which only the fit, and what comes after it, is another than `workdir`'s."""
    folder = copy_before_fit(workdir, tmp_path_factory.mktemp("closed_form") / "w")
    assert main(arguments("run", folder, **SETTINGS)) == 0
    return folder


def test_a_run_leaves_the_same_tables(closed_form_run):
    rows, vectors = facedyn.load_representations(closed_form_run)
    assert vectors.shape == (24, LENGTH)
    assert rows["finite"].all()
    assert rows[["loss", "ranking_accuracy_generic", "ranking_accuracy_fitted"]].notna().all(None)
    assert np.unique(vectors.round(6), axis=0).shape == vectors.shape  # nobody is like another
    for control in ("time_shuffled", "untrained", "reversed"):
        _, of_control = representations.read_parts(closed_form_run / "representations" / control)
        assert of_control.shape == vectors.shape
        assert np.abs(of_control - vectors).max() > 1e-3
    scores = facedyn.load_scores(closed_form_run)
    assert {"split_half", "time_shuffled", "untrained", "reversed"} <= set(scores.loc[scores["metric"] == "top1", "method"])
    assert "reversed" not in set(scores.loc[scores["stage"] == "traits", "method"])  # a head would learn from it as well
    shares = pd.read_csv(closed_form_run / "traits" / "weights_by_site.csv")
    assert set(shares["site"]) == {f"{site}{part}" for site in SITES for part in ("", "_innovations", "_step_correlations")}
    np.testing.assert_allclose(shares.groupby("trait")["share_of_prediction"].sum(), 1, rtol=1e-4)
    assert (closed_form_run / "report" / "index.html").stat().st_size > 10_000


def test_identification_is_also_measured_by_the_first_seconds(closed_form_run):
    """Of halves and of somebody else's course in time; not of controls that say nothing about looks."""
    folder = closed_form_run / "representations"
    for control in ("", "swapped_dynamics"):
        rows, vectors = representations.read_parts(folder / control / "first_0.4_seconds" / "halves")
        assert len(rows) == 48
        assert vectors.shape[1] == LENGTH
        assert (rows["n_frames"] == np.where(rows["scale"] == 1, 6, 2)).all()  # of 10 frames, windows reach 2 and 4 to a side
        whole, of_whole = representations.read_parts(folder / control / "halves")
        assert whole["unit_id"].tolist() == rows["unit_id"].tolist()
        assert (np.abs(of_whole - vectors).max(1) > 1e-4).all()
    assert len(list(folder.rglob("first_*_seconds"))) == 2
    scores = facedyn.load_scores(closed_form_run)
    first = scores[scores["seconds"] == "0.4"]
    assert set(first["method"]) == {"split_half", "swapped_dynamics"}
    assert {"top1", "icc"} <= set(first["metric"])
    assert set(first["verdict"]) == {""}
    assert set(first["block"]) == {"", "filters", "innovations", "step_correlations"}
    page = (closed_form_run / "report" / "index.html").read_text()
    table = page[page.index("seconds of video</th>") :]
    assert ">0.4</th>" in table[: table.index("</table>")]


def test_the_basis_is_learnt_once(closed_form_run, arguments, monkeypatch):
    def never(*_):
        raise AssertionError("the basis is there already")

    monkeypatch.setattr(shared, "learn", never)
    rows, vectors = facedyn.load_representations(closed_form_run)
    part = sorted((closed_form_run / "representations").glob("part-*.parquet"))[0]
    part.unlink()
    assert main(arguments("fit", closed_form_run, **SETTINGS)) == 0
    again, new = facedyn.load_representations(closed_form_run)
    assert again["unit_id"].tolist() == rows["unit_id"].tolist()
    np.testing.assert_allclose(new, vectors, atol=1e-5 * np.abs(vectors).max())


@pytest.fixture
def copied(closed_form_run, tmp_path):
    shutil.copytree(closed_form_run, tmp_path / "copied")
    return tmp_path / "copied"


def test_a_changed_setting_learns_again_what_people_share(copied, arguments):
    """As the refusal says: delete the folder of representations, and run again."""
    more = SETTINGS | dict(fit__held_back=0.4, fit__max_frames=9, fit__controls="", fit__split_half=False)
    before = {scale: np.load(site_files.path(copied, scale))["population"] for scale in (1, 2)}
    assert main(arguments("fit", copied, **more)) == 2
    shutil.rmtree(copied / "representations")
    assert main(arguments("fit", copied, **more)) == 0
    for scale in (1, 2):
        path = site_files.path(copied, scale)
        assert np.abs(np.load(path)["population"] - before[scale]).max() > 1e-4
        kept = site_files.learnt_from(path)
        assert (kept["fit.held_back"], kept["fit.max_frames"]) == (0.4, 9)


def test_what_people_share_is_never_of_something_else(copied, arguments, capsys):
    path = site_files.path(copied, 2)
    with np.load(path) as stored:
        arrays = dict(stored)
    right = site_files.learnt_from(path)
    for damage, said in (
        ({"fit.held_back": 0.5}, "fit.held_back was 0.5, is 0.2"),
        ({"generic": "0"}, "generic was '0', is "),
        ({"dataset": "0"}, "dataset was '0', is "),
        ("of an older version", "is missing, or of an older version"),
        ("unreadable", "cannot be read"),
    ):
        site_files.write(path, arrays, right | damage if isinstance(damage, dict) else {})
        if damage == "unreadable":
            path.write_bytes(b"PK")
        assert main(arguments("fit", copied, **SETTINGS)) == 2
        err = capsys.readouterr().err
        assert said in err
        assert f"delete the folder {copied / 'representations'} and run fit again" in err
    site_files.write(path, arrays, right)
    assert main(arguments("fit", copied, **SETTINGS)) == 0
    site_files.write(path, arrays, right | {"fit.rank": 5})
    with pytest.raises(InputError, match="was learnt from other data"):
        embed_model.load(copied)
    for part in (copied / "representations").rglob("part-*.parquet"):
        part.unlink()
    assert main(arguments("fit", copied, **SETTINGS | dict(fit__controls=""))) == 0  # nothing was made by it
    assert "components and population filters of scale 2 are learnt again: fit.rank was 5, is 3" in capsys.readouterr().err


def test_forgetting_somebody_else_leaves_what_people_share_as_it_is(copied, arguments, monkeypatch):
    monkeypatch.setattr(shared, "learn", None)
    assert main(["forget", f"--workdir={copied}", "--person=p08"]) == 0
    assert main(arguments("fit", copied, **SETTINGS)) == 0
    assert "p08" not in set(facedyn.load_representations(copied)[0]["person_id"])


def test_new_people_get_what_the_run_would_give(closed_form_run, blob_manifest, tmp_path):
    header, *lines = blob_manifest.read_text().splitlines()
    own = [line.replace(",videos/", f",{blob_manifest.parent}/videos/") for line in lines if ",p05," in line]
    (tmp_path / "new.csv").write_text("\n".join([header, *own]) + "\n")
    model = facedyn.FacialDynamics(closed_form_run)
    features = model.transform(tmp_path / "new.csv")
    pd.testing.assert_frame_equal(features, facedyn.load_features(closed_form_run).loc[["p05"]], atol=1e-3)
    table = model.representations_
    rows, vectors = facedyn.load_representations(closed_form_run)
    expected = vectors[(rows["person_id"] == "p05").to_numpy()]
    np.testing.assert_allclose(np.stack(table["representation"]), expected, atol=1e-5 * np.abs(vectors).max())
    assert len(model.predictions_)

    shutil.copytree(closed_form_run, tmp_path / "w")
    for path in (tmp_path / "w" / "representations" / "shared").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="run the stage `fit`"):
        embed_model.load(tmp_path / "w")


@pytest.mark.slow
def test_a_fit_killed_within_a_chunk_goes_on_where_it_was(closed_form_run, arguments, tmp_path, monkeypatch):
    """Some tables have a chunk's rows already: they keep them, the others get theirs."""
    folder, write, calls = tmp_path / "w", representations.write_part, []
    shutil.copytree(closed_form_run, folder)
    shutil.rmtree(folder / "representations")
    for stamp in ("fit", "fit.started"):
        (folder / "stages" / f"{stamp}.json").unlink(missing_ok=True)

    def killed_at_the_seventh(*args):
        if len(calls) == 6:
            raise KeyboardInterrupt
        calls.append(write(*args))
        return calls[-1]

    monkeypatch.setattr(representations, "write_part", killed_at_the_seventh)
    assert main(arguments("fit", folder, **SETTINGS)) == 130
    monkeypatch.undo()
    kept = {path: path.stat().st_mtime_ns for path in calls}
    assert {path.parent.name for path in kept} == {"representations", "halves", "time_shuffled"}
    assert main(arguments("fit", folder, **SETTINGS)) == 0
    assert kept == {path: path.stat().st_mtime_ns for path in calls}
    for place in ("", "halves", "time_shuffled", "time_shuffled/halves", "untrained"):
        found, expected = (representations.read_parts(w / "representations" / place) for w in (folder, closed_form_run))
        assert list(found[0]["unit_id"]) == list(expected[0]["unit_id"])
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-3, atol=1e-4)


def test_an_exported_model_embeds_as_its_workdir_does(closed_form_run, workdir, blob_manifest, arguments, tmp_path, capsys):
    """Principal components in 8 bits: a thousandth of a standard deviation, where a person differs from another by one."""
    header, *lines = blob_manifest.read_text().splitlines()
    own = [
        line.replace(",videos/", f",{blob_manifest.parent}/videos/") for line in lines if line.split(",")[1] in ("p05", "p07")
    ]
    (tmp_path / "new.csv").write_text("\n".join([header, *own]) + "\n")
    file = tmp_path / "model.safetensors"
    assert main(["export", f"--workdir={closed_form_run}", f"--out={file}", "--note=Data by somebody."]) == 0
    assert embed_model.load(file).note == "Data by somebody."
    assert b"p05" not in file.read_bytes()
    assert b"blobs" not in file.read_bytes()  # nor where anything lay
    assert main(["embed", str(tmp_path / "new.csv"), f"--model={file}", f"--out={tmp_path / 'new.csv.csv'}", "-q"]) == 0
    found = pd.read_csv(tmp_path / "new.csv.csv").set_index("person_id")
    expected = facedyn.load_features(closed_form_run).loc[["p05", "p07"]]
    assert list(found.columns) == list(expected.columns)
    difference = np.abs(found.to_numpy() - expected.to_numpy())
    assert np.sqrt((difference**2).mean()) < 0.05
    assert np.corrcoef(found.to_numpy().ravel(), expected.to_numpy().ravel())[0, 1] > 0.999
    by_clip = facedyn.FacialDynamics(file, level="clip").transform(tmp_path / "new.csv")
    assert list(by_clip.index) == [(p, f"{p}_{task}") for p in ("p05", "p07") for task in ("talk", "watch")]
    capsys.readouterr()
    assert main(["embed", str(tmp_path / "new.csv"), f"--model={tmp_path / 'none.bin'}", f"--out={tmp_path / 'o.csv'}"]) == 2
    assert "There is no model" in capsys.readouterr().err
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="is damaged"):
        embed_model.load(damaged)


def test_features_are_standardised_by_the_generic_models_people(closed_form_run):
    """Whoever taught the model has a mean of 0 and a spread of 1 in every feature, in a fit of all of them."""
    features, quality = facedyn.load_features(closed_form_run, return_quality=True)
    assert list(features.index) == list(quality.index)
    pool = sorted(learning.people_of(closed_form_run))
    own = features.loc[pool].to_numpy()
    np.testing.assert_allclose(own.mean(0), 0, atol=1e-3)
    spread = own.std(0)
    assert np.abs(spread - 1).max() < 1e-2 or (np.abs(own[:, np.abs(spread - 1) > 1e-2]) < 1e-3).all()
    assert np.isfinite(features.to_numpy()).all()
