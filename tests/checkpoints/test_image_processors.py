"""`preprocessor_config.json` against transformers' own processors: each switch is computed as they do, or refused.

Images go through a processor and, with the geometry `"crop"`, through camjax. With Pillow behind the processor they
are equal but for rounding; torchvision, which is behind it by default, resizes with another rounding of its sums.
"""

import json

import numpy as np
import pytest
import transformers
from transformers.models.beit.image_processing_pil_beit import BeitImageProcessorPil
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from camjax.checkpoints.config_fields import WITHOUT_EFFECT
from camjax.checkpoints.image_processor import MODEL_PROCESSORS, PROCESSORS, read_image_processor
from camjax.errors import CheckpointError
from camjax.explain.pipeline import prepare
from camjax.images.decode.image import DecodedImage
from camjax.images.preprocess import normalize_images

PIL = {
    "BeitImageProcessor": BeitImageProcessorPil,
    "BitImageProcessor": BitImageProcessorPil,
    "CLIPImageProcessor": CLIPImageProcessorPil,
    "ConvNextImageProcessor": ConvNextImageProcessorPil,
    "DeiTImageProcessor": DeiTImageProcessorPil,
    "ViTImageProcessor": ViTImageProcessorPil,
}
SIZES = [(61, 96), (96, 61), (59, 130)]  # one side longer than the other, margins of an odd number of pixels
SQUARE = {"height": 32, "width": 32}
CASES = [
    ("ViTImageProcessor", {"size": SQUARE}),
    ("ViTImageProcessor", {"size": 32}),
    ("ViTImageProcessor", {"size": [24, 40]}),
    ("ViTImageProcessor", {"size": {"height": 24, "width": 40}, "resample": 3}),
    ("ViTImageProcessor", {"size": SQUARE, "do_normalize": False}),
    ("ViTImageProcessor", {"size": SQUARE, "do_rescale": False}),
    ("ViTImageProcessor", {"size": SQUARE, "do_rescale": False, "do_normalize": False}),
    (
        "ViTImageProcessor",
        {"size": SQUARE, "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
    ),
    ("ViTImageProcessor", {"size": SQUARE, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}),
    ("ViTImageProcessor", {"size": SQUARE, "do_pad": True}),
    ("ViTImageProcessor", {"size": SQUARE, "do_pad": True, "pad_size": SQUARE}),
    ("ViTImageProcessor", {"size": SQUARE, "do_center_crop": True, "crop_size": {"height": 28, "width": 28}}),
    ("ViTImageProcessor", {"size": SQUARE, "do_center_crop": False, "crop_size": {"height": 28, "width": 28}}),
    ("DeiTImageProcessor", {"size": {"height": 37, "width": 37}, "crop_size": SQUARE}),
    ("DeiTImageProcessor", {"size": {"height": 40, "width": 20}, "crop_size": {"height": 32, "width": 16}}),
    ("BeitImageProcessor", {"size": SQUARE}),
    ("BitImageProcessor", {"size": {"shortest_edge": 37}, "crop_size": SQUARE}),
    ("BitImageProcessor", {"size": 37, "crop_size": 32}),
    ("BitImageProcessor", {"size": {"shortest_edge": 37}, "crop_size": SQUARE, "default_to_square": True}),
    ("CLIPImageProcessor", {"size": {"shortest_edge": 32}, "crop_size": SQUARE, "resample": 2}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}}),
    ("ConvNextImageProcessor", {"size": 33, "crop_pct": 0.9}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
]


def image(size):
    """A smooth image with an edge: rounding in a resize stays small, a pixel's shift does not."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(float)
    waves = [np.sin(rows / 5 + shift) + np.cos(columns / 7 - shift) + (columns > size[1] // 3) for shift in range(3)]
    return np.uint8(np.clip(80 + 40 * np.stack(waves, -1), 0, 255))


def ours(preprocess, picture):
    pixels = prepare(
        "a", DecodedImage(picture, picture.shape[:2], None, ()), preprocess, "crop", preprocess.input_size
    ).pixels
    return np.asarray(normalize_images(pixels, preprocess))


def theirs(processor, picture):
    return np.moveaxis(np.asarray(processor(picture, input_data_format="channels_last")["pixel_values"][0]), 0, -1)


@pytest.mark.parametrize("backend", ["pil", "torchvision"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_every_switch_is_computed_as_transformers_does(tmp_path, name, options, backend):
    kind = PIL[name] if backend == "pil" else getattr(transformers, name)
    processor = kind(**options)
    processor.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    for config in (written, {**options, "image_processor_type": name}):  # all fields, and only those that are not usual
        preprocess = read_image_processor(config)
        for size in SIZES:
            found, expected = ours(preprocess, image(size)), theirs(processor, image(size))
            assert found.shape == expected.shape
            # In steps of one of 256 values: what Pillow rounds is equal, torchvision's rounding up to two steps off.
            step = 1 / 255 / min(preprocess.std)
            assert np.abs(found - expected).max() < step * (1e-3 if backend == "pil" else 2.5)


@pytest.mark.parametrize("name", PROCESSORS)
def test_what_a_file_leaves_out_is_the_classes_default(name):
    expected, preprocess = PIL[name](), read_image_processor({"image_processor_type": name})
    picture = image((150, 210))
    np.testing.assert_allclose(ours(preprocess, picture), theirs(expected, picture), atol=1e-5)


@pytest.mark.parametrize("ending", ["ImageProcessor", "ImageProcessorFast", "FeatureExtractor"])
def test_older_and_faster_names_of_a_processor(ending):
    field = "feature_extractor_type" if ending == "FeatureExtractor" else "image_processor_type"
    assert read_image_processor({field: f"ViT{ending}"}) == read_image_processor(
        {"image_processor_type": "ViTImageProcessor"}
    )


def test_the_model_tells_the_processor_where_the_file_does_not():
    for kind, name in MODEL_PROCESSORS.items():
        theirs = transformers.AutoConfig.for_model(kind)
        assert transformers.models.auto.image_processing_auto.IMAGE_PROCESSOR_MAPPING[type(theirs)]["pil"] is PIL[name]
        assert read_image_processor({}, {"model_type": kind}) == read_image_processor({"image_processor_type": name})
        named = {"model_type": kind, "image_processor_type": "DeiTImageProcessor"}
        assert read_image_processor({}, named) == read_image_processor({"image_processor_type": "DeiTImageProcessor"})


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ViTImageProcessor", {"do_resize": False}, "do_resize=False"),
        ("ViTImageProcessor", {"size": {"shortest_edge": 224}}, "inputs have any size"),
        ("ViTImageProcessor", {"size": {"longest_edge": 224}}, "neither a height and a width nor a shortest_edge"),
        ("ViTImageProcessor", {"size": {"shortest_edge": 224, "longest_edge": 300}}, "neither a height"),
        ("ViTImageProcessor", {"size": {"max_height": 224, "max_width": 300}}, "neither a height"),
        ("ViTImageProcessor", {"size": {"height": 224}}, "neither a height"),
        ("ViTImageProcessor", {"size": {"height": 1, "width": 2.5}}, "neither a height"),
        ("ViTImageProcessor", {"size": -224}, "the size -224"),
        ("ViTImageProcessor", {"size": "224"}, "the size '224'"),
        ("ViTImageProcessor", {"size": [1, 2, 3]}, "the size [1, 2, 3]"),
        ("ViTImageProcessor", {"do_center_crop": True}, "the crop_size None"),
        ("ViTImageProcessor", {"do_pad": True, "pad_size": {"height": 256, "width": 256}}, "pads images to pad_size"),
        ("ViTImageProcessor", {"do_flip_channel_order": True}, "blue, green and red"),
        ("ViTImageProcessor", {"rescale_offset": True}, "moved by an offset"),
        ("ViTImageProcessor", {"offset": True}, "moved by an offset"),
        ("ViTImageProcessor", {"include_top": True}, "a second normalisation"),
        ("ViTImageProcessor", {"do_rescale": "no"}, "the do_rescale 'no'"),
        ("ViTImageProcessor", {"rescale_factor": 0}, "the rescale_factor 0"),
        ("ViTImageProcessor", {"rescale_factor": 1e-9}, "the mean"),
        ("ViTImageProcessor", {"resample": 1}, "the resample 1"),
        ("ViTImageProcessor", {"auto_map": {"AutoImageProcessor": "my.Processor"}}, "code of the repository's own"),
        ("BitImageProcessor", {"crop_size": {"height": 256, "width": 256}}, "cuts the crop_size"),
        ("BitImageProcessor", {"crop_size": {"height": 112, "width": 224}}, "cuts the crop_size"),
        ("BitImageProcessor", {"crop_size": {"shortest_edge": 224}}, "is not a height and a width"),
        ("DeiTImageProcessor", {"size": {"height": 256, "width": 300}}, "cuts the crop_size"),
        ("ConvNextImageProcessor", {"size": SQUARE}, "no shortest_edge"),
        ("ConvNextImageProcessor", {"crop_pct": 2, "size": 224}, "the crop_pct 2"),
        ("LevitImageProcessor", {}, "'LevitImageProcessor', which is not one of ViTImageProcessor"),
        (None, {}, "names no image_processor_type"),
    ],
)
def test_what_is_not_computed_is_refused(name, options, words):
    with pytest.raises(CheckpointError) as caught:
        read_image_processor({"image_processor_type": name, **options})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_crop_is_cut_out_of_exactly_the_size_that_the_file_says():
    """A part of 224 pixels is a fraction: divided by it again, 224 may be one pixel less than what it was made of."""
    for size in range(225, 520):
        preprocess = read_image_processor({"image_processor_type": "BitImageProcessor", "size": size})
        assert int(224 / preprocess.crop_pct) == size


def test_a_field_that_nobody_knows_is_warned_of():
    with pytest.warns(UserWarning, match="has 'do_sharpen', which camjax does not know and did not read"):
        read_image_processor({"image_processor_type": "ViTImageProcessor", "do_sharpen": True})


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_field_of_the_processors_is_read_or_known_to_change_nothing(name):
    """Of all that transformers lets a file say to these processors, whatever its value."""
    fields = getattr(transformers, name).valid_kwargs.__annotations__
    inert = frozenset().union(*WITHOUT_EFFECT["preprocessor_config.json"].values())
    read_image_processor({**dict.fromkeys(fields), "image_processor_type": name})  # None is the usual, no field unknown
    assert {"size", "crop_size", "resample", "do_rescale"}.isdisjoint(inert)
