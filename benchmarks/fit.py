"""Speed of the batched fit beside the ways it is usually written: same model, weights, people, steps and batches.

    python benchmarks/fit.py [--size 32 64] [--people 16] [--steps 100] [--out fit.json]
    python benchmarks/fit.py --full-size        (a GPU)

Peers: `ours` (what the stage `fit` does, one chunk of people), `torch_loop` (PyTorch, a person after the other, whole
network at every step), `torch_vmap` (torch.func), `naive_vmap` (ours with the person filter as a vmapped convolution),
`jax_loop` (ours, a person after the other), ours with each of `--solvers NAME[:LEARNING_RATE or DAMPING]`, and `closed_form`
(the default settings: all blocks by least squares, with no loss, but of other filters than the rest).

All peers fit the same steps on the same rows, and take turns `--rounds` times, of which the median counts. Columns:
`seconds` of the whole fit, marked * where extrapolated from the timed steps; `after steps`: how many were timed, and there:
`loss` and `accuracy`: mean rank loss and ranking accuracy on held-back frames; `difference` and `median`: largest and median
relative distance of a person's filters from ours (the largest is larger where rounding decides on which side of the hinge a
pair of frames falls); FLOPs by XLA's cost analysis of the compiled step (PyTorch: its own counter). The weights are random:
the times are those of trained ones, the losses mean nothing beyond the comparison.
"""

import argparse
import dataclasses
import json
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from closed_form_peer import ClosedFormPeer
from jax_peer import DRAWS, JaxPeer, convolution_tap
from machine import log, machine, matmul_peak

from data_pipelines.dataset.windows import window_positions
from facedyn.core import person_filters, solvers, unet
from facedyn.core.rank_loss import RankLoss
from facedyn.stages.fit.batching import CPU_CACHE_BYTES
from facedyn.stages.runtime.common import steps_per_call

JAX_PEERS, TORCH_PEERS = ("ours", "naive_vmap", "jax_loop", "closed_form"), ("torch_loop", "torch_vmap")
FULL_SIZE = dict(size=[112], channels="32,64,128,256", dtype="bfloat16", people=64, rows=128, steps=500, vmap_people=16)
TOLERANCE = 1e-3  # of the median difference, in float32 on CPU; a GPU's float32 convolutions keep 10 bits

COLUMNS = (
    ("size", "size", "d"),
    ("peer", "peer", ""),
    ("steps", "steps", "d"),
    ("seconds", "seconds", ".2f"),
    ("*", "extrapolated", ""),
    ("ms/person-step", "ms_per_person_step", ".2f"),
    ("people/s", "people_per_s", ".3g"),
    ("time/ours", "time_over_ours", ".2f"),
    ("GFLOP/person", "gflop_per_person", ".3g"),
    ("GFLOP/s", "gflop_per_s", ".3g"),
    ("of peak", "peak_share", ".1%"),
    ("after steps", "timed_steps", "d"),
    ("loss", "loss", ".4f"),
    ("accuracy", "ranking_accuracy", ".3f"),
    ("difference", "difference", ".1e"),
    ("median", "median_difference", ".1e"),
    ("loss, whole fit", "whole_loss", ".4f"),
)


@dataclasses.dataclass(frozen=True)
class Task:
    """What every peer is given.

    Attributes:
      clips: [P, T, H, W, C] uint8.
      windows, held_back: [N, 2n+1] frames of everybody's rows, those fitted to and those that only the loss is taken on.
      rows: [steps, B] the centre frames of every step, the same for everyone.
    """

    model: unet.UNet
    params: dict
    settings: RankLoss
    kind: str
    sites: tuple
    clips: np.ndarray
    windows: np.ndarray
    held_back: np.ndarray
    solver: solvers.Solver
    rows: np.ndarray
    steps: int
    batch_size: int
    learning_rate: float


def moving_patterns(people: int, frames: int, size: int, channels: int) -> np.ndarray:
    """Smooth patterns that drift, each person's at their own pace, with noise: uint8 [P, T, H, W, C]."""
    random = np.random.default_rng(0)
    place = np.linspace(0, 2 * np.pi, size, endpoint=False, dtype=np.float32)
    clips = np.empty((people, frames, size, size, channels), np.uint8)
    for clip in clips:
        waves = [(random.integers(1, 4, 2), random.uniform(-0.3, 0.3), random.uniform(0, 7, channels)) for _ in range(4)]
        for t, frame in enumerate(clip):
            image = random.standard_normal(frame.shape, np.float32) * 4 + 128
            for (down, across), pace, phase in waves:
                image += 25 * np.sin((down * place[:, None] + across * place)[..., None] + pace * t + phase)
            frame[:] = image.clip(0, 255)
    return clips


def make_task(a, size: int) -> Task:
    """The model, weights and windows that the arguments ask for."""
    settings = RankLoss()
    n, held = settings.half_length, max(a.batch, a.rows // 4)
    model = unet.UNet(tuple(int(c) for c in a.channels.split(",")), dtype=jnp.dtype(a.dtype))
    random = np.random.default_rng(1)
    params = unet.init(model, jax.random.key(0), size)
    # Gains and biases off one and zero, so that the comparison of the peers sees every weight.
    params = jax.tree.map(lambda p: np.asarray(p) + 0.05 * random.standard_normal(p.shape, np.float32), params)
    clips = moving_patterns(a.people, a.rows + held + 4 * n, size, model.image_channels)
    centres = np.arange(n, clips.shape[1] - n)
    fitted, held_back = (window_positions(c, 1, n) for c in (centres[: a.rows], centres[-held:]))
    solver = solvers.make("adam", learning_rate=a.learning_rate, steps=a.steps, batch_size=a.batch)
    draws = solver.draws(jax.random.key(DRAWS))
    rows = jax.jit(jax.vmap(lambda step: solver.rows(draws, step, jnp.int32(a.rows))[0]))(jnp.arange(a.steps))
    return Task(
        model=model,
        params=params,
        settings=settings,
        kind=a.kind,
        sites=person_filters.sites(model.channels, a.sites),
        clips=clips,
        windows=fitted,
        held_back=held_back,
        solver=solver,
        rows=np.asarray(rows),
        steps=a.steps,
        batch_size=a.batch,
        learning_rate=a.learning_rate,
    )


def make_peers(a, task: Task) -> dict:
    """{name: (peer, steps of its whole fit)}; raises SystemExit where PyTorch is asked for and absent."""
    at_once = group_size(a, task)
    peers = {"ours": (JaxPeer(task, at_once), task.steps)}
    if "naive_vmap" in a.peers:
        peers["naive_vmap"] = JaxPeer(task, at_once, tap=convolution_tap), task.steps
    if "jax_loop" in a.peers:
        peers["jax_loop"] = JaxPeer(task, 1), task.steps
    if set(TORCH_PEERS) & set(a.peers):
        torch_peer = import_torch_peer()
        autocast = a.dtype == "bfloat16"
        if "torch_loop" in a.peers:
            peers["torch_loop"] = torch_peer.Loop(task, autocast=autocast, compiled=a.torch_compile), task.steps
        if "torch_vmap" in a.peers:
            peers["torch_vmap"] = torch_peer.Vmap(task, at_once=a.vmap_people or a.people, autocast=autocast), task.steps
    if "closed_form" in a.peers:
        peers["closed_form"] = ClosedFormPeer(task), 1
    for setting in a.solvers:
        solver = solver_of(a, setting)
        peers[f"ours {setting}"] = JaxPeer(task, at_once, solver=solver), solver.steps(a.rows)
    return peers


def solver_of(a, setting: str) -> solvers.Solver:
    """Of 'NAME' or 'NAME:VALUE', its learning rate or ridge."""
    name, _, value = setting.partition(":")
    number = dict(learning_rate=float(value), ridge=float(value)) if value else dict(learning_rate=a.learning_rate)
    return solvers.make(name, steps=a.steps, batch_size=a.batch, **number)


def group_size(a, task: Task) -> int:
    """People in one call, as the stage `fit` chooses: few on CPU, for its caches; everybody elsewhere."""
    finest = a.batch * task.clips.shape[2] ** 2 * task.model.channels[0] * 4
    return min(a.people, max(1, CPU_CACHE_BYTES // finest)) if jax.default_backend() == "cpu" else a.people


def import_torch_peer():
    try:
        import torch_peer
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        fix = f"pip install 'facedyn[benchmark]', or leave them out with --peers {' '.join(JAX_PEERS)}"
        raise SystemExit(f"The peers {' and '.join(TORCH_PEERS)} need PyTorch: {fix}.") from error
    return torch_peer


def differences(theirs: dict, ours: dict) -> np.ndarray:
    """Relative distance of each person's filters from ours: [P]."""
    distance, norm = (
        np.sqrt(sum(np.square(f).reshape(len(f), -1).sum(1) for f in filters.values()))
        for filters in ({site: theirs[site] - own for site, own in ours.items()}, ours)
    )
    return distance / norm


def measure(a, size: int) -> tuple[list[dict], dict]:
    """(one row of figures per peer, figures of all of them together) at one face size."""
    task = make_task(a, size)
    timed = min(a.timed_steps or max(4, 2 * steps_per_call(0)), a.steps)
    peers = make_peers(a, task)
    # Of other solvers the whole fit.
    steps = {name: total if " " in name else min(timed, total) for name, (_, total) in peers.items()}
    ours, filters, seconds, peak = peers["ours"][0], {}, {name: [] for name in peers}, 0.0
    for name, (peer, _) in peers.items():
        log(f"size {size}: {name}, first run")
        filters[name] = peer(steps[name])[0]  # compiles
    for i in range(a.rounds):
        peak = max(peak, matmul_peak())
        for name, (peer, _) in peers.items():
            log(f"size {size}: round {i + 1} of {a.rounds}, {name}")
            time.sleep(0.3)  # the last peer's idle threads spin for a while
            seconds[name].append(peer(steps[name])[1:])
    rows = []
    for name, (peer, total) in peers.items():
        setup, stepping = (float(x) for x in np.median(seconds[name], 0))
        of_step, before = peer.flops()
        whole, flops = setup + stepping * total / steps[name], before + of_step * total
        comparable = filters[name] is not None
        loss, accuracy = ours.quality(filters[name]) if comparable else (None, None)
        apart = differences(filters[name], filters["ours"]) if comparable else np.zeros(1)
        rows.append(
            dict(size=size, peer=name, note=peer.note, steps=total, timed_steps=steps[name])
            | dict(seconds=whole, setup_seconds=setup, extrapolated="*" if total > steps[name] else "")
            | dict(ms_per_person_step=1e3 * stepping / steps[name] / a.people, people_per_s=a.people / whole)
            | dict(gflop_per_person=flops / 1e9, gflop_per_s=flops * a.people / whole / 1e9)
            | dict(peak_share=flops * a.people / whole / peak, loss=loss, ranking_accuracy=accuracy)
            | dict(difference=float(apart.max()), median_difference=float(np.median(apart)))
            | dict(time_over_ours=whole / rows[0]["seconds"] if rows else 1.0)
            | dict(whole_loss=None if total > steps[name] else loss)
        )
        if " " in name or not comparable:  # not the same filters
            rows[-1] |= dict(difference=None, median_difference=None)
    if a.solvers and rows[0]["whole_loss"] is None:
        log(f"size {size}: ours, whole fit, for its loss")
        rows[0]["whole_loss"] = ours.quality(ours(task.steps)[0])[0]
    generic = ours.quality(jax.tree.map(np.zeros_like, filters["ours"]))
    return rows, dict(size=size, matmul_peak_gflop_per_s=peak / 1e9, generic_loss=generic[0], generic_accuracy=generic[1])


def extrapolated(a, row: dict) -> str:
    """What 10,000 clips of 450 frames would take at one scale, loading and writing left out."""
    centres = 450 - 2 * RankLoss().half_length
    steps = row["steps"]
    if row["peer"] != "ours":  # a solver that visits every row has as many steps as it takes
        steps = solver_of(a, row["peer"].removeprefix("ours ")).steps(centres)
    clip = row["setup_seconds"] / a.people * centres / a.rows + row["ms_per_person_step"] * steps / 1e3
    what = f"Adam {steps} steps x batch {a.batch}" if row["peer"] == "ours" else f"{row['peer'][5:]} {steps} steps"
    return f"10,000 clips of 450 frames of {row['size']}x{row['size']}, one scale: {what}: {10_000 * clip / 60:.1f} min"


def table(rows) -> str:
    """The rows as they are printed."""
    shown = {title: ["" if row[key] is None else format(row[key], form) for row in rows] for title, key, form in COLUMNS}
    return pd.DataFrame(shown).to_string(index=False)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=[32, 64], help="face sizes, pixels")
    parser.add_argument("--channels", default="8,16,32", help="of the U-net's levels")
    parser.add_argument("--people", type=int, default=16, help="one chunk")
    parser.add_argument("--rows", type=int, default=64, help="centre frames a person")
    parser.add_argument("--batch", type=int, default=16, help="centre frames a step")
    parser.add_argument("--steps", type=int, default=100, help="of Adam, for everyone")
    parser.add_argument("--timed-steps", type=int, default=0, help="steps really run; 0: 4 on CPU, 20 on a GPU")
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--kind", default="pointwise", choices=person_filters.KINDS)
    parser.add_argument("--sites", default="connections")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="bfloat16: autocast in PyTorch")
    parser.add_argument("--peers", nargs="+", default=JAX_PEERS + TORCH_PEERS, choices=JAX_PEERS + TORCH_PEERS)
    parser.add_argument("--solvers", nargs="*", default=[], metavar="NAME[:VALUE]", help="ours with these, whole fits")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vmap-people", type=int, default=0, help="people at once in torch_vmap; 0: all")
    parser.add_argument("--torch-compile", action="store_true", help="torch.compile for torch_loop")
    parser.add_argument("--full-size", action="store_true", help="112 pixels, full U-net, bfloat16; options beside it win")
    parser.add_argument("--out", default="", help="JSON file for the figures")
    if parser.parse_args().full_size:
        parser.set_defaults(**FULL_SIZE)
    return parser.parse_args()


def main():
    a = arguments()
    # PyTorch has to find room on the same GPU; JAX would take three quarters of it at once.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    measured = [measure(a, size) for size in a.size]
    rows, of_size = [row for found, _ in measured for row in found], [common for _, common in measured]
    found = machine()
    print(", ".join(f"{k} {v}" for k, v in found.items()))
    print(f"{a.people} people x batch {a.batch}, {a.rows} rows each, channels {a.channels}, {a.kind} at {a.sites}, {a.dtype}")
    print(table(rows))
    for c in of_size:
        print(
            f"size {c['size']}: generic model loss {c['generic_loss']:.4f}, accuracy {c['generic_accuracy']:.3f}; "
            f"matrix-multiply peak {c['matmul_peak_gflop_per_s']:.0f} GFLOP/s"
        )
    for row in rows:
        if row["peer"] not in ("naive_vmap", "jax_loop"):
            print(f"size {row['size']}: {row['peer']}: {row['note']}")
        if row["peer"].startswith("ours") or row["peer"] == "closed_form":
            others = [f"{r['peer']} {r['seconds'] / row['seconds']:.2f}" for r in rows if r["size"] == row["size"] and r != row]
            print(f"  times of the others, in its own: {', '.join(others)}")
        if row["peer"].startswith("ours"):
            print(f"  {extrapolated(a, row)}")
    if a.out:
        with open(a.out, "w") as file:
            json.dump({"machine": found, "settings": vars(a), "sizes": of_size, "peers": rows}, file, indent=1)
    apart = [f"{r['peer']} at {r['size']}" for r in rows if not (r["median_difference"] or 0) <= TOLERANCE]
    if apart and a.dtype == "float32" and jax.default_backend() == "cpu":
        raise SystemExit(f"Not the same fit as ours (median difference above {TOLERANCE}): {', '.join(apart)}.")


if __name__ == "__main__":
    main()
