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
from facedyn.report.tables import headline, method_name, number, quoted, row_of, trait_means, with_interval
from facedyn.store.representations import FOLDER
from facedyn.store.scores import MINUS, PLUS, is_comparison, key_of, load_scores, verdict_of

MAX_LINES = 12
# Not what a representation has to be better than.
NO_BASELINES = ("representation", "oracle", "fold_seed", "permuted_labels")


def summary(workdir) -> str:
    """The lines, of a workdir with scores. Raises InputError where there is no scores.csv."""
    workdir = pathlib.Path(workdir)
    scores = load_scores(workdir)
    found = verdict(scores)
    lines = [_who(workdir), _against_copy(scores), _identification(scores), *_traits(scores)]
    lines.append(f"Verdict: {found.word}. {found.reason}")
    lines.append(f"Table: {workdir / FOLDER}; in Python: facedyn.load_features({str(workdir)!r})")
    if (workdir / "report" / "index.html").is_file():
        lines.append(f"Report: {workdir / 'report' / 'index.html'}")
    lines.append(f"Next: {_next(found.word, workdir)}")
    return "\n".join(filter(None, lines))


def verdict(scores: pd.DataFrame) -> Verdict:
    """One word on the whole run, 'usable', 'at chance' or 'too few people', with the reason.

    Of its traits, else of identification, else of the generic model: the first of them that was judged.
    """
    for row in (_headline_row(scores), _identification_row(scores), *_generic_rows(scores)):
        if row is not None and (found := verdict_of(scores, row)).word:
            what = {"pcc": "Traits", "top1": "Identification", "ranking_accuracy": "Generic model"}[row.metric]
            word = found.word if found.word in (USABLE, TOO_FEW) else AT_CHANCE
            return Verdict(word, f"{what}: {found.reason}")
    return Verdict(TOO_FEW, f"No figure has the {verdicts.MIN_PEOPLE} people by which it could be judged.")


def _who(workdir) -> str:
    path = workdir / "quality.parquet"
    if not path.is_file():
        return ""
    table = pd.read_parquet(path, columns=["person_id", "verdict", "n_kept", "fps"])
    used = table[table["verdict"] == "ok"]
    seconds = (used["n_kept"] / used["fps"].where(used["fps"] > 0)).sum()
    left = len(table) - len(used)
    why = f"; {counted(left, 'clips')} left out, {path} says why" if left else ""
    people, clips = counted(used["person_id"].nunique(), "people"), counted(len(used), "clips")
    return f"{people}, {seconds:,.0f} seconds of video in {clips}{why}"


def _generic_rows(scores) -> list:
    rows = quoted(scores)
    rows = rows[(rows["stage"] == "pretrain") & (rows["method"] == "generic") & (rows["metric"] == "ranking_accuracy")]
    return list(rows.itertuples(index=False))


def _against_copy(scores) -> str:
    """Whether the generic model orders frames better than a copy of its input does, scale by scale."""
    better, parts = [], []
    for row in _generic_rows(scores):
        copied = row_of(scores, key_of(row)._replace(method="copy_input"), "ranking_accuracy")
        if copied is not None:
            better.append(row.value > copied.value)
            parts.append(f"{number(row.value)} against {number(copied.value)} at scale {row.scales}")
    if not parts:
        return ""
    word = "yes" if all(better) else "no" if not any(better) else "at some scales"
    return f"Better than a copy of the input: {word} (ranking accuracy {', '.join(parts)})"


def _identification_row(scores):
    rows = scores[(scores["stage"] == "fit") & (scores["metric"] == "top1") & (scores["control"] == "")]
    rows = rows[(rows["block"] == "") & (rows["seconds"] == "")]
    for method in tables.IDENTIFIED:
        own = sorted(rows[rows["method"] == method].itertuples(index=False), key=lambda row: len(key_of(row).scale_numbers))
        if own:
            return own[-1]
    return None


def _identification(scores) -> str:
    row = _identification_row(scores)
    if row is None:
        return ""
    sure = row.value > row.chance if pd.isna(row.low) else row.low > row.chance
    figure = with_interval(row.value, row.low, row.high)
    return (
        f"Identification above chance: {'yes' if sure else 'no'} ({method_name(row.method)}: {figure} of "
        f"{counted(int(row.n), 'people')}, chance {number(row.chance)})"
    )


def _headline_row(scores):
    key = headline(scores)
    return None if key is None else row_of(scores[scores["trait"] == "mean"], key, "pcc")


def _traits(scores) -> list[str]:
    """Trait PCC, beside the best baseline and the paired difference of the two."""
    own = _headline_row(scores)
    if own is None:
        return []
    first = f"Traits: mean PCC {with_interval(own.value, own.low, own.high)} of {counted(int(own.n), 'people')}"
    means = trait_means(scores)
    means = means[(means["metric"] == "pcc") & ~means["method"].isin(NO_BASELINES)]
    means = means[~means["method"].str.contains(PLUS, regex=False)]
    baselines = sorted(means.itertuples(index=False), key=lambda row: row.value if row.value == row.value else -1.0)
    if not baselines:
        return [first]
    best = baselines[-1]
    beside = f"  best baseline: {method_name(best.method)} {with_interval(best.value, best.low, best.high)}"
    rows = scores[(scores["trait"] == "mean") & (scores["metric"] == "pcc") & scores["method"].map(is_comparison).astype(bool)]
    rows = rows[rows["method"] == f"representation{MINUS}{best.method}"]
    for row in rows.itertuples(index=False):
        beside += f", paired difference {with_interval(row.value, row.low, row.high)}"
        break
    return [first, beside]


def _next(word: str, workdir) -> str:
    place = shlex.quote(str(workdir))
    return {
        USABLE: f"facedyn embed NEW_VIDEOS --workdir={place} --out=features.parquet",
        TOO_FEW: "add people and repeat this command, or use the model in the package: "
        "facedyn embed VIDEOS --out=features.parquet",
        AT_CHANCE: "check the data: facedyn doctor, with the options of this command",
    }[word]
