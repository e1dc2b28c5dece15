"""Set-up shared by all tests: several fake CPU devices, the folder of real clips, and a small prepared dataset."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little: without the compiler's optimiser they take a third of the time.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
)

import cv2
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of real face clips and detectors beside the repository, where there is one."""
    folder = ROOT.parent / "shared"
    if not (folder / "data" / "clips.csv").is_file():
        pytest.skip("needs the real face clips in the folder `shared` beside the repository")
    return folder


def drifting_blob(frames: int, seed: int, size: int = 16) -> np.ndarray:
    """uint8 [T, size, size, 3]: a bright spot that rises fast and sinks slowly, so that time has a direction in it."""
    random = np.random.default_rng(seed)
    phase = np.cumsum(random.uniform(0.02, 0.06, frames)) + random.uniform()
    height = np.where(phase % 1 < 0.2, (phase % 1) / 0.2, 1 - (phase % 1 - 0.2) / 0.8)
    y, x = np.mgrid[:size, :size] / size
    spot = np.exp(-(((y[None] - 0.2 - 0.6 * height[:, None, None]) ** 2) + (x[None] - random.uniform(0.3, 0.7)) ** 2) / 0.02)
    colour = random.uniform(60, 200, 3)
    noise = random.normal(0, 2, (frames, size, size, 3))
    return np.clip(spot[..., None] * colour + 20 + noise, 0, 255).astype(np.uint8)


def write_video(path, frames) -> None:
    """Lossless video file of RGB frames, 25 fps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 25, frames.shape[2:0:-1])
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


@pytest.fixture(scope="session")
def blob_manifest(tmp_path_factory) -> pathlib.Path:
    """A manifest of 12 people x 2 tasks, unequal lengths, already aligned, with two trait columns."""
    folder = tmp_path_factory.mktemp("blobs")
    rows = ["clip_id,person_id,path,task,split,aligned,calm,bold"]
    for person in range(12):
        split = "train" if person < 4 else "validation" if person < 6 else "test"
        for task in ("talk", "watch"):
            name = f"p{person:02d}_{task}"
            write_video(folder / "videos" / f"{name}.avi", drifting_blob(40 + 4 * person, hash_seed(name)))
            rows.append(f"{name},p{person:02d},videos/{name}.avi,{task},{split},true,{person / 10},{(person % 3) / 2}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


def hash_seed(name: str) -> int:
    """A seed that is the same in every process."""
    return int.from_bytes(name.encode(), "big") % 2**32
