"""Damaged films of every format: each is answered or refused (2xx, 4xx), none fails, and memory stays where it was.

Seeded, so that a failure comes again; what was sent is kept in pytest's folder for temporary files, and the message
names it. `PNEUMO_FUZZ=20000 pytest tests/web/test_fuzz.py` is the long mode, every 50th input of which is DICOM;
`make reliability` sends as many to a running server.
"""

import ctypes
import io
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from app import create_app
from tests.reliability.fuzz import DICOM_SHARE, GROWTH, check, mutate, pictures
from tests.support.dicom import RAMP, SLOPE, dicom
from tests.support.films import MeanGrey

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says what is odd about a TIFF

INPUTS = int(os.environ.get("PNEUMO_FUZZ") or "800")


def resident():
    """MB of memory of this process, after what is free was given back."""
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def send(client, data, number):
    """As a body or as a form, on the page or for programs; forms have files that nobody wants, too."""
    if number % 3 == 0:
        return client.post("/predict", data=data, content_type="application/octet-stream").status_code
    if number % 3 == 1:
        files = [(io.BytesIO(data), "film"), (io.BytesIO(data[:40]), "")]
        return client.post("/predict?heatmap=1", data={"file": files}).status_code
    page = {"data": {"file": (io.BytesIO(data), "film")}, "headers": {"Accept": "text/html"}}
    return client.post("/", **page).status_code


def test_damaged_pictures_are_answered_or_refused_in_flat_memory(tmp_path):
    to_app, seeds = partial(send, create_app({"PREDICTOR": MeanGrey()}).test_client()), pictures()
    for number, (name, data) in enumerate(seeds):
        assert to_app(data, number) == 200, name
    statuses, growth = check(to_app, seeds, INPUTS - INPUTS // DICOM_SHARE, tmp_path, 1, resident)
    assert growth < GROWTH
    assert {200, 415, 422} <= set(statuses) <= {200, 400, 413, 415, 422}
    assert min(statuses[200], statuses[422]) > 0.05 * INPUTS  # neither all harmless nor all beyond reading


def test_damaged_dicom_files_are_answered_or_refused(tmp_path):
    to_app = partial(send, create_app({"PREDICTOR": MeanGrey()}).test_client())
    files = [("DICOM", dicom(RAMP)), ("DICOM", dicom(SLOPE, stored=12, PhotometricInterpretation="MONOCHROME1"))]
    statuses, growth = check(to_app, files, INPUTS // DICOM_SHARE, tmp_path, 2, resident)
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
