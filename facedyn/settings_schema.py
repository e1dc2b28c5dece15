"""Every setting there is: default, type, range, choices and one line of help, in one table.

`facedyn.config.default_config()`, the checks, `facedyn STAGE --help` and docs/settings.md are all made from SETTINGS. What two
settings must be together is in `settings_rules`. Imports nothing heavy, so that help and refusals come at once; that the names
here are those that the code knows is tested.
"""

from facedyn.setting import Setting

SOURCES = ("chalearn_first_impressions", "deep_personality", "udiva", "openface", "voxceleb", "folder")
WORLDS = ("drawn", "warped")
BLOCKS = ("filters", "innovations", "step_correlations", "autocorrelations", "amplitude")
BLOCKS += ("whitened_covariances", "spectrum")
HEADS = ("banded_ridge", "ridge", "mlp")
DTYPES = ("float32", "bfloat16")
ON_PIXELS = ("mean_face", "rank_pooling", "dynamic_images", "linear_dynamics", "generic_feature", "optical_flow")
ON_LANDMARKS = ("landmark_dynamics", "action_unit_dynamics")
BASELINES = ("mean_predictor", "same_identity", *ON_PIXELS, *ON_LANDMARKS, "permuted_labels", "oracle")
WORD, NAME = r"[a-z]\w*", r"\S.*"


def _splits(default: tuple, help: str, some=False) -> Setting:
    return Setting(default, help, of=str, some=some, distinct=True, pattern=WORD, form="as the column split has them")


SECTIONS = {
    "": "all stages",
    "data": "what is prepared, and how",
    "data.synthetic": "used when data.dataset=synthetic",
    "model": "the U-net",
    "rank_loss": "the self-supervision",
    "pretrain": "the generic model",
    "fit": "person filters: the representation",
    "traits": "trait prediction from the representation",
    "report": "the page",
    "distributed": "several processes on one workdir; docs/processes.md",
}

SETTINGS = {
    "seed": Setting(0, "seed of all random numbers", least=0),
    "tensorboard": Setting(False, "also write TensorBoard event files (pip install 'facedyn[tensorboard]')"),
    "compilation_cache": Setting(
        "auto", "folder of compiled code, reused at later starts; 'auto' = ~/.cache/facedyn, '' = none", path=True, effect=False
    ),
    # ---- data
    "data.dataset": Setting(
        "manifest",
        "where the clips come from: a manifest, synthetic faces, or a known data set (docs/data.md)",
        ("manifest", "synthetic", *SOURCES),
    ),
    "data.manifest": Setting(
        "", "CSV with the columns clip_id,person_id,path[,session,task,split,fps,aligned, one column per trait]", path=True
    ),
    "data.pretrain_manifest": Setting(
        "", "optional second manifest, without labels: people for the generic model to learn from", path=True
    ),
    "data.source": Setting("", "folder of your own copy of a known data set", path=True),
    "data.split_protocol": Setting(
        "official",
        "official = the data set's own split; person_disjoint = people are assigned to splits by split_fractions",
        ("official", "person_disjoint"),
    ),
    "data.source_fps": Setting(
        0.0, "frame rate of a known data set's frames; 0 = as the files say, or 25 where they do not", least=0, most=10_000
    ),
    "data.person_pattern": Setting(
        "",
        r"regular expression for who a file of a known data set shows: r'(?P<person>\w+)_(?P<session>\d+)'; '' = "
        r"its folder's name",
    ),
    "data.data_dir": Setting("", "folder of the TFDS dataset; '' = WORKDIR/data", path=True),
    "data.landmarks": Setting(
        "",
        "folder of landmarks or action units, CLIP_ID.npz or CLIP_ID.csv, for the baselines that use them; '' = "
        "OpenFace's CSV where the data has it",
        path=True,
    ),
    "data.traits": Setting((), "names of the manifest's trait columns", of=str, distinct=True, pattern=NAME),
    "data.image_size": Setting(112, "side of the square face crop, pixels", least=8, most=2048),
    "data.channels": Setting(3, "3 = RGB, 1 = grey, 2 = x and y with data.appearance=motion", (3, 1, 2)),
    "data.appearance": Setting(
        "own",
        "own = the face as filmed; canonical = the clip's motion on one face that all people share; motion = only "
        "the motion, x and y (docs/data.md)",
        ("own", "canonical", "motion"),
    ),
    "data.image_format": Setting("png", "png (lossless) or jpeg (a fifth of the size, quality 95)", ("png", "jpeg")),
    "data.fps": Setting(
        0.0,
        "frame rate to which faster videos are resampled, so that a scale means the same time in all of them; 0 = "
        "keep each file's own",
        least=0,
        most=10_000,
    ),
    "data.detector": Setting("auto", "auto = yunet when yunet_model is set, else haar", ("auto", "haar", "yunet")),
    "data.yunet_model": Setting("", "ONNX file of the YuNet face detector; '' = none", path=True),
    "data.sface_model": Setting(
        "",
        "ONNX file of the SFace model, which tells whether two faces are one person; '' = by their looks in the clip alone",
        path=True,
    ),
    "data.min_confidence": Setting(0.7, "with OpenFace: frames of a lower confidence are left out", least=0, most=1),
    "data.detect_every": Setting(5, "frames between detections; between them the face is tracked", least=1),
    "data.crop_scale": Setting(2.5, "side of the crop in units of the distance between the eyes", least=1),
    "data.smoothing_seconds": Setting(
        0.2, "how much the face alignment is smoothed over time: standard deviation of the kernel, seconds", least=0
    ),
    "data.min_face_pixels": Setting(40, "width of the smallest face that is used, in pixels of the video", least=0),
    "data.max_enlargement": Setting(
        2.0,
        "a frame is flagged as tiny (column of quality.parquet) if its face must be enlarged more than this to fill the crop",
        least=0,
    ),
    "data.min_sharpness": Setting(
        10.0,
        "a frame is flagged as blurred if the variance of the crop's Laplacian (grey values squared) is below this",
        least=0,
    ),
    "data.min_brightness": Setting(
        20.0, "a frame is flagged as dark if the mean grey value of the crop (0 to 255) is below this", least=0, most=255
    ),
    "data.max_turn": Setting(
        1.0,
        "a frame is flagged as turned if the nose is further than this from the middle of the eyes, in half their "
        "distance; 1 = 45 degrees (only with YuNet)",
        least=0,
    ),
    "data.main_person": Setting(
        "auto",
        "which person is used if several are visible; left and right are halves of the picture",
        ("auto", "left", "right"),
    ),
    "data.max_frames_per_record": Setting(
        32, "frames per record of the dataset; a window reads only the records that it lies in", least=1
    ),
    "data.shard_mb": Setting(
        256.0, "approximate size of the dataset's files, MiB; smaller for small datasets", least=0.01, effect=False
    ),
    "data.split_fractions": Setting(
        (0.7, 0.15, 0.15),
        "shares of the people in train, validation and test, where the manifest has no split",
        of=float,
        length=3,
        least=0,
        most=1,
    ),
    "data.workers": Setting(
        0,
        "processes that decode clips; 0 = one per core (with fewer clips than cores, more threads each)",
        least=0,
        effect=False,
    ),
    "data.beam_options": Setting(
        "",
        "flags of Apache Beam (pip install 'facedyn[beam]'), which then does the work of prepare; '' = no Beam",
        effect=False,
    ),
    # ---- data.synthetic
    "data.synthetic.world": Setting(
        "drawn", "which kind of synthetic faces and movements: the two are as different as possible", WORLDS
    ),
    "data.synthetic.people": Setting(96, "people in the test split, who are scored", least=0),
    "data.synthetic.pretrain_people": Setting(
        48, "further people, in the train and validation splits, without labels", least=0
    ),
    "data.synthetic.tasks": Setting(
        ("talk", "watch"), "tasks of each person", of=str, some=True, distinct=True, pattern=r"[A-Za-z0-9_]+"
    ),
    "data.synthetic.clips_per_task": Setting(2, "clips of each person and task", least=1),
    "data.synthetic.frames": Setting(
        (120, 180), "length of the shortest and the longest clip, frames", of=int, length=2, least=1
    ),
    "data.synthetic.size": Setting(32, "side of the rendered face, pixels", least=16, most=2048),
    "data.synthetic.trait_noise": Setting(0.3, "standard deviation of the noise added to the standardised traits", least=0),
    "data.synthetic.same_appearance": Setting(
        False, "everyone gets the same looks but keeps the own movement, so that people differ only in movement"
    ),
    # ---- model
    "model.channels": Setting(
        (32, 64, 128, 256), "channels of each level; the last level is the bottleneck", of=int, some=True, least=1, most=65_536
    ),
    "model.groups": Setting(8, "groups of GroupNorm; must divide every number of channels", least=1),
    "model.dtype": Setting("float32", "type of the activations", DTYPES),
    # ---- rank_loss
    "rank_loss.scales": Setting(
        (1, 2, 4), "frame strides; each has its own generic model and filters", of=int, some=True, distinct=True, least=1
    ),
    "rank_loss.half_length": Setting(4, "frames before and after the centre frame (n)", least=2),
    "rank_loss.direction": Setting(
        "two_maps",
        "two_maps = one map for each half of the window; centred = one map for the whole window",
        ("two_maps", "centred"),
    ),
    "rank_loss.kind": Setting("hinge", "loss of a pair of frames in the wrong order", ("hinge", "logistic", "listmle")),
    "rank_loss.margin": Setting(1.0, "margin of the hinge loss", above=0),
    "rank_loss.l2": Setting(1e-4, "weight of mean(D^2) in the loss; D is the dynamic representation", least=0),
    "rank_loss.frame_features": Setting(
        "centred",
        "centred = frames minus the mean of their half window; running_mean = VideoDarwin's running means",
        ("centred", "running_mean"),
    ),
    "rank_loss.normalise": Setting(True, "scale frame features to unit length; False keeps their amplitude"),
    # ---- pretrain
    "pretrain.splits": _splits(("train",), "whose people the generic model learns from", some=True),
    "pretrain.init_from": Setting("", "generic model to start from: WORKDIR/generic, or a file of `facedyn export`", path=True),
    "pretrain.batch_size": Setting(128, "windows per step, on all devices together", least=1),
    "pretrain.steps": Setting(20_000, "optimiser steps; 0 = use the model of init_from unchanged", least=0),
    "pretrain.learning_rate": Setting(1e-3, "highest learning rate of Adam", above=0),
    "pretrain.warmup_steps": Setting(200, "steps until the highest learning rate is reached", least=0),
    "pretrain.eval_every": Setting(500, "steps between evaluations; each evaluation also saves a checkpoint", least=1),
    "pretrain.eval_windows": Setting(64, "windows per person of the validation split in each evaluation", least=1),
    "pretrain.patience": Setting(6, "evaluations without a better ranking accuracy before training stops", least=1),
    "pretrain.steps_per_call": Setting(
        0, "optimiser steps in one compiled call; 0 = 1 on CPU, 10 on GPU and TPU", least=0, effect=False
    ),
    "pretrain.loader_threads": Setting(
        8, "threads that decode windows; 0 = no threads of their own", least=0, most=1024, effect=False
    ),
    # ---- fit
    "fit.splits": _splits((), "whose people get filters; empty = everyone"),
    "fit.unit": Setting(
        "person", "what one set of filters is fitted to (a fit unit)", ("person", "person_task", "session", "clip")
    ),
    "fit.filter_kind": Setting(
        "low_rank",
        "low_rank for the solver least_squares; for other solvers pointwise (1x1), depthwise (3x3) or full (3x3)",
        ("low_rank", "pointwise", "depthwise", "full"),
    ),
    "fit.rank": Setting(
        16, "number of coordinates that a site's feature map is described in, with low_rank filters", least=1, most=4096
    ),
    "fit.basis": Setting(
        "principal",
        "what these coordinates are: principal = principal components; predictable = directions that are best "
        "predicted over time; independent = independent components",
        ("principal", "predictable", "independent"),
    ),
    "fit.blocks": Setting(
        tuple(name for name in BLOCKS if name != "amplitude"),
        "parts of the representation, filters first; the others need the solver least_squares (docs/method.md "
        "says what each holds)",
        BLOCKS,
        of=str,
        some=True,
        distinct=True,
    ),
    "fit.whiten": Setting(
        True,
        "whiten states by each unit's own covariance, which removes the size of movements, as it depends on looks "
        "(with low_rank)",
    ),
    "fit.filter_sites": Setting(
        "all",
        "connections = every skip and the bottleneck; all = also the decoder's blocks; or names of sites, of which "
        "dynamic_representation is the U-net's result; several with commas",
    ),
    "fit.solver": Setting(
        "least_squares",
        "least_squares = closed form; adam = gradient descent; gauss_newton, gradient = one pass over a unit's frames",
        ("least_squares", "adam", "gauss_newton", "gradient"),
    ),
    "fit.steps": Setting(100, "steps of Adam", least=1),
    "fit.batch_size": Setting(16, "centre frames per step", least=1),
    "fit.learning_rate": Setting(1e-2, "learning rate of adam and gradient", above=0),
    "fit.ridge": Setting(
        0.0,
        "penalty of least_squares and gauss_newton, counted in frames; 0 = chosen on the generic model's people "
        "(least_squares only)",
        least=0,
    ),
    "fit.max_frames": Setting(512, "centre frames of a unit that are used at most, evenly spaced over its clips", least=1),
    "fit.held_back": Setting(
        0.2, "share at each clip's end that is held back from the fit, for the quality columns", least=0, below=1
    ),
    "fit.min_frames": Setting(16, "a unit with fewer usable centre frames gets no filters; a message says so", least=1),
    "fit.feature_dtype": Setting("float32", "type of the stored encoder features", DTYPES),
    "fit.chunk_size": Setting(0, "units fitted at once; 0 = chosen from the available memory", least=0, effect=False),
    "fit.memory_gb": Setting(
        0.0, "memory of each device for one chunk, GB; 0 = what the device has (4 on CPU)", least=0, effect=False
    ),
    "fit.steps_per_call": Setting(0, "as pretrain.steps_per_call", least=0, effect=False),
    "fit.controls": Setting(
        (),
        "further fits for comparison: frames in random order, somebody else's movement over time, an untrained generic "
        "model, each clip played backwards",
        ("time_shuffled", "swapped_dynamics", "untrained", "reversed"),
        of=str,
        distinct=True,
    ),
    "fit.split_half": Setting(True, "also fit each half of a unit's frames, to measure identification"),
    "fit.video_seconds": Setting(
        (1.0,),
        "also fit only the first so many seconds of a unit's video: how much does identification gain with its length?",
        of=float,
        above=0,
        distinct=True,
    ),
    # ---- traits
    "traits.splits": _splits((), "whose people are scored by cross-validation; empty = everyone with labels"),
    "traits.heads": Setting(
        HEADS,
        "models that predict the traits; the headline is that of the banded ridge",
        HEADS,
        of=str,
        some=True,
        distinct=True,
    ),
    "traits.protocol": Setting(
        "k_fold",
        "leave_one_out = one person per fold; official = train on train and validation, score test",
        ("k_fold", "leave_one_out", "official"),
    ),
    "traits.aggregate": Setting(
        "person",
        "several units of a person: person = use their mean; clip = predict each, then average; none = score each one",
        ("person", "clip", "none"),
    ),
    "traits.folds": Setting(10, "number of folds of k_fold, disjoint by person", least=2),
    "traits.seeds": Setting(
        (0,),
        "one repeat of the folds per seed; figures are means over the repeats",
        of=int,
        some=True,
        distinct=True,
        least=0,
    ),
    "traits.inner_folds": Setting(5, "folds inside a training fold, by which hyper-parameters are chosen", least=2),
    "traits.penalties": Setting(
        (1e0, 1e1, 1e2, 1e3, 1e4, 1e5), "candidates for the ridge penalty", of=float, some=True, above=0
    ),
    "traits.ridge_solver": Setting(
        "lbfgs", "closed_form finds the same minimum as lbfgs without iterating", ("lbfgs", "closed_form")
    ),
    "traits.pca": Setting(
        (0,),
        "candidates for the number of principal components, fitted inside the fold; 0 = all",
        of=int,
        some=True,
        least=0,
    ),
    "traits.mlp_hidden": Setting(64, "units of the MLP's hidden layer", least=1),
    "traits.mlp_steps": Setting(100, "training steps of the MLP", least=1),
    "traits.mlp_learning_rate": Setting(3e-3, "learning rate of the MLP", above=0),
    "traits.mlp_weight_decay": Setting(
        (1e-1, 1e0), "candidates for the MLP's weight decay, chosen inside the fold", of=float, some=True, above=0
    ),
    "traits.mlp_seeds": Setting(3, "MLPs from different starts, whose predictions are averaged", least=1),
    "traits.bootstrap": Setting(2000, "bootstrap samples of the people, for the intervals", least=1),
    "traits.baselines": Setting(
        BASELINES,
        "what the representation is compared with, on the same folds; oracle only with synthetic faces",
        BASELINES,
        of=str,
        distinct=True,
    ),
    "traits.fused_baselines": Setting(
        ("linear_dynamics",),
        "baselines that are also scored together with the representation",
        ON_PIXELS,
        of=str,
        distinct=True,
    ),
    "traits.baseline_frames": Setting(
        2000, "frames of a person that the baselines on pixels use, evenly spaced over the clips", least=1
    ),
    "traits.permutations": Setting(20, "random permutations of the labels", least=1),
    # ---- report
    "report.title": Setting("Facial dynamics", "title of the page"),
    "report.faces": Setting(True, "False leaves out every picture of a person"),
    "report.names": Setting(False, "True writes each person's id beside the point on the map of people"),
    "report.examples": Setting(4, "people whose dynamic representations are drawn", least=0),
    # ---- distributed
    "distributed.coordinator": Setting(
        "", "HOST:PORT where process 0 listens; auto = SLURM or the TPU says it; '' = one process", effect=False
    ),
    "distributed.processes": Setting(0, "number of processes, with HOST:PORT", least=0, effect=False),
    "distributed.process": Setting(-1, "number of this process, from 0", least=-1, effect=False),
}
