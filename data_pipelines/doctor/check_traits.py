"""Doctor: the labels. Absent, constant, far off, or different within a person."""

import numpy as np

from data_pipelines.doctor.defects import defect, defects_of, named, share

# Robust standard deviations from the median beyond which a value is taken for a slip or a code for "not known": a normal
# distribution reaches 6 once in 500 million values, answers on a bounded scale never do.
FAR = 6.0
# When at least this share of a trait's values lies in [0, 1], the trait is taken to be meant so.
UNIT_SHARE = 0.95
# Over fewer people a correlation must exceed 0.44 to differ from 0 at the 5 % level.
FEW_LABELLED = 20


def trait_defects(entries, trait_names) -> list:
    """Defects of the labels, one line per trait for those that concern its values."""
    labels = label_matrix(entries, trait_names)
    ids, people = [e.clip_id for e in entries], np.array([e.person_id for e in entries], object)
    defects = []
    for name, values in zip(trait_names, labels.T):
        known = np.isfinite(values)
        if not known.any():
            defects.append(defect("empty_trait", f"No clip has a value of {name}.", [name], f"trait {name}"))
            continue
        distinct = np.unique(values[known])
        if len(distinct) == 1:
            what = f"All {known.sum()} values of {name} are {distinct[0]:g}."
            defects.append(defect("constant_trait", what, [name], f"trait {name}"))
        far = _far(values)
        low, high = values[known & ~far].min(), values[known & ~far].max()
        if far.any():
            what = f"{share(far.sum(), known.sum())} values of {name} are far from the rest, which lie in [{low:g}, {high:g}]: "
            what += f"{named(f'{v:g}' for v in np.unique(values[far]))}."
            defects.append(defect("out_of_range", what, _cells(ids, name, values, far), f"trait {name}"))
        inside = known & (values >= 0) & (values <= 1)
        outside = known & ~far & ~inside
        if outside.any() and inside.sum() >= UNIT_SHARE * known.sum() and len(distinct) > 2:
            what = f"{name} lies in [0, 1] except in {share(outside.sum(), known.sum())} clips."
            defects.append(defect("outside_unit_interval", what, _cells(ids, name, values, outside), f"trait {name}"))
    return defects + _gaps(labels, ids, people, trait_names) + _within_people(labels, people, trait_names)


def label_matrix(entries, trait_names) -> np.ndarray:
    """float64 [clips, traits], NaN where a label is not known."""
    return np.array([e.traits for e in entries], float).reshape(len(entries), len(trait_names))


def _far(values):
    """Which values lie far from the rest; the spread is told from the middle half, which a few slips cannot move."""
    with np.errstate(invalid="ignore"):
        low, middle, high = np.nanquantile(values, (0.25, 0.5, 0.75))
        spread = (high - low) / 1.349  # of a normal distribution
        if spread == 0:  # more than half the values are one and the same
            spread = np.nanstd(values)
        return np.abs(values - middle) > FAR * spread if spread > 0 else np.zeros(len(values), bool)


def _cells(ids, name, values, which):
    return [(ids[i], f"{name} = {values[i]:g}") for i in np.flatnonzero(which)]


def _gaps(labels, ids, people, trait_names):
    defects, known = [], np.isfinite(labels)
    present = known.any(0)  # a trait that nobody has is a defect of its own
    incomplete = [t for t in range(len(trait_names)) if present[t] and not known[:, t].all()]
    if incomplete:
        together = {}  # traits that lack in the same clips share a clause
        for t in incomplete:
            together.setdefault(known[:, t].tobytes(), []).append(t)
        parts = []
        for same in together.values():
            without = set(people) - set(people[known[:, same[0]]])
            lost = f" ({len(without)} people have none)" if without else ""
            lacking = share((~known[:, same[0]]).sum(), len(ids))
            parts.append(f"{named(trait_names[t] for t in same)} in {lacking} clips{lost}")
        gaps = ~known[:, incomplete].all(1)
        items = [(ids[i], ", ".join(trait_names[t] for t in incomplete if not known[i, t])) for i in np.flatnonzero(gaps)]
        defects.append(defect("label_gaps", f"Labels lack: {'; '.join(parts)}.", items))
    few = [
        (trait_names[t], f"{n} people") for t in np.flatnonzero(present) if (n := len(set(people[known[:, t]]))) < FEW_LABELLED
    ]
    what = f"Fewer than {FEW_LABELLED} people have a label of {', '.join(f'{name} ({n})' for name, n in few)}."
    return defects + defects_of("few_labelled_people", what, few)


def _within_people(labels, people, trait_names):
    """Traits whose labels differ between the clips of one person, with both spreads."""
    ids, person = np.unique(people.astype(str), return_inverse=True)
    parts, differing, compared = [], {}, np.zeros(len(ids), bool)
    for name, values in zip(trait_names, labels.T):
        known = np.isfinite(values)
        count = np.bincount(person[known], minlength=len(ids))
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.bincount(person[known], values[known], len(ids)) / count
            square = np.bincount(person[known], (values[known] - mean[person[known]]) ** 2, len(ids))
        several = count > 1
        compared |= several
        differ = several & (square > 1e-12 * (1 + np.nan_to_num(mean) ** 2))  # rounding is no difference
        if differ.any():
            within, between = np.sqrt(square[several].sum() / count[several].sum()), np.nanstd(mean)
            parts.append(f"{name} {within:.3g} and {between:.3g}")
            for i in np.flatnonzero(differ):
                differing.setdefault(str(ids[i]), []).append(name)
    what = f"{share(len(differing), compared.sum())} people with several labels have different ones; "
    what += f"standard deviations within a person and between people: {', '.join(parts)}."
    items = [(person_id, ", ".join(names)) for person_id, names in sorted(differing.items())]
    return defects_of("labels_differ_within_person", what, items)
