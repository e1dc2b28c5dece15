"""The page of the report as a whole: its first screen, what it is made of, where it goes."""

import pathlib
import re
import shutil

import fake_workdir as fake
import numpy as np
import pandas as pd
import pytest
import report_pages
from report_pages import SECTIONS, add_scores, make, mean_pcc, parsed, part, tables_of

from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from facedyn.main import main
from facedyn.report.page import STYLE
from facedyn.stages import report_views
from facedyn.stages.run import run_stages
from facedyn.stages.runtime import common
from facedyn.store import lock
from facedyn.store.scores import ScoreKey, load_scores, replace_scores

# Fixtures.
data_set, full, full_workdir = report_pages.data_set, report_pages.full, report_pages.full_workdir


def test_page_has_every_section_and_needs_nothing_but_itself(full):
    _, text = full
    checker = parsed(text)
    loads = [value for _, attrs in checker.tags for name, value in attrs.items() if name in ("src", "href", "data", "poster")]
    assert all(name == "data:," or name.startswith(("data:image/png;base64,", "data:text/csv;", "#")) for name in loads)
    assert not {tag for tag, _ in checker.tags} & {"iframe", "object", "embed"}
    # An empty icon: else a browser asks the server for one.
    assert [attrs for tag, attrs in checker.tags if tag == "link"] == [{"rel": "icon", "href": "data:,"}]
    assert next(attrs["content"] for _, attrs in checker.tags if attrs.get("name") == "description")
    assert [attrs for tag, attrs in checker.tags if tag == "script"] == [{}]  # our own
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    ids = [attrs["id"] for _, attrs in checker.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [link[1:] for link in checker.all("a", "href") if link.startswith("#")]
    assert links == ["content", *SECTIONS]
    assert set(links) <= set(ids)
    assert set(checker.all("section", "aria-labelledby")) <= set(ids)
    assert all(len(words) > 40 for words in checker.texts.values())
    # Scatters, learning curves, reliability, matrix of halves, maps of people.
    assert text.count("<svg") == 3 + 2 + 1 + 1 + 3
    # 2 people x 2 scales: window, maps with person filters, without, difference; 6 clips of 3 frames.
    assert text.count("<img") == 4 * (9 + 2 + 2 + 2) + 6 * 3


def test_every_table_has_a_header_a_caption_and_its_csv(full):
    text = full[1]
    found = tables_of(text)
    assert len(found) == text.count("<table") > 10
    for headers, first, csv in found.values():
        assert len(first) == len(csv)
        assert list(csv.iloc[:, 0]) == first
        assert len(csv.columns) >= len(headers)
        assert all(headers)
    by_name = {"methods": "PCC", "traits": "PCC", "identification": "top-1", "ranking_generic": "Scale 1, split test"}
    for name, column in by_name.items():
        figures = pd.to_numeric(found[name][2][column])
        assert list(figures) == sorted(figures, reverse=True)
        assert {f"{column}, low", f"{column}, high"} <= set(found[name][2])
    scores = load_scores(full[0])
    own = scores[(scores["stage"] == "traits") & (scores["fusion"] == "features") & (scores["metric"] == "pcc")]
    table = found["pcc_by_trait_and_method"][2].set_index("trait")["person filters"].astype(float)
    assert table.to_dict() == pytest.approx(own.set_index("trait")["value"].to_dict(), rel=1e-5)
    assert list(table[:-1]) == sorted(table[:-1], reverse=True)
    assert table.index[-1] == "mean"


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.02, 0.1, "They are better than"), (-0.1, -0.02, "is better and simpler"), (-0.1, 0.1, "cannot be told")],
)
def test_the_first_screen_answers_with_verdict_figures_and_references(full_workdir, low, high, words):
    baseline = ScoreKey("linear_dynamics", "ridge")
    rows = [
        mean_pcc(baseline, 0.41, 0.3, 0.5),
        mean_pcc(baseline._replace(method="representation_minus_linear_dynamics"), 0.01, low, high),
    ]
    add_scores(full_workdir, "traits", rows)
    text = make(full_workdir)
    said = parsed(text).texts["answer"]
    assert re.search(r"Can I use it\?\s+Usable\.\s+The features predict the traits better than guessing\.", said)
    assert words in said
    assert "linear dynamics (0.410 [0.300, 0.500])" in said
    tiles = re.findall(r'<div class="tile">(.*?)</div>', part(text, "answer"), re.S)
    assert len(tiles) == 3
    for tile, references in zip(tiles, (("best baseline", "oracle: true tracks"), ("chance",), ("copied input", "oracle"))):
        assert all(reference in tile for reference in references)
        assert "usable" in tile
    labels = re.findall(r'<span class="what">(.*?)</span>', part(text, "answer"))[:-1]
    scores = load_scores(full_workdir)
    own = scores[(scores["fusion"] == "features") & (scores["metric"] == "pcc")].set_index("trait")["value"]
    assert labels == ["mean", *own.drop("mean").sort_values(ascending=False).index]
    advice = parsed(text).texts["next"]
    assert ("Add linear dynamics to the features" in advice) == (high < 0)
    assert "facedyn embed NEW_VIDEOS" in advice


def test_too_few_people_have_no_figure_and_other_advice(full_workdir):
    scores = load_scores(full_workdir)
    for stage in ("pretrain", "fit", "traits"):
        replace_scores(full_workdir, stage, scores[scores["stage"] == stage].assign(n=3).to_dict("records"))
    text = make(full_workdir)
    texts = parsed(text).texts
    assert "Too few people. At least 6 people are needed for any conclusion" in texts["answer"]
    assert texts["answer"].count("–") == 3
    assert "0.73" not in texts["answer"]  # nobody quotes the top-1 of three people
    assert 'class="forest"' not in text
    assert "Add people and run again" in texts["next"]


def test_a_run_without_traits_is_judged_by_identification(full_workdir):
    scores = load_scores(full_workdir)
    replace_scores(full_workdir, "traits", [])
    copied = scores["method"].eq("copy_input") & scores["split"].eq("test")
    worse = scores.assign(value=scores["value"].where(~copied, 0.9))
    replace_scores(full_workdir, "pretrain", worse[worse["stage"] == "pretrain"].to_dict("records"))
    text = make(full_workdir)
    said = parsed(text, [name for name in SECTIONS if name != "traits"]).texts
    assert "Usable. The features recognise a person again." in said["answer"]
    assert "lies above chance, 0.021, with 48 people." in said["answer"]
    assert "worse than the copied input" in said["answer"]
    labels = re.findall(r'<span class="what">(.*?)</span>', part(text, "answer"))[
        :-1
    ]  # the forest is of ways to recognise people
    assert labels == [f"In the other half of their frames{control}" for control in ("", ": somebody else&#x27;s movement")]
    assert "What can be predicted? No trait was predicted: name the trait columns" in said["next"]
    replace_scores(full_workdir, "fit", [])
    said = parsed(make(full_workdir), ("answer", "moves", "people", "data", "settings", "next")).texts
    assert "At chance. The model does not predict movement better than a copy of its input." in said["answer"]
    assert "facedyn doctor" in said["next"]


def test_everything_that_comes_in_is_escaped(full):
    _, text = full
    assert text.count("<script") == 1
    assert "&lt;script&gt;alert(&#x27;p&#x27;)&lt;/script&gt;" in text


def test_without_faces_there_is_no_picture_of_a_person(full):
    with_faces, text = full[1], make(full[0], report__faces=False)
    parsed(text)
    assert "<img" in with_faces
    assert "<img" not in text
    assert "Without pictures of people" in text
    pictures = re.findall(r"data:image/png;base64,([\w+/=\s]+)", text)
    assert len(pictures) == 1  # the matrix of similarities, the same as with faces
    assert pictures[0] in with_faces


def test_a_workdir_of_one_stage_gives_a_page_without_empty_sections(tmp_path):
    fake.write_quality(tmp_path, n=20)
    texts = parsed(make(tmp_path), ("answer", "data", "next")).texts
    assert "Can I use it? Not scored." in texts["answer"]
    for question in (
        "What can be predicted?",
        "What moves?",
        "Is it movement or looks?",
        "How much video is enough?",
        "Who is alike?",
    ):
        assert question in texts["next"]


def test_what_is_absent_is_left_out_and_named_at_the_end(full_workdir):
    names = ["predictions.parquet", "weights_by_site.csv"]
    names = ["quality.parquet", "metrics.jsonl", "doctor.csv", "representations/examples.npz", *(f"traits/{n}" for n in names)]
    for name in names:
        (full_workdir / name).unlink()
    shutil.rmtree(full_workdir / "representations" / "halves")
    replace_scores(full_workdir, "fit", [])
    replace_scores(full_workdir, "traits", [])
    fake.write_stamp(full_workdir, "traits", fake.small_config(), skipped="config.data.traits names no trait column")
    texts = parsed(make(full_workdir), ("answer", "moves", "people", "settings", "next")).texts
    for sentence in (
        "No trait was predicted: config.data.traits names no trait column.",
        "config.fit.controls=time_shuffled,swapped_dynamics",
        "config.fit.split_half=True",
        "There is no quality table",
    ):
        assert sentence in texts["next"]
    assert "There are no labels to colour it by." in texts["people"]
    assert "is left out" in texts["people"]  # people with themselves, as there are no halves


def test_nothing_is_reported_of_a_folder_without_a_stage(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "open_face_clips", open_face_clips)
    with pytest.raises(InputError, match=r"There is no folder .*/new: run the stage prepare first"):
        run_stages("report", fake.small_config(), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"nothing to report in .*/empty, as no stage was run there: run the stage prepare"):
        run_stages("report", fake.small_config(), tmp_path / "empty")
    assert not (tmp_path / "empty" / "report").exists()
    command = ["report", f"--config={root}/configs/videos.py", f"--workdir={tmp_path / 'empty'}"]
    assert main(command) == 2
    assert capsys.readouterr().err.count("facedyn: ") == 1
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_page_can_be_made_beside_a_run_that_holds_the_workdir(full_workdir, tmp_path_factory, capsys):
    config, out = fake.small_config(), tmp_path_factory.mktemp("elsewhere") / "page.html"

    def state():
        return {path: path.stat().st_mtime_ns for path in full_workdir.rglob("*") if path.name != lock.LOCK}

    with lock.held(full_workdir):
        before = state()
        with pytest.raises(InputError, match="is in use by"):
            run_stages("report", config, full_workdir)
        run_stages("report", config, full_workdir, read_only=True, out=str(out))
        run_stages("report", config, full_workdir, read_only=True)
        assert state() == before
    parsed(out.read_text(encoding="utf-8"))
    named, temporary = re.findall(r"^Report: (.*)$", capsys.readouterr().out, re.M)
    assert named == str(out)
    assert pathlib.Path(temporary).read_bytes() == out.read_bytes()
    for place, words in ((full_workdir / "p.html", "must not change"), (out.with_suffix(".pdf"), "must end with .html")):
        with pytest.raises(InputError, match=words):
            run_stages("report", config, full_workdir, read_only=True, out=str(place))
    for stage, options in (("fit", dict(read_only=True)), ("report", dict(out=str(out)))):
        with pytest.raises(InputError, match="options of the stage report"):
            run_stages(stage, config, full_workdir, **options)


def test_a_workdir_without_its_data_set_still_has_a_page(full_workdir, monkeypatch):
    def absent(_, **__):
        raise InputError("There is no finished dataset of face clips in there.")

    monkeypatch.setattr(common, "open_face_clips", absent)
    text = make(full_workdir)
    parsed(text)
    assert text.count("There is no finished dataset of face clips in there.") == 2  # no pictures of clips, no hash of splits


def test_command_hashes_and_seed_are_there(full):
    text = full[1]
    assert "facedyn traits --workdir=w" in text
    split = report_views.split_of(common.open_face_clips(None))
    assert split.hash in text
    assert "48 people in test" in text
    other = fake.FakeFaceClips(np.zeros((48, 2)), splits=["train"] + 47 * ["test"])
    assert report_views.split_of(other).hash != split.hash


def test_keyboard_and_screen_reader(full):
    text = full[1]
    checker = parsed(text)
    assert text.index('class="skip" href="#content"') < text.index("<h1>")
    assert all(attrs.get("alt") for tag, attrs in checker.tags if tag == "img")
    assert all(attrs.get("aria-label") and attrs["role"] == "img" for tag, attrs in checker.tags if tag == "svg")
    scrolling = [attrs for _, attrs in checker.tags if attrs.get("class") in ("scroll", "wide")]
    assert scrolling
    assert all(attrs["tabindex"] == "0" and attrs["role"] == "region" and attrs["aria-label"] for attrs in scrolling)
    levels = [int(tag[1]) for tag, _ in checker.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    heads = [f"{name}-title" for name in SECTIONS]
    assert [attrs["id"] for tag, attrs in checker.tags if tag == "h2"] == heads


def test_the_picture_of_the_first_screen_is_small(root):
    assert (root / "docs" / "report.png").stat().st_size < 300_000


def luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def mixed(colour, ground, share):
    channels = [round(share * int(colour[i : i + 2], 16) + (1 - share) * int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#{:02x}{:02x}{:02x}".format(*channels)


@pytest.mark.parametrize("dark", [False, True])
def test_every_colour_of_text_can_be_read_on_every_background(dark):
    """A contrast of 4.5, as WCAG 2 asks for at level AA."""
    found = dict(re.findall(r"--(\w+): (#\w{6})", STYLE.split("@media")[1 if dark else 0]))
    deepest = float(re.search(r"var\(--share\) \* (\d+)%", STYLE).group(1)) / 100
    pairs = [(ink, ground) for ink in ("ink", "muted", "c1", "c2", "c3") for ground in (found["page"], found["card"])]
    pairs += [("ink", mixed(found["c1"], found["page"], share * deepest)) for share in (0.25, 0.5, 1.0)]
    for ink, ground in pairs:
        brightest, darkest = sorted((luminance(found[ink]), luminance(ground)), reverse=True)
        assert (brightest + 0.05) / (darkest + 0.05) >= 4.5, (ink, ground)
