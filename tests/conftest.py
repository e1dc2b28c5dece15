"""Set-up shared by all tests: several fake CPU devices, the folder of real clips, and a small prepared dataset."""

import atexit
import os
import pathlib
import shutil
import tempfile
import zlib
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little: without the compiler's optimiser they take a third of the time, in one piece and with
# older emitters half of that. XLA ends the process at a flag it does not know, so those two are for versions that were tried.
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=4", "--xla_backend_optimization_level=0"]
    + ["--xla_cpu_parallel_codegen_split_count=1"] * version("jaxlib").startswith(("0.10.", "0.11.", "0.12."))
    + ["--xla_cpu_use_fusion_emitters=false"] * version("jaxlib").startswith("0.10.")
)

# What one test, process or rank has compiled the next need not. The folder is the first process's, who removes it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="facedyn-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# A shape that fits another by chance is an error: every broadcast is written out. Also in processes that tests start.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

import cv2
import numpy as np
import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import config, install_import_hook

# While these tests run, types and shapes in the annotations of the core are checked at every call.
CHECKED = [
    "test_banded_ridge.py",
    "test_bases.py",
    "test_blocks.py",
    "test_cross_validation.py",
    "test_feature_weights.py",
    "test_fit.py",
    "test_fork_example.py",
    "test_identification.py",
    "test_metrics.py",
    "test_person_filters.py",
    "test_rank_loss.py",
    "test_shapes.py",
    "test_site_dynamics.py",
    "test_stacking.py",
    "test_surrogates.py",
    "test_trait_heads.py",
    "test_unet.py",
    "test_weight_shares.py",
]
# No test cuts the power, so none waits for the disk.
os.fsync = lambda handle: None

# A whole number is a float, as type checkers have it.
typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))
install_import_hook("facedyn.core", f"{__name__}.typechecker")

ROOT = pathlib.Path(__file__).parent.parent

# Files of few tests that take long: begun last, one of them would keep one process busy and the other waiting.
LONG = [
    "test_processes.py",
    "test_documented_runs.py",
    "test_documents.py",
    "test_traits_stage.py",
    "test_stages.py",
    "test_pretrain_stage.py",
    "test_clip_scores.py",
    "test_site_stage.py",
    "test_add.py",
    "test_embed.py",
    "test_fit.py",
    "test_fit_engine.py",
]


def pytest_collection_modifyitems(items):
    """The long files first, the others as they were."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_runtest_setup(item):
    """Switches the checks of CHECKED on and off."""
    config.update("jaxtyping_disable", item.path.name not in CHECKED)


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


@pytest.fixture
def hear(capsys, caplog):
    """Call it for what was printed, and what the logger `facedyn` was told, since the last call."""
    caplog.set_level("DEBUG", "facedyn")

    def heard() -> str:
        text = "".join(capsys.readouterr()) + caplog.text
        caplog.clear()
        return text

    return heard


FORGOTTEN = "p03-aurora"  # long enough that its bytes are nowhere by chance


@pytest.fixture(scope="session")
def blob_manifest(tmp_path_factory) -> pathlib.Path:
    """A manifest of 12 people x 2 tasks, unequal lengths, already aligned, with two trait columns."""
    folder = tmp_path_factory.mktemp("blobs")
    rows = ["clip_id,person_id,path,task,split,aligned,calm,bold"]
    for person in range(12):
        split = "train" if person < 4 else "validation" if person < 6 else "test"
        person_id = FORGOTTEN if person == 3 else f"p{person:02d}"
        for task in ("talk", "watch"):
            name = f"{person_id}_{task}"
            write_video(folder / "videos" / f"{name}.avi", drifting_blob(40 + 4 * person, hash_seed(name)))
            rows.append(f"{name},{person_id},videos/{name}.avi,{task},{split},true,{person / 10},{(person % 3) / 2}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


# A whole run in seconds.
TINY = {
    "data.image_size": 16,
    "data.shard_mb": 0.05,  # many shards, as a large data set has
    "data.workers": 1,
    "data.traits": "calm,bold",
    "model.channels": "4,6",
    "model.groups": 2,
    "rank_loss.half_length": 2,
    "rank_loss.scales": "1,2",
    "pretrain.batch_size": 8,
    "pretrain.steps": 6,
    "pretrain.eval_every": 3,
    "pretrain.eval_windows": 4,
    "pretrain.loader_threads": 1,
    "fit.solver": "adam",
    "fit.filter_kind": "pointwise",
    "fit.filter_sites": "connections",
    "fit.blocks": ("filters",),
    "fit.whiten": False,
    "fit.controls": (),
    "fit.video_seconds": (),
    "fit.steps": 3,
    "fit.batch_size": 4,
    "fit.min_frames": 8,
    "fit.max_frames": 12,
    "fit.chunk_size": 5,
    "traits.folds": 3,
    "traits.inner_folds": 2,
    "traits.penalties": "1,100",
    "traits.heads": "ridge",
    "traits.bootstrap": 50,
    "report.examples": 1,
}

# For `arguments`: filters in closed form, at every site. A test says what it wants besides: CLOSED_FORM | dict(...).
CLOSED_FORM = dict(fit__solver="least_squares", fit__filter_kind="low_rank", fit__filter_sites="all", fit__rank=3)


@pytest.fixture(scope="session")
def arguments(root, blob_manifest):
    """Flags of a run in `workdir`, with more settings."""

    def make(stage, workdir, **more):
        settings = TINY | {"data.manifest": str(blob_manifest)} | {k.replace("__", "."): v for k, v in more.items()}
        flags = [f"--config.{name}={value}" for name, value in settings.items()]
        return [stage, f"--config={root}/configs/videos.py", f"--workdir={workdir}", *flags]

    return make


@pytest.fixture(scope="session")
def workdir(arguments, tmp_path_factory):
    """A finished run."""
    from facedyn.main import main

    folder = tmp_path_factory.mktemp("run") / "w"
    assert main(arguments("run", folder)) == 0
    return folder


def copy_before_fit(run, folder) -> pathlib.Path:
    """A copy of a finished run as it was before its fit, at `folder`."""
    shutil.copytree(run, folder)
    for gone in ("representations", "traits", "report"):
        shutil.rmtree(folder / gone)
    for stamp in ("fit", "fit.started", "traits", "report"):
        (folder / "stages" / f"{stamp}.json").unlink()
    return folder


def hash_seed(name: str) -> int:
    """A seed that is the same in every process."""
    return zlib.crc32(name.encode())
