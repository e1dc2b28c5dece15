"""Whether `prepare` stays upright and honest on damaged files: 200 damaged copies of six small clips, one run of the command.

    python benchmarks/fuzz_prepare.py --data ../shared/data [--copies 200] [--seed 0] [--json out.json]

The six clips are cut from those of the folder `--data` (40 frames, 320 pixels wide), each in another container and codec.
Copies have random bytes changed, are cut at either end, lose or repeat a block, or have a header that lies. Asked for: exit
code 0, a row in the quality table for every copy, a reason for each that is left out, and no crop that shows another clip.

A crop counts as another clip's when it is nearer to one of the crops of that clip, undamaged, than to all of its own clip, and
looks like it at all (a correlation of 0.6; two crops of one clip have 0.72 and more). One that looks like no clip is counted as
damaged: some decoders, above all VP8's, do not notice damaged input.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pandas as pd

from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.faces.video import Video

CLIPS = {  # a person each
    "a.mp4": ("clips/liveportrait_d10.mp4", "libx264", {"preset": "veryfast", "g": "12"}),
    "b.mpg": ("clips/grid_bbaf2n.mpg", "mpeg2video", {}),
    "c.webm": ("clips/liveportrait_s20.mp4", "libvpx", {"deadline": "realtime", "cpu-used": "8"}),
    "d.avi": ("people/p027_00.mp4", "mpeg4", {}),
    "e.mkv": ("people/p041_00.mp4", "libx264", {"preset": "veryfast"}),
    "f.ts": ("clips/pyfeat_single_face.mp4", "mpeg2video", {}),
}
FRAMES, WIDTH = 40, 320
SIMILAR = 0.6
ROOT = pathlib.Path(__file__).resolve().parent.parent


def small_copy(source, path, codec, options):
    """The first FRAMES frames of a video, WIDTH pixels wide, 25 a second."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.pix_fmt, stream.bit_rate, stream.codec_context.time_base = "yuv420p", 800_000, Fraction(1, 25)
        for number, (_, _, image) in enumerate(Video(source)):
            if number == FRAMES:
                break
            height = round(image.shape[0] * WIDTH / image.shape[1]) // 2 * 2
            image = cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA)
            if number == 0:
                stream.width, stream.height = WIDTH, height
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def damaged(data: bytes, random) -> tuple[bytes, str]:
    """(a damaged copy, what was done to it)."""
    copy, kind = bytearray(data), str(random.choice(["bytes", "cut", "head", "block", "header", "repeat"]))
    if kind == "bytes":
        for place in random.integers(0, len(copy), random.choice([1, 3, 10, 100])):
            copy[place] = random.integers(256)
    elif kind == "cut":
        del copy[random.integers(1, len(copy)) :]
    elif kind == "head":
        del copy[: random.integers(1, len(copy) // 4)]
    elif kind == "block":
        start = random.integers(len(copy))
        copy[start : start + random.integers(16, 4096)] = bytes(random.integers(16, 4096))
    elif kind == "header":  # at the start, and at the end, where MP4 has its tables
        for _ in range(4):
            place = random.integers(8, 600)
            place = -place if random.random() < 0.5 else place
            copy[place] = random.choice([0, 1, 0x7F, 0xFF, random.integers(256)])
    else:
        start = random.integers(len(copy))
        copy[start:start] = copy[start : start + random.integers(16, 8192)]
    return bytes(copy), kind


def prepared(manifest, workdir, yunet):
    """(exit code, last lines of what it said) of the command."""
    command = [sys.executable, "-m", "facedyn.main", "prepare", f"--config={ROOT / 'configs/videos.py'}"]
    command += [f"--config.data.manifest={manifest}", f"--workdir={workdir}"]
    command += [f"--config.data.yunet_model={yunet}"] if yunet else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    return done.returncode, (done.stdout + done.stderr).splitlines()[-20:]


def looks(frames):
    """Crops uint8 [T, S, S, C] as float [T, N] that light does not change."""
    small = np.stack([cv2.resize(frame, (24, 24), interpolation=cv2.INTER_AREA).ravel() for frame in frames]).astype(np.float32)
    small -= small.mean(1, keepdims=True)
    return small / (np.linalg.norm(small, axis=1, keepdims=True) + 1e-6)


def crops_shown(data, sources):
    """{clip_id: (crops, those that show another clip, those that show none)} of damaged copies."""
    crops = {clip.clip_id: looks(data.frames(i)) for i, clip in enumerate(data.clips)}
    found = {}
    for clip_id, shown in crops.items():
        own = clip_id.split("#")[0]
        if clip_id != own:
            likeness = {source: (shown @ crops[source].T).max(1) for source in sources}
            others = np.max([value for source, value in likeness.items() if source != own], axis=0)
            foreign = (others > likeness[own]) & (others > SIMILAR)
            found[clip_id] = len(shown), int(foreign.sum()), int((np.maximum(others, likeness[own]) <= SIMILAR).sum())
    return found


def run(arguments, folder):
    """All figures as a dict."""
    random = np.random.default_rng(arguments.seed)
    rows, kinds = ["clip_id,person_id,path,split"], {}
    for number, (name, (source, codec, options)) in enumerate(CLIPS.items()):
        small_copy(arguments.data / source, folder / name, codec, options)
        rows.append(f"{name},{name},{name},{'train' if number % 2 else 'test'}")
    for number in range(arguments.copies):
        name = list(CLIPS)[number % len(CLIPS)]
        data, kind = damaged((folder / name).read_bytes(), random)
        clip_id = f"{name}#{number:03d}"
        kinds[clip_id] = kind
        path = folder / f"{number:03d}_{name}"
        path.write_bytes(data)
        rows.append(f"{clip_id},{name},{path.name},{'train' if list(CLIPS).index(name) % 2 else 'test'}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    start = time.time()
    code, said = prepared(folder / "manifest.csv", folder / "w", arguments.yunet_model)
    seconds = time.time() - start
    figures = {"copies": arguments.copies, "exit code": code, "seconds": round(seconds, 1), "said": said if code else []}
    if not (folder / "w" / "quality.parquet").exists():
        return figures
    table = pd.read_parquet(folder / "w" / "quality.parquet").set_index("clip_id").loc[list(kinds)]
    shown = crops_shown(open_face_clips(folder / "w" / "data"), list(CLIPS))
    figures |= {"rows": len(table), "ok": int((table.verdict == "ok").sum()), "left out": int((table.verdict != "ok").sum())}
    figures["left out without a reason"] = int(((table.verdict != "ok") & (table.reason == "")).sum())
    figures["crops"] = int(table.n_kept.sum())
    figures["crops of another clip"] = sum(foreign for _, foreign, _ in shown.values())
    figures["damaged crops"] = sum(broken for _, _, broken in shown.values())
    figures["copies with crops of another clip"] = [clip_id for clip_id, (_, foreign, _) in shown.items() if foreign]
    figures["copies with damaged crops"] = [clip_id for clip_id, (_, _, broken) in shown.items() if broken]
    figures["by kind"] = {
        kind: {
            verdict: sum(table.verdict[c] == verdict for c, k in kinds.items() if k == kind) for verdict in ("ok", "left_out")
        }
        for kind in sorted(set(kinds.values()))
    }
    figures["reasons"] = (
        table.reason[table.verdict != "ok"].str.replace(r"\S*/\S+|\d+", "…", regex=True).value_counts().head(20).to_dict()
    )
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--yunet-model", default="")
    parser.add_argument("--copies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", default="")
    parser.add_argument("--keep", default="", help="a folder that the files are left in")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(arguments.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = run(arguments, folder)
    for name, value in figures.items():
        print(f"{name:26}", value if not isinstance(value, dict) else "")
        if isinstance(value, dict):
            for key, count in value.items():
                print(f"    {key}: {count}")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(figures, indent=1))
    good = figures["exit code"] == 0 and figures.get("rows") == arguments.copies
    return 0 if good and not figures["crops of another clip"] and not figures["left out without a reason"] else 1


if __name__ == "__main__":
    sys.exit(main())
