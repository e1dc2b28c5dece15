import re
from html.parser import HTMLParser

import fake_workdir as fake
import numpy as np
import pandas as pd
import pytest

from facedyn.report import plots
from facedyn.stages import report
from facedyn.store.scores import load_scores, replace_scores, score_table

SECTIONS = ("traits", "scatter", "comparison", "pretraining", "filters", "dynamics", "quality", "settings")
EVIL = "<script>alert('p')</script>"


def write_trait_results(workdir, traits=("extraversion", "openness", "a$b_c$"), n=48):
    rng = np.random.default_rng(0)
    settings = [f"ridge;scales={s};tasks={t}" for s in ("1", "2") for t in fake.TASKS]
    settings += [f"ridge;scales=1+2;tasks=all;fusion={f};transductive" for f in ("features", "predictions")]
    methods = [("representation", s) for s in settings] + [("mean_face", "ridge"), ("mean_predictor", ""), ("oracle", "ridge")]
    rows, predictions = [], []
    for method, setting in methods:
        for trait in (*traits, "mean"):
            value = rng.normal(0.3, 0.1)
            numbers = dict(value=value, low=value - 0.15, high=value + 0.15, n=n)
            rows += [
                dict(method=method, setting=setting, trait=trait, metric=m) | numbers
                for m in ("pcc", "ccc", "acc", "rmse", "r2")
            ]
            if trait != "mean":
                label = rng.normal(0.5, 0.15, n)
                table = dict(method=method, setting=setting, trait=trait, person_id=fake.people_ids(n), fold=np.arange(n) % 5)
                predictions.append(
                    pd.DataFrame(table | dict(label=label, prediction=0.3 + 0.4 * label + rng.normal(0, 0.05, n)))
                )
    replace_scores(workdir, "traits", rows)
    (workdir / "traits").mkdir()
    pd.concat(predictions).to_parquet(workdir / "traits" / "predictions.parquet", index=False)


def fill(tmp_path):
    """Everything that the other stages leave, with a hostile person id."""
    _, rows, vectors = fake.planted(n=20, d=4)
    fake.write_table(tmp_path, rows, vectors)
    fake.write_pretraining(tmp_path)
    fake.write_quality(tmp_path, n=20, person=EVIL)
    fake.write_examples(tmp_path, people=("p000", EVIL))
    write_trait_results(tmp_path)
    for stage in ("prepare", "pretrain", "fit", "traits"):
        fake.write_stamp(tmp_path, stage, fake.small_config(), people=[])
    return tmp_path


@pytest.fixture
def full_workdir(tmp_path):
    return fill(tmp_path)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """(workdir, its page), for tests that only look."""
    workdir = fill(tmp_path_factory.mktemp("full"))
    return workdir, make(workdir, report__title=EVIL)


def make(workdir, **settings):
    summary = report.run(fake.small_config(**settings), workdir)
    text = (workdir / summary["path"]).read_text(encoding="utf-8")
    assert summary["bytes"] == len(text.encode()) < 5e6
    return text


class Checker(HTMLParser):
    """Collects sections and what a browser would load; fails on elements that are not closed in their order."""

    VOID = ("meta", "img", "br")

    def __init__(self):
        super().__init__()
        self.open, self.sections, self.loads, self.tags, self.ids = [], [], [], set(), []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        self.loads += [attrs[name] for name in ("src", "href", "xlink:href", "data", "poster") if name in attrs]
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag == "section":
            self.sections.append(attrs["id"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text):
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.sections == list(SECTIONS)
    return checker


def test_page_has_every_section_and_needs_nothing_but_itself(full):
    _, text = full
    checker = parsed(text)
    assert all(load.startswith(("data:image/png;base64,", "#")) for load in checker.loads)
    assert not checker.tags & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert len(checker.ids) == len(set(checker.ids))
    for inside in (load[1:] for load in checker.loads if load.startswith("#")):
        assert inside in checker.ids
    assert "prefers-color-scheme: dark" in text
    assert text.count("<svg") == 3 + 1 + 2 + 2 + 1  # scatters, forest, curves, before and after, quality
    assert text.count("<img") == 4 * (9 + 2 + 2 + 2)  # 2 people x 2 scales: window, maps, over the face, generic


def test_figures_are_those_of_the_table(full):
    scores, text = load_scores(full[0]), full[1]
    shown = scores[(scores["stage"] == "traits") & scores["setting"].str.contains("fusion=features")]
    for row in pd.concat([shown, scores[scores["stage"] != "traits"]]).itertuples():
        assert f"{row.value:.3f}".replace("-", "−").replace("−0.000", "0.000") in text
    assert "transductive" in text
    assert "person filters" in text
    assert "no face was found in any of 200 frames" in text
    assert "fit.learning_rate" in text
    assert "a$b_c$" in text  # not read as mathematics


def test_findings_are_sentences_with_figure_and_interval(full_workdir):
    setting = "ridge;scales=1+2;tasks=all;fusion={};transductive"
    figures = {
        ("finding_fused_tasks", setting.format("features")): (0.08, 0.02, 0.14),
        ("finding_fused_tasks", setting.format("stacking")): (0.05, -0.02, 0.12),
        ("finding_multi_scale", setting.format("features")): (0.01, -0.04, 0.06),
        ("finding_task_matters", "ridge;scales=1+2;tasks=best;fusion=features;transductive"): (-0.2, -0.3, -0.1),
    }
    old = load_scores(full_workdir)
    own = [
        dict(zip(("method", "setting", "value", "low", "high"), (*key, *numbers))) | dict(trait="mean", metric="pcc", n=48)
        for key, numbers in figures.items()
    ]
    replace_scores(full_workdir, "traits", old[old["stage"] == "traits"].to_dict("records") + own)
    text = make(full_workdir)
    parsed(text)
    sentences = (
        "Tasks fused predict better than the best single task: features fused 0.08 [0.02, 0.14]; stacking 0.05 [−0.02, 0.12].",
        "Whether several scales predict better than the best single scale cannot be told: features fused 0.01 [−0.04, 0.06].",
        "worse than the one that looks worst: features fused −0.20 [−0.30, −0.10].",
    )
    for sentence in sentences:
        assert sentence in text
    assert "finding" not in text.split("<h2")[1]  # differences are no rows among the figures
    printed = score_table(load_scores(full_workdir))
    assert "Findings: paired difference" in printed
    assert "0.080 [0.020, 0.140]" in printed


def test_everything_that_comes_in_is_escaped(full):
    _, text = full
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#x27;p&#x27;)&lt;/script&gt;" in text
    parsed(text)


def test_without_faces_there_is_no_picture_of_a_person(full_workdir):
    text = make(full_workdir, report__faces=False)
    parsed(text)
    assert "<img" not in text
    assert "data:image" not in text
    assert "no picture of a person" in text


def test_an_empty_workdir_gives_a_page_of_sentences(tmp_path):
    checker = parsed(make(tmp_path))
    assert "svg" not in checker.tags


def test_each_absent_input_is_a_sentence(full_workdir):
    for name in ("traits/predictions.parquet", "quality.parquet", "metrics.jsonl", "representations/examples.npz"):
        (full_workdir / name).unlink()
    replace_scores(full_workdir, "traits", [])
    fake.write_stamp(full_workdir, "traits", fake.small_config(), skipped="config.data.traits names no trait column")
    text = make(full_workdir)
    parsed(text)
    for sentence in (
        "No trait was predicted: config.data.traits names no trait column.",
        "There are no predictions to draw.",
        "There are no trait scores to compare.",
        "There are no examples",
        "There is no quality table.",
    ):
        assert sentence in text


def test_one_map_over_the_whole_window_is_drawn_too(full_workdir):
    fake.write_examples(full_workdir, people=("p000",), scales=(1,), maps=1)
    text = make(full_workdir)
    parsed(text)
    assert text.count("<img") == 9 + 1 + 1 + 1


def test_plots_take_the_pages_colours_and_font():
    svg = plots.scatter("s", "trait", np.linspace(0, 1, 9), np.linspace(0, 1, 9), "PCC 1.00")
    assert "var(--ink)" in svg
    assert "var(--c1)" in svg
    assert "#0" not in re.sub(r'(xlink:)?href="#[^"]*"|url\(#[^)]*\)', "", svg)
    assert "DejaVu" not in svg


def test_thousands_of_people_keep_the_page_small():
    points = np.random.default_rng(0).normal(size=(2, 20000))
    assert len(plots.scatter("s", "trait", *points, "")) < 200_000


def test_labels_of_lines_do_not_overlap():
    places = plots._apart([0.5, 0.52, 0.9, 0.51], 0.05)
    assert np.diff(sorted(places)).min() >= 0.05 - 1e-9
    assert places[2] == 0.9
