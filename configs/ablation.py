"""The bench with one thing changed: `configs/ablation.py:NAME`, names in CHANGES.

All of them, or some, and one table:

    python benchmarks/ablation.py --workdir=runs/ablation [--only base,logistic] [--config.NAME=VALUE ...]

Hardware: 2 CPU cores. All runs share the dataset, and also the generic models where the change does not affect them.
"""

import importlib.util
import pathlib

# Filters by descent on the rank loss, through the decoder: what the paper's abstract describes, and its fast relative.
ITERATIVE = {
    "fit.filter_kind": "pointwise",
    "fit.filter_sites": "connections",
    "fit.ridge": 20.0,
    "fit.blocks": ("filters",),
    "fit.max_frames": 512,
}
GAUSS_NEWTON = ITERATIVE | {"fit.solver": "gauss_newton", "fit.max_frames": 192}

CHANGES = {
    "base": {},
    # the rank loss that the generic model learns by
    "logistic": {"rank_loss.kind": "logistic"},
    "listmle": {"rank_loss.kind": "listmle"},
    "running_mean": {"rank_loss.frame_features": "running_mean"},
    "amplitude": {"rank_loss.normalise": False},
    # scales
    "scale_1": {"rank_loss.scales": (1,)},
    "scales_1_2": {"rank_loss.scales": (1, 2)},
    "scales_1_2_4": {"rank_loss.scales": (1, 2, 4)},
    "scales_1_2_4_8": {"rank_loss.scales": (1, 2, 4, 8)},
    # the generic model
    "short_pretraining": {"pretrain.steps": 400},
    "wide": {"model.channels": (16, 32, 64)},
    # the filters
    "filters_alone": {"fit.blocks": ("filters",)},
    "filters_and_innovations": {"fit.blocks": ("filters", "innovations")},
    "whitened": {"fit.blocks": ("filters", "whitened_covariances", "spectrum")},
    "rank_8": {"fit.rank": 8},
    "rank_32": {"fit.rank": 32},
    "connections": {"fit.filter_sites": "connections"},
    "bottleneck": {"fit.filter_sites": "bottleneck"},
    "last_decoder": {"fit.filter_sites": "decoder0"},
    "per_task": {"fit.unit": "person_task"},
    # how strongly they are penalised towards the population filters, and how many frames they are fitted to
    "ridge_100": {"fit.ridge": 100.0},
    "ridge_300": {"fit.ridge": 300.0},
    "frames_96": {"fit.max_frames": 96},
    # the solver; the gradient's and Adam's learning rates are those of benchmarks/solvers.py
    "gauss_newton": GAUSS_NEWTON,
    "adam": ITERATIVE | {"fit.solver": "adam"},
    "gradient": ITERATIVE | {"fit.solver": "gradient", "fit.learning_rate": 3.0},
    # Gauss-Newton with one thing changed: the closed form has no rank loss, and two halves always
    "gauss_newton_centred": GAUSS_NEWTON | {"rank_loss.direction": "centred"},
    "gauss_newton_amplitude": GAUSS_NEWTON | {"rank_loss.normalise": False},
    "gauss_newton_depthwise": GAUSS_NEWTON | {"fit.filter_kind": "depthwise"},
    "gauss_newton_full": GAUSS_NEWTON | {"fit.filter_kind": "full"},
    "gauss_newton_all_sites": GAUSS_NEWTON | {"fit.filter_sites": "all"},
    # the head
    "pca_50": {"traits.pca": (50,)},
    "pca_100": {"traits.pca": (100,)},
}


def get_config(name="base"):
    if name not in CHANGES:
        raise ValueError(f"{name!r} is not an ablation; these are {', '.join(CHANGES)}.")
    place = pathlib.Path(__file__).with_name("bench.py")
    spec = importlib.util.spec_from_file_location("bench_config", place)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    config = bench.get_config()
    config.fit.controls = ()  # they would be fitted for every change
    for key, value in CHANGES[name].items():
        section, setting = key.split(".")
        config[section][setting] = value
    return config
