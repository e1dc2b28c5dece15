"""The manifest and the splits: what users write is read as meant, and every mistake gets one sentence that says where it is."""

import math

import numpy as np
import pytest

from data_pipelines.dataset.splits import assign_splits, clip_splits
from data_pipelines.errors import InputError
from data_pipelines.manifest import ClipEntry, read_manifest


def write(tmp_path, text):
    path = tmp_path / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_columns_are_read_as_they_are_meant(tmp_path):
    path = write(
        tmp_path,
        "clip_id, person_id,path,session,task,split,fps,aligned,calm,bold\n"
        "001,007,a b/ü.mp4,s1,talk,val,29.97,TRUE,0.5,\n"
        "\n"
        '002,007,"/abs/x,y.mp4",,,,,,-1,2e-1\n',
    )
    first, second = read_manifest(path, ("bold", "calm"))
    assert (first.clip_id, first.person_id) == ("001", "007")  # leading zeros stay
    assert first.path == tmp_path / "a b" / "ü.mp4"
    assert (first.session, first.task, first.split, first.fps, first.aligned) == ("s1", "talk", "validation", 29.97, True)
    assert math.isnan(first.traits[0])
    assert first.traits[1] == 0.5
    assert str(second.path) == "/abs/x,y.mp4"
    assert (second.split, second.fps, second.aligned, second.traits) == ("", 0.0, False, (0.2, -1.0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip_id,person,path\na,b,c\n", ["no column 'person_id'", "did you mean 'person'"]),
        ("clip_id,person_id,path,calm\na,b,c,1\na,b,d,1\n", ["'a' twice", "lines 2 and 3"]),
        ("clip_id,person_id,path,calm\na,b,c,high\n", ["clip 'a'", "trait 'calm'", "'high'", "not a number"]),
        ("clip_id,person_id,path,calm\na,b,c,inf\n", ["clip 'a'", "trait 'calm'"]),
        ("clip_id,person_id,path,clam\na,b,c,1\n", ["trait 'calm'", "did you mean 'clam'"]),
        ("clip_id,person_id,path,calm,aligned\na,b,c,1,maybe\n", ["aligned", "clip 'a'", "'maybe'"]),
        ("clip_id,person_id,path,calm,fps\na,b,c,1,-3\n", ["fps", "clip 'a'"]),
        ("clip_id,person_id,path,calm,split\na,b,c,1,1st half\n", ["split", "clip 'a'"]),
        ("clip_id,person_id,path,calm\na,,c,1\n", ["person_id", "line 2", "empty"]),
        ("clip_id,person_id,path,calm\na,b,c,d,1\n", ["Line 2", "5 cells"]),
        ("clip_id,person_id,path,calm,calm\na,b,c,1,1\n", ["'calm' twice"]),
        ("clip_id,person_id,path,calm\n", ["no clips"]),
        ("", ["is empty"]),
    ],
)
def test_a_mistake_is_one_sentence_that_names_it(tmp_path, text, words):
    with pytest.raises(InputError) as error:
        read_manifest(write(tmp_path, text), ("calm",))
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert message.endswith(".")


def test_missing_or_binary_file(tmp_path):
    with pytest.raises(InputError, match="no manifest at"):
        read_manifest(tmp_path / "nowhere.csv")
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00clip_id")
    with pytest.raises(InputError, match="not a CSV in UTF-8"):
        read_manifest(tmp_path / "manifest.csv")


def test_splits_are_disjoint_by_person_and_do_not_depend_on_the_order():
    people = [f"p{i}" for i in range(50)]
    splits = assign_splits(people, (0.7, 0.15, 0.15), seed=3)
    assert splits == assign_splits(people[::-1] * 2, (0.7, 0.15, 0.15), seed=3)
    assert splits != assign_splits(people, (0.7, 0.15, 0.15), seed=4)
    counts = [list(splits.values()).count(name) for name in ("train", "validation", "test")]
    np.testing.assert_allclose(counts, [35, 7.5, 7.5], atol=1)
    more = assign_splits(people + ["new"], (0.7, 0.15, 0.15), seed=3)
    assert sum(more[p] != splits[p] for p in people) <= 2  # one more person hardly moves the others


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_few_people_fill_train_first_then_test(n):
    values = list(assign_splits([str(i) for i in range(n)], (0.7, 0.15, 0.15), 0).values())
    assert len(values) == n
    assert "train" in values
    assert ("test" in values) == (n >= 2)
    assert ("validation" in values) == (n >= 3)


def test_the_manifests_own_split_wins_also_for_the_persons_other_clips(tmp_path):
    entries = [ClipEntry(f"c{i}", f"p{i // 2}", tmp_path, split="test" if i % 4 == 0 else "") for i in range(12)]
    splits = clip_splits(entries, (1.0, 0.0, 0.0), 0)
    assert splits == ["test", "test", "train", "train"] * 3
    with pytest.raises(InputError, match="split_fractions"):
        clip_splits(entries, (0.5, 0.1, 0.1), 0)
