"""DICOM films: each is read in a process of its own, nobody is named, and they go the ways of every other film."""

import contextlib
import io
import logging
import re
import resource
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from app import create_app
from pneumo.cli import films as cli_films
from pneumo.data.dataset import is_picture
from pneumo.errors import PneumoError, UnreadableError
from pneumo.films import dicom as dicom_module
from pneumo.films.images import decode
from tests.support.cli import rows, run
from tests.support.dicom import HTJ2K, RAMP, SHIPPED, dicom, look, write_as
from tests.support.films import SAMPLES
from tests.support.web import conforms


def test_the_probability_does_not_depend_on_the_file(predictor, written, tmp_path):
    for path, wrapped, plain in written:
        # The same pixels as PNG: a large JPEG is decoded at a half or a quarter of its size, DICOM is not.
        Image.open(path).save(tmp_path / "whole.png")
        expected = predictor.predict((tmp_path / "whole.png").read_bytes()).probability
        for data in (wrapped.read_bytes(), plain.read_bytes(), write_as("JPEG Lossless", plain, tmp_path)):
            assert predictor.predict(data).probability == pytest.approx(expected, abs=5e-4)


def test_a_film_that_grows_in_memory_is_refused_and_costs_this_process_nothing(monkeypatch):
    monkeypatch.setattr("pneumo.films.dicom.MEMORY", 2**29)
    runs = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * 2**23  # 128 times 0, 8 million times: 1 GB
    large = bytearray(HTJ2K)
    large[8:16] = struct.pack(">II", 60_000, 60_000)  # Xsiz, Ysiz
    head = dicom(RAMP)[:132] + b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"
    items = b"\xfe\xff\0\xe0\0\0\0\0" * 2**20  # 8 MB, of which pydicom makes 700
    for data in (
        dicom(runs, uid.RLELossless, BitsAllocated=8, BitsStored=8, HighBit=7),
        dicom(bytes(large), uid.HTJ2KLossless),
        head + b"\x54\0\x20\x02SQ\0\0\xff\xff\xff\xff" + items,
    ):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(UnreadableError):
            decode(data)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_a_film_that_takes_too_long_is_refused(monkeypatch):
    monkeypatch.setattr("pneumo.films.dicom.SECONDS", 1e-6)
    with pytest.raises(UnreadableError, match=r"read in 1e-06 s"):
        decode(dicom(RAMP))


def test_readers_that_do_not_start_are_no_damaged_film(monkeypatch):
    monkeypatch.setattr("pneumo.films.dicom._CODE", "import a_package_that_is_missing")
    monkeypatch.setattr("pneumo.films.dicom._reader", dicom_module._Reader())
    with pytest.raises(RuntimeError, match="are they installed"):
        decode(dicom(RAMP))


def test_the_other_process_answers_what_this_one_would():
    film, seen = decode(dicom(RAMP, PatientAge="030Y")), look(dicom(RAMP, PatientAge="030Y"))
    np.testing.assert_array_equal(film.pixels, seen.pixels)
    assert (film.format, film.width, film.height, film.warnings) == ("DICOM", 256, 64, seen.warnings)
    for data in (dicom(RAMP, Modality="CT"), dicom(RAMP, Rows=60_000), dicom(RAMP)[:-9]):
        with pytest.raises(PneumoError) as expected:
            look(data)
        with pytest.raises(expected.type, match=re.escape(str(expected.value))):
            decode(data)


@pytest.mark.parametrize("name", ["JPEG Lossless", "JPEG-LS", "RLE", "JPEG baseline"])
def test_damaged_pixels_end_no_process(name, written, tmp_path):
    """GDCM aborts on some of these: in this process nobody would be left to say so."""
    data = write_as(name, written[-1][2], tmp_path)
    rng = np.random.default_rng(0)
    start = data.index(b"\xe0\x7f\x10\x00")
    for _ in range(8):
        damaged = bytearray(data)
        for place in rng.integers(start + 60, start + 400, 6):
            damaged[place] = rng.integers(256)
        with contextlib.suppress(PneumoError):
            assert decode(bytes(damaged)).pixels.shape == (744, 944)


@pytest.mark.parametrize("answer", [b"", b'{"shape": [2, ', b'{"shape": [2, 2], "warnings": []}\nabc'])
def test_an_answer_that_breaks_off_is_that_of_a_damaged_film(monkeypatch, answer):
    monkeypatch.setattr(dicom_module._reader, "ask", lambda data, force: answer)
    with pytest.raises(UnreadableError, match="damaged, or takes more memory"):
        dicom_module.decode(b"")


def test_a_reader_that_was_ended_is_started_again():
    np.testing.assert_array_equal(decode(dicom(RAMP)).pixels, RAMP)
    first = dicom_module._reader._process
    first.kill()
    first.wait()
    np.testing.assert_array_equal(decode(dicom(RAMP)).pixels, RAMP)
    assert dicom_module._reader._process.pid != first.pid


def test_a_film_that_ends_its_process_costs_no_other_one():
    items = b"\xfe\xff\0\xe0\0\0\0\0" * 2**20
    killer = (
        dicom(RAMP)[:132]
        + b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"
        + b"\x54\0\x20\x02SQ\0\0\xff\xff\xff\xff"
        + items
    )
    decode(dicom(RAMP))
    reader = dicom_module._reader._process.pid
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(outcome, [killer, dicom(RAMP), killer, dicom(RAMP), dicom(255 - RAMP), dicom(RAMP)]))
    assert answers == ["UnreadableError", 0, "UnreadableError", 0, 255, 0]
    assert dicom_module._reader._process.pid == reader


def outcome(data):
    """The first pixel of a film, or the name of the refusal."""
    try:
        return int(decode(data).pixels[0, 0])
    except PneumoError as error:
        return type(error).__name__


def test_the_reader_ends_with_the_process_that_started_it():
    code = (
        "import sys; from pneumo.films import dicom, images; images.decode(sys.stdin.buffer.read());"
        "print(dicom._reader._process.pid)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=dicom(RAMP), capture_output=True, check=True)
    pid = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z (" in Path(f"/proc/{pid}/status").read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail("it is still there")


# --- nobody is named --------------------------------------------------------------------------------------------------

WHO = {
    "PatientName": "Doe^Jane",
    "PatientID": "MRN-Kaspar",
    "PatientBirthDate": "20210203",
    "InstitutionName": "Doe Clinic",
    "ReferringPhysicianName": "Doe^John",
}
TELLING = ("Doe", "DOE", "Kaspar", "20210203")  # nothing so short that a time or a random id may hold it


def test_no_identifier_leaves(mean_grey, tmp_path, caplog, recwarn, monkeypatch):
    """Whatever is answered, refused, logged or warned of: damaged ones too, which pydicom likes to quote."""
    good = dicom(RAMP, **WHO)
    damaged = good.replace(b"PN", b"DS").replace(b"DA", b"IS")
    odd = {"WindowCenter": "1", "WindowWidth": "0"}
    bodies = [
        good,
        damaged,
        good[: len(good) // 2],
        good[:400],
        dicom(RAMP, **WHO, **odd),
        dicom(RAMP, **WHO, Modality="MR"),
        dicom(RAMP, **WHO, SOPClassUID=uid.EncapsulatedPDFStorage, PixelData=None, Rows=None),
        good.replace(b"CS\x02\x00CR", b"CS\x02\x00\xe9\xff"),
    ]
    recwarn.clear()
    caplog.clear()
    monkeypatch.setattr(cli_films, "load", lambda name: mean_grey)
    client = create_app({"PREDICTOR": mean_grey}).test_client()
    words = ""
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("pneumo").addHandler(caplog.handler)
        for number, body in enumerate(bodies):
            for heatmap in (0, 1):
                answer = client.post(f"/predict?heatmap={heatmap}", data=body, content_type="application/dicom")
                assert answer.status_code in (200, 415, 422)
                words += str(answer.headers) + (answer.text if not heatmap else "")
            (tmp_path / f"film{number}.dcm").write_bytes(body)
        words += client.post("/", data={"file": (io.BytesIO(good), "x.dcm")}).text.split("base64,")[0]
        done = run("predict", tmp_path)
        logging.getLogger("pneumo").removeHandler(caplog.handler)
    words += done.output + caplog.text + " ".join(str(w.message) for w in recwarn)
    assert "predict PNEUMONIA 200" in words
    assert not [telling for telling in TELLING if telling in words]


def test_pydicom_says_nothing_by_itself():
    read = "decode(sys.stdin.buffer.read())"
    code = f"import sys; from pneumo.films.images import decode\ntry: {read}\nexcept Exception: 0"
    for data in (dicom(RAMP, **WHO), dicom(RAMP, **WHO).replace(b"PN", b"DS"), dicom(RAMP, **WHO)[:500]):
        done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
        assert done.stdout + done.stderr == b""


# --- over HTTP and at the command line --------------------------------------------------------------------------------


@pytest.fixture
def client(mean_grey):
    return create_app({"PREDICTOR": mean_grey, "TESTING": True}).test_client()


def test_multipart_and_raw_bodies(client, mean_grey):
    data = dicom(RAMP, PatientAge="030Y")
    for kwargs in (
        {"data": data, "content_type": "application/dicom"},
        {"data": data, "content_type": "application/octet-stream"},
        {"data": {"file": (io.BytesIO(data), "IM0001")}},
    ):
        answer = client.post("/predict", **kwargs).json
        assert answer["probability"] == mean_grey.predict(data).probability == pytest.approx(0.5, abs=0.01)
        assert answer["image"] == {"format": "DICOM", "width": 256, "height": 64}
        assert "adult" in answer["warnings"][0]
        conforms(client, answer, "Answer")


def test_refusals_over_http(client):
    for data, status, error in (
        (dicom(RAMP, Modality="CT"), 422, "other_film"),
        ((SHIPPED / "image_dfl.dcm").read_bytes(), 415, "unsupported_format"),
        (dicom(RAMP)[:-9], 422, "unreadable"),
        (dicom(RAMP, ViewPosition="LL"), 422, "other_film"),
        (dicom(RAMP, Rows=9000, Columns=9000), 413, "too_large"),
    ):
        answer = client.post("/predict", data=data, content_type="application/dicom")
        assert (answer.status_code, answer.json["error"]) == (status, error)
        conforms(client, answer.json, "Problem")


def test_the_page_takes_dicom(client):
    page = client.get("/").text
    assert ".dcm,application/dicom" in page
    assert "or DICOM" in page
    page = client.post("/", data={"file": (io.BytesIO(dicom(RAMP)), "film.dcm")}).text
    assert "data:image/jpeg" in page
    page = client.post("/", data={"file": (io.BytesIO(dicom(RAMP, ViewPosition="LL")), "film.dcm")}).text
    assert "received LL." in page
    assert "Send a frontal film of the chest." in page


def test_folders_are_searched_for_dicom_too(mean_grey, monkeypatch, tmp_path):
    monkeypatch.setattr(cli_films, "load", lambda name: mean_grey)
    films = tmp_path / "films"
    films.mkdir()
    for name in ("a.dcm", "b.DICOM", "IM0001", "1.2.840.7", "DICOMDIR", "._c.dcm"):
        (films / name).write_bytes(dicom(RAMP))
    for name in ("notes", "notes.txt", "0.5"):
        (films / name).write_text("hello")
    (films / "renamed.txt").write_bytes(dicom(RAMP))
    assert run("predict", films, "--csv", tmp_path / "out.csv", "--heatmaps", tmp_path / "maps").exit_code == 0
    found = [Path(row["file"]).name for row in rows(tmp_path / "out.csv")]
    assert found == ["1.2.840.7", "IM0001", "a.dcm", "b.DICOM"]
    assert (tmp_path / "maps" / "1.2.840.7.heatmap.png").is_file()
    assert (tmp_path / "maps" / "a.heatmap.png").is_file()
    assert not is_picture(films / "notes")


def test_evaluate_reads_dicom(mean_grey, monkeypatch, tmp_path):
    monkeypatch.setattr(cli_films, "load", lambda name: mean_grey)
    for label, level in (("NORMAL", 40), ("PNEUMONIA", 220)):
        (tmp_path / label).mkdir()
        for number in range(3):
            pixels = np.full((64, 64), level + number, np.uint8)
            (tmp_path / label / f"1.2.{level}.{number}").write_bytes(dicom(pixels))
    done = run("evaluate", tmp_path)
    assert done.exit_code == 0
    assert "6 films of 6 patients" in done.output


def test_nothing_of_dicom_is_loaded_for_other_films():
    code = (
        "import sys; from pneumo.films.images import decode; decode(open(sys.argv[1], 'rb').read());"
        "print(*[name for name in ('pydicom', 'gdcm', 'openjpeg', 'pylibjpeg') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, SAMPLES[0]], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
