"""When the pictures of a video were filmed, by the file's own timestamps; where a stretch is missing; another frame rate.

The rules, for everything that hands out frames:

- The usual step is the median of the steps between timestamps. A step over 1.5 times it is a hole: nothing was filmed there.
- A file of variable rate (a tenth or more of its steps are off the median by a quarter, pictures with the same timestamp among
  them: browsers, phones, screen recorders) would fall to pieces by that rule. There the usual step is the one that 95 % of
  its steps do not exceed, three medians at most.
- Timestamps that repeat show one picture: the first. Where they start again, or leap by more than an hour, the clock goes on by
  one step, and there is a hole.
- Header rates are only asked where a file has no usable timestamps.
"""

import dataclasses
import math

import numpy as np

from data_pipelines.faces.decoding import FAULTS, open_video

HOLE = 1.5  # usual steps
ROUNDING = 0.0011  # seconds: containers round timestamps to milliseconds
LEAP = 3600.0  # seconds
BACK = 3  # steps: a picture that comes later than one of a later time by less is taken for one of that time
FALLBACK_FPS = 25.0  # of a file that says nothing that can be true
PLAUSIBLE = (1.0, 500.0)  # frames per second
SAME_RATE = 0.01  # 29.97 is as good as 30


@dataclasses.dataclass(frozen=True)
class Timing:
    """How a file counts time. clock: as of `decoding.Decoder`; step: the usual one between two pictures, seconds;
    longest: a longer step is a hole; variable: whether its rate varies; assumed: what had to be assumed, or ''.
    """

    clock: str
    step: float
    longest: float
    variable: bool = False
    assumed: str = ""

    @property
    def fps(self) -> float:
        """Frames per second; the rounding of timestamps is taken out."""
        rate = 1 / self.step
        near = min((round(rate), round(rate * 1.001) / 1.001), key=lambda usual: abs(rate - usual))  # 30 and 29.97
        return round(float(near), 3) if abs(rate / near - 1) < 6e-4 else round(rate, 3)


def read_timing(path) -> tuple[Timing, int]:
    """(Timing, number of pictures that the header promises, 0 where it does not) by a look at all packets; nothing is decoded.

    Raises InputError as `decoding.open_video`.
    """
    container, stream = open_video(path)
    shown, decoded, base = [], [], stream.time_base
    n = 0
    with container:
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    n += 1
                    shown.append(packet.pts)
                    decoded.append(packet.dts)
        except FAULTS:
            pass  # the decoder will come to it too, and say so
        header = stream.guessed_rate or stream.average_rate or stream.codec_context.framerate
        promised = max(0, stream.frames)
        # AVI has no times of showing. FFmpeg gives those of decoding for them, although pictures may be shown in another order.
        reordered = container.format.name == "avi" and stream.codec_context.has_b_frames
    late = {pts - dts for pts, dts in zip(shown, decoded) if None not in (pts, dts)}
    clocks = [("pts", shown), ("order", decoded)]
    for clock, stamps in reversed(clocks) if reordered and len(late) == 1 else clocks:
        runs = _runs(stamps, decoded, float(base or 0))
        known = sum(map(len, runs))
        if known >= 0.9 * n and known > 1 and (timing := timing_of(runs, clock)):
            return timing, promised
    return _without_stamps(header, shown if any(stamp is not None for stamp in shown) else decoded, base), promised


def _runs(stamps, decoded, unit):
    """Lists of the known stamps, in seconds; a new one where the times of decoding, which always grow, start again."""
    runs, last = [[]], None
    for stamp, order in zip(stamps, decoded):
        if order is not None:
            if last is not None and order < last:
                runs.append([])
            last = order
        if stamp is not None:
            runs[-1].append(stamp * unit)
    return runs


def timing_of(runs, clock: str = "pts") -> Timing | None:
    """Timing by the times of all pictures, seconds in any order, a list for each start of the clock; None if they are not true.

    That is: fewer than a quarter of them differ, or they say under 1 or over 500 frames per second.
    """
    steps = np.concatenate([np.diff(np.sort(np.asarray(run, float))) for run in runs])
    steps = steps[steps < LEAP]
    true = steps[steps > 1e-6]
    if len(true) < max(1, 0.25 * len(steps)):
        return None
    step = float(np.median(true))
    if not PLAUSIBLE[0] <= 1 / step <= PLAUSIBLE[1]:
        return None
    usual = np.abs(steps - step) <= max(0.25 * step, ROUNDING)
    variable = np.mean(usual) <= 0.9
    if not variable:
        step = float(np.mean(steps[usual]))  # the median is rounded to milliseconds where the stamps are
    often = min(float(np.percentile(true, 95)), 3 * step) if variable else step
    return Timing(clock, step, HOLE * often + ROUNDING, bool(variable))


def _without_stamps(header, stamps, unit):
    """Timing by the header's rate where that can be true, else by the fallback."""
    steps = np.diff(sorted({stamp for stamp in stamps if stamp is not None}))
    said = "the file has no timestamps"
    if len(steps):
        said = f"the file has no usable timestamps (they say {1 / float(np.median(steps) * unit):.4g} frames per second)"
    rate = float(header or 0)
    if PLAUSIBLE[0] <= rate <= PLAUSIBLE[1]:
        return Timing("", 1 / rate, HOLE / rate, assumed=f"{said}, {rate:g} frames per second are taken from its header")
    said += f", {FALLBACK_FPS:g} frames per second are taken"
    return Timing("", 1 / FALLBACK_FPS, HOLE / FALLBACK_FPS, assumed=said)


class Clock:
    """Gives each picture its time and how far the numbering goes on; `n_holes`, `n_repeated`: what it met."""

    def __init__(self, timing: Timing, scale: float = 1.0):
        """`scale`: by which the file's times are multiplied, where the manifest knows a better rate."""
        self._timing, self._scale = timing, scale
        self._last, self._shift, self.n_holes, self.n_repeated = None, 0.0, 0, 0

    def tick(self, stamp: float | None) -> tuple[float, int]:
        """(seconds since the first picture, how many numbers further than the one before): 1 where it follows without a hole,
        2 or more after one, 0 where it is the same moment again. `stamp`: seconds, None where the file gives none.
        """
        timing, last = self._timing, self._last
        if last is None:
            self._last, self._shift = 0.0, -(stamp or 0.0)
            return 0.0, 1
        time = last + timing.step if stamp is None else stamp + self._shift
        step = time - last
        numbers = 1
        if stamp is not None and (step < -BACK * timing.step or step > LEAP):
            time = last + timing.step
            self._shift, numbers = time - stamp, 2
        elif step < 0.1 * timing.step:
            self.n_repeated += 1
            return last * self._scale, 0
        elif step > timing.longest:
            numbers = max(2, round(step / timing.step))
        self.n_holes += numbers > 1
        self._last = time
        return time * self._scale, numbers


def resampling_rate(fps: float, own: float, variable: bool = False) -> tuple[float, str]:
    """(rate to resample to, 0 for not at all; note or '') of a video of `own` frames per second where `fps` are asked for.

    A video that is slower than `fps` keeps its own frames: half of what it would be filled up with would be repeats, which look
    like a face that halts. Where the rate varies, evenly spaced times are worth more, and a picture stands until the next.
    """
    if not fps or abs(own / fps - 1) <= SAME_RATE:
        return (fps, "") if fps and variable else (0.0, "")
    if own > fps or variable:
        return fps, ""
    return 0.0, f"it has {own:.4g} frames per second, which are kept: none are repeated to reach the {fps:g} of config.data.fps"


def resampled(frames, fps: float):
    """From (index, seconds, image) to the same at `fps` frames per second: for each new time the nearest picture.

    0 leaves them as they are. Where the source is slower, pictures are used again (see `resampling_rate`). Between two pictures
    whose indices do not follow one another lies a hole: a new time in it takes a picture only within half a new step of it, and
    the new indices leave out a number too.
    """
    return _resampled(frames, fps) if fps else frames


def _resampled(frames, fps):
    before = last = None
    start, index, shift, segment = 0.0, 0, 0, 0
    for number, seconds, image in frames:
        here = seconds, image, segment
        if before is None:
            start = seconds
        else:
            numbers = number - before[0]
            segment += numbers > 1
            here = seconds, image, segment
            near = 0.5 / fps if numbers > 1 else math.inf
            while (time := start + index / fps) <= seconds:
                first, second = time - before[1][0], seconds - time
                if first > near + 1e-9 and second > near - 1e-9:
                    index += max(1, math.floor((second - near) * fps))  # over a long hole in one go
                    continue
                nearest = before[1] if first <= second + 1e-9 else here  # half way is always the earlier one's
                if last is not None and nearest[2] != last[1] and index + shift - last[0] < 2:
                    shift += 1
                last = index + shift, nearest[2]
                yield last[0], time, nearest[1]
                index += 1
        before = number, here
    if before is not None and start + index / fps - before[1][0] <= 0.5 / fps:
        shift += last is not None and segment != last[1] and index + shift - last[0] < 2
        yield index + shift, start + index / fps, before[1][1]
