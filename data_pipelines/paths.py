"""Paths as people write them: where the file of a manifest's cell lies, and what to say when it is not there."""

import os
import pathlib
import re
import unicodedata

DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\\w")


def resolve(cell: str, folder: pathlib.Path) -> pathlib.Path:
    """The absolute path that a cell names, relative to `folder`.

    Where no such file exists and the cell has backslashes or characters that nobody sees, the path without them is taken, if
    that exists. No other file is looked at.
    """
    path = _absolute(cell, folder)
    if (cell.isascii() and ("\\" not in cell or os.sep == "\\")) or os.path.lexists(path):
        return path
    slashed = visible(cell if DRIVE.match(cell) else cell.replace("\\", "/"))
    for other in {slashed, unicodedata.normalize("NFD", slashed)} - {cell}:  # macOS stores names in NFD
        if os.path.lexists(os.path.join(folder, other)):
            return _absolute(other, folder)
    return path


def hint(path) -> str:
    """'' or a sentence, with a space before it, on why there is no file of this name."""
    text = str(path)
    if os.sep == "\\" or "\\" not in text:
        return ""
    # Relative to the manifest's folder a drive's letter stands in the middle.
    if re.search(r"(^|/)([A-Za-z]:\\|\\\\\w)", text):
        return " It is a path of Windows: write where the file lies on this machine, best relative to the manifest."
    return " It has backslashes: write / between the names of folders."


def visible(text: str) -> str:
    """The text without characters that nobody sees (zero-width ones, byte-order marks), with common spaces, in NFC."""
    if text.isascii() or (text.isprintable() and unicodedata.is_normalized("NFC", text)):
        return text
    kept = (" " if (kind := unicodedata.category(c)) == "Zs" else "" if kind == "Cf" else c for c in text)
    return unicodedata.normalize("NFC", "".join(kept))


def _absolute(cell, folder):
    try:
        path = pathlib.Path(cell).expanduser()
    except RuntimeError:  # ~somebody who is no user here: a file of that name
        path = pathlib.Path(cell)
    return (folder / path).absolute()
