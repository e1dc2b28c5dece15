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
    "seed": Setting(0, "of everything that is drawn", least=0),
    "tensorboard": Setting(False, "also write event files (the extra `tensorboard`)"),
    "compilation_cache": Setting(
        "auto", "folder of what was compiled, for later starts; 'auto' = ~/.cache/facedyn, '' = none", path=True, effect=False
    ),
    # ---- data
    "data.dataset": Setting(
        "manifest", "a manifest, synthetic faces, or a source of docs/data.md", ("manifest", "synthetic", *SOURCES)
    ),
    "data.manifest": Setting("", "CSV: clip_id,person_id,path[,session,task,split,fps,aligned, one column a trait]", path=True),
    "data.pretrain_manifest": Setting("", "optional second, unlabelled pool for the generic model", path=True),
    "data.source": Setting("", "folder of a known dataset's own local copy", path=True),
    "data.split_protocol": Setting(
        "official", "of a source: its own split, or people dealt out by split_fractions", ("official", "person_disjoint")
    ),
    "data.source_fps": Setting(
        0.0, "of a source's frames; 0 = as the files say, or 25 where they do not", least=0, most=10_000
    ),
    "data.person_pattern": Setting(
        "", r"who a file of a source shows: r'(?P<person>\w+)_(?P<session>\d+)'; '' = its folder's name"
    ),
    "data.data_dir": Setting("", "where the TFDS dataset lies; '' = WORKDIR/data", path=True),
    "data.landmarks": Setting(
        "",
        "a folder of landmarks or action units, CLIP_ID.npz or CLIP_ID.csv, for the baselines that see no picture; "
        "'' = OpenFace's CSV where the data has it",
        path=True,
    ),
    "data.traits": Setting((), "names of the manifest's trait columns", of=str, distinct=True, pattern=NAME),
    "data.image_size": Setting(112, "side of the square face crop, pixels", least=8, most=2048),
    "data.channels": Setting(3, "3 = RGB, 1 = grey, 2 = those of appearance=motion", (3, 1, 2)),
    "data.appearance": Setting(
        "own",
        "own = the face as filmed; canonical = its motion carried over to one face that everybody shares; motion = the motion "
        "itself, x and y (docs/data.md)",
        ("own", "canonical", "motion"),
    ),
    "data.image_format": Setting("png", "png (lossless) or jpeg (a fifth of the size, quality 95)", ("png", "jpeg")),
    "data.fps": Setting(
        0.0,
        "faster videos are resampled to it by their times; 0 = keep each file's own; a scale is a number of frames",
        least=0,
        most=10_000,
    ),
    "data.detector": Setting("auto", "auto = yunet when yunet_model is set, else haar", ("auto", "haar", "yunet")),
    "data.yunet_model": Setting("", "path of the YuNet ONNX file", path=True),
    "data.sface_model": Setting(
        "", "path of the SFace ONNX file, which tells people apart; '' = by their looks in the clip alone", path=True
    ),
    "data.min_confidence": Setting(0.7, "of OpenFace's frames; a less certain one is left out", least=0, most=1),
    "data.detect_every": Setting(5, "frames between detections; between them the face is tracked", least=1),
    "data.crop_scale": Setting(2.5, "side of the crop in units of the distance between the eyes", least=1),
    "data.smoothing_seconds": Setting(
        0.2, "of the alignment's parameters over time (standard deviation of the kernel)", least=0
    ),
    "data.min_face_pixels": Setting(40, "smaller faces are left out, width of the detected box in the video's pixels", least=0),
    "data.max_enlargement": Setting(
        2.0, "of the face to fill the crop; above it a frame is flagged as tiny (columns of quality.parquet)", least=0
    ),
    "data.min_sharpness": Setting(
        10.0, "variance of the crop's Laplacian, grey values squared; below it a frame is flagged as blurred", least=0
    ),
    "data.min_brightness": Setting(
        20.0, "mean grey value of the crop, of 255; below it a frame is flagged as dark", least=0, most=255
    ),
    "data.max_turn": Setting(
        1.0, "nose off the eyes' middle, in half their distance (YuNet); above it, 45 degrees, flagged as turned", least=0
    ),
    "data.main_person": Setting("auto", "of several visible people", ("auto", "left", "right")),
    "data.max_frames_per_record": Setting(
        32, "a clip is stored in records of so many; a window reads the few that it lies in", least=1
    ),
    "data.shard_mb": Setting(
        256.0, "of the dataset's files, about; of small datasets they are smaller", least=0.01, effect=False
    ),
    "data.split_fractions": Setting(
        (0.7, 0.15, 0.15),
        "train, validation, test; by person, where the manifest has no split",
        of=float,
        length=3,
        least=0,
        most=1,
    ),
    "data.workers": Setting(
        0,
        "processes that decode clips; 0 = one a core, and where there are fewer clips, more threads each",
        least=0,
        effect=False,
    ),
    "data.beam_options": Setting(
        "", "flags of Apache Beam (the extra `beam`), which then does the work of prepare; '' = no Beam", effect=False
    ),
    # ---- data.synthetic
    "data.synthetic.world": Setting("drawn", "who moves and how it is pictured: two benches as unlike as can be", WORLDS),
    "data.synthetic.people": Setting(96, "people in the test split, the ones who are scored", least=0),
    "data.synthetic.pretrain_people": Setting(
        48, "further people, in the train and validation splits, without labels", least=0
    ),
    "data.synthetic.tasks": Setting(
        ("talk", "watch"), "tasks of each person", of=str, some=True, distinct=True, pattern=r"[A-Za-z0-9_]+"
    ),
    "data.synthetic.clips_per_task": Setting(2, "clips of each person and task", least=1),
    "data.synthetic.frames": Setting((120, 180), "shortest and longest clip", of=int, length=2, least=1),
    "data.synthetic.size": Setting(32, "side of the rendered face, pixels", least=16, most=2048),
    "data.synthetic.trait_noise": Setting(0.3, "standard deviation of the noise added to the standardised traits", least=0),
    "data.synthetic.same_appearance": Setting(
        False, "everyone has the same looks and moves as before: only movement tells people apart"
    ),
    # ---- model
    "model.channels": Setting(
        (32, 64, 128, 256), "a level each; the last is the bottleneck", of=int, some=True, least=1, most=65_536
    ),
    "model.groups": Setting(8, "of GroupNorm; must divide every number of channels", least=1),
    "model.dtype": Setting("float32", "of the activations", DTYPES),
    # ---- rank_loss
    "rank_loss.scales": Setting(
        (1, 2, 4), "frame strides, one generic model and one filter set each", of=int, some=True, distinct=True, least=1
    ),
    "rank_loss.half_length": Setting(4, "n: frames before and after the centre frame", least=2),
    "rank_loss.direction": Setting(
        "two_maps", "one map for each half window, or one over the whole of it", ("two_maps", "centred")
    ),
    "rank_loss.kind": Setting("hinge", "how pairs in the wrong order count", ("hinge", "logistic", "listmle")),
    "rank_loss.margin": Setting(1.0, "of the hinge", above=0),
    "rank_loss.l2": Setting(1e-4, "weight of mean(D^2)", least=0),
    "rank_loss.frame_features": Setting(
        "centred", "frames less the half window's mean, or VideoDarwin's running means", ("centred", "running_mean")
    ),
    "rank_loss.normalise": Setting(True, "v_k to unit length; False keeps the amplitude"),
    # ---- pretrain
    "pretrain.splits": _splits(("train",), "whose people the generic model learns from", some=True),
    "pretrain.init_from": Setting("", "generic model to start from: WORKDIR/generic, or a file of `facedyn export`", path=True),
    "pretrain.batch_size": Setting(128, "windows a step, of all devices together", least=1),
    "pretrain.steps": Setting(20_000, "0 = take the model of init_from as it is", least=0),
    "pretrain.learning_rate": Setting(1e-3, "of Adam, the highest", above=0),
    "pretrain.warmup_steps": Setting(200, "until the learning rate is reached", least=0),
    "pretrain.eval_every": Setting(500, "steps; each evaluation is also a checkpoint", least=1),
    "pretrain.eval_windows": Setting(64, "a person, from the validation split", least=1),
    "pretrain.patience": Setting(6, "evaluations without a better ranking accuracy before stopping", least=1),
    "pretrain.steps_per_call": Setting(
        0, "optimiser steps in one compiled call; 0 = 1 on CPU, 10 on GPU and TPU", least=0, effect=False
    ),
    "pretrain.loader_threads": Setting(8, "that decode windows; 0 = none of their own", least=0, most=1024, effect=False),
    # ---- fit
    "fit.splits": _splits((), "whose people get filters; () = everyone"),
    "fit.unit": Setting("person", "what one filter set is fitted to", ("person", "person_task", "session", "clip")),
    "fit.filter_kind": Setting(
        "low_rank",
        "low_rank with least_squares; with other solvers pointwise (1x1), depthwise (3x3) or full (3x3)",
        ("low_rank", "pointwise", "depthwise", "full"),
    ),
    "fit.rank": Setting(16, "principal components of a site's feature map that low_rank filters connect", least=1, most=4096),
    "fit.blocks": Setting(
        tuple(name for name in BLOCKS if name != "amplitude"),
        "of the representation in closed form (least_squares), filters first; docs/method.md says what each holds",
        BLOCKS,
        of=str,
        some=True,
        distinct=True,
    ),
    "fit.whiten": Setting(
        True,
        "with low_rank: whiten states by each unit's own covariance, so that the size of movements, which is looks, is out",
    ),
    "fit.filter_sites": Setting(
        "all", "connections = every skip and the bottleneck; all adds the decoder's blocks; or names of sites"
    ),
    "fit.solver": Setting(
        "least_squares",
        "least_squares (closed form), adam; one pass over a unit's frames: gauss_newton, gradient",
        ("least_squares", "adam", "gauss_newton", "gradient"),
    ),
    "fit.steps": Setting(100, "of Adam", least=1),
    "fit.batch_size": Setting(16, "centre frames a step", least=1),
    "fit.learning_rate": Setting(1e-2, "of Adam and of the gradient", above=0),
    "fit.ridge": Setting(
        0.0,
        "of Gauss-Newton and least squares, in frames; 0 = chosen on the generic model's people (least squares)",
        least=0,
    ),
    "fit.max_frames": Setting(512, "centre frames of a unit that the fit draws from, evenly spaced over its clips", least=1),
    "fit.held_back": Setting(0.2, "share of each clip's end kept out of the fit, for the quality columns", least=0, below=1),
    "fit.min_frames": Setting(16, "a unit with fewer usable centre frames gets no filters, and a line that says so", least=1),
    "fit.feature_dtype": Setting("float32", "of the kept encoder features", DTYPES),
    "fit.chunk_size": Setting(0, "units fitted at once; 0 = chosen from the memory at hand", least=0, effect=False),
    "fit.memory_gb": Setting(0.0, "of each device, for one chunk; 0 = what the device has (4 on CPU)", least=0, effect=False),
    "fit.steps_per_call": Setting(0, "as in pretrain", least=0, effect=False),
    "fit.controls": Setting(
        (),
        "further fits for comparison: frames in random order, somebody else's course in time, the untrained generic model",
        ("time_shuffled", "swapped_dynamics", "untrained"),
        of=str,
        distinct=True,
    ),
    "fit.split_half": Setting(True, "also fit each half of a unit's frames, for identification"),
    "fit.video_seconds": Setting(
        (1.0,),
        "also fit so many seconds of a unit's video: how much identification gains with its length",
        of=float,
        above=0,
        distinct=True,
    ),
    # ---- traits
    "traits.splits": _splits((), "whose people are scored by cross-validation; () = everyone with labels"),
    "traits.heads": Setting(HEADS, "that predict the traits; the banded ridge leads", HEADS, of=str, some=True, distinct=True),
    "traits.protocol": Setting(
        "k_fold",
        "leave_one_out: a person; official: train and validation against test",
        ("k_fold", "leave_one_out", "official"),
    ),
    "traits.aggregate": Setting(
        "person",
        "of several units: their mean; each clip predicted, then the mean; none: scored one by one",
        ("person", "clip", "none"),
    ),
    "traits.folds": Setting(10, "of k_fold, disjoint by person", least=2),
    "traits.seeds": Setting(
        (0,),
        "repeats of the folds; with several, figures are means over them",
        of=int,
        some=True,
        distinct=True,
        least=0,
    ),
    "traits.inner_folds": Setting(5, "of the choice of hyper-parameters inside a fold", least=2),
    "traits.penalties": Setting(
        (1e0, 1e1, 1e2, 1e3, 1e4, 1e5), "candidates of the ridge penalty", of=float, some=True, above=0
    ),
    "traits.ridge_solver": Setting(
        "lbfgs", "optax's L-BFGS; closed_form: the same minimum, faster with thousands of people", ("lbfgs", "closed_form")
    ),
    "traits.pca": Setting(
        (0,),
        "candidates of how many principal components are kept, fitted inside the fold; 0 = all",
        of=int,
        some=True,
        least=0,
    ),
    "traits.mlp_hidden": Setting(64, "units of the MLP's hidden layer", least=1),
    "traits.mlp_steps": Setting(100, "of the MLP's training", least=1),
    "traits.mlp_learning_rate": Setting(3e-3, "of the MLP", above=0),
    "traits.mlp_weight_decay": Setting((1e-1, 1e0), "candidates, chosen inside the fold", of=float, some=True, above=0),
    "traits.mlp_seeds": Setting(3, "networks from different starts, their predictions averaged", least=1),
    "traits.bootstrap": Setting(2000, "resamplings of the people, for the intervals", least=1),
    "traits.baselines": Setting(
        BASELINES,
        "what the representation is compared with, by the same folds; oracle on synthetic faces only",
        BASELINES,
        of=str,
        distinct=True,
    ),
    "traits.fused_baselines": Setting(
        ("linear_dynamics",), "also scored together with the representation", ON_PIXELS, of=str, distinct=True
    ),
    "traits.baseline_frames": Setting(2000, "of a person that the baselines on pixels look at, evenly over the clips", least=1),
    "traits.permutations": Setting(20, "of the labels", least=1),
    # ---- report
    "report.title": Setting("Facial dynamics", "of the page"),
    "report.faces": Setting(True, "False leaves every picture of a person out of the page"),
    "report.names": Setting(False, "True writes each person's id beside the point on the map of people"),
    "report.examples": Setting(4, "people whose dynamic representations are drawn", least=0),
    # ---- distributed
    "distributed.coordinator": Setting(
        "", "where process 0 listens, HOST:PORT; auto = SLURM or a TPU knows; '' = one process", effect=False
    ),
    "distributed.processes": Setting(0, "how many there are, with HOST:PORT", least=0, effect=False),
    "distributed.process": Setting(-1, "which of them this one is, from 0", least=-1, effect=False),
}
