"""Random weights and statistics by camjax itself: for tests, and for a machine without torch.

`python -m benchmarks.random_weights resnet50 resnet50.safetensors` writes a file that `load_model` reads.
"""

import dataclasses
import os
import sys

import jax
import numpy as np

from camjax import Model, save_model
from camjax.models.registry import find_architecture


def random_model(name: str, *, seed: int = 0, **changes: object) -> Model:
    """The architecture of that name with random weights, also in every normalisation: never zeros or identity.

    NumPy draws them: JAX would compile a program for each shape.

    Args:
        name: of the architecture.
        seed: of the weights.
        **changes: to its config.
    """
    architecture = find_architecture(name)
    config = dataclasses.replace(architecture.config, **changes)
    return randomised(architecture.family.outline(config), seed)


def randomised(outline: Model, seed: int = 0) -> Model:
    """A model with random weights of the shapes of its parameters."""
    rng = np.random.default_rng(seed)
    draws = {
        "kernel": lambda shape: rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape),  # He et al. 2015
        "mean": lambda shape: rng.normal(0, 0.2, shape),
        "var": lambda shape: rng.uniform(0.5, 2, shape),
        "scale": lambda shape: rng.uniform(0.5, 1.5, shape),
    }

    def draw(path: tuple[jax.tree_util.DictKey, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        drawn = draws.get(path[-1].key, lambda shape: rng.normal(0, 0.2, shape))(leaf.shape)
        return np.asarray(drawn, leaf.dtype)

    drawn = jax.tree_util.tree_map_with_path(draw, outline.params)
    return dataclasses.replace(outline, params=jax.device_put(drawn))


def export(name: str, path: str | os.PathLike[str]) -> None:
    """Writes a file with random weights for an architecture.

    Raises:
        UnknownModelError: there is none of that name.
    """
    architecture = find_architecture(name)
    model = random_model(name)
    labels = tuple(f"class {number}" for number in range(architecture.config.num_classes))
    described = {
        "name": architecture.name,
        "family": architecture.family.name,
        "config": dataclasses.asdict(architecture.config),
    }
    save_model(dataclasses.replace(model, labels=labels, name=name, architecture=described), path)


if __name__ == "__main__":
    export(*sys.argv[1:])
