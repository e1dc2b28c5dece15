"""`facedyn add` of one clip beside `facedyn embed` of all clips: seconds, and how far the tables differ.

    python benchmarks/adding.py --manifest people.csv --people p041 p032 --clips 3

The table holds the first clips of each person; then one more clip of the first person is added, and taken out again. Prints
a row per command: seconds of wall clock and of all cores, and the largest difference of a feature from the table of all clips
(or, taken out, from the table before), in standard deviations of the generic model's people.
"""

import argparse
import csv
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import pandas as pd
from machine import machine


def run(*words) -> tuple[float, float]:
    """Seconds of wall clock and of processor of a `facedyn` command."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "facedyn", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def manifest(path, rows, folder) -> pathlib.Path:
    """Writes some rows of a manifest, with whole paths."""
    rows = [row | {"path": str(folder / row["path"])} for row in rows]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def difference(one, other) -> float:
    """The largest one of two tables' features."""
    first, second = (pd.read_parquet(path).set_index("person_id") for path in (one, other))
    return float(np.abs(first - second.loc[first.index, first.columns]).max().max())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manifest", type=pathlib.Path, required=True)
    parser.add_argument("--people", nargs="+", required=True)
    parser.add_argument("--clips", type=int, default=3, help="of each person, before one is added")
    given = parser.parse_args()
    with open(given.manifest, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    own = {person: [row for row in rows if row["person_id"] == person] for person in given.people}
    some = [row for clips in own.values() for row in clips[: given.clips]]
    more = own[given.people[0]][given.clips : given.clips + 1]
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        folder, place = pathlib.Path(folder), given.manifest.parent.absolute()
        first, all_clips, one = (
            manifest(folder / f"{name}.csv", chosen, place)
            for name, chosen in (("some", some), ("all", some + more), ("one", more))
        )
        table, whole, before = (folder / f"{name}.parquet" for name in ("table", "whole", "before"))
        run("embed", all_clips, f"--out={folder / 'warm.parquet'}")  # compiles
        found = [(f"embed {len(some)} clips", *run("embed", first, f"--out={table}"), "")]
        before.write_bytes(table.read_bytes())
        found.append((f"embed {len(some) + 1} clips", *run("embed", all_clips, f"--out={whole}"), ""))
        found.append(("add 1 clip", *run("add", one, f"--to={table}"), f"{difference(whole, table):.1e}"))
        taken_out = run("add", f"--to={table}", f"--remove={more[0]['clip_id']}")
        found.append(("take it out", *taken_out, f"{difference(before, table):.1e}"))
        size = sum(path.stat().st_size for path in (folder / "whole.states").iterdir())
        seconds = pd.read_parquet(folder / "whole.quality.parquet")["seconds"].sum()
    print("| command | seconds | of all cores | largest difference |\n|---|---|---|---|")
    for name, wall, cores, differs in found:
        print(f"| {name} | {wall:.1f} | {cores:.1f} | {differs} |")
    print(f"states: {size / 2**20 / (seconds / 60):.2f} MiB per minute of video")


if __name__ == "__main__":
    main()
