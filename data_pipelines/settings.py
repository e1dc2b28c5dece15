"""The settings of what is prepared: config.data and config.data.synthetic, and what some of them must be together.

Imports nothing heavy, so that help and refusals come at once.
"""

from data_pipelines.errors import InputError
from data_pipelines.faces.appearances import CHANNELS, wrong_channels
from data_pipelines.setting import Setting, one_of

SOURCES = ("chalearn_first_impressions", "deep_personality", "udiva", "openface", "voxceleb", "folder")
WORLDS = ("drawn", "warped")
NAME = r"\S.*"

DATA = {
    "dataset": one_of(
        ("manifest", "synthetic", *SOURCES),
        "where the clips come from: a manifest, synthetic faces, or a known data set (docs/data.md)",
    ),
    "manifest": Setting(
        "", "CSV with the columns clip_id,person_id,path[,session,task,split,fps,aligned, one column per trait]", path=True
    ),
    "pretrain_manifest": Setting(
        "", "optional second manifest, without labels: people for the generic model to learn from", path=True
    ),
    "source": Setting("", "folder of your own copy of a known data set", path=True),
    "split_protocol": one_of(
        ("official", "person_disjoint"),
        "official = the data set's own split; person_disjoint = people are assigned to splits by split_fractions",
    ),
    "source_fps": Setting(
        0.0, "frame rate of a known data set's frames; 0 = as the files say, or 25 where they do not", least=0, most=10_000
    ),
    "person_pattern": Setting(
        "",
        r"regular expression for who a file of a known data set shows: r'(?P<person>\w+)_(?P<session>\d+)'; '' = "
        r"its folder's name",
    ),
    "data_dir": Setting("", "folder of the TFDS dataset; '' = WORKDIR/data", path=True),
    "landmarks": Setting(
        "",
        "folder of landmarks or action units, CLIP_ID.npz or CLIP_ID.csv, for the baselines that use them ('' = "
        "OpenFace's CSV where the data has it); with data.appearance=canonical or motion the shared face moves by them",
        path=True,
    ),
    "traits": Setting((), "names of the manifest's trait columns", of=str, distinct=True, pattern=NAME),
    "image_size": Setting(112, "side of the square face crop, pixels", least=8, most=2048),
    "channels": Setting(3, "3 = RGB, 1 = grey, 2 = x and y with data.appearance=motion", (3, 1, 2)),
    "appearance": one_of(
        ("own", "canonical", "motion"),
        "own = the face as filmed; canonical = the clip's motion on one face that all people share; motion = only "
        "the motion, x and y (docs/data.md)",
    ),
    "image_format": Setting("png", "png (lossless) or jpeg (a fifth of the size, quality 95)", ("png", "jpeg")),
    "fps": Setting(
        0.0,
        "frame rate to which faster videos are resampled, so that a scale means the same time in all of them; 0 = "
        "keep each file's own",
        least=0,
        most=10_000,
    ),
    "detector": Setting("auto", "auto = yunet when yunet_model is set, else haar", ("auto", "haar", "yunet")),
    "yunet_model": Setting("", "ONNX file of the YuNet face detector; '' = none", path=True),
    "sface_model": Setting(
        "",
        "ONNX file of the SFace model, which tells whether two faces are one person; '' = by their looks in the clip alone",
        path=True,
    ),
    "min_confidence": Setting(0.7, "with OpenFace: frames of a lower confidence are left out", least=0, most=1),
    "detect_every": Setting(5, "frames between detections; between them the face is tracked", least=1),
    "crop_scale": Setting(2.5, "side of the crop in units of the distance between the eyes", least=1),
    "smoothing_seconds": Setting(
        0.2, "how much the face alignment is smoothed over time: standard deviation of the kernel, seconds", least=0
    ),
    "min_face_pixels": Setting(40, "width of the smallest face that is used, in pixels of the video", least=0),
    "max_enlargement": Setting(
        2.0,
        "a frame is flagged as tiny (column of quality.parquet) if its face must be enlarged more than this to fill the crop",
        least=0,
    ),
    "min_sharpness": Setting(
        10.0,
        "a frame is flagged as blurred if the variance of the crop's Laplacian (grey values squared) is below this",
        least=0,
    ),
    "min_brightness": Setting(
        20.0, "a frame is flagged as dark if the mean grey value of the crop (0 to 255) is below this", least=0, most=255
    ),
    "max_turn": Setting(
        1.0,
        "a frame is flagged as turned if the nose is further than this from the middle of the eyes, in half their "
        "distance; 1 = 45 degrees (only with YuNet)",
        least=0,
    ),
    "main_person": one_of(
        ("auto", "left", "right"), "which person is used if several are visible; left and right are halves of the picture"
    ),
    "max_frames_per_record": Setting(
        32, "frames per record of the dataset; a window reads only the records that it lies in", least=1
    ),
    "shard_mb": Setting(
        256.0, "approximate size of the dataset's files, MiB; smaller for small datasets", least=0.01, effect=False
    ),
    "split_fractions": Setting(
        (0.7, 0.15, 0.15),
        "shares of the people in train, validation and test, where the manifest has no split",
        of=float,
        length=3,
        least=0,
        most=1,
    ),
    "workers": Setting(
        0,
        "processes that decode clips; 0 = one per core (with fewer clips than cores, more threads each)",
        least=0,
        effect=False,
    ),
    "beam_options": Setting(
        "",
        "flags of Apache Beam (pip install 'facedyn[beam]'), which then does the work of prepare; '' = no Beam",
        effect=False,
    ),
}
SYNTHETIC = {
    "world": one_of(WORLDS, "which kind of synthetic faces and movements: the two are as different as possible"),
    "people": Setting(96, "people in the test split, who are scored", least=0),
    "pretrain_people": Setting(48, "further people, in the train and validation splits, without labels", least=0),
    "tasks": Setting(("talk", "watch"), "tasks of each person", of=str, some=True, distinct=True, pattern=r"[A-Za-z0-9_]+"),
    "clips_per_task": Setting(2, "clips of each person and task", least=1),
    "frames": Setting((120, 180), "length of the shortest and the longest clip, frames", of=int, length=2, least=1),
    "size": Setting(32, "side of the rendered face, pixels", least=16, most=2048),
    "trait_noise": Setting(0.3, "standard deviation of the noise added to the standardised traits", least=0),
    "same_appearance": Setting(
        False, "everyone gets the same looks but keeps the own movement, so that people differ only in movement"
    ),
}


def faults(data):
    """Yields a sentence for each rule that settings of DATA break together, each by itself being as it should."""
    if data.channels not in CHANNELS[data.appearance]:
        yield wrong_channels(data.appearance, data.channels)
    if abs(sum(data.split_fractions) - 1) > 1e-6:
        yield (
            f"config.data.split_fractions is {tuple(data.split_fractions)}; it must be three shares that add up to 1, for "
            "example 0.7,0.15,0.15."
        )
    if data.detector == "yunet" and not data.yunet_model:
        yield "config.data.detector is 'yunet', but config.data.yunet_model names no ONNX file: name it, or use haar."


def synthetic_faults(synthetic):
    """The same of SYNTHETIC."""
    shortest, longest = synthetic.frames
    if shortest > longest:
        yield f"config.data.synthetic.frames is {tuple(synthetic.frames)}; it must be shortest,longest, for example 120,180."
    if synthetic.size % 2:
        yield f"config.data.synthetic.size is {synthetic.size}; it must be an even number, for example 32."
    if not synthetic.people + synthetic.pretrain_people:
        yield "config.data.synthetic.people and config.data.synthetic.pretrain_people are both 0; one of them must be above 0."


def refuse(given, table: dict[str, Setting], section: str, together) -> None:
    """Raises InputError for the first value of an object `given` that a table of settings or the rules `together` refuse."""
    for name, setting in table.items():
        if hasattr(given, name) and (fault := setting.fault(getattr(given, name))):
            raise InputError(f"config.{section}.{name} {fault}.")
    for fault in together(given):
        raise InputError(fault)
