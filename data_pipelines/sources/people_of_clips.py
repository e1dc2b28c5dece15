"""Who is in a clip, told from where it lies: by its folder, or by a pattern of the user's."""

import re

from data_pipelines.errors import InputError
from data_pipelines.paths import visible

GROUPS = ("person", "session", "task", "clip")


class Namer:
    """Tells the person, and maybe session, task and clip, from a path.

    Without a pattern the person is the first folder under the source (the session those below it), or the file's own stem where
    it lies in none. A pattern is a regular expression with a group named person, searched for in the path under the source.
    Raises InputError, when made, for a pattern that is none.
    """

    def __init__(self, pattern: str = ""):
        self.pattern = pattern
        if pattern:
            example = r"for example (?P<person>\w+)_(?P<session>\d+)"
            try:
                self._regex = re.compile(pattern)
            except re.error as error:
                raise InputError(
                    f"config.data.person_pattern={pattern!r} is not a regular expression ({error}): {example}."
                ) from error
            groups = set(self._regex.groupindex)
            if "person" not in groups or groups - set(GROUPS):
                raise InputError(
                    f"config.data.person_pattern={pattern!r} must have a group named person, and beside it only "
                    f"session, task and clip, {example}."
                )

    def __call__(self, path) -> dict[str, str] | None:
        """{'person': ..., maybe the others} of a path relative to the source; None where the pattern does not fit."""
        if not self.pattern:
            folders = path.parts[:-1]
            named = {"person": folders[0], "session": "/".join(folders[1:])} if folders else {"person": path.stem}
            return {name: visible(text).strip() for name, text in named.items()}
        match = self._regex.search(path.as_posix())
        found = {name: visible(text).strip() for name, text in match.groupdict().items() if text} if match else {}
        return found if found.get("person") else None
