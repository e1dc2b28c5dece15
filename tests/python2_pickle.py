"""Pickles as Python 2 wrote them, protocols 0 and 2, with NumPy's scalars: what ChaLearn's annotation files are."""

import struct


class Python2Pickler:
    """`dump` gives the bytes of a pickle of nested dicts of text and float."""

    def __init__(self, protocol: int):
        self.protocol, self.kept, self.dtype = protocol, 0, None

    def dump(self, value) -> bytes:
        return (b"\x80\x02" if self.protocol == 2 else b"") + self.value(value) + b"."

    def keep(self) -> bytes:
        self.kept += 1
        number = self.kept - 1
        if self.protocol == 0:
            return b"p%d\n" % number
        return b"q" + struct.pack("<B", number) if number < 256 else b"r" + struct.pack("<I", number)

    def get(self, number) -> bytes:
        return b"g%d\n" % number if self.protocol == 0 else b"h" + struct.pack("<B", number)

    def value(self, value) -> bytes:
        if isinstance(value, dict):
            start = b"(d" if self.protocol == 0 else b"}"
            return start + self.keep() + b"".join(self.value(k) + self.value(v) + b"s" for k, v in value.items())
        return self.scalar(value) if isinstance(value, float) else self.text(value.encode("latin-1"))

    def text(self, raw: bytes) -> bytes:
        start = b"S" + repr(raw)[1:].encode() + b"\n" if self.protocol == 0 else b"U" + struct.pack("<B", len(raw)) + raw
        return start + self.keep()

    def number(self, value: int) -> bytes:
        return b"I%d\n" % value if self.protocol == 0 else b"J" + struct.pack("<i", value)

    def scalar(self, value: float) -> bytes:
        if self.dtype is None:
            self.function = self.kept
            text = b"cnumpy.core.multiarray\nscalar\n" + self.keep()
            text += b"(cnumpy\ndtype\n" + self.keep() + b"(" + self.text(b"f8") + self.number(0) + self.number(1) + b"t"
            text += self.keep() + b"R"
            self.dtype = self.kept
            text += self.keep() + b"(" + self.number(3) + self.text(b"<") + b"NNN"
            text += self.number(-1) + self.number(-1) + self.number(0) + b"t" + self.keep() + b"b"
        else:
            text = self.get(self.function) + b"(" + self.get(self.dtype)
        return text + self.text(struct.pack("<d", value)) + b"t" + self.keep() + b"R" + self.keep()


def write_annotation(path, by_clip, protocol: int = 0) -> None:
    """`by_clip` {file name: {stored key: value}} as an annotation file, keys in the order of ChaLearn's own."""
    keys = ("extraversion", "neuroticism", "agreeableness", "conscientiousness", "interview", "openness")
    table = {key: {name: row[key] for name, row in by_clip.items() if key in row} for key in keys}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Python2Pickler(protocol).dump(table))
