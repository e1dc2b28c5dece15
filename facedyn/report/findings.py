"""The paper's three qualitative findings as sentences, from the paired differences in scores.csv."""

from facedyn.report import page
from facedyn.report.inputs import Inputs
from facedyn.store.scores import FINDINGS, describe, number, parse_setting

# What a finding says when its interval lies above 0, below it, or contains it.
SENTENCES = {
    "finding_fused_tasks": (
        "Tasks fused predict better than the best single task",
        "Tasks fused predict worse than the best single task",
        "Whether tasks fused predict better than the best single task cannot be told",
    ),
    "finding_multi_scale": (
        "Several scales predict better than the best single scale",
        "Several scales predict worse than the best single scale",
        "Whether several scales predict better than the best single scale cannot be told",
    ),
    "finding_task_matters": (
        "The task matters: the best one predicts better than the worst",
        "The task that looks best in training predicts worse than the one that looks worst",
        "Whether the task matters cannot be told",
    ),
}
NOTE = (
    "Differences of the mean PCC with 95 % intervals, both sides judged on the same resampled people. The best and the worst "
    "single task or scale are chosen in each fold by its training people, so neither is favoured by the people it is judged on."
)


def findings(inputs: Inputs) -> list[str]:
    """A paragraph a finding, and what they rest on; [] where there is nothing to compare."""
    rows = inputs["traits"]
    rows = rows[(rows["trait"] == "mean") & (rows["metric"] == "pcc")]
    parts = []
    for method in FINDINGS:
        own = list(rows[rows["method"] == method].itertuples(index=False))
        if own:
            lead = own[0]
            words = SENTENCES[method][0 if lead.low > 0 else 1 if lead.high < 0 else 2]
            others = "".join(f"; {_fusion(row)} {_figure(row)}" for row in own[1:])
            parts.append(page.paragraph(f"{words}: {_fusion(lead)} {_figure(lead)}{others}."))
    return [page.heading("Do tasks and scales matter?"), *parts, page.paragraph(NOTE, note=True)] if parts else []


def _fusion(row) -> str:
    fusion = parse_setting(row.setting)["fusion"]
    return f"{fusion} fused" if fusion and fusion != "stacking" else fusion or describe(row.method, "")[0]


def _figure(row) -> str:
    return f"{number(row.value, 2)} [{number(row.low, 2)}, {number(row.high, 2)}]"
