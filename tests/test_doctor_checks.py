"""The doctor's checks: every kind of defect is found where it is and nowhere else."""

import dataclasses
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import drifting_blob, write_video

from data_pipelines import doctor
from data_pipelines.doctor import check_duplicates, check_files, check_identity, check_people, check_quality, check_traits
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.faces.quality import QualityRow, quality_table
from data_pipelines.manifest import ClipEntry, read_manifest
from facedyn.core import metrics


def clips(folder, n_people=4, each=2):
    """Entries of tiny videos, all in the split train."""
    found = []
    for i in range(n_people * each):
        path = folder / f"c{i}.avi"
        write_video(path, drifting_blob(3, i, 8))
        found.append(ClipEntry(f"c{i}", f"p{i // each}", path, split="train"))
    return found


def kinds(defects):
    return {d.kind: d for d in defects}


def ids(found):
    return [item[0] for item in found.items]


def test_files_that_are_absent_empty_unreadable_text_or_extra(tmp_path, monkeypatch):
    entries = clips(tmp_path / "v")
    (tmp_path / "v" / "empty.mp4").touch()
    (tmp_path / "v" / "page.mp4").write_text("<html>Not found</html>")
    (tmp_path / "v" / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "v" / "frames").mkdir()
    (tmp_path / "v" / "Größe.MP4").write_bytes(b"\0\1")
    names = ("empty.mp4", "page.mp4", "loop.mp4", "frames", "nowhere.mp4", "größe.mp4", "shut.mp4")
    shutil.copy(entries[0].path, tmp_path / "v" / "shut.mp4")
    shutil.copy(entries[1].path, tmp_path / "v" / "more.MOV")
    (tmp_path / "v" / "notes.txt").write_text("nothing")
    bad = [ClipEntry(name, "q", tmp_path / "v" / name) for name in names]
    entries[0] = dataclasses.replace(entries[0], path=tmp_path / "v" / ".." / "v" / "c0.avi")

    def guarded(path, *arguments):
        if str(path).endswith("shut.mp4"):  # whoever runs the tests as root may read everything
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *arguments)

    monkeypatch.setattr(check_files, "open", guarded, raising=False)
    found = kinds(check_files.file_defects(entries + bad))
    assert ids(found["missing_file"]) == ["loop.mp4", "nowhere.mp4", "größe.mp4"]
    assert "is there as 'Größe.MP4'" in found["missing_file"].items[2][1]
    assert ids(found["empty_file"]) == ["empty.mp4", "frames"]
    assert ids(found["unreadable_file"]) == ["shut.mp4"]
    assert ids(found["not_a_video"]) == ["page.mp4"]
    assert ids(found["extra_file"]) == ["Größe.MP4", "more.MOV"]
    assert not check_files.file_defects(entries, [tmp_path / "v" / name for name in ("Größe.MP4", "more.MOV", *names)])


def frame_folder(path, seed, name="frame_{}.png"):
    path.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for i in range(11):
        (path / name.format(i)).write_bytes(random.bytes(50))


def test_folders_of_frames_beside_those_of_the_manifest(tmp_path):
    for i, name in enumerate(("a", "b", "c")):
        frame_folder(tmp_path / "train" / name, i)
    (tmp_path / "train" / "empty").mkdir()
    entries = [ClipEntry(name, "p", tmp_path / "train" / name) for name in ("a", "b")]
    found = kinds(check_files.file_defects(entries))
    assert list(found) == ["extra_file"]
    assert ids(found["extra_file"]) == ["c"]


def test_duplicates_are_told_by_content(tmp_path):
    entries = clips(tmp_path)
    head = np.random.default_rng(0).bytes(check_duplicates.HEAD)
    for name, tail in (("x", b"1"), ("copy of x", b"1"), ("y", b"2"), ("z", b"1 and more")):
        (tmp_path / name).write_bytes(head + tail)
        entries.append(ClipEntry(name, "q", tmp_path / name, split="train"))
    for name, seed, pattern in (("f", 1, "frame_{}.png"), ("g", 1, "face_{:05d}.png"), ("h", 2, "frame_{}.png")):
        frame_folder(tmp_path / name, seed, pattern)
        entries.append(ClipEntry(name, "q", tmp_path / name, split="train"))
    entries.append(ClipEntry("gone", "q", tmp_path / "gone"))
    groups = [[entry.clip_id for entry in group] for group in check_duplicates.duplicate_groups(entries)]
    # A renamed copy is one, also of a folder; equally long files that differ in their last byte are none.
    assert sorted(groups) == [["f", "g"], ["x", "copy of x"]]
    assert not check_duplicates.duplicate_groups(entries[:8])


def test_duplicates_by_whom_they_harm(tmp_path):
    entries = clips(tmp_path, 3, 2)
    for i in range(0, 6, 2):
        shutil.copy(entries[i].path, entries[i + 1].path)
    entries[1] = dataclasses.replace(entries[1], person_id="someone else")
    splits = ["train", "train", "train", "test", "train", "train"]
    found = {d.kind: (d.severity, d.subject) for d in check_duplicates.duplicate_defects(entries, splits)}
    assert found == {
        "duplicate_across_people": ("error", "c0 = c1"),
        "duplicate_across_splits": ("error", "c2 = c3"),
        "duplicate_clip": ("warning", "c4 = c5"),
    }


def entry(clip_id, person_id, *values, split="train"):
    return ClipEntry(clip_id, person_id, None, split=split, traits=values)


def test_ids_that_are_one_and_the_same():
    entries = [
        entry("a", "007"),
        entry("A", "7"),
        entry("c", "Anna"),
        entry("d", "anna "),
        entry("e", "Anna2"),
        entry("f", "70"),
    ]
    found = kinds(check_people.id_defects(entries))
    assert found["similar_person_ids"].subject == "007 = 7, Anna = anna "
    assert found["similar_person_ids"].items[:2] == (("007", "= 7"), ("7", "= 007"))
    assert found["similar_person_ids"].severity == "error"
    assert found["similar_clip_ids"].subject == "a = A"
    assert found["similar_clip_ids"].severity == "warning"
    assert set(kinds(check_people.id_defects([entry(f"c{i}", f"p{i}") for i in range(21)]))) == {"one_clip_a_person"}
    assert not check_people.id_defects([entry(f"c{i}", f"p{i}") for i in range(20)])
    single = kinds(check_people.id_defects([entry("a", "1"), entry("b", "1"), entry("c", "2")]))
    assert ids(single["single_clips"]) == ["2"]


@pytest.mark.parametrize("n", [1, 2, 3, 19, 20])
def test_too_few_people_are_an_error_and_few_a_warning(n):
    entries = [entry(f"c{i}", f"p{i % n}") for i in range(2 * n)]
    found = {d.kind: d for d in check_people.count_defects(entries)}
    assert list(found) == (["too_few_people"] if n < 3 else ["few_people"] if n < 20 else [])
    if n < 3:
        assert found["too_few_people"].severity == "error"
        assert f"has {n} p" in found["too_few_people"].what
        assert "facedyn embed" in found["too_few_people"].fix
    elif n < 20:
        assert found["few_people"].severity == "warning"
        assert f"one in {n}," in found["few_people"].what
        assert "copying its input" in found["few_people"].what
    # With a model of their own pool, one person can be described; the pool must do.
    pool = [entry(f"x{i}", f"q{i}") for i in range(30)]
    of_pool = {d.kind: d.what for d in check_people.count_defects(entries, pool)}
    assert list(of_pool) == (["few_people"] if n < 20 else [])
    assert not any("copying" in what for what in of_pool.values())
    assert check_people.count_defects(pool, entries[:2])[0].kind == "too_few_people"


def test_splits_and_who_is_in_several_of_them():
    entries = [entry(f"c{i}", f"p{i // 2}", float(i)) for i in range(40)]
    splits = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10
    assert not check_people.split_defects(entries, splits)
    splits[0] = splits[4] = "test"
    (found,) = check_people.split_defects(entries, splits, baseline="It scores much.")
    assert (found.kind, found.severity) == ("identity_overlap", "error")
    assert "2 of 7 (28.6 %) people and 2 of 12 (16.7 %) clips of test" in found.what
    assert "It scores much." in found.what
    assert found.items == (("p0", "test"), ("p2", "test"))
    unlabelled = [dataclasses.replace(e, traits=(np.nan,)) for e in entries]
    assert [d.kind for d in check_people.split_defects(unlabelled, splits)] == ["unlabelled_overlap"]
    found = kinds(check_people.split_defects(entries, ["test"] * 39 + ["other"]))
    assert set(found) == {"no_train_split", "no_validation_split", "small_split"}
    assert ids(found["small_split"]) == ["other"]
    assert set(kinds(check_people.split_defects(entries, ["test"] * 40, own_pool=True))) == set()
    (found,) = check_people.pretrain_overlap(entries, [entry("x", "p3"), entry("y", "stranger")])
    assert (found.kind, ids(found)) == ("pretrain_overlap", ["p3"])


def test_labels_that_cannot_be_meant():
    random = np.random.default_rng(0)
    n = 400
    labels = {
        "fine": random.normal(size=n),
        "unit": random.beta(3, 3, n),
        "coded": random.integers(1, 6, n).astype(float),
        "slip": random.beta(3, 3, n),
        "rare": (random.uniform(size=n) < 0.2).astype(float),
        "gaps": random.normal(size=n),
        "same": np.full(n, 3.0),
        "empty": np.full(n, np.nan),
    }
    labels["coded"][[5, 6, 7]] = 99.0, 99.0, -999.0
    labels["slip"][8] = 1.05
    labels["gaps"][40:100] = np.nan
    entries = [entry(f"c{i}", f"p{i}", *row) for i, row in enumerate(np.stack([*labels.values()], 1).tolist())]
    defects = check_traits.trait_defects(entries, tuple(labels))
    found = kinds(defects)
    assert len(found) == len(defects)
    assert {d.kind: (d.severity, d.subject) for d in defects if d.severity == "error"} == {
        "out_of_range": ("error", "trait coded"),
        "empty_trait": ("error", "trait empty"),
        "constant_trait": ("error", "trait same"),
    }
    assert found["out_of_range"].items == (("c5", "coded = 99"), ("c6", "coded = 99"), ("c7", "coded = -999"))
    assert "which lie in [1, 5]: -999, 99." in found["out_of_range"].what
    assert found["outside_unit_interval"].items == (("c8", "slip = 1.05"),)
    assert ids(found["label_gaps"]) == [f"c{i}" for i in range(40, 100)]
    assert "60 people have none" in found["label_gaps"].what
    assert set(found) == {"out_of_range", "empty_trait", "constant_trait", "outside_unit_interval", "label_gaps"}
    few = [dataclasses.replace(e, traits=e.traits[:2]) for e in entries[:19]]
    few = kinds(check_traits.trait_defects(few, ("fine", "unit")))
    assert [i for i, _ in few["few_labelled_people"].items] == ["fine", "unit"]


def test_labels_of_one_person_that_differ():
    values = {"p0": (1.0, 1.0), "p1": (2.0, 4.0), "p2": (7.0, np.nan)}
    entries = [entry(f"{p}{i}", p, v) for p, pair in values.items() for i, v in enumerate(pair)]
    found = kinds(check_traits.trait_defects(entries, ("calm",)))["labels_differ_within_person"]
    assert found.items == (("p1", "calm"),)
    assert "1 of 2 (50 %) people with several labels" in found.what
    # Over the four labels of people with several: deviations 0, 0, 1, 1; the people's means are 1, 3 and 7.
    assert f"calm {np.sqrt(0.5):.3g} and {np.std([1, 3, 7]):.3g}." in found.what


def test_the_look_up_is_each_persons_training_mean():
    random = np.random.default_rng(1)
    labels = random.normal(size=(60, 2))
    labels[random.uniform(size=labels.shape) < 0.2] = np.nan
    who, train = np.array([f"p{i % 17}" for i in range(60)], object), np.arange(60) < 25
    by_person, by_mean = check_identity.look_up(who, labels, train)
    frame = pd.DataFrame(labels[train]).groupby(who[train]).mean().reindex(who)
    expected = frame.fillna(pd.Series(np.nanmean(labels[train], 0))).to_numpy()
    np.testing.assert_allclose(by_person, expected)
    np.testing.assert_allclose(by_mean, np.tile(np.nanmean(labels[train], 0), (60, 1)))
    known = np.isfinite(labels[:, 0])
    found = check_identity.figures(labels[known, 0], by_person[known, 0])
    for name in check_identity.METRICS:
        assert found[name] == pytest.approx(float(metrics.METRICS[name](labels[known, 0], by_person[known, 0])), abs=1e-5)
    assert check_identity.figures(labels[known, 0], by_mean[known, 0])["ccc"] == 0


@pytest.mark.parametrize(("of_the_person", "wins"), [(0.9, True), (0.0, False)])
def test_the_look_up_beats_the_mean_where_labels_belong_to_people(of_the_person, wins):
    """As in First Impressions: some clips of most people on each side of the split, labels partly shared by a person."""
    random = np.random.default_rng(2)
    entries, splits = [], []
    for i in range(3000):
        person = int(random.integers(900))
        own = np.random.default_rng(person).normal()
        label = 0.5 + 0.15 * (of_the_person**0.5 * own + (1 - of_the_person) ** 0.5 * random.normal())
        splits.append("train" if random.uniform() < 0.6 else "test")
        entries.append(entry(f"c{i}", f"p{person}", label))
    rows = check_identity.identity_scores(entries, splits, ("warm",))
    value = {(r["method"], r["metric"]): r["value"] for r in rows if r["trait"] == "mean"}
    assert (value["same_identity", "acc"] > value["mean_predictor", "acc"] + 0.01) == wins
    assert (value["same_identity", "ccc"] > 0.5) == wins
    # The mean predictor's error is the labels' mean deviation, 0.15 * sqrt(2 / pi) for a normal distribution.
    assert value["mean_predictor", "acc"] == pytest.approx(1 - 0.15 * np.sqrt(2 / np.pi), abs=0.004)
    assert "on test ACC" in check_identity.sentence(rows)
    assert check_identity.identity_scores(entries, ["test"] * len(entries), ("warm",)) == []


GOOD = dict(verdict="ok", n_decoded=500, n_found=500, n_kept=500, share_found=1.0, n_gaps=0, jitter=0.02) | dict(
    mean_confidence=0.9, face_size=100.0, brightness=120.0, sharpness=100.0, fps=25.0
)


def seen(n=30, **changes):
    """A quality table of n clips of n / 2 people, as good as the real ones; `changes`: {column: {row: value}}."""
    random = np.random.default_rng(0)
    rows = [QualityRow(f"c{i}", f"p{i // 2}", f"/v/c{i}.mp4", **GOOD) for i in range(n)]
    table = quality_table(rows)
    table["sharpness"] = 100 * np.exp(random.normal(0, 0.3, n))
    for column, values in changes.items():
        if column not in table:
            table[column] = 0.0
        for row, value in values.items():
            table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("kind", "changes", "found"),
    [
        ("left_out", {"verdict": {3: "left_out"}, "reason": {3: "No face was found in any of its 95 frames."}}, ["c3"]),
        ("few_frames_kept", {"n_kept": {1: 100, 2: 260}}, ["c1"]),
        ("little_video", {name: {2: 100, 3: 100, 4: 100} for name in ("n_decoded", "n_found", "n_kept")}, ["p1"]),
        ("many_gaps", {"n_gaps": {4: 3, 5: 1}}, ["c4"]),
        ("high_jitter", {"jitter": {6: 1.5, 7: 0.25}}, ["c6"]),
        ("two_faces", {"n_two_faces": {8: 150, 9: 50}}, ["c8"]),
        ("several_people", {"n_people": {8: 2, 9: 2}, "other_share": {8: 0.43, 9: 0.2}}, ["c8"]),
        ("frozen_frames", {"n_repeated": {8: 190, 9: 10}}, ["c8"]),
        ("hidden_face", {"n_hidden": {8: 190, 9: 10}}, ["c8"]),
        ("large_motion", {"beyond_range": {8: 0.05, 9: 0.001}}, ["c8"]),
        ("light", {"brightness": {10: 15.0, 11: 240.0, 12: 60.0}}, ["c10", "c11"]),
        ("blurred", {"sharpness": {13: 5.0, 14: 60.0}}, ["c13"]),
        ("tiny", {"n_tiny": {15: 400, 16: 20}}, ["c15"]),
        ("blurred", {"n_blurred": {15: 400, 16: 20}}, ["c15"]),
        ("light", {"n_dark": {15: 400, 16: 20}}, ["c15"]),
        ("turned", {"n_turned": {15: 400, 16: 20}}, ["c15"]),
        ("rates_differ", {"fps": {20: 30.0, 21: 24.9}}, ["c20"]),
    ],
)
def test_each_remark_on_what_prepare_saw(kind, changes, found):
    (defect,) = check_quality.quality_defects(seen(**changes), image_size=112)
    assert (defect.kind, defect.severity, ids(defect)) == (kind, "warning", found)
    assert not check_quality.quality_defects(seen(), image_size=112)


def test_clips_left_out_are_grouped_by_reason():
    reasons = {i: f"No face was found in any of its {90 + i} frames." for i in range(4)} | {5: "The file /v/c5.mp4 is empty."}
    table = seen(verdict=dict.fromkeys(reasons, "left_out"), reason=reasons)
    found = kinds(check_quality.quality_defects(table, image_size=112))
    assert set(found) == {"many_left_out", "people_lost"}
    assert found["many_left_out"].severity == "error"
    assert "5 of 30 (16.7 %) clips were left out by prepare. 4: No face was found in any of its 90 frames; 1: The file" in (
        found["many_left_out"].what
    )
    assert ids(found["people_lost"]) == ["p0", "p1"]
    # What is said of the file already is not said twice.
    found = check_quality.quality_defects(table, image_size=112, known_bad={"c5"})
    assert ids(kinds(found)["many_left_out"]) == ["c0", "c1", "c2", "c3"]


def test_examine_needs_no_more_than_a_manifest(tmp_path):
    entries = clips(tmp_path, 9, 2)
    findings = doctor.examine(
        [dataclasses.replace(e, split="") for e in entries],
        PrepareSettings(),
        data_dir=tmp_path / "none",
        quality_path=tmp_path / "none.parquet",
    )
    assert [d.kind for d in findings.defects if d.severity == doctor.ERROR] == []
    assert findings.scores == []
    assert findings.baseline == ""
    os.truncate(entries[0].path, 0)
    again = doctor.examine(entries, PrepareSettings(), data_dir=tmp_path, quality_path=tmp_path / "none.parquet")
    assert again.defects[0].kind == "empty_file"  # errors come first


def test_the_manifest_of_a_user_is_read_as_prepare_reads_it(blob_manifest):
    entries = read_manifest(blob_manifest, ("calm",))
    found = doctor.examine(
        entries, PrepareSettings(trait_names=("calm",)), data_dir=blob_manifest.parent, quality_path=blob_manifest.parent / "q"
    )
    assert {d.severity for d in found.defects} <= {doctor.WARNING}
    assert {row["n"] for row in found.scores if row["split"] == "test"} == {6}


def test_videos_in_a_bucket_are_not_looked_at(tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.write_text("clip_id,person_id,path\n" + "".join(f"c{i},p{i},gs://bucket/c{i}.mp4\n" for i in range(4)))
    settings = PrepareSettings()
    found = doctor.examine(read_manifest(manifest), settings, data_dir=tmp_path / "d", quality_path=tmp_path / "q").defects
    assert ids(kinds(found)["remote_file"]) == ["c0", "c1", "c2", "c3"]
    assert not kinds(found).keys() & {"missing_file", "extra_file", "duplicate_clip"}
