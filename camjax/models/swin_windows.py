"""The windows that Swin's attention stays in: where they lie, who reads whom in them, and how far apart two places are.

Features that are no whole number of windows are filled up with zeros, whose places are read like any other.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

LIBRARIES = ("timm", "torchvision", "transformers")
"""Who moves and fills up features in three ways that agree at the size that the weights were trained with."""

_APART = -100.0
"""What every library adds to the score of two places that a shift brought into one window."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """Squares of features, side by side; those of every second block are moved by half a window.

    Attributes:
        side: rows and columns of a window.
        moved: whether they are.
        library: whose way it is. timm moves the features and then fills them up. torchvision and transformers fill
            them up first, and move nothing where one window covers all: torchvision asks of each axis by itself,
            transformers of the shorter one for both.
    """

    side: int
    moved: bool
    library: str = "timm"

    def steps(self, height: int, width: int) -> tuple[int, int]:
        """By how many rows and columns features of that size are moved."""
        half = self.side // 2 if self.moved else 0
        if self.library == "transformers":
            return (half, half) if min(height, width) > self.side else (0, 0)
        if self.library == "torchvision":
            return half if height > self.side else 0, half if width > self.side else 0
        return half, half

    def cut(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows columns n c"]:
        """The windows in rows and columns, the places of each row by row."""
        steps = self.steps(*x.shape[1:3])
        return tiles(self._fill(_roll(x, steps)) if self.library == "timm" else _roll(self._fill(x), steps), self.side)

    def join(self, windows: Float[Array, "b rows columns n c"], height: int, width: int) -> Float[Array, "b h w c"]:
        """Features of that size again, undoing `cut`."""
        batch, rows, columns, _, channels = windows.shape
        x = windows.reshape(batch, rows, columns, self.side, self.side, channels).swapaxes(2, 3)
        x = x.reshape(batch, rows * self.side, columns * self.side, channels)
        down, right = self.steps(height, width)
        if self.library == "timm":
            return _roll(x[:, :height, :width], (-down, -right))
        return _roll(x, (-down, -right))[:, :height, :width]

    def apart(self, height: int, width: int) -> Float[np.ndarray, "rows columns n n"] | None:
        """What is added to the scores of places that lay at opposite edges; None where nothing is moved."""
        steps = self.steps(height, width)
        if not any(steps):
            return None
        rows, columns = (self._regions(*axis) for axis in zip((height, width), steps, strict=True))
        regions = tiles((3 * rows[:, None] + columns)[None, :, :, None], self.side)[0, ..., 0]
        same = regions[..., :, None] == regions[..., None, :]
        return np.where(same, 0, _APART).astype(np.float32)

    def _regions(self, length: int, step: int) -> Int[np.ndarray, " filled"]:
        """Along one axis, for each place which part it is of: 0 inside, 1 and 2 the two that share the last window."""
        filled = length + -length % self.side
        places = np.arange(filled)
        if not step:
            return np.zeros_like(places)
        return (places >= filled - self.side).astype(int) + (places >= filled - step)

    def _fill(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        bottom, right = (-length % self.side for length in x.shape[1:3])
        return jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)))


def tiles(x: Any, side: int) -> Any:  # noqa: ANN401
    """Squares of that side of an array (b, h, w, c): (b, h / side, w / side, side * side, c)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // side, side, width // side, side, channels).swapaxes(2, 3)
    return x.reshape(batch, height // side, width // side, side * side, channels)


def _roll(x: Array, steps: tuple[int, int]) -> Array:
    return jnp.roll(x, (-steps[0], -steps[1]), (1, 2)) if any(steps) else x


def relative_places(side: int) -> Int[np.ndarray, "n n"]:
    """For every pair of places in a window, which of its (2 side - 1)^2 distances lies between them."""
    rows, columns = (axis.ravel() for axis in np.indices((side, side)))
    down, right = (axis[:, None] - axis[None, :] + side - 1 for axis in (rows, columns))
    return down * (2 * side - 1) + right


def log_distances(side: int, trained: int) -> Float[np.ndarray, "distances 2"]:
    """All distances of a window, rows and columns, on a logarithmic scale.

    Args:
        side: of the window.
        trained: of the window that the network was first trained with, whose distances reach from -8 to 8.
    """
    steps = 8 * np.arange(1 - side, side) / max(trained - 1, 1)
    steps = np.sign(steps) * np.log2(np.abs(steps) + 1) / 3
    return np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)
