"""ChaLearn First Impressions V2 and DeepPersonality's frames of it: small copies of the layouts, with their traps."""

import json
import math
import pickle
import zipfile

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import drifting_blob, hash_seed
from python2_pickle import write_annotation
from test_restricted_pickle import Payload

from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from data_pipelines.manifest import read_manifest
from data_pipelines.sources import SourceSettings, make_manifest
from data_pipelines.sources.chalearn_labels import TRAITS
from data_pipelines.sources.split_names import split_of
from facedyn.main import main

# An id that starts with a dash, one with both signs, one that ends with a dash and reads like a split.
TRAIN = {"-Ab_cdEfGh1.000", "-Ab_cdEfGh1.003", "tes-t_data_.001", "J4GQm9j0JZ0.003"}
VALIDATION = {"J4GQm9j0JZ0.001", "_uNup91ZYw0.002"}
TEST = {"-Ab_cdEfGh1.005", "zzzzzzzzzz-.000"}


def value(clip, key):
    return round(hash_seed(clip + key) % 1000 / 1000, 3)


def labels(clips):
    keys = ("extraversion", "neuroticism", "agreeableness", "conscientiousness", "interview", "openness")
    return {f"{clip}.mp4": {key: value(clip, key) for key in keys} for clip in clips}


def small_video(path, frames=4):
    """An .mp4, as the clips are; small enough to be written in no time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (32, 32))
    for frame in drifting_blob(frames, hash_seed(path.name), 32):
        writer.write(frame)
    writer.release()


def copy_of_chalearn(root, folders=("train", "validation", "test"), annotations="annotation", protocol=0):
    """One clip of train lies in its archive's own folder, one label has no file, one file no label."""
    for folder, clips in zip(folders, (TRAIN, VALIDATION, TEST)):
        for i, clip in enumerate(sorted(clips)):
            small_video(root / folder / ("training80_01" if i == 1 and folder == folders[0] else "") / f"{clip}.mp4")
    for split, clips in (("training", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        place = root / annotations if annotations else root / folders[("training", "validation", "test").index(split)]
        write_annotation(place / f"annotation_{split}.pkl", labels(clips), protocol)
        (place / f"transcription_{split}.pkl").write_bytes(pickle.dumps({clip: "words" for clip in clips}, 0))
    return root


def collected(root, tmp_path, name="chalearn_first_impressions", **settings):
    place = tmp_path / "w" / "manifest.csv"
    collection = make_manifest(name, SourceSettings(root, **settings), place)
    entries = {entry.clip_id: entry for entry in read_manifest(place, collection.trait_names)}
    return collection, entries, json.loads(place.with_suffix(".json").read_text())


@pytest.mark.parametrize(
    ("folders", "annotations", "protocol"),
    [
        (("train", "validation", "test"), "annotation", 0),
        (("TRAIN", "val", "TEST"), "annotations", 2),
        (("train_data", "valid_data", "test_data"), "Annotation", 0),
        (("training80_02", "validate", "test-2e"), "", 2),
        (("train-1", "validation80_01", "test80_07"), "", 0),
    ],
)
def test_every_variant_of_the_folders_is_read_the_same(tmp_path, folders, annotations, protocol):
    collection, entries, provenance = collected(copy_of_chalearn(tmp_path / "d", folders, annotations, protocol), tmp_path)
    splits = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    assert {entry.clip_id: entry.split for entry in entries.values()} == {c: s for s, clips in splits.items() for c in clips}
    assert all(entry.path.is_file() for entry in entries.values())
    assert {clip: entry.person_id for clip, entry in entries.items()} == {clip: clip[:11] for clip in entries}
    assert collection.trait_names == TRAITS
    for clip, entry in entries.items():
        row = dict(zip(TRAITS, entry.traits))
        for trait in ("extraversion", "agreeableness", "conscientiousness", "interview", "openness"):
            assert row[trait] == value(clip, trait)
        assert row["emotional_stability"] == value(clip, "neuroticism")
        assert row["neuroticism"] == pytest.approx(1 - value(clip, "neuroticism"))
    assert provenance["flips"].keys() == {"neuroticism"}
    assert (provenance["clips"], provenance["people"], provenance["missing"], provenance["extra"]) == (8, 5, [], [])
    assert sum("emotional stability" in note for note in provenance["notes"]) == 1
    (leak,) = [note for note in provenance["notes"] if "2 of 5 people" in note]
    assert "50 % of the test clips" in leak
    assert "50 % of the validation clips" in leak


def test_person_disjoint_leaves_the_split_to_prepare(tmp_path):
    _, entries, provenance = collected(copy_of_chalearn(tmp_path / "d"), tmp_path, split_protocol="person_disjoint")
    assert {entry.split for entry in entries.values()} == {""}
    assert provenance["split_protocol"] == "person_disjoint"
    with pytest.raises(InputError, match="split_protocol is 'mine'; it must be official or person_disjoint"):
        collected(tmp_path / "d", tmp_path, split_protocol="mine")


def test_what_lacks_and_what_is_too_much_is_told(tmp_path):
    root = copy_of_chalearn(tmp_path / "d")
    (root / "validation" / "_uNup91ZYw0.002.mp4").unlink()
    for clip in TEST:
        (root / "test" / f"{clip}.mp4").unlink()
    small_video(root / "train" / "unlabelled-.004.mp4")
    small_video(root / "train" / "again" / "J4GQm9j0JZ0.003.mp4")
    (root / "validation" / "J4GQm9j0JZ0.001.mp4").rename(root / "train" / "J4GQm9j0JZ0.001.mp4")
    small_video(root / "validation" / "zzzzzzzzzz-.002.mp4")
    small_video(root / "train" / "my holiday.mp4")
    (root / "train" / "__MACOSX").mkdir()
    for hidden in ("._-Ab_cdEfGh1.000.mp4", "__MACOSX/-Ab_cdEfGh1.002.mp4"):
        (root / "train" / hidden).write_bytes(b"x")
    (root / "train" / "broken").symlink_to(root / "train")
    collection, entries, provenance = collected(root, tmp_path)
    assert set(entries) == TRAIN | VALIDATION | {"unlabelled-.004", "zzzzzzzzzz-.002"}
    assert collection.missing == ("_uNup91ZYw0.002",)
    assert entries["_uNup91ZYw0.002"].path == root / "validation" / "_uNup91ZYw0.002.mp4"
    assert set(collection.extra) == {"unlabelled-.004", "zzzzzzzzzz-.002"}
    assert all(map(math.isnan, entries["unlabelled-.004"].traits))
    assert (entries["unlabelled-.004"].split, entries["J4GQm9j0JZ0.001"].split) == ("train", "validation")
    assert provenance["left_out"].keys() == {"train/my holiday.mp4"}
    text = "\n".join(provenance["notes"])
    for words in (
        "1 labelled clips have no file: _uNup91ZYw0.002",
        "2 clips have no label",
        "1 clips lie in another split's folder",
        "1 clips lie there twice, the first one counts: J4GQm9j0JZ0.003",
        "no clips of the split test: its 2 labels are not used",
        "train/my holiday.mp4",
    ):
        assert words in text, text


def test_archives_must_be_unpacked(tmp_path):
    root = tmp_path / "d"
    write_annotation(root / "annotation_training.pkl", labels(TRAIN))
    with zipfile.ZipFile(root / "training80_01.zip", "w") as archive:
        archive.writestr("-Ab_cdEfGh1.000.mp4", b"a video")
    with pytest.raises(InputError, match=r"unzip its training80_01\.zip first"):
        collected(root, tmp_path)
    small_video(root / "train" / "-Ab_cdEfGh1.000.mp4")
    with zipfile.ZipFile(root / "train-2.zip", "w") as archive:
        archive.writestr("training80_31.zip", b"an archive")
    (root / "test-1e.zip").write_bytes(b"half a downlo")
    _, _, provenance = collected(root, tmp_path)
    (note,) = [note for note in provenance["notes"] if "unzip" in note]
    assert "2 archives" in note
    assert "train-2.zip" in note
    assert "test-1e.zip (damaged)" in note
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no clip"):
        collected(tmp_path / "empty", tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        collected(tmp_path / "nowhere", tmp_path)


def test_a_label_file_that_is_wrong_stops_the_run_with_its_name(tmp_path, root, capsys):
    source = copy_of_chalearn(tmp_path / "d")
    mark, file = tmp_path / "was here", source / "annotation" / "annotation_training.pkl"
    good = file.read_bytes()
    file.write_bytes(pickle.dumps({"extraversion": Payload(open, str(mark), "w")}, 2))
    arguments = [f"--config={root}/configs/chalearn_first_impressions.py", f"--config.data.source={source}"]
    assert main(["prepare", *arguments, f"--workdir={tmp_path}/w"]) == 2
    error = capsys.readouterr().err
    assert "annotation_training.pkl is refused" in error
    assert "open" in error
    assert not mark.exists()
    file.write_bytes(pickle.dumps({"a.mp4": "words"}, 2))
    with pytest.raises(InputError, match="holds no labels by trait"):
        collected(source, tmp_path)
    file.write_bytes(good)
    write_annotation(source / "old" / "annotation_training.pkl", labels(sorted(TRAIN)[:2]))
    with pytest.raises(InputError, match="different labels of the split train; keep one"):
        collected(source, tmp_path)
    (source / "old" / "annotation_training.pkl").write_bytes(good)
    assert len(collected(source, tmp_path)[1]) == 8


def test_labels_that_are_no_numbers_are_empty_cells(tmp_path):
    root = tmp_path / "d"
    small_video(root / "train" / "-Ab_cdEfGh1.000.mp4")
    table = {"extraversion": {"-Ab_cdEfGh1.000.mp4": 0.5, "../../x\0y.mp4": 0.5}, "openness": {"-Ab_cdEfGh1.000.mp4": "high"}}
    table["agreeableness"] = {"-Ab_cdEfGh1.000.mp4": math.nan}
    (root / "annotation_training.pkl").write_bytes(pickle.dumps(table, 4))
    collection, entries, _ = collected(root, tmp_path)
    known = dict(zip(TRAITS, entries["-Ab_cdEfGh1.000"].traits))
    assert known.pop("extraversion") == 0.5
    assert all(map(math.isnan, known.values()))
    assert any("1 labels are of names that no clip" in note and "../x" not in note for note in collection.notes)
    assert any("neuroticism of 1" in note and "openness of 1" in note for note in collection.notes)


def copy_of_deep_personality(root, kinds=("_data", "_data_face")):
    for split, clips in (("train", TRAIN), ("valid", VALIDATION), ("test", TEST)):
        for kind in kinds:
            for clip in clips:
                folder = root / "image_data" / f"{split}{kind}" / clip
                folder.mkdir(parents=True)
                for i, frame in enumerate(drifting_blob(12, hash_seed(clip))):
                    name = f"{'face' if 'face' in kind else 'frame'}_{i + 1}.jpg"
                    cv2.imwrite(str(folder / name), frame[..., ::-1])
    for split, clips in (("training", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        write_annotation(root / "annotation" / f"annotation_{split}.pkl", labels(clips), 2)
    return root


def test_deep_personalitys_frames_of_both_kinds(tmp_path):
    both = copy_of_deep_personality(tmp_path / "both")
    collection, entries, _ = collected(both, tmp_path, "deep_personality")
    assert not any(entry.aligned for entry in entries.values())
    assert entries["tes-t_data_.001"].path == both / "image_data" / "train_data" / "tes-t_data_.001"
    assert any("25 frames per second is taken" in note for note in collection.notes)
    assert collected(both / "image_data", tmp_path, "deep_personality")[1].keys() == entries.keys()
    with pytest.raises(InputError, match=r"no image_data/train_data/CLIP/frame_1\.jpg"):
        collected(both / "annotation", tmp_path, "deep_personality")


def test_prepare_goes_all_the_way_from_face_folders(tmp_path, root, hear):
    source = copy_of_deep_personality(tmp_path / "d", ("_data_face",))
    lost = source / "image_data" / "train_data_face" / "-Ab_cdEfGh1.003"
    (lost / "face_5.jpg").unlink()  # numbers of faces that were not found lack
    for file in (source / "image_data" / "test_data_face" / "zzzzzzzzzz-.000").iterdir():
        file.unlink()
    (source / "image_data" / "valid_data_face" / "notes").mkdir()
    small = ["--config.data.image_size=16", "--config.data.image_format=png", "--config.data.workers=1"]
    small += [
        "--config.rank_loss.half_length=2",
        "--config.data.source_fps=30",
        "--config.data.fps=0",
        "--config.data.traits=openness,neuroticism",
    ]
    arguments = [f"--config={root}/configs/deep_personality.py", f"--config.data.source={source}", f"--workdir={tmp_path}/w"]
    assert main(["prepare", *arguments, *small]) == 0
    output = hear()
    assert "The images are face crops" in output
    assert "Left out: clip zzzzzzzzzz-.000" in output
    data = open_face_clips(tmp_path / "w" / "data")
    clips = {clip.clip_id: (i, clip) for i, clip in enumerate(data.clips)}
    assert clips.keys() == (TRAIN | VALIDATION | TEST) - {"zzzzzzzzzz-.000"}
    i, clip = clips["-Ab_cdEfGh1.003"]
    assert clip.frame_indices.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]  # 10 comes after 9
    frames = drifting_blob(12, hash_seed("-Ab_cdEfGh1.003"))[clip.frame_indices]
    assert np.abs(data.frames(i).astype(int) - frames).mean() < 8
    assert (clip.fps, clip.person_id) == (30, "-Ab_cdEfGh1")
    # As the config stands nobody is in two splits, which pretrain would refuse; in the official ones people are.
    splits = {}
    for clip_of_any in data.clips:
        splits.setdefault(clip_of_any.person_id, set()).add(clip_of_any.split)
    assert {len(found) for found in splits.values()} == {1}
    np.testing.assert_allclose(
        clip.traits, [value(clip.clip_id, "openness"), 1 - value(clip.clip_id, "neuroticism")], rtol=1e-6
    )
    table = pd.read_parquet(tmp_path / "w" / "quality.parquet").set_index("clip_id")
    assert "no images" in table.reason["zzzzzzzzzz-.000"]
    assert "not that of a clip" in table.reason["image_data/valid_data_face/notes"]
    assert len(table) == 9
    assert main(["prepare", *arguments, *small]) == 0
    assert "is up to date" in hear()
    assert len(pd.read_parquet(tmp_path / "w" / "quality.parquet")) == 9


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (("train", "TRAIN", "Training", "training80_75", "train-6", "train_data"), "train"),
        (("val", "validate", "validation", "valid_data", "VAL", "validation80_25", "val-2"), "validation"),
        (("test", "TEST", "test-2e", "testing", "test_data_face"), "test"),
        (("trainer", "tests", "values", "annotation", "contest", "testdrive", "image_data", "protest"), ""),
    ],
)
def test_what_folders_names_mean(names, split):
    assert {name: split_of(name) for name in names} == dict.fromkeys(names, split)
