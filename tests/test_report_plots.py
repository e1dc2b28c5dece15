import base64
import re

import cv2
import numpy as np
import pytest

from facedyn.report import page, plots

AXES = ("label", "predicted")


def circles(svg):
    return [tuple(map(float, place)) for place in re.findall(r'<circle cx="([-\d.]+)" cy="([-\d.]+)"', svg)]


def test_ticks_are_round_numbers_and_few():
    assert plots.ticks(-0.23, 0.88) == [-0.2, 0.0, 0.2, 0.4, 0.6, 0.8]
    for low, high in ((-0.01, 0.02), (-1, 1), (0, 0.5), (3, 4000), (1e-5, 2e-5)):
        found = plots.ticks(low, high)
        assert 2 <= len(found) <= plots.MAX_TICKS
        assert low <= min(found) <= max(found) <= high


def test_an_interval_that_is_not_known_is_drawn_as_a_point():
    rows = [("mean", (0.1, np.nan, np.nan), None), ("none", (np.nan,) * 3, (0.2, 0.1, 0.3))]
    text = plots.forest(rows, ["a", "b"], "PCC")
    assert text.count("<b ") == 2
    assert text.count("<i ") == 1
    assert "nan" not in text


def test_marks_stand_where_their_values_are_and_say_their_name():
    x, y = np.array([0.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.0])
    svg = plots.scatter(x, y, ["<anna>", "ben", "cleo"], AXES, "three people", agreement=True)
    (x0, y0), (x1, y1), (x2, y2) = circles(svg)
    assert x0 < x1 < x2
    assert y0 < y1 < y2  # pixels count from the top
    assert (x0 + x2) / 2 == pytest.approx(x1, abs=0.2)
    assert "<title>&lt;anna&gt;: 0.00, 2.00</title>" in svg
    assert not re.search("fill: #|stroke: #", svg)  # the page's colours, light or dark


def test_thousands_of_people_keep_the_page_small():
    points = np.random.default_rng(0).normal(size=(2, 20000))
    svg = plots.scatter(*points, np.arange(20000), AXES, "20,000 people")
    assert len(svg) < 100_000
    assert "1,000 of them drawn" in svg


def test_labels_of_lines_do_not_overlap():
    places = plots._apart([0.5, 0.52, 0.9, 0.51], 0.05)
    assert np.diff(sorted(places)).min() >= 0.05 - 1e-9
    assert places[2] == 0.9


def test_what_lies_far_below_a_curve_is_named_and_does_not_stretch_the_axis():
    steps, values = np.array([0.0, 100.0, 200.0]), np.array([0.5, 0.7, 0.8])
    svg = plots.curve(steps, values, ("step", "accuracy"), "model", {"copy": 0.65, "zero map": 0.0}, "")
    assert svg.count('class="level"') == 1
    assert "zero map 0.00 ↓" in svg
    assert min(map(float, re.findall('text-anchor="end">([0-9.]+)</text>', svg))) > 0.4


def test_people_without_a_label_are_grey_and_ids_are_no_markup():
    x, y = np.random.default_rng(0).normal(size=(2, 5))
    colours = np.array([0.1, np.nan, 0.5, 0.7, 0.9])
    svg = plots.scatter(x, y, ["a&b"] * 5, AXES, "calm", colours=colours, written=True)
    assert svg.count(">a&amp;b</text>") == 5
    assert svg.count('class="unknown"') == 1
    fills = re.findall("fill: (#[0-9a-f]{6})", svg)
    assert len(set(fills)) == 4


@pytest.mark.parametrize("n", [2, plots.NAMED_ROWS, plots.NAMED_ROWS + 1])
def test_matrix_has_a_picture_names_a_colour_bar_and_the_diagonal(n):
    values = np.full((n, n), -0.2)
    np.fill_diagonal(values, 0.8)
    values[0, 1] = 0.4
    people = [f"p{i:02d}" for i in range(n)]
    svg = plots.matrix(values, people, ("second half", "first half"))
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(re.search('base64,([^"]+)', svg)[1]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (n, n, 4)
    blue, _, red, _ = picture[0, 0]  # the highest of all is orange
    assert red > blue
    assert svg.count(">p00</text>") == (2 if n <= plots.NAMED_ROWS else 0)
    assert svg.count('class="own"') == n
    assert "<title>p00: own other half 0.80, most similar other person p01, 0.40</title>" in svg
    assert ">0.80</text>" in svg
    assert ">−0.80</text>" in svg  # the ends of the colour bar
    assert "0.80 with the same person" in svg


def test_a_table_is_sorted_by_its_main_figure_and_keeps_what_is_not_known_last():
    html = page.table("t", ["who", "figure"], [["a", 0.1], ["b", float("nan")], ["c", 0.3], ["d", None]], "Words", main=1)
    assert re.findall('<th scope="row">(.)</th>', html) == ["c", "a", "b", "d"]
    csv = base64.b64decode(re.search('base64,([^"]+)', html)[1]).decode()
    assert csv == "who,figure\nc,0.3\na,0.1\nb,\nd,\n"
    assert page.table("t", ["who"], [], "Words") == ""
