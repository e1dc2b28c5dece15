"""What an accelerator makes of `pretrain` and `fit`, in one command of at most eight minutes that installs nothing.

    python benchmarks/accelerator.py [--minutes 8] [--out accelerator.json]
    python benchmarks/accelerator.py --tiny            # a CPU, in seconds: whether it all runs

Prints one table and writes JSON: people a second of the closed form, Adam and Gauss-Newton at 64 and 112 pixels by the size of
a chunk, pretraining steps a second, decoded faces a second of the host; on one device and on all. Beside each
figure: the share of the measured peak of a matrix product that its FLOP (facedyn/core/cost.py) come to, seconds of compilation,
bytes of the program, and what the cost model expected of a device of this name (35 % of the maker's peak; on a CPU by its
measured rates). What does not fit into the time is left out, and said. People have 450 frames. Figures are of one scale,
without halves and controls, on data that lie on the device already.
"""

import argparse
import concurrent.futures
import json
import os
import time
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from machine import log, machine, matmul_peak

from facedyn.config import default_config
from facedyn.core import cost, unet
from facedyn.stages import plan, pretrain
from facedyn.stages.fit import batching, closed_form, iterative
from facedyn.stages.runtime import calibration, common

# What a device calls itself, in lower case, and its name in the cost model; the first that is part of it counts.
KINDS = {"h200": "h200", "h100": "h100", "a100": "a100", "l4": "l4", "v6": "tpu-v6e", "v5p": "tpu-v5p", "v5": "tpu-v5e"}
KINDS |= {"v4": "tpu-v4"}
SECONDS_A_CASE = 2.0  # of running, after compilation
RESERVE = 60.0  # of the time: no case is begun that may end later
COLUMNS = ("case", "size", "devices", "chunk", "rate", "unit", "peak_share", "gib", "compile_s", "expected", "note")


class Sizes(NamedTuple):
    """How large everything is. Batches are of each device."""

    sizes: tuple[int, ...] = (64, 112)
    chunks: tuple[int, ...] = (16, 64, 256)
    frames: int = 450
    batch: int = 128
    dtype: str = "bfloat16"
    calls: int = 10  # steps in one compiled call


TINY = Sizes((16,), (2,), 24, 4, "float32", 1)


class Piece(NamedTuple):
    """Something to measure: f(*arrays), its FLOP, how many of its unit a call does, and how long it should take."""

    f: Any
    arrays: tuple
    flop: float
    count: float
    unit: str
    expected: float  # seconds


def settings(s: Sizes, size: int):
    """The reference settings at a face size: the full U-net at 112 pixels, a small one below."""
    config = default_config()
    config.data.image_size, config.rank_loss.scales, config.model.dtype = size, (1,), s.dtype
    if size < 112:
        config.model.channels, config.model.groups = ((8, 16, 32), 4) if size > 16 else ((4, 8), 4)
    config.pretrain.batch_size, config.fit.split_half = s.batch, False
    return config


def through_the_decoder(s: Sizes, size: int, solver: str):
    """The settings of Adam or Gauss-Newton."""
    config = settings(s, size)
    config.fit.solver, config.fit.filter_kind, config.fit.filter_sites = solver, "pointwise", "connections"
    config.fit.blocks, config.fit.whiten, config.fit.ridge = ("filters",), False, 20.0
    return config


def on(mesh, tree, spec):
    """Copies to the devices of a mesh."""
    return jax.device_put(tree, NamedSharding(mesh, spec))


def frames_of(mesh, shape, spec):
    """Noise, made on the devices: uint8."""
    make = jax.jit(lambda: jax.random.bits(jax.random.key(0), shape, "uint8"), out_shardings=NamedSharding(mesh, spec))
    return make()


def rows_of(config, mesh, people: int, frames: int) -> batching.Rows:
    """Everybody's rows: as many as the fit draws from."""
    n = config.rank_loss.half_length
    centres = np.arange(n, frames - n)[: config.fit.max_frames]
    windows = (centres[:, None] + np.arange(-n, n + 1)).astype(np.int32)
    some = np.stack([windows] * people), np.zeros((people, len(windows)), np.int32), np.full(people, len(windows), np.int32)
    return batching.Rows(*(on(mesh, x, batching.EVERYONE) for x in some))


def pretraining(s: Sizes, size: int, devices, people: int, rates) -> Piece:
    """Steps of the generic model."""
    config = settings(s, size)
    net, n, mesh = plan.network(config), config.rank_loss.half_length, Mesh(np.asarray(devices), ("data",))
    model, transform = common.unet(config), optax.adam(1e-3)
    params = unet.init(model, jax.random.key(0), size)
    state = dict(params=params, opt_state=transform.init(params), step=jnp.int32(0))
    batch = s.batch * len(devices)
    shape = (s.calls, batch, 2 * n + 1, size, size, net.image_channels)
    windows = frames_of(mesh, shape, PartitionSpec(None, "data"))
    step = pretrain.make_step(model, common.rank_loss_settings(config), transform, mesh)
    work, loss = cost.training_step(net, n)
    seconds = s.calls * batch * (work / rates.backward + loss / rates.simple) / len(devices)
    flop = s.calls * batch * (work + loss)
    return Piece(lambda *a: step(*a), (on(mesh, state, PartitionSpec()), windows), flop, s.calls, "steps/s", seconds)


def encoding(s: Sizes, size: int, devices, people: int, rates) -> Piece:
    """Frames into states, for the closed form: what almost all of its time goes to. Counted in people."""
    config = settings(s, size)
    net, mesh, sites = plan.network(config), Mesh(np.asarray(devices), ("person",)), closed_form.sites_of(config)
    names, block = tuple(site.name for site in sites), closed_form.encode_frames(config) * len(devices)
    shapes = [cost.site_shape(net, name) for name in names]
    basis = on(mesh, tuple(jnp.ones((side**2 * c, config.fit.rank)) / side for side, c in shapes), batching.SHARED)
    params = on(mesh, unet.init(common.unet(config), jax.random.key(0), size), batching.SHARED)
    frames = frames_of(mesh, (block, size, size, net.image_channels), batching.EVERYONE)
    flop = block * cost.states(net, names, config.fit.rank)
    encode = closed_form.compile_encode(config, sites, mesh)
    return Piece(encode, (params, basis, frames), flop, block / s.frames, "people/s", flop / rates.forward / len(devices))


def solving(s: Sizes, size: int, devices, people: int, rates) -> Piece:
    """From states to representations, in closed form."""
    config = settings(s, size)
    mesh, sites, rank = Mesh(np.asarray(devices), ("person",)), closed_form.sites_of(config), config.fit.rank
    people *= len(devices)
    rows = rows_of(config, mesh, people, s.frames)
    states = np.random.default_rng(0).standard_normal((people, s.frames, len(sites), rank), np.float32)
    states = on(mesh, states, batching.EVERYONE)
    population, ridge = np.zeros((len(sites), 2, rank, rank), np.float32), np.full(len(sites), 100, np.float32)
    shared = on(mesh, (population, ridge), batching.SHARED)
    work = 2 * people * cost.solve(rows.windows.shape[1], len(sites), rank)
    fit = closed_form.compile_fit(config, mesh)
    return Piece(fit, (*shared, states, rows, rows), 0.0, people, "people/s", work / rates.small / len(devices))


def stepping(solver: str):
    """A piece of some steps of a fit through the decoder, counted in people of a whole fit."""

    def piece(s: Sizes, size: int, devices, people: int, rates) -> Piece:
        config = through_the_decoder(s, size, solver)
        net, n, mesh = plan.network(config), config.rank_loss.half_length, Mesh(np.asarray(devices), ("person",))
        p = iterative.problem(config)
        steps, people = iterative.compile_steps(config, p, mesh), people * len(devices)
        rows = rows_of(config, mesh, people, s.frames)
        shape = (people, s.frames, size, size, net.image_channels)
        units = iterative.fit.Units(frames_of(mesh, shape, batching.EVERYONE), rows.windows, rows.count)
        kept = p.solver.revisits_rows
        if kept:
            shapes = iterative._feature_shapes(config, p, people, rows.windows.shape[1])
            units = units._replace(features=steps.no_features(shapes))
        carry = steps.start(people, rows.windows.shape[1])
        params = on(mesh, unet.init(common.unet(config), jax.random.key(0), size), batching.SHARED)
        draws = on(mesh, p.solver.draws(jax.random.key(0)), batching.SHARED)
        work = cost.fit_step(net, n, tuple(site.name for site in p.sites), config.fit.filter_kind, kept)
        drawn = people * s.calls * config.fit.batch_size
        seconds = drawn * sum(w / r for w, r in zip(work, (rates.forward, rates.backward, rates.simple))) / len(devices)
        whole = people * s.calls / p.solver.steps(rows.windows.shape[1])
        arrays = params, carry, units, draws, jnp.int32(0)
        return Piece(lambda *a: steps.advance(*a, s.calls), arrays, drawn * sum(work), whole, "people/s", seconds)

    return piece


CASES = {
    "pretraining": pretraining,
    "closed form: frames to states": encoding,
    "closed form: states to filters": solving,
    "Adam": stepping("adam"),
    "Gauss-Newton": stepping("gauss_newton"),
}


def run(piece: Piece, peak: float, devices: int, seconds: float) -> dict:
    """Compiles and measures: the figures of a row."""
    started = time.perf_counter()
    compiled = jax.jit(piece.f).lower(*piece.arrays).compile()
    compile_s, memory = time.perf_counter() - started, compiled.memory_analysis()
    used = sum(getattr(memory, f"{name}_size_in_bytes", 0) for name in ("argument", "output", "temp")) if memory else 0
    taken = calibration.fastest(compiled, *piece.arrays, seconds=seconds)
    share = piece.flop / taken / peak / devices if piece.flop else None
    figures = dict(rate=piece.count / taken, unit=piece.unit, peak_share=share, gib=used / 2**30, compile_s=compile_s)
    return figures | dict(expected=piece.count / piece.expected, note="")


def decoding(s: Sizes, size: int) -> dict:
    """Faces a second that the host decodes, all cores together, as the loader's threads do."""
    random = np.random.default_rng(0)
    image = cv2.GaussianBlur(random.integers(0, 256, (size, size, 3), np.uint8), (0, 0), 2.0)
    encoded, cores = cv2.imencode(".png", image)[1], os.cpu_count() or 1
    some = 64 * cores
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:

        def decode():
            return sum(frame.size > 0 for frame in pool.map(lambda _: cv2.imdecode(encoded, cv2.IMREAD_COLOR), range(some)))

        taken = calibration.fastest(decode, seconds=0.5)
    row = dict(case="decoding on the host", size=size, devices=0, rate=some / taken, unit="faces/s")
    return row | dict(note=f"{cores} cores")


def rates_of(config, device) -> tuple[str, cost.Rates]:
    """(name in the cost model, what it expects of one device)."""
    if device.platform == "cpu":
        return "cpu", calibration.measure(config, plan.network(config))
    kind = device.device_kind.lower()
    name = next((ours for theirs, ours in KINDS.items() if theirs in kind), "h100")
    return name, plan.tabulated(config, name)


def plans(s: Sizes, devices) -> list[tuple]:
    """(case, size, devices, chunk) of every row, what matters most first."""
    counts = sorted({1, len(devices)}, reverse=True)
    found = []
    for count in counts:
        for size in reversed(s.sizes):
            for chunk in (s.chunks[len(s.chunks) // 2], *s.chunks[: len(s.chunks) // 2], *s.chunks[len(s.chunks) // 2 + 1 :]):
                for case in CASES:
                    without_chunks = case in ("pretraining", "closed form: frames to states")
                    found.append((case, size, count, 0 if without_chunks else chunk))
    found = list(dict.fromkeys(found))
    middle = s.chunks[len(s.chunks) // 2]
    # First every case once, on all devices; then the other chunks, then the same on one device.
    return sorted(found, key=lambda row: (row[3] not in (0, middle), -row[2]))


def measure_all(s: Sizes, minutes: float) -> tuple[list[dict], dict]:
    """(rows, what holds for all of them). Cases that the time has no room for have a note in place of figures."""
    started, devices = time.monotonic(), jax.devices()
    peak, rows, of_size = matmul_peak(), [], {}
    seconds = SECONDS_A_CASE if devices[0].platform != "cpu" else 0.05
    end = 60 * minutes - (RESERVE if minutes > 2 else 0.0)
    for case, size, count, chunk in plans(s, devices):
        row = dict(case=case, size=size, devices=count, chunk=chunk or None)
        if time.monotonic() - started > end:
            rows.append(row | dict(note="left out: no time"))
            continue
        log(f"{time.monotonic() - started:.0f} s: {case}, {size} pixels, {count} devices, chunk {chunk}")
        try:
            if size not in of_size:
                of_size[size] = rates_of(settings(s, size), devices[0])
            piece = CASES[case](s, size, devices[:count], chunk, of_size[size][1])
            rows.append(row | run(piece, peak, count, seconds))
        except jax.errors.JaxRuntimeError as error:
            rows.append(row | dict(note=str(error).splitlines()[0][:60]))
    rows += [decoding(s, size) for size in s.sizes]
    names = sorted({name for name, _ in of_size.values()})
    common_figures = dict(matmul_peak_tflop_per_s=peak / 1e12, expected_of=names, seconds=time.monotonic() - started)
    return rows, common_figures


def table(rows) -> str:
    """The rows as they are printed."""
    frame = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    forms = dict(rate="{:.4g}", expected="{:.4g}", peak_share="{:.1%}", gib="{:.2f}", compile_s="{:.1f}", chunk="{:.0f}")
    for name, form in forms.items():
        frame[name] = ["" if pd.isna(value) else form.format(value) for value in frame[name]]
    return frame.fillna("").to_string(index=False)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="no more than that, compilation included")
    parser.add_argument("--tiny", action="store_true", help="everything very small, as a check on a CPU")
    parser.add_argument("--out", default="accelerator.json", help="JSON file for the figures")
    a = parser.parse_args(argv)
    rows, found = measure_all(TINY if a.tiny else Sizes(), a.minutes)
    found |= machine()
    print(", ".join(f"{k} {v}" for k, v in found.items()))
    print(table(rows))
    with open(a.out, "w") as file:
        json.dump({"machine": found, "settings": vars(a), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
