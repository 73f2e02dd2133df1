"""A DICOM file -> grey; what no frontal chest film is, is refused by name. Runs in the process that `dicom` starts.

Elements not in `_READ` are skipped, never parsed: no name, date or number of a patient is in reach of a message. How
stored values become grey is in `dicom_grey`. Pixels that are not square are left so: the network reads a square of any
film.
"""

import io
import json
import re
import resource
import struct
import sys

import gdcm  # noqa: F401  that these two are missing must not look like a damaged film
import numpy as np
import openjpeg  # noqa: F401
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.pixels import get_decoder
from pydicom.tag import Tag

from pneumo.errors import FormatError, OtherFilmError, PneumoError, TooLargeError, UnreadableError
from pneumo.films.dicom import STARTED
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
    "PatientOrientation PatientAge SamplesPerPixel NumberOfFrames PhotometricInterpretation Rows Columns BitsAllocated "
    "BitsStored HighBit PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit ModalityLUTSequence RescaleSlope "
    "RescaleIntercept VOILUTSequence WindowCenter WindowWidth VOILUTFunction PresentationLUTShape PixelData"
)
_READ = [Tag(keyword) for keyword in _KEYWORDS.split()]

_FILMS = ("CR", "DX", "DR", "RG")  # PS3.3 C.7.3.1.1.1; DR is in no edition, but in files
_UNTOLD = ("", "OT", "SC")  # what converters from other pictures write
_FRONTAL = ("", "AP", "PA")  # PS3.3 C.8.1.1
_FRONTAL_MEANINGS = re.compile("AP|PA|FRONTAL|ANTERO.?POSTERIOR|POSTERO.?ANTERIOR")  # PS3.16 CID 4010
_OTHER_VIEWS = re.compile("LL|RL|[LR]L?[DO]|[LR][AP]O|.*LAT.*|.*OBL.*|.*DECUB.*")
_CHEST = re.compile("CHEST|THORAX|TORAX|LUNGS?")
# Codes of postero-anterior and chest in older editions of PS3.16, which pydicom does not lead to those of today
_TODAY = {"R-10214": "272479007", "T-D3000": "816094009", "51185008": "816094009"}
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1}
# What pydicom and the decoders raise on damaged data
_DAMAGE = (
    *(AttributeError, EOFError, IndexError, KeyError, NotImplementedError, OSError, OverflowError, RecursionError),
    *(RuntimeError, TypeError, ValueError, ZeroDivisionError, BytesLengthException, struct.error),
)


def main() -> None:
    """The other side of `dicom.decode`: the file on stdin; on stdout what it is, a line of JSON, and its pixels."""
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would leave the film on the disk
    out = sys.stdout.buffer
    out.write(STARTED)
    out.flush()
    try:
        pixels, notes = read_film(sys.stdin.buffer.read())
    except PneumoError as error:
        out.write(json.dumps({"error": type(error).__name__, "message": str(error)}).encode() + b"\n")
    else:
        out.write(json.dumps({"shape": pixels.shape, "warnings": notes}).encode() + b"\n" + pixels.tobytes())


def read_film(data: bytes) -> tuple[np.ndarray, list[str]]:
    """Decode one frontal chest film: (H, W) uint8, bones bright, and what a reader should know of it.

    Raises:
        FormatError: a transfer syntax that is not read, or no picture at all.
        OtherFilmError: another modality, view or part of the body.
        TooLargeError: more than MAX_PIXELS, told from Rows and Columns before any pixel is decoded.
        UnreadableError: several frames, colour, damaged, or contradicting itself.
    """
    try:
        dataset = read(data)
        notes = doubts(dataset)
        pixels, more = to_grey(stored_values(dataset), dataset)
    except _DAMAGE:  # whose words may quote the file
        raise UnreadableError("The DICOM file is damaged, cut short, or contradicts itself.") from None
    return pixels, notes + more


def read(data: bytes) -> Dataset:
    """Read the elements in `_READ` that have a value; `file_meta` of the result holds the transfer syntax alone.

    Not pydicom's `dcmread`, which would inflate a deflated data set before anybody can look.

    Raises:
        FormatError: a transfer syntax that is not read.
        EOFError, and whatever else is in `_DAMAGE`: it is damaged.
    """
    stream = io.BytesIO(data)
    stream.seek(132 if data[128:132] == b"DICM" else 0)  # PS3.10 7.1; some files lack preamble and prefix
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = meta.get("TransferSyntaxUID")
    if syntax is None:  # then the first element tells: with a value representation, or without (PS3.5 7.1)
        explicit = data[stream.tell() + 4 : stream.tell() + 6].isalpha()
        syntax = uid.ExplicitVRLittleEndian if explicit else uid.ImplicitVRLittleEndian
    if syntax not in _DECODERS:
        raise FormatError(f"Expected a transfer syntax that is read here, received {_name_of(syntax)}.")
    dataset = read_dataset(stream, syntax.is_implicit_VR, syntax.is_little_endian, specific_tags=_READ)
    if not len(dataset):  # all that pydicom gives of a file that ends in the middle of an element
        raise EOFError
    for element in list(dataset):  # in files, empty is as good as absent
        if element.is_empty:
            del dataset[element.tag]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def doubts(ds: Dataset) -> list[str]:
    """Refuse what no frontal chest film is; what is doubtful comes back in words.

    Raises:
        FormatError, OtherFilmError, UnreadableError: as in `read_film`.
    """
    notes = []
    modality, view, part = (_code(ds, keyword) for keyword in ("Modality", "ViewPosition", "BodyPartExamined"))
    if "PixelData" not in ds and "Rows" not in ds:
        raise FormatError(f"Expected a DICOM film, received one without a picture: {_name_of(ds.get('SOPClassUID'))}.")
    if modality in _UNTOLD:
        notes.append("The file does not say that it is an X-ray (Modality).")
    elif modality not in _FILMS:
        raise OtherFilmError(f"Expected a chest X-ray (Modality CR or DX), received {modality}.")
    raw = ds.get("SOPClassUID") == uid.DigitalXRayImageStorageForProcessing
    if raw or _code(ds, "PresentationIntentType") == "FOR PROCESSING":  # PS3.3 C.8.11.1.1.1
        notes.append("The film is raw (FOR PROCESSING): the model has only seen films made to be looked at.")
    if int(ds.get("NumberOfFrames", 1)) != 1:
        raise UnreadableError(f"Expected one picture in the file, received {int(ds.NumberOfFrames)} frames.")
    if ds.SamplesPerPixel != 1 or ds.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnreadableError(f"Expected a grey picture, received {_code(ds, 'PhotometricInterpretation')}.")
    known, own = _meanings(ds, "ViewCodeSequence", "CID4010")
    views = known + own
    axes = ds.get("PatientOrientation")  # of rows and columns; PS3.3 C.7.6.1.1.1
    lateral = isinstance(axes, MultiValue) and re.fullmatch("[AP][HFLR]{0,2}", axes[0])
    other = lateral or any(map(_OTHER_VIEWS.fullmatch, views))
    if _OTHER_VIEWS.fullmatch(view) or (other and view not in ("AP", "PA")):
        raise OtherFilmError(f"Expected a frontal film (ViewPosition PA or AP), received {view or 'another view'}.")
    if view not in _FRONTAL:
        notes.append(f"The view {view} is not known here: is it a frontal film?")
    elif other or (views and not view and not any(map(_FRONTAL_MEANINGS.fullmatch, views))):
        notes.append("The view is not known here: is it a frontal film?")
    known, own = _meanings(ds, "AnatomicRegionSequence", "CID4009")
    parts = [part, *known] if part else known
    for told in parts:
        if not _CHEST.search(told):
            raise OtherFilmError(f"Expected a film of the chest (BodyPartExamined), received {told}.")
        if not _CHEST.fullmatch(told):
            notes.append(f"The body part is {told}: the model has only seen chests.")
    if own and not parts and not any(map(_CHEST.search, own)):
        notes.append("The body part is not known here: is it a film of the chest?")
    if age := re.fullmatch(r"(\d{3})([DWMY])", str(ds.get("PatientAge", ""))):  # PS3.5 6.2, AS
        years = int(age[1]) * _YEARS[age[2]]
        if years >= 18:
            notes.append("The patient is an adult: the model has only seen children aged 1 to 5.")
        elif not 1 <= years < 6:
            notes.append("The model has only seen children aged 1 to 5; this one is younger or older.")
    return notes


def stored_values(ds: Dataset) -> np.ndarray:
    """Decode the pixels: (Rows, Columns), (u)int8 or (u)int16, as stored (PS3.5 8.1.1).

    Raises:
        TooLargeError, UnreadableError: Rows, Columns or bits are not read, or the compressed picture has others.
    """
    rows, columns = ds.Rows, ds.Columns
    if rows * columns > MAX_PIXELS:
        raise TooLargeError(f"Expected at most {MAX_PIXELS / 1e6:.0f} megapixels, received {columns} × {rows}.")
    if min(rows, columns) < MIN_SIDE:
        raise UnreadableError(f"Expected at least {MIN_SIDE} × {MIN_SIDE} pixels, received {columns} × {rows}.")
    bits = ds.BitsStored
    if ds.BitsAllocated not in (8, 16) or not 1 < bits <= ds.BitsAllocated or ds.get("HighBit", bits - 1) != bits - 1:
        raise UnreadableError(f"Expected values of up to 16 bits, received {bits} of {ds.BitsAllocated} bits.")
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax == uid.JPEGExtended12Bit and bits > 8:
        raise FormatError("Expected lossy JPEG of 8 bits, received 12 bits.")
    return get_decoder(syntax).as_array(ds, raw=True, decoding_plugin=_DECODERS[syntax])[0]


def _code(ds: Dataset, keyword: str) -> str:
    """A code string's first value, if it is one (PS3.5 6.2): where lengths lie, a name may have run into it."""
    value = ds.get(keyword, "")
    value = str(value[0] if isinstance(value, MultiValue) else value).strip().upper()[:16]
    return value if re.fullmatch("[A-Z0-9_ ]*", value) else "something else"


def _meanings(ds: Dataset, keyword: str, group: str) -> tuple[list[str], list[str]]:
    """What coded items mean: in the words of a context group of PS3.16, as far as it has them, and in the file's own.

    The latter are free text in any language, so they are compared, never repeated.
    """
    if not ds.get(keyword):
        return [], []
    from pydicom.sr.codedict import Collection  # here, because loading its tables takes a tenth of a second
    from pydicom.sr.coding import Code

    known, own = [], []
    for item in ds[keyword]:
        value, meaning = (str(item.get(name) or "").strip().upper() for name in ("CodeValue", "CodeMeaning"))
        if not (value or meaning):
            continue
        value = _TODAY.get(value, value)
        codes = Code(value, "SCT", ""), Code(value, "SRT", "")  # which is also called SNM3 or 99SDM
        concepts = Collection(group).concepts.values()
        known += [each.meaning.upper() for each in concepts if each in codes or each.meaning.upper() == meaning]
        own.append(meaning)
    return known, own


def _name_of(identifier: uid.UID | None) -> str:
    """The Standard's name of a UID; others are not repeated: they may tell who made them."""
    return identifier.name if isinstance(identifier, uid.UID) and identifier.type else "an unknown kind"
