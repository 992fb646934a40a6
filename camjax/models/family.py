"""What a network file tells the rest of camjax about itself; docs/design/families.md says why it is so."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from camjax.core.model import Model, Params
from camjax.errors import CheckpointError
from camjax.images.preprocess import Preprocess
from camjax.models.binding import bind, params_of
from camjax.models.configs import read_config
from camjax.models.layers import Undrawn
from camjax.models.layout import Layout
from camjax.models.network import Network

_TRAINED_WITH = ("drop_rate", "drop_path_rate", "drop_block_rate", "drop_connect_rate")
_INERT = {
    *("num_classes", "strict_img_size", "dynamic_img_size"),  # the outputs have their own check, the sizes theirs
    *("weight_init", "fix_init", "zero_init_last", "head_init_scale"),  # of the first weights
    *("memory_efficient", "grad_checkpointing"),
}


def timm_arguments(**usual: Any) -> Callable[[Any, Mapping[str, Any]], Any]:  # noqa: ANN401
    """A `Family.from_timm` that takes a network made with timm's usual arguments, and refuses any other.

    Arguments that only matter in training are accepted with every value.

    Args:
        **usual: arguments that say nothing new with that value, beside those of every network.
    """
    usual = {"in_chans": 3, "global_pool": "avg", "features_only": False, "scriptable": False, **usual}

    def from_timm(config: Any, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        for name, value in arguments.items():
            inert = name in _INERT or str(name).endswith(_TRAINED_WITH)
            if not inert and (name not in usual or usual[name] != value):
                raise CheckpointError(f"the network was made with {name}={value!r}, which camjax's does not have")
        return config

    return from_timm


@dataclasses.dataclass(frozen=True)
class Family:
    """One definition that many networks share.

    Attributes:
        name: written into camjax's own weight files.
        config: a frozen dataclass of plain values (see `read_config`) with a field `num_classes`.
        module: called as `module(config, rngs=...)`.
        layouts: the known namings of its checkpoints.
        title: what the networks are called, and their paper, for people.
        others: names of networks that compute something else from the keys and shapes of one here.
        check: raises a `ValueError` for a config that the module could not be built from, or not in good time.
        from_timm: `from_timm(config, arguments)`, the architecture's config changed by the arguments that timm
            was given (`model_args` of a repository's `config.json`), or a `CheckpointError`.
        at_size: `at_size(config, (height, width))`, the config of the same network built for inputs of that size in
            pixels; the config itself where nothing in it depends on the size.
        built_for: `built_for(config)`, the (height, width) in pixels of the inputs that a network was built for; None
            where its config does not tell.
        from_transformers: by `model_type`, `hook(config_json)` gives the architecture that a repository describes.
            A hook raises `ValueError` or `CheckpointError` for what this family does not compute, whatever the keys.
    """

    name: str
    config: type
    module: Callable[..., Network]
    layouts: Mapping[str, Layout]
    title: str = ""
    others: tuple[str, ...] = ()
    check: Callable[[Any], None] = lambda _: None
    from_timm: Callable[[Any, Mapping[str, Any]], Any] = dataclasses.field(default_factory=timm_arguments)
    at_size: Callable[[Any, tuple[int, int]], Any] = lambda config, _: config
    built_for: Callable[[Any], tuple[int, int] | None] = lambda _: None
    from_transformers: Mapping[str, Callable[[Mapping[str, Any]], "Architecture"]] = dataclasses.field(
        default_factory=dict
    )

    def initialise(self, config: Any, *, seed: int = 0) -> Model:  # noqa: ANN401
        """A model with random weights."""
        return bind(self.module(config, rngs=nnx.Rngs(seed)))

    def outline(self, config: Any) -> Model:  # noqa: ANN401
        """The same model with shapes for parameters (`jax.ShapeDtypeStruct`): quick, nothing is computed."""
        return _outline(self.module, config)

    def params_outline(self, config: Any) -> Params:  # noqa: ANN401
        """The shapes of that model's parameters, in half the time."""
        return params_of(_network(self.module, config))

    def read_config(self, fields: Any) -> Any:  # noqa: ANN401
        """A config from the plain values of an untrusted file, for example `dataclasses.asdict` of one as JSON.

        Raises:
            ValueError: the fields are not those of the config, or beyond its bounds.
        """
        config = read_config(self.config, fields)
        if config.num_classes < 1:
            raise ValueError(f"num_classes {config.num_classes} is not 1 or more")
        self.check(config)
        return config


@functools.lru_cache(maxsize=32)
def _outline(module: Callable[..., Network], config: Any) -> Model:  # noqa: ANN401
    return bind(_network(module, config))


@functools.lru_cache(maxsize=32)
def _network(module: Callable[..., Network], config: Any) -> Network:  # noqa: ANN401
    return nnx.eval_shape(lambda: module(config, rngs=Undrawn(0)))


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A named member of a family.

    Attributes:
        name: timm's and torchvision's name for it.
        family: its definition.
        config: what the family's module is built from.
        preprocess: what its usual weights were trained with, for a file that does not say.
    """

    name: str
    family: Family
    config: Any
    preprocess: Preprocess = dataclasses.field(default_factory=Preprocess)
