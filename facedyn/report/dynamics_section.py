"""Section of dynamic representations over faces: with a person's filters, without them, and the difference."""

import numpy as np

from facedyn.report import page, pictures
from facedyn.report.inputs import Inputs
from facedyn.store.scores import WITHOUT

# Pictures beyond this many characters of HTML are left out: the page must stay small enough to be sent.
MAX_CHARACTERS = 2_500_000


def dynamics(inputs: Inputs, faces: bool) -> page.Section:
    """Small multiples, a figure a person and scale; the first person's are open."""
    title, name, examples = "Dynamic representations", "dynamics", inputs.examples
    if not faces:
        words = "Left out: config.report.faces is False, so no picture of a person is here."
        return page.section(name, title, page.paragraph(words))
    if examples is None or not len(examples["frame"]):
        return page.section(name, title, page.paragraph("There are no examples: the stage fit has not written any."))
    words = (
        "From the centre frame alone the model draws what changes around it, here over that frame in grey: one map for the "
        "frames before, one for those after. Red gets brighter as time goes on, blue darker. Below the maps with person "
        f"filters are those without, by {inputs.without_filters}, for the same frame, and the difference, in stronger colours."
    )
    legend = '<p class="note">darker<span class="key"></span>brighter, as time goes on</p>'
    people, parts, used, left = examples["person_id"].astype(str), [], 0, 0
    for person in sorted(set(people)):
        own = [i for i in np.argsort(examples["scale"], kind="stable") if people[i] == person]
        figures = "".join(_example(examples, i) for i in own)
        used += len(figures)
        if used > MAX_CHARACTERS and parts:
            left += 1
            continue
        parts.append(page.details(f"Person {person}", figures) if parts else figures)
    if left:
        parts.append(page.paragraph(f"{left} more people are in representations/examples.npz.", note=True))
    return page.section(name, title, page.paragraph(words), legend, *parts)


def _example(examples, i) -> str:
    """Frames, maps and centre frame in a row; below the maps without person filters; below those the difference."""
    window, frame = examples["windows"][i], examples["frame"][i]
    person, scale, half = str(examples["person_id"][i]), int(examples["scale"][i]), len(examples["windows"][i]) // 2
    fitted, without = examples["fitted"][i], examples["generic"][i]
    limit, limit_of_difference = _limit(fitted, without), _limit(fitted - without)
    names = ("before", "after") if len(fitted) == 2 else ("whole window",)
    columns = f"grid-template-columns: repeat({half}, 1fr) repeat({len(names) + 1}, 1.7fr) repeat({half}, 1fr)"

    def cell(content, span=1, kind=""):
        opening = f'<div class="{kind}"' if kind else "<div"
        return f'{opening} style="grid-column: span {span}">{content}</div>'

    def frames(chosen, when):
        return "".join(cell(page.image(pictures.frame_png(f), f"frame {when} the centre")) for f in chosen)

    def maps(values, whose, limit, middle=""):
        overlays = [
            cell(page.image(pictures.overlay_png(m, frame, limit), f"dynamic representation over the face, {when}: {whose}"))
            for m, when in zip(values, names)
        ]
        return overlays[0] + cell(middle) + "".join(overlays[1:])

    def row(label, *of_maps):
        return cell(page.text(label), half, "label side") + maps(*of_maps) + cell("", half)

    heads = [f"person filters, {names[0]}", "centre", *(f"person filters, {n}" for n in names[1:])]
    cells = cell(f"{half} frames before", half, "label head")
    cells += "".join(cell(page.text(h), 1, "label head") for h in heads)
    cells += cell(f"{half} frames after", half, "label head")
    centre = page.image(pictures.frame_png(frame), "centre frame")
    cells += (
        frames(window[:half], "before") + maps(fitted, "person filters", limit, centre) + frames(window[half + 1 :], "after")
    )
    cells += row(WITHOUT, without, WITHOUT, limit)
    cells += row("difference", fitted - without, "difference", limit_of_difference)
    caption = f"Person {person}, scale {scale}: every {_ordinal(scale)}frame."
    if limit_of_difference > 0:
        caption += f" Colours of the difference {limit / limit_of_difference:.1f} times as strong as those above."
    return page.figure(f'<div class="example" style="{columns}">{cells}</div>', caption, wide=True)


def _limit(*maps) -> float:
    """What the deepest colour stands for: nearly the largest value of the maps, mean over their channels."""
    return float(np.quantile(np.abs(np.concatenate([m.mean(-1) for m in maps])), 0.995))


def _ordinal(scale):
    return "" if scale == 1 else {2: "2nd ", 3: "3rd "}.get(scale, f"{scale}th ")
