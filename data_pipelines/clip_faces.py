"""One clip of the manifest -> encoded face crops and a quality row. This is what prepare's worker processes run.

Imports neither TFDS nor Grain nor JAX, so that a worker starts in a fraction of a second and stays small.
"""

import dataclasses
import hashlib
import json

import cv2
import numpy as np

from data_pipelines import quality
from data_pipelines.alignment import crop_jitter
from data_pipelines.cropping import Cropper
from data_pipelines.detection import make_detector
from data_pipelines.errors import InputError
from data_pipelines.images import encode_image
from data_pipelines.manifest import ClipEntry
from data_pipelines.openface import BLACK, OpenFaceVideo, find_outputs, stamp
from data_pipelines.remote import content_stamp, is_url, local_copy
from data_pipelines.tracking import Tracker, main_tracks
from data_pipelines.video import Video


@dataclasses.dataclass(frozen=True)
class PrepareSettings:
    """The settings of `prepare`; meanings as in `facedyn.config`, section data.

    min_frames: a clip without so many consecutive frames with a face is left out (the shortest window's length);
    decoder_threads: of each clip, without an effect on its frames.
    """

    image_size: int = 112
    channels: int = 3
    image_format: str = "png"
    fps: float = 0.0
    detector: str = "auto"
    yunet_model: str = ""
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
FACE_SETTINGS += ("max_turn",)
# To be raised with every change of the code that changes crops or quality rows: clips of an older number are done again.
VERSION = 2


@dataclasses.dataclass(frozen=True)
class ClipFaces:
    """A processed clip: quality row, numbers of the kept frames int32 [T], and which of the images handed on they are [T]."""

    row: quality.QualityRow
    frame_indices: np.ndarray
    positions: np.ndarray


NOTHING = np.zeros(0, np.int32)


def clip_key(entry: ClipEntry, settings: PrepareSettings) -> str:
    """Names the clip's file as it is now, and the settings its crops depend on; 16 hexadecimal digits."""
    outputs = find_outputs(entry.path)
    names = FRAME_SETTINGS if entry.aligned or outputs else FRAME_SETTINGS + FACE_SETTINGS
    parts = [VERSION, entry.clip_id, str(entry.path), entry.fps, entry.aligned, [getattr(settings, name) for name in names]]
    try:
        if is_url(entry.path):
            parts.append(content_stamp(entry.path))
        elif outputs:
            parts += [settings.min_confidence, stamp(outputs)]
        elif entry.path.is_dir():
            parts.append(sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in entry.path.iterdir() if f.is_file()))
        elif entry.path.is_file():
            parts.append((entry.path.stat().st_size, entry.path.stat().st_mtime_ns))
    except OSError as error:  # of which the clip's row will tell
        parts.append(str(error))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def process_clip(entry: ClipEntry, settings: PrepareSettings, keep) -> ClipFaces:
    """Hands face crops, encoded, to `keep` one by one; those at `positions` count, and only when the row's verdict is 'ok'.

    Whatever is wrong with the clip becomes the verdict of its row, not an exception. Memory does not grow with the length.
    """
    row = quality.QualityRow(entry.clip_id, entry.person_id, str(entry.path))
    try:
        openface = bool(find_outputs(entry.path))
        make, more = (OpenFaceVideo, settings.min_confidence) if openface else (Video, settings.decoder_threads)
        video = make(entry.path, settings.fps, entry.fps, more)
        find = _aligned_faces if entry.aligned or openface else _detected_faces
        faces = find(video, row, settings, keep)
        if openface:
            faces = dataclasses.replace(faces, row=video.complete(faces.row))
    except InputError as error:
        return _left_out(row, str(error))
    except (cv2.error, OSError) as error:
        return _left_out(row, f"The file {entry.path} cannot be decoded ({str(error).strip().splitlines()[0]}).")
    row = dataclasses.replace(
        faces.row,
        fps=video.fps,
        n_kept=len(faces.frame_indices),
        n_gaps=int((np.diff(faces.frame_indices) != 1).sum()),
        share_found=faces.row.n_found / max(faces.row.n_decoded, 1),
        reason="; ".join(filter(None, (video.note, faces.row.reason))),
    )
    row = dataclasses.replace(row, reason="; ".join(filter(None, (row.reason, *quality.flag_remarks(row)))))
    usable = quality.longest_run(faces.frame_indices)
    if row.n_found == 0:
        return _left_out(row, row.reason or f"No face was found in any of its {row.n_decoded} frames.")
    if usable < settings.min_frames:
        reason = f"Only {usable} frames with a face follow one another, a window needs {settings.min_frames}."
        return _left_out(row, "; ".join(filter(None, (reason, row.reason))))
    if row.n_dark > quality.TOO_DARK_ABOVE * row.n_kept:
        dark = f"Its faces are too dark: a mean grey value of {row.brightness:.0f}"
        asked = f"config.data.min_brightness asks for {settings.min_brightness:g}"
        return _left_out(row, f"{dark}, {asked}.")
    return ClipFaces(row, faces.frame_indices, faces.positions)


def process_remote_clip(entry, settings, keep):
    """`process_clip` on a local copy; the row names the place it came from."""
    place = str(entry.path)
    try:
        with local_copy(entry.path) as copy:
            faces = process_clip(dataclasses.replace(entry, path=copy), settings, keep)
    except InputError as error:
        return _left_out(quality.QualityRow(entry.clip_id, entry.person_id, place), str(error))
    return dataclasses.replace(
        faces, row=dataclasses.replace(faces.row, path=place, reason=faces.row.reason.replace(str(copy), place))
    )


def _left_out(row, reason):
    return ClipFaces(row.left_out(reason), NOTHING, NOTHING)


def _aligned_faces(video, row, settings, keep):
    """Frames that are face crops already: resized, and dropped where they are black."""
    indices, light, enlargements, n_decoded = [], [], [], 0
    for index, _, image in video:
        n_decoded += 1
        if image.max() >= BLACK:
            crop = resized(image, settings.image_size, settings.channels)
            indices.append(index)
            if len(indices) % quality.LIGHT_EVERY == 1:
                light.append(quality.brightness_and_sharpness(crop))
                enlargements.append(settings.image_size / min(image.shape[:2]))
            keep(encode_image(crop, settings.image_format))
    brightness, sharpness = np.mean(light, axis=0) if light else (np.nan, np.nan)
    row = dataclasses.replace(
        row,
        n_decoded=n_decoded,
        n_found=len(indices),
        brightness=float(brightness),
        sharpness=float(sharpness),
        reason="" if indices else f"All of its {n_decoded} frames are black.",
        **quality.flags(settings, len(indices), enlargements, light),
    )
    return ClipFaces(row, np.array(indices, np.int32), np.arange(len(indices), dtype=np.int32))


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
    """One pass over the video: the tracker finds the face, the cropper cuts it out some seconds later."""
    tracker, cropper = make_tracker(settings), Cropper(settings, keep)
    numbers, (height, width) = [], (0, 0)
    for index, seconds, image in video.passing_frames():
        tracker.step(index, seconds, image)
        cropper.step(tracker, image)
        numbers.append(index)
        height, width = image.shape[:2]
    tracks = main_tracks(tracker.finish(), width, height, settings.main_person)
    cut = cropper.finish()
    row = dataclasses.replace(row, n_decoded=len(numbers), n_two_faces=tracker.n_two_faces, fps=video.fps)
    if not tracks:
        return ClipFaces(dataclasses.replace(row, reason=_no_face(tracker, settings, len(numbers))), NOTHING, NOTHING)
    frames = [track.start + i for track in tracks for i in range(len(track.seconds))]
    faces = [face for track in tracks for face in track.faces.values()]
    jitters = [(len(t.seconds), crop_jitter(np.stack(cut[t].matrices), settings.image_size)) for t in tracks]
    jitters = [(n, jitter) for n, jitter in jitters if np.isfinite(jitter)]
    light = [seen for track in tracks for seen in cut[track].light if seen]
    brightness, sharpness = np.mean(light, axis=0)
    enlargements = [np.hypot(*matrix[:, 0]) for track in tracks for matrix in cut[track].matrices]
    row = dataclasses.replace(
        row,
        n_found=len(frames),
        jitter=float(np.sqrt(np.average([j * j for _, j in jitters], weights=[n for n, _ in jitters]))) if jitters else np.nan,
        mean_confidence=float(np.mean([face.score for face in faces])),
        face_size=float(np.mean([face.box[2] for face in faces])),
        brightness=float(brightness),
        sharpness=float(sharpness),
        reason="; ".join(_remarks(tracker, settings, len(numbers) - len(frames))),
        **quality.flags(settings, len(frames), enlargements, light, [face.turn for face in faces]),
    )
    positions = [position for track in tracks for position in cut[track].positions]
    return ClipFaces(row, np.array([numbers[frame] for frame in frames], np.int32), np.array(positions, np.int32))


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


def _no_face(tracker, settings, n):
    if tracker.largest_too_small:
        return (
            f"The largest face in its {n} frames is {tracker.largest_too_small:.0f} pixels wide; "
            f"config.data.min_face_pixels asks for {settings.min_face_pixels}."
        )
    side = f" in the {settings.main_person} half" if settings.main_person != "auto" else ""
    return f"No face was found{side} in any of its {n} frames."


def _remarks(tracker, settings, lost):
    if lost:
        yield f"{lost} frames without the face were left out"
    if tracker.n_two_faces:
        followed = (
            "the larger, more central one" if settings.main_person == "auto" else f"the one in the {settings.main_person} half"
        )
        yield f"more than one face in {tracker.n_two_faces} of {tracker.n_searched} frames searched, {followed} was followed"
    if tracker.n_cuts:
        yield f"{tracker.n_cuts} scene cuts"
