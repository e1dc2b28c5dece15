"""`fit --shard=i/n`: n processes that know nothing of each other, on any machines that see WORKDIR, each with its share.

Each has a lock of its own, WORKDIR/shards/<i>of<n>, and WORKDIR's only while it begins; whoever has WORKDIR looks for living
shards first. So shards go together with each other and with nothing else. What everybody needs is learnt by the first. A shard
writes rows and no scores: `fit` without --shard finds the rows there and makes the scores of them.
"""

import contextlib
import pathlib
import re

from data_pipelines.errors import InputError
from facedyn.stages.runtime import messages, processes
from facedyn.stages.runtime.processes import Shard
from facedyn.store import lock

FOLDER, LEARNING = "shards", "learning"


def read(text: str) -> Shard:
    """The shard that '0/4' names. Raises InputError for anything else.

    >>> read("0/4")
    Shard(index=0, count=4)
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not found or int(found[1]) >= int(found[2]):
        raise InputError(f"--shard={text} must be I/N with I from 0 to N - 1, for example 0/4 for the first of four processes.")
    return Shard(int(found[1]), int(found[2]))


@contextlib.contextmanager
def held(workdir, shard: Shard, begin):
    """Has this shard to itself within the block; begin() is called before it, while WORKDIR is held as well.

    Waits for a shard that just begins. Raises InputError where the same shard runs already.
    """
    workdir = pathlib.Path(workdir)
    with contextlib.ExitStack() as own:
        with lock.held(workdir, wait=True):
            own.enter_context(lock.held(workdir / FOLDER / f"{shard.index}of{shard.count}"))
            begin()
        with processes.as_shard(shard):
            yield


def refuse_running(workdir) -> None:
    """Raises InputError where a shard is at work; to be called by who has WORKDIR, so that none can begin meanwhile."""
    for place in sorted((pathlib.Path(workdir) / FOLDER).glob("*of*")):
        with lock.held(place):
            pass


def learning(workdir):
    """One shard at a time learns what is the same for everyone; the next ones find it there."""
    if processes.shard() is None:
        return contextlib.nullcontext()
    return lock.held(pathlib.Path(workdir) / FOLDER / LEARNING, wait=True)


def tell(shard: Shard, there: int, rows: int) -> None:
    """How far the table is after this shard, and what comes next."""
    messages.info(
        f"fit: shard {shard.index} of {shard.count} is done, {there} of {rows} rows are in the table; when all shards have"
        " ended, the same command without --shard makes the scores"
    )
