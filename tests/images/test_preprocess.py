"""Sizes that are accepted, and the same normalisation as torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import normalize, to_tensor
from toys import uint8_images

from camjax.images.preprocess import Preprocess, normalize_images


@pytest.mark.parametrize(
    "size", [224, (224,), (224, 0), (224, -1), (224.0, 224), (True, 224), [224, 224], (3, 224, 224)]
)
@pytest.mark.usefixtures("untyped")
def test_a_size_is_two_numbers_of_pixels(size):
    with pytest.raises(ValueError, match=r"input_size must be \(height, width\)"):
        Preprocess(size)


@pytest.mark.parametrize("option", ["crop_mode", "crop_rounding"])
@pytest.mark.usefixtures("untyped")
def test_how_a_crop_is_made_is_one_of_few_words(option):
    with pytest.raises(ValueError, match=f"{option} must be one of .*, got 'border'"):
        Preprocess(**{option: "border"})


def test_normalisation_equals_torchvision():
    pictures = uint8_images(1, 5, 7)
    preprocess = Preprocess()
    expected = normalize(to_tensor(pictures[0]), preprocess.mean, preprocess.std)
    ours = np.asarray(normalize_images(pictures, preprocess))[0]
    np.testing.assert_allclose(ours, torch.permute(expected, (1, 2, 0)), atol=1e-6)
