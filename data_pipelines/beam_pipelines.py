"""The work of `prepare` as Apache Beam transforms, for videos that outgrow one machine; Beam is the extra `beam`.

The same functions run on a clip here as in the process pool, and leave the same files, so that the two roads give the same
dataset and a broken-off run goes on by either. All workers must see the videos and `data_dir` under the same paths.
"""

import argparse
import pathlib
import shlex

import cv2

from data_pipelines import clip_faces
from data_pipelines.errors import InputError
from data_pipelines.video import quiet


def pipeline_options(flags: str):
    """Beam's options from its command-line flags; raises InputError when Beam is not installed or refuses them."""
    _beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    try:
        options = PipelineOptions(shlex.split(flags))
        options.get_all_options()
    except (SystemExit, ValueError, argparse.ArgumentError) as error:
        raise InputError(f"Apache Beam does not take config.data.beam_options={flags!r}; they are its own flags.") from error
    return options


def process(entries, files, flags: str, settings) -> None:
    """Processes clips in Beam's workers; each leaves its crops and quality row at its path of `files`, as the pool does."""
    beam = _beam()
    jobs = [(entry, str(file)) for entry, file in zip(entries, files)]
    with beam.Pipeline(options=pipeline_options(flags)) as pipeline:
        _ = pipeline | "Clips" >> beam.Create(jobs) | "Spread" >> beam.Reshuffle() | "Faces" >> beam.Map(_process_one, settings)


def _process_one(job, settings):
    entry, file = job
    cv2.setNumThreads(1)  # there are as many workers as cores
    quiet()
    return clip_faces.process_to_file(entry, settings, pathlib.Path(file)).clip_id


def examples(jobs, expand):
    """A transform of (key, example), as a TFDS builder yields it: `expand` makes those of each job, in Beam's workers."""
    beam = _beam()
    # Clips are dealt out to the workers before their frames are read, not after.
    return beam.Create(jobs) | beam.Reshuffle() | beam.FlatMap(expand)


def _beam():
    try:
        import apache_beam
    except ImportError as error:
        raise InputError(
            "config.data.beam_options needs Apache Beam: pip install 'facedyn[beam]', or leave it empty to use this machine."
        ) from error
    return apache_beam
