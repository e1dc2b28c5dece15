"""Who is who among the tracks of a clip, the sentences about it, and borders that no window crosses."""

import dataclasses

import cv2
import numpy as np
import pytest
from test_alignment import texture

from data_pipelines.dataset.windows import centre_positions
from data_pipelines.errors import InputError
from data_pipelines.faces import reasons
from data_pipelines.faces.clip_faces import PrepareSettings, numbered_apart
from data_pipelines.faces.detection import Face
from data_pipelines.faces.identity import SIDE, Appearance, SFace, make_describer, people
from data_pipelines.faces.quality import QualityRow
from data_pipelines.faces.tracking import Track

SETTINGS = PrepareSettings()
ANNA, BEN = np.array([1.0, 0]), np.array([0, 1.0])


def track(start, n, x=90.0, width=60.0, seen=2, shot=0):
    face = Face(np.array([x - width / 2, 50.0, width, width]), np.array([[0.0, 0], [1, 0]]), 0.9, seen)
    faces, seconds = {start + i: face for i in range(0, n, 5)}, [(start + i) / 25 for i in range(n)]
    return Track(start, faces, [np.eye(2, 3)] * (n - 1), seconds, face, shape=(160, 200), shot=shot)


class Described:
    same, same_in_place = 0.8, 0.6


def who(tracks, vectors, which="auto"):
    return [person.tracks for person in people(tracks, dict(zip(tracks, vectors)), Described(), which)]


def test_the_main_person_is_seen_largest_and_longest_over_the_whole_clip():
    pieces = [track(start, 60, shot=i) for i, start in enumerate((0, 100, 200, 300))]
    bystander = track(0, 400, x=170, width=35)  # longer, never broken, and at the edge
    assert who([bystander, *pieces], [BEN, ANNA, ANNA, ANNA, ANNA]) == [pieces, [bystander]]


def test_other_people_are_never_joined():
    one, other, again = track(0, 100), track(100, 90, shot=1), track(190, 80, shot=2)
    assert who([one, other, again], [ANNA, BEN, ANNA]) == [[one, again], [other]]
    at_once = track(50, 100, x=150, width=40)
    assert who([one, at_once], [ANNA, ANNA]) == [[one], [at_once]]  # nobody is at two places at once
    assert who([one, other], [ANNA, None]) == [[one], [other]]


def test_who_was_hidden_comes_back_at_the_same_place():
    turned = np.array([0.7, 0.714])  # alike by 0.7
    one, back = track(0, 100), track(120, 90)
    assert who([one, back], [ANNA, turned]) == [[one, back]]
    for elsewhere in (track(120, 90, x=150), track(250, 90), track(120, 90, shot=1), track(120, 90, width=30)):
        assert len(who([one, elsewhere], [ANNA, turned])) == 2


def test_halves_of_the_picture_and_chance_hits():
    left, right = track(0, 100, x=60), track(0, 200, x=150, width=40)
    assert who([left, right], [ANNA, BEN], "right") == [[right]]
    assert who([left, right], [ANNA, BEN], "left") == [[left]]
    assert who([track(3, 10), track(0, 300, width=90, seen=0)], [ANNA, BEN]) == []
    assert who([], []) == []


def face(seed, light=1.0):
    image = cv2.GaussianBlur(texture(seed, SIDE, SIDE), (0, 0), 2)
    return np.clip(image * light, 0, 255).astype(np.uint8)


def test_looks_do_not_depend_on_the_light():
    looks = Appearance()
    one, darker, other = (looks.describe(image) for image in (face(1), face(1, 0.5), face(2)))
    tinted = looks.describe((face(1) * [0.8, 0.9, 1.0]).astype(np.uint8))
    assert np.linalg.norm(one) == pytest.approx(1)
    assert one @ darker > 0.95
    assert one @ tinted > 0.95
    assert one @ other < looks.same_in_place


def test_two_people_one_after_the_other_at_one_place_are_two():
    first, second = track(0, 70), track(90, 50)
    ben = np.array([0.7, np.sqrt(1 - 0.7**2)])  # as much like Anna as two people's means can be
    assert [person.tracks for person in people([first, second], {first: ANNA, second: ben}, Appearance())] == [
        [first],
        [second],
    ]


def test_sface_is_used_when_its_file_is_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="There is no SFace model"):
        make_describer(str(tmp_path / "nowhere.onnx"))
    (tmp_path / "sface.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match="cannot be loaded as an SFace model"):
        make_describer(str(tmp_path / "sface.onnx"))

    class Network:
        def feature(self, image):
            assert image.shape == (SIDE, SIDE, 3)
            return np.float32([[3, 4]])

    monkeypatch.setattr(cv2.FaceRecognizerSF, "create", lambda *a: Network())
    describer = make_describer(str(tmp_path / "sface.onnx"))
    assert isinstance(describer, SFace)
    np.testing.assert_allclose(describer.describe(face(1)), [0.6, 0.8], atol=1e-6)
    assert isinstance(make_describer(), Appearance)


def test_no_window_crosses_a_border_between_two_frames_in_a_row():
    numbers = numbered_apart([[3, 4, 5, 6], [7, 8, 9], [12, 13, 14], [15, 16, 17, 18]])
    assert numbers.tolist() == [3, 4, 5, 6, 8, 9, 10, 13, 14, 15, 17, 18, 19, 20]
    assert centre_positions(numbers, 1, 1).tolist() == [1, 2, 5, 8, 11, 12]
    assert numbered_apart([]).tolist() == []
    assert numbered_apart([[1, 2, 3]]).tolist() == [1, 2, 3]


ROW = QualityRow("a", "p", "a.mp4", n_decoded=100, n_frames=100, n_found=100, n_people=1)


def said(settings=SETTINGS, n_only_others=0, n_cuts=0, **changes):
    return list(reasons.about_people(dataclasses.replace(ROW, **changes), settings, n_only_others, n_cuts))


def test_each_sentence_about_people_is_said_when_it_is_true_and_only_then():
    assert said() == []
    assert said(n_found=90) == ["10 of 100 frames without this person's face were left out"]
    assert said(n_found=90, n_only_others=4)[0].endswith("were left out, 4 of which show another person")
    (people_seen,) = said(n_people=3, other_share=0.3)
    assert people_seen.startswith("3 people were seen; the one with the largest")
    assert people_seen.endswith("30% of both together")
    assert said(n_two_faces=7) == ["more than one face in 7 of 100 frames"]
    assert "changed abruptly once" in said(n_cuts=1)[0]
    assert "changed abruptly 4 times" in said(n_cuts=4)[0]
    left = dataclasses.replace(SETTINGS, main_person="left")
    assert said(left) == []
    assert said(left, n_two_faces=5)[0] == "the face in the left half was followed"
    assert "2 people were seen in the left half" in said(left, n_people=2)[0]


def test_the_shares_of_people():
    one, other, passing = track(0, 100), track(0, 100, x=150, width=42.43), track(0, 15, x=20, width=20)
    found = people([one, other, passing], dict(zip([one, other, passing], [ANNA, BEN, -ANNA])), Described())
    assert reasons.shares(found) == {"n_people": 2, "other_share": pytest.approx(1 / 3, abs=0.01)}
    assert reasons.shares(found[:1]) == {"n_people": 1, "other_share": 0.0}
    assert reasons.shares([]) == {}


@dataclasses.dataclass
class Seen:
    largest_too_small: float = 0.0


def test_the_sentences_without_a_face():
    assert reasons.no_face(Seen(), SETTINGS, 20) == "No face was found in any of its 20 frames."
    assert "in the left half" in reasons.no_face(Seen(), dataclasses.replace(SETTINGS, main_person="left"), 20)
    assert "is 30 pixels wide; config.data.min_face_pixels asks for 40" in reasons.no_face(Seen(30.0), SETTINGS, 20)
