"""Bytes -> a grey film: JPEG, PNG, TIFF, WebP and BMP are decoded here, DICOM files by `pneumo.films.dicom`."""

import io
import re
import warnings
from dataclasses import replace

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pneumo.errors import FormatError, TooLargeError, UnreadableError
from pneumo.films import dicom, tone
from pneumo.films.film import MAX_PIXELS, MIN_SIDE, Film

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
# A JPEG is decoded at 1/2, 1/4 or 1/8 of its size (by its own transform, so cheaply) as long as both sides keep
# this many pixels: twice what the network reads. Training takes the same path.
DECODE_AT_LEAST = 224
# Preamble and prefix (PS3.10 7.1); or, where they are missing, file meta or data set from their first element on: a
# group's length, character set, image type or SOP class, with or without a value representation (PS3.5 7.1)
_DICOM = re.compile(
    rb".{128}DICM|\x02\0[\0\x01]\0(UL|OB)"
    rb"|\x08\0(\0\0(UL)?\x04\0|[\x05\x08]\0CS|\x16\0UI|\x05\0.\0\0\0ISO|\x16\0.\0\0\x001\.2\.840\.10008\.)",
    re.DOTALL,
)
# Encoders write about ten. Each may be a few bytes long and costs as much as a whole picture.
MAX_SCANS = 64
_SCAN = b"\xff\xda"  # SOS (ITU-T T.81, B.2.3); between scans 0xff is followed by 0x00 or a restart marker
_SWAPS_SIDES = (5, 6, 7, 8)  # EXIF orientations that turn the picture by 90°
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_OTHERS = {b"%PDF": "a PDF", b"PK\x03\x04": "a ZIP archive", b"GIF8": "a GIF", b"<": "HTML, XML or SVG text"}
_DAMAGE = (OSError, SyntaxError, ValueError, OverflowError)  # what Pillow's readers raise on damaged data


def decode(data: bytes, size: int = 0, force: bool = False) -> Film:
    """Decode one picture of an allowed format to grey, for whoever reads it at `size` pixels a side.

    A large JPEG is decoded to fewer pixels than it has, to no fewer than `size` or DECODE_AT_LEAST. With `force` a
    DICOM file that says that it is no frontal film of a chest is decoded all the same.

    Raises:
        FormatError: not JPEG, PNG, TIFF, WebP, BMP or DICOM (told by content, never by name).
        TooLargeError: more than MAX_PIXELS, told from the header before any pixel is decoded.
        OtherFilmError: a DICOM file of another modality, view or part of the body, without `force`.
        UnreadableError: truncated, damaged, animated, smaller than MIN_SIDE, or of a pixel type without meaning here.
    """
    film = dicom.decode(data, force) if _DICOM.match(data) else _decode_picture(data, max(size, DECODE_AT_LEAST))
    doubts = tone.find_doubts(film.pixels)
    return replace(film, warnings=(*film.warnings, *doubts), doubtful=film.doubtful or bool(doubts))


def _decode_picture(data: bytes, side: int) -> Film:
    """Decode what Pillow reads; a large JPEG to `side` pixels a side at least. Raises as `decode`."""
    image = _open(data)
    width, height = image.size
    file_format = "JPEG" if image.format == "MPO" else image.format  # a phone's JPEG with a second view behind it
    try:
        if file_format == "JPEG":
            if (scans := data.count(_SCAN)) > MAX_SCANS:
                raise UnreadableError(f"Expected a JPEG of at most {MAX_SCANS} scans, received {scans}.")
            image.draft("L" if image.mode in ("L", "RGB", "YCbCr") else None, (side, side))
        elif _has_second(image):
            raise UnreadableError("Expected one picture in the file, received several.")
        image.load()
        swapped = image.getexif().get(0x0112) in _SWAPS_SIDES
        white_is_zero = getattr(image, "tag_v2", {}).get(262) == 0  # a turned copy has lost its TIFF tags
        for written_back in ("exif", "Raw profile type exif"):  # by what follows, whether its tags can be or not
            image.info.pop(written_back, None)
        ImageOps.exif_transpose(image, in_place=True)  # else a copy, even of what is upright
        pixels, note, doubtful = _to_grey(image, white_is_zero)
    except (*_DAMAGE, EOFError, IndexError, TypeError, Image.DecompressionBombError) as error:
        raise UnreadableError(f"The picture is damaged or cut short: {error}.") from None
    if swapped:
        width, height = height, width
    return Film(pixels, file_format, width, height, (note,) if note else (), doubtful=doubtful)


def _open(data: bytes) -> Image.Image:
    """Open a picture, of which only the header is read. Raises as `decode`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own, lower limit follows
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        if name := next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None):
            raise UnreadableError(f"The file begins as a {name} picture, but its header is cut or unusual.") from None
        raise FormatError(f"Expected a JPEG, PNG, TIFF, WebP, BMP or DICOM film, received {_describe(data)}.") from None
    except Image.DecompressionBombError:
        raise TooLargeError(f"Expected at most {MAX_PIXELS / 1e6:.0f} megapixels, received far more.") from None
    except _DAMAGE as error:
        raise UnreadableError(f"The picture's header is damaged: {error}.") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise TooLargeError(f"Expected at most {MAX_PIXELS / 1e6:.0f} megapixels, received {width} × {height}.")
    if min(width, height) < MIN_SIDE:
        raise UnreadableError(f"Expected at least {MIN_SIDE} × {MIN_SIDE} pixels, received {width} × {height}.")
    return image


def _has_second(image: Image.Image) -> bool:
    """Tell whether more pictures follow the first. `n_frames` would look at all of them; a file may hold 20,000."""
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _to_grey(image: Image.Image, white_is_zero: bool) -> tuple[np.ndarray, str | None, bool]:
    """Reduce any decoded picture to (H, W) uint8; a warning where its own range was taken; whether greys were lost."""
    if image.mode == "F":
        raise UnreadableError("Expected grey values of 8 or 16 bits, received floating point.")
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own convert() clips it to white
        values, white = np.asarray(image), 0xFFFF
        if values.min() < 0 or values.max() > white:
            raise UnreadableError("Expected grey values of 8 or 16 bits, received 32 bits.")
    else:
        if image.has_transparency_data:
            if image.mode != "RGBA":  # it would be copied
                image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        if image.mode not in ("L", "RGB"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        values, white = np.asarray(image.convert("L")), 0xFF
        white_is_zero = False  # Pillow has inverted it
    counts = np.bincount(tone.sample(values).ravel(), minlength=white + 1)
    shares, note = tone.spread(np.arange(white + 1) / white, counts, scaled=white == 0xFF)
    if white == 0xFF and not note:
        return values, None, False
    table = np.rint(255 * (1 - shares if white_is_zero else shares)).astype(np.uint8)
    return table[values], note, white == 0xFF


def _describe(data: bytes) -> str:
    """Say what kind of file the bytes look like, as far as a few well-known beginnings tell."""
    if not data:
        return "an empty file"
    for magic, name in _OTHERS.items():
        if data.lstrip()[:8].startswith(magic):
            return name
    if data[4:12] in (b"ftypheic", b"ftypmif1", b"ftypavif"):
        return "a HEIC or AVIF picture"
    return f"{len(data)} bytes of something else"
