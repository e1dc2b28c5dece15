"""Small videos of every kind, made by PyAV: interlaced, with pixels that are not square, uneven times, changing sizes, ..."""

from fractions import Fraction

import av
import cv2
import numpy as np


def moving(n, width=64, height=48, seed=0, step=2):
    """RGB uint8 [n, height, width, 3]: a smooth pattern that moves to the left by `step` pixels a frame."""
    random = np.random.default_rng(seed)
    wide = cv2.resize(random.integers(20, 235, (4, 16, 3), np.uint8), (4 * width, height), interpolation=cv2.INTER_CUBIC)
    return np.stack([np.roll(wide, -step * i, axis=1)[:, :width] for i in range(n)])


def encoded(frames, codec, rate=25, pix_fmt="yuv420p", options=None, prepare=None):
    """(codec context, packets, a packet a frame and in their order) of RGB frames."""
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = frames[0].shape[1], frames[0].shape[0], pix_fmt
    context.time_base, context.framerate = Fraction(1, rate), Fraction(rate)
    context.options = options or {}
    if prepare:
        prepare(context)
    packets = []
    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(format=pix_fmt)
        picture.pts, picture.time_base = number, context.time_base
        packets += context.encode(picture)
    return context, packets + context.encode(None)


def write(path, frames, codec="mpeg4", rate=25, pix_fmt="yuv420p", options=None, prepare=None, times=None, container=None):
    """A video file of RGB frames. `times`: of each frame, milliseconds; without, `rate` frames per second.

    `prepare(stream.codec_context)` is called before the first frame is encoded. With `times`, for codecs without reordering.
    """
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], pix_fmt
        unit = Fraction(1, 1000) if times is not None else Fraction(1, rate)
        stream.codec_context.time_base = Fraction(1, rate)
        if prepare:
            prepare(stream.codec_context)
        sent = 0

        def mux(packets):
            nonlocal sent
            for packet in packets:
                if times is not None:
                    packet.time_base, packet.pts, packet.dts = unit, int(times[sent]), int(times[sent])
                    packet.duration = 0
                sent += 1
                file.mux(packet)

        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(format=pix_fmt)
            picture.pts, picture.time_base = number, Fraction(1, rate)
            mux(stream.encode(picture))
        mux(stream.encode(None))


def write_two_sizes(path, first, second, rate=25):
    """WebM in which the size of the picture changes, as in a call when a phone is turned."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libvpx", rate=rate, options={"deadline": "realtime", "cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = first[0].shape[1], first[0].shape[0], "yuv420p"
        number = 0
        for frames in (first, second):
            for packet in encoded(frames, "libvpx", rate, options={"deadline": "realtime", "cpu-used": "8"})[1]:
                packet.stream, packet.time_base = stream, Fraction(1, rate)
                packet.pts = packet.dts = number
                number += 1
                file.mux(packet)


def interlaced(frames):
    """Each frame's odd lines from the frame after it: two fields, taken one after the other."""
    fields = np.array(frames[::2])
    fields[:, 1::2] = frames[1::2, 1::2]
    return fields
