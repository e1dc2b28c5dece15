"""Hostile files and settings (benchmarks/hostile_inputs.py) through the command line: what is said of each.

    python benchmarks/hostile.py            # a table in Markdown, as in benchmarks/RELIABILITY.md: 2 minutes
    python benchmarks/hostile.py --check    # and exit code 1 where one ends in a traceback or in more than one sentence
    python benchmarks/hostile.py --only pickle

All are given to one process, one after the other, in a temporary folder: what one leaves broken in memory the next would show.
An input is refused with exit code 2 and one line, or has its row with a reason in the table of quality, or does no harm.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import traceback

import pandas as pd
from hostile_inputs import INPUTS, SETTINGS, Place
from reliability import SMALL

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from facedyn.main import main as facedyn

FLAGS = [f"--config.{name}={value}" for name, value in SMALL.items()]
LIMIT = 120  # seconds, after which an input counts as one that hangs
# What a stage says of its progress on stderr, and libpng, which cannot be kept from it.
PROGRESS = re.compile(r"^([^:]+: [\d,]+(\.\d+)?/[\d,]+ |libpng error: )")


class Hangs(Exception):
    """The command did not end in time."""


def call(words, limit: int = LIMIT) -> tuple[int, str]:
    """(exit code, what came to stderr without the lines of progress); -1 for a traceback, -2 for one that hangs."""

    def stop(*_):
        raise Hangs

    sys.stdout.flush()
    kept, signal_before = [os.dup(1), os.dup(2)], signal.signal(signal.SIGALRM, stop)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        signal.alarm(limit)
        try:
            code = facedyn([str(word) for word in words])
        except Hangs:
            code = -2
        except BaseException:
            code = -1
            traceback.print_exc()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, signal_before)
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept):
                os.dup2(copy, number)
                os.close(copy)
        err.seek(0)
        text = err.read().decode(errors="replace")
    return code, "\n".join(line for line in text.splitlines() if line.strip() and not PROGRESS.match(line))


def reason(workdir) -> str:
    """What the table of quality says of the hostile clip; '' where there is no table or no such clip."""
    path = workdir / "quality.parquet"
    if not path.is_file():
        return ""
    table = pd.read_parquet(path)
    own = table[(table["clip_id"] == "hostile") & (table["verdict"] == "left_out")]
    return str(own["reason"].iloc[0]) if len(own) else ""


def judged(code: int, text: str, row: str) -> tuple[bool, str]:
    """(whether it is as it should be, what is to be shown of it)."""
    lines = text.splitlines()
    if code == 2:
        return len(lines) == 1 and lines[0].startswith("facedyn: "), " / ".join(lines).removeprefix("facedyn: ")
    if code == 0:
        return not lines, f"quality row: {row}" if row else "no harm" + " / ".join(["", *lines])
    ends = {-1: "TRACEBACK", -2: "HANGS"}.get(code, f"exit code {code}")
    return False, f"{ends}: {' / '.join(lines[-3:])}"


def row_of(what: str, code: int, ok: bool, shown: str, folder) -> str:
    """A line of the table; what is long is cut in the middle, and the temporary folder is left out."""
    shown = shown.replace(f"{folder}/", "").replace("|", "\\|")
    shown = re.sub(r"[^\x20-\x7e]", "?", shown)
    shown = shown if len(shown) < 240 else f"{shown[:140]} [...] {shown[-80:]}"
    return f"| {what} | {code} | {'' if ok else '**wrong** '}{shown} |"


def inputs(only: str, base, folder):
    """Yields (ok, row) of each hostile input."""
    for what, make in INPUTS.items():
        if only not in what:
            continue
        place = Place(folder / "case", folder / "case" / "workdir", next((base / "synthetic").rglob("*.avi")), FLAGS)
        shutil.rmtree(place.folder, ignore_errors=True)
        shutil.copytree(base, place.workdir)
        words = make(place)
        if words[0] == "forget":
            words = ["forget", f"--workdir={place.workdir}", "--person=nobody"]
        code, text = call(words)
        ok, shown = judged(code, text, reason(place.folder / "new"))
        yield ok, row_of(what, code, ok, shown, place.folder)


def settings(only: str, folder):
    """Yields (ok, row) of each hostile setting."""
    for word in SETTINGS:
        if only not in word:
            continue
        workdir = folder / "settings"
        shutil.rmtree(workdir, ignore_errors=True)
        words = ["run", "--config=demo", f"--workdir={workdir}", *FLAGS, word]
        # argparse takes the last of an option that is given twice.
        code, text = call(words)
        ok, shown = judged(code, text, "")
        ok = ok and code == 2 and not list(workdir.glob("data*"))
        yield ok, row_of(f"`{re.sub(r'[^ -~]', '?', word)}`", code, ok, shown, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit code 1 where one is not as it should be")
    parser.add_argument("--only", default="", help="those whose name holds this")
    args = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="facedyn-hostile-") as folder:
        folder = pathlib.Path(folder)
        code, text = call(["run", "--config=demo", f"--workdir={folder / 'base'}", *FLAGS], 10 * LIMIT)
        if code:
            raise SystemExit(f"The run that is to be damaged ended with {code}: {text}")
        for title, rows in (("input", inputs(args.only, folder / "base", folder)), ("setting", settings(args.only, folder))):
            print(f"\n| {title} | exit code | what is said |\n|---|---|---|", flush=True)
            for ok, row in rows:
                print(row, flush=True)
                wrong += not ok
    print(f"\n{wrong} of them not as they should be", flush=True)
    return int(args.check and wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
