"""What every network here is: stages in a row, global average pooling, a linear head."""

from typing import ClassVar

from flax import nnx
from jax import Array
from jaxtyping import Float

from camjax.models.layers import global_average


class Network(nnx.Module):
    """The base of the networks. A network names its stages and computes each from the one before.

    Attributes:
        stages: the features' names, in the order they are computed.
        pooled: the features that global average pooling reads.
        linear: the name of the head's layer.
    """

    stages: tuple[str, ...]
    pooled: ClassVar[str]
    linear: ClassVar[str] = "fc"

    def stage(self, name: str, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """One stage's features from those of the stage before, or from the images."""
        raise NotImplementedError

    def features(self, images: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _ _ _"]]:
        """The intermediate features by name; the network's own description says what they are.

        Args:
            images: normalised, float32 or bfloat16, of any size.

        Returns:
            Each stage's features, in the images' dtype.
        """
        x, features = images, {}
        for name in self.stages:
            features[name] = x = self.stage(name, x)
        return features

    def head(self, features: dict[str, Float[Array, "b _ _ _"]]) -> Float[Array, "b n"]:
        """Logits (float32) from the features."""
        return getattr(self, self.linear)(global_average(features[self.pooled]))

    def __call__(self, images: Float[Array, "b h w 3"]) -> tuple[Float[Array, "b n"], dict[str, Array]]:
        """Logits and features of normalised images."""
        features = self.features(images)
        return self.head(features), features
