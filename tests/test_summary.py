"""The end of a run: at most twelve lines from scores.csv, with one word on the whole."""

import pandas as pd
import pytest
from fake_workdir import write_pretraining

from data_pipelines.errors import InputError
from facedyn.report.summary import MAX_LINES, summary
from facedyn.store.scores import ScoreKey, replace_scores

LEAD = ScoreKey("representation", "ridge", scales="1+2", tasks="all", fusion="features")


def row(key, metric, value, half=0.1, n=48, **more):
    return key._asdict() | dict(metric=metric, value=value, low=value - half, high=value + half, n=n) | more


def traits(pcc, baseline=0.3, n=48):
    flat = LEAD._replace(method="linear_dynamics")
    rows = [row(LEAD, "pcc", pcc, n=n, trait="mean"), row(flat, "pcc", baseline, n=n, trait="mean")]
    rows.append(row(LEAD._replace(method="oracle"), "pcc", 0.9, n=n, trait="mean"))
    difference = LEAD._replace(method="representation_minus_linear_dynamics")
    return [*rows, row(difference, "pcc", pcc - baseline, n=n, trait="mean")]


def identified(value, n=48, half=0.05):
    key = ScoreKey("split_half", scales="1+2", unit="person")
    return [row(key, "top1", value, half, n), row(key._replace(block="spectrum"), "top1", 0.01, half, n)]


def quality(workdir, clips=4):
    table = pd.DataFrame(dict(person_id=["a", "a", "b", "c"], verdict=["ok"] * 3 + ["left_out"], n_kept=[250] * 4, fps=25.0))
    table.iloc[:clips].to_parquet(workdir / "quality.parquet")


def lines(workdir):
    found = summary(workdir).splitlines()
    assert len(found) <= MAX_LINES
    return {line.partition(":")[0].strip(): line for line in found}


def test_it_says_who_what_how_good_and_what_next(tmp_path):
    write_pretraining(tmp_path)
    quality(tmp_path)
    replace_scores(tmp_path, "fit", identified(0.9))
    replace_scores(tmp_path, "traits", traits(0.5))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("page")
    said = lines(tmp_path)
    text = "\n".join(said.values())
    assert "2 people, 30 seconds of video in 3 clips; 1 clip left out" in text
    assert said["Better than a copy of the input"].split(": ")[1].startswith("yes")
    assert "yes (" in said["Identification above chance"]
    assert "0.900 [0.850, 0.950] of 48 people, chance 0.021" in said["Identification above chance"]
    assert "mean PCC 0.500 [0.400, 0.600] of 48 people" in said["Traits"]
    assert "linear dynamics 0.300 [0.200, 0.400], paired difference 0.200 [0.100, 0.300]" in said["best baseline"]
    assert said["Verdict"].startswith("Verdict: usable. Traits: 0.500")
    assert str(tmp_path / "report" / "index.html") in said["Report"]
    assert f"--workdir={tmp_path}" in said["Next"]


@pytest.mark.parametrize(
    ("stage", "rows", "word"),
    [
        ("traits", traits(0.05), "at chance"),
        ("traits", traits(0.9, n=4), "too few people"),
        ("fit", identified(0.9), "usable"),
        ("fit", identified(0.03), "at chance"),
        ("fit", identified(0.5, n=4), "too few people"),
    ],
)
def test_one_word_of_three_with_its_reason(tmp_path, stage, rows, word):
    replace_scores(tmp_path, stage, rows)
    said = lines(tmp_path)["Verdict"]
    assert said.startswith(f"Verdict: {word}. ")
    assert len(said) > 40


def test_without_scores_there_is_nothing_to_tell(tmp_path):
    with pytest.raises(InputError, match=r"no scores\.csv"):
        summary(tmp_path)


def test_a_model_that_is_no_better_than_its_input_is_said(tmp_path):
    rows = [dict(method=m, scales="1", split="test", metric="ranking_accuracy", value=v, n=9) for m, v in
            (("generic", 0.7), ("copy_input", 0.75))]  # fmt: skip
    replace_scores(tmp_path, "pretrain", rows)
    assert lines(tmp_path)["Better than a copy of the input"] == (
        "Better than a copy of the input: no (ranking accuracy 0.700 against 0.750 at scale 1)"
    )
