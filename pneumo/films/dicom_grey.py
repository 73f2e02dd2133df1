"""Stored values of a DICOM film -> grey: modality LUT -> VOI LUT or window -> inversion, if any -> 8 bit.

The order is that of PS3.4 N.2; each step is a function of values, without any picture. Knows nothing of files.
"""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

from pneumo.errors import UnreadableError


def to_grey(raw: np.ndarray, ds: Dataset) -> tuple[np.ndarray, list[str]]:
    """Stored values (H, W) -> (H, W) uint8, bones bright, and what a reader should know of how.

    The steps are taken once for every value that there may be, at most 65,536, not for every pixel.

    Raises:
        UnreadableError: nothing but padding.
    """
    padded = padding(raw, ds)
    if padded.all():
        raise UnreadableError("Expected a film, received nothing but padding.")
    if ds.BitsStored <= 8:  # all that can be stored: an 8-bit picture that was put into a DICOM file stays as it was
        low = -(1 << ds.BitsStored - 1) if ds.PixelRepresentation else 0
        high = low + (1 << ds.BitsStored) - 1
    else:
        exposed = raw[~padded]
        low, high = int(exposed.min()), int(exposed.max())
    values = np.arange(low, high + 1, dtype=np.int32)
    with np.errstate(over="ignore"):  # far below a sigmoid window
        shares = invert(voi(modality(values, ds), ds), ds)
    if not np.isfinite(shares).all():
        raise UnreadableError("Expected numbers as window or slope, received others.")
    table = np.rint(255 * shares).astype(np.uint8)
    pixels = table[np.clip(raw, low, high).astype(np.int32) - low]
    pixels[padded] = 0
    windowed = ds.BitsStored <= 8 or "VOILUTSequence" in ds or "WindowCenter" in ds
    return pixels, [] if windowed else ["The file has no window: its darkest value is black here, its brightest white."]


def padding(raw: np.ndarray, ds: Dataset) -> np.ndarray:
    """Where nothing was exposed: (H, W) bool. PS3.3 C.7.5.1.1.2: PixelPaddingValue, up to PixelPaddingRangeLimit."""
    if "PixelPaddingValue" not in ds:
        return np.zeros(raw.shape, bool)
    ends = [ds.PixelPaddingValue, ds.get("PixelPaddingRangeLimit", ds.PixelPaddingValue)]
    low, high = np.sort(np.array(ends, np.int64).astype(raw.dtype))  # some files give -2000 as 63536
    return (raw >= low) & (raw <= high)


def modality(values: np.ndarray, ds: Dataset) -> np.ndarray:
    """Stored values (n,) int32 -> what the detector meant, (n,). PS3.3 C.11.1: a table, or slope and intercept."""
    if "ModalityLUTSequence" in ds:
        unpack(ds.ModalityLUTSequence[0], ds)
    return apply_modality_lut(values, ds)


def voi(values: np.ndarray, ds: Dataset) -> np.ndarray:
    """Those (n,) -> (n,) float64 in 0..1. PS3.3 C.11.2: the first table, else the first window, else all there is."""
    if "VOILUTSequence" in ds:
        entries, first, bits = ds.VOILUTSequence[0].LUTDescriptor
        if not 8 <= bits <= 16:
            raise ValueError("no table of 8 to 16 bits")
        if first > max(int(values.max()), 2**15 - 1):  # out of reach, so it is signed: rescaled values may be negative
            first -= 2**16  # C.11.2.1.1; pydicom goes by the stored values, which may not
        unpack(ds.VOILUTSequence[0], ds)
        wide = Dataset()  # for tables of 8 bits pydicom 3.0 counts the places in 8 bits, too
        wide.VOILUTSequence = [Dataset()]
        wide.VOILUTSequence[0].LUTDescriptor = [entries, first, 16]
        wide.VOILUTSequence[0].add(ds.VOILUTSequence[0]["LUTData"])
        wide.file_meta = ds.file_meta
        places = np.clip(np.rint(values), first, first + (entries or 2**16) - 1).astype(np.int32)  # C.11.2.1.1
        return np.clip(apply_voi(places, wide) / (2**bits - 1), 0, 1)
    if "WindowCenter" in ds:
        window = Dataset()  # pydicom's windows give the range of the stored bits: here 0 to 255
        window.BitsStored, window.PixelRepresentation = 8, 0
        window.PhotometricInterpretation = ds.PhotometricInterpretation
        window.VOILUTFunction = ds.get("VOILUTFunction", "LINEAR")  # C.11.2.1.2 and C.11.2.1.3
        window.WindowCenter, window.WindowWidth = ds.WindowCenter, ds.WindowWidth
        return apply_windowing(values, window) / 255
    span = float(values.max()) - float(values.min())
    return (values - values.min()) / (span or 1.0)


def unpack(item: Dataset, ds: Dataset) -> None:
    """Give each entry of a table of 8 bits the word that pydicom expects: PS3.3 C.11.1.1.1 puts two into one."""
    entries, data = item.LUTDescriptor[0] or 2**16, item.LUTData
    if item.LUTDescriptor[2] != 8:
        return
    if isinstance(data, bytes):  # OW, else US
        data = np.frombuffer(data, "<u2" if ds.file_meta.TransferSyntaxUID.is_little_endian else ">u2")
    pairs = np.atleast_1d(data).astype("<u2")  # the first of two is the low byte, as of pixels (PS3.5 8.1.1)
    if pairs.size == (entries + 1) // 2:  # some files do have a word for each, which the Standard warns of
        item.add_new("LUTData", "US", pairs.view(np.uint8)[:entries].tolist())


def invert(shares: np.ndarray, ds: Dataset) -> np.ndarray:
    """Those (n,) with bones bright, inverted once at most: PS3.3 C.11.6.1.2 decides if present, else C.7.6.3.1.2."""
    inverse = ds.get("PresentationLUTShape", "").upper() == "INVERSE"
    if "PresentationLUTShape" not in ds:
        inverse = ds.PhotometricInterpretation == "MONOCHROME1"
    return 1 - shares if inverse else shares
