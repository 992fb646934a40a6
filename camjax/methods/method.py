"""What a method is: how it explains, and what is to be known of it."""

import dataclasses
from collections.abc import Callable

from camjax.core.result import CamResult
from camjax.methods.fusion import Fusion
from camjax.methods.tail import Look
from camjax.methods.target import Wanted

Explain = Callable[[Look, Wanted], CamResult]
"""`explain(look, wanted)`: the wanted classes of a batch, and a raw map for each, as large as the layer."""

LAYER = "any layer that lies on the image"
ATTENTION = "a transformer that names its attention"
POOLED = "global average pooling and one linear layer (verified)"
DIFFERENTIABLE = "a differentiable network"
KNOWN = "operations that DeepLIFT has a rule for"
RELUS = "ReLUs"
ANY = "any network"
"""What methods need of a network."""

FORWARD, WHOLE, CHANNEL = "1 forward", "1 forward, 1 backward", "for each channel"
GRADIENT = "1 forward, 1 backward to the layer"
"""What they cost."""

ACTIVATION, BOTH, SLOPE = "activation", "score x activation", "score / normalised pixel"
"""Units; those of most maps are the score's."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to explain.

    With other options it is another method, which `make_explainer` takes as well:

        dataclasses.replace(METHODS["smooth-grad-cam++"], explain=Smooth(samples=8, seed=1))

    Attributes:
        name: what `make_explainer` calls it.
        what: its map, in a line.
        paper: where it comes from.
        explain: how; None for CAM, which is the head's columns alone.
        passes: what it costs for a batch and all its classes. A backward pass takes the k classes as one batch, and is
            none at all at the layer that a pooled linear head reads.
        needs: of the network.
        unit: of its raw maps, where what is explained is a `"score"`.
        layer: the layer that it explains where nobody asks for another; None is the network's own.
        fusion: how the maps of several layers are joined, for a method that is of several.
    """

    name: str
    what: str
    paper: str
    explain: Explain | None = None
    passes: str = GRADIENT
    needs: str = LAYER
    unit: str = "score"
    layer: str | None = None
    fusion: Fusion | None = None
