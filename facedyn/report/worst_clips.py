"""Which clips are worth a look: those that lost or had flagged the most of their frames, and those that prepare left out."""

import numpy as np
import pandas as pd

from data_pipelines.faces.quality import frames_seen

FLAGS = {"n_tiny": "tiny", "n_blurred": "blurred", "n_dark": "dark", "n_turned": "turned away"}
SHOWN = 6


def worst_used(quality: pd.DataFrame, most: int = SHOWN) -> list[tuple[str, str, str]]:
    """(clip_id, person_id, what is amiss) of the clips in the data set that lost or had flagged the most frames, worst first.

    By share of frames lost plus the largest share of a flag, then by jitter. Clips without any of these are not named. Older
    tables lack the flags.
    """
    used = quality[quality["verdict"] == "ok"]
    lost = 1 - used["n_kept"] / frames_seen(used).clip(lower=1)
    shares = {word: used[name] / used["n_kept"].clip(lower=1) for name, word in FLAGS.items() if name in used}
    flagged = np.max(list(shares.values()), axis=0) if shares else np.zeros(len(used))
    jitter = used["jitter"].fillna(0.0)
    amiss = (lost + flagged).round(6)
    order = np.lexsort((used["clip_id"], -jitter, -amiss))
    found = []
    for i in order[: min(most, len(order))]:
        words = [f"{_percent(lost.iloc[i])} of its frames lost"] if lost.iloc[i] > 0 else []
        words += [f"{word} in {_percent(share.iloc[i])}" for word, share in shares.items() if share.iloc[i] > 0]
        words += [f"jitter {jitter.iloc[i]:.2f} pixels"] if jitter.iloc[i] > 0 else []
        if words:
            found.append((str(used["clip_id"].iloc[i]), str(used["person_id"].iloc[i]), "; ".join(words)))
    return found


def left_out(quality: pd.DataFrame, most: int = SHOWN) -> list[tuple[str, str, str]]:
    """(clip_id, path, reason) of the first clips that are not in the data set."""
    out = quality[quality["verdict"] != "ok"].head(most)
    return [tuple(map(str, row)) for row in zip(out["clip_id"], out["path"], out["reason"])]


def _percent(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"
