"""Stored values of a DICOM film -> grey: modality LUT -> VOI LUT or window -> inversion, if any -> 8 bit.

The order is that of PS3.4 N.2; each step is a function of values, without any picture. A step that the file gives and
that means nothing is left out, with a warning. Knows nothing of files.
"""

import struct
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

from pneumo.errors import UnreadableError
from pneumo.films import tone

Curve = Callable[[np.ndarray], tuple[np.ndarray, list[str]]]

SEEN = 2**20  # pixels that are counted of a larger film
LINES = 32  # that become grey at a time: new memory costs a forked process more than the work in it
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")  # PS3.3 C.11.2.1.2 and C.11.2.1.3
# What pydicom raises on a table or a window that contradicts itself
_UNUSABLE = (
    *(AttributeError, IndexError, KeyError, NotImplementedError, OverflowError, TypeError, ValueError),
    *(ZeroDivisionError, struct.error),
)


def to_grey(raw: np.ndarray, ds: Dataset) -> tuple[np.ndarray, list[str], bool]:
    """Make grey of stored values (H, W) (u)int16.

    The steps are taken once for every value that there may be, at most 65,536, not for every pixel.

    Returns:
        (H, W) uint8, bones bright; warnings; whether the film fills so little of a scale of 8 bits that greys are lost.

    Raises:
        UnreadableError: nothing but padding.
    """
    padded = find_padding(raw, ds)
    exposed = raw.ravel() if padded is None else raw[~padded]
    if not exposed.size:
        raise UnreadableError("Expected a film, received nothing but padding.")
    eight = ds.BitsStored <= 8  # an 8-bit picture that was put into a DICOM file keeps its scale
    if eight:
        low = -(1 << ds.BitsStored - 1) if ds.PixelRepresentation else 0
        high = low + (1 << ds.BitsStored) - 1
    else:
        low, high = int(exposed.min()), int(exposed.max())
    values = np.arange(low, high + 1, dtype=np.int32)
    seen = exposed[:: 1 + exposed.size // SEEN].astype(np.int32) - low
    counts = np.bincount(seen, minlength=len(values))
    meant, notes = rescale(values, ds)
    shares, more = show(meant, counts, ds)
    windowed = shares is not None
    if not windowed:
        stored = (high - low) / ((1 << ds.BitsStored) - 1)  # share of what can be stored
        shares = stored * (meant - meant.min()) / (float(meant.max()) - float(meant.min()) or 1.0)
    shares, note = tone.spread(shares, counts, windowed or eight)
    inverse, odd = is_inverse(ds)
    table = np.rint(255 * (1 - shares if inverse else shares)).astype(np.uint8)
    pixels = np.empty(raw.shape, np.uint8)
    for top in range(0, len(raw), LINES):
        lines = slice(top, top + LINES)
        pixels[lines] = table[np.clip(raw[lines], low, high).astype(np.int32) - low]
    if padded is not None:
        pixels[padded] = 0
    return pixels, notes + more + odd + ([note] if note else []), bool(note) and eight and not windowed


def find_padding(raw: np.ndarray, ds: Dataset) -> np.ndarray | None:
    """Find where nothing was exposed: (H, W) bool. PS3.3 C.7.5.1.1.2, PixelPaddingValue to PixelPaddingRangeLimit.

    None where the file names no such value.
    """
    if "PixelPaddingValue" not in ds:
        return None
    ends = [ds.PixelPaddingValue, ds.get("PixelPaddingRangeLimit", ds.PixelPaddingValue)]
    low, high = np.sort(np.array(ends, np.int64).astype(raw.dtype))  # some files give -2000 as 63536
    return (raw >= low) & (raw <= high)


def rescale(values: np.ndarray, ds: Dataset) -> tuple[np.ndarray, list[str]]:
    """Turn stored values (n,) int32 into what was measured, (n,): PS3.3 C.11.1, a table, or slope and intercept."""
    if "RescaleSlope" in ds or "RescaleIntercept" in ds:
        ds.RescaleSlope, ds.RescaleIntercept = ds.get("RescaleSlope", 1), ds.get("RescaleIntercept", 0)
    elif "ModalityLUTSequence" not in ds:
        return values, []
    try:
        if "ModalityLUTSequence" in ds:
            unpack(ds.ModalityLUTSequence[0], ds)
        meant = apply_modality_lut(values, ds)
    except _UNUSABLE:
        meant = np.zeros(1)
    if np.isfinite(meant).all() and (meant.min() < meant.max() or len(values) == 1):
        return meant, []
    return values, ["What the file says of its values means nothing (Modality LUT, RescaleSlope) and was not used."]


def show(values: np.ndarray, counts: np.ndarray, ds: Dataset) -> tuple[np.ndarray | None, list[str]]:
    """Show (n,) values, of (n,) pixels each, through the first table or else window that shows the film: PS3.3 C.11.2.

    Returns:
        (n,) float64 in 0..1, None without a table or window; warnings.
    """
    refused = []
    for name, curve in find_curves(ds):
        try:
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # far below a sigmoid window; one value
                shares, notes = curve(values)
        except _UNUSABLE:
            shares, notes = np.full(1, np.nan), []
        if np.isfinite(shares).all():
            low, high = tone.find_span(shares, counts)
            if high - low >= tone.BLANK or np.count_nonzero(counts) == 1:
                return shares, refused + notes
        refused = [f"{name} would show nothing of the film, so it was not used."]
    return None, refused


def find_curves(ds: Dataset) -> Iterator[tuple[str, Curve]]:
    """Find every table, then every window of a film, with the name of its element: PS3.3 C.11.2."""
    for item in ds.get("VOILUTSequence", []):
        yield "VOILUTSequence", partial(apply_table, item=item, ds=ds)
    centres, widths = (_read_texts(ds, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    for number in range(max(len(centres), len(widths))):
        yield "WindowCenter, WindowWidth", partial(apply_window, centres=centres, widths=widths, number=number, ds=ds)


def apply_table(values: np.ndarray, item: Dataset, ds: Dataset) -> tuple[np.ndarray, list[str]]:
    """Look (n,) up in a table: (n,) float64, of which 1 is its largest entry and 0 its least. PS3.3 C.11.2.1.1.

    The Standard has white at the largest number of the bits that the descriptor says. Files of Agfa's say 16 bits and
    use 14, so a table's own range counts, as in other viewers (Horos, Cornerstone), with a warning where bits are left.

    Raises:
        ValueError, and whatever else is in `_UNUSABLE`: a table that contradicts itself.
    """
    entries, first, bits = item.LUTDescriptor
    if not 8 <= bits <= 16:
        raise ValueError("no table of 8 to 16 bits")
    if first > max(int(values.max()), 2**15 - 1):  # out of reach, so it is signed: rescaled values may be negative
        first -= 2**16  # C.11.2.1.1; pydicom goes by the stored values, which may not
    unpack(item, ds)
    wide = Dataset()  # for tables of 8 bits pydicom 3.0 counts the places in 8 bits, too
    wide.VOILUTSequence = [Dataset()]
    wide.VOILUTSequence[0].LUTDescriptor = [entries, first, 16]
    wide.VOILUTSequence[0].add(item["LUTData"])
    wide.file_meta = ds.file_meta
    table = apply_voi(first + np.arange(entries or 2**16, dtype=np.int32), wide).astype(float)
    places = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int32)  # C.11.2.1.1
    least, largest = table.min(), table.max()
    used = int(largest).bit_length()
    notes = [f"The table of greys says {bits} bits and uses {used}: its own range was taken."] if used < bits else []
    return (table[places] - least) / (largest - least), notes


def apply_window(
    values: np.ndarray, centres: list[str], widths: list[str], number: int, ds: Dataset
) -> tuple[np.ndarray, list[str]]:
    """Show (n,) through one of a film's windows: (n,) float64 in 0..1. PS3.3 C.11.2.1.2 and C.11.2.1.3.

    Raises:
        ValueError, IndexError: no number, or a width that is not above 0.
    """
    window = Dataset()  # pydicom's windows give the range of the stored bits: here 0 to 255
    window.BitsStored, window.PixelRepresentation = 8, 0
    window.PhotometricInterpretation = ds.PhotometricInterpretation
    function = str(ds.get("VOILUTFunction", "LINEAR")).strip().upper()
    window.VOILUTFunction = function if function in _FUNCTIONS else "LINEAR"
    window.WindowCenter, window.WindowWidth = float(centres[number]), float(widths[number])
    odd = function not in _FUNCTIONS
    notes = ["VOILUTFunction is not understood: the window was taken for linear."] if odd else []
    return apply_windowing(values, window) / 255, notes


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


def is_inverse(ds: Dataset) -> tuple[bool, list[str]]:
    """Tell whether low values are bright, so that a film is inverted once: PS3.3 C.11.6.1.2, else C.7.6.3.1.2."""
    shape = str(ds.get("PresentationLUTShape", "")).strip().upper()
    if shape in ("INVERSE", "IDENTITY"):
        return shape == "INVERSE", []
    notes = ["PresentationLUTShape is not understood: PhotometricInterpretation was taken."] if shape else []
    return ds.PhotometricInterpretation == "MONOCHROME1", notes


def _read_texts(ds: Dataset, keyword: str) -> list[str]:
    """Read every value of an element as a text, none if it is absent."""
    value = ds.get(keyword)
    values = value if isinstance(value, MultiValue | list) else [] if value is None else [value]
    return [str(one) for one in values]
