"""What a run is to do, as the store keeps it: options, batch and chunk sizes, and how devices share a batch."""

import dataclasses
import hashlib
import importlib.metadata
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from camjax.batch.entries import stored_path, stored_text
from camjax.batch.schema import LARGEST_CHUNK
from camjax.batch.store import digest_of
from camjax.choices import MAX_PIXELS, Kind, NamedTarget
from camjax.core.model import Model, activation_of
from camjax.errors import CamjaxError
from camjax.explain.explainer import Explainer, make_explainer
from camjax.explain.pipeline import read_options
from camjax.images.decode.image import ReadOptions
from camjax.json_text import finite
from camjax.methods.registry import find_method

CPU_BATCH = 32
"""Pictures a batch on CPU, by the figures in `benchmarks/README.md`."""
DEVICE_BATCH = 128
"""Pictures a batch for each GPU or TPU; not measured."""
CHUNK_BYTES = 2**24
"""Of the maps that are written at once, at most; a killed run loses the few chunks that are not written yet."""
CHUNK_PICTURES = 1024

TARGET: NamedTarget = "logit"
"""What a run explains."""

VERSIONS = ("camjax", "jax", "jaxlib", "flax", "numpy", "pillow", "zarr")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The options that decide what a store holds.

    Attributes:
        top_k: how many classes.
        maps: side of the maps; None is the network's own resolution.
        geometry: how a picture gets the input's proportions.
        input_size: `(height, width)` of what the network sees; None is the weights' own.
        dtype: what the network computes in.
        batch_size: pictures a batch in every process; None chooses.
        method: how to explain, by its name.
        layer: where; None is the network's own.
        max_pixels: Larger images are recorded as unreadable.
        window: The values of grey images of more than 8 bits that become 0 and 255; None chooses by each image.
    """

    top_k: int = 5
    maps: int | None = None
    geometry: Kind = "pad"
    input_size: tuple[int, int] | None = None
    dtype: str = "float32"
    batch_size: int | None = None
    method: str = "cam"
    layer: str | None = None
    max_pixels: int = MAX_PIXELS
    window: tuple[float, float] | None = None

    def explainer(self, model: Model) -> Explainer:
        """The compiled function of these options.

        Raises:
            LayerError: there is no such layer.
            MethodError: there is no such method, or it does not fit the network.
        """
        return make_explainer(
            model,
            method=self.method,
            layer=self.layer,
            target=TARGET,
            top_k=self.top_k,
            size=self.maps,
            dtype=jnp.dtype(self.dtype),
        )

    def attributes(self, model: Model) -> dict[str, Any]:
        """What the store says of its making; a run goes on only with an equal `run`."""
        return {
            "title": "class activation maps",
            "model": _plain({"name": model.name, "architecture": model.architecture, "origin": model.origin}),
            "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
            "folder": stored_path(os.getcwd()),
            "run": _plain(
                {
                    "model": model.name,
                    "weights": weights_digest(model),
                    "labels": digest_of(model.labels),
                    "preprocess": dataclasses.asdict(model.preprocess),
                    **dataclasses.asdict(self),
                    "input_size": self.size(model),
                    "target": TARGET,
                    "activation": activation_of(model.activation, len(model.labels)),
                }
            ),
        }

    @property
    def unit(self) -> str:
        """Of the maps."""
        return find_method(self.method).unit.replace("score", TARGET)

    def size(self, model: Model) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.input_size or model.preprocess.input_size


def options_of(run: Mapping[str, Any]) -> ReadOptions:
    """Returns how a run read its images, so that one is read again in the same way.

    Args:
        run: The store's attribute `run`.
    """
    window = run["window"]
    low_high = None if window is None else (float(window[0]), float(window[1]))
    return read_options(tuple(run["input_size"]), run["max_pixels"], low_high)


def batch_size(count: int, wanted: int | None) -> int:
    """Pictures a batch in this process.

    Args:
        count: how many pictures there are.
        wanted: as the user has it; None chooses by the kind and number of devices.

    Raises:
        CamjaxError: the local devices cannot share it evenly.
    """
    devices = jax.local_devices()
    if wanted is None:
        usual = CPU_BATCH if devices[0].platform == "cpu" else DEVICE_BATCH * len(devices)
        return math.ceil(min(usual, max(count, 1)) / len(devices)) * len(devices)
    if wanted % len(devices):
        raise CamjaxError(f"a batch of {wanted} cannot be shared by {len(devices)} devices; give a multiple of that")
    return wanted


def chunk_size(batch: int, top_k: int, map_size: tuple[int, int]) -> int:
    """Pictures that are written at once: whole batches.

    Raises:
        CamjaxError: the maps of one batch are more than a store's chunk may have.
    """
    picture = 2 * top_k * math.prod(map_size)
    if batch * picture > LARGEST_CHUNK:
        raise CamjaxError(
            f"the maps of a batch of {batch} pictures are {batch * picture:,} bytes, and are written at once, at most "
            f"{LARGEST_CHUNK:,}; give a smaller --batch-size"
        )
    return batch * max(1, min(CHUNK_PICTURES, CHUNK_BYTES // picture) // batch)


def shared_by_devices(model: Model) -> tuple[Model, Callable[[np.ndarray], Any]]:
    """The model on every local device, and how a batch is laid over them: along the mesh axis `data`."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return model, lambda pixels: pixels
    mesh = Mesh(np.asarray(devices), ("data",))
    everywhere, rows = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in [(), ("data",)])  # type: ignore[no-untyped-call]
    params = jax.device_put(model.params, everywhere)
    return dataclasses.replace(model, params=params), lambda pixels: jax.device_put(pixels, rows)


def weights_digest(model: Model) -> str:
    """The checksum of the weights' file, or of the parameters where none is known."""
    if known := model.origin.get("sha256"):
        return known
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(model.params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        leaf = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _plain(tree: Any) -> Any:  # noqa: ANN401
    """As JSON gives it back, so that it can be compared."""
    if isinstance(tree, Mapping):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, str):
        return stored_text(tree)
    return [_plain(value) for value in tree] if isinstance(tree, tuple | list) else finite(tree)
