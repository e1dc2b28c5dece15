"""What the tests of the documents need: code blocks of a Markdown file, and the commands in them."""

import pathlib
import re
import shlex

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path: pathlib.Path, language: str) -> list[str]:
    """The fenced blocks of that language, in order."""
    return [body for name, body in FENCE.findall(path.read_text(encoding="utf-8")) if name == language]


def commands(text: str) -> list[list[str]]:
    """The words of every shell command in a block: lines joined at a backslash, parts of `&&`, comments left out."""
    found, open_quote = [], ""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        try:
            words = shlex.split(open_quote + line, comments=True)
        except ValueError:  # a quotation goes on in the next line
            open_quote += line + "\n"
            continue
        open_quote = ""
        while words:
            end = next((i for i, word in enumerate(words) if word in ("&&", "&", "|", ";")), len(words))
            found += [words[:end]] if words[:end] else []
            words = words[end + 1 :]
    return found
