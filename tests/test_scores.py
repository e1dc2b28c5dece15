import numpy as np
import pandas as pd
import pytest
from fake_workdir import write_pretraining

from data_pipelines.errors import InputError
from facedyn.store import scores


def row(
    method="representation",
    setting="ridge;scales=1+2;tasks=all;fusion=features",
    trait="mean",
    metric="pcc",
    value=0.41234567,
    **more,
):
    return (
        dict(method=method, setting=setting, trait=trait, metric=metric, value=value, low=value - 0.1, high=value + 0.1, n=48)
        | more
    )


def test_a_stage_replaces_its_own_rows_only(tmp_path):
    scores.replace_scores(tmp_path, "traits", [row(), row(metric="ccc")])
    scores.replace_scores(tmp_path, "pretrain", [row("generic", "scale=1", "", "ranking_accuracy", low=np.nan, high=np.nan)])
    scores.replace_scores(tmp_path, "traits", [row(trait="NA", value=-0.5)])
    table = scores.load_scores(tmp_path)
    assert tuple(table.columns) == scores.COLUMNS
    assert list(table["stage"]) == ["pretrain", "traits"]
    assert list(table["trait"]) == ["", "NA"]
    assert np.isnan(table["low"][0])
    assert table["value"][1] == -0.5
    assert table["n"].dtype == int
    assert list(pd.read_csv(tmp_path / "scores.csv").columns) == list(scores.COLUMNS)
    scores.replace_scores(tmp_path, "traits", [])
    assert list(scores.load_scores(tmp_path)["stage"]) == ["pretrain"]


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    scores.replace_scores(tmp_path, "traits", [row()])
    before = (tmp_path / "scores.csv").read_bytes()

    def broken(self, path, **_):
        path.write_text("half a li")
        raise RuntimeError("power cut")

    monkeypatch.setattr(pd.DataFrame, "to_csv", broken)
    with pytest.raises(RuntimeError):
        scores.replace_scores(tmp_path, "fit", [row()])
    assert (tmp_path / "scores.csv").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scores.csv"]


def test_rows_and_files_that_are_not_scores_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no scores\.csv"):
        scores.load_scores(tmp_path)
    for bad in ({"colour": "red"}, {"stage": "fit"}):
        with pytest.raises(ValueError, match="must have the keys"):
            scores.replace_scores(tmp_path, "traits", [row() | bad])
    (tmp_path / "scores.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="its columns must be"):
        scores.load_scores(tmp_path)


def test_settings_are_read_back():
    s = scores.parse_setting("mlp;scales=1+2+4;tasks=talk;fusion=predictions;transductive")
    assert s == dict(head="mlp", scales=(1, 2, 4), tasks="talk", fusion="predictions", transductive=True, people_overlap=False)
    assert scores.parse_setting("scale=2;frames=held_back")["scales"] == (2,)
    assert scores.parse_setting("") == scores.SETTING_PARTS
    assert scores.describe("mean_face", "ridge") == ("mean face", "ridge")
    assert scores.describe("representation", "ridge;scales=1;tasks=all")[1] == "ridge, scale 1, all tasks"


def test_terminal_table_leads_with_the_headline_and_fits_the_terminal(tmp_path):
    settings = [
        "ridge;scales=1;tasks=a task with a rather long name;transductive",
        "mlp;scales=1+2;tasks=all;fusion=features;transductive",
        "ridge;scales=1+2;tasks=all;fusion=predictions;transductive",
        "ridge;scales=1+2;tasks=all;fusion=features;transductive",
        "ridge;scales=2;tasks=all;fusion=features;transductive",
    ]
    rows = [row("mean_face", "ridge", value=0.05)]
    rows += [
        row(setting=s, metric=m, value=0.3 + i / 100)
        for i, s in enumerate(settings)
        for m in ("pcc", "ccc", "acc", "rmse", "r2")
    ]
    rows += [row(setting=settings[3], trait="openness", value=-0.25)]
    scores.replace_scores(tmp_path, "traits", rows)
    write_pretraining(tmp_path)
    text = scores.score_table(scores.load_scores(tmp_path))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    body = [line for line in lines if "person filters" in line]
    assert "0.330 [0.230, 0.430]" in body[0]
    assert "openness" in text
    assert "−0.250" in text
    order = [text.index(word) for word in ("person filters", "mean face", "Per trait", "Ranking accuracy", "Identification")]
    assert order == sorted(order)
    assert "copy of the input" in text
    assert scores.score_table(scores.empty_scores()) == "No scores yet."
