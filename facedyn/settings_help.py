"""The table of settings as text: for `facedyn STAGE --help`, and as docs/settings.md (`python -m facedyn.settings_help`)."""

import pathlib
import textwrap

from facedyn.settings_schema import SECTIONS, SETTINGS

# The sections whose settings a stage is the first to use. A stage that is not here has none of its own.
OF_STAGE = {
    "prepare": ("data", "data.synthetic"),
    "doctor": ("data",),
    "pretrain": ("model", "rank_loss", "pretrain"),
    "fit": ("fit",),
    "traits": ("traits",),
    "report": ("report",),
    "run": tuple(SECTIONS),
    "plan": (),
}
PAGE = pathlib.Path(__file__).parent.parent / "docs" / "settings.md"
TOP = """# Settings

Made by `python -m facedyn.settings_help` from `facedyn/settings_schema.py`; do not edit. A file in `configs/` or
`--config.NAME=VALUE` changes them; several values are written `a,b,c`. Whatever is not allowed is refused by every stage, and
by `facedyn doctor`, before any work.
"""
HEADER = "| setting | default | it must be | what it means |\n|---|---|---|---|"


def of_section(section: str) -> dict:
    """{name: Setting} of one section alone; '' for those of no section."""
    return {name: setting for name, setting in SETTINGS.items() if name.rpartition(".")[0] == section}


def written(value) -> str:
    """A value as --config.NAME=VALUE takes it.

    >>> written((1, 2)), written(""), written(20_000)
    ('1,2', "''", '20000')
    """
    return ",".join(map(str, value)) if isinstance(value, tuple) and value else str(value) if value not in ("", ()) else "''"


def of_stage(stage: str) -> str:
    """The stage's own settings, a paragraph each: name and default, help, what it may be. '' where it has none."""
    lines = []
    for section in OF_STAGE.get(stage, ()):
        lines.append(f"\n{section or 'general'}: {SECTIONS[section]}")
        for name, setting in of_section(section).items():
            lines.append(f"  --config.{name}={written(setting.default)}")
            text = f"{setting.help} [{setting.allowed()}]"
            lines += textwrap.wrap(text, 110, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines).lstrip("\n")


def page() -> str:
    """docs/settings.md."""
    parts = [TOP]
    for section, what in SECTIONS.items():
        parts.append(f"## {section or 'General'}: {what}\n\n{HEADER}")
        for name, setting in of_section(section).items():
            cells = f"`{name}`", f"`{written(setting.default)}`", setting.allowed(), setting.help
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.name}: {len(SETTINGS)} settings")
