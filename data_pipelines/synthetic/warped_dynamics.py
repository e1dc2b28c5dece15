"""How a person of the second bench moves: damped oscillations, speech rhythm, couplings, amplitude and asymmetry.

Made to be unlike `dynamics` in every respect: second-order autoregressive processes in place of wandering and events, syllables
in phrases, sizes that differ between people, and traits that are partly curved functions of the parameters. The traits bear the
names of the five-factor model so that the tables look like the real ones, and have NOTHING to do with personality.
"""

import dataclasses
import zlib

import numpy as np

MOUTH, BROWS, HEAD = ("jaw", "lips_round", "corner_left", "corner_right"), ("brow_left", "brow_right"), ("turn", "nod", "tilt")
UNITS = (*MOUTH, "cheek_left", "cheek_right", *BROWS, "lids", *HEAD)
INDEX = {name: u for u, name in enumerate(UNITS)}

# The parameters that differ between people, each standard normal over the population.
PARAMETERS = (
    "speech_rate",  # syllables a second
    "speech_share",  # share of the time that is speech
    "mouth_amplitude",  # size of what jaw, lips and corners do
    "brow_amplitude",
    "head_rate",  # frequency of the head's swing
    "head_damping",  # how soon a swing dies out
    "expression_seconds",  # how long an expression of corners, cheeks and brows lasts
    "asymmetry",  # how much larger the left side moves than the right
    "brow_speech",  # how much the brows go with the syllables
    "nod_speech",  # the same of the head's nod
    "attack",  # high: a slow rise and a fast fall of expressions
)
STEPS_A_SECOND = 50  # at least; the grid on which processes run
BURN_IN_SECONDS = 4.0
SYLLABLE_RATE, PHRASE_SECONDS = 4.0, 1.6
NOD_LAG_SECONDS = 0.12


@dataclasses.dataclass(frozen=True)
class WarpedPerson:
    """All that decides how one person moves."""

    parameters: tuple[float, ...]  # standardised, in the order of PARAMETERS
    speech_rate: float  # syllables a second
    speech_share: float  # of the time
    frequency: np.ndarray  # of each unit's own oscillation, Hz [U]
    seconds: np.ndarray  # until it has died out to 1/e [U]
    amplitude: np.ndarray  # [U]
    brow_speech: float
    nod_speech: float
    rise: float  # time constants of expressions, seconds
    fall: float


def draw_dynamics(rng: np.random.Generator) -> WarpedPerson:
    """A person of the population: standard normal parameters, and small habits of each unit that no trait knows of."""
    parameters, habits = rng.standard_normal(len(PARAMETERS)), 0.12 * rng.standard_normal((3, len(UNITS)))
    z = dict(zip(PARAMETERS, parameters))
    frequency, seconds, amplitude = np.full(len(UNITS), 0.5), np.full(len(UNITS), 0.5), np.ones(len(UNITS))
    for name, u in INDEX.items():
        if name in HEAD:
            frequency[u] = 0.7 * np.exp(0.35 * z["head_rate"])
            seconds[u] = 0.7 * np.exp(-0.40 * z["head_damping"])
        elif name not in ("jaw", "lids"):
            seconds[u] = 0.45 * np.exp(0.40 * z["expression_seconds"])
        amplitude[u] *= np.exp(0.22 * z["mouth_amplitude"]) if name in MOUTH else 1.0
        amplitude[u] *= np.exp(0.25 * z["brow_amplitude"]) if name in BROWS else 1.0
        side = {"left": 0.5, "right": -0.5}.get(name.rsplit("_", 1)[-1], 0.0)
        amplitude[u] *= np.exp(0.35 * side * z["asymmetry"])
    return WarpedPerson(
        parameters=tuple(float(value) for value in parameters),
        speech_rate=SYLLABLE_RATE * float(np.exp(0.2 * z["speech_rate"])),
        speech_share=float(1 / (1 + np.exp(-0.5 * z["speech_share"]))),
        frequency=frequency * np.exp(habits[0]),
        seconds=seconds * np.exp(habits[1]),
        amplitude=amplitude * np.exp(habits[2]),
        brow_speech=float(0.4 * np.tanh(0.8 * z["brow_speech"]) + 0.2),
        nod_speech=float(0.4 * np.tanh(0.8 * z["nod_speech"]) + 0.2),
        rise=float(0.06 * np.exp(0.6 * np.tanh(z["attack"]))),
        fall=float(0.06 * np.exp(-0.6 * np.tanh(z["attack"]))),
    )


def true_traits(person: WarpedPerson) -> np.ndarray:
    """The five traits without noise [5], of mean 0 and variance 1 over the population, in the order of dynamics.TRAITS.

    Each is a weighted sum of uncorrelated terms of variance one, over the root of the sum of squared weights.
    """
    z = dict(zip(PARAMETERS, person.parameters))
    # A standard normal has E|z| = 0.798, sd|z| = 0.603; sd tanh(1.2 z) = 0.681.
    one_sided = (abs(z["asymmetry"]) - 0.798) / 0.603
    weighted = (
        {0.7: z["mouth_amplitude"], 0.5: z["speech_rate"], 0.4: z["speech_share"]},
        {-0.7: z["head_rate"], 0.5: z["expression_seconds"], -0.3: z["brow_amplitude"]},
        {0.6: np.tanh(1.2 * z["brow_speech"]) / 0.681, 0.5: z["nod_speech"], 0.4: z["expression_seconds"]},
        {0.6: z["head_damping"], 0.5: z["speech_share"], -0.3: one_sided},
        {0.6: z["attack"], 0.5: z["head_rate"], 0.3: z["brow_amplitude"] * z["speech_rate"]},
    )
    return np.array([sum(w * x for w, x in terms.items()) / np.linalg.norm([*terms]) for terms in weighted])


def simulate(person: WarpedPerson, task: str, n_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Tracks of all units, float32 [T, U], of about unit size around 0; jaw and lids at least 0."""
    speech_of_task, smile_of_task = {"talk": (1.0, 0.0), "watch": (0.35, 0.6)}.get(task, _of_other_task(task))
    steps = max(1, int(np.ceil(STEPS_A_SECOND / fps)))
    dt = 1 / (fps * steps)
    burn_in = round(BURN_IN_SECONDS / dt)
    n = n_frames * steps + burn_in
    own = _oscillations(person.frequency, person.seconds, n, dt, rng)
    syllables = _syllables(person.speech_rate, speech_of_task * person.speech_share, n, dt, rng)
    rhythm = (syllables - syllables.mean()) / (syllables.std() + 1e-6)

    expressive = [u for u, name in enumerate(UNITS) if name not in HEAD and name not in ("jaw", "lids")]
    own[:, expressive] = _attack(own[:, expressive], person.rise, person.fall, dt)
    out = own.copy()
    out[:, INDEX["jaw"]] = 1.3 * syllables + 0.25 * own[:, INDEX["jaw"]]
    out[:, INDEX["lips_round"]] = 0.7 * own[:, INDEX["lips_round"]] + 0.5 * np.roll(rhythm, round(0.06 / dt))
    for left, right in (("corner_left", "corner_right"), ("cheek_left", "cheek_right"), ("brow_left", "brow_right")):
        out[:, INDEX[right]] = 0.8 * own[:, INDEX[left]] + 0.6 * own[:, INDEX[right]]
    for side in ("left", "right"):
        corner, cheek, brow = (INDEX[f"{name}_{side}"] for name in ("corner", "cheek", "brow"))
        out[:, cheek] = 0.7 * out[:, corner] + 0.5 * out[:, cheek]
        out[:, brow] = (1 - abs(person.brow_speech)) * out[:, brow] + person.brow_speech * rhythm
        out[:, corner] += smile_of_task
    out[:, INDEX["nod"]] = own[:, INDEX["nod"]] + person.nod_speech * np.roll(rhythm, round(NOD_LAG_SECONDS / dt))
    out[:, INDEX["lids"]] = _blinks(n, dt, rng)
    out *= person.amplitude
    out[:, INDEX["jaw"]] = np.maximum(out[:, INDEX["jaw"]], 0)
    return out[burn_in::steps][:n_frames].astype(np.float32)


def dynamics_statistics(clips: list[np.ndarray]) -> np.ndarray:
    """How a person moves, from its clips' true tracks [T, U]: float64 [7 U + 3], the mean over the clips. The oracle's input.

    Of every unit log amplitude, autocorrelations at lags 1, 2, 4 and 8 and the skewness of values and steps; then the
    correlations of jaw and brows, jaw and nod (lagged), and the size of the asymmetry.
    """
    return np.mean([_clip_statistics(np.asarray(tracks, np.float64)) for tracks in clips], axis=0)


def _clip_statistics(tracks):
    centred, steps = tracks - tracks.mean(0), np.diff(tracks, axis=0)
    std = centred.std(0) + 1e-6
    found = [np.log(std)]
    found += [(centred[lag:] * centred[:-lag]).mean(0) / std**2 for lag in (1, 2, 4, 8)]
    found += [(centred**3).mean(0) / std**3, (steps**3).mean(0) / (steps.std(0) + 1e-6) ** 3]
    jaw, lag = centred[:, INDEX["jaw"]] / std[INDEX["jaw"]], round(NOD_LAG_SECONDS * 25)
    brows, nod = centred[:, INDEX["brow_left"]] / std[INDEX["brow_left"]], centred[:, INDEX["nod"]] / std[INDEX["nod"]]
    ratio = np.log(std[INDEX["corner_left"]] / std[INDEX["corner_right"]])
    return np.concatenate([*found, [(jaw * brows).mean(), (jaw[:-lag] * nod[lag:]).mean(), abs(ratio)]])


def _of_other_task(task):
    draw = np.random.default_rng(zlib.crc32(task.encode())).uniform(0, 1, 2)
    return 0.3 + 0.7 * draw[0], 0.6 * draw[1]


def _oscillations(frequency, seconds, n, dt, rng):
    """Second-order autoregressive processes of unit variance, [n, U]: noise that swings at a frequency and dies out."""
    radius, angle = np.exp(-dt / seconds), 2 * np.pi * frequency * dt
    a, b = 2 * radius * np.cos(angle), -(radius**2)
    # Variance of x_t = a x_t-1 + b x_t-2 + e for e of variance one.
    variance = (1 - b) / ((1 + b) * ((1 - b) ** 2 - a**2))
    noise = rng.standard_normal((n, len(frequency))) / np.sqrt(variance)
    out, last, before = np.empty_like(noise), np.zeros(len(frequency)), np.zeros(len(frequency))
    for t in range(n):
        last, before = a * last + b * before + noise[t], last
        out[t] = last
    return out


def _attack(x, rise, fall, dt):
    """x [n, U] followed with one time constant upwards and another downwards."""
    up, down, out, y = 1 - np.exp(-dt / rise), 1 - np.exp(-dt / fall), np.empty_like(x), x[0]
    for t, target in enumerate(x):
        y = y + np.where(target > y, up, down) * (target - y)
        out[t] = y
    return out


def _syllables(rate, share, n, dt, rng):
    """Openings of the mouth in [0, 1], [n]: syllables at about this rate, in phrases that fill this share of the time."""
    talking, level = rng.uniform() < share, 0.0
    leave = dt / np.array([PHRASE_SECONDS * (1 - share) / max(share, 0.05), PHRASE_SECONDS])  # of a pause, of a phrase
    phase, pace, out = rng.uniform(), 0.0, np.empty(n)
    for t in range(n):
        talking ^= rng.uniform() < leave[int(talking)]
        level += dt / 0.08 * (float(talking) - level)
        pace += dt / 0.5 * -pace + 0.25 * np.sqrt(2 * dt / 0.5) * rng.standard_normal()
        phase += dt * rate * np.exp(pace)
        out[t] = level * np.sin(np.pi * phase) ** 2
    return out


def _blinks(n, dt, rng):
    """Lids, 0 open to 1 shut, [n]: blinks at 0.3 a second, the same for everybody."""
    out, length = np.zeros(n), round(0.24 / dt)
    shape = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
    for start in np.flatnonzero(rng.uniform(size=n) < 0.3 * dt):
        part = out[start : start + length]
        np.maximum(part, shape[: len(part)], out=part)
    return out
