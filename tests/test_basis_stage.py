"""Other coordinates and the dynamic representation as a site, through the stages: tables, layout, exported models."""

import shutil

import numpy as np
import pytest
import test_fit_engine
from conftest import CLOSED_FORM, copy_before_fit
from test_site_engine import UNITS, closed_form_settings, learnt, reference, shape_of  # noqa: F401

import facedyn
from facedyn.core import bases
from facedyn.main import main
from facedyn.stages.fit import batching, learning, shared
from facedyn.stages.fit.batching import WHOLE
from facedyn.store import site_files

TURNED = CLOSED_FORM | dict(
    fit__filter_sites="skip0,dynamic_representation",
    fit__basis="predictable",
    fit__blocks="filters,innovations",
    fit__split_half=False,
    fit__video_seconds="",
)


@pytest.fixture(scope="module")
def turned_run(workdir, arguments, tmp_path_factory):
    folder = copy_before_fit(workdir, tmp_path_factory.mktemp("turned") / "w")
    assert main(arguments("fit", folder, **TURNED)) == 0
    return folder


def test_an_exported_model_has_the_basis_and_the_site(turned_run, blob_manifest, tmp_path):
    header, *lines = blob_manifest.read_text().splitlines()
    own = [line.replace(",videos/", f",{blob_manifest.parent}/videos/") for line in lines if ",p05," in line]
    (tmp_path / "new.csv").write_text("\n".join([header, *own]) + "\n")
    rows, vectors = facedyn.load_representations(turned_run)
    assert vectors.shape[1] == 2 * (2 * 3 * 3 + 3 * 3 * 3)
    expected, spread = vectors[(rows["person_id"] == "p05").to_numpy()], vectors.std(0)
    file = tmp_path / "model.safetensors"
    assert main(["export", f"--workdir={turned_run}", f"--out={file}"]) == 0
    for source, rounding in ((turned_run, 1e-3), (file, 0.05)):  # a file has bases in 8 bits
        model = facedyn.FacialDynamics(source)
        model.transform(tmp_path / "new.csv")
        found = np.stack(model.representations_["representation"])
        assert np.sqrt(np.square((found - expected)[:, spread > 0] / spread[spread > 0]).mean()) < rounding


def test_another_basis_is_another_fit(turned_run, arguments, tmp_path, capsys):
    shutil.copytree(turned_run, tmp_path / "w")
    assert main(arguments("fit", tmp_path / "w", **TURNED | dict(fit__basis="principal"))) == 2
    assert "fit.basis was 'predictable', is 'principal'" in capsys.readouterr().err


def test_a_file_older_than_the_setting_has_principal_components(turned_run, arguments, tmp_path, capsys):
    shutil.copytree(turned_run, tmp_path / "w")
    for scale in (1, 2):
        path = site_files.path(tmp_path / "w", scale)
        with np.load(path) as stored:
            arrays = dict(stored)
        kept = site_files.learnt_from(path)
        site_files.write(path, arrays, {name: value for name, value in kept.items() if name != "fit.basis"})
    assert shared.kept_settings(path)["fit.basis"] == "principal"
    assert main(arguments("fit", tmp_path / "w", **TURNED)) == 2
    assert "fit.basis was 'principal', is 'predictable'" in capsys.readouterr().err


@pytest.mark.parametrize("lag", [0, 3])
def test_frames_of_a_basis_come_with_a_later_one_of_the_same_clip(lag):
    """`lag` frames later with none left out between, all different, no more than asked for."""
    clips = test_fit_engine.CLIPS
    frames, clip, pairs = learning.spread_pairs(clips, range(4), 64, lag)
    assert len(frames) <= 64
    numbered = [np.flatnonzero((clips.frames(int(clip[row])) == frames[row]).all((1, 2, 3)))[0] for row in range(len(frames))]
    assert len({*zip(clip, numbered)}) == len(frames)
    for now, later in pairs:
        assert clip[now] == clip[later]
        indices = clips.clips[clip[now]].frame_indices
        assert indices[numbered[later]] - indices[numbered[now]] == numbered[later] - numbered[now] == lag


@pytest.mark.parametrize("name", bases.BASES)
def test_states_of_a_pool_have_unit_spread_in_every_basis(name):
    config = closed_form_settings(basis=name, filter_sites="skip0,dynamic_representation")
    model = learnt(config)[""]
    assert [basis.shape[1] for basis in model.basis] == [3, 3]
    assert all(np.abs(basis).max(0).min() > 0 for basis in model.basis)


def test_played_backwards_is_what_a_clip_with_its_frames_turned_round_gives(reference):  # noqa: F811
    model, _, fitting = reference
    batch = test_fit_engine.batch_of(fitting, model, [{WHOLE: unit} for unit in UNITS[:4]], shape_of(), 4)
    last = batch.frames.shape[1] - 1
    turned_round = batch._replace(
        frames=batch.frames[:, ::-1],
        fitted=batch.fitted._replace(windows=last - batch.fitted.windows[..., ::-1]),
        held=batch.held._replace(windows=last - batch.held.windows[..., ::-1]),
    )
    found, expected, forwards = (fitting.fit(model, b) for b in (batching.reversed_batch(batch), turned_round, batch))
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert np.abs(found.representations - forwards.representations).max(1).min() > 1e-3
