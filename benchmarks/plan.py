"""What `facedyn plan` predicts beside what a run takes, piece by piece, on this machine's CPU.

    python benchmarks/plan.py [--size 32 64 112] [--people 4] [--frames 96] [--out plan.json]

Pieces are the compiled functions of the stages themselves: a pretraining step, frames into states and the closed form of
some people, a step of Adam. 32 and 64 pixels with a U-net of 8/16/32 channels, 112 with the reference's. The rates are measured
before and after each, and their mean counts; the load of the machine stands beside.
"""

import argparse
import json
import os
import types

import jax
import numpy as np
import optax
from machine import log, machine

from facedyn.config import default_config
from facedyn.core import cost, unet
from facedyn.stages import plan, pretrain
from facedyn.stages.fit import batching, closed_form, iterative
from facedyn.stages.runtime import calibration, common
from facedyn.stages.runtime.calibration import fastest

BATCH = {32: 16, 64: 8, 112: 4}  # windows of a pretraining step: enough for its speed, few enough for a short measurement


def settings(size: int):
    """The reference settings at a face size, one scale."""
    config = default_config()
    config.data.image_size, config.rank_loss.scales = size, (1,)
    if size < 112:
        config.model.channels, config.model.groups = (8, 16, 32), 4
    config.pretrain.batch_size = BATCH.get(size, 8)
    return config


def of_adam(size: int):
    """The same with the paper's way to fit."""
    config = settings(size)
    c = config.fit
    c.solver, c.filter_kind, c.filter_sites, c.blocks, c.whiten = "adam", "pointwise", "connections", ("filters",), False
    return config


def training(config, net):
    """Seconds of a pretraining step, and what is predicted of given rates."""
    model, settings, batch = common.unet(config), common.rank_loss_settings(config), config.pretrain.batch_size
    mesh, transform = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), ("data",)), optax.adam(1e-3)
    update = pretrain.make_step(model, settings, transform, mesh)
    params = unet.init(model, jax.random.key(0), net.size)
    state = dict(params=params, opt_state=transform.init(params), step=np.int32(0))
    shape = (1, batch, 2 * settings.half_length + 1, net.size, net.size, net.image_channels)
    windows = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    keep = types.SimpleNamespace(state=jax.device_put(state))

    def step():
        keep.state, losses = update(keep.state, windows)  # the state is donated
        return losses

    work, loss = cost.training_step(net, settings.half_length)
    return fastest(step), lambda rates: batch * (work / rates.backward + loss / rates.simple)


def batch_of(config, frames, people: int, length: int) -> batching.Batch:
    """People of equal length: the first four fifths of the rows are fitted, the others held back."""
    n = config.rank_loss.half_length
    centres = np.arange(n, length - n)
    windows = (centres[:, None] + np.arange(-n, n + 1)).astype(np.int32)
    cut = int(0.8 * len(windows))
    rows = [
        batching.Rows(np.stack([own] * people), np.zeros((people, len(own)), np.int32), np.full(people, len(own), np.int32))
        for own in (windows[:cut], windows[cut:])
    ]
    return batching.Batch(frames, *rows)


def in_closed_form(config, net, people: int, length: int):
    """The same of encoding a block of frames and, second, of solving for some people."""
    sites, mesh = closed_form.sites_of(config), batching.people_mesh()
    names, rank = tuple(site.name for site in sites), config.fit.rank
    random, block = np.random.default_rng(0), closed_form.encode_frames(config)
    sizes = [np.prod(cost.site_shape(net, name) + (cost.site_shape(net, name)[0],)) for name in names]
    basis = tuple(random.standard_normal((size, rank), np.float32) / np.sqrt(size) for size in sizes)
    params = unet.init(common.unet(config), jax.random.key(0), net.size)
    frames = random.integers(0, 256, (block, net.size, net.size, net.image_channels), np.uint8)
    encode = closed_form.compile_encode(config, sites, mesh)
    work = block * cost.states(net, names, rank)
    encoding = fastest(encode, params, basis, frames), lambda rates: work / rates.forward
    states = random.standard_normal((people, length, len(sites), rank), np.float32).cumsum(1)
    batch = batch_of(config, states, people, length)
    nothing = np.zeros((len(sites), 2, rank, rank), np.float32)
    own = closed_form.Shared({}, (), nothing, np.full(len(sites), 100.0, np.float32), nothing)
    fit, rows = closed_form.make_fit(config, sites, mesh), batch.shape.rows + batch.shape.held_rows
    solving = fastest(lambda: fit(own, batch).loss)
    return encoding, (solving, lambda rates: 2 * people * cost.solve(rows, len(sites), rank) / rates.small)


def with_adam(config, net, length: int):
    """The same of a step of Adam for one person."""
    c = config.fit
    p, mesh = iterative.problem(config), batching.people_mesh()
    steps, n = iterative.compile_steps(config, p, mesh), config.rank_loss.half_length
    frames = np.random.default_rng(0).integers(0, 256, (1, length, net.size, net.size, net.image_channels), np.uint8)
    some = batch_of(config, frames, 1, length)
    units = iterative.fit.Units(frames, some.fitted.windows, some.fitted.count)
    features = steps.no_features(iterative._feature_shapes(config, p, 1, some.shape.rows))
    keep = types.SimpleNamespace(carry=steps.start(1, some.shape.rows))
    draws = p.solver.draws(jax.random.key(0))
    params = unet.init(common.unet(config), jax.random.key(0), net.size)

    def step():
        keep.carry = steps.advance(params, keep.carry, units._replace(features=features), draws, 0, 1)
        return keep.carry.filters

    work = cost.fit_step(net, n, tuple(site.name for site in p.sites), c.filter_kind, kept=True)
    return fastest(
        step
    ), lambda rates: c.batch_size * sum(flop / rate for flop, rate in zip(work, (rates.forward, rates.backward, rates.simple)))


def mean_rates(before, after):
    return type(before)(*(type(a)(np.sqrt(a * b)) for a, b in zip(before, after)))


def measure(a, size: int) -> list[dict]:
    """A row for each piece: seconds measured and predicted, and their ratio."""
    config, net, rows = settings(size), plan.network(settings(size)), []
    cases = {
        "pretraining step": (config, lambda: [training(config, net)]),
        "frames into states; closed form": (config, lambda: in_closed_form(config, net, a.people, a.frames)),
        "step of Adam, one person": (of_adam(size), lambda: [with_adam(of_adam(size), net, a.frames)]),
    }
    for case, (own, piece) in cases.items():
        log(f"size {size}: {case}")
        before = calibration.measure(own, net)
        found = piece()
        rates = mean_rates(before, calibration.measure(own, net))
        for name, (seconds, predict) in zip(case.split("; "), found):
            figures = dict(seconds=seconds, predicted=predict(rates), ratio=predict(rates) / seconds, load=os.getloadavg()[0])
            rows.append(dict(size=size, piece=name) | figures | dict(gflop_per_s=rates.forward / 1e9))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=[32, 64, 112])
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--frames", type=int, default=96, help="of each person")
    parser.add_argument("--out", default="", help="JSON file for the figures")
    a = parser.parse_args()
    calibration.SECONDS = 0.6  # of each measurement, of predictions and of pieces alike
    found, rows = machine(), []
    print(", ".join(f"{k} {v}" for k, v in found.items()))
    for size in a.size:
        for row in measure(a, size):
            rows.append(row)
            print(
                "{size}: {piece}: {seconds:.4f} s, predicted {predicted:.4f} ({ratio:.2f}), load {load:.1f}".format(**row),
                flush=True,
            )
    if a.out:
        with open(a.out, "w") as file:
            json.dump({"machine": found, "settings": vars(a), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
