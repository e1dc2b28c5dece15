"""Own videos to representations: the same vectors as the run's own, a reason for every bad video, one file for the model."""

import json
import shutil

import jax
import numpy as np
import pandas as pd
import pytest
from conftest import FORGOTTEN
from safetensors.numpy import save

import facedyn
from data_pipelines.errors import InputError
from facedyn.command_line import parse
from facedyn.main import main
from facedyn.stages import embedder, pretrain
from facedyn.stages.traits.saved_heads import load_heads
from facedyn.store import portable


def manifest_of(blob_manifest, path, people, more=()):
    """A manifest of some people's clips, as the big one has them, and more rows."""
    header, *rows = blob_manifest.read_text().splitlines()
    rows = [row.replace(",videos/", f",{blob_manifest.parent}/videos/") for row in rows if row.split(",")[1] in people]
    path.write_text("\n".join([header, *rows, *more]) + "\n")
    return path


def files_of(folder):
    return {p.relative_to(folder): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def test_embedding_gives_the_vectors_that_the_run_gave(workdir, blob_manifest, tmp_path):
    rows, vectors = facedyn.load_representations(workdir)
    model = facedyn.FacialDynamics.load(workdir)
    for people in (["p05"], ["p05", "p00", "p11"]):
        features = model.transform(manifest_of(blob_manifest, tmp_path / "new.csv", people))
        assert sorted(features.index) == sorted(people)
        table = model.representations_
        assert sorted(set(table["person_id"])) == sorted(people)
        own = rows["person_id"].isin(people).to_numpy()
        assert table["unit_id"].tolist() == rows.loc[own, "unit_id"].tolist()
        np.testing.assert_allclose(
            np.stack(table["representation"]), vectors[own], rtol=1e-4, atol=1e-5 * np.abs(vectors).max()
        )
        assert set(table["config_hash"]) == set(rows["config_hash"])
        ids, expected = load_heads(workdir)["ridge"].predict(rows[own], vectors[own])
        found = model.predictions_.pivot(index="person_id", columns="trait", values="prediction")
        np.testing.assert_allclose(found.loc[ids, list(load_heads(workdir)["ridge"].traits)], expected, rtol=1e-3)


def test_the_command_leaves_the_workdir_alone_and_gives_every_bad_video_a_row(workdir, blob_manifest, tmp_path, capsys):
    (tmp_path / "broken.avi").write_text("no video")
    more = ["bad,mona,broken.avi,talk,,true,,", "gone,nobody,none.avi,talk,,true,,"]
    videos = manifest_of(blob_manifest, tmp_path / "new.csv", ["p05"], more)
    before, out = files_of(workdir), tmp_path / "out" / "table.parquet"
    command = ["embed", f"--videos={videos}", f"--workdir={workdir}", f"--out={out}"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "embed: 2 of 4 videos used" in said.out
    assert "Left out: clip bad" in said.err
    assert files_of(workdir) == before
    table, quality = (pd.read_parquet(out.with_suffix(f".{name}.parquet")) for name in ("representations", "videos"))
    own = pd.concat([pd.read_parquet(p) for p in (workdir / "representations").glob("part-*.parquet")])
    assert list(table.drop(columns="verdict").columns) == list(own.columns)
    assert set(table["unit_id"]) == {"p05"}
    assert quality.set_index("clip_id")["verdict"].to_dict() == {
        "p05_talk": "ok",
        "p05_watch": "ok",
        "bad": "left_out",
        "gone": "left_out",
    }
    assert quality.loc[quality["verdict"] != "ok", "reason"].str.len().min() > 10
    assert set(pd.read_parquet(out.with_suffix(".predictions.parquet"))["trait"]) == {"calm", "bold"}
    names = ("", ".quality", ".videos", ".predictions", ".representations")
    assert {p.name for p in out.parent.iterdir()} == {f"table{name}.parquet" for name in names}
    features, people = pd.read_parquet(out).set_index("person_id"), pd.read_parquet(out.with_suffix(".quality.parquet"))
    pd.testing.assert_frame_equal(features, facedyn.load_features(workdir).loc[["p05"]], rtol=1e-3, atol=1e-4)
    assert people.set_index("person_id")["n_frames"].gt(0).to_dict() == {"mona": False, "nobody": False, "p05": True}
    assert people.set_index("person_id").loc["mona", "reason"].startswith("no features: ")


def test_a_person_with_too_few_frames_has_the_reason_in_the_table_and_nobody_stops(workdir, blob_manifest, tmp_path):
    model = facedyn.FacialDynamics.load(workdir, {"fit.min_frames": 100})
    model.transform(manifest_of(blob_manifest, tmp_path / "new.csv", ["p00", "p11"]))
    quality = model.videos_.set_index("person_id")
    assert "p00" in model.quality_.index[~model.quality_["reliable"]]
    assert set(quality.loc["p00", "verdict"]) == {"left_out"}
    assert quality.loc["p00", "reason"].str.contains("fewer than config.fit.min_frames=100").all()
    assert set(quality.loc["p11", "verdict"]) == {"ok"}
    only_bad = tmp_path / "bad.csv"
    only_bad.write_text("clip_id,person_id,path\na,anna,none.avi\n")
    with pytest.raises(InputError, match="Not one of 1 clips"):
        model.transform(only_bad)
    assert model.videos_["reason"].str.len().min() > 10


def test_a_folder_of_real_videos_names_people_by_file_or_folder(workdir, shared, tmp_path, caplog):
    caplog.set_level("INFO", "facedyn")
    (tmp_path / "v" / "anna").mkdir(parents=True)
    clips = sorted((shared / "data" / "clips").glob("grid_*.mpg"))
    shutil.copy(clips[0], tmp_path / "v" / "anna" / "one.mpg")
    shutil.copy(clips[1], tmp_path / "v" / "ben.mpg")
    (tmp_path / "v" / "clara.mp4").write_text("no video")
    (tmp_path / "v" / "film.bin").write_bytes(b"some")
    (tmp_path / "v" / "notes.txt").write_text("nothing")
    model = facedyn.FacialDynamics.load(workdir)
    assert set(model.transform(tmp_path / "v").index) == {"anna", "ben"}
    assert set(model.videos_["person_id"]) == {"anna", "ben", "clara", ""}
    assert set(model.quality_.index) == {"anna", "ben", "clara"}
    assert "its suffix .bin is none of a video's" in model.videos_.set_index("clip_id").reason["film.bin"]
    assert "1 of .txt (notes.txt)" in caplog.text
    assert set(model.transform([tmp_path / "v" / "ben.mpg"]).index) == {"ben"}


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--out=t.parquet"], "VIDEOS is missing, for example facedyn embed new_videos"),
        (["--videos=v", "--out=t.xls"], "must end with .parquet or .csv"),
        (["--videos=v", "--out=t.parquet", "--config=x.py"], "leave --config out"),
        (["--videos=v", "--out=t.parquet", "--config.fit.steps=7"], "embed cannot change fit.steps"),
        (["--videos=v", "--out=t.parquet", "--person=x"], "There is no option --person"),
        (["--videos=nowhere", "--out=t.parquet"], "nowhere is not a folder, a manifest"),
    ],
)
def test_what_embed_refuses(workdir, args, sentence, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["embed", f"--workdir={workdir}", *args]) == 2
    assert sentence in capsys.readouterr().err
    assert main(["embed", f"--workdir={tmp_path}", "--videos=v", "--out=t.parquet"]) == 2
    assert "The stage pretrain has not been finished in" in capsys.readouterr().err


@pytest.fixture(scope="module")
def exported(workdir, tmp_path_factory):
    pytest.importorskip("safetensors")
    out = tmp_path_factory.mktemp("exported") / "model.safetensors"
    assert main(["export", f"--workdir={workdir}", f"--out={out}"]) == 0
    return out


def test_an_exported_model_is_taken_as_it_is(exported, arguments, workdir, tmp_path):
    shutil.copytree(workdir / "data", tmp_path / "w" / "data")
    more = {"pretrain__init_from": exported, "pretrain__steps": 0}
    assert main(arguments("pretrain", tmp_path / "w", **more)) == 0
    config = parse(arguments("pretrain", workdir))[1]
    for scale in (1, 2):
        ours, theirs = (pretrain.load_generic(config, w, scale) for w in (tmp_path / "w", workdir))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert b"p00" not in exported.read_bytes()[:2000]  # the metadata name nobody


def test_an_exported_model_that_does_not_fit_is_refused_by_name(exported, arguments, workdir, tmp_path, capsys):
    from safetensors.numpy import save

    shutil.copytree(workdir / "data", tmp_path / "w" / "data")

    def refusal(path=exported, **more):
        assert main(arguments("pretrain", tmp_path / "w", **({"pretrain__init_from": path} | more))) == 2
        said = capsys.readouterr().err
        assert said.count("facedyn: ") == 1
        return said

    assert "rank_loss.margin is 1.0 there, 2.0 here." in refusal(rank_loss__margin=2.0)
    assert "model.channels is [4, 6] there, [4, 8] here." in refusal(model__channels="4,8")
    assert "has no generic model of scale 3; it has 1, 2." in refusal(rank_loss__scales="3")
    assert "There is no generic model at" in refusal(tmp_path / "none.safetensors")
    content = exported.read_bytes()
    for name, damaged, sentence in (
        ("cut", content[:-7], "is not a whole safetensors file"),
        ("flipped", content[:-1] + bytes([content[-1] ^ 1]), "is damaged"),
        ("foreign", save({"x": np.zeros(3)}), "is not a generic model as `facedyn export`"),
    ):
        (tmp_path / f"{name}.safetensors").write_bytes(damaged)
        assert sentence in refusal(tmp_path / f"{name}.safetensors")


def test_the_metadata_say_what_the_model_was_made_with(exported, workdir):
    from safetensors import safe_open

    with safe_open(exported, framework="numpy") as file:
        metadata = json.loads(file.metadata()["facedyn"])
    assert metadata["scales"] == [1, 2]
    assert metadata["settings"]["rank_loss.half_length"] == 2
    assert len(metadata["hash"]) == 64
    assert "data.traits" not in metadata["settings"]
    assert metadata["format"] == portable.FORMAT


def test_one_can_ask_whom_a_model_was_trained_on_but_not_read_it(exported, workdir, tmp_path):
    """p00 to p03 are in the split train, p04 and p05 in validation, by whom the training is stopped."""
    asked = {f"p{i:02d}": facedyn.was_trained_on(exported, f"p{i:02d}") for i in (0, 2, 4, 5, 6, 11)}
    assert asked == {"p00": True, "p02": True, "p04": True, "p05": True, "p06": False, "p11": False}
    assert facedyn.was_trained_on(exported, FORGOTTEN)
    assert not facedyn.was_trained_on(exported, "P00")
    assert FORGOTTEN.encode() not in exported.read_bytes()
    shutil.copytree(workdir, tmp_path / "w")
    assert main(["forget", f"--workdir={tmp_path / 'w'}", "--person=p02"]) == 0
    later = tmp_path / "later.safetensors"
    assert main(["export", f"--workdir={tmp_path / 'w'}", f"--out={later}"]) == 0
    assert facedyn.was_trained_on(later, "p02")  # the model has not forgotten
    assert facedyn.was_trained_on(later, "p00")
    assert not facedyn.was_trained_on(later, "p06")
    bare = tmp_path / "older.safetensors"
    metadata, named = portable._whole(exported)
    del metadata["people"]
    bare.write_bytes(save(named, {"facedyn": json.dumps(metadata)}))
    with pytest.raises(InputError, match="does not list whom it was trained on"):
        facedyn.was_trained_on(bare, "p00")


@pytest.fixture
def people_of_videos(workdir, blob_manifest, tmp_path):
    """(run `embed` on a folder of three people with these flags -> exit code, the folder, the table's path)."""
    videos, out = tmp_path / "v", tmp_path / "t.parquet"
    for name in ("p06", "p07", "p08"):
        (videos / name).mkdir(parents=True)
        shutil.copy(blob_manifest.parent / "videos" / f"{name}_talk.avi", videos / name)

    def run(*flags):
        return main(["embed", f"--workdir={workdir}", f"--videos={_aligned(videos)}", f"--out={out}", *flags])

    return run, videos, out


def _aligned(videos):
    """A manifest of the videos, which hold crops already."""
    rows = ["clip_id,person_id,path,task,aligned"]
    for path in sorted(videos.rglob("*.avi")):
        rows.append(f"{path.stem},{path.parent.name},{path.relative_to(videos)},talk,true")
    (videos / "clips.csv").write_text("\n".join(rows) + "\n")
    return videos / "clips.csv"


@pytest.mark.slow
def test_a_repeat_computes_nothing_and_people_who_are_the_same_are_kept(people_of_videos, blob_manifest, monkeypatch, capsys):
    run, videos, out = people_of_videos
    long = out.with_suffix(".representations.parquet")
    assert run() == 0
    first = pd.read_parquet(long)
    assert set(first["verdict"]) <= {"usable", "at chance"}
    below = first["ranking_accuracy_fitted"] <= 0.5
    assert (first["verdict"] == "at chance").tolist() == below.tolist()
    with monkeypatch.context() as patch:
        patch.setattr(embedder, "prepare_face_clips", None)
        assert run() == 0
    assert "nothing to do" in capsys.readouterr().err

    shutil.copy(blob_manifest.parent / "videos" / "p09_talk.avi", videos / "p07" / "p07_talk.avi")  # another video of hers
    shutil.rmtree(videos / "p08")
    (videos / "p10").mkdir()
    shutil.copy(blob_manifest.parent / "videos" / "p10_talk.avi", videos / "p10")
    before = out.read_bytes()
    assert run() == 2
    assert "people: 1 new, 1 changed, 1 no longer there" in capsys.readouterr().err
    assert out.read_bytes() == before

    prepared = []
    real = embedder.prepare_face_clips
    monkeypatch.setattr(embedder, "prepare_face_clips", lambda entries, *rest: prepared.extend(entries) or real(entries, *rest))
    assert run("--overwrite") == 0
    assert {entry.person_id for entry in prepared} == {"p07", "p10"}
    second = pd.read_parquet(long)
    assert set(pd.read_parquet(out)["person_id"]) == {"p06", "p07", "p10"}
    assert set(second["person_id"]) == {"p06", "p07", "p10"}

    def of(table, person):
        return np.stack(table.loc[table["person_id"] == person, "representation"])

    np.testing.assert_array_equal(of(first, "p06"), of(second, "p06"))
    assert np.abs(of(first, "p07") - of(second, "p07")).max() > 0
    whole = out.with_name("whole.parquet")
    shutil.move(out, whole)
    assert run() == 0  # all again: the same table
    pd.testing.assert_frame_equal(pd.read_parquet(long), second, atol=1e-5)


def test_a_foreign_file_is_not_replaced(people_of_videos, capsys):
    run, _, out = people_of_videos
    out.write_text("mine")
    assert run() == 2
    assert "is not a table of `facedyn embed`" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert run("--overwrite") == 0
