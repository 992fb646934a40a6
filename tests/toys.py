"""Networks of a few lines that know nothing of camjax's own, and small inputs for them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from camjax.core.model import Model
from camjax.core.names import named_array
from camjax.images.preprocess import Preprocess


def toy_model(channels=6, num_classes=9, seed=12, stride=4):
    """Average-pools the image by `stride`, mixes its channels, and ends in a linear head.

    With the seed that is the default, a head's column of -1 is positive nowhere on `write_pictures`' first picture.
    """
    shapes = {"mix": (3, channels), "kernel": (channels, num_classes), "bias": (num_classes,)}
    params = jax.device_put(drawn(seed, shapes))
    labels = tuple(f"class {number}" for number in range(num_classes))
    preprocess = Preprocess(input_size=(32, 32), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    return Model(params, toy_forward(stride), preprocess, labels, name="toy")


@functools.cache
def toy_forward(stride):
    """The same function for all toys, whose programs are compiled once."""

    def forward(params, images):
        b, h, w, c = images.shape
        cells = named_array(images.reshape(b, h // stride, stride, w // stride, stride, c).mean((2, 4)), "cells")
        last = named_array(jax.nn.relu(cells @ params["mix"].astype(images.dtype)), "last")
        return last.astype(jnp.float32).mean((1, 2)) @ params["kernel"] + params["bias"][None, :]

    return forward


def drawn(seed, shapes):
    """Normal float32 arrays of those shapes, from NumPy: JAX would compile a program for each."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@functools.cache
def convolutional():
    """Three convolutions, the first of stride 2; the last one's output is pooled and read by a linear head."""
    shapes = {"first": (3, 3, 3, 6), "middle": (3, 3, 6, 6), "last": (3, 3, 6, 6), "head": (6, 5)}
    scales = {name: np.float32((9 * shape[2]) ** -0.5) if len(shape) == 4 else 1 for name, shape in shapes.items()}
    weights = {name: scales[name] * leaf for name, leaf in drawn(5, shapes).items()}
    with jax.ensure_compile_time_eval():  # also where a program is traced, since it is kept
        params = jax.device_put(weights)

    def forward(params, images):
        x = images
        for name, stride in (("first", 2), ("middle", 1), ("last", 1)):
            x = jax.lax.conv_general_dilated(
                x, params[name].astype(x.dtype), (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = named_array(jax.nn.relu(x), name)
        return x.mean((1, 2)).astype(params["head"].dtype) @ params["head"]

    return Model(params, forward, Preprocess(input_size=(16, 12)), name="convolutional", layer="last")


def random_head(*shape, num_classes=13, seed=0):
    """Features of that shape, and a kernel and bias for them."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=shape).astype(np.float32)
    kernel = rng.normal(size=(shape[-1], num_classes)).astype(np.float32)
    bias = rng.normal(size=num_classes).astype(np.float32)
    return jax.device_put((features, kernel, bias))  # for which JAX compiles nothing


def uint8_images(batch, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
