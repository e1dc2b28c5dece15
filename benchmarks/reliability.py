"""Kills, double starts and moves of real runs: the final tables are compared with those of a run that nobody disturbed.

    python benchmarks/reliability.py [--write] [--kills 20] [--starts 20] [--only prepare,...,embed,starts,moved]

Runs `facedyn` as a user does, on small synthetic faces, in a temporary folder. `kill -9` falls at random moments of the time
that a stage takes; after a few of them the same command runs to its end. `--write` puts the rows into RELIABILITY.md.
"""

import argparse
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pandas as pd
from machine import machine

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "benchmarks" / "RELIABILITY.md"
STAGES = ("prepare", "pretrain", "fit", "traits", "report")
EVERY = STAGES + ("embed", "starts", "moved")
# After so many kills in a row the command is let finish.
IN_A_ROW = 4
SMALL = {
    "data.synthetic.people": 12,
    "data.synthetic.pretrain_people": 6,
    "data.synthetic.frames": "60,80",
    "pretrain.steps": 60,
    "pretrain.eval_every": 20,
    "pretrain.batch_size": 8,
    "fit.chunk_size": 4,
    "fit.min_frames": 4,
    "fit.split_half": "yes",
    "traits.bootstrap": 50,
    "traits.folds": 3,
    "traits.inner_folds": 3,
    "traits.mlp_steps": 10,
    "traits.permutations": 2,
    "traits.baselines": "mean_predictor,mean_face,linear_dynamics",
    "data.workers": 1,
}


def command(stage: str, workdir) -> list[str]:
    """`facedyn STAGE` on the small faces."""
    if stage == "embed":
        videos, out = workdir / "synthetic" / "manifest.csv", workdir / "embedded.parquet"
        return [sys.executable, "-m", "facedyn", "embed", f"--workdir={workdir}", f"--videos={videos}", f"--out={out}"]
    flags = [f"--config.{name}={value}" for name, value in SMALL.items()]
    return [sys.executable, "-m", "facedyn", stage, "--config=demo", f"--workdir={workdir}", *flags]


def run(stage: str, workdir, check: bool = True) -> tuple[float, str]:
    """(seconds, what it wrote) of the command, to its end."""
    start = time.monotonic()
    done = subprocess.run(command(stage, workdir), capture_output=True, text=True, cwd=ROOT, check=False)
    if check and done.returncode:
        raise SystemExit(f"{stage} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.monotonic() - start, done.stdout + done.stderr


def tables(workdir) -> dict[str, pd.DataFrame]:
    """Every table of a WORKDIR that people read, in an order that does not depend on when a row was written."""
    found = {}
    for name in ("scores.csv", "quality.parquet", "traits/predictions.parquet", "embedded.parquet"):
        path = workdir / name
        if path.is_file():
            table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
            table = table.drop(columns=[c for c in ("seconds", "frames_per_second", "path") if c in table])
            keys = [c for c in table.columns if table[c].dtype == object and not isinstance(table[c].iloc[0], np.ndarray)]
            found[name] = table.sort_values(keys, kind="stable").reset_index(drop=True)
    if (workdir / "representations").is_dir():
        sys.path.insert(0, str(ROOT))
        from facedyn.store.representations import read_parts

        for folder in sorted({part.parent for part in (workdir / "representations").rglob("part-*.parquet")}):
            rows, vectors = read_parts(folder)
            found[str(folder.relative_to(workdir))] = rows.assign(representation=list(vectors))
    return found


def difference(one: dict, other: dict) -> float:
    """The largest difference of any number of the tables; infinite where a table, row or text differs."""
    if one.keys() != other.keys():
        return float("inf")
    largest = 0.0
    for name, a in one.items():
        b = other[name]
        if a.shape != b.shape or list(a.columns) != list(b.columns):
            return float("inf")
        for column in a:
            x, y = a[column], b[column]
            if x.dtype == object and len(x) and isinstance(x.iloc[0], np.ndarray):
                x, y = np.stack(x), np.stack(y)
            if np.asarray(x).dtype.kind in "fiub":
                gap = np.abs(np.asarray(x, float) - np.asarray(y, float))
                gap[np.isnan(np.asarray(x, float)) & np.isnan(np.asarray(y, float))] = 0
                largest = max(largest, float(np.nan_to_num(gap, nan=np.inf).max(initial=0)))
            elif not (pd.Series(x).fillna("").astype(str) == pd.Series(y).fillna("").astype(str)).all():
                return float("inf")
    return largest


def killed(stage: str, workdir, seconds: float, chance) -> None:
    """Starts the command and kills it, and what it started, at a random moment."""
    process = subprocess.Popen(
        command(stage, workdir), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(chance.uniform(0.3, 1.0) * seconds)
    except subprocess.TimeoutExpired:
        import os

        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def kill_row(stage: str, before, whole, seconds: float, kills: int, chance, folder) -> str:
    """The row of a stage: its kills, and how far the final tables are from the undisturbed ones."""
    worst, tracebacks, done = 0.0, 0, 0
    while done < kills:
        workdir = folder / "killed"
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(before, workdir)
        for _ in range(min(IN_A_ROW, kills - done)):
            killed(stage, workdir, seconds, chance)
            done += 1
        _, said = run(stage, workdir)
        tracebacks += "Traceback" in said
        worst = max(worst, difference(whole, tables(workdir)))
        if stage == "report" and not (workdir / "report" / "index.html").read_text(encoding="utf-8").rstrip().endswith(
            "</html>"
        ):
            worst = float("inf")
    return f"| `kill -9` in {stage} | {done} | largest difference {worst:g}, {tracebacks} tracebacks |"


def starts_row(before, whole, starts: int, chance, folder) -> str:
    """Two of the same command at random distances: one works, the other says who does and ends with 2."""
    wrong, worst = 0, 0.0
    for done in range(1, starts + 1):
        workdir = folder / "twice"
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(before, workdir)
        processes = []
        for _ in range(2):
            processes.append(
                subprocess.Popen(
                    command("fit", workdir), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
                )
            )
            time.sleep(chance.uniform(0, 6))
        ends = [(p.communicate()[1], p.returncode) for p in processes]
        codes = sorted(code for _, code in ends)
        wrong += codes not in ([0, 2], [0, 0]) or any("Traceback" in text for text, _ in ends)
        worst = max(worst, difference(whole, tables(workdir)))
        print(f"{done} double starts: exit codes {codes}, {wrong} went wrong, largest difference {worst:g}", flush=True)
    return f"| the same command twice, 0 to 6 s apart | {starts} | {wrong} went wrong, largest difference {worst:g} |"


def moved_row(workdir, folder) -> str:
    """The whole WORKDIR at another place: nothing is done again."""
    place = folder / "elsewhere" / "moved"
    shutil.rmtree(place.parent, ignore_errors=True)
    place.parent.mkdir()
    shutil.copytree(workdir, place)
    parts = {path: path.stat().st_mtime_ns for path in (place / "representations").rglob("part-*.parquet")}
    seconds, said = run("run", place)
    again = sum(path.stat().st_mtime_ns != when for path, when in parts.items())
    unchanged = sum(f"{stage}: done before, unchanged" in said for stage in ("pretrain", "fit", "traits"))
    result = f"{again} parts of the table written again, {unchanged} of 3 stages unchanged, {seconds:.0f} s"
    return f"| a moved WORKDIR | 1 | {result} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="in each stage")
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--only", default=",".join(EVERY))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="the rows into benchmarks/RELIABILITY.md")
    a = parser.parse_args()
    chance, only, rows = random.Random(a.seed), a.only.split(","), []
    with tempfile.TemporaryDirectory() as folder:
        folder, seconds = pathlib.Path(folder), {}
        workdir = folder / "undisturbed"
        before, after = {}, {}
        for stage in (*STAGES, "embed"):
            workdir.mkdir(exist_ok=True)
            before[stage] = folder / f"before-{stage}"
            shutil.copytree(workdir, before[stage])
            seconds[stage], _ = run(stage, workdir)
            after[stage] = tables(workdir)
            print(f"{stage}: {seconds[stage]:.0f} s undisturbed", flush=True)
        for stage in (*STAGES, "embed"):
            if stage in only:
                rows.append(kill_row(stage, before[stage], after[stage], seconds[stage], a.kills, chance, folder))
                print(rows[-1], flush=True)
        if "starts" in only:
            rows.append(starts_row(before["fit"], after["fit"], a.starts, chance, folder))
            print(rows[-1], flush=True)
        if "moved" in only:
            rows.append(moved_row(workdir, folder))
            print(rows[-1], flush=True)
    if a.write:
        write(rows, f"`benchmarks/reliability.py --only {a.only} --kills {a.kills} --starts {a.starts}`")
    return 0


def write(rows, called: str) -> None:
    """Puts the rows in the place of those of the same name on the page, with the command, the day and the machine."""
    of, lines = machine(), PAGE.read_text(encoding="utf-8").splitlines()
    for row in rows:
        name = row.split("|")[1]
        found = [i for i, line in enumerate(lines) if line.startswith(f"|{name}|")]
        lines[found[0]] = f"{row} {called}, {of['date']}, {of['cores']} cores of a {of['cpu']} |"
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
