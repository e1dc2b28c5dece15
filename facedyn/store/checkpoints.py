"""Checkpoints through Orbax; the only module that knows its API.

Two uses: a training run's series of steps (`Series`, used by all processes together) and one finished pytree (`save_pytree`,
`load_pytree`, by each process for itself). Orbax writes under a temporary name and renames, so a checkpoint that can be
seen is whole.
"""

import contextlib
import math
import operator
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from data_pipelines import bounded
from data_pipelines.errors import InputError

METRIC = "ranking_accuracy"
# What a damaged or foreign checkpoint makes Orbax raise.
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, FileNotFoundError)


class Series:
    """Checkpoints of one training run under `directory`, one per step; the newest `keep` and the best stay.

    Every process makes one and calls its methods in step with the others.

    Args:
      directory: made when absent.
      keep: how many to keep besides the best, which is the one with the largest METRIC.
    """

    def __init__(self, directory, keep: int = 1):
        policies, measure = ocp.checkpoint_managers, operator.itemgetter(METRIC)
        newest = policies.LatestN(n=keep)
        best = policies.BestN(get_metric_fn=measure, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=measure,
            best_mode="max",
            preservation_policy=policies.AnyPreservationPolicy([newest, best]),
            cleanup_tmp_directories=True,  # of a run that was killed
            enable_async_checkpointing=False,
        )
        self._directory = pathlib.Path(directory).absolute()
        # It reads the metrics of all steps.
        with _told(f"A checkpoint in {self._directory} is damaged: delete that folder, and the scale is trained again."):
            self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, step: int, tree, metrics: dict | None = None) -> None:
        """Writes `tree` as the checkpoint of `step`, unless there is one; without metrics it counts as the worst."""
        if step in self._manager.all_steps():
            return
        self._manager.save(step, args=ocp.args.StandardSave(tree), metrics=metrics or {METRIC: -math.inf})

    def latest_step(self) -> int | None:
        """The newest step, or None."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step with the largest metric, or None."""
        return self._manager.best_step()

    def restore(self, step: int, like) -> Any:
        """The tree of `step`; `like` gives structure, shapes, types and shardings. Raises InputError where it is damaged."""
        path = self._directory / str(step)
        with _told(f"The checkpoint at {path} is damaged, or of other settings: delete that folder, and training goes on."):
            _check_size(path / "default")
            return self._manager.restore(step, args=ocp.args.StandardRestore(like))

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()


@contextlib.contextmanager
def _told(sentence: str):
    """Turns what a damaged checkpoint makes Orbax raise into an InputError of this sentence."""
    try:
        yield
    except bounded.TooLarge:
        raise
    except DAMAGED as error:
        raise InputError(sentence) from error


def _check_size(path) -> None:
    """Raises TooLarge where a checkpoint asks for more memory than its files can be meant to take.

    Told before it is read: the libraries take what the files ask for, and end the process where there is not so much.
    """
    arrays = jax.tree.leaves(ocp.StandardCheckpointHandler().metadata(epath.Path(path)).tree)
    bounded.check_unpacked(path, sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in arrays))


def _alone() -> ocp.StandardCheckpointer:
    """A checkpointer that waits for no other process."""
    me = jax.process_index()
    return ocp.StandardCheckpointer(multiprocessing_options=ocp.options.MultiprocessingOptions(me, active_processes={me}))


def save_pytree(path, tree) -> None:
    """Writes one pytree of arrays to the folder `path`, replacing what is there; of several processes one does.

    A kill leaves the new one, the old one or none, never a part of one.
    """
    path = pathlib.Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.with_name(f"{path.name}.old")
    for left in (old, *path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*")):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    if path.is_dir():
        path.rename(old)
    with _alone() as checkpointer:
        checkpointer.save(path, jax.tree.map(np.asarray, tree))
    shutil.rmtree(old, ignore_errors=True)


def load_pytree(path, like=None):
    """The pytree in the folder `path`, as numpy arrays; `like` gives the structure, without it nested dicts come back.

    Raises InputError when there is none, its shapes are not those of `like`, or it asks for far more memory than its size.
    """
    path = pathlib.Path(path).absolute()
    if not path.is_dir():
        raise InputError(f"There is no checkpoint at {path}; run the stage that makes it first.")
    abstract = None if like is None else jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    with _told(f"The checkpoint at {path} was made with other settings (model or shapes); use them, or another one."):
        _check_size(path)
        with _alone() as checkpointer:
            return checkpointer.restore(path, abstract)
