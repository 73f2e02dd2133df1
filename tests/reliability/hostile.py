"""Requests made to hurt: forms, lengths, headers and files that lie, bombs, films that never end."""

import struct
import zlib
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image

from tests.support.films import SAMPLES, saved

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
RAW, FORM = b"Content-Type: image/jpeg\r\n", b"Content-Type: multipart/form-data; boundary=b\r\n"
FILE_PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n%s\r\n'


def requests() -> Iterator[tuple[str, bytes]]:
    """Each as (name, every byte that is sent); made one at a time, since some are large."""
    for name, body in forms():
        yield f"form: {name}", HEAD + FORM + b"Content-Length: %d\r\n\r\n" % len(body) + body
    yield from connections()
    for name, body in (*bombs(), *liars()):
        yield f"file: {name}", HEAD + RAW + b"Content-Length: %d\r\n\r\n" % len(body) + body


def forms() -> Iterator[tuple[str, bytes]]:
    """Bodies of forms."""
    film = SAMPLES[-1].read_bytes()
    yield "10,000 films", FILE_PART % b"x" * 10_000 + b"--b--\r\n"
    yield "60 films", FILE_PART % film * 60 + b"--b--\r\n"
    yield "1 MB of part header", b"--b\r\nX: " + b"y" * 2**20 + b"\r\n\r\n\r\n--b--\r\n"
    yield "10,000 part headers", b"--b\r\n" + b"X: y\r\n" * 10_000 + b"\r\n\r\n--b--\r\n"
    yield "1 MB of file name", FILE_PART.replace(b'"f"', b'"' + b"f" * 2**20 + b'"') % film + b"--b--\r\n"
    yield "30 MB of almost boundaries", FILE_PART % (b"\r\n--" * 7_500_000) + b"--b--\r\n"
    yield "2 MB field", b'--b\r\nContent-Disposition: form-data; name="force"\r\n\r\n' + b"1" * 2**21 + b"\r\n--b--\r\n"
    yield "never closed", FILE_PART % film


def connections() -> Iterator[tuple[str, bytes]]:
    """Lengths, chunks, headers and first lines."""
    film, chunked = SAMPLES[-1].read_bytes(), HEAD + RAW + b"Transfer-Encoding: chunked\r\n\r\n"
    for length in (b"4", b"999999", b"-1", b"99999999999999999999", b"", b"3\r\nContent-Length: 4"):
        yield f"length {length.decode()!r}", HEAD + RAW + b"Content-Length: " + length + b"\r\n\r\n" + film[:3000]
    both = HEAD + RAW + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield "length and chunks", both + b"0\r\n\r\nGET /health/live HTTP/1.1\r\n\r\n"
    yield "chunks: one byte each", chunked + b"".join(b"1\r\n%c\r\n" % byte for byte in film) + b"0\r\n\r\n"
    yield "chunks: 33 MB", chunked + (b"100000\r\n" + bytes(2**20) + b"\r\n") * 33 + b"0\r\n\r\n"
    yield "chunks: bad size", chunked + b"ZZ\r\nabc\r\n0\r\n\r\n"
    yield "chunks: huge size", chunked + b"F" * 16 + b"\r\nabc"
    yield "chunks: 1 MB extension", chunked + b"3;" + b"x" * 2**20 + b"\r\nabc\r\n0\r\n\r\n"
    gzip = zlib.compress(bytes(2**27), wbits=31)
    yield "128 MB as gzip", HEAD + RAW + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(gzip) + gzip
    end = b"Content-Length: 0\r\n\r\n"
    yield "1 MB header", HEAD + b"X: " + b"y" * 2**20 + b"\r\n" + end
    yield "10,000 headers", HEAD + b"X: y\r\n" * 10_000 + end
    yield "NUL in a header", HEAD + b"X: \0\r\n" + end
    yield "100 kB of path", HEAD.replace(b"/predict", b"/" + b"a" * 100_000) + end
    yield "path upwards", HEAD.replace(b"/predict", b"/static/..%2f..%2fapp.py").replace(b"POST", b"GET") + end
    yield "invalid UTF-8", HEAD.replace(b"/predict", b"/predict?operating_point=%ff%fe") + end
    yield "unknown method", HEAD.replace(b"POST", b"BREW") + end
    yield "HTTP/9.9", HEAD.replace(b"HTTP/1.1", b"HTTP/9.9") + end
    yield "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
    yield "TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(507)
    yield "noise", np.random.default_rng(4).bytes(100_000)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files of many pixels, or of much work."""
    jpeg, png = small("JPEG"), small("PNG")
    yield "PNG of 100,000 x 100,000", png_of(100_000, 100_000, zlib.compress(bytes(10_000_000), 9))
    yield "PNG of 5,600 x 5,600, really", saved(Image.new("RGBA", (5600, 5600), (90, 90, 90, 200)), "PNG")
    yield "PNG with 256 MB of text", png[:33] + chunk(b"zTXt", b"a\0\0" + deflated()) + png[33:]
    yield "PNG with 256 MB of profile", png[:33] + chunk(b"iCCP", b"a\0\0" + deflated()) + png[33:]
    yield "PNG whose data is 256 MB", png_of(64, 64, deflated())
    yield "PNG of 300,000 chunks", png[:33] + chunk(b"prVt", b"") * 300_000 + png[33:]
    yield "JPEG of 65,500 x 65,500", resized_jpeg(jpeg, 65_500, 65_500)
    yield "JPEG of 5,600 x 5,600, cut", resized_jpeg(jpeg, 5_600, 5_600)
    yield "JPEG of 1,000 scans", many_scans(1000, 1000)
    yield "JPEG of 500,000 segments", jpeg[:2] + b"\xff\xfe\0\x02" * 500_000 + jpeg[2:]
    yield "WebP of 16,383 x 16,383", saved(Image.new("L", (16_383, 1)).resize((16_383, 60)), "WEBP", lossless=True)
    yield "TIFF that inflates", saved(Image.new("L", (5600, 5600)), "TIFF", compression="tiff_adobe_deflate")


def liars() -> Iterator[tuple[str, bytes]]:
    """Files that say what is not so, or are of two kinds at once."""
    jpeg, png, tiff = small("JPEG"), small("PNG"), small("TIFF")
    for width, height in ((0, 256), (2_000, 2_000), (31_000, 1_000)):
        yield f"PNG that says {width} x {height}", png_of(width, height, zlib.compress(bytes(256 * 257)))
    yield "PNG chunk of 4 GB", png[:33] + b"\xff\xff\xff\xffIDAT" + png[33:]
    yield "TIFF of 65,535 tags", b"II*\0" + struct.pack("<IH", 8, 65_535) + struct.pack("<HHII", 256, 4, 1, 99) * 65_535
    yield "TIFF whose pages lead in a circle", b"II*\0" + struct.pack("<IHI", 8, 0, 8)
    yield "TIFF that begins behind its end", b"II*\0" + struct.pack("<I", 2**32 - 2) + tiff[8:]
    yield "JPEG of 4 GB EXIF", jpeg[:2] + b"\xff\xe1\xff\xff" + jpeg[2:]
    yield "JPEG without tables", jpeg.replace(b"\xff\xdb", b"\xff\xfe").replace(b"\xff\xc4", b"\xff\xfe")
    yield "WebP that says 4 GB", b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff/" + bytes(100)
    yield "DICOM element of 4 GB", bytes(128) + b"DICM" + b"\x08\0\x60\0OB\0\0\xff\xff\xff\xfe" + bytes(100)
    yield "PDF and JPEG", b"%PDF-1.4\n" + jpeg
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


@cache
def small(kind: str) -> bytes:
    """A film of 256 x 256 in that format."""
    with Image.open(SAMPLES[0]) as film:
        return saved(film.convert("L").resize((256, 256)), kind)


@cache
def deflated() -> bytes:
    """256 MB of nothing in 260 kB."""
    return zlib.compress(bytes(2**28), 9)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, data: bytes, bits: int = 8, colour: int = 0) -> bytes:
    """A PNG of that size and compressed data, whether they fit or not; colour 0 is grey, 2 RGB, 4 grey with alpha."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def resized_jpeg(jpeg: bytes, width: int, height: int) -> bytes:
    """The same file with another size in its frame header."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan, 12 bytes that touch every pixel, comes that many times more."""
    jpeg = saved(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    return jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda") : -2] * scans + jpeg[-2:]
