"""The bench with one thing changed: `configs/ablation.py:NAME`, names in CHANGES. All of them, or some, and one table:

    python benchmarks/ablation.py --workdir=runs/ablation [--only base,logistic] [--config.NAME=VALUE ...]

Hardware: 2 CPU cores. The grid shares the dataset, and the generic models where the change leaves them as they are.
"""

import importlib.util
import pathlib

CHANGES = {
    "base": {},
    # the rank loss, for the generic model and for the filters
    "centred": {"rank_loss.direction": "centred"},
    "logistic": {"rank_loss.kind": "logistic"},
    "listmle": {"rank_loss.kind": "listmle"},
    "running_mean": {"rank_loss.frame_features": "running_mean"},
    "amplitude": {"rank_loss.normalise": False},
    # scales
    "scale_1": {"rank_loss.scales": (1,)},
    "scale_8": {"rank_loss.scales": (8,)},
    "scales_1_2": {"rank_loss.scales": (1, 2)},
    # the generic model
    "short_pretraining": {"pretrain.steps": 400},
    "wide": {"model.channels": (16, 32, 64)},
    # the filters
    "depthwise": {"fit.filter_kind": "depthwise"},
    "full": {"fit.filter_kind": "full"},
    "all_sites": {"fit.filter_sites": "all"},
    "bottleneck": {"fit.filter_sites": "bottleneck"},
    "per_task": {"fit.unit": "person_task"},
    # the solver; the gradient's and Adam's learning rates are those of benchmarks/solvers.py
    "adam": {"fit.solver": "adam"},
    "gradient": {"fit.solver": "gradient", "fit.learning_rate": 3.0},
    "damping_5": {"fit.damping": 5.0},
    "damping_80": {"fit.damping": 80.0},
    "frames_96": {"fit.max_frames": 96},
    "frames_512": {"fit.max_frames": 512},
    # the head
    "pca_50": {"traits.pca": (50,)},
    "pca_100": {"traits.pca": (100,)},
}


def get_config(name="base"):
    if name not in CHANGES:
        raise ValueError(f"{name!r} is no ablation; they are {', '.join(CHANGES)}.")
    place = pathlib.Path(__file__).with_name("bench.py")
    spec = importlib.util.spec_from_file_location("bench_config", place)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    config = bench.get_config()
    for key, value in CHANGES[name].items():
        section, setting = key.split(".")
        config[section][setting] = value
    return config
