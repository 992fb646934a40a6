"""A DICOM file's header: the elements that say how its first frame is shown.

pydicom inflates deflated files without a bound, and makes objects of whatever a header holds. So such files are
refused, and headers have an end.
"""

from io import BufferedReader, BytesIO
from typing import Any

from camjax.errors import PictureError

MOST_READS = 2**19
"""Elements and items of a header: pydicom makes an object of almost a kilobyte of an empty item's 8 bytes."""

_ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""The tag at the start of a sequence's item, in either order of bytes."""

_DEFLATED = "1.2.840.10008.1.2.1.99"

_COLOURS = ("Red", "Green", "Blue")
_TAGS = [
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation"),
    *("SamplesPerPixel", "PlanarConfiguration", "Rows", "Columns", "NumberOfFrames"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in _COLOURS),
    *(f"{colour}PaletteColorLookupTableData" for colour in _COLOURS),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in _COLOURS),
]
_FRAME_MACROS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
}
"""Where enhanced files of many frames keep what others have at the top (PS3.3 C.7.6.16.2)."""


def read_dicom_header(file: BufferedReader | BytesIO, name: str) -> tuple[Any, Any]:
    """Reads a DICOM file up to its pixels, where the file's position is then.

    Args:
        file: The file; its position is changed.
        name: Its name in messages.

    Returns:
        pydicom's data set of the elements that matter here, with those of the first frame at the top, and the file's
        transfer syntax.

    Raises:
        PictureError: The file holds no image, or is deflated.
        ValueError: The header has more elements than a real one.
    """
    import pydicom
    from pydicom.filereader import read_dataset

    bounded: Any = _BoundedFile(file)
    bounded.seek(132)
    meta = read_dataset(bounded, False, True, stop_when=lambda tag, *_: tag.group != 2)
    syntax = pydicom.uid.UID(str(meta.get("TransferSyntaxUID", "")))
    if syntax == _DEFLATED:
        raise PictureError(f"{name}: is a deflated DICOM file, which is not read; write it again: dcmconv +te IN OUT")
    bounded.seek(0)
    try:
        dataset = pydicom.dcmread(bounded, stop_before_pixels=True, specific_tags=_TAGS)
    except OSError as error:  # pydicom raises its own where the bound ends a sequence
        if bounded.is_exhausted:
            raise _too_many() from error
        raise
    if "Rows" not in dataset or "Columns" not in dataset:
        raise PictureError(f"{name}: is a DICOM file without an image, such as a report; name another file")
    _take_first_frame(dataset)
    return dataset, syntax


def first_item(dataset: Any, keyword: str) -> Any:  # noqa: ANN401
    """Returns the first item of a sequence; None where there is none.

    Args:
        dataset: The data set or item that may hold the sequence; None holds nothing.
        keyword: DICOM's keyword of the sequence.
    """
    if dataset is None or keyword not in dataset:
        return None
    data = dataset.get_item(keyword).value
    if isinstance(data, bytes) and max(map(data.count, _ITEMS)) > MOST_READS:
        raise _too_many()
    sequence = dataset[keyword].value
    return sequence[0] if sequence else None


def _take_first_frame(dataset: Any) -> None:  # noqa: ANN401
    """Moves the first frame's rescaling and window to the top, where files of one frame have them."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for macro, keywords in _FRAME_MACROS.items():
            item = first_item(first_item(dataset, groups), macro)
            if item is not None:
                for keyword in keywords:
                    dataset.pop(keyword, None)
                    if keyword in item:
                        dataset[keyword] = item[keyword]
    first_item(dataset, "ModalityLUTSequence")  # which pydicom makes objects of, while the pixels are decoded


class _BoundedFile:
    """A file of which a limited number of pieces can be read, so that a header has an end.

    Args:
        file: The file, at any position.

    Attributes:
        is_exhausted: Whether more pieces were asked for.
    """

    def __init__(self, file: BufferedReader | BytesIO) -> None:
        self._file, self._left = file, MOST_READS
        self.seek, self.tell = file.seek, file.tell
        self.is_exhausted = False

    def read(self, size: int = -1) -> bytes:
        """Reads so many bytes; all that is left where the number is negative."""
        self._left -= 1
        if self._left < 0:
            self.is_exhausted = True
            raise _too_many()
        return self._file.read(size)


def _too_many() -> ValueError:
    return ValueError(f"its header has more than {MOST_READS:,} elements")
