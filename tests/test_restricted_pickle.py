"""Pickles: labels as Python 2 and 3 wrote them are read, and nothing that a hostile file asks for is ever done."""

import contextlib
import os
import pickle
import random
import struct
import warnings

import numpy as np
import pytest
from python2_pickle import Python2Pickler

from data_pipelines.errors import InputError
from data_pipelines.sources.restricted_pickle import load

LABELS = {
    "extraversion": {"-_a'b\"cdefgh.000.mp4": 0.1, "Müller01234.001.mp4": -2.5e-3, "x\\n\ny.mp4": float("inf")},
    "neuroticism": {},
}


def written(tmp_path, data: bytes):
    path = tmp_path / "annotation_training.pkl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", [0, 2])
def test_python_2s_pickles_are_read_as_python_reads_them(tmp_path, protocol):
    data = Python2Pickler(protocol).dump(LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's about the old name of its module
        assert pickle.loads(data, encoding="latin1") == LABELS  # so the writer of this test is true to the format
    assert load(written(tmp_path, data)) == LABELS


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_python_3s_pickles_of_plain_data_and_numpy_scalars(tmp_path, protocol):
    data = {
        "floats": {f"f{n}": np.dtype(f"f{n}").type(0.5) for n in (2, 4, 8)},
        "integers": {kind: np.dtype(kind).type(7) for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")},
        "others": [None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), -1, 2**15, -(2**31), 2**40, 0.25, "é" * 300],
        "big-endian": np.dtype(">f8").type(1.5),
        "truth": np.True_,
    }
    assert load(written(tmp_path, pickle.dumps(data, protocol))) == data


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_reduce_is_refused_by_name_and_not_run(tmp_path, protocol):
    mark = tmp_path / "was here"
    for function, name in ((os.system, f"{os.name}.system"), (os.mkdir, f"{os.name}.mkdir"), (exec, "exec")):
        arguments = f"touch '{mark}'" if function is os.system else str(mark)
        if function is exec:
            arguments = f"open({str(mark)!r}, 'w')"
        data = pickle.dumps({"extraversion": {"a.mp4": Payload(function, arguments)}}, protocol)
        with pytest.raises(InputError) as error:
            load(written(tmp_path, data))
        assert name in str(error.value)
        assert "annotation_training.pkl is refused" in str(error.value)
        assert "\n" not in str(error.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"(S'touch x'\nios\nsystem\n.", "INST"),
        (b"(cos\nsystem\nS'x'\no.", "os.system"),
        (b"(cnumpy\ndtype\nS'f8'\no.", "OBJ"),
        (b"\x80\x02cnumpy\ndtype\n)\x81.", "NEWOBJ"),
        (b"\x82\x01.", "EXT1"),
        (b"\x84\x01\x00\x00\x00.", "EXT4"),
        (b"Pid\n.", "PERSID"),
        (b"S'id'\nQ.", "BINPERSID"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.", "numpy.load"),
        (b"\x80\x04\x8c\x0anumpy.core\x8c\x11multiarray.scalar\x93.", "numpy.core.multiarray.scalar"),
        (b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.", "a NumPy type that is not a number"),
        (b"\x96" + b"\xff" * 4 + b"\x00" * 4 + b".", "BYTEARRAY8"),
    ],
)
def test_every_other_road_to_code_is_refused_by_name(tmp_path, data, words):
    with pytest.raises(InputError, match="is refused") as error:
        load(written(tmp_path, data))
    assert words in str(error.value)


def test_what_is_no_whole_pickle_is_said_to_be_none(tmp_path):
    whole = Python2Pickler(2).dump(LABELS)
    for end in range(len(whole)):
        with pytest.raises(InputError, match="not a complete pickle"):
            load(written(tmp_path, whole[:end]))
    for data in (
        b"<html>",
        b"\x89PNG\r\n",
        b"cnumpy\ndtype\n.",
        b"(.",
        b"N]a.",
        b"](((a.",
        b"}](NtNs.",
        b"]I1\n\x85R.",  # a call of a list
        b"cnumpy\ndtype\n(dS'__call__'\nS'x'\nsb.",  # a state for a class
        b"\xff.",
        b"g5\n.",
    ):
        with pytest.raises(InputError):
            load(written(tmp_path, data))
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "nowhere.pkl")


def test_no_memory_is_taken_on_a_files_word(tmp_path):
    assert load(written(tmp_path, b"Nr\xff\xff\xff\xff.")) is None  # a memo of four thousand million places
    for data in (
        b"\x8e" + struct.pack("<Q", 2**60) + b"x.",
        b"T\xff\xff\xff\x7fx.",
        b"X\xff\xff\xff\xffx.",
        b"I" + b"9" * 9999 + b"\n.",
    ):
        with pytest.raises(InputError, match="not a complete pickle"):
            load(written(tmp_path, data))
    deep = load(written(tmp_path, b"]" * 100_000 + b"a" * 99_999 + b"."))
    assert type(deep) is list
    with pytest.raises(InputError):  # a key to be hashed by recursion
        load(written(tmp_path, b"}" + b")" + b"\x85" * 200_000 + b"Ns."))


def test_damaged_files_never_do_worse_than_a_sentence(tmp_path):
    chance, whole = random.Random(0), Python2Pickler(0).dump(LABELS)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.choice([chance.randrange(256), *b"(.01Rbtdsaugpc\n"])
        with contextlib.suppress(InputError):
            load(written(tmp_path, bytes(data)))
