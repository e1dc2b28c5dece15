"""The generic model of all scales as one portable file: safetensors, whose JSON metadata say what it was made with.

A file that was damaged, or does not fit the config, is refused in one sentence that names what differs.
"""

import hashlib
import json
import pathlib

import jax
import numpy as np

import facedyn
from data_pipelines.errors import InputError
from data_pipelines.files import atomic_path, check_size
from facedyn.config import flatten

SUFFIX, FORMAT, VERSION = ".safetensors", "facedyn generic model", 2
# Version 1 held the U-net alone, in the same way.
READABLE = (1, 2)
# Before the names of what `fit` has learnt for everyone.
LEARNT = "learnt/"
MAX_BYTES = 4 << 30
# What the parameters mean nothing without. `rank_loss.scales` is apart: a file may hold more scales than are asked for.
MUST_AGREE = ("model.", "rank_loss.", "data.image_size", "data.channels", "data.appearance")
# Of settings that are younger than a file may be: it was made with
YOUNGER = {"data.appearance": "own"}
APART = ("rank_loss.scales",)


def tensors(params) -> dict[str, np.ndarray]:
    """{'params/encoder_0/conv_0/kernel': array} of a pytree."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.ascontiguousarray(leaf) for path, leaf in leaves}


def tensors_hash(named: dict[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(named.items()):
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def settings_of(config) -> dict:
    """The settings that a file must agree with, flat, as JSON gives them back."""
    flat = {k: v for k, v in flatten(config).items() if k.startswith(MUST_AGREE) and k not in APART}
    return json.loads(json.dumps(flat, default=list))


def write_generic(path, generic: dict, config, learnt: dict | None = None, described: dict | None = None) -> None:
    """Writes {scale: parameters} to `path`, with the config they were trained with, the scales and the hash.

    Args:
      learnt: {scale: {name: array}} of what `fit` has learnt for everyone, without which new videos cannot be embedded.
      described: whatever else goes into the metadata, as JSON has it; under 'embed' what `read_model` needs.
    """
    from safetensors.numpy import save

    path, named = pathlib.Path(path), {}
    for scale, params in generic.items():
        named |= {f"scale_{scale}/{name}": array for name, array in tensors(params).items()}
        for name, array in (learnt or {}).get(scale, {}).items():
            named[f"scale_{scale}/{LEARNT}{name}"] = np.ascontiguousarray(array)
    metadata = (described or {}) | {
        "format": FORMAT,
        "version": VERSION,
        "facedyn": facedyn.__version__,
        "scales": sorted(generic),
        "settings": settings_of(config),
        "hash": tensors_hash(named),
    }
    content = save(named, {"facedyn": json.dumps(metadata)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def rounded(array) -> dict[str, np.ndarray]:
    """A matrix [D, K] in a quarter of its size: {"values": int8 [D, K], "step": float32 [K]}.

    Their product is nearly the matrix.

    Made for principal components, whose tens of thousands of small numbers a state sums over: their errors cancel.
    """
    step = np.maximum(np.abs(array).max(0), np.finfo(np.float32).tiny) / 127
    return {"values": np.round(array / step).astype(np.int8), "step": step.astype(np.float32)}


def unrounded(values, step) -> np.ndarray:
    """The matrix, float32 [D, K], of what `rounded` gives."""
    return values.astype(np.float32) * step


def read_model(path) -> tuple[dict, dict[int, dict]]:
    """What new videos need: (metadata, {scale: {name: array} as `write_generic` was given it}).

    Raises InputError for a file that is none, was damaged, or holds the U-net alone.
    """
    metadata, named = _whole(path)
    if not isinstance(metadata.get("embed"), dict):
        raise InputError(
            f"{path} holds the U-net alone, without what `fit` learns: export it from a workdir in which fit is done."
        )
    found = {}
    for scale in metadata["scales"]:
        prefix = f"scale_{scale}/{LEARNT}"
        found[scale] = {name.removeprefix(prefix): array for name, array in named.items() if name.startswith(prefix)}
    return metadata, found


def describe(path) -> dict:
    """The metadata of a file, without the settings: for those who read it."""
    return {name: value for name, value in _whole(path)[0].items() if name not in ("settings", "embed")}


def read_generic(path, config, like, scale: int):
    """The parameters of a scale, in the structure of `like`.

    Raises InputError when `path` is no such file, was damaged, was made with other settings, or lacks the scale.
    """
    metadata, named = _whole(path)
    theirs, ours = YOUNGER | metadata["settings"], settings_of(config)
    differ = [k for k in sorted(theirs.keys() | ours.keys()) if theirs.get(k) != ours.get(k)]
    if differ:
        said = "; ".join(f"{k} is {theirs.get(k)!r} there, {ours.get(k)!r} here" for k in differ)
        raise InputError(f"The generic model in {path} does not match the config: {said}.")
    if scale not in metadata["scales"]:
        raise InputError(f"{path} has no generic model of scale {scale}; it has {', '.join(map(str, metadata['scales']))}.")
    prefix = f"scale_{scale}/"
    own = {name.removeprefix(prefix): array for name, array in named.items() if name.startswith(prefix)}
    own = {name: array for name, array in own.items() if not name.startswith(LEARNT)}
    expected = {
        name: (array.shape, array.dtype)
        for name, array in tensors(jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)).items()
    }
    if {name: (array.shape, array.dtype) for name, array in own.items()} != expected:
        raise InputError(f"The parameters in {path} are not those of this version's U-net; export them with this version.")
    structure = jax.tree_util.tree_structure(like)
    return jax.tree_util.tree_unflatten(structure, [own[name] for name in expected])


def _whole(path):
    """(metadata, {name: array}) of a file that holds what was written. Raises InputError."""
    from safetensors import safe_open

    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"There is no generic model at {path}; `facedyn export` writes one.")
    check_size(path, MAX_BYTES, "The generic model")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get("facedyn", "{}"))
            named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    except Exception as error:  # of the library, or of NumPy, which lacks some of its types
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{path} is not a whole safetensors file ({reason}); export or copy it again.") from error
    kinds = {"format": str, "version": int, "hash": str, "settings": dict, "scales": list}
    as_exported = isinstance(metadata, dict) and all(isinstance(metadata.get(name), kind) for name, kind in kinds.items())
    if not as_exported or metadata["format"] != FORMAT or metadata["version"] not in READABLE:
        raise InputError(f"{path} is not a generic model as `facedyn export` of version {facedyn.__version__} writes it.")
    if metadata["hash"] != tensors_hash(named):
        raise InputError(f"{path} is damaged: its values are not those that were exported; export or copy it again.")
    return metadata, named
