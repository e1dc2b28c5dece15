"""benchmarks/accelerator.py runs anywhere: every case gives its figures, and what there is no time for is said."""

import importlib
import json

import pytest


@pytest.fixture
def accelerator(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return importlib.import_module("accelerator")


@pytest.mark.slow
def test_every_case_runs_tiny(accelerator, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(accelerator, "matmul_peak", lambda: 1e11)
    rates = accelerator.plan.tabulated(accelerator.settings(accelerator.TINY, 16), "h100")
    monkeypatch.setattr(accelerator, "rates_of", lambda *given: ("h100", rates))
    # All devices only: the same on one compiles as long again.
    monkeypatch.setattr(accelerator, "plans", lambda *given, plans=accelerator.plans: [r for r in plans(*given) if r[2] > 1])
    accelerator.main(["--tiny", f"--out={tmp_path}/found.json"])
    found = json.loads((tmp_path / "found.json").read_text())
    said = capsys.readouterr().out
    cases = {row["case"]: row for row in found["rows"]}
    assert set(cases) == {*accelerator.CASES, "decoding on the host"}
    for case, row in cases.items():
        assert row["rate"] > 0, row
        assert case in said
        if case in accelerator.CASES:
            assert row["devices"] == 4
            assert min(row["expected"], row["compile_s"], row["gib"]) > 0
            assert not row["note"]


def test_without_time_everything_is_left_out_and_said(accelerator, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(accelerator, "matmul_peak", lambda: 1e11)
    accelerator.main(["--tiny", "--minutes=0", f"--out={tmp_path}/found.json"])
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert {row["note"] for row in rows if row["case"] in accelerator.CASES} == {"left out: no time"}
    assert {row["devices"] for row in rows if row["case"] in accelerator.CASES} == {1, 4}
    assert "left out: no time" in capsys.readouterr().out


def test_what_matters_most_comes_first(accelerator):
    rows = accelerator.plans(accelerator.Sizes(), [None] * 8)
    first = rows[: 2 * len(accelerator.CASES)]
    assert {(case, size) for case, size, *_ in first} == {(case, size) for case in accelerator.CASES for size in (64, 112)}
    assert {devices for _, _, devices, _ in first} == {8}
    assert len(set(rows)) == len(rows)
    assert {chunk for *_, chunk in rows} == {0, 16, 64, 256}
