"""Doctor: what prepare saw in the clips, from the quality table. Every threshold is here, with its reason."""

import re

import numpy as np
import pandas as pd

from data_pipelines.doctor.defects import defect, defects_of, share
from data_pipelines.faces.quality import FLAGS, frames_seen

# Losing one clip in ten changes who and what a result is about.
MANY_LEFT_OUT = 0.1
# Of a clip that loses half its frames the rest is short pieces, and the face was not what the camera looked at.
KEPT_SHARE = 0.5
# More than so many gaps a minute leave pieces of a few seconds, in which long windows hardly fit.
GAPS_A_MINUTE = 6.0
# Share of the crop's side. Real clips have 0.0003 on average (benchmarks/RESULTS.md); with 0.01 the crop moves by as much as a
# lip or a brow does from frame to frame.
JITTER_SHARE = 0.01
# A second face in a quarter of the frames is a second person, not a passer-by; then the wrong one may have been followed.
TWO_FACES_SHARE = 0.25
# Of the visible face area x time of the main person and the next one: with a third, the next has half of what the main one has.
OTHER_SHARE = 1 / 3
# A call that stalls for a second now and then repeats a few frames in a hundred; with more, its movements are cut to pieces.
FROZEN_SHARE = 0.1
# With a face that everybody shares: so many frames lost to hands and turns leave pieces, in which few windows fit.
HIDDEN_SHARE = 0.1
# Share of a motion's numbers that are cut off. Real clips have 0.001 on average (benchmarks/RESULTS.md).
BEYOND_SHARE = 0.01
# Mean grey of a crop, of 255: darker, or brighter, and most pixels are at the end of the scale.
DARK, BRIGHT = 40.0, 215.0
# Robust standard deviations of log sharpness below the middle; sharpness has no scale that holds for all cameras.
BLURRED = 4.0
# A clip of which half the kept frames have a flag is a clip of that kind.
FLAGGED_SHARE = 0.5
# Between 24 and 25 frames per second windows differ by 4 %, which nobody sees; between 25 and 30 by a fifth.
RATES_DIFFER = 1.05
# Identification of people by how they move still gains up to there (benchmarks/RESULTS.md, "How much video is enough").
ENOUGH_SECONDS = 10.0


def quality_defects(table: pd.DataFrame, *, image_size: int, known_bad=()) -> list:
    """Defects of the clips in the quality table (columns of quality.QualityRow; a table of an older version may lack some).

    image_size: side of the crop, pixels; known_bad: clips whose file is at fault, which is said elsewhere.
    """
    out = table.loc[table["verdict"] != "ok"]
    ok = table.loc[(table["verdict"] == "ok") & (table["n_decoded"] > 0)]
    defects = _left_out(table, out.loc[~out["clip_id"].isin(list(known_bad))])
    frames = frames_seen(ok)
    kept, seconds, two = ok["n_kept"] / frames, frames / ok["fps"], ok["n_two_faces"] / frames
    repeated, other = _column(ok, "n_repeated") / ok["n_decoded"], _column(ok, "other_share")
    hidden, beyond = _column(ok, "n_hidden") / frames, _column(ok, "beyond_range").fillna(0.0)
    gaps, jitter, limit = ok["n_gaps"], ok["jitter"], JITTER_SHARE * image_size
    torn = (gaps > 1) & (gaps > GAPS_A_MINUTE * seconds / 60)
    defects += _clips("few_frames_kept", f"Fewer than {KEPT_SHARE:.0%} of the frames were kept", ok, kept, kept < KEPT_SHARE)
    defects += _clips("many_gaps", f"More than {GAPS_A_MINUTE:g} gaps a minute are", ok, gaps, torn)
    defects += _clips("high_jitter", f"The crop trembles by more than {limit:.3g} pixels", ok, jitter, jitter > limit)
    words = f"More than one face is in over {TWO_FACES_SHARE:.0%} of the frames"
    defects += _clips("two_faces", words, ok, two, two > TWO_FACES_SHARE)
    words = "Another person is seen for half as long, or as large, as the one who was kept"
    defects += _clips("several_people", words, ok, other, other >= OTHER_SHARE)
    words = f"Over {FROZEN_SHARE:.0%} of the frames repeat the picture before them"
    defects += _clips("frozen_frames", words, ok, repeated, repeated > FROZEN_SHARE)
    words = f"Over {HIDDEN_SHARE:.0%} of the frames were left out, as the face is hidden or cannot be followed there,"
    defects += _clips("hidden_face", words, ok, hidden, hidden > HIDDEN_SHARE)
    words = f"Over {BEYOND_SHARE:.0%} of the motion is larger than its picture can hold"
    defects += _clips("large_motion", words, ok, beyond, beyond > BEYOND_SHARE)
    return defects + _little_video(ok) + _light(ok) + _flagged(ok) + _rates(ok)


def _little_video(ok):
    """People with so few seconds of usable video that their features are noisy."""
    people = (ok["n_kept"] / ok["fps"]).groupby(ok["person_id"]).sum()
    short = people[people < ENOUGH_SECONDS]
    what = (
        f"{share(len(short), len(people))} people have less than {ENOUGH_SECONDS:g} seconds of usable video, "
        f"{short.min():.3g} the least: what is measured of how they move is noisy."
    )
    return defects_of("little_video", what, [(person, f"{seconds:.3g} s") for person, seconds in short.items()])


def _clips(kind, words, ok, values, bad):
    """[] or one defect about the rows where `bad`."""
    items = [(clip_id, f"{value:.4g}") for clip_id, value in zip(ok["clip_id"][bad], values[bad])]
    return defects_of(kind, f"{words} in {share(len(items), len(ok))} clips.", items)


def _left_out(table, out):
    defects = []
    if len(out):
        many = len(out) > MANY_LEFT_OUT * len(table)
        groups = {}
        for row in out.itertuples():
            without_names = re.sub(r"\d+(\.\d+)?", "N", row.reason.replace(row.path, "FILE"))
            groups.setdefault(without_names, []).append(row.reason)
        groups = sorted(groups.values(), key=len, reverse=True)
        shown = "; ".join(f"{len(reasons)}: {reasons[0].rstrip('.')}" for reasons in groups[:4])
        more = f"; and {len(groups) - 4} more reasons" if len(groups) > 4 else ""
        what = f"{share(len(out), len(table))} clips were left out by prepare. {shown}{more}."
        defects.append(defect("many_left_out" if many else "left_out", what, list(zip(out["clip_id"], out["reason"]))))
    people = set(table["person_id"])
    lost = sorted(people - set(table["person_id"][table["verdict"] == "ok"]))
    what = f"{share(len(lost), len(people))} people have no usable clip at all."
    return defects + defects_of("people_lost", what, lost)


def _light(ok):
    """Dark, glaring and blurred clips, told from the means, but for those that `_flagged` names."""
    bad = ((ok["brightness"] < DARK) | (ok["brightness"] > BRIGHT)) & (_share(ok, "dark") <= FLAGGED_SHARE)
    words = f"The mean grey value is below {DARK:g} or above {BRIGHT:g} (of 255)"
    defects = _clips("light", words, ok, ok["brightness"], bad)
    sharpness = ok["sharpness"].where(ok["sharpness"] > 0)
    if sharpness.notna().any():
        logarithm = np.log(sharpness)
        low, middle, high = logarithm.quantile([0.25, 0.5, 0.75])
        bad = logarithm < middle - BLURRED * max((high - low) / 1.349, 0.1)
        bad &= _share(ok, "blurred") <= FLAGGED_SHARE
        words = f"The sharpness is far below the other clips' ({np.exp(middle):.3g} in the middle)"
        defects += _clips("blurred", words, ok, ok["sharpness"], bad)
    return defects


def _flagged(ok):
    defects = []
    for flag, word in FLAGS.items():
        flagged, kind = _share(ok, flag), "light" if flag == "dark" else flag
        words = f"The face is {word} in over {FLAGGED_SHARE:.0%} of the frames"
        defects += _clips(kind, words, ok, flagged, flagged > FLAGGED_SHARE)
    return defects


def _share(ok, flag):
    """Share of each clip's kept frames that have the flag."""
    return _column(ok, f"n_{flag}") / ok["n_kept"].clip(lower=1)


def _column(ok, name):
    """A column of numbers, 0 where a table of an older version lacks it."""
    return ok[name] if name in ok else 0 * ok["n_kept"]


def _rates(ok):
    rates = ok["fps"][ok["fps"] > 0]
    if not len(rates) or rates.max() <= RATES_DIFFER * rates.min():
        return []
    usual = rates.round(2).mode()[0]
    other = ok[(ok["fps"] > RATES_DIFFER * usual) | (ok["fps"] * RATES_DIFFER < usual)]
    what = f"The clips have {rates.min():.4g} to {rates.max():.4g} frames per second, most of them {usual:g}."
    return [defect("rates_differ", what, [(clip_id, f"{fps:.4g}") for clip_id, fps in zip(other["clip_id"], other["fps"])])]
