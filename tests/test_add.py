"""Clips that join a table of features, or leave it: the table of all of them embedded together, whatever the order."""

import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import CLOSED_FORM, copy_before_fit, drifting_blob, write_video

import facedyn
from data_pipelines.errors import InputError
from data_pipelines.faces.quality import QualityRow, quality_table
from facedyn.config import default_config
from facedyn.main import main
from facedyn.stages import embed_reuse, embed_tables, embed_update, embedder
from facedyn.stages.embed import make_embedder, states_of
from facedyn.stages.fit import batching, clip_states
from facedyn.stages.fit.units import FitUnit
from facedyn.store import state_files

SETTINGS = CLOSED_FORM | dict(
    fit__blocks="filters,innovations,step_correlations,autocorrelations,amplitude,whitened_covariances,spectrum",
    fit__whiten=True,
    fit__split_half=False,
    traits__baselines="mean_predictor",
)
SOME, MORE, NEW = ["p05_talk", "p00_talk", "p00_watch"], ["p05_watch"], ["p11_talk"]
TABLES = ("", ".quality", ".videos", ".representations", ".predictions")


@pytest.fixture(scope="module")
def model(workdir, arguments, tmp_path_factory):
    """A finished run whose filters are in closed form."""
    folder = copy_before_fit(workdir, tmp_path_factory.mktemp("closed_form") / "w")
    for stage in ("fit", "traits"):
        assert main(arguments(stage, folder, **SETTINGS)) == 0
    return folder


@pytest.fixture(scope="module")
def manifest(blob_manifest, tmp_path_factory):
    """A manifest of some clips, as the big one has them, and more rows."""
    folder = tmp_path_factory.mktemp("manifests")
    header, *rows = blob_manifest.read_text().splitlines()
    rows = [row.replace(",videos/", f",{blob_manifest.parent}/videos/") for row in rows]

    def make(clips, *more):
        path = folder / f"{len(list(folder.iterdir()))}.csv"
        path.write_text("\n".join([header, *[row for row in rows if row.split(",")[0] in clips], *more]) + "\n")
        return path

    return make


@pytest.fixture(scope="module")
def embedded(model, manifest, tmp_path_factory):
    """(clips) -> the folder of the table t.parquet of these clips, embedded together; not to be changed."""
    there = {}

    def make(clips):
        name = "+".join(sorted(clips))
        if name not in there:
            there[name] = tmp_path_factory.mktemp("embedded") / "t"
            assert main(["embed", str(manifest(clips)), f"--out={there[name]}/t.parquet", f"--workdir={model}"]) == 0
        return there[name]

    return make


@pytest.fixture
def table(embedded, tmp_path):
    """A table of SOME, to be changed."""
    shutil.copytree(embedded(SOME), tmp_path / "t")
    return tmp_path / "t" / "t.parquet"


@pytest.fixture
def add(model, table):
    """Runs `add` on the table; returns the exit code."""
    return lambda *words: main(["add", *map(str, words), f"--to={table}", f"--workdir={model}"])


def assert_same(one, other):
    """Two folders hold the same tables, features within 1e-5, and states of the same clips."""
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
    assert {path.name for path in (one / "t.states").iterdir()} == {path.name for path in (other / "t.states").iterdir()}
    for name in TABLES:
        first, second = (pd.read_parquet(folder / f"t{name}.parquet") for folder in (one, other))
        key = [column for column in ("clip_id", "person_id", "unit_id", "scale", "trait") if column in first]
        first, second = (frame.sort_values(key).reset_index(drop=True) for frame in (first, second))
        # What was promised. The last bit of a product may depend on how many people are in it, and on free threads.
        pd.testing.assert_frame_equal(first, second, rtol=1e-5, atol=1e-6)
    assert embed_reuse.read(one / "t.parquet").people == embed_reuse.read(other / "t.parquet").people


def test_added_clips_give_the_table_of_all_clips_in_any_order(embedded, add, table, manifest, model, capsys):
    before = table.read_bytes()
    assert add(manifest(NEW)) == 0
    assert add(manifest(MORE)) == 0
    assert table.read_bytes() != before
    assert_same(table.parent, embedded(SOME + MORE + NEW))
    assert "add: 3 people, 3 rows" in capsys.readouterr().out
    everyone = main(["embed", str(manifest(SOME + MORE + NEW)), f"--out={table}", f"--workdir={model}"])
    assert everyone == 0
    assert "nothing to do" in capsys.readouterr().err


def test_the_tables_are_those_of_an_embed_without_states(embedded, manifest, model, tmp_path):
    """Which fits the frames that the rows need, and not states that were kept."""
    command = ["embed", str(manifest(SOME)), f"--out={tmp_path}/t.parquet", f"--workdir={model}", "--no-states"]
    assert main(command) == 0
    assert not (tmp_path / "t.states").exists()
    one, other = (pd.read_parquet(folder / "t.parquet").set_index("person_id") for folder in (tmp_path, embedded(SOME)))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    one, other = (pd.read_parquet(folder / "t.quality.parquet").set_index("person_id") for folder in (tmp_path, embedded(SOME)))
    pd.testing.assert_frame_equal(one, other, rtol=1e-5)


def test_only_people_whose_clips_changed_are_fitted_and_no_old_video_is_read(add, manifest, monkeypatch, table):
    prepared, fitted = [], []
    real, of_known = embedder.prepare_face_clips, embedder.Embedder.embed_known
    monkeypatch.setattr(embedder, "prepare_face_clips", lambda entries, *rest: prepared.extend(entries) or real(entries, *rest))
    monkeypatch.setattr(
        embedder.Embedder, "embed_known", lambda self, known, work: fitted.extend(known) or of_known(self, known, work)
    )
    monkeypatch.setattr(batching, "shapes_of", None)  # by which shapes would depend on who else is there
    assert add(manifest(SOME + MORE)) == 0  # those that are there count once
    assert [entry.clip_id for entry in prepared] == MORE
    assert sorted(fitted) == ["p05_talk", "p05_watch"]


def test_a_clip_or_a_person_that_is_taken_out_was_never_there(embedded, add, manifest, table, capsys):
    assert add(manifest(MORE + NEW)) == 0
    assert add("--remove=p11_talk") == 0
    assert add("--remove=p05_watch") == 0
    assert_same(table.parent, embedded(SOME))
    assert add(manifest(NEW)) == 0
    assert add("--remove-person=p11") == 0
    assert_same(table.parent, embedded(SOME))
    assert add("--remove=p05_tlak") == 2
    assert "the nearest id is 'p05_talk'; nothing was removed" in capsys.readouterr().err
    assert add("--remove-person=p00") == 0
    assert add("--remove=p05_talk") == 2
    assert "Nothing would be left" in capsys.readouterr().err
    names = {path.name for path in table.parent.rglob("*")}
    assert not any(b"p00" in path.read_bytes() for path in table.parent.rglob("*") if path.is_file()), names


def test_who_had_too_few_frames_has_enough_with_one_more_clip_and_too_few_without(embedded, model, manifest, tmp_path):
    out, flags = tmp_path / "t" / "t.csv", [f"--workdir={model}", "--config.fit.min_frames=60"]
    for clips, command in ((SOME, "embed"), (MORE, "add")):
        assert main([command, str(manifest(clips)), f"--{'out' if command == 'embed' else 'to'}={out}", *flags]) == 0
        quality = pd.read_csv(out.with_suffix(".quality.csv"), index_col="person_id")
        videos = pd.read_csv(out.with_suffix(".videos.csv"), index_col="clip_id", keep_default_na=False)
        enough = command == "add"
        assert (quality.n_frames["p05"] > 0) == enough
        assert (videos.reason["p05_talk"] == "") == enough
    assert main(["add", f"--to={out}", "--remove=p05_talk", *flags]) == 0
    assert "fewer than config.fit.min_frames=60" in pd.read_csv(out.with_suffix(".videos.csv")).reason.iloc[-1]
    assert set(pd.read_csv(out)["person_id"]) == {"p00"}


class Killed(BaseException):
    """As a kill has it, nobody handles it."""


def kill(*_):
    """In place of what would have been done."""
    raise Killed


@pytest.mark.slow
def test_a_kill_leaves_the_table_as_it_was_and_the_same_command_continues(embedded, add, manifest, table, monkeypatch):
    before = {path: path.read_bytes() for path in table.parent.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(embed_tables, "write", kill)
        with pytest.raises(Killed):
            add(manifest(MORE))
    assert {path: path.read_bytes() for path in before} == before
    with monkeypatch.context() as patch:  # the states of the first call are used
        patch.setattr(state_files, "write", None)
        assert add(manifest(MORE)) == 0
    assert_same(table.parent, embedded(SOME + MORE))


def test_two_commands_at_once_lose_nothing(add, manifest, table, monkeypatch, capsys):
    """The second one has read the table before the first replaced it."""
    real = embed_tables.held

    def held(out, stamp):
        table.with_suffix(".representations.parquet").touch()
        return real(out, stamp)

    monkeypatch.setattr(embed_tables, "held", held)
    before = table.read_bytes()
    assert add(manifest(MORE)) == 2
    assert "was just replaced by another command" in capsys.readouterr().err
    assert table.read_bytes() == before


@pytest.mark.slow
def test_a_kill_while_files_are_put_in_their_places_is_made_good_by_the_next_command(
    embedded, add, table, manifest, monkeypatch
):
    folder, expected = table.parent, embedded(SOME + MORE)
    real = embed_tables.os.replace
    with monkeypatch.context() as patch:
        patch.setattr(embed_tables, "_put_in_place", kill)
        with pytest.raises(Killed):
            add(manifest(MORE))
    killed, steps = folder.with_name("killed"), len(TABLES) + 2  # the tables, the states of a clip, the index
    shutil.copytree(folder, killed)
    for step in range(steps):
        shutil.rmtree(folder)
        shutil.copytree(killed, folder)
        moved = []

        def replace(*places, step=step, moved=moved):
            if len(moved) == step:
                raise Killed
            moved.append(real(*places))

        with monkeypatch.context() as patch:
            patch.setattr(embed_tables.os, "replace", replace)
            with pytest.raises(Killed):
                embed_tables.finish(table)
        embed_tables.finish(table)
        assert_same(folder, expected)


def test_a_video_that_is_there_counts_once_and_is_never_two_peoples(add, manifest, blob_manifest, table, capsys):
    path = f"{blob_manifest.parent}/videos/p05_talk.avi"
    before = table.read_bytes()
    assert add(manifest(["p05_talk"], f"copy,p05,{path},talk,,true,,")) == 0
    assert "In the table already, and counted once: p05_talk, copy" in capsys.readouterr().err
    for clips, more, sentence in (
        ([], f"copy,p06,{path},talk,,true,,", "(person 'p06') is in the table already, as clip 'p05_talk' (person 'p05')"),
        ([], f"p05_talk,p05,{path},watch,,true,,", "(task 'watch') is in the table already, as clip 'p05_talk' (task 'talk')"),
        ([], f"p05_talk,p05,{path.replace('05', '07')},talk,,true,,", "'p05_talk' is in the table already, with another video"),
        ([], "gone,p05,gone.avi,talk,,true,,", "Not one of 1 clips can be used"),
    ):
        assert add(manifest(clips, more)) == 2
        err = capsys.readouterr().err
        assert sentence in err
    assert table.read_bytes() == before


def test_files_that_are_no_videos_keep_their_row(model, table):
    made_by = make_embedder({}, str(model), None, "person")
    before = embed_reuse.read(table)
    known = states_of(made_by, table, before)
    left_out = quality_table([QualityRow("film.bin", "", "film.bin").left_out("Left out.")])
    tables = embed_update.updated(made_by, before, known, table.parent, left_out)
    assert tables.videos.clip_id.tolist() == ["film.bin", *sorted(SOME)]
    again = embed_update.updated(made_by, tables, known, table.parent, left_out)
    pd.testing.assert_frame_equal(again.videos, tables.videos)
    pd.testing.assert_frame_equal(again.representations, before.representations)


def test_what_add_refuses(add, manifest, table, model, workdir, capsys, tmp_path):
    def refusal(*words, to=table, by=model):
        assert main(["add", *map(str, words), f"--to={to}", f"--workdir={by}"]) == 2
        err = capsys.readouterr().err.strip()
        assert err.count("facedyn: ") == 1
        return err

    new, states = manifest(NEW), table.with_suffix(".states")
    assert "add needs one of three" in refusal()
    assert "add needs one of three" in refusal(new, "--remove=p05_talk")
    assert "does not exist" in refusal(new, to=tmp_path / "none.parquet")
    assert "must end with .parquet or .csv" in refusal(new, to=tmp_path / "t")
    (tmp_path / "mine.csv").write_text("mine")
    assert "is not a table of `facedyn embed`" in refusal(new, to=tmp_path / "mine.csv")
    assert "a row of" in refusal(new, "--level=clip")
    assert "with other settings" in refusal(new, "--config.fit.min_frames=9")
    assert "finds filters by gradient descent" in refusal(new, by=workdir)
    index = state_files.read_index(states)
    state_files.write_index(states / state_files.INDEX, index._replace(rows=index.rows[1:]))
    assert "are not those of" in refusal(new)
    state_files.write_index(states / state_files.INDEX, index)
    before = table.read_bytes()
    for path in states.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:1000])
    assert "cannot be read" in refusal(manifest(MORE))  # nobody is lost by it
    assert table.read_bytes() == before
    shutil.rmtree(states)
    assert "was made without states, or they are gone" in refusal(new)
    assert main(["add", "--remove=x", "--to=t.parquet", "--out=t"]) == 2
    assert "There is no option --out for add" in capsys.readouterr().err


def test_embed_keeps_the_states_of_who_stays_and_makes_those_that_are_missing(embedded, manifest, table, model, capsys):
    def embed(clips, *flags):
        return main(["embed", str(manifest(clips)), f"--out={table}", f"--workdir={model}", *flags])

    assert embed(["p00_talk", "p00_watch", *NEW], "--overwrite") == 0
    assert "1 person kept" in capsys.readouterr().err
    assert_same(table.parent, embedded(["p00_talk", "p00_watch", *NEW]))
    assert embed(["p00_talk", "p00_watch", *NEW], "--no-states") == 0
    assert not table.with_suffix(".states").exists()
    assert embed(["p00_talk", "p00_watch", *NEW]) == 0
    assert "which `add` needs, is missing" in capsys.readouterr().err
    assert_same(table.parent, embedded(["p00_talk", "p00_watch", *NEW]))


def test_a_run_with_a_grown_manifest_asks_for_a_retrained_model(workdir, arguments, manifest, blob_manifest, tmp_path, capsys):
    """As the documents say: the new clip alone is prepared, and no vectors of two models get into one table."""
    shutil.copytree(workdir, tmp_path / "w")
    own = [row.split(",")[0] for row in blob_manifest.read_text().splitlines()[1:]]
    write_video(tmp_path / "more.avi", drifting_blob(40, 1))
    grown = manifest(own, f"more,p05,{tmp_path / 'more.avi'},talk,validation,true,0.5,0.5")
    assert main(arguments("run", tmp_path / "w", data__manifest=grown)) == 2
    err = capsys.readouterr().err
    assert f"{len(own)} of {len(own) + 1} clips were processed before" in err
    assert "was made by `pretrain` with other settings (dataset was" in err


def test_forgetting_a_person_takes_the_states_too(embedded, model, manifest, tmp_path):
    shutil.copytree(model, tmp_path / "w")
    shutil.copytree(embedded(SOME + MORE + NEW), tmp_path / "w" / "mine")
    assert main(["forget", f"--workdir={tmp_path / 'w'}", "--person=p05"]) == 0
    assert not any(b"p05" in path.read_bytes() for path in (tmp_path / "w" / "mine").rglob("*") if path.is_file())
    out = tmp_path / "w" / "mine" / "t.parquet"
    assert main(["add", f"--to={out}", "--remove=p00_watch", f"--workdir={model}"]) == 0
    assert set(pd.read_parquet(out)["person_id"]) == {"p00", "p11"}


def test_in_python_videos_are_gathered(model, manifest, embedded, tmp_path):
    together = facedyn.FacialDynamics(model)
    expected = together.transform(manifest(SOME + MORE + NEW))
    one = facedyn.FacialDynamics(model).partial_fit(manifest(SOME))
    first = one.features_
    one = pickle.loads(pickle.dumps(one)).partial_fit(manifest(MORE + NEW + SOME))
    other = facedyn.FacialDynamics(model).partial_fit(manifest(NEW + MORE)).partial_fit(manifest(SOME))
    pd.testing.assert_frame_equal(one.features_, other.features_, check_exact=True)
    pd.testing.assert_frame_equal(one.features_, expected, rtol=1e-3, atol=1e-4)
    pd.testing.assert_frame_equal(one.quality_, together.quality_, rtol=1e-5)
    assert sorted(one.videos_.clip_id) == sorted(SOME + MORE + NEW)
    assert set(one.predictions_.person_id) == {"p00", "p05", "p11"}
    one.remove("p05_watch").remove("p11_talk")
    pd.testing.assert_frame_equal(one.features_, first, check_exact=True)
    with pytest.raises(InputError, match="There is no clip 'p05_watch'"):
        one.remove("p05_watch")
    pd.testing.assert_frame_equal(one.features_, first, check_exact=True)
    with pytest.raises(InputError, match="have changed since partial_fit"):
        one.set_params(level="clip").partial_fit(manifest(NEW))
    assert set(one.fit().partial_fit(manifest(NEW)).features_.index.get_level_values(0)) == {"p11"}


def test_in_python_lists_and_what_cannot_be_gathered(model, workdir, tmp_path, monkeypatch):
    write_video(tmp_path / "a" / "one.avi", drifting_blob(40, 0, 64))
    with pytest.raises(InputError, match="finds filters by gradient descent"):
        facedyn.FacialDynamics(workdir).partial_fit([tmp_path / "a"])
    with pytest.raises(InputError, match="There is no clip 'a/one'"):
        facedyn.FacialDynamics(model).remove("a/one")


def test_a_units_numbers_depend_on_nothing_but_its_clips():
    """What a unit is padded to, and with how many others it is computed: else the last bits would tell who else was there."""
    units = []
    for n in (1, 20, 64, 65, 200, 300, 512):
        fitted, held = np.zeros((n, 2), np.int32), np.zeros((n // 4, 2), np.int32)
        units.append({0: FitUnit(str(n), str(n), "", "", fitted, held)})
    shapes = clip_states.own_shapes(default_config())

    def shape_of(unit, company):
        chunks = batching.chunks_of(company, dict.fromkeys(shapes([(1, company)], 4), 1))
        return next(shape for shape, _, found in chunks if any(other is unit for other in found))

    for unit in units:
        shape = shape_of(unit, units)
        assert shape == shape_of(unit, [unit])
        assert len(unit[0].fitted) <= shape.rows <= max(64, 2 * len(unit[0].fitted))
        assert len(unit[0].held_back) <= shape.held_rows
        assert shape.frames >= 9 * (len(unit[0].fitted) + len(unit[0].held_back))

    sizes = []

    def fit(shared, batch):
        sizes.append(len(batch.frames))
        return batching.FitResult(*[batch.frames] * 4)

    fitting = SimpleNamespace(mesh=SimpleNamespace(size=4), fit=fit)
    rows = batching.Rows(np.zeros((6, 2, 5), np.int32), np.zeros((6, 2), np.int32), np.ones(6, np.int32))
    found = clip_states.in_equal_batches(fitting)(None, batching.Batch(np.arange(6.0), rows, rows))
    assert found.representations.tolist() == list(range(6))
    assert sizes == [4, 4]
