"""Files and settings for benchmarks/hostile.py, each as a careless or a malicious user might give them.

An input is a function of a `Place` that makes the file and returns the words of the command line. `prepare` makes the inputs
that are read first; the others damage one file of a finished WORKDIR.
"""

import dataclasses
import io
import os
import pathlib
import pickle
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SIZES = ["--config.data.image_size=16", "--config.model.channels=8,16", "--config.model.groups=4"]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an input is made: an empty folder, a copy of the finished WORKDIR, one of its videos, the flags of its run."""

    folder: pathlib.Path
    workdir: pathlib.Path
    video: pathlib.Path
    flags: list[str]

    def again(self, stage: str) -> list[str]:
        """The command that does a stage again on the finished WORKDIR."""
        return [stage, "--config=demo", f"--workdir={self.workdir}", *self.flags]

    def prepare(self, manifest) -> list[str]:
        """`facedyn prepare` of a manifest into a new WORKDIR."""
        sizes = [*SIZES, "--config.data.workers=1", f"--config.data.manifest={manifest}"]
        return ["prepare", "--config=videos", f"--workdir={self.folder / 'new'}", *sizes]

    def clip(self, path, extra: str = "") -> list[str]:
        """`facedyn prepare` of two good clips and of this one."""
        rows = [f"good{i},g{i},{self.video},true" for i in range(2)]
        return self.manifest("\n".join(["clip_id,person_id,path,aligned", *rows, f"hostile,h,{path},true", extra]))

    def manifest(self, content) -> list[str]:
        """`facedyn prepare` of a manifest of this content, text or bytes."""
        path = self.folder / "manifest.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.prepare(path)

    def file(self, name: str, content: bytes) -> pathlib.Path:
        """A file in the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def damaged(self, name: str, content: bytes, stage: str) -> list[str]:
        """The command of a stage after one file of the finished WORKDIR (a pattern; the first) holds something else."""
        path = next(iter(sorted(self.workdir.glob(name))), self.workdir / name)
        path.write_bytes(content)
        return self.again(stage)

    def source(self, config: str, content: bytes) -> list[str]:
        """`facedyn prepare` of ChaLearn's folder whose pickle of labels holds this."""
        self.file("source/annotation_training.pkl", content)
        (self.folder / "source" / "train").mkdir()
        shutil.copy(self.video, self.folder / "source" / "train" / "a.000.mp4")
        return [
            "prepare",
            f"--config={config}",
            f"--workdir={self.folder / 'new'}",
            f"--config.data.source={self.folder}/source",
        ]


def sparse(path, size: int):
    """A file that says it is so large and takes no room."""
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def png(width: int, height: int) -> bytes:
    """A PNG of few bytes that says it has so many pixels."""
    kinds = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(bytes(1000)), b"IEND": b""}
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in kinds.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def table_bomb() -> bytes:
    """A Parquet file of a few hundred bytes whose texts take 90 GB a column."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), ["a" * 900_000])
    to = io.BytesIO()
    pq.write_table(pa.table({name: texts for name in ("unit_id", "clip_id", "person_id", "verdict")}), to, compression="zstd")
    return to.getvalue()


def table(**columns) -> bytes:
    """A Parquet file of these columns."""
    to = io.BytesIO()
    pq.write_table(pa.table(columns), to)
    return to.getvalue()


def arrays_bomb() -> bytes:
    """An NPZ file whose header promises an array of 8 TB."""
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive, archive.open("sites.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    return to.getvalue()


class _Harmful:
    def __reduce__(self):
        return os.system, ("echo harm",)


def _images(place, content: bytes):
    for i in range(20):
        place.file(f"images/{i:03d}.png", content)
    return place.clip("images")


def _openface(place, lines: str):
    (place.folder / "of_aligned").mkdir()
    for i in range(1, 21):
        place.file(f"of_aligned/frame_det_00_{i:06d}.bmp", b"BM no picture")
    place.file("of.csv", lines.encode())
    return place.clip("of_aligned")


def _pipe(place):
    os.mkfifo(place.folder / "pipe.mp4")
    return place.clip("pipe.mp4")


def _loop(place):
    (place.folder / "loop.mp4").symlink_to("loop.mp4")
    return place.clip("loop.mp4")


def _folder_as_manifest(place):
    (place.folder / "manifest.csv").mkdir()
    return place.prepare(place.folder / "manifest.csv")


def _init_from(place, content: bytes):
    path = place.file("model.safetensors", content)
    for name in ("generic", "representations", "stages"):
        shutil.rmtree(place.workdir / name)
    return [*place.again("pretrain"), f"--config.pretrain.init_from={path}"]


def _embed(place, videos, out="table.parquet"):
    return ["embed", f"--videos={videos}", f"--workdir={place.workdir}", f"--out={place.folder / out}"]


HEAD = "clip_id,person_id,path\n"
OF_HEAD = "frame,face_id,timestamp,confidence,success\n"
INPUTS = {
    "an empty manifest": lambda p: p.manifest(""),
    "random bytes as a manifest": lambda p: p.manifest(np.random.default_rng(0).bytes(5000)),
    "a manifest in UTF-16 without a mark": lambda p: p.manifest((HEAD + "a,b,c.mp4\n").encode("utf-16-le")),
    "a manifest that lacks person_id": lambda p: p.manifest("clip_id,path\na,b.mp4\n"),
    "one clip_id twice": lambda p: p.manifest(f"{HEAD}a,b,{p.video}\na,c,{p.video}\n"),
    "a quote that is never closed": lambda p: p.manifest(f'{HEAD}a,"b,{p.video}\n' + "c,d,e.mp4\n" * 30_000),
    "a cell of a million characters": lambda p: p.manifest(f"{HEAD}{'a' * 10**6},b,{p.video}\n"),
    "a trait that is 1e999": lambda p: (
        p.manifest(f"{HEAD.strip()},calm\na,b,{p.video},1e999\n") + ["--config.data.traits=calm"]
    ),
    "a folder as a manifest": _folder_as_manifest,
    "a manifest of 5 GiB of zeros": lambda p: p.prepare(sparse(p.folder / "manifest.csv", 5 << 30)),
    "line breaks and colours in a path": lambda p: p.clip('"\x1b[31mred\nand\r\nmore\u2028.mp4"'),
    "an empty video": lambda p: p.clip(p.file("a.mp4", b"")),
    "text as a video": lambda p: p.clip(p.file("a.mp4", b"no video\n" * 1000)),
    "half a video": lambda p: p.clip(p.file("a.avi", p.video.read_bytes()[:3000])),
    "a playlist that names /etc/passwd as a video": lambda p: p.clip(
        p.file("a.mp4", b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    ),
    "a named pipe as a video": _pipe,
    "/dev/zero as a video": lambda p: p.clip("/dev/zero"),
    "a link to itself as a video": _loop,
    "images of 60,000 x 60,000 pixels in 100 bytes": lambda p: _images(p, png(60_000, 60_000)),
    "images of -1 x -1 pixels": lambda p: _images(p, png(2**32 - 1, 2**32 - 1)),
    "OpenFace's frame number 9e99": lambda p: _openface(p, OF_HEAD + "9e99,0,nan,1,1\n" * 50),
    "OpenFace's table of random bytes": lambda p: _openface(p, "\x00\x01\xff" * 1000),
    "a pickle that runs a command": lambda p: p.source("chalearn_first_impressions", pickle.dumps(_Harmful(), 2)),
    "a pickle that doubles a list 60 times": lambda p: p.source(
        "chalearn_first_impressions", b"\x80\x02]" + b"q\x00" + b"(h\x00h\x00lq\x00" * 60 + b"."
    ),
    "a model whose header says 2^60 bytes": lambda p: _init_from(p, struct.pack("<Q", 2**60) + b"{}"),
    "a model cut off in its header": lambda p: _init_from(p, struct.pack("<Q", 100) + b'{"a":{"dtype":"F32","shape":[99'),
    "embed: a folder without a video": lambda p: _embed(p, p.file("no_videos/notes.txt", b"nothing").parent),
    "embed: text as the only video": lambda p: _embed(p, p.file("a.mp4", b"no video")),
    "quality.parquet that takes 360 GB": lambda p: p.damaged("quality.parquet", table_bomb(), "report"),
    "quality.parquet of other columns": lambda p: p.damaged("quality.parquet", table(a=[1, 2]), "report"),
    "representations that take 360 GB": lambda p: p.damaged("representations/part-*.parquet", table_bomb(), "traits"),
    "representations of other columns": lambda p: p.damaged("representations/part-*.parquet", table(a=[1]), "traits"),
    "predictions.parquet that is text": lambda p: p.damaged("traits/predictions.parquet", b"no table", "report"),
    "the dataset's index that takes 360 GB": lambda p: p.damaged("data/**/parts/part-*.parquet", table_bomb(), "pretrain"),
    "the dataset's shard that is text": lambda p: p.damaged("data/**/*array_record-00000", b"text" * 5000, "pretrain"),
    "the dataset's description that is a list": lambda p: p.damaged("data/**/metadata.json", b"[1]", "pretrain"),
    "a stamp of 100,000 brackets": lambda p: p.damaged("stages/pretrain.json", b"[" * 100_000, "fit"),
    "a stamp without settings": lambda p: p.damaged("stages/fit.json", b'{"format": 2}', "report"),
    "a stamp whose settings are texts": lambda p: p.damaged("stages/fit.json", b'{"format": 2, "config": "x"}', "forget"),
    "shared arrays that promise 8 TB": lambda p: p.damaged("representations/shared/scale_1.npz", arrays_bomb(), "fit"),
    "scores.csv of random bytes": lambda p: p.damaged("scores.csv", np.random.default_rng(1).bytes(3000), "report"),
    "scores.csv with words for numbers": lambda p: p.damaged(
        "scores.csv", (p.workdir / "scores.csv").read_bytes().replace(b"0.", b"x."), "report"
    ),
    "metrics.jsonl of brackets": lambda p: p.damaged("metrics.jsonl", b"{]}\n[}\n", "report"),
    "a checkpoint that is cut off": lambda p: p.damaged("generic/**/manifest.ocdbt", b"", "fit"),
    "forgotten.json without salt": lambda p: p.damaged("forgotten.json", b"{}", "forget"),
}

# Each is given to `facedyn run --config=demo --workdir=NEW`; of an option that is given twice the last one counts.
SETTINGS = [
    "--config.fit.unit=people",
    "--config.traits.heads=svm",
    "--config.data.yunet_model=nowhere.onnx",
    "--config.data.detector=mtcnn",
    "--config.fit.ridge=nan",
    "--config.fit.chunk_size=-3",
    "--config.traits.penalties=a",
    "--config.model.channels=8,x",
    "--config.model.dtype=float8",
    "--config.model.groups=0",
    "--config.pretrain.eval_every=0",
    "--config.pretrain.batch_size=0",
    "--config.rank_loss.scales=1.5",
    "--config.rank_loss.scales=",
    "--config.data.image_size=1e99",
    "--config.data.image_size=-16",
    "--config.data.fps=inf",
    "--config.seed=99999999999999999999999",
    "--config.data.workers=-1",
    "--config.fit.splits=nobody",
    "--config.data.synthetic.frames=0,0",
    "--config.data.synthetic.frames=9,3",
    "--config.fit.damping=1",
    "--config.pretrain.stepz=3",
    "--config.distributed=a:b:c",
    "--config.fit.rank",
    "--person=anna",
    "--workdir=/dev/null",
    "--workdir=/proc/nowhere/a",
    "--workdir=a\0b",
    "--config=nowhere",
    "word",
]
