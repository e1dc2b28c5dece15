"""A forgotten person is in no byte of the workdir, also when the command was killed on the way; the others stay."""

import io
import json
import shutil
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from array_record.python import array_record_module
from conftest import FORGOTTEN

import facedyn
from data_pipelines.dataset import forgetting, packing, tfds_metadata
from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.dataset.forgetting import Person
from facedyn.main import main
from facedyn.stages import forget
from facedyn.store import site_files


def contents(path):
    """The bytes of a file, and what they hold unpacked."""
    raw = path.read_bytes()
    yield raw
    if path.suffix == ".parquet":
        sink, table = io.BytesIO(), pq.read_table(path)
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        yield sink.getvalue()
    elif ".array_record" in path.name:
        reader = array_record_module.ArrayRecordReader(str(path))
        yield from reader.read_all()
        reader.close()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield archive.read(name)


def holding(folder, needles):
    """Files in which one of the needles is."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(needle in content for content in contents(path) for needle in needles)
    } | {str(path.relative_to(folder)) for path in folder.rglob("*") if any(n in str(path.name).encode() for n in needles)}


@pytest.fixture(scope="module")
def needles(workdir):
    """The id, and the person's frames, as the dataset keeps them and as pixels."""
    reader = open_face_clips(workdir / "data")
    own = [i for i, clip in enumerate(reader.clips) if clip.person_id == FORGOTTEN]
    assert len(own) == 2
    encoded = [bytes(image) for i in own for image in list(reader.encoded(i))[::7]]
    return [FORGOTTEN.encode(), *encoded, *(reader.frames(i, [n])[0].tobytes() for i in own for n in (0, 9, 20))]


@pytest.fixture
def copied(workdir, tmp_path):
    """A copy of the run, with crops of a prepare that was broken off."""
    shutil.copytree(workdir, tmp_path / "w")
    (tmp_path / "w" / "data" / ".face.~unfinished~1.zip").write_text(FORGOTTEN)
    return tmp_path / "w"


def ask(workdir, person=FORGOTTEN):
    return main(["forget", f"--workdir={workdir}", f"--person={person}"])


def test_no_byte_is_left_and_the_others_are_as_before(copied, workdir, needles, capsys):
    there = holding(copied, needles)
    assert {"quality.parquet", "stages/fit.json", "stages/pretrain.json", "traits/folds.csv"} <= there
    assert any("array_record" in name for name in there)
    assert any(name.startswith("representations/halves/") for name in there)
    assert ask(copied) == 0
    assert holding(copied, needles) == set()
    said = capsys.readouterr().out
    assert f"The generic model was trained on '{FORGOTTEN}'" in said
    assert f"The trait heads were trained on '{FORGOTTEN}'" in said
    assert "not touched, as it is yours" in said
    assert ask(copied) == 0
    said = capsys.readouterr().out
    assert f"'{FORGOTTEN}' was forgotten here before" in said
    assert "is still there (generic model, trait heads): retrain it" in said
    assert holding(copied, needles) == set()

    before, after = (open_face_clips(w / "data") for w in (workdir, copied))
    others = {clip.clip_id: i for i, clip in enumerate(before.clips) if clip.person_id != FORGOTTEN}
    assert {clip.clip_id for clip in after.clips} == set(others)
    for i, clip in enumerate(after.clips):
        old = before.clips[others[clip.clip_id]]
        assert (clip.person_id, clip.task, clip.split, clip.fps) == (old.person_id, old.task, old.split, old.fps)
        np.testing.assert_array_equal(clip.traits, old.traits)
        assert [bytes(x) for x in after.encoded(i)] == [bytes(x) for x in before.encoded(others[clip.clip_id])]
    rows, vectors = facedyn.load_representations(workdir)
    own = (rows["person_id"] == FORGOTTEN).to_numpy()
    new_rows, new_vectors = facedyn.load_representations(copied)
    pd.testing.assert_frame_equal(new_rows, rows[~own].reset_index(drop=True))
    np.testing.assert_array_equal(new_vectors, vectors[~own])
    scored = pd.read_parquet(workdir / "traits" / "predictions.parquet")["person_id"].nunique()
    assert pd.read_parquet(copied / "traits" / "predictions.parquet")["person_id"].nunique() == scored - 1


def test_the_next_run_refits_nobody_and_scores_without_the_person(copied, needles, arguments, blob_manifest, capsys):
    assert ask(copied) == 0
    assert f"take '{FORGOTTEN}' out of {blob_manifest}" in capsys.readouterr().out
    whole = blob_manifest.read_text()
    blob_manifest.write_text("".join(line for line in whole.splitlines(keepends=True) if FORGOTTEN not in line))
    try:
        assert main(arguments("run", copied)) == 0
    finally:
        blob_manifest.write_text(whole)
    said = "".join(capsys.readouterr())
    assert f"The dataset in {copied / 'data'} is up to date." in said
    assert "pretrain: done before, unchanged" in said
    assert said.count("11 of 11 units are in the table already") == 2 * 3  # scales, halves
    scores = facedyn.load_scores(copied)
    assert scores.loc[scores["stage"] == "traits", "n"].max() == 11
    assert holding(copied, needles) == set()
    assert (copied / "report" / "index.html").is_file()


@pytest.mark.parametrize(
    ("person", "sentence"),
    [
        ("p04", "The generic model took the step at which it stopped from 'p04'"),
        ("p07", "The generic model's principal components were learnt from 'p07'"),
        ("p08", "The trait heads were trained on 'p08'"),
    ],
)
def test_it_says_what_was_learnt_from_whom(copied, capsys, person, sentence):
    (copied / site_files.FOLDER).mkdir()
    site_files.path(copied, 1).write_bytes(b"")
    stamp = json.loads((copied / "stages" / "fit.json").read_text())
    stamp["summary"]["basis_from"] = ["p07"]
    (copied / "stages" / "fit.json").write_text(json.dumps(stamp))
    assert ask(copied, person) == 0
    said = capsys.readouterr().out
    assert sentence in said
    assert ("generic model" in said) == (person != "p08")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["first file", "fifth file", "dataset", "swap", "cleaning", "metadata", "stamps", "last"])
def test_killed_anywhere_the_same_command_goes_on(copied, needles, monkeypatch, capsys, place):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    calls, in_file = [], forgetting.forget_in_file

    def killed_at(number):
        def counted(*args, **options):
            calls.append(args)
            return killed() if len(calls) == number else in_file(*args, **options)

        return counted

    module, name, double = {
        "first file": (forgetting, "forget_in_file", killed_at(1)),
        "fifth file": (forgetting, "forget_in_file", killed_at(5)),
        "dataset": (packing, "pack", killed),
        "swap": (packing, "_move", killed),
        "cleaning": (packing, "remove_parts", killed),
        "metadata": (tfds_metadata, "finish", killed),
        "stamps": (forget, "_restamp", killed),
        "last": (forget, "_still_names", killed),
    }[place]
    monkeypatch.setattr(module, name, double)
    assert ask(copied) == 130
    monkeypatch.undo()
    assert ask(copied, "p07" if place == "stamps" else FORGOTTEN) == 0  # another person's turn comes behind
    said = capsys.readouterr().out
    assert f"The generic model was trained on '{FORGOTTEN}'" in said
    assert holding(copied, needles) == set()
    assert not (copied / forget.JOURNAL).exists()


def test_ids_that_resemble_the_person_s_stay(tmp_path):
    person = Person("p1", frozenset({"p1/talk", "p1-2"}))
    table = pd.DataFrame({"person_id": ["p1", "p10", "p1-3"], "unit_id": ["p1/talk", "p10/talk", "p1-3/talk"]})
    table["person_id"] = table["person_id"].astype("category")
    table.to_parquet(tmp_path / "t.parquet")
    table.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.json").write_text('{"summary": {"people": ["p1", "p10"], "p1/talk": 3}, "config": {"tasks": ["p1"]}}')
    (tmp_path / "t.jsonl").write_text('{"a": "p1-2"}\n{"a": "p1-3"}\n')
    (tmp_path / "broken.parquet").write_text("p1")
    for name, gone in (("t.parquet", 1), ("t.csv", 1), ("t.json", 2), ("t.jsonl", 1), ("broken.parquet", 0)):
        assert forgetting.forget_in_file(tmp_path / name, person) == gone
        assert forgetting.forget_in_file(tmp_path / name, person) == 0
    assert pd.read_parquet(tmp_path / "t.parquet")["person_id"].tolist() == ["p10", "p1-3"]
    assert pd.read_csv(tmp_path / "t.csv")["person_id"].tolist() == ["p10", "p1-3"]
    assert '"p10"' in (tmp_path / "t.json").read_text()
    assert '"tasks": [\n   "p1"' in (tmp_path / "t.json").read_text()
    assert not any(b"p1/talk" in content for content in contents(tmp_path / "t.parquet"))


@pytest.mark.parametrize(("person", "nearest"), [("P03-Aurora", FORGOTTEN), ("p03-auror", FORGOTTEN), ("p7", "p07"), ("", "")])
def test_one_who_never_was_there_is_refused(copied, capsys, person, nearest):
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    assert ask(copied, person) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert nearest in said.err
    assert "is left" not in said.out + said.err
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_a_dry_run_lists_all_that_goes_and_changes_nothing(copied, capsys):
    def listed(words):
        lines = [line.removeprefix("forget: ") for line in capsys.readouterr().out.splitlines() if line.endswith(words)]
        counts = {}
        for line in lines:
            name, count = line.removesuffix(words).rsplit(": ", 1)
            name = name if name.startswith("dataset") else name.split("/")[0]
            counts[name] = counts.get(name, 0) + int(count)
        return counts

    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    assert main(["forget", f"--workdir={copied}", "--dry-run", f"--person={FORGOTTEN}"]) == 0
    would = listed(" would be removed")
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before
    assert {"quality.parquet", "representations", "report", "stages", "traits"} < set(would)
    assert ask(copied) == 0
    assert listed(" removed") == would
    assert main(["forget", f"--workdir={copied}", "--dry-run", "--person=nobody"]) == 2


def test_what_it_says_stays_true_whoever_went_before(copied, capsys):
    """Who taught what is what was noted then, not who is in the data now."""
    (copied / site_files.FOLDER).mkdir()
    np.savez(site_files.path(copied, 1), a=np.zeros(3), learnt_from="{}")
    site_files.write_people(copied, ["p06", "p07"])
    learnt = {
        "p04": "took the step at which it stopped",
        "p06": "principal components",
        "p08": "",
        "p07": "principal components",
        "p05": "it stopped",
    }
    for person, words in learnt.items():
        assert ask(copied, person) == 0
        said = capsys.readouterr().out
        assert ("generic model" in said) == bool(words), (person, said)
        assert words in said
    for person, words in learnt.items():
        assert ask(copied, person) == 0
        said = capsys.readouterr().out
        kind = "principal components" if words == "principal components" else "generic model"
        assert (kind in said) == bool(words)
    np.savez(site_files.path(copied, 1), a=np.ones(3), learnt_from="{}")
    assert ask(copied, "p06") == 0
    assert "principal components" not in capsys.readouterr().out  # they have been learnt again
    text = (copied / "forgotten.json").read_text()
    assert not any(person in text for person in learnt)
