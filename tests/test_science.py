"""What the figures of pretraining rest on: it learns, from the centre frame, keeps the best step, and is judged on strangers.

Every test is a property that a wrong line would break without an error: no number is stored here.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.dataset.face_clips import ClipInfo
from facedyn.config import default_config
from facedyn.core import unet
from facedyn.stages import pretrain
from facedyn.stages.held_out import HeldOut
from facedyn.stages.runtime import common

SIZE, HALF = 8, 2
SPLIT_OF = {"a": "train", "b": "train", "c": "validation", "d": "validation", "e": "test", "f": "test"}


class Clips:
    """Two people a split, one clip each: a face that brightens from left to right, the same in every cycle."""

    image_size, channels = SIZE, 1

    def __init__(self):
        numbers = np.arange(24, dtype=np.int32)
        self.clips = tuple(ClipInfo(p, p, "", "", split, 25.0, numbers, np.zeros(0)) for p, split in SPLIT_OF.items())

    def frames(self, record, positions):
        rise = 100 + 10 * (np.asarray(positions)[..., None, None, None] % 12)
        return np.broadcast_to(rise + record + np.arange(SIZE)[:, None], (*np.shape(positions), SIZE, SIZE, 1)).astype(np.uint8)


def settings(**pretraining):
    config = default_config()
    config.data.image_size, config.data.channels = SIZE, 1
    config.model.channels, config.model.groups = (4, 6), 2
    config.rank_loss.half_length, config.rank_loss.scales = HALF, (1,)
    config.traits.bootstrap = 20
    config.pretrain.batch_size, config.pretrain.eval_windows, config.pretrain.loader_threads = 4, 4, 1
    config.pretrain.update(pretraining)
    return config


@pytest.fixture(scope="module")
def compiled():
    return pretrain.Compiled(settings(steps=60))


def fresh(compiled):
    """The state at the start, on all devices; as the update takes it."""
    params = unet.init(compiled.model, jax.random.key(0), SIZE)
    return {"params": params, "opt_state": compiled.transform.init(params), "step": jnp.zeros((), jnp.int32)}


def noise(seed, windows=8):
    return np.random.default_rng(seed).integers(0, 256, (windows, 2 * HALF + 1, SIZE, SIZE, 1), np.uint8)


def test_the_update_brings_the_loss_down_on_what_it_sees_again_and_again(compiled):
    """The optimiser, with the config's own learning rate and warm-up, changes the model: memorising eight windows is easy."""
    state, stack, losses = fresh(compiled), jnp.asarray(noise(0)[None]), []
    for _ in range(60):
        state, loss = compiled.update(state, stack)
        losses.append(float(loss[0]))
    assert losses[-1] < 0.9 * losses[0]
    assert int(state["step"]) == 60


def with_centre(windows, seed):
    """The same windows with other centre frames: no pair of frames that the loss compares is touched."""
    return np.concatenate([windows[:, :HALF], noise(seed, len(windows))[:, HALF : HALF + 1], windows[:, HALF + 1 :]], 1)


def test_the_model_sees_the_centre_frame_in_training_and_in_evaluation(compiled):
    """The loss compares the other frames only, so changing the centre frame alone acts through the model's input alone."""
    both = noise(1), with_centre(noise(1), 2)
    one, other = (float(compiled.update(fresh(compiled), jnp.asarray(windows[None]))[1][0]) for windows in both)
    assert one != other
    params, many = fresh(compiled)["params"], noise(3, windows=64)
    one, other = (np.asarray(compiled.model_accuracy(params, windows)) for windows in (many, with_centre(many, 4)))
    assert (one != other).any()


def scripted(monkeypatch, accuracies):
    """Pretraining whose accuracies on validation people are these: (what was measured, people of every HeldOut)."""
    monkeypatch.setattr(common, "open_data", lambda *_: Clips())
    measured, people, script = [], [], iter(accuracies)
    init, own = HeldOut.__init__, HeldOut.accuracies

    def noted(self, *args):
        init(self, *args)
        people.append(self.people)

    def by_script(self, methods):
        if len(methods) > 1:  # the controls, at the end
            return own(self, methods)
        measured.append(jax.tree.map(np.array, methods[0][1]))
        return [np.full(len(self.people), next(script))]

    monkeypatch.setattr(HeldOut, "__init__", noted)
    monkeypatch.setattr(HeldOut, "accuracies", by_script)
    return measured, people


def test_the_best_step_is_kept_and_patience_ends_the_training(monkeypatch, tmp_path):
    """Best at the second evaluation, and two without a new best are enough: of ten evaluations there are four."""
    config = settings(steps=20, eval_every=2, patience=2, learning_rate=1e-2, warmup_steps=1)
    make_step = pretrain.make_step

    def guarded(*args):
        """All that an update reads is on the devices, where it belongs."""
        return jax.transfer_guard("disallow")(make_step(*args))

    monkeypatch.setattr(pretrain, "make_step", guarded)
    measured, people = scripted(monkeypatch, [0.5, 0.9, 0.6, 0.7, 0.95, 0.6, 0.6, 0.6, 0.6, 0.6])
    summary = pretrain.run(config, tmp_path)
    assert len(measured) == 4
    assert summary["steps"] == {1: 8}
    kept = jax.tree.leaves(pretrain.load_generic(config, tmp_path, 1))
    same = [all(np.array_equal(a, b) for a, b in zip(kept, jax.tree.leaves(params), strict=True)) for params in measured]
    assert same == [False, True, False, False]
    # Stopping is decided on people of the split `validation`, what is quoted is measured on those of `test`: all strangers.
    # At the end the controls of the validation people are measured too, for the picture of the learning curve.
    assert summary["people"] == ["a", "b"]
    assert people == [["c", "d"], ["e", "f"], ["c", "d"]]
