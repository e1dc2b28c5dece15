"""What one setting may be, and the sentence that refuses any other value."""

import dataclasses
import difflib
import math
import re

ONE = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
MANY = {int: "whole numbers", float: "numbers", str: "words"}
# Step counters and seeds have 32 bits.
LARGEST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting. Its type is that of its default; limits, choices and `pattern` of a tuple hold for each of its items.

    Attributes:
      default, help: the value it has, and what it means.
      choices: the only values it may have.
      least, most: it may be as small or large as that; above, below: it must be larger or smaller than that.
      of: type of a tuple's items.
      some: a tuple must not be empty; distinct: no item may stand in it twice; length: it must have so many.
      pattern, form: a regular expression that a text must fit, and how to say so.
      path: a file or folder; a leading ~ stands for the home folder.
      effect: whether a result can depend on it. One without effect is compared by no stamp and named by no hash.
    """

    default: bool | int | float | str | tuple
    help: str
    choices: tuple = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    of: type | None = None
    some: bool = False
    distinct: bool = False
    length: int = 0
    pattern: str = ""
    form: str = ""
    path: bool = False
    effect: bool = True

    @property
    def kind(self) -> type:
        """Type of the value, or of a tuple's items."""
        return self.of or type(self.default)

    def allowed(self) -> str:
        """What it may be, as the end of 'it must be ...'.

        >>> Setting(0.2, "share that is held back", least=0, below=1).allowed()
        'a number of at least 0 and below 1'
        """
        if self.choices:
            names = ", ".join(map(str, self.choices))
            return f"{'one' if self.of is None else 'some' if self.some else 'none, one or several'} of {names}"
        if self.of is None:
            return ("a path" if self.path else ONE[self.kind]) + self._limits()
        count = f"{self.length} " if self.length else "different " if self.distinct else ""
        words = f"{count}{MANY[self.kind]} {self.form}".rstrip() + self._limits()
        example = ",".join(map(str, self.default)) if isinstance(self.default, tuple) else ""
        return words + (f", for example {example}" if example else "")

    def _limits(self) -> str:
        if self.least is not None and self.most is not None:
            return f" from {self.least:_} to {self.most:_}"
        limits = [("of at least", self.least), ("of at most", self.most), ("above", self.above), ("below", self.below)]
        limits = [f"{word} {limit:_}" for word, limit in limits if limit is not None]
        return f" {' and '.join(limits)}" if limits else ""

    def fault(self, value) -> str:
        """'' where the setting may have this value; else how to go on after 'config.NAME'."""
        if not (isinstance(value, tuple) if self.of else _is_a(value, self.kind)):
            return f"is {value!r}; it must be of type {type(self.default).__name__}, {self.allowed()}"
        if any(isinstance(item, int) and abs(item) > LARGEST for item in (value if self.of else (value,))):
            return f"is too large; it must be {self.allowed()}, and of at most {LARGEST:_}"
        if self.of is None:
            return "" if self._fits(value) else f"is {value!r}; it must be {self.allowed()}{self._nearest(value)}"
        wrong = [item for item in value if not self._fits(item)]
        if wrong and self.choices:
            return f"names {wrong[0]!r}; it must be {self.allowed()}{self._nearest(wrong[0])}"
        number = len(value)
        if wrong or number < self.some or (self.distinct and len(set(value)) < number) or number != (self.length or number):
            return f"is {tuple(value)!r}; it must be {self.allowed()}"
        return ""

    def _fits(self, value) -> bool:
        if not _is_a(value, self.kind):
            return False
        if self.choices:
            return value in self.choices
        if self.kind in (int, float):
            return (
                math.isfinite(value)
                and (self.least is None or value >= self.least)
                and (self.most is None or value <= self.most)
                and (self.above is None or value > self.above)
                and (self.below is None or value < self.below)
            )
        return not self.pattern or re.fullmatch(self.pattern, value) is not None

    def _nearest(self, value) -> str:
        if not self.choices or not isinstance(value, str):
            return ""
        return f"; the nearest to it is {nearest_of(value, self.choices)!r}"


def one_of(choices: tuple, help: str) -> Setting:
    """One of these, by default the first."""
    return Setting(choices[0], help, choices)


def some_of(choices: tuple, help: str, default: tuple | None = None, some=False) -> Setting:
    """Different ones of these words, by default all of them; `some`: at least one."""
    return Setting(choices if default is None else default, help, choices, of=str, some=some, distinct=True)


def _is_a(value, kind) -> bool:
    """Whole numbers count as numbers; true and false count as neither."""
    if isinstance(value, bool) != (kind is bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def nearest_of(name: str, names) -> str:
    """The one of `names` that `name` most likely stands for.

    >>> nearest_of("ridg", ("ridge", "mlp"))
    'ridge'
    """
    return difflib.get_close_matches(name, list(names), 1, 0.0)[0]
