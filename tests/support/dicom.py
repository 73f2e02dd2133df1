"""Write small DICOM files of known pixels."""

import base64
import io
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence

from pneumo.films.dicom_file import read_film
from pneumo.films.film import Film

SHIPPED = Path(pydicom.data.__file__).parent / "test_files"
quiet = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom quotes what is odd
RAMP = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
SLOPE = (np.arange(64)[None, :] * 60 + np.arange(64)[:, None]).astype(np.uint16)  # 0 to 3843: 12 bits
# SLOPE as HTJ2K, lossless, written by OpenJPH 0.26, which shares no code with what reads it here
HTJ2K = base64.b64decode(
    "/0//UQApQAAAAABAAAAAQAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQ"
    "kJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAO0AAf+TwAArAP9/tf9b3SPdAoG0AMAAE8AAEwCQgMQDAnQAovgAA1QAwAAV"
    "UAAFQEgggQQSqnKCdQAQAP7Byey1AMAAFowAAVgiRIgQIUKECBHnynp6cgJ4AAgAAP79knv2Sey4AMAAFuwAAV4MDAwMDAwMDAwMDAwMDAwM+f8K"
    "enp6enp6cYJ9AAIA/v94Z+/f79/v3+y8AMAALroAAWqAtm3btm3btm3btm3btm3btm3btm3btm3b/r/8Cnp6enp6enp6enp6enp6cIJ2AQAAAAD/"
    "f9sDrrrrrrrrrrrrrrqRAf/Z"
)


def dicom(pixels, syntax=uid.ExplicitVRLittleEndian, stored=None, **elements):
    """A DICOM file of (H, W) (u)int8 or (u)int16, or of an encoded frame of SLOPE; None leaves an element out."""
    ds, frame = Dataset(), isinstance(pixels, bytes)
    shape, size, kind = (SLOPE.shape, 2, "u") if frame else (pixels.shape, pixels.itemsize, pixels.dtype.kind)
    ds.SOPClassUID, ds.SOPInstanceUID = uid.ComputedRadiographyImageStorage, "1.2.3"
    ds.Modality, ds.SamplesPerPixel, ds.PhotometricInterpretation = "CR", 1, "MONOCHROME2"
    ds.Rows, ds.Columns = shape
    ds.BitsAllocated, ds.BitsStored = 8 * size, stored or 8 * size
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(kind == "i")
    ds.PixelData = encapsulate([pixels]) if frame else pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    ds["PixelData"].VR = "OB" if frame else "OW"
    for keyword, value in elements.items():
        if value is None:
            ds.pop(keyword, None)
        else:
            setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def table(entries, first, bits):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", list(entries))
    return Sequence([item])


def packed(entries, vr):
    """A table of 8 bits from 0 on, two entries a word, the first of them in the low byte."""
    item, pairs = Dataset(), bytes([*entries, *[0] * (len(entries) % 2)])
    item.add_new("LUTDescriptor", "US", [len(entries), 0, 8])
    item.add_new("LUTData", vr, pairs if vr == "OW" else list(struct.unpack(f"<{len(pairs) // 2}H", pairs)))
    return Sequence([item])


def coded(value, meaning, scheme="SCT"):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def look(data, force=False):
    """The film, read in this process: its arithmetic needs no other."""
    found = read_film(data, force)
    height, width = found.pixels.shape
    return Film(found.pixels, "DICOM", width, height, tuple(found.warnings), found.age, found.refused, found.doubtful)


def full_of(values, dtype=np.uint16, syntax=uid.ExplicitVRLittleEndian, **elements):
    """A film full of those stored values, in order, as `look` has it."""
    return look(dicom(np.resize(np.array(values, dtype), (32, 32)), syntax, **elements))


def grey(values, dtype=np.uint16, syntax=uid.ExplicitVRLittleEndian, **elements):
    """What those stored values become, in order."""
    return full_of(values, dtype, syntax, **elements).pixels.ravel()[: len(values)].tolist()


def dcmtk(tool, *arguments):
    if not shutil.which(tool):
        pytest.fail(f"{tool} is missing: these tests need dcmtk (Debian: apt install dcmtk)")
    subprocess.run([tool, *map(str, arguments)], check=True, capture_output=True)


# the tool, its options, and by how much a grey value may differ
WRITERS = {
    "implicit VR": ("dcmconv", "+ti", 0),
    "explicit VR": ("dcmconv", "+te", 0),
    "big endian": ("dcmconv", "+tb", 0),
    "explicit VR, bare": ("dcmconv", "-F +te", 0),
    "implicit VR, bare": ("dcmconv", "-F +ti", 0),
    "group lengths": ("dcmconv", "+g", 0),
    "RLE": ("dcmcrle", "", 0),
    "JPEG Lossless": ("dcmcjpeg", "+e1", 0),
    "JPEG Lossless, process 14": ("dcmcjpeg", "+el +sv 4", 0),
    "JPEG baseline": ("dcmcjpeg", "+eb +q 100", 2),
    "JPEG-LS": ("dcmcjpls", "+el", 0),
    "JPEG-LS near lossless": ("dcmcjpls", "+en +md 2", 2),
}


def write_as(name, plain, folder):
    """The bytes of the file that the tool of this name in WRITERS makes of the file `plain`."""
    tool, options, _ = WRITERS[name]
    dcmtk(tool, *options.split(), plain, folder / "film.dcm")
    return (folder / "film.dcm").read_bytes()
