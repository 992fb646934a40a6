"""Image files of kinds that no library here writes as people have them: TIFF by its tags, PNG by its chunks, DICOM."""

import io
import struct
import zlib

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def tiff_bytes(data, width, height, bits, photometric=1, order="<", **tags):
    """A TIFF file of one strip; further tags are given by number, as `t339=2`."""
    entries = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: photometric,
        273: 8,
        277: 1,
        278: height,
        279: len(data),
    }
    entries |= {int(name[1:]): value for name, value in tags.items()}
    data += b"\0" * (len(data) % 2)
    body = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(data)) + data
    body += struct.pack(f"{order}H", len(entries))
    for tag, value in sorted(entries.items()):
        body += struct.pack(f"{order}HHII", tag, 4, 1, value)
    return body + bytes(4)


def packed(values, bits):
    """Integers of so many bits one after the other, each row from a new byte on."""
    rows = ("".join(f"{value:0{bits}b}" for value in row) for row in values.tolist())
    rows = (row + "0" * (-len(row) % 8) for row in rows)
    return b"".join(bytes(int(row[at : at + 8], 2) for at in range(0, len(row), 8)) for row in rows)


def png_bytes(values, bits, colour, *chunks):
    """A PNG of unsigned integers `(height, width[, channels])`; `chunks` are names and contents before its pixels."""
    height, width = values.shape[:2]

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = values.reshape(height, -1)
    lines = [row.astype(">u2").tobytes() if bits == 16 else packed(row[None], bits) for row in rows]
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
            *(chunk(*each) for each in chunks),
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines))),
            chunk(b"IEND", b""),
        ]
    )


def dicom_bytes(pixels, *, syntax=ExplicitVRLittleEndian, data=None, **elements):
    """A DICOM file of one or more frames `([frames,] rows, columns[, 3])`; further elements are given by keyword."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    colours = pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colours else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colours else 1
    dataset.PhotometricInterpretation = "RGB" if colours else "MONOCHROME2"
    if colours:
        dataset.PlanarConfiguration = 0
    if pixels.ndim == 3 and not colours:
        dataset.NumberOfFrames = len(pixels)
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes() if data is None else data
    dataset["PixelData"].VR = "OB" if bits == 8 or data is not None else "OW"
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def ramp(top, dtype=np.uint16, shape=(16, 64)):
    """A grey image that grows from 0 at the left to the largest value at the right."""
    return np.tile(np.linspace(0, top, shape[1]), (shape[0], 1)).astype(dtype)


def rle_frame(pixels):
    """A frame of one 8-bit channel in DICOM's run-length encoding, of literal runs alone."""
    data = pixels.tobytes()
    runs = [data[at : at + 128] for at in range(0, len(data), 128)]
    coded = b"".join(bytes([len(run) - 1]) + run for run in runs)
    return struct.pack("<16I", 1, 64, *[0] * 14) + coded + b"\0" * (len(coded) % 2)
