"""A workdir with everything the report is made from, its page, and what a page is made of, for the tests of the report."""

import base64
import html
import io
import re
from html.parser import HTMLParser

import fake_workdir as fake
import numpy as np
import pandas as pd
import pytest

from facedyn.stages import report
from facedyn.stages.runtime import common
from facedyn.stages.traits.trait_scores import KEY_COLUMNS
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

    VOID = ("meta", "link", "img", "br")

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


def mean_pcc(key, value, low, high, **columns):
    return key._asdict() | dict(value=value, low=low, high=high, trait="mean", metric="pcc", n=48) | columns
