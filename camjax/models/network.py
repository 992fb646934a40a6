"""What every network here is: stages in a row, global average pooling, a linear head."""

from typing import Any, ClassVar

from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.models.layers import global_average


class Network(nnx.Module):
    """The base of the networks. A network names its stages and computes each from the one before.

    It is an ordinary NNX module, in evaluation mode until `train()` is called.

    Attributes:
        order: the stages' names, in the order in which they are computed. Each is the name of its result.
        layer: the stage whose mean the head reads, the last one.
        linear: the name of the head's linear layer.
    """

    order: tuple[str, ...]
    layer: ClassVar[str]
    linear: ClassVar[str] = "fc"

    def stage(self, name: str, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """One stage's features from those of the stage before, or from the images.

        By default the module of that name; where there is none, the network computes the stage and names it.
        """
        return module_at(self, name)(x)

    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n"]:
        """The logits, float32.

        Args:
            images: normalised, float32 or bfloat16, of any size.
        """
        x = images
        for name in self.order:
            x = self.stage(name, x)
        return module_at(self, self.linear)(global_average(x))


def module_at(network: nnx.Module, path: str) -> Any:  # noqa: ANN401
    """The module at a dotted path, which may lead through lists: `stages.0.blocks.2`."""
    node: Any = network
    for part in path.split("."):
        node = node[int(part)] if part.isdecimal() else getattr(node, part)
    return node
