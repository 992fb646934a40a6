"""DICOM images as viewers show them, against pydicom's own functions where it has them."""

import io

import numpy as np
import pydicom
import pytest
from image_files import dicom_bytes, ramp, rle_frame
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_windowing
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from camjax.errors import PictureError
from camjax.images.decode import dicom as module
from camjax.images.decode import dicom_header
from camjax.images.decode.image import ReadOptions, decode_image

RAMP8 = ramp(255, np.uint8)
HOUNSFIELD = {"RescaleSlope": 1, "RescaleIntercept": -1024, "BitsStored": 12, "HighBit": 11}
SLICE = ramp(2000, np.int16)


def read(data, **options):
    return decode_image(io.BytesIO(data), "x.dcm", ReadOptions(**options))


def grey(image):
    assert (image.pixels == image.pixels[..., :1]).all()
    return image.pixels[..., 0].astype(int)


def by_pydicom(data):
    """Modality LUT and window by pydicom, whose output range depends on the file, scaled to 0 to 255."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    with np.errstate(over="ignore"):
        values = apply_windowing(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    with np.errstate(over="ignore"):
        low, high = apply_windowing(np.asarray([-1e9, 1e9]), dataset)
    return (values - low) / (high - low) * 255


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (300.5, 2), (-600, 1600)])
def test_the_window_of_the_file_is_applied(function, centre, width):
    elements = {"WindowCenter": centre, "WindowWidth": width, **({"VOILUTFunction": function} if function else {})}
    data = dicom_bytes(SLICE, **HOUNSFIELD, **elements)
    image = read(data)
    assert np.abs(grey(image) - by_pydicom(data)).max() <= 0.51
    (note,) = image.notes
    assert "DICOM image: the " in note.text
    assert " in the file, " in note.text
    if function != "SIGMOID":
        assert image.value_range.chosen_by == "file"


def test_the_first_of_several_windows_counts():
    several = read(dicom_bytes(SLICE, **HOUNSFIELD, WindowCenter=[40, 300], WindowWidth=[400, 1500]))
    one = read(dicom_bytes(SLICE, **HOUNSFIELD, WindowCenter=40, WindowWidth=400))
    np.testing.assert_array_equal(several.pixels, one.pixels)


def test_a_given_window_replaces_the_files():
    image = read(dicom_bytes(SLICE, **HOUNSFIELD, WindowCenter=40, WindowWidth=400), window=(-1000.0, 0.0))
    expected = np.clip((SLICE - 1024 + 1000) / 1000, 0, 1) * 255
    assert np.abs(grey(image) - expected).max() <= 0.51
    assert image.value_range == (-1000, 0, "DICOM", "window")


def test_small_values_that_are_white():
    data = dicom_bytes(RAMP8, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(grey(read(data)), 255 - RAMP8.astype(int))
    windowed = dicom_bytes(RAMP8, PhotometricInterpretation="MONOCHROME1", WindowCenter=128, WindowWidth=256)
    assert np.abs(grey(read(windowed)) - (255 - RAMP8.astype(int))).max() <= 1


def test_without_a_window_the_images_own_values_are_mapped_and_said():
    image = read(dicom_bytes(SLICE, **HOUNSFIELD))
    assert (grey(image).min(), grey(image).max()) == (0, 255)
    assert image.value_range == (-1024, 976, "DICOM", "image")
    assert "its own range, -1024 to 976" in image.notes[0].text
    whole = read(dicom_bytes(ramp(4095), BitsStored=12, HighBit=11))
    assert (whole.value_range.chosen_by, whole.notes) == ("type", ())
    eight = read(dicom_bytes(RAMP8 // 2))
    np.testing.assert_array_equal(grey(eight), RAMP8 // 2)
    assert eight.notes == ()


def voi_table(entries, first, bits):
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.LUTData = np.asarray(entries, np.uint16).tobytes()
    item["LUTData"].VR = "OW"
    return item


def test_the_voi_lut_of_the_file_is_applied():
    table = voi_table(np.arange(1024)[::-1] * 16, 100, 14)
    image = read(dicom_bytes(ramp(2000), VOILUTSequence=[table], WindowCenter=40, WindowWidth=400))
    expected = (1023 - np.clip(ramp(2000).astype(int) - 100, 0, 1023)) * 16 / 16383 * 255
    assert np.abs(grey(image) - expected).max() <= 0.51
    assert "the VOI LUT in the file is applied (x.dcm)" in image.notes[0].text
    short = read(dicom_bytes(ramp(2000), VOILUTSequence=[voi_table(np.arange(512) // 2, 0, 8)]))
    assert np.abs(grey(short) - np.clip(ramp(2000), 0, 511) // 2).max() <= 0.51


def test_the_modality_lut_comes_first():
    item = voi_table(np.arange(256)[::-1], 0, 8)
    image = read(dicom_bytes(RAMP8, ModalityLUTSequence=[item]))
    np.testing.assert_array_equal(grey(image), 255 - RAMP8.astype(int))


def test_colours():
    colours = np.stack([RAMP8, RAMP8[:, ::-1], np.full_like(RAMP8, 9)], -1)
    np.testing.assert_array_equal(read(dicom_bytes(colours)).pixels, colours)
    planes = np.moveaxis(colours, -1, 0).tobytes()
    np.testing.assert_array_equal(read(dicom_bytes(colours, PlanarConfiguration=1, data=planes)).pixels, colours)
    luminance = np.asarray(Image.fromarray(colours).convert("YCbCr"))
    coded = read(dicom_bytes(luminance, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(coded.pixels.astype(int) - colours).max() <= 3


def test_a_palette():
    tables = {}
    for channel, (name, entries) in enumerate(zip(("Red", "Green", "Blue"), np.eye(3, 256), strict=True)):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{name}PaletteColorLookupTableData"] = (entries * 65535).astype(np.uint16).tobytes()
        assert entries[channel] == 1
    indices = np.tile(np.arange(4, dtype=np.uint8), (4, 1))
    image = read(dicom_bytes(indices, PhotometricInterpretation="PALETTE COLOR", **tables))
    np.testing.assert_array_equal(image.pixels[0], [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]])


def test_the_first_frame_is_read_and_said():
    image = read(dicom_bytes(np.stack([RAMP8, 255 - RAMP8, RAMP8])))
    np.testing.assert_array_equal(grey(image), RAMP8)
    assert [note.text for note in image.notes] == ["DICOM image of 3 frames: only the first is shown (x.dcm)"]


def items(**elements):
    """A sequence of one item."""
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return [item]


RESCALED = {"PixelValueTransformationSequence": items(RescaleSlope=1, RescaleIntercept=-1024)}
SOFT_TISSUE = {"FrameVOILUTSequence": items(WindowCenter=40, WindowWidth=400)}
LUNG = {"FrameVOILUTSequence": items(WindowCenter=-600, WindowWidth=1600, VOILUTFunction="LINEAR_EXACT")}


def test_rescaling_and_window_of_an_enhanced_file_are_those_of_its_first_frame():
    frames, bits = np.stack([SLICE, SLICE // 2]), {"BitsStored": 12, "HighBit": 11}
    plain = read(dicom_bytes(SLICE, **HOUNSFIELD, WindowCenter=40, WindowWidth=400))
    shared = {"SharedFunctionalGroupsSequence": items(**RESCALED, **SOFT_TISSUE)}
    image = read(dicom_bytes(frames, **bits, **shared))
    np.testing.assert_array_equal(image.pixels, plain.pixels)
    assert image.value_range == plain.value_range == (-160, 239, "DICOM", "file")
    mixed = {
        "SharedFunctionalGroupsSequence": items(**RESCALED),
        "PerFrameFunctionalGroupsSequence": [*items(**LUNG), *items(**SOFT_TISSUE)],
    }
    of_frame = read(dicom_bytes(frames, **bits, **mixed, WindowCenter=0, WindowWidth=1, VOILUTFunction="SIGMOID"))
    assert of_frame.value_range == (-1400, 200, "DICOM", "file")
    per_frame = {"PerFrameFunctionalGroupsSequence": [*items(**SOFT_TISSUE), *items(**LUNG)]}
    over_shared = read(dicom_bytes(frames, **bits, **{**shared, **per_frame}))
    np.testing.assert_array_equal(over_shared.pixels, plain.pixels)
    empty = read(dicom_bytes(frames, **bits, SharedFunctionalGroupsSequence=[], PerFrameFunctionalGroupsSequence=[]))
    assert empty.value_range.chosen_by == "image"
    by_table = {"FrameVOILUTSequence": items(VOILUTSequence=[voi_table(np.arange(512) // 2, 0, 8)])}
    table = read(dicom_bytes(np.stack([ramp(2000)] * 2), SharedFunctionalGroupsSequence=items(**by_table)))
    assert np.abs(grey(table) - np.clip(ramp(2000), 0, 511) // 2).max() <= 0.51


@pytest.mark.parametrize("padding", [-2000, 2**16 - 2000])  # some writers keep it as an unsigned number
def test_padding_is_no_end_of_the_range(padding):
    padded = np.where(SLICE < 400, -2000, SLICE).astype(np.int16)
    data = dicom_bytes(padded, PixelPaddingValue=-2000, RescaleSlope=2, RescaleIntercept=-10)
    sign = data.index(b"\x28\0\x20\x01") + 4
    kind = b"SS" if padding < 0 else b"US"
    image = read(data[:sign] + kind + data[sign + 2 :])
    least = SLICE[SLICE >= 400].min()
    assert image.value_range == (2 * least - 10, 3990, "DICOM", "image")
    assert (grey(image)[padded == -2000] == 0).all()
    assert read(dicom_bytes(padded)).value_range == (-2000, 2000, "DICOM", "image")


def test_padding_may_be_a_range_or_everything():
    values = ramp(2000)
    for ends in ((1500, 60_000), (60_000, 1500)):
        image = read(dicom_bytes(values, PixelPaddingValue=ends[0], PixelPaddingRangeLimit=ends[1]))
        assert image.value_range == (0, values[values < 1500].max(), "DICOM", "image")
    assert read(dicom_bytes(values, PixelPaddingValue=0)).value_range.low == values[values > 0].min()
    everything = read(dicom_bytes(np.full_like(values, 7), PixelPaddingValue=7))
    assert everything.value_range == (7, 7, "DICOM", "image")


def test_headers_have_an_end(monkeypatch):
    most = 300
    monkeypatch.setattr(dicom_header, "MOST_READS", most)
    groups = [Dataset() for _ in range(most + 1)]
    assert read(dicom_bytes(RAMP8, PerFrameFunctionalGroupsSequence=groups[: most - 100])).size == RAMP8.shape
    for keyword in ("PerFrameFunctionalGroupsSequence", "VOILUTSequence", "ModalityLUTSequence"):
        with pytest.raises(PictureError, match="its header has more than 300 elements"):
            read(dicom_bytes(RAMP8, **{keyword: groups}))
    data = dicom_bytes(RAMP8, ReferencedImageSequence=[])
    tag = b"\x08\0\x40\x11SQ\0\0"
    start = data.index(tag)
    sequence = tag + b"\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\0\0\0\0" * most + b"\xfe\xff\xdd\xe0\0\0\0\0"
    with pytest.raises(PictureError, match="its header has more than 300 elements"):
        read(data[:start] + sequence + data[start + len(tag) + 4 :])


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_uncompressed_syntaxes(syntax):
    values = ramp(4095).astype(">u2" if syntax == ExplicitVRBigEndian else "<u2")
    image = read(dicom_bytes(values, syntax=syntax, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096))
    assert np.abs(grey(image) - RAMP8.astype(int)).max() <= 1


def jpeg(values, kind="JPEG", **options):
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **options)
    return stream.getvalue()


def test_compressed_syntaxes_with_a_decoder():
    baseline = dicom_bytes(RAMP8, syntax=JPEGBaseline8Bit, data=encapsulate([jpeg(RAMP8, quality=98)]))
    assert np.abs(grey(read(baseline)) - RAMP8.astype(int)).max() <= 3
    wavelets = jpeg(ramp(65535), "JPEG2000", no_jp2=True)
    image = read(dicom_bytes(ramp(65535), syntax=JPEG2000Lossless, data=encapsulate([wavelets])))
    assert np.abs(grey(image) - RAMP8.astype(int)).max() <= 1
    runs = read(dicom_bytes(RAMP8, syntax=RLELossless, data=encapsulate([rle_frame(RAMP8)])))
    np.testing.assert_array_equal(grey(runs), RAMP8)


def test_compressed_syntaxes_without_a_decoder_are_refused_with_a_hint():
    lossless = dicom_bytes(RAMP8, syntax=JPEGLosslessSV1, data=encapsulate([jpeg(RAMP8)]))
    with pytest.raises(PictureError, match=r"JPEG Lossless.*no decoder is installed; pip install 'pylibjpeg\[all\]'"):
        read(lossless)
    deflated = dicom_bytes(RAMP8, syntax=DeflatedExplicitVRLittleEndian)
    with pytest.raises(PictureError, match="deflated DICOM file, which is not read"):
        read(deflated)


def test_a_frame_that_claims_another_size_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("pydicom.pixels.pixel_array", None)
    large = jpeg(np.zeros((64, 512), np.uint8))
    with pytest.raises(PictureError, match=r"its frame, compressed as JPEG Baseline, is not of the image's size"):
        read(dicom_bytes(RAMP8, syntax=JPEGBaseline8Bit, data=encapsulate([large])))
    wavelets = jpeg(np.zeros((64, 512), np.uint8), "JPEG2000", no_jp2=True)
    with pytest.raises(PictureError, match="is not of the image's size"):
        read(dicom_bytes(RAMP8, syntax=JPEG2000Lossless, data=encapsulate([wavelets])))
    monkeypatch.setattr(module, "RLE_BYTES", 100)
    with pytest.raises(PictureError, match="its run-length encoded frame is too large"):
        read(dicom_bytes(RAMP8, syntax=RLELossless, data=encapsulate([rle_frame(RAMP8)])))


def test_files_without_an_image_and_headers_of_no_real_one():
    whole = dicom_bytes(RAMP8)
    dataset = pydicom.dcmread(io.BytesIO(whole))
    del dataset.Rows, dataset.Columns, dataset.PixelData
    stream = io.BytesIO()
    dataset.save_as(stream)
    with pytest.raises(PictureError, match="DICOM file without an image"):
        read(stream.getvalue())
    with pytest.raises(PictureError, match="30000 x 30000 pixels are more than the limit"):
        read(dicom_bytes(RAMP8, Rows=30_000, Columns=30_000))
    with pytest.raises(PictureError, match="is a damaged picture"):
        read(dicom_bytes(RAMP8, Rows=3000))
    with pytest.raises(PictureError, match="it claims 7 bits in 1 channels"):
        read(dicom_bytes(RAMP8, BitsAllocated=7))
