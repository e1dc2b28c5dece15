"""Every setting there is: default, type, range, choices and one line of help, in one table.

Those of the data are in `data_pipelines.settings`. `facedyn.config.default_config()`, the checks, `facedyn STAGE --help` and
docs/settings.md are all made from SETTINGS. What two settings must be together is in `settings_rules`. Imports nothing heavy,
so that help and refusals come at once; that the names here are those that the code knows is tested.
"""

from data_pipelines import settings
from data_pipelines.setting import Setting, one_of, some_of

BLOCKS = ("filters", "innovations", "step_correlations", "autocorrelations", "amplitude")
BLOCKS += ("whitened_covariances", "spectrum")
HEADS = ("banded_ridge", "ridge", "mlp")
DTYPES = ("float32", "bfloat16")
ON_PIXELS = ("mean_face", "rank_pooling", "dynamic_images", "linear_dynamics", "generic_feature", "optical_flow")
ON_LANDMARKS = ("landmark_dynamics", "action_unit_dynamics")
BASELINES = ("mean_predictor", "same_identity", *ON_PIXELS, *ON_LANDMARKS, "permuted_labels", "oracle")
WORD = r"[a-z]\w*"


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
    **{f"data.{name}": setting for name, setting in settings.DATA.items()},
    **{f"data.synthetic.{name}": setting for name, setting in settings.SYNTHETIC.items()},
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
    "rank_loss.direction": one_of(
        ("two_maps", "centred"), "two_maps = one map for each half of the window; centred = one map for the whole window"
    ),
    "rank_loss.kind": Setting("hinge", "loss of a pair of frames in the wrong order", ("hinge", "logistic", "listmle")),
    "rank_loss.margin": Setting(1.0, "margin of the hinge loss", above=0),
    "rank_loss.l2": Setting(1e-4, "weight of mean(D^2) in the loss; D is the dynamic representation", least=0),
    "rank_loss.frame_features": one_of(
        ("centred", "running_mean"),
        "centred = frames minus the mean of their half window; running_mean = VideoDarwin's running means",
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
    "fit.unit": one_of(("person", "person_task", "session", "clip"), "what one set of filters is fitted to (a fit unit)"),
    "fit.filter_kind": one_of(
        ("low_rank", "pointwise", "depthwise", "full"),
        "low_rank for the solver least_squares; for other solvers pointwise (1x1), depthwise (3x3) or full (3x3)",
    ),
    "fit.rank": Setting(
        16, "number of coordinates that a site's feature map is described in, with low_rank filters", least=1, most=4096
    ),
    "fit.basis": one_of(
        ("principal", "predictable", "independent"),
        "what these coordinates are: principal = principal components; predictable = directions that are best "
        "predicted over time; independent = independent components",
    ),
    "fit.blocks": some_of(
        BLOCKS,
        "parts of the representation, filters first; the others need the solver least_squares (docs/method.md "
        "says what each holds)",
        tuple(name for name in BLOCKS if name != "amplitude"),
        some=True,
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
    "fit.solver": one_of(
        ("least_squares", "adam", "gauss_newton", "gradient"),
        "least_squares = closed form; adam = gradient descent; gauss_newton, gradient = one pass over a unit's frames",
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
    "fit.controls": some_of(
        ("time_shuffled", "swapped_dynamics", "untrained", "reversed"),
        "further fits for comparison: frames in random order, somebody else's movement over time, an untrained generic "
        "model, each clip played backwards",
        (),
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
    "traits.heads": some_of(HEADS, "models that predict the traits; the headline is that of the banded ridge", some=True),
    "traits.protocol": one_of(
        ("k_fold", "leave_one_out", "official"),
        "leave_one_out = one person per fold; official = train on train and validation, score test",
    ),
    "traits.aggregate": one_of(
        ("person", "clip", "none"),
        "several units of a person: person = use their mean; clip = predict each, then average; none = score each one",
    ),
    "traits.folds": Setting(10, "number of folds of k_fold, disjoint by person", least=2),
    "traits.seeds": Setting(
        (0,), "one repeat of the folds per seed; figures are means over the repeats", of=int, some=True, distinct=True, least=0
    ),
    "traits.inner_folds": Setting(5, "folds inside a training fold, by which hyper-parameters are chosen", least=2),
    "traits.penalties": Setting(
        (1e0, 1e1, 1e2, 1e3, 1e4, 1e5), "candidates for the ridge penalty", of=float, some=True, above=0
    ),
    "traits.ridge_solver": one_of(("lbfgs", "closed_form"), "closed_form finds the same minimum as lbfgs without iterating"),
    "traits.pca": Setting(
        (0,), "candidates for the number of principal components, fitted inside the fold; 0 = all", of=int, some=True, least=0
    ),
    "traits.mlp_hidden": Setting(64, "units of the MLP's hidden layer", least=1),
    "traits.mlp_steps": Setting(100, "training steps of the MLP", least=1),
    "traits.mlp_learning_rate": Setting(3e-3, "learning rate of the MLP", above=0),
    "traits.mlp_weight_decay": Setting(
        (1e-1, 1e0), "candidates for the MLP's weight decay, chosen inside the fold", of=float, some=True, above=0
    ),
    "traits.mlp_seeds": Setting(3, "MLPs from different starts, whose predictions are averaged", least=1),
    "traits.bootstrap": Setting(2000, "bootstrap samples of the people, for the intervals", least=1),
    "traits.baselines": some_of(
        BASELINES, "what the representation is compared with, on the same folds; oracle only with synthetic faces"
    ),
    "traits.fused_baselines": some_of(
        ON_PIXELS, "baselines that are also scored together with the representation", ("linear_dynamics",)
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
