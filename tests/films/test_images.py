"""Pixels: every format that is read gives the same grey, and what is not a single picture is refused by name."""

import contextlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pneumo.errors import FormatError, TooLargeError, UnreadableError
from pneumo.films import tone
from pneumo.films.film import MAX_PIXELS, squash, to_input
from pneumo.films.images import DECODE_AT_LEAST, decode
from tests.reliability.hostile import png_of
from tests.support.dicom import RAMP
from tests.support.films import SAMPLES, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of every odd TIFF tag

GREY = Image.fromarray(RAMP)
TURNED = [GREY.rotate(40 * k) for k in range(3)]
EIGHT = (Image.new("L", (64, 64), 7), Image.new("L", (64, 64), 200))


def tiff(samples, photometric):
    """A little-endian, uncompressed grey TIFF by the letter (TIFF 6.0, section 2): no library that may be clever."""
    height, width = samples.shape
    bits = 8 * samples.itemsize
    body = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(body)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + directory


def png_rows(samples):
    """(H, W) or (H, W, channels) uint16 as unfiltered PNG rows, compressed."""
    return zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples))


WORDS = RAMP.astype(np.uint16)
OPAQUE = np.stack([WORDS * 257, np.full_like(WORDS, 0xFFFF)], axis=-1)
READ = {
    "PNG 8 bit": saved(GREY, "PNG"),
    "PNG 16 bit": saved(Image.fromarray(WORDS * 257), "PNG"),
    "PNG 12 bit in 16": saved(Image.fromarray(WORDS * 16), "PNG"),
    "PNG RGB 16 bit": png_of(256, 64, png_rows(np.repeat(WORDS[..., None] * 257, 3, axis=-1)), 16, 2),
    "PNG grey and alpha 16 bit": png_of(256, 64, png_rows(OPAQUE), 16, 4),
    "PNG palette": saved(GREY.convert("P"), "PNG"),
    "PNG RGBA": saved(GREY.convert("RGBA"), "PNG"),
    "PNG grey and alpha": saved(Image.merge("LA", [GREY, Image.new("L", GREY.size, 255)]), "PNG"),
    "TIFF 8 bit": tiff(RAMP, photometric=1),
    "TIFF 8 bit, white is zero": tiff(255 - RAMP, photometric=0),
    "TIFF 16 bit": tiff(WORDS * 257, photometric=1),
    "TIFF 16 bit, white is zero": tiff(0xFFFF - WORDS * 257, photometric=0),
    "TIFF 12 bit in 16, white is zero": tiff(0x0FFF - WORDS * 16, photometric=0),
    "TIFF CMYK": saved(GREY.convert("RGB").convert("CMYK"), "TIFF"),
    "TIFF LZW": saved(GREY, "TIFF", compression="tiff_lzw"),
    "WebP": saved(GREY, "WEBP", lossless=True),
    "BMP": saved(GREY, "BMP"),
}


@pytest.mark.parametrize("data", READ.values(), ids=READ)
def test_every_kind_of_file_gives_the_same_ramp(data):
    film = decode(data)
    assert film.pixels.dtype == np.uint8
    np.testing.assert_array_equal(film.pixels, RAMP)
    assert (film.width, film.height) == (256, 64)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_gives_the_ramp_within_what_jpeg_loses(mode):
    image = GREY.convert("RGB").convert(mode) if mode == "CMYK" else GREY.convert(mode)
    film = decode(saved(image, "JPEG", quality=95))
    assert film.format == "JPEG"
    assert np.abs(film.pixels.astype(int) - RAMP).max() <= 2


@pytest.mark.parametrize("shift", range(9))
def test_sixteen_bits_are_read_by_the_range_that_the_film_fills_and_that_is_said(shift):
    for read in (decode(saved(Image.fromarray(WORDS << shift), "PNG")), decode(tiff(WORDS << shift, photometric=1))):
        np.testing.assert_array_equal(read.pixels, RAMP)
        assert read.warnings == (tone.NO_SCALE,) * (shift < 8)
        assert not read.doubtful


def test_a_hot_pixel_and_a_burned_in_letter_are_no_part_of_the_range():
    values = WORDS * 60 + 1000  # 1,000 to 16,300
    values[5, 7] = 65_535
    values[40:44, 10:60] = 60_000  # 1.2 % of the film
    for film in (decode(saved(Image.fromarray(values), "PNG")), decode(tiff(values, photometric=1))):
        expected = RAMP.copy()
        expected[5, 7] = expected[40:44, 10:60] = 255
        np.testing.assert_array_equal(film.pixels, expected)


def test_a_film_that_fills_a_third_of_eight_bits_is_spread_and_in_doubt():
    film = decode(saved(Image.fromarray(RAMP // 3), "PNG"))
    np.testing.assert_array_equal(film.pixels, RAMP // 3 * 3)
    assert (film.warnings, film.doubtful) == ((tone.UNFILLED.format(1 / 3),), True)
    film = decode(saved(Image.fromarray(RAMP // 5 * 3 + 64), "PNG"))  # 0.6 is enough
    np.testing.assert_array_equal(film.pixels, RAMP // 5 * 3 + 64)


def test_one_bit_is_black_and_white():
    checks = np.indices((64, 64)).sum(axis=0) % 2 == 0
    for file_format in ("PNG", "TIFF", "BMP"):
        pixels = decode(saved(Image.fromarray(checks), file_format)).pixels
        np.testing.assert_array_equal(pixels, checks * np.uint8(255))


def test_what_is_transparent_is_black():
    half = Image.new("L", GREY.size, 255)
    half.paste(0, (0, 0, 256, 32))
    pixels = decode(saved(Image.merge("LA", [Image.new("L", GREY.size, 200), half]), "PNG")).pixels
    assert (pixels[:32] == 0).all()
    assert (pixels[32:] == 200).all()
    keyed = Image.fromarray(np.where(RAMP < 128, 0, 1).astype(np.uint8), "P")
    keyed.putpalette([255, 255, 255, 190, 190, 190])
    pixels = decode(saved(keyed, "PNG", transparency=0)).pixels  # its colour 0 is white, but not there
    assert set(np.unique(pixels)) == {0, 190}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = np.zeros((64, 128), np.uint8)
    upright[:32, :64] = 240  # bright at the top left
    # how a camera stores it: the inverse of what CIPA DC-008 (Exif 2.32), table 6, tells the reader to do
    stored = {
        1: upright,
        2: np.fliplr(upright),
        3: np.rot90(upright, 2),
        4: np.flipud(upright),
        5: upright.T,
        6: np.rot90(upright),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for file_format, options in (("PNG", {}), ("JPEG", {"quality": 95}), ("TIFF", {})):
        film = decode(saved(Image.fromarray(np.ascontiguousarray(stored)), file_format, exif=exif, **options))
        assert (film.width, film.height) == (128, 64), file_format
        assert np.abs(film.pixels.astype(int) - upright).max() < 12, file_format


@pytest.mark.parametrize(("tag", "kind", "value"), [(0x131, 11, b"\0\0\x80?"), (0x100, 2, b"1\0\0\0")])
def test_a_tag_of_an_unusual_type_beside_the_orientation_is_no_matter(tag, kind, value):
    # little-endian TIFF of two entries: tag, type, count 1, value (TIFF 6.0, section 2)
    entries = sorted([(0x0112, 3, b"\3\0\0\0"), (tag, kind, value)])
    packed = b"".join(struct.pack("<HHI", *one[:2], 1) + one[2] for one in entries)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)
    for file_format, options in (("PNG", {}), ("JPEG", {"quality": 95})):
        film = decode(saved(GREY, file_format, exif=exif, **options))
        assert np.abs(film.pixels.astype(int) - np.rot90(np.asarray(GREY), 2)).max() < 12, file_format


def test_orientation_and_white_is_zero_together():
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(0xFFFF - WORDS * 257, 2)))
    data = saved(turned, "TIFF", exif=exif, tiffinfo={262: 0, 0x0112: 3})
    np.testing.assert_array_equal(decode(data).pixels, RAMP)


def test_second_view_of_a_phones_jpeg_is_ignored():
    film = decode(saved(GREY, "MPO", save_all=True, append_images=TURNED[1:]))
    assert film.format == "JPEG"
    assert np.abs(film.pixels.astype(int) - RAMP).max() <= 4


MOVING = {name: saved(EIGHT[0], name, save_all=True, append_images=EIGHT[1:]) for name in ("WEBP", "PNG", "TIFF")}


@pytest.mark.parametrize("data", MOVING.values(), ids=MOVING)
def test_several_pictures_in_a_file_are_refused(data):
    with pytest.raises(UnreadableError, match="one picture in the file, received several"):
        decode(data)


FOREIGN = {
    "an empty file": b"",
    "11 bytes of something else": b"hello world",
    "a GIF": saved(EIGHT[0], "GIF", save_all=True, append_images=EIGHT[1:]),
    "a PDF": b"%PDF-1.7\n",
    "HTML": b"\n <svg></svg>",
    "a ZIP archive": b"PK\x03\x04",
    "a HEIC": b"\0\0\0\x18ftypheic" + bytes(16),
}


@pytest.mark.parametrize("words", FOREIGN)
def test_other_kinds_of_files_are_refused_by_name(words):
    with pytest.raises(FormatError, match=f"received {words}"):
        decode(FOREIGN[words])


@pytest.mark.parametrize("name", READ)
def test_a_file_cut_short_is_refused(name):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 256), dtype=np.uint8))
    data = {"WebP": saved(noise, "WEBP"), "PNG 8 bit": saved(noise, "PNG")}.get(name, READ[name])
    with pytest.raises((UnreadableError, FormatError)):
        decode(data[: len(data) // 2])
    with pytest.raises((UnreadableError, FormatError)):
        decode(data[:20])


def test_a_film_cut_short_is_unreadable_not_foreign():
    data = SAMPLES[0].read_bytes()
    for kept in (len(data) // 2, len(data) - 2000, 300, 4):
        with pytest.raises(UnreadableError):
            decode(data[:kept])


def test_a_damaged_second_directory_is_unreadable():
    data = bytearray(tiff(RAMP, photometric=1))
    data[-4:] = struct.pack("<I", 8)  # the next directory is said to be where the pixels are
    with pytest.raises(UnreadableError):
        decode(bytes(data))


def test_flipped_bytes_never_cause_another_kind_of_error():
    rng = np.random.default_rng(0)
    for data in READ.values():
        for _ in range(20):
            damaged = bytearray(data)
            for place in rng.integers(0, min(len(data), 400), 4):
                damaged[place] = rng.integers(256)
            with contextlib.suppress(FormatError, UnreadableError, TooLargeError):
                assert decode(bytes(damaged)).pixels.dtype == np.uint8


@pytest.mark.parametrize(("width", "height"), [(8000, 4001), (20_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_from_the_header_alone(width, height):
    assert width * height > MAX_PIXELS
    with pytest.raises(TooLargeError, match="at most 32 megapixels"):
        decode(png_of(width, height, b""))  # there is not one pixel in it


def test_too_small_is_refused():
    with pytest.raises(UnreadableError, match=r"at least 32 × 32 pixels, received 31 × 200"):
        decode(saved(Image.new("L", (31, 200)), "PNG"))
    assert decode(saved(Image.new("L", (32, 32)), "PNG")).pixels.shape == (32, 32)


def test_numbers_without_a_white_are_refused():
    with pytest.raises(UnreadableError, match="floating point"):
        decode(saved(Image.fromarray(np.ones((64, 64), np.float32)), "TIFF"))
    with pytest.raises(UnreadableError, match="32 bits"):
        decode(saved(Image.fromarray(np.full((64, 64), 70_000, np.int32)), "TIFF"))


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded():
    data = saved(GREY, "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    assert decode(data[:-2] + data[scan:-2] * 40 + data[-2:]).pixels.shape == (GREY.height, GREY.width)
    with pytest.raises(UnreadableError, match="at most 64 scans"):
        decode(data[:-2] + data[scan:-2] * 64 + data[-2:])


def test_squash_of_the_right_size_is_the_identity_and_keeps_a_flat_grey(small_films):
    for film in small_films.values():
        assert squash(film, 224) is film
    assert (squash(np.full((300, 500), 90, np.uint8), 224) == 90).all()


def test_input_of_the_network():
    batch = to_input(np.full((448, 300), 90, np.uint8), 224)
    assert (batch.shape, batch.dtype) == ((1, 224, 224, 3), np.float32)
    assert (batch == 90).all()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_reduced_decoding_of_a_large_jpeg_is_the_same_film(path):
    with Image.open(path) as image:
        full = np.asarray(image.convert("L"))
        large = image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC)
    film = decode(path.read_bytes())
    assert (film.height, film.width) == full.shape
    assert np.abs(squash(film.pixels, 224).astype(int) - squash(full, 224)).mean() < 2
    reduced = decode(saved(large, "JPEG", quality=90))
    assert (reduced.width, reduced.height) == large.size
    assert min(reduced.pixels.shape) < large.height, "it was decoded in full"
    assert min(reduced.pixels.shape) >= DECODE_AT_LEAST
    assert np.abs(squash(reduced.pixels, 224).astype(int) - squash(full, 224)).mean() < 2
