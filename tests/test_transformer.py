"""FacialDynamics as scikit-learn has transformers, by the model in the package, and without scikit-learn."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import drifting_blob, write_video

import facedyn
from data_pipelines.errors import InputError
from facedyn.stages import embed_model, embed_videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four videos of face crops, and a manifest that says that they are."""
    folder, rows = tmp_path_factory.mktemp("crops"), ["clip_id,person_id,path,session,aligned"]
    for i, name in enumerate("abcd"):
        write_video(folder / f"{name}.avi", drifting_blob(40, i, 64))
        rows.append(f"{name},{'ab'[i // 2]},{name}.avi,s{i % 2},true")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def shipped():
    """The model in the package."""
    try:
        return embed_model.load()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture
def crops_are_crops(monkeypatch):
    """A list of videos is taken for aligned face crops, so that blobs will do."""
    import dataclasses

    real = embed_videos.collect

    def collect(*args):
        found = real(*args)
        return found._replace(entries=[dataclasses.replace(entry, aligned=True) for entry in found.entries])

    monkeypatch.setattr(embed_videos, "collect", collect)


@pytest.mark.slow
def test_videos_become_features_without_a_workdir_and_in_silence(shipped, videos, capfd):
    model = facedyn.FacialDynamics()
    found = model.transform(videos / "clips.csv")
    assert list(found.index) == ["a", "b"]
    assert np.isfinite(found.to_numpy()).all()
    assert list(found.columns) == list(model.get_feature_names_out())
    assert model.quality_["seconds"].tolist() == pytest.approx([3.2, 3.2])
    assert set(model.videos_["verdict"]) == {"ok"}
    out, err = capfd.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if "facedyn" in line or "prepare" in line] == []


def test_a_row_may_be_a_session(workdir, videos):
    by_session = facedyn.FacialDynamics(workdir, level="session").transform(videos / "clips.csv")
    assert list(by_session.index) == [("a", "s0"), ("a", "s1"), ("b", "s0"), ("b", "s1")]
    assert by_session.index.names == ["person_id", "session"]


def test_it_is_a_transformer_of_scikit_learn(workdir, videos, crops_are_crops):
    pytest.importorskip("sklearn")
    from sklearn.base import clone
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    paths = [str(videos / f"{name}.avi") for name in "dcab"]
    model = facedyn.FacialDynamics(workdir, level="clip")
    expected = dict(model=workdir, level="clip", settings=None, unusable=None, progress=False)
    assert clone(model).get_params() == model.get_params() == expected
    features = model.fit_transform(paths)
    assert list(features.index.get_level_values(0)) == list("dcab")  # the rows stand in the order of the list
    again = pickle.loads(pickle.dumps(model)).transform(paths)
    pd.testing.assert_frame_equal(again, features)
    pipeline = make_pipeline(model, StandardScaler(), Ridge()).fit(paths, [0.0, 1.0, 2.0, 3.0])
    assert pipeline.predict(paths[:2]).shape == (2,)
    assert list(pipeline[:2].get_feature_names_out()) == list(features.columns)
    pandas = make_pipeline(model, StandardScaler()).set_output(transform="pandas").fit_transform(paths)
    assert list(pandas.columns) == list(features.columns)


def test_what_scikit_learn_asks_of_every_estimator():
    pytest.importorskip("sklearn")
    from sklearn.utils import estimator_checks as checks

    for name in (
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimator_repr",
        "check_valid_tag_types",
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_estimator_cloneable",
        "check_mixin_order",
    ):
        if check := getattr(checks, name, None):  # older versions have fewer
            check("FacialDynamics", facedyn.FacialDynamics())


def test_someone_without_features_is_an_error_a_lost_row_or_the_average_person(workdir, videos, crops_are_crops, tmp_path):
    write_video(tmp_path / "short.avi", drifting_blob(12, 9, 64))
    paths = [tmp_path / "short.avi", videos / "a.avi"]
    with pytest.raises(InputError, match="1 of 2 have no features, for example short: no features: "):
        facedyn.FacialDynamics(workdir).transform(paths)
    assert list(facedyn.FacialDynamics(workdir, unusable="drop").transform(paths).index) == ["a"]
    mean = facedyn.FacialDynamics(workdir, unusable="mean").transform(paths)
    assert list(mean.index) == ["short", "a"]
    assert (mean.loc["short"] == 0).all()
    assert (mean.loc["a"] != 0).any()
    with pytest.raises(InputError, match="unusable='lost' must be one of"):
        facedyn.FacialDynamics(workdir, unusable="lost").fit()


def test_lists_name_people_by_file_and_folder(tmp_path):
    for name in ("x/ben.mp4", "y/ben.mp4", "anna/monday/one.mp4", "anna/two.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = embed_videos.collect([tmp_path / "y/ben.mp4", tmp_path / "anna", tmp_path / "x/ben.mp4", tmp_path / "anna"])
    assert found.people == ["y/ben", "anna", "x/ben", "anna"]
    named = {entry.clip_id: (entry.person_id, entry.session) for entry in found.entries}
    assert named["anna/monday/one"] == ("anna", "monday")
    assert named["anna/two"] == ("anna", "")
    assert len(found.entries) == 4
    assert embed_videos.collect(np.array([[str(tmp_path / "y/ben.mp4")]])).people == ["ben"]
    with pytest.raises(InputError, match="No videos are named"):
        embed_videos.collect([])
    with pytest.raises(InputError, match="not as a table of 2 columns"):
        embed_videos.collect(np.array([["a", "b"]]))


def test_without_scikit_learn_the_class_works_by_itself():
    code = (
        "import sys; sys.modules['sklearn'] = sys.modules['sklearn.base'] = None\n"
        "import pickle, facedyn\n"
        "model = facedyn.FacialDynamics(level='clip')\n"
        "assert model.get_params()['level'] == 'clip'\n"
        "assert pickle.loads(pickle.dumps(model.set_params(level='person'))).level == 'person'\n"
        "try:\n    model.set_output(transform='pandas')\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "set_output needs scikit-learn: pip install scikit-learn" in done.stdout
