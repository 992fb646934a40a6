"""From a Flax NNX module to the contract: pure functions over a plain dict of arrays."""

import dataclasses
from typing import Any

from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from camjax.core.model import Classifier, LinearHead, Params, Stage
from camjax.models.folding import fold
from camjax.models.network import Network


def bind(module: Any) -> Classifier:  # noqa: ANN401
    """Splits a module once into a static graph and a nested dict of arrays.

    The functions merge the two again inside the caller's `jax.jit`, where it costs nothing at run time: a compiled
    call hands over the dict, and Python never walks the module's graph again.

    Args:
        module: an NNX module with the methods `features(images)` and `head(features)`, and the attributes `pooled`
            (the features that global average pooling reads) and `linear` (its head's layer, with `kernel` and `bias`).
            One of camjax's own, a `Network`, can also be computed by stages and made ready for inference.

    Returns:
        The classifier. Parameter names are strings, also where the module holds a list.
    """
    graph, state = nnx.split(module)
    pooled, linear = module.pooled, module.linear

    def merge(params: Params) -> Any:  # noqa: ANN401
        return nnx.merge(graph, nnx.restore_int_paths(params))

    def features(params: Params, images: Array) -> dict[str, Array]:
        return merge(params).features(images)

    def head(params: Params, features: dict[str, Array]) -> Array:
        return merge(params).head(features)

    def linear_head(params: Params) -> LinearHead:
        return LinearHead(params[linear]["kernel"], params[linear]["bias"])

    def prepare(params: Params, dtype: DTypeLike, platform: str) -> Classifier:
        def folded(params: Params) -> nnx.Module:
            network = merge(params)
            fold(network, dtype=dtype, platform=platform)
            return network

        return bind(nnx.jit(folded)(params))

    def stage(name: str) -> Stage:
        return Stage(name, lambda params, x: merge(params).stage(name, x))

    classifier = Classifier(_string_keys(nnx.to_pure_dict(state)), features, head, pooled, linear_head)
    if not isinstance(module, Network):
        return classifier
    return dataclasses.replace(classifier, stages=tuple(map(stage, module.stages)), prepare=prepare)


def _string_keys(tree: dict[Any, Any]) -> Params:
    return {str(name): _string_keys(leaf) if isinstance(leaf, dict) else leaf for name, leaf in tree.items()}
