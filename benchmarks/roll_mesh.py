"""How far heads lean in videos, by MediaPipe's face mesh: a second estimate for benchmarks/roll.py.

    python benchmarks/roll_mesh.py --manifest clips.csv people.csv [--video tilt20.mp4] --out mesh

Needs `pip install 'mediapipe==0.10.21' 'numpy<2'`, which does not go together with the package's own NumPy: use another virtual
environment, with av, pandas, pyarrow, etils and xxhash beside it. The lean is that of the lines through the outer and through
the inner corners of the eyes, at full size. Writes OUT/CLIP_ID.json: {frame: [[x, y, width, height, degrees]]}.
"""

import argparse
import json
import pathlib
import sys

import mediapipe  # pyright: ignore[reportMissingImports]
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from data_pipelines.faces.video import Video
from data_pipelines.manifest import ClipEntry, read_manifest

CORNERS = (
    (33, 263),
    (133, 362),
)  # numbers of the mesh's points: outer and inner corners, the one that is left in the image first


def faces(mesh, rgb):
    """[[x, y, width, height, degrees]] of the faces of an RGB image."""
    height, width = rgb.shape[:2]
    found = []
    for face in mesh.process(np.ascontiguousarray(rgb)).multi_face_landmarks or []:
        points = np.array([(p.x * width, p.y * height) for p in face.landmark])
        across = sum(points[right] - points[left] for left, right in CORNERS)
        low, high = points.min(0), points.max(0)
        found.append([*low.tolist(), *(high - low).tolist(), float(np.degrees(np.arctan2(across[1], across[0])))])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", nargs="*", default=[])
    parser.add_argument("--video", nargs="*", default=[], help="further files")
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    entries = [entry for manifest in arguments.manifest for entry in read_manifest(manifest)]
    entries += [ClipEntry(pathlib.Path(path).stem, "p", pathlib.Path(path)) for path in arguments.video]
    options = {"static_image_mode": True, "max_num_faces": 3, "refine_landmarks": True}
    for entry in entries:
        with mediapipe.solutions.face_mesh.FaceMesh(**options) as mesh:
            found = {n: faces(mesh, rgb) for n, (_, _, rgb) in enumerate(Video(entry.path)) if n % arguments.every == 0}
        (out / f"{entry.clip_id}.json").write_text(json.dumps(found))
        print(entry.clip_id, f"{sum(map(bool, found.values()))} of {len(found)} frames", flush=True)


if __name__ == "__main__":
    main()
