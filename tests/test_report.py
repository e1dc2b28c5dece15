import base64
import dataclasses
import html
import pathlib
import re
import shutil
from html.parser import HTMLParser

import cv2
import fake_workdir as fake
import numpy as np
import pandas as pd
import pytest
from conftest import write_video

from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from facedyn.main import main
from facedyn.report import page, sections_learning
from facedyn.report.inputs import left_out, load, worst_used
from facedyn.report.tables import score_table
from facedyn.stages import report, report_views
from facedyn.stages.run import run_stages
from facedyn.stages.runtime import common
from facedyn.stages.traits.trait_scores import KEY_COLUMNS
from facedyn.store import lock
from facedyn.store.scores import ScoreKey, load_scores, replace_scores

SECTIONS = ("traits", "scatter", "comparison", "weights", "pretraining", "filters", "identification", "dynamics", "people")
SECTIONS += ("quality", "doctor", "settings")
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
    for stage in ("prepare", "pretrain", "fit", "traits"):
        fake.write_stamp(tmp_path, stage, fake.small_config(), people=[])
    return tmp_path


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
    assert all(name.startswith(("data:image/png;base64,", "#")) for name in checker.loads)
    assert not checker.tags & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert len(checker.ids) == len(set(checker.ids))
    for inside in (name[1:] for name in checker.loads if name.startswith("#")):
        assert inside in checker.ids
    assert "prefers-color-scheme: dark" in text
    # Scatters, learning curves and losses, before and after, matrix of halves, maps of people, share of frames.
    assert text.count("<svg") == 3 + 4 + 2 + 1 + 3 + 1
    # 2 people x 2 scales: window, maps with person filters, without, difference; 6 clips of 3 frames.
    assert text.count("<img") == 4 * (9 + 2 + 2 + 2) + 6 * 3


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
    assert f"those without, by {html.escape(whose)}, for" in sections_learning.dynamics(inputs, faces=True).body
    filters = sections_learning.personalisation(inputs).body
    assert f"Without person filters means {html.escape(whose)} alone." in filters
    assert re.search("<th[^>]*>without person filters", filters)
    assert "generic model" not in filters.replace("means the generic model alone.", "")
    assert "generic model" in sections_learning.pretraining(inputs).body
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
    old = load_scores(full_workdir)
    own = [
        key._asdict() | dict(zip(("value", "low", "high"), numbers)) | dict(trait="mean", metric="pcc", n=48)
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


def test_a_learning_curve_stands_beside_the_controls_of_its_own_people(full):
    """The copied input scores 0.73 on the validation people of scale 1, whose curve it is, and 0.64 on the test people."""
    own = full[1].split('id="pretraining"')[1].split("</section>")[0]
    picture, table = own.split("<table", 1)
    first = picture.split("</svg>")[0]
    assert "copy of the input 0.73" in first
    assert "copy of the input 0.64" not in picture
    assert "0.640" in table
    assert "0.730" not in table
    assert "The table below is of others" in own
    inputs = load(full[0], pictures=False)
    alone = inputs.scores[inputs.scores["split"] != "test"]  # no test people: the table is of the curve's own
    body = sections_learning.pretraining(dataclasses.replace(inputs, scores=alone)).body
    assert "0.730" in body
    assert "The table below is of others" not in body


def test_results_have_a_verdict_with_its_reason(full_workdir):
    text = make(full_workdir)
    assert "Split half, scales 1+2, unit person task, top-1: usable." in text
    assert "lies above chance, 0.021, with 48 people." in text
    scores = load_scores(full_workdir)
    few = scores[scores["stage"] == "fit"].assign(n=3)
    copied = scores["method"].eq("copy_input") & scores["split"].eq("test")
    worse = scores.assign(value=scores["value"].where(~copied, 0.9))
    replace_scores(full_workdir, "fit", few.to_dict("records"))
    replace_scores(full_workdir, "pretrain", worse[worse["stage"] == "pretrain"].to_dict("records"))
    text = make(full_workdir)
    tiles = text.split('class="tiles"')[1].split("</header>")[0]
    assert "<b>0.73</b>" not in tiles  # nobody quotes the top-1 of three people
    assert tiles.count("<b>–</b>") == 2
    assert "too few people" in tiles
    assert "Generic model, scale 1, split test, ranking accuracy: worse than the copied input." in text


def test_everything_that_comes_in_is_escaped(full):
    _, text = full
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#x27;p&#x27;)&lt;/script&gt;" in text
    parsed(text)


def test_without_faces_there_is_no_picture_of_a_person(full):
    with_faces, text = full[1], make(full[0], report__faces=False)
    parsed(text)
    assert "<img" in with_faces
    assert "<img" not in text
    assert "no picture of a person" in text
    plots_alone = re.sub(r"<svg.*?</svg>", "", text, flags=re.S)
    assert "data:image" not in plots_alone
    # What is drawn inside plots is neither a frame nor a map: of another size than any of them, and the same as with faces.
    for picture in re.findall(r"data:image/png;base64,([\w+/=\s]+)", text):
        image = cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape[:2] not in ((8, 8), (32, 32))
        assert picture in with_faces


def test_a_workdir_of_one_stage_gives_a_page_of_sentences(tmp_path):
    fake.write_quality(tmp_path, n=20)
    text = make(tmp_path)
    parsed(text)
    assert "There are no trait scores to compare." in text


def test_each_absent_input_is_a_sentence(full_workdir):
    names = ["predictions.parquet", "weights_by_site.csv"]
    names = ["quality.parquet", "metrics.jsonl", "doctor.csv", "representations/examples.npz", *(f"traits/{n}" for n in names)]
    for name in names:
        (full_workdir / name).unlink()
    shutil.rmtree(full_workdir / "representations" / "halves")
    replace_scores(full_workdir, "fit", [])
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
        "There is no traits/weights_by_site.csv",
        "There is no metrics.jsonl",
        "No one was identified",
        "There are no labels to colour it by.",
        "The data set was not examined",
    ):
        assert sentence in text


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
    table, text = pd.read_csv(full[0] / "traits" / "weights_by_site.csv"), full[1]
    part = text[text.index("What the head takes") :]
    for what, column in (("site of the U-net", "site"), ("scale", "scale"), ("task", "task")):
        of_column = part[part.index(f"predictions, by {what}.") :]
        cells = re.findall(r"<td[^>]*>([^<]*)</td>", of_column[: of_column.index("</table>")])
        shares = table.pivot_table("share_of_prediction", "trait", column, "sum", sort=False)
        assert cells == [page.percent(share) for share in shares.to_numpy().reshape(-1)]


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
        rows, figures = [], {}
        for number, block in enumerate(("", "filters", "spectrum")):
            for of_control in (False, True):
                value = 0.9 - 0.1 * number - 0.05 * of_control
                rows.append(first | dict(method=kind, block=block, value=value) | (control if of_control else {}))
                figures[block, of_control] = f"{value:.3f}"
        scores = inputs.scores[inputs.scores["metric"] != "top1"]
        own = dataclasses.replace(inputs, scores=pd.concat([scores, pd.DataFrame(rows)], ignore_index=True))
        text = sections_learning.identification(own).body
        text = text[text.index("Is it movement or looks?") :]
        cells = [re.sub(r"<[^>]*>", " ", row) for row in re.findall(r"<tr>(.*?)</tr>", text)]
        for block, row in zip(("all blocks", "filters", "spectrum"), cells[1:]):
            name = block.replace("all blocks", "")
            assert row.split()[0] == block.split()[0]
            assert row.index(figures[name, False]) < row.index(figures[name, True])
        assert "what identifies people there is looks" in text


def test_ids_stand_beside_points_only_when_asked_for(full):
    assert ">p003<" not in full[1].split('id="people"')[1].split("</section>")[0]
    named = make(full[0], report__names=True).split('id="people"')[1].split("</section>")[0]
    assert re.search(r">\s*p003\s*<", named)


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
    assert text.index('class="skip" href="#content"') < text.index("<h1>")
    assert text.count("<table") == text.count("<caption>") > 8
    assert all('alt="' in tag and 'alt=""' not in tag for tag in re.findall(r"<img[^>]*>", text))
    assert all('aria-label="' in tag and 'aria-label=""' not in tag for tag in re.findall(r"<svg[^>]*>", text))
    for name in SECTIONS:
        assert f'href="#{name}"' in text
