"""Networks in Flax NNX, and the registry of their names.

The modules are ordinary NNX modules, in evaluation mode until `train()` is called:

    network = ResNet(ResNetConfig(depths=(3, 4, 6, 3), bottleneck=True), rngs=nnx.Rngs(0))
    logits = network(images)
"""

from camjax.models.efficientnet import EfficientNet, EfficientNetConfig
from camjax.models.resnet import ResNet, ResNetConfig
from camjax.models.resnet_v2 import ResNetV2, ResNetV2Config

__all__ = [
    "EfficientNet",
    "EfficientNetConfig",
    "ResNet",
    "ResNetConfig",
    "ResNetV2",
    "ResNetV2Config",
]
