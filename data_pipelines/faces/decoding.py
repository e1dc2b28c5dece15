"""The pictures of a video file by PyAV (FFmpeg), each with the time its file gives it; none that is damaged or only half there.

A damaged picture is left out, and so are those that are predicted from it, up to the next whole one. Interlaced pictures are
deinterlaced, one out for one in.
"""

import collections
import contextlib
import ctypes
import dataclasses
import functools
import heapq
import pathlib
import re

import av
import av.container
import av.error
import av.filter
import av.logging
import av.stream

from data_pipelines.errors import InputError
from data_pipelines.faces.conversion import BT601, aspect_of, orientation

# Formats that hold no pictures of their own: lists of other files, which could be anybody's, and text drawn as a picture.
REFUSED_FORMATS = {"concat", "hls", "dash", "sdp", "rtsp", "tty", "lavfi"}
NAMELESS = "which has no name in the file"
COLOURS = ("colorspace", "color_range", "color_trc", "color_primaries")
# FFmpeg's own decoders of these paint damaged data as if it were a picture; those of libvpx are as fast and notice most of it.
STRICTER = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
FAULTS = (av.error.FFmpegError, ValueError, RuntimeError)  # of FFmpeg's libraries, and of PyAV for what they handed it


@dataclasses.dataclass
class Picture:
    """A decoded picture as it is stored, and what is to be done with it.

    stamp: its time in seconds by the file, None where that says none; aspect: width of a pixel through its height; matrix: see
    `conversion.orientation`; key: it depends on no other; broken_before: damaged pictures before it were left out; number: of
    those without damage, from 0.
    """

    frame: av.VideoFrame
    stamp: float | None
    aspect: float
    matrix: tuple[int, int, int, int]
    key: bool
    broken_before: bool = False
    number: int = 0


def open_video(path: pathlib.Path):
    """(container, its picture stream) of an existing file. Raises InputError where it is none that can be decoded."""
    if path.stat().st_size == 0:
        raise InputError(f"The file {path} is empty.")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except PermissionError as error:
        raise InputError(f"The file {path} may not be read (permission denied).") from error
    except FAULTS as error:
        raise InputError(
            f"The file {path} cannot be opened as a video; it is truncated, damaged, or in a format that FFmpeg does not know."
        ) from error
    try:
        return container, _picture_stream(container, path)
    except InputError:
        container.close()
        raise


def _picture_stream(container: av.container.InputContainer, path) -> av.VideoStream:
    if set(container.format.name.split(",")) & REFUSED_FORMATS:
        raise InputError(f"The file {path} cannot be opened as a video; it is a {container.format.long_name}.")
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise InputError(f"The file {path} cannot be opened as a video; it holds no moving pictures.")
    decodable = [s for s in streams if s.codec_context is not None]
    if not decodable:
        raise InputError(f"The file {path} cannot be decoded: FFmpeg has no decoder for its codec, {unknown_codec(path)}.")
    best = container.streams.best("video")
    return next((stream for stream in decodable if stream == best), decodable[0])


def unknown_codec(path) -> str:
    """The codec of the first picture stream, by FFmpeg's log: its name, else the four letters in the file."""
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as messages, av.open(str(path)):
            pass
    except FAULTS:
        return NAMELESS
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)
    for _, _, message in messages:
        if found := re.search(r"Video: (\w+)(?: \((\w+))?", message):
            return found[2] or NAMELESS if found[1] == "none" else found[1]
    return NAMELESS


# Pictures between two times that free memory is returned: it takes some milliseconds, and the next pictures fetch theirs again.
GIVE_BACK_EVERY = 1000


@functools.cache
def keep_memory() -> None:
    """Has the C library keep the memory of large frames for the next one, where it can be asked to.

    PyAV takes fresh memory for every picture. Fetching it from the system and giving it back took as long as decoding 720p.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only GNU's has it
        library, trim_threshold, mmap_threshold = ctypes.CDLL(None), -1, -3
        library.mallopt(mmap_threshold, 32 << 20)
        library.mallopt(trim_threshold, 256 << 20)


def give_back_memory() -> None:
    """Has the C library return the free pages between what is in use, which grow with a long video for want of order."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only GNU's has it
        ctypes.CDLL(None).malloc_trim(0)


class Decoder:
    """Iterates over the Pictures of a file, once.

    After it: `n_damaged` pictures or packets that could not be decoded, or not wholly; `broke_off`: the file could not be read
    to its end; `codec`: the decoder's name; `hdr`: '' or 'HLG' or 'PQ'.
    """

    def __init__(self, path: pathlib.Path, clock: str = "pts", threads: int = 1):
        """`clock`: which stamps are the pictures' times: 'pts'; 'order', those of decoding, in their order; '' (none)."""
        self._path, self._clock, self._threads = path, clock, threads
        self.n_damaged, self.broke_off, self.codec = 0, False, ""
        keep_memory()

    def __iter__(self):
        container, stream = open_video(self._path)
        with container:
            self.codec, context = stream.codec_context.name, _context(stream, self._threads)
            deinterlacer = Deinterlacer()
            for number, picture in enumerate(self._whole(container, stream, context), 1):
                if number % GIVE_BACK_EVERY == 0:
                    give_back_memory()
                yield from deinterlacer.step(picture)
            yield from deinterlacer.finish()

    def _whole(self, container, stream, context):
        """Pictures without damage; those that follow a damaged one wait for the next that depends on none before it."""
        own, unit = _Aspect(stream), float(stream.time_base or 0)
        broken = gap = False
        size = aspect = None
        for frame, ticks, key in self._frames(container, stream, context):
            if frame is None or frame.is_corrupt:
                self.n_damaged += 1
                broken = gap = True
            elif broken and not key:
                self.n_damaged += 1
            else:
                broken = False
                if self.codec == "vp8":
                    frame.colorspace = BT601  # which is all that VP8 knows
                # A frame that was asked for its matrix lives until Python's collector comes round: only where it may be new.
                if size != (frame.width, frame.height, frame.rotation):
                    size, matrix = (frame.width, frame.height, frame.rotation), orientation(frame)
                if key or aspect is None:
                    aspect = own.of(context.sample_aspect_ratio)
                yield Picture(frame, None if ticks is None else ticks * unit, aspect, matrix, key, gap)
                gap = False

    def _frames(self, container, stream, context):
        """(av.VideoFrame, its time in the stream's unit or None, whether it depends on no other); None for a damaged packet."""
        packets, times = container.demux(stream), []
        strict = context is not stream.codec_context  # whose pictures come at once, and unmarked
        while True:
            try:
                packet = next(packets, None)
            except FAULTS:
                self.broke_off = True
                packet = None
            if packet is None and not self.broke_off:
                return
            if packet is not None and packet.size and packet.dts is not None and self._clock == "order":
                heapq.heappush(times, packet.dts)
            try:
                frames = context.decode(packet)
            except EOFError:
                return
            except FAULTS:
                frames = (None,)
            for frame in frames:
                ticks = frame.pts if frame is not None and self._clock == "pts" else None
                key = frame is not None and (frame.key_frame or (strict and packet is not None and packet.is_keyframe))
                yield frame, (heapq.heappop(times) if times else ticks), key
            if packet is None:
                return


def _context(stream, threads):
    """The decoder for the stream: its own, or a stricter one."""
    context = stream.codec_context
    stricter = STRICTER.get(context.codec.name)
    if stricter in av.codecs_available and context.pix_fmt == "yuv420p":  # it may have been built for 8 bit only
        context, told = av.CodecContext.create(stricter, "r"), context
        for name in COLOURS:
            setattr(context, name, getattr(told, name))
    elif context.codec.intra_only:  # such decoders paint over an error without a word, others mark it
        context.options = {"err_detect": "explode"}
    context.thread_count, context.thread_type = threads, "AUTO" if threads > 1 else "NONE"
    return context


class _Aspect:
    """The shape of a pixel: what the container says, unless the pictures' own changes on the way."""

    def __init__(self, stream):
        self._container, self._first = stream.sample_aspect_ratio, None

    def of(self, own) -> float:
        if self._first is None:
            self._first = (own,)
        return aspect_of(own if own != self._first[0] else self._container or own)


class Deinterlacer:
    """Hands pictures on as they are, up to the first that is marked as interlaced; from there through FFmpeg's filter bwdif.

    The filter leaves alone what is not so marked, looks one picture ahead, and ends when the size or format changes.
    """

    def __init__(self):
        self._graph, self._kind, self._waiting = None, None, collections.deque()

    def step(self, picture: Picture):
        """Yields the pictures that are done, in their order."""
        frame = picture.frame
        kind = frame.width, frame.height, frame.format.name
        if self._graph is not None and kind != self._kind:
            yield from self.finish()
        if self._graph is None:
            if not frame.interlaced_frame:
                yield picture
                return
            self._graph, self._kind = _bwdif(frame), kind
        self._waiting.append(picture)
        self._graph.push(frame)
        yield from self._done(self._graph)

    def finish(self):
        """Yields the last pictures."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._done(self._graph)
            self._graph = None
            self._waiting.clear()

    def _done(self, graph):
        while self._waiting:
            try:
                frame = graph.pull()
            except (av.error.BlockingIOError, EOFError):
                return
            picture = self._waiting.popleft()
            # The filter's own notes on colours may be less than the decoder's.
            for name in COLOURS:
                setattr(frame, name, getattr(picture.frame, name))
            yield dataclasses.replace(picture, frame=frame)


def _bwdif(frame):
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base, name="in")
    bwdif = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(bwdif)
    bwdif.link_to(sink)
    graph.configure()
    return graph
