"""The sections of the report: what stands in them, by the tables of a workdir."""

import dataclasses
import html
import re

import fake_workdir as fake
import numpy as np
import pandas as pd
import pytest
import report_pages
from conftest import write_video
from report_pages import LEAD, add_scores, make, mean_pcc, parsed, part, tables_of

from facedyn.core.identification import length_for
from facedyn.report import inputs as report_inputs
from facedyn.report import page, sections_movement, sections_people, sections_traits
from facedyn.report.inputs import left_out, load, worst_used
from facedyn.report.tables import score_table
from facedyn.stages import report_views
from facedyn.store.scores import load_scores

# Fixtures.
data_set, full, full_workdir = report_pages.data_set, report_pages.full, report_pages.full_workdir


def test_figures_are_those_of_the_table(full):
    scores, text = load_scores(full[0]), full[1]
    shown = scores[(scores["stage"] == "traits") & (scores["fusion"] == "features")]
    others = scores[(scores["stage"] != "traits") & (scores["split"] != "validation")]
    for row in pd.concat([shown, others]).itertuples():
        assert f"{row.value:.3f}".replace("-", "−").replace("−0.000", "0.000") in text
    assert "transductive" in text
    assert "person filters" in text
    assert "no face was found in any of 200 frames" in text
    assert "fit.learning_rate" in text
    assert "a$b_c$" in text  # not read as mathematics


@pytest.mark.parametrize(("solver", "whose"), [("adam", "the generic model"), ("least_squares", "everybody's common filters")])
def test_what_person_filters_are_compared_with_is_named_by_the_solver_of_the_fit(full_workdir, solver, whose):
    fake.write_stamp(full_workdir, "fit", fake.small_config(fit__solver=solver))
    inputs = load(full_workdir, pictures=True)
    body = sections_movement.moves(inputs, faces=True).body
    assert f"those without, by {html.escape(whose)}, for" in body
    assert f"without filters means {html.escape(whose)}." in body
    assert "without person filters" in tables_of(body)["ranking_filters"][1]
    assert "generic model" in tables_of(body)["ranking_generic"][1]
    fitted, pretrained = (score_table(inputs[stage]) for stage in ("fit", "pretrain"))
    assert "without person filters" in fitted
    assert "generic" not in fitted
    assert "generic model" in pretrained


def test_findings_are_sentences_with_figure_and_interval(full_workdir):
    figures = {
        LEAD._replace(method="finding_fused_tasks"): (0.08, 0.02, 0.14),
        LEAD._replace(method="finding_fused_tasks", fusion="stacking"): (0.05, -0.02, 0.12),
        LEAD._replace(method="finding_multi_scale"): (0.01, -0.04, 0.06),
        LEAD._replace(method="finding_task_matters", tasks="best"): (-0.2, -0.3, -0.1),
    }
    add_scores(full_workdir, "traits", [mean_pcc(key, *numbers) for key, numbers in figures.items()])
    text = make(full_workdir)
    parsed(text)
    sentences = (
        "Tasks fused predict better than the best single task: features fused 0.08 [0.02, 0.14]; stacking 0.05 [−0.02, 0.12].",
        "Whether several scales predict better than the best single scale cannot be told: features fused 0.01 [−0.04, 0.06].",
        "worse than the one that looks worst: features fused −0.20 [−0.30, −0.10].",
    )
    for sentence in sentences:
        assert sentence in text
    assert not any("finding" in " ".join(first) for _, first, _ in tables_of(text).values())  # no rows among the figures
    printed = score_table(load_scores(full_workdir))
    assert "Findings: paired difference" in printed
    assert "0.080 [0.020, 0.140]" in printed


def test_a_learning_curve_stands_beside_the_controls_of_its_own_people(full):
    """The copied input scores 0.73 on the validation people of scale 1, whose curve it is, and 0.64 on the test people."""
    own = part(full[1], "moves")
    picture = own.split("Learning curves</summary>")[1].split("</details>")[0]
    first = picture.split("</svg>")[0]
    assert "copy of the input 0.73" in first
    assert "copy of the input 0.64" not in picture
    copied = tables_of(own)["ranking_generic"][2].set_index("ranking accuracy").loc["copy of the input"]
    assert copied["Scale 1, split test"] == "0.64"
    assert "The table above is of others" in own
    inputs = load(full[0], pictures=False)
    alone = inputs.scores[inputs.scores["split"] != "test"]  # no test people: the table is of the curve's own
    body = sections_movement.moves(dataclasses.replace(inputs, scores=alone), faces=False).body
    assert "0.73" in tables_of(body)["ranking_generic"][2].to_numpy()
    assert "The table above is of others" not in body


def test_one_map_over_the_whole_window_is_drawn_too(full_workdir):
    fake.write_examples(full_workdir, people=("p000",), scales=(1,), maps=1)
    text = make(full_workdir)
    parsed(text)
    assert text.count("<img") == 9 + 1 + 1 + 1 + 6 * 3


def test_a_left_out_clip_is_shown_where_its_video_can_be_read(full_workdir):
    path = full_workdir / "quality.parquet"
    table = pd.read_parquet(path)
    out = table.index[table["verdict"] != "ok"]
    write_video(full_workdir / "turned.avi", np.random.default_rng(0).integers(0, 255, (20, 96, 64, 3), dtype=np.uint8))
    table.loc[out[0], "path"] = str(full_workdir / "turned.avi")
    (full_workdir / "broken.avi").write_text("not a video")
    table.loc[out[1], "path"] = str(full_workdir / "broken.avi")
    table.to_parquet(path, index=False)
    text = make(full_workdir)
    parsed(text)
    assert text.count("frame of the clip p003-talk-0") == 1
    assert "frame of the clip p007-talk-0" not in text


def test_worst_clips_are_those_that_lost_or_had_flagged_most(full_workdir):
    table = pd.read_parquet(full_workdir / "quality.parquet").assign(n_kept=200, n_found=200, jitter=0.0)
    assert worst_used(table) == []
    table["n_blurred"] = 0
    table.loc[5, "n_kept"], table.loc[6, "n_blurred"], table.loc[9, "jitter"] = 100, 150, 2.0
    table.loc[3, "n_blurred"] = 200  # left out already
    found = worst_used(table)
    assert [clip for clip, _, _ in found] == ["p006-talk-0", "p005-talk-0", "p009-talk-0"]
    assert [amiss for _, _, amiss in found] == ["blurred in 75 %", "50 % of its frames lost", "jitter 2.00 pixels"]
    assert len(left_out(table)) == 2


def test_shares_are_summed_for_each_site_scale_and_task(full):
    table, found = pd.read_csv(full[0] / "traits" / "weights_by_site.csv"), tables_of(full[1])["shares_of_prediction"][2]
    for column, prefix in (("site", "site "), ("scale", "scale "), ("task", "task ")):
        for (trait, value), share in table.groupby(["trait", column])["share_of_prediction"].sum().items():
            assert float(found.set_index("trait").loc[trait, f"{prefix}{value}"]) == pytest.approx(share, rel=1e-4)
    assert page.percentage(0.344) == "34 %"
    assert page.percentage(-0.001) == page.percentage(0.001) == "0 %"


@pytest.mark.parametrize(("shift", "there"), [(0.0, True), (0.9, False)])
def test_acc_is_shown_only_where_labels_lie_in_the_unit_interval(full_workdir, shift, there):
    path = full_workdir / "traits" / "predictions.parquet"
    table = pd.read_parquet(path)
    table.assign(label=table["label"] + shift).to_parquet(path, index=False)
    headers = tables_of(sections_traits.predicted(load(full_workdir, pictures=False)).body)["methods"][0]
    assert ("ACC" in headers) == there
    assert {"PCC", "CCC"} <= set(headers)


def test_identification_by_each_block_stands_beside_its_controls(full):
    """Across sessions where there are any, or else by halves, whose controls bear their own name as a method."""
    inputs = load(full[0], pictures=False)
    first = inputs["fit"][inputs["fit"]["metric"] == "top1"].iloc[0].to_dict() | dict(control="", block="", scales="1+2")
    for kind, control in (("split_half", dict(method="swapped_dynamics")), ("cross_session", dict(control="swapped_dynamics"))):
        for looks, words in ((0.05, "Some of it is looks"), (0.9, "It is movement")):
            rows, figures = [], []
            for number, block in enumerate(("", "filters", "spectrum")):
                figures.append((0.95 - 0.1 * number, 0.95 - 0.1 * number - looks))
                for value, more in zip(figures[-1], ({}, control)):
                    rows.append(first | dict(method=kind, block=block, value=value, low=value - 0.04, high=value + 0.04) | more)
            scores = pd.concat([inputs.scores[inputs.scores["metric"] != "top1"], pd.DataFrame(rows)], ignore_index=True)
            body = sections_movement.looks(dataclasses.replace(inputs, scores=scores)).body
            table = tables_of(body)["movement_or_looks"][2].set_index("block")
            assert list(table.index) == ["all blocks", "filters", "spectrum"]
            assert table[["as filmed", "somebody else's movement"]].astype(float).to_numpy() == pytest.approx(np.array(figures))
            assert f"<p>{words}: " in body
            assert "what identifies people there is looks" in body


@pytest.mark.parametrize(("icc", "low"), [(0.6, 0.57), (0.9, 0.85)])
def test_enough_video_is_predicted_from_halves(full_workdir, icc, low):
    """200 frames at 25 a second, of two tasks: a half is of 16 seconds."""
    inputs = load(full_workdir, pictures=False)
    views = report_inputs.Views(alike=report_views.alike(full_workdir / "representations", inputs.quality))
    assert views.alike.half_seconds == 16
    scores = inputs.scores.copy()
    scores.loc[scores["metric"] == "icc", ["value", "low"]] = icc, low
    body = sections_people.enough(dataclasses.replace(inputs, scores=scores, views=views)).body
    table = tables_of(body)["seconds_for_reliability"][2].set_index("for")
    for wanted in (0.7, 0.8, 0.9):
        row = table.loc[f"reliability {wanted}"]
        assert int(row["seconds per person"]) == round(16 * length_for(icc, wanted))
        assert int(row["at worst"]) == round(16 * length_for(low, wanted))
    assert "prediction by the Spearman-Brown formula" in body
    scores.loc[scores["metric"] == "icc", "value"] = -0.1
    body = sections_people.enough(dataclasses.replace(inputs, scores=scores, views=views)).body
    assert "no length of video can be predicted" in body
    assert "<svg" not in body


def test_people_who_are_alike_are_named(tmp_path):
    """A pair with the same numbers leads the list, and each is named as the other's nearest."""
    _, rows, vectors = fake.planted(n=20, d=4)
    of_person = {name: np.array([row["person_id"] == name for row in rows]) for name in ("p004", "p009")}
    vectors[of_person["p009"]] = vectors[of_person["p004"]]
    fake.write_table(tmp_path, rows, vectors)
    for written in (lambda *_: None, fake.write_halves):
        written(tmp_path, rows, vectors)
        own = part(make(tmp_path), "people")
        first = tables_of(own)["most_similar_people"][2].iloc[0]
        assert {first["person"], first["and"]} == {"p004", "p009"}
        assert re.search("<title>p004: (own other half [0-9.]+, )?most similar other person p009", own)
    assert "own other half" in own


def test_differences_of_maps_are_capped_and_named_where_nothing_is_seen(full_workdir):
    path = full_workdir / "representations" / "examples.npz"
    with np.load(path) as file:
        arrays = dict(file)
    for factor, words in (
        (0.93, "Colours of the difference 8.0 times"),
        (0.99, "no visible difference"),
        (1.0, "no visible difference"),
    ):
        np.savez(path, **arrays | {"generic": factor * arrays["fitted"]})
        body = sections_movement.moves(load(full_workdir, pictures=True), faces=True).body
        assert body.count(f"{words}{' as strong as those above.' * ('8.0' in words)}</") == 4
    assert body.count("<img") == 4 * (9 + 2 + 2)


def test_ids_stand_beside_points_only_when_asked_for(full):
    beside = '<text class="name" x="[0-9.]+" y="[0-9.]+">p003</text>'
    assert not re.search(beside, part(full[1], "people"))
    assert re.search(beside, part(make(full[0], report__names=True), "people"))


def test_many_large_examples_keep_the_page_under_five_megabytes(full_workdir):
    rng = np.random.default_rng(0)
    people = [f"p{i:03d}" for i in range(8) for _ in range(4)]
    n, size = len(people), 112
    frames = rng.integers(0, 255, (n, 9, size, size, 3), dtype=np.uint8)
    maps = rng.normal(size=(n, 2, size, size, 3)).astype(np.float32)
    columns = dict(
        frame=frames[:, 4], windows=frames, generic=maps, fitted=2 * maps, person_id=people, scale=np.arange(n) % 4 + 1
    )
    np.savez(full_workdir / "representations" / "examples.npz", **columns)
    text = make(full_workdir)  # which looks at the size
    assert re.search(r"\d more people are in representations/examples.npz", text)
