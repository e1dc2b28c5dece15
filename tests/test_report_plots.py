import re

import numpy as np

from facedyn.report import plots


def test_ticks_are_round_numbers_and_few():
    assert plots.ticks(-0.23, 0.88) == [-0.2, 0.0, 0.2, 0.4, 0.6, 0.8]
    for low, high in ((-0.01, 0.02), (-1, 1), (0, 0.5)):
        found = plots.ticks(low, high)
        assert 2 <= len(found) <= plots.MAX_TICKS
        assert low <= min(found) <= max(found) <= high


def test_an_interval_that_is_not_known_is_drawn_as_a_point():
    text = plots.forest([("baselines", [("mean", 0.1, np.nan, np.nan), ("none", np.nan, np.nan, np.nan)])], "PCC")
    assert text.count("<b ") == 1
    assert "<i " not in text
    assert "nan" not in text


def test_plots_take_the_pages_colours_and_font():
    svg = plots.scatter("s", "trait", np.linspace(0, 1, 9), np.linspace(0, 1, 9), "PCC 1.00")
    assert "var(--ink)" in svg
    assert "var(--c1)" in svg
    assert "#0" not in re.sub(r'(xlink:)?href="#[^"]*"|url\(#[^)]*\)', "", svg)
    assert "DejaVu" not in svg


def test_thousands_of_people_keep_the_page_small():
    points = np.random.default_rng(0).normal(size=(2, 20000))
    assert len(plots.scatter("s", "trait", *points, "")) < 200_000


def test_labels_of_lines_do_not_overlap():
    places = plots._apart([0.5, 0.52, 0.9, 0.51], 0.05)
    assert np.diff(sorted(places)).min() >= 0.05 - 1e-9
    assert places[2] == 0.9


def test_people_without_a_label_are_grey_and_ids_are_no_mathematics():
    coordinates = np.random.default_rng(0).normal(size=(5, 2))
    colours = np.array([0.1, np.nan, 0.5, 0.7, 0.9])
    svg = plots.people_map("m", "calm", coordinates, np.array([0.3, 0.2]), colours, names=["a$b$"] * 5)
    assert "a$b$" in svg
    assert "component 1 (30 %)" in svg
    marks = re.findall(r"<use [^>]*fill: ([^;\"]+)", svg) + re.findall(r"fill: (var\(--line\))", svg)
    assert "var(--line)" in marks


def test_matrix_says_what_it_shows():
    values = np.array([[0.9, 0.1], [0.3, 0.7]])
    svg = plots.matrix("m", values, "second", "first")
    assert "mean 0.80 with the same person, 0.20 with others" in svg
