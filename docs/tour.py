# %% [markdown]
# # A tour of facedyn
#
# This tour goes from synthetic faces to representations with functions of `facedyn.core` only: the rank loss, the generic
# model, the person filters, and whether a person is found again. Install the package first (`pip install -e '.[docs]'`). The
# tour is a script and a notebook with the same cells: run `python docs/tour.py`, or open `docs/tour.ipynb`.
# `docs/make_notebook.py` makes the notebook from the script.

# %%
import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from PIL import Image

from data_pipelines.dataset.windows import centre_positions, window_positions
from data_pipelines.synthetic.appearance import draw_appearance
from data_pipelines.synthetic.dynamics import draw_dynamics, simulate
from data_pipelines.synthetic.rendering import render
from facedyn.core import fit, identification, person_filters, solvers, unet
from facedyn.core.rank_loss import RankLoss, copied_input

# People in the pool and people fitted, frames a person, optimiser steps.
POOL, PEOPLE, FRAMES, STEPS = 24, 16, 400, 400
PICTURE = "dynamics.png"

# %% [markdown]
# ## Faces
#
# A person's looks and movement come from separate random numbers. Nothing is downloaded; the faces show nobody.


# %%
def person(number, size=32):
    """Frames [T, 32, 32, 3] of a synthetic person."""
    looks, moves, sensor = (np.random.default_rng((number, stream)) for stream in range(3))
    tracks = simulate(draw_dynamics(moves), "talk", FRAMES, 25.0, moves)
    return render(draw_appearance(looks), tracks, size, sensor)


pool = [person(number) for number in range(POOL)]  # the generic model learns from these
people = [person(1000 + number) for number in range(PEOPLE)]  # and never sees these
print(f"{POOL} + {PEOPLE} people, {FRAMES} frames each, {people[0].shape[1:]}")

# %% [markdown]
# ## The rank loss
#
# A dynamic representation is what the model predicts from the centre frame of a window: one map (an image of signed numbers)
# for the frames before it and one for those after. The score of a frame is its inner product with the map. The rank loss asks
# that the scores rise in temporal order.

# %%
SCALE, LOSS = 2, RankLoss(half_length=4)
centres = centre_positions(np.arange(FRAMES), SCALE, LOSS.half_length)
rows = window_positions(centres, SCALE, LOSS.half_length)  # [N, 9]: which frames make a window
windows = jnp.asarray(people[0][rows[:64]])  # [64, 9, 32, 32, 3]
copied = LOSS.accuracy(copied_input(windows, LOSS), windows).mean()
print(f"ranking accuracy of the copied input, one person: {copied:.2f}; of no map at all: 0.50")

# %% [markdown]
# ## The generic model
#
# A small U-net learns from the pool. It sees the centre frame only.

# %%
network = unet.UNet((8, 16, 32), groups=4)
params = unet.init(network, jax.random.key(0), 32)
optimiser = optax.adam(optax.cosine_decay_schedule(4e-3, STEPS))


def accuracy(params, windows):
    """Ranking accuracy of the generic model, a mean over windows."""
    return LOSS.accuracy(network.apply(params, windows[:, LOSS.half_length]), windows).mean()


@jax.jit
def step(params, state, windows):
    def objective(params):
        return LOSS(network.apply(params, windows[:, LOSS.half_length]), windows).mean()

    value, gradient = jax.value_and_grad(objective)(params)
    updates, state = optimiser.update(gradient, state)
    return optax.apply_updates(params, updates), state, value


random, state = np.random.default_rng(0), optimiser.init(params)
losses = []
for _ in range(STEPS):
    chosen = zip(random.integers(POOL, size=32), random.integers(len(rows), size=32))
    params, state, value = step(params, state, np.stack([pool[who][rows[row]] for who, row in chosen]))
    losses.append(float(value))
held_out = jnp.asarray(np.concatenate([own[rows[::40]] for own in people]))
generic = jax.jit(accuracy)(params, held_out)
copied = LOSS.accuracy(copied_input(held_out, LOSS), held_out).mean()
print(f"loss {losses[0]:.2f} -> {np.mean(losses[-20:]):.2f}")
print(f"ranking accuracy on people it has not seen: {generic:.3f}, copied input {copied:.3f}")

# %% [markdown]
# ## Person filters
#
# The model is frozen. One call fits the filters of all people; it is made twice, for the first and for the second half of their
# frames. The weights of a person's filters are the representation.

# %%
SITES, KIND = person_filters.sites(network.channels), "pointwise"
MODEL = fit.Model(
    encode=lambda frames: unet.encode(network, params, frames),
    decode=lambda features, tap: unet.decode(network, params, features, tap),
)


SOLVER = solvers.make("gauss_newton", learning_rate=1.0, steps=1, batch_size=16)
half = FRAMES // 2
of_half = rows[rows[:, -1] < half][:: max(1, half // 64)]
fit_people = fit.fit_people(MODEL, LOSS, SOLVER, SITES, KIND)
first, second = (
    fit_people(fit.equal_units(np.stack(frames), of_half), jax.random.key(1))
    for frames in ([own[:half] for own in people], [own[half:] for own in people])
)
slots = person_filters.layout(SITES, KIND)
one, other = person_filters.flatten(first, slots), person_filters.flatten(second, slots)  # [P, D]
top1, mrr = identification.top1_and_mrr(one, other)
print(f"representations {one.shape}; the nearest second half is the same person's: {top1:.2f} (chance {1 / PEOPLE:.2f})")

# %% [markdown]
# ## A picture
#
# Each row is a person: a frame before, the map for the frames before, the centre frame, the map for the frames after, a frame
# after. The maps are drawn over the centre frame: red where the frames get brighter in time, blue where they get darker.

# %%
matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def over(picture, values, limit):
    """Colours of `values` [H, W] over the grey picture [H, W, 3], the stronger the more; RGB in [0, 1]."""
    colours = matplotlib.colormaps["RdBu_r"](0.5 + 0.5 * np.clip(values / limit, -1, 1))[..., :3]
    share = np.minimum(1, 2.5 * np.abs(values)[..., None] / limit)
    return np.clip((1 - share) * (picture.mean(-1, keepdims=True) / 255 * 0.8 + 0.2) + share * colours, 0, 1)


shown = min(3, PEOPLE)
figure, axes = plt.subplots(shown, 5, figsize=(7.5, 1.62 * shown), squeeze=False, layout="compressed")
for number, line in enumerate(axes):
    own = people[number]
    # The moment at which this person moves most.
    moving = np.abs(np.diff(own.astype(float), axis=0)).mean((1, 2, 3))
    before, centre, after = own[rows[np.argmax(np.convolve(moving, np.ones(9), "same")[centres])][[0, LOSS.half_length, -1]]]
    filters = jax.tree.map(lambda f, n=number: f[n], first)
    maps = unet.decode(network, params, unet.encode(network, params, centre[None]), person_filters.tap(filters, KIND))
    maps = np.asarray(maps[0].mean(-1))  # [2, H, W]
    limit = np.quantile(np.abs(maps), 0.995)
    for axis, picture in zip(line, (before, over(centre, maps[0], limit), centre, over(centre, maps[1], limit), after)):
        axis.imshow(picture, interpolation="bicubic")
        axis.set_axis_off()
for axis, title in zip(axes[0], ("frame before", "map before", "centre frame", "map after", "frame after")):
    axis.set_title(title, fontsize=9)
figure.canvas.draw()
# A palette of 256 colours takes a third of the bytes.
drawing = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]).quantize(256)
drawing.save(PICTURE, optimize=True)
plt.close(figure)
print(f"{PICTURE}: {pathlib.Path(PICTURE).stat().st_size / 1000:.0f} kB")
drawing.convert("RGB")  # shown in the notebook

# %% [markdown]
# ## From here
#
# The stages of `facedyn run` do this with files, several scales, held-back frames, controls, traits and a report. Try
# `facedyn run --config=configs/demo.py --workdir=runs/demo`. `docs/fork.md` and `tests/fork_example.py` show your own network
# or loss.
