"""What a network file tells the rest of camjax about itself."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from camjax.core.model import Model
from camjax.models.binding import bind
from camjax.models.network import Network

KeyTable = dict[str, str]
"""Module names in a checkpoint, and the names of the same modules here."""


@dataclasses.dataclass(frozen=True)
class Family:
    """One definition that many networks share.

    Attributes:
        name: written into camjax's own weight files.
        config: a frozen dataclass with a field `num_classes`.
        module: called as `module(config, rngs=...)`.
        head: the linear head's name in the module.
        layouts: for each known naming of a checkpoint, a function from a config to its key table.
    """

    name: str
    config: type
    module: Callable[..., Network]
    head: str
    layouts: Mapping[str, Callable[[Any], KeyTable]]

    def initialise(self, config: Any, *, seed: int = 0) -> Model:  # noqa: ANN401
        """A model with random weights."""
        return bind(self.module(config, rngs=nnx.Rngs(seed)))

    def outline(self, config: Any) -> Model:  # noqa: ANN401
        """The same model with shapes for parameters (`jax.ShapeDtypeStruct`): quick, nothing is computed."""
        return _outline(self.module, config)


@functools.lru_cache(maxsize=32)
def _outline(module: Callable[..., Network], config: Any) -> Model:  # noqa: ANN401
    return bind(nnx.eval_shape(lambda: module(config, rngs=nnx.Rngs(0))))


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A named member of a family.

    Attributes:
        name: timm's and torchvision's name for it.
        family: its definition.
        config: what the family's module is built from.
    """

    name: str
    family: Family
    config: Any
