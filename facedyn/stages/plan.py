"""Stage `plan`: settings, people and seconds of video -> what each stage takes, before anything runs.

FLOP and bytes come from core/cost.py and from the fit's own rules. The rates of this machine's CPU are measured in a few
seconds; those of accelerators are the makers' peaks by a share that has not been measured. Reads no frame and writes nothing.
"""

import pathlib
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_pipelines.errors import InputError
from data_pipelines.manifest import read_manifest
from facedyn.core import cost
from facedyn.core.cost import Network, Rates, Stage
from facedyn.stages.fit import batching, closed_form, learning, shared, swapped
from facedyn.stages.runtime import calibration, common

# Peak FLOP/s with bfloat16 and with float32 as JAX multiplies by default, and bytes: the makers' data sheets, dense.
DEVICES = {
    "l4": (121e12, 60e12, 24e9),
    "a100": (312e12, 156e12, 80e9),
    "h100": (989e12, 495e12, 80e9),
    "h200": (989e12, 495e12, 141e9),
    "tpu-v4": (275e12, 275e12, 32e9),
    "tpu-v5e": (197e12, 197e12, 16e9),
    "tpu-v5p": (459e12, 459e12, 95e9),
    "tpu-v6e": (918e12, 918e12, 32e9),
}
SHARE = 0.35  # of the peak that is taken to be reached in convolutions: a goal, not yet measured
HOST_CORES, HOST_BYTES = 8, 128e9  # of an accelerator's host, for each device; bytes of the host
HOST_CORE = dict(products=40e9, frames=4000.0)  # of one of its cores: FLOP/s of products, decoded 112-pixel faces a second
# Seconds of a core for each frame of video, by detector: 720p as `prepare` does it (benchmarks/RESULTS.md).
PREPARE_SECONDS = {"yunet": 0.018, "haar": 0.029}
MADE_SECONDS = 0.8e-3  # of a synthetic or an aligned frame
PROCESS_BYTES, WORKER_BYTES = 0.6e9, 0.2e9  # of a process with JAX; of one that decodes videos
FRAME_RATE = 25.0


class Material(NamedTuple):
    """What is computed on: people who are fitted and scored, seconds of video of each, people of the generic model."""

    people: int
    seconds: float
    pool: int


def run(config, people: str | None = None, seconds: str | None = None, device: str | None = None) -> list[Stage]:
    """Prints a table with a row each stage and returns the rows. Raises InputError where it cannot tell how much there is."""
    material = _material(config, people, seconds)
    name = device or "cpu"
    if name not in ("cpu", *DEVICES):
        raise InputError(f"--device={name} is not known; it may be cpu, {', '.join(DEVICES)}.")
    net = network(config)
    rates = calibration.measure(config, net) if name == "cpu" else tabulated(config, name)
    stages = [f(config, material, net, rates) for f in (prepare, pretrain, fit, traits)]
    _show(stages, material, name, rates)
    return stages


def network(config) -> Network:
    """The U-net of the settings, as numbers."""
    model = common.unet(config)
    size = config.data.image_size
    return Network(size, model.channels, model.image_channels, model.maps, 2 if config.model.dtype == "bfloat16" else 4)


def tabulated(config, device: str) -> Rates:
    """What one accelerator of this name is taken to reach."""
    brief, full, memory = DEVICES[device]
    peak = SHARE * (brief if config.model.dtype == "bfloat16" else full)
    frames = HOST_CORE["frames"] * HOST_CORES * (112 / config.data.image_size) ** 2
    return Rates(
        peak, peak, peak / 20, peak / 20, HOST_CORE["products"] * HOST_CORES, frames, memory, HOST_BYTES, 1, HOST_CORES
    )


def prepare(config, material: Material, net: Network, rates: Rates) -> Stage:
    """Videos -> faces, on the host."""
    detector = config.data.detector if config.data.detector != "auto" else "yunet" if config.data.yunet_model else "haar"
    of_frame = MADE_SECONDS if config.data.dataset == "synthetic" else PREPARE_SECONDS[detector]
    workers = config.data.workers or rates.cores
    seconds = (material.people + material.pool) * frames_of(config, material) * of_frame / workers
    return Stage("prepare", seconds, 0.0, 1.0, PROCESS_BYTES + workers * WORKER_BYTES, 0.0)


def pretrain(config, material: Material, net: Network, rates: Rates) -> Stage:
    """The generic model of every scale."""
    c, n = config.pretrain, config.rank_loss.half_length
    unet, loss = cost.training_step(net, n)
    windows = c.steps * c.batch_size * len(config.rank_loss.scales)
    judged = len(config.rank_loss.scales) * -(-c.steps // c.eval_every) * c.eval_windows * max(1, material.pool // 5)
    forward = cost.encoder(net) + cost.decoder(net)
    compute = windows * (unet / rates.backward + loss / rates.simple) + judged * forward / rates.forward
    loading = (windows + judged) * (2 * n + 1) / rates.frames
    # On CPU who decodes takes the cores of who computes.
    seconds = compute + loading if rates.on_host else max(compute, loading)
    of_batch = c.batch_size // rates.devices
    inputs = 4 * 3 * of_batch * (2 * n + 1) * net.pixels
    device = cost.activations(net, of_batch, gradients=True) + inputs
    passes = windows / max(1.0, material.pool * frames_of(config, material))
    return Stage("pretrain", seconds, windows * (unet + loss) + judged * forward, passes, PROCESS_BYTES + inputs, device)


def fit(config, material: Material, net: Network, rates: Rates) -> Stage:
    """The filters of everyone, at every scale, with halves and controls."""
    fitting, sites = shared.make_fitting(config), tuple(site.name for site in closed_form.sites_of(config))
    seconds = flop = passes = device = host = 0.0
    parts = 1 + 2 * config.fit.split_half * 0.5  # a half has half of the rows
    for scale in common.scales(config):
        shape = shape_of(config, material, scale)
        of_scale = _closed_form if shared.is_closed_form(config) else _iterative
        own = of_scale(config, material, net, rates, shape, sites, parts)
        seconds, flop, passes = seconds + own[0], flop + own[1], passes + own[2]
        memory = config.fit.memory_gb * 2**30 or batching.MEMORY_SHARE * rates.memory
        unit = fitting.unit_bytes(shape), fitting.host_bytes(shape)
        chunk = config.fit.chunk_size or cost.chunk(*unit, memory, batching.HOST_SHARE * rates.host_memory, rates.devices)
        chunk = min(chunk, material.people, batching.CPU_CHUNK if rates.on_host else chunk)
        device, host = max(device, chunk * unit[0]), max(host, PROCESS_BYTES + chunk * rates.devices * unit[1])
    encoded = closed_form.encode_frames(config) if rates.on_host else closed_form.ENCODE_FRAMES
    device += cost.activations(net, encoded, gradients=False)
    if shared.is_closed_form(config):
        host += min(learning.BASIS_BYTES, 4.0 * learning.BASIS_FRAMES * net.size**2 * net.channels[0])
    return Stage("fit", seconds, flop, passes, host, device)


def _closed_form(config, material, net, rates, shape, sites, parts) -> tuple[float, float, float]:
    """(seconds, FLOP, passes over the frames) of a scale."""
    controls = config.fit.controls
    passes = 1 + (shared.UNTRAINED in controls) + parts * (swapped.NAME in controls)
    frames = material.people * shape.frames * passes + material.pool * shape.frames * (1 + (shared.UNTRAINED in controls))
    encode = frames * cost.states(net, sites, config.fit.rank)
    solved = (material.people * parts * (1 + len(controls)) + material.pool) * 2
    solve = solved * cost.solve(shape.rows + shape.held_rows, len(sites), config.fit.rank)
    return encode / rates.forward + solve / rates.small + frames / rates.frames, encode + solve, passes


def _iterative(config, material, net, rates, shape, sites, parts) -> tuple[float, float, float]:
    """The same of a fit through the decoder."""
    c, n = config.fit, config.rank_loss.half_length
    fits = material.people * (1 + len(c.controls))
    kept = c.solver == "adam"
    rows = c.steps * c.batch_size if kept else shape.rows
    step = cost.fit_step(net, n, sites, c.filter_kind, kept)
    times = 1 + 2 * config.fit.split_half if kept else parts  # Adam takes as many steps on a half
    encode = fits * parts * shape.rows * cost.encoder(net) * kept
    judged = fits * (1 + 2 * config.fit.split_half) * 2 * shape.held_rows * (cost.encoder(net) + cost.decoder(net))
    forward, backward, losses = (fits * times * rows * work for work in step)
    load = fits / (1 + len(c.controls)) * shape.frames / rates.frames
    forward += encode + judged
    seconds = forward / rates.forward + backward / rates.backward + losses / rates.simple + load
    return seconds, forward + backward + losses, 1.0


def traits(config, material: Material, net: Network, rates: Rates) -> Stage:
    """Heads and permuted labels on the headline's features, the ridge on every feature set; no baselines on pixels."""
    bands = shared.features(config).bands
    n, width = material.people, len(bands)
    scales, folds = len(config.rank_loss.scales), min(config.traits.folds, material.people) * len(config.traits.seeds)
    penalties, inner = len(config.traits.penalties), config.traits.inner_folds
    flop = 0.0
    if "banded_ridge" in config.traits.heads:
        flop += 2 * cost.gram(n, width * scales, folds, max(1, len(config.data.traits)))
        flop += cost.gram(n, width * scales, folds, config.traits.permutations * max(1, len(config.data.traits)))
    if "ridge" in config.traits.heads:
        sets = [scales] * (scales > 1) + [1] * scales
        flop += sum(cost.gram(n, width * k, folds, inner * penalties * 0.5) for k in sets)
    kernels = scales * (int(bands.max()) + 1)
    host = PROCESS_BYTES + 4.0 * n * width * scales * 2 + (4.0 * kernels + 6 * 8) * n**2
    return Stage("traits", flop / rates.products, flop, 0.0, host, 0.0)


def frames_of(config, material: Material) -> float:
    """Frames of a person."""
    return material.seconds * (config.data.fps or FRAME_RATE)


def shape_of(config, material: Material, scale: int) -> batching.Shape:
    """Rows and frames of a person at a scale."""
    n, c, frames = config.rank_loss.half_length, config.fit, int(frames_of(config, material))
    usable = max(1, frames - 2 * n * scale)
    rows = min(c.max_frames, max(1, round((1 - c.held_back) * usable)))
    held = max(1, min(c.max_frames // 4, round(c.held_back * usable)))
    return batching.Shape(rows, held, max(1, min(frames, (rows + held) * (2 * n + 1))))


def _material(config, people, seconds) -> Material:
    """From the options, the synthetic faces' settings or the manifest."""
    count, length = _number(people, "people"), _number(seconds, "seconds")
    made = config.data.synthetic
    if config.data.dataset == "synthetic" and not (count and length):
        clips = len(made.tasks) * made.clips_per_task
        length = length or clips * sum(made.frames) / 2 / FRAME_RATE
        return Material(int(count or max(1, made.people)), length, made.pretrain_people)
    if not count and config.data.manifest and pathlib.Path(config.data.manifest).expanduser().is_file():
        count = len({entry.person_id for entry in read_manifest(config.data.manifest)})
    for value, name, example in ((count, "people", 200), (length, "seconds", 30)):
        if not value:
            raise InputError(f"How much there is, neither settings nor manifest say: add --{name}={example}.")
    pool = round(config.data.split_fractions[0] * count)
    return Material(int(count), length, pool)


def _number(text, name: str) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12 or (text and not value):
        raise InputError(f"--{name}={text} must be a positive number.")
    return value


def duration(seconds: float) -> str:
    """In the unit that a reader would choose.

    >>> duration(0.5), duration(75), duration(7200), duration(4e5), duration(4e7)
    ('0.5 s', '75 s', '120 min', '4.6 days', '463 days')
    """
    for limit, unit, name in ((100, 1, "s"), (7201, 60, "min"), (172_800, 3600, "hours")):
        if seconds < limit:
            return f"{seconds / unit:.2g} {name}" if seconds / unit < 10 else f"{seconds / unit:.0f} {name}"
    days = seconds / 86_400
    return f"{days:.2g} days" if days < 10 else f"{days:,.0f} days"


def _show(stages, material: Material, device: str, rates: Rates) -> None:
    table = Table(box=SIMPLE_HEAD)
    for column in ("stage", "time", "TFLOP", "times every frame is read", "host memory", "device memory"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for s in stages:
        sizes = (f"{b / 2**30:.1f} GiB" if b else "" for b in (s.host_bytes, s.device_bytes))
        cells = (
            s.name,
            duration(s.seconds),
            f"{s.flop / 1e12:.3g}" if s.flop else "",
            f"{s.passes:.3g}" if s.passes else "",
            *sizes,
        )
        table.add_row(*map(Text, cells))
    Console(highlight=False).print(table)
    total = duration(sum(s.seconds for s in stages))
    print(f"plan: {material.people} people, {material.seconds:g} s of video each; together {total} on {device}")
    how = "its rates were just measured" if device == "cpu" else f"taken at {SHARE:.0%} of its peak, which was not measured"
    print("plan: without compiling, seconds to a minute a stage at the first run, and without baselines on pixels")
    print(f"plan: {device}: {rates.forward / 1e9:.3g} GFLOP/s in the U-net, {rates.backward / 1e9:.3g} with gradients; {how}")
