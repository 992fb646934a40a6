"""Random weights and statistics by camjax itself: for tests, and for a machine without torch.

`python -m benchmarks.random_weights resnet50 resnet50.safetensors` writes a file that `load_model` reads.
"""

import dataclasses
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

from camjax import Model, save_model
from camjax.models.registry import find_architecture


def randomised(model: Model, seed: int = 0) -> Model:
    """Random statistics and affine parameters in every normalisation: never zeros or identity."""
    rng = np.random.default_rng(seed)
    draws = {
        "mean": lambda shape: rng.normal(0, 0.2, shape),
        "var": lambda shape: rng.uniform(0.5, 2, shape),
        "scale": lambda shape: rng.uniform(0.5, 1.5, shape),
        "bias": lambda shape: rng.normal(0, 0.2, shape),
    }

    def draw(path: tuple[jax.tree_util.DictKey, ...], leaf: jax.Array) -> jax.Array:
        name = path[-1].key
        return jnp.asarray(draws[name](leaf.shape), jnp.float32) if name in draws else leaf

    return dataclasses.replace(model, params=jax.tree_util.tree_map_with_path(draw, model.params))


def random_model(name: str, **changes: object) -> Model:
    """The architecture of that name, its config changed, with random weights."""
    architecture = find_architecture(name)
    return randomised(architecture.family.initialise(dataclasses.replace(architecture.config, **changes)))


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
