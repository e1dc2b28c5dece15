import numpy as np
import pandas as pd
import pytest
from fake_workdir import write_pretraining

import facedyn
from data_pipelines.errors import InputError
from facedyn.report import tables
from facedyn.store import scores
from facedyn.store.scores import ScoreKey

LEAD = ScoreKey("representation", "ridge", scales="1+2", tasks="all", fusion="features")


def row(key=LEAD, trait="mean", metric="pcc", value=0.41234567, **more):
    return key._asdict() | dict(trait=trait, metric=metric, value=value, low=value - 0.1, high=value + 0.1, n=48) | more


def test_a_stage_replaces_its_own_rows_only(tmp_path):
    scores.replace_scores(tmp_path, "traits", [row(), row(metric="ccc")])
    scores.replace_scores(tmp_path, "pretrain", [dict(method="generic", scales="1", metric="ranking_accuracy", value=0.8, n=9)])
    scores.replace_scores(tmp_path, "traits", [row(trait="NA", value=-0.5)])
    table = facedyn.load_scores(tmp_path)
    assert tuple(table.columns) == scores.COLUMNS
    assert list(table["stage"]) == ["pretrain", "traits"]
    assert list(table["trait"]) == ["", "NA"]
    assert np.isnan(table["low"][0])
    assert table["value"][1] == -0.5
    assert list(pd.read_csv(tmp_path / "scores.csv").columns) == list(scores.COLUMNS)
    scores.replace_scores(tmp_path, "traits", [])
    assert list(scores.load_scores(tmp_path)["stage"]) == ["pretrain"]


def test_what_is_written_comes_back_typed_and_by_its_key(tmp_path):
    """Every column of a key, with texts that CSV readers like to misread."""
    odd = ScoreKey(*[f"{name}, 'x';\"=1+2" for name in ScoreKey._fields])
    plain = ScoreKey("time_shuffled", scales="1", tasks="NA", seed="0")
    scores.replace_scores(tmp_path, "traits", [row(odd, value=0.25), row(plain, value=0.5)])
    table = scores.load_scores(tmp_path)
    assert [r.key for r in scores.score_rows(table)] == [odd, plain]
    assert [scores.rows_of_key(table, key)["value"].item() for key in (odd, plain)] == [0.25, 0.5]
    numbers = {name: str(table[name].dtype) for name in scores.NUMBERS}
    assert numbers == dict.fromkeys(("value", "low", "high", "chance"), "float64") | {"n": "Int64"}
    assert all(pd.api.types.is_string_dtype(table[name]) for name in scores.COLUMNS if name not in scores.NUMBERS)
    again = [r._asdict() for r in table.itertuples(index=False)]
    scores.replace_scores(tmp_path, "traits", again)  # a row that was read may be written as it is
    pd.testing.assert_frame_equal(scores.load_scores(tmp_path), table)


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
    with pytest.raises(ValueError, match="must have the keys"):
        scores.replace_scores(tmp_path, "traits", [{name: x for name, x in row().items() if name != "n"}])
    (tmp_path / "scores.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="its columns must be"):
        scores.load_scores(tmp_path)


def test_keys_in_words():
    both = ScoreKey("mean_face", "ridge").noting("transductive", "", "people_overlap")
    assert tables.describe(both) == ("mean face", "ridge, transductive, people overlap")
    assert tables.details(LEAD._replace(scales="1", fusion="")) == "ridge, scale 1, all tasks"
    assert tables.details(ScoreKey("", "mlp", scales="1+2", tasks="talk", fusion="stacking", control="time_shuffled")) == (
        "MLP, scales 1+2, task talk, stacking fused, control time shuffled"
    )
    assert tables.method_name("representation+mean_face_minus_mean_face") == "person filters + mean face minus mean face"
    assert (LEAD.scale_numbers, ScoreKey("").scale_numbers) == ((1, 2), ())


def test_terminal_table_leads_with_the_headline_and_fits_the_terminal(tmp_path):
    lead = LEAD.noting("transductive")
    keys = [
        lead._replace(scales="1", tasks="a task with a rather long name", fusion=""),
        lead._replace(head="mlp"),
        lead._replace(fusion="predictions"),
        lead,
        lead._replace(scales="2"),
    ]
    rows = [row(ScoreKey("mean_face", "ridge"), value=0.05)]
    metrics = ("pcc", "ccc", "acc", "rmse", "r2")
    rows += [row(key, metric=m, value=0.3 + i / 100) for i, key in enumerate(keys) for m in metrics]
    rows += [row(lead, trait="openness", value=-0.25)]
    scores.replace_scores(tmp_path, "traits", rows)
    write_pretraining(tmp_path)
    table = scores.load_scores(tmp_path)
    assert tables.headline(table) == lead
    text = tables.score_table(table)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    body = [line for line in lines if "person filters" in line]
    assert "0.330 [0.230, 0.430]" in body[0]
    assert "openness" in text
    assert "−0.250" in text
    parts = ("person filters", "mean face", "Per trait", "Ranking accuracy", "Identification", "Verdicts", "usable")
    order = [text.index(word) for word in parts]
    assert order == sorted(order)
    assert "copy of the input" in text
    identified = next(line for line in lines if "split half" in line and "top1" in line)
    assert identified.split()[-2:] == ["0.021", "48"]  # chance among 48 people
    assert tables.score_table(scores.empty_scores()) == "No scores yet."
