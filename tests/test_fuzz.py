"""Damaged films of every format: each is answered or refused (2xx, 4xx), none fails, and memory stays where it was.

Seeded, so that a failure comes again; what was sent is kept in pytest's folder for temporary files, and the message
names it. `PNEUMO_FUZZ=20000 pytest tests/test_fuzz.py` is the long mode: that many inputs, every 50th of them DICOM.
"""

import ctypes
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app import create_app
from tests.conftest import SAMPLES, MeanGrey
from tests.test_dicom import RAMP, SLOPE, dicom

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says what is odd about a TIFF

INPUTS = int(os.environ.get("PNEUMO_FUZZ") or "2400")
DICOM_SHARE = 50  # each starts a process, which takes 0.3 s
GROWTH = 48 * 2**20  # bytes of resident memory between a third and the end of the inputs; a leaked film would add more
INTERESTING = (0x00, 0x01, 0x7F, 0x80, 0xFF)
LONG = (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def saved(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def seeds():
    """Small films of each format in the ways it has of storing them: (name, bytes)."""
    with Image.open(SAMPLES[0]) as film:
        grey = film.convert("L").resize((96, 80))
    colour, wide = Image.merge("RGB", [grey] * 3), Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    turned = Image.Exif()
    turned[0x0112] = 6
    ways = [
        ("JPEG", grey, {}),
        ("JPEG", colour, {"progressive": True, "exif": turned}),
        ("JPEG", colour.convert("CMYK"), {"restart_marker_rows": 1}),
        ("PNG", grey, {}),
        ("PNG", wide, {}),
        ("PNG", colour.quantize(16), {"transparency": 3}),
        ("PNG", colour.convert("RGBA"), {"exif": turned, "icc_profile": bytes(200)}),
        ("TIFF", grey, {}),
        ("TIFF", wide, {"compression": "tiff_lzw"}),
        ("TIFF", grey.convert("1"), {"compression": "group4"}),
        ("TIFF", colour, {"compression": "jpeg"}),
        ("TIFF", colour, {"compression": "tiff_adobe_deflate"}),
        ("WEBP", colour, {}),
        ("WEBP", colour.convert("RGBA"), {"lossless": True, "exif": turned}),
        ("BMP", grey, {}),
        ("BMP", colour, {}),
    ]
    return [(file_format, saved(image, file_format, **options)) for file_format, image, options in ways]


def mutate(data, random):
    """One to eight changes of the kinds that readers trip over."""
    data = bytearray(data)
    for _ in range(random.integers(1, 9)):
        size = len(data)
        # headers are short and decide most: half of the changes fall there
        at = int(random.integers(0, min(size, 200) if random.random() < 0.5 else size)) if size else 0
        length = int(random.integers(1, 65))
        match random.integers(0, 9):
            case 0:
                data[at : at + 1] = bytes([data[at] ^ 1 << int(random.integers(0, 8))]) if size else b"x"
            case 1:
                data[at : at + 1] = bytes([random.choice(INTERESTING)])
            case 2:  # sizes, counts and offsets that lie
                value = int(random.choice(LONG))
                wide, order = (4, 2)[value <= 0xFFFF and random.random() < 0.5], random.choice(["big", "little"])
                data[at : at + wide] = value.to_bytes(wide, str(order))
            case 3:
                del data[at:]
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = random.bytes(length)
            case 6:
                data[at : at + length] = random.bytes(length)
            case 7:  # a part of it comes twice
                data[at:at] = data[at : at + 16 * length]
            case 8:
                other = int(random.integers(0, max(1, size)))
                data[at : at + length] = data[other : other + length]
    return bytes(data)


def resident():
    """Bytes of memory of this process, after what is free was given back."""
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def send(client, data, number):
    """As a body or as a form, on the page or for programs; forms have files that nobody wants, too."""
    if number % 3 == 0:
        return client.post("/predict", data=data, content_type="application/octet-stream")
    if number % 3 == 1:
        files = [(io.BytesIO(data), "film"), (io.BytesIO(data[:40]), "")]
        return client.post("/predict?heatmap=1", data={"file": files})
    return client.post("/", data={"file": (io.BytesIO(data), "film")}, headers={"Accept": "text/html"})


def check(client, seeds, inputs, folder, seed):
    """Send mutated seeds; returns how often each status came and how much memory grew after a third of them."""
    random, statuses, before = np.random.default_rng(seed), {}, None
    for number in range(inputs):
        if number == inputs // 3:
            before = resident()
        name, data = seeds[number % len(seeds)]
        data = mutate(data, random)
        answer = send(client, data, number)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        if not 200 <= answer.status_code < 500:
            kept = folder / f"{name}-{seed}-{number}"
            kept.write_bytes(data)
            pytest.fail(f"Expected 2xx or 4xx, received {answer.status_code} for a {name}: {kept}")
    return statuses, resident() - before


def test_damaged_pictures_are_answered_or_refused_in_flat_memory(seeds, tmp_path):
    client = create_app({"PREDICTOR": MeanGrey()}).test_client()
    for number, (name, data) in enumerate(seeds):
        assert send(client, data, number).status_code == 200, name
    statuses, growth = check(client, seeds, INPUTS - INPUTS // DICOM_SHARE, tmp_path, seed=1)
    assert growth < GROWTH
    assert {200, 415, 422} <= set(statuses) <= {200, 400, 413, 415, 422}
    assert min(statuses[200], statuses[422]) > 0.05 * INPUTS  # neither all harmless nor all beyond reading


def test_damaged_dicom_files_are_answered_or_refused(tmp_path):
    client = create_app({"PREDICTOR": MeanGrey()}).test_client()
    files = [("DICOM", dicom(RAMP)), ("DICOM", dicom(SLOPE, stored=12, PhotometricInterpretation="MONOCHROME1"))]
    statuses, growth = check(client, files, INPUTS // DICOM_SHARE, tmp_path, seed=2)
    assert growth < GROWTH
    assert set(statuses) <= {200, 400, 413, 415, 422}


def test_noise_and_damaged_forms_are_refused(tmp_path):
    """Bodies that are no picture, behind the beginning of one or in a form whose own structure is damaged."""
    client, random = create_app({"PREDICTOR": MeanGrey()}).test_client(), np.random.default_rng(3)
    beginnings = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"RIFF....WEBP", b"BM", b"DICM".rjust(132)]
    form = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\nContent-Type: a/b\r\n\r\nx\r\n--b--\r\n'
    )
    for number in range(max(200, INPUTS // 10)):
        if number % 2:
            beginning = beginnings[number // 2 % (len(beginnings) - (number % 50 != 1))]  # DICOM seldom
            data, kind = beginning + random.bytes(int(random.integers(0, 400))), "image/jpeg"
        else:
            data, kind = mutate(form, random), "multipart/form-data; boundary=b"
        answer = client.post(("/", "/predict")[number // 2 % 2], data=data, content_type=kind)
        if not 400 <= answer.status_code < 500 and answer.status_code != 200:
            kept = tmp_path / f"noise-{number}"
            kept.write_bytes(data)
            pytest.fail(f"Expected 4xx, received {answer.status_code}: {kept}")
