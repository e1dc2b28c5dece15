"""Reads the plain data in a pickle without running anything of it: ChaLearn's annotations are pickles of Python 2.

A pickle is a program that may call any function. This is a machine for the few of its instructions that build containers,
texts and numbers; the only two names it knows, NumPy's scalar and dtype, stand for code of our own. All else is refused.
"""

import pathlib
import pickletools
import re
import struct

from data_pipelines.errors import InputError

MAX_BYTES = 32 << 20  # the labels of ten thousand clips take less than five million
SCALAR = {("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")}
DTYPE = {("numpy", "dtype")}
# How NumPy and struct name the numbers of a fixed size.
NUMBERS = {"b1": "?", "f2": "e", "f4": "f", "f8": "d"} | {
    f"{kind}{size}": letter if kind == "i" else letter.upper()
    for kind in "iu"
    for size, letter in ((1, "b"), (2, "h"), (4, "i"), (8, "q"))
}
# What stands between the quotes in Python 2's repr of a str.
ESCAPED = re.compile(rb"""(?:[^\\]++|\\[\\'"nrt]|\\x[0-9a-f]{2})*+""")
NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


class Refused(Exception):
    """What stands in the pickle is not plain data; the message says what it is."""


def load(path):
    """The dicts, lists, tuples, texts and numbers in the pickle at `path`; bytes and Python 2's str become latin-1 text.

    Raises InputError when there is no such file, it is no whole pickle, or it names anything but NumPy's scalar and dtype.
    """
    path = pathlib.Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"The pickle {path} has more than {MAX_BYTES >> 20} MiB, too many for labels; check the file.")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"The pickle {path} cannot be read ({error.strerror}); check the file.") from error
    try:
        return _Machine(data).run()
    except Refused as error:
        raise InputError(
            f"The pickle {path} is refused, because it holds more than plain labels: {error}; get the original file again."
        ) from error
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error, OverflowError) as error:
        raise InputError(f"The file {path} is no whole pickle; it is truncated, damaged or something else.") from error


class _Global:
    """One of the two names that a pickle may use."""

    def __init__(self, kind):
        self.kind = kind


class _Dtype:
    """A number's type: 'f8' and the like, and its byte order as struct writes it."""

    def __init__(self, code):
        if code not in NUMBERS:
            raise Refused("a NumPy type that is no number")
        self.code, self.order = code, "<"

    def set_state(self, state):
        order = state[1]
        if order not in ("<", ">", "=", "|"):
            raise Refused("a NumPy type of an unknown byte order")
        self.order = order if order == ">" else "<"

    def number(self, raw):
        return struct.unpack(self.order + NUMBERS[self.code], raw.encode("latin-1"))[0]


class _Mark:
    """Where a container's items begin on the stack."""


MARK = _Mark()


class _Machine:
    """Runs the instructions in `data` one by one on a stack of plain values."""

    def __init__(self, data):
        self.data, self.place, self.stack, self.memo = data, 0, [], {}

    def run(self):
        while True:
            code = self.take(1)[0]
            if code == ord("."):
                value = self.stack.pop()
                if self.stack or isinstance(value, _Global | _Dtype | _Mark):
                    raise ValueError
                return value
            step = STEPS.get(code)
            if step is None:
                raise Refused(f"the instruction {NAMES[code]}" if code in NAMES else f"the unknown instruction {code}")
            step(self)

    def take(self, n):
        if n < 0 or self.place + n > len(self.data):
            raise ValueError
        self.place += n
        return self.data[self.place - n : self.place]

    def line(self):
        end = self.data.index(b"\n", self.place)
        text = self.data[self.place : end]
        self.place = end + 1
        return text

    def number(self, layout):
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def push(self, value):
        self.stack.append(value)

    def items(self):
        """All that lies above the newest mark, and the mark gone."""
        place = next((i for i in reversed(range(len(self.stack))) if self.stack[i] is MARK), None)
        if place is None:
            raise ValueError
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def top(self, kind):
        if type(self.stack[-1]) is not kind:
            raise ValueError
        return self.stack[-1]

    def keep(self, number):
        self.memo[number] = self.stack[-1]

    def known(self, module, name):
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError
        if (module, name) in SCALAR:
            return _Global("scalar")
        if (module, name) in DTYPE:
            return _Global("dtype")
        raise Refused(f"the name {f'{module}.{name}'[:80]!r}")

    def named(self):
        name, module = self.stack.pop(), self.stack.pop()
        self.push(self.known(module, name))

    def reduce(self):
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Global) or type(arguments) is not tuple:
            raise Refused("a call of something that is no function of NumPy's")
        if function.kind == "dtype":
            self.push(_Dtype(arguments[0]))
        else:
            dtype, raw = arguments
            self.push(dtype.number(raw))

    def build(self):
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Dtype) or type(state) is not tuple:
            raise Refused("a state for something that has none")
        target.set_state(state)

    def fill(self, target, items):
        if len(items) % 2:
            raise ValueError
        for key, value in zip(items[::2], items[1::2]):
            # Nested keys would be hashed by recursion as deep as a hostile file likes.
            if not isinstance(key, str | int | float | None):
                raise ValueError
            target[key] = value

    def text_line(self):
        text = self.line()
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"') or not ESCAPED.fullmatch(text[1:-1]):
            raise ValueError
        self.push(text[1:-1].decode("unicode_escape"))

    def integer_line(self):
        text = self.line()
        self.push({b"00": False, b"01": True}[text] if text in (b"00", b"01") else int(text))

    def counted(self, layout, encoding):
        raw = self.take(self.number(layout))
        self.push(raw.decode(encoding, "surrogatepass") if encoding == "utf-8" else raw.decode(encoding))

    def tuple_of(self, n):
        if len(self.stack) < n:
            raise ValueError
        items = tuple(self.stack[len(self.stack) - n :])
        del self.stack[len(self.stack) - n :]
        self.push(items)

    def append(self):
        value = self.stack.pop()
        self.top(list).append(value)

    def set_item(self):
        items = self.stack[-2:]
        del self.stack[-2:]
        self.fill(self.top(dict), items)

    def appends(self):
        items = self.items()
        self.top(list).extend(items)

    def set_items(self):
        items = self.items()
        self.fill(self.top(dict), items)

    def new_dict(self):
        made = {}
        self.fill(made, self.items())
        self.push(made)


STEPS = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME
    b"(": lambda m: m.push(MARK),
    b"0": lambda m: m.stack.pop(),
    b"1": lambda m: m.items(),
    b"2": lambda m: m.push(m.stack[-1]),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": lambda m: m.integer_line(),
    b"L": lambda m: m.push(int(m.line().rstrip(b"L"))),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.push(int.from_bytes(m.take(m.number("<B")), "little", signed=True)),
    b"F": lambda m: m.push(float(m.line())),
    b"G": lambda m: m.push(m.number(">d")),
    b"S": lambda m: m.text_line(),
    b"T": lambda m: m.counted("<i", "latin-1"),
    b"U": lambda m: m.counted("<B", "latin-1"),
    b"V": lambda m: m.push(m.line().decode("raw_unicode_escape")),
    b"X": lambda m: m.counted("<I", "utf-8"),
    b"\x8c": lambda m: m.counted("<B", "utf-8"),
    b"\x8d": lambda m: m.counted("<Q", "utf-8"),
    b"B": lambda m: m.counted("<I", "latin-1"),
    b"C": lambda m: m.counted("<B", "latin-1"),
    b"\x8e": lambda m: m.counted("<Q", "latin-1"),
    b"]": lambda m: m.push([]),
    b"a": lambda m: m.append(),
    b"e": lambda m: m.appends(),
    b"l": lambda m: m.push(m.items()),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.items())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"}": lambda m: m.push({}),
    b"d": lambda m: m.new_dict(),
    b"s": lambda m: m.set_item(),
    b"u": lambda m: m.set_items(),
    b"g": lambda m: m.push(m.memo[int(m.line())]),
    b"h": lambda m: m.push(m.memo[m.number("<B")]),
    b"j": lambda m: m.push(m.memo[m.number("<I")]),
    b"p": lambda m: m.keep(int(m.line())),
    b"q": lambda m: m.keep(m.number("<B")),
    b"r": lambda m: m.keep(m.number("<I")),
    b"\x94": lambda m: m.keep(len(m.memo)),  # MEMOIZE
    b"c": lambda m: m.push(m.known(m.line().decode("latin-1"), m.line().decode("latin-1"))),
    b"\x93": lambda m: m.named(),  # STACK_GLOBAL
    b"R": lambda m: m.reduce(),
    b"b": lambda m: m.build(),
}
STEPS = {code[0]: step for code, step in STEPS.items()}
