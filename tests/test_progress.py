"""What a user sees while something takes long, and what is kept of compilations."""

import io
import os

import jax
import pytest

from data_pipelines.progress import Progress
from facedyn.stages.runtime import compilation_cache


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_has_one_live_line_that_keeps_its_note_and_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "75")
    stream = Terminal()
    with Progress("fit scale 1", 40, "people", stream=stream) as progress:
        progress._every = 0
        progress.advance(3, "loss 0.412, ranking accuracy 0.81")
        progress.advance(5)
    shown = stream.getvalue()
    assert shown.count("\n") == 1
    lines = shown.split("\r")[1:]
    assert lines[0].startswith("fit scale 1: 3/40 people, ")
    assert " left" in lines[0]
    assert lines[1].startswith("fit scale 1: 8/40 people, ")
    assert "loss" in lines[1]
    assert max(len(line.rstrip("\n")) for line in lines) < 75


def test_a_log_gets_plain_lines():
    stream = io.StringIO()
    with Progress("fit", 4, "people", done=1, stream=stream, every_seconds=0) as progress:
        progress.advance(3, "loss 0.4")
    *first, last = stream.getvalue().splitlines()
    assert "\r" not in stream.getvalue()
    assert first[0].startswith("fit: 4/4 people, ")
    assert last.endswith(" s, loss 0.4")


@pytest.fixture
def cache_settings():
    names = (
        "jax_compilation_cache_dir",
        "jax_enable_compilation_cache",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_what_is_compiled_is_kept_where_the_setting_says(cache_settings, tmp_path, monkeypatch, capsys):
    environment = jax.config.jax_compilation_cache_dir
    compilation_cache.switch_on("auto")
    assert jax.config.jax_compilation_cache_dir == environment
    compilation_cache.switch_on(str(tmp_path / "own"))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.switch_on("auto")
    assert jax.config.jax_compilation_cache_dir.startswith(str(tmp_path / "facedyn" / "compiled-"))
    compilation_cache.switch_on("")
    assert not jax.config.jax_enable_compilation_cache
    (tmp_path / "file").write_text("")
    compilation_cache.switch_on(str(tmp_path / "file" / "x"))
    assert "cannot be kept in" in capsys.readouterr().out


def test_what_was_compiled_and_longest_not_used_goes_when_there_is_too_much(cache_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "facedyn"
    (folder / "compiled-other").mkdir(parents=True)
    (folder / "compiled-this").mkdir()
    # When each was written and last read.
    times = {"compiled-other/a": (1, 2), "compiled-this/b": (2, 9), "compiled-this/c": (3, 3), "compiled-other/d": (4, 4)}
    for name, (written, read) in times.items():
        (folder / name).write_bytes(bytes(100))
        os.utime(folder / name, (read, written))
    (tmp_path / "elsewhere").write_bytes(bytes(1000))
    for most, left in ((350, "bcd"), (200, "bd"), (0, "")):
        monkeypatch.setattr(compilation_cache, "MAX_BYTES", most)
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.switch_on("auto")
        assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == list(left)
    assert (tmp_path / "elsewhere").is_file()
