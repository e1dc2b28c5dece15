"""The stage doctor: what it prints, writes and returns, on a prepared dataset and on broken ones."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from conftest import drifting_blob, write_video
from test_doctor_checks import clips, seen

from data_pipelines import doctor
from data_pipelines.dataset import face_clips
from facedyn.main import main
from facedyn.store.scores import load_scores


def arguments(root, manifest, workdir, stage="doctor", **settings):
    settings = {"data.manifest": manifest, "data.image_size": 16, "data.workers": 1} | settings
    flags = [f"--config.{name.replace('__', '.')}={value}" for name, value in settings.items()]
    return [stage, f"--config={root}/configs/videos.py", f"--workdir={workdir}", *flags]


@pytest.fixture(scope="module")
def prepared(blob_manifest, root, tmp_path_factory):
    """(manifest, workdir) after prepare, in folders of this module's own."""
    folder = tmp_path_factory.mktemp("doctor")
    shutil.copytree(blob_manifest.parent, folder / "blobs")
    manifest = folder / "blobs" / "manifest.csv"
    assert main(arguments(root, manifest, folder / "w", "prepare", data__traits="calm,bold")) == 0
    return manifest, folder / "w"


def test_healthy_data_has_no_error(prepared, root, capsys):
    manifest, workdir = prepared
    capsys.readouterr()
    assert main(arguments(root, manifest, workdir, data__traits="calm,bold")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("error")]
    assert "24 clips of 12 people, 0 errors" in lines[-1]
    table = pd.read_csv(workdir / "doctor.csv")
    assert set(table.severity) <= {"warning"}
    # Both trivial baselines are there for whoever wants to compare; without shared people they are the same.
    scores = load_scores(workdir)
    own = scores[(scores.stage == "doctor") & (scores.split == "test") & (scores.trait == "mean")]
    assert sorted(own.method) == ["mean_predictor"] * 3 + ["same_identity"] * 3
    assert own.pivot(index="metric", columns="method", values="value").nunique(axis=1).eq(1).all()
    assert set(own.n) == {6}


def test_it_looks_only_and_without_jax(prepared, root, tmp_path):
    manifest, workdir = prepared
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name not in ("doctor.csv", "scores.csv")}
    command = arguments(root, manifest, workdir)
    code = (
        f"import sys; from facedyn.main import main; code = main({command!r}); assert 'jax' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    # The dataset was prepared with two traits; without them its labels are not what the config asks for.
    assert done.returncode == 1, done.stderr
    assert "error stale_labels [p00_talk, p00_watch, p01_talk, p01_watch and 20 more]" in done.stdout
    after = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name not in ("doctor.csv", "scores.csv")}
    assert after == before


def test_a_dataset_that_is_not_the_manifest_s(prepared, root, tmp_path, capsys):
    manifest, workdir = prepared
    shutil.copytree(workdir, tmp_path / "w")
    table = pd.read_csv(manifest, dtype=str)
    table.path = [str(manifest.parent / path) for path in table.path]
    table.loc[0, "calm"] = "0.7"
    table.loc[1, "person_id"] = "p11"
    table.loc[2, "split"] = "validation"
    write_video(tmp_path / "other.avi", drifting_blob(30, 99))
    table.loc[3, "path"] = str(tmp_path / "other.avi")
    table.loc[4, "clip_id"] = "new_one"
    table.to_csv(tmp_path / "changed.csv", index=False)
    assert main(arguments(root, tmp_path / "changed.csv", tmp_path / "w", data__traits="calm,bold")) == 1
    found = pd.read_csv(tmp_path / "w" / "doctor.csv").groupby("kind").item.agg(sorted)
    assert found["stale_labels"] == ["p00_talk", "p00_watch", "p01_talk"]
    assert found["stale_frames"] == ["p01_watch"]
    assert found["not_in_dataset"] == ["new_one"]
    assert found["not_in_manifest"] == ["p02_talk"]
    assert set(found["identity_overlap"]) >= {"p01"}
    capsys.readouterr()
    assert main(arguments(root, manifest, tmp_path / "w", data__traits="calm,bold", data__channels=1)) == 1
    assert "error stale_frames" in capsys.readouterr().out  # other crops than the config asks for


def test_broken_tables_get_one_line_each_and_the_rest_is_checked(prepared, root, tmp_path, capsys):
    manifest, workdir = prepared
    shutil.copytree(workdir, tmp_path / "w")
    (tmp_path / "w" / "quality.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "w" / "data" / "face_clips" / face_clips.VERSION / "metadata.json").write_text("{}")
    assert main(arguments(root, manifest, tmp_path / "w", data__traits="calm,bold")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("error broken_quality_table") and "quality.parquet" in line]) == 1
    assert len([line for line in lines if line.startswith("error broken_dataset")]) == 1
    pd.DataFrame({"clip_id": ["a"]}).to_parquet(tmp_path / "w" / "quality.parquet")
    main(arguments(root, manifest, tmp_path / "w", data__traits="calm,bold"))
    assert "it has no column 'person_id'" in capsys.readouterr().out
    seen().assign(n_kept="many").to_parquet(tmp_path / "w" / "quality.parquet")
    main(arguments(root, manifest, tmp_path / "w", data__traits="calm,bold"))
    assert "its column 'n_kept' holds" in capsys.readouterr().out


def test_what_cannot_be_looked_at_at_all_is_exit_code_2(root, tmp_path, capsys):
    for settings, words in (
        ({"data.manifest": ""}, "No videos are named"),
        ({"data.manifest": tmp_path / "no.csv"}, "There is no manifest at"),
        ({"data.dataset": "synthetic"}, "run prepare first"),
        ({"data.dataset": "udiva"}, "but no folder is named"),
    ):
        assert main(arguments(root, "x.csv", tmp_path / "w", **settings)) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert not (tmp_path / "w").exists()  # nothing was rendered, nothing begun


def test_a_terminal_gets_a_table_and_ids_are_no_markup(root, tmp_path, capsys, monkeypatch):
    entries = clips(tmp_path, 1, 1)
    (tmp_path / "m.csv").write_text(
        f"clip_id,person_id,path,split\n[red]a[/],007,{entries[0].path},train\nb,008,nowhere.mp4,test\n"
    )
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(arguments(root, tmp_path / "m.csv", tmp_path / "w")) == 1
    shown = capsys.readouterr().out
    assert "and how to fix it" in shown
    assert "missing_file" in shown
    assert pd.read_csv(tmp_path / "w" / "doctor.csv", dtype=str).item.tolist().count("b") == 1
    (tmp_path / "gone.mp4").mkdir()
    (tmp_path / "m.csv").write_text("clip_id,person_id,path,split\n[red]a[/],007,gone.mp4,train\n")
    main(arguments(root, tmp_path / "m.csv", tmp_path / "w"))
    assert "[red]a[/]" in capsys.readouterr().out


def test_overlap_is_scored_and_is_an_error(root, tmp_path, capsys):
    entries = clips(tmp_path, 8, 4)
    rows = ["clip_id,person_id,path,split,warm"]
    for i, e in enumerate(entries):
        rows.append(f"{e.clip_id},{e.person_id},{e.path},{('train', 'train', 'validation', 'test')[i % 4]},{(i // 4) / 8}")
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    assert main(arguments(root, tmp_path / "m.csv", tmp_path / "w", data__traits="warm")) == 1
    out = capsys.readouterr().out
    assert "error identity_overlap" in out
    assert out.count("Without a pixel") == 1
    assert "on test ACC 1.0000, CCC 1.000, PCC 1.000 (the training mean: ACC 0.7500, CCC 0.000)" in out
    scores = load_scores(tmp_path / "w")
    perfect = scores[(scores.method == "same_identity") & (scores.trait == "warm") & (scores.metric == "ccc")]
    assert perfect.value.tolist() == [1, 1]
    assert sorted(perfect.split) == ["test", "validation"]
    # Without traits nothing is scored, and the older rows do not stay behind.
    assert main(arguments(root, tmp_path / "m.csv", tmp_path / "w")) == 0
    assert not len(load_scores(tmp_path / "w"))
    assert "warning unlabelled_overlap" in capsys.readouterr().out


def test_what_a_source_s_own_lists_name_but_the_copy_lacks(root, tmp_path, capsys):
    entries = clips(tmp_path, 6, 2)
    workdir = tmp_path / "w"
    workdir.mkdir()
    rows = [f"{e.clip_id},{e.person_id},{e.path}" for e in entries]
    (workdir / "manifest.csv").write_text("\n".join(["clip_id,person_id,path", *rows]) + "\n")
    write_video(tmp_path / "more.avi", drifting_blob(3, 99, 8))
    listing = {
        "missing": ["lost1", "lost2", "c1"],
        "extra": ["far/off.mp4", "more.avi", "c2"],
        "left_out": {"odd.mp4": "unnamed"},
    }
    (workdir / "manifest.json").write_text(json.dumps(listing))
    assert main(arguments(root, "", workdir, data__dataset="udiva")) == 0
    out = capsys.readouterr().out
    assert "warning absent_from_copy [lost1, lost2]: 2 of 14 (14.3 %)" in out
    assert "warning extra_file [more.avi, far/off.mp4]: 2 videos" in out
    assert "warning left_out_of_source [odd.mp4]: 1 file" in out
    (workdir / "manifest.json").write_text("{")
    assert main(arguments(root, "", workdir, data__dataset="udiva")) == 2
    assert "manifest.json is not what prepare writes" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["prepare", "run"])
@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_people_are_refused_before_anything_is_decoded(root, tmp_path, capsys, stage, n):
    entries = clips(tmp_path, n, 2)
    rows = [f"{e.clip_id},{e.person_id},{e.path}" for e in entries]
    (tmp_path / "m.csv").write_text("\n".join(["clip_id,person_id,path", *rows]) + "\n")
    assert main(arguments(root, tmp_path / "m.csv", tmp_path / "w", stage)) == 2
    error = capsys.readouterr().err
    assert error.count("facedyn: ") == 1
    assert f"has {n} p" in error
    assert "facedyn embed" in error
    assert not (tmp_path / "w" / "data").exists()
    assert not (tmp_path / "w" / "quality.parquet").exists()
    assert main(arguments(root, tmp_path / "m.csv", tmp_path / "w")) == 1
    assert "error too_few_people" in capsys.readouterr().out


def test_few_people_are_warned_of_before_the_work(root, tmp_path, capsys):
    entries = clips(tmp_path, 4, 1)
    rows = [f"{e.clip_id},{e.person_id},{e.path}" for e in entries]
    (tmp_path / "m.csv").write_text("\n".join(["clip_id,person_id,path", *rows]) + "\n")
    main(arguments(root, tmp_path / "m.csv", tmp_path / "w", "prepare"))
    assert "warning: Only 4 people" in capsys.readouterr().err


def test_doctor_and_its_page_know_the_same_defects(root):
    """docs/data.md has one row per kind, with its severity and how to fix it."""
    page = (root / "docs" / "data.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines()]
    listed = {row[1].strip("`"): (row[2], row[4]) for row in rows if len(row) == 6 and row[2] in ("error", "warning")}
    assert listed == doctor.KINDS
