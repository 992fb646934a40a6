"""What preprocessing can be."""

import pytest

from camjax.images.preprocess import Preprocess


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
