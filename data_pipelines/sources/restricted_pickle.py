"""Reads the plain data in a pickle without running anything of it: ChaLearn's annotations are pickles of Python 2.

A pickle is a program that may call any function. This one may call two, NumPy's scalar and dtype, and gets stand-ins for them;
instructions that plain labels do not need are refused before anything is run.
"""

import io
import pathlib
import pickle
import struct
import warnings
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from data_pipelines.errors import InputError

MAX_BYTES = 32 << 20  # the labels of ten thousand clips take less than five million
# How NumPy and struct name the numbers of a fixed size.
NUMBERS = dict(zip(["b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"], "?efdbhiqBHIQ"))
# Instructions that load code, ask the reader for objects, or take memory on the file's word.
REFUSED = ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER")
REFUSED += ("READONLY_BUFFER", "BYTEARRAY8", "EMPTY_SET", "ADDITEMS", "FROZENSET", "LONG4")
KEYS = (str, int, float, type(None))


class Refused(Exception):
    """What stands in the pickle is not plain data; the message says what it is."""


class _Dtype:
    """Stands for `numpy.dtype`: a number's type and byte order as struct writes them."""

    def __init__(self, code, *_):
        if code not in NUMBERS:
            raise Refused("a NumPy type that is not a number")
        self.layout = "<" + NUMBERS[code]

    def __setstate__(self, state):
        self.layout = (">" if state[1] == ">" else "<") + self.layout[1]


class _Scalar:
    """Stands for NumPy's scalar: called with a type and bytes, it is the number itself."""

    def __new__(cls, dtype, raw):
        return struct.unpack(dtype.layout, raw.encode("latin-1") if isinstance(raw, str) else raw)[0]

    def __setstate__(self, state):
        raise Refused("a state for something that has none")


class _Whole(io.BytesIO):
    """Bytes of which no part is read that ends too early."""

    def read(self, size=-1):
        found = super().read(size)
        if len(found) < size:
            raise EOFError
        return found

    def readline(self, size=-1):
        found = super().readline(size)
        if not found.endswith(b"\n"):
            raise EOFError
        return found


def _refuse(name, _):
    raise Refused(f"the instruction {name}")


LOADS: dict[int, Callable] = dict(pickle._Unpickler.dispatch)  # what each instruction does to the unpickler


class _Unpickler(pickle._Unpickler):
    """The one written in Python: that in C takes memory for as many memorised values as a file says it has."""

    dispatch: ClassVar[dict[int, Callable]] = dict(LOADS)
    stack: list  # set as it begins to load

    def find_class(self, module, name):
        if name == "scalar" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _Scalar
        if (module, name) == ("numpy", "dtype"):
            return _Dtype
        raise Refused(f"the name {f'{module}.{name}'[:80]!r}")

    def checked_keys(self, keys):
        # A nested key would be hashed by recursion as deep as a hostile file likes.
        if not all(isinstance(key, KEYS) for key in keys):
            raise ValueError

    def load_setitem(self):
        self.checked_keys(self.stack[-2:-1])
        LOADS[pickle.SETITEM[0]](self)

    def load_setitems(self):
        self.checked_keys(self.stack[::2])
        LOADS[pickle.SETITEMS[0]](self)

    def load_dict(self):
        self.checked_keys(self.stack[::2])
        LOADS[pickle.DICT[0]](self)

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch |= {getattr(pickle, name)[0]: partial(_refuse, name) for name in REFUSED}


def load(path):
    """The dicts, lists, tuples, texts and numbers in the pickle at `path`; Python 2's str becomes latin-1 text.

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
        with warnings.catch_warnings(action="ignore"):  # about escapes in damaged texts
            found = _Unpickler(_Whole(data), encoding="latin-1").load()
        if not isinstance(found, (dict, list, tuple, *KEYS)):
            raise ValueError
        return found
    except Refused as error:
        raise InputError(
            f"The pickle {path} is refused, because it holds more than plain labels: {error}; get the original file again."
        ) from error
    except Exception as error:  # whatever damaged bytes lead to
        raise InputError(f"The file {path} is not a complete pickle; it is truncated, damaged or something else.") from error
