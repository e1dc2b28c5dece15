"""The one exception for input that the user can fix.

Its message is a single sentence that names the file, person or config key and says what to do. The command line prints
the message alone and exits with code 2; any other exception is a bug of ours and keeps its traceback.
"""

import re

# A cell, a header or a name in somebody's file may be of any length, and hold line breaks or commands to the terminal.
MAX_CHARACTERS = 2000
BREAKS = re.compile(r"[\x00-\x08\n-\x1f\x7f-\x9f\u2028\u2029]+")


class InputError(ValueError):
    """A file, manifest, label or setting is unusable; the message, one line, says which and how to fix it."""

    def __init__(self, text: object = ""):
        line = BREAKS.sub(" ", str(text)).strip()
        if len(line) > MAX_CHARACTERS:
            line = f"{line[: MAX_CHARACTERS // 2]} [...] {line[-MAX_CHARACTERS // 2 :]}"
        super().__init__(line)
