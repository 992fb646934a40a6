"""Random inputs, and the error of one result against another; needs no PyTorch."""

import numpy as np


def images(batch, height, width, seed=0):
    """Normalised images, NHWC float32."""
    return np.random.default_rng(seed).normal(size=(batch, height, width, 3)).astype(np.float32)


def relative_error(ours, theirs):
    """||ours - theirs|| / ||theirs||."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
