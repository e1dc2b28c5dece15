"""Decoding, a test for each kind of file that is not plain: what is handed out is what was filmed, and when it was filmed."""

import gc
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from broken_videos import begin_later, display_matrix, lie_about_the_length, write_mp4
from pyav_videos import interlaced, moving, write, write_two_sizes

from data_pipelines.errors import InputError
from data_pipelines.faces import conversion
from data_pipelines.faces.video import Video, quiet
from data_pipelines.suffixes import IMAGES, VIDEOS

quiet()
REALTIME = {"deadline": "realtime", "cpu-used": "8"}
INTERLACED = av.codec.context.Flags.interlaced_dct


def decoded(path, **settings):
    """(Video, indices, seconds, images)."""
    video = Video(path, **settings)
    return video, *zip(*video)


def combed(image):
    """How much every line differs from those beside it."""
    image = image.astype(float)
    return float(np.abs(image[1:-1] - (image[:-2] + image[2:]) / 2).mean())


def nearest(image, frames):
    """(which of `frames` it is, mean difference from that one)."""
    errors = [np.abs(image.astype(int) - frame).mean() for frame in frames]
    return int(np.argmin(errors)), float(min(errors))


@pytest.mark.parametrize(("suffix", "codec"), [("mpg", "mpeg2video"), ("mp4", "libx264")])
def test_interlaced_pictures_are_deinterlaced_one_out_for_one_in(tmp_path, suffix, codec):
    frames = moving(40, 128, 96, step=3)

    def fields(context):
        context.flags |= INTERLACED

    options = {"mpeg2video": {"b": "4000000"}, "libx264": {"x264-params": "tff=1", "crf": "12"}}[codec]
    write(tmp_path / f"a.{suffix}", interlaced(frames), codec, options=options, prepare=fields)
    video, indices, _, images = decoded(tmp_path / f"a.{suffix}")
    assert indices == tuple(range(20))
    assert (video.n_decoded, video.n_repeated, video.note) == (20, 0, "")
    for number, image in enumerate(images):
        assert combed(image) < 0.5 * combed(interlaced(frames)[number])
        found, error = nearest(image, frames)
        assert found in (2 * number, 2 * number + 1)
        assert error < 12


def test_a_file_that_becomes_interlaced_loses_and_repeats_no_picture(tmp_path):
    frames = moving(75, 128, 96, step=2)

    def fields(context):
        context.flags |= INTERLACED

    write(tmp_path / "p.ts", frames[:25], "mpeg2video", container="mpegts", options={"b": "4000000"})
    write(
        tmp_path / "i.ts", interlaced(frames[25:]), "mpeg2video", container="mpegts", prepare=fields, options={"b": "4000000"}
    )
    (tmp_path / "a.ts").write_bytes((tmp_path / "p.ts").read_bytes() + (tmp_path / "i.ts").read_bytes())
    video, indices, seconds, images = decoded(tmp_path / "a.ts")
    assert video.n_decoded == len(images) == 50
    assert np.flatnonzero(np.diff(indices) > 1).tolist() == [24]  # the clock starts again: nobody knows what lies between
    assert np.all(np.diff(seconds) > 0.039)
    numbers = [nearest(image, frames)[0] for image in images]
    assert np.all(np.diff(numbers) > 0)


@pytest.mark.parametrize(
    ("ratio", "size"), [((2, 1), (48, 128)), ((16, 15), (48, 68)), ((1, 2), (96, 64)), ((1, 500), (48, 64))]
)
def test_pixels_become_square(tmp_path, ratio, size):
    def shape(context):
        context.sample_aspect_ratio = Fraction(*ratio)

    write(tmp_path / "a.mp4", moving(5), prepare=shape)
    assert decoded(tmp_path / "a.mp4")[3][0].shape[:2] == size  # one that cannot be true changes nothing


MATRICES = {
    "as it is": ((1, 0, 0, 1), lambda image: image),
    "clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "half a turn": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "counterclockwise": ((0, -1, 1, 0), lambda image: np.rot90(image)),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "upside down in a mirror": ((1, 0, 0, -1), lambda image: image[::-1]),
    "turned and mirrored": ((0, 1, 1, 0), lambda image: np.transpose(image, (1, 0, 2))),
    "turned and mirrored, the other way": ((0, -1, -1, 0), lambda image: np.rot90(np.transpose(image, (1, 0, 2)), 2)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_display_matrices_turn_and_mirror(tmp_path, name):
    matrix, expected = MATRICES[name]
    write_mp4(tmp_path / "a.mp4", moving(3))
    plain = decoded(tmp_path / "a.mp4")[3][0]
    display_matrix(tmp_path / "a.mp4", *matrix)
    np.testing.assert_array_equal(decoded(tmp_path / "a.mp4")[3][0], expected(plain))


def test_a_change_of_size_is_a_gap_and_every_frame_has_its_own(tmp_path):
    frames = moving(20)
    write_two_sizes(tmp_path / "a.webm", frames[:10], frames[10:].transpose(0, 2, 1, 3))
    video, indices, _, images = decoded(tmp_path / "a.webm")
    assert [image.shape[:2] for image in images] == [(48, 64)] * 10 + [(64, 48)] * 10
    assert indices == (*range(10), *range(11, 21))
    assert (video.n_holes, video.n_repeated, video.note) == (0, 0, "")
    at_ten = list(Video(tmp_path / "a.webm", fps=10))
    jumps = np.diff([index for index, _, _ in at_ten])
    changes = np.diff([image.shape[0] for _, _, image in at_ten]) != 0
    np.testing.assert_array_equal(jumps > 1, changes)


def test_a_hole_in_time_is_a_gap_and_resampling_invents_nothing_in_it(tmp_path):
    frames = moving(60)
    times = np.arange(60) * 1000 / 30
    times[30:] += 2000
    write(tmp_path / "a.mp4", frames, times=np.round(times), rate=30)
    video, indices, seconds, _ = decoded(tmp_path / "a.mp4")
    assert video.fps == 30
    assert (video.n_holes, video.n_decoded) == (1, 60)
    assert np.flatnonzero(np.diff(indices) > 1).tolist() == [29]
    np.testing.assert_allclose(seconds, np.round(times) / 1000, atol=1e-4)
    video, indices, seconds, images = decoded(tmp_path / "a.mp4", fps=25)
    assert video.fps == 25
    assert len(images) == pytest.approx(50, abs=1)
    assert (np.diff(indices) > 1).sum() == 1
    assert all(np.abs(times / 1000 - second).min() <= 0.02 for second in seconds)
    numbers = [nearest(image, frames)[0] for image in images]
    assert np.all(np.diff(numbers) > 0)  # none twice


def test_repeated_timestamps_are_one_moment(tmp_path):
    times = np.repeat(np.arange(20) * 60, 2)
    write(tmp_path / "a.webm", moving(40), "libvpx", times=times, options=REALTIME)
    video, indices, seconds, _ = decoded(tmp_path / "a.webm")
    assert (video.n_decoded, video.n_repeated, len(indices)) == (40, 20, 20)
    assert indices == tuple(range(20))
    assert seconds[-1] == pytest.approx(1.14, abs=1e-6)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frozen_pictures_are_counted_and_end_a_segment(tmp_path, codec):
    frames = moving(75)
    still = np.concatenate([frames[:25], frames[24:25].repeat(30, 0), frames[25:50]])
    write(tmp_path / "a.mp4", still, codec)
    video, indices, _, images = decoded(tmp_path / "a.mp4")
    assert video.n_decoded == 80
    assert video.n_repeated == pytest.approx(30, abs=2)
    assert len(images) == 80 - video.n_repeated
    assert (np.diff(indices) > 1).sum() == 1
    assert (np.diff([i for i, _, _ in Video(tmp_path / "a.mp4", fps=12.5)]) > 1).sum() == 1


def test_slow_and_doubled_pictures_are_not_frozen(tmp_path):
    random = np.random.default_rng(0)
    slow = np.clip(moving(1)[0].astype(float) + 3 * np.sin(np.arange(60) / 3)[:, None, None, None], 0, 255)
    slow[:, 20:28, 20:28] += 40 * np.sin(np.arange(60) / 4)[:, None, None, None]  # a blink in a face that is still
    noisy = np.clip(slow + random.normal(0, 1, slow.shape), 0, 255).astype(np.uint8)
    write(tmp_path / "a.mp4", noisy, "libx264")
    assert decoded(tmp_path / "a.mp4")[1] == tuple(range(60))
    write(tmp_path / "b.mp4", moving(30).repeat(2, 0), "libx264")  # 12.5 pictures a second, stored as 25
    assert decoded(tmp_path / "b.mp4")[1] == tuple(range(60))


def test_headers_are_not_believed(tmp_path):
    write_mp4(tmp_path / "a.mp4", moving(25))
    lie_about_the_length(tmp_path / "a.mp4", 8 * 3600)
    video, indices, seconds, _ = decoded(tmp_path / "a.mp4")
    assert (len(indices), video.fps, video.note) == (25, 25, "")
    assert seconds[-1] == pytest.approx(24 / 25)

    write(tmp_path / "b.avi", moving(25))
    data = bytearray((tmp_path / "b.avi").read_bytes())
    place = data.index(b"strh") + 8 + 20  # scale and rate of the picture stream
    data[place : place + 8] = (1).to_bytes(4, "little") + (1000).to_bytes(4, "little")
    (tmp_path / "b.avi").write_bytes(data)
    video, indices, seconds, _ = decoded(tmp_path / "b.avi")
    assert (len(indices), video.fps) == (25, 25)
    assert "1000 frames per second" in video.note
    assert seconds[-1] == pytest.approx(24 / 25)
    assert Video(tmp_path / "b.avi", source_fps=50).fps == 50
    assert decoded(tmp_path / "b.avi", source_fps=50)[0].note == ""

    times = np.arange(25) * 40
    write(tmp_path / "c.webm", moving(25), "libvpx", rate=1000, times=times, options=REALTIME)
    assert Video(tmp_path / "c.webm").fps == 25


def test_an_edit_list_is_no_damage(tmp_path):
    write_mp4(tmp_path / "a.mp4", moving(40))
    begin_later(tmp_path / "a.mp4", 10)
    video, indices, _, _ = decoded(tmp_path / "a.mp4")
    assert len(indices) < 40 == video.header_count
    assert video.note == ""


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
def test_a_file_that_was_cut_is_said_to_be(tmp_path, suffix):
    frames = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    with av.open(str(tmp_path / f"a.{suffix}"), "w", options=options) as file:
        stream = file.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))
    assert decoded(tmp_path / f"a.{suffix}")[0].note == ""
    data = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(data[: len(data) * 2 // 3])
    video, indices, _, images = decoded(tmp_path / f"a.{suffix}")
    assert 20 < len(indices) < 30
    assert f"{video.n_decoded} can be decoded" in video.note or f"breaks off after {video.n_decoded} frames" in video.note


def test_damaged_pictures_are_left_out_as_a_gap(tmp_path):
    frames = moving(50, 128, 96, step=1)
    write(tmp_path / "a.mkv", frames, "libx264", options={"g": "10", "bf": "0", "crf": "18"})
    with av.open(str(tmp_path / "a.mkv")) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    data = (tmp_path / "a.mkv").read_bytes()
    hit = packets[20]  # a key frame: those up to the next are predicted from it
    (tmp_path / "a.mkv").write_bytes(data.replace(hit, hit[: len(hit) // 3] + bytes(b ^ 0x5A for b in hit[len(hit) // 3 :])))
    video, indices, _, images = decoded(tmp_path / "a.mkv")
    assert indices[:20] == tuple(range(20))
    assert len(images) == 40
    assert (np.diff(indices) > 1).sum() == 1
    assert "10 damaged frames were left out" in video.note
    for image in images:
        assert nearest(image, frames)[1] < 5


def test_random_bytes_are_refused_or_give_their_own_pictures(tmp_path):
    random = np.random.default_rng(0)
    for n, name in enumerate(("a.mp4", "a.mpg", "a.avi", "a.webm", "a.h264")):
        (tmp_path / name).write_bytes(random.integers(0, 256, 2000 * (n + 1), np.uint8).tobytes())
        with pytest.raises(InputError, match=name):
            list(Video(tmp_path / name))


def test_colours_are_those_that_the_file_means(tmp_path):
    frames = np.zeros((3, 48, 64, 3), np.uint8)
    for x, colour in enumerate([(200, 60, 40), (40, 180, 60), (50, 70, 200), (180, 140, 120)]):
        frames[:, :, 16 * x : 16 * x + 16] = colour
    for matrix, wide in ((1, 1), (5, 1), (9, 1), (1, 2), (5, 2)):
        context = av.CodecContext.create("ffv1", "w")
        with av.open(str(tmp_path / "a.mkv"), "w") as file:
            stream = file.add_stream("ffv1", rate=25)
            context = stream.codec_context
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
            context.colorspace, context.color_range = matrix, wide
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture = picture.reformat(format="yuv444p", dst_colorspace=matrix, dst_color_range=wide)
                file.mux(stream.encode(picture))
            file.mux(stream.encode(None))
        image = decoded(tmp_path / "a.mkv")[3][0]
        assert np.abs(image.astype(int) - frames[0]).max() <= 4, (matrix, wide)


@pytest.mark.parametrize(("transfer", "name"), [(18, "HLG"), (16, "PQ")])
def test_high_dynamic_range_becomes_standard(tmp_path, transfer, name):
    def meant(context):
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9

    light = np.linspace(0.02, 1, 64)  # of a white of 203 candelas per square metre
    if transfer == 18:
        scene = (light * 203 / 1000) ** (1 / 1.2)
        log = np.log(np.maximum(12 * scene - 0.28466892, 1e-9))
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * log + 0.55991073)
    else:
        y = (light * 203 / 10000) ** 0.1593017578125
        signal = ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    grey = np.broadcast_to(np.round(255 * signal)[None, None, :, None], (3, 48, 64, 3)).astype(np.uint8)
    write(tmp_path / "a.mkv", grey, "ffv1", pix_fmt="yuv420p10le", prepare=meant)
    video, _, _, images = decoded(tmp_path / "a.mkv")
    assert video.note == f"its {name} colours were turned into those of standard video"
    shown = images[0].mean((0, 2))
    assert np.all(np.diff(shown) >= 0)
    assert shown.mean() == pytest.approx(255 * np.mean(light ** (1 / 2.4)), rel=0.15)


def test_avi_with_pictures_in_another_order(tmp_path):
    frames = moving(40)
    write(tmp_path / "a.avi", frames, "libx264", options={"bf": "2", "crf": "15"})
    video, indices, seconds, images = decoded(tmp_path / "a.avi")
    assert indices == tuple(range(40))
    np.testing.assert_allclose(np.diff(seconds), 0.04, atol=1e-6)
    assert [nearest(image, frames)[0] for image in images] == list(range(40))


def test_a_codec_without_a_decoder_is_named(tmp_path):
    write(tmp_path / "a.mp4", moving(5), "libx264")
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data.replace(b"avc1", b"zzz9"))
    for _ in range(2):
        with pytest.raises(InputError, match=r"a\.mp4 cannot be decoded.*codec.*zzz9"):
            Video(tmp_path / "a.mp4")


def test_lists_of_other_files_are_no_videos(tmp_path):
    write(tmp_path / "p.ts", moving(5), "mpeg2video", container="mpegts")
    (tmp_path / "a.mp4").write_text("ffconcat version 1.0\nfile p.ts\n")
    with pytest.raises(InputError, match="cannot be opened as a video"):
        Video(tmp_path / "a.mp4")


def test_quiet_without_opencvs_logging(monkeypatch):
    monkeypatch.delattr(cv2.utils, "logging", raising=False)  # OpenCV 4.12 has none
    quiet()


def test_suffixes_are_lower_case_and_of_one_list_each():
    assert len(set(VIDEOS + IMAGES)) == len(VIDEOS) + len(IMAGES)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in VIDEOS + IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize("still", [True, False])
def test_memory_does_not_grow_with_the_length(tmp_path, still):
    frames = moving(1).repeat(300, 0) if still else moving(300, step=1)
    write(tmp_path / "a.mp4", frames, "libx264", options={"g": "5"})
    gc.collect()
    gc.disable()  # nothing may wait for it: it counts objects, and a picture is one object
    try:
        most = 0
        for number, _ in enumerate(Video(tmp_path / "a.mp4").passing_frames()):
            if number % 50 == 49:
                most = max(most, sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert most < 30


def test_high_definition_without_a_matrix_is_bt709():
    frame = av.VideoFrame(1280, 720, "yuv420p")
    assert conversion.orientation(frame) == (1, 0, 0, 1)
    assert conversion._meaning(frame)["src_colorspace"] == conversion.BT709
    assert conversion._meaning(av.VideoFrame(720, 576, "yuv420p"))["src_colorspace"] == conversion.BT601


ROWS = {  # of EXPECTED.csv: (pictures, size, frames left out, gaps)
    "interlaced.mpg": (100, (576, 768), 0, 0),
    "interlaced.mp4": (100, (576, 768), 0, 0),
    "progressive_then_interlaced.ts": (175, None, 0, 1),
    "sar_2_1.mp4": (120, (1080, 1920), 0, 0),
    "vfr_stall2s.mp4": (239, None, 0, 1),
    "browser_repeated_stamps.webm": (185, None, 68, 2),
    "frozen3s.mp4": (240, None, 88, 1),
    "webrtc_turned.webm": (165, None, 0, 1),
    "hevc10_hlg.mov": (90, None, 0, 0),
    "av1.mp4": (90, None, 0, 0),
    "turned90_nometa.mp4": (90, None, 0, 0),
    "interview_cuts.mp4": (420, None, 0, 0),
}


@pytest.mark.parametrize("name", ROWS)
def test_shared_files(shared, name):
    pictures, size, left_out, gaps = ROWS[name]
    video = Video(shared / "data" / "faults" / name)
    numbers, seconds, last = [], [], None
    for number, second, image in video.passing_frames():
        assert image.max() > 20  # never a black picture
        assert last is None or image.shape != last.shape or (image != last).any()
        assert size is None or image.shape[:2] == size
        numbers.append(number)
        seconds.append(second)
        last = image.copy()
    assert (video.n_decoded, len(numbers)) == (pictures, pictures - left_out)
    assert (np.diff(numbers) > 1).sum() == gaps
    assert np.all(np.diff(seconds) > 0)
    assert "promises" not in video.note


def test_shared_variable_rate_at_25(shared):
    folder = shared / "data" / "faults"
    numbers, seconds, _ = zip(*Video(folder / "browser_repeated_stamps.webm", fps=25).passing_frames())
    assert seconds[-1] == pytest.approx(7.55, abs=0.03)
    assert numbers[-1] == pytest.approx(189, abs=2)
    assert len(numbers) == pytest.approx(189, rel=0.07)  # two holes of 0.3 s are not filled
    numbers, seconds, _ = zip(*Video(folder / "vfr_stall2s.mp4", fps=25).passing_frames())
    assert not [second for second in seconds if 4.0 < second < 6.0]
    assert (np.diff(numbers) > 1).sum() == 1
