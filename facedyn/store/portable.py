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

SUFFIX, FORMAT, VERSION = ".safetensors", "facedyn generic model", 1
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


def write_generic(path, generic: dict, config) -> None:
    """Writes {scale: parameters} to `path`, with the config they were trained with, the scales and the hash."""
    from safetensors.numpy import save

    path, named = pathlib.Path(path), {}
    for scale, params in generic.items():
        named |= {f"scale_{scale}/{name}": array for name, array in tensors(params).items()}
    metadata = {
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


def read_generic(path, config, like, scale: int):
    """The parameters of a scale, in the structure of `like`.

    Raises InputError when `path` is no such file, was damaged, was made with other settings, or lacks the scale.
    """
    path = pathlib.Path(path)
    metadata, named = _read(path)
    if metadata["hash"] != tensors_hash(named):
        raise InputError(f"{path} is damaged: its values are not those that were exported; export or copy it again.")
    theirs, ours = YOUNGER | metadata["settings"], settings_of(config)
    differ = [f"{k} is {theirs.get(k)!r} there, {ours.get(k)!r} here" for k in sorted(theirs.keys() | ours.keys())]
    differ = [text for text, k in zip(differ, sorted(theirs.keys() | ours.keys())) if theirs.get(k) != ours.get(k)]
    if differ:
        raise InputError(f"The generic model in {path} does not match the config: {'; '.join(differ)}.")
    if scale not in metadata["scales"]:
        raise InputError(f"{path} has no generic model of scale {scale}; it has {', '.join(map(str, metadata['scales']))}.")
    prefix = f"scale_{scale}/"
    own = {name.removeprefix(prefix): array for name, array in named.items() if name.startswith(prefix)}
    expected = {name: (array.shape, array.dtype) for name, array in tensors(jax.tree.map(_empty, like)).items()}
    if {name: (array.shape, array.dtype) for name, array in own.items()} != expected:
        raise InputError(f"The parameters in {path} are not those of this version's U-net; export them with this version.")
    structure = jax.tree_util.tree_structure(like)
    return jax.tree_util.tree_unflatten(structure, [own[name] for name in expected])


def _read(path):
    """(metadata, {name: array}) of a file of any origin. Raises InputError."""
    from safetensors import safe_open

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
    if not as_exported or metadata["format"] != FORMAT or metadata["version"] != VERSION:
        raise InputError(f"{path} is not a generic model as `facedyn export` of version {facedyn.__version__} writes it.")
    return metadata, named


def _empty(leaf):
    return np.empty(leaf.shape, leaf.dtype)
