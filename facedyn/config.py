"""Every setting there is, with its default, in one place.

A file in `configs/` starts from `default_config()` and changes values; it cannot add a key, so a misspelt name is an
error and never a setting that is silently ignored. `check` says so in one sentence with the nearest valid name.
"""

import difflib
import hashlib
import json

from ml_collections import ConfigDict

from data_pipelines.errors import InputError


def default_config() -> ConfigDict:
    """The reference settings: 112x112 RGB faces, U-net of 32/64/128/256 channels, scales 1, 2 and 4."""
    config = ConfigDict()
    config.seed = 0
    config.tensorboard = False  # also write event files (the extra `tensorboard`)
    config.compilation_cache = "auto"  # folder of what was compiled, for later starts; 'auto' = ~/.cache/facedyn, '' = none

    config.data = data = ConfigDict()
    data.dataset = "manifest"  # 'manifest', 'synthetic', or a source by its name in docs/data.md
    data.manifest = ""  # CSV: clip_id,person_id,path[,session,task,split,fps,aligned, one column a trait]
    data.pretrain_manifest = ""  # optional second, unlabelled pool for the generic model
    data.source = ""  # folder of a known dataset's own local copy
    data.split_protocol = "official"  # of a source: its own split, or 'person_disjoint' = dealt out by split_fractions
    data.source_fps = 0.0  # of a source's frames; 0 = as the files say, or 25 where they do not
    data.person_pattern = ""  # who a file of a source shows: r'(?P<person>\w+)_(?P<session>\d+)'; '' = its folder's name
    data.data_dir = ""  # where the TFDS dataset lies; '' = WORKDIR/data
    data.traits = ()  # names of the manifest's trait columns
    data.image_size = 112  # side of the square face crop, pixels
    data.channels = 3  # 3 = RGB, 1 = grey
    data.image_format = "png"  # 'png' (lossless) or 'jpeg' (a fifth of the size, quality 95)
    data.fps = 0.0  # faster videos are resampled to it by their times; 0 = keep each file's own; a scale is a number of frames
    data.detector = "auto"  # 'haar', 'yunet', or 'auto' = yunet when yunet_model is set
    data.yunet_model = ""  # path of the YuNet ONNX file
    data.sface_model = ""  # path of the SFace ONNX file, which tells people apart; '' = by their looks in the clip alone
    data.min_confidence = 0.7  # of OpenFace's frames; a less certain one is left out
    data.detect_every = 5  # frames between detections; between them the face is tracked
    data.crop_scale = 2.5  # side of the crop in units of the distance between the eyes
    data.smoothing_seconds = 0.2  # of the alignment's parameters over time (standard deviation of the kernel)
    data.min_face_pixels = 40  # smaller faces are left out, width of the detected box in the video's pixels
    data.max_enlargement = 2.0  # of the face to fill the crop; above it a frame is flagged as tiny (columns of quality.parquet)
    data.min_sharpness = 10.0  # variance of the crop's Laplacian, grey values squared; below it a frame is flagged as blurred
    data.min_brightness = 20.0  # mean grey value of the crop, of 255; below it a frame is flagged as dark
    data.max_turn = 1.0  # nose off the eyes' middle, in half their distance (YuNet); above it, 45 degrees, flagged as turned
    data.main_person = "auto"  # of several visible people: 'auto', 'left' or 'right'
    data.max_frames_per_record = 32  # a clip is stored in records of so many; a window reads the few that it lies in
    data.shard_mb = 256.0  # of the dataset's files, about; of small datasets they are smaller
    data.split_fractions = (0.7, 0.15, 0.15)  # train, validation, test; by person, where the manifest has no split
    data.workers = 0  # processes that decode clips; 0 = one a core, and where there are fewer clips, more threads each
    data.beam_options = ""  # flags of Apache Beam (the extra `beam`), which then does the work of prepare; '' = no Beam

    data.synthetic = synthetic = ConfigDict()  # used when dataset = 'synthetic'
    synthetic.people = 96  # people in the test split, the ones who are scored
    synthetic.pretrain_people = 48  # further people, in the train and validation splits, without labels
    synthetic.tasks = ("talk", "watch")
    synthetic.clips_per_task = 2
    synthetic.frames = (120, 180)  # shortest and longest clip
    synthetic.size = 32  # side of the rendered face, pixels
    synthetic.trait_noise = 0.3  # standard deviation of the noise added to the standardised traits
    synthetic.same_appearance = False  # everyone looks alike and moves as before: what tells people apart is movement

    config.model = model = ConfigDict()
    model.channels = (32, 64, 128, 256)  # a level each; the last is the bottleneck
    model.groups = 8  # of GroupNorm
    model.dtype = "float32"  # of the activations: 'float32' or 'bfloat16'

    config.rank_loss = rank_loss = ConfigDict()
    rank_loss.scales = (1, 2, 4)  # frame strides, one generic model and one filter set each
    rank_loss.half_length = 4  # n: frames before and after the centre frame
    rank_loss.direction = "two_maps"  # or 'centred': one map over the whole window
    rank_loss.kind = "hinge"  # or 'logistic', 'listmle'
    rank_loss.margin = 1.0
    rank_loss.l2 = 1e-4  # weight of mean(D^2)
    rank_loss.frame_features = "centred"  # or 'running_mean' (VideoDarwin)
    rank_loss.normalise = True  # v_k to unit length; False keeps the amplitude

    config.pretrain = pretrain = ConfigDict()
    pretrain.splits = ("train",)  # whose people the generic model learns from
    pretrain.init_from = ""  # generic model to start from: WORKDIR/generic, or a file of `facedyn export`
    pretrain.batch_size = 128
    pretrain.steps = 20_000  # 0 = take the model of init_from as it is
    pretrain.learning_rate = 1e-3
    pretrain.warmup_steps = 200
    pretrain.eval_every = 500  # steps; each evaluation is also a checkpoint
    pretrain.eval_windows = 64  # a person, from the validation split
    pretrain.patience = 6  # evaluations without a better ranking accuracy before stopping
    pretrain.steps_per_call = 0  # optimiser steps in one compiled call; 0 = 1 on CPU, 10 on GPU and TPU
    pretrain.loader_threads = 8

    config.fit = fit = ConfigDict()
    fit.splits = ()  # whose people get filters; () = everyone
    fit.unit = "person"  # what one filter set is fitted to: 'person', 'person_task', 'session' or 'clip'
    fit.filter_kind = "pointwise"  # 'pointwise' (1x1), 'depthwise' (3x3), 'full' (3x3); 'low_rank' with 'least_squares'
    fit.rank = 8  # of 'low_rank' filters: patterns of a site's feature map that they connect
    fit.innovations = False  # with 'low_rank': also the moments of what a person's filters do not foresee
    fit.co_movement = False  # with 'low_rank': also the correlations of what moves at the same moment
    fit.filter_sites = "connections"  # every skip and the bottleneck; 'all' adds the decoder's blocks
    fit.solver = "adam"  # 'adam'; one pass over a unit's frames: 'least_squares', 'gauss_newton', 'gradient'
    fit.steps = 100  # of Adam
    fit.batch_size = 16  # centre frames a step
    fit.learning_rate = 1e-2  # of Adam and of the gradient
    fit.damping = 20.0  # of Gauss-Newton and least squares, in frames; 0 = chosen on the generic model's people (least squares)
    fit.max_frames = 512  # centre frames of a unit that the fit draws from, evenly spaced over its clips
    fit.held_back = 0.2  # share of each clip's end kept out of the fit, for the quality columns
    fit.min_frames = 16  # a unit with fewer usable centre frames gets no filters, and a line that says so
    fit.feature_dtype = "float32"  # of the kept encoder features: 'float32' or 'bfloat16'
    fit.chunk_size = 0  # units fitted at once; 0 = chosen from the memory at hand
    fit.memory_gb = 0.0  # of each device, for one chunk; 0 = what the device has (4 on CPU)
    fit.steps_per_call = 0  # as in pretrain
    fit.controls = ()  # further fits for comparison: 'time_shuffled' frames, the 'untrained' generic model
    fit.split_half = True  # also fit each half of a unit's frames, for identification

    config.traits = traits = ConfigDict()
    traits.splits = ()  # whose people are scored by cross-validation; () = everyone with labels
    traits.heads = ("ridge", "mlp")
    traits.protocol = "k_fold"  # 'k_fold', 'leave_one_out' (person) or 'official': train and validation against test
    traits.aggregate = "person"  # of several units: their mean; each 'clip' predicted, then the mean; 'none': scored one by one
    traits.folds = 10  # of 'k_fold', disjoint by person
    traits.seeds = (0,)  # dealings of the folds; with several, figures are means over them
    traits.inner_folds = 5
    traits.penalties = (1e0, 1e1, 1e2, 1e3, 1e4, 1e5)  # candidates of the ridge penalty
    traits.ridge_solver = "lbfgs"  # or 'closed_form', the same minimum without iterating
    traits.pca = (0,)  # candidates of how many principal components are kept, fitted inside the fold; 0 = all
    traits.mlp_hidden = 64
    traits.mlp_steps = 100
    traits.mlp_learning_rate = 3e-3
    traits.mlp_weight_decay = (1e-1, 1e0)  # candidates, chosen inside the fold
    traits.mlp_seeds = 3  # networks from different starts, their predictions averaged
    traits.bootstrap = 2000  # resamplings of the people, for the intervals
    traits.baselines = (  # what the representation is compared with, by the same folds
        "mean_predictor",
        "same_identity",
        "mean_face",
        "rank_pooling",
        "dynamic_images",
        "linear_dynamics",
        "generic_feature",
        "optical_flow",
        "permuted_labels",
        "oracle",  # on synthetic faces only
    )
    traits.fused_baselines = ("linear_dynamics",)  # also scored together with the representation
    traits.baseline_frames = 2000  # of a person that the baselines on pixels look at, evenly over the clips
    traits.permutations = 20  # of the labels

    config.report = report = ConfigDict()
    report.title = "Facial dynamics"
    report.faces = True  # False leaves every picture of a person out of the page
    report.names = False  # True writes each person's id beside the point on the map of people
    report.examples = 4  # people whose dynamic representations are drawn

    config.distributed = distributed = ConfigDict()  # several processes on one workdir; docs/processes.md
    distributed.coordinator = ""  # where process 0 listens, 'HOST:PORT'; 'auto' = SLURM or a TPU knows; '' = one process
    distributed.processes = 0  # how many there are, with 'HOST:PORT'
    distributed.process = -1  # which of them this one is, from 0

    config.lock()
    return config


# These change how a result is come by, never what it is: no stamp compares them and no hash names them. A trailing dot
# stands for a whole section.
WITHOUT_EFFECT = (
    "compilation_cache",
    "data.workers",
    "data.beam_options",
    "data.shard_mb",
    "pretrain.loader_threads",
    "pretrain.steps_per_call",
    "fit.chunk_size",
    "fit.memory_gb",
    "fit.steps_per_call",
    "distributed.",
)


def effective(config) -> dict:
    """The settings that a result can depend on, flat: all but WITHOUT_EFFECT."""
    return {name: value for name, value in flatten(config).items() if not name.startswith(WITHOUT_EFFECT)}


def flatten(config, prefix="") -> dict:
    """{'data.image_size': 112, ...} from nested settings."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict | dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def from_flat(flat: dict) -> tuple[ConfigDict, list[str]]:
    """(config, names that are no settings of this version) from flat settings, as JSON gives them back."""
    config = default_config()
    known = flatten(config).keys()
    config.update_from_flattened_dict(
        {name: tuple(value) if isinstance(value, list) else value for name, value in flat.items() if name in known}
    )
    return config, sorted(flat.keys() - known)


def nearest(name: str, valid) -> str:
    """The valid key that `name` most likely stands for.

    >>> nearest("steps_per_cal", ["fit.steps", "fit.steps_per_call"])
    'fit.steps_per_call'
    """
    leaf = name.rsplit(".", 1)[-1]
    by_leaf = [v for v in valid if v.rsplit(".", 1)[-1] == leaf]
    return by_leaf[0] if by_leaf else difflib.get_close_matches(name, valid, 1, 0.0)[0]


def check(config: ConfigDict) -> ConfigDict:
    """Returns the config; raises InputError for a key that does not exist, lacks, or has another type than its default."""
    reference, given = flatten(default_config()), flatten(config)
    for name in given:
        if name not in reference:
            raise InputError(f"The config has no setting {name!r}; the nearest one is {nearest(name, reference)!r}.")
    for name, default in reference.items():
        if name not in given:
            raise InputError(f"The config lacks {name!r}; start it from facedyn.config.default_config().")
        value = given[name]
        ok = isinstance(value, (type(default), int) if isinstance(default, float) else type(default))
        if not ok or (isinstance(value, bool) != isinstance(default, bool)):
            raise InputError(f"config.{name} is {value!r}, but must be of type {type(default).__name__}, as in {default!r}.")
    return config


def config_hash(config, sections=None) -> str:
    """Twelve hexadecimal digits that name the settings with an effect; `sections` restricts it to some top-level keys."""
    flat = {k: v for k, v in effective(config).items() if sections is None or k.split(".")[0] in sections}
    return hashlib.sha256(json.dumps(flat, sort_keys=True, default=list).encode()).hexdigest()[:12]
