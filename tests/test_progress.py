"""What a user sees while something takes long, and what is kept of compilations."""

import io
import os

import jax
import pytest
from conftest import drifting_blob, write_video

from data_pipelines import prepare
from data_pipelines import progress as progress_module
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.manifest import ClipEntry
from data_pipelines.progress import Progress, shown, within
from facedyn.stages.runtime import compilation_cache, messages


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
    assert lines[0].startswith("fit scale 1: 3 of 40 people, ")
    assert lines[1].startswith("fit scale 1: 8 of 40 people, ")
    assert "loss" in lines[1]
    assert max(len(line.rstrip("\n")) for line in lines) < 75


def test_what_has_no_room_ends_with_an_ellipsis(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    with Progress("fit scale 1", 40, "people", stream=stream) as progress:
        progress._every = 0
        progress.advance(3, "loss 0.412, ranking accuracy 0.81")
    first = stream.getvalue().split("\r")[1]
    assert first.endswith("…")
    assert len(first) == 39


def test_time_left_counts_from_the_end_of_the_first_step(monkeypatch):
    """The first step compiles: 60 seconds of it say nothing about the others, of which each takes one."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress("fit", 11, "people", stream=stream, every_seconds=0) as progress:
        now[0] = 60.0
        progress.advance()
        assert progress.seconds_left() is None
        now[0] = 64.0
        progress.advance(4)
        assert progress.seconds_left() == pytest.approx(6.0)
        progress.inside("1,200 frames")
    lines = stream.getvalue().splitlines()
    assert " left" not in lines[0]
    assert "0:06 left" in lines[1]
    assert lines[2].endswith("1,200 frames")


def test_progress_is_shown_when_asked_for_and_names_the_stage(capsys):
    for on in (False, True):
        with shown(on), within("stage 2 of 5"), Progress("pretrain", 1, "clips") as progress:
            progress.advance()
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("stage 2 of 5, pretrain: 1 of 1 clip, ") == on
        assert bool(said.err) == on


def test_frames_within_a_clip_are_counted_in_worker_processes(tmp_path):
    """One long clip: what moves is the number of frames."""
    write_video(tmp_path / "a.avi", drifting_blob(300, 0))
    entries = [ClipEntry(f"c{i}", "p", tmp_path / "a.avi", aligned=True) for i in range(2)]
    for workers in (1, 2):
        seen = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(progress_module.Progress, "inside", lambda self, text, seen=seen: seen.append(text))
            patch.setattr(prepare, "LOOK_SECONDS", 0.01)
            settings = PrepareSettings(image_size=16, workers=workers)
            prepare.prepare_face_clips(entries, tmp_path / f"data{workers}", settings, tmp_path / "q.parquet")
        counts = [int(text.removesuffix(" frames").replace(",", "")) for text in seen]
        assert counts == sorted(counts)
        assert max(counts) >= 300 if workers == 1 else max(counts) > 0


def test_the_package_is_silent_and_the_command_line_is_not(capsys):
    messages.warning("left out")
    assert capsys.readouterr() == ("", "")
    for level, expected in ((messages.QUIET, "b\n"), (messages.NORMAL, "a\nb\n"), (messages.VERBOSE, "c\na\nb\n")):
        with messages.on_command_line(level):
            messages.LOGGER.debug("c")
            messages.info("a")
            messages.warning("b")
            assert messages.verbose() == (level == messages.VERBOSE)
        assert capsys.readouterr() == ("", expected)


def test_a_log_gets_plain_lines():
    stream = io.StringIO()
    with Progress("fit", 4, "people", done=1, stream=stream, every_seconds=0) as progress:
        progress.advance(3, "loss 0.4")
    *first, last = stream.getvalue().splitlines()
    assert "\r" not in stream.getvalue()
    assert first[0].startswith("fit: 4 of 4 people, ")
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
    with messages.on_command_line():
        compilation_cache.switch_on(str(tmp_path / "file" / "x"))
    assert "cannot be kept in" in capsys.readouterr().err


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
