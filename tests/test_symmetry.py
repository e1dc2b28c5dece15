"""How far a face leans, told from its mirror image: on a drawn face of which the lean is known."""

import cv2
import numpy as np
import pytest

from data_pipelines.faces.symmetry import SHARE, lean_of, levelled


def drawn(degrees, shade=0.0, size=64):
    """A symmetrical face, grey uint8, its eyes 20 pixels apart, that leans clockwise about the eyes' middle."""
    image = np.full((256, 256), 90, np.uint8)
    cv2.ellipse(image, (126, 130), (64, 84), 0, 0, 360, 180, -1)
    for x in (-40, 40):
        cv2.ellipse(image, (126 + x, 98), (16, 8), 0, 0, 360, 40, -1)
        cv2.ellipse(image, (126 + x, 76), (20, 4), 0, 0, 360, 60, -1)
    cv2.ellipse(image, (126, 174), (26, 8), 0, 0, 360, 70, -1)
    image = (image * np.linspace(1, 1 - shade, 256)).astype(np.uint8)
    turn = cv2.getRotationMatrix2D((126, 98), -degrees, 1)
    image = cv2.warpAffine(image, turn, (256, 256), borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("degrees", [-6, -2, 0, 3, 6])
@pytest.mark.parametrize("shade", [0.0, 0.5])
def test_the_lean_is_told_whatever_the_light(degrees, shade):
    assert np.degrees(lean_of(drawn(degrees, shade))) == pytest.approx(degrees, abs=1.0)


def test_a_picture_of_nothing_does_not_lean():
    assert lean_of(np.full((64, 64), 127, np.uint8)) == 0


def test_eyes_are_turned_about_their_middle():
    eyes = np.array([[21.5, 24.0], [41.5, 24.0]])
    found = levelled(drawn(5), eyes)
    np.testing.assert_allclose(found.mean(0), eyes.mean(0), atol=1e-9)
    assert np.linalg.norm(found[1] - found[0]) == pytest.approx(20)
    angle = np.degrees(np.arctan2(*(found[1] - found[0])[::-1]))
    assert angle == pytest.approx(5 * SHARE, abs=1.0)
