"""Which values of more than 8 bits become 0 and 255, and what is said of it."""

import io

import numpy as np
import pytest
from image_files import packed, png_bytes, ramp, tiff_bytes
from PIL import Image

from camjax.errors import CamjaxError, ImageWarning
from camjax.images.decode.image import ReadOptions, decode_image
from camjax.images.decode.ranges import Extent, Mapping, Note, NoteCounter, ValueRange, choose_range, samples_of

RAMP8 = ramp(255, np.uint8)


def read(data, **options):
    return decode_image(io.BytesIO(data), "x.img", ReadOptions(**options))


def encoded(values, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **options)
    return stream.getvalue()


def grey(image):
    assert (image.pixels == image.pixels[..., :1]).all()
    return image.pixels[..., 0]


def assert_ramp(image, inverted=False):
    """A ramp from black to white, to the rounding of both."""
    expected = 255 - RAMP8.astype(int) if inverted else RAMP8.astype(int)
    assert np.abs(grey(image) - expected).max() <= 1
    assert sorted({int(grey(image).min()), int(grey(image).max())}) == [0, 255]


@pytest.mark.parametrize(
    ("kind", "bits", "low", "high", "expected"),
    [
        ("u", 12, 0, 9, (0, 4095, "type")),
        ("u", 16, 0, 0, (0, 255, "type")),
        ("u", 16, 0, 255, (0, 255, "bits")),
        ("u", 16, 3, 256, (0, 1023, "bits")),
        ("u", 16, 0, 1023, (0, 1023, "bits")),
        ("u", 16, 0, 1024, (0, 4095, "bits")),
        ("u", 16, 0, 4096, (0, 16383, "bits")),
        ("u", 16, 0, 16384, (0, 65535, "type")),
        ("u", 32, 0, 16384, (0, 65535, "bits")),
        ("u", 32, 0, 65536, (0, 65536, "image")),
        ("u", 32, 0, 2**32 - 1, (0, 2**32 - 1, "type")),
        ("i", 16, 0, 32767, (0, 32767, "bits")),
        ("i", 16, 0, 4095, (0, 4095, "bits")),
        ("i", 16, -1000, 1000, (-1000, 1000, "image")),
        ("i", 8, 0, 100, (0, 127, "bits")),
        ("i", 32, 0, 2**31 - 1, (0, 2**31 - 1, "image")),
        ("f", 32, 0, 1, (0, 1, "type")),
        ("f", 32, 0, 1.5, (0, 255, "bits")),
        ("f", 32, 0, 256, (0, 65535, "bits")),
        ("f", 32, 0, 70000, (0, 70000, "image")),
        ("f", 32, -0.5, 0.2, (-1, 1, "image")),
        ("f", 32, -1.5, 0.2, (-1.5, 0.2, "image")),
    ],
)
def test_the_range_is_chosen_by_type_and_values(kind, bits, low, high, expected):
    found = choose_range(samples_of(kind, bits), Extent(float(low), float(high)))
    assert (found.low, found.high, found.chosen_by) == expected


def test_values_are_mapped_linearly_and_rounded():
    samples = samples_of("u", 16)
    mapped = Mapping(ValueRange(100.0, 610.0, "16-bit", "window"), samples)
    values = np.asarray([0, 100, 101, 102, 609, 610, 65535], np.uint16)
    np.testing.assert_array_equal(mapped(values), [0, 0, 1, 1, 255, 255, 255])
    np.testing.assert_array_equal(mapped(values.astype(np.float64)), mapped(values))
    np.testing.assert_array_equal(mapped(values.astype(np.int64)), mapped(values))
    inverted = Mapping(ValueRange(0.0, 4.0, "16-bit", "window"), samples_of("u", 16, inverted=True, transparent=3))
    np.testing.assert_array_equal(inverted(np.arange(5, dtype=np.uint16)), [255, 191, 127, 255, 0])


def test_values_that_are_not_finite_are_black_also_where_small_values_are_white():
    values = np.asarray([np.nan, -1, 1, np.inf], np.float32)
    for inverted, expected in ((False, [0, 0, 255, 0]), (True, [0, 255, 0, 0])):
        mapping = Mapping(ValueRange(-1.0, 1.0, "float", "image"), samples_of("f", 32, inverted=inverted))
        np.testing.assert_array_equal(mapping(values), expected)
    widest = Mapping(ValueRange(-1.7e308, 1.7e308, "float", "image"), samples_of("f", 64))
    np.testing.assert_array_equal(widest(np.asarray([-1.7e308, 0, 1.7e308])), [0, 128, 255])


@pytest.mark.parametrize("top", [255, 1023, 4095, 16383, 65535])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_of_which_fewer_are_in_use(kind, top):
    image = read(encoded(ramp(top), kind))
    assert_ramp(image)
    assert image.value_range[:2] == (0, top)
    assert len(image.notes) == (top < 65535)
    if top < 65535:
        assert (
            f"16-bit image without values above {top}: 0 to {top} is mapped to 0 to 255 (x.img)" in image.notes[0].text
        )
        assert "--window LOW HIGH" in image.notes[0].text


def test_twelve_bits_in_twelve_need_no_note():
    image = read(tiff_bytes(packed(ramp(4095), 12), 64, 16, 12))
    assert_ramp(image)
    assert image.notes == ()
    dark = read(tiff_bytes(packed(ramp(1000), 12), 64, 16, 12))  # declared bits are believed
    assert grey(dark).max() == 62


def test_significant_bits_of_a_png():
    def sbit(bits):
        return b"sBIT", bytes([bits])

    declared = read(png_bytes(ramp(4095), 16, 0, sbit(16)))
    assert (grey(declared).max(), declared.notes) == (16, ())
    unscaled = read(png_bytes(ramp(4095), 16, 0, sbit(12)))
    assert_ramp(unscaled)
    assert unscaled.value_range[:2] == (0, 4095)
    scaled = read(png_bytes(ramp(4095) * 16, 16, 0, sbit(12)))
    assert (grey(scaled).max(), scaled.notes) == (255, ())
    for bits in (4, 8):
        assert read(png_bytes(ramp(255), 16, 0, sbit(bits))).value_range[:2] == (0, 255)
    assert read(png_bytes(ramp(256), 16, 0, sbit(8))).value_range.chosen_by == "type"
    dark = read(png_bytes(ramp(1000), 16, 0, sbit(12)))
    assert dark.value_range[:2] == (0, 4095)


def test_small_values_that_are_white():
    for order in "<>":
        values = ramp(65535).astype(f"{order}u2")
        if order == "<":  # the other order is tested where tifffile is needed
            assert_ramp(read(tiff_bytes(values.tobytes(), 64, 16, 16, photometric=0, order=order)), inverted=True)
    floats = ramp(1, np.float32)
    assert_ramp(read(tiff_bytes(floats.tobytes(), 64, 16, 32, photometric=0, t339=3)), inverted=True)


@pytest.mark.parametrize(
    ("dtype", "sample_format", "low", "high"),
    [
        ("<i2", 2, -1000, 1000),
        ("<i2", 2, 0, 32767),
        ("<u4", 1, 0, 2**32 - 1),
        ("<i4", 2, -70000, 70000),
        ("i1", 2, -128, 127),
    ],
)
def test_signed_and_wide_integers(dtype, sample_format, low, high):
    values = np.rint(np.linspace(low, high, 64)).astype(dtype)
    image = read(tiff_bytes(np.tile(values, (16, 1)).tobytes(), 64, 16, 8 * values.itemsize, t339=sample_format))
    assert_ramp(image)
    assert image.value_range[:2] == (low, high)


def test_transparent_grey_of_any_depth():
    for bits in (1, 2, 4, 8, 16):
        values = np.asarray([[0, 2**bits - 1]])
        image = read(png_bytes(values, bits, 0, (b"tRNS", (0).to_bytes(2, "big"))))
        assert grey(image).tolist() == [[255, 255]]
        image = read(png_bytes(values, bits, 0, (b"tRNS", (2**bits - 1).to_bytes(2, "big"))))
        assert grey(image).tolist() == [[0, 255]]
    middle = read(png_bytes(np.asarray([[0, 1, 2]]), 2, 0, (b"tRNS", b"\0\1")))
    assert grey(middle).tolist() == [[0, 255, 170]]
    colours = np.asarray([[[1000, 0, 0], [0xC234, 0, 0]]])
    red = read(png_bytes(colours, 16, 2, (b"tRNS", np.asarray([0xC234, 0, 0], ">u2").tobytes())))
    assert red.pixels.tolist() == [[[3, 0, 0], [255, 255, 255]]]


def test_the_range_of_portable_maps_is_their_largest_value():
    def pgm(top, values):
        return b"P5 # comment 1 2 3\n%d 1 %d\n" % (len(values), top) + np.asarray(values, ">u2").tobytes()

    assert grey(read(pgm(4095, [0, 1000, 4095]))).tolist() == [[0, 62, 255]]
    assert grey(read(pgm(4095, [0, 1000, 2000]))).tolist() == [[0, 62, 125]]
    found = read(pgm(65535, [0, 1000, 4095]))
    assert (grey(found).tolist(), found.value_range.chosen_by) == ([[0, 62, 255]], "bits")
    floats = b"Pf\n2 1\n-1.0\n" + np.asarray([0, 1], "<f4").tobytes()
    assert grey(read(floats)).tolist() == [[0, 255]]


def test_the_range_of_jpeg_2000():
    whole = read(encoded(ramp(65535), "JPEG2000"))
    assert (whole.value_range.chosen_by, grey(whole).max()) == ("type", 255)
    assert read(encoded(ramp(4095), "JPEG2000")).value_range[:2] == (0, 4095)


def test_a_window_is_mapped_and_said():
    image = read(encoded(ramp(4095), "png"), window=(1000.0, 2000.0))
    expected = np.clip((ramp(4095).astype(float) - 1000) / 1000, 0, 1) * 255
    assert np.abs(grey(image) - expected).max() <= 0.5
    assert image.value_range == (1000, 2000, "16-bit", "window")
    assert [note.text for note in image.notes] == [
        "16-bit image: 1000 to 2000 is mapped to 0 to 255, as the given window says (x.img)"
    ]
    plain = read(encoded(RAMP8, "png"), window=(10.0, 20.0))
    np.testing.assert_array_equal(grey(plain), RAMP8)
    assert "is not applied to others (x.img)" in plain.notes[0].text


@pytest.mark.parametrize("window", [(5.0, 5.0), (6.0, 5.0), (0.0, np.inf), (np.nan, 1.0)])
def test_a_window_that_is_none(window):
    with pytest.raises(CamjaxError, match="LOW below HIGH, got"):
        ReadOptions(window=window)


def test_floats_that_are_not_finite_are_said():
    values = ramp(1, np.float32)
    values[0, 0] = np.nan
    image = read(encoded(values, "tiff"))
    assert [note.text for note in image.notes] == ["float image: values that are not finite are shown black (x.img)"]
    nothing = read(encoded(np.full((4, 4), np.nan, np.float32), "tiff"))
    assert not nothing.pixels.any()


def test_a_kind_of_note_is_warned_of_once_and_counted():
    counter = NoteCounter()
    with pytest.warns(ImageWarning, match="a of x"):
        counter.add([Note("a", "a of x")])
    with pytest.warns(ImageWarning, match="b of y"):
        counter.add([Note("a", "a of y"), Note("b", "b of y")])
    counter.add([Note("b", "b of z")])
    assert counter.counts() == {"a of x": 2, "b of y": 2}


def test_dark_colours_of_sixteen_bits_are_said_where_their_bits_are_not_read(monkeypatch):
    from camjax.images.decode import codecs
    from camjax.images.decode import image as files

    for module in (codecs, files):
        monkeypatch.setattr(module, "has_codecs", lambda: False)
    colours = np.repeat(ramp(4095)[..., None], 3, -1)
    image = read(png_bytes(colours, 16, 2))
    assert image.pixels.max() == 15
    assert "16-bit colour image without values above 15 of 255 (x.img)" in image.notes[0].text
    assert read(png_bytes(colours, 16, 2, (b"sBIT", b"\x10\x10\x10"))).notes == ()
    assert read(png_bytes(colours * 4, 16, 2)).pixels.max() == 63
    assert len(read(png_bytes(colours * 4, 16, 2)).notes) == 1
    assert read(png_bytes(colours * 4 + 4, 16, 2)).notes == ()
