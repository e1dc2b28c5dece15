"""Every script in benchmarks/ still finds what it imports: nobody runs most of them for months."""

import subprocess
import sys

ELSEWHERE = ("torch_peer", "roll_mesh")  # import PyTorch and MediaPipe, which the tests do without
IMPORTS = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"


def test_every_benchmark_finds_what_it_imports(root):
    names = sorted(path.stem for path in (root / "benchmarks").glob("*.py") if path.stem not in ELSEWHERE)
    assert len(names) > 30
    done = subprocess.run([sys.executable, "-c", IMPORTS, *names], cwd=root / "benchmarks", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
