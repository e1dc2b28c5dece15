"""Wrong lines for benchmarks/mutation.py: (file, text that stands there once, what replaces it, tests that should notice).

Each is an error that leaves every program running and every table plausible. Tests are files or single tests under tests/.
"""

from typing import NamedTuple

CORE, STAGES = "facedyn/core/", "facedyn/stages/"
SCIENCE, ENGINE, FIT, SITES = "test_science.py", "test_site_engine.py", "test_fit.py", "test_site_dynamics.py"
HEADS, WEIGHTS, LOSS, METRICS = "test_cross_validation.py", "test_feature_weights.py", "test_rank_loss.py", "test_metrics.py"
VERDICTS, BASES, LANDMARKS, STACKING = "test_verdicts.py", "test_bases.py", "test_landmark_face.py", "test_stacking.py"
UPDATES = SCIENCE + "::test_the_update_brings_the_loss_down_on_what_it_sees_again_and_again"
CENTRE = SCIENCE + "::test_the_model_sees_the_centre_frame_in_training_and_in_evaluation"
STOPS = SCIENCE + "::test_the_best_step_is_kept_and_patience_ends_the_training"
UNSEEN = ENGINE + "::test_figures_on_held_back_rows_are_of_filters_that_have_not_seen_them"
MOVEMENT = ENGINE + "::test_the_basis_is_of_movement_not_of_who_is_seen"
HALVES = ENGINE + "::test_halves_of_a_person_share_no_frame"
SHUFFLED = ENGINE + "::test_shuffled_frames_get_population_filters_of_shuffled_frames"
PLAN = "test_fit_units.py::test_centres_are_split_with_a_gap_or_not_at_all"


class Mutant(NamedTuple):
    """One wrong line, or two that are wrong together."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _core(file, old, new, *tests):
    return Mutant(CORE + file, old, new, tests)


def _stage(file, old, new, *tests):
    return Mutant(STAGES + file, old, new, tests)


def _faces(file, old, new, *tests):
    return Mutant("data_pipelines/faces/" + file, old, new, tests)


MUTANTS = (
    _stage("pretrain.py", '"params": optax.apply_updates(state["params"], updates)', '"params": state["params"]', UPDATES),
    _stage("pretrain.py", "(0.0, learning_rate, warmup", "(0.0, 1e-9 * learning_rate, warmup", UPDATES),
    _stage("pretrain.py", "windows[:, settings.half_length]), windows, settings", "windows[:, 0]), windows, settings", CENTRE),
    _stage("pretrain.py", "model.apply(p, w[:, settings.half_length]), w", "model.apply(p, w[:, 0]), w", CENTRE),
    _stage("pretrain.py", "best_step = series.best_step()", "best_step = series.latest_step()", STOPS),
    _stage("pretrain.py", "while step < c.steps and since_best < c.patience:", "while step < c.steps:", STOPS),
    _stage("pretrain.py", "HeldOut(face_clips, validation, scale", "HeldOut(face_clips, training, scale", STOPS),
    _stage("pretrain.py", 'common.records_of(face_clips, ("test",)) if', "training if", STOPS),
    _stage(
        "pretrain.py", "if accuracy > best else (best, since_best + 1)", "if accuracy < best else (best, since_best + 1)", STOPS
    ),
    _stage(
        "pretrain.py",
        "if accuracy > best else (best, since_best + 1)",
        "if accuracy > best else (accuracy, since_best + 1)",
        STOPS,
    ),
    _stage(
        "held_out.py",
        "[means[person] for person in self.people]",
        "[means[person] for person in self.people[::-1]]",
        "test_held_out.py",
    ),
    _stage(
        "held_out.py",
        "self._windows[start : start + self._batch], np.stack",
        "self._windows[: self._batch], np.stack",
        "test_held_out.py",
    ),
    _stage("held_out.py", "np.stack(rows, 1).mean(1).tolist()", "np.stack(rows, 1)[:, 0].tolist()", "test_held_out.py"),
    _core("rank_loss.py", "settings.margin - difference", "settings.margin + difference", LOSS),
    _core("rank_loss.py", "jax.nn.softplus(-difference)", "jax.nn.softplus(difference)", LOSS),
    _core("rank_loss.py", "windows[:, n + 1 :]], 1)", "windows[:, n:-1]], 1)", LOSS),
    _core("rank_loss.py", "v = weight * (x - mean)", "v = weight * x", LOSS),
    _core("rank_loss.py", "jnp.triu_indices(length, 1)", "jnp.triu_indices(length, 2)", LOSS),
    _core("rank_loss.py", "jnp.where(difference == 0, 0.5,", "jnp.where(difference == 0, 1.0,", LOSS),
    _core("rank_loss.py", "return penalty + settings.l2", "return penalty - settings.l2", LOSS),
    _core(
        "rank_loss.py",
        "2.0 * jnp.arange(1, length + 1) - length - 1",
        "2.0 * jnp.arange(1, length + 1)[::-1] - length - 1",
        LOSS,
    ),
    _core("unet.py", "np.prod(leaf.shape[:-1]) ** -0.5", "5 * np.prod(leaf.shape[:-1]) ** -0.5", "test_unet.py"),
    _core(
        "unet.py",
        "convolve(h.astype(self.dtype), kernel.astype(self.dtype))",
        "convolve(h.astype(jnp.float32), kernel)",
        "test_unet.py",
    ),
    _stage("runtime/common.py", "dtype=jnp.dtype(config.model.dtype),", "dtype=jnp.dtype('float32'),", "test_unet.py"),
    _core("unet.py", "second - jnp.square(mean), 0)", "second, 0)", "test_unet.py"),
    _core("unet.py", 'tap(f"skip{level}", features[level])', "features[level]", "test_unet.py"),
    _core("unet.py", "kernel[::-1, ::-1].swapaxes(2, 3)", "kernel.swapaxes(2, 3)", "test_unet.py"),
    _core("fit.py", "model.encode(windows[:, centre])", "model.encode(windows[:, 0])", FIT),
    _core("fit.py", "centres = units.windows[:, :, units.windows.shape[-1] // 2]", "centres = units.windows[:, :, 0]", FIT),
    _core("fit.py", "where = row < unit.count", "where = row <= unit.count", FIT),
    _core("solvers.py", "return state, optax.apply_updates(filters, updates)", "return state, filters", FIT),
    _core("solvers.py", "-learning_rate * t / jnp.maximum(seen, 1)", "-learning_rate * t", FIT),
    _core("solvers.py", "lambda g, scale: -scale *", "lambda g, scale: scale *", FIT),
    _core(
        "person_filters.py",
        "jnp.add(h, KINDS[kind].apply(weights.astype(h.dtype), h))",
        "h + 0 * h",
        "test_person_filters.py",
        FIT,
    ),
    _core("low_rank.py", "now - clip_means(now, clip, where, clip), 0)", "now, 0)", SITES),
    _core("low_rank.py", "around[:, n + 1 :].mean(1) - now], 1)", "around[:, n:].mean(1) - now], 1)", SITES),
    _core(
        "low_rank.py",
        "jnp.asarray(ridge)[..., None, None] * jnp.eye",
        "0.1 * jnp.asarray(ridge)[..., None, None] * jnp.eye",
        SITES,
    ),
    _core("low_rank.py", "missed = xty - jnp.einsum", "missed = xty - 0 * jnp.einsum", SITES),
    _core("low_rank.py", "states[windows]).mean(0)", "states[windows])[0]", SITES),
    _core(
        "low_rank.py",
        "error, after, rows = quality(population + filters, states",
        "error, after, rows = quality(filters, states",
        SITES,
    ),
    _core(
        "pca.py",
        "np.linalg.eigh(products)",
        "np.linalg.eigh(products + np.eye(len(products)))",
        SITES,
    ),
    _core("pca.py", "values[::-1][:most], vectors[:, ::-1][:, :most]", "values[:most], vectors[:, :most]", SITES),
    _core(
        "blocks.py",
        "change - dynamics(population + own, centred), step[:, None]]",
        "change, step[:, None]]",
        "test_blocks.py",
    ),
    _core("blocks.py", "mean(scaled**3), jnp.log", "mean(jnp.abs(scaled) ** 3), jnp.log", "test_blocks.py"),
    _stage(
        "fit/closed_form.py",
        "held_back_quality(population, solve(population, ridge, fitted), fitted",
        "held_back_quality(population, solve(population, ridge, low_rank.concatenate_rows(fitted, held)), fitted",
        UNSEEN,
    ),
    _stage("fit/closed_form.py", "count = low_rank.concatenate_rows(fitted, held)", "count = fitted", UNSEEN),
    _stage("fit/learning.py", "centred = subtract_clip_means(maps.pop(0), clip)", "centred = maps.pop(0)", MOVEMENT),
    _stage("fit/learning.py", "RIDGES[of_ridges.argmin(0)]", "RIDGES[of_ridges.argmax(0)]", ENGINE),
    _stage(
        "fit/learning.py",
        "return np.stack([mean, std]).astype(np.float32)",
        "return np.stack([mean, 1 + std]).astype(np.float32)",
        ENGINE,
    ),
    _stage("fit/fit_stage.py", "(half and fitting.uses_all) or seconds", "seconds", HALVES),
    _stage("fit/units.py", "first + round(left * fps)", "first + round(fps)", "test_windows.py"),
    _stage("fit/units.py", "left -= (centres[-1] + reach + 1 - first) / fps", "left -= 0.0", "test_windows.py"),
    _stage("traits/landmark_features.py", "tracks[run] for run in", "tracks for run in", "test_landmark_baselines.py"),
    _core("blocks.py", "chosen / np.maximum(np.bincount(of_bands, chosen), 1)[of_bands]", "chosen", "test_blocks.py"),
    _stage("fit/learning.py", "config.seed if control == SHUFFLED else None", "None", SHUFFLED),
    _stage("fit/learning.py", "if clip.person_id in people]", "if clip.person_id not in people]", SHUFFLED),
    _stage(
        "fit/units.py", "return centres[centres < kept[0] - 2 * reach], kept", "return centres[centres < kept[0]], kept", PLAN
    ),
    _stage("fit/batching.py", ".permutation(len(needed))", ".permutation(1) if False else np.arange(len(needed))", ENGINE),
    _core("ridge_selection.py", "best = errors.argmin(0)", "best = errors.argmax(0)", HEADS),
    _core("ridge_selection.py", "test = rows & ~fit", "test = rows & fit", HEADS),
    _core(
        "cross_validation.py",
        "trains, seeds = [fold != k for k in folds]",
        "trains, seeds = [fold >= -1 for k in folds]",
        HEADS,
    ),
    _core(
        "cross_validation.py",
        "means = np.stack([np.nanmean(y[fold != k], 0)",
        "means = np.stack([np.nanmean(y[fold == k], 0)",
        HEADS,
    ),
    _core("cross_validation.py", "best = gain.argmin()", "best = gain.argmax()", HEADS),
    _core("mlp_validation.py", "choice = grid[jnp.argmin(", "choice = grid[jnp.argmax(", HEADS),
    _core("mlp_validation.py", "trains = [fold != k for k in", "trains = [fold >= -1 for k in", HEADS),
    _core(
        "stacking.py", "return weights / weights.sum(), means", "return np.full(len(means), 1 / len(means)), means", STACKING
    ),
    _core("stacking.py", "(errors.sum(1).argmax if worst else errors.sum(1).argmin)()", "errors.sum(1).argmin()", STACKING),
    _core("pca.py", "(of[0], of[1] / weights)", "(of[0], of[1] * weights)", WEIGHTS),
    _stage("traits/trait_protocol.py", "weights=features.weights", "weights=None", WEIGHTS),
    _stage("traits/trait_features.py", "if self.weights is None:", "if True:", WEIGHTS),
    _stage("traits/trait_predictions.py", "weights = rows.weights_for(x.shape[1])", "weights = None", WEIGHTS),
    _stage(
        "traits/trait_predictions.py",
        "ridge_settings(config), row_fold, samples.weights_for(x.shape[1])",
        "ridge_settings(config), row_fold, None",
        WEIGHTS,
    ),
    _core("verdicts.py", "if low <= chance:", "if high <= chance:", VERDICTS),
    _core("verdicts.py", "if has_copy and value <= copied:", "if has_copy and value < copied:", VERDICTS),
    _core("verdicts.py", "if n < MIN_PEOPLE:", "if n < 2:", VERDICTS),
    _stage("../store/scores.py", 'own = own[own["split"] == row.key.split]', "own = own", VERDICTS),
    _stage("../report/sections_movement.py", '(every["split"] == "validation") & (every', "(every", "test_report_sections.py"),
    _core(
        "metrics.py",
        "scale = jnp.sqrt(weighted_mean(y**2, weights)) * jnp.sqrt(weighted_mean(p**2, weights))",
        "scale = weighted_mean(y**2, weights)",
        METRICS,
    ),
    _core("metrics.py", "_mean(p**2, weights) + bias**2", "_mean(p**2, weights)", METRICS),
    _core(
        "identification.py",
        "return (similarity >= own[:, None]).sum(1), 1.0",
        "return (similarity > own[:, None]).sum(1), 1.0",
        METRICS,
        "test_identification.py",
    ),
    _core("metrics.py", "drawn = jax.random.randint(key, (people,), 0, people)", "drawn = jnp.arange(people)", METRICS),
    _core(
        "metrics.py",
        "jnp.percentile(drawn[1:], jnp.array([2.5, 97.5])",
        "jnp.percentile(drawn[1:], jnp.array([25, 75.0])",
        METRICS,
    ),
    _core("metrics.py", "rows = weights[people]  # [N]", "rows = jnp.ones(len(people)) + 0 * weights[0]", METRICS),
    _core("weight_shares.py", "w = np.where(sd > 0, w, 0.0)", "w = w + 0.0", "test_weight_shares.py"),
    _core("bases.py", "scipy.linalg.eigh(lagged + lagged.T,", "scipy.linalg.eigh(-lagged - lagged.T,", BASES),
    _core("bases.py", "chosen = np.argsort(values)[::-1][:rank]", "chosen = np.argsort(values)[:rank]", BASES),
    _core("bases.py", "- (1 - g**2).mean(0)[:, None] * turn", "- 0.0 * turn", BASES),
    _core("bases.py", "found = directions / np.where(spread > 0, spread, 1)", "found = directions / 1.0", BASES),
    _stage("fit/kept_states.py", "np.where(there[places] == positions, places, -1)", "places", "test_kept_states.py"),
    _stage(
        "fit/kept_states.py",
        "if self._model is None or not _equal(",
        "if self._model is None and _equal(",
        "test_kept_states.py",
    ),
    _faces("changes.py", "if (before @ after.T).max() < same:", "if True:", "test_changes.py"),
    _faces("changes.py", "while len(around) and around.min() < another:", "while False:", "test_changes.py"),
    _faces(
        "changes.py", "(last - MARGIN) * DESCRIBED_EVERY + 1", "(last + 3 * MARGIN) * DESCRIBED_EVERY + 1", "test_changes.py"
    ),
    _faces("landmark_face.py", "came = -shared_face.sampled(went, came)", "came = -went", LANDMARKS),
    _faces("landmark_face.py", "return (shapes - usual) @ upright / distance", "return shapes @ upright / distance", LANDMARKS),
    _faces("landmark_face.py", "shapes = without_similarity(points)", "shapes = points", LANDMARKS),
    _faces("video.py", "picture.number = self.n_decoded", "picture.number = 0", LANDMARKS),
)
