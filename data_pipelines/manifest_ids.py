"""Ids of a manifest that would make one person of several, or several of one.

A missing value that a program wrote as a word is no id, and a number that a spreadsheet wrote in two ways is one id, not two.
"""

import re

from data_pipelines.errors import InputError

# What pandas, R, MATLAB and spreadsheets write where there is nothing, in small letters.
NO_IDS = {
    *("nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "nat", "none", "null", "nil", "undefined", "unknown"),
    *("-", "--", "?", ".", "#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!"),
}
SHORTENED = re.compile(r"\d(?:[.,]\d+)?[eE]\+\d{2,}")  # as Excel shows a number of many digits
WHOLE = re.compile(r"(\d+)(?:[.,]0*)?")
NAMED = 4


def names_nobody(name: str) -> bool:
    """Whether the text is a program's word for a missing value."""
    return name.casefold() in NO_IDS


def check_ids(path, column: str, ids) -> None:
    """Raises InputError for ids that cannot be meant; ids: (line, id) of every row of the manifest."""
    for bad, what, change in (
        (names_nobody, "a word for a missing value", "write who or what it is, or drop the rows"),
        (
            SHORTENED.fullmatch,
            "a number that a spreadsheet has shortened",
            "format the column as text and write all its digits",
        ),
    ):
        found = [(line, name) for line, name in ids if bad(name)]
        if found:
            where = f"in {_lines(line for line, _ in found)} of the manifest {path}"
            raise InputError(f"The {column} {found[0][1]!r} {where} is {what}: {change}.")
    written = {}
    for line, name in ids:
        if match := WHOLE.fullmatch(name):
            written.setdefault(match[1], {}).setdefault(name, line)
    for ways in written.values():
        if len(ways) > 1:
            (one, line), (other, other_line) = list(ways.items())[:2]
            raise InputError(
                f"The {column} {one!r} in line {line} and {other!r} in line {other_line} of the manifest {path} are one number "
                "written in two ways: write one id in one way, as text, and different ones differently."
            )


def _lines(numbers):
    numbers = list(numbers)
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    shown = ", ".join(map(str, numbers[:NAMED]))
    return f"lines {shown}" + (f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else "")
