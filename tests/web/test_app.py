"""HTTP: what is answered, what is refused, what is said in headers and logs."""

import base64
import io
import json
import logging
import re
import socket
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from openapi_spec_validator import validate
from PIL import Image

from app import create_app
from pneumo.films.film import MAX_PIXELS
from tests.reliability.hostile import png_of
from tests.support.dicom import dicom
from tests.support.films import SAMPLES, TwoPopulations
from tests.support.server import ROOT, environment, free_port, until
from tests.support.web import conforms


@pytest.fixture
def client(predictor):
    return create_app({"PREDICTOR": predictor, "TESTING": True}).test_client()


@pytest.fixture(scope="module")
def film():
    return SAMPLES[0].read_bytes()


def part(data, name="film.jpeg"):
    return (io.BytesIO(data), name)


def png(width, height):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_multipart_and_raw_bodies_get_the_same_answer(client, predictor, film):
    answer = client.post("/predict", data={"file": part(film)}).json
    expected = predictor.predict(film)
    assert answer["probability"] == expected.probability
    assert answer["label"] == ("PNEUMONIA" if expected.probability >= predictor.card.threshold else "NORMAL")
    assert answer["threshold"] == predictor.card.threshold
    assert answer["model"]["sha256"] == predictor.card.sha256
    assert answer["image"] == {"format": "JPEG", "width": 1248, "height": 1044}
    raw = client.post("/predict", data=film, content_type="image/jpeg").json
    assert {**raw, "request_id": 0} == {**answer, "request_id": 0}
    conforms(client, answer, "Answer")


def test_heatmap_is_a_png_at_the_films_aspect_ratio(client, film):
    answer = client.post("/predict?heatmap=1", data={"file": part(film)}).json
    conforms(client, answer, "Answer")
    picture = Image.open(io.BytesIO(base64.b64decode(answer["heatmap"].split(",")[1])))
    assert picture.format == "PNG"
    assert picture.width / picture.height == pytest.approx(1248 / 1044, abs=0.01)


def test_operating_point_is_chosen_by_name(client, predictor, film):
    card = predictor.card
    for name, threshold in card.thresholds.items():
        answer = client.post(f"/predict?operating_point={name}", data={"file": part(film)}).json
        conforms(client, answer, "Answer")
        assert (answer["operating_point"], answer["threshold"]) == (name, threshold)
        assert answer["label"] == ("PNEUMONIA" if answer["probability"] >= threshold else "NORMAL")
        assert answer["triage"] == card.triage(answer["probability"])
    answer = client.post("/predict", data={"file": part(film)}).json
    assert answer["operating_point"] == card.default_operating_point
    described = client.get("/openapi.json").json["components"]["schemas"]["OperatingPoint"]["enum"]
    assert described == list(card.thresholds)


def test_an_unknown_operating_point_is_refused_with_the_list(client, film):
    for files in ([part(film)], [part(film), part(film)]):  # of several films too, all is refused
        answer = client.post("/predict?operating_point=careful", data={"file": files})
        assert (answer.status_code, answer.json["error"]) == (400, "unknown_operating_point")
        assert answer.json["detail"] == "Expected one of screening, balanced, specific, received 'careful'."
        conforms(client, answer.json, "Problem")
    page = client.post("/", data={"file": part(film), "operating_point": "careful"}, headers={"Accept": "text/html"})
    assert page.status_code == 400
    assert "Expected one of screening, balanced, specific" in page.text


def test_triage_by_a_model_that_a_person_can_compute(mean_grey):
    # points at 0.25, 0.5, 0.75: ramps over 130 greys, whose means are about 20, 60 and 80 % of white
    ramp = np.tile(130 * np.linspace(0, 1, 300) ** 2, (300, 1))  # a third of 130 on average
    client = create_app({"PREDICTOR": mean_grey, "TESTING": True}).test_client()
    for greys, words, sentence in (
        (
            10 + ramp,
            ("rule-out", "NORMAL", "NORMAL"),
            "Below the rule-out point 0.25: the film speaks against pneumonia.",
        ),
        (110 + ramp, ("uncertain", "PNEUMONIA", "NORMAL"), "point 0.75: the film alone does not settle it."),
        (
            245 - ramp,
            ("rule-in", "PNEUMONIA", "PNEUMONIA"),
            "From the rule-in point 0.75 on: the film speaks for pneumonia.",
        ),
    ):
        buffer = io.BytesIO()
        Image.fromarray(greys.astype(np.uint8)).save(buffer, "PNG")
        body = {"data": buffer.getvalue(), "content_type": "image/png"}
        balanced = client.post("/predict", **body).json
        specific = client.post("/predict?operating_point=specific", **body).json
        assert (balanced["triage"], balanced["label"], specific["label"]) == words
        assert specific["triage"] == balanced["triage"]
        page = client.post("/", data={"file": part(buffer.getvalue()), "operating_point": "specific"}).text
        assert sentence in page
        assert f'data-triage="{words[0]}"' in page
        assert ('<b class="open">uncertain</b>' in page) == (words[0] == "uncertain")  # beside the label
        assert re.search('<option value="specific" data-gave="[^"]*" selected>', page)
        assert 'predict?operating_point=specific"</pre>' in page


def test_several_films_come_back_in_the_order_sent_and_a_bad_one_loses_nothing(client, predictor, film):
    files = [part(b"not a picture", "notes.txt"), part(film), part(png(64, 64))]
    answer = client.post("/predict?force=1", data={"file": files})
    assert answer.status_code == 200
    conforms(client, answer.json, "Answers")
    first, second, third = answer.json["predictions"]
    assert (first["status"], first["error"]) == (415, "unsupported_format")
    assert second["probability"] == predictor.predict(film).probability
    assert third["image"] == {"format": "PNG", "width": 64, "height": 64}
    assert any("small" in warning for warning in third["warnings"])


@pytest.mark.parametrize(
    ("kwargs", "status", "error"),
    [
        ({}, 400, "no_file"),
        ({"data": {"other": "x"}, "content_type": "multipart/form-data"}, 400, "no_file"),
        ({"data": b"", "content_type": "image/jpeg"}, 400, "no_file"),
        ({"data": b"%PDF-1.7 ...", "content_type": "image/jpeg"}, 415, "unsupported_format"),
        ({"data": b"a=b", "content_type": "application/x-www-form-urlencoded"}, 415, "unsupported_format"),
        ({"data": b"GIF89a" + bytes(20), "content_type": "image/gif"}, 415, "unsupported_format"),
        ({"data": bytes(33 * 2**20), "content_type": "image/jpeg"}, 413, "too_large"),
        ({"data": png(8, 8), "content_type": "image/png"}, 422, "unreadable"),
    ],
)
def test_bad_input_gets_a_problem(client, kwargs, status, error):
    answer = client.post("/predict", **kwargs)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert (answer.json["status"], answer.json["error"]) == (status, error)
    assert answer.json["detail"].startswith("Expected")
    conforms(client, answer.json, "Problem")


def test_truncated_film_is_unreadable_and_too_many_pixels_are_told_from_the_header(client, film):
    answer = client.post("/predict", data=film[: len(film) // 2], content_type="image/jpeg")
    assert (answer.status_code, answer.json["error"]) == (422, "unreadable")
    many = png_of(MAX_PIXELS // 2, 3, b"")  # not one pixel follows
    answer = client.post("/predict", data=many, content_type="image/png")
    assert (answer.status_code, answer.json["error"]) == (413, "too_large")
    assert "at most 32 megapixels, received 16000000 × 3" in answer.json["detail"]


def test_what_is_too_large_is_said_as_it_is(client):
    parts = {"file": [part(png(8, 8), f"{number}.png") for number in range(65)]}
    for sent, words in (
        ({"data": parts}, "at most 32 MB, 64 parts and 500 kB of text in one request"),
        (
            {"data": {"operating_point": "x" * 600_000, "file": part(png(8, 8))}},
            "at most 32 MB, 64 parts and 500 kB of text in one request",
        ),
        ({"data": bytes(33 * 2**20), "content_type": "image/jpeg"}, "at most 32 MB in one request"),
    ):
        answer = client.post("/predict", **sent)
        assert (answer.status_code, answer.json["error"]) == (413, "too_large")
        assert words in answer.json["detail"]


def test_people_get_the_problem_as_a_page(client):
    answer = client.post("/", data={"file": part(b"hello", "a.txt")}, headers={"Accept": "text/html"})
    assert answer.status_code == 415
    assert "<html" in answer.text
    assert "Expected a JPEG" in answer.text
    answer = client.get("/nowhere", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert "<html" in answer.text
    assert client.get("/nowhere").content_type == "application/problem+json"


def test_page_shows_answer_without_javascript(client, predictor, film):
    answer = client.post("/", data={"file": part(film)}, headers={"Accept": "text/html"})
    assert answer.status_code == 200
    expected = predictor.predict(film)
    assert expected.label in answer.text
    assert predictor.card.sha256 in answer.text
    assert answer.text.count("data:image/") >= 2


def test_file_names_are_escaped(client, film):
    answer = client.post("/", data={"file": part(film, "<script>alert(1)</script>.jpeg")})
    assert "<script>alert" not in answer.text


def test_sample_films_are_served_and_others_are_not(client):
    page = client.get("/").text
    names = re.findall(r'value="([^"]+\.jpeg)"', page)
    assert len(set(names)) in (3, 4)
    for name in names:
        assert client.get(f"/static/samples/{name}").status_code == 200
    assert client.post("/", data={"sample": names[0]}).status_code == 200
    assert client.post("/", data={"sample": "../openapi.json"}).status_code == 400


def test_results_are_not_stored_and_headers_are_strict(client, film):
    for answer in (client.post("/predict", data=film, content_type="image/jpeg"), client.get("/")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"


def test_nothing_is_written_to_disk(client, film, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a temporary file was asked for")

    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp", "mkdtemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    padded = film + bytes(2**20)  # over the 500 kB at which Werkzeug would spool
    assert client.post("/predict", data={"file": part(padded)}).status_code == 200


def test_one_log_line_a_request_without_names(client, predictor, film, caplog):
    with caplog.at_level(logging.INFO, logger="pneumo"):
        address = {"REMOTE_ADDR": "192.0.2.7"}
        client.post("/predict", data={"file": part(film, "Jane-Doe.jpeg")}, environ_base=address)
        client.get("/patients/Jane-Doe")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    model = f"{predictor.card.name} {predictor.card.version}"
    assert re.fullmatch(rf"predict (NORMAL|PNEUMONIA) 200 \d+ ms model {model} request [0-9a-f]{{32}}", lines[0])
    assert not any("Jane" in line or "192.0.2.7" in line for line in lines)


def test_python_app_py_logs_no_address_and_nothing_that_was_asked_for(tmp_path):
    log, port = tmp_path / "log", free_port()
    with log.open("w") as stream:
        server = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment(PORT=port), stdout=stream, stderr=stream
        )
    try:
        for asked in (b"/films/Jane_Doe_1970.dcm?x=Doe", b"/films/Jane Doe", b"http://[Jane"):
            connection = until(lambda: socket.create_connection(("127.0.0.1", port), timeout=60), "a server")
            with connection:
                connection.sendall(b"GET " + asked + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                while connection.recv(4096):
                    pass
    finally:
        server.terminate()
        server.wait()
    text = log.read_text()
    assert text.count("none not_found 404") == 1  # the others are no requests
    assert not any(word in text for word in ("Jane", "Doe", "1970", "127.0.0.1 - -", "('127.0.0.1'"))


def test_health_and_openapi(client, predictor):
    assert client.get("/health/live").json == {"live": True}
    ready = client.get("/health/ready").json
    assert ready["ready"] is True
    assert ready["model"]["version"] == predictor.card.version
    document = client.get("/openapi.json").json
    validate(document)
    parts = document["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert parts["properties"]["file"]["maxItems"] == client.application.config["MAX_FORM_PARTS"]
    served = {rule.rule for rule in client.application.url_map.iter_rules()}
    assert set(document["paths"]) <= served
    assert json.dumps(document)


def test_unknown_query_and_method(client, film):
    assert "heatmap" not in client.post("/predict?heatmap=0", data=film, content_type="image/jpeg").json
    answer = client.get("/predict")
    assert (answer.status_code, answer.json["error"]) == (405, "method_not_allowed")
    assert answer.content_type == "application/problem+json"
    assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


def test_behind_a_proxy_that_is_trusted_all_links_have_its_prefix(mean_grey):
    asked = {"X-Forwarded-Prefix": "/x-ray", "X-Forwarded-Host": "ward.example", "X-Forwarded-Proto": "https"}
    for proxies, prefix in ((1, "/x-ray"), (0, "")):
        client = create_app({"PREDICTOR": mean_grey, "TESTING": True, "PROXIES": proxies}).test_client()
        page = client.get("/", headers=asked).text
        links = re.findall(r'(?:href|src|action)="([^"]+)"', page)
        inside = [link for link in links if not link.startswith(("#", "https://", "data:"))]
        assert len(inside) > 6
        assert all(link.startswith(f"{prefix}/") and not link.startswith("//") for link in inside)
        assert client.get("/openapi.json", headers=asked).json["servers"] == [{"url": prefix or "/"}]
        film = {"file": part(png(64, 64))}
        answer = client.post("/", data=film, headers=asked | {"Origin": "https://ward.example"})
        assert answer.status_code == (200 if proxies else 403)
        command = '<span class="origin">https://ward.example</span>/x-ray/predict"'
        assert (command in answer.text) == bool(proxies)


def test_a_slash_behind_predict_changes_nothing(client, film):
    answer = client.post("/predict/?heatmap=1", data=film, content_type="image/jpeg")
    assert answer.status_code == 200
    assert "heatmap" in answer.json


def test_a_probability_is_told_on_its_side_of_the_other_number(client):
    number = client.application.jinja_env.get_template("_macros.html").module.number
    assert (number(0.7845, 0.7788), number(0.7788, 0.7845)) == ("0.7845", "0.7788")
    assert (number(0.2351, 0.2403), number(0.2403, 0.2351)) == ("0.2351", "0.2403")
    assert (number(0.77878, 0.7788), number(0.7788, 0.77878)) == ("0.77878", "0.7788")
    assert (number(0.7788, 0.7745), number(0.5, 0.5)) == ("0.78", "0.50")
    assert "0.99" in number(0.9961, 0.7788)


def test_population_by_query_form_and_age():
    """60 % grey: PNEUMONIA with 0.60 for a child, NORMAL with 0.36 for an adult, see `TwoPopulations`."""
    client = create_app({"PREDICTOR": TwoPopulations(), "TESTING": True}).test_client()
    film = dicom(np.full((300, 300), 153, np.uint8))
    answers = {}
    for name in ("child", "adult"):
        answer = client.post(f"/predict?population={name}", data=film, content_type="application/dicom").json
        conforms(client, answer, "Answer")
        assert answer["population"] == {"name": name, "by": "request"}
        answers[name] = answer["label"], round(answer["probability"], 2)
        form = {"file": (io.BytesIO(film), "IM0001"), "population": name}
        page = client.post("/", data=form, headers={"Accept": "text/html"}).text
        assert f'data-population="{name}"' in page
        assert f'<option value="{name}" selected' in page
        assert f"/predict?population={name}" in page, "the command that gives the same"
    assert answers == {"child": ("PNEUMONIA", 0.6), "adult": ("NORMAL", 0.36)}
    page = client.post("/", data={"file": (io.BytesIO(film), "IM0001"), "population": "adult"}).text
    assert "rule-out below 0.75" in page, "the adults' points, not the children's"
    old = dicom(np.full((300, 300), 153, np.uint8), PatientAge="065Y")
    answer = client.post("/predict", data=old, content_type="application/dicom").json
    assert answer["population"] == {"name": "adult", "by": "age"}


def test_an_unknown_population_is_refused(mean_grey):
    for predictor, known in ((mean_grey, "child"), (TwoPopulations(), "child, adult")):
        client = create_app({"PREDICTOR": predictor, "TESTING": True}).test_client()
        film = SAMPLES[0].read_bytes()
        for answer in (
            client.post("/predict?population=old", data=film, content_type="image/jpeg"),
            client.post("/", data={"file": (io.BytesIO(film), "a.jpeg"), "population": "old"}),
        ):
            assert (answer.status_code, answer.json["error"]) == (400, "unknown_population")
            assert answer.json["detail"] == f"Expected one of {known}, received 'old'."
    assert 'name="population"' not in create_app({"PREDICTOR": mean_grey}).test_client().get("/").text
