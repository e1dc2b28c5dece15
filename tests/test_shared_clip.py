"""config.data.appearance from prepare to the report: what the dataset holds, what is counted, what is refused."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from conftest import write_video
from test_shared_face import opened_jaw, texture

from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.errors import InputError
from data_pipelines.faces import images, shared_clip, shared_face
from data_pipelines.faces.clip_faces import PrepareSettings, process_clip
from data_pipelines.manifest import ClipEntry
from data_pipelines.prepare import fingerprint_of, prepare_face_clips
from facedyn.config import check, default_config
from facedyn.report import plots
from facedyn.stages import embed_model
from facedyn.stages.runtime import common
from facedyn.stages.runtime.data_settings import prepare_settings
from facedyn.stages.traits import clip_features
from facedyn.store import portable

SETTINGS = PrepareSettings(image_size=32, workers=1, min_frames=9)
CHANNELS = {"canonical": 1, "motion": 2}
FRAMES, HIDDEN = 40, 5


def talking(folder, name="talk", seed=0, hidden=0):
    """A clip whose chin goes down and up; in `hidden` frames something else is before the camera."""
    face, frames = texture(seed, 64), []
    for t in range(FRAMES):
        share = 0.5 - 0.5 * np.cos(2 * np.pi * t / 20)
        frame = shared_face.sampled(face, -opened_jaw(64, np.float32(3 * share)))
        frames.append(texture(99 + t, 64) if 20 <= t < 20 + hidden else frame)
    write_video(folder / f"{name}.avi", np.repeat(np.stack(frames)[..., None], 3, -1))
    return ClipEntry(name, f"person-{seed}", folder / f"{name}.avi", aligned=True, split="train")


def processed(entry, appearance, **changes):
    """(ClipFaces, pictures) of a clip."""
    settings = dataclasses.replace(SETTINGS, appearance=appearance, channels=CHANNELS.get(appearance, 3), **changes)
    kept = []
    faces = process_clip(entry, settings, kept.append)
    assert not faces.traceback
    return faces, np.stack([images.decode_image(kept[i], settings.channels) for i in faces.positions])


def test_motion_of_a_clip_is_that_of_its_face(tmp_path):
    faces, pictures = processed(talking(tmp_path), "motion")
    assert pictures.shape == (FRAMES, 32, 32, 2)
    chin = shared_face.decoded(pictures)[:, 22:27, 12:20, 1].mean((1, 2))
    wanted = 3.0 / 64 * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAMES) / 20))
    # The reference may be any frame near the median: motions are differences from it.
    assert np.corrcoef(chin, wanted)[0, 1] > 0.98
    assert np.polyfit(wanted, chin, 1)[0] == pytest.approx(1, abs=0.25)
    assert faces.row.n_hidden == 0
    assert faces.row.beyond_range == 0


def test_two_people_who_move_alike_look_alike_on_the_canonical_face(tmp_path):
    """Their own pictures do not; and the face moves."""
    clips = [talking(tmp_path, f"talk{seed}", seed) for seed in (0, 1)]
    own = [processed(clip, "own")[1].astype(float).mean(-1) for clip in clips]
    shared = [processed(clip, "canonical")[1].astype(float)[..., 0] for clip in clips]
    assert shared[0].shape == (FRAMES, 32, 32)
    assert np.abs(shared[0] - shared[1]).mean() < 0.1 * np.abs(own[0] - own[1]).mean()
    assert np.abs(shared[0] - shared[0].mean(0))[:, 18:].mean() > 0.5


@pytest.mark.parametrize("appearance", CHANNELS)
def test_frames_without_a_face_to_follow_are_left_out_and_counted(tmp_path, appearance):
    faces, pictures = processed(talking(tmp_path, hidden=HIDDEN), appearance)
    assert (faces.row.n_hidden, faces.row.n_kept, len(pictures)) == (HIDDEN, FRAMES - HIDDEN, FRAMES - HIDDEN)
    assert faces.row.n_found == FRAMES
    assert faces.row.n_gaps == 1
    assert "5 of 40 frames with the face were left out" in faces.row.reason
    assert not set(range(20, 25)) & set(faces.frame_indices.tolist())


@pytest.mark.parametrize("size", [16, 32, 160])
def test_any_size_of_picture(tmp_path, size):
    for appearance in CHANNELS:
        _, pictures = processed(talking(tmp_path), appearance, image_size=size)
        assert pictures.shape[1:] == (size, size, CHANNELS[appearance])


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_two_channels_come_back(image_format):
    picture = np.random.default_rng(0).integers(100, 150, (4, 4, 2)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    found = images.decode_image(images.encode_image(picture, image_format), 2)
    assert found.shape == picture.shape
    assert np.abs(found.astype(int) - picture).mean() <= (0 if image_format == "png" else 5)


def test_dataset_knows_whose_face_it_shows(tmp_path):
    """The reader, the fingerprint and the stages: a dataset of another appearance is none that a config can use."""
    entries = [talking(tmp_path, f"talk{seed}", seed) for seed in range(2)]
    made = {}
    for appearance in ("own", *CHANNELS):
        settings = dataclasses.replace(SETTINGS, appearance=appearance, channels=CHANNELS.get(appearance, 1))
        prepare_face_clips(entries, tmp_path / appearance, settings, tmp_path / f"{appearance}.parquet", [].append)
        made[appearance] = fingerprint_of(entries, settings)[0]
        reader = open_face_clips(tmp_path / appearance)
        assert reader.appearance == appearance
        assert reader.frames(0).shape == (FRAMES, 32, 32, settings.channels)
        assert (pd.read_parquet(tmp_path / f"{appearance}.parquet")["n_hidden"] == 0).all()
    assert len(set(made.values())) == 3

    config = default_config()
    config.data.update(dict(image_size=32, channels=1, appearance="canonical"))
    assert common.open_data(tmp_path / "canonical", config).channels == 1
    with pytest.raises(InputError, match=r"appearance='own'.*'canonical'"):
        common.open_data(tmp_path / "own", config)
    with pytest.raises(InputError, match="channels"):
        common.open_data(tmp_path / "motion", config)
    config.data.update(dict(channels=2, appearance="motion"))
    assert common.unet(config).image_channels == common.open_data(tmp_path / "motion", config).channels == 2


def test_prepared_again_with_another_appearance_replaces_the_clips(tmp_path):
    entries = [talking(tmp_path)]
    for appearance, channels in (("own", 1), ("canonical", 1), ("own", 1)):
        settings = dataclasses.replace(SETTINGS, appearance=appearance, channels=channels)
        summary = prepare_face_clips(entries, tmp_path / "data", settings, tmp_path / "quality.parquet", [].append)
        assert summary["clips_reused"] == 0
        assert open_face_clips(tmp_path / "data").appearance == appearance
    assert not list((tmp_path / "data").rglob("crops-*"))


@pytest.mark.parametrize(
    ("appearance", "channels"), [("motion", 3), ("motion", 1), ("canonical", 2), ("own", 2), ("mirror", 3)]
)
def test_what_does_not_go_together_is_refused_in_a_sentence(tmp_path, appearance, channels):
    config = default_config()
    config.data.update(dict(appearance=appearance, channels=channels))
    with pytest.raises(InputError, match=r"config\.data\.(appearance|channels)") as refused:
        check(config, files=False)
    assert len(str(refused.value).splitlines()) == 1
    settings = dataclasses.replace(SETTINGS, appearance=appearance, channels=channels)
    with pytest.raises(InputError, match=r"config\.data\.(appearance|channels)"):
        prepare_face_clips([talking(tmp_path)], tmp_path / "data", settings, tmp_path / "quality.parquet")


def test_memory_does_not_hold_the_crops(tmp_path):
    """They wait in a file, which is gone afterwards."""
    with shared_clip.Waiting(tmp_path) as crops:
        pictures = [texture(seed) for seed in range(3)]
        for picture in pictures:
            crops.keep(images.encode_image(picture[..., None], "png"))
        for i in (2, 0, 1):
            np.testing.assert_array_equal(crops.crop(i), pictures[i])
    assert not list(tmp_path.iterdir())


def test_embed_and_exported_models_keep_to_their_appearance(tmp_path, monkeypatch):
    """embed prepares as the model was made and offers no choice; a file older than the setting was made of own faces."""
    assert not "data.appearance".startswith(embed_model.FREE)
    config = default_config()
    config.data.update(dict(appearance="canonical", channels=1))
    assert prepare_settings(config, (), 1).appearance == "canonical"
    params = {"kernel": np.ones(3, np.float32)}
    portable.write_generic(tmp_path / "canonical.safetensors", {1: params}, config)
    own = default_config()
    own.data.channels = 1
    with pytest.raises(InputError, match=r"data.appearance is 'canonical' there, 'own' here"):
        portable.read_generic(tmp_path / "canonical.safetensors", own, params, 1)
    now = portable.settings_of(own)
    monkeypatch.setattr(portable, "settings_of", lambda config: {k: v for k, v in now.items() if k != "data.appearance"})
    portable.write_generic(tmp_path / "old.safetensors", {1: params}, own)
    monkeypatch.undo()
    np.testing.assert_array_equal(portable.read_generic(tmp_path / "old.safetensors", own, params, 1)["kernel"], np.ones(3))


def test_pictures_and_baselines_of_a_motion():
    """A report shows it in colours; the baselines see both channels, not their mean."""
    picture = np.full((16, 16, 2), shared_face.STILL, np.uint8)
    picture[..., 0], opposite = 228, picture.copy()
    opposite[..., 0], opposite[..., 1] = 128, 228
    assert plots.frame_png(picture) != plots.frame_png(opposite)
    assert plots.overlay_png(np.ones((16, 16, 2)), picture, 1.0)[:4] == b"\x89PNG"
    first, second = (clip_features.grey(x[None], 8) for x in (picture, opposite))
    assert first.shape == (1, 8, 16)
    assert np.abs(first - second).max() > 0.3
