"""What every network here is: stages in a row, and a head, most often global average pooling and a linear layer."""

from typing import Any, ClassVar

from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.core.model import TokenGrid
from camjax.models.layers import global_average


class Network(nnx.Module):
    """The base of the networks. A network names its stages and computes each from the one before.

    It is an ordinary NNX module, in evaluation mode until `train()` is called.

    Attributes:
        order: the stages' names, in the order in which they are computed. Each is the name of its result.
        layer: what is explained where nobody asks for another layer; where the head is `linear`, the stage whose mean
            it reads, the last one.
        linear: the name of the head's linear layer, or None where the head is more than the mean and that layer; such
            a network defines `classify`.
        tokens: how its tokens lie on the image, where its stages give tokens.
    """

    order: tuple[str, ...]
    layer: str
    linear: ClassVar[str | None] = "fc"
    tokens: TokenGrid | None = None

    def stage(self, name: str, x: Float[Array, "b *places c"]) -> Float[Array, "b *places2 c2"]:
        """One stage's features from those of the stage before, or from the images.

        By default the module of that name; where there is none, the network computes the stage and names it.
        """
        return module_at(self, name)(x)

    def classify(self, x: Float[Array, "b *places c"]) -> Float[Array, "b n"]:
        """The logits, float32, from the last stage's features."""
        if self.linear is None:
            raise NotImplementedError(f"{type(self).__name__} has a head of its own and does not define `classify`")
        return module_at(self, self.linear)(global_average(x))

    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n"]:
        """The logits, float32.

        Args:
            images: normalised, float32 or bfloat16, of any size.
        """
        x = images
        for name in self.order:
            x = self.stage(name, x)
        return self.classify(x)


def module_at(network: nnx.Module, path: str) -> Any:  # noqa: ANN401
    """The module at a dotted path, which may lead through lists: `stages.0.blocks.2`."""
    node: Any = network
    for part in path.split("."):
        node = node[int(part)] if part.isdecimal() else getattr(node, part)
    return node
