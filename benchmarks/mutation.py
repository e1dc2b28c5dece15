"""Do the tests fail when the science breaks? Wrong lines (benchmarks/mutants.py) one by one, and the tests that should notice.

    python benchmarks/mutation.py --check            # every text still stands exactly once in its file: instant
    python benchmarks/mutation.py                    # all of them, half an hour on two cores; ends with a table
    python benchmarks/mutation.py --only pretrain.py # those whose file or text holds this
    python benchmarks/mutation.py --baseline         # the tests named, on the code as it is: all must pass

Works on a copy of the files that git knows, in a temporary folder: the tree itself is never touched.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from mutants import MUTANTS

ROOT = pathlib.Path(__file__).resolve().parent.parent
# pytest's exit codes. Any other, such as that of a file that cannot be collected, tells nothing.
VERDICTS = {0: "SURVIVED", 1: "caught"}
LIMIT = 600  # seconds that the tests of one mutant may take; a hang is noticed, too


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only look whether every text stands once in its file")
    parser.add_argument("--baseline", action="store_true", help="run the tests on the code as it is")
    parser.add_argument("--only", default="", help="mutants whose file, old or new text holds this")
    parser.add_argument("--numbers", default="", help="numbers of mutants, such as 0-12,21")
    args = parser.parse_args()
    wrong = list(stale())
    if args.check or wrong:
        print("\n".join(wrong) or f"{len(MUTANTS)} mutants, every text stands once in its file")
        return int(bool(wrong))
    with tempfile.TemporaryDirectory(prefix="facedyn-mutation-") as folder:
        copy = pathlib.Path(folder) / "tree"
        copy_tree(copy)
        # What one run has compiled the next need not.
        compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR", f"{folder}/compiled")
        environment = os.environ | {"PYTHONPATH": str(copy), "JAX_COMPILATION_CACHE_DIR": compiled}
        if args.baseline:
            return baseline(copy, environment)
        numbers = numbers_of(args.numbers) or range(len(MUTANTS))
        chosen = [(i, MUTANTS[i]) for i in numbers if args.only in "\n".join(MUTANTS[i][:3])]
        return report([(m, judge(i, m, copy, environment)) for i, m in chosen])


def numbers_of(text: str) -> list[int]:
    """'0-2,5' -> [0, 1, 2, 5]."""
    ends = [part.split("-") for part in text.split(",") if part]
    return [number for part in ends for number in range(int(part[0]), int(part[-1]) + 1)]


def stale():
    """A line for every mutant that cannot be made: its text is gone, stands twice, or a test of it is gone."""
    for i, mutant in enumerate(MUTANTS):
        found = (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old)
        if found != 1 or mutant.old == mutant.new:
            yield f"{i}: {mutant.file} holds {found} times, not once: {mutant.old}"
        for test in mutant.tests:
            file, _, name = test.partition("::")
            path = ROOT / "tests" / file
            if not path.is_file() or f"def {name}" not in path.read_text(encoding="utf-8"):
                yield f"{i}: there is no test tests/{test}"


def copy_tree(place) -> None:
    """The files that git knows, and new ones that it does not ignore, as they are now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)


def run_tests(tests, copy, environment) -> str:
    """'caught', 'SURVIVED', or 'error n' where pytest could not say."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider", "-m", ""]
    try:
        done = subprocess.run(
            [*command, *(f"tests/{test}" for test in tests)],
            cwd=copy,
            env=environment,
            timeout=LIMIT,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        return "caught"
    return VERDICTS.get(done.returncode, f"error {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-500:]}")


def judge(number, mutant, copy, environment) -> str:
    """Makes one mutant in the copy, runs its tests, and puts the file back."""
    path, start = copy / mutant.file, time.monotonic()
    right = path.read_text(encoding="utf-8")
    try:
        path.write_text(right.replace(mutant.old, mutant.new), encoding="utf-8")
        verdict = run_tests(mutant.tests, copy, environment)
    finally:
        path.write_text(right, encoding="utf-8")
    print(f"{number:3d} {verdict:8s} {time.monotonic() - start:5.0f} s  {mutant.file}: {mutant.new[:90]}", flush=True)
    return verdict


def baseline(copy, environment) -> int:
    """The tests of all mutants on the code as it is: 0 where they pass."""
    verdict = run_tests(sorted({test for mutant in MUTANTS for test in mutant.tests}), copy, environment)
    print("the tests named pass on the code as it is" if verdict == "SURVIVED" else f"the tests named do not pass: {verdict}")
    return int(verdict != "SURVIVED")


def report(judged) -> int:
    """Prints how many were caught and which were not; 1 where less than 95 % were."""
    missed = [(mutant, verdict) for mutant, verdict in judged if verdict != "caught"]
    print(f"{len(judged) - len(missed)} of {len(judged)} caught")
    for mutant, verdict in missed:
        print(f"{verdict}: {mutant.file}\n  - {mutant.old}\n  + {mutant.new}")
    return int(len(missed) > 0.05 * len(judged))


if __name__ == "__main__":
    sys.exit(main())
