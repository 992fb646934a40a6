"""Published figures to hold a GPU result against. None is measured the same way."""

from typing import NamedTuple


class Anchor(NamedTuple):
    """A figure somebody published.

    Attributes:
        what: system and device.
        images_per_second: of ResNet-50 at 224x224.
        source: where it stands.
        differs: from what is measured here.
    """

    what: str
    images_per_second: str
    source: str
    differs: str


ANCHORS = (
    Anchor(
        "TensorRT INT8, one H200",
        "94,600 to 96,000",
        "MLPerf Inference v4.1, closed, offline",
        "8-bit integers, classes only",
    ),
    Anchor("timm, RTX 4090", "8,237", "timm's benchmark tables", "compiled, AMP, logits only, another GPU"),
    Anchor("timm, RTX 5090", "12,401", "timm's benchmark tables", "compiled, AMP, logits only, another GPU"),
)
