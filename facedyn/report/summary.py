"""The end of a run in at most twelve lines: what was learnt from whom, whether it is worth anything, and what to do next.

Everything is read from scores.csv and quality.parquet; the long tables are in the report, and in the terminal with -v.
"""

import pathlib
import shlex

import pandas as pd

from data_pipelines.progress import counted
from facedyn.core import verdicts
from facedyn.core.verdicts import AT_CHANCE, TOO_FEW, USABLE, Verdict
from facedyn.report import tables
from facedyn.report.tables import figure, method_name, number
from facedyn.store.representations import FOLDER
from facedyn.store.scores import ScoreRow, load_scores, verdict_of

MAX_LINES = 12


def summary(workdir) -> str:
    """The lines, of a workdir with scores. Raises InputError where there is no scores.csv."""
    workdir = pathlib.Path(workdir)
    scores = load_scores(workdir).query("seconds == ''")
    found = verdict(scores)
    lines = [_who(workdir), _against_copy(scores), _identification(scores), *_traits(scores)]
    lines.append(f"Verdict: {found.word}. {found.reason}")
    lines.append(f"Table: {workdir / FOLDER}; in Python: facedyn.load_features({str(workdir)!r})")
    if (workdir / "report" / "index.html").is_file():
        lines.append(f"Report: {workdir / 'report' / 'index.html'}")
    lines.append(f"Next: {_next(found.word, workdir)}")
    return "\n".join(filter(None, lines))


def verdict(scores: pd.DataFrame) -> Verdict:
    """One word on the whole run, 'usable', 'at chance' or 'too few people', with the reason, from `judged_row`."""
    row = judged_row(scores)
    if row is None:
        return Verdict(TOO_FEW, f"No figure has the {verdicts.MIN_PEOPLE} people by which it could be judged.")
    word, reason = verdict_of(scores, row)
    what = {"pcc": "Traits", "top1": "Identification", "ranking_accuracy": "Generic model"}[row.metric]
    return Verdict(word if word in (USABLE, TOO_FEW) else AT_CHANCE, f"{what}: {reason}")


def judged_row(scores: pd.DataFrame) -> ScoreRow | None:
    """What the verdict is on: traits, else identification, else the generic model, the first that is judged; None for none."""
    rows = (tables.headline_row(scores), tables.identification_row(scores), *(row for row, _ in tables.generic_rows(scores)))
    return next((row for row in rows if row is not None and verdict_of(scores, row).word), None)


def _who(workdir) -> str:
    path = workdir / "quality.parquet"
    if not path.is_file():
        return ""
    table = pd.read_parquet(path, columns=["person_id", "verdict", "n_kept", "fps"])
    used = table.loc[table["verdict"] == "ok"]
    seconds = (used["n_kept"] / used["fps"].where(used["fps"] > 0)).sum()
    left = len(table) - len(used)
    why = f"; {counted(left, 'clips')} left out, {path} says why" if left else ""
    people, clips = counted(used["person_id"].nunique(), "people"), counted(len(used), "clips")
    return f"{people}, {seconds:,.0f} seconds of video in {clips}{why}"


def _against_copy(scores) -> str:
    """Whether the generic model orders frames better than a copy of its input does, scale by scale."""
    pairs = [(row, copied) for row, copied in tables.generic_rows(scores) if copied is not None]
    if not pairs:
        return ""
    better = [row.value > copied.value for row, copied in pairs]
    parts = [f"{number(row.value)} against {number(copied.value)} at scale {row.key.scales}" for row, copied in pairs]
    word = "yes" if all(better) else "no" if not any(better) else "at some scales"
    return f"Better than a copy of the input: {word} (ranking accuracy {', '.join(parts)})"


def _identification(scores) -> str:
    row = tables.identification_row(scores)
    if row is None:
        return ""
    sure = row.value > row.chance if pd.isna(row.low) else row.low > row.chance
    people, chance = counted(int(row.n), "people"), number(row.chance)
    said = f"{method_name(row.key.method)}: {figure(row)} of {people}, chance {chance}"
    return f"Identification above chance: {'yes' if sure else 'no'} ({said})"


def _traits(scores) -> list[str]:
    """Trait PCC, beside the best baseline and the paired difference of the two."""
    own, best = tables.headline_row(scores), tables.baseline_row(scores)
    if own is None:
        return []
    first = f"Traits: mean PCC {figure(own)} of {counted(int(own.n), 'people')}"
    if best is None:
        return [first]
    difference = tables.difference_row(scores, best)
    paired = f", paired difference {figure(difference)}" if difference is not None else ""
    return [first, f"  best baseline: {method_name(best.key.method)} {figure(best)}{paired}"]


def _next(word: str, workdir) -> str:
    place = shlex.quote(str(workdir))
    return {
        USABLE: f"facedyn embed NEW_VIDEOS --workdir={place} --out=features.parquet",
        TOO_FEW: "add people and repeat this command, or use the model in the package: "
        "facedyn embed VIDEOS --out=features.parquet",
        AT_CHANCE: "check the data: facedyn doctor, with the options of this command",
    }[word]
