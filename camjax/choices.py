"""The words that options take, apart from what they do: the command line knows them without importing JAX."""

from typing import Literal

Kind = Literal["pad", "crop", "squash"]
"""How a picture of any shape becomes the network's input; see `camjax.images.geometry`."""

CropMode = Literal["center", "squash"]
"""What happens to an image's proportions before its centre is cut out: they stay, or both sides are resized."""

CropRounding = Literal["nearest", "down"]
"""To which whole pixel the corner of a centre crop is rounded: as torchvision and timm do, or as transformers does."""

Sign = Literal["both", "positive", "negative"]
"""Which side of a signed map is shown; see `camjax.methods.sign`."""

NamedTarget = Literal["logit", "probability"]
"""What a map explains; see `camjax.methods.target`."""

Activation = Literal["softmax", "sigmoid", "none"]
"""The function that turns a network's outputs into probabilities; see `camjax.Model.activation`."""

SHARE = 0.2
"""Of a map's maximum: what reaches it is taken for the thing, as Zhou et al. 2016 have it."""

MAX_PIXELS = 128_000_000
"""Pixels above which an image is refused by default: photographs of phones have up to 108 million; a small file that
claims more may be there to fill the memory."""

DEFAULT_COLORMAP = "inferno"
"""One of matplotlib's."""

DEFAULT_COLOURS = "tab10"
"""Another, of concepts: a list of colours that can be told apart."""
