"""The first screen, 'Can I use it?': the verdict, three figures each beside its reference, a forest of the traits; and the end,
what to do next.
"""

import shlex

from data_pipelines.progress import counted
from facedyn.core.verdicts import AT_CHANCE, MIN_PEOPLE, TOO_FEW, USABLE, WORSE
from facedyn.report import page, plots, summary, tables
from facedyn.report.inputs import Inputs
from facedyn.report.tables import figure, method_name, number, sentence
from facedyn.store.scores import ScoreRow, score_rows

# Traits on the first screen, beside their mean.
TRAITS_SHOWN = 5
# Colour of a verdict.
COLOURS = {USABLE: "g3", AT_CHANCE: "g2"}
# What is usable, by the metric that the verdict is on.
USABLE_FOR = {
    "pcc": "The features predict the traits better than guessing",
    "top1": "The features recognise a person again",
    "ranking_accuracy": "The model has learnt how faces move, but no trait was predicted and nobody was recognised",
}
CHANCE_FOR = {
    "pcc": "The prediction of the traits cannot be told from guessing",
    "top1": "Recognising a person cannot be told from guessing",
    "ranking_accuracy": "The model does not predict movement better than a copy of its input",
}
PCC = "Mean PCC: the correlation of predicted and true values; 1 is perfect, 0 is guessing."


def first_screen(inputs: Inputs) -> page.Section:
    """The verdict, the figures and the forest."""
    body = [_answer(inputs.scores), _tiles(inputs), _forest(inputs.scores)]
    return page.Section("answer", "Can I use it?", "\n".join(filter(None, body)))


def _answer(scores) -> str:
    """The verdict in a sentence, its reason, and whether a baseline would do as well."""
    found, row, against = summary.verdict(scores), summary.judged_row(scores), ""
    word, reason = found
    if not len(scores):
        word, words, reason = "not scored", "No stage has measured anything yet", "Pretrain, fit and traits write scores."
    elif row is None or word == TOO_FEW:
        words = f"At least {MIN_PEOPLE} people are needed for any conclusion, and dozens for a narrow interval"
    else:
        words = (USABLE_FOR if word == USABLE else CHANCE_FOR)[row.metric]
        against = _against(scores)
    heading = f'<h2 id="answer-title">Can I use it? <b>{page.text(sentence(word))}.</b> {page.text(words)}.</h2>'
    lines = "".join(f"<p>{page.text(line)}</p>" for line in (reason, against) if line)
    return f'<div class="answer {COLOURS.get(word, "g0")}">{heading}{lines}</div>'


def _against(scores) -> str:
    """Whether the features predict traits better than the best baseline, in a sentence; '' without both."""
    best = tables.baseline_row(scores)
    if best is None or tables.headline_row(scores) is None:
        return ""
    row = tables.difference_row(scores, best)
    name = f"the best baseline, {method_name(best.key.method)} ({figure(best)})"
    if row is None or row.low != row.low:
        return f"For comparison, {name}."
    difference = f"paired difference {figure(row)}"
    if row.low > 0:
        return f"They are better than {name}: {difference}."
    if row.high < 0:
        return f"But {name} is better and simpler: {difference}. Use it instead, or both together."
    return f"Whether they are better than {name} cannot be told: {difference}."


def _tiles(inputs) -> str:
    scores, tiles = inputs.scores, []
    own, best = tables.headline_row(scores), tables.baseline_row(scores)
    if own is not None:
        references = [("best baseline", best), (method_name("oracle"), tables.baseline_row(scores, "oracle"))]
        tiles.append(_tile("How well are traits predicted?", own, references, PCC))
    found = tables.identification_row(scores)
    if found is not None:
        words = f"Top-1: the share of people who are found again, among all, in {tables.IDENTIFIED[found.key.method]}."
        tiles.append(_tile("How many people are recognised?", found, [("chance", found)], words))
    generic = tables.generic_rows(scores)
    for row, copied in generic[:1]:
        oracle = tables.row_of(scores, row.key._replace(method="oracle_dynamic_image"), "ranking_accuracy")
        references = [("copied input", copied) if copied is not None else ("chance", row), ("oracle: true order", oracle)]
        words = "Ranking accuracy: the share of pairs of frames in the right order"
        words += f", at scale {row.key.scales} of {len(generic)}." if len(generic) > 1 else "."
        tiles.append(_tile("Is movement predicted?", row, references, words))
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _tile(title, row: ScoreRow, references, words) -> str:
    """A figure with its interval and verdict, and bars of it and its references; a dash where so few people say nothing.

    references: (name, row or None for none); of 'chance' that of the row.
    """
    few = row.verdict == TOO_FEW
    interval = "" if row.low != row.low or few else f"[{number(row.low, 2)}, {number(row.high, 2)}]"
    beside = ", ".join(filter(None, (interval, counted(int(row.n), "people"), "too few" if few else row.verdict)))
    bars = [] if few else [("here", row.value)]
    bars += [(name, of.chance if name == "chance" else of.value) for name, of in references if of is not None]
    items = "".join(
        f'<li class="{"g1" if name == "here" else "g0"}"><span>{page.text(name)}</span>'
        f'<i style="--at: {min(max(value, 0.0), 1.0):.3f}"></i><span>{number(value, 2)}</span></li>'
        for name, value in bars
    )
    large = f'<p class="key-figure"><b>{tables.key_figure(row)}</b>{page.text(beside)}</p>'
    return f'<div class="tile"><h3>{page.text(title)}</h3>{large}<ul class="bars">{items}</ul><p>{page.text(words)}</p></div>'


def _forest(scores) -> str:
    """The best predicted traits beside the best baseline; without traits, ways to recognise people beside the controls."""
    lead, own, best = tables.headline(scores), tables.headline_row(scores), tables.baseline_row(scores)
    if lead is None:
        return _forest_of_identification(scores)
    if own is None or own.verdict == TOO_FEW:
        return ""
    rows = tables.trait_rows(scores, lead, "pcc")
    other = tables.trait_rows(scores, best.key, "pcc") if best is not None else {}
    names = [t for t in sorted(rows, key=lambda t: -rows[t].value if rows[t].value == rows[t].value else 9.0) if t != "mean"]
    drawn = [(t, *(_interval(of.get(t)) for of in (rows, other)[: 1 + bool(other)])) for t in ["mean", *names[:TRAITS_SHOWN]]]
    series = ["these features", *([f"best baseline: {method_name(best.key.method)}"] if best is not None and other else [])]
    axis = "PCC of each trait, best first, with its 95 % interval:"
    left = len(names) - TRAITS_SHOWN
    more = page.paragraph(f"{left} more traits stand under “What can be predicted?”.", note=True) if left > 0 else ""
    return plots.forest(drawn, series, axis) + more


def _forest_of_identification(scores) -> str:
    """Each way to recognise people with all scales, as filmed and by each control."""
    lead = tables.identification_row(scores)
    if lead is None or lead.verdict == TOO_FEW:
        return ""
    rows = scores.loc[(scores["stage"] == "fit") & (scores["metric"] == "top1") & (scores["block"] == "")]
    rows, drawn = rows.loc[rows["scales"] == lead.key.scales].sort_values("value", ascending=False), []
    for row in score_rows(rows):
        method = row.key.method
        way = tables.IDENTIFIED.get(method, tables.IDENTIFIED["split_half"])  # controls of halves are methods of their own
        control = row.key.control if method in tables.IDENTIFIED else method
        drawn.append((f"In {way}" + f": {method_name(control)}" * bool(control), _interval(row)))
    axis = f"People found again (top-1) with its 95 % interval, chance {number(lead.chance, 2)}:"
    return plots.forest(drawn, ["share of people"], axis)


def _interval(row: ScoreRow | None):
    return None if row is None else (row.value, row.low, row.high)


def next_steps(inputs: Inputs, sections: list[page.Section], workdir) -> page.Section:
    """What follows from the verdict, and the questions that this page leaves open."""
    scores, place = inputs.scores, shlex.quote(str(workdir))
    found, best = summary.verdict(scores), tables.baseline_row(scores)
    difference = tables.difference_row(scores, best) if best is not None else None
    steps: list[str | tuple[str, str]]
    if not len(scores):
        steps = [("Run all stages, with the options of those that have run:", f"facedyn run --workdir={place}")]
    elif found.word == TOO_FEW:
        steps = [
            f"Add people and run again: with fewer than {MIN_PEOPLE}, one person decides a figure.",
            ("Or use the model in the package, which needs no training:", "facedyn embed VIDEOS --out=features.parquet"),
        ]
    elif found.word == USABLE:
        load = f"facedyn.load_features({str(workdir)!r})"
        steps = [
            ("Features of these people, in Python, one row per person:", load),
            ("Features of new videos:", f"facedyn embed NEW_VIDEOS --workdir={place} --out=features.parquet"),
            "Cross-validate by person and not by row, and quote a figure with its interval and the best baseline.",
        ]
    else:
        steps = [
            "Check the data first: facedyn doctor, with the options of this run, and the section “Is the data sound?”.",
            "More video per person makes features less noisy, and more people make intervals narrower.",
        ]
        steps += ["Train longer (config.pretrain.steps), or on more people."] if WORSE in set(scores["verdict"]) else []
    if best is not None and difference is not None and difference.high < 0:
        steps.append(f"Add {method_name(best.key.method)} to the features: config.traits.fused_baselines scores both together.")
    missing = [f"{s.title} {s.missing}" for s in sections if not s.body and s.missing]
    open_questions = page.heading("What this page does not answer") + page.listing(missing) if missing else ""
    return page.Section("next", "What to do next", page.listing(steps) + open_questions)
