"""Learns the generic model of every scale: how any face moves, from one frame, by the rank loss.

The batch is split over the mesh axis `data`, all devices of all processes; parameters are on every device. After every
`eval_every` steps: ranking accuracy on validation people, a checkpoint, and the decision to stop early. The best step
becomes the generic model.
"""

import functools
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from data_pipelines.dataset.loaders import window_loader
from data_pipelines.errors import InputError
from data_pipelines.progress import Progress
from facedyn.core import unet
from facedyn.core.metrics import bootstrap_mean
from facedyn.core.rank_loss import copied_input, dynamic_image, rank_loss, ranking_accuracy
from facedyn.stages.held_out import HeldOut
from facedyn.stages.runtime import common, compilation_cache, keys, processes
from facedyn.stages.runtime.stopping import Stopped, finishing
from facedyn.store import checkpoints, portable, scores
from facedyn.store.metrics_log import MetricsLog


def run(config, workdir) -> dict:
    """Trains what is not there yet; returns a summary with the people of the pool."""
    face_clips = common.open_data(common.pretrain_data_dir(config, workdir), config)
    training = common.records_of(face_clips, config.pretrain.splits)
    splits = {clip.split for clip in face_clips.clips}
    validation = common.records_of(face_clips, ("validation",)) if "validation" in splits else []
    pool = sorted({face_clips.clips[i].person_id for i in training})
    # Figures are quoted on people who served neither training nor stopping, where there are any.
    # The learning curve is of the validation people, whose controls are therefore measured too.
    test = common.records_of(face_clips, ("test",)) if "test" in splits - set(config.pretrain.splits) else []
    held_out = {split: records for split, records in (("test", test), ("validation", validation)) if records}
    strangers = {face_clips.clips[i].person_id for i in (*validation, *test)}
    if not validation or strangers & set(pool):
        raise InputError(
            "Pretraining needs a split `validation`, of other people than "
            f"config.pretrain.splits={tuple(config.pretrain.splits)}: "
            "set config.data.split_fractions, or the manifest's column split."
        )
    rows, steps = [], {}
    compiled = Compiled(config)
    for scale in common.scales(config):
        params, steps[scale] = _pretrain_scale(config, workdir, face_clips, training, validation, scale, compiled)
        for split, records in held_out.items():
            rows += _controls(config, params, face_clips, records, split, scale, compiled)
    processes.on_main_process(lambda: scores.replace_scores(workdir, "pretrain", rows))
    clips = len({face_clips.clips[i].clip_id for i in training})
    stopped_by = sorted({face_clips.clips[i].person_id for i in validation})
    return {"people": pool, "validation_people": stopped_by, "clips": clips, "steps": steps}


def load_generic(config, workdir, scale: int):
    """The finished generic model of a scale: parameters, as numpy arrays."""
    return checkpoints.load_pytree(common.generic_dir(workdir, scale) / "best", common.parameter_shapes(config))


# {control: (windows, settings) -> its dynamic representations}.
CONTROL_MAPS = {
    "zero_map": lambda w, settings: jnp.zeros((len(w), settings.maps, *w.shape[2:])),
    "copy_input": copied_input,
    "oracle_dynamic_image": dynamic_image,
}


# Functions of the module, and made once for equal settings: what one run has compiled, the next in the same process has, too.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _model_accuracy(model, settings, p, w):
    return ranking_accuracy(model.apply(p, w[:, settings.half_length]), w, settings)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _control_accuracy(maps_of, settings, p, w):
    return ranking_accuracy(maps_of(w, settings), w, settings)


@functools.lru_cache(maxsize=8)
def make_transform(learning_rate: float, warmup: int, steps: int) -> optax.GradientTransformation:
    """Adam, whose learning rate rises for `warmup` of the `steps` and then falls by a cosine."""
    return optax.adam(optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, steps))


class Compiled:
    """What is compiled once for all scales: the update, and the ranking accuracy of every method, (params, windows) -> [B]."""

    def __init__(self, config):
        c, self.settings, self.model = config.pretrain, common.rank_loss_settings(config), common.unet(config)
        self.mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("data",))
        self.transform = make_transform(c.learning_rate, min(c.warmup_steps, c.steps // 2), max(1, c.steps))
        self.calls = common.steps_per_call(c.steps_per_call)
        self.update = make_step(self.model, self.settings, self.transform, self.mesh)
        self.model_accuracy = functools.partial(_model_accuracy, self.model, self.settings)
        self.control_accuracy = {
            method: functools.partial(_control_accuracy, maps_of, self.settings) for method, maps_of in CONTROL_MAPS.items()
        }


def _controls(config, params, face_clips, records, split: str, scale: int, compiled: Compiled) -> list[dict]:
    """Score rows: the generic model beside the four controls, on the people of a split."""
    held_out = HeldOut(face_clips, records, scale, compiled.settings.half_length, config.pretrain.eval_windows)
    untrained = unet.init(compiled.model, jax.random.key(config.seed + 1), config.data.image_size)
    methods = {"generic": (compiled.model_accuracy, params), "untrained": (compiled.model_accuracy, untrained)}
    methods |= {method: (measure, None) for method, measure in compiled.control_accuracy.items()}
    rows = []
    for method, values in zip(methods, held_out.accuracies(list(methods.values()))):
        value, low, high = bootstrap_mean(values, keys.key(config.seed, "pretrain_intervals"), config.traits.bootstrap)
        row = dict(method=method, scales=str(scale), split=split, metric="ranking_accuracy", n=len(values))
        rows.append(row | dict(value=float(value), low=float(low), high=float(high)))
    return rows


def steps_of_call(step: int, most: int, eval_every: int, steps: int) -> int:
    """How many steps the next call takes: `most`, but never beyond the next evaluation or the end.

    So evaluations, checkpoints and the last step are where they are with one step a call; three lengths at most are compiled.

    >>> [steps_of_call(step, 3, 4, 10) for step in (0, 3, 4, 7, 8)]
    [3, 1, 3, 1, 2]
    """
    return min(most, eval_every - step % eval_every, steps - step)


@functools.lru_cache(maxsize=8)
def make_step(model, settings, transform, mesh):
    """The compiled update: (state, windows [S, B, 2n+1, H, W, C]) -> (state, losses [S]), S steps on all devices of `mesh`.

    The state is donated.
    """

    def one(state, windows):
        def objective(params):
            return rank_loss(model.apply(params, windows[:, settings.half_length]), windows, settings).mean()

        loss, gradient = jax.value_and_grad(objective)(state["params"])
        updates, opt_state = transform.update(gradient, state["opt_state"], state["params"])
        state = state | {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}
        return state | {"step": state["step"] + 1}, loss

    def many(state, windows):
        if len(windows) == 1:
            state, loss = one(state, windows[0])
            return state, loss[None]
        return jax.lax.scan(one, state, windows)

    return jax.jit(many, donate_argnums=0, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _start_params(config, model, scale: int):
    """The parameters that pretraining starts from: random, or those of config.pretrain.init_from, a file or a folder."""
    params = unet.init(model, jax.random.fold_in(jax.random.key(config.seed), scale), config.data.image_size)
    if not config.pretrain.init_from:
        return params
    place = pathlib.Path(config.pretrain.init_from).expanduser()
    if place.suffix == portable.SUFFIX:
        return portable.read_generic(place, config, params, scale)
    return checkpoints.load_pytree(place / f"scale_{scale}" / "best", params)


def _replicated_state(params, transform, replicated) -> dict:
    """What a checkpoint holds at step 0, on all devices."""
    state = {"params": params, "opt_state": transform.init(params), "step": jnp.zeros((), jnp.int32)}
    state |= {"best": jnp.zeros(()), "since_best": jnp.zeros((), jnp.int32)}
    return _replicated(state, replicated)


def _replicated(tree, replicated):
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(replicated, np.asarray(x)), tree)


def _batches(config, face_clips, training, scale: int, start_step: int):
    """This process's windows, batch by batch."""
    return window_loader(
        face_clips,
        training,
        scale=scale,
        half_length=config.rank_loss.half_length,
        batch_size=config.pretrain.batch_size // jax.process_count(),
        seed=config.seed,
        start_step=start_step,
        threads=config.pretrain.loader_threads,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _finite_mean(losses, scale: int, step: int) -> float:
    mean = float(np.mean(np.concatenate([np.asarray(x) for x in losses])))
    if not np.isfinite(mean):
        raise InputError(f"Pretraining of scale {scale} diverged before step {step}: lower config.pretrain.learning_rate.")
    return mean


def _latest(series, state: dict, log: MetricsLog | None, scale: int) -> dict:
    """The state that a run of before has left, or `state` where there is none; the log goes back to it."""
    latest = series.latest_step()
    if latest is not None:
        state = series.restore(latest, state)
        processes.log(f"pretrain: scale {scale} continues from step {latest}")
    if log:
        log.rewind(latest or 0)
    return state


def _save_best(directory, params, log: MetricsLog | None = None):
    """Keeps the parameters of the best step, and ends the log."""
    if processes.is_first():
        if log:
            log.close()
        checkpoints.save_pytree(directory / "best", params)


def _best_params(series, state):
    best_step = series.best_step()
    assert best_step is not None, "Every evaluation is saved, and the last step is one"
    return jax.tree.map(np.asarray, series.restore(best_step, state)["params"])


def _say_size(config, params, scale: int, validation_people: int) -> None:
    c, size = config.pretrain, f"{sum(x.size for x in jax.tree.leaves(params)):,} parameters"
    work = f"{c.steps} steps of {c.batch_size} windows"
    processes.log(f"pretrain: scale {scale}, {size}, {work}, {validation_people} validation people")


def _pretrain_scale(config, workdir, face_clips, training, validation, scale: int, compiled: Compiled):
    """(parameters of the best step, steps taken) of one scale; picks up a run that was broken off."""
    c, directory = config.pretrain, common.generic_dir(workdir, scale)
    if (directory / "best").is_dir():
        processes.log(f"pretrain: the generic model of scale {scale} exists already")
        return load_generic(config, workdir, scale), "done before"
    mesh = compiled.mesh
    if c.batch_size % mesh.size:
        raise InputError(f"config.pretrain.batch_size={c.batch_size} must be a multiple of the {mesh.size} devices.")
    replicated, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, "data"))
    params = _start_params(config, compiled.model, scale)
    if not c.steps:
        _save_best(directory, params)
        return params, 0
    series = checkpoints.Series(directory / "steps")
    log = MetricsLog(workdir, config.tensorboard, stage="pretrain", scale=scale) if processes.is_first() else None
    state = _latest(series, _replicated_state(params, compiled.transform, replicated), log, scale)
    progressed = {name: state.pop(name) for name in ("best", "since_best")}
    best, since_best, step = float(progressed["best"]), int(progressed["since_best"]), int(state["step"])

    held_out = HeldOut(face_clips, validation, scale, compiled.settings.half_length, c.eval_windows)
    batches = _batches(config, face_clips, training, scale, step)
    _say_size(config, params, scale, len(held_out.people))

    def save(metrics=None):
        more = _replicated({"best": np.float32(best), "since_best": np.int32(since_best)}, replicated)
        series.save(step, state | more, metrics)

    compilation_cache.say_first_use("pretrain")
    losses, stop = [], processes.Vote(mesh)
    with (
        finishing() as asked,
        Progress(f"pretrain scale {scale}", c.steps, "steps", step, processes.progress_stream()) as progress,
    ):
        while step < c.steps and since_best < c.patience:
            if stop(asked()):
                save()
                raise Stopped
            taken = steps_of_call(step, compiled.calls, c.eval_every, c.steps)
            stack = np.stack([b["windows"] for b in itertools.islice(batches, taken)])
            windows = jax.make_array_from_process_local_data(split, stack)
            with jax.transfer_guard("disallow"):  # a step waits for nothing that passes between host and device unseen
                state, of_call = compiled.update(state, windows)
            losses.append(of_call)
            step += taken
            progress.advance(taken)
            if step % c.eval_every and step < c.steps:
                continue
            mean_loss = _finite_mean(losses, scale, step)
            losses.clear()
            accuracy = float(held_out.accuracies([(compiled.model_accuracy, state["params"])])[0].mean())
            best, since_best = (accuracy, 0) if accuracy > best else (best, since_best + 1)
            if log:
                log.write(step, loss=mean_loss, ranking_accuracy=accuracy)
            progress.advance(0, f"loss {mean_loss:.3f}, ranking accuracy {accuracy:.3f} on validation people")
            save({"ranking_accuracy": accuracy})
    params = _best_params(series, state | progressed)
    series.close()
    _save_best(directory, params, log)
    return params, step
