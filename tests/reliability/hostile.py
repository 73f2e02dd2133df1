"""Requests made to hurt: forms, lengths, headers and files that lie, bombs, polyglots, films that never end."""

import io
import struct
import zlib
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image

from tests.support.films import SAMPLES, saved

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
RAW, FORM = b"Content-Type: image/jpeg\r\n", b"Content-Type: multipart/form-data; boundary=b\r\n"
PAGE = 2 + 9 * 12  # bytes that `tiff_of` needs for a page's tags
FILE_PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n%s\r\n'


def requests() -> Iterator[tuple[str, bytes]]:
    """Each as (name, every byte that is sent); made one at a time, since some are large."""
    for name, body in forms():
        yield f"form: {name}", HEAD + FORM + b"Content-Length: %d\r\n\r\n" % len(body) + body
    yield from connections()
    for name, body in files():
        yield f"file: {name}", HEAD + RAW + b"Content-Length: %d\r\n\r\n" % len(body) + body


def forms() -> Iterator[tuple[str, bytes]]:
    """Bodies of forms."""
    film = SAMPLES[-1].read_bytes()
    yield "10,000 parts", b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 10_000 + b"--b--\r\n"
    yield "10,000 films", FILE_PART % b"x" * 10_000 + b"--b--\r\n"
    yield "60 films", FILE_PART % film * 60 + b"--b--\r\n"
    yield "1 MB of part header", b"--b\r\nX: " + b"y" * 2**20 + b"\r\n\r\n\r\n--b--\r\n"
    yield "10,000 part headers", b"--b\r\n" + b"X: y\r\n" * 10_000 + b"\r\n\r\n--b--\r\n"
    yield "1 MB of file name", FILE_PART.replace(b'"f"', b'"' + b"f" * 2**20 + b'"') % film + b"--b--\r\n"
    yield "30 MB of almost boundaries", FILE_PART % (b"\r\n--" * 7_500_000) + b"--b--\r\n"
    yield "30 MB of line ends", b"\r\n" * 15_000_000
    yield "2 MB field", b'--b\r\nContent-Disposition: form-data; name="force"\r\n\r\n' + b"1" * 2**21 + b"\r\n--b--\r\n"
    yield "never closed", FILE_PART % film
    nested = b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" * 200
    yield "nested 200 deep", nested + b"--b--\r\n" * 200


def connections() -> Iterator[tuple[str, bytes]]:
    """Lengths, chunks, headers and first lines."""
    film, chunked = SAMPLES[-1].read_bytes(), HEAD + RAW + b"Transfer-Encoding: chunked\r\n\r\n"
    for length in (b"4", b"999999", b"-1", b"1e3", b"0x10", b"99999999999999999999", b"", b"3\r\nContent-Length: 4"):
        yield f"length {length.decode()!r}", HEAD + RAW + b"Content-Length: " + length + b"\r\n\r\n" + film[:3000]
    both = HEAD + RAW + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield "length and chunks", both + b"0\r\n\r\nGET /health/live HTTP/1.1\r\n\r\n"
    yield "chunks: whole film", chunked + b"%x\r\n%s\r\n0\r\n\r\n" % (len(film), film)
    yield "chunks: one byte each", chunked + b"".join(b"1\r\n%c\r\n" % byte for byte in film) + b"0\r\n\r\n"
    yield "chunks: 33 MB", chunked + (b"100000\r\n" + bytes(2**20) + b"\r\n") * 33 + b"0\r\n\r\n"
    yield "chunks: bad size", chunked + b"ZZ\r\nabc\r\n0\r\n\r\n"
    yield "chunks: huge size", chunked + b"F" * 16 + b"\r\nabc"
    yield "chunks: size of 1 MB digits", chunked + b"0" * 2**20 + b"3\r\nabc\r\n0\r\n\r\n"
    yield "chunks: 1 MB extension", chunked + b"3;" + b"x" * 2**20 + b"\r\nabc\r\n0\r\n\r\n"
    yield "chunks: 1 MB trailer", chunked + b"3\r\nabc\r\n0\r\nX: " + b"y" * 2**20 + b"\r\n\r\n"
    gzip = zlib.compress(bytes(2**27), wbits=31)
    encoded = HEAD + RAW + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(gzip)
    yield "128 MB as gzip", encoded + gzip
    end = b"Content-Length: 0\r\n\r\n"
    yield "1 MB header", HEAD + b"X: " + b"y" * 2**20 + b"\r\n" + end
    yield "10,000 headers", HEAD + b"X: y\r\n" * 10_000 + end
    yield "header without name", HEAD + b": y\r\n" + end
    yield "NUL in a header", HEAD + b"X: \0\r\n" + end
    yield "100 kB of path", HEAD.replace(b"/predict", b"/" + b"a" * 100_000) + end
    yield "100 kB of query", HEAD.replace(b"/predict", b"/?force=" + b"1" * 100_000) + end
    yield "path upwards", HEAD.replace(b"/predict", b"/static/..%2f..%2fapp.py").replace(b"POST", b"GET") + end
    yield "path with NUL", HEAD.replace(b"/predict", b"/static/%00").replace(b"POST", b"GET") + end
    yield "invalid UTF-8", HEAD.replace(b"/predict", b"/predict?operating_point=%ff%fe") + end
    yield "unknown method", HEAD.replace(b"POST", b"BREW") + end
    yield "HTTP/9.9", HEAD.replace(b"HTTP/1.1", b"HTTP/9.9") + end
    yield "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
    yield "TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(507)
    yield "noise", np.random.default_rng(4).bytes(100_000)
    yield (
        "huge ranges",
        HEAD.replace(b"POST /predict", b"GET /static/page.js") + b"Range: bytes=" + b"0-," * 2000 + b"\r\n" + end,
    )


def files() -> Iterator[tuple[str, bytes]]:
    """Pictures and what says it is one."""
    with Image.open(SAMPLES[0]) as film:
        grey = film.convert("L").resize((256, 256))
    jpeg, png, tiff = saved(grey, "JPEG"), saved(grey, "PNG"), saved(grey, "TIFF")
    yield from bombs(jpeg, png, tiff)
    yield from liars(jpeg, png, tiff)
    zipped = b"PK\x03\x04" + bytes(26) + b"x" + b"PK\x05\x06" + bytes(18)
    page = b"<html><script>alert(1)</script></html>"
    yield "JPEG and ZIP", jpeg + zipped
    yield "JPEG with a page as comment", saved(grey, "JPEG", comment=page)
    yield "PNG and ZIP", png + zipped
    yield "PNG and page", png + page
    yield "ZIP and JPEG", zipped + jpeg
    yield "PDF and JPEG", b"%PDF-1.4\n" + jpeg
    yield "TIFF as the preamble of DICOM", (tiff[:8] + bytes(120) + b"DICM" + tiff)[:100_000]
    yield "page", page
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    turned = [grey.rotate(step) for step in range(0, 360, 10)]
    for name, kind in (("GIF", "GIF"), ("WebP", "WEBP"), ("PNG", "PNG"), ("TIFF", "TIFF")):
        yield f"animated {name}", saved(grey, kind, save_all=True, append_images=turned)


def bombs(jpeg: bytes, png: bytes, tiff: bytes) -> Iterator[tuple[str, bytes]]:
    """Small files of many pixels, or of much work."""
    for side in (100_000, 2**31 - 1):
        zeros = zlib.compress(bytes(10_000_000), 9)
        yield f"PNG of {side} x {side}", png_of(side, side, zeros)
    yield "PNG of 5,600 x 5,600, really", saved(Image.new("RGBA", (5600, 5600), (90, 90, 90, 200)), "PNG")
    text = chunk(b"zTXt", b"a\0\0" + deflated())
    yield "PNG with 256 MB of text", png[:33] + text + png[33:]
    profile = chunk(b"iCCP", b"a\0\0" + deflated())
    yield "PNG with 256 MB of profile", png[:33] + profile + png[33:]
    yield "PNG whose data is 256 MB", png_of(64, 64, deflated())
    yield "PNG of 300,000 chunks", png[:33] + chunk(b"prVt", b"") * 300_000 + png[33:]
    yield "JPEG of 65,500 x 65,500", resized_jpeg(jpeg, 65_500, 65_500)
    yield "JPEG of 5,600 x 5,600, cut", resized_jpeg(jpeg, 5_600, 5_600)
    yield "JPEG of 1,000 scans", many_scans(1000, 1000)
    yield "JPEG of 500,000 segments", jpeg[:2] + b"\xff\xfe\0\x02" * 500_000 + jpeg[2:]
    yield "WebP of 16,383 x 16,383", saved(Image.new("L", (16_383, 1)).resize((16_383, 60)), "WEBP", lossless=True)
    yield "BMP of 100,000 x 100,000", bmp_of(100_000, 100_000)
    yield "TIFF that inflates", saved(Image.new("L", (5600, 5600)), "TIFF", compression="tiff_adobe_deflate")
    page = tiff_of([])[8 : 8 + PAGE]  # without what it says of the page behind it
    pages = b"".join(page + struct.pack("<I", 8 + (number + 2) * (PAGE + 4)) for number in range(20_000))
    yield "TIFF of 20,000 pages", tiff_of([], after=8 + PAGE + 4, behind=pages)


def liars(jpeg: bytes, png: bytes, tiff: bytes) -> Iterator[tuple[str, bytes]]:
    """Headers that say what is not so, or lead back to where they came from."""
    for width, height in ((0, 256), (256, 0), (2_000, 2_000), (31_000, 1_000), (2**31, 1)):
        yield f"PNG that says {width} x {height}", png_of(width, height, zlib.compress(bytes(256 * 257)))
    yield "PNG of bit depth 77", png[:24] + b"\x4d" + png[25:]
    yield "PNG chunk of 4 GB", png[:33] + b"\xff\xff\xff\xffIDAT" + png[33:]
    yield "TIFF whose page comes again", tiff_of([], after=8)
    yield "TIFF whose pages lead in a circle", tiff_of([], after=200, behind=bytes(78) + struct.pack("<HI", 0, 8))
    yield "TIFF within itself", tiff_of([(330, 4, 1, 8)])
    yield "TIFF of 4 billion strips", tiff_of([(273, 4, 2**32 - 1, 8), (279, 4, 2**32 - 1, 8)])
    yield "TIFF of 65,535 tags", b"II*\0" + struct.pack("<IH", 8, 65_535) + struct.pack("<HHII", 256, 4, 1, 99) * 65_535
    yield "TIFF that begins behind its end", b"II*\0" + struct.pack("<I", 2**32 - 2) + tiff[8:]
    exif = (
        b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    )
    yield (
        "JPEG whose EXIF leads in a circle",
        jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:],
    )
    yield "JPEG of 4 GB EXIF", jpeg[:2] + b"\xff\xe1\xff\xff" + jpeg[2:]
    yield "JPEG without tables", jpeg.replace(b"\xff\xdb", b"\xff\xfe").replace(b"\xff\xc4", b"\xff\xfe")
    yield "WebP that says 4 GB", b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff/" + bytes(100)
    yield "DICOM of 2,000 sequences in each other", nested_dicom(2_000)
    yield "DICOM element of 4 GB", bytes(128) + b"DICM" + b"\x08\0\x60\0OB\0\0\xff\xff\xff\xfe" + bytes(100)


@cache
def deflated() -> bytes:
    """256 MB of nothing in 260 kB."""
    return zlib.compress(bytes(2**28), 9)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, data: bytes) -> bytes:
    """A grey PNG of that size and that compressed data, whether they fit or not."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def resized_jpeg(jpeg: bytes, width: int, height: int) -> bytes:
    """The same file with another size in its frame header."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan, 12 bytes that touch every pixel, comes that many times more."""
    jpeg = saved(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    return jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda") : -2] * scans + jpeg[-2:]


def bmp_of(width: int, height: int) -> bytes:
    """A BMP that says it has that size, run-length encoded."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + header + bytes(1024) + b"\xff\x01" * 100_000


def tiff_of(entries: list[tuple[int, int, int, int]], after: int = 0, behind: bytes = b"") -> bytes:
    """A grey TIFF of 64 x 64; `entries` (tag, type, count, value) replace its tags, `after` says where page 2 is."""
    mine = {256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    mine |= {273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 64), 279: (4, 1, 4096)}
    mine |= {tag: rest for tag, *rest in entries}
    table = b"".join(struct.pack("<HHII", tag, *rest) for tag, rest in sorted(mine.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(mine)) + table + struct.pack("<I", after) + behind + bytes(5000)


def nested_dicom(depth: int) -> bytes:
    """Sequences of undefined length in each other."""
    item = struct.pack("<HH2sHIHHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    syntax = b"1.2.840.10008.1.2.1\0"
    meta = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(syntax) + 8) + struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax))
    buffer = io.BytesIO()
    buffer.write(bytes(128) + b"DICM" + meta + syntax + item * depth)
    return buffer.getvalue()
