"""Several processes, on one machine or many, that work on one WORKDIR: who does what, and how they wait for each other.

All of them see the same files (a shared file system is taken for granted). With one process every function here does
the plain thing. Messages go through JAX's coordination service, not through the devices: a wait may last for hours,
can be interrupted, and ends when another process does.
"""

import contextlib
import io
import itertools
import json
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import distributed  # the service has no public name
from jax.sharding import NamedSharding, PartitionSpec

from data_pipelines import progress
from data_pipelines.errors import InputError
from facedyn.settings_rules import address as check
from facedyn.stages.runtime import messages, stopping

# A process that fails leaves others in the midst of a computation; after so long they are ended as well.
SHUTDOWN_SECONDS = 30
# A process that was asked to stop waits so long for the others to leave too: one that compiles notices after compiling.
STOPPING_SECONDS = 300
POLL_SECONDS = 0.05
ENDED, LEFT = "facedyn/ended", "facedyn/left"
STOPPED, FAILED = "stopped", "failed"

_numbers = itertools.count()


class Shard(NamedTuple):
    """Which of how many processes that know nothing of each other: index from 0."""

    index: int
    count: int


_shards: list[Shard] = []  # the one that this process is within `as_shard`


@contextlib.contextmanager
def as_shard(one: Shard):
    """Within the block this process has that share of the people, and writes files of its own."""
    _shards.append(one)
    try:
        yield
    finally:
        _shards.pop()


def shard() -> Shard | None:
    """The one that this process is; None where it is none."""
    return _shards[-1] if _shards else None


@contextlib.contextmanager
def session(settings):
    """Joins the processes of `config.distributed`; when this one ends early in the block, the others get to know.

    Must come before anything that touches a device. Raises InputError for wrong settings, or when they do not meet.
    """
    _join(check(settings))
    if jax.process_count() == 1:
        yield
        return
    end = FAILED
    try:
        yield
        end = ""
    except InputError as error:
        end = str(error)
        raise
    except stopping.Stopped:
        end = STOPPED
        raise
    finally:
        if end:
            _exchange().key_value_set(f"{ENDED}/{jax.process_index()}", end)
        _exchange().key_value_set(f"{LEFT}/{jax.process_index()}", end)
        deadline = time.monotonic() + STOPPING_SECONDS
        while end == STOPPED and time.monotonic() < deadline:
            if len(_exchange().key_value_dir_get(LEFT)) == jax.process_count():
                break
            time.sleep(POLL_SECONDS)


def _join(place) -> None:
    if place is None or jax.distributed.is_initialized():
        return
    coordinator, processes, process = place
    own = {} if coordinator == "auto" else dict(coordinator_address=coordinator, num_processes=processes, process_id=process)
    # Told all there is to know, JAX must not ask SLURM as well: it would take devices away.
    own |= dict(cluster_detection_method="deactivate") if own else {}
    try:
        jax.distributed.initialize(**own, shutdown_timeout_seconds=SHUTDOWN_SECONDS)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"The processes of config.distributed.coordinator={coordinator!r} could not connect: {reason}"
        ) from error
    # JAX has a handler of its own that keeps SIGTERM from Python.
    stopping.reinstall()


def is_first() -> bool:
    """Whether this process is the one that writes and prints for all."""
    return jax.process_index() == 0


def log(text: str) -> None:
    """A message for the user, once for all processes."""
    if is_first():
        messages.info(text)


def on_main_process(task):
    """task(), which process 0 alone does; the others wait for it and get what it returned, by way of JSON."""
    if jax.process_count() == 1:
        return task()
    key = f"facedyn/{next(_numbers)}"
    if is_first():
        result = task()
        _exchange().key_value_set(key, json.dumps(result))
        return result
    return json.loads(_await(key))


def gather(value) -> list:
    """What every process gives, in the order of their numbers, by way of JSON. Also a barrier."""
    if jax.process_count() == 1:
        return [value]
    key = f"facedyn/{next(_numbers)}"
    _exchange().key_value_set(f"{key}/{jax.process_index()}", json.dumps(value))
    return [json.loads(_await(f"{key}/{p}")) for p in range(jax.process_count())]


def others_ended() -> bool:
    """Whether another process has ended early: then this one should finish its current chunk and call `gather`."""
    return jax.process_count() > 1 and bool(_exchange().key_value_dir_get(ENDED))


def _exchange():
    """Where the processes, once they have met, leave values for each other."""
    if (client := distributed.global_state.client) is None:
        raise RuntimeError("The processes have not met.")
    return client


def _await(key: str) -> str:
    """Raises what ended another process: Stopped, or an InputError with its reason."""
    client = _exchange()
    while True:
        try:
            return client.key_value_try_get(key)
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" not in str(error):
                raise
        ended = sorted(client.key_value_dir_get(ENDED))
        if ended:
            number, reason = ended[0][0].rsplit("/", 1)[-1], ended[0][1]
            if reason == STOPPED:
                raise stopping.Stopped
            raise InputError(f"Process {number} failed; its own output says why." if reason == FAILED else reason)
        time.sleep(POLL_SECONDS)


class Vote:
    """Whether some process wants to stop, asked before every step of a computation that all do in step.

    The answer is the same for all, and one call old: waiting for the newest would keep the devices from working ahead.
    """

    def __init__(self, mesh):
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._any = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._mine, self._last = len(mesh.local_devices), None

    def __call__(self, asked: bool) -> bool:
        if jax.process_count() == 1:
            return asked
        before, mine = self._last, np.full(self._mine, asked, np.int32)
        self._last = self._any(jax.make_array_from_process_local_data(self._split, mine))
        return before is not None and bool(before)


def share(weights, index: int, count: int) -> list[int]:
    """Which items process `index` of `count` takes: positions, ascending, of a split into shares of nearly equal weight.

    The heaviest item goes first, to whom has least: it depends on the weights and their order alone. Over all
    processes every item is taken once.
    """
    loads, mine = [0] * count, []
    for item in sorted(range(len(weights)), key=lambda i: (-weights[i], i)):
        least = loads.index(min(loads))
        loads[least] += weights[item]
        if least == index:
            mine.append(item)
    return sorted(mine)


def own_partition(items, weight) -> list:
    """This process's share of a list; the shares have nearly equal sums of `weight(item)`."""
    index, count = shard() or (jax.process_index(), jax.process_count())
    chosen = share([weight(item) for item in items], index, count)
    return [items[i] for i in chosen]


def label() -> str:
    """', process 0 of 2' or ', shard 0 of 2' behind what is counted for one of several; else ''."""
    if own := shard():
        return f", shard {own.index} of {own.count}"
    return f", process {jax.process_index()} of {jax.process_count()}" if jax.process_count() > 1 else ""


def writer() -> str:
    """What sets this process's files apart from the others'; '' for one process."""
    if own := shard():
        return f"shard{own.index}of{own.count}"
    return str(jax.process_index()) if jax.process_count() > 1 else ""


def progress_stream():
    """Where Progress may write: stderr for process 0 where progress is shown, else nowhere."""
    return progress.stream() if is_first() else io.StringIO()
