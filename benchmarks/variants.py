"""What the comparisons of settings share: a variant goes through the stages as they are, in a folder of its own."""

import pathlib
import shutil
import subprocess
import sys
import time

from facedyn.store.scores import load_scores


def link(folder: pathlib.Path, **places: pathlib.Path) -> None:
    """Makes `folder`, with links under the given names to what is shared with other variants.

    With `generic` comes the stamp beside it, which says whom the generic model has learnt from.
    """
    (folder / "stages").mkdir(parents=True, exist_ok=True)
    for name, place in places.items():
        if place.is_dir() and not (folder / name).exists():
            (folder / name).symlink_to(place.absolute())
    stamp = places["generic"].parent / "stages" / "pretrain.json" if "generic" in places else pathlib.Path()
    if stamp.is_file():
        shutil.copyfile(stamp, folder / "stages" / stamp.name)


def run_stages(stages, folder: pathlib.Path, flags) -> float:
    """Runs the stages, unless they have been; seconds of the first. What they print goes to stderr."""
    kept = folder / f"seconds_{stages[0]}"
    if not kept.is_file():
        for number, stage in enumerate(stages):
            started = time.perf_counter()
            command = [sys.executable, "-m", "facedyn.main", stage, f"--workdir={folder}", *flags]
            subprocess.run(command, check=True, stdout=sys.stderr)
            if number == 0:
                taken = time.perf_counter() - started
        kept.write_text(f"{taken}")
    return float(kept.read_text())


def figures(folder: pathlib.Path) -> dict:
    """What the variant's scores.csv says, each with its 95 % interval; '' where it says nothing."""
    scores = load_scores(folder)
    scores = scores[(scores["block"] == "") & (scores["split"] != "validation")]

    def of(method, metric, **equal):
        rows = scores[(scores["method"] == method) & (scores["metric"] == metric)]
        for column, value in equal.items():
            rows = rows[rows[column] == value]
        if rows.empty:
            return ""
        row = rows.iloc[0] if metric == "pcc" else rows.iloc[-1]  # the one with everything: all scales, all tasks
        return f"{row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"

    return {
        "accuracy gained": of("representation_minus_generic", "ranking_accuracy"),
        "top1": of("split_half", "top1"),
        "PCC": of("representation", "pcc", trait="mean"),
    }
