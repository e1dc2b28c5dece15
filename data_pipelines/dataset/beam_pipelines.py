"""The work of `prepare` as Apache Beam transforms, for videos that outgrow one machine; Beam is the extra `beam`.

The same functions run on a clip here as in the process pool, so the two roads give the same clips, and a broken-off run goes
on by either. Each worker packs the clips of its batch itself, so that no more than a shard a worker lies on the disk twice.
All workers must see the videos and `data_dir` under the same paths.
"""

import argparse
import pathlib
import shlex

from data_pipelines.dataset import clip_files, growth
from data_pipelines.dataset.growth import Wanted
from data_pipelines.errors import InputError

BATCH = 32  # clips that a worker takes at once


def pipeline_options(flags: str):
    """Beam's options from its command-line flags; raises InputError when Beam is not installed or refuses them."""
    _beam()
    from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]

    try:
        options = PipelineOptions(shlex.split(flags))
        options.get_all_options()
    except (SystemExit, ValueError, argparse.ArgumentError) as error:
        raise InputError(f"Apache Beam does not take config.data.beam_options={flags!r}; they are its own flags.") from error
    return options


def process(jobs: dict[pathlib.Path, Wanted], folder, layout, settings) -> None:
    """Processes and packs clips in Beam's workers; what they packed waits under `folder` for `packing.adopt`.

    jobs: where each clip waits when it has been processed, and what is asked of it.
    """
    beam = _beam()
    by_split = {}
    for path, wanted in jobs.items():
        by_split.setdefault(wanted.split, []).append((path, wanted))
    batches = [some[i : i + BATCH] for _, some in sorted(by_split.items()) for i in range(0, len(some), BATCH)]
    with beam.Pipeline(options=pipeline_options(settings.beam_options)) as pipeline:
        work = (folder, layout, settings)
        _ = pipeline | "Batches" >> beam.Create(batches) | "Spread" >> beam.Reshuffle() | "Faces" >> beam.Map(_batch, *work)


def _batch(jobs, folder, layout, settings):
    clip_files.start_worker(interruptible=False)
    waiting, size = {}, 0
    for number, (path, wanted) in enumerate(jobs, 1):
        clip_files.process_to_file(wanted.entry, settings, path)
        waiting[path] = wanted
        size += clip_files.bytes_of(path)
        if size >= layout.shard_bytes or number == len(jobs):
            growth.pack_waiting(folder, waiting, wanted.split, layout)
            for path in waiting:
                clip_files.remove_clip(path)
            waiting, size = {}, 0
    return len(jobs)


def _beam():
    try:
        import apache_beam  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            "config.data.beam_options needs Apache Beam: pip install 'facedyn[beam]', or leave it empty to use this machine."
        ) from error
    return apache_beam
