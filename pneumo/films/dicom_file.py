"""A DICOM file -> stored values, and from these the grey film. Runs in the process that `dicom` starts.

Elements not in `_READ` are skipped, never parsed: no name, date or number of a patient is in reach of a message.
Whether it is a frontal film of a chest is judged in `dicom_header`; how stored values become grey is in `dicom_grey`.
Pixels that are not square are left so: the network reads a square of any film.
"""

import io
import re
import struct
from dataclasses import dataclass

import gdcm  # noqa: F401  that these two are missing must not look like a damaged film
import numpy as np
import openjpeg  # noqa: F401
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.pixels import get_decoder
from pydicom.tag import Tag

from pneumo.errors import FormatError, TooLargeError, UnreadableError
from pneumo.films import dicom_header
from pneumo.films.dicom_grey import to_grey
from pneumo.films.film import MAX_PIXELS, MIN_SIDE

# Transfer syntax -> decoder of its pixels; no other syntax is read, deflated ones least of all: they inflate without
# limit. GDCM alone decodes JPEG Lossless under a permissive licence; its OpenJPEG is old, so JPEG 2000 goes elsewhere.
_DECODERS = {
    **dict.fromkeys((uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian), ""),
    uid.RLELossless: "pydicom",
    **dict.fromkeys((uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit), "pillow"),
    **dict.fromkeys((uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless), "gdcm"),
    **dict.fromkeys((uid.JPEG2000Lossless, uid.JPEG2000), "pylibjpeg"),
    **dict.fromkeys((uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K), "pylibjpeg"),
}
_KEYWORDS = (
    "SOPClassUID Modality PresentationIntentType BodyPartExamined AnatomicRegionSequence ViewPosition ViewCodeSequence "
    "PatientOrientation PatientAge SamplesPerPixel PlanarConfiguration NumberOfFrames PhotometricInterpretation Rows "
    "Columns BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit "
    "ModalityLUTSequence RescaleSlope RescaleIntercept VOILUTSequence WindowCenter WindowWidth VOILUTFunction "
    "PresentationLUTShape FloatPixelData DoubleFloatPixelData PixelData"
)
_READ = [Tag(keyword) for keyword in _KEYWORDS.split()]
_NEEDED = ("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # PS3.3 C.7.6.3.1.2
_COLOURLESS = 24  # greys of 255 by which colours may differ in a film that is grey
_COLOURED = 0.01  # share of the pixels that may be coloured all the same: a letter
# pydicom masks and extends signs in some syntaxes and not in others: `_without_unused_bits` does it in all
_AS_DECODED = dict.fromkeys(("correct_unused_bits", "apply_j2k_sign_correction", "apply_jls_sign_correction"), False)
# What pydicom and the decoders raise on damaged data
_DAMAGE = (
    *(AttributeError, EOFError, IndexError, KeyError, NotImplementedError, OSError, OverflowError, RecursionError),
    *(RuntimeError, TypeError, ValueError, ZeroDivisionError, BytesLengthException, struct.error),
)


@dataclass(frozen=True)
class Read:
    """What is in a file: `pixels` (H, W) uint8, bones bright, warnings, the patient's age in years, if it is told.

    `refused`: by its header it is no frontal film of a chest. `doubtful`: the film fills little of its own scale.
    """

    pixels: np.ndarray
    warnings: list[str]
    age: float | None
    refused: bool
    doubtful: bool


def read_film(data: bytes, force: bool = False) -> Read:
    """Decode one frontal chest film; with `force` one that says that it is another film, too.

    Raises:
        FormatError: a transfer syntax that is not read, or no picture at all.
        OtherFilmError: another modality, view or part of the body, without `force`.
        TooLargeError: more than MAX_PIXELS, told from Rows and Columns before any pixel is decoded.
        UnreadableError: several frames, colour, damaged, or what is needed is missing.
    """
    try:
        dataset, odd = read(data)
        judgement = dicom_header.judge(dataset, force)
        odd += check_picture(dataset)
        values, more = stored_values(dataset)
        pixels, notes, doubtful = to_grey(values, dataset)
    except _DAMAGE:  # whose words may quote the file
        raise UnreadableError("The DICOM file is damaged or cut short.") from None
    warnings = judgement.notes + odd + more + notes
    return Read(pixels, warnings, judgement.age, bool(judgement.refusals), doubtful)


def read(data: bytes) -> tuple[Dataset, list[str]]:
    """Read the elements in `_READ` that have a value, and name those that nobody can understand.

    `file_meta` of the result holds the transfer syntax alone. Not pydicom's `dcmread`, which would inflate a deflated
    data set before anybody can look.

    Raises:
        FormatError: a transfer syntax that is not read, or a file that holds no picture.
        EOFError, and whatever else is in `_DAMAGE`: it is damaged.
    """
    stream = io.BytesIO(data)
    stream.seek(132 if data[128:132] == b"DICM" else 0)  # PS3.10 7.1; some files lack preamble and prefix
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if meta.get("MediaStorageSOPClassUID") == uid.MediaStorageDirectoryStorage:  # PS3.10 8.6
        raise FormatError("Expected a DICOM film, received a DICOMDIR, a list of films: send one of these.")
    syntax = meta.get("TransferSyntaxUID")
    if syntax is None:  # then the first element tells: with a value representation, or without (PS3.5 7.1)
        explicit = data[stream.tell() + 4 : stream.tell() + 6].isalpha()
        syntax = uid.ExplicitVRLittleEndian if explicit else uid.ImplicitVRLittleEndian
    if syntax not in _DECODERS:
        raise FormatError(f"Expected a transfer syntax that is read here, received {_name_of(syntax)}.")
    dataset = read_dataset(stream, syntax.is_implicit_VR, syntax.is_little_endian, specific_tags=_READ)
    if not len(dataset):  # all that pydicom gives of a file that ends in the middle of an element
        raise EOFError
    odd = _drop_what_means_nothing(dataset)
    if "PixelData" not in dataset and "Rows" not in dataset:
        kind = _name_of(dataset.get("SOPClassUID"))
        raise FormatError(f"Expected a DICOM film, received one without a picture: {kind}.")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset, odd


def check_picture(ds: Dataset) -> list[str]:
    """Check that there is one picture in the file, of values that are read here; `NumberOfFrames` becomes 1.

    Raises:
        FormatError, TooLargeError, UnreadableError: as in `read_film`.
    """
    if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
        raise UnreadableError("Expected whole numbers as pixels (PixelData), received floating point (FloatPixelData).")
    if missing := [keyword for keyword in (*_NEEDED, "PixelData") if keyword not in ds]:
        raise UnreadableError(f"Expected a picture in the file, received one without {', '.join(missing)}.")
    notes, frames = [], ds.get("NumberOfFrames", 1)
    if frames == 0:  # pydicom and DCMTK, too, take it for 1
        notes.append("The file says that it holds 0 pictures (NumberOfFrames): the first was read.")
    elif frames != 1:
        raise UnreadableError(f"Expected one picture in the file, received {int(frames)} frames.")
    ds.NumberOfFrames = 1
    rows, columns, bits = ds.Rows, ds.Columns, ds.BitsAllocated
    if rows * columns > MAX_PIXELS:
        raise TooLargeError(f"Expected at most {MAX_PIXELS / 1e6:.0f} megapixels, received {columns} × {rows}.")
    if min(rows, columns) < MIN_SIDE:
        raise UnreadableError(f"Expected at least {MIN_SIDE} × {MIN_SIDE} pixels, received {columns} × {rows}.")
    colour = ds.SamplesPerPixel == 3 and ds.PhotometricInterpretation in _COLOURS and bits == 8
    if not colour and (ds.SamplesPerPixel != 1 or ds.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2")):
        received = dicom_header.read_code(ds, "PhotometricInterpretation")
        raise UnreadableError(f"Expected a grey picture (PhotometricInterpretation), received {received}.")
    if bits not in (8, 16):
        raise UnreadableError(f"Expected values of 8 or 16 bits (BitsAllocated), received {bits}.")
    if not 1 < ds.BitsStored <= bits:
        raise UnreadableError(f"Expected values of 2 to {bits} bits (BitsStored), received {ds.BitsStored}.")
    if ds.get("PixelRepresentation") not in (0, 1):
        raise UnreadableError("Expected PixelRepresentation 0 or 1, received neither: are there values below 0?")
    if ds.file_meta.TransferSyntaxUID == uid.JPEGExtended12Bit and ds.BitsStored > 8:
        raise FormatError("Expected lossy JPEG of 8 bits, received 12 bits.")
    return notes


def stored_values(ds: Dataset) -> tuple[np.ndarray, list[str]]:
    """Decode the pixels: (Rows, Columns) uint16, or int16 where PixelRepresentation is 1, as stored (PS3.5 8.1.1).

    Raises:
        UnreadableError: a picture in colours; the compressed picture has others Rows, Columns or bits.
    """
    syntax = ds.file_meta.TransferSyntaxUID
    raw = get_decoder(syntax).as_array(ds, raw=True, decoding_plugin=_DECODERS[syntax], **_AS_DECODED)[0]
    return (_without_colour(raw, ds), []) if raw.ndim == 3 else _without_unused_bits(raw, ds)


def _without_unused_bits(raw: np.ndarray, ds: Dataset) -> tuple[np.ndarray, list[str]]:
    """Keep BitsStored bits up to HighBit, with their sign, whatever the decoder made of the others (PS3.5 8.1.1)."""
    words = raw.astype(np.uint16)
    bits, notes = ds.BitsStored, []
    mask, shift = (1 << bits) - 1, int(ds.get("HighBit", bits - 1)) - (bits - 1)
    if shift:
        shiftable = 0 < shift <= ds.BitsAllocated - bits
        if shiftable and ((words > mask).any() or not (words & ((1 << shift) - 1)).any()):
            words >>= shift
        else:
            notes.append(
                f"The highest bit is said to be {ds.HighBit} (HighBit) and is not: it was taken for {bits - 1}."
            )
    over = bool(words.max() > mask)  # of a large film every array costs: none is made where no bit is over
    kept = words & mask if over else words
    if ds.PixelRepresentation:
        sign = np.uint16(1 << bits - 1)
        kept = ((kept ^ sign) - sign).view(np.int16)
    if over and (not ds.PixelRepresentation or (words & ~np.uint16(mask) & ~kept.view(np.uint16)).any()):
        notes.append(
            "Bits above BitsStored are set and were not read: the film has an overlay, or BitsStored is wrong."
        )
    return kept, notes


def _without_colour(raw: np.ndarray, ds: Dataset) -> np.ndarray:
    """(H, W, 3) uint8 of a film that is grey though it is saved in colours -> (H, W) uint16, as `images` has it.

    Raises:
        UnreadableError: it is not grey.
    """
    first, *others = (raw[..., number].astype(np.int16) for number in range(3))
    for neutral in (first, 128):  # of red, green and blue; of luminance and two colour differences
        apart = np.maximum(*(np.abs(other - neutral) for other in others))
        if (apart > _COLOURLESS).mean() <= _COLOURED:
            grey = raw[..., 0] if neutral is not first else np.asarray(Image.fromarray(raw).convert("L"))
            ds.PhotometricInterpretation, ds.SamplesPerPixel = "MONOCHROME2", 1
            return grey.astype(np.uint16)
    received = dicom_header.read_code(ds, "PhotometricInterpretation")
    raise UnreadableError(f"Expected a grey picture, received one in colours ({received}).")


def _drop_what_means_nothing(ds: Dataset) -> list[str]:
    """Take out of a data set what is empty, and what its value representation does not allow; the latter is named.

    Of several windows some may be right, so they stay as texts.
    """
    odd = []
    for tag in list(ds.keys()):
        raw = ds.get_item(tag)
        try:
            if ds[tag].is_empty:  # in files, empty is as good as absent
                del ds[tag]
        except _DAMAGE:
            keyword = _READ_NAMES[tag]
            if keyword in ("WindowCenter", "WindowWidth"):
                text = raw.value.decode("ascii", "replace").replace("\0", " ")
                ds.add_new(tag, "LO", re.sub(r"[^0-9.,;eE+\-\\ ]", "?", text).split("\\"))
            else:
                del ds[tag]
                odd.append(f"{keyword} is not understood and was not read.")
    return odd


_READ_NAMES = dict(zip(_READ, _KEYWORDS.split(), strict=True))


def _name_of(identifier: uid.UID | None) -> str:
    """The Standard's name of a UID; others are not repeated: they may tell who made them."""
    return identifier.name if isinstance(identifier, uid.UID) and identifier.type else "an unknown kind"
