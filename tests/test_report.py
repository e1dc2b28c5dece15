import base64
import dataclasses
import html
import io
import pathlib
import re
import shutil
from html.parser import HTMLParser

import fake_workdir as fake
import numpy as np
import pandas as pd
import pytest
from conftest import write_video

from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from facedyn.core.identification import length_for
from facedyn.main import main
from facedyn.report import inputs as report_inputs
from facedyn.report import page, sections_movement, sections_people, sections_traits
from facedyn.report.inputs import left_out, load, worst_used
from facedyn.report.style import STYLE
from facedyn.report.tables import score_table
from facedyn.stages import report, report_views
from facedyn.stages.run import run_stages
from facedyn.stages.runtime import common
from facedyn.stages.traits.trait_scores import KEY_COLUMNS
from facedyn.store import lock
from facedyn.store.scores import ScoreKey, load_scores, replace_scores

SECTIONS = ("answer", "traits", "moves", "looks", "enough", "people", "data", "settings", "next")
EVIL = "<script>alert('p')</script>"

TRAITS = ("extraversion", "openness", "a$b_c$")
LEAD = ScoreKey("representation", "ridge", scales="1+2", tasks="all", fusion="features", note="transductive")


def write_trait_results(workdir, traits=TRAITS, n=48):
    rng = np.random.default_rng(0)
    keys = [LEAD._replace(scales=s, tasks=t, fusion="", note="") for s in ("1", "2") for t in fake.TASKS]
    keys += [LEAD._replace(fusion=f) for f in ("features", "predictions")]
    keys += [ScoreKey("mean_face", "ridge"), ScoreKey("mean_predictor"), ScoreKey("oracle", "ridge")]
    rows, predictions = [], []
    for key in keys:
        for trait in (*traits, "mean"):
            value = rng.normal(0.3, 0.1)
            numbers = dict(value=value, low=value - 0.15, high=value + 0.15, n=n)
            rows += [key._asdict() | dict(trait=trait, metric=m) | numbers for m in ("pcc", "ccc", "acc", "rmse", "r2")]
            if trait != "mean":
                label = rng.normal(0.5, 0.15, n)
                table = {name: getattr(key, name) for name in KEY_COLUMNS}
                table |= dict(trait=trait, person_id=fake.people_ids(n), fold=np.arange(n) % 5)
                predictions.append(
                    pd.DataFrame(table | dict(label=label, prediction=0.3 + 0.4 * label + rng.normal(0, 0.05, n)))
                )
    replace_scores(workdir, "traits", rows)
    (workdir / "traits").mkdir(exist_ok=True)
    pd.concat(predictions).to_parquet(workdir / "traits" / "predictions.parquet", index=False)


def fill(tmp_path):
    """Everything that the other stages leave, with a hostile person id."""
    _, rows, vectors = fake.planted(n=20, d=4)
    fake.write_table(tmp_path, rows, vectors)
    fake.write_halves(tmp_path, rows, vectors)
    fake.write_pretraining(tmp_path)
    fake.write_quality(tmp_path, n=20, person=EVIL)
    fake.write_examples(tmp_path, people=("p000", EVIL))
    write_trait_results(tmp_path)
    fake.write_weights(tmp_path, TRAITS)
    fake.write_doctor(tmp_path, EVIL)
    key = dict(n=48, scales="1+2", unit="person_task")
    halves = (("split_half", "icc", 0.6), ("swapped_dynamics", "top1", 0.04))
    add_scores(tmp_path, "fit", [key | dict(method=m, metric=c, value=v, low=v - 0.03, high=v + 0.02) for m, c, v in halves])
    for stage in ("prepare", "pretrain", "fit", "traits"):
        fake.write_stamp(tmp_path, stage, fake.small_config(), people=[])
    return tmp_path


def add_scores(workdir, stage, rows):
    old = load_scores(workdir)
    replace_scores(workdir, stage, old[old["stage"] == stage].to_dict("records") + rows)


@pytest.fixture(scope="module", autouse=True)
def data_set():
    """Every workdir has a data set, of 48 people with four clips each, whose frames are noise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "open_face_clips", lambda _, **__: fake.FakeFaceClips(np.zeros((48, 2))))
        yield


@pytest.fixture
def full_workdir(tmp_path):
    return fill(tmp_path)


@pytest.fixture(scope="module")
def full(data_set, tmp_path_factory):
    """(workdir, its page), for tests that only look."""
    workdir = fill(tmp_path_factory.mktemp("full"))
    return workdir, make(workdir, report__title=EVIL)


def make(workdir, **settings):
    summary = report.run(fake.small_config(**settings), workdir)
    text = (workdir / summary["path"]).read_text(encoding="utf-8")
    assert summary["bytes"] == len(text.encode()) < 5e6
    return text


class Checker(HTMLParser):
    """Collects what a page is made of; fails on elements that are not closed in their order."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], {}  # texts: of each section
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for name in (attrs["id"] for tag, attrs in self.open if tag == "section"):
            self.texts[name] = self.texts.get(name, "") + data

    def all(self, tag, attribute):
        return [attrs[attribute] for name, attrs in self.tags if name == tag and attribute in attrs]


def parsed(text, sections=SECTIONS):
    checker = Checker(text)
    assert tuple(checker.all("section", "id")) == tuple(sections)
    return checker


def tables_of(text):
    """{name: (headers, first column, table of the CSV)} of every table of some HTML."""
    found = {}
    for table in re.findall(r"<table.*?</table>", text, re.S):
        ((name, data),) = re.findall(
            r'<caption><span>[^<]+<a download="([^"]+)\.csv" href="data:text/csv;charset=utf-8;base64,([^"]+)"', table
        )
        assert name not in found
        head, body = table.split("<tbody>")
        first = [re.sub("<small>.*", "", cell) for cell in re.findall(r'<tr[^>]*><th scope="row"[^>]*>(.*?)</th>', body)]
        cells = re.findall('<th scope="col"[^>]*>(.*?)</th>', head)
        csv = pd.read_csv(io.BytesIO(base64.b64decode(data)), dtype=str, keep_default_na=False)
        found[name] = cells, [html.unescape(cell) for cell in first], csv
    return found


def part(text, name):
    """The HTML of a section."""
    return text.split(f'<section id="{name}"')[1].split("</section>")[0]


def test_page_has_every_section_and_needs_nothing_but_itself(full):
    _, text = full
    checker = parsed(text)
    loads = [value for _, attrs in checker.tags for name, value in attrs.items() if name in ("src", "href", "data", "poster")]
    assert all(name.startswith(("data:image/png;base64,", "data:text/csv;", "#")) for name in loads)
    assert not {tag for tag, _ in checker.tags} & {"link", "iframe", "object", "embed"}
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


def mean_pcc(key, value, low, high, **columns):
    return key._asdict() | dict(value=value, low=low, high=high, trait="mean", metric="pcc", n=48) | columns


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
    assert "Split half, scales 1+2" in said["answer"]  # the forest is of ways to recognise people
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


def test_one_map_over_the_whole_window_is_drawn_too(full_workdir):
    fake.write_examples(full_workdir, people=("p000",), scales=(1,), maps=1)
    text = make(full_workdir)
    parsed(text)
    assert text.count("<img") == 9 + 1 + 1 + 1 + 6 * 3


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


def test_command_hashes_and_seed_are_there(full):
    text = full[1]
    assert "facedyn traits --workdir=w" in text
    split = report_views.split_of(common.open_face_clips(None))
    assert split.hash in text
    assert "48 people in test" in text
    other = fake.FakeFaceClips(np.zeros((48, 2)), splits=["train"] + 47 * ["test"])
    assert report_views.split_of(other).hash != split.hash


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
