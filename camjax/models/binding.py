"""From one of camjax's own networks to the contract: its layers by name, its head, and the faster form of it."""

import dataclasses

from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from camjax.core.adapters.nnx import NNXForward, merge, split, string_keys, tagged
from camjax.core.comparable import Comparable
from camjax.core.model import LinearHead, Model, Params, Pooled, Stage
from camjax.models.folding import fold, keeps_its_name
from camjax.models.layers import Linear
from camjax.models.network import Network, module_at


def bind(network: Network) -> Model:
    """A model of a network, as `camjax.from_nnx` makes one, which can also be computed by stages and made faster.

    Args:
        network: in evaluation mode; its parameters may be shapes (`jax.ShapeDtypeStruct`).

    Returns:
        The model. Parameter names are strings, also where the network holds a list.
    """
    prepare = Preparation(Comparable(nnx.graphdef(network)))
    return dataclasses.replace(_bind(network, tagged(network)), prepare=prepare)


def params_of(network: nnx.Module) -> Params:
    """The parameters of a network as its model has them."""
    return string_keys(nnx.to_pure_dict(nnx.state(network)))


def _bind(network: Network, named: nnx.Module) -> Model:
    graph, params = split(named)
    head = None if network.linear is None else NamedHead(network.linear)
    end = Pooled(network.layer, head) if head and _ends_in_its_mean(network) else None
    return Model(
        params,
        NetworkForward(graph, end),
        layer=network.layer,
        head=head,
        tokens=network.tokens,
        stages=tuple(Stage(name, StageForward(graph, name)) for name in network.order),
    )


def _ends_in_its_mean(network: Network) -> bool:
    """Whether nothing stands between its last stage and `Network.classify`, and nothing but a linear layer there."""
    kind = type(network)
    as_all = kind.__call__ is Network.__call__ and kind.classify is Network.classify
    linear = type(module_at(network, network.linear)) is Linear if network.linear else False
    return as_all and linear and network.layer == network.order[-1]


@dataclasses.dataclass(frozen=True)
class NetworkForward(NNXForward):
    """The forward function of one of camjax's own networks.

    Attributes:
        end: of the network, where that is global average pooling and a linear layer.
    """

    end: Pooled | None

    @property
    def pooled(self) -> Pooled | None:
        """What it is made of; see `Pooled`."""
        return self.end


@dataclasses.dataclass(frozen=True)
class NamedHead:
    """The head of a network whose last layer has that name."""

    name: str

    def __call__(self, params: Params) -> LinearHead:
        """Its kernel and bias."""
        layer = params
        for part in self.name.split("."):
            layer = layer[part]
        return LinearHead(layer["kernel"], layer["bias"])


@dataclasses.dataclass(frozen=True)
class StageForward:
    """One stage of a network that was split once."""

    graph: Comparable
    name: str

    def __call__(self, params: Params, x: Array) -> Array:
        """The stage's features."""
        return merge(self.graph, params).stage(self.name, x)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Makes a network ready for inference; see `camjax.core.inference`. Pure over the parameters.

    Attributes:
        graph: the network's.
        flash: as `fold` has it.
    """

    graph: Comparable
    flash: bool = True

    def __call__(self, params: Params, dtype: DTypeLike, platform: str) -> Model:
        """The folded network's model. The layers that folding removes have no name in it."""
        network = merge(self.graph, params)
        fold(network, dtype=dtype, platform=platform, flash=self.flash)
        return _bind(network, tagged(network, keeps_its_name))
