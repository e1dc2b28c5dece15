"""One clip of the manifest -> encoded face crops and a quality row. This is what prepare's worker processes run.

Imports neither TFDS nor Grain nor JAX, so that a worker starts in a fraction of a second and stays small.
"""

import dataclasses
import errno
import pathlib
import traceback

import cv2
import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.faces import landmarks, quality, reasons, shared_clip
from data_pipelines.faces.alignment import crop_jitter
from data_pipelines.faces.appearances import OWN
from data_pipelines.faces.changes import changes, lost_ends, parts, unsettled_ends
from data_pipelines.faces.cropping import Cropper
from data_pipelines.faces.detection import make_detector
from data_pipelines.faces.identity import make_describer, people
from data_pipelines.faces.images import encode_image
from data_pipelines.faces.openface import BLACK, OpenFaceVideo, find_outputs
from data_pipelines.faces.tracking import BESIDE, Tracker, by_chance
from data_pipelines.faces.video import Video
from data_pipelines.frame_counter import counting
from data_pipelines.manifest import ClipEntry
from data_pipelines.remote import local_copy


@dataclasses.dataclass(frozen=True)
class PrepareSettings:
    """The settings of `prepare`; meanings as in `facedyn.config`, section data.

    min_frames: a clip without so many consecutive frames with a face is left out (the shortest window's length);
    decoder_threads: of each clip, without an effect on its frames.
    """

    appearance: str = "own"
    landmarks: str = ""
    image_size: int = 112
    channels: int = 3
    image_format: str = "png"
    fps: float = 0.0
    detector: str = "auto"
    yunet_model: str = ""
    sface_model: str = ""
    min_confidence: float = 0.7
    detect_every: int = 5
    crop_scale: float = 2.5
    smoothing_seconds: float = 0.2
    min_face_pixels: int = 40
    main_person: str = "auto"
    max_enlargement: float = 2.0
    min_sharpness: float = 10.0
    min_brightness: float = 20.0
    max_turn: float = 1.0
    max_frames_per_record: int = 32
    split_fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    workers: int = 0
    decoder_threads: int = 1
    shard_mb: float = 256.0
    beam_options: str = ""
    seed: int = 0
    min_frames: int = 9
    trait_names: tuple[str, ...] = ()


# What the frames of a clip depend on; the other settings only matter when the clips are packed.
FRAME_SETTINGS = ("image_size", "channels", "image_format", "fps", "min_frames")
FRAME_SETTINGS += ("max_enlargement", "min_sharpness", "min_brightness")
FACE_SETTINGS = ("detector", "yunet_model", "detect_every", "crop_scale", "smoothing_seconds", "min_face_pixels", "main_person")
FACE_SETTINGS += ("max_turn", "sface_model")
# To be raised with every change of the code that changes crops or quality rows: clips of an older number are done again.
VERSION = 10


@dataclasses.dataclass(frozen=True)
class ClipFaces:
    """A processed clip: quality row, numbers of the kept frames int32 [T], and which of the images handed on they are [T].

    traceback: of the error that ended it, which its row names; else ''.
    """

    row: quality.QualityRow
    frame_indices: np.ndarray
    positions: np.ndarray
    traceback: str = ""


NOTHING = np.zeros(0, np.int32)


def process_clip(entry: ClipEntry, settings: PrepareSettings, keep, folder=None) -> ClipFaces:
    """Hands face crops, encoded, to `keep` one by one; those at `positions` count, and only when the row's verdict is 'ok'.

    Whatever is wrong with the clip, an error of ours included, becomes the verdict of its row, not an exception. Only what
    ends a whole run goes on: interruptions, want of memory, and whatever `keep` raises (a full disk). Memory does not grow with
    the length. `folder`: where a temporary file may lie, which an appearance that is not 'own' needs.
    """
    row = quality.QualityRow(entry.clip_id, entry.person_id, str(entry.path))
    return _with_its_errors(row, lambda: _processed(entry, row, settings, _Kept(keep), folder))


class _Kept:
    """Hands on to `keep`, whose errors (a full disk) are not the clip's."""

    def __init__(self, keep):
        self._keep = keep

    def __call__(self, image):
        try:
            self._keep(image)
        except Exception as error:
            raise _NotOfTheClip from error


# A full disk, and too many open files: the next run may process the clip.
OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


class _NotOfTheClip(Exception):
    """Its cause ends the run."""


def _with_its_errors(row, process):
    """What `process` returns, or the clip left out for the error that it raised."""
    try:
        return process()
    except _NotOfTheClip as error:
        raise error.__cause__ or error from None
    except MemoryError:
        raise
    except InputError as error:
        return _left_out(row, str(error))
    except OSError as error:
        if error.errno in OF_THE_MACHINE:
            raise InputError(
                f"Clip {row.clip_id} could not be processed ({error.strerror}); free disk space or raise the limit on open "
                "files (ulimit -n), and run the same command again."
            ) from error
        return dataclasses.replace(_left_out(row, reasons.of_error(error)), traceback=traceback.format_exc())
    except Exception as error:  # whatever it is, the other clips go on
        return dataclasses.replace(_left_out(row, reasons.of_error(error)), traceback=traceback.format_exc())


def _processed(entry, row, settings, keep, folder):
    openface = bool(find_outputs(entry.path))
    make, more = (OpenFaceVideo, settings.min_confidence) if openface else (Video, settings.decoder_threads)
    video = make(entry.path, settings.fps, entry.fps, more)
    find = _aligned_faces if entry.aligned or openface else _detected_faces
    if settings.appearance == OWN:
        faces = find(video, row, settings, keep)
    elif settings.landmarks:
        faces = _of_landmarks(video, row, settings, keep)
    else:
        with shared_clip.Waiting(folder) as crops:
            faces = find(video, row, shared_clip.first_pass(settings), crops.keep)
            faces = shared_clip.shared(faces, crops, settings, keep)
    if isinstance(video, OpenFaceVideo):  # of a video of which OpenFace kept some of the frames
        whole = video.complete(faces.row)
        faces = dataclasses.replace(faces, row=dataclasses.replace(whole, n_frames=whole.n_decoded))
    row = dataclasses.replace(
        faces.row,
        n_decoded=video.n_decoded,
        fps=video.fps,
        n_kept=len(faces.frame_indices),
        n_gaps=int((np.diff(faces.frame_indices) != 1).sum()),
        n_repeated=video.n_repeated,
        share_found=faces.row.n_found / max(faces.row.n_frames, 1),
    )
    repeated = "" if openface else reasons.repeated(row)  # OpenFace's note says it
    row = dataclasses.replace(row, reason=reasons.joined(video.note, repeated, row.reason))
    return _judged(dataclasses.replace(faces, row=row), settings)


def _judged(faces, settings):
    """The clip with the verdict that its row and frames call for."""
    row = dataclasses.replace(faces.row, reason=reasons.joined(faces.row.reason, *quality.flag_notes(faces.row)))
    usable = quality.longest_run(faces.frame_indices)
    if row.n_found == 0:
        return _left_out(row, row.reason or f"No face was found in any of its {row.n_decoded} frames.")
    if usable < settings.min_frames:
        follow = "frame with a face stands alone" if usable == 1 else "frames with a face follow one another"
        reason = f"Only {usable} {follow}, a window needs {settings.min_frames}."
        return _left_out(row, reasons.joined(reason, row.reason))
    if row.n_dark > quality.TOO_DARK_ABOVE * row.n_kept:
        dark = f"Its faces are too dark: a mean grey value of {row.brightness:.0f}"
        asked = f"config.data.min_brightness asks for {settings.min_brightness:g}"
        return _left_out(row, f"{dark}, {asked}.")
    return dataclasses.replace(faces, row=row)


def process_remote_clip(entry, settings, keep, folder=None):
    """`process_clip` on a local copy under `folder`; the row names the place it came from."""
    place = str(entry.path)

    def processed():
        with local_copy(entry.path, folder) as copy:
            faces = process_clip(dataclasses.replace(entry, path=copy), settings, _Kept(keep), folder)
        row = dataclasses.replace(faces.row, path=place, reason=faces.row.reason.replace(str(copy), place))
        return dataclasses.replace(faces, row=row)

    return _with_its_errors(quality.QualityRow(entry.clip_id, entry.person_id, place), processed)


def _left_out(row, reason):
    return ClipFaces(row.left_out(reason), NOTHING, NOTHING)


def _aligned_faces(video, row, settings, keep):
    """Frames that are face crops already: resized, and dropped where they are black."""
    indices, light, enlargements, n_frames = [], [], [], 0
    for index, _, image in counting(video):
        n_frames += 1
        if image.max() >= BLACK:
            crop = resized(image, settings.image_size, settings.channels)
            indices.append(index)
            if (len(indices) - 1) % quality.LIGHT_EVERY == 0:
                light.append(quality.brightness_and_sharpness(crop))
                enlargements.append(settings.image_size / min(image.shape[:2]))
            keep(encode_image(crop, settings.image_format))
    row = dataclasses.replace(
        row,
        n_frames=n_frames,
        n_found=len(indices),
        **quality.mean_light(light),
        reason="" if indices else f"All of its {n_frames} frames are black.",
        **quality.flags(settings, len(indices), enlargements, light),
    )
    return ClipFaces(row, np.array(indices, np.int32), np.arange(len(indices), dtype=np.int32))


def _of_landmarks(video, row, settings, keep):
    """The shared face in every frame of which the clip's file of landmarks knows, drawn from nothing else."""
    path = landmarks.find_landmarks(pathlib.Path(settings.landmarks).expanduser(), row.clip_id)
    if path is None:
        why = f"there is no {row.clip_id}.npz or {row.clip_id}.csv in it"
        raise InputError(f"config.data.landmarks names {settings.landmarks}, by which the shared face moves, but {why}.")
    moments, known = list(counting(video.moments())), landmarks.read_landmarks(path)
    row = dataclasses.replace(row, n_frames=len(moments))
    places = np.searchsorted(known.frames, [number for _, _, number in moments])
    seen = [i for i, p in enumerate(places) if p < len(known.frames) and known.frames[p] == moments[i][2]]
    if not seen:
        return ClipFaces(dataclasses.replace(row, reason=f"{path} has landmarks in none of its frames."), NOTHING, NOTHING)
    shared_clip.draw(known.points, places[seen], settings, keep)
    indices = np.array([moments[i][0] for i in seen], np.int32)
    return ClipFaces(dataclasses.replace(row, n_found=len(seen)), indices, np.arange(len(seen), dtype=np.int32))


def resized(image: np.ndarray, size: int, channels: int) -> np.ndarray:
    """uint8 [size, size, channels] from RGB uint8 [H, W, 3]; a frame that is not square loses its longer side's ends."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
    if side != size:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] if channels == 1 else image


def _detected_faces(video, row, settings, keep):
    """One pass over the video: the tracker finds the faces, the cropper cuts them out some seconds later.

    Who is who, and whose crops count, is told in the end.
    """
    tracker, describer = make_tracker(settings), make_describer(settings.sface_model)
    cropper, numbers = Cropper(settings, keep, describer), []
    for index, seconds, image in counting(video.passing_frames()):
        tracker.step(index, seconds, image)
        cropper.step(tracker, image)
        numbers.append(index)
    tracks, cut = one_person_each(tracker.finish(), cropper.finish(), describer, len(numbers))
    row = dataclasses.replace(row, n_frames=len(numbers), fps=video.fps)
    found = people(tracks, {track: strip.vector for track, strip in cut.items()}, describer, settings.main_person)
    if not found:
        return ClipFaces(dataclasses.replace(row, reason=reasons.no_face(tracker, settings, len(numbers))), NOTHING, NOTHING)
    main = found[0].tracks
    segments = [[numbers[track.start + i] for i in range(len(track.seconds))] for track in main]
    row = dataclasses.replace(row, n_found=sum(map(len, segments)), **_seen_in(main, cut, settings))
    row = dataclasses.replace(row, **reasons.shares(found), n_two_faces=two_faces(tracks, main, len(numbers)))
    others = [track for person in found[1:] for track in person.tracks]
    only_others = (reasons.covered(others, len(numbers)) > 0) & (reasons.covered(main, len(numbers)) == 0)
    notes = reasons.about_people(row, settings, int(only_others.sum()), tracker.n_cuts)
    positions = [position for track in main for position in cut[track].positions[: len(track.seconds)]]
    row = dataclasses.replace(row, reason=reasons.joined(*notes))
    return ClipFaces(row, numbered_apart(segments), np.array(positions, np.int32))


def one_person_each(tracks, cut, describer, n):
    """(tracks, their strips): each track shows one person. `cut`: {track: strip}, of which some may show several; n frames."""
    apart, strips, shot = [], {}, max((track.shot for track in tracks), default=0) + 1
    for track in tracks:
        # A fade that was told late has shortened the track, not the strip.
        strip = cut[track].part(track, slice(0, len(track.seconds)))
        known = strip.descriptions, describer.another, describer.same
        inside = track.start > 0, track.newest < n - 1  # before the clip there was nobody
        unsettled = tuple(number * there for number, there in zip(unsettled_ends(*known), inside))
        ends = tuple(map(max, unsettled, lost_ends(track, tracks)))
        found = changes(*known)
        for part, frames in parts(track, found, shot, ends, met=any(unsettled)):
            apart.append(part)
            strips[part] = strip.part(part, frames)
        shot += len(found) + 1
    return sorted(apart, key=lambda track: track.start), strips


def numbered_apart(segments) -> np.ndarray:
    """The frames' numbers of the segments, joined, int32 [T], so that no window spans two segments.

    A cut, a loss or a change of person may lie between two frames that follow one another in the video. Windows are told from
    the numbers alone, so there every later number is raised by one: a jump of the numbers is a border, and nothing else is.
    """
    joined, raised = [], 0
    for segment in segments:
        if joined and segment[0] + raised <= joined[-1] + 1:
            raised += 1
        joined += [number + raised for number in segment]
    return np.array(joined, np.int32)


def _seen_in(main, cut, settings):
    """The fields of QualityRow about the crops of the main person's tracks."""
    matrices = [np.stack(cut[track].matrices[: len(track.seconds)]) for track in main]
    jitters = [(len(of_track), crop_jitter(of_track, settings.image_size)) for of_track in matrices]
    jitters = [(n, jitter) for n, jitter in jitters if np.isfinite(jitter)]
    light = [seen for track in main for seen in cut[track].light[: len(track.seconds)] if seen]
    faces = [face for track in main for face in track.faces.values()]
    enlargements = np.hypot(*np.concatenate(matrices)[:, :, 0].T)
    return {
        "jitter": float(np.sqrt(np.average([j * j for _, j in jitters], weights=[n for n, _ in jitters])))
        if jitters
        else np.nan,
        "mean_confidence": float(np.mean([face.score for face in faces])),
        "face_size": float(np.mean([face.box[2] for face in faces])),
        **quality.mean_light(light),
        **quality.flags(settings, len(enlargements), enlargements, light, [face.turn for face in faces]),
    }


def two_faces(tracks, main, n):
    """In how many of the n frames more than one face was followed, leaving out those much smaller than the main person's."""
    width = np.median([face.box[2] for track in main for face in track.faces.values()])
    seen = [t for t in tracks if not by_chance(t) and np.median([face.box[2] for face in t.faces.values()]) >= BESIDE * width]
    return int((reasons.covered(seen, n) > 1).sum())


def make_tracker(settings: PrepareSettings) -> Tracker:
    """The Tracker that the settings ask for, with its detector."""
    detector = make_detector(settings.detector, settings.yunet_model, settings.min_face_pixels)
    return Tracker(detector, settings.detect_every, settings.min_face_pixels)


def follow_faces(video, settings: PrepareSettings):
    """Only finds the face: (the Tracker that saw all frames, their numbers, (height, width) of the frames)."""
    tracker, numbers, shape = make_tracker(settings), [], (0, 0)
    for index, seconds, image in video.passing_frames():
        tracker.step(index, seconds, image)
        numbers.append(index)
        shape = image.shape[:2]
    return tracker, numbers, shape
