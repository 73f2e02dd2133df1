"""Every way to write the same DICOM film gives the same values; what is damaged, cut or missing is said."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid

from pneumo.errors import FormatError, PneumoError, UnreadableError
from pneumo.films.images import decode
from tests.support.dicom import HTJ2K, RAMP, SHIPPED, SLOPE, WRITERS, dcmtk, dicom, look, quiet, write_as
from tests.support.films import SAMPLES


def written_again(ds):
    """The file of a data set."""
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


def as_film(path):
    """A file of another modality, which then says that it is a chest film."""
    ds = pydicom.dcmread(path)
    ds.Modality, ds.BodyPartExamined = "CR", "CHEST"
    return written_again(ds)


@pytest.mark.parametrize("name", WRITERS)
def test_a_film_in_every_syntax(name, written, tmp_path):
    path, _, plain = written[-1]
    film = decode(write_as(name, plain, tmp_path))
    with Image.open(path) as image:
        difference = film.pixels.astype(int) - np.asarray(image.convert("L"))
    assert np.abs(difference).max() <= WRITERS[name][2]
    assert (film.format, film.warnings) == ("DICOM", ())


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.RLELossless])
def test_a_film_in_what_dcmtk_does_not_write(syntax, written):
    ds = pydicom.dcmread(written[-1][2])
    ds.compress(syntax, encoding_plugin="pylibjpeg" if syntax == uid.JPEG2000Lossless else "pydicom")
    np.testing.assert_array_equal(decode(written_again(ds)).pixels, decode(written[-1][2].read_bytes()).pixels)


@pytest.mark.parametrize("syntax", [uid.HTJ2KLossless, uid.HTJ2K])
def test_htj2k(syntax):
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    expected = decode(dicom(SLOPE, **window)).pixels
    np.testing.assert_array_equal(decode(dicom(HTJ2K, syntax, stored=16, **window)).pixels, expected)


@pytest.mark.parametrize("name", ["RLE", "implicit", "bigendian", "jp2klossless", "jpeg_ls_lossless"])
def test_sixteen_signed_bits_of_other_writers(name):
    film, plain = (decode(as_film(SHIPPED / f"{file}.dcm")).pixels for file in (f"MR_small_{name}", "MR_small"))
    np.testing.assert_array_equal(film, plain)


def test_deflated_data_sets_are_refused_before_they_inflate(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("it was inflated")

    plain = dicom(RAMP)
    meta = 132 + 12 + struct.unpack_from("<I", plain, 140)[0]
    packed = zlib.compressobj(wbits=-15)
    bomb = plain[:meta].replace(b"\x14\x001.2.840.10008.1.2.1\0", b"\x16\x001.2.840.10008.1.2.1.99")
    bomb += packed.compress(plain[meta:] + bytes(2**24)) + packed.flush()
    for name in ("decompress", "decompressobj"):
        monkeypatch.setattr(zlib, name, refuse)
    for data in (bomb, (SHIPPED / "image_dfl.dcm").read_bytes()):
        with pytest.raises(FormatError, match="received Deflated"):
            look(data)


def test_other_transfer_syntaxes_are_refused_by_name():
    for syntax, name in ((uid.MPEG2MPML, "MPEG2 Main Profile"), ("1.2.3.4", "an unknown kind")):
        data = bytearray(dicom(RAMP))
        padded = syntax + "\0" * (len(syntax) % 2)
        at = data.index(b"\x02\0\x10\0UI")
        data[at : at + 28] = b"\x02\0\x10\0UI" + struct.pack("<H", len(padded)) + padded.encode()
        with pytest.raises(FormatError, match=f"received {name}"):
            look(bytes(data))


def test_twelve_bit_lossy_jpeg_is_refused_by_name():
    with pytest.raises(FormatError, match="8 bits, received 12"):
        look(as_film(SHIPPED / "JPGExtended.dcm"))


@pytest.mark.parametrize("name", ["explicit VR", "RLE", "JPEG Lossless", "JPEG baseline", "JPEG-LS"])
def test_a_file_cut_short_is_unreadable(name, written, tmp_path):
    data = write_as(name, written[-1][2], tmp_path)
    for kept in (len(data) // 2, len(data) - 1000):
        with pytest.raises(UnreadableError):
            decode(data[:kept])
    for kept in (132, 300):
        with pytest.raises((UnreadableError, FormatError)):
            decode(data[:kept])


@quiet
def test_flipped_bytes_never_cause_another_kind_of_error():
    small = np.asarray(Image.fromarray(RAMP))[:, ::4].copy()
    rng = np.random.default_rng(0)
    for data in (dicom(small), dicom(small, uid.ImplicitVRLittleEndian)):
        for _ in range(60):
            damaged = bytearray(data)
            for place in rng.integers(128, 800, 4):
                damaged[place] = rng.integers(256)
            with contextlib.suppress(PneumoError):
                assert look(bytes(damaged)).pixels.dtype == np.uint8


@quiet
def test_whatever_pydicom_raises_is_a_refusal():
    for path in sorted(SHIPPED.glob("*.dcm")):
        with contextlib.suppress(PneumoError):
            look(path.read_bytes())


@pytest.mark.parametrize(
    "keyword", ["SamplesPerPixel", "PhotometricInterpretation", "Rows", "BitsAllocated", "BitsStored", "PixelData"]
)
def test_what_is_missing_is_named(keyword):
    with pytest.raises(UnreadableError, match=f"without {keyword}"):
        look(dicom(RAMP, **{keyword: None}))


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"PixelRepresentation": None}, "PixelRepresentation"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "BitsAllocated.*received 32"),
        ({"BitsStored": 17}, "BitsStored.*received 17"),
        ({"Rows": 33}, "damaged or cut short"),
    ],
)
def test_numbers_that_cannot_be_are_named(elements, words):
    with pytest.raises(UnreadableError, match=words):
        look(dicom(np.ones((32, 32), np.uint16), **elements))


def test_a_list_of_films_is_refused_by_name():
    with pytest.raises(FormatError, match="received a DICOMDIR"):
        look((SHIPPED / "dicomdirtests" / "DICOMDIR").read_bytes())


TWELVE = np.resize(np.array([0, 1024, 4095], np.uint16), (32, 32))
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
ABOVE = "Bits above BitsStored are set"


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless]
)
@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_those_stored_are_masked_and_signs_extended_in_every_syntax(syntax, signed, tmp_path):
    values = TWELVE.astype(np.int32) - 2048 if signed else TWELVE
    dirty = (values & 0xFFF | 0x1000).astype(np.uint16)  # an overlay in bit 12
    elements = {"PixelRepresentation": int(signed)} | (
        WINDOW if not signed else {"WindowCenter": 0, "WindowWidth": 4096}
    )
    for words, warned in ((dirty, True), ((values & 0xFFF).astype(np.uint16), False)):
        data = dicom(words, stored=12, **elements)
        if syntax == uid.JPEGLSLossless:
            if warned:
                continue  # the encoder of dcmtk keeps 12 bits
            (tmp_path / "film.dcm").write_bytes(data)
            dcmtk("dcmcjpls", "+el", tmp_path / "film.dcm", tmp_path / "jls.dcm")
            data = (tmp_path / "jls.dcm").read_bytes()
        elif syntax != uid.ExplicitVRLittleEndian:
            data = recoded(data, syntax)
        film = look(data)
        assert film.pixels[0, :3].tolist() == [0, 64, 255]
        assert [ABOVE in warning for warning in film.warnings] == [True] * warned


def recoded(data, syntax):
    """The same words in another syntax: encoded as 16 bits without sign, which the data set then says as before."""
    ds = pydicom.dcmread(io.BytesIO(data))
    told = ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, 0
    ds.compress(syntax, encoding_plugin="pylibjpeg" if syntax == uid.JPEG2000Lossless else "pydicom")
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = told
    return written_again(ds)


def test_the_highest_bit_is_where_the_file_says():
    shifted = look(dicom(TWELVE << 4, stored=12, HighBit=15, **WINDOW))
    assert (shifted.pixels[0, :3].tolist(), shifted.warnings) == ([0, 64, 255], ())
    for highest in (15, 7, 20):  # and the values are in the lower bits all the same
        film = look(dicom(TWELVE, stored=12, HighBit=highest, **WINDOW))
        assert film.pixels[0, :3].tolist() == [0, 64, 255]
        assert f"said to be {highest} (HighBit)" in film.warnings[0]


def coloured(pixels, interpretation):
    """A DICOM file of (H, W, 3) uint8."""
    extra = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": interpretation}
    return dicom(pixels[..., 0], **extra, PixelData=pixels.tobytes())


def test_a_grey_film_that_is_saved_in_colours_is_read():
    grey = np.repeat(RAMP[..., None], 3, axis=2)
    np.testing.assert_array_equal(look(coloured(grey, "RGB")).pixels, RAMP)
    luminance = np.stack([RAMP, np.full_like(RAMP, 128), np.full_like(RAMP, 128)], axis=2)
    np.testing.assert_array_equal(look(coloured(luminance, "YBR_FULL")).pixels, RAMP)
    marked = grey.copy()
    marked[:1, :100] = (255, 0, 0)  # a red letter on 0.6 % of the film
    assert look(coloured(marked, "RGB")).pixels[1:].tolist() == RAMP[1:].tolist()
    for interpretation in ("RGB", "YBR_FULL"):
        with pytest.raises(UnreadableError, match=f"received one in colours .{interpretation}"):
            look(coloured(np.stack([RAMP, RAMP.T[:64].repeat(4, axis=1)[:, :256], 255 - RAMP], axis=2), interpretation))


def test_a_film_in_a_colour_jpeg_is_read_as_that_jpeg_is(tmp_path):
    with Image.open(SAMPLES[0]) as image:
        image.convert("RGB").save(tmp_path / "colour.jpeg", quality=90)  # YCbCr, as every JPEG in colours
    dcmtk("img2dcm", tmp_path / "colour.jpeg", tmp_path / "film.dcm", "-k", "Modality=CR")
    with Image.open(tmp_path / "colour.jpeg") as image:
        expected = np.asarray(image.convert("L"))
    pixels = look((tmp_path / "film.dcm").read_bytes()).pixels
    assert np.abs(pixels.astype(int) - expected).max() <= 2
