"""The kinds of files that can be decoded, recognised by their first bytes, and advice for those that cannot.

This is the one list of file endings: folders, tar shards and error messages all use it.
"""

import importlib.util
import os
import re
import struct
from collections import Counter

from PIL import features

from camjax.errors import PictureError, printable

HEAD_BYTES = 4096
"""Bytes from the start of a file that `identify` needs."""

SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif"),
    "DICOM": (".dcm", ".dicom"),
}
"""File endings of each kind, in lower case."""

EXTRAS = {"HEIF": ("pillow_heif", "heif"), "DICOM": ("pydicom", "dicom")}
"""The module that decodes a kind, and the extra of camjax that installs it."""

MOST_ENDINGS = 8
"""Endings that `SkippedFiles` names; the others are counted together."""

_RAW_SUFFIXES = frozenset(
    (
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw"),
        *(".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".sr2", ".srf", ".srw", ".x3f"),
    )
)
CAMERA_RAW = (
    "a camera's raw file",
    "develop it into JPEG, PNG or TIFF first, for instance with darktable or RawTherapee",
)
"""What a raw file is called in an error, and what to do with it; TIFF-based ones are recognised by their tags."""

_SVG = "a vector drawing (SVG)", "export it as PNG first: rsvg-convert FILE.svg -o FILE.png"
_WEB_PAGE = "a web page (HTML)", "the server may have sent an error page instead of the image; download it again"
_XML = "an XML text", "the server may have sent an error instead of the image; download it again"
_FOREIGN: tuple[tuple[bytes, tuple[str, str]], ...] = (
    (rb"version https://git-lfs", ("a Git LFS pointer, which stands for the image", "fetch the image: git lfs pull")),
    (rb"%PDF-", ("a PDF document", "make images of its pages first: pdftoppm -png FILE.pdf page")),
    (rb"%!PS|\xc5\xd0\xd3\xc6", ("PostScript (EPS), which camjax does not run", "convert it to PNG first")),
    (rb"II\*\0.{4}CR|.{4}ftypcrx |FUJIFILMCCD-RAW|II(RO|RS|U\0)|FOVb|\0MRM", CAMERA_RAW),
    (rb"\0\0\0\x0cJXL |\xff\x0a", ("JPEG XL", "convert it to PNG first: djxl FILE.jxl FILE.png")),
    (rb"\x93NUMPY", ("a NumPy array", "give the array to make_explainer in Python, or save it as PNG")),
    (rb"8BPS", ("a Photoshop document", "export it as PNG or TIFF first")),
    (
        rb".{4}ftyp(isom|iso\d|mp4\d|M4V|qt  |3gp)|\x1aE\xdf\xa3|RIFF.{4}AVI ",
        ("a video", "extract frames first: ffmpeg -i FILE frame%05d.png"),
    ),
)
"""Patterns at the start of a file that is no image which can be decoded: what it is, and what to do."""

_KINDS: tuple[tuple[bytes, str], ...] = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"RIFF.{4}WEBP", "WEBP"),
    (rb"BM", "BMP"),
    (rb"[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "DIB"),
    (rb"GIF8[79]a", "GIF"),
    (rb"II[*+]\0|MM\0[*+]|II\0\*|MM\*\0", "TIFF"),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (rb"P[0-6fFy]", "PPM"),
    (rb".{128}DICM", "DICOM"),
)

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})


def is_decodable(kind: str) -> bool:
    """Returns whether files of a kind can be decoded with the packages that are installed."""
    if kind == "AVIF":
        return "avif" in features.modules and features.check_module("avif")  # Pillow 11.3 and newer know its name
    return kind not in EXTRAS or importlib.util.find_spec(EXTRAS[kind][0]) is not None


def image_suffixes() -> frozenset[str]:
    """Returns the file endings, in lower case, of all kinds that can be decoded here."""
    return frozenset(suffix for kind, suffixes in SUFFIXES.items() if is_decodable(kind) for suffix in suffixes)


def identify(head: bytes, name: str) -> str:
    """Recognises the kind of a file.

    Args:
        head: The first `HEAD_BYTES` bytes of the file, or all of a shorter one.
        name: The file's name in error messages, of which only the ending is considered.

    Returns:
        A key of `SUFFIXES` whose decoder is installed.

    Raises:
        PictureError: The file is of no kind that can be decoded; the message says what it is and what to do.
    """
    suffix = os.path.splitext(name)[1].lower()
    advice = _markup(head) or next((words for start, words in _FOREIGN if re.match(start, head, re.DOTALL)), None)
    if advice:
        raise foreign(name, *advice)
    kind = next((kind for pattern, kind in _KINDS if re.match(pattern, head, re.DOTALL)), None) or _of_brands(head)
    if suffix in _RAW_SUFFIXES and kind in (None, "TIFF"):
        raise foreign(name, *CAMERA_RAW)
    if kind is None:
        raise PictureError(f"{name}: is not a picture of a kind that camjax reads, such as JPEG or PNG")
    if not is_decodable(kind):
        how = f"pip install 'camjax[{EXTRAS[kind][1]}]'" if kind in EXTRAS else "pip install --upgrade pillow"
        raise PictureError(f"{name}: is {kind}, whose decoder is not installed; {how}")
    return kind


def foreign(name: str, what: str, advice: str) -> PictureError:
    """Returns the error for a file of a kind that cannot be decoded.

    Args:
        name: The file's name in the message.
        what: A noun phrase that says what the file is.
        advice: A clause that says what to do with it.
    """
    return PictureError(f"{name}: is {what}, not a file of a kind that camjax reads; {advice}")


def _markup(head: bytes) -> tuple[str, str] | None:
    """Returns what a text that begins with an angle bracket is, and what to do with it."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith(b"<"):
        return None
    if b"<svg" in text or b"<!doctype svg" in text:
        return _SVG
    if re.search(rb"<!doctype html|<(html|head|body)\b", text):
        return _WEB_PAGE
    return _XML if text.startswith(b"<?xml") else None


def _of_brands(head: bytes) -> str | None:
    """Returns AVIF or HEIF by the brands in an ISO media file's first box, the major one first."""
    if head[4:8] != b"ftyp":
        return None
    (length,) = struct.unpack(">I", head[:4])
    box = head[: min(length, len(head))]
    brands = [box[8:12], *(box[start : start + 4] for start in range(16, len(box), 4))]
    coded = (brand for brand in brands if brand not in {b"mif1", b"msf1"})
    for brand in (*coded, *brands):
        if brand in _AVIF_BRANDS:
            return "AVIF"
        if brand in _HEIF_BRANDS:
            return "HEIF"
    return None


class SkippedFiles(Counter[str]):
    """Files in folders and tar shards that are not images, counted by their ending."""

    def add(self, name: str, special: bool = False) -> None:
        """Counts a file.

        Args:
            name: The file's name, of which the ending counts.
            special: Whether it is a named pipe, a socket or a device.
        """
        ending = os.path.splitext(name)[1].lower()
        usual = ending if re.fullmatch(r"\.\w{1,12}", ending) else "without a usual ending"
        self["named pipe, socket or device" if special else usual] += 1

    def line(self) -> str:
        """Returns one line that names the commonest endings with their counts; empty where nothing was skipped."""
        if not self:
            return ""
        total, named = sum(self.values()), self.most_common(MOST_ENDINGS)
        parts = [f"{count} {printable(ending)}" for ending, count in named]
        if rest := total - sum(count for _, count in named):
            parts.append(f"{rest} others")
        missing = {
            extra for kind, (_, extra) in EXTRAS.items() if not is_decodable(kind) and self.keys() & set(SUFFIXES[kind])
        }
        hint = "".join(f"; pip install 'camjax[{extra}]' reads more of them" for extra in sorted(missing))
        files = "1 file that is not an image" if total == 1 else f"{total} files that are not images"
        return f"{files}: {', '.join(parts)}{hint}"
