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
