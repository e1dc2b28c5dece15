"""WORKDIR/traits/weights_by_site.csv: from which scale, task and site of the filters the saved ridge reads each trait."""

import pandas as pd

from data_pipelines.files import atomic_path
from facedyn.core.weight_shares import parts, weight_shares
from facedyn.stages.fit import shared

# weights: how many there are; shares: see core/weight_shares.py.
PATH = "traits/weights_by_site.csv"
COLUMNS = ("trait", "scale", "task", "site", "weights", "share_of_squared_weights", "share_of_prediction")


def write(config, workdir, heads, x) -> None:
    """Writes the table of heads["ridge"], a SavedHead; x [N, D]: the features it was fitted to.

    No table is left where there is no ridge, or where the representations are not laid out as config says, which a line says.
    """
    remove(workdir)
    if "ridge" not in heads:
        return
    saved = heads["ridge"]
    slots = shared.layout(config)
    length, width = sum(slot.size for slot in slots), x.shape[1] // len(saved.blocks)
    if length != width:
        print(
            f"traits: no {PATH}: representations have {width} weights, config.model.channels and config.fit's filters {length}"
        )
        return
    stretches = parts(saved.blocks, slots)
    squared, predicted = weight_shares(saved.head, x, stretches)
    rows = [
        (trait, part.scale, part.task, part.site, part.size, squared[t, g], predicted[t, g])
        for t, trait in enumerate(saved.traits)
        for g, part in enumerate(stretches)
    ]
    with atomic_path(workdir / PATH) as temporary:
        pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def remove(workdir) -> None:
    """Deletes the table of an earlier run."""
    (workdir / PATH).unlink(missing_ok=True)
