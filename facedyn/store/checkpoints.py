"""Checkpoints through Orbax; the only module that knows its API.

Two uses: a training run's series of steps (`open_series`) and one finished pytree (`save_pytree`, `load_pytree`). Orbax
writes under a temporary name and renames, so a checkpoint that can be seen is whole.
"""

import pathlib
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp

from data_pipelines.errors import InputError


class Series:
    """Checkpoints of one training run under `directory`, one a step; the newest `keep` and the best stay.

    Args:
      directory: made when absent.
      keep: how many to keep besides the best.
      metric: name of the metric, larger is better, by which the best is chosen.
    """

    def __init__(self, directory, keep: int = 1, metric: str = "ranking_accuracy"):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep + 1,
            best_fn=lambda metrics: metrics[metric],
            best_mode="max",
            keep_checkpoints_without_metrics=False,
            enable_async_checkpointing=False,
        )
        self._manager = ocp.CheckpointManager(pathlib.Path(directory).absolute(), options=options)

    def save(self, step: int, tree, metrics: dict) -> None:
        """Writes `tree` as the checkpoint of `step`, unless there is one."""
        if step in self._manager.all_steps():
            return
        self._manager.save(step, args=ocp.args.StandardSave(tree), metrics=metrics)

    def latest_step(self) -> int | None:
        """The newest step, or None."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step with the largest metric, or None."""
        return self._manager.best_step()

    def restore(self, step: int, like):
        """The tree of `step`; `like` gives structure, shapes, types and shardings."""
        return self._manager.restore(step, args=ocp.args.StandardRestore(like))

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()


def save_pytree(path, tree) -> None:
    """Writes one pytree of arrays to the folder `path`, replacing what is there."""
    path = pathlib.Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, jax.tree.map(np.asarray, tree), force=True)


def load_pytree(path, like=None):
    """The pytree in the folder `path`, as numpy arrays; `like` gives the structure, without it nested dicts come back.

    Raises InputError when there is none, or its shapes are not those of `like`.
    """
    path = pathlib.Path(path).absolute()
    if not path.is_dir():
        raise InputError(f"There is no checkpoint at {path}; run the stage that makes it first.")
    abstract = None if like is None else jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path, abstract)
    except (ValueError, KeyError) as error:
        raise InputError(
            f"The checkpoint at {path} was made with other settings (model or shapes); use them, or another one."
        ) from error


def remove(path) -> None:
    """Deletes a checkpoint folder, if it is there."""
    shutil.rmtree(path, ignore_errors=True)
