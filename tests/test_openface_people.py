"""Several faces in an OpenFace output: one person under several numbers is put together, another person never comes in."""

import itertools

import cv2
import numpy as np
import pytest

from data_pipelines.errors import InputError
from data_pipelines.faces import openface_people
from data_pipelines.faces.clip_faces import PrepareSettings, process_clip
from data_pipelines.faces.images import decode_image
from data_pipelines.faces.openface import OpenFaceVideo
from data_pipelines.faces.openface_table import is_table, read_table
from data_pipelines.manifest import ClipEntry

SIZE = 64
HEADER = "frame,face_id,timestamp,confidence,success"


def looks(person: int, frames: int, seed: int = 0) -> np.ndarray:
    """uint8 [T, SIZE, SIZE, 3]: a texture that is the person's, with a little that changes from frame to frame."""
    texture = np.random.default_rng(person).normal(size=(SIZE, SIZE))
    texture = cv2.GaussianBlur(texture, (0, 0), 2.0)
    changing = np.random.default_rng(1000 + seed).normal(size=(frames, SIZE, SIZE))
    changing = np.stack([cv2.GaussianBlur(image, (0, 0), 4.0) for image in changing])
    images = 120 + 90 * (texture / texture.std())[None] / 3 + 4 * changing / changing.std()
    return np.repeat(np.clip(images, 0, 255).astype(np.uint8)[..., None], 3, axis=3)


def write(folder, parts, *, fps=25.0, more=None, times=None):
    """An output of `parts`: (number of the face, person, first frame, last frame); `more`: {column: frame -> cell}."""
    images, more = folder / "x_aligned", more or {}
    images.mkdir(parents=True, exist_ok=True)
    lines = [",".join([HEADER, *more])]
    for seed, (face, person, start, end) in enumerate(parts):
        for frame, image in zip(range(start, end + 1), looks(person, end + 1 - start, seed)):
            cv2.imwrite(str(images / f"frame_det_{face:02d}_{frame:06d}.bmp"), image)
            seconds = times(frame) if times else (frame - 1) / fps
            cells = [str(frame), str(face), f"{seconds:.3f}", "0.98", "1", *(str(cell(frame)) for cell in more.values())]
            lines.append(",".join(cells))
    (folder / "x.csv").write_text("\n".join(lines) + "\n")
    return images


def process(path, **settings):
    kept = []
    faces = process_clip(ClipEntry("c", "p", path), PrepareSettings(image_size=SIZE, min_frames=5, **settings), kept.append)
    return faces, np.stack([decode_image(image, 3) for image in kept]) if kept else np.empty((0, SIZE, SIZE, 3))


def test_one_person_under_two_numbers_is_joined_with_a_gap(tmp_path):
    faces, kept = process(write(tmp_path, [(0, 7, 1, 30), (1, 7, 31, 60)]))
    assert (faces.row.n_kept, faces.row.n_decoded, faces.row.n_gaps, faces.row.share_found) == (60, 60, 1, 1.0)
    assert np.diff(faces.frame_indices).tolist() == [1] * 29 + [2] + [1] * 29
    assert "the numbers 0 and 1 in turn" in faces.row.reason
    np.testing.assert_array_equal(kept[30:], looks(7, 30, 1))


def test_another_person_is_never_joined_and_the_loss_is_told(tmp_path):
    faces, kept = process(write(tmp_path, [(0, 7, 1, 30), (1, 8, 31, 50)]))
    assert (faces.row.n_kept, faces.row.n_decoded, faces.row.share_found) == (30, 50, 0.6)
    assert "20 of the video's 50 frames show another person" in faces.row.reason
    np.testing.assert_array_equal(kept, looks(7, 30, 0))
    row = process(tmp_path / "x_aligned", fps=10.0)[0].row  # resampled, the loss stays as large
    assert row.share_found == pytest.approx(0.6, abs=0.06)


def test_faces_in_the_same_frame_are_two_people_whatever_they_look_like(tmp_path):
    faces, _ = process(write(tmp_path, [(0, 7, 1, 30), (1, 7, 30, 60)]))
    assert (faces.row.n_kept, faces.row.n_decoded, faces.row.n_two_faces) == (31, 60, 1)
    assert "OpenFace saw 2 faces, number 1 with the most good frames was taken" in faces.row.reason


def test_a_number_that_is_given_to_another_person_is_cut(tmp_path):
    # Lost for three seconds, and used again for somebody else; then without any loss, as after a cut of the film.
    for parts in ([(0, 7, 1, 40), (0, 8, 115, 130)], [(0, 7, 1, 40), (0, 8, 41, 56)]):
        faces, kept = process(write(tmp_path / str(len(str(parts))), parts))
        assert (faces.row.n_kept, faces.row.n_decoded) == (40, 56), parts
        np.testing.assert_array_equal(kept, looks(7, 40, 0))
        assert "16 of the video's 56 frames show another person" in faces.row.reason
    faces, _ = process(write(tmp_path / "same", [(0, 7, 1, 40), (0, 7, 115, 130)]))
    assert (faces.row.n_kept, faces.row.n_gaps) == (56, 1)


def test_turns_of_two_people_give_one_of_them(tmp_path):
    parts = [(0, 7, 1, 30), (1, 8, 31, 50), (2, 7, 51, 80), (3, 8, 81, 100), (0, 7, 140, 150)]
    faces, kept = process(write(tmp_path, parts))
    assert (faces.row.n_kept, faces.row.n_decoded, faces.row.n_gaps) == (71, 111, 2)
    np.testing.assert_array_equal(kept, np.concatenate([looks(7, 30, 0), looks(7, 30, 2), looks(7, 11, 4)]))


def test_the_place_tells_where_looks_do_not_suffice(tmp_path):
    """Two that resemble one another by between SAME and SAME_NEARBY: joined when the second begins where the first ended."""
    blend = 0.5
    describe = openface_people.describe
    for jump, kept in ((0, 60), (900, 30)):
        more = {
            name: (lambda f, x=x, j=jump: x + j * (f > 30)) for name, x in zip(("x_36", "y_36", "x_45", "y_45"), (0, 0, 90, 0))
        }
        images = write(tmp_path / str(jump), [(0, 7, 1, 30), (1, 7, 31, 60)], more=more)
        for file in images.glob("frame_det_01_*"):
            image = cv2.imread(str(file)).astype(float)
            other = looks(8, 1, 5)[0].astype(float)
            cv2.imwrite(str(file), (blend * image + (1 - blend) * other).astype(np.uint8))
        one, other = ([describe(cv2.imread(str(file))) for file in images.glob(f"frame_det_{f:02d}_*")] for f in (0, 1))
        nearest = min(openface_people.distance(a, b) for a in one for b in other)
        assert openface_people.SAME < nearest < openface_people.SAME_NEARBY
        assert process(images)[0].row.n_kept == kept


def test_a_hole_in_time_is_a_gap_and_a_repeated_picture_is_counted(tmp_path):
    images = write(tmp_path, [(0, 7, 1, 100)], times=lambda frame: frame / 25 + 2 * (frame > 30) - 0.04 * (frame == 20))
    for frame in range(41, 71):
        (images / f"frame_det_00_{frame:06d}.bmp").write_bytes((images / "frame_det_00_000040.bmp").read_bytes())
    video = OpenFaceVideo(images)
    found = list(video)
    assert (video.n_decoded, video.n_repeated, video.n_holes) == (100, 31, 1)
    assert video.fps == pytest.approx(25, abs=0.01)
    steps = {b[0] - 1: b[0] - a[0] for a, b in itertools.pairwise(found) if b[0] - a[0] > 1}
    # Behind the picture at the time of the one before it, the hole in time, and the frozen stretch of 31 pictures.
    assert list(steps.values()) == [2, 2, 31]
    assert found[-1][1] == pytest.approx(99 / 25 + 2, abs=1e-3)
    assert "repeated images, left out: 31" in video.note
    assert "holes in time, kept as gaps: 1" in video.note
    resampled = list(OpenFaceVideo(images, fps=10.0))
    assert sum(b[0] - a[0] > 1 for a, b in itertools.pairwise(resampled)) == 3
    slow = OpenFaceVideo(images, fps=50.0)
    list(slow)
    assert slow.fps == pytest.approx(25, abs=0.01)
    assert "none are repeated to reach the 50 of config.data.fps" in slow.note


def european(text, separator):
    """The table as a computer with decimal commas writes it."""
    lines = [[cell.strip().replace(".", ",") for cell in line.split(",")] for line in text.splitlines()]
    return "\n".join(separator.join(line) for line in lines) + "\n"


@pytest.mark.parametrize("separator", [";", "\t", ", ", '","'])
def test_decimal_commas_that_have_one_meaning_are_read(tmp_path, separator):
    images = write(tmp_path, [(0, 7, 1, 20)], fps=30.0)
    table = tmp_path / "x.csv"
    text = european(table.read_text(), separator)
    if separator == '","':
        text = "".join(f'"{line}"\n' for line in text.splitlines()).replace('"frame', "frame").replace('success"', "success")
        text = text.replace(text.splitlines()[0], HEADER)
    table.write_text(text)
    assert is_table(table)
    row = process(images)[0].row
    assert (row.verdict, row.n_kept, row.reason) == ("ok", 20, "")
    assert row.fps == pytest.approx(30, abs=0.05)
    assert row.mean_confidence == pytest.approx(0.98)


def test_decimal_commas_between_separating_commas_are_refused_by_their_name(tmp_path):
    images = write(tmp_path, [(0, 7, 1, 20)])
    (tmp_path / "x.csv").write_text(european((tmp_path / "x.csv").read_text(), ","))
    row = process(images)[0].row
    assert row.verdict == "left_out"
    assert "decimal commas" in row.reason
    assert "LC_ALL=C" in row.reason
    with pytest.raises(InputError, match="line 2 has more cells than the header"):
        read_table(tmp_path / "x.csv")


def test_some_damaged_lines_are_counted_and_no_refusal(tmp_path):
    images = write(tmp_path, [(0, 7, 1, 20)])
    lines = (tmp_path / "x.csv").read_text().splitlines()
    lines[3:5] = ["3,0,0.08,0.98,1,7,7,7", "4,0,zero,nothing,1"]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    row = process(images)[0].row
    assert row.n_kept == 18
    assert "2 lines of OpenFace's CSV are damaged" in row.reason


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_other_encodings_of_the_table(tmp_path, encoding):
    images = write(tmp_path, [(0, 7, 1, 20)])
    (tmp_path / "x.csv").write_text((tmp_path / "x.csv").read_text(), encoding=encoding)
    assert process(images)[0].row.n_kept == 20


def test_many_pieces_do_not_take_long():
    """A thousand pieces of one person: hours of video with several faces have as many."""
    pictures = looks(7, 10)
    faces = {face: (range(20 * face, 20 * face + 9), dict.fromkeys(range(20 * face, 20 * face + 9))) for face in range(300)}
    (person,) = openface_people.find_people(faces, lambda face, frame: pictures[frame % 10], lambda frame: frame / 25)
    assert len(person) == 300


def test_the_real_output_keeps_all_frames_of_the_person(shared):
    faces, _ = process(shared / "data" / "faults" / "openface_multi_aligned")
    assert (faces.row.verdict, faces.row.n_kept, faces.row.n_decoded, faces.row.n_gaps) == ("ok", 90, 90, 1)
    assert "the numbers 0 and 1 in turn" in faces.row.reason


def test_real_people_are_told_apart(shared, tmp_path):
    """The second half of the real output shows someone else, under another number or under the same one."""
    crops = []
    entry = ClipEntry("c", "p", shared / "data" / "clips" / "grid_s1.mpg")
    if not entry.path.exists():
        entry = ClipEntry("c", "p", sorted((shared / "data" / "clips").glob("grid_*.mpg"))[0])
    process_clip(entry, PrepareSettings(image_size=112, crop_scale=2.8), crops.append)
    other = [decode_image(image, 3) for image in crops[:45]]
    source = shared / "data" / "faults"
    for number in (0, 1):
        images = tmp_path / str(number) / "x_aligned"
        images.mkdir(parents=True)
        for i in range(45):
            name = f"frame_det_00_{i + 1:06d}.bmp"
            (images / name).write_bytes((source / "openface_multi_aligned" / name).read_bytes())
            cv2.imwrite(str(images / f"frame_det_{number:02d}_{i + 46:06d}.bmp"), other[i][..., ::-1])
        text = (source / "openface_multi.csv").read_text()
        (tmp_path / str(number) / "x.csv").write_text(
            text if number else text.replace(", 1, 1.", ", 0, 1.").replace(", 1, 2.", ", 0, 2.")
        )
        video = OpenFaceVideo(images)
        assert len(list(video)) == 45
        assert video.n_decoded == 90
        assert "45 of the video's 90 frames show another person" in video.note
