"""How a synthetic person moves: action units over time, and the five traits that are made from the way they move.

A person is a set of dynamics parameters (persistence, onset shape, event rate, couplings, lead and lag); a task says how
strongly each unit is stirred and is the same for everyone. The traits bear the names of the five-factor model so that
the tables look like the real ones, and have NOTHING to do with personality: they are fixed mixtures of the parameters.
"""

import dataclasses
import hashlib

import numpy as np

# Expression units lie in [0, 1]. Eye widening lies in [-1, 1] (below 0 the eye narrows), and so do the angles of the
# head, in units of the largest angle that the renderer knows. 'Left' is the left side of the image.
UPPER = ("brow_raise", "brow_lower", "eye_widen")
LOWER = ("smile_left", "smile_right", "jaw_drop", "lip_press", "lip_pucker")
HEAD = ("head_yaw", "head_pitch", "head_roll")
UNITS = ("blink", *UPPER, *LOWER, *HEAD)
INDEX = {name: u for u, name in enumerate(UNITS)}
LOW = np.array([-1.0 if name in ("eye_widen", *HEAD) else 0.0 for name in UNITS])
HIGH = np.ones(len(UNITS))

# The parameters that differ between people, each standard normal over the population.
PARAMETERS: tuple[str, ...] = (
    "upper_persistence",  # how long brows and eyes stay where they are
    "lower_persistence",  # the same of smile, jaw and lips
    "head_persistence",  # the same of the head's pose
    "upper_onset",  # high: brows and eyes rise slowly and fall fast; low: the reverse
    "lower_onset",  # the same of smile, jaw and lips
    "event_rate",  # onsets a second, traded against their size (for the blink: against their duration)
    "event_share",  # share of a unit's variance that comes in events, the rest is smooth wandering
    "smile_eyes",  # how much the eyes narrow with a smile
    "jaw_brow",  # how much the brows rise with the jaw's drop
    "smile_symmetry",  # correlation of the two corners of the mouth
    "smile_lead",  # by how much the left corner is ahead of the right
    "speech_head",  # how much the head nods with the jaw, and turns with the lips
)
TRAITS = ("extraversion", "emotional_stability", "agreeableness", "conscientiousness", "openness")
# trait = sum of weight * parameter, over the root of the sum of squared weights: standard normal over the population.
TRAIT_WEIGHTS = {
    "extraversion": {"event_rate": 0.7, "lower_persistence": -0.5, "speech_head": 0.4},
    "emotional_stability": {"upper_persistence": 0.6, "head_persistence": 0.5, "event_share": -0.4, "jaw_brow": -0.2},
    "agreeableness": {"lower_persistence": 0.7, "lower_onset": 0.4, "smile_eyes": 0.4, "smile_symmetry": 0.3},
    "conscientiousness": {"head_persistence": 0.6, "event_rate": -0.5, "lower_onset": -0.4, "smile_lead": 0.2},
    "openness": {"upper_onset": 0.6, "upper_persistence": -0.5, "jaw_brow": 0.4, "event_share": 0.3},
}

MEAN = dict(zip(UNITS, (0.09, 0.32, 0.28, 0.0, 0.38, 0.38, 0.28, 0.28, 0.28, 0.0, 0.0, 0.0)))
# Small beside the units' ranges, to come nearer to real faces: copying the input ranks 0.70 and 0.68 of the pairs right at
# scales 1 and 2 on eight real people at 32 pixels, 0.84 and 0.79 on faces with twice this spread, 0.77 and 0.74 on these.
SPREAD = dict(zip(UNITS, (0.0, 0.10, 0.09, 0.19, 0.11, 0.11, 0.095, 0.095, 0.095, 0.32, 0.32, 0.32)))  # the blink has its own
SECONDS = {"upper": 0.35, "lower": 0.28, "head": 0.55}  # time constant of the wandering
EVENT_SECONDS = {"upper": 0.60, "lower": 0.50, "head": 0.80}  # onset to end
BLINK_RATE, BLINK_SECONDS = 0.5, 0.36
SMOOTHING_SECONDS = 0.06  # muscles do not jump
EVENT_SIZE = (0.5, 1.5)  # events of one unit differ in size, uniformly
MARGIN_SECONDS = 0.25  # simulated on both sides of the clip, for leads and lags; longer than any of them
BURN_IN_SECONDS = 1.0  # the slow part starts stationary, this is for the smoothing


@dataclasses.dataclass(frozen=True)
class PersonDynamics:
    """All that decides how one person moves. Arrays have one value a unit, in the order of UNITS."""

    parameters: tuple[float, ...]  # standardised, in the order of PARAMETERS
    seconds: np.ndarray  # time constant of the wandering
    event_seconds: np.ndarray  # length of an event, onset to end
    rise_share: np.ndarray  # share of an event that is the rise; 0.5 is symmetric in time
    rate: np.ndarray  # events a second
    event_share: np.ndarray  # of the variance
    amplitude: np.ndarray  # multiplies the unit's spread
    smile_eyes: float  # correlations
    jaw_brow: float
    smile_symmetry: float
    speech_head: float
    smile_lead: float  # seconds that the left corner is ahead of the right; the eyes follow the smile by half of its size


@dataclasses.dataclass(frozen=True)
class TaskProfile:
    """What a task asks of every face. Arrays have one value a unit."""

    mean: np.ndarray
    gain: np.ndarray  # multiplies the spread
    rate: np.ndarray  # multiplies the event rate


def draw_dynamics(rng: np.random.Generator) -> PersonDynamics:
    """A person of the population: standard normal parameters, and small habits of each unit that no trait knows of."""
    return person_dynamics(rng.standard_normal(len(PARAMETERS)), 0.15 * rng.standard_normal((5, len(UNITS))))


def person_dynamics(parameters, habits: float | np.ndarray = 0.0) -> PersonDynamics:
    """The person with these standardised parameters [12]; `habits` [5, U] are added unit by unit (log scale or logit)."""
    z = dict(zip(PARAMETERS, np.asarray(parameters, float)))
    squashed = {name: float(np.tanh(0.8 * value)) for name, value in z.items()}
    habits = np.broadcast_to(habits, (5, len(UNITS)))
    region = ["head" if name in HEAD else "lower" if name in LOWER else "upper" for name in UNITS]
    persistence = np.array([z[f"{r}_persistence"] for r in region])
    onset = np.array([0.0 if r == "head" else squashed[f"{r}_onset"] for r in region])

    rate = np.full(len(UNITS), 0.8) * np.exp(0.4 * z["event_rate"] + habits[2])
    event_seconds = np.array([EVENT_SECONDS[r] for r in region]) * np.exp(0.25 * persistence + habits[1])
    blink = INDEX["blink"]
    rate[blink] *= BLINK_RATE / 0.8
    event_seconds[blink] = BLINK_SECONDS * BLINK_RATE / rate[blink]  # so that the eyes are shut for the same share of time

    return PersonDynamics(
        parameters=tuple(float(value) for value in parameters),
        seconds=np.array([SECONDS[r] for r in region]) * np.exp(0.45 * persistence + habits[0]),
        event_seconds=event_seconds,
        rise_share=np.clip(0.40 + 0.26 * onset + 0.2 * habits[3], 0.1, 0.9),
        rate=rate,
        event_share=np.full(len(UNITS), 0.6 + 0.25 * squashed["event_share"]),
        amplitude=np.exp(0.5 * habits[4]),
        smile_eyes=0.35 + 0.40 * squashed["smile_eyes"],
        jaw_brow=0.15 + 0.55 * squashed["jaw_brow"],
        smile_symmetry=0.50 + 0.40 * squashed["smile_symmetry"],
        speech_head=0.15 + 0.50 * squashed["speech_head"],
        smile_lead=0.08 * squashed["smile_lead"],
    )


def true_traits(person: PersonDynamics) -> np.ndarray:
    """The five traits without noise [5], standard normal over the population; their order is that of TRAITS."""
    z = dict(zip(PARAMETERS, person.parameters))
    return np.array([sum(w * z[p] for p, w in ws.items()) / np.linalg.norm([*ws.values()]) for ws in TRAIT_WEIGHTS.values()])


def task_profile(task: str) -> TaskProfile:
    """The profile of a task: 'talk' drives jaw and lips, 'watch' smile and brows; any other name gets one of its own."""
    mean, gain, rate = np.array([MEAN[name] for name in UNITS]), np.ones(len(UNITS)), np.ones(len(UNITS))
    if task == "talk":
        changes = {"jaw_drop": (0.10, 1.4, 1.8), "lip_press": (0.02, 1.3, 1.5), "lip_pucker": (0.02, 1.3, 1.5)}
        changes |= {name: (-0.05, 0.75, 1.0) for name in ("smile_left", "smile_right")}
    elif task == "watch":
        changes = {"jaw_drop": (-0.10, 0.65, 0.8), "lip_press": (-0.06, 0.75, 0.8), "lip_pucker": (-0.06, 0.75, 0.8)}
        changes |= {name: (0.06, 1.25, 1.2) for name in ("smile_left", "smile_right")}
        changes |= {name: (0.04, 1.2, 1.2) for name in UPPER} | {name: (0.0, 0.8, 0.8) for name in HEAD}
    else:
        digest = int.from_bytes(hashlib.sha256(task.encode()).digest()[:8], "big")
        draw = np.random.default_rng(digest).uniform(-1, 1, (3, len(UNITS)))
        changes = {name: (0.05 * m, np.exp(0.35 * g), np.exp(0.5 * r)) for name, (m, g, r) in zip(UNITS, draw.T)}
    changes.pop("blink", None)
    for name, (m, g, r) in changes.items():
        u = INDEX[name]
        mean[u], gain[u], rate[u] = mean[u] + (m if LOW[u] == 0 else 0), g, r
    return TaskProfile(mean, gain, rate)


def simulate(person: PersonDynamics, task: str, n_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Tracks of all units, float32 [T, U], from the stationary state (burn-in included).

    A unit is mean + spread * source. A source has mean 0 and variance 1 whatever the person's parameters: wandering (a
    smoothed Ornstein-Uhlenbeck process) plus Poisson events standardised by Campbell's theorem, so that neither its mean
    nor its variance tells one person from another. What does is when and how it moves, and with which other unit.
    """
    profile = task_profile(task)
    steps = max(1, int(np.ceil(50 / fps)))  # grid of at least 50 Hz, for lags of part of a frame
    dt = 1.0 / (fps * steps)
    margin, burn_in = round(MARGIN_SECONDS / dt), round(BURN_IN_SECONDS / dt)
    n = n_frames * steps + 2 * margin

    rate = person.rate * profile.rate
    wandering = _wandering(person.seconds, n, burn_in, dt, rng)  # [G, U]
    events = _events(person, rate, n, dt, rng)
    source = np.sqrt(1 - person.event_share) * wandering + np.sqrt(person.event_share) * events
    source[:, INDEX["blink"]] = events[:, INDEX["blink"]]

    keep = slice(margin, margin + n_frames * steps, steps)
    mixed = _couple(person, source, dt)[keep]
    tracks = profile.mean + np.array([SPREAD[name] for name in UNITS]) * profile.gain * person.amplitude * mixed
    tracks[:, INDEX["blink"]] = mixed[:, INDEX["blink"]]
    return np.clip(tracks, LOW, HIGH).astype(np.float32)


def _wandering(seconds, n, burn_in, dt, rng):
    """Ornstein-Uhlenbeck process through one more leaky integrator, unit variance [n, U]."""
    a, b = np.exp(-dt / seconds), np.exp(-dt / SMOOTHING_SECONDS)
    drive = np.sqrt(1 - a**2) * rng.standard_normal((n + burn_in, len(UNITS)))
    x, y = rng.standard_normal(len(UNITS)), np.zeros(len(UNITS))
    path = np.empty_like(drive)
    for t, step in enumerate(drive):
        x = a * x + step
        y = b * y + (1 - b) * x
        path[t] = y
    variance = (1 - b) / (1 + b) * (1 + a * b) / (1 - a * b)
    return path[burn_in:] / np.sqrt(variance)


def _events(person, rate, n, dt, rng):
    """Poisson events of a half-cosine rise and a half-cosine fall, mean 0 and variance 1 (blink: 0 open, 1 shut) [n, U].

    A pulse of length D has integral D/2 and square integral 3D/8 however the length is shared between rise and fall; so
    (Campbell) mean = rate E[a] D/2 and variance = rate E[a^2] 3D/8, and time asymmetry changes neither.
    """
    low, high = EVENT_SIZE
    square = (low**2 + low * high + high**2) / 3  # E[a^2], while E[a] = 1
    out = np.zeros((n, len(UNITS)))
    for u, (length, share, r) in enumerate(zip(person.event_seconds, person.rise_share, rate)):
        blink = u == INDEX["blink"]
        count = rng.poisson(r * (n * dt + length))
        onsets = rng.uniform(-length, n * dt, count)
        sizes = np.ones(count) if blink else rng.uniform(low, high, count)
        for onset, size in zip(onsets, sizes):
            first, last = max(0, int(np.ceil(onset / dt))), min(n, int((onset + length) / dt) + 1)
            phase = (np.arange(first, last) * dt - onset) / length
            rise, fall = phase / share, (1 - phase) / (1 - share)
            out[first:last, u] += size * (0.5 - 0.5 * np.cos(np.pi * np.clip(np.minimum(rise, fall), 0, 1)))
        if not blink:
            out[:, u] = (out[:, u] - r * length / 2) / np.sqrt(r * square * 3 * length / 8)
    return out


def _couple(person, source, dt):
    """Mixes sources into units; each unit keeps variance 1, since a coupling takes from its own source what it adds."""
    s = {name: source[:, u] for name, u in INDEX.items()}

    def mix(own, other, correlation, delay=0.0):
        return correlation * np.roll(other, round(delay / dt)) + np.sqrt(1 - correlation**2) * own

    out = dict(s)
    out["smile_right"] = mix(s["smile_right"], s["smile_left"], person.smile_symmetry, person.smile_lead)
    smile = (s["smile_left"] + out["smile_right"]) / np.sqrt(2 + 2 * person.smile_symmetry)
    out["eye_widen"] = mix(s["eye_widen"], -smile, person.smile_eyes, abs(person.smile_lead) / 2)
    out["brow_raise"] = mix(s["brow_raise"], s["jaw_drop"], person.jaw_brow)
    out["head_pitch"] = mix(s["head_pitch"], s["jaw_drop"], person.speech_head, 0.04)
    out["head_yaw"] = mix(s["head_yaw"], s["lip_pucker"], person.speech_head, 0.04)
    return np.stack([out[name] for name in UNITS], axis=1)
