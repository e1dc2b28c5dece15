"""A whole run over many shards, as a large data set has them: without TensorFlow, and with few files open."""

import os
import resource
import subprocess
import sys

import pytest

from data_pipelines.dataset.face_clips import NAME, VERSION


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of open files are set as on Unix")
def test_a_run_imports_no_tensorflow_and_opens_few_files(arguments, root, tmp_path):
    (tmp_path / "hook").mkdir()
    # Python imports a module of this name by itself, in worker processes, too.
    (tmp_path / "hook" / "sitecustomize.py").write_text((root / "tests" / "no_tensorflow.py").read_text())
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    done = subprocess.run(
        [sys.executable, "-m", "facedyn.main", *arguments("run", tmp_path / "w", data__workers=2)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "hook"), str(root)])},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, most)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "w" / "data" / NAME / VERSION).glob("*array_record*"))) > 8
    assert (tmp_path / "w" / "report" / "index.html").is_file()


def test_the_hook_raises(root):
    code = "import importlib.util, no_tensorflow; assert importlib.util.find_spec('tensorflow') is None; import tensorflow"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(root / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "AssertionError: imported tensorflow"
