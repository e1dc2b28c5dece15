"""Section with the map of people: their representations in two dimensions, coloured by trait."""

import numpy as np

from facedyn.report import page, plots
from facedyn.report.inputs import Inputs
from facedyn.report.rows import in_order

# Traits drawn, a map each; ids written beside the points of at most so many people.
MAPS, NAMED_PEOPLE = 8, 150


def people(inputs: Inputs, names: bool) -> page.Section:
    """A map a trait, or one without colour; `names` writes ids beside the points, on a map of their own."""
    title, name, found = "Map of people", "people", inputs.views.people_map
    if found is None:
        return page.section(name, title, page.paragraph("Fewer than three people have person filters: there is no map."))
    coordinates, shares, parts = found.coordinates, found.shares, []
    labels = _labels(inputs.predictions, found.people)
    plane = "Principal components of the z-scored representations, all scales and tasks side by side; a point a person. "
    everyone = inputs.representations["person_id"].nunique()
    plane += f"Drawn are {len(coordinates)} of {everyone} people. " * (len(coordinates) < everyone)
    plane += f"The two components hold {100 * shares.sum():.0f} % of the variance."
    if labels:
        items = [
            plots.people_map(f"people{i}", trait, coordinates, shares, values)
            for i, (trait, values) in enumerate(list(labels.items())[:MAPS])
        ]
        legend = '<p class="note">labelled low<span class="key labels"></span>high; grey: without a label</p>'
        more = f" {len(labels) - MAPS} more traits are not drawn." if len(labels) > MAPS else ""
        parts += [legend, page.figure(page.grid(items, 285), plane + more)]
    else:
        svg = plots.people_map("people", f"{len(coordinates)} people", coordinates, shares)
        parts.append(page.figure(svg, plane + " There are no labels to colour it by."))
    if names and len(found.people) <= NAMED_PEOPLE:
        svg = plots.people_map("named", "With their ids", coordinates, shares, names=found.people)
        parts.append(page.figure(svg, "The same map, with each person's id.", wide=True))
    elif names:
        parts.append(page.paragraph(f"Ids are not written beside more than {NAMED_PEOPLE} people.", note=True))
    return page.section(name, title, *parts)


def _labels(predictions, ids) -> dict[str, np.ndarray]:
    """{trait: label of each person, NaN where not known}, from the table of predictions."""
    if predictions is None or not len(predictions):
        return {}
    labels = predictions.drop_duplicates(["trait", "person_id"]).pivot(index="person_id", columns="trait", values="label")
    labels = labels.reindex(ids)
    found = {trait: labels[trait].to_numpy(float) for trait in in_order(predictions["trait"])}
    return {trait: values for trait, values in found.items() if np.isfinite(values).any()}
